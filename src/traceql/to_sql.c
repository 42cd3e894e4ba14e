/*-------------------------------------------------------------------------
 *
 * to_sql.c
 *	  Whole searches as SQL.
 *
 * A search is what its SQL says: spans grouped by trace, of these the traces
 * with the spans that the query cannot do without (candidates.c), and of each what
 * tempo.search_trace() makes of all its spans; newest first.
 *
 * The access method recognises this form and walks through the traces in that
 * order, so that LIMIT ends the walk (access/newest_plan.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "nodes/value.h"
#include "traceql/metrics.h"
#include "traceql/to_sql.h"
#include "utils/builtins.h"

/*
 * Asked for spans, a metrics query gives those it would count.  Arithmetic
 * has such spans if all its queries count the same.
 */
static const List *
search_pipeline(const TqlSearch *search)
{
	const TqlQuery *query = search->query;
	const List     *pipeline;
	int             parts;

	if (query->metrics == NULL)
		return query->pipeline;
	pipeline = tql_metrics_part(query->metrics, 0)->pipeline;
	parts = tql_metrics_parts(query->metrics);
	for (int i = 1; i < parts; i++)
		if (strcmp(tql_print_pipeline(pipeline), tql_print_pipeline(tql_metrics_part(query->metrics, i)->pipeline)) != 0)
			ereport(ERROR,
			        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			         errmsg("math expressions not supported")));
	return pipeline;
}

/* The filter that a pipeline consists of, if it is one that SQL evaluates; else NULL */
const TqlExpr *
tql_plain_filter(const List *pipeline)
{
	const TqlStage *stage = linitial(pipeline);

	if (list_length(pipeline) != 1 || stage->kind != TQL_ST_SPANSET || stage->spanset->kind != TQL_S_FILTER ||
	    !tql_is_plain(stage->spanset->filter))
		return NULL;
	return stage->spanset->filter;
}

/* " AND s.tenant = ..." */
char *
tql_tenant_condition(const TqlSearch *search)
{
	StringInfoData out;
	ListCell      *lc;

	if (search->all_tenants)
		return pstrdup("");
	if (list_length(search->tenants) == 0)
		return pstrdup(" AND false");
	initStringInfo(&out);
	appendStringInfoString(&out, list_length(search->tenants) == 1 ? " AND s.tenant = " : " AND s.tenant IN (");
	foreach (lc, search->tenants)
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) ? ", " : "", quote_literal_cstr(lfirst(lc)));
	if (list_length(search->tenants) > 1)
		appendStringInfoChar(&out, ')');
	return out.data;
}

/* The time bounds of the first pass: the range and the slack around it. */
void
tql_append_time_condition(StringInfo out, const TqlSearch *search)
{
	int64 bound;

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

/* The attributes of spans that references read: of these keys, or all of them */
static char *
picked_attributes(List *references)
{
	StringInfoData out;
	List          *keys = NIL;
	ListCell      *lc;

	foreach (lc, references)
	{
		const TqlAttribute *a = &((TqlReference *) lfirst(lc))->attribute;

		if (a->intrinsic != TQL_ATTRIBUTE || (a->scope != TQL_SCOPE_SPAN && a->scope != TQL_SCOPE_NONE))
			continue;
		if (a->name[0] == '\0')
			return "s.attributes"; /* what compare() reads */
		keys = list_append_unique(keys, makeString(pstrdup(a->name)));
	}
	if (keys == NIL)
		return "NULL";
	initStringInfo(&out);
	foreach (lc, keys)
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) ? ", " : "tempo.pick(s.attributes, ARRAY[",
		                 quote_literal_cstr(strVal(lfirst(lc))));
	appendStringInfoString(&out, "])");
	return out.data;
}

/*
 * The columns of "s" that the aggregates of collect.c take, NULL for those
 * that none of the references needs.  If it gets whole traces, links of a span
 * without parent may say that it is no root.
 */
void
tql_append_columns(StringInfo out, List *references, bool whole)
{
	bool      resource = false;
	bool      message = false;
	bool      scope_name = false;
	bool      scope_version = false;
	bool      scope = false;
	bool      events = false;
	bool      links = false;
	ListCell *lc;

	foreach (lc, references)
	{
		const TqlAttribute *a = &((TqlReference *) lfirst(lc))->attribute;

		if (a->intrinsic == TQL_ATTRIBUTE)
		{
			resource |= a->scope == TQL_SCOPE_NONE || (a->scope == TQL_SCOPE_RESOURCE && strcmp(a->name, "service.name") != 0);
			scope |= a->scope == TQL_SCOPE_INSTRUMENTATION;
		}
		message |= a->intrinsic == TQL_I_STATUS_MESSAGE;
		scope_name |= a->intrinsic == TQL_I_INSTRUMENTATION_NAME;
		scope_version |= a->intrinsic == TQL_I_INSTRUMENTATION_VERSION;
		events |= a->scope == TQL_SCOPE_EVENT || a->intrinsic == TQL_I_EVENT_NAME || a->intrinsic == TQL_I_EVENT_TIME_SINCE_START;
		links |= a->scope == TQL_SCOPE_LINK || a->intrinsic == TQL_I_LINK_TRACE_ID || a->intrinsic == TQL_I_LINK_SPAN_ID;
	}
	appendStringInfo(out,
	                 "s.trace_id, s.span_id, s.parent_span_id,\n"
	                 "        s.name, s.kind, s.status, %s, s.start_time_unix_nano, s.duration_nano, s.service_name,\n"
	                 "        %s, %s, %s, %s, %s, %s,\n"
	                 "        %s",
	                 message ? "s.status_message" : "NULL",
	                 picked_attributes(references),
	                 resource ? "s.resource_attributes" : "NULL",
	                 scope_name ? "s.scope_name" : "NULL",
	                 scope_version ? "s.scope_version" : "NULL",
	                 scope ? "s.scope_attributes" : "NULL",
	                 events ? "s.events" : "NULL",
	                 links ? "s.links" : whole ? "CASE WHEN s.parent_span_id IS NULL THEN s.links END" :
	                                             "NULL");
}

/* Where the spans are looked for that make a trace match, without the AND in front. */
static char *
window_condition(const TqlSearch *search)
{
	StringInfoData out;

	initStringInfo(&out);
	tql_append_time_condition(&out, search);
	return out.len > 0 ? out.data + strlen(" AND ") : out.data;
}

/* The trace starts in time, and has spans that may match. */
static void
append_having(StringInfo out, const TqlSearch *search)
{
	char *condition = tql_trace_condition(search_pipeline(search), window_condition(search));

	if (condition)
		appendStringInfo(out, "\n    HAVING %s", condition);
	if (search->has_end)
		appendStringInfo(out, "\n    %s min(s.start_time_unix_nano) <= " INT64_FORMAT,
		                 condition ? "    AND" : "HAVING", search->end);
}

/* SELECT ...: trace_id, start and found, what tempo.search_trace() makes of each trace to show */
static void
append_traces(StringInfo out, const TqlSearch *search)
{
	const char *tenants = tql_tenant_condition(search);

	appendStringInfo(out,
	                 "SELECT t.trace_id, t.start, t.found\n"
	                 "FROM (\n"
	                 "    SELECT s.trace_id, min(s.start_time_unix_nano) AS start,\n"
	                 "        tempo.search_trace(%s, " INT64_FORMAT ",\n        ",
	                 quote_literal_cstr(search->text), search->spans_per_spanset);
	tql_append_columns(out, tql_pipeline_references(search_pipeline(search)), true);
	appendStringInfoString(out, ", NULL) AS found\n    FROM tempo.spans AS s\n");
	if (tenants[0])
		appendStringInfo(out, "    WHERE %s\n", tenants + strlen(" AND "));
	appendStringInfoString(out, "    GROUP BY s.trace_id");
	append_having(out, search);
	appendStringInfoString(out,
	                       "\n    ORDER BY start DESC, s.trace_id\n"
	                       ") AS t\n"
	                       "WHERE (t.found).spansets IS NOT NULL");
	if (search->has_start)
		appendStringInfo(out, " AND (t.found).stop >= " INT64_FORMAT, search->start);
	appendStringInfoString(out, "\nORDER BY t.start DESC, t.trace_id");
	if (search->has_limit)
		appendStringInfo(out, "\nLIMIT " INT64_FORMAT, search->limit);
}

#define SEARCH_COLUMNS \
	"NULL::tempo.trace_id AS trace_id, NULL::text AS root_service_name, NULL::text AS root_trace_name,\n" \
	"    NULL::timestamptz AS start_time, NULL::interval AS duration, NULL::jsonb AS spansets,\n" \
	"    NULL::bigint AS start_time_unix_nano, NULL::bigint AS duration_nano, NULL::jsonb AS service_stats"

char *
tql_search_sql(const TqlSearch *search)
{
	StringInfoData out;

	initStringInfo(&out);
	if (tql_matches_nothing(search_pipeline(search)) || (search->has_limit && search->limit == 0))
	{
		appendStringInfoString(&out, "SELECT " SEARCH_COLUMNS "\nWHERE false");
		return out.data;
	}
	appendStringInfoString(&out, "WITH traces AS (\n");
	append_traces(&out, search);
	appendStringInfoString(&out,
	                       "\n)\n"
	                       "SELECT t.trace_id, (t.found).root_service_name, (t.found).root_trace_name,\n"
	                       "    'epoch'::timestamptz + (t.found).start / 1000 * interval '1 microsecond' AS start_time,\n"
	                       "    ((t.found).stop - (t.found).start) / 1000 * interval '1 microsecond' AS duration,\n"
	                       "    (t.found).spansets, (t.found).start AS start_time_unix_nano,\n"
	                       "    (t.found).stop - (t.found).start AS duration_nano, (t.found).service_stats\n"
	                       "FROM traces AS t\n"
	                       "ORDER BY t.start DESC, t.trace_id");
	return out.data;
}

/*
 * Spans of the traces that a search finds.  What matches is asked of the
 * spans one by one if it is a filter that can be, else of the whole traces.
 */
char *
tql_spans_sql(const TqlSearch *search)
{
	const List              *pipeline = search_pipeline(search);
	const TqlExpr           *filter = tql_plain_filter(pipeline);
	StringInfoData           out;
	static const char *const columns =
		"s.trace_id, s.span_id, s.parent_span_id, s.service_name, s.name, s.kind, s.status, s.status_message,\n"
		"    s.start_time, s.duration, s.attributes, s.resource_attributes, s.start_time_unix_nano, s.duration_nano";

	initStringInfo(&out);
	if (tql_matches_nothing(pipeline) || (search->has_limit && search->limit == 0))
	{
		appendStringInfo(&out, "SELECT %s\nFROM tempo.spans AS s WHERE false", columns);
		return out.data;
	}
	appendStringInfoString(&out, "WITH traces AS MATERIALIZED (\n");
	append_traces(&out, search);
	appendStringInfoString(&out, "\n)\n");
	if (filter == NULL)
	{
		appendStringInfo(&out,
		                 ", matching AS MATERIALIZED (\n"
		                 "    SELECT t.trace_id, m.span_id, m.kind, m.start_time_unix_nano\n"
		                 "    FROM (SELECT s.trace_id, tempo.trace_spans(%s, 0,\n        ",
		                 quote_literal_cstr(search->text));
		tql_append_columns(&out, tql_pipeline_references(pipeline), true);
		appendStringInfo(&out,
		                 ", NULL) AS spans\n"
		                 "        FROM tempo.spans AS s\n"
		                 "        WHERE s.trace_id = ANY (ARRAY(SELECT t.trace_id FROM traces AS t))%s\n"
		                 "        GROUP BY s.trace_id) AS t, unnest(t.spans) AS m\n"
		                 ")\n",
		                 tql_tenant_condition(search));
	}
	appendStringInfo(&out,
	                 ", spans AS MATERIALIZED (\n"
	                 "    SELECT DISTINCT ON (s.trace_id, s.span_id, s.kind, s.start_time_unix_nano)\n"
	                 "    %s\n"
	                 "    FROM tempo.spans AS s\n"
	                 "    WHERE s.trace_id = ANY (ARRAY(SELECT t.trace_id FROM traces AS t))%s\n",
	                 columns, tql_tenant_condition(search));
	if (filter)
		appendStringInfo(&out, "        AND %s\n", tql_filter_sql(filter));
	else
		appendStringInfoString(&out,
		                       "        AND (s.trace_id, s.span_id, s.kind, s.start_time_unix_nano) IN\n"
		                       "            (SELECT m.trace_id, m.span_id, m.kind, m.start_time_unix_nano FROM matching AS m)\n");
	appendStringInfo(&out,
	                 "    ORDER BY s.trace_id, s.span_id, s.kind, s.start_time_unix_nano\n"
	                 ")\n"
	                 "SELECT %s\n"
	                 "FROM spans AS s JOIN traces AS t ON t.trace_id = s.trace_id\n"
	                 "ORDER BY t.start DESC, s.trace_id, s.start_time_unix_nano, s.span_id",
	                 columns);
	return out.data;
}
