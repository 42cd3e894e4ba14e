/*-------------------------------------------------------------------------
 *
 * statistics.c
 *	  What was received, by tenant and by transport, since the server started.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "ingest/statistics.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

/*
 * What all tenants without counters of their own have.  They are spread over it
 * by their names, for the sake of the limits: who invents tenants does not use
 * up the rate of each of them.  Shown is the sum.
 */
#define N_OVERFLOW 256
#define OVERFLOW_NAME "__overflow__"

#define TRANCHE_NAME "tempo_pg_statistics"

typedef struct SharedStatistics
{
	LWLock             *lock; /* taken to add a tenant */
	pg_atomic_uint32    n_tenants;
	TransportStatistics transports[N_TRANSPORTS];
	Histogram           histograms[N_HISTOGRAMS];
	TenantStatistics    tenants[FLEXIBLE_ARRAY_MEMBER]; /* max_tenants, then N_OVERFLOW; then the buckets */
} SharedStatistics;

const char *const discard_reason_names[N_DISCARD_REASONS] = {
	[DISCARD_INVALID_TRACE_ID] = "invalid_trace_id",
	[DISCARD_INVALID_SPAN_ID] = "invalid_span_id",
	[DISCARD_INVALID_TIME] = "invalid_time",
	[DISCARD_RATE_LIMITED] = "rate_limited",
	[DISCARD_TRACE_TOO_LARGE] = "trace_too_large",
	[DISCARD_LIVE_TRACES_EXCEEDED] = "live_traces_exceeded",
	[DISCARD_UNKNOWN_ERROR] = "unknown_error"};

const TransportName transport_names[N_TRANSPORTS] = {
	[TRANSPORT_GRPC] = {"otlp/otlp_receiver", "grpc"},
	[TRANSPORT_HTTP] = {"otlp/otlp_receiver", "http"},
	[TRANSPORT_ZIPKIN_JSON] = {"zipkin/zipkin_receiver", "http_v2_json"},
	[TRANSPORT_ZIPKIN_PROTO] = {"zipkin/zipkin_receiver", "http_v2_proto"},
	[TRANSPORT_ZIPKIN_V1_JSON] = {"zipkin/zipkin_receiver", "http_v1_json"},
	[TRANSPORT_ZIPKIN_THRIFT] = {"zipkin/zipkin_receiver", "http_v1_thrift"},
	[TRANSPORT_JAEGER_GRPC] = {"jaeger/jaeger_receiver", "grpc"},
	[TRANSPORT_JAEGER_HTTP] = {"jaeger/jaeger_receiver", "collector_http"},
	[TRANSPORT_JAEGER_COMPACT] = {"jaeger/jaeger_receiver", "udp_thrift_compact"},
	[TRANSPORT_JAEGER_BINARY] = {"jaeger/jaeger_receiver", "udp_thrift_binary"}};

const HistogramInfo histogram_infos[N_HISTOGRAMS] = {
	[HISTOGRAM_TRACES_PER_BATCH] = {"tempo_distributor_traces_per_batch", "Traces in a request.", 10, {2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, 1},
	[HISTOGRAM_PUSH_DURATION] = {"tempo_distributor_push_duration_seconds", "Time from the whole request to its answer.", 11, {5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000}, 1e6}};

static int                     max_tenants; /* with counters of their own */
static SharedStatistics       *shared;
static pg_atomic_uint32       *buckets; /* number of a tenant + 1, 0 = free */
static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;

/* Places where a tenant is looked for by its name; a power of two, and more than there can be. */
static uint32
n_buckets(void)
{
	return pg_nextpower2_32(4 * (uint32) max_tenants);
}

static Size
shared_size(void)
{
	return offsetof(SharedStatistics, tenants) + ((Size) max_tenants + N_OVERFLOW) * sizeof(TenantStatistics) +
	       n_buckets() * sizeof(pg_atomic_uint32);
}

static void
statistics_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

static void
init_tenant(TenantStatistics *tenant)
{
	pg_atomic_init_u64(&tenant->ingress_bytes, 0);
	pg_atomic_init_u64(&tenant->bytes_received, 0);
	pg_atomic_init_u64(&tenant->spans_received, 0);
	for (int i = 0; i < N_DISCARD_REASONS; i++)
		pg_atomic_init_u64(&tenant->discarded[i], 0);
	pg_atomic_init_u64(&tenant->truncated, 0);
	pg_atomic_init_u64(&tenant->sanitized, 0);
	pg_atomic_init_u64(&tenant->repeated, 0);
	pg_atomic_init_u64(&tenant->requests, 0);
	pg_atomic_init_u64(&tenant->refused, 0);
	pg_atomic_init_u32(&tenant->live_traces, 0);
	SpinLockInit(&tenant->mutex);
}

static void
statistics_shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tempo_pg statistics", shared_size(), &found);
	buckets = (pg_atomic_uint32 *) &shared->tenants[max_tenants + N_OVERFLOW];
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		pg_atomic_init_u32(&shared->n_tenants, 0);
		for (uint32 i = 0; i < n_buckets(); i++)
			pg_atomic_init_u32(&buckets[i], 0);
		for (int i = 0; i < max_tenants + N_OVERFLOW; i++)
		{
			init_tenant(&shared->tenants[i]);
			if (i >= max_tenants)
				strcpy(shared->tenants[i].tenant, OVERFLOW_NAME);
		}
		for (int i = 0; i < N_TRANSPORTS; i++)
		{
			pg_atomic_init_u64(&shared->transports[i].accepted_spans, 0);
			pg_atomic_init_u64(&shared->transports[i].refused_spans, 0);
			pg_atomic_init_u64(&shared->transports[i].requests, 0);
			pg_atomic_init_u64(&shared->transports[i].failed_requests, 0);
			pg_atomic_init_u64(&shared->transports[i].dropped, 0);
		}
		for (int i = 0; i < N_HISTOGRAMS; i++)
		{
			for (int bucket = 0; bucket <= HISTOGRAM_BUCKETS; bucket++)
				pg_atomic_init_u64(&shared->histograms[i].counts[bucket], 0);
			pg_atomic_init_u64(&shared->histograms[i].sum, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
statistics_init(void)
{
	DefineCustomIntVariable("tempo_pg.max_tenants",
	                        "Number of tenants with counters and an ingestion rate of their own.",
	                        "Later ones have common counters, and share rates with some others; each takes about 320 bytes of shared memory.",
	                        &max_tenants, 1024, 1, 1024 * 1024,
	                        process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
	                        0, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = statistics_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = statistics_shmem_startup;
}

/* The tenant, or NULL with the bucket where it belongs; names are never taken away. */
static TenantStatistics *
find_tenant(SpanText name, uint32 hash, uint32 *bucket)
{
	uint32 mask = n_buckets() - 1;
	uint32 i = hash & mask;

	for (;;)
	{
		uint32 number = pg_atomic_read_u32(&buckets[i]);

		if (number == 0)
			break;
		pg_read_barrier();
		if (span_text_is(name, shared->tenants[number - 1].tenant))
			return &shared->tenants[number - 1];
		i = (i + 1) & mask;
	}
	*bucket = i;
	return NULL;
}

static TenantStatistics *
add_tenant(SpanText name, uint32 hash)
{
	TenantStatistics *tenant;
	uint32            bucket;
	uint32            n;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	tenant = find_tenant(name, hash, &bucket);
	n = pg_atomic_read_u32(&shared->n_tenants);
	if (tenant == NULL && n < (uint32) max_tenants)
	{
		tenant = &shared->tenants[n];
		memcpy(tenant->tenant, name.data, name.len);
		tenant->tenant[name.len] = '\0';
		pg_write_barrier();
		pg_atomic_write_u32(&buckets[bucket], n + 1);
		pg_atomic_write_u32(&shared->n_tenants, n + 1);
	}
	LWLockRelease(shared->lock);
	return tenant;
}

TenantStatistics *
statistics_tenant(SpanText name)
{
	TenantStatistics *tenant;
	uint32            hash;
	uint32            bucket;

	if (shared == NULL)
		return NULL;
	hash = hash_bytes((const unsigned char *) name.data, (int) name.len);
	tenant = find_tenant(name, hash, &bucket);
	if (tenant == NULL && name.len < sizeof(tenant->tenant) &&
	    pg_atomic_read_u32(&shared->n_tenants) < (uint32) max_tenants)
		tenant = add_tenant(name, hash);
	return tenant != NULL ? tenant : &shared->tenants[(uint32) max_tenants + hash % N_OVERFLOW];
}

uint32
statistics_number(const TenantStatistics *tenant)
{
	return (uint32) (tenant - shared->tenants);
}

TenantStatistics *
statistics_by_number(uint32 number)
{
	return &shared->tenants[number];
}

TransportStatistics *
statistics_transport(ReceiverTransport transport)
{
	return shared == NULL ? NULL : &shared->transports[transport];
}

Histogram *
statistics_histogram(HistogramKind kind)
{
	return shared == NULL ? NULL : &shared->histograms[kind];
}

void
statistics_observe(HistogramKind kind, uint64 value)
{
	const HistogramInfo *info = &histogram_infos[kind];
	int                  bucket = 0;

	if (shared == NULL)
		return;
	while (bucket < info->n_bounds && value > info->bounds[bucket])
		bucket++;
	pg_atomic_fetch_add_u64(&shared->histograms[kind].counts[bucket], 1);
	pg_atomic_fetch_add_u64(&shared->histograms[kind].sum, value);
}

static void
add_counter(pg_atomic_uint64 *sum, pg_atomic_uint64 *counter)
{
	pg_atomic_write_u64(sum, pg_atomic_read_u64(sum) + pg_atomic_read_u64(counter));
}

/* The counters of all tenants without their own */
static void
sum_overflow(TenantStatistics *sum)
{
	memset(sum, 0, sizeof(*sum));
	init_tenant(sum);
	strcpy(sum->tenant, OVERFLOW_NAME);
	for (int i = 0; i < N_OVERFLOW; i++)
	{
		TenantStatistics *part = &shared->tenants[max_tenants + i];

		add_counter(&sum->requests, &part->requests);
		add_counter(&sum->refused, &part->refused);
		add_counter(&sum->repeated, &part->repeated);
		add_counter(&sum->ingress_bytes, &part->ingress_bytes);
		add_counter(&sum->bytes_received, &part->bytes_received);
		add_counter(&sum->spans_received, &part->spans_received);
		for (int reason = 0; reason < N_DISCARD_REASONS; reason++)
			add_counter(&sum->discarded[reason], &part->discarded[reason]);
		add_counter(&sum->truncated, &part->truncated);
		add_counter(&sum->sanitized, &part->sanitized);
		pg_atomic_write_u32(&sum->live_traces, pg_atomic_read_u32(&sum->live_traces) + pg_atomic_read_u32(&part->live_traces));
	}
}

void
statistics_each_tenant(void (*callback)(TenantStatistics *tenant, void *arg), void *arg)
{
	TenantStatistics overflow;
	uint32           n;

	if (shared == NULL)
		return;
	n = pg_atomic_read_u32(&shared->n_tenants);
	pg_read_barrier();
	for (uint32 i = 0; i < n; i++)
		callback(&shared->tenants[i], arg);
	sum_overflow(&overflow);
	if (pg_atomic_read_u64(&overflow.requests) > 0)
		callback(&overflow, arg);
}
