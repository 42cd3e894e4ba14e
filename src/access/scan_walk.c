/*-------------------------------------------------------------------------
 *
 * scan_walk.c
 *	  Leads custom nodes through a table: newest segments first, those that
 *	  cannot match left out, then what the own transaction has in memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/scan_walk.h"

#include "access/xact.h"
#include TEMPO_EXPLAIN_HEADER
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/rel.h"

void
tempo_walk_init(ScanWalk *walk, Relation rel, Snapshot snapshot, ScanFilter *filter)
{
	walk->rel = rel;
	walk->snapshot = snapshot;
	walk->filter = filter;
	walk->list_context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo scan list", ALLOCSET_DEFAULT_SIZES);
	walk->open_context =
		AllocSetContextCreate(CurrentMemoryContext, "tempo scan ranges", ALLOCSET_DEFAULT_SIZES);
}

static int
newest_first(const void *a, const void *b)
{
	const TempoSegment *x = a;
	const TempoSegment *y = b;

	if (x->summary.max_start_nano != y->summary.max_start_nano)
		return x->summary.max_start_nano > y->summary.max_start_nano ? -1 : 1;
	return x->segment_id > y->segment_id ? -1 : x->segment_id < y->segment_id;
}

static void
list_units(ScanWalk *walk)
{
	uint64 allocated = walk->n_segments;

	for (uint32 i = 0; i < walk->n_segments && walk->shared != NULL; i++)
		allocated += walk->segments[i].summary.rows / WALK_UNIT_ROWS;
	walk->units = palloc(sizeof(ScanUnit) * Max(allocated, 1));
	for (uint32 i = 0; i < walk->n_segments; i++)
	{
		uint32 rows = walk->segments[i].summary.rows;
		uint32 step = walk->shared != NULL ? WALK_UNIT_ROWS : rows;

		for (uint32 first = 0; first < rows; first += step)
		{
			ScanUnit unit = {&walk->segments[i], {first, Min(step, rows - first) + first}};

			walk->units[walk->n_units++] = unit;
		}
	}
}

/*
 * What the own transaction has in memory because it could not be flushed.  It
 * is listed together with the segments: a cursor may outlive the flush.
 */
static void
list_pending(ScanWalk *walk)
{
	TempoInsertBuffer *pending = NULL;

	walk->pendings = NIL;
	if (IsParallelWorker())
		return;
	while ((pending = tempo_pending_next(walk->rel, walk->snapshot, pending)) != NULL)
		walk->pendings = lappend(walk->pendings, pending);
}

/* Lists the segments, unless the last list is still right. */
static void
list_segments(ScanWalk *walk)
{
	TempoSegmentBounds bounds;
	MemoryContext      old;

	tempo_filter_bounds(walk->filter, &bounds.min_start, &bounds.end_start, &bounds.tenants);
	if (walk->listed && memcmp(&bounds, &walk->bounds, sizeof(bounds)) == 0)
		return;
	MemoryContextReset(walk->list_context);
	walk->n_units = 0;
	old = MemoryContextSwitchTo(walk->list_context);
	walk->segments = tempo_directory_list(walk->rel, walk->snapshot, &bounds, &walk->n_segments);
	qsort(walk->segments, walk->n_segments, sizeof(TempoSegment), newest_first);
	list_units(walk);
	list_pending(walk);
	MemoryContextSwitchTo(old);
	walk->bounds = bounds;
	walk->listed = true;
}

void
tempo_walk_start(ScanWalk *walk)
{
	/* own rows become a segment before they are looked for */
	if (!IsInParallelMode())
		tempo_flush_inserts(RelationGetRelid(walk->rel));
	MemoryContextReset(walk->open_context);
	if (!walk->filter->never)
		list_segments(walk);
	walk->next_unit = 0;
	walk->unit = NULL;
	walk->n_pending = 0;
	pgstat_count_heap_scan(walk->rel);
}

/* Counts what the open segment's reader has done. */
static void
count_segment(ScanWalk *walk)
{
	if (walk->open != NULL)
		tempo_scan_count_segment(&walk->counters, &walk->segment_counters,
		                         tempo_segment_counters(walk->open));
}

void
tempo_walk_close(ScanWalk *walk)
{
	count_segment(walk);
	if (walk->open != NULL)
		tempo_segment_close(walk->open);
	walk->open = NULL;
}

static bool
zone_passes(ScanWalk *walk, const TempoSegment *segment)
{
	const SegmentSummary *summary = &segment->summary;
	FilterZone            zone;

	zone.min_start = summary->min_start_nano;
	zone.max_start = summary->max_start_nano;
	zone.min_duration = summary->min_duration_nano;
	zone.max_duration = summary->max_duration_nano;
	zone.max_end = summary->max_end_nano;
	zone.tenants = summary->tenant_filter;
	return tempo_filter_zone(walk->filter, &zone);
}

static const ScanUnit *
take_unit(ScanWalk *walk)
{
	uint64 unit = walk->shared != NULL ? pg_atomic_fetch_add_u64(&walk->shared->next_unit, 1) : walk->next_unit++;

	return unit < walk->n_units ? &walk->units[unit] : NULL;
}

bool
tempo_walk_next(ScanWalk *walk)
{
	const ScanUnit *unit;
	MemoryContext   old;

	while ((unit = take_unit(walk)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		tempo_walk_close(walk);
		if (!zone_passes(walk, unit->segment))
		{
			walk->counters.segments_zone++;
			continue;
		}
		old = MemoryContextSwitchTo(walk->open_context);
		walk->open = tempo_segment_open(walk->rel, unit->segment, NULL);
		MemoryContextSwitchTo(old);
		walk->unit = unit;
		walk->segment_counters = *segment_counters(tempo_segment_reader(walk->open));
		return true;
	}
	tempo_walk_close(walk);
	walk->unit = NULL;
	return false;
}

bool
tempo_walk_block(ScanWalk *walk, uint32 first)
{
	FilterZone zone = {.min_duration = 0, .max_end = PG_INT64_MAX, .tenants = 0};
	SpanError  error;

	if (!segment_block_times(tempo_segment_reader(walk->open), first, &zone.min_start,
	                         &zone.max_start, &zone.max_duration, &error))
		tempo_segment_failed(walk->open, &error);
	if (tempo_filter_zone(walk->filter, &zone))
		return true;
	walk->counters.blocks_zone++;
	return false;
}

TempoInsertBuffer *
tempo_walk_pending(ScanWalk *walk)
{
	if (walk->n_pending >= list_length(walk->pendings))
		return NULL;
	return list_nth(walk->pendings, walk->n_pending++);
}

Size
tempo_walk_shared_size(void)
{
	return sizeof(SharedWalk);
}

void
tempo_walk_share(ScanWalk *walk, void *place)
{
	walk->shared = place;
	pg_atomic_init_u64(&walk->shared->next_unit, 0);
	tempo_scan_share_counters(&walk->shared->counters);
}

void
tempo_walk_reshare(void *place)
{
	pg_atomic_write_u64(&((SharedWalk *) place)->next_unit, 0);
}

void
tempo_walk_attach(ScanWalk *walk, void *place)
{
	walk->shared = place;
}

void
tempo_walk_shut_down(ScanWalk *walk)
{
	count_segment(walk);
	if (walk->shared == NULL)
		return;
	if (IsParallelWorker())
	{
		tempo_scan_add_counters(&walk->shared->counters, &walk->counters);
		memset(&walk->counters, 0, sizeof(walk->counters));
	}
	else
		tempo_scan_get_counters(&walk->shared->counters, &walk->worker_counters);
}

void
tempo_walk_explain(const ScanWalk *walk, ExplainState *es)
{
	ScanCounters total = walk->counters;

	tempo_scan_sum_counters(&total, &walk->worker_counters);
	tempo_scan_explain_counters(&total, es);
}
