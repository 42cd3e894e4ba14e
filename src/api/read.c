/*-------------------------------------------------------------------------
 *
 * read.c
 *	  What the endpoints read from the database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/row.h"
#include "api/read.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

void
run_query(const char *sql, int n, Oid *types, Datum *values, const char *nulls)
{
	int			code = SPI_execute_with_args(sql, n, types, values, nulls, true, 0);

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

void
read_trace(const TraceId *id, const List *tenants, SpanBatch *batch)
{
	ApiCall		call = {0};
	char		hex[2 * TRACE_ID_LEN + 1];
	Oid			types[2] = {TEXTOID, TEXTARRAYOID};
	Datum		values[2];
	TempoColumnMap *map;

	id_to_hex(id->bytes, TRACE_ID_LEN, hex);
	values[0] = CStringGetTextDatum(hex);
	call.tenants = (List *) tenants;
	values[1] = tenants_array(&call);

	SPI_connect();
	run_query("SELECT * FROM tempo.spans WHERE trace_id = $1::tempo.trace_id "
			  "AND (tenant OPERATOR(pg_catalog.=) ANY ($2) OR $2 OPERATOR(pg_catalog.=) '{}')",
			  2, types, values, NULL);
	map = tempo_column_map(SPI_tuptable->tupdesc);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		Datum	   *columns = palloc(map->natts * sizeof(Datum));
		bool	   *nulls = palloc(map->natts * sizeof(bool));

		heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, columns, nulls);
		tempo_row_to_batch(map, columns, nulls, batch);
	}
	SPI_finish();
}
