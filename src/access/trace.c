/*-------------------------------------------------------------------------
 *
 * trace.c
 *	  All spans of one trace, through the trace indexes of the segments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"

#include "access/compat.h"
#include "access/directory.h"
#include "access/deletions.h"
#include "access/insert_buffer.h"
#include "access/memory.h"
#include "access/row.h"
#include "access/segment_source.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

/* What makes two stored spans deliveries of the same one. */
typedef struct SpanKey
{
	SpanId span_id;
	int64  start;
	int32  kind;
	uint32 tenant;
} SpanKey;

typedef struct TraceReader
{
	SpanBatch      *batch;
	uint32          kept; /* spans of the batch that stay */
	const SpanText *tenants;
	uint32          n_tenants;
	HTAB           *seen;
} TraceReader;

static void
out_of_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

static void
start_reader(TraceReader *reader, const SpanText *tenants, uint32 n_tenants, SpanBatch *batch)
{
	HASHCTL control;

	reader->batch = batch;
	reader->kept = batch->n_spans;
	reader->tenants = tenants;
	reader->n_tenants = n_tenants;
	control.keysize = sizeof(SpanKey);
	control.entrysize = sizeof(SpanKey);
	control.hcxt = CurrentMemoryContext;
	reader->seen = hash_create("spans of a trace", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static bool
is_wanted_tenant(const TraceReader *reader, SpanText tenant)
{
	for (uint32 i = 0; i < reader->n_tenants; i++)
		if (span_text_equal(reader->tenants[i], tenant))
			return true;
	return reader->n_tenants == 0;
}

/* Of the spans added since the last call, keeps those that are wanted and new. */
static void
keep_wanted(TraceReader *reader)
{
	SpanBatch *batch = reader->batch;

	for (uint32 i = reader->kept; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];
		uint32      tenant = span_resource(batch, span)->tenant;
		SpanKey     key;
		bool        found;

		if (!is_wanted_tenant(reader, batch->strings[tenant]))
			continue;
		memset(&key, 0, sizeof(key));
		key.span_id = span->span_id;
		key.start = span->start_time_unix_nano;
		key.kind = span->kind;
		key.tenant = tenant;
		(void) hash_search(reader->seen, &key, HASH_ENTER, &found);
		if (!found)
			batch->spans[reader->kept++] = *span;
	}
	span_batch_truncate(batch, reader->kept);
}

static void
check_select(Relation rel)
{
	AclResult result = pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_SELECT);

	if (result != ACLCHECK_OK)
		result = pg_attribute_aclcheck_all(RelationGetRelid(rel), GetUserId(), ACL_SELECT, ACLMASK_ALL);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, RelationGetRelationName(rel));
}

static Datum
tenant_array(const SpanText *tenants, uint32 n_tenants)
{
	Datum *texts = palloc(sizeof(Datum) * Max(n_tenants, 1));

	for (uint32 i = 0; i < n_tenants; i++)
		texts[i] = PointerGetDatum(cstring_to_text_with_len(tenants[i].data, (int) tenants[i].len));
#if PG_VERSION_NUM >= 160000
	return PointerGetDatum(construct_array_builtin(texts, (int) n_tenants, TEXTOID));
#else
	return PointerGetDatum(construct_array(texts, (int) n_tenants, TEXTOID, -1, false, TYPALIGN_INT));
#endif
}

/* Through SQL, which applies policies; also for tables of another access method. */
static void
read_by_query(Relation rel, const TraceId *trace_id, TraceReader *reader)
{
	TupleDesc       desc = RelationGetDescr(rel);
	TempoColumnMap *map = tempo_column_map(desc);
	Oid             types[2] = {TupleDescAttr(desc, map->attno[TEMPO_TRACE_ID])->atttypid, TEXTARRAYOID};
	Datum           args[2] = {PointerGetDatum(trace_id), tenant_array(reader->tenants, reader->n_tenants)};
	char           *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
	                                                   RelationGetRelationName(rel));
	char           *query = psprintf("SELECT * FROM %s WHERE trace_id OPERATOR(pg_catalog.=) $1%s", table,
                           reader->n_tenants > 0 ? " AND tenant OPERATOR(pg_catalog.=) ANY ($2)" : "");
	Datum          *values;
	bool           *isnull;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, reader->n_tenants > 0 ? 2 : 1, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not select the spans of a trace");
	map = tempo_column_map(SPI_tuptable->tupdesc);
	values = palloc(sizeof(Datum) * map->natts);
	isnull = palloc(sizeof(bool) * map->natts);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, isnull);
		tempo_row_to_batch(map, values, isnull, reader->batch);
	}
	SPI_finish();
	keep_wanted(reader);
}

static void
read_segments(Relation rel, const TraceId *trace_id, TraceReader *reader)
{
	static const SegmentProjection all = {SEGMENT_ALL, NULL, 0};
	TempoSegmentBounds             bounds = {PG_INT64_MIN, PG_INT64_MAX, 0};
	TempoSegment                  *segments;
	uint32                         n_segments;

	for (uint32 i = 0; i < reader->n_tenants; i++)
		bounds.tenants |= segment_tenant_bit(reader->tenants[i]);
	segments = tempo_directory_list(rel, GetActiveSnapshot(), &bounds, &n_segments);
	for (uint32 i = 0; i < n_segments; i++)
	{
		TempoOpenSegment *open;
		SpanError         error;
		uint32            first;
		uint32            count;

		CHECK_FOR_INTERRUPTS();
		open = tempo_segment_open(rel, &segments[i], NULL);
		if (!segment_find_trace(tempo_segment_reader(open), trace_id, &first, &count, &error))
			tempo_segment_failed(open, &error);
		if (count > 0)
		{
			uint32 from = reader->batch->n_spans;

			tempo_segment_decode(open, &all, first, count, reader->batch);
			tempo_deletions_drop(&segments[i], first, reader->batch, from);
			keep_wanted(reader);
		}
		tempo_segment_close(open);
	}
}

/*
 * Copying spans from one batch to another.
 */

static uint32
copy_string(const SpanBatch *from, uint32 id, SpanBatch *to)
{
	uint32 copy = span_batch_string(to, from->strings[id]);

	if (copy == SPAN_BATCH_NONE)
		out_of_memory();
	return copy;
}

static void
copy_text(SpanText *text, SpanBatch *to)
{
	text->data = arena_copy(span_batch_arena(to), text->data, text->len);
	if (text->data == NULL)
		out_of_memory();
}

static void
copy_attributes(AttributeList *list, SpanBatch *to)
{
	KeyValue *items;

	if (!attribute_list_copy(span_batch_arena(to), *list, list))
		out_of_memory();
	items = unconstify(KeyValue *, list->items);
	for (uint32 i = 0; i < list->count; i++)
	{
		items[i].key_id = span_batch_string(to, items[i].key);
		if (items[i].key_id == SPAN_BATCH_NONE)
			out_of_memory();
	}
}

static uint32
copy_scope(const SpanBatch *from, const Span *span, SpanBatch *to)
{
	SpanScope    scope = *span_scope(from, span);
	SpanResource resource = *span_resource(from, span);

	resource.tenant = copy_string(from, resource.tenant, to);
	resource.schema_url = copy_string(from, resource.schema_url, to);
	scope.name = copy_string(from, scope.name, to);
	scope.version = copy_string(from, scope.version, to);
	scope.schema_url = copy_string(from, scope.schema_url, to);
	scope.resource = span_batch_resource(to, &resource);
	if (scope.resource == SPAN_BATCH_NONE)
		out_of_memory();
	scope.resource = span_batch_scope(to, &scope);
	if (scope.resource == SPAN_BATCH_NONE)
		out_of_memory();
	return scope.resource;
}

static void
copy_span(const SpanBatch *from, const Span *span, SpanBatch *to)
{
	Span       copy = *span;
	Arena     *arena = span_batch_arena(to);
	SpanEvent *events = arena_copy(arena, span->events, sizeof(SpanEvent) * span->n_events);
	SpanLink  *links = arena_copy(arena, span->links, sizeof(SpanLink) * span->n_links);

	if (events == NULL || links == NULL)
		out_of_memory();
	for (uint32 i = 0; i < span->n_events; i++)
	{
		copy_text(&events[i].name, to);
		copy_attributes(&events[i].attributes, to);
	}
	for (uint32 i = 0; i < span->n_links; i++)
	{
		copy_text(&links[i].trace_state, to);
		copy_attributes(&links[i].attributes, to);
	}
	copy.events = events;
	copy.links = links;
	copy.scope = copy_scope(from, span, to);
	copy.name = copy_string(from, span->name, to);
	copy_text(&copy.status_message, to);
	copy_text(&copy.trace_state, to);
	copy_attributes(&copy.attributes, to);
	if (!span_batch_add(to, &copy))
		out_of_memory();
}

/* What the own transaction has in memory because it could not be flushed. */
static void
read_pending(Relation rel, const TraceId *trace_id, TraceReader *reader)
{
	TempoInsertBuffer *pending = NULL;

	while ((pending = tempo_pending_next(rel, GetActiveSnapshot(), pending)) != NULL)
	{
		const SpanBatch *from = tempo_pending_batch(pending);

		for (uint32 i = 0; i < from->n_spans; i++)
			if (memcmp(&from->spans[i].trace_id, trace_id, TRACE_ID_LEN) == 0)
				copy_span(from, &from->spans[i], reader->batch);
	}
	keep_wanted(reader);
}

void
tempo_read_trace(Relation rel, const TraceId *trace_id,
                 const SpanText *tenants, uint32 n_tenants, SpanBatch *batch)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "tempo trace", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	TraceReader   reader;

	check_select(rel);
	start_reader(&reader, tenants, n_tenants, batch);
	if (rel->rd_rel->relam != get_table_am_oid("tempo", true) ||
	    check_enable_rls(RelationGetRelid(rel), InvalidOid, false) == RLS_ENABLED)
		read_by_query(rel, trace_id, &reader);
	else
	{
		if (!IsInParallelMode())
			tempo_flush_inserts(RelationGetRelid(rel));
		read_segments(rel, trace_id, &reader);
		read_pending(rel, trace_id, &reader);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}
