/*-------------------------------------------------------------------------
 *
 * context.h
 *	  What the decoders of all wire formats do alike: cleaning and cutting
 *	  text, interning, judging ids and times, appending spans.
 *
 * One DecodeContext serves one request.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_CONTEXT_H
#define TEMPO_INGEST_CONTEXT_H

#include "ingest/decode.h"

/* Longer span names are cut (ingest reference 3.3). */
#define SPAN_NAME_MAX_BYTES 65536

/* Slots of the direct-mapped cache of interned strings; a power of two. */
#define STRING_CACHE_SIZE 256

typedef struct CachedString
{
	SpanText raw; /* as sent: needs neither cleaning nor cutting */
	uint32_t id;
} CachedString;

typedef struct DecodeContext
{
	const DecodeOptions *options;
	SpanBatch           *batch;
	Arena               *arena;
	DecodeResult        *result;
	SpanError           *error;
	const char          *format;          /* whose, for messages */
	uint32_t             tenant;          /* string id */
	uint32_t             first_span;      /* spans of the batch before this request */
	uint64_t            *refused_counter; /* the reason's, when an absent or zero id refused the request */
	CachedString         cache[STRING_CACHE_SIZE];
} DecodeContext;

/*
 * A span on its way into the batch.  Times are unsigned as on the wire; the
 * lengths tell an absent id (0) from a present one.
 */
typedef struct IncomingSpan
{
	Span     span;
	uint64_t start;
	uint64_t end;
	bool     bad_event_time;
} IncomingSpan;

/* context_begin: clears *result; false = no memory */
extern bool context_begin(DecodeContext *context, const DecodeOptions *options, SpanBatch *batch,
                          DecodeResult *result, SpanError *error);

/* context_finish: takes back the request's spans unless it is a success; returns "success" */
extern bool context_finish(DecodeContext *context, bool success);

extern bool context_no_memory(DecodeContext *context);

/* context_text: clean text, not interned */
extern bool context_text(DecodeContext *context, SpanText raw, SpanText *out);

/* context_string: clean text of at most "max" bytes (0 = any), interned */
extern bool context_string(DecodeContext *context, SpanText raw, uint32_t max, bool *cut, uint32_t *id);

/*
 * context_attribute_key: sets key and key_id of a top-level attribute;
 * context_attribute_end: cuts its value if that is a long string, and counts
 * the attribute as truncated if either was cut.  Nested keys and values only
 * need context_text().
 */
extern bool context_attribute_key(DecodeContext *context, SpanText raw, KeyValue *kv, bool *cut);
extern void context_attribute_end(DecodeContext *context, KeyValue *kv, bool key_cut);

/*
 * context_trace_id, context_span_id: an id as bytes.  Any length but 0 and
 * the right one fails the request.  "what" is "trace", "span" or "parent span".
 */
extern bool context_trace_id(DecodeContext *context, SpanText raw, TraceId *id);
extern bool context_span_id(DecodeContext *context, SpanText raw, const char *what, SpanId *id);

/*
 * context_add: judges ids and times and appends the span.  False when the
 * request has to be refused, with refused_counter set if an id is why.
 */
extern bool context_add(DecodeContext *context, IncomingSpan *incoming);

/*
 * A JSON text being built in the arena, for entity_refs, which the batch
 * keeps as text.
 */
typedef struct RefsText
{
	char  *data;
	size_t len;
	size_t size;
} RefsText;

extern bool refs_append(DecodeContext *context, RefsText *text, const char *data, size_t len);
extern bool refs_append_quoted(DecodeContext *context, RefsText *text, SpanText raw);

/* entity_ref_begin: an object up to its "type"; the caller adds members and "}" */
extern bool entity_ref_begin(DecodeContext *context, RefsText *text, SpanText schema_url, SpanText type);

/* refs_end: closes the array if there is one */
extern bool refs_end(DecodeContext *context, RefsText *text, SpanText *out);

/* context_refused_spans: a bad id refused the request, which had this many spans */
extern void context_refused_spans(DecodeContext *context, uint64_t spans);

#endif /* TEMPO_INGEST_CONTEXT_H */
