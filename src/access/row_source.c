/*-------------------------------------------------------------------------
 *
 * row_source.c
 *	  Rows of one segment after the other, decoded no further than asked for,
 *	  and the tuple table slot that holds such a row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/row_source.h"

#include "access/memory.h"
#include "access/segment_source.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "utils/memutils.h"

/* At most this many rows are decoded at once. */
#define MAX_RUN 4096

/*
 * A run of rows, decoded as far as columns 1 .. natts need.  When somebody
 * asks for a later column, the run is decoded again on a new level; the old
 * one stays as long as the run does, since values may point into it.
 */
typedef struct RowLevel
{
	MemoryContext context;
	int			natts;
	SegmentProjection projection;
	TempoRowReader *reader;
	SpanBatch  *batch;
	struct RowLevel *older;
	SpanAllocator allocator;
} RowLevel;

struct TempoRowSource
{
	MemoryContext context;
	Relation	rel;
	BufferAccessStrategy strategy;
	TempoColumnMap *map;
	RowLevel   *level;			/* NULL until a column is read */

	/* where the rows come from */
	TempoOpenSegment *open;
	const SpanBatch *batch;		/* if they are in memory */
	TransactionId xmin;
	uint32		rows;
	uint32		run_rows;
	uint64		serial;			/* changes with every segment or batch */

	/* what the levels have decoded */
	bool		run_valid;
	uint32		run_first;
	uint32		run_count;
};

typedef struct TempoTupleTableSlot
{
	VirtualTupleTableSlot base;
	MemoryContext memory;		/* of values made for this slot; NULL until needed */
	TempoRowSource *source;		/* NULL: the slot has its values */
	uint64		serial;
	uint32		row;
	TransactionId xmin;
} TempoTupleTableSlot;

TempoRowSource *
tempo_row_source_create(Relation rel, BufferAccessStrategy strategy)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo rows",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	TempoRowSource *source = palloc0(sizeof(TempoRowSource));

	source->context = context;
	source->rel = rel;
	source->strategy = strategy;
	source->map = tempo_column_map(RelationGetDescr(rel));
	MemoryContextSwitchTo(caller);
	return source;
}

void
tempo_row_source_free(TempoRowSource *source)
{
	if (source->open != NULL)
		tempo_segment_close(source->open);
	MemoryContextDelete(source->context);
}

void
tempo_row_source_set_relation(TempoRowSource *source, Relation rel)
{
	source->rel = rel;
	if (source->open != NULL)
		tempo_segment_set_relation(source->open, rel);
}

static void
drop_levels(RowLevel *level)
{
	while (level != NULL)
	{
		RowLevel   *older = level->older;

		MemoryContextDelete(level->context);
		level = older;
	}
}

static void
leave_rows(TempoRowSource *source)
{
	if (source->open != NULL)
		tempo_segment_close(source->open);
	source->open = NULL;
	source->batch = NULL;
	source->run_valid = false;
	source->serial++;
}

void
tempo_row_source_segment(TempoRowSource *source, const TempoSegment *segment)
{
	MemoryContext caller;

	leave_rows(source);
	caller = MemoryContextSwitchTo(source->context);
	source->open = tempo_segment_open(source->rel, segment, source->strategy);
	MemoryContextSwitchTo(caller);
	source->rows = segment->summary.rows;
	source->xmin = segment->xmin;
	source->run_rows = segment_block_rows(tempo_segment_reader(source->open));
	if (source->run_rows == 0 || source->run_rows > MAX_RUN)
		source->run_rows = MAX_RUN;
}

void
tempo_row_source_batch(TempoRowSource *source, const SpanBatch *batch)
{
	leave_rows(source);
	source->batch = batch;
	source->rows = batch->n_spans;
	source->xmin = GetCurrentTransactionIdIfAny();
}

/* A level for columns 1 .. natts on top of what there is. */
static void
add_level(TempoRowSource *source, int natts)
{
	MemoryContext context = AllocSetContextCreate(source->context, "tempo row level",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	RowLevel   *level = palloc0(sizeof(RowLevel));
	Bitmapset  *needed = NULL;

	for (int attno = 1; attno <= natts; attno++)
		needed = bms_add_member(needed, attno - FirstLowInvalidHeapAttributeNumber);
	level->context = context;
	level->natts = natts;
	level->projection = tempo_projection(source->map, needed, false);
	level->reader = tempo_row_reader_create(source->map, needed, false);
	level->allocator = tempo_context_allocator(context);
	level->batch = span_batch_create(&level->allocator, 0);
	if (level->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	level->older = source->level;
	source->level = level;
	MemoryContextSwitchTo(caller);
}

/* Makes the top level hold the run that has "row". */
static void
decode_run(TempoRowSource *source, uint32 row)
{
	RowLevel   *level = source->level;

	source->run_valid = false;
	drop_levels(level->older);
	level->older = NULL;
	if (source->batch != NULL)
	{
		source->run_first = 0;
		source->run_count = source->rows;
		tempo_row_reader_batch(level->reader, source->batch);
	}
	else
	{
		source->run_first = row - row % source->run_rows;
		source->run_count = Min(source->run_rows, source->rows - source->run_first);
		span_batch_reset(level->batch);
		tempo_segment_decode(source->open, &level->projection, source->run_first,
							 source->run_count, level->batch);
		tempo_row_reader_batch(level->reader, level->batch);
	}
	source->run_valid = true;
}

/* Fills in columns of one row: at least 1 .. natts; returns how many. */
static int
fill_row(TempoRowSource *source, uint32 row, int natts, Datum *values, bool *isnull)
{
	const Span *span;
	bool		in_run;

	in_run = source->run_valid && row >= source->run_first &&
		row - source->run_first < source->run_count;
	if (source->level == NULL || natts > source->level->natts)
	{
		RowLevel   *older;

		add_level(source, natts);
		older = source->level->older;
		if (in_run)
		{
			/* keep what was decoded: values handed out may point into it */
			source->level->older = NULL;
			decode_run(source, row);
			source->level->older = older;
		}
	}
	if (!in_run)
		decode_run(source, row);

	span = source->batch != NULL ? &source->batch->spans[row] :
		&source->level->batch->spans[row - source->run_first];
	tempo_row_reader_fill(source->level->reader, span, values, isnull);
	return source->level->natts;
}

void
tempo_row_source_store(TempoRowSource *source, uint32 row, ItemPointer tid,
					   TupleTableSlot *slot, bool eager)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	Assert(tempo_slot_is_ours(slot));
	ExecClearTuple(slot);
	ours->source = source;
	ours->serial = source->serial;
	ours->row = row;
	ours->xmin = source->xmin;
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = 0;
	slot->tts_tid = *tid;
	slot->tts_tableOid = RelationGetRelid(source->rel);
	if (eager)
		ExecMaterializeSlot(slot);
}

/* -------------------------------------------------------------- the slot */

static TupleTableSlotOps slot_ops;

MemoryContext
tempo_slot_memory(TupleTableSlot *slot)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	if (ours->memory == NULL)
		ours->memory = AllocSetContextCreate(slot->tts_mcxt, "tempo slot", ALLOCSET_SMALL_SIZES);
	return ours->memory;
}

static void
slot_forget_values(TempoTupleTableSlot *ours)
{
	ours->source = NULL;
	if (ours->memory != NULL)
		MemoryContextReset(ours->memory);
}

static void
slot_init(TupleTableSlot *slot)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	ours->memory = NULL;
	ours->source = NULL;
	ours->xmin = InvalidTransactionId;
}

static void
slot_release(TupleTableSlot *slot)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	ours->source = NULL;
	if (ours->memory != NULL)
		MemoryContextDelete(ours->memory);
	ours->memory = NULL;
}

static void
slot_clear(TupleTableSlot *slot)
{
	slot_forget_values((TempoTupleTableSlot *) slot);
	TTSOpsVirtual.clear(slot);
}

static void
slot_get_some_attributes(TupleTableSlot *slot, int natts)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;
	MemoryContext caller;

	if (ours->source == NULL || ours->serial != ours->source->serial)
		elog(ERROR, "row of a tempo table was read after its scan had moved on");
	caller = MemoryContextSwitchTo(tempo_slot_memory(slot));
	slot->tts_nvalid = fill_row(ours->source, ours->row, natts, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(caller);
}

static Datum
slot_get_system_attribute(TupleTableSlot *slot, int attnum, bool *isnull)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	*isnull = false;
	switch (attnum)
	{
		case MinTransactionIdAttributeNumber:
			return TransactionIdGetDatum(ours->xmin);
		case MaxTransactionIdAttributeNumber:
			return TransactionIdGetDatum(InvalidTransactionId);
		case MinCommandIdAttributeNumber:
		case MaxCommandIdAttributeNumber:
			return CommandIdGetDatum(FirstCommandId);
	}
	elog(ERROR, "unexpected system attribute %d", attnum);
	return (Datum) 0;
}

static void
slot_materialize(TupleTableSlot *slot)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	slot_getallattrs(slot);
	/* copies every by-reference value into the slot */
	TTSOpsVirtual.materialize(slot);
	slot_forget_values(ours);
}

static void
slot_copy(TupleTableSlot *dst, TupleTableSlot *src)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) dst;

	slot_forget_values(ours);
	TTSOpsVirtual.copyslot(dst, src);
	if (src->tts_ops == dst->tts_ops)
		ours->xmin = ((TempoTupleTableSlot *) src)->xmin;
	dst->tts_tid = src->tts_tid;
	dst->tts_tableOid = src->tts_tableOid;
}

static HeapTuple
slot_copy_heap_tuple(TupleTableSlot *slot)
{
	HeapTuple	tuple;

	slot_getallattrs(slot);
	tuple = TTSOpsVirtual.copy_heap_tuple(slot);
	tuple->t_self = slot->tts_tid;
	tuple->t_tableOid = slot->tts_tableOid;
	return tuple;
}

#if PG_VERSION_NUM >= 180000
static MinimalTuple
slot_copy_minimal_tuple(TupleTableSlot *slot, Size extra)
{
	slot_getallattrs(slot);
	return TTSOpsVirtual.copy_minimal_tuple(slot, extra);
}
#else
static MinimalTuple
slot_copy_minimal_tuple(TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	return TTSOpsVirtual.copy_minimal_tuple(slot);
}
#endif

#if PG_VERSION_NUM >= 170000
static bool
slot_is_current_xact_tuple(TupleTableSlot *slot)
{
	return TransactionIdIsCurrentTransactionId(((TempoTupleTableSlot *) slot)->xmin);
}
#endif

const TupleTableSlotOps *
tempo_slot_ops(void)
{
	if (slot_ops.init == NULL)
	{
		slot_ops = TTSOpsVirtual;
		slot_ops.base_slot_size = sizeof(TempoTupleTableSlot);
		slot_ops.release = slot_release;
		slot_ops.clear = slot_clear;
		slot_ops.getsomeattrs = slot_get_some_attributes;
		slot_ops.getsysattr = slot_get_system_attribute;
		slot_ops.materialize = slot_materialize;
		slot_ops.copyslot = slot_copy;
		slot_ops.copy_heap_tuple = slot_copy_heap_tuple;
		slot_ops.copy_minimal_tuple = slot_copy_minimal_tuple;
#if PG_VERSION_NUM >= 170000
		slot_ops.is_current_xact_tuple = slot_is_current_xact_tuple;
#endif
		slot_ops.init = slot_init;
	}
	return &slot_ops;
}
