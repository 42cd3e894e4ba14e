/*-------------------------------------------------------------------------
 *
 * http2.c
 *	  HTTP/2 connections by libnghttp2.
 *
 * The library keeps the protocol; this file moves bytes between it and the
 * socket, hands what arrives on streams to http2_plain.c and grpc.c, and bounds
 * what a peer may make us do: resets, settings, empty frames, headers, and
 * answers it does not read.
 *
 *-------------------------------------------------------------------------
 */
#include "net/http2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STREAM_WINDOW (1024 * 1024)
#define CONNECTION_WINDOW (16 * 1024 * 1024)
#define MAX_FRAME (64 * 1024)

/*
 * The library ends the connection when a peer opens more streams than we
 * announced.  To refuse just those streams, it believes in a larger number
 * than the one we write into its first frame.
 */
#define LIBRARY_MAX_STREAMS 1000
#define READS_PER_WAKE 4 /* of NET_SCRATCH_BYTES: then the others have their turn */
#define WRITE_BATCH (64 * 1024)

/* What a peer may do before it is told to calm down. */
#define MAX_RESETS 200 /* in RESET_PERIOD_MS */
#define RESET_PERIOD_MS 10000
#define MAX_SETTINGS 100 /* in SETTINGS_PERIOD_MS */
#define SETTINGS_PERIOD_MS 60000
#define MAX_EMPTY_FRAMES 100 /* in a row */

/*
 * Pings and settings whose answers wait: what one read can hold, since we
 * write after each read and do not read while the socket takes no more.
 */
#define MAX_QUEUED_ACKS (NET_SCRATCH_BYTES / 9 + 1)

/* An idle HTTP/2 connection costs a client more to lose than one of HTTP/1.1. */
#define IDLE_FACTOR 10

/* How long the answer to the ping after a shutdown notice is waited for. */
#define SHUTDOWN_NOTICE_MS 2000

typedef struct Counter
{
	uint64_t since;
	int      n;
} Counter;

struct Http2Connection
{
	NetNode          node; /* NetServer.http2 */
	NetServer       *server;
	NetSocket        sock;
	NetWatch        *watch;
	NetPending       pending; /* output was made outside of on_ready */
	nghttp2_session *session;
	NetNode          streams;
	int              n_streams;
	bool             in_session; /* inside nghttp2_session_mem_recv */
	bool             got_settings;
	bool             sent_settings;
	bool             dead;    /* no more reading or writing */
	bool             blocked; /* the socket takes no more now */
	bool             noticed; /* shutdown notice sent */
	bool             said_goaway;
	uint64_t         since; /* connected; then: last active; then: notice sent */
	uint64_t         write_progress;
	NetBuffer        out; /* taken from the library, not by the socket */
	Counter          resets;
	Counter          settings;
	int              empty_frames;
};

static void flush(Http2Connection *connection);
static void finish(Http2Connection *connection);

/* too_many: counts an event in a period */
static bool
too_many(Counter *counter, uint64_t now, uint64_t period, int max)
{
	if (now - counter->since > period)
	{
		counter->since = now;
		counter->n = 0;
	}
	return ++counter->n > max;
}

/* calm_down: the peer abuses the protocol */
static void
calm_down(Http2Connection *connection)
{
	connection->server->statistics.refused++;
	nghttp2_session_terminate_session(connection->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* ---------------------------------------------------------------- streams */

nghttp2_nv
http2_nv(const char *name, const char *value)
{
	nghttp2_nv nv = {
		(uint8_t *) name, (uint8_t *) value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};

	return nv;
}

static void
output_changed(Http2Connection *connection)
{
	/* inside the session, on_ready flushes afterwards */
	if (!connection->in_session && !connection->dead)
		net_pending_add(connection->server->loop, &connection->pending);
}

static ssize_t
read_output(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
            uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	Http2Stream *stream = source->ptr;
	size_t       n = stream->out.len - stream->out.start;

	(void) arg;
	if (n > length)
		n = length;
	if (n > 0)
	{
		memcpy(buf, stream->out.data + stream->out.start, n);
		stream->out.start += n;
		stream->progress = net_now(stream->base.server);
		stream->connection->write_progress = stream->progress;
	}
	if (stream->out.start < stream->out.len)
		return n;
	stream->out.start = stream->out.len = 0;
	net_request_holds(&stream->base, 0);
	if (!stream->output_ended)
		return n > 0 ? (ssize_t) n : NGHTTP2_ERR_DEFERRED;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (stream->n_trailers > 0)
	{
		nghttp2_nv  fields[HTTP2_MAX_FIELDS];
		const char *p = stream->trailers.data;

		for (int i = 0; i < stream->n_trailers; i++)
		{
			const char *name = p;
			const char *value = name + strlen(name) + 1;

			fields[i] = http2_nv(name, value);
			p = value + strlen(value) + 1;
		}
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (nghttp2_submit_trailer(session, stream_id, fields, stream->n_trailers) != 0)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return n;
}

void
http2_submit(Http2Stream *stream, const nghttp2_nv *fields, size_t n_fields, bool has_body)
{
	nghttp2_data_provider provider;

	provider.source.ptr = stream;
	provider.read_callback = read_output;
	stream->submitted = true;
	stream->progress = net_now(stream->base.server);
	if (nghttp2_submit_response(stream->connection->session, stream->id, fields, n_fields,
	                            has_body ? &provider : NULL) != 0)
		http2_reset(stream, NGHTTP2_INTERNAL_ERROR);
	output_changed(stream->connection);
}

void
http2_output_added(Http2Stream *stream)
{
	/* an error means that the stream does not wait for data: all is well */
	nghttp2_session_resume_data(stream->connection->session, stream->id);
	output_changed(stream->connection);
}

void
http2_reset(Http2Stream *stream, uint32_t error)
{
	nghttp2_submit_rst_stream(stream->connection->session, NGHTTP2_FLAG_NONE, stream->id, error);
	output_changed(stream->connection);
}

bool
http2_add_trailer(Http2Stream *stream, const char *name, const char *value)
{
	if (stream->n_trailers >= HTTP2_MAX_FIELDS)
		return false;
	if (!net_buffer_append(&stream->trailers, name, strlen(name) + 1) ||
	    !net_buffer_append(&stream->trailers, value, strlen(value) + 1))
		return false;
	stream->n_trailers++;
	return true;
}

static Http2Stream *
stream_create(Http2Connection *connection, int32_t id)
{
	Http2Stream *stream = calloc(1, sizeof(Http2Stream));

	if (stream == NULL)
		return NULL;
	if (!net_request_init(&stream->base, connection->server, NET_HTTP2))
	{
		free(stream);
		return NULL;
	}
	stream->connection = connection;
	stream->id = id;
	stream->progress = net_now(connection->server);
	net_list_init(&stream->node);
	net_list_push(&connection->streams, &stream->node);
	connection->n_streams++;
	return stream;
}

static void
stream_free(Http2Stream *stream)
{
	stream->connection->n_streams--;
	stream->connection->since = net_now(stream->base.server);
	net_list_remove(&stream->node);
	net_timer_cancel(stream->deadline);
	stream->deadline = NULL;
	net_request_cancel(&stream->base);
	net_request_release(&stream->base);
	net_buffer_free(&stream->out);
	net_buffer_free(&stream->trailers);
	free(stream);
}

/* ------------------------------------------------------ library callbacks */

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	Http2Connection *connection = arg;
	Http2Stream     *stream;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	if (connection->n_streams >= NET_MAX_STREAMS)
	{
		/* its header fields are still decoded, for the compression's sake */
		connection->server->statistics.refused++;
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
		                                 NGHTTP2_REFUSED_STREAM) == 0 ?
		           0 :
		           NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	stream = stream_create(connection, frame->hd.stream_id);
	if (stream == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
	return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
          const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
	Http2Stream *stream;
	NetRequest  *request;
	bool         ok;

	(void) flags;
	(void) arg;
	/* trailers are legal and mean nothing to us */
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (stream == NULL)
		return 0;
	request = &stream->base;
	stream->header_bytes += namelen + valuelen + 32;
	if (stream->header_bytes > NET_MAX_HEADER_BYTES || request->n_fields >= NET_MAX_HEADERS)
	{
		request->headers_too_large = true;
		return 0;
	}
	if (namelen == 7 && memcmp(name, ":method", 7) == 0)
		ok = net_request_set_method(request, (const char *) value, valuelen);
	else if (namelen == 5 && memcmp(name, ":path", 5) == 0)
		ok = net_request_set_target(request, (const char *) value, valuelen);
	else if (namelen == 10 && memcmp(name, ":authority", 10) == 0)
		ok = net_request_add_header(request, "host", 4, (const char *) value, valuelen);
	else if (namelen > 0 && name[0] == ':')
		ok = true;
	else
		ok = net_request_add_header(request, (const char *) name, namelen, (const char *) value, valuelen);
	return ok ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void
stream_headers(Http2Stream *stream)
{
	if (grpc_claims(stream))
		grpc_headers(stream);
	else
		http2_plain_headers(stream);
}

static void
stream_ended(Http2Stream *stream)
{
	stream->input_ended = true;
	if (stream->base.answered)
		return;
	if (stream->base.kind == NET_GRPC)
		grpc_end(stream);
	else
		http2_plain_end(stream);
}

static int
on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	Http2Connection *connection = arg;
	uint64_t         now = net_now(connection->server);
	bool             ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	Http2Stream     *stream = NULL;

	switch (frame->hd.type)
	{
		case NGHTTP2_HEADERS:
			connection->empty_frames = 0;
			stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
			if (stream != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
			{
				stream->input_ended = ends;
				stream_headers(stream);
			}
			break;
		case NGHTTP2_DATA:
			stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
			if (frame->hd.length > frame->data.padlen || ends)
				connection->empty_frames = 0;
			else if (++connection->empty_frames > MAX_EMPTY_FRAMES)
				calm_down(connection);
			break;
		case NGHTTP2_RST_STREAM:
			if (too_many(&connection->resets, now, RESET_PERIOD_MS, MAX_RESETS))
				calm_down(connection);
			break;
		case NGHTTP2_SETTINGS:
			connection->got_settings = true;
			if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 &&
			    too_many(&connection->settings, now, SETTINGS_PERIOD_MS, MAX_SETTINGS))
				calm_down(connection);
			break;
		case NGHTTP2_PING:
			/* the ping after a shutdown notice has seen all that was under way */
			if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && connection->noticed && !connection->said_goaway)
			{
				connection->said_goaway = true;
				nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
				                      nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR, NULL, 0);
			}
			break;
		default:
			break;
	}
	if (stream != NULL && ends)
		stream_ended(stream);
	return 0;
}

static int
on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
              const uint8_t *data, size_t len, void *arg)
{
	Http2Connection *connection = arg;
	NetServer       *server = connection->server;
	Http2Stream     *stream = nghttp2_session_get_stream_user_data(session, stream_id);

	(void) flags;
	/* what is read off the socket is no longer under way */
	nghttp2_session_consume_connection(session, len);
	if (stream == NULL)
		return 0;
	stream->progress = net_now(server);
	if (stream->base.answered)
		nghttp2_session_consume_stream(session, stream_id, len);
	else
	{
		if (stream->base.kind == NET_GRPC)
			grpc_data(stream, data, len);
		else
			http2_plain_data(stream, data, len);
		if (net_server_throttles(server))
			stream->unconsumed += len;
		else
			nghttp2_session_consume_stream(session, stream_id, len);
	}
	return 0;
}

static int
on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	Http2Stream *stream;

	(void) arg;
	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	/* answered before the request was whole: the rest is not wanted */
	stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (stream != NULL && !stream->input_ended)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *arg)
{
	Http2Stream *stream = nghttp2_session_get_stream_user_data(session, stream_id);

	(void) error;
	(void) arg;
	if (stream != NULL)
	{
		nghttp2_session_set_stream_user_data(session, stream_id, NULL);
		stream_free(stream);
	}
	return 0;
}

/* ------------------------------------------------------------- connection */

static void
connection_free(Http2Connection *connection, bool linger)
{
	NetServer *server = connection->server;
	int        fd = connection->sock.fd;

	connection->dead = true;
	net_socket_end_tls(&connection->sock, linger);
	net_list_remove(&connection->node);
	net_pending_remove(&connection->pending);
	while (!net_list_empty(&connection->streams))
	{
		Http2Stream *stream = net_container(Http2Stream, node, connection->streams.next);

		nghttp2_session_set_stream_user_data(connection->session, stream->id, NULL);
		stream_free(stream);
	}
	nghttp2_session_del(connection->session);
	net_watch_close(connection->watch);
	net_buffer_free(&connection->out);
	free(connection);
	if (linger && !server->destroying)
		net_linger(server->loop, fd);
	else
		close(fd);
	net_server_connection_closed(server);
}

/* write_some: false = the socket is full or broken */
static bool
write_some(Http2Connection *connection, const char *data, size_t len, size_t *written)
{
	*written = 0;
	while (*written < len)
	{
		ssize_t n = net_socket_write(&connection->sock, data + *written, len - *written);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				connection->dead = true;
			return false;
		}
		*written += n;
		connection->write_progress = net_now(connection->server);
	}
	return true;
}

/* announce_max_streams: in our first frame, SETTINGS, whose first entry it is */
static void
announce_max_streams(Http2Connection *connection, uint8_t *frame, size_t len)
{
	if (connection->sent_settings || len < 15)
		return;
	connection->sent_settings = true;
	if (frame[3] == NGHTTP2_SETTINGS && frame[10] == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
	{
		frame[11] = frame[12] = frame[13] = 0;
		frame[14] = NET_MAX_STREAMS;
	}
}

/* fill: takes frames from the library; how many bytes are in scratch */
static size_t
fill(Http2Connection *connection)
{
	char  *scratch = connection->server->loop->scratch;
	size_t filled = 0;

	while (filled < WRITE_BATCH)
	{
		const uint8_t *data;
		ssize_t        n = nghttp2_session_mem_send(connection->session, &data);

		if (n < 0)
			connection->dead = true;
		if (n <= 0)
			break;
		if ((size_t) n > NET_SCRATCH_BYTES - filled)
		{
			connection->dead = true;
			break;
		}
		memcpy(scratch + filled, data, n);
		announce_max_streams(connection, (uint8_t *) scratch + filled, n);
		filled += n;
	}
	return filled;
}

/*
 * flush: writes until the library or the socket has had enough.  While the
 * socket is full nothing is read: a peer that does not read our answers must
 * not make us queue more of them.
 */
static void
flush(Http2Connection *connection)
{
	bool   blocked = false;
	size_t written;

	while (!connection->dead && !blocked)
	{
		NetBuffer *out = &connection->out;
		size_t     filled;

		if (out->start < out->len)
		{
			blocked = !write_some(connection, out->data + out->start, out->len - out->start, &written);
			out->start += written;
			continue;
		}
		net_buffer_free(out);
		filled = fill(connection);
		if (filled == 0 || connection->dead)
			break;
		blocked = !write_some(connection, connection->server->loop->scratch, filled, &written);
		if (written < filled &&
		    !net_buffer_append(out, connection->server->loop->scratch + written, filled - written))
			connection->dead = true;
	}
	blocked |= connection->sock.wants_write;
	if (!connection->dead && blocked != connection->blocked)
	{
		connection->blocked = blocked;
		connection->write_progress = net_now(connection->server);
		if (!net_watch_set(connection->watch, blocked ? UV_WRITABLE : UV_READABLE))
			connection->dead = true;
	}
	/* decrypted already: the descriptor will not tell */
	if (!connection->dead && !blocked && net_socket_pending(&connection->sock) &&
	    nghttp2_session_want_read(connection->session))
		net_pending_add(connection->server->loop, &connection->pending);
}

/* finish: frees the connection if it has come to its end */
static void
finish(Http2Connection *connection)
{
	if (connection->dead)
		connection_free(connection, false);
	else if (!connection->blocked && !nghttp2_session_want_read(connection->session) &&
	         !nghttp2_session_want_write(connection->session))
		connection_free(connection, true);
}

static void
read_input(Http2Connection *connection)
{
	char *scratch = connection->server->loop->scratch;

	for (int i = 0; i < READS_PER_WAKE; i++)
	{
		ssize_t n = net_socket_read(&connection->sock, scratch, NET_SCRATCH_BYTES);
		ssize_t rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0)
		{
			connection->dead = true;
			return;
		}
		connection->in_session = true;
		rc = nghttp2_session_mem_recv(connection->session, (uint8_t *) scratch, n);
		connection->in_session = false;
		if (rc < 0)
		{
			if (rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS || rc == NGHTTP2_ERR_FLOODED)
				calm_down(connection);
			else
				connection->dead = true;
			return;
		}
		if (!nghttp2_session_want_read(connection->session) || n < NET_SCRATCH_BYTES)
			return;
		flush(connection);
		if (connection->dead || connection->blocked)
			return;
	}
}

static void
on_ready(void *arg, int status, int events)
{
	Http2Connection *connection = arg;

	if (status < 0)
		connection->dead = true;
	if (!connection->dead &&
	    (((events & UV_READABLE) && !connection->blocked) || connection->sock.wants_write))
		read_input(connection);
	flush(connection);
	finish(connection);
}

static void
on_pending(NetPending *pending)
{
	Http2Connection *connection = net_container(Http2Connection, pending, pending);

	if (!connection->dead && !connection->blocked && net_socket_pending(&connection->sock))
		read_input(connection);
	flush(connection);
	finish(connection);
}

static nghttp2_session *
session_create(Http2Connection *connection)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option            *option = NULL;
	nghttp2_session           *session = NULL;

	if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0)
	{
		nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
		nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
		nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
		nghttp2_option_set_no_auto_window_update(option, 1);
		nghttp2_option_set_max_outbound_ack(option, MAX_QUEUED_ACKS);
		/* closed streams would be kept for priorities nobody sends */
		nghttp2_option_set_no_closed_streams(option, 1);
		if (nghttp2_session_server_new2(&session, callbacks, connection, option) != 0)
			session = NULL;
	}
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	return session;
}

void
http2_add(NetServer *server, NetSocket sock, const char *refusal)
{
	static const nghttp2_settings_entry settings[] = {
		/* first, see announce_max_streams */
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LIBRARY_MAX_STREAMS},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, MAX_FRAME},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, NET_MAX_HEADER_BYTES},
	};
	Http2Connection *connection = calloc(1, sizeof(Http2Connection));

	if (connection == NULL)
	{
		net_socket_end_tls(&sock, false);
		close(sock.fd);
		net_server_connection_closed(server);
		return;
	}
	connection->server = server;
	connection->sock = sock;
	connection->since = connection->write_progress = net_now(server);
	net_list_init(&connection->streams);
	net_list_init(&connection->node);
	net_pending_init(&connection->pending, on_pending);
	connection->session = session_create(connection);
	connection->watch = net_watch_create(server->loop, sock.fd, on_ready, connection);
	if (connection->session == NULL || connection->watch == NULL ||
	    nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
	                            sizeof(settings) / sizeof(settings[0])) != 0 ||
	    nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0 ||
	    !net_watch_set(connection->watch, UV_READABLE))
	{
		connection_free(connection, false);
		return;
	}
	net_list_push(&server->http2, &connection->node);
	if (refusal != NULL)
	{
		server->statistics.refused++;
		nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR,
		                      (const uint8_t *) refusal, strlen(refusal));
		flush(connection);
		if (!connection->dead)
			nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
		flush(connection);
		finish(connection);
		return;
	}
	on_ready(connection, 0, UV_READABLE);
}

/* ----------------------------------------------------------------- sweeps */

/* sweep_stream: true = it has stood still for too long */
static bool
stream_stalls(const Http2Stream *stream, uint64_t now)
{
	bool receiving = !stream->input_ended && !stream->base.answered;
	bool sending = stream->out.start < stream->out.len;

	if (stream->unconsumed > 0)
		return false;
	return (receiving || sending) && now - stream->progress > (uint64_t) stream->base.server->options.stall_timeout_ms;
}

static void
sweep_connection(Http2Connection *connection, uint64_t now)
{
	NetServer *server = connection->server;

	if (!connection->got_settings && now - connection->since > NET_HANDSHAKE_MS)
		connection->dead = true;
	if (connection->blocked && now - connection->write_progress > (uint64_t) server->options.stall_timeout_ms)
		connection->dead = true;
	for (NetNode *node = connection->streams.next; node != &connection->streams; node = node->next)
	{
		Http2Stream *stream = net_container(Http2Stream, node, node);

		if (!connection->dead && stream_stalls(stream, now))
		{
			stream->progress = now;
			http2_reset(stream, NGHTTP2_CANCEL);
		}
	}
	if (connection->noticed && !connection->said_goaway && now - connection->since > SHUTDOWN_NOTICE_MS)
	{
		connection->said_goaway = true;
		nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE,
		                      nghttp2_session_get_last_proc_stream_id(connection->session),
		                      NGHTTP2_NO_ERROR, NULL, 0);
	}
	else if (!connection->noticed && connection->n_streams == 0 && server->options.idle_timeout_ms > 0 &&
	         now - connection->since > (uint64_t) server->options.idle_timeout_ms * IDLE_FACTOR)
		nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
	flush(connection);
	finish(connection);
}

void
http2_sweep(NetServer *server)
{
	uint64_t now = net_now(server);

	for (NetNode *node = server->http2.next, *next; node != &server->http2; node = next)
	{
		next = node->next;
		sweep_connection(net_container(Http2Connection, node, node), now);
	}
}

/* http2_relieve: memory is free again, withheld windows are given back */
void
http2_relieve(NetServer *server)
{
	for (NetNode *node = server->http2.next, *next; node != &server->http2; node = next)
	{
		Http2Connection *connection = net_container(Http2Connection, node, node);

		next = node->next;
		for (NetNode *inner = connection->streams.next; inner != &connection->streams; inner = inner->next)
		{
			Http2Stream *stream = net_container(Http2Stream, node, inner);

			if (stream->unconsumed == 0)
				continue;
			nghttp2_session_consume_stream(connection->session, stream->id, stream->unconsumed);
			stream->unconsumed = 0;
			stream->progress = net_now(server);
		}
		flush(connection);
		finish(connection);
	}
}

/* ------------------------------------------------------------------- stop */

static void
stop_now(Http2Connection *connection)
{
	static const char *const message = "the server is shutting down";

	for (NetNode *node = connection->streams.next, *next; node != &connection->streams; node = next)
	{
		Http2Stream *stream = net_container(Http2Stream, node, node);

		next = node->next;
		net_request_cancel(&stream->base);
		if (stream->base.answered)
			continue;
		if (stream->base.kind == NET_GRPC)
			grpc_unavailable(stream, message);
		else
			net_respond(&stream->base, 503, "text/plain; charset=utf-8", NULL, 0, message, strlen(message));
	}
	/* answers first: the library sends nothing after this GOAWAY but what is queued */
	flush(connection);
	if (!connection->dead)
		nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR);
}

void
http2_stop(NetServer *server, bool graceful)
{
	for (NetNode *node = server->http2.next, *next; node != &server->http2; node = next)
	{
		Http2Connection *connection = net_container(Http2Connection, node, node);

		next = node->next;
		if (!graceful)
			stop_now(connection);
		else if (!connection->noticed)
		{
			connection->noticed = true;
			connection->since = net_now(server);
			nghttp2_submit_shutdown_notice(connection->session);
			nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
		}
		flush(connection);
		finish(connection);
	}
}

void
http2_destroy_all(NetServer *server)
{
	while (!net_list_empty(&server->http2))
		connection_free(net_container(Http2Connection, node, server->http2.next), false);
}
