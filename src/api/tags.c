/*-------------------------------------------------------------------------
 *
 * tags.c
 *	  Tag names and tag values: what Grafana offers while a query is typed.
 *
 * "Tag" is what the API calls an attribute key.  The first version of the
 * endpoints knows plain keys and texts, the second one scopes and types.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/jsonb.h"
#include "access/memory.h"
#include "access/table.h"
#include "access/tags.h"
#include "api/internal.h"
#include "api/json.h"
#include "api/read.h"
#include "api/stream.h"
#include "api/tagfilter.h"
#include "catalog/pg_type.h"
#include "tempo_api.pb-c.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#define MAX_GROUPS 100

/* The request, as far as names and values share it. */
typedef struct TagRequest
{
	ApiCall  *call;
	int64     limit; /* 0 = none */
	TagFilter filter;
} TagRequest;

static bool
read_request(ApiCall *call, TagRequest *request, bool filtered)
{
	const char *limit = parameter(call, "limit");
	char       *end;

	memset(request, 0, sizeof(*request));
	request->call = call;
	if (!read_search_range(call, false, &call->range))
		return false;
	if (limit)
	{
		request->limit = strtoll(limit, &end, 10);
		if (*end != '\0' || request->limit < 0)
			request->limit = 0;
	}
	if (filtered)
		request->filter = read_tag_filter(parameter(call, "q"));
	if (request->filter.groups > MAX_GROUPS)
		return api_fail(call, 400, "maximum condition groups reached (limit: %d). Reduce the number of OR conditions in the query",
		                MAX_GROUPS);
	return true;
}

static Tempo__Api__MetadataMetrics *
metrics_message(const ApiCall *call)
{
	Tempo__Api__MetadataMetrics *metrics = palloc(sizeof(*metrics));

	tempo__api__metadata_metrics__init(metrics);
	metrics->total_jobs = 1;
	metrics->completed_jobs = call->partial ? 0 : 1;
	return metrics;
}

static ProtobufCBinaryData
bytes_of(const char *text)
{
	ProtobufCBinaryData data;

	data.data = (uint8_t *) text;
	data.len = strlen(text);
	return data;
}

/*
 * Runs "SELECT columns FROM tempo.spans AS s, more WHERE ..." over the spans
 * of the request.
 */
static void
select_from_spans(const TagRequest *request, const char *column, const char *more, const char *condition)
{
	Oid            types[3] = {TEXTARRAYOID, INT8OID, INT8OID};
	Datum          values[3];
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM tempo.spans AS s%s WHERE s.tenant = ANY ($1) "
	                       "AND s.start_time_unix_nano >= $2 AND s.start_time_unix_nano < $3 AND %s",
	                 column, more, condition);
	if (request->filter.condition)
		appendStringInfo(&sql, " AND (%s)", request->filter.condition);
	/* not DISTINCT, which is not asked of the custom aggregate */
	appendStringInfoString(&sql, " GROUP BY 1");
	values[0] = tenants_array(request->call);
	values[1] = Int64GetDatum(range_start_nanos(&request->call->range));
	values[2] = Int64GetDatum(range_end_nanos(&request->call->range));
	run_query(sql.data, 3, types, values, NULL);
}

/* The spans of the request, if there is no filter. */
static TempoTagRange
tag_range(const TagRequest *request)
{
	TempoTagRange range;

	range.start_nano = range_start_nanos(&request->call->range);
	range.end_nano = range_end_nanos(&request->call->range);
	range.tenants = tenant_texts(request->call->tenants);
	range.n_tenants = list_length(request->call->tenants);
	return range;
}

static int
compare_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* ------------------------------------------------------------------ names */

typedef struct TagScope
{
	const char    *name;
	AttributeScope scope;
	const char    *keys; /* of a span: a set of text, as SQL; NULL for none */
} TagScope;

static const TagScope scopes[] = {
	{"resource", ATTRIBUTE_RESOURCE, ", pg_catalog.jsonb_object_keys(s.resource_attributes) AS k(key)"},
	{"span", ATTRIBUTE_SPAN, ", pg_catalog.jsonb_object_keys(s.attributes) AS k(key)"},
	{"event", ATTRIBUTE_EVENT, ", pg_catalog.jsonb_array_elements(s.events) AS e(event), pg_catalog.jsonb_object_keys(e.event -> 'attributes') AS k(key)"},
	{"link", ATTRIBUTE_LINK, ", pg_catalog.jsonb_array_elements(s.links) AS l(link), pg_catalog.jsonb_object_keys(l.link -> 'attributes') AS k(key)"},
	{"instrumentation", ATTRIBUTE_SCOPE, ", pg_catalog.jsonb_object_keys(s.scope_attributes) AS k(key)"},
	{"trace", 0, NULL},
	{"intrinsic", 0, NULL}};

#define SCOPE_INTRINSIC (lengthof(scopes) - 1)

static const char *const intrinsics[] = {
	"duration", "event:name", "event:timeSinceStart", "instrumentation:name", "instrumentation:version",
	"kind", "link:spanID", "link:traceID", "name", "rootName", "rootServiceName", "span:duration",
	"span:id", "span:kind", "span:name", "span:parentID", "span:status", "span:statusMessage", "status",
	"statusMessage", "trace:duration", "trace:id", "trace:rootName", "trace:rootService", "traceDuration"};

/* Which of the scopes are asked for; false when answered. */
static bool
read_scope(ApiCall *call, bool wanted[lengthof(scopes)])
{
	const char *name = parameter(call, "scope");
	bool        known = name == NULL || strcmp(name, "none") == 0;

	for (int i = 0; i < lengthof(scopes); i++)
	{
		wanted[i] = name == NULL || strcmp(name, "none") == 0 || strcmp(name, scopes[i].name) == 0;
		known |= wanted[i];
	}
	if (!known)
		return api_fail(call, 400, "invalid scope: %s", name);
	return true;
}

static bool
add_name(void *arg, AttributeScope scope, SpanText key)
{
	List **names = arg;

	*names = lappend(*names, pnstrdup(key.len > 0 ? key.data : "", key.len));
	return true;
}

/* The sorted names in one scope: a List of char *.  Connected to SPI. */
static List *
scope_names(const TagRequest *request, int scope, MemoryContext context)
{
	List         *names = NIL;
	MemoryContext old = MemoryContextSwitchTo(context);

	if (scope == SCOPE_INTRINSIC)
	{
		for (int i = 0; i < lengthof(intrinsics); i++)
			names = lappend(names, (char *) intrinsics[i]);
	}
	else if (scopes[scope].keys)
	{
		if (request->filter.condition)
		{
			select_from_spans(request, "k.key", scopes[scope].keys, "true");
			for (uint64 row = 0; row < SPI_processed; row++)
				names = lappend(names, result_text(row, 1));
		}
		else
		{
			Relation      rel = open_spans();
			TempoTagRange range = tag_range(request);

			tempo_tag_keys(rel, &range, 1 << scopes[scope].scope, add_name, &names);
			table_close(rel, AccessShareLock);
		}
		list_sort(names, compare_texts);
		if (request->limit > 0)
			names = list_truncate(names, (int) Min(request->limit, PG_INT32_MAX));
	}
	MemoryContextSwitchTo(old);
	return names;
}

/* The names as an array; more than fits into an answer is left out. */
static ProtobufCBinaryData *
name_array(List *names, Size *budget, size_t *n)
{
	ProtobufCBinaryData *array = palloc(Max(list_length(names), 1) * sizeof(ProtobufCBinaryData));
	ListCell            *lc;

	*n = 0;
	foreach (lc, names)
	{
		Size len = strlen(lfirst(lc));

		if (len > *budget)
			break;
		*budget -= len;
		array[(*n)++] = bytes_of(lfirst(lc));
	}
	return array;
}

typedef struct NamesRequest
{
	TagRequest tags;
	bool       wanted[lengthof(scopes)];
} NamesRequest;

/*
 * The names in each scope asked for, in the caller's memory.
 */
static void
find_names(const NamesRequest *request, List *names[lengthof(scopes)])
{
	MemoryContext context = CurrentMemoryContext;
	SPI_connect();
	for (int i = 0; i < lengthof(scopes); i++)
		names[i] = request->wanted[i] ? scope_names(&request->tags, i, context) : NIL;
	SPI_finish();
}

/* All names in one list; the intrinsics only if they are asked for. */
static const ProtobufCMessage *
build_tags_v1(ApiCall *call, void *arg)
{
	Tempo__Api__SearchTagsResponse *response = palloc(sizeof(*response));
	List                           *names[lengthof(scopes)];
	List                           *all = NIL;
	List                           *distinct = NIL;
	Size                            budget = tempo_max_tag_response_bytes;
	const char                     *scope = parameter(call, "scope");
	ListCell                       *lc;

	find_names(arg, names);
	for (int i = 0; i < lengthof(scopes); i++)
	{
		if (i != SCOPE_INTRINSIC || (scope && strcmp(scope, "intrinsic") == 0))
			all = list_concat(all, names[i]);
	}
	list_sort(all, compare_texts);
	foreach (lc, all)
	{
		if (distinct == NIL || strcmp(llast(distinct), lfirst(lc)) != 0)
			distinct = lappend(distinct, lfirst(lc));
	}

	tempo__api__search_tags_response__init(response);
	response->tag_names = name_array(distinct, &budget, &response->n_tag_names);
	response->metrics = metrics_message(call);
	return &response->base;
}

static const ProtobufCMessage *
build_tags_v2(ApiCall *call, void *arg)
{
	Tempo__Api__SearchTagsV2Response *response = palloc(sizeof(*response));
	Tempo__Api__SearchTagsScope      *messages = palloc(lengthof(scopes) * sizeof(*messages));
	List                             *names[lengthof(scopes)];
	Size                              budget = tempo_max_tag_response_bytes;

	find_names(arg, names);
	tempo__api__search_tags_v2_response__init(response);
	response->scopes = palloc(lengthof(scopes) * sizeof(void *));
	for (int i = 0; i < lengthof(scopes); i++)
	{
		Tempo__Api__SearchTagsScope *scope = &messages[response->n_scopes];

		if (names[i] == NIL)
			continue;
		tempo__api__search_tags_scope__init(scope);
		scope->name = bytes_of(scopes[i].name);
		scope->tags = name_array(names[i], &budget, &scope->n_tags);
		if (scope->n_tags > 0)
			response->scopes[response->n_scopes++] = scope;
	}
	response->metrics = metrics_message(call);
	return &response->base;
}

static void
serve_names(ApiCall *call, StreamBuild build)
{
	NamesRequest request;

	if (read_scope(call, request.wanted) && read_request(call, &request.tags, true))
		stream_answer(call, build, &request);
}

void
serve_tags_v1(ApiCall *call)
{
	serve_names(call, build_tags_v1);
}

void
serve_tags_v2(ApiCall *call)
{
	serve_names(call, build_tags_v2);
}

/* ----------------------------------------------------------------- values */

typedef struct FoundValue
{
	const char *type;
	const char *text;
} FoundValue;

static int
compare_values(const ListCell *a, const ListCell *b)
{
	const FoundValue *x = lfirst(a);
	const FoundValue *y = lfirst(b);
	int               order = strcmp(x->type, y->type);

	return order ? order : strcmp(x->text, y->text);
}

static int
compare_value_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(((const FoundValue *) lfirst(a))->text, ((const FoundValue *) lfirst(b))->text);
}

static List *
add_value(List *values, const char *type, char *text)
{
	FoundValue *value = palloc(sizeof(FoundValue));

	value->type = type;
	value->text = text;
	return lappend(values, value);
}

/* A scalar, or the elements of an array; a map and bytes have no text. */
static List *
add_any_value(List *values, const AnyValue *value)
{
	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			return add_value(values, "string", pnstrdup(value->len > 0 ? value->u.data : "", value->len));
		case ANY_INT:
			return add_value(values, "int", psprintf(INT64_FORMAT, value->u.integer));
		case ANY_DOUBLE:
			return add_value(values, "float", tql_print_double(value->u.number));
		case ANY_BOOL:
			return add_value(values, "bool", pstrdup(value->u.boolean ? "true" : "false"));
		case ANY_ARRAY:
			for (uint32 i = 0; i < value->len; i++)
				values = add_any_value(values, &value->u.elements[i]);
			return values;
		default:
			return values;
	}
}

/* "expression" is a text of a span. */
static List *
text_values(const TagRequest *request, List *values, const char *expression, const char *more, const char *condition)
{
	select_from_spans(request, expression, more, psprintf("(%s) AND %s <> ''", condition, expression));
	for (uint64 row = 0; row < SPI_processed; row++)
		values = add_value(values, "string", result_text(row, 1));
	return values;
}

static bool
found_value(void *arg, const AnyValue *value)
{
	List **values = arg;

	*values = add_any_value(*values, value);
	return true;
}

/* The values under a key, without a filter. */
static List *
stored_values(const TagRequest *request, List *values, AttributeScope scope, const char *key)
{
	Relation      rel = open_spans();
	TempoTagRange range = tag_range(request);

	tempo_tag_values(rel, &range, scope, span_text(key, strlen(key)), found_value, &values);
	table_close(rel, AccessShareLock);
	return values;
}

static List *
stored_names(const TagRequest *request, List *values)
{
	Relation      rel = open_spans();
	TempoTagRange range = tag_range(request);

	tempo_tag_names(rel, &range, found_value, &values);
	table_close(rel, AccessShareLock);
	return values;
}

/*
 * "expression" is a jsonb that holds attributes.  The values are told apart by
 * their text: as numbers, 2 and 2.0 would be one.
 */
static List *
key_values(const TagRequest *request, List *values, const char *expression, const char *more, const char *key)
{
	SpanAllocator allocator = tempo_context_allocator(CurrentMemoryContext);
	SpanBatch    *batch = span_batch_create(&allocator, 0);
	const char   *literal = quote_literal_cstr(key);

	select_from_spans(request, psprintf("(%s -> %s)::text", expression, literal), more,
	                  psprintf("%s ? %s", expression, literal));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		char    *text = psprintf("[%s]", result_text(row, 1));
		Jsonb   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
		AnyValue value;

		tempo_value_from_jsonb(getIthJsonbValueFromContainer(&json->root, 0), batch, "attributes", &value);
		values = add_any_value(values, &value);
	}
	return values;
}

#define EVENTS ", pg_catalog.jsonb_array_elements(s.events) AS e(event)"
#define LINKS ", pg_catalog.jsonb_array_elements(s.links) AS l(link)"

/* Where the attributes of a scope are in SQL. */
static const struct
{
	const char *expression;
	const char *more;
} places[] = {
	[ATTRIBUTE_SPAN] = {"s.attributes", ""},
	[ATTRIBUTE_RESOURCE] = {"s.resource_attributes", ""},
	[ATTRIBUTE_SCOPE] = {"s.scope_attributes", ""},
	[ATTRIBUTE_EVENT] = {"(e.event -> 'attributes')", EVENTS},
	[ATTRIBUTE_LINK] = {"(l.link -> 'attributes')", LINKS}};

/* "where" is a set of bits (1 << AttributeScope). */
static List *
attribute_values(const TagRequest *request, List *values, uint32 where, const char *key)
{
	for (int scope = 0; scope < lengthof(places); scope++)
	{
		if ((where & (1 << scope)) == 0)
			continue;
		if (request->filter.condition)
			values = key_values(request, values, places[scope].expression, places[scope].more, key);
		else
			values = stored_values(request, values, (AttributeScope) scope, key);
	}
	return values;
}

#define ROOT "s.parent_span_id IS NULL AND NOT s.links @> pg_catalog.jsonb_build_array(" \
			 "pg_catalog.jsonb_build_object('trace_id', s.trace_id::text, 'attributes', " \
			 "'{\"opentracing.ref_type\": \"child_of\"}'::jsonb))"

static List *
keywords(List *values, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		values = add_value(values, "keyword", (char *) words[i]);
	return values;
}

static List *
intrinsic_values(const TagRequest *request, List *values, TqlIntrinsic intrinsic)
{
	static const char *const status[] = {"error", "ok", "unset"};
	static const char *const kinds[] = {"client", "consumer", "internal", "producer", "server", "unspecified"};

	switch (intrinsic)
	{
		case TQL_I_STATUS:
			return keywords(values, status, lengthof(status));
		case TQL_I_KIND:
			return keywords(values, kinds, lengthof(kinds));
		case TQL_I_NAME:
			if (request->filter.condition == NULL)
				return stored_names(request, values);
			return text_values(request, values, "s.name", "", "true");
		case TQL_I_STATUS_MESSAGE:
			return text_values(request, values, "s.status_message", "", "true");
		case TQL_I_ROOT_NAME:
			return text_values(request, values, "s.name", "", ROOT);
		case TQL_I_ROOT_SERVICE_NAME:
			return text_values(request, values, "s.service_name", "", ROOT);
		case TQL_I_EVENT_NAME:
			return text_values(request, values, "(e.event ->> 'name')", EVENTS, "true");
		case TQL_I_INSTRUMENTATION_NAME:
			return text_values(request, values, "s.scope_name", "", "true");
		case TQL_I_INSTRUMENTATION_VERSION:
			return text_values(request, values, "s.scope_version", "", "true");
		default:
			/* ids and durations are too many to list */
			return values;
	}
}

static uint32
where_of(TqlScope scope)
{
	switch (scope)
	{
		case TQL_SCOPE_SPAN:
			return 1 << ATTRIBUTE_SPAN;
		case TQL_SCOPE_RESOURCE:
			return 1 << ATTRIBUTE_RESOURCE;
		case TQL_SCOPE_EVENT:
			return 1 << ATTRIBUTE_EVENT;
		case TQL_SCOPE_LINK:
			return 1 << ATTRIBUTE_LINK;
		case TQL_SCOPE_INSTRUMENTATION:
			return 1 << ATTRIBUTE_SCOPE;
		default:
			return 1 << ATTRIBUTE_SPAN | 1 << ATTRIBUTE_RESOURCE;
	}
}

/* Sorted, each once, no more than asked for and than fits into an answer. */
static List *
clean_values(const TagRequest *request, List *values, int (*compare)(const ListCell *, const ListCell *))
{
	List     *distinct = NIL;
	Size      budget = tempo_max_tag_response_bytes;
	ListCell *lc;

	list_sort(values, compare);
	foreach (lc, values)
	{
		FoundValue *value = lfirst(lc);

		if (distinct != NIL && compare(list_last_cell(distinct), lc) == 0)
			continue;
		if ((request->limit > 0 && list_length(distinct) == request->limit) || strlen(value->text) > budget)
			break;
		budget -= strlen(value->text);
		distinct = lappend(distinct, value);
	}
	return distinct;
}

/* A plain key, or one of the names that clients before TraceQL knew. */
static List *
plain_values(const TagRequest *request, const char *key)
{
	static const char *const status[] = {"error", "ok", "unset"};

	if (strcmp(key, "name") == 0)
		return intrinsic_values(request, NIL, TQL_I_NAME);
	if (strcmp(key, "root.name") == 0)
		return intrinsic_values(request, NIL, TQL_I_ROOT_NAME);
	if (strcmp(key, "root.service.name") == 0)
		return intrinsic_values(request, NIL, TQL_I_ROOT_SERVICE_NAME);
	if (strcmp(key, "status.code") == 0)
		return keywords(NIL, status, lengthof(status));
	if (strcmp(key, "error") == 0)
		return add_value(NIL, "bool", "true");
	return attribute_values(request, NIL, (1 << lengthof(places)) - 1, key);
}

static const ProtobufCMessage *
build_values_v1(ApiCall *call, void *arg)
{
	Tempo__Api__SearchTagValuesResponse *response = palloc(sizeof(*response));
	MemoryContext                        context = CurrentMemoryContext;
	const TagRequest                    *request = arg;
	List                                *values;
	ListCell                            *lc;
	SPI_connect();
	MemoryContextSwitchTo(context);
	values = clean_values(request, plain_values(request, call->argument), compare_value_texts);
	SPI_finish();
	MemoryContextSwitchTo(context);

	tempo__api__search_tag_values_response__init(response);
	response->tag_values = palloc(Max(list_length(values), 1) * sizeof(ProtobufCBinaryData));
	foreach (lc, values)
		response->tag_values[response->n_tag_values++] = bytes_of(((FoundValue *) lfirst(lc))->text);
	response->metrics = metrics_message(call);
	return &response->base;
}

void
serve_tag_values_v1(ApiCall *call)
{
	TagRequest request;

	if (read_request(call, &request, false))
		stream_answer(call, build_values_v1, &request);
}

/* The types in order, each with its values. */
static void
answer_llm(ApiCall *call, List *values)
{
	ApiBody    *body = api_ok(call, "application/vnd.grafana.llm+json");
	const char *type = NULL;
	ListCell   *lc;

	body_text(body, "{\"tagValues\":{");
	foreach (lc, values)
	{
		FoundValue *value = lfirst(lc);

		if (type == NULL || strcmp(type, value->type) != 0)
			body_printf(body, "%s\"%s\":[", type ? "]," : "", value->type);
		else
			body_char(body, ',');
		type = value->type;
		body_json_string(body, value->text, strlen(value->text));
	}
	body_text(body, type ? "]},\"metrics\":{\"inspectedBytes\":0}}" : "},\"metrics\":{\"inspectedBytes\":0}}");
}

static const ProtobufCMessage *
values_message(ApiCall *call, List *values)
{
	Tempo__Api__SearchTagValuesV2Response *response = palloc(sizeof(*response));
	ListCell                              *lc;
	tempo__api__search_tag_values_v2_response__init(response);
	response->tag_values = palloc(Max(list_length(values), 1) * sizeof(void *));
	foreach (lc, values)
	{
		FoundValue           *value = lfirst(lc);
		Tempo__Api__TagValue *message = palloc(sizeof(*message));

		tempo__api__tag_value__init(message);
		message->type = bytes_of(value->type);
		message->value = bytes_of(value->text);
		response->tag_values[response->n_tag_values++] = message;
	}
	response->metrics = metrics_message(call);
	return &response->base;
}

/*
 * The attribute that the path names.  It must read as one inside a filter; it
 * is then taken from a select(), which has it in its list.  *unknown is set
 * for what is an attribute, but of a kind that spans do not have.
 */
static bool
read_attribute(ApiCall *call, TqlAttribute *attribute, bool *unknown)
{
	char     *message;
	int       code;
	TqlQuery *query;
	TqlStage *stage;

	*unknown = false;
	if (parse_query(psprintf("{%s}", call->argument), &message, &code) == NULL && code == ERRCODE_SYNTAX_ERROR)
		return api_fail(call, 400, "please provide a valid tagName: failed to parse identifier %s: %s",
		                call->argument, message);
	query = parse_query(psprintf("{} | select(%s)", call->argument), &message, &code);
	if (query == NULL && code != ERRCODE_SYNTAX_ERROR)
	{
		*unknown = true;
		return true;
	}
	stage = query && query->metrics == NULL && list_length(query->pipeline) == 2 ? llast(query->pipeline) : NULL;
	if (stage == NULL || stage->kind != TQL_ST_SELECT || list_length(stage->attributes) != 1)
		return api_fail(call, 400, "please provide a valid tagName: failed to parse identifier %s: not an attribute",
		                call->argument);
	*attribute = *(TqlAttribute *) linitial(stage->attributes);
	*unknown = attribute->parent;
	return true;
}

/* A value that the filter pins is the only one there can be. */
static List *
pinned_value(const TqlStatic *value)
{
	switch (value->type)
	{
		case TQL_STRING:
			return add_value(NIL, "string", pstrdup(value->s));
		case TQL_INT:
			return add_value(NIL, "int", psprintf(INT64_FORMAT, value->n));
		case TQL_FLOAT:
			return add_value(NIL, "float", tql_print_double(value->d));
		case TQL_BOOL:
			return add_value(NIL, "bool", pstrdup(value->n ? "true" : "false"));
		default:
			return NIL;
	}
}

typedef struct ValuesRequest
{
	TagRequest   tags;
	TqlAttribute attribute;
	bool         unknown; /* no span has it */
} ValuesRequest;

/* The values of an attribute, sorted. */
static List *
find_values(const ValuesRequest *request)
{
	MemoryContext       context = CurrentMemoryContext;
	const TqlAttribute *attribute = &request->attribute;
	const TqlStatic    *pin = request->unknown ? NULL : tag_filter_pins(&request->tags.filter, attribute);
	List               *values = NIL;
	if (pin && (attribute->intrinsic == TQL_ATTRIBUTE || pin->type == TQL_STRING))
		values = pinned_value(pin);
	else if (!request->unknown)
	{
		SPI_connect();
		MemoryContextSwitchTo(context);
		if (attribute->intrinsic == TQL_ATTRIBUTE)
			values = attribute_values(&request->tags, NIL, where_of(attribute->scope), attribute->name);
		else
			values = intrinsic_values(&request->tags, NIL, attribute->intrinsic);
		SPI_finish();
		MemoryContextSwitchTo(context);
	}
	return clean_values(&request->tags, values, compare_values);
}

static const ProtobufCMessage *
build_values_v2(ApiCall *call, void *arg)
{
	return values_message(call, find_values(arg));
}

void
serve_tag_values_v2(ApiCall *call)
{
	ValuesRequest request;

	if (!read_attribute(call, &request.attribute, &request.unknown) ||
	    !read_request(call, &request.tags, true))
		return;
	if (call->format == FORMAT_LLM && !call->request->stream)
		answer_llm(call, find_values(&request));
	else
		stream_answer(call, build_values_v2, &request);
}
