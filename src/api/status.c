/*-------------------------------------------------------------------------
 *
 * status.c
 *	  The endpoints that tell about the server itself; none needs a database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/internal.h"
#include "miscadmin.h"
#include "utils/guc.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEMPO_PG_VERSION "0.1.0"

ApiHooks	api_hooks;

void
serve_ready(ApiCall *call)
{
	body_text(api_ok(call, TEXT_PLAIN), "ready\n");
}

void
serve_echo(ApiCall *call)
{
	body_text(api_ok(call, TEXT_PLAIN), "echo\n");
	call->response->nosniff = true;
}

/*
 * Grafana before 12.3 takes the version for Tempo's and switches features by
 * it; our own is in "branch".
 */
void
serve_buildinfo(ApiCall *call)
{
	ApiBody    *body = api_ok(call, "application/json");

	body_text(body, "{\"version\":");
	body_json_string(body, tempo_api_version, strlen(tempo_api_version));
	body_text(body, ",\"revision\":\"" TEMPO_PG_VERSION "\",\"branch\":\"tempo_pg\",\"buildUser\":\"\","
			  "\"buildDate\":\"\",\"goVersion\":\"\"}\n");
}

void
serve_metrics(ApiCall *call)
{
	ApiBody    *body = api_ok(call, "text/plain; version=0.0.4; charset=utf-8");

	body_text(body, "# HELP tempo_pg_build_info Version of tempo_pg and of the server it runs in.\n"
			  "# TYPE tempo_pg_build_info gauge\n"
			  "tempo_pg_build_info{version=\"" TEMPO_PG_VERSION "\",postgresql=\"" PG_VERSION "\"} 1\n");
	if (api_hooks.metrics)
		api_hooks.metrics(body);
}

void
serve_status_usage(ApiCall *call)
{
	body_text(api_ok(call, TEXT_PLAIN), "usage-stats is not enabled");
}

/* ---------------------------------------------------------------- /status */

static void
write_version(ApiBody *body)
{
	body_text(body, "tempo_pg " TEMPO_PG_VERSION ", PostgreSQL " PG_VERSION ", Tempo API ");
	body_printf(body, "%s\n", tempo_api_version);
}

static void
write_services(ApiBody *body)
{
	body_text(body, "gateway  Running\n");
}

static void
write_endpoints(ApiBody *body)
{
	static const char *const paths[] = {
		"/ready", "/metrics", "/status", "/status/version", "/status/services", "/status/endpoints",
		"/status/config", "/api/echo", "/api/status/buildinfo", "/api/traces/{traceID}",
		"/api/v2/traces/{traceID}", "/api/search", "/api/search/tags", "/api/v2/search/tags",
		"/api/search/tag/{tagName}/values", "/api/v2/search/tag/{tagName}/values",
		"/api/metrics/query_range", "/api/metrics/query"
	};

	for (int i = 0; i < lengthof(paths); i++)
		body_printf(body, "%s%s\n", strncmp(paths[i], "/api/", 5) == 0 ? tempo_http_api_prefix : "", paths[i]);
}

/* The settings of this extension, as YAML. */
static void
write_config(ApiBody *body)
{
	static const char *const names[] = {
		"database", "enabled", "listen_addresses", "http_port", "otlp_grpc_port", "otlp_http_port", "zipkin_port",
		"receiver_workers", "query_workers", "multitenancy", "commit_delay", "otlp_max_message_bytes",
		"receiver_memory", "max_attribute_bytes", "reject_whole_batch", "retry_after", "query_timeout",
		"search_default_limit", "search_max_limit", "search_max_range", "search_default_range",
		"search_default_spss", "search_max_spss", "query_end_cutoff", "max_query_bytes",
		"metrics_max_range", "metrics_max_intervals", "max_tag_response_bytes", "multi_tenant_queries",
		"left_pad_trace_ids", "http_api_prefix", "api_version", "stream_interval", "stream_packet_bytes",
		"max_bytes_per_trace", "gateway_memory"
	};

	body_text(body, "tempo_pg:\n");
	for (int i = 0; i < lengthof(names); i++)
	{
		char	   *name = psprintf("tempo_pg.%s", names[i]);
		char	   *value = GetConfigOptionByName(name, NULL, true);

		if (value == NULL)
			continue;
		body_printf(body, "    %s: ", names[i]);
		body_json_string(body, value, strlen(value));
		body_char(body, '\n');
	}
}

void
serve_status(ApiCall *call)
{
	static const char *const names[] = {"version", "services", "endpoints", "config"};
	const char *mode = parameter(call, "mode");
	ApiBody    *body;
	bool		known = call->argument == NULL;

	for (int i = 0; i < lengthof(names); i++)
		known |= call->argument && strcmp(call->argument, names[i]) == 0;
	if (!known)
	{
		(void) api_fail(call, 404, "404 page not found\n");
		call->response->nosniff = true;
		return;
	}
	if (mode && strcmp(mode, "diff") != 0 && strcmp(mode, "defaults") != 0)
	{
		(void) api_fail(call, 500, "unknown value for mode query parameter: %s", mode);
		return;
	}

	body = api_ok(call, TEXT_PLAIN);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (call->argument && strcmp(call->argument, names[i]) != 0)
			continue;
		body_printf(body, "GET /status/%s\n", names[i]);
		switch (i)
		{
			case 0:
				write_version(body);
				break;
			case 1:
				write_services(body);
				break;
			case 2:
				write_endpoints(body);
				break;
			default:
				write_config(body);
		}
	}
}
