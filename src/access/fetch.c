/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  Single rows by TID: ctid = ..., triggers, cursors' current rows.
 *
 * Whoever fetches one row tends to fetch more, so the visible segments of the
 * last relation and snapshot, and the run of rows decoded last, are kept until
 * the transaction ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/scan.h"

#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/row_source.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* What makes two snapshots of one transaction see the same. */
typedef struct SnapshotKey
{
	TransactionId xmin;
	TransactionId xmax;
	uint32        xcnt;
	int32         subxcnt;
	CommandId     curcid;
} SnapshotKey;

typedef struct FetchState
{
	Oid           relid;
	RelFileNumber file;
	SnapshotKey   key;
	bool          listed;
	TempoSegment *segments; /* by first block */
	uint32        n_segments;
	MemoryContext context;

	/* the rows fetched from last: a batch in memory, or a segment */
	TempoRowSource  *source;
	const SpanBatch *batch;
	uint64           storage_id;
	uint64           segment_id;
} FetchState;

static FetchState fetch;

void
tempo_fetch_forget(void)
{
	if (fetch.source != NULL)
		tempo_row_source_free(fetch.source);
	if (fetch.context != NULL)
		MemoryContextDelete(fetch.context);
	memset(&fetch, 0, sizeof(fetch));
}

static void
on_transaction(XactEvent event, void *arg)
{
	/* its memory was in the transaction's */
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
	    event == XACT_EVENT_PARALLEL_COMMIT || event == XACT_EVENT_PARALLEL_ABORT)
		memset(&fetch, 0, sizeof(fetch));
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		tempo_fetch_forget();
}

void
tempo_fetch_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}

static bool
make_key(Snapshot snapshot, SnapshotKey *key)
{
	memset(key, 0, sizeof(*key));
	if (!IsMVCCSnapshot(snapshot))
		return false;
	key->xmin = snapshot->xmin;
	key->xmax = snapshot->xmax;
	key->xcnt = snapshot->xcnt;
	key->subxcnt = snapshot->subxcnt;
	key->curcid = snapshot->curcid;
	return true;
}

static MemoryContext
fetch_context(void)
{
	if (fetch.context == NULL)
		fetch.context = AllocSetContextCreate(TopTransactionContext, "tempo fetch",
		                                      ALLOCSET_SMALL_SIZES);
	return fetch.context;
}

/* The segments that "snapshot" sees, in "fetch". */
static void
list_segments(Relation rel, Snapshot snapshot)
{
	SnapshotKey   key;
	bool          keyed = make_key(snapshot, &key);
	TempoSegment *segments;
	uint32        n_segments;
	MemoryContext context;
	MemoryContext caller;

	if (keyed && fetch.listed && fetch.relid == RelationGetRelid(rel) &&
	    fetch.file == rel->rd_locator.relNumber &&
	    memcmp(&fetch.key, &key, sizeof(key)) == 0)
		return;
	tempo_fetch_forget();
	/* what is deleted may be read in a subtransaction, and if that aborts all that "fetch" has is forgotten */
	context = AllocSetContextCreate(CurrentMemoryContext, "tempo fetch", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	segments = tempo_directory_list(rel, snapshot, NULL, &n_segments);
	tempo_segments_sort_by_block(segments, n_segments);
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, TopTransactionContext);
	fetch.context = context;
	fetch.segments = segments;
	fetch.n_segments = n_segments;
	fetch.relid = RelationGetRelid(rel);
	fetch.file = rel->rd_locator.relNumber;
	fetch.key = key;
	fetch.listed = keyed;
}

/*
 * Is the row of a provisional TID there, for this snapshot?  Nobody else can
 * have deleted it.
 */
static bool
sees_provisional(Relation rel, Snapshot snapshot, const TempoProvisional *found)
{
	const TempoSegment *listed;

	if (snapshot == SnapshotAny)
		return true;
	/* a foreign key's check asks for each row: no list of segments */
	if (!IsMVCCSnapshot(snapshot))
		return !tempo_deletions_own(found->segment, found->segment_row);
	if (found->cid >= snapshot->curcid)
		return false;
	list_segments(rel, snapshot);
	listed = tempo_segments_find_block(fetch.segments, fetch.n_segments, found->segment->first_block);
	if (listed != NULL && listed->segment_id == found->segment->segment_id &&
	    listed->storage_id == found->segment->storage_id)
	{
		tempo_deletions_check_mask(rel, listed);
		return !tempo_row_is_deleted(listed, found->segment_row);
	}
	if (fetch.n_segments > 0 && fetch.segments[0].storage_id == found->segment->storage_id)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("rows of table \"%s\" that this transaction inserted have moved when segments were merged",
		                RelationGetRelationName(rel)),
		         errhint("Find them by their trace and span ids.")));
	return false;
}

static bool
find_provisional(Relation rel, ItemPointer tid, Snapshot snapshot,
                 const SpanBatch **batch, TempoSegment *segment, uint32 *row)
{
	TempoProvisional found;

	if (!tempo_provisional_find(rel, tid, &found))
	{
		if (tempo_provisional_forgotten(rel))
			ereport(ERROR,
			        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			         errmsg("too many rows were inserted into table \"%s\" to find one by its TID in the same transaction",
			                RelationGetRelationName(rel)),
			         errhint("Find it by its trace and span ids.")));
		return false;
	}
	*batch = found.batch;
	*row = found.batch_row;
	if (found.segment == NULL)
		return true;
	*segment = *found.segment;
	if (found.batch == NULL)
		*row = found.segment_row;
	return sees_provisional(rel, snapshot, &found);
}

/*
 * Where the row of a TID is: *batch, or *segment.  False if the snapshot sees
 * no such row.
 */
static bool
find_row(Relation rel, ItemPointer tid, Snapshot snapshot,
         const SpanBatch **batch, TempoSegment *segment, uint32 *row)
{
	const TempoSegment *found;
	bool                any;

	*batch = NULL;
	if (tempo_tid_is_provisional(tid))
		return find_provisional(rel, tid, snapshot, batch, segment, row);
	if (!IsInParallelMode() && tempo_has_inserts(RelationGetRelid(rel)))
		tempo_flush_inserts(RelationGetRelid(rel));
	/* SnapshotAny is for rows the transaction has seen: whatever is committed or its own */
	any = snapshot == SnapshotAny;
	found = any ? tempo_deletions_segment(RelationGetRelid(rel), ItemPointerGetBlockNumberNoCheck(tid)) : NULL;
	if (found == NULL)
	{
		list_segments(rel, any ? SnapshotSelf : snapshot);
		found = tempo_segments_find_block(fetch.segments, fetch.n_segments,
		                                  ItemPointerGetBlockNumberNoCheck(tid));
	}
	if (found == NULL)
		return false;
	*segment = *found;
	tempo_deletions_check_mask(rel, found);
	/* it was a row before it was deleted: triggers and RETURNING want that */
	return tempo_tid_row(found, tid, row) && (any || !tempo_row_is_deleted(found, *row));
}

/* The source that has the row, positioned on its segment or batch. */
static TempoRowSource *
source_for(Relation rel, const SpanBatch *batch, const TempoSegment *segment)
{
	MemoryContext caller;

	if (fetch.source != NULL && fetch.relid != RelationGetRelid(rel))
		tempo_fetch_forget();
	if (fetch.source == NULL)
	{
		caller = MemoryContextSwitchTo(fetch_context());
		fetch.source = tempo_row_source_create(rel, NULL);
		MemoryContextSwitchTo(caller);
		fetch.relid = RelationGetRelid(rel);
		fetch.batch = NULL;
		fetch.segment_id = 0;
	}
	tempo_row_source_set_relation(fetch.source, rel);
	if (batch != NULL)
	{
		if (fetch.batch != batch)
			tempo_row_source_batch(fetch.source, batch);
		fetch.segment_id = 0;
	}
	else if (fetch.segment_id != segment->segment_id || fetch.storage_id != segment->storage_id)
	{
		tempo_row_source_segment(fetch.source, segment);
		fetch.segment_id = segment->segment_id;
		fetch.storage_id = segment->storage_id;
	}
	fetch.batch = batch;
	return fetch.source;
}

bool
tempo_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	const SpanBatch *batch;
	TempoSegment     segment;
	uint32           row;
	ItemPointerData  fetched = *tid; /* may be the slot's own */

	if (!find_row(rel, tid, snapshot, &batch, &segment, &row))
		return false;
	tempo_row_source_store(source_for(rel, batch, &segment), row, &fetched, slot, true);
	return true;
}

bool
tempo_fetch_locate(Relation rel, ItemPointer tid, Snapshot snapshot, TempoSegment *segment, uint32 *row)
{
	const SpanBatch *batch;
	TempoProvisional found;

	if (!find_row(rel, tid, snapshot, &batch, segment, row))
		return false;
	if (tempo_tid_is_provisional(tid))
	{
		if (!tempo_provisional_find(rel, tid, &found) || found.segment == NULL)
			return false;
		*row = found.segment_row;
	}
	return true;
}

bool
tempo_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	return ItemPointerIsValid(tid) &&
	       (tempo_tid_is_provisional(tid) ||
	        ItemPointerGetBlockNumber(tid) < RelationGetNumberOfBlocks(scan->rs_rd));
}

void
tempo_get_latest_tid(TableScanDesc scan, ItemPointer tid)
{
	/*
	 * WHERE CURRENT OF asks for a row that its cursor sees.  Rows are never
	 * updated, so the TID is the latest, unless the segment has been merged;
	 * then to find nothing there would be to pass by the row.
	 */
	if (tempo_tid_is_provisional(tid))
		return;
	list_segments(scan->rs_rd, scan->rs_snapshot);
	if (tempo_segments_find_block(fetch.segments, fetch.n_segments, ItemPointerGetBlockNumber(tid)) == NULL)
		tempo_deletions_superseded(scan->rs_rd);
}

bool
tempo_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	const SpanBatch *batch;
	TempoSegment     segment;
	uint32           row;

	return find_row(rel, &slot->tts_tid, snapshot, &batch, &segment, &row);
}
