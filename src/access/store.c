/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Makes segments: encodes a batch, takes an extent, adds the directory
 *	  row, writes the pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/store.h"

#include "access/deletions.h"
#include "access/memory.h"
#include "access/pages.h"
#include "access/stop_at.h"
#include "access/xact.h"
#include "utils/memutils.h"

void
tempo_store_image(Relation rel, const SegmentSource *image, CommandId cid, TempoSegment *segment)
{
	TempoDirectory directory;
	TempoExtent    extent;

	segment->n_blocks = tempo_blocks_needed(image->size, segment->summary.rows);

	/*
	 * While the extent lock is held no other heavyweight lock may be taken,
	 * so whatever needs one comes before: relations, and our transaction id.
	 */
	tempo_directory_open(&directory, RowExclusiveLock, false);
	(void) GetCurrentTransactionId();
	tempo_stop(STORE_BEGIN);

	tempo_lock_extents(rel);
	extent = tempo_extent_take(rel, segment->n_blocks, &segment->storage_id, &segment->segment_id);
	segment->first_block = extent.first;
	tempo_stop(STORE_TAKEN);
	tempo_directory_insert_heap(&directory, segment, cid);
	tempo_stop(STORE_OWNED);
	tempo_unlock_extents(rel);

	tempo_directory_insert_index(&directory, segment);
	tempo_stop(STORE_INDEXED);
	tempo_pages_write(rel, extent, segment->segment_id, image);
	tempo_stop(STORE_WRITTEN);
	tempo_directory_close(&directory);
}

/* The pages of a segment, for who copies it. */
typedef struct CopySource
{
	Relation             rel;
	TempoExtent          extent;
	uint64               segment_id;
	BufferAccessStrategy strategy;
} CopySource;

static bool
read_copy(void *arg, uint64_t offset, void *dst, size_t len)
{
	CopySource *source = arg;
	BlockNumber bad_block;

	if (tempo_pages_read(source->rel, source->extent, source->segment_id, offset, dst, len,
	                     source->strategy, &bad_block))
		return true;
	ereport(ERROR,
	        (errcode(ERRCODE_DATA_CORRUPTED),
	         errmsg("could not read segment " UINT64_FORMAT " of relation \"%s\"", source->segment_id,
	                RelationGetRelationName(source->rel)),
	         errdetail("Block %u is not a page of this segment.", bad_block)));
}

void
tempo_store_copy(Relation rel, Relation from, CommandId cid, TempoSegment *segment, BufferAccessStrategy strategy)
{
	CopySource    source = {from, {segment->first_block, segment->n_blocks}, segment->segment_id, strategy};
	SegmentSource image = {read_copy, &source, segment->summary.size};

	tempo_deletions_check_mask(from, segment);
	segment->deleted = NULL;
	segment->n_deleted = 0;
	tempo_store_image(rel, &image, cid, segment);
}

static SegmentWriteOptions
write_options(const TempoStoreOptions *options)
{
	SegmentWriteOptions result = {0};

	result.level = options->level;
	result.request_hashes = options->hashes;
	result.n_request_hashes = options->n_hashes;
	return result;
}

/* Stores what has just been written. */
static void
store_written(Relation rel, const SegmentImage *image, const TempoStoreOptions *options, TempoSegment *segment)
{
	SegmentMemory memory = {image->data, image->size};
	SegmentSource source = segment_source_memory(&memory);

	memset(segment, 0, sizeof(*segment));
	segment->summary = image->summary;
	segment->n_requests = options->n_hashes;
	segment->newest_at = options->newest_at;
	tempo_store_image(rel, &source, options->cid, segment);
}

void
tempo_store_spans(Relation rel, const SpanBatch *batch, uint32 first, uint32 count,
                  const TempoStoreOptions *options, TempoSegment *segment, uint32 **row_of)
{
	MemoryContext       context = AllocSetContextCreate(CurrentMemoryContext, "tempo segment image",
	                                                    ALLOCSET_DEFAULT_SIZES);
	SpanAllocator       allocator = tempo_context_allocator(context);
	SegmentWriteOptions how = write_options(options);
	SegmentImage        image = {0};
	SpanError           error = {SPAN_ERROR_NONE};

	if (!segment_write(batch, first, count, &how, &allocator, &image, &error))
		tempo_raise(&error);
	store_written(rel, &image, options, segment);
	if (row_of != NULL)
	{
		*row_of = MemoryContextAllocHuge(CurrentMemoryContext, (Size) count * sizeof(uint32));
		memcpy(*row_of, image.row_of, (Size) count * sizeof(uint32));
	}
	MemoryContextDelete(context);
}

void
tempo_store_target(Relation rel, SegmentMerge *merge, uint32 target, const TempoStoreOptions *options,
                   TempoSegment *segment)
{
	SegmentWriteOptions how = write_options(options);
	SegmentImage        image = {0};
	SpanError           error = {SPAN_ERROR_NONE};

	if (!segment_merge_write(merge, target, &how, &image, &error))
		tempo_raise(&error);
	store_written(rel, &image, options, segment);
	segment_merge_free_image(merge, &image);
}
