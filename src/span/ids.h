/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Trace and span identifiers: sizes, zero tests and hexadecimal forms.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_IDS_H
#define TEMPO_SPAN_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ID_LEN 16
#define SPAN_ID_LEN 8

typedef struct TraceId
{
	uint8_t bytes[TRACE_ID_LEN];
} TraceId;

typedef struct SpanId
{
	uint8_t bytes[SPAN_ID_LEN];
} SpanId;

/* span_id_bytes_zero: are all "len" bytes zero? */
extern bool id_is_zero(const uint8_t *bytes, size_t len);

/* id_to_hex: writes 2 * len lower-case digits and a NUL */
extern void id_to_hex(const uint8_t *bytes, size_t len, char *out);

/*
 * id_from_hex: exactly 2 * len digits of either case.  Returns false for
 * another length or another character.
 */
extern bool id_from_hex(const char *hex, size_t hexlen, uint8_t *bytes, size_t len);

/*
 * id_from_short_hex: 1 to 2 * len digits, padded with zeros on the left, as
 * Tempo reads ids in URLs and TraceQL compares them.
 */
extern bool id_from_short_hex(const char *hex, size_t hexlen, uint8_t *bytes, size_t len);

#endif /* TEMPO_SPAN_IDS_H */
