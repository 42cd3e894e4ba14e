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
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "segment/writer.h"

#include <stdlib.h>

#include "segment/bloom.h"
#include "segment/codec.h"
#include "segment/pack.h"
#include "segment/rows.h"

#define DEFAULT_ZSTD_LEVEL 1

/* Rows to fetch ahead: spans of a trace may come from all over the batch. */
#define PREFETCH_SPANS 12
#define PREFETCH_ATTRIBUTES 7
#define PREFETCH_VALUES 3

typedef struct Writer
{
	const SpanBatch           *batch;
	const SpanAllocator       *allocator;
	const SegmentWriteOptions *options;
	RowOrder                   order;
	uint32_t                   n_blocks;
	int32_t                   *parents;
	ColumnSet                  columns;
	Table                      tables[N_TABLES];
	RowBuilder                 builder;
	Sections                   sections;
	Buffer                     out;
	Buffer                     scratch;
	Buffer                     payload;
	Buffer                     footer;
	Buffer                     starts; /* int64_t: of the block's rows */
	Buffer                     durations;
	Buffer                     ids; /* span ids of the block's rows */
	Buffer                     link_ids;
	Buffer                     event_times;
	Buffer                     zones;         /* int64_t[3] per block */
	bool                      *tenant_seen;   /* by string id */
	uint32_t                  *trace_rank;    /* position of each trace in the trace index */
	uint32_t                  *string_number; /* of the batch's strings in the segment, 0 = none yet */
	uint32_t                  *scope_number;  /* + 1; 0 = none yet */
	Buffer                     strings;       /* uint32_t: batch string ids */
	Buffer                     scopes;        /* uint32_t: batch scope indexes */
	SegmentSummary             summary;
} Writer;

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

/*
 * What a text adds to the size of its span: nothing unless it is long.  Short
 * ones repeat, are decoded once, and are allowed for in what compaction makes
 * of the sum; a single long one may outweigh all the rest.
 */
static uint64_t
long_text(uint32_t len)
{
	return len >= 256 ? len : 0;
}

/* Decoders bound the depth (ANY_VALUE_MAX_DEPTH). */
static uint64_t
value_size(const AnyValue *value)
{
	uint64_t size = 0;

	switch (value->type)
	{
		case ANY_STRING:
		case ANY_BYTES:
			return long_text(value->len);
		case ANY_ARRAY:
			for (uint32_t i = 0; i < value->len; i++)
				size += sizeof(AnyValue) + value_size(&value->u.elements[i]);
			return size;
		case ANY_KVLIST:
			for (uint32_t i = 0; i < value->len; i++)
				size += sizeof(KeyValue) + long_text(value->u.members[i].key.len) + value_size(&value->u.members[i].value);
			return size;
		default:
			return 0;
	}
}

static uint64_t
attributes_size(AttributeList list)
{
	uint64_t size = (uint64_t) list.count * sizeof(KeyValue);

	for (uint32_t i = 0; i < list.count; i++)
		size += value_size(&list.items[i].value);
	return size;
}

/* Of what spans share. */
static uint64_t
shared_size(const SpanBatch *batch)
{
	uint64_t size = 0;

	for (uint32_t i = 0; i < batch->n_strings; i++)
		size += long_text(batch->strings[i].len);
	for (uint32_t i = 0; i < batch->n_resources; i++)
		size += attributes_size(batch->resources[i].attributes) + long_text(batch->resources[i].entity_refs.len);
	for (uint32_t i = 0; i < batch->n_scopes; i++)
		size += attributes_size(batch->scopes[i].attributes);
	return size;
}

/* One span into the summary, and into the zone of its block. */
static void
summarize_span(Writer *w, const Span *span, int64_t *zone)
{
	SegmentSummary *s = &w->summary;
	uint32_t        tenant = span_resource(w->batch, span)->tenant;
	int64_t         start = span->start_time_unix_nano;
	int64_t         end = span->end_time_unix_nano > start ? span->end_time_unix_nano : start;
	int64_t         duration = clamped_difference(start, end);

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
	s->raw_size += sizeof(Span) + attributes_size(span->attributes) + long_text(span->status_message.len) +
	               long_text(span->trace_state.len);
	for (uint32_t i = 0; i < span->n_events; i++)
		s->raw_size += sizeof(SpanEvent) + long_text(span->events[i].name.len) + attributes_size(span->events[i].attributes);
	for (uint32_t i = 0; i < span->n_links; i++)
		s->raw_size += sizeof(SpanLink) + long_text(span->links[i].trace_state.len) + attributes_size(span->links[i].attributes);
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
	s->raw_size += shared_size(w->batch);
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

/* Last row + 1 of a block. */
static uint32_t
block_end(const Writer *w, uint32_t block)
{
	return block + 1 == w->n_blocks ? w->order.n_rows : (block + 1) * IMAGE_BLOCK_ROWS;
}

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
find_shapes(Writer *w)
{
	RowBuilder *b = &w->builder;
	uint32_t    row = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		int64_t zone[3] = {INT64_MAX, INT64_MIN, 0};

		for (; row < block_end(w, block); row++)
		{
			const Span *span = span_at(w, row);

			summarize_span(w, span, zone);
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
fill_columns(Writer *w)
{
	RowBuilder *b = &w->builder;
	uint32_t    row = 0;
	uint32_t    event = 0;
	uint32_t    link = 0;

	for (uint32_t block = 0; block < w->n_blocks; block++)
	{
		for (; row < block_end(w, block); row++)
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
	for (uint32_t c = 0; c < columns_count(&w->columns); c++)
		if (!column_decide(columns_get(&w->columns, c)))
			return false;
	return true;
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
	uint32_t        end = block_end(w, block);
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
		uint64_t start = (uint64_t) w->batch->spans[w->order.spans[from]].start_time_unix_nano;

		buffer_put_varint(f, zigzag((int64_t) (start - base)));
		base = start;
	}
	put_section(w, SECTION(STREAM_RUNS, block), f, true);
}

static inline void
put_number(Buffer *numbers, uint64_t value)
{
	buffer_put(numbers, &value, sizeof(value));
}

/*
 * Collects what has no column of its own, in one pass over the block's spans.
 * Start times are, from the second span of a trace on, the distance to the one
 * before.
 */
static void
gather_block(Writer *w, uint32_t block, uint32_t trace)
{
	uint32_t first = block * IMAGE_BLOCK_ROWS;
	uint32_t end = block_end(w, block);
	uint64_t before = 0;

	w->starts.len = w->durations.len = w->ids.len = w->link_ids.len = w->event_times.len = 0;
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
		if (trace + 1 < w->order.n_traces && row == w->order.traces[trace + 1].first_row)
			trace++;
		put_number(&w->starts, row == first || row == w->order.traces[trace].first_row ? 0 : start - before);
		before = start;
		put_number(&w->durations, (uint64_t) span->end_time_unix_nano - start);
		buffer_put(&w->ids, &span->span_id, SPAN_ID_LEN);
		for (uint32_t i = 0; i < span->n_links; i++)
		{
			buffer_put(&w->link_ids, &span->links[i].trace_id, TRACE_ID_LEN);
			buffer_put(&w->link_ids, &span->links[i].span_id, SPAN_ID_LEN);
		}
		for (uint32_t i = 0; i < span->n_events; i++)
			put_number(&w->event_times, (uint64_t) span->events[i].time_unix_nano - start);
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
		write_runs(w, block, trace);
		gather_block(w, block, trace);
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
	buffer_put_varint(&w->footer, w->options->n_request_hashes);
	buffer_put(&w->footer, w->options->request_hashes, (size_t) w->options->n_request_hashes * sizeof(RequestHash));
	put_zones(w);
	if (!write_sections(w))
		return false;
	sections_table(&w->sections, &w->footer);
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

static void *
zeroed(const SpanAllocator *allocator, size_t size)
{
	void *p = allocator->alloc(allocator->arg, size + 1);

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

static bool
run(Writer *w, uint32_t first, uint32_t count, SegmentImage *image)
{
	const SpanAllocator *a = w->allocator;

	image->row_of = a->alloc(a->arg, (size_t) count * sizeof(uint32_t) + 1);
	w->string_number = zeroed(a, (size_t) w->batch->n_strings * sizeof(uint32_t));
	w->scope_number = zeroed(a, (size_t) w->batch->n_scopes * sizeof(uint32_t));
	w->tenant_seen = zeroed(a, w->batch->n_strings);
	if (w->tenant_seen == NULL || image->row_of == NULL || w->string_number == NULL || w->scope_number == NULL ||
	    !segment_order(w->batch, first, count, a, &w->order))
		return false;
	for (uint32_t row = 0; row < count; row++)
		image->row_of[w->order.spans[row] - first] = row;
	w->parents = rows_parents(w->batch, &w->order, a);
	if (w->parents == NULL || !columns_init(&w->columns, a, w->batch->n_strings) ||
	    !rows_mark_rare(w->batch, first, count, &w->columns))
		return false;
	for (int t = 0; t < N_TABLES; t++)
		table_init(&w->tables[t], &w->columns);
	rows_init(&w->builder, w->batch, &w->columns);
	if (!find_shapes(w))
		return false;
	for (int t = 0; t < N_TABLES; t++)
		if (!table_settle(&w->tables[t]))
			return false;
	return fill_columns(w) && write_image(w);
}

static void
release_all(Writer *w)
{
	void *arrays[] = {w->parents, w->trace_rank, w->string_number, w->scope_number, w->tenant_seen};

	rows_free(&w->builder);
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
segment_write(const SpanBatch *batch, uint32_t first, uint32_t count,
              const SegmentWriteOptions *options, const SpanAllocator *allocator,
              SegmentImage *image, SpanError *error)
{
	Writer w = {0};
	bool   ok;

	memset(image, 0, sizeof(*image));
	if (first > batch->n_spans || count > batch->n_spans - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such spans in the batch");
	if (count > SEGMENT_MAX_ROWS)
		return span_error(error, SPAN_ERROR_LIMIT, "a segment cannot have more than %u rows", SEGMENT_MAX_ROWS);
	w.batch = batch;
	w.allocator = allocator;
	w.options = options;
	w.n_blocks = (count + IMAGE_BLOCK_ROWS - 1) / IMAGE_BLOCK_ROWS;
	w.summary.level = options->level;
	w.summary.max_end_nano = INT64_MIN;
	w.summary.min_duration_nano = INT64_MAX;
	buffer_init(&w.out, allocator);
	buffer_init(&w.scratch, allocator);
	buffer_init(&w.payload, allocator);
	buffer_init(&w.footer, allocator);
	buffer_init(&w.starts, allocator);
	buffer_init(&w.durations, allocator);
	buffer_init(&w.ids, allocator);
	buffer_init(&w.link_ids, allocator);
	buffer_init(&w.event_times, allocator);
	buffer_init(&w.zones, allocator);
	buffer_init(&w.strings, allocator);
	buffer_init(&w.scopes, allocator);
	sections_init(&w.sections, &w.out, options->level == 0 && w.n_blocks <= 1,
	              options->zstd_level != 0 ? options->zstd_level : DEFAULT_ZSTD_LEVEL);
	ok = run(&w, first, count, image);
	if (!ok)
		span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	else if (w.out.len > SEGMENT_MAX_BYTES)
		ok = span_error(error, SPAN_ERROR_LIMIT, "segment would exceed %u bytes", SEGMENT_MAX_BYTES);
	if (ok)
	{
		image->data = w.out.data;
		image->size = w.out.len;
		image->summary = w.summary;
	}
	else
	{
		buffer_free(&w.out);
		segment_image_free(image, allocator);
	}
	release_all(&w);
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
