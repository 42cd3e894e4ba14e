/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  tempo.verify(): is everything on disk what it should be?
 *
 * Checks the metapage, the extents (inside the file, owned once, not on the
 * free list), that the directory's indexes find every segment, every page of
 * every visible segment, that each segment decodes, that what the directory
 * says about it holds for its rows, that its value sets and filters have what
 * its rows have, and that what is deleted are rows of it.  Returns a row per
 * problem instead of stopping at the first, none if all is well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/ddl.h"

#include "access/directory.h"
#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/memory.h"
#include "access/pages.h"
#include "access/segment_source.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "segment/check.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(tempo_verify);

#define VERIFY_ROWS 4096 /* decoded at a time */

typedef struct Verify
{
	Relation            rel;
	ReturnSetInfo      *result;
	const TempoSegment *segment; /* the one being checked, or NULL */
} Verify;

static void problem(Verify *verify, int64 block, const char *format, ...) pg_attribute_printf(3, 4);

static void
problem(Verify *verify, int64 block, const char *format, ...)
{
	Datum   values[3];
	bool    nulls[3] = {false, false, false};
	char    message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	nulls[0] = verify->segment == NULL;
	values[0] = nulls[0] ? (Datum) 0 : Int64GetDatum((int64) verify->segment->segment_id);
	nulls[1] = block < 0;
	values[1] = Int64GetDatum(block);
	values[2] = CStringGetTextDatum(message);
	tuplestore_putvalues(verify->result->setResult, verify->result->setDesc, values, nulls);
	pfree(DatumGetPointer(values[2]));
}

/* --------------------------------------------------------------- extents */

/*
 * An extent whose transaction was aborted may lie behind the end of the file,
 * or be given to somebody else since: making the file longer is not logged,
 * so recovery that stops before the pages were written leaves a file without
 * it.  So do transactions in progress on a standby, and the free list, which
 * is made good before any of its blocks is given away.
 */
static uint32
leave_out_aborted(TempoSegment *used, uint32 n_used)
{
	uint32 kept = 0;

	for (uint32 i = 0; i < n_used; i++)
		if (TransactionIdDidCommit(used[i].xmin) ||
		    (TransactionIdIsInProgress(used[i].xmin) && !RecoveryInProgress()))
			used[kept++] = used[i];
	return kept;
}

/* Extents of all directory rows, dead ones too, against file and free list. */
static void
verify_extents(Verify *verify)
{
	TempoDirectory directory;
	TempoMeta     *meta = palloc(sizeof(TempoMeta));
	BlockNumber    n_blocks;
	TempoSegment  *used;
	uint32         n_used;
	BlockNumber    end = 1;

	if (!tempo_meta_read_all(verify->rel, meta))
		return;
	tempo_directory_open(&directory, AccessShareLock, false);
	tempo_lock_extents(verify->rel);
	/* again, now that nothing moves */
	(void) tempo_meta_read_all(verify->rel, meta);
	used = tempo_directory_extents(&directory, meta->header.storage_id, &n_used);
	n_blocks = RelationGetNumberOfBlocks(verify->rel);
	tempo_unlock_extents(verify->rel);
	tempo_directory_close(&directory);

	n_used = leave_out_aborted(used, n_used);
	tempo_segments_sort_by_block(used, n_used);
	for (uint32 i = 0; i < n_used; i++)
	{
		verify->segment = &used[i];
		if (used[i].n_blocks == 0 || used[i].first_block < end || used[i].n_blocks > n_blocks ||
		    used[i].first_block > n_blocks - used[i].n_blocks)
			problem(verify, used[i].first_block, "the extent of %u blocks overlaps another, or is not inside the file of %u blocks",
			        used[i].n_blocks, n_blocks);
		if (used[i].segment_id >= meta->header.next_segment_id)
			problem(verify, 0, "the segment id has not been given out yet");
		end = Max(end, used[i].first_block + used[i].n_blocks);
	}
	verify->segment = NULL;
	end = 1;
	for (uint32 i = 0; i < meta->header.n_free; i++)
	{
		TempoExtent *one = &meta->free[i];

		CHECK_FOR_INTERRUPTS();
		if (one->count == 0 || one->first < end || one->count > MaxBlockNumber - one->first)
			problem(verify, one->first, "the free extent of %u blocks overlaps another", one->count);
		for (uint32 k = 0; k < n_used; k++)
			if (used[k].first_block < one->first + one->count && one->first < used[k].first_block + used[k].n_blocks)
			{
				verify->segment = &used[k];
				problem(verify, one->first, "the segment's extent is on the free list");
				verify->segment = NULL;
			}
		end = Max(end, one->first + one->count);
	}
	pfree(used);
	pfree(meta);
}

/* -------------------------------------------------------------- segments */

static void
verify_summary(Verify *verify, const SegmentSummary *footer)
{
	const SegmentSummary *row = &verify->segment->summary;

#define SAME(field, format) \
	if (row->field != footer->field) \
	problem(verify, -1, "directory and footer disagree about " #field ": " format " and " format, \
	        row->field, footer->field)

	SAME(rows, "%u");
	SAME(traces, "%u");
	SAME(level, "%u");
	SAME(min_start_nano, INT64_FORMAT);
	SAME(max_start_nano, INT64_FORMAT);
	SAME(max_end_nano, INT64_FORMAT);
	SAME(min_duration_nano, INT64_FORMAT);
	SAME(max_duration_nano, INT64_FORMAT);
	SAME(n_tenants, "%u");
	SAME(tenant_filter, UINT64_FORMAT);
#undef SAME
}

static int64
span_duration(const Span *span)
{
	return Max(span->end_time_unix_nano - span->start_time_unix_nano, 0);
}

/* Do the decoded rows keep to what the directory and the zone maps say? */
static void
verify_rows(Verify *verify, SegmentReader *reader, const SpanBatch *batch, uint32 first)
{
	const SegmentSummary *summary = &verify->segment->summary;
	uint32                zone_rows = segment_block_rows(reader);

	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];
		int64       duration = span_duration(span);
		SpanText    tenant = batch->strings[span_resource(batch, span)->tenant];
		SpanError   error = {SPAN_ERROR_NONE};
		int64       min_start;
		int64       max_start;
		int64       max_duration;

		if (span->start_time_unix_nano < summary->min_start_nano ||
		    span->start_time_unix_nano > summary->max_start_nano ||
		    span->end_time_unix_nano > summary->max_end_nano ||
		    duration < summary->min_duration_nano || duration > summary->max_duration_nano)
			problem(verify, -1, "row %u lies outside the times in the directory", first + i);
		if ((segment_tenant_bit(tenant) & summary->tenant_filter) == 0)
			problem(verify, -1, "the tenant of row %u is not in the directory's filter", first + i);
		if (zone_rows == 0)
			continue;
		if (!segment_block_times(reader, (first + i) - (first + i) % zone_rows,
		                         &min_start, &max_start, &max_duration, &error))
		{
			problem(verify, -1, "zone map of row %u: %s", first + i, error.message);
			return;
		}
		if (span->start_time_unix_nano < min_start || span->start_time_unix_nano > max_start ||
		    duration > max_duration)
			problem(verify, -1, "row %u lies outside its zone map", first + i);
	}
}

/* Are the rows of a trace contiguous, and where the index says? */
static void
verify_traces(Verify *verify, SegmentReader *reader, const SpanBatch *batch, uint32 first, TraceId *previous)
{
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const TraceId *id = &batch->spans[i].trace_id;
		SpanError      error = {SPAN_ERROR_NONE};
		uint32_t       at;
		uint32_t       count;

		if (first + i > 0 && memcmp(id, previous, sizeof(TraceId)) == 0)
			continue;
		*previous = *id;
		if (!segment_find_trace(reader, id, &at, &count, &error))
		{
			problem(verify, -1, "trace of row %u: %s", first + i, error.message);
			return;
		}
		if (count == 0 || at != first + i)
			problem(verify, -1, "the trace that begins at row %u is not where the index says", first + i);
	}
}

static void
verify_segment(Verify *verify, TempoOpenSegment *open)
{
	SegmentReader    *reader = tempo_segment_reader(open);
	SegmentProjection everything = {SEGMENT_ALL};
	SpanAllocator     allocator = tempo_context_allocator(CurrentMemoryContext);
	SpanBatch        *batch = span_batch_create(&allocator, 0);
	SpanError         error = {SPAN_ERROR_NONE};
	const SegmentKey *keys;
	uint32_t          n_keys;
	SegmentAsked     *asked = palloc0(sizeof(SegmentAsked));
	uint32            n_rows = verify->segment->summary.rows;
	TraceId           previous;

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	memset(&previous, 0, sizeof(previous));
	verify_summary(verify, segment_summary(reader));
	for (uint32 first = 0; first < n_rows; first += VERIFY_ROWS)
	{
		uint32 count = Min(VERIFY_ROWS, n_rows - first);

		CHECK_FOR_INTERRUPTS();
		span_batch_reset(batch);
		if (!segment_decode(reader, &everything, first, count, batch, &error))
		{
			problem(verify, -1, "rows %u to %u: %s", first, first + count - 1, error.message);
			continue;
		}
		if (batch->n_spans != count)
		{
			problem(verify, -1, "rows %u to %u decode to %u rows", first, first + count - 1, batch->n_spans);
			continue;
		}
		verify_rows(verify, reader, batch, first);
		verify_traces(verify, reader, batch, first, &previous);
		if (!segment_check_values(reader, batch, asked, &error))
			problem(verify, -1, "rows %u to %u: %s", first, first + count - 1, error.message);
	}
	if (!segment_keys(reader, &keys, &n_keys, &error))
		problem(verify, -1, "keys: %s", error.message);
}

/* Every page of the extent, whether the image reaches it or not. */
static void
verify_pages(Verify *verify)
{
	const TempoSegment *segment = verify->segment;
	TempoExtent         extent = {segment->first_block, segment->n_blocks};
	char                byte;

	for (BlockNumber i = 0; i < segment->n_blocks; i++)
	{
		uint64      offset = (uint64) i * TEMPO_PAGE_PAYLOAD;
		BlockNumber bad_block;

		CHECK_FOR_INTERRUPTS();
		if (!tempo_pages_read(verify->rel, extent, segment->segment_id, offset, &byte,
		                      offset < segment->summary.size ? 1 : 0, NULL, &bad_block))
			problem(verify, bad_block, "the block is not a page of this segment");
	}
}

/*
 * One segment, in a subtransaction: damage found below us (a checksum, say)
 * is an error that becomes a row.
 */
static void
verify_one(Verify *verify, MemoryContext context)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		TempoOpenSegment *open;

		verify_pages(verify);
		/* what this session has read before is not what is on disk now */
		tempo_segment_forget(verify->segment);
		open = tempo_segment_open(verify->rel, verify->segment, NULL);
		verify_segment(verify, open);
		tempo_segment_close(open);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_INDEX_CORRUPTED &&
		    error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			ReThrowError(error);
		problem(verify, -1, "%s%s%s", error->message, error->detail ? ": " : "", error->detail ? error->detail : "");
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextReset(context);
}

static int
compare_id(const void *a, const void *b)
{
	uint64 x = ((const TempoSegment *) a)->segment_id;
	uint64 y = ((const TempoSegment *) b)->segment_id;

	return x < y ? -1 : x > y;
}

/* Do the indexes, read from where they are read, find what is in the directory? */
static void
verify_indexes(Verify *verify, Snapshot snapshot, const TempoSegment *found, uint32 n_found)
{
	TempoMetaHeader meta;
	TempoDirectory  directory;
	TempoSegment   *all;
	uint32          n_all;

	if (!tempo_meta_read(verify->rel, &meta))
		return;
	tempo_directory_open(&directory, AccessShareLock, false);
	all = tempo_directory_scan(&directory, snapshot, meta.storage_id, &n_all);
	tempo_directory_close(&directory);
	for (uint32 i = 0; i < n_all; i++)
	{
		if (n_found > 0 && bsearch(&all[i], found, n_found, sizeof(TempoSegment), compare_id) != NULL)
			continue;
		verify->segment = &all[i];
		problem(verify, -1, "the indexes of the directory do not find the segment");
		verify->segment = NULL;
	}
	pfree(all);
}

static void
mask_problem(void *arg, uint64 segment_id, const char *text)
{
	Verify      *verify = arg;
	TempoSegment segment = {.segment_id = segment_id};

	verify->segment = &segment;
	problem(verify, -1, "%s", text);
	verify->segment = NULL;
}

static void
verify_deletions(Verify *verify, Snapshot snapshot, TempoSegment *segments, uint32 count)
{
	TempoMetaHeader meta;

	if (tempo_meta_read(verify->rel, &meta))
		tempo_deletions_check(snapshot, meta.storage_id, segments, count, mask_problem, verify);
}

/* tempo.verify(relation): a row per problem */
Datum
tempo_verify(PG_FUNCTION_ARGS)
{
	Verify        verify = {0};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo verify",
	                                              ALLOCSET_DEFAULT_SIZES);
	Snapshot      snapshot;
	TempoSegment *segments;
	uint32        count;

	InitMaterializedSRF(fcinfo, 0);
	verify.result = (ReturnSetInfo *) fcinfo->resultinfo;
	verify.rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	if (!tempo_relation(verify.rel))
		ereport(ERROR,
		        (errcode(ERRCODE_WRONG_OBJECT_TYPE),
		         errmsg("\"%s\" is not a table of access method \"tempo\"",
		                RelationGetRelationName(verify.rel))));
	tempo_flush_inserts(RelationGetRelid(verify.rel));

	verify_extents(&verify);
	snapshot = RegisterSnapshot(GetActiveSnapshot());
	segments = tempo_directory_list_images(verify.rel, snapshot, NULL, &count);
	verify_indexes(&verify, snapshot, segments, count);
	verify_deletions(&verify, snapshot, segments, count);
	for (uint32 i = 0; i < count; i++)
	{
		verify.segment = &segments[i];
		verify_one(&verify, context);
	}
	UnregisterSnapshot(snapshot);
	table_close(verify.rel, NoLock);
	return (Datum) 0;
}
