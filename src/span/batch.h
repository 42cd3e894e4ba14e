/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  SpanBatch: spans in memory, the one form between the network, SQL,
 *	  the storage and the API's encoders.
 *
 * Decoders and SQL fill a batch through the appenders below, the segment
 * writer stores it, the segment reader fills one again, and the compactor
 * and the trace encoders walk it.  Strings that repeat (names, keys, schema
 * URLs, tenants) are interned; resources and scopes are interned whole, so
 * "same resource" is one integer comparison.
 *
 * Values, status messages and trace states are not copied: they point into
 * the memory that the caller decoded them from, which must live as long as
 * the batch (receivers keep request bodies until the commit), or which the
 * caller put into span_batch_arena().
 *
 * A failed appender has changed nothing that a reader could see, except that
 * interned strings, resources and scopes may be left behind unused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_BATCH_H
#define TEMPO_SPAN_BATCH_H

#include "span/allocator.h"
#include "span/error.h"
#include "span/ids.h"
#include "span/value.h"

/* Returned by interning functions when there is no memory. */
#define SPAN_BATCH_NONE UINT32_MAX

typedef struct SpanResource
{
	uint32_t      tenant;     /* string id */
	uint32_t      schema_url; /* string id */
	uint32_t      dropped_attributes_count;
	AttributeList attributes;
	SpanText      entity_refs; /* JSON array text, empty if none were sent */
} SpanResource;

typedef struct SpanScope
{
	uint32_t      resource;   /* index into the batch's resources */
	uint32_t      name;       /* string id */
	uint32_t      version;    /* string id */
	uint32_t      schema_url; /* string id */
	uint32_t      dropped_attributes_count;
	AttributeList attributes;
} SpanScope;

typedef struct SpanEvent
{
	int64_t       time_unix_nano;
	SpanText      name;
	uint32_t      dropped_attributes_count;
	AttributeList attributes;
} SpanEvent;

typedef struct SpanLink
{
	TraceId       trace_id; /* all zero when the sender left it out */
	SpanId        span_id;
	SpanText      trace_state;
	uint32_t      flags;
	uint32_t      dropped_attributes_count;
	AttributeList attributes;
} SpanLink;

typedef struct Span
{
	TraceId          trace_id;
	SpanId           span_id;
	SpanId           parent_span_id; /* all zero = root */
	int64_t          start_time_unix_nano;
	int64_t          end_time_unix_nano; /* as sent, may precede the start */
	uint32_t         scope;              /* index into the batch's scopes */
	uint32_t         name;               /* string id */
	int32_t          kind;               /* OTLP number, unknown numbers are kept */
	int32_t          status_code;        /* OTLP number, unknown numbers are kept */
	uint32_t         flags;
	uint32_t         dropped_attributes_count;
	uint32_t         dropped_events_count;
	uint32_t         dropped_links_count;
	SpanText         status_message;
	SpanText         trace_state;
	AttributeList    attributes;
	const SpanEvent *events;
	const SpanLink  *links;
	uint32_t         n_events;
	uint32_t         n_links;
} Span;

typedef struct SpanBatch
{
	Span                    *spans; /* n_spans, in the order they were added */
	uint32_t                 n_spans;
	uint32_t                 n_resources;
	SpanResource            *resources;
	SpanScope               *scopes;
	uint32_t                 n_scopes;
	uint32_t                 n_strings;
	SpanText                *strings; /* strings[0] is the empty string */
	struct SpanBatchPrivate *priv;
} SpanBatch;

/*
 * span_batch_create: an empty batch whose memory comes from "allocator" and
 * is bounded by "memory_limit" bytes (0 = no bound).  NULL = no memory.
 */
extern SpanBatch *span_batch_create(const SpanAllocator *allocator, size_t memory_limit);

/* span_batch_reset: empties the batch and gives back all but its first memory */
extern void span_batch_reset(SpanBatch *batch);

extern void span_batch_destroy(SpanBatch *batch);

/* span_batch_arena: memory that lives until the batch is reset or destroyed */
extern Arena *span_batch_arena(SpanBatch *batch);

/* span_batch_memory: bytes taken so far, without what values point to outside */
extern size_t span_batch_memory(const SpanBatch *batch);

/*
 * span_batch_generation: a number that no batch had before and that changes
 * when the batch is reset: for caches of what is in its arena and of its ids.
 */
extern uint64_t span_batch_generation(const SpanBatch *batch);

/*
 * span_batch_string: the id of a string, interned; equal strings have equal
 * ids.  Copies the bytes.  SPAN_BATCH_NONE = no memory.
 */
extern uint32_t span_batch_string(SpanBatch *batch, SpanText text);

/*
 * span_batch_resource, span_batch_scope: the index of an equal resource or
 * scope (attributes in the same order included), added if it is new.  Copies
 * deeply.  Sets key_id of top-level attributes.  SPAN_BATCH_NONE = no memory.
 */
extern uint32_t span_batch_resource(SpanBatch *batch, const SpanResource *resource);
extern uint32_t span_batch_scope(SpanBatch *batch, const SpanScope *scope);

/*
 * span_batch_add: appends a span.  The struct is copied, what it points to
 * is not; every top-level KeyValue of its attributes, events and links must
 * have key_id set (span_batch_string(key)).  False = no memory.
 */
extern bool span_batch_add(SpanBatch *batch, const Span *span);

/*
 * span_batch_extend: the same without the copy: a new span at the end whose
 * contents are undefined, valid until the next one.  NULL = no memory.
 */
extern Span *span_batch_extend(SpanBatch *batch);

/*
 * span_batch_truncate: forgets the spans from "n_spans" on, for decoders
 * that give up in the middle of a request.
 */
extern void span_batch_truncate(SpanBatch *batch, uint32_t n_spans);

static inline const SpanScope *
span_scope(const SpanBatch *batch, const Span *span)
{
	return &batch->scopes[span->scope];
}

static inline const SpanResource *
span_resource(const SpanBatch *batch, const Span *span)
{
	return &batch->resources[batch->scopes[span->scope].resource];
}

#endif /* TEMPO_SPAN_BATCH_H */
