/*-------------------------------------------------------------------------
 *
 * compaction.c
 *	  The background worker that merges segments.
 *
 * It looks at every table USING tempo of tempo_pg.database about once a
 * second, folds level-0 segments when there are enough of them or the oldest
 * has waited for two seconds, and merges others when enough of a size have
 * come together; one transaction per merge, none while it waits.  From time to
 * time it makes the blocks of merged segments available again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/compaction.h"

#include "access/compact.h"
#include "access/ddl.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/process.h"

#define CYCLE_MS 1000			/* between looks */
#define RETRY_MS 10000			/* after an error, or without the extension */
#define RECLAIM_MS 10000		/* between looks for free blocks */
#define FOLD_COUNT 64
#define FOLD_AGE_MS 2000
#define MERGES_PER_TURN 16		/* of one table, before the next has its turn */

extern PGDLLEXPORT void tempo_compaction_main(Datum arg);

static bool compaction_on = true;

/* A table that is being looked after. */
typedef struct Table
{
	Oid			relid;
	bool		merged;			/* since blocks were last reclaimed */
} Table;

static List *tables = NIL;
static MemoryContext tables_context;

void
compaction_init(void)
{
	DefineCustomBoolVariable("tempo_pg.compaction",
							 "Merge segments in the background.",
							 "Without it, segments are merged only by tempo.compact().",
							 &compaction_on, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	process_add_worker("tempo_pg compaction", "tempo_compaction_main", 1, 0);
}

static void
wait_for(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	(void) process_reread_settings();
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

/* Brings "tables" up to date: the tables of the access method, if it exists. */
static void
find_tables(void)
{
	List	   *found = NIL;
	Oid			am;

	begin_transaction();
	am = get_table_am_oid("tempo", true);
	if (OidIsValid(am))
	{
		Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
		SysScanDesc scan = systable_beginscan(pg_class, InvalidOid, false, NULL, 0, NULL);
		HeapTuple	tuple;

		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
			MemoryContext caller;
			Table	   *table;
			ListCell   *cell;

			if (form->relam != am ||
				(form->relkind != RELKIND_RELATION && form->relkind != RELKIND_MATVIEW))
				continue;
			caller = MemoryContextSwitchTo(tables_context);
			table = palloc0(sizeof(Table));
			table->relid = form->oid;
			foreach(cell, tables)
				if (((Table *) lfirst(cell))->relid == form->oid)
					table->merged = ((Table *) lfirst(cell))->merged;
			found = lappend(found, table);
			MemoryContextSwitchTo(caller);
		}
		systable_endscan(scan);
		table_close(pg_class, AccessShareLock);
	}
	end_transaction();
	list_free_deep(tables);
	tables = found;
}

/* One merge of a table; returns whether there was one. */
static bool
merge_once(Table *table, long *next)
{
	TempoCompactOptions options = {TEMPO_COMPACT_LAZY, 0, FOLD_COUNT, FOLD_AGE_MS};
	TempoCompactResult result;
	bool		merged;

	begin_transaction();
	merged = tempo_compact_relation(table->relid, &options, &result);
	end_transaction();
	if (merged)
		table->merged = true;
	if (result.next_fold >= 0 && result.next_fold < *next)
		*next = Max((long) result.next_fold, 10);
	return merged;
}

static void
reclaim(Table *table)
{
	begin_transaction();
	if (ConditionalLockRelationOid(table->relid, RowExclusiveLock))
	{
		Relation	rel = try_relation_open(table->relid, NoLock);

		if (rel != NULL)
		{
			if (tempo_relation(rel))
				(void) tempo_reclaim(rel);
			relation_close(rel, NoLock);
		}
	}
	end_transaction();
	table->merged = false;
}

/* Looks after every table once; returns how long to wait then. */
static long
work(TimestampTz *last_reclaim)
{
	long		next = CYCLE_MS;
	bool		reclaiming;
	ListCell   *cell;

	find_tables();
	if (tables == NIL)
		return RETRY_MS;
	pgstat_report_activity(STATE_RUNNING, "merging segments");
	reclaiming = TimestampDifferenceExceeds(*last_reclaim, GetCurrentTimestamp(), RECLAIM_MS);
	foreach(cell, tables)
	{
		Table	   *table = lfirst(cell);

		for (int i = 0; merge_once(table, &next); i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (i + 1 == MERGES_PER_TURN)
			{
				next = 0;
				break;
			}
		}
		if (reclaiming && table->merged)
			reclaim(table);
	}
	if (reclaiming)
		*last_reclaim = GetCurrentTimestamp();
	pgstat_report_activity(STATE_IDLE, NULL);
	return next;
}

/*
 * Off, or on a standby, the worker has no connection, so that it is in nobody's
 * way; when it is switched off later it starts anew.
 */
static bool
should_run(void)
{
	return tempo_enabled && compaction_on && !RecoveryInProgress();
}

void
tempo_compaction_main(Datum arg)
{
	sigjmp_buf	on_error;
	static TimestampTz last_reclaim = 0;	/* survives the jump */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* a merge can be interrupted anywhere */
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	while (!should_run())
		wait_for(RETRY_MS);

	BackgroundWorkerInitializeConnection(tempo_database, NULL, 0);
	SetConfigOption("search_path", "pg_catalog", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	/* losing a merge in a crash loses nothing */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	tables_context = AllocSetContextCreate(TopMemoryContext, "tempo_pg compaction", ALLOCSET_SMALL_SIZES);

	if (sigsetjmp(on_error, 1) != 0)
	{
		error_context_stack = NULL;
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(TopMemoryContext);
		RESUME_INTERRUPTS();
		pgstat_report_activity(STATE_IDLE, NULL);
		wait_for(RETRY_MS);
	}
	PG_exception_stack = &on_error;
	for (;;)
	{
		long		next = work(&last_reclaim);

		if (next > 0)
			wait_for(next);
		else
			(void) process_reread_settings();
		if (!should_run())
			proc_exit(1);		/* and be started again, to wait */
	}
}
