/*-------------------------------------------------------------------------
 *
 * tally.h
 *	  The values of all attributes of a segment's rows, by codes instead of
 *	  spans: for who counts how often each occurs.
 *
 * What all rows of a shape have is told once per block, with the number of
 * rows; dictionary entries once per segment.  Rows are counted in slots, of
 * the caller's choice.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_TALLY_H
#define TEMPO_SEGMENT_TALLY_H

#include "segment/reader.h"

/* The slot of rows that do not count. */
#define TALLY_NONE UINT32_MAX

/* What a value is of.  Those before the names have keys; kind and status are ints. */
typedef enum TallyPlace
{
	TALLY_SPAN,
	TALLY_RESOURCE,
	TALLY_SCOPE,
	TALLY_NAME,
	TALLY_KIND,
	TALLY_STATUS,
	TALLY_STATUS_MESSAGE,
	TALLY_SCOPE_NAME,
	TALLY_SCOPE_VERSION
} TallyPlace;

/*
 * Who counts.  What "attribute" and "value" return stands for an attribute and
 * one of its values, and is never NULL; what they are given is valid for the
 * call.  None may fail, except by leaving by way of an error of their own.
 */
typedef struct TallySink
{
	void *arg;
	void *(*attribute)(void *arg, TallyPlace place, SpanText key);
	void *(*value)(void *arg, void *attribute, const AnyValue *value);

	/* "n" rows of the slot have the value */
	void (*add)(void *arg, void *value, uint32_t slot, uint32_t n);

	/* row i, in slots[i], has values[codes[i]], or values[i]; not if the slot is TALLY_NONE */
	void (*add_codes)(void *arg, void *const *values, const uint32_t *codes, const uint32_t *slots,
	                  uint32_t n);
	void (*add_values)(void *arg, void *attribute, const AnyValue *values, const uint32_t *slots,
	                   uint32_t n);
} TallySink;

typedef struct SegmentTally SegmentTally;

/*
 * segment_tally_create: for one open segment, rows in slots below n_slots.  The
 * reader, the sink and the allocator must live as long.  NULL on damage.
 */
extern SegmentTally *segment_tally_create(SegmentReader *reader, const TallySink *sink,
                                          uint32_t n_slots, const SpanAllocator *allocator,
                                          SpanError *error);
extern void          segment_tally_free(SegmentTally *tally);

/*
 * segment_tally_block: counts the rows of the block that begins at row "first".
 * "slots" has one for each row of the block.  The span attributes of some rows
 * cannot be told by codes: *rest has these rows, of the segment and ascending,
 * until the next call.  All else of them is counted.
 */
extern bool segment_tally_block(SegmentTally *tally, uint32_t first, const uint32_t *slots,
                                const uint32_t **rest, uint32_t *n_rest, SpanError *error);

#endif /* TEMPO_SEGMENT_TALLY_H */
