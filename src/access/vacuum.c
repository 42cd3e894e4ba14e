/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *	  VACUUM: finds free extents, advances relfrozenxid, counts rows.
 *
 * What is dead is decided in the directory, by the heap's own VACUUM.  An
 * extent is free once the directory row that owned it has been pruned; the
 * WAL record of the pruning makes standbys cancel the queries that could
 * still read it, and the record that puts the extent on the free list comes
 * later in the WAL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/ddl.h"

#include "access/directory.h"
#include <math.h>

#include "access/multixact.h"
#include "access/pages.h"
#include "access/stop_at.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/storage.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

/* As the heap does: that many free blocks, or this part of the file. */
#define TRUNCATE_MIN_BLOCKS 1000
#define TRUNCATE_FRACTION 16

/* Rows in a block of a relation that nobody has counted yet. */
#define GUESSED_ROWS_PER_BLOCK 100

static int
compare_size(const void *a, const void *b)
{
	BlockNumber x = ((const TempoExtent *) a)->count;
	BlockNumber y = ((const TempoExtent *) b)->count;

	return x > y ? -1 : x < y;
}

static int
compare_first(const void *a, const void *b)
{
	BlockNumber x = ((const TempoExtent *) a)->first;
	BlockNumber y = ((const TempoExtent *) b)->first;

	return x < y ? -1 : x > y;
}

/* The gaps between the extents in use, from block 1 to the end of the file. */
static TempoExtent *
find_gaps(TempoSegment *used, uint32 n_used, BlockNumber n_blocks, uint32 *n_gaps)
{
	TempoExtent *gaps = palloc((Size) (n_used + 1) * sizeof(TempoExtent));
	BlockNumber  next = 1;

	*n_gaps = 0;
	tempo_segments_sort_by_block(used, n_used);
	for (uint32 i = 0; i <= n_used; i++)
	{
		BlockNumber first = i < n_used ? used[i].first_block : n_blocks;

		if (first > next)
		{
			gaps[*n_gaps].first = next;
			gaps[*n_gaps].count = first - next;
			(*n_gaps)++;
		}
		if (i < n_used)
			next = Max(next, used[i].first_block + used[i].n_blocks);
	}
	return gaps;
}

/*
 * Puts what no directory row owns on the free list; *used_end is the first block after the last one in use.
 */
static BlockNumber
rebuild_free_list(Relation rel, TempoDirectory *directory, uint64 storage_id, BlockNumber *used_end)
{
	TempoSegment *used;
	TempoExtent  *gaps;
	uint32        n_used;
	uint32        n_gaps;
	BlockNumber   free_blocks = 0;

	used = tempo_directory_extents(directory, storage_id, &n_used);
	gaps = find_gaps(used, n_used, RelationGetNumberOfBlocks(rel), &n_gaps);
	/* extents overlap where a crash took the file's end, and then an aborted row's blocks were given again */
	*used_end = 1;
	for (uint32 i = 0; i < n_used; i++)
		*used_end = Max(*used_end, used[i].first_block + used[i].n_blocks);
	if (n_gaps > TEMPO_MAX_FREE_EXTENTS)
	{
		/* the smallest ones wait until their neighbours are free */
		qsort(gaps, n_gaps, sizeof(TempoExtent), compare_size);
		n_gaps = TEMPO_MAX_FREE_EXTENTS;
		qsort(gaps, n_gaps, sizeof(TempoExtent), compare_first);
	}
	tempo_free_list_replace(rel, gaps, n_gaps);
	for (uint32 i = 0; i < n_gaps; i++)
		free_blocks += gaps[i].count;
	pfree(gaps);
	pfree(used);
	return free_blocks;
}

static BlockNumber
reclaim(Relation rel, BlockNumber *used_end)
{
	TempoDirectory  directory;
	TempoMetaHeader meta;
	BlockNumber     free_blocks;

	*used_end = 0;
	if (!tempo_meta_read(rel, &meta))
		return 0;
	tempo_directory_open(&directory, AccessShareLock, false);
	tempo_lock_extents(rel);
	free_blocks = rebuild_free_list(rel, &directory, meta.storage_id, used_end);
	tempo_unlock_extents(rel);
	tempo_directory_close(&directory);
	return free_blocks;
}

BlockNumber
tempo_reclaim(Relation rel)
{
	BlockNumber used_end;

	return reclaim(rel, &used_end);
}

static bool
worth_truncating(BlockNumber n_blocks, BlockNumber used_end)
{
	return used_end > 0 && n_blocks > used_end &&
	       (n_blocks - used_end >= TRUNCATE_MIN_BLOCKS || n_blocks - used_end >= n_blocks / TRUNCATE_FRACTION);
}

bool
tempo_end_is_free(Relation rel)
{
	TempoMeta  *meta = palloc(sizeof(TempoMeta));
	BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);
	BlockNumber used_end = n_blocks;

	if (tempo_meta_read_all(rel, meta) && meta->header.n_free > 0 &&
	    meta->free[meta->header.n_free - 1].first + meta->free[meta->header.n_free - 1].count >= n_blocks)
		used_end = meta->free[meta->header.n_free - 1].first;
	pfree(meta);
	return worth_truncating(n_blocks, used_end);
}

/*
 * Gives the free end of the file back to the operating system, if that is
 * worth it and nobody uses the table this moment.
 */
static void
truncate_file(Relation rel, BlockNumber used_end)
{
	TempoMeta *meta;

	if (!worth_truncating(RelationGetNumberOfBlocks(rel), used_end))
		return;
	if (!ConditionalLockRelation(rel, AccessExclusiveLock))
		return;
	/* once more, now that nobody can take an extent */
	(void) reclaim(rel, &used_end);
	meta = palloc(sizeof(TempoMeta));
	if (used_end > 0 && used_end < RelationGetNumberOfBlocks(rel) && tempo_meta_read_all(rel, meta))
	{
		uint32 n = meta->header.n_free;

		/* first the list must not name the blocks any more */
		while (n > 0 && meta->free[n - 1].first >= used_end)
			n--;
		tempo_lock_extents(rel);
		tempo_free_list_replace(rel, meta->free, n);
		tempo_unlock_extents(rel);
		tempo_stop(VACUUM_CUT);
		RelationTruncate(rel, used_end);
		tempo_stop(VACUUM_TRUNCATED);
	}
	pfree(meta);
	UnlockRelation(rel, AccessExclusiveLock);
}

/*
 * Lets the heap vacuum the directory, unless somebody is at it: then the rows
 * that are dead to all are gone when we look for free extents.
 */
static void
vacuum_directory(struct VacuumParams *params, BufferAccessStrategy strategy)
{
	TempoDirectory directory;
	Oid            relid;

	if (!tempo_directory_open(&directory, AccessShareLock, true))
		return;
	relid = RelationGetRelid(directory.heap);
	if (ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
	{
		table_relation_vacuum(directory.heap, params, strategy);
		UnlockRelationOid(relid, ShareUpdateExclusiveLock);
	}
	tempo_directory_close(&directory);
}

static double
count_rows(Relation rel)
{
	uint32        count;
	TempoSegment *segments = tempo_directory_list(rel, GetActiveSnapshot(), NULL, &count);
	double        rows = 0;

	for (uint32 i = 0; i < count; i++)
		rows += segments[i].summary.rows - segments[i].n_deleted;
	return rows;
}

void
tempo_relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy strategy)
{
	TransactionId oldest_xmin;
	MultiXactId   oldest_multi;
	BlockNumber   n_blocks;
	BlockNumber   used_end;
	double        rows;

	if ((params->options & VACOPT_SKIP_LOCKED) != 0 && !tempo_try_lock_own_tables(AccessShareLock))
		return;
	vacuum_directory(params, strategy);
	tempo_stop(VACUUM_PRUNED);
	(void) reclaim(rel, &used_end);
	tempo_stop(VACUUM_LISTED);
	if (params->truncate != VACOPTVALUE_DISABLED)
		truncate_file(rel, used_end);

	/*
	 * Who says VACUUM may want that what was deleted is really gone.  In the
	 * background it would be one more write of all that is ever merged.
	 */
	if (MyBackendType == B_BACKEND)
		tempo_pages_wipe_free(rel, strategy);

	n_blocks = RelationGetNumberOfBlocks(rel);
	rows = count_rows(rel);

	/* no page of ours holds a transaction id */
	oldest_xmin = GetOldestNonRemovableTransactionId(rel);
	oldest_multi = GetOldestMultiXactId();
#if PG_VERSION_NUM >= 180000
	vac_update_relstats(rel, n_blocks, rows, 0, 0, false, oldest_xmin, oldest_multi, NULL, NULL, false);
	pgstat_report_vacuum(RelationGetRelid(rel), false, rows, 0, GetCurrentTimestamp());
#else
	vac_update_relstats(rel, n_blocks, rows, 0, false, oldest_xmin, oldest_multi, NULL, NULL, false);
	pgstat_report_vacuum(RelationGetRelid(rel), false, rows, 0);
#endif
}

void
tempo_relation_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages,
                             double *tuples, double *allvisfrac)
{
	BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);
	double      reltuples = rel->rd_rel->reltuples;
	BlockNumber relpages = (BlockNumber) rel->rd_rel->relpages;

	*pages = n_blocks;
	*allvisfrac = 0;
	if (n_blocks == 0)
		*tuples = 0;
	else if (reltuples >= 0 && relpages > 0)
		*tuples = rint(reltuples / relpages * n_blocks);
	else
		*tuples = (double) n_blocks * GUESSED_ROWS_PER_BLOCK;
}
