/*-------------------------------------------------------------------------
 *
 * newest_slices.h
 *	  A table in slices, those with the newest traces first.
 *
 * Traces lie in a segment in the order of their starts (as far as the segment
 * knows them).  So the smallest start time of a block bounds the starts of
 * all traces that have rows only in blocks before it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_NEWEST_SLICES_H
#define TEMPO_ACCESS_NEWEST_SLICES_H

#include "postgres.h"

#include "access/directory.h"
#include "access/scan_filter.h"
#include "access/segment_source.h"

/* Rows of a segment: whole blocks. */
typedef struct SliceRange
{
	uint32 segment;
	uint32 first;
	uint32 end;
} SliceRange;

typedef struct NewestSlices NewestSlices;

typedef struct SliceCounters
{
	uint64 slices;
	uint64 segments_zone;  /* left out by zone map or tenant filter */
	uint64 segments_lists; /* left out by what the footer lists */
	uint64 blocks_zone;
} SliceCounters;

/* What conditions on every row may hide of a trace. */
typedef enum RowsHidden
{
	ROWS_NOT_HIDDEN,
	ROWS_HIDDEN_OF_TENANTS, /* those of other tenants */
	ROWS_HIDDEN
} RowsHidden;

/*
 * tempo_slices_create: slices of what "filter", which has been started, may let
 * pass.  No trace that starts after "newest_wanted" is asked for.  Memory is
 * taken from the current context.
 */
extern NewestSlices *tempo_slices_create(Relation rel, const TempoSegment *segments,
                                         uint32 n_segments, ScanFilter *filter, RowsHidden hidden,
                                         int64 newest_wanted, SliceCounters *counters);

/*
 * tempo_slices_next: the next slice; each is about twice as large as the one
 * before.  Traces that have rows only in later ones start at "bound" or
 * before.  False, with nothing in the slice, when there is none left.
 */
extern bool tempo_slices_next(NewestSlices *slices, SliceRange **ranges, uint32 *n_ranges,
                              int64 *bound);

#endif /* TEMPO_ACCESS_NEWEST_SLICES_H */
