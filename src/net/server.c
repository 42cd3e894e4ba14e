/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Listening sockets, accepted connections, and which protocol they speak.
 *
 * An accepted socket is looked at (MSG_PEEK, nothing is consumed) until its
 * first bytes tell HTTP/2's preface from anything else; then it belongs to
 * http2.c or http1.c.
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
#define ACCEPT_PAUSE_MS 100		/* out of descriptors */
#define MAX_BODY_LIMIT ((size_t) 1 << 32)

/* All HTTP/2 connections start so, and no HTTP/1 request does. */
static const char preface[] = "PRI * HTTP/2.0\r\n";

#define PREFACE_TELLING 4		/* bytes that decide */

typedef struct Listener
{
	NetNode		node;
	NetServer  *server;
	NetWatch   *watch;
	int			fd;
} Listener;

typedef struct Sniffed
{
	NetNode		node;
	NetServer  *server;
	NetWatch   *watch;
	int			fd;
	uint64_t	since;
	bool		waiting;		/* has fewer bytes than decide; SO_RCVLOWAT set */
	struct sockaddr_storage address;
	socklen_t	addrlen;
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
	if (server->sweep == NULL && server->statistics.connections > 0)
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
	return server->handling > 0 && server->statistics.buffered > server->options.max_buffered / 2;
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
	NetServer  *server = sniffed->server;
	int			fd = sniffed->fd;

	sniffed_free(sniffed);
	close(fd);
	net_server_connection_closed(server);
}

static void
sweep(void *arg)
{
	NetServer  *server = arg;
	uint64_t	now = net_now(server);

	server->sweep = NULL;
	for (NetNode *node = server->sniffing.next, *next; node != &server->sniffing; node = next)
	{
		Sniffed    *sniffed = net_container(Sniffed, node, node);

		next = node->next;
		if (now - sniffed->since > NET_HANDSHAKE_MS)
			sniffed_drop(sniffed);
	}
	http2_sweep(server);
	if (server->http1 != NULL)
		http1_sweep(server->http1);
	schedule_sweep(server);
}

static void
sniffed_readable(void *arg, int status, int events)
{
	Sniffed    *sniffed = arg;
	NetServer  *server = sniffed->server;
	char		head[sizeof(preface)];
	ssize_t		n;
	size_t		compare;
	int			fd = sniffed->fd;

	(void) events;
	n = status < 0 ? 0 : recv(fd, head, sizeof(preface) - 1, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		sniffed_drop(sniffed);
		return;
	}
	compare = n < PREFACE_TELLING ? n : PREFACE_TELLING;
	if (memcmp(head, preface, compare) != 0)
	{
		struct sockaddr_storage address = sniffed->address;
		socklen_t	addrlen = sniffed->addrlen;
		int			one = 1;

		if (!server->options.http1)
		{
			sniffed_drop(sniffed);
			return;
		}
		if (sniffed->waiting)
			setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
		sniffed_free(sniffed);
		http1_add(server->http1, fd, (struct sockaddr *) &address, addrlen);
	}
	else if (n < PREFACE_TELLING)
	{
		int			telling = PREFACE_TELLING;

		/* the bytes stay in the socket: do not be woken for the same ones again */
		if (sniffed->waiting)
		{
			/* end of input after too few bytes */
			sniffed_drop(sniffed);
			return;
		}
		sniffed->waiting = true;
		if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &telling, sizeof(telling)) != 0)
			sniffed_drop(sniffed);
	}
	else
	{
		int			one = 1;

		if (!server->options.http2)
		{
			sniffed_drop(sniffed);
			return;
		}
		if (sniffed->waiting)
			setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
		sniffed_free(sniffed);
		http2_add(server, fd);
	}
}

static void
sniff(NetServer *server, int fd, const struct sockaddr_storage *address, socklen_t addrlen)
{
	Sniffed    *sniffed = calloc(1, sizeof(Sniffed));

	server->statistics.connections++;
	if (sniffed != NULL)
	{
		net_list_init(&sniffed->node);
		sniffed->server = server;
		sniffed->fd = fd;
		sniffed->since = net_now(server);
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
	NetServer  *server = arg;

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
	int			one = 1;
	int			idle = 120;
	int			interval = 20;
	int			count = 3;

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
	Listener   *listener = arg;
	NetServer  *server = listener->server;

	(void) status;
	(void) events;
	for (int i = 0; i < ACCEPTS_PER_WAKE; i++)
	{
		struct sockaddr_storage address;
		socklen_t	addrlen = sizeof(address);
		int			fd;

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
		if (server->statistics.connections >= (uint64_t) server->options.max_connections)
		{
			server->statistics.refused++;
			close(fd);
			continue;
		}
		set_socket_options(fd);
		sniff(server, fd, &address, addrlen);
	}
}

/* ----------------------------------------------------------------- listen */

/* listen_on: one resolved address; errno and the failing step tell what went wrong */
static bool
listen_on(NetServer *server, const struct addrinfo *info, const char **step)
{
	Listener   *listener = calloc(1, sizeof(Listener));
	int			one = 1;
	int			fd;
	int			saved;

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
		Listener   *listener = net_container(Listener, node, server->listeners.next);

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
	struct addrinfo hints;
	struct addrinfo *infos = NULL;
	char		port[16];
	int			bound = 0;
	int			rc;

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
			char		address[NI_MAXHOST] = "?";
			int			saved = errno;

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
	char	   *names = strdup(server->listen_addresses);
	char	   *rest = NULL;
	int			bound = 0;

	if (names == NULL)
	{
		snprintf(message, messagelen, "out of memory");
		return 0;
	}
	for (char *name = strtok_r(names, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
	{
		char	   *end;

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
	NetServer  *server = calloc(1, sizeof(NetServer));

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
	net_pending_init(&server->relief, relieve);
	server->listen_addresses = strdup(options->listen_addresses != NULL ? options->listen_addresses : "");
	server->options.listen_addresses = server->listen_addresses;
	if (server->listen_addresses != NULL && options->http1)
		server->http1 = http1_create(server);
	if (server->listen_addresses == NULL || (options->http1 && server->http1 == NULL))
		snprintf(message, messagelen, "out of memory or descriptors");
	else if (is_blank(server->listen_addresses) || listen_on_all(server, message, messagelen) > 0)
		return server;
	net_server_destroy(server);
	return NULL;
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
	http2_stop(server, graceful);
	if (server->http1 != NULL)
		http1_stop(server->http1, graceful);
}

bool
net_server_idle(const NetServer *server)
{
	return server->statistics.connections == 0;
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
