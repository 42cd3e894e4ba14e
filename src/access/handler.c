/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  The table access method "tempo": its callbacks in one place, and those
 *	  that refuse.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/handler.h"

#include "access/compact.h"
#include "access/compact_stat.h"
#include "access/ddl.h"
#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/agg.h"
#include "access/planner.h"
#include "access/retention.h"
#include "access/row_source.h"
#include "access/scan.h"
#include "access/segment_source.h"
#include "access/relation.h"
#include "access/stop_at.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/htup_details.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(tempo_handler);

static const TableAmRoutine tempo_methods;

bool
tempo_relation(Relation rel)
{
	return rel->rd_tableam == &tempo_methods;
}

bool
tempo_access_method(Oid am)
{
	HeapTuple  tuple = SearchSysCache1(AMOID, ObjectIdGetDatum(am));
	Form_pg_am form;
	bool       result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_am) GETSTRUCT(tuple);
	result = form->amtype == AMTYPE_TABLE && GetTableAmRoutine(form->amhandler) == &tempo_methods;
	ReleaseSysCache(tuple);
	return result;
}

bool
tempo_relation_oid(Oid relid)
{
	HeapTuple     tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool          result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW) &&
	         tempo_access_method(form->relam);
	ReleaseSysCache(tuple);
	return result;
}

static const TupleTableSlotOps *
tempo_slot_callbacks(Relation rel)
{
	return tempo_slot_ops();
}

/* ------------------------------------------------------------- inserting */

static void
tempo_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
                   struct BulkInsertStateData *bistate)
{
	tempo_insert_row(rel, slot, cid, options);
}

static void
tempo_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid, int options,
                   struct BulkInsertStateData *bistate)
{
	for (int i = 0; i < nslots; i++)
		tempo_insert_row(rel, slots[i], cid, options);
}

static void
tempo_finish_bulk_insert(Relation rel, int options)
{
	tempo_flush_inserts(RelationGetRelid(rel));
}

/* --------------------------------------------------------------- refusing */

static void
refuse_index(Relation rel)
{
	TEMPO_UNSUPPORTED(errmsg("table \"%s\" cannot have an index, nor a constraint that needs one",
	                         RelationGetRelationName(rel)),
	                  TEMPO_HINT_INDEX);
}

static struct IndexFetchTableData *
tempo_index_fetch_begin(Relation rel)
{
	refuse_index(rel);
	return NULL;
}

static void
tempo_index_fetch_reset(struct IndexFetchTableData *data)
{
}

static void
tempo_index_fetch_end(struct IndexFetchTableData *data)
{
}

static bool
tempo_index_fetch_tuple(struct IndexFetchTableData *scan, ItemPointer tid, Snapshot snapshot,
                        TupleTableSlot *slot, bool *call_again, bool *all_dead)
{
	refuse_index(scan->rel);
	return false;
}

static TransactionId
tempo_index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	refuse_index(rel);
	return InvalidTransactionId;
}

static double
tempo_index_build_range_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
                             bool allow_sync, bool anyvisible, bool progress,
                             BlockNumber start_blockno, BlockNumber numblocks,
                             IndexBuildCallback callback, void *callback_state, TableScanDesc scan)
{
	refuse_index(table_rel);
	return 0;
}

static void
tempo_index_validate_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
                          Snapshot snapshot, struct ValidateIndexState *state)
{
	refuse_index(table_rel);
}

static void
tempo_tuple_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
                               struct BulkInsertStateData *bistate, uint32 specToken)
{
	/* only ON CONFLICT with a unique index comes here */
	refuse_index(rel);
}

static void
tempo_tuple_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 specToken, bool succeeded)
{
	refuse_index(rel);
}

static TM_Result
tempo_tuple_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
                   Snapshot crosscheck, bool wait, TM_FailureData *tmfd, bool changingPart)
{
	return tempo_delete_row(rel, tid, cid, snapshot, crosscheck, tmfd, true);
}

static TM_Result
tempo_tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid,
                   Snapshot snapshot, Snapshot crosscheck, bool wait, TM_FailureData *tmfd,
                   LockTupleMode *lockmode, TEMPO_UPDATE_INDEXES_TYPE *update_indexes)
{
	TEMPO_UNSUPPORTED(errmsg("cannot update table \"%s\"", RelationGetRelationName(rel)),
	                  TEMPO_HINT_UPDATE);
	return TM_Ok;
}

static TM_Result
tempo_tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
                 CommandId cid, LockTupleMode mode, LockWaitPolicy wait_policy, uint8 flags,
                 TM_FailureData *tmfd)
{
	TM_Result result;

	memset(tmfd, 0, sizeof(*tmfd));
	tmfd->cmax = InvalidCommandId;

	/*
	 * A DELETE with row triggers asks for an exclusive lock, and a foreign
	 * key's check that nothing refers to a row any more for KEY SHARE.  Both
	 * wait for those who delete from the segment: a reference that goes is
	 * none.  SELECT FOR UPDATE does not come here, see hooks.c.
	 */
	if (mode != LockTupleExclusive && !(mode == LockTupleKeyShare && InNoForceRLSOperation()))
		TEMPO_UNSUPPORTED(errmsg("cannot lock rows of table \"%s\"", RelationGetRelationName(rel)),
		                  TEMPO_HINT_LOCK);
	result = tempo_delete_row(rel, tid, cid, snapshot, InvalidSnapshot, tmfd, false);
	if (result == TM_Ok)
		(void) tempo_fetch_row_version(rel, tid, SnapshotAny, slot);
	return result;
}

/* ----------------------------------------------------------------- sizes */

static bool
tempo_relation_needs_toast_table(Relation rel)
{
	return false;
}

static const TableAmRoutine tempo_methods = {
	.type = T_TableAmRoutine,

	.slot_callbacks = tempo_slot_callbacks,

	.scan_begin = tempo_scan_begin,
	.scan_end = tempo_scan_end,
	.scan_rescan = tempo_scan_rescan,
	.scan_getnextslot = tempo_scan_getnextslot,
	.scan_set_tidrange = tempo_scan_set_tidrange,
	.scan_getnextslot_tidrange = tempo_scan_getnextslot_tidrange,

	.parallelscan_estimate = tempo_parallelscan_estimate,
	.parallelscan_initialize = tempo_parallelscan_initialize,
	.parallelscan_reinitialize = tempo_parallelscan_reinitialize,

	.index_fetch_begin = tempo_index_fetch_begin,
	.index_fetch_reset = tempo_index_fetch_reset,
	.index_fetch_end = tempo_index_fetch_end,
	.index_fetch_tuple = tempo_index_fetch_tuple,

	.tuple_fetch_row_version = tempo_fetch_row_version,
	.tuple_tid_valid = tempo_tid_valid,
	.tuple_get_latest_tid = tempo_get_latest_tid,
	.tuple_satisfies_snapshot = tempo_satisfies_snapshot,
	.index_delete_tuples = tempo_index_delete_tuples,

	.tuple_insert = tempo_tuple_insert,
	.tuple_insert_speculative = tempo_tuple_insert_speculative,
	.tuple_complete_speculative = tempo_tuple_complete_speculative,
	.multi_insert = tempo_multi_insert,
	.tuple_delete = tempo_tuple_delete,
	.tuple_update = tempo_tuple_update,
	.tuple_lock = tempo_tuple_lock,
	.finish_bulk_insert = tempo_finish_bulk_insert,

#if PG_VERSION_NUM >= 160000
	.relation_set_new_filelocator = tempo_relation_set_new_file,
#else
	.relation_set_new_filenode = tempo_relation_set_new_file,
#endif
	.relation_nontransactional_truncate = tempo_relation_nontransactional_truncate,
	.relation_copy_data = tempo_relation_copy_data,
	.relation_copy_for_cluster = tempo_relation_copy_for_cluster,
	.relation_vacuum = tempo_relation_vacuum,
	.scan_analyze_next_block = tempo_scan_analyze_next_block,
	.scan_analyze_next_tuple = tempo_scan_analyze_next_tuple,
	.index_build_range_scan = tempo_index_build_range_scan,
	.index_validate_scan = tempo_index_validate_scan,

	.relation_size = table_block_relation_size,
	.relation_needs_toast_table = tempo_relation_needs_toast_table,
	.relation_estimate_size = tempo_relation_estimate_size,

	/* no bitmap scans: there are no indexes */
	.scan_sample_next_block = tempo_scan_sample_next_block,
	.scan_sample_next_tuple = tempo_scan_sample_next_tuple,
};

Datum
tempo_handler(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&tempo_methods);
}

void
tempo_access_init(void)
{
	tempo_segment_cache_init();
	tempo_insert_buffer_init();
	tempo_fetch_init();
	tempo_compact_init();
	tempo_compact_stat_init();
	tempo_retention_init();
	tempo_deletions_init();
	tempo_stop_init();
	tempo_hooks_init();
	tempo_planner_init();
	tempo_agg_plan_init();
}
