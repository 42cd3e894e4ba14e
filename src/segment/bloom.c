/*-------------------------------------------------------------------------
 *
 * bloom.c
 *	  Bloom filters over attribute values.
 *
 * A filter is an array of 32-byte blocks; a value sets one bit in each of
 * the eight words of one block, so that a probe touches one cache line.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/bloom.h"

#define BLOCK_BYTES 32
#define BITS_PER_VALUE 10

static inline uint64_t
scramble(uint64_t h)
{
	h ^= h >> 31;
	h *= UINT64_C(0x7fb5d329728ea185);
	h ^= h >> 27;
	h *= UINT64_C(0x81dadef4bc2dd44d);
	h ^= h >> 33;
	return h;
}

static uint64_t
hash_bytes(const char *data, uint32_t len, uint64_t seed)
{
	const uint8_t *p = (const uint8_t *) data;
	uint64_t       h = scramble(seed + len);

	for (; len >= 8; p += 8, len -= 8)
		h = scramble(h ^ load_u64(p));
	if (len > 0)
	{
		uint8_t rest[8] = {0};

		memcpy(rest, p, len);
		h = scramble(h ^ load_u64(rest));
	}
	return h;
}

bool
bloom_value_hash(const AnyValue *value, uint64_t *hash)
{
	uint64_t bits;

	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			*hash = hash_bytes(value->u.data, value->len, 1);
			return true;
		case ANY_BYTES:
			*hash = hash_bytes(value->u.data, value->len, 7);
			return true;
		case ANY_BOOL:
			*hash = scramble(2 + value->u.boolean);
			return true;
		case ANY_INT:
		case ANY_DOUBLE:

			/*
			 * As doubles, because that is how numbers of different types are
			 * compared; large integers fall together, which only costs
			 * precision.
			 */
			{
				double number = value->type == ANY_INT ? (double) value->u.integer : value->u.number;

				if (number != number)
					return false;
				if (number == 0)
					number = 0; /* no negative zero */
				memcpy(&bits, &number, 8);
				*hash = scramble(bits + UINT64_C(0x3c79ac492ba7b653));
			}
			return true;
		default:
			return false;
	}
}

uint64_t
bloom_key_hash(SpanText key, uint64_t hash)
{
	return hash_bytes(key.data, key.len, hash);
}

size_t
bloom_size(uint32_t n)
{
	uint64_t bits = (uint64_t) n * BITS_PER_VALUE;

	return (size_t) ((bits + BLOCK_BYTES * 8 - 1) / (BLOCK_BYTES * 8) + (n == 0)) * BLOCK_BYTES;
}

static inline size_t
block_of(size_t size, uint64_t hash)
{
	return (size_t) (((hash >> 32) * (uint64_t) (size / BLOCK_BYTES)) >> 32) * BLOCK_BYTES;
}

/* The bit in word "i" of the block. */
static inline uint32_t
bit_of(uint64_t hash, int i)
{
	static const uint32_t odd[8] = {0x9e3779b1, 0x3c6ef373, 0xdaa66d2b, 0x78dde6e5,
	                                0x1715609d, 0xb54cda57, 0x53845413, 0xf1bbcdcb};

	return UINT32_C(1) << (((uint32_t) hash * odd[i]) >> 27);
}

void
bloom_add(uint8_t *filter, size_t size, uint64_t hash)
{
	uint8_t *block = filter + block_of(size, hash);

	for (int i = 0; i < 8; i++)
		store_u32(block + 4 * i, load_u32(block + 4 * i) | bit_of(hash, i));
}

bool
bloom_has(const uint8_t *filter, size_t size, uint64_t hash)
{
	const uint8_t *block;

	if (size < BLOCK_BYTES)
		return true;
	block = filter + block_of(size, hash);
	for (int i = 0; i < 8; i++)
		if (!(load_u32(block + 4 * i) & bit_of(hash, i)))
			return false;
	return true;
}
