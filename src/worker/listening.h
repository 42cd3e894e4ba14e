/*-------------------------------------------------------------------------
 *
 * listening.h
 *	  What all ports have in common: TLS, limits of connections, and the
 *	  headers that go with every answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_LISTENING_H
#define TEMPO_WORKER_LISTENING_H

#include "postgres.h"

#include "net/server.h"

/* listening_init: defines the settings, from process_init() */
extern void listening_init(void);

/*
 * listening_options: the options that are settings, for a port with the name
 * that tempo_pg.tls gives it.  False with a message if TLS is asked for and
 * cannot be had: then the port is not to be opened.
 */
extern bool listening_options(NetServerOptions *options, const char *name, char *message, Size len);

/*
 * listening_reread: to be called in every round.  True if the settings have
 * been read again; then each server is to be given to listening_apply.
 */
extern bool listening_reread(void);
extern void listening_apply(NetServer *server, const char *name);

/* listening_reserve: makes room for descriptors of so many ports, and says so if there is not enough */
extern void listening_reserve(int ports);

extern int tempo_max_connections;

#endif /* TEMPO_WORKER_LISTENING_H */
