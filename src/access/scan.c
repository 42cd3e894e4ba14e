/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Whole-table scans: sequential, parallel, by TID range, samples, ANALYZE.
 *
 * A scan begins by listing the segments that its snapshot sees.  For an MVCC
 * snapshot the list depends on nothing else, so every participant of a
 * parallel scan makes its own, the same one, and they share only a counter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/scan.h"

#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/relscan.h"
#include "access/row_source.h"
#include "access/tsmapi.h"
#include "access/xact.h"
#include "catalog/pg_attribute.h"
#include "commands/vacuum.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

typedef struct TempoParallelScan
{
	ParallelTableScanDescData base;
	pg_atomic_uint64          next_unit;
} TempoParallelScan;

/*
 * What a scan goes through: the segments, and the batches that the own
 * transaction could not flush.
 */
typedef struct ScanUnit
{
	const TempoSegment *segment;
	TempoInsertBuffer  *pending;
	uint32              rows;
} ScanUnit;

typedef struct TempoScan
{
	TableScanDescData    base;    /* must be first */
	MemoryContext        context; /* of the list and the rows */
	BufferAccessStrategy strategy;
	TempoRowSource      *source;
	TempoSegment        *segments;
	uint32               n_segments;
	ScanUnit            *units;
	uint32               n_units;
	bool                 listed;

	int64 unit; /* current one; -1 before the first */
	int64 row;  /* in it, the last one returned */

	/* sample and ANALYZE scans go by block */
	BlockNumber         sample_next;
	const TempoSegment *block_segment; /* that the source is at */
	uint32              block_first;   /* rows of the current block */
	uint32              block_rows;
	uint32              block_at;
	BlockNumber         block;
	uint32              analyze_step; /* ANALYZE is shown one row in so many */

	ItemPointerData min_tid;
	ItemPointerData max_tid;
} TempoScan;

TableScanDesc
tempo_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
                 ParallelTableScanDesc parallel, uint32 flags)
{
	TempoScan *scan;

	/* own rows become a segment before they are looked for */
	if (!IsInParallelMode())
		tempo_flush_inserts(RelationGetRelid(rel));

	RelationIncrementReferenceCount(rel);
	scan = palloc0(sizeof(TempoScan));
	scan->base.rs_rd = rel;
	scan->base.rs_snapshot = snapshot;
	scan->base.rs_nkeys = nkeys;
	scan->base.rs_flags = flags;
	scan->base.rs_parallel = parallel;
	scan->context = AllocSetContextCreate(CurrentMemoryContext, "tempo scan", ALLOCSET_SMALL_SIZES);
	scan->unit = -1;
	if (flags & (SO_TYPE_SEQSCAN | SO_TYPE_SAMPLESCAN))
		pgstat_count_heap_scan(rel);
	return &scan->base;
}

static void
list_units(TempoScan *scan)
{
	Relation      rel = scan->base.rs_rd;
	Snapshot      snapshot = scan->base.rs_snapshot;
	MemoryContext caller = MemoryContextSwitchTo(scan->context);
	uint32        allocated;

	/* ANALYZE has no snapshot of its own */
	if (snapshot == NULL)
		snapshot = GetActiveSnapshot();
	scan->segments = tempo_directory_list(rel, snapshot, NULL, &scan->n_segments);
	allocated = scan->n_segments;
	scan->units = palloc((Size) Max(allocated, 1) * sizeof(ScanUnit));
	scan->n_units = 0;
	for (uint32 i = 0; i < scan->n_segments; i++)
	{
		ScanUnit unit = {&scan->segments[i], NULL, scan->segments[i].summary.rows};

		scan->units[scan->n_units++] = unit;
	}
	/* while there are such, hooks.c lets no parallel scan begin */
	if (scan->base.rs_parallel == NULL)
	{
		TempoInsertBuffer *pending = NULL;

		while ((pending = tempo_pending_next(rel, snapshot, pending)) != NULL)
		{
			ScanUnit unit = {NULL, pending, tempo_pending_batch(pending)->n_spans};

			if (scan->n_units == allocated)
			{
				allocated += 8;
				scan->units = repalloc(scan->units, allocated * sizeof(ScanUnit));
			}
			scan->units[scan->n_units++] = unit;
		}
	}
	/* for a large relation do not displace the rest of shared buffers */
	if ((scan->base.rs_flags & SO_ALLOW_STRAT) != 0 &&
	    RelationGetNumberOfBlocks(rel) > NBuffers / 4)
		scan->strategy = GetAccessStrategy(BAS_BULKREAD);
	scan->source = tempo_row_source_create(rel, scan->strategy);
	MemoryContextSwitchTo(caller);
	scan->listed = true;
}

void
tempo_scan_end(TableScanDesc desc)
{
	TempoScan *scan = (TempoScan *) desc;

	if (scan->source != NULL)
		tempo_row_source_free(scan->source);
	MemoryContextDelete(scan->context);
	if (scan->base.rs_flags & SO_TEMP_SNAPSHOT)
		UnregisterSnapshot(scan->base.rs_snapshot);
	RelationDecrementReferenceCount(scan->base.rs_rd);
	pfree(scan);
}

void
tempo_scan_rescan(TableScanDesc desc, struct ScanKeyData *key, bool set_params,
                  bool allow_strat, bool allow_sync, bool allow_pagemode)
{
	TempoScan *scan = (TempoScan *) desc;

	if (set_params)
	{
		scan->base.rs_flags &= ~(SO_ALLOW_STRAT | SO_ALLOW_SYNC | SO_ALLOW_PAGEMODE);
		scan->base.rs_flags |= (allow_strat ? SO_ALLOW_STRAT : 0) |
		                       (allow_sync ? SO_ALLOW_SYNC : 0) | (allow_pagemode ? SO_ALLOW_PAGEMODE : 0);
	}
	scan->unit = -1;
	scan->row = 0;
	scan->sample_next = 0;
	scan->block_segment = NULL;
	scan->block_rows = 0;
	scan->block_at = 0;
	if (scan->base.rs_flags & (SO_TYPE_SEQSCAN | SO_TYPE_SAMPLESCAN))
		pgstat_count_heap_scan(scan->base.rs_rd);
}

/* ------------------------------------------------------ sequential scans */

/* The unit that a participant of a parallel scan takes next. */
static int64
next_parallel_unit(TempoScan *scan)
{
	TempoParallelScan *shared = (TempoParallelScan *) scan->base.rs_parallel;
	uint64             unit = pg_atomic_fetch_add_u64(&shared->next_unit, 1);

	return (int64) Min(unit, (uint64) scan->n_units);
}

/*
 * Steps to the next or previous unit; false at the end, where the position
 * stays just outside, so that a cursor can turn round.
 */
static bool
step_unit(TempoScan *scan, ScanDirection direction)
{
	ScanUnit *unit;
	int64     end = scan->n_units;

	CHECK_FOR_INTERRUPTS();
	if (ScanDirectionIsBackward(direction))
		scan->unit = Max(scan->unit - 1, -1);
	else if (scan->unit < end)
		scan->unit = scan->base.rs_parallel != NULL ? next_parallel_unit(scan) : scan->unit + 1;
	if (scan->unit < 0 || scan->unit >= end)
		return false;

	unit = &scan->units[scan->unit];
	if (unit->segment != NULL)
		tempo_row_source_segment(scan->source, unit->segment);
	else
		tempo_row_source_batch(scan->source, tempo_pending_batch(unit->pending));
	scan->row = ScanDirectionIsBackward(direction) ? (int64) unit->rows : -1;
	return true;
}

/* The TID of the current row. */
static void
current_tid(TempoScan *scan, ItemPointer tid)
{
	ScanUnit *unit = &scan->units[scan->unit];

	if (unit->segment != NULL)
		tempo_row_tid(unit->segment, (uint32) scan->row, tid);
	else
		tempo_pending_tid(unit->pending, (uint32) scan->row, tid);
}

/* Moves to the next row; false at the end. */
static bool
step_row(TempoScan *scan, ScanDirection direction)
{
	if (!scan->listed)
		list_units(scan);
	for (;;)
	{
		if (scan->unit >= 0 && scan->unit < (int64) scan->n_units)
		{
			const ScanUnit *unit = &scan->units[scan->unit];
			int             step = ScanDirectionIsBackward(direction) ? -1 : 1;
			int64           end = step < 0 ? -1 : (int64) unit->rows;

			/* a row just outside the unit, from which a cursor may turn round, is not stepped past */
			while (scan->row != end && scan->row + step != end)
			{
				scan->row += step;
				if (unit->segment == NULL || !tempo_row_is_deleted(unit->segment, (uint32) scan->row))
					return true;
			}
		}
		if (!step_unit(scan, direction))
			return false;
	}
}

bool
tempo_scan_getnextslot(TableScanDesc desc, ScanDirection direction, TupleTableSlot *slot)
{
	TempoScan      *scan = (TempoScan *) desc;
	ItemPointerData tid;

	if (!step_row(scan, direction))
	{
		ExecClearTuple(slot);
		return false;
	}
	current_tid(scan, &tid);
	tempo_row_source_store(scan->source, (uint32) scan->row, &tid, slot, false);
	pgstat_count_heap_getnext(scan->base.rs_rd);
	return true;
}

/* ------------------------------------------------------------- TID ranges */

void
tempo_scan_set_tidrange(TableScanDesc desc, ItemPointer mintid, ItemPointer maxtid)
{
	TempoScan *scan = (TempoScan *) desc;

	ItemPointerCopy(mintid, &scan->min_tid);
	ItemPointerCopy(maxtid, &scan->max_tid);
}

/* Could the unit have rows in the range? */
static bool
unit_in_range(TempoScan *scan)
{
	const TempoSegment *segment = scan->units[scan->unit].segment;

	return segment == NULL ||
	       (segment->first_block <= ItemPointerGetBlockNumberNoCheck(&scan->max_tid) &&
	        segment->first_block + segment->n_blocks > ItemPointerGetBlockNumberNoCheck(&scan->min_tid));
}

bool
tempo_scan_getnextslot_tidrange(TableScanDesc desc, ScanDirection direction, TupleTableSlot *slot)
{
	TempoScan      *scan = (TempoScan *) desc;
	ItemPointerData tid;

	while (step_row(scan, direction))
	{
		if (!unit_in_range(scan))
		{
			/* leave the unit from the end that lies ahead */
			scan->row = ScanDirectionIsBackward(direction) ? 0 : (int64) scan->units[scan->unit].rows - 1;
			continue;
		}
		current_tid(scan, &tid);
		if (ItemPointerCompare(&tid, &scan->min_tid) < 0 ||
		    ItemPointerCompare(&tid, &scan->max_tid) > 0)
			continue;
		tempo_row_source_store(scan->source, (uint32) scan->row, &tid, slot, false);
		pgstat_count_heap_getnext(scan->base.rs_rd);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

/* --------------------------------------------------------- parallel scans */

Size
tempo_parallelscan_estimate(Relation rel)
{
	return sizeof(TempoParallelScan);
}

Size
tempo_parallelscan_initialize(Relation rel, ParallelTableScanDesc parallel)
{
	TempoParallelScan *shared = (TempoParallelScan *) parallel;

#if PG_VERSION_NUM >= 180000
	shared->base.phs_locator = rel->rd_locator;
#else
	shared->base.phs_relid = RelationGetRelid(rel);
#endif
	shared->base.phs_syncscan = false;
	pg_atomic_init_u64(&shared->next_unit, 0);
	return sizeof(TempoParallelScan);
}

void
tempo_parallelscan_reinitialize(Relation rel, ParallelTableScanDesc parallel)
{
	pg_atomic_write_u64(&((TempoParallelScan *) parallel)->next_unit, 0);
}

/* -------------------------------------------------- blocks: samples, ANALYZE */

/*
 * Positions on the rows that have their TIDs in "block".  Blocks of free
 * extents, and of segments that nobody sees, have none.
 */
static bool
enter_block(TempoScan *scan, BlockNumber block)
{
	const TempoSegment *segment;
	uint32              per_block;

	if (!scan->listed)
	{
		list_units(scan);
		tempo_segments_sort_by_block(scan->segments, scan->n_segments);
	}
	scan->block = block;
	scan->block_at = 0;
	scan->block_rows = 0;
	segment = tempo_segments_find_block(scan->segments, scan->n_segments, block);
	if (segment == NULL)
		return false;
	per_block = tempo_rows_per_block(segment);
	scan->block_first = (block - segment->first_block) * per_block;
	if (scan->block_first >= segment->summary.rows)
		return false;
	scan->block_rows = Min(per_block, segment->summary.rows - scan->block_first);
	if (scan->block_segment != segment)
		tempo_row_source_segment(scan->source, segment);
	scan->block_segment = segment;
	return true;
}

static void
store_block_row(TempoScan *scan, uint32 index, TupleTableSlot *slot)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, scan->block, 1 + index);
	tempo_row_source_store(scan->source, scan->block_first + index, &tid, slot, false);
}

#if PG_VERSION_NUM >= 170000
bool
tempo_scan_analyze_next_block(TableScanDesc desc, ReadStream *stream)
{
	Buffer      buffer = read_stream_next_buffer(stream, NULL);
	BlockNumber block;

	if (!BufferIsValid(buffer))
		return false;
	block = BufferGetBlockNumber(buffer);
	ReleaseBuffer(buffer);
	(void) enter_block((TempoScan *) desc, block);
	return true;
}
#else
bool
tempo_scan_analyze_next_block(TableScanDesc desc, BlockNumber block, BufferAccessStrategy strategy)
{
	/* a block without rows counts as sampled: the extrapolation needs it */
	(void) enter_block((TempoScan *) desc, block);
	return true;
}
#endif

/* The statistics target that somebody has set for a column, or -1. */
static int
column_target(Relation rel, AttrNumber attno)
{
#if PG_VERSION_NUM >= 170000
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(RelationGetRelid(rel)), Int16GetDatum(attno));
	bool      isnull = true;
	Datum     target = (Datum) 0;

	if (!HeapTupleIsValid(tuple))
		return -1;
	target = SysCacheGetAttr(ATTNUM, tuple, Anum_pg_attribute_attstattarget, &isnull);
	ReleaseSysCache(tuple);
	return isnull ? -1 : DatumGetInt16(target);
#else
	return TupleDescAttr(RelationGetDescr(rel), attno - 1)->attstattarget;
#endif
}

/*
 * How many rows stand for each one that ANALYZE is shown.  It looks at up to 300
 * blocks, and keeps up to 300 rows, per unit of the largest statistics target; twice
 * as many rows are enough to choose from, and the others need not be decoded.
 */
static uint32
find_analyze_step(TempoScan *scan)
{
	Relation rel = scan->base.rs_rd;
	double   blocks = RelationGetNumberOfBlocks(rel);
	int      target = default_statistics_target;
	double   rows = 0;

	for (AttrNumber attno = 1; attno <= RelationGetNumberOfAttributes(rel); attno++)
		target = Max(target, column_target(rel, attno));
	for (uint32 i = 0; i < scan->n_segments; i++)
		rows += scan->segments[i].summary.rows;
	if (blocks > 300.0 * target)
		rows *= 300.0 * target / blocks;
	return (uint32) Max(rows / (2 * 300.0 * Max(target, 1)), 1);
}

bool
tempo_scan_analyze_next_tuple(TableScanDesc desc, TransactionId oldest_xmin, double *live,
                              double *dead, TupleTableSlot *slot)
{
	TempoScan *scan = (TempoScan *) desc;

	if (scan->analyze_step == 0 && scan->block_rows > 0)
	{
		scan->analyze_step = find_analyze_step(scan);
		tempo_row_source_set_sparse(scan->source, scan->analyze_step > 1);
	}
	while (scan->block_at < scan->block_rows)
	{
		/* one of each group, at random; groups are counted through the segment */
		uint32 row = scan->block_first + scan->block_at++;
		uint32 group = row / scan->analyze_step;

		if (tempo_row_is_deleted(scan->block_segment, row))
		{
			*dead += 1;
			continue;
		}
		*live += 1;
		if (murmurhash32(group ^ (uint32) scan->block_segment->segment_id * 0x9E3779B9) % scan->analyze_step !=
		    row % scan->analyze_step)
			continue;
		store_block_row(scan, row - scan->block_first, slot);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

bool
tempo_scan_sample_next_block(TableScanDesc desc, struct SampleScanState *state)
{
	TempoScan  *scan = (TempoScan *) desc;
	TsmRoutine *tsm = state->tsmroutine;
	BlockNumber n_blocks = RelationGetNumberOfBlocks(scan->base.rs_rd);

	for (;;)
	{
		BlockNumber block;

		CHECK_FOR_INTERRUPTS();
		if (tsm->NextSampleBlock != NULL)
		{
			block = tsm->NextSampleBlock(state, n_blocks);
			if (!BlockNumberIsValid(block))
				return false;
		}
		else
		{
			if (scan->sample_next >= n_blocks)
				return false;
			block = scan->sample_next++;
		}
		if (enter_block(scan, block))
			return true;
	}
}

bool
tempo_scan_sample_next_tuple(TableScanDesc desc, struct SampleScanState *state, TupleTableSlot *slot)
{
	TempoScan   *scan = (TempoScan *) desc;
	OffsetNumber offset;

	do
		offset = state->tsmroutine->NextSampleTuple(state, scan->block, (OffsetNumber) scan->block_rows);
	while (OffsetNumberIsValid(offset) &&
	       tempo_row_is_deleted(scan->block_segment, scan->block_first + offset - 1));
	if (!OffsetNumberIsValid(offset))
	{
		ExecClearTuple(slot);
		return false;
	}
	store_block_row(scan, offset - 1, slot);
	pgstat_count_heap_getnext(scan->base.rs_rd);
	return true;
}
