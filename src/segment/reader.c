/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  Opens segments, unpacks their sections, finds traces.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reading.h"

#include "segment/pack.h"

/* A zstd block of at most 128 kB takes at least 3 bytes. */
#define MAX_RATIO 44000

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

bool
segment_corrupt(SpanError *error, const char *what)
{
	return span_error(error, SPAN_ERROR_CORRUPT, "segment is damaged: %s", what);
}

bool
segment_no_memory(SpanError *error)
{
	return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
}

/* Reads and unpacks a frame into memory from the allocator. */
static uint8_t *
load_frame(SegmentReader *r, const Frame *frame, uint64_t offset, SpanError *error)
{
	const SpanAllocator *a = &r->allocator;
	uint8_t             *stored = NULL;
	uint8_t             *raw;
	bool                 ok = false;

	if (offset > r->source.size || frame->stored_len > r->source.size - offset ||
	    frame->raw_len > SEGMENT_MAX_BYTES ||
	    frame->raw_len > (uint64_t) frame->stored_len * MAX_RATIO)
	{
		segment_corrupt(error, "a frame does not fit");
		return NULL;
	}
	raw = a->alloc(a->arg, (size_t) frame->raw_len + PACK_SLACK);
	if (raw != NULL)
		memset(raw + frame->raw_len, 0, PACK_SLACK);
	if (frame->codec == FRAME_STORED)
	{
		/* in place */
		if (raw == NULL)
			segment_no_memory(error);
		else if (!r->source.read(r->source.arg, offset, raw, frame->stored_len))
			span_error(error, SPAN_ERROR_IO, "could not read the segment");
		else if (crc32c(raw, frame->stored_len) != frame->crc)
			segment_corrupt(error, "checksum of a frame does not match");
		else
			ok = true;
	}
	else
	{
		stored = a->alloc(a->arg, (size_t) frame->stored_len + 1);
		if (raw == NULL || stored == NULL)
			segment_no_memory(error);
		else if (!r->source.read(r->source.arg, offset, stored, frame->stored_len))
			span_error(error, SPAN_ERROR_IO, "could not read the segment");
		else
			ok = frame_read(frame, stored, raw, error);
	}
	if (stored != NULL)
		a->release(a->arg, stored);
	if (!ok && raw != NULL)
	{
		a->release(a->arg, raw);
		raw = NULL;
	}
	return raw;
}

static bool
get_summary(Cursor *c, SegmentReader *r)
{
	SegmentSummary *s = &r->summary;

	s->rows = cursor_number(c, SEGMENT_MAX_ROWS);
	s->traces = cursor_number(c, s->rows);
	s->level = cursor_u8(c);
	s->min_start_nano = (int64_t) cursor_u64(c);
	s->max_start_nano = (int64_t) cursor_u64(c);
	s->max_end_nano = (int64_t) cursor_u64(c);
	s->min_duration_nano = (int64_t) cursor_u64(c);
	s->max_duration_nano = (int64_t) cursor_u64(c);
	s->max_trace_nano = (int64_t) cursor_u64(c);
	s->n_tenants = cursor_number(c, s->rows);
	s->tenant_filter = cursor_u64(c);
	s->raw_size = cursor_u64(c);
	s->size = r->source.size;
	return !c->failed;
}

static bool
get_zones(Cursor *c, SegmentReader *r)
{
	r->n_blocks = (r->summary.rows + IMAGE_BLOCK_ROWS - 1) / IMAGE_BLOCK_ROWS;
	r->zones = arena_alloc(&r->arena, (size_t) r->n_blocks * 3 * sizeof(int64_t));
	if (r->zones == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_blocks; i++)
	{
		uint64_t min_start = (uint64_t) r->summary.min_start_nano + cursor_varint(c);

		r->zones[3 * i] = (int64_t) min_start;
		r->zones[3 * i + 1] = (int64_t) (min_start + cursor_varint(c));
		r->zones[3 * i + 2] = (int64_t) cursor_varint(c);
	}
	return !c->failed;
}

static bool
get_fences(Cursor *c, SegmentReader *r)
{
	const uint8_t *fences;

	r->n_chunks = (r->summary.traces + TRACE_CHUNK - 1) / TRACE_CHUNK;
	fences = cursor_bytes(c, (uint64_t) r->n_chunks * 8);
	r->chunk_ids = arena_alloc0(&r->arena, r->n_chunks * sizeof(uint8_t *));
	if (fences == NULL || r->chunk_ids == NULL)
		return false;
	r->fences = arena_copy(&r->arena, fences, (size_t) r->n_chunks * 8);
	return r->fences != NULL;
}

static bool
get_frames(Cursor *c, SegmentReader *r, uint64_t limit)
{
	uint64_t offset = IMAGE_HEADER_LEN;

	r->n_frames = cursor_count(c, 5);
	r->frames = arena_alloc0(&r->arena, (size_t) r->n_frames * sizeof(FrameRef));
	if (r->frames == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_frames && !c->failed; i++)
	{
		Frame   *f = &r->frames[i].frame;
		uint64_t stored = cursor_varint(c);

		f->codec = stored & 1 ? FRAME_ZSTD : FRAME_STORED;
		if (stored >> 1 > limit - offset)
			return cursor_fail(c);
		f->stored_len = (uint32_t) (stored >> 1);
		f->raw_len = stored & 1 ? cursor_number(c, UINT32_MAX) : f->stored_len;
		f->crc = cursor_u32(c);
		r->frames[i].offset = offset;
		offset += f->stored_len;
	}
	return c->failed || offset == limit ? !c->failed : cursor_fail(c);
}

static bool
get_sections(Cursor *c, SegmentReader *r)
{
	uint64_t id = 0;
	int64_t  frame = 0;

	r->n_sections = cursor_count(c, 4);
	r->sections = arena_alloc(&r->arena, (size_t) r->n_sections * sizeof(SectionRef));
	if (r->sections == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_sections; i++)
	{
		SectionRef *s = &r->sections[i];
		uint64_t    step = cursor_varint(c);

		if (step > UINT32_MAX - id || (step == 0 && i > 0))
			return cursor_fail(c);
		id += step;
		frame += unzigzag(cursor_varint(c)) % INT64_C(0x100000000);
		if (frame < 0 || frame >= r->n_frames)
			return cursor_fail(c);
		s->id = (uint32_t) id;
		s->frame = (uint32_t) frame;
		s->offset = cursor_number(c, r->frames[frame].frame.raw_len);
		s->len = cursor_number(c, r->frames[frame].frame.raw_len - s->offset);
	}
	return c->failed || cursor_left(c) == 0 ? !c->failed : cursor_fail(c);
}

static bool
parse_footer(SegmentReader *r, Cursor *c, uint64_t limit)
{
	const uint8_t *hashes;

	if (!get_summary(c, r))
		return false;
	r->n_hashes = cursor_count(c, sizeof(RequestHash));
	hashes = cursor_bytes(c, (uint64_t) r->n_hashes * sizeof(RequestHash));
	if (hashes == NULL)
		return false;
	r->hashes = arena_copy(&r->arena, hashes, (size_t) r->n_hashes * sizeof(RequestHash));
	return r->hashes != NULL && get_zones(c, r) && get_fences(c, r) &&
	       get_frames(c, r, limit) && get_sections(c, r);
}

static bool
read_footer(SegmentReader *r, SpanError *error)
{
	uint8_t  header[IMAGE_HEADER_LEN];
	uint8_t  trailer[IMAGE_TRAILER_LEN];
	Frame    frame;
	uint64_t offset;
	uint8_t *raw;
	Cursor   c;
	bool     ok;

	if (r->source.size < IMAGE_HEADER_LEN + IMAGE_TRAILER_LEN || r->source.size > SEGMENT_MAX_BYTES)
		return segment_corrupt(error, "impossible size");
	if (!r->source.read(r->source.arg, 0, header, sizeof(header)) ||
	    !r->source.read(r->source.arg, r->source.size - IMAGE_TRAILER_LEN, trailer, sizeof(trailer)))
		return span_error(error, SPAN_ERROR_IO, "could not read the segment");
	if (memcmp(header, IMAGE_MAGIC, 4) != 0)
		return segment_corrupt(error, "no segment header");
	if (header[4] != IMAGE_VERSION)
		return span_error(error, SPAN_ERROR_UNSUPPORTED, "segment has format version %d, this build reads %d",
		                  header[4], IMAGE_VERSION);
	if (memcmp(header + 5, "\0\0\0", 3) != 0 || memcmp(trailer + 20, IMAGE_MAGIC, 4) != 0 ||
	    crc32c(trailer, 16) != load_u32(trailer + 16))
		return segment_corrupt(error, "bad trailer");
	frame.codec = trailer[0];
	frame.stored_len = load_u32(trailer + 4);
	frame.raw_len = load_u32(trailer + 8);
	frame.crc = load_u32(trailer + 12);
	if (frame.stored_len > r->source.size - IMAGE_HEADER_LEN - IMAGE_TRAILER_LEN ||
	    (frame.codec == FRAME_STORED && frame.stored_len != frame.raw_len))
		return segment_corrupt(error, "bad trailer");
	offset = r->source.size - IMAGE_TRAILER_LEN - frame.stored_len;
	raw = load_frame(r, &frame, offset, error);
	if (raw == NULL)
		return false;
	c = cursor_over(raw, frame.raw_len);
	ok = parse_footer(r, &c, offset);
	r->allocator.release(r->allocator.arg, raw);
	return ok ? true : c.failed ? segment_corrupt(error, "bad footer") :
	                              segment_no_memory(error);
}

SegmentReader *
segment_open(const SegmentSource *source, const SpanAllocator *allocator, SpanError *error)
{
	SegmentReader *r = allocator->alloc(allocator->arg, sizeof(SegmentReader));

	if (r == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	memset(r, 0, sizeof(*r));
	r->source = *source;
	r->allocator = *allocator;
	r->block = UINT32_MAX;
	arena_init(&r->arena, allocator, 0);
	arena_init(&r->block_arena, allocator, 0);
	arena_init(&r->projection_arena, allocator, 0);
	arena_init(&r->selection_arena, allocator, 0);
	arena_init(&r->value_arena, allocator, 0);
	if (!read_footer(r, error))
	{
		segment_close(r);
		return NULL;
	}
	return r;
}

static void
release(const SpanAllocator *allocator, void *chunk)
{
	if (chunk != NULL)
		allocator->release(allocator->arg, chunk);
}

void
segment_close(SegmentReader *r)
{
	SpanAllocator a;

	if (r == NULL)
		return;
	a = r->allocator;
	if (r->frames != NULL)
		for (uint32_t i = 0; i < r->n_frames; i++)
			if (r->frames[i].raw != NULL)
				a.release(a.arg, r->frames[i].raw);
	for (uint32_t i = 0; r->hot != NULL && i < r->n_blocks; i++)
	{
		release(&a, r->hot[i].row_shapes);
		release(&a, r->hot[i].starts);
		release(&a, r->hot[i].durations);
		release(&a, r->hot[i].marks);
	}
	arena_reset(&r->value_arena);
	arena_reset(&r->selection_arena);
	arena_reset(&r->projection_arena);
	arena_reset(&r->block_arena);
	arena_reset(&r->arena);
	a.release(a.arg, r);
}

void
segment_keep(SegmentReader *r, size_t bytes)
{
	r->hot_limit = r->hot_used + bytes < r->hot_used ? SIZE_MAX : r->hot_used + bytes;
}

void
segment_keep_frames(SegmentReader *r, size_t bytes)
{
	r->frames_limit = bytes;
}

void
segment_interrupted(SegmentReader *r)
{
	r->keep_frames = false;
	r->generation = 0; /* the cursors are anywhere */
}

size_t
segment_kept_frames(const SegmentReader *r)
{
	return r->frames_used;
}

size_t
segment_forget_frames(SegmentReader *r, size_t bytes)
{
	size_t freed = 0;

	/* in turn, those that were used since the last turn only in the next one */
	for (uint64_t left = 2 * (uint64_t) r->n_frames; left > 0 && freed < bytes && r->frames_used > 0; left--)
	{
		FrameRef *frame = &r->frames[r->frames_hand];

		r->frames_hand = r->frames_hand + 1 < r->n_frames ? r->frames_hand + 1 : 0;
		/* the current block's columns point into theirs */
		if (!frame->spare || frame->block == r->block)
			continue;
		if (frame->used)
		{
			frame->used = false;
			continue;
		}
		r->allocator.release(r->allocator.arg, frame->raw);
		frame->raw = NULL;
		frame->spare = frame->keep = false;
		r->frames_used -= frame->frame.raw_len;
		freed += frame->frame.raw_len;
	}
	return freed;
}

const SegmentCounters *
segment_counters(const SegmentReader *r)
{
	return &r->counters;
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
	const int64_t *zone;

	if (first >= r->summary.rows)
		return span_error(error, SPAN_ERROR_INVALID, "no such row in the segment");
	zone = &r->zones[3 * (first / IMAGE_BLOCK_ROWS)];
	*min_start = zone[0];
	*max_start = zone[1];
	*max_duration = zone[2];
	return true;
}

/* what a missing section reads as */
static const uint8_t nothing[PACK_SLACK];

bool
segment_section(SegmentReader *r, uint32_t id, bool keep, Section *section, SpanError *error)
{
	uint32_t  low = 0;
	uint32_t  high = r->n_sections;
	FrameRef *frame;

	while (low < high)
	{
		uint32_t mid = low + (high - low) / 2;

		if (r->sections[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	section->data = nothing;
	section->len = 0;
	if (low == r->n_sections || r->sections[low].id != id)
		return true;
	frame = &r->frames[r->sections[low].frame];
	if (frame->raw == NULL)
	{
		frame->raw = load_frame(r, &frame->frame, frame->offset, error);
		if (frame->raw == NULL)
			return false;
		/* who wants few rows of a block may want other ones of it soon */
		frame->spare = r->keep_frames && r->frames_used + frame->frame.raw_len <= r->frames_limit;
		frame->keep = frame->spare;
		if (frame->spare)
			r->frames_used += frame->frame.raw_len;
	}
	frame->used = true;
	/* blocks of a segment that we did not write may share one */
	frame->block = r->block;
	if (keep && frame->spare)
	{
		frame->spare = false;
		r->frames_used -= frame->frame.raw_len;
	}
	frame->keep = frame->keep || keep;
	section->data = frame->raw + r->sections[low].offset;
	section->len = r->sections[low].len;
	return true;
}

void
segment_drop_block_frames(SegmentReader *r)
{
	for (uint32_t i = 0; i < r->n_frames; i++)
		if (r->frames[i].raw != NULL && !r->frames[i].keep)
		{
			r->allocator.release(r->allocator.arg, r->frames[i].raw);
			r->frames[i].raw = NULL;
		}
}

static inline uint32_t
chunk_count(const SegmentReader *r, uint32_t chunk)
{
	return chunk + 1 == r->n_chunks ? r->summary.traces - chunk * TRACE_CHUNK : TRACE_CHUNK;
}

static bool
load_chunk(SegmentReader *r, uint32_t chunk, Section *section, SpanError *error)
{
	if (!segment_section(r, SECTION(STREAM_TRACE_INDEX, chunk), true, section, error))
		return false;
	if (section->len < chunk_count(r, chunk) * TRACE_ID_LEN)
		return segment_corrupt(error, "bad trace index");
	r->chunk_ids[chunk] = section->data;
	return true;
}

bool
segment_trace_id(SegmentReader *r, uint32_t rank, TraceId *id, SpanError *error)
{
	uint32_t chunk = rank / TRACE_CHUNK;
	Section  section;

	if (rank >= r->summary.traces)
		return segment_corrupt(error, "bad trace number");
	if (r->chunk_ids[chunk] == NULL && !load_chunk(r, chunk, &section, error))
		return false;
	memcpy(id, r->chunk_ids[chunk] + (rank % TRACE_CHUNK) * TRACE_ID_LEN, TRACE_ID_LEN);
	return true;
}

/* Position of the id in a chunk, or the chunk's count if it is not there. */
static uint32_t
search_chunk(const uint8_t *ids, uint32_t count, const TraceId *id)
{
	uint32_t low = 0;
	uint32_t high = count;

	while (low < high)
	{
		uint32_t mid = low + (high - low) / 2;

		if (memcmp(ids + mid * TRACE_ID_LEN, id, TRACE_ID_LEN) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count && memcmp(ids + low * TRACE_ID_LEN, id, TRACE_ID_LEN) == 0 ? low : count;
}

bool
segment_find_trace(SegmentReader *r, const TraceId *trace_id, uint32_t *first_row, uint32_t *count, SpanError *error)
{
	uint32_t low = 0;
	uint32_t high = r->n_chunks;

	*first_row = *count = 0;
	while (low < high)
	{
		uint32_t mid = low + (high - low) / 2;

		if (memcmp(r->fences + mid * 8, trace_id, 8) < 0)
			low = mid + 1;
		else
			high = mid;
	}

	/* in the chunk before, or, if ids share eight bytes, in those that begin with them */
	for (uint32_t chunk = low > 0 ? low - 1 : 0;
	     chunk < r->n_chunks && memcmp(r->fences + chunk * 8, trace_id, 8) <= 0; chunk++)
	{
		uint32_t n = chunk_count(r, chunk);
		Section  section;
		Cursor   c;
		uint32_t at;

		if (!load_chunk(r, chunk, &section, error))
			return false;
		at = search_chunk(section.data, n, trace_id);
		if (at == n)
			continue;
		c = cursor_over(section.data + n * TRACE_ID_LEN, section.len - n * TRACE_ID_LEN);
		for (uint32_t i = 0; i < n; i++)
		{
			uint32_t row = cursor_number(&c, r->summary.rows);

			if (i == at)
				*first_row = row;
		}
		for (uint32_t i = 0; i <= at; i++)
			*count = cursor_number(&c, r->summary.rows);
		if (c.failed || *count > r->summary.rows - *first_row)
		{
			*first_row = *count = 0;
			return segment_corrupt(error, "bad trace index");
		}
		break;
	}
	return true;
}
