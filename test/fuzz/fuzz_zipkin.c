/*-------------------------------------------------------------------------
 *
 * fuzz_zipkin.c
 *	  libFuzzer target: decodes bytes as each format of Zipkin, chosen by the
 *	  first byte, and looks at every byte of what came out of it.
 *
 * fuzz-sources: ../../src/ingest/zipkin.c ../../src/ingest/zipkin_v1.c ../../src/ingest/zipkin_json.c ../../src/ingest/zipkin_proto.c ../../src/ingest/zipkin_thrift.c ../../src/ingest/foreign.c ../../src/ingest/json_tree.c ../../src/ingest/context.c
 * fuzz-needs: postgres
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/decode.h"

/* The parser of PostgreSQL 15 does not free the names of members it was in when it fails. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:pg_parse_json\nleak:parse_object\nleak:parse_array\nleak:parse_array_element\n";
}

/* What a batch holds is text that PostgreSQL can hold. */
static void
check_text(SpanText text)
{
	Arena		arena;
	uint64_t	changed = 0;

	arena_init(&arena, &span_malloc_allocator, 0);
	(void) span_text_clean(text, &arena, &changed);
	arena_reset(&arena);
	if (changed != 0)
		abort();
}

static void
check_value(const AnyValue *value, int depth)
{
	if (depth > ANY_VALUE_MAX_DEPTH)
		abort();
	if (value->type == ANY_STRING)
		check_text(span_text(value->u.data, value->len));
	else if (value->type == ANY_ARRAY)
		for (uint32_t i = 0; i < value->len; i++)
			check_value(&value->u.elements[i], depth + 1);
	else if (value->type == ANY_KVLIST)
		for (uint32_t i = 0; i < value->len; i++)
		{
			check_text(value->u.members[i].key);
			check_value(&value->u.members[i].value, depth + 1);
		}
}

static void
check_attributes(const SpanBatch *batch, AttributeList list)
{
	for (uint32_t i = 0; i < list.count; i++)
	{
		check_text(list.items[i].key);
		if (!span_text_equal(list.items[i].key, batch->strings[list.items[i].key_id]))
			abort();
		check_value(&list.items[i].value, 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DecodeOptions options = {.tenant = {"t", 1}, .max_attribute_bytes = 20, .reject_whole_batch = size % 2};
	DecodeResult result;
	SpanError	error = {SPAN_ERROR_NONE, ""};
	SpanBatch  *batch = span_batch_create(&span_malloc_allocator, (size_t) 64 << 20);
	bool		accepted;
	const char *body = (const char *) data + 1;

	if (size == 0)
	{
		span_batch_destroy(batch);
		return 0;
	}
	size--;
	switch (data[0] % 4)
	{
		case 0:
			accepted = decode_zipkin_json(body, size, &options, batch, &result, &error);
			break;
		case 1:
			accepted = decode_zipkin_v1_json(body, size, &options, batch, &result, &error);
			break;
		case 2:
			accepted = decode_zipkin_proto(body, size, &options, batch, &result, &error);
			break;
		default:
			accepted = decode_zipkin_thrift(body, size, &options, batch, &result, &error);
	}

	if (!accepted && (error.code == SPAN_ERROR_NONE || batch->n_spans != 0))
		abort();
	if (accepted && result.spans != batch->n_spans)
		abort();
	for (uint32_t i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];

		check_text(span->status_message);
		check_text(span->trace_state);
		check_attributes(batch, span->attributes);
		check_attributes(batch, span_scope(batch, span)->attributes);
		check_attributes(batch, span_resource(batch, span)->attributes);
		for (uint32_t e = 0; e < span->n_events; e++)
		{
			check_text(span->events[e].name);
			check_attributes(batch, span->events[e].attributes);
		}
		for (uint32_t l = 0; l < span->n_links; l++)
		{
			check_text(span->links[l].trace_state);
			check_attributes(batch, span->links[l].attributes);
		}
	}
	for (uint32_t i = 0; i < batch->n_strings; i++)
		check_text(batch->strings[i]);
	span_batch_destroy(batch);
	return 0;
}

/* One request with nearly every field; the fuzzer does the rest. */
static const char seed[] =
	"0[{\"traceId\":\"5b8efff798038103\",\"id\":\"eee19b7ec3c1b174\",\"parentId\":\"1\",\"name\":\"get\",\"kind\":\"CLIENT\",\"timestamp\":1000,\"duration\":5,"
	"\"localEndpoint\":{\"serviceName\":\"a\",\"ipv4\":\"10.0.0.1\",\"port\":80},\"remoteEndpoint\":{\"serviceName\":\"b\",\"ipv6\":\"2001:db8::1\"},"
	"\"annotations\":[{\"timestamp\":1,\"value\":\"x|{\\\"a\\\":1}|0\"}],\"tags\":{\"error\":\"boom\",\"otel.status_code\":\"OK\",\"w3c.tracestate\":\"k=v\","
	"\"otlp.link.0\":\"5b8efff798038103d269b633813fc60c|eee19b7ec3c1b174|s=t|{\\\"a\\\":\\\"b\\\"}|1\",\"host.name\":\"h\"},"
	"\"binaryAnnotations\":[{\"key\":\"lc\",\"value\":\"v\",\"endpoint\":{}}]}]";

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char		path[4096];
	FILE	   *f;

	if (*argc != 3 || strcmp((*argv)[1], "--seeds") != 0)
		return 0;
	snprintf(path, sizeof(path), "%s/one-span", (*argv)[2]);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(seed, 1, sizeof(seed) - 1, f) != sizeof(seed) - 1 || fclose(f) != 0)
	{
		perror(path);
		exit(1);
	}
	exit(0);
}
