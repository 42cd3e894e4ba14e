/*-------------------------------------------------------------------------
 *
 * encode.h
 *	  One trace in a SpanBatch -> OTLP messages, as JSON or protobuf.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_ENCODE_H
#define TEMPO_API_ENCODE_H

#include "postgres.h"

#include "api/body.h"
#include "api/json.h"
#include "span/batch.h"

/*
 * trace_to_json: {"KEY":[...]}, the resource spans under "key", or {} without
 * spans.
 */
extern void trace_to_json(ApiBody *body, const SpanBatch *batch, const char *key, JsonStyle style);

/* trace_to_protobuf: a message whose field 1 is the repeated ResourceSpans */
extern void trace_to_protobuf(ApiBody *body, const SpanBatch *batch);

/* trace_to_llm: the trace as short JSON for language models */
extern void trace_to_llm(ApiBody *body, const SpanBatch *batch);

/* For encoders of other forms: calls "write" for each ResourceSpans. */
typedef void (*WriteGroup)(ApiBody *body, const ProtobufCMessage *group, bool first, JsonStyle style);

extern void trace_each_group(const SpanBatch *batch, WriteGroup write, ApiBody *body, JsonStyle style);

#endif /* TEMPO_API_ENCODE_H */
