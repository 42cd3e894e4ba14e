/*-------------------------------------------------------------------------
 *
 * to_sql.c
 *	  Whole searches as SQL.
 *
 * A trace counts by the time range of all its spans, and the newest traces by
 * the start of the first one, but the filter finds single spans.  So:
 *
 *	 matched	one pass over the spans near the time range: the traces with a
 *				matching span, and the first such span of each;
 *	 newest		of the traces certainly in range the "limit" whose first
 *				match is latest; "extents" is their real time range;
 *	 rest		the other traces whose first match is not before the earliest
 *				start among those: no other can be among the newest, since a
 *				trace starts no later than its first match;
 *	 traces		the newest of both, by their real start;
 *	 spans		all spans of those, each delivery of a span once.
 *
 * Everything behind "matched" reads whole traces by their ids.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "lib/stringinfo.h"
#include "traceql/to_sql.h"
#include "utils/builtins.h"

/* The one spanset filter that a query consists of. */
static const TqlExpr *
single_filter(const TqlQuery *query)
{
	const List *pipeline = query->pipeline;
	const TqlStage *stage;

	if (query->metrics)
	{
		/* asked for spans, a metrics query gives those it would count */
		if (query->metrics->kind != TQL_ME_QUERY)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("math expressions not supported")));
		pipeline = query->metrics->pipeline;
	}
	for (int i = 0; i < list_length(pipeline); i++)
	{
		stage = list_nth(pipeline, i);
		switch (stage->kind)
		{
			case TQL_ST_SPANSET:
				if (stage->spanset->kind == TQL_S_OPERATION)
					tql_unsupported(psprintf("spanset operator %s", tql_op_text(stage->spanset->op)));
				if (stage->spanset->kind == TQL_S_PIPELINE || i > 0)
					tql_unsupported("spanset pipelines");
				break;
			case TQL_ST_SCALAR_FILTER:
				tql_unsupported(psprintf("aggregate %s", tql_print_scalar(stage->left)));
			case TQL_ST_BY:
				tql_unsupported("by()");
			case TQL_ST_SELECT:
				tql_unsupported("select()");
			case TQL_ST_COALESCE:
				tql_unsupported("coalesce()");
		}
	}
	stage = linitial(pipeline);
	return stage->spanset->filter;
}

/* Is it known without looking that nothing is found? */
static bool
finds_nothing(const TqlSearch *search, const TqlExpr *filter)
{
	if (search->has_limit && search->limit == 0)
		return true;
	return filter->kind == TQL_E_STATIC && !(filter->value.type == TQL_BOOL && filter->value.n);
}

/* " AND s.tenant = ..." */
static char *
tenant_condition(const TqlSearch *search)
{
	StringInfoData out;
	ListCell   *lc;

	if (search->all_tenants)
		return pstrdup("");
	if (list_length(search->tenants) == 0)
		return pstrdup(" AND false");
	initStringInfo(&out);
	appendStringInfoString(&out, list_length(search->tenants) == 1 ? " AND s.tenant = " : " AND s.tenant IN (");
	foreach(lc, search->tenants)
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) ? ", " : "", quote_literal_cstr(lfirst(lc)));
	if (list_length(search->tenants) > 1)
		appendStringInfoChar(&out, ')');
	return out.data;
}

/* The time bounds of the first pass: the range and the slack around it. */
static void
append_time_condition(StringInfo out, const TqlSearch *search)
{
	int64		bound;

	if (search->has_start)
	{
		if (pg_sub_s64_overflow(search->start, search->slack, &bound))
			bound = PG_INT64_MIN;
		appendStringInfo(out, " AND s.start_time_unix_nano >= " INT64_FORMAT, bound);
	}
	if (search->has_end)
	{
		if (pg_add_s64_overflow(search->end, search->slack, &bound))
			bound = PG_INT64_MAX;
		appendStringInfo(out, " AND s.start_time_unix_nano <= " INT64_FORMAT, bound);
	}
}

/* Does a span that starts at this time put its trace in range by itself? */
static char *
inside_condition(const TqlSearch *search)
{
	StringInfoData out;

	if (!search->has_start && !search->has_end)
		return pstrdup("true");
	initStringInfo(&out);
	appendStringInfoString(&out, "bool_or(");
	if (search->has_start)
		appendStringInfo(&out, "s.start_time_unix_nano >= " INT64_FORMAT, search->start);
	if (search->has_start && search->has_end)
		appendStringInfoString(&out, " AND ");
	if (search->has_end)
		appendStringInfo(&out, "s.start_time_unix_nano <= " INT64_FORMAT, search->end);
	appendStringInfoChar(&out, ')');
	return out.data;
}

#define TRACE_STOP "max(s.start_time_unix_nano + greatest(s.duration_nano, 0))"

/* "name AS (...": the time ranges of the traces in "source", not yet closed */
static void
append_extents(StringInfo out, const char *name, const char *source, const char *tenants)
{
	appendStringInfo(out,
					 "%s AS MATERIALIZED (\n"
					 "    SELECT s.trace_id, min(s.start_time_unix_nano) AS start,\n"
					 "        " TRACE_STOP " AS stop\n"
					 "    FROM tempo.spans AS s\n"
					 "    WHERE s.trace_id = ANY (ARRAY(SELECT c.trace_id FROM %s AS c))%s\n"
					 "    GROUP BY s.trace_id",
					 name, source, tenants);
}

/* The trace overlaps the range, both ends inclusive. */
static void
append_range_condition(StringInfo out, const TqlSearch *search, const char *keyword, const char *start, const char *stop)
{
	if (search->has_end)
	{
		appendStringInfo(out, "%s%s <= " INT64_FORMAT, keyword, start, search->end);
		keyword = " AND ";
	}
	if (search->has_start)
		appendStringInfo(out, "%s%s >= " INT64_FORMAT, keyword, stop, search->start);
}

/* WITH matched ..., traces: the ids, starts and ends of the traces to show */
static void
append_traces(StringInfo out, const TqlSearch *search, const TqlExpr *filter)
{
	const char *tenants = tenant_condition(search);

	appendStringInfo(out,
					 "WITH matched AS MATERIALIZED (\n"
					 "    SELECT s.trace_id, min(s.start_time_unix_nano) AS first_match, %s AS inside\n"
					 "    FROM tempo.spans AS s\n"
					 "    WHERE %s",
					 inside_condition(search), tql_filter_sql(filter));
	append_time_condition(out, search);
	appendStringInfo(out, "%s\n    GROUP BY s.trace_id\n),\n", tenants);

	if (!search->has_limit)
	{
		append_extents(out, "traces", "matched", tenants);
		append_range_condition(out, search, " HAVING ", "min(s.start_time_unix_nano)", TRACE_STOP);
		appendStringInfoString(out, "\n),\n");
		return;
	}
	appendStringInfo(out,
					 "newest AS MATERIALIZED (\n"
					 "    SELECT m.trace_id FROM matched AS m WHERE m.inside\n"
					 "    ORDER BY m.first_match DESC LIMIT " INT64_FORMAT "\n"
					 "),\n",
					 search->limit);
	append_extents(out, "extents", "newest", tenants);
	appendStringInfo(out,
					 "\n),\n"
					 "rest AS MATERIALIZED (\n"
					 "    SELECT m.trace_id\n"
					 "    FROM matched AS m, (SELECT CASE WHEN count(*) >= " INT64_FORMAT " THEN min(e.start) END AS start FROM extents AS e) AS oldest\n"
					 "    WHERE (oldest.start IS NULL OR m.first_match >= oldest.start)\n"
					 "        AND m.trace_id NOT IN (SELECT n.trace_id FROM newest AS n)\n"
					 "),\n",
					 search->limit);
	append_extents(out, "rest_extents", "rest", tenants);
	appendStringInfoString(out,
						   "\n),\n"
						   "traces AS MATERIALIZED (\n"
						   "    SELECT t.trace_id, t.start, t.stop\n"
						   "    FROM (SELECT * FROM extents UNION ALL SELECT * FROM rest_extents) AS t");
	append_range_condition(out, search, " WHERE ", "t.start", "t.stop");
	appendStringInfo(out, "\n    ORDER BY t.start DESC, t.trace_id LIMIT " INT64_FORMAT "\n),\n", search->limit);
}

/* The arguments of tempo.search_span() that depend on the filter. */
static void
append_span_attributes(StringInfo out, const TqlExpr *filter)
{
	List	   *references = tql_references(filter);
	StringInfoData values;
	const char *separator = "";
	ListCell   *lc;

	initStringInfo(&values);
	foreach(lc, references)
	{
		TqlReference *reference = lfirst(lc);
		char	   *sql = tql_reference_sql(reference);

		if (sql == NULL)
			continue;
		appendStringInfo(out, "%s%s", *separator ? separator : "ARRAY[",
						 quote_literal_cstr(reference->attribute.intrinsic == TQL_ATTRIBUTE ?
											reference->attribute.name :
											tql_print_attribute(&reference->attribute)));
		appendStringInfo(&values, "%s%s", separator, sql);
		separator = ", ";
	}
	if (values.len > 0)
		appendStringInfo(out, "], ARRAY[%s]", values.data);
	else
		appendStringInfoString(out, "NULL, NULL");
}

static bool
mentions_name(const TqlExpr *filter)
{
	ListCell   *lc;

	foreach(lc, tql_references(filter))
		if (((TqlReference *) lfirst(lc))->attribute.intrinsic == TQL_I_NAME)
			return true;
	return false;
}

#define SEARCH_COLUMNS \
	"NULL::tempo.trace_id AS trace_id, NULL::text AS root_service_name, NULL::text AS root_trace_name,\n" \
	"    NULL::timestamptz AS start_time, NULL::interval AS duration, NULL::jsonb AS spansets,\n" \
	"    NULL::bigint AS start_time_unix_nano, NULL::bigint AS duration_nano, NULL::jsonb AS service_stats"

char *
tql_search_sql(const TqlSearch *search)
{
	const TqlExpr *filter = single_filter(search->query);
	StringInfoData out;
	StringInfoData attributes;

	initStringInfo(&out);
	if (finds_nothing(search, filter))
	{
		appendStringInfoString(&out, "SELECT " SEARCH_COLUMNS "\nWHERE false");
		return out.data;
	}
	append_traces(&out, search, filter);

	initStringInfo(&attributes);
	append_span_attributes(&attributes, filter);
	appendStringInfo(&out,
					 "spans AS MATERIALIZED (\n"
					 "    SELECT DISTINCT ON (s.trace_id, s.span_id, s.kind, s.start_time_unix_nano)\n"
					 "        s.trace_id, s.span_id, s.parent_span_id, s.name, s.status, s.service_name,\n"
					 "        s.start_time_unix_nano AS start, s.links, (%s) IS TRUE AS matches,\n"
					 "        CASE WHEN %s THEN\n"
					 "            tempo.search_span(s.span_id::text, %s, s.start_time_unix_nano, greatest(s.duration_nano, 0),\n"
					 "                %s) END AS shown\n"
					 "    FROM tempo.spans AS s\n"
					 "    WHERE s.trace_id = ANY (ARRAY(SELECT t.trace_id FROM traces AS t))%s\n"
					 "    ORDER BY s.trace_id, s.span_id, s.kind, s.start_time_unix_nano\n"
					 "),\n",
					 tql_filter_sql(filter), tql_filter_sql(filter),
					 mentions_name(filter) ? "s.name" : "NULL", attributes.data, tenant_condition(search));

	/* the root: the first span without parent, unless it is a child by an OpenTracing link */
	appendStringInfoString(&out,
						   "roots AS (\n"
						   "    SELECT DISTINCT ON (s.trace_id) s.trace_id, s.service_name, s.name\n"
						   "    FROM spans AS s\n"
						   "    WHERE s.parent_span_id IS NULL AND (s.links = '[]' OR NOT EXISTS (\n"
						   "        SELECT FROM jsonb_array_elements(s.links) AS l\n"
						   "        WHERE l ->> 'trace_id' = s.trace_id::text\n"
						   "            AND l -> 'attributes' ->> 'opentracing.ref_type' = 'child_of'))\n"
						   "    ORDER BY s.trace_id, s.start, s.span_id\n"
						   "),\n"
						   "services AS (\n"
						   "    SELECT c.trace_id, jsonb_object_agg(c.service, jsonb_strip_nulls(jsonb_build_object(\n"
						   "        'spanCount', c.spans, 'errorCount', nullif(c.errors, 0)))) AS stats\n"
						   "    FROM (SELECT s.trace_id, coalesce(s.service_name, '') AS service, count(*) AS spans,\n"
						   "              count(*) FILTER (WHERE s.status = 'error') AS errors\n"
						   "          FROM spans AS s GROUP BY s.trace_id, coalesce(s.service_name, '')) AS c\n"
						   "    GROUP BY c.trace_id\n"
						   "),\n"
						   "spansets AS (\n"
						   "    SELECT m.trace_id, jsonb_build_array(jsonb_build_object('spans', ");
	appendStringInfoString(&out, "jsonb_agg(m.shown ORDER BY m.place)");
	if (search->spans_per_spanset > 0)
		appendStringInfo(&out, " FILTER (WHERE m.place <= " INT64_FORMAT ")", search->spans_per_spanset);
	appendStringInfoString(&out,
						   ",\n"
						   "        'matched', count(*))) AS spansets\n"
						   "    FROM (SELECT s.trace_id, s.shown,\n"
						   "              row_number() OVER (PARTITION BY s.trace_id ORDER BY s.start, s.span_id) AS place\n"
						   "          FROM spans AS s WHERE s.matches) AS m\n"
						   "    GROUP BY m.trace_id\n"
						   ")\n"
						   "SELECT t.trace_id, r.service_name AS root_service_name, r.name AS root_trace_name,\n"
						   "    'epoch'::timestamptz + t.start / 1000 * interval '1 microsecond' AS start_time,\n"
						   "    (t.stop - t.start) / 1000 * interval '1 microsecond' AS duration,\n"
						   "    p.spansets, t.start AS start_time_unix_nano, t.stop - t.start AS duration_nano,\n"
						   "    v.stats AS service_stats\n"
						   "FROM traces AS t\n"
						   "    JOIN spansets AS p ON p.trace_id = t.trace_id\n"
						   "    JOIN services AS v ON v.trace_id = t.trace_id\n"
						   "    LEFT JOIN roots AS r ON r.trace_id = t.trace_id\n"
						   "ORDER BY t.start DESC, t.trace_id");
	return out.data;
}

char *
tql_spans_sql(const TqlSearch *search)
{
	const TqlExpr *filter = single_filter(search->query);
	StringInfoData out;
	static const char *const columns =
		"s.trace_id, s.span_id, s.parent_span_id, s.service_name, s.name, s.kind, s.status, s.status_message,\n"
		"    s.start_time, s.duration, s.attributes, s.resource_attributes, s.start_time_unix_nano, s.duration_nano";

	initStringInfo(&out);
	if (finds_nothing(search, filter))
	{
		appendStringInfo(&out, "SELECT %s\nFROM tempo.spans AS s WHERE false", columns);
		return out.data;
	}
	append_traces(&out, search, filter);
	appendStringInfo(&out,
					 "spans AS MATERIALIZED (\n"
					 "    SELECT DISTINCT ON (s.trace_id, s.span_id, s.kind, s.start_time_unix_nano)\n"
					 "    %s\n"
					 "    FROM tempo.spans AS s\n"
					 "    WHERE s.trace_id = ANY (ARRAY(SELECT t.trace_id FROM traces AS t))%s\n"
					 "        AND %s\n"
					 "    ORDER BY s.trace_id, s.span_id, s.kind, s.start_time_unix_nano\n"
					 ")\n"
					 "SELECT %s\n"
					 "FROM spans AS s JOIN traces AS t ON t.trace_id = s.trace_id\n"
					 "ORDER BY t.start DESC, s.trace_id, s.start_time_unix_nano, s.span_id",
					 columns, tenant_condition(search), tql_filter_sql(filter), columns);
	return out.data;
}
