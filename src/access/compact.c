/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Merging small segments into large ones.
 *
 * A merge is one transaction that inserts the rows of the new segments into
 * the directory and deletes those of the sources, so every snapshot sees
 * either all sources or all targets.  Sources are claimed with row locks that
 * are not waited for; inserters and readers are never in the way.
 *
 * From level 1 on a segment has one tenant.  Level-0 segments are folded
 * together whatever their tenants; the others are merged tenant by tenant,
 * neighbours in time, when enough of about the same size have come together:
 * sizes grow by 16 from class to class, so a span is rewritten a few times in
 * its life only.  Where spans are kept for a limited time, a segment is also
 * of one window of time (retention.h), and spans that are too old are left
 * out.  Last, segments move out of the end of a file that is mostly free
 * space.
 *
 * Whoever merges holds a lock on the merging of the table, so that
 * tempo.compact() can wait for the worker's merge; what keeps two from
 * merging the same segment are the row locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact.h"
#include "access/compact_stat.h"

#include <limits.h>
#include <math.h>

#include "access/ddl.h"
#include "access/deletions.h"
#include "access/memory.h"
#include "access/pages.h"
#include "access/relation.h"
#include "access/retention.h"
#include "access/segment_source.h"
#include "access/stop_at.h"
#include "access/store.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(tempo_compact);

#define DEFAULT_MAX_SPANS (1000 * 1000)

/* Segments of one size class that make a merge. */
#define MERGE_COUNT 8

/* Less free space than this in front of a segment is not worth moving it. */
#define MOVE_BLOCKS 64

/* A segment is rewritten when one row in this many is deleted. */
#define DELETED_FRACTION 8

/* Sources of one merge, to bound the directory rows changed at once. */
#define MAX_SOURCES 4096

/* How long a merged segment remembers requests: a little longer than receivers do. */
#define REQUEST_MEMORY_MS (15 * 60 * 1000)

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

/* Decoded spans take about this many times their raw size. */
#define DECODED_FACTOR 2

static int compaction_memory = 256 * 1024; /* kB */

/* Tells the lock on the merging of a table from other locks on it. */
#define MERGING_LOCK 0x7470

typedef struct Candidate
{
	TempoSegment *segment;
	uint64        tenant; /* hash of the only tenant; level 0: 0 */
	int64         window;
	int           size_class;
} Candidate;

/* What one merge reads. */
typedef struct Sources
{
	TempoSegment    **segments;
	uint32            count;
	uint64            rows;
	uint64            raw;
	TimestampTz       newest_at;
	TempoCompactPhase phase;
} Sources;

/* One look at a table. */
typedef struct Step
{
	Relation                   rel;
	const TempoCompactOptions *options;
	TempoCompactResult        *result;
	TempoCompactStat          *stat;
	TempoRetention            *retention; /* NULL = everything is kept */
	uint32                     max_spans;
	TempoSegment              *segments; /* that may be merged */
	uint32                     count;
} Step;

void
tempo_compact_init(void)
{
	DefineCustomIntVariable("tempo_pg.compaction_memory",
	                        "Memory for the spans of one merge.",
	                        "Merged segments grow until this or a million spans is reached.",
	                        &compaction_memory, 256 * 1024, 16 * 1024, MAX_KILOBYTES,
	                        PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* ------------------------------------------------------------- choosing */

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

/* Raw bytes that one merge may take on. */
static uint64
raw_budget(void)
{
	return (uint64) compaction_memory * 1024 / DECODED_FACTOR;
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

/* The segment that is being read, for who catches an error; NULL = none. */
static void
set_reading(TempoCompactResult *result, const TempoSegment *segment)
{
	result->reading.storage_id = segment == NULL ? 0 : segment->storage_id;
	result->reading.segment_id = segment == NULL ? 0 : segment->segment_id;
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
static uint64
only_tenant(Step *step, const TempoSegment *segment)
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
	set_reading(step->result, segment);
	open = tempo_segment_open(step->rel, segment, NULL);
	if (!segment_tenants(tempo_segment_reader(open), &tenants, &count, &error))
		tempo_segment_failed(open, &error);
	if (count == 1)
		hash = span_bytes_hash(tenants[0].data, tenants[0].len, 0) | 1;
	tempo_segment_close(open);
	set_reading(step->result, NULL);
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
		group[i].tenant = only_tenant(step, group[i].segment);
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

/*
 * Merged segments are written behind the small ones they come from, so a file
 * that grew quickly is left with much free space in front.  When nothing is
 * left to merge, the last segment moves there, and VACUUM gives the end of the
 * file back.  Each move is to a lower block, so this comes to an end.
 */
static bool
choose_move(Step *step, Sources *sources)
{
	TempoMeta    *meta = palloc(sizeof(TempoMeta));
	TempoSegment *last = NULL;
	BlockNumber   free_blocks = 0;
	BlockNumber   wanted;
	bool          fits = false;

	for (uint32 i = 0; i < step->count; i++)
		if (last == NULL || step->segments[i].first_block > last->first_block)
			last = &step->segments[i];
	if (last == NULL || last->summary.level == 0 || step->result->moves >= step->count ||
	    !tempo_meta_read_all(step->rel, meta))
		return false;

	/* written again it may need a little more */
	wanted = last->n_blocks + last->n_blocks / 32 + 1;
	for (uint32 i = 0; i < meta->header.n_free; i++)
	{
		free_blocks += meta->free[i].count;
		if (meta->free[i].count >= wanted && meta->free[i].first < last->first_block)
			fits = true;
	}
	if (!fits || free_blocks < MOVE_BLOCKS ||
	    free_blocks < RelationGetNumberOfBlocks(step->rel) / (step->options->mode == TEMPO_COMPACT_FULL ? 4 : 2))
		return false;
	step->result->moves++;
	choose_one(sources, last, TEMPO_PHASE_MOVING);
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

/* --------------------------------------------------------------- merging */

typedef struct Merge
{
	Step             *step;
	SpanAllocator     allocator;
	SpanBatch        *batch;
	RequestHash      *hashes;
	uint32            n_hashes;
	uint8             level;
	TimestampTz       newest_at;
	TempoCompactWork *work;
} Merge;

static void
read_hashes(Merge *merge, const TempoSegment *segment, TempoOpenSegment *open)
{
	const RequestHash *hashes;
	uint32_t           n;

	if (segment->n_requests == 0 ||
	    segment->newest_at < GetCurrentTimestamp() - (int64) REQUEST_MEMORY_MS * 1000)
		return;
	hashes = segment_request_hashes(tempo_segment_reader(open), &n);
	if (n == 0)
		return;
	if (merge->hashes == NULL)
		merge->hashes = palloc(sizeof(RequestHash) * n);
	else
		merge->hashes = repalloc_huge(merge->hashes, sizeof(RequestHash) * ((Size) merge->n_hashes + n));
	memcpy(merge->hashes + merge->n_hashes, hashes, sizeof(RequestHash) * n);
	merge->n_hashes += n;
}

static void
read_source(Merge *merge, const TempoSegment *segment)
{
	Step             *step = merge->step;
	uint32            from = merge->batch->n_spans;
	TempoOpenSegment *open;

	set_reading(step->result, segment);
	open = tempo_segment_open(step->rel, segment, NULL);

	tempo_deletions_decode(open, segment, merge->batch);
	read_hashes(merge, segment, open);
	tempo_segment_close(open);
	set_reading(step->result, NULL);
	tempo_retention_drop(step->retention, merge->batch, from, segment->newest_at);
	/* 1: folded from level 0; 2: merged from folded ones */
	merge->level = Max(merge->level, segment->summary.level == 0 ? 1 : 2);
	merge->newest_at = Max(merge->newest_at, segment->newest_at);
	merge->work->sources++;
	merge->work->rows_in += segment->summary.rows - segment->n_deleted;
	merge->work->bytes_read += segment->summary.size;
	tempo_stat_progress(step->stat, merge->work);
}

/* How the spans of a merge are told apart that go to different segments. */
static struct
{
	const SpanBatch *batch;
	int64           *windows; /* by resource: their length */
	TimestampTz      newest_at;
} grouping;

static int
compare_groups(const void *a, const void *b)
{
	const SpanBatch    *batch = grouping.batch;
	const SpanResource *x = span_resource(batch, a);
	const SpanResource *y = span_resource(batch, b);
	int64               length = grouping.windows[x - batch->resources];
	int64               first;
	int64               second;

	if (x->tenant != y->tenant)
		return x->tenant < y->tenant ? -1 : 1;
	if (length == 0)
		return 0;
	first = tempo_window_of(
		length,
		Max(((const Span *) a)->start_time_unix_nano, ((const Span *) a)->end_time_unix_nano),
		grouping.newest_at);
	second = tempo_window_of(
		length,
		Max(((const Span *) b)->start_time_unix_nano, ((const Span *) b)->end_time_unix_nano),
		grouping.newest_at);

	return first < second ? -1 : first > second;
}

/* Orders the spans by the segment they go to. */
static void
group_spans(Merge *merge)
{
	SpanBatch *batch = merge->batch;
	bool       one_group = true;

	grouping.batch = batch;
	grouping.newest_at = merge->newest_at;
	grouping.windows = palloc(sizeof(int64) * Max(batch->n_resources, 1));
	for (uint32 i = 0; i < batch->n_resources; i++)
	{
		SpanText tenant = batch->strings[batch->resources[i].tenant];

		grouping.windows[i] =
			tempo_retention_window(merge->step->retention, segment_tenant_bit(tenant));
		one_group &=
			grouping.windows[i] == 0 && batch->resources[i].tenant == batch->resources[0].tenant;
	}
	if (!one_group)
		qsort(batch->spans, batch->n_spans, sizeof(Span), compare_groups);
}

/* Writes the batch, one segment per tenant and window. */
static void
write_targets(Merge *merge)
{
	SpanBatch        *batch = merge->batch;
	Step             *step = merge->step;
	TempoStoreOptions options = {0};

	group_spans(merge);
	options.level = merge->level;
	options.cid = GetCurrentCommandId(true);
	options.newest_at = merge->newest_at;
	options.hashes = merge->hashes;
	options.n_hashes = merge->n_hashes;
	for (uint32 first = 0, next; first < batch->n_spans; first = next)
	{
		TempoSegment segment;

		for (next = first + 1; next < batch->n_spans; next++)
			if (compare_groups(&batch->spans[first], &batch->spans[next]) != 0)
				break;
		CHECK_FOR_INTERRUPTS();
		tempo_store_spans(step->rel, batch, first, next - first, &options, &segment, NULL);
		/* one of the targets remembers the requests */
		options.hashes = NULL;
		options.n_hashes = 0;
		merge->work->targets++;
		merge->work->rows_out += segment.summary.rows;
		merge->work->bytes_written += segment.summary.size;
		tempo_stat_progress(step->stat, merge->work);
	}
}

/*
 * Locks a source and looks what was deleted from it: whoever deletes has to
 * wait from here on, but may have committed since the segments were listed.
 */
static bool
claim_source(TempoDirectory *directory, TempoSegment *segment)
{
	uint32 n_deleted = segment->n_deleted;

	if (!tempo_directory_claim(directory, segment))
		return false;
	tempo_deletions_attach(SnapshotSelf, segment, 1);
	/* a transaction that does not see a row's end must go on seeing the row */
	return segment->n_deleted == n_deleted || !IsolationUsesXactSnapshot();
}

/*
 * Nothing is left of the sources but the requests they came from, which must
 * be known for a while, lest one that is sent again brings its spans back.  The
 * smallest other segment is written again to remember them.  NULL if there is
 * none.
 */
static TempoSegment *
claim_heir(Step *step, TempoDirectory *directory, TempoSegment **claimed, uint32 n)
{
	TempoSegment *heir = NULL;

	for (uint32 i = 0; i < step->count; i++)
	{
		TempoSegment *segment = &step->segments[i];
		bool          source = false;

		for (uint32 c = 0; c < n; c++)
			source |= claimed[c] == segment;
		if (!source && segment->n_deleted < segment->summary.rows &&
		    (heir == NULL || segment->summary.rows < heir->summary.rows))
			heir = segment;
	}
	return heir != NULL && claim_source(directory, heir) ? heir : NULL;
}

/* Would the spans of two merged segments go to the same one? */
static bool
same_target(Step *step, const TempoSegment *a, const TempoSegment *b)
{
	int64 a_window = tempo_window_of(tempo_retention_window(step->retention, a->summary.tenant_filter),
	                                 Max(a->summary.max_start_nano, a->summary.max_end_nano), a->newest_at);
	int64 b_window = tempo_window_of(tempo_retention_window(step->retention, b->summary.tenant_filter),
	                                 Max(b->summary.max_start_nano, b->summary.max_end_nano), b->newest_at);

	return only_tenant(step, a) == only_tenant(step, b) && a_window == b_window;
}

/*
 * Of several tenants' segments some could not be claimed: one that is left
 * without a neighbour would be written again as it is, without an end.
 */
static uint32
leave_out_lone(Step *step, TempoSegment **claimed, uint32 n)
{
	bool  *lone = palloc(n);
	uint32 kept = 0;

	for (uint32 i = 0; i < n; i++)
		lone[i] = claimed[i]->deleted == NULL &&
		          (i == 0 || !same_target(step, claimed[i - 1], claimed[i])) &&
		          (i + 1 == n || !same_target(step, claimed[i], claimed[i + 1]));
	for (uint32 i = 0; i < n; i++)
		if (!lone[i])
			claimed[kept++] = claimed[i];
	pfree(lone);
	return kept;
}

static bool
merge_sources(Step *step, TempoDirectory *directory, const Sources *sources)
{
	Merge               merge = {step};
	TempoCompactResult *result = step->result;
	TempoSegment      **claimed = palloc(sizeof(TempoSegment *) * (sources->count + 1));
	uint32              n = 0;
	uint32              needed = sources->segments[0]->summary.level == 0 ? 1 : Min(sources->count, 2);
	uint32              n_read = 0;

	for (uint32 i = 0; i < sources->count; i++)
		if (claim_source(directory, sources->segments[i]))
		{
			claimed[n++] = sources->segments[i];
			/* rewritten alone, too */
			if (sources->segments[i]->deleted != NULL)
				needed = 1;
		}
	if (sources->phase == TEMPO_PHASE_MERGING && n > 0 && n < sources->count)
		n = leave_out_lone(step, claimed, n);
	if (n < needed || n == 0)
		return false;

	tempo_stop(MERGE_CLAIMED);
	tempo_stat_phase(step->stat, sources->phase, n);
	memset(&result->work, 0, sizeof(result->work));
	merge.work = &result->work;

	merge.allocator = tempo_context_allocator(CurrentMemoryContext);
	merge.batch = span_batch_create(&merge.allocator, 0);
	if (merge.batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	while (n_read < n &&
	       (n_read < needed || span_batch_memory(merge.batch) < (Size) compaction_memory * 1024))
		read_source(&merge, claimed[n_read++]);
	if (merge.batch->n_spans == 0 && merge.n_hashes > 0)
	{
		/* those that are claimed and not read stay as they are */
		claimed[n_read] = claim_heir(step, directory, claimed, n);
		if (claimed[n_read] == NULL)
			return false;
		read_source(&merge, claimed[n_read++]);
		if (merge.batch->n_spans == 0)
			return false;
	}
	tempo_stop(MERGE_READ);
	write_targets(&merge);
	tempo_stop(MERGE_WRITTEN);
	for (uint32 i = 0; i < n_read; i++)
	{
		tempo_directory_delete(directory, claimed[i]);
		if (claimed[i]->deleted != NULL)
			tempo_deletions_forget(claimed[i]->storage_id, claimed[i]);
		tempo_stop(MERGE_DELETED);
	}
	tempo_stop(MERGE_DONE);
	result->sources += n_read;
	result->targets += (uint32) result->work.targets;
	result->spans += result->work.rows_out;
	result->bytes += result->work.bytes_written;
	return true;
}

static bool
is_avoided(const TempoCompactOptions *options, const TempoSegment *segment)
{
	for (uint32 i = 0; i < options->n_avoid; i++)
		if (options->avoid[i].storage_id == segment->storage_id &&
		    options->avoid[i].segment_id == segment->segment_id)
			return true;
	return false;
}

/*
 * Level 0 first, as it slows down receivers.  But it may never be empty, and
 * what is folded of many tenants is small: then every few folds make room for
 * a merge.
 */
static bool
choose(Step *step, Sources *sources)
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

/* Chooses a merge and does it. */
static bool
run_step(Step *step)
{
	const TempoCompactOptions *options = step->options;
	TempoDirectory             directory;
	Snapshot                   snapshot;
	TempoSegment              *listed;
	uint32                     n_listed;
	Sources                    sources = {NULL};
	bool                       done = false;

	/*
	 * Directory rows are claimed by TID: until then VACUUM FULL must not move
	 * them, nor, thanks to the snapshot, pruning remove them.
	 */
	tempo_directory_open(&directory, RowExclusiveLock, false);

	/*
	 * Under repeatable read what is not visible to the transaction must not
	 * become part of a segment that is.
	 */
	snapshot = RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
	listed = tempo_directory_list(step->rel, snapshot, NULL, &n_listed);
	if (options->floor != NULL)
		tempo_directory_advance_floor(step->rel, snapshot, listed, n_listed, options->floor);
	step->segments =
		palloc_extended((Size) Max(n_listed, 1) * sizeof(TempoSegment), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < n_listed; i++)
		if (!is_avoided(options, &listed[i]))
			step->segments[step->count++] = listed[i];
	step->retention = tempo_retention_read(step->rel);
	if (choose(step, &sources))
		done = merge_sources(step, &directory, &sources);
	UnregisterSnapshot(snapshot);
	tempo_directory_close(&directory);
	return done;
}

bool
tempo_compact_step(Relation rel, const TempoCompactOptions *options, TempoCompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo compaction",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Step          step = {rel, options, result};
	volatile bool done = false;

	if (tempo_deletions_pending(RelationGetRelid(rel)))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_IN_USE),
		         errmsg("cannot compact table \"%s\" while a DELETE is running in this session",
		                RelationGetRelationName(rel))));
	step.stat = tempo_compact_stat(RelationGetRelid(rel));
	step.max_spans = options->max_spans > 0 ? options->max_spans : DEFAULT_MAX_SPANS;
	set_reading(result, NULL);
	PG_TRY();
	{
		done = run_step(&step);
	}
	PG_FINALLY();
	{
		tempo_stat_phase(step.stat, TEMPO_PHASE_IDLE, 0);
	}
	PG_END_TRY();
	if (done)
		tempo_stat_merged(step.stat, &result->work);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return done;
}

/* ---------------------------------------------------------------- locking */

/*
 * Not a lock of the relation, which merging must not keep from others, and
 * not the page lock, under which no other lock may be taken.
 */
static void
merging_tag(LOCKTAG *tag, Oid relid)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, RelationRelationId, relid, MERGING_LOCK);
}

bool
tempo_lock_merging(Oid relid, bool wait)
{
	LOCKTAG tag;

	merging_tag(&tag, relid);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
tempo_unlock_merging(Oid relid)
{
	LOCKTAG tag;

	merging_tag(&tag, relid);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

bool
tempo_compact_relation(Oid relid, const TempoCompactOptions *options, TempoCompactResult *result)
{
	Relation rel;
	bool     done;

	memset(result, 0, sizeof(*result));
	result->next_fold = -1;
	if (!tempo_try_lock_own_tables(RowExclusiveLock) || !ConditionalLockRelationOid(relid, RowExclusiveLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, RowExclusiveLock);
		return false;
	}
	done = tempo_relation(rel) && tempo_lock_merging(relid, false) && tempo_compact_step(rel, options, result);
	table_close(rel, NoLock);
	return done;
}

/* ------------------------------------------------------------------- SQL */

static void
check_may_maintain(Oid relid)
{
	Oid admin = get_role_oid("tempo_admin", true);

	if (!tempo_owns_relation(relid, GetUserId()) &&
	    !(OidIsValid(admin) && has_privs_of_role(GetUserId(), admin)))
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg("permission denied for table %s", get_rel_name(relid)),
		         errhint("The owner of the table and members of tempo_admin may do this.")));
}

Relation
tempo_open_to_maintain(Oid relid)
{
	Relation rel;

	if (get_rel_relkind(relid) == '\0')
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("relation with OID %u does not exist", relid)));
	/* who may not do it must not lock the table either */
	check_may_maintain(relid);
	rel = table_open(relid, RowExclusiveLock);
	check_may_maintain(relid);
	if (!tempo_relation(rel))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
		                errmsg("\"%s\" is not a table of access method \"tempo\"", RelationGetRelationName(rel))));
	return rel;
}

/*
 * tempo.compact(relation, max_spans): merges until nothing is left to merge.
 * Meanwhile the worker does not begin a merge; what another transaction holds
 * until its end is passed by.
 */
Datum
tempo_compact(PG_FUNCTION_ARGS)
{
	Oid                 relid = PG_GETARG_OID(0);
	int32               max_spans = PG_GETARG_INT32(1);
	TempoCompactOptions options = {TEMPO_COMPACT_FULL};
	TempoCompactResult  result = {0};
	uint32              sources = 0;
	int32               merges = 0;
	Relation            rel;
	TupleDesc           desc;
	Datum               values[5];
	bool                nulls[5] = {0};
	if (max_spans < 1 || max_spans > SEGMENT_MAX_ROWS)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("max_spans must be between 1 and %u", SEGMENT_MAX_ROWS)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rel = tempo_open_to_maintain(relid);
	options.max_spans = (uint32) max_spans;
	(void) tempo_lock_merging(relid, true);
	while (tempo_compact_step(rel, &options, &result))
	{
		CHECK_FOR_INTERRUPTS();
		CommandCounterIncrement();
		merges++;
		sources = result.sources;
	}
	tempo_unlock_merging(relid);
	table_close(rel, NoLock);

	values[0] = Int32GetDatum(merges);
	values[1] = Int32GetDatum((int32) sources);
	values[2] = Int32GetDatum((int32) result.targets);
	values[3] = Int64GetDatum((int64) result.spans);
	values[4] = Int64GetDatum((int64) result.bytes);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
