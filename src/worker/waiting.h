/*-------------------------------------------------------------------------
 *
 * waiting.h
 *	  A request of the Tempo API that waits for its answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_WAITING_H
#define TEMPO_WORKER_WAITING_H

#include "postgres.h"

#include "api/api.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "net/server.h"
#include "worker/credentials.h"
#include "worker/health.h"
#include "worker/query.h"
#include "worker/queue.h"

/* A request that takes the database. */
typedef struct Waiting
{
	dlist_node   node; /* in "waiting", while no worker has it */
	NetRequest  *net;  /* NULL once the client has gone */
	uint64       id;
	QueryMessage type; /* QUERY_RUN, QUERY_PING for /ready, QUERY_STATISTICS for /metrics */
	TimestampTz  arrived;

	/* QUERY_STREAM: the endpoint that it comes down to */
	char *path;
	char *query;

	Credentials credentials;
	bool        rejected; /* by the worker: they prove no role */
	HealthCall  health;   /* QUERY_PING for gRPC's health service */

	/* the answer so far; the texts of its head are in head_texts */
	ApiResponse head;
	char       *head_texts;
	char       *body; /* or messages of QUERY_PARTIAL, each behind its length */
	Size        len;
	Size        room;
	TimestampTz partial_sent; /* the last of those */
	TimestampTz partial_due;  /* when those are sent, unless the answer is complete by then; 0 = there are none */
} Waiting;

extern int tempo_gateway_memory;  /* kB */
extern int tempo_stream_interval; /* ms */

/* waiting_init: whose answers take the memory */
extern void waiting_init(const NetServer *server);

/* tenant_header: the X-Scope-OrgID of a request, NULL if it has not just one: a proxy may have added the right one */
extern const char *tenant_header(const NetRequest *request);

extern Waiting *waiting_create(NetRequest *net, QueryMessage type);
extern void     waiting_free(Waiting *request);

/* --------------------------------------------------- what a worker says */

extern void waiting_read_head(Waiting *request, const QueueMessage *message);
extern void waiting_add_body(Waiting *request, const QueueMessage *message);

/*
 * waiting_add_partial: what a query has found so far waits a while: most are
 * complete by then, and their streams have the complete answer only.
 */
extern void waiting_add_partial(Waiting *request, const QueueMessage *message);
extern void waiting_send_partial(Waiting *request);

/* ----------------------------------------------------------------- memory */

/* waiting_gathered: bytes of answers that are not whole yet */
extern Size waiting_gathered(void);

/* waiting_memory_is_full: do answers that have not been read take all there is for them? */
extern bool waiting_memory_is_full(void);

/* waiting_has_room: is there memory for more of an answer?  "oldest": of those being gathered. */
extern bool waiting_has_room(const Waiting *request, bool oldest);

/* waiting_drop_answer: nobody waits for it any more; what the worker has yet to say of it is not wanted */
extern void waiting_drop_answer(Waiting *request);

/* waiting_give_up: answers that there is no memory for the answer */
extern void waiting_give_up(Waiting *request);

/* ---------------------------------------------- ends; each frees the request */

extern void waiting_finish(Waiting *request);
extern void waiting_finish_text(Waiting *request, int status, const char *text);
extern void waiting_finish_unavailable(Waiting *request, const char *reason, const char *hint);

/* waiting_finish_metrics: our own statistics, and what the worker told of what is stored */
extern void waiting_finish_metrics(Waiting *request, bool up);

/* answer_at_once: a request for which no worker is needed */
extern void answer_at_once(NetRequest *net, ApiResponse *response, TimestampTz arrived);

#endif /* TEMPO_WORKER_WAITING_H */
