/*-------------------------------------------------------------------------
 *
 * jsonbody.h
 *	  JSON in the body of a request.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_JSONBODY_H
#define TEMPO_API_JSONBODY_H

#include "postgres.h"

#include "api/internal.h"
#include "utils/jsonb.h"

/* parse_json: NULL with what is wrong in *message */
extern Jsonb *parse_json(const char *text, Size len, char **message);

/* read_json_body: the body; NULL when it was answered, "prefix" and why, that it is none */
extern Jsonb *read_json_body(ApiCall *call, const char *prefix);

/* A member of an object; NULL if there is none or it is null */
extern JsonbValue *api_json_member(JsonbContainer *object, const char *name);

/* A member that is a text; NULL if there is none or it is something else */
extern char *api_json_text(JsonbContainer *object, const char *name);

#endif /* TEMPO_API_JSONBODY_H */
