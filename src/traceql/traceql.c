/*-------------------------------------------------------------------------
 *
 * traceql.c
 *	  The SQL functions of TraceQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "traceql/ast.h"
#include "traceql/traceql.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tempo_traceql_parse);

/* tempo.traceql_parse(query text): the canonical form */
Datum
tempo_traceql_parse(PG_FUNCTION_ARGS)
{
	text	   *query = PG_GETARG_TEXT_PP(0);
	TqlQuery   *parsed = tql_parse(VARDATA_ANY(query), VARSIZE_ANY_EXHDR(query));

	PG_RETURN_TEXT_P(cstring_to_text(tql_print_query(parsed)));
}
