/*
 * Both versions of every loop that has one for AVX2, on all lengths, widths and
 * alignments, against the obvious loop.  Arrays are allocated to the byte, so
 * that ASan sees whoever reads or writes behind them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "segment/arrays.h"
#include "segment/cpu.h"
#include "segment/image.h"
#include "segment/pack.h"
#include "segment/vector.h"
#include "span/allocator.h"
#include "spangen.h"
#include "tap.h"

static const int64_t odd[] = {INT64_MIN, INT64_MIN + 1, -1,
                              0, 1, 2,
                              3, INT64_MAX - 1, INT64_MAX,
                              INT64_C(1) << 52, (INT64_C(1) << 52) - 1, (INT64_C(1) << 52) + 1,
                              INT64_C(1) << 53, (INT64_C(1) << 53) + 1, (INT64_C(1) << 62) + 1};

/* "len" bytes, "by" bytes off any alignment; *block is to be freed */
static void *
unaligned(size_t len, size_t by, void **block)
{
	*block = malloc(len + by + 1);
	return (uint8_t *) *block + by;
}

/* Lengths from 0 on, then some larger ones. */
static size_t
length(int round)
{
	return round < 70 ? (size_t) round : (size_t) round * 13 % 1000;
}

static int64_t
any_number(Random *random)
{
	return random_below(random, 3) == 0 ? odd[random_below(random, sizeof(odd) / sizeof(odd[0]))] :
	                                      (int64_t) (random_next(random) >> random_below(random, 64));
}

static void
test_widen(Random *random, size_t n, size_t by)
{
	static const int widths[] = {1, 2, 4};

	for (int w = 0; w < 6; w++)
	{
		int       width = widths[w % 3];
		bool      planes = w >= 3;
		void     *of_bytes;
		uint8_t  *bytes = unaligned(n * width, by, &of_bytes);
		uint32_t *out = malloc((n + 1) * sizeof(uint32_t));
		uint32_t  largest;
		uint32_t  expected = 0;
		uint32_t  wrong = 0;

		for (size_t i = 0; i < n * width; i++)
			bytes[i] = (uint8_t) random_next(random);
		largest = array_widen(bytes, n, width, planes && n > 0 ? n : 1, out);
		for (size_t i = 0; i < n; i++)
		{
			uint32_t v = 0;

			for (int k = 0; k < width; k++)
				v |= (uint32_t) bytes[planes ? (size_t) k * n + i : i * width + k] << (8 * k);
			wrong += out[i] != v;
			expected = v > expected ? v : expected;
		}
		ok(wrong == 0 && largest == expected, "widen %d%s: %u wrong of %u", width, planes ? " planes" : "", wrong, (unsigned) n);
		free(of_bytes);
		free(out);
	}
}

static void
test_bytes(Random *random, size_t n, size_t by)
{
	void    *of_bytes;
	uint8_t *bytes = unaligned(n, by, &of_bytes);
	int64_t *out = malloc((n + 1) * sizeof(int64_t));
	int64_t  base = any_number(random);
	uint32_t wrong = 0;

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t) random_next(random);
	array_add_bytes(bytes, n, base, out);
	for (size_t i = 0; i < n; i++)
		wrong += (uint64_t) out[i] != (uint64_t) base + bytes[i];
	ok(wrong == 0, "bytes: %u wrong of %u", wrong, (unsigned) n);
	free(of_bytes);
	free(out);
}

static uint8_t
plain_log(int64_t value)
{
	int    exponent;
	double number = (double) value;
	double part = frexp(number, &exponent);

	return value < 2 ? 0 : (uint8_t) (part == 0.5 ? exponent - 1 : exponent);
}

static void
test_logs(Random *random, size_t n)
{
	int64_t *values = malloc((n + 1) * sizeof(int64_t));
	uint8_t *out = malloc(n + 1);
	uint32_t wrong = 0;

	for (size_t i = 0; i < n; i++)
		values[i] = any_number(random);
	array_logs(values, n, out);
	for (size_t i = 0; i < n; i++)
		wrong += out[i] != plain_log(values[i]);
	ok(wrong == 0, "logarithms: %u wrong of %u", wrong, (unsigned) n);
	free(values);
	free(out);
}

/* Look-ups, places and counts of indexes below "limit". */
static void
test_indexes(Random *random, size_t n, uint32_t limit)
{
	uint32_t *indexes = malloc((n + 1) * sizeof(uint32_t));
	uint32_t *table = malloc(limit * sizeof(uint32_t));
	uint8_t  *columns = malloc(n + 1);
	uint32_t *out = malloc((n + 1) * sizeof(uint32_t));
	uint32_t *counts = malloc(array_count_room(n, limit) * sizeof(uint32_t));
	uint32_t  width = random_below(random, 70);
	uint32_t  depth = random_below(random, 100000);
	uint32_t  base = random_below(random, 100);
	uint32_t  wrong = 0;
	bool      high = false;
	bool      found;

	for (uint32_t i = 0; i < limit; i++)
		table[i] = (uint32_t) random_next(random) >> (random_below(random, 20) == 0 ? 0 : 1);
	for (size_t i = 0; i < n; i++)
	{
		indexes[i] = random_below(random, limit);
		columns[i] = (uint8_t) random_next(random);
		high |= table[indexes[i]] >> 31 != 0;
	}
	found = array_lookup(indexes, n, table, out);
	for (size_t i = 0; i < n; i++)
		wrong += out[i] != table[indexes[i]];
	ok(wrong == 0 && found == high, "look-up: %u wrong of %u", wrong, (unsigned) n);

	wrong = 0;
	array_places(indexes, columns, n, width, depth, base, out);
	for (size_t i = 0; i < n; i++)
		wrong += out[i] != (indexes[i] * width + columns[i]) * depth + base;
	array_places(indexes, NULL, n, width, depth, base, out);
	for (size_t i = 0; i < n; i++)
		wrong += out[i] != indexes[i] * width * depth + base;
	ok(wrong == 0, "places: %u wrong of %u", wrong, (unsigned) n);

	wrong = 0;
	memset(counts, 0x55, array_count_room(n, limit) * sizeof(uint32_t));
	array_count(indexes, n, counts, limit);
	for (size_t i = 0; i < n; i++)
		counts[indexes[i]]--;
	for (uint32_t i = 0; i < limit; i++)
		wrong += counts[i] != 0;
	ok(wrong == 0, "counts below %u: %u wrong of %u", limit, wrong, (unsigned) n);
	free(indexes);
	free(table);
	free(columns);
	free(out);
	free(counts);
}

/* Numbers of at most "bits" bits above a minimum, packed and unpacked; and what is not packed well. */
static void
test_numbers(Random *random, uint32_t n, int bits, uint64_t scale)
{
	int64_t *values = malloc(((size_t) n + 1) * sizeof(int64_t));
	int64_t *out = malloc(((size_t) n + 1) * sizeof(int64_t));
	int64_t  min = any_number(random);
	Buffer   data;
	Buffer   payload;
	uint8_t *bytes;
	bool     unpacked;

	buffer_init(&data, &span_malloc_allocator);
	buffer_init(&payload, &span_malloc_allocator);
	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t v = bits == 0 ? 0 : random_next(random) >> (64 - bits);

		values[i] = (int64_t) ((uint64_t) min + (random_below(random, 8) == 0 ? 0 : v) * scale);
	}
	pack_numbers(&data, &payload, values, n);
	/* to the byte, and the slack that readers promise */
	bytes = calloc(payload.len + PACK_SLACK, 1);
	if (payload.len > 0)
		memcpy(bytes, payload.data, payload.len);
	unpacked = unpack_numbers(data.data, data.len, bytes, payload.len, out, n);
	ok(unpacked && (n == 0 || memcmp(values, out, (size_t) n * sizeof(int64_t)) == 0), "%u numbers of %d bits by %u", n, bits,
	   (unsigned) scale);
	ok(payload.len == 0 || !unpack_numbers(data.data, data.len, bytes, payload.len - 1, out, n), "a byte is missing");
	ok(!unpack_numbers(data.data, data.len - 1, bytes, payload.len, out, n) || n == 0, "a length is missing");
	free(values);
	free(out);
	free(bytes);
	buffer_free(&data);
	buffer_free(&payload);
}

static void
test_codes(Random *random, uint32_t n, uint32_t limit)
{
	int       width = code_width(limit);
	uint8_t  *planes = malloc((size_t) n * width + 1);
	uint8_t  *row = malloc((size_t) n * width + 1);
	uint32_t *codes = malloc(((size_t) n + 1) * sizeof(uint32_t));
	uint32_t *out = malloc(((size_t) n + 1) * sizeof(uint32_t));

	for (uint32_t i = 0; i < n; i++)
	{
		codes[i] = random_below(random, limit);
		for (int k = 0; k < width; k++)
			planes[(size_t) k * n + i] = row[(size_t) i * width + k] = (uint8_t) (codes[i] >> (8 * k));
	}
	ok(unpack_codes(planes, (size_t) n * width, out, n, limit) && memcmp(codes, out, (size_t) n * sizeof(uint32_t)) == 0,
	   "%u codes below %u", n, limit);
	ok(unpack_numbered(row, (size_t) n * width, out, n, limit) && memcmp(codes, out, (size_t) n * sizeof(uint32_t)) == 0,
	   "%u numbers below %u", n, limit);
	ok(!unpack_codes(planes, (size_t) n * width + 1, out, n, limit), "a byte too many");
	if (n > 0 && limit % 256 != 0)
	{
		/* one that is not below the limit, anywhere */
		uint32_t at = random_below(random, n);

		for (int k = 0; k < width; k++)
			planes[(size_t) k * n + at] = row[(size_t) at * width + k] = (uint8_t) (limit >> (8 * k));
		ok(!unpack_codes(planes, (size_t) n * width, out, n, limit) && !unpack_numbered(row, (size_t) n * width, out, n, limit),
		   "code %u of %u is too large", at, n);
	}
	free(planes);
	free(row);
	free(codes);
	free(out);
}

/* Rows and truths of whole groups. */
static void
test_vectors(Random *random, size_t n)
{
	static const uint8_t truths[] = {TRUTH_FALSE, TRUTH_UNKNOWN, TRUTH_TRUE, TRUTH_UNDECIDED};
	static const uint8_t states[] = {ROW_OUT, ROW_MAYBE, ROW_IN};
	size_t               size = vector_size(n);
	uint8_t             *rows = malloc(size + 1);
	uint8_t             *a = malloc(size + 1);
	uint8_t             *b = malloc(size + 1);
	uint8_t             *out = malloc(size + 1);
	uint32_t            *list = malloc((n + 1) * sizeof(uint32_t));
	uint32_t             n_list;
	uint32_t             n_in = 0;
	uint32_t             wrong = 0;

	for (size_t i = 0; i < size; i++)
	{
		rows[i] = i < n ? states[random_below(random, 3)] : ROW_OUT;
		a[i] = truths[random_below(random, 4)];
		b[i] = truths[random_below(random, 4)];
	}
	memcpy(out, a, size);
	vector_and(out, b, size);
	for (size_t i = 0; i < size; i++)
		wrong += out[i] != (a[i] & b[i]);
	memcpy(out, a, size);
	vector_or(out, b, size);
	for (size_t i = 0; i < size; i++)
		wrong += out[i] != (a[i] | b[i]);
	ok(wrong == 0, "and, or: %u wrong of %u", wrong, (unsigned) size);
	for (int stop = VECTOR_UNLESS_TRUE; stop <= VECTOR_IF_TRUE; stop++)
	{
		bool any = false;
		bool told;

		wrong = 0;
		memcpy(out, rows, size);
		told = vector_narrow(out, a, (VectorStop) stop, size);
		for (size_t i = 0; i < size; i++)
		{
			bool    may = stop == VECTOR_UNLESS_TRUE ? (a[i] & AT_MOST_TRUE) != 0 : stop == VECTOR_IF_FALSE ? (a[i] & AT_MOST_UNKNOWN) != 0 :
			                                                                                                  (a[i] & AT_LEAST_TRUE) == 0;
			bool    does = stop == VECTOR_UNLESS_TRUE ? (a[i] & AT_LEAST_TRUE) != 0 : stop == VECTOR_IF_FALSE ? (a[i] & AT_LEAST_UNKNOWN) != 0 :
			                                                                                                    (a[i] & AT_MOST_TRUE) == 0;
			uint8_t expected = rows[i] == ROW_OUT || !may ? ROW_OUT : rows[i] == ROW_IN && does ? ROW_IN :
			                                                                                      ROW_MAYBE;

			wrong += out[i] != expected;
			any |= expected != ROW_OUT;
		}
		ok(wrong == 0 && told == any, "narrow %d: %u wrong of %u", stop, wrong, (unsigned) size);
	}
	n_list = vector_list(rows, n, list);
	wrong = 0;
	for (size_t i = 0; i < n; i++)
		if (rows[i] == ROW_IN)
			wrong += n_in >= n_list || list[n_in++] != i;
	ok(wrong == 0 && n_in == n_list, "list: %u wrong of %u", wrong, n_list);
	for (size_t i = 0; i < size; i++)
		a[i] = (uint8_t) (random_below(random, 12) == 0 ? 0x40 << random_below(random, 2) : a[i]);
	wrong = 0;
	for (size_t i = 0; i < size; i += 8)
	{
		uint8_t mark = i % 16 == 0 ? 0x80 : 0x40;
		bool    marked = false;

		for (size_t k = i; k < i + 8; k++)
			marked |= rows[k] != ROW_OUT && (a[k] & mark) != 0;
		wrong += vector_marked(rows + i, a + i, mark) != marked;
	}
	ok(wrong == 0, "marked: %u wrong", wrong);
	free(rows);
	free(a);
	free(b);
	free(out);
	free(list);
}

static void
test_all(Random *random)
{
	static const uint32_t limits[] = {1, 2, 255, 256, 257, 5000, 65535, 65536, 65537, 1000000};

	for (int round = 0; round < 100; round++)
	{
		size_t n = length(round);

		test_widen(random, n, (size_t) round % 9);
		test_bytes(random, n, (size_t) round % 5);
		test_logs(random, n);
		test_indexes(random, n, 1 + random_below(random, round % 2 == 0 ? 50 : 2000));
		test_codes(random, (uint32_t) n, limits[round % 10]);
		test_vectors(random, n);
	}
	for (int bits = 0; bits <= 64; bits++)
		for (uint32_t n = 0; n < 12; n++)
		{
			test_numbers(random, n, bits, 1);
			test_numbers(random, n * 17 + 1, bits, bits > 40 ? 1 : 1000);
			test_numbers(random, n * 31 + 3, bits, bits > 40 ? 1 : 1000000);
		}
}

int
main(void)
{
	Random random = {3};

	for (int avx2 = 0; avx2 < 2; avx2++)
	{
		cpu_allow_avx2(avx2 == 1);
		test_all(&random);
	}
	return tap_done();
}
