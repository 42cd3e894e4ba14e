/*-------------------------------------------------------------------------
 *
 * foreign.c
 *	  What the decoders of Zipkin's and Jaeger's formats do alike.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/foreign.h"

#include <string.h>
#include <strings.h>

static AnyValue
any(AnyValueType type)
{
	AnyValue value;

	memset(&value, 0, sizeof(value));
	value.type = (uint8_t) type;
	return value;
}

AnyValue
any_text(SpanText text)
{
	AnyValue value = any(ANY_STRING);

	value.u.data = text.data;
	value.len = text.len;
	return value;
}

AnyValue
any_bytes(SpanText bytes)
{
	AnyValue value = any_text(bytes);

	value.type = ANY_BYTES;
	return value;
}

AnyValue
any_bool(bool boolean)
{
	AnyValue value = any(ANY_BOOL);

	value.u.boolean = boolean;
	return value;
}

AnyValue
any_int(int64_t integer)
{
	AnyValue value = any(ANY_INT);

	value.u.integer = integer;
	return value;
}

AnyValue
any_double(double number)
{
	AnyValue value = any(ANY_DOUBLE);

	value.u.number = number;
	return value;
}

SpanText
text_literal(const char *literal)
{
	return span_text(literal, (uint32_t) strlen(literal));
}

bool
text_is_nocase(SpanText text, const char *literal)
{
	return text.len == strlen(literal) && strncasecmp(text.data, literal, text.len) == 0;
}

bool
tags_add(DecodeContext *context, TagList *tags, SpanText key, AnyValue value)
{
	if (tags->count == tags->size)
	{
		uint32_t size = tags->size == 0 ? 16 : tags->size * 2;
		Tag     *grown = arena_alloc(context->arena, (size_t) size * sizeof(Tag));

		if (grown == NULL)
			return context_no_memory(context);
		if (tags->count > 0)
			memcpy(grown, tags->items, (size_t) tags->count * sizeof(Tag));
		tags->items = grown;
		tags->size = size;
	}
	tags->items[tags->count].key = key;
	tags->items[tags->count].value = value;
	tags->items[tags->count].taken = false;
	tags->count++;
	return true;
}

Tag *
tags_find(const TagList *tags, const char *key)
{
	for (uint32_t i = 0; i < tags->count; i++)
		if (!tags->items[i].taken && span_text_is(tags->items[i].key, key))
			return &tags->items[i];
	return NULL;
}

bool
tags_take_text(TagList *tags, const char *key, SpanText *text)
{
	Tag *tag = tags_find(tags, key);

	if (tag == NULL || tag->value.type != ANY_STRING)
		return false;
	tag->taken = true;
	*text = span_text(tag->value.u.data, tag->value.len);
	return true;
}

bool
tag_integer(const Tag *tag, int64_t *value)
{
	const char *p = tag->value.u.data;
	uint32_t    len = tag->value.len;
	bool        negative;

	if (tag->value.type == ANY_INT)
	{
		*value = tag->value.u.integer;
		return true;
	}
	if (tag->value.type != ANY_STRING || len == 0)
		return false;
	negative = *p == '-';
	if (negative)
		p++, len--;
	if (len == 0 || len > 18)
		return false;
	*value = 0;
	for (uint32_t i = 0; i < len; i++)
	{
		if (p[i] < '0' || p[i] > '9')
			return false;
		*value = *value * 10 + (p[i] - '0');
	}
	if (negative)
		*value = -*value;
	return true;
}

bool
tags_attributes(DecodeContext *context, const TagList *tags, AttributeList *out)
{
	KeyValue *items;
	uint32_t  n = 0;

	out->items = NULL;
	out->count = 0;
	if (tags->count == 0)
		return true;
	items = arena_alloc0(context->arena, (size_t) tags->count * sizeof(KeyValue));
	if (items == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < tags->count; i++)
	{
		const Tag *tag = &tags->items[i];
		KeyValue  *item = &items[n];
		bool       cut = false;

		if (tag->taken)
			continue;
		if (!context_attribute_key(context, tag->key, item, &cut))
			return false;
		item->value = tag->value;
		if (tag->value.type == ANY_STRING)
		{
			SpanText clean;

			if (!context_text(context, span_text(tag->value.u.data, tag->value.len), &clean))
				return false;
			item->value = any_text(clean);
		}
		context_attribute_end(context, item, cut);
		n++;
	}
	out->items = items;
	out->count = n;
	return true;
}

uint32_t
foreign_scope(DecodeContext *context, const TagList *resource_tags, SpanText name, SpanText version)
{
	SpanResource resource;
	SpanScope    scope;
	uint32_t     index;
	bool         cut;

	memset(&resource, 0, sizeof(resource));
	memset(&scope, 0, sizeof(scope));
	resource.tenant = context->tenant;
	if (!tags_attributes(context, resource_tags, &resource.attributes) ||
	    !context_string(context, name, 0, &cut, &scope.name) ||
	    !context_string(context, version, 0, &cut, &scope.version))
		return SPAN_BATCH_NONE;
	scope.resource = span_batch_resource(context->batch, &resource);
	index = scope.resource == SPAN_BATCH_NONE ? SPAN_BATCH_NONE : span_batch_scope(context->batch, &scope);
	if (index == SPAN_BATCH_NONE)
		(void) context_no_memory(context);
	return index;
}

int32_t
foreign_kind(SpanText name)
{
	static const char *const kinds[] = {"", "internal", "server", "client", "producer", "consumer"};

	for (int32_t kind = KIND_INTERNAL; kind <= KIND_CONSUMER; kind++)
		if (text_is_nocase(name, kinds[kind]))
			return kind;
	return KIND_UNSPECIFIED;
}

int32_t
foreign_status(SpanText name)
{
	static const char *const codes[] = {"unset", "ok", "error"};

	if (name.len > 12 && strncasecmp(name.data, "STATUS_CODE_", 12) == 0)
		name = span_text(name.data + 12, name.len - 12);
	for (int32_t code = STATUS_UNSET; code <= STATUS_ERROR; code++)
		if (text_is_nocase(name, codes[code]))
			return code;
	return -1;
}

uint64_t
nanoseconds(uint64_t microseconds)
{
	return microseconds > UINT64_MAX / 1000 ? UINT64_MAX : microseconds * 1000;
}

uint64_t
later(uint64_t time, uint64_t duration)
{
	return time > UINT64_MAX - duration ? UINT64_MAX : time + duration;
}
