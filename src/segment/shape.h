/*-------------------------------------------------------------------------
 *
 * shape.h
 *	  Writer's side of tables: rows as a shape and the values that vary.
 *
 * A shape is the interned combination of a row's fields and its ordered list
 * of columns.  Values that are the same in every row of a shape are kept in
 * the shape.  Rows are given twice in the same order: first to find the
 * shapes and what varies in them, then to fill the columns.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_SHAPE_H
#define TEMPO_SEGMENT_SHAPE_H

#include "segment/column.h"
#include "segment/image.h"

/* All columns of a segment, whatever the table. */
typedef struct ColumnSet
{
	const SpanAllocator *allocator;
	Buffer               columns;            /* of Column */
	uint32_t             n_strings;          /* of the batch */
	uint32_t            *key_slot[N_TABLES]; /* by string id: index + 1 into key_columns, 0, or RARE_KEY */
	Buffer               key_columns;        /* uint32_t[8] per key: column by value type, 0 = none yet */
	uint32_t             n_keys;
	Arena                arena;                 /* bytes of nested values */
	uint8_t             *rare_types[N_TABLES];  /* by string id: bits of the value types of rare keys */
	Buffer               rare_hashes[N_TABLES]; /* uint64_t: keys and values in the overflow column */
} ColumnSet;

#define RARE_KEY UINT32_MAX

/* A shape of fewer rows keeps no constants: they would cost more than column values. */
#define CONSTANT_MIN_ROWS 4

extern bool columns_init(ColumnSet *set, const SpanAllocator *allocator, uint32_t n_strings);
extern void columns_free(ColumnSet *set);

static inline Column *
columns_get(const ColumnSet *set, uint32_t number)
{
	return (Column *) set->columns.data + number;
}

static inline uint32_t
columns_count(const ColumnSet *set)
{
	return (uint32_t) (set->columns.len / sizeof(Column));
}

/* columns_number, columns_make: the column of a key and type, made if need be; RARE_KEY for the overflow column */
extern bool columns_make(ColumnSet *set, TableId table, uint32_t key_id, uint8_t type, uint32_t *number);

static inline bool
columns_number(ColumnSet *set, TableId table, uint32_t key_id, uint8_t type, uint32_t *number)
{
	uint32_t slot = set->key_slot[table][key_id];

	if (slot - 1 < RARE_KEY - 1) /* neither 0 nor RARE_KEY */
	{
		*number = ((const uint32_t *) set->key_columns.data)[(size_t) (slot - 1) * 8 + (type & 7)];
		if (*number != 0)
			return true;
	}
	return columns_make(set, table, key_id, type, number);
}

typedef struct RowItem
{
	uint32_t column;
	AnyValue value;
} RowItem;

typedef struct Row
{
	uint32_t fields[SHAPE_FIELDS];
	RowItem *items;
	uint32_t n_items;
	uint32_t size; /* of items */
} Row;

typedef struct ShapeItem
{
	uint32_t column;
	bool     varying;
	uint32_t constant; /* dictionary index, if not varying */
	AnyValue first;    /* value in the first row */
} ShapeItem;

typedef struct Shape
{
	uint32_t fields[SHAPE_FIELDS];
	uint32_t first_item;
	uint32_t n_items;
	uint32_t rows;
	uint64_t hash;
	uint32_t number; /* as stored: the most frequent shape is 0 */
} Shape;

typedef struct Table
{
	const SpanAllocator *allocator;
	ColumnSet           *set;
	Buffer               shapes;     /* of Shape */
	Buffer               items;      /* of ShapeItem */
	Buffer               row_shapes; /* uint32_t per row */
	Buffer               block_ends; /* uint32_t: rows up to the end of each block */
	uint32_t            *slots;      /* index of shape + 1 */
	uint32_t             n_slots;
	uint32_t            *by_number; /* after table_settle(): index of the shape with a number */
} Table;

extern void table_init(Table *t, ColumnSet *set);
extern void table_free(Table *t);

/* table_find_shape: first pass, one row */
extern bool table_find_shape(Table *t, const Row *row);
extern void table_end_block(Table *t);

/*
 * table_add_shape, table_number: instead of table_find_shape() and
 * table_settle(), for who knows which rows have one shape, compares their values
 * and hands out the constants itself, in the order of the numbers
 */
extern bool table_add_shape(Table *t, const uint32_t *fields, const uint32_t *columns, uint32_t n, uint32_t *index);
extern bool table_number(Table *t);

/* table_settle: between the passes: numbers the shapes, hands constants to the columns */
extern bool table_settle(Table *t);

/* table_fill: second pass, row number "at" again */
extern bool table_fill(Table *t, uint32_t at, const Row *row);

static inline uint32_t
table_n_shapes(const Table *t)
{
	return (uint32_t) (t->shapes.len / sizeof(Shape));
}

static inline uint32_t
table_n_rows(const Table *t)
{
	return (uint32_t) (t->row_shapes.len / sizeof(uint32_t));
}

#endif /* TEMPO_SEGMENT_SHAPE_H */
