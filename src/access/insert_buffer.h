/*-------------------------------------------------------------------------
 *
 * insert_buffer.h
 *	  Rows inserted through SQL, collected until they are worth a segment.
 *
 * There is a buffer per relation, subtransaction and command.  It becomes a
 * segment whose directory row carries the command id that the rows came with,
 * so that what the own transaction sees of them is decided by the heap.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_INSERT_BUFFER_H
#define TEMPO_ACCESS_INSERT_BUFFER_H

#include "postgres.h"

#include "access/directory.h"
#include "access/row.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

extern void tempo_insert_buffer_init(void);

/* tempo_insert_row: buffers the row in "slot" and gives it a provisional TID */
extern void tempo_insert_row(Relation rel, TupleTableSlot *slot, CommandId cid, int options);

/*
 * Set while a statement with RETURNING runs: inserted slots then get the
 * columns that the table would read back where the row has NULL.
 */
extern bool tempo_insert_returning;

/*
 * tempo_insert_remember: the requests that the rows of the INSERT that follows
 * come from; the next segment of the relation keeps their hashes, which must
 * live until then.
 */
extern void tempo_insert_remember(Oid relid, const RequestHash *hashes, uint32 n_hashes);

/*
 * tempo_flush_inserts: writes the buffers of one relation, or of all
 * (InvalidOid), as far as they belong to the current subtransaction.  What an
 * outer one has buffered stays, since it must not vanish with this one.
 */
extern void tempo_flush_inserts(Oid relid);

/* tempo_has_inserts: is anything buffered for the relation (InvalidOid: any)? */
extern bool tempo_has_inserts(Oid relid);

/*
 * tempo_pending_next: walks the buffers of a relation that "snapshot" sees
 * although they are not flushed; start with previous = NULL.
 */
typedef struct TempoInsertBuffer TempoInsertBuffer;
extern TempoInsertBuffer        *tempo_pending_next(Relation rel, Snapshot snapshot, TempoInsertBuffer *previous);
extern const SpanBatch          *tempo_pending_batch(const TempoInsertBuffer *buffer);
extern void                      tempo_pending_tid(const TempoInsertBuffer *buffer, uint32 row, ItemPointer tid);

/*
 * tempo_provisional_find: where the row with a provisional TID is: in memory,
 * in a segment, or both.  False if this transaction has no such row.
 */
typedef struct TempoProvisional
{
	const SpanBatch    *batch; /* NULL = no longer in memory */
	uint32              batch_row;
	const TempoSegment *segment; /* NULL = not yet in a segment */
	uint32              segment_row;
	CommandId           cid; /* of the INSERT */
} TempoProvisional;

extern bool tempo_tid_is_provisional(ItemPointer tid);
extern bool tempo_provisional_find(Relation rel, ItemPointer tid, TempoProvisional *found);

/* tempo_provisional_forgotten: are there rows whose provisional TIDs mean nothing any more? */
extern bool tempo_provisional_forgotten(Relation rel);

/* tempo_inserted_segment: is it one whose rows have provisional TIDs? */
extern bool tempo_inserted_segment(const TempoSegment *segment);

#endif /* TEMPO_ACCESS_INSERT_BUFFER_H */
