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
#include "utils/guc_tables.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEMPO_PG_VERSION "0.1.0"

/* PostgreSQL 16 sorts what 15 gives as an array. */
static struct config_generic **
tempo_guc_variables(int *n)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(n);
#else
	*n = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

ApiHooks api_hooks;

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
	ApiBody *body = api_ok(call, "application/json");

	body_text(body, "{\"version\":");
	body_json_string(body, tempo_api_version, strlen(tempo_api_version));
	body_text(body, ",\"revision\":\"" TEMPO_PG_VERSION "\",\"branch\":\"tempo_pg\",\"buildUser\":\"\","
	                "\"buildDate\":\"\",\"goVersion\":\"\"}\n");
}

void
serve_metrics(ApiCall *call)
{
	ApiBody *body = api_ok(call, "text/plain; version=0.0.4; charset=utf-8");

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
		"/api/metrics/query_range", "/api/metrics/query", "/api/v2/traces/diff", "/api/overrides", "/api/mcp",
		"/status/overrides", "/status/overrides/{tenant}", "/status/usage-stats", "/status/backendscheduler",
		"/status/runtime_config", "/usage_metrics"};

	for (int i = 0; i < lengthof(paths); i++)
		body_printf(body, "%s%s\n", strncmp(paths[i], "/api/", 5) == 0 ? tempo_http_api_prefix : "", paths[i]);
}

static const char *
unit_of(int flags)
{
	switch (flags & GUC_UNIT)
	{
		case GUC_UNIT_MS:
			return "ms";
		case GUC_UNIT_S:
			return "s";
		case GUC_UNIT_MIN:
			return "min";
		case GUC_UNIT_BYTE:
			return "B";
		case GUC_UNIT_KB:
			return "kB";
		case GUC_UNIT_MB:
			return "MB";
		default:
			return "";
	}
}

/* What a setting is without any configuration. */
static char *
default_of(const struct config_generic *setting)
{
	const char *unit = unit_of(setting->flags);

	switch (setting->vartype)
	{
		case PGC_BOOL:
			return pstrdup(((const struct config_bool *) setting)->boot_val ? "on" : "off");
		case PGC_INT:
			return psprintf("%d%s", ((const struct config_int *) setting)->boot_val, unit);
		case PGC_REAL:
			return psprintf("%g%s", ((const struct config_real *) setting)->boot_val, unit);
		case PGC_STRING:
			return pstrdup(((const struct config_string *) setting)->boot_val ? ((const struct config_string *) setting)->boot_val : "");
		default:
			return GetConfigOptionByName(setting->name, NULL, true);
	}
}

/* The settings of this extension as YAML: all, only what was changed, or the defaults. */
static void
write_config(ApiBody *body, const char *mode)
{
	int                     n;
	struct config_generic **settings = tempo_guc_variables(&n);

	body_text(body, "tempo_pg:\n");
	for (int i = 0; i < n; i++)
	{
		const struct config_generic *setting = settings[i];
		const char                  *value;

		if (strncmp(setting->name, "tempo_pg.", 9) != 0 || (setting->flags & GUC_NO_SHOW_ALL) != 0 ||
		    (setting->flags & GUC_SUPERUSER_ONLY) != 0 ||
		    (mode && strcmp(mode, "diff") == 0 && setting->source == PGC_S_DEFAULT))
			continue;
		if (mode && strcmp(mode, "defaults") == 0)
			value = default_of(setting);
		else
			value = GetConfigOptionByName(setting->name, NULL, true);
		body_printf(body, "    %s: ", setting->name + 9);
		body_json_string(body, value ? value : "", value ? strlen(value) : 0);
		body_char(body, '\n');
	}
}

void
serve_status(ApiCall *call)
{
	static const char *const names[] = {"version", "services", "endpoints", "runtime_config", "config"};
	const char              *mode = parameter(call, "mode");
	ApiBody                 *body;
	bool                     known = call->argument == NULL;

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
			case 3:
				body_text(body, "# settings of single tenants: /status/overrides\n");
				break;
			default:
				write_config(body, mode);
		}
	}
}
