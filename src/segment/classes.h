/*-------------------------------------------------------------------------
 *
 * classes.h
 *	  Rows of a segment as small numbers instead of spans: for who counts them.
 *
 * Rows that agree in all that a projection asks for are of one class.  Whatever
 * depends on nothing else, a condition or a label, is to be found out once per
 * class, from any row of it.  Two classes may agree, too.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_CLASSES_H
#define TEMPO_SEGMENT_CLASSES_H

#include "segment/reader.h"

/* The parts that a projection to classes may have, beside keys. */
#define SEGMENT_CLASS_PARTS \
	(SEGMENT_NAME | SEGMENT_KIND | SEGMENT_STATUS | SEGMENT_STATUS_MESSAGE | SEGMENT_TRACE_STATE | \
	 SEGMENT_FLAGS | SEGMENT_DROPPED | SEGMENT_RESOURCE | SEGMENT_SCOPE | SEGMENT_TENANT)

typedef struct SegmentClasses SegmentClasses;

/*
 * segment_classes_create: for one open segment.  The keys of the projection,
 * the reader and the allocator must live as long.  NULL on damage, or if the
 * projection has other parts.
 */
extern SegmentClasses *segment_classes_create(SegmentReader           *reader,
                                              const SegmentProjection *projection,
                                              const SpanAllocator *allocator, SpanError *error);
extern void            segment_classes_free(SegmentClasses *classes);

/*
 * segment_classes_block: the class of each row of the block that begins at row
 * "first"; "numbers" has room for segment_block_rows().  Classes are numbered
 * from 0 as they are found; *n_classes is their number so far.  When there are
 * too many to remember, *restarted is set: the numbers of blocks before mean
 * nothing any more.
 */
extern bool segment_classes_block(SegmentClasses *classes, uint32_t first, uint32_t *numbers,
                                  uint32_t *n_classes, bool *restarted, SpanError *error);

/*
 * segment_times_block: start times, and durations, of the rows of the block
 * that begins at row "first"; NULL for what is not needed.  They are the
 * reader's, until it is asked for another block.
 */
extern bool segment_times_block(SegmentReader *reader, uint32_t first, const int64_t **starts,
                                const int64_t **durations, SpanError *error);

#endif /* TEMPO_SEGMENT_CLASSES_H */
