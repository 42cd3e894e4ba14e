/*-------------------------------------------------------------------------
 *
 * router.c
 *	  From a request to the endpoint that answers it, and the rules that all
 *	  of them share: paths, tenants, parameters, formats, errors.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/internal.h"
#include "api/json.h"
#include "api/read.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define SINGLE_TENANT "single-tenant"
#define MAX_TENANT_LENGTH 150
#define MAX_ATTEMPTS 3

typedef struct ApiParameter
{
	char *name;
	char *value;
} ApiParameter;

typedef struct Endpoint
{
	const char *name; /* in statistics */
	const char *path;
	const char *suffix;   /* not NULL: what is between path and suffix is an argument */
	bool        database; /* needs one, and a tenant */
	void (*serve)(ApiCall *call);
	const char *methods;                /* NULL = any; of others, 405 says these */
	const bool *enabled;                /* NULL = always */
	bool (*writes)(const char *method); /* NULL = never */
	bool no_tenant;                     /* needs none */
} Endpoint;

/* The first that fits wins. */
static const Endpoint endpoints[] = {
	{"ready", "/ready", NULL, false, serve_ready},
	{"metrics", "/metrics", NULL, false, serve_metrics},
	{"echo", "/api/echo", NULL, false, serve_echo},
	{"buildinfo", "/api/status/buildinfo", NULL, false, serve_buildinfo},
	{"status", "/status", NULL, false, serve_status},
	{"status", "/status/usage-stats", NULL, false, serve_status_usage},
	{"status", "/status/overrides", NULL, true, serve_status_overrides, .no_tenant = true},
	{"status", "/status/overrides/", "", true, serve_status_overrides, .no_tenant = true},
	{"status", "/status/backendscheduler", NULL, true, serve_status_compaction, .no_tenant = true},
	{"status", "/usage_metrics", NULL, true, serve_usage_metrics, .no_tenant = true},
	{"status", "/status/", "", false, serve_status},
	{"search", "/api/search", NULL, true, serve_search},
	{"mcp", "/api/mcp", NULL, true, serve_mcp, "POST, DELETE", &tempo_mcp_server},
	{"overrides", "/api/overrides", NULL, true, serve_overrides, "GET, POST, PATCH, DELETE",
     &tempo_user_configurable_overrides, overrides_write},
	{"tags", "/api/search/tags", NULL, true, serve_tags_v1},
	{"tags", "/api/v2/search/tags", NULL, true, serve_tags_v2},
	{"tag_values", "/api/search/tag/", "/values", true, serve_tag_values_v1},
	{"tag_values", "/api/v2/search/tag/", "/values", true, serve_tag_values_v2},
	{"query_range", "/api/metrics/query_range", NULL, true, serve_query_range},
	{"query_instant", "/api/metrics/query", NULL, true, serve_query_instant},
	{"trace", "/api/traces/", "", true, serve_trace_v1},
	{"trace_diff", "/api/v2/traces/diff", NULL, true, serve_trace_diff, "POST"},
	{"trace", "/api/v2/traces/", "", true, serve_trace_v2},
};

/* --------------------------------------------------------------- answers */

bool
api_fail(ApiCall *call, int status, const char *format, ...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list args;
		int     needed;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	body_append(api_ok(call, TEXT_PLAIN), text.data, text.len);
	call->response->status = status;
	return false;
}

ApiBody *
api_ok(ApiCall *call, const char *content_type)
{
	ApiResponse *response = call->response;

	response->status = 200;
	response->content_type = content_type;
	response->body = body_create();
	return response->body;
}

void
api_answer(ApiCall *call, const ProtobufCMessage *message)
{
	if (call->format == FORMAT_PROTOBUF || call->request->stream)
		message_to_protobuf(api_ok(call, "application/protobuf"), message);
	else
		message_to_json(api_ok(call, "application/json"), message, JSON_TEMPO, true);
}

/* What Go's own handlers answer with: a line of text. */
static void
plain_error(ApiCall *call, int status, const char *text)
{
	(void) api_fail(call, status, "%s\n", text);
	call->response->nosniff = true;
}

static void
not_found(ApiCall *call)
{
	const char *port;

	/* who sends spans to the port for queries is told where they belong */
	if (strncmp(call->request->path, "/v1/", 4) == 0 &&
	    (port = GetConfigOption("tempo_pg.otlp_http_port", true, false)) != NULL)
		plain_error(call, 404,
		            psprintf("404 page not found: spans are received on port %s (tempo_pg.otlp_http_port)", port));
	else
		plain_error(call, 404, "404 page not found");
}

char *
api_printable(char *text)
{
	for (char *p = text; *p; p++)
	{
		if (*p < 0x20 || *p > 0x7E)
			*p = '?';
	}
	return text;
}

/* ------------------------------------------------------------ parameters */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Undoes percent-encoding; NULL if it is broken.  A text that the database
 * could not hold (NUL, invalid UTF-8) is cut at the NUL, and its invalid bytes
 * become question marks, which no stored text has in their place.
 */
static char *
decode_percent(const char *text, Size len, bool plus)
{
	char *out = palloc(len + 1);
	Size  n = 0;

	for (Size i = 0; i < len; i++)
	{
		char c = text[i];

		if (c == '+' && plus)
			c = ' ';
		else if (c == '%')
		{
			int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
			int low = len - i > 2 ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return NULL;
			c = (char) (high << 4 | low);
			i += 2;
		}
		out[n++] = c;
	}
	out[n] = '\0';

	n = strlen(out);
	for (char *p = out; p < out + n;)
	{
		int valid = pg_encoding_verifymbchar(PG_UTF8, p, (int) (out + n - p));

		if (valid < 0)
			*p++ = '?';
		else
			p += valid;
	}
	return out;
}

static void
parse_parameters(ApiCall *call)
{
	const char *pair = call->request->query;

	while (*pair)
	{
		Size        len = strcspn(pair, "&");
		const char *equals = memchr(pair, '=', len);
		Size        name_len = equals ? (Size) (equals - pair) : len;
		char       *name = decode_percent(pair, name_len, true);
		char       *value = equals ? decode_percent(equals + 1, len - name_len - 1, true) : pstrdup("");

		if (name && value && len > 0)
		{
			ApiParameter *p = palloc(sizeof(ApiParameter));

			p->name = name;
			p->value = value;
			call->parameters = lappend(call->parameters, p);
		}
		pair += len;
		if (*pair == '&')
			pair++;
	}
}

const char *
parameter(const ApiCall *call, const char *name)
{
	ListCell *lc;

	foreach (lc, call->parameters)
	{
		const ApiParameter *p = lfirst(lc);

		if (strcmp(p->name, name) == 0)
			return *p->value ? p->value : NULL;
	}
	return NULL;
}

/* --------------------------------------------------------------- tenants */

static bool
multitenancy(void)
{
	const char *value = GetConfigOption("tempo_pg.multitenancy", true, false);
	bool        on;

	return value != NULL && parse_bool(value, &on) && on;
}

/* One of the ids in X-Scope-OrgID. */
static bool
check_tenant(ApiCall *call, const char *id)
{
	if (*id == '\0')
		return api_fail(call, 400, "no org id");
	for (const char *p = id; *p; p++)
	{
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');

		if (!plain && strchr("!-_.*'()", *p) == NULL)
			return api_fail(call, 400, "tenant ID '%s' contains unsupported character '%.*s'",
			                id, pg_utf_mblen((const unsigned char *) p), p);
	}
	if (strlen(id) > MAX_TENANT_LENGTH)
		return api_fail(call, 400, "tenant ID is too long: max %d characters", MAX_TENANT_LENGTH);
	if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return api_fail(call, 400, "tenant ID is '.' or '..'");
	return true;
}

static int
compare_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Several tenants are read as one: "a|b".  What follows ":" is no part of an id. */
static bool
read_tenants(ApiCall *call)
{
	const char *rest = call->request->tenant;
	List       *ids = NIL;
	ListCell   *lc;

	if (!multitenancy())
	{
		call->tenants = list_make1(pstrdup(SINGLE_TENANT));
		return true;
	}
	if (rest == NULL || *rest == '\0')
	{
		plain_error(call, 401, "no org id");
		return false;
	}
	for (;;)
	{
		Size  len = strcspn(rest, "|");
		char *id = pnstrdup(rest, len);

		id[strcspn(id, ":")] = '\0';
		if (!check_tenant(call, id))
			return false;
		ids = lappend(ids, id);
		if (rest[len] == '\0')
			break;
		rest += len + 1;
	}
	if (list_length(ids) > 1 && !tempo_multi_tenant_queries)
		return api_fail(call, 400, "multiple org IDs present");

	list_sort(ids, compare_texts);
	foreach (lc, ids)
	{
		if (call->tenants == NIL || strcmp(llast(call->tenants), lfirst(lc)) != 0)
			call->tenants = lappend(call->tenants, lfirst(lc));
	}
	return true;
}

Datum
tenants_array(const ApiCall *call)
{
	Datum    *items = palloc(list_length(call->tenants) * sizeof(Datum));
	int       n = 0;
	ListCell *lc;

	foreach (lc, call->tenants)
		items[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ----------------------------------------------------------------- paths */

/* Is there a redirection to the same path without "//"? */
static bool
redirect(ApiCall *call)
{
	const char    *path = call->request->path;
	StringInfoData clean;

	if (strstr(path, "//") == NULL)
		return false;
	initStringInfo(&clean);
	for (const char *p = path; *p; p++)
	{
		if (*p != '/' || p[1] != '/')
			appendStringInfoChar(&clean, *p);
	}
	if (*call->request->query)
		appendStringInfo(&clean, "?%s", call->request->query);
	api_ok(call, NULL);
	call->response->status = 301;
	call->response->location = clean.data;
	return true;
}

/* "path" is that of the request, still encoded. */
static bool
endpoint_fits(ApiCall *call, const Endpoint *endpoint, const char *path)
{
	Size len = strlen(endpoint->path);
	Size rest;
	Size suffix;

	if (strncmp(endpoint->path, "/api/", 5) == 0 || strcmp(endpoint->path, "/status/usage-stats") == 0)
	{
		Size prefix = strlen(tempo_http_api_prefix);

		if (strncmp(path, tempo_http_api_prefix, prefix) != 0)
			return false;
		path += prefix;
	}
	if (strncmp(path, endpoint->path, len) != 0)
		return false;
	if (endpoint->suffix == NULL)
		return path[len] == '\0';

	rest = strlen(path + len);
	suffix = strlen(endpoint->suffix);
	if (rest <= suffix || strcmp(path + len + rest - suffix, endpoint->suffix) != 0)
		return false;
	/* only a tag may have a slash in it */
	if (suffix == 0 && strchr(path + len, '/') != NULL)
		return false;
	call->argument = decode_percent(path + len, rest - suffix, false);
	return call->argument != NULL;
}

static const Endpoint *
find_endpoint(ApiCall *call)
{
	for (int i = 0; i < lengthof(endpoints); i++)
	{
		if ((endpoints[i].enabled == NULL || *endpoints[i].enabled) &&
		    endpoint_fits(call, &endpoints[i], call->request->path))
			return &endpoints[i];
	}
	return NULL;
}

static ApiFormat
accepted_format(const char *accept)
{
	if (accept == NULL)
		return FORMAT_JSON;
	if (strstr(accept, "application/protobuf"))
		return FORMAT_PROTOBUF;
	if (strstr(accept, "application/json"))
		return FORMAT_JSON;
	if (strstr(accept, "application/vnd.grafana.llm"))
		return FORMAT_LLM;
	return FORMAT_JSON;
}

/* ------------------------------------------------------------------ call */

static ApiCall *
call_create(const ApiRequest *request)
{
	ApiCall *call = palloc0(sizeof(ApiCall));

	call->request = request;
	call->response = palloc0(sizeof(ApiResponse));
	call->response->endpoint = "other";
	call->format = accepted_format(request->accept);
	return call;
}

/* Is this one of the methods, or HEAD where GET is? */
static bool
method_fits(const Endpoint *endpoint, const char *method)
{
	const char *p = endpoint->methods;
	Size        len = strlen(method);

	if (p == NULL)
		return true;
	for (; *p; p += strcspn(p, ","), p += strspn(p, ", "))
	{
		if ((strncmp(p, method, len) == 0 && (p[len] == ',' || p[len] == '\0')) ||
		    (strncmp(p, "GET", 3) == 0 && strcmp(method, "HEAD") == 0))
			return true;
	}
	return false;
}

/*
 * Everything that comes before the endpoint itself.  Returns the endpoint, or
 * NULL when the call is answered.
 */
static const Endpoint *
call_prepare(ApiCall *call)
{
	const Endpoint   *endpoint;
	const ApiRequest *request = call->request;
	const char       *query;

	if (redirect(call))
		return NULL;
	endpoint = find_endpoint(call);
	if (endpoint == NULL)
	{
		not_found(call);
		return NULL;
	}
	call->response->endpoint = endpoint->name;
	parse_parameters(call);
	if (!endpoint->database)
		return endpoint;
	if (!method_fits(endpoint, request->method))
	{
		plain_error(call, 405, "Method Not Allowed");
		call->response->allow = endpoint->methods;
		return NULL;
	}
	call->writes = endpoint->writes && endpoint->writes(request->method);

	if (!endpoint->no_tenant && !read_tenants(call))
		return NULL;
	query = parameter(call, "q");
	if (query && strlen(query) > (Size) tempo_max_query_bytes)
	{
		(void) api_fail(call, 400, "TraceQL expression exceeds the configured maximum size of %d bytes, "
		                           "reduce the query expression size or contact your system administrator",
		                tempo_max_query_bytes);
		return NULL;
	}
	call->response->vary = true;
	return endpoint;
}

ApiResponse *
api_begin_local(const ApiRequest *request)
{
	ApiCall        *call = call_create(request);
	const Endpoint *endpoint = call_prepare(call);

	if (endpoint == NULL)
		return call->response;
	if (endpoint->database)
		return NULL;
	endpoint->serve(call);
	return call->response;
}

/* What an error that an endpoint raised is to the client. */
static void
answer_error(ApiCall *call, const ErrorData *error)
{
	int status = 500;

	switch (error->sqlerrcode)
	{
		case ERRCODE_SYNTAX_ERROR:
		case ERRCODE_INVALID_PARAMETER_VALUE:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_STATEMENT_TOO_COMPLEX:
			status = 400;
			break;
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			status = 403;
			break;
		case ERRCODE_FEATURE_NOT_SUPPORTED:
			status = 501;
			break;
		case ERRCODE_READ_ONLY_SQL_TRANSACTION:
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			/* also a query on a standby that was in the way of recovery */
			status = 503;
			break;
	}
	if (status == 500)
		ereport(LOG_SERVER_ONLY,
		        (errmsg("tempo_pg could not answer \"%s\": %s", api_printable(pstrdup(call->request->path)), error->message),
		         errhidestmt(true)));
	if (call->wrap_error && status != 503)
		call->wrap_error(call, error->message);
	else
		(void) api_fail(call, status, "%s", error->message);
}

/*
 * What cannot be evaluated yet has an answer all the same where there are no
 * spans.  Those that started before the range may belong to a trace that
 * reaches into it.
 */
static void
serve_without_spans(ApiCall *call)
{
	ApiRange range = call->range;

	range.start = 0;
	if (has_spans(call, &range))
		(void) api_fail(call, 501, "%s", call->unsupported);
	else
		call->without_spans(call);
}

ApiCall *
api_open(const ApiRequest *request)
{
	ApiCall        *call = call_create(request);
	const Endpoint *endpoint = call_prepare(call);

	call->serve = endpoint ? endpoint->serve : NULL;
	return call;
}

ApiResponse *
api_serve_inner(const ApiRequest *request)
{
	ApiCall *call = api_open(request);

	api_serve(call);
	return call->response;
}

void
api_serve(ApiCall *call)
{
	if (call->serve)
		call->serve(call);
}

bool
api_failed(ApiCall *call, const ErrorData *error, bool new_transaction)
{
	if (error->sqlerrcode == ERRCODE_FEATURE_NOT_SUPPORTED && call->without_spans &&
	    call->serve != serve_without_spans)
	{
		call->unsupported = pstrdup(error->message);
		call->serve = serve_without_spans;
		return true;
	}
	if ((error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
	     error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
	    new_transaction && call->attempts++ < MAX_ATTEMPTS)
		return true;
	answer_error(call, error);
	return false;
}

bool
api_writes(const ApiCall *call)
{
	return call->writes;
}

ApiResponse *
api_response(ApiCall *call)
{
	return call->response;
}

/* Serves so that an error leaves the caller's transaction usable. */
static ErrorData *
serve_protected(ApiCall *call)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		api_serve(call);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

ApiResponse *
api_begin(const ApiRequest *request)
{
	ApiCall   *call = api_open(request);
	ErrorData *error;

	do
	{
		error = serve_protected(call);
	} while (error && api_failed(call, error, false));
	return call->response;
}

bool
api_next(ApiResponse *response, const char **data, Size *len)
{
	return response->body != NULL && body_take(response->body, data, len);
}
