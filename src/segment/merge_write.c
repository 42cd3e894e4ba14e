/*-------------------------------------------------------------------------
 *
 * merge_write.c
 *	  Writes the targets of a merge.
 *
 * As writer.c does, but what a row is and what it has is known by numbers: a
 * row's shape follows from its kind, equal texts have equal codes.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/merging.h"

#include <stdlib.h>

#include "segment/writing.h"

/* Rows to fetch ahead: rows of a trace may come from all sources. */
#define PREFETCH_ROWS 12

/* How a row's parent is stored. */
#define PARENT_FORM(parent) ((parent) == PARENT_NONE ? 0 : (parent) == PARENT_ELSEWHERE ? 2 : \
	                                                                                      1)

/* A target: rows first .. of the merge. */
typedef struct Target
{
	Writer        w;
	SegmentMerge *m;
	uint32_t      first;
	uint32_t     *pools;  /* by column: its pool */
	uint64_t     *values; /* by column: how many values it has */
} Target;

/* ---------------------------------------------------------------- targets */

typedef struct TargetKey
{
	uint32_t tenant;
	uint32_t row; /* so that rows of a target stay in order */
	int64_t  window;
} TargetKey;

static int
compare_keys(const void *a, const void *b)
{
	const TargetKey *x = a;
	const TargetKey *y = b;

	if (x->tenant != y->tenant)
		return x->tenant < y->tenant ? -1 : 1;
	if (x->window != y->window)
		return x->window < y->window ? -1 : 1;
	return x->row < y->row ? -1 : 1;
}

static uint32_t
tenant_of(const SegmentMerge *m, const MergeShape *shape)
{
	return m->batch->resources[m->batch->scopes[shape->kind->fields[0]].resource].tenant;
}

static void
make_keys(const SegmentMerge *m, int64_t (*window)(void *arg, SpanText tenant, int64_t end), void *arg, TargetKey *keys)
{
	for (uint32_t i = 0; i < segment_merge_rows(m); i++)
	{
		const MergeRow *row = merge_rows(m)[i];

		keys[i].row = i;
		keys[i].tenant = tenant_of(m, merge_shape(m, row->shape));
		keys[i].window = window == NULL ? 0 : window(arg, m->batch->strings[keys[i].tenant], row->end > row->start ? row->end : row->start);
	}
}

/* Reorders the rows as the keys are. */
static bool
sort_rows(SegmentMerge *m, TargetKey *keys)
{
	uint32_t   n = segment_merge_rows(m);
	MergeRow **rows = m->allocator.alloc(m->allocator.arg, (size_t) n * sizeof(MergeRow *));

	if (rows == NULL)
		return false;
	qsort(keys, n, sizeof(TargetKey), compare_keys);
	for (uint32_t i = 0; i < n; i++)
		rows[i] = merge_rows(m)[keys[i].row];
	memcpy(m->rows.data, rows, (size_t) n * sizeof(MergeRow *));
	m->allocator.release(m->allocator.arg, rows);
	return true;
}

/* What was for reading is not needed for writing. */
static void
end_reading(SegmentMerge *m)
{
	arena_reset(&m->source.arena);
	arena_reset(&m->block_arena);
	arena_reset(&m->value_arena);
	if (m->trace_slots != NULL)
		m->allocator.release(m->allocator.arg, m->trace_slots);
	m->trace_slots = NULL;
	m->n_trace_slots = 0;
	for (uint32_t i = 0; i < m->pools.len / sizeof(Pool *); i++)
		column_forget_index(&merge_pool(m, i)->column);
}

bool
segment_merge_split(SegmentMerge *m, int64_t (*window)(void *arg, SpanText tenant, int64_t end), void *arg,
                    uint32_t *n_targets, SpanError *error)
{
	uint32_t   n = segment_merge_rows(m);
	TargetKey *keys = m->allocator.alloc(m->allocator.arg, (size_t) n * sizeof(TargetKey) + 1);
	bool       same = true;

	*n_targets = 0;
	m->targets.len = 0;
	end_reading(m);
	if (keys == NULL)
		return segment_no_memory(error);
	make_keys(m, window, arg, keys);
	for (uint32_t i = 1; same && i < n; i++)
		same = keys[i].tenant == keys[0].tenant && keys[i].window == keys[0].window;
	if (!same && !sort_rows(m, keys))
	{
		m->allocator.release(m->allocator.arg, keys);
		return segment_no_memory(error);
	}
	for (uint32_t end = 1; end <= n; end++)
		if (end == n || keys[end].tenant != keys[end - 1].tenant || keys[end].window != keys[end - 1].window)
		{
			buffer_put(&m->targets, &end, sizeof(end));
			++*n_targets;
		}
	m->allocator.release(m->allocator.arg, keys);
	return m->targets.failed ? segment_no_memory(error) : true;
}

/* ------------------------------------------------------------------ order */

static inline MergeRow *
row_at(const Target *t, uint32_t row)
{
	const RowOrder *order = &t->w.order;
	MergeRow      **rows = merge_rows(t->m);

	if (row + PREFETCH_ROWS < order->n_rows)
	{
		const char *ahead = (const char *) rows[order->spans[row + PREFETCH_ROWS]];

		__builtin_prefetch(ahead);
		__builtin_prefetch(ahead + 64);
	}
	return rows[order->spans[row]];
}

/* What the order depends on, by row of the target. */
typedef struct OrderKeys
{
	TraceRun *traces;
	uint32_t *trace_of;
	int64_t  *starts;
} OrderKeys;

static uint32_t
collect_traces(Target *t, OrderKeys *keys)
{
	SegmentMerge *m = t->m;
	MergeTrace   *traces = (MergeTrace *) m->traces.data;
	uint32_t      n = 0;

	for (uint32_t i = 0; i < t->w.order.n_rows; i++)
	{
		const MergeRow *row = merge_rows(m)[t->first + i];
		MergeTrace     *trace = &traces[row->trace];
		int64_t         end = row->end > row->start ? row->end : row->start;
		TraceRun       *run;

		if (trace->serial != m->serial)
		{
			trace->serial = m->serial;
			trace->run = n;
			keys->traces[n++] = (TraceRun){.id = trace->id, .min_start = row->start, .max_end = end};
		}
		run = &keys->traces[trace->run];
		run->count++;
		run->min_start = row->start < run->min_start ? row->start : run->min_start;
		run->max_end = end > run->max_end ? end : run->max_end;
		keys->trace_of[i] = trace->run;
		keys->starts[i] = row->start;
	}
	return n;
}

static bool
order_rows(Target *t, uint32_t count)
{
	const SpanAllocator *a = &t->m->allocator;
	uint32_t             n_traces = (uint32_t) (t->m->traces.len / sizeof(MergeTrace));
	OrderKeys            keys;
	bool                 ok = false;

	/* a target has no more traces than rows */
	n_traces = n_traces < count ? n_traces : count;
	t->w.order.n_rows = count;
	keys.traces = a->alloc(a->arg, (size_t) n_traces * sizeof(TraceRun) + 1);
	keys.trace_of = a->alloc(a->arg, (size_t) count * sizeof(uint32_t) + 1);
	keys.starts = a->alloc(a->arg, (size_t) count * sizeof(int64_t) + 1);
	if (keys.traces != NULL && keys.trace_of != NULL && keys.starts != NULL)
	{
		n_traces = collect_traces(t, &keys);
		ok = segment_order_traces(keys.traces, n_traces, keys.trace_of, 0, count, (const char *) keys.starts,
		                          0, sizeof(int64_t), a, &t->w.order);
	}
	if (keys.traces != NULL)
		a->release(a->arg, keys.traces);
	if (keys.trace_of != NULL)
		a->release(a->arg, keys.trace_of);
	if (keys.starts != NULL)
		a->release(a->arg, keys.starts);
	/* from here on among all rows */
	for (uint32_t i = 0; ok && i < count; i++)
		t->w.order.spans[i] += t->first;
	return ok;
}

typedef struct IdPair
{
	SpanId span_id;
	SpanId parent;
} IdPair;

static bool
find_parents(Target *t)
{
	const SpanAllocator *a = &t->m->allocator;
	uint32_t             n = t->w.order.n_rows;
	IdPair              *pairs = a->alloc(a->arg, (size_t) n * sizeof(IdPair) + 1);
	RowIds               ids;

	if (pairs == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		const MergeRow *row = merge_rows(t->m)[t->first + i];

		pairs[i].span_id = row->span_id;
		pairs[i].parent = row->parent;
	}
	ids.base = (const char *) pairs;
	ids.first = t->first;
	ids.span_id = offsetof(IdPair, span_id);
	ids.parent = offsetof(IdPair, parent);
	ids.stride = sizeof(IdPair);
	t->w.parents = rows_parents(&ids, &t->w.order, a);
	a->release(a->arg, pairs);
	return t->w.parents != NULL;
}

/* ----------------------------------------------------------------- shapes */

/* The column of a pool in the target. */
static bool
pool_column(Target *t, uint32_t pool_number, uint32_t *number)
{
	SegmentMerge *m = t->m;
	Pool         *pool = merge_pool(m, pool_number);
	const Column *c = &pool->column;

	if (pool->serial != m->serial)
	{
		pool->serial = m->serial;
		if (c->field)
			pool->number = pool_number;
		else if (!columns_number(&t->w.columns, c->table, c->key, c->type, &pool->number) || pool->number == RARE_KEY)
			return false;
	}
	*number = pool->number;
	return true;
}

/* The target's shape of a kind. */
static bool
make_shape(Target *t, MergeKind *kind, int form)
{
	uint32_t *columns = arena_alloc(&t->m->block_arena, ((size_t) kind->n_items + 1) * sizeof(uint32_t));
	uint32_t  n = 0;
	uint32_t  index;

	if (columns == NULL)
		return false;
	if (form != 0)
		columns[n++] = form == 1 ? FIELD_PARENT_DISTANCE : FIELD_PARENT_ID;
	for (uint32_t k = 0; k < kind->n_items; k++)
		if (!pool_column(t, kind->pools[k], &columns[n++]))
			return false;
	if (!table_add_shape(&t->w.tables[kind->table], kind->fields, columns, n, &index))
		return false;
	kind->shape[form] = index + 1;
	return true;
}

static bool
same_value(const SegmentMerge *m, uint32_t pool_number, int64_t a, int64_t b)
{
	const Column    *c;
	const TextEntry *entries;

	if (a == b)
		return true;
	c = &merge_pool(m, pool_number)->column;
	/* only of texts that are not interned any more codes differ while they are equal */
	if (!c->no_dictionary)
		return false;
	entries = (const TextEntry *) c->entries.data;
	return entries[a].len == entries[b].len && memcmp(entries[a].data, entries[b].data, entries[a].len) == 0;
}

static void
compare_item(const SegmentMerge *m, const MergeShape *shape, uint32_t k, const uint32_t *values, ShapeItem *item)
{
	if (!item->varying &&
	    !same_value(m, shape->items[k].pool, item->first.u.integer, merge_value(&shape->items[k], values)))
		item->varying = true;
}

/* One row, event or link into its shape. */
static bool
note_part(Target *t, MergeShape *shape, const uint32_t *values, int form, ShapeItem **parent)
{
	SegmentMerge *m = t->m;
	MergeKind    *kind = shape->kind;
	Table        *table = &t->w.tables[kind->table];
	uint32_t      index;
	Shape        *target;
	ShapeItem    *items;

	if (kind->shape[form] == 0 && !make_shape(t, kind, form))
		return false;
	index = kind->shape[form] - 1;
	target = (Shape *) table->shapes.data + index;
	items = (ShapeItem *) table->items.data + target->first_item;
	*parent = items;
	items += form != 0;
	if (target->rows++ == 0)
		for (uint32_t k = 0; k < shape->n_items; k++)
			items[k].first.u.integer = merge_value(&shape->items[k], values);
	else
	{
		for (uint32_t k = 0; shape->serial[form] != m->serial && k < shape->n_items; k++)
			if (shape->items[k].at == MERGE_CONSTANT)
				compare_item(m, shape, k, values, &items[k]);
		for (uint32_t i = 0; i < shape->n_varying; i++)
			compare_item(m, shape, shape->varying[i], values, &items[shape->varying[i]]);
	}
	shape->serial[form] = m->serial;
	buffer_put(&table->row_shapes, &index, sizeof(index));
	return !table->row_shapes.failed;
}

/* The parent is not in the kind. */
static void
note_parent(ShapeItem *item, int form, int32_t distance, const MergeRow *row)
{
	AnyValue value = {.type = form == 1 ? ANY_INT : ANY_BYTES};

	if (form == 1)
		value.u.integer = distance;
	else
	{
		value.len = SPAN_ID_LEN;
		value.u.data = (const char *) &row->parent;
	}
	if (item->first.type == ANY_EMPTY)
		item->first = value;
	else if (!item->varying)
		item->varying = !any_value_equal(&item->first, &value);
}

static bool
note_row(Target *t, uint32_t at, int64_t *zone)
{
	SegmentMerge   *m = t->m;
	const MergeRow *row = row_at(t, at);
	MergeShape     *shape = merge_shape(m, row->shape);
	const uint32_t *next = row->values + shape->units;
	int             form = PARENT_FORM(t->w.parents[at]);
	ShapeItem      *item;

	writer_note_row(&t->w, tenant_of(m, shape), row->start, row->end, zone);
	if (!note_part(t, shape, row->values, form, &item))
		return false;
	if (form != 0)
		note_parent(item, form, t->w.parents[at], row);
	for (int links = 0; links < 2; links++)
		for (uint32_t n = merge_children(shape, !links, row->values); n > 0; n--)
		{
			MergeShape *child = merge_shape(m, *next);

			next += links ? LINK_UNITS : EVENT_UNITS;
			if (!note_part(t, child, next, 0, &item))
				return false;
			next += child->units;
		}
	return true;
}

static bool
find_shapes(Target *t)
{
	Writer  *w = &t->w;
	uint32_t row = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		int64_t zone[3] = {INT64_MAX, INT64_MIN, 0};

		for (; row < writer_block_end(w, block); row++)
			if (!note_row(t, row, zone))
				return false;
		for (int i = 0; i < N_TABLES; i++)
			table_end_block(&w->tables[i]);
		buffer_put(&w->zones, zone, sizeof(zone));
	}
	return !w->zones.failed;
}

/* ----------------------------------------------------------------- values */

/* Room for the pool's codes, which are more than they were. */
static bool
grow_entries(Pool *pool, const SpanAllocator *a)
{
	uint32_t  n = column_n_entries(&pool->column);
	uint32_t *entry = a->alloc(a->arg, (size_t) n * sizeof(uint32_t) + 1);

	if (entry == NULL)
		return false;
	memset(entry, 0, (size_t) n * sizeof(uint32_t));
	if (pool->entry != NULL)
	{
		memcpy(entry, pool->entry, (size_t) pool->n_entry * sizeof(uint32_t));
		a->release(a->arg, pool->entry);
	}
	pool->entry = entry;
	pool->n_entry = n;
	return true;
}

/* The entry of the target's column for a code of the pool. */
static inline bool
pool_entry(Pool *pool, Column *c, uint32_t code, const SpanAllocator *a, uint32_t *index)
{
	if (code >= pool->n_entry && !grow_entries(pool, a))
		return false;
	if (pool->entry[code] == 0)
	{
		TextEntry entry = ((const TextEntry *) pool->column.entries.data)[code];

		/* for forget_entries(): nothing else is interned here */
		entry.hash = code;
		buffer_put(&c->entries, &entry, sizeof(entry));
		pool->entry[code] = column_n_entries(c);
	}
	*index = pool->entry[code] - 1;
	return !c->entries.failed;
}

/* The pools do not know the target's entries any more; after the last target they have no texts either. */
static void
forget_entries(Target *t, bool last)
{
	for (uint32_t i = 0; i < t->m->pools.len / sizeof(Pool *); i++)
	{
		Pool         *pool = merge_pool(t->m, i);
		const Column *c;

		if (last)
		{
			column_free(&pool->column);
			if (pool->entry != NULL)
				t->m->allocator.release(t->m->allocator.arg, pool->entry);
			pool->entry = NULL;
			pool->n_entry = 0;
		}
		if (pool->entry == NULL || pool->serial != t->m->serial)
			continue;
		c = columns_get(&t->w.columns, pool->number);
		for (uint32_t e = 0; e < column_n_entries(c); e++)
			pool->entry[((const TextEntry *) c->entries.data)[e].hash] = 0;
	}
}

/* A value as its column's functions take it. */
static inline AnyValue
plain_value(const Pool *pool, int64_t value)
{
	AnyValue result = {.type = ANY_INT};

	if (type_is_number(pool->column.type))
		result.u.integer = value;
	else
	{
		const TextEntry *entry = (const TextEntry *) pool->column.entries.data + value;

		/* bytes, whatever the type: nested values are bytes already */
		result.type = ANY_BYTES;
		result.len = entry->len;
		result.u.data = entry->data;
	}
	return result;
}

static bool
put_constant(Target *t, Column *c, Pool *pool, ShapeItem *item)
{
	AnyValue value;

	if (!type_is_number(c->type) && !pool->column.no_dictionary)
	{
		if (!pool_entry(pool, c, (uint32_t) item->first.u.integer, &t->m->allocator, &item->constant))
			return false;
		c->n_constants = column_n_entries(c);
		return true;
	}
	value = plain_value(pool, item->first.u.integer);
	return column_constant(c, &value, &t->w.columns.arena, &item->constant);
}

/* Constants come first in the dictionaries, in the order of the shapes. */
static bool
put_constants(Target *t, TableId number)
{
	Table     *table = &t->w.tables[number];
	Shape     *shapes = (Shape *) table->shapes.data;
	ShapeItem *items = (ShapeItem *) table->items.data;

	if (!table_number(table))
		return false;
	for (uint32_t n = 0; n < table_n_shapes(table); n++)
	{
		const Shape *shape = &shapes[table->by_number[n]];

		for (uint32_t i = shape->first_item; i < shape->first_item + shape->n_items; i++)
		{
			Column *c = columns_get(&t->w.columns, items[i].column);
			bool    parent = items[i].column == FIELD_PARENT_DISTANCE || items[i].column == FIELD_PARENT_ID;

			if (shape->rows < CONSTANT_MIN_ROWS)
				items[i].varying = true;
			if (items[i].varying)
				t->values[items[i].column] += shape->rows;
			else if (parent ? !column_constant(c, &items[i].first, &t->w.columns.arena, &items[i].constant) :
			                  !put_constant(t, c, merge_pool(t->m, t->pools[items[i].column]), &items[i]))
				return false;
		}
	}
	return true;
}

static inline bool
put_value(Target *t, Column *c, Pool *pool, int64_t value)
{
	AnyValue any;
	uint32_t index;

	if (type_is_number(c->type))
	{
		buffer_put(&c->values, &value, sizeof(value));
		return !c->values.failed;
	}
	if (pool->column.no_dictionary)
	{
		any = plain_value(pool, value);
		return column_add(c, &any, &t->w.columns.arena);
	}
	if (!pool_entry(pool, c, (uint32_t) value, &t->m->allocator, &index))
		return false;
	buffer_put(&c->values, &index, sizeof(index));
	return !c->values.failed;
}

static bool
fill_part(Target *t, const MergeShape *shape, const uint32_t *values, int form)
{
	const Table     *table = &t->w.tables[shape->kind->table];
	const Shape     *target = (const Shape *) table->shapes.data + shape->kind->shape[form] - 1;
	const ShapeItem *items = (const ShapeItem *) table->items.data + target->first_item + (form != 0);

	for (uint32_t k = 0; k < shape->n_items; k++)
		if (items[k].varying &&
		    !put_value(t, columns_get(&t->w.columns, items[k].column), merge_pool(t->m, shape->items[k].pool),
		               merge_value(&shape->items[k], values)))
			return false;
	return true;
}

static bool
fill_parent(Target *t, const MergeRow *row, const MergeShape *shape, int form, int32_t distance)
{
	const Table     *table = &t->w.tables[TABLE_SPAN];
	const Shape     *target = (const Shape *) table->shapes.data + shape->kind->shape[form] - 1;
	const ShapeItem *item = (const ShapeItem *) table->items.data + target->first_item;
	AnyValue         value = {.type = ANY_BYTES, .len = SPAN_ID_LEN, .u.data = (const char *) &row->parent};

	if (!item->varying)
		return true;
	if (form == 1)
	{
		value.type = ANY_INT;
		value.u.integer = distance;
	}
	return column_add(columns_get(&t->w.columns, item->column), &value, &t->w.columns.arena);
}

static bool
fill_row(Target *t, uint32_t at)
{
	SegmentMerge     *m = t->m;
	const MergeRow   *row = row_at(t, at);
	const MergeShape *shape = merge_shape(m, row->shape);
	const uint32_t   *next = row->values + shape->units;
	int               form = PARENT_FORM(t->w.parents[at]);

	if ((form != 0 && !fill_parent(t, row, shape, form, t->w.parents[at])) || !fill_part(t, shape, row->values, form))
		return false;
	for (int links = 0; links < 2; links++)
		for (uint32_t n = merge_children(shape, !links, row->values); n > 0; n--)
		{
			const MergeShape *child = merge_shape(m, *next);

			next += links ? LINK_UNITS : EVENT_UNITS;
			if (!fill_part(t, child, next, 0))
				return false;
			next += child->units;
		}
	return true;
}

static bool
fill_columns(Target *t)
{
	Writer  *w = &t->w;
	uint32_t row = 0;

	/* as much as they need, no more: this is where merges take most memory */
	for (uint32_t c = 0; c < columns_count(&w->columns); c++)
	{
		Column *column = columns_get(&w->columns, c);

		if (t->values[c] > 0 &&
		    buffer_reserve(&column->values, (size_t) t->values[c] * (type_is_number(column->type) ? sizeof(int64_t) : sizeof(uint32_t))) == NULL)
			return false;
	}
	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		for (; row < writer_block_end(w, block); row++)
			if (!fill_row(t, row))
				return false;
		for (uint32_t c = 0; c < columns_count(&w->columns); c++)
			column_end_block(columns_get(&w->columns, c));
	}
	return writer_end_columns(w);
}

static void
gather_rows(Writer *w, uint32_t first, uint32_t end)
{
	const Target       *t = w->rows;
	const SegmentMerge *m = t->m;

	for (uint32_t at = first; at < end; at++)
	{
		const MergeRow   *row = row_at(t, at);
		const MergeShape *shape = merge_shape(m, row->shape);
		const uint32_t   *next = row->values + shape->units;

		writer_put_number(&w->starts, (uint64_t) row->start);
		writer_put_number(&w->durations, (uint64_t) row->end - (uint64_t) row->start);
		buffer_put(&w->ids, &row->span_id, SPAN_ID_LEN);
		for (uint32_t n = merge_children(shape, true, row->values); n > 0; n--)
		{
			writer_put_number(&w->event_times, (uint64_t) units_number(next + 1));
			next += EVENT_UNITS + merge_shape(m, *next)->units;
		}
		for (uint32_t n = merge_children(shape, false, row->values); n > 0; n--)
		{
			buffer_put(&w->link_ids, next + 1, TRACE_ID_LEN + SPAN_ID_LEN);
			next += LINK_UNITS + merge_shape(m, *next)->units;
		}
	}
}

/* By column of the target: its pool, and how many values vary. */
static bool
list_columns(Target *t)
{
	uint32_t n = columns_count(&t->w.columns);

	t->pools = arena_alloc0(&t->m->block_arena, (size_t) n * sizeof(uint32_t));
	t->values = arena_alloc0(&t->m->block_arena, (size_t) n * sizeof(uint64_t));
	if (t->pools == NULL || t->values == NULL)
		return false;
	for (uint32_t i = 0; i < t->m->pools.len / sizeof(Pool *); i++)
		if (merge_pool(t->m, i)->serial == t->m->serial)
			t->pools[merge_pool(t->m, i)->number] = i;
	return true;
}

static bool
run(Target *t, uint32_t count, bool last, SpanError *error)
{
	Writer *w = &t->w;

	if (!merge_settle_keys(t->m, t->first, t->first + count, &w->columns, error) || !writer_see_tenants(w) ||
	    !order_rows(t, count) || !find_parents(t))
		return false;
	for (int i = 0; i < N_TABLES; i++)
		table_init(&w->tables[i], &w->columns);
	if (!find_shapes(t) || !list_columns(t))
		return false;
	for (int i = 0; i < N_TABLES; i++)
		if (!put_constants(t, i))
			return false;
	if (!fill_columns(t))
		return false;
	forget_entries(t, last);
	t->m->allocator.release(t->m->allocator.arg, w->parents);
	w->parents = NULL;
	return true;
}

bool
segment_merge_write(SegmentMerge *m, uint32_t target, const SegmentWriteOptions *options, SegmentImage *image, SpanError *error)
{
	const uint32_t *ends = (const uint32_t *) m->targets.data;
	uint32_t        first = target == 0 ? 0 : ends[target - 1];
	Target          t;
	bool            ok;

	memset(image, 0, sizeof(*image));
	if (!writer_init(&t.w, m->batch, ends[target] - first, options, &m->allocator, error))
		return false;
	t.m = m;
	t.first = first;
	t.w.gather = gather_rows;
	t.w.rows = &t;
	m->serial++;
	ok = run(&t, ends[target] - first, target + 1 == m->targets.len / sizeof(uint32_t), error);
	arena_reset(&m->block_arena);
	return writer_end(&t.w, ok, image, error);
}

void
segment_merge_free_image(SegmentMerge *m, SegmentImage *image)
{
	segment_image_free(image, &m->allocator);
}
