/*-------------------------------------------------------------------------
 *
 * server_absent.c
 *	  Functions of a server, and of the project's SQL side, that fuzzed files
 *	  mention where no fuzzed code comes: calling one is a finding.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

#define ABSENT(function) \
	void function(void); \
	void function(void) \
	{ \
		abort(); \
	}

ABSENT(DirectFunctionCall1Coll)
ABSENT(DirectFunctionCall3Coll)
ABSENT(JsonbExtractScalar)
ABSENT(JsonbIteratorInit)
ABSENT(JsonbIteratorNext)
ABSENT(JsonbToCString)
ABSENT(JsonbValueToJsonb)
ABSENT(deconstruct_array)
ABSENT(getIthJsonbValueFromContainer)
ABSENT(getKeyJsonValueFromContainer)
ABSENT(int64_to_numeric)
ABSENT(lcons)
ABSENT(numeric_in)
ABSENT(numeric_out)
ABSENT(pg_detoast_datum)
ABSENT(pg_detoast_datum_packed)
ABSENT(pushJsonbValue)
ABSENT(quote_literal_cstr)
ABSENT(text_to_cstring)
