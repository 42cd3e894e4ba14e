/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  Turns a SpanBatch into the image of one segment.
 *
 * Rows are put in order, then passed twice: the first pass finds the shapes
 * and what is constant in them, the second fills the columns.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/writing.h"

/* Rows to fetch ahead: spans of a trace may come from all over the batch. */
#define PREFETCH_SPANS 12
#define PREFETCH_ATTRIBUTES 7
#define PREFETCH_VALUES 3

static inline const Span *
span_at(const Writer *w, uint32_t row)
{
	const SpanBatch *batch = w->batch;
	const RowOrder  *order = &w->order;

	if (row + PREFETCH_SPANS < order->n_rows)
	{
		const char *ahead = (const char *) &batch->spans[order->spans[row + PREFETCH_SPANS]];

		__builtin_prefetch(ahead);
		__builtin_prefetch(ahead + 64);
		__builtin_prefetch(ahead + 128);
	}
	if (row + PREFETCH_ATTRIBUTES < order->n_rows)
	{
		const Span *ahead = &batch->spans[order->spans[row + PREFETCH_ATTRIBUTES]];
		const char *items = (const char *) ahead->attributes.items;

		for (uint32_t i = 0; i < ahead->attributes.count && i < 12; i += 2)
			__builtin_prefetch(items + i * sizeof(KeyValue));
	}
	if (row + PREFETCH_VALUES < order->n_rows)
	{
		AttributeList list = batch->spans[order->spans[row + PREFETCH_VALUES]].attributes;

		for (uint32_t i = 0; i < list.count && i < 12; i++)
			if (list.items[i].value.type == ANY_STRING)
				__builtin_prefetch(list.items[i].value.u.data);
	}
	return &batch->spans[order->spans[row]];
}

static bool
find_shapes(Writer *w, RowBuilder *b)
{
	uint32_t row = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		int64_t zone[3] = {INT64_MAX, INT64_MIN, 0};

		for (; row < writer_block_end(w, block); row++)
		{
			const Span *span = span_at(w, row);

			writer_note_row(w, span_resource(w->batch, span)->tenant, span->start_time_unix_nano,
			                span->end_time_unix_nano, zone);
			if (!rows_span(b, span, w->parents[row], false) || !table_find_shape(&w->tables[TABLE_SPAN], &b->row))
				return false;
			for (uint32_t i = 0; i < span->n_events; i++)
				if (!rows_event(b, &span->events[i], false) || !table_find_shape(&w->tables[TABLE_EVENT], &b->row))
					return false;
			for (uint32_t i = 0; i < span->n_links; i++)
				if (!rows_link(b, &span->links[i], false) || !table_find_shape(&w->tables[TABLE_LINK], &b->row))
					return false;
		}
		for (int t = 0; t < N_TABLES; t++)
			table_end_block(&w->tables[t]);
		buffer_put(&w->zones, zone, sizeof(zone));
	}
	return !w->zones.failed;
}

static bool
fill_columns(Writer *w, RowBuilder *b)
{
	uint32_t row = 0;
	uint32_t event = 0;
	uint32_t link = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		for (; row < writer_block_end(w, block); row++)
		{
			const Span *span = span_at(w, row);

			if (!rows_span(b, span, w->parents[row], true) || !table_fill(&w->tables[TABLE_SPAN], row, &b->row))
				return false;
			for (uint32_t i = 0; i < span->n_events; i++)
				if (!rows_event(b, &span->events[i], true) || !table_fill(&w->tables[TABLE_EVENT], event++, &b->row))
					return false;
			for (uint32_t i = 0; i < span->n_links; i++)
				if (!rows_link(b, &span->links[i], true) || !table_fill(&w->tables[TABLE_LINK], link++, &b->row))
					return false;
		}
		for (uint32_t c = 0; c < columns_count(&w->columns); c++)
			column_end_block(columns_get(&w->columns, c));
	}
	return writer_end_columns(w);
}

static void
gather_spans(Writer *w, uint32_t first, uint32_t end)
{
	for (uint32_t row = first; row < end; row++)
	{
		const Span *span = &w->batch->spans[w->order.spans[row]];
		uint64_t    start = (uint64_t) span->start_time_unix_nano;

		if (row + PREFETCH_SPANS < end)
		{
			const char *ahead = (const char *) &w->batch->spans[w->order.spans[row + PREFETCH_SPANS]];

			__builtin_prefetch(ahead);
			__builtin_prefetch(ahead + sizeof(Span) - 1);
		}
		writer_put_number(&w->starts, start);
		writer_put_number(&w->durations, (uint64_t) span->end_time_unix_nano - start);
		buffer_put(&w->ids, &span->span_id, SPAN_ID_LEN);
		for (uint32_t i = 0; i < span->n_links; i++)
		{
			buffer_put(&w->link_ids, &span->links[i].trace_id, TRACE_ID_LEN);
			buffer_put(&w->link_ids, &span->links[i].span_id, SPAN_ID_LEN);
		}
		for (uint32_t i = 0; i < span->n_events; i++)
			writer_put_number(&w->event_times, (uint64_t) span->events[i].time_unix_nano - start);
	}
}

static bool
run(Writer *w, RowBuilder *b, uint32_t first, uint32_t count, SegmentImage *image)
{
	const SpanBatch     *batch = w->batch;
	const SpanAllocator *a = w->allocator;
	RowIds               ids = {(const char *) batch->spans, 0, sizeof(Span), offsetof(Span, span_id), offsetof(Span, parent_span_id)};

	image->row_of = a->alloc(a->arg, (size_t) count * sizeof(uint32_t) + 1);
	if (image->row_of == NULL || !writer_see_tenants(w) || !segment_order(batch, first, count, a, &w->order))
		return false;
	for (uint32_t row = 0; row < count; row++)
		image->row_of[w->order.spans[row] - first] = row;
	w->parents = rows_parents(&ids, &w->order, a);
	if (w->parents == NULL || !columns_init(&w->columns, a, batch->n_strings) ||
	    !rows_mark_rare(batch, first, count, &w->columns))
		return false;
	for (int t = 0; t < N_TABLES; t++)
		table_init(&w->tables[t], &w->columns);
	rows_init(b, batch, &w->columns);
	if (!find_shapes(w, b))
		return false;
	for (int t = 0; t < N_TABLES; t++)
		if (!table_settle(&w->tables[t]))
			return false;
	return fill_columns(w, b);
}

bool
segment_write(const SpanBatch *batch, uint32_t first, uint32_t count,
              const SegmentWriteOptions *options, const SpanAllocator *allocator,
              SegmentImage *image, SpanError *error)
{
	Writer     w;
	RowBuilder builder = {0};
	bool       ok;

	memset(image, 0, sizeof(*image));
	if (first > batch->n_spans || count > batch->n_spans - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such spans in the batch");
	if (!writer_init(&w, batch, count, options, allocator, error))
		return false;
	w.gather = gather_spans;
	ok = run(&w, &builder, first, count, image);
	rows_free(&builder);
	return writer_end(&w, ok, image, error);
}
