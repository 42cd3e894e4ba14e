/*-------------------------------------------------------------------------
 *
 * metrics_sql.c
 *	  Metrics queries as SQL.
 *
 * Each query of an expression is grouped by time step and labels: directly
 * over tempo.spans if all of it can be said about single spans, else over what
 * tempo.trace_spans() finds in the traces that may match.  One aggregate,
 * tempo.metrics_series(), then makes series of the groups and does what
 * follows: quantiles, topk, thresholds, arithmetic.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "traceql/metrics.h"
#include "traceql/to_sql.h"
#include "utils/builtins.h"

/* The number of the step that a start time is in */
static char *
bucket_sql(const char *time, const TqlRange *range)
{
	return psprintf("(%s - " INT64_FORMAT ") / " INT64_FORMAT, time, range->start + 1, range->step);
}

static char *
window_sql(const char *time, const TqlRange *range)
{
	return psprintf("%s >= " INT64_FORMAT " AND %s < " INT64_FORMAT, time, range->after + 1, time, range->stop + 1);
}

static bool
is_bucketed(const TqlMetrics *metrics)
{
	return metrics->function == TQL_M_QUANTILE || metrics->function == TQL_M_HISTOGRAM;
}

/* Can labels and values be taken from the rows of tempo.spans? */
bool
tql_is_plain_part(const TqlMetricsExpr *part)
{
	const TqlMetrics *metrics = part->metrics;
	ListCell         *lc;

	if (metrics->function == TQL_M_COMPARE || tql_plain_filter(part->pipeline) == NULL)
		return false;
	foreach (lc, metrics->by)
	{
		const TqlAttribute *by = lfirst(lc);

		if (!tql_is_plain_attribute(by) || by->intrinsic == TQL_I_DURATION)
			return false;
	}
	return metrics->argument == NULL || tql_is_plain_attribute(metrics->argument);
}

bool
tql_is_plain_compare(const TqlMetricsExpr *part)
{
	return part->metrics->function == TQL_M_COMPARE && tql_is_plain(part->metrics->compare) &&
	       tql_plain_filter(part->pipeline) != NULL;
}

/* What is measured of a row, NULL for what is no number */
static char *
measured_sql(const TqlMetrics *metrics)
{
	if (metrics->argument == NULL)
		return NULL;
	if (metrics->argument->intrinsic == TQL_I_DURATION)
		return pstrdup("greatest(s.duration_nano, 0)");
	return psprintf("tempo.number(%s)", tql_attribute_jsonb(metrics->argument));
}

/* ", value, n": the two results of each group, over values "m" with weights "w" (NULL = 1) */
static void
append_results(StringInfo out, const TqlMetrics *metrics, const char *m, const char *w)
{
	const char *count = w ? psprintf("sum(%s)", w) : "count(*)";
	const char *count_values = w ? psprintf("sum(%s) FILTER (WHERE %s IS NOT NULL)", w, m) : psprintf("count(%s)", m);

	switch (metrics->function)
	{
		case TQL_M_RATE:
		case TQL_M_COUNT:
		case TQL_M_COMPARE:
			appendStringInfo(out, "NULL::double precision AS value, %s AS n", count);
			break;
		case TQL_M_MIN:
			appendStringInfo(out, "min(%s) AS value, %s AS n", m, count_values);
			break;
		case TQL_M_MAX:
			appendStringInfo(out, "max(%s) AS value, %s AS n", m, count_values);
			break;
		case TQL_M_AVG:
		case TQL_M_SUM:
			if (w)
				appendStringInfo(out, "sum(%s * %s) AS value, %s AS n", m, w, count_values);
			else
				appendStringInfo(out, "sum(%s) AS value, %s AS n", m, count_values);
			break;
		case TQL_M_QUANTILE:
		case TQL_M_HISTOGRAM:
			appendStringInfo(out, "%s AS value, %s AS n", m, count);
			break;
	}
}

/* "SELECT bucket, keys, value, n" grouped directly */
static void
append_plain_part(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, const TqlRange *range)
{
	const TqlMetrics *metrics = part->metrics;
	bool              extrapolate = tql_hint_is_true(search->query, "extrapolate");
	char             *m = measured_sql(metrics);
	StringInfoData    labels;
	StringInfoData    inner;
	StringInfoData    groups;
	ListCell         *lc;

	initStringInfo(&labels);
	initStringInfo(&inner);
	initStringInfo(&groups);
	foreach (lc, metrics->by)
	{
		const TqlAttribute *by = lfirst(lc);
		int                 n = foreach_current_index(lc) + 1;
		const char         *separator = n == 1 ? "" : ", ";

		/* numbers that are equal but of different types are different labels: group by their text */
		if (by->intrinsic != TQL_ATTRIBUTE || tql_is_service_name(by))
		{
			appendStringInfo(&labels, "%stempo.label(to_jsonb(g.key%d))", separator, n);
			appendStringInfo(&inner, ", %s AS key%d", tql_attribute_text(by), n);
		}
		else
		{
			appendStringInfo(&labels, "%stempo.label(g.key%d::jsonb)", separator, n);
			appendStringInfo(&inner, ", (%s)::text AS key%d", tql_attribute_jsonb(by), n);
		}
		appendStringInfo(&groups, ", %d", n + 1);
	}
	if (is_bucketed(metrics))
	{
		m = psprintf("tempo.log2_bucket(%s)", m);
		appendStringInfo(&groups, ", %d", list_length(metrics->by) + 2);
	}
	appendStringInfo(out,
	                 "    SELECT g.bucket, %s AS keys, g.value, g.n\n"
	                 "    FROM (SELECT %s AS bucket%s, ",
	                 metrics->by != NIL ? psprintf("ARRAY[%s]", labels.data) : "NULL::text[]",
	                 bucket_sql("s.start_time_unix_nano", range), inner.data);
	append_results(out, metrics, m, extrapolate ? "tempo.sampling_weight(s.trace_state)" : NULL);
	appendStringInfo(out,
	                 "\n"
	                 "        FROM tempo.spans AS s\n"
	                 "        WHERE %s AND %s%s\n"
	                 "        GROUP BY 1%s) AS g\n",
	                 tql_filter_sql(tql_plain_filter(part->pipeline)),
	                 window_sql("s.start_time_unix_nano", range), tql_tenant_condition(search), groups.data);
}

/* The condition for spans of traces that may match */
static void
append_candidates(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, const TqlRange *range)
{
	TqlCandidates candidates = tql_candidates(part->pipeline);

	appendStringInfo(out,
	                 "s.trace_id = ANY (ARRAY(\n"
	                 "                SELECT s.trace_id FROM tempo.spans AS s\n"
	                 "                WHERE %s",
	                 candidates.where);
	if (strcmp(candidates.where, "true") == 0)
		appendStringInfo(out, " AND %s", window_sql("s.start_time_unix_nano", range));
	else
		tql_append_time_condition(out, search);
	appendStringInfo(out, "%s\n                GROUP BY s.trace_id", tql_tenant_condition(search));
	if (candidates.having)
		appendStringInfo(out, " HAVING %s", candidates.having);
	appendStringInfo(out, "))%s\n", tql_tenant_condition(search));
}

/* The spans that are compared with the others */
static char *
selection_sql(const TqlMetrics *metrics)
{
	char *filter = tql_filter_sql(metrics->compare);

	if (list_length(metrics->compare_args) != 3)
		return filter;
	return psprintf("%s AND s.start_time_unix_nano > " INT64_FORMAT " AND s.start_time_unix_nano <= " INT64_FORMAT, filter,
	                ((TqlStatic *) lsecond(metrics->compare_args))->n, ((TqlStatic *) lthird(metrics->compare_args))->n);
}

/* compare() whose filters are of single spans */
static void
append_compare_part(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, const TqlRange *range)
{
	appendStringInfo(out,
	                 "    SELECT m.bucket, m.keys, NULL::double precision AS value, m.n\n"
	                 "    FROM (SELECT tempo.compare_spans(\n"
	                 "        %s AND %s,\n"
	                 "        %s,\n"
	                 "        %s, " INT64_FORMAT ", " INT64_FORMAT ", %d, " INT64_FORMAT ",\n        ",
	                 tql_filter_sql(tql_plain_filter(part->pipeline)), window_sql("s.start_time_unix_nano", range),
	                 selection_sql(part->metrics),
	                 tql_hint_is_true(search->query, "extrapolate") ? "tempo.sampling_weight(s.trace_state)" : "1",
	                 range->start, range->step, tql_count_steps(range->start, range->stop, range->step),
	                 tql_compare_values(part->metrics));
	tql_append_columns(out, tql_metrics_references(part), true);
	appendStringInfoString(out,
	                       ", NULL) AS counts\n"
	                       "        FROM tempo.spans AS s\n"
	                       "        WHERE ");
	append_candidates(out, search, part, range);
	appendStringInfoString(out, "    ) AS t, unnest(t.counts) AS m\n");
}

/* The same over what is found in whole traces */
static void
append_traces_part(StringInfo out, const TqlSearch *search, const TqlMetricsExpr *part, int number, const TqlRange *range)
{
	bool extrapolate = tql_hint_is_true(search->query, "extrapolate");

	appendStringInfo(out, "    SELECT %s AS bucket, m.keys, ", bucket_sql("m.start_time_unix_nano", range));
	append_results(out, part->metrics, "m.value", extrapolate ? "m.weight" : NULL);
	appendStringInfo(out,
	                 "\n    FROM (SELECT tempo.trace_spans(%s, %d,\n        ",
	                 quote_literal_cstr(search->text), number);
	tql_append_columns(out, tql_metrics_references(part), true);
	appendStringInfo(out,
	                 ", %s) AS spans\n"
	                 "        FROM tempo.spans AS s\n"
	                 "        WHERE ",
	                 extrapolate ? "s.trace_state" : "NULL");
	append_candidates(out, search, part, range);
	appendStringInfo(out,
	                 "        GROUP BY s.trace_id) AS t, unnest(t.spans) AS m\n"
	                 "    WHERE %s\n"
	                 "    GROUP BY 1, 2%s\n",
	                 window_sql("m.start_time_unix_nano", range),
	                 is_bucketed(part->metrics) ? ", 3" : "");
}

char *
tql_metrics_sql(const TqlSearch *search, const TqlRange *range, bool samples)
{
	StringInfoData out;
	int            n = tql_metrics_parts(search->query->metrics);
	StringInfoData rows;

	initStringInfo(&out);
	initStringInfo(&rows);
	/* one row without values, so that the aggregate knows the query where nothing is found */
	appendStringInfoString(&rows, "SELECT NULL::integer AS part, NULL::bigint AS bucket, NULL::text[] AS keys, NULL::double precision AS value, NULL::double precision AS n");
	for (int i = 0; i < n; i++)
	{
		const TqlMetricsExpr *part = tql_metrics_part(search->query->metrics, i);

		if (tql_matches_nothing(part->pipeline))
			continue;
		appendStringInfo(&out, "%spart%d AS (\n", out.len == 0 ? "WITH " : ",\n", i);
		if (tql_is_plain_part(part))
			append_plain_part(&out, search, part, range);
		else if (tql_is_plain_compare(part))
			append_compare_part(&out, search, part, range);
		else
			append_traces_part(&out, search, part, i, range);
		appendStringInfoChar(&out, ')');
		appendStringInfo(&rows, "\n        UNION ALL SELECT %d, p.bucket, p.keys, p.value, p.n FROM part%d AS p", i, i);
	}
	if (out.len > 0)
		appendStringInfoChar(&out, '\n');
	appendStringInfo(&out,
	                 "SELECT %s\n"
	                 "FROM (\n"
	                 "    SELECT tempo.metrics_series(%s, " INT64_FORMAT ", " INT64_FORMAT ", " INT64_FORMAT ", r.part, r.bucket, r.keys, r.value, r.n) AS series\n"
	                 "    FROM (%s) AS r\n"
	                 ") AS a, unnest(a.series) WITH ORDINALITY AS s%s\n"
	                 "ORDER BY s.ordinality%s",
	                 samples ? "s.labels, t.time, t.value" : "s.labels, s.label_list, s.times, s.values",
	                 quote_literal_cstr(search->text), range->start, range->stop, range->step, rows.data,
	                 samples ? ", unnest(s.times, s.values) AS t (time, value)" : "", samples ? ", t.time" : "");
	return out.data;
}
