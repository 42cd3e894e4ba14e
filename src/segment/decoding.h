/*-------------------------------------------------------------------------
 *
 * decoding.h
 *	  What the files that make spans of columns share.
 *
 * template.c holds what all spans of a shape have in common, decode.c adds
 * what varies by row, select.c finds the rows that are wanted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_DECODING_H
#define TEMPO_SEGMENT_DECODING_H

#include "segment/reading.h"

typedef struct Vary
{
	uint32_t column;
	uint32_t target; /* attribute of the template; unused for fields */
} Vary;

typedef struct Template
{
	Vary     *fields;
	uint32_t  n_fields;
	Vary     *values;
	uint32_t  n_values;
	KeyValue *items; /* attributes; in the batch if none varies */
	uint32_t  n_items;
	uint32_t *ordinals;     /* of the items among all attributes with columns */
	uint32_t  overflow;     /* column, or 0 */
	uint64_t  block_serial; /* of the block whose columns were last seen to be loaded */
	bool      has_distance; /* parent inside the block */
	int64_t   distance;
	union
	{
		Span      span;
		SpanEvent event;
		SpanLink  link;
	} proto;
} Template;

typedef struct Decoder
{
	SegmentReader *r;
	SpanBatch     *batch;
	Arena         *arena; /* the batch's */
	Arena          temp;
	SpanError     *error;

	/* only few rows of the block are wanted, so only their values are loaded */
	bool sparse;

	/* of the rows from times_of on; NULL if not wanted */
	const int64_t *starts;
	const int64_t *durations;
	uint32_t       times_of;
} Decoder;

/* Rows of one block: first .. end - 1 of those that begin at row "begin" of the segment. */
typedef struct BlockRows
{
	uint32_t block;
	uint32_t begin;
	uint32_t first;
	uint32_t end;
} BlockRows;

/* next_block_rows: cuts the rows of one block off *first .. end - 1; false = none is left */
static inline bool
next_block_rows(uint32_t *first, uint32_t end, BlockRows *rows)
{
	uint32_t stop;

	if (*first >= end)
		return false;
	rows->block = *first / IMAGE_BLOCK_ROWS;
	rows->begin = rows->block * IMAGE_BLOCK_ROWS;
	stop = end - rows->begin < IMAGE_BLOCK_ROWS ? end : rows->begin + IMAGE_BLOCK_ROWS;
	rows->first = *first - rows->begin;
	rows->end = stop - rows->begin;
	*first = stop;
	return true;
}

/* template.c */
extern bool segment_begin_decoding(Decoder *d, SegmentReader *r, const SegmentProjection *projection,
                                   SpanBatch *batch, SpanError *error);

/* segment_end_decoding: leaves the batch as it was "before" if decoding failed */
extern bool segment_end_decoding(Decoder *d, uint32_t before, bool ok);

/* segment_key_wanted: does the projection name this attribute of spans? */
extern bool segment_key_wanted(const SegmentReader *r, SpanText key);

/* segment_dictionary_value: a dictionary entry, its bytes in the batch */
extern bool segment_dictionary_value(Decoder *d, ReadColumn *c, uint32_t index, AnyValue *out);

extern void segment_set_span_field(Template *t, Span *span, uint32_t column, const AnyValue *value);
extern void segment_set_child_field(SpanEvent *event, SpanLink *link, uint32_t column, const AnyValue *value);

/* segment_make_template: of a shape; NULL on failure */
extern Template *segment_make_template(Decoder *d, TableId table, ReadShape *shape);

/* segment_load_template_columns: columns are loaded by block, templates live longer */
extern bool segment_load_template_columns(Decoder *d, Template *t);

/* segment_load_template_values: the same for the rows that segment_expect_rows() was told of */
extern bool segment_load_template_values(Decoder *d, Template *t);

/* segment_template: of the shape of a row in the current block */
static inline Template *
segment_template(Decoder *d, TableId table, uint32_t row)
{
	ReadTable *t = &d->r->tables[table];
	ReadShape *shape = &t->shapes[t->row_shapes[row]];

	return shape->template != NULL ? shape->template : segment_make_template(d, table, shape);
}

/*
 * decode.c
 *
 * segment_value_in_place: value "i" of a loaded column; its bytes are where the
 * column has them, or in the arena
 */
extern bool segment_value_in_place(Arena *arena, const ReadColumn *c, uint32_t i, AnyValue *out, SpanError *error);

/* segment_expand_hex: text "i" of a column of packed hexadecimal, fixed_len bytes */
extern void segment_expand_hex(const ReadColumn *c, uint32_t i, char *to);

/*
 * segment_n_children: events or links of a row of the shape, whose count is value
 * "at" of its column if it varies
 */
extern bool segment_n_children(SegmentReader *r, bool events, const ReadShape *shape, uint32_t at,
                               uint32_t *count, SpanError *error);

/* segment_prepare_block: loads what all rows of the block need */
extern bool segment_prepare_block(Decoder *d, uint32_t block);

/* segment_decode_some: some rows of the current block, which begins at "begin", in ascending order */
extern bool segment_decode_some(Decoder *d, uint32_t begin, const uint32_t *rows, uint32_t n);

#endif /* TEMPO_SEGMENT_DECODING_H */
