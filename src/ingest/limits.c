/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  What a tenant may send.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/heapam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "ingest/limits.h"
#include "ingest/live_traces.h"
#include "ingest/statistics.h"
#include "ingest/tenant.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tempo_overrides_changed);

/* A row of tempo.overrides; -1 where the default holds. */
typedef struct Override
{
	char         tenant[TENANT_MAX_BYTES + 1]; /* hash key */
	TenantLimits limits;
} Override;

static int ingestion_rate_limit;
static int ingestion_burst;
static int ingestion_max_bytes_per_trace;
static int max_live_traces;
static int max_attribute_bytes;

static HTAB *overrides;          /* NULL = to be read */
static bool  overrides_complete; /* false: an error ended the reading */
static Oid   overrides_relid;
static bool  callback_registered;

void
limits_init(void)
{
	DefineCustomIntVariable("tempo_pg.ingestion_rate_limit",
	                        "Bytes of requests that a tenant may send each second; 0 means no limit.",
	                        "Counted decompressed. tempo.overrides has limits of single tenants.",
	                        &ingestion_rate_limit, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.ingestion_burst",
	                        "Bytes that a tenant may send at once, and so its largest request; 0 means any request.",
	                        "Only with tempo_pg.ingestion_rate_limit.",
	                        &ingestion_burst, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.ingestion_max_bytes_per_trace",
	                        "Bytes of one trace that are stored while it is in the making; 0 means no limit.",
	                        "Further spans are discarded until none has come for tempo_pg.live_trace_idle.",
	                        &ingestion_max_bytes_per_trace, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_live_traces",
	                        "Traces of a tenant that may be in the making at once; 0 means no limit.",
	                        "Spans of further traces are discarded.",
	                        &max_live_traces, 0, 0, LIVE_TRACES_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.max_attribute_bytes",
	                        "Longer attribute keys and string values are cut; 0 turns that off.",
	                        "What an exporter sent is kept whole by default.", &max_attribute_bytes, 0, 0, INT_MAX,
	                        PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
}

TenantLimits
limits_default(void)
{
	TenantLimits limits;

	limits.rate = ingestion_rate_limit;
	limits.burst = ingestion_burst;
	limits.max_bytes_per_trace = ingestion_max_bytes_per_trace;
	limits.max_live_traces = max_live_traces;
	limits.max_attribute_bytes = max_attribute_bytes;
	return limits;
}

/* -------------------------------------------------------------- overrides */

static void
forget_overrides(Datum arg, Oid relid)
{
	if (overrides != NULL && (!OidIsValid(relid) || relid == overrides_relid || !OidIsValid(overrides_relid)))
	{
		hash_destroy(overrides);
		overrides = NULL;
	}
}

static int64
read_column(HeapTuple tuple, TupleDesc desc, const char *name)
{
	AttrNumber number = get_attnum(overrides_relid, name);
	bool       isnull = true;
	Datum      value = 0;

	if (number != InvalidAttrNumber)
		value = heap_getattr(tuple, number, desc, &isnull);
	if (isnull)
		return -1;
	return TupleDescAttr(desc, number - 1)->atttypid == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/* To look up a column may bring the news that the table has changed, which destroys "table". */
static void
read_override(HTAB *table, HeapTuple tuple, TupleDesc desc)
{
	Override override;
	bool     isnull;
	Datum    tenant = heap_getattr(tuple, 1, desc, &isnull);

	if (isnull)
		return;
	memset(&override, 0, sizeof(override));
	strlcpy(override.tenant, TextDatumGetCString(tenant), sizeof(override.tenant));
	override.limits.rate = read_column(tuple, desc, "ingestion_rate_bytes");
	override.limits.burst = read_column(tuple, desc, "ingestion_burst_bytes");
	override.limits.max_bytes_per_trace = read_column(tuple, desc, "max_bytes_per_trace");
	override.limits.max_live_traces = read_column(tuple, desc, "max_live_traces");
	override.limits.max_attribute_bytes = read_column(tuple, desc, "max_attribute_bytes");
	if (overrides == table)
		*(Override *) hash_search(table, override.tenant, HASH_ENTER, NULL) = override;
}

/*
 * Reads the table.  If it changes meanwhile, the invalidation that comes with
 * the lock or later destroys what was read.
 */
static void
read_overrides(void)
{
	HASHCTL       control;
	HTAB         *table;
	Relation      rel;
	TableScanDesc scan;
	Snapshot      snapshot;
	HeapTuple     tuple;

	if (!callback_registered)
		CacheRegisterRelcacheCallback(forget_overrides, (Datum) 0);
	callback_registered = true;
	memset(&control, 0, sizeof(control));
	control.keysize = TENANT_MAX_BYTES + 1;
	control.entrysize = sizeof(Override);
	control.hcxt = TopMemoryContext;
	overrides_relid = get_relname_relid("overrides", get_namespace_oid("tempo", true));
	rel = OidIsValid(overrides_relid) ? try_table_open(overrides_relid, AccessShareLock) : NULL;
	if (overrides != NULL)
		hash_destroy(overrides);
	table = hash_create("tempo_pg overrides", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	overrides = table;
	overrides_complete = rel == NULL;
	if (rel == NULL)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL && overrides == table)
		read_override(table, tuple, RelationGetDescr(rel));
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	overrides_complete = true;
}

TenantLimits
limits_of(SpanText tenant)
{
	TenantLimits    limits = limits_default();
	char            key[TENANT_MAX_BYTES + 1];
	const Override *override;

	if (overrides == NULL || !overrides_complete)
		read_overrides();
	if (overrides == NULL || hash_get_num_entries(overrides) == 0 || tenant.len > TENANT_MAX_BYTES)
		return limits;
	memset(key, 0, sizeof(key));
	memcpy(key, tenant.data, tenant.len);
	override = hash_search(overrides, key, HASH_FIND, NULL);
	if (override == NULL)
		return limits;
	if (override->limits.rate >= 0)
		limits.rate = override->limits.rate;
	if (override->limits.burst >= 0)
		limits.burst = override->limits.burst;
	if (override->limits.max_bytes_per_trace >= 0)
		limits.max_bytes_per_trace = override->limits.max_bytes_per_trace;
	if (override->limits.max_live_traces >= 0)
		limits.max_live_traces = override->limits.max_live_traces;
	if (override->limits.max_attribute_bytes >= 0)
		limits.max_attribute_bytes = Min(override->limits.max_attribute_bytes, INT_MAX);
	return limits;
}

/*
 * tempo.overrides_changed(): trigger of tempo.overrides.  All processes hear of
 * it when the transaction commits.
 */
Datum
tempo_overrides_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
		        (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
		         errmsg("tempo.overrides_changed() was not called by a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

/* ------------------------------------------------------------------- rate */

/*
 * A token bucket: it fills with "rate" bytes a second up to what may be sent
 * at once.  Without a burst a larger request passes when the bucket is full,
 * and the debt is worked off before the next.
 */
bool
limits_take(SpanText name, const TenantLimits *limits, uint64 bytes)
{
	TenantStatistics *tenant;
	TimestampTz       now;
	double            capacity;
	bool              enough;

	if (limits->rate == 0 || (tenant = statistics_tenant(name)) == NULL)
		return true;
	now = GetCurrentTimestamp();
	capacity = limits->burst > 0 ? (double) limits->burst : (double) limits->rate;
	SpinLockAcquire(&tenant->mutex);
	if (tenant->refilled == 0 || now < tenant->refilled)
	{
		if (tenant->refilled == 0)
			tenant->tokens = capacity;
		tenant->refilled = now;
	}
	tenant->tokens += (double) limits->rate * (double) (now - tenant->refilled) / USECS_PER_SEC;
	tenant->tokens = Min(tenant->tokens, capacity);
	tenant->refilled = now;
	enough = tenant->tokens >= (limits->burst > 0 ? (double) bytes : Min((double) bytes, capacity));
	if (enough)
		tenant->tokens -= (double) bytes;
	SpinLockRelease(&tenant->mutex);
	return enough;
}
