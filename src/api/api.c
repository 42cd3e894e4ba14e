/*-------------------------------------------------------------------------
 *
 * api.c
 *	  The settings of the API, and tempo.api(), the API as an SQL function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "api/internal.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

int   tempo_query_timeout = 30000;
int   tempo_search_default_limit = 20;
int   tempo_search_max_limit = 262144;
int   tempo_search_max_range = 168 * 3600;
int   tempo_search_default_range = 0;
int   tempo_search_default_spss = 3;
int   tempo_search_max_spss = 100;
int   tempo_query_end_cutoff = 0;
int   tempo_max_query_bytes = 128 * 1024;
int   tempo_metrics_max_range = 24 * 3600;
int   tempo_metrics_max_intervals = 10000;
int   tempo_metrics_max_series = 0;
int   tempo_metrics_max_exemplars = 100;
int   tempo_max_tag_response_bytes = 1000000;
int   tempo_stream_packet_bytes = 1024 * 1024;
int   tempo_max_bytes_per_trace = 50 * 1024 * 1024;
bool  tempo_multi_tenant_queries = true;
bool  tempo_user_configurable_overrides = false;
bool  tempo_mcp_server = false;
bool  tempo_left_pad_trace_ids = false;
char *tempo_http_api_prefix;
char *tempo_api_version;

/* Limits of what one request may ask for. */
static void
define_limits(void)
{
	DefineCustomIntVariable("tempo_pg.query_timeout",
	                        "Time limit of a request to the Tempo API; 0 turns it off.",
	                        NULL, &tempo_query_timeout, 30000, 0, INT_MAX,
	                        PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_default_limit",
	                        "Traces that a search returns when the request does not say.",
	                        NULL, &tempo_search_default_limit, 20, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_max_limit",
	                        "Largest number of traces that a search may ask for; 0 means no limit.",
	                        NULL, &tempo_search_max_limit, 262144, 0, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_max_range",
	                        "Longest range of time that a search may ask for; 0 means no limit.",
	                        NULL, &tempo_search_max_range, 168 * 3600, 0, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_default_range",
	                        "Range of time before now that a search covers when the request does not say; 0 means all.",
	                        NULL, &tempo_search_default_range, 0, 0, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_default_spss",
	                        "Spans per spanset that a search returns when the request does not say.",
	                        NULL, &tempo_search_default_spss, 3, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.search_max_spss",
	                        "Largest number of spans per spanset that a search may ask for; 0 means no limit.",
	                        NULL, &tempo_search_max_spss, 100, 0, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_query_bytes",
	                        "Longest TraceQL query.",
	                        NULL, &tempo_max_query_bytes, 128 * 1024, 1, 128 * 1024,
	                        PGC_USERSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.metrics_max_range",
	                        "Longest range of time of a metrics query; 0 means no limit.",
	                        NULL, &tempo_metrics_max_range, 24 * 3600, 0, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.metrics_max_intervals",
	                        "Largest number of samples in a series of a metrics query.",
	                        NULL, &tempo_metrics_max_intervals, 10000, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.metrics_max_series",
	                        "Largest number of series in the answer to a metrics query; 0 means no limit.",
	                        NULL, &tempo_metrics_max_series, 0, 0, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.metrics_max_exemplars",
	                        "Largest number of exemplars in the answer to a metrics query; 0 means none.",
	                        NULL, &tempo_metrics_max_exemplars, 100, 0, 10000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_tag_response_bytes",
	                        "Tag names and values beyond this are left out of an answer.",
	                        NULL, &tempo_max_tag_response_bytes, 1000000, 1, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_bytes_per_trace",
	                        "Largest trace in an answer; 0 means no limit.",
	                        "/api/traces refuses a larger one, /api/v2/traces answers with its first spans.",
	                        &tempo_max_bytes_per_trace, 50 * 1024 * 1024, 0, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.stream_packet_bytes",
	                        "Size at which the answer to a streaming query is split into several messages.",
	                        "Clients of gRPC refuse messages of more than 4 MB unless told otherwise.",
	                        &tempo_stream_packet_bytes, 1024 * 1024, 1024, 64 * 1024 * 1024,
	                        PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
}

void
api_init(void)
{
	define_limits();
	DefineCustomIntVariable("tempo_pg.query_end_cutoff",
	                        "Age below which spans are not searched yet.",
	                        "Tempo needs this; here a span is complete and searchable once it is committed.",
	                        &tempo_query_end_cutoff, 0, 0, INT_MAX,
	                        PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.multi_tenant_queries",
	                         "Allows queries of several tenants at once (X-Scope-OrgID: a|b).",
	                         NULL, &tempo_multi_tenant_queries, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.mcp_server",
	                         "Serves the Model Context Protocol at /api/mcp.",
	                         "Language models can search traces then.",
	                         &tempo_mcp_server, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.user_configurable_overrides",
	                         "Lets clients of the Tempo API read and write the settings of their tenant (/api/overrides).",
	                         NULL, &tempo_user_configurable_overrides, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.left_pad_trace_ids",
	                         "Keeps the zeros at the start of trace ids in search results.",
	                         NULL, &tempo_left_pad_trace_ids, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.http_api_prefix",
	                           "Path in front of /api of the Tempo API, such as \"/tempo\".",
	                           NULL, &tempo_http_api_prefix, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.api_version",
	                           "Version of Tempo that /api/status/buildinfo reports.",
	                           "Grafana switches features by it.",
	                           &tempo_api_version, "3.0.3", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* A header of the request; names in any case. */
static const char *
header_of(Jsonb *headers, const char *name)
{
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbValue     value;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("headers must be a JSON object")));
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char *key = pnstrdup(value.val.string.val, value.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		if (pg_strcasecmp(key, name) == 0)
		{
			if (value.type != jbvString)
				ereport(ERROR,
				        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				         errmsg("header \"%s\" must be a JSON string", key)));
			return pnstrdup(value.val.string.val, value.val.string.len);
		}
	}
	return NULL;
}

static void
add_header(JsonbParseState **state, const char *name, const char *value)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = (char *) name;
	v.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = (char *) value;
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

static Jsonb *
response_headers(const ApiResponse *response)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (response->content_type)
		add_header(&state, "Content-Type", response->content_type);
	if (response->nosniff)
		add_header(&state, "X-Content-Type-Options", "nosniff");
	if (response->location)
		add_header(&state, "Location", response->location);
	if (response->etag)
		add_header(&state, "ETag", response->etag);
	if (response->allow)
		add_header(&state, "Allow", response->allow);
	if (response->session)
		add_header(&state, "Mcp-Session-Id", response->session);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

PG_FUNCTION_INFO_V1(tempo_api);

/*
 * tempo.api(method text, path text, query text, headers jsonb, body bytea)
 * RETURNS (status int, headers jsonb, body bytea)
 */
Datum
tempo_api(PG_FUNCTION_ARGS)
{
	ApiRequest     request = {0};
	ApiResponse   *response;
	TupleDesc      desc;
	Datum          values[3];
	bool           nulls[3] = {false, false, false};
	StringInfoData body;
	const char    *data;
	Size           len;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < 2; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
			        (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			         errmsg("method and path must not be null")));
	}
	request.method = text_to_cstring(PG_GETARG_TEXT_PP(0));
	request.path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	request.query = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
	{
		request.accept = header_of(PG_GETARG_JSONB_P(3), "accept");
		request.tenant = header_of(PG_GETARG_JSONB_P(3), "x-scope-orgid");
		request.if_match = header_of(PG_GETARG_JSONB_P(3), "if-match");
	}
	if (!PG_ARGISNULL(4))
	{
		bytea *data = PG_GETARG_BYTEA_PP(4);

		request.body = VARDATA_ANY(data);
		request.body_len = VARSIZE_ANY_EXHDR(data);
	}

	response = api_begin(&request);

	initStringInfo(&body);
	appendStringInfoSpaces(&body, VARHDRSZ);
	while (api_next(response, &data, &len))
		appendBinaryStringInfo(&body, data, (int) len);
	SET_VARSIZE(body.data, body.len);
	values[0] = Int32GetDatum(response->status);
	values[1] = JsonbPGetDatum(response_headers(response));
	values[2] = PointerGetDatum(body.data);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
