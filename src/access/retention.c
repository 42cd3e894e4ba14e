/*-------------------------------------------------------------------------
 *
 * retention.c
 *	  How long spans are kept, and the removal of those that are too old.
 *
 * A span is as old as its end; one that claims to end after it was stored is
 * as old as its storage.  A segment in which everything is too old is removed
 * by deleting its directory row, as a merge does; a segment that is merged
 * loses its old spans then.  Limits are per tenant, and a segment's directory
 * row has only a filter of its tenants: it is opened where the filter leaves
 * open whether all of it is too old.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/retention.h"

#include <limits.h>

#include "access/append.h"
#include "access/compact.h"
#include "access/ddl.h"
#include "access/deletions.h"
#include "access/genam.h"
#include "access/relation.h"
#include "access/segment_source.h"
#include "access/stop_at.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tempo_apply_retention);

#define OVERRIDES_SCHEMA "tempo"
#define OVERRIDES_NAME "overrides"

#define N_BITS 64 /* of a tenant filter */
#define FOREVER PG_INT64_MAX

/* Windows are this part of the limit, and not shorter than a minute. */
#define WINDOWS_PER_RETENTION 10
#define MIN_WINDOW_NANO (INT64CONST(60) * 1000 * 1000 * 1000)

#define NANOS_PER_USEC 1000

static int default_retention = 0; /* seconds */

/* The limit of one tenant, in nanoseconds. */
typedef struct TenantLimit
{
	SpanText tenant;
	int64    age;
} TenantLimit;

struct TempoRetention
{
	int64        now;      /* nanoseconds since 1970 */
	int64        fallback; /* of tenants that have no limit of their own */
	TenantLimit *limits;   /* by tenant */
	uint32       n_limits;
	/* among the tenants of each bit of the filter */
	int64 shortest[N_BITS];
	int64 longest[N_BITS];
};

void
tempo_retention_init(void)
{
	DefineCustomIntVariable("tempo_pg.retention",
	                        "How long spans of tempo.spans are kept; 0 keeps them forever.",
	                        "Of tenants that have no limit of their own, see tempo.set_retention().",
	                        &default_retention, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/* ----------------------------------------------------------- the limits */

static int64
unix_nanos(TimestampTz when)
{
	int64 micros;
	int64 nanos;

	if (pg_add_s64_overflow(when, (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY, &micros) ||
	    pg_mul_s64_overflow(micros, NANOS_PER_USEC, &nanos))
		return when < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return nanos;
}

/* A month has 30 days and a day 24 hours, so that limits can be compared; 0 and what is out of range is forever. */
static int64
interval_nanos(const Interval *interval)
{
	int64 days;
	int64 micros;
	int64 nanos;

	days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &micros) ||
	    pg_add_s64_overflow(micros, interval->time, &micros) ||
	    pg_mul_s64_overflow(micros, NANOS_PER_USEC, &nanos) || nanos <= 0)
		return FOREVER;
	return nanos;
}

static int
compare_tenant(const void *a, const void *b)
{
	const SpanText *x = &((const TenantLimit *) a)->tenant;
	const SpanText *y = &((const TenantLimit *) b)->tenant;
	int             c = memcmp(x->data, y->data, Min(x->len, y->len));

	return c != 0 ? c : (int) x->len - (int) y->len;
}

static void
add_limit(TempoRetention *retention, uint32 *allocated, char *tenant, int64 age)
{
	TenantLimit *limit;
	int          bit;

	if (retention->n_limits == *allocated)
	{
		*allocated = Max(*allocated * 2, 16);
		retention->limits = retention->limits == NULL ? palloc(sizeof(TenantLimit) * *allocated) :
		                                                repalloc_huge(retention->limits, sizeof(TenantLimit) * (Size) *allocated);
	}
	limit = &retention->limits[retention->n_limits++];
	limit->tenant = span_text(tenant, (uint32) strlen(tenant));
	limit->age = age;
	bit = pg_rightmost_one_pos64(segment_tenant_bit(limit->tenant));
	retention->shortest[bit] = Min(retention->shortest[bit], age);
	retention->longest[bit] = Max(retention->longest[bit], age);
}

static void
read_overrides(TempoRetention *retention)
{
	Oid         schema = get_namespace_oid(OVERRIDES_SCHEMA, true);
	Oid         relid = OidIsValid(schema) ? get_relname_relid(OVERRIDES_NAME, schema) : InvalidOid;
	Relation    rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	AttrNumber  tenant;
	AttrNumber  age;
	uint32      allocated = 0;
	Snapshot    snapshot;
	SysScanDesc scan;
	HeapTuple   tuple;

	if (rel == NULL)
		return;
	tenant = get_attnum(relid, "tenant");
	age = get_attnum(relid, "retention");
	if (tenant == InvalidAttrNumber || age == InvalidAttrNumber)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("table \"%s.%s\" does not belong to this version of tempo_pg", OVERRIDES_SCHEMA, OVERRIDES_NAME),
		         errhint("Run ALTER EXTENSION tempo_pg UPDATE.")));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool  null_tenant;
		bool  null_age;
		Datum name = heap_getattr(tuple, tenant, RelationGetDescr(rel), &null_tenant);
		Datum limit = heap_getattr(tuple, age, RelationGetDescr(rel), &null_age);

		if (!null_tenant && !null_age)
			add_limit(retention, &allocated, TextDatumGetCString(name), interval_nanos(DatumGetIntervalP(limit)));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(rel, AccessShareLock);
	if (retention->n_limits > 1)
		qsort(retention->limits, retention->n_limits, sizeof(TenantLimit), compare_tenant);
}

/* The limits whatever the table. */
static TempoRetention *
read_limits(void)
{
	TempoRetention *retention = palloc0(sizeof(TempoRetention));

	retention->now = unix_nanos(GetCurrentTimestamp());
	retention->fallback = default_retention == 0 ? FOREVER : (int64) default_retention * USECS_PER_SEC * NANOS_PER_USEC;
	for (int bit = 0; bit < N_BITS; bit++)
		retention->shortest[bit] = retention->longest[bit] = retention->fallback;
	read_overrides(retention);
	return retention;
}

TempoRetention *
tempo_retention_read(Relation rel)
{
	TempoRetention *retention;

	if (RelationGetRelid(rel) != tempo_spans_relation())
		return NULL;
	retention = read_limits();
	for (int bit = 0; bit < N_BITS; bit++)
		if (retention->shortest[bit] != FOREVER)
			return retention;
	return NULL;
}

/* What ended before this is older than "age". */
static int64
cutoff(const TempoRetention *retention, int64 age)
{
	int64 result;

	if (age == FOREVER || pg_sub_s64_overflow(retention->now, age, &result))
		return PG_INT64_MIN;
	return result;
}

static int64
tenant_cutoff(const TempoRetention *retention, SpanText tenant)
{
	TenantLimit        key = {tenant};
	const TenantLimit *found = NULL;

	if (retention->n_limits > 0)
		found = bsearch(&key, retention->limits, retention->n_limits, sizeof(TenantLimit), compare_tenant);
	return cutoff(retention, found != NULL ? found->age : retention->fallback);
}

/* ------------------------------------------------------------- windows */

int64
tempo_retention_window(const TempoRetention *retention, uint64 tenants)
{
	int64 age = FOREVER;

	if (retention == NULL)
		return 0;
	for (int bit = 0; bit < N_BITS; bit++)
		if (tenants & (UINT64CONST(1) << bit))
			age = Min(age, retention->shortest[bit]);
	return age == FOREVER ? 0 : Max(age / WINDOWS_PER_RETENTION, MIN_WINDOW_NANO);
}

int64
tempo_window_of(int64 window, int64 end, TimestampTz stored)
{
	if (window == 0)
		return 0;
	/* before 1970 windows need not be told apart */
	return Max(Min(end, unix_nanos(stored)), 0) / window;
}

/* -------------------------------------------------------------- removing */

static int64_t
merge_cutoff(void *arg, SpanText tenant)
{
	return tenant_cutoff(arg, tenant);
}

void
tempo_retention_filter(const TempoRetention *retention, TimestampTz stored, SegmentMergeFilter *filter)
{
	if (retention == NULL)
		return;
	filter->cutoff = merge_cutoff;
	filter->arg = unconstify(TempoRetention *, retention);
	filter->stored = unix_nanos(stored);
}

/* Are the limits of all tenants that are really in the segment over? */
static bool
all_tenants_expired(Relation rel, const TempoRetention *retention, const TempoSegment *segment, int64 end)
{
	TempoSegment      image = *segment;
	TempoOpenSegment *open;
	const SpanText   *tenants;
	uint32_t          count;
	SpanError         error = {SPAN_ERROR_NONE};
	bool              expired = true;

	/* no row is read: what is deleted does not matter */
	image.mask_damaged = false;
	open = tempo_segment_open(rel, &image, NULL);
	if (!segment_tenants(tempo_segment_reader(open), &tenants, &count, &error))
		tempo_segment_failed(open, &error);
	for (uint32 i = 0; i < count; i++)
		expired &= end < tenant_cutoff(retention, tenants[i]);
	tempo_segment_close(open);
	return expired && count > 0;
}

static bool
is_expired(Relation rel, const TempoRetention *retention, const TempoSegment *segment, TempoExpired *expired)
{
	int64 end = Max(segment->summary.max_start_nano, segment->summary.max_end_nano);
	bool  surely = true;
	bool  result;

	end = Min(end, unix_nanos(segment->newest_at));
	for (int bit = 0; bit < N_BITS; bit++)
	{
		if ((segment->summary.tenant_filter & (UINT64CONST(1) << bit)) == 0)
			continue;
		if (end >= cutoff(retention, retention->shortest[bit]))
			return false;
		surely &= end < cutoff(retention, retention->longest[bit]);
	}
	if (surely)
		return segment->summary.tenant_filter != 0;
	expired->reading.storage_id = segment->storage_id;
	expired->reading.segment_id = segment->segment_id;
	result = all_tenants_expired(rel, retention, segment, end);
	memset(&expired->reading, 0, sizeof(expired->reading));
	return result;
}

static bool
is_in(const TempoSegmentKey *keys, uint32 n, const TempoSegment *segment)
{
	for (uint32 i = 0; i < n; i++)
		if (keys[i].storage_id == segment->storage_id && keys[i].segment_id == segment->segment_id)
			return true;
	return false;
}

void
tempo_expire(Relation rel, const TempoRetention *retention, const TempoSegmentKey *avoid, uint32 n_avoid,
             TempoExpired *expired)
{
	TempoDirectory directory;
	Snapshot       snapshot;
	TempoSegment  *segments;
	uint32         count;

	memset(expired, 0, sizeof(*expired));
	tempo_directory_open(&directory, RowExclusiveLock, false);
	/* as in merging: under repeatable read only what the transaction sees */
	snapshot = RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	segments = tempo_directory_list(rel, snapshot, NULL, &count);
	for (uint32 i = 0; i < count; i++)
	{
		if (is_in(avoid, n_avoid, &segments[i]) ||
		    !is_expired(rel, retention, &segments[i], expired) ||
		    !tempo_directory_claim(&directory, &segments[i]))
			continue;
		tempo_stop(RETENTION_CLAIMED);
		tempo_directory_delete(&directory, &segments[i]);
		tempo_stop(RETENTION_DELETED);
		tempo_deletions_forget(segments[i].storage_id, &segments[i]);
		tempo_stop(RETENTION_DONE);
		expired->segments++;
		expired->rows += segments[i].summary.rows - segments[i].n_deleted;
		expired->bytes += segments[i].summary.size;
	}
	UnregisterSnapshot(snapshot);
	tempo_directory_close(&directory);
}

/* ------------------------------------------------------------------- SQL */

/* tempo.apply_retention(relation): what the compaction worker does, now */
Datum
tempo_apply_retention(PG_FUNCTION_ARGS)
{
	Oid          relid = PG_GETARG_OID(0);
	TempoExpired expired = {0};
	Relation     rel;
	TupleDesc    desc;
	Datum        values[3];
	bool         nulls[3] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rel = tempo_open_to_maintain(relid);
	if (tempo_deletions_pending(relid))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_IN_USE),
		         errmsg("cannot apply the retention of table \"%s\" while a DELETE is running in this session",
		                RelationGetRelationName(rel))));
	(void) tempo_lock_merging(relid, true);
	tempo_expire(rel, read_limits(), NULL, 0, &expired);
	tempo_unlock_merging(relid);
	table_close(rel, NoLock);

	values[0] = Int32GetDatum((int32) expired.segments);
	values[1] = Int64GetDatum((int64) expired.rows);
	values[2] = Int64GetDatum((int64) expired.bytes);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
