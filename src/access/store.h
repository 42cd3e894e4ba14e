/*-------------------------------------------------------------------------
 *
 * store.h
 *	  Makes segments: encodes a batch, takes an extent, adds the directory
 *	  row, writes the pages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_STORE_H
#define TEMPO_ACCESS_STORE_H

#include "access/directory.h"
#include "segment/merge.h"
#include "segment/reader.h"
#include "storage/bufmgr.h"

typedef struct TempoStoreOptions
{
	uint8              level;
	CommandId          cid;
	TimestampTz        newest_at;
	const RequestHash *hashes;
	uint32             n_hashes;
} TempoStoreOptions;

/*
 * tempo_store_spans: spans first .. first + count - 1 of the batch as one
 * segment, described in *segment.  With row_of, *row_of[i] (palloc'd) is the
 * row of span first + i.
 */
extern void tempo_store_spans(Relation rel, const SpanBatch *batch, uint32 first, uint32 count,
                              const TempoStoreOptions *options, TempoSegment *segment, uint32 **row_of);

/* tempo_store_target: one target of a merge as a segment, described in *segment */
extern void tempo_store_target(Relation rel, SegmentMerge *merge, uint32 target, const TempoStoreOptions *options,
                               TempoSegment *segment);

/*
 * tempo_store_image: an image that exists already.  The caller has set
 * summary, n_requests and newest_at; the rest of *segment is filled in.
 */
extern void tempo_store_image(Relation rel, const SegmentSource *image, CommandId cid,
                              TempoSegment *segment);

/*
 * tempo_store_copy: the image of a segment of "from" as it is, which may be
 * the same relation.  *segment becomes the copy; what was deleted from the
 * segment is not deleted from the copy.
 */
extern void tempo_store_copy(Relation rel, Relation from, CommandId cid, TempoSegment *segment,
                             BufferAccessStrategy strategy);

#endif /* TEMPO_ACCESS_STORE_H */
