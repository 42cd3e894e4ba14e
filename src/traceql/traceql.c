/*-------------------------------------------------------------------------
 *
 * traceql.c
 *	  The SQL functions of TraceQL: parsing, searching, and showing the SQL
 *	  that a search runs.
 *
 * Searches run as the calling user: privileges and row security of
 * tempo.spans hold.  Their functions are declared with a fixed search_path,
 * so that nothing a user creates can stand in for what the SQL names.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "traceql/metrics.h"
#include "traceql/to_sql.h"
#include "traceql/traceql.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(tempo_traceql_parse);
PG_FUNCTION_INFO_V1(tempo_traceql);
PG_FUNCTION_INFO_V1(tempo_traceql_spans);
PG_FUNCTION_INFO_V1(tempo_traceql_to_sql);
PG_FUNCTION_INFO_V1(tempo_traceql_metrics);
PG_FUNCTION_INFO_V1(tempo_traceql_metrics_to_sql);
PG_FUNCTION_INFO_V1(tempo_query_metrics);
PG_FUNCTION_INFO_V1(tempo_query_exemplars);

#define NS_PER_MS INT64CONST(1000000)

static int max_trace_duration_ms = 3600 * 1000;
int        tql_compare_memory = 1024 * 1024;

void
tempo_traceql_init(void)
{
	DefineCustomIntVariable("tempo_pg.max_trace_duration",
	                        "Longest trace that searches expect.",
	                        "A search with a time range looks for matching spans this much before and after it, "
	                        "because a trace belongs to the range if any of its spans does.",
	                        &max_trace_duration_ms,
	                        3600 * 1000,
	                        0, INT_MAX,
	                        PGC_USERSET,
	                        GUC_UNIT_MS,
	                        NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.compare_memory",
	                        "Memory that compare() of a TraceQL metrics query may use.",
	                        "It grows with the number of spans and of different values of their attributes; "
	                        "a query that needs more fails.",
	                        &tql_compare_memory,
	                        1024 * 1024,
	                        1024, MAX_KILOBYTES,
	                        PGC_USERSET,
	                        GUC_UNIT_KB,
	                        NULL, NULL, NULL);
}

static TqlQuery *
parse_text(text *query)
{
	return tql_parse(VARDATA_ANY(query), VARSIZE_ANY_EXHDR(query));
}

/* tempo.traceql_parse(query text): the canonical form */
Datum
tempo_traceql_parse(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(tql_print_query(parse_text(PG_GETARG_TEXT_PP(0)))));
}

/* Microseconds since 2000 to nanoseconds since 1970; infinite and distant times saturate. */
static int64
timestamp_to_ns(TimestampTz t)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (t <= PG_INT64_MIN / 1000)
		return PG_INT64_MIN;
	if (t >= PG_INT64_MAX / 1000 - epoch)
		return PG_INT64_MAX;
	return (t + epoch) * 1000;
}

static void
read_range(FunctionCallInfo fcinfo, int arg, TqlSearch *search)
{
	search->has_start = !PG_ARGISNULL(arg);
	if (search->has_start)
		search->start = timestamp_to_ns(PG_GETARG_TIMESTAMPTZ(arg));
	search->has_end = !PG_ARGISNULL(arg + 1);
	if (search->has_end)
		search->end = timestamp_to_ns(PG_GETARG_TIMESTAMPTZ(arg + 1));
	search->slack = max_trace_duration_ms * NS_PER_MS;
}

/* NULL = no limit */
static void
read_limit(FunctionCallInfo fcinfo, int arg, TqlSearch *search)
{
	search->has_limit = !PG_ARGISNULL(arg);
	if (!search->has_limit)
		return;
	search->limit = PG_GETARG_INT32(arg);
	if (search->limit < 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE),
		         errmsg("\"limit\" must not be negative")));
}

/* NULL = all spans of a spanset, and so is 0 */
static void
read_spss(FunctionCallInfo fcinfo, int arg, TqlSearch *search)
{
	search->spans_per_spanset = PG_ARGISNULL(arg) ? 0 : PG_GETARG_INT32(arg);
	if (search->spans_per_spanset < 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("\"spss\" must not be negative")));
}

/* NULL = all tenants */
static void
read_tenants(FunctionCallInfo fcinfo, int arg, TqlSearch *search)
{
	Datum *items;
	bool  *nulls;
	int    n;

	search->all_tenants = PG_ARGISNULL(arg);
	if (search->all_tenants)
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			search->tenants = lappend(search->tenants, TextDatumGetCString(items[i]));
}

static char *
query_context(const char *query)
{
	return psprintf(_("TraceQL query \"%s\""), query);
}

/*
 * The context of an error without the line that shows "sql", from the text in
 * front of it in its line to the quote behind it; instead it names the query.
 */
static char *
context_of_query(const char *context, const char *sql, const char *query)
{
	const char    *at = context ? strstr(context, sql) : NULL;
	const char    *begin = at;
	const char    *end;
	StringInfoData out;

	if (at == NULL)
		return unconstify(char *, context);
	while (begin > context && begin[-1] != '\n')
		begin--;
	end = strchrnul(at + strlen(sql), '\n');
	initStringInfo(&out);
	appendBinaryStringInfo(&out, context, begin - context);
	appendStringInfoString(&out, query_context(query));
	appendStringInfoString(&out, end);
	return out.data;
}

/* An error in "sql" as one in the query that the user wrote */
static void
hide_sql(ErrorData *error, const char *sql, const char *query)
{
	error->context = context_of_query(error->context, sql, query);
	if (error->internalquery && strcmp(error->internalquery, sql) == 0)
	{
		error->internalquery = NULL;
		error->internalpos = 0;
		error->context = error->context ? psprintf("%s\n%s", query_context(query), error->context) : query_context(query);
	}
}

/*
 * Runs "sql", read-only, and returns its rows as the result of the calling
 * set-returning function.  Only errors that should not happen show the SQL.
 */
static void
return_query(FunctionCallInfo fcinfo, const TqlSearch *search, const char *sql)
{
	ReturnSetInfo    *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext     context = CurrentMemoryContext;
	SPIExecuteOptions options = {0};
	int               rc = 0;

	InitMaterializedSRF(fcinfo, 0);

	SPI_connect();
	options.read_only = true;
	options.dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(options.dest, rsinfo->setResult, CurrentMemoryContext, false, NULL, NULL);
	PG_TRY();
	{
		rc = SPI_execute_extended(sql, &options);
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_INTERNAL_ERROR)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		hide_sql(error, sql, search->text);
		ReThrowError(error);
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "could not run the SQL of a TraceQL query: %s", SPI_result_code_string(rc));
	SPI_finish();
}

/* Every argument of traceql() and of traceql_to_sql(); false if there is no query. */
static bool
read_search(FunctionCallInfo fcinfo, TqlSearch *search)
{
	memset(search, 0, sizeof(*search));
	if (PG_ARGISNULL(0))
		return false;
	search->text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	search->query = parse_text(PG_GETARG_TEXT_PP(0));
	read_range(fcinfo, 1, search);
	read_limit(fcinfo, 3, search);
	read_spss(fcinfo, 4, search);
	read_tenants(fcinfo, 5, search);
	return true;
}

/* traceql(query, start, "end", "limit", spss, tenants): one row per trace */
Datum
tempo_traceql(PG_FUNCTION_ARGS)
{
	TqlSearch search;

	if (read_search(fcinfo, &search))
		return_query(fcinfo, &search, tql_search_sql(&search));
	else
		InitMaterializedSRF(fcinfo, 0);
	return (Datum) 0;
}

/* traceql_to_sql(query, start, "end", "limit", spss, tenants): what traceql() runs */
Datum
tempo_traceql_to_sql(PG_FUNCTION_ARGS)
{
	TqlSearch search;

	if (!read_search(fcinfo, &search))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(tql_search_sql(&search)));
}

/* traceql_spans(query, start, "end", "limit", tenants): one row per matching span */
Datum
tempo_traceql_spans(PG_FUNCTION_ARGS)
{
	TqlSearch search = {0};

	if (PG_ARGISNULL(0))
	{
		InitMaterializedSRF(fcinfo, 0);
		return (Datum) 0;
	}
	search.text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	search.query = parse_text(PG_GETARG_TEXT_PP(0));
	read_range(fcinfo, 1, &search);
	read_limit(fcinfo, 3, &search);
	read_tenants(fcinfo, 4, &search);
	return_query(fcinfo, &search, tql_spans_sql(&search));
	return (Datum) 0;
}

/* A metrics query, its tenants, and where to look for its traces */
static void
read_metrics(FunctionCallInfo fcinfo, int tenants, TqlSearch *search)
{
	memset(search, 0, sizeof(*search));
	search->text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	search->query = parse_text(PG_GETARG_TEXT_PP(0));
	if (search->query->metrics == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("not a metrics query"),
		         errhint("Add a function, as in \"%s | rate()\"; traceql() is for searches.", search->text)));
	search->slack = max_trace_duration_ms * NS_PER_MS;
	read_tenants(fcinfo, tenants, search);
}

static void
set_window(TqlSearch *search, const TqlRange *range)
{
	search->has_start = search->has_end = true;
	search->start = range->after;
	search->end = range->stop;
}

/* The last hour until now where nothing else is said; without a step some 240 of them */
static void
read_metrics_range(FunctionCallInfo fcinfo, TqlRange *range)
{
	int64 end = timestamp_to_ns(PG_ARGISNULL(2) ? GetCurrentStatementStartTimestamp() : PG_GETARG_TIMESTAMPTZ(2));
	int64 start = PG_ARGISNULL(1) ? end - INT64CONST(3600000000000) : timestamp_to_ns(PG_GETARG_TIMESTAMPTZ(1));
	int64 length;
	int64 step;

	if (pg_sub_s64_overflow(end, start, &length) && end > start)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("the range from \"start\" to \"end\" is too long")));
	if (end <= start)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("\"end\" must be later than \"start\"")));
	step = tql_automatic_step(length);
	if (!PG_ARGISNULL(3))
	{
		const Interval *interval = PG_GETARG_INTERVAL_P(3);

		if (interval->month != 0 || interval->day > 10000 || interval->time < 0 || interval->day < 0 ||
		    interval->time > PG_INT64_MAX / 10000 || (interval->time == 0 && interval->day == 0))
			ereport(ERROR,
			        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			         errmsg("\"step\" must be a positive number of days or of a shorter unit")));
		step = (interval->day * USECS_PER_DAY + interval->time) * 1000;
	}
	if (!tql_align_range(start, end, step, range))
		ereport(ERROR,
		        (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
		         errmsg("time range out of range")));
}

/* traceql_metrics(query, start, "end", step, tenants): one row per sample */
Datum
tempo_traceql_metrics(PG_FUNCTION_ARGS)
{
	TqlSearch search;
	TqlRange  range;

	if (PG_ARGISNULL(0))
	{
		InitMaterializedSRF(fcinfo, 0);
		return (Datum) 0;
	}
	read_metrics(fcinfo, 4, &search);
	read_metrics_range(fcinfo, &range);
	set_window(&search, &range);
	return_query(fcinfo, &search, tql_metrics_sql(&search, &range, true));
	return (Datum) 0;
}

/* traceql_metrics_to_sql(query, start, "end", step, tenants): what traceql_metrics() runs */
Datum
tempo_traceql_metrics_to_sql(PG_FUNCTION_ARGS)
{
	TqlSearch search;
	TqlRange  range;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	read_metrics(fcinfo, 4, &search);
	read_metrics_range(fcinfo, &range);
	set_window(&search, &range);
	PG_RETURN_TEXT_P(cstring_to_text(tql_metrics_sql(&search, &range, true)));
}

/*
 * Arguments query, start, stop, step and tenants, and at last "after" if there
 * is one; the range exactly as given.  False if one is missing.
 */
static bool
read_exact_metrics(FunctionCallInfo fcinfo, int tenants, bool has_after, TqlSearch *search, TqlRange *range)
{
	for (int arg = 0; arg < 4; arg++)
	{
		if (PG_ARGISNULL(arg))
		{
			InitMaterializedSRF(fcinfo, 0);
			return false;
		}
	}
	read_metrics(fcinfo, tenants, search);
	range->start = PG_GETARG_INT64(1);
	range->stop = PG_GETARG_INT64(2);
	range->step = PG_GETARG_INT64(3);
	range->after = range->start;
	if (range->step <= 0 || range->start >= range->stop || range->start == PG_INT64_MIN || range->stop == PG_INT64_MAX)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("the range of a metrics query must not be empty")));
	if (has_after && !PG_ARGISNULL(5))
		range->after = Max(range->start, Min(PG_GETARG_INT64(5), range->stop));
	set_window(search, range);
	return true;
}

/* tempo.query_metrics(query, start, stop, step, tenants, after): one row per series */
Datum
tempo_query_metrics(PG_FUNCTION_ARGS)
{
	TqlSearch search;
	TqlRange  range;

	if (read_exact_metrics(fcinfo, 4, true, &search, &range))
		return_query(fcinfo, &search, tql_metrics_sql(&search, &range, false));
	return (Datum) 0;
}

/* tempo.query_exemplars(query, start, stop, step, first, last, "limit", tenants): one row per exemplar */
Datum
tempo_query_exemplars(PG_FUNCTION_ARGS)
{
	TqlSearch search;
	TqlRange  range;
	TqlRange *windows;
	Datum    *first;
	Datum    *last;
	int       n_steps;
	int       n_windows = 0;
	int       n;
	int       m;
	char     *sql;

	if (PG_ARGISNULL(4) || PG_ARGISNULL(5) || PG_ARGISNULL(6))
	{
		InitMaterializedSRF(fcinfo, 0);
		return (Datum) 0;
	}
	if (!read_exact_metrics(fcinfo, 7, false, &search, &range))
		return (Datum) 0;
	/* a null among them is an error */
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(4), INT4OID, 4, true, TYPALIGN_INT, &first, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(5), INT4OID, 4, true, TYPALIGN_INT, &last, NULL, &m);
	n_steps = tql_count_steps(range.start, range.stop, range.step);
	windows = palloc(sizeof(TqlRange) * Max(n, 1));
	for (int i = 0; i < Min(n, m); i++)
	{
		int32 from = DatumGetInt32(first[i]);
		int32 to = DatumGetInt32(last[i]);

		if (from < 0 || from > to || to >= n_steps)
			continue;
		windows[n_windows].start = windows[n_windows].after = range.start + from * range.step;
		windows[n_windows++].stop = Min(range.start + (to + 1) * range.step, range.stop);
	}
	sql = tql_exemplars_sql(&search, windows, n_windows, Max(PG_GETARG_INT32(6), 0));
	if (sql)
		return_query(fcinfo, &search, sql);
	else
		InitMaterializedSRF(fcinfo, 0);
	return (Datum) 0;
}
