/*-------------------------------------------------------------------------
 *
 * test_damage.c
 *	  Damaged segments and lack of memory give errors.
 *
 * test_blind.c includes this file and a frame.c without checksums, so that
 * damage reaches the code behind them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/classes.h"
#include "segment/merge.h"
#include "segment/tally.h"
#include "spangen.h"
#include "tap.h"

/* An allocator that can run dry: after so many allocations, or beyond so many bytes. */
static long   allocations_left = -1;
static size_t bytes_left = SIZE_MAX;

static void *
dry_alloc(void *arg, size_t size)
{
	size_t *p;

	(void) arg;
	if (allocations_left == 0 || size > bytes_left)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	p = malloc(size + 16);
	if (p == NULL)
		return NULL;
	*p = size;
	bytes_left -= size;
	return p + 2;
}

static void
dry_release(void *arg, void *chunk)
{
	size_t *p = (size_t *) chunk - 2;

	(void) arg;
	bytes_left += *p;
	free(p);
}

static const SpanAllocator dry = {dry_alloc, dry_release, NULL};

/* The classes of all blocks by one key. */
static void
classify(SegmentReader *r, const SpanText *key, const SpanAllocator *allocator, SpanError *error)
{
	static uint32_t   numbers[16384];
	SegmentProjection projection = {.parts = SEGMENT_CLASS_PARTS, .keys = key, .n_keys = 1};
	SegmentClasses   *classes = segment_classes_create(r, &projection, allocator, error);
	const int64_t    *starts;
	const int64_t    *durations;
	uint32_t          n_classes;
	bool              restarted;

	if (classes == NULL)
		return;
	for (uint32_t first = 0; first < segment_summary(r)->rows; first += 16384)
		if (!segment_classes_block(classes, first, numbers, &n_classes, &restarted, error) ||
		    !segment_times_block(r, first, &starts, &durations, error))
			break;
	segment_classes_free(classes);
}

/* A sink that looks at every value. */
static void *
sink_attribute(void *arg, TallyPlace place, SpanText key)
{
	return arg;
}

static void *
sink_value(void *arg, void *attribute, const AnyValue *value)
{
	*(uint64_t *) arg += any_value_hash(value, 0);
	return arg;
}

static void
sink_add(void *arg, void *value, uint32_t slot, uint32_t n)
{
	*(uint64_t *) value += slot + n;
}

static void
sink_codes(void *arg, void *const *values, const uint32_t *codes, const uint32_t *slots, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (slots[i] != TALLY_NONE)
			sink_add(arg, values[codes[i]], slots[i], 1);
}

static void
sink_values(void *arg, void *attribute, const AnyValue *values, const uint32_t *slots, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (slots[i] != TALLY_NONE)
			sink_add(arg, sink_value(arg, attribute, &values[i]), slots[i], 1);
}

/* The values of all blocks. */
static void
tally(SegmentReader *r, const SpanAllocator *allocator, SpanError *error)
{
	static uint32_t slots[16384];
	uint64_t        seen = 0;
	TallySink       to = {&seen, sink_attribute, sink_value, sink_add, sink_codes, sink_values};
	SegmentTally   *t = segment_tally_create(r, &to, 7, allocator, error);
	const uint32_t *rest;
	uint32_t        n_rest;

	if (t == NULL)
		return;
	for (uint32_t i = 0; i < 16384; i++)
		slots[i] = i % 8 == 7 ? TALLY_NONE : i % 8;
	for (uint32_t first = 0; first < segment_summary(r)->rows; first += 16384)
		if (!segment_tally_block(t, first, slots, &rest, &n_rest, error))
			break;
	segment_tally_free(t);
}

/* The segment merged with itself, but for every fifth row, and written again. */
static bool
merge_twice(SegmentReader *r, SpanError *error)
{
	static uint8_t     deleted[8192];
	SegmentMergeFilter filter = {.deleted = segment_summary(r)->rows <= 8 * sizeof(deleted) ? deleted : NULL};
	SegmentMerge      *merge = segment_merge_create(&dry);
	uint32_t           n_targets = 0;
	bool               good = merge != NULL;

	for (uint32_t i = 0; i < 8 * sizeof(deleted); i += 5)
		deleted[i / 8] |= (uint8_t) (1 << i % 8);
	for (int time = 0; good && time < 2; time++)
		for (uint32_t block = 0; good && block < segment_merge_blocks(r); block++)
			good = segment_merge_add(merge, r, block, &filter, error);
	good = good && segment_merge_split(merge, NULL, NULL, &n_targets, error);
	for (uint32_t i = 0; good && i < n_targets; i++)
	{
		SegmentWriteOptions options = {.level = 2};
		SegmentImage        image;

		good = segment_merge_write(merge, i, &options, &image, error);
		if (good)
			segment_merge_free_image(merge, &image);
	}
	if (merge != NULL)
		segment_merge_destroy(merge);
	else
		error->code = SPAN_ERROR_MEMORY;
	return good;
}

/* Everything a reader can do.  True if nothing failed and all spans are equal to the given ones. */
static bool
read_everything(const uint8_t *data, size_t size, const SpanBatch *expected, SpanError *error)
{
	static uint32_t   calls = 0;
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	SegmentMemory     memory = {data, size};
	SegmentSource     source = segment_source_memory(&memory);
	SegmentReader    *r = segment_open(&source, &dry, error);
	SpanBatch        *batch = r == NULL ? NULL : span_batch_create(&dry, 0);
	const SegmentKey *keys;
	const AnyValue   *values;
	const SpanText   *texts;
	uint32_t          n;
	uint32_t          n_values;
	uint32_t          rows;
	const char       *what;
	bool              equal;

	if (batch == NULL)
	{
		segment_close(r);
		if (r != NULL)
			error->code = SPAN_ERROR_MEMORY;
		return false;
	}
	rows = segment_summary(r)->rows;
	equal = segment_decode(r, &all, 0, rows, batch, error);
	if (equal)
		equal = batch->n_spans == rows;
	else
		equal = batch->n_spans != 0; /* an aborted decode leaves no spans */
	if (equal && expected != NULL)
	{
		equal = batch->n_spans == expected->n_spans;
		for (uint32_t i = 0; equal && i < batch->n_spans; i++)
			equal = spans_equal(expected, &expected->spans[i], batch, &batch->spans[i], &what);
	}
	if (segment_keys(r, &keys, &n, error))
		for (uint32_t i = 0; i < n; i++)
		{
			AnyValue probe = {.type = ANY_STRING, .len = 3, .u.data = "abc"};

			segment_key_values(r, i, &values, &n_values, error);
			segment_may_contain(r, keys[i].scope, keys[i].key, &probe);
			probe.type = ANY_INT;
			probe.u.integer = 42;
			segment_may_contain(r, keys[i].scope, keys[i].key, &probe);
			if (i % 4 == 0 && keys[i].scope == ATTRIBUTE_SPAN)
				classify(r, &keys[i].key, &dry, error);
			if (i == 0)
				tally(r, &dry, error);
		}
	segment_names(r, &texts, &n, error);
	segment_tenants(r, &texts, &n, error);
	/* it takes its time */
	if (calls++ % 4 == 0)
	{
		SpanError merge_error = {SPAN_ERROR_NONE};
		uint32_t  before_merge = batch->n_spans;

		merge_twice(r, &merge_error);
		/* who reads after a merge that failed */
		segment_decode(r, &all, 0, rows, batch, &merge_error);
		span_batch_truncate(batch, before_merge);
	}
	for (uint32_t i = 0; i < batch->n_spans; i++)
		segment_find_trace(r, &batch->spans[i].trace_id, &n, &n_values, error);
	if (rows > 3)
	{
		uint32_t before = batch->n_spans;

		segment_decode(r, &all, rows / 2, rows / 3, batch, error);
		span_batch_truncate(batch, before);
	}
	span_batch_destroy(batch);
	segment_close(r);
	return equal;
}

static SpanBatch *
sample(int kind, uint32_t n, int level, int zstd_level, SegmentImage *image)
{
	SpanBatch          *batch = span_batch_create(&span_malloc_allocator, 0);
	SpanBatch          *rows = span_batch_create(&span_malloc_allocator, 0);
	SegmentWriteOptions options = {.level = (uint8_t) level, .zstd_level = zstd_level};
	SegmentProjection   all = {SEGMENT_ALL, NULL, 0};
	SegmentMemory       memory;
	SegmentSource       source;
	SegmentReader      *r;
	SpanError           error = {0};

	(kind ? spangen_adversarial : spangen_realistic)(batch, n, 77);
	ok(segment_write(batch, 0, n, &options, &span_malloc_allocator, image, &error), "write: %s", error.message);
	memory.data = image->data;
	memory.size = image->size;
	source = segment_source_memory(&memory);
	r = segment_open(&source, &span_malloc_allocator, &error);
	ok(r != NULL && segment_decode(r, &all, 0, n, rows, &error), "read: %s", error.message);
	segment_close(r);
	span_batch_destroy(batch);
	return rows;
}

#ifndef BLIND
static void
test_flips(int kind, uint32_t n, int level)
{
	SegmentImage image;
	SpanBatch   *rows = sample(kind, n, level, 0, &image);
	uint8_t     *copy = malloc(image.size);
	uint32_t     wrong = 0;
	uint32_t     unnamed = 0;
	SpanError    error = {0};

	for (size_t i = 0; i < image.size; i++)
	{
		memcpy(copy, image.data, image.size);
		copy[i] ^= (uint8_t) (1 << (i % 8));
		error.code = SPAN_ERROR_NONE;
		/* equal data is impossible: each bit is covered by a checksum or a check */
		if (read_everything(copy, image.size, rows, &error))
			wrong++;
		else if (error.code != SPAN_ERROR_CORRUPT && error.code != SPAN_ERROR_UNSUPPORTED)
			unnamed++;
	}
	ok(wrong == 0, "%u of %zu flipped bits went unnoticed", wrong, image.size);
	ok(unnamed == 0, "%u flipped bits gave another error than corruption", unnamed);
	wrong = 0;
	for (size_t size = 0; size < image.size; size++)
	{
		memcpy(copy, image.data, size);
		wrong += read_everything(copy, size, rows, &error);
	}
	ok(wrong == 0, "%u truncated images went unnoticed", wrong);
	free(copy);
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(rows);
}

static void
test_merge_without_memory(const SegmentImage *image)
{
	SegmentMemory memory = {image->data, image->size};
	SegmentSource source = segment_source_memory(&memory);
	uint32_t      wrong = 0;
	size_t        before = bytes_left;
	bool          done = false;
	long          tries;

	for (tries = 0; !done && tries < 100000; tries += 1 + tries / 32)
	{
		SpanError      error = {SPAN_ERROR_NONE};
		SegmentReader *r = segment_open(&source, &span_malloc_allocator, &error);

		allocations_left = tries;
		done = merge_twice(r, &error);
		wrong += !done && error.code != SPAN_ERROR_MEMORY;
		allocations_left = -1;
		segment_close(r);
	}
	ok(done && wrong == 0, "merging without memory gives an error: %u of %ld wrong", wrong, tries);
	ok(bytes_left == before, "no memory is leaked after that");
}

static void
test_no_memory(int kind, uint32_t n, int level)
{
	SegmentImage        image;
	SpanBatch          *rows = sample(kind, n, level, 0, &image);
	SegmentWriteOptions options = {.level = (uint8_t) level};
	uint32_t            wrong = 0;
	long                tries;
	bool                done = false;

	for (tries = 0; !done && tries < 100000; tries += 1 + tries / 32)
	{
		SpanError    error = {0};
		SegmentImage again;

		allocations_left = tries;
		done = segment_write(rows, 0, rows->n_spans, &options, &dry, &again, &error);
		wrong += !done && error.code != SPAN_ERROR_MEMORY;
		wrong += done && (again.size != image.size || memcmp(again.data, image.data, image.size) != 0) && level < 0;
		segment_image_free(&again, &dry);
	}
	ok(done && wrong == 0, "writing without memory gives an error: %u of %ld wrong", wrong, tries);
	done = false;
	for (tries = 0; !done && tries < 100000; tries += 1 + tries / 32)
	{
		SpanError error = {0};

		allocations_left = tries;
		done = read_everything(image.data, image.size, rows, &error);
		wrong += !done && error.code != SPAN_ERROR_MEMORY;
	}
	ok(done && wrong == 0, "reading without memory gives an error: %u of %ld wrong", wrong, tries);
	allocations_left = -1;
	test_merge_without_memory(&image);
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(rows);
}

#else
/* Without checksums: anything but a crash, and bounded memory. */
static void
test_blind_damage(int kind, uint32_t n, int level, int zstd_level, int rounds)
{
	SegmentImage image;
	SpanBatch   *rows;
	uint8_t     *copy;
	uint32_t     noticed = 0;
	Random       random = {(uint64_t) n + level};

	rows = sample(kind, n, level, zstd_level, &image);
	copy = malloc(image.size);
	bytes_left = (size_t) 64 << 20;
	for (int i = 0; i < rounds; i++)
	{
		SpanError error = {0};
		int       changes = 1 + (int) random_below(&random, 4);

		memcpy(copy, image.data, image.size);
		for (int k = 0; k < changes; k++)
		{
			/* half of the damage goes to the footer, which is at the end */
			size_t tail = image.size < 400 ? image.size : 400;
			size_t at = random_below(&random, 2) ? random_below(&random, image.size) :
			                                       image.size - 1 - random_below(&random, tail);

			copy[at] = random_below(&random, 2) ? (uint8_t) random_next(&random) :
			                                      (uint8_t) (copy[at] + (random_below(&random, 2) ? 1 : -1));
		}
		noticed += !read_everything(copy, image.size, NULL, &error);
	}
	ok(noticed > 0, "some blind damage is noticed");
	ok(bytes_left == (size_t) 64 << 20, "no memory is leaked after damage");
	bytes_left = SIZE_MAX;
	free(copy);
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(rows);
}

#endif

int
main(void)
{
#ifndef BLIND
	test_flips(0, 5, 0);
	test_flips(0, 40, 1);
	test_flips(1, 6, 0);
	test_flips(1, 20, 1);
	test_no_memory(0, 30, 0);
	test_no_memory(1, 30, 1);
	test_no_memory(1, 4500, 1);
#else
	for (int level = 0; level < 2; level++)
	{
		test_blind_damage(0, 30, level, -1, 4000);
		test_blind_damage(1, 30, level, -1, 4000);
		test_blind_damage(0, 60, level, 0, 1000);
		test_blind_damage(1, 4200, level, -1, 60);
	}
#endif
	return tap_done();
}
