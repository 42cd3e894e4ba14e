/*-------------------------------------------------------------------------
 *
 * overrides.c
 *	  /api/overrides: the settings that a tenant gives itself, and the page
 *	  that shows those of all tenants.
 *
 * The document is Tempo's; tempo_pg stores it for the tools that read it.  Its
 * version is the ETag: who replaces or deletes it says which version it saw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/internal.h"
#include "api/jsonbody.h"
#include "api/read.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

/* --------------------------------------------------------------- document */

typedef enum FieldType
{
	FIELD_OBJECT, /* of known members */
	FIELD_BOOL,
	FIELD_STRING,
	FIELD_DURATION,
	FIELD_STRINGS,
	FIELD_NUMBERS,
	FIELD_STRING_MAP,
	FIELD_BOOL_MAP,
	FIELD_OBJECTS /* a list of them, whatever they have */
} FieldType;

typedef struct Field
{
	const char         *name;
	FieldType           type;
	const struct Field *members; /* ends with a NULL name */
} Field;

static const Field service_graphs[] = {
	{"histogram_buckets", FIELD_NUMBERS}, {"dimensions", FIELD_STRINGS}, {"peer_attributes", FIELD_STRINGS}, {"filter_policies", FIELD_OBJECTS}, {"enable_client_server_prefix", FIELD_BOOL}, {"enable_messaging_system_latency_histogram", FIELD_BOOL}, {"enable_virtual_node_label", FIELD_BOOL}, {NULL}};
static const Field span_metrics[] = {
	{"histogram_buckets", FIELD_NUMBERS}, {"dimensions", FIELD_STRINGS}, {"intrinsic_dimensions", FIELD_BOOL_MAP}, {"dimension_mappings", FIELD_OBJECTS}, {"filter_policies", FIELD_OBJECTS}, {"enable_target_info", FIELD_BOOL}, {"target_info_excluded_dimensions", FIELD_STRINGS}, {NULL}};
static const Field host_info[] = {
	{"host_identifiers", FIELD_STRINGS}, {"metric_name", FIELD_STRING}, {NULL}};
static const Field processor[] = {
	{"service_graphs", FIELD_OBJECT, service_graphs}, {"span_metrics", FIELD_OBJECT, span_metrics}, {"host_info", FIELD_OBJECT, host_info}, {NULL}};
static const Field metrics_generator[] = {
	{"processors", FIELD_STRINGS}, {"disable_collection", FIELD_BOOL}, {"collection_interval", FIELD_DURATION}, {"trace_id_label_name", FIELD_STRING}, {"ingestion_time_range_slack", FIELD_DURATION}, {"generate_native_histograms", FIELD_STRING}, {"processor", FIELD_OBJECT, processor}, {NULL}};
static const Field cost_attribution[] = {{"dimensions", FIELD_STRING_MAP}, {NULL}};
static const Field document[] = {
	{"forwarders", FIELD_STRINGS}, {"cost_attribution", FIELD_OBJECT, cost_attribution}, {"metrics_generator", FIELD_OBJECT, metrics_generator}, {NULL}};

static bool
wrong_type(ApiCall *call, const char *name, const char *wanted)
{
	return api_fail(call, 400, "json: cannot unmarshal field %s: it must be %s", name, wanted);
}

static bool
check_list(ApiCall *call, const Field *field, JsonbContainer *list, enum jbvType type, const char *wanted)
{
	if (!JsonContainerIsArray(list) || JsonContainerIsScalar(list))
		return wrong_type(call, field->name, wanted);
	for (uint32 i = 0; i < JsonContainerSize(list); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(list, i);

		if (item->type != type || (type == jbvBinary && !JsonContainerIsObject(item->val.binary.data)))
			return wrong_type(call, field->name, wanted);
	}
	return true;
}

static bool
check_map(ApiCall *call, const Field *field, JsonbContainer *map, enum jbvType type, const char *wanted)
{
	JsonbIterator *it;
	JsonbValue     value;

	if (!JsonContainerIsObject(map))
		return wrong_type(call, field->name, wanted);
	it = JsonbIteratorInit(map);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != type)
			return wrong_type(call, field->name, wanted);
	}
	return true;
}

static bool check_object(ApiCall *call, const Field *members, JsonbContainer *object);

static bool
check_field(ApiCall *call, const Field *field, const JsonbValue *value)
{
	JsonbContainer *inner = value->type == jbvBinary ? value->val.binary.data : NULL;
	int64           ignored;

	/* null is absent, in documents as in patches */
	if (value->type == jbvNull)
		return true;
	switch (field->type)
	{
		case FIELD_BOOL:
			return value->type == jbvBool || wrong_type(call, field->name, "a boolean");
		case FIELD_STRING:
			return value->type == jbvString || wrong_type(call, field->name, "a string");
		case FIELD_DURATION:
			return (value->type == jbvString &&
			        parse_go_duration(pnstrdup(value->val.string.val, value->val.string.len), &ignored)) ||
			       wrong_type(call, field->name, "a duration such as \"30s\"");
		default:
			break;
	}
	if (inner == NULL)
		return wrong_type(call, field->name, field->type == FIELD_STRINGS || field->type == FIELD_NUMBERS || field->type == FIELD_OBJECTS ? "a list" : "an object");
	switch (field->type)
	{
		case FIELD_STRINGS:
			return check_list(call, field, inner, jbvString, "a list of strings");
		case FIELD_NUMBERS:
			return check_list(call, field, inner, jbvNumeric, "a list of numbers");
		case FIELD_OBJECTS:
			return check_list(call, field, inner, jbvBinary, "a list of objects");
		case FIELD_STRING_MAP:
			return check_map(call, field, inner, jbvString, "an object of strings");
		case FIELD_BOOL_MAP:
			return check_map(call, field, inner, jbvBool, "an object of booleans");
		default:
			return JsonContainerIsObject(inner) ? check_object(call, field->members, inner) :
			                                      wrong_type(call, field->name, "an object");
	}
}

static bool
check_object(ApiCall *call, const Field *members, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue     key;
	JsonbValue     value;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		const Field *field = members;

		while (field->name && (strlen(field->name) != key.val.string.len ||
		                       memcmp(field->name, key.val.string.val, key.val.string.len) != 0))
			field++;
		if (field->name == NULL)
			return api_fail(call, 400, "json: unknown field \"%.*s\"", key.val.string.len, key.val.string.val);
		(void) JsonbIteratorNext(&it, &value, true);
		if (!check_field(call, field, &value))
			return false;
	}
	return true;
}

/* The members whose values, not only their types, have rules. */
static bool
check_values(ApiCall *call, Jsonb *json)
{
	static const char *const known[] = {"service-graphs", "span-metrics", "host-info"};
	JsonbValue              *generator = getKeyJsonValueFromContainer(&json->root, "metrics_generator", 17, NULL);
	JsonbValue              *list = generator && generator->type == jbvBinary ?
	                                    getKeyJsonValueFromContainer(generator->val.binary.data, "processors", 10, NULL) :
	                                    NULL;

	if (list == NULL || list->type != jbvBinary)
		return true;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(list->val.binary.data, i);
		bool        found = false;

		for (int k = 0; k < lengthof(known); k++)
			found |= strlen(known[k]) == item->val.string.len &&
			         memcmp(known[k], item->val.string.val, item->val.string.len) == 0;
		if (!found)
			return api_fail(call, 400, "metrics_generator.processor \"%.*s\" is not a known processor, "
			                           "valid values: [host-info service-graphs span-metrics]",
			                item->val.string.len, item->val.string.val);
	}
	return true;
}

/* The body as a document; NULL when it was answered that it is none. */
static Jsonb *
read_document(ApiCall *call)
{
	Jsonb *json = read_json_body(call, "");

	if (json == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(json))
	{
		(void) api_fail(call, 400, "json: the document must be an object");
		return NULL;
	}
	return check_object(call, document, &json->root) && check_values(call, json) ? json : NULL;
}

/*
 * JSON merge patch: null takes a member away.  "base" may be NULL.
 */
static JsonbValue *
merge(JsonbParseState **state, JsonbContainer *base, JsonbContainer *patch)
{
	JsonbContainer *sides[2] = {base, patch};
	JsonbValue     *result;

	check_stack_depth();
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int side = 0; side < 2; side++)
	{
		JsonbIterator *it;
		JsonbValue     key;
		JsonbValue     value;

		if (sides[side] == NULL)
			continue;
		it = JsonbIteratorInit(sides[side]);
		(void) JsonbIteratorNext(&it, &key, true);
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			JsonbContainer *other = sides[1 - side];
			JsonbValue     *old = other ? getKeyJsonValueFromContainer(other, key.val.string.val, key.val.string.len, NULL) : NULL;

			(void) JsonbIteratorNext(&it, &value, true);
			/* what the patch has too is taken from there */
			if ((side == 0 && old) || value.type == jbvNull)
				continue;
			pushJsonbValue(state, WJB_KEY, &key);
			if (side == 1 && value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
				(void) merge(state, old && old->type == jbvBinary && JsonContainerIsObject(old->val.binary.data) ? old->val.binary.data : NULL, value.val.binary.data);
			else
				pushJsonbValue(state, WJB_VALUE, &value);
		}
	}
	result = pushJsonbValue(state, WJB_END_OBJECT, NULL);
	return result;
}

/* --------------------------------------------------------------- database */

typedef struct Stored
{
	Jsonb *document; /* NULL = none */
	int64  version;  /* of the row; 0 if there is none */
} Stored;

/* Runs a statement that may write; the caller is connected. */
static void
run_command(const char *sql, int n, Oid *types, Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	int           code = SPI_execute_with_args(sql, n, types, values, nulls, false, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "a statement of the API failed: %s", SPI_result_code_string(code));
}

static Stored
read_stored(ApiCall *call)
{
	Oid    types[1] = {TEXTOID};
	Datum  values[1] = {CStringGetTextDatum(linitial(call->tenants))};
	Stored stored = {NULL, 0};

	run_query("SELECT o.user_configurable, o.version FROM tempo.overrides AS o "
	          "WHERE o.tenant OPERATOR(pg_catalog.=) $1",
	          1, types, values, NULL);
	if (SPI_processed > 0)
	{
		bool  isnull;
		Datum json = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			stored.document = DatumGetJsonbPCopy(json);
		stored.version = result_int64(0, 2, &isnull);
	}
	return stored;
}

/* What clients see of the version: 0 as long as there is nothing. */
static int64
visible_version(const Stored *stored)
{
	return stored->document ? stored->version : 0;
}

/* Stores a document, NULL = none, if the row still has that version; the new one, -1 if it has not. */
static int64
write_stored(ApiCall *call, const Stored *stored, Jsonb *json)
{
	Oid   types[3] = {TEXTOID, JSONBOID, INT8OID};
	Datum values[3];
	bool  isnull;

	values[0] = CStringGetTextDatum(linitial(call->tenants));
	values[1] = json ? JsonbPGetDatum(json) : (Datum) 0;
	values[2] = Int64GetDatum(stored->version);
	run_command("INSERT INTO tempo.overrides AS o (tenant, user_configurable, version) VALUES ($1, $2, $3 OPERATOR(pg_catalog.+) 1) "
	            "ON CONFLICT (tenant) DO UPDATE SET user_configurable = EXCLUDED.user_configurable, version = EXCLUDED.version "
	            "WHERE o.version OPERATOR(pg_catalog.=) $3 RETURNING o.version",
	            3, types, values, json ? "   " : " n ");
	return SPI_processed > 0 ? result_int64(0, 1, &isnull) : -1;
}

/* ---------------------------------------------------------------- answers */

static void
answer_document(ApiCall *call, Jsonb *json, int64 version)
{
	char *text = JsonbToCString(NULL, &json->root, VARSIZE(json));

	body_text(api_ok(call, "application/json"), text);
	call->response->etag = psprintf(INT64_FORMAT, version);
}

static bool
version_mismatch(ApiCall *call)
{
	return api_fail(call, 412, "version does not match");
}

/* If-Match, with or without quotes, must be the version that clients see. */
static bool
check_match(ApiCall *call, const Stored *stored)
{
	const char *match = call->request->if_match;
	char       *end;
	int64       version;

	if (*match == '"')
		match++;
	errno = 0;
	version = strtoll(match, &end, 10);
	if (*end == '"')
		end++;
	if (end == match || *end != '\0' || errno != 0 || version != visible_version(stored))
		return version_mismatch(call);
	return true;
}

static void
get_overrides(ApiCall *call)
{
	const char *scope = parameter(call, "scope");
	Stored      stored;

	if (scope && strcmp(scope, "api") != 0 && strcmp(scope, "merged") != 0)
	{
		(void) api_fail(call, 400, "unknown scope \"%s\", valid options are api and merged", scope);
		return;
	}
	stored = read_stored(call);
	if (stored.document)
		answer_document(call, stored.document, stored.version);
	else
	{
		api_ok(call, NULL);
		call->response->status = 404;
	}
}

static void
post_overrides(ApiCall *call)
{
	const char *skip = parameter(call, "skip-conflicting-overrides-check");
	Stored      stored;
	Jsonb      *json;
	int64       version;
	bool        ignored;

	if (skip && !parse_bool(skip, &ignored))
	{
		(void) api_fail(call, 400, "invalid value for skip-conflicting-overrides-check: %s", skip);
		return;
	}
	if ((json = read_document(call)) == NULL)
		return;
	stored = read_stored(call);
	if (!check_match(call, &stored))
		return;
	version = write_stored(call, &stored, json);
	if (version < 0)
	{
		(void) version_mismatch(call);
		return;
	}
	api_ok(call, NULL);
	call->response->etag = psprintf(INT64_FORMAT, version);
}

static void
patch_overrides(ApiCall *call)
{
	JsonbParseState *state = NULL;
	Stored           stored;
	Jsonb           *patch = read_document(call);
	Jsonb           *json;
	int64            version;

	if (patch == NULL)
		return;
	stored = read_stored(call);
	json = JsonbValueToJsonb(merge(&state, stored.document ? &stored.document->root : NULL, &patch->root));
	version = write_stored(call, &stored, json);
	if (version < 0)
		(void) version_mismatch(call);
	else
		answer_document(call, json, version);
}

static void
delete_overrides(ApiCall *call)
{
	Stored stored = read_stored(call);

	if (!check_match(call, &stored))
		return;
	if (stored.document && write_stored(call, &stored, NULL) < 0)
	{
		(void) version_mismatch(call);
		return;
	}
	api_ok(call, NULL);
	if (stored.document == NULL)
		call->response->status = 404;
}

bool
overrides_write(const char *method)
{
	return strcmp(method, "POST") == 0 || strcmp(method, "PATCH") == 0 || strcmp(method, "DELETE") == 0;
}

void
serve_overrides(ApiCall *call)
{
	const char   *method = call->request->method;
	MemoryContext context = CurrentMemoryContext;
	bool          patch = strcmp(method, "PATCH") == 0;

	if (call->writes && list_length(call->tenants) != 1)
	{
		(void) api_fail(call, 400, "multiple org IDs present");
		return;
	}
	if (call->writes && !patch && (call->request->if_match == NULL || *call->request->if_match == '\0'))
	{
		(void) api_fail(call, 428, "must specify If-Match header");
		return;
	}
	SPI_connect();
	/* the answer outlives the query */
	MemoryContextSwitchTo(context);
	if (!call->writes)
		get_overrides(call);
	else if (patch)
		patch_overrides(call);
	else if (strcmp(method, "POST") == 0)
		post_overrides(call);
	else
		delete_overrides(call);
	SPI_finish();
	MemoryContextSwitchTo(context);
}

/* ------------------------------------------------------------------- page */

static void
write_html(ApiBody *body, const char *text)
{
	for (; *text; text++)
	{
		switch (*text)
		{
			case '<':
				body_text(body, "&lt;");
				break;
			case '>':
				body_text(body, "&gt;");
				break;
			case '&':
				body_text(body, "&amp;");
				break;
			case '"':
				body_text(body, "&quot;");
				break;
			default:
				body_char(body, *text);
		}
	}
}

/* The settings of single tenants, of all or of the one in the path. */
void
serve_status_overrides(ApiCall *call)
{
	static const char *const columns[] = {
		"tenant", "retention", "ingestion_rate_bytes", "ingestion_burst_bytes", "max_bytes_per_trace",
		"max_attribute_bytes", "max_live_traces", "user_configurable", "version"};
	Oid           types[1] = {TEXTOID};
	Datum         values[1] = {(Datum) 0};
	MemoryContext context = CurrentMemoryContext;
	ApiBody      *body = api_ok(call, "text/html; charset=utf-8");

	if (call->argument)
		values[0] = CStringGetTextDatum(call->argument);
	SPI_connect();
	MemoryContextSwitchTo(context);
	run_query("SELECT tenant, retention, ingestion_rate_bytes, ingestion_burst_bytes, max_bytes_per_trace, "
	          "max_attribute_bytes, max_live_traces, user_configurable, version FROM tempo.overrides "
	          "WHERE $1 IS NULL OR tenant OPERATOR(pg_catalog.=) $1 ORDER BY tenant",
	          1, types, values, call->argument ? " " : "n");
	body_text(body, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Overrides</title></head><body>\n"
	                "<h1>Settings of single tenants</h1>\n");
	if (call->argument)
	{
		body_text(body, "<h2>");
		write_html(body, call->argument);
		body_text(body, "</h2>\n");
	}
	body_text(body, "<p>Where a column is empty, and for tenants that are not listed, the server's settings count.</p>\n"
	                "<table border=\"1\">\n<tr>");
	for (int i = 0; i < lengthof(columns); i++)
		body_printf(body, "<th>%s</th>", columns[i]);
	body_text(body, "</tr>\n");
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		body_text(body, "<tr>");
		for (int i = 0; i < lengthof(columns); i++)
		{
			char *text = result_text(row, i + 1);

			body_text(body, "<td>");
			write_html(body, text ? text : "");
			body_text(body, "</td>");
		}
		body_text(body, "</tr>\n");
	}
	body_text(body, "</table>\n</body></html>\n");
	SPI_finish();
	MemoryContextSwitchTo(context);
}
