/*-------------------------------------------------------------------------
 *
 * udp.c
 *	  A port that takes datagrams.
 *
 *-------------------------------------------------------------------------
 */
#include "net/udp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/internal.h"

/* The agents of Jaeger take as much; UDP could carry 500 bytes more. */
#define MAX_DATAGRAM 65000

/* Read in one go, so that a flood does not keep the loop from other work. */
#define DATAGRAMS_PER_WAKE 64

/* What may wait in the kernel; it grants what net.core.rmem_max allows. */
#define RECEIVE_BUFFER (4 * 1024 * 1024)

typedef struct UdpSocket
{
	NetNode   node;
	NetUdp   *udp;
	NetWatch *watch;
	int       fd;
} UdpSocket;

struct NetUdp
{
	NetLoop      *loop;
	NetUdpHandler handler;
	void         *arg;
	NetNode       sockets;
};

static void
on_datagram(void *arg, int status, int events)
{
	UdpSocket *sock = arg;
	NetUdp    *udp = sock->udp;

	(void) status;
	(void) events;
	for (int i = 0; i < DATAGRAMS_PER_WAKE; i++)
	{
		ssize_t n = recv(sock->fd, udp->loop->scratch, MAX_DATAGRAM, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		udp->handler(udp->loop->scratch, n > MAX_DATAGRAM ? MAX_DATAGRAM : (size_t) n, n <= MAX_DATAGRAM, udp->arg);
	}
}

/* One resolved address; errno and the failing step tell what went wrong. */
static bool
bind_address(NetUdp *udp, const struct addrinfo *info, bool reuse_port, const char **step)
{
	UdpSocket *sock = calloc(1, sizeof(UdpSocket));
	int        one = 1;
	int        size = RECEIVE_BUFFER;
	int        saved;

	*step = "create a socket";
	if (sock == NULL)
		return false;
	sock->udp = udp;
	sock->fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, info->ai_protocol);
	if (sock->fd < 0)
	{
		free(sock);
		return false;
	}
	if (info->ai_family == AF_INET6)
		setsockopt(sock->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	setsockopt(sock->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	*step = "bind";
	if ((!reuse_port || setsockopt(sock->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0) &&
	    bind(sock->fd, info->ai_addr, info->ai_addrlen) == 0)
	{
		*step = "watch";
		net_list_init(&sock->node);
		sock->watch = net_watch_create(udp->loop, sock->fd, on_datagram, sock);
		if (sock->watch != NULL && net_watch_set(sock->watch, UV_READABLE))
		{
			net_list_push(&udp->sockets, &sock->node);
			return true;
		}
		net_watch_close(sock->watch);
	}
	saved = errno;
	close(sock->fd);
	free(sock);
	errno = saved;
	return false;
}

/* All addresses of one name; how many could be bound. */
static int
bind_name(NetUdp *udp, const char *name, int port, bool reuse_port, char *message, size_t messagelen)
{
	struct addrinfo  hints;
	struct addrinfo *infos = NULL;
	char             service[16];
	int              bound = 0;
	int              rc;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_DGRAM;
	hints.ai_flags = AI_PASSIVE;
	snprintf(service, sizeof(service), "%d", port);
	rc = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, service, &hints, &infos);
	if (rc != 0)
	{
		snprintf(message, messagelen, "could not translate host name \"%s\", port %s to address: %s",
		         name, service, gai_strerror(rc));
		return 0;
	}
	for (struct addrinfo *info = infos; info != NULL; info = info->ai_next)
	{
		const char *step;

		if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
			continue;
		if (bind_address(udp, info, reuse_port, &step))
			bound++;
		else
			snprintf(message, messagelen, "could not %s on UDP port %d of \"%s\": %s", step, port, name, strerror(errno));
	}
	freeaddrinfo(infos);
	return bound;
}

NetUdp *
net_udp_start(NetLoop *loop, const char *listen_addresses, int port, bool reuse_port,
              NetUdpHandler handler, void *arg, char *message, size_t messagelen)
{
	NetUdp *udp = calloc(1, sizeof(NetUdp));
	char   *names = strdup(listen_addresses);
	char   *state;
	int     bound = 0;

	snprintf(message, messagelen, "no address to listen on");
	if (udp != NULL && names != NULL)
	{
		udp->loop = loop;
		udp->handler = handler;
		udp->arg = arg;
		net_list_init(&udp->sockets);
		for (char *name = strtok_r(names, ", \t\n\"", &state); name != NULL; name = strtok_r(NULL, ", \t\n\"", &state))
			bound += bind_name(udp, name, port, reuse_port, message, messagelen);
	}
	free(names);
	if (bound > 0)
		return udp;
	free(udp);
	return NULL;
}

void
net_udp_stop(NetUdp *udp)
{
	while (!net_list_empty(&udp->sockets))
	{
		UdpSocket *sock = net_container(UdpSocket, node, udp->sockets.next);

		net_list_remove(&sock->node);
		net_watch_close(sock->watch);
		close(sock->fd);
		free(sock);
	}
	free(udp);
}
