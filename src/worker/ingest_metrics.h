/*-------------------------------------------------------------------------
 *
 * ingest_metrics.h
 *	  The counters of the receivers as Prometheus text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_INGEST_METRICS_H
#define TEMPO_WORKER_INGEST_METRICS_H

#include "api/body.h"

extern void write_ingest_metrics(ApiBody *body);

#endif /* TEMPO_WORKER_INGEST_METRICS_H */
