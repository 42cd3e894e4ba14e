/*-------------------------------------------------------------------------
 *
 * newest_slices.c
 *	  A table in slices, those with the newest traces first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/newest_slices.h"

#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/*
 * From this size on slices are not made of blocks but of the rest of a segment,
 * so that segments need not be opened before their turn.
 */
#define WHOLE_SEGMENTS (64 * 16384)

/* Rows of the first slice. */
#define FIRST_SLICE 8192

/* What is left of a segment. */
typedef struct SlicePart
{
	uint32 segment;
	uint32 end;    /* of the rows that are left */
	bool   hidden; /* the user may see only some rows of a trace */
	int64  newest; /* no trace in there starts later */
	bool   opened; /* its footer lets the filter pass */
} SlicePart;

struct NewestSlices
{
	Relation            rel;
	const TempoSegment *segments;
	ScanFilter         *filter;
	int64               newest_wanted;
	SliceCounters      *counters;
	uint64              target; /* rows of the next slice */
	SlicePart          *parts;
	binaryheap         *heap;
	MemoryContext       context;
	MemoryContext       open_context;
	SliceRange         *ranges;
	uint32              n_ranges;
	uint32              ranges_size;
};

static int
compare_parts(Datum a, Datum b, void *arg)
{
	const SlicePart *x = (const SlicePart *) DatumGetPointer(a);
	const SlicePart *y = (const SlicePart *) DatumGetPointer(b);

	if (x->newest != y->newest)
		return x->newest > y->newest ? 1 : -1;
	return x->segment < y->segment ? 1 : -1;
}

static bool
segment_zone_passes(NewestSlices *slices, const TempoSegment *segment)
{
	const SegmentSummary *summary = &segment->summary;
	FilterZone            zone;

	zone.min_start = summary->min_start_nano;
	zone.max_start = summary->max_start_nano;
	zone.min_duration = summary->min_duration_nano;
	zone.max_duration = summary->max_duration_nano;
	zone.max_end = summary->max_end_nano;
	zone.tenants = summary->tenant_filter;
	return tempo_filter_zone(slices->filter, &zone);
}

NewestSlices *
tempo_slices_create(Relation rel, const TempoSegment *segments, uint32 n_segments,
                    ScanFilter *filter, RowsHidden hidden, int64 newest_wanted,
                    SliceCounters *counters)
{
	NewestSlices *slices = palloc0(sizeof(NewestSlices));

	slices->rel = rel;
	slices->segments = segments;
	slices->filter = filter;
	slices->newest_wanted = newest_wanted;
	slices->counters = counters;
	slices->target = FIRST_SLICE;
	slices->context = CurrentMemoryContext;
	slices->open_context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo slices", ALLOCSET_SMALL_SIZES);
	slices->parts = palloc(sizeof(SlicePart) * Max(n_segments, 1));
	slices->heap = binaryheap_allocate(Max((int) n_segments, 1), compare_parts, NULL);
	for (uint32 i = 0; i < n_segments; i++)
	{
		SlicePart *part = &slices->parts[i];

		if (!segment_zone_passes(slices, &segments[i]))
		{
			counters->segments_zone++;
			continue;
		}
		part->segment = i;
		part->end = segments[i].summary.rows;
		part->newest = segments[i].summary.max_start_nano;
		part->opened = false;
		part->hidden = hidden == ROWS_HIDDEN || segments[i].deleted != NULL ||
		               (hidden == ROWS_HIDDEN_OF_TENANTS && segments[i].summary.n_tenants != 1);
		binaryheap_add_unordered(slices->heap, PointerGetDatum(part));
	}
	binaryheap_build(slices->heap);
	return slices;
}

static void
add_range(NewestSlices *slices, uint32 segment, uint32 first, uint32 end)
{
	SliceRange *last = slices->n_ranges > 0 ? &slices->ranges[slices->n_ranges - 1] : NULL;

	if (last != NULL && last->segment == segment && last->first == end)
	{
		last->first = first;
		return;
	}
	if (slices->n_ranges == slices->ranges_size)
	{
		slices->ranges_size = Max(16, slices->ranges_size * 2);
		if (slices->ranges == NULL)
			slices->ranges =
				MemoryContextAlloc(slices->context, sizeof(SliceRange) * slices->ranges_size);
		else
			slices->ranges = repalloc(slices->ranges, sizeof(SliceRange) * slices->ranges_size);
	}
	slices->ranges[slices->n_ranges].segment = segment;
	slices->ranges[slices->n_ranges].first = first;
	slices->ranges[slices->n_ranges++].end = end;
}

/*
 * No trace in the first rows starts later, for a user who sees only some of their rows:
 * of a trace that begins early the first row to be seen may be a late one.
 */
static int64
last_start(TempoOpenSegment *open, uint32 rows)
{
	SegmentReader *reader = tempo_segment_reader(open);
	int64          result = PG_INT64_MIN;

	for (uint32 first = 0; first < rows; first += segment_block_rows(reader))
	{
		int64     min_start;
		int64     max_start;
		int64     max_duration;
		SpanError error;

		if (!segment_block_times(reader, first, &min_start, &max_start, &max_duration, &error))
			tempo_segment_failed(open, &error);
		result = Max(result, max_start);
	}
	return result;
}

/*
 * Takes the last block that is left of a part, or all of it.  Returns how many
 * rows will be looked at; *newest is the bound for what is left.
 */
static uint64
take_rows(NewestSlices *slices, SlicePart *part, bool whole, TempoOpenSegment *open)
{
	SegmentReader *reader = tempo_segment_reader(open);
	uint32         block_rows = segment_block_rows(reader);
	uint64         taken = 0;

	do
	{
		uint32     first = (part->end - 1) / block_rows * block_rows;
		FilterZone zone = {.min_duration = 0, .max_end = PG_INT64_MAX, .tenants = 0};
		SpanError  error;

		if (!segment_block_times(reader, first, &zone.min_start, &zone.max_start,
		                         &zone.max_duration, &error))
			tempo_segment_failed(open, &error);
		if (tempo_filter_zone(slices->filter, &zone))
		{
			add_range(slices, part->segment, first, part->end);
			taken += part->end - first;
		}
		else
			slices->counters->blocks_zone++;
		part->end = first;
		/* traces are in the order of their starts */
		if (!part->hidden)
			part->newest = Min(part->newest, zone.min_start);
	} while (whole && part->end > 0);
	if (part->hidden && part->end > 0)
		part->newest = Min(part->newest, last_start(open, part->end));
	return taken;
}

static uint64
take_part(NewestSlices *slices, SlicePart *part)
{
	MemoryContext     old = MemoryContextSwitchTo(slices->open_context);
	TempoOpenSegment *open =
		tempo_segment_open(slices->rel, &slices->segments[part->segment], NULL);
	uint64 taken = 0;

	MemoryContextSwitchTo(old);
	if (!part->opened && !tempo_filter_segment(slices->filter, open))
	{
		slices->counters->segments_lists++;
		part->end = 0;
	}
	else
	{
		part->opened = true;
		taken = take_rows(slices, part, slices->target >= WHOLE_SEGMENTS, open);
	}
	tempo_segment_close(open);
	return taken;
}

bool
tempo_slices_next(NewestSlices *slices, SliceRange **ranges, uint32 *n_ranges, int64 *bound)
{
	uint64 taken = 0;
	uint64 counted = 0;

	slices->n_ranges = 0;
	MemoryContextReset(slices->open_context);
	while (!binaryheap_empty(slices->heap))
	{
		SlicePart *part = (SlicePart *) DatumGetPointer(binaryheap_first(slices->heap));
		uint64     rows;

		CHECK_FOR_INTERRUPTS();
		/* nothing can be settled before the traces that are wanted begin */
		if (counted >= slices->target && part->newest <= slices->newest_wanted)
			break;
		if (part->newest <= slices->newest_wanted)
			counted += (rows = take_part(slices, part));
		else
			rows = take_part(slices, part);
		taken += rows;
		if (part->end == 0)
			(void) binaryheap_remove_first(slices->heap);
		else
			binaryheap_replace_first(slices->heap, PointerGetDatum(part));
	}
	if (counted > 0)
		slices->target = counted * 2;
	*ranges = slices->ranges;
	*n_ranges = slices->n_ranges;
	*bound = binaryheap_empty(slices->heap) ? PG_INT64_MIN : ((SlicePart *) DatumGetPointer(binaryheap_first(slices->heap)))->newest;
	if (taken == 0)
		return false;
	slices->counters->slices++;
	return true;
}
