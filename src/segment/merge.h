/*-------------------------------------------------------------------------
 *
 * merge.h
 *	  Merges segments into others without making spans of their rows.
 *
 * The rows of all sources are read once.  A row becomes a few numbers: its
 * times and ids, what the rows of its shape share, and for each value that
 * varies a number or the code of a text, which is kept once.  A target is
 * written of such rows; what only rows have that are left out, texts of
 * dictionaries included, is in no target.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_MERGE_H
#define TEMPO_SEGMENT_MERGE_H

#include "segment/reader.h"

typedef struct SegmentMerge SegmentMerge;

/* Which rows of a source are taken. */
typedef struct SegmentMergeFilter
{
	const uint8_t *deleted; /* a bit for each row that is left out; NULL = none */

	/*
	 * cutoff: rows of the tenant that ended before this time, or were stored
	 * before it, are left out; NULL = none is too old
	 */
	int64_t (*cutoff)(void *arg, SpanText tenant);
	void   *arg;
	int64_t stored;
} SegmentMergeFilter;

/* segment_merge_create: NULL = no memory */
extern SegmentMerge *segment_merge_create(const SpanAllocator *allocator);
extern void          segment_merge_destroy(SegmentMerge *merge);

/* segment_merge_blocks: how often segment_merge_add() is called for a source */
extern uint32_t segment_merge_blocks(const SegmentReader *reader);

/*
 * segment_merge_add: reads one block of a source; its blocks are read in
 * order, before those of the next source.  After a failure the merge can only
 * be destroyed.
 */
extern bool segment_merge_add(SegmentMerge *merge, SegmentReader *reader, uint32_t block,
                              const SegmentMergeFilter *filter, SpanError *error);

/* segment_merge_rows, segment_merge_memory: what has been read, and the bytes it takes */
extern uint32_t segment_merge_rows(const SegmentMerge *merge);
extern size_t   segment_merge_memory(const SegmentMerge *merge);

/*
 * segment_merge_split: after the last source: divides the rows by tenant and
 * by the window that the later one of their times is in.  "window" may be
 * NULL.  False = no memory.
 */
extern bool segment_merge_split(SegmentMerge *merge, int64_t (*window)(void *arg, SpanText tenant, int64_t end),
                                void *arg, uint32_t *n_targets, SpanError *error);

/*
 * segment_merge_write: the image of one target, which has no row_of, for
 * segment_merge_free_image(); the last target is written last, and once
 */
extern bool segment_merge_write(SegmentMerge *merge, uint32_t target, const SegmentWriteOptions *options,
                                SegmentImage *image, SpanError *error);

extern void segment_merge_free_image(SegmentMerge *merge, SegmentImage *image);

#endif /* TEMPO_SEGMENT_MERGE_H */
