/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  Spans, events and links as rows of the tables.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/rows.h"

#include "segment/bloom.h"
#include "segment/codec.h"

/* A key has a column if it occurs in at least one of this many rows. */
#define RARE_FRACTION 1000

/* Below this many rows every key has a column. */
#define RARE_MIN_ROWS 4096

/* Traces up to this length are searched for parents without a table. */
#define LINEAR_PARENTS 12

void
rows_init(RowBuilder *b, const SpanBatch *batch, ColumnSet *columns)
{
	memset(b, 0, sizeof(*b));
	b->batch = batch;
	b->columns = columns;
	buffer_init(&b->overflow, columns->allocator);
}

void
rows_free(RowBuilder *b)
{
	if (b->row.items != NULL)
		b->columns->allocator->release(b->columns->allocator->arg, b->row.items);
	if (b->columns != NULL)
		buffer_free(&b->overflow);
}

/* Empties the row and makes room for "n" items. */
static bool
start_row(RowBuilder *b, uint32_t n)
{
	const SpanAllocator *a = b->columns->allocator;

	b->row.n_items = 0;
	memset(b->row.fields, 0, sizeof(b->row.fields));
	if (n <= b->row.size)
		return true;
	if (b->row.items != NULL)
		a->release(a->arg, b->row.items);
	b->row.items = a->alloc(a->arg, (size_t) n * 2 * sizeof(RowItem));
	b->row.size = b->row.items == NULL ? 0 : n * 2;
	return b->row.items != NULL;
}

static inline void
add_number(Row *row, uint32_t column, int64_t value)
{
	RowItem *item = &row->items[row->n_items++];

	item->column = column;
	item->value.type = ANY_INT;
	item->value.len = 0;
	item->value.u.integer = value;
}

static inline void
add_bytes(Row *row, uint32_t column, uint8_t type, const void *data, uint32_t len)
{
	RowItem *item = &row->items[row->n_items++];

	item->column = column;
	item->value.type = type;
	item->value.len = len;
	item->value.u.data = data;
}

void
rows_note_rare(ColumnSet *columns, TableId table, const KeyValue *kv)
{
	uint64_t hash;

	columns->rare_types[table][kv->key_id] |= (uint8_t) (1 << (kv->value.type & 7));
	if (bloom_value_hash(&kv->value, &hash))
	{
		hash = bloom_key_hash(kv->key, hash);
		buffer_put(&columns->rare_hashes[table], &hash, sizeof(hash));
	}
}

/* The rare ones go to the overflow item, which was put at "overflow_at". */
static bool
add_attributes(RowBuilder *b, TableId table, AttributeList list, uint32_t overflow_column, bool fill)
{
	Row     *row = &b->row;
	uint32_t overflow_at = row->n_items;
	bool     overflow = false;

	for (uint32_t i = 0; i < list.count; i++)
	{
		const KeyValue *kv = &list.items[i];
		uint32_t        column;

		if (!columns_number(b->columns, table, kv->key_id, kv->value.type, &column))
			return false;
		if (column != RARE_KEY)
		{
			row->items[row->n_items].column = column;
			row->items[row->n_items++].value = kv->value;
			continue;
		}
		if (!overflow)
			b->overflow.len = 0;
		overflow = true;
		if (fill)
		{
			buffer_put_varint(&b->overflow, i);
			buffer_put_text(&b->overflow, kv->key);
			value_put(&b->overflow, &kv->value);
			rows_note_rare(b->columns, table, kv);
		}
	}
	if (overflow)
	{
		uint32_t    n = row->n_items;
		const void *bytes = NULL;

		if (fill)
		{
			bytes = b->overflow.failed ? NULL : arena_copy(&b->columns->arena, b->overflow.data, b->overflow.len);
			if (bytes == NULL)
				return false;
		}
		memmove(&row->items[overflow_at + 1], &row->items[overflow_at], (n - overflow_at) * sizeof(RowItem));
		row->n_items = overflow_at;
		add_bytes(row, overflow_column, ANY_BYTES, bytes, (uint32_t) b->overflow.len);
		row->n_items = n + 1;
	}
	return true;
}

bool
rows_span(RowBuilder *b, const Span *span, int32_t parent, bool fill)
{
	Row *row = &b->row;

	if (span->attributes.count > UINT32_MAX / 8 || !start_row(b, span->attributes.count + N_FIELD_COLUMNS))
		return false;
	row->fields[0] = span->scope;
	row->fields[1] = span->name;
	row->fields[2] = (uint32_t) span->kind;
	row->fields[3] = (uint32_t) span->status_code;
	if (parent == PARENT_ELSEWHERE)
		add_bytes(row, FIELD_PARENT_ID, ANY_BYTES, &span->parent_span_id, SPAN_ID_LEN);
	else if (parent != PARENT_NONE)
		add_number(row, FIELD_PARENT_DISTANCE, parent);
	if (span->status_message.len > 0)
		add_bytes(row, FIELD_STATUS_MESSAGE, ANY_STRING, span->status_message.data, span->status_message.len);
	if (span->trace_state.len > 0)
		add_bytes(row, FIELD_TRACE_STATE, ANY_STRING, span->trace_state.data, span->trace_state.len);
	if (span->flags != 0)
		add_number(row, FIELD_FLAGS, span->flags);
	if (span->dropped_attributes_count != 0)
		add_number(row, FIELD_DROPPED_ATTRIBUTES, span->dropped_attributes_count);
	if (span->dropped_events_count != 0)
		add_number(row, FIELD_DROPPED_EVENTS, span->dropped_events_count);
	if (span->dropped_links_count != 0)
		add_number(row, FIELD_DROPPED_LINKS, span->dropped_links_count);
	if (span->n_events != 0)
		add_number(row, FIELD_N_EVENTS, span->n_events);
	if (span->n_links != 0)
		add_number(row, FIELD_N_LINKS, span->n_links);
	return add_attributes(b, TABLE_SPAN, span->attributes, FIELD_SPAN_OVERFLOW, fill);
}

bool
rows_event(RowBuilder *b, const SpanEvent *event, bool fill)
{
	Row *row = &b->row;

	if (event->attributes.count > UINT32_MAX / 8 || !start_row(b, event->attributes.count + N_FIELD_COLUMNS))
		return false;
	if (event->name.len > 0)
		add_bytes(row, FIELD_EVENT_NAME, ANY_STRING, event->name.data, event->name.len);
	if (event->dropped_attributes_count != 0)
		add_number(row, FIELD_EVENT_DROPPED, event->dropped_attributes_count);
	return add_attributes(b, TABLE_EVENT, event->attributes, FIELD_EVENT_OVERFLOW, fill);
}

bool
rows_link(RowBuilder *b, const SpanLink *link, bool fill)
{
	Row *row = &b->row;

	if (link->attributes.count > UINT32_MAX / 8 || !start_row(b, link->attributes.count + N_FIELD_COLUMNS))
		return false;
	if (link->trace_state.len > 0)
		add_bytes(row, FIELD_LINK_TRACE_STATE, ANY_STRING, link->trace_state.data, link->trace_state.len);
	if (link->flags != 0)
		add_number(row, FIELD_LINK_FLAGS, link->flags);
	if (link->dropped_attributes_count != 0)
		add_number(row, FIELD_LINK_DROPPED, link->dropped_attributes_count);
	return add_attributes(b, TABLE_LINK, link->attributes, FIELD_LINK_OVERFLOW, fill);
}

static inline const char *
span_id(const RowIds *ids, const RowOrder *order, uint32_t row)
{
	return ids->base + (order->spans[row] - ids->first) * ids->stride + ids->span_id;
}

/* The parents of rows first .. end - 1, which are of one trace and one block. */
static void
find_parents(const RowIds *ids, const RowOrder *order, uint32_t first, uint32_t end,
             uint32_t *slots, uint32_t n_slots, int32_t *result)
{
	if (n_slots > 0)
	{
		memset(slots, 0, (size_t) n_slots * sizeof(uint32_t));
		/* the first of spans with one id wins */
		for (uint32_t row = end; row-- > first;)
		{
			const char *id = span_id(ids, order, row);
			uint32_t    at = (uint32_t) span_bytes_hash(id, SPAN_ID_LEN, 0) & (n_slots - 1);

			while (slots[at] != 0 &&
			       memcmp(span_id(ids, order, slots[at] - 1), id, SPAN_ID_LEN) != 0)
				at = (at + 1) & (n_slots - 1);
			slots[at] = row + 1;
		}
	}
	for (uint32_t row = first; row < end; row++)
	{
		const char *parent = ids->base + (order->spans[row] - ids->first) * ids->stride + ids->parent;
		uint32_t    found = UINT32_MAX;

		result[row] = PARENT_NONE;
		if (id_is_zero((const uint8_t *) parent, SPAN_ID_LEN))
			continue;
		if (n_slots > 0)
		{
			uint32_t at = (uint32_t) span_bytes_hash(parent, SPAN_ID_LEN, 0) & (n_slots - 1);

			while (slots[at] != 0 &&
			       memcmp(span_id(ids, order, slots[at] - 1), parent, SPAN_ID_LEN) != 0)
				at = (at + 1) & (n_slots - 1);
			if (slots[at] != 0)
				found = slots[at] - 1;
		}
		else
			for (uint32_t other = first; found == UINT32_MAX && other < end; other++)
				if (memcmp(span_id(ids, order, other), parent, SPAN_ID_LEN) == 0)
					found = other;
		result[row] = found == UINT32_MAX ? PARENT_ELSEWHERE : (int32_t) row - (int32_t) found;
	}
}

int32_t *
rows_parents(const RowIds *ids, const RowOrder *order, const SpanAllocator *allocator)
{
	int32_t  *result = allocator->alloc(allocator->arg, (size_t) order->n_rows * sizeof(int32_t) + 1);
	uint32_t *slots = allocator->alloc(allocator->arg, 2 * IMAGE_BLOCK_ROWS * sizeof(uint32_t));

	if (result == NULL || slots == NULL)
	{
		if (result != NULL)
			allocator->release(allocator->arg, result);
		if (slots != NULL)
			allocator->release(allocator->arg, slots);
		return NULL;
	}
	for (uint32_t t = 0; t < order->n_traces; t++)
	{
		uint32_t row = order->traces[t].first_row;
		uint32_t end = row + order->traces[t].count;

		while (row < end)
		{
			uint32_t stop = (row / IMAGE_BLOCK_ROWS + 1) * IMAGE_BLOCK_ROWS;
			uint32_t n_slots = 0;

			stop = stop < end ? stop : end;
			if (stop - row > LINEAR_PARENTS)
				for (n_slots = 32; n_slots < 2 * (stop - row);)
					n_slots *= 2;
			find_parents(ids, order, row, stop, slots, n_slots, result);
			row = stop;
		}
	}
	allocator->release(allocator->arg, slots);
	return result;
}

void
rows_mark_rare_keys(const uint32_t *counts, uint32_t n_rows, ColumnSet *columns)
{
	size_t   n = (size_t) columns->n_strings * N_TABLES;
	uint32_t threshold = n_rows < RARE_MIN_ROWS ? 1 : n_rows / RARE_FRACTION;
	uint32_t regular;

	/* the same threshold for events and links: what counts is the rows of the segment */
	do
	{
		regular = 0;
		for (size_t i = 0; i < n; i++)
			regular += counts[i] != 0 && counts[i] >= threshold;
		if (regular > MAX_KEY_COLUMNS)
			threshold *= 2;
	} while (regular > MAX_KEY_COLUMNS);
	for (size_t i = 0; i < n; i++)
		if (counts[i] < threshold)
			columns->key_slot[i % N_TABLES][i / N_TABLES] = RARE_KEY;
}

static void
count_keys(AttributeList list, TableId table, uint32_t *counts)
{
	for (uint32_t i = 0; i < list.count; i++)
		counts[(size_t) list.items[i].key_id * N_TABLES + table]++;
}

bool
rows_mark_rare(const SpanBatch *batch, uint32_t first, uint32_t n_rows, ColumnSet *columns)
{
	const SpanAllocator *a = columns->allocator;
	size_t               size = (size_t) columns->n_strings * N_TABLES * sizeof(uint32_t);
	uint32_t            *counts;

	/* if there are too many keys then, those that come first have columns */
	if (n_rows < RARE_MIN_ROWS)
		return true;
	counts = a->alloc(a->arg, size);
	if (counts == NULL)
		return false;
	memset(counts, 0, size);
	for (uint32_t row = 0; row < n_rows; row++)
	{
		const Span *span = &batch->spans[first + row];

		count_keys(span->attributes, TABLE_SPAN, counts);
		for (uint32_t i = 0; i < span->n_events; i++)
			count_keys(span->events[i].attributes, TABLE_EVENT, counts);
		for (uint32_t i = 0; i < span->n_links; i++)
			count_keys(span->links[i].attributes, TABLE_LINK, counts);
	}
	rows_mark_rare_keys(counts, n_rows, columns);
	a->release(a->arg, counts);
	return true;
}
