/*-------------------------------------------------------------------------
 *
 * context.c
 *	  What the decoders of all wire formats do alike.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/context.h"

#include <stdio.h>
#include <string.h>

bool
context_begin(DecodeContext *context, const DecodeOptions *options, SpanBatch *batch,
              DecodeResult *result, SpanError *error)
{
	memset(context, 0, sizeof(*context));
	memset(result, 0, sizeof(*result));
	context->options = options;
	context->batch = batch;
	context->arena = span_batch_arena(batch);
	context->result = result;
	context->error = error;
	context->first_span = batch->n_spans;
	context->tenant = span_batch_string(batch, options->tenant);
	if (context->tenant == SPAN_BATCH_NONE)
		return context_no_memory(context);
	return true;
}

bool
context_finish(DecodeContext *context, bool success)
{
	if (!success)
		span_batch_truncate(context->batch, context->first_span);
	context->result->spans = context->batch->n_spans - context->first_span;
	return success;
}

bool
context_no_memory(DecodeContext *context)
{
	return span_error(context->error, SPAN_ERROR_MEMORY, "the request needs more memory than is available");
}

/* Cuts clean text on a character boundary. */
static SpanText
cut_text(SpanText text, uint32_t max)
{
	if (text.len <= max)
		return text;
	text.len = max;
	while (text.len > 0 && ((uint8_t) text.data[text.len] & 0xC0) == 0x80)
		text.len--;
	return text;
}

bool
context_text(DecodeContext *context, SpanText raw, SpanText *out)
{
	*out = span_text_clean(raw, context->arena, &context->result->sanitized_strings);
	if (out->data == NULL && out->len > 0)
		return context_no_memory(context);
	return true;
}

/*
 * Cleaning never shortens, so of a string longer than "max" only max + 3
 * bytes need looking at: three more, because the last character of what is
 * looked at may be incomplete.
 */
static bool
clean_and_cut(DecodeContext *context, SpanText raw, uint32_t max, bool *cut, SpanText *out)
{
	if (max == 0 || raw.len <= max)
	{
		if (!context_text(context, raw, out))
			return false;
		if (max == 0 || out->len <= max)
			return true;
	}
	else
	{
		if (raw.len - max > 3)
			raw.len = max + 3;
		if (!context_text(context, raw, out))
			return false;
	}
	*out = cut_text(*out, max);
	*cut = true;
	return true;
}

static inline uint32_t
cache_slot(SpanText text)
{
	uint64_t head = 0;
	uint64_t tail = 0;

	if (text.len >= 8)
	{
		memcpy(&head, text.data, 8);
		memcpy(&tail, text.data + text.len - 8, 8);
	}
	else
		memcpy(&head, text.data, text.len);
	head = (head ^ (tail << 1) ^ text.len) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t) (head >> 40) & (STRING_CACHE_SIZE - 1);
}

bool
context_string(DecodeContext *context, SpanText raw, uint32_t max, bool *cut, uint32_t *id)
{
	CachedString *slot;
	SpanText      text;
	bool          was_cut = false;

	if (raw.len == 0)
	{
		*id = 0;
		return true;
	}
	slot = &context->cache[cache_slot(raw)];
	if (slot->raw.len == raw.len && memcmp(slot->raw.data, raw.data, raw.len) == 0 &&
	    (max == 0 || raw.len <= max))
	{
		*id = slot->id;
		return true;
	}
	if (!clean_and_cut(context, raw, max, &was_cut, &text))
		return false;
	*id = span_batch_string(context->batch, text);
	if (*id == SPAN_BATCH_NONE)
		return context_no_memory(context);
	if (was_cut)
		*cut = true;
	if (text.data == raw.data && text.len == raw.len)
	{
		slot->raw = raw;
		slot->id = *id;
	}
	return true;
}

bool
context_attribute_key(DecodeContext *context, SpanText raw, KeyValue *kv, bool *cut)
{
	if (!context_string(context, raw, context->options->max_attribute_bytes, cut, &kv->key_id))
		return false;
	kv->key = context->batch->strings[kv->key_id];
	return true;
}

void
context_attribute_end(DecodeContext *context, KeyValue *kv, bool key_cut)
{
	uint32_t max = context->options->max_attribute_bytes;

	if (kv->value.type == ANY_STRING && max != 0 && kv->value.len > max)
	{
		SpanText text = cut_text(span_text(kv->value.u.data, kv->value.len), max);

		kv->value.len = text.len;
		key_cut = true;
	}
	if (key_cut)
		context->result->truncated_attributes++;
}

bool
context_trace_id(DecodeContext *context, SpanText raw, TraceId *id)
{
	if (raw.len == TRACE_ID_LEN)
		memcpy(id->bytes, raw.data, TRACE_ID_LEN);
	else if (raw.len == 0)
		memset(id->bytes, 0, TRACE_ID_LEN);
	else
		return span_error(context->error, SPAN_ERROR_INVALID,
		                  "trace ids must be 128 bit, received %llu bits", (unsigned long long) raw.len * 8);
	return true;
}

bool
context_span_id(DecodeContext *context, SpanText raw, const char *what, SpanId *id)
{
	if (raw.len == SPAN_ID_LEN)
		memcpy(id->bytes, raw.data, SPAN_ID_LEN);
	else if (raw.len == 0)
		memset(id->bytes, 0, SPAN_ID_LEN);
	else
		return span_error(context->error, SPAN_ERROR_INVALID,
		                  "%s ids must be 64 bit and not all zero, received %llu bits",
		                  what, (unsigned long long) raw.len * 8);
	return true;
}

/*
 * One span that cannot be stored: refuses the request, or only counts it.
 * The first reason is the one told to the client.
 */
static bool
reject(DecodeContext *context, bool by_id, uint64_t *counter, const char *message)
{
	if (by_id && context->options->reject_whole_batch)
	{
		context->refused_counter = counter;
		return span_error(context->error, SPAN_ERROR_INVALID, "%s", message);
	}
	(*counter)++;
	if (context->result->rejected++ == 0)
		snprintf(context->result->rejected_message, sizeof(context->result->rejected_message), "%s", message);
	return true;
}

static inline bool
all_zero(const void *bytes, size_t len)
{
	uint64_t words[2] = {0, 0};

	memcpy(words, bytes, len);
	return (words[0] | words[1]) == 0;
}

bool
context_add(DecodeContext *context, IncomingSpan *incoming)
{
	if (all_zero(incoming->span.trace_id.bytes, TRACE_ID_LEN))
		return reject(context, true, &context->result->invalid_trace_id,
		              "trace ids must be 128 bit, received 0 bits");
	if (all_zero(incoming->span.span_id.bytes, SPAN_ID_LEN))
		return reject(context, true, &context->result->invalid_span_id,
		              "span ids must be 64 bit and not all zero, received 0 bits");
	if (incoming->start > INT64_MAX || incoming->end > INT64_MAX || incoming->bad_event_time)
		return reject(context, false, &context->result->invalid_time,
		              "a time lies beyond 9223372036854775807 nanoseconds since 1970");
	incoming->span.start_time_unix_nano = (int64_t) incoming->start;
	incoming->span.end_time_unix_nano = (int64_t) incoming->end;
	if (!span_batch_add(context->batch, &incoming->span))
		return context_no_memory(context);
	return true;
}

bool
refs_append(DecodeContext *context, RefsText *text, const char *data, size_t len)
{
	if (text->size - text->len < len)
	{
		size_t size = text->size == 0 ? 256 : text->size;
		char  *grown;

		while (size - text->len < len)
			size *= 2;
		grown = arena_alloc(context->arena, size);
		if (grown == NULL)
			return context_no_memory(context);
		if (text->len > 0)
			memcpy(grown, text->data, text->len);
		text->data = grown;
		text->size = size;
	}
	if (len > 0)
		memcpy(text->data + text->len, data, len);
	text->len += len;
	return true;
}

bool
refs_append_quoted(DecodeContext *context, RefsText *text, SpanText raw)
{
	SpanText clean;
	uint32_t from = 0;

	if (!context_text(context, raw, &clean) || !refs_append(context, text, "\"", 1))
		return false;
	for (uint32_t i = 0; i < clean.len; i++)
	{
		uint8_t c = (uint8_t) clean.data[i];
		char    escape[8];
		int     n;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (!refs_append(context, text, clean.data + from, i - from))
			return false;
		from = i + 1;
		if (c >= 0x20)
			n = snprintf(escape, sizeof(escape), "\\%c", c);
		else
			n = snprintf(escape, sizeof(escape), "\\u%04x", c);
		if (!refs_append(context, text, escape, (size_t) n))
			return false;
	}
	if (clean.len > from && !refs_append(context, text, clean.data + from, clean.len - from))
		return false;
	return refs_append(context, text, "\"", 1);
}

bool
entity_ref_begin(DecodeContext *context, RefsText *text, SpanText schema_url, SpanText type)
{
	if (!refs_append(context, text, text->len == 0 ? "[{" : ",{", 2))
		return false;
	if (schema_url.len > 0 &&
	    (!refs_append(context, text, "\"schemaUrl\":", 12) ||
	     !refs_append_quoted(context, text, schema_url) ||
	     !refs_append(context, text, ",", 1)))
		return false;

	/* the type is required, so it is there even if empty */
	return refs_append(context, text, "\"type\":", 7) && refs_append_quoted(context, text, type);
}

bool
refs_end(DecodeContext *context, RefsText *text, SpanText *out)
{
	if (text->len > 0 && !refs_append(context, text, "]", 1))
		return false;
	*out = span_text(text->data, (uint32_t) text->len);
	return true;
}

void
context_refused_spans(DecodeContext *context, uint64_t spans)
{
	*context->refused_counter = spans;
	context->result->invalid_time = 0;
	context->result->rejected = 0;
}
