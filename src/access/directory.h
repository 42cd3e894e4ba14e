/*-------------------------------------------------------------------------
 *
 * directory.h
 *	  The segment directory: one row of an ordinary heap table per segment.
 *
 * A segment is visible to a snapshot exactly when its directory row is, so
 * everything about transactions (rollback, savepoints, prepared transactions,
 * old snapshots, standbys, freezing) is the heap's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_DIRECTORY_H
#define TEMPO_ACCESS_DIRECTORY_H

#include "postgres.h"

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "segment/writer.h"
#include "storage/block.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* A row of tempo.segment_directory, unpacked. */
typedef struct TempoSegment
{
	uint64         storage_id; /* of the relation's file, see pages.h */
	uint64         segment_id; /* never used twice under one storage id */
	BlockNumber    first_block;
	BlockNumber    n_blocks;
	uint32         n_requests; /* request hashes inside */
	TimestampTz    newest_at;  /* when the newest span inside was stored */
	SegmentSummary summary;

	/* about the directory row itself */
	ItemPointerData tid;
	TransactionId   xmin;

	/* the rows that the snapshot sees deleted, a bit each (deletions.h); NULL if there are none */
	const uint8 *deleted;
	uint32       n_deleted;
	bool         mask_damaged; /* nor is it known which */
} TempoSegment;

/* Names one segment of all that ever were. */
typedef struct TempoSegmentKey
{
	uint64 storage_id;
	uint64 segment_id;
} TempoSegmentKey;

/*
 * The bounds of a question: segments that cannot hold a span starting in
 * min_start <= start < end_start, or of one of the tenants, are left out.
 */
typedef struct TempoSegmentBounds
{
	int64  min_start;
	int64  end_start; /* exclusive; PG_INT64_MAX = none, as a span may start then */
	uint64 tenants;   /* OR of segment_tenant_bit(), 0 = any */
} TempoSegmentBounds;

/* The directory and its indexes, open. */
typedef struct TempoDirectory
{
	Relation heap;
	Relation merged; /* index of level 1 and up, on (storage_id, max_start_nano) */
	Relation level0; /* index of level 0, on (storage_id, segment_id) */
	LOCKMODE lockmode;
} TempoDirectory;

/*
 * tempo_directory_open: false only with missing_ok, when the extension's
 * table is not there (being dropped, or not created yet).
 */
extern bool tempo_directory_open(TempoDirectory *directory, LOCKMODE lockmode, bool missing_ok);
extern void tempo_directory_close(TempoDirectory *directory);

/*
 * tempo_try_lock_own_tables: for a worker, before it locks a table of spans:
 * locks the extension's tables until the end of the transaction, without
 * waiting.  DROP EXTENSION locks them first, and waits for the others.
 */
extern bool tempo_try_lock_own_tables(LOCKMODE lockmode);

/*
 * tempo_directory_insert_heap, tempo_directory_insert_index: the two halves
 * of adding a row: only the first happens under the page lock that guards
 * extents.  The row is written with command id "cid"; sets segment->tid.
 */
extern void tempo_directory_insert_heap(TempoDirectory *directory, TempoSegment *segment, CommandId cid);
extern void tempo_directory_insert_index(TempoDirectory *directory, const TempoSegment *segment);

/*
 * tempo_directory_claim: locks a row against other mergers until the end of
 * the transaction; false if somebody else has it or has replaced it.
 */
extern bool tempo_directory_claim(TempoDirectory *directory, const TempoSegment *segment);

/* tempo_directory_delete: deletes a claimed row */
extern void tempo_directory_delete(TempoDirectory *directory, const TempoSegment *segment);

/*
 * tempo_directory_forget: deletes every row of a storage id, in this
 * transaction; the caller holds AccessExclusiveLock on the relation.
 */
extern void tempo_directory_forget(uint64 storage_id);

/*
 * tempo_directory_list: the segments that "snapshot" sees, in the order they
 * were made, palloc'd.  "bounds" may be NULL.  Raises 40001 if the relation
 * was rewritten after the snapshot was taken, so that its rows cannot be seen.
 */
extern TempoSegment *tempo_directory_list(Relation rel, Snapshot snapshot,
                                          const TempoSegmentBounds *bounds, uint32 *count);

/* tempo_directory_list_images: the same without looking for what is deleted from them */
extern TempoSegment *tempo_directory_list_images(Relation rel, Snapshot snapshot,
                                                 const TempoSegmentBounds *bounds, uint32 *count);

/*
 * tempo_directory_advance_floor: given all that "snapshot", the latest, sees,
 * notes from which segment id on there are level-0 segments for it and later
 * snapshots, so that these pass by what is before.  What it needs from call to
 * call is in *floor, zeroed at first.
 */
typedef struct TempoFloor
{
	uint64            storage_id;
	uint64            next_segment_id; /* when "xid" had not been given out */
	FullTransactionId xid;
} TempoFloor;
extern void tempo_directory_advance_floor(Relation rel, Snapshot snapshot,
                                          const TempoSegment *segments, uint32 count,
                                          TempoFloor *floor);

/*
 * tempo_directory_extents: the extent of every row that has not been pruned
 * away, whether anybody sees it or not: what is not free in the file.
 */
extern TempoSegment *tempo_directory_extents(TempoDirectory *directory, uint64 storage_id, uint32 *count);

/*
 * tempo_directory_scan: the rows that the snapshot sees, of a storage id or of
 * all (0), without an index and in no order; deletions are not attached.
 */
extern TempoSegment *tempo_directory_scan(TempoDirectory *directory, Snapshot snapshot, uint64 storage_id,
                                          uint32 *count);

/*
 * Rows of a segment have physical TIDs: row r is in block
 * first_block + r / rows_per_block, at offset 1 + r % rows_per_block.
 */
#define TEMPO_MAX_ROWS_PER_BLOCK 2047

static inline uint32
tempo_rows_per_block(const TempoSegment *segment)
{
	return (segment->summary.rows + segment->n_blocks - 1) / segment->n_blocks;
}

static inline void
tempo_row_tid(const TempoSegment *segment, uint32 row, ItemPointer tid)
{
	uint32 per_block = tempo_rows_per_block(segment);

	ItemPointerSet(tid, segment->first_block + row / per_block, 1 + row % per_block);
}

/* tempo_segments_find_block: the segment of a list sorted by first_block that has "block", or NULL */
extern const TempoSegment *tempo_segments_find_block(const TempoSegment *segments, uint32 count, BlockNumber block);
extern void                tempo_segments_sort_by_block(TempoSegment *segments, uint32 count);

/* tempo_tid_row: the row of a segment that "tid" names; false if it has none there */
extern bool tempo_tid_row(const TempoSegment *segment, ItemPointer tid, uint32 *row);

#endif /* TEMPO_ACCESS_DIRECTORY_H */
