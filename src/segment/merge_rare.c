/*-------------------------------------------------------------------------
 *
 * merge_rare.c
 *	  Which attributes have columns in a target of a merge.
 *
 * A key that is rare in one source may have a column in the target, and the
 * other way round.  Rows that this is about are made again.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/merging.h"

#include "segment/codec.h"

/* One attribute of a row that is made again. */
typedef struct Attribute
{
	uint32_t position; /* of those of the overflow column */
	uint32_t key;      /* string id */
	uint32_t pool;     /* of those that have one */
	int64_t  value;    /* in the pool */
	AnyValue in_place; /* of the others */
	SpanText bytes;    /* the same, as stored */
	bool     extra;    /* came from the overflow column */
} Attribute;

typedef struct Rework
{
	SegmentMerge *m;
	ColumnSet    *columns;
	Buffer        counts; /* uint32_t[N_TABLES] by string id */
	Buffer        list;   /* Attribute: those of the row in order */
	Buffer        extras; /* Attribute: those of its overflow column */
	Buffer        bytes;  /* of the new overflow column */
	Buffer        pools;  /* of the new kind */
	Buffer        values; /* units of the new row */
	Buffer        row;    /* the new row's values, events and links */
	SpanError    *error;
} Rework;

static void
touch_kind(SegmentMerge *m, MergeKind *kind)
{
	if (kind->serial == m->serial)
		return;
	kind->serial = m->serial;
	kind->rows = 0;
	kind->rare = false;
	memset(kind->shape, 0, sizeof(kind->shape));
}

static SpanText
overflow_of(const SegmentMerge *m, const MergeShape *shape, const uint32_t *values)
{
	const MergeItem *item = &shape->items[shape->overflow];
	const TextEntry *entries = (const TextEntry *) merge_pool(m, item->pool)->column.entries.data;
	int64_t          code = merge_value(item, values);

	return span_text(entries[code].data, entries[code].len);
}

/* Reads an overflow column's value into "extras". */
static bool
get_extras(Rework *w, SpanText text)
{
	SegmentMerge *m = w->m;
	Cursor        in = cursor_over((const uint8_t *) text.data, text.len);

	w->extras.len = 0;
	while (cursor_left(&in) >= 3 && !in.failed)
	{
		Attribute      a = {.extra = true};
		SpanText       key;
		const uint8_t *from;

		a.position = cursor_number(&in, UINT32_MAX);
		key = cursor_text(&in);
		from = in.at;
		if (in.failed || !value_get(&in, &m->block_arena, false, &a.in_place))
			break;
		a.bytes = span_text((const char *) from, (uint32_t) (in.at - from));
		a.key = span_batch_string(m->batch, key);
		if (a.key == SPAN_BATCH_NONE)
			return segment_no_memory(w->error);
		buffer_put(&w->extras, &a, sizeof(a));
	}
	if (cursor_left(&in) != 0)
		return in.failed ? segment_corrupt(w->error, "bad rare attributes") : segment_no_memory(w->error);
	return w->extras.failed ? segment_no_memory(w->error) : true;
}

static bool
count_key(Rework *w, TableId table, uint32_t key, uint32_t n)
{
	size_t    need = (key + (size_t) 1) * N_TABLES * sizeof(uint32_t);
	uint32_t *count;

	if (w->counts.len < need)
	{
		uint8_t *more = buffer_reserve(&w->counts, need - w->counts.len);

		if (more == NULL)
			return segment_no_memory(w->error);
		memset(more, 0, need - w->counts.len);
		w->counts.len = need;
	}
	count = (uint32_t *) w->counts.data + (size_t) key * N_TABLES + table;
	*count = n > UINT32_MAX - *count ? UINT32_MAX : *count + n;
	return true;
}

/* A row, an event or a link. */
static bool
count_part(Rework *w, const MergeShape *shape, const uint32_t *values)
{
	touch_kind(w->m, shape->kind);
	shape->kind->rows++;
	if (shape->overflow == UINT32_MAX)
		return true;
	if (!get_extras(w, overflow_of(w->m, shape, values)))
		return false;
	for (uint32_t i = 0; i < w->extras.len / sizeof(Attribute); i++)
		if (!count_key(w, shape->kind->table, ((const Attribute *) w->extras.data)[i].key, 1))
			return false;
	arena_rewind(&w->m->block_arena, 64 * 1024);
	return true;
}

static bool
count_keys(Rework *w, uint32_t first, uint32_t end)
{
	SegmentMerge *m = w->m;

	for (uint32_t i = first; i < end; i++)
	{
		const MergeRow   *row = merge_rows(m)[i];
		const MergeShape *shape = merge_shape(m, row->shape);
		const uint32_t   *at = row->values + shape->units;

		if (!count_part(w, shape, row->values))
			return false;
		for (int links = 0; links < 2; links++)
			for (uint32_t n = merge_children(shape, !links, row->values); n > 0; n--)
			{
				const MergeShape *child = merge_shape(m, *at);

				at += links ? LINK_UNITS : EVENT_UNITS;
				if (!count_part(w, child, at))
					return false;
				at += child->units;
			}
	}
	for (uint32_t i = 0; i < m->kinds.len / sizeof(MergeKind *); i++)
	{
		const MergeKind *kind = ((MergeKind **) m->kinds.data)[i];

		for (uint32_t k = 0; kind->serial == m->serial && k < kind->n_items; k++)
		{
			const Column *c = &merge_pool(m, kind->pools[k])->column;

			if (!c->field && !count_key(w, kind->table, c->key, kind->rows))
				return false;
		}
	}
	return true;
}

static inline bool
key_is_rare(const Rework *w, TableId table, uint32_t key)
{
	return w->columns->key_slot[table][key] == RARE_KEY;
}

static void
mark_kinds(Rework *w)
{
	SegmentMerge *m = w->m;

	for (uint32_t i = 0; i < m->kinds.len / sizeof(MergeKind *); i++)
	{
		MergeKind *kind = ((MergeKind **) m->kinds.data)[i];

		for (uint32_t k = 0; kind->serial == m->serial && k < kind->n_items; k++)
		{
			const Column *c = &merge_pool(m, kind->pools[k])->column;

			kind->rare |= !c->field && key_is_rare(w, kind->table, c->key);
		}
	}
}

/* ---------------------------------------------------------- rows made again */

/* The attributes in order: those of the overflow column between the others. */
static bool
list_attributes(Rework *w, const MergeShape *shape, const uint32_t *values)
{
	const SegmentMerge *m = w->m;
	const Attribute    *extras = (const Attribute *) w->extras.data;
	uint32_t            n_extras = (uint32_t) (w->extras.len / sizeof(Attribute));
	uint32_t            taken = 0;
	uint32_t            ordinal = 0;

	w->list.len = 0;
	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		const Column *c = &merge_pool(m, shape->items[k].pool)->column;
		Attribute     a = {.key = c->key, .pool = shape->items[k].pool};

		if (c->field)
			continue;
		while (taken < n_extras && extras[taken].position <= ordinal + taken)
			buffer_put(&w->list, &extras[taken++], sizeof(Attribute));
		a.value = merge_value(&shape->items[k], values);
		buffer_put(&w->list, &a, sizeof(a));
		ordinal++;
	}
	while (taken < n_extras)
		buffer_put(&w->list, &extras[taken++], sizeof(Attribute));
	return w->list.failed ? segment_no_memory(w->error) : true;
}

/* A value of a pool; of nested types only the type, and the bytes. */
static void
pool_value(const SegmentMerge *m, Attribute *a)
{
	const Column    *c = &merge_pool(m, a->pool)->column;
	const TextEntry *entry;

	a->in_place.type = c->type;
	a->in_place.len = 0;
	if (c->type == ANY_BOOL)
		a->in_place.u.boolean = a->value != 0;
	else if (type_is_number(c->type))
		memcpy(&a->in_place.u, &a->value, 8);
	else
	{
		entry = (const TextEntry *) c->entries.data + a->value;
		a->bytes = span_text(entry->data, entry->len);
		a->in_place.u.data = entry->data;
		a->in_place.len = entry->len;
	}
}

/* An attribute into the overflow column. */
static void
put_rare(Rework *w, TableId table, Attribute *a, uint32_t position)
{
	KeyValue kv = {.key = w->m->batch->strings[a->key], .key_id = a->key};
	bool     nested;

	if (!a->extra)
		pool_value(w->m, a);
	nested = a->in_place.type == ANY_ARRAY || a->in_place.type == ANY_KVLIST || a->in_place.type == ANY_EMPTY;
	buffer_put_varint(&w->bytes, position);
	buffer_put_text(&w->bytes, kv.key);
	if (a->extra || nested)
		buffer_put(&w->bytes, a->bytes.data, a->bytes.len);
	else
		value_put(&w->bytes, &a->in_place);
	kv.value = a->in_place;
	rows_note_rare(w->columns, table, &kv);
}

static void
put_value(Rework *w, uint32_t pool, int64_t value)
{
	buffer_put(&w->pools, &pool, sizeof(pool));
	if (type_is_number(merge_pool(w->m, pool)->column.type))
		units_put_number(&w->values, value);
	else
		units_put(&w->values, (uint32_t) value);
}

/* An attribute of the overflow column into a column of its own. */
static bool
give_column(Rework *w, TableId table, Attribute *a)
{
	SegmentMerge *m = w->m;
	Pool         *pool;

	a->pool = merge_attribute_pool(m, table, a->key, a->in_place.type);
	if (a->pool == UINT32_MAX)
		return segment_no_memory(w->error);
	pool = merge_pool(m, a->pool);
	return merge_intern_value(m, pool, &a->in_place, &a->value, w->error);
}

/* Another shape and values for a row, an event or a link: appended to "row". */
static bool
make_part(Rework *w, const MergeShape *shape, const uint32_t *values, uint32_t *number)
{
	SegmentMerge *m = w->m;
	TableId       table = shape->kind->table;
	uint32_t      n = (uint32_t) (w->list.len / sizeof(Attribute));
	Attribute    *list = (Attribute *) w->list.data;
	uint32_t      overflow = table == TABLE_SPAN ? FIELD_SPAN_OVERFLOW : table == TABLE_EVENT ? FIELD_EVENT_OVERFLOW :
	                                                                                            FIELD_LINK_OVERFLOW;
	uint32_t      code;
	MergeKind    *kind;

	w->bytes.len = w->pools.len = w->values.len = 0;
	for (uint32_t k = 0; k < shape->n_items; k++)
		if (merge_pool(m, shape->items[k].pool)->column.field && k != shape->overflow)
			put_value(w, shape->items[k].pool, merge_value(&shape->items[k], values));
	for (uint32_t i = 0; i < n; i++)
		if (key_is_rare(w, table, list[i].key))
			put_rare(w, table, &list[i], i);
	if (w->bytes.failed || w->bytes.len > UINT32_MAX)
		return segment_no_memory(w->error);
	if (w->bytes.len > 0)
	{
		if (!column_intern(&merge_pool(m, overflow)->column, span_text((const char *) w->bytes.data, (uint32_t) w->bytes.len),
		                   &m->arena, &code))
			return segment_no_memory(w->error);
		put_value(w, overflow, code);
	}
	for (uint32_t i = 0; i < n; i++)
		if (!key_is_rare(w, table, list[i].key))
		{
			if (list[i].extra && !give_column(w, table, &list[i]))
				return false;
			put_value(w, list[i].pool, list[i].value);
		}
	if (w->pools.failed || w->values.failed)
		return segment_no_memory(w->error);
	kind = merge_kind(m, table, shape->kind->fields, (const uint32_t *) w->pools.data, (uint32_t) (w->pools.len / sizeof(uint32_t)));
	if (kind == NULL)
		return segment_no_memory(w->error);
	touch_kind(m, kind);
	if (kind->plain == UINT32_MAX)
	{
		MergeShape *plain = merge_add_shape(m, kind, &kind->plain);

		if (plain == NULL)
		{
			kind->plain = UINT32_MAX;
			return segment_no_memory(w->error);
		}
		merge_lay_out(plain);
	}
	*number = kind->plain;
	return true;
}

/* One part of a row, whose values go to "row"; *changed if they or the shape are others. */
static bool
rework_part(Rework *w, const MergeShape *shape, const uint32_t *values, uint32_t *number, bool *changed)
{
	TableId table = shape->kind->table;
	bool    fits = !shape->kind->rare;

	w->extras.len = 0;
	if (shape->overflow != UINT32_MAX && !get_extras(w, overflow_of(w->m, shape, values)))
		return false;
	for (uint32_t i = 0; fits && i < w->extras.len / sizeof(Attribute); i++)
		fits = key_is_rare(w, table, ((const Attribute *) w->extras.data)[i].key);
	if (fits)
	{
		for (uint32_t i = 0; i < w->extras.len / sizeof(Attribute); i++)
		{
			const Attribute *a = (const Attribute *) w->extras.data + i;
			KeyValue         kv = {.key = w->m->batch->strings[a->key], .key_id = a->key, .value = a->in_place};

			rows_note_rare(w->columns, table, &kv);
		}
		buffer_put(&w->row, values, shape->units * sizeof(uint32_t));
	}
	else
	{
		if (!list_attributes(w, shape, values) || !make_part(w, shape, values, number))
			return false;
		buffer_put(&w->row, w->values.data, w->values.len);
		*changed = true;
	}
	arena_rewind(&w->m->block_arena, 64 * 1024);
	return true;
}

static bool
rework_row(Rework *w, MergeRow **row)
{
	SegmentMerge     *m = w->m;
	const MergeRow   *old = *row;
	const MergeShape *shape = merge_shape(m, old->shape);
	const uint32_t   *at = old->values + shape->units;
	uint32_t          number = old->shape;
	bool              changed = false;
	MergeRow         *made;

	w->row.len = 0;
	if (!rework_part(w, shape, old->values, &number, &changed))
		return false;
	for (int links = 0; links < 2; links++)
		for (uint32_t n = merge_children(shape, !links, old->values); n > 0; n--)
		{
			const MergeShape *child = merge_shape(m, *at);
			uint32_t          head = links ? LINK_UNITS : EVENT_UNITS;
			size_t            begin = w->row.len;
			uint32_t          child_number = *at;

			buffer_put(&w->row, at, head * sizeof(uint32_t));
			at += head;
			if (!rework_part(w, child, at, &child_number, &changed))
				return false;
			if (w->row.failed)
				return segment_no_memory(w->error);
			memcpy(w->row.data + begin, &child_number, sizeof(child_number));
			at += child->units;
		}
	if (w->row.failed)
		return segment_no_memory(w->error);
	if (!changed)
		return true;
	made = arena_alloc(&m->arena, sizeof(MergeRow) + w->row.len);
	if (made == NULL)
		return segment_no_memory(w->error);
	memcpy(made, old, sizeof(MergeRow));
	made->shape = number;
	if (w->row.len > 0)
		memcpy(made->values, w->row.data, w->row.len);
	*row = made;
	return true;
}

/* Does a part of the row have rare attributes, or such that have become rare? */
static bool
must_look(const SegmentMerge *m, const MergeRow *row)
{
	const MergeShape *shape = merge_shape(m, row->shape);
	const uint32_t   *at = row->values + shape->units;

	if (shape->overflow != UINT32_MAX || shape->kind->rare)
		return true;
	for (int links = 0; links < 2; links++)
		for (uint32_t n = merge_children(shape, !links, row->values); n > 0; n--)
		{
			const MergeShape *child = merge_shape(m, *at);

			if (child->overflow != UINT32_MAX || child->kind->rare)
				return true;
			at += (links ? LINK_UNITS : EVENT_UNITS) + child->units;
		}
	return false;
}

static bool
settle(Rework *w, uint32_t first, uint32_t end)
{
	SegmentMerge *m = w->m;

	if (!count_keys(w, first, end))
		return false;
	if (w->counts.len < (size_t) m->batch->n_strings * N_TABLES * sizeof(uint32_t) &&
	    !count_key(w, TABLE_SPAN, m->batch->n_strings - 1, 0))
		return false;
	if (!columns_init(w->columns, &m->allocator, m->batch->n_strings))
		return segment_no_memory(w->error);
	rows_mark_rare_keys((const uint32_t *) w->counts.data, end - first, w->columns);
	mark_kinds(w);
	for (uint32_t i = first; i < end; i++)
		if (must_look(m, merge_rows(m)[i]) && !rework_row(w, &merge_rows(m)[i]))
			return false;
	return true;
}

bool
merge_settle_keys(SegmentMerge *m, uint32_t first, uint32_t end, ColumnSet *columns, SpanError *error)
{
	Rework  w = {.m = m, .columns = columns, .error = error};
	Buffer *buffers[] = {&w.counts, &w.list, &w.extras, &w.bytes, &w.pools, &w.values, &w.row};
	bool    ok;

	for (int i = 0; i < 7; i++)
		buffer_init(buffers[i], &m->allocator);
	arena_reset(&m->block_arena);
	ok = settle(&w, first, end);
	for (int i = 0; i < 7; i++)
		buffer_free(buffers[i]);
	return ok;
}
