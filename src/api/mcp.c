/*-------------------------------------------------------------------------
 *
 * mcp.c
 *	  /api/mcp: the API as tools of the Model Context Protocol.
 *
 * Streamable HTTP: a JSON-RPC message in a POST, its answer as JSON.  A tool
 * is a request to one of the endpoints, served in the same transaction.  There
 * is nothing to remember between requests, so that a session is just a name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/jsonbody.h"
#include "api/mcp_docs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define PARSE_ERROR (-32700)
#define INVALID_REQUEST (-32600)
#define METHOD_NOT_FOUND (-32601)
#define INVALID_PARAMS (-32602)
#define RESOURCE_NOT_FOUND (-32002)

#define LATEST_PROTOCOL "2025-06-18"

typedef struct McpArgument
{
	const char *name;
	const char *parameter; /* of the endpoint; NULL = part of the path */
	const char *description;
	bool        required;
} McpArgument;

typedef struct McpTool
{
	const char *name;
	const char *description;
	const char *type; /* _meta.type of what it returns */
	const char *path; /* of the endpoint; "%s" is the argument of the path; NULL = a document */
	const char *accept;
	bool        times;        /* start and end, the last hour if they are not given */
	McpArgument arguments[4]; /* ends with a NULL name */
} McpTool;

#define JSON "application/json"
#define LLM "application/vnd.grafana.llm"
#define TIMES \
	{"start", NULL, "start of the range of time, RFC 3339; an hour ago if not given", false}, \
	{ \
		"end", NULL, "end of the range of time, RFC 3339; now if not given", false \
	}

static const McpTool tools[] = {
	{"traceql-search", "Searches traces with a TraceQL query.", "search-results", "/api/search", JSON, true, {{"query", "q", "TraceQL query", true}, TIMES}},
	{"traceql-metrics-instant", "Evaluates a TraceQL metrics query to one value per series.", "metrics-instant", "/api/metrics/query", JSON, true, {{"query", "q", "TraceQL metrics query", true}, TIMES}},
	{"traceql-metrics-range", "Evaluates a TraceQL metrics query to time series.", "metrics-range", "/api/metrics/query_range", JSON, true, {{"query", "q", "TraceQL metrics query", true}, TIMES}},
	{"get-trace", "Returns all spans of one trace.", "trace", "/api/v2/traces/%s", LLM, false, {{"trace_id", NULL, "trace id in hexadecimal", true}}},
	{"get-attribute-names", "Lists the names of attributes that can be queried.", "attribute-names", "/api/v2/search/tags", JSON, false, {{"scope", "scope", "resource, span, event, link or instrumentation; all if not given", false}}},
	{"get-attribute-values", "Lists the values of an attribute.", "attribute-values", "/api/v2/search/tag/%s/values", LLM, false, {{"name", NULL, "name with its scope, such as resource.service.name", true}, {"filter-query", "q", "TraceQL filter that spans must match", false}}},
	{"docs-traceql", "Explains TraceQL.", "documentation", NULL, NULL, false, {{"name", NULL, "basic, aggregates, structural or metrics", true}}},
	{"docs-config", "Explains the configuration.", "documentation", NULL, NULL, false, {{"name", NULL, "overview or reference", true}}}};

/* --------------------------------------------------------------- JSON-RPC */

static void
write_string(ApiBody *body, const char *text)
{
	body_json_string(body, text, strlen(text));
}

/* The id of a request as it came: a text or a number, null for none. */
static char *
id_text(JsonbContainer *message)
{
	JsonbValue *id = api_json_member(message, "id");

	if (id && id->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(id->val.numeric)));
	if (id && id->type == jbvString)
	{
		ApiBody       *body = body_create();
		StringInfoData text;
		const char    *data;
		Size           len;

		body_json_string(body, id->val.string.val, id->val.string.len);
		initStringInfo(&text);
		while (body_take(body, &data, &len))
			appendBinaryStringInfo(&text, data, (int) len);
		return text.data;
	}
	return "null";
}

static ApiBody *
begin_result(ApiCall *call, const char *id)
{
	ApiBody *body = api_ok(call, JSON);

	body_printf(body, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":", id);
	return body;
}

static void
answer_error(ApiCall *call, const char *id, int code, const char *message)
{
	ApiBody *body = api_ok(call, JSON);

	body_printf(body, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":%d,\"message\":", id, code);
	write_string(body, message);
	body_text(body, "}}");
}

/* ------------------------------------------------------------------ tools */

static void
list_tools(ApiCall *call, const char *id)
{
	ApiBody *body = begin_result(call, id);

	body_text(body, "{\"tools\":[");
	for (int i = 0; i < lengthof(tools); i++)
	{
		bool required = false;

		body_text(body, i ? ",{\"name\":" : "{\"name\":");
		write_string(body, tools[i].name);
		body_text(body, ",\"description\":");
		write_string(body, tools[i].description);
		body_text(body, ",\"inputSchema\":{\"type\":\"object\",\"properties\":{");
		for (const McpArgument *a = tools[i].arguments; a->name; a++)
		{
			body_printf(body, "%s\"%s\":{\"type\":\"string\",\"description\":", a == tools[i].arguments ? "" : ",", a->name);
			write_string(body, a->description);
			body_char(body, '}');
		}
		body_char(body, '}');
		for (const McpArgument *a = tools[i].arguments; a->name; a++)
		{
			if (!a->required)
				continue;
			body_printf(body, "%s\"%s\"", required ? "," : ",\"required\":[", a->name);
			required = true;
		}
		body_text(body, required ? "]},\"annotations\":{\"readOnlyHint\":true}}" : "},\"annotations\":{\"readOnlyHint\":true}}");
	}
	body_text(body, "]}}");
}

/* What a tool found, or why not. */
static void
answer_tool(ApiCall *call, const char *id, const char *type, const char *text, Size len, bool failed)
{
	ApiBody *body = begin_result(call, id);

	if (type)
		body_printf(body, "{\"_meta\":{\"type\":\"%s\",\"encoding\":\"json\",\"version\":\"2\"},", type);
	else
		body_char(body, '{');
	body_text(body, "\"content\":[{\"type\":\"text\",\"text\":");
	body_json_string(body, text, len);
	body_printf(body, "}]%s}}", failed ? ",\"isError\":true" : "");
}

/* The error of an endpoint that a tool called is a result of the tool, too. */
static void
wrap_tool_error(ApiCall *call, const char *message)
{
	answer_tool(call, call->rpc_id, NULL, message, strlen(message), true);
}

/* Seconds since 1970; false if it is no time. */
static bool
read_time(const char *text, int64 *seconds)
{
	int64 nanos;

	if (!parse_rfc3339(text, &nanos))
		return false;
	*seconds = nanos / 1000000000;
	return true;
}

static const McpDocument *
find_document(const char *kind, const char *name)
{
	for (int i = 0; i < mcp_n_documents; i++)
	{
		if (strcmp(mcp_documents[i].kind, kind) == 0 && strcmp(mcp_documents[i].name, name) == 0)
			return &mcp_documents[i];
	}
	return NULL;
}

/* The query string of the endpoint; false when the tool was answered. */
static bool
read_arguments(ApiCall *call, const char *id, const McpTool *tool, JsonbContainer *arguments, StringInfo query, char **in_path)
{
	int64 end = now_seconds();
	int64 start = end - 3600;

	*in_path = NULL;
	for (const McpArgument *a = tool->arguments; a->name; a++)
	{
		char *value = arguments ? api_json_text(arguments, a->name) : NULL;
		bool  is_start = tool->times && strcmp(a->name, "start") == 0;
		bool  is_end = tool->times && strcmp(a->name, "end") == 0;

		if (value == NULL || *value == '\0')
		{
			if (a->required)
			{
				value = psprintf("required argument \"%s\" not found", a->name);
				answer_tool(call, id, NULL, value, strlen(value), true);
				return false;
			}
			continue;
		}
		if (is_start || is_end)
		{
			if (!read_time(value, is_start ? &start : &end))
			{
				value = psprintf("invalid %s: \"%s\" is no time in the form of RFC 3339", a->name, value);
				answer_tool(call, id, NULL, value, strlen(value), true);
				return false;
			}
			if (is_end && api_json_text(arguments, "start") == NULL)
				start = end - 3600;
		}
		else if (a->parameter)
		{
			appendStringInfo(query, "%s%s=", query->len ? "&" : "", a->parameter);
			append_percent(query, value, strlen(value));
		}
		else
			*in_path = value;
	}
	if (tool->times)
		appendStringInfo(query, "&start=" INT64_FORMAT "&end=" INT64_FORMAT, start, end);
	return true;
}

static void
call_tool(ApiCall *call, const char *id, JsonbContainer *params)
{
	char              *name = params ? api_json_text(params, "name") : NULL;
	JsonbValue        *arguments = params ? api_json_member(params, "arguments") : NULL;
	const McpTool     *tool = NULL;
	StringInfoData     query;
	StringInfoData     text;
	StringInfoData     path;
	char              *in_path;
	ApiRequest         request = {0};
	const ApiResponse *response;
	const char        *data;
	Size               len;

	for (int i = 0; i < lengthof(tools); i++)
	{
		if (name && strcmp(tools[i].name, name) == 0)
			tool = &tools[i];
	}
	if (tool == NULL)
	{
		answer_error(call, id, INVALID_PARAMS, psprintf("tool '%s' not found: tool not found", name ? name : ""));
		return;
	}
	initStringInfo(&query);
	if (!read_arguments(call, id, tool, arguments && arguments->type == jbvBinary && JsonContainerIsObject(arguments->val.binary.data) ? arguments->val.binary.data : NULL,
	                    &query, &in_path))
		return;
	if (tool->path == NULL)
	{
		const McpDocument *document = find_document(tool->name + strlen("docs-"), in_path);
		const char        *answer = document ? document->text : psprintf("there is no document \"%s\"", in_path);

		answer_tool(call, id, document ? tool->type : NULL, answer, strlen(answer), document == NULL);
		return;
	}

	initStringInfo(&path);
	appendStringInfoString(&path, tempo_http_api_prefix);
	for (const char *p = tool->path; *p; p++)
	{
		if (strncmp(p, "%s", 2) == 0)
		{
			append_percent(&path, in_path, strlen(in_path));
			p++;
		}
		else
			appendStringInfoChar(&path, *p);
	}
	request = *call->request;
	request.method = "GET";
	request.path = path.data;
	request.query = query.data;
	request.accept = tool->accept;
	call->rpc_id = id;
	call->wrap_error = wrap_tool_error;
	response = api_serve_inner(&request);
	initStringInfo(&text);
	while (api_next((ApiResponse *) response, &data, &len))
		appendBinaryStringInfo(&text, data, (int) len);
	answer_tool(call, id, response->status == 200 ? tool->type : NULL, text.data, text.len, response->status != 200);
}

/* -------------------------------------------------------------- resources */

static void
list_resources(ApiCall *call, const char *id)
{
	ApiBody *body = begin_result(call, id);
	bool     first = true;

	body_text(body, "{\"resources\":[");
	for (int i = 0; i < mcp_n_documents; i++)
	{
		if (strcmp(mcp_documents[i].kind, "traceql") != 0)
			continue;
		body_printf(body, "%s{\"uri\":\"docs://traceql/%s\",\"name\":\"TraceQL: %s\",\"mimeType\":\"text/markdown\"}",
		            first ? "" : ",", mcp_documents[i].name, mcp_documents[i].name);
		first = false;
	}
	body_text(body, "]}}");
}

static void
read_resource(ApiCall *call, const char *id, JsonbContainer *params)
{
	char              *uri = params ? api_json_text(params, "uri") : NULL;
	const McpDocument *document = uri && strncmp(uri, "docs://traceql/", 15) == 0 ? find_document("traceql", uri + 15) : NULL;
	ApiBody           *body;

	if (document == NULL)
	{
		answer_error(call, id, RESOURCE_NOT_FOUND, psprintf("resource '%s' not found", uri ? uri : ""));
		return;
	}
	body = begin_result(call, id);
	body_text(body, "{\"contents\":[{\"uri\":");
	write_string(body, uri);
	body_text(body, ",\"mimeType\":\"text/markdown\",\"text\":");
	write_string(body, document->text);
	body_text(body, "}]}}");
}

/* ---------------------------------------------------------------- methods */

static void
initialize(ApiCall *call, const char *id, JsonbContainer *params)
{
	static const char *const known[] = {LATEST_PROTOCOL, "2025-03-26", "2024-11-05"};
	char                    *wanted = params ? api_json_text(params, "protocolVersion") : NULL;
	const char              *version = LATEST_PROTOCOL;

	for (int i = 0; i < lengthof(known); i++)
	{
		if (wanted && strcmp(wanted, known[i]) == 0)
			version = known[i];
	}
	body_printf(begin_result(call, id), "{\"protocolVersion\":\"%s\",\"capabilities\":{\"resources\":{},\"tools\":{}},"
	                                    "\"serverInfo\":{\"name\":\"tempo\",\"version\":\"0.1.0\"}}}",
	            version);
	call->response->session = psprintf("mcp-session-%s", DatumGetCString(DirectFunctionCall1(uuid_out, DirectFunctionCall1(gen_random_uuid, (Datum) 0))));
}

static void
serve_message(ApiCall *call, JsonbContainer *message)
{
	char           *version = api_json_text(message, "jsonrpc");
	char           *method = api_json_text(message, "method");
	JsonbValue     *value = api_json_member(message, "params");
	JsonbContainer *params = value && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) ?
	                             value->val.binary.data :
	                             NULL;
	const char     *id = id_text(message);

	if (version == NULL || strcmp(version, "2.0") != 0 || method == NULL)
		answer_error(call, id, INVALID_REQUEST, "Invalid Request");
	/* a notification has no answer */
	else if (api_json_member(message, "id") == NULL)
	{
		api_ok(call, NULL);
		call->response->status = 202;
	}
	else if (strcmp(method, "initialize") == 0)
		initialize(call, id, params);
	else if (strcmp(method, "ping") == 0)
		body_text(begin_result(call, id), "{}}");
	else if (strcmp(method, "tools/list") == 0)
		list_tools(call, id);
	else if (strcmp(method, "tools/call") == 0)
		call_tool(call, id, params);
	else if (strcmp(method, "resources/list") == 0)
		list_resources(call, id);
	else if (strcmp(method, "resources/templates/list") == 0)
		body_text(begin_result(call, id), "{\"resourceTemplates\":[]}}");
	else if (strcmp(method, "resources/read") == 0)
		read_resource(call, id, params);
	else
		answer_error(call, id, METHOD_NOT_FOUND, psprintf("Method %s not found", method));
}

/*
 * GET would open a stream of what the server has to say by itself, which is
 * nothing: the protocol has 405 for that.
 */
void
serve_mcp(ApiCall *call)
{
	const char *method = call->request->method;
	char       *message;
	Jsonb      *json;

	if (strcmp(method, "DELETE") == 0)
	{
		api_ok(call, NULL);
		return;
	}
	json = parse_json(call->request->body ? call->request->body : "", call->request->body ? call->request->body_len : 0, &message);
	if (json == NULL)
	{
		answer_error(call, "null", PARSE_ERROR, "request body is not valid json");
		call->response->status = 400;
	}
	else if (!JB_ROOT_IS_OBJECT(json))
	{
		answer_error(call, "null", INVALID_REQUEST, "Invalid Request");
		call->response->status = 400;
	}
	else
		serve_message(call, &json->root);
}
