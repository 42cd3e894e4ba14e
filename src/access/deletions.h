/*-------------------------------------------------------------------------
 *
 * deletions.h
 *	  Rows deleted from segments.
 *
 * A segment never changes.  What a command deletes from it is a row of the
 * heap table tempo.segment_deletions, a bitmap, and visible as that row is;
 * whoever lists segments gets, with each, the bitmaps its snapshot sees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_DELETIONS_H
#define TEMPO_ACCESS_DELETIONS_H

#include "access/directory.h"
#include "access/segment_source.h"
#include "segment/merge.h"
#include "access/tableam.h"

static inline bool
tempo_row_is_deleted(const TempoSegment *segment, uint32 row)
{
	return segment->deleted != NULL && (segment->deleted[row / 8] & (1 << row % 8)) != 0;
}

/*
 * tempo_deletions_attach: sets "deleted" and "n_deleted" of segments of one
 * storage id, ordered by segment id, to what the snapshot sees.  Where that
 * cannot be read, sets "mask_damaged": the segment must not be read then.
 */
extern void tempo_deletions_attach(Snapshot snapshot, TempoSegment *segments, uint32 count);

/*
 * tempo_deletions_check_mask: raises an error if what is deleted of a segment
 * cannot be read, before a row of it is taken for one that is not deleted;
 * tempo_segment_open() does.
 */
extern void tempo_deletions_check_mask(Relation rel, const TempoSegment *segment);

/*
 * tempo_deletions_check: calls "problem" for each bitmap of a storage id that
 * does not fit one of its segments, which are ordered by segment id.
 */
extern void tempo_deletions_check(Snapshot snapshot, uint64 storage_id, TempoSegment *segments, uint32 count,
                                  void (*problem)(void *arg, uint64 segment_id, const char *text), void *arg);

/*
 * tempo_deletions_drop: of spans "from" and later in the batch, the first of
 * which is row "first" of the segment, removes the deleted ones.
 */
extern void tempo_deletions_drop(const TempoSegment *segment, uint32 first, SpanBatch *batch, uint32 from);

/*
 * tempo_deletions_merge: reads the rows of a segment that are not deleted, nor
 * left out for the filter's other reasons, for a merge
 */
extern void tempo_deletions_merge(TempoOpenSegment *open, const TempoSegment *segment, SegmentMergeFilter filter,
                                  SegmentMerge *merge);

/*
 * tempo_deletions_forget: removes what is stored about one segment, or about
 * all of a storage id (segment = NULL).
 */
extern void tempo_deletions_forget(uint64 storage_id, const TempoSegment *segment);

/*
 * tempo_deletions_remove_orphans: removes bitmaps that the snapshot sees of
 * segments that it does not see in the directory; "segments" is all that is
 * there.  Returns how many.
 */
extern uint32 tempo_deletions_remove_orphans(Snapshot snapshot, TempoSegment *segments, uint32 count);

/*
 * tempo_delete_row: what tuple_delete and tuple_lock do: waits for others that
 * delete from the same segment, and with "mark" deletes the row.
 */
extern TM_Result tempo_delete_row(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
                                  Snapshot crosscheck, TM_FailureData *failure, bool mark);

/* tempo_deletions_superseded: the error of who comes for rows that a merge has moved */
extern _Noreturn void tempo_deletions_superseded(Relation rel);

/* tempo_deletions_own: has this transaction deleted the row of a segment with rows that it inserted? */
extern bool tempo_deletions_own(const TempoSegment *segment, uint32 row);

/* tempo_deletions_segment: the segment with "block" that the transaction has locked, or NULL */
extern const TempoSegment *tempo_deletions_segment(Oid relid, BlockNumber block);

/* tempo_deletions_pending: has a command deleted what is not written yet, from a relation or any (InvalidOid)? */
extern bool tempo_deletions_pending(Oid relid);

/* tempo_flush_deletions: writes what the current subtransaction has deleted */
extern void tempo_flush_deletions(void);

extern void tempo_deletions_init(void);

#endif /* TEMPO_ACCESS_DELETIONS_H */
