/*-------------------------------------------------------------------------
 *
 * select.c
 *	  Finds the rows of a block that a test may want, and decodes those.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/decoding.h"

static bool
is_excluded(Decoder *d, const SegmentTest *test, Template *t)
{
	if (t->tested != test->serial)
	{
		Span		prototype = t->proto.span;

		prototype.attributes.items = t->items;
		prototype.attributes.count = t->n_items;
		t->excluded = test->excludes(test->arg, d->batch, &prototype, t->overflow != 0);
		t->tested = test->serial;
	}
	return t->excluded;
}

/* Drops the rows of the list whose times are outside the test's bounds. */
static bool
check_times(Decoder *d, const SegmentTest *test, uint32_t *rows, uint32_t *n)
{
	SegmentReader *r = d->r;
	bool		starts = test->min_start != INT64_MIN || test->max_start != INT64_MAX;
	bool		durations = test->min_duration != INT64_MIN || test->max_duration != INT64_MAX;
	uint32_t	kept;

	if (*n > 0 && starts)
	{
		if (!segment_load_starts(r, d->error))
			return false;
		kept = 0;
		for (uint32_t i = 0; i < *n; i++)
		{
			rows[kept] = rows[i];
			kept += r->starts[rows[i]] >= test->min_start && r->starts[rows[i]] <= test->max_start;
		}
		*n = kept;
	}
	if (*n > 0 && durations)
	{
		if (!segment_load_durations(r, d->error))
			return false;
		kept = 0;
		for (uint32_t i = 0; i < *n; i++)
		{
			rows[kept] = rows[i];
			kept += r->durations[rows[i]] >= test->min_duration && r->durations[rows[i]] <= test->max_duration;
		}
		*n = kept;
	}
	return true;
}

static bool
select_block_rows(Decoder *d, const SegmentTest *test, const BlockRows *run, uint32_t *rows, uint32_t *n)
{
	SegmentReader *r = d->r;

	if (!segment_load_block(r, run->block, d->error) || !segment_load_rows(r, TABLE_SPAN, d->error))
		return false;
	*n = 0;
	for (uint32_t row = run->first; row < run->end; row++)
	{
		Template   *t = segment_template(d, TABLE_SPAN, row);

		if (t == NULL)
			return false;
		rows[*n] = row;
		*n += !is_excluded(d, test, t);
	}
	return check_times(d, test, rows, n) &&
		(*n == 0 || (segment_prepare_block(d, run->block) && segment_decode_some(d, 0, rows, *n)));
}

bool
segment_select(SegmentReader *r, const SegmentProjection *projection, uint32_t first, uint32_t count,
			   const SegmentTest *test, SpanBatch *batch, uint32_t *rows, SpanError *error)
{
	Decoder		d;
	uint32_t	before = batch->n_spans;
	BlockRows	run;
	uint32_t	end;
	bool		ok = true;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!segment_begin_decoding(&d, r, projection, batch, error))
		return false;
	end = first + count;
	while (ok && next_block_rows(&first, end, &run))
	{
		uint32_t	n;

		ok = select_block_rows(&d, test, &run, rows, &n);
		for (uint32_t i = 0; ok && i < n; i++)
			rows[i] += run.begin;
		rows += ok ? n : 0;
	}
	return segment_end_decoding(&d, before, ok);
}
