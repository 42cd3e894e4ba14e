/*-------------------------------------------------------------------------
 *
 * custom_scan.c
 *	  Executes the custom scan: newest segments first, those that cannot match
 *	  left out, conditions decided on decoded spans, rows made of survivors.
 *
 * Conditions first select rows of a block by their shapes, codes and times; only
 * rows that this leaves open are decoded for the conditions.  Then what rows are
 * made of is decoded, of those that are left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/planner.h"

#include "access/parallel.h"

#include "access/deletions.h"
#include "access/memory.h"
#include "access/row.h"
#include "access/row_kit.h"
#include "access/scan_walk.h"
#include "access/sysattr.h"
#include TEMPO_EXPLAIN_HEADER
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* Rows decoded at once: few at first, as the query may need no more. */
#define MIN_RUN 32
#define MAX_RUN 4096
#define RUN_GROWTH 4

/* A batch that has taken more is reset before it is filled again. */
#define BATCH_BYTES (8 * 1024 * 1024)

typedef struct TempoScanState
{
	CustomScanState   css; /* must be first */
	TempoColumnMap   *map;
	ScanTarget        target;
	ScanFilter       *filter;
	SegmentProjection filter_projection;
	SegmentProjection row_projection;
	bool              no_columns; /* rows need nothing of their span */
	bool              partial_keys;
	ExprState        *recheck; /* the filter, for EvalPlanQual; else NULL */
	List             *keys;    /* for EXPLAIN */
	TempoRowKit      *kit;
	TempoRowReader   *reader; /* the kit's */

	/* where the scan is */
	ScanWalk           walk;
	bool               started;
	TempoInsertBuffer *pending; /* the current batch in memory */
	bool               in_pending;
	RowRange          *ranges;
	uint32             n_ranges;
	uint32             range;
	uint32             row; /* next one to look at in the range */

	/* rows found in a block, and how many of them have been decoded */
	uint8  *verdicts;
	uint32 *found;
	uint32  found_size;
	uint32  n_found;
	uint32  next_found;
	uint32  window; /* rows to decode next */

	/* the decoded run */
	SpanAllocator    allocator;
	SpanBatch       *filter_batch;
	SpanBatch       *row_batch;
	const SpanBatch *rows;     /* where selected rows are */
	uint32          *selected; /* rows in the segment */
	uint32          *span_of;  /* their spans in "rows" */
	uint32           n_selected;
	uint32           selected_size;
	uint32           next_selected;
	MemoryContext    row_context;
} TempoScanState;

/* Stands for spans of which nothing is needed. */
static const Span no_span;

static Node           *create_state(CustomScan *plan);
static void            begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void            end_scan(CustomScanState *node);
static void            rescan(CustomScanState *node);
static void            explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);
static void            shut_down(CustomScanState *node);
static Size            estimate_shared(CustomScanState *node, ParallelContext *context);
static void            initialize_shared(CustomScanState *node, ParallelContext *context, void *place);
static void            reinitialize_shared(CustomScanState *node, ParallelContext *context, void *place);
static void            attach_shared(CustomScanState *node, shm_toc *toc, void *place);

const CustomScanMethods tempo_scan_methods = {
	.CustomName = "TempoScan",
	.CreateCustomScanState = create_state};

static const CustomExecMethods exec_methods = {
	.CustomName = "TempoScan",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = estimate_shared,
	.InitializeDSMCustomScan = initialize_shared,
	.ReInitializeDSMCustomScan = reinitialize_shared,
	.InitializeWorkerCustomScan = attach_shared,
	.ShutdownCustomScan = shut_down,
	.ExplainCustomScan = explain_scan};

static Node *
create_state(CustomScan *plan)
{
	TempoScanState *state = palloc0(sizeof(TempoScanState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

/*
 * Beginning: what to decode.
 */

static void
set_keys(SegmentProjection *projection, List *keys)
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

static void
set_projections(TempoScanState *state, CustomScan *plan)
{
	ScanNeeds  needs = {0};
	List      *filter_keys = NIL;
	Bitmapset *blank = NULL;
	int        resource_member;
	int        attributes_member;

	resource_member = state->map->attno[TEMPO_RESOURCE_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;
	attributes_member = state->map->attno[TEMPO_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;
	tempo_scan_needs((Node *) plan->scan.plan.targetlist, &state->target, &needs);
	tempo_scan_needs((Node *) plan->scan.plan.qual, &state->target, &needs);
	tempo_filter_needs(state->filter, &state->filter_projection.parts, &filter_keys);
	set_keys(&state->filter_projection, filter_keys);

	state->row_projection = tempo_projection(state->map, needs.columns, needs.all_columns);
	if (needs.attributes && !needs.all_keys)
	{
		state->partial_keys = true;
		state->keys = needs.keys;
		set_keys(&state->row_projection, needs.keys);
	}
	else if (needs.attributes)
		state->row_projection.parts |= SEGMENT_ATTRIBUTES;

	if (needs.attributes)
		needs.columns = bms_add_member(needs.columns, attributes_member);
	state->no_columns = bms_is_empty(needs.columns) && !needs.all_columns;

	/* tempo.attr() gets both columns as arguments, also where it looks at one */
	if (!needs.all_columns && !bms_is_member(resource_member, needs.columns))
		blank = bms_add_member(blank, TEMPO_RESOURCE_ATTRIBUTES);
	if (!needs.attributes && !needs.all_columns)
		blank = bms_add_member(blank, TEMPO_ATTRIBUTES);
	state->kit = tempo_row_kit_take(state->map, needs.columns, needs.all_columns, blank);
	state->reader = state->kit->reader;
}

static SpanBatch *
make_batch(TempoScanState *state)
{
	SpanBatch *batch = span_batch_create(&state->allocator, 0);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return batch;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	TempoScanState *state = (TempoScanState *) node;
	CustomScan     *plan = (CustomScan *) node->ss.ps.plan;

	state->map = tempo_column_map(RelationGetDescr(node->ss.ss_currentRelation));
	state->target.relid = plan->scan.scanrelid;
	state->target.map = state->map;
	state->filter = tempo_filter_create(plan->custom_exprs, &state->target, &node->ss.ps);
	if (estate->es_epq_active != NULL)
		state->recheck = ExecInitQual(plan->custom_exprs, &node->ss.ps);
	set_projections(state, plan);
	tempo_walk_init(&state->walk, node->ss.ss_currentRelation, estate->es_snapshot, state->filter);
	state->row_context = AllocSetContextCreate(CurrentMemoryContext, "tempo scan row", ALLOCSET_DEFAULT_SIZES);
	state->allocator = tempo_context_allocator(AllocSetContextCreate(CurrentMemoryContext, "tempo scan spans",
	                                                                 ALLOCSET_DEFAULT_SIZES));
	state->filter_batch = make_batch(state);
	state->row_batch = state->kit->batch;
}

/*
 * Walking: segments, ranges in them, runs in those.
 */

static void
start(TempoScanState *state)
{
	tempo_filter_start(state->filter, state->css.ss.ps.ps_ExprContext);
	tempo_walk_start(&state->walk);
	state->pending = NULL;
	state->in_pending = false;
	state->n_ranges = state->range = 0;
	state->n_found = state->next_found = 0;
	state->n_selected = state->next_selected = 0;
	state->window = MIN_RUN;
	state->started = true;
}

static int
compare_ranges(const void *a, const void *b)
{
	const RowRange *x = a;
	const RowRange *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Makes one range of those that follow each other. */
static void
join_ranges(TempoScanState *state)
{
	RowRange *ranges = state->ranges;
	uint32    n = 0;

	for (uint32 i = 0; i < state->n_ranges; i++)
	{
		if (n > 0 && ranges[i].first <= ranges[n - 1].end)
			ranges[n - 1].end = Max(ranges[n - 1].end, ranges[i].end);
		else
			ranges[n++] = ranges[i];
	}
	state->n_ranges = n;
}

/* The rows to look at in the open segment: the unit's, those of the traces asked for. */
static bool
find_ranges(TempoScanState *state)
{
	int            n_traces;
	const TraceId *traces = tempo_filter_traces(state->filter, &n_traces);
	SegmentReader *reader = tempo_segment_reader(state->walk.open);
	SpanError      error;

	state->range = 0;
	state->n_ranges = 0;
	if (traces == NULL)
	{
		state->ranges = MemoryContextAlloc(state->walk.open_context, sizeof(RowRange));
		state->ranges[0] = state->walk.unit->rows;
		state->n_ranges = 1;
	}
	else
	{
		state->ranges = MemoryContextAlloc(state->walk.open_context, sizeof(RowRange) * Max(n_traces, 1));
		for (int i = 0; i < n_traces; i++)
		{
			uint32 first;
			uint32 count;

			if (!segment_find_trace(reader, &traces[i], &first, &count, &error))
				tempo_segment_failed(state->walk.open, &error);
			/* a trace belongs to the unit in which it starts */
			if (count == 0 || first < state->walk.unit->rows.first || first >= state->walk.unit->rows.end)
				continue;
			state->ranges[state->n_ranges].first = first;
			state->ranges[state->n_ranges++].end = first + count;
		}
		qsort(state->ranges, state->n_ranges, sizeof(RowRange), compare_ranges);
	}
	join_ranges(state);
	state->row = state->n_ranges > 0 ? state->ranges[0].first : 0;
	return state->n_ranges > 0;
}

/* May any row of the open segment pass, as far as its footer tells? */
static bool
footer_passes(TempoScanState *state)
{
	int n_traces;

	if (!find_ranges(state))
		state->walk.counters.segments_traces++;
	else if (tempo_filter_traces(state->filter, &n_traces) != NULL ||
	         tempo_filter_segment(state->filter, state->walk.open))
		return true;
	else
		state->walk.counters.segments_values++;
	return false;
}

/* Opens the segment of the next unit that may have rows; false when there is none left. */
static bool
next_segment(TempoScanState *state)
{
	while (tempo_walk_next(&state->walk))
	{
		if (footer_passes(state))
		{
			state->walk.counters.segments_read++;
			return true;
		}
		state->n_ranges = 0;
	}
	return false;
}

/* Makes room for that many selected rows. */
static void
reserve_rows(TempoScanState *state, uint32 count)
{
	MemoryContext context = GetMemoryChunkContext(state);

	if (count <= state->selected_size)
		return;
	state->selected_size = Max(count, MAX_RUN);
	if (state->selected != NULL)
	{
		pfree(state->selected);
		pfree(state->span_of);
	}
	state->selected = MemoryContextAllocHuge(context, sizeof(uint32) * state->selected_size);
	state->span_of = MemoryContextAllocHuge(context, sizeof(uint32) * state->selected_size);
}

/* Makes room for what is found in that many rows. */
static void
reserve_found(TempoScanState *state, uint32 count)
{
	MemoryContext context = GetMemoryChunkContext(state);

	if (count <= state->found_size)
		return;
	if (state->found != NULL)
	{
		pfree(state->found);
		pfree(state->verdicts);
	}
	state->found = MemoryContextAlloc(context, sizeof(uint32) * ((Size) count + 1));
	state->verdicts = MemoryContextAlloc(context, vector_size(count));
	state->found_size = count;
}

/* Selects the spans of a batch in memory that pass. */
static void
select_spans(TempoScanState *state, SpanBatch *batch)
{
	tempo_filter_batch(state->filter, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
		if (tempo_filter_span(state->filter, &batch->spans[i]))
		{
			state->selected[state->n_selected] = i;
			state->span_of[state->n_selected++] = i;
		}
}

/*
 * The next rows of the open segment's ranges, all that one block has; false at the
 * end.  Rows in between that are in no range have the verdict ROW_OUT, the
 * others ROW_IN.
 */
static bool
next_run(TempoScanState *state, uint32 *first, uint32 *count)
{
	uint32 block_rows = segment_block_rows(tempo_segment_reader(state->walk.open));

	reserve_found(state, block_rows);
	while (state->range < state->n_ranges)
	{
		const RowRange *range = &state->ranges[state->range];
		uint32          block = state->row - state->row % block_rows;
		uint32          end = block + block_rows;
		uint32          n;

		if (state->row >= range->end)
		{
			if (++state->range < state->n_ranges)
				state->row = state->ranges[state->range].first;
			continue;
		}
		*first = state->row;
		*count = 0;
		for (;;)
		{
			n = Min(range->end, end) - state->row;
			memset(state->verdicts + *count, ROW_IN, n);
			*count += n;
			state->row += n;
			if (state->row < range->end || state->range + 1 == state->n_ranges || range[1].first >= end)
				break;
			range = &state->ranges[++state->range];
			n = range->first - state->row;
			memset(state->verdicts + *count, ROW_OUT, n);
			*count += n;
			state->row += n;
		}
		if (tempo_walk_block(&state->walk, block))
			return true;
	}
	return false;
}

/*
 * Makes room for the next run.  As long as memory allows, what runs share stays:
 * interned strings and resources, the reader's templates, results by name.
 */
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
decide_spans(TempoScanState *state, uint32 first, uint32 count)
{
	SpanBatch *batch = state->filter_batch;
	uint32     at = 0;

	while (at < count)
	{
		uint32 n = 0;

		while (n < MAX_RUN && next_undecided(state->verdicts, count, &at))
			state->found[n++] = first + at++;
		if (n == 0)
			break;
		empty_batch(batch);
		tempo_segment_decode_rows(state->walk.open, &state->filter_projection, state->found, n, batch);
		tempo_filter_batch(state->filter, batch);
		for (uint32 i = 0; i < n; i++)
			state->verdicts[state->found[i] - first] =
				tempo_filter_span(state->filter, &batch->spans[i]) ? ROW_IN : ROW_OUT;
		state->walk.counters.spans_undecided += n;
	}
}

/* Finds the rows of a run that pass, of those whose verdict is ROW_IN so far. */
static void
find_rows(TempoScanState *state, uint32 first, uint32 count)
{
	const TempoSegment *segment = state->walk.unit->segment;
	uint8              *verdicts = state->verdicts;
	const SegmentTest  *test = &state->filter->test;
	uint32              examined = 0;
	int                 n_traces;

	/* the ranges are what rows of these traces have */
	if (tempo_filter_traces(state->filter, &n_traces) != NULL)
		test = &state->filter->rest_of_test;
	for (uint32 i = 0; i < count && segment->deleted != NULL; i++)
		if (tempo_row_is_deleted(segment, first + i))
			verdicts[i] = ROW_OUT;
	for (uint32 i = 0; i < count; i++)
		examined += verdicts[i] == ROW_IN;
	if (test->n_conditions > 0)
	{
		empty_batch(state->filter_batch);
		tempo_segment_select(state->walk.open, &state->filter_projection, first, count, test,
		                     state->filter_batch, verdicts);
		decide_spans(state, first, count);
	}
	state->n_found = state->next_found = 0;
	for (uint32 i = 0; i < count; i++)
	{
		state->found[state->n_found] = first + i;
		state->n_found += verdicts[i] == ROW_IN;
	}
	state->walk.counters.spans_examined += examined;
	state->walk.counters.spans_filtered += examined - state->n_found;
	state->walk.counters.blocks_filtered += state->n_found == 0;
}

/* Decodes some of the rows that were found. */
static void
decode_found(TempoScanState *state)
{
	const uint32            *rows = state->found + state->next_found;
	uint32                   n = Min(state->n_found - state->next_found, state->window);
	const SegmentProjection *projection = &state->row_projection;
	bool                     empty = state->no_columns;

	reserve_rows(state, n);
	empty_batch(state->row_batch);
	state->rows = state->row_batch;
	if (!empty && rows[n - 1] - rows[0] == n - 1)
		tempo_segment_decode(state->walk.open, projection, rows[0], n, state->row_batch);
	else if (!empty)
		tempo_segment_decode_rows(state->walk.open, projection, rows, n, state->row_batch);
	memcpy(state->selected, rows, n * sizeof(uint32));
	for (uint32 i = 0; i < n; i++)
		state->span_of[i] = empty ? 0 : i;
	state->n_selected = n;
	state->next_selected = 0;
	state->next_found += n;
	state->window = Min(state->window * RUN_GROWTH, MAX_RUN);
	state->walk.counters.spans_decoded += empty ? 0 : n;
}

/* Selects rows of the open segment; false at its end. */
static bool
next_selection(TempoScanState *state)
{
	uint32 first;
	uint32 count;

	while (state->next_found >= state->n_found)
	{
		CHECK_FOR_INTERRUPTS();
		if (!next_run(state, &first, &count))
			return false;
		find_rows(state, first, count);
	}
	decode_found(state);
	tempo_row_reader_batch(state->reader, state->rows);
	return true;
}

/* The next of the batches in memory that has rows. */
static bool
next_pending(TempoScanState *state)
{
	state->in_pending = true;
	while ((state->pending = tempo_walk_pending(&state->walk)) != NULL)
	{
		/* interning keys in it does no harm */
		SpanBatch *batch = (SpanBatch *) tempo_pending_batch(state->pending);

		reserve_rows(state, batch->n_spans);
		state->rows = batch;
		state->n_selected = state->next_selected = 0;
		select_spans(state, batch);
		state->walk.counters.spans_filtered += batch->n_spans - state->n_selected;
		if (state->n_selected == 0)
			continue;
		tempo_row_reader_batch(state->reader, batch);
		return true;
	}
	return false;
}

static bool
advance(TempoScanState *state)
{
	if (!state->started)
		start(state);
	if (state->filter->never)
		return false;
	if (!state->in_pending)
	{
		for (;;)
		{
			if (state->walk.open != NULL && next_selection(state))
				return true;
			if (!next_segment(state))
				break;
		}
	}
	else if (state->pending == NULL)
		return false;
	return next_pending(state);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	TempoScanState *state = (TempoScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	MemoryContext   old;
	const Span     *span;
	uint32          row;

	ExecClearTuple(slot);
	while (state->next_selected >= state->n_selected)
		if (!advance(state))
			return slot;
	row = state->selected[state->next_selected];
	span = state->rows->n_spans > 0 ? &state->rows->spans[state->span_of[state->next_selected]] : &no_span;
	state->next_selected++;
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	tempo_row_reader_fill(state->reader, span, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	ExecStoreVirtualTuple(slot);
	if (state->in_pending)
		tempo_pending_tid(state->pending, row, &slot->tts_tid);
	else
		tempo_row_tid(state->walk.unit->segment, row, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(node->ss_currentRelation);
	pgstat_count_heap_getnext(node->ss_currentRelation);
	return slot;
}

/*
 * Rows never change, but what they are joined with may have: the conditions
 * that were pushed down are evaluated again.
 */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	TempoScanState *state = (TempoScanState *) node;
	ExprContext    *econtext = node->ps.ps_ExprContext;

	/* projection and conditions were compiled for a slot that has its values */
	slot_getallattrs(slot);
	econtext->ecxt_scantuple = slot;
	return ExecQual(state->recheck, econtext);
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
rescan(CustomScanState *node)
{
	TempoScanState *state = (TempoScanState *) node;

	tempo_walk_close(&state->walk);
	state->started = false;
	state->n_found = state->next_found = 0;
	state->n_selected = state->next_selected = 0;
	ExecScanReScan(&node->ss);
}

static void
end_scan(CustomScanState *node)
{
	TempoScanState *state = (TempoScanState *) node;

	tempo_walk_close(&state->walk);
	if (state->kit != NULL)
		tempo_row_kit_give_back(state->kit);
	state->kit = NULL;
}

static Size
estimate_shared(CustomScanState *node, ParallelContext *context)
{
	return tempo_walk_shared_size();
}

static void
initialize_shared(CustomScanState *node, ParallelContext *context, void *place)
{
	tempo_walk_share(&((TempoScanState *) node)->walk, place);
}

static void
reinitialize_shared(CustomScanState *node, ParallelContext *context, void *place)
{
	tempo_walk_reshare(place);
}

static void
attach_shared(CustomScanState *node, shm_toc *toc, void *place)
{
	tempo_walk_attach(&((TempoScanState *) node)->walk, place);
}

static void
shut_down(CustomScanState *node)
{
	tempo_walk_shut_down(&((TempoScanState *) node)->walk);
}

/*
 * EXPLAIN.
 */

static void
explain_conditions(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	List       *context;
	bool        prefix = TEMPO_EXPLAIN_RTABLE_SIZE(es) > 1 || es->verbose;

	if (plan->custom_exprs == NIL)
		return;
	context = set_deparse_context_plan(es->deparse_cxt, &plan->scan.plan, ancestors);
	ExplainPropertyText("Pushed Filter",
	                    deparse_expression((Node *) make_ands_explicit(plan->custom_exprs), context, prefix, false), es);
}

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	TempoScanState *state = (TempoScanState *) node;

	explain_conditions(node, ancestors, es);
	if (state->partial_keys)
	{
		List     *names = NIL;
		ListCell *cell;

		foreach (cell, state->keys)
			names = lappend(names, strVal(lfirst(cell)));
		ExplainPropertyList("Attribute Keys", names, es);
	}
	if (!es->analyze)
		return;
	if (state->filter->root->n_children > 0)
		ExplainPropertyText("Vectorised Conditions",
		                    psprintf("%d of %d", tempo_filter_vectorised(state->filter), state->filter->root->n_children), es);
	tempo_walk_explain(&state->walk, es);
}
