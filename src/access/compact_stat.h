/*-------------------------------------------------------------------------
 *
 * compact_stat.h
 *	  What is known in the whole server about the merging of each table.
 *
 * Counters, the last error, and how many level-0 segments wait, in shared
 * memory since the server started.  Without preloading there is none:
 * tempo_compact_stat() then gives NULL, which every function here takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPACT_STAT_H
#define TEMPO_ACCESS_COMPACT_STAT_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct TempoCompactStat TempoCompactStat;

typedef enum TempoCompactPhase
{
	TEMPO_PHASE_IDLE,
	TEMPO_PHASE_FOLDING, /* level-0 segments */
	TEMPO_PHASE_MERGING,
	TEMPO_PHASE_REWRITING, /* a segment with deleted rows */
	TEMPO_PHASE_MOVING,    /* a segment to the front of the file */
	TEMPO_PHASE_EXPIRING,
	TEMPO_PHASE_VACUUMING,
	TEMPO_PHASE_WAITING /* for tempo_pg.compaction_rate_limit */
} TempoCompactPhase;

/* The numbers of one merge, or of one run of retention. */
typedef struct TempoCompactWork
{
	uint64 sources;
	uint64 targets;
	uint64 rows_in;
	uint64 rows_out;
	uint64 bytes_read;
	uint64 bytes_written;
} TempoCompactWork;

/*
 * tempo_compact_stat: of a table of this database; the pointer stays good.
 * tempo_compact_stat_known: the same for readers, who do not make one.
 */
extern TempoCompactStat *tempo_compact_stat(Oid relid);
extern TempoCompactStat *tempo_compact_stat_known(Oid relid);

/* tempo_stat_forget_missing: makes room: tables of this database that are not in the list */
extern void tempo_stat_forget_missing(const Oid *relids, int n);

/* tempo_stat_forget: makes room: a table that is dropped, or all of a database (relid = InvalidOid) */
extern void tempo_stat_forget(Oid database, Oid relid);

/* tempo_stat_phase: this process begins something, of "total" segments; IDLE = it is done */
extern void tempo_stat_phase(TempoCompactStat *stat, TempoCompactPhase phase, uint32 total);

/* tempo_stat_progress: so far, of the merge that runs */
extern void tempo_stat_progress(TempoCompactStat *stat, const TempoCompactWork *work);

/* tempo_stat_merged, tempo_stat_expired: it is committed, or as good as */
extern void tempo_stat_merged(TempoCompactStat *stat, const TempoCompactWork *work);
extern void tempo_stat_expired(TempoCompactStat *stat, uint32 segments, uint64 rows);
extern void tempo_stat_orphans(TempoCompactStat *stat, uint32 rows);

/* tempo_stat_failed: what the view shows until something else fails; "waiting" segments are left out for now */
extern void tempo_stat_failed(TempoCompactStat *stat, const char *message);
extern void tempo_stat_quarantined(TempoCompactStat *stat, uint32 segments);

/*
 * Level-0 segments that wait: a merger sets what it counted, a writer adds
 * what it committed.  "oldest" is when the oldest was stored, 0 = none waits.
 */
extern void   tempo_stat_set_level0(TempoCompactStat *stat, uint32 count, TimestampTz oldest);
extern void   tempo_stat_add_level0(TempoCompactStat *stat, uint32 count);
extern uint32 tempo_stat_level0(TempoCompactStat *stat);

/*
 * The floor of a storage id: no level-0 segment with a smaller id is visible
 * to a snapshot that sees the end of every transaction before "end" but those
 * that were running.
 */
#define TEMPO_FLOOR_RUNNING 64

typedef struct TempoStatFloor
{
	uint64        storage_id; /* 0 = no floor is known */
	uint64        segment_id;
	TransactionId end;
	uint32        n_running;
	TransactionId running[TEMPO_FLOOR_RUNNING];
} TempoStatFloor;

extern void           tempo_stat_set_floor(TempoCompactStat *stat, const TempoStatFloor *floor);
extern TempoStatFloor tempo_stat_floor(TempoCompactStat *stat);

extern void tempo_compact_stat_init(void);

#endif /* TEMPO_ACCESS_COMPACT_STAT_H */
