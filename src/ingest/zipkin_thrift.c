/*-------------------------------------------------------------------------
 *
 * zipkin_thrift.c
 *	  Zipkin's version 1 in Thrift: a bare list of spans.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/thrift.h"
#include "ingest/zipkin_v1.h"

/* The types of a binary annotation. */
enum
{
	BINARY_BOOL,
	BINARY_BYTES,
	BINARY_I16,
	BINARY_I32,
	BINARY_I64,
	BINARY_DOUBLE,
	BINARY_STRING
};

typedef struct Endpoint
{
	SpanText service;
	SpanText ipv4;
	SpanText ipv6;
	uint16_t port;
} Endpoint;

static bool
read_endpoint_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	Endpoint *endpoint = object;
	uint32_t  number;

	(void) context;
	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I32):
			endpoint->ipv4 = span_text((const char *) in->p, 4);
			if (!thrift_u32(in, &number))
				return false;
			if (number == 0)
				endpoint->ipv4.len = 0;
			return true;
		case THRIFT_FIELD(2, THRIFT_I16):
			return thrift_u16(in, &endpoint->port);
		case THRIFT_FIELD(3, THRIFT_STRING):
			return thrift_string(in, &endpoint->service);
		case THRIFT_FIELD(4, THRIFT_STRING):
			return thrift_string(in, &endpoint->ipv6);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_endpoint(Thrift *in, DecodeContext *context, ZipkinEndpoint *endpoint)
{
	Endpoint found;

	memset(&found, 0, sizeof(found));
	memset(endpoint, 0, sizeof(*endpoint));
	if (!thrift_struct(in, read_endpoint_field, context, &found))
		return false;
	endpoint->service = found.service;
	endpoint->port = found.port;
	return zipkin_address(context, found.ipv4, &endpoint->address) &&
	       (found.ipv6.len != 16 || zipkin_address(context, found.ipv6, &endpoint->address));
}

/* An annotation, or a binary one */
typedef struct Annotation
{
	ZipkinEndpoint endpoint;
	bool           has_endpoint;
	int64_t        time;
	SpanText       text; /* or the key */
	SpanText       bytes;
	uint32_t       type;
} Annotation;

static bool
read_annotation_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	Annotation *annotation = object;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I64):
			return thrift_i64(in, &annotation->time);
		case THRIFT_FIELD(2, THRIFT_STRING):
			return thrift_string(in, &annotation->text);
		case THRIFT_FIELD(3, THRIFT_STRUCT):
			annotation->has_endpoint = true;
			return read_endpoint(in, context, &annotation->endpoint);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_annotation(Thrift *in, DecodeContext *context, void *v1)
{
	Annotation annotation;

	memset(&annotation, 0, sizeof(annotation));
	return thrift_struct(in, read_annotation_field, context, &annotation) &&
	       zipkin_v1_annotation(context, v1, annotation.time < 0 ? 0 : (uint64_t) annotation.time, annotation.text,
	                            annotation.has_endpoint, &annotation.endpoint);
}

/* The value of a binary annotation; of a wrong length it is bytes. */
static AnyValue
binary_value(SpanText bytes, uint32_t type)
{
	Thrift   in = thrift_begin(bytes.data, bytes.len, false, NULL);
	uint64_t number;
	double   real;

	switch (type)
	{
		case BINARY_STRING:
			return any_text(bytes);
		case BINARY_BOOL:
			if (bytes.len == 1)
				return any_bool(bytes.data[0] != 0);
			break;
		case BINARY_I16:
			if (bytes.len == 2 && thrift_number(&in, 2, &number))
				return any_int((int16_t) number);
			break;
		case BINARY_I32:
			if (bytes.len == 4 && thrift_number(&in, 4, &number))
				return any_int((int32_t) number);
			break;
		case BINARY_I64:
			if (bytes.len == 8 && thrift_number(&in, 8, &number))
				return any_int((int64_t) number);
			break;
		case BINARY_DOUBLE:
			if (bytes.len == 8 && thrift_double(&in, &real))
				return any_double(real);
			break;
	}
	return any_bytes(bytes);
}

static bool
read_binary_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	Annotation *annotation = object;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_STRING):
			return thrift_string(in, &annotation->text);
		case THRIFT_FIELD(2, THRIFT_STRING):
			return thrift_string(in, &annotation->bytes);
		case THRIFT_FIELD(3, THRIFT_I32):
			return thrift_u32(in, &annotation->type);
		case THRIFT_FIELD(4, THRIFT_STRUCT):
			annotation->has_endpoint = true;
			return read_endpoint(in, context, &annotation->endpoint);
		default:
			return thrift_other(in, field);
	}
}

static bool
read_binary(Thrift *in, DecodeContext *context, void *v1)
{
	Annotation annotation;

	memset(&annotation, 0, sizeof(annotation));
	annotation.type = BINARY_STRING;
	return thrift_struct(in, read_binary_field, context, &annotation) &&
	       zipkin_v1_tag(context, v1, annotation.text, binary_value(annotation.bytes, annotation.type),
	                     annotation.has_endpoint, &annotation.endpoint);
}

static bool
read_id(Thrift *in, uint8_t *bytes)
{
	int64_t unused;

	if (!thrift_i64(in, &unused))
		return false;
	memcpy(bytes, in->p - 8, 8);
	return true;
}

static bool
read_span_field(Thrift *in, uint32_t field, DecodeContext *context, void *object)
{
	ZipkinV1   *v1 = object;
	ZipkinSpan *span = &v1->span;
	int64_t     number;

	switch (field)
	{
		case THRIFT_FIELD(1, THRIFT_I64):
			return read_id(in, span->trace_id.bytes + 8);
		case THRIFT_FIELD(12, THRIFT_I64):
			return read_id(in, span->trace_id.bytes);
		case THRIFT_FIELD(3, THRIFT_STRING):
			return thrift_string(in, &span->name);
		case THRIFT_FIELD(4, THRIFT_I64):
			return read_id(in, span->id.bytes);
		case THRIFT_FIELD(5, THRIFT_I64):
			return read_id(in, span->parent_id.bytes);
		case THRIFT_FIELD(6, THRIFT_LIST):
			return thrift_structs(in, read_annotation, context, v1);
		case THRIFT_FIELD(8, THRIFT_LIST):
			return thrift_structs(in, read_binary, context, v1);
		case THRIFT_FIELD(10, THRIFT_I64):
			if (!thrift_i64(in, &number))
				return false;
			span->start = number < 0 ? 0 : (uint64_t) number;
			return true;
		case THRIFT_FIELD(11, THRIFT_I64):
			if (!thrift_i64(in, &number))
				return false;
			span->duration = number < 0 ? 0 : (uint64_t) number;
			return true;
		default:
			return thrift_other(in, field);
	}
}

static bool
read_span(Thrift *in, DecodeContext *context)
{
	ZipkinV1 v1;

	zipkin_v1_begin(&v1);
	return thrift_struct(in, read_span_field, context, &v1) && zipkin_v1_add(context, &v1);
}

bool
decode_zipkin_thrift(const char *body, size_t len, const DecodeOptions *options,
                     SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext context;
	Thrift        in = thrift_begin(body, len, false, error);
	uint32_t      count = 0;
	bool          success;

	success = context_begin(&context, options, batch, result, error) && thrift_list(&in, THRIFT_STRUCT, &count);
	for (uint32_t i = 0; success && i < count; i++)
		success = read_span(&in, &context);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count);
	return context_finish(&context, success);
}
