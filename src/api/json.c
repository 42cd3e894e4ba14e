/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Protobuf messages as JSON, and jsonb as protobuf messages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "api/json.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "span/ids.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* What a field's value takes in a message or in an array of a repeated field. */
static Size
value_size(ProtobufCType type)
{
	switch (type)
	{
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_SINT64:
		case PROTOBUF_C_TYPE_SFIXED64:
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
		case PROTOBUF_C_TYPE_DOUBLE:
			return 8;
		case PROTOBUF_C_TYPE_BOOL:
			return sizeof(protobuf_c_boolean);
		case PROTOBUF_C_TYPE_BYTES:
			return sizeof(ProtobufCBinaryData);
		case PROTOBUF_C_TYPE_STRING:
		case PROTOBUF_C_TYPE_MESSAGE:
			return sizeof(void *);
		default:
			return 4;
	}
}

/*
 * The name of a field in JSON: lowerCamel, but Tempo's search answers have
 * "traceID" and "spanID", which the .proto file spells so.
 */
static void
json_name(const char *name, char *out, Size size)
{
	Size n = 0;

	for (; *name && n < size - 1; name++)
	{
		if (*name == '_' && name[1])
			out[n++] = pg_toupper((unsigned char) *++name);
		else
			out[n++] = *name;
	}
	out[n] = '\0';
}

/* Fields of type "bytes" that are no text. */
static bool
is_id(const char *name)
{
	return strcmp(name, "trace_id") == 0 || strcmp(name, "span_id") == 0 ||
	       strcmp(name, "parent_span_id") == 0;
}

/* ------------------------------------------------------- message to JSON */

/* Is it zero, or the message absent? */
static bool
is_default(const ProtobufCFieldDescriptor *field, const void *value)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_BYTES:
			return ((const ProtobufCBinaryData *) value)->len == 0;
		case PROTOBUF_C_TYPE_MESSAGE:
			return *(void *const *) value == NULL;
		case PROTOBUF_C_TYPE_DOUBLE:
			/* minus zero is no default */
			return memcmp(value, "\0\0\0\0\0\0\0\0", 8) == 0;
		default:
			for (Size i = 0; i < value_size(field->type); i++)
			{
				if (((const char *) value)[i] != 0)
					return false;
			}
			return true;
	}
}

static void
write_bytes(ApiBody *body, const char *name, const ProtobufCBinaryData *value, JsonStyle style)
{
	bool id = is_id(name);

	if (!id && strcmp(name, "bytes_value") != 0)
	{
		body_json_string(body, (const char *) value->data, value->len);
		return;
	}

	body_char(body, '"');
	if (id && style == JSON_OTLP && value->len <= TRACE_ID_LEN)
	{
		char hex[2 * TRACE_ID_LEN + 1];

		id_to_hex(value->data, value->len, hex);
		body_text(body, hex);
	}
	else
		body_base64(body, value->data, value->len);
	body_char(body, '"');
}

static void write_message(ApiBody *body, const ProtobufCMessage *message, JsonStyle style, bool lists);

static void
write_value(ApiBody *body, const ProtobufCFieldDescriptor *field, const void *value, JsonStyle style)
{
	const ProtobufCEnumValue *name;

	switch (field->type)
	{
		case PROTOBUF_C_TYPE_INT64:
			body_printf(body, "\"" INT64_FORMAT "\"", *(const int64 *) value);
			break;
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
			body_printf(body, "\"" UINT64_FORMAT "\"", *(const uint64 *) value);
			break;
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_FIXED32:
			body_printf(body, "%u", *(const uint32 *) value);
			break;
		case PROTOBUF_C_TYPE_BOOL:
			body_text(body, *(const protobuf_c_boolean *) value ? "true" : "false");
			break;
		case PROTOBUF_C_TYPE_DOUBLE:
			body_json_double(body, *(const double *) value);
			break;
		case PROTOBUF_C_TYPE_ENUM:
			name = style == JSON_OTLP ? NULL :
			                            protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *) value);
			if (name)
				body_printf(body, "\"%s\"", name->name);
			else
				body_printf(body, "%d", *(const int *) value);
			break;
		case PROTOBUF_C_TYPE_BYTES:
			write_bytes(body, field->name, value, style);
			break;
		case PROTOBUF_C_TYPE_MESSAGE:
			write_message(body, *(const ProtobufCMessage *const *) value, style, false);
			break;
		default:
			elog(ERROR, "protobuf type %d has no JSON form here", (int) field->type);
	}
}

/* A map is a list of messages with the fields key and value. */
static bool
is_map(const ProtobufCFieldDescriptor *field)
{
	const char *name;
	Size        len;

	if (field->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	name = ((const ProtobufCMessageDescriptor *) field->descriptor)->short_name;
	len = strlen(name);
	return len > 5 && strcmp(name + len - 5, "Entry") == 0;
}

static void
write_repeated(ApiBody *body, const ProtobufCFieldDescriptor *field, const char *items, Size n,
               JsonStyle style)
{
	bool map = is_map(field);

	body_char(body, map ? '{' : '[');
	for (Size i = 0; i < n; i++)
	{
		const char *item = items + i * value_size(field->type);

		if (i > 0)
			body_char(body, ',');
		if (map)
		{
			const ProtobufCMessage         *entry = *(const ProtobufCMessage *const *) item;
			const ProtobufCFieldDescriptor *f = entry->descriptor->fields;

			write_value(body, &f[0], (const char *) entry + f[0].offset, style);
			body_char(body, ':');
			write_value(body, &f[1], (const char *) entry + f[1].offset, style);
		}
		else
			write_value(body, field, item, style);
	}
	body_char(body, map ? '}' : ']');
}

static void
write_message(ApiBody *body, const ProtobufCMessage *message, JsonStyle style, bool lists)
{
	const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
	unsigned                        n_fields = message->descriptor->n_fields;
	bool                            first = true;

	/*
	 * Fields come in the order of the .proto file, which is that of the
	 * struct; the descriptor has them by number.  They differ in Sample only.
	 */
	bool backwards = n_fields == 2 && fields[0].offset > fields[1].offset;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	body_char(body, '{');
	for (unsigned i = 0; i < n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &fields[backwards ? n_fields - 1 - i : i];
		const char                     *value = (const char *) message + field->offset;
		bool                            repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
		Size                            n = 0;
		char                            name[64];

		if (repeated)
		{
			n = *(const size_t *) ((const char *) message + field->quantifier_offset);
			if (n == 0 && !lists)
				continue;
		}
		else if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		{
			if (*(const uint32 *) ((const char *) message + field->quantifier_offset) != field->id)
				continue;
		}
		else if (is_default(field, value))
			continue;

		json_name(field->name, name, sizeof(name));
		if (!first)
			body_char(body, ',');
		first = false;
		body_char(body, '"');
		body_text(body, name);
		body_text(body, "\":");
		if (repeated)
			write_repeated(body, field, *(const char *const *) value, n, style);
		else
			write_value(body, field, value, style);
	}
	body_char(body, '}');
}

void
message_to_json(ApiBody *body, const ProtobufCMessage *message, JsonStyle style, bool lists)
{
	write_message(body, message, style, lists);
}

/* --------------------------------------------------- message to protobuf */

typedef struct BodyBuffer
{
	ProtobufCBuffer base;
	ApiBody        *body;
} BodyBuffer;

static void
append_to_body(ProtobufCBuffer *buffer, size_t len, const uint8_t *data)
{
	body_append(((BodyBuffer *) buffer)->body, data, len);
}

void
message_to_protobuf(ApiBody *body, const ProtobufCMessage *message)
{
	BodyBuffer buffer = {{append_to_body}, body};

	protobuf_c_message_pack_to_buffer(message, &buffer.base);
}

/* ------------------------------------------------------ jsonb to message */

static void
wrong_type(const ProtobufCFieldDescriptor *field)
{
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("member \"%s\" has the wrong JSON type", field->name)));
}

static char *
jsonb_text(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Numbers come as JSON numbers or, 64-bit ones and NaN, as strings. */
static Numeric
read_numeric(const ProtobufCFieldDescriptor *field, const JsonbValue *value)
{
	if (value->type == jbvNumeric)
		return value->val.numeric;
	if (value->type != jbvString)
		wrong_type(field);
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(jsonb_text(value)),
	                                           ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static void
read_bytes(const ProtobufCFieldDescriptor *field, const JsonbValue *value, ProtobufCBinaryData *out)
{
	if (value->type != jbvString)
		wrong_type(field);
	out->data = (uint8_t *) value->val.string.val;
	out->len = value->val.string.len;
	if (strcmp(field->name, "bytes_value") == 0)
	{
		int      room = pg_b64_dec_len(value->val.string.len);
		uint8_t *decoded = palloc(room + 1);
		int      len = pg_b64_decode(value->val.string.val, value->val.string.len,
		                             (void *) decoded, room);

		if (len < 0)
			wrong_type(field);
		out->data = decoded;
		out->len = len;
	}
}

static void
read_value(const ProtobufCFieldDescriptor *field, const JsonbValue *value, void *out)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
			*(int64 *) out = DatumGetInt64(DirectFunctionCall1(numeric_int8,
			                                                   NumericGetDatum(read_numeric(field, value))));
			break;
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_FIXED32:
			*(uint32 *) out = (uint32) DatumGetInt64(DirectFunctionCall1(numeric_int8,
			                                                             NumericGetDatum(read_numeric(field, value))));
			break;
		case PROTOBUF_C_TYPE_DOUBLE:
			*(double *) out = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
			                                                     NumericGetDatum(read_numeric(field, value))));
			break;
		case PROTOBUF_C_TYPE_BOOL:
			if (value->type != jbvBool)
				wrong_type(field);
			*(protobuf_c_boolean *) out = value->val.boolean;
			break;
		case PROTOBUF_C_TYPE_BYTES:
			read_bytes(field, value, out);
			break;
		case PROTOBUF_C_TYPE_MESSAGE:
			if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
				wrong_type(field);
			*(ProtobufCMessage **) out = message_from_jsonb(field->descriptor, value->val.binary.data);
			break;
		default:
			wrong_type(field);
	}
}

static void
read_map(const ProtobufCFieldDescriptor *field, JsonbContainer *object, ProtobufCMessage **out)
{
	JsonbIterator     *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue         value;
	Size               n = 0;

	(void) JsonbIteratorNext(&it, &value, true);
	while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_KEY)
	{
		const ProtobufCMessageDescriptor *descriptor = field->descriptor;
		ProtobufCMessage                 *entry = palloc0(descriptor->sizeof_message);

		protobuf_c_message_init(descriptor, entry);
		read_value(&descriptor->fields[0], &value, (char *) entry + descriptor->fields[0].offset);
		(void) JsonbIteratorNext(&it, &value, true);
		read_value(&descriptor->fields[1], &value, (char *) entry + descriptor->fields[1].offset);
		out[n++] = entry;
	}
}

static void
read_repeated(const ProtobufCFieldDescriptor *field, JsonbContainer *list, ProtobufCMessage *message)
{
	Size  n = JsonContainerSize(list);
	char *items = palloc0(n * value_size(field->type) + 1);

	if (is_map(field))
	{
		if (!JsonContainerIsObject(list))
			wrong_type(field);
		read_map(field, list, (ProtobufCMessage **) items);
	}
	else
	{
		if (!JsonContainerIsArray(list))
			wrong_type(field);
		for (Size i = 0; i < n; i++)
			read_value(field, getIthJsonbValueFromContainer(list, i),
			           items + i * value_size(field->type));
	}
	*(size_t *) ((char *) message + field->quantifier_offset) = n;
	*(char **) ((char *) message + field->offset) = items;
}

ProtobufCMessage *
message_from_jsonb(const ProtobufCMessageDescriptor *descriptor, JsonbContainer *object)
{
	ProtobufCMessage *message = palloc0(descriptor->sizeof_message);

	check_stack_depth();
	protobuf_c_message_init(descriptor, message);
	for (unsigned i = 0; i < descriptor->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		char                            name[64];
		JsonbValue                     *value;

		json_name(field->name, name, sizeof(name));
		value = getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
		if (value == NULL || value->type == jbvNull)
			continue;
		if (field->label == PROTOBUF_C_LABEL_REPEATED)
		{
			if (value->type != jbvBinary)
				wrong_type(field);
			read_repeated(field, value->val.binary.data, message);
			continue;
		}
		read_value(field, value, (char *) message + field->offset);
		if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
			*(uint32 *) ((char *) message + field->quantifier_offset) = field->id;
	}
	return message;
}
