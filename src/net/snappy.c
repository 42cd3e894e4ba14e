/*-------------------------------------------------------------------------
 *
 * snappy.c
 *	  Snappy, framed or as one block, as it arrives.
 *
 * gRPC clients send the framed stream, HTTP clients either; the stream's
 * first chunk tells them apart.  A chunk has 64 kB at most, so the stream is
 * decoded as it comes.  A block cannot be: it is collected, and what it
 * announces is believed only as far as its length can make it.
 *
 *-------------------------------------------------------------------------
 */
#include "net/snappy.h"

#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>

/* What each stream starts with. */
static const uint8_t identifier[10] = {0xff, 0x06, 0x00, 0x00, 's', 'N', 'a', 'P', 'p', 'Y'};

#define CHUNK_HEAD 4 /* type, length */
#define CHUNK_CRC 4
#define CHUNK_OUTPUT 65536 /* most that a chunk makes */

/* An element of three bytes copies 64. */
#define MAX_RATIO 22

enum
{
	CHUNK_COMPRESSED = 0x00,
	CHUNK_PLAIN = 0x01,
	CHUNK_SKIPPABLE = 0x80, /* and above */
	CHUNK_IDENTIFIER = 0xff
};

struct NetSnappy
{
	bool      known; /* framed or not */
	bool      framed;
	NetBuffer input; /* not decoded yet */
	size_t    skip;  /* bytes of a chunk that says nothing */
};

NetSnappy *
net_snappy_create(void)
{
	return calloc(1, sizeof(NetSnappy));
}

void
net_snappy_destroy(NetSnappy *snappy)
{
	if (snappy == NULL)
		return;
	net_buffer_free(&snappy->input);
	free(snappy);
}

size_t
net_snappy_memory(const NetSnappy *snappy)
{
	return snappy->input.capacity;
}

static NetDecodeResult
corrupt(const char **message, const char *what)
{
	*message = what;
	return NET_DECODE_CORRUPT;
}

/* The check value of a chunk: CRC-32C, rotated and shifted. */
static uint32_t
masked_crc(const uint8_t *data, size_t len)
{
	static uint32_t table[256];
	uint32_t        crc = 0xffffffff;

	if (table[1] == 0)
		for (uint32_t i = 0; i < 256; i++)
		{
			uint32_t value = i;

			for (int bit = 0; bit < 8; bit++)
				value = value >> 1 ^ ((value & 1) != 0 ? 0x82f63b78 : 0);
			table[i] = value;
		}
	for (size_t i = 0; i < len; i++)
		crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
	crc = ~crc;
	return (crc >> 15 | crc << 17) + 0xa282ead8;
}

/* Decompresses one block onto the end of "out". */
static NetDecodeResult
decode_block(const uint8_t *data, size_t len, size_t most, NetBuffer *out, size_t limit, const char **message)
{
	size_t size;

	if (snappy_uncompressed_length((const char *) data, len, &size) != SNAPPY_OK)
		return corrupt(message, "snappy: no length");
	if (size > most || size / MAX_RATIO > len)
		return corrupt(message, "snappy: a block announces more than it can hold");
	if (size > limit - out->len)
		return NET_DECODE_TOO_LARGE;
	/* a byte even for nothing, so that there is a place to put it */
	if (!net_buffer_reserve(out, size + 1, limit + 1))
		return NET_DECODE_NO_MEMORY;
	if (snappy_uncompress((const char *) data, len, out->data + out->len, &size) != SNAPPY_OK)
		return corrupt(message, "snappy: corrupt input");
	out->len += size;
	return NET_DECODE_OK;
}

static NetDecodeResult
decode_chunk(int type, const uint8_t *data, size_t len, NetBuffer *out, size_t limit, const char **message)
{
	size_t          before = out->len;
	uint32_t        crc;
	NetDecodeResult result;

	if (type == CHUNK_IDENTIFIER)
		return len == sizeof(identifier) - CHUNK_HEAD && memcmp(data, identifier + CHUNK_HEAD, len) == 0 ?
		           NET_DECODE_OK :
		           corrupt(message, "snappy: bad stream identifier");
	if (len < CHUNK_CRC)
		return corrupt(message, "snappy: a chunk is too short");
	crc = (uint32_t) data[0] | (uint32_t) data[1] << 8 | (uint32_t) data[2] << 16 | (uint32_t) data[3] << 24;
	data += CHUNK_CRC;
	len -= CHUNK_CRC;
	if (type == CHUNK_COMPRESSED)
	{
		result = decode_block(data, len, CHUNK_OUTPUT, out, limit, message);
		if (result != NET_DECODE_OK)
			return result;
	}
	else
	{
		if (len > CHUNK_OUTPUT)
			return corrupt(message, "snappy: a chunk is too long");
		if (len > limit - out->len)
			return NET_DECODE_TOO_LARGE;
		if (!net_buffer_reserve(out, len + 1, limit + 1))
			return NET_DECODE_NO_MEMORY;
		memcpy(out->data + out->len, data, len);
		out->len += len;
	}
	if (masked_crc((const uint8_t *) out->data + before, out->len - before) != crc)
		return corrupt(message, "snappy: invalid checksum");
	return NET_DECODE_OK;
}

/* Decodes the whole chunks at hand. */
static NetDecodeResult
decode_stream(NetSnappy *snappy, NetBuffer *out, size_t limit, const char **message)
{
	NetBuffer *in = &snappy->input;

	for (;;)
	{
		const uint8_t  *p = (const uint8_t *) in->data + in->start;
		size_t          have = in->len - in->start;
		size_t          part = have < snappy->skip ? have : snappy->skip;
		size_t          len;
		NetDecodeResult result;

		in->start += part;
		snappy->skip -= part;
		if (part > 0)
			continue;
		if (have < CHUNK_HEAD)
			break;
		len = (size_t) p[1] | (size_t) p[2] << 8 | (size_t) p[3] << 16;
		if (p[0] >= CHUNK_SKIPPABLE && p[0] != CHUNK_IDENTIFIER)
		{
			in->start += CHUNK_HEAD;
			snappy->skip = len;
			continue;
		}
		if (p[0] != CHUNK_COMPRESSED && p[0] != CHUNK_PLAIN && p[0] != CHUNK_IDENTIFIER)
			return corrupt(message, "snappy: unknown kind of chunk");
		if (len > CHUNK_CRC + snappy_max_compressed_length(CHUNK_OUTPUT))
			return corrupt(message, "snappy: a chunk is too long");
		if (have < CHUNK_HEAD + len)
			break;
		result = decode_chunk(p[0], p + CHUNK_HEAD, len, out, limit, message);
		if (result != NET_DECODE_OK)
			return result;
		in->start += CHUNK_HEAD + len;
	}

	/* what is left is less than a chunk */
	if (in->start > 0)
	{
		memmove(in->data, in->data + in->start, in->len - in->start);
		in->len -= in->start;
		in->start = 0;
	}
	return NET_DECODE_OK;
}

NetDecodeResult
net_snappy_feed(NetSnappy *snappy, const uint8_t *data, size_t len, NetBuffer *out, size_t limit, const char **message)
{
	NetBuffer *in = &snappy->input;

	if (!net_buffer_append(in, data, len))
		return NET_DECODE_NO_MEMORY;
	if (!snappy->known)
	{
		size_t compare = in->len < sizeof(identifier) ? in->len : sizeof(identifier);

		snappy->framed = memcmp(in->data, identifier, compare) == 0;
		if (snappy->framed && compare < sizeof(identifier))
			return NET_DECODE_OK;
		snappy->known = true;
	}
	return snappy->framed ? decode_stream(snappy, out, limit, message) : NET_DECODE_OK;
}

NetDecodeResult
net_snappy_finish(NetSnappy *snappy, NetBuffer *out, size_t limit, const char **message)
{
	NetBuffer *in = &snappy->input;

	if (snappy->known && snappy->framed)
		return in->len == 0 && snappy->skip == 0 ? NET_DECODE_OK : corrupt(message, "unexpected EOF");
	return decode_block((const uint8_t *) in->data, in->len, limit + 1, out, limit, message);
}
