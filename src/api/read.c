/*-------------------------------------------------------------------------
 *
 * read.c
 *	  What the endpoints read from the database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "api/read.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

void
run_query(const char *sql, int n, Oid *types, Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	int           code = SPI_execute_with_args(sql, n, types, values, nulls, true, 0);

	/* SPI leaves its own context behind, which goes with SPI_finish() */
	MemoryContextSwitchTo(context);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "a query of the API failed: %s", SPI_result_code_string(code));
}

char *
result_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
result_int64(uint64 row, int column, bool *isnull)
{
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull));
}

SpanText *
tenant_texts(const List *tenants)
{
	SpanText *texts = palloc(Max(list_length(tenants), 1) * sizeof(SpanText));
	int       n = 0;
	ListCell *lc;

	foreach (lc, tenants)
		texts[n++] = span_text(lfirst(lc), strlen(lfirst(lc)));
	return texts;
}

Relation
open_spans(void)
{
	Oid relid = tempo_spans_relation();

	if (!OidIsValid(relid))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("table tempo.spans does not exist"),
		         errhint("Run CREATE EXTENSION tempo_pg in this database.")));
	return table_open(relid, AccessShareLock);
}

void
read_trace(const TraceId *id, const List *tenants, SpanBatch *batch)
{
	Relation rel = open_spans();

	tempo_read_trace(rel, id, tenant_texts(tenants), list_length(tenants), batch);
	table_close(rel, AccessShareLock);
}

bool
has_spans(const ApiCall *call, const ApiRange *range)
{
	Oid   types[3] = {TEXTARRAYOID, INT8OID, INT8OID};
	Datum values[3];
	bool  found;

	values[0] = tenants_array(call);
	values[1] = Int64GetDatum(range_start_nanos(range));
	values[2] = Int64GetDatum(range_end_nanos(range));
	SPI_connect();
	run_query("SELECT 1 FROM tempo.spans WHERE tenant OPERATOR(pg_catalog.=) ANY ($1) "
	          "AND start_time_unix_nano OPERATOR(pg_catalog.>=) $2 "
	          "AND start_time_unix_nano OPERATOR(pg_catalog.<) $3 LIMIT 1",
	          3, types, values, NULL);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

int64
range_start_nanos(const ApiRange *range)
{
	return range->set ? Max(range->start, 0) * INT64CONST(1000000000) : 0;
}

int64
range_end_nanos(const ApiRange *range)
{
	return range->set ? Max(range->end, 0) * INT64CONST(1000000000) + 1 : PG_INT64_MAX;
}

/* The parser does nothing that an error would have to undo. */
TqlQuery *
parse_query(const char *text, char **message, int *code)
{
	MemoryContext context = CurrentMemoryContext;
	TqlQuery *volatile query = NULL;

	PG_TRY();
	{
		query = tql_parse(text, strlen(text));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_SYNTAX_ERROR && error->sqlerrcode != ERRCODE_INVALID_PARAMETER_VALUE)
			PG_RE_THROW();
		FlushErrorState();
		*message = error->message;
		*code = error->sqlerrcode;
	}
	PG_END_TRY();
	return query;
}

char *
extension_function(const char *name)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid namespace = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple   tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
	            CStringGetDatum("tempo_pg"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	namespace = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(namespace))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_OBJECT),
		         errmsg("extension tempo_pg is not installed")));
	return quote_qualified_identifier(get_namespace_name(namespace), name);
}
