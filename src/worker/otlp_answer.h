/*-------------------------------------------------------------------------
 *
 * otlp_answer.h
 *	  What clients that send spans are answered, over gRPC and HTTP.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_OTLP_ANSWER_H
#define TEMPO_WORKER_OTLP_ANSWER_H

#include "postgres.h"

#include "net/server.h"
#include "worker/writer.h"

/* What a body is: by Content-Type, without parameters. */
typedef enum OtlpEncoding
{
	OTLP_PROTOBUF,
	OTLP_JSON,
	OTLP_UNKNOWN
} OtlpEncoding;

extern OtlpEncoding otlp_encoding(const NetRequest *request);

/*
 * otlp_answer: the outcome of an export.  rejected > 0, or a message with
 * code 0, makes a partial success.  retry_after: seconds after which the client shall
 * try again, -1 = it shall not.
 */
extern void otlp_answer(NetRequest *request, RpcCode code, const char *message, uint64 rejected, int retry_after);

/* otlp_http_error: the same for an HTTP request, with the status as given */
extern void otlp_http_error(NetRequest *request, int status, RpcCode code, const char *message, int retry_after);

/* otlp_answer_text: an HTTP answer that is no google.rpc.Status */
extern void otlp_answer_text(NetRequest *request, int status, const char *text,
                             const char *header, const char *value);

/* plain_answer: the outcome for clients of other protocols over HTTP, who want 202 or a text */
extern void plain_answer(NetRequest *request, RpcCode code, const char *message, int retry_after);
extern void plain_error(NetRequest *request, int status, const char *message, int retry_after);

/* request_type_is: is this the request's Content-Type, but for parameters? */
extern bool request_type_is(const NetRequest *request, const char *wanted);

#endif /* TEMPO_WORKER_OTLP_ANSWER_H */
