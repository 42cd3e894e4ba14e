/*-------------------------------------------------------------------------
 *
 * test_merge.c
 *	  Merged segments have the spans that decoding all sources and writing
 *	  them again gives, and nothing of rows that are left out.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/check.h"
#include "segment/merge.h"
#include "spangen.h"
#include "tap.h"

#define MAX_SOURCES 24

typedef void (*Generator)(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

/* A segment in memory, and which of its rows are deleted. */
typedef struct Source
{
	SegmentImage   image;
	SegmentMemory  memory;
	SegmentSource  source;
	SegmentReader *reader;
	uint8_t       *deleted;
} Source;

static const SegmentProjection everything = {SEGMENT_ALL};

static bool
open_source(Source *s)
{
	SpanError error = {SPAN_ERROR_NONE};

	s->memory.data = s->image.data;
	s->memory.size = s->image.size;
	s->source = segment_source_memory(&s->memory);
	s->reader = segment_open(&s->source, &span_malloc_allocator, &error);
	return s->reader != NULL || ok(false, "open: %s", error.message);
}

static bool
make_source(Source *s, const SpanBatch *batch, uint32_t first, uint32_t count, uint8_t level)
{
	SegmentWriteOptions options = {.level = level};
	SpanError           error = {SPAN_ERROR_NONE};

	memset(s, 0, sizeof(*s));
	return (segment_write(batch, first, count, &options, &span_malloc_allocator, &s->image, &error) ||
	        ok(false, "write: %s", error.message)) &&
	       open_source(s);
}

static void
drop_source(Source *s)
{
	segment_close(s->reader);
	segment_image_free(&s->image, &span_malloc_allocator);
	free(s->deleted);
	memset(s, 0, sizeof(*s));
}

/* Deletes about one row in "one_in". */
static void
delete_some(Source *s, Random *random, uint32_t one_in)
{
	uint32_t rows = segment_summary(s->reader)->rows;

	s->deleted = calloc(rows / 8 + 1, 1);
	for (uint32_t row = 0; row < rows; row++)
		if (random_below(random, one_in) == 0)
			s->deleted[row / 8] |= (uint8_t) (1 << row % 8);
}

static bool
is_deleted(const Source *s, uint32_t row)
{
	return s->deleted != NULL && (s->deleted[row / 8] & (1 << row % 8)) != 0;
}

/* What retention leaves: an arbitrary rule by tenant. */
typedef struct Rule
{
	bool    limited;
	int64_t stored;
	int64_t window; /* 0 = none */
} Rule;

static int64_t
rule_cutoff(void *arg, SpanText tenant)
{
	return tenant.len % 2 == 0 ? INT64_MIN : INT64_C(1700000000000000001);
}

static int64_t
rule_window(void *arg, SpanText tenant, int64_t end)
{
	const Rule *rule = arg;

	return rule->window == 0 || tenant.len == 5 ? 0 : (int64_t) ((uint64_t) end % (uint64_t) rule->window);
}

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool
rule_keeps(const Rule *rule, SpanText tenant, const Span *span)
{
	int64_t end = later(span->start_time_unix_nano, span->end_time_unix_nano);

	return !rule->limited || (end < rule->stored ? end : rule->stored) >= rule_cutoff(NULL, tenant);
}

/* All rows that are left, decoded, in the order of the sources. */
static SpanBatch *
decode_all(Source *sources, uint32_t n, const Rule *rule)
{
	SpanBatch *batch = span_batch_create(&span_malloc_allocator, 0);
	SpanError  error = {SPAN_ERROR_NONE};

	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t from = batch->n_spans;
		uint32_t kept = from;

		if (!segment_decode(sources[i].reader, &everything, 0, segment_summary(sources[i].reader)->rows, batch, &error))
			ok(false, "decode: %s", error.message);
		for (uint32_t row = from; row < batch->n_spans; row++)
			if (!is_deleted(&sources[i], row - from) &&
			    rule_keeps(rule, batch->strings[span_resource(batch, &batch->spans[row])->tenant], &batch->spans[row]))
				batch->spans[kept++] = batch->spans[row];
		span_batch_truncate(batch, kept);
	}
	return batch;
}

static SegmentMerge *
merge_all(Source *sources, uint32_t n, Rule *rule, uint32_t *n_targets)
{
	SegmentMerge *merge = segment_merge_create(&span_malloc_allocator);
	SpanError     error = {SPAN_ERROR_NONE};

	for (uint32_t i = 0; i < n; i++)
	{
		SegmentMergeFilter filter = {.deleted = sources[i].deleted, .cutoff = rule->limited ? rule_cutoff : NULL, .stored = rule->stored};

		for (uint32_t block = 0; block < segment_merge_blocks(sources[i].reader); block++)
			if (!segment_merge_add(merge, sources[i].reader, block, &filter, &error))
				ok(false, "add: %s", error.message);
	}
	if (!segment_merge_split(merge, rule_window, rule, n_targets, &error))
		ok(false, "split: %s", error.message);
	return merge;
}

static SpanText
tenant_of(const SpanBatch *batch, const Span *span)
{
	return batch->strings[span_resource(batch, span)->tenant];
}

static int64_t
window_of(Rule *rule, const SpanBatch *batch, const Span *span)
{
	return rule_window(rule, tenant_of(batch, span), later(span->start_time_unix_nano, span->end_time_unix_nano));
}

/*
 * A target has the spans of "all" of one tenant and window, in the order and
 * with the summary that writing them gives.  They are moved to span "from" of
 * "all"; the number is returned.
 */
static uint32_t
check_target(SpanBatch *all, uint32_t from, const Source *target, Rule *rule, uint8_t level, const char *title)
{
	SpanBatch    *got = span_batch_create(&span_malloc_allocator, 0);
	SpanBatch    *want = span_batch_create(&span_malloc_allocator, 0);
	SpanError     error = {SPAN_ERROR_NONE};
	uint32_t      rows = segment_summary(target->reader)->rows;
	uint32_t      n = 0;
	uint32_t      different = 0;
	const char   *what = "none";
	Source        written = {.deleted = NULL};
	const Span   *first;
	Span         *rest = malloc((size_t) all->n_spans * sizeof(Span) + 1);
	SegmentAsked *asked = calloc(1, sizeof(SegmentAsked));
	uint32_t      n_rest = 0;

	if (!segment_decode(target->reader, &everything, 0, rows, got, &error))
		ok(false, "%s: decode: %s", title, error.message);
	ok(segment_check_values(target->reader, got, asked, &error), "%s: values: %s", title, error.message);
	free(asked);
	first = &got->spans[0];
	for (uint32_t i = from; i < all->n_spans; i++)
	{
		const Span *span = &all->spans[i];

		if (span_text_equal(tenant_of(all, span), tenant_of(got, first)) && window_of(rule, all, span) == window_of(rule, got, first))
			all->spans[from + n++] = *span;
		else
			rest[n_rest++] = *span;
	}
	memcpy(&all->spans[from + n], rest, n_rest * sizeof(Span));
	free(rest);
	if (ok(rows == n, "%s: %u rows of %u", title, rows, n) && make_source(&written, all, from, n, level))
	{
		SegmentSummary a = *segment_summary(target->reader);
		SegmentSummary b = *segment_summary(written.reader);

		if (!segment_decode(written.reader, &everything, 0, n, want, &error))
			ok(false, "%s: decode: %s", title, error.message);
		for (uint32_t i = 0; i < n; i++)
			different += !spans_equal(want, &want->spans[i], got, &got->spans[i], &what);
		ok(different == 0, "%s: %u spans of %u differ, last in %s", title, different, n, what);
		/* these may differ a little, as the dictionaries do */
		ok(a.size < b.size + b.size / 8 + 4096, "%s: %u bytes, not many more than %u", title, (unsigned) a.size, (unsigned) b.size);
		a.size = b.size = a.raw_size = b.raw_size = 0;
		ok(memcmp(&a, &b, sizeof(a)) == 0, "%s: the same summary", title);
		drop_source(&written);
	}
	span_batch_destroy(got);
	span_batch_destroy(want);
	return n;
}

/* The targets of a merge; they become sources of the next. */
static uint32_t
check_merge(Source *sources, uint32_t n, Rule *rule, uint8_t level, const char *title)
{
	SpanBatch    *all = decode_all(sources, n, rule);
	uint32_t      n_targets;
	SegmentMerge *merge = merge_all(sources, n, rule, &n_targets);
	Source       *targets = calloc(n_targets + 1, sizeof(Source));
	uint32_t      from = 0;

	ok(segment_merge_rows(merge) == all->n_spans, "%s: %u rows, %u expected", title, segment_merge_rows(merge), all->n_spans);
	for (uint32_t i = 0; i < n_targets; i++)
	{
		SegmentWriteOptions options = {.level = level};
		SpanError           error = {SPAN_ERROR_NONE};

		if (ok(segment_merge_write(merge, i, &options, &targets[i].image, &error), "%s: write: %s", title, error.message) &&
		    open_source(&targets[i]))
			from += check_target(all, from, &targets[i], rule, level, title);
	}
	ok(from == all->n_spans, "%s: %u spans in all targets, %u expected", title, from, all->n_spans);
	segment_merge_destroy(merge);
	span_batch_destroy(all);
	for (uint32_t i = 0; i < n; i++)
		drop_source(&sources[i]);
	for (uint32_t i = 0; i < n_targets && i < MAX_SOURCES; i++)
	{
		/* a reader knows where its source is */
		segment_close(targets[i].reader);
		sources[i] = targets[i];
		(void) open_source(&sources[i]);
	}
	for (uint32_t i = MAX_SOURCES; i < n_targets; i++)
		drop_source(&targets[i]);
	free(targets);
	return n_targets < MAX_SOURCES ? n_targets : MAX_SOURCES;
}

/* Batches of many sizes, merged, some deleted, merged again. */
static void
test_rounds(Generator generate, const char *name, uint32_t n_spans, uint64_t seed, Rule rule)
{
	Random     random = {seed * 977 + 1};
	SpanBatch *batch = span_batch_create(&span_malloc_allocator, 0);
	Source     sources[MAX_SOURCES];
	char       title[64];
	uint32_t   n = 0;
	uint32_t   at = 0;

	generate(batch, n_spans, seed);
	while (at < n_spans && n < MAX_SOURCES)
	{
		uint32_t count = n + 1 == MAX_SOURCES ? n_spans - at : 1 + (uint32_t) random_below(&random, n_spans / 4 + 1);

		count = count < n_spans - at ? count : n_spans - at;
		if (!make_source(&sources[n], batch, at, count, random_below(&random, 2)))
			return;
		if (random_below(&random, 2))
			delete_some(&sources[n], &random, 1 + (uint32_t) random_below(&random, 5));
		at += count;
		n++;
	}
	span_batch_destroy(batch);
	for (uint8_t round = 1; round <= 3 && n > 0; round++)
	{
		snprintf(title, sizeof(title), "%s %u, round %u", name, (unsigned) seed, round);
		n = check_merge(sources, n, &rule, round, title);
		for (uint32_t i = 0; i < n; i++)
			if (random_below(&random, 3) == 0)
				delete_some(&sources[i], &random, 4);
		/* only what is of no use any more */
		rule.window = 0;
	}
	for (uint32_t i = 0; i < n; i++)
		drop_source(&sources[i]);
}

static void
put(SpanBatch *batch, KeyValue *items, uint32_t *n, const char *key, AnyValue value)
{
	items[*n].key_id = span_batch_string(batch, span_text(key, (uint32_t) strlen(key)));
	items[*n].key = batch->strings[items[*n].key_id];
	items[(*n)++].value = value;
}

/* Now and then a rare attribute; of all types, each under a key of its own. */
static void
put_rare(SpanBatch *batch, KeyValue *items, uint32_t *n, Random *random)
{
	static const char *const keys[] = {"rare 0", "rare 1", "rare 2", "rare 3", "rare 4", "rare 5", "rare 6", "rare 7"};
	static const AnyValue    element = {.type = ANY_STRING, .len = 7, .u.data = "element"};
	AnyValue                 value = {.type = (uint8_t) random_below(random, 8)};

	if (random_below(random, 400) != 0)
		return;
	switch ((AnyValueType) value.type)
	{
		case ANY_STRING:
		case ANY_BYTES:
			value.len = (uint32_t) random_below(random, 4);
			value.u.data = "text";
			break;
		case ANY_BOOL:
			value.u.boolean = random_below(random, 2);
			break;
		case ANY_INT:
		case ANY_DOUBLE:
			value.u.integer = (int64_t) random_next(random);
			break;
		case ANY_ARRAY:
			value.len = 1;
			value.u.elements = &element;
			break;
		default:
			break;
	}
	put(batch, items, n, keys[value.type], value);
}

/*
 * Rare attributes at all places of the list, in events and links, too; parents
 * that are all as far away, and such that are all the same and missing.
 */
static void
generate_rare(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	Random random = {seed};

	for (uint32_t i = 0; i < n_spans; i++)
	{
		KeyValue     items[8];
		uint32_t     n = 0;
		SpanResource resource = {.tenant = span_batch_string(batch, span_text("tenant", 5 + i / 2 % 2))};
		SpanScope    scope = {.resource = span_batch_resource(batch, &resource)};
		Span         span = {.scope = span_batch_scope(batch, &scope)};
		SpanEvent    event = {.time_unix_nano = i};
		SpanLink     link = {.flags = i % 3};
		uint64_t     id = i + 1;
		uint32_t     trace = i / 2 + 1;

		put_rare(batch, items, &n, &random);
		put(batch, items, &n, "a", (AnyValue){.type = ANY_INT, .u.integer = i % 100});
		put_rare(batch, items, &n, &random);
		put(batch, items, &n, "b", (AnyValue){.type = ANY_STRING, .len = 1 + i % 5, .u.data = "value"});
		put_rare(batch, items, &n, &random);
		span.attributes = (AttributeList){arena_copy(span_batch_arena(batch), items, n * sizeof(KeyValue)), n};
		event.attributes = link.attributes = span.attributes;
		memcpy(span.trace_id.bytes, &trace, sizeof(trace));
		memcpy(span.span_id.bytes, &id, sizeof(id));
		span.start_time_unix_nano = span.end_time_unix_nano = i;
		span.name = span_batch_string(batch, span_text("child", i % 2 ? 5 : 3));
		if (i % 2)
			span.parent_span_id = batch->spans[i - 1].span_id;
		else
			memset(&span.parent_span_id, 0x77, SPAN_ID_LEN);
		if (random_below(&random, 4) == 0)
		{
			span.events = arena_copy(span_batch_arena(batch), &event, sizeof(event));
			span.n_events = 1;
		}
		if (random_below(&random, 4) == 0)
		{
			span.links = arena_copy(span_batch_arena(batch), &link, sizeof(link));
			span.n_links = 1;
		}
		(void) span_batch_add(batch, &span);
	}
}

static bool
image_has(const SegmentImage *image, const char *text)
{
	return memmem(image->data, image->size, text, strlen(text)) != NULL;
}

/* Spans that all have what tells them from others in every kind of place. */
static void
marked_spans(SpanBatch *batch, const char *mark, uint32_t n, uint32_t trace)
{
	Arena       *arena = span_batch_arena(batch);
	SpanText     text = span_text(arena_copy(arena, mark, strlen(mark)), (uint32_t) strlen(mark));
	uint32_t     key = span_batch_string(batch, text);
	KeyValue     items[2] = {{.key = text, .key_id = key, .value = {.type = ANY_STRING, .len = text.len, .u.data = text.data}}};
	AnyValue     element = items[0].value;
	SpanResource resource = {.tenant = span_batch_string(batch, span_text("tenant", 6))};
	SpanScope    scope = {.name = key, .version = key};
	SpanEvent    event = {.name = text};
	SpanLink     link = {.trace_state = text};

	items[1].key = span_text("list", 4);
	items[1].key_id = span_batch_string(batch, items[1].key);
	items[1].value = (AnyValue){.type = ANY_ARRAY, .len = 1, .u.elements = arena_copy(arena, &element, sizeof(element))};
	resource.attributes = scope.attributes = event.attributes = link.attributes =
		(AttributeList){arena_copy(arena, items, sizeof(items)), 2};
	scope.resource = span_batch_resource(batch, &resource);
	for (uint32_t i = 0; i < n; i++)
	{
		Span span = {.scope = span_batch_scope(batch, &scope), .name = key, .status_message = text, .trace_state = text};

		span.trace_id.bytes[0] = (uint8_t) trace;
		span.span_id.bytes[0] = (uint8_t) (i + 1);
		span.attributes = event.attributes;
		span.events = arena_copy(arena, &event, sizeof(event));
		span.links = arena_copy(arena, &link, sizeof(link));
		span.n_events = span.n_links = 1;
		(void) span_batch_add(batch, &span);
	}
}

/* What only deleted rows have is not in what is written. */
static void
test_erasure(void)
{
	SpanBatch    *batch = span_batch_create(&span_malloc_allocator, 0);
	Source        source;
	SegmentMerge *merge;
	SegmentImage  image;
	uint32_t      n_targets;
	Rule          rule = {false};
	/* nothing is compressed, so that texts can be found */
	SegmentWriteOptions options = {.level = 2, .zstd_level = -1};
	SpanError           error = {SPAN_ERROR_NONE};

	marked_spans(batch, "to be kept", 5, 1);
	marked_spans(batch, "to be erased", 5, 2);
	memset(&source, 0, sizeof(source));
	ok(segment_write(batch, 0, 10, &options, &span_malloc_allocator, &source.image, &error), "write");
	ok(image_has(&source.image, "to be kept") && image_has(&source.image, "to be erased"), "both are in the source");
	if (open_source(&source))
	{
		source.deleted = calloc(2, 1);
		for (uint32_t i = 5; i < 10; i++)
			source.deleted[source.image.row_of[i] / 8] |= (uint8_t) (1 << source.image.row_of[i] % 8);
		merge = merge_all(&source, 1, &rule, &n_targets);
		ok(n_targets == 1 && segment_merge_rows(merge) == 5, "%u targets of %u rows", n_targets, segment_merge_rows(merge));
		ok(segment_merge_write(merge, 0, &options, &image, &error), "write: %s", error.message);
		ok(image_has(&image, "to be kept"), "what is left is there");
		ok(!image_has(&image, "to be erased"), "what is deleted is not");
		segment_image_free(&image, &span_malloc_allocator);
		segment_merge_destroy(merge);
	}
	drop_source(&source);
	span_batch_destroy(batch);
}

/* Nested values are many times as large while they are looked at, but not all at once. */
static void
test_nested(void)
{
	SpanBatch         *batch = span_batch_create(&span_malloc_allocator, 0);
	uint32_t           tenant = span_batch_string(batch, span_text("tenant", 6));
	SpanResource       resource = {.tenant = tenant};
	SpanScope          scope = {.resource = span_batch_resource(batch, &resource)};
	AnyValue          *elements = calloc(20000, sizeof(AnyValue));
	KeyValue           item = {.key = span_text("list", 4), .value = {.type = ANY_ARRAY, .u.elements = elements}};
	SegmentMerge      *merge = segment_merge_create(&span_malloc_allocator);
	SegmentMergeFilter filter = {.deleted = NULL};
	SpanError          error = {SPAN_ERROR_NONE};
	Source             source;

	item.key_id = span_batch_string(batch, item.key);
	for (uint32_t i = 0; i < 60; i++)
	{
		Span span = {.scope = span_batch_scope(batch, &scope)};

		item.value.len = 20000 - i;
		span.attributes = (AttributeList){arena_copy(span_batch_arena(batch), &item, sizeof(item)), 1};
		span.trace_id.bytes[0] = 1;
		span.span_id.bytes[0] = (uint8_t) (i + 1);
		(void) span_batch_add(batch, &span);
	}
	if (make_source(&source, batch, 0, 60, 1))
	{
		ok(segment_merge_add(merge, source.reader, 0, &filter, &error), "add: %s", error.message);
		ok(segment_merge_memory(merge) <= segment_summary(source.reader)->raw_size, "%u bytes of memory, at most %u",
		   (unsigned) segment_merge_memory(merge), (unsigned) segment_summary(source.reader)->raw_size);
		drop_source(&source);
	}
	segment_merge_destroy(merge);
	span_batch_destroy(batch);
	free(elements);
}

int
main(void)
{
	Rule everything_stays = {false};
	Rule windows = {true, INT64_MAX, 3};
	Rule stored_early = {true, 1000, 0};

	test_erasure();
	test_nested();
	for (uint64_t seed = 1; seed <= 12; seed++)
		test_rounds(spangen_adversarial, "odd", 40 + 30 * (uint32_t) seed, seed, seed % 3 == 0 ? windows : everything_stays);
	test_rounds(spangen_adversarial, "odd", 200, 20, stored_early);
	test_rounds(spangen_adversarial, "many odd", 9000, 21, everything_stays);
	test_rounds(spangen_realistic, "realistic", 1000, 31, everything_stays);
	test_rounds(spangen_realistic, "realistic", 12000, 32, everything_stays);
	test_rounds(generate_rare, "rare", 20000, 41, everything_stays);
	test_rounds(generate_rare, "rare", 9000, 42, everything_stays);
	test_rounds(spangen_realistic, "large", 60000, 33, everything_stays);
	return tap_done();
}
