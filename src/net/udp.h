/*-------------------------------------------------------------------------
 *
 * udp.h
 *	  A port that takes datagrams.
 *
 * Nobody is answered, so nobody can be asked to wait: what the owner cannot
 * take now it must drop, and what the kernel drops nobody hears of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_NET_UDP_H
#define TEMPO_NET_UDP_H

#include "net/server.h"

typedef struct NetUdp NetUdp;

/* A datagram; "whole" is false if it was longer than any may be. */
typedef void (*NetUdpHandler)(const void *data, size_t len, bool whole, void *arg);

/*
 * net_udp_start: binds to the addresses, as net_server_start does.  With
 * reuse_port, the datagrams of a sender all go to the same process.
 */
extern NetUdp *net_udp_start(NetLoop *loop, const char *listen_addresses, int port, bool reuse_port,
                             NetUdpHandler handler, void *arg, char *message, size_t messagelen);
extern void    net_udp_stop(NetUdp *udp);

#endif /* TEMPO_NET_UDP_H */
