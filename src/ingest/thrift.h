/*-------------------------------------------------------------------------
 *
 * thrift.h
 *	  Reading Thrift's binary and compact protocols in place.
 *
 * Decoders are written once: types are those of the binary protocol, and a
 * struct being read carries the id of its last field, which only the compact
 * protocol needs.
 *
 * Our own, because the C library of Apache Thrift is built on GLib, allocates
 * every value, and trusts the counts it reads.  Here a count is believed only
 * as far as there are bytes for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_THRIFT_H
#define TEMPO_INGEST_THRIFT_H

#include <string.h>

#include "ingest/context.h"
#include "span/error.h"
#include "span/value.h"

/* Unknown structs and containers may nest this deep. */
#define THRIFT_MAX_DEPTH 64

enum
{
	THRIFT_STOP = 0,
	THRIFT_BOOL = 2,
	THRIFT_BYTE = 3,
	THRIFT_DOUBLE = 4,
	THRIFT_I16 = 6,
	THRIFT_I32 = 8,
	THRIFT_I64 = 10,
	THRIFT_STRING = 11,
	THRIFT_STRUCT = 12,
	THRIFT_MAP = 13,
	THRIFT_SET = 14,
	THRIFT_LIST = 15
};

/* A field of a struct: its id and type in one number. */
#define THRIFT_FIELD(id, type) (((id) << 8) | (type))

/* A message's type: what callers that expect no answer send. */
enum
{
	THRIFT_CALL = 1,
	THRIFT_ONEWAY = 4
};

typedef struct Thrift
{
	const uint8_t *p;
	const uint8_t *end;
	SpanError     *error;
	bool           compact;
	int8_t         flag; /* compact: the boolean that a field's head held, -1 = none */
} Thrift;

/* A struct being read: the id of its last field.  Starts as 0. */
typedef int16_t ThriftStruct;

static inline Thrift
thrift_begin(const void *data, size_t len, bool compact, SpanError *error)
{
	Thrift in = {(const uint8_t *) data, (const uint8_t *) data + len, error, compact, -1};

	return in;
}

static inline bool
thrift_malformed(Thrift *in, const char *what)
{
	(void) span_error(in->error, SPAN_ERROR_INVALID, "malformed Thrift: %s", what);
	return false;
}

static inline bool
thrift_number(Thrift *in, int bytes, uint64_t *value)
{
	if (in->end - in->p < bytes)
		return thrift_malformed(in, "cut short");
	*value = 0;
	for (int i = 0; i < bytes; i++)
		*value = *value << 8 | *in->p++;
	return true;
}

/* An unsigned number of up to 64 bits, seven a byte. */
static inline bool
thrift_varint(Thrift *in, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 70; shift += 7)
	{
		uint8_t byte;

		if (in->p == in->end)
			return thrift_malformed(in, "cut short");
		byte = *in->p++;
		*value |= (uint64_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return true;
	}
	return thrift_malformed(in, "a number has more than 64 bits");
}

/* A signed number: of so many bytes, or in the compact protocol a varint with the sign in its last bit. */
static inline bool
thrift_integer(Thrift *in, int bytes, uint64_t *value)
{
	if (!in->compact)
		return thrift_number(in, bytes, value);
	if (!thrift_varint(in, value))
		return false;
	*value = (*value >> 1) ^ (~(*value & 1) + 1);
	return true;
}

static inline bool
thrift_u16(Thrift *in, uint16_t *value)
{
	uint64_t wide;

	if (!thrift_integer(in, 2, &wide))
		return false;
	*value = (uint16_t) wide;
	return true;
}

static inline bool
thrift_u32(Thrift *in, uint32_t *value)
{
	uint64_t wide;

	if (!thrift_integer(in, 4, &wide))
		return false;
	*value = (uint32_t) wide;
	return true;
}

static inline bool
thrift_i64(Thrift *in, int64_t *value)
{
	uint64_t wide;

	if (!thrift_integer(in, 8, &wide))
		return false;
	*value = (int64_t) wide;
	return true;
}

/* Big-endian; little-endian in the compact protocol. */
static inline bool
thrift_double(Thrift *in, double *value)
{
	uint64_t wide;

	if (!thrift_number(in, 8, &wide))
		return false;
	if (in->compact)
		wide = __builtin_bswap64(wide);
	memcpy(value, &wide, 8);
	return true;
}

static inline bool
thrift_bool(Thrift *in, bool *value)
{
	uint64_t wide;

	if (in->flag >= 0)
	{
		*value = in->flag == 1;
		in->flag = -1;
		return true;
	}
	if (!thrift_number(in, 1, &wide))
		return false;
	*value = in->compact ? wide == 1 : wide != 0;
	return true;
}

/* A count of bytes or elements: each element has a byte at least. */
static inline bool
thrift_size(Thrift *in, uint64_t *size)
{
	if (in->compact ? !thrift_varint(in, size) : !thrift_number(in, 4, size))
		return false;
	if (*size > (uint64_t) (in->end - in->p))
		return thrift_malformed(in, "more announced than there is");
	return true;
}

static inline bool
thrift_string(Thrift *in, SpanText *text)
{
	uint64_t len;

	if (!thrift_size(in, &len))
		return false;
	if (len > UINT32_MAX)
		return thrift_malformed(in, "a string is too long");
	*text = span_text((const char *) in->p, (uint32_t) len);
	in->p += len;
	return true;
}

/* A type of the compact protocol in the numbers of the binary one; -1 = unknown. */
static inline int
thrift_compact_type(unsigned int type)
{
	static const int8_t types[] = {
		THRIFT_STOP, THRIFT_BOOL, THRIFT_BOOL, THRIFT_BYTE, THRIFT_I16, THRIFT_I32, THRIFT_I64,
		THRIFT_DOUBLE, THRIFT_STRING, THRIFT_LIST, THRIFT_SET, THRIFT_MAP, THRIFT_STRUCT};

	return type < sizeof(types) ? types[type] : -1;
}

static inline bool
thrift_compact_field(Thrift *in, ThriftStruct *of, uint8_t head, uint32_t *field)
{
	int      type = thrift_compact_type(head & 15);
	uint16_t id;

	if (type <= THRIFT_STOP)
		return thrift_malformed(in, "unknown type");
	if (head >> 4 != 0)
		id = (uint16_t) (*of + (head >> 4));
	else if (!thrift_u16(in, &id))
		return false;
	*of = (ThriftStruct) id;
	if (type == THRIFT_BOOL)
		in->flag = (head & 15) == 1;
	*field = THRIFT_FIELD((uint32_t) id, (uint32_t) type);
	return true;
}

/* The next field of a struct; THRIFT_STOP at its end. */
static inline bool
thrift_field(Thrift *in, ThriftStruct *of, uint32_t *field)
{
	uint64_t type;
	uint16_t id;

	*field = THRIFT_STOP;
	if (!thrift_number(in, 1, &type))
		return false;
	if (type == THRIFT_STOP)
		return true;
	if (in->compact)
		return thrift_compact_field(in, of, (uint8_t) type, field);
	if (!thrift_u16(in, &id))
		return false;
	*field = THRIFT_FIELD((uint32_t) id, (uint32_t) type);
	return true;
}

/* The head of a list or set. */
static inline bool
thrift_any_list(Thrift *in, int *type, uint64_t *count)
{
	uint64_t head;

	if (!thrift_number(in, 1, &head))
		return false;
	*type = in->compact ? thrift_compact_type(head & 15) : (int) head;
	if (in->compact && head >> 4 != 15)
	{
		*count = head >> 4;
		return *count <= (uint64_t) (in->end - in->p) || thrift_malformed(in, "more announced than there is");
	}
	return thrift_size(in, count);
}

/* The same where elements of one type are wanted. */
static inline bool
thrift_list(Thrift *in, int wanted, uint32_t *count)
{
	uint64_t wide;
	int      type;

	if (!thrift_any_list(in, &type, &wide))
		return false;
	if (wide > 0 && type != wanted)
		return thrift_malformed(in, "a list has elements of a wrong type");
	if (wide > UINT32_MAX)
		return thrift_malformed(in, "a list is too long");
	*count = (uint32_t) wide;
	return true;
}

/* The head of a map. */
static inline bool
thrift_map(Thrift *in, int types[2], uint64_t *count)
{
	uint64_t head;

	if (!in->compact)
	{
		for (int i = 0; i < 2; i++)
		{
			if (!thrift_number(in, 1, &head))
				return false;
			types[i] = (int) head;
		}
		return thrift_size(in, count);
	}
	if (!thrift_size(in, count))
		return false;
	if (*count == 0)
		return true;
	if (!thrift_number(in, 1, &head))
		return false;
	types[0] = thrift_compact_type((unsigned int) head >> 4);
	types[1] = thrift_compact_type(head & 15);
	return true;
}

static inline bool thrift_skip(Thrift *in, int type, int depth);

/* Steps over the elements of a list, set or map, of which each has one or two parts. */
static inline bool
thrift_skip_elements(Thrift *in, const int *types, int n_types, uint64_t count, int depth)
{
	for (uint64_t element = 0; element < count; element++)
		for (int i = 0; i < n_types; i++)
			if (!thrift_skip(in, types[i], depth + 1))
				return false;
	return true;
}

static inline bool
thrift_skip(Thrift *in, int type, int depth)
{
	ThriftStruct of = 0;
	uint64_t     number;
	SpanText     text;
	uint32_t     field;
	int          types[2];
	bool         boolean;
	double       real;

	if (depth > THRIFT_MAX_DEPTH)
	{
		(void) span_error(in->error, SPAN_ERROR_LIMIT, "Thrift values are nested too deeply");
		return false;
	}
	switch (type)
	{
		case THRIFT_BOOL:
			return thrift_bool(in, &boolean);
		case THRIFT_BYTE:
			return thrift_number(in, 1, &number);
		case THRIFT_I16:
			return thrift_integer(in, 2, &number);
		case THRIFT_I32:
			return thrift_integer(in, 4, &number);
		case THRIFT_I64:
			return thrift_integer(in, 8, &number);
		case THRIFT_DOUBLE:
			return thrift_double(in, &real);
		case THRIFT_STRING:
			return thrift_string(in, &text);
		case THRIFT_STRUCT:
			do
			{
				if (!thrift_field(in, &of, &field) ||
				    (field != THRIFT_STOP && !thrift_skip(in, (int) (field & 0xFF), depth + 1)))
					return false;
			} while (field != THRIFT_STOP);
			return true;
		case THRIFT_MAP:
			return thrift_map(in, types, &number) && thrift_skip_elements(in, types, 2, number, depth);
		case THRIFT_SET:
		case THRIFT_LIST:
			return thrift_any_list(in, types, &number) && thrift_skip_elements(in, types, 1, number, depth);
		default:
			return thrift_malformed(in, "unknown type");
	}
}

/* The head of a message, strict or old form. */
static inline bool
thrift_message(Thrift *in, SpanText *name, int *type)
{
	uint64_t head;
	uint64_t number;

	if (in->compact)
	{
		if (!thrift_number(in, 1, &head) || !thrift_number(in, 1, &number))
			return false;
		if (head != 0x82 || (number & 0x1F) != 1)
			return thrift_malformed(in, "no message of the compact protocol");
		*type = (int) (number >> 5);
		return thrift_varint(in, &number) && thrift_string(in, name);
	}
	if (in->p < in->end && (*in->p & 0x80) != 0)
	{
		if (!thrift_number(in, 4, &head))
			return false;
		if (head >> 16 != 0x8001)
			return thrift_malformed(in, "no message of the binary protocol");
		*type = (int) (head & 0xFF);
		return thrift_string(in, name) && thrift_number(in, 4, &number);
	}
	if (!thrift_string(in, name) || !thrift_number(in, 1, &head) || !thrift_number(in, 4, &number))
		return false;
	*type = (int) head;
	return true;
}

/* ---------------------------------------------------- structs and lists */

/* Reads a field of a struct; thrift_other() those that it does not know. */
typedef bool (*ThriftField)(Thrift *in, uint32_t field, DecodeContext *context, void *object);

/* Reads one of a list. */
typedef bool (*ThriftElement)(Thrift *in, DecodeContext *context, void *object);

static inline bool
thrift_other(Thrift *in, uint32_t field)
{
	return thrift_skip(in, (int) (field & 0xFF), 0);
}

static inline bool
thrift_struct(Thrift *in, ThriftField read, DecodeContext *context, void *object)
{
	ThriftStruct of = 0;
	uint32_t     field;

	for (;;)
	{
		if (!thrift_field(in, &of, &field))
			return false;
		if (field == THRIFT_STOP)
			return true;
		if (!read(in, field, context, object))
			return false;
	}
}

/* A list of structs */
static inline bool
thrift_structs(Thrift *in, ThriftElement read, DecodeContext *context, void *object)
{
	uint32_t count;

	if (!thrift_list(in, THRIFT_STRUCT, &count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!read(in, context, object))
			return false;
	return true;
}

#endif /* TEMPO_INGEST_THRIFT_H */
