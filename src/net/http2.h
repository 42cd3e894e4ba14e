/*-------------------------------------------------------------------------
 *
 * http2.h
 *	  What http2.c (connections, streams), http2_plain.c (requests) and grpc.c
 *	  (calls) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_NET_HTTP2_H
#define TEMPO_NET_HTTP2_H

#include <nghttp2/nghttp2.h>

#include "net/internal.h"

typedef struct Http2Connection Http2Connection;

/* A message of a call, as it arrives; most have one only. */
typedef struct GrpcMessage
{
	uint8_t  prefix[5]; /* compressed flag, length */
	int      n_prefix;
	size_t   length;
	size_t   received;
	NetCodec codec; /* named by grpc-encoding */

	/* not NULL: there may be several, this gets each (net_grpc_each_message) */
	void (*each)(NetRequest *request, void *arg);
	void *each_arg;
} GrpcMessage;

typedef struct Http2Stream
{
	NetRequest       base;
	NetNode          node; /* Http2Connection.streams */
	Http2Connection *connection;
	int32_t          id;
	bool             input_ended;  /* END_STREAM received */
	bool             submitted;    /* response headers are under way */
	bool             output_ended; /* nothing more will be added to "out" */
	bool             failed;       /* no memory for headers */
	size_t           header_bytes;
	size_t           unconsumed; /* received, window not yet given back */
	uint64_t         progress;   /* when bytes last moved */

	NetBuffer out;
	NetBuffer trailers; /* name NUL value NUL ..., sent after "out" */
	int       n_trailers;

	GrpcMessage message;
	NetTimer   *deadline;
} Http2Stream;

#define HTTP2_MAX_FIELDS 64 /* of a response */

extern nghttp2_nv http2_nv(const char *name, const char *value);

/* http2_submit: response headers; the body is stream->out, more may be appended until output_ended */
extern void http2_submit(Http2Stream *stream, const nghttp2_nv *fields, size_t n_fields, bool has_body);

/* http2_output_added: "out", "trailers" or "output_ended" changed after http2_submit */
extern void http2_output_added(Http2Stream *stream);

/* http2_reset: RST_STREAM */
extern void http2_reset(Http2Stream *stream, uint32_t error);

extern bool http2_add_trailer(Http2Stream *stream, const char *name, const char *value);

/* What arrives on a stream that is no call: the header, bytes of the body, its end */
extern void http2_plain_headers(Http2Stream *stream);
extern void http2_plain_data(Http2Stream *stream, const uint8_t *data, size_t len);
extern void http2_plain_end(Http2Stream *stream);

/* grpc_claims: is this request gRPC's business? */
extern bool grpc_claims(Http2Stream *stream);
extern void grpc_headers(Http2Stream *stream);
extern void grpc_data(Http2Stream *stream, const uint8_t *data, size_t len);
extern void grpc_end(Http2Stream *stream);
extern void grpc_unavailable(Http2Stream *stream, const char *message);

#endif /* TEMPO_NET_HTTP2_H */
