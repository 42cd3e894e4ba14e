/*-------------------------------------------------------------------------
 *
 * writer.h
 *	  What a receiver and its writer say to each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_WRITER_H
#define TEMPO_WORKER_WRITER_H

#include "postgres.h"

#include "ingest/decode.h"
#include "segment/writer.h"

typedef enum WriterMessage
{
	/* to the writer */
	WRITER_STORE = 1, /* WriterRequest, tenant, authorization, body; answered by WRITER_ANSWER */
	WRITER_CHECK,     /* could a request be stored? answered by WRITER_ANSWER */

	/* from the writer */
	WRITER_ANSWER,    /* WriterAnswer, message */
	WRITER_LAST_WORDS /* the error that ends the writer; of no request */
} WriterMessage;

typedef struct WriterRequest
{
	RequestHash hash;
	uint32      tenant_len;
	uint32      authorization_len; /* 0 = none */
	WireFormat  format;
	int32       authentication; /* tempo_pg.authentication, as the receiver saw it */
} WriterRequest;

/* The gRPC status codes in use. */
typedef enum RpcCode
{
	RPC_OK = 0,
	RPC_INVALID_ARGUMENT = 3,
	RPC_DEADLINE_EXCEEDED = 4,
	RPC_NOT_FOUND = 5,
	RPC_PERMISSION_DENIED = 7,
	RPC_RESOURCE_EXHAUSTED = 8,
	RPC_ABORTED = 10,
	RPC_UNIMPLEMENTED = 12,
	RPC_INTERNAL = 13,
	RPC_UNAVAILABLE = 14,
	RPC_UNAUTHENTICATED = 16,

	/* RESOURCE_EXHAUSTED by a limit of the tenant's: over HTTP it has a status of its own */
	RPC_RATE_LIMITED = 100
} RpcCode;

typedef struct WriterAnswer
{
	int32  code;     /* RpcCode */
	bool   retry;    /* the client shall send the request again, later */
	uint64 spans;    /* of the request: stored, or refused as far as they were counted */
	uint64 rejected; /* spans, of a request that was stored; the message tells why */
} WriterAnswer;

#endif /* TEMPO_WORKER_WRITER_H */
