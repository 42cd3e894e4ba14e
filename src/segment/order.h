/*-------------------------------------------------------------------------
 *
 * order.h
 *	  The order of rows in a segment: spans of a trace together, traces by
 *	  start time, spans of a trace by start time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_ORDER_H
#define TEMPO_SEGMENT_ORDER_H

#include "span/batch.h"

typedef struct TraceRun
{
	TraceId  id;
	int64_t  min_start;
	int64_t  max_end;
	uint32_t first_row;
	uint32_t count;
} TraceRun;

typedef struct RowOrder
{
	uint32_t *spans; /* spans[row] = index into the batch's spans */
	uint32_t  n_rows;
	TraceRun *traces; /* in row order */
	uint32_t  n_traces;
} RowOrder;

/*
 * segment_order_traces: the same for rows whose traces are known: trace_of[i]
 * is that of row first + i of the source, "traces" have id, times and count,
 * and the start of row i is stride * i + offset bytes behind "starts".
 */
extern bool segment_order_traces(TraceRun *traces, uint32_t n_traces, const uint32_t *trace_of, uint32_t first,
                                 uint32_t count, const char *starts, size_t offset, size_t stride, const SpanAllocator *allocator,
                                 RowOrder *order);

/* False = no memory.  segment_order_free() also after a failure. */
extern bool segment_order(const SpanBatch *batch, uint32_t first, uint32_t count,
                          const SpanAllocator *allocator, RowOrder *order);
extern void segment_order_free(RowOrder *order, const SpanAllocator *allocator);

#endif /* TEMPO_SEGMENT_ORDER_H */
