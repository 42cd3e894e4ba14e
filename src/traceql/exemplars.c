/*-------------------------------------------------------------------------
 *
 * exemplars.c
 *	  Spans that stand for what a metrics query counted, at most one of a
 *	  trace.
 *
 * They are looked for after the query, in a few windows of time in which it
 * found something, and only until there are enough of them: the next span that
 * matches is a few blocks away, where counting reads them all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "traceql/metrics.h"
#include "traceql/series.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(tempo_trace_exemplar);

/* Whole traces cost more than spans: look for fewer */
#define TRACES_PER_WINDOW 4

/* ----------------------------------------------------------------- as SQL */

static void
append_exemplar(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, int number)
{
	appendStringInfo(out, "tempo.trace_exemplar(%s, %d,\n            ", quote_literal_cstr(search->text), number);
	tql_append_columns(out, tql_metrics_references(part), true);
	appendStringInfoString(out, ", NULL) AS found\n");
}

static char *
window_sql(const TqlRange *window, const char *time)
{
	return psprintf("%s >= " INT64_FORMAT " AND %s < " INT64_FORMAT, time, window->start + 1, time, window->stop + 1);
}

/* The first spans of each window that meet the filter, by trace */
static void
append_plain_part(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, int number,
                  const TqlRange *windows, int n_windows, int per_window)
{
	const char    *filter = tql_filter_sql(tql_plain_filter(part->pipeline));
	StringInfoData columns;

	initStringInfo(&columns);
	tql_append_columns(&columns, tql_metrics_references(part), false);
	/* columns that nobody needs are NULL, which as a column of a subquery is a text */
	appendStringInfo(out,
	                 "        SELECT tempo.trace_exemplar(%s, %d,\n"
	                 "            s.trace_id, s.span_id, s.parent_span_id, s.name, s.kind, s.status, s.status_message,\n"
	                 "            s.start_time_unix_nano, s.duration_nano, s.service_name, s.attributes::jsonb, s.resource_attributes::jsonb,\n"
	                 "            s.scope_name, s.scope_version, s.scope_attributes::jsonb, s.events::jsonb, s.links::jsonb, NULL) AS found\n"
	                 "        FROM (",
	                 quote_literal_cstr(search->text), number);
	/* spans of one trace often stand together: read more of them */
	for (int i = 0; i < n_windows; i++)
		appendStringInfo(out,
		                 "%s(SELECT %s\n"
		                 "            FROM tempo.spans AS s\n"
		                 "            WHERE %s AND %s%s LIMIT %d)",
		                 i == 0 ? "\n            " : "\n            UNION ALL ", columns.data, filter,
		                 window_sql(&windows[i], "s.start_time_unix_nano"), tql_tenant_condition(search), per_window * 2);
	appendStringInfoString(out,
	                       ") AS s(trace_id, span_id, parent_span_id, name, kind, status, status_message,\n"
	                       "            start_time_unix_nano, duration_nano, service_name, attributes, resource_attributes,\n"
	                       "            scope_name, scope_version, scope_attributes, events, links)\n"
	                       "        GROUP BY s.trace_id\n");
}

/* The newest traces with something in the window, as a search looks for them */
static void
append_traces_part(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, int number,
                   const TqlRange *windows, int n_windows, int per_window)
{
	const char *tenants = tql_tenant_condition(search);

	for (int i = 0; i < n_windows; i++)
	{
		const TqlRange *window = &windows[i];
		char           *condition = tql_trace_condition(part->pipeline, window_sql(window, "s.start_time_unix_nano"));

		appendStringInfo(out, "%s        (SELECT t.found FROM (\n        SELECT s.trace_id, min(s.start_time_unix_nano) AS start, ",
		                 i == 0 ? "" : "        UNION ALL\n");
		append_exemplar(out, search, part, number);
		appendStringInfoString(out, "        FROM tempo.spans AS s\n");
		if (tenants[0])
			appendStringInfo(out, "        WHERE %s\n", tenants + strlen(" AND "));
		appendStringInfo(out,
		                 "        GROUP BY s.trace_id\n"
		                 "        HAVING %s%smin(s.start_time_unix_nano) <= " INT64_FORMAT "\n"
		                 "        ORDER BY start DESC, s.trace_id\n"
		                 "        ) AS t\n"
		                 "        WHERE %s\n"
		                 "        ORDER BY t.start DESC, t.trace_id LIMIT %d)\n",
		                 condition ? condition : "", condition ? " AND " : "", window->stop,
		                 window_sql(window, "(t.found).start_time_unix_nano"), Min(per_window, TRACES_PER_WINDOW));
	}
}

char *
tql_exemplars_sql(const TqlSearch *search, const TqlRange *windows, int n_windows, int limit)
{
	StringInfoData parts;
	int            n = tql_metrics_parts(search->query->metrics);
	int            per_window = n_windows > 0 ? (limit + n_windows - 1) / n_windows : 0;

	initStringInfo(&parts);
	for (int i = 0; i < n && per_window > 0; i++)
	{
		const TqlMetricsExpr *part = tql_metrics_part(search->query->metrics, i);

		if (part->metrics->function == TQL_M_COMPARE || tql_matches_nothing(part->pipeline))
			continue;
		if (parts.len > 0)
			appendStringInfoString(&parts, "        UNION ALL\n");
		if (tql_is_plain_part(part))
			append_plain_part(&parts, search, part, i, windows, n_windows, per_window);
		else
			append_traces_part(&parts, search, part, i, windows, n_windows, per_window);
	}
	if (parts.len == 0)
		return NULL;
	return psprintf("SELECT e.start_time_unix_nano, e.value, e.series, e.labels\n"
	                "FROM (\n"
	                "    SELECT (t.found).* FROM (\n%s    ) AS t\n"
	                "    WHERE (t.found).start_time_unix_nano >= " INT64_FORMAT " AND (t.found).start_time_unix_nano < " INT64_FORMAT "\n"
	                "    LIMIT %d\n"
	                ") AS e\n"
	                "ORDER BY 1",
	                parts.data, search->start + 1, search->end + 1, limit);
}

/* ------------------------------------------------------- one of a trace */

/* What the query mentions of the span and is there, and the trace id without zeros in front */
static Jsonb *
show_mentioned(TqlTrace *trace, TqlSpan *span, const TqlMetricsExpr *part)
{
	JsonbParseState *state = NULL;
	TqlAttribute     id = {.intrinsic = TQL_I_TRACE_ID};
	TqlValue         value;
	ListCell        *lc;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach (lc, tql_metrics_references(part))
	{
		const TqlAttribute *attribute = &((TqlReference *) lfirst(lc))->attribute;
		const char         *key = tql_print_attribute(attribute);

		if (attribute->intrinsic == TQL_I_TRACE_ID)
			continue;
		tql_span_attribute(trace, span, attribute, &value);
		if (value.type != TQL_V_NIL && value.type != TQL_V_OPAQUE)
			tql_push_attribute(&state, key, strlen(key), &value);
	}
	tql_span_attribute(trace, span, &id, &value);
	while (value.len > 1 && *value.s == '0')
	{
		value.s++;
		value.len--;
	}
	tql_push_attribute(&state, "trace:id", 8, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/* The labels of the series that counted the span; of several quantiles the first */
static Jsonb *
show_series(TqlTrace *trace, TqlSpan *span, const TqlMetrics *metrics, double measured)
{
	List     *labels = NIL;
	TqlValue  value;
	ListCell *lc;

	foreach (lc, metrics->by)
	{
		tql_span_attribute(trace, span, lfirst(lc), &value);
		labels = lappend(labels, tql_make_label(tql_print_attribute(lfirst(lc)), tql_label_text(&value)));
	}
	memset(&value, 0, sizeof(value));
	value.type = TQL_V_DOUBLE;
	if (metrics->function == TQL_M_QUANTILE)
	{
		value.d = tql_number(linitial(metrics->quantiles));
		labels = lappend(labels, tql_make_label("p", tql_label_text(&value)));
	}
	else if (metrics->function == TQL_M_HISTOGRAM)
	{
		value.d = measured / tql_metrics_unit(metrics);
		labels = lappend(labels, tql_make_label("__bucket", tql_label_text(&value)));
	}
	return tql_label_list(labels);
}

/* Can the span stand for what was counted, and with which number? */
static bool
can_stand(TqlTrace *trace, TqlSpan *span, const TqlMetrics *metrics, double *number, double *measured)
{
	TqlValue value;

	if (metrics->argument == NULL)
		return true;
	tql_span_attribute(trace, span, metrics->argument, &value);
	if (!tql_value_is_number(&value))
		return false;
	*number = tql_value_number(&value);
	return tql_measure(metrics, *number, measured);
}

/* The matching span to take: any, but not always the first */
static TqlSpan *
choose_span(TqlTrace *trace, const List *groups, const TqlMetrics *metrics, double *number, double *measured)
{
	const TqlGroup *group = groups == NIL ? NULL : list_nth(groups, trace->trace_id[14] % list_length(groups));

	for (int i = 0; group && i < group->n; i++)
	{
		TqlSpan *span = &trace->spans[group->members[(trace->trace_id[15] + i) % group->n]];

		CHECK_FOR_INTERRUPTS();
		if (can_stand(trace, span, metrics, number, measured))
			return span;
	}
	return NULL;
}

/* Final function of tempo.trace_exemplar(): tempo.exemplar, NULL if no span matches */
Datum
tempo_trace_exemplar(PG_FUNCTION_ARGS)
{
	const TqlMetricsExpr *part;
	const TqlMetrics     *metrics;
	TqlTrace             *trace;
	TqlSpan              *span;
	TupleDesc             desc;
	MemoryContext         context;
	MemoryContext         old;
	HeapTuple             tuple;
	double                number = 0;
	double                measured = 0;
	bool                  counted;
	Datum                 values[4];
	bool                  nulls[4] = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	trace = tql_collected(PG_GETARG_POINTER(0), &part, &context);
	if (part == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("not a metrics query")));
	metrics = part->metrics;

	old = MemoryContextSwitchTo(context);
	span = choose_span(trace, tql_run_pipeline(trace, part->pipeline), metrics, &number, &measured);
	if (span)
	{
		/* of what is counted the value is that of the sample, which is not known here */
		counted = metrics->argument == NULL || metrics->function == TQL_M_HISTOGRAM;
		values[0] = Int64GetDatum(span->start);
		values[1] = Float8GetDatum(number / tql_metrics_unit(metrics));
		nulls[1] = counted;
		values[2] = JsonbPGetDatum(show_series(trace, span, metrics, measured));
		nulls[2] = metrics->by == NIL && metrics->function != TQL_M_QUANTILE && metrics->function != TQL_M_HISTOGRAM;
		values[3] = JsonbPGetDatum(show_mentioned(trace, span, part));
	}
	MemoryContextSwitchTo(old);
	if (span == NULL)
	{
		MemoryContextReset(context);
		PG_RETURN_NULL();
	}
	tuple = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	MemoryContextReset(context);
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
