/*-------------------------------------------------------------------------
 *
 * bench_segment.c
 *	  Size and speed of the segment format, without a server.
 *
 * bench_segment FILE [SPANS [SEGMENT_SPANS]]: FILE holds OTLP requests, each
 * behind its length (four bytes, little-endian).  TEMPO_BENCH_REPEAT=N
 * writes N times and does nothing else, for profiles;
 * TEMPO_BENCH_DECODE=PARTS (hexadecimal) decodes only these parts;
 * TEMPO_BENCH_MERGE=N cuts the spans into segments of N, merges them, and does
 * the same by decoding and writing.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingest/decode.h"
#include "segment/cpu.h"
#include "segment/merge.h"
#include "segment/reader.h"

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* counts what is allocated */
static size_t allocated;
static size_t peak;

static void *
counting_alloc(void *arg, size_t size)
{
	size_t *p = malloc(size + 16);

	(void) arg;
	if (p == NULL)
		return NULL;
	*p = size;
	allocated += size;
	if (allocated > peak)
		peak = allocated;
	return p + 2;
}

static void
counting_release(void *arg, void *chunk)
{
	size_t *p = (size_t *) chunk - 2;

	(void) arg;
	allocated -= *p;
	free(p);
}

static const SpanAllocator counting = {counting_alloc, counting_release, NULL};

static void
fail(const char *what, const SpanError *error)
{
	fprintf(stderr, "%s: %s\n", what, error->message);
	exit(1);
}

static SpanBatch *
load(const char *path, uint32_t limit)
{
	FILE         *f = fopen(path, "rb");
	SpanBatch    *batch = span_batch_create(&span_malloc_allocator, 0);
	DecodeOptions options = {.tenant = span_text("single-tenant", 13), .max_attribute_bytes = 2048};
	DecodeResult  result;
	SpanError     error = {0};
	uint8_t       head[4];
	double        start = now();

	if (f == NULL)
	{
		perror(path);
		exit(1);
	}
	while (batch->n_spans < limit && fread(head, 4, 1, f) == 1)
	{
		uint32_t len = head[0] | head[1] << 8 | head[2] << 16 | (uint32_t) head[3] << 24;
		char    *body = malloc(len); /* the batch points into it */

		if (fread(body, 1, len, f) != len ||
		    !decode_otlp_proto(body, len, &options, batch, &result, &error))
			fail("decode", &error);
	}
	fclose(f);
	printf("decoded %u spans, %.0f ns/span (reading the file included)\n", batch->n_spans, (now() - start) * 1e9 / batch->n_spans);
	return batch;
}

static void
decode(const SegmentSource *source, const char *title, uint32_t parts, const char *key, uint32_t step)
{
	SpanError         error = {0};
	SpanBatch        *batch = span_batch_create(&span_malloc_allocator, 0);
	SpanText          keys[1];
	SegmentProjection p = {parts, keys, key != NULL};
	double            start = now();
	SegmentReader    *r = segment_open(source, &span_malloc_allocator, &error);
	uint32_t          rows;

	if (key != NULL)
		keys[0] = span_text(key, (uint32_t) strlen(key));
	if (r == NULL)
		fail("open", &error);
	rows = segment_summary(r)->rows;
	for (uint32_t row = 0; row < rows; row += step)
	{
		span_batch_reset(batch);
		if (!segment_decode(r, &p, row, rows - row < step ? rows - row : step, batch, &error))
			fail("decode", &error);
	}
	segment_close(r);
	printf("  %-44s %7.1f ns/span\n", title, (now() - start) * 1e9 / rows);
	span_batch_destroy(batch);
}

static uint8_t
is_server(void *arg, SpanBatch *batch, const Span *prototype)
{
	(void) arg;
	(void) batch;
	return prototype->kind == 2 ? TRUTH_TRUE : TRUTH_FALSE;
}

static uint8_t
is_text(void *arg, const AnyValue *value)
{
	const char *text = arg;

	return value->type == ANY_STRING && span_text_equal(span_text(value->u.data, value->len), span_text(text, (uint32_t) strlen(text))) ?
	           TRUTH_TRUE :
	           TRUTH_FALSE;
}

static uint8_t
is_text_in_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	(void) batch;
	for (uint32_t i = 0; i < prototype->attributes.count; i++)
		if (span_text_equal(prototype->attributes.items[i].key, span_text("rpc.method", 10)))
			return is_text(arg, &prototype->attributes.items[i].value);
	return TRUTH_UNKNOWN;
}

/* Conditions decided in vectors; "keep": from the second time on columns are there */
static void
select_rows(const SegmentSource *source, const char *title, const SegmentCondition *conditions, uint32_t n, bool keep)
{
	static uint8_t        rows[16384 + VECTOR_GROUP];
	static const SpanText keys[] = {{"rpc.method", 10}};
	SegmentProjection     p = {SEGMENT_KIND, keys, 1};
	SegmentTest           test = {1, conditions, n};
	SpanError             error = {0};
	SpanBatch            *batch = span_batch_create(&span_malloc_allocator, 0);
	SegmentReader        *r = segment_open(source, &span_malloc_allocator, &error);
	uint32_t              all = segment_summary(r)->rows;
	uint32_t              passed = 0;
	double                start = 0;
	int                   times = 10;

	segment_keep(r, keep ? SIZE_MAX / 2 : 0);
	for (int i = -1; i < times; i++)
	{
		if (i == 0)
			start = now();
		for (uint32_t first = 0; first < all; first += 16384)
		{
			uint32_t count = all - first < 16384 ? all - first : 16384;

			memset(rows, ROW_IN, count);
			if (!segment_select(r, &p, first, count, &test, batch, rows, &error))
				fail("select", &error);
			for (uint32_t k = 0; k < count; k++)
				passed += rows[k] == ROW_IN;
		}
	}
	printf("  %-44s %7.2f ns/span (%u of %u pass)\n", title, (now() - start) * 1e9 / all / times, passed / (times + 1), all);
	segment_close(r);
	span_batch_destroy(batch);
}

static void
selections(const SegmentSource *source)
{
	static const SegmentCondition by_shape[] = {
		{.type = SEGMENT_BY_SHAPE, .of_shape = is_server},
		{.type = SEGMENT_BY_DURATION, .min = 5000001, .max = INT64_MAX}};
	static const SegmentCondition by_value[] = {
		{.type = SEGMENT_BY_VALUE, .of_shape = is_text_in_shape, .of_value = is_text, .key = {"rpc.method", 10}, .arg = "GetCart"}};

	for (int portable = 0; portable < 2; portable++)
	{
		cpu_allow_avx2(!portable);
		select_rows(source, portable ? "select kind, duration, kept, portable" : "select kind, duration, kept", by_shape, 2, true);
	}
	cpu_allow_avx2(true);
	select_rows(source, "select kind, duration", by_shape, 2, false);
	select_rows(source, "select rpc.method, kept", by_value, 1, true);
	select_rows(source, "select rpc.method", by_value, 1, false);
}

static void
by_id(const SegmentSource *source, const SpanBatch *spans)
{
	SpanError         error = {0};
	SegmentProjection p = {SEGMENT_ALL, NULL, 0};
	SpanBatch        *batch = span_batch_create(&span_malloc_allocator, 0);
	double            start = now();
	int               n = getenv("TEMPO_BENCH_ID") ? 3000 : 200;
	uint32_t          found = 0;

	for (int i = 0; i < n; i++)
	{
		SegmentReader *r = segment_open(source, &span_malloc_allocator, &error);
		uint32_t       first = 0;
		uint32_t       count = 0;

		span_batch_reset(batch);
		if (r == NULL || !segment_find_trace(r, &spans->spans[(uint64_t) i * 4999 % spans->n_spans].trace_id, &first, &count, &error))
			fail("find", &error);
		if (count > 100)
			count = 100;
		if (!segment_decode(r, &p, first, count, batch, &error))
			fail("by id", &error);
		found += count;
		segment_close(r);
	}
	printf("  open, find and decode at most 100 spans of a trace: %.1f us (%.1f spans each)\n", (now() - start) * 1e6 / n, (double) found / n);
	start = now();
	for (int i = 0; i < n; i++)
		segment_close(segment_open(source, &span_malloc_allocator, &error));
	printf("  open: %.1f us\n", (now() - start) * 1e6 / n);
	span_batch_destroy(batch);
}

static uint32_t
cut(const SpanBatch *batch, uint32_t spans, uint32_t count, SegmentImage *images)
{
	SegmentWriteOptions options = {.level = count > 4096};
	SpanError           error = {0};
	uint32_t            n = 0;

	for (uint32_t first = 0; first < spans; first += count)
		if (!segment_write(batch, first, spans - first < count ? spans - first : count, &options, &span_malloc_allocator, &images[n++], &error))
			fail("write", &error);
	return n;
}

/* "decoded": by decoding all and writing */
static void
merge(const SegmentImage *images, uint32_t n, uint32_t spans, bool decoded)
{
	static const SegmentProjection  everything = {SEGMENT_ALL};
	static const SegmentMergeFilter all = {NULL};
	SegmentWriteOptions             options = {.level = 2};
	SegmentMerge                   *m = segment_merge_create(&counting);
	SpanBatch                      *batch = span_batch_create(&counting, 0);
	SpanError                       error = {0};
	SegmentImage                    image;
	uint32_t                        targets;
	uint64_t                        raw = 0;
	double                          start;
	double                          read;
	size_t                          held;

	peak = allocated;
	start = now();
	for (uint32_t i = 0; i < n; i++)
	{
		SegmentMemory  memory = {images[i].data, images[i].size};
		SegmentSource  source = segment_source_memory(&memory);
		SegmentReader *r = segment_open(&source, &counting, &error);

		raw += segment_summary(r)->raw_size;
		if (decoded && !segment_decode(r, &everything, 0, segment_summary(r)->rows, batch, &error))
			fail("decode", &error);
		for (uint32_t block = 0; !decoded && block < segment_merge_blocks(r); block++)
			if (!segment_merge_add(m, r, block, &all, &error))
				fail("add", &error);
		segment_close(r);
	}
	read = now() - start;
	held = decoded ? span_batch_memory(batch) : segment_merge_memory(m);
	if (decoded ? !segment_write(batch, 0, batch->n_spans, &options, &counting, &image, &error) :
	              !segment_merge_split(m, NULL, NULL, &targets, &error) || !segment_merge_write(m, 0, &options, &image, &error))
		fail("write", &error);
	printf("  merge of %u%s: read %.0f, write %.0f ns/span, %.0f B/span held, peak %.0f B/span, sources' raw size %.0f, result's %.0f, %.2f B/span stored\n",
	       n, decoded ? " by decoding" : "", read * 1e9 / spans, (now() - start - read) * 1e9 / spans, (double) held / spans,
	       (double) peak / spans, (double) raw / spans, (double) image.summary.raw_size / spans, (double) image.size / spans);
	segment_image_free(&image, &counting);
	segment_merge_destroy(m);
	span_batch_destroy(batch);
}

static void
bench(const SpanBatch *batch, uint32_t count, uint8_t level)
{
	SegmentWriteOptions options = {.level = level};
	SegmentImage        image;
	SegmentMemory       memory;
	SegmentSource       source;
	SpanError           error = {0};
	double              start;
	double              seconds = 0;
	uint64_t            bytes = 0;
	uint32_t            spans = 0;
	uint32_t            traces = 0;
	size_t              base = allocated;

	peak = base;
	for (uint32_t first = 0; first + count <= batch->n_spans; first += count)
	{
		start = now();
		if (!segment_write(batch, first, count, &options, &counting, &image, &error))
			fail("write", &error);
		seconds += now() - start;
		bytes += image.size;
		spans += count;
		traces += image.summary.traces;
		if (first + 2 * count > batch->n_spans || spans >= 1000000)
			break;
		segment_image_free(&image, &counting);
	}
	printf("level %d, %u spans a segment (%.1f spans/trace): %.2f B/span, write %.0f ns/span, writer's memory %.0f B/span\n",
	       level, count, (double) spans / traces, (double) bytes / spans, seconds * 1e9 / spans, (double) (peak - base) / count);
	memory.data = image.data;
	memory.size = image.size;
	source = segment_source_memory(&memory);
	decode(&source, "everything", SEGMENT_ALL, NULL, count);
	if (count > 20000)
	{
		const char *only = getenv("TEMPO_BENCH_DECODE");

		for (int i = 0; only != NULL && i < 20; i++)
			decode(&source, only, strtoul(only, NULL, 16), NULL, 16384);
		if (only != NULL)
			exit(0);
		decode(&source, "everything, 1,024 rows a call", SEGMENT_ALL, NULL, 1024);
		decode(&source, "start, duration", SEGMENT_START | SEGMENT_END, NULL, 16384);
		decode(&source, "service, name, status, start, duration", SEGMENT_RESOURCE | SEGMENT_NAME | SEGMENT_STATUS | SEGMENT_END, NULL, 16384);
		decode(&source, "http.response.status_code, trace id", SEGMENT_TRACE_ID, "http.response.status_code", 16384);
		decode(&source, "session.id", 0, "session.id", 16384);
		selections(&source);
		by_id(&source, batch);
	}
	segment_image_free(&image, &counting);
}

int
main(int argc, char **argv)
{
	SpanBatch *batch;
	uint32_t   count;

	if (argc < 2)
	{
		fprintf(stderr, "usage: %s FILE [SPANS [SEGMENT_SPANS]]\n", argv[0]);
		return 2;
	}
	batch = load(argv[1], argc > 2 ? strtoul(argv[2], NULL, 10) : UINT32_MAX);
	count = argc > 3 ? strtoul(argv[3], NULL, 10) : batch->n_spans;
	if (getenv("TEMPO_BENCH_REPEAT") != NULL)
	{
		for (int i = atoi(getenv("TEMPO_BENCH_REPEAT")); i > 0; i--)
		{
			SegmentWriteOptions options = {.level = count > 16384};
			SegmentImage        image;
			SpanError           error = {0};
			double              start = now();

			if (!segment_write(batch, 0, count, &options, &span_malloc_allocator, &image, &error))
				fail("write", &error);
			printf("write %.0f ns/span\n", (now() - start) * 1e9 / count);
			segment_image_free(&image, &span_malloc_allocator);
		}
		return 0;
	}
	if (getenv("TEMPO_BENCH_MERGE") != NULL)
	{
		uint32_t      size = (uint32_t) strtoul(getenv("TEMPO_BENCH_MERGE"), NULL, 10);
		SegmentImage *images = calloc(count / size + 1, sizeof(SegmentImage));
		uint32_t      n = cut(batch, count, size, images);

		for (int i = 0; i < 4; i++)
			merge(images, n, count, i % 2);
		return 0;
	}
	bench(batch, count, 1);
	bench(batch, 5, 0);
	bench(batch, 512, 0);
	bench(batch, 4096, 0);
	return 0;
}
