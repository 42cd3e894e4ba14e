/*-------------------------------------------------------------------------
 *
 * live_traces.h
 *	  The traces in the making of tenants that have a limit on them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_LIVE_TRACES_H
#define TEMPO_INGEST_LIVE_TRACES_H

#include "postgres.h"

#include "ingest/limits.h"
#include "span/batch.h"

/* Traces that are known at once; of more, the one that is idle longest is forgotten. */
#define LIVE_TRACES_MAX 65536

/* What the limits left out of a request. */
typedef struct LiveTracesResult
{
	uint64 too_large; /* spans of traces that have become too large */
	uint64 too_many;  /* spans of traces beyond the number */
} LiveTracesResult;

extern void live_traces_init(void);

/*
 * live_traces_filter: counts the spans from "first" on, of a request with so
 * many bytes, to their traces, and takes those out of the batch that the
 * limits do not allow.
 */
extern LiveTracesResult live_traces_filter(SpanText tenant, const TenantLimits *limits, SpanBatch *batch,
                                           uint32 first, uint64 bytes);

#endif /* TEMPO_INGEST_LIVE_TRACES_H */
