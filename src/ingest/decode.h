/*-------------------------------------------------------------------------
 *
 * decode.h
 *	  Wire formats into SpanBatches; runs without a server.
 *
 * A decoder appends the spans of one request to a batch.  All or nothing: on
 * failure the batch has the spans it had before.  Values point into "body"
 * where they can, so the body must live as long as the batch.  The rules are
 * those of the OTLP specification, section 3 of the ingest reference in
 * particular; ids are validated here, before anything is stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_DECODE_H
#define TEMPO_INGEST_DECODE_H

#include "span/batch.h"

typedef struct DecodeOptions
{
	SpanText tenant;
	uint32_t max_attribute_bytes; /* longer keys and string values are cut on a character boundary; 0 = never */
	bool     reject_whole_batch;  /* a bad id refuses the request (default), else only its span */
} DecodeOptions;

typedef struct DecodeResult
{
	uint64_t spans;                 /* appended */
	uint64_t rejected;              /* not appended, only without reject_whole_batch or for times beyond int8 */
	char     rejected_message[256]; /* why, for partial_success */
	uint64_t sanitized_strings;
	uint64_t truncated_attributes;

	/*
	 * Why spans were discarded, for the counters by reason.  When a bad id
	 * refuses the request (the decoder fails), the reason's count is that of
	 * all spans of the request.
	 */
	uint64_t invalid_trace_id;
	uint64_t invalid_span_id;
	uint64_t invalid_time;

	/* The decoders leave these alone; they are for what limits leave out afterwards. */
	uint64_t rate_limited;
	uint64_t trace_too_large;
	uint64_t live_traces_exceeded;
} DecodeResult;

/*
 * Errors: SPAN_ERROR_INVALID with the text the reference prescribes
 * (malformed bytes, bad ids), SPAN_ERROR_LIMIT (nesting), SPAN_ERROR_MEMORY.
 */
extern bool decode_otlp_proto(const char *body, size_t len, const DecodeOptions *options,
                              SpanBatch *batch, DecodeResult *result, SpanError *error);

/* otlp_json.c uses PostgreSQL's common/jsonapi.h, so it links libpgcommon outside a server */
extern bool decode_otlp_json(const char *body, size_t len, const DecodeOptions *options,
                             SpanBatch *batch, DecodeResult *result, SpanError *error);

/* Zipkin, whose JSON needs the same */
extern bool decode_zipkin_json(const char *body, size_t len, const DecodeOptions *options,
                               SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_zipkin_proto(const char *body, size_t len, const DecodeOptions *options,
                                SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_zipkin_v1_json(const char *body, size_t len, const DecodeOptions *options,
                                  SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_zipkin_thrift(const char *body, size_t len, const DecodeOptions *options,
                                 SpanBatch *batch, DecodeResult *result, SpanError *error);

/* Jaeger: a PostSpansRequest, a bare batch in binary Thrift, and the messages to the agent */
extern bool decode_jaeger_proto(const char *body, size_t len, const DecodeOptions *options,
                                SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_jaeger_thrift(const char *body, size_t len, const DecodeOptions *options,
                                 SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_jaeger_compact(const char *body, size_t len, const DecodeOptions *options,
                                  SpanBatch *batch, DecodeResult *result, SpanError *error);
extern bool decode_jaeger_binary(const char *body, size_t len, const DecodeOptions *options,
                                 SpanBatch *batch, DecodeResult *result, SpanError *error);

/* what Jaeger's query API answers, for those who move from it; needs what JSON needs */
extern bool decode_jaeger_json(const char *body, size_t len, const DecodeOptions *options,
                               SpanBatch *batch, DecodeResult *result, SpanError *error);

/* The formats that a request can have. */
typedef enum WireFormat
{
	WIRE_OTLP_PROTO,
	WIRE_OTLP_JSON,
	WIRE_ZIPKIN_JSON,
	WIRE_ZIPKIN_PROTO,
	WIRE_ZIPKIN_V1_JSON,
	WIRE_ZIPKIN_THRIFT,
	WIRE_JAEGER_PROTO,
	WIRE_JAEGER_THRIFT,
	WIRE_JAEGER_COMPACT,
	WIRE_JAEGER_BINARY,
	WIRE_JAEGER_JSON
} WireFormat;

#endif /* TEMPO_INGEST_DECODE_H */
