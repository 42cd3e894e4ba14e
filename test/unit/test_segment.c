/*-------------------------------------------------------------------------
 *
 * test_segment.c
 *	  Segments give back exactly what was written.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/reader.h"
#include "spangen.h"
#include "tap.h"

typedef struct Stored
{
	SpanBatch  *batch;			/* what was written */
	SegmentImage image;
	SegmentMemory memory;
	SegmentSource source;
	SegmentReader *reader;
	SpanError	error;
} Stored;

typedef void (*Generator) (SpanBatch *batch, uint32_t n_spans, uint64_t seed);

static bool
store(Stored *s, Generator generate, uint32_t n, uint64_t seed, uint8_t level)
{
	SegmentWriteOptions options = {.level = level};

	memset(s, 0, sizeof(*s));
	s->batch = span_batch_create(&span_malloc_allocator, 0);
	generate(s->batch, n, seed);
	if (!ok(segment_write(s->batch, 0, n, &options, &span_malloc_allocator, &s->image, &s->error),
			"write %u spans, seed %u: %s", n, (unsigned) seed, s->error.message))
		return false;
	s->memory.data = s->image.data;
	s->memory.size = s->image.size;
	s->source = segment_source_memory(&s->memory);
	s->reader = segment_open(&s->source, &span_malloc_allocator, &s->error);
	return ok(s->reader != NULL, "open: %s", s->error.message);
}

static void
drop(Stored *s)
{
	segment_close(s->reader);
	segment_image_free(&s->image, &span_malloc_allocator);
	span_batch_destroy(s->batch);
}

static void
check_all_rows(Stored *s, const char *title)
{
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	SpanBatch  *got = span_batch_create(&span_malloc_allocator, 0);
	const char *what = "none";
	uint32_t	different = 0;

	if (ok(segment_decode(s->reader, &all, 0, s->batch->n_spans, got, &s->error), "%s: decode: %s", title, s->error.message) &&
		ok(got->n_spans == s->batch->n_spans, "%s: number of rows", title))
		for (uint32_t i = 0; i < s->batch->n_spans; i++)
			if (!spans_equal(s->batch, &s->batch->spans[i], got, &got->spans[s->image.row_of[i]], &what))
				different++;
	ok(different == 0, "%s: %u spans differ, last in %s", title, different, what);
	span_batch_destroy(got);
}

static void
test_round_trip(Generator generate, const char *name)
{
	static const uint32_t sizes[] = {1, 2, 5, 100, 1000, 9000, 40000};

	for (int level = 0; level < 2; level++)
		for (int i = 0; i < 7; i++)
		{
			Stored		s;
			char		title[80];

			snprintf(title, sizeof(title), "%s, %u spans, level %d", name, sizes[i], level);
			if (store(&s, generate, sizes[i], 17 + i, level))
				check_all_rows(&s, title);
			drop(&s);
		}
}

int
main(void)
{
	test_round_trip(spangen_realistic, "realistic");
	test_round_trip(spangen_adversarial, "adversarial");
	return tap_done();
}
