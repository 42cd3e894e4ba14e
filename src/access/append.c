/*-------------------------------------------------------------------------
 *
 * append.c
 *	  Storing whole batches, below SQL and through it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/append.h"

#include "access/ddl.h"
#include "access/directory.h"
#include "access/insert_buffer.h"
#include "access/pages.h"
#include "access/row.h"
#include "access/segment_source.h"
#include "access/store.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "pgstat.h"
#include "rewrite/prs2lock.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Spans of one level-0 segment; more are spread over several. */
#define APPEND_MAX_SPANS (256 * 1024)

PG_FUNCTION_INFO_V1(tempo_storage_id);

static void
check_relation(Relation rel)
{
	if (!tempo_relation(rel))
		ereport(ERROR,
		        (errcode(ERRCODE_WRONG_OBJECT_TYPE),
		         errmsg("\"%s\" is not a table of access method \"tempo\"",
		                RelationGetRelationName(rel))));
}

void
tempo_append_batch(Relation rel, const SpanBatch *batch, const RequestHash *hashes, uint32 n_hashes)
{
	TempoStoreOptions options = {0};

	check_relation(rel);
	options.cid = GetCurrentCommandId(true);
	options.newest_at = GetCurrentTimestamp();
	options.hashes = hashes;
	options.n_hashes = n_hashes;
	for (uint32 first = 0; first < batch->n_spans; first += APPEND_MAX_SPANS)
	{
		uint32       count = Min(APPEND_MAX_SPANS, batch->n_spans - first);
		TempoSegment segment;

		tempo_store_spans(rel, batch, first, count, &options, &segment, NULL);
		/* one of the segments remembers the requests */
		options.hashes = NULL;
		options.n_hashes = 0;
	}
	pgstat_count_heap_insert(rel, batch->n_spans);
}

/* Must values that the batch always has, or lacks, be checked? */
static bool
has_foreign_checks(Relation rel)
{
	TupleDesc       desc = RelationGetDescr(rel);
	TempoColumnMap *map;
	bool            result;

	if (desc->constr == NULL)
		return false;
	if (desc->constr->num_check > 0 || desc->constr->has_generated_stored)
		return true;
	map = tempo_column_map(desc);
	result = TupleDescAttr(desc, map->attno[TEMPO_PARENT_SPAN_ID])->attnotnull ||
	         TupleDescAttr(desc, map->attno[TEMPO_SERVICE_NAME])->attnotnull;
	pfree(map->column);
	pfree(map);
	return result;
}

bool
tempo_append_is_plain(Relation rel)
{
	return tempo_relation(rel) &&
	       (rel->trigdesc == NULL ||
	        (!rel->trigdesc->trig_insert_before_row && !rel->trigdesc->trig_insert_after_row &&
	         !rel->trigdesc->trig_insert_before_statement && !rel->trigdesc->trig_insert_after_statement)) &&
	       rel->rd_rules == NULL &&
	       !rel->rd_rel->relrowsecurity &&
	       !rel->rd_rel->relispartition &&
	       !has_foreign_checks(rel);
}

/*
 * The batch as one INSERT ... SELECT FROM arrays, so that it is one
 * statement, and one segment.
 */
void
tempo_insert_batch(Relation rel, const SpanBatch *batch, const RequestHash *hashes, uint32 n_hashes)
{
	TupleDesc       desc = RelationGetDescr(rel);
	TempoColumnMap *map = tempo_column_map(desc);
	TempoRowReader *reader = tempo_row_reader_create(map, NULL, true);
	Datum         **values = palloc(TEMPO_N_COLUMNS * sizeof(Datum *));
	bool          **nulls = palloc(TEMPO_N_COLUMNS * sizeof(bool *));
	Datum          *row = palloc(desc->natts * sizeof(Datum));
	bool           *row_nulls = palloc(desc->natts * sizeof(bool));
	Datum           arguments[TEMPO_N_COLUMNS];
	Oid             types[TEMPO_N_COLUMNS];
	StringInfoData  columns;
	StringInfoData  parameters;
	int             dims[1] = {(int) batch->n_spans};
	int             lower[1] = {1};
	int             result;

	if (batch->n_spans == 0)
		return;
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
	{
		values[c] = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * (Size) batch->n_spans);
		nulls[c] = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * (Size) batch->n_spans);
	}
	tempo_row_reader_batch(reader, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		tempo_row_reader_fill(reader, &batch->spans[i], row, row_nulls);
		for (int c = 0; c < TEMPO_N_COLUMNS; c++)
		{
			values[c][i] = row[map->attno[c]];
			nulls[c][i] = row_nulls[map->attno[c]];
		}
	}

	initStringInfo(&columns);
	initStringInfo(&parameters);
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, map->attno[c]);

		arguments[c] = PointerGetDatum(construct_md_array(values[c], nulls[c], 1, dims, lower,
		                                                  attribute->atttypid, attribute->attlen,
		                                                  attribute->attbyval, attribute->attalign));
		types[c] = get_array_type(attribute->atttypid);
		appendStringInfo(&columns, "%s%s", c > 0 ? ", " : "", quote_identifier(NameStr(attribute->attname)));
		appendStringInfo(&parameters, "%spg_catalog.unnest($%d)", c > 0 ? ", " : "", c + 1);
	}

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tempo_insert_remember(RelationGetRelid(rel), hashes, n_hashes);
	result = SPI_execute_with_args(psprintf("INSERT INTO %s (%s) SELECT * FROM ROWS FROM (%s)",
	                                        quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
	                                                                   RelationGetRelationName(rel)),
	                                        columns.data, parameters.data),
	                               TEMPO_N_COLUMNS, types, arguments, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "could not insert spans: %s", SPI_result_code_string(result));
	tempo_insert_remember(InvalidOid, NULL, 0);
	SPI_finish();
	tempo_row_reader_free(reader);
}

void
tempo_recent_request_hashes(Relation rel, TimestampTz                                   since,
                            void (*callback)(const RequestHash *hash, void *arg), void *arg)
{
	Snapshot      snapshot = RegisterSnapshot(GetLatestSnapshot());
	uint32        count;
	TempoSegment *segments;

	check_relation(rel);
	segments = tempo_directory_list_images(rel, snapshot, NULL, &count);
	for (uint32 i = 0; i < count; i++)
	{
		TempoOpenSegment  *open;
		const RequestHash *hashes;
		uint32_t           n_hashes;

		if (segments[i].n_requests == 0 || segments[i].newest_at < since)
			continue;
		open = tempo_segment_open(rel, &segments[i], NULL);
		hashes = segment_request_hashes(tempo_segment_reader(open), &n_hashes);
		for (uint32 h = 0; h < n_hashes; h++)
			callback(&hashes[h], arg);
		tempo_segment_close(open);
	}
	UnregisterSnapshot(snapshot);
}

Oid
tempo_spans_relation(void)
{
	Oid schema = get_namespace_oid("tempo", true);

	return OidIsValid(schema) ? get_relname_relid("spans", schema) : InvalidOid;
}

/* The storage id of a table, NULL if it has none or cannot be read now. */
Datum
tempo_storage_id(PG_FUNCTION_ARGS)
{
	Oid             relid = PG_GETARG_OID(0);
	TempoMetaHeader meta;
	Relation        rel;
	bool            found;

	/* for a view over all tables: do not wait for one that is being rewritten */
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		PG_RETURN_NULL();
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		PG_RETURN_NULL();
	}
	found = tempo_relation(rel) && tempo_meta_read(rel, &meta);
	relation_close(rel, AccessShareLock);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) meta.storage_id);
}
