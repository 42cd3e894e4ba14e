/*-------------------------------------------------------------------------
 *
 * live_traces.c
 *	  The traces in the making of tenants that have a limit on them.
 *
 * A trace is in the making while spans of it come.  The table is in shared
 * memory, has a fixed size, and is threaded twice: by chains of equal hash,
 * and by the time of the last span, so that what is idle is found without
 * looking.  Tenants without such limits never touch it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/hashfn.h"
#include "ingest/live_traces.h"
#include "ingest/statistics.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#define TRANCHE_NAME "tempo_pg_live_traces"

#define NO_TRACE PG_UINT32_MAX

typedef struct LiveTrace
{
	uint64      key; /* hash of tenant and trace id; that two are equal is not to be expected */
	uint64      bytes;
	TimestampTz seen;
	uint32      tenant; /* statistics_number() */
	uint32      next;   /* in its chain, or of the free ones */
	uint32      older;  /* by "seen" */
	uint32      newer;
} LiveTrace;

typedef struct LiveTraces
{
	LWLock   *lock;
	uint32    free;
	uint32    oldest;
	uint32    newest;
	uint32    buckets[LIVE_TRACES_MAX];
	LiveTrace traces[LIVE_TRACES_MAX];
} LiveTraces;

/* What is to become of the spans of a trace in one request. */
typedef struct Verdict
{
	TraceId trace_id; /* hash key */
	uint32  spans;
	bool    decided;
	bool    too_large;
	bool    too_many;
} Verdict;

static int                     live_trace_idle;
static LiveTraces             *shared;
static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;

static void
live_traces_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(LiveTraces));
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

static void
live_traces_shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tempo_pg live traces", sizeof(LiveTraces), &found);
	if (!found)
	{
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		shared->oldest = shared->newest = NO_TRACE;
		shared->free = 0;
		for (uint32 i = 0; i < LIVE_TRACES_MAX; i++)
		{
			shared->buckets[i] = NO_TRACE;
			shared->traces[i].next = i + 1 < LIVE_TRACES_MAX ? i + 1 : NO_TRACE;
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
live_traces_init(void)
{
	DefineCustomIntVariable("tempo_pg.live_trace_idle",
	                        "A trace is no longer in the making when no span of it has come for so long.",
	                        "For tempo_pg.max_live_traces and tempo_pg.ingestion_max_bytes_per_trace.",
	                        &live_trace_idle, 10000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = live_traces_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = live_traces_shmem_startup;
}

/* ------------------------------------------------------------- the table */

static inline uint32 *
bucket_of(uint64 key)
{
	return &shared->buckets[key & (LIVE_TRACES_MAX - 1)];
}

static void
unlink_by_time(uint32 number)
{
	LiveTrace *trace = &shared->traces[number];

	*(trace->older == NO_TRACE ? &shared->oldest : &shared->traces[trace->older].newer) = trace->newer;
	*(trace->newer == NO_TRACE ? &shared->newest : &shared->traces[trace->newer].older) = trace->older;
}

static void
make_newest(uint32 number, TimestampTz now)
{
	LiveTrace *trace = &shared->traces[number];

	trace->seen = now;
	trace->older = shared->newest;
	trace->newer = NO_TRACE;
	*(shared->newest == NO_TRACE ? &shared->oldest : &shared->traces[shared->newest].newer) = number;
	shared->newest = number;
}

static void
forget_oldest(void)
{
	uint32     number = shared->oldest;
	LiveTrace *trace = &shared->traces[number];
	uint32    *link = bucket_of(trace->key);

	while (*link != number)
		link = &shared->traces[*link].next;
	*link = trace->next;
	unlink_by_time(number);
	pg_atomic_fetch_sub_u32(&statistics_by_number(trace->tenant)->live_traces, 1);
	trace->next = shared->free;
	shared->free = number;
}

static void
forget_idle(TimestampTz now)
{
	while (shared->oldest != NO_TRACE &&
	       TimestampDifferenceExceeds(shared->traces[shared->oldest].seen, now, live_trace_idle))
		forget_oldest();
}

static LiveTrace *
find_trace(uint64 key)
{
	for (uint32 i = *bucket_of(key); i != NO_TRACE; i = shared->traces[i].next)
		if (shared->traces[i].key == key)
			return &shared->traces[i];
	return NULL;
}

static LiveTrace *
add_trace(uint64 key, TenantStatistics *tenant, TimestampTz now)
{
	LiveTrace *trace;
	uint32     number;

	if (shared->free == NO_TRACE)
		forget_oldest();
	number = shared->free;
	trace = &shared->traces[number];
	shared->free = trace->next;
	trace->key = key;
	trace->bytes = 0;
	trace->tenant = statistics_number(tenant);
	trace->next = *bucket_of(key);
	*bucket_of(key) = number;
	make_newest(number, now);
	pg_atomic_fetch_add_u32(&tenant->live_traces, 1);
	return trace;
}

/* ---------------------------------------------------------------- filter */

/* With the lock held. */
static void
decide(Verdict *verdict, TenantStatistics *tenant, const TenantLimits *limits, uint64 bytes, TimestampTz now)
{
	uint64     key = hash_bytes_extended(verdict->trace_id.bytes, TRACE_ID_LEN, statistics_number(tenant));
	LiveTrace *trace = find_trace(key);

	verdict->decided = true;
	if (trace == NULL)
	{
		if (limits->max_live_traces > 0 &&
		    pg_atomic_read_u32(&tenant->live_traces) >= limits->max_live_traces)
		{
			verdict->too_many = true;
			return;
		}
		trace = add_trace(key, tenant, now);
	}
	else
	{
		uint32 number = (uint32) (trace - shared->traces);

		unlink_by_time(number);
		make_newest(number, now);
	}

	/* what is left out counts, too: a trace that has become too large stays so */
	trace->bytes += bytes;
	verdict->too_large = limits->max_bytes_per_trace > 0 && trace->bytes > (uint64) limits->max_bytes_per_trace;
}

static HTAB *
count_traces(const SpanBatch *batch, uint32 first)
{
	HASHCTL control;
	HTAB   *verdicts;

	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(TraceId);
	control.entrysize = sizeof(Verdict);
	control.hcxt = CurrentMemoryContext;
	verdicts = hash_create("tempo_pg traces of a request", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (uint32 i = first; i < batch->n_spans; i++)
	{
		bool     found;
		Verdict *verdict = hash_search(verdicts, &batch->spans[i].trace_id, HASH_ENTER, &found);

		if (!found)
		{
			verdict->spans = 0;
			verdict->decided = verdict->too_large = verdict->too_many = false;
		}
		verdict->spans++;
	}
	return verdicts;
}

LiveTracesResult
live_traces_filter(SpanText name, const TenantLimits *limits, SpanBatch *batch, uint32 first, uint64 bytes)
{
	LiveTracesResult  result = {0, 0};
	TenantStatistics *tenant = statistics_tenant(name);
	TimestampTz       now = GetCurrentTimestamp();
	uint32            n_spans = batch->n_spans - first;
	uint32            kept = first;
	HTAB             *verdicts;

	if (shared == NULL || tenant == NULL || n_spans == 0)
		return result;
	verdicts = count_traces(batch, first);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	forget_idle(now);
	for (uint32 i = first; i < batch->n_spans; i++)
	{
		Verdict *verdict = hash_search(verdicts, &batch->spans[i].trace_id, HASH_FIND, NULL);

		/* the bytes of a request are shared by its spans */
		if (!verdict->decided)
			decide(verdict, tenant, limits, bytes * verdict->spans / n_spans, now);
		if (verdict->too_large)
			result.too_large++;
		else if (verdict->too_many)
			result.too_many++;
		else if (kept++ != i)
			batch->spans[kept - 1] = batch->spans[i];
	}
	LWLockRelease(shared->lock);
	hash_destroy(verdicts);
	span_batch_truncate(batch, kept);
	return result;
}
