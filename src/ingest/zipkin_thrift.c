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

static bool
decode_endpoint(Thrift *in, DecodeContext *context, ZipkinEndpoint *endpoint)
{
	SpanText     ipv4 = {NULL, 0};
	SpanText     ipv6 = {NULL, 0};
	uint32_t     number;
	uint16_t     port = 0;
	ThriftStruct of = 0;
	uint32_t     field;

	memset(endpoint, 0, sizeof(*endpoint));
	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			break;
		switch (field)
		{
			case THRIFT_FIELD(1, THRIFT_I32):
				ipv4 = span_text((const char *) in->p, 4);
				good = thrift_u32(in, &number);
				if (good && number == 0)
					ipv4.len = 0;
				break;
			case THRIFT_FIELD(2, THRIFT_I16):
				good = thrift_u16(in, &port);
				break;
			case THRIFT_FIELD(3, THRIFT_STRING):
				good = thrift_string(in, &endpoint->service);
				break;
			case THRIFT_FIELD(4, THRIFT_STRING):
				good = thrift_string(in, &ipv6);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
	endpoint->port = port;
	return zipkin_address(context, ipv4, &endpoint->address) &&
	       (ipv6.len != 16 || zipkin_address(context, ipv6, &endpoint->address));
}

static bool
decode_annotation(Thrift *in, DecodeContext *context, ZipkinV1 *v1)
{
	ZipkinEndpoint endpoint;
	SpanText       text = {NULL, 0};
	int64_t        time = 0;
	bool           has_endpoint = false;
	ThriftStruct   of = 0;
	uint32_t       field;

	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return zipkin_v1_annotation(context, v1, time < 0 ? 0 : (uint64_t) time, text, has_endpoint, &endpoint);
			case THRIFT_FIELD(1, THRIFT_I64):
				good = thrift_i64(in, &time);
				break;
			case THRIFT_FIELD(2, THRIFT_STRING):
				good = thrift_string(in, &text);
				break;
			case THRIFT_FIELD(3, THRIFT_STRUCT):
				has_endpoint = true;
				good = decode_endpoint(in, context, &endpoint);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
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
decode_binary_annotation(Thrift *in, DecodeContext *context, ZipkinV1 *v1)
{
	ZipkinEndpoint endpoint;
	SpanText       key = {NULL, 0};
	SpanText       bytes = {NULL, 0};
	uint32_t       type = BINARY_STRING;
	bool           has_endpoint = false;
	ThriftStruct   of = 0;
	uint32_t       field;

	for (;;)
	{
		bool good;

		if (!thrift_field(in, &of, &field))
			return false;
		switch (field)
		{
			case THRIFT_STOP:
				return zipkin_v1_tag(context, v1, key, binary_value(bytes, type), has_endpoint, &endpoint);
			case THRIFT_FIELD(1, THRIFT_STRING):
				good = thrift_string(in, &key);
				break;
			case THRIFT_FIELD(2, THRIFT_STRING):
				good = thrift_string(in, &bytes);
				break;
			case THRIFT_FIELD(3, THRIFT_I32):
				good = thrift_u32(in, &type);
				break;
			case THRIFT_FIELD(4, THRIFT_STRUCT):
				has_endpoint = true;
				good = decode_endpoint(in, context, &endpoint);
				break;
			default:
				good = thrift_skip(in, (int) (field & 0xFF), 0);
		}
		if (!good)
			return false;
	}
}

static bool
decode_list(Thrift *in, DecodeContext *context, ZipkinV1 *v1,
            bool (*decode)(Thrift *in, DecodeContext *context, ZipkinV1 *v1))
{
	uint32_t count;

	if (!thrift_list(in, THRIFT_STRUCT, &count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!decode(in, context, v1))
			return false;
	return true;
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
decode_field(Thrift *in, uint32_t field, DecodeContext *context, ZipkinV1 *v1)
{
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
			return decode_list(in, context, v1, decode_annotation);
		case THRIFT_FIELD(8, THRIFT_LIST):
			return decode_list(in, context, v1, decode_binary_annotation);
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
			return thrift_skip(in, (int) (field & 0xFF), 0);
	}
}

static bool
decode_span(Thrift *in, DecodeContext *context)
{
	ZipkinV1     v1;
	ThriftStruct of = 0;
	uint32_t     field;

	zipkin_v1_begin(&v1);
	for (;;)
	{
		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			return zipkin_v1_add(context, &v1);
		if (!decode_field(in, field, context, &v1))
			return false;
	}
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
		success = decode_span(&in, &context);
	if (context.refused_counter != NULL)
		context_refused_spans(&context, count);
	return context_finish(&context, success);
}
