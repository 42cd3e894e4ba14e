/*-------------------------------------------------------------------------
 *
 * order.c
 *	  Groups spans by trace and sorts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "segment/order.h"

#include <stdlib.h>
#include <string.h>

/* Traces up to this many spans are sorted by insertion. */
#define INSERTION_SORT_MAX 24

typedef struct TraceTable
{
	uint32_t *slots;   /* index + 1 */
	uint32_t  n_slots; /* a power of two */
	TraceRun *traces;
	uint32_t  n_traces;
	uint32_t  size;
} TraceTable;

typedef struct StartKey
{
	int64_t  start;
	uint32_t span;
} StartKey;

static uint32_t
trace_slot(const TraceTable *table, const TraceId *id)
{
	uint32_t at = (uint32_t) span_bytes_hash(id, sizeof(*id), 0) & (table->n_slots - 1);

	while (table->slots[at] != 0 &&
	       memcmp(&table->traces[table->slots[at] - 1].id, id, sizeof(*id)) != 0)
		at = (at + 1) & (table->n_slots - 1);
	return at;
}

static bool
trace_table_grow(TraceTable *table, const SpanAllocator *allocator)
{
	uint32_t  size = table->size == 0 ? 64 : table->size * 2;
	TraceRun *traces = allocator->alloc(allocator->arg, (size_t) size * sizeof(TraceRun));
	uint32_t *slots = allocator->alloc(allocator->arg, (size_t) size * 2 * sizeof(uint32_t));

	if (traces == NULL || slots == NULL)
	{
		if (traces != NULL)
			allocator->release(allocator->arg, traces);
		if (slots != NULL)
			allocator->release(allocator->arg, slots);
		return false;
	}
	if (table->traces != NULL)
	{
		memcpy(traces, table->traces, table->n_traces * sizeof(TraceRun));
		allocator->release(allocator->arg, table->traces);
		allocator->release(allocator->arg, table->slots);
	}
	table->traces = traces;
	table->slots = slots;
	table->size = size;
	table->n_slots = size * 2;
	memset(slots, 0, (size_t) table->n_slots * sizeof(uint32_t));
	for (uint32_t i = 0; i < table->n_traces; i++)
		slots[trace_slot(table, &traces[i].id)] = i + 1;
	return true;
}

static int
compare_traces(const void *a, const void *b, void *arg)
{
	const TraceRun *traces = arg;
	const TraceRun *x = &traces[*(const uint32_t *) a];
	const TraceRun *y = &traces[*(const uint32_t *) b];

	if (x->min_start != y->min_start)
		return x->min_start < y->min_start ? -1 : 1;
	return memcmp(&x->id, &y->id, sizeof(x->id));
}

static int
compare_starts(const void *a, const void *b)
{
	const StartKey *x = a;
	const StartKey *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->span < y->span ? -1 : x->span > y->span;
}

/* Where the start times of the rows are. */
typedef struct Starts
{
	const char *base;
	size_t      offset;
	size_t      stride;
} Starts;

static inline int64_t
start_of(Starts starts, uint32_t row)
{
	int64_t start;

	memcpy(&start, starts.base + row * starts.stride + starts.offset, sizeof(start));
	return start;
}

/* Sorts the rows of one trace by start time, stable. */
static bool
sort_trace(Starts starts, uint32_t *rows, uint32_t count, const SpanAllocator *allocator)
{
	StartKey  local[INSERTION_SORT_MAX];
	StartKey *keys = local;
	bool      sorted = true;

	if (count > INSERTION_SORT_MAX)
	{
		keys = allocator->alloc(allocator->arg, (size_t) count * sizeof(StartKey));
		if (keys == NULL)
			return false;
	}
	for (uint32_t i = 0; i < count; i++)
	{
		keys[i].start = start_of(starts, rows[i]);
		keys[i].span = rows[i];
		if (i > 0 && keys[i].start < keys[i - 1].start)
			sorted = false;
	}
	if (!sorted)
	{
		if (count > INSERTION_SORT_MAX)
			qsort(keys, count, sizeof(StartKey), compare_starts);
		else
			for (uint32_t i = 1; i < count; i++)
			{
				StartKey key = keys[i];
				uint32_t j = i;

				for (; j > 0 && keys[j - 1].start > key.start; j--)
					keys[j] = keys[j - 1];
				keys[j] = key;
			}
		for (uint32_t i = 0; i < count; i++)
			rows[i] = keys[i].span;
	}
	if (keys != local)
		allocator->release(allocator->arg, keys);
	return true;
}

/* Fills trace_of[] and the table, traces in order of appearance. */
static bool
group_by_trace(const SpanBatch *batch, uint32_t first, uint32_t count,
               const SpanAllocator *allocator, TraceTable *table, uint32_t *trace_of)
{
	uint32_t current = UINT32_MAX;

	for (uint32_t i = 0; i < count; i++)
	{
		const Span *span = &batch->spans[first + i];
		int64_t     end = span->end_time_unix_nano;
		TraceRun   *run;

		if (end < span->start_time_unix_nano)
			end = span->start_time_unix_nano;
		if (current == UINT32_MAX ||
		    memcmp(&table->traces[current].id, &span->trace_id, sizeof(TraceId)) != 0)
		{
			uint32_t at;

			if (table->n_traces == table->size && !trace_table_grow(table, allocator))
				return false;
			at = trace_slot(table, &span->trace_id);
			if (table->slots[at] == 0)
			{
				run = &table->traces[table->n_traces++];
				memset(run, 0, sizeof(*run));
				run->id = span->trace_id;
				run->min_start = span->start_time_unix_nano;
				run->max_end = end;
				table->slots[at] = table->n_traces;
			}
			current = table->slots[at] - 1;
		}
		run = &table->traces[current];
		run->count++;
		if (span->start_time_unix_nano < run->min_start)
			run->min_start = span->start_time_unix_nano;
		if (end > run->max_end)
			run->max_end = end;
		trace_of[i] = current;
	}
	return true;
}

/* Places rows by trace; "sequence" is the order of the traces. */
static bool
place_rows(Starts starts, uint32_t first, const SpanAllocator *allocator, TraceRun *traces, uint32_t n_traces,
           const uint32_t *trace_of, const uint32_t *sequence, RowOrder *order)
{
	uint32_t row = 0;

	for (uint32_t t = 0; t < n_traces; t++)
	{
		TraceRun *run = &traces[sequence[t]];

		run->first_row = row;
		row += run->count;
		run->count = 0;
	}
	for (uint32_t i = 0; i < order->n_rows; i++)
	{
		TraceRun *run = &traces[trace_of[i]];

		order->spans[run->first_row + run->count++] = first + i;
	}
	order->traces = allocator->alloc(allocator->arg, (size_t) n_traces * sizeof(TraceRun) + 1);
	if (order->traces == NULL)
		return false;
	for (uint32_t t = 0; t < n_traces; t++)
	{
		const TraceRun *run = &traces[sequence[t]];

		order->traces[t] = *run;
		if (!sort_trace(starts, order->spans + run->first_row, run->count, allocator))
			return false;
	}
	order->n_traces = n_traces;
	return true;
}

bool
segment_order_traces(TraceRun *traces, uint32_t n_traces, const uint32_t *trace_of, uint32_t first, uint32_t count,
                     const char *starts, size_t offset, size_t stride, const SpanAllocator *allocator, RowOrder *order)
{
	Starts    rows = {starts, offset, stride};
	uint32_t *sequence = allocator->alloc(allocator->arg, (size_t) n_traces * sizeof(uint32_t) + 1);
	bool      ok = false;

	memset(order, 0, sizeof(*order));
	order->n_rows = count;
	order->spans = allocator->alloc(allocator->arg, (size_t) count * sizeof(uint32_t) + 1);
	if (sequence != NULL && order->spans != NULL)
	{
		for (uint32_t t = 0; t < n_traces; t++)
			sequence[t] = t;
		qsort_r(sequence, n_traces, sizeof(uint32_t), compare_traces, traces);
		ok = place_rows(rows, first, allocator, traces, n_traces, trace_of, sequence, order);
	}
	if (sequence != NULL)
		allocator->release(allocator->arg, sequence);
	return ok;
}

bool
segment_order(const SpanBatch *batch, uint32_t first, uint32_t count,
              const SpanAllocator *allocator, RowOrder *order)
{
	TraceTable table = {0};
	uint32_t  *trace_of = allocator->alloc(allocator->arg, (size_t) count * sizeof(uint32_t) + 1);
	bool       ok;

	memset(order, 0, sizeof(*order));
	ok = trace_of != NULL && group_by_trace(batch, first, count, allocator, &table, trace_of) &&
	     segment_order_traces(table.traces, table.n_traces, trace_of, first, count,
	                          (const char *) batch->spans, offsetof(Span, start_time_unix_nano), sizeof(Span), allocator, order);
	if (trace_of != NULL)
		allocator->release(allocator->arg, trace_of);
	if (table.traces != NULL)
	{
		allocator->release(allocator->arg, table.traces);
		allocator->release(allocator->arg, table.slots);
	}
	return ok;
}

void
segment_order_free(RowOrder *order, const SpanAllocator *allocator)
{
	if (order->spans != NULL)
		allocator->release(allocator->arg, order->spans);
	if (order->traces != NULL)
		allocator->release(allocator->arg, order->traces);
	memset(order, 0, sizeof(*order));
}
