/*-------------------------------------------------------------------------
 *
 * compact_merge.c
 *	  One merge: claims the sources, reads them, writes the targets.
 *
 * Where spans are kept for a limited time, a segment is of one window of time
 * (retention.h), and spans that are too old are left out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/compact_step.h"

#include "access/deletions.h"
#include "access/memory.h"
#include "access/segment_source.h"
#include "access/stop_at.h"
#include "access/store.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How long a merged segment remembers requests: a little longer than receivers do. */
#define REQUEST_MEMORY_MS (15 * 60 * 1000)

/* Of the memory of a merge what is read may take one part in so many; writing it takes the rest. */
#define READING_FRACTION 2

typedef struct Merge
{
	Step             *step;
	SpanAllocator     allocator;
	SegmentMerge     *rows;
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
	Step              *step = merge->step;
	SegmentMergeFilter filter = {NULL};
	TempoOpenSegment  *open;

	tempo_compact_reading(step->result, segment);
	open = tempo_segment_open(step->rel, segment, NULL);
	tempo_retention_filter(step->retention, segment->newest_at, &filter);
	tempo_deletions_merge(open, segment, filter, merge->rows);
	read_hashes(merge, segment, open);
	tempo_segment_close(open);
	tempo_compact_reading(step->result, NULL);
	/* 1: folded from level 0; 2: merged from folded ones */
	merge->level = Max(merge->level, segment->summary.level == 0 ? 1 : 2);
	merge->newest_at = Max(merge->newest_at, segment->newest_at);
	merge->work->sources++;
	merge->work->rows_in += segment->summary.rows - segment->n_deleted;
	merge->work->bytes_read += segment->summary.size;
	tempo_stat_progress(step->stat, merge->work);
}

/* How the spans of a merge are told apart that go to different segments. */
typedef struct Windows
{
	const TempoRetention *retention;
	TimestampTz           newest_at;
	bool                  known;
	SpanText              tenant; /* of the last call, if known */
	int64                 length; /* of its windows */
} Windows;

static int64_t
window_of(void *arg, SpanText tenant, int64_t end)
{
	Windows *windows = arg;

	if (!windows->known || windows->tenant.data != tenant.data)
	{
		windows->known = true;
		windows->tenant = tenant;
		windows->length = tempo_retention_window(windows->retention, segment_tenant_bit(tenant));
	}
	return tempo_window_of(windows->length, end, windows->newest_at);
}

/* Writes what was read, one segment per tenant and window. */
static void
write_targets(Merge *merge)
{
	Step             *step = merge->step;
	TempoStoreOptions options = {0};
	Windows           windows = {step->retention, merge->newest_at};
	SpanError         error = {SPAN_ERROR_NONE};
	uint32            n_targets;

	if (!segment_merge_split(merge->rows, step->retention == NULL ? NULL : window_of, &windows, &n_targets, &error))
		tempo_raise(&error);
	options.level = merge->level;
	options.cid = GetCurrentCommandId(true);
	options.newest_at = merge->newest_at;
	options.hashes = merge->hashes;
	options.n_hashes = merge->n_hashes;
	for (uint32 i = 0; i < n_targets; i++)
	{
		TempoSegment segment;

		CHECK_FOR_INTERRUPTS();
		tempo_store_target(step->rel, merge->rows, i, &options, &segment);
		/* one of the targets remembers the requests */
		options.hashes = NULL;
		options.n_hashes = 0;
		merge->work->targets++;
		merge->work->rows_out += segment.summary.rows;
		merge->work->bytes_written += segment.summary.size;
		tempo_stat_progress(step->stat, merge->work);
	}
}

/* Of a segment that only moves nothing is decoded. */
static void
copy_source(Step *step, const TempoSegment *segment)
{
	TempoCompactWork *work = &step->result->work;
	TempoSegment      copy = *segment;

	tempo_compact_reading(step->result, segment);
	tempo_store_copy(step->rel, step->rel, GetCurrentCommandId(true), &copy, NULL);
	tempo_compact_reading(step->result, NULL);
	work->sources = work->targets = 1;
	work->rows_in = work->rows_out = segment->summary.rows;
	work->bytes_read = work->bytes_written = segment->summary.size;
	tempo_stat_progress(step->stat, work);
}

/* The sources that were read give way to the targets. */
static void
replace_sources(Step *step, TempoDirectory *directory, TempoSegment **read, uint32 n_read)
{
	TempoCompactResult *result = step->result;

	tempo_stop(MERGE_WRITTEN);
	for (uint32 i = 0; i < n_read; i++)
	{
		tempo_directory_delete(directory, read[i]);
		if (read[i]->deleted != NULL)
			tempo_deletions_forget(read[i]->storage_id, read[i]);
		tempo_stop(MERGE_DELETED);
	}
	tempo_stop(MERGE_DONE);
	result->sources += n_read;
	result->targets += (uint32) result->work.targets;
	result->spans += result->work.rows_out;
	result->bytes += result->work.bytes_written;
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

	return tempo_compact_tenant(step, a) == tempo_compact_tenant(step, b) && a_window == b_window;
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

bool
tempo_compact_merge(Step *step, TempoDirectory *directory, const Sources *sources)
{
	Merge               merge = {step};
	TempoCompactResult *result = step->result;
	TempoSegment      **claimed = palloc(sizeof(TempoSegment *) * (sources->count + 1));
	uint32              n = 0;
	uint32              needed = sources->segments[0]->summary.level == 0 ? 1 : Min(sources->count, 2);
	uint32              least; /* to be read whatever memory that takes */
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
	if (sources->phase == TEMPO_PHASE_MOVING && step->options->space != NULL)
		step->options->space->moved += claimed[0]->n_blocks;
	if (sources->phase == TEMPO_PHASE_MOVING && claimed[0]->deleted == NULL)
	{
		copy_source(step, claimed[0]);
		replace_sources(step, directory, claimed, 1);
		return true;
	}

	merge.allocator = tempo_context_allocator(CurrentMemoryContext);
	merge.rows = segment_merge_create(&merge.allocator);
	if (merge.rows == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	/* of several one alone would be written again as it is, without an end */
	least = claimed[0]->summary.level == 0 ? 1 : Min(n, 2);
	while (n_read < n &&
	       (n_read < least || segment_merge_memory(merge.rows) < tempo_compaction_memory() / READING_FRACTION))
		read_source(&merge, claimed[n_read++]);
	if (segment_merge_rows(merge.rows) == 0 && merge.n_hashes > 0)
	{
		/* those that are claimed and not read stay as they are */
		claimed[n_read] = claim_heir(step, directory, claimed, n);
		if (claimed[n_read] == NULL)
			return false;
		read_source(&merge, claimed[n_read++]);
		if (segment_merge_rows(merge.rows) == 0)
			return false;
	}
	tempo_stop(MERGE_READ);
	write_targets(&merge);
	replace_sources(step, directory, claimed, n_read);
	return true;
}
