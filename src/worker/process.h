/*-------------------------------------------------------------------------
 *
 * process.h
 *	  The background workers of tempo_pg and the settings they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_PROCESS_H
#define TEMPO_WORKER_PROCESS_H

#include "postgres.h"

extern char *tempo_database; /* tempo_pg.database */
extern bool  tempo_enabled;  /* tempo_pg.enabled */
extern char *tempo_listen_addresses;
extern char *tempo_otlp_grpc_listen_addresses; /* empty = those above */
extern char *tempo_otlp_http_listen_addresses;
extern char *tempo_zipkin_listen_addresses;
extern char *tempo_jaeger_grpc_listen_addresses;
extern char *tempo_jaeger_http_listen_addresses;
extern char *tempo_jaeger_compact_listen_addresses;
extern char *tempo_jaeger_binary_listen_addresses;
extern int   tempo_otlp_grpc_port; /* ports: 0 = off */
extern int   tempo_otlp_http_port;
extern int   tempo_zipkin_port;
extern int   tempo_jaeger_grpc_port;
extern int   tempo_jaeger_http_port;
extern int   tempo_jaeger_compact_port;
extern int   tempo_jaeger_binary_port;
extern int   tempo_http_port;
extern int   tempo_receiver_workers;
extern int   tempo_query_workers;
extern bool  tempo_multitenancy;
extern int   tempo_commit_delay; /* milliseconds */
extern int   tempo_otlp_max_message_bytes;
extern int   tempo_receiver_memory; /* kB */
extern int   tempo_retry_after;     /* seconds */

/* process_init: defines the settings above; first of the init functions */
extern void process_init(void);

/*
 * process_add_worker: a static background worker, to be called from a module's
 * init function.  "function" is its main function in this library and gets
 * its number, from 0, as argument.  "dynamic" says how many dynamic workers
 * each instance may start.
 */
extern void process_add_worker(const char *name, const char *function, int count, int dynamic);

/*
 * process_register: registers what was added, last of all in _PG_init.  Does
 * nothing unless the library is being preloaded by a postmaster that is to
 * run workers.
 */
extern void process_register(void);

/*
 * process_server_stopping: whether this process or the whole server is being
 * shut down.  The postmaster writes into its lock file that it stops before it
 * tells its children, so that who sees a sibling die of that knows why, even if
 * its own signal is yet to come.
 */
extern bool process_server_stopping(void);

/*
 * process_begin: what a listening process does first.  SIGHUP is noted for
 * process_reread_settings(), SIGTERM sets ShutdownRequestPending.  Joins the
 * server without choosing a database, as the autovacuum launcher does: so it
 * shows in pg_stat_activity, with "activity", and yet runs whatever becomes of
 * tempo_pg.database.
 */
extern void process_begin(const char *activity);

/*
 * process_interrupts: to be called in every round of a listening process:
 * settings to read again, and what other backends ask of one in the server.
 */
extern void process_interrupts(void);

/* How often settings have been read again, for who has to act on that. */
extern uint64 process_settings_read;

/* process_reread_settings: true if a SIGHUP had come and the settings were read again */
extern bool process_reread_settings(void);

#endif /* TEMPO_WORKER_PROCESS_H */
