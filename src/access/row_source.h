/*-------------------------------------------------------------------------
 *
 * row_source.h
 *	  Rows of one segment after the other, decoded no further than asked for,
 *	  and the tuple table slot that holds such a row.
 *
 * A slot of a tempo table refers to a row of a source; its columns are made
 * when somebody reads them, up to the highest column asked for.  So count(*)
 * decodes nothing, although the executor tells a table access method nothing
 * about the columns that a plan needs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_ROW_SOURCE_H
#define TEMPO_ACCESS_ROW_SOURCE_H

#include "postgres.h"

#include "access/directory.h"
#include "access/row.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"

typedef struct TempoRowSource TempoRowSource;

/* tempo_row_source_create: its memory is a child of the current context */
extern TempoRowSource *tempo_row_source_create(Relation rel, BufferAccessStrategy strategy);
extern void            tempo_row_source_free(TempoRowSource *source);

/* tempo_row_source_set_relation: the same relation, opened again */
extern void tempo_row_source_set_relation(TempoRowSource *source, Relation rel);

/* The rows that follow are of this segment, or of this batch in memory. */
/* tempo_row_source_set_sparse: most rows will not be asked for, those that are in ascending order */
extern void tempo_row_source_set_sparse(TempoRowSource *source, bool sparse);

extern void tempo_row_source_segment(TempoRowSource *source, const TempoSegment *segment);
extern void tempo_row_source_batch(TempoRowSource *source, const SpanBatch *batch);

/*
 * tempo_row_source_store: the slot, which must be one of ours, becomes the row.
 * Its columns stay readable until the source moves to other rows; *eager makes
 * them all at once, so that the slot depends on nothing.
 */
extern void tempo_row_source_store(TempoRowSource *source, uint32 row, ItemPointer tid,
                                   TupleTableSlot *slot, bool eager);

/* ------------------------------------------------------------- the slot */

extern const TupleTableSlotOps *tempo_slot_ops(void);

static inline bool
tempo_slot_is_ours(TupleTableSlot *slot)
{
	return slot->tts_ops == tempo_slot_ops();
}

/* tempo_slot_memory: where values that live as long as the slot's row go */
extern MemoryContext tempo_slot_memory(TupleTableSlot *slot);

#endif /* TEMPO_ACCESS_ROW_SOURCE_H */
