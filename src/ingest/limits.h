/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  What a tenant may send.
 *
 * The settings tempo_pg.* are the defaults, rows of tempo.overrides replace
 * them column by column.  Each process keeps the rows and reads them again
 * when the table has changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_LIMITS_H
#define TEMPO_INGEST_LIMITS_H

#include "postgres.h"

#include "span/value.h"

/* 0 = no limit, everywhere. */
typedef struct TenantLimits
{
	int64 rate;  /* bytes per second */
	int64 burst; /* bytes at once */
	int64 max_bytes_per_trace;
	int64 max_live_traces;
	int64 max_attribute_bytes;
} TenantLimits;

/* limits_init: defines the settings */
extern void limits_init(void);

extern TenantLimits limits_default(void);

/* limits_of: in a transaction, since it may have to read tempo.overrides */
extern TenantLimits limits_of(SpanText tenant);

/*
 * limits_take: takes "bytes" of what the tenant may send now, all or nothing;
 * false = too much.  Without preloading nothing is counted and all may pass.
 */
extern bool limits_take(SpanText tenant, const TenantLimits *limits, uint64 bytes);

#endif /* TEMPO_INGEST_LIMITS_H */
