/*-------------------------------------------------------------------------
 *
 * kinship.c
 *	  The aggregate tempo.may_be_related(), by which searches with structural
 *	  operators tell early that a trace does not match.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "span/ids.h"
#include "span/kinship.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(tempo_relate_span);
PG_FUNCTION_INFO_V1(tempo_may_be_related);

typedef struct RelateState
{
	bool     descendants;
	KinSpan *spans;
	uint32   n;
	uint32   capacity;
} RelateState;

static bool
is_descendants(text *relation)
{
	char *word = text_to_cstring(relation);

	if (strcmp(word, ">") != 0 && strcmp(word, ">>") != 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("\"%s\" is not a relation of spans", word), errhint("Use > or >>.")));
	return word[1] == '>';
}

static uint64
read_id(Datum datum)
{
	uint64 id;

	memcpy(&id, DatumGetPointer(datum), SPAN_ID_LEN);
	return id;
}

/* tempo.relate_span(state, relation, above, below, span_id, parent_span_id) */
Datum
tempo_relate_span(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate;
	RelateState  *state;
	KinSpan      *span;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		elog(ERROR, "called outside of an aggregate");
	if (!PG_ARGISNULL(0))
		state = (RelateState *) PG_GETARG_POINTER(0);
	else if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	else
	{
		state = MemoryContextAllocZero(aggregate, sizeof(RelateState));
		state->descendants = is_descendants(PG_GETARG_TEXT_PP(1));
	}
	if (PG_ARGISNULL(4))
		PG_RETURN_POINTER(state);
	if (state->n == state->capacity)
	{
		uint32 capacity = Max(16, state->capacity * 2);

		if (state->spans == NULL)
			state->spans = MemoryContextAlloc(aggregate, sizeof(KinSpan) * capacity);
		else
			state->spans = repalloc_huge(state->spans, sizeof(KinSpan) * capacity);
		state->capacity = capacity;
	}
	span = &state->spans[state->n++];
	span->id = read_id(PG_GETARG_DATUM(4));
	span->parent = PG_ARGISNULL(5) ? 0 : read_id(PG_GETARG_DATUM(5));
	span->above = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	span->below = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	PG_RETURN_POINTER(state);
}

/* Final function of tempo.may_be_related() */
Datum
tempo_may_be_related(PG_FUNCTION_ARGS)
{
	RelateState *state;
	void        *scratch;
	bool         result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (RelateState *) PG_GETARG_POINTER(0);
	if (state->n == 0)
		PG_RETURN_BOOL(false);
	scratch = palloc_extended(kinship_scratch(state->n), MCXT_ALLOC_HUGE);
	result = kinship_possible(state->spans, state->n, state->descendants, scratch);
	pfree(scratch);
	PG_RETURN_BOOL(result);
}
