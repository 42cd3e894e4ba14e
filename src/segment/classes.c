/*-------------------------------------------------------------------------
 *
 * classes.c
 *	  Numbers the different combinations of values that rows of a segment have
 *	  in some columns.
 *
 * A row's class follows from its shape and from the values that vary in the
 * shape.  Shapes that agree in what is asked for share a node; each value
 * leads from a node to the next, the last one to the class.  Values are their
 * dictionary codes, or numbers given to them here.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/classes.h"

#include "segment/arrays.h"
#include "segment/codec.h"
#include "segment/decoding.h"

#define NONE UINT32_MAX

/* Dictionaries up to this size are looked up without hashing. */
#define SMALL_DICTIONARY 4096

/* With more classes or values than this, or bytes of values, numbering starts again. */
#define MAX_REMEMBERED 65536
#define MAX_BYTES (16 * 1024 * 1024)

/* How a value's bytes are to be understood; what is told apart by it never meets. */
typedef enum ValueKind
{
	VALUE_NUMBER,
	VALUE_TEXT,
	VALUE_UUID,
	VALUE_HEX,
	VALUE_SHAPE
} ValueKind;

/* One step: from a node, or from a value's hash, to what it is. */
typedef struct Step
{
	uint64_t key;
	uint32_t to;   /* NONE: empty */
	uint32_t text; /* offset of the value's bytes, of values */
	uint32_t len;
} Step;

typedef struct StepTable
{
	Step    *steps;
	uint32_t size; /* a power of 2 */
	uint32_t used;
} StepTable;

/* Where shapes that agree start from; and, if one small dictionary decides, the classes by code. */
typedef struct Root
{
	uint32_t  node;
	uint32_t *by_code;
} Root;

/*
 * The class of a row of the shape is by_code[the next value of column "next"], or
 * if by_code is NULL, found step by step.  If nothing varies it is one that has
 * but one value, 0.
 */
typedef struct ShapeClass
{
	bool        known;
	uint32_t    n_varying;
	uint32_t   *varying; /* indexes of "wanted" */
	const Root *root;    /* if something varies */
	uint32_t   *by_code;
	uint32_t    next;
} ShapeClass;

/* A column that is asked for. */
typedef struct WantedColumn
{
	uint32_t        column;
	uint32_t        next;   /* value in the block */
	uint32_t        step;   /* 1; 0 for the one that stands for none */
	bool            used;   /* in the block */
	const uint32_t *values; /* of the block */
} WantedColumn;

struct SegmentClasses
{
	SegmentReader  *r;
	SpanAllocator   allocator;
	uint32_t        parts;
	const SpanText *keys;
	uint32_t        n_keys;
	Arena           arena; /* shapes */
	Arena           block_arena;
	Buffer          bytes; /* of values */
	StepTable       steps;
	StepTable       values;
	uint32_t        n_classes;
	uint32_t        n_nodes;
	uint32_t        n_roots;
	uint32_t        n_values;
	ShapeClass     *shapes;
	uint32_t       *class_of; /* by shape; NONE: not known yet, or something varies */
	Root          **roots;    /* at most one for each shape */
	WantedColumn   *wanted;   /* and, behind the last, the one that stands for none */
	uint32_t        n_wanted;
	uint32_t       *wanted_at; /* by column: index of "wanted", or NONE */
};

/*
 * Tables.
 */

static uint64_t
mix(uint64_t key)
{
	key ^= key >> 32;
	key *= UINT64_C(0x9E3779B97F4A7C15);
	return key ^ key >> 29;
}

static void
free_table(SegmentClasses *c, StepTable *table)
{
	if (table->steps != NULL)
		c->allocator.release(c->allocator.arg, table->steps);
	memset(table, 0, sizeof(*table));
}

static bool
resize(SegmentClasses *c, StepTable *table)
{
	uint32_t size = table->size == 0 ? 256 : table->size * 2;
	Step    *steps = c->allocator.alloc(c->allocator.arg, (size_t) size * sizeof(Step));

	if (steps == NULL)
		return false;
	for (uint32_t i = 0; i < size; i++)
		steps[i].to = NONE;
	for (uint32_t i = 0; i < table->size; i++)
	{
		uint32_t at = (uint32_t) mix(table->steps[i].key) & (size - 1);

		if (table->steps[i].to == NONE)
			continue;
		while (steps[at].to != NONE)
			at = (at + 1) & (size - 1);
		steps[at] = table->steps[i];
	}
	if (table->steps != NULL)
		c->allocator.release(c->allocator.arg, table->steps);
	table->steps = steps;
	table->size = size;
	return true;
}

/* Makes sure that one more fits. */
static inline bool
reserve(SegmentClasses *c, StepTable *table)
{
	return (table->used + 1) * 2 <= table->size || resize(c, table);
}

/* Where a value leads from a node; numbered from *counter if it is new.  NONE: no memory. */
static inline uint32_t
step(SegmentClasses *c, uint32_t node, uint32_t value, uint32_t *counter)
{
	uint64_t key = (uint64_t) node << 32 | value;
	uint32_t at;

	if (!reserve(c, &c->steps))
		return NONE;
	at = (uint32_t) mix(key) & (c->steps.size - 1);
	while (c->steps.steps[at].to != NONE)
	{
		if (c->steps.steps[at].key == key)
			return c->steps.steps[at].to;
		at = (at + 1) & (c->steps.size - 1);
	}
	c->steps.steps[at].key = key;
	c->steps.steps[at].to = (*counter)++;
	c->steps.used++;
	return c->steps.steps[at].to;
}

/* The number of a value of a column, given to it now if it is new.  NONE: no memory. */
static uint32_t
number_value(SegmentClasses *c, uint32_t column, ValueKind kind, const void *data, uint32_t len)
{
	uint64_t hash = span_bytes_hash(data, len, (uint64_t) column << 8 | kind);
	uint8_t  prefix[5];
	uint32_t at;
	Step *new;

	store_u32(prefix, column);
	prefix[4] = (uint8_t) kind;
	if (!reserve(c, &c->values))
		return NONE;
	at = (uint32_t) mix(hash) & (c->values.size - 1);
	for (; c->values.steps[at].to != NONE; at = (at + 1) & (c->values.size - 1))
	{
		const Step    *found = &c->values.steps[at];
		const uint8_t *bytes = c->bytes.data + found->text;

		if (found->key == hash && found->len == len && memcmp(bytes, prefix, 5) == 0 &&
		    (len == 0 || memcmp(bytes + 5, data, len) == 0))
			return found->to;
	}
	new = &c->values.steps[at];
	if (c->bytes.len > UINT32_MAX / 2)
		return NONE;
	new->text = (uint32_t) c->bytes.len;
	new->len = len;
	new->key = hash;
	buffer_put(&c->bytes, prefix, 5);
	buffer_put(&c->bytes, data, len);
	if (c->bytes.failed)
		return NONE;
	new->to = c->n_values++;
	c->values.used++;
	return new->to;
}

static bool
restart(SegmentClasses *c)
{
	uint32_t n_shapes = c->r->tables[TABLE_SPAN].n_shapes;

	free_table(c, &c->steps);
	free_table(c, &c->values);
	buffer_free(&c->bytes);
	buffer_init(&c->bytes, &c->allocator);
	arena_reset(&c->arena);
	c->n_classes = c->n_nodes = c->n_roots = c->n_values = 0;
	c->roots = arena_alloc0(&c->arena, (size_t) n_shapes * sizeof(Root *));
	c->shapes = arena_alloc0(&c->arena, (size_t) n_shapes * sizeof(ShapeClass));
	c->class_of = arena_alloc(&c->arena, (size_t) n_shapes * sizeof(uint32_t));
	if (c->roots == NULL || c->shapes == NULL || c->class_of == NULL)
		return false;
	memset(c->class_of, 0xff, (size_t) n_shapes * sizeof(uint32_t));
	return true;
}

/*
 * What is asked for.
 */

static bool
key_is_wanted(const SegmentClasses *c, SpanText key)
{
	for (uint32_t i = 0; i < c->n_keys; i++)
		if (span_text_equal(c->keys[i], key))
			return true;
	return false;
}

static bool
column_is_wanted(const SegmentClasses *c, uint32_t number)
{
	const SegmentReader *r = c->r;
	const ReadColumn    *column = &r->columns[number];

	if (column->table != TABLE_SPAN)
		return false;
	if (!column->field)
		return key_is_wanted(c, r->strings[column->key]);
	switch ((FieldColumn) number)
	{
		case FIELD_STATUS_MESSAGE:
			return (c->parts & SEGMENT_STATUS_MESSAGE) != 0;
		case FIELD_TRACE_STATE:
			return (c->parts & SEGMENT_TRACE_STATE) != 0;
		case FIELD_FLAGS:
			return (c->parts & SEGMENT_FLAGS) != 0;
		case FIELD_DROPPED_ATTRIBUTES:
		case FIELD_DROPPED_EVENTS:
		case FIELD_DROPPED_LINKS:
			return (c->parts & SEGMENT_DROPPED) != 0;
		case FIELD_SPAN_OVERFLOW:
			for (uint32_t i = 0; i < r->n_rare; i++)
				if (r->rare[i].table == TABLE_SPAN && key_is_wanted(c, r->strings[r->rare[i].key]))
					return true;
			return false;
		default:
			return false;
	}
}

static bool
find_wanted(SegmentClasses *c)
{
	static const uint32_t zero = 0;
	SegmentReader        *r = c->r;

	c->wanted_at = c->allocator.alloc(c->allocator.arg, (size_t) r->n_columns * sizeof(uint32_t));
	c->wanted = c->allocator.alloc(c->allocator.arg, ((size_t) r->n_columns + 1) * sizeof(WantedColumn));
	if (c->wanted_at == NULL || c->wanted == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		c->wanted_at[i] = NONE;
		if (!column_is_wanted(c, i))
			continue;
		c->wanted_at[i] = c->n_wanted;
		c->wanted[c->n_wanted].step = 1;
		c->wanted[c->n_wanted++].column = i;
	}
	c->wanted[c->n_wanted] = (WantedColumn){.values = &zero};
	return true;
}

SegmentClasses *
segment_classes_create(SegmentReader *r, const SegmentProjection *projection,
                       const SpanAllocator *allocator, SpanError *error)
{
	SegmentClasses *c;

	if ((projection->parts & ~(uint32_t) SEGMENT_CLASS_PARTS) != 0)
	{
		span_error(error, SPAN_ERROR_INVALID, "not to be told by classes");
		return NULL;
	}
	if (!segment_load_schema(r, error))
		return NULL;
	c = allocator->alloc(allocator->arg, sizeof(SegmentClasses));
	if (c == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	memset(c, 0, sizeof(*c));
	c->r = r;
	c->allocator = *allocator;
	c->parts = projection->parts;
	c->keys = projection->keys;
	c->n_keys = projection->n_keys;
	arena_init(&c->arena, &c->allocator, 0);
	arena_init(&c->block_arena, &c->allocator, 0);
	buffer_init(&c->bytes, &c->allocator);
	if (!restart(c) || !find_wanted(c))
	{
		segment_no_memory(error);
		segment_classes_free(c);
		return NULL;
	}
	return c;
}

void
segment_classes_free(SegmentClasses *c)
{
	SpanAllocator allocator = c->allocator;

	free_table(c, &c->steps);
	free_table(c, &c->values);
	buffer_free(&c->bytes);
	arena_reset(&c->arena);
	arena_reset(&c->block_arena);
	if (c->wanted_at != NULL)
		allocator.release(allocator.arg, c->wanted_at);
	if (c->wanted != NULL)
		allocator.release(allocator.arg, c->wanted);
	allocator.release(allocator.arg, c);
}

/*
 * Shapes.
 */

/* Whatever of the shape's fields is asked for, as bytes. */
static void
describe_fields(const SegmentClasses *c, const ReadShape *shape, Buffer *out)
{
	const SpanScope *scope = &c->r->scopes[shape->fields[0]];

	if (c->parts & SEGMENT_SCOPE)
		buffer_put_u32(out, shape->fields[0]);
	else if (c->parts & SEGMENT_RESOURCE)
		buffer_put_u32(out, scope->resource);
	else if (c->parts & SEGMENT_TENANT)
		buffer_put_u32(out, c->r->resources[scope->resource].tenant);
	if (c->parts & SEGMENT_NAME)
		buffer_put_u32(out, shape->fields[1]);
	if (c->parts & SEGMENT_KIND)
		buffer_put_u32(out, shape->fields[2]);
	if (c->parts & SEGMENT_STATUS)
		buffer_put_u32(out, shape->fields[3]);
}

/* Is it one column that decides, with a small dictionary? */
static bool
is_small(const SegmentClasses *c, const ShapeClass *shape)
{
	const ReadColumn *column;

	if (shape->n_varying != 1)
		return false;
	column = &c->r->columns[c->wanted[shape->varying[0]].column];
	return column->coded && c->wanted[shape->varying[0]].column != FIELD_SPAN_OVERFLOW &&
	       column->n_dictionary <= SMALL_DICTIONARY;
}

/* The root of that number; shape is one of those that start there. */
static const Root *
find_root(SegmentClasses *c, const ShapeClass *shape, uint32_t number)
{
	Root  *root = c->roots[number];
	size_t size;

	if (root != NULL)
		return root;
	root = arena_alloc0(&c->arena, sizeof(Root));
	if (root == NULL)
		return NULL;
	if (is_small(c, shape))
	{
		size = (size_t) c->r->columns[c->wanted[shape->varying[0]].column].n_dictionary * sizeof(uint32_t);
		root->by_code = arena_alloc(&c->arena, size);
		if (root->by_code == NULL)
			return NULL;
		memset(root->by_code, 0xff, size);
	}
	root->node = c->n_nodes++;
	c->roots[number] = root;
	return root;
}

static bool
know_shape(SegmentClasses *c, uint32_t number, SpanError *error)
{
	ReadShape  *shape = &c->r->tables[TABLE_SPAN].shapes[number];
	ShapeClass *known = &c->shapes[number];
	Buffer      description;
	uint32_t    value;

	if (!segment_load_shape(c->r, TABLE_SPAN, shape, error))
		return false;
	known->varying = arena_alloc(&c->arena, (size_t) shape->n_items * sizeof(uint32_t));
	if (known->varying == NULL)
		return segment_no_memory(error);
	known->n_varying = 0;
	buffer_init(&description, &c->allocator);
	describe_fields(c, shape, &description);
	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		uint32_t wanted = c->wanted_at[shape->columns[k]];

		if (wanted == NONE)
			continue;
		buffer_put_u32(&description, shape->columns[k]);
		buffer_put_u32(&description, shape->constants[k]);
		if (shape->constants[k] == 0)
			known->varying[known->n_varying++] = wanted;
	}
	value = NONE;
	if (!description.failed)
		value = number_value(c, 0, VALUE_SHAPE, description.data, (uint32_t) description.len);
	buffer_free(&description);
	/* from the node NONE values lead to classes, or to roots */
	if (value != NONE)
		value = step(c, NONE, value, known->n_varying == 0 ? &c->n_classes : &c->n_roots);
	if (value == NONE)
		return segment_no_memory(error);
	if (known->n_varying == 0)
	{
		c->class_of[number] = value;
		known->by_code = &c->class_of[number];
		known->next = c->n_wanted;
	}
	else
	{
		known->root = find_root(c, known, value);
		if (known->root == NULL)
			return segment_no_memory(error);
		known->by_code = known->root->by_code;
		known->next = known->varying[0];
	}
	known->known = true;
	return true;
}

/*
 * Values of a block.
 */

/* Is a wanted key among the rare attributes that these bytes hold? */
static bool
has_wanted_key(SegmentClasses *c, SpanText bytes, bool *found, SpanError *error)
{
	Cursor in = cursor_over((const uint8_t *) bytes.data, bytes.len);
	Arena  temp;

	*found = false;
	arena_init(&temp, &c->allocator, 0);
	while (cursor_left(&in) > 0 && !in.failed && !*found)
	{
		AnyValue value;
		SpanText key;

		(void) cursor_number(&in, UINT32_MAX);
		key = cursor_text(&in);
		if (in.failed || !value_get(&in, &temp, false, &value))
			break;
		*found = key_is_wanted(c, key);
	}
	arena_reset(&temp);
	if (*found || (cursor_left(&in) == 0 && !in.failed))
		return true;
	return in.failed ? segment_corrupt(error, "bad rare attributes") : segment_no_memory(error);
}

/* Text "i" of the column's block, or of its dictionary, as it is stored */
static SpanText
stored_text(const ReadColumn *column, uint32_t i, ValueKind *kind)
{
	const char *payload = (const char *) column->payload.data;
	uint32_t    width = column->fixed_len;

	*kind = VALUE_TEXT;
	switch (column->form)
	{
		case FORM_CODES:
			return span_text(column->dictionary[i].u.data, column->dictionary[i].len);
		case FORM_LENGTHS:
			return span_text(payload + column->offsets[i],
			                 column->offsets[i + 1] - column->offsets[i]);
		case FORM_UUID:
			*kind = VALUE_UUID;
			width = 16;
			break;
		case FORM_HEX:
			*kind = VALUE_HEX;
			width = column->fixed_len / 2;
			break;
		default:
			break;
	}
	return span_text(payload + (size_t) i * width, width);
}

/* Numbers text "i"; rare attributes count only if a wanted one is among them. */
static bool
number_text(SegmentClasses *c, uint32_t number, uint32_t i, uint32_t *out, SpanError *error)
{
	ValueKind kind;
	SpanText  text = stored_text(&c->r->columns[number], i, &kind);
	bool      found = true;

	if (number == FIELD_SPAN_OVERFLOW && !has_wanted_key(c, text, &found, error))
		return false;
	*out = found ? number_value(c, number, kind, text.data, text.len) : NONE - 1;
	return *out != NONE ? true : segment_no_memory(error);
}

/* The values of a column's texts: of all, or by code. */
static bool
number_texts(SegmentClasses *c, uint32_t number, uint32_t *out, SpanError *error)
{
	const ReadColumn *column = &c->r->columns[number];
	bool              coded = column->form == FORM_CODES || column->local;
	uint32_t          n = column->form == FORM_CODES ? column->n_dictionary : column->n_texts;
	uint32_t         *by_code = out;

	if (coded)
	{
		by_code = arena_alloc(&c->block_arena, (size_t) n * sizeof(uint32_t));
		if (by_code == NULL)
			return segment_no_memory(error);
		memset(by_code, 0xff, (size_t) n * sizeof(uint32_t));
	}
	for (uint32_t i = 0; i < column->n_values; i++)
	{
		uint32_t at = coded ? column->codes[i] : i;

		if ((!coded || by_code[at] == NONE) && !number_text(c, number, at, &by_code[at], error))
			return false;
		out[i] = by_code[at];
	}
	return true;
}

static bool
load_values(SegmentClasses *c, WantedColumn *wanted, SpanError *error)
{
	ReadColumn *column = &c->r->columns[wanted->column];
	uint32_t   *out;

	if (!segment_load_column(c->r, wanted->column, error))
		return false;
	wanted->next = 0;
	if (column->form == FORM_CODES && wanted->column != FIELD_SPAN_OVERFLOW)
	{
		wanted->values = column->codes;
		return true;
	}
	out = arena_alloc(&c->block_arena, (size_t) column->n_values * sizeof(uint32_t));
	if (out == NULL)
		return segment_no_memory(error);
	wanted->values = out;
	if (column->form != FORM_NUMBERS)
		return number_texts(c, wanted->column, out, error);
	for (uint32_t i = 0; i < column->n_values; i++)
	{
		out[i] =
			number_value(c, wanted->column, VALUE_NUMBER, &column->numbers[i], sizeof(int64_t));
		if (out[i] == NONE)
			return segment_no_memory(error);
	}
	return true;
}

/* The class of the next row, found step by step. */
static uint32_t
varying_class(SegmentClasses *c, const ShapeClass *shape)
{
	uint32_t node = shape->root->node;

	for (uint32_t k = 0; k < shape->n_varying; k++)
	{
		WantedColumn *wanted = &c->wanted[shape->varying[k]];
		bool          last = k + 1 == shape->n_varying;

		node = step(c, node, wanted->values[wanted->next++], last ? &c->n_classes : &c->n_nodes);
		if (node == NONE)
			return NONE;
	}
	return node;
}

/* Numbers the rows one by one, where values vary. */
static bool
classify_values(SegmentClasses *c, uint32_t *numbers, SpanError *error)
{
	SegmentReader  *r = c->r;
	const uint32_t *shapes = r->tables[TABLE_SPAN].row_shapes;

	if (!segment_load_rows(r, TABLE_SPAN, error))
		return false;
	for (uint32_t i = 0; i < c->n_wanted; i++)
		if (c->wanted[i].used && !load_values(c, &c->wanted[i], error))
			return false;
	for (uint32_t row = 0; row < r->block_rows; row++)
	{
		const ShapeClass *shape = &c->shapes[shapes[row]];
		WantedColumn     *wanted = &c->wanted[shape->next];
		uint32_t *class;

		if (shape->by_code == NULL)
		{
			numbers[row] = varying_class(c, shape);
			if (numbers[row] == NONE)
				return segment_no_memory(error);
			continue;
		}
		class = &shape->by_code[wanted->values[wanted->next]];
		if (*class == NONE)
			*class = step(c, shape->root->node, wanted->values[wanted->next], &c->n_classes);
		if (*class == NONE)
			return segment_no_memory(error);
		wanted->next += wanted->step;
		numbers[row] = *class;
	}
	return true;
}

/* Numbers the rows of a block in which shapes are not known, or have values that vary. */
static bool
classify_block(SegmentClasses *c, uint32_t *numbers, SpanError *error)
{
	SegmentReader   *r = c->r;
	const ReadTable *table = &r->tables[TABLE_SPAN];
	bool             varies = false;

	if (!segment_count_shapes(r, TABLE_SPAN, error))
		return false;
	for (uint32_t i = 0; i < c->n_wanted; i++)
		c->wanted[i].used = false;
	for (uint32_t i = 0; i < table->n_shapes; i++)
	{
		const ShapeClass *shape = &c->shapes[i];

		if (table->histogram[i] == 0)
			continue;
		if (!shape->known && !know_shape(c, i, error))
			return false;
		varies |= shape->n_varying > 0;
		for (uint32_t k = 0; k < shape->n_varying; k++)
			c->wanted[shape->varying[k]].used = true;
	}
	if (varies)
		return classify_values(c, numbers, error);
	(void) array_lookup(table->row_shapes, r->block_rows, c->class_of, numbers);
	return true;
}

bool
segment_classes_block(SegmentClasses *c, uint32_t first, uint32_t *numbers, uint32_t *n_classes,
                      bool *restarted, SpanError *error)
{
	SegmentReader *r = c->r;

	if (first >= r->summary.rows || first % IMAGE_BLOCK_ROWS != 0)
		return span_error(error, SPAN_ERROR_INVALID, "no such block in the segment");
	arena_reset(&c->block_arena);
	*restarted = c->n_classes > MAX_REMEMBERED || c->n_values > MAX_REMEMBERED || c->bytes.len > MAX_BYTES;
	if (*restarted && !restart(c))
		return segment_no_memory(error);
	segment_load_block(r, first / IMAGE_BLOCK_ROWS);
	if (!segment_load_row_shapes(r, TABLE_SPAN, error))
		return false;
	/* NONE has the highest bit */
	if (array_lookup(r->tables[TABLE_SPAN].row_shapes, r->block_rows, c->class_of, numbers) &&
	    !classify_block(c, numbers, error))
		return false;
	*n_classes = c->n_classes;
	return true;
}

bool
segment_times_block(SegmentReader *r, uint32_t first, const int64_t **starts,
                    const int64_t **durations, SpanError *error)
{
	if (first >= r->summary.rows || first % IMAGE_BLOCK_ROWS != 0)
		return span_error(error, SPAN_ERROR_INVALID, "no such block in the segment");
	/* what describes the columns is reset with each block */
	if (!segment_load_schema(r, error))
		return false;
	segment_load_block(r, first / IMAGE_BLOCK_ROWS);
	if ((starts != NULL && !segment_load_starts(r, error)) ||
	    (durations != NULL && !segment_load_durations(r, error)))
		return false;
	if (starts != NULL)
		*starts = r->starts;
	if (durations != NULL)
		*durations = r->durations;
	return true;
}
