/*-------------------------------------------------------------------------
 *
 * deletions.c
 *	  Rows deleted from segments.
 *
 * The first row that a command deletes from a segment locks the segment's
 * directory row until the transaction ends.  So those who delete from one
 * segment queue, each sees what the one before has committed, and the
 * compactor, which does not wait, leaves the segment alone.  A directory row
 * that a merge has replaced is an error in every isolation level: to skip
 * the row would be to keep it.
 *
 * The bitmap is collected in memory and written when the command ends, under
 * the command id and the subtransaction it belongs to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/deletions.h"

#include "access/ddl.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/insert_buffer.h"
#include "access/mask.h"
#include "access/scan.h"
#include "access/skey.h"
#include "access/stop_at.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_index.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define TABLE_SCHEMA "tempo"
#define TABLE_NAME "segment_deletions"
#define ATTNO_STORAGE_ID 1
#define ATTNO_SEGMENT_ID 2
#define ATTNO_BITMAP 3
#define NATTS 3

/* tempo.segment_deletions and its index, open. */
typedef struct Table
{
	Relation heap;
	Relation index;
	LOCKMODE lockmode;
} Table;

/*
 * What one command of one subtransaction deletes from a segment.  After it
 * was written the bitmaps are NULL; the segment stays, for those who fetch rows.
 */
typedef struct Deletion
{
	dlist_node       node;
	Oid              relid;
	SubTransactionId subid;
	CommandId        cid;
	TempoSegment     segment;
	bool             dirty;
	uint8           *unwritten;
	uint64           generation; /* that the following are of */
	uint8           *written;    /* by this command */
	uint8           *later;      /* by commands that it called */
	uint8           *gone;       /* by anybody else, or earlier */
	uint8           *kept;       /* of rows with provisional TIDs: what was written */
} Deletion;

static dlist_head deletions = DLIST_STATIC_INIT(deletions);
static Deletion  *last_used = NULL;
static int        n_dirty = 0;

/* Counts what may have changed the stored bitmaps from within. */
static uint64 generation = 1;

/* The subtransaction that holds a lock on the directory. */
static SubTransactionId locked_by = InvalidSubTransactionId;

/* ------------------------------------------------------------- the table */

static bool
open_table(Table *table, LOCKMODE lockmode)
{
	Oid       schema = get_namespace_oid(TABLE_SCHEMA, true);
	Oid       relid = OidIsValid(schema) ? get_relname_relid(TABLE_NAME, schema) : InvalidOid;
	List     *indexes;
	ListCell *cell;

	/* while the extension is dropped there may be none */
	if (!OidIsValid(relid))
		return false;
	table->heap = table_open(relid, lockmode);
	if (RelationGetNumberOfAttributes(table->heap) != NATTS)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("table \"%s.%s\" does not belong to this version of tempo_pg", TABLE_SCHEMA, TABLE_NAME),
		         errhint("Run ALTER EXTENSION tempo_pg UPDATE.")));
	table->lockmode = lockmode;
	indexes = RelationGetIndexList(table->heap);
	table->index = NULL;
	/* there may be others, while REINDEX CONCURRENTLY runs or where it failed */
	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), lockmode);

		if (index->rd_index->indisvalid && index->rd_index->indnkeyatts == 2 &&
		    index->rd_index->indkey.values[0] == ATTNO_STORAGE_ID &&
		    index->rd_index->indkey.values[1] == ATTNO_SEGMENT_ID &&
		    heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		{
			table->index = index;
			break;
		}
		index_close(index, lockmode);
	}
	list_free(indexes);
	return true;
}

static void
close_table(Table *table)
{
	LOCKMODE unlock = table->lockmode == AccessShareLock ? AccessShareLock : NoLock;

	if (table->index != NULL)
		index_close(table->index, unlock);
	table_close(table->heap, unlock);
}

static SysScanDesc
begin_scan(Table *table, Snapshot snapshot, uint64 storage_id, const TempoSegment *segment)
{
	ScanKeyData keys[2];
	int         n = 0;

	ScanKeyInit(&keys[n++], ATTNO_STORAGE_ID, BTEqualStrategyNumber, F_INT8EQ,
	            Int64GetDatum((int64) storage_id));
	if (segment != NULL)
		ScanKeyInit(&keys[n++], ATTNO_SEGMENT_ID, BTEqualStrategyNumber, F_INT8EQ,
		            Int64GetDatum((int64) segment->segment_id));
	return systable_beginscan(table->heap, table->index ? RelationGetRelid(table->index) : InvalidOid,
	                          table->index != NULL, snapshot, n, keys);
}

static bool
bit_set(const uint8 *bitmap, uint32 row)
{
	return bitmap != NULL && (bitmap[row / 8] & (1 << row % 8)) != 0;
}

static uint8 *
new_bitmap(const TempoSegment *segment)
{
	return palloc0(Max(tempo_mask_bytes(segment), 1));
}

static void
or_bitmap(const TempoSegment *segment, const uint8 *from, uint8 **to)
{
	if (*to == NULL)
		*to = new_bitmap(segment);
	for (uint32 i = 0; i < tempo_mask_bytes(segment); i++)
		(*to)[i] |= from[i];
}

static bool
add_stored(const TempoSegment *segment, Table *table, HeapTuple tuple, uint8 **to, const char **problem)
{
	bool  isnull;
	Datum stored = heap_getattr(tuple, ATTNO_BITMAP, RelationGetDescr(table->heap), &isnull);

	return tempo_mask_add(segment, stored, isnull, to, problem);
}

void
tempo_deletions_forget(uint64 storage_id, const TempoSegment *segment)
{
	Table       table;
	SysScanDesc scan;
	HeapTuple   tuple;

	if (!open_table(&table, RowExclusiveLock))
		return;
	scan = begin_scan(&table, SnapshotSelf, storage_id, segment);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TM_FailureData  failure;
		ItemPointerData tid = tuple->t_self;

		/* who may delete from the segment holds a lock that we waited for, so nobody else is here */
		if (heap_delete(table.heap, &tid, GetCurrentCommandId(true), InvalidSnapshot, true,
		                &failure, false) != TM_Ok)
			ereport(ERROR,
			        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			         errmsg("a segment was replaced by a concurrent transaction"),
			         errhint("Retry the transaction.")));
	}
	systable_endscan(scan);
	close_table(&table);
}

static int
compare_keys(const void *a, const void *b)
{
	const TempoSegment *x = a;
	const TempoSegment *y = b;

	if (x->storage_id != y->storage_id)
		return x->storage_id < y->storage_id ? -1 : 1;
	return x->segment_id < y->segment_id ? -1 : x->segment_id > y->segment_id;
}

uint32
tempo_deletions_remove_orphans(Snapshot snapshot, TempoSegment *segments, uint32 count)
{
	Table         table;
	TableScanDesc scan;
	HeapTuple     tuple;
	uint32        removed = 0;

	if (!open_table(&table, RowExclusiveLock))
		return 0;
	qsort(segments, count, sizeof(TempoSegment), compare_keys);
	scan = table_beginscan_strat(table.heap, snapshot, 0, NULL, true, false);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		TupleDesc       desc = RelationGetDescr(table.heap);
		ItemPointerData tid = tuple->t_self;
		TM_FailureData  failure;
		TempoSegment    key;
		bool            isnull;

		CHECK_FOR_INTERRUPTS();
		key.storage_id = (uint64) DatumGetInt64(heap_getattr(tuple, ATTNO_STORAGE_ID, desc, &isnull));
		key.segment_id = (uint64) DatumGetInt64(heap_getattr(tuple, ATTNO_SEGMENT_ID, desc, &isnull));
		if (count > 0 && bsearch(&key, segments, count, sizeof(TempoSegment), compare_keys) != NULL)
			continue;
		/* who is at it, or was, has removed it */
		if (heap_delete(table.heap, &tid, GetCurrentCommandId(true), InvalidSnapshot, false, &failure, false) == TM_Ok)
			removed++;
	}
	table_endscan(scan);
	close_table(&table);
	return removed;
}

/* --------------------------------------------------------------- reading */

static TempoSegment *
find_segment(TempoSegment *segments, uint32 count, uint64 segment_id)
{
	uint32 low = 0;
	uint32 high = count;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (segments[middle].segment_id < segment_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && segments[low].segment_id == segment_id ? &segments[low] : NULL;
}

/* What commands have deleted that are still running, being callers of this one. */
static void
attach_unwritten(Snapshot snapshot, TempoSegment *segments, uint32 count)
{
	dlist_iter iter;

	dlist_foreach (iter, &deletions)
	{
		Deletion     *deletion = dlist_container(Deletion, node, iter.cur);
		TempoSegment *segment;

		if (!deletion->dirty || deletion->segment.storage_id != segments[0].storage_id ||
		    (IsMVCCSnapshot(snapshot) && deletion->cid >= snapshot->curcid))
			continue;
		segment = find_segment(segments, count, deletion->segment.segment_id);
		if (segment != NULL)
			or_bitmap(segment, deletion->unwritten, unconstify(uint8 **, &segment->deleted));
	}
}

void
tempo_deletions_attach(Snapshot snapshot, TempoSegment *segments, uint32 count)
{
	Table       table;
	SysScanDesc scan;
	HeapTuple   tuple;
	const char *problem;

	if (count == 0)
		return;
	for (uint32 i = 0; i < count; i++)
	{
		segments[i].deleted = NULL;
		segments[i].n_deleted = 0;
		segments[i].mask_damaged = false;
	}
	if (!open_table(&table, AccessShareLock))
		return;
	scan = begin_scan(&table, snapshot, segments[0].storage_id, count == 1 ? &segments[0] : NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool          isnull;
		uint64        id = (uint64) DatumGetInt64(heap_getattr(tuple, ATTNO_SEGMENT_ID,
		                                                       RelationGetDescr(table.heap), &isnull));
		TempoSegment *segment = find_segment(segments, count, id);

		/* who wants to read the segment is told */
		if (segment != NULL && !add_stored(segment, &table, tuple, unconstify(uint8 **, &segment->deleted), &problem))
			segment->mask_damaged = true;
	}
	systable_endscan(scan);
	close_table(&table);
	if (n_dirty > 0)
		attach_unwritten(snapshot, segments, count);
	for (uint32 i = 0; i < count; i++)
		if (segments[i].deleted != NULL)
			segments[i].n_deleted = (uint32) pg_popcount((const char *) segments[i].deleted,
			                                             (int) tempo_mask_bytes(&segments[i]));
}

void
tempo_deletions_check_mask(Relation rel, const TempoSegment *segment)
{
	if (!segment->mask_damaged)
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_DATA_CORRUPTED),
	         errmsg("could not read which rows of segment " UINT64_FORMAT " of relation \"%s\" are deleted",
	                segment->segment_id, RelationGetRelationName(rel)),
	         errdetail("What \"%s.%s\" has about the segment, which is in blocks %u to %u, is damaged.", TABLE_SCHEMA,
	                   TABLE_NAME, segment->first_block, segment->first_block + segment->n_blocks - 1),
	         errhint("Restore the table from a backup. Or let a superuser DELETE FROM %s.%s WHERE storage_id = " INT64_FORMAT
	                 " AND segment_id = " INT64_FORMAT ", which brings back the rows that were deleted, and delete them again.",
	                 TABLE_SCHEMA, TABLE_NAME, (int64) segment->storage_id, (int64) segment->segment_id)));
}

void
tempo_deletions_check(Snapshot snapshot, uint64 storage_id, TempoSegment *segments, uint32 count,
                      void (*problem)(void *arg, uint64 segment_id, const char *text), void *arg)
{
	Table       table;
	SysScanDesc scan;
	HeapTuple   tuple;

	if (!open_table(&table, AccessShareLock))
		return;
	scan = begin_scan(&table, snapshot, storage_id, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool          isnull;
		uint64        id = (uint64) DatumGetInt64(heap_getattr(tuple, ATTNO_SEGMENT_ID,
		                                                       RelationGetDescr(table.heap), &isnull));
		TempoSegment *segment = find_segment(segments, count, id);
		const char   *text = "rows are deleted from a segment that does not exist";

		if (segment == NULL || !add_stored(segment, &table, tuple, NULL, &text))
			problem(arg, id, text);
	}
	systable_endscan(scan);
	close_table(&table);
}

void
tempo_deletions_drop(const TempoSegment *segment, uint32 first, SpanBatch *batch, uint32 from)
{
	uint32 kept = from;

	if (segment->deleted == NULL)
		return;
	for (uint32 i = from; i < batch->n_spans; i++)
		if (!tempo_row_is_deleted(segment, first + i - from))
			batch->spans[kept++] = batch->spans[i];
	span_batch_truncate(batch, kept);
}

void
tempo_deletions_merge(TempoOpenSegment *open, const TempoSegment *segment, SegmentMergeFilter filter, SegmentMerge *merge)
{
	SegmentReader *reader = tempo_segment_reader(open);
	SpanError      error = {SPAN_ERROR_NONE};

	filter.deleted = segment->deleted;
	for (uint32 block = 0; block < segment_merge_blocks(reader); block++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!segment_merge_add(merge, reader, block, &filter, &error))
			tempo_segment_failed(open, &error);
	}
}

/* -------------------------------------------------------------- deleting */

void
tempo_deletions_superseded(Relation rel)
{
	ereport(ERROR,
	        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
	         errmsg("could not delete from table \"%s\" because a merge has moved the rows",
	                RelationGetRelationName(rel)),
	         errhint("Retry the transaction.")));
}

/* Waits until nobody else deletes from the segment or merges it. */
static void
lock_segment(Relation rel, const TempoSegment *segment)
{
	TempoDirectory directory;
	HeapTupleData  tuple;
	Buffer         buffer;
	TM_FailureData failure;
	TM_Result      result;

	tempo_directory_open(&directory, RowExclusiveLock, false);
	tuple.t_self = segment->tid;
	result = heap_lock_tuple(directory.heap, &tuple, GetCurrentCommandId(true), LockTupleNoKeyExclusive,
	                         LockWaitBlock, false, &buffer, &failure);
	ReleaseBuffer(buffer);
	tempo_directory_close(&directory);
	if (result != TM_Ok)
		tempo_deletions_superseded(rel);
}

static void
free_bitmap(uint8 **bitmap)
{
	if (*bitmap != NULL)
		pfree(*bitmap);
	*bitmap = NULL;
}

/* Adds what another command of the own transaction has deleted, or this one. */
static uint8 **
own_bitmap(Deletion *deletion, CommandId cid)
{
	return cid == deletion->cid ? &deletion->written : cid > deletion->cid ? &deletion->later :
	                                                                         &deletion->gone;
}

/* Reads what is deleted already, whoever did it; nobody else can be at it. */
static void
load_deleted(Deletion *deletion)
{
	const TempoSegment *segment = &deletion->segment;
	MemoryContext       caller = MemoryContextSwitchTo(TopTransactionContext);
	Table               table;
	SysScanDesc         scan;
	HeapTuple           tuple;
	dlist_iter          iter;

	free_bitmap(&deletion->written);
	free_bitmap(&deletion->later);
	free_bitmap(&deletion->gone);
	if (!open_table(&table, AccessShareLock))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("table \"%s.%s\" does not exist", TABLE_SCHEMA, TABLE_NAME)));
	scan = begin_scan(&table, SnapshotSelf, segment->storage_id, segment);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool        own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		const char *problem;

		if (!add_stored(segment, &table, tuple,
		                own ? own_bitmap(deletion, HeapTupleHeaderGetCmin(tuple->t_data)) : &deletion->gone, &problem))
			deletion->segment.mask_damaged = true;
	}
	systable_endscan(scan);
	close_table(&table);
	dlist_foreach (iter, &deletions)
	{
		Deletion *other = dlist_container(Deletion, node, iter.cur);

		if (other != deletion && other->dirty && other->segment.storage_id == segment->storage_id &&
		    other->segment.segment_id == segment->segment_id)
			or_bitmap(segment, other->unwritten, own_bitmap(deletion, other->cid));
	}
	if (deletion->unwritten == NULL)
		deletion->unwritten = new_bitmap(segment);
	deletion->generation = generation;
	MemoryContextSwitchTo(caller);
}

static bool
is_deletion(const Deletion *deletion, const TempoSegment *segment, SubTransactionId subid, CommandId cid)
{
	return deletion->segment.segment_id == segment->segment_id &&
	       deletion->segment.storage_id == segment->storage_id &&
	       deletion->subid == subid && deletion->cid == cid;
}

/* The entry of a segment for the current command, which from now on has it to itself. */
static Deletion *
enter_segment(Relation rel, const TempoSegment *segment, CommandId cid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Deletion        *found = NULL;
	dlist_iter       iter;

	if (last_used != NULL && is_deletion(last_used, segment, subid, cid))
		found = last_used;
	else
		dlist_reverse_foreach(iter, &deletions)
		{
			found = dlist_container(Deletion, node, iter.cur);
			if (is_deletion(found, segment, subid, cid))
				break;
			found = NULL;
		}
	if (found == NULL)
	{
		lock_segment(rel, segment);
		tempo_stop(DELETE_LOCKED);
		found = MemoryContextAllocZero(TopTransactionContext, sizeof(Deletion));
		found->relid = RelationGetRelid(rel);
		found->subid = subid;
		found->cid = cid;
		found->segment = *segment;
		found->segment.deleted = NULL;
		found->segment.n_deleted = 0;
		dlist_push_tail(&deletions, &found->node);
	}
	if (found->unwritten == NULL || found->generation != generation)
		load_deleted(found);
	tempo_deletions_check_mask(rel, &found->segment);
	last_used = found;
	return found;
}

/*
 * Rows of the directory are locked by TID: until the transaction ends VACUUM
 * FULL must not move them.
 */
static void
hold_directory(void)
{
	TempoDirectory directory;

	if (locked_by != InvalidSubTransactionId)
		return;
	tempo_directory_open(&directory, RowExclusiveLock, false);
	tempo_directory_close(&directory);
	tempo_fetch_forget();
	locked_by = GetCurrentSubTransactionId();
}

/* A row that the transaction has inserted must be in a segment to be deleted. */
static void
settle_provisional(Relation rel, ItemPointer tid)
{
	TempoProvisional found;

	if (tempo_has_inserts(RelationGetRelid(rel)))
		tempo_flush_inserts(RelationGetRelid(rel));
	if (tempo_provisional_find(rel, tid, &found) && found.segment == NULL)
		TEMPO_UNSUPPORTED(errmsg("cannot delete rows of table \"%s\" that a calling statement is still inserting",
		                         RelationGetRelationName(rel)),
		                  errhint("Delete them after that statement."));
}

TM_Result
tempo_delete_row(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
                 Snapshot crosscheck, TM_FailureData *failure, bool mark)
{
	Deletion    *deletion;
	TempoSegment segment;
	uint32       row;

	memset(failure, 0, sizeof(*failure));
	failure->ctid = *tid;
	failure->cmax = InvalidCommandId;
	if (tempo_tid_is_provisional(tid))
		settle_provisional(rel, tid);
	hold_directory();
	/* what came after the transaction's snapshot must not go unnoticed */
	if (crosscheck != InvalidSnapshot && !tempo_fetch_locate(rel, tid, crosscheck, &segment, &row))
		tempo_deletions_superseded(rel);
	if (!tempo_fetch_locate(rel, tid, snapshot, &segment, &row))
		return TM_Invisible;

	deletion = enter_segment(rel, &segment, cid);
	if (bit_set(deletion->written, row) || bit_set(deletion->unwritten, row))
	{
		failure->cmax = cid;
		return TM_SelfModified;
	}
	if (bit_set(deletion->later, row))
	{
		failure->cmax = cid + 1; /* any other than this */
		return TM_SelfModified;
	}
	if (bit_set(deletion->gone, row))
		return TM_Deleted;
	if (!mark)
		return TM_Ok;

	/* what a function reads from now on has a later command id */
	(void) GetCurrentCommandId(true);
	deletion->unwritten[row / 8] |= 1 << row % 8;
	if (!deletion->dirty)
		n_dirty++;
	deletion->dirty = true;
	pgstat_count_heap_delete(rel);
	return TM_Ok;
}

bool
tempo_deletions_own(const TempoSegment *segment, uint32 row)
{
	dlist_iter iter;

	dlist_foreach (iter, &deletions)
	{
		Deletion *deletion = dlist_container(Deletion, node, iter.cur);

		if (deletion->segment.segment_id == segment->segment_id &&
		    deletion->segment.storage_id == segment->storage_id &&
		    (bit_set(deletion->unwritten, row) || bit_set(deletion->kept, row)))
			return true;
	}
	return false;
}

const TempoSegment *
tempo_deletions_segment(Oid relid, BlockNumber block)
{
	dlist_iter iter;

	if (last_used != NULL && last_used->relid == relid &&
	    block - last_used->segment.first_block < last_used->segment.n_blocks)
		return &last_used->segment;
	dlist_reverse_foreach(iter, &deletions)
	{
		Deletion *deletion = dlist_container(Deletion, node, iter.cur);

		if (deletion->relid == relid && block - deletion->segment.first_block < deletion->segment.n_blocks)
		{
			last_used = deletion;
			return &deletion->segment;
		}
	}
	return NULL;
}

bool
tempo_deletions_pending(Oid relid)
{
	dlist_iter iter;

	if (n_dirty == 0)
		return false;
	dlist_foreach (iter, &deletions)
	{
		Deletion *deletion = dlist_container(Deletion, node, iter.cur);

		if (deletion->dirty && (relid == InvalidOid || deletion->relid == relid))
			return true;
	}
	return false;
}

static void
write_deletion(Table *table, Deletion *deletion)
{
	Datum     values[NATTS];
	bool      isnull[NATTS] = {0};
	bool      no_nulls[INDEX_MAX_KEYS] = {0};
	List     *indexes;
	ListCell *cell;
	HeapTuple tuple;

	values[0] = Int64GetDatum((int64) deletion->segment.storage_id);
	values[1] = Int64GetDatum((int64) deletion->segment.segment_id);
	values[2] = PointerGetDatum(tempo_mask_form(&deletion->segment, deletion->unwritten));
	tuple = heap_form_tuple(RelationGetDescr(table->heap), values, isnull);
	tuple->t_tableOid = RelationGetRelid(table->heap);
	heap_insert(table->heap, tuple, deletion->cid, HEAP_INSERT_NO_LOGICAL, NULL);
	tempo_stop(DELETE_ADDED);
	indexes = RelationGetIndexList(table->heap);
	foreach (cell, indexes)
	{
		Relation   index = index_open(lfirst_oid(cell), RowExclusiveLock);
		IndexInfo *info = BuildIndexInfo(index);
		Datum      keys[INDEX_MAX_KEYS];

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL)
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("index \"%s\" on table \"%s.%s\" is partial or has expressions",
			                RelationGetRelationName(index), TABLE_SCHEMA, TABLE_NAME),
			         errhint("Drop it.")));
		for (int i = 0; i < info->ii_NumIndexAttrs; i++)
			keys[i] = info->ii_IndexAttrNumbers[i] > 0 ? values[info->ii_IndexAttrNumbers[i] - 1] : (Datum) 0;
		if (info->ii_ReadyForInserts)
			index_insert(index, keys, no_nulls, &tuple->t_self, table->heap,
			             info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
		pfree(info);
		index_close(index, NoLock);
	}
	list_free(indexes);
	tempo_stop(DELETE_INDEXED);
	heap_freetuple(tuple);
	pfree(DatumGetPointer(values[2]));
}

/* A deferred check of a foreign key may still ask what has become of the rows. */
static void
keep_written(Deletion *deletion)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	or_bitmap(&deletion->segment, deletion->unwritten, &deletion->kept);
	MemoryContextSwitchTo(caller);
}

void
tempo_flush_deletions(void)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Table            table = {NULL};
	dlist_iter       iter;

	dlist_foreach (iter, &deletions)
	{
		Deletion *deletion = dlist_container(Deletion, node, iter.cur);

		if (deletion->subid != subid || deletion->unwritten == NULL)
			continue;
		if (deletion->dirty)
		{
			if (table.heap == NULL && !open_table(&table, RowExclusiveLock))
				elog(ERROR, "table \"%s.%s\" does not exist", TABLE_SCHEMA, TABLE_NAME);
			write_deletion(&table, deletion);
			deletion->dirty = false;
			n_dirty--;
			generation++;
			if (tempo_inserted_segment(&deletion->segment))
				keep_written(deletion);
		}
		free_bitmap(&deletion->unwritten);
		free_bitmap(&deletion->written);
		free_bitmap(&deletion->later);
		free_bitmap(&deletion->gone);
	}
	if (table.heap != NULL)
		close_table(&table);
}

/* ------------------------------------------------- ends of transactions */

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (n_dirty > 0)
				tempo_flush_deletions();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* the memory goes with the transaction */
			dlist_init(&deletions);
			last_used = NULL;
			n_dirty = 0;
			locked_by = InvalidSubTransactionId;
			break;
		default:
			break;
	}
}

static void
free_deletion(Deletion *deletion)
{
	if (deletion->dirty)
		n_dirty--;
	dlist_delete(&deletion->node);
	free_bitmap(&deletion->unwritten);
	free_bitmap(&deletion->written);
	free_bitmap(&deletion->later);
	free_bitmap(&deletion->gone);
	free_bitmap(&deletion->kept);
	pfree(deletion);
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	dlist_mutable_iter iter;

	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB && n_dirty > 0)
		tempo_flush_deletions();
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (locked_by == subid)
		locked_by = event == SUBXACT_EVENT_COMMIT_SUB ? parent : InvalidSubTransactionId;
	generation++;
	last_used = NULL;
	dlist_foreach_modify (iter, &deletions)
	{
		Deletion *deletion = dlist_container(Deletion, node, iter.cur);

		if (deletion->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			deletion->subid = parent;
		else
			free_deletion(deletion);
	}
}

void
tempo_deletions_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}
