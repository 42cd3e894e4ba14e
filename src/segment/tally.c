/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  Takes the rows of a block apart into the values of their attributes,
 *	  each with the slots of the rows that have it.
 *
 * Constants of shapes, resources and scopes are counted by shape; a column's
 * values in one pass over the column, with an array of the slots of its rows.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/tally.h"

#include "segment/decoding.h"

/* More cells of (shape, slot) than this in a block are not added up before they are told. */
#define MAX_CELLS (1024 * 1024)

/* Values of the same rows: each counts as often as they do. */
typedef struct ValueSet
{
	bool     known;
	void   **values;
	uint32_t n;
} ValueSet;

typedef struct ShapeTally
{
	ValueSet  constants; /* and the fields */
	uint32_t *varying;   /* columns with a value for each row */
	bool     *counted;   /* is it counted? */
	uint32_t  n_varying;
	bool      rest;   /* the rows have attributes that codes do not tell */
	uint64_t  seen;   /* the block that it was last met in */
	uint32_t  number; /* in that block */
} ShapeTally;

typedef struct ColumnTally
{
	void     *attribute;
	void    **by_code; /* of its dictionary; NULL: not asked for yet */
	uint32_t *slots;   /* of the values of the block */
	uint32_t  next;
	bool      any; /* does one of them count? */
} ColumnTally;

struct SegmentTally
{
	SegmentReader *r;
	TallySink      sink;
	SpanAllocator  allocator;
	Arena          arena;
	Arena          block_arena;
	uint32_t       n_slots;
	uint32_t      *number_of; /* slots of the block, numbered; TALLY_NONE: not met */
	uint64_t       n_blocks;  /* so far */
	ShapeTally    *shapes;
	ValueSet      *scopes;
	ValueSet      *resources;
	ColumnTally   *columns;
	void          *of_place[TALLY_SCOPE_VERSION + 1]; /* attributes without keys */
};

SegmentTally *
segment_tally_create(SegmentReader *r, const TallySink *sink, uint32_t n_slots,
                     const SpanAllocator *allocator, SpanError *error)
{
	SegmentTally *t;

	if (!segment_load_schema(r, error))
		return NULL;
	t = allocator->alloc(allocator->arg, sizeof(SegmentTally));
	if (t == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	memset(t, 0, sizeof(*t));
	t->r = r;
	t->sink = *sink;
	t->allocator = *allocator;
	t->n_slots = n_slots;
	arena_init(&t->arena, &t->allocator, 0);
	arena_init(&t->block_arena, &t->allocator, 0);
	t->number_of = arena_alloc(&t->arena, (size_t) n_slots * sizeof(uint32_t));
	t->shapes =
		arena_alloc0(&t->arena, (size_t) r->tables[TABLE_SPAN].n_shapes * sizeof(ShapeTally));
	t->scopes = arena_alloc0(&t->arena, (size_t) r->n_scopes * sizeof(ValueSet));
	t->resources = arena_alloc0(&t->arena, (size_t) r->n_resources * sizeof(ValueSet));
	t->columns = arena_alloc0(&t->arena, (size_t) r->n_columns * sizeof(ColumnTally));
	if (t->number_of == NULL || t->shapes == NULL || t->scopes == NULL || t->resources == NULL ||
	    t->columns == NULL)
	{
		segment_no_memory(error);
		segment_tally_free(t);
		return NULL;
	}
	memset(t->number_of, 0xff, (size_t) n_slots * sizeof(uint32_t));
	for (int place = TALLY_NAME; place <= TALLY_SCOPE_VERSION; place++)
		t->of_place[place] =
			t->sink.attribute(t->sink.arg, (TallyPlace) place, span_text(NULL, 0));
	return t;
}

void
segment_tally_free(SegmentTally *t)
{
	SpanAllocator allocator = t->allocator;

	arena_reset(&t->arena);
	arena_reset(&t->block_arena);
	allocator.release(allocator.arg, t);
}

/*
 * What shapes have.
 */

static void *
value_of(SegmentTally *t, void *attribute, const AnyValue *value)
{
	return t->sink.value(t->sink.arg, attribute, value);
}

static void *
text_of(SegmentTally *t, TallyPlace place, SpanText text)
{
	AnyValue value = {.type = ANY_STRING, .len = text.len};

	value.u.data = text.data;
	return value_of(t, t->of_place[place], &value);
}

static void *
number_of(SegmentTally *t, TallyPlace place, int32_t number)
{
	AnyValue value = {.type = ANY_INT};

	value.u.integer = number;
	return value_of(t, t->of_place[place], &value);
}

/* The set of a list of attributes, the first of those with the same key, and "n_more" values. */
static bool
know_list(SegmentTally *t, ValueSet *set, TallyPlace place, AttributeList list, uint32_t n_more)
{
	set->values = arena_alloc(&t->arena, ((size_t) list.count + n_more) * sizeof(void *));
	if (set->values == NULL)
		return false;
	for (uint32_t i = 0; i < list.count; i++)
	{
		uint32_t k = 0;

		while (k < i && !span_text_equal(list.items[k].key, list.items[i].key))
			k++;
		if (k == i)
			set->values[set->n++] =
				value_of(t, t->sink.attribute(t->sink.arg, place, list.items[i].key),
			             &list.items[i].value);
	}
	set->known = true;
	return true;
}

static bool
know_scope(SegmentTally *t, uint32_t number)
{
	const SegmentReader *r = t->r;
	const SpanScope     *scope = &r->scopes[number];
	ValueSet            *set = &t->scopes[number];
	ValueSet            *resource = &t->resources[scope->resource];

	if (!resource->known && !know_list(t, resource, TALLY_RESOURCE,
	                                   r->resources[scope->resource].attributes, 0))
		return false;
	if (!know_list(t, set, TALLY_SCOPE, scope->attributes, 2))
		return false;
	set->values[set->n++] = text_of(t, TALLY_SCOPE_NAME, r->strings[scope->name]);
	set->values[set->n++] = text_of(t, TALLY_SCOPE_VERSION, r->strings[scope->version]);
	return true;
}

/* Is there an attribute with the same key before item k? */
static bool
is_repeated(const SegmentReader *r, const ReadShape *shape, uint32_t k)
{
	const ReadColumn *column = &r->columns[shape->columns[k]];

	for (uint32_t i = 0; i < k; i++)
		if (!r->columns[shape->columns[i]].field &&
		    r->columns[shape->columns[i]].key == column->key)
			return true;
	return false;
}

static void *
column_attribute(SegmentTally *t, uint32_t number)
{
	ColumnTally *column = &t->columns[number];

	if (number == FIELD_STATUS_MESSAGE)
		return t->of_place[TALLY_STATUS_MESSAGE];
	if (column->attribute == NULL)
		column->attribute =
			t->sink.attribute(t->sink.arg, TALLY_SPAN, t->r->strings[t->r->columns[number].key]);
	return column->attribute;
}

static bool
know_item(SegmentTally *t, const ReadShape *shape, ShapeTally *known, uint32_t k, SpanError *error)
{
	SegmentReader *r = t->r;
	uint32_t       number = shape->columns[k];
	bool           is_message = number == FIELD_STATUS_MESSAGE;
	bool           counted = is_message || (!r->columns[number].field && !known->rest && !is_repeated(r, shape, k));

	if (shape->constants[k] == 0)
	{
		known->counted[known->n_varying] = counted;
		known->varying[known->n_varying++] = number;
		return true;
	}
	if (!counted)
		return true;
	if (!segment_load_dictionary(r, number, error))
		return false;
	known->constants.values[known->constants.n++] =
		value_of(t, column_attribute(t, number),
	             &r->columns[number].dictionary[shape->constants[k] - 1]);
	return true;
}

static bool
know_shape(SegmentTally *t, uint32_t number, SpanError *error)
{
	ReadShape  *shape = &t->r->tables[TABLE_SPAN].shapes[number];
	ShapeTally *known = &t->shapes[number];
	bool        has_message = false;

	if (known->constants.known)
		return true;
	known->constants.values = arena_alloc(&t->arena, ((size_t) shape->n_items + 4) * sizeof(void *));
	known->varying = arena_alloc(&t->arena, ((size_t) shape->n_items + 1) * sizeof(uint32_t));
	known->counted = arena_alloc(&t->arena, (size_t) shape->n_items + 1);
	if (known->constants.values == NULL || known->varying == NULL || known->counted == NULL ||
	    (!t->scopes[shape->fields[0]].known && !know_scope(t, shape->fields[0])))
		return segment_no_memory(error);
	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		known->rest |= shape->columns[k] == FIELD_SPAN_OVERFLOW;
		has_message |= shape->columns[k] == FIELD_STATUS_MESSAGE;
	}
	known->constants.n = known->n_varying = 0;
	known->constants.values[known->constants.n++] =
		text_of(t, TALLY_NAME, t->r->strings[shape->fields[1]]);
	known->constants.values[known->constants.n++] =
		number_of(t, TALLY_KIND, (int32_t) shape->fields[2]);
	known->constants.values[known->constants.n++] =
		number_of(t, TALLY_STATUS, (int32_t) shape->fields[3]);
	if (!has_message)
		known->constants.values[known->constants.n++] =
			text_of(t, TALLY_STATUS_MESSAGE, span_text("", 0));
	for (uint32_t k = 0; k < shape->n_items; k++)
		if (!know_item(t, shape, known, k, error))
			return false;
	known->constants.known = true;
	return true;
}

/*
 * Counting what shapes have.
 */

static void
add_set(SegmentTally *t, const ValueSet *set, uint32_t slot, uint32_t n)
{
	for (uint32_t i = 0; i < set->n; i++)
		t->sink.add(t->sink.arg, set->values[i], slot, n);
}

/* Numbers shapes and slots of the rows that count; lists them. */
static bool
list_block(SegmentTally *t, const uint32_t *slots, uint32_t *shapes, uint32_t *n_shapes,
           uint32_t *own_slots, uint32_t *n_own, SpanError *error)
{
	const ReadTable *table = &t->r->tables[TABLE_SPAN];

	*n_shapes = *n_own = 0;
	for (uint32_t row = 0; row < t->r->block_rows; row++)
	{
		ShapeTally *shape = &t->shapes[table->row_shapes[row]];

		if (shape->seen != t->n_blocks)
		{
			if (!know_shape(t, table->row_shapes[row], error))
				return false;
			shape->seen = t->n_blocks;
			shape->number = *n_shapes;
			shapes[(*n_shapes)++] = table->row_shapes[row];
		}
		if (slots[row] != TALLY_NONE && t->number_of[slots[row]] == TALLY_NONE)
		{
			t->number_of[slots[row]] = *n_own;
			own_slots[(*n_own)++] = slots[row];
		}
	}
	return true;
}

/* Tells what is counted in cells: for each shape a row of one cell per slot of the block. */
static bool
tell_cells(SegmentTally *t, const uint32_t *cells, const uint32_t *shapes, uint32_t n_shapes,
           const uint32_t *own_slots, uint32_t n_own, SpanError *error)
{
	SegmentReader   *r = t->r;
	const ReadTable *table = &r->tables[TABLE_SPAN];
	uint32_t        *by_scope = arena_alloc0(&t->block_arena, (size_t) r->n_scopes * sizeof(uint32_t));
	uint32_t        *by_resource =
		arena_alloc0(&t->block_arena, (size_t) r->n_resources * sizeof(uint32_t));

	if (by_scope == NULL || by_resource == NULL)
		return segment_no_memory(error);
	for (uint32_t s = 0; s < n_own; s++)
	{
		for (uint32_t i = 0; i < n_shapes; i++)
		{
			uint32_t n = cells[(size_t) i * n_own + s];
			uint32_t scope = table->shapes[shapes[i]].fields[0];

			if (n == 0)
				continue;
			add_set(t, &t->shapes[shapes[i]].constants, own_slots[s], n);
			by_scope[scope] += n;
			by_resource[r->scopes[scope].resource] += n;
		}
		/* each scope and resource once, by way of the shapes that have it */
		for (uint32_t i = 0; i < n_shapes; i++)
		{
			uint32_t scope = table->shapes[shapes[i]].fields[0];
			uint32_t resource = r->scopes[scope].resource;

			if (by_scope[scope] > 0)
				add_set(t, &t->scopes[scope], own_slots[s], by_scope[scope]);
			if (by_resource[resource] > 0)
				add_set(t, &t->resources[resource], own_slots[s], by_resource[resource]);
			by_scope[scope] = by_resource[resource] = 0;
		}
	}
	return true;
}

/* The same row by row, where cells would be too many. */
static void
tell_rows(SegmentTally *t, const uint32_t *slots)
{
	const ReadTable *table = &t->r->tables[TABLE_SPAN];

	for (uint32_t row = 0; row < t->r->block_rows; row++)
	{
		uint32_t scope = table->shapes[table->row_shapes[row]].fields[0];

		if (slots[row] == TALLY_NONE)
			continue;
		add_set(t, &t->shapes[table->row_shapes[row]].constants, slots[row], 1);
		add_set(t, &t->scopes[scope], slots[row], 1);
		add_set(t, &t->resources[t->r->scopes[scope].resource], slots[row], 1);
	}
}

static bool
tally_shapes(SegmentTally *t, const uint32_t *slots, SpanError *error)
{
	const ReadTable *table = &t->r->tables[TABLE_SPAN];
	size_t           size = (size_t) t->r->block_rows * sizeof(uint32_t);
	uint32_t        *shapes = arena_alloc(&t->block_arena, size);
	uint32_t        *own_slots = arena_alloc(&t->block_arena, size);
	uint32_t        *cells;
	uint32_t         n_shapes;
	uint32_t         n_own;
	bool             ok;

	if (shapes == NULL || own_slots == NULL)
		return segment_no_memory(error);
	ok = list_block(t, slots, shapes, &n_shapes, own_slots, &n_own, error);
	if (ok && (uint64_t) n_shapes * n_own > MAX_CELLS)
		tell_rows(t, slots);
	else if (ok)
	{
		cells = arena_alloc0(&t->block_arena, (size_t) n_shapes * n_own * sizeof(uint32_t));
		if (cells == NULL)
			return segment_no_memory(error);
		for (uint32_t row = 0; row < t->r->block_rows; row++)
			if (slots[row] != TALLY_NONE)
				cells[(size_t) t->shapes[table->row_shapes[row]].number * n_own +
				      t->number_of[slots[row]]]++;
		ok = tell_cells(t, cells, shapes, n_shapes, own_slots, n_own, error);
	}
	for (uint32_t s = 0; s < n_own; s++)
		t->number_of[own_slots[s]] = TALLY_NONE;
	return ok;
}

/*
 * Counting the values of columns.
 */

/* Gives the columns the slots of their values, and lists rows that codes do not tell. */
static bool
distribute_slots(SegmentTally *t, uint32_t first, const uint32_t *slots, uint32_t *rest,
                 uint32_t *n_rest, SpanError *error)
{
	SegmentReader   *r = t->r;
	const ReadTable *table = &r->tables[TABLE_SPAN];

	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		ColumnTally *column = &t->columns[i];

		column->slots = NULL;
		column->next = 0;
		column->any = false;
		if (r->columns[i].table != TABLE_SPAN || r->columns[i].n_values == 0)
			continue;
		column->slots =
			arena_alloc(&t->block_arena, (size_t) r->columns[i].n_values * sizeof(uint32_t));
		if (column->slots == NULL)
			return segment_no_memory(error);
	}
	for (uint32_t row = 0; row < r->block_rows; row++)
	{
		const ShapeTally *shape = &t->shapes[table->row_shapes[row]];

		for (uint32_t k = 0; k < shape->n_varying; k++)
		{
			ColumnTally *column = &t->columns[shape->varying[k]];
			uint32_t     slot = shape->counted[k] ? slots[row] : TALLY_NONE;

			column->slots[column->next++] = slot;
			column->any |= slot != TALLY_NONE;
		}
		if (shape->rest && slots[row] != TALLY_NONE)
			rest[(*n_rest)++] = first + row;
	}
	return true;
}

/* Values that are told one by one */
static bool
tally_values(SegmentTally *t, uint32_t number, SpanError *error)
{
	const ReadColumn  *column = &t->r->columns[number];
	const ColumnTally *tally = &t->columns[number];
	AnyValue          *values =
		arena_alloc(&t->block_arena, (size_t) column->n_values * sizeof(AnyValue));

	if (values == NULL)
		return segment_no_memory(error);
	for (uint32_t i = 0; i < column->n_values; i++)
		if (tally->slots[i] != TALLY_NONE &&
		    !segment_value_in_place(&t->block_arena, column, i, &values[i], error))
			return false;
	t->sink.add_values(t->sink.arg, column_attribute(t, number), values, tally->slots,
	                   column->n_values);
	return true;
}

/* Values that are entries of the segment's dictionary, or the block's */
static bool
tally_codes(SegmentTally *t, uint32_t number, SpanError *error)
{
	const ReadColumn *column = &t->r->columns[number];
	ColumnTally      *tally = &t->columns[number];
	uint32_t          n = column->local ? column->n_texts : column->n_dictionary;
	void            **by_code = column->local ? NULL : tally->by_code;

	if (by_code == NULL)
		by_code = arena_alloc0(column->local ? &t->block_arena : &t->arena,
		                       ((size_t) n + 1) * sizeof(void *));
	if (by_code == NULL)
		return segment_no_memory(error);
	if (!column->local)
		tally->by_code = by_code;
	for (uint32_t i = 0; i < column->n_values; i++)
	{
		AnyValue value;

		if (by_code[column->codes[i]] != NULL || tally->slots[i] == TALLY_NONE)
			continue;
		if (!segment_value_in_place(&t->block_arena, column, i, &value, error))
			return false;
		by_code[column->codes[i]] = value_of(t, column_attribute(t, number), &value);
	}
	t->sink.add_codes(t->sink.arg, by_code, column->codes, tally->slots, column->n_values);
	return true;
}

bool
segment_tally_block(SegmentTally *t, uint32_t first, const uint32_t *slots, const uint32_t **rest,
                    uint32_t *n_rest, SpanError *error)
{
	SegmentReader *r = t->r;
	uint32_t      *rows;

	if (first >= r->summary.rows || first % IMAGE_BLOCK_ROWS != 0)
		return span_error(error, SPAN_ERROR_INVALID, "no such block in the segment");
	arena_rewind(&t->block_arena, 8 * 1024 * 1024);
	t->n_blocks++;
	segment_load_block(r, first / IMAGE_BLOCK_ROWS);
	if (!segment_load_rows(r, TABLE_SPAN, error))
		return false;
	rows = arena_alloc(&t->block_arena, (size_t) r->block_rows * sizeof(uint32_t));
	if (rows == NULL)
		return segment_no_memory(error);
	*rest = rows;
	*n_rest = 0;
	if (!tally_shapes(t, slots, error) ||
	    !distribute_slots(t, first, slots, rows, n_rest, error))
		return false;
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		const ReadColumn *column = &r->columns[i];

		if (!t->columns[i].any)
			continue;
		if (!segment_load_column(r, i, error))
			return false;
		if (column->form == FORM_CODES || column->local ? !tally_codes(t, i, error) : !tally_values(t, i, error))
			return false;
	}
	return true;
}
