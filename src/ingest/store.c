/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Requests into tempo.spans, each exactly once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "ingest/limits.h"
#include "ingest/live_traces.h"
#include "ingest/recent.h"
#include "ingest/statistics.h"
#include "ingest/store.h"
#include "port/pg_bitutils.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static bool reject_whole_batch = true;

typedef bool (*Decoder)(const char *body, size_t len, const DecodeOptions *options,
                        SpanBatch *batch, DecodeResult *result, SpanError *error);

static const Decoder decoders[] = {
	[WIRE_OTLP_PROTO] = decode_otlp_proto,
	[WIRE_OTLP_JSON] = decode_otlp_json,
	[WIRE_ZIPKIN_JSON] = decode_zipkin_json,
	[WIRE_ZIPKIN_PROTO] = decode_zipkin_proto,
	[WIRE_ZIPKIN_V1_JSON] = decode_zipkin_v1_json,
	[WIRE_ZIPKIN_THRIFT] = decode_zipkin_thrift,
	[WIRE_JAEGER_PROTO] = decode_jaeger_proto,
	[WIRE_JAEGER_THRIFT] = decode_jaeger_thrift,
	[WIRE_JAEGER_COMPACT] = decode_jaeger_compact,
	[WIRE_JAEGER_BINARY] = decode_jaeger_binary,
	[WIRE_JAEGER_JSON] = decode_jaeger_json};

void
store_init(void)
{
	DefineCustomBoolVariable("tempo_pg.reject_whole_batch",
	                         "Refuses a whole request for one span with an invalid id.",
	                         "When off, only such spans are refused, and the answer tells how many.",
	                         &reject_whole_batch, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static bool
decode_request(StoreRequest *request, const TenantLimits *limits, SpanBatch *batch)
{
	DecodeOptions options;

	request->error.code = SPAN_ERROR_NONE;
	options.tenant = request->tenant;
	options.max_attribute_bytes = (uint32) limits->max_attribute_bytes;
	options.reject_whole_batch = reject_whole_batch;
	return decoders[request->format](request->body, request->len, &options, batch, &request->result, &request->error);
}

/* May the tenant send so much now?  If not, the spans count as discarded. */
static bool
admit(StoreRequest *request, const TenantLimits *limits)
{
	DecodeResult *result = &request->result;

	if (request->admitted == NULL || *request->admitted)
		return true;
	*request->admitted = limits_take(request->tenant, limits, request->len);
	if (*request->admitted)
		return true;
	if (limits->burst > 0)
		(void) span_error(&request->error, SPAN_ERROR_LIMIT,
		                  "RATE_LIMITED: tenant %.*s may send %lld bytes a second and %lld at once, and this request has %llu",
		                  (int) request->tenant.len, request->tenant.data, (long long) limits->rate,
		                  (long long) limits->burst, (unsigned long long) request->len);
	else
		(void) span_error(&request->error, SPAN_ERROR_LIMIT,
		                  "RATE_LIMITED: tenant %.*s may send %lld bytes a second, and this request has %llu",
		                  (int) request->tenant.len, request->tenant.data, (long long) limits->rate,
		                  (unsigned long long) request->len);
	result->rate_limited = result->spans;
	result->spans = 0;
	return false;
}

/* Leaves out the spans of traces that are too large or too many. */
static void
limit_traces(StoreRequest *request, const TenantLimits *limits, SpanBatch *batch, uint32 first)
{
	DecodeResult    *result = &request->result;
	LiveTracesResult left_out;

	if (limits->max_bytes_per_trace == 0 && limits->max_live_traces == 0)
		return;
	left_out = live_traces_filter(request->tenant, limits, batch, first, request->len);
	result->spans = batch->n_spans - first;
	result->trace_too_large = left_out.too_large;
	result->live_traces_exceeded = left_out.too_many;
	if (left_out.too_large + left_out.too_many == 0)
		return;
	if (result->rejected == 0 && left_out.too_large > 0)
		snprintf(result->rejected_message, sizeof(result->rejected_message),
		         "TRACE_TOO_LARGE: of one trace at most %lld bytes are stored", (long long) limits->max_bytes_per_trace);
	else if (result->rejected == 0)
		snprintf(result->rejected_message, sizeof(result->rejected_message),
		         "LIVE_TRACES_EXCEEDED: at most %lld traces may be in the making", (long long) limits->max_live_traces);
	result->rejected += left_out.too_large + left_out.too_many;
}

/* How many traces do the spans from "first" on have?  For a metric: 64 bits of the ids will do. */
static uint32
count_traces(const SpanBatch *batch, uint32 first)
{
	uint32  n_slots = pg_nextpower2_32(Max(batch->n_spans - first, 8)) * 2;
	uint64 *slots = palloc0(sizeof(uint64) * n_slots);
	uint64  last = 0;
	uint32  n = 0;

	for (uint32 i = first; i < batch->n_spans; i++)
	{
		uint64 id;
		uint32 at;

		memcpy(&id, batch->spans[i].trace_id.bytes + TRACE_ID_LEN - sizeof(id), sizeof(id));
		id |= 1; /* 0 is a free slot */
		if (id == last)
			continue;
		last = id;
		for (at = (uint32) (id >> 32) & (n_slots - 1); slots[at] != 0 && slots[at] != id; at = (at + 1) & (n_slots - 1))
			;
		n += slots[at] == 0;
		slots[at] = id;
	}
	pfree(slots);
	return n;
}

/* Decodes one request and keeps its spans in the batch if they are to be stored. */
static void
take_request(Relation rel, StoreRequest *request, bool wait, SpanBatch *batch)
{
	TenantLimits limits = limits_of(request->tenant);
	uint32       before = batch->n_spans;

	if (!decode_request(request, &limits, batch))
	{
		request->outcome = STORE_REFUSED;
		return;
	}
	if (batch->n_spans == before)
	{
		request->outcome = STORE_NOTHING;
		return;
	}
	if (!admit(request, &limits))
	{
		request->outcome = STORE_LIMITED;
		span_batch_truncate(batch, before);
		return;
	}
	switch (recent_claim(rel, &request->hash, wait))
	{
		case RECENT_NEW:
			request->outcome = STORE_APPENDED;
			statistics_observe(HISTOGRAM_TRACES_PER_BATCH, count_traces(batch, before));
			if (request->admitted != NULL)
				limit_traces(request, &limits, batch, before);
			return;
		case RECENT_STORED:
		case RECENT_MINE:
			request->outcome = STORE_REPEATED;
			break;
		case RECENT_BUSY:
			request->outcome = STORE_BUSY;
			break;
	}
	span_batch_truncate(batch, before);
}

static void
append_batch(Relation rel, SpanBatch *batch, const RequestHash *hashes, int n_hashes)
{
	if (batch->n_spans == 0)
		return;
	if (tempo_append_is_plain(rel))
		tempo_append_batch(rel, batch, hashes, n_hashes);
	else
		tempo_insert_batch(rel, batch, hashes, n_hashes);
}

void
store_requests(Relation rel, StoreRequest *requests, int n_requests, bool wait, SpanBatch *batch)
{
	RequestHash *hashes = palloc(sizeof(RequestHash) * Max(n_requests, 1));
	int          n_hashes = 0;

	recent_prepare(rel);
	for (int i = 0; i < n_requests; i++)
	{
		take_request(rel, &requests[i], wait, batch);
		if (requests[i].outcome == STORE_APPENDED)
			hashes[n_hashes++] = requests[i].hash;
	}
	append_batch(rel, batch, hashes, n_hashes);
	pfree(hashes);
}

bool
store_parts(Relation rel, StoreRequest *parts, int n_parts, const RequestHash *hash,
            SpanBatch *batch)
{
	for (int i = 0; i < n_parts; i++)
	{
		TenantLimits limits = limits_of(parts[i].tenant);

		parts[i].outcome = decode_request(&parts[i], &limits, batch) ? STORE_APPENDED : STORE_REFUSED;
		if (parts[i].outcome == STORE_REFUSED)
			return false;
	}
	if (batch->n_spans == 0)
		return true;
	recent_prepare(rel);
	if (recent_claim(rel, hash, true) == RECENT_NEW)
		append_batch(rel, batch, hash, 1);
	else
		for (int i = 0; i < n_parts; i++)
			parts[i].outcome = STORE_REPEATED;
	return true;
}

/* Reasons are rare, and each atomic addition costs something. */
static void
count_discarded(TenantStatistics *tenant, const DecodeResult *result)
{
	const uint64 counts[N_DISCARD_REASONS] = {
		[DISCARD_INVALID_TRACE_ID] = result->invalid_trace_id,
		[DISCARD_INVALID_SPAN_ID] = result->invalid_span_id,
		[DISCARD_INVALID_TIME] = result->invalid_time,
		[DISCARD_RATE_LIMITED] = result->rate_limited,
		[DISCARD_TRACE_TOO_LARGE] = result->trace_too_large,
		[DISCARD_LIVE_TRACES_EXCEEDED] = result->live_traces_exceeded};

	for (int i = 0; i < N_DISCARD_REASONS; i++)
		if (counts[i] > 0)
			pg_atomic_fetch_add_u64(&tenant->discarded[i], counts[i]);
}

void
store_count(const StoreRequest *request)
{
	TenantStatistics   *tenant = statistics_tenant(request->tenant);
	const DecodeResult *result = &request->result;

	if (tenant == NULL)
		return;
	pg_atomic_fetch_add_u64(&tenant->requests, 1);
	pg_atomic_fetch_add_u64(&tenant->ingress_bytes, request->len);
	count_discarded(tenant, result);
	switch (request->outcome)
	{
		case STORE_APPENDED:
			pg_atomic_fetch_add_u64(&tenant->bytes_received, request->len);
			pg_atomic_fetch_add_u64(&tenant->spans_received, result->spans);
			pg_atomic_fetch_add_u64(&tenant->truncated, result->truncated_attributes);
			pg_atomic_fetch_add_u64(&tenant->sanitized, result->sanitized_strings);
			break;
		case STORE_REPEATED:
			pg_atomic_fetch_add_u64(&tenant->repeated, 1);
			break;
		case STORE_LIMITED:
		case STORE_REFUSED:
			pg_atomic_fetch_add_u64(&tenant->refused, 1);
			break;
		default:
			break;
	}
}
