/*-------------------------------------------------------------------------
 *
 * rows.h
 *	  Spans, events and links as rows of the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_ROWS_H
#define TEMPO_SEGMENT_ROWS_H

#include "segment/order.h"
#include "segment/shape.h"

/* How a span's parent is stored; other values are the distance in rows. */
#define PARENT_NONE INT32_MIN
#define PARENT_ELSEWHERE (INT32_MIN + 1)

typedef struct RowBuilder
{
	const SpanBatch *batch;
	ColumnSet       *columns;
	Row              row;
	Buffer           overflow; /* bytes of the row's rare attributes */
} RowBuilder;

extern void rows_init(RowBuilder *b, const SpanBatch *batch, ColumnSet *columns);
extern void rows_free(RowBuilder *b);

/*
 * rows_span, rows_event, rows_link: fill b->row.  "fill" = second pass: the
 * overflow bytes are wanted, too.  False = no memory.
 */
extern bool rows_span(RowBuilder *b, const Span *span, int32_t parent, bool fill);
extern bool rows_event(RowBuilder *b, const SpanEvent *event, bool fill);
extern bool rows_link(RowBuilder *b, const SpanLink *link, bool fill);

/* Where the ids of row i of an order are: stride times (order->spans[i] - first) from the base. */
typedef struct RowIds
{
	const char *base;
	uint32_t    first;
	size_t      stride;
	size_t      span_id; /* offsets */
	size_t      parent;
} RowIds;

/* rows_parents: finds the parents inside each trace; result[row], from the allocator */
extern int32_t *rows_parents(const RowIds *ids, const RowOrder *order, const SpanAllocator *allocator);

/* rows_mark_rare: keys that are too rare for a column of their own */
extern bool rows_mark_rare(const SpanBatch *batch, uint32_t first, uint32_t n_rows, ColumnSet *columns);

/* rows_mark_rare_keys: the same from how often they occur: [N_TABLES] by string id */
extern void rows_mark_rare_keys(const uint32_t *counts, uint32_t n_rows, ColumnSet *columns);

/* rows_note_rare: for the list of rare keys and the filter over their values */
extern void rows_note_rare(ColumnSet *columns, TableId table, const KeyValue *kv);

#endif /* TEMPO_SEGMENT_ROWS_H */
