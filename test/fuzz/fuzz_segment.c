/*-------------------------------------------------------------------------
 *
 * fuzz_segment.c
 *	  libFuzzer target: opens bytes as a segment and reads everything.
 *
 * Built without checksums (FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION), so
 * that mutations reach the parsers.  With the argument "--seeds FOLDER" the
 * program writes segments to begin with instead.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segment/classes.h"
#include "segment/merge.h"
#include "segment/tally.h"
#include "spangen.h"

#define MEMORY_LIMIT ((size_t) 256 << 20)

static size_t used;

static void *
limited_alloc(void *arg, size_t size)
{
	size_t *p;

	(void) arg;
	if (size > MEMORY_LIMIT - used)
		return NULL;
	p = malloc(size + 16);
	if (p == NULL)
		return NULL;
	*p = size;
	used += size;
	return p + 2;
}

static void
limited_release(void *arg, void *chunk)
{
	size_t *p = (size_t *) chunk - 2;

	(void) arg;
	used -= *p;
	free(p);
}

static const SpanAllocator limited = {limited_alloc, limited_release, NULL};

/* Looks at every byte of a span, as an encoder would. */
static uint64_t
touch(const SpanBatch *batch)
{
	uint64_t h = 0;

	for (uint32_t i = 0; i < batch->n_spans; i++)
	{
		const Span *s = &batch->spans[i];

		h = attribute_list_hash(s->attributes, h);
		h = attribute_list_hash(span_resource(batch, s)->attributes, h);
		h = span_bytes_hash(s->status_message.data, s->status_message.len, h);
		h = span_bytes_hash(s->trace_state.data, s->trace_state.len, h);
		h = span_bytes_hash(batch->strings[s->name].data, batch->strings[s->name].len, h);
		for (uint32_t k = 0; k < s->n_events; k++)
			h = attribute_list_hash(s->events[k].attributes, h);
		for (uint32_t k = 0; k < s->n_links; k++)
			h = attribute_list_hash(s->links[k].attributes, h);
	}
	return h;
}

volatile uint64_t sink;

static uint8_t
of_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	static const uint8_t truths[] = {TRUTH_TRUE, TRUTH_FALSE, TRUTH_UNKNOWN, TRUTH_UNDECIDED, TRUTH_TRUE};

	(void) arg;
	sink += batch->scopes[prototype->scope].resource;
	return truths[(prototype->name + prototype->attributes.count) % 5];
}

static uint8_t
of_value(void *arg, const AnyValue *value)
{
	(void) arg;
	return any_value_hash(value, 0) % 3 == 0 ? TRUTH_FALSE : TRUTH_TRUE;
}

/* Lets a test with all kinds of conditions select rows. */
static void
select_rows(SegmentReader *r, uint32_t rows, SpanBatch *batch)
{
	static uint8_t                verdicts[40000 + VECTOR_GROUP];
	static const SpanText         wanted[] = {{"a", 1}, {"k17", 3}};
	static const SegmentCondition either[] = {
		{.type = SEGMENT_BY_VALUE, .of_shape = of_shape, .of_value = of_value, .key = {"a", 1}},
		{.type = SEGMENT_BY_VALUE, .of_shape = of_shape, .of_value = of_value, .part = SEGMENT_STATUS_MESSAGE, .may_fail = true},
		{.type = SEGMENT_BY_PARENT},
		{.type = SEGMENT_BY_EVENT_NAME, .of_value = of_value},
		{.type = SEGMENT_BY_EVENTS, .negate = true},
		{.type = SEGMENT_BY_PRESENCE, .of_shape = of_shape, .key = {"k17", 3}}};
	static const SegmentCondition conditions[] = {
		{.type = SEGMENT_BY_VALUE, .of_shape = of_shape, .of_value = of_value, .key = {"k17", 3}},
		{.type = SEGMENT_ANY_OF, .children = either, .n_children = 6},
		{.type = SEGMENT_NOT, .children = either, .n_children = 1},
		{.type = SEGMENT_BY_DURATION, .min = 0, .max = INT64_MAX},
		{.type = SEGMENT_BY_END, .min = 1, .max = 2, .negate = true}};
	SegmentProjection projection = {SEGMENT_STATUS_MESSAGE, wanted, 2};
	SpanError         error;

	segment_keep(r, MEMORY_LIMIT / 8);
	for (uint32_t n = 1; n <= 5; n++)
	{
		SegmentTest test = {n, conditions, n};

		memset(verdicts, n % 2 ? ROW_IN : ROW_MAYBE, rows);
		if (segment_select(r, &projection, 0, rows, &test, batch, verdicts, &error))
			for (uint32_t i = 0; i < rows; i++)
				sink += verdicts[i];
	}
}

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

/* Merges the segment with itself. */
static void
merge(SegmentReader *r)
{
	static const SegmentMergeFilter everything = {NULL};
	SegmentMerge                   *m = segment_merge_create(&limited);
	SpanError                       error;
	uint32_t                        n_targets = 0;
	bool                            good = m != NULL && segment_summary(r)->rows <= 40000;

	for (int time = 0; good && time < 2; time++)
		for (uint32_t block = 0; good && block < segment_merge_blocks(r); block++)
			good = segment_merge_add(m, r, block, &everything, &error);
	good = good && segment_merge_split(m, NULL, NULL, &n_targets, &error);
	for (uint32_t i = 0; good && i < n_targets; i++)
	{
		SegmentWriteOptions options = {.level = 1, .zstd_level = -1};
		SegmentImage        image;

		good = segment_merge_write(m, i, &options, &image, &error);
		if (good)
			segment_merge_free_image(m, &image);
	}
	if (m != NULL)
		segment_merge_destroy(m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const SpanText wanted[] = {{"a", 1}, {"k17", 3}};
	SegmentProjection     all = {SEGMENT_ALL, NULL, 0};
	SegmentProjection     some = {SEGMENT_END | SEGMENT_LINKS, wanted, 2};
	SegmentMemory         memory = {data, size};
	SegmentSource         source = segment_source_memory(&memory);
	SpanError             error;
	SegmentReader        *r = segment_open(&source, &limited, &error);
	SpanBatch            *batch;
	const SegmentKey     *keys;
	const AnyValue       *values;
	uint32_t              n;
	uint32_t              n_values;
	uint32_t              rows;
	static uint32_t       selected[40000];

	if (r == NULL)
		return 0;
	batch = span_batch_create(&limited, MEMORY_LIMIT / 2);
	rows = segment_summary(r)->rows;
	if (rows > 40000)
		rows = 40000;
	if (segment_decode(r, &some, rows / 3, rows / 2, batch, &error))
		sink += touch(batch);
	select_rows(r, rows, batch);
	for (n = 0; n < rows / 3; n++)
		selected[n] = n * 3 + 1;
	if (segment_decode_rows(r, &all, selected, n, batch, &error))
		sink += touch(batch);
	/* few rows here and there, which what was unpacked for others serves */
	segment_keep_frames(r, MEMORY_LIMIT / 8);
	for (uint32_t i = 0; i < 8; i++)
	{
		if (segment_decode(r, i % 3 == 1 ? &some : &all, (i * 5 % 8) * (rows / 8), rows / 8, batch, &error))
			sink += touch(batch);
		if (i % 4 == 3)
			sink += segment_forget_frames(r, 100);
	}
	if (segment_decode(r, &all, 0, rows, batch, &error))
		sink += touch(batch);
	for (uint32_t i = 0; i < batch->n_spans && i < 50; i++)
		segment_find_trace(r, &batch->spans[i].trace_id, &n, &n_values, &error);
	if (segment_keys(r, &keys, &n, &error))
		for (uint32_t i = 0; i < n; i++)
		{
			AnyValue probe = {.type = (uint8_t) (ANY_STRING + i % 4)};

			if (i % 8 == 0 && keys[i].scope == ATTRIBUTE_SPAN)
				classify(r, &keys[i].key, &limited, &error);
			if (i == 0)
				tally(r, &limited, &error);

			if (segment_key_values(r, i, &values, &n_values, &error))
				for (uint32_t k = 0; k < n_values; k++)
					sink += any_value_hash(&values[k], 0);
			if (probe.type == ANY_STRING)
				probe.u.data = "x", probe.len = 1;
			segment_may_contain(r, keys[i].scope, keys[i].key, &probe);
		}
	span_batch_destroy(batch);
	merge(r);
	segment_close(r);
	if (used != 0)
		abort(); /* leaked */
	return 0;
}

static void
write_seed(const char *folder, int adversarial, uint32_t n, int level)
{
	SpanBatch          *batch = span_batch_create(&span_malloc_allocator, 0);
	SegmentWriteOptions options = {.level = (uint8_t) level, .zstd_level = n % 2 ? -1 : 0};
	SegmentImage        image;
	SpanError           error;
	char                path[4096];
	FILE               *f;

	(adversarial ? spangen_adversarial : spangen_realistic)(batch, n, n);
	if (!segment_write(batch, 0, n, &options, &span_malloc_allocator, &image, &error))
		abort();
	snprintf(path, sizeof(path), "%s/%s-%u-%d", folder, adversarial ? "odd" : "real", n, level);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(image.data, 1, image.size, f) != image.size || fclose(f) != 0)
	{
		perror(path);
		exit(1);
	}
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(batch);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const uint32_t sizes[] = {1, 2, 3, 7, 20, 41};

	if (*argc != 3 || strcmp((*argv)[1], "--seeds") != 0)
		return 0;
	for (int kind = 0; kind < 2; kind++)
		for (int i = 0; i < 6; i++)
			for (int level = 0; level < 2; level++)
				write_seed((*argv)[2], kind, sizes[i], level);
	exit(0);
}
