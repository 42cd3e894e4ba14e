/*-------------------------------------------------------------------------
 *
 * writing.h
 *	  What the files that write segments share.
 *
 * writer.c takes spans, merge_write.c the rows of other segments: both find
 * shapes, fill columns and leave the rest to write_image.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_WRITING_H
#define TEMPO_SEGMENT_WRITING_H

#include "segment/order.h"
#include "segment/rows.h"
#include "segment/sections.h"
#include "segment/shape.h"
#include "segment/writer.h"

typedef struct Writer Writer;

struct Writer
{
	const SpanBatch           *batch; /* strings, resources and scopes */
	const SpanAllocator       *allocator;
	const SegmentWriteOptions *options;
	RowOrder                   order;
	uint32_t                   n_blocks;
	int32_t                   *parents;
	ColumnSet                  columns;
	Table                      tables[N_TABLES];
	Sections                   sections;
	Buffer                     out;
	Buffer                     scratch;
	Buffer                     payload;
	Buffer                     footer;
	Buffer                     starts; /* int64_t: of the block's rows, gathered as they are */
	Buffer                     durations;
	Buffer                     ids; /* span ids of the block's rows */
	Buffer                     link_ids;
	Buffer                     event_times;
	Buffer                     zones;         /* int64_t[3] per block */
	bool                      *tenant_seen;   /* by string id */
	uint32_t                  *trace_rank;    /* position of each trace in the trace index */
	uint32_t                  *string_number; /* of the batch's strings in the segment, 0 = none yet */
	uint32_t                  *scope_number;  /* + 1; 0 = none yet */
	Buffer                     strings;       /* uint32_t: batch string ids */
	Buffer                     scopes;        /* uint32_t: batch scope indexes */
	SegmentSummary             summary;
	uint64_t                   shared_size; /* of strings, resources and scopes */
	size_t                     raw_size_at; /* in the footer */

	/* gather: appends what has no column of rows first .. end - 1 to starts .. event_times */
	void (*gather)(Writer *w, uint32_t first, uint32_t end);
	void *rows; /* of who gathers */
};

/* writer_init: for "count" rows, which must be few enough; everything is freed by writer_end() */
extern bool writer_init(Writer *w, const SpanBatch *batch, uint32_t count, const SegmentWriteOptions *options,
                        const SpanAllocator *allocator, SpanError *error);

/* writer_see_tenants: before the first writer_note_row(); false = no memory */
extern bool writer_see_tenants(Writer *w);

/* writer_note_row: into the summary, and into the zone of its block: min start, max start, max duration */
extern void writer_note_row(Writer *w, uint32_t tenant, int64_t start, int64_t end, int64_t *zone);

/* writer_block_end: last row + 1 of a block */
static inline uint32_t
writer_block_end(const Writer *w, uint32_t block)
{
	return block + 1 == w->n_blocks ? w->order.n_rows : (block + 1) * IMAGE_BLOCK_ROWS;
}

/* writer_end_columns: chooses their encodings; the last values are in */
extern bool writer_end_columns(Writer *w);

/* writer_end: the image; "ok" tells whether order, shapes and columns are there.  Frees all. */
extern bool writer_end(Writer *w, bool ok, SegmentImage *image, SpanError *error);

static inline void
writer_put_number(Buffer *numbers, uint64_t value)
{
	buffer_put(numbers, &value, sizeof(value));
}

#endif /* TEMPO_SEGMENT_WRITING_H */
