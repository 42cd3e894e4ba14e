/*-------------------------------------------------------------------------
 *
 * fuzz_otlp_json.c
 *	  libFuzzer target: decodes bytes as an OTLP request in JSON, and looks
 *	  at every byte of what came out of it.
 *
 * fuzz-sources: ../../src/ingest/otlp_json.c ../../src/ingest/json_tree.c ../../src/ingest/context.c
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
	bool		accepted = decode_otlp_json((const char *) data, size, &options, batch, &result, &error);

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
	"{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"a\\u00e9\\ud83d\\ude00\"}}],"
	"\"droppedAttributesCount\":1,\"entityRefs\":[{\"schemaUrl\":\"u\",\"type\":\"t\",\"idKeys\":[\"i\"],\"descriptionKeys\":[\"d\"]}]},\"schemaUrl\":\"u\","
	"\"scopeSpans\":[{\"scope\":{\"name\":\"n\",\"version\":\"1\",\"attributes\":[]},\"spans\":[{\"traceId\":\"5b8efff798038103d269b633813fc60c\","
	"\"spanId\":\"eee19b7ec3c1b174\",\"parentSpanId\":\"\",\"traceState\":\"a=b\",\"flags\":257,\"name\":\"op\",\"kind\":\"SPAN_KIND_SERVER\","
	"\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":1.5e18,\"attributes\":["
	"{\"key\":\"i\",\"value\":{\"intValue\":\"-5\"}},{\"key\":\"d\",\"value\":{\"doubleValue\":\"NaN\"}},{\"key\":\"b\",\"value\":{\"boolValue\":true}},"
	"{\"key\":\"y\",\"value\":{\"bytesValue\":\"AQID\"}},{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"\\ud800\"},{}]}}},"
	"{\"key\":\"k\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"x\",\"value\":null}]}}}],"
	"\"events\":[{\"timeUnixNano\":\"1\",\"name\":\"e\",\"attributes\":[]}],\"links\":[{\"traceId\":\"\",\"spanId\":\"\",\"flags\":1}],"
	"\"status\":{\"code\":2,\"message\":\"\\u0000\"}}]}]}]}";

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
