/*-------------------------------------------------------------------------
 *
 * segment_source.h
 *	  Opens segments over shared buffers, with a cache of opened ones.
 *
 * Together with directory.h this is what custom scans and trace lookups are
 * made of: list or walk the directory rows that a snapshot sees, skip those
 * whose zone map or tenant filter excludes them, open the rest.  Rows that
 * the own transaction has inserted but not flushed are in insert_buffer.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_SEGMENT_SOURCE_H
#define TEMPO_ACCESS_SEGMENT_SOURCE_H

#include "access/directory.h"
#include "segment/reader.h"
#include "storage/bufmgr.h"

typedef struct TempoOpenSegment TempoOpenSegment;

/* tempo_segment_forget: lets the next one who opens the segment read it anew, unless somebody has it open */
extern void tempo_segment_forget(const TempoSegment *segment);

/*
 * tempo_segment_open: opens a segment, or finds it in the backend's cache.
 * The caller keeps "rel" open until tempo_segment_close(), which is implied
 * when the current memory context goes away.  "strategy" may be NULL.
 */
extern TempoOpenSegment *tempo_segment_open(Relation rel, const TempoSegment *segment,
                                            BufferAccessStrategy strategy);
extern void              tempo_segment_close(TempoOpenSegment *open);

/* tempo_segment_set_relation: for who keeps a segment open while the relation is closed and opened again */
extern void tempo_segment_set_relation(TempoOpenSegment *open, Relation rel);

/*
 * tempo_segment_reader: an error while a condition, asked by tempo_segment_select(),
 * looks at the segment.  tempo_segment_counters: what the reader has done; always.
 */
extern SegmentReader         *tempo_segment_reader(TempoOpenSegment *open);
extern const SegmentCounters *tempo_segment_counters(const TempoOpenSegment *open);

/* tempo_segment_failed: raises what a reader function reported, naming relation, segment and block */
extern _Noreturn void tempo_segment_failed(TempoOpenSegment *open, const SpanError *error);

/* tempo_segment_decode: segment_decode() that raises on failure */
extern void tempo_segment_decode(TempoOpenSegment *open, const SegmentProjection *projection,
                                 uint32 first, uint32 count, SpanBatch *batch);

/* tempo_segment_decode_rows, tempo_segment_select: segment_decode_rows() and segment_select(), likewise */
extern void tempo_segment_decode_rows(TempoOpenSegment *open, const SegmentProjection *projection,
                                      const uint32 *rows, uint32 n, SpanBatch *batch);
extern void tempo_segment_select(TempoOpenSegment *open, const SegmentProjection *projection,
                                 uint32 first, uint32 count, const SegmentTest *test,
                                 SpanBatch *batch, uint8 *rows);

extern void tempo_segment_cache_init(void);

#endif /* TEMPO_ACCESS_SEGMENT_SOURCE_H */
