/*-------------------------------------------------------------------------
 *
 * encode.c
 *	  One trace in a SpanBatch -> OTLP messages, as JSON or protobuf.
 *
 * Spans come out grouped by resource and scope, the groups in the order of
 * their first span, spans by start time.  The messages of a group are built,
 * written and forgotten before the next; a large group is split, which
 * repeats its resource but bounds what the messages take.
 *
 * A server span may share its id with the client span that called it, as
 * Zipkin clients do.  OTLP has no such thing, so the server span gets a fresh
 * id below the client's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/encode.h"
#include "miscadmin.h"
#include "tempo_trace.pb-c.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Spans in one ResourceSpans at most. */
#define SPANS_PER_GROUP 10000

/* What a client may show of a span apart from how it was stored. */
typedef struct TraceEncoder
{
	const SpanBatch *batch;
	uint32          *order;         /* span numbers in the order of output */
	uint32           n;             /* spans to be shown */
	uint64          *start_rank;    /* per span: its place by start time */
	uint32          *resource_rank; /* per resource: the place of its first span */
	uint32          *scope_rank;
	SpanId          *span_ids; /* per span, NULL if no id was replaced */
	SpanId          *parent_ids;
	MemoryContext    context; /* the messages of one group */
} TraceEncoder;

/* ----------------------------------------------------------------- order */

static int
compare_start(const void *a, const void *b, void *arg)
{
	const SpanBatch *batch = arg;
	uint32           x = *(const uint32 *) a;
	uint32           y = *(const uint32 *) b;
	int64            p = batch->spans[x].start_time_unix_nano;
	int64            q = batch->spans[y].start_time_unix_nano;

	if (p != q)
		return p < q ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int
compare_group(const void *a, const void *b, void *arg)
{
	TraceEncoder    *encoder = arg;
	const SpanBatch *batch = encoder->batch;
	uint32           x = *(const uint32 *) a;
	uint32           y = *(const uint32 *) b;
	uint32           scope_x = batch->spans[x].scope;
	uint32           scope_y = batch->spans[y].scope;
	uint32           p = encoder->resource_rank[batch->scopes[scope_x].resource];
	uint32           q = encoder->resource_rank[batch->scopes[scope_y].resource];

	if (p == q)
	{
		p = encoder->scope_rank[scope_x];
		q = encoder->scope_rank[scope_y];
	}
	if (p != q)
		return p < q ? -1 : 1;
	return encoder->start_rank[x] < encoder->start_rank[y] ? -1 : encoder->start_rank[x] > encoder->start_rank[y];
}

static void *
allocate(Size n, Size size)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * size);
}

/*
 * The same span may have been sent to several tenants; who reads them all
 * sees it once.
 */
static void
choose_spans(TraceEncoder *encoder)
{
	struct
	{
		SpanId id;
		int64  start;
		int64  kind;
	} key;
	const SpanBatch *batch = encoder->batch;
	HASHCTL          control = {0};
	HTAB            *seen;

	control.keysize = sizeof(key);
	control.entrysize = sizeof(key);
	control.hcxt = CurrentMemoryContext;
	seen = hash_create("spans of a trace", Max(batch->n_spans, 16), &control,
	                   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		bool found;

		key.id = batch->spans[i].span_id;
		key.start = batch->spans[i].start_time_unix_nano;
		key.kind = batch->spans[i].kind;
		(void) hash_search(seen, &key, HASH_ENTER, &found);
		if (!found)
			encoder->order[encoder->n++] = i;
	}
	hash_destroy(seen);
}

static void
sort_spans(TraceEncoder *encoder)
{
	const SpanBatch *batch = encoder->batch;

	encoder->order = allocate(batch->n_spans, sizeof(uint32));
	encoder->start_rank = allocate(batch->n_spans, sizeof(uint64));
	encoder->resource_rank = allocate(batch->n_resources, sizeof(uint32));
	encoder->scope_rank = allocate(batch->n_scopes, sizeof(uint32));
	memset(encoder->resource_rank, 0xff, batch->n_resources * sizeof(uint32));
	memset(encoder->scope_rank, 0xff, batch->n_scopes * sizeof(uint32));

	choose_spans(encoder);
	qsort_arg(encoder->order, encoder->n, sizeof(uint32), compare_start, (void *) batch);
	for (uint32 i = 0; i < encoder->n; i++)
	{
		uint32 scope = batch->spans[encoder->order[i]].scope;
		uint32 resource = batch->scopes[scope].resource;

		encoder->start_rank[encoder->order[i]] = i;
		encoder->scope_rank[scope] = Min(encoder->scope_rank[scope], i);
		encoder->resource_rank[resource] = Min(encoder->resource_rank[resource], i);
	}
	qsort_arg(encoder->order, encoder->n, sizeof(uint32), compare_group, encoder);
}

/* ------------------------------------------------------------ shared ids */

typedef struct IdEntry
{
	SpanId id;
	uint32 client; /* a client span with this id, or NO_SPAN */
	uint32 server; /* the first server span with it */
	SpanId fresh;
} IdEntry;

#define NO_SPAN PG_UINT32_MAX
#define KIND_SERVER 2
#define KIND_CLIENT 3

static SpanId
unused_id(HTAB *ids, uint64 *last)
{
	SpanId id;
	bool   found = true;
	uint64 number;

	while (found)
	{
		number = ++*last;
		for (int i = 0; i < SPAN_ID_LEN; i++)
			id.bytes[i] = (uint8_t) (number >> (8 * (SPAN_ID_LEN - 1 - i)));
		(void) hash_search(ids, &id, HASH_FIND, &found);
	}
	return id;
}

static void
replace_ids(TraceEncoder *encoder, HTAB *ids)
{
	const SpanBatch *batch = encoder->batch;
	uint64           last = 0;

	encoder->span_ids = allocate(batch->n_spans, sizeof(SpanId));
	encoder->parent_ids = allocate(batch->n_spans, sizeof(SpanId));
	for (uint32 n = 0; n < batch->n_spans; n++)
	{
		const Span *span = &batch->spans[n];
		IdEntry    *entry = hash_search(ids, &span->span_id, HASH_FIND, NULL);

		encoder->span_ids[n] = span->span_id;
		encoder->parent_ids[n] = span->parent_span_id;
		if (entry->server == n && entry->client != NO_SPAN)
		{
			entry->fresh = unused_id(ids, &last);
			encoder->span_ids[n] = entry->fresh;
			encoder->parent_ids[n] = span->span_id;
		}
	}

	/* Children hang below the server's side of the call. */
	for (uint32 n = 0; n < batch->n_spans; n++)
	{
		const Span *span = &batch->spans[n];
		IdEntry    *entry = hash_search(ids, &span->parent_span_id, HASH_FIND, NULL);

		if (entry && entry->client != NO_SPAN && entry->server != NO_SPAN &&
		    n != entry->server && n != entry->client)
			encoder->parent_ids[n] = entry->fresh;
	}
}

static void
repair_shared_ids(TraceEncoder *encoder)
{
	const SpanBatch *batch = encoder->batch;
	HASHCTL          control = {0};
	HTAB            *ids;
	bool             shared = false;

	control.keysize = sizeof(SpanId);
	control.entrysize = sizeof(IdEntry);
	control.hcxt = CurrentMemoryContext;
	ids = hash_create("span ids", Max(batch->n_spans, 16), &control,
	                  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (uint32 i = 0; i < encoder->n; i++)
	{
		uint32      n = encoder->order[i];
		const Span *span = &batch->spans[n];
		bool        found;
		IdEntry    *entry = hash_search(ids, &span->span_id, HASH_ENTER, &found);

		if (!found)
			entry->client = entry->server = NO_SPAN;
		if (span->kind == KIND_CLIENT && entry->client == NO_SPAN)
			entry->client = n;
		if (span->kind == KIND_SERVER && entry->server == NO_SPAN)
			entry->server = n;
		shared |= entry->client != NO_SPAN && entry->server != NO_SPAN;
	}
	if (shared)
		replace_ids(encoder, ids);
	hash_destroy(ids);
}

static void
encoder_start(TraceEncoder *encoder, const SpanBatch *batch)
{
	memset(encoder, 0, sizeof(*encoder));
	encoder->batch = batch;
	sort_spans(encoder);
	repair_shared_ids(encoder);
	encoder->context = AllocSetContextCreate(CurrentMemoryContext, "trace messages",
	                                         ALLOCSET_DEFAULT_SIZES);
}

/* -------------------------------------------------------------- messages */

static ProtobufCBinaryData
bytes_of(SpanText text)
{
	ProtobufCBinaryData data;

	data.data = (uint8_t *) text.data;
	data.len = text.len;
	return data;
}

static ProtobufCBinaryData
bytes_of_id(const uint8_t *id, Size len)
{
	ProtobufCBinaryData data = {0, NULL};

	if (!id_is_zero(id, len))
	{
		data.data = (uint8_t *) id;
		data.len = len;
	}
	return data;
}

static ProtobufCBinaryData
batch_string(const TraceEncoder *encoder, uint32 id)
{
	return bytes_of(encoder->batch->strings[id]);
}

static Tempo__Otlp__KeyValue **key_values(const KeyValue *items, uint32 n);

static Tempo__Otlp__AnyValue *
any_value(const AnyValue *in)
{
	Tempo__Otlp__AnyValue *out = palloc(sizeof(*out));

	check_stack_depth();
	tempo__otlp__any_value__init(out);
	switch ((AnyValueType) in->type)
	{
		case ANY_EMPTY:
			break;
		case ANY_STRING:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
			out->string_value = bytes_of(span_text(in->u.data, in->len));
			break;
		case ANY_BYTES:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_BYTES_VALUE;
			out->bytes_value = bytes_of(span_text(in->u.data, in->len));
			break;
		case ANY_BOOL:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_BOOL_VALUE;
			out->bool_value = in->u.boolean;
			break;
		case ANY_INT:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_INT_VALUE;
			out->int_value = in->u.integer;
			break;
		case ANY_DOUBLE:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE;
			out->double_value = in->u.number;
			break;
		case ANY_ARRAY:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_ARRAY_VALUE;
			out->array_value = palloc(sizeof(Tempo__Otlp__ArrayValue));
			tempo__otlp__array_value__init(out->array_value);
			out->array_value->n_values = in->len;
			out->array_value->values = allocate(in->len, sizeof(void *));
			for (uint32 i = 0; i < in->len; i++)
				out->array_value->values[i] = any_value(&in->u.elements[i]);
			break;
		case ANY_KVLIST:
			out->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_KVLIST_VALUE;
			out->kvlist_value = palloc(sizeof(Tempo__Otlp__KeyValueList));
			tempo__otlp__key_value_list__init(out->kvlist_value);
			out->kvlist_value->n_values = in->len;
			out->kvlist_value->values = key_values(in->u.members, in->len);
			break;
	}
	return out;
}

static Tempo__Otlp__KeyValue **
key_values(const KeyValue *items, uint32 n)
{
	Tempo__Otlp__KeyValue **out = allocate(n, sizeof(void *));
	Tempo__Otlp__KeyValue  *all = allocate(n, sizeof(Tempo__Otlp__KeyValue));

	for (uint32 i = 0; i < n; i++)
	{
		tempo__otlp__key_value__init(&all[i]);
		all[i].key = bytes_of(items[i].key);
		all[i].value = any_value(&items[i].value);
		out[i] = &all[i];
	}
	return out;
}

/* Sets the two fields of a message that hold its attributes. */
#define SET_ATTRIBUTES(message, list) \
	((message)->n_attributes = (list).count, \
	 (message)->attributes = key_values((list).items, (list).count))

static Tempo__Otlp__Event **
events_of(const Span *span)
{
	Tempo__Otlp__Event **out = allocate(span->n_events, sizeof(void *));

	for (uint32 i = 0; i < span->n_events; i++)
	{
		const SpanEvent *in = &span->events[i];

		out[i] = palloc(sizeof(Tempo__Otlp__Event));
		tempo__otlp__event__init(out[i]);
		out[i]->time_unix_nano = (uint64) in->time_unix_nano;
		out[i]->name = bytes_of(in->name);
		out[i]->dropped_attributes_count = in->dropped_attributes_count;
		SET_ATTRIBUTES(out[i], in->attributes);
	}
	return out;
}

static Tempo__Otlp__Link **
links_of(const Span *span)
{
	Tempo__Otlp__Link **out = allocate(span->n_links, sizeof(void *));

	for (uint32 i = 0; i < span->n_links; i++)
	{
		const SpanLink *in = &span->links[i];

		out[i] = palloc(sizeof(Tempo__Otlp__Link));
		tempo__otlp__link__init(out[i]);
		out[i]->trace_id = bytes_of_id(in->trace_id.bytes, TRACE_ID_LEN);
		out[i]->span_id = bytes_of_id(in->span_id.bytes, SPAN_ID_LEN);
		out[i]->trace_state = bytes_of(in->trace_state);
		out[i]->flags = in->flags;
		out[i]->dropped_attributes_count = in->dropped_attributes_count;
		SET_ATTRIBUTES(out[i], in->attributes);
	}
	return out;
}

static Tempo__Otlp__OtlpSpan *
span_message(const TraceEncoder *encoder, uint32 n)
{
	const Span            *in = &encoder->batch->spans[n];
	Tempo__Otlp__OtlpSpan *out = palloc(sizeof(*out));

	tempo__otlp__otlp_span__init(out);
	out->trace_id = bytes_of_id(in->trace_id.bytes, TRACE_ID_LEN);
	out->span_id = bytes_of_id(encoder->span_ids ? encoder->span_ids[n].bytes : in->span_id.bytes,
	                           SPAN_ID_LEN);
	out->parent_span_id = bytes_of_id(encoder->parent_ids ? encoder->parent_ids[n].bytes :
	                                                        in->parent_span_id.bytes,
	                                  SPAN_ID_LEN);
	out->trace_state = bytes_of(in->trace_state);
	out->name = batch_string(encoder, in->name);
	out->kind = (Tempo__Otlp__SpanKind) in->kind;
	out->start_time_unix_nano = (uint64) in->start_time_unix_nano;
	out->end_time_unix_nano = (uint64) in->end_time_unix_nano;
	out->flags = in->flags;
	out->dropped_attributes_count = in->dropped_attributes_count;
	out->dropped_events_count = in->dropped_events_count;
	out->dropped_links_count = in->dropped_links_count;
	SET_ATTRIBUTES(out, in->attributes);
	out->n_events = in->n_events;
	out->events = events_of(in);
	out->n_links = in->n_links;
	out->links = links_of(in);

	/* Grafana wants a status in every span, if only an empty one. */
	out->status = palloc(sizeof(Tempo__Otlp__Status));
	tempo__otlp__status__init(out->status);
	out->status->message = bytes_of(in->status_message);
	out->status->code = (Tempo__Otlp__StatusCode) in->status_code;
	return out;
}

/* Entity references are stored as the JSON array that the sender's were. */
static void
set_entity_refs(Tempo__Otlp__Resource *resource, SpanText refs)
{
	Jsonb *json;
	char  *text;

	if (refs.len == 0)
		return;
	text = pnstrdup(refs.data, refs.len);
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_COUNT(json) == 0)
		return;
	resource->entity_refs = palloc(JB_ROOT_COUNT(json) * sizeof(void *));
	for (uint32 i = 0; i < JB_ROOT_COUNT(json); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(&json->root, i);

		if (item->type == jbvBinary && JsonContainerIsObject(item->val.binary.data))
			resource->entity_refs[resource->n_entity_refs++] = (Tempo__Otlp__EntityRef *)
				message_from_jsonb(&tempo__otlp__entity_ref__descriptor, item->val.binary.data);
	}
}

static Tempo__Otlp__ScopeSpans *
scope_message(const TraceEncoder *encoder, const uint32 *spans, uint32 n)
{
	const SpanScope         *in = span_scope(encoder->batch, &encoder->batch->spans[spans[0]]);
	Tempo__Otlp__ScopeSpans *out = palloc(sizeof(*out));

	tempo__otlp__scope_spans__init(out);
	out->schema_url = batch_string(encoder, in->schema_url);
	out->scope = palloc(sizeof(Tempo__Otlp__InstrumentationScope));
	tempo__otlp__instrumentation_scope__init(out->scope);
	out->scope->name = batch_string(encoder, in->name);
	out->scope->version = batch_string(encoder, in->version);
	out->scope->dropped_attributes_count = in->dropped_attributes_count;
	SET_ATTRIBUTES(out->scope, in->attributes);
	out->n_spans = n;
	out->spans = allocate(n, sizeof(void *));
	for (uint32 i = 0; i < n; i++)
		out->spans[i] = span_message(encoder, spans[i]);
	return out;
}

/* The next group from "first" on; *count is how many spans it has. */
static Tempo__Otlp__ResourceSpans *
group_message(const TraceEncoder *encoder, uint32 first, uint32 *count)
{
	const SpanBatch            *batch = encoder->batch;
	const uint32               *order = encoder->order + first;
	uint32                      limit = Min(encoder->n - first, SPANS_PER_GROUP);
	const SpanResource         *in = span_resource(batch, &batch->spans[order[0]]);
	Tempo__Otlp__ResourceSpans *out = palloc(sizeof(*out));
	uint32                      n = 0;

	tempo__otlp__resource_spans__init(out);
	out->schema_url = batch_string(encoder, in->schema_url);
	out->resource = palloc(sizeof(Tempo__Otlp__Resource));
	tempo__otlp__resource__init(out->resource);
	out->resource->dropped_attributes_count = in->dropped_attributes_count;
	SET_ATTRIBUTES(out->resource, in->attributes);
	set_entity_refs(out->resource, in->entity_refs);

	out->scope_spans = allocate(Min(limit, batch->n_scopes), sizeof(void *));
	while (n < limit && span_resource(batch, &batch->spans[order[n]]) == in)
	{
		uint32 begin = n;

		while (n < limit && batch->spans[order[n]].scope == batch->spans[order[begin]].scope)
			n++;
		out->scope_spans[out->n_scope_spans++] = scope_message(encoder, order + begin, n - begin);
	}
	*count = n;
	return out;
}

/* ---------------------------------------------------------------- output */

/* A field with a length in front, in protobuf's wire format. */
static void
append_field(ApiBody *body, uint32 tag, Size len)
{
	uint8 header[12];
	int   n = 0;

	header[n++] = (uint8) (tag << 3 | 2);
	for (; len >= 0x80; len >>= 7)
		header[n++] = (uint8) (len | 0x80);
	header[n++] = (uint8) len;
	body_append(body, header, n);
}

/* Calls for every group; "write" gets its message. */
void
trace_each_group(const SpanBatch *batch, WriteGroup write, ApiBody *body, JsonStyle style)
{
	TraceEncoder encoder;
	uint32       count;

	encoder_start(&encoder, batch);
	for (uint32 first = 0; first < encoder.n; first += count)
	{
		MemoryContext               old = MemoryContextSwitchTo(encoder.context);
		Tempo__Otlp__ResourceSpans *group;

		CHECK_FOR_INTERRUPTS();
		group = group_message(&encoder, first, &count);
		write(body, &group->base, first == 0, style);
		MemoryContextSwitchTo(old);
		MemoryContextReset(encoder.context);
	}
	MemoryContextDelete(encoder.context);
}

static void
write_json_group(ApiBody *body, const ProtobufCMessage *group, bool first, JsonStyle style)
{
	if (!first)
		body_char(body, ',');
	message_to_json(body, group, style, false);
}

static void
write_protobuf_group(ApiBody *body, const ProtobufCMessage *group, bool first, JsonStyle style)
{
	append_field(body, 1, protobuf_c_message_get_packed_size(group));
	message_to_protobuf(body, group);
}

void
trace_to_json(ApiBody *body, const SpanBatch *batch, const char *key, JsonStyle style)
{
	if (batch->n_spans == 0)
	{
		body_text(body, "{}");
		return;
	}
	body_printf(body, "{\"%s\":[", key);
	trace_each_group(batch, write_json_group, body, style);
	body_text(body, "]}");
}

void
trace_to_protobuf(ApiBody *body, const SpanBatch *batch)
{
	trace_each_group(batch, write_protobuf_group, body, JSON_TEMPO);
}
