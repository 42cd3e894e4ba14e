/*-------------------------------------------------------------------------
 *
 * json_fields.h
 *	  Members of JSON objects for the decoders of Zipkin's and Jaeger's JSON.
 *
 * Functions return false with the context's error filled when a member is not
 * what it must be.  "name" is the member's, for that message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_JSON_FIELDS_H
#define TEMPO_INGEST_JSON_FIELDS_H

#include "ingest/context.h"
#include "ingest/json_tree.h"

extern bool json_malformed(DecodeContext *context, const char *name, const char *wanted);

/* json_get_text: a string; empty if absent */
extern bool json_get_text(DecodeContext *context, const JsonNode *object, int field, const char *name, SpanText *out);

/* json_get_number: digits only, neither sign nor fraction nor exponent; 0 if absent */
extern bool json_get_number(DecodeContext *context, const JsonNode *object, int field, const char *name,
                            uint64_t max, uint64_t *out);

/* json_get_id: up to 2 * len hexadecimal digits; if not required, absent is zero */
extern bool json_get_id(DecodeContext *context, const JsonNode *object, int field, const char *name, bool required,
                        uint8_t *bytes, size_t len);

/* json_get_array: the first element of an array of objects; NULL if absent or empty */
extern bool json_get_array(DecodeContext *context, const JsonNode *object, int field, const char *name,
                           const JsonNode **first);

#endif /* TEMPO_INGEST_JSON_FIELDS_H */
