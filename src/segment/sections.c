/*-------------------------------------------------------------------------
 *
 * sections.c
 *	  Gathers the sections of an image into frames.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/sections.h"

#include "segment/writer.h"

#include <stdlib.h>

/* Sections from this size on get a frame of their own. */
#define OWN_FRAME_BYTES 768

/* frame numbers of sections that wait in shared[0] and shared[1] */
#define PENDING (UINT32_MAX - 1)

typedef struct SectionEntry
{
	uint32_t id;
	uint32_t frame;
	uint32_t offset;
	uint32_t len;
} SectionEntry;

void
sections_init(Sections *s, Buffer *out, bool compact, int zstd_level)
{
	memset(s, 0, sizeof(*s));
	s->zstd_level = zstd_level;
	s->compact = compact;
	s->out = out;
	buffer_init(&s->frames, out->allocator);
	buffer_init(&s->entries, out->allocator);
	buffer_init(&s->shared[0], out->allocator);
	buffer_init(&s->shared[1], out->allocator);
}

void
sections_free(Sections *s)
{
	buffer_free(&s->frames);
	buffer_free(&s->entries);
	buffer_free(&s->shared[0]);
	buffer_free(&s->shared[1]);
}

bool
sections_failed(const Sections *s)
{
	return s->out->failed || s->frames.failed || s->entries.failed ||
	       s->shared[0].failed || s->shared[1].failed;
}

static void
put_frame(Sections *s, const void *data, size_t len, bool compressible)
{
	Frame frame;

	/* what no reader takes */
	s->too_large |= len > SEGMENT_MAX_BYTES;
	if (s->too_large || !frame_write(s->out, data, len, compressible ? s->zstd_level : 0, &frame))
		s->out->failed = true;
	else
		buffer_put(&s->frames, &frame, sizeof(frame));
}

void
sections_put(Sections *s, uint32_t id, const void *data, size_t len, bool compressible)
{
	SectionEntry entry = {.id = id, .len = (uint32_t) len};

	if (len == 0)
		return;
	if (!s->compact && len >= OWN_FRAME_BYTES)
	{
		entry.frame = (uint32_t) (s->frames.len / sizeof(Frame));
		put_frame(s, data, len, compressible);
	}
	else
	{
		Buffer *shared = &s->shared[!compressible];

		entry.frame = PENDING + !compressible;
		entry.offset = (uint32_t) shared->len;
		buffer_put(shared, data, len);
		if (shared->len > UINT32_MAX)
			shared->failed = true;
	}
	buffer_put(&s->entries, &entry, sizeof(entry));
}

void
sections_flush(Sections *s)
{
	SectionEntry *entries = (SectionEntry *) s->entries.data;
	size_t        n = s->entries.len / sizeof(SectionEntry);

	if (sections_failed(s))
		return;
	for (uint32_t kind = 0; kind < 2; kind++)
	{
		Buffer  *shared = &s->shared[kind];
		uint32_t frame = (uint32_t) (s->frames.len / sizeof(Frame));

		if (shared->len == 0)
			continue;
		put_frame(s, shared->data, shared->len, kind == 0);
		for (size_t i = s->flushed; i < n; i++)
			if (entries[i].frame == PENDING + kind)
				entries[i].frame = frame;
		shared->len = 0;
	}
	s->flushed = n;
}

static int
compare_entries(const void *a, const void *b)
{
	const SectionEntry *x = a;
	const SectionEntry *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

void
sections_table(Sections *s, Buffer *footer)
{
	const Frame  *frames = (const Frame *) s->frames.data;
	size_t        n_frames = s->frames.len / sizeof(Frame);
	SectionEntry *entries = (SectionEntry *) s->entries.data;
	size_t        n = s->entries.len / sizeof(SectionEntry);
	uint32_t      id = 0;
	uint32_t      frame = 0;

	if (n > 0)
		qsort(entries, n, sizeof(SectionEntry), compare_entries);
	buffer_put_varint(footer, n_frames);
	for (size_t i = 0; i < n_frames; i++)
	{
		/* a stored frame has one length */
		buffer_put_varint(footer, (uint64_t) frames[i].stored_len << 1 | (frames[i].codec == FRAME_ZSTD));
		if (frames[i].codec == FRAME_ZSTD)
			buffer_put_varint(footer, frames[i].raw_len);
		buffer_put_u32(footer, frames[i].crc);
	}
	buffer_put_varint(footer, n);
	for (size_t i = 0; i < n; i++)
	{
		buffer_put_varint(footer, entries[i].id - id);
		buffer_put_varint(footer, zigzag((int64_t) entries[i].frame - frame));
		buffer_put_varint(footer, entries[i].offset);
		buffer_put_varint(footer, entries[i].len);
		id = entries[i].id;
		frame = entries[i].frame;
	}
}
