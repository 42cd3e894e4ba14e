/*-------------------------------------------------------------------------
 *
 * arrays.h
 *	  Loops over arrays of numbers, one entry per row, which is where the time
 *	  of scans and aggregations goes.
 *
 * Arrays may begin anywhere and have any length; nothing behind them is
 * touched.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_ARRAYS_H
#define TEMPO_SEGMENT_ARRAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* array_lookup: out[i] = table[indexes[i]]; true if one of them has the highest bit */
extern bool array_lookup(const uint32_t *indexes, size_t n, const uint32_t *table, uint32_t *out);

/*
 * array_widen: numbers of "width" bytes (1, 2 or 4) as words; returns the largest.
 * The bytes of a number are "stride" bytes apart, those of the next number begin
 * one byte later if stride is not 1, else behind it.
 */
extern uint32_t array_widen(const uint8_t *bytes, size_t n, int width, size_t stride, uint32_t *out);

/* array_add_bytes: out[i] = base + bytes[i] */
extern void array_add_bytes(const uint8_t *bytes, size_t n, int64_t base, int64_t *out);

/*
 * array_count: how often each index, below n_counts, occurs: counts[0 .. n_counts - 1].
 * There must be room for array_count_room() counts.
 */
#define ARRAY_TABLES 4
extern void array_count(const uint32_t *indexes, size_t n, uint32_t *counts, uint32_t n_counts);

static inline size_t
array_count_room(size_t n, uint32_t n_counts)
{
	return n_counts > n ? n_counts : (size_t) n_counts * ARRAY_TABLES;
}

/* array_logs: ceil(log2(value)) as a double has it; 0 below 2 */
extern void array_logs(const int64_t *values, size_t n, uint8_t *out);

/* array_places: out[i] = (rows[i] * width + columns[i]) * depth + base; columns may be NULL, which is all 0 */
extern void array_places(const uint32_t *rows, const uint8_t *columns, size_t n, uint32_t width, uint32_t depth,
                         uint32_t base, uint32_t *out);

#endif /* TEMPO_SEGMENT_ARRAYS_H */
