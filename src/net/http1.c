/*-------------------------------------------------------------------------
 *
 * http1.c
 *	  HTTP/1.1 by libmicrohttpd, driven from our loop.
 *
 * The daemon has no socket of its own and no thread: it is given accepted
 * sockets, its epoll descriptor is watched by our loop, and a connection whose
 * answer is still being made is suspended.
 *
 * libmicrohttpd takes an answer before the body or after it, not amid.  A body
 * that has to be refused half-way is either read to its end, when that is
 * near, or answered past the library on the socket, which then is closed.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * The read buffer of a connection, beside its headers.  The library clears all
 * of this memory after each request, so that every connection that was used
 * once has it for good.
 */
#define READ_BUFFER (64 * 1024)
#define READ_BUFFER_SMALL (32 * 1024)

typedef enum Http1State
{
	HTTP1_FIRST, /* sniffed, request line not complete */
	HTTP1_IDLE,  /* between requests */
	HTTP1_HEADERS,
	HTTP1_BODY,
	HTTP1_HANDLING, /* suspended */
	HTTP1_ANSWERING
} Http1State;

typedef struct Http1Connection
{
	NetNode                node;
	Http1                 *http1;
	struct MHD_Connection *mhd;
	struct Http1Request   *request;
	int                    fd;
	Http1State             state;
	uint64_t               since;       /* of the state, or of the body's last progress */
	bool                   linger;      /* the peer may still be sending when we close */
	bool                   half_closed; /* seen by the last sweep */
} Http1Connection;

typedef struct Http1Request
{
	NetRequest             base;
	Http1Connection       *connection;
	struct MHD_Connection *mhd;
	struct MHD_Response   *response;
	int                    status;
	bool                   got_headers;
	bool                   complete;
	bool                   in_access; /* libmicrohttpd is calling us about it */
	bool                   suspended;
	bool                   gone;         /* cancelled: close, say nothing */
	bool                   reading_body; /* an answer now would come amid the body */
	bool                   answered_raw; /* past the library */
	bool                   expects;      /* waits for 100 Continue */
	bool                   has_length;
	bool                   chunked;
	uint64_t               length;
	uint64_t               read; /* of the body, discarded bytes included */
} Http1Request;

struct Http1
{
	NetServer         *server;
	struct MHD_Daemon *daemon;
	NetWatch          *watch;
	NetPending         pending;
	NetNode            connections;
	bool               running;
};

static void
set_state(Http1Connection *connection, Http1State state)
{
	connection->state = state;
	connection->since = net_now(connection->http1->server);
}

/* --------------------------------------------------------------- running */

static void
run_daemon(Http1 *http1)
{
	MHD_UNSIGNED_LONG_LONG timeout;

	/* a handler may answer another request while the daemon runs */
	if (http1->running)
		return;
	http1->running = true;
	MHD_run(http1->daemon);
	http1->running = false;
	if (MHD_get_timeout(http1->daemon, &timeout) == MHD_YES && timeout == 0)
		net_pending_add(http1->server->loop, &http1->pending);
}

static void
on_daemon_ready(void *arg, int status, int events)
{
	(void) status;
	(void) events;
	run_daemon(arg);
}

static void
on_pending(NetPending *pending)
{
	run_daemon(net_container(Http1, pending, pending));
}

/* ---------------------------------------------------------------- answers */

static bool
append_header(NetBuffer *out, const char *name, const char *value)
{
	return net_buffer_append(out, name, strlen(name)) && net_buffer_append(out, ": ", 2) &&
	       net_buffer_append(out, value, strlen(value)) && net_buffer_append(out, "\r\n", 2);
}

/* answer_raw: writes the answer to the socket itself; the connection ends with it */
static void
answer_raw(Http1Request *request, const NetAnswer *answer, const char *content_type,
           const NetHeader *headers, int n_headers)
{
	NetBuffer out = {0};
	char      line[256];
	bool      whole;

	snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
	         answer->status, net_reason_phrase(answer->status), answer->len);
	whole = net_buffer_append(&out, line, strlen(line));
	if (content_type != NULL)
		whole = whole && append_header(&out, "Content-Type", content_type);
	for (int i = 0; i < n_headers; i++)
		if (net_header_passes(&headers[i]))
			whole = whole && append_header(&out, headers[i].name, headers[i].value);
	if (answer->gzip)
		whole = whole && append_header(&out, "Content-Encoding", "gzip");
	if (whole && net_buffer_append(&out, "\r\n", 2) && net_buffer_append(&out, answer->body, answer->len))
		send(request->connection->fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	net_buffer_free(&out);
	request->answered_raw = true;
	request->connection->linger = true;
}

static struct MHD_Response *
make_response(Http1Request *request, NetAnswer *answer, const char *content_type,
              const NetHeader *headers, int n_headers)
{
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer(answer->len, answer->body, MHD_RESPMEM_MUST_FREE);
	if (response == NULL)
		return NULL;
	answer->body = NULL;
	if (content_type != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	for (int i = 0; i < n_headers; i++)
		if (net_header_passes(&headers[i]))
			MHD_add_response_header(response, headers[i].name, headers[i].value);
	if (answer->gzip)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, "gzip");
	if (answer->vary)
		MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, "Accept-Encoding");
	if (request->base.server->stopping)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	return response;
}

/* near_end: is the rest of the body so small that reading it keeps the connection? */
static bool
near_end(const Http1Request *request)
{
	return request->has_length && !request->chunked && request->length - request->read <= NET_DRAIN_BYTES;
}

void
http1_respond(NetRequest *base, int status, const char *content_type,
              const NetHeader *headers, int n_headers, const void *body, size_t len)
{
	Http1Request *request = net_container(Http1Request, base, base);
	NetAnswer     answer;
	bool          ok;

	ok = net_answer_prepare(&answer, base, status, headers, n_headers, body, len);
	base->answered = true;
	if (ok && request->reading_body && !near_end(request))
		answer_raw(request, &answer, content_type, headers, n_headers);
	else if (ok)
	{
		request->status = status;
		request->response = make_response(request, &answer, content_type, headers, n_headers);
		if (request->response != NULL)
			net_request_holds(base, answer.len);
	}
	free(answer.body);
	net_request_answered(base);
	/* without memory for an answer the connection is closed */
	if (request->response == NULL)
		request->gone = true;
	if (request->suspended)
	{
		request->suspended = false;
		MHD_resume_connection(request->mhd);
		net_pending_add(base->server->loop, &request->connection->http1->pending);
	}
}

/* set_timeout: how long the library waits for the peer to send or take something */
static void
set_timeout(struct MHD_Connection *mhd, int ms)
{
	MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned int) ((ms + 999) / 1000));
}

/* queue: hands the finished answer to the library */
static enum MHD_Result
queue(Http1Request *request)
{
	if (request->gone || request->response == NULL)
		return MHD_NO;
	set_state(request->connection, HTTP1_ANSWERING);
	set_timeout(request->mhd, request->base.server->options.stall_timeout_ms);
	return MHD_queue_response(request->mhd, request->status, request->response);
}

/* --------------------------------------------------------------- requests */

static void *
on_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	Http1                          *http1 = cls;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	Http1Request                   *request = calloc(1, sizeof(Http1Request));

	if (request == NULL)
		return NULL;
	if (!net_request_init(&request->base, http1->server, NET_HTTP1) || info->socket_context == NULL ||
	    !net_request_set_target(&request->base, uri, strlen(uri)))
	{
		net_request_release(&request->base);
		free(request);
		return NULL;
	}
	request->connection = info->socket_context;
	request->mhd = mhd;
	request->connection->request = request;
	set_state(request->connection, HTTP1_HEADERS);
	return request;
}

static enum MHD_Result
on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t namelen,
          const char *value, size_t valuelen)
{
	Http1Request *request = cls;
	NetRequest   *base = &request->base;

	(void) kind;
	if (base->n_fields >= NET_MAX_HEADERS ||
	    !net_request_add_header(base, name, namelen, value != NULL ? value : "", valuelen))
	{
		base->headers_too_large = true;
		return MHD_NO;
	}
	return MHD_YES;
}

/*
 * framing_is_sound: libmicrohttpd takes the first of contradicting lengths;
 * a proxy in front may have taken the other one.  So it is with hosts.
 */
static bool
framing_is_sound(Http1Request *request, const char *version)
{
	NetRequest *base = &request->base;
	int         n_hosts;
	int         n_lengths;
	int         n_codings;
	const char *length = net_request_header(base, "content-length", &n_lengths);
	const char *coding = net_request_header(base, "transfer-encoding", &n_codings);

	(void) net_request_header(base, "host", &n_hosts);
	if (n_hosts > 1 || (n_hosts == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) != 0) ||
	    strchr(net_request_path(base), ' ') != NULL || strchr(net_request_query(base), ' ') != NULL)
		return false;
	if (n_codings > 0)
	{
		if (n_codings > 1 || n_lengths > 0 || strcasecmp(coding, "chunked") != 0)
			return false;
		request->chunked = true;
	}
	if (n_lengths > 0)
	{
		size_t digits = strspn(length, "0123456789");

		if (n_lengths > 1 || digits == 0 || digits > 18 || length[digits] != '\0')
			return false;
		request->has_length = true;
		request->length = strtoull(length, NULL, 10);
	}
	for (int i = 0; i < base->n_fields; i++)
	{
		const char *name = base->text.data + base->fields[i].name;

		if (name[0] == '\0' || name[strcspn(name, " \t\r\n")] != '\0')
			return false;
	}
	return true;
}

static void
refuse_framing(Http1Request *request, int status, const char *message)
{
	request->base.server->statistics.refused++;
	net_respond(&request->base, status, "text/plain; charset=utf-8", NULL, 0, message, strlen(message));
	if (request->response != NULL)
		MHD_add_response_header(request->response, MHD_HTTP_HEADER_CONNECTION, "close");
	request->connection->linger = true;
}

/* on_headers: the first call for a request, before its body */
static enum MHD_Result
on_headers(Http1Request *request, const char *method, const char *version)
{
	NetRequest *base = &request->base;
	const char *message = NULL;
	const char *expect;
	bool        has_body;
	bool        has_room;
	int         status;

	if (!net_request_set_method(base, method, strlen(method)))
		return MHD_NO;
	MHD_get_connection_values_n(request->mhd, MHD_HEADER_KIND, on_header, request);
	if (base->headers_too_large)
	{
		refuse_framing(request, 431, "request header fields too large");
		return queue(request);
	}
	if (!framing_is_sound(request, version))
	{
		refuse_framing(request, 400, "malformed request framing");
		return queue(request);
	}
	has_body = request->chunked || request->length > 0;
	expect = net_request_header(base, "expect", NULL);
	request->expects = has_body && expect != NULL && strcasecmp(expect, "100-continue") == 0 &&
	                   strcmp(version, MHD_HTTP_VERSION_1_1) == 0;

	has_room = net_request_account_headers(base);
	if (!net_request_check(base))
	{
		status = net_request_body_begin(base, &message);
		if (status == 0 && request->length > base->server->options.max_body)
		{
			status = 413;
			message = "request body too large";
		}
		else if (status == 0 && (!has_room || (has_body && net_server_is_full(base->server))))
		{
			status = 503;
			message = "too many requests are held in memory, retry later";
		}
		if (status != 0)
			net_request_refuse(base, status, message);
	}
	set_state(request->connection, HTTP1_BODY);
	/* a body that nobody wants is read only if it comes anyway and is short */
	if (base->answered && has_body && (request->expects || !near_end(request)))
	{
		request->connection->linger = true;
		return queue(request);
	}
	return MHD_YES;
}

static enum MHD_Result
on_body(Http1Request *request, const char *data, size_t *len)
{
	const char *message = NULL;
	int         status;

	request->read += *len;
	request->connection->since = net_now(request->base.server);
	if (!request->base.answered)
	{
		status = net_request_body_append(&request->base, data, *len, &message);
		if (status != 0)
		{
			request->reading_body = true;
			net_request_refuse(&request->base, status, message);
			request->reading_body = false;
		}
	}
	if (request->answered_raw || request->gone)
		return MHD_NO;
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result
on_complete(Http1Request *request)
{
	NetRequest *base = &request->base;
	const char *message = NULL;
	int         status;

	if (request->complete)
		return queue(request);
	request->complete = true;
	if (!base->answered)
	{
		status = net_request_body_end(base, &message);
		if (status != 0)
			net_request_refuse(base, status, message);
		else
			net_request_deliver(base);
	}
	if (base->answered)
		return queue(request);
	request->suspended = true;
	set_state(request->connection, HTTP1_HANDLING);
	request->connection->half_closed = false;
	MHD_suspend_connection(request->mhd);
	return MHD_YES;
}

static enum MHD_Result
on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
          const char *version, const char *data, size_t *len, void **context)
{
	Http1Request *request = *context;

	(void) cls;
	(void) mhd;
	(void) url;
	if (request == NULL)
		return MHD_NO;
	if (!request->got_headers)
	{
		request->got_headers = true;
		return on_headers(request, method, version);
	}
	if (*len > 0)
		return on_body(request, data, len);
	return on_complete(request);
}

static void
on_request_end(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
	Http1Request *request = *context;

	(void) cls;
	(void) why;
	if (request == NULL)
		return;
	*context = NULL;
	request->connection->request = NULL;
	set_state(request->connection, HTTP1_IDLE);
	set_timeout(mhd, request->base.server->options.idle_timeout_ms);
	net_request_cancel(&request->base);
	if (request->response != NULL)
		MHD_destroy_response(request->response);
	net_request_release(&request->base);
	free(request);
}

/* ------------------------------------------------------------ connections */

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
	Http1           *http1 = cls;
	Http1Connection *connection;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		connection = calloc(1, sizeof(Http1Connection));
		*context = connection;
		if (connection == NULL)
			return;
		connection->http1 = http1;
		connection->mhd = mhd;
		connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		set_state(connection, HTTP1_FIRST);
		net_list_push(&http1->connections, &connection->node);
	}
	else
	{
		connection = *context;
		*context = NULL;
		if (connection != NULL)
		{
			/* libmicrohttpd closes its own descriptor at once */
			int fd = connection->linger && !http1->server->destroying ? dup(connection->fd) : -1;

			if (fd >= 0)
				net_linger(http1->server->loop, fd);
			net_list_remove(&connection->node);
			free(connection);
		}
		net_server_connection_closed(http1->server);
	}
}

void
http1_add(Http1 *http1, int fd, const struct sockaddr *address, socklen_t addrlen)
{
	/* on failure the library closes the socket but tells nobody */
	if (MHD_add_connection(http1->daemon, fd, address, addrlen) != MHD_YES)
	{
		net_server_connection_closed(http1->server);
		return;
	}
	net_pending_add(http1->server->loop, &http1->pending);
}

/* cancel: nobody waits for the answer of a suspended request any more */
static void
cancel(Http1Request *request)
{
	net_request_cancel(&request->base);
	request->gone = true;
	request->base.answered = true;
	request->suspended = false;
	MHD_resume_connection(request->mhd);
}

/* hung_up: what the socket says about the peer, without reading it */
static int
hung_up(const Http1Connection *connection)
{
	struct pollfd look = {connection->fd, POLLRDHUP, 0};

	return poll(&look, 1, 0) > 0 ? look.revents : 0;
}

/* peer_left: a suspended connection is not read, so we look whether the peer is there */
static bool
peer_left(Http1Connection *connection)
{
	int events = hung_up(connection);

	if (events == 0)
		return false;
	if (events & (POLLHUP | POLLERR))
		return true;
	/* a peer that only closed its sending side gets a second for its answer */
	if (!connection->half_closed)
	{
		connection->half_closed = true;
		return false;
	}
	return true;
}

/*
 * input_is_over: the peer has sent its last byte and all are read.
 * libmicrohttpd waits for edges, and takes a short read for a drained socket,
 * so an end that came together with the last bytes goes unnoticed.
 */
static bool
input_is_over(const Http1Connection *connection)
{
	int unread = 0;

	return hung_up(connection) != 0 && ioctl(connection->fd, FIONREAD, &unread) == 0 && unread == 0;
}

/*
 * http1_sweep: libmicrohttpd has a timeout for silence only; a peer that sends
 * a byte now and then must not hold a connection either.
 */
void
http1_sweep(Http1 *http1)
{
	NetServer *server = http1->server;
	uint64_t   now = net_now(server);

	for (NetNode *node = http1->connections.next; node != &http1->connections; node = node->next)
	{
		Http1Connection *connection = net_container(Http1Connection, node, node);
		uint64_t         allowed;

		switch (connection->state)
		{
			case HTTP1_HANDLING:
				if (connection->request != NULL && connection->request->suspended && peer_left(connection))
					cancel(connection->request);
				continue;
			case HTTP1_FIRST:
			case HTTP1_HEADERS:
				allowed = NET_HANDSHAKE_MS;
				break;
			case HTTP1_IDLE:
				allowed = server->options.idle_timeout_ms > 0 ?
				              (uint64_t) server->options.idle_timeout_ms :
				              UINT64_MAX;
				break;
			case HTTP1_BODY:
				allowed = server->options.stall_timeout_ms;
				break;
			default:
				continue;
		}
		if (now - connection->since > allowed || input_is_over(connection))
			shutdown(connection->fd, SHUT_RDWR);
	}
	run_daemon(http1);
}

void
http1_stop(Http1 *http1, bool graceful)
{
	for (NetNode *node = http1->connections.next; node != &http1->connections; node = node->next)
	{
		Http1Connection *connection = net_container(Http1Connection, node, node);
		bool             busy = connection->state != HTTP1_IDLE && connection->state != HTTP1_FIRST;

		if (graceful && busy)
			continue;
		if (connection->request != NULL && connection->request->suspended)
			cancel(connection->request);
		shutdown(connection->fd, SHUT_RDWR);
	}
	net_pending_add(http1->server->loop, &http1->pending);
}

Http1 *
http1_create(NetServer *server)
{
	Http1                      *http1 = calloc(1, sizeof(Http1));
	const union MHD_DaemonInfo *info;
	size_t                      max_header = server->options.max_header > 0 ? server->options.max_header : NET_MAX_HEADER_BYTES_HTTP1;

	if (http1 == NULL)
		return NULL;
	http1->server = server;
	net_list_init(&http1->connections);
	net_pending_init(&http1->pending, on_pending);
	http1->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0,
	                     NULL, NULL, on_access, http1,
	                     MHD_OPTION_NOTIFY_CONNECTION, on_connection, http1,
	                     MHD_OPTION_NOTIFY_COMPLETED, on_request_end, http1,
	                     MHD_OPTION_URI_LOG_CALLBACK, on_request_line, http1,
	                     MHD_OPTION_CONNECTION_LIMIT, (unsigned int) server->options.max_connections + 1,
	                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, max_header + (max_header < READ_BUFFER ? READ_BUFFER_SMALL : READ_BUFFER),
	                     MHD_OPTION_CONNECTION_TIMEOUT,
	                     (unsigned int) ((server->options.idle_timeout_ms + 999) / 1000),
	                     /* with 1 it refuses requests without Host itself, in HTML and with two heads: see framing_is_sound */
	                     MHD_OPTION_STRICT_FOR_CLIENT, 0,
	                     MHD_OPTION_END);
	if (http1->daemon != NULL)
	{
		info = MHD_get_daemon_info(http1->daemon, MHD_DAEMON_INFO_EPOLL_FD);
		http1->watch = net_watch_create(server->loop, info->epoll_fd, on_daemon_ready, http1);
		if (http1->watch != NULL && net_watch_set(http1->watch, UV_READABLE))
			return http1;
	}
	http1_destroy(http1);
	return NULL;
}

void
http1_destroy(Http1 *http1)
{
	if (http1->daemon != NULL)
	{
		/* the library insists on no connection being suspended */
		http1_stop(http1, false);
		run_daemon(http1);
		net_watch_close(http1->watch);
		MHD_stop_daemon(http1->daemon);
	}
	net_pending_remove(&http1->pending);
	free(http1);
}
