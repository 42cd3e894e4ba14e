/*-------------------------------------------------------------------------
 *
 * fuzz_traceql.c
 *	  libFuzzer target: lexer, grammar, shape, checker, rewriter and printer
 *	  of TraceQL.
 *
 * What can be parsed is printed, parsed again and printed again: the same
 * must come out, in bounded memory and on a bounded stack.
 *
 * fuzz-needs: traceql
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "server_shim.h"
#include "traceql/ast.h"

static char *
canonical(const char *query, size_t length)
{
	return tql_print_query(tql_parse(query, length));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *query;
	char *volatile once = NULL;
	char *volatile twice = NULL;
	bool ok;

	/* no text of the server's holds such a byte */
	if (memchr(data, '\0', size) != NULL)
		return 0;
	/* not a byte longer than it is, so that reading behind it is seen */
	query = malloc(Max(size, 1));
	memcpy(query, data, size);
	SHIM_TRY(ok, once = canonical(query, size));
	/* the smallest integer has no digits that could be read */
	if (ok && strstr(once, "-9223372036854775808") == NULL && strlen(once) <= TQL_MAX_QUERY_BYTES)
	{
		SHIM_TRY(ok, twice = canonical(once, strlen(once)));
		/* parentheses that were not written may be one level too much */
		if (!ok && shim_sqlstate != ERRCODE_STATEMENT_TOO_COMPLEX)
		{
			fprintf(stderr, "%.*s\nprinted: %s\n%s\n", (int) size, query, once, shim_message);
			abort();
		}
		if (ok && strcmp(once, twice) != 0)
		{
			fprintf(stderr, "%.*s\nonce:  %s\ntwice: %s\n", (int) size, query, once, twice);
			abort();
		}
	}
	shim_reset();
	free(query);
	return 0;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	shim_write_seeds(*argc, *argv, "traceql.queries");
	return 0;
}
