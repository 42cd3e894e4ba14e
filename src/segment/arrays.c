/*-------------------------------------------------------------------------
 *
 * arrays.c
 *	  Loops over arrays of numbers, one entry per row, which is where the time
 *	  of scans and aggregations goes.
 *
 * The versions for AVX2 do as much of an array as fits, and return how much;
 * the plain ones do the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/arrays.h"

#include <string.h>

#include "segment/cpu.h"

bool
array_lookup(const uint32_t *indexes, size_t n, const uint32_t *table, uint32_t *out)
{
	uint32_t any = 0;
	size_t   i = 0;

	/* four at a time: the loads do not wait for each other */
	for (; i + 4 <= n; i += 4)
	{
		uint32_t a = table[indexes[i]];
		uint32_t b = table[indexes[i + 1]];
		uint32_t c = table[indexes[i + 2]];
		uint32_t d = table[indexes[i + 3]];

		out[i] = a;
		out[i + 1] = b;
		out[i + 2] = c;
		out[i + 3] = d;
		any |= a | b | c | d;
	}
	for (; i < n; i++)
		any |= out[i] = table[indexes[i]];
	return any >> 31 != 0;
}

/*
 * Numbers of few bytes.
 */

#if HAVE_AVX2
TARGET_AVX2 static inline __m256i
eight_bytes(const uint8_t *bytes)
{
	return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) bytes));
}

TARGET_AVX2 static size_t
widen_avx2(const uint8_t *bytes, size_t n, int width, size_t stride, uint32_t *out, uint32_t *largest)
{
	__m256i  most = _mm256_setzero_si256();
	size_t   i = 0;
	uint32_t lanes[8];

	for (; i + 8 <= n; i += 8)
	{
		__m256i v;

		if (width == 1)
			v = eight_bytes(bytes + i);
		else if (stride == 1)
			v = width == 2 ? _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) (bytes + 2 * i))) :
			                 _mm256_loadu_si256((const __m256i *) (bytes + 4 * i));
		else
		{
			v = _mm256_or_si256(eight_bytes(bytes + i), _mm256_slli_epi32(eight_bytes(bytes + stride + i), 8));
			if (width == 4)
				v = _mm256_or_si256(v, _mm256_or_si256(_mm256_slli_epi32(eight_bytes(bytes + 2 * stride + i), 16),
				                                       _mm256_slli_epi32(eight_bytes(bytes + 3 * stride + i), 24)));
		}
		most = _mm256_max_epu32(most, v);
		_mm256_storeu_si256((__m256i *) (out + i), v);
	}
	_mm256_storeu_si256((__m256i *) lanes, most);
	for (int k = 0; k < 8; k++)
		*largest = lanes[k] > *largest ? lanes[k] : *largest;
	return i;
}

TARGET_AVX2 static size_t
add_bytes_avx2(const uint8_t *bytes, size_t n, int64_t base, int64_t *out)
{
	const __m256i bases = _mm256_set1_epi64x(base);
	size_t        i = 0;

	for (; i + 4 <= n; i += 4)
	{
		int32_t four;

		memcpy(&four, bytes + i, 4);
		_mm256_storeu_si256((__m256i *) (out + i),
		                    _mm256_add_epi64(bases, _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four))));
	}
	return i;
}
#endif

/* From entry "i" on; in place for each width. */
static inline void
widen_plain(const uint8_t *bytes, size_t i, size_t n, int width, size_t stride, uint32_t *out, uint32_t *largest)
{
	size_t step = stride == 1 ? (size_t) width : 1;

	for (; i < n; i++)
	{
		uint32_t v = 0;

		for (int k = 0; k < width; k++)
			v |= (uint32_t) bytes[i * step + (size_t) k * stride] << (8 * k);
		out[i] = v;
		*largest = v > *largest ? v : *largest;
	}
}

uint32_t
array_widen(const uint8_t *bytes, size_t n, int width, size_t stride, uint32_t *out)
{
	uint32_t largest = 0;
	size_t   i = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		i = widen_avx2(bytes, n, width, stride, out, &largest);
#endif
	if (width == 1)
		widen_plain(bytes, i, n, 1, stride, out, &largest);
	else if (width == 2)
		widen_plain(bytes, i, n, 2, stride, out, &largest);
	else
		widen_plain(bytes, i, n, 4, stride, out, &largest);
	return largest;
}

void
array_add_bytes(const uint8_t *bytes, size_t n, int64_t base, int64_t *out)
{
	size_t i = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		i = add_bytes_avx2(bytes, n, base, out);
#endif
	for (; i < n; i++)
		out[i] = (int64_t) ((uint64_t) base + bytes[i]);
}

/*
 * Counting.
 */

void
array_count(const uint32_t *indexes, size_t n, uint32_t *counts, uint32_t n_counts)
{
	uint32_t *second = counts + n_counts;
	uint32_t *third = second + n_counts;
	uint32_t *fourth = third + n_counts;
	size_t    i = 0;

	/*
	 * Neighbours mostly have the same index, and to add to what was stored just
	 * now takes longer than anything else here: hence several tables, as long as
	 * they are small beside the array.
	 */
	if (array_count_room(n, n_counts) == n_counts)
	{
		memset(counts, 0, (size_t) n_counts * sizeof(uint32_t));
		for (; i < n; i++)
			counts[indexes[i]]++;
		return;
	}
	memset(counts, 0, (size_t) n_counts * ARRAY_TABLES * sizeof(uint32_t));
	for (; i + ARRAY_TABLES <= n; i += ARRAY_TABLES)
	{
		counts[indexes[i]]++;
		second[indexes[i + 1]]++;
		third[indexes[i + 2]]++;
		fourth[indexes[i + 3]]++;
	}
	for (; i < n; i++)
		counts[indexes[i]]++;
	for (uint32_t k = 0; k < n_counts; k++)
		counts[k] += second[k] + third[k] + fourth[k];
}

/*
 * Logarithms.
 */

static inline uint8_t
ceil_log2(int64_t value)
{
	double   number = (double) value;
	uint64_t bits;

	memcpy(&bits, &number, sizeof(bits));
	if (value < 2)
		return 0;
	return (uint8_t) ((bits >> 52) - 1023 + ((bits & ((UINT64_C(1) << 52) - 1)) != 0));
}

#if HAVE_AVX2
/* Four logarithms, a byte each; values are below 2^52. */
TARGET_AVX2 static inline uint32_t
four_logs(__m256i values)
{
	/* 2^52 + v, as a double; less 2^52, v as a double */
	const __m256i magic = _mm256_set1_epi64x(INT64_C(0x4330000000000000));
	const __m256i low_bytes = _mm256_setr_epi8(0, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
	                                           -1, -1, 0, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
	__m256i       below = _mm256_sub_epi64(values, _mm256_set1_epi64x(1));
	__m256d       number;
	__m256i       logs;

	/* the logarithm of v, rounded up, is that of v - 1, rounded down, and 1 */
	number = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(below, magic)), _mm256_castsi256_pd(magic));
	logs = _mm256_sub_epi64(_mm256_srli_epi64(_mm256_castpd_si256(number), 52), _mm256_set1_epi64x(1022));
	logs = _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(2), values), logs);
	logs = _mm256_shuffle_epi8(logs, low_bytes);
	return (uint32_t) _mm_cvtsi128_si32(_mm_or_si128(_mm256_castsi256_si128(logs), _mm256_extracti128_si256(logs, 1)));
}

TARGET_AVX2 static size_t
logs_avx2(const int64_t *values, size_t n, uint8_t *out)
{
	const __m256i limit = _mm256_set1_epi64x((INT64_C(1) << 52) - 1);
	size_t        i = 0;

	for (; i + 4 <= n; i += 4)
	{
		__m256i  four = _mm256_loadu_si256((const __m256i *) (values + i));
		__m256i  large = _mm256_cmpgt_epi64(four, limit);
		uint32_t logs;

		if (_mm256_testz_si256(large, large))
		{
			logs = four_logs(four);
			memcpy(out + i, &logs, 4);
		}
		else
			for (size_t k = i; k < i + 4; k++)
				out[k] = ceil_log2(values[k]);
	}
	return i;
}
#endif

void
array_logs(const int64_t *values, size_t n, uint8_t *out)
{
	size_t i = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		i = logs_avx2(values, n, out);
#endif
	for (; i < n; i++)
		out[i] = ceil_log2(values[i]);
}

/*
 * Places in an array of several dimensions.
 */

#if HAVE_AVX2
TARGET_AVX2 static size_t
places_avx2(const uint32_t *rows, const uint8_t *columns, size_t n, uint32_t width, uint32_t depth, uint32_t base,
            uint32_t *out)
{
	const __m256i widths = _mm256_set1_epi32((int) width);
	const __m256i depths = _mm256_set1_epi32((int) depth);
	const __m256i bases = _mm256_set1_epi32((int) base);
	size_t        i = 0;

	for (; i + 8 <= n; i += 8)
	{
		__m256i v = _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *) (rows + i)), widths);

		if (columns != NULL)
			v = _mm256_add_epi32(v, eight_bytes(columns + i));
		_mm256_storeu_si256((__m256i *) (out + i), _mm256_add_epi32(_mm256_mullo_epi32(v, depths), bases));
	}
	return i;
}
#endif

void
array_places(const uint32_t *rows, const uint8_t *columns, size_t n, uint32_t width, uint32_t depth, uint32_t base,
             uint32_t *out)
{
	size_t i = 0;

#if HAVE_AVX2
	if (cpu_avx2())
		i = places_avx2(rows, columns, n, width, depth, base, out);
#endif
	for (; i < n; i++)
		out[i] = (rows[i] * width + (columns != NULL ? columns[i] : 0)) * depth + base;
}
