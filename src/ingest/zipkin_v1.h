/*-------------------------------------------------------------------------
 *
 * zipkin_v1.h
 *	  A Zipkin span of version 1, which tells kind, times and service by
 *	  annotations, on its way to one of version 2.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_ZIPKIN_V1_H
#define TEMPO_INGEST_ZIPKIN_V1_H

#include "ingest/zipkin.h"

typedef struct ZipkinV1
{
	ZipkinSpan span;  /* the decoder sets ids, name, start and duration */
	uint64_t   first; /* of the annotations' times */
	uint64_t   last;
	bool       core; /* the service is that of a core annotation */
} ZipkinV1;

extern void zipkin_v1_begin(ZipkinV1 *v1);
extern bool zipkin_v1_annotation(DecodeContext *context, ZipkinV1 *v1, uint64_t time, SpanText value,
                                 bool has_endpoint, const ZipkinEndpoint *endpoint);
extern bool zipkin_v1_tag(DecodeContext *context, ZipkinV1 *v1, SpanText key, AnyValue value,
                          bool has_endpoint, const ZipkinEndpoint *endpoint);
extern bool zipkin_v1_add(DecodeContext *context, ZipkinV1 *v1);

#endif /* TEMPO_INGEST_ZIPKIN_V1_H */
