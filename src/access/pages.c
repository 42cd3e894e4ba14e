/*-------------------------------------------------------------------------
 *
 * pages.c
 *	  Pages of a tempo relation: the metapage, extents, and segment images.
 *
 * Only core WAL records are written: full-page images for segment pages, and
 * GenericXLog for the metapage.  The order that makes crashes harmless is:
 * the metapage forgets the extent, the directory row that owns it is
 * inserted, the pages are written.  A crash in between loses the extent until
 * VACUUM finds that no row owns it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/pages.h"

#include "access/directory.h"
#include "access/generic_xlog.h"
#include "access/stop_at.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"

/* Pages that one WAL record carries (XLR_MAX_BLOCK_ID + 1). */
#define PAGES_PER_RECORD 32

/* Images longer than this do not displace the rest of shared buffers. */
#define BULK_BLOCKS 128

static inline TempoPageTail *
page_tail(Page page)
{
	return (TempoPageTail *) PageGetSpecialPointer(page);
}

/* An empty page whose last "payload" bytes before the tail are to be filled. */
static char *
page_init(Page page, uint32 magic, uint32 segment_id, Size payload)
{
	PageHeader header = (PageHeader) page;

	PageInit(page, BLCKSZ, sizeof(TempoPageTail));
	header->pd_upper = header->pd_special - payload;
	page_tail(page)->magic = magic;
	page_tail(page)->segment_id = segment_id;
	return (char *) page + header->pd_upper;
}

static bool
page_is(Page page, uint32 magic, uint32 segment_id, Size payload)
{
	PageHeader header = (PageHeader) page;

	return !PageIsNew(page) &&
	       PageGetSpecialSize(page) == MAXALIGN(sizeof(TempoPageTail)) &&
	       page_tail(page)->magic == magic &&
	       page_tail(page)->segment_id == segment_id &&
	       header->pd_special - header->pd_upper >= payload;
}

/* ------------------------------------------------------------- metapage */

static uint32
meta_crc(const TempoMeta *meta)
{
	Size      size = offsetof(TempoMeta, free) + meta->header.n_free * sizeof(TempoExtent);
	Size      from = offsetof(TempoMetaHeader, crc);
	Size      to = from + sizeof(meta->header.crc);
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, meta, from);
	COMP_CRC32C(crc, (const char *) meta + to, size - to);
	FIN_CRC32C(crc);
	return crc;
}

static void
meta_check(Relation rel, Page page)
{
	const TempoMetaHeader *header;

	if (!page_is(page, TEMPO_META_MAGIC, 0, sizeof(TempoMeta)))
		ereport(ERROR,
		        (errcode(ERRCODE_DATA_CORRUPTED),
		         errmsg("metapage of relation \"%s\" is damaged", RelationGetRelationName(rel)),
		         errdetail("Block 0 is not a metapage.")));

	header = (const TempoMetaHeader *) ((char *) page + ((PageHeader) page)->pd_upper);
	if (header->magic != TEMPO_META_MAGIC || header->n_free > TEMPO_MAX_FREE_EXTENTS)
		ereport(ERROR,
		        (errcode(ERRCODE_DATA_CORRUPTED),
		         errmsg("metapage of relation \"%s\" is damaged", RelationGetRelationName(rel)),
		         errdetail("Block 0 has magic %08X and %u free extents.", header->magic, header->n_free)));
	if (header->version != TEMPO_FORMAT_VERSION)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("relation \"%s\" has storage format %u, but this library reads format %d",
		                RelationGetRelationName(rel), header->version, TEMPO_FORMAT_VERSION),
		         errhint("Install the version of tempo_pg that wrote it, or move the data by dump and restore.")));
	if (meta_crc((const TempoMeta *) header) != header->crc)
		ereport(ERROR,
		        (errcode(ERRCODE_DATA_CORRUPTED),
		         errmsg("metapage of relation \"%s\" is damaged", RelationGetRelationName(rel)),
		         errdetail("The checksum of block 0 is wrong.")));
}

static bool
meta_copy(Relation rel, void *dst, Size len)
{
	BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);
	Buffer      buffer;
	Page        page;

	if (n_blocks == 0)
		return false;
	buffer = ReadBuffer(rel, 0);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (PageIsNew(page) && n_blocks == 1)
	{
		/*
		 * The extension of the file survived a crash, the metapage did not.
		 * Where there are more blocks it did, and has been lost since.
		 */
		UnlockReleaseBuffer(buffer);
		return false;
	}
	meta_check(rel, page);
	memcpy(dst, (char *) page + ((PageHeader) page)->pd_upper, len);
	UnlockReleaseBuffer(buffer);
	return true;
}

bool
tempo_meta_read(Relation rel, TempoMetaHeader *header)
{
	return meta_copy(rel, header, sizeof(TempoMetaHeader));
}

bool
tempo_meta_read_all(Relation rel, TempoMeta *meta)
{
	return meta_copy(rel, meta, sizeof(TempoMeta));
}

/* Writes the metapage; the caller holds the extent lock. */
static void
meta_write(Relation rel, TempoMeta *meta)
{
	Buffer            buffer = ReadBuffer(rel, 0);
	GenericXLogState *state;
	Page              page;
	char             *content;
	bool              is_new;

	meta->header.crc = meta_crc(meta);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	is_new = PageIsNew(BufferGetPage(buffer));
	state = GenericXLogStart(rel);
	page = GenericXLogRegisterBuffer(state, buffer, is_new ? GENERIC_XLOG_FULL_IMAGE : 0);
	if (is_new)
		content = page_init(page, TEMPO_META_MAGIC, 0, sizeof(TempoMeta));
	else
		content = (char *) page + ((PageHeader) page)->pd_upper;
	memcpy(content, meta, offsetof(TempoMeta, free) + meta->header.n_free * sizeof(TempoExtent));
	GenericXLogFinish(state);
	UnlockReleaseBuffer(buffer);
}

void
tempo_lock_extents(Relation rel)
{
	LockPage(rel, 0, ExclusiveLock);
}

void
tempo_unlock_extents(Relation rel)
{
	UnlockPage(rel, 0, ExclusiveLock);
}

/*
 * Makes the file "count" blocks longer, so that a full disk shows before
 * anything refers to the blocks.  The first new block is returned.
 */
static BlockNumber
extend_file(Relation rel, BlockNumber count)
{
	BlockNumber    first;
	PGAlignedBlock zero = {{0}};

	LockRelationForExtension(rel, ExclusiveLock);
	first = RelationGetNumberOfBlocks(rel);
	if (count > MaxBlockNumber - 0x20000 - first)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		         errmsg("relation \"%s\" cannot grow any further", RelationGetRelationName(rel)),
		         errhint("Spread the spans over partitions.")));
	for (BlockNumber block = first; block < first + count; block++)
		smgrextend(RelationGetSmgr(rel), MAIN_FORKNUM, block, zero.data, false);
	UnlockRelationForExtension(rel, ExclusiveLock);
	return first;
}

/* The metapage as it is, or a new one in block 0. */
static void
meta_read_or_create(Relation rel, TempoMeta *meta)
{
	if (tempo_meta_read_all(rel, meta))
		return;

	memset(meta, 0, sizeof(*meta));
	meta->header.magic = TEMPO_META_MAGIC;
	meta->header.version = TEMPO_FORMAT_VERSION;
	meta->header.next_segment_id = 1;
	do
	{
		if (!pg_strong_random(&meta->header.storage_id, sizeof(meta->header.storage_id)))
			ereport(ERROR,
			        (errcode(ERRCODE_INTERNAL_ERROR),
			         errmsg("could not generate a random storage id")));
	} while (meta->header.storage_id == 0);

	if (RelationGetNumberOfBlocks(rel) == 0)
		extend_file(rel, 1);
	meta_write(rel, meta);
	/* before the file grows any further, so that more than one block tells that there is a metapage */
	if (RelationNeedsWAL(rel))
		XLogFlush(XactLastRecEnd);
}

/*
 * The first free extent that has "count" blocks, cut to that; false if none.
 * First and not best fit, so that data moves to the front of the file and its
 * end becomes free.
 */
static bool
free_list_take(TempoMeta *meta, BlockNumber count, TempoExtent *extent)
{
	uint32       n_free = meta->header.n_free;
	TempoExtent *found = meta->free;

	while (found < meta->free + n_free && found->count < count)
		found++;
	if (found == meta->free + n_free)
		return false;

	extent->first = found->first;
	extent->count = count;
	if (found->count > count)
	{
		found->first += count;
		found->count -= count;
	}
	else
	{
		memmove(found, found + 1, (char *) &meta->free[n_free] - (char *) (found + 1));
		meta->header.n_free--;
	}
	return true;
}

/*
 * Making the file longer is not logged, what is on the free list is: after a
 * crash, and on a promoted standby, the list may name blocks beyond the end of
 * the file.  They must exist before any of the file's end is given away,
 * or the next extension would give the same blocks once more.
 */
static void
extend_to_free_list(Relation rel, const TempoMeta *meta)
{
	BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);
	BlockNumber end = 0;

	for (uint32 i = 0; i < meta->header.n_free; i++)
		end = Max(end, meta->free[i].first + meta->free[i].count);
	if (end > n_blocks)
		(void) extend_file(rel, end - n_blocks);
}

TempoExtent
tempo_extent_take(Relation rel, BlockNumber count, uint64 *storage_id, uint64 *segment_id)
{
	TempoMeta  *meta = palloc(sizeof(TempoMeta));
	TempoExtent extent;

	meta_read_or_create(rel, meta);
	extend_to_free_list(rel, meta);
	if (!free_list_take(meta, count, &extent))
	{
		extent.first = extend_file(rel, count);
		tempo_stop(STORE_EXTENDED);
		extent.count = count;
	}
	*storage_id = meta->header.storage_id;
	*segment_id = meta->header.next_segment_id++;
	meta_write(rel, meta);
	pfree(meta);
	return extent;
}

void
tempo_free_list_replace(Relation rel, const TempoExtent *extents, uint32 count)
{
	TempoMeta *meta = palloc(sizeof(TempoMeta));

	Assert(count <= TEMPO_MAX_FREE_EXTENTS);
	if (tempo_meta_read_all(rel, meta) &&
	    (meta->header.n_free != count ||
	     memcmp(meta->free, extents, count * sizeof(TempoExtent)) != 0))
	{
		meta->header.n_free = count;
		memcpy(meta->free, extents, count * sizeof(TempoExtent));
		meta_write(rel, meta);
	}
	pfree(meta);
}

void
tempo_meta_set_rewrite(Relation rel, uint64 xid)
{
	TempoMeta *meta = palloc(sizeof(TempoMeta));

	meta_read_or_create(rel, meta);
	meta->header.rewrite_xid = xid;
	meta_write(rel, meta);
	pfree(meta);
}

/* -------------------------------------------------------- segment images */

BlockNumber
tempo_blocks_needed(uint64 size, uint32 rows)
{
	uint64 for_bytes = (size + TEMPO_PAGE_PAYLOAD - 1) / TEMPO_PAGE_PAYLOAD;
	uint64 for_rows = (rows + TEMPO_MAX_ROWS_PER_BLOCK - 1) / TEMPO_MAX_ROWS_PER_BLOCK;

	return (BlockNumber) Max(Max(for_bytes, for_rows), 1);
}

/* One run of at most PAGES_PER_RECORD blocks, logged as one record. */
static void
write_run(Relation rel, BlockNumber first, int n_blocks, uint64 segment_id,
          const SegmentSource *image, uint64 offset, BufferAccessStrategy strategy)
{
	Buffer buffers[PAGES_PER_RECORD];
	char  *payloads[PAGES_PER_RECORD];
	Size   lengths[PAGES_PER_RECORD];
	char  *copy = palloc((Size) n_blocks * TEMPO_PAGE_PAYLOAD);
	bool   logged = RelationNeedsWAL(rel);

	/* all that can fail comes first */
	for (int i = 0; i < n_blocks; i++)
	{
		uint64 at = offset + (uint64) i * TEMPO_PAGE_PAYLOAD;

		lengths[i] = at >= image->size ? 0 : Min(TEMPO_PAGE_PAYLOAD, image->size - at);
		payloads[i] = copy + (Size) i * TEMPO_PAGE_PAYLOAD;
		if (lengths[i] > 0 && !image->read(image->arg, at, payloads[i], lengths[i]))
			ereport(ERROR,
			        (errcode(ERRCODE_DATA_CORRUPTED),
			         errmsg("could not read the segment to be written to relation \"%s\"",
			                RelationGetRelationName(rel))));
	}
	for (int i = 0; i < n_blocks; i++)
		buffers[i] = ReadBufferExtended(rel, MAIN_FORKNUM, first + i, RBM_ZERO_AND_LOCK, strategy);
	if (logged)
		XLogEnsureRecordSpace(PAGES_PER_RECORD - 1, 0);

	START_CRIT_SECTION();
	for (int i = 0; i < n_blocks; i++)
	{
		char *to = page_init(BufferGetPage(buffers[i]), TEMPO_SEGMENT_MAGIC,
		                     (uint32) segment_id, lengths[i]);

		memcpy(to, payloads[i], lengths[i]);
		MarkBufferDirty(buffers[i]);
	}
	if (logged)
	{
		XLogRecPtr lsn;

		XLogBeginInsert();
		for (int i = 0; i < n_blocks; i++)
			XLogRegisterBuffer(i, buffers[i], REGBUF_FORCE_IMAGE | REGBUF_STANDARD);
		lsn = XLogInsert(RM_XLOG_ID, XLOG_FPI);
		for (int i = 0; i < n_blocks; i++)
			PageSetLSN(BufferGetPage(buffers[i]), lsn);
	}
	END_CRIT_SECTION();

	for (int i = 0; i < n_blocks; i++)
		UnlockReleaseBuffer(buffers[i]);
	pfree(copy);
}

void
tempo_pages_write(Relation rel, TempoExtent extent, uint64 segment_id, const SegmentSource *image)
{
	BufferAccessStrategy strategy = NULL;

	if (extent.count > BULK_BLOCKS)
		strategy = GetAccessStrategy(BAS_BULKWRITE);
	for (BlockNumber done = 0; done < extent.count; done += PAGES_PER_RECORD)
	{
		CHECK_FOR_INTERRUPTS();
		if (done > 0)
			tempo_stop(STORE_HALF);
		write_run(rel, extent.first + done, Min(PAGES_PER_RECORD, extent.count - done),
		          segment_id, image, (uint64) done * TEMPO_PAGE_PAYLOAD, strategy);
	}
	if (strategy != NULL)
		FreeAccessStrategy(strategy);
}

bool
tempo_pages_read(Relation rel, TempoExtent extent, uint64 segment_id, uint64 offset,
                 void *dst, Size len, BufferAccessStrategy strategy, BlockNumber *bad_block)
{
	char *to = dst;

	while (len > 0)
	{
		uint64      index = offset / TEMPO_PAGE_PAYLOAD;
		Size        at = offset % TEMPO_PAGE_PAYLOAD;
		Size        part = Min(len, TEMPO_PAGE_PAYLOAD - at);
		BlockNumber block = extent.first + (BlockNumber) index;
		Buffer      buffer;
		Page        page;
		bool        good;

		*bad_block = block;
		if (index >= extent.count)
			return false;
		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		good = page_is(page, TEMPO_SEGMENT_MAGIC, (uint32) segment_id, at + part);
		if (good)
			memcpy(to, (char *) page + ((PageHeader) page)->pd_upper + at, part);
		UnlockReleaseBuffer(buffer);
		if (!good)
			return false;
		to += part;
		offset += part;
		len -= part;
	}
	return true;
}

/* ---------------------------------------------------------------- wiping */

/* Is there nothing left in a block of what was stored there? */
static bool
block_is_wiped(Relation rel, BlockNumber block, BufferAccessStrategy strategy)
{
	/* nobody needs a free block, so a damaged one is no error */
	Buffer     buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_ZERO_ON_ERROR, strategy);
	PageHeader page;
	bool       wiped;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = (PageHeader) BufferGetPage(buffer);
	wiped = page->pd_upper == page->pd_special;
	UnlockReleaseBuffer(buffer);
	return wiped;
}

static bool
run_is_wiped(Relation rel, BlockNumber first, int n_blocks, BufferAccessStrategy strategy)
{
	for (int i = 0; i < n_blocks; i++)
		if (!block_is_wiped(rel, first + i, strategy))
			return false;
	return true;
}

/* Are the blocks on the free list?  The caller holds the extent lock. */
static bool
run_is_free(Relation rel, BlockNumber first, int n_blocks)
{
	TempoMeta *meta = palloc(sizeof(TempoMeta));
	bool       result = false;

	if (tempo_meta_read_all(rel, meta))
		for (uint32 i = 0; i < meta->header.n_free && !result; i++)
			result = meta->free[i].first <= first &&
			         first + n_blocks <= meta->free[i].first + meta->free[i].count;
	pfree(meta);
	return result;
}

void
tempo_pages_wipe_free(Relation rel, BufferAccessStrategy strategy)
{
	static const SegmentSource nothing = {0};
	TempoMeta                 *meta = palloc(sizeof(TempoMeta));
	BlockNumber                n_blocks = RelationGetNumberOfBlocks(rel);

	for (uint32 i = 0; tempo_meta_read_all(rel, meta) && i < meta->header.n_free; i++)
	{
		TempoExtent extent = meta->free[i];
		BlockNumber end = Min(extent.first + extent.count, n_blocks);

		for (BlockNumber first = extent.first; first < end; first += PAGES_PER_RECORD)
		{
			int n = Min(PAGES_PER_RECORD, end - first);

			CHECK_FOR_INTERRUPTS();
			if (run_is_wiped(rel, first, n, strategy))
				continue;
			/* who takes an extent takes it from the list first */
			tempo_lock_extents(rel);
			if (run_is_free(rel, first, n))
				write_run(rel, first, n, 0, &nothing, 0, strategy);
			tempo_unlock_extents(rel);
		}
	}
	pfree(meta);
}
