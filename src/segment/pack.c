/*-------------------------------------------------------------------------
 *
 * pack.c
 *	  Columns of numbers as bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/pack.h"

#include "segment/arrays.h"
#include "segment/cpu.h"
#include "segment/image.h"

static inline int
bit_length(uint64_t v)
{
	return v == 0 ? 0 : 64 - __builtin_clzll(v);
}

/* The largest of a few powers of ten that divides every value: clocks tick in microseconds or milliseconds. */
static uint64_t
common_scale(const int64_t *values, uint32_t n, int64_t min)
{
	static const uint64_t scales[] = {1000000, 1000};

	for (int s = 0; s < 2; s++)
	{
		uint32_t i = 0;

		while (i < n && ((uint64_t) values[i] - (uint64_t) min) % scales[s] == 0)
			i++;
		if (i == n)
			return scales[s];
	}
	return 1;
}

static void
pack_bits(Buffer *data, Buffer *payload, const int64_t *values, uint32_t n, int64_t min, uint64_t scale)
{
	uint8_t *lengths = buffer_reserve(data, n);
	uint8_t *bits = buffer_reserve(payload, (size_t) n * 8 + PACK_SLACK);
	uint64_t acc = 0;
	int      used = 0;
	size_t   len = 0;

	if (lengths == NULL || bits == NULL)
		return;
	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t v = (uint64_t) values[i] - (uint64_t) min;
		int      width;

		if (scale != 1)
			v /= scale;
		width = bit_length(v);
		lengths[i] = (uint8_t) width;
		if (width < 2)
			continue;
		width--;
		v &= (UINT64_C(1) << width) - 1;
		acc |= v << used;
		if (used + width >= 64)
		{
			store_u64(bits + len, acc);
			len += 8;
			acc = used == 0 ? 0 : v >> (64 - used);
			used += width - 64;
		}
		else
			used += width;
	}
	store_u64(bits + len, acc);
	data->len += n;
	payload->len += len + (used + 7) / 8;
}

void
pack_numbers(Buffer *data, Buffer *payload, const int64_t *values, uint32_t n)
{
	int64_t  min = n == 0 ? 0 : values[0];
	int64_t  max = min;
	uint64_t scale;
	uint8_t *bytes;

	for (uint32_t i = 1; i < n; i++)
	{
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
	}
	if ((uint64_t) max - (uint64_t) min < 256)
	{
		buffer_put_u8(data, ENCODING_BYTES);
		buffer_put_varint(data, zigzag(min));
		bytes = buffer_reserve(data, n);
		if (bytes == NULL)
			return;
		for (uint32_t i = 0; i < n; i++)
			bytes[i] = (uint8_t) ((uint64_t) values[i] - (uint64_t) min);
		data->len += n;
		return;
	}
	scale = common_scale(values, n, min);
	buffer_put_u8(data, ENCODING_BITS);
	buffer_put_varint(data, zigzag(min));
	buffer_put_varint(data, scale);
	pack_bits(data, payload, values, n, min, scale);
}

void
pack_planes(Buffer *data, const uint64_t *values, uint32_t n, int width)
{
	uint8_t *to = buffer_reserve(data, (size_t) n * width);

	if (to == NULL)
		return;
	for (int plane = 0; plane < width; plane++)
		for (uint32_t i = 0; i < n; i++)
			*to++ = (uint8_t) (values[i] >> (8 * plane));
	data->len += (size_t) n * width;
}

#if HAVE_AVX2
/* The lower halves of the products. */
TARGET_AVX2 static inline __m256i
multiply(__m256i values, uint64_t by)
{
	const __m256i low = _mm256_set1_epi64x((int64_t) (by & UINT32_MAX));
	const __m256i high = _mm256_set1_epi64x((int64_t) (by >> 32));
	__m256i       crossed = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(values, 32), low),
	                                         _mm256_mul_epu32(values, high));

	return _mm256_add_epi64(_mm256_mul_epu32(values, low), _mm256_slli_epi64(crossed, 32));
}

/* As many as go in fours, none longer than 57 bits; *at is the bit they begin at, and then the next one. */
TARGET_AVX2 static uint32_t
bits_avx2(const uint8_t *lengths, const uint8_t *payload, int64_t min, uint64_t scale, int64_t *values, uint32_t n,
          uint64_t *at)
{
	const __m256i one = _mm256_set1_epi64x(1);
	const __m256i zero = _mm256_setzero_si256();
	uint32_t      i = 0;

	for (; i + 4 <= n; i += 4)
	{
		int32_t four;
		__m256i length;
		__m256i empty;
		__m256i width;
		__m256i ends;
		__m256i begins;
		__m256i top;
		__m256i v;

		memcpy(&four, lengths + i, 4);
		length = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
		empty = _mm256_cmpeq_epi64(length, zero);
		width = _mm256_andnot_si256(empty, _mm256_sub_epi64(length, one));
		/* sums of two, then of four */
		ends = _mm256_add_epi64(width, _mm256_slli_si256(width, 8));
		ends = _mm256_add_epi64(ends, _mm256_blend_epi32(zero, _mm256_permute4x64_epi64(ends, 0x55), 0xF0));
		begins = _mm256_add_epi64(_mm256_sub_epi64(ends, width), _mm256_set1_epi64x((int64_t) *at));
		*at += (uint64_t) _mm256_extract_epi64(ends, 3);
		v = _mm256_i64gather_epi64((const long long *) payload, _mm256_srli_epi64(begins, 3), 1);
		v = _mm256_srlv_epi64(v, _mm256_and_si256(begins, _mm256_set1_epi64x(7)));
		top = _mm256_sllv_epi64(one, width);
		v = _mm256_and_si256(v, _mm256_sub_epi64(top, one));
		v = _mm256_or_si256(v, _mm256_andnot_si256(empty, top));
		if (scale != 1)
			v = multiply(v, scale);
		_mm256_storeu_si256((__m256i *) (values + i), _mm256_add_epi64(v, _mm256_set1_epi64x(min)));
	}
	return i;
}
#endif

static bool
unpack_bits(Cursor *in, const uint8_t *payload, size_t payload_len, int64_t *values, uint32_t n)
{
	int64_t        min = unzigzag(cursor_varint(in));
	uint64_t       scale = cursor_varint(in);
	const uint8_t *lengths = cursor_bytes(in, n);
	uint64_t       total = 0;
	uint64_t       at = 0;
	uint8_t        longest = 0;

	if (lengths == NULL || cursor_left(in) != 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		longest = lengths[i] > longest ? lengths[i] : longest;
		total += lengths[i] > 1 ? lengths[i] - 1 : 0;
	}
	if (longest > 64 || (total + 7) / 8 != payload_len)
		return false;
	if (longest <= 57)
	{
		uint32_t i = 0;

#if HAVE_AVX2
		if (cpu_avx2())
			i = bits_avx2(lengths, payload, min, scale, values, n, &at);
#endif
		for (; i < n; i++)
		{
			int      width = lengths[i] > 1 ? lengths[i] - 1 : 0;
			uint64_t word = load_u64(payload + (at >> 3)) >> (at & 7);
			uint64_t v = (word & ((UINT64_C(1) << width) - 1)) |
			             ((UINT64_C(1) << width) & -(uint64_t) (lengths[i] != 0));

			at += width;
			values[i] = (int64_t) ((uint64_t) min + v * scale);
		}
		return true;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		int      width = lengths[i] > 1 ? lengths[i] - 1 : 0;
		int      shift = at & 7;
		uint64_t word = load_u64(payload + (at >> 3)) >> shift;
		uint64_t v;

		if (width > 64 - shift)
			word |= (uint64_t) payload[(at >> 3) + 8] << (64 - shift);
		v = (word & ((UINT64_C(1) << width) - 1)) |
		    ((UINT64_C(1) << width) & -(uint64_t) (lengths[i] != 0));
		at += width;
		values[i] = (int64_t) ((uint64_t) min + v * scale);
	}
	return true;
}

bool
unpack_numbers(const uint8_t *data, size_t data_len, const uint8_t *payload, size_t payload_len,
               int64_t *values, uint32_t n)
{
	Cursor         in = cursor_over(data, data_len);
	int            encoding = cursor_u8(&in);
	const uint8_t *bytes;
	int64_t        min;

	switch (encoding)
	{
		case ENCODING_BYTES:
			min = unzigzag(cursor_varint(&in));
			bytes = cursor_bytes(&in, n);
			if (bytes == NULL || cursor_left(&in) != 0)
				return false;
			array_add_bytes(bytes, n, min, values);
			return true;
		case ENCODING_BITS:
			return unpack_bits(&in, payload, payload_len, values, n);
		case ENCODING_PLANES:
			bytes = cursor_bytes(&in, (uint64_t) n * 8);
			if (bytes == NULL || cursor_left(&in) != 0)
				return false;
			for (uint32_t i = 0; i < n; i++)
			{
				uint64_t v = 0;

				for (int plane = 0; plane < 8; plane++)
					v |= (uint64_t) bytes[(size_t) plane * n + i] << (8 * plane);
				values[i] = (int64_t) v;
			}
			return true;
	}
	return false;
}

/* The bits that numbers of these bit lengths take in the payload. */
static uint64_t
payload_bits(const uint8_t *lengths, uint32_t n)
{
	const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
	const uint64_t pairs = UINT64_C(0x00ff00ff00ff00ff);
	uint64_t       total = 0;
	uint32_t       i = 0;

	/* eight at a time: the sum of all less one for each that is not zero */
	for (; i + 8 <= n; i += 8)
	{
		uint64_t v = load_u64(lengths + i);
		uint64_t some = (((v & low) + low) | v) & ~low;

		total += (((v & pairs) + (v >> 8 & pairs)) * UINT64_C(0x0001000100010001)) >> 48;
		total -= ((some >> 7) * UINT64_C(0x0101010101010101)) >> 56;
	}
	for (; i < n; i++)
		total += lengths[i] > 1 ? lengths[i] - 1 : 0;
	return total;
}

static bool
unpack_some_bits(Cursor *in, const uint8_t *payload, size_t payload_len, int64_t *values, uint32_t n,
                 uint32_t first, uint32_t end)
{
	int64_t        min = unzigzag(cursor_varint(in));
	uint64_t       scale = cursor_varint(in);
	const uint8_t *lengths = cursor_bytes(in, n);
	uint64_t       at;

	if (lengths == NULL || cursor_left(in) != 0)
		return false;
	at = payload_bits(lengths, first);
	for (uint32_t i = first; i < end; i++)
	{
		int      width = lengths[i] > 1 ? lengths[i] - 1 : 0;
		int      shift = at & 7;
		uint64_t word;
		uint64_t v;

		if (width > 63 || at + (uint64_t) width > (uint64_t) payload_len * 8)
			return false;
		word = load_u64(payload + (at >> 3)) >> shift;
		if (width > 64 - shift)
			word |= (uint64_t) payload[(at >> 3) + 8] << (64 - shift);
		v = (word & ((UINT64_C(1) << width) - 1)) |
		    ((UINT64_C(1) << width) & -(uint64_t) (lengths[i] != 0));
		at += (uint64_t) width;
		*values++ = (int64_t) ((uint64_t) min + v * scale);
	}
	return true;
}

bool
unpack_some_numbers(const uint8_t *data, size_t data_len, const uint8_t *payload, size_t payload_len,
                    int64_t *values, uint32_t n, uint32_t first, uint32_t end)
{
	Cursor         in = cursor_over(data, data_len);
	int            encoding = cursor_u8(&in);
	const uint8_t *bytes;
	int64_t        min;

	switch (encoding)
	{
		case ENCODING_BYTES:
			min = unzigzag(cursor_varint(&in));
			bytes = cursor_bytes(&in, n);
			if (bytes == NULL || cursor_left(&in) != 0)
				return false;
			for (uint32_t i = first; i < end; i++)
				*values++ = (int64_t) ((uint64_t) min + bytes[i]);
			return true;
		case ENCODING_BITS:
			return unpack_some_bits(&in, payload, payload_len, values, n, first, end);
		case ENCODING_PLANES:
			bytes = cursor_bytes(&in, (uint64_t) n * 8);
			if (bytes == NULL || cursor_left(&in) != 0)
				return false;
			for (uint32_t i = first; i < end; i++)
			{
				uint64_t v = 0;

				for (int plane = 0; plane < 8; plane++)
					v |= (uint64_t) bytes[(size_t) plane * n + i] << (8 * plane);
				*values++ = (int64_t) v;
			}
			return true;
	}
	return false;
}

bool
unpack_some_codes(const uint8_t *planes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit,
                  uint32_t first, uint32_t end)
{
	int width = code_width(limit);

	if (len != (size_t) n * width)
		return false;
	for (uint32_t i = first; i < end; i++)
	{
		uint32_t code = planes[i];

		for (int plane = 1; plane < width; plane++)
			code |= (uint32_t) planes[(size_t) plane * n + i] << (8 * plane);
		if (code >= limit)
			return false;
		*codes++ = code;
	}
	return true;
}

bool
unpack_codes(const uint8_t *planes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit)
{
	int width = code_width(limit);

	if (len != (size_t) n * width)
		return false;
	return n == 0 || array_widen(planes, n, width, n, codes) < limit;
}

bool
unpack_numbered(const uint8_t *bytes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit)
{
	int width = code_width(limit);

	if (len != (size_t) n * width)
		return false;
	return n == 0 || array_widen(bytes, n, width, 1, codes) < limit;
}
