/*-------------------------------------------------------------------------
 *
 * value.c
 *	  Comparing, hashing, copying and cleaning attribute values.
 *
 *-------------------------------------------------------------------------
 */
#include "span/value.h"

#include <string.h>

bool
span_text_equal(SpanText a, SpanText b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool
span_text_is(SpanText a, const char *literal)
{
	size_t len = strlen(literal);

	return a.len == len && (len == 0 || memcmp(a.data, literal, len) == 0);
}

/*
 * Length of the UTF-8 character at "p", or 0 with *skip set to the length of
 * the maximal invalid subsequence there (Unicode 15, section 3.9, "maximal
 * subpart").
 */
static uint32_t
utf8_length(const uint8_t *p, uint32_t left, uint32_t *skip)
{
	uint8_t  c = p[0];
	uint8_t  low = 0x80;
	uint8_t  high = 0xBF;
	uint32_t need;

	*skip = 1;
	if (c < 0x80)
		return c != 0;
	if (c >= 0xC2 && c <= 0xDF)
		need = 2;
	else if (c >= 0xE0 && c <= 0xEF)
	{
		need = 3;
		if (c == 0xE0)
			low = 0xA0;
		else if (c == 0xED)
			high = 0x9F; /* no surrogates */
	}
	else if (c >= 0xF0 && c <= 0xF4)
	{
		need = 4;
		if (c == 0xF0)
			low = 0x90;
		else if (c == 0xF4)
			high = 0x8F;
	}
	else
		return 0;
	for (uint32_t i = 1; i < need; i++)
	{
		if (i >= left || p[i] < low || p[i] > high)
		{
			*skip = i;
			return 0;
		}
		low = 0x80;
		high = 0xBF;
	}
	return need;
}

/* Bytes at the start that are clean text. */
static uint32_t
clean_prefix(const uint8_t *p, uint32_t len)
{
	uint32_t i = 0;

	while (i < len)
	{
		uint32_t skip;
		uint32_t n;

		/* eight ASCII bytes at once, none of them NUL */
		while (len - i >= 8)
		{
			uint64_t word;

			memcpy(&word, p + i, 8);
			if ((word & UINT64_C(0x8080808080808080)) != 0 ||
			    ((word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080)) != 0)
				break;
			i += 8;
		}
		if (i == len)
			break;
		n = utf8_length(p + i, len - i, &skip);
		if (n == 0)
			return i;
		i += n;
	}
	return len;
}

SpanText
span_text_clean(SpanText in, Arena *arena, uint64_t *changed)
{
	const uint8_t *p = (const uint8_t *) in.data;
	uint32_t       done = clean_prefix(p, in.len);
	uint64_t       size;
	uint32_t       skip;
	char          *out;
	char          *to;

	if (done == in.len)
		return in;

	/* an invalid byte becomes three at most */
	size = (uint64_t) done + (uint64_t) (in.len - done) * 3;
	out = size <= UINT32_MAX ? arena_alloc(arena, size) : NULL;
	if (out == NULL)
		return span_text(NULL, in.len);
	memcpy(out, p, done);
	to = out + done;
	while (done < in.len)
	{
		uint32_t n = utf8_length(p + done, in.len - done, &skip);

		if (n > 0)
		{
			memcpy(to, p + done, n);
			to += n;
			done += n;
		}
		else
		{
			memcpy(to, "\xEF\xBF\xBD", 3);
			to += 3;
			done += skip;
		}
	}
	if (changed != NULL)
		(*changed)++;
	return span_text(out, (uint32_t) (to - out));
}

bool
any_value_equal(const AnyValue *a, const AnyValue *b)
{
	if (a->type != b->type)
		return false;
	switch ((AnyValueType) a->type)
	{
		case ANY_EMPTY:
			return true;
		case ANY_STRING:
		case ANY_BYTES:
			return a->len == b->len && (a->len == 0 || memcmp(a->u.data, b->u.data, a->len) == 0);
		case ANY_BOOL:
			return a->u.boolean == b->u.boolean;
		case ANY_INT:
			return a->u.integer == b->u.integer;
		case ANY_DOUBLE:
			return memcmp(&a->u.number, &b->u.number, sizeof(double)) == 0;
		case ANY_ARRAY:
			if (a->len != b->len)
				return false;
			for (uint32_t i = 0; i < a->len; i++)
				if (!any_value_equal(&a->u.elements[i], &b->u.elements[i]))
					return false;
			return true;
		case ANY_KVLIST:
		{
			AttributeList la = {a->u.members, a->len};
			AttributeList lb = {b->u.members, b->len};

			return attribute_lists_equal(la, lb);
		}
	}
	return false;
}

bool
attribute_lists_equal(AttributeList a, AttributeList b)
{
	if (a.count != b.count)
		return false;
	for (uint32_t i = 0; i < a.count; i++)
		if (!span_text_equal(a.items[i].key, b.items[i].key) ||
		    !any_value_equal(&a.items[i].value, &b.items[i].value))
			return false;
	return true;
}

const AnyValue *
attribute_find(AttributeList list, SpanText key)
{
	for (uint32_t i = 0; i < list.count; i++)
		if (span_text_equal(list.items[i].key, key))
			return &list.items[i].value;
	return NULL;
}

static inline uint64_t
mix(uint64_t h)
{
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	return h;
}

uint64_t
span_bytes_hash(const void *data, size_t len, uint64_t seed)
{
	const char *p = data;
	uint64_t    h = seed ^ (len * UINT64_C(0x9e3779b97f4a7c15));
	uint64_t    word;

	while (len >= 8)
	{
		memcpy(&word, p, 8);
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
		p += 8;
		len -= 8;
	}
	if (len > 0)
	{
		word = 0;
		memcpy(&word, p, len);
		h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
	}
	return mix(h);
}

uint64_t
any_value_hash(const AnyValue *value, uint64_t seed)
{
	uint64_t h = seed + value->type * UINT64_C(0x9e3779b97f4a7c15);

	switch ((AnyValueType) value->type)
	{
		case ANY_EMPTY:
			break;
		case ANY_STRING:
		case ANY_BYTES:
			return span_bytes_hash(value->u.data, value->len, h);
		case ANY_BOOL:
			return mix(h + value->u.boolean);
		case ANY_INT:
		case ANY_DOUBLE:
			return span_bytes_hash(&value->u, 8, h);
		case ANY_ARRAY:
			for (uint32_t i = 0; i < value->len; i++)
				h = any_value_hash(&value->u.elements[i], mix(h));
			break;
		case ANY_KVLIST:
		{
			AttributeList list = {value->u.members, value->len};

			return attribute_list_hash(list, h);
		}
	}
	return mix(h + value->len);
}

uint64_t
attribute_list_hash(AttributeList list, uint64_t seed)
{
	uint64_t h = mix(seed + list.count);

	for (uint32_t i = 0; i < list.count; i++)
	{
		h = span_bytes_hash(list.items[i].key.data, list.items[i].key.len, h);
		h = any_value_hash(&list.items[i].value, h);
	}
	return h;
}

/*
 * The depth of a value was bounded by whoever decoded it, so the recursion in
 * this file is bounded too.
 */
bool
any_value_copy(Arena *arena, const AnyValue *in, AnyValue *out)
{
	*out = *in;
	if (in->type == ANY_STRING || in->type == ANY_BYTES)
	{
		out->u.data = arena_copy(arena, in->u.data, in->len);
		return out->u.data != NULL;
	}
	if (in->type == ANY_ARRAY)
	{
		AnyValue *elements = arena_alloc(arena, (size_t) in->len * sizeof(AnyValue));

		if (elements == NULL)
			return false;
		for (uint32_t i = 0; i < in->len; i++)
			if (!any_value_copy(arena, &in->u.elements[i], &elements[i]))
				return false;
		out->u.elements = elements;
	}
	else if (in->type == ANY_KVLIST)
	{
		AttributeList list = {in->u.members, in->len};
		AttributeList copy;

		if (!attribute_list_copy(arena, list, &copy))
			return false;
		out->u.members = copy.items;
	}
	return true;
}

bool
attribute_list_copy(Arena *arena, AttributeList in, AttributeList *out)
{
	KeyValue *items = arena_alloc(arena, (size_t) in.count * sizeof(KeyValue));

	if (items == NULL)
		return false;
	for (uint32_t i = 0; i < in.count; i++)
	{
		items[i] = in.items[i];
		items[i].key.data = arena_copy(arena, in.items[i].key.data, in.items[i].key.len);
		if (items[i].key.data == NULL ||
		    !any_value_copy(arena, &in.items[i].value, &items[i].value))
			return false;
	}
	out->items = items;
	out->count = in.count;
	return true;
}
