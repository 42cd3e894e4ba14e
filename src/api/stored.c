/*-------------------------------------------------------------------------
 *
 * stored.c
 *	  The endpoints that tell what is stored, of all tenants.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/internal.h"
#include "api/read.h"
#include "utils/builtins.h"

/* What compaction has to do and has done: the segments by level. */
void
serve_status_compaction(ApiCall *call)
{
	MemoryContext context = CurrentMemoryContext;
	ApiBody      *body = api_ok(call, "text/plain; charset=utf-8");

	SPI_connect();
	MemoryContextSwitchTo(context);
	run_query("SELECT level::text, pg_catalog.count(*)::text, pg_catalog.sum(spans)::text, "
	          "pg_catalog.pg_size_pretty(pg_catalog.sum(bytes)), pg_catalog.min(min_start_time)::text, "
	          "pg_catalog.max(max_start_time)::text FROM tempo.segments GROUP BY level ORDER BY tempo.segments.level",
	          0, NULL, NULL, NULL);
	body_text(body, "Segments by how often they were merged:\n\nlevel  segments         spans        bytes  oldest span, newest span\n");
	for (uint64 row = 0; row < SPI_processed; row++)
		body_printf(body, "%5s  %8s  %12s  %11s  %s, %s\n", result_text(row, 1), result_text(row, 2),
		            result_text(row, 3), result_text(row, 4), result_text(row, 5), result_text(row, 6));
	SPI_finish();
	MemoryContextSwitchTo(context);
}

static void
write_label(ApiBody *body, const char *text)
{
	for (; *text; text++)
	{
		if (*text == '"' || *text == '\\')
			body_char(body, '\\');
		body_char(body, *text);
	}
}

/*
 * What each tenant uses, for who divides the costs.  Bytes are a tenant's part
 * of the whole by its number of spans: segments are shared.
 */
void
serve_usage_metrics(ApiCall *call)
{
	static const char *const names[] = {"tempo_pg_tenant_spans", "tempo_pg_tenant_bytes"};
	static const char *const help[] = {
		"Spans stored of a tenant.", "Bytes stored of a tenant: its part of all by the number of spans."};
	MemoryContext context = CurrentMemoryContext;
	ApiBody      *body = api_ok(call, "text/plain; version=0.0.4; charset=utf-8");

	SPI_connect();
	MemoryContextSwitchTo(context);
	run_query("SELECT t.tenant, t.n::text, pg_catalog.round(t.n * b.bytes / NULLIF(pg_catalog.sum(t.n) OVER (), 0))::text "
	          "FROM (SELECT tenant, pg_catalog.count(*)::numeric AS n FROM tempo.spans GROUP BY tenant) AS t, "
	          "(SELECT COALESCE(pg_catalog.sum(s.bytes), 0) AS bytes FROM tempo.segments AS s "
	          "WHERE s.relation = 'tempo.spans'::regclass) AS b ORDER BY 1",
	          0, NULL, NULL, NULL);
	for (int i = 0; i < lengthof(names); i++)
	{
		body_printf(body, "# HELP %s %s\n# TYPE %s gauge\n", names[i], help[i], names[i]);
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			body_printf(body, "%s{tenant=\"", names[i]);
			write_label(body, result_text(row, 1));
			body_printf(body, "\"} %s\n", result_text(row, i + 2));
		}
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
}
