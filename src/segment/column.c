/*-------------------------------------------------------------------------
 *
 * column.c
 *	  Writer's side of a typed column.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/column.h"

#include "segment/bloom.h"
#include "segment/codec.h"
#include "segment/image.h"
#include "segment/pack.h"

/* From this many entries on, a dictionary must pay to be kept on. */
#define DICTIONARY_TRIAL 2048

/*
 * A dictionary of texts beyond this size must be small beside the column, or
 * reading a few rows would mean unpacking all of it.  Blocks have dictionaries
 * of their own then.
 */
#define DICTIONARY_SMALL 4096
#define DICTIONARY_FRACTION 8

/* A dictionary of numbers is never larger: byte planes are nearly as small. */
#define NUMBER_DICTIONARY_MAX 4096

/* Different numbers are counted, with a bitmap, if they are closer together than this. */
#define NUMBER_BITMAP_RANGE (1 << 22)

/* Dictionaries from this size on have a filter, too: it is quicker to read. */
#define BLOOM_MIN_ENTRIES 256

void
column_init(Column *c, const SpanAllocator *allocator)
{
	memset(c, 0, sizeof(*c));
	buffer_init(&c->values, allocator);
	buffer_init(&c->entries, allocator);
	buffer_init(&c->block_ends, allocator);
	buffer_init(&c->local_codes, allocator);
}

static void
free_slots(Column *c)
{
	if (c->slots != NULL)
		c->values.allocator->release(c->values.allocator->arg, c->slots);
	c->slots = NULL;
	c->n_slots = 0;
}

void
column_forget_index(Column *c)
{
	free_slots(c);
}

void
column_free(Column *c)
{
	free_slots(c);
	buffer_free(&c->values);
	buffer_free(&c->entries);
	buffer_free(&c->block_ends);
	buffer_free(&c->local_codes);
}

static inline uint32_t
number_hash(int64_t value)
{
	return (uint32_t) (((uint64_t) value * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static inline uint32_t
entry_hash(const Column *c, uint32_t i)
{
	if (type_is_number(c->type))
		return number_hash(((const int64_t *) c->entries.data)[i]);
	return ((const TextEntry *) c->entries.data)[i].hash;
}

/* Makes room for one more entry in the hash table. */
static bool
reserve_slot(Column *c, uint32_t n_entries)
{
	const SpanAllocator *a = c->values.allocator;
	uint32_t             n_slots;
	uint32_t            *slots;

	if (n_entries + 1 <= c->n_slots / 2)
		return true;
	n_slots = 16;
	while (n_slots / 2 < n_entries + 1)
		n_slots *= 2;
	slots = a->alloc(a->arg, n_slots * sizeof(uint32_t));
	if (slots == NULL)
		return false;
	memset(slots, 0, n_slots * sizeof(uint32_t));
	free_slots(c);
	c->slots = slots;
	c->n_slots = n_slots;
	for (uint32_t i = 0; i < n_entries; i++)
	{
		uint32_t at = entry_hash(c, i) & (n_slots - 1);

		while (slots[at] != 0)
			at = (at + 1) & (n_slots - 1);
		slots[at] = i + 1;
	}
	return true;
}

static bool
intern_number(Column *c, int64_t value, uint32_t *index)
{
	uint32_t n = column_n_entries(c);
	uint32_t at;

	if (!reserve_slot(c, n))
		return false;
	at = number_hash(value) & (c->n_slots - 1);
	while (c->slots[at] != 0)
	{
		if (((const int64_t *) c->entries.data)[c->slots[at] - 1] == value)
		{
			*index = c->slots[at] - 1;
			return true;
		}
		at = (at + 1) & (c->n_slots - 1);
	}
	buffer_put(&c->entries, &value, sizeof(value));
	c->slots[at] = n + 1;
	*index = n;
	return !c->entries.failed;
}

static bool
intern_text(Column *c, SpanText text, uint32_t *index)
{
	TextEntry entry = {text.data, text.len, 0};
	uint32_t  n = column_n_entries(c);

	if (!c->no_dictionary)
	{
		uint32_t at;

		if (!reserve_slot(c, n))
			return false;
		entry.hash = (uint32_t) span_bytes_hash(text.data, text.len, 0);
		at = entry.hash & (c->n_slots - 1);
		while (c->slots[at] != 0)
		{
			const TextEntry *other = (const TextEntry *) c->entries.data + c->slots[at] - 1;

			if (other->hash == entry.hash && other->len == text.len &&
			    (text.len == 0 || memcmp(other->data, text.data, text.len) == 0))
			{
				*index = c->slots[at] - 1;
				return true;
			}
			at = (at + 1) & (c->n_slots - 1);
		}
		c->slots[at] = n + 1;
	}
	buffer_put(&c->entries, &entry, sizeof(entry));
	*index = n;
	return !c->entries.failed;
}

static inline int64_t
number_of(const AnyValue *value)
{
	int64_t bits;

	if (value->type == ANY_BOOL)
		return value->u.boolean;
	memcpy(&bits, &value->u, 8);
	return bits;
}

/* The bytes of a value that is no number. */
static bool
text_of(const AnyValue *value, const SpanAllocator *allocator, Arena *arena, SpanText *text)
{
	Buffer bytes;

	if (value->type == ANY_STRING || value->type == ANY_BYTES)
	{
		*text = span_text(value->u.data, value->len);
		return true;
	}
	buffer_init(&bytes, allocator);
	value_put(&bytes, value);
	text->len = (uint32_t) bytes.len;
	text->data = bytes.failed || bytes.len > UINT32_MAX ? NULL : arena_copy(arena, bytes.data, bytes.len);
	buffer_free(&bytes);
	return text->data != NULL;
}

bool
column_constant(Column *c, const AnyValue *value, Arena *arena, uint32_t *index)
{
	SpanText text;

	if (type_is_number(c->type))
	{
		if (!intern_number(c, number_of(value), index))
			return false;
	}
	else if (!text_of(value, c->values.allocator, arena, &text) || !intern_text(c, text, index))
		return false;
	c->n_constants = column_n_entries(c);
	return true;
}

/* Now and then, after a new entry: does the dictionary pay for so many values? */
static void
try_dictionary(Column *c, uint32_t before, uint64_t n_values)
{
	if (!c->no_dictionary && before >= DICTIONARY_TRIAL && (before & (before - 1)) == 0 &&
	    (uint64_t) (before - c->n_constants) * 2 > n_values)
	{
		c->no_dictionary = true;
		free_slots(c);
	}
}

bool
column_intern(Column *c, SpanText text, Arena *arena, uint32_t *index)
{
	uint32_t   before = column_n_entries(c);
	TextEntry *entry;

	if (before >= UINT32_MAX / 4 || !intern_text(c, text, index))
		return false;
	c->n_interned++;
	if (*index != before)
		return true;
	entry = (TextEntry *) c->entries.data + before;
	entry->data = arena_copy(arena, text.data, text.len);
	if (entry->data == NULL)
		return false;
	try_dictionary(c, before, c->n_interned);
	return true;
}

bool
column_add(Column *c, const AnyValue *value, Arena *arena)
{
	SpanText text;
	uint32_t before;
	uint32_t index;

	if (type_is_number(c->type))
	{
		int64_t number = number_of(value);

		buffer_put(&c->values, &number, sizeof(number));
		return !c->values.failed;
	}
	before = column_n_entries(c);
	if (!text_of(value, c->values.allocator, arena, &text) || !intern_text(c, text, &index))
		return false;
	buffer_put(&c->values, &index, sizeof(index));

	if (index == before)
		try_dictionary(c, before, c->values.len / sizeof(index));
	return !c->values.failed;
}

void
column_end_block(Column *c)
{
	uint32_t n = (uint32_t) (c->values.len / (type_is_number(c->type) ? sizeof(int64_t) : sizeof(uint32_t)));

	buffer_put(&c->block_ends, &n, sizeof(n));
}

/* Tries to turn the numbers into codes; on success values holds codes. */
static bool
try_number_dictionary(Column *c)
{
	int64_t  *values = (int64_t *) c->values.data;
	size_t    n = c->values.len / sizeof(int64_t);
	size_t    limit = c->n_constants + n / 4 + 1;
	uint32_t *codes = (uint32_t *) c->values.data;
	size_t    done;
	uint32_t  code;

	if (limit > c->n_constants + NUMBER_DICTIONARY_MAX)
		limit = c->n_constants + NUMBER_DICTIONARY_MAX;
	for (done = 0; done < n && column_n_entries(c) <= limit; done++)
		if (!intern_number(c, values[done], &code))
			return false;
	if (done < n)
	{
		/* too many: only the constants stay */
		c->entries.len = c->n_constants * sizeof(int64_t);
		free_slots(c);
		return true;
	}
	/* codes are half as wide, so they can overwrite what was read */
	for (size_t i = 0; i < n; i++)
	{
		if (!intern_number(c, values[i], &code))
			return false;
		memcpy(&codes[i], &code, sizeof(code));
	}
	c->coded = true;
	return true;
}

bool
column_decide(Column *c)
{
	bool done = true;

	if (c->values.len == 0)
		c->coded = true;
	else if (type_is_number(c->type))
		done = try_number_dictionary(c);
	else
	{
		uint64_t n_new = column_n_entries(c) - c->n_constants;
		uint64_t n_values = c->values.len / sizeof(uint32_t);

		c->coded = !c->no_dictionary && n_new * 2 <= n_values &&
		           (n_new <= DICTIONARY_SMALL || n_new * DICTIONARY_FRACTION <= n_values);
	}
	free_slots(c);
	return done && !c->block_ends.failed;
}

static inline int
hex_value(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return -1;
}

/* Packs canonical UUID text or plain hexadecimal text into "out"; false if it is neither. */
static bool
pack_hex(const TextEntry *entry, bool uuid, uint8_t *out)
{
	int high = -1;

	for (uint32_t i = 0; i < entry->len; i++)
	{
		int v;

		if (uuid && (i == 8 || i == 13 || i == 18 || i == 23))
		{
			if (entry->data[i] != '-')
				return false;
			continue;
		}
		v = hex_value(entry->data[i]);
		if (v < 0)
			return false;
		if (high < 0)
			high = v;
		else
		{
			*out++ = (uint8_t) (high << 4 | v);
			high = -1;
		}
	}
	return true;
}

/* Writes texts as packed hexadecimal if all of them are. */
static bool
write_hex_block(const TextEntry *entries, const uint32_t *index, uint32_t n, Buffer *data, Buffer *payload)
{
	uint32_t len = entries[index[0]].len;
	bool     uuid = len == 36;
	uint32_t packed = uuid ? 16 : len / 2;
	uint8_t *to;

	if (len < 8 || len % 2 != 0 || len > 128)
		return false;
	to = buffer_reserve(payload, (size_t) n * packed);
	if (to == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++, to += packed)
		if (!pack_hex(&entries[index[i]], uuid, to))
			return false;
	payload->len += (size_t) n * packed;
	buffer_put_u8(data, uuid ? ENCODING_UUID : ENCODING_HEX);
	if (!uuid)
		buffer_put_varint(data, len);
	return true;
}

/* True if the payload is worth compressing. */
static bool
write_text_block(const Column *c, const uint32_t *index, uint32_t n, Buffer *data, Buffer *payload)
{
	const TextEntry *entries = (const TextEntry *) c->entries.data;
	bool             same = true;

	for (uint32_t i = 1; same && i < n; i++)
		same = entries[index[i]].len == entries[index[0]].len;
	if (same && c->type == ANY_STRING && write_hex_block(entries, index, n, data, payload))
		return false;
	if (same)
	{
		buffer_put_u8(data, ENCODING_FIXED);
		buffer_put_varint(data, entries[index[0]].len);
	}
	else
	{
		buffer_put_u8(data, ENCODING_LENGTHS);
		for (uint32_t i = 0; i < n; i++)
			buffer_put_varint(data, entries[index[i]].len);
	}
	for (uint32_t i = 0; i < n; i++)
		buffer_put(payload, entries[index[i]].data, entries[index[i]].len);
	return true;
}

static void
put_codes(const uint32_t *codes, uint32_t n, uint32_t n_entries, Buffer *data)
{
	int      width = code_width(n_entries);
	uint8_t *to;

	to = buffer_reserve(data, (size_t) n * width);
	if (to == NULL)
		return;
	for (int plane = 0; plane < width; plane++)
		for (uint32_t i = 0; i < n; i++)
			*to++ = (uint8_t) (codes[i] >> (8 * plane));
	data->len += (size_t) n * width;
}

/*
 * Text with a dictionary of the block, if that pays.  True if the payload is
 * worth compressing.
 */
static bool
write_local_block(Column *c, const uint32_t *index, uint32_t n, Buffer *data, Buffer *payload)
{
	uint32_t *local;
	uint32_t *distinct;
	uint32_t *codes;
	uint32_t  n_distinct = 0;
	Buffer    scratch;
	bool      compressible;

	if (c->no_dictionary || n < 4)
		return write_text_block(c, index, n, data, payload);
	if (c->local_codes.len == 0)
	{
		size_t size = (size_t) column_n_entries(c) * sizeof(uint32_t);

		if (buffer_reserve(&c->local_codes, size) == NULL)
		{
			data->failed = true;
			return false;
		}
		memset(c->local_codes.data, 0, size);
		c->local_codes.len = size;
	}
	local = (uint32_t *) c->local_codes.data;
	buffer_init(&scratch, c->values.allocator);
	distinct = (uint32_t *) buffer_reserve(&scratch, (size_t) n * 2 * sizeof(uint32_t));
	if (distinct == NULL)
	{
		data->failed = true;
		return false;
	}
	codes = distinct + n;
	for (uint32_t i = 0; i < n; i++)
	{
		if (local[index[i]] == 0)
		{
			distinct[n_distinct++] = index[i];
			local[index[i]] = n_distinct;
		}
		codes[i] = local[index[i]] - 1;
	}
	for (uint32_t i = 0; i < n_distinct; i++)
		local[distinct[i]] = 0;
	if ((uint64_t) n_distinct * 4 > (uint64_t) n * 3)
		compressible = write_text_block(c, index, n, data, payload);
	else
	{
		buffer_put_u8(data, ENCODING_LOCAL);
		buffer_put_varint(data, n_distinct);
		put_codes(codes, n, n_distinct, data);
		compressible = write_text_block(c, distinct, n_distinct, data, payload);
	}
	buffer_free(&scratch);
	return compressible;
}

void
column_write_block(Column *c, uint32_t number, uint32_t block, Sections *sections, Buffer *data, Buffer *payload)
{
	const uint32_t *ends = (const uint32_t *) c->block_ends.data;
	uint32_t        begin = block == 0 ? 0 : ends[block - 1];
	uint32_t        n = ends[block] - begin;
	bool            compressible = false;

	if (n == 0)
		return;
	data->len = payload->len = 0;
	if (c->coded)
	{
		buffer_put_u8(data, ENCODING_CODES);
		put_codes((const uint32_t *) c->values.data + begin, n, column_n_entries(c), data);
	}
	else if (c->type == ANY_DOUBLE)
	{
		buffer_put_u8(data, ENCODING_PLANES);
		pack_planes(data, (const uint64_t *) c->values.data + begin, n, 8);
	}
	else if (type_is_number(c->type))
		pack_numbers(data, payload, (const int64_t *) c->values.data + begin, n);
	else
		compressible = write_local_block(c, (const uint32_t *) c->values.data + begin, n, data, payload);
	if (data->failed || payload->failed)
	{
		sections->out->failed = true;
		return;
	}
	sections_put(sections, SECTION(COLUMN_STREAM(number, COLUMN_DATA), block), data->data, data->len, true);
	sections_put(sections, SECTION(COLUMN_STREAM(number, COLUMN_PAYLOAD), block), payload->data, payload->len, compressible);
}

void
column_write_dictionary(Column *c, uint32_t number, Sections *sections, Buffer *scratch)
{
	uint32_t n = column_n_dictionary(c);

	scratch->len = 0;
	if (c->type == ANY_INT || c->type == ANY_BOOL)
		for (uint32_t i = 0; i < n; i++)
			buffer_put_varint(scratch, zigzag(((const int64_t *) c->entries.data)[i]));
	else if (c->type == ANY_DOUBLE)
		for (uint32_t i = 0; i < n; i++)
			buffer_put_u64(scratch, ((const uint64_t *) c->entries.data)[i]);
	else
	{
		const TextEntry *entries = (const TextEntry *) c->entries.data;

		for (uint32_t i = 0; i < n; i++)
			buffer_put_varint(scratch, entries[i].len);
		for (uint32_t i = 0; i < n; i++)
			buffer_put(scratch, entries[i].data, entries[i].len);
	}
	if (scratch->failed)
		sections->out->failed = true;
	else
		sections_put(sections, SECTION(COLUMN_STREAM(number, COLUMN_DICTIONARY), 0), scratch->data, scratch->len, true);
}

/* How many different numbers there are at most. */
static uint32_t
count_numbers(const Column *c, uint32_t n)
{
	const int64_t       *values = (const int64_t *) c->values.data;
	const SpanAllocator *a = c->values.allocator;
	int64_t              min = values[0];
	int64_t              max = values[0];
	uint64_t             range;
	uint8_t             *seen;
	uint32_t             count = 0;

	for (uint32_t i = 1; i < n; i++)
	{
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
	}
	range = (uint64_t) max - (uint64_t) min;
	if (range >= NUMBER_BITMAP_RANGE)
		return n;
	seen = a->alloc(a->arg, range / 8 + 1);
	if (seen == NULL)
		return n;
	memset(seen, 0, range / 8 + 1);
	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t bit = (uint64_t) values[i] - (uint64_t) min;

		count += !(seen[bit / 8] & (1 << bit % 8));
		seen[bit / 8] |= (uint8_t) (1 << bit % 8);
	}
	a->release(a->arg, seen);
	return count;
}

bool
column_write_bloom(Column *c, uint32_t number, Sections *sections, Buffer *scratch)
{
	bool     numbers = type_is_number(c->type);
	uint32_t n_entries = numbers ? column_n_dictionary(c) : column_n_entries(c);
	uint32_t n_values = numbers && !c->coded ? (uint32_t) (c->values.len / sizeof(int64_t)) : 0;
	size_t   size = bloom_size(n_entries + (n_values > 0 ? count_numbers(c, n_values) : 0));
	AnyValue value = {.type = c->type};
	uint64_t hash;
	uint8_t *filter;

	if ((c->coded && n_entries < BLOOM_MIN_ENTRIES) ||
	    c->type == ANY_ARRAY || c->type == ANY_KVLIST || c->type == ANY_EMPTY || c->type == ANY_BOOL)
		return true;
	scratch->len = 0;
	filter = buffer_reserve(scratch, size);
	if (filter == NULL)
		return false;
	memset(filter, 0, size);
	for (uint32_t i = 0; i < n_entries; i++)
	{
		if (numbers)
			memcpy(&value.u, (const int64_t *) c->entries.data + i, 8);
		else
		{
			value.u.data = ((const TextEntry *) c->entries.data)[i].data;
			value.len = ((const TextEntry *) c->entries.data)[i].len;
		}
		if (bloom_value_hash(&value, &hash))
			bloom_add(filter, size, hash);
	}
	for (uint32_t i = 0; i < n_values; i++)
	{
		memcpy(&value.u, (const int64_t *) c->values.data + i, 8);
		if (bloom_value_hash(&value, &hash))
			bloom_add(filter, size, hash);
	}
	sections_put(sections, SECTION(COLUMN_STREAM(number, COLUMN_BLOOM), 0), filter, size, false);
	return true;
}
