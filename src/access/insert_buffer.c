/*-------------------------------------------------------------------------
 *
 * insert_buffer.c
 *	  Rows inserted through SQL, collected until they are worth a segment.
 *
 * A buffer belongs to a relation, a subtransaction and a command, and is
 * flushed under the subtransaction it belongs to, so that the directory row
 * has the right xmin.  When a nested subtransaction (a plpgsql block with an
 * exception handler, called from the middle of an INSERT) is current, the
 * outer buffers stay in memory; scans see them through tempo_pending_next().
 *
 * Buffered rows have provisional TIDs in the last 2^16 block numbers.  What
 * is needed to resolve them, for triggers that fire later, is kept until the
 * transaction ends: the spans themselves while that is cheap and triggers
 * will want them, else where each row went.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/insert_buffer.h"

#include <limits.h>

#include "access/memory.h"
#include "access/pages.h"
#include "access/row_source.h"
#include "access/scan.h"
#include "access/store.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PROVISIONAL_FIRST_BLOCK ((BlockNumber) 0xFFFF0000)
#define PROVISIONAL_BLOCKS 0xFFFF /* the last one is InvalidBlockNumber */
#define PROVISIONAL_ROWS ((uint64) PROVISIONAL_BLOCKS * TEMPO_MAX_ROWS_PER_BLOCK)

/* Rows of one buffer, so that it fits a segment with a lot to spare. */
#define BUFFER_MAX_ROWS (512 * 1024)

/* From here on a flushed buffer of one tenant is laid out like a merged segment. */
#define LEVEL1_ROWS 8192

/* What is kept of flushed buffers although no trigger will ask for it. */
#define KEEP_ROWS 16384
#define KEEP_BUFFERS 1000

/* Spans that are kept in memory for triggers, all buffers together. */
#define KEEP_BYTES (64 * 1024 * 1024)

/* Provisional row numbers are counted per relation. */
typedef struct RowCounter
{
	slist_node node;
	Oid        relid;
	uint64     next_row;
	uint64     forgotten; /* rows before this are not all known any more */
} RowCounter;

struct TempoInsertBuffer
{
	dlist_node       node; /* in pending or settled */
	RowCounter      *counter;
	Oid              relid;
	SubTransactionId subid;
	CommandId        cid;
	uint64           first_row; /* provisional number of row 0 */
	uint32           n_rows;
	bool             for_triggers; /* AFTER ROW triggers will fetch the rows */
	bool             frozen;       /* the rows were to be visible to older snapshots */
	const SpanBatch *shown;        /* the batch, if a scan has been given it */

	MemoryContext   context;     /* of the batch; NULL once that is gone */
	MemoryContext   row_context; /* scratch, reset for each row */
	SpanAllocator   allocator;
	SpanBatch      *batch;
	Size            bytes; /* of the batch, while pending */
	TempoColumnMap *map;

	bool         flushed;
	TempoSegment segment;
	uint32      *row_of; /* row in the segment of each row here */
};

bool tempo_insert_returning = false;

static int insert_buffer_size = 64 * 1024; /* kB */

static dlist_head pending = DLIST_STATIC_INIT(pending);
static dlist_head settled = DLIST_STATIC_INIT(settled);
static slist_head counters = SLIST_STATIC_INIT(counters);
static Size       pending_bytes = 0; /* of batches in "pending" */
static Size       kept_bytes = 0;    /* of batches in "settled" */
static int        kept_buffers = 0;  /* of "settled", those without triggers */

/* Requests that the next flush of a relation makes known. */
static Oid                request_relid = InvalidOid;
static const RequestHash *request_hashes = NULL;
static uint32             n_request_hashes = 0;

/* ------------------------------------------------------ provisional TIDs */

static void
provisional_tid(uint64 number, ItemPointer tid)
{
	number %= PROVISIONAL_ROWS;
	ItemPointerSet(tid, PROVISIONAL_FIRST_BLOCK + (BlockNumber) (number / TEMPO_MAX_ROWS_PER_BLOCK),
	               1 + number % TEMPO_MAX_ROWS_PER_BLOCK);
}

bool
tempo_tid_is_provisional(ItemPointer tid)
{
	return ItemPointerGetBlockNumberNoCheck(tid) >= PROVISIONAL_FIRST_BLOCK;
}

/* Does the buffer have the row with this provisional number? */
static bool
buffer_has_row(const TempoInsertBuffer *buffer, Oid relid, uint64 number, uint32 *row)
{
	uint64 at;

	if (buffer->relid != relid)
		return false;
	at = (number + PROVISIONAL_ROWS - buffer->first_row % PROVISIONAL_ROWS) % PROVISIONAL_ROWS;
	*row = (uint32) at;
	return at < buffer->n_rows;
}

bool
tempo_provisional_find(Relation rel, ItemPointer tid, TempoProvisional *found)
{
	Oid        relid = RelationGetRelid(rel);
	uint64     number;
	dlist_iter iter;

	number = (uint64) (ItemPointerGetBlockNumberNoCheck(tid) - PROVISIONAL_FIRST_BLOCK) *
	             TEMPO_MAX_ROWS_PER_BLOCK +
	         ItemPointerGetOffsetNumberNoCheck(tid) - 1;
	dlist_reverse_foreach(iter, &pending)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		if (buffer_has_row(buffer, relid, number, &found->batch_row))
		{
			found->batch = buffer->batch;
			found->segment = NULL;
			found->cid = buffer->cid;
			return true;
		}
	}
	dlist_reverse_foreach(iter, &settled)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		if (!buffer_has_row(buffer, relid, number, &found->batch_row))
			continue;
		found->batch = buffer->batch;
		found->segment = &buffer->segment;
		found->segment_row = buffer->row_of[found->batch_row];
		found->cid = buffer->cid;
		return true;
	}
	return false;
}

static RowCounter *
find_counter(Oid relid)
{
	slist_iter  iter;
	RowCounter *counter;

	slist_foreach (iter, &counters)
	{
		counter = slist_container(RowCounter, node, iter.cur);
		if (counter->relid == relid)
			return counter;
	}
	counter = MemoryContextAllocZero(TopTransactionContext, sizeof(RowCounter));
	counter->relid = relid;
	slist_push_head(&counters, &counter->node);
	return counter;
}

bool
tempo_provisional_forgotten(Relation rel)
{
	return find_counter(RelationGetRelid(rel))->forgotten > 0;
}

bool
tempo_inserted_segment(const TempoSegment *segment)
{
	dlist_iter iter;

	dlist_foreach (iter, &settled)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		if (buffer->segment.segment_id == segment->segment_id &&
		    buffer->segment.storage_id == segment->storage_id)
			return true;
	}
	return false;
}

/* --------------------------------------------------------------- buffers */

/*
 * Frees a batch; but if a scan was given it, a cursor may still be reading it,
 * and it stays until the transaction ends.
 */
static void
free_batch(TempoInsertBuffer *buffer)
{
	if (buffer->context != NULL && buffer->shown == NULL)
		MemoryContextDelete(buffer->context);
	buffer->context = NULL;
	buffer->batch = NULL;
}

static void
free_buffer(TempoInsertBuffer *buffer)
{
	tempo_fetch_forget();
	dlist_delete(&buffer->node);
	if (buffer->flushed)
	{
		if (buffer->batch != NULL)
			kept_bytes -= span_batch_memory(buffer->batch);
		if (!buffer->for_triggers)
			kept_buffers--;
	}
	else
		pending_bytes -= buffer->bytes;
	free_batch(buffer);
	if (buffer->row_of != NULL)
		pfree(buffer->row_of);
	buffer->row_of = NULL;
	if (buffer->shown == NULL)
		pfree(buffer);
}

static TempoInsertBuffer *
new_buffer(Relation rel, CommandId cid, int options)
{
	MemoryContext      caller = MemoryContextSwitchTo(TopTransactionContext);
	TempoInsertBuffer *buffer = palloc0(sizeof(TempoInsertBuffer));

	buffer->relid = RelationGetRelid(rel);
	buffer->subid = GetCurrentSubTransactionId();
	buffer->cid = cid;
	buffer->frozen = (options & TABLE_INSERT_FROZEN) != 0;
	buffer->for_triggers = rel->trigdesc != NULL && rel->trigdesc->trig_insert_after_row;
	buffer->context = AllocSetContextCreate(TopTransactionContext, "tempo insert buffer",
	                                        ALLOCSET_DEFAULT_SIZES);
	buffer->row_context = AllocSetContextCreate(buffer->context, "tempo insert row",
	                                            ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(buffer->context);
	buffer->allocator = tempo_context_allocator(buffer->context);
	buffer->batch = span_batch_create(&buffer->allocator, 0);
	if (buffer->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	buffer->map = tempo_column_map(RelationGetDescr(rel));
	buffer->counter = find_counter(buffer->relid);
	buffer->first_row = buffer->counter->next_row;
	MemoryContextSwitchTo(caller);

	/* assign the transaction id now: a parallel query may run when we flush */
	(void) GetCurrentTransactionId();
	dlist_push_tail(&pending, &buffer->node);
	return buffer;
}

/* The level of a buffer's segment: merged segments have one tenant. */
static uint8
buffer_level(const SpanBatch *batch)
{
	if (batch->n_spans < LEVEL1_ROWS)
		return 0;
	for (uint32 i = 1; i < batch->n_resources; i++)
		if (batch->resources[i].tenant != batch->resources[0].tenant)
			return 0;
	return 1;
}

/*
 * Keeps of a flushed buffer what its provisional TIDs need; frees the rest.
 */
static void
settle_buffer(TempoInsertBuffer *buffer)
{
	Size bytes = span_batch_memory(buffer->batch);

	tempo_fetch_forget();
	buffer->flushed = true;
	pending_bytes -= buffer->bytes;
	dlist_delete(&buffer->node);
	dlist_push_tail(&settled, &buffer->node);
	MemoryContextDelete(buffer->row_context);
	if (!buffer->for_triggers)
		kept_buffers++;
	if (buffer->for_triggers && kept_bytes + bytes <= KEEP_BYTES)
		kept_bytes += bytes;
	else
		free_batch(buffer);
	if (!buffer->for_triggers &&
	    (buffer->n_rows > KEEP_ROWS || kept_buffers > KEEP_BUFFERS))
	{
		buffer->counter->forgotten = buffer->first_row + buffer->n_rows;
		free_buffer(buffer);
	}
}

void
tempo_insert_remember(Oid relid, const RequestHash *hashes, uint32 n_hashes)
{
	request_relid = relid;
	request_hashes = hashes;
	n_request_hashes = n_hashes;
}

static void
flush_buffer(TempoInsertBuffer *buffer, Relation rel)
{
	TempoStoreOptions options = {0};
	MemoryContext     caller;

	Assert(!buffer->flushed && buffer->subid == GetCurrentSubTransactionId());
	if (buffer->frozen)
	{
		/* a heap would show these rows to older snapshots; we cannot */
		uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());

		tempo_lock_extents(rel);
		tempo_meta_set_rewrite(rel, xid);
		tempo_unlock_extents(rel);
	}
	options.level = buffer_level(buffer->batch);
	options.cid = buffer->cid;
	options.newest_at = GetCurrentTimestamp();
	if (request_relid == buffer->relid)
	{
		options.hashes = request_hashes;
		options.n_hashes = n_request_hashes;
		tempo_insert_remember(InvalidOid, NULL, 0);
	}
	caller = MemoryContextSwitchTo(TopTransactionContext);
	tempo_store_spans(rel, buffer->batch, 0, buffer->n_rows, &options,
	                  &buffer->segment, &buffer->row_of);
	MemoryContextSwitchTo(caller);
	pgstat_count_heap_insert(rel, buffer->n_rows);
	settle_buffer(buffer);
}

static inline bool
is_of(const TempoInsertBuffer *buffer, Oid relid)
{
	return !OidIsValid(relid) || buffer->relid == relid;
}

bool
tempo_has_inserts(Oid relid)
{
	dlist_iter iter;

	dlist_foreach (iter, &pending)
		if (is_of(dlist_container(TempoInsertBuffer, node, iter.cur), relid))
			return true;
	return false;
}

void
tempo_flush_inserts(Oid relid)
{
	dlist_mutable_iter iter;
	SubTransactionId   subid;

	if (dlist_is_empty(&pending))
		return;
	subid = GetCurrentSubTransactionId();
	dlist_foreach_modify (iter, &pending)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);
		Relation           rel;

		if (!is_of(buffer, relid) || buffer->subid != subid)
			continue;
		/* the statement that inserted holds its lock until the transaction ends */
		rel = table_open(buffer->relid, RowExclusiveLock);
		flush_buffer(buffer, rel);
		table_close(rel, NoLock);
	}
}

/* The buffer that a row of this command goes to. */
static TempoInsertBuffer *
current_buffer(Relation rel, CommandId cid, int options)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	dlist_iter       iter;

	dlist_reverse_foreach(iter, &pending)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		/* a nested command may have used the numbers that would follow */
		if (buffer->relid == RelationGetRelid(rel) && buffer->subid == subid &&
		    buffer->cid == cid &&
		    buffer->first_row + buffer->n_rows == buffer->counter->next_row)
			return buffer;
	}
	tempo_flush_inserts(RelationGetRelid(rel));
	return new_buffer(rel, cid, options);
}

/*
 * Replaces the NULLs of an inserted slot by what the table reads back, for
 * RETURNING and transition tables.
 */
static void
complete_slot(TempoInsertBuffer *buffer, TupleTableSlot *slot)
{
	int             natts = slot->tts_tupleDescriptor->natts;
	Bitmapset      *missing = NULL;
	MemoryContext   caller = MemoryContextSwitchTo(buffer->row_context);
	SpanAllocator   allocator = tempo_context_allocator(buffer->row_context);
	SpanBatch      *batch;
	TempoRowReader *reader;
	Datum          *values;
	bool           *isnull;

	for (int i = 0; i < natts; i++)
		if (slot->tts_isnull[i] && buffer->map->column[i] != TEMPO_PARENT_SPAN_ID)
			missing = bms_add_member(missing, i + 1 - FirstLowInvalidHeapAttributeNumber);
	if (missing == NULL)
	{
		MemoryContextSwitchTo(caller);
		return;
	}

	batch = span_batch_create(&allocator, 0);
	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	tempo_row_to_batch(buffer->map, slot->tts_values, slot->tts_isnull, batch);
	reader = tempo_row_reader_create(buffer->map, missing, false);
	tempo_row_reader_batch(reader, batch);
	values = palloc(natts * sizeof(Datum));
	isnull = palloc(natts * sizeof(bool));
	tempo_row_reader_fill(reader, &batch->spans[0], values, isnull);

	MemoryContextSwitchTo(tempo_slot_memory(slot));
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(slot->tts_tupleDescriptor, i);

		if (!bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, missing) || isnull[i])
			continue;
		slot->tts_values[i] = datumCopy(values[i], attribute->attbyval, attribute->attlen);
		slot->tts_isnull[i] = false;
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Flushes the largest buffer: rows of many partitions must not need the memory
 * of one buffer each.
 */
static void
flush_largest(void)
{
	SubTransactionId   subid = GetCurrentSubTransactionId();
	TempoInsertBuffer *largest = NULL;
	dlist_iter         iter;
	Relation           rel;

	dlist_foreach (iter, &pending)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		if (buffer->subid == subid && (largest == NULL || buffer->bytes > largest->bytes))
			largest = buffer;
	}
	if (largest == NULL)
		return;
	rel = table_open(largest->relid, RowExclusiveLock);
	flush_buffer(largest, rel);
	table_close(rel, NoLock);
}

void
tempo_insert_row(Relation rel, TupleTableSlot *slot, CommandId cid, int options)
{
	TempoInsertBuffer *buffer = current_buffer(rel, cid, options);
	MemoryContext      caller;
	Size               bytes;

	slot_getallattrs(slot);
	MemoryContextReset(buffer->row_context);
	caller = MemoryContextSwitchTo(buffer->row_context);
	tempo_row_to_batch(buffer->map, slot->tts_values, slot->tts_isnull, buffer->batch);
	MemoryContextSwitchTo(caller);

	provisional_tid(buffer->counter->next_row++, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(rel);
	buffer->n_rows = buffer->batch->n_spans;
	bytes = span_batch_memory(buffer->batch);
	pending_bytes += bytes - buffer->bytes;
	buffer->bytes = bytes;
	if (tempo_slot_is_ours(slot) &&
	    (tempo_insert_returning || (rel->trigdesc != NULL && rel->trigdesc->trig_insert_new_table)))
		complete_slot(buffer, slot);

	if (buffer->n_rows >= BUFFER_MAX_ROWS)
		flush_buffer(buffer, rel);
	else if (pending_bytes >= (Size) insert_buffer_size * 1024)
		flush_largest();
}

/* ------------------------------------------------------ rows not flushed */

TempoInsertBuffer *
tempo_pending_next(Relation rel, Snapshot snapshot, TempoInsertBuffer *previous)
{
	dlist_node *node;

	if (dlist_is_empty(&pending))
		return NULL;
	node = previous == NULL ? dlist_head_node(&pending) : &previous->node;
	if (previous != NULL)
		node = dlist_has_next(&pending, node) ? dlist_next_node(&pending, node) : NULL;
	while (node != NULL)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, node);

		if (buffer->relid == RelationGetRelid(rel) &&
		    (!IsMVCCSnapshot(snapshot) || buffer->cid < snapshot->curcid))
		{
			buffer->shown = buffer->batch;
			return buffer;
		}
		node = dlist_has_next(&pending, node) ? dlist_next_node(&pending, node) : NULL;
	}
	return NULL;
}

const SpanBatch *
tempo_pending_batch(const TempoInsertBuffer *buffer)
{
	return buffer->shown;
}

void
tempo_pending_tid(const TempoInsertBuffer *buffer, uint32 row, ItemPointer tid)
{
	provisional_tid(buffer->first_row + row, tid);
}

/* ------------------------------------------------- ends of transactions */

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			tempo_flush_inserts(InvalidOid);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* the memory goes with the transaction */
			dlist_init(&pending);
			dlist_init(&settled);
			slist_init(&counters);
			tempo_insert_remember(InvalidOid, NULL, 0);
			pending_bytes = 0;
			kept_bytes = 0;
			kept_buffers = 0;
			tempo_insert_returning = false;
			break;
		default:
			break;
	}
}

/* The buffers of a subtransaction go to its parent, or away. */
static void
end_subtransaction(dlist_head *list, SubTransactionId subid, SubTransactionId parent, bool commit)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, list)
	{
		TempoInsertBuffer *buffer = dlist_container(TempoInsertBuffer, node, iter.cur);

		if (buffer->subid != subid)
			continue;
		if (commit)
			buffer->subid = parent;
		else
			free_buffer(buffer);
	}
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		tempo_flush_inserts(InvalidOid);
	else if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
	{
		if (event == SUBXACT_EVENT_ABORT_SUB)
			tempo_insert_remember(InvalidOid, NULL, 0);
		end_subtransaction(&pending, subid, parent, event == SUBXACT_EVENT_COMMIT_SUB);
		end_subtransaction(&settled, subid, parent, event == SUBXACT_EVENT_COMMIT_SUB);
	}
}

void
tempo_insert_buffer_init(void)
{
	DefineCustomIntVariable("tempo_pg.insert_buffer_size",
	                        "Memory in which an INSERT or COPY collects spans before it writes a segment.",
	                        "Larger buffers make larger segments, which are stored and read more cheaply.",
	                        &insert_buffer_size, 64 * 1024, 64, MAX_KILOBYTES,
	                        PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}
