/*-------------------------------------------------------------------------
 *
 * spangen.h
 *	  Spans for tests: realistic and adversarial ones, and comparing them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TEST_SPANGEN_H
#define TEMPO_TEST_SPANGEN_H

#include "span/batch.h"

/* xorshift: the same numbers everywhere */
typedef struct Random
{
	uint64_t state;
} Random;

extern uint64_t random_next(Random *random);
extern uint64_t random_below(Random *random, uint64_t bound);

/* spangen_realistic: services, shapes and values as instrumented programs make them */
extern void spangen_realistic(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

/* spangen_adversarial: everything that is legal and odd */
extern void spangen_adversarial(SpanBatch *batch, uint32_t n_spans, uint64_t seed);

/*
 * spans_equal: every field, looking through string ids, scopes and resources.
 * The name of the first different field goes to *what.
 */
extern bool spans_equal(const SpanBatch *a, const Span *x, const SpanBatch *b, const Span *y, const char **what);

#endif /* TEMPO_TEST_SPANGEN_H */
