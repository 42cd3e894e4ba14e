/*-------------------------------------------------------------------------
 *
 * server.h
 *	  One listening port that serves HTTP/1.1, HTTP/2 and gRPC.
 *
 * The transports know nothing of spans or queries: a complete request goes
 * to a handler, which answers at once or later.  All runs on one libuv loop
 * and never blocks; the owner waits on net_loop_fd() beside its latch and
 * calls net_loop_run() when it is readable or a timer is due.
 *
 * Connections are told apart by the HTTP/2 preface (or ALPN under TLS): HTTP/2
 * goes to nghttp2 (http2.c, http2_plain.c, grpc.c), the rest to libmicrohttpd (http1.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_NET_SERVER_H
#define TEMPO_NET_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct NetLoop    NetLoop;
typedef struct NetServer  NetServer;
typedef struct NetRequest NetRequest;

/* ------------------------------------------------------------------ loop */

extern NetLoop *net_loop_create(void); /* NULL = no memory or descriptors */
extern void     net_loop_destroy(NetLoop *loop);

/* net_loop_fd: becomes readable when net_loop_run() has something to do */
extern int net_loop_fd(NetLoop *loop);

/* net_loop_timeout: milliseconds until the next timer is due, -1 = none */
extern int net_loop_timeout(NetLoop *loop);

/* net_loop_run: handles what is ready, without blocking */
extern void net_loop_run(NetLoop *loop);

/* net_loop_timer: calls back once after "ms"; returns a handle for net_timer_cancel */
typedef struct NetTimer NetTimer;
extern NetTimer        *net_loop_timer(NetLoop *loop, uint64_t ms, void (*callback)(void *arg), void *arg);
extern void             net_timer_cancel(NetTimer *timer);

/* ------------------------------------------------------------------- tls */

typedef struct NetTlsOptions
{
	const char *cert_file;      /* PEM, with the chain */
	const char *key_file;       /* PEM, without passphrase, private as PostgreSQL wants its own */
	const char *client_ca_file; /* NULL or "" = clients need no certificate */
	bool        tls13_only;     /* otherwise TLS 1.2 will do, too */
} NetTlsOptions;

/* net_tls_create: reads the files; NULL with a message */
typedef struct NetTls NetTls;
extern NetTls        *net_tls_create(const NetTlsOptions *options, char *message, size_t messagelen);
extern void           net_tls_free(NetTls *tls);

/* ---------------------------------------------------------------- server */

typedef struct NetHeader
{
	const char *name; /* lower case */
	const char *value;
} NetHeader;

typedef void (*NetHandler)(NetRequest *request, void *arg);

typedef struct NetServerOptions
{
	const char *listen_addresses; /* comma-separated, as PostgreSQL's; "*" = all, "" = none */
	int         port;
	bool        reuse_port;       /* SO_REUSEPORT: several processes accept on one port */
	bool        http1;            /* which protocols the port speaks */
	bool        http2;            /* gRPC and plain HTTP/2, prior knowledge */
	size_t      max_header;       /* bytes of the headers of an HTTP/1.1 request; 0 = 512 kB */
	size_t      max_body;         /* bytes of a body, compressed and decompressed each */
	size_t      max_buffered;     /* bytes of all bodies that servers of the loop hold together; above it 503 / UNAVAILABLE */
	int         max_connections;  /* those beyond it are told so and closed */
	int         idle_timeout_ms;  /* 0 = none */
	int         stall_timeout_ms; /* of a body or an answer without progress; 0 = 30 s */
	NetTls     *tls;              /* NULL = without; the server keeps a reference */
	NetHandler  handler;
	void       *arg; /* given to handler, check and refuse */

	/*
	 * Optional.  "check" sees a request when its headers are in and before its
	 * body is read; it may answer at once (unknown path, wrong method), which
	 * spares "100 Continue" and the body, and then "handler" is not called.
	 */
	NetHandler check;

	/*
	 * Optional.  Words the refusals the transport makes itself for an HTTP (not
	 * gRPC) request: 400 codec unknown or stream corrupt, 413 too large, 503
	 * overload.  Must answer with net_respond at once.  NULL = "message" as
	 * text/plain.
	 */
	void (*refuse)(NetRequest *request, int status, const char *message, void *arg);

	/* Optional.  Headers for every HTTP (not gRPC) answer, also the transport's own; returns how many. */
#define NET_EXTRA_HEADERS 8
	int (*headers)(const NetRequest *request, int status, NetHeader *out, void *arg);
} NetServerOptions;

/*
 * net_server_start: binds and listens.  NULL with a message (at most
 * messagelen bytes) naming address and port when none could be bound; some
 * addresses failing only, it goes on with the others, as PostgreSQL does.
 */
extern NetServer *net_server_start(NetLoop *loop, const NetServerOptions *options,
                                   char *message, size_t messagelen);

/* net_server_set_tls: what connections accepted from now on speak; NULL = no TLS */
extern void net_server_set_tls(NetServer *server, NetTls *tls);

/* net_server_set_limits: the same for what is looked at anew each time */
extern void net_server_set_limits(NetServer *server, int idle_timeout_ms, int stall_timeout_ms);

/* net_server_stop: stops accepting; "graceful" lets requests in flight finish (GOAWAY) */
extern void net_server_stop(NetServer *server, bool graceful);

/* net_server_idle: has a stopped server no connection left? */
extern bool net_server_idle(const NetServer *server);
extern void net_server_destroy(NetServer *server);

/* --------------------------------------------------------------- request */

typedef struct NetText
{
	const char *data;
	size_t      len;
} NetText;

extern const char *net_request_method(const NetRequest *request); /* "GET" */
extern const char *net_request_path(const NetRequest *request);   /* still percent-encoded, no query */
extern const char *net_request_query(const NetRequest *request);  /* after '?', "" if none */

/*
 * net_request_header: the value of a header (name in lower case), NULL if
 * absent.  *count (may be NULL) tells how often it occurred.
 */
extern const char *net_request_header(const NetRequest *request, const char *name, int *count);

/* net_request_each_header: all headers, names in lower case */
extern void net_request_each_header(const NetRequest *request,
                                    void (*callback)(const char *name, const char *value, void *arg), void *arg);

/*
 * net_request_body: the decompressed body; for gRPC the one message without
 * its prefix.  Owned by the request until it is answered; net_request_keep_body
 * hands it over to the caller, who frees it with free().  Either way its bytes
 * count as buffered until the request is answered.
 */
extern NetText net_request_body(const NetRequest *request);
extern char   *net_request_keep_body(NetRequest *request);

extern bool net_request_is_grpc(const NetRequest *request);

/* net_request_on_cancel: called once if the client goes away before the answer */
extern void net_request_on_cancel(NetRequest *request, void (*callback)(NetRequest *request, void *arg), void *arg);

/*
 * net_respond: answers an HTTP request; exactly one answer a request.  Copies
 * the body and headers.  Content-Length is set; "content_type" may be NULL.
 * The answer is gzip-compressed when the client accepts it and it pays, unless
 * it has a Content-Encoding or is so large (1 MB) that this would hold up the
 * loop: who makes those compresses them where there is time.
 * After it, and after a cancel callback, the request is gone.
 */
extern void net_respond(NetRequest *request, int status, const char *content_type,
                        const NetHeader *headers, int n_headers, const void *body, size_t len);

#define NET_COMPRESS_MIN 1024 /* smaller answers are not worth compressing */

/* net_accepts_gzip: does this Accept-Encoding value (NULL = absent) allow gzip? */
extern bool net_accepts_gzip(const char *accept);

/*
 * net_respond_grpc: answers a unary gRPC call.  status 0: the message, then
 * trailers; otherwise Trailers-Only with grpc-message.  "details" is a
 * serialised google.rpc.Status for grpc-status-details-bin, len 0 = none;
 * "trailers" are extra trailers ("-bin" values already in base64).
 */
extern void net_respond_grpc(NetRequest *request, int status, const char *message,
                             const void *details, size_t details_len,
                             const NetHeader *trailers, int n_trailers,
                             const void *body, size_t len);

/*
 * Server streaming: any number of net_grpc_send, then one net_grpc_finish.
 * net_grpc_pending tells the bytes not yet written, for back-pressure.
 */
extern void   net_grpc_send(NetRequest *request, const void *message, size_t len);
extern size_t net_grpc_pending(const NetRequest *request);
extern void   net_grpc_finish(NetRequest *request, int status, const char *message);

/*
 * net_grpc_each_message: from "check", takes a call with any number of request
 * messages.  Each is given to the callback, as net_request_body(), which may
 * send; the handler is called at their end, without a body.
 */
extern void net_grpc_each_message(NetRequest *request, void (*callback)(NetRequest *request, void *arg), void *arg);

typedef struct NetStatistics
{
	uint64_t connections; /* open now */
	uint64_t accepted;
	uint64_t requests;
	uint64_t buffered;     /* bytes of bodies held now */
	uint64_t unsent;       /* bytes of answers held until they have been read */
	uint64_t tls_failures; /* handshakes that came to nothing */
	uint64_t refused;      /* answered by the transport itself: too large, bad framing, overload */
} NetStatistics;

extern NetStatistics net_server_statistics(const NetServer *server);

#endif /* TEMPO_NET_SERVER_H */
