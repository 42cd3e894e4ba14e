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
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

/* Tenants with counters of their own; the last slot is for all others. */
#define MAX_TENANTS 1024

/* Places where a tenant is looked for by its name; a power of two, and more than there can be. */
#define N_BUCKETS 4096

#define TRANCHE_NAME "tempo_pg_statistics"

typedef struct SharedStatistics
{
	LWLock             *lock; /* taken to add a tenant */
	pg_atomic_uint32    n_tenants;
	TransportStatistics transports[N_TRANSPORTS];
	Histogram           histograms[N_HISTOGRAMS];
	pg_atomic_uint32    buckets[N_BUCKETS]; /* number of a tenant + 1, 0 = free */
	TenantStatistics    tenants[MAX_TENANTS + 1];
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

static SharedStatistics       *shared;
static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;

static void
statistics_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(SharedStatistics));
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
	shared = ShmemInitStruct("tempo_pg statistics", sizeof(SharedStatistics), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(SharedStatistics));
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		pg_atomic_init_u32(&shared->n_tenants, 0);
		for (int i = 0; i < N_BUCKETS; i++)
			pg_atomic_init_u32(&shared->buckets[i], 0);
		for (int i = 0; i <= MAX_TENANTS; i++)
			init_tenant(&shared->tenants[i]);
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
		strcpy(shared->tenants[MAX_TENANTS].tenant, "__overflow__");
	}
	LWLockRelease(AddinShmemInitLock);
}

void
statistics_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = statistics_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = statistics_shmem_startup;
}

/* The tenant, or NULL with the bucket where it belongs; names are never taken away. */
static TenantStatistics *
find_tenant(SpanText name, uint32 *bucket)
{
	uint32 i = hash_bytes((const unsigned char *) name.data, (int) name.len) & (N_BUCKETS - 1);

	for (;;)
	{
		uint32 number = pg_atomic_read_u32(&shared->buckets[i]);

		if (number == 0)
			break;
		pg_read_barrier();
		if (span_text_is(name, shared->tenants[number - 1].tenant))
			return &shared->tenants[number - 1];
		i = (i + 1) & (N_BUCKETS - 1);
	}
	*bucket = i;
	return NULL;
}

static TenantStatistics *
add_tenant(SpanText name)
{
	TenantStatistics *tenant;
	uint32            bucket;
	uint32            n;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	tenant = find_tenant(name, &bucket);
	n = pg_atomic_read_u32(&shared->n_tenants);
	if (tenant == NULL && n < MAX_TENANTS)
	{
		tenant = &shared->tenants[n];
		memcpy(tenant->tenant, name.data, name.len);
		tenant->tenant[name.len] = '\0';
		pg_write_barrier();
		pg_atomic_write_u32(&shared->buckets[bucket], n + 1);
		pg_atomic_write_u32(&shared->n_tenants, n + 1);
	}
	LWLockRelease(shared->lock);
	return tenant;
}

TenantStatistics *
statistics_tenant(SpanText name)
{
	TenantStatistics *tenant;
	uint32            bucket;

	if (shared == NULL)
		return NULL;
	tenant = find_tenant(name, &bucket);
	if (tenant == NULL && name.len < sizeof(tenant->tenant) &&
	    pg_atomic_read_u32(&shared->n_tenants) < MAX_TENANTS)
		tenant = add_tenant(name);
	return tenant != NULL ? tenant : &shared->tenants[MAX_TENANTS];
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

void
statistics_each_tenant(void (*callback)(TenantStatistics *tenant, void *arg), void *arg)
{
	TenantStatistics *overflow;
	uint32            n;

	if (shared == NULL)
		return;
	n = pg_atomic_read_u32(&shared->n_tenants);
	pg_read_barrier();
	for (uint32 i = 0; i < n; i++)
		callback(&shared->tenants[i], arg);
	overflow = &shared->tenants[MAX_TENANTS];
	if (pg_atomic_read_u64(&overflow->requests) > 0)
		callback(overflow, arg);
}
