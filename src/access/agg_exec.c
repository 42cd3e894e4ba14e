/*-------------------------------------------------------------------------
 *
 * agg_exec.c
 *	  Executes the custom aggregate: walks the segments, finds in each block
 *	  the rows that count, and gives the groups to the node above.
 *
 * Conditions are decided as in the custom scan, on vectors of rows; spans are
 * decoded only for what those leave open, and no rows are made of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/agg_state.h"

#include "access/deletions.h"
#include "access/memory.h"
#include TEMPO_EXPLAIN_HEADER
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif
#include "common/int.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* Spans decoded at once at most. */
#define MAX_RUN 4096

/* A batch that has taken more is reset before it is filled again. */
#define BATCH_BYTES (8 * 1024 * 1024)

static Node           *create_state(CustomScan *plan);
static void            begin_aggregate(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_aggregate(CustomScanState *node);
static void            end_aggregate(CustomScanState *node);
static void            rescan(CustomScanState *node);
static void            explain_aggregate(CustomScanState *node, List *ancestors, ExplainState *es);
static Size            estimate_shared(CustomScanState *node, ParallelContext *context);
static void            initialize_shared(CustomScanState *node, ParallelContext *context, void *place);
static void            reinitialize_shared(CustomScanState *node, ParallelContext *context, void *place);
static void            attach_shared(CustomScanState *node, shm_toc *toc, void *place);
static void            shut_down(CustomScanState *node);

const CustomScanMethods tempo_agg_methods = {
	.CustomName = "TempoAggregate",
	.CreateCustomScanState = create_state};

static const CustomExecMethods exec_methods = {
	.CustomName = "TempoAggregate",
	.BeginCustomScan = begin_aggregate,
	.ExecCustomScan = exec_aggregate,
	.EndCustomScan = end_aggregate,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = estimate_shared,
	.InitializeDSMCustomScan = initialize_shared,
	.ReInitializeDSMCustomScan = reinitialize_shared,
	.InitializeWorkerCustomScan = attach_shared,
	.ShutdownCustomScan = shut_down,
	.ExplainCustomScan = explain_aggregate};

static Node *
create_state(CustomScan *plan)
{
	TempoAggState *state = palloc0(sizeof(TempoAggState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

/*
 * Beginning.
 */

/* References to the node's own columns become what those stand for. */
static Node *
resolve(Node *node, List *columns)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == INDEX_VAR)
		return copyObject((Node *) list_nth_node(TargetEntry, columns, ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, resolve, columns);
}

static void
set_outputs(TempoAggState *state, CustomScan *plan, List **class_keys)
{
	int n_items = 0;

	state->n_outputs = intVal(linitial(plan->custom_private));
	state->outputs = palloc0(sizeof(AggOutput) * Max(state->n_outputs, 1));
	state->terms = palloc0(sizeof(AggTerm) * Max(state->n_outputs, 1));
	for (int i = 0; i < state->n_outputs; i++)
	{
		Expr      *expression = list_nth_node(TargetEntry, plan->custom_scan_tlist, i)->expr;
		AggOutput *output = &state->outputs[i];
		AggTerm   *term = &state->terms[state->n_terms];
		AggKey    *key;

		if (IsA(expression, Aggref))
		{
			if (!tempo_agg_item((Aggref *) expression, &state->target, &term->item))
				elog(ERROR, "an aggregate of a tempo table is not recognised any more");
			term->of_class = term->item.source == AGG_SOURCE_CLASS || term->item.filter != NULL;
			term->of_rows = term->item.function == AGG_COUNT && !term->of_class;
			if (!term->of_rows)
				term->number = n_items++;
			output->number = state->n_terms++;
			continue;
		}
		output->is_key = true;
		key = palloc(sizeof(AggKey));
		if (!tempo_agg_key(expression, &state->target, key))
			elog(ERROR, "a grouping expression of a tempo table is not recognised any more");
		output->number = key->type;
		if (key->type == AGG_KEY_LOG2)
		{
			state->log = key;
			state->log_value = ExecInitExpr(expression, NULL);
		}
		else if (key->type != AGG_KEY_CLASS)
			state->step = key;
		else
		{
			output->value = list_length(*class_keys);
			*class_keys = lappend(*class_keys, expression);
		}
	}
	state->needs_durations = state->log != NULL;
	for (int i = 0; i < state->n_terms; i++)
	{
		AggSource source = state->terms[i].item.source;

		state->needs_starts |= source == AGG_SOURCE_START || source == AGG_SOURCE_START_TIME ||
		                       source == AGG_SOURCE_END_TIME;
		state->needs_durations |= source == AGG_SOURCE_DURATION || source == AGG_SOURCE_DURATION_CLAMPED ||
		                          source == AGG_SOURCE_END_TIME;
	}
	tempo_groups_init(&state->groups, n_items, state->log != NULL, list_length(*class_keys), NULL);
}

static void
begin_aggregate(CustomScanState *node, EState *estate, int eflags)
{
	TempoAggState *state = (TempoAggState *) node;
	CustomScan    *plan = (CustomScan *) node->ss.ps.plan;
	List          *class_keys = NIL;
	List          *filter_keys = NIL;

	state->map = tempo_column_map(RelationGetDescr(node->ss.ss_currentRelation));
	state->target.relid = plan->scan.scanrelid;
	state->target.map = state->map;
	state->conditions = (List *) resolve((Node *) plan->custom_exprs, plan->custom_scan_tlist);
	state->filter = tempo_filter_create(state->conditions, &state->target, &node->ss.ps);
	set_outputs(state, plan, &class_keys);
	tempo_filter_needs(state->filter, &state->filter_projection.parts, &filter_keys);
	tempo_agg_set_keys(&state->filter_projection, filter_keys);
	tempo_agg_prepare(state, class_keys);
	state->groups.types = state->evaluation.types;
	state->filter_batch = span_batch_create(&state->evaluation.allocator, 0);
	if (state->filter_batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	tempo_walk_init(&state->walk, node->ss.ss_currentRelation, estate->es_snapshot, state->filter);
}

/*
 * Starting: which steps are to be expected.
 */

/* The steps of times that may be those of rows that do not count, so this must not fail. */
static bool
step_range(const AggKey *key, int64 min, int64 max, int64 *first, int64 *last)
{
	int64 distance;

	if (min < 0 || min > max || (key->type == AGG_KEY_STEP && pg_sub_s64_overflow(max, key->origin, &distance)))
		return false;
	*first = tempo_agg_step(key, min);
	*last = tempo_agg_step(key, max);
	return true;
}

static void
reset_groups(TempoAggState *state)
{
	TempoSegmentBounds bounds;
	int64              first = PG_INT64_MAX;
	int64              last = PG_INT64_MIN;
	int64              first_step = 0;
	int64              last_step;
	uint64             n_steps = 1;

	for (uint32 i = 0; i < state->walk.n_segments; i++)
	{
		first = Min(first, state->walk.segments[i].summary.min_start_nano);
		last = Max(last, state->walk.segments[i].summary.max_start_nano);
	}
	tempo_filter_bounds(state->filter, &bounds.min_start, &bounds.end_start, &bounds.tenants);
	first = Max(first, bounds.min_start);
	last = Min(last, bounds.end_start);
	if (state->step != NULL)
		n_steps = step_range(state->step, first, last, &first_step, &last_step) ?
		              (uint64) last_step - (uint64) first_step + 1 :
		              0;
	tempo_groups_reset(&state->groups, first_step, n_steps);
	/* what is known of classes names keys of the groups that were */
	tempo_agg_close(state);
}

static void
start(TempoAggState *state)
{
	tempo_filter_start(state->filter, state->css.ss.ps.ps_ExprContext);
	tempo_walk_start(&state->walk);
	state->started = true;
	state->done = state->giving = false;
	reset_groups(state);
}

/*
 * Which rows count.
 */

static void *
make_array(TempoAggState *state, Size width, uint32 size, void *old)
{
	if (old != NULL)
		pfree(old);
	return MemoryContextAllocHuge(GetMemoryChunkContext(state), width * size);
}

/* Makes room for the rows of a block. */
static void
reserve_rows(TempoAggState *state, uint32 count)
{
	AggRows *rows = &state->chosen;

	if (count <= state->chosen_size)
		return;
	rows->own_rows = make_array(state, sizeof(uint32), count, rows->own_rows);
	rows->all_rows = make_array(state, sizeof(uint32), count, rows->all_rows);
	for (uint32 i = 0; i < count; i++)
		rows->all_rows[i] = i;
	rows->own_classes = make_array(state, sizeof(uint32), count, rows->own_classes);
	rows->own_starts = make_array(state, sizeof(int64), count, rows->own_starts);
	rows->own_durations = make_array(state, sizeof(int64), count, rows->own_durations);
	rows->keys = make_array(state, sizeof(uint32), count, rows->keys);
	memset(rows->keys, 0, sizeof(uint32) * count);
	rows->logs = make_array(state, sizeof(uint8), count, rows->logs);
	rows->steps = make_array(state, sizeof(int64), count, rows->steps);
	rows->cells = make_array(state, sizeof(uint32), count, rows->cells);
	state->verdicts = make_array(state, 1, vector_size(count), state->verdicts);
	state->block_classes = make_array(state, sizeof(uint32), count, state->block_classes);
	state->chosen_size = count;
}

static void
empty_batch(SpanBatch *batch)
{
	if (span_batch_memory(batch) > BATCH_BYTES)
		span_batch_reset(batch);
	else
		span_batch_truncate(batch, 0);
}

/* Decides on decoded spans what the segment could not: rows whose verdict is ROW_MAYBE. */
static void
decide_spans(TempoAggState *state, uint32 first, uint32 count)
{
	SpanBatch *batch = state->filter_batch;
	uint32    *undecided = state->chosen.cells;
	uint32     at = 0;

	while (at < count)
	{
		uint32 n = 0;

		while (n < MAX_RUN && next_undecided(state->verdicts, count, &at))
			undecided[n++] = first + at++;
		if (n == 0)
			break;
		empty_batch(batch);
		tempo_segment_decode_rows(state->walk.open, &state->filter_projection, undecided, n, batch);
		tempo_filter_batch(state->filter, batch);
		for (uint32 i = 0; i < n; i++)
			state->verdicts[undecided[i] - first] = tempo_filter_span(state->filter, &batch->spans[i]) ? ROW_IN : ROW_OUT;
		state->walk.counters.spans_undecided += n;
	}
}

/* Decides which rows of a block are not deleted and pass the conditions. */
static void
decide_rows(TempoAggState *state, uint32 first, uint32 count)
{
	const TempoSegment *segment = state->walk.unit->segment;
	uint8              *verdicts = state->verdicts;

	memset(verdicts, ROW_IN, vector_size(count));
	for (uint32 i = 0; i < count && segment->deleted != NULL; i++)
		if (tempo_row_is_deleted(segment, first + i))
			verdicts[i] = ROW_OUT;
	if (state->filter->root->n_children == 0)
		return;
	empty_batch(state->filter_batch);
	tempo_segment_select(state->walk.open, &state->filter_projection, first, count, &state->filter->test,
	                     state->filter_batch, verdicts);
	decide_spans(state, first, count);
}

/* Are all rows in? */
static bool
all_in(const uint8 *verdicts, uint32 count)
{
	uint32 i;

	for (i = 0; i + sizeof(uint64) <= count; i += sizeof(uint64))
	{
		uint64 word;

		memcpy(&word, verdicts + i, sizeof(word));
		if (word != ROW_IN * UINT64CONST(0x0101010101010101))
			return false;
	}
	for (; i < count; i++)
		if (verdicts[i] != ROW_IN)
			return false;
	return true;
}

static void
choose_rows(TempoAggState *state, uint32 first, uint32 count)
{
	AggRows *rows = &state->chosen;

	decide_rows(state, first, count);
	rows->n = count;
	rows->rows = rows->all_rows;
	if (!all_in(state->verdicts, count))
	{
		rows->n = vector_list(state->verdicts, count, rows->own_rows);
		rows->rows = rows->own_rows;
	}
	state->walk.counters.spans_examined += count;
	state->walk.counters.spans_filtered += count - rows->n;
	state->walk.counters.blocks_filtered += rows->n == 0;
}

/* The chosen rows' entries of an array of the block: in place if all rows are chosen. */
static const int64 *
gather(const AggRows *rows, uint32 count, const int64 *of_block, int64 *own)
{
	if (rows->n == count)
		return of_block;
	for (uint32 i = 0; i < rows->n; i++)
		own[i] = of_block[rows->rows[i]];
	return own;
}

/* Start times and durations of the chosen rows, as far as needed: not where the zone map tells the step. */
static void
gather_times(TempoAggState *state, uint32 first, uint32 count)
{
	SegmentReader *reader = tempo_segment_reader(state->walk.open);
	AggRows       *rows = &state->chosen;
	bool           needs_starts = state->needs_starts;
	const int64   *starts = NULL;
	const int64   *durations = NULL;
	int64          min;
	int64          max;
	int64          longest;
	int64          last_step;
	SpanError      error = {SPAN_ERROR_NONE};

	rows->one_step = true;
	rows->step = 0;
	if (state->step != NULL)
	{
		if (!segment_block_times(reader, first, &min, &max, &longest, &error))
			tempo_segment_failed(state->walk.open, &error);
		rows->one_step = step_range(state->step, min, max, &rows->step, &last_step) && rows->step == last_step;
		needs_starts |= !rows->one_step;
	}
	if (!needs_starts && !state->needs_durations)
		return;
	if (!segment_times_block(reader, first, needs_starts ? &starts : NULL,
	                         state->needs_durations ? &durations : NULL, &error))
		tempo_segment_failed(state->walk.open, &error);
	if (needs_starts)
		rows->starts = gather(rows, count, starts, rows->own_starts);
	if (state->needs_durations)
		rows->durations = gather(rows, count, durations, rows->own_durations);
}

/* Adds the rows of the block that begins at row "first". */
static void
aggregate_block(TempoAggState *state, uint32 first, uint32 count)
{
	reserve_rows(state, count);
	choose_rows(state, first, count);
	if (state->chosen.n == 0)
		return;
	tempo_agg_classify(state, first, count);
	gather_times(state, first, count);
	tempo_agg_rows(state);
}

/* Adds what the own transaction has in memory. */
static void
aggregate_pending(TempoAggState *state, const TempoInsertBuffer *pending)
{
	/* interning keys in it does no harm */
	SpanBatch *batch = (SpanBatch *) tempo_pending_batch(pending);
	AggRows   *rows = &state->chosen;

	reserve_rows(state, batch->n_spans);
	tempo_filter_batch(state->filter, batch);
	rows->n = 0;
	rows->rows = rows->own_rows;
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (tempo_filter_span(state->filter, &batch->spans[i]))
			rows->own_rows[rows->n++] = i;
	}
	state->walk.counters.spans_examined += batch->n_spans;
	state->walk.counters.spans_filtered += batch->n_spans - rows->n;
	if (rows->n == 0)
		return;
	tempo_agg_classify_spans(state, batch);
	for (uint32 i = 0; i < rows->n; i++)
	{
		const Span *span = &batch->spans[rows->rows[i]];

		rows->own_starts[i] = span->start_time_unix_nano;
		rows->own_durations[i] = (int64) ((uint64) span->end_time_unix_nano - (uint64) span->start_time_unix_nano);
	}
	rows->starts = rows->own_starts;
	rows->durations = rows->own_durations;
	rows->one_step = state->step == NULL;
	rows->step = 0;
	tempo_agg_rows(state);
}

/* Opens the next segment that may have rows; false at the end. */
static bool
next_segment(TempoAggState *state)
{
	tempo_agg_close(state);
	while (tempo_walk_next(&state->walk))
	{
		if (tempo_filter_segment(state->filter, state->walk.open))
		{
			state->walk.counters.segments_read++;
			state->row = state->walk.unit->rows.first;
			return true;
		}
		state->walk.counters.segments_values++;
	}
	return false;
}

/* Aggregates blocks until all are done or memory is full. */
static void
aggregate(TempoAggState *state)
{
	const TempoInsertBuffer *pending;

	while (!state->walk.filter->never)
	{
		uint32 block_rows;
		uint32 first = state->row;
		uint32 count;

		CHECK_FOR_INTERRUPTS();
		if (state->walk.open == NULL || first >= state->walk.unit->rows.end)
		{
			if (!next_segment(state))
				break;
			continue;
		}
		block_rows = segment_block_rows(tempo_segment_reader(state->walk.open));
		count = Min(block_rows, state->walk.unit->rows.end - first);
		state->row += count;
		if (!tempo_walk_block(&state->walk, first))
			continue;
		aggregate_block(state, first, count);
		if (MemoryContextMemAllocated(state->groups.context, true) > get_hash_memory_limit())
			return;
	}
	while (!state->walk.filter->never && (pending = tempo_walk_pending(&state->walk)) != NULL)
		aggregate_pending(state, pending);
	state->done = true;
}

/*
 * Giving groups.
 */

static bool
give_group(TempoAggState *state, TupleTableSlot *slot)
{
	AggGroups *groups = &state->groups;
	AggGroup   group;

	if (!tempo_groups_next(groups, &state->next_cell, &group))
		return false;
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < state->n_outputs; i++)
	{
		const AggOutput *output = &state->outputs[i];
		uint64           value = (uint64) group.key * groups->n_values + output->value;
		bool            *isnull = &slot->tts_isnull[i];

		*isnull = false;
		if (!output->is_key)
		{
			const AggTerm *term = &state->terms[output->number];

			slot->tts_values[i] = term->of_rows ? Int64GetDatum((int64) groups->rows[state->next_cell]) :
			                                      tempo_accumulated(&groups->items[state->next_cell * groups->n_items + term->number],
			                                                        term->item.function, isnull);
		}
		else if (output->number == AGG_KEY_CLASS)
		{
			*isnull = groups->nulls[value];
			slot->tts_values[i] = groups->values[value];
		}
		else if (output->number == AGG_KEY_LOG2)
			slot->tts_values[i] = tempo_agg_log(state, group.log, isnull);
		else if (output->number == AGG_KEY_BIN)
			slot->tts_values[i] = TimestampTzGetDatum(state->step->origin + group.step * state->step->width);
		else
			slot->tts_values[i] = Int64GetDatum(group.step);
	}
	state->next_cell++;
	state->walk.counters.groups++;
	ExecStoreVirtualTuple(slot);
	return true;
}

static TupleTableSlot *
next_group(ScanState *node)
{
	TempoAggState  *state = (TempoAggState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	MemoryContext   old;
	bool            given;

	ExecClearTuple(slot);
	if (!state->started)
		start(state);
	for (;;)
	{
		if (state->giving)
		{
			old = MemoryContextSwitchTo(node->ps.ps_ExprContext->ecxt_per_tuple_memory);
			given = give_group(state, slot);
			MemoryContextSwitchTo(old);
			if (given)
				return slot;
			state->giving = false;
			reset_groups(state);
		}
		if (state->done)
			return slot;
		aggregate(state);
		state->giving = true;
		state->next_cell = 0;
	}
}

static bool
recheck_group(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_aggregate(CustomScanState *node)
{
	return ExecScan(&node->ss, next_group, recheck_group);
}

static void
rescan(CustomScanState *node)
{
	TempoAggState *state = (TempoAggState *) node;

	tempo_agg_close(state);
	tempo_walk_close(&state->walk);
	state->started = false;
	ExecScanReScan(&node->ss);
}

static void
end_aggregate(CustomScanState *node)
{
	TempoAggState *state = (TempoAggState *) node;

	tempo_agg_close(state);
	tempo_walk_close(&state->walk);
}

static Size
estimate_shared(CustomScanState *node, ParallelContext *context)
{
	return tempo_walk_shared_size();
}

static void
initialize_shared(CustomScanState *node, ParallelContext *context, void *place)
{
	tempo_walk_share(&((TempoAggState *) node)->walk, place);
}

static void
reinitialize_shared(CustomScanState *node, ParallelContext *context, void *place)
{
	tempo_walk_reshare(place);
}

static void
attach_shared(CustomScanState *node, shm_toc *toc, void *place)
{
	tempo_walk_attach(&((TempoAggState *) node)->walk, place);
}

static void
shut_down(CustomScanState *node)
{
	tempo_walk_shut_down(&((TempoAggState *) node)->walk);
}

static void
explain_aggregate(CustomScanState *node, List *ancestors, ExplainState *es)
{
	TempoAggState *state = (TempoAggState *) node;
	CustomScan    *plan = (CustomScan *) node->ss.ps.plan;
	List          *names = NIL;
	ListCell      *cell;

	if (plan->custom_exprs != NIL)
	{
		List *context = set_deparse_context_plan(es->deparse_cxt, &plan->scan.plan, ancestors);
		bool  prefix = TEMPO_EXPLAIN_RTABLE_SIZE(es) > 1 || es->verbose;

		ExplainPropertyText("Pushed Filter",
		                    deparse_expression((Node *) make_ands_explicit(plan->custom_exprs), context, prefix, false), es);
	}
	foreach (cell, state->evaluation.keys)
		names = lappend(names, strVal(lfirst(cell)));
	if (names != NIL)
		ExplainPropertyList("Attribute Keys", names, es);
	if (es->analyze)
		tempo_walk_explain(&state->walk, es);
}
