/*-------------------------------------------------------------------------
 *
 * zipkin_json.c
 *	  Zipkin's JSON, version 2 and version 1.
 *
 * Stricter than need be nowhere: numbers and booleans as tag values, short
 * ids and unknown members are taken as real senders write them.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/zipkin.h"

#include <arpa/inet.h>
#include <string.h>

#include "ingest/json_tree.h"
#include "ingest/zipkin_v1.h"

enum
{
	F_ANNOTATIONS,
	F_BINARY_ANNOTATIONS,
	F_DURATION,
	F_ENDPOINT,
	F_ID,
	F_IPV4,
	F_IPV6,
	F_KEY,
	F_KIND,
	F_LOCAL_ENDPOINT,
	F_NAME,
	F_PARENT_ID,
	F_PORT,
	F_REMOTE_ENDPOINT,
	F_SERVICE_NAME,
	F_TAGS,
	F_TIMESTAMP,
	F_TRACE_ID,
	F_VALUE
};

/* sorted by name */
static const JsonName names[] = {
	{"annotations", F_ANNOTATIONS},
	{"binaryAnnotations", F_BINARY_ANNOTATIONS},
	{"duration", F_DURATION},
	{"endpoint", F_ENDPOINT},
	{"id", F_ID},
	{"ipv4", F_IPV4},
	{"ipv6", F_IPV6},
	{"key", F_KEY},
	{"kind", F_KIND},
	{"localEndpoint", F_LOCAL_ENDPOINT},
	{"name", F_NAME},
	{"parentId", F_PARENT_ID},
	{"port", F_PORT},
	{"remoteEndpoint", F_REMOTE_ENDPOINT},
	{"serviceName", F_SERVICE_NAME},
	{"tags", F_TAGS},
	{"timestamp", F_TIMESTAMP},
	{"traceId", F_TRACE_ID},
	{"value", F_VALUE},
};

static bool
malformed(DecodeContext *context, const char *field, const char *wanted)
{
	return span_error(context->error, SPAN_ERROR_INVALID, "Zipkin: \"%s\" must be %s", field, wanted);
}

static bool
get_text(DecodeContext *context, const JsonNode *object, int field, const char *name, SpanText *out)
{
	const JsonNode *node = json_member(object, field);

	*out = span_text(NULL, 0);
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_STRING)
		return malformed(context, name, "a string");
	*out = node->text;
	return true;
}

/* Digits only: neither sign nor fraction nor exponent. */
static bool
get_number(DecodeContext *context, const JsonNode *object, int field, const char *name, uint64_t max, uint64_t *out)
{
	const JsonNode *node = json_member(object, field);

	*out = 0;
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_NUMBER)
		return malformed(context, name, "a whole number");
	for (uint32_t i = 0; i < node->text.len; i++)
	{
		uint64_t	digit = (uint64_t) (node->text.data[i] - '0');

		if (digit > 9)
			return malformed(context, name, "a whole number, not negative");
		if (*out > (max - digit) / 10)
			return malformed(context, name, "a smaller number");
		*out = *out * 10 + digit;
	}
	return true;
}

/* absent is allowed if "required" is false, and is zero then */
static bool
get_id(DecodeContext *context, const JsonNode *object, int field, const char *name, bool required,
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
						  "Zipkin: \"%s\" must be an id of up to %zu hexadecimal digits", name, 2 * len);
	return true;
}

/* A text that is no address is left out. */
static bool
get_address(DecodeContext *context, const JsonNode *endpoint, int field, int family, SpanText *out)
{
	uint8_t		bytes[16];
	SpanText	text;
	const char *name = family == AF_INET ? "ipv4" : "ipv6";

	if (!get_text(context, endpoint, field, name, &text))
		return false;
	if (text.len == 0 || inet_pton(family, text.data, bytes) != 1)
		return true;
	return zipkin_address(context, span_text((const char *) bytes, family == AF_INET ? 4 : 16), out);
}

static bool
get_endpoint(DecodeContext *context, const JsonNode *object, int field, ZipkinEndpoint *endpoint)
{
	const JsonNode *node = json_member(object, field);
	uint64_t	port;

	memset(endpoint, 0, sizeof(*endpoint));
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_OBJECT)
		return malformed(context, "localEndpoint, remoteEndpoint and endpoint", "objects");
	if (!get_text(context, node, F_SERVICE_NAME, "serviceName", &endpoint->service) ||
		!get_address(context, node, F_IPV4, AF_INET, &endpoint->address) ||
		!get_address(context, node, F_IPV6, AF_INET6, &endpoint->address) ||
		!get_number(context, node, F_PORT, "port", 65535, &port))
		return false;
	endpoint->port = (uint32_t) port;
	return true;
}

static bool
get_array(DecodeContext *context, const JsonNode *object, int field, const char *name, const JsonNode **first)
{
	const JsonNode *array = json_member(object, field);

	*first = NULL;
	if (array == NULL)
		return true;
	if (array->type != JSON_NODE_ARRAY)
		return malformed(context, name, "an array");
	for (const JsonNode *element = array->first; element != NULL; element = element->next)
		if (element->type != JSON_NODE_OBJECT)
			return malformed(context, name, "an array of objects");
	*first = array->first;
	return true;
}

/* What is no string is written as one. */
static bool
scalar_text(DecodeContext *context, const JsonNode *node, const char *name, SpanText *out)
{
	*out = span_text(NULL, 0);
	if (node == NULL)
		return true;
	if (node->type == JSON_NODE_STRING || node->type == JSON_NODE_NUMBER)
		*out = node->text;
	else if (node->type == JSON_NODE_TRUE || node->type == JSON_NODE_FALSE)
		*out = text_literal(node->type == JSON_NODE_TRUE ? "true" : "false");
	else
		return malformed(context, name, "a string");
	return true;
}

/* --------------------------------------------------------------- version 2 */

static bool
get_tags(DecodeContext *context, const JsonNode *object, TagList *tags)
{
	const JsonNode *node = json_member(object, F_TAGS);
	SpanText	text;

	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_OBJECT)
		return malformed(context, "tags", "an object");
	for (const JsonNode *member = node->first; member != NULL; member = member->next)
		if (!scalar_text(context, member, "tags", &text) ||
			!tags_add(context, tags, member->name, any_text(text)))
			return false;
	return true;
}

static bool
get_notes(DecodeContext *context, const JsonNode *object, ZipkinSpan *span)
{
	const JsonNode *element;

	if (!get_array(context, object, F_ANNOTATIONS, "annotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		SpanText	text;
		uint64_t	time;

		if (!get_number(context, element, F_TIMESTAMP, "timestamp", UINT64_MAX, &time) ||
			!get_text(context, element, F_VALUE, "value", &text))
			return false;
		if (time == 0)
			return malformed(context, "timestamp", "at least 1 in an annotation");
		if (!zipkin_note(context, span, time, text))
			return false;
	}
	return true;
}

static bool
decode_v2(DecodeContext *context, const JsonNode *node)
{
	ZipkinSpan	span;
	SpanText	kind;

	memset(&span, 0, sizeof(span));
	if (!get_id(context, node, F_TRACE_ID, "traceId", false, span.trace_id.bytes, TRACE_ID_LEN) ||
		!get_id(context, node, F_ID, "id", true, span.id.bytes, SPAN_ID_LEN) ||
		!get_id(context, node, F_PARENT_ID, "parentId", false, span.parent_id.bytes, SPAN_ID_LEN) ||
		!get_text(context, node, F_NAME, "name", &span.name) ||
		!get_text(context, node, F_KIND, "kind", &kind) ||
		!get_number(context, node, F_TIMESTAMP, "timestamp", UINT64_MAX, &span.start) ||
		!get_number(context, node, F_DURATION, "duration", UINT64_MAX, &span.duration) ||
		!get_endpoint(context, node, F_LOCAL_ENDPOINT, &span.local) ||
		!get_endpoint(context, node, F_REMOTE_ENDPOINT, &span.remote) ||
		!get_tags(context, node, &span.tags) ||
		!get_notes(context, node, &span))
		return false;
	span.has_kind = kind.len > 0;
	span.kind = text_is_nocase(kind, "internal") ? KIND_UNSPECIFIED : foreign_kind(kind);
	span.no_time = span.start == 0;
	return zipkin_add(context, &span);
}

/* --------------------------------------------------------------- version 1 */

static bool
get_annotations(DecodeContext *context, const JsonNode *object, ZipkinV1 *v1)
{
	const JsonNode *element;

	if (!get_array(context, object, F_ANNOTATIONS, "annotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		ZipkinEndpoint endpoint;
		SpanText	text;
		uint64_t	time;

		if (!get_number(context, element, F_TIMESTAMP, "timestamp", UINT64_MAX, &time) ||
			!get_text(context, element, F_VALUE, "value", &text) ||
			!get_endpoint(context, element, F_ENDPOINT, &endpoint) ||
			!zipkin_v1_annotation(context, v1, time, text, json_member(element, F_ENDPOINT) != NULL, &endpoint))
			return false;
	}
	return true;
}

static bool
get_binary_annotations(DecodeContext *context, const JsonNode *object, ZipkinV1 *v1)
{
	const JsonNode *element;

	if (!get_array(context, object, F_BINARY_ANNOTATIONS, "binaryAnnotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		ZipkinEndpoint endpoint;
		SpanText	key;
		SpanText	text;

		if (!get_text(context, element, F_KEY, "key", &key) ||
			!scalar_text(context, json_member(element, F_VALUE), "value", &text) ||
			!get_endpoint(context, element, F_ENDPOINT, &endpoint) ||
			!zipkin_v1_tag(context, v1, key, any_text(text), json_member(element, F_ENDPOINT) != NULL, &endpoint))
			return false;
	}
	return true;
}

static bool
decode_v1(DecodeContext *context, const JsonNode *node)
{
	ZipkinV1	v1;
	ZipkinSpan *span = &v1.span;

	zipkin_v1_begin(&v1);
	return get_id(context, node, F_TRACE_ID, "traceId", true, span->trace_id.bytes, TRACE_ID_LEN) &&
		get_id(context, node, F_ID, "id", true, span->id.bytes, SPAN_ID_LEN) &&
		get_id(context, node, F_PARENT_ID, "parentId", false, span->parent_id.bytes, SPAN_ID_LEN) &&
		get_text(context, node, F_NAME, "name", &span->name) &&
		get_number(context, node, F_TIMESTAMP, "timestamp", UINT64_MAX, &span->start) &&
		get_number(context, node, F_DURATION, "duration", UINT64_MAX, &span->duration) &&
		get_annotations(context, node, &v1) &&
		get_binary_annotations(context, node, &v1) &&
		zipkin_v1_add(context, &v1);
}

/* -------------------------------------------------------------------- both */

static bool
decode(const char *body, size_t len, bool v1, const DecodeOptions *options,
	   SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	const JsonNode *root;
	bool		success = true;

	if (!context_begin(&context, options, batch, result, error))
		return context_finish(&context, false);

	/* the tree is in the batch's memory, so that spans may point into it */
	root = json_tree_parse(body, len, names, sizeof(names) / sizeof(names[0]), F_TAGS, context.arena,
						   &result->sanitized_strings, error);
	if (root == NULL)
		return context_finish(&context, false);
	if (root->type != JSON_NODE_ARRAY)
		return context_finish(&context, malformed(&context, "the body", "an array of spans"));
	for (const JsonNode *node = root->first; success && node != NULL; node = node->next)
		success = node->type != JSON_NODE_OBJECT ? malformed(&context, "the body", "an array of spans") :
			v1 ? decode_v1(&context, node) : decode_v2(&context, node);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, root->count);
	return context_finish(&context, success);
}

bool
decode_zipkin_json(const char *body, size_t len, const DecodeOptions *options,
				   SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode(body, len, false, options, batch, result, error);
}

bool
decode_zipkin_v1_json(const char *body, size_t len, const DecodeOptions *options,
					  SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode(body, len, true, options, batch, result, error);
}
