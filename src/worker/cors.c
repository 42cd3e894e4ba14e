/*-------------------------------------------------------------------------
 *
 * cors.c
 *	  What browsers ask before they let a page of another origin talk to us.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "worker/cors.h"
#include "worker/credentials.h"

static char *tempo_cors_allowed_origins;
static char *tempo_cors_allowed_headers;
static int   tempo_cors_max_age;
bool         cors_answers_are_private = false;
static bool  denied; /* the preflight that is being answered */

void
cors_init(void)
{
	DefineCustomStringVariable("tempo_pg.cors_allowed_origins",
	                           "Origins whose web pages may send spans and ask the Tempo API; empty means none.",
	                           "A comma-separated list, such as \"https://shop.example.com, https://*.example.org\"; \"*\" means all.",
	                           &tempo_cors_allowed_origins, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.cors_allowed_headers",
	                           "Headers that such pages may send besides the usual ones; \"*\" means all.",
	                           NULL, &tempo_cors_allowed_headers, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.cors_max_age",
	                        "How long browsers may remember what such pages may do; 0 leaves that to them.",
	                        NULL, &tempo_cors_max_age, 0, 0, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/* The next item of a list separated by commas; NULL at its end. */
static const char *
next_item(const char **list, Size *len)
{
	const char *item = *list + strspn(*list, " \t,");

	*len = strcspn(item, ",");
	*list = item + *len;
	while (*len > 0 && (item[*len - 1] == ' ' || item[*len - 1] == '\t'))
		(*len)--;
	return *len > 0 ? item : NULL;
}

/* Is it the pattern, in which one "*" stands for anything? */
static bool
matches(const char *pattern, Size len, const char *text, Size textlen)
{
	const char *star = memchr(pattern, '*', len);
	Size        before = star ? star - pattern : len;
	Size        after = star ? len - before - 1 : 0;

	if (star ? textlen < before + after : textlen != len)
		return false;
	return pg_strncasecmp(text, pattern, before) == 0 &&
	       (star == NULL || pg_strncasecmp(text + textlen - after, star + 1, after) == 0);
}

static bool
is_listed(const char *list, const char *text, Size textlen)
{
	const char *item;
	Size        len;

	while ((item = next_item(&list, &len)) != NULL)
		if (matches(item, len, text, textlen))
			return true;
	return false;
}

static bool
is_allowed_header(const char *name, Size len)
{
	/* what the exporters for browsers send */
	static const char usual[] = "accept, authorization, content-type, content-encoding, origin, x-requested-with, x-scope-orgid";

	return is_listed(usual, name, len) || is_listed(tempo_cors_allowed_headers, name, len);
}

/* The two headers that let a page of this origin read an answer; 0 if it may not. */
static int
allow_origin(const char *origin, NetHeader *out)
{
	int n = 0;

	if (origin == NULL || !is_listed(tempo_cors_allowed_origins, origin, strlen(origin)))
		return 0;

	/*
	 * Browsers send what they know of a user's credentials only if the answer
	 * names the origin.  Where credentials count, any origin is not to have
	 * them.
	 */
	if ((cors_answers_are_private || tempo_authentication != 0) && is_listed(tempo_cors_allowed_origins, "\1", 1))
	{
		out[n++] = (NetHeader){"access-control-allow-origin", "*"};
		return n;
	}
	out[n++] = (NetHeader){"access-control-allow-origin", origin};
	out[n++] = (NetHeader){"access-control-allow-credentials", "true"};
	return n;
}

int
cors_headers(const NetRequest *request, NetHeader *out)
{
	int n = 0;

	if (tempo_cors_allowed_origins[0] == '\0' || net_request_is_grpc(request))
		return 0;
	if (!denied)
		n = allow_origin(net_request_header(request, "origin", NULL), out);
	out[n++] = (NetHeader){"vary", "Origin"};
	return n;
}

bool
cors_is_foreign(const NetRequest *request)
{
	const char *origin = net_request_header(request, "origin", NULL);

	return origin != NULL && !is_listed(tempo_cors_allowed_origins, origin, strlen(origin));
}

bool
cors_preflight(NetRequest *request, const char *methods)
{
	const char *origin = net_request_header(request, "origin", NULL);
	const char *method = net_request_header(request, "access-control-request-method", NULL);
	const char *wanted = net_request_header(request, "access-control-request-headers", NULL);
	const char *rest = wanted ? wanted : "";
	const char *name;
	char        age[16];
	NetHeader   headers[CORS_HEADERS + 4];
	Size        len;
	int         n = 0;
	bool        allowed;

	if (tempo_cors_allowed_origins[0] == '\0' || net_request_is_grpc(request) || origin == NULL || method == NULL ||
	    strcmp(net_request_method(request), "OPTIONS") != 0)
		return false;
	allowed = is_listed(methods, method, strlen(method));
	while ((name = next_item(&rest, &len)) != NULL)
		allowed = allowed && is_allowed_header(name, len);

	/* what allows the origin comes with every answer, see cors_headers */
	headers[n++] = (NetHeader){"vary", "Access-Control-Request-Method, Access-Control-Request-Headers"};
	if (allowed && is_listed(tempo_cors_allowed_origins, origin, strlen(origin)))
	{
		headers[n++] = (NetHeader){"access-control-allow-methods", methods};
		if (wanted)
			headers[n++] = (NetHeader){"access-control-allow-headers", wanted};
		if (tempo_cors_max_age > 0)
		{
			snprintf(age, sizeof(age), "%d", tempo_cors_max_age);
			headers[n++] = (NetHeader){"access-control-max-age", age};
		}
	}
	denied = !allowed;
	net_respond(request, 204, NULL, headers, n, "", 0);
	denied = false;
	return true;
}
