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

/* Rows decoded at once: few for who looks at single rows, more as it goes on. */
#define MIN_RUN 64
#define MAX_RUN 16384
#define RUN_GROWTH 4

/* A batch of single rows that has taken more is reset before the next one. */
#define BATCH_BYTES (8 * 1024 * 1024)

/* Sets of columns that are decoded apart. */
#define MAX_LEVELS 4

/*
 * Rows run_first .. of the source, decoded as far as columns 1 .. natts need.
 * A level per number of columns asked for: a first row may be copied whole
 * before the rest is asked for one column.
 */
typedef struct RowLevel
{
	MemoryContext     context;
	int               natts;
	SegmentProjection projection;
	TempoRowReader   *reader;
	SpanAllocator     allocator;
	SpanBatch        *batch;
	bool              valid;
	uint32            run_first;
	uint32            run_count;
	uint32            window; /* rows to decode next */
} RowLevel;

struct TempoRowSource
{
	MemoryContext        context;
	Relation             rel;
	BufferAccessStrategy strategy;
	TempoColumnMap      *map;
	RowLevel            *levels[MAX_LEVELS];
	int                  n_levels;

	/* where the rows come from */
	TempoOpenSegment *open;
	const SpanBatch  *batch; /* if they are in memory */
	TransactionId     xmin;
	uint32            rows;
	uint32            block_rows; /* rows that are encoded together */
	uint64            serial;     /* changes with every segment or batch */
	bool              sparse;     /* decode single rows */
};

typedef struct TempoTupleTableSlot
{
	VirtualTupleTableSlot base;
	MemoryContext         memory; /* of values made for this slot; NULL until needed */
	TempoRowSource       *source; /* NULL: the slot has its values */
	uint64                serial;
	uint32                row;
	TransactionId         xmin;
} TempoTupleTableSlot;

TempoRowSource *
tempo_row_source_create(Relation rel, BufferAccessStrategy strategy)
{
	MemoryContext   context = AllocSetContextCreate(CurrentMemoryContext, "tempo rows",
	                                                ALLOCSET_SMALL_SIZES);
	MemoryContext   caller = MemoryContextSwitchTo(context);
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
leave_rows(TempoRowSource *source)
{
	if (source->open != NULL)
		tempo_segment_close(source->open);
	source->open = NULL;
	source->batch = NULL;
	for (int i = 0; i < source->n_levels; i++)
		source->levels[i]->valid = false;
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
	source->block_rows = Max(segment_block_rows(tempo_segment_reader(source->open)), 1);
}

void
tempo_row_source_batch(TempoRowSource *source, const SpanBatch *batch)
{
	leave_rows(source);
	source->batch = batch;
	source->rows = batch->n_spans;
	source->xmin = GetCurrentTransactionIdIfAny();
}

static RowLevel *
new_level(TempoRowSource *source, int natts)
{
	MemoryContext context = AllocSetContextCreate(source->context, "tempo row level",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	RowLevel     *level = palloc0(sizeof(RowLevel));
	Bitmapset    *needed = NULL;

	for (int attno = 1; attno <= natts; attno++)
		needed = bms_add_member(needed, attno - FirstLowInvalidHeapAttributeNumber);
	level->context = context;
	level->natts = natts;
	level->window = MIN_RUN;
	level->projection = tempo_projection(source->map, needed, false);
	level->reader = tempo_row_reader_create(source->map, needed, false);
	level->allocator = tempo_context_allocator(context);
	level->batch = span_batch_create(&level->allocator, 0);
	if (level->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	MemoryContextSwitchTo(caller);
	return level;
}

/* The level for columns 1 .. natts: its own, or if there are too many a wider one. */
static RowLevel *
find_level(TempoRowSource *source, int natts)
{
	RowLevel *wider = NULL;

	for (int i = 0; i < source->n_levels; i++)
	{
		RowLevel *level = source->levels[i];

		if (level->natts == natts)
			return level;
		if (level->natts > natts && (wider == NULL || level->natts < wider->natts))
			wider = level;
	}
	if (source->n_levels >= MAX_LEVELS - 1 && wider != NULL)
		return wider;
	/* the last place is for all columns, which is wide enough for whatever comes */
	if (source->n_levels == MAX_LEVELS - 1)
		natts = source->map->natts;
	Assert(source->n_levels < MAX_LEVELS);
	source->levels[source->n_levels] = new_level(source, natts);
	return source->levels[source->n_levels++];
}

void
tempo_row_source_set_sparse(TempoRowSource *source, bool sparse)
{
	source->sparse = sparse;
}

/* Decodes one row; what rows share stays in the batch as long as memory allows. */
static void
decode_row(TempoRowSource *source, RowLevel *level, uint32 row)
{
	level->valid = false;
	level->run_first = row;
	level->run_count = 1;
	if (span_batch_memory(level->batch) > BATCH_BYTES)
		span_batch_reset(level->batch);
	else
		span_batch_truncate(level->batch, 0);
	tempo_segment_decode_rows(source->open, &level->projection, &row, 1, level->batch);
	tempo_row_reader_batch(level->reader, level->batch);
	level->valid = true;
}

/*
 * Decodes a run that has "row".  Runs grow as long as the rows asked for
 * follow each other, and end where what is encoded together ends.
 */
static void
decode_run(TempoRowSource *source, RowLevel *level, uint32 row)
{
	uint32 end = level->run_first + level->run_count;
	bool   forward = level->valid && row >= end && row - end < level->window;
	bool   backward = level->valid && row < level->run_first && level->run_first - row <= level->window;
	bool   first_rows = !level->valid && (row == 0 || row == source->rows - 1);
	uint32 block_first = row - row % source->block_rows;
	uint32 block_end = Min(block_first + source->block_rows, source->rows);

	if (forward || backward)
		level->window = Min(level->window * RUN_GROWTH, MAX_RUN);
	else if (!first_rows)
		level->window = MIN_RUN;
	level->valid = false;
	if (backward)
	{
		level->run_first = row - block_first < level->window ? block_first : row - level->window + 1;
		level->run_count = row + 1 - level->run_first;
	}
	else
	{
		level->run_first = row;
		level->run_count = Min(level->window, block_end - row);
	}
	span_batch_reset(level->batch);
	tempo_segment_decode(source->open, &level->projection, level->run_first, level->run_count,
	                     level->batch);
	tempo_row_reader_batch(level->reader, level->batch);
	level->valid = true;
}

/* Fills in columns of one row: at least 1 .. natts; returns how many. */
static int
fill_row(TempoRowSource *source, uint32 row, int natts, Datum *values, bool *isnull)
{
	RowLevel   *level = find_level(source, natts);
	const Span *span;

	if (source->batch != NULL)
	{
		if (!level->valid)
			tempo_row_reader_batch(level->reader, source->batch);
		level->valid = true;
		level->run_first = 0;
		level->run_count = source->rows;
		span = &source->batch->spans[row];
	}
	else
	{
		if (!level->valid || row < level->run_first || row - level->run_first >= level->run_count)
		{
			if (source->sparse)
				decode_row(source, level, row);
			else
				decode_run(source, level, row);
		}
		span = &level->batch->spans[row - level->run_first];
	}
	tempo_row_reader_fill(level->reader, span, values, isnull);
	return level->natts;
}

void
tempo_row_source_store(TempoRowSource *source, uint32 row, ItemPointer tid,
                       TupleTableSlot *slot, bool eager)
{
	TempoTupleTableSlot *ours = (TempoTupleTableSlot *) slot;

	if (!tempo_slot_is_ours(slot))
	{
		/* EvalPlanQual gives the slot of a custom scan, a virtual one */
		TupleTableSlot *row_slot = MakeSingleTupleTableSlot(slot->tts_tupleDescriptor, tempo_slot_ops());

		tempo_row_source_store(source, row, tid, row_slot, false);
		ExecCopySlot(slot, row_slot);
		slot->tts_tid = *tid;
		slot->tts_tableOid = RelationGetRelid(source->rel);
		ExecDropSingleTupleTableSlot(row_slot);
		return;
	}
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
	MemoryContext        caller;

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
	HeapTuple tuple;

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
stored_by_current_xact(TupleTableSlot *slot)
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
		slot_ops.is_current_xact_tuple = stored_by_current_xact;
#endif
		slot_ops.init = slot_init;
	}
	return &slot_ops;
}
