/*-------------------------------------------------------------------------
 *
 * compact_choose.c
 *	  Which segments are merged next.
 *
 * From level 1 on a segment has one tenant.  Level-0 segments are folded
 * together whatever their tenants; the others are merged tenant by tenant,
 * neighbours in time, when enough of about the same size have come together:
 * sizes grow by 16 from class to class, so a span is rewritten a few times in
 * its life only.  Last, segments move out of the end of a file with much free
 * space (move.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact_step.h"

#include <math.h>

#include "access/move.h"
#include "access/segment_source.h"
#include "port/pg_bitutils.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Segments of one size class that make a merge. */
#define MERGE_COUNT 8

/* A segment is rewritten when one row in this many is deleted. */
#define DELETED_FRACTION 8

/* Sources of one merge, to bound the directory rows changed at once. */
#define MAX_SOURCES 4096

/* A merge has its turn after so many folds. */
#define FOLDS_PER_MERGE 4

/*
 * With so many tenants a fold waits for so many rows of each, but not for more
 * than so many times the usual segments or age.
 */
#define MANY_TENANTS 16
#define ROWS_PER_TENANT 256
#define FOLD_PATIENCE 4

/* Segments whose tenant a process remembers. */
#define MAX_KNOWN_TENANTS (128 * 1024)

/* Segments are merged together that were stored about the same time. */
#define SAME_TIME (60 * USECS_PER_SEC)

typedef struct Candidate
{
	TempoSegment *segment;
	uint64        tenant; /* hash of the only tenant; level 0: 0 */
	int64         window;
	int           size_class;
} Candidate;

static int
size_class(uint32 rows)
{
	int result = 0;

	while (rows >= 16)
	{
		rows /= 16;
		result++;
	}
	return result;
}

/*
 * Raw bytes that one merge may take on: they are about what it needs in memory,
 * and not less than an image or one of its columns, which are bounded, too.
 */
static uint64
raw_budget(void)
{
	return Min(tempo_compaction_memory() / 8 * 7, SEGMENT_MAX_BYTES / 4 * 3);
}

static int
compare_time(const void *a, const void *b)
{
	const TempoSegment *x = *(TempoSegment *const *) a;
	const TempoSegment *y = *(TempoSegment *const *) b;

	if (x->summary.max_start_nano != y->summary.max_start_nano)
		return x->summary.max_start_nano < y->summary.max_start_nano ? -1 : 1;
	return x->segment_id < y->segment_id ? -1 : x->segment_id > y->segment_id;
}

/*
 * The longest run from "first" on that fits the bounds of one merge; at least
 * one segment.
 */
static uint32
fitting_run(TempoSegment **segments, uint32 first, uint32 count, uint32 max_spans)
{
	uint64 rows = 0;
	uint64 raw = 0;
	uint32 n = 0;

	for (uint32 i = first; i < count && n < MAX_SOURCES; i++)
	{
		rows += segments[i]->summary.rows;
		raw += segments[i]->summary.raw_size;
		if (n > 0 && (rows > max_spans || raw > raw_budget()))
			break;
		n++;
	}
	return n;
}

/* About how many tenants do these segments have?  At most 64 bits tell. */
static uint32
count_tenants(TempoSegment **segments, uint32 n)
{
	uint64 filter = 0;
	uint32 most = 0;
	int    bits;

	for (uint32 i = 0; i < n; i++)
	{
		filter |= segments[i]->summary.tenant_filter;
		most = Max(most, segments[i]->summary.n_tenants);
	}
	bits = pg_popcount64(filter);
	/* so many tenants set so many of 64 bits, on average */
	return Max(most, (uint32) (64 * log(64 / (64 - Min(bits, 63.5)))));
}

/*
 * When may level 0 be folded; in how many milliseconds?  A fold writes a
 * segment for each tenant, so with many tenants it waits until they have
 * something to put into one, but not for long.
 */
static int64
fold_due(const TempoCompactOptions *options, TempoSegment **level0, uint32 n, TimestampTz oldest)
{
	int64  age = (GetCurrentTimestamp() - oldest) / 1000;
	uint32 tenants = count_tenants(level0, n);
	uint64 rows = 0;

	for (uint32 i = 0; i < n; i++)
		rows += level0[i]->summary.rows;
	if (tenants >= MANY_TENANTS && rows < (uint64) tenants * ROWS_PER_TENANT && n < options->fold_count * FOLD_PATIENCE)
		return options->fold_age * FOLD_PATIENCE - age;
	return n >= options->fold_count ? 0 : options->fold_age - age;
}

/* Level-0 segments: all of them, oldest first, as far as they fit. */
static bool
choose_fold(Step *step, Sources *sources)
{
	const TempoCompactOptions *options = step->options;
	TempoCompactResult        *result = step->result;
	TempoSegment             **level0 = palloc((Size) Max(step->count, 1) * sizeof(TempoSegment *));
	TimestampTz                oldest = DT_NOEND;
	uint32                     n = 0;

	for (uint32 i = 0; i < step->count; i++)
	{
		if (step->segments[i].summary.level != 0)
			continue;
		level0[n++] = &step->segments[i];
		oldest = Min(oldest, step->segments[i].newest_at);
	}
	tempo_stat_set_level0(step->stat, n, n > 0 ? oldest : 0);
	result->level0 = n;
	result->next_fold = -1;
	if (n == 0)
		return false;
	if (options->mode == TEMPO_COMPACT_LAZY)
	{
		int64 due = fold_due(options, level0, n, oldest);

		if (due > 0)
		{
			result->next_fold = due;
			return false;
		}
	}
	qsort(level0, n, sizeof(TempoSegment *), compare_time);
	sources->segments = level0;
	sources->count = fitting_run(level0, 0, n, step->max_spans);
	sources->phase = TEMPO_PHASE_FOLDING;
	return true;
}

static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	if (x->tenant != y->tenant)
		return x->tenant < y->tenant ? -1 : 1;
	if (x->window != y->window)
		return x->window < y->window ? -1 : 1;
	if (x->size_class != y->size_class)
		return x->size_class < y->size_class ? -1 : 1;
	return compare_time(&x->segment, &y->segment);
}

/* What is known of a segment, which never changes. */
typedef struct KnownTenant
{
	TempoSegmentKey key;
	uint64          hash;
} KnownTenant;

static HTAB *known_tenants;

static void
remember_tenant(const TempoSegment *segment, uint64 hash)
{
	TempoSegmentKey key = {segment->storage_id, segment->segment_id};
	KnownTenant    *known;
	bool            found;

	if (known_tenants != NULL && hash_get_num_entries(known_tenants) >= MAX_KNOWN_TENANTS)
	{
		hash_destroy(known_tenants);
		known_tenants = NULL;
	}
	if (known_tenants == NULL)
	{
		HASHCTL control = {.keysize = sizeof(TempoSegmentKey), .entrysize = sizeof(KnownTenant), .hcxt = TopMemoryContext};

		known_tenants = hash_create("tenants of segments", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	known = hash_search(known_tenants, &key, HASH_ENTER, &found);
	known->hash = hash;
}

/*
 * The hash of the only tenant of a segment; 0 if it has several.  Of many
 * tenants some always share the bit in the directory, so that they are asked
 * for again and again.
 */
uint64
tempo_compact_tenant(Step *step, const TempoSegment *segment)
{
	TempoOpenSegment  *open;
	const SpanText    *tenants;
	uint32_t           count;
	SpanError          error = {SPAN_ERROR_NONE};
	uint64             hash = 0;
	TempoSegmentKey    key = {segment->storage_id, segment->segment_id};
	const KnownTenant *known;

	if (segment->summary.n_tenants != 1)
		return 0;
	known = known_tenants == NULL ? NULL : hash_search(known_tenants, &key, HASH_FIND, NULL);
	if (known != NULL)
		return known->hash;
	tempo_compact_reading(step->result, segment);
	open = tempo_segment_open(step->rel, segment, NULL);
	if (!segment_tenants(tempo_segment_reader(open), &tenants, &count, &error))
		tempo_segment_failed(open, &error);
	if (count == 1)
		hash = span_bytes_hash(tenants[0].data, tenants[0].len, 0) | 1;
	tempo_segment_close(open);
	tempo_compact_reading(step->result, NULL);
	remember_tenant(segment, hash);
	return hash;
}

/* Adds a run of neighbours to what is merged; false if it does not fit. */
static bool
add_run(Step *step, Sources *sources, TempoSegment **run, uint32 count)
{
	uint64      rows = 0;
	uint64      raw = 0;
	TimestampTz newest_at = DT_NOBEGIN;

	for (uint32 i = 0; i < count; i++)
	{
		rows += run[i]->summary.rows;
		raw += run[i]->summary.raw_size;
		newest_at = Max(newest_at, run[i]->newest_at);
	}
	if (sources->count > 0 &&
	    (sources->count + count > MAX_SOURCES || sources->rows + rows > step->max_spans || sources->raw + raw > raw_budget() ||
	     newest_at > sources->newest_at + SAME_TIME || newest_at < sources->newest_at - SAME_TIME))
		return false;
	if (sources->count == 0)
		sources->newest_at = newest_at;
	sources->segments = sources->segments == NULL ?
	                        palloc(sizeof(TempoSegment *) * count) :
	                        repalloc(sources->segments, sizeof(TempoSegment *) * (sources->count + count));
	memcpy(sources->segments + sources->count, run, sizeof(TempoSegment *) * count);
	sources->count += count;
	sources->rows += rows;
	sources->raw += raw;
	return true;
}

/*
 * Of each tenant the first run of at least two neighbours that fits, in a
 * group of "count" candidates that may belong to several tenants; false when
 * one did not fit with what there is already.
 */
static bool
choose_in_group(Step *step, Candidate *group, uint32 count, uint32 wanted, Sources *sources)
{
	TempoSegment **ordered = palloc((Size) count * sizeof(TempoSegment *));

	/* the filter that made the group is a hash of 64 values: now exactly */
	for (uint32 i = 0; i < count; i++)
		group[i].tenant = tempo_compact_tenant(step, group[i].segment);
	qsort(group, count, sizeof(Candidate), compare_candidates);
	for (uint32 i = 0; i < count; i++)
		ordered[i] = group[i].segment;

	for (uint32 first = 0, next; first < count; first = next)
	{
		for (next = first + 1; next < count; next++)
			if (group[next].tenant != group[first].tenant)
				break;
		if (next - first < wanted || group[first].tenant == 0)
			continue;
		for (uint32 at = first; at + 1 < next; at++)
		{
			uint32 n = fitting_run(ordered, at, next, step->max_spans);

			if (n < 2)
				continue;
			if (!add_run(step, sources, &ordered[at], n))
			{
				pfree(ordered);
				return false;
			}
			break;
		}
	}
	pfree(ordered);
	return true;
}

/* Merged segments that are not too large already. */
static uint32
find_candidates(Step *step, Candidate *candidates)
{
	uint32 n = 0;

	for (uint32 i = 0; i < step->count; i++)
	{
		TempoSegment         *segment = &step->segments[i];
		const SegmentSummary *summary = &segment->summary;

		/* more than half full: nothing to be gained */
		if (summary->level == 0 || summary->rows > step->max_spans / 2 ||
		    summary->raw_size > raw_budget() / 2)
			continue;
		candidates[n].segment = segment;
		candidates[n].tenant = summary->tenant_filter;
		candidates[n].window = tempo_window_of(
			tempo_retention_window(step->retention, summary->tenant_filter),
			Max(summary->max_start_nano, summary->max_end_nano), segment->newest_at);
		candidates[n].size_class =
			step->options->mode == TEMPO_COMPACT_FULL ? 0 : size_class(summary->rows);
		n++;
	}
	return n;
}

/*
 * Merged segments: runs of neighbours in time, each of one tenant.  Lazily
 * there must be enough of them in one size class; in full mode two that fit
 * do.  With many tenants the runs are short, and those of several go into one
 * merge, which writes a segment for each: what a transaction and a look at the
 * directory cost is shared.
 */
static bool
choose_merge(Step *step, Sources *sources)
{
	Candidate *candidates = palloc((Size) Max(step->count, 1) * sizeof(Candidate));
	uint32     wanted = step->options->mode == TEMPO_COMPACT_FULL ? 2 : MERGE_COUNT;
	uint32     n = find_candidates(step, candidates);

	sources->phase = TEMPO_PHASE_MERGING;
	qsort(candidates, n, sizeof(Candidate), compare_candidates);
	for (uint32 first = 0, next; first < n; first = next)
	{
		for (next = first + 1; next < n; next++)
			if (candidates[next].tenant != candidates[first].tenant ||
			    candidates[next].window != candidates[first].window ||
			    candidates[next].size_class != candidates[first].size_class)
				break;
		if (next - first >= wanted &&
		    !choose_in_group(step, &candidates[first], next - first, wanted, sources))
			break;
	}
	return sources->count > 0;
}

static void
choose_one(Sources *sources, TempoSegment *segment, TempoCompactPhase phase)
{
	sources->segments = palloc(sizeof(TempoSegment *));
	sources->segments[0] = segment;
	sources->count = 1;
	sources->phase = phase;
}

/* When nothing is left to merge: a segment that stands behind free space. */
static bool
choose_move(Step *step, Sources *sources)
{
	const TempoCompactOptions *options = step->options;
	TempoSegment              *segment = NULL;

	if (step->result->moves < step->count)
		segment = tempo_move_choose(step->rel, step->segments, step->count,
		                            options->mode == TEMPO_COMPACT_FULL ? NULL : options->space);
	if (segment == NULL)
		return false;
	step->result->moves++;
	choose_one(sources, segment, TEMPO_PHASE_MOVING);
	return true;
}

/*
 * A segment to be rewritten because rows were deleted from it.  Lazily that
 * must be worth reading and writing the others.
 */
static bool
choose_deleted(Step *step, Sources *sources)
{
	for (uint32 i = 0; i < step->count; i++)
	{
		TempoSegment *segment = &step->segments[i];

		if (segment->n_deleted == 0 ||
		    (step->options->mode == TEMPO_COMPACT_LAZY &&
		     segment->n_deleted < segment->summary.rows / DELETED_FRACTION))
			continue;
		choose_one(sources, segment, TEMPO_PHASE_REWRITING);
		return true;
	}
	return false;
}

/*
 * Level 0 first, as it slows down receivers.  But it may never be empty, and
 * what is folded of many tenants is small: then every few folds make room for
 * a merge.
 */
bool
tempo_compact_choose(Step *step, Sources *sources)
{
	static uint32 folds = 0;

	if (folds >= FOLDS_PER_MERGE && choose_merge(step, sources))
	{
		folds = 0;
		return true;
	}
	if (choose_fold(step, sources))
	{
		folds++;
		return true;
	}
	folds = 0;
	return choose_merge(step, sources) || choose_deleted(step, sources) || choose_move(step, sources);
}
