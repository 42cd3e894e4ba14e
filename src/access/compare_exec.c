/*-------------------------------------------------------------------------
 *
 * compare_exec.c
 *	  Executes tempo.compare_spans() on encoded spans: walks the segments,
 *	  finds in each block the spans that count, and on which side, and has
 *	  their attributes counted by codes.
 *
 * Of each span ids, start, kind and links are decoded, as the tree of its
 * trace and spans that come twice cannot be told otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compare_state.h"

#include "access/deletions.h"
#include "access/memory.h"
#include TEMPO_EXPLAIN_HEADER
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* Spans whose attributes are decoded at once at most. */
#define MAX_RUN 4096

/* A batch that has taken more is reset before it is filled again. */
#define BATCH_BYTES (8 * 1024 * 1024)

/* What is decoded of each span, and of those whose attributes codes do not tell. */
#define TREE_PARTS \
	(SEGMENT_TRACE_ID | SEGMENT_SPAN_ID | SEGMENT_PARENT | SEGMENT_START | SEGMENT_NAME | \
	 SEGMENT_KIND | SEGMENT_RESOURCE | SEGMENT_LINKS)
#define REST_PARTS SEGMENT_ATTRIBUTES

/* Conditions, and what has to be decoded for those that segments do not decide. */
typedef struct CompareTest
{
	ScanFilter       *filter;
	SegmentProjection projection;
} CompareTest;

typedef struct CompareState
{
	CustomScanState css; /* must be first */
	TempoColumnMap *map;
	ScanTarget      target;
	List           *conditions;
	Oid             result_type;
	CompareCall     call;
	CompareTest     where;
	CompareTest     counted;
	CompareTest     selected;
	ScanWalk        walk;
	SpanAllocator   allocator;
	SpanBatch      *filter_batch;
	SpanBatch      *batch;
	bool            done;

	/* while it counts */
	MemoryContext  context;
	ValueCounts   *counts;
	CompareTraces *traces;
	SegmentTally  *tally;
	uint64         n_spans;
	uint8         *in_traces; /* rows of the segment, where only some traces are asked for */

	/* of a block */
	uint32  size;
	uint8  *verdicts;
	uint8  *verdicts_counted;
	uint8  *verdicts_selected;
	uint32 *rows;
	uint32 *numbers; /* 0, 1, 2, ... */
	uint32 *slots;   /* of spans that are there */
	uint32 *row_slots;
} CompareState;

static Node           *create_state(CustomScan *plan);
static void            begin_compare(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_compare(CustomScanState *node);
static void            end_compare(CustomScanState *node);
static void            rescan_compare(CustomScanState *node);
static void            explain_compare(CustomScanState *node, List *ancestors, ExplainState *es);

const CustomScanMethods tempo_compare_methods = {.CustomName = "TempoCompare",
                                                 .CreateCustomScanState = create_state};

static const CustomExecMethods exec_methods = {.CustomName = "TempoCompare",
                                               .BeginCustomScan = begin_compare,
                                               .ExecCustomScan = exec_compare,
                                               .EndCustomScan = end_compare,
                                               .ReScanCustomScan = rescan_compare,
                                               .ExplainCustomScan = explain_compare};

static Node *
create_state(CustomScan *plan)
{
	CompareState *state = palloc0(sizeof(CompareState));

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
		return copyObject(
			(Node *) list_nth_node(TargetEntry, columns, ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, resolve, columns);
}

static void
create_test(CompareState *state, CompareTest *test, List *conditions)
{
	List     *keys = NIL;
	ListCell *cell;
	SpanText *array;

	test->filter = tempo_filter_create(conditions, &state->target, &state->css.ss.ps);
	tempo_filter_needs(test->filter, &test->projection.parts, &keys);
	array = palloc(sizeof(SpanText) * Max(list_length(keys), 1));
	foreach (cell, keys)
		array[test->projection.n_keys++] =
			span_text(strVal(lfirst(cell)), (uint32) strlen(strVal(lfirst(cell))));
	test->projection.keys = array;
}

static void
begin_compare(CustomScanState *node, EState *estate, int eflags)
{
	CompareState *state = (CompareState *) node;
	CustomScan   *plan = (CustomScan *) node->ss.ps.plan;
	Aggref       *aggref =
		castNode(Aggref, linitial_node(TargetEntry, plan->custom_scan_tlist)->expr);

	state->map = tempo_column_map(RelationGetDescr(node->ss.ss_currentRelation));
	state->target.relid = plan->scan.scanrelid;
	state->target.map = state->map;
	state->conditions = (List *) resolve((Node *) plan->custom_exprs, plan->custom_scan_tlist);
	if (!tempo_compare_call(aggref, &state->target, &state->call))
		elog(ERROR, "an aggregate of a tempo table is not recognised any more");
	state->result_type = aggref->aggtype;
	create_test(state, &state->where, state->conditions);
	create_test(state, &state->counted, state->call.counted);
	create_test(state, &state->selected, state->call.selected);
	state->allocator = tempo_context_allocator(AllocSetContextCreate(
		CurrentMemoryContext, "tempo compare spans", ALLOCSET_DEFAULT_SIZES));
	state->filter_batch = span_batch_create(&state->allocator, 0);
	state->batch = span_batch_create(&state->allocator, 0);
	if (state->filter_batch == NULL || state->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	tempo_walk_init(&state->walk, node->ss.ss_currentRelation, estate->es_snapshot,
	                state->where.filter);
}

static void
start(CompareState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;

	tempo_filter_start(state->where.filter, econtext);
	tempo_filter_start(state->counted.filter, econtext);
	tempo_filter_start(state->selected.filter, econtext);
	tempo_walk_start(&state->walk);
	state->context = AllocSetContextCreate(GetMemoryChunkContext(state), "tempo compare",
	                                       ALLOCSET_DEFAULT_SIZES);
	state->counts = tempo_counts_create(state->context);
	state->traces = tempo_traces_create(state->counts);
	state->size = 0;
	state->n_spans = 0;
}

/*
 * Which rows count.
 */

/* Makes room for the rows of a block. */
static void
reserve_rows(CompareState *state, uint32 count)
{
	MemoryContext context = state->context;

	if (count <= state->size)
		return;
	state->verdicts = MemoryContextAllocHuge(context, vector_size(count));
	state->verdicts_counted = MemoryContextAllocHuge(context, vector_size(count));
	state->verdicts_selected = MemoryContextAllocHuge(context, vector_size(count));
	state->rows = MemoryContextAllocHuge(context, sizeof(uint32) * count);
	state->numbers = MemoryContextAllocHuge(context, sizeof(uint32) * count);
	state->slots = MemoryContextAllocHuge(context, sizeof(uint32) * count);
	state->row_slots = MemoryContextAllocHuge(context, sizeof(uint32) * count);
	for (uint32 i = 0; i < count; i++)
		state->numbers[i] = i;
	state->size = count;
}

static void
empty_batch(SpanBatch *batch)
{
	if (span_batch_memory(batch) > BATCH_BYTES)
		span_batch_reset(batch);
	else
		span_batch_truncate(batch, 0);
}

/* Lets those of the rows pass that meet the conditions; no verdict is left open. */
static void
decide_rows(CompareState *state, CompareTest *test, bool traces_known, uint32 first, uint32 count,
            uint8 *verdicts)
{
	const SegmentTest *conditions =
		traces_known ? &test->filter->rest_of_test : &test->filter->test;
	SpanBatch *batch = state->filter_batch;
	uint32     n = 0;

	if (test->filter->never)
		memset(verdicts, ROW_OUT, count);
	if (test->filter->never || conditions->n_conditions == 0)
		return;
	empty_batch(batch);
	tempo_segment_select(state->walk.open, &test->projection, first, count, conditions, batch,
	                     verdicts);
	for (uint32 at = 0; next_undecided(verdicts, count, &at); at++)
		state->rows[n++] = first + at;
	if (n == 0)
		return;
	empty_batch(batch);
	tempo_segment_decode_rows(state->walk.open, &test->projection, state->rows, n, batch);
	tempo_filter_batch(test->filter, batch);
	for (uint32 i = 0; i < n; i++)
		verdicts[state->rows[i] - first] =
			tempo_filter_span(test->filter, &batch->spans[i]) ? ROW_IN : ROW_OUT;
	state->walk.counters.spans_undecided += n;
}

/* Marks the rows of the traces asked for; false if the open segment has none of them. */
static bool
find_traces(CompareState *state)
{
	SegmentReader *reader = tempo_segment_reader(state->walk.open);
	int            n_traces;
	const TraceId *traces = tempo_filter_traces(state->where.filter, &n_traces);
	bool           any = traces == NULL;
	SpanError      error = {SPAN_ERROR_NONE};

	if (state->in_traces != NULL)
		pfree(state->in_traces);
	state->in_traces = NULL;
	if (traces == NULL)
		return true;
	state->in_traces = MemoryContextAllocExtended(
		state->context, state->walk.unit->segment->summary.rows, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < n_traces; i++)
	{
		uint32 first;
		uint32 count;

		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (!segment_find_trace(reader, &traces[i], &first, &count, &error))
			tempo_segment_failed(state->walk.open, &error);
		memset(state->in_traces + first, true, count);
		any |= count > 0;
	}
	return any;
}

/* Decides which rows of a block are there at all; returns how many. */
static uint32
choose_rows(CompareState *state, uint32 first, uint32 count)
{
	const TempoSegment *segment = state->walk.unit->segment;
	uint8              *verdicts = state->verdicts;
	uint32              n = 0;

	memset(verdicts, ROW_IN, vector_size(count));
	for (uint32 i = 0; i < count; i++)
		if ((state->in_traces != NULL && !state->in_traces[first + i]) ||
		    (segment->deleted != NULL && tempo_row_is_deleted(segment, first + i)))
			verdicts[i] = ROW_OUT;
	decide_rows(state, &state->where, state->in_traces != NULL, first, count, verdicts);
	for (uint32 i = 0; i < count; i++)
		n += verdicts[i] == ROW_IN;
	state->walk.counters.spans_examined += count;
	state->walk.counters.spans_filtered += count - n;
	state->walk.counters.blocks_filtered += n == 0;
	return n;
}

/* The slot of a span that counts; none if it is in no step. */
static uint32
slot_of(const CompareCall *call, int64 span_start, bool selected)
{
	uint64 behind = (uint64) span_start - (uint64) call->start - 1;
	uint64 step = behind / (uint64) call->step;

	if (span_start <= call->start || step >= (uint64) call->n_steps)
		return TALLY_NONE;
	return compare_slot((uint32) step, selected);
}

/*
 * Counting.
 */

/* Keeps what is needed of the chosen rows, and gives rows that count their slots. */
static void
keep_block(CompareState *state, uint32 first, uint32 count, uint32 n)
{
	static const SegmentProjection tree = {TREE_PARTS, NULL, 0};
	SpanBatch                     *batch = state->batch;
	uint32                         at = 0;

	for (uint32 i = 0; i < count; i++)
		if (state->verdicts[i] == ROW_IN)
			state->rows[at++] = first + i;
	empty_batch(batch);
	if (n == count)
		tempo_segment_decode(state->walk.open, &tree, first, count, batch);
	else
		tempo_segment_decode_rows(state->walk.open, &tree, state->rows, n, batch);
	for (uint32 i = 0; i < n; i++)
	{
		uint32 row = state->rows[i] - first;

		state->slots[i] = state->verdicts_counted[row] != ROW_IN ? TALLY_NONE : slot_of(&state->call, batch->spans[i].start_time_unix_nano, state->verdicts_selected[row] == ROW_IN);
	}
	tempo_traces_add(state->traces, batch, state->numbers, n, state->slots);
	memset(state->row_slots, 0xff, sizeof(uint32) * count);
	for (uint32 i = 0; i < n; i++)
		state->row_slots[state->rows[i] - first] = state->slots[i];
}

/* Counts the attributes of rows that codes do not tell. */
static void
count_rest(CompareState *state, uint32 first, const uint32 *rest, uint32 n)
{
	static const SegmentProjection attributes = {REST_PARTS, NULL, 0};

	for (uint32 at = 0; at < n; at += MAX_RUN)
	{
		uint32 run = Min(n - at, MAX_RUN);

		CHECK_FOR_INTERRUPTS();
		empty_batch(state->batch);
		tempo_segment_decode_rows(state->walk.open, &attributes, rest + at, run, state->batch);
		for (uint32 i = 0; i < run; i++)
			tempo_counts_list(state->counts, TALLY_SPAN, state->batch->spans[i].attributes,
			                  state->row_slots[rest[at + i] - first]);
	}
	state->walk.counters.spans_decoded += n;
}

static void
count_block(CompareState *state, uint32 first, uint32 count)
{
	const uint32_t *rest;
	uint32          n_rest;
	uint32          n;
	SpanError       error = {SPAN_ERROR_NONE};

	reserve_rows(state, count);
	n = choose_rows(state, first, count);
	if (n == 0)
		return;
	state->n_spans += n;
	memcpy(state->verdicts_counted, state->verdicts, vector_size(count));
	decide_rows(state, &state->counted, false, first, count, state->verdicts_counted);
	memcpy(state->verdicts_selected, state->verdicts_counted, vector_size(count));
	decide_rows(state, &state->selected, false, first, count, state->verdicts_selected);
	keep_block(state, first, count, n);
	if (!segment_tally_block(state->tally, first, state->row_slots, &rest, &n_rest, &error))
		tempo_segment_failed(state->walk.open, &error);
	count_rest(state, first, rest, n_rest);
}

static void
count_segment(CompareState *state)
{
	SegmentReader *reader = tempo_segment_reader(state->walk.open);
	uint32         rows = state->walk.unit->segment->summary.rows;
	uint32         block_rows = segment_block_rows(reader);
	TallySink      sink = tempo_counts_sink(state->counts);
	MemoryContext  context =
		AllocSetContextCreate(state->context, "tempo compare segment", ALLOCSET_DEFAULT_SIZES);
	SpanAllocator allocator = tempo_context_allocator(context);
	SpanError     error = {SPAN_ERROR_NONE};

	tempo_counts_check(state->counts, (Size) state->call.n_steps * 2 * sizeof(uint32));
	state->tally = segment_tally_create(reader, &sink, (uint32) state->call.n_steps * 2,
	                                    &allocator, &error);
	if (state->tally == NULL)
		tempo_segment_failed(state->walk.open, &error);
	for (uint32 first = 0; first < rows; first += block_rows)
	{
		CHECK_FOR_INTERRUPTS();
		if (tempo_walk_block(&state->walk, first))
			count_block(state, first, Min(block_rows, rows - first));
	}
	MemoryContextDelete(context);
}

/* Counts what the own transaction has in memory. */
static void
count_pending(CompareState *state, const TempoInsertBuffer *pending)
{
	/* interning keys in it does no harm */
	SpanBatch *batch = (SpanBatch *) tempo_pending_batch(pending);
	uint32     n = 0;

	reserve_rows(state, batch->n_spans);
	tempo_filter_batch(state->where.filter, batch);
	tempo_filter_batch(state->counted.filter, batch);
	tempo_filter_batch(state->selected.filter, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];

		CHECK_FOR_INTERRUPTS();
		if (!tempo_filter_span(state->where.filter, span))
			continue;
		state->rows[n] = i;
		state->slots[n++] =
			!state->counted.filter->never && tempo_filter_span(state->counted.filter, span) ? slot_of(&state->call, span->start_time_unix_nano,
		                                                                                              !state->selected.filter->never &&
		                                                                                                  tempo_filter_span(state->selected.filter, span)) :
																							  TALLY_NONE;
	}
	state->n_spans += n;
	tempo_traces_add(state->traces, batch, state->rows, n, state->slots);
	for (uint32 i = 0; i < n; i++)
		if (state->slots[i] != TALLY_NONE)
			tempo_counts_span(state->counts, batch, &batch->spans[state->rows[i]], state->slots[i]);
}

static Datum
compare(CompareState *state, bool *isnull)
{
	const TempoInsertBuffer *pending;
	Datum                    result = (Datum) 0;
	MemoryContext            old;

	start(state);
	while (!state->where.filter->never && tempo_walk_next(&state->walk))
	{
		int n_traces;

		if (!find_traces(state))
			state->walk.counters.segments_traces++;
		else if (tempo_filter_traces(state->where.filter, &n_traces) == NULL &&
		         !tempo_filter_segment(state->where.filter, state->walk.open))
			state->walk.counters.segments_values++;
		else
		{
			state->walk.counters.segments_read++;
			count_segment(state);
		}
	}
	while (!state->where.filter->never && (pending = tempo_walk_pending(&state->walk)) != NULL)
		count_pending(state, pending);
	*isnull = state->n_spans == 0;
	if (!*isnull)
	{
		tempo_traces_count(state->traces);
		old = MemoryContextSwitchTo(state->context);
		result = tempo_compare_result(state->counts, &state->call, state->result_type);
		MemoryContextSwitchTo(old);
	}
	return result;
}

/*
 * The node.
 */

static TupleTableSlot *
next_row(ScanState *node)
{
	CompareState   *state = (CompareState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (state->done)
		return slot;
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	/* what it takes lives until the node ends or is started again */
	slot->tts_values[0] = compare(state, &slot->tts_isnull[0]);
	state->done = true;
	return ExecStoreVirtualTuple(slot);
}

static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_compare(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
forget(CompareState *state)
{
	tempo_walk_close(&state->walk);
	if (state->context != NULL)
		MemoryContextDelete(state->context);
	state->context = NULL;
	state->in_traces = NULL;
	state->done = false;
}

static void
rescan_compare(CustomScanState *node)
{
	forget((CompareState *) node);
	ExecScanReScan(&node->ss);
}

static void
end_compare(CustomScanState *node)
{
	forget((CompareState *) node);
}

static void
explain_conditions(const char *title, List *conditions, List *context, bool prefix,
                   ExplainState *es)
{
	if (conditions != NIL)
		ExplainPropertyText(
			title,
			deparse_expression((Node *) make_ands_explicit(conditions), context, prefix, false),
			es);
}

static void
explain_compare(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CompareState *state = (CompareState *) node;
	CustomScan   *plan = (CustomScan *) node->ss.ps.plan;
	List         *context = set_deparse_context_plan(es->deparse_cxt, &plan->scan.plan, ancestors);
	bool          prefix = TEMPO_EXPLAIN_RTABLE_SIZE(es) > 1 || es->verbose;

	explain_conditions("Pushed Filter", plan->custom_exprs, context, prefix, es);
	explain_conditions("Counted", state->call.counted, context, prefix, es);
	explain_conditions("Selection", state->call.selected, context, prefix, es);
	if (es->analyze)
		tempo_walk_explain(&state->walk, es);
}
