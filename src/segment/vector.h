/*-------------------------------------------------------------------------
 *
 * vector.h
 *	  Truth values of many rows at once, a byte each.
 *
 * A truth value is one of SQL's three, or a pair of bounds for it: "undecided"
 * is at least false and at most true.  The four bits make AND and OR of bounds
 * one instruction for as many rows as fit into a register.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_VECTOR_H
#define TEMPO_SEGMENT_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The bits of a truth value: at most, and at least, unknown or true. */
#define AT_MOST_UNKNOWN 1  /* set: may be unknown or more */
#define AT_MOST_TRUE 2     /* set: may be true */
#define AT_LEAST_UNKNOWN 4 /* set: is unknown or true */
#define AT_LEAST_TRUE 8    /* set: is true */

#define TRUTH_FALSE 0
#define TRUTH_UNKNOWN (AT_MOST_UNKNOWN | AT_LEAST_UNKNOWN)
#define TRUTH_TRUE 15
#define TRUTH_UNDECIDED (AT_MOST_UNKNOWN | AT_MOST_TRUE)

/* How far a row gets: not to be looked at, may get here, certainly gets here. */
#define ROW_OUT 0
#define ROW_MAYBE 1
#define ROW_IN 3

/* Rows are processed in groups of this many: arrays must have room for whole groups. */
#define VECTOR_GROUP 32

static inline size_t
vector_size(size_t n)
{
	return (n + VECTOR_GROUP - 1) / VECTOR_GROUP * VECTOR_GROUP;
}

/* vector_range: TRUTH_TRUE where min <= value <= max, else TRUTH_FALSE; or, if "negate", the other way round */
extern void vector_range(const int64_t *values, size_t n, int64_t min, int64_t max, bool negate, uint8_t *out);

/* vector_lookup: out[i] = table[codes[i]]; true if one of them has the bit "rare" */
extern bool vector_lookup(const uint32_t *codes, size_t n, const uint8_t *table, uint8_t rare, uint8_t *out);

/* out and in: arrays of whole groups */
extern void vector_and(uint8_t *out, const uint8_t *in, size_t n);
extern void vector_or(uint8_t *out, const uint8_t *in, size_t n);
extern void vector_not(uint8_t *out, size_t n);

/* What decides whether a row gets to the next condition. */
typedef enum VectorStop
{
	VECTOR_UNLESS_TRUE, /* a list of conditions that must all be true */
	VECTOR_IF_FALSE,    /* AND */
	VECTOR_IF_TRUE      /* OR */
} VectorStop;

/* vector_narrow: which rows go on; true if any does */
extern bool vector_narrow(uint8_t *rows, const uint8_t *truth, VectorStop stop, size_t n);

/* vector_list: lists the rows that are ROW_IN, of n, and returns how many; "out" has room for n */
extern uint32_t vector_list(const uint8_t *rows, size_t n, uint32_t *out);

/*
 * vector_marked: has any of the eight rows that begin here, and are not out, the bit
 * "mark" in its truth: one that those who keep tables of truths use for their own
 */
static inline bool
vector_marked(const uint8_t *rows, const uint8_t *truth, uint8_t mark)
{
	const uint64_t low = UINT64_C(0x0101010101010101);
	uint64_t       r;
	uint64_t       t;

	memcpy(&r, rows, sizeof(r));
	memcpy(&t, truth, sizeof(t));
	return (t & (r & low) * mark) != 0;
}

#endif /* TEMPO_SEGMENT_VECTOR_H */
