/*-------------------------------------------------------------------------
 *
 * writer.h
 *	  Turns a SpanBatch into the image of one segment.
 *
 * The image is a contiguous run of bytes, independent of pages; access/
 * spreads it over blocks.  src/segment/README.md is the format.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_WRITER_H
#define TEMPO_SEGMENT_WRITER_H

#include "span/batch.h"

/* Bounds that the writer keeps and the reader enforces. */
#define SEGMENT_MAX_ROWS (4U * 1024 * 1024)
#define SEGMENT_MAX_BYTES (1024U * 1024 * 1024)

typedef struct RequestHash
{
	uint8_t bytes[16];
} RequestHash;

/* What the directory keeps about a segment, and the footer repeats. */
typedef struct SegmentSummary
{
	uint32_t rows;
	uint32_t traces;
	uint8_t  level;
	int64_t  min_start_nano; /* of all spans */
	int64_t  max_start_nano;
	int64_t  max_end_nano;      /* of start and end, so never before max_start */
	int64_t  min_duration_nano; /* durations clamped to >= 0 */
	int64_t  max_duration_nano;
	int64_t  max_trace_nano; /* longest trace extent inside this segment */
	uint32_t n_tenants;
	uint64_t tenant_filter; /* bit (hash of tenant) % 64 set for every tenant inside */
	uint64_t size;          /* bytes of the image */
	uint64_t raw_size;      /* what the rows take in memory while they are merged, about: bounds merges */
} SegmentSummary;

typedef struct SegmentWriteOptions
{
	uint8_t            level;          /* 0 = straight from ingest: compact layout, quick */
	int                zstd_level;     /* 1..19; 0 = the writer's choice; negative: nothing is compressed */
	const RequestHash *request_hashes; /* of the requests inside (exactly once) */
	uint32_t           n_request_hashes;
} SegmentWriteOptions;

typedef struct SegmentImage
{
	uint8_t       *data; /* from the allocator; segment_image_free() */
	size_t         size;
	SegmentSummary summary;
	uint32_t      *row_of; /* row_of[i] = row in the segment of batch span first + i */
} SegmentImage;

/* segment_tenant_bit: the bit of "tenant" in tenant_filter */
extern uint64_t segment_tenant_bit(SpanText tenant);

/*
 * segment_write: encodes spans first .. first + count - 1 of the batch.  Rows
 * are reordered: spans of a trace together, traces by start time.  False with
 * *error on no memory, or when a bound above would be exceeded.
 */
extern bool segment_write(const SpanBatch *batch, uint32_t first, uint32_t count,
                          const SegmentWriteOptions *options,
                          const SpanAllocator       *allocator,
                          SegmentImage *image, SpanError *error);

extern void segment_image_free(SegmentImage *image, const SpanAllocator *allocator);

#endif /* TEMPO_SEGMENT_WRITER_H */
