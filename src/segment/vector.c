/*-------------------------------------------------------------------------
 *
 * vector.c
 *	  Truth values of many rows at once, a byte each.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/vector.h"

#include <string.h>

#include "segment/cpu.h"

#if HAVE_AVX2
TARGET_AVX2 static size_t
range_avx2(const int64_t *values, size_t n, int64_t min, int64_t max, uint8_t flip, uint8_t *out)
{
	const __m256i low = _mm256_set1_epi64x(min);
	const __m256i high = _mm256_set1_epi64x(max);
	size_t        i = 0;

	for (; i + 8 <= n; i += 8)
	{
		__m256i  a = _mm256_loadu_si256((const __m256i *) (values + i));
		__m256i  b = _mm256_loadu_si256((const __m256i *) (values + i + 4));
		__m256i  x = _mm256_or_si256(_mm256_cmpgt_epi64(low, a), _mm256_cmpgt_epi64(a, high));
		__m256i  y = _mm256_or_si256(_mm256_cmpgt_epi64(low, b), _mm256_cmpgt_epi64(b, high));
		__m256i  words;
		__m128i  halves;
		uint64_t bytes;

		/* each value becomes two words of 16 bits, in the order a0 a1 b0 b1 a2 a3 b2 b3 */
		words = _mm256_packs_epi32(x, y);
		words = _mm256_permute4x64_epi64(words, 0xD8);
		halves = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
		/* then two bytes, of which one is kept */
		halves = _mm_shuffle_epi8(halves, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, -1, -1, -1, -1, -1, -1, -1, -1));
		bytes = (uint64_t) _mm_cvtsi128_si64(halves);
		/* all ones are outside */
		bytes = (~bytes & UINT64_C(0x0F0F0F0F0F0F0F0F)) ^ (UINT64_C(0x0101010101010101) * flip);
		memcpy(out + i, &bytes, 8);
	}
	return i;
}
#endif

void
vector_range(const int64_t *values, size_t n, int64_t min, int64_t max, bool negate, uint8_t *out)
{
	uint8_t flip = negate ? TRUTH_TRUE : TRUTH_FALSE;
	size_t  i = 0;

	if (min > max)
	{
		memset(out, flip, n);
		return;
	}
#if HAVE_AVX2
	if (cpu_avx2())
		i = range_avx2(values, n, min, max, flip, out);
#endif
	for (; i < n; i++)
		out[i] = (uint8_t) ((-(uint8_t) ((uint64_t) values[i] - (uint64_t) min <= (uint64_t) max - (uint64_t) min) &
		                     TRUTH_TRUE) ^
		                    flip);
}

bool
vector_lookup(const uint32_t *codes, size_t n, const uint8_t *table, uint8_t rare, uint8_t *out)
{
	uint8_t seen = 0;
	size_t  i = 0;

	/* eight at a time, written at once: a store per row is what takes the time */
	for (; i + 8 <= n; i += 8)
	{
		uint64_t bytes = 0;
		uint64_t more = 0;

		bytes = table[codes[i]] | (uint64_t) table[codes[i + 1]] << 8 |
		        (uint64_t) table[codes[i + 2]] << 16 | (uint64_t) table[codes[i + 3]] << 24;
		more = table[codes[i + 4]] | (uint64_t) table[codes[i + 5]] << 8 |
		       (uint64_t) table[codes[i + 6]] << 16 | (uint64_t) table[codes[i + 7]] << 24;
		bytes |= more << 32;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		bytes = __builtin_bswap64(bytes);
#endif
		memcpy(out + i, &bytes, 8);
		seen |= (bytes & (UINT64_C(0x0101010101010101) * rare)) != 0 ? rare : 0;
	}
	for (; i < n; i++)
	{
		out[i] = table[codes[i]];
		seen |= out[i];
	}
	return (seen & rare) != 0;
}

/*
 * The rest goes by words of eight rows: arrays are whole groups, so there is no
 * remainder.
 */

static inline uint64_t
get_word(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline void
put_word(uint8_t *p, uint64_t word)
{
	memcpy(p, &word, sizeof(word));
}

#define LOW_BITS UINT64_C(0x0101010101010101)

#if HAVE_AVX2
TARGET_AVX2 static void
and_avx2(uint8_t *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i += VECTOR_GROUP)
		_mm256_storeu_si256((__m256i *) (out + i), _mm256_and_si256(_mm256_loadu_si256((const __m256i *) (out + i)),
		                                                            _mm256_loadu_si256((const __m256i *) (in + i))));
}

TARGET_AVX2 static void
or_avx2(uint8_t *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i += VECTOR_GROUP)
		_mm256_storeu_si256((__m256i *) (out + i), _mm256_or_si256(_mm256_loadu_si256((const __m256i *) (out + i)),
		                                                           _mm256_loadu_si256((const __m256i *) (in + i))));
}
#endif

void
vector_and(uint8_t *out, const uint8_t *in, size_t n)
{
#if HAVE_AVX2
	if (cpu_avx2())
	{
		and_avx2(out, in, n);
		return;
	}
#endif
	for (size_t i = 0; i < n; i += 8)
		put_word(out + i, get_word(out + i) & get_word(in + i));
}

void
vector_or(uint8_t *out, const uint8_t *in, size_t n)
{
#if HAVE_AVX2
	if (cpu_avx2())
	{
		or_avx2(out, in, n);
		return;
	}
#endif
	for (size_t i = 0; i < n; i += 8)
		put_word(out + i, get_word(out + i) | get_word(in + i));
}

void
vector_not(uint8_t *out, size_t n)
{
	/* the bounds change places, and so do unknown and true in each */
	for (size_t i = 0; i < n; i += 8)
	{
		uint64_t word = ~get_word(out + i);

		put_word(out + i, (word >> 3 & LOW_BITS) | (word >> 1 & LOW_BITS << 1) |
		                      (word & LOW_BITS << 1) << 1 | (word & LOW_BITS) << 3);
	}
}

/*
 * A row may go on if the bit "maybe" of its truth, or of the opposite of it, is
 * set, and certainly does if the bit "certain" is.
 */
typedef struct Stop
{
	uint8_t flip;
	int     maybe;
	int     certain;
} Stop;

static const Stop stops[] = {
	[VECTOR_UNLESS_TRUE] = {0, 1, 3},
	[VECTOR_IF_FALSE] = {0, 0, 2},
	[VECTOR_IF_TRUE] = {0xFF, 3, 1}};

#if HAVE_AVX2
TARGET_AVX2 static bool
narrow_avx2(uint8_t *rows, const uint8_t *truth, Stop stop, size_t n)
{
	const __m256i flip = _mm256_set1_epi8((char) stop.flip);
	const __m256i low = _mm256_set1_epi8(1);
	const __m128i maybe = _mm_cvtsi32_si128(stop.maybe);
	const __m128i certain = _mm_cvtsi32_si128(stop.certain);
	__m256i       any = _mm256_setzero_si256();

	for (size_t i = 0; i < n; i += VECTOR_GROUP)
	{
		__m256i t = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) (truth + i)), flip);
		__m256i may = _mm256_and_si256(_mm256_srl_epi16(t, maybe), low);
		__m256i does = _mm256_and_si256(_mm256_srl_epi16(t, certain), low);

		t = _mm256_and_si256(_mm256_loadu_si256((const __m256i *) (rows + i)),
		                     _mm256_or_si256(may, _mm256_add_epi8(does, does)));
		_mm256_storeu_si256((__m256i *) (rows + i), t);
		any = _mm256_or_si256(any, t);
	}
	return !_mm256_testz_si256(any, any);
}
#endif

bool
vector_narrow(uint8_t *rows, const uint8_t *truth, VectorStop stop, size_t n)
{
	const Stop     s = stops[stop];
	const uint64_t flip = LOW_BITS * s.flip;
	uint64_t       any = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		return narrow_avx2(rows, truth, s, n);
#endif
	for (size_t i = 0; i < n; i += 8)
	{
		uint64_t t = get_word(truth + i) ^ flip;

		/* who certainly goes on was there for certain */
		t = get_word(rows + i) & ((t >> s.maybe & LOW_BITS) | (t >> s.certain & LOW_BITS) << 1);
		put_word(rows + i, t);
		any |= t;
	}
	return any != 0;
}

#if HAVE_AVX2
TARGET_AVX2 static uint32_t
list_avx2(const uint8_t *rows, size_t n, uint32_t *out, uint32_t *listed)
{
	const __m256i in = _mm256_set1_epi8(ROW_IN);
	uint32_t      n_out = 0;
	size_t        i = 0;

	for (; i + VECTOR_GROUP <= n; i += VECTOR_GROUP)
	{
		__m256i  is_in = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *) (rows + i)), in);
		uint32_t mask = (uint32_t) _mm256_movemask_epi8(is_in);

		for (; mask != 0; mask &= mask - 1)
			out[n_out++] = (uint32_t) i + (uint32_t) __builtin_ctz(mask);
	}
	*listed = n_out;
	return (uint32_t) i;
}
#endif

uint32_t
vector_list(const uint8_t *rows, size_t n, uint32_t *out)
{
	uint32_t n_out = 0;
	uint32_t i = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		i = list_avx2(rows, n, out, &n_out);
#endif
	for (; i < n; i++)
	{
		out[n_out] = i;
		n_out += rows[i] == ROW_IN;
	}
	return n_out;
}
