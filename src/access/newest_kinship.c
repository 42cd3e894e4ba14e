/*-------------------------------------------------------------------------
 *
 * newest_kinship.c
 *	  Traces in which no spans are related as HAVING asks with tempo.may_be_related()
 *	  are left out by the scan of the newest traces, before rows are made of them.
 *
 * Only whole traces are looked at, those that have all their rows in one place;
 * the aggregate itself decides about the others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/newest_state.h"

#include "access/deletions.h"
#include "span/kinship.h"
#include "utils/memutils.h"

/* A condition; what lets more spans pass will do. */
static ScanFilter *
filter_of(NewestScanState *state, int condition)
{
	return state->each != NULL ? state->each[condition] : state->match;
}

static uint64
read_id(const SpanId *id)
{
	uint64 result;

	memcpy(&result, id->bytes, sizeof(result));
	return result;
}

/* The spans of the decoded trace that the user sees. */
static uint32
read_spans(NewestScanState *state, const TempoSegment *segment, uint32 first, KinSpan *spans)
{
	const SpanBatch *batch = state->start_batch;
	uint32           n = 0;

	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];

		if (tempo_row_is_deleted(segment, first + i) || !tempo_filter_span(state->pushed, span))
			continue;
		spans[n].id = read_id(&span->span_id);
		spans[n].parent = read_id(&span->parent_span_id);
		spans[n++].row = i;
	}
	return n;
}

bool
tempo_newest_unrelated(NewestScanState *state, TempoOpenSegment *open, const TempoSegment *segment,
                       uint32 first, uint32 count)
{
	MemoryContext old;
	KinSpan      *spans;
	uint32        n;
	void         *scratch;
	bool          unrelated = false;
	ListCell     *cell;

	if (count > MAX_ROWS)
		return false;
	tempo_newest_empty(state->start_batch);
	tempo_segment_decode(open, &state->kinship_projection, first, count, state->start_batch);
	tempo_filter_batch(state->pushed, state->start_batch);
	MemoryContextReset(state->row_context);
	old = MemoryContextSwitchTo(state->row_context);
	spans = palloc(sizeof(KinSpan) * count);
	scratch = palloc(kinship_scratch(count));
	n = read_spans(state, segment, first, spans);
	MemoryContextSwitchTo(old);
	foreach (cell, state->relations)
	{
		const List *relation = lfirst(cell);
		ScanFilter *above = filter_of(state, lsecond_int(relation));
		ScanFilter *below = filter_of(state, lthird_int(relation));

		tempo_filter_batch(above, state->start_batch);
		tempo_filter_batch(below, state->start_batch);
		for (uint32 i = 0; i < n; i++)
		{
			const Span *span = &state->start_batch->spans[spans[i].row];

			spans[i].above = tempo_filter_span(above, span);
			spans[i].below = tempo_filter_span(below, span);
		}
		if (!kinship_possible(spans, n, linitial_int(relation) != 0, scratch))
		{
			unrelated = true;
			break;
		}
	}
	return unrelated;
}
