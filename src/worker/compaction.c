/*-------------------------------------------------------------------------
 *
 * compaction.c
 *	  The background worker that looks after stored spans.
 *
 * It looks at every table USING tempo of tempo_pg.database about once a
 * second, folds level-0 segments when there are enough of them or the oldest
 * has waited for two seconds, and merges others when enough of a size have
 * come together; one transaction per merge, none while it waits.  From time to
 * time it removes spans that are too old, and vacuums the tables that gave up
 * segments, so that their blocks are used again.
 *
 * Each of these is tried for itself.  A segment that cannot be read is left
 * out of further merges for a while, a table with another kind of error is
 * left alone for a while, and everything else goes on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/compaction.h"

#include <limits.h>
#include <malloc.h>

#include "access/compact.h"
#include "access/compact_stat.h"
#include "access/compat.h"
#include "access/ddl.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/orphans.h"
#include "access/relation.h"
#include "access/retention.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/vacuum.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/process.h"

#define CYCLE_MS 1000                  /* between looks */
#define RETRY_MS 10000                 /* without the extension, and after a first error */
#define LAST_RETRY_MS (10 * 60 * 1000) /* after many errors */
#define TEND_MS 10000                  /* between looks for what is too old, and for free blocks */
#define ORPHANS_MS (5 * 60 * 1000)

/* When merges have given up so much, the next ones shall write there. */
#define VACUUM_BYTES (8 * 1024 * 1024)
#define VACUUM_MS 1000
#define MAX_CUTS 30
#define FOLD_COUNT 64
#define FOLD_AGE_MS 2000
#define MERGES_PER_TURN 16 /* of one table, before the next has its turn */

/* More damaged segments than this are not told apart: then the table waits. */
#define MAX_DAMAGED 1000

/* Writers that are slowed down commit once in so many milliseconds at least. */
#define SLOWEST_COMMIT_MS 1000

/* Of tempo_pg.max_level0_segments: from here on requests are refused. */
#define REFUSE_FACTOR 4

extern PGDLLEXPORT void tempo_compaction_main(Datum arg);

static bool compaction_on = true;
static int  compaction_rate_limit = 0; /* kB/s */
static int  max_level0_segments = 1000;

/* How long something that failed is left alone. */
typedef struct Backoff
{
	TimestampTz until;
	long        delay; /* milliseconds, the last time; 0 = did not fail */
	int         sqlstate;
} Backoff;

typedef struct Damaged
{
	TempoSegmentKey key;
	Backoff         backoff;
} Damaged;

/* A table that is being looked after. */
typedef struct Table
{
	Oid              relid;
	char            *name;           /* as in SQL, for messages */
	bool             seen;           /* by the last look for tables */
	bool             vacuum;         /* it has given up segments */
	uint64           bytes_given_up; /* since the last vacuum */
	TimestampTz      vacuumed_at;
	bool             was_vacuumed; /* by us */
	int              cuts;         /* tries to make the file shorter */
	TransactionId    given_up;     /* by transactions before this */
	TransactionId    horizon;      /* when it was last vacuumed */
	Backoff          backoff;
	Damaged         *damaged;
	uint32           n_damaged;
	TempoSegmentKey *avoid; /* those of them to be left out now */
	uint32           n_avoid;
	TempoFloor       floor;
	TempoSpace       space;
} Table;

static List         *tables = NIL;
static MemoryContext tables_context;

/* The work of one transaction; what an error leaves behind is used to blame a segment. */
typedef struct Attempt
{
	Table             *table;
	TempoCompactResult result;
	TempoExpired       expired;
	bool               done;
} Attempt;

/* ------------------------------------------------------------- pressure */

static Oid stored_into = InvalidOid;

void
compaction_stored(Oid relid)
{
	stored_into = relid;
	tempo_stat_add_level0(tempo_compact_stat(relid), 1);
}

static uint32
waiting_segments(void)
{
	return OidIsValid(stored_into) && compaction_on ? tempo_stat_level0(tempo_compact_stat(stored_into)) : 0;
}

int
compaction_commit_interval(int normal)
{
	uint32 waiting = waiting_segments();
	uint64 more;

	if (max_level0_segments == 0 || waiting <= (uint32) max_level0_segments)
		return normal;
	more = (uint64) (waiting - max_level0_segments) * SLOWEST_COMMIT_MS / max_level0_segments;
	return Max(normal, (int) Min(more, SLOWEST_COMMIT_MS));
}

bool
compaction_overloaded(void)
{
	return max_level0_segments > 0 &&
	       waiting_segments() > (uint64) max_level0_segments * REFUSE_FACTOR;
}

/* -------------------------------------------------------------- settings */

void
compaction_init(void)
{
	DefineCustomBoolVariable("tempo_pg.compaction",
	                         "Merge segments in the background.",
	                         "Without it, segments are merged only by tempo.compact(), and "
	                         "retention is applied only by tempo.apply_retention().",
	                         &compaction_on, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"tempo_pg.compaction_rate_limit",
		"Bytes per second that merging in the background may read and write; 0 means no limit.",
		"The worker waits between merges.", &compaction_rate_limit, 0, 0, MAX_KILOBYTES, PGC_SIGHUP,
		GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_level0_segments",
	                        "Number of segments waiting to be merged beyond which receivers are "
	                        "slowed down; 0 means no limit.",
	                        "At four times the number clients are asked to retry.",
	                        &max_level0_segments, 1000, 0, INT_MAX / REFUSE_FACTOR,
	                        PGC_SIGHUP, 0, NULL, NULL, NULL);
	process_add_worker("tempo_pg compaction", "tempo_compaction_main", 1, 0);
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

static void
wait_for(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	(void) process_reread_settings();
}

/* After a merge: until it is within the limit, which may change meanwhile. */
static void
throttle(Table *table, uint64 bytes, TimestampTz begun)
{
	bool waited = false;

	while (compaction_rate_limit > 0 && should_run())
	{
		uint64      milliseconds = bytes / ((uint64) compaction_rate_limit * 1024 / 1000);
		TimestampTz until = begun + (TimestampTz) Min(milliseconds, INT_MAX) * 1000;
		long        left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0)
			break;
		if (!waited)
		{
			tempo_stat_phase(tempo_compact_stat(table->relid), TEMPO_PHASE_WAITING, 0);
			pgstat_report_activity(STATE_IDLE, "waiting: tempo_pg.compaction_rate_limit");
		}
		waited = true;
		wait_for(Min(left, CYCLE_MS));
	}
	if (waited)
		tempo_stat_phase(tempo_compact_stat(table->relid), TEMPO_PHASE_IDLE, 0);
}

/* ---------------------------------------------------------------- errors */

static bool
is_over(const Backoff *backoff, TimestampTz now)
{
	return backoff->delay == 0 || now >= backoff->until;
}

/* Returns whether the error is a new one, to be logged. */
static bool
back_off(Backoff *backoff, int sqlstate)
{
	bool is_new = backoff->delay == 0 || backoff->sqlstate != sqlstate;

	backoff->delay = backoff->delay == 0 ? RETRY_MS : Min(backoff->delay * 2, LAST_RETRY_MS);
	backoff->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), backoff->delay);
	backoff->sqlstate = sqlstate;
	return is_new;
}

/* Which damaged segments are to be left out now? */
static void
choose_avoided(Table *table)
{
	TimestampTz now = GetCurrentTimestamp();

	table->n_avoid = 0;
	if (table->n_damaged == 0)
		return;
	if (table->avoid == NULL)
		table->avoid = MemoryContextAlloc(tables_context, sizeof(TempoSegmentKey) * MAX_DAMAGED);
	for (uint32 i = 0; i < table->n_damaged; i++)
		if (!is_over(&table->damaged[i].backoff, now))
			table->avoid[table->n_avoid++] = table->damaged[i].key;
	tempo_stat_quarantined(tempo_compact_stat(table->relid), table->n_avoid);
}

/* Does the error tell of the segment, and not of the server's state or of other sessions? */
static bool
is_damage(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category != ERRCODE_INSUFFICIENT_RESOURCES &&
	       category != ERRCODE_OPERATOR_INTERVENTION && category != ERRCODE_TRANSACTION_ROLLBACK &&
	       category != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

/* The entry of a segment, which may be new; NULL if there are too many. */
static Damaged *
find_damaged(Table *table, const TempoSegmentKey *key)
{
	Damaged *damaged;

	for (uint32 i = 0; i < table->n_damaged; i++)
		if (table->damaged[i].key.storage_id == key->storage_id &&
		    table->damaged[i].key.segment_id == key->segment_id)
			return &table->damaged[i];
	if (table->n_damaged == MAX_DAMAGED)
		return NULL;
	if (table->damaged == NULL)
		table->damaged = MemoryContextAlloc(tables_context, sizeof(Damaged) * MAX_DAMAGED);
	damaged = &table->damaged[table->n_damaged++];
	memset(damaged, 0, sizeof(*damaged));
	damaged->key = *key;
	return damaged;
}

/* Notes an error, and logs it if it was not there before. */
static void
blame(Attempt *attempt, const ErrorData *error)
{
	Table                 *table = attempt->table;
	const TempoSegmentKey *reading = attempt->result.reading.storage_id != 0 ? &attempt->result.reading : &attempt->expired.reading;
	Damaged               *damaged = NULL;
	const char            *message = error->message != NULL ? error->message : "unknown error";
	Backoff               *backoff;

	if (reading->storage_id != 0 && is_damage(error->sqlerrcode))
		damaged = find_damaged(table, reading);
	backoff = damaged != NULL ? &damaged->backoff : &table->backoff;
	tempo_stat_failed(tempo_compact_stat(table->relid), message);
	if (!back_off(backoff, error->sqlerrcode))
		return;
	if (damaged != NULL)
		ereport(LOG, (errcode(error->sqlerrcode),
		              errmsg("tempo_pg cannot merge segment " UINT64_FORMAT " of table %s: %s",
		                     damaged->key.segment_id, table->name, message),
		              error->detail ? errdetail_internal("%s", error->detail) : 0,
		              errhint("SELECT * FROM tempo.verify('%s') lists what is damaged. Other "
		                      "segments are merged; this one is tried again now and then.",
		                      table->name)));
	else
		ereport(LOG,
		        (errcode(error->sqlerrcode),
		         errmsg("tempo_pg cannot merge segments of table %s: %s", table->name, message),
		         error->detail ? errdetail_internal("%s", error->detail) : 0,
		         errhint("It is tried again in %ld seconds, and less often while it fails. SELECT "
		                 "* FROM tempo.verify('%s') tells whether the table is damaged.",
		                 backoff->delay / 1000, table->name)));
}

/* ---------------------------------------------------------- transactions */

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

/* Runs "work" and notes an error; returns whether there was none. */
static bool
attempt_work(Attempt *attempt, void (*work)(Attempt *attempt))
{
	volatile bool good = true;

	PG_TRY();
	{
		work(attempt);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(tables_context);
		error = CopyErrorData();
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(tables_context);
		tempo_stat_phase(tempo_compact_stat(attempt->table->relid), TEMPO_PHASE_IDLE, 0);
		blame(attempt, error);
		FreeErrorData(error);
		RESUME_INTERRUPTS();
		good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	return good;
}

/* The relation, locked in RowExclusiveLock; NULL if it is gone, or its lock is not free. */
static Relation
open_table(const Table *table, LOCKMODE lockmode)
{
	Relation rel;

	if (!ConditionalLockRelationOid(table->relid, lockmode))
		return NULL;
	rel = try_relation_open(table->relid, NoLock);
	if (rel != NULL && tempo_relation(rel))
		return rel;
	if (rel != NULL)
		relation_close(rel, NoLock);
	return NULL;
}

static void
merge(Attempt *attempt)
{
	Table              *table = attempt->table;
	TempoCompactOptions options = {
		TEMPO_COMPACT_LAZY, 0, FOLD_COUNT, FOLD_AGE_MS, table->avoid, table->n_avoid,
		&table->floor, &table->space};

	begin_transaction();
	attempt->done = tempo_compact_relation(table->relid, &options, &attempt->result);
	end_transaction();
}

static void
expire(Attempt *attempt)
{
	Table   *table = attempt->table;
	Relation rel;

	begin_transaction();
	rel = tempo_try_lock_own_tables(RowExclusiveLock) ? open_table(table, RowExclusiveLock) : NULL;
	if (rel != NULL)
	{
		TempoRetention *retention = tempo_retention_read(rel);

		if (retention != NULL)
		{
			tempo_expire(rel, retention, table->avoid, table->n_avoid, &attempt->expired);
			tempo_stat_expired(tempo_compact_stat(table->relid), attempt->expired.segments,
			                   attempt->expired.rows);
		}
		relation_close(rel, NoLock);
	}
	end_transaction();
	attempt->done = attempt->expired.segments > 0;
}

static void
needs_vacuum(Table *table)
{
	table->vacuum = true;
	table->given_up = ReadNextTransactionId();
	table->cuts = 0;
}

/*
 * Has any transaction ended that kept rows since the last time, or could the
 * file not be cut since somebody used the table?
 */
static bool
worth_vacuuming(Table *table)
{
	Relation      rel = open_table(table, AccessShareLock);
	TransactionId horizon;
	bool          worth;

	if (rel == NULL)
		return false;
	horizon = GetOldestNonRemovableTransactionId(rel);
	worth = horizon != table->horizon || tempo_end_is_free(rel);
	relation_close(rel, NoLock);
	table->horizon = horizon;
	return worth;
}

/* After VACUUM: is it to be tried again to make the file shorter?  Not for ever, as that may be off. */
static bool
must_cut_again(Table *table)
{
	Relation rel = open_table(table, AccessShareLock);
	bool     again;

	if (rel == NULL)
		return false;
	again = tempo_end_is_free(rel) && table->cuts++ < MAX_CUTS;
	relation_close(rel, NoLock);
	return again;
}

static void
add_vacuum(List **relations, const char *schema, const char *name, Oid relid)
{
	if (OidIsValid(relid))
		*relations =
			lappend(*relations, makeVacuumRelation(makeRangeVar(pstrdup(schema), pstrdup(name), -1),
		                                           relid, NIL));
}

/* As autovacuum does; dead rows of the directory go first, then the table's free blocks are found. */
static void
vacuum_table(Attempt *attempt)
{
	Table       *table = attempt->table;
	VacuumParams params;
	List        *relations = NIL;
	char        *schema;
	char        *name;
	Oid          tempo;

	StartTransactionCommand();
	/* who vacuums it already is waited for, without the warning of a table that was left out */
	if (!ConditionalLockRelationOid(table->relid, ShareUpdateExclusiveLock) || !worth_vacuuming(table))
	{
		CommitTransactionCommand();
		return;
	}
	MemoryContextSwitchTo(PortalContext);
	name = get_rel_name(table->relid);
	schema = name == NULL ? NULL : get_namespace_name(get_rel_namespace(table->relid));
	if (schema != NULL)
		add_vacuum(&relations, schema, name, table->relid);
	tempo = get_namespace_oid("tempo", true);
	if (OidIsValid(tempo))
		add_vacuum(&relations, "tempo", "segment_deletions",
		           get_relname_relid("segment_deletions", tempo));

	tempo_vacuum_params(&params);
	tempo_stat_phase(tempo_compact_stat(table->relid), TEMPO_PHASE_VACUUMING, 0);
	if (relations != NIL)
		tempo_vacuum(relations, &params, PortalContext);
	/* or does somebody still see what was given up? */
	attempt->done = TransactionIdFollowsOrEquals(table->horizon, table->given_up) && !must_cut_again(table);
	CommitTransactionCommand();
	tempo_stat_phase(tempo_compact_stat(table->relid), TEMPO_PHASE_IDLE, 0);
	pgstat_report_stat(false);
}

static void
remove_orphans(Attempt *attempt)
{
	uint32 removed;
	uint32 masks;

	begin_transaction();
	removed = tempo_remove_orphans(&masks);
	end_transaction();
	tempo_stat_orphans(tempo_compact_stat(attempt->table->relid), removed + masks);
	if (removed > 0)
		ereport(LOG, (errmsg("tempo_pg removed %u rows of tables that do not exist from tempo.segment_directory", removed)));
	if (masks > 0)
		ereport(LOG, (errmsg("tempo_pg removed %u rows of segments that do not exist from tempo.segment_deletions", masks)));
}

/* ------------------------------------------------------------- the tables */

static Table *
known_table(Oid relid)
{
	ListCell *cell;

	foreach (cell, tables)
		if (((Table *) lfirst(cell))->relid == relid)
			return lfirst(cell);
	return NULL;
}

static void
see_table(Oid relid, Oid schema, const char *name)
{
	MemoryContext caller = MemoryContextSwitchTo(tables_context);
	Table        *table = known_table(relid);
	char         *full_name = quote_qualified_identifier(get_namespace_name(schema), name);

	if (table == NULL)
	{
		table = palloc0(sizeof(Table));
		table->relid = relid;
		/* what it gave up before we were there */
		needs_vacuum(table);
		tables = lappend(tables, table);
	}
	else
		pfree(table->name);
	table->name = full_name;
	table->seen = true;
	MemoryContextSwitchTo(caller);
}

static void
forget_unseen(void)
{
	ListCell *cell;
	Oid      *relids = palloc(sizeof(Oid) * Max(list_length(tables), 1));
	int       n = 0;

	foreach (cell, tables)
	{
		Table *table = lfirst(cell);

		if (table->seen)
		{
			relids[n++] = table->relid;
			continue;
		}
		tables = foreach_delete_current (tables, cell);
		if (table->damaged != NULL)
			pfree(table->damaged);
		if (table->avoid != NULL)
			pfree(table->avoid);
		pfree(table->name);
		pfree(table);
	}
	tempo_stat_forget_missing(relids, n);
	pfree(relids);
}

/* Brings "tables" up to date: the tables of the access method, if it exists. */
static void
find_tables(void)
{
	ListCell *cell;
	Oid       am;

	foreach (cell, tables)
		((Table *) lfirst(cell))->seen = false;

	begin_transaction();
	am = get_table_am_oid("tempo", true);
	if (OidIsValid(am))
	{
		Relation    pg_class = table_open(RelationRelationId, AccessShareLock);
		SysScanDesc scan = systable_beginscan(pg_class, InvalidOid, false, NULL, 0, NULL);
		HeapTuple   tuple;

		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

			if (form->relam == am &&
			    (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW))
				see_table(form->oid, form->relnamespace, NameStr(form->relname));
		}
		systable_endscan(scan);
		table_close(pg_class, AccessShareLock);
	}
	end_transaction();
	forget_unseen();
}

static void
vacuum_given_up(Table *table)
{
	Attempt attempt = {table};

	table->bytes_given_up = 0;
	table->vacuumed_at = GetCurrentTimestamp();
	if (!attempt_work(&attempt, vacuum_table) || !attempt.done)
		return;
	table->vacuum = false;
	table->space.moved = 0;
	/* until now it was not known what is free */
	if (!table->was_vacuumed)
		memset(&table->space, 0, sizeof(table->space));
	table->was_vacuumed = true;
}

/* A turn of one table: some merges; *next is how long it can wait then. */
static void
merge_table(Table *table, long *next)
{
	for (int i = 0;; i++)
	{
		Attempt     attempt = {table};
		TimestampTz begun = GetCurrentTimestamp();
		uint32      n_damaged = table->n_damaged;

		if (i == MERGES_PER_TURN)
		{
			*next = 0;
			return;
		}
		choose_avoided(table);
		if (!attempt_work(&attempt, merge))
		{
			/* without the segment that is damaged others may be merged at once */
			if (table->n_damaged > n_damaged && is_over(&table->backoff, begun))
				continue;
			return;
		}
		table->backoff.delay = 0;
		if (attempt.result.next_fold >= 0 && attempt.result.next_fold < *next)
			*next = Max((long) attempt.result.next_fold, 10);
		if (!attempt.done)
			return;
		needs_vacuum(table);
		table->bytes_given_up += attempt.result.work.bytes_read;
		if (table->bytes_given_up >= VACUUM_BYTES && TimestampDifferenceExceeds(table->vacuumed_at, GetCurrentTimestamp(), VACUUM_MS))
			vacuum_given_up(table);
		CHECK_FOR_INTERRUPTS();
		throttle(table, attempt.result.work.bytes_read + attempt.result.work.bytes_written, begun);
		if (!should_run())
			return;
	}
}

/* What is not done in every round. */
static void
tend_table(Table *table)
{
	Attempt expiring = {table};

	if (attempt_work(&expiring, expire) && expiring.done)
		needs_vacuum(table);
	if (table->vacuum)
		vacuum_given_up(table);
}

/* Looks after every table once; returns how long to wait then. */
static long
work(void)
{
	static TimestampTz last_tended = 0;
	static TimestampTz last_orphans = 0;
	TimestampTz        now = GetCurrentTimestamp();
	bool               tending = TimestampDifferenceExceeds(last_tended, now, TEND_MS);
	long               next = CYCLE_MS;
	ListCell          *cell;

	find_tables();
	if (tables == NIL)
		return RETRY_MS;
	pgstat_report_activity(STATE_RUNNING, "merging segments");
	if (TimestampDifferenceExceeds(last_orphans, now, ORPHANS_MS))
	{
		Attempt attempt = {linitial(tables)};

		last_orphans = now;
		(void) attempt_work(&attempt, remove_orphans);
	}
	foreach (cell, tables)
	{
		Table *table = lfirst(cell);

		if (!is_over(&table->backoff, now))
			continue;
		merge_table(table, &next);
		if (tending)
			tend_table(table);
	}
	if (tending)
	{
		last_tended = GetCurrentTimestamp();
		/* a merge takes much memory for a moment, and the next may be far away */
		(void) malloc_trim(0);
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	return next;
}

static void
connect_worker(void)
{
	BackgroundWorkerInitializeConnection(tempo_database, NULL, 0);
	SetConfigOption("search_path", "pg_catalog", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* a merge reads each segment once */
	SetConfigOption("tempo_pg.segment_cache_size", "1MB", PGC_SUSET, PGC_S_OVERRIDE);
	/* losing a merge in a crash loses nothing */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	tables_context = AllocSetContextCreate(TopMemoryContext, "tempo_pg compaction", ALLOCSET_SMALL_SIZES);
	/* vacuum() keeps in it what must outlive its transactions */
	PortalContext = AllocSetContextCreate(TopMemoryContext, "tempo_pg compaction vacuum",
	                                      ALLOCSET_DEFAULT_SIZES);
}

void
tempo_compaction_main(Datum arg)
{
	sigjmp_buf on_error;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* a merge can be interrupted anywhere */
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	while (!should_run())
		wait_for(RETRY_MS);
	connect_worker();

	/* an error that is no table's */
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
		long next = work();

		MemoryContextReset(PortalContext);

		if (next > 0)
			wait_for(next);
		else
			(void) process_reread_settings();
		if (!should_run())
			proc_exit(1); /* and be started again, to wait */
	}
}
