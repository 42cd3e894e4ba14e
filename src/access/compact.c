/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Merging small segments into large ones: what workers and SQL call.
 *
 * A merge is one transaction that inserts the rows of the new segments into
 * the directory and deletes those of the sources, so every snapshot sees
 * either all sources or all targets.  Sources are claimed with row locks that
 * are not waited for; inserters and readers are never in the way.
 *
 * Whoever merges holds a lock on the merging of the table, so that
 * tempo.compact() can wait for the worker's merge; what keeps two from
 * merging the same segment are the row locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact_step.h"

#include "access/ddl.h"
#include "access/deletions.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(tempo_compact);

#define DEFAULT_MAX_SPANS (1000 * 1000)

static int compaction_memory = 256 * 1024; /* kB */

/* Tells the lock on the merging of a table from other locks on it. */
#define MERGING_LOCK 0x7470

void
tempo_compact_init(void)
{
	DefineCustomIntVariable("tempo_pg.compaction_memory",
	                        "Memory for one merge.",
	                        "Merged segments grow until this or a million spans is reached.",
	                        &compaction_memory, 256 * 1024, 16 * 1024, MAX_KILOBYTES,
	                        PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

Size
tempo_compaction_memory(void)
{
	return (Size) compaction_memory * 1024;
}

void
tempo_compact_reading(TempoCompactResult *result, const TempoSegment *segment)
{
	result->reading.storage_id = segment == NULL ? 0 : segment->storage_id;
	result->reading.segment_id = segment == NULL ? 0 : segment->segment_id;
}

static bool
is_avoided(const TempoCompactOptions *options, const TempoSegment *segment)
{
	for (uint32 i = 0; i < options->n_avoid; i++)
		if (options->avoid[i].storage_id == segment->storage_id &&
		    options->avoid[i].segment_id == segment->segment_id)
			return true;
	return false;
}

/* Chooses a merge and does it. */
static bool
run_step(Step *step)
{
	const TempoCompactOptions *options = step->options;
	TempoDirectory             directory;
	Snapshot                   snapshot;
	TempoSegment              *listed;
	uint32                     n_listed;
	Sources                    sources = {NULL};
	bool                       done = false;

	/*
	 * Directory rows are claimed by TID: until then VACUUM FULL must not move
	 * them, nor, thanks to the snapshot, pruning remove them.
	 */
	tempo_directory_open(&directory, RowExclusiveLock, false);

	/*
	 * Under repeatable read what is not visible to the transaction must not
	 * become part of a segment that is.
	 */
	snapshot = RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	listed = tempo_directory_list(step->rel, snapshot, NULL, &n_listed);
	if (options->floor != NULL)
		tempo_directory_advance_floor(step->rel, snapshot, listed, n_listed, options->floor);
	step->segments =
		palloc_extended((Size) Max(n_listed, 1) * sizeof(TempoSegment), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < n_listed; i++)
		if (!is_avoided(options, &listed[i]))
			step->segments[step->count++] = listed[i];
	step->retention = tempo_retention_read(step->rel);
	if (tempo_compact_choose(step, &sources))
		done = tempo_compact_merge(step, &directory, &sources);
	UnregisterSnapshot(snapshot);
	tempo_directory_close(&directory);
	return done;
}

bool
tempo_compact_step(Relation rel, const TempoCompactOptions *options, TempoCompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo compaction",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Step          step = {rel, options, result};
	volatile bool done = false;

	if (tempo_deletions_pending(RelationGetRelid(rel)))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_IN_USE),
		         errmsg("cannot compact table \"%s\" while a DELETE is running in this session",
		                RelationGetRelationName(rel))));
	step.stat = tempo_compact_stat(RelationGetRelid(rel));
	step.max_spans = options->max_spans > 0 ? options->max_spans : DEFAULT_MAX_SPANS;
	tempo_compact_reading(result, NULL);
	PG_TRY();
	{
		done = run_step(&step);
	}
	PG_FINALLY();
	{
		tempo_stat_phase(step.stat, TEMPO_PHASE_IDLE, 0);
	}
	PG_END_TRY();
	if (done)
		tempo_stat_merged(step.stat, &result->work);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return done;
}

/* ---------------------------------------------------------------- locking */

/*
 * Not a lock of the relation, which merging must not keep from others, and
 * not the page lock, under which no other lock may be taken.
 */
static void
merging_tag(LOCKTAG *tag, Oid relid)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, RelationRelationId, relid, MERGING_LOCK);
}

bool
tempo_lock_merging(Oid relid, bool wait)
{
	LOCKTAG tag;

	merging_tag(&tag, relid);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
tempo_unlock_merging(Oid relid)
{
	LOCKTAG tag;

	merging_tag(&tag, relid);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

bool
tempo_compact_relation(Oid relid, const TempoCompactOptions *options, TempoCompactResult *result)
{
	Relation rel;
	bool     done;

	memset(result, 0, sizeof(*result));
	result->next_fold = -1;
	if (!tempo_try_lock_own_tables(RowExclusiveLock) || !ConditionalLockRelationOid(relid, RowExclusiveLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, RowExclusiveLock);
		return false;
	}
	done = tempo_relation(rel) && tempo_lock_merging(relid, false) && tempo_compact_step(rel, options, result);
	table_close(rel, NoLock);
	return done;
}

/* ------------------------------------------------------------------- SQL */

static void
check_may_maintain(Oid relid)
{
	Oid admin = get_role_oid("tempo_admin", true);

	if (!tempo_owns_relation(relid, GetUserId()) &&
	    !(OidIsValid(admin) && has_privs_of_role(GetUserId(), admin)))
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg("permission denied for table %s", get_rel_name(relid)),
		         errhint("The owner of the table and members of tempo_admin may do this.")));
}

Relation
tempo_open_to_maintain(Oid relid)
{
	Relation rel;

	if (get_rel_relkind(relid) == '\0')
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("relation with OID %u does not exist", relid)));
	/* who may not do it must not lock the table either */
	check_may_maintain(relid);
	rel = table_open(relid, RowExclusiveLock);
	check_may_maintain(relid);
	if (!tempo_relation(rel))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
		                errmsg("\"%s\" is not a table of access method \"tempo\"", RelationGetRelationName(rel))));
	return rel;
}

/*
 * tempo.compact(relation, max_spans): merges until nothing is left to merge.
 * Meanwhile the worker does not begin a merge; what another transaction holds
 * until its end is passed by.
 */
Datum
tempo_compact(PG_FUNCTION_ARGS)
{
	Oid                 relid = PG_GETARG_OID(0);
	int32               max_spans = PG_GETARG_INT32(1);
	TempoCompactOptions options = {TEMPO_COMPACT_FULL};
	TempoCompactResult  result = {0};
	uint32              sources = 0;
	int32               merges = 0;
	Relation            rel;
	TupleDesc           desc;
	Datum               values[5];
	bool                nulls[5] = {0};
	if (max_spans < 1 || max_spans > SEGMENT_MAX_ROWS)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("max_spans must be between 1 and %u", SEGMENT_MAX_ROWS)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rel = tempo_open_to_maintain(relid);
	options.max_spans = (uint32) max_spans;
	(void) tempo_lock_merging(relid, true);
	while (tempo_compact_step(rel, &options, &result))
	{
		CHECK_FOR_INTERRUPTS();
		CommandCounterIncrement();
		merges++;
		sources = result.sources;
	}
	tempo_unlock_merging(relid);
	table_close(rel, NoLock);

	values[0] = Int32GetDatum(merges);
	values[1] = Int32GetDatum((int32) sources);
	values[2] = Int32GetDatum((int32) result.targets);
	values[3] = Int64GetDatum((int64) result.spans);
	values[4] = Int64GetDatum((int64) result.bytes);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
