/*-------------------------------------------------------------------------
 *
 * table_stat.c
 *	  tempo.table_statistics(): segments, spans and space of one table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/ddl.h"
#include "access/directory.h"
#include "access/pages.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tempo_table_statistics);

#define STATISTICS_COLUMNS 12

typedef struct Sums
{
	int64 segments;
	int64 by_level[3];
	int64 rows;
	int64 deleted;
	int64 bytes;
	int64 raw_bytes;
	int64 oldest;
	int64 newest;
} Sums;

/* What follows from the segments tells of all rows, so it is for who may see all of them. */
static bool
may_see_all(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
	       check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED;
}

static Datum
nanos_to_timestamp(int64 nanos)
{
	return TimestampTzGetDatum(nanos / 1000 - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
}

static Sums
sum_segments(Relation rel)
{
	uint32        count;
	TempoSegment *segments = tempo_directory_list(rel, GetActiveSnapshot(), NULL, &count);
	Sums          sums = {0};

	sums.segments = count;
	sums.oldest = PG_INT64_MAX;
	sums.newest = PG_INT64_MIN;
	for (uint32 i = 0; i < count; i++)
	{
		const SegmentSummary *summary = &segments[i].summary;

		sums.by_level[Min(summary->level, lengthof(sums.by_level) - 1)]++;
		sums.rows += summary->rows - segments[i].n_deleted;
		sums.deleted += segments[i].n_deleted;
		sums.bytes += (int64) summary->size;
		sums.raw_bytes += (int64) summary->raw_size;
		sums.oldest = Min(sums.oldest, summary->min_start_nano);
		sums.newest = Max(sums.newest, summary->max_start_nano);
	}
	return sums;
}

static int64
free_bytes(Relation rel)
{
	TempoMeta *meta = palloc(sizeof(TempoMeta));
	int64      blocks = 0;

	if (tempo_meta_read_all(rel, meta))
		for (uint32 i = 0; i < meta->header.n_free; i++)
			blocks += meta->free[i].count;
	pfree(meta);
	return blocks * BLCKSZ;
}

/* tempo.table_statistics(relation): NULL if the table is locked, or not all of it may be seen */
Datum
tempo_table_statistics(PG_FUNCTION_ARGS)
{
	Oid       relid = PG_GETARG_OID(0);
	Relation  rel;
	TupleDesc desc;
	Sums      sums;
	Datum     values[STATISTICS_COLUMNS];
	bool      nulls[STATISTICS_COLUMNS] = {0};
	int       i = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* for a view over all tables: do not wait for one that is being rewritten */
	if (!tempo_relation_oid(relid) || !may_see_all(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		PG_RETURN_NULL();
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		PG_RETURN_NULL();
	sums = sum_segments(rel);
	values[i++] = Int64GetDatum(sums.segments);
	for (int level = 0; level < lengthof(sums.by_level); level++)
		values[i++] = Int64GetDatum(sums.by_level[level]);
	values[i++] = Int64GetDatum(sums.rows);
	values[i++] = Int64GetDatum(sums.deleted);
	values[i++] = Int64GetDatum(sums.bytes);
	values[i++] = Int64GetDatum(sums.raw_bytes);
	values[i++] = Int64GetDatum((int64) RelationGetNumberOfBlocks(rel) * BLCKSZ);
	values[i++] = Int64GetDatum(free_bytes(rel));
	nulls[i] = nulls[i + 1] = sums.segments == 0;
	values[i++] = nanos_to_timestamp(sums.oldest);
	values[i++] = nanos_to_timestamp(sums.newest);
	Assert(i == STATISTICS_COLUMNS);
	table_close(rel, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
