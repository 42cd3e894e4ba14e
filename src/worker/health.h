/*-------------------------------------------------------------------------
 *
 * health.h
 *	  grpc.health.v1.Health of the gateway.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_HEALTH_H
#define TEMPO_WORKER_HEALTH_H

#include "postgres.h"

#include "net/server.h"

typedef enum HealthCall
{
	HEALTH_NO_CALL,  /* of another service */
	HEALTH_ANSWERED, /* wrong in some way, and told so */
	HEALTH_CHECK,
	HEALTH_WATCH
} HealthCall;

/* health_read: what kind of call is it?  "services" are those that there are, and NULL. */
extern HealthCall health_read(NetRequest *net, const char *const *services);

/* health_answer: answers a call; one that watches hears of changes from then on */
extern void health_answer(NetRequest *net, HealthCall call, bool serving);

/* health_learned: the services can be used, or not */
extern void health_learned(bool serving);

/* health_stop: no more changes */
extern void health_stop(void);

#endif /* TEMPO_WORKER_HEALTH_H */
