/*-------------------------------------------------------------------------
 *
 * test_classes.c
 *	  Rows of one class agree in what was asked for.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/classes.h"
#include "spangen.h"
#include "tap.h"

#define BLOCK 16384

typedef void (*Generator)(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

typedef struct Stored
{
	SpanBatch     *batch;
	SegmentImage   image;
	SegmentMemory  memory;
	SegmentSource  source;
	SegmentReader *reader;
	SpanError      error;
} Stored;

static bool
store(Stored *s, Generator generate, uint32_t n, uint64_t seed, uint8_t level)
{
	SegmentWriteOptions options = {.level = level};

	memset(s, 0, sizeof(*s));
	s->batch = span_batch_create(&span_malloc_allocator, 0);
	generate(s->batch, n, seed);
	if (!segment_write(s->batch, 0, n, &options, &span_malloc_allocator, &s->image, &s->error))
		return ok(false, "write: %s", s->error.message);
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

/* Times of the block against those of the spans; spans were decoded with the times. */
static void
check_times(Stored *s, uint32_t first, const SpanBatch *spans, const char *title)
{
	const int64_t *starts;
	const int64_t *durations;
	uint32_t       different = 0;

	if (!ok(segment_times_block(s->reader, first, &starts, &durations, &s->error), "%s: times: %s", title, s->error.message))
		return;
	for (uint32_t i = 0; i < spans->n_spans; i++)
		different += starts[i] != spans->spans[i].start_time_unix_nano ||
		             durations[i] != (int64_t) ((uint64_t) spans->spans[i].end_time_unix_nano - (uint64_t) spans->spans[i].start_time_unix_nano);
	ok(different == 0, "%s: %u times differ", title, different);
}

/* Every row equals the first one of its class. */
static void
check_classes(Stored *s, const SegmentProjection *projection, const char *title)
{
	SegmentProjection with_times = *projection;
	uint32_t          rows = segment_summary(s->reader)->rows;
	SegmentClasses   *classes = segment_classes_create(s->reader, projection, &span_malloc_allocator, &s->error);
	SpanBatch        *firsts = span_batch_create(&span_malloc_allocator, 0);
	uint32_t         *numbers = malloc(sizeof(uint32_t) * BLOCK);
	uint32_t         *seen = calloc(rows + 1, sizeof(uint32_t)); /* by class: 1 + its span in "firsts" */
	uint32_t          different = 0;
	uint32_t          bad = 0;
	const char       *what = "none";

	with_times.parts |= SEGMENT_START | SEGMENT_END;
	if (!ok(classes != NULL, "%s: classes: %s", title, s->error.message))
		return;
	for (uint32_t first = 0; first < rows; first += BLOCK)
	{
		uint32_t   count = rows - first < BLOCK ? rows - first : BLOCK;
		SpanBatch *spans = span_batch_create(&span_malloc_allocator, 0);
		SpanBatch *timed = span_batch_create(&span_malloc_allocator, 0);
		uint32_t   n_classes;
		bool       restarted;

		if (!ok(segment_classes_block(classes, first, numbers, &n_classes, &restarted, &s->error), "%s: block: %s", title, s->error.message) ||
		    !ok(segment_decode(s->reader, projection, first, count, spans, &s->error), "%s: decode: %s", title, s->error.message) ||
		    !ok(segment_decode(s->reader, &with_times, first, count, timed, &s->error), "%s: decode: %s", title, s->error.message))
			break;
		if (restarted)
		{
			span_batch_reset(firsts);
			memset(seen, 0, sizeof(uint32_t) * rows);
		}
		for (uint32_t i = 0; i < count; i++)
		{
			if (numbers[i] >= n_classes || n_classes > rows)
			{
				bad++;
				continue;
			}
			if (seen[numbers[i]] == 0)
			{
				bad += !segment_decode(s->reader, projection, first + i, 1, firsts, &s->error);
				seen[numbers[i]] = firsts->n_spans;
			}
			if (!spans_equal(spans, &spans->spans[i], firsts, &firsts->spans[seen[numbers[i]] - 1], &what))
				different++;
		}
		check_times(s, first, timed, title);
		span_batch_destroy(timed);
		span_batch_destroy(spans);
	}
	ok(different == 0, "%s: %u rows differ from others of their class, last in %s", title, different, what);
	ok(bad == 0, "%s: %u rows without a class", title, bad);
	free(seen);
	free(numbers);
	span_batch_destroy(firsts);
	segment_classes_free(classes);
}

static void
test_projections(Generator generate, const char *name, uint32_t n, uint64_t seed)
{
	static const uint32_t parts[] = {
		0, SEGMENT_NAME, SEGMENT_KIND | SEGMENT_STATUS, SEGMENT_RESOURCE, SEGMENT_SCOPE, SEGMENT_TENANT,
		SEGMENT_STATUS_MESSAGE | SEGMENT_TRACE_STATE, SEGMENT_FLAGS | SEGMENT_DROPPED, SEGMENT_CLASS_PARTS};

	for (int level = 0; level < 2; level++)
	{
		Stored            s;
		const SegmentKey *keys;
		uint32_t          n_keys;
		SpanText          some[8];
		SegmentProjection projection = {0};
		char              title[120];

		if (!store(&s, generate, n, seed, level) || !segment_keys(s.reader, &keys, &n_keys, &s.error))
			return;
		for (int i = 0; i < (int) (sizeof(parts) / sizeof(parts[0])); i++)
		{
			projection.parts = parts[i];
			snprintf(title, sizeof(title), "%s, %u spans, level %d, parts %x", name, n, level, (unsigned) parts[i]);
			check_classes(&s, &projection, title);
		}
		/* each key alone, then some together */
		for (uint32_t i = 0; i < n_keys; i += n_keys / 40 + 1)
		{
			if (keys[i].scope != ATTRIBUTE_SPAN)
				continue;
			projection = (SegmentProjection){.parts = 0, .keys = &keys[i].key, .n_keys = 1};
			snprintf(title, sizeof(title), "%s, %u spans, level %d, key %.*s", name, n, level,
			         (int) (keys[i].key.len < 40 ? keys[i].key.len : 40), keys[i].key.data);
			check_classes(&s, &projection, title);
		}
		projection = (SegmentProjection){.parts = SEGMENT_NAME, .keys = some};
		for (uint32_t i = 0; i < n_keys && projection.n_keys < 8; i++)
			if (keys[i].scope == ATTRIBUTE_SPAN)
				some[projection.n_keys++] = keys[i].key;
		snprintf(title, sizeof(title), "%s, %u spans, level %d, several keys", name, n, level);
		check_classes(&s, &projection, title);
		drop(&s);
	}
}

/* More different values than are remembered at once. */
static void
many_values(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	uint32_t     key = span_batch_string(batch, span_text("id", 2));
	SpanResource resource = {0};
	SpanScope    scope = {0};

	scope.resource = span_batch_resource(batch, &resource);
	for (uint32_t i = 0; i < n_spans; i++)
	{
		Span      span = {.scope = span_batch_scope(batch, &scope)};
		KeyValue *item = arena_alloc0(span_batch_arena(batch), sizeof(KeyValue));

		item->key = batch->strings[key];
		item->key_id = key;
		item->value.type = ANY_INT;
		item->value.u.integer = (int64_t) i * 7919;
		memcpy(&span.trace_id, &i, sizeof(i));
		memcpy(&span.span_id, &i, sizeof(i));
		span.trace_id.bytes[15] = span.span_id.bytes[7] = 1;
		span.start_time_unix_nano = span.end_time_unix_nano = 1000 + i;
		span.attributes.items = item;
		span.attributes.count = 1;
		span_batch_add(batch, &span);
	}
}

static void
test_restart(void)
{
	SpanText          key = span_text("id", 2);
	SegmentProjection projection = {.keys = &key, .n_keys = 1};
	Stored            s;

	if (store(&s, many_values, 150000, 1, 1))
		check_classes(&s, &projection, "many values");
	drop(&s);
}

/* Long values, each of its own. */
static void
long_values(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	many_values(batch, n_spans, seed);
	for (uint32_t i = 0; i < n_spans; i++)
	{
		KeyValue *item = (KeyValue *) batch->spans[i].attributes.items;
		char     *text = arena_alloc0(span_batch_arena(batch), 1500);

		snprintf(text, 1500, "%u", i);
		item->value.type = ANY_STRING;
		item->value.len = 1500;
		item->value.u.data = text;
	}
}

/* Values are not remembered without bound: those of the first block are too many bytes. */
static void
test_long_values(void)
{
	static uint32_t   numbers[BLOCK];
	SpanText          key = span_text("id", 2);
	SegmentProjection projection = {.keys = &key, .n_keys = 1};
	SegmentClasses   *classes;
	uint32_t          n_classes = 0;
	bool              restarted = true;
	Stored            s;

	if (store(&s, long_values, BLOCK + 100, 1, 1))
	{
		classes = segment_classes_create(s.reader, &projection, &span_malloc_allocator, &s.error);
		ok(classes != NULL && segment_classes_block(classes, 0, numbers, &n_classes, &restarted, &s.error) && !restarted &&
		       n_classes == BLOCK,
		   "the first block: %s", s.error.message);
		ok(segment_classes_block(classes, BLOCK, numbers, &n_classes, &restarted, &s.error) && restarted && n_classes == 100,
		   "numbering starts again: %u classes", n_classes);
		segment_classes_free(classes);
	}
	drop(&s);
}

/* A name for each span, so that classes start from as many places. */
static void
many_names(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	many_values(batch, n_spans, seed);
	for (uint32_t i = 0; i < n_spans; i++)
	{
		char name[32];
		int  len = snprintf(name, sizeof(name), "span %u", i);

		batch->spans[i].name = span_batch_string(batch, span_text(name, (uint32_t) len));
	}
}

static void
test_many_names(void)
{
	SpanText          key = span_text("id", 2);
	SegmentProjection projection = {.parts = SEGMENT_NAME, .keys = &key, .n_keys = 1};
	Stored            s;

	if (store(&s, many_names, 2 * BLOCK, 1, 1))
		check_classes(&s, &projection, "many names");
	drop(&s);
}

static void
test_refusals(void)
{
	SegmentProjection projection = {.parts = SEGMENT_NAME | SEGMENT_TRACE_ID};
	SegmentClasses   *classes;
	uint32_t          n_classes;
	bool              restarted;
	const int64_t    *starts;
	Stored            s;

	if (!store(&s, spangen_realistic, 100, 3, 1))
		return;
	ok(segment_classes_create(s.reader, &projection, &span_malloc_allocator, &s.error) == NULL, "no classes of trace ids");
	projection.parts = SEGMENT_NAME;
	classes = segment_classes_create(s.reader, &projection, &span_malloc_allocator, &s.error);
	ok(classes != NULL && !segment_classes_block(classes, 1, NULL, &n_classes, &restarted, &s.error), "no block begins at row 1");
	ok(!segment_classes_block(classes, BLOCK, NULL, &n_classes, &restarted, &s.error), "no block behind the end");
	ok(!segment_times_block(s.reader, BLOCK, &starts, NULL, &s.error), "nor its times");
	segment_classes_free(classes);
	drop(&s);
}

int
main(void)
{
	test_projections(spangen_realistic, "realistic", 300, 11);
	test_projections(spangen_realistic, "realistic", 40000, 12);
	test_projections(spangen_adversarial, "adversarial", 500, 13);
	test_projections(spangen_adversarial, "adversarial", 20000, 14);
	test_restart();
	test_long_values();
	test_many_names();
	test_refusals();
	return tap_done();
}
