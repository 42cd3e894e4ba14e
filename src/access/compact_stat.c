/*-------------------------------------------------------------------------
 *
 * compact_stat.c
 *	  What is known in the whole server about the merging of each table.
 *
 * A fixed table in shared memory.  A slot, once given to a table, is found
 * without a lock; what is in it is copied under the slot's spinlock.  When all
 * slots are taken, further tables have no statistics.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact_stat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tempo_compaction_statistics);

#define MAX_TABLES 128
#define TRANCHE_NAME "tempo_pg_compaction"
#define ERROR_BYTES 256

struct TempoCompactStat
{
	/* whose slot: 0 = free; the relation is written last, changes only under the lock */
	Oid              database;
	pg_atomic_uint32 relid;

	pg_atomic_uint32 level0;

	slock_t           mutex; /* guards the rest */
	int               pid;   /* of who works on the table */
	TempoCompactPhase phase;
	TimestampTz       phase_since;
	uint32            phase_segments;
	TempoCompactWork  current;
	TempoCompactWork  total;
	uint64            merges;
	uint64            expired_segments;
	uint64            expired_rows;
	uint64            orphans;
	uint64            errors;
	uint32            quarantined;
	TimestampTz       oldest_level0;
	TimestampTz       last_merge_at;
	TimestampTz       last_error_at;
	char              last_error[ERROR_BYTES];
	TempoStatFloor    floor;
};

typedef struct SharedStats
{
	LWLock          *lock;
	TempoCompactStat tables[MAX_TABLES];
} SharedStats;

static SharedStats            *shared;
static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;

static const char *const phase_names[] = {
	"idle", "folding", "merging", "rewriting", "moving", "expiring", "vacuuming", "waiting"};

/* -------------------------------------------------------------- the slots */

static void
stat_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(SharedStats));
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

static void
stat_shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tempo_pg compaction", sizeof(SharedStats), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(SharedStats));
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		for (int i = 0; i < MAX_TABLES; i++)
		{
			pg_atomic_init_u32(&shared->tables[i].relid, InvalidOid);
			pg_atomic_init_u32(&shared->tables[i].level0, 0);
			SpinLockInit(&shared->tables[i].mutex);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
tempo_compact_stat_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = stat_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = stat_shmem_startup;
}

static TempoCompactStat *
find_slot(Oid relid)
{
	for (int i = 0; i < MAX_TABLES; i++)
	{
		TempoCompactStat *stat = &shared->tables[i];

		if (pg_atomic_read_u32(&stat->relid) != relid)
			continue;
		pg_read_barrier();
		if (stat->database == MyDatabaseId)
			return stat;
	}
	return NULL;
}

/* Everything behind the level-0 count to zero; the lock is held. */
static void
clear_slot(TempoCompactStat *stat)
{
	SpinLockAcquire(&stat->mutex);
	memset((char *) stat + offsetof(TempoCompactStat, pid), 0, sizeof(*stat) - offsetof(TempoCompactStat, pid));
	SpinLockRelease(&stat->mutex);
	pg_atomic_write_u32(&stat->level0, 0);
}

TempoCompactStat *
tempo_compact_stat_known(Oid relid)
{
	return shared == NULL ? NULL : find_slot(relid);
}

TempoCompactStat *
tempo_compact_stat(Oid relid)
{
	TempoCompactStat *stat;

	if (shared == NULL)
		return NULL;
	stat = find_slot(relid);
	if (stat != NULL)
		return stat;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	stat = find_slot(relid);
	for (int i = 0; i < MAX_TABLES && stat == NULL; i++)
	{
		if (pg_atomic_read_u32(&shared->tables[i].relid) != InvalidOid)
			continue;
		stat = &shared->tables[i];
		clear_slot(stat);
		stat->database = MyDatabaseId;
		pg_write_barrier();
		pg_atomic_write_u32(&stat->relid, relid);
	}
	LWLockRelease(shared->lock);
	return stat;
}

void
tempo_stat_forget_missing(const Oid *relids, int n)
{
	if (shared == NULL)
		return;
	for (int i = 0; i < MAX_TABLES; i++)
	{
		TempoCompactStat *stat = &shared->tables[i];
		Oid               relid = pg_atomic_read_u32(&stat->relid);
		bool              listed = false;

		if (relid == InvalidOid || stat->database != MyDatabaseId)
			continue;
		for (int k = 0; k < n; k++)
			listed |= relids[k] == relid;
		if (listed)
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		pg_atomic_write_u32(&stat->relid, InvalidOid);
		LWLockRelease(shared->lock);
	}
}

void
tempo_stat_forget(Oid database, Oid relid)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_TABLES; i++)
	{
		TempoCompactStat *stat = &shared->tables[i];
		Oid               known = pg_atomic_read_u32(&stat->relid);

		if (known != InvalidOid && stat->database == database && (relid == InvalidOid || known == relid))
			pg_atomic_write_u32(&stat->relid, InvalidOid);
	}
	LWLockRelease(shared->lock);
}

/* -------------------------------------------------------------- reporting */

void
tempo_stat_phase(TempoCompactStat *stat, TempoCompactPhase phase, uint32 total)
{
	TimestampTz now = GetCurrentTimestamp();

	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->pid = phase == TEMPO_PHASE_IDLE ? 0 : MyProcPid;
	if (stat->phase != phase || phase != TEMPO_PHASE_IDLE)
		stat->phase_since = now;
	stat->phase = phase;
	stat->phase_segments = total;
	memset(&stat->current, 0, sizeof(stat->current));
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_progress(TempoCompactStat *stat, const TempoCompactWork *work)
{
	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->current = *work;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_merged(TempoCompactStat *stat, const TempoCompactWork *work)
{
	TimestampTz now = GetCurrentTimestamp();

	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->merges++;
	stat->total.sources += work->sources;
	stat->total.targets += work->targets;
	stat->total.rows_in += work->rows_in;
	stat->total.rows_out += work->rows_out;
	stat->total.bytes_read += work->bytes_read;
	stat->total.bytes_written += work->bytes_written;
	stat->last_merge_at = now;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_expired(TempoCompactStat *stat, uint32 segments, uint64 rows)
{
	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->expired_segments += segments;
	stat->expired_rows += rows;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_orphans(TempoCompactStat *stat, uint32 rows)
{
	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->orphans += rows;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_failed(TempoCompactStat *stat, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	char        copy[ERROR_BYTES];

	if (stat == NULL)
		return;
	/* cut where a character ends */
	strlcpy(copy, message, sizeof(copy));
	if (strlen(message) >= sizeof(copy))
		copy[pg_mbcliplen(message, (int) strlen(message), sizeof(copy) - 1)] = '\0';
	SpinLockAcquire(&stat->mutex);
	stat->errors++;
	stat->last_error_at = now;
	memcpy(stat->last_error, copy, sizeof(copy));
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_quarantined(TempoCompactStat *stat, uint32 segments)
{
	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->quarantined = segments;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_set_level0(TempoCompactStat *stat, uint32 count, TimestampTz oldest)
{
	if (stat == NULL)
		return;
	pg_atomic_write_u32(&stat->level0, count);
	SpinLockAcquire(&stat->mutex);
	stat->oldest_level0 = oldest;
	SpinLockRelease(&stat->mutex);
}

void
tempo_stat_add_level0(TempoCompactStat *stat, uint32 count)
{
	if (stat != NULL)
		pg_atomic_fetch_add_u32(&stat->level0, count);
}

uint32
tempo_stat_level0(TempoCompactStat *stat)
{
	return stat == NULL ? 0 : pg_atomic_read_u32(&stat->level0);
}

void
tempo_stat_set_floor(TempoCompactStat *stat, const TempoStatFloor *floor)
{
	if (stat == NULL)
		return;
	SpinLockAcquire(&stat->mutex);
	stat->floor = *floor;
	SpinLockRelease(&stat->mutex);
}

TempoStatFloor
tempo_stat_floor(TempoCompactStat *stat)
{
	TempoStatFloor floor = {0};

	if (stat == NULL)
		return floor;
	SpinLockAcquire(&stat->mutex);
	floor = stat->floor;
	SpinLockRelease(&stat->mutex);
	return floor;
}

/* -------------------------------------------------------------------- SQL */

#define STATISTICS_COLUMNS 24

static void
put_time(Datum *values, bool *nulls, int i, TimestampTz when)
{
	nulls[i] = when == 0;
	values[i] = TimestampTzGetDatum(when);
}

static void
put_table(ReturnSetInfo *result, TempoCompactStat *shared_stat, TimestampTz now)
{
	Datum            values[STATISTICS_COLUMNS];
	bool             nulls[STATISTICS_COLUMNS] = {0};
	TempoCompactStat stat;
	int              i = 0;

	SpinLockAcquire(&shared_stat->mutex);
	stat = *shared_stat;
	SpinLockRelease(&shared_stat->mutex);

	values[i++] = ObjectIdGetDatum(pg_atomic_read_u32(&shared_stat->relid));
	nulls[i] = stat.pid == 0;
	values[i++] = Int32GetDatum(stat.pid);
	values[i++] = CStringGetTextDatum(phase_names[stat.phase]);
	put_time(values, nulls, i++, stat.phase_since);
	values[i++] = Int64GetDatum(stat.phase_segments);
	values[i++] = Int64GetDatum(stat.current.sources);
	values[i++] = Int64GetDatum((int64) stat.current.rows_in);
	values[i++] = Int64GetDatum((int64) stat.current.rows_out);
	values[i++] = Int64GetDatum((int64) stat.merges);
	values[i++] = Int64GetDatum(stat.total.sources);
	values[i++] = Int64GetDatum(stat.total.targets);
	values[i++] = Int64GetDatum((int64) stat.total.rows_in);
	values[i++] = Int64GetDatum((int64) stat.total.rows_out);
	values[i++] = Int64GetDatum((int64) stat.total.bytes_read);
	values[i++] = Int64GetDatum((int64) stat.total.bytes_written);
	values[i++] = Int64GetDatum((int64) stat.expired_segments);
	values[i++] = Int64GetDatum((int64) stat.expired_rows);
	values[i++] = Int64GetDatum((int64) stat.orphans);
	values[i++] = Int64GetDatum(pg_atomic_read_u32(&shared_stat->level0));
	values[i++] = Float8GetDatum(stat.oldest_level0 == 0 ? 0 : Max(now - stat.oldest_level0, 0) / 1e6);
	put_time(values, nulls, i++, stat.last_merge_at);
	values[i++] = Int64GetDatum(stat.quarantined);
	put_time(values, nulls, i++, stat.last_error_at);
	nulls[i] = stat.last_error[0] == '\0';
	values[i++] = CStringGetTextDatum(stat.last_error);
	Assert(i == STATISTICS_COLUMNS);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* tempo.compaction_statistics(): a row per table of this database */
Datum
tempo_compaction_statistics(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; shared != NULL && i < MAX_TABLES; i++)
		if (pg_atomic_read_u32(&shared->tables[i].relid) != InvalidOid && shared->tables[i].database == MyDatabaseId)
			put_table((ReturnSetInfo *) fcinfo->resultinfo, &shared->tables[i], now);
	return (Datum) 0;
}
