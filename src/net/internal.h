/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  What the files of net/ share and nobody else sees.
 *
 * Everything here runs on one loop in one thread.  No function blocks, and
 * none of them trusts a length the peer announced: memory grows as bytes
 * arrive.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_NET_INTERNAL_H
#define TEMPO_NET_INTERNAL_H

#include <sys/socket.h>
#include <uv.h>

#include "net/server.h"

/* Bounds that are not settings: what no honest peer comes near. */
#define NET_MAX_HEADERS 100                     /* header fields of a request */
#define NET_MAX_HEADER_BYTES (16 * 1024)        /* HTTP/2: names, values and 32 each */
#define NET_MAX_HEADER_BYTES_HTTP1 (512 * 1024) /* a query of 128 kB, percent-encoded */
#define NET_MAX_STREAMS 100
#define NET_HANDSHAKE_MS 10000       /* preface, request line and headers */
#define NET_DRAIN_BYTES (256 * 1024) /* of a refused body, read to keep the connection */
#define NET_MAX_ANSWER_HEADERS 40
#define NET_COMPRESS_MAX (1024 * 1024) /* larger ones would hold up the loop */

#define NET_ACCEPT_ENCODINGS "identity,gzip,deflate,zstd,snappy"

/* ------------------------------------------------------------------ lists */

typedef struct NetNode
{
	struct NetNode *prev;
	struct NetNode *next;
} NetNode;

static inline void
net_list_init(NetNode *head)
{
	head->prev = head->next = head;
}

static inline bool
net_list_empty(const NetNode *head)
{
	return head->next == head;
}

static inline void
net_list_push(NetNode *head, NetNode *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* net_list_remove: leaves the node alone in the world, so twice does no harm */
static inline void
net_list_remove(NetNode *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->prev = node->next = node;
}

#define net_container(type, member, pointer) \
	((type *) ((char *) (pointer) -offsetof(type, member)))

/* ----------------------------------------------------------------- buffer */

/* Bytes that grow at the end and are consumed at the front. */
typedef struct NetBuffer
{
	char  *data;
	size_t start; /* consumed */
	size_t len;   /* end of what is held */
	size_t capacity;
} NetBuffer;

/* net_buffer_reserve: makes room for "more" bytes; false = no memory.  "limit" caps the doubling, 0 = none */
extern bool net_buffer_reserve(NetBuffer *buffer, size_t more, size_t limit);
extern bool net_buffer_append(NetBuffer *buffer, const void *data, size_t len);
extern void net_buffer_free(NetBuffer *buffer);

/* ------------------------------------------------------------------ codec */

typedef enum NetCodec
{
	NET_CODEC_IDENTITY,
	NET_CODEC_GZIP,
	NET_CODEC_DEFLATE, /* zlib stream, or raw if it does not start like one */
	NET_CODEC_ZSTD,
	NET_CODEC_SNAPPY, /* framed, or one block */
	NET_CODEC_UNKNOWN
} NetCodec;

typedef enum NetDecodeResult
{
	NET_DECODE_OK,
	NET_DECODE_CORRUPT,
	NET_DECODE_TOO_LARGE, /* more than the limit came out */
	NET_DECODE_NO_MEMORY
} NetDecodeResult;

typedef struct NetDecoder NetDecoder;

extern NetCodec    net_codec_by_name(const char *name);
extern NetDecoder *net_decoder_create(NetCodec codec);

/* net_decoder_feed: decompresses the next bytes onto the end of "out", never beyond "limit" bytes in all */
extern NetDecodeResult net_decoder_feed(NetDecoder *decoder, const void *data, size_t len,
                                        NetBuffer *out, size_t limit);

/* net_decoder_finish: the input has ended; was it whole?  May still bring output. */
extern NetDecodeResult net_decoder_finish(NetDecoder *decoder, NetBuffer *out, size_t limit);
extern const char     *net_decoder_message(const NetDecoder *decoder);

/* net_decoder_memory: what it holds besides its output; a few bytes can make zstd ask for megabytes */
extern size_t net_decoder_memory(const NetDecoder *decoder);
extern void   net_decoder_destroy(NetDecoder *decoder);

/* net_gzip: one gzip member in malloc'd memory, NULL if it does not pay */
extern char *net_gzip(const void *data, size_t len, size_t *outlen);

/* ------------------------------------------------------------------- loop */

/* Something that has to be written or run before the loop may sleep. */
typedef struct NetPending
{
	NetNode node;
	void (*run)(struct NetPending *pending);
} NetPending;

struct NetLoop
{
	uv_loop_t  uv;
	uv_async_t wake; /* makes the descriptor readable for work queued outside */
	NetNode    pending;
	NetNode    lingering;
	bool       running;
	size_t     buffered; /* bytes of headers and bodies that its servers hold */
	char      *scratch;  /* what is read from or written to any socket */
};

#define NET_SCRATCH_BYTES (256 * 1024)

extern void net_pending_init(NetPending *pending, void (*run)(NetPending *pending));
extern void net_pending_add(NetLoop *loop, NetPending *pending);
extern void net_pending_remove(NetPending *pending);

/*
 * A watched descriptor.  The watch is freed by the loop some time after
 * net_watch_close; the descriptor may be closed at once after that.
 */
typedef struct NetWatch NetWatch;
typedef void (*NetWatchCallback)(void *arg, int status, int events);

extern NetWatch *net_watch_create(NetLoop *loop, int fd, NetWatchCallback callback, void *arg);
extern bool      net_watch_set(NetWatch *watch, int events); /* UV_READABLE..., 0 = none */
extern void      net_watch_close(NetWatch *watch);

/*
 * net_linger: takes over a socket whose last bytes have been written, closes
 * its sending side and reads on for a while, so that the peer gets to read the
 * answer before a reset for the bytes nobody wanted.
 */
extern void net_linger(NetLoop *loop, int fd);

/* ----------------------------------------------------------------- socket */

/*
 * The place where TLS comes in: everything above reads and writes through
 * these two, which return as recv and send do (-1 with errno EAGAIN = later).
 */
typedef struct NetSocket
{
	int            fd;
	struct ssl_st *ssl;         /* NULL = no TLS */
	bool           wants_write; /* TLS cannot read on before the socket takes more */
} NetSocket;

extern ssize_t net_tls_read(NetSocket *sock, void *data, size_t len);
extern ssize_t net_tls_write(NetSocket *sock, const void *data, size_t len);
extern bool    net_tls_pending(const NetSocket *sock);

/* net_socket_end_tls: the end of TLS on a socket that is still to be closed */
extern void net_socket_end_tls(NetSocket *sock, bool say_so);

static inline ssize_t
net_socket_read(NetSocket *sock, void *data, size_t len)
{
	return sock->ssl != NULL ? net_tls_read(sock, data, len) : recv(sock->fd, data, len, 0);
}

static inline ssize_t
net_socket_write(NetSocket *sock, const void *data, size_t len)
{
	return sock->ssl != NULL ? net_tls_write(sock, data, len) : send(sock->fd, data, len, MSG_NOSIGNAL);
}

/* net_socket_pending: are there bytes to be read that the descriptor does not tell of? */
static inline bool
net_socket_pending(const NetSocket *sock)
{
	return sock->ssl != NULL && net_tls_pending(sock);
}

/* ----------------------------------------------------------------- server */

typedef struct Http1 Http1; /* http1.c: the libmicrohttpd daemon of a server */

struct NetServer
{
	NetLoop         *loop;
	NetServerOptions options;
	char            *listen_addresses;
	NetNode          listeners;
	NetNode          sniffing; /* accepted, protocol not yet known */
	NetNode          http2;    /* Http2Connection */
	Http1           *http1;
	NetTls          *tls;         /* NULL = the port speaks without */
	NetNode          handshaking; /* tls.c */
	NetNode          relaying;    /* tls.c */
	uint64_t         relays;
	NetTimer        *sweep; /* once a second while connections are open */
	NetTimer        *accept_again;
	bool             stopping;
	bool             graceful;
	bool             destroying;
	bool             throttled; /* some peer waits */
	NetPending       relief;
	uint64_t         handling; /* requests given to the handler, unanswered */
	NetStatistics    statistics;
};

extern void net_server_connection_closed(NetServer *server);

/* How an HTTP/2 connection starts, and no other: so many bytes of it decide. */
#define NET_PREFACE "PRI * HTTP/2.0\r\n"
#define NET_PREFACE_TELLING 4

/*
 * net_server_throttles: is so much held that peers should wait before they
 * send more?  Only while requests are being handled, for their answers will
 * free memory; half-received bodies alone would wait for ever.
 */
extern bool net_server_throttles(NetServer *server);

/* net_server_relieved: memory was freed; lets throttled peers go on */
extern void net_server_relieved(NetServer *server);

extern uint64_t net_now(const NetServer *server); /* ms, monotonic */

/* ---------------------------------------------------------------- request */

typedef struct NetField
{
	uint32_t name; /* offsets into NetRequest.text */
	uint32_t value;
} NetField;

typedef enum NetKind
{
	NET_HTTP1,
	NET_HTTP2,
	NET_GRPC
} NetKind;

struct NetRequest
{
	NetServer *server;
	NetKind    kind;
	bool       checking;  /* inside options.check */
	bool       refusing;  /* inside options.refuse */
	bool       delivered; /* given to the handler */
	bool       answered;  /* an answer (or its beginning) exists */
	bool       headers_too_large;

	NetBuffer text; /* all header text, NUL-terminated pieces */
	uint32_t  method;
	uint32_t  path;
	uint32_t  query;
	NetField *fields;
	int       n_fields;
	int       fields_capacity;

	NetBuffer   body;
	size_t      received;          /* bytes of the body before decompression */
	size_t      accounted;         /* of server->statistics.buffered */
	size_t      headers_accounted; /* of loop->buffered only */
	size_t      unsent;            /* of server->statistics.unsent */
	NetDecoder *decoder;

	void (*on_cancel)(NetRequest *request, void *arg);
	void *on_cancel_arg;
};

extern bool net_request_init(NetRequest *request, NetServer *server, NetKind kind);
extern void net_request_release(NetRequest *request); /* frees what it holds, not itself */

/* net_request_set_target: splits "path?query", also of the absolute form */
extern bool net_request_set_target(NetRequest *request, const char *target, size_t len);
extern bool net_request_set_method(NetRequest *request, const char *method, size_t len);
extern bool net_request_add_header(NetRequest *request, const char *name, size_t namelen,
                                   const char *value, size_t valuelen);

/* net_server_is_full: is there no memory for more bodies?  That of all ports of a loop is one. */
extern bool net_server_is_full(const NetServer *server);

/* net_request_account_headers: once they are complete; false = over max_buffered */
extern bool net_request_account_headers(NetRequest *request);

/* net_request_account: makes the statistics follow the body's memory; false = over max_buffered */
extern bool net_request_account(NetRequest *request);

/* net_request_holds: so many bytes of its answer are in memory */
extern void net_request_holds(NetRequest *request, size_t bytes);

/* net_request_deliver: the request is whole; calls the handler */
extern void net_request_deliver(NetRequest *request);

/* net_request_check: calls options.check; true = it was answered */
extern bool net_request_check(NetRequest *request);

/* net_request_refuse: answers an HTTP request in the transport's own name */
extern void net_request_refuse(NetRequest *request, int status, const char *message);

/* net_request_cancel: tells the handler, if it has the request, that nobody waits for it any more */
extern void net_request_cancel(NetRequest *request);

/* net_request_answered: bookkeeping when the answer exists: body freed, counters */
extern void net_request_answered(NetRequest *request);

/* The body of an HTTP request (not gRPC): codec chosen, bytes appended, end seen.  0 or an HTTP status to refuse with. */
extern int net_request_body_begin(NetRequest *request, const char **message);
extern int net_request_body_append(NetRequest *request, const void *data, size_t len, const char **message);
extern int net_request_body_end(NetRequest *request, const char **message);

/*
 * An HTTP answer as both protocols send it: decides on compression, keeps the
 * fields of the caller that are not the transport's business.
 */
typedef struct NetAnswer
{
	int    status;
	char  *body; /* malloc'd, NULL if len is 0 */
	size_t len;
	bool   gzip;
	bool   vary;
} NetAnswer;

extern bool        net_answer_prepare(NetAnswer *answer, NetRequest *request, int status,
                                      const NetHeader *headers, int n_headers, const void *body, size_t len);
extern const char *net_reason_phrase(int status);

/* net_header_passes: a field of the handler's that may be sent: not one the transport writes itself, and one line */
extern bool net_header_passes(const NetHeader *header);

/* ------------------------------------------------------------------ http1 */

extern Http1 *http1_create(NetServer *server);
extern void   http1_add(Http1 *http1, int fd, const struct sockaddr *address, socklen_t addrlen);
extern void   http1_sweep(Http1 *http1);
extern void   http1_stop(Http1 *http1, bool graceful);
extern void   http1_destroy(Http1 *http1);
extern void   http1_respond(NetRequest *request, int status, const char *content_type,
                            const NetHeader *headers, int n_headers, const void *body, size_t len);

/* ------------------------------------------------------------ http2, grpc */

/* http2_add: with a refusal the connection is told so and ended */
extern void http2_add(NetServer *server, NetSocket sock, const char *refusal);
extern void http2_sweep(NetServer *server);
extern void http2_stop(NetServer *server, bool graceful);
extern void http2_destroy_all(NetServer *server);
extern void http2_relieve(NetServer *server);
extern void http2_respond(NetRequest *request, int status, const char *content_type,
                          const NetHeader *headers, int n_headers, const void *body, size_t len);

/* -------------------------------------------------------------------- tls */

/* tls_add: the handshake with an accepted connection, then its protocol */
extern void tls_add(NetServer *server, int fd, const struct sockaddr_storage *address, socklen_t addrlen);
extern void tls_sweep(NetServer *server);
extern void tls_stop(NetServer *server);
extern void tls_destroy_all(NetServer *server);

#endif /* TEMPO_NET_INTERNAL_H */
