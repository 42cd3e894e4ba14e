/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  Turns a SpanBatch into the image of one segment.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/writer.h"

#include <stdlib.h>

#include "segment/codec.h"
#include "segment/frame.h"
#include "segment/image.h"
#include "segment/order.h"

#define DEFAULT_ZSTD_LEVEL 1

typedef struct Writer
{
	const SpanBatch *batch;
	const SpanAllocator *allocator;
	RowOrder	order;
	Buffer		out;
	Buffer		block;
	Buffer		footer;
	int			zstd_level;
} Writer;

uint64_t
segment_tenant_bit(SpanText tenant)
{
	uint64_t	h = UINT64_C(0xcbf29ce484222325);

	/* FNV-1a: stored in directories, so it must never change */
	for (uint32_t i = 0; i < tenant.len; i++)
		h = (h ^ (uint8_t) tenant.data[i]) * UINT64_C(0x100000001b3);
	return UINT64_C(1) << ((h ^ (h >> 32)) & 63);
}

/* end - start without overflow, at least 0 */
static int64_t
clamped_difference(int64_t start, int64_t end)
{
	uint64_t	d;

	if (end <= start)
		return 0;
	d = (uint64_t) end - (uint64_t) start;
	return d > INT64_MAX ? INT64_MAX : (int64_t) d;
}

static bool
summarize(Writer *w, SegmentSummary *s)
{
	const SpanBatch *batch = w->batch;
	bool	   *seen = w->allocator->alloc(w->allocator->arg, batch->n_strings);

	if (seen == NULL)
		return false;
	memset(seen, 0, batch->n_strings);
	s->rows = w->order.n_rows;
	s->traces = w->order.n_traces;
	s->min_start_nano = INT64_MAX;
	s->max_start_nano = s->max_end_nano = INT64_MIN;
	s->min_duration_nano = INT64_MAX;
	for (uint32_t row = 0; row < s->rows; row++)
	{
		const Span *span = &batch->spans[w->order.spans[row]];
		uint32_t	tenant = span_resource(batch, span)->tenant;
		int64_t		start = span->start_time_unix_nano;
		int64_t		end = span->end_time_unix_nano > start ? span->end_time_unix_nano : start;
		int64_t		duration = clamped_difference(start, end);

		s->min_start_nano = start < s->min_start_nano ? start : s->min_start_nano;
		s->max_start_nano = start > s->max_start_nano ? start : s->max_start_nano;
		s->max_end_nano = end > s->max_end_nano ? end : s->max_end_nano;
		s->min_duration_nano = duration < s->min_duration_nano ? duration : s->min_duration_nano;
		s->max_duration_nano = duration > s->max_duration_nano ? duration : s->max_duration_nano;
		if (!seen[tenant])
		{
			seen[tenant] = true;
			s->n_tenants++;
			s->tenant_filter |= segment_tenant_bit(batch->strings[tenant]);
		}
		s->raw_size += sizeof(Span) + span->attributes.count * sizeof(KeyValue);
	}
	for (uint32_t t = 0; t < w->order.n_traces; t++)
	{
		int64_t		extent = clamped_difference(w->order.traces[t].min_start, w->order.traces[t].max_end);

		s->max_trace_nano = extent > s->max_trace_nano ? extent : s->max_trace_nano;
	}
	if (s->rows == 0)
		s->min_start_nano = s->max_start_nano = s->max_end_nano = s->min_duration_nano = 0;
	w->allocator->release(w->allocator->arg, seen);
	return true;
}

static void
put_span(Buffer *out, const Span *span, uint32_t trace)
{
	buffer_put_varint(out, trace);
	buffer_put(out, &span->span_id, SPAN_ID_LEN);
	buffer_put(out, &span->parent_span_id, SPAN_ID_LEN);
	buffer_put_u64(out, span->start_time_unix_nano);
	buffer_put_varint(out, zigzag((int64_t) ((uint64_t) span->end_time_unix_nano - (uint64_t) span->start_time_unix_nano)));
	buffer_put_varint(out, span->scope);
	buffer_put_varint(out, span->name);
	buffer_put_varint(out, zigzag(span->kind));
	buffer_put_varint(out, zigzag(span->status_code));
	buffer_put_varint(out, span->flags);
	buffer_put_varint(out, span->dropped_attributes_count);
	buffer_put_varint(out, span->dropped_events_count);
	buffer_put_varint(out, span->dropped_links_count);
	buffer_put_text(out, span->status_message);
	buffer_put_text(out, span->trace_state);
	attributes_put(out, span->attributes);
	buffer_put_varint(out, span->n_events);
	for (uint32_t i = 0; i < span->n_events; i++)
	{
		buffer_put_u64(out, span->events[i].time_unix_nano);
		buffer_put_text(out, span->events[i].name);
		buffer_put_varint(out, span->events[i].dropped_attributes_count);
		attributes_put(out, span->events[i].attributes);
	}
	buffer_put_varint(out, span->n_links);
	for (uint32_t i = 0; i < span->n_links; i++)
	{
		buffer_put(out, &span->links[i].trace_id, TRACE_ID_LEN);
		buffer_put(out, &span->links[i].span_id, SPAN_ID_LEN);
		buffer_put_text(out, span->links[i].trace_state);
		buffer_put_varint(out, span->links[i].flags);
		buffer_put_varint(out, span->links[i].dropped_attributes_count);
		attributes_put(out, span->links[i].attributes);
	}
}

static void
put_frame(Buffer *out, const Frame *frame)
{
	buffer_put_u8(out, frame->codec);
	buffer_put_varint(out, frame->raw_len);
	buffer_put_varint(out, frame->stored_len);
	buffer_put_u32(out, frame->crc);
}

static bool
write_blocks(Writer *w, SpanError *error)
{
	const RowOrder *order = &w->order;
	uint32_t	trace = 0;
	uint32_t	n_blocks = (order->n_rows + IMAGE_BLOCK_ROWS - 1) / IMAGE_BLOCK_ROWS;

	buffer_put_varint(&w->footer, n_blocks);
	for (uint32_t row = 0; row < order->n_rows;)
	{
		uint32_t	end = order->n_rows - row < IMAGE_BLOCK_ROWS ? order->n_rows : row + IMAGE_BLOCK_ROWS;
		int64_t		min_start = INT64_MAX;
		int64_t		max_start = INT64_MIN;
		int64_t		max_duration = 0;
		Frame		frame;

		w->block.len = 0;
		for (; row < end; row++)
		{
			const Span *span = &w->batch->spans[order->spans[row]];
			int64_t		start = span->start_time_unix_nano;
			int64_t		duration = clamped_difference(start, span->end_time_unix_nano);

			while (row >= order->traces[trace].first_row + order->traces[trace].count)
				trace++;
			put_span(&w->block, span, trace);
			min_start = start < min_start ? start : min_start;
			max_start = start > max_start ? start : max_start;
			max_duration = duration > max_duration ? duration : max_duration;
		}
		if (w->block.len > SEGMENT_MAX_BYTES)
			return span_error(error, SPAN_ERROR_LIMIT, "segment would exceed %u bytes", SEGMENT_MAX_BYTES);
		if (w->block.failed || !frame_write(&w->out, w->block.data, w->block.len, w->zstd_level, &frame))
			return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
		put_frame(&w->footer, &frame);
		buffer_put_u64(&w->footer, min_start);
		buffer_put_u64(&w->footer, max_start);
		buffer_put_u64(&w->footer, max_duration);
	}
	return true;
}

static void
put_summary(Buffer *f, const SegmentSummary *s)
{
	buffer_put_varint(f, s->rows);
	buffer_put_varint(f, s->traces);
	buffer_put_u8(f, s->level);
	buffer_put_u64(f, s->min_start_nano);
	buffer_put_u64(f, s->max_start_nano);
	buffer_put_u64(f, s->max_end_nano);
	buffer_put_u64(f, s->min_duration_nano);
	buffer_put_u64(f, s->max_duration_nano);
	buffer_put_u64(f, s->max_trace_nano);
	buffer_put_varint(f, s->n_tenants);
	buffer_put_u64(f, s->tenant_filter);
	buffer_put_u64(f, s->raw_size);
}

static bool
write_footer(Writer *w, const SegmentWriteOptions *options)
{
	Buffer	   *f = &w->footer;
	const SpanBatch *batch = w->batch;

	buffer_put_varint(f, options->n_request_hashes);
	buffer_put(f, options->request_hashes, (size_t) options->n_request_hashes * sizeof(RequestHash));
	buffer_put_varint(f, batch->n_strings);
	for (uint32_t i = 0; i < batch->n_strings; i++)
		buffer_put_text(f, batch->strings[i]);
	buffer_put_varint(f, batch->n_resources);
	for (uint32_t i = 0; i < batch->n_resources; i++)
	{
		const SpanResource *r = &batch->resources[i];

		buffer_put_varint(f, r->tenant);
		buffer_put_varint(f, r->schema_url);
		buffer_put_varint(f, r->dropped_attributes_count);
		buffer_put_text(f, r->entity_refs);
		attributes_put(f, r->attributes);
	}
	buffer_put_varint(f, batch->n_scopes);
	for (uint32_t i = 0; i < batch->n_scopes; i++)
	{
		const SpanScope *s = &batch->scopes[i];

		buffer_put_varint(f, s->resource);
		buffer_put_varint(f, s->name);
		buffer_put_varint(f, s->version);
		buffer_put_varint(f, s->schema_url);
		buffer_put_varint(f, s->dropped_attributes_count);
		attributes_put(f, s->attributes);
	}
	for (uint32_t t = 0; t < w->order.n_traces; t++)
	{
		buffer_put(f, &w->order.traces[t].id, TRACE_ID_LEN);
		buffer_put_varint(f, w->order.traces[t].count);
	}
	return !f->failed;
}

static bool
write_image(Writer *w, const SegmentWriteOptions *options, SegmentImage *image, SpanError *error)
{
	uint8_t		trailer[IMAGE_TRAILER_LEN] = {0};
	Frame		frame;

	if (!summarize(w, &image->summary))
		return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	image->summary.level = options->level;
	put_summary(&w->footer, &image->summary);
	buffer_put(&w->out, IMAGE_MAGIC, 4);
	buffer_put_u8(&w->out, IMAGE_VERSION);
	buffer_put(&w->out, "\0\0\0", 3);
	if (!write_blocks(w, error))
		return false;
	if (!write_footer(w, options) ||
		!frame_write(&w->out, w->footer.data, w->footer.len, w->zstd_level, &frame))
		return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	trailer[0] = frame.codec;
	store_u32(trailer + 4, frame.stored_len);
	store_u32(trailer + 8, frame.raw_len);
	store_u32(trailer + 12, frame.crc);
	store_u32(trailer + 16, crc32c(trailer, 16));
	memcpy(trailer + 20, IMAGE_MAGIC, 4);
	buffer_put(&w->out, trailer, sizeof(trailer));
	if (w->out.failed)
		return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	if (w->out.len > SEGMENT_MAX_BYTES)
		return span_error(error, SPAN_ERROR_LIMIT, "segment would exceed %u bytes", SEGMENT_MAX_BYTES);
	image->summary.size = w->out.len;
	return true;
}

bool
segment_write(const SpanBatch *batch, uint32_t first, uint32_t count,
			  const SegmentWriteOptions *options, const SpanAllocator *allocator,
			  SegmentImage *image, SpanError *error)
{
	Writer		w = {0};
	bool		ok;

	memset(image, 0, sizeof(*image));
	if (first > batch->n_spans || count > batch->n_spans - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such spans in the batch");
	if (count > SEGMENT_MAX_ROWS)
		return span_error(error, SPAN_ERROR_LIMIT, "a segment cannot have more than %u rows", SEGMENT_MAX_ROWS);
	w.batch = batch;
	w.allocator = allocator;
	w.zstd_level = options->zstd_level > 0 ? options->zstd_level : DEFAULT_ZSTD_LEVEL;
	buffer_init(&w.out, allocator);
	buffer_init(&w.block, allocator);
	buffer_init(&w.footer, allocator);
	image->row_of = allocator->alloc(allocator->arg, (size_t) count * sizeof(uint32_t) + 1);
	if (image->row_of == NULL || !segment_order(batch, first, count, allocator, &w.order))
		ok = span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	else
	{
		for (uint32_t row = 0; row < count; row++)
			image->row_of[w.order.spans[row] - first] = row;
		ok = write_image(&w, options, image, error);
	}
	if (ok)
	{
		image->data = w.out.data;
		image->size = w.out.len;
	}
	else
	{
		buffer_free(&w.out);
		segment_image_free(image, allocator);
	}
	buffer_free(&w.block);
	buffer_free(&w.footer);
	segment_order_free(&w.order, allocator);
	return ok;
}

void
segment_image_free(SegmentImage *image, const SpanAllocator *allocator)
{
	if (image->data != NULL)
		allocator->release(allocator->arg, image->data);
	if (image->row_of != NULL)
		allocator->release(allocator->arg, image->row_of);
	memset(image, 0, sizeof(*image));
}
