/*-------------------------------------------------------------------------
 *
 * gateway.h
 *	  The process that serves the Tempo API.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_GATEWAY_H
#define TEMPO_WORKER_GATEWAY_H

extern void gateway_init(void); /* from _PG_init, after process_init */

#endif /* TEMPO_WORKER_GATEWAY_H */
