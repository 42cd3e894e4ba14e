/*-------------------------------------------------------------------------
 *
 * scan_walk.h
 *	  The way of a custom node through a table: which segments a snapshot
 *	  sees, in which order, who of several processes takes which part.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_SCAN_WALK_H
#define TEMPO_ACCESS_SCAN_WALK_H

#include "postgres.h"

#include "access/compat.h"
#include "access/directory.h"
#include "access/insert_buffer.h"
#include "access/parallel.h"
#include "access/scan_counters.h"
#include "access/scan_filter.h"
#include "access/segment_source.h"
#include TEMPO_EXPLAIN_HEADER
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif
#include "port/atomics.h"

/* Rows of a segment that a process of a parallel scan takes at once: whole blocks. */
#define WALK_UNIT_ROWS (8 * 16384)

typedef struct RowRange
{
	uint32 first;
	uint32 end;
} RowRange;

/* What is taken at once: a segment, or in a parallel scan a part of one. */
typedef struct ScanUnit
{
	const TempoSegment *segment;
	RowRange            rows;
} ScanUnit;

/* Shared by the processes of a parallel scan, which all have the same units. */
typedef struct SharedWalk
{
	pg_atomic_uint64   next_unit;
	SharedScanCounters counters; /* of workers that are done */
} SharedWalk;

typedef struct ScanWalk
{
	Relation           rel;
	Snapshot           snapshot;
	ScanFilter        *filter;
	bool               listed;
	TempoSegmentBounds bounds; /* that the list is for */
	MemoryContext      list_context;
	MemoryContext      open_context; /* of the open segment; reset when the walk starts */
	TempoSegment      *segments;
	uint32             n_segments;
	ScanUnit          *units;
	uint64             n_units;
	uint64             next_unit;
	SharedWalk        *shared;    /* NULL: not a parallel scan */
	List              *pendings;  /* batches listed with the segments */
	int                n_pending; /* of them, those begun */
	const ScanUnit    *unit;      /* current */
	TempoOpenSegment  *open;
	ScanCounters       counters;
	ScanCounters       worker_counters;
	SegmentCounters    segment_counters; /* of the open segment, when last looked at */
} ScanWalk;

extern void tempo_walk_init(ScanWalk *walk, Relation rel, Snapshot snapshot, ScanFilter *filter);

/* tempo_walk_start: from the beginning; the filter's operands are known */
extern void tempo_walk_start(ScanWalk *walk);

/*
 * tempo_walk_next: opens the next segment whose zone map lets the filter pass;
 * false when there is none left.  Which rows of it, and whether its
 * footer rules it out, is for the caller to say.
 */
extern bool tempo_walk_next(ScanWalk *walk);

/* tempo_walk_block: may rows of the block that begins at row "first" pass? */
extern bool tempo_walk_block(ScanWalk *walk, uint32 first);

/* tempo_walk_pending: the next batch in memory, after all segments; NULL = none is left */
extern TempoInsertBuffer *tempo_walk_pending(ScanWalk *walk);

extern void tempo_walk_close(ScanWalk *walk);

/* Parallel scans share a counter of units. */
extern Size tempo_walk_shared_size(void);
extern void tempo_walk_share(ScanWalk *walk, void *place);
extern void tempo_walk_reshare(void *place);
extern void tempo_walk_attach(ScanWalk *walk, void *place);

/*
 * tempo_walk_shut_down: for ShutdownCustomScan.  Workers leave their counters
 * where the leader finds them, who comes here after them unless the query ended
 * early.
 */
extern void tempo_walk_shut_down(ScanWalk *walk);

extern void tempo_walk_explain(const ScanWalk *walk, ExplainState *es);

#endif /* TEMPO_ACCESS_SCAN_WALK_H */
