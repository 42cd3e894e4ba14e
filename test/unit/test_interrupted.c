/*-------------------------------------------------------------------------
 *
 * test_interrupted.c
 *	  Readers whose source left by an error, in the middle of whatever it was,
 *	  and that others go on with.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "segment/reader.h"
#include "spangen.h"
#include "tap.h"

/* Memory that is given back in the end, like that of a memory context. */
typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk *before;
} Chunk;

static Chunk chunks;

static void *
context_alloc(void *arg, size_t size)
{
	Chunk *chunk = malloc(sizeof(Chunk) + size);

	(void) arg;
	if (chunk == NULL)
		return NULL;
	memset(chunk + 1, 0x7f, size);
	chunk->next = chunks.next;
	chunk->before = &chunks;
	if (chunks.next != NULL)
		chunks.next->before = chunk;
	chunks.next = chunk;
	return chunk + 1;
}

static void
context_release(void *arg, void *memory)
{
	Chunk *chunk = (Chunk *) memory - 1;

	(void) arg;
	chunk->before->next = chunk->next;
	if (chunk->next != NULL)
		chunk->next->before = chunk->before;
	free(chunk);
}

static void
context_reset(void)
{
	while (chunks.next != NULL)
		context_release(NULL, chunks.next + 1);
}

static const SpanAllocator context = {context_alloc, context_release, NULL};

/* A source that leaves at the read after the next "reads_left". */
static jmp_buf       outside;
static SegmentSource whole;
static uint32_t      reads_left;

static bool
read_or_leave(void *arg, uint64_t offset, void *dst, size_t len)
{
	(void) arg;
	if (reads_left-- == 0)
		longjmp(outside, 1);
	return whole.read(whole.arg, offset, dst, len);
}

static const SpanBatch *stored;
static const Span     **rows;

static void
check(const SpanBatch *got, uint32_t first, uint32_t n, uint32_t reads, const char *title)
{
	const char *what = "none";
	uint32_t    different = 0;

	for (uint32_t i = 0; i < n; i++)
		different += !spans_equal(stored, rows[first + i], got, &got->spans[i], &what);
	ok(got->n_spans == n && different == 0, "%s, %u reads: %u spans differ, last in %s", title, reads, different, what);
}

/*
 * One scan decodes some rows, another is left by an error after some reads, and
 * both go on.  False if the error did not come.
 */
static bool
go_on(const SegmentProjection *projection, uint32_t reads, size_t keep)
{
	SegmentSource  source = {read_or_leave, NULL, whole.size};
	SpanError      error = {SPAN_ERROR_NONE};
	SpanBatch     *first = span_batch_create(&context, 0);
	SpanBatch     *second = span_batch_create(&context, 0);
	SegmentReader *r;
	volatile bool  left = true;

	reads_left = UINT32_MAX;
	r = segment_open(&source, &context, &error);
	segment_keep(r, keep);
	segment_keep_frames(r, keep);
	if (reads % 2 == 1)
		ok(segment_decode(r, projection, 2990, 10, first, &error), "decode: %s", error.message);
	span_batch_truncate(first, 0);
	reads_left = reads / 2;
	if (setjmp(outside) == 0)
	{
		(void) segment_decode(r, projection, 3000, 100, second, &error);
		(void) segment_decode(r, projection, 0, 2000, second, &error);
		left = false;
	}
	else
		segment_interrupted(r);
	reads_left = UINT32_MAX;
	if (ok(segment_decode(r, projection, 3000, 50, first, &error), "decode: %s", error.message) && projection->parts == SEGMENT_ALL)
		check(first, 3000, 50, reads, "the first goes on");
	span_batch_reset(second);
	if (ok(segment_decode(r, projection, 3040, 100, second, &error), "decode: %s", error.message) && projection->parts == SEGMENT_ALL)
		check(second, 3040, 100, reads, "the second begins again");
	context_reset();
	return left;
}

static void
test_interrupted(void (*generate)(SpanBatch *batch, uint32_t n_spans, uint64_t seed), uint32_t n)
{
	static const SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	static const SegmentProjection few = {SEGMENT_NAME | SEGMENT_ATTRIBUTES, NULL, 0};
	SegmentWriteOptions            options = {.level = 1};
	SpanError                      error = {SPAN_ERROR_NONE};
	SpanBatch                     *batch = span_batch_create(&span_malloc_allocator, 0);
	SegmentImage                   image = {0};
	SegmentMemory                  memory;
	uint32_t                       reads;

	generate(batch, n, 11);
	ok(segment_write(batch, 0, n, &options, &span_malloc_allocator, &image, &error), "write: %s", error.message);
	memory.data = image.data;
	memory.size = image.size;
	whole = segment_source_memory(&memory);
	stored = batch;
	rows = calloc(n, sizeof(Span *));
	for (uint32_t i = 0; i < n; i++)
		rows[image.row_of[i]] = &batch->spans[i];
	for (int keep = 0; keep < 2; keep++)
	{
		for (reads = 0; go_on(&all, reads, keep ? 1 << 24 : 0) || reads % 2 == 1; reads++)
			;
		ok(reads > 20, "%u reads", reads);
		for (reads = 0; go_on(&few, reads, keep ? 1 << 24 : 0) || reads % 2 == 1; reads++)
			;
	}
	free(rows);
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(batch);
}

int
main(void)
{
	test_interrupted(spangen_realistic, 4000);
	test_interrupted(spangen_adversarial, 4000);
	return tap_done();
}
