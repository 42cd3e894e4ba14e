/*-------------------------------------------------------------------------
 *
 * counts.h
 *	  What the gateway has done since it was started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_COUNTS_H
#define TEMPO_WORKER_COUNTS_H

#include "postgres.h"

#include "api/api.h"
#include "datatype/timestamp.h"

typedef struct GatewayCounts
{
	uint64 workers_started;
	uint64 workers_lost;
	uint64 cancelled; /* clients that left */
	uint64 given_up;  /* answers, for want of memory */
} GatewayCounts;

extern GatewayCounts gateway_counts;

/* count_request: a request that was answered with this status */
extern void count_request(const char *endpoint, int status, TimestampTz arrived);

/* counts_write_requests: these, as Prometheus text */
extern void counts_write_requests(ApiBody *body);

/* counts_write: one value, with what it is */
extern void counts_write(ApiBody *body, const char *name, const char *type, const char *help, double value);

#endif /* TEMPO_WORKER_COUNTS_H */
