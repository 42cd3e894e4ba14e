/*-------------------------------------------------------------------------
 *
 * row_kit.h
 *	  What makes rows of spans, kept by a backend from one query to the next.
 *
 * Spans of a table share strings, resources and shapes.  A batch that lives on
 * has them interned, with the jsonb of resources made, and the open segments
 * (segment_source.h) have their templates for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_ROW_KIT_H
#define TEMPO_ACCESS_ROW_KIT_H

#include "access/row.h"

typedef struct TempoRowKit
{
	SpanBatch      *batch;
	TempoRowReader *reader;
} TempoRowKit;

/*
 * tempo_row_kit_take: one for these columns, which are as for
 * tempo_row_reader_create(), and for those that are "blank"
 * (tempo_row_reader_blank()).  It is the caller's until it gives it back or the
 * current context is reset.
 */
extern TempoRowKit *tempo_row_kit_take(const TempoColumnMap *map, const Bitmapset *needed, bool all,
                                       const Bitmapset *blank);
extern void         tempo_row_kit_give_back(TempoRowKit *kit);

#endif /* TEMPO_ACCESS_ROW_KIT_H */
