/*-------------------------------------------------------------------------
 *
 * compact.h
 *	  Merging small segments into large ones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPACT_H
#define TEMPO_ACCESS_COMPACT_H

#include "postgres.h"

#include "access/compact_stat.h"
#include "access/directory.h"
#include "access/move.h"
#include "datatype/timestamp.h"
#include "utils/rel.h"

typedef enum TempoCompactMode
{
	TEMPO_COMPACT_LAZY, /* what has become worth it */
	TEMPO_COMPACT_FULL  /* as few segments as the bounds allow */
} TempoCompactMode;

typedef struct TempoCompactOptions
{
	TempoCompactMode mode;
	uint32           max_spans; /* of a merged segment; 0 = default */

	/*
	 * Lazily: level-0 segments are folded when there are this many, or when
	 * the oldest is that old (milliseconds).
	 */
	uint32 fold_count;
	int    fold_age;

	const TempoSegmentKey *avoid; /* not to be read: damaged */
	uint32                 n_avoid;
	TempoFloor            *floor; /* to be advanced; NULL = not */
	TempoSpace            *space; /* how much the table uses; NULL = not known */
} TempoCompactOptions;

typedef struct TempoCompactResult
{
	uint32           sources; /* segments merged, in all steps so far */
	uint32           targets; /* into so many */
	uint32           moves;   /* segments moved to the front of the file */
	uint64           spans;
	uint64           bytes;     /* of the targets */
	uint32           level0;    /* level-0 segments that were there */
	int64            next_fold; /* milliseconds until a fold is due; -1 = nothing to fold */
	TempoCompactWork work;      /* of the last merge */
	TempoSegmentKey  reading;   /* after an error: the segment that was being read, or zeros */
} TempoCompactResult;

/*
 * tempo_compact_step: one merge, in the current transaction; false if there
 * was nothing to do (or somebody else is at it).  The caller holds
 * RowExclusiveLock on the relation and ends the transaction, or at least the
 * command, before the next step.
 */
extern bool tempo_compact_step(Relation rel, const TempoCompactOptions *options, TempoCompactResult *result);

/*
 * tempo_compact_relation: the same by OID, for a worker: opens the relation if
 * its lock is free, and returns false if not or if it is gone.
 */
extern bool tempo_compact_relation(Oid relid, const TempoCompactOptions *options, TempoCompactResult *result);

/*
 * The lock on the merging of a table: a worker has it for each of its merges
 * and does not wait for it; tempo.compact() waits, and holds off the worker
 * until it is done.
 */
extern bool tempo_lock_merging(Oid relid, bool wait);
extern void tempo_unlock_merging(Oid relid);

/*
 * tempo_open_to_maintain: opens a table of the access method with
 * RowExclusiveLock for its owner or a member of tempo_admin; raises an error
 * for others, before it is locked.
 */
extern Relation tempo_open_to_maintain(Oid relid);

extern void tempo_compact_init(void);

#endif /* TEMPO_ACCESS_COMPACT_H */
