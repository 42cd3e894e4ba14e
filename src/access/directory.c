/*-------------------------------------------------------------------------
 *
 * directory.c
 *	  The segment directory: one row of an ordinary heap table per segment.
 *
 * Rows are written with heap_insert() and heap_delete() and read with index
 * scans under the reader's snapshot.  They are not logically decoded: span
 * changes are not replicated that way.
 *
 * Rows of level 0 have an index of their own, by segment id.  They live for
 * seconds and there are up to hundreds a second, so while an old snapshot
 * keeps the dead ones from being pruned, hundreds of thousands pile up.
 * Readers with newer snapshots pass by them: the compaction worker finds
 * out from which id on there are any that such a snapshot can see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact_stat.h"
#include "access/deletions.h"
#include "access/directory.h"
#include "access/pages.h"
#include "access/stop_at.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define DIRECTORY_SCHEMA "tempo"
#define DIRECTORY_NAME "segment_directory"

/*
 * The row as it is stored: columns of fixed width, none NULL, so that it can
 * be read in place.  Same order as in sql/install/20-storage.sql.
 */
typedef struct DirectoryRow
{
	int64       storage_id;
	int64       segment_id;
	int64       min_start_nano;
	int64       max_start_nano;
	int64       max_end_nano;
	int64       min_duration_nano;
	int64       max_duration_nano;
	int64       max_trace_nano;
	int64       tenant_filter;
	int64       size;
	int64       raw_size;
	int64       first_block;
	TimestampTz newest_at;
	int32       n_blocks;
	int32       rows;
	int32       traces;
	int32       n_tenants;
	int32       n_requests;
	int16       level;
} DirectoryRow;

#define DIRECTORY_NATTS 19
#define ATTNO_STORAGE_ID 1
#define ATTNO_SEGMENT_ID 2
#define ATTNO_MAX_START 4

/* What an index of the directory has. */
typedef struct IndexShape
{
	AttrNumber first;
	AttrNumber second;
} IndexShape;

static const IndexShape merged_shape = {ATTNO_STORAGE_ID, ATTNO_MAX_START};
static const IndexShape level0_shape = {ATTNO_STORAGE_ID, ATTNO_SEGMENT_ID};

static bool
has_shape(Relation index, const IndexShape *shape)
{
	Form_pg_index form = index->rd_index;

	return form->indnkeyatts == 2 && form->indkey.values[0] == shape->first &&
	       form->indkey.values[1] == shape->second &&
	       !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * An index to read by.  There may be others, while REINDEX CONCURRENTLY runs
 * or where it failed.
 */
static Relation
open_index(Relation heap, const IndexShape *shape, LOCKMODE lockmode)
{
	List     *indexes = RelationGetIndexList(heap);
	Relation  found = NULL;
	ListCell *cell;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), lockmode);

		if (index->rd_index->indisvalid && has_shape(index, shape))
		{
			found = index;
			break;
		}
		index_close(index, lockmode);
	}
	list_free(indexes);
	return found;
}

bool
tempo_directory_open(TempoDirectory *directory, LOCKMODE lockmode, bool missing_ok)
{
	Oid schema = get_namespace_oid(DIRECTORY_SCHEMA, true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(DIRECTORY_NAME, schema) : InvalidOid;
	if (!OidIsValid(relid))
	{
		if (missing_ok)
			return false;
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("table \"%s.%s\" does not exist", DIRECTORY_SCHEMA, DIRECTORY_NAME),
		         errhint("Create the extension tempo_pg in this database.")));
	}
	directory->heap = table_open(relid, lockmode);
	directory->lockmode = lockmode;
	directory->merged = NULL;
	directory->level0 = NULL;
	if (RelationGetNumberOfAttributes(directory->heap) == DIRECTORY_NATTS)
	{
		directory->merged = open_index(directory->heap, &merged_shape, lockmode);
		directory->level0 = open_index(directory->heap, &level0_shape, lockmode);
	}
	if (directory->merged == NULL || directory->level0 == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("table \"%s.%s\" does not belong to this version of tempo_pg",
		                DIRECTORY_SCHEMA, DIRECTORY_NAME),
		         errhint("Run ALTER EXTENSION tempo_pg UPDATE.")));
	return true;
}

bool
tempo_try_lock_own_tables(LOCKMODE lockmode)
{
	static const char *const names[] = {DIRECTORY_NAME, "segment_deletions", "overrides"};
	Oid                      schema = get_namespace_oid(DIRECTORY_SCHEMA, true);

	if (!OidIsValid(schema))
		return false;
	for (int i = 0; i < lengthof(names); i++)
	{
		Oid relid = get_relname_relid(names[i], schema);

		if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, lockmode))
			return false;
	}
	return true;
}

void
tempo_directory_close(TempoDirectory *directory)
{
	/* as with catalogs, the locks of a reader need not last, a writer's must */
	LOCKMODE unlock = directory->lockmode == AccessShareLock ? AccessShareLock : NoLock;

	index_close(directory->merged, unlock);
	index_close(directory->level0, unlock);
	table_close(directory->heap, unlock);
}

/* -------------------------------------------------------------- changing */

static void
segment_to_row(const TempoSegment *segment, Datum *values)
{
	const SegmentSummary *summary = &segment->summary;
	int                   i = 0;

	values[i++] = Int64GetDatum((int64) segment->storage_id);
	values[i++] = Int64GetDatum((int64) segment->segment_id);
	values[i++] = Int64GetDatum(summary->min_start_nano);
	values[i++] = Int64GetDatum(summary->max_start_nano);
	values[i++] = Int64GetDatum(summary->max_end_nano);
	values[i++] = Int64GetDatum(summary->min_duration_nano);
	values[i++] = Int64GetDatum(summary->max_duration_nano);
	values[i++] = Int64GetDatum(summary->max_trace_nano);
	values[i++] = Int64GetDatum((int64) summary->tenant_filter);
	values[i++] = Int64GetDatum((int64) summary->size);
	values[i++] = Int64GetDatum((int64) summary->raw_size);
	values[i++] = Int64GetDatum((int64) segment->first_block);
	values[i++] = TimestampTzGetDatum(segment->newest_at);
	values[i++] = Int32GetDatum((int32) segment->n_blocks);
	values[i++] = Int32GetDatum((int32) summary->rows);
	values[i++] = Int32GetDatum((int32) summary->traces);
	values[i++] = Int32GetDatum((int32) summary->n_tenants);
	values[i++] = Int32GetDatum((int32) segment->n_requests);
	values[i++] = Int16GetDatum((int16) summary->level);
	Assert(i == DIRECTORY_NATTS);
}

static void
row_to_segment(HeapTuple tuple, TempoSegment *segment)
{
	const DirectoryRow *row = (const DirectoryRow *) GETSTRUCT(tuple);
	SegmentSummary     *summary = &segment->summary;

	memset(segment, 0, sizeof(*segment));
	segment->storage_id = (uint64) row->storage_id;
	segment->segment_id = (uint64) row->segment_id;
	segment->first_block = (BlockNumber) row->first_block;
	segment->n_blocks = (BlockNumber) row->n_blocks;
	segment->n_requests = (uint32) row->n_requests;
	segment->newest_at = row->newest_at;
	summary->rows = (uint32) row->rows;
	summary->traces = (uint32) row->traces;
	summary->level = (uint8) row->level;
	summary->min_start_nano = row->min_start_nano;
	summary->max_start_nano = row->max_start_nano;
	summary->max_end_nano = row->max_end_nano;
	summary->min_duration_nano = row->min_duration_nano;
	summary->max_duration_nano = row->max_duration_nano;
	summary->max_trace_nano = row->max_trace_nano;
	summary->n_tenants = (uint32) row->n_tenants;
	summary->tenant_filter = (uint64) row->tenant_filter;
	summary->size = (uint64) row->size;
	summary->raw_size = (uint64) row->raw_size;
	segment->tid = tuple->t_self;
	segment->xmin = HeapTupleHeaderGetXmin(tuple->t_data);
}

void
tempo_directory_insert_heap(TempoDirectory *directory, TempoSegment *segment, CommandId cid)
{
	Datum     values[DIRECTORY_NATTS];
	bool      isnull[DIRECTORY_NATTS] = {0};
	HeapTuple tuple;

	segment_to_row(segment, values);
	tuple = heap_form_tuple(RelationGetDescr(directory->heap), values, isnull);
	tuple->t_tableOid = RelationGetRelid(directory->heap);
	heap_insert(directory->heap, tuple, cid, HEAP_INSERT_NO_LOGICAL, NULL);
	segment->tid = tuple->t_self;
	heap_freetuple(tuple);
}

/* Is the segment left out of one of our two indexes, which are for level 0 and for the others? */
static bool
not_in_index(Relation index, const TempoSegment *segment)
{
	return has_shape(index, segment->summary.level == 0 ? &merged_shape : &level0_shape);
}

void
tempo_directory_insert_index(TempoDirectory *directory, const TempoSegment *segment)
{
	Datum     row[DIRECTORY_NATTS];
	List     *indexes = RelationGetIndexList(directory->heap);
	ListCell *cell;

	segment_to_row(segment, row);
	foreach (cell, indexes)
	{
		Relation        index = index_open(lfirst_oid(cell), RowExclusiveLock);
		IndexInfo      *info;
		ItemPointerData tid = segment->tid;
		Datum           values[INDEX_MAX_KEYS];
		bool            isnull[INDEX_MAX_KEYS] = {0};

		if (not_in_index(index, segment))
		{
			index_close(index, NoLock);
			continue;
		}
		info = BuildIndexInfo(index);
		if (info->ii_Expressions != NIL ||
		    (info->ii_Predicate != NIL && !has_shape(index, &merged_shape) &&
		     !has_shape(index, &level0_shape)))
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("index \"%s\" on table \"%s.%s\" is partial or has expressions",
			                RelationGetRelationName(index), DIRECTORY_SCHEMA, DIRECTORY_NAME),
			         errhint("Drop it.")));
		for (int i = 0; i < info->ii_NumIndexAttrs; i++)
			values[i] = info->ii_IndexAttrNumbers[i] > 0 ? row[info->ii_IndexAttrNumbers[i] - 1] : (Datum) 0;
		if (info->ii_ReadyForInserts)
			index_insert(index, values, isnull, &tid, directory->heap,
			             info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
		pfree(info);
		index_close(index, NoLock);
	}
	list_free(indexes);
}

bool
tempo_directory_claim(TempoDirectory *directory, const TempoSegment *segment)
{
	HeapTupleData  tuple;
	Buffer         buffer;
	TM_FailureData failure;
	TM_Result      result;

	tuple.t_self = segment->tid;
	result = heap_lock_tuple(directory->heap, &tuple, GetCurrentCommandId(true),
	                         LockTupleExclusive, LockWaitSkip, false, &buffer, &failure);
	ReleaseBuffer(buffer);
	return result == TM_Ok;
}

static void
delete_row(Relation heap, ItemPointer tid)
{
	TM_FailureData failure;
	TM_Result      result;

	result = heap_delete(heap, tid, GetCurrentCommandId(true), InvalidSnapshot, true, &failure, false);
	if (result != TM_Ok)
		ereport(ERROR,
		        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
		         errmsg("a segment was replaced by a concurrent transaction"),
		         errhint("Retry the transaction.")));
}

void
tempo_directory_delete(TempoDirectory *directory, const TempoSegment *segment)
{
	ItemPointerData tid = segment->tid;

	delete_row(directory->heap, &tid);
}

static void
forget_in(TempoDirectory *directory, Relation index, uint64 storage_id)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple   tuple;
	ScanKeyInit(&key, ATTNO_STORAGE_ID, BTEqualStrategyNumber, F_INT8EQ,
	            Int64GetDatum((int64) storage_id));
	/* everything committed and all of our own, whatever its command id */
	scan = systable_beginscan(directory->heap, RelationGetRelid(index), true,
	                          SnapshotSelf, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		ItemPointerData tid = tuple->t_self;

		delete_row(directory->heap, &tid);
	}
	systable_endscan(scan);
}

void
tempo_directory_forget(uint64 storage_id)
{
	TempoDirectory directory;

	/* while the extension itself is dropped there may be no directory */
	if (!tempo_directory_open(&directory, RowExclusiveLock, true))
		return;
	forget_in(&directory, directory.merged, storage_id);
	tempo_stop(TRUNCATE_FORGOTTEN);
	forget_in(&directory, directory.level0, storage_id);
	tempo_directory_close(&directory);
	tempo_deletions_forget(storage_id, NULL);
}

/* --------------------------------------------------------------- reading */

/*
 * After VACUUM FULL the rows are new ones, invisible to snapshots taken
 * before.  Those must not find an empty table.
 */
static void
check_rewrite(Relation rel, Snapshot snapshot, uint64 rewrite_xid)
{
	FullTransactionId rewrite = FullTransactionIdFromU64(rewrite_xid);
	FullTransactionId next;
	TransactionId     xid;

	if (rewrite_xid == 0 || !IsMVCCSnapshot(snapshot))
		return;
	next = ReadNextFullTransactionId();
	if (U64FromFullTransactionId(next) - rewrite_xid > (UINT64CONST(1) << 31))
		return; /* older than any snapshot can be */
	xid = XidFromFullTransactionId(rewrite);
	if (TransactionIdIsCurrentTransactionId(xid) || !XidInMVCCSnapshot(xid, snapshot))
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
	         errmsg("relation \"%s\" was rewritten after this transaction's snapshot was taken",
	                RelationGetRelationName(rel)),
	         errhint("Retry the transaction.")));
}

static bool
within_bounds(const TempoSegment *segment, const TempoSegmentBounds *bounds)
{
	return bounds == NULL ||
	       (segment->summary.max_start_nano >= bounds->min_start &&
	        (segment->summary.min_start_nano < bounds->end_start || bounds->end_start == PG_INT64_MAX) &&
	        (bounds->tenants == 0 || (segment->summary.tenant_filter & bounds->tenants) != 0));
}

static int
compare_segment_id(const void *a, const void *b)
{
	uint64 x = ((const TempoSegment *) a)->segment_id;
	uint64 y = ((const TempoSegment *) b)->segment_id;

	return x < y ? -1 : x > y;
}

typedef struct Listing
{
	TempoSegment *segments;
	uint32        count;
	uint32        allocated;
} Listing;

/* Adds the rows of an index from "first" on, which is of its second column. */
static void
list_from(TempoDirectory *directory, Relation index, const IndexShape *shape, Snapshot snapshot,
          uint64 storage_id, int64 first, const TempoSegmentBounds *bounds, Listing *listing)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple   tuple;

	ScanKeyInit(&keys[0], ATTNO_STORAGE_ID, BTEqualStrategyNumber, F_INT8EQ,
	            Int64GetDatum((int64) storage_id));
	ScanKeyInit(&keys[1], shape->second, BTGreaterEqualStrategyNumber, F_INT8GE,
	            Int64GetDatum(first));
	scan = systable_beginscan(directory->heap, RelationGetRelid(index), true, snapshot,
	                          first == PG_INT64_MIN ? 1 : 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (listing->count == listing->allocated)
		{
			listing->allocated *= 2;
			listing->segments =
				repalloc_huge(listing->segments, (Size) listing->allocated * sizeof(TempoSegment));
		}
		row_to_segment(tuple, &listing->segments[listing->count]);
		if (within_bounds(&listing->segments[listing->count], bounds))
			listing->count++;
	}
	systable_endscan(scan);
}

/* Does the snapshot see the end of every transaction of which the floor's did? */
static bool
is_later(Snapshot snapshot, const TempoStatFloor *floor)
{
	if (TransactionIdPrecedes(snapshot->xmax, floor->end))
		return false;
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		bool was_running = false;

		if (!TransactionIdPrecedes(snapshot->xip[i], floor->end))
			continue;
		for (uint32 k = 0; k < floor->n_running; k++)
			was_running |= floor->running[k] == snapshot->xip[i];
		if (!was_running)
			return false;
	}
	return true;
}

/* The first level-0 segment that the snapshot may see. */
static int64
level0_floor(Relation rel, Snapshot snapshot, uint64 storage_id)
{
	TempoStatFloor floor;

	if (!IsMVCCSnapshot(snapshot) || snapshot->takenDuringRecovery)
		return PG_INT64_MIN;
	floor = tempo_stat_floor(tempo_compact_stat_known(RelationGetRelid(rel)));
	return floor.storage_id == storage_id && is_later(snapshot, &floor) ? (int64) floor.segment_id : PG_INT64_MIN;
}

TempoSegment *
tempo_directory_list_images(Relation rel, Snapshot snapshot, const TempoSegmentBounds *bounds, uint32 *count)
{
	TempoMetaHeader meta;
	TempoDirectory  directory;
	Listing         listing = {NULL, 0, 32};

	*count = 0;
	if (!tempo_meta_read(rel, &meta))
		return NULL;
	check_rewrite(rel, snapshot, meta.rewrite_xid);

	listing.segments = palloc(listing.allocated * sizeof(TempoSegment));
	tempo_directory_open(&directory, AccessShareLock, false);
	list_from(&directory, directory.merged, &merged_shape, snapshot, meta.storage_id,
	          bounds != NULL ? bounds->min_start : PG_INT64_MIN, bounds, &listing);
	list_from(&directory, directory.level0, &level0_shape, snapshot, meta.storage_id,
	          level0_floor(rel, snapshot, meta.storage_id), bounds, &listing);
	tempo_directory_close(&directory);
	*count = listing.count;
	qsort(listing.segments, *count, sizeof(TempoSegment), compare_segment_id);
	return listing.segments;
}

TempoSegment *
tempo_directory_list(Relation rel, Snapshot snapshot, const TempoSegmentBounds *bounds, uint32 *count)
{
	TempoSegment *segments = tempo_directory_list_images(rel, snapshot, bounds, count);

	tempo_deletions_attach(snapshot, segments, *count);
	return segments;
}

/*
 * Whoever has stored a segment before the one with id "next" has ended, and
 * the snapshot sees how.
 */
static void
set_floor(Relation rel, Snapshot snapshot, uint64 storage_id, uint64 next,
          const TempoSegment *segments, uint32 count)
{
	TempoStatFloor floor = {storage_id, next, snapshot->xmax, snapshot->xcnt};

	if (snapshot->xcnt > TEMPO_FLOOR_RUNNING || snapshot->takenDuringRecovery)
		return;
	for (uint32 i = 0; i < count; i++)
		if (segments[i].summary.level == 0)
			floor.segment_id = Min(floor.segment_id, segments[i].segment_id);
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		floor.running[i] = snapshot->xip[i];
	tempo_stat_set_floor(tempo_compact_stat(RelationGetRelid(rel)), &floor);
}

void
tempo_directory_advance_floor(Relation rel, Snapshot snapshot, const TempoSegment *segments, uint32 count,
                              TempoFloor *floor)
{
	TempoMetaHeader meta;

	if (!tempo_meta_read(rel, &meta))
		return;
	if (floor->storage_id == meta.storage_id &&
	    TransactionIdFollowsOrEquals(snapshot->xmin, XidFromFullTransactionId(floor->xid)))
	{
		set_floor(rel, snapshot, meta.storage_id, floor->next_segment_id, segments, count);
		floor->storage_id = 0;
	}
	if (floor->storage_id != meta.storage_id)
	{
		/* a segment's transaction has its id before the segment has */
		floor->storage_id = meta.storage_id;
		floor->next_segment_id = meta.next_segment_id;
		floor->xid = ReadNextFullTransactionId();
	}
}

/* The rows that the snapshot sees, of one storage id (0 = any, for none is 0), by scanning the heap. */
static TempoSegment *
scan_heap(TempoDirectory *directory, Snapshot snapshot, uint64 storage_id, uint32 *count)
{
	TempoSegment *segments;
	uint32        allocated = 64;
	TableScanDesc scan;
	HeapTuple     tuple;

	*count = 0;
	segments = palloc(allocated * sizeof(TempoSegment));
	scan = table_beginscan_strat(directory->heap, snapshot, 0, NULL, true, false);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		if (storage_id != 0 &&
		    ((const DirectoryRow *) GETSTRUCT(tuple))->storage_id != (int64) storage_id)
			continue;
		if (*count == allocated)
		{
			allocated *= 2;
			segments = repalloc_huge(segments, (Size) allocated * sizeof(TempoSegment));
		}
		row_to_segment(tuple, &segments[(*count)++]);
	}
	table_endscan(scan);
	return segments;
}

TempoSegment *
tempo_directory_extents(TempoDirectory *directory, uint64 storage_id, uint32 *count)
{
	/*
	 * The heap itself and not an index: index entries of dead rows may be
	 * marked dead before the heap's pruning, and with it the conflict of
	 * standby queries, is logged.
	 */
	return scan_heap(directory, SnapshotAny, storage_id, count);
}

TempoSegment *
tempo_directory_scan(TempoDirectory *directory, Snapshot snapshot, uint64 storage_id, uint32 *count)
{
	return scan_heap(directory, snapshot, storage_id, count);
}

/* ------------------------------------------------------------------ TIDs */

static int
compare_first_block(const void *a, const void *b)
{
	BlockNumber x = ((const TempoSegment *) a)->first_block;
	BlockNumber y = ((const TempoSegment *) b)->first_block;

	return x < y ? -1 : x > y;
}

void
tempo_segments_sort_by_block(TempoSegment *segments, uint32 count)
{
	if (count > 1)
		qsort(segments, count, sizeof(TempoSegment), compare_first_block);
}

const TempoSegment *
tempo_segments_find_block(const TempoSegment *segments, uint32 count, BlockNumber block)
{
	uint32 low = 0;
	uint32 high = count;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (segments[middle].first_block <= block)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return NULL;
	low--;
	return block - segments[low].first_block < segments[low].n_blocks ? &segments[low] : NULL;
}

bool
tempo_tid_row(const TempoSegment *segment, ItemPointer tid, uint32 *row)
{
	BlockNumber  block = ItemPointerGetBlockNumberNoCheck(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);
	uint32       per_block = tempo_rows_per_block(segment);

	if (block < segment->first_block || block - segment->first_block >= segment->n_blocks ||
	    offset < 1 || offset > per_block)
		return false;
	*row = (block - segment->first_block) * per_block + offset - 1;
	return *row < segment->summary.rows;
}
