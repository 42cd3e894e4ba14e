/*-------------------------------------------------------------------------
 *
 * pool.h
 *	  The query workers of the gateway, and the requests that wait for one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_POOL_H
#define TEMPO_WORKER_POOL_H

#include "postgres.h"

#include "worker/waiting.h"

typedef struct PoolNumbers
{
	int waiting; /* requests without a worker */
	int running; /* workers */
	int busy;
} PoolNumbers;

/* pool_add: gives the request to a worker, or lets it wait for one; its end is in waiting.c */
extern void pool_add(Waiting *request);

/* pool_run: hears what workers say, and gives them what waits */
extern void pool_run(void);

/* pool_send_partials: sends what is due; returns the milliseconds until something else is, -1 = nothing */
extern int pool_send_partials(void);

/* pool_any_worker: is there one, or one that has a request? */
extern bool pool_any_worker(bool busy);

/* pool_all_busy: would a further request have to wait? */
extern bool pool_all_busy(void);

extern PoolNumbers pool_numbers(void);

#endif /* TEMPO_WORKER_POOL_H */
