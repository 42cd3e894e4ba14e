/*-------------------------------------------------------------------------
 *
 * mcp_docs.c
 *	  What the MCP endpoint teaches language models.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/mcp_docs.h"

const McpDocument mcp_documents[] = {
	{"traceql", "basic",
     "# TraceQL: filters\n\n"
     "A query selects spans in braces and returns the traces that have them.\n\n"
     "- `{ resource.service.name = \"checkout\" }`: an attribute of the resource. Scopes: `resource.`, `span.`, `event.`, `link.`, `instrumentation.`; `.x` looks at span and resource.\n"
     "- Intrinsics: `name`, `status` (error, ok, unset), `kind` (server, client, internal, producer, consumer), `duration`, `statusMessage`, `trace:duration`, `trace:rootName`, `trace:rootService`, `trace:id`, `span:id`, `nestedSetParent`.\n"
     "- Operators: `=` `!=` `<` `<=` `>` `>=` `=~` `!~` (RE2, whole value), joined with `&&`, `||`, `!`. Presence: `span.x != nil`.\n"
     "- Values: `\"text\"`, `200`, `0.5`, `true`, `100ms`, `error`.\n\n"
     "Slow or failed requests of a service: `{ resource.service.name = \"checkout\" && (status = error || duration > 1s) }`.\n"
     "All traces: `{}`. Root spans: `{ nestedSetParent < 0 }`. A key with blanks: `{ span.\"my key\" = 1 }`.\n"},
	{"traceql", "aggregates",
     "# TraceQL: pipelines and aggregates\n\n"
     "A filter is followed by stages after `|`.\n\n"
     "- `{ status = error } | count() > 3`: traces with more than three such spans. Also `sum`, `avg`, `min`, `max` of a numeric field: `{} | avg(duration) > 100ms`.\n"
     "- `| by(resource.service.name)` makes a group of spans for each value; later stages see each group.\n"
     "- `| select(span.http.url, status)` adds attributes to the answer.\n"
     "- `| coalesce()` makes one group again.\n"},
	{"traceql", "structural",
     "# TraceQL: relations between spans\n\n"
     "`{A} > {B}`: B is a child of A. `{A} >> {B}`: a descendant. `{A} < {B}`, `{A} << {B}`: parent, ancestor. `{A} ~ {B}`: siblings. The right side is returned.\n"
     "A leading `&` returns both sides (`&>>`), a leading `!` what has no such partner (`!>`). `{A} && {B}`: the trace has both; `{A} || {B}`: either.\n\n"
     "Calls of a database below a failed request: `{ kind = server && status = error } >> { span.db.system != nil }`.\n"},
	{"traceql", "metrics",
     "# TraceQL: metrics\n\n"
     "A metrics function at the end makes time series: `{ filter } | function() by (attribute, ...)`, at most five attributes.\n\n"
     "- `rate()`, `count_over_time()`, `min_over_time(x)`, `max_over_time(x)`, `avg_over_time(x)`, `sum_over_time(x)`.\n"
     "- `quantile_over_time(duration, .5, .95)`, `histogram_over_time(duration)`. Durations are seconds in results.\n"
     "- `compare({ status = error })`: which attributes differ between these spans and the others.\n"
     "- Second stages: `| topk(5)`, `| bottomk(5)`, `| > 10`. Hints: `with (exemplars=false)`.\n\n"
     "Errors by service: `{ status = error } | rate() by (resource.service.name)`.\n"},
	{"traceql", "query",
     "# Writing a query\n\n"
     "1. Find the attributes with get-attribute-names and their values with get-attribute-values.\n"
     "2. Start with few conditions and a short range of time.\n"
     "3. Use traceql-search for examples, traceql-metrics-instant for one number per group, traceql-metrics-range for its course, get-trace for all of one trace.\n"},
	{"config", "overview",
     "# Configuration\n\n"
     "tempo_pg is an extension of PostgreSQL and is configured by PostgreSQL settings named `tempo_pg.*`, in postgresql.conf or with ALTER SYSTEM.\n"
     "`SELECT name, setting, unit, short_desc FROM pg_settings WHERE name LIKE 'tempo\\_pg.%'` lists them; GET /status/config shows the values in use. Settings of single tenants are in the table tempo.overrides.\n"},
	{"config", "reference",
     "# Settings that matter most\n\n"
     "- `tempo_pg.http_port` (3200), `tempo_pg.otlp_grpc_port` (4317), `tempo_pg.otlp_http_port` (4318), `tempo_pg.listen_addresses`: where it listens.\n"
     "- `tempo_pg.multitenancy`: requires the header X-Scope-OrgID.\n"
     "- `tempo_pg.query_workers`, `tempo_pg.query_timeout`: how many queries run at once, and how long.\n"
     "- `tempo_pg.search_max_range`, `tempo_pg.search_default_limit`, `tempo_pg.metrics_max_range`: limits of queries.\n"
     "- `tempo_pg.max_attribute_bytes`, `tempo_pg.max_bytes_per_trace`: limits of data.\n"}};

const int mcp_n_documents = lengthof(mcp_documents);
