/*-------------------------------------------------------------------------
 *
 * decoders.h
 *	  What the fuzz targets of the decoders do alike: look at every byte of
 *	  what came out, and write the first inputs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_FUZZ_DECODERS_H
#define TEMPO_FUZZ_DECODERS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/decode.h"

typedef bool (*Decode)(const char *body, size_t len, const DecodeOptions *options,
                       SpanBatch *batch, DecodeResult *result, SpanError *error);

/* The parser of PostgreSQL 15 does not free the names of members it was in when it fails. */
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:pg_parse_json\nleak:parse_object\nleak:parse_array\nleak:parse_array_element\n";
}

/* What a batch holds is text that PostgreSQL can hold. */
static inline void
check_text(SpanText text)
{
	Arena    arena;
	uint64_t changed = 0;

	arena_init(&arena, &span_malloc_allocator, 0);
	(void) span_text_clean(text, &arena, &changed);
	arena_reset(&arena);
	if (changed != 0)
		abort();
}

static inline void
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

static inline void
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

static inline void
check_span(const SpanBatch *batch, const Span *span)
{
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

/* Decodes bytes and checks the batch; in memory of just this size, so that a byte too far is found. */
static inline void
check_decoder(Decode decode, const uint8_t *data, size_t size)
{
	DecodeOptions options = {.tenant = {"t", 1}, .max_attribute_bytes = 20, .reject_whole_batch = size % 2};
	DecodeResult  result;
	SpanError     error = {SPAN_ERROR_NONE, ""};
	SpanBatch    *batch = span_batch_create(&span_malloc_allocator, (size_t) 64 << 20);
	char         *body = malloc(size > 0 ? size : 1);
	bool          accepted;

	if (size > 0)
		memcpy(body, data, size);
	accepted = decode(body, size, &options, batch, &result, &error);
	if (!accepted && (error.code == SPAN_ERROR_NONE || batch->n_spans != 0))
		abort();
	if (accepted && result.spans != batch->n_spans)
		abort();
	for (uint32_t i = 0; i < batch->n_spans; i++)
		check_span(batch, &batch->spans[i]);
	for (uint32_t i = 0; i < batch->n_strings; i++)
		check_text(batch->strings[i]);
	span_batch_destroy(batch);
	free(body);
}

/* The folder of "--seeds FOLDER", or NULL: the fuzzer itself is to run. */
static inline const char *
seeds_folder(int argc, char **argv)
{
	return argc == 3 && strcmp(argv[1], "--seeds") == 0 ? argv[2] : NULL;
}

static inline void
write_seed(const char *folder, const char *name, const void *data, size_t size)
{
	char  path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
	{
		perror(path);
		exit(1);
	}
}

#endif /* TEMPO_FUZZ_DECODERS_H */
