/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Requests into tempo.spans, each exactly once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "ingest/recent.h"
#include "ingest/store.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static int	max_attribute_bytes = 0;
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
	[WIRE_JAEGER_JSON] = decode_jaeger_json
};

void
store_init(void)
{
	DefineCustomIntVariable("tempo_pg.max_attribute_bytes",
							"Longer attribute keys and string values are cut; 0 turns that off.",
							"What an exporter sent is kept whole by default.", &max_attribute_bytes, 0, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.reject_whole_batch",
							 "Refuses a whole request for one span with an invalid id.",
							 "When off, only such spans are refused, and the answer tells how many.",
							 &reject_whole_batch, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static bool
decode_request(StoreRequest *request, SpanBatch *batch)
{
	DecodeOptions options;

	options.tenant = request->tenant;
	options.max_attribute_bytes = (uint32) max_attribute_bytes;
	options.reject_whole_batch = reject_whole_batch;
	return decoders[request->format] (request->body, request->len, &options, batch, &request->result, &request->error);
}

/* Decodes one request and keeps its spans in the batch if they are to be stored. */
static void
take_request(Relation rel, StoreRequest *request, bool wait, SpanBatch *batch)
{
	uint32		before = batch->n_spans;

	request->error.code = SPAN_ERROR_NONE;
	if (!decode_request(request, batch))
	{
		request->outcome = STORE_REFUSED;
		return;
	}
	if (batch->n_spans == before)
	{
		request->outcome = STORE_NOTHING;
		return;
	}
	switch (recent_claim(rel, &request->hash, wait))
	{
		case RECENT_NEW:
			request->outcome = STORE_APPENDED;
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
	int			n_hashes = 0;

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
		parts[i].error.code = SPAN_ERROR_NONE;
		parts[i].outcome = decode_request(&parts[i], batch) ? STORE_APPENDED : STORE_REFUSED;
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

void
store_count(const StoreRequest *request)
{
	TenantStatistics *tenant = statistics_tenant(request->tenant);
	const DecodeResult *result = &request->result;

	if (tenant == NULL)
		return;
	pg_atomic_fetch_add_u64(&tenant->ingress_bytes, request->len);
	pg_atomic_fetch_add_u64(&tenant->discarded[DISCARD_INVALID_TRACE_ID], result->invalid_trace_id);
	pg_atomic_fetch_add_u64(&tenant->discarded[DISCARD_INVALID_SPAN_ID], result->invalid_span_id);
	pg_atomic_fetch_add_u64(&tenant->discarded[DISCARD_INVALID_TIME], result->invalid_time);
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
		default:
			break;
	}
}
