/*-------------------------------------------------------------------------
 *
 * receiver.h
 *	  The processes that receive spans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_RECEIVER_H
#define TEMPO_WORKER_RECEIVER_H

/* receiver_init: adds the receivers to the background workers */
extern void receiver_init(void);

#endif /* TEMPO_WORKER_RECEIVER_H */
