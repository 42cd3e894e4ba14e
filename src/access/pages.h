/*-------------------------------------------------------------------------
 *
 * pages.h
 *	  Pages of a tempo relation: the metapage, extents, and segment images.
 *
 * Block 0 is the metapage; it is written when the first segment is, so an
 * empty relation has no blocks.  All other blocks belong to segments or are
 * free.  Every page has a standard header with no line pointers and its
 * payload between pd_upper and pd_special: to tools that take it for a heap
 * page it is empty, and the hole of a short page is left out of the WAL.
 *
 * Extents are handed out, and the metapage is changed, only by a holder of
 * tempo_lock_extents().
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_PAGES_H
#define TEMPO_ACCESS_PAGES_H

#include "postgres.h"

#include "access/transam.h"
#include "segment/reader.h"
#include "storage/buf.h"
#include "storage/bufpage.h"
#include "utils/rel.h"

#define TEMPO_FORMAT_VERSION 2
#define TEMPO_META_MAGIC 0x4f504d54 /* "TMPO" */

/* The special space of every page. */
typedef struct TempoPageTail
{
	uint32 magic;      /* TEMPO_META_MAGIC or TEMPO_SEGMENT_MAGIC */
	uint32 segment_id; /* low half; 0 on the metapage */
} TempoPageTail;

#define TEMPO_SEGMENT_MAGIC 0x47455354 /* "TSEG" */

/* Image bytes on one page. */
#define TEMPO_PAGE_PAYLOAD \
	(BLCKSZ - MAXALIGN(SizeOfPageHeaderData) - MAXALIGN(sizeof(TempoPageTail)))

typedef struct TempoExtent
{
	BlockNumber first;
	BlockNumber count;
} TempoExtent;

typedef struct TempoMetaHeader
{
	uint32 magic;
	uint32 version;
	uint64 storage_id; /* random; the key of the directory */
	uint64 next_segment_id;
	uint64 rewrite_xid; /* FullTransactionId: older snapshots must not read; 0 = none */
	uint32 crc;         /* CRC-32C of all the rest, free list included */
	uint32 n_free;
} TempoMetaHeader;

#define TEMPO_MAX_FREE_EXTENTS \
	((TEMPO_PAGE_PAYLOAD - sizeof(TempoMetaHeader)) / sizeof(TempoExtent))

typedef struct TempoMeta
{
	TempoMetaHeader header;
	TempoExtent     free[TEMPO_MAX_FREE_EXTENTS]; /* by first block */
} TempoMeta;

/*
 * tempo_meta_read: copies the metapage's header, and with "whole" the free
 * list; false if the relation has no block yet.  Raises 0A000 for a newer
 * format and XX001 for a damaged page.
 */
extern bool tempo_meta_read(Relation rel, TempoMetaHeader *header);
extern bool tempo_meta_read_all(Relation rel, TempoMeta *meta);

/*
 * Serialises allocation in one relation.  While it is held no heavyweight
 * lock but the relation extension lock may be taken.
 */
extern void tempo_lock_extents(Relation rel);
extern void tempo_unlock_extents(Relation rel);

/*
 * tempo_extent_take: "count" blocks and a new segment id; creates the
 * metapage if need be, with a storage id of its own.
 */
extern TempoExtent tempo_extent_take(Relation rel, BlockNumber count,
                                     uint64 *storage_id, uint64 *segment_id);

/* tempo_free_list_replace: what VACUUM found */
extern void tempo_free_list_replace(Relation rel, const TempoExtent *extents, uint32 count);

/*
 * tempo_meta_set_rewrite: creates the metapage if need be, and makes it refuse
 * snapshots older than "xid" (0 = none).
 */
extern void tempo_meta_set_rewrite(Relation rel, uint64 xid);

/* tempo_blocks_needed: for an image of "size" bytes with "rows" rows */
extern BlockNumber tempo_blocks_needed(uint64 size, uint32 rows);

/*
 * tempo_pages_write: writes an image to the blocks of an extent, through
 * shared buffers, logged as full-page images.
 */
extern void tempo_pages_write(Relation rel, TempoExtent extent, uint64 segment_id,
                              const SegmentSource *image);

/*
 * tempo_pages_read: copies "len" image bytes from "offset".  False, with the
 * block in *bad_block, if a page is not what it should be.
 */
extern bool tempo_pages_read(Relation rel, TempoExtent extent, uint64 segment_id,
                             uint64 offset, void *dst, Size len,
                             BufferAccessStrategy strategy, BlockNumber *bad_block);

/* tempo_pages_wipe_free: overwrites what was stored in blocks that are on the free list */
extern void tempo_pages_wipe_free(Relation rel, BufferAccessStrategy strategy);

#endif /* TEMPO_ACCESS_PAGES_H */
