/*-------------------------------------------------------------------------
 *
 * search.c
 *	  /api/search: the newest traces that match a TraceQL query, or a list of
 *	  tags as clients before TraceQL send them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/internal.h"
#include "api/json.h"
#include "api/logfmt.h"
#include "api/read.h"
#include "api/stream.h"
#include "catalog/pg_type.h"
#include "tempo_api.pb-c.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define NO_ROOT "<root span not yet received>"

typedef struct Search
{
	const char *query;        /* TraceQL, NULL for a search by tags */
	List       *tags;         /* of LogfmtPair */
	int64       min_duration; /* milliseconds, 0 = none */
	int64       max_duration;
	int64       limit;
	int64       spss;
} Search;

/* ------------------------------------------------------------ parameters */

static bool
read_duration(ApiCall *call, const char *name, int64 *milliseconds)
{
	const char *text = parameter(call, name);
	int64       nanoseconds;

	if (text == NULL)
		return true;
	if (!parse_go_duration(text, &nanoseconds))
		return api_fail(call, 400, "invalid %s: time: invalid duration \"%s\"", name, text);
	*milliseconds = nanoseconds / 1000000;
	return true;
}

/* The query is checked here, so that what is wrong with it is answered as such. */
static bool
read_query(ApiCall *call, Search *search)
{
	TqlQuery *query;
	char     *message;
	int       code;

	search->query = parameter(call, "q");
	if (search->query == NULL)
		return true;
	query = parse_query(search->query, &message, &code);
	if (query == NULL)
		return api_fail(call, 400, "invalid TraceQL query: %s", message);
	return true;
}

static bool
read_tags(ApiCall *call, Search *search)
{
	const char *text = parameter(call, "tags");
	char       *message;

	if (text == NULL)
		return true;
	if (search->query)
		return api_fail(call, 400, "invalid request: can't specify tags and q in the same query");
	search->tags = parse_logfmt(text, &message);
	if (message)
		return api_fail(call, 400, "invalid tags: %s", message);
	return true;
}

static bool
read_search(ApiCall *call, Search *search)
{
	int64 ignored;

	memset(search, 0, sizeof(*search));
	search->limit = tempo_search_default_limit;
	search->spss = tempo_search_default_spss;
	if (!read_seconds(call, "start", &ignored) || !read_seconds(call, "end", &ignored) ||
	    !read_query(call, search) || !read_tags(call, search) ||
	    !read_duration(call, "minDuration", &search->min_duration) ||
	    !read_duration(call, "maxDuration", &search->max_duration))
		return false;
	if (parameter(call, "maxDuration") && search->max_duration < search->min_duration)
		return api_fail(call, 400, "invalid maxDuration: must be greater than minDuration");

	if (!read_integer(call, "limit", "Atoi", &search->limit))
		return false;
	if (search->limit <= 0)
		return api_fail(call, 400, "invalid limit: must be a positive number");
	if (!read_integer(call, "spss", "Atoi", &search->spss))
		return false;
	if (search->spss < 0)
		return api_fail(call, 400, "invalid spss: must be a non-negative number");
	if (tempo_search_max_spss > 0 && search->spss > tempo_search_max_spss)
		return api_fail(call, 400, "spans per span set exceeds %d. received " INT64_FORMAT,
		                tempo_search_max_spss, search->spss);
	if (search->spss == 0)
		search->spss = tempo_search_default_spss;

	if (!read_search_range(call, true, &call->range))
		return false;
	if (tempo_search_max_limit > 0 && search->limit > tempo_search_max_limit)
		return api_fail(call, 400, "limit " INT64_FORMAT " exceeds max limit %d",
		                search->limit, tempo_search_max_limit);
	if (search->limit > PG_INT32_MAX || search->spss > PG_INT32_MAX)
		return api_fail(call, 400, "invalid limit: value out of range");
	return true;
}

/* ---------------------------------------------------------------- answer */

static ProtobufCBinaryData
bytes_of(const char *text)
{
	ProtobufCBinaryData data;

	data.data = (uint8_t *) text;
	data.len = text ? strlen(text) : 0;
	return data;
}

/* Columns 1 to 5 of both queries: trace id, root service and name, start, duration. */
static Tempo__Api__TraceSearchMetadata *
trace_of(uint64 row)
{
	Tempo__Api__TraceSearchMetadata *trace = palloc(sizeof(*trace));
	char                            *id = result_text(row, 1);
	char                            *service = result_text(row, 2);
	int64                            duration;
	bool                             isnull;

	tempo__api__trace_search_metadata__init(trace);
	while (!tempo_left_pad_trace_ids && *id == '0' && id[1])
		id++;
	trace->traceid = bytes_of(id);
	trace->root_service_name = bytes_of(service && *service ? service : NO_ROOT);
	trace->root_trace_name = bytes_of(result_text(row, 3));
	trace->start_time_unix_nano = (uint64) result_int64(row, 4, &isnull);
	duration = result_int64(row, 5, &isnull) / 1000000;
	trace->duration_ms = (uint32) Min(Max(duration, 0), PG_UINT32_MAX);
	return trace;
}

/* The spansets and statistics of a trace come as the API prints them. */
static void
set_spansets(Tempo__Api__TraceSearchMetadata *trace, uint64 row)
{
	HeapTuple                        tuple = SPI_tuptable->vals[row];
	TupleDesc                        desc = SPI_tuptable->tupdesc;
	JsonbParseState                 *state = NULL;
	JsonbValue                       key;
	JsonbValue                       value;
	Jsonb                           *whole;
	Tempo__Api__TraceSearchMetadata *read;
	static const char *const         names[] = {"spanSets", "serviceStats"};

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(names); i++)
	{
		bool  isnull;
		Datum datum = SPI_getbinval(tuple, desc, 6 + i, &isnull);

		if (isnull)
			continue;
		key.type = jbvString;
		key.val.string.val = (char *) names[i];
		key.val.string.len = strlen(names[i]);
		pushJsonbValue(&state, WJB_KEY, &key);
		value.type = jbvBinary;
		value.val.binary.data = &DatumGetJsonbP(datum)->root;
		value.val.binary.len = VARSIZE_ANY_EXHDR(DatumGetPointer(datum));
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	whole = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));

	read = (Tempo__Api__TraceSearchMetadata *)
		message_from_jsonb(&tempo__api__trace_search_metadata__descriptor, &whole->root);
	trace->n_span_sets = read->n_span_sets;
	trace->span_sets = read->span_sets;
	trace->n_service_stats = read->n_service_stats;
	trace->service_stats = read->service_stats;
	if (trace->n_span_sets > 0)
		trace->span_set = trace->span_sets[0];
}

/* Some traces: the whole answer, or the head of one that goes on. */
static Tempo__Api__SearchResponse *
response_of(Tempo__Api__TraceSearchMetadata **traces, Size n, bool complete)
{
	Tempo__Api__SearchResponse *response = palloc(sizeof(*response));
	Tempo__Api__SearchMetrics  *metrics = palloc(sizeof(*metrics));

	tempo__api__search_metrics__init(metrics);
	metrics->completed_jobs = complete ? 1 : 0;
	metrics->total_jobs = 1;
	metrics->inspected_traces = n;
	tempo__api__search_response__init(response);
	response->metrics = metrics;
	response->n_traces = n;
	response->traces = traces;
	return response;
}

static void
answer_no_traces(ApiCall *call)
{
	api_answer(call, &response_of(NULL, 0, true)->base);
}

/* What the query found, in the order of its rows. */
static Tempo__Api__TraceSearchMetadata **
found_traces(bool spansets)
{
	Tempo__Api__TraceSearchMetadata **traces = palloc(Max(SPI_processed, 1) * sizeof(void *));

	for (uint64 row = 0; row < SPI_processed; row++)
	{
		traces[row] = trace_of(row);
		if (spansets)
			set_spansets(traces[row], row);
	}
	return traces;
}

/* --------------------------------------------------------------- TraceQL */

static TimestampTz
timestamp_of(int64 seconds)
{
	return (seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC;
}

/* Runs the query over a range; its rows are in SPI_tuptable. */
static void
run_traceql(ApiCall *call, const Search *search, const ApiRange *range)
{
	Oid         types[6] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, TEXTARRAYOID};
	Datum       values[6];
	const char *nulls = range->set ? "      " : " nn   ";

	values[0] = CStringGetTextDatum(search->query ? search->query : "{}");
	values[1] = TimestampTzGetDatum(timestamp_of(range->start));
	values[2] = TimestampTzGetDatum(timestamp_of(range->end));
	values[3] = Int32GetDatum((int32) search->limit);
	values[4] = Int32GetDatum((int32) search->spss);
	values[5] = tenants_array(call);

	run_query(psprintf("SELECT trace_id, root_service_name, root_trace_name, start_time_unix_nano, "
	                   "duration_nano, spansets, service_stats FROM %s($1, $2, $3, $4, $5, $6)",
	                   extension_function("traceql")),
	          6, types, values, nulls);
}

/*
 * The traces that start in the newest part of the range are the first of the
 * answer, whatever the rest has.  All their spans start there or later, so the
 * spans before it need not be looked at.
 */
static Tempo__Api__TraceSearchMetadata **
search_newest(ApiCall *call, const Search *search, int64 start, Size *n)
{
	ApiRange                          newest = call->range;
	Tempo__Api__TraceSearchMetadata **traces;
	int                               nest = NewGUCNestLevel();

	if (!newest.set)
		newest.end = PG_UINT32_MAX;
	newest.set = true;
	newest.start = start;
	/* the limit is for both sides; where there is data behind the range it stays */
	if (newest.end >= now_seconds())
		(void) set_config_option("tempo_pg.max_trace_duration", "0", PGC_USERSET, PGC_S_SESSION,
		                         GUC_ACTION_SAVE, true, 0, false);
	run_traceql(call, search, &newest);
	AtEOXact_GUC(true, nest);
	traces = found_traces(search->query != NULL);
	for (*n = 0; *n < SPI_processed; (*n)++)
	{
		if (traces[*n]->start_time_unix_nano < (uint64) start * 1000000000)
			break;
	}
	SPI_freetuptable(SPI_tuptable);
	return traces;
}

static void
search_traceql(ApiCall *call, const Search *search)
{
	int64                             starts[STREAM_MAX_SLICES];
	int                               slices = stream_slices(call, &call->range, starts);
	Size                              sent = 0;
	Tempo__Api__TraceSearchMetadata **traces;

	call->without_spans = answer_no_traces;
	for (int i = 0; i < slices; i++)
	{
		Size n;

		traces = search_newest(call, search, starts[i], &n);
		if (n == (Size) search->limit)
		{
			api_answer(call, &response_of(traces, n, true)->base);
			return;
		}
		/* what has been sent is the head of the list */
		stream_send(call, &response_of(traces + sent, n - sent, false)->base);
		sent = n;
	}
	run_traceql(call, search, &call->range);
	traces = found_traces(search->query != NULL);
	api_answer(call, &response_of(traces, SPI_processed, true)->base);
}

/* ------------------------------------------------------------------- tags */

#define ROOT_SPAN "s.parent_span_id IS NULL AND NOT s.links OPERATOR(pg_catalog.@>) " \
				  "pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('trace_id', s.trace_id::text, " \
				  "'attributes', '{\"opentracing.ref_type\": \"child_of\"}'::jsonb))"

/* Whether one span meets one tag, as SQL. */
static char *
tag_condition(const LogfmtPair *tag)
{
	static const char *const substring[] = {
		"http.method", "http.url", "cluster", "namespace", "pod", "container",
		"k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"};
	const char *value = quote_literal_cstr(tag->value);
	const char *key = quote_literal_cstr(tag->key);

	if (strcmp(tag->key, "service.name") == 0)
		return psprintf("pg_catalog.strpos(COALESCE(s.service_name, ''), %s) > 0", value);
	if (strcmp(tag->key, "name") == 0)
		return psprintf("pg_catalog.strpos(s.name, %s) > 0", value);
	if (strcmp(tag->key, "root.service.name") == 0)
		return psprintf("(pg_catalog.strpos(COALESCE(s.service_name, ''), %s) > 0 AND " ROOT_SPAN ")", value);
	if (strcmp(tag->key, "root.name") == 0)
		return psprintf("(pg_catalog.strpos(s.name, %s) > 0 AND " ROOT_SPAN ")", value);
	if (strcmp(tag->key, "status.code") == 0)
		return psprintf("s.status = %s", value);
	for (int i = 0; i < lengthof(substring); i++)
	{
		if (strcmp(tag->key, substring[i]) == 0)
			return psprintf("(pg_catalog.strpos(s.attributes ->> %s, %s) > 0 OR "
			                "pg_catalog.strpos(s.resource_attributes ->> %s, %s) > 0)",
			                key, value, key, value);
	}
	return psprintf("(s.attributes ->> %s = %s OR s.resource_attributes ->> %s = %s)", key, value, key, value);
}

#define TRACE_START "pg_catalog.min(s.start_time_unix_nano)"
#define TRACE_END "pg_catalog.max(s.start_time_unix_nano + GREATEST(s.duration_nano, 0))"
#define OF_ROOT " ORDER BY s.start_time_unix_nano, s.span_id) FILTER (WHERE " ROOT_SPAN "))[1]"

/* How far the spans of a trace in the range may lie before it, as TraceQL has it. */
static int64
slack_nanos(void)
{
	const char *value = GetConfigOption("tempo_pg.max_trace_duration", true, false);
	int         milliseconds;

	if (value == NULL || !parse_int(value, &milliseconds, GUC_UNIT_MS, NULL))
		return 0;
	return milliseconds * INT64CONST(1000000);
}

/*
 * The conditions may be met by different spans of a trace.  A trace is in the
 * range if it overlaps it.  The first condition finds the traces, the others
 * are looked at in whole traces.
 */
static void
search_tags(ApiCall *call, const Search *search)
{
	Oid            types[5] = {TEXTARRAYOID, INT8OID, INT8OID, INT8OID, INT8OID};
	Datum          values[5];
	StringInfoData sql;
	ListCell      *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql,
	                 "SELECT s.trace_id, (pg_catalog.array_agg(s.service_name" OF_ROOT ", "
	                 "(pg_catalog.array_agg(s.name" OF_ROOT ", " TRACE_START ", " TRACE_END " - " TRACE_START
	                 " FROM tempo.spans AS s WHERE s.tenant = ANY ($1) AND s.trace_id = ANY (ARRAY("
	                 "SELECT DISTINCT s.trace_id FROM tempo.spans AS s WHERE s.tenant = ANY ($1) "
	                 "AND s.start_time_unix_nano >= $5 AND s.start_time_unix_nano < $3 AND %s)) "
	                 "GROUP BY s.trace_id HAVING " TRACE_START " < $3 AND " TRACE_END " >= $2",
	                 search->tags != NIL ? tag_condition(linitial(search->tags)) : "true");
	foreach (lc, search->tags)
		appendStringInfo(&sql, " AND pg_catalog.bool_or(%s)", tag_condition(lfirst(lc)));
	if (search->min_duration > 0)
		appendStringInfo(&sql, " AND (" TRACE_END " - " TRACE_START ") / 1000000 >= " INT64_FORMAT,
		                 search->min_duration);
	if (search->max_duration > 0)
		appendStringInfo(&sql, " AND (" TRACE_END " - " TRACE_START ") / 1000000 <= " INT64_FORMAT,
		                 search->max_duration);
	appendStringInfoString(&sql, " ORDER BY 4 DESC, 1 LIMIT $4");

	values[0] = tenants_array(call);
	values[1] = Int64GetDatum(range_start_nanos(&call->range));
	values[2] = Int64GetDatum(range_end_nanos(&call->range));
	values[3] = Int64GetDatum(search->limit);
	values[4] = Int64GetDatum(Max(range_start_nanos(&call->range) - slack_nanos(), 0));
	run_query(sql.data, 5, types, values, NULL);
	api_answer(call, &response_of(found_traces(false), SPI_processed, true)->base);
}

void
serve_search(ApiCall *call)
{
	Search        search;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;

	if (!read_search(call, &search))
		return;

	SPI_connect();
	/* the answer outlives the query */
	old = MemoryContextSwitchTo(context);
	if (search.query || (search.tags == NIL && search.min_duration == 0 && search.max_duration == 0))
		search_traceql(call, &search);
	else
		search_tags(call, &search);
	MemoryContextSwitchTo(old);
	SPI_finish();
}
