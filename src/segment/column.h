/*-------------------------------------------------------------------------
 *
 * column.h
 *	  Writer's side of a typed column: takes values in row order, chooses an
 *	  encoding, writes the column's sections.
 *
 * The dictionary begins with the constants of shapes; with dictionary coding
 * it holds every value of the column.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_COLUMN_H
#define TEMPO_SEGMENT_COLUMN_H

#include "segment/sections.h"

typedef struct TextEntry
{
	const char *data;
	uint32_t    len;
	uint32_t    hash;
} TextEntry;

typedef struct Column
{
	uint8_t   table;
	uint8_t   type;          /* AnyValueType */
	bool      field;         /* holds a field, not an attribute */
	bool      coded;         /* decided at the end: values are dictionary codes */
	bool      no_dictionary; /* decided on the way: it would not pay */
	uint32_t  key;           /* batch string id */
	uint32_t  n_constants;
	Buffer    values;     /* int64_t numbers, or uint32_t indexes of entries */
	Buffer    entries;    /* TextEntry, or int64_t dictionary of numbers */
	uint64_t  n_interned; /* by column_intern() */
	uint32_t *slots;      /* text and constants: index + 1 */
	uint32_t  n_slots;
	Buffer    block_ends;  /* uint32_t: values up to the end of each block */
	Buffer    local_codes; /* uint32_t: code in the current block of each entry, + 1 */
} Column;

/* Is the column's type stored as numbers? */
static inline bool
type_is_number(uint8_t type)
{
	return type == ANY_BOOL || type == ANY_INT || type == ANY_DOUBLE;
}

extern void column_init(Column *c, const SpanAllocator *allocator);
extern void column_free(Column *c);

/*
 * column_constant: the dictionary index of a shape's constant; all constants
 * come before the first column_add().  Values of nested types are turned into
 * bytes in "arena".  False = no memory.
 */
extern bool column_constant(Column *c, const AnyValue *value, Arena *arena, uint32_t *index);
extern bool column_add(Column *c, const AnyValue *value, Arena *arena);

/*
 * column_intern: the index of a text among the entries, kept in "arena" if it
 * is new; the column has no values then
 */
extern bool column_intern(Column *c, SpanText text, Arena *arena, uint32_t *index);

/* column_forget_index: frees what finds entries; column_intern() makes it again */
extern void column_forget_index(Column *c);

/* column_end_block: what comes next belongs to the next block */
extern void column_end_block(Column *c);

/* column_decide: after the last value: chooses between dictionary and not */
extern bool column_decide(Column *c);

static inline uint32_t
column_n_entries(const Column *c)
{
	return (uint32_t) (c->entries.len / (type_is_number(c->type) ? sizeof(int64_t) : sizeof(TextEntry)));
}

/* column_n_dictionary: entries that column_write_dictionary() writes */
static inline uint32_t
column_n_dictionary(const Column *c)
{
	return c->coded ? column_n_entries(c) : c->n_constants;
}

extern void column_write_block(Column *c, uint32_t number, uint32_t block, Sections *sections, Buffer *data, Buffer *payload);
extern void column_write_dictionary(Column *c, uint32_t number, Sections *sections, Buffer *scratch);

/* column_write_bloom: a filter over all values, unless they are few */
extern bool column_write_bloom(Column *c, uint32_t number, Sections *sections, Buffer *scratch);

#endif /* TEMPO_SEGMENT_COLUMN_H */
