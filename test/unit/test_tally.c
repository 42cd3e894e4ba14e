/*-------------------------------------------------------------------------
 *
 * test_tally.c
 *	  What is counted by codes is what decoded spans have.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/tally.h"
#include "spangen.h"
#include "tap.h"

#define BLOCK 16384
#define SLOTS 50

/* All that is counted as one number, whatever the order */
typedef struct Sum
{
	uint64_t sum;
	uint64_t n;
	Arena    arena;
} Sum;

typedef struct Named
{
	TallyPlace place;
	SpanText   key;
} Named;

static uint64_t
hash_value(TallyPlace place, SpanText key, const AnyValue *value)
{
	return any_value_hash(value, span_bytes_hash(key.data, key.len, 100 + place));
}

static void
count(Sum *sum, uint64_t hash, uint32_t slot, uint64_t n)
{
	if (slot >= SLOTS)
		abort();
	sum->sum += span_bytes_hash(&hash, sizeof(hash), slot) * n;
	sum->n += n;
}

static void *
sink_attribute(void *arg, TallyPlace place, SpanText key)
{
	Sum   *sum = arg;
	Named *named = arena_alloc(&sum->arena, sizeof(Named));

	named->place = place;
	named->key = span_text(arena_copy(&sum->arena, key.len > 0 ? key.data : "", key.len), key.len);
	return named;
}

static void *
sink_value(void *arg, void *attribute, const AnyValue *value)
{
	Sum         *sum = arg;
	const Named *named = attribute;
	uint64_t    *hash = arena_alloc(&sum->arena, sizeof(uint64_t));

	*hash = hash_value(named->place, named->key, value);
	return hash;
}

static void
sink_add(void *arg, void *value, uint32_t slot, uint32_t n)
{
	count(arg, *(uint64_t *) value, slot, n);
}

static void
sink_add_codes(void *arg, void *const *values, const uint32_t *codes, const uint32_t *slots,
               uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (slots[i] != TALLY_NONE)
			count(arg, *(const uint64_t *) values[codes[i]], slots[i], 1);
}

static void
sink_add_values(void *arg, void *attribute, const AnyValue *values, const uint32_t *slots,
                uint32_t n)
{
	const Named *named = attribute;

	for (uint32_t i = 0; i < n; i++)
		if (slots[i] != TALLY_NONE)
			count(arg, hash_value(named->place, named->key, &values[i]), slots[i], 1);
}

static void
count_list(Sum *sum, TallyPlace place, AttributeList list, uint32_t slot)
{
	for (uint32_t i = 0; i < list.count; i++)
		if (attribute_find(list, list.items[i].key) == &list.items[i].value)
			count(sum, hash_value(place, list.items[i].key, &list.items[i].value), slot, 1);
}

static void
count_text(Sum *sum, TallyPlace place, SpanText text, uint32_t slot)
{
	AnyValue value = {.type = ANY_STRING, .len = text.len};

	value.u.data = text.data;
	count(sum, hash_value(place, span_text("", 0), &value), slot, 1);
}

static void
count_int(Sum *sum, TallyPlace place, int64_t number, uint32_t slot)
{
	AnyValue value = {.type = ANY_INT};

	value.u.integer = number;
	count(sum, hash_value(place, span_text("", 0), &value), slot, 1);
}

static void
count_span(Sum *sum, const SpanBatch *batch, const Span *span, uint32_t slot)
{
	const SpanScope *scope = span_scope(batch, span);

	count_list(sum, TALLY_SPAN, span->attributes, slot);
	count_list(sum, TALLY_SCOPE, scope->attributes, slot);
	count_list(sum, TALLY_RESOURCE, span_resource(batch, span)->attributes, slot);
	count_text(sum, TALLY_NAME, batch->strings[span->name], slot);
	count_text(sum, TALLY_SCOPE_NAME, batch->strings[scope->name], slot);
	count_text(sum, TALLY_SCOPE_VERSION, batch->strings[scope->version], slot);
	count_text(sum, TALLY_STATUS_MESSAGE, span->status_message, slot);
	count_int(sum, TALLY_KIND, span->kind, slot);
	count_int(sum, TALLY_STATUS, span->status_code, slot);
}

typedef void (*Generator)(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

/* Slots of a block: of neighbours mostly the same, some of none */
static void
make_slots(Random *random, uint32_t *slots, uint32_t n, int sparse)
{
	uint32_t slot = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		if (random_below(random, 100) == 0)
			slot = (uint32_t) random_below(random, SLOTS);
		slots[i] = (int) random_below(random, 100) < sparse ? TALLY_NONE : slot;
	}
}

static void
check_tally(SegmentReader *reader, uint64_t seed, int sparse, const char *title)
{
	static const SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	static const SegmentProjection attributes = {SEGMENT_ATTRIBUTES, NULL, 0};
	uint32_t                       rows = segment_summary(reader)->rows;
	Sum                            given = {0};
	Sum                            expected = {0};
	TallySink                      sink = {&given, sink_attribute, sink_value, sink_add, sink_add_codes, sink_add_values};
	SpanError                      error = {SPAN_ERROR_NONE};
	Random                         random = {seed};
	uint32_t                      *slots = malloc(BLOCK * sizeof(uint32_t));
	uint32_t                       n_rests = 0;
	SegmentTally                  *tally;

	arena_init(&given.arena, &span_malloc_allocator, 0);
	tally = segment_tally_create(reader, &sink, SLOTS, &span_malloc_allocator, &error);
	if (!ok(tally != NULL, "%s: tally: %s", title, error.message))
		return;
	for (uint32_t first = 0; first < rows; first += BLOCK)
	{
		uint32_t        n = rows - first < BLOCK ? rows - first : BLOCK;
		SpanBatch      *spans = span_batch_create(&span_malloc_allocator, 0);
		SpanBatch      *rest_spans = span_batch_create(&span_malloc_allocator, 0);
		const uint32_t *rest;
		uint32_t        n_rest;

		make_slots(&random, slots, n, sparse);
		if (!ok(segment_tally_block(tally, first, slots, &rest, &n_rest, &error), "%s: block: %s", title, error.message) ||
		    !ok(segment_decode_rows(reader, &attributes, rest, n_rest, rest_spans, &error), "%s: rest: %s", title, error.message) ||
		    !ok(segment_decode(reader, &all, first, n, spans, &error), "%s: decode: %s", title, error.message))
			break;
		for (uint32_t i = 0; i < n_rest; i++)
			count_list(&given, TALLY_SPAN, rest_spans->spans[i].attributes, slots[rest[i] - first]);
		for (uint32_t i = 0; i < n; i++)
			if (slots[i] != TALLY_NONE)
				count_span(&expected, spans, &spans->spans[i], slots[i]);
		n_rests += n_rest;
		span_batch_destroy(rest_spans);
		span_batch_destroy(spans);
	}
	ok(given.n == expected.n && given.sum == expected.sum, "%s: %llu values counted, of %llu; %u rows apart", title,
	   (unsigned long long) given.n, (unsigned long long) expected.n, n_rests);
	segment_tally_free(tally);
	arena_reset(&given.arena);
	free(slots);
}

static void
test_counts(Generator generate, const char *name, uint32_t n, uint64_t seed)
{
	for (int level = 0; level < 2; level++)
	{
		SegmentWriteOptions options = {.level = level};
		SpanBatch          *batch = span_batch_create(&span_malloc_allocator, 0);
		SegmentImage        image;
		SegmentMemory       memory;
		SegmentSource       source;
		SegmentReader      *reader;
		SpanError           error = {SPAN_ERROR_NONE};
		char                title[100];

		generate(batch, n, seed);
		if (!ok(segment_write(batch, 0, n, &options, &span_malloc_allocator, &image, &error), "write: %s", error.message))
			return;
		memory.data = image.data;
		memory.size = image.size;
		source = segment_source_memory(&memory);
		reader = segment_open(&source, &span_malloc_allocator, &error);
		if (!ok(reader != NULL, "open: %s", error.message))
			return;
		for (int sparse = 0; sparse <= 100; sparse += 50)
		{
			snprintf(title, sizeof(title), "%s, %u spans, level %d, %d %% left out", name, n, level, sparse);
			check_tally(reader, seed + sparse, sparse, title);
		}
		segment_close(reader);
		segment_image_free(&image, &span_malloc_allocator);
		span_batch_destroy(batch);
	}
}

int
main(void)
{
	test_counts(spangen_realistic, "realistic", 40000, 1);
	test_counts(spangen_realistic, "realistic", 100, 2);
	test_counts(spangen_adversarial, "adversarial", 20000, 3);
	test_counts(spangen_adversarial, "adversarial", 300, 4);
	return tap_done();
}
