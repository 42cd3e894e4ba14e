/*-------------------------------------------------------------------------
 *
 * agg_classes.c
 *	  What a custom aggregate asks of classes of rows: the key of their groups,
 *	  and values to aggregate.
 *
 * One span of each class is decoded, made a row, and the executor evaluates
 * the expressions on it: only of classes that have a row that passes the
 * conditions, since an expression may fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/agg_state.h"

#include "access/memory.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "segment/arrays.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Spans decoded at once at most. */
#define MAX_RUN 4096

/* A batch that has taken more is reset before it is filled again. */
#define BATCH_BYTES (8 * 1024 * 1024)

void
tempo_agg_set_keys(SegmentProjection *projection, List *keys)
{
	SpanText *array = palloc(sizeof(SpanText) * Max(list_length(keys), 1));
	ListCell *cell;

	projection->n_keys = 0;
	foreach (cell, keys)
	{
		char *key = strVal(lfirst(cell));

		array[projection->n_keys++] = span_text(key, (uint32) strlen(key));
	}
	projection->keys = array;
}

/* What has to be decoded, and how rows are made of it. */
static void
set_projection(TempoAggState *state, ScanNeeds *needs)
{
	AggEvaluation *evaluation = &state->evaluation;
	int            attributes = state->map->attno[TEMPO_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;
	int            resource = state->map->attno[TEMPO_RESOURCE_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;

	evaluation->projection = tempo_projection(state->map, needs->columns, false);
	tempo_agg_set_keys(&evaluation->projection, needs->keys);
	evaluation->keys = needs->keys;
	if (needs->attributes)
		needs->columns = bms_add_member(needs->columns, attributes);
	evaluation->reader = tempo_row_reader_create(state->map, needs->columns, false);
	/* tempo.attr() gets both columns as arguments, also where it looks at one */
	if (!bms_is_member(resource, needs->columns))
		tempo_row_reader_blank(evaluation->reader, TEMPO_RESOURCE_ATTRIBUTES);
	if (!needs->attributes)
		tempo_row_reader_blank(evaluation->reader, TEMPO_ATTRIBUTES);
}

void
tempo_agg_prepare(TempoAggState *state, List *keys)
{
	AggEvaluation *evaluation = &state->evaluation;
	PlanState     *parent = &state->css.ss.ps;
	ScanNeeds      needs = {0};
	ListCell      *cell;

	evaluation->values = palloc(sizeof(ExprState *) * Max(list_length(keys), 1));
	evaluation->types = palloc(sizeof(Oid) * Max(list_length(keys), 1));
	evaluation->needed = keys != NIL;
	foreach (cell, keys)
	{
		evaluation->values[evaluation->n_values] = ExecInitExpr(lfirst(cell), NULL);
		evaluation->types[evaluation->n_values++] = exprType(lfirst(cell));
		tempo_scan_needs(lfirst(cell), &state->target, &needs);
	}
	for (int i = 0; i < state->n_terms; i++)
	{
		AggTerm *term = &state->terms[i];

		if (!term->of_class)
			continue;
		evaluation->needed = true;
		if (term->item.source == AGG_SOURCE_CLASS)
		{
			term->argument = ExecInitExpr(term->item.argument, NULL);
			tempo_scan_needs((Node *) term->item.argument, &state->target, &needs);
		}
		if (term->item.filter != NULL)
		{
			term->filter = ExecInitExpr(term->item.filter, NULL);
			tempo_scan_needs((Node *) term->item.filter, &state->target, &needs);
		}
	}
	set_projection(state, &needs);
	evaluation->econtext = CreateExprContext(parent->state);
	evaluation->slot = ExecInitExtraTupleSlot(parent->state, RelationGetDescr(state->css.ss.ss_currentRelation),
	                                          &TTSOpsVirtual);
	evaluation->scratch = AllocSetContextCreate(CurrentMemoryContext, "tempo aggregate row", ALLOCSET_DEFAULT_SIZES);
	evaluation->allocator = tempo_context_allocator(AllocSetContextCreate(CurrentMemoryContext, "tempo aggregate spans",
	                                                                      ALLOCSET_DEFAULT_SIZES));
	evaluation->segment_context = AllocSetContextCreate(CurrentMemoryContext, "tempo aggregate classes",
	                                                    ALLOCSET_DEFAULT_SIZES);
	evaluation->segment_allocator = tempo_context_allocator(evaluation->segment_context);
	evaluation->batch = span_batch_create(&evaluation->allocator, 0);
	if (evaluation->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

void
tempo_agg_close(TempoAggState *state)
{
	AggEvaluation *evaluation = &state->evaluation;

	MemoryContextReset(evaluation->segment_context);
	evaluation->classes = NULL;
	evaluation->key_of = NULL;
	evaluation->given = NULL;
	evaluation->known_size = 0;
}

/* Makes room for that many classes; those that are new are not known. */
static void
reserve_classes(TempoAggState *state, uint32 count)
{
	AggEvaluation *evaluation = &state->evaluation;
	uint32         size = Max(count, evaluation->known_size * 2);
	Size           terms = Max(state->n_terms, 1);
	uint32        *key_of;
	AggValue      *given;

	if (count <= evaluation->known_size)
		return;
	key_of = MemoryContextAllocHuge(evaluation->segment_context, sizeof(uint32) * size);
	memset(key_of, 0xff, sizeof(uint32) * size);
	given = MemoryContextAllocExtended(evaluation->segment_context, sizeof(AggValue) * size * terms,
	                                   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (evaluation->key_of != NULL)
	{
		memcpy(key_of, evaluation->key_of, sizeof(uint32) * evaluation->known_size);
		memcpy(given, evaluation->given, sizeof(AggValue) * evaluation->known_size * terms);
		pfree(evaluation->key_of);
		pfree(evaluation->given);
	}
	evaluation->key_of = key_of;
	evaluation->given = given;
	evaluation->known_size = size;
}

static void
evaluate_term(AggEvaluation *evaluation, const AggTerm *term, AggValue *given)
{
	bool  isnull = false;
	Datum value;

	given->skip = term->filter != NULL &&
	              (!DatumGetBool(ExecEvalExpr(term->filter, evaluation->econtext, &isnull)) || isnull);
	if (given->skip || term->argument == NULL)
		return;
	value = ExecEvalExpr(term->argument, evaluation->econtext, &given->skip);
	if (given->skip || term->item.function == AGG_COUNT)
		return;
	switch (term->item.function)
	{
		case AGG_SUM_INT:
		case AGG_MIN_INT:
		case AGG_MAX_INT:
			given->value.integer = DatumGetInt64(value);
			break;
		default:
			given->value.number = DatumGetFloat8(value);
			break;
	}
}

/* Evaluates everything on a span of the class. */
static void
evaluate_class(TempoAggState *state, uint32 class, const Span *span)
{
	AggEvaluation  *evaluation = &state->evaluation;
	TupleTableSlot *slot = evaluation->slot;
	MemoryContext   old;
	Datum          *values;
	bool           *nulls;

	state->walk.counters.classes++;
	old = MemoryContextSwitchTo(evaluation->scratch);
	ExecClearTuple(slot);
	tempo_row_reader_fill(evaluation->reader, span, slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	evaluation->econtext->ecxt_scantuple = slot;
	MemoryContextSwitchTo(evaluation->econtext->ecxt_per_tuple_memory);
	values = palloc(sizeof(Datum) * Max(evaluation->n_values, 1));
	nulls = palloc(sizeof(bool) * Max(evaluation->n_values, 1));
	for (int i = 0; i < evaluation->n_values; i++)
		values[i] = ExecEvalExpr(evaluation->values[i], evaluation->econtext, &nulls[i]);
	for (int i = 0; i < state->n_terms; i++)
		if (state->terms[i].of_class)
			evaluate_term(evaluation, &state->terms[i], &evaluation->given[(uint64) class * state->n_terms + i]);
	evaluation->key_of[class] = tempo_groups_key(&state->groups, values, nulls);
	MemoryContextSwitchTo(old);
	ResetExprContext(evaluation->econtext);
	MemoryContextReset(evaluation->scratch);
}

/* Makes the spans of the batch known as members of their classes. */
static void
evaluate_batch(TempoAggState *state, SpanBatch *batch, const uint32 *classes, uint32 n)
{
	tempo_row_reader_batch(state->evaluation.reader, batch);
	for (uint32 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		evaluate_class(state, classes[i], &batch->spans[i]);
	}
}

/* Evaluates the classes of chosen rows that are not known yet. */
static void
know_classes(TempoAggState *state, uint32 first)
{
	AggEvaluation *evaluation = &state->evaluation;
	const AggRows *rows = &state->chosen;
	uint32        *key_of = evaluation->key_of;
	uint32        *new_rows = NULL;
	uint32        *new_classes = NULL;
	uint32         n = 0;

	for (uint32 i = 0; i < rows->n; i++)
	{
		uint32 class = rows->classes[i];

		if (key_of[class] != AGG_NO_KEY)
			continue;
		if (n == 0)
		{
			new_rows = palloc(sizeof(uint32) * rows->n);
			new_classes = palloc(sizeof(uint32) * rows->n);
		}
		new_rows[n] = first + rows->rows[i];
		new_classes[n++] = class;
		key_of[class] = 0; /* until it is evaluated, below */
	}
	if (n == 0)
		return;
	for (uint32 at = 0; at < n; at += MAX_RUN)
	{
		uint32 run = Min(n - at, MAX_RUN);

		if (span_batch_memory(evaluation->batch) > BATCH_BYTES)
			span_batch_reset(evaluation->batch);
		else
			span_batch_truncate(evaluation->batch, 0);
		tempo_segment_decode_rows(state->walk.open, &evaluation->projection, new_rows + at, run, evaluation->batch);
		evaluate_batch(state, evaluation->batch, new_classes + at, run);
	}
	pfree(new_rows);
	pfree(new_classes);
}

/* Gives each chosen row the key of its class; false if a class is not known yet. */
static bool
set_keys(TempoAggState *state)
{
	AggRows *rows = &state->chosen;

	return !array_lookup(rows->classes, rows->n, state->evaluation.key_of, rows->keys);
}

/*
 * Without anything to ask classes for, all rows have the one key without values:
 * number 0, which is what "keys" was filled with.
 */
static void
one_key(TempoAggState *state)
{
	if (tempo_groups_key(&state->groups, NULL, NULL) != 0)
		elog(ERROR, "groups have more keys than expected");
}

void
tempo_agg_classify(TempoAggState *state, uint32 first, uint32 count)
{
	AggEvaluation *evaluation = &state->evaluation;
	AggRows       *rows = &state->chosen;
	SegmentReader *reader = tempo_segment_reader(state->walk.open);
	SpanError      error = {SPAN_ERROR_NONE};
	uint32         n_classes;
	bool           restarted;

	if (!evaluation->needed)
	{
		one_key(state);
		return;
	}
	if (evaluation->classes == NULL)
		evaluation->classes = segment_classes_create(reader, &evaluation->projection, &evaluation->segment_allocator, &error);
	if (evaluation->classes == NULL ||
	    !segment_classes_block(evaluation->classes, first, state->block_classes, &n_classes, &restarted, &error))
		tempo_segment_failed(state->walk.open, &error);
	if (restarted && evaluation->key_of != NULL)
		memset(evaluation->key_of, 0xff, sizeof(uint32) * evaluation->known_size);
	reserve_classes(state, n_classes);
	rows->classes = state->block_classes;
	if (rows->n < count)
	{
		(void) array_lookup(rows->rows, rows->n, state->block_classes, rows->own_classes);
		rows->classes = rows->own_classes;
	}
	if (!set_keys(state))
	{
		know_classes(state, first);
		(void) set_keys(state);
	}
}

void
tempo_agg_classify_spans(TempoAggState *state, SpanBatch *batch)
{
	AggRows *rows = &state->chosen;

	if (!state->evaluation.needed)
	{
		one_key(state);
		return;
	}
	tempo_agg_close(state);
	reserve_classes(state, rows->n);
	tempo_row_reader_batch(state->evaluation.reader, batch);
	rows->classes = rows->own_classes;
	for (uint32 i = 0; i < rows->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		rows->own_classes[i] = i;
		evaluate_class(state, i, &batch->spans[rows->rows[i]]);
	}
	(void) set_keys(state);
}

/* The expression is asked for a duration that has the logarithm. */
Datum
tempo_agg_log(TempoAggState *state, uint32 log, bool *isnull)
{
	AggEvaluation  *evaluation = &state->evaluation;
	TupleTableSlot *slot = evaluation->slot;
	int64           duration = log == 0 ? 0 : log >= 63 ? PG_INT64_MAX :
	                                                      INT64CONST(1) << log;

	if (!state->log_known[log])
	{
		ExecClearTuple(slot);
		memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
		slot->tts_values[state->map->attno[TEMPO_DURATION_NANO]] = Int64GetDatum(duration);
		slot->tts_isnull[state->map->attno[TEMPO_DURATION_NANO]] = false;
		ExecStoreVirtualTuple(slot);
		evaluation->econtext->ecxt_scantuple = slot;
		/* a double, which needs no copy */
		state->log_values[log] = ExecEvalExprSwitchContext(state->log_value, evaluation->econtext,
		                                                   &state->log_null[log]);
		state->log_known[log] = true;
		ResetExprContext(evaluation->econtext);
	}
	*isnull = state->log_null[log];
	return state->log_values[log];
}
