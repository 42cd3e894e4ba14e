/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Listening sockets, accepted connections, and which protocol they speak.
 *
 * An accepted socket is looked at (MSG_PEEK, nothing is consumed) until its
 * first bytes tell HTTP/2's preface from TLS and from anything else; then it
 * belongs to http2.c, tls.c or http1.c.  Who speaks what the port does not, or
 * is one too many, is told so in words that a client shows to its user.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_BACKLOG 511
#define ACCEPTS_PER_WAKE 64
#define ACCEPT_PAUSE_MS 100 /* out of descriptors */
#define MAX_BODY_LIMIT ((size_t) 1 << 32)

#define TLS_HANDSHAKE 0x16 /* first byte of TLS, and of nothing else here */
#define STALL_TIMEOUT_MS 30000

/* So many connections beyond max_connections are told why they are closed. */
#define MAX_SURPLUS 64
#define SURPLUS_MS 1000

typedef struct Listener
{
	NetNode    node;
	NetServer *server;
	NetWatch  *watch;
	int        fd;
} Listener;

typedef struct Sniffed
{
	NetNode                 node;
	NetServer              *server;
	NetWatch               *watch;
	int                     fd;
	uint64_t                since;
	bool                    waiting; /* has fewer bytes than decide; SO_RCVLOWAT set */
	bool                    surplus; /* one too many */
	struct sockaddr_storage address;
	socklen_t               addrlen;
} Sniffed;

uint64_t
net_now(const NetServer *server)
{
	(void) server;
	return uv_hrtime() / 1000000;
}

/* ------------------------------------------------------------------ sweep */

static void sweep(void *arg);

static void
schedule_sweep(NetServer *server)
{
	if (server->sweep == NULL && (server->statistics.connections > 0 || server->relays > 0))
		server->sweep = net_loop_timer(server->loop, 1000, sweep, server);
}

void
net_server_connection_closed(NetServer *server)
{
	server->statistics.connections--;
}

/* ----------------------------------------------------------- back-pressure */

static bool
is_crowded(const NetServer *server)
{
	return server->handling > 0 && server->loop->buffered > server->options.max_buffered / 2;
}

bool
net_server_is_full(const NetServer *server)
{
	return server->loop->buffered >= server->options.max_buffered;
}

bool
net_server_throttles(NetServer *server)
{
	if (!is_crowded(server))
		return false;
	server->throttled = true;
	return true;
}

static void
relieve(NetPending *pending)
{
	http2_relieve(net_container(NetServer, relief, pending));
}

void
net_server_relieved(NetServer *server)
{
	if (!server->throttled || is_crowded(server))
		return;
	server->throttled = false;
	net_pending_add(server->loop, &server->relief);
}

/* ----------------------------------------------------------------- sniff */

static void
sniffed_free(Sniffed *sniffed)
{
	net_list_remove(&sniffed->node);
	net_watch_close(sniffed->watch);
	free(sniffed);
}

static void
sniffed_drop(Sniffed *sniffed)
{
	NetServer *server = sniffed->server;
	int        fd = sniffed->fd;

	sniffed_free(sniffed);
	close(fd);
	net_server_connection_closed(server);
}

static void
sweep(void *arg)
{
	NetServer *server = arg;
	uint64_t   now = net_now(server);

	server->sweep = NULL;
	for (NetNode *node = server->sniffing.next, *next; node != &server->sniffing; node = next)
	{
		Sniffed *sniffed = net_container(Sniffed, node, node);

		next = node->next;
		if (now - sniffed->since > (sniffed->surplus ? SURPLUS_MS : NET_HANDSHAKE_MS))
			sniffed_drop(sniffed);
	}
	tls_sweep(server);
	http2_sweep(server);
	if (server->http1 != NULL)
		http1_sweep(server->http1);
	schedule_sweep(server);
}

/*
 * turn_away: tells a peer in its own protocol why it is not served.  There is
 * no word for it in TLS before a handshake.
 */
static void
turn_away(NetServer *server, int fd, bool in_http2, int status, const char *text)
{
	char answer[512];

	if (in_http2)
	{
		NetSocket sock = {fd, NULL, false};

		http2_add(server, sock, text);
		return;
	}
	server->statistics.refused++;
	snprintf(answer, sizeof(answer),
	         "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n%s\r\n%s\n",
	         status, net_reason_phrase(status), strlen(text) + 1, status == 503 ? "Retry-After: 1\r\n" : "", text);
	(void) !send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	net_linger(server->loop, fd);
	net_server_connection_closed(server);
}

/* sniffed_is: hands the connection to what its first bytes belong to */
static void
sniffed_is(Sniffed *sniffed, const char *head, size_t len)
{
	NetServer              *server = sniffed->server;
	struct sockaddr_storage address = sniffed->address;
	socklen_t               addrlen = sniffed->addrlen;
	bool                    surplus = sniffed->surplus;
	bool                    is_tls = head[0] == TLS_HANDSHAKE;
	bool                    is_http2 = len >= NET_PREFACE_TELLING && memcmp(head, NET_PREFACE, NET_PREFACE_TELLING) == 0;
	NetSocket               sock = {sniffed->fd, NULL, false};
	int                     one = 1;

	if (sniffed->waiting)
		setsockopt(sock.fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
	sniffed_free(sniffed);
	if (surplus)
		turn_away(server, sock.fd, is_http2, 503, "too many connections, retry later");
	else if (is_tls && server->tls == NULL)
		turn_away(server, sock.fd, is_http2, 400, "this port does not speak TLS");
	else if (!is_tls && server->tls != NULL)
		turn_away(server, sock.fd, is_http2, 400, "this port speaks TLS only");
	else if (is_tls)
		tls_add(server, sock.fd, &address, addrlen);
	else if (is_http2 && server->options.http2)
		http2_add(server, sock, NULL);
	else if (!is_http2 && server->options.http1)
		http1_add(server->http1, sock.fd, (struct sockaddr *) &address, addrlen);
	else
		turn_away(server, sock.fd, false, 400, is_http2 ? "this port does not speak HTTP/2" : "this port speaks HTTP/2 only");
}

static void
sniffed_readable(void *arg, int status, int events)
{
	Sniffed *sniffed = arg;
	char     head[NET_PREFACE_TELLING];
	int      telling = NET_PREFACE_TELLING;
	ssize_t  n;

	(void) events;
	n = status < 0 ? 0 : recv(sniffed->fd, head, sizeof(head), MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		sniffed_drop(sniffed);
	else if (n == NET_PREFACE_TELLING || memcmp(head, NET_PREFACE, n) != 0)
		sniffed_is(sniffed, head, n);
	else if (sniffed->waiting ||
	         setsockopt(sniffed->fd, SOL_SOCKET, SO_RCVLOWAT, &telling, sizeof(telling)) != 0)
	{
		/* end of input after too few bytes */
		sniffed_drop(sniffed);
	}
	else
	{
		/* the bytes stay in the socket: do not be woken for the same ones again */
		sniffed->waiting = true;
	}
}

static void
sniff(NetServer *server, int fd, const struct sockaddr_storage *address, socklen_t addrlen, bool surplus)
{
	Sniffed *sniffed = calloc(1, sizeof(Sniffed));

	server->statistics.connections++;
	if (sniffed != NULL)
	{
		net_list_init(&sniffed->node);
		sniffed->server = server;
		sniffed->fd = fd;
		sniffed->since = net_now(server);
		sniffed->surplus = surplus;
		sniffed->address = *address;
		sniffed->addrlen = addrlen;
		sniffed->watch = net_watch_create(server->loop, fd, sniffed_readable, sniffed);
		if (sniffed->watch != NULL && net_watch_set(sniffed->watch, UV_READABLE))
		{
			net_list_push(&server->sniffing, &sniffed->node);
			schedule_sweep(server);
			return;
		}
		sniffed_free(sniffed);
	}
	close(fd);
	net_server_connection_closed(server);
}

/* ----------------------------------------------------------------- accept */

static void
resume_accepting(void *arg)
{
	NetServer *server = arg;

	server->accept_again = NULL;
	for (NetNode *node = server->listeners.next; node != &server->listeners; node = node->next)
		net_watch_set(net_container(Listener, node, node)->watch, UV_READABLE);
}

static void
pause_accepting(NetServer *server)
{
	if (server->accept_again != NULL)
		return;
	server->accept_again = net_loop_timer(server->loop, ACCEPT_PAUSE_MS, resume_accepting, server);
	if (server->accept_again == NULL)
		return;
	for (NetNode *node = server->listeners.next; node != &server->listeners; node = node->next)
		net_watch_set(net_container(Listener, node, node)->watch, 0);
}

static void
set_socket_options(int fd)
{
	int one = 1;
	int idle = 120;
	int interval = 20;
	int count = 3;

	/* dead peers are found by the kernel, not by pings of our own */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void
on_acceptable(void *arg, int status, int events)
{
	Listener  *listener = arg;
	NetServer *server = listener->server;

	(void) status;
	(void) events;
	for (int i = 0; i < ACCEPTS_PER_WAKE; i++)
	{
		struct sockaddr_storage address;
		socklen_t               addrlen = sizeof(address);
		uint64_t                in_use;
		bool                    surplus;
		int                     fd;

		memset(&address, 0, sizeof(address));
		fd = accept4(listener->fd, (struct sockaddr *) &address, &addrlen, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
		{
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				pause_accepting(server);
			return;
		}
		server->statistics.accepted++;
		in_use = server->statistics.connections > server->relays ? server->statistics.connections : server->relays;
		surplus = in_use >= (uint64_t) server->options.max_connections;
		if (in_use >= (uint64_t) server->options.max_connections + MAX_SURPLUS)
		{
			server->statistics.refused++;
			close(fd);
			continue;
		}
		set_socket_options(fd);
		sniff(server, fd, &address, addrlen, surplus);
	}
}

/* ----------------------------------------------------------------- listen */

/* listen_on: one resolved address; errno and the failing step tell what went wrong */
static bool
listen_on(NetServer *server, const struct addrinfo *info, const char **step)
{
	Listener *listener = calloc(1, sizeof(Listener));
	int       one = 1;
	int       fd;
	int       saved;

	*step = "create a listener";
	if (listener == NULL)
		return false;
	*step = "create a socket";
	fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, info->ai_protocol);
	if (fd < 0)
	{
		free(listener);
		return false;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	*step = "bind";
	if ((!server->options.reuse_port || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0) &&
	    bind(fd, info->ai_addr, info->ai_addrlen) == 0)
	{
		*step = "listen";
		if (listen(fd, LISTEN_BACKLOG) == 0)
		{
			*step = "watch";
			listener->server = server;
			listener->fd = fd;
			net_list_init(&listener->node);
			listener->watch = net_watch_create(server->loop, fd, on_acceptable, listener);
			if (listener->watch != NULL && net_watch_set(listener->watch, UV_READABLE))
			{
				net_list_push(&server->listeners, &listener->node);
				return true;
			}
			net_watch_close(listener->watch);
		}
	}
	saved = errno;
	close(fd);
	free(listener);
	errno = saved;
	return false;
}

static void
close_listeners(NetServer *server)
{
	net_timer_cancel(server->accept_again);
	server->accept_again = NULL;
	while (!net_list_empty(&server->listeners))
	{
		Listener *listener = net_container(Listener, node, server->listeners.next);

		net_list_remove(&listener->node);
		net_watch_close(listener->watch);
		close(listener->fd);
		free(listener);
	}
}

/* listen_on_name: all addresses of one name; how many could be bound */
static int
listen_on_name(NetServer *server, const char *name, char *message, size_t messagelen)
{
	struct addrinfo  hints;
	struct addrinfo *infos = NULL;
	char             port[16];
	int              bound = 0;
	int              rc;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE;
	snprintf(port, sizeof(port), "%d", server->options.port);
	rc = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, port, &hints, &infos);
	if (rc != 0)
	{
		snprintf(message, messagelen, "could not translate host name \"%s\", port %s to address: %s",
		         name, port, gai_strerror(rc));
		return 0;
	}
	for (struct addrinfo *info = infos; info != NULL; info = info->ai_next)
	{
		const char *step;

		if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
			continue;
		if (listen_on(server, info, &step))
			bound++;
		else
		{
			char address[NI_MAXHOST] = "?";
			int  saved = errno;

			getnameinfo(info->ai_addr, info->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST);
			snprintf(message, messagelen, "could not %s address \"%s\", port %s: %s",
			         step, address, port, strerror(saved));
		}
	}
	freeaddrinfo(infos);
	return bound;
}

static int
listen_on_all(NetServer *server, char *message, size_t messagelen)
{
	char *names = strdup(server->listen_addresses);
	char *rest = NULL;
	int   bound = 0;

	if (names == NULL)
	{
		snprintf(message, messagelen, "out of memory");
		return 0;
	}
	for (char *name = strtok_r(names, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
	{
		char *end;

		name += strspn(name, " \t\n\"");
		end = name + strlen(name);
		while (end > name && strchr(" \t\n\"", end[-1]) != NULL)
			*--end = '\0';
		if (*name != '\0')
			bound += listen_on_name(server, name, message, messagelen);
	}
	free(names);
	return bound;
}

/* is_blank: nothing to listen on was named */
static bool
is_blank(const char *text)
{
	return text[strspn(text, " \t\n,")] == '\0';
}

NetServer *
net_server_start(NetLoop *loop, const NetServerOptions *options, char *message, size_t messagelen)
{
	NetServer *server = calloc(1, sizeof(NetServer));

	if (messagelen > 0)
		message[0] = '\0';
	if (server == NULL)
	{
		snprintf(message, messagelen, "out of memory");
		return NULL;
	}
	server->loop = loop;
	server->options = *options;
	if (server->options.max_body > MAX_BODY_LIMIT)
		server->options.max_body = MAX_BODY_LIMIT;
	net_list_init(&server->listeners);
	net_list_init(&server->sniffing);
	net_list_init(&server->http2);
	net_list_init(&server->handshaking);
	net_list_init(&server->relaying);
	if (server->options.stall_timeout_ms <= 0)
		server->options.stall_timeout_ms = STALL_TIMEOUT_MS;
	net_server_set_tls(server, options->tls);
	server->options.tls = NULL;
	net_pending_init(&server->relief, relieve);
	server->listen_addresses = strdup(options->listen_addresses != NULL ? options->listen_addresses : "");
	server->options.listen_addresses = server->listen_addresses;
	if (server->listen_addresses != NULL && options->http1)
		server->http1 = http1_create(server);
	if (server->listen_addresses == NULL || (options->http1 && server->http1 == NULL) ||
	    (options->tls != NULL && server->tls == NULL))
		snprintf(message, messagelen, "out of memory or descriptors");
	else if (is_blank(server->listen_addresses) || listen_on_all(server, message, messagelen) > 0)
		return server;
	net_server_destroy(server);
	return NULL;
}

void
net_server_set_limits(NetServer *server, int idle_timeout_ms, int stall_timeout_ms)
{
	server->options.idle_timeout_ms = idle_timeout_ms;
	server->options.stall_timeout_ms = stall_timeout_ms > 0 ? stall_timeout_ms : STALL_TIMEOUT_MS;
}

/* ------------------------------------------------------------------- stop */

void
net_server_stop(NetServer *server, bool graceful)
{
	server->graceful = graceful;
	server->stopping = true;
	close_listeners(server);
	while (!net_list_empty(&server->sniffing))
		sniffed_drop(net_container(Sniffed, node, server->sniffing.next));
	tls_stop(server);
	http2_stop(server, graceful);
	if (server->http1 != NULL)
		http1_stop(server->http1, graceful);
}

bool
net_server_idle(const NetServer *server)
{
	return server->statistics.connections == 0 && server->relays == 0;
}

void
net_server_destroy(NetServer *server)
{
	if (server == NULL)
		return;
	server->destroying = true;
	server->stopping = true;
	close_listeners(server);
	while (!net_list_empty(&server->sniffing))
		sniffed_drop(net_container(Sniffed, node, server->sniffing.next));
	http2_destroy_all(server);
	if (server->http1 != NULL)
		http1_destroy(server->http1);
	tls_destroy_all(server);
	net_timer_cancel(server->sweep);
	net_pending_remove(&server->relief);
	free(server->listen_addresses);
	free(server);
}

NetStatistics
net_server_statistics(const NetServer *server)
{
	return server->statistics;
}
