/*-------------------------------------------------------------------------
 *
 * json_fields.c
 *	  Members of JSON objects for the decoders of Zipkin's and Jaeger's JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/json_fields.h"

#include <string.h>

bool
json_malformed(DecodeContext *context, const char *name, const char *wanted)
{
	return span_error(context->error, SPAN_ERROR_INVALID, "%s: \"%s\" must be %s", context->format, name, wanted);
}

bool
json_get_text(DecodeContext *context, const JsonNode *object, int field, const char *name, SpanText *out)
{
	const JsonNode *node = json_member(object, field);

	*out = span_text(NULL, 0);
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_STRING)
		return json_malformed(context, name, "a string");
	*out = node->text;
	return true;
}

bool
json_get_number(DecodeContext *context, const JsonNode *object, int field, const char *name, uint64_t max, uint64_t *out)
{
	const JsonNode *node = json_member(object, field);

	*out = 0;
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_NUMBER)
		return json_malformed(context, name, "a whole number");
	for (uint32_t i = 0; i < node->text.len; i++)
	{
		uint64_t digit = (uint64_t) (node->text.data[i] - '0');

		if (digit > 9)
			return json_malformed(context, name, "a whole number, not negative");
		if (*out > (max - digit) / 10)
			return json_malformed(context, name, "a smaller number");
		*out = *out * 10 + digit;
	}
	return true;
}

bool
json_get_id(DecodeContext *context, const JsonNode *object, int field, const char *name, bool required,
            uint8_t *bytes, size_t len)
{
	const JsonNode *node = json_member(object, field);

	memset(bytes, 0, len);
	if (node == NULL && !required)
		return true;
	if (node == NULL || node->type != JSON_NODE_STRING ||
	    !id_from_short_hex(node->text.data, node->text.len, bytes, len) ||
	    (required && id_is_zero(bytes, len)))
		return span_error(context->error, SPAN_ERROR_INVALID,
		                  "%s: \"%s\" must be an id of up to %zu hexadecimal digits", context->format, name, 2 * len);
	return true;
}

bool
json_get_array(DecodeContext *context, const JsonNode *object, int field, const char *name, const JsonNode **first)
{
	const JsonNode *array = json_member(object, field);

	*first = NULL;
	if (array == NULL)
		return true;
	if (array->type != JSON_NODE_ARRAY)
		return json_malformed(context, name, "an array");
	for (const JsonNode *element = array->first; element != NULL; element = element->next)
		if (element->type != JSON_NODE_OBJECT)
			return json_malformed(context, name, "an array of objects");
	*first = array->first;
	return true;
}
