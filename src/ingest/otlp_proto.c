/*-------------------------------------------------------------------------
 *
 * otlp_proto.c
 *	  OTLP ExportTraceServiceRequest in protobuf, decoded without copying.
 *
 * This is the hot path of ingestion, so it walks the wire format itself:
 * strings and bytes stay where they are in the request body and spans go
 * straight into the batch.
 *
 * Fields may come in any order and a message may be sent in pieces that have
 * to be merged, while a span needs its resource and scope at once.  Therefore
 * ResourceSpans and ScopeSpans are walked twice: first for what surrounds the
 * spans, then for the spans.  The first walk steps over the spans by their
 * length and costs next to nothing.
 *
 * A known field of another wire type than its own is an error, an unknown
 * field is skipped.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/context.h"
#include "ingest/protowire.h"

#include <string.h>

/* Attributes of one span that are collected before the arena is asked for room. */
#define LOCAL_ATTRIBUTES 64

/*
 * A list that fills in the order of the wire.  Room is taken when the first
 * element comes, by counting the elements of the message.
 */
typedef struct AttributeBuilder
{
	KeyValue *items;
	uint32_t  count;
	uint32_t  size;
} AttributeBuilder;

/* ------------------------------------------------- values and attributes */

static bool decode_value(DecodeContext *context, Cursor in, int depth, AnyValue *value);

static bool
too_deep(DecodeContext *context)
{
	return span_error(context->error, SPAN_ERROR_LIMIT,
	                  "attribute values are nested more than %d levels deep", ANY_VALUE_MAX_DEPTH);
}

/* A KeyValue inside a kvlist: its key is not interned. */
static bool
decode_member(DecodeContext *context, Cursor in, int depth, KeyValue *kv)
{
	uint32_t tag;
	SpanText text;
	Cursor   message;

	memset(kv, 0, sizeof(*kv));
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag >> 3)
		{
			case 1:
				if (tag != TAG(1, WIRE_BYTES))
					return wire_wrong_type(in.error, "KeyValue", tag);
				if (!wire_bytes(&in, &text) || !context_text(context, text, &kv->key))
					return false;
				break;
			case 2:
				if (tag != TAG(2, WIRE_BYTES))
					return wire_wrong_type(in.error, "KeyValue", tag);
				if (!wire_message(&in, &message) ||
				    !decode_value(context, message, depth, &kv->value))
					return false;
				break;
			default:
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	return true;
}

/* ArrayValue and KeyValueList are alike: field 1, repeated. */
static bool
decode_list(DecodeContext *context, Cursor in, int depth, AnyValue *value, AnyValueType type)
{
	uint32_t  size = wire_count_fields(in, TAG(1, WIRE_BYTES));
	uint32_t  count = 0;
	AnyValue *elements = NULL;
	KeyValue *members = NULL;
	uint32_t  tag;
	Cursor    message;

	if (depth >= ANY_VALUE_MAX_DEPTH)
		return too_deep(context);
	if (size > 0)
	{
		if (type == ANY_ARRAY)
			elements = arena_alloc(context->arena, (size_t) size * sizeof(AnyValue));
		else
			members = arena_alloc(context->arena, (size_t) size * sizeof(KeyValue));
		if (elements == NULL && members == NULL)
			return context_no_memory(context);
	}
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag >> 3 != 1)
		{
			if (!wire_skip_field(&in, tag))
				return false;
			continue;
		}
		if (tag != TAG(1, WIRE_BYTES))
			return wire_wrong_type(in.error, type == ANY_ARRAY ? "ArrayValue" : "KeyValueList", tag);
		if (!wire_message(&in, &message))
			return false;
		if (count == size)
			return wire_malformed(in.error, "inconsistent list"); /* cannot happen */
		if (type == ANY_ARRAY)
		{
			memset(&elements[count], 0, sizeof(AnyValue));
			if (!decode_value(context, message, depth + 1, &elements[count]))
				return false;
		}
		else if (!decode_member(context, message, depth + 1, &members[count]))
			return false;
		count++;
	}
	value->type = type;
	value->len = count;
	if (type == ANY_ARRAY)
		value->u.elements = elements;
	else
		value->u.members = members;
	return true;
}

/*
 * Sets *value to the last member of the oneof, and leaves it alone if there
 * is none: a field that occurs twice is merged.
 */
static bool
decode_value(DecodeContext *context, Cursor in, int depth, AnyValue *value)
{
	uint32_t tag;
	uint64_t number;
	SpanText text;
	Cursor   message;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_bytes(&in, &text) || !context_text(context, text, &text))
					return false;
				value->type = ANY_STRING;
				value->len = text.len;
				value->u.data = text.data;
				break;
			case TAG(2, WIRE_VARINT):
				if (!wire_varint(&in, &number))
					return false;
				value->type = ANY_BOOL;
				value->len = 0;
				value->u.boolean = number != 0;
				break;
			case TAG(3, WIRE_VARINT):
				if (!wire_varint(&in, &number))
					return false;
				value->type = ANY_INT;
				value->len = 0;
				value->u.integer = (int64_t) number;
				break;
			case TAG(4, WIRE_64BIT):
				if (!wire_fixed64(&in, &number))
					return false;
				value->type = ANY_DOUBLE;
				value->len = 0;
				memcpy(&value->u.number, &number, sizeof(double));
				break;
			case TAG(5, WIRE_BYTES):
				if (!wire_message(&in, &message) ||
				    !decode_list(context, message, depth, value, ANY_ARRAY))
					return false;
				break;
			case TAG(6, WIRE_BYTES):
				if (!wire_message(&in, &message) ||
				    !decode_list(context, message, depth, value, ANY_KVLIST))
					return false;
				break;
			case TAG(7, WIRE_BYTES):
				if (!wire_bytes(&in, &text))
					return false;
				value->type = ANY_BYTES;
				value->len = text.len;
				value->u.data = text.data;
				break;
			default:
				if (tag >> 3 <= 7)
					return wire_wrong_type(in.error, "AnyValue", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	return true;
}

/* One KeyValue of a resource, scope, span, event or link. */
static bool
decode_attribute(DecodeContext *context, Cursor in, KeyValue *kv)
{
	bool     key_cut = false;
	bool     have_key = false;
	uint32_t tag;
	SpanText text;
	Cursor   message;

	kv->value.type = ANY_EMPTY;
	kv->value.len = 0;
	kv->value.u.integer = 0;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag >> 3)
		{
			case 1:
				if (tag != TAG(1, WIRE_BYTES))
					return wire_wrong_type(in.error, "KeyValue", tag);
				key_cut = false;
				if (!wire_bytes(&in, &text) ||
				    !context_attribute_key(context, text, kv, &key_cut))
					return false;
				have_key = true;
				break;
			case 2:
				if (tag != TAG(2, WIRE_BYTES))
					return wire_wrong_type(in.error, "KeyValue", tag);
				if (!wire_message(&in, &message) ||
				    !decode_value(context, message, 0, &kv->value))
					return false;
				break;
			default:
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	if (!have_key && !context_attribute_key(context, span_text(NULL, 0), kv, &key_cut))
		return false;
	context_attribute_end(context, kv, key_cut);
	return true;
}

/*
 * Decodes the attribute at "in" to the end of the list.  "message" is the
 * whole message and "tag" the attributes' tag in it, to count them when the
 * list has no room left.
 */
static bool
add_attribute(DecodeContext *context, Cursor *in, AttributeBuilder *list, Cursor message, uint32_t tag)
{
	Cursor attribute;

	if (!wire_message(in, &attribute))
		return false;
	if (list->count == list->size)
	{
		uint32_t  size = list->count + wire_count_fields(message, tag);
		KeyValue *items;

		/* many pieces of one resource must not copy the list each time */
		if (list->count > 0 && size < list->count * 2)
			size = list->count * 2;
		items = arena_alloc(context->arena, (size_t) size * sizeof(KeyValue));
		if (items == NULL)
			return context_no_memory(context);
		if (list->count > 0)
			memcpy(items, list->items, list->count * sizeof(KeyValue));
		list->items = items;
		list->size = size;
	}
	if (!decode_attribute(context, attribute, &list->items[list->count]))
		return false;
	list->count++;
	return true;
}

static inline AttributeList
attribute_list(const AttributeBuilder *list)
{
	AttributeList result = {list->items, list->count};

	return result;
}

/* --------------------------------------------------------- spans */

static bool
decode_event(DecodeContext *context, Cursor in, SpanEvent *event, bool *bad_time)
{
	Cursor           message = in;
	AttributeBuilder attributes = {NULL, 0, 0};
	uint64_t         time = 0;
	uint32_t         tag;
	SpanText         text;

	memset(event, 0, sizeof(*event));
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_64BIT):
				if (!wire_fixed64(&in, &time))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_bytes(&in, &text) || !context_text(context, text, &event->name))
					return false;
				break;
			case TAG(3, WIRE_BYTES):
				if (!add_attribute(context, &in, &attributes, message, tag))
					return false;
				break;
			case TAG(4, WIRE_VARINT):
				if (!wire_uint32(&in, &event->dropped_attributes_count))
					return false;
				break;
			default:
				if (tag >> 3 <= 4)
					return wire_wrong_type(in.error, "Span.Event", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	if (time > INT64_MAX)
		*bad_time = true;
	event->time_unix_nano = (int64_t) time;
	event->attributes = attribute_list(&attributes);
	return true;
}

static bool
decode_link(DecodeContext *context, Cursor in, SpanLink *link)
{
	Cursor           message = in;
	AttributeBuilder attributes = {NULL, 0, 0};
	uint32_t         tag;
	SpanText         text;

	memset(link, 0, sizeof(*link));
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_trace_id(context, text, &link->trace_id))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_span_id(context, text, "linked span", &link->span_id))
					return false;
				break;
			case TAG(3, WIRE_BYTES):
				if (!wire_bytes(&in, &text) || !context_text(context, text, &link->trace_state))
					return false;
				break;
			case TAG(4, WIRE_BYTES):
				if (!add_attribute(context, &in, &attributes, message, tag))
					return false;
				break;
			case TAG(5, WIRE_VARINT):
				if (!wire_uint32(&in, &link->dropped_attributes_count))
					return false;
				break;
			case TAG(6, WIRE_32BIT):
				if (!wire_fixed32(&in, &link->flags))
					return false;
				break;
			default:
				if (tag >> 3 <= 6)
					return wire_wrong_type(in.error, "Span.Link", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	link->attributes = attribute_list(&attributes);
	return true;
}

static bool
decode_status(DecodeContext *context, Cursor in, Span *span)
{
	uint32_t tag;
	uint32_t number;
	SpanText text;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag >> 3)
		{
			case 2:
				if (tag != TAG(2, WIRE_BYTES))
					return wire_wrong_type(in.error, "Status", tag);
				if (!wire_bytes(&in, &text) || !context_text(context, text, &span->status_message))
					return false;
				break;
			case 3:
				if (tag != TAG(3, WIRE_VARINT))
					return wire_wrong_type(in.error, "Status", tag);
				if (!wire_uint32(&in, &number))
					return false;
				span->status_code = (int32_t) number;
				break;
			default:
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	return true;
}

/* Appends one event or link; the array gets its room with the first one. */
static bool
add_event(DecodeContext *context, Cursor *in, IncomingSpan *incoming, SpanEvent **events, Cursor message)
{
	Cursor event;

	if (!wire_message(in, &event))
		return false;
	if (*events == NULL)
	{
		*events = arena_alloc(context->arena,
		                      (size_t) wire_count_fields(message, TAG(11, WIRE_BYTES)) * sizeof(SpanEvent));
		if (*events == NULL)
			return context_no_memory(context);
	}
	return decode_event(context, event, &(*events)[incoming->span.n_events++], &incoming->bad_event_time);
}

static bool
add_link(DecodeContext *context, Cursor *in, IncomingSpan *incoming, SpanLink **links, Cursor message)
{
	Cursor link;

	if (!wire_message(in, &link))
		return false;
	if (*links == NULL)
	{
		*links = arena_alloc(context->arena,
		                     (size_t) wire_count_fields(message, TAG(13, WIRE_BYTES)) * sizeof(SpanLink));
		if (*links == NULL)
			return context_no_memory(context);
	}
	return decode_link(context, link, &(*links)[incoming->span.n_links++]);
}

static bool
decode_span_fields(DecodeContext *context, Cursor in, IncomingSpan *incoming, AttributeBuilder *attributes)
{
	Cursor     message = in;
	Span      *span = &incoming->span;
	SpanEvent *events = NULL;
	SpanLink  *links = NULL;
	bool       cut;
	uint32_t   number;
	uint32_t   tag;
	SpanText   text;
	Cursor     inner;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_bytes(&in, &text) || !context_trace_id(context, text, &span->trace_id))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_span_id(context, text, "span", &span->span_id))
					return false;
				break;
			case TAG(3, WIRE_BYTES):
				if (!wire_bytes(&in, &text) || !context_text(context, text, &span->trace_state))
					return false;
				break;
			case TAG(4, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_span_id(context, text, "parent span", &span->parent_span_id))
					return false;
				break;
			case TAG(5, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_string(context, text, SPAN_NAME_MAX_BYTES, &cut, &span->name))
					return false;
				break;
			case TAG(6, WIRE_VARINT):
				if (!wire_uint32(&in, &number))
					return false;
				span->kind = (int32_t) number;
				break;
			case TAG(7, WIRE_64BIT):
				if (!wire_fixed64(&in, &incoming->start))
					return false;
				break;
			case TAG(8, WIRE_64BIT):
				if (!wire_fixed64(&in, &incoming->end))
					return false;
				break;
			case TAG(9, WIRE_BYTES):
				if (!add_attribute(context, &in, attributes, message, tag))
					return false;
				break;
			case TAG(10, WIRE_VARINT):
				if (!wire_uint32(&in, &span->dropped_attributes_count))
					return false;
				break;
			case TAG(11, WIRE_BYTES):
				if (!add_event(context, &in, incoming, &events, message))
					return false;
				break;
			case TAG(12, WIRE_VARINT):
				if (!wire_uint32(&in, &span->dropped_events_count))
					return false;
				break;
			case TAG(13, WIRE_BYTES):
				if (!add_link(context, &in, incoming, &links, message))
					return false;
				break;
			case TAG(14, WIRE_VARINT):
				if (!wire_uint32(&in, &span->dropped_links_count))
					return false;
				break;
			case TAG(15, WIRE_BYTES):
				if (!wire_message(&in, &inner) || !decode_status(context, inner, span))
					return false;
				break;
			case TAG(16, WIRE_32BIT):
				if (!wire_fixed32(&in, &span->flags))
					return false;
				break;
			default:
				if (tag >> 3 <= 16)
					return wire_wrong_type(in.error, "Span", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	span->events = events;
	span->links = links;
	return true;
}

static bool
decode_span(DecodeContext *context, Cursor in, uint32_t scope)
{
	KeyValue         local[LOCAL_ATTRIBUTES];
	AttributeBuilder attributes = {local, 0, LOCAL_ATTRIBUTES};
	IncomingSpan     incoming;

	memset(&incoming, 0, sizeof(incoming));
	incoming.span.scope = scope;
	if (!decode_span_fields(context, in, &incoming, &attributes))
		return false;
	if (attributes.items == local)
	{
		attributes.items = arena_copy(context->arena, local, attributes.count * sizeof(KeyValue));
		if (attributes.items == NULL)
			return context_no_memory(context);
	}
	incoming.span.attributes = attribute_list(&attributes);
	return context_add(context, &incoming);
}

/* --------------------------------------------- scopes and resources */

typedef struct PartialScope
{
	SpanScope        scope;
	AttributeBuilder attributes;
} PartialScope;

/* Merges one InstrumentationScope message into the scope. */
static bool
decode_scope(DecodeContext *context, Cursor in, PartialScope *partial)
{
	Cursor   message = in;
	bool     cut;
	uint32_t tag;
	SpanText text;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_string(context, text, 0, &cut, &partial->scope.name))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_bytes(&in, &text) ||
				    !context_string(context, text, 0, &cut, &partial->scope.version))
					return false;
				break;
			case TAG(3, WIRE_BYTES):
				if (!add_attribute(context, &in, &partial->attributes, message, tag))
					return false;
				break;
			case TAG(4, WIRE_VARINT):
				if (!wire_uint32(&in, &partial->scope.dropped_attributes_count))
					return false;
				break;
			default:
				if (tag >> 3 <= 4)
					return wire_wrong_type(in.error, "InstrumentationScope", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	return true;
}

static bool
decode_scope_spans(DecodeContext *context, Cursor in, uint32_t resource)
{
	PartialScope partial;
	Cursor       walk = in;
	bool         any_span = false;
	bool         cut;
	uint32_t     scope;
	uint32_t     tag;
	SpanText     text;
	Cursor       message;

	memset(&partial, 0, sizeof(partial));
	partial.scope.resource = resource;
	while (walk.p < walk.end)
	{
		if (!wire_tag(&walk, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_message(&walk, &message) || !decode_scope(context, message, &partial))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_skip_field(&walk, tag))
					return false;
				any_span = true;
				break;
			case TAG(3, WIRE_BYTES):
				if (!wire_bytes(&walk, &text) ||
				    !context_string(context, text, 0, &cut, &partial.scope.schema_url))
					return false;
				break;
			default:
				if (tag >> 3 <= 3)
					return wire_wrong_type(in.error, "ScopeSpans", tag);
				if (!wire_skip_field(&walk, tag))
					return false;
		}
	}
	if (!any_span)
		return true;
	partial.scope.attributes = attribute_list(&partial.attributes);
	scope = span_batch_scope(context->batch, &partial.scope);
	if (scope == SPAN_BATCH_NONE)
		return context_no_memory(context);

	/* the first walk has seen that the form is right */
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(2, WIRE_BYTES))
		{
			if (!wire_message(&in, &message) || !decode_span(context, message, scope))
				return false;
		}
		else if (!wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

typedef struct PartialResource
{
	SpanResource     resource;
	AttributeBuilder attributes;
	RefsText         refs;
} PartialResource;

/* Appends a repeated string to the JSON text, as an array. */
static bool
append_keys(DecodeContext *context, Cursor in, uint32_t wanted, const char *member, RefsText *refs)
{
	bool     first = true;
	uint32_t tag;
	SpanText text;

	if (wire_count_fields(in, wanted) == 0)
		return true;
	if (!refs_append(context, refs, member, strlen(member)))
		return false;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag != wanted)
		{
			if (!wire_skip_field(&in, tag))
				return false;
			continue;
		}
		if (!wire_bytes(&in, &text) ||
		    !refs_append(context, refs, first ? "[" : ",", 1) ||
		    !refs_append_quoted(context, refs, text))
			return false;
		first = false;
	}
	return refs_append(context, refs, "]", 1);
}

/*
 * EntityRef becomes the object that OTLP JSON has for it, in the order of the
 * fields' numbers and without the empty ones.
 */
static bool
decode_entity_ref(DecodeContext *context, Cursor in, RefsText *refs)
{
	Cursor   walk = in;
	SpanText schema_url = {NULL, 0};
	SpanText type = {NULL, 0};
	uint32_t tag;
	SpanText text;

	while (walk.p < walk.end)
	{
		if (!wire_tag(&walk, &tag))
			return false;
		if (tag >> 3 <= 4)
		{
			if ((tag & 7) != WIRE_BYTES)
				return wire_wrong_type(in.error, "EntityRef", tag);
			if (!wire_bytes(&walk, &text))
				return false;
			if (tag >> 3 == 1)
				schema_url = text;
			else if (tag >> 3 == 2)
				type = text;
		}
		else if (!wire_skip_field(&walk, tag))
			return false;
	}
	return entity_ref_begin(context, refs, schema_url, type) &&
	       append_keys(context, in, TAG(3, WIRE_BYTES), ",\"idKeys\":", refs) &&
	       append_keys(context, in, TAG(4, WIRE_BYTES), ",\"descriptionKeys\":", refs) &&
	       refs_append(context, refs, "}", 1);
}

/* Merges one Resource message into the resource. */
static bool
decode_resource(DecodeContext *context, Cursor in, PartialResource *partial)
{
	Cursor   whole = in;
	uint32_t tag;
	Cursor   message;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!add_attribute(context, &in, &partial->attributes, whole, tag))
					return false;
				break;
			case TAG(2, WIRE_VARINT):
				if (!wire_uint32(&in, &partial->resource.dropped_attributes_count))
					return false;
				break;
			case TAG(3, WIRE_BYTES):
				if (!wire_message(&in, &message) ||
				    !decode_entity_ref(context, message, &partial->refs))
					return false;
				break;
			default:
				if (tag >> 3 <= 3)
					return wire_wrong_type(in.error, "Resource", tag);
				if (!wire_skip_field(&in, tag))
					return false;
		}
	}
	return true;
}

/* Field 1000 is the ScopeSpans of OTLP before 0.15; it counts only without field 2. */
#define OLD_SCOPE_SPANS 1000

static bool
decode_resource_spans(DecodeContext *context, Cursor in)
{
	PartialResource partial;
	Cursor          walk = in;
	uint32_t        spans_tag = TAG(OLD_SCOPE_SPANS, WIRE_BYTES);
	bool            any_scope = false;
	bool            cut;
	uint32_t        resource;
	uint32_t        tag;
	SpanText        text;
	Cursor          message;

	memset(&partial, 0, sizeof(partial));
	partial.resource.tenant = context->tenant;
	while (walk.p < walk.end)
	{
		if (!wire_tag(&walk, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				if (!wire_message(&walk, &message) || !decode_resource(context, message, &partial))
					return false;
				break;
			case TAG(2, WIRE_BYTES):
				if (!wire_skip_field(&walk, tag))
					return false;
				spans_tag = tag;
				any_scope = true;
				break;
			case TAG(3, WIRE_BYTES):
				if (!wire_bytes(&walk, &text) ||
				    !context_string(context, text, 0, &cut, &partial.resource.schema_url))
					return false;
				break;
			case TAG(OLD_SCOPE_SPANS, WIRE_BYTES):
				if (!wire_skip_field(&walk, tag))
					return false;
				any_scope = true;
				break;
			default:
				if (tag >> 3 <= 3 || tag >> 3 == OLD_SCOPE_SPANS)
					return wire_wrong_type(in.error, "ResourceSpans", tag);
				if (!wire_skip_field(&walk, tag))
					return false;
		}
	}
	if (!any_scope)
		return true;
	partial.resource.attributes = attribute_list(&partial.attributes);
	if (!refs_end(context, &partial.refs, &partial.resource.entity_refs))
		return false;
	resource = span_batch_resource(context->batch, &partial.resource);
	if (resource == SPAN_BATCH_NONE)
		return context_no_memory(context);
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == spans_tag)
		{
			if (!wire_message(&in, &message) || !decode_scope_spans(context, message, resource))
				return false;
		}
		else if (!wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

static bool
decode_request(DecodeContext *context, Cursor in)
{
	uint32_t tag;
	Cursor   message;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag >> 3 != 1)
		{
			if (!wire_skip_field(&in, tag))
				return false;
			continue;
		}
		if (tag != TAG(1, WIRE_BYTES))
			return wire_wrong_type(in.error, "ExportTraceServiceRequest", tag);
		if (!wire_message(&in, &message) || !decode_resource_spans(context, message))
			return false;
	}
	return true;
}

/* The spans of a request that is refused, for the counters. */
static uint64_t
count_spans(Cursor in)
{
	uint64_t count = 0;
	uint32_t tag;
	Cursor   resource_spans;
	Cursor   message;

	in.error = NULL;
	while (in.p < in.end)
	{
		uint32_t spans_tag;

		if (!wire_tag(&in, &tag))
			break;
		if (tag != TAG(1, WIRE_BYTES))
		{
			if (!wire_skip_field(&in, tag))
				break;
			continue;
		}
		if (!wire_message(&in, &resource_spans))
			break;
		spans_tag = wire_count_fields(resource_spans, TAG(2, WIRE_BYTES)) > 0 ?
		                TAG(2, WIRE_BYTES) :
		                TAG(OLD_SCOPE_SPANS, WIRE_BYTES);
		while (resource_spans.p < resource_spans.end)
		{
			if (!wire_tag(&resource_spans, &tag))
				break;
			if (tag != spans_tag)
			{
				if (!wire_skip_field(&resource_spans, tag))
					break;
			}
			else if (wire_message(&resource_spans, &message))
				count += wire_count_fields(message, TAG(2, WIRE_BYTES));
			else
				break;
		}
	}
	return count;
}

bool
decode_otlp_proto(const char *body, size_t len, const DecodeOptions *options,
                  SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Cursor        in;

	if (!context_begin(&context, options, batch, result, error))
		return context_finish(&context, false);
	if (len > UINT32_MAX)
		return context_finish(&context, span_error(error, SPAN_ERROR_LIMIT, "the request is larger than 4 GiB"));
	in.p = (const uint8_t *) body;
	in.end = in.p + len;
	in.error = error;
	if (decode_request(&context, in))
		return context_finish(&context, true);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count_spans(in));
	return context_finish(&context, false);
}
