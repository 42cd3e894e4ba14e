/*-------------------------------------------------------------------------
 *
 * bytes.h
 *	  Growing byte buffers and bounded cursors: how segment images are put
 *	  together and taken apart.
 *
 * Both fail sticky: after the first failure every further call does nothing
 * (a cursor returns zeros), so that callers test once at the end.  Numbers
 * are little-endian whatever the machine.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_BYTES_H
#define TEMPO_SEGMENT_BYTES_H

#include <string.h>

#include "span/allocator.h"
#include "span/value.h"

typedef struct Buffer
{
	const SpanAllocator *allocator;
	uint8_t             *data;
	size_t               len;
	size_t               size;
	bool                 failed; /* no memory */
} Buffer;

extern void buffer_init(Buffer *buffer, const SpanAllocator *allocator);
extern void buffer_free(Buffer *buffer);

/* buffer_reserve: makes room for "more" bytes; NULL when there is no memory, else where they go */
extern uint8_t *buffer_reserve(Buffer *buffer, size_t more);
extern void     buffer_put(Buffer *buffer, const void *data, size_t len);
extern void     buffer_put_varint(Buffer *buffer, uint64_t value);

static inline uint64_t
zigzag(int64_t value)
{
	return ((uint64_t) value << 1) ^ (uint64_t) (value >> 63);
}

static inline int64_t
unzigzag(uint64_t value)
{
	return (int64_t) (value >> 1) ^ -(int64_t) (value & 1);
}

static inline void
store_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t) v;
	p[1] = (uint8_t) (v >> 8);
}

static inline void
store_u32(uint8_t *p, uint32_t v)
{
	store_u16(p, (uint16_t) v);
	store_u16(p + 2, (uint16_t) (v >> 16));
}

static inline void
store_u64(uint8_t *p, uint64_t v)
{
	store_u32(p, (uint32_t) v);
	store_u32(p + 4, (uint32_t) (v >> 32));
}

static inline uint16_t
load_u16(const uint8_t *p)
{
	return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t
load_u32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static inline uint64_t
load_u64(const uint8_t *p)
{
	return (uint64_t) load_u32(p) | (uint64_t) load_u32(p + 4) << 32;
}

static inline void
buffer_put_u8(Buffer *buffer, uint8_t value)
{
	buffer_put(buffer, &value, 1);
}

static inline void
buffer_put_u32(Buffer *buffer, uint32_t value)
{
	uint8_t bytes[4];

	store_u32(bytes, value);
	buffer_put(buffer, bytes, 4);
}

static inline void
buffer_put_u64(Buffer *buffer, uint64_t value)
{
	uint8_t bytes[8];

	store_u64(bytes, value);
	buffer_put(buffer, bytes, 8);
}

static inline void
buffer_put_text(Buffer *buffer, SpanText text)
{
	buffer_put_varint(buffer, text.len);
	buffer_put(buffer, text.data, text.len);
}

typedef struct Cursor
{
	const uint8_t *at;
	const uint8_t *end;
	bool           failed; /* ran over the end, or a number was out of range */
} Cursor;

static inline Cursor
cursor_over(const uint8_t *data, size_t len)
{
	Cursor c = {data, data + len, false};

	return c;
}

static inline size_t
cursor_left(const Cursor *cursor)
{
	return (size_t) (cursor->end - cursor->at);
}

/* cursor_fail: for checks of the caller's own; returns false */
static inline bool
cursor_fail(Cursor *cursor)
{
	cursor->failed = true;
	return false;
}

/* cursor_bytes: "len" bytes in place; NULL past the end */
extern const uint8_t *cursor_bytes(Cursor *cursor, uint64_t len);
extern uint64_t       cursor_long_varint(Cursor *cursor);

static inline uint64_t
cursor_varint(Cursor *cursor)
{
	if (!cursor->failed && cursor->at < cursor->end && *cursor->at < 0x80)
		return *cursor->at++;
	return cursor_long_varint(cursor);
}

/* cursor_number: a varint that must be at most "max" */
static inline uint32_t
cursor_number(Cursor *cursor, uint32_t max)
{
	uint64_t value = cursor_varint(cursor);

	if (value > max)
	{
		cursor->failed = true;
		return 0;
	}
	return (uint32_t) value;
}

/* cursor_count: a varint that counts things of at least "width" bytes each that follow */
extern uint32_t cursor_count(Cursor *cursor, size_t width);
extern SpanText cursor_text(Cursor *cursor);

static inline uint8_t
cursor_u8(Cursor *cursor)
{
	const uint8_t *p = cursor_bytes(cursor, 1);

	return p == NULL ? 0 : *p;
}

static inline uint32_t
cursor_u32(Cursor *cursor)
{
	const uint8_t *p = cursor_bytes(cursor, 4);

	return p == NULL ? 0 : load_u32(p);
}

static inline uint64_t
cursor_u64(Cursor *cursor)
{
	const uint8_t *p = cursor_bytes(cursor, 8);

	return p == NULL ? 0 : load_u64(p);
}

#endif /* TEMPO_SEGMENT_BYTES_H */
