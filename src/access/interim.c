/*-------------------------------------------------------------------------
 *
 * interim.c
 *	  While tempo.spans is a heap: a trigger that does to a row what the
 *	  access method will do.  Goes when the access method comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/memory.h"
#include "access/row.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(tempo_interim_trigger);

Datum
tempo_interim_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	SpanAllocator allocator = tempo_context_allocator(CurrentMemoryContext);
	SpanBatch  *batch = span_batch_create(&allocator, 0);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc(desc->natts * sizeof(bool));
	TempoColumnMap *map = tempo_column_map(desc);
	TempoRowReader *reader = tempo_row_reader_create(map, NULL, true);

	heap_deform_tuple(trigger->tg_trigtuple, desc, values, isnull);
	tempo_row_to_batch(map, values, isnull, batch);
	tempo_row_reader_batch(reader, batch);
	tempo_row_reader_fill(reader, &batch->spans[0], values, isnull);
	return PointerGetDatum(heap_form_tuple(desc, values, isnull));
}
