/*-------------------------------------------------------------------------
 *
 * newest_search.c
 *	  Looks through slices of a table for spans that meet conditions; their traces
 *	  become candidates of the scan of the newest traces (newest_scan.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/newest_state.h"

#include "access/deletions.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/*
 * As long as memory allows, what runs share stays: interned strings and
 * resources, the reader's templates, results by name.
 */
void
tempo_newest_empty(SpanBatch *batch)
{
	if (span_batch_memory(batch) > BATCH_BYTES)
		span_batch_reset(batch);
	else
		span_batch_truncate(batch, 0);
}

/*
 * Candidates.
 */

/* The one that starts last is first; of those that start together, any that is only bounded. */
int
tempo_newest_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Candidate *x = pairingheap_const_container(Candidate, node, a);
	const Candidate *y = pairingheap_const_container(Candidate, node, b);

	if (x->start != y->start)
		return x->start > y->start ? 1 : -1;
	if (x->state != y->state)
		return x->state == CANDIDATE_BOUNDED ? 1 : -1;
	return -memcmp(&x->id, &y->id, sizeof(TraceId));
}

static bool
need_is_met(const Node *need, uint32 met)
{
	bool all;

	if (need == NULL)
		return true;
	if (IsA(need, Integer))
		return (met & (1U << intVal(need))) != 0;
	all = intVal(linitial((const List *) need)) == NEWEST_AND;
	for (int i = 1; i < list_length((const List *) need); i++)
		if (need_is_met(list_nth((const List *) need, i), met) != all)
			return !all;
	return all;
}

static void
found_span(NewestScanState *state, const Span *span, uint32 met)
{
	Candidate *candidate = state->last;

	if (candidate == NULL || memcmp(&candidate->id, &span->trace_id, sizeof(TraceId)) != 0)
	{
		bool known;

		candidate = hash_search(state->candidates, &span->trace_id, HASH_ENTER, &known);
		if (!known)
		{
			candidate->start = span->start_time_unix_nano;
			candidate->met = 0;
			candidate->state = CANDIDATE_PARTIAL;
			candidate->n_pieces = 0;
			candidate->unrelated = false;
			candidate->pieces = NULL;
		}
		state->last = candidate;
	}
	if (candidate->state > CANDIDATE_BOUNDED)
		return;
	candidate->met |= met;
	if (candidate->state == CANDIDATE_PARTIAL)
	{
		candidate->start = Min(candidate->start, span->start_time_unix_nano);
		if (!need_is_met(state->need, candidate->met))
			return;
		candidate->state = CANDIDATE_BOUNDED;
		pairingheap_add(state->heap, &candidate->node);
	}
	else if (span->start_time_unix_nano < candidate->start)
	{
		pairingheap_remove(state->heap, &candidate->node);
		candidate->start = span->start_time_unix_nano;
		pairingheap_add(state->heap, &candidate->node);
	}
}

/* Does the row of a span pass?  Without a condition it does. */
bool
tempo_newest_row_passes(NewestScanState *state, TempoRowReader *reader, const Span *span,
                        ExprState *qual)
{
	ScanState      *node = &state->css.ss;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	MemoryContext   old;
	bool            result;

	if (qual == NULL)
		return true;
	ExecClearTuple(slot);
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	tempo_row_reader_fill(reader, span, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(node->ss_currentRelation);
	node->ps.ps_ExprContext->ecxt_scantuple = slot;
	result = ExecQual(qual, node->ps.ps_ExprContext);
	ResetExprContext(node->ps.ps_ExprContext);
	ExecClearTuple(slot);
	return result;
}

/* The conditions that a span meets, of which all rows that the user may see are decoded. */
static uint32
conditions_met(NewestScanState *state, const Span *span)
{
	const Candidate *candidate = state->last;
	uint32           known = 0;
	uint32           met = 0;

	if (candidate != NULL && memcmp(&candidate->id, &span->trace_id, sizeof(TraceId)) == 0)
	{
		/* more spans change nothing but the bound */
		if (candidate->state >= CANDIDATE_BOUNDED && span->start_time_unix_nano >= candidate->start)
			return 0;
		known = candidate->met;
	}
	if (!tempo_filter_span(state->match, span) ||
	    !tempo_newest_row_passes(state, state->match_reader, span, state->css.ss.ps.qual))
		return 0;
	if (state->each == NULL)
		return 1;
	for (int c = 0; c < state->n_conditions; c++)
		if ((known & (1U << c)) == 0 && tempo_filter_span(state->each[c], span) &&
		    tempo_newest_row_passes(state, state->match_reader, span, state->each_odd[c]))
			met |= 1U << c;
	return met;
}

/* The same for row "at" of the run, about which verdicts are known. */
static uint32
verdicts_met(NewestScanState *state, const Span *span, uint32 at)
{
	uint32 met = 0;

	for (int c = 0; c < state->n_verdicts; c++)
	{
		uint8 verdict = state->verdicts[c * VERDICTS + at];

		if (verdict == ROW_IN ||
		    (verdict == ROW_MAYBE &&
		     tempo_filter_span(state->each != NULL ? state->each[c] : state->match, span)))
			met |= 1U << c;
	}
	return met;
}

/* Looks at decoded spans; of verdicts, if there are any, that for row "first" is the first. */
static void
search_batch(NewestScanState *state, SpanBatch *batch, bool verdicts, uint32 first)
{
	tempo_filter_batch(state->match, batch);
	tempo_filter_batch(state->pushed, batch);
	for (int c = 0; c < state->n_conditions && state->each != NULL; c++)
		tempo_filter_batch(state->each[c], batch);
	if (state->match_reader != NULL)
		tempo_row_reader_batch(state->match_reader, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];
		uint32      met = verdicts ? verdicts_met(state, span, state->row_of[i] - first) : conditions_met(state, span);

		if (met != 0)
			found_span(state, span, met);
	}
}

static void
add_verdict(NewestScanState *state, TempoOpenSegment *open, uint32 first, uint32 count,
            ScanFilter *filter, uint8 *verdicts)
{
	if (filter->root->n_children > 0)
		tempo_segment_select(open, &state->match_projection, first, count, &filter->test,
		                     state->match_batch, verdicts);
}

/*
 * Verdicts about the rows, for each condition by itself if true is returned.  Conditions may fail,
 * so if it takes decoding to tell what the user may see there is one verdict, on that.
 */
static bool
give_verdicts(NewestScanState *state, TempoOpenSegment *open, const TempoSegment *segment,
              uint32 first, uint32 count)
{
	uint8 *verdicts = state->verdicts;

	memset(verdicts, ROW_IN, count);
	for (uint32 i = 0; i < count && segment->deleted != NULL; i++)
		if (tempo_row_is_deleted(segment, first + i))
			verdicts[i] = ROW_OUT;
	if (state->each == NULL || state->n_verdicts == 0)
	{
		add_verdict(state, open, first, count, state->match, verdicts);
		return state->n_verdicts > 0;
	}
	add_verdict(state, open, first, count, state->pushed, verdicts);
	if (memchr(verdicts, ROW_MAYBE, count) != NULL)
		return false;
	for (int c = state->n_verdicts - 1; c >= 0; c--)
	{
		if (c > 0)
			memcpy(verdicts + c * VERDICTS, verdicts, count);
		add_verdict(state, open, first, count, state->each[c], verdicts + c * VERDICTS);
	}
	return true;
}

/*
 * Which rows to decode: of each trace those that may meet a condition that no row before
 * them surely meets.
 */
static uint32
choose_rows(NewestScanState *state, TempoOpenSegment *open, uint32 first, uint32 count)
{
	uint32 end = first; /* of the trace */
	uint32 sure = 0;
	uint32 all = state->n_verdicts == 32 ? PG_UINT32_MAX : (1U << state->n_verdicts) - 1;
	uint32 n = 0;

	for (uint32 i = 0; i < count; i++)
	{
		SpanError error;
		bool      wanted = false;

		if (first + i >= end)
			sure = 0;
		else if (sure == all)
		{
			i = Min(end - first, count) - 1;
			continue;
		}
		for (int c = 0; c < state->n_verdicts; c++)
		{
			uint8 verdict = state->verdicts[c * VERDICTS + i];

			if (verdict == ROW_OUT || (sure & (1U << c)) != 0)
				continue;
			wanted = true;
			if (first + i >= end &&
			    !segment_trace_end(tempo_segment_reader(open), first + i, &end, &error))
				tempo_segment_failed(open, &error);
			if (verdict == ROW_IN)
				sure |= 1U << c;
		}
		if (wanted)
			state->row_of[n++] = first + i;
	}
	return n;
}

/*
 * Decodes the rows that may match; row_of says which they are.  Returns whether verdicts
 * tell the conditions apart.
 */
static bool
select_rows(NewestScanState *state, TempoOpenSegment *open, const TempoSegment *segment,
            uint32 first, uint32 count)
{
	bool   verdicts = give_verdicts(state, open, segment, first, count);
	uint32 n = 0;

	if (verdicts)
		n = choose_rows(state, open, first, count);
	else
		for (uint32 i = 0; i < count; i++)
			if (state->verdicts[i] != ROW_OUT)
				state->row_of[n++] = first + i;
	if (n == count)
		tempo_segment_decode(open, &state->match_projection, first, count, state->match_batch);
	else if (n > 0)
		tempo_segment_decode_rows(open, &state->match_projection, state->row_of, n,
		                          state->match_batch);
	return verdicts;
}

static void
search_range(NewestScanState *state, const SliceRange *range)
{
	const TempoSegment *segment = &state->segments[range->segment];
	MemoryContext       old = MemoryContextSwitchTo(state->open_context);
	TempoOpenSegment   *open = tempo_segment_open(state->css.ss.ss_currentRelation, segment, NULL);

	MemoryContextSwitchTo(old);
	for (uint32 first = range->first; first < range->end; first += MAX_RUN)
	{
		uint32 count = Min(MAX_RUN, range->end - first);
		bool   verdicts;

		CHECK_FOR_INTERRUPTS();
		tempo_newest_empty(state->match_batch);
		verdicts = select_rows(state, open, segment, first, count);
		search_batch(state, state->match_batch, verdicts, first);
		state->counters.spans_searched += count;
	}
	tempo_segment_close(open);
}

void
tempo_newest_search_slice(NewestScanState *state)
{
	SliceRange *ranges;
	uint32      n_ranges;

	if (!tempo_slices_next(state->slices, &ranges, &n_ranges, &state->bound))
	{
		state->exhausted = true;
		return;
	}
	for (uint32 i = 0; i < n_ranges; i++)
		search_range(state, &ranges[i]);
	MemoryContextReset(state->open_context);
	state->last = NULL;
}

void
tempo_newest_search_pending(NewestScanState *state, SpanBatch *batch)
{
	search_batch(state, batch, false, 0);
}
