/*-------------------------------------------------------------------------
 *
 * bloom.h
 *	  Bloom filters over attribute values, about 10 bits per value.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_BLOOM_H
#define TEMPO_SEGMENT_BLOOM_H

#include "segment/bytes.h"

/*
 * bloom_value_hash: equal for values that TraceQL holds equal (3 and 3.0).
 * Stored: never change.  False for values that filters do not know (arrays,
 * maps, empty ones, NaN).
 */
extern bool bloom_value_hash(const AnyValue *value, uint64_t *hash);

/* bloom_key_hash: mixes a key into a value's hash, for filters over many keys */
extern uint64_t bloom_key_hash(SpanText key, uint64_t hash);

/* bloom_size: bytes of a filter for "n" values */
extern size_t bloom_size(uint32_t n);
extern void   bloom_add(uint8_t *filter, size_t size, uint64_t hash);
extern bool   bloom_has(const uint8_t *filter, size_t size, uint64_t hash);

#endif /* TEMPO_SEGMENT_BLOOM_H */
