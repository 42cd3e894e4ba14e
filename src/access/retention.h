/*-------------------------------------------------------------------------
 *
 * retention.h
 *	  How long spans are kept, and the removal of those that are too old.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_RETENTION_H
#define TEMPO_ACCESS_RETENTION_H

#include "access/directory.h"
#include "segment/merge.h"

/*
 * The limits as they are now: tempo_pg.retention and tempo.overrides.  They
 * apply to tempo.spans; a table of the same kind that somebody made is
 * theirs, and has limits only where tempo.apply_retention() names it.
 */
typedef struct TempoRetention TempoRetention;

/* tempo_retention_read: palloc'd; NULL if nothing is too old in this table, ever */
extern TempoRetention *tempo_retention_read(Relation rel);

/*
 * tempo_retention_window: spans that end in different windows are not merged
 * into one segment, so that a segment holds back its oldest spans for at most
 * the length of a window.  "tenants" is a segment's filter, 0 = no window.
 */
extern int64 tempo_retention_window(const TempoRetention *retention, uint64 tenants);

/* tempo_window_of: the number of the window of a span or segment that ends at "end" and was stored at "stored" */
extern int64 tempo_window_of(int64 window, int64 end, TimestampTz stored);

/* tempo_retention_filter: leaves the spans out that are too old, of a segment that was stored then */
extern void tempo_retention_filter(const TempoRetention *retention, TimestampTz stored, SegmentMergeFilter *filter);

typedef struct TempoExpired
{
	uint32          segments;
	uint64          rows;
	uint64          bytes;
	TempoSegmentKey reading; /* after an error: the segment that was being read, or zeros */
} TempoExpired;

/*
 * tempo_expire: deletes the segments in which everything is too old, in the
 * current transaction.  Segments that somebody else has locked stay, and those
 * to avoid are not read.
 */
extern void tempo_expire(Relation rel, const TempoRetention *retention, const TempoSegmentKey *avoid, uint32 n_avoid,
                         TempoExpired *expired);

extern void tempo_retention_init(void);

#endif /* TEMPO_ACCESS_RETENTION_H */
