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
#include "segment/sections.h"
#include "spangen.h"
#include "tap.h"

typedef struct Stored
{
	SpanBatch     *batch; /* what was written */
	SpanBatch     *rows;  /* the same in row order */
	SegmentImage   image;
	SegmentMemory  memory;
	SegmentSource  source;
	SegmentReader *reader;
	SpanError      error;
} Stored;

typedef void (*Generator)(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

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

/* span of the batch that stands in a row */
static const Span **
in_row_order(const Stored *s)
{
	const Span **rows = calloc(s->batch->n_spans + 1, sizeof(Span *));

	for (uint32_t i = 0; i < s->batch->n_spans; i++)
		rows[s->image.row_of[i]] = &s->batch->spans[i];
	return rows;
}

static void
check_rows(Stored *s, uint32_t first, const SpanBatch *got, uint32_t n, const char *title)
{
	const Span **rows = in_row_order(s);
	const char  *what = "none";
	uint32_t     different = 0;

	for (uint32_t i = 0; i < n; i++)
		if (rows[first + i] == NULL || !spans_equal(s->batch, rows[first + i], got, &got->spans[i], &what))
			different++;
	ok(different == 0, "%s: %u spans differ, last in %s", title, different, what);
	free(rows);
}

static void
check_all_rows(Stored *s, const char *title)
{
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	SpanBatch        *got = span_batch_create(&span_malloc_allocator, 0);

	if (ok(segment_decode(s->reader, &all, 0, s->batch->n_spans, got, &s->error), "%s: decode: %s", title, s->error.message) &&
	    ok(got->n_spans == s->batch->n_spans, "%s: number of rows", title))
		check_rows(s, 0, got, got->n_spans, title);
	span_batch_destroy(got);
}

static void
test_round_trip(Generator generate, const char *name)
{
	static const uint32_t sizes[] = {0, 1, 2, 3, 5, 100, 1000, 9000, 40000};

	for (int level = 0; level < 2; level++)
		for (int i = 0; i < 9; i++)
		{
			Stored s;
			char   title[80];

			snprintf(title, sizeof(title), "%s, %u spans, level %d", name, sizes[i], level);
			if (store(&s, generate, sizes[i], 17 + i, level))
				check_all_rows(&s, title);
			drop(&s);
		}
	for (uint32_t seed = 100; seed < 160; seed++)
	{
		Stored s;

		if (store(&s, generate, seed - 99, seed, seed % 2))
			check_all_rows(&s, name);
		drop(&s);
	}
}

/* Small random ranges, with projections changing between them. */
static void
test_ranges(Generator generate, uint32_t n)
{
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	SegmentProjection few = {SEGMENT_NAME, NULL, 0};
	Random            random = {7};
	Stored            s;
	SpanBatch        *got = span_batch_create(&span_malloc_allocator, 0);

	if (store(&s, generate, n, 5, 1))
	{
		for (int i = 0; i < 60; i++)
		{
			uint32_t first = random_below(&random, n);
			uint32_t count = random_below(&random, i % 10 == 0 ? n - first + 1 : 100);

			if (count > n - first)
				count = n - first;
			/* from some time on what few rows need is kept, and given up now and then */
			if (i == 20)
			{
				segment_keep(s.reader, 1 << 20);
				segment_keep_frames(s.reader, 1 << 20);
			}
			if (i > 20 && i % 8 == 0)
			{
				size_t before = segment_kept_frames(s.reader);
				size_t freed = segment_forget_frames(s.reader, i % 16 == 0 ? SIZE_MAX : 10000);

				ok(segment_kept_frames(s.reader) == before - freed, "bytes of frames");
			}
			if (i % 3 == 0)
				span_batch_reset(got);
			else
				span_batch_truncate(got, 0);
			if (i % 7 == 0)
			{
				ok(segment_decode(s.reader, &few, first, count, got, &s.error), "range, few columns: %s", s.error.message);
				span_batch_truncate(got, 0);
			}
			if (ok(segment_decode(s.reader, &all, first, count, got, &s.error), "range: %s", s.error.message))
				check_rows(&s, first, got, count, "range");
		}
		/* in vectors, one batch */
		span_batch_reset(got);
		for (uint32_t row = 0; row < n; row += 1024)
			ok(segment_decode(s.reader, &all, row, n - row < 1024 ? n - row : 1024, got, &s.error), "vector: %s", s.error.message);
		check_rows(&s, 0, got, n, "vectors");
		ok(!segment_decode(s.reader, &all, n, 1, got, &s.error) && s.error.code == SPAN_ERROR_INVALID, "rows past the end");
		ok(!segment_decode(s.reader, &all, n + 1, 0, got, &s.error), "first row past the end");
	}
	drop(&s);
	span_batch_destroy(got);
}

/* What of a span a projection lets through. */
static void
mask(SpanBatch *batch, const Span *from, const SegmentProjection *p, Span *to)
{
	SpanScope    scope = *span_scope(batch, from);
	SpanResource resource = *span_resource(batch, from);
	SpanResource no_resource = {0};
	SpanScope    no_scope = {0};
	KeyValue    *items = malloc((from->attributes.count + 1) * sizeof(KeyValue));
	uint32_t     parts = p->parts;
	uint32_t     n = 0;

	memset(to, 0, sizeof(*to));
	if (parts & SEGMENT_TRACE_ID)
		to->trace_id = from->trace_id;
	if (parts & SEGMENT_SPAN_ID)
		to->span_id = from->span_id;
	if (parts & SEGMENT_PARENT)
		to->parent_span_id = from->parent_span_id;
	if (parts & (SEGMENT_START | SEGMENT_END))
		to->start_time_unix_nano = from->start_time_unix_nano;
	if (parts & SEGMENT_END)
		to->end_time_unix_nano = from->end_time_unix_nano;
	to->name = parts & SEGMENT_NAME ? from->name : 0;
	to->kind = parts & SEGMENT_KIND ? from->kind : 0;
	to->status_code = parts & SEGMENT_STATUS ? from->status_code : 0;
	if (parts & SEGMENT_STATUS_MESSAGE)
		to->status_message = from->status_message;
	if (parts & SEGMENT_TRACE_STATE)
		to->trace_state = from->trace_state;
	to->flags = parts & SEGMENT_FLAGS ? from->flags : 0;
	if (parts & SEGMENT_DROPPED)
	{
		to->dropped_attributes_count = from->dropped_attributes_count;
		to->dropped_events_count = from->dropped_events_count;
		to->dropped_links_count = from->dropped_links_count;
	}
	if (parts & SEGMENT_EVENTS)
	{
		to->events = from->events;
		to->n_events = from->n_events;
	}
	if (parts & SEGMENT_LINKS)
	{
		to->links = from->links;
		to->n_links = from->n_links;
	}
	for (uint32_t i = 0; i < from->attributes.count; i++)
	{
		bool wanted = (parts & SEGMENT_ATTRIBUTES) != 0;

		for (uint32_t k = 0; k < p->n_keys; k++)
			wanted = wanted || span_text_equal(p->keys[k], from->attributes.items[i].key);
		if (wanted)
			items[n++] = from->attributes.items[i];
	}
	to->attributes.items = arena_copy(span_batch_arena(batch), items, n * sizeof(KeyValue));
	to->attributes.count = n;
	free(items);
	if (!(parts & SEGMENT_RESOURCE))
	{
		no_resource.tenant = resource.tenant;
		resource = no_resource;
	}
	if (!(parts & SEGMENT_TENANT))
		resource.tenant = 0;
	if (!(parts & SEGMENT_SCOPE))
		scope = no_scope;
	scope.resource = span_batch_resource(batch, &resource);
	to->scope = span_batch_scope(batch, &scope);
}

static void
test_projections(Generator generate, uint32_t n, int level)
{
	static const char *const names[] = {"a", "", "k17", "session.id", "rare.3", "http.response.status_code", "not there"};
	Random                   random = {3};
	Stored                   s;

	if (store(&s, generate, n, 11, level))
	{
		const Span **rows;

		for (int i = 0; i < 40; i++)
		{
			SpanText          keys[3];
			SegmentProjection p = {i < 18 ? 1U << i : (uint32_t) random_next(&random) & SEGMENT_ALL, keys, random_below(&random, 4)};
			SpanBatch        *got = span_batch_create(&span_malloc_allocator, 0);
			uint32_t          first = random_below(&random, n);
			uint32_t          count = random_below(&random, n - first) + 1;
			const char       *what = "none";
			uint32_t          different = 0;

			for (uint32_t k = 0; k < p.n_keys; k++)
			{
				const char *name = names[random_below(&random, 7)];

				keys[k] = span_text(name, (uint32_t) strlen(name));
			}
			if (i >= 18 && i % 2 == 0)
				p.parts &= ~SEGMENT_ATTRIBUTES;
			rows = in_row_order(&s);
			if (ok(segment_decode(s.reader, &p, first, count, got, &s.error), "projection %x: %s", p.parts, s.error.message))
				for (uint32_t row = 0; row < count; row++)
				{
					Span expected;

					mask(s.batch, rows[first + row], &p, &expected);
					if (!spans_equal(s.batch, &expected, got, &got->spans[row], &what))
						different++;
				}
			ok(different == 0, "projection %x, %u keys: %u spans differ, last in %s", p.parts, p.n_keys, different, what);
			free(rows);
			span_batch_destroy(got);
		}
	}
	drop(&s);
}

/* Some rows, listed, are what all rows have there. */
static void
test_some_rows(Generator generate, uint32_t n, int level)
{
	static SpanText   wanted[] = {{"session.id", 10}, {"k17", 3}, {"rare.3", 6}};
	SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	Random            random = {5};
	Stored            s;
	uint32_t         *list = calloc(n, sizeof(uint32_t));
	SpanBatch        *got = span_batch_create(&span_malloc_allocator, 0);
	const Span      **rows;

	if (!store(&s, generate, n, 31, level))
		return;
	rows = in_row_order(&s);
	for (int i = 0; i < 60; i++)
	{
		SegmentProjection p = {(uint32_t) random_next(&random) & SEGMENT_ALL, wanted, random_below(&random, 4)};
		uint32_t          step = i % 2 == 0 ? 2 : 300;
		uint32_t          taken = 0;
		uint32_t          different = 0;
		const char       *what = "none";

		if (i % 4 != 0)
			p.parts &= ~(SEGMENT_EVENTS | SEGMENT_LINKS);
		for (uint32_t row = random_below(&random, step); row < n; row += 1 + random_below(&random, step))
			list[taken++] = row;
		span_batch_truncate(got, 0);
		if (ok(segment_decode_rows(s.reader, &p, list, taken, got, &s.error) && got->n_spans == taken,
		       "rows: %s", s.error.message))
			for (uint32_t k = 0; k < taken; k++)
			{
				Span expected;

				mask(s.batch, rows[list[k]], &p, &expected);
				different += !spans_equal(s.batch, &expected, got, &got->spans[k], &what);
			}
		ok(different == 0, "rows, projection %x: %u spans differ, last in %s", p.parts, different, what);
	}
	list[0] = list[1] = 0;
	ok(!segment_decode_rows(s.reader, &all, list, 2, got, &s.error) && s.error.code == SPAN_ERROR_INVALID, "a row twice");
	list[0] = n;
	ok(!segment_decode_rows(s.reader, &all, list, 1, got, &s.error) && s.error.code == SPAN_ERROR_INVALID, "a row past the end");
	free(rows);
	free(list);
	span_batch_destroy(got);
	drop(&s);
}

static void
test_traces(Generator generate, uint32_t n, int level)
{
	Stored       s;
	const Span **rows;
	bool         all_found = true;
	bool         grouped = true;
	uint32_t     first;
	uint32_t     count;
	TraceId      absent;

	if (!store(&s, generate, n, 23, level))
	{
		drop(&s);
		return;
	}
	rows = in_row_order(&s);
	for (uint32_t row = 0; row < n; row += count)
	{
		count = 1;
		while (row + count < n && memcmp(&rows[row]->trace_id, &rows[row + count]->trace_id, TRACE_ID_LEN) == 0)
		{
			if (rows[row + count]->start_time_unix_nano < rows[row + count - 1]->start_time_unix_nano)
				grouped = false;
			count++;
		}
		if (!segment_find_trace(s.reader, &rows[row]->trace_id, &first, &count, &s.error) || first != row)
		{
			all_found = false;
			break;
		}
		if (row > 0 && rows[row]->start_time_unix_nano < rows[row - 1]->start_time_unix_nano &&
		    memcmp(&rows[row]->trace_id, &rows[row - 1]->trace_id, TRACE_ID_LEN) == 0)
			grouped = false;
	}
	ok(all_found, "each trace is found where it is, %u spans", n);
	ok(grouped, "spans of a trace are sorted by start time");
	for (int i = 0; i < 300; i++)
	{
		Random random = {(uint64_t) i};

		for (int b = 0; b < TRACE_ID_LEN; b++)
			absent.bytes[b] = (uint8_t) (random_next(&random) | 1);
		if (!segment_find_trace(s.reader, &absent, &first, &count, &s.error) || count != 0)
			all_found = false;
	}
	memset(&absent, 0xff, sizeof(absent));
	ok(all_found && segment_find_trace(s.reader, &absent, &first, &count, &s.error) && count == 0, "absent traces are not found");
	free(rows);
	drop(&s);
}

static void
test_summary(Generator generate, uint32_t n, int level)
{
	Stored                s;
	const SegmentSummary *sum;
	int64_t               min_start = INT64_MAX;
	int64_t               max_start = 0;
	int64_t               max_end = 0;
	int64_t               max_duration = 0;
	const SpanText       *tenants;
	const SpanText       *names;
	uint32_t              n_tenants;
	uint32_t              n_names;
	uint32_t              missing = 0;
	const Span          **rows;

	if (!store(&s, generate, n, 29, level))
	{
		drop(&s);
		return;
	}
	sum = segment_summary(s.reader);
	ok(memcmp(sum, &s.image.summary, sizeof(*sum)) == 0, "the footer repeats the summary");
	ok(sum->rows == n && sum->level == level && sum->size == s.image.size, "rows, level, size");
	ok(segment_tenants(s.reader, &tenants, &n_tenants, &s.error) && n_tenants == sum->n_tenants, "tenants");
	ok(segment_names(s.reader, &names, &n_names, &s.error), "names");
	for (uint32_t i = 0; i < n; i++)
	{
		const Span *span = &s.batch->spans[i];
		int64_t     start = span->start_time_unix_nano;
		int64_t     end = span->end_time_unix_nano > start ? span->end_time_unix_nano : start;
		SpanText    tenant = s.batch->strings[span_resource(s.batch, span)->tenant];
		bool        found_name = false;
		bool        found_tenant = false;

		min_start = start < min_start ? start : min_start;
		max_start = start > max_start ? start : max_start;
		max_end = end > max_end ? end : max_end;
		max_duration = end - start > max_duration ? end - start : max_duration;
		for (uint32_t k = 0; k < n_names; k++)
			found_name = found_name || span_text_equal(names[k], s.batch->strings[span->name]);
		for (uint32_t k = 0; k < n_tenants; k++)
			found_tenant = found_tenant || span_text_equal(tenants[k], tenant);
		missing += !found_name || !found_tenant || !(sum->tenant_filter & segment_tenant_bit(tenant));
	}
	ok(missing == 0, "every name and tenant is listed");
	ok(sum->min_start_nano == min_start && sum->max_start_nano == max_start && sum->max_end_nano == max_end &&
	       sum->max_duration_nano == max_duration,
	   "time range");
	rows = in_row_order(&s);
	for (uint32_t row = 0; row < n; row += segment_block_rows(s.reader))
	{
		int64_t low;
		int64_t high;
		int64_t longest;

		ok(segment_block_times(s.reader, row, &low, &high, &longest, &s.error), "block times");
		for (uint32_t i = row; i < n && i < row + segment_block_rows(s.reader); i++)
			missing += rows[i]->start_time_unix_nano < low || rows[i]->start_time_unix_nano > high ||
			           rows[i]->end_time_unix_nano - rows[i]->start_time_unix_nano > longest;
	}
	ok(missing == 0, "zone maps hold");
	free(rows);
	drop(&s);
}

/* Is the value among the key's? */
static void
check_value(Stored *s, AttributeScope scope, const KeyValue *item, uint32_t *unlisted, uint32_t *denied)
{
	const SegmentKey *keys;
	uint32_t          n;
	bool              found = false;

	if (!segment_keys(s->reader, &keys, &n, &s->error))
	{
		(*unlisted)++;
		return;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		const AnyValue *values;
		uint32_t        n_values;

		if (keys[i].scope != scope || !span_text_equal(keys[i].key, item->key))
			continue;
		found = (keys[i].types & (1U << item->value.type)) != 0;
		if (keys[i].values_complete)
		{
			bool listed = false;

			if (!segment_key_values(s->reader, i, &values, &n_values, &s->error) || n_values != keys[i].n_values)
				found = false;
			for (uint32_t v = 0; found && v < n_values && !listed; v++)
				listed = any_value_equal(&values[v], &item->value);
			found = found && listed;
		}
	}
	*unlisted += !found;
	*denied += !segment_may_contain(s->reader, scope, item->key, &item->value) ||
	           !segment_may_contain(s->reader, scope, item->key, NULL);
}

static void
check_list(Stored *s, AttributeScope scope, AttributeList list, uint32_t *unlisted, uint32_t *denied)
{
	for (uint32_t i = 0; i < list.count; i++)
		check_value(s, scope, &list.items[i], unlisted, denied);
}

static void
test_keys(Generator generate, uint32_t n, int level)
{
	Stored            s;
	uint32_t          unlisted = 0;
	uint32_t          denied = 0;
	uint32_t          duplicates = 0;
	const SegmentKey *keys;
	uint32_t          n_keys;

	if (!store(&s, generate, n, 31, level))
	{
		drop(&s);
		return;
	}
	for (uint32_t i = 0; i < n; i += 1 + n / 500)
	{
		const Span *span = &s.batch->spans[i];

		check_list(&s, ATTRIBUTE_SPAN, span->attributes, &unlisted, &denied);
		check_list(&s, ATTRIBUTE_RESOURCE, span_resource(s.batch, span)->attributes, &unlisted, &denied);
		check_list(&s, ATTRIBUTE_SCOPE, span_scope(s.batch, span)->attributes, &unlisted, &denied);
		for (uint32_t k = 0; k < span->n_events; k++)
			check_list(&s, ATTRIBUTE_EVENT, span->events[k].attributes, &unlisted, &denied);
		for (uint32_t k = 0; k < span->n_links; k++)
			check_list(&s, ATTRIBUTE_LINK, span->links[k].attributes, &unlisted, &denied);
	}
	ok(unlisted == 0, "every key, type and value is listed, %u spans, level %d: %u are not", n, level, unlisted);
	ok(denied == 0, "may_contain denies nothing that is there: %u", denied);
	ok(segment_keys(s.reader, &keys, &n_keys, &s.error), "keys");
	for (uint32_t i = 1; i < n_keys; i++)
		duplicates += keys[i].scope == keys[i - 1].scope && span_text_equal(keys[i].key, keys[i - 1].key);
	ok(duplicates == 0, "each key is listed once");
	ok(!segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("never seen", 10), NULL), "an absent key is denied");
	ok(!segment_may_contain(s.reader, ATTRIBUTE_RESOURCE, span_text("never seen", 10), NULL), "an absent resource key is denied");
	drop(&s);
}

/* Searches that must be answered by filters, and those they may not deny. */
static void
test_may_contain(void)
{
	Stored   s;
	uint32_t passed = 0;
	AnyValue v = {.type = ANY_DOUBLE};
	char     id[37];

	if (store(&s, spangen_realistic, 30000, 41, 1))
	{
		for (unsigned i = 0; i < 1000; i++)
		{
			AnyValue value = {.type = ANY_STRING, .len = 36};

			snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000000", i);
			value.u.data = id;
			passed += segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("session.id", 10), &value);
		}
		ok(passed < 50, "the filter denies most absent values: %u of 1000 pass", passed);
		v.u.number = 200;
		ok(segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("http.response.status_code", 25), &v), "200.0 finds 200");
		v.u.number = 200.5;
		ok(!segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("http.response.status_code", 25), &v), "200.5 is denied");
		v.type = ANY_INT;
		v.u.integer = 404;
		ok(!segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("http.response.status_code", 25), &v), "404 is denied");
		v.type = ANY_STRING;
		v.u.data = "200";
		v.len = 3;
		ok(!segment_may_contain(s.reader, ATTRIBUTE_SPAN, span_text("http.response.status_code", 25), &v), "\"200\" is denied");
	}
	drop(&s);
}

/* What the compactor does: several segments into one batch and back. */
static void
test_merge(Generator generate)
{
	SegmentProjection   all = {SEGMENT_ALL, NULL, 0};
	SegmentWriteOptions options = {.level = 1};
	SpanBatch          *merged = span_batch_create(&span_malloc_allocator, 0);
	SpanBatch          *original = span_batch_create(&span_malloc_allocator, 0);
	SpanBatch          *got = span_batch_create(&span_malloc_allocator, 0);
	SegmentImage        image = {0};
	SegmentMemory       memory;
	SegmentSource       source;
	SegmentReader      *reader;
	SpanError           error = {0};
	uint32_t            different = 0;
	const char         *what = "none";

	for (uint32_t i = 0; i < 5; i++)
	{
		Stored s;

		if (store(&s, generate, 700, 50 + i, 0))
		{
			ok(segment_decode(s.reader, &all, 0, 700, merged, &error), "decode to merge: %s", error.message);
			ok(segment_decode(s.reader, &all, 0, 700, original, &error), "decode to compare: %s", error.message);
		}
		drop(&s);
	}
	ok(segment_write(merged, 0, merged->n_spans, &options, &span_malloc_allocator, &image, &error), "write merged: %s", error.message);
	memory.data = image.data;
	memory.size = image.size;
	source = segment_source_memory(&memory);
	reader = segment_open(&source, &span_malloc_allocator, &error);
	if (ok(reader != NULL && segment_decode(reader, &all, 0, 3500, got, &error), "read merged: %s", error.message))
		for (uint32_t i = 0; i < 3500; i++)
			different += !spans_equal(original, &original->spans[i], got, &got->spans[image.row_of[i]], &what);
	ok(different == 0, "merged segments: %u differ, last in %s", different, what);
	segment_close(reader);
	segment_image_free(&image, &span_malloc_allocator);
	/* a part of a batch */
	if (ok(segment_write(merged, 1000, 500, &options, &span_malloc_allocator, &image, &error), "write a part"))
	{
		memory.data = image.data;
		memory.size = image.size;
		source = segment_source_memory(&memory);
		reader = segment_open(&source, &span_malloc_allocator, &error);
		span_batch_reset(got);
		if (ok(reader != NULL && segment_decode(reader, &all, 0, 500, got, &error), "read a part"))
			for (uint32_t i = 0; i < 500; i++)
				different += !spans_equal(original, &original->spans[1000 + i], got, &got->spans[image.row_of[i]], &what);
		ok(different == 0, "part of a batch: %u differ, last in %s", different, what);
		segment_close(reader);
		segment_image_free(&image, &span_malloc_allocator);
	}
	ok(!segment_write(merged, 3000, 501, &options, &span_malloc_allocator, &image, &error) && error.code == SPAN_ERROR_INVALID,
	   "spans past the end of the batch");
	span_batch_destroy(merged);
	span_batch_destroy(original);
	span_batch_destroy(got);
}

static void
test_hashes(void)
{
	RequestHash         hashes[3];
	SegmentWriteOptions options = {.request_hashes = hashes, .n_request_hashes = 3};
	SpanBatch          *batch = span_batch_create(&span_malloc_allocator, 0);
	SegmentImage        image = {0};
	SegmentMemory       memory;
	SegmentSource       source;
	SegmentReader      *reader;
	SpanError           error = {0};
	uint32_t            n = 0;

	for (int i = 0; i < 48; i++)
		hashes[i / 16].bytes[i % 16] = (uint8_t) i;
	spangen_realistic(batch, 5, 1);
	if (ok(segment_write(batch, 0, 5, &options, &span_malloc_allocator, &image, &error), "write with hashes"))
	{
		memory.data = image.data;
		memory.size = image.size;
		source = segment_source_memory(&memory);
		reader = segment_open(&source, &span_malloc_allocator, &error);
		ok(reader != NULL && memcmp(segment_request_hashes(reader, &n), hashes, 48) == 0 && n == 3, "request hashes come back");
		segment_close(reader);
	}
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(batch);
}

/* Numbers whose bits below the highest one are none: the payload is empty. */
static void
tick_spans(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	Random random = {seed};

	spangen_realistic(batch, n_spans, seed);
	for (uint32_t i = 0; i < n_spans; i++)
		batch->spans[i].end_time_unix_nano = batch->spans[i].start_time_unix_nano + 1000 * (int64_t) random_below(&random, 2);
}

/* A segment of a few spans must be small. */
static void
test_compact(void)
{
	Stored s;

	if (store(&s, spangen_realistic, 5, 3, 0))
		ok(s.image.size < 1000, "5 spans take %zu bytes", s.image.size);
	drop(&s);
}

/* What no reader would unpack is not written: it is refused before it is looked at. */
static void
test_too_large(void)
{
	Sections sections;
	Buffer   out;

	buffer_init(&out, &span_malloc_allocator);
	sections_init(&sections, &out, false, 1);
	sections_put(&sections, 1, "", (size_t) SEGMENT_MAX_BYTES + 1, true);
	ok(sections_failed(&sections) && sections.too_large, "a section is too large");
	sections_free(&sections);
	buffer_free(&out);
}

int
main(void)
{
	test_too_large();
	test_round_trip(spangen_realistic, "realistic");
	test_round_trip(spangen_adversarial, "adversarial");
	test_round_trip(tick_spans, "microseconds");
	test_ranges(spangen_realistic, 40000);
	test_ranges(spangen_adversarial, 20000);
	for (int level = 0; level < 2; level++)
	{
		test_projections(spangen_realistic, 1000, level);
		test_projections(spangen_adversarial, 5000, level);
		test_some_rows(spangen_realistic, 20000, level);
		test_some_rows(spangen_adversarial, 5000, level);
		test_traces(spangen_realistic, 500, level);
		test_traces(spangen_realistic, 30000, level);
		test_traces(spangen_adversarial, 5000, level);
		test_summary(spangen_realistic, 20000, level);
		test_summary(spangen_adversarial, 1000, level);
		test_keys(spangen_realistic, 300, level);
		test_keys(spangen_realistic, 10000, level);
		test_keys(spangen_adversarial, 200, level);
		test_keys(spangen_adversarial, 6000, level);
	}
	test_may_contain();
	test_merge(spangen_realistic);
	test_merge(spangen_adversarial);
	test_hashes();
	test_compact();
	return tap_done();
}
