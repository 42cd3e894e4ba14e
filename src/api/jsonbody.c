/*-------------------------------------------------------------------------
 *
 * jsonbody.c
 *	  JSON in the body of a request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/jsonbody.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* The parser does nothing that an error would have to undo. */
Jsonb *
parse_json(const char *text, Size len, char **message)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb *volatile json = NULL;

	*message = NULL;
	if (len == 0)
		*message = pstrdup("unexpected end of JSON input");
	else if (pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len || memchr(text, '\0', len))
		*message = pstrdup("invalid UTF-8");
	if (*message)
		return NULL;
	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(pnstrdup(text, len))));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
		    ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		*message = error->message;
	}
	PG_END_TRY();
	return json;
}

Jsonb *
read_json_body(ApiCall *call, const char *prefix)
{
	char  *message;
	Jsonb *json = parse_json(call->request->body, call->request->body ? call->request->body_len : 0, &message);

	if (json == NULL)
		(void) api_fail(call, 400, "%s%s", prefix, message);
	return json;
}

JsonbValue *
api_json_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, name, strlen(name), NULL);

	return value && value->type != jbvNull ? value : NULL;
}

char *
api_json_text(JsonbContainer *object, const char *name)
{
	JsonbValue *value = api_json_member(object, name);

	return value && value->type == jbvString ? pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}
