/*-------------------------------------------------------------------------
 *
 * codec.c
 *	  Attribute values and lists as bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/codec.h"

void
value_put(Buffer *out, const AnyValue *value)
{
	uint64_t bits;

	buffer_put_u8(out, value->type);
	switch ((AnyValueType) value->type)
	{
		case ANY_EMPTY:
			break;
		case ANY_STRING:
		case ANY_BYTES:
			buffer_put_text(out, span_text(value->u.data, value->len));
			break;
		case ANY_BOOL:
			buffer_put_u8(out, value->u.boolean);
			break;
		case ANY_INT:
			buffer_put_varint(out, zigzag(value->u.integer));
			break;
		case ANY_DOUBLE:
			memcpy(&bits, &value->u.number, 8);
			buffer_put_u64(out, bits);
			break;
		case ANY_ARRAY:
			buffer_put_varint(out, value->len);
			for (uint32_t i = 0; i < value->len; i++)
				value_put(out, &value->u.elements[i]);
			break;
		case ANY_KVLIST:
		{
			AttributeList list = {value->u.members, value->len};

			attributes_put(out, list);
		}
		break;
	}
}

void
attributes_put(Buffer *out, AttributeList list)
{
	buffer_put_varint(out, list.count);
	for (uint32_t i = 0; i < list.count; i++)
	{
		buffer_put_text(out, list.items[i].key);
		value_put(out, &list.items[i].value);
	}
}

/* Text in place, or copied. */
static bool
text_get(Cursor *in, Arena *arena, bool copy, SpanText *text)
{
	*text = cursor_text(in);
	if (in->failed)
		return false;
	if (copy)
		text->data = arena_copy(arena, text->data, text->len);
	return text->data != NULL;
}

static bool list_get(Cursor *in, Arena *arena, bool copy, int depth, AttributeList *list);

static bool
value_get_depth(Cursor *in, Arena *arena, bool copy, int depth, AnyValue *value)
{
	SpanText      text;
	AttributeList list;
	AnyValue     *elements;
	uint64_t      bits;

	memset(value, 0, sizeof(*value));
	value->type = cursor_u8(in);
	/* the top-level value counts as depth 0, so a legal one ends at the bound */
	if (value->type > ANY_BYTES || depth > ANY_VALUE_MAX_DEPTH)
		in->failed = true;
	if (in->failed)
		return false;
	switch ((AnyValueType) value->type)
	{
		case ANY_EMPTY:
			break;
		case ANY_STRING:
		case ANY_BYTES:
			if (!text_get(in, arena, copy, &text))
				return false;
			value->u.data = text.data;
			value->len = text.len;
			break;
		case ANY_BOOL:
			value->u.boolean = cursor_u8(in) != 0;
			break;
		case ANY_INT:
			value->u.integer = unzigzag(cursor_varint(in));
			break;
		case ANY_DOUBLE:
			bits = cursor_u64(in);
			memcpy(&value->u.number, &bits, 8);
			break;
		case ANY_ARRAY:
			value->len = cursor_count(in, 1);
			elements = arena_alloc(arena, (size_t) value->len * sizeof(AnyValue));
			if (elements == NULL)
				return false;
			for (uint32_t i = 0; i < value->len; i++)
				if (!value_get_depth(in, arena, copy, depth + 1, &elements[i]))
					return false;
			value->u.elements = elements;
			break;
		case ANY_KVLIST:
			if (!list_get(in, arena, copy, depth + 1, &list))
				return false;
			value->u.members = list.items;
			value->len = list.count;
			break;
	}
	return !in->failed;
}

static bool
list_get(Cursor *in, Arena *arena, bool copy, int depth, AttributeList *list)
{
	KeyValue *items;

	list->count = cursor_count(in, 2);
	items = arena_alloc(arena, (size_t) list->count * sizeof(KeyValue));
	if (items == NULL)
		return false;
	for (uint32_t i = 0; i < list->count; i++)
	{
		items[i].key_id = 0;
		if (!text_get(in, arena, copy, &items[i].key) ||
		    !value_get_depth(in, arena, copy, depth, &items[i].value))
			return false;
	}
	list->items = items;
	return !in->failed;
}

bool
value_get(Cursor *in, Arena *arena, bool copy, AnyValue *value)
{
	return value_get_depth(in, arena, copy, 0, value);
}

bool
attributes_get(Cursor *in, Arena *arena, bool copy, AttributeList *list)
{
	return list_get(in, arena, copy, 0, list);
}
