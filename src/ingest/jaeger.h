/*-------------------------------------------------------------------------
 *
 * jaeger.h
 *	  A Jaeger span of any encoding on its way to an OpenTelemetry span.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_JAEGER_H
#define TEMPO_INGEST_JAEGER_H

#include "ingest/foreign.h"

typedef enum JaegerReferenceType
{
	JAEGER_CHILD_OF,
	JAEGER_FOLLOWS_FROM
} JaegerReferenceType;

typedef struct JaegerReference
{
	JaegerReferenceType type;
	TraceId             trace_id;
	SpanId              span_id;
} JaegerReference;

typedef struct JaegerLog
{
	uint64_t time; /* nanoseconds */
	TagList  fields;
} JaegerLog;

/* What sent the spans: "known" says whether the sender told. */
typedef struct JaegerProcess
{
	bool     known;
	SpanText service;
	TagList  tags;

	/* set by jaeger_add: tags have become the resource, and its last scope */
	bool     mapped;
	TagList  resource;
	uint32_t scope; /* SPAN_BATCH_NONE = none yet */
	SpanText scope_name;
	SpanText scope_version;
} JaegerProcess;

typedef struct JaegerSpan
{
	bool             thrift; /* its tags do not name the scope */
	TraceId          trace_id;
	SpanId           id;
	SpanId           parent_id; /* zero: the references tell */
	SpanText         name;
	uint32_t         flags;
	uint64_t         start; /* nanoseconds */
	uint64_t         duration;
	TagList          tags;
	JaegerReference *references;
	JaegerLog       *logs;
	SpanText        *warnings;
	uint32_t         n_references;
	uint32_t         n_logs;
	uint32_t         n_warnings;
} JaegerSpan;

extern void jaeger_process_begin(JaegerProcess *process);

/* Both return a new item with nothing in it; NULL = no memory. */
extern JaegerReference *jaeger_add_reference(DecodeContext *context, JaegerSpan *span);
extern JaegerLog       *jaeger_add_log(DecodeContext *context, JaegerSpan *span);
extern bool             jaeger_add_warning(DecodeContext *context, JaegerSpan *span, SpanText text);

/* jaeger_add: maps the span and appends it to the batch; changes both */
extern bool jaeger_add(DecodeContext *context, JaegerSpan *span, JaegerProcess *process);

#endif /* TEMPO_INGEST_JAEGER_H */
