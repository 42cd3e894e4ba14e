/*-------------------------------------------------------------------------
 *
 * tags.c
 *	  Attribute keys and their distinct values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tags.h"

#include "access/compat.h"
#include "access/deletions.h"
#include "access/directory.h"
#include "access/insert_buffer.h"
#include "access/jsonb.h"
#include "access/memory.h"
#include "access/row.h"
#include "access/segment_source.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
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

typedef enum TagQuestion
{
	TAG_KEYS,
	TAG_VALUES,
	TAG_NAMES
} TagQuestion;

typedef struct TagReader
{
	Relation              rel;
	const TempoTagRange  *range;
	TagQuestion           question;
	uint32                scopes; /* KEYS */
	AttributeScope        scope;  /* VALUES */
	SpanText              key;
	TempoTagKeyCallback   key_callback;
	TempoTagValueCallback value_callback;
	void                 *arg;
	MemoryContext         caller; /* where callbacks run */
	MemoryContext         context;
	SpanAllocator         allocator;
	HTAB                 *seen;
	StringInfoData        image; /* of what is looked up there */
	bool                  stopped;
} TagReader;

/*
 * Distinctness: a set of byte strings.
 */

static uint32
text_hash(const void *key, Size size)
{
	const SpanText *text = key;

	return hash_bytes((const unsigned char *) text->data, (int) text->len);
}

static int
text_match(const void *a, const void *b, Size size)
{
	return span_text_equal(*(const SpanText *) a, *(const SpanText *) b) ? 0 : 1;
}

/* Has the image been seen before?  Remembers it if not. */
static bool
seen_before(TagReader *reader)
{
	SpanText text = span_text(reader->image.data, (uint32) reader->image.len);
	bool     found;
	char    *copy;

	(void) hash_search(reader->seen, &text, HASH_FIND, &found);
	if (found)
		return true;
	copy = MemoryContextAlloc(reader->context, Max(text.len, 1));
	memcpy(copy, text.data, text.len);
	text.data = copy;
	(void) hash_search(reader->seen, &text, HASH_ENTER, &found);
	return false;
}

static void
report_key(TagReader *reader, AttributeScope scope, SpanText key)
{
	MemoryContext old;

	if (reader->stopped || (reader->scopes & (1U << scope)) == 0)
		return;
	resetStringInfo(&reader->image);
	appendStringInfoChar(&reader->image, (char) scope);
	appendBinaryStringInfo(&reader->image, key.len > 0 ? key.data : "", (int) key.len);
	if (seen_before(reader))
		return;
	old = MemoryContextSwitchTo(reader->caller);
	reader->stopped = !reader->key_callback(reader->arg, scope, key);
	MemoryContextSwitchTo(old);
}

static void
report_value(TagReader *reader, const AnyValue *value)
{
	MemoryContext old;

	if (reader->stopped)
		return;
	resetStringInfo(&reader->image);
	appendStringInfoChar(&reader->image, (char) value->type);
	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			appendBinaryStringInfo(&reader->image, value->len > 0 ? value->u.data : "", (int) value->len);
			break;
		case ANY_BOOL:
			appendStringInfoChar(&reader->image, value->u.boolean ? 1 : 0);
			break;
		case ANY_INT:
		case ANY_DOUBLE:
			appendBinaryStringInfo(&reader->image, (const char *) &value->u, 8);
			break;
		case ANY_ARRAY:
			for (uint32 i = 0; i < value->len; i++)
				if (value->u.elements[i].type != ANY_ARRAY)
					report_value(reader, &value->u.elements[i]);
			return;
		case ANY_EMPTY:
		case ANY_KVLIST:
		case ANY_BYTES:
			return;
	}
	if (seen_before(reader))
		return;
	old = MemoryContextSwitchTo(reader->caller);
	reader->stopped = !reader->value_callback(reader->arg, value);
	MemoryContextSwitchTo(old);
}

static void
report_name(TagReader *reader, SpanText name)
{
	AnyValue value = {.type = ANY_STRING};

	value.len = name.len;
	value.u.data = name.data;
	report_value(reader, &value);
}

/* One attribute list of a span. */
static void
report_list(TagReader *reader, AttributeScope scope, AttributeList list)
{
	if (reader->question == TAG_KEYS)
	{
		for (uint32 i = 0; i < list.count; i++)
			report_key(reader, scope, list.items[i].key);
	}
	else if (scope == reader->scope)
	{
		const AnyValue *value = attribute_find(list, reader->key);

		if (value != NULL)
			report_value(reader, value);
	}
}

/*
 * Spans.
 */

static bool
wanted_tenant(const TempoTagRange *range, SpanText tenant)
{
	for (uint32 i = 0; i < range->n_tenants; i++)
		if (span_text_equal(range->tenants[i], tenant))
			return true;
	return range->n_tenants == 0;
}

static bool
asks_for(const TagReader *reader, AttributeScope scope)
{
	return reader->question == TAG_KEYS ? (reader->scopes & (1U << scope)) != 0 :
	                                      reader->question == TAG_VALUES && reader->scope == scope;
}

static SegmentProjection
projection_of(const TagReader *reader)
{
	SegmentProjection projection = {SEGMENT_START | SEGMENT_TENANT, NULL, 0};

	if (reader->question == TAG_NAMES)
		projection.parts |= SEGMENT_NAME;
	if (asks_for(reader, ATTRIBUTE_SPAN) && reader->question == TAG_VALUES)
	{
		projection.keys = &reader->key;
		projection.n_keys = 1;
	}
	else if (asks_for(reader, ATTRIBUTE_SPAN))
		projection.parts |= SEGMENT_ATTRIBUTES;
	if (asks_for(reader, ATTRIBUTE_RESOURCE))
		projection.parts |= SEGMENT_RESOURCE;
	if (asks_for(reader, ATTRIBUTE_SCOPE))
		projection.parts |= SEGMENT_SCOPE;
	if (asks_for(reader, ATTRIBUTE_EVENT))
		projection.parts |= SEGMENT_EVENTS;
	if (asks_for(reader, ATTRIBUTE_LINK))
		projection.parts |= SEGMENT_LINKS;
	return projection;
}

static void
report_spans(TagReader *reader, const SpanBatch *batch)
{
	uint32 last_scope = UINT32_MAX;

	for (uint32 i = 0; i < batch->n_spans && !reader->stopped; i++)
	{
		const Span *span = &batch->spans[i];

		if (span->start_time_unix_nano < reader->range->start_nano ||
		    span->start_time_unix_nano >= reader->range->end_nano ||
		    !wanted_tenant(reader->range, batch->strings[span_resource(batch, span)->tenant]))
			continue;
		if (reader->question == TAG_NAMES)
		{
			report_name(reader, batch->strings[span->name]);
			continue;
		}
		report_list(reader, ATTRIBUTE_SPAN, span->attributes);
		if (span->scope != last_scope)
		{
			report_list(reader, ATTRIBUTE_RESOURCE, span_resource(batch, span)->attributes);
			report_list(reader, ATTRIBUTE_SCOPE, span_scope(batch, span)->attributes);
			last_scope = span->scope;
		}
		for (uint32 e = 0; e < span->n_events; e++)
			report_list(reader, ATTRIBUTE_EVENT, span->events[e].attributes);
		for (uint32 l = 0; l < span->n_links; l++)
			report_list(reader, ATTRIBUTE_LINK, span->links[l].attributes);
	}
}

/*
 * Segments.
 */

/* Is every span of the segment inside the range, and of a wanted tenant? */
static bool
lies_inside(const TagReader *reader, const TempoSegment *segment, TempoOpenSegment *open)
{
	const SpanText *tenants;
	uint32          count;
	SpanError       error;

	if (segment->summary.min_start_nano < reader->range->start_nano ||
	    segment->summary.max_start_nano >= reader->range->end_nano)
		return false;
	if (reader->range->n_tenants == 0)
		return true;
	if (!segment_tenants(tempo_segment_reader(open), &tenants, &count, &error))
		tempo_segment_failed(open, &error);
	for (uint32 i = 0; i < count; i++)
		if (!wanted_tenant(reader->range, tenants[i]))
			return false;
	return true;
}

static void
report_footer_names(TagReader *reader, TempoOpenSegment *open)
{
	const SpanText *names;
	uint32          count;
	SpanError       error;

	if (!segment_names(tempo_segment_reader(open), &names, &count, &error))
		tempo_segment_failed(open, &error);
	for (uint32 i = 0; i < count; i++)
		report_name(reader, names[i]);
}

/* Answers from the footer; false if it cannot tell. */
static bool
report_footer(TagReader *reader, TempoOpenSegment *open, bool inside)
{
	SegmentReader    *segment = tempo_segment_reader(open);
	const SegmentKey *keys;
	const AnyValue   *values;
	uint32            n_keys;
	uint32            n_values;
	SpanError         error;

	if (reader->question == TAG_NAMES)
	{
		if (inside)
			report_footer_names(reader, open);
		return inside;
	}
	if (!segment_keys(segment, &keys, &n_keys, &error))
		tempo_segment_failed(open, &error);
	if (reader->question == TAG_KEYS)
	{
		for (uint32 i = 0; i < n_keys && inside; i++)
			report_key(reader, keys[i].scope, keys[i].key);
		return inside;
	}
	for (uint32 i = 0; i < n_keys; i++)
	{
		if (keys[i].scope != reader->scope || !span_text_equal(keys[i].key, reader->key))
			continue;
		if (!inside || !keys[i].values_complete)
			return false;
		if (!segment_key_values(segment, i, &values, &n_values, &error))
			tempo_segment_failed(open, &error);
		for (uint32 v = 0; v < n_values; v++)
			report_value(reader, &values[v]);
		return true;
	}
	return true; /* the segment does not have the key */
}

static void
report_decoded(TagReader *reader, const TempoSegment *segment, TempoOpenSegment *open)
{
	SegmentProjection projection = projection_of(reader);
	SpanBatch        *batch = span_batch_create(&reader->allocator, 0);
	uint32            rows = segment->summary.rows;
	uint32            step = Max(segment_block_rows(tempo_segment_reader(open)), 1);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (uint32 first = 0; first < rows && !reader->stopped; first += step)
	{
		CHECK_FOR_INTERRUPTS();
		span_batch_reset(batch);
		tempo_segment_decode(open, &projection, first, Min(step, rows - first), batch);
		tempo_deletions_drop(segment, first, batch, 0);
		report_spans(reader, batch);
	}
	span_batch_destroy(batch);
}

static void
report_segments(TagReader *reader)
{
	TempoSegmentBounds bounds = {reader->range->start_nano, reader->range->end_nano, 0};
	TempoInsertBuffer *pending = NULL;
	TempoSegment      *segments;
	uint32             n_segments;

	if (!IsInParallelMode())
		tempo_flush_inserts(RelationGetRelid(reader->rel));
	for (uint32 i = 0; i < reader->range->n_tenants; i++)
		bounds.tenants |= segment_tenant_bit(reader->range->tenants[i]);
	segments = tempo_directory_list(reader->rel, GetActiveSnapshot(), &bounds, &n_segments);
	for (uint32 i = 0; i < n_segments && !reader->stopped; i++)
	{
		TempoOpenSegment *open = tempo_segment_open(reader->rel, &segments[i], NULL);

		CHECK_FOR_INTERRUPTS();
		/* the footer knows deleted rows, too */
		if (segments[i].deleted != NULL || !report_footer(reader, open, lies_inside(reader, &segments[i], open)))
			report_decoded(reader, &segments[i], open);
		tempo_segment_close(open);
	}
	while (!reader->stopped &&
	       (pending = tempo_pending_next(reader->rel, GetActiveSnapshot(), pending)) != NULL)
		report_spans(reader, tempo_pending_batch(pending));
}

/*
 * SQL, where row security decides what may be seen.
 */

static const char *
attributes_expression(AttributeScope scope)
{
	switch (scope)
	{
		case ATTRIBUTE_SPAN:
			return "s.attributes";
		case ATTRIBUTE_RESOURCE:
			return "s.resource_attributes";
		case ATTRIBUTE_SCOPE:
			return "s.scope_attributes";
		case ATTRIBUTE_EVENT:
		case ATTRIBUTE_LINK:
			return "(e.value OPERATOR(pg_catalog.->) 'attributes')";
	}
	return NULL;
}

/* " FROM table ... WHERE ...", for spans or for their events or links */
static char *
from_clause(const TagReader *reader, AttributeScope scope, bool with_keys)
{
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, " FROM %s AS s",
	                 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(reader->rel)),
	                                            RelationGetRelationName(reader->rel)));
	if (scope == ATTRIBUTE_EVENT || scope == ATTRIBUTE_LINK)
		appendStringInfo(&query, ", pg_catalog.jsonb_array_elements(s.%s) AS e(value)",
		                 scope == ATTRIBUTE_EVENT ? "events" : "links");
	if (with_keys)
		appendStringInfo(&query, ", pg_catalog.jsonb_object_keys(%s) AS k(key)", attributes_expression(scope));
	appendStringInfoString(&query,
	                       " WHERE s.start_time_unix_nano OPERATOR(pg_catalog.>=) $1"
	                       " AND s.start_time_unix_nano OPERATOR(pg_catalog.<) $2"
	                       " AND ($3 IS NULL OR s.tenant OPERATOR(pg_catalog.=) ANY ($3))");
	return query.data;
}

static void
report_row(TagReader *reader, AttributeScope scope, Datum value)
{
	SpanBatch *batch;
	JsonbValue json;
	AnyValue   any;
	Jsonb     *jsonb;

	if (reader->question != TAG_VALUES)
	{
		text    *t = DatumGetTextPP(value);
		SpanText text = span_text(VARDATA_ANY(t), (uint32) VARSIZE_ANY_EXHDR(t));

		if (reader->question == TAG_KEYS)
			report_key(reader, scope, text);
		else
			report_name(reader, text);
		return;
	}
	jsonb = DatumGetJsonbP(value);
	batch = span_batch_create(&reader->allocator, 0);
	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (!JsonbExtractScalar(&jsonb->root, &json))
	{
		json.type = jbvBinary;
		json.val.binary.data = &jsonb->root;
		json.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	tempo_value_from_jsonb(&json, batch, "attributes", &any);
	report_value(reader, &any);
	span_batch_destroy(batch);
}

static void
report_query(TagReader *reader, AttributeScope scope, const char *select)
{
	Oid    types[4] = {INT8OID, INT8OID, TEXTARRAYOID, TEXTOID};
	Datum  args[4];
	char   nulls[5] = "    ";
	Datum *tenants = palloc(sizeof(Datum) * Max(reader->range->n_tenants, 1));
	char  *query = psprintf("%s%s", select, from_clause(reader, scope, reader->question == TAG_KEYS));
	Portal portal;

	for (uint32 i = 0; i < reader->range->n_tenants; i++)
		tenants[i] = PointerGetDatum(cstring_to_text_with_len(reader->range->tenants[i].data,
		                                                      (int) reader->range->tenants[i].len));
	args[0] = Int64GetDatum(reader->range->start_nano);
	args[1] = Int64GetDatum(reader->range->end_nano);
	args[2] = PointerGetDatum(construct_array(tenants, (int) reader->range->n_tenants, TEXTOID, -1, false, TYPALIGN_INT));
	if (reader->range->n_tenants == 0)
		nulls[2] = 'n';
	args[3] = PointerGetDatum(cstring_to_text_with_len(reader->key.len > 0 ? reader->key.data : "",
	                                                   (int) reader->key.len));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	portal = SPI_cursor_open_with_args(NULL, query, 4, types, args, nulls, true, 0);
	do
	{
		SPI_cursor_fetch(portal, true, 1000);
		for (uint64 i = 0; i < SPI_processed && !reader->stopped; i++)
		{
			bool  isnull;
			Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

			if (!isnull)
				report_row(reader, scope, value);
		}
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0 && !reader->stopped);
	SPI_cursor_close(portal);
	SPI_finish();
}

static void
report_by_query(TagReader *reader)
{
	switch (reader->question)
	{
		case TAG_NAMES:
			report_query(reader, ATTRIBUTE_SPAN, "SELECT DISTINCT s.name");
			break;
		case TAG_VALUES:
			/* 1 and 1.0 are equal as jsonb, and two values */
			report_query(reader, reader->scope,
			             psprintf("SELECT DISTINCT ON ((%1$s OPERATOR(pg_catalog.->) $4)::pg_catalog.text)"
			                      " %1$s OPERATOR(pg_catalog.->) $4",
			                      attributes_expression(reader->scope)));
			break;
		case TAG_KEYS:
			for (int scope = ATTRIBUTE_SPAN; scope <= ATTRIBUTE_LINK && !reader->stopped; scope++)
				if (reader->scopes & (1U << scope))
					report_query(reader, (AttributeScope) scope, "SELECT DISTINCT k.key");
			break;
	}
}

static void
run(TagReader *reader)
{
	Oid           relid = RelationGetRelid(reader->rel);
	AclResult     allowed = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	MemoryContext old;
	HASHCTL       control;

	if (allowed != ACLCHECK_OK)
		allowed = pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ALL);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, RelationGetRelationName(reader->rel));
	reader->caller = CurrentMemoryContext;
	reader->context = AllocSetContextCreate(CurrentMemoryContext, "tempo tags", ALLOCSET_DEFAULT_SIZES);
	reader->allocator = tempo_context_allocator(reader->context);
	old = MemoryContextSwitchTo(reader->context);
	initStringInfo(&reader->image);
	control.keysize = sizeof(SpanText);
	control.entrysize = sizeof(SpanText);
	control.hash = text_hash;
	control.match = text_match;
	control.hcxt = reader->context;
	reader->seen = hash_create("tempo tags", 256, &control, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	if (reader->rel->rd_rel->relam != get_table_am_oid("tempo", true) ||
	    check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		report_by_query(reader);
	else
		report_segments(reader);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(reader->context);
}

void
tempo_tag_keys(Relation rel, const TempoTagRange *range, uint32 scopes,
               TempoTagKeyCallback callback, void *arg)
{
	TagReader reader = {.rel = rel, .range = range, .question = TAG_KEYS, .scopes = scopes, .key_callback = callback, .arg = arg};

	run(&reader);
}

void
tempo_tag_values(Relation rel, const TempoTagRange *range, AttributeScope scope,
                 SpanText key, TempoTagValueCallback callback, void *arg)
{
	TagReader reader = {.rel = rel, .range = range, .question = TAG_VALUES, .scope = scope, .key = key, .value_callback = callback, .arg = arg};

	run(&reader);
}

void
tempo_tag_names(Relation rel, const TempoTagRange *range, TempoTagValueCallback callback, void *arg)
{
	TagReader reader = {.rel = rel, .range = range, .question = TAG_NAMES, .value_callback = callback, .arg = arg};

	run(&reader);
}
