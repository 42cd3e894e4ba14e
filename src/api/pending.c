/*-------------------------------------------------------------------------
 *
 * pending.c
 *	  Endpoints that are being built.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/internal.h"

static void
not_yet(ApiCall *call)
{
	(void) api_fail(call, 501, "not supported yet");
}

void
serve_tags_v1(ApiCall *call)
{
	not_yet(call);
}

void
serve_tags_v2(ApiCall *call)
{
	not_yet(call);
}

void
serve_tag_values_v1(ApiCall *call)
{
	not_yet(call);
}

void
serve_tag_values_v2(ApiCall *call)
{
	not_yet(call);
}

