/*-------------------------------------------------------------------------
 *
 * zipkin_proto.c
 *	  Zipkin's protobuf, version 2.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/protowire.h"
#include "ingest/zipkin.h"

#include <string.h>

static bool
decode_endpoint(Cursor in, DecodeContext *context, ZipkinEndpoint *endpoint)
{
	SpanText ipv4 = {NULL, 0};
	SpanText ipv6 = {NULL, 0};
	uint32_t tag;

	while (in.p < in.end)
	{
		bool good;

		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				good = wire_bytes(&in, &endpoint->service);
				break;
			case TAG(2, WIRE_BYTES):
				good = wire_bytes(&in, &ipv4);
				break;
			case TAG(3, WIRE_BYTES):
				good = wire_bytes(&in, &ipv6);
				break;
			case TAG(4, WIRE_VARINT):
				good = wire_uint32(&in, &endpoint->port);
				break;
			default:
				good = wire_skip_field(&in, tag);
		}
		if (!good)
			return false;
	}
	if (endpoint->port > 65535)
		endpoint->port = 0;
	return zipkin_address(context, ipv4, &endpoint->address) && zipkin_address(context, ipv6, &endpoint->address);
}

static bool
decode_annotation(Cursor in, DecodeContext *context, ZipkinSpan *span)
{
	SpanText text = {NULL, 0};
	uint64_t time = 0;
	uint32_t tag;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_64BIT) ? !wire_fixed64(&in, &time) :
		    tag == TAG(2, WIRE_BYTES) ? !wire_bytes(&in, &text) :
		                                !wire_skip_field(&in, tag))
			return false;
	}
	return zipkin_note(context, span, time, text);
}

static bool
decode_tag(Cursor in, DecodeContext *context, ZipkinSpan *span)
{
	SpanText key = {NULL, 0};
	SpanText text = {NULL, 0};
	uint32_t tag;

	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_BYTES) ? !wire_bytes(&in, &key) :
		    tag == TAG(2, WIRE_BYTES) ? !wire_bytes(&in, &text) :
		                                !wire_skip_field(&in, tag))
			return false;
	}
	return tags_add(context, &span->tags, key, any_text(text));
}

/* A short id is padded with zeros on the left. */
static bool
read_id(Cursor *in, uint8_t *bytes, size_t len, const char *what)
{
	SpanText raw;

	if (!wire_bytes(in, &raw))
		return false;
	if (raw.len != 0 && raw.len != 8 && raw.len != len)
		return span_error(in->error, SPAN_ERROR_INVALID, "Zipkin: a %s id has %u bytes", what, raw.len);
	memset(bytes, 0, len);
	if (raw.len > 0)
		memcpy(bytes + (len - raw.len), raw.data, raw.len);
	return true;
}

static bool
decode_field(Cursor *in, uint32_t tag, DecodeContext *context, ZipkinSpan *span)
{
	static const int32_t kinds[] = {KIND_UNSPECIFIED, KIND_CLIENT, KIND_SERVER, KIND_PRODUCER, KIND_CONSUMER};
	Cursor               message;
	uint32_t             kind;

	switch (tag)
	{
		case TAG(1, WIRE_BYTES):
			return read_id(in, span->trace_id.bytes, TRACE_ID_LEN, "trace");
		case TAG(2, WIRE_BYTES):
			return read_id(in, span->parent_id.bytes, SPAN_ID_LEN, "parent");
		case TAG(3, WIRE_BYTES):
			return read_id(in, span->id.bytes, SPAN_ID_LEN, "span");
		case TAG(4, WIRE_VARINT):
			if (!wire_uint32(in, &kind))
				return false;
			span->has_kind = kind != 0;
			span->kind = kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[kind] : KIND_UNSPECIFIED;
			return true;
		case TAG(5, WIRE_BYTES):
			return wire_bytes(in, &span->name);
		case TAG(6, WIRE_64BIT):
			return wire_fixed64(in, &span->start);
		case TAG(7, WIRE_VARINT):
			return wire_varint(in, &span->duration);
		case TAG(8, WIRE_BYTES):
			return wire_message(in, &message) && decode_endpoint(message, context, &span->local);
		case TAG(9, WIRE_BYTES):
			return wire_message(in, &message) && decode_endpoint(message, context, &span->remote);
		case TAG(10, WIRE_BYTES):
			return wire_message(in, &message) && decode_annotation(message, context, span);
		case TAG(11, WIRE_BYTES):
			return wire_message(in, &message) && decode_tag(message, context, span);
		default:
			return wire_skip_field(in, tag);
	}
}

static bool
decode_span(Cursor in, DecodeContext *context)
{
	ZipkinSpan span;
	uint32_t   tag;

	memset(&span, 0, sizeof(span));
	while (in.p < in.end)
		if (!wire_tag(&in, &tag) || !decode_field(&in, tag, context, &span))
			return false;
	return zipkin_add(context, &span);
}

bool
decode_zipkin_proto(const char *body, size_t len, const DecodeOptions *options,
                    SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Cursor        in = {(const uint8_t *) body, (const uint8_t *) body + len, error};
	Cursor        message;
	uint32_t      tag;
	bool          success;

	success = context_begin(&context, options, batch, result, error);
	while (success && in.p < in.end)
	{
		success = wire_tag(&in, &tag);
		if (success && tag == TAG(1, WIRE_BYTES))
			success = wire_message(&in, &message) && decode_span(message, &context);
		else if (success)
			success = wire_skip_field(&in, tag);
	}
	if (context.refused_counter != NULL)
	{
		in.p = (const uint8_t *) body;
		context_refused_spans(&context, wire_count_fields(in, TAG(1, WIRE_BYTES)));
	}
	return context_finish(&context, success);
}
