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

#endif							/* TEMPO_API_ENCODE_H */
