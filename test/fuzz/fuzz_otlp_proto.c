/*-------------------------------------------------------------------------
 *
 * fuzz_otlp_proto.c
 *	  libFuzzer target: decodes bytes as an OTLP request, and stores and
 *	  reads back what came out of it.
 *
 * fuzz-sources: ../../src/ingest/otlp_proto.c ../../src/ingest/context.c
 *
 *-------------------------------------------------------------------------
 */
#include "decoders.h"
#include "segment/reader.h"
#include "spangen.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DecodeOptions       options = {.tenant = {"t", 1}, .max_attribute_bytes = 100, .reject_whole_batch = size % 2};
	DecodeResult        result;
	SegmentProjection   all = {SEGMENT_ALL, NULL, 0};
	SpanError           error;
	SpanBatch          *batch = span_batch_create(&span_malloc_allocator, (size_t) 64 << 20);
	SpanBatch          *got = span_batch_create(&span_malloc_allocator, 0);
	SegmentWriteOptions write = {.level = (uint8_t) (size / 2 % 2)};
	SegmentImage        image;
	const char         *what;

	if (decode_otlp_proto((const char *) data, size, &options, batch, &result, &error) && batch->n_spans > 0)
	{
		SegmentMemory  memory;
		SegmentSource  source;
		SegmentReader *r;

		if (!segment_write(batch, 0, batch->n_spans, &write, &span_malloc_allocator, &image, &error))
			abort();
		memory.data = image.data;
		memory.size = image.size;
		source = segment_source_memory(&memory);
		r = segment_open(&source, &span_malloc_allocator, &error);
		if (r == NULL || !segment_decode(r, &all, 0, batch->n_spans, got, &error))
			abort();
		for (uint32_t i = 0; i < batch->n_spans; i++)
			if (!spans_equal(batch, &batch->spans[i], got, &got->spans[image.row_of[i]], &what))
				abort();
		segment_close(r);
		segment_image_free(&image, &span_malloc_allocator);
	}
	span_batch_destroy(batch);
	span_batch_destroy(got);
	return 0;
}

/* A request with one span that has an attribute and an event; the fuzzer does the rest. */
static const uint8_t seed[] = {
	0x0a, 0x57,                                                                /* resource_spans */
	0x0a, 0x0b, 0x0a, 0x09, 0x0a, 0x01, 'a', 0x12, 0x04, 0x0a, 0x02, 'b', 'c', /* resource */
	0x12, 0x48,                                                                /* scope_spans */
	0x0a, 0x03, 0x0a, 0x01, 's',                                               /* scope */
	0x12, 0x41,                                                                /* span */
	0x0a, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	0x12, 0x08, 1, 2, 3, 4, 5, 6, 7, 8,
	0x2a, 0x01, 'n',
	0x30, 0x02,
	0x39, 1, 0, 0, 0, 0, 0, 0, 0,
	0x41, 2, 0, 0, 0, 0, 0, 0, 0,
	0x4a, 0x07, 0x0a, 0x01, 'k', 0x12, 0x02, 0x18, 0x05,
	0x5a, 0x03, 0x12, 0x01, 'e'};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = seeds_folder(*argc, *argv);

	if (folder == NULL)
		return 0;
	write_seed(folder, "one-span", seed, sizeof(seed));
	exit(0);
}
