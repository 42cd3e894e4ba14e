/*-------------------------------------------------------------------------
 *
 * zipkin.h
 *	  A Zipkin span of any encoding on its way to an OpenTelemetry span.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_ZIPKIN_H
#define TEMPO_INGEST_ZIPKIN_H

#include "ingest/foreign.h"

typedef struct ZipkinEndpoint
{
	SpanText service;
	SpanText address; /* of both, the IPv6 address */
	uint32_t port;    /* 0 = not known */
} ZipkinEndpoint;

typedef struct ZipkinNote
{
	uint64_t time; /* microseconds */
	SpanText text;
} ZipkinNote;

typedef struct ZipkinSpan
{
	bool           v1;
	TraceId        trace_id;
	SpanId         id;
	SpanId         parent_id;
	SpanText       name;
	int32_t        kind; /* OpenTelemetry's number */
	bool           has_kind;
	bool           no_time; /* the start is not known and shall be marked so */
	uint64_t       start;   /* microseconds */
	uint64_t       duration;
	ZipkinEndpoint local;
	ZipkinEndpoint remote;
	TagList        tags;
	ZipkinNote    *notes;
	uint32_t       n_notes;
	uint32_t       notes_size;
} ZipkinSpan;

extern bool zipkin_note(DecodeContext *context, ZipkinSpan *span, uint64_t time, SpanText text);

/* zipkin_address: the text of an IP address of 4 or 16 bytes; other lengths are ignored */
extern bool zipkin_address(DecodeContext *context, SpanText bytes, SpanText *text);

/* zipkin_add: maps the span and appends it to the batch; changes it */
extern bool zipkin_add(DecodeContext *context, ZipkinSpan *span);

#endif /* TEMPO_INGEST_ZIPKIN_H */
