/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  Writer's side of tables: finds shapes, splits off constants.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "segment/shape.h"

#include <stdlib.h>

const FieldColumnType field_columns[N_FIELD_COLUMNS] = {
	[FIELD_PARENT_DISTANCE] = {TABLE_SPAN, ANY_INT},
	[FIELD_PARENT_ID] = {TABLE_SPAN, ANY_BYTES},
	[FIELD_STATUS_MESSAGE] = {TABLE_SPAN, ANY_STRING},
	[FIELD_TRACE_STATE] = {TABLE_SPAN, ANY_STRING},
	[FIELD_FLAGS] = {TABLE_SPAN, ANY_INT},
	[FIELD_DROPPED_ATTRIBUTES] = {TABLE_SPAN, ANY_INT},
	[FIELD_DROPPED_EVENTS] = {TABLE_SPAN, ANY_INT},
	[FIELD_DROPPED_LINKS] = {TABLE_SPAN, ANY_INT},
	[FIELD_N_EVENTS] = {TABLE_SPAN, ANY_INT},
	[FIELD_N_LINKS] = {TABLE_SPAN, ANY_INT},
	[FIELD_SPAN_OVERFLOW] = {TABLE_SPAN, ANY_BYTES},
	[FIELD_EVENT_NAME] = {TABLE_EVENT, ANY_STRING},
	[FIELD_EVENT_DROPPED] = {TABLE_EVENT, ANY_INT},
	[FIELD_EVENT_OVERFLOW] = {TABLE_EVENT, ANY_BYTES},
	[FIELD_LINK_TRACE_STATE] = {TABLE_LINK, ANY_STRING},
	[FIELD_LINK_FLAGS] = {TABLE_LINK, ANY_INT},
	[FIELD_LINK_DROPPED] = {TABLE_LINK, ANY_INT},
	[FIELD_LINK_OVERFLOW] = {TABLE_LINK, ANY_BYTES},
};

bool
columns_init(ColumnSet *set, const SpanAllocator *allocator, uint32_t n_strings)
{
	memset(set, 0, sizeof(*set));
	set->allocator = allocator;
	set->n_strings = n_strings;
	buffer_init(&set->columns, allocator);
	buffer_init(&set->key_columns, allocator);
	arena_init(&set->arena, allocator, 0);
	for (int t = 0; t < N_TABLES; t++)
	{
		set->key_slot[t] = allocator->alloc(allocator->arg, (size_t) n_strings * sizeof(uint32_t));
		set->rare_types[t] = allocator->alloc(allocator->arg, n_strings);
		buffer_init(&set->rare_hashes[t], allocator);
		if (set->key_slot[t] == NULL || set->rare_types[t] == NULL)
			return false;
		memset(set->key_slot[t], 0, (size_t) n_strings * sizeof(uint32_t));
		memset(set->rare_types[t], 0, n_strings);
	}
	for (int i = 0; i < N_FIELD_COLUMNS; i++)
	{
		Column column;

		column_init(&column, allocator);
		column.table = field_columns[i].table;
		column.type = field_columns[i].type;
		column.field = true;
		buffer_put(&set->columns, &column, sizeof(column));
	}
	return !set->columns.failed;
}

void
columns_free(ColumnSet *set)
{
	for (uint32_t i = 0; i < columns_count(set); i++)
		column_free(columns_get(set, i));
	buffer_free(&set->columns);
	buffer_free(&set->key_columns);
	for (int t = 0; t < N_TABLES; t++)
	{
		if (set->key_slot[t] != NULL)
			set->allocator->release(set->allocator->arg, set->key_slot[t]);
		if (set->rare_types[t] != NULL)
			set->allocator->release(set->allocator->arg, set->rare_types[t]);
		if (set->rare_hashes[t].allocator != NULL)
			buffer_free(&set->rare_hashes[t]);
	}
	arena_reset(&set->arena);
}

bool
columns_make(ColumnSet *set, TableId table, uint32_t key_id, uint8_t type, uint32_t *number)
{
	uint32_t *slot = &set->key_slot[table][key_id];
	uint32_t *by_type;
	Column    column;

	*number = RARE_KEY;
	if (*slot == RARE_KEY)
		return true;
	if (*slot == 0)
	{
		uint32_t none[8] = {0};

		if (set->n_keys == MAX_KEY_COLUMNS)
		{
			*slot = RARE_KEY;
			return true;
		}
		buffer_put(&set->key_columns, none, sizeof(none));
		if (set->key_columns.failed)
			return false;
		*slot = ++set->n_keys;
	}
	by_type = (uint32_t *) set->key_columns.data + (size_t) (*slot - 1) * 8 + (type & 7);
	if (*by_type == 0)
	{
		*by_type = columns_count(set);
		column_init(&column, set->allocator);
		column.table = table;
		column.type = type & 7;
		column.key = key_id;
		buffer_put(&set->columns, &column, sizeof(column));
		if (set->columns.failed)
			return false;
	}
	*number = *by_type;
	return true;
}

void
table_init(Table *t, ColumnSet *set)
{
	memset(t, 0, sizeof(*t));
	t->allocator = set->allocator;
	t->set = set;
	buffer_init(&t->shapes, set->allocator);
	buffer_init(&t->items, set->allocator);
	buffer_init(&t->row_shapes, set->allocator);
	buffer_init(&t->block_ends, set->allocator);
}

void
table_free(Table *t)
{
	if (t->set == NULL)
		return;
	buffer_free(&t->shapes);
	buffer_free(&t->items);
	buffer_free(&t->row_shapes);
	buffer_free(&t->block_ends);
	if (t->slots != NULL)
		t->allocator->release(t->allocator->arg, t->slots);
	if (t->by_number != NULL)
		t->allocator->release(t->allocator->arg, t->by_number);
}

static bool
grow_slots(Table *t)
{
	uint32_t     n = table_n_shapes(t);
	uint32_t     n_slots = t->n_slots == 0 ? 256 : t->n_slots * 2;
	uint32_t    *slots;
	const Shape *shapes = (const Shape *) t->shapes.data;

	slots = t->allocator->alloc(t->allocator->arg, (size_t) n_slots * sizeof(uint32_t));
	if (slots == NULL)
		return false;
	memset(slots, 0, (size_t) n_slots * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t at = (uint32_t) shapes[i].hash & (n_slots - 1);

		while (slots[at] != 0)
			at = (at + 1) & (n_slots - 1);
		slots[at] = i + 1;
	}
	if (t->slots != NULL)
		t->allocator->release(t->allocator->arg, t->slots);
	t->slots = slots;
	t->n_slots = n_slots;
	return true;
}

static uint64_t
row_hash(const Row *row)
{
	uint64_t h = row->n_items;

	for (int i = 0; i < SHAPE_FIELDS; i++)
		h = (h ^ row->fields[i]) * UINT64_C(0xff51afd7ed558ccd) + (h >> 29);
	for (uint32_t i = 0; i < row->n_items; i++)
		h = (h ^ row->items[i].column) * UINT64_C(0x9e3779b97f4a7c15) + (h >> 31);
	return h ^ (h >> 32);
}

static bool
is_overflow(uint32_t column)
{
	return column == FIELD_SPAN_OVERFLOW || column == FIELD_EVENT_OVERFLOW || column == FIELD_LINK_OVERFLOW;
}

static bool
add_shape(Table *t, const Row *row, uint64_t hash)
{
	Shape      shape = {.hash = hash, .n_items = row->n_items};
	ShapeItem *items;

	memcpy(shape.fields, row->fields, sizeof(shape.fields));
	shape.first_item = (uint32_t) (t->items.len / sizeof(ShapeItem));
	items = (ShapeItem *) buffer_reserve(&t->items, row->n_items * sizeof(ShapeItem));
	if (items == NULL || t->items.len / sizeof(ShapeItem) + row->n_items > UINT32_MAX)
		return false;
	for (uint32_t i = 0; i < row->n_items; i++)
	{
		items[i].column = row->items[i].column;
		items[i].first = row->items[i].value;
		items[i].varying = is_overflow(row->items[i].column);
		items[i].constant = 0;
	}
	t->items.len += row->n_items * sizeof(ShapeItem);
	buffer_put(&t->shapes, &shape, sizeof(shape));
	return !t->shapes.failed;
}

bool
table_add_shape(Table *t, const uint32_t *fields, const uint32_t *columns, uint32_t n, uint32_t *index)
{
	Shape      shape = {.n_items = n};
	ShapeItem *items;

	*index = table_n_shapes(t);
	memcpy(shape.fields, fields, sizeof(shape.fields));
	shape.first_item = (uint32_t) (t->items.len / sizeof(ShapeItem));
	items = (ShapeItem *) buffer_reserve(&t->items, n * sizeof(ShapeItem));
	if (items == NULL || t->items.len / sizeof(ShapeItem) + n > UINT32_MAX)
		return false;
	memset(items, 0, n * sizeof(ShapeItem));
	for (uint32_t i = 0; i < n; i++)
	{
		items[i].column = columns[i];
		items[i].varying = is_overflow(columns[i]);
	}
	t->items.len += n * sizeof(ShapeItem);
	buffer_put(&t->shapes, &shape, sizeof(shape));
	return !t->shapes.failed;
}

static inline bool
same_value(const AnyValue *a, const AnyValue *b)
{
	switch ((AnyValueType) a->type)
	{
		case ANY_STRING:
		case ANY_BYTES:
			return a->len == b->len && (a->u.data == b->u.data || a->len == 0 || memcmp(a->u.data, b->u.data, a->len) == 0);
		case ANY_INT:
			return a->u.integer == b->u.integer;
		default:
			return any_value_equal(a, b);
	}
}

bool
table_find_shape(Table *t, const Row *row)
{
	uint64_t   hash = row_hash(row);
	uint32_t   at;
	uint32_t   index;
	Shape     *shape;
	ShapeItem *items;

	if (table_n_shapes(t) + 1 > t->n_slots / 2 && !grow_slots(t))
		return false;
	for (at = (uint32_t) hash & (t->n_slots - 1); t->slots[at] != 0; at = (at + 1) & (t->n_slots - 1))
	{
		bool same;

		shape = (Shape *) t->shapes.data + t->slots[at] - 1;
		same = shape->hash == hash && shape->n_items == row->n_items &&
		       memcmp(shape->fields, row->fields, sizeof(shape->fields)) == 0;
		items = (ShapeItem *) t->items.data + shape->first_item;
		for (uint32_t i = 0; same && i < row->n_items; i++)
			same = items[i].column == row->items[i].column;
		if (same)
			break;
	}
	if (t->slots[at] == 0)
	{
		if (!add_shape(t, row, hash))
			return false;
		t->slots[at] = table_n_shapes(t);
	}
	index = t->slots[at] - 1;
	shape = (Shape *) t->shapes.data + index;
	items = (ShapeItem *) t->items.data + shape->first_item;
	if (shape->rows++ > 0)
		for (uint32_t i = 0; i < row->n_items; i++)
			if (!items[i].varying && !same_value(&items[i].first, &row->items[i].value))
				items[i].varying = true;
	buffer_put(&t->row_shapes, &index, sizeof(index));
	return !t->row_shapes.failed;
}

void
table_end_block(Table *t)
{
	uint32_t n = table_n_rows(t);

	buffer_put(&t->block_ends, &n, sizeof(n));
}

static int
compare_shapes(const void *a, const void *b, void *arg)
{
	const Shape *shapes = arg;
	const Shape *x = &shapes[*(const uint32_t *) a];
	const Shape *y = &shapes[*(const uint32_t *) b];

	if (x->rows != y->rows)
		return x->rows > y->rows ? -1 : 1;
	return x->first_item < y->first_item ? -1 : x->first_item > y->first_item;
}

bool
table_number(Table *t)
{
	uint32_t n = table_n_shapes(t);
	Shape   *shapes = (Shape *) t->shapes.data;

	t->by_number = t->allocator->alloc(t->allocator->arg, (size_t) n * sizeof(uint32_t) + 1);
	if (t->by_number == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++)
		t->by_number[i] = i;
	if (n > 1)
		qsort_r(t->by_number, n, sizeof(uint32_t), compare_shapes, shapes);
	for (uint32_t number = 0; number < n; number++)
		shapes[t->by_number[number]].number = number;
	return true;
}

bool
table_settle(Table *t)
{
	Shape     *shapes = (Shape *) t->shapes.data;
	ShapeItem *items = (ShapeItem *) t->items.data;

	if (!table_number(t))
		return false;
	for (uint32_t number = 0; number < table_n_shapes(t); number++)
	{
		const Shape *shape = &shapes[t->by_number[number]];

		for (uint32_t i = shape->first_item; i < shape->first_item + shape->n_items; i++)
		{
			if (shape->rows < CONSTANT_MIN_ROWS)
				items[i].varying = true;
			else if (!items[i].varying &&
			         !column_constant(columns_get(t->set, items[i].column), &items[i].first,
			                          &t->set->arena, &items[i].constant))
				return false;
		}
	}
	return true;
}

bool
table_fill(Table *t, uint32_t at, const Row *row)
{
	const Shape     *shape = (const Shape *) t->shapes.data + ((const uint32_t *) t->row_shapes.data)[at];
	const ShapeItem *items = (const ShapeItem *) t->items.data + shape->first_item;

	for (uint32_t i = 0; i < row->n_items; i++)
		if (items[i].varying &&
		    !column_add(columns_get(t->set, items[i].column), &row->items[i].value, &t->set->arena))
			return false;
	return true;
}
