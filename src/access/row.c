/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Between rows of a table USING tempo and spans in a SpanBatch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/row.h"

#include "access/htup_details.h"
#include "access/jsonb.h"
#include "access/memory.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

typedef struct SpanColumn
{
	const char *name;
	Oid         type;     /* InvalidOid: a type of our own */
	const char *own_type; /* its name in schema tempo */
	bool        required;
	uint32      parts; /* SEGMENT_xxx to decode */
} SpanColumn;

#define SEGMENT_DURATION (SEGMENT_START | SEGMENT_END)

/* In the order of TempoColumn. */
static const SpanColumn span_columns[TEMPO_N_COLUMNS] = {
	{"tenant", TEXTOID, NULL, false, SEGMENT_TENANT},
	{"trace_id", InvalidOid, "trace_id", true, SEGMENT_TRACE_ID},
	{"span_id", InvalidOid, "span_id", true, SEGMENT_SPAN_ID},
	{"parent_span_id", InvalidOid, "span_id", false, SEGMENT_PARENT},
	{"trace_state", TEXTOID, NULL, false, SEGMENT_TRACE_STATE},
	{"flags", INT8OID, NULL, false, SEGMENT_FLAGS},
	{"name", TEXTOID, NULL, false, SEGMENT_NAME},
	{"kind", TEXTOID, NULL, false, SEGMENT_KIND},
	{"status", TEXTOID, NULL, false, SEGMENT_STATUS},
	{"status_message", TEXTOID, NULL, false, SEGMENT_STATUS_MESSAGE},
	{"start_time_unix_nano", INT8OID, NULL, true, SEGMENT_START},
	{"duration_nano", INT8OID, NULL, true, SEGMENT_DURATION},
	{"start_time", TIMESTAMPTZOID, NULL, false, SEGMENT_START},
	{"end_time", TIMESTAMPTZOID, NULL, false, SEGMENT_DURATION},
	{"duration", INTERVALOID, NULL, false, SEGMENT_DURATION},
	{"service_name", TEXTOID, NULL, false, SEGMENT_RESOURCE},
	{"attributes", JSONBOID, NULL, false, SEGMENT_ATTRIBUTES},
	{"resource_attributes", JSONBOID, NULL, false, SEGMENT_RESOURCE},
	{"scope_name", TEXTOID, NULL, false, SEGMENT_SCOPE},
	{"scope_version", TEXTOID, NULL, false, SEGMENT_SCOPE},
	{"scope_attributes", JSONBOID, NULL, false, SEGMENT_SCOPE},
	{"events", JSONBOID, NULL, false, SEGMENT_EVENTS},
	{"links", JSONBOID, NULL, false, SEGMENT_LINKS},
	{"dropped_attributes_count", INT8OID, NULL, false, SEGMENT_DROPPED},
	{"dropped_events_count", INT8OID, NULL, false, SEGMENT_DROPPED},
	{"dropped_links_count", INT8OID, NULL, false, SEGMENT_DROPPED},
	{"resource_dropped_attributes_count", INT8OID, NULL, false, SEGMENT_RESOURCE},
	{"scope_dropped_attributes_count", INT8OID, NULL, false, SEGMENT_SCOPE},
	{"resource_schema_url", TEXTOID, NULL, false, SEGMENT_RESOURCE},
	{"scope_schema_url", TEXTOID, NULL, false, SEGMENT_SCOPE},
	{"resource_entity_refs", JSONBOID, NULL, false, SEGMENT_RESOURCE}};

static const char *const kind_names[] = {"unspecified", "internal", "server", "client", "producer", "consumer"};
static const char *const status_names[] = {"unset", "ok", "error"};

#define DEFAULT_TENANT "single-tenant"

const char *
tempo_column_name(TempoColumn column)
{
	return span_columns[column].name;
}

uint32
tempo_column_parts(TempoColumn column)
{
	return span_columns[column].parts;
}

/*
 * The column map.
 */

/* Is this type the one of that name in schema tempo? */
static bool
is_own_type(Oid type, const char *name)
{
	HeapTuple    tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	bool         result = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (strcmp(NameStr(form->typname), name) == 0)
	{
		char *schema = get_namespace_name(form->typnamespace);

		result = schema != NULL && strcmp(schema, "tempo") == 0;
	}
	ReleaseSysCache(tuple);
	return result;
}

static void
check_column_type(Form_pg_attribute attribute, const SpanColumn *column)
{
	bool right;

	if (column->own_type != NULL)
		right = is_own_type(attribute->atttypid, column->own_type);
	else
		right = attribute->atttypid == column->type && attribute->atttypmod == -1;
	if (!right)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("column \"%s\" of a table of spans must have type %s%s", column->name,
		                column->own_type ? "tempo." : "",
		                column->own_type ? column->own_type : format_type_be(column->type)),
		         errhint("Create the table with (LIKE tempo.spans INCLUDING DEFAULTS).")));
}

static void
match_columns(TupleDesc desc, int16 *attno, int8 *column)
{
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
		attno[c] = -1;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		int               c;

		column[i] = -1;
		if (attribute->attisdropped)
			continue;
		for (c = 0; c < TEMPO_N_COLUMNS; c++)
			if (strcmp(NameStr(attribute->attname), span_columns[c].name) == 0)
				break;
		if (c == TEMPO_N_COLUMNS)
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("a table of spans cannot have a column \"%s\"", NameStr(attribute->attname)),
			         errdetail("Access method \"tempo\" stores spans and nothing else."),
			         errhint("Create the table with (LIKE tempo.spans INCLUDING DEFAULTS).")));
		check_column_type(attribute, &span_columns[c]);
		attno[c] = (int16) i;
		column[i] = (int8) c;
	}
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
		if (attno[c] < 0)
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("a table of spans must have a column \"%s\"", span_columns[c].name),
			         errdetail("Access method \"tempo\" stores spans and nothing else."),
			         errhint("Create the table with (LIKE tempo.spans INCLUDING DEFAULTS).")));
}

TempoColumnMap *
tempo_column_map(TupleDesc desc)
{
	TempoColumnMap *map = palloc0(sizeof(TempoColumnMap));

	map->natts = desc->natts;
	map->column = palloc(Max(desc->natts, 1));
	match_columns(desc, map->attno, map->column);
	return map;
}

void
tempo_check_columns(TupleDesc desc)
{
	TempoColumnMap *map = tempo_column_map(desc);

	pfree(map->column);
	pfree(map);
}

/*
 * Kinds and status codes as text.
 */

static SpanText
code_text(int32 code, const char *const *names, int n_names, char *buffer)
{
	if (code >= 0 && code < n_names)
		return span_text(names[code], (uint32) strlen(names[code]));
	return span_text(buffer, (uint32) pg_ltoa(code, buffer));
}

/* A name, or a number that has none, written as code_text() writes it. */
static bool
code_from_text(SpanText text, const char *const *names, int n_names, int32 *code)
{
	char  buffer[12];
	char  again[12];
	char *end;
	long  number;

	for (int i = 0; i < n_names; i++)
		if (span_text_is(text, names[i]))
		{
			*code = i;
			return true;
		}
	if (text.len == 0 || text.len >= sizeof(buffer))
		return false;
	memcpy(buffer, text.data, text.len);
	buffer[text.len] = '\0';
	errno = 0;
	number = strtol(buffer, &end, 10);
	if (errno != 0 || *end != '\0' || number < PG_INT32_MIN || number > PG_INT32_MAX)
		return false;
	if (number >= 0 && number < n_names)
		return false;
	pg_ltoa((int32) number, again);
	*code = (int32) number;
	return strcmp(buffer, again) == 0;
}

SpanText
tempo_kind_text(int32 kind, char buffer[12])
{
	return code_text(kind, kind_names, lengthof(kind_names), buffer);
}

SpanText
tempo_status_text(int32 status, char buffer[12])
{
	return code_text(status, status_names, lengthof(status_names), buffer);
}

bool
tempo_kind_from_text(SpanText text, int32 *kind)
{
	return code_from_text(text, kind_names, lengthof(kind_names), kind);
}

bool
tempo_status_from_text(SpanText text, int32 *status)
{
	return code_from_text(text, status_names, lengthof(status_names), status);
}

SpanText
tempo_service_name(const SpanResource *resource)
{
	const AnyValue *value = attribute_find(resource->attributes, span_text("service.name", 12));

	if (value == NULL || value->type != ANY_STRING)
		return span_text(NULL, 0);
	return span_text(value->len > 0 ? value->u.data : "", value->len);
}

/*
 * Rows to spans.
 */

typedef struct RowSource
{
	const TempoColumnMap *map;
	const Datum          *values;
	const bool           *isnull;
	SpanBatch            *batch;
} RowSource;

static bool
given(const RowSource *row, TempoColumn column)
{
	return !row->isnull[row->map->attno[column]];
}

static Datum
value_of(const RowSource *row, TempoColumn column)
{
	return row->values[row->map->attno[column]];
}

static void
out_of_memory(void)
{
	ereport(ERROR,
	        (errcode(ERRCODE_OUT_OF_MEMORY),
	         errmsg("out of memory"),
	         errdetail("A batch of spans reached its memory limit.")));
}

static void
bad_value(TempoColumn column, const char *detail)
{
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("invalid value for column \"%s\"", span_columns[column].name),
	         errdetail_internal("%s", detail)));
}

/* Text of a column, not copied unless it was toasted; NULL is "otherwise". */
static SpanText
read_text(const RowSource *row, TempoColumn column, const char *otherwise)
{
	text *value;

	if (!given(row, column))
		return span_text(otherwise, (uint32) strlen(otherwise));
	value = DatumGetTextPP(value_of(row, column));
	return span_text(VARDATA_ANY(value), (uint32) VARSIZE_ANY_EXHDR(value));
}

static uint32
read_string(const RowSource *row, TempoColumn column, const char *otherwise)
{
	uint32 id = span_batch_string(row->batch, read_text(row, column, otherwise));

	if (id == SPAN_BATCH_NONE)
		out_of_memory();
	return id;
}

static SpanText
copy_text(const RowSource *row, TempoColumn column)
{
	SpanText text = read_text(row, column, "");

	if (text.len == 0)
		return span_text(NULL, 0);
	text.data = arena_copy(span_batch_arena(row->batch), text.data, text.len);
	if (text.data == NULL)
		out_of_memory();
	return text;
}

static uint32
read_uint32(const RowSource *row, TempoColumn column)
{
	int64 value;

	if (!given(row, column))
		return 0;
	value = DatumGetInt64(value_of(row, column));
	if (value < 0 || value > (int64) UINT32_MAX)
		bad_value(column, "It must be between 0 and 4294967295.");
	return (uint32) value;
}

/* Attributes; with "batch" NULL they are only for interning a resource or scope. */
static AttributeList
read_attributes(const RowSource *row, TempoColumn column, SpanBatch *batch)
{
	AttributeList none = {NULL, 0};
	Jsonb        *value;

	if (!given(row, column))
		return none;
	value = DatumGetJsonbP(value_of(row, column));
	if (JB_ROOT_IS_OBJECT(value) && JB_ROOT_COUNT(value) == 0)
		return none;
	return tempo_attributes_from_jsonb(value, batch, span_columns[column].name);
}

static void
read_ids(const RowSource *row, Span *span)
{
	memcpy(&span->trace_id, DatumGetPointer(value_of(row, TEMPO_TRACE_ID)), TRACE_ID_LEN);
	memcpy(&span->span_id, DatumGetPointer(value_of(row, TEMPO_SPAN_ID)), SPAN_ID_LEN);
	if (given(row, TEMPO_PARENT_SPAN_ID))
		memcpy(&span->parent_span_id, DatumGetPointer(value_of(row, TEMPO_PARENT_SPAN_ID)), SPAN_ID_LEN);
	if (id_is_zero(span->trace_id.bytes, TRACE_ID_LEN))
		bad_value(TEMPO_TRACE_ID, "An id must not be all zeros.");
	if (id_is_zero(span->span_id.bytes, SPAN_ID_LEN))
		bad_value(TEMPO_SPAN_ID, "An id must not be all zeros.");
}

static void
read_times(const RowSource *row, Span *span)
{
	int64 start = DatumGetInt64(value_of(row, TEMPO_START_TIME_UNIX_NANO));
	int64 duration = DatumGetInt64(value_of(row, TEMPO_DURATION_NANO));

	if (start < 0)
		bad_value(TEMPO_START_TIME_UNIX_NANO, "It must not be negative.");
	if (duration > PG_INT64_MAX - start || duration < -start)
		bad_value(TEMPO_DURATION_NANO, "The end of the span, in nanoseconds since 1970, must be between 0 and 9223372036854775807.");
	span->start_time_unix_nano = start;
	span->end_time_unix_nano = start + duration;
}

static void
read_codes(const RowSource *row, Span *span)
{
	if (!tempo_kind_from_text(read_text(row, TEMPO_KIND, kind_names[0]), &span->kind))
		bad_value(TEMPO_KIND, "It must be unspecified, internal, server, client, producer, consumer, or another number of 32 bits.");
	if (!tempo_status_from_text(read_text(row, TEMPO_STATUS, status_names[0]), &span->status_code))
		bad_value(TEMPO_STATUS, "It must be unset, ok, error, or another number of 32 bits.");
}

static uint32
read_resource(const RowSource *row)
{
	SpanResource resource;
	uint32       index;

	memset(&resource, 0, sizeof(resource));
	resource.tenant = read_string(row, TEMPO_TENANT, DEFAULT_TENANT);
	resource.schema_url = read_string(row, TEMPO_RESOURCE_SCHEMA_URL, "");
	resource.dropped_attributes_count = read_uint32(row, TEMPO_RESOURCE_DROPPED_ATTRIBUTES_COUNT);
	resource.attributes = read_attributes(row, TEMPO_RESOURCE_ATTRIBUTES, NULL);
	if (given(row, TEMPO_RESOURCE_ENTITY_REFS))
	{
		Jsonb *refs = DatumGetJsonbP(value_of(row, TEMPO_RESOURCE_ENTITY_REFS));

		if (!JB_ROOT_IS_ARRAY(refs) || JB_ROOT_IS_SCALAR(refs))
			bad_value(TEMPO_RESOURCE_ENTITY_REFS, "It must be a JSON array.");
		if (JB_ROOT_COUNT(refs) > 0)
		{
			char *text = JsonbToCString(NULL, &refs->root, VARSIZE(refs));

			resource.entity_refs = span_text(text, (uint32) strlen(text));
		}
	}
	index = span_batch_resource(row->batch, &resource);
	if (index == SPAN_BATCH_NONE)
		out_of_memory();
	return index;
}

static uint32
read_scope(const RowSource *row)
{
	SpanScope scope;
	uint32    index;

	memset(&scope, 0, sizeof(scope));
	scope.resource = read_resource(row);
	scope.name = read_string(row, TEMPO_SCOPE_NAME, "");
	scope.version = read_string(row, TEMPO_SCOPE_VERSION, "");
	scope.schema_url = read_string(row, TEMPO_SCOPE_SCHEMA_URL, "");
	scope.dropped_attributes_count = read_uint32(row, TEMPO_SCOPE_DROPPED_ATTRIBUTES_COUNT);
	scope.attributes = read_attributes(row, TEMPO_SCOPE_ATTRIBUTES, NULL);
	index = span_batch_scope(row->batch, &scope);
	if (index == SPAN_BATCH_NONE)
		out_of_memory();
	return index;
}

static TimestampTz
timestamp_of(int64 unix_nano)
{
	return unix_nano / 1000 - TEMPO_EPOCH_DIFF;
}

static void
set_interval(Interval *interval, const Span *span)
{
	int64 nano = span->end_time_unix_nano - span->start_time_unix_nano;

	memset(interval, 0, sizeof(*interval));
	interval->time = nano > 0 ? nano / 1000 : 0;
}

static void
derived_differs(TempoColumn column, const char *from)
{
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("invalid value for column \"%s\"", span_columns[column].name),
	         errdetail("It is computed from %s, and the value given is another one.", from),
	         errhint("Leave the column out.")));
}

static void
check_derived(const RowSource *row, const Span *span)
{
	Interval duration;
	SpanText service;

	if (given(row, TEMPO_START_TIME) &&
	    DatumGetTimestampTz(value_of(row, TEMPO_START_TIME)) != timestamp_of(span->start_time_unix_nano))
		derived_differs(TEMPO_START_TIME, "start_time_unix_nano");
	if (given(row, TEMPO_END_TIME) &&
	    DatumGetTimestampTz(value_of(row, TEMPO_END_TIME)) != timestamp_of(span->end_time_unix_nano))
		derived_differs(TEMPO_END_TIME, "start_time_unix_nano and duration_nano");
	if (given(row, TEMPO_DURATION))
	{
		set_interval(&duration, span);
		if (!DatumGetBool(DirectFunctionCall2(interval_eq, value_of(row, TEMPO_DURATION),
		                                      IntervalPGetDatum(&duration))))
			derived_differs(TEMPO_DURATION, "duration_nano");
	}
	if (given(row, TEMPO_SERVICE_NAME))
	{
		service = tempo_service_name(span_resource(row->batch, span));
		if (service.data == NULL ||
		    !span_text_equal(service, read_text(row, TEMPO_SERVICE_NAME, "")))
			derived_differs(TEMPO_SERVICE_NAME, "attribute \"service.name\" of the resource");
	}
}

static void
read_span(const RowSource *row, Span *span)
{
	memset(span, 0, sizeof(*span));
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
		if (span_columns[c].required && !given(row, c))
			ereport(ERROR,
			        (errcode(ERRCODE_NOT_NULL_VIOLATION),
			         errmsg("null value in column \"%s\" of a table of spans", span_columns[c].name)));
	read_ids(row, span);
	read_times(row, span);
	read_codes(row, span);
	span->scope = read_scope(row);
	span->name = read_string(row, TEMPO_NAME, "");
	span->flags = read_uint32(row, TEMPO_FLAGS);
	span->dropped_attributes_count = read_uint32(row, TEMPO_DROPPED_ATTRIBUTES_COUNT);
	span->dropped_events_count = read_uint32(row, TEMPO_DROPPED_EVENTS_COUNT);
	span->dropped_links_count = read_uint32(row, TEMPO_DROPPED_LINKS_COUNT);
	span->status_message = copy_text(row, TEMPO_STATUS_MESSAGE);
	span->trace_state = copy_text(row, TEMPO_TRACE_STATE);
	span->attributes = read_attributes(row, TEMPO_ATTRIBUTES, row->batch);
	if (given(row, TEMPO_EVENTS))
		tempo_events_from_jsonb(DatumGetJsonbP(value_of(row, TEMPO_EVENTS)), row->batch,
		                        &span->events, &span->n_events);
	if (given(row, TEMPO_LINKS))
		tempo_links_from_jsonb(DatumGetJsonbP(value_of(row, TEMPO_LINKS)), row->batch,
		                       &span->links, &span->n_links);
	check_derived(row, span);
}

void
tempo_row_to_batch(const TempoColumnMap *map, const Datum *values,
                   const bool *isnull, SpanBatch *batch)
{
	RowSource     row = {map, values, isnull, batch};
	Span          span;
	MemoryContext scratch;
	MemoryContext old;

	/* INSERT calls us in the query's context, so clean up behind each row. */
	scratch = AllocSetContextCreate(CurrentMemoryContext, "tempo row", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);
	read_span(&row, &span);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	if (!span_batch_add(batch, &span))
		out_of_memory();
}

/*
 * Spans to rows.
 */

SegmentProjection
tempo_projection(const TempoColumnMap *map, const Bitmapset *needed, bool all)
{
	SegmentProjection projection = {0, NULL, 0};

	if (all || bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, needed))
	{
		projection.parts = SEGMENT_ALL;
		return projection;
	}
	for (int i = 0; i < map->natts; i++)
		if (map->column[i] >= 0 &&
		    bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, needed))
			projection.parts |= span_columns[map->column[i]].parts;
	return projection;
}

/* What many spans of a batch share, made when the first of them needs it. */
typedef struct SharedResource
{
	bool  known;
	bool  has_service;
	Datum service_name;
	Datum attributes;
	Datum entity_refs;
} SharedResource;

struct TempoRowReader
{
	const TempoColumnMap *map;
	MemoryContext         context; /* the reader's own */
	MemoryContext         shared;  /* values of the current batch */
	const SpanBatch      *batch;
	int                   n_needed;
	int8                  needed[TEMPO_N_COLUMNS];
	bool                  want[TEMPO_N_COLUMNS];
	bool                  blank[TEMPO_N_COLUMNS];
	Datum                 kinds[lengthof(kind_names)];
	Datum                 statuses[lengthof(status_names)];
	Datum                 empty_text;
	Datum                 empty_object;
	Datum                 empty_array;
	uint64                generation; /* of the batch that the shared values are of */
	uint32                n_strings;  /* at least the batch's */
	uint32                n_resources;
	uint32                n_scopes;
	Datum                *strings; /* 0 until used */
	SharedResource       *resources;
	Datum                *scope_attributes; /* 0 until used */
	Interval              duration;         /* the current row's */
};

static Datum
text_datum(SpanText value)
{
	return PointerGetDatum(cstring_to_text_with_len(value.len > 0 ? value.data : "", (int) value.len));
}

TempoRowReader *
tempo_row_reader_create(const TempoColumnMap *map, const Bitmapset *needed, bool all)
{
	MemoryContext   context = AllocSetContextCreate(CurrentMemoryContext, "tempo row reader",
	                                                ALLOCSET_DEFAULT_SIZES);
	MemoryContext   old = MemoryContextSwitchTo(context);
	TempoRowReader *reader = palloc0(sizeof(TempoRowReader));
	AttributeList   none = {NULL, 0};

	reader->map = map;
	reader->context = context;
	reader->shared = AllocSetContextCreate(context, "tempo shared values", ALLOCSET_DEFAULT_SIZES);
	if (bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, needed))
		all = true;
	for (int c = 0; c < TEMPO_N_COLUMNS; c++)
	{
		int attno = map->attno[c] + 1 - FirstLowInvalidHeapAttributeNumber;

		reader->want[c] = all || bms_is_member(attno, needed);
		if (reader->want[c])
			reader->needed[reader->n_needed++] = (int8) c;
	}
	for (int i = 0; i < lengthof(kind_names); i++)
		reader->kinds[i] = CStringGetTextDatum(kind_names[i]);
	for (int i = 0; i < lengthof(status_names); i++)
		reader->statuses[i] = CStringGetTextDatum(status_names[i]);
	reader->empty_text = CStringGetTextDatum("");
	reader->empty_object = JsonbPGetDatum(tempo_attributes_to_jsonb(none));
	reader->empty_array = JsonbPGetDatum(tempo_events_to_jsonb(NULL, 0));
	MemoryContextSwitchTo(old);
	return reader;
}

void
tempo_row_reader_blank(TempoRowReader *reader, TempoColumn column)
{
	reader->blank[column] = true;
	if (!reader->want[column])
	{
		reader->want[column] = true;
		reader->needed[reader->n_needed++] = (int8) column;
	}
}

/* Makes an array of shared values longer. */
static void *
grow(TempoRowReader *reader, void *old, uint32 old_count, uint32 count, Size width)
{
	void *new = MemoryContextAllocExtended(reader->shared, width * count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	if (old != NULL)
	{
		memcpy(new, old, width * old_count);
		pfree(old);
	}
	return new;
}

#define GROW(array, size, count) \
	do \
	{ \
		if ((count) > (size)) \
		{ \
			uint32 new_size = (count) + (count) / 2; \
\
			(array) = grow(reader, array, size, new_size, sizeof(*(array))); \
			(size) = new_size; \
		} \
	} while (0)

void
tempo_row_reader_batch(TempoRowReader *reader, const SpanBatch *batch)
{
	uint64 generation = span_batch_generation(batch);

	reader->batch = batch;
	if (generation != reader->generation)
	{
		MemoryContextReset(reader->shared);
		reader->strings = NULL;
		reader->resources = NULL;
		reader->scope_attributes = NULL;
		reader->n_strings = reader->n_resources = reader->n_scopes = 0;
		reader->generation = generation;
	}
	GROW(reader->strings, reader->n_strings, batch->n_strings);
	GROW(reader->resources, reader->n_resources, batch->n_resources);
	GROW(reader->scope_attributes, reader->n_scopes, batch->n_scopes);
}

void
tempo_row_reader_free(TempoRowReader *reader)
{
	MemoryContextDelete(reader->context);
}

/* The text of an interned string. */
static Datum
shared_string(TempoRowReader *reader, uint32 id)
{
	MemoryContext old;

	if (reader->strings[id] == 0)
	{
		old = MemoryContextSwitchTo(reader->shared);
		reader->strings[id] = text_datum(reader->batch->strings[id]);
		MemoryContextSwitchTo(old);
	}
	return reader->strings[id];
}

static const SharedResource *
shared_resource(TempoRowReader *reader, uint32 index)
{
	SharedResource     *shared = &reader->resources[index];
	const SpanResource *resource = &reader->batch->resources[index];
	MemoryContext       old;

	if (shared->known)
		return shared;
	old = MemoryContextSwitchTo(reader->shared);
	if (reader->want[TEMPO_SERVICE_NAME])
	{
		SpanText service = tempo_service_name(resource);

		shared->has_service = service.data != NULL;
		if (shared->has_service)
			shared->service_name = text_datum(service);
	}
	if (reader->want[TEMPO_RESOURCE_ATTRIBUTES])
		shared->attributes = JsonbPGetDatum(tempo_attributes_to_jsonb(resource->attributes));
	if (reader->want[TEMPO_RESOURCE_ENTITY_REFS])
	{
		shared->entity_refs = reader->empty_array;
		if (resource->entity_refs.len > 0)
			shared->entity_refs = DirectFunctionCall1(jsonb_in,
			                                          CStringGetDatum(pnstrdup(resource->entity_refs.data,
			                                                                   resource->entity_refs.len)));
	}
	shared->known = true;
	MemoryContextSwitchTo(old);
	return shared;
}

static Datum
shared_scope_attributes(TempoRowReader *reader, uint32 index)
{
	if (reader->scope_attributes[index] == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(reader->shared);

		reader->scope_attributes[index] = JsonbPGetDatum(tempo_attributes_to_jsonb(reader->batch->scopes[index].attributes));
		MemoryContextSwitchTo(old);
	}
	return reader->scope_attributes[index];
}

/* A column of the span itself. */
static Datum
span_column(TempoRowReader *reader, const Span *span, TempoColumn column, bool *isnull)
{
	char buffer[12];

	switch (column)
	{
		case TEMPO_TRACE_ID:
			return PointerGetDatum(span->trace_id.bytes);
		case TEMPO_SPAN_ID:
			return PointerGetDatum(span->span_id.bytes);
		case TEMPO_PARENT_SPAN_ID:
			*isnull = id_is_zero(span->parent_span_id.bytes, SPAN_ID_LEN);
			return *isnull ? (Datum) 0 : PointerGetDatum(span->parent_span_id.bytes);
		case TEMPO_TRACE_STATE:
			return span->trace_state.len == 0 ? reader->empty_text : text_datum(span->trace_state);
		case TEMPO_FLAGS:
			return Int64GetDatum(span->flags);
		case TEMPO_NAME:
			return shared_string(reader, span->name);
		case TEMPO_KIND:
			if (span->kind >= 0 && span->kind < lengthof(kind_names))
				return reader->kinds[span->kind];
			return text_datum(tempo_kind_text(span->kind, buffer));
		case TEMPO_STATUS:
			if (span->status_code >= 0 && span->status_code < lengthof(status_names))
				return reader->statuses[span->status_code];
			return text_datum(tempo_status_text(span->status_code, buffer));
		case TEMPO_STATUS_MESSAGE:
			return span->status_message.len == 0 ? reader->empty_text : text_datum(span->status_message);
		case TEMPO_START_TIME_UNIX_NANO:
			return Int64GetDatum(span->start_time_unix_nano);
		case TEMPO_DURATION_NANO:
			return Int64GetDatum(span->end_time_unix_nano - span->start_time_unix_nano);
		case TEMPO_START_TIME:
			return TimestampTzGetDatum(timestamp_of(span->start_time_unix_nano));
		case TEMPO_END_TIME:
			return TimestampTzGetDatum(timestamp_of(span->end_time_unix_nano));
		case TEMPO_DURATION:
			set_interval(&reader->duration, span);
			return IntervalPGetDatum(&reader->duration);
		case TEMPO_ATTRIBUTES:
			return span->attributes.count == 0 ? reader->empty_object :
			                                     JsonbPGetDatum(tempo_attributes_to_jsonb(span->attributes));
		case TEMPO_EVENTS:
			return span->n_events == 0 ? reader->empty_array :
			                             JsonbPGetDatum(tempo_events_to_jsonb(span->events, span->n_events));
		case TEMPO_LINKS:
			return span->n_links == 0 ? reader->empty_array :
			                            JsonbPGetDatum(tempo_links_to_jsonb(span->links, span->n_links));
		case TEMPO_DROPPED_ATTRIBUTES_COUNT:
			return Int64GetDatum(span->dropped_attributes_count);
		case TEMPO_DROPPED_EVENTS_COUNT:
			return Int64GetDatum(span->dropped_events_count);
		case TEMPO_DROPPED_LINKS_COUNT:
			return Int64GetDatum(span->dropped_links_count);
		default:
			elog(ERROR, "column %d is none of the span's", column);
	}
}

/* A column of its resource or scope. */
static Datum
shared_column(TempoRowReader *reader, const Span *span, TempoColumn column, bool *isnull)
{
	const SpanScope    *scope = span_scope(reader->batch, span);
	const SpanResource *resource = &reader->batch->resources[scope->resource];

	switch (column)
	{
		case TEMPO_TENANT:
			return shared_string(reader, resource->tenant);
		case TEMPO_SERVICE_NAME:
			*isnull = !shared_resource(reader, scope->resource)->has_service;
			return shared_resource(reader, scope->resource)->service_name;
		case TEMPO_RESOURCE_ATTRIBUTES:
			return shared_resource(reader, scope->resource)->attributes;
		case TEMPO_RESOURCE_ENTITY_REFS:
			return shared_resource(reader, scope->resource)->entity_refs;
		case TEMPO_RESOURCE_DROPPED_ATTRIBUTES_COUNT:
			return Int64GetDatum(resource->dropped_attributes_count);
		case TEMPO_RESOURCE_SCHEMA_URL:
			return shared_string(reader, resource->schema_url);
		case TEMPO_SCOPE_NAME:
			return shared_string(reader, scope->name);
		case TEMPO_SCOPE_VERSION:
			return shared_string(reader, scope->version);
		case TEMPO_SCOPE_SCHEMA_URL:
			return shared_string(reader, scope->schema_url);
		case TEMPO_SCOPE_DROPPED_ATTRIBUTES_COUNT:
			return Int64GetDatum(scope->dropped_attributes_count);
		case TEMPO_SCOPE_ATTRIBUTES:
			return shared_scope_attributes(reader, span->scope);
		default:
			return span_column(reader, span, column, isnull);
	}
}

void
tempo_row_reader_fill(TempoRowReader *reader, const Span *span, Datum *values, bool *isnull)
{
	memset(isnull, true, reader->map->natts * sizeof(bool));
	for (int i = 0; i < reader->n_needed; i++)
	{
		TempoColumn column = reader->needed[i];
		int         attno = reader->map->attno[column];

		isnull[attno] = false;
		values[attno] = reader->blank[column] ? reader->empty_object :
		                                        shared_column(reader, span, column, &isnull[attno]);
	}
}
