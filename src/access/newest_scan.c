/*-------------------------------------------------------------------------
 *
 * newest_scan.c
 *	  Executes the scan that returns the rows of whole traces, the newest trace
 *	  first, of those that have the spans that are asked for.
 *
 * The table is looked through in slices (newest_slices.h) for spans that
 * meet the conditions.  Their traces are candidates, ordered by an upper
 * bound of their start, the first span found.  When one comes first that is not yet
 * located, all its rows are looked up by its id and its real start is put in
 * the place of the bound.  When one comes first that starts after everything that
 * later slices can bring up, its rows are returned.
 *
 * So what is returned is known to be complete: no part of such a trace lies in
 * a later slice, and it can be forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/newest_state.h"

#include "access/compat.h"
#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/memory.h"
#include "access/parallel.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include TEMPO_EXPLAIN_HEADER
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

static Node           *create_state(CustomScan *plan);
static void            begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void            end_scan(CustomScanState *node);
static void            rescan(CustomScanState *node);
static void            explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);

const CustomScanMethods tempo_newest_methods = {.CustomName = "TempoNewestTraces",
                                                .CreateCustomScanState = create_state};

static const CustomExecMethods exec_methods = {.CustomName = "TempoNewestTraces",
                                               .BeginCustomScan = begin_scan,
                                               .ExecCustomScan = exec_scan,
                                               .EndCustomScan = end_scan,
                                               .ReScanCustomScan = rescan,
                                               .ExplainCustomScan = explain_scan};

static Node *
create_state(CustomScan *plan)
{
	NewestScanState *state = palloc0(sizeof(NewestScanState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

/*
 * Beginning: what to decode.
 */

static void
add_keys(SegmentProjection *projection, List *keys)
{
	SpanText *array = palloc(sizeof(SpanText) * (projection->n_keys + Max(list_length(keys), 1)));
	ListCell *cell;

	if (projection->n_keys > 0)
		memcpy(array, projection->keys, sizeof(SpanText) * projection->n_keys);
	foreach (cell, keys)
	{
		char *key = strVal(lfirst(cell));

		array[projection->n_keys++] = span_text(key, (uint32) strlen(key));
	}
	projection->keys = array;
}

static void
add_filter(SegmentProjection *projection, const ScanFilter *filter)
{
	List *keys = NIL;

	tempo_filter_needs(filter, &projection->parts, &keys);
	add_keys(projection, keys);
}

/*
 * The columns that expressions need, added to a projection; returns a reader that makes rows of
 * them.  Of the span's attributes "a" needs only "keys", if there are any.
 */
static TempoRowReader *
add_columns(NewestScanState *state, SegmentProjection *projection, Node *a, List *keys, Node *b)
{
	ScanNeeds         needs = {0};
	SegmentProjection columns;
	TempoRowReader   *reader;
	int               attributes = state->map->attno[TEMPO_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;
	int               resource =
		state->map->attno[TEMPO_RESOURCE_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;

	tempo_scan_needs(a, &state->target, &needs);
	if (keys != NIL && !needs.all_columns)
	{
		needs.all_keys = false;
		needs.keys = list_copy(keys);
	}
	tempo_scan_needs(b, &state->target, &needs);
	columns = tempo_projection(state->map, needs.columns, needs.all_columns);
	projection->parts |= columns.parts;
	if (needs.attributes && !needs.all_keys)
		add_keys(projection, needs.keys);
	else if (needs.attributes)
		projection->parts |= SEGMENT_ATTRIBUTES;
	if (needs.attributes)
		needs.columns = bms_add_member(needs.columns, attributes);
	reader = tempo_row_reader_create(state->map, needs.columns, needs.all_columns);
	/* tempo.attr() gets both columns as arguments, also where it looks at one */
	if (!needs.all_columns && !bms_is_member(resource, needs.columns))
		tempo_row_reader_blank(reader, TEMPO_RESOURCE_ATTRIBUTES);
	if (!needs.all_columns && !needs.attributes)
		tempo_row_reader_blank(reader, TEMPO_ATTRIBUTES);
	return reader;
}

static List *
first_of(List *list, int from, int n)
{
	List *result = NIL;

	for (int i = from; i < from + n; i++)
		result = lappend(result, list_nth(list, i));
	return result;
}

/*
 * A condition in two parts: what scans decide on spans, and what has to be asked of rows.
 * Returns the former.
 */
static List *
split_condition(NewestScanState *state, Expr *condition, List **odd)
{
	List     *known = NIL;
	ListCell *cell;

	*odd = NIL;
	foreach (cell, make_ands_implicit(condition))
	{
		if (tempo_filter_recognise(lfirst(cell), &state->target))
			known = lappend(known, lfirst(cell));
		else
			*odd = lappend(*odd, lfirst(cell));
	}
	return known;
}

/* The conditions one by one, where they have to be told apart or asked of rows. */
static void
make_conditions(NewestScanState *state, bool apart, List **known)
{
	PlanState *parent = &state->css.ss.ps;
	List      *odd[NEWEST_MAX_CONDITIONS];

	for (int i = 0; i < state->n_conditions; i++)
	{
		known[i] = split_condition(state, list_nth(state->conditions, i), &odd[i]);
		state->odd = list_concat(state->odd, odd[i]);
	}
	if (state->n_conditions == 0 || (!apart && state->odd == NIL))
		return;
	state->each = palloc(sizeof(ScanFilter *) * state->n_conditions);
	state->each_odd = palloc(sizeof(ExprState *) * state->n_conditions);
	for (int i = 0; i < state->n_conditions; i++)
	{
		state->each[i] = tempo_filter_create(known[i], &state->target, parent);
		state->each_odd[i] = ExecInitQual(odd[i], parent);
	}
}

/* Those that tell nobody of a row that is hidden from the user, and cannot fail on it. */
static List *
leakproof_ones(List *conditions)
{
	List     *result = NIL;
	ListCell *cell;

	foreach (cell, conditions)
		if (!contain_leaked_vars(lfirst(cell)))
			result = lappend(result, lfirst(cell));
	return result;
}

/*
 * What spans in slices must meet, and whether conditions have to be told apart.
 * If those that some row of a trace must meet may not be looked at before it is
 * known whether the user sees the row, their leakproof parts still find the rows.
 */
static void
make_filters(NewestScanState *state, CustomScan *plan)
{
	PlanState *parent = &state->css.ss.ps;
	int        n_pushed = intVal(list_nth(plan->custom_private, NEWEST_N_PUSHED));
	bool       all = true;
	bool       early = intVal(list_nth(plan->custom_private, NEWEST_EARLY)) != 0;
	List      *pushed = first_of(plan->custom_exprs, 0, n_pushed);
	List      *match = list_copy(pushed);
	List      *known[NEWEST_MAX_CONDITIONS];
	List      *any = NIL;

	state->n_conditions = intVal(list_nth(plan->custom_private, NEWEST_N_CONDITIONS));
	state->conditions = first_of(plan->custom_exprs, n_pushed, state->n_conditions);
	state->need = list_nth(plan->custom_private, NEWEST_NEED);
	if (list_length(plan->custom_exprs) > n_pushed + state->n_conditions)
		state->newest_state = ExecInitExpr(llast(plan->custom_exprs), parent);
	state->pushed = tempo_filter_create(pushed, &state->target, parent);
	make_conditions(state, state->n_conditions > 1 || !early, known);
	for (int i = 0; i < state->n_conditions && all; i++)
	{
		if (!early)
			known[i] = leakproof_ones(known[i]);
		/* one of which nothing is known lets everything pass */
		all = known[i] != NIL;
		any = lappend(any, make_ands_explicit(known[i]));
	}
	if (all && list_length(any) == 1)
		match = list_concat(match, known[0]);
	else if (all && any != NIL)
		match = lappend(match, makeBoolExpr(OR_EXPR, any, -1));
	state->match = tempo_filter_create(match, &state->target, parent);
}

static void
make_projections(NewestScanState *state, CustomScan *plan)
{
	List *rest = plan->scan.plan.qual;

	add_filter(&state->match_projection, state->match);
	for (int i = 0; i < state->n_conditions && state->each != NULL; i++)
		add_filter(&state->match_projection, state->each[i]);
	state->match_projection.parts |= SEGMENT_TRACE_ID | SEGMENT_START;
	add_filter(&state->start_projection, state->pushed);
	state->start_projection.parts |= SEGMENT_START;
	/* only where conditions may be asked about any row */
	if (rest == NIL && intVal(list_nth(plan->custom_private, NEWEST_EARLY)) != 0)
		state->relations = list_nth(plan->custom_private, NEWEST_RELATIONS);
	if (state->relations != NIL)
	{
		add_filter(&state->kinship_projection, state->match);
		for (int i = 0; i < state->n_conditions && state->each != NULL; i++)
			add_filter(&state->kinship_projection, state->each[i]);
		state->kinship_projection.parts |= SEGMENT_SPAN_ID | SEGMENT_PARENT;
	}
	add_filter(&state->row_projection, state->pushed);
	state->reader = add_columns(state, &state->row_projection, (Node *) plan->scan.plan.targetlist,
	                            list_nth(plan->custom_private, NEWEST_KEYS), (Node *) rest);
	if (rest == NIL && state->odd == NIL)
	{
		if (intVal(list_nth(plan->custom_private, NEWEST_EARLY)) != 0)
			state->n_verdicts = state->each != NULL ? state->n_conditions : 1;
		return;
	}
	state->match_reader =
		add_columns(state, &state->match_projection, (Node *) rest, NIL, (Node *) state->odd);
	if (rest == NIL)
		return;
	state->start_reader = add_columns(state, &state->start_projection, (Node *) rest, NIL, NULL);
}

static SpanBatch *
make_batch(NewestScanState *state)
{
	SpanBatch *batch = span_batch_create(&state->allocator, 0);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return batch;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	NewestScanState *state = (NewestScanState *) node;
	CustomScan      *plan = (CustomScan *) node->ss.ps.plan;

	state->map = tempo_column_map(RelationGetDescr(node->ss.ss_currentRelation));
	state->target.relid = plan->scan.scanrelid;
	state->target.map = state->map;
	make_filters(state, plan);
	make_projections(state, plan);
	state->context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo newest traces", ALLOCSET_DEFAULT_SIZES);
	state->open_context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo open segments", ALLOCSET_SMALL_SIZES);
	state->row_context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo scan row", ALLOCSET_DEFAULT_SIZES);
	state->allocator = tempo_context_allocator(
		AllocSetContextCreate(CurrentMemoryContext, "tempo scan spans", ALLOCSET_DEFAULT_SIZES));
	state->match_batch = make_batch(state);
	state->start_batch = make_batch(state);
	state->row_batch = make_batch(state);
	state->row_of = palloc(sizeof(uint32) * MAX_ROWS);
	state->verdicts = palloc(VERDICTS * Max(state->n_verdicts, 1));
}

/*
 * Locating: all rows of candidates, and their starts.
 */

static void
add_piece(NewestScanState *state, Candidate *candidate, bool pending, uint32 source, uint32 first,
          uint32 count)
{
	TracePiece *piece;

	if (candidate->pieces == NULL)
		candidate->pieces = MemoryContextAlloc(state->context, sizeof(TracePiece) * 2);
	else if (candidate->n_pieces >= 2 && (candidate->n_pieces & (candidate->n_pieces - 1)) == 0)
		candidate->pieces =
			repalloc(candidate->pieces, sizeof(TracePiece) * candidate->n_pieces * 2);
	piece = &candidate->pieces[candidate->n_pieces++];
	piece->pending = pending;
	piece->source = source;
	piece->first = first;
	piece->count = count;
}

/* Does the user see the row? */
static bool
is_visible(NewestScanState *state, TempoRowReader *reader, const Span *span)
{
	return tempo_filter_span(state->pushed, span) &&
	       tempo_newest_row_passes(state, reader, span, state->css.ss.ps.qual);
}

/* The first start among rows of a segment that the user sees. */
static void
take_start(NewestScanState *state, TempoOpenSegment *open, const TempoSegment *segment,
           Candidate *candidate, uint32 first, uint32 end)
{
	while (first < end)
	{
		uint32 count = Min(MAX_RUN, end - first);

		tempo_newest_empty(state->start_batch);
		tempo_segment_decode(open, &state->start_projection, first, count, state->start_batch);
		tempo_filter_batch(state->pushed, state->start_batch);
		if (state->start_reader != NULL)
			tempo_row_reader_batch(state->start_reader, state->start_batch);
		/* rows of a trace are in the order of their starts */
		for (uint32 i = 0; i < count; i++)
		{
			const Span *span = &state->start_batch->spans[i];

			if (tempo_row_is_deleted(segment, first + i) ||
			    !is_visible(state, state->start_reader, span))
				continue;
			candidate->start = Min(candidate->start, span->start_time_unix_nano);
			return;
		}
		first += count;
	}
}

/* Rows of a candidate in the segment that is being looked at. */
typedef struct Place
{
	Candidate *candidate;
	uint32     first;
	uint32     count;
} Place;

static int
compare_rows(const void *a, const void *b)
{
	const Place *x = a;
	const Place *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static void
take_starts(NewestScanState *state, TempoOpenSegment *open, const TempoSegment *segment,
            Place *places, int n)
{
	bool sure = state->pushed->root->n_children == 0 && state->start_reader == NULL &&
	            segment->deleted == NULL;

	qsort(places, n, sizeof(Place), compare_rows);
	for (int i = 0; i < n; i++)
	{
		Place    *place = &places[i];
		SpanError error;
		int64     start;

		if (!sure)
			take_start(state, open, segment, place->candidate, place->first,
			           place->first + place->count);
		else if (segment_row_start(tempo_segment_reader(open), place->first, &start, &error))
			place->candidate->start = Min(place->candidate->start, start);
		else
			tempo_segment_failed(open, &error);
	}
	/* looking at relations pays if many traces lack them: not before some have come back */
	for (int i = 0;
	     i < n && state->relations != NIL && state->counters.traces_returned >= FIRST_AT_ONCE; i++)
		places[i].candidate->unrelated =
			places[i].candidate->n_pieces == 1 &&
			tempo_newest_unrelated(state, open, segment, places[i].first, places[i].count);
}

static void
locate_in_segment(NewestScanState *state, uint32 number, Candidate **candidates, int n)
{
	const TempoSegment *segment = &state->segments[number];
	MemoryContext       old = MemoryContextSwitchTo(state->open_context);
	Place              *places = palloc(sizeof(Place) * n);
	int                 n_places = 0;
	TempoOpenSegment   *open = tempo_segment_open(state->css.ss.ss_currentRelation, segment, NULL);

	MemoryContextSwitchTo(old);
	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < n; i++)
	{
		Place    *place = &places[n_places];
		SpanError error;

		if (!segment_find_trace(tempo_segment_reader(open), &candidates[i]->id, &place->first,
		                        &place->count, &error))
			tempo_segment_failed(open, &error);
		if (place->count == 0)
			continue;
		place->candidate = candidates[i];
		add_piece(state, candidates[i], false, number, place->first, place->count);
		n_places++;
	}
	take_starts(state, open, segment, places, n_places);
	tempo_segment_close(open);
}

static void
locate_in_pending(NewestScanState *state, Candidate *candidate)
{
	ListCell *cell;

	foreach (cell, state->pendings)
	{
		SpanBatch *batch = (SpanBatch *) tempo_pending_batch(lfirst(cell));

		CHECK_FOR_INTERRUPTS();
		tempo_filter_batch(state->pushed, batch);
		if (state->start_reader != NULL)
			tempo_row_reader_batch(state->start_reader, batch);
		for (uint32 i = 0; i < batch->n_spans; i++)
		{
			const Span *span = &batch->spans[i];

			if (memcmp(&span->trace_id, &candidate->id, sizeof(TraceId)) != 0)
				continue;
			add_piece(state, candidate, true, (uint32) foreach_current_index(cell), i, 1);
			if (is_visible(state, state->start_reader, span))
				candidate->start = Min(candidate->start, span->start_time_unix_nano);
		}
	}
}

/*
 * Looks candidates up where they may have begun when they are still wanted, and then, of
 * those that have, in all other segments.
 */
static void
locate_all(NewestScanState *state, Candidate **candidates, int n)
{
	int wanted = 0;

	for (uint32 s = 0; s < state->n_segments && n > 0; s++)
		if (state->segments[s].summary.min_start_nano <= state->newest_wanted)
			locate_in_segment(state, s, candidates, n);
	for (int i = 0; i < n; i++)
	{
		Candidate *candidate = candidates[i];

		if (candidate->start <= state->newest_wanted)
		{
			candidates[i] = candidates[wanted];
			candidates[wanted++] = candidate;
		}
	}
	for (uint32 s = 0; s < state->n_segments && wanted > 0; s++)
		if (state->segments[s].summary.min_start_nano > state->newest_wanted)
			locate_in_segment(state, s, candidates, wanted);
}

/* A candidate is not wanted: it is remembered only if more of it may be found. */
static void
drop(NewestScanState *state, Candidate *candidate)
{
	if (candidate->pieces != NULL)
		pfree(candidate->pieces);
	candidate->pieces = NULL;
	candidate->state = CANDIDATE_DONE;
	if (state->exhausted || candidate->start > state->bound)
		hash_search(state->candidates, &candidate->id, HASH_REMOVE, NULL);
}

/* Finds the rows and the real start of the first candidates, and puts them back. */
static void
locate(NewestScanState *state)
{
	int         at_once = state->at_once;
	Candidate **candidates =
		MemoryContextAlloc(state->open_context, sizeof(Candidate *) * at_once * 2);
	Candidate **located = candidates + at_once;
	int         n = 0;
	int         n_located = 0;

	while (n < at_once && n_located < at_once && !pairingheap_is_empty(state->heap))
	{
		Candidate *candidate =
			pairingheap_container(Candidate, node, pairingheap_first(state->heap));

		if (!state->exhausted && candidate->start <= state->bound)
			break;
		(void) pairingheap_remove_first(state->heap);
		if (candidate->state == CANDIDATE_BOUNDED)
			candidates[n++] = candidate;
		else
			located[n_located++] = candidate;
	}
	for (int i = 0; i < n; i++)
		locate_in_pending(state, candidates[i]);
	locate_all(state, candidates, n);
	for (int i = 0; i < n; i++)
	{
		state->counters.traces_located++;
		if (candidates[i]->n_pieces > 1)
			candidates[i]->unrelated = false;
		state->counters.traces_unrelated += candidates[i]->unrelated;
		if (candidates[i]->start > state->newest_wanted || candidates[i]->unrelated)
		{
			drop(state, candidates[i]);
			continue;
		}
		candidates[i]->state = CANDIDATE_LOCATED;
		pairingheap_add(state->heap, &candidates[i]->node);
	}
	for (int i = 0; i < n_located; i++)
		pairingheap_add(state->heap, &located[i]->node);
	MemoryContextReset(state->open_context);
}

/*
 * Returning: the rows of the traces that come next.
 */

/* Nobody will ask for them again. */
static void
forget_wave(NewestScanState *state)
{
	ListCell *cell;

	foreach (cell, state->wave)
	{
		Candidate *candidate = lfirst(cell);

		if (candidate->pieces != NULL)
			pfree(candidate->pieces);
		hash_search(state->candidates, &candidate->id, HASH_REMOVE, NULL);
	}
	list_free(state->wave);
	list_free(state->pieces);
	state->wave = state->pieces = NIL;
	state->next_piece = 0;
	state->next_row = 0;
}

/* Takes the traces that are known to come next; false if there is none. */
static bool
next_wave(NewestScanState *state)
{
	MemoryContext old;

	forget_wave(state);
	while (list_length(state->wave) < state->at_once)
	{
		Candidate *candidate = NULL;

		if (!pairingheap_is_empty(state->heap))
			candidate = pairingheap_container(Candidate, node, pairingheap_first(state->heap));
		if (candidate == NULL || (!state->exhausted && candidate->start <= state->bound))
		{
			if (state->wave != NIL || state->exhausted)
				break;
			tempo_newest_search_slice(state);
		}
		else if (candidate->state == CANDIDATE_BOUNDED)
			locate(state);
		else
		{
			(void) pairingheap_remove_first(state->heap);
			old = MemoryContextSwitchTo(state->context);
			state->wave = lappend(state->wave, candidate);
			for (int i = 0; i < candidate->n_pieces; i++)
				state->pieces = lappend(state->pieces, &candidate->pieces[i]);
			MemoryContextSwitchTo(old);
			state->counters.traces_returned++;
		}
	}
	state->at_once = Min(state->at_once * 2, MOST_AT_ONCE);
	return state->wave != NIL;
}

/* Rows of a segment that are decoded together. */
typedef struct PieceRun
{
	TracePiece piece;
	uint32     begin; /* its first span in the batch */
	uint32     order; /* in which it is returned */
} PieceRun;

static int
compare_places(const void *a, const void *b)
{
	const PieceRun *x = a;
	const PieceRun *y = b;

	if (x->piece.source != y->piece.source)
		return x->piece.source < y->piece.source ? -1 : 1;
	return x->piece.first < y->piece.first ? -1 : x->piece.first > y->piece.first;
}

static int
compare_orders(const void *a, const void *b)
{
	const PieceRun *x = a;
	const PieceRun *y = b;

	return x->order < y->order ? -1 : x->order > y->order;
}

static void
reserve_rows(NewestScanState *state, uint32 count)
{
	if (count <= state->selected_size)
		return;
	state->selected_size = count;
	if (state->selected != NULL)
		pfree(state->selected);
	state->selected = MemoryContextAllocHuge(GetMemoryChunkContext(state), sizeof(uint32) * count);
}

/* The next pieces in segments that fit, all of a trace or a part of a long one. */
static PieceRun *
take_runs(NewestScanState *state, uint32 *n_runs, uint32 *n_rows)
{
	PieceRun *runs = MemoryContextAlloc(
		state->open_context, sizeof(PieceRun) * (list_length(state->pieces) - state->next_piece));

	*n_runs = *n_rows = 0;
	while (state->next_piece < list_length(state->pieces))
	{
		TracePiece *piece = list_nth(state->pieces, state->next_piece);
		uint32      left = piece->count - state->next_row;
		PieceRun   *run = &runs[*n_runs];

		if (piece->pending || (*n_rows > 0 && *n_rows + left > MAX_ROWS))
			break;
		run->piece = *piece;
		run->piece.first += state->next_row;
		run->piece.count = Min(left, MAX_ROWS);
		run->order = (*n_runs)++;
		*n_rows += run->piece.count;
		state->next_row += run->piece.count;
		if (run->piece.count < left)
			break;
		state->next_row = 0;
		state->next_piece++;
	}
	return runs;
}

/* Decodes the next pieces that lie in segments, each segment once and in order. */
static void
decode_runs(NewestScanState *state)
{
	uint32            n_runs;
	uint32            n_rows;
	PieceRun         *runs = take_runs(state, &n_runs, &n_rows);
	TempoOpenSegment *open = NULL;

	qsort(runs, n_runs, sizeof(PieceRun), compare_places);
	tempo_newest_empty(state->row_batch);
	reserve_rows(state, n_rows);
	for (uint32 i = 0; i < n_runs; i++)
	{
		if (i == 0 || runs[i].piece.source != runs[i - 1].piece.source)
		{
			MemoryContext old = MemoryContextSwitchTo(state->open_context);

			if (open != NULL)
				tempo_segment_close(open);
			open = tempo_segment_open(state->css.ss.ss_currentRelation,
			                          &state->segments[runs[i].piece.source], NULL);
			MemoryContextSwitchTo(old);
			state->counters.segments_read++;
		}
		runs[i].begin = state->row_batch->n_spans;
		tempo_segment_decode(open, &state->row_projection, runs[i].piece.first, runs[i].piece.count,
		                     state->row_batch);
	}
	if (open != NULL)
		tempo_segment_close(open);
	state->counters.spans_decoded += n_rows;
	qsort(runs, n_runs, sizeof(PieceRun), compare_orders);
	tempo_filter_batch(state->pushed, state->row_batch);
	for (uint32 i = 0; i < n_runs; i++)
	{
		const TempoSegment *segment = &state->segments[runs[i].piece.source];

		for (uint32 j = 0; j < runs[i].piece.count; j++)
			if (!tempo_row_is_deleted(segment, runs[i].piece.first + j) &&
			    tempo_filter_span(state->pushed, &state->row_batch->spans[runs[i].begin + j]))
				state->selected[state->n_selected++] = runs[i].begin + j;
	}
	state->rows = state->row_batch;
	MemoryContextReset(state->open_context);
}

/* Fills "selected" with rows to return; false if there are no more. */
static bool
next_rows(NewestScanState *state)
{
	TracePiece *piece;
	SpanBatch  *batch;

	state->n_selected = state->next_selected = 0;
	if (state->next_piece >= list_length(state->pieces) && !next_wave(state))
		return false;
	if (state->next_piece >= list_length(state->pieces))
		return true; /* of traces without a row left */
	piece = list_nth(state->pieces, state->next_piece);
	if (!piece->pending)
		decode_runs(state);
	else
	{
		state->next_piece++;
		batch = (SpanBatch *) tempo_pending_batch(list_nth(state->pendings, (int) piece->source));
		reserve_rows(state, 1);
		tempo_filter_batch(state->pushed, batch);
		if (tempo_filter_span(state->pushed, &batch->spans[piece->first]))
			state->selected[state->n_selected++] = piece->first;
		state->rows = batch;
	}
	if (state->n_selected > 0)
		tempo_row_reader_batch(state->reader, state->rows);
	return true;
}

/*
 * Starting.
 */

/* What the own transaction has in memory because it could not be flushed. */
static void
search_pending(NewestScanState *state)
{
	ScanState         *node = &state->css.ss;
	TempoInsertBuffer *pending = NULL;

	state->pendings = NIL;
	if (IsParallelWorker())
		return;
	while ((pending = tempo_pending_next(node->ss_currentRelation, node->ps.state->es_snapshot,
	                                     pending)) != NULL)
	{
		SpanBatch    *batch = (SpanBatch *) tempo_pending_batch(pending);
		MemoryContext old = MemoryContextSwitchTo(state->context);

		state->pendings = lappend(state->pendings, pending);
		MemoryContextSwitchTo(old);
		tempo_newest_search_pending(state, batch);
	}
	state->last = NULL;
}

static void
start_filters(NewestScanState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;

	tempo_filter_start(state->match, econtext);
	tempo_filter_start(state->pushed, econtext);
	for (int i = 0; i < state->n_conditions && state->each != NULL; i++)
		tempo_filter_start(state->each[i], econtext);
	state->newest_wanted = PG_INT64_MAX;
	if (state->newest_state != NULL)
	{
		bool  isnull;
		Datum value = ExecEvalExprSwitchContext(state->newest_state, econtext, &isnull);

		state->newest_wanted = isnull ? PG_INT64_MIN : DatumGetInt64(value);
	}
}

static RowsHidden
rows_hidden(NewestScanState *state)
{
	const FilterNode *root = state->pushed->root;

	if (state->css.ss.ps.qual != NULL)
		return ROWS_HIDDEN;
	for (int i = 0; i < root->n_children; i++)
		if (root->children[i]->type != FILTER_TEXT || root->children[i]->column != TEMPO_TENANT)
			return ROWS_HIDDEN;
	return root->n_children > 0 ? ROWS_HIDDEN_OF_TENANTS : ROWS_NOT_HIDDEN;
}

static void
start(NewestScanState *state)
{
	ScanState         *node = &state->css.ss;
	Relation           rel = node->ss_currentRelation;
	TempoSegmentBounds bounds = {PG_INT64_MIN, PG_INT64_MAX, 0};
	HASHCTL            control = {0};
	MemoryContext      old;

	/* own rows become a segment before they are looked for */
	if (!IsInParallelMode())
		tempo_flush_inserts(RelationGetRelid(rel));
	start_filters(state);
	state->wave = state->pieces = NIL;
	state->next_piece = 0;
	state->next_row = 0;
	state->n_selected = state->next_selected = 0;
	state->last = NULL;
	state->n_segments = 0;
	MemoryContextReset(state->context);
	old = MemoryContextSwitchTo(state->context);
	control.keysize = sizeof(TraceId);
	control.entrysize = sizeof(Candidate);
	control.hcxt = state->context;
	state->candidates =
		hash_create("tempo candidates", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	state->heap = pairingheap_allocate(tempo_newest_compare, NULL);
	state->bound = PG_INT64_MAX;
	state->at_once = FIRST_AT_ONCE;
	state->exhausted = state->match->never;
	if (!state->exhausted)
	{
		tempo_filter_bounds(state->pushed, &bounds.min_start, &bounds.end_start, &bounds.tenants);
		state->segments =
			tempo_directory_list(rel, node->ps.state->es_snapshot, &bounds, &state->n_segments);
		state->slices =
			tempo_slices_create(rel, state->segments, state->n_segments, state->match,
		                        rows_hidden(state), state->newest_wanted, &state->counters.slices);
	}
	MemoryContextSwitchTo(old);
	if (!state->exhausted)
		search_pending(state);
	state->started = true;
	pgstat_count_heap_scan(rel);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	NewestScanState *state = (NewestScanState *) node;
	TupleTableSlot  *slot = node->ss_ScanTupleSlot;
	MemoryContext    old;

	ExecClearTuple(slot);
	if (!state->started)
		start(state);
	while (state->next_selected >= state->n_selected)
		if (!next_rows(state))
			return slot;
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	tempo_row_reader_fill(state->reader,
	                      &state->rows->spans[state->selected[state->next_selected++]],
	                      slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(node->ss_currentRelation);
	pgstat_count_heap_getnext(node->ss_currentRelation);
	return slot;
}

/* What is grouped is never locked, so there is nothing to look at again. */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
rescan(CustomScanState *node)
{
	NewestScanState *state = (NewestScanState *) node;

	state->started = false;
	state->n_selected = state->next_selected = 0;
	ExecScanReScan(&node->ss);
}

static void
end_scan(CustomScanState *node)
{
	/* segments are open only briefly, and memory goes with the query's */
}

/*
 * EXPLAIN
 */

static void
explain_expression(const char *label, Expr *expression, CustomScanState *node, List *ancestors,
                   ExplainState *es)
{
	bool  prefix = TEMPO_EXPLAIN_RTABLE_SIZE(es) > 1 || es->verbose;
	List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);

	ExplainPropertyText(label, deparse_expression((Node *) expression, context, prefix, false), es);
}

static Expr *
need_expression(NewestScanState *state, const Node *need)
{
	const List *list = (const List *) need;
	List       *args = NIL;

	if (IsA(need, Integer))
		return list_nth(state->conditions, intVal(need));
	for (int i = 1; i < list_length(list); i++)
		args = lappend(args, need_expression(state, list_nth(list, i)));
	return makeBoolExpr(intVal(linitial(list)) == NEWEST_AND ? AND_EXPR : OR_EXPR, args, -1);
}

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	NewestScanState *state = (NewestScanState *) node;
	NewestCounters  *counters = &state->counters;
	CustomScan      *plan = (CustomScan *) node->ss.ps.plan;
	int              n_pushed = intVal(list_nth(plan->custom_private, NEWEST_N_PUSHED));

	if (n_pushed > 0)
		explain_expression("Pushed Filter",
		                   make_ands_explicit(first_of(plan->custom_exprs, 0, n_pushed)), node,
		                   ancestors, es);
	if (state->need != NULL)
		explain_expression("Traces With", need_expression(state, state->need), node, ancestors, es);
	if (!es->analyze)
		return;
	ExplainPropertyInteger("Slices", NULL, counters->slices.slices, es);
	if (counters->slices.segments_zone > 0)
		ExplainPropertyInteger("Segments Pruned by Zone Map", NULL, counters->slices.segments_zone,
		                       es);
	if (counters->slices.segments_lists > 0)
		ExplainPropertyInteger("Segments Pruned by Footer", NULL, counters->slices.segments_lists,
		                       es);
	if (counters->slices.blocks_zone > 0)
		ExplainPropertyInteger("Blocks Pruned by Zone Map", NULL, counters->slices.blocks_zone, es);
	ExplainPropertyInteger("Spans Searched", NULL, counters->spans_searched, es);
	ExplainPropertyInteger("Traces Located", NULL, counters->traces_located, es);
	if (state->relations != NIL)
		ExplainPropertyInteger("Traces Without Related Spans", NULL, counters->traces_unrelated,
		                       es);
	ExplainPropertyInteger("Traces Returned", NULL, counters->traces_returned, es);
	ExplainPropertyInteger("Spans Decoded", NULL, counters->spans_decoded, es);
}
