/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  Messages between a listening process and the workers behind it.
 *
 * Listening processes (gateway, receivers) have no database connection, so
 * that they answer whatever the state of the database.  Work that needs the
 * database goes to background workers that a listening process starts, each
 * over a pair of shm_mqs in a DSM segment of its own.
 *
 * A message has a request id chosen by the listening side, a type and a
 * payload.  Sending never blocks on the listening side: what does not fit
 * waits in local memory and queue_flush() goes on with it; queue_pending()
 * tells how much waits, for back-pressure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_QUEUE_H
#define TEMPO_WORKER_QUEUE_H

#include "postgres.h"

typedef struct WorkerQueue WorkerQueue;

typedef struct QueueMessage
{
	uint64      request_id;
	uint32      type;    /* meaning is up to the two sides */
	const char *payload; /* valid until the next queue_receive */
	Size        len;
} QueueMessage;

/* ------------------------------------------------ the listening side */

/*
 * queue_launch: registers a dynamic background worker that runs "function" of
 * this library with the queue as its argument, with bgw_name "name" and
 * bgw_type "type".  NULL when no slot (max_worker_processes) or no shared
 * memory is to be had; *reason says which, for the answer to the client.
 */
extern WorkerQueue *queue_launch(const char *function, const char *name, const char *type,
                                 Size queue_size, const char **reason);

/*
 * queue_alive: false once the worker has gone.  Drain queue_receive first;
 * what has not been answered then is lost.
 */
extern bool queue_alive(WorkerQueue *queue);

/* queue_send: queues one message; the payload is copied */
extern void queue_send(WorkerQueue *queue, uint64 request_id, uint32 type,
                       const void *payload, Size len);

/*
 * queue_send_body: the same with a second part in memory of malloc's, which is
 * the queue's from then on.
 */
extern void queue_send_body(WorkerQueue *queue, uint64 request_id, uint32 type,
                            const void *payload, Size len, char *body, Size body_len);
extern void queue_flush(WorkerQueue *queue);
extern Size queue_pending(const WorkerQueue *queue);

/* queue_destroy: detaches; the worker sees it and exits */
extern void queue_destroy(WorkerQueue *queue);

/* queue_cancel: interrupts what the worker is doing (like pg_cancel_backend) */
extern void queue_cancel(WorkerQueue *queue);

/* ------------------------------------------------------- both sides */

/*
 * queue_receive: the next message, or false if there is none now.  Both sides'
 * latches are set when the other has sent or taken something.
 */
extern bool queue_receive(WorkerQueue *queue, QueueMessage *message);

/*
 * queue_keep: the payload of the message just received becomes the caller's,
 * who gives it to pfree; NULL if it was so small that it has no memory of its
 * own and must be copied.
 */
extern char *queue_keep(WorkerQueue *queue);

/* ------------------------------------------------------ the worker side */

/* queue_attach: in the worker's main function, before connecting to the database */
extern WorkerQueue *queue_attach(Datum main_arg);

/* queue_closed: has the listening side gone? */
extern bool queue_closed(WorkerQueue *queue);

/*
 * queue_reply: sends one message, waiting for room if need be (the listening
 * side always drains); false when the other side has gone.
 */
extern bool queue_reply(WorkerQueue *queue, uint64 request_id, uint32 type,
                        const void *payload, Size len);

#endif /* TEMPO_WORKER_QUEUE_H */
