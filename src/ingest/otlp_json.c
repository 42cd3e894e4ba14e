/*-------------------------------------------------------------------------
 *
 * otlp_json.c
 *	  OTLP ExportTraceServiceRequest in JSON.
 *
 * The rules are those of the OTLP specification, which are protobuf's JSON
 * mapping except that ids are hexadecimal and enums numbers, with what real
 * senders and the collector do besides: snake_case names, enums by name,
 * 64-bit integers as numbers.  null is an absent field, of a repeated field
 * the last counts, an unknown field is ignored, and a value of a wrong type
 * refuses the request.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/context.h"
#include "ingest/json_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum
{
	F_ARRAY_VALUE,
	F_ATTRIBUTES,
	F_BOOL_VALUE,
	F_BYTES_VALUE,
	F_CODE,
	F_DEPRECATED_SCOPE_SPANS,
	F_DESCRIPTION_KEYS,
	F_DOUBLE_VALUE,
	F_DROPPED_ATTRIBUTES_COUNT,
	F_DROPPED_EVENTS_COUNT,
	F_DROPPED_LINKS_COUNT,
	F_END_TIME,
	F_ENTITY_REFS,
	F_EVENTS,
	F_FLAGS,
	F_ID_KEYS,
	F_INT_VALUE,
	F_KEY,
	F_KIND,
	F_KVLIST_VALUE,
	F_LINKS,
	F_MESSAGE,
	F_NAME,
	F_PARENT_SPAN_ID,
	F_RESOURCE,
	F_RESOURCE_SPANS,
	F_SCHEMA_URL,
	F_SCOPE,
	F_SCOPE_SPANS,
	F_SPAN_ID,
	F_SPANS,
	F_START_TIME,
	F_STATUS,
	F_STRING_VALUE,
	F_TIME,
	F_TRACE_ID,
	F_TRACE_STATE,
	F_TYPE,
	F_VALUE,
	F_VALUES,
	F_VERSION
};

/* sorted by name */
static const JsonName names[] = {
	{"arrayValue", F_ARRAY_VALUE},
	{"array_value", F_ARRAY_VALUE},
	{"attributes", F_ATTRIBUTES},
	{"boolValue", F_BOOL_VALUE},
	{"bool_value", F_BOOL_VALUE},
	{"bytesValue", F_BYTES_VALUE},
	{"bytes_value", F_BYTES_VALUE},
	{"code", F_CODE},
	{"deprecatedScopeSpans", F_DEPRECATED_SCOPE_SPANS},
	{"deprecated_scope_spans", F_DEPRECATED_SCOPE_SPANS},
	{"descriptionKeys", F_DESCRIPTION_KEYS},
	{"description_keys", F_DESCRIPTION_KEYS},
	{"doubleValue", F_DOUBLE_VALUE},
	{"double_value", F_DOUBLE_VALUE},
	{"droppedAttributesCount", F_DROPPED_ATTRIBUTES_COUNT},
	{"droppedEventsCount", F_DROPPED_EVENTS_COUNT},
	{"droppedLinksCount", F_DROPPED_LINKS_COUNT},
	{"dropped_attributes_count", F_DROPPED_ATTRIBUTES_COUNT},
	{"dropped_events_count", F_DROPPED_EVENTS_COUNT},
	{"dropped_links_count", F_DROPPED_LINKS_COUNT},
	{"endTimeUnixNano", F_END_TIME},
	{"end_time_unix_nano", F_END_TIME},
	{"entityRefs", F_ENTITY_REFS},
	{"entity_refs", F_ENTITY_REFS},
	{"events", F_EVENTS},
	{"flags", F_FLAGS},
	{"idKeys", F_ID_KEYS},
	{"id_keys", F_ID_KEYS},
	{"intValue", F_INT_VALUE},
	{"int_value", F_INT_VALUE},
	{"key", F_KEY},
	{"kind", F_KIND},
	{"kvlistValue", F_KVLIST_VALUE},
	{"kvlist_value", F_KVLIST_VALUE},
	{"links", F_LINKS},
	{"message", F_MESSAGE},
	{"name", F_NAME},
	{"parentSpanId", F_PARENT_SPAN_ID},
	{"parent_span_id", F_PARENT_SPAN_ID},
	{"resource", F_RESOURCE},
	{"resourceSpans", F_RESOURCE_SPANS},
	{"resource_spans", F_RESOURCE_SPANS},
	{"schemaUrl", F_SCHEMA_URL},
	{"schema_url", F_SCHEMA_URL},
	{"scope", F_SCOPE},
	{"scopeSpans", F_SCOPE_SPANS},
	{"scope_spans", F_SCOPE_SPANS},
	{"spanId", F_SPAN_ID},
	{"span_id", F_SPAN_ID},
	{"spans", F_SPANS},
	{"startTimeUnixNano", F_START_TIME},
	{"start_time_unix_nano", F_START_TIME},
	{"status", F_STATUS},
	{"stringValue", F_STRING_VALUE},
	{"string_value", F_STRING_VALUE},
	{"timeUnixNano", F_TIME},
	{"time_unix_nano", F_TIME},
	{"traceId", F_TRACE_ID},
	{"traceState", F_TRACE_STATE},
	{"trace_id", F_TRACE_ID},
	{"trace_state", F_TRACE_STATE},
	{"type", F_TYPE},
	{"value", F_VALUE},
	{"values", F_VALUES},
	{"version", F_VERSION},
};

static const char *const kind_names[] = {
	"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
	"SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"};

static const char *const status_names[] = {
	"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"};

static bool
wrong_type(DecodeContext *context, const char *field, const char *wanted)
{
	return span_error(context->error, SPAN_ERROR_INVALID, "OTLP JSON: \"%s\" must be %s", field, wanted);
}

/* ---------------------------------------------------------------- numbers */

/*
 * The integer that a decimal text stands for, which may have a fraction or an
 * exponent as long as the value is integral: sign and magnitude.
 */
static bool
parse_integer(SpanText text, bool *negative, uint64_t *magnitude)
{
	const char *p = text.data;
	const char *end = p + text.len;
	uint64_t    value = 0;
	int         scale = 0; /* value is to be multiplied by 10 to this */
	int         exponent = 0;
	bool        negative_exponent = false;
	bool        any = false;
	bool        point = false;

	*negative = p < end && *p == '-';
	if (*negative)
		p++;
	for (; p < end && ((*p >= '0' && *p <= '9') || (*p == '.' && !point && any)); p++)
	{
		uint64_t digit = (uint64_t) (*p - '0');

		if (*p == '.')
		{
			point = true;
			any = false;
			continue;
		}
		any = true;
		if (point && digit == 0)
		{
			/* zeros of the fraction count only if something follows them */
			const char *q = p;

			while (q < end && *q == '0')
				q++;
			if (q == end || *q < '0' || *q > '9')
			{
				p = q - 1;
				continue;
			}
		}
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
		if (point)
			scale--;
	}
	if (!any)
		return false;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			negative_exponent = *p++ == '-';
		if (p == end)
			return false;
		for (; p < end && *p >= '0' && *p <= '9'; p++)
			if (exponent < 100000)
				exponent = exponent * 10 + (*p - '0');
	}
	if (p != end)
		return false;
	scale += negative_exponent ? -exponent : exponent;
	for (; scale > 0 && value != 0; scale--)
	{
		if (value > UINT64_MAX / 10)
			return false;
		value *= 10;
	}
	for (; scale < 0 && value != 0; scale++)
	{
		if (value % 10 != 0)
			return false;
		value /= 10;
	}
	*magnitude = value;
	return true;
}

/* A member that is an integer, as a number or a string; absent = 0. */
static bool
get_integer(DecodeContext *context, const JsonNode *object, int field, const char *name,
            uint64_t max, uint64_t max_negative, bool *negative, uint64_t *magnitude)
{
	const JsonNode *node = json_member(object, field);

	*negative = false;
	*magnitude = 0;
	if (node == NULL)
		return true;
	if ((node->type != JSON_NODE_NUMBER && node->type != JSON_NODE_STRING) ||
	    !parse_integer(node->text, negative, magnitude))
		return wrong_type(context, name, "an integer");
	if (*magnitude > (*negative ? max_negative : max))
		return span_error(context->error, SPAN_ERROR_INVALID, "OTLP JSON: \"%s\" is out of range", name);
	return true;
}

static bool
get_uint64(DecodeContext *context, const JsonNode *object, int field, const char *name, uint64_t *out)
{
	bool negative;

	return get_integer(context, object, field, name, UINT64_MAX, 0, &negative, out);
}

static bool
get_uint32(DecodeContext *context, const JsonNode *object, int field, const char *name, uint32_t *out)
{
	bool     negative;
	uint64_t wide;

	if (!get_integer(context, object, field, name, UINT32_MAX, 0, &negative, &wide))
		return false;
	*out = (uint32_t) wide;
	return true;
}

static int64_t
signed_value(bool negative, uint64_t magnitude)
{
	return negative ? (int64_t) (UINT64_C(0) - magnitude) : (int64_t) magnitude;
}

static bool
get_enum(DecodeContext *context, const JsonNode *object, int field, const char *name,
         const char *const *members, int n_members, int32_t *out)
{
	const JsonNode *node = json_member(object, field);
	bool            negative;
	uint64_t        magnitude;

	*out = 0;
	if (node == NULL)
		return true;
	if (node->type == JSON_NODE_STRING)
	{
		for (int i = 0; i < n_members; i++)
			if (span_text_is(node->text, members[i]))
			{
				*out = i;
				return true;
			}
		return wrong_type(context, name, "a number or one of the names that OTLP defines");
	}
	if (!get_integer(context, object, field, name, INT32_MAX, (uint64_t) INT32_MAX + 1, &negative, &magnitude))
		return false;
	*out = (int32_t) signed_value(negative, magnitude);
	return true;
}

static bool
get_double(DecodeContext *context, const JsonNode *node, double *out)
{
	char *end;

	if (node->type == JSON_NODE_STRING)
	{
		if (span_text_is(node->text, "NaN"))
		{
			*out = NAN;
			return true;
		}
		if (span_text_is(node->text, "Infinity"))
		{
			*out = INFINITY;
			return true;
		}
		if (span_text_is(node->text, "-Infinity"))
		{
			*out = -INFINITY;
			return true;
		}
	}
	if (node->type != JSON_NODE_NUMBER && node->type != JSON_NODE_STRING)
		return wrong_type(context, "doubleValue", "a number");

	/* only digits, sign, point and exponent: strtod() takes more than JSON has */
	if (node->text.len == 0 || strspn(node->text.data, "0123456789+-.eE") != node->text.len)
		return wrong_type(context, "doubleValue", "a number");
	*out = strtod(node->text.data, &end);
	if (*end != '\0' || isinf(*out))
		return wrong_type(context, "doubleValue", "a number that fits into a double");
	return true;
}

/* ------------------------------------------------------- strings and ids */

/* A member that is a string, unescaped but not cleaned; absent = empty. */
static bool
get_raw(DecodeContext *context, const JsonNode *object, int field, const char *name, SpanText *out)
{
	const JsonNode *node = json_member(object, field);

	*out = span_text(NULL, 0);
	if (node == NULL)
		return true;
	if (node->type != JSON_NODE_STRING)
		return wrong_type(context, name, "a string");
	*out = node->text;
	return true;
}

/* The tree does not live as long as the batch, so text that is not interned is copied. */
static bool
keep_text(DecodeContext *context, SpanText raw, SpanText *out)
{
	SpanText clean;

	if (!context_text(context, raw, &clean))
		return false;
	if (clean.data == raw.data && clean.len > 0)
	{
		clean.data = arena_copy(context->arena, clean.data, clean.len);
		if (clean.data == NULL)
			return context_no_memory(context);
	}
	*out = clean;
	return true;
}

static bool
get_text(DecodeContext *context, const JsonNode *object, int field, const char *name, SpanText *out)
{
	SpanText raw;

	return get_raw(context, object, field, name, &raw) && keep_text(context, raw, out);
}

/*
 * The context's cache keeps pointers to what it saw, and the tree lives until
 * the request is done, as the context does.
 */
static bool
get_string(DecodeContext *context, const JsonNode *object, int field, const char *name,
           uint32_t max, uint32_t *id)
{
	SpanText raw;
	bool     cut;

	return get_raw(context, object, field, name, &raw) && context_string(context, raw, max, &cut, id);
}

static bool
get_id(DecodeContext *context, const JsonNode *object, int field, const char *name, uint8_t *bytes, size_t len)
{
	SpanText raw;

	if (!get_raw(context, object, field, name, &raw))
		return false;
	memset(bytes, 0, len);
	if (raw.len != 0 && !id_from_hex(raw.data, raw.len, bytes, len))
		return span_error(context->error, SPAN_ERROR_INVALID,
		                  "OTLP JSON: \"%s\" must be %zu hexadecimal digits", name, 2 * len);
	return true;
}

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

/* Either alphabet, padded or not. */
static bool
decode_base64(DecodeContext *context, SpanText in, AnyValue *value)
{
	char    *out;
	uint32_t n = 0;
	uint32_t bits = 0;
	int      n_bits = 0;

	if (in.len % 4 == 0)
		for (int i = 0; i < 2 && in.len > 0 && in.data[in.len - 1] == '='; i++)
			in.len--;
	if (in.len % 4 == 1)
		return wrong_type(context, "bytesValue", "base64");
	out = arena_alloc(context->arena, in.len);
	if (out == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < in.len; i++)
	{
		int digit = base64_digit(in.data[i]);

		if (digit < 0)
			return wrong_type(context, "bytesValue", "base64");
		bits = (bits << 6 | (uint32_t) digit) & 0xFFFF;
		n_bits += 6;
		if (n_bits >= 8)
		{
			n_bits -= 8;
			out[n++] = (char) (bits >> n_bits);
		}
	}
	value->type = ANY_BYTES;
	value->len = n;
	value->u.data = out;
	return true;
}

/* ------------------------------------------------- objects and arrays */

/* A member that is an object; absent, and null in an array, is an empty one. */
static bool
get_object(DecodeContext *context, const JsonNode *object, int field, const char *name, const JsonNode **out)
{
	*out = json_member(object, field);
	if (*out != NULL && (*out)->type != JSON_NODE_OBJECT)
		return wrong_type(context, name, "an object");
	return true;
}

/* A member that is an array of objects; *first is its first element. */
static bool
get_objects(DecodeContext *context, const JsonNode *object, int field, const char *name,
            const JsonNode **first, uint32_t *count)
{
	const JsonNode *array = json_member(object, field);

	*first = NULL;
	*count = 0;
	if (array == NULL)
		return true;
	if (array->type != JSON_NODE_ARRAY)
		return wrong_type(context, name, "an array");
	for (const JsonNode *element = array->first; element != NULL; element = element->next)
		if (element->type != JSON_NODE_OBJECT && element->type != JSON_NODE_NULL)
			return wrong_type(context, name, "an array of objects");
	*first = array->first;
	*count = array->count;
	return true;
}

/* ------------------------------------------------- values and attributes */

static bool decode_value(DecodeContext *context, const JsonNode *node, int depth, AnyValue *value);

static bool
decode_members(DecodeContext *context, const JsonNode *element, uint32_t count, int depth, AnyValue *value)
{
	KeyValue *members = arena_alloc0(context->arena, (size_t) count * sizeof(KeyValue));

	if (members == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; element != NULL; element = element->next, i++)
		if (!get_text(context, element, F_KEY, "key", &members[i].key) ||
		    !decode_value(context, json_member(element, F_VALUE), depth, &members[i].value))
			return false;
	value->type = ANY_KVLIST;
	value->len = count;
	value->u.members = members;
	return true;
}

static bool
decode_elements(DecodeContext *context, const JsonNode *element, uint32_t count, int depth, AnyValue *value)
{
	AnyValue *elements = arena_alloc0(context->arena, (size_t) count * sizeof(AnyValue));

	if (elements == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; element != NULL; element = element->next, i++)
		if (!decode_value(context, element, depth, &elements[i]))
			return false;
	value->type = ANY_ARRAY;
	value->len = count;
	value->u.elements = elements;
	return true;
}

/* ArrayValue or KeyValueList */
static bool
decode_list(DecodeContext *context, const JsonNode *node, int depth, AnyValue *value)
{
	bool            array = node->field == F_ARRAY_VALUE;
	const JsonNode *first;
	uint32_t        count;

	if (depth >= ANY_VALUE_MAX_DEPTH)
		return span_error(context->error, SPAN_ERROR_LIMIT,
		                  "attribute values are nested more than %d levels deep", ANY_VALUE_MAX_DEPTH);
	if (node->type != JSON_NODE_OBJECT)
		return wrong_type(context, array ? "arrayValue" : "kvlistValue", "an object");
	if (!get_objects(context, node, F_VALUES, "values", &first, &count))
		return false;
	if (array)
		return decode_elements(context, first, count, depth + 1, value);
	return decode_members(context, first, count, depth + 1, value);
}

/* The last member of the oneof. */
static bool
decode_one_value(DecodeContext *context, const JsonNode *object, const JsonNode *node, int depth, AnyValue *value)
{
	bool     negative;
	uint64_t magnitude;
	SpanText text;

	switch (node->field)
	{
		case F_STRING_VALUE:
			if (!get_text(context, object, F_STRING_VALUE, "stringValue", &text))
				return false;
			value->type = ANY_STRING;
			value->len = text.len;
			value->u.data = text.data;
			return true;
		case F_BOOL_VALUE:
			if (node->type != JSON_NODE_TRUE && node->type != JSON_NODE_FALSE)
				return wrong_type(context, "boolValue", "true or false");
			value->type = ANY_BOOL;
			value->u.boolean = node->type == JSON_NODE_TRUE;
			return true;
		case F_INT_VALUE:
			if (!get_integer(context, object, F_INT_VALUE, "intValue", INT64_MAX, (uint64_t) INT64_MAX + 1,
			                 &negative, &magnitude))
				return false;
			value->type = ANY_INT;
			value->u.integer = signed_value(negative, magnitude);
			return true;
		case F_DOUBLE_VALUE:
			value->type = ANY_DOUBLE;
			return get_double(context, node, &value->u.number);
		case F_BYTES_VALUE:
			return get_raw(context, object, F_BYTES_VALUE, "bytesValue", &text) &&
			       decode_base64(context, text, value);
		default:
			return decode_list(context, node, depth, value);
	}
}

/* "node" is an AnyValue, NULL or null, which both are the empty value. */
static bool
decode_value(DecodeContext *context, const JsonNode *node, int depth, AnyValue *value)
{
	const JsonNode *last = NULL;

	memset(value, 0, sizeof(*value));
	if (node == NULL || node->type == JSON_NODE_NULL)
		return true;
	if (node->type != JSON_NODE_OBJECT)
		return wrong_type(context, "value", "an object");
	for (const JsonNode *member = node->first; member != NULL; member = member->next)
		if (member->field == F_STRING_VALUE || member->field == F_BOOL_VALUE ||
		    member->field == F_INT_VALUE || member->field == F_DOUBLE_VALUE ||
		    member->field == F_ARRAY_VALUE || member->field == F_KVLIST_VALUE ||
		    member->field == F_BYTES_VALUE)
			last = member;
	return last == NULL || decode_one_value(context, node, last, depth, value);
}

static bool
get_attributes(DecodeContext *context, const JsonNode *object, AttributeList *list)
{
	const JsonNode *element;
	KeyValue       *items;
	uint32_t        count;

	if (!get_objects(context, object, F_ATTRIBUTES, "attributes", &element, &count))
		return false;
	list->items = NULL;
	list->count = 0;
	if (count == 0)
		return true;
	items = arena_alloc0(context->arena, (size_t) count * sizeof(KeyValue));
	if (items == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; element != NULL; element = element->next, i++)
	{
		bool     key_cut = false;
		SpanText key;

		if (!get_raw(context, element, F_KEY, "key", &key) ||
		    !context_attribute_key(context, key, &items[i], &key_cut) ||
		    !decode_value(context, json_member(element, F_VALUE), 0, &items[i].value))
			return false;
		context_attribute_end(context, &items[i], key_cut);
	}
	list->items = items;
	list->count = count;
	return true;
}

/* ------------------------------------------------------------------ spans */

static bool
decode_events(DecodeContext *context, const JsonNode *object, IncomingSpan *incoming)
{
	const JsonNode *element;
	SpanEvent      *events;

	if (!get_objects(context, object, F_EVENTS, "events", &element, &incoming->span.n_events))
		return false;
	events = arena_alloc0(context->arena, (size_t) incoming->span.n_events * sizeof(SpanEvent));
	if (events == NULL)
		return context_no_memory(context);
	incoming->span.events = events;
	for (; element != NULL; element = element->next, events++)
	{
		uint64_t time;

		if (!get_uint64(context, element, F_TIME, "timeUnixNano", &time) ||
		    !get_text(context, element, F_NAME, "name", &events->name) ||
		    !get_attributes(context, element, &events->attributes) ||
		    !get_uint32(context, element, F_DROPPED_ATTRIBUTES_COUNT, "droppedAttributesCount",
		                &events->dropped_attributes_count))
			return false;
		if (time > INT64_MAX)
			incoming->bad_event_time = true;
		events->time_unix_nano = (int64_t) time;
	}
	return true;
}

static bool
decode_links(DecodeContext *context, const JsonNode *object, Span *span)
{
	const JsonNode *element;
	SpanLink       *links;

	if (!get_objects(context, object, F_LINKS, "links", &element, &span->n_links))
		return false;
	links = arena_alloc0(context->arena, (size_t) span->n_links * sizeof(SpanLink));
	if (links == NULL)
		return context_no_memory(context);
	span->links = links;
	for (; element != NULL; element = element->next, links++)
		if (!get_id(context, element, F_TRACE_ID, "traceId", links->trace_id.bytes, TRACE_ID_LEN) ||
		    !get_id(context, element, F_SPAN_ID, "spanId", links->span_id.bytes, SPAN_ID_LEN) ||
		    !get_text(context, element, F_TRACE_STATE, "traceState", &links->trace_state) ||
		    !get_uint32(context, element, F_FLAGS, "flags", &links->flags) ||
		    !get_attributes(context, element, &links->attributes) ||
		    !get_uint32(context, element, F_DROPPED_ATTRIBUTES_COUNT, "droppedAttributesCount",
		                &links->dropped_attributes_count))
			return false;
	return true;
}

static bool
decode_span(DecodeContext *context, const JsonNode *node, uint32_t scope)
{
	IncomingSpan    incoming;
	Span           *span = &incoming.span;
	const JsonNode *status;

	memset(&incoming, 0, sizeof(incoming));
	span->scope = scope;
	return get_id(context, node, F_TRACE_ID, "traceId", span->trace_id.bytes, TRACE_ID_LEN) &&
	       get_id(context, node, F_SPAN_ID, "spanId", span->span_id.bytes, SPAN_ID_LEN) &&
	       get_id(context, node, F_PARENT_SPAN_ID, "parentSpanId", span->parent_span_id.bytes, SPAN_ID_LEN) &&
	       get_text(context, node, F_TRACE_STATE, "traceState", &span->trace_state) &&
	       get_uint32(context, node, F_FLAGS, "flags", &span->flags) &&
	       get_string(context, node, F_NAME, "name", SPAN_NAME_MAX_BYTES, &span->name) &&
	       get_enum(context, node, F_KIND, "kind", kind_names, 6, &span->kind) &&
	       get_uint64(context, node, F_START_TIME, "startTimeUnixNano", &incoming.start) &&
	       get_uint64(context, node, F_END_TIME, "endTimeUnixNano", &incoming.end) &&
	       get_attributes(context, node, &span->attributes) &&
	       get_uint32(context, node, F_DROPPED_ATTRIBUTES_COUNT, "droppedAttributesCount",
	                  &span->dropped_attributes_count) &&
	       decode_events(context, node, &incoming) &&
	       get_uint32(context, node, F_DROPPED_EVENTS_COUNT, "droppedEventsCount", &span->dropped_events_count) &&
	       decode_links(context, node, span) &&
	       get_uint32(context, node, F_DROPPED_LINKS_COUNT, "droppedLinksCount", &span->dropped_links_count) &&
	       get_object(context, node, F_STATUS, "status", &status) &&
	       get_text(context, status, F_MESSAGE, "message", &span->status_message) &&
	       get_enum(context, status, F_CODE, "code", status_names, 3, &span->status_code) &&
	       context_add(context, &incoming);
}

/* ------------------------------------------- scopes and resources */

static bool
decode_scope_spans(DecodeContext *context, const JsonNode *node, uint32_t resource)
{
	SpanScope       scope;
	uint32_t        index;
	uint32_t        count;
	const JsonNode *in;
	const JsonNode *span;

	memset(&scope, 0, sizeof(scope));
	scope.resource = resource;
	if (!get_object(context, node, F_SCOPE, "scope", &in) ||
	    !get_string(context, in, F_NAME, "name", 0, &scope.name) ||
	    !get_string(context, in, F_VERSION, "version", 0, &scope.version) ||
	    !get_attributes(context, in, &scope.attributes) ||
	    !get_uint32(context, in, F_DROPPED_ATTRIBUTES_COUNT, "droppedAttributesCount",
	                &scope.dropped_attributes_count) ||
	    !get_string(context, node, F_SCHEMA_URL, "schemaUrl", 0, &scope.schema_url) ||
	    !get_objects(context, node, F_SPANS, "spans", &span, &count))
		return false;
	if (count == 0)
		return true;
	index = span_batch_scope(context->batch, &scope);
	if (index == SPAN_BATCH_NONE)
		return context_no_memory(context);
	for (; span != NULL; span = span->next)
		if (!decode_span(context, span, index))
			return false;
	return true;
}

static bool
append_keys(DecodeContext *context, const JsonNode *object, int field, const char *name, RefsText *refs)
{
	const JsonNode *array = json_member(object, field);

	if (array == NULL || (array->type == JSON_NODE_ARRAY && array->count == 0))
		return true;
	if (array->type != JSON_NODE_ARRAY)
		return wrong_type(context, name, "an array");
	if (!refs_append(context, refs, ",\"", 2) || !refs_append(context, refs, name, strlen(name)) ||
	    !refs_append(context, refs, "\":", 2))
		return false;
	for (const JsonNode *element = array->first; element != NULL; element = element->next)
	{
		if (element->type != JSON_NODE_STRING)
			return wrong_type(context, name, "an array of strings");
		if (!refs_append(context, refs, element == array->first ? "[" : ",", 1) ||
		    !refs_append_quoted(context, refs, element->text))
			return false;
	}
	return refs_append(context, refs, "]", 1);
}

static bool
get_entity_refs(DecodeContext *context, const JsonNode *resource, SpanText *out)
{
	RefsText        refs = {NULL, 0, 0};
	const JsonNode *element;
	uint32_t        count;

	if (!get_objects(context, resource, F_ENTITY_REFS, "entityRefs", &element, &count))
		return false;
	for (; element != NULL; element = element->next)
	{
		SpanText schema_url;
		SpanText type;

		if (!get_raw(context, element, F_SCHEMA_URL, "schemaUrl", &schema_url) ||
		    !get_raw(context, element, F_TYPE, "type", &type) ||
		    !entity_ref_begin(context, &refs, schema_url, type) ||
		    !append_keys(context, element, F_ID_KEYS, "idKeys", &refs) ||
		    !append_keys(context, element, F_DESCRIPTION_KEYS, "descriptionKeys", &refs) ||
		    !refs_append(context, &refs, "}", 1))
			return false;
	}
	return refs_end(context, &refs, out);
}

/* The ScopeSpans of a ResourceSpans: the old field counts only without the new. */
static bool
get_scope_spans(DecodeContext *context, const JsonNode *node, const JsonNode **first, uint32_t *count)
{
	if (!get_objects(context, node, F_SCOPE_SPANS, "scopeSpans", first, count))
		return false;
	if (*count > 0)
		return true;
	return get_objects(context, node, F_DEPRECATED_SCOPE_SPANS, "deprecatedScopeSpans", first, count);
}

static bool
decode_resource_spans(DecodeContext *context, const JsonNode *node)
{
	SpanResource    resource;
	uint32_t        index;
	uint32_t        count;
	const JsonNode *in;
	const JsonNode *scope_spans;

	memset(&resource, 0, sizeof(resource));
	resource.tenant = context->tenant;
	if (!get_object(context, node, F_RESOURCE, "resource", &in) ||
	    !get_attributes(context, in, &resource.attributes) ||
	    !get_uint32(context, in, F_DROPPED_ATTRIBUTES_COUNT, "droppedAttributesCount",
	                &resource.dropped_attributes_count) ||
	    !get_entity_refs(context, in, &resource.entity_refs) ||
	    !get_string(context, node, F_SCHEMA_URL, "schemaUrl", 0, &resource.schema_url) ||
	    !get_scope_spans(context, node, &scope_spans, &count))
		return false;
	if (count == 0)
		return true;
	index = span_batch_resource(context->batch, &resource);
	if (index == SPAN_BATCH_NONE)
		return context_no_memory(context);
	for (; scope_spans != NULL; scope_spans = scope_spans->next)
		if (!decode_scope_spans(context, scope_spans, index))
			return false;
	return true;
}

static bool
decode_request(DecodeContext *context, const JsonNode *root)
{
	const JsonNode *element;
	uint32_t        count;

	if (root->type != JSON_NODE_OBJECT)
		return span_error(context->error, SPAN_ERROR_INVALID, "OTLP JSON: the body must be an object");
	if (!get_objects(context, root, F_RESOURCE_SPANS, "resourceSpans", &element, &count))
		return false;
	for (; element != NULL; element = element->next)
		if (!decode_resource_spans(context, element))
			return false;
	return true;
}

/* The spans of a request that is refused, for the counters. */
static uint64_t
count_spans(DecodeContext *context, const JsonNode *root)
{
	const JsonNode *resource_spans;
	const JsonNode *scope_spans;
	const JsonNode *spans;
	uint64_t        total = 0;
	uint32_t        count;

	context->error = NULL;
	(void) get_objects(context, root, F_RESOURCE_SPANS, "", &resource_spans, &count);
	for (; resource_spans != NULL; resource_spans = resource_spans->next)
	{
		(void) get_scope_spans(context, resource_spans, &scope_spans, &count);
		for (; scope_spans != NULL; scope_spans = scope_spans->next)
		{
			(void) get_objects(context, scope_spans, F_SPANS, "", &spans, &count);
			total += count;
		}
	}
	return total;
}

bool
decode_otlp_json(const char *body, size_t len, const DecodeOptions *options,
                 SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext   context;
	Arena           scratch;
	const JsonNode *root;
	bool            success;

	if (!context_begin(&context, options, batch, result, error))
		return context_finish(&context, false);
	arena_init(&scratch, &context.arena->allocator, context.arena->limit);
	root = json_tree_parse(body, len, names, sizeof(names) / sizeof(names[0]), JSON_NO_FIELD, &scratch,
	                       &result->sanitized_strings, error);
	success = root != NULL && decode_request(&context, root);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count_spans(&context, root));
	arena_reset(&scratch);
	return context_finish(&context, success);
}
