/*-------------------------------------------------------------------------
 *
 * jaeger_proto.c
 *	  Jaeger's protobuf: the PostSpansRequest of its collector service.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/jaeger.h"
#include "ingest/protowire.h"

#include <stdio.h>
#include <string.h>

/* The types of a tag; the Thrift model numbers them otherwise. */
enum
{
	TAG_STRING,
	TAG_BOOL,
	TAG_INT64,
	TAG_FLOAT64,
	TAG_BINARY
};

/* The members of a tag's value, of which the type says which counts. */
typedef struct TagValue
{
	uint32_t type;
	SpanText text;
	uint64_t boolean;
	uint64_t integer;
	uint64_t real; /* bits */
	SpanText binary;
} TagValue;

static bool
add_tag(DecodeContext *context, TagList *tags, SpanText key, const TagValue *value)
{
	char   buffer[64];
	char  *copy;
	double real;

	switch (value->type)
	{
		case TAG_STRING:
			return tags_add(context, tags, key, any_text(value->text));
		case TAG_BOOL:
			return tags_add(context, tags, key, any_bool(value->boolean != 0));
		case TAG_INT64:
			return tags_add(context, tags, key, any_int((int64_t) value->integer));
		case TAG_FLOAT64:
			memcpy(&real, &value->real, sizeof(real));
			return tags_add(context, tags, key, any_double(real));
		case TAG_BINARY:
			return tags_add(context, tags, key, any_bytes(value->binary));
	}
	snprintf(buffer, sizeof(buffer), "<Unknown Jaeger TagType %u>", value->type);
	copy = arena_copy(context->arena, buffer, strlen(buffer));
	if (copy == NULL)
		return context_no_memory(context);
	return tags_add(context, tags, key, any_text(span_text(copy, (uint32_t) strlen(buffer))));
}

static bool
decode_tag(Cursor *parent, DecodeContext *context, TagList *tags)
{
	SpanText key = {NULL, 0};
	TagValue value;
	Cursor   in;
	uint32_t tag;

	memset(&value, 0, sizeof(value));
	if (!wire_message(parent, &in))
		return false;
	while (in.p < in.end)
	{
		bool good;

		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				good = wire_bytes(&in, &key);
				break;
			case TAG(2, WIRE_VARINT):
				good = wire_uint32(&in, &value.type);
				break;
			case TAG(3, WIRE_BYTES):
				good = wire_bytes(&in, &value.text);
				break;
			case TAG(4, WIRE_VARINT):
				good = wire_varint(&in, &value.boolean);
				break;
			case TAG(5, WIRE_VARINT):
				good = wire_varint(&in, &value.integer);
				break;
			case TAG(6, WIRE_64BIT):
				good = wire_fixed64(&in, &value.real);
				break;
			case TAG(7, WIRE_BYTES):
				good = wire_bytes(&in, &value.binary);
				break;
			default:
				good = wire_skip_field(&in, tag);
		}
		if (!good)
			return false;
	}
	return add_tag(context, tags, key, &value);
}

/* google.protobuf.Timestamp and Duration, in nanoseconds; negative is 0, too large the largest number */
static bool
decode_time(Cursor *parent, uint64_t *time)
{
	uint64_t seconds = 0;
	uint64_t nanos = 0;
	Cursor   in;
	uint32_t tag;

	if (!wire_message(parent, &in))
		return false;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_VARINT) ? !wire_varint(&in, &seconds) :
		    tag == TAG(2, WIRE_VARINT) ? !wire_varint(&in, &nanos) :
		                                 !wire_skip_field(&in, tag))
			return false;
	}
	if ((int64_t) seconds < 0)
		seconds = nanos = 0;
	if ((int32_t) nanos < 0)
		nanos = 0;
	*time = seconds > UINT64_MAX / 1000000000 ? UINT64_MAX : later(seconds * 1000000000, (uint32_t) nanos);
	return true;
}

/* An id of 8 bytes is the low half of one of 16. */
static bool
read_trace_id(Cursor *in, TraceId *id)
{
	SpanText raw;

	if (!wire_bytes(in, &raw))
		return false;
	if (raw.len != 0 && raw.len != TRACE_ID_LEN / 2 && raw.len != TRACE_ID_LEN)
		return span_error(in->error, SPAN_ERROR_INVALID, "Jaeger: a trace id has %u bytes", raw.len);
	memset(id->bytes, 0, TRACE_ID_LEN);
	if (raw.len > 0)
		memcpy(id->bytes + (TRACE_ID_LEN - raw.len), raw.data, raw.len);
	return true;
}

static bool
read_span_id(Cursor *in, SpanId *id)
{
	SpanText raw;

	if (!wire_bytes(in, &raw))
		return false;
	if (raw.len != 0 && raw.len != SPAN_ID_LEN)
		return span_error(in->error, SPAN_ERROR_INVALID, "Jaeger: a span id has %u bytes", raw.len);
	memset(id->bytes, 0, SPAN_ID_LEN);
	if (raw.len > 0)
		memcpy(id->bytes, raw.data, SPAN_ID_LEN);
	return true;
}

static bool
decode_reference(Cursor *parent, DecodeContext *context, JaegerSpan *span)
{
	JaegerReference *reference = jaeger_add_reference(context, span);
	Cursor           in;
	uint32_t         tag;

	if (reference == NULL || !wire_message(parent, &in))
		return false;
	while (in.p < in.end)
	{
		uint32_t type;
		bool     good;

		if (!wire_tag(&in, &tag))
			return false;
		switch (tag)
		{
			case TAG(1, WIRE_BYTES):
				good = read_trace_id(&in, &reference->trace_id);
				break;
			case TAG(2, WIRE_BYTES):
				good = read_span_id(&in, &reference->span_id);
				break;
			case TAG(3, WIRE_VARINT):
				good = wire_uint32(&in, &type);
				if (good)
					reference->type = type == 0 ? JAEGER_CHILD_OF : JAEGER_FOLLOWS_FROM;
				break;
			default:
				good = wire_skip_field(&in, tag);
		}
		if (!good)
			return false;
	}
	return true;
}

static bool
decode_log(Cursor *parent, DecodeContext *context, JaegerSpan *span)
{
	JaegerLog *log = jaeger_add_log(context, span);
	Cursor     in;
	uint32_t   tag;

	if (log == NULL || !wire_message(parent, &in))
		return false;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_BYTES) ? !decode_time(&in, &log->time) :
		    tag == TAG(2, WIRE_BYTES) ? !decode_tag(&in, context, &log->fields) :
		                                !wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

static bool
decode_process(Cursor *parent, DecodeContext *context, JaegerProcess *process)
{
	Cursor   in;
	uint32_t tag;

	jaeger_process_begin(process);
	process->known = true;
	if (!wire_message(parent, &in))
		return false;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_BYTES) ? !wire_bytes(&in, &process->service) :
		    tag == TAG(2, WIRE_BYTES) ? !decode_tag(&in, context, &process->tags) :
		                                !wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

static bool
decode_span_field(Cursor *in, uint32_t tag, DecodeContext *context, JaegerSpan *span, JaegerProcess *own)
{
	SpanText text;

	switch (tag)
	{
		case TAG(1, WIRE_BYTES):
			return read_trace_id(in, &span->trace_id);
		case TAG(2, WIRE_BYTES):
			return read_span_id(in, &span->id);
		case TAG(3, WIRE_BYTES):
			return wire_bytes(in, &span->name);
		case TAG(4, WIRE_BYTES):
			return decode_reference(in, context, span);
		case TAG(5, WIRE_VARINT):
			return wire_uint32(in, &span->flags);
		case TAG(6, WIRE_BYTES):
			return decode_time(in, &span->start);
		case TAG(7, WIRE_BYTES):
			return decode_time(in, &span->duration);
		case TAG(8, WIRE_BYTES):
			return decode_tag(in, context, &span->tags);
		case TAG(9, WIRE_BYTES):
			return decode_log(in, context, span);
		case TAG(10, WIRE_BYTES):
			return decode_process(in, context, own);
		case TAG(12, WIRE_BYTES):
			return wire_bytes(in, &text) && jaeger_add_warning(context, span, text);
		default:
			return wire_skip_field(in, tag);
	}
}

static bool
decode_span(Cursor in, DecodeContext *context, JaegerProcess *process)
{
	JaegerProcess own;
	JaegerSpan    span;
	uint32_t      tag;

	/* as Jaeger's own code has it, a message without anything is no span */
	if (in.p == in.end)
		return true;
	memset(&span, 0, sizeof(span));
	own.known = false;
	while (in.p < in.end)
		if (!wire_tag(&in, &tag) || !decode_span_field(&in, tag, context, &span, &own))
			return false;
	return jaeger_add(context, &span, own.known ? &own : process);
}

/* The process follows the spans, which need it. */
static bool
find_process(Cursor in, DecodeContext *context, JaegerProcess *process)
{
	uint32_t tag;

	jaeger_process_begin(process);
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(2, WIRE_BYTES) ? !decode_process(&in, context, process) : !wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

static bool
decode_batch(Cursor in, DecodeContext *context)
{
	JaegerProcess process;
	Cursor        message;
	uint32_t      tag;

	if (!find_process(in, context, &process))
		return false;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag))
			return false;
		if (tag == TAG(1, WIRE_BYTES) ?
		        !wire_message(&in, &message) || !decode_span(message, context, &process) :
		        !wire_skip_field(&in, tag))
			return false;
	}
	return true;
}

/* How many spans the request has, for the counters. */
static uint64_t
count_spans(Cursor in)
{
	uint64_t count = 0;
	Cursor   message;
	uint32_t tag;

	in.error = NULL;
	while (in.p < in.end && wire_tag(&in, &tag))
	{
		if (tag != TAG(1, WIRE_BYTES))
		{
			if (!wire_skip_field(&in, tag))
				break;
			continue;
		}
		if (!wire_message(&in, &message))
			break;
		count += wire_count_fields(message, TAG(1, WIRE_BYTES));
	}
	return count;
}

bool
decode_jaeger_proto(const char *body, size_t len, const DecodeOptions *options,
                    SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Cursor        whole = {(const uint8_t *) body, (const uint8_t *) body + len, error};
	Cursor        in = whole;
	Cursor        message;
	uint32_t      tag;
	bool          success;

	success = context_begin(&context, options, batch, result, error);
	while (success && in.p < in.end)
	{
		success = wire_tag(&in, &tag);
		if (success && tag == TAG(1, WIRE_BYTES))
			success = wire_message(&in, &message) && decode_batch(message, &context);
		else if (success)
			success = wire_skip_field(&in, tag);
	}
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count_spans(whole));
	return context_finish(&context, success);
}
