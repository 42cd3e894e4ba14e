/*-------------------------------------------------------------------------
 *
 * thrift.h
 *	  Reading Thrift's binary protocol in place.
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

typedef struct Thrift
{
	const uint8_t *p;
	const uint8_t *end;
	SpanError  *error;
} Thrift;

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

static inline bool
thrift_u16(Thrift *in, uint16_t *value)
{
	uint64_t	wide;

	if (!thrift_number(in, 2, &wide))
		return false;
	*value = (uint16_t) wide;
	return true;
}

static inline bool
thrift_u32(Thrift *in, uint32_t *value)
{
	uint64_t	wide;

	if (!thrift_number(in, 4, &wide))
		return false;
	*value = (uint32_t) wide;
	return true;
}

static inline bool
thrift_i64(Thrift *in, int64_t *value)
{
	uint64_t	wide;

	if (!thrift_number(in, 8, &wide))
		return false;
	*value = (int64_t) wide;
	return true;
}

static inline bool
thrift_double(Thrift *in, double *value)
{
	uint64_t	wide;

	if (!thrift_number(in, 8, &wide))
		return false;
	memcpy(value, &wide, 8);
	return true;
}

static inline bool
thrift_bool(Thrift *in, bool *value)
{
	uint64_t	wide;

	if (!thrift_number(in, 1, &wide))
		return false;
	*value = wide != 0;
	return true;
}

static inline bool
thrift_string(Thrift *in, SpanText *text)
{
	uint32_t	len;

	if (!thrift_u32(in, &len))
		return false;
	if (len > (uint64_t) (in->end - in->p))
		return thrift_malformed(in, "length beyond the end");
	*text = span_text((const char *) in->p, len);
	in->p += len;
	return true;
}

/* The next field of a struct; THRIFT_STOP at its end. */
static inline bool
thrift_field(Thrift *in, uint32_t *field)
{
	uint64_t	type;
	uint16_t	id;

	*field = THRIFT_STOP;
	if (!thrift_number(in, 1, &type))
		return false;
	if (type == THRIFT_STOP)
		return true;
	if (!thrift_u16(in, &id))
		return false;
	*field = THRIFT_FIELD((uint32_t) id, (uint32_t) type);
	return true;
}

/* The head of a list: what its elements are and how many.  Each has a byte at least. */
static inline bool
thrift_list(Thrift *in, int wanted, uint32_t *count)
{
	uint64_t	type;

	if (!thrift_number(in, 1, &type) || !thrift_u32(in, count))
		return false;
	if (*count > (uint64_t) (in->end - in->p))
		return thrift_malformed(in, "more elements than bytes");
	if (*count > 0 && type != (uint64_t) wanted)
		return thrift_malformed(in, "a list has elements of a wrong type");
	return true;
}

static inline bool
thrift_skip(Thrift *in, int type, int depth)
{
	uint64_t	wide;
	SpanText	text;
	uint32_t	field;
	uint64_t	types[2];
	uint32_t	count;
	int			n = type == THRIFT_MAP ? 2 : 1;

	if (depth > THRIFT_MAX_DEPTH)
	{
		(void) span_error(in->error, SPAN_ERROR_LIMIT, "Thrift values are nested too deeply");
		return false;
	}
	switch (type)
	{
		case THRIFT_BOOL:
		case THRIFT_BYTE:
			return thrift_number(in, 1, &wide);
		case THRIFT_I16:
			return thrift_number(in, 2, &wide);
		case THRIFT_I32:
			return thrift_number(in, 4, &wide);
		case THRIFT_I64:
		case THRIFT_DOUBLE:
			return thrift_number(in, 8, &wide);
		case THRIFT_STRING:
			return thrift_string(in, &text);
		case THRIFT_STRUCT:
			do
			{
				if (!thrift_field(in, &field) ||
					(field != THRIFT_STOP && !thrift_skip(in, (int) (field & 0xFF), depth + 1)))
					return false;
			} while (field != THRIFT_STOP);
			return true;
		case THRIFT_MAP:
		case THRIFT_SET:
		case THRIFT_LIST:
			for (int i = 0; i < n; i++)
				if (!thrift_number(in, 1, &types[i]))
					return false;
			if (!thrift_u32(in, &count))
				return false;
			if (count > (uint64_t) (in->end - in->p))
				return thrift_malformed(in, "more elements than bytes");
			for (uint32_t element = 0; element < count; element++)
				for (int i = 0; i < n; i++)
					if (!thrift_skip(in, (int) types[i], depth + 1))
						return false;
			return true;
		default:
			return thrift_malformed(in, "unknown type");
	}
}

#endif							/* TEMPO_INGEST_THRIFT_H */
