/*-------------------------------------------------------------------------
 *
 * protowire.h
 *	  Reading the protobuf wire format in place.
 *
 * Everything is inline because decoders spend their time here.  Functions
 * return false and fill the cursor's error at malformed bytes; a cursor never
 * leaves its message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_PROTOWIRE_H
#define TEMPO_INGEST_PROTOWIRE_H

#include "span/error.h"
#include "span/value.h"

/* Groups, which only unknown fields can be, may nest this deep. */
#define MAX_GROUP_DEPTH 64

enum
{
	WIRE_VARINT = 0,
	WIRE_64BIT = 1,
	WIRE_BYTES = 2,
	WIRE_START_GROUP = 3,
	WIRE_END_GROUP = 4,
	WIRE_32BIT = 5
};

#define TAG(field, wire) (((field) << 3) | (wire))

typedef struct Cursor
{
	const uint8_t *p;
	const uint8_t *end;
	SpanError     *error; /* may be NULL */
} Cursor;

/* Both return false, in a way that the compiler sees. */
static inline bool
wire_malformed(SpanError *error, const char *what)
{
	(void) span_error(error, SPAN_ERROR_INVALID, "malformed protobuf: %s", what);
	return false;
}

static inline bool
wire_wrong_type(SpanError *error, const char *message, uint32_t tag)
{
	(void) span_error(error, SPAN_ERROR_INVALID,
	                  "malformed protobuf: field %u of %s has wire type %u", tag >> 3, message, tag & 7);
	return false;
}

/* False: cut short, or longer than ten bytes. */
static inline bool
wire_read_varint(Cursor *in, uint64_t *value)
{
	uint64_t result = 0;

	if (in->p < in->end && *in->p < 0x80)
	{
		*value = *in->p++;
		return true;
	}
	for (int shift = 0; shift < 70; shift += 7)
	{
		uint8_t byte;

		if (in->p == in->end)
			return false;
		byte = *in->p++;
		result |= (uint64_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
		{
			*value = result;
			return true;
		}
	}
	return false;
}

static inline bool
wire_varint(Cursor *in, uint64_t *value)
{
	if (!wire_read_varint(in, value))
		return wire_malformed(in->error, "bad varint");
	return true;
}

static inline bool
wire_tag(Cursor *in, uint32_t *tag)
{
	uint64_t value;

	if (!wire_read_varint(in, &value))
		return wire_malformed(in->error, "bad field tag");
	if (value >> 3 == 0 || value > UINT32_MAX)
		return wire_malformed(in->error, "field number out of range");
	*tag = (uint32_t) value;
	return true;
}

static inline bool
wire_bytes(Cursor *in, SpanText *text)
{
	uint64_t len;

	if (!wire_read_varint(in, &len))
		return wire_malformed(in->error, "bad length");
	if (len > (uint64_t) (in->end - in->p))
		return wire_malformed(in->error, "length beyond the end of the message");
	*text = span_text((const char *) in->p, (uint32_t) len);
	in->p += len;
	return true;
}

static inline bool
wire_message(Cursor *in, Cursor *message)
{
	SpanText text;

	if (!wire_bytes(in, &text))
		return false;
	message->p = (const uint8_t *) text.data;
	message->end = message->p + text.len;
	message->error = in->error;
	return true;
}

static inline bool
wire_fixed64(Cursor *in, uint64_t *value)
{
	const uint8_t *p = in->p;

	if (in->end - p < 8)
		return wire_malformed(in->error, "truncated 64-bit field");
	*value = (uint64_t) p[0] | (uint64_t) p[1] << 8 | (uint64_t) p[2] << 16 | (uint64_t) p[3] << 24 |
	         (uint64_t) p[4] << 32 | (uint64_t) p[5] << 40 | (uint64_t) p[6] << 48 | (uint64_t) p[7] << 56;
	in->p += 8;
	return true;
}

static inline bool
wire_fixed32(Cursor *in, uint32_t *value)
{
	const uint8_t *p = in->p;

	if (in->end - p < 4)
		return wire_malformed(in->error, "truncated 32-bit field");
	*value = (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
	in->p += 4;
	return true;
}

/* uint32 and enums are the low 32 bits of their varint */
static inline bool
wire_uint32(Cursor *in, uint32_t *value)
{
	uint64_t wide;

	if (!wire_varint(in, &wide))
		return false;
	*value = (uint32_t) wide;
	return true;
}

static inline bool wire_skip_group(Cursor *in, uint32_t tag);

/* Steps over the field whose tag was just read. */
static inline bool
wire_skip_field(Cursor *in, uint32_t tag)
{
	SpanText text;
	uint64_t value;

	switch (tag & 7)
	{
		case WIRE_VARINT:
			return wire_varint(in, &value);
		case WIRE_64BIT:
			return wire_fixed64(in, &value);
		case WIRE_BYTES:
			return wire_bytes(in, &text);
		case WIRE_32BIT:
			if (in->end - in->p < 4)
				return wire_malformed(in->error, "truncated 32-bit field");
			in->p += 4;
			return true;
		case WIRE_START_GROUP:
			return wire_skip_group(in, tag);
		case WIRE_END_GROUP:
			return wire_malformed(in->error, "end of a group that was not begun");
		default:
			return wire_malformed(in->error, "unknown wire type");
	}
}

static inline bool
wire_skip_group(Cursor *in, uint32_t tag)
{
	uint32_t open[MAX_GROUP_DEPTH];
	int      depth = 0;

	open[depth++] = tag >> 3;
	while (depth > 0)
	{
		if (in->p == in->end)
			return wire_malformed(in->error, "group without end");
		if (!wire_tag(in, &tag))
			return false;
		if ((tag & 7) == WIRE_START_GROUP)
		{
			if (depth == MAX_GROUP_DEPTH)
			{
				(void) span_error(in->error, SPAN_ERROR_LIMIT, "groups are nested too deeply");
				return false;
			}
			open[depth++] = tag >> 3;
		}
		else if ((tag & 7) == WIRE_END_GROUP)
		{
			if (open[--depth] != tag >> 3)
				return wire_malformed(in->error, "end of a group that was not begun");
		}
		else if (!wire_skip_field(in, tag))
			return false;
	}
	return true;
}

/*
 * How many fields of a message have this tag.  Where the bytes are malformed
 * the count ends, since the walk that follows reports it.
 */
static inline uint32_t
wire_count_fields(Cursor in, uint32_t wanted)
{
	uint32_t count = 0;
	uint32_t tag;

	in.error = NULL;
	while (in.p < in.end)
	{
		if (!wire_tag(&in, &tag) || !wire_skip_field(&in, tag))
			break;
		if (tag == wanted)
			count++;
	}
	return count;
}

#endif /* TEMPO_INGEST_PROTOWIRE_H */
