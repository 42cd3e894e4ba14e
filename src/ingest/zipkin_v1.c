/*-------------------------------------------------------------------------
 *
 * zipkin_v1.c
 *	  What the annotations of a Zipkin span of version 1 mean.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/zipkin_v1.h"

#include <string.h>
#include <time.h>

void
zipkin_v1_begin(ZipkinV1 *v1)
{
	memset(v1, 0, sizeof(*v1));
	v1->span.v1 = true;
}

/* The kind that a core annotation tells; KIND_UNSPECIFIED = it is none. */
static int32_t
core_kind(SpanText value)
{
	if (span_text_is(value, "cs") || span_text_is(value, "cr"))
		return KIND_CLIENT;
	if (span_text_is(value, "sr") || span_text_is(value, "ss"))
		return KIND_SERVER;
	if (span_text_is(value, "ms"))
		return KIND_PRODUCER;
	if (span_text_is(value, "mr"))
		return KIND_CONSUMER;
	return KIND_UNSPECIFIED;
}

bool
zipkin_v1_annotation(DecodeContext *context, ZipkinV1 *v1, uint64_t time, SpanText value,
                     bool has_endpoint, const ZipkinEndpoint *endpoint)
{
	int32_t kind = core_kind(value);

	if (time != 0 && (v1->first == 0 || time < v1->first))
		v1->first = time;
	if (time > v1->last)
		v1->last = time;
	if (kind == KIND_UNSPECIFIED)
		return zipkin_note(context, &v1->span, time, value);
	if (!v1->span.has_kind)
	{
		v1->span.has_kind = true;
		v1->span.kind = kind;
	}
	if (has_endpoint && !v1->core)
	{
		v1->core = true;
		v1->span.local = *endpoint;
	}
	return true;
}

bool
zipkin_v1_tag(DecodeContext *context, ZipkinV1 *v1, SpanText key, AnyValue value,
              bool has_endpoint, const ZipkinEndpoint *endpoint)
{
	bool address = span_text_is(key, "sa") || span_text_is(key, "ca");

	/* the address of the other side */
	if (address && has_endpoint)
	{
		v1->span.remote = *endpoint;
		return tags_add(context, &v1->span.tags, key, value);
	}
	if (!v1->core && has_endpoint)
		v1->span.local = *endpoint;
	if (span_text_is(key, "lc"))
	{
		if (!v1->core && v1->span.local.service.len == 0 && value.type == ANY_STRING)
			v1->span.local.service = span_text(value.u.data, value.len);
		key = text_literal("component");
	}
	return tags_add(context, &v1->span.tags, key, value);
}

bool
zipkin_v1_add(DecodeContext *context, ZipkinV1 *v1)
{
	ZipkinSpan *span = &v1->span;

	if (span->local.service.len == 0)
		span->local.service = text_literal("unknown-service");
	if (span->start == 0 && v1->first != 0)
	{
		span->start = v1->first;
		if (span->duration == 0)
			span->duration = v1->last - v1->first;
	}
	else if (span->start != 0 && span->duration == 0 && v1->last > span->start)
		span->duration = v1->last - span->start;
	else if (span->start == 0)
	{
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		span->start = (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
		span->no_time = true;
	}
	return zipkin_add(context, span);
}
