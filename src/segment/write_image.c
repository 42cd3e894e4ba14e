/*-------------------------------------------------------------------------
 *
 * write_image.c
 *	  Writes the image of a segment whose shapes and columns are known.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "segment/writing.h"

#include <stdlib.h>

#include "segment/bloom.h"
#include "segment/codec.h"
#include "segment/pack.h"

#define DEFAULT_ZSTD_LEVEL 1

static void *
zeroed(const SpanAllocator *allocator, size_t size)
{
	void *p = allocator->alloc(allocator->arg, size + 1);

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

uint64_t
segment_tenant_bit(SpanText tenant)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	/* FNV-1a: stored in directories, so it must never change */
	for (uint32_t i = 0; i < tenant.len; i++)
		h = (h ^ (uint8_t) tenant.data[i]) * UINT64_C(0x100000001b3);
	return UINT64_C(1) << ((h ^ (h >> 32)) & 63);
}

/* end - start without overflow, at least 0 */
static int64_t
clamped_difference(int64_t start, int64_t end)
{
	uint64_t d;

	if (end <= start)
		return 0;
	d = (uint64_t) end - (uint64_t) start;
	return d > INT64_MAX ? INT64_MAX : (int64_t) d;
}

bool
writer_see_tenants(Writer *w)
{
	w->tenant_seen = zeroed(w->allocator, w->batch->n_strings);
	return w->tenant_seen != NULL;
}

void
writer_note_row(Writer *w, uint32_t tenant, int64_t start, int64_t end, int64_t *zone)
{
	SegmentSummary *s = &w->summary;
	int64_t         duration;

	end = end > start ? end : start;
	duration = clamped_difference(start, end);
	zone[0] = start < zone[0] ? start : zone[0];
	zone[1] = start > zone[1] ? start : zone[1];
	zone[2] = duration > zone[2] ? duration : zone[2];
	s->max_end_nano = end > s->max_end_nano ? end : s->max_end_nano;
	s->min_duration_nano = duration < s->min_duration_nano ? duration : s->min_duration_nano;
	if (!w->tenant_seen[tenant])
	{
		w->tenant_seen[tenant] = true;
		s->n_tenants++;
		s->tenant_filter |= segment_tenant_bit(w->batch->strings[tenant]);
	}
}

/* The rest of the summary. */
static void
summarize(Writer *w)
{
	SegmentSummary *s = &w->summary;
	const int64_t  *zones = (const int64_t *) w->zones.data;

	s->rows = w->order.n_rows;
	s->traces = w->order.n_traces;
	if (s->rows == 0)
	{
		s->max_end_nano = s->min_duration_nano = 0;
		return;
	}
	s->min_start_nano = zones[0];
	s->max_start_nano = zones[1];
	for (uint32_t i = 0; i < w->n_blocks; i++, zones += 3)
	{
		s->min_start_nano = zones[0] < s->min_start_nano ? zones[0] : s->min_start_nano;
		s->max_start_nano = zones[1] > s->max_start_nano ? zones[1] : s->max_start_nano;
		s->max_duration_nano = zones[2] > s->max_duration_nano ? zones[2] : s->max_duration_nano;
	}
	for (uint32_t t = 0; t < w->order.n_traces; t++)
	{
		int64_t extent = clamped_difference(w->order.traces[t].min_start, w->order.traces[t].max_end);

		s->max_trace_nano = extent > s->max_trace_nano ? extent : s->max_trace_nano;
	}
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

/* What a row takes in memory beside its values, and a value beside its bytes. */
#define ROW_SIZE 96
#define TRACE_SIZE 96
#define EVENT_SIZE 16
#define LINK_SIZE 32
#define TEXT_SIZE 40
#define SHAPE_SIZE 320
#define ITEM_SIZE 64
#define STRING_SIZE 64 /* and of scopes */
#define SHARED_PER_ROW 32
#define LONG_TEXT 256

/*
 * What shapes and strings take in memory.  Segments that are merged mostly have
 * the same ones, so only what is much for so many rows counts.
 */
static uint64_t
shared_size(const Writer *w)
{
	uint64_t size = (w->strings.len + w->scopes.len) / sizeof(uint32_t) * STRING_SIZE;
	uint64_t usual = (uint64_t) w->summary.rows * SHARED_PER_ROW;

	for (int t = 0; t < N_TABLES; t++)
		size += (uint64_t) table_n_shapes(&w->tables[t]) * SHAPE_SIZE +
		        w->tables[t].items.len / sizeof(ShapeItem) * ITEM_SIZE;
	return size > usual ? size - usual : 0;
}

/*
 * What the rows take without compression while they are merged: a text is
 * there once, as in a dictionary, numbers and codes are there twice (merging.h,
 * column.h).
 */
static uint64_t
raw_size(const Writer *w)
{
	uint64_t size = (uint64_t) w->summary.rows * ROW_SIZE + (uint64_t) w->summary.traces * TRACE_SIZE +
	                (uint64_t) table_n_rows(&w->tables[TABLE_EVENT]) * EVENT_SIZE +
	                (uint64_t) table_n_rows(&w->tables[TABLE_LINK]) * LINK_SIZE + w->shared_size + shared_size(w);

	for (uint32_t i = 0; i < columns_count(&w->columns); i++)
	{
		const Column *c = columns_get(&w->columns, i);

		size += 2 * c->values.len;
		/* codes of numbers are numbers while they are merged */
		if (type_is_number(c->type))
			size += c->coded ? 2 * c->values.len : 0;
		else
			for (uint32_t e = 0; e < column_n_entries(c); e++)
			{
				uint64_t len = ((const TextEntry *) c->entries.data)[e].len;

				size += len + TEXT_SIZE;
				/* twice more before and after they are compressed, which long ones make felt */
				size += len >= LONG_TEXT ? 2 * len : 0;
			}
	}
	return size;
}

/* The segment's number of a string of the batch. */
static uint32_t
string_number(Writer *w, uint32_t id)
{
	if (id == 0)
		return 0;
	if (w->string_number[id] == 0)
	{
		buffer_put(&w->strings, &id, sizeof(id));
		w->string_number[id] = (uint32_t) (w->strings.len / sizeof(id));
	}
	return w->string_number[id];
}

static uint32_t
scope_number(Writer *w, uint32_t scope)
{
	if (w->scope_number[scope] == 0)
	{
		buffer_put(&w->scopes, &scope, sizeof(scope));
		w->scope_number[scope] = (uint32_t) (w->scopes.len / sizeof(scope));
	}
	return w->scope_number[scope] - 1;
}

static void
put_section(Writer *w, uint32_t id, const Buffer *content, bool compressible)
{
	if (content->failed)
		w->out.failed = true;
	else
		sections_put(&w->sections, id, content->data, content->len, compressible);
}

static void
write_shapes(Writer *w, TableId table)
{
	const Table *t = &w->tables[table];
	Buffer      *f = &w->scratch;
	Buffer      *bodies = &w->payload; /* the shapes' items */

	if (table_n_shapes(t) == 0)
		return;
	f->len = bodies->len = 0;
	buffer_put_varint(f, table_n_shapes(t));
	for (uint32_t number = 0; table == TABLE_SPAN && number < table_n_shapes(t); number++)
	{
		const Shape *shape = (const Shape *) t->shapes.data + t->by_number[number];

		buffer_put_varint(f, scope_number(w, shape->fields[0]));
		buffer_put_varint(f, string_number(w, shape->fields[1]));
		buffer_put_varint(f, zigzag((int32_t) shape->fields[2]));
		buffer_put_varint(f, zigzag((int32_t) shape->fields[3]));
	}
	for (uint32_t number = 0; number < table_n_shapes(t); number++)
	{
		const Shape     *shape = (const Shape *) t->shapes.data + t->by_number[number];
		const ShapeItem *items = (const ShapeItem *) t->items.data + shape->first_item;
		size_t           before = bodies->len;

		for (uint32_t i = 0; i < shape->n_items; i++)
		{
			buffer_put_varint(bodies, items[i].column);
			buffer_put_varint(bodies, items[i].varying ? 0 : (uint64_t) items[i].constant + 1);
		}
		buffer_put_varint(f, shape->n_items);
		buffer_put_varint(f, bodies->len - before);
	}
	if (bodies->failed)
		f->failed = true;
	else
		buffer_put(f, bodies->data, bodies->len);
	put_section(w, SECTION(STREAM_SHAPES + table, 0), f, true);
}

static void
write_columns(Writer *w)
{
	Buffer  *f = &w->scratch;
	uint32_t n_rare = 0;

	f->len = 0;
	buffer_put_varint(f, columns_count(&w->columns));
	for (uint32_t i = 0; i < columns_count(&w->columns); i++)
	{
		Column *c = columns_get(&w->columns, i);

		if (!c->field)
		{
			buffer_put_u8(f, (uint8_t) (c->table << 4 | c->type));
			buffer_put_varint(f, string_number(w, c->key));
		}
		buffer_put_varint(f, (uint64_t) column_n_dictionary(c) << 2 | (c->values.len > 0) << 1 | (c->coded && c->values.len > 0));
	}
	for (int t = 0; t < N_TABLES; t++)
		for (uint32_t i = 0; i < w->batch->n_strings; i++)
			n_rare += w->columns.rare_types[t][i] != 0;
	buffer_put_varint(f, n_rare);
	for (int t = 0; t < N_TABLES; t++)
		for (uint32_t i = 0; i < w->batch->n_strings; i++)
			if (w->columns.rare_types[t][i] != 0)
			{
				buffer_put_u8(f, (uint8_t) t);
				buffer_put_varint(f, string_number(w, i));
				buffer_put_u8(f, w->columns.rare_types[t][i]);
			}
	put_section(w, SECTION(STREAM_COLUMNS, 0), f, true);
}

static void
write_scopes(Writer *w)
{
	const SpanBatch *batch = w->batch;
	const uint32_t  *scopes = (const uint32_t *) w->scopes.data;
	uint32_t         n = (uint32_t) (w->scopes.len / sizeof(uint32_t));
	Buffer          *f = &w->scratch;
	Buffer          *resources = &w->payload; /* batch indexes, then their bytes */
	uint32_t         n_resources = 0;
	uint32_t        *list;

	resources->len = 0;
	f->len = 0;
	buffer_put_varint(f, n);
	for (uint32_t i = 0; i < n; i++)
	{
		const SpanScope *s = &batch->scopes[scopes[i]];
		uint32_t         r = 0;

		list = (uint32_t *) resources->data;
		/* scopes of one resource mostly follow each other */
		for (r = n_resources; r > 0 && list[r - 1] != s->resource; r--)
			;
		if (r == 0)
		{
			buffer_put(resources, &s->resource, sizeof(uint32_t));
			r = ++n_resources;
		}
		buffer_put_varint(f, r - 1);
		buffer_put_varint(f, string_number(w, s->name));
		buffer_put_varint(f, string_number(w, s->version));
		buffer_put_varint(f, string_number(w, s->schema_url));
		buffer_put_varint(f, s->dropped_attributes_count);
		attributes_put(f, s->attributes);
		if (resources->failed)
		{
			f->failed = true;
			break;
		}
	}
	put_section(w, SECTION(STREAM_SCOPES, 0), f, true);
	if (f->failed)
		return;
	w->shared_size += 2 * f->len;
	f->len = 0;
	list = (uint32_t *) resources->data;
	buffer_put_varint(f, n_resources);
	for (uint32_t i = 0; i < n_resources; i++)
	{
		const SpanResource *r = &batch->resources[list[i]];

		buffer_put_varint(f, string_number(w, r->tenant));
		buffer_put_varint(f, string_number(w, r->schema_url));
		buffer_put_varint(f, r->dropped_attributes_count);
		buffer_put_text(f, r->entity_refs);
		attributes_put(f, r->attributes);
	}
	put_section(w, SECTION(STREAM_RESOURCES, 0), f, true);
	w->shared_size += 2 * f->len;
}

static void
write_strings(Writer *w)
{
	const uint32_t *ids = (const uint32_t *) w->strings.data;
	uint32_t        n = (uint32_t) (w->strings.len / sizeof(uint32_t));
	Buffer         *f = &w->scratch;

	f->len = 0;
	buffer_put_varint(f, n);
	for (uint32_t i = 0; i < n; i++)
		buffer_put_varint(f, w->batch->strings[ids[i]].len);
	for (uint32_t i = 0; i < n; i++)
		buffer_put(f, w->batch->strings[ids[i]].data, w->batch->strings[ids[i]].len);
	put_section(w, SECTION(STREAM_STRINGS, 0), f, true);
	w->shared_size += 2 * f->len;
}

static void
write_overflow_blooms(Writer *w)
{
	for (int t = 0; t < N_TABLES; t++)
	{
		const Buffer *hashes = &w->columns.rare_hashes[t];
		uint32_t      n = (uint32_t) (hashes->len / sizeof(uint64_t));
		size_t        size = bloom_size(n);
		uint8_t      *filter;

		w->scratch.len = 0;
		filter = n == 0 ? NULL : buffer_reserve(&w->scratch, size);
		if (filter == NULL)
			continue;
		memset(filter, 0, size);
		for (uint32_t i = 0; i < n; i++)
			bloom_add(filter, size, ((const uint64_t *) hashes->data)[i]);
		w->scratch.len = size;
		put_section(w, SECTION(STREAM_OVERFLOW_BLOOM + t, 0), &w->scratch, false);
	}
}

static int
compare_trace_ids(const void *a, const void *b, void *arg)
{
	const TraceRun *traces = arg;

	return memcmp(&traces[*(const uint32_t *) a].id, &traces[*(const uint32_t *) b].id, TRACE_ID_LEN);
}

/* The trace index, its fences in the footer, and the rank of each trace. */
static bool
write_trace_index(Writer *w)
{
	const RowOrder *order = &w->order;
	uint32_t        n = order->n_traces;
	uint32_t       *sorted = w->allocator->alloc(w->allocator->arg, (size_t) n * sizeof(uint32_t) + 1);
	Buffer         *f = &w->scratch;

	w->trace_rank = w->allocator->alloc(w->allocator->arg, (size_t) n * sizeof(uint32_t) + 1);
	if (sorted == NULL || w->trace_rank == NULL)
	{
		if (sorted != NULL)
			w->allocator->release(w->allocator->arg, sorted);
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		sorted[i] = i;
	if (n > 1)
		qsort_r(sorted, n, sizeof(uint32_t), compare_trace_ids, order->traces);
	for (uint32_t first = 0; first < n; first += TRACE_CHUNK)
	{
		uint32_t end = n - first < TRACE_CHUNK ? n : first + TRACE_CHUNK;

		f->len = 0;
		buffer_put(&w->footer, &order->traces[sorted[first]].id, 8);
		for (uint32_t i = first; i < end; i++)
		{
			w->trace_rank[sorted[i]] = i;
			buffer_put(f, &order->traces[sorted[i]].id, TRACE_ID_LEN);
		}
		for (uint32_t i = first; i < end; i++)
			buffer_put_varint(f, order->traces[sorted[i]].first_row);
		for (uint32_t i = first; i < end; i++)
			buffer_put_varint(f, order->traces[sorted[i]].count);
		put_section(w, SECTION(STREAM_TRACE_INDEX, first / TRACE_CHUNK), f, false);
	}
	w->allocator->release(w->allocator->arg, sorted);
	return true;
}

/* What tells whose rows are whose: traces of the block and their first starts. */
static void
write_runs(Writer *w, uint32_t block, uint32_t trace)
{
	uint32_t        first = block * IMAGE_BLOCK_ROWS;
	uint32_t        end = writer_block_end(w, block);
	const TraceRun *traces = w->order.traces;
	uint32_t        last = trace;
	uint64_t        base = 0;
	Buffer         *f = &w->scratch;

	while (last + 1 < w->order.n_traces && traces[last + 1].first_row < end)
		last++;
	f->len = 0;
	buffer_put_varint(f, last - trace + 1);
	for (uint32_t t = trace; t <= last; t++)
		buffer_put_varint(f, w->trace_rank[t]);
	for (uint32_t t = trace; t <= last; t++)
	{
		uint32_t from = traces[t].first_row < first ? first : traces[t].first_row;
		uint32_t to = traces[t].first_row + traces[t].count;

		buffer_put_varint(f, (to < end ? to : end) - from);
	}
	for (uint32_t t = trace; t <= last; t++)
	{
		uint32_t from = traces[t].first_row < first ? first : traces[t].first_row;
		uint64_t start = (uint64_t) ((const int64_t *) w->starts.data)[from - first];

		buffer_put_varint(f, zigzag((int64_t) (start - base)));
		base = start;
	}
	put_section(w, SECTION(STREAM_RUNS, block), f, true);
}

/* Start times are, from the second span of a trace on, the distance to the one before. */
static void
make_distances(Writer *w, uint32_t block, uint32_t trace)
{
	uint32_t first = block * IMAGE_BLOCK_ROWS;
	uint32_t end = writer_block_end(w, block);
	int64_t *starts = (int64_t *) w->starts.data;
	uint64_t before = 0;

	for (uint32_t row = first; row < end; row++)
	{
		uint64_t start = (uint64_t) starts[row - first];

		if (trace + 1 < w->order.n_traces && row == w->order.traces[trace + 1].first_row)
			trace++;
		starts[row - first] = row == first || row == w->order.traces[trace].first_row ? 0 : (int64_t) (start - before);
		before = start;
	}
}

static void
write_numbers(Writer *w, Stream stream, uint32_t block, const Buffer *numbers)
{
	w->scratch.len = w->payload.len = 0;
	if (numbers->failed)
		w->out.failed = true;
	if (numbers->len == 0 || numbers->failed)
		return;
	pack_numbers(&w->scratch, &w->payload, (const int64_t *) numbers->data, (uint32_t) (numbers->len / sizeof(int64_t)));
	put_section(w, SECTION(stream, block), &w->scratch, true);
	put_section(w, SECTION(stream + 1, block), &w->payload, false);
}

static void
write_row_shapes(Writer *w, TableId table, uint32_t block)
{
	const Table    *t = &w->tables[table];
	const uint32_t *ends = (const uint32_t *) t->block_ends.data;
	uint32_t        begin = block == 0 ? 0 : ends[block - 1];
	uint32_t        n = ends[block] - begin;
	const uint32_t *shapes;
	int             width = code_width(table_n_shapes(t));
	uint8_t        *to;

	if (n == 0)
		return;
	shapes = (const uint32_t *) t->row_shapes.data + begin;
	w->scratch.len = 0;
	to = buffer_reserve(&w->scratch, (size_t) n * width);
	if (to != NULL)
		for (uint32_t i = 0; i < n; i++)
		{
			uint32_t number = ((const Shape *) t->shapes.data)[shapes[i]].number;

			for (int byte = 0; byte < width; byte++)
				*to++ = (uint8_t) (number >> (8 * byte));
		}
	w->scratch.len = (size_t) n * width;
	put_section(w, SECTION(STREAM_ROW_SHAPES + table, block), &w->scratch, true);
}

static void
write_blocks(Writer *w)
{
	uint32_t trace = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		uint32_t first = block * IMAGE_BLOCK_ROWS;

		while (first >= w->order.traces[trace].first_row + w->order.traces[trace].count)
			trace++;
		w->starts.len = w->durations.len = w->ids.len = w->link_ids.len = w->event_times.len = 0;
		w->gather(w, first, writer_block_end(w, block));
		if (w->starts.failed)
		{
			w->out.failed = true;
			return;
		}
		write_runs(w, block, trace);
		make_distances(w, block, trace);
		write_numbers(w, STREAM_STARTS, block, &w->starts);
		write_numbers(w, STREAM_DURATIONS, block, &w->durations);
		put_section(w, SECTION(STREAM_SPAN_IDS, block), &w->ids, false);
		put_section(w, SECTION(STREAM_LINK_IDS, block), &w->link_ids, true);
		write_numbers(w, STREAM_EVENT_TIMES, block, &w->event_times);
		for (int t = 0; t < N_TABLES; t++)
			write_row_shapes(w, t, block);
		for (uint32_t c = 0; c < columns_count(&w->columns); c++)
			column_write_block(columns_get(&w->columns, c), c, block, &w->sections, &w->scratch, &w->payload);
		if (!w->sections.compact)
			sections_flush(&w->sections);
	}
}

/* Zone maps: smallest start, spread of starts, longest duration of each block. */
static void
put_zones(Writer *w)
{
	const int64_t *zones = (const int64_t *) w->zones.data;

	for (uint32_t block = 0; block < w->n_blocks; block++, zones += 3)
	{
		buffer_put_varint(&w->footer, (uint64_t) zones[0] - (uint64_t) w->summary.min_start_nano);
		buffer_put_varint(&w->footer, (uint64_t) zones[1] - (uint64_t) zones[0]);
		buffer_put_varint(&w->footer, (uint64_t) zones[2]);
	}
}

static bool
write_sections(Writer *w)
{
	for (int t = 0; t < N_TABLES; t++)
		write_shapes(w, t);
	write_columns(w);
	write_scopes(w);
	write_strings(w); /* last of those that number strings */
	for (uint32_t c = 0; c < columns_count(&w->columns); c++)
		column_write_dictionary(columns_get(&w->columns, c), c, &w->sections, &w->scratch);
	if (!w->sections.compact)
	{
		sections_flush(&w->sections);
		for (uint32_t c = 0; c < columns_count(&w->columns); c++)
			if (!columns_get(&w->columns, c)->field &&
			    !column_write_bloom(columns_get(&w->columns, c), c, &w->sections, &w->scratch))
				return false;
		write_overflow_blooms(w);
	}
	if (!write_trace_index(w))
		return false;
	write_blocks(w);
	sections_flush(&w->sections);
	return !sections_failed(&w->sections);
}

static bool
write_image(Writer *w)
{
	uint8_t trailer[IMAGE_TRAILER_LEN] = {0};
	Frame   frame;

	summarize(w);
	buffer_put(&w->out, IMAGE_MAGIC, 4);
	buffer_put_u8(&w->out, IMAGE_VERSION);
	buffer_put(&w->out, "\0\0\0", 3);
	put_summary(&w->footer, &w->summary);
	w->raw_size_at = w->footer.len - sizeof(uint64_t);
	buffer_put_varint(&w->footer, w->options->n_request_hashes);
	buffer_put(&w->footer, w->options->request_hashes, (size_t) w->options->n_request_hashes * sizeof(RequestHash));
	put_zones(w);
	if (!write_sections(w))
		return false;
	sections_table(&w->sections, &w->footer);
	w->summary.raw_size = raw_size(w);
	if (!w->footer.failed)
		store_u64(w->footer.data + w->raw_size_at, w->summary.raw_size);
	if (w->footer.failed ||
	    !frame_write(&w->out, w->footer.data, w->footer.len, w->sections.zstd_level, &frame))
		return false;
	trailer[0] = frame.codec;
	store_u32(trailer + 4, frame.stored_len);
	store_u32(trailer + 8, frame.raw_len);
	store_u32(trailer + 12, frame.crc);
	store_u32(trailer + 16, crc32c(trailer, 16));
	memcpy(trailer + 20, IMAGE_MAGIC, 4);
	buffer_put(&w->out, trailer, sizeof(trailer));
	w->summary.size = w->out.len;
	return !w->out.failed;
}

static void
release_all(Writer *w)
{
	void *arrays[] = {w->parents, w->trace_rank, w->string_number, w->scope_number, w->tenant_seen};

	for (int t = 0; t < N_TABLES; t++)
		table_free(&w->tables[t]);
	if (w->columns.allocator != NULL)
		columns_free(&w->columns);
	for (int i = 0; i < 5; i++)
		if (arrays[i] != NULL)
			w->allocator->release(w->allocator->arg, arrays[i]);
	segment_order_free(&w->order, w->allocator);
	sections_free(&w->sections);
	buffer_free(&w->scratch);
	buffer_free(&w->payload);
	buffer_free(&w->footer);
	buffer_free(&w->starts);
	buffer_free(&w->durations);
	buffer_free(&w->ids);
	buffer_free(&w->link_ids);
	buffer_free(&w->event_times);
	buffer_free(&w->zones);
	buffer_free(&w->strings);
	buffer_free(&w->scopes);
}

bool
writer_init(Writer *w, const SpanBatch *batch, uint32_t count, const SegmentWriteOptions *options,
            const SpanAllocator *allocator, SpanError *error)
{
	Buffer *buffers[] = {&w->out, &w->scratch, &w->payload, &w->footer, &w->starts, &w->durations,
	                     &w->ids, &w->link_ids, &w->event_times, &w->zones, &w->strings, &w->scopes};

	memset(w, 0, sizeof(*w));
	/* what is not set by who fails is lack of memory, see writer_end() */
	if (error != NULL)
		error->code = SPAN_ERROR_NONE;
	if (count > SEGMENT_MAX_ROWS)
		return span_error(error, SPAN_ERROR_LIMIT, "a segment cannot have more than %u rows", SEGMENT_MAX_ROWS);
	w->batch = batch;
	w->allocator = allocator;
	w->options = options;
	w->n_blocks = (count + IMAGE_BLOCK_ROWS - 1) / IMAGE_BLOCK_ROWS;
	w->summary.level = options->level;
	w->summary.max_end_nano = INT64_MIN;
	w->summary.min_duration_nano = INT64_MAX;
	for (int i = 0; i < 12; i++)
		buffer_init(buffers[i], allocator);
	sections_init(&w->sections, &w->out, options->level == 0 && w->n_blocks <= 1,
	              options->zstd_level != 0 ? options->zstd_level : DEFAULT_ZSTD_LEVEL);
	return true;
}

bool
writer_end_columns(Writer *w)
{
	for (uint32_t c = 0; c < columns_count(&w->columns); c++)
		if (!column_decide(columns_get(&w->columns, c)))
			return false;
	return true;
}

static bool
prepare(Writer *w)
{
	const SpanAllocator *a = w->allocator;

	w->string_number = zeroed(a, (size_t) w->batch->n_strings * sizeof(uint32_t));
	w->scope_number = zeroed(a, (size_t) w->batch->n_scopes * sizeof(uint32_t));
	return w->string_number != NULL && w->scope_number != NULL;
}

bool
writer_end(Writer *w, bool ok, SegmentImage *image, SpanError *error)
{
	ok = ok && prepare(w) && write_image(w);
	if (w->sections.too_large || (ok && w->out.len > SEGMENT_MAX_BYTES))
		ok = span_error(error, SPAN_ERROR_LIMIT, "segment would exceed %u bytes", SEGMENT_MAX_BYTES);
	else if (!ok && (error == NULL || error->code == SPAN_ERROR_NONE))
		span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	if (ok)
	{
		image->data = w->out.data;
		image->size = w->out.len;
		image->summary = w->summary;
	}
	else
	{
		buffer_free(&w->out);
		segment_image_free(image, w->allocator);
	}
	release_all(w);
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
