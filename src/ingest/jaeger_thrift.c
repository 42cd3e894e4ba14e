/*-------------------------------------------------------------------------
 *
 * jaeger_thrift.c
 *	  Jaeger's batches in Thrift: bare over HTTP, in a message to the agent.
 *
 * Clients write every member of a tag's value, so only its type tells which
 * of them counts.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/jaeger.h"
#include "ingest/thrift.h"

#include <stdio.h>

/* The types of a tag; the protobuf model numbers them otherwise. */
enum
{
	TAG_STRING,
	TAG_DOUBLE,
	TAG_BOOL,
	TAG_LONG,
	TAG_BINARY
};

typedef struct TagValue
{
	uint32_t type;
	SpanText text;
	double   real;
	bool     boolean;
	int64_t  integer;
	SpanText binary;
} TagValue;

static bool
add_tag(DecodeContext *context, TagList *tags, SpanText key, const TagValue *value)
{
	char  buffer[64];
	char *copy;

	switch (value->type)
	{
		case TAG_STRING:
			return tags_add(context, tags, key, any_text(value->text));
		case TAG_DOUBLE:
			return tags_add(context, tags, key, any_double(value->real));
		case TAG_BOOL:
			return tags_add(context, tags, key, any_bool(value->boolean));
		case TAG_LONG:
			return tags_add(context, tags, key, any_int(value->integer));
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
decode_tag(Thrift *in, DecodeContext *context, TagList *tags)
{
	SpanText     key = {NULL, 0};
	TagValue     value;
	ThriftStruct of = 0;
	uint32_t     field;

	memset(&value, 0, sizeof(value));
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return add_tag(context, tags, key, &value);
			case THRIFT_FIELD(1, THRIFT_STRING):
				good = thrift_string(in, &key);
				break;
			case THRIFT_FIELD(2, THRIFT_I32):
				good = thrift_u32(in, &value.type);
				break;
			case THRIFT_FIELD(3, THRIFT_STRING):
				good = thrift_string(in, &value.text);
				break;
			case THRIFT_FIELD(4, THRIFT_DOUBLE):
				good = thrift_double(in, &value.real);
				break;
			case THRIFT_FIELD(5, THRIFT_BOOL):
				good = thrift_bool(in, &value.boolean);
				break;
			case THRIFT_FIELD(6, THRIFT_I64):
				good = thrift_i64(in, &value.integer);
				break;
			case THRIFT_FIELD(7, THRIFT_STRING):
				good = thrift_string(in, &value.binary);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
}

static bool
decode_tags(Thrift *in, DecodeContext *context, TagList *tags)
{
	uint32_t count;

	if (!thrift_list(in, THRIFT_STRUCT, &count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!decode_tag(in, context, tags))
			return false;
	return true;
}

/* Ids are the bits of a number. */
static bool
read_id(Thrift *in, uint8_t *bytes)
{
	int64_t number;

	if (!thrift_i64(in, &number))
		return false;
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t) ((uint64_t) number >> (56 - 8 * i));
	return true;
}

/* A time or a duration, in microseconds; before 1970 is 1970. */
static bool
read_time(Thrift *in, uint64_t *time)
{
	int64_t number;

	if (!thrift_i64(in, &number))
		return false;
	*time = number < 0 ? 0 : nanoseconds((uint64_t) number);
	return true;
}

static bool
decode_reference(Thrift *in, DecodeContext *context, JaegerSpan *span)
{
	JaegerReference *reference = jaeger_add_reference(context, span);
	ThriftStruct     of = 0;
	uint32_t         field;
	uint32_t         type;

	if (reference == NULL)
		return false;
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return true;
			case THRIFT_FIELD(1, THRIFT_I32):
				good = thrift_u32(in, &type);
				if (good)
					reference->type = type == 0 ? JAEGER_CHILD_OF : JAEGER_FOLLOWS_FROM;
				break;
			case THRIFT_FIELD(2, THRIFT_I64):
				good = read_id(in, reference->trace_id.bytes + 8);
				break;
			case THRIFT_FIELD(3, THRIFT_I64):
				good = read_id(in, reference->trace_id.bytes);
				break;
			case THRIFT_FIELD(4, THRIFT_I64):
				good = read_id(in, reference->span_id.bytes);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
}

static bool
decode_log(Thrift *in, DecodeContext *context, JaegerSpan *span)
{
	JaegerLog   *log = jaeger_add_log(context, span);
	ThriftStruct of = 0;
	uint32_t     field;

	if (log == NULL)
		return false;
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return true;
			case THRIFT_FIELD(1, THRIFT_I64):
				good = read_time(in, &log->time);
				break;
			case THRIFT_FIELD(2, THRIFT_LIST):
				good = decode_tags(in, context, &log->fields);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
}

static bool
decode_list(Thrift *in, DecodeContext *context, JaegerSpan *span,
            bool (*decode)(Thrift *in, DecodeContext *context, JaegerSpan *span))
{
	uint32_t count;

	if (!thrift_list(in, THRIFT_STRUCT, &count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!decode(in, context, span))
			return false;
	return true;
}

static bool
decode_span_field(Thrift *in, uint32_t field, DecodeContext *context, JaegerSpan *span)
{
	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I64):
			return read_id(in, span->trace_id.bytes + 8);
		case THRIFT_FIELD(2, THRIFT_I64):
			return read_id(in, span->trace_id.bytes);
		case THRIFT_FIELD(3, THRIFT_I64):
			return read_id(in, span->id.bytes);
		case THRIFT_FIELD(4, THRIFT_I64):
			return read_id(in, span->parent_id.bytes);
		case THRIFT_FIELD(5, THRIFT_STRING):
			return thrift_string(in, &span->name);
		case THRIFT_FIELD(6, THRIFT_LIST):
			return decode_list(in, context, span, decode_reference);
		case THRIFT_FIELD(7, THRIFT_I32):
			return thrift_u32(in, &span->flags);
		case THRIFT_FIELD(8, THRIFT_I64):
			return read_time(in, &span->start);
		case THRIFT_FIELD(9, THRIFT_I64):
			return read_time(in, &span->duration);
		case THRIFT_FIELD(10, THRIFT_LIST):
			return decode_tags(in, context, &span->tags);
		case THRIFT_FIELD(11, THRIFT_LIST):
			return decode_list(in, context, span, decode_log);
		default:
			return thrift_skip(in, (int) (field & 0xFF), 0);
	}
}

static bool
decode_span(Thrift *in, DecodeContext *context, JaegerProcess *process)
{
	JaegerSpan   span;
	ThriftStruct of = 0;
	uint32_t     field;

	memset(&span, 0, sizeof(span));
	span.thrift = true;
	for (;;)
	{
		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			return jaeger_add(context, &span, process);
		if (!decode_span_field(in, field, context, &span))
			return false;
	}
}

static bool
decode_process(Thrift *in, DecodeContext *context, JaegerProcess *process)
{
	ThriftStruct of = 0;
	uint32_t     field;

	jaeger_process_begin(process);
	process->known = true;
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return true;
			case THRIFT_FIELD(1, THRIFT_STRING):
				good = thrift_string(in, &process->service);
				break;
			case THRIFT_FIELD(2, THRIFT_LIST):
				good = decode_tags(in, context, &process->tags);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
}

/*
 * The process may follow the spans, which need it: so the spans are stepped
 * over first and decoded at the end of the batch.  *count gets their number.
 */
static bool
decode_batch(Thrift *in, DecodeContext *context, uint32_t *count)
{
	JaegerProcess process;
	Thrift        spans = *in;
	ThriftStruct  of = 0;
	uint32_t      field;

	jaeger_process_begin(&process);
	/* of a batch before this one */
	*count = 0;
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			break;
		switch (field)
		{
			case THRIFT_FIELD(1, THRIFT_STRUCT):
				good = decode_process(in, context, &process);
				break;
			case THRIFT_FIELD(2, THRIFT_LIST):
				spans = *in;
				good = thrift_list(&spans, THRIFT_STRUCT, count) && thrift_skip(in, THRIFT_LIST, 0);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
	for (uint32_t i = 0; i < *count; i++)
		if (!decode_span(&spans, context, &process))
			return false;
	return true;
}

bool
decode_jaeger_thrift(const char *body, size_t len, const DecodeOptions *options,
                     SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Thrift        in = thrift_begin(body, len, false, error);
	uint32_t      count = 0;
	bool          success;

	success = context_begin(&context, options, batch, result, error) && decode_batch(&in, &context, &count);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count);
	return context_finish(&context, success);
}

/* The argument of emitBatch: a struct whose field 1 is the batch. */
static bool
decode_message(Thrift *in, DecodeContext *context, uint32_t *count)
{
	SpanText     name;
	ThriftStruct of = 0;
	uint32_t     field;
	int          type;

	if (!thrift_message(in, &name, &type))
		return false;
	if (!span_text_is(name, "emitBatch") || (type != THRIFT_ONEWAY && type != THRIFT_CALL))
		return span_error(context->error, SPAN_ERROR_INVALID, "Jaeger: the message is not emitBatch");
	for (;;)
	{
		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			return true;
		if (field == THRIFT_FIELD(1, THRIFT_STRUCT) ? !decode_batch(in, context, count) :
		                                              !thrift_skip(in, (int) (field & 0xFF), 0))
			return false;
	}
}

static bool
decode_datagram(const char *body, size_t len, bool compact, const DecodeOptions *options,
                SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Thrift        in = thrift_begin(body, len, compact, error);
	uint32_t      count = 0;
	bool          success;

	success = context_begin(&context, options, batch, result, error) && decode_message(&in, &context, &count);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count);
	return context_finish(&context, success);
}

bool
decode_jaeger_compact(const char *body, size_t len, const DecodeOptions *options,
                      SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode_datagram(body, len, true, options, batch, result, error);
}

bool
decode_jaeger_binary(const char *body, size_t len, const DecodeOptions *options,
                     SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode_datagram(body, len, false, options, batch, result, error);
}
