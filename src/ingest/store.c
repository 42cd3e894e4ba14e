/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Requests into tempo.spans, each exactly once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "access/memory.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "ingest/recent.h"
#include "ingest/store.h"
#include "ingest/tenant.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Memory for the spans of one group of requests. */
#define BATCH_MEMORY_LIMIT ((Size) 2048 * 1024 * 1024)

static int	max_attribute_bytes = 0;
static bool reject_whole_batch = true;

PG_FUNCTION_INFO_V1(tempo_ingest_otlp);
PG_FUNCTION_INFO_V1(tempo_ingest_otlp_json);

typedef bool (*Decoder) (const char *body, size_t len, const DecodeOptions *options,
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
	if (batch->n_spans > 0)
	{
		if (tempo_append_is_plain(rel))
			tempo_append_batch(rel, batch, hashes, n_hashes);
		else
			tempo_insert_batch(rel, batch, hashes, n_hashes);
	}
	pfree(hashes);
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

/* ------------------------------------------------------------------- SQL */

/* The relation to store into, once it is clear that the user may. */
static Relation
open_spans(void)
{
	Oid			relid;
	AclResult	allowed;

	PreventCommandIfReadOnly("INSERT");
	relid = tempo_spans_relation();
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("tempo.spans does not exist")));
	allowed = pg_class_aclcheck(relid, GetUserId(), ACL_INSERT);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, "spans");
	return table_open(relid, RowExclusiveLock);
}

static int64
ingest(const char *body, size_t len, bool json, text *tenant)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo_pg ingest", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SpanAllocator allocator = tempo_context_allocator(context);
	SpanBatch  *batch = span_batch_create(&allocator, BATCH_MEMORY_LIMIT);
	StoreRequest request;
	SpanError	error;
	Relation	rel;
	int64		stored;

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	memset(&request, 0, sizeof(request));
	if (!tenant_for_write(text_to_cstring(tenant), &request.tenant, &error))
		tempo_raise(&error);
	request.body = body;
	request.len = len;
	request.format = json ? WIRE_OTLP_JSON : WIRE_OTLP_PROTO;
	if (!recent_hash(request.tenant.data, request.tenant.len, body, len, &request.hash))
		elog(ERROR, "could not compute the hash of a request");

	rel = open_spans();
	store_requests(rel, &request, 1, true, batch);
	table_close(rel, NoLock);
	if (request.outcome == STORE_REFUSED)
		tempo_raise(&request.error);
	if (request.result.rejected > 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("%llu spans were not stored: %s", (unsigned long long) request.result.rejected,
						request.result.rejected_message)));
	store_count(&request);
	stored = request.outcome == STORE_APPENDED ? (int64) request.result.spans : 0;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return stored;
}

/* tempo.ingest_otlp(request bytea, tenant text) returns bigint */
Datum
tempo_ingest_otlp(PG_FUNCTION_ARGS)
{
	bytea	   *body = PG_GETARG_BYTEA_PP(0);
	int64		stored = ingest(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), false, PG_GETARG_TEXT_PP(1));

	PG_RETURN_INT64(stored);
}

/* tempo.ingest_otlp_json(request jsonb, tenant text) returns bigint */
Datum
tempo_ingest_otlp_json(PG_FUNCTION_ARGS)
{
	Jsonb	   *body = PG_GETARG_JSONB_P(0);
	char	   *json = JsonbToCString(NULL, &body->root, VARSIZE(body));
	int64		stored = ingest(json, strlen(json), true, PG_GETARG_TEXT_PP(1));

	PG_RETURN_INT64(stored);
}
