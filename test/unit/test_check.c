/*-------------------------------------------------------------------------
 *
 * test_check.c
 *	  What a segment's rows have is found by its value sets and filters; what
 *	  they do not have is told.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segment/check.h"
#include "segment/writer.h"
#include "spangen.h"
#include "tap.h"

#define ROWS 4000

typedef void (*Generator)(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

/* Of values that no row has, a filter lets a few pass; of those that rows have, none may be missing. */
static void
check_strange(SegmentReader *reader, SpanBatch *rows, const char *title)
{
	SegmentAsked *asked = calloc(1, sizeof(SegmentAsked));
	SpanError     error = {SPAN_ERROR_NONE};
	uint32_t      tried = 0;
	uint32_t      told = 0;

	for (uint32_t i = 0; i < rows->n_spans && tried < 200; i++)
	{
		Span     *span = &rows->spans[i];
		KeyValue  changed;
		Span      saved = *span;
		char      text[32];
		SpanBatch one = *rows;

		if (span->attributes.count == 0)
			continue;
		changed = span->attributes.items[0];
		changed.value.type = ANY_STRING;
		changed.value.len = (uint32_t) snprintf(text, sizeof(text), "strange %u", i);
		changed.value.u.data = text;
		span->attributes = (AttributeList){&changed, 1};
		one.spans = span;
		one.n_spans = 1;
		tried++;
		told += !segment_check_values(reader, &one, asked, &error);
		*span = saved;
	}
	ok(tried == 200 && told >= 180, "%s: of %u values that are in no row %u are told", title, tried, told);
	ok(strstr(error.message, "span attribute") != NULL, "%s: with the attribute: %s", title, error.message);
	free(asked);
}

/* A key, an event and a value of a resource that no row has. */
static void
check_unknown(SegmentReader *reader, SpanBatch *rows, const char *title)
{
	SegmentAsked *asked = calloc(1, sizeof(SegmentAsked));
	SpanError     error = {SPAN_ERROR_NONE};
	KeyValue      key = {.key = span_text("no such key", 11), .value = {.type = ANY_BOOL}};
	SpanEvent     event = {.name = span_text("no such event", 13)};
	Span          span = rows->spans[0];
	SpanResource  resource = rows->resources[0];
	SpanBatch     one = *rows;

	one.spans = &span;
	one.n_spans = 1;
	ok(segment_check_values(reader, &one, asked, &error), "%s: a row that is there", title);
	span.attributes = (AttributeList){&key, 1};
	ok(!segment_check_values(reader, &one, asked, &error) && strstr(error.message, "\"no such key\""), "%s: a key: %s", title, error.message);
	span = rows->spans[0];
	span.events = &event;
	span.n_events = 1;
	ok(!segment_check_values(reader, &one, asked, &error) && strstr(error.message, "\"no such event\""), "%s: an event: %s", title, error.message);
	one.n_spans = 0;
	one.resources = &resource;
	one.n_resources = 1;
	resource.attributes = (AttributeList){&key, 1};
	ok(!segment_check_values(reader, &one, asked, &error) && strstr(error.message, "resource attribute"), "%s: of a resource: %s", title, error.message);
	free(asked);
}

static void
check_segment(Generator generate, uint8_t level, uint64_t seed, bool plain, const char *title)
{
	SegmentWriteOptions options = {.level = level};
	SegmentProjection   everything = {SEGMENT_ALL};
	SpanBatch          *batch = span_batch_create(&span_malloc_allocator, 0);
	SpanBatch          *rows = span_batch_create(&span_malloc_allocator, 0);
	SegmentAsked       *asked = calloc(1, sizeof(SegmentAsked));
	SegmentImage        image;
	SegmentMemory       memory;
	SegmentSource       source;
	SegmentReader      *reader;
	SpanError           error = {SPAN_ERROR_NONE};

	generate(batch, ROWS, seed);
	if (!ok(segment_write(batch, 0, ROWS, &options, &span_malloc_allocator, &image, &error), "%s: write: %s", title, error.message))
		exit(1);
	memory.data = image.data;
	memory.size = image.size;
	source = segment_source_memory(&memory);
	reader = segment_open(&source, &span_malloc_allocator, &error);
	if (!ok(reader != NULL && segment_decode(reader, &everything, 0, ROWS, rows, &error), "%s: read: %s", title, error.message))
		exit(1);
	ok(segment_check_values(reader, rows, asked, &error), "%s: all that rows have is found: %s", title, error.message);
	/* under a key that arrays have, too, anything may be */
	if (plain)
		check_strange(reader, rows, title);
	check_unknown(reader, rows, title);
	segment_close(reader);
	segment_image_free(&image, &span_malloc_allocator);
	span_batch_destroy(rows);
	span_batch_destroy(batch);
	free(asked);
}

int
main(void)
{
	check_segment(spangen_realistic, 0, 1, true, "realistic, level 0");
	check_segment(spangen_realistic, 1, 2, true, "realistic, level 1");
	check_segment(spangen_adversarial, 0, 3, false, "adversarial, level 0");
	check_segment(spangen_adversarial, 1, 4, false, "adversarial, level 1");
	return tap_done();
}
