/*-------------------------------------------------------------------------
 *
 * collect.c
 *	  The aggregates that evaluate a query over the spans of one trace.
 *
 *	 tempo.search_trace()	the trace as search answers show it, all NULL if
 *							nothing is left of it
 *	 tempo.trace_spans()	the spans that are left; of a metrics query with
 *							what it groups by and measures
 *	 tempo.trace_exemplar()	one of these, see exemplars.c
 *
 * Columns that a query does not mention are given as NULL.  Spans may come in
 * any order and more than once: what has the same id, kind and start is one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "traceql/engine.h"
#include "traceql/metrics.h"
#include "traceql/to_sql.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(tempo_collect_span);
PG_FUNCTION_INFO_V1(tempo_collect_span_of_part);
PG_FUNCTION_INFO_V1(tempo_search_trace);
PG_FUNCTION_INFO_V1(tempo_trace_spans);

/* Arguments of the aggregates behind the state */
enum
{
	ARG_QUERY = 1,
	ARG_NUMBER, /* spans per spanset, or which query of a metrics expression */
	ARG_TRACE_ID,
	ARG_SPAN_ID,
	ARG_PARENT_SPAN_ID,
	ARG_NAME,
	ARG_KIND,
	ARG_STATUS,
	ARG_STATUS_MESSAGE,
	ARG_START,
	ARG_DURATION,
	ARG_SERVICE_NAME,
	ARG_ATTRIBUTES,
	ARG_RESOURCE_ATTRIBUTES,
	ARG_SCOPE_NAME,
	ARG_SCOPE_VERSION,
	ARG_SCOPE_ATTRIBUTES,
	ARG_EVENTS,
	ARG_LINKS,
	ARG_TRACE_STATE
};

/* A query as the aggregates need it; kept for all traces of one call */
typedef struct ParsedQuery
{
	text                 *source;
	TqlQuery             *query;
	const List           *pipeline;
	const TqlMetricsExpr *metrics; /* NULL for a search */
	List                 *references;
	bool                  show_name;
	bool                  extrapolate;
} ParsedQuery;

typedef struct CollectState
{
	MemoryContext      context;
	const ParsedQuery *query;
	int                number;
	int                capacity;
	TqlTrace           trace;
} CollectState;

/* --------------------------------------------------------------- reading */

static const ParsedQuery *
parse_once(FunctionCallInfo fcinfo, text *source, int number)
{
	ParsedQuery  *parsed = fcinfo->flinfo->fn_extra;
	MemoryContext old;
	ListCell     *lc;

	if (parsed && VARSIZE_ANY_EXHDR(parsed->source) == VARSIZE_ANY_EXHDR(source) &&
	    memcmp(VARDATA_ANY(parsed->source), VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source)) == 0)
		return parsed;

	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	parsed = palloc0(sizeof(ParsedQuery));
	parsed->source = (text *) PG_DETOAST_DATUM_COPY(PointerGetDatum(source));
	parsed->query = tql_parse(VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source));
	if (parsed->query->metrics)
	{
		parsed->metrics = tql_metrics_part(parsed->query->metrics, number);
		parsed->pipeline = parsed->metrics->pipeline;
	}
	else
		parsed->pipeline = parsed->query->pipeline;
	parsed->extrapolate = tql_hint_is_true(parsed->query, "extrapolate");
	parsed->references = tql_pipeline_references(parsed->pipeline);
	foreach (lc, parsed->references)
		parsed->show_name |= ((TqlReference *) lfirst(lc))->attribute.intrinsic == TQL_I_NAME;
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = parsed;
	return parsed;
}

static TqlText
get_text(FunctionCallInfo fcinfo, int arg)
{
	TqlText result = {NULL, 0};
	text   *t;

	if (PG_ARGISNULL(arg))
		return result;
	t = PG_GETARG_TEXT_PP(arg);
	result.len = VARSIZE_ANY_EXHDR(t);
	result.s = pnstrdup(VARDATA_ANY(t), result.len);
	return result;
}

static Jsonb *
get_jsonb(FunctionCallInfo fcinfo, int arg, bool copy)
{
	if (PG_ARGISNULL(arg))
		return NULL;
	return copy ? DatumGetJsonbPCopy(PG_GETARG_DATUM(arg)) : DatumGetJsonbP(PG_GETARG_DATUM(arg));
}

static uint64
read_span_id(Datum datum)
{
	uint64 id;

	memcpy(&id, DatumGetPointer(datum), sizeof(id));
	return pg_ntoh64(id);
}

static bool
text_is(TqlText text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.s, word, text.len) == 0;
}

static void
set_kind(TqlSpan *span)
{
	static const TqlKind kinds[] = {
		TQL_KIND_INTERNAL, TQL_KIND_SERVER, TQL_KIND_CLIENT, TQL_KIND_PRODUCER, TQL_KIND_CONSUMER};

	span->kind = TQL_KIND_UNSPECIFIED;
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (text_is(span->kind_text, tql_kind_text(kinds[i])))
			span->kind = kinds[i];
	}
	span->kind_number = span->kind;
	if (span->kind == TQL_KIND_UNSPECIFIED && span->kind_text.len > 0 &&
	    !text_is(span->kind_text, "unspecified"))
		span->kind_number = 1000 + atoi(span->kind_text.s);
}

bool
tql_read_span(FunctionCallInfo fcinfo, int columns, bool copy, TqlSpan *span)
{
	int     shift = columns - ARG_TRACE_ID;
	TqlText status;

	if (PG_ARGISNULL(ARG_SPAN_ID + shift) || PG_ARGISNULL(ARG_START + shift) || PG_ARGISNULL(ARG_DURATION + shift))
		return false;
	memset(span, 0, sizeof(*span));
	span->id = read_span_id(PG_GETARG_DATUM(ARG_SPAN_ID + shift));
	span->has_parent = !PG_ARGISNULL(ARG_PARENT_SPAN_ID + shift);
	if (span->has_parent)
		span->parent_id = read_span_id(PG_GETARG_DATUM(ARG_PARENT_SPAN_ID + shift));
	span->start = PG_GETARG_INT64(ARG_START + shift);
	span->duration = Max(PG_GETARG_INT64(ARG_DURATION + shift), 0);
	span->name = get_text(fcinfo, ARG_NAME + shift);
	span->kind_text = get_text(fcinfo, ARG_KIND + shift);
	set_kind(span);
	status = get_text(fcinfo, ARG_STATUS + shift);
	span->status = text_is(status, "error") ? TQL_STATUS_ERROR : text_is(status, "ok") ? TQL_STATUS_OK :
	                                                                                     TQL_STATUS_UNSET;
	span->status_message = get_text(fcinfo, ARG_STATUS_MESSAGE + shift);
	span->service = get_text(fcinfo, ARG_SERVICE_NAME + shift);
	span->attributes = get_jsonb(fcinfo, ARG_ATTRIBUTES + shift, copy);
	span->resource = get_jsonb(fcinfo, ARG_RESOURCE_ATTRIBUTES + shift, copy);
	span->scope_name = get_text(fcinfo, ARG_SCOPE_NAME + shift);
	span->scope_version = get_text(fcinfo, ARG_SCOPE_VERSION + shift);
	span->scope_attributes = get_jsonb(fcinfo, ARG_SCOPE_ATTRIBUTES + shift, copy);
	span->events_json = get_jsonb(fcinfo, ARG_EVENTS + shift, copy);
	span->links_json = get_jsonb(fcinfo, ARG_LINKS + shift, copy);
	span->trace_state = get_text(fcinfo, ARG_TRACE_STATE + shift);
	return true;
}

/* Adds a span to the state; "number_is_part": the number says which query of a metrics expression it is for. */
static Datum
collect_span(FunctionCallInfo fcinfo, bool number_is_part)
{
	MemoryContext aggregate;
	MemoryContext old;
	CollectState *state;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		elog(ERROR, "called outside of an aggregate");
	if (PG_ARGISNULL(0))
	{
		MemoryContext context;

		if (PG_ARGISNULL(ARG_QUERY))
			PG_RETURN_NULL();
		context = AllocSetContextCreate(aggregate, "TraceQL trace", ALLOCSET_SMALL_SIZES);
		state = MemoryContextAllocZero(context, sizeof(CollectState));
		state->context = context;
		state->number = PG_ARGISNULL(ARG_NUMBER) ? 0 : PG_GETARG_INT32(ARG_NUMBER);
		state->query = parse_once(fcinfo, PG_GETARG_TEXT_PP(ARG_QUERY), number_is_part ? state->number : 0);
		if (!PG_ARGISNULL(ARG_TRACE_ID))
			memcpy(state->trace.trace_id, DatumGetPointer(PG_GETARG_DATUM(ARG_TRACE_ID)), 16);
	}
	else
		state = (CollectState *) PG_GETARG_POINTER(0);

	old = MemoryContextSwitchTo(state->context);
	if (state->trace.n_spans == state->capacity)
	{
		state->capacity = Max(8, state->capacity * 2);
		if (state->trace.spans)
			state->trace.spans = repalloc_huge(state->trace.spans, sizeof(TqlSpan) * state->capacity);
		else
			state->trace.spans = palloc(sizeof(TqlSpan) * state->capacity);
	}
	if (tql_read_span(fcinfo, ARG_TRACE_ID, true, &state->trace.spans[state->trace.n_spans]))
		state->trace.n_spans++;
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/* tempo.collect_span(state, query, spans per spanset, columns...) */
Datum
tempo_collect_span(PG_FUNCTION_ARGS)
{
	return collect_span(fcinfo, false);
}

/* tempo.collect_span_of_part(state, query, part, columns...) */
Datum
tempo_collect_span_of_part(PG_FUNCTION_ARGS)
{
	return collect_span(fcinfo, true);
}

/* -------------------------------------------------------- events, links */

static TqlText
member_text(JsonbContainer *object, const char *key)
{
	JsonbValue v;
	TqlText    result = {"", 0};

	if (getKeyJsonValueFromContainer(object, key, strlen(key), &v) && v.type == jbvString)
		result = (TqlText){v.val.string.val, v.val.string.len};
	return result;
}

static int64
member_int(JsonbContainer *object, const char *key)
{
	JsonbValue v;
	char      *text;

	if (!getKeyJsonValueFromContainer(object, key, strlen(key), &v) || v.type != jbvNumeric)
		return 0;
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
	return strtoll(text, NULL, 10);
}

static JsonbContainer *
member_set(JsonbContainer *object, const char *key)
{
	JsonbValue v;

	if (getKeyJsonValueFromContainer(object, key, strlen(key), &v) && v.type == jbvBinary)
		return v.val.binary.data;
	return NULL;
}

static int
compare_events(const void *a, const void *b)
{
	const TqlEvent *x = a;
	const TqlEvent *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	/* attributes stand in the order of the events */
	return x->attributes < y->attributes ? -1 : x->attributes > y->attributes;
}

void
tql_read_lists(TqlSpan *span)
{
	JsonbValue *v;

	if (span->lists_read)
		return;
	span->lists_read = true;
	if (span->events_json && JB_ROOT_IS_ARRAY(span->events_json))
	{
		int n = JB_ROOT_COUNT(span->events_json);

		span->events = palloc(sizeof(TqlEvent) * Max(n, 1));
		for (int i = 0; i < n; i++)
		{
			v = getIthJsonbValueFromContainer(&span->events_json->root, i);
			if (v == NULL || v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
				continue;
			span->events[span->n_events].time = member_int(v->val.binary.data, "time_unix_nano");
			span->events[span->n_events].name = member_text(v->val.binary.data, "name");
			span->events[span->n_events++].attributes = member_set(v->val.binary.data, "attributes");
		}
		qsort(span->events, span->n_events, sizeof(TqlEvent), compare_events);
	}
	if (span->links_json && JB_ROOT_IS_ARRAY(span->links_json))
	{
		int n = JB_ROOT_COUNT(span->links_json);

		span->links = palloc(sizeof(TqlLink) * Max(n, 1));
		for (int i = 0; i < n; i++)
		{
			v = getIthJsonbValueFromContainer(&span->links_json->root, i);
			if (v == NULL || v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
				continue;
			span->links[span->n_links].trace_id = member_text(v->val.binary.data, "trace_id");
			span->links[span->n_links].span_id = member_text(v->val.binary.data, "span_id");
			span->links[span->n_links++].attributes = member_set(v->val.binary.data, "attributes");
		}
	}
}

/* ------------------------------------------------------------- the trace */

static int
compare_spans(const void *a, const void *b)
{
	const TqlSpan *x = a;
	const TqlSpan *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->kind_number - y->kind_number;
}

bool
tql_is_linked_child(const TqlTrace *trace, TqlSpan *span)
{
	char id[33];

	tql_read_lists(span);
	if (span->n_links == 0)
		return false;
	for (int i = 0; i < 16; i++)
		sprintf(id + 2 * i, "%02x", trace->trace_id[i]);
	for (int i = 0; i < span->n_links; i++)
	{
		TqlValue type;

		if (!text_is(span->links[i].trace_id, id))
			continue;
		tql_value_from_set(span->links[i].attributes, "opentracing.ref_type", 20, &type);
		if (type.type == TQL_V_STRING && type.len == 8 && memcmp(type.s, "child_of", 8) == 0)
			return true;
	}
	return false;
}

/* Brings the spans into order, each once, and finds the root and the time range. */
static void
complete_trace(TqlTrace *trace)
{
	int  kept = 0;
	bool sorted = true;

	/* they mostly come in order, and are large */
	for (int i = 1; i < trace->n_spans && sorted; i++)
		sorted = compare_spans(&trace->spans[i - 1], &trace->spans[i]) <= 0;
	if (!sorted)
		qsort(trace->spans, trace->n_spans, sizeof(TqlSpan), compare_spans);
	for (int i = 0; i < trace->n_spans; i++)
	{
		if (kept > 0 && compare_spans(&trace->spans[kept - 1], &trace->spans[i]) == 0)
			continue;
		if (kept < i)
			trace->spans[kept] = trace->spans[i];
		kept++;
	}
	trace->n_spans = kept;
	trace->root = -1;
	for (int i = 0; i < kept; i++)
	{
		TqlSpan *span = &trace->spans[i];
		int64    stop;

		if (pg_add_s64_overflow(span->start, span->duration, &stop))
			stop = PG_INT64_MAX;
		trace->start = i == 0 ? span->start : Min(trace->start, span->start);
		trace->stop = i == 0 ? stop : Max(trace->stop, stop);
		if (trace->root < 0 && !span->has_parent && !tql_is_linked_child(trace, span))
			trace->root = i;
	}
}

/* ---------------------------------------------------- what searches show */

static void
push_number(JsonbParseState **state, const char *key, int64 n, bool as_text)
{
	JsonbValue v;
	char      *digits;

	tql_push_text(state, WJB_KEY, key, strlen(key));
	if (as_text)
	{
		digits = psprintf(INT64_FORMAT, n);
		tql_push_text(state, WJB_VALUE, digits, strlen(digits));
		return;
	}
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(n);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* Members of a span have no place among its attributes. */
static bool
is_listed(const TqlAttribute *attribute)
{
	switch (attribute->intrinsic)
	{
		case TQL_I_NAME:
		case TQL_I_DURATION:
		case TQL_I_TRACE_DURATION:
		case TQL_I_ROOT_NAME:
		case TQL_I_ROOT_SERVICE_NAME:
		case TQL_I_TRACE_ID:
		case TQL_I_SPAN_ID:
			return false;
		default:
			return true;
	}
}

/* What a filter asks for is shown on the spans that meet it, not on those that others let in. */
static bool
is_shown(const TqlReference *reference, TqlTrace *trace, TqlSpan *span)
{
	ListCell *lc;

	if (reference->everywhere)
		return true;
	foreach (lc, reference->filters)
	{
		if (tql_span_matches(trace, span, lfirst(lc)))
			return true;
	}
	return false;
}

static void
push_span_attributes(JsonbParseState **state, const ParsedQuery *query, TqlTrace *trace, TqlSpan *span)
{
	bool      any = false;
	ListCell *lc;

	foreach (lc, query->references)
	{
		const TqlReference *reference = lfirst(lc);
		const char         *key;
		TqlValue            value;

		if (!is_listed(&reference->attribute) || !is_shown(reference, trace, span))
			continue;
		tql_span_attribute(trace, span, &reference->attribute, &value);
		if (value.type == TQL_V_OPAQUE || (value.type == TQL_V_NIL && !reference->nil_tested))
			continue;
		if (value.type == TQL_V_NIL)
		{
			value.type = TQL_V_STRING;
			value.s = "nil";
			value.len = 3;
		}
		if (!any)
		{
			tql_push_text(state, WJB_KEY, "attributes", 10);
			pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		}
		any = true;
		key = reference->attribute.intrinsic == TQL_ATTRIBUTE ? reference->attribute.name :
		                                                        tql_print_attribute(&reference->attribute);
		tql_push_attribute(state, key, strlen(key), &value);
	}
	if (any)
		pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_span(JsonbParseState **state, const ParsedQuery *query, TqlTrace *trace, TqlSpan *span)
{
	char *id = psprintf("%016llx", (unsigned long long) span->id);

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	tql_push_text(state, WJB_KEY, "spanID", 6);
	tql_push_text(state, WJB_VALUE, id, 16);
	if (query->show_name && span->name.len > 0)
	{
		tql_push_text(state, WJB_KEY, "name", 4);
		tql_push_text(state, WJB_VALUE, span->name.s, span->name.len);
	}
	if (span->start != 0)
		push_number(state, "startTimeUnixNano", span->start, true);
	if (span->duration != 0)
		push_number(state, "durationNanos", span->duration, true);
	push_span_attributes(state, query, trace, span);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static Jsonb *
show_spansets(const ParsedQuery *query, TqlTrace *trace, const List *groups, int spans_per_spanset)
{
	JsonbParseState *state = NULL;
	ListCell        *lc;
	ListCell        *a;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach (lc, groups)
	{
		const TqlGroup *group = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		tql_push_text(&state, WJB_KEY, "spans", 5);
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int i = 0; i < group->n && (spans_per_spanset <= 0 || i < spans_per_spanset); i++)
			push_span(&state, query, trace, &trace->spans[group->members[i]]);
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
		push_number(&state, "matched", group->n, false);
		if (group->attributes != NIL)
		{
			tql_push_text(&state, WJB_KEY, "attributes", 10);
			pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
			foreach (a, group->attributes)
			{
				const TqlNamed *named = lfirst(a);

				tql_push_attribute(&state, named->key, strlen(named->key), &named->value);
			}
			pushJsonbValue(&state, WJB_END_ARRAY, NULL);
		}
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static int
compare_services(const void *a, const void *b)
{
	const TqlSpan *x = *(TqlSpan *const *) a;
	const TqlSpan *y = *(TqlSpan *const *) b;
	int            order = memcmp(x->service.s ? x->service.s : "", y->service.s ? y->service.s : "",
	                   Min(x->service.len, y->service.len));

	return order ? order : (int) x->service.len - (int) y->service.len;
}

/* {"service": {"spanCount": 3, "errorCount": 1}} */
static Jsonb *
show_services(const TqlTrace *trace)
{
	JsonbParseState *state = NULL;
	TqlSpan        **by_service = palloc_extended(sizeof(TqlSpan *) * trace->n_spans, MCXT_ALLOC_HUGE);

	for (int i = 0; i < trace->n_spans; i++)
		by_service[i] = &trace->spans[i];
	qsort(by_service, trace->n_spans, sizeof(TqlSpan *), compare_services);

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < trace->n_spans;)
	{
		int     spans = 0;
		int     errors = 0;
		TqlText service = by_service[i]->service;

		for (; i < trace->n_spans && (spans == 0 || compare_services(&by_service[i - 1], &by_service[i]) == 0); i++)
		{
			spans++;
			errors += by_service[i]->status == TQL_STATUS_ERROR;
		}
		tql_push_text(&state, WJB_KEY, service.s ? service.s : "", service.len);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_number(&state, "spanCount", spans, false);
		if (errors > 0)
			push_number(&state, "errorCount", errors, false);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Datum
text_datum(TqlText text, bool *isnull)
{
	*isnull = text.s == NULL;
	return *isnull ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(text.s, text.len));
}

/* Final function of tempo.search_trace(): tempo.search_result */
Datum
tempo_search_trace(PG_FUNCTION_ARGS)
{
	CollectState *state;
	TqlTrace     *trace;
	List         *groups;
	TupleDesc     desc;
	MemoryContext old;
	Datum         values[6];
	bool          nulls[6] = {0};
	HeapTuple     tuple;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (CollectState *) PG_GETARG_POINTER(0);
	trace = &state->trace;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	old = MemoryContextSwitchTo(state->context);
	complete_trace(trace);
	groups = tql_run_pipeline(trace, state->query->pipeline);
	if (groups == NIL)
	{
		MemoryContextSwitchTo(old);
		MemoryContextReset(state->context);
		PG_RETURN_NULL();
	}
	values[0] = Int64GetDatum(trace->start);
	values[1] = Int64GetDatum(trace->stop);
	nulls[2] = nulls[3] = trace->root < 0;
	if (trace->root >= 0)
	{
		values[2] = text_datum(trace->spans[trace->root].service, &nulls[2]);
		values[3] = text_datum(trace->spans[trace->root].name, &nulls[3]);
	}
	values[4] = JsonbPGetDatum(show_spansets(state->query, trace, groups, state->number));
	values[5] = JsonbPGetDatum(show_services(trace));
	MemoryContextSwitchTo(old);
	tuple = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	MemoryContextReset(state->context);
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

TqlTrace *
tql_collected(void *collected, const TqlMetricsExpr **part, MemoryContext *context)
{
	CollectState *state = collected;
	MemoryContext old = MemoryContextSwitchTo(state->context);

	complete_trace(&state->trace);
	MemoryContextSwitchTo(old);
	*part = state->query->metrics;
	*context = state->context;
	return &state->trace;
}

/* ------------------------------------------------------- matching spans */

typedef struct SpanRows
{
	TupleDesc     desc;
	Datum        *rows;
	int           n;
	int           capacity;
	MemoryContext context; /* of the rows; what makes them is short-lived */
} SpanRows;

static void
add_row(SpanRows *out, const TqlSpan *span, List *keys, double value, bool has_value, double weight)
{
	Datum         values[6];
	bool          nulls[6] = {0};
	uint64        id = pg_hton64(span->id);
	MemoryContext old;

	if (out->n == out->capacity)
	{
		out->capacity = Max(16, out->capacity * 2);
		out->rows = out->rows ? repalloc_huge(out->rows, sizeof(Datum) * out->capacity) :
		                        MemoryContextAlloc(out->context, sizeof(Datum) * out->capacity);
	}
	values[0] = PointerGetDatum(&id);
	values[1] = text_datum(span->kind_text, &nulls[1]);
	values[2] = Int64GetDatum(span->start);
	nulls[3] = keys == NIL;
	if (keys != NIL)
	{
		Datum *items = palloc(sizeof(Datum) * list_length(keys));

		for (int i = 0; i < list_length(keys); i++)
			items[i] = CStringGetTextDatum(list_nth(keys, i));
		values[3] = PointerGetDatum(construct_array(items, list_length(keys), TEXTOID, -1, false, TYPALIGN_INT));
	}
	nulls[4] = !has_value;
	values[4] = Float8GetDatum(value);
	values[5] = Float8GetDatum(weight);
	old = MemoryContextSwitchTo(out->context);
	out->rows[out->n++] = HeapTupleGetDatum(heap_form_tuple(out->desc, values, nulls));
	MemoryContextSwitchTo(old);
}

static void
add_span(SpanRows *out, const ParsedQuery *query, TqlTrace *trace, TqlSpan *span)
{
	const TqlMetrics *metrics = query->metrics ? query->metrics->metrics : NULL;
	List             *keys = NIL;
	ListCell         *lc;
	TqlValue          value = {0};
	double            number = 0;
	double            weight = 1;
	bool              has_number;

	if (metrics && query->extrapolate)
		weight = tql_sampling_weight(span->trace_state.s, span->trace_state.len);
	if (metrics && metrics->function == TQL_M_COMPARE)
	{
		foreach (lc, tql_compare_keys(trace, span, metrics))
			add_row(out, span, lfirst(lc), 0, false, weight);
		return;
	}
	if (metrics && metrics->argument)
		tql_span_attribute(trace, span, metrics->argument, &value);
	has_number = tql_value_is_number(&value);
	if (has_number)
		has_number = tql_measure(metrics, tql_value_number(&value), &number);
	foreach (lc, metrics ? metrics->by : NIL)
	{
		TqlValue key;

		tql_span_attribute(trace, span, lfirst(lc), &key);
		keys = lappend(keys, tql_label_text(&key));
	}
	add_row(out, span, keys, number, has_number, weight);
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

/* Final function of tempo.trace_spans(): tempo.matched_span[] */
Datum
tempo_trace_spans(PG_FUNCTION_ARGS)
{
	CollectState *state;
	TqlTrace     *trace;
	MemoryContext old;
	SpanRows      out = {0};
	Oid           element;
	int16         typlen;
	bool          typbyval;
	char          typalign;
	int          *members;
	int           n = 0;
	ListCell     *lc;
	List         *groups;
	ArrayType    *array;
	MemoryContext per_span;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (CollectState *) PG_GETARG_POINTER(0);
	trace = &state->trace;
	element = get_element_type(get_func_rettype(fcinfo->flinfo->fn_oid));
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);

	old = MemoryContextSwitchTo(state->context);
	complete_trace(trace);
	out.desc = lookup_rowtype_tupdesc_copy(element, -1);
	groups = tql_run_pipeline(trace, state->query->pipeline);
	/* every span once, whatever number of spansets it is in */
	foreach (lc, groups)
		n += ((TqlGroup *) lfirst(lc))->n;
	members = palloc_extended(sizeof(int) * Max(n, 1), MCXT_ALLOC_HUGE);
	n = 0;
	foreach (lc, groups)
	{
		const TqlGroup *group = lfirst(lc);

		memcpy(members + n, group->members, sizeof(int) * group->n);
		n += group->n;
	}
	qsort(members, n, sizeof(int), compare_ints);
	tql_number_tree(trace); /* lives longer than one span */
	out.context = state->context;
	per_span = AllocSetContextCreate(state->context, "TraceQL span", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0 && members[i] == members[i - 1])
			continue;
		tql_read_lists(&trace->spans[members[i]]);
		MemoryContextSwitchTo(per_span);
		add_span(&out, state->query, trace, &trace->spans[members[i]]);
		MemoryContextReset(per_span);
		MemoryContextSwitchTo(state->context);
	}
	MemoryContextSwitchTo(old);
	if (out.n == 0)
		array = construct_empty_array(element);
	else
		array = construct_array(out.rows, out.n, element, typlen, typbyval, typalign);
	MemoryContextReset(state->context);
	PG_RETURN_ARRAYTYPE_P(array);
}
