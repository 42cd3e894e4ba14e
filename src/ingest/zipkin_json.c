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

#include "ingest/json_fields.h"
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

/* A text that is no address is left out. */
static bool
get_address(DecodeContext *context, const JsonNode *endpoint, int field, int family, SpanText *out)
{
	uint8_t     bytes[16];
	SpanText    text;
	const char *name = family == AF_INET ? "ipv4" : "ipv6";

	if (!json_get_text(context, endpoint, field, name, &text))
		return false;
	if (text.len == 0 || inet_pton(family, text.data, bytes) != 1)
		return true;
	return zipkin_address(context, span_text((const char *) bytes, family == AF_INET ? 4 : 16), out);
}

static bool
get_endpoint(DecodeContext *context, const JsonNode *object, int field, ZipkinEndpoint *endpoint)
{
	const JsonNode *node = json_member(object, field);
	uint64_t        port;

	memset(endpoint, 0, sizeof(*endpoint));
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_OBJECT)
		return json_malformed(context, "localEndpoint, remoteEndpoint and endpoint", "objects");
	if (!json_get_text(context, node, F_SERVICE_NAME, "serviceName", &endpoint->service) ||
	    !get_address(context, node, F_IPV4, AF_INET, &endpoint->address) ||
	    !get_address(context, node, F_IPV6, AF_INET6, &endpoint->address) ||
	    !json_get_number(context, node, F_PORT, "port", 65535, &port))
		return false;
	endpoint->port = (uint32_t) port;
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
		return json_malformed(context, name, "a string");
	return true;
}

/* --------------------------------------------------------------- version 2 */

static bool
get_tags(DecodeContext *context, const JsonNode *object, TagList *tags)
{
	const JsonNode *node = json_member(object, F_TAGS);
	SpanText        text;

	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_OBJECT)
		return json_malformed(context, "tags", "an object");
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

	if (!json_get_array(context, object, F_ANNOTATIONS, "annotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		SpanText text;
		uint64_t time;

		if (!json_get_number(context, element, F_TIMESTAMP, "timestamp", UINT64_MAX, &time) ||
		    !json_get_text(context, element, F_VALUE, "value", &text))
			return false;
		if (time == 0)
			return json_malformed(context, "timestamp", "at least 1 in an annotation");
		if (!zipkin_note(context, span, time, text))
			return false;
	}
	return true;
}

static bool
decode_v2(DecodeContext *context, const JsonNode *node)
{
	ZipkinSpan span;
	SpanText   kind;

	memset(&span, 0, sizeof(span));
	if (!json_get_id(context, node, F_TRACE_ID, "traceId", false, span.trace_id.bytes, TRACE_ID_LEN) ||
	    !json_get_id(context, node, F_ID, "id", true, span.id.bytes, SPAN_ID_LEN) ||
	    !json_get_id(context, node, F_PARENT_ID, "parentId", false, span.parent_id.bytes, SPAN_ID_LEN) ||
	    !json_get_text(context, node, F_NAME, "name", &span.name) ||
	    !json_get_text(context, node, F_KIND, "kind", &kind) ||
	    !json_get_number(context, node, F_TIMESTAMP, "timestamp", UINT64_MAX, &span.start) ||
	    !json_get_number(context, node, F_DURATION, "duration", UINT64_MAX, &span.duration) ||
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

	if (!json_get_array(context, object, F_ANNOTATIONS, "annotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		ZipkinEndpoint endpoint;
		SpanText       text;
		uint64_t       time;

		if (!json_get_number(context, element, F_TIMESTAMP, "timestamp", UINT64_MAX, &time) ||
		    !json_get_text(context, element, F_VALUE, "value", &text) ||
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

	if (!json_get_array(context, object, F_BINARY_ANNOTATIONS, "binaryAnnotations", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		ZipkinEndpoint endpoint;
		SpanText       key;
		SpanText       text;

		if (!json_get_text(context, element, F_KEY, "key", &key) ||
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
	ZipkinV1    v1;
	ZipkinSpan *span = &v1.span;

	zipkin_v1_begin(&v1);
	return json_get_id(context, node, F_TRACE_ID, "traceId", true, span->trace_id.bytes, TRACE_ID_LEN) &&
	       json_get_id(context, node, F_ID, "id", true, span->id.bytes, SPAN_ID_LEN) &&
	       json_get_id(context, node, F_PARENT_ID, "parentId", false, span->parent_id.bytes, SPAN_ID_LEN) &&
	       json_get_text(context, node, F_NAME, "name", &span->name) &&
	       json_get_number(context, node, F_TIMESTAMP, "timestamp", UINT64_MAX, &span->start) &&
	       json_get_number(context, node, F_DURATION, "duration", UINT64_MAX, &span->duration) &&
	       get_annotations(context, node, &v1) &&
	       get_binary_annotations(context, node, &v1) &&
	       zipkin_v1_add(context, &v1);
}

/* -------------------------------------------------------------------- both */

static bool
decode(const char *body, size_t len, bool v1, const DecodeOptions *options,
       SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext   context;
	const JsonNode *root;
	bool            success = true;

	if (!context_begin(&context, options, batch, result, error))
		return context_finish(&context, false);
	context.format = "Zipkin";

	/* the tree is in the batch's memory, so that spans may point into it */
	root = json_tree_parse(body, len, names, sizeof(names) / sizeof(names[0]), F_TAGS, context.arena,
	                       &result->sanitized_strings, error);
	if (root == NULL)
		return context_finish(&context, false);
	if (root->type != JSON_NODE_ARRAY)
		return context_finish(&context, json_malformed(&context, "the body", "an array of spans"));
	for (const JsonNode *node = root->first; success && node != NULL; node = node->next)
		success = node->type != JSON_NODE_OBJECT ? json_malformed(&context, "the body", "an array of spans") :
		          v1                             ? decode_v1(&context, node) :
		                                           decode_v2(&context, node);
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
