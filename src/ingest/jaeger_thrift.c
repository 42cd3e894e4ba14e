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

typedef struct ThriftTag
{
	SpanText key;
	uint32_t type;
	SpanText text;
	double   real;
	bool     boolean;
	int64_t  integer;
	SpanText binary;
} ThriftTag;

static bool
add_tag(DecodeContext *context, TagList *tags, const ThriftTag *tag)
{
	char  buffer[64];
	char *copy;

	switch (tag->type)
	{
		case TAG_STRING:
			return tags_add(context, tags, tag->key, any_text(tag->text));
		case TAG_DOUBLE:
			return tags_add(context, tags, tag->key, any_double(tag->real));
		case TAG_BOOL:
			return tags_add(context, tags, tag->key, any_bool(tag->boolean));
		case TAG_LONG:
			return tags_add(context, tags, tag->key, any_int(tag->integer));
		case TAG_BINARY:
			return tags_add(context, tags, tag->key, any_bytes(tag->binary));
	}
	snprintf(buffer, sizeof(buffer), "<Unknown Jaeger TagType %u>", tag->type);
	copy = arena_copy(context->arena, buffer, strlen(buffer));
	if (copy == NULL)
		return context_no_memory(context);
	return tags_add(context, tags, tag->key, any_text(span_text(copy, (uint32_t) strlen(buffer))));
}

static bool
read_tag_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	ThriftTag *tag = object;

	(void) context;
	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_STRING):
			return thrift_string(in, &tag->key);
		case THRIFT_FIELD(2, THRIFT_I32):
			return thrift_u32(in, &tag->type);
		case THRIFT_FIELD(3, THRIFT_STRING):
			return thrift_string(in, &tag->text);
		case THRIFT_FIELD(4, THRIFT_DOUBLE):
			return thrift_double(in, &tag->real);
		case THRIFT_FIELD(5, THRIFT_BOOL):
			return thrift_bool(in, &tag->boolean);
		case THRIFT_FIELD(6, THRIFT_I64):
			return thrift_i64(in, &tag->integer);
		case THRIFT_FIELD(7, THRIFT_STRING):
			return thrift_string(in, &tag->binary);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_tag(Thrift *in, DecodeContext *context, void *tags)
{
	ThriftTag tag;

	memset(&tag, 0, sizeof(tag));
	return thrift_struct(in, read_tag_field, context, &tag) && add_tag(context, tags, &tag);
}

static bool
read_tags(Thrift *in, DecodeContext *context, TagList *tags)
{
	return thrift_structs(in, read_tag, context, tags);
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
read_reference_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	JaegerReference *reference = object;
	uint32_t         type;

	(void) context;
	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I32):
			if (!thrift_u32(in, &type))
				return false;
			reference->type = type == 0 ? JAEGER_CHILD_OF : JAEGER_FOLLOWS_FROM;
			return true;
		case THRIFT_FIELD(2, THRIFT_I64):
			return read_id(in, reference->trace_id.bytes + 8);
		case THRIFT_FIELD(3, THRIFT_I64):
			return read_id(in, reference->trace_id.bytes);
		case THRIFT_FIELD(4, THRIFT_I64):
			return read_id(in, reference->span_id.bytes);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_reference(Thrift *in, DecodeContext *context, void *span)
{
	JaegerReference *reference = jaeger_add_reference(context, span);

	return reference != NULL && thrift_struct(in, read_reference_field, context, reference);
}

static bool
read_log_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	JaegerLog *log = object;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I64):
			return read_time(in, &log->time);
		case THRIFT_FIELD(2, THRIFT_LIST):
			return read_tags(in, context, &log->fields);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_log(Thrift *in, DecodeContext *context, void *span)
{
	JaegerLog *log = jaeger_add_log(context, span);

	return log != NULL && thrift_struct(in, read_log_field, context, log);
}

static bool
read_span_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	JaegerSpan *span = object;

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
			return thrift_structs(in, read_reference, context, span);
		case THRIFT_FIELD(7, THRIFT_I32):
			return thrift_u32(in, &span->flags);
		case THRIFT_FIELD(8, THRIFT_I64):
			return read_time(in, &span->start);
		case THRIFT_FIELD(9, THRIFT_I64):
			return read_time(in, &span->duration);
		case THRIFT_FIELD(10, THRIFT_LIST):
			return read_tags(in, context, &span->tags);
		case THRIFT_FIELD(11, THRIFT_LIST):
			return thrift_structs(in, read_log, context, span);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_span(Thrift *in, DecodeContext *context, JaegerProcess *process)
{
	JaegerSpan span;

	memset(&span, 0, sizeof(span));
	span.thrift = true;
	return thrift_struct(in, read_span_field, context, &span) && jaeger_add(context, &span, process);
}

static bool
read_process_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	JaegerProcess *process = object;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_STRING):
			return thrift_string(in, &process->service);
		case THRIFT_FIELD(2, THRIFT_LIST):
			return read_tags(in, context, &process->tags);
		default:
			return thrift_other(in, field);
	}
}

typedef struct Batch
{
	JaegerProcess process;
	Thrift        spans; /* where they are */
	uint32_t      count;
} Batch;

static bool
read_batch_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	Batch *batch = object;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_STRUCT):
			jaeger_process_begin(&batch->process);
			batch->process.known = true;
			return thrift_struct(in, read_process_field, context, &batch->process);
		case THRIFT_FIELD(2, THRIFT_LIST):
			batch->spans = *in;
			return thrift_list(&batch->spans, THRIFT_STRUCT, &batch->count) && thrift_other(in, field);
		default:
			return thrift_other(in, field);
	}
}

/*
 * The process may follow the spans, which need it: so the spans are stepped
 * over first and decoded at the end of the batch.  *count gets their number.
 */
static bool
read_batch(Thrift *in, DecodeContext *context, uint32_t *count)
{
	Batch batch = {.spans = *in};
	bool  success;

	jaeger_process_begin(&batch.process);
	success = thrift_struct(in, read_batch_field, context, &batch);
	*count = batch.count;
	for (uint32_t i = 0; success && i < batch.count; i++)
		success = read_span(&batch.spans, context, &batch.process);
	return success;
}

/* The argument of emitBatch: a struct whose field 1 is the batch. */
static bool
read_argument(Thrift *in, uint32_t field, DecodeContext *context, void *count)
{
	return field == THRIFT_FIELD(1, THRIFT_STRUCT) ? read_batch(in, context, count) : thrift_other(in, field);
}

static bool
read_message(Thrift *in, DecodeContext *context, uint32_t *count)
{
	SpanText name;
	int      type;

	if (!thrift_message(in, &name, &type))
		return false;
	if (!span_text_is(name, "emitBatch") || (type != THRIFT_ONEWAY && type != THRIFT_CALL))
		return span_error(context->error, SPAN_ERROR_INVALID, "Jaeger: the message is not emitBatch");
	return thrift_struct(in, read_argument, context, count);
}

static bool
decode(Thrift in, bool (*read)(Thrift *in, DecodeContext *context, uint32_t *count), const DecodeOptions *options,
       SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	uint32_t      count = 0;
	bool          success;

	success = context_begin(&context, options, batch, result, error) && read(&in, &context, &count);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count);
	return context_finish(&context, success);
}

bool
decode_jaeger_thrift(const char *body, size_t len, const DecodeOptions *options,
                     SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode(thrift_begin(body, len, false, error), read_batch, options, batch, result, error);
}

bool
decode_jaeger_compact(const char *body, size_t len, const DecodeOptions *options,
                      SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode(thrift_begin(body, len, true, error), read_message, options, batch, result, error);
}

bool
decode_jaeger_binary(const char *body, size_t len, const DecodeOptions *options,
                     SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	return decode(thrift_begin(body, len, false, error), read_message, options, batch, result, error);
}
