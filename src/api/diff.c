/*-------------------------------------------------------------------------
 *
 * diff.c
 *	  /api/v2/traces/diff: what differs between two traces.
 *
 * Spans of both are the same if service, name and kind are, and their parents
 * are the same; of several such siblings the first is compared with the first.
 * What a span has other than in the first trace is told with both values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/jsonbody.h"
#include "api/partial.h"
#include "api/read.h"
#include "access/memory.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* A patch that is longer is left out of "trace-summary-v0-composed". */
#define COMPOSED_BUDGET (64 * 1024)

/* An answer that is longer is refused. */
#define MAX_PATCH (16 * 1024 * 1024)

typedef enum DiffFormat
{
	DIFF_PATCH,
	DIFF_SUMMARY,
	DIFF_COMPOSED
} DiffFormat;

static const char *const formats[] = {"trace-patch-v0", "trace-summary-v0-native", "trace-summary-v0-composed"};

typedef struct DiffSide
{
	TraceId id;
	char    hex[TRACE_ID_LEN * 2 + 1];
} DiffSide;

static bool
bad_body(ApiCall *call, const char *why)
{
	return api_fail(call, 400, "invalid trace diff request body: %s", why);
}

/* start and end say where to look, which here is not needed, but they must be numbers */
static bool
read_side(ApiCall *call, JsonbContainer *body, const char *name, DiffSide *side)
{
	static const char *const times[] = {"start", "end"};
	JsonbValue              *value = api_json_member(body, name);
	JsonbContainer          *object;
	char                    *id;

	if (value && (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data)))
		return bad_body(call, psprintf("%s must be an object", name));
	object = value ? value->val.binary.data : NULL;
	id = object ? api_json_text(object, "traceId") : NULL;
	if (id == NULL || *id == '\0')
		return api_fail(call, 400, "%s.traceId is required", name);
	for (int i = 0; i < lengthof(times); i++)
	{
		JsonbValue *time = api_json_member(object, times[i]);

		if (time && time->type != jbvNumeric)
			return bad_body(call, psprintf("%s.%s must be a number", name, times[i]));
	}
	if (!read_trace_id(call, id, &side->id))
		return false;
	id_to_hex(side->id.bytes, TRACE_ID_LEN, side->hex);
	return true;
}

static bool
read_request(ApiCall *call, DiffSide sides[2], DiffFormat *format)
{
	Jsonb      *json = read_json_body(call, "invalid trace diff request body: ");
	JsonbValue *value;
	char       *name;

	if (json == NULL)
		return false;
	if (!JB_ROOT_IS_OBJECT(json))
		return bad_body(call, "it must be an object");
	if (!read_side(call, &json->root, "base", &sides[0]) || !read_side(call, &json->root, "compare", &sides[1]))
		return false;
	*format = DIFF_PATCH;
	value = api_json_member(&json->root, "format");
	if (value == NULL)
		return true;
	name = api_json_text(&json->root, "format");
	for (int i = 0; i < lengthof(formats) && name; i++)
	{
		if (strcmp(formats[i], name) == 0)
		{
			*format = (DiffFormat) i;
			return true;
		}
	}
	if (name && *name == '\0')
		return true;
	return api_fail(call, 400, "invalid format \"%s\": must be one of trace-patch-v0, trace-summary-v0-native, trace-summary-v0-composed",
	                name ? name : "");
}

/* Are both there, and whole? */
static bool
check_traces(ApiCall *call, const DiffSide sides[2])
{
	for (int i = 0; i < 2; i++)
	{
		SpanAllocator allocator = tempo_context_allocator(CurrentMemoryContext);
		SpanBatch    *batch = span_batch_create(&allocator, 0);

		if (batch == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		read_trace(&sides[i].id, call->tenants, batch);
		if (batch->n_spans == 0)
			return api_fail(call, 404, "Not Found");
		if (tempo_max_bytes_per_trace > 0 && trace_size(batch) > (Size) tempo_max_bytes_per_trace)
			return api_fail(call, 422, "trace %s exceeds max size (max bytes: %d)", sides[i].hex, tempo_max_bytes_per_trace);
		span_batch_destroy(batch);
	}
	return true;
}

/*
 * A span's "key" is the same in both traces for the same place in the tree.
 * Span ids that occur twice are looked at once, so that this is a tree.
 */
static const char diff_sql[] =
	"WITH RECURSIVE s AS ("
	"  SELECT DISTINCT ON (side, span_id) * FROM ("
	"    SELECT CASE WHEN trace_id = $2 THEN 1 ELSE 2 END AS side, span_id, parent_span_id, service_name, name, kind, status, "
	"           status_message, start_time_unix_nano AS start, duration_nano, attributes "
	"    FROM tempo.spans WHERE tenant = ANY ($1) AND trace_id = ANY (ARRAY[$2, $3]) "
	"    UNION ALL "
	"    SELECT 2, span_id, parent_span_id, service_name, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes "
	"    FROM tempo.spans WHERE tenant = ANY ($1) AND trace_id = $2 AND $2 = $3"
	"  ) AS both_traces ORDER BY side, span_id, start), "
	"step AS ("
	"  SELECT s.*, concat_ws(E'\\x1f', coalesce(service_name, ''), name, kind, row_number() OVER ("
	"    PARTITION BY side, parent_span_id, service_name, name, kind ORDER BY start, span_id)) AS step FROM s), "
	"tree AS ("
	"  SELECT step.*, md5(step) AS key FROM step "
	"  WHERE NOT EXISTS (SELECT FROM s AS p WHERE p.side = step.side AND p.span_id = step.parent_span_id) "
	"  UNION ALL "
	"  SELECT c.*, md5(t.key || c.step) FROM tree AS t JOIN step AS c ON c.side = t.side AND c.parent_span_id = t.span_id), "
	"one AS (SELECT * FROM tree WHERE side = 1), two AS (SELECT * FROM tree WHERE side = 2), "
	"pairs AS ("
	"  SELECT a, b, coalesce(a.start, b.start) AS start, "
	"    CASE WHEN b.key IS NULL THEN 'remove' WHEN a.key IS NULL THEN 'add' "
	"         WHEN a.status IS DISTINCT FROM b.status OR a.status_message IS DISTINCT FROM b.status_message "
	"              OR a.attributes IS DISTINCT FROM b.attributes THEN 'replace' ELSE 'keep' END AS op, "
	"    jsonb_strip_nulls(jsonb_build_object("
	"      'service', coalesce(a.service_name, b.service_name), 'name', coalesce(a.name, b.name), 'kind', coalesce(a.kind, b.kind), "
	"      'base', CASE WHEN a.key IS NOT NULL THEN jsonb_build_object('spanId', a.span_id::text, 'parentSpanId', a.parent_span_id::text, "
	"        'durationNanos', a.duration_nano, 'status', a.status) END, "
	"      'compare', CASE WHEN b.key IS NOT NULL THEN jsonb_build_object('spanId', b.span_id::text, 'parentSpanId', b.parent_span_id::text, "
	"        'durationNanos', b.duration_nano, 'status', b.status) END, "
	"      'statusMessage', CASE WHEN a.key IS NOT NULL AND b.key IS NOT NULL AND a.status_message IS DISTINCT FROM b.status_message "
	"        THEN jsonb_build_object('base', a.status_message, 'compare', b.status_message) END)) AS text, "
	"    CASE WHEN a.key IS NOT NULL AND b.key IS NOT NULL AND a.attributes IS DISTINCT FROM b.attributes THEN ("
	"      SELECT jsonb_object_agg(k.key, jsonb_build_object('base', a.attributes -> k.key, 'compare', b.attributes -> k.key)) "
	"      FROM (SELECT jsonb_object_keys(a.attributes) UNION SELECT jsonb_object_keys(b.attributes)) AS k(key) "
	"      WHERE a.attributes -> k.key IS DISTINCT FROM b.attributes -> k.key) END AS changed "
	"  FROM one AS a FULL JOIN two AS b ON a.key = b.key) "
	"SELECT jsonb_build_object("
	"    'baseSpans', (SELECT count(*) FROM one), 'compareSpans', (SELECT count(*) FROM two), "
	"    'baseDurationNanos', (SELECT max(start + duration_nano) - min(start) FROM one), "
	"    'compareDurationNanos', (SELECT max(start + duration_nano) - min(start) FROM two), "
	"    'baseErrors', (SELECT count(*) FROM one WHERE status = 'error'), 'compareErrors', (SELECT count(*) FROM two WHERE status = 'error'), "
	"    'added', count(*) FILTER (WHERE op = 'add'), 'removed', count(*) FILTER (WHERE op = 'remove'), "
	"    'changed', count(*) FILTER (WHERE op = 'replace'), 'unchanged', count(*) FILTER (WHERE op = 'keep'))::text, "
	"  coalesce(jsonb_agg(jsonb_build_object('op', op) || text || CASE WHEN changed IS NULL THEN '{}'::jsonb "
	"    ELSE jsonb_build_object('attributes', changed) END ORDER BY start, op, text) FILTER (WHERE op <> 'keep'), '[]'::jsonb)::text "
	"FROM pairs";

static void
run_diff(ApiCall *call, const DiffSide sides[2])
{
	Oid   types[3] = {TEXTARRAYOID, InvalidOid, InvalidOid};
	Datum values[3];

	types[1] = types[2] = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("trace_id"),
	                                      ObjectIdGetDatum(get_namespace_oid("tempo", false)));
	values[0] = tenants_array(call);
	values[1] = PointerGetDatum(&sides[0].id);
	values[2] = PointerGetDatum(&sides[1].id);
	run_query(diff_sql, 3, types, values, NULL);
}

void
serve_trace_diff(ApiCall *call)
{
	DiffSide      sides[2];
	DiffFormat    format;
	MemoryContext context = CurrentMemoryContext;
	ApiBody      *body;
	char         *summary;
	char         *patch;

	if (!read_request(call, sides, &format) || !check_traces(call, sides))
		return;
	SPI_connect();
	MemoryContextSwitchTo(context);
	run_diff(call, sides);
	summary = result_text(0, 1);
	patch = result_text(0, 2);
	if (format == DIFF_PATCH && strlen(patch) > MAX_PATCH)
		(void) api_fail(call, 429, "the difference is too large: %zu bytes", strlen(patch));
	else
	{
		body = api_ok(call, "application/json");
		body_printf(body, "{\"format\":\"%s\",\"base\":{\"traceId\":\"%s\"},\"compare\":{\"traceId\":\"%s\"},\"summary\":",
		            formats[format], sides[0].hex, sides[1].hex);
		body_text(body, summary);
		if (format == DIFF_COMPOSED && strlen(patch) > COMPOSED_BUDGET)
			body_printf(body, ",\"patchOmitted\":{\"bytes\":%zu,\"reason\":\"over_budget\"}", strlen(patch));
		else if (format != DIFF_SUMMARY)
		{
			body_text(body, ",\"patch\":");
			body_text(body, patch);
		}
		body_char(body, '}');
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
}
