/*-------------------------------------------------------------------------
 *
 * bytes.c
 *	  Growing byte buffers and bounded cursors.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/bytes.h"

void
buffer_init(Buffer *buffer, const SpanAllocator *allocator)
{
	memset(buffer, 0, sizeof(*buffer));
	buffer->allocator = allocator;
}

void
buffer_free(Buffer *buffer)
{
	if (buffer->data != NULL)
		buffer->allocator->release(buffer->allocator->arg, buffer->data);
	buffer->data = NULL;
	buffer->len = buffer->size = 0;
}

uint8_t *
buffer_reserve(Buffer *buffer, size_t more)
{
	size_t   size = buffer->size;
	uint8_t *data;

	if (buffer->failed)
		return NULL;
	if (more <= size - buffer->len && buffer->data != NULL)
		return buffer->data + buffer->len;
	if (more > SIZE_MAX / 4 - buffer->len)
	{
		buffer->failed = true;
		return NULL;
	}
	size = size < 256 ? 256 : size * 2;
	if (size < buffer->len + more)
		size = buffer->len + more;
	data = buffer->allocator->alloc(buffer->allocator->arg, size);
	if (data == NULL)
	{
		buffer->failed = true;
		return NULL;
	}
	if (buffer->data != NULL)
	{
		memcpy(data, buffer->data, buffer->len);
		buffer->allocator->release(buffer->allocator->arg, buffer->data);
	}
	buffer->data = data;
	buffer->size = size;
	return data + buffer->len;
}

void
buffer_put(Buffer *buffer, const void *data, size_t len)
{
	uint8_t *to = buffer_reserve(buffer, len);

	if (to == NULL)
		return;
	if (len > 0)
		memcpy(to, data, len);
	buffer->len += len;
}

void
buffer_put_varint(Buffer *buffer, uint64_t value)
{
	uint8_t *to = buffer_reserve(buffer, 10);
	int      n = 0;

	if (to == NULL)
		return;
	while (value >= 0x80)
	{
		to[n++] = (uint8_t) (value | 0x80);
		value >>= 7;
	}
	to[n++] = (uint8_t) value;
	buffer->len += n;
}

const uint8_t *
cursor_bytes(Cursor *cursor, uint64_t len)
{
	const uint8_t *p = cursor->at;

	if (cursor->failed || len > (uint64_t) (cursor->end - p))
	{
		cursor->failed = true;
		return NULL;
	}
	cursor->at += len;
	return p;
}

uint64_t
cursor_long_varint(Cursor *cursor)
{
	uint64_t value = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t byte;

		if (cursor->failed || cursor->at == cursor->end)
			break;
		byte = *cursor->at++;
		if (shift == 63 && byte > 1)
			break;
		value |= (uint64_t) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	cursor->failed = true;
	return 0;
}

uint32_t
cursor_count(Cursor *cursor, size_t width)
{
	uint64_t value = cursor_varint(cursor);

	if (value > UINT32_MAX || value > cursor_left(cursor) / width)
	{
		cursor->failed = true;
		return 0;
	}
	return (uint32_t) value;
}

SpanText
cursor_text(Cursor *cursor)
{
	uint32_t       len = cursor_count(cursor, 1);
	const uint8_t *p = cursor_bytes(cursor, len);

	return p == NULL ? span_text(NULL, 0) : span_text((const char *) p, len);
}
