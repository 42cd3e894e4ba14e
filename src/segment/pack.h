/*-------------------------------------------------------------------------
 *
 * pack.h
 *	  Columns of numbers as bytes.
 *
 * A number costs its bit length (one byte, which compresses well) and the
 * bits below the highest one (which do not compress): about its entropy, at
 * a few instructions each way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_PACK_H
#define TEMPO_SEGMENT_PACK_H

#include "segment/bytes.h"

/* Readable bytes that pack_numbers_get() needs behind a payload. */
#define PACK_SLACK 16

/* pack_numbers: appends "n" numbers to data (compressible) and payload (not) */
extern void pack_numbers(Buffer *data, Buffer *payload, const int64_t *values, uint32_t n);

/* pack_planes: the bytes of u64s, plane by plane from the lowest, "width" planes */
extern void pack_planes(Buffer *data, const uint64_t *values, uint32_t n, int width);

/* code_width: bytes of a dictionary code */
static inline int
code_width(uint32_t n_entries)
{
	return n_entries <= 0x100 ? 1 : n_entries <= 0x10000 ? 2 :
	                                                       4;
}

/*
 * unpack_numbers: the reverse of pack_numbers and pack_planes with width 8;
 * "data" is the section with its encoding byte.  False = damaged.
 */
extern bool unpack_numbers(const uint8_t *data, size_t data_len, const uint8_t *payload, size_t payload_len,
                           int64_t *values, uint32_t n);

/*
 * unpack_some_numbers: the same, of the "n" numbers only first .. end - 1; what
 * the others are is checked no further than it takes to find these
 */
extern bool unpack_some_numbers(const uint8_t *data, size_t data_len, const uint8_t *payload, size_t payload_len,
                                int64_t *values, uint32_t n, uint32_t first, uint32_t end);

/* unpack_codes: "n" codes in planes; false if one is not below "limit" */
extern bool unpack_codes(const uint8_t *planes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit);

/* unpack_some_codes: of "n" codes only first .. end - 1 */
extern bool unpack_some_codes(const uint8_t *planes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit,
                              uint32_t first, uint32_t end);

/* unpack_numbered: the same as unpack_codes, of codes that stand one after the other */
extern bool unpack_numbered(const uint8_t *bytes, size_t len, uint32_t *codes, uint32_t n, uint32_t limit);

#endif /* TEMPO_SEGMENT_PACK_H */
