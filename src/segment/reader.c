/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  Reads segments.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reader.h"

#include <stdlib.h>

#include "segment/codec.h"
#include "segment/frame.h"
#include "segment/image.h"

typedef struct Block
{
	Frame		frame;
	uint64_t	offset;
	int64_t		min_start;
	int64_t		max_start;
	int64_t		max_duration;
} Block;

typedef struct TraceRow
{
	TraceId		id;
	uint32_t	first;
	uint32_t	count;
} TraceRow;

typedef struct KeyEntry
{
	SegmentKey	key;
	const AnyValue **values;	/* sorted, distinct */
	AnyValue   *list;
} KeyEntry;

struct SegmentReader
{
	SegmentSource source;
	SpanAllocator allocator;
	Arena		arena;			/* what lives as long as the reader */
	SegmentSummary summary;
	RequestHash *hashes;
	uint32_t	n_hashes;
	Block	   *blocks;
	uint32_t	n_blocks;
	SpanText   *strings;
	uint32_t	n_strings;
	SpanResource *resources;
	uint32_t	n_resources;
	SpanScope  *scopes;
	uint32_t	n_scopes;
	TraceRow   *traces;
	uint8_t    *raw;			/* block in memory */
	uint32_t	raw_block;
	SpanBatch  *everything;		/* for the key lists */
	SegmentKey *keys;
	AnyValue  **values;
	uint32_t	n_keys;
	SpanText   *names;
	uint32_t	n_names;
	SpanText   *tenants;
	uint32_t	n_tenants;
};

static bool
memory_read(void *arg, uint64_t offset, void *dst, size_t len)
{
	const SegmentMemory *memory = arg;

	if (offset > memory->size || len > memory->size - offset)
		return false;
	if (len > 0)
		memcpy(dst, memory->data + offset, len);
	return true;
}

SegmentSource
segment_source_memory(const SegmentMemory *range)
{
	SegmentSource source = {memory_read, (void *) range, range->size};

	return source;
}

static bool
corrupt(SpanError *error, const char *what)
{
	return span_error(error, SPAN_ERROR_CORRUPT, "segment is damaged: %s", what);
}

static bool
no_memory(SpanError *error)
{
	return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
}

/* Reads and unpacks a frame into memory from the allocator. */
static uint8_t *
load_frame(SegmentReader *r, const Frame *frame, uint64_t offset, SpanError *error)
{
	const SpanAllocator *a = &r->allocator;
	uint8_t    *stored;
	uint8_t    *raw;
	bool		ok = false;

	if (offset > r->source.size || frame->stored_len > r->source.size - offset ||
		frame->raw_len > SEGMENT_MAX_BYTES ||
		frame->raw_len > (uint64_t) frame->stored_len * 40000 + 64)
	{
		corrupt(error, "a frame does not fit");
		return NULL;
	}
	stored = a->alloc(a->arg, (size_t) frame->stored_len + 1);
	raw = a->alloc(a->arg, (size_t) frame->raw_len + 1);
	if (stored == NULL || raw == NULL)
		no_memory(error);
	else if (!r->source.read(r->source.arg, offset, stored, frame->stored_len))
		span_error(error, SPAN_ERROR_IO, "could not read the segment");
	else
		ok = frame_read(frame, stored, raw, error);
	if (stored != NULL)
		a->release(a->arg, stored);
	if (!ok && raw != NULL)
	{
		a->release(a->arg, raw);
		raw = NULL;
	}
	return raw;
}

static void *
arena_array(Arena *arena, uint32_t count, size_t width)
{
	return arena_alloc0(arena, (size_t) count * width);
}

static bool
get_summary(Cursor *c, SegmentReader *r)
{
	SegmentSummary *s = &r->summary;

	s->rows = cursor_number(c, SEGMENT_MAX_ROWS);
	s->traces = cursor_number(c, s->rows);
	s->level = cursor_u8(c);
	s->min_start_nano = cursor_u64(c);
	s->max_start_nano = cursor_u64(c);
	s->max_end_nano = cursor_u64(c);
	s->min_duration_nano = cursor_u64(c);
	s->max_duration_nano = cursor_u64(c);
	s->max_trace_nano = cursor_u64(c);
	s->n_tenants = cursor_number(c, s->rows);
	s->tenant_filter = cursor_u64(c);
	s->raw_size = cursor_u64(c);
	s->size = r->source.size;
	return !c->failed;
}

static bool
get_blocks(Cursor *c, SegmentReader *r)
{
	uint64_t	offset = IMAGE_HEADER_LEN;

	r->n_blocks = cursor_count(c, 30);
	r->blocks = arena_array(&r->arena, r->n_blocks, sizeof(Block));
	if (r->blocks == NULL || r->n_blocks != (r->summary.rows + IMAGE_BLOCK_ROWS - 1) / IMAGE_BLOCK_ROWS)
		return false;
	for (uint32_t i = 0; i < r->n_blocks; i++)
	{
		Block	   *b = &r->blocks[i];

		b->frame.codec = cursor_u8(c);
		b->frame.raw_len = cursor_number(c, UINT32_MAX);
		b->frame.stored_len = cursor_number(c, UINT32_MAX);
		b->frame.crc = cursor_u32(c);
		b->offset = offset;
		offset += b->frame.stored_len;
		b->min_start = cursor_u64(c);
		b->max_start = cursor_u64(c);
		b->max_duration = cursor_u64(c);
	}
	return !c->failed;
}

static bool
get_dictionaries(Cursor *c, SegmentReader *r)
{
	r->n_strings = cursor_count(c, 1);
	r->strings = arena_array(&r->arena, r->n_strings, sizeof(SpanText));
	if (r->strings == NULL || r->n_strings == 0)
		return false;
	for (uint32_t i = 0; i < r->n_strings; i++)
	{
		r->strings[i] = cursor_text(c);
		r->strings[i].data = arena_copy(&r->arena, r->strings[i].data, r->strings[i].len);
		if (r->strings[i].data == NULL)
			return false;
	}
	r->n_resources = cursor_count(c, 5);
	r->resources = arena_array(&r->arena, r->n_resources, sizeof(SpanResource));
	if (r->resources == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_resources; i++)
	{
		SpanResource *res = &r->resources[i];

		res->tenant = cursor_number(c, r->n_strings - 1);
		res->schema_url = cursor_number(c, r->n_strings - 1);
		res->dropped_attributes_count = cursor_number(c, UINT32_MAX);
		res->entity_refs = cursor_text(c);
		res->entity_refs.data = arena_copy(&r->arena, res->entity_refs.data, res->entity_refs.len);
		if (res->entity_refs.data == NULL || !attributes_get(c, &r->arena, true, &res->attributes))
			return false;
	}
	r->n_scopes = cursor_count(c, 6);
	r->scopes = arena_array(&r->arena, r->n_scopes, sizeof(SpanScope));
	if (r->scopes == NULL || (r->n_scopes > 0 && r->n_resources == 0))
		return false;
	for (uint32_t i = 0; i < r->n_scopes; i++)
	{
		SpanScope  *s = &r->scopes[i];

		s->resource = cursor_number(c, r->n_resources - 1);
		s->name = cursor_number(c, r->n_strings - 1);
		s->version = cursor_number(c, r->n_strings - 1);
		s->schema_url = cursor_number(c, r->n_strings - 1);
		s->dropped_attributes_count = cursor_number(c, UINT32_MAX);
		if (!attributes_get(c, &r->arena, true, &s->attributes))
			return false;
	}
	return !c->failed;
}

static bool
get_traces(Cursor *c, SegmentReader *r)
{
	uint32_t	row = 0;

	if (r->summary.traces > cursor_left(c) / 17)
		return false;
	r->traces = arena_array(&r->arena, r->summary.traces, sizeof(TraceRow));
	if (r->traces == NULL)
		return false;
	for (uint32_t t = 0; t < r->summary.traces; t++)
	{
		const uint8_t *id = cursor_bytes(c, TRACE_ID_LEN);

		if (id == NULL)
			return false;
		memcpy(&r->traces[t].id, id, TRACE_ID_LEN);
		r->traces[t].first = row;
		r->traces[t].count = cursor_number(c, r->summary.rows - row);
		row += r->traces[t].count;
	}
	return !c->failed && row == r->summary.rows;
}

static bool
read_footer(SegmentReader *r, SpanError *error)
{
	uint8_t		header[IMAGE_HEADER_LEN];
	uint8_t		trailer[IMAGE_TRAILER_LEN];
	Frame		frame;
	uint8_t    *raw;
	Cursor		c;
	bool		ok;

	if (r->source.size < IMAGE_HEADER_LEN + IMAGE_TRAILER_LEN || r->source.size > SEGMENT_MAX_BYTES)
		return corrupt(error, "impossible size");
	if (!r->source.read(r->source.arg, 0, header, sizeof(header)) ||
		!r->source.read(r->source.arg, r->source.size - IMAGE_TRAILER_LEN, trailer, sizeof(trailer)))
		return span_error(error, SPAN_ERROR_IO, "could not read the segment");
	if (memcmp(header, IMAGE_MAGIC, 4) != 0)
		return corrupt(error, "no segment header");
	if (header[4] != IMAGE_VERSION)
		return span_error(error, SPAN_ERROR_UNSUPPORTED, "segment has format version %d, this build reads %d",
						  header[4], IMAGE_VERSION);
	if (memcmp(header + 5, "\0\0\0", 3) != 0 || memcmp(trailer + 20, IMAGE_MAGIC, 4) != 0 ||
		crc32c(trailer, 16) != load_u32(trailer + 16))
		return corrupt(error, "bad trailer");
	frame.codec = trailer[0];
	frame.stored_len = load_u32(trailer + 4);
	frame.raw_len = load_u32(trailer + 8);
	frame.crc = load_u32(trailer + 12);
	if (frame.stored_len > r->source.size - IMAGE_HEADER_LEN - IMAGE_TRAILER_LEN)
		return corrupt(error, "bad trailer");
	raw = load_frame(r, &frame, r->source.size - IMAGE_TRAILER_LEN - frame.stored_len, error);
	if (raw == NULL)
		return false;
	c = cursor_over(raw, frame.raw_len);
	ok = get_summary(&c, r) && get_blocks(&c, r);
	if (ok)
	{
		r->n_hashes = cursor_count(&c, sizeof(RequestHash));
		r->hashes = arena_copy(&r->arena, cursor_bytes(&c, (uint64_t) r->n_hashes * sizeof(RequestHash)),
							   (size_t) r->n_hashes * sizeof(RequestHash));
		ok = get_dictionaries(&c, r) && get_traces(&c, r);
	}
	r->allocator.release(r->allocator.arg, raw);
	return ok ? true : corrupt(error, "bad footer");
}

SegmentReader *
segment_open(const SegmentSource *source, const SpanAllocator *allocator, SpanError *error)
{
	SegmentReader *r = allocator->alloc(allocator->arg, sizeof(SegmentReader));

	if (r == NULL)
	{
		no_memory(error);
		return NULL;
	}
	memset(r, 0, sizeof(*r));
	r->source = *source;
	r->allocator = *allocator;
	r->raw_block = UINT32_MAX;
	arena_init(&r->arena, allocator, 0);
	if (!read_footer(r, error))
	{
		segment_close(r);
		return NULL;
	}
	return r;
}

void
segment_close(SegmentReader *r)
{
	SpanAllocator a;

	if (r == NULL)
		return;
	a = r->allocator;
	if (r->raw != NULL)
		a.release(a.arg, r->raw);
	span_batch_destroy(r->everything);
	arena_reset(&r->arena);
	a.release(a.arg, r);
}

const SegmentSummary *
segment_summary(const SegmentReader *r)
{
	return &r->summary;
}

const RequestHash *
segment_request_hashes(const SegmentReader *r, uint32_t *count)
{
	*count = r->n_hashes;
	return r->hashes;
}

bool
segment_find_trace(SegmentReader *r, const TraceId *trace_id, uint32_t *first_row, uint32_t *count, SpanError *error)
{
	(void) error;
	*first_row = *count = 0;
	for (uint32_t t = 0; t < r->summary.traces; t++)
		if (memcmp(&r->traces[t].id, trace_id, TRACE_ID_LEN) == 0)
		{
			*first_row = r->traces[t].first;
			*count = r->traces[t].count;
			break;
		}
	return true;
}

uint32_t
segment_block_rows(const SegmentReader *r)
{
	(void) r;
	return IMAGE_BLOCK_ROWS;
}

bool
segment_block_times(SegmentReader *r, uint32_t first, int64_t *min_start, int64_t *max_start,
					int64_t *max_duration, SpanError *error)
{
	const Block *b;

	if (first >= r->summary.rows)
		return span_error(error, SPAN_ERROR_INVALID, "no such row in the segment");
	b = &r->blocks[first / IMAGE_BLOCK_ROWS];
	*min_start = b->min_start;
	*max_start = b->max_start;
	*max_duration = b->max_duration;
	return true;
}

static bool
copy_text(Arena *arena, SpanText in, SpanText *out)
{
	out->len = in.len;
	out->data = arena_copy(arena, in.data, in.len);
	return out->data != NULL;
}

/* Copies the wanted attributes and interns their keys. */
static bool
take_attributes(SpanBatch *batch, AttributeList in, bool all, const SegmentProjection *p, AttributeList *out)
{
	Arena	   *arena = span_batch_arena(batch);
	KeyValue   *items = arena_alloc(arena, (size_t) in.count * sizeof(KeyValue));
	uint32_t	n = 0;

	if (items == NULL)
		return false;
	for (uint32_t i = 0; i < in.count; i++)
	{
		bool		wanted = all;

		for (uint32_t k = 0; !wanted && p != NULL && k < p->n_keys; k++)
			wanted = span_text_equal(p->keys[k], in.items[i].key);
		if (!wanted)
			continue;
		items[n].key_id = span_batch_string(batch, in.items[i].key);
		if (items[n].key_id == SPAN_BATCH_NONE ||
			!any_value_copy(arena, &in.items[i].value, &items[n].value))
			return false;
		items[n].key = batch->strings[items[n].key_id];
		n++;
	}
	out->items = items;
	out->count = n;
	return true;
}

static bool
get_events(Cursor *c, SpanBatch *batch, Arena *temp, bool wanted, Span *span)
{
	Arena	   *arena = span_batch_arena(batch);
	uint32_t	n = cursor_count(c, 11);
	SpanEvent  *events = arena_array(wanted ? arena : temp, n, sizeof(SpanEvent));

	if (events == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		AttributeList list;

		events[i].time_unix_nano = cursor_u64(c);
		events[i].name = cursor_text(c);
		events[i].dropped_attributes_count = cursor_number(c, UINT32_MAX);
		if (!attributes_get(c, temp, false, &list))
			return false;
		if (wanted && (!copy_text(arena, events[i].name, &events[i].name) ||
					   !take_attributes(batch, list, true, NULL, &events[i].attributes)))
			return false;
	}
	if (wanted)
	{
		span->events = events;
		span->n_events = n;
	}
	return true;
}

static bool
get_links(Cursor *c, SpanBatch *batch, Arena *temp, bool wanted, Span *span)
{
	Arena	   *arena = span_batch_arena(batch);
	uint32_t	n = cursor_count(c, 28);
	SpanLink   *links = arena_array(wanted ? arena : temp, n, sizeof(SpanLink));

	if (links == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		const uint8_t *ids = cursor_bytes(c, TRACE_ID_LEN + SPAN_ID_LEN);
		AttributeList list;

		if (ids == NULL)
			return false;
		memcpy(&links[i].trace_id, ids, TRACE_ID_LEN);
		memcpy(&links[i].span_id, ids + TRACE_ID_LEN, SPAN_ID_LEN);
		links[i].trace_state = cursor_text(c);
		links[i].flags = cursor_number(c, UINT32_MAX);
		links[i].dropped_attributes_count = cursor_number(c, UINT32_MAX);
		if (!attributes_get(c, temp, false, &list))
			return false;
		if (wanted && (!copy_text(arena, links[i].trace_state, &links[i].trace_state) ||
					   !take_attributes(batch, list, true, NULL, &links[i].attributes)))
			return false;
	}
	if (wanted)
	{
		span->links = links;
		span->n_links = n;
	}
	return true;
}

/* The batch's scope for one of ours, cut to the projection. */
static uint32_t
take_scope(SegmentReader *r, SpanBatch *batch, uint32_t parts, uint32_t index)
{
	const SpanScope *from = &r->scopes[index];
	const SpanResource *res = &r->resources[from->resource];
	SpanResource resource = {0};
	SpanScope	scope = {0};

	if (parts & SEGMENT_RESOURCE)
	{
		resource = *res;
		resource.schema_url = span_batch_string(batch, r->strings[res->schema_url]);
	}
	resource.tenant = parts & SEGMENT_TENANT ? span_batch_string(batch, r->strings[res->tenant]) : 0;
	if (parts & SEGMENT_SCOPE)
	{
		scope = *from;
		scope.name = span_batch_string(batch, r->strings[from->name]);
		scope.version = span_batch_string(batch, r->strings[from->version]);
		scope.schema_url = span_batch_string(batch, r->strings[from->schema_url]);
	}
	if (resource.schema_url == SPAN_BATCH_NONE || resource.tenant == SPAN_BATCH_NONE ||
		scope.name == SPAN_BATCH_NONE || scope.version == SPAN_BATCH_NONE || scope.schema_url == SPAN_BATCH_NONE)
		return SPAN_BATCH_NONE;
	scope.resource = span_batch_resource(batch, &resource);
	if (scope.resource == SPAN_BATCH_NONE)
		return SPAN_BATCH_NONE;
	return span_batch_scope(batch, &scope);
}

static bool
get_span(SegmentReader *r, Cursor *c, const SegmentProjection *p, SpanBatch *batch, Arena *temp, bool keep, SpanError *error)
{
	uint32_t	parts = p->parts;
	Arena	   *arena = span_batch_arena(batch);
	Span		span;
	const uint8_t *bytes;
	uint32_t	trace = cursor_number(c, r->summary.traces - 1);
	uint64_t	duration;
	uint32_t	scope;
	uint32_t	name;
	AttributeList list;

	memset(&span, 0, sizeof(span));
	bytes = cursor_bytes(c, 16);
	if (bytes != NULL)
	{
		memcpy(&span.span_id, bytes, 8);
		memcpy(&span.parent_span_id, bytes + 8, 8);
	}
	span.start_time_unix_nano = cursor_u64(c);
	duration = (uint64_t) unzigzag(cursor_varint(c));
	scope = cursor_varint(c);
	name = cursor_number(c, r->n_strings - 1);
	span.kind = unzigzag(cursor_varint(c));
	span.status_code = unzigzag(cursor_varint(c));
	span.flags = cursor_number(c, UINT32_MAX);
	span.dropped_attributes_count = cursor_number(c, UINT32_MAX);
	span.dropped_events_count = cursor_number(c, UINT32_MAX);
	span.dropped_links_count = cursor_number(c, UINT32_MAX);
	span.status_message = cursor_text(c);
	span.trace_state = cursor_text(c);
	if (c->failed || scope >= r->n_scopes || !attributes_get(c, temp, false, &list))
		return corrupt(error, "bad row");
	if (!get_events(c, batch, temp, keep && (parts & SEGMENT_EVENTS), &span) ||
		!get_links(c, batch, temp, keep && (parts & SEGMENT_LINKS), &span))
		return c->failed ? corrupt(error, "bad row") : no_memory(error);
	if (!keep)
		return true;
	if (!take_attributes(batch, list, parts & SEGMENT_ATTRIBUTES, p, &span.attributes))
		return no_memory(error);
	if (parts & SEGMENT_TRACE_ID)
		span.trace_id = r->traces[trace].id;
	if (!(parts & SEGMENT_SPAN_ID))
		memset(&span.span_id, 0, sizeof(span.span_id));
	if (!(parts & SEGMENT_PARENT))
		memset(&span.parent_span_id, 0, sizeof(span.parent_span_id));
	if (parts & SEGMENT_END)
		span.end_time_unix_nano = (int64_t) ((uint64_t) span.start_time_unix_nano + duration);
	if (!(parts & (SEGMENT_START | SEGMENT_END)))
		span.start_time_unix_nano = 0;
	span.name = parts & SEGMENT_NAME ? span_batch_string(batch, r->strings[name]) : 0;
	if (!(parts & SEGMENT_KIND))
		span.kind = 0;
	if (!(parts & SEGMENT_STATUS))
		span.status_code = 0;
	if (!(parts & SEGMENT_FLAGS))
		span.flags = 0;
	if (!(parts & SEGMENT_DROPPED))
		span.dropped_attributes_count = span.dropped_events_count = span.dropped_links_count = 0;
	if (!(parts & SEGMENT_STATUS_MESSAGE))
		span.status_message = span_text(NULL, 0);
	if (!(parts & SEGMENT_TRACE_STATE))
		span.trace_state = span_text(NULL, 0);
	span.scope = take_scope(r, batch, parts, scope);
	if (span.name == SPAN_BATCH_NONE || span.scope == SPAN_BATCH_NONE ||
		!copy_text(arena, span.status_message, &span.status_message) ||
		!copy_text(arena, span.trace_state, &span.trace_state) ||
		!span_batch_add(batch, &span))
		return no_memory(error);
	return true;
}

static bool
decode_rows(SegmentReader *r, const SegmentProjection *p, uint32_t first, uint32_t end,
			SpanBatch *batch, Arena *temp, SpanError *error)
{
	while (first < end)
	{
		uint32_t	b = first / IMAGE_BLOCK_ROWS;
		uint32_t	row = b * IMAGE_BLOCK_ROWS;
		uint32_t	stop = row + IMAGE_BLOCK_ROWS < end ? row + IMAGE_BLOCK_ROWS : end;
		Cursor		c;

		if (r->raw_block != b)
		{
			if (r->raw != NULL)
				r->allocator.release(r->allocator.arg, r->raw);
			r->raw_block = UINT32_MAX;
			r->raw = load_frame(r, &r->blocks[b].frame, r->blocks[b].offset, error);
			if (r->raw == NULL)
				return false;
			r->raw_block = b;
		}
		c = cursor_over(r->raw, r->blocks[b].frame.raw_len);
		for (; row < stop; row++)
		{
			if (!get_span(r, &c, p, batch, temp, row >= first, error))
				return false;
			if (row % 256 == 0)
				arena_reset(temp);
		}
		first = stop;
	}
	return true;
}

bool
segment_decode(SegmentReader *r, const SegmentProjection *p, uint32_t first, uint32_t count,
			   SpanBatch *batch, SpanError *error)
{
	uint32_t	before = batch->n_spans;
	Arena		temp;
	bool		ok;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	arena_init(&temp, &r->allocator, 0);
	ok = decode_rows(r, p, first, first + count, batch, &temp, error);
	arena_reset(&temp);
	if (!ok)
		span_batch_truncate(batch, before);
	return ok;
}

/* One attribute occurrence, for sorting. */
typedef struct Occurrence
{
	AttributeScope scope;
	const KeyValue *item;
} Occurrence;

static int
compare_values(const AnyValue *a, const AnyValue *b)
{
	if (a->type != b->type)
		return (int) a->type - (int) b->type;
	if (any_value_equal(a, b))
		return 0;
	if (a->type == ANY_STRING || a->type == ANY_BYTES)
	{
		int			d = memcmp(a->u.data, b->u.data, a->len < b->len ? a->len : b->len);

		return d != 0 ? d : a->len < b->len ? -1 : 1;
	}
	{
		uint64_t	x = any_value_hash(a, 0);
		uint64_t	y = any_value_hash(b, 0);

		return x < y ? -1 : x > y;
	}
}

static int
compare_keys(const Occurrence *x, const Occurrence *y)
{
	uint32_t	len = x->item->key.len < y->item->key.len ? x->item->key.len : y->item->key.len;
	int			d;

	if (x->scope != y->scope)
		return (int) x->scope - (int) y->scope;
	d = len == 0 ? 0 : memcmp(x->item->key.data, y->item->key.data, len);
	if (d != 0)
		return d;
	return x->item->key.len < y->item->key.len ? -1 : x->item->key.len > y->item->key.len;
}

static int
compare_occurrences(const void *a, const void *b)
{
	const Occurrence *x = a;
	const Occurrence *y = b;
	int			d = compare_keys(x, y);

	return d != 0 ? d : compare_values(&x->item->value, &y->item->value);
}

static void
add_occurrences(Occurrence *list, size_t *n, AttributeScope scope, AttributeList attributes)
{
	for (uint32_t i = 0; i < attributes.count; i++)
	{
		if (list != NULL)
		{
			list[*n].scope = scope;
			list[*n].item = &attributes.items[i];
		}
		(*n)++;
	}
}

/* Counts, or with "list" collects, every attribute of the segment. */
static size_t
collect(const SpanBatch *b, Occurrence *list)
{
	size_t		n = 0;

	for (uint32_t i = 0; i < b->n_resources; i++)
		add_occurrences(list, &n, ATTRIBUTE_RESOURCE, b->resources[i].attributes);
	for (uint32_t i = 0; i < b->n_scopes; i++)
		add_occurrences(list, &n, ATTRIBUTE_SCOPE, b->scopes[i].attributes);
	for (uint32_t i = 0; i < b->n_spans; i++)
	{
		add_occurrences(list, &n, ATTRIBUTE_SPAN, b->spans[i].attributes);
		for (uint32_t e = 0; e < b->spans[i].n_events; e++)
			add_occurrences(list, &n, ATTRIBUTE_EVENT, b->spans[i].events[e].attributes);
		for (uint32_t l = 0; l < b->spans[i].n_links; l++)
			add_occurrences(list, &n, ATTRIBUTE_LINK, b->spans[i].links[l].attributes);
	}
	return n;
}

static bool
build_keys(SegmentReader *r, const Occurrence *list, size_t n)
{
	r->keys = arena_array(&r->arena, n + 1, sizeof(SegmentKey));
	r->values = arena_array(&r->arena, n + 1, sizeof(AnyValue *));
	if (r->keys == NULL || r->values == NULL)
		return false;
	for (size_t i = 0; i < n;)
	{
		SegmentKey *key = &r->keys[r->n_keys];
		size_t		end = i + 1;
		AnyValue   *values;

		while (end < n && compare_keys(&list[i], &list[end]) == 0)
			end++;
		values = arena_array(&r->arena, end - i, sizeof(AnyValue));
		if (values == NULL)
			return false;
		key->scope = list[i].scope;
		key->key = list[i].item->key;
		key->values_complete = true;
		r->values[r->n_keys++] = values;
		for (; i < end; i++)
		{
			key->types |= 1U << list[i].item->value.type;
			if (key->n_values == 0 || compare_values(&values[key->n_values - 1], &list[i].item->value) != 0)
				values[key->n_values++] = list[i].item->value;
		}
	}
	return true;
}

/* Fills keys, values, names and tenants. */
static bool
need_lists(SegmentReader *r, SpanError *error)
{
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	const SpanBatch *b;
	Occurrence *list;
	size_t		n;
	bool	   *name;
	bool	   *tenant;
	bool		ok;

	if (r->keys != NULL)
		return true;
	if (r->everything == NULL)
	{
		SpanBatch  *batch = span_batch_create(&r->allocator, 0);

		if (batch == NULL)
			return no_memory(error);
		if (!segment_decode(r, &all, 0, r->summary.rows, batch, error))
		{
			span_batch_destroy(batch);
			return false;
		}
		r->everything = batch;
	}
	b = r->everything;
	r->names = arena_array(&r->arena, b->n_strings, sizeof(SpanText));
	r->tenants = arena_array(&r->arena, b->n_strings, sizeof(SpanText));
	name = arena_array(&r->arena, b->n_strings, 1);
	tenant = arena_array(&r->arena, b->n_strings, 1);
	if (r->names == NULL || r->tenants == NULL || name == NULL || tenant == NULL)
		return no_memory(error);
	r->n_names = r->n_tenants = 0;
	for (uint32_t i = 0; i < b->n_spans; i++)
	{
		name[b->spans[i].name] = true;
		tenant[span_resource(b, &b->spans[i])->tenant] = true;
	}
	for (uint32_t i = 0; i < b->n_strings; i++)
	{
		if (name[i])
			r->names[r->n_names++] = b->strings[i];
		if (tenant[i])
			r->tenants[r->n_tenants++] = b->strings[i];
	}
	n = collect(b, NULL);
	list = r->allocator.alloc(r->allocator.arg, (n + 1) * sizeof(Occurrence));
	if (list == NULL)
		return no_memory(error);
	collect(b, list);
	qsort(list, n, sizeof(Occurrence), compare_occurrences);
	ok = build_keys(r, list, n);
	r->allocator.release(r->allocator.arg, list);
	return ok ? true : no_memory(error);
}

bool
segment_keys(SegmentReader *r, const SegmentKey **keys, uint32_t *count, SpanError *error)
{
	if (!need_lists(r, error))
		return false;
	*keys = r->keys;
	*count = r->n_keys;
	return true;
}

bool
segment_key_values(SegmentReader *r, uint32_t i, const AnyValue **values, uint32_t *count, SpanError *error)
{
	if (!need_lists(r, error))
		return false;
	if (i >= r->n_keys)
		return span_error(error, SPAN_ERROR_INVALID, "no such key in the segment");
	*values = r->values[i];
	*count = r->keys[i].n_values;
	return true;
}

bool
segment_may_contain(SegmentReader *r, AttributeScope scope, SpanText key, const AnyValue *value)
{
	if (!need_lists(r, NULL))
		return true;
	for (uint32_t i = 0; i < r->n_keys; i++)
	{
		if (r->keys[i].scope != scope || !span_text_equal(r->keys[i].key, key))
			continue;
		if (value == NULL || (value->type != ANY_STRING && value->type != ANY_BYTES && value->type != ANY_BOOL))
			return true;
		for (uint32_t v = 0; v < r->keys[i].n_values; v++)
			if (any_value_equal(&r->values[i][v], value) || r->values[i][v].type == ANY_ARRAY)
				return true;
		return false;
	}
	return false;
}

bool
segment_names(SegmentReader *r, const SpanText **names, uint32_t *count, SpanError *error)
{
	if (!need_lists(r, error))
		return false;
	*names = r->names;
	*count = r->n_names;
	return true;
}

bool
segment_tenants(SegmentReader *r, const SpanText **tenants, uint32_t *count, SpanError *error)
{
	if (!need_lists(r, error))
		return false;
	*tenants = r->tenants;
	*count = r->n_tenants;
	return true;
}
