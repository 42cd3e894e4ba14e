/*-------------------------------------------------------------------------
 *
 * trace.c
 *	  /api/traces/{id} and /api/v2/traces/{id}: one whole trace.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "access/memory.h"
#include "access/table.h"
#include "api/encode.h"
#include "api/internal.h"
#include "api/partial.h"
#include "api/read.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * A short id has zeros in front.  What is wrong with another is named by
 * place and character.
 */
bool
read_trace_id(ApiCall *call, const char *text, TraceId *id)
{
	Size len = strlen(text);

	for (Size i = 0; i < len; i++)
	{
		if (!isxdigit((unsigned char) text[i]))
			return api_fail(call, 400, "trace IDs can only contain hex characters: invalid character '%.*s' at position %zu",
			                pg_utf_mblen((const unsigned char *) text + i), text + i, i + 1);
	}
	if (!id_from_short_hex(text, len, id->bytes, TRACE_ID_LEN))
		return api_fail(call, 400, "trace IDs can't be larger than 128 bits");
	return true;
}

/*
 * The range only tells where a trace might be; it is found wherever it is and
 * never clipped.
 */
static bool
check_parameters(ApiCall *call)
{
	static const char *const modes[] = {"all", "blocks", "external", "ingesters", "recent"};
	const char              *mode = parameter(call, "mode");
	int64                    start = 0;
	int64                    end = 0;
	bool                     known = mode == NULL;

	for (int i = 0; i < lengthof(modes); i++)
		known |= mode && strcmp(mode, modes[i]) == 0;
	if (!known)
		return api_fail(call, 400, "invalid value for mode %s", mode);
	if (!read_seconds(call, "start", &start) || !read_seconds(call, "end", &end))
		return false;
	if (parameter(call, "start") && parameter(call, "end") && end <= start)
		return api_fail(call, 400, "http parameter start must be before end. received start=" INT64_FORMAT " end=" INT64_FORMAT,
		                start, end);
	return true;
}

static SpanBatch *
create_batch(void)
{
	SpanAllocator allocator = tempo_context_allocator(CurrentMemoryContext);
	SpanBatch    *batch = span_batch_create(&allocator, 0);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return batch;
}

/* The spans of a trace that the tenants of the request have; NULL = answered. */
static SpanBatch *
find_trace(ApiCall *call, TraceId *id)
{
	SpanBatch *batch;

	if (!read_trace_id(call, call->argument, id) || !check_parameters(call))
		return NULL;
	batch = create_batch();
	read_trace(id, call->tenants, batch);
	return batch;
}

static bool
is_too_large(const SpanBatch *batch)
{
	return tempo_max_bytes_per_trace > 0 && trace_size(batch) > (Size) tempo_max_bytes_per_trace;
}

/* ----------------------------------------------------------------- filter */

typedef struct TraceFilter
{
	char             *query; /* NULL = none */
	TraceSurroundings around;
} TraceFilter;

static bool
mentions_trace(const TqlExpr *expr)
{
	if (expr == NULL)
		return false;
	check_stack_depth();
	if (expr->kind == TQL_E_ATTRIBUTE)
		return expr->attribute.intrinsic == TQL_I_ROOT_NAME || expr->attribute.intrinsic == TQL_I_ROOT_SERVICE_NAME ||
		       expr->attribute.intrinsic == TQL_I_TRACE_DURATION || expr->attribute.intrinsic == TQL_I_TRACE_ID;
	return mentions_trace(expr->left) || mentions_trace(expr->right);
}

/* A number of levels; -1 = all. */
static bool
read_depth(ApiCall *call, const char *name, int64 *depth)
{
	const char *text = parameter(call, name);
	char       *end;

	if (text == NULL)
		return true;
	errno = 0;
	*depth = strtoll(text, &end, 10);
	if (*end != '\0' || end == text || isspace((unsigned char) *text) || errno == ERANGE)
		return api_fail(call, 400, "invalid value for %s: %s", name, text);
	if (*depth < -1)
		return api_fail(call, 400, "invalid value for %s: must be >= -1", name);
	return true;
}

/*
 * "q" is one spanset filter about single spans.  As a query it is restricted
 * to the trace.
 */
static bool
read_filter(ApiCall *call, const TraceId *id, TraceFilter *filter)
{
	const char *text = parameter(call, "q");
	const char *hierarchy = parameter(call, "keep_hierarchy");
	bool        keep = false;
	TqlQuery   *query;
	TqlStage   *stage;
	char       *message;
	char        hex[TRACE_ID_LEN * 2 + 1];
	int         code;

	filter->query = NULL;
	if (text == NULL)
		return true;
	query = parse_query(text, &message, &code);
	if (query == NULL)
		return api_fail(call, 400, "invalid TraceQL filter: %s", message);
	stage = query->metrics == NULL && list_length(query->pipeline) == 1 ? linitial(query->pipeline) : NULL;
	if (stage == NULL || stage->kind != TQL_ST_SPANSET || stage->spanset->kind != TQL_S_FILTER)
		return api_fail(call, 400, "invalid TraceQL filter: must be a single spanset filter");
	if (mentions_trace(stage->spanset->filter))
		return api_fail(call, 400, "invalid TraceQL filter: trace-level intrinsics are not supported");

	if (hierarchy && !parse_bool(hierarchy, &keep))
		return api_fail(call, 400, "invalid value for keep_hierarchy: %s", hierarchy);
	filter->around.descendants = 0;
	filter->around.ancestors = -1;
	if (!read_depth(call, "match_depth", &filter->around.descendants) ||
	    !read_depth(call, "ancestor_depth", &filter->around.ancestors))
		return false;
	if (!keep)
		filter->around.ancestors = 0;
	id_to_hex(id->bytes, TRACE_ID_LEN, hex);
	filter->query = psprintf("{ trace:id = \"%s\" } | %s", hex, text);
	if (parse_query(filter->query, &message, &code) == NULL)
		return api_fail(call, 400, "invalid TraceQL filter: %s", message);
	return true;
}

static void
filter_trace(ApiCall *call, const TraceFilter *filter, SpanBatch *batch)
{
	Oid           types[2] = {TEXTOID, TEXTARRAYOID};
	Datum         values[2];
	SpanId       *ids;
	uint64        n;
	MemoryContext context = CurrentMemoryContext;

	values[0] = CStringGetTextDatum(filter->query);
	values[1] = tenants_array(call);
	SPI_connect();
	run_query(psprintf("SELECT span_id FROM %s($1, tenants => $2)", extension_function("traceql_spans")),
	          2, types, values, NULL);
	n = SPI_processed;
	ids = MemoryContextAllocHuge(context, Max(n, 1) * sizeof(SpanId));
	for (uint64 row = 0; row < n; row++)
	{
		bool  isnull;
		Datum id = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);

		memcpy(ids[row].bytes, DatumGetPointer(id), SPAN_ID_LEN);
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
	trace_keep(batch, ids, n, &filter->around);
}

/* ---------------------------------------------------------------- answers */

void
serve_trace_v1(ApiCall *call)
{
	TraceId    id;
	SpanBatch *batch = find_trace(call, &id);

	if (batch == NULL)
		return;
	if (batch->n_spans == 0)
	{
		api_ok(call, NULL);
		call->response->status = 404;
	}
	else if (is_too_large(batch))
		(void) api_fail(call, 422, "trace exceeds max size (max bytes: %d)", tempo_max_bytes_per_trace);
	else if (call->format == FORMAT_PROTOBUF)
		trace_to_protobuf(api_ok(call, "application/protobuf"), batch);
	else
		trace_to_json(api_ok(call, call->format == FORMAT_LLM ? "application/vnd.grafana.llm" : "application/json"),
		              batch, "batches", JSON_TEMPO);
}

/* A trace that is not there is an empty one: Grafana takes 404 for an old Tempo. */
void
serve_trace_v2(ApiCall *call)
{
	TraceId        id;
	TraceFilter    filter;
	SpanBatch     *batch;
	StringInfoData message; /* why it is not whole; empty if it is */
	ApiBody       *body;

	if (!read_trace_id(call, call->argument, &id) || !check_parameters(call) || !read_filter(call, &id, &filter))
		return;
	batch = find_trace(call, &id);
	initStringInfo(&message);
	if (filter.query && batch->n_spans > 0)
	{
		filter_trace(call, &filter, batch);
		appendStringInfoString(&message, "Trace filtered, only a subset of spans matching the filter is returned");
	}
	if (is_too_large(batch))
	{
		trace_fit(batch, tempo_max_bytes_per_trace);
		appendStringInfo(&message, "%sTrace exceeds maximum size of %d bytes, a partial trace is returned",
		                 message.len > 0 ? "; " : "", tempo_max_bytes_per_trace);
	}

	if (call->format == FORMAT_PROTOBUF)
	{
		body = api_ok(call, "application/protobuf");
		trace_to_protobuf(body, batch);
		body_wrap(body, 1);
		body_append(body, "\x12\x00", 2); /* no metrics */
		if (message.len > 0)
		{
			body_append(body, "\x18\x01", 2); /* status PARTIAL */
			body_char(body, 0x22);
			for (int len = message.len; len > 0; len >>= 7)
				body_char(body, (char) (len >= 0x80 ? (len & 0x7F) | 0x80 : len));
			body_append(body, message.data, message.len);
		}
		return;
	}
	body = api_ok(call, call->format == FORMAT_LLM ? "application/vnd.grafana.llm+json" : "application/json");
	body_text(body, "{\"trace\":");
	if (call->format == FORMAT_LLM)
	{
		trace_to_llm(body, batch);
		body_printf(body, ",\"metrics\":{\"inspectedBytes\":%zu}", trace_size(batch));
	}
	else
	{
		trace_to_json(body, batch, "resourceSpans", JSON_TEMPO);
		body_text(body, ",\"metrics\":{}");
	}
	if (message.len > 0)
		body_printf(body, ",\"status\":\"PARTIAL\",\"message\":\"%s\"", message.data);
	body_char(body, '}');
}

/*
 * Attributes in the order of jsonb's keys: short ones first, then by bytes.
 * A dump keeps the jsonb, so tempo.trace_json() of a restored trace is the
 * same text.  Equal keys keep their order.
 */
static int
compare_keys(const void *a, const void *b)
{
	const KeyValue *x = *(const KeyValue *const *) a;
	const KeyValue *y = *(const KeyValue *const *) b;
	int             order;

	if (x->key.len != y->key.len)
		return x->key.len < y->key.len ? -1 : 1;
	order = x->key.len == 0 ? 0 : memcmp(x->key.data, y->key.data, x->key.len);
	if (order != 0)
		return order;
	return x < y ? -1 : x > y;
}

static void order_value(AnyValue *value);

static AttributeList
ordered_attributes(AttributeList list)
{
	const KeyValue **pointers = palloc_extended(sizeof(KeyValue *) * Max(list.count, 1), MCXT_ALLOC_HUGE);
	KeyValue        *items = palloc_extended(sizeof(KeyValue) * Max(list.count, 1), MCXT_ALLOC_HUGE);

	for (uint32 i = 0; i < list.count; i++)
		pointers[i] = &list.items[i];
	qsort(pointers, list.count, sizeof(KeyValue *), compare_keys);
	for (uint32 i = 0; i < list.count; i++)
	{
		items[i] = *pointers[i];
		order_value(&items[i].value);
	}
	pfree(pointers);
	list.items = items;
	return list;
}

/* The depth of stored values is bounded by ANY_VALUE_MAX_DEPTH. */
static void
order_value(AnyValue *value)
{
	if (value->type == ANY_KVLIST)
	{
		AttributeList members = {value->u.members, value->len};

		value->u.members = ordered_attributes(members).items;
	}
	else if (value->type == ANY_ARRAY)
	{
		AnyValue *elements = palloc_extended(sizeof(AnyValue) * Max(value->len, 1), MCXT_ALLOC_HUGE);

		for (uint32 i = 0; i < value->len; i++)
		{
			elements[i] = value->u.elements[i];
			order_value(&elements[i]);
		}
		value->u.elements = elements;
	}
}

static void
order_span(Span *span)
{
	SpanEvent *events = palloc_extended(sizeof(SpanEvent) * Max(span->n_events, 1), MCXT_ALLOC_HUGE);
	SpanLink  *links = palloc_extended(sizeof(SpanLink) * Max(span->n_links, 1), MCXT_ALLOC_HUGE);

	span->attributes = ordered_attributes(span->attributes);
	for (uint32 i = 0; i < span->n_events; i++)
	{
		events[i] = span->events[i];
		events[i].attributes = ordered_attributes(events[i].attributes);
	}
	for (uint32 i = 0; i < span->n_links; i++)
	{
		links[i] = span->links[i];
		links[i].attributes = ordered_attributes(links[i].attributes);
	}
	span->events = events;
	span->links = links;
}

static void
order_batch(SpanBatch *batch)
{
	for (uint32 i = 0; i < batch->n_resources; i++)
		batch->resources[i].attributes = ordered_attributes(batch->resources[i].attributes);
	for (uint32 i = 0; i < batch->n_scopes; i++)
		batch->scopes[i].attributes = ordered_attributes(batch->scopes[i].attributes);
	for (uint32 i = 0; i < batch->n_spans; i++)
		order_span(&batch->spans[i]);
}

PG_FUNCTION_INFO_V1(tempo_trace_json);

/*
 * tempo.trace_json(trace_id): the trace as OTLP/JSON, attributes in the order
 * of their keys; NULL if there is none
 */
Datum
tempo_trace_json(PG_FUNCTION_ARGS)
{
	TraceId        id;
	SpanBatch     *batch = create_batch();
	ApiBody       *body = body_create();
	StringInfoData text;
	const char    *data;
	Size           len;

	memcpy(id.bytes, DatumGetPointer(PG_GETARG_DATUM(0)), TRACE_ID_LEN);
	read_trace(&id, NIL, batch);
	if (batch->n_spans == 0)
		PG_RETURN_NULL();
	order_batch(batch);
	trace_to_json(body, batch, "resourceSpans", JSON_OTLP);

	initStringInfo(&text);
	while (body_take(body, &data, &len))
		appendBinaryStringInfo(&text, data, (int) len);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}
