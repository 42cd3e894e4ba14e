/*-------------------------------------------------------------------------
 *
 * row.h
 *	  Between rows of a table USING tempo and spans in a SpanBatch.
 *
 * A table's columns are matched by name and type, in any order; all span
 * columns must be there and no others.  Rows become spans with
 * tempo_row_to_batch(); spans become rows through a TempoRowReader, which
 * keeps the jsonb of resources and scopes, shared by many spans, between rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_ROW_H
#define TEMPO_ACCESS_ROW_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "segment/reader.h"

/* The span columns, in the order of tempo.spans. */
typedef enum TempoColumn
{
	TEMPO_TENANT,
	TEMPO_TRACE_ID,
	TEMPO_SPAN_ID,
	TEMPO_PARENT_SPAN_ID,
	TEMPO_TRACE_STATE,
	TEMPO_FLAGS,
	TEMPO_NAME,
	TEMPO_KIND,
	TEMPO_STATUS,
	TEMPO_STATUS_MESSAGE,
	TEMPO_START_TIME_UNIX_NANO,
	TEMPO_DURATION_NANO,
	TEMPO_START_TIME,
	TEMPO_END_TIME,
	TEMPO_DURATION,
	TEMPO_SERVICE_NAME,
	TEMPO_ATTRIBUTES,
	TEMPO_RESOURCE_ATTRIBUTES,
	TEMPO_SCOPE_NAME,
	TEMPO_SCOPE_VERSION,
	TEMPO_SCOPE_ATTRIBUTES,
	TEMPO_EVENTS,
	TEMPO_LINKS,
	TEMPO_DROPPED_ATTRIBUTES_COUNT,
	TEMPO_DROPPED_EVENTS_COUNT,
	TEMPO_DROPPED_LINKS_COUNT,
	TEMPO_RESOURCE_DROPPED_ATTRIBUTES_COUNT,
	TEMPO_SCOPE_DROPPED_ATTRIBUTES_COUNT,
	TEMPO_RESOURCE_SCHEMA_URL,
	TEMPO_SCOPE_SCHEMA_URL,
	TEMPO_RESOURCE_ENTITY_REFS,
	TEMPO_N_COLUMNS
} TempoColumn;

typedef struct TempoColumnMap
{
	int   natts;                  /* of the table */
	int16 attno[TEMPO_N_COLUMNS]; /* index (from 0) in the table's tuples */
	int8 *column;                 /* [natts] TempoColumn, or -1 for a dropped column */
} TempoColumnMap;

extern const char *tempo_column_name(TempoColumn column);

/* tempo_column_parts: SEGMENT_xxx that a column is made of */
extern uint32 tempo_column_parts(TempoColumn column);

/* Microseconds between the epochs of Unix and of timestamptz. */
#define TEMPO_EPOCH_DIFF (((int64) POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/*
 * tempo_check_columns: raises 0A000 naming what is
 * missing, too much or of another type, if "desc" cannot be a table of spans.
 * Looks up nothing but the types of the columns by their OIDs.
 */
extern void tempo_check_columns(TupleDesc desc);

/* tempo_column_map: the same check, and the map, palloc'd in the current context */
extern TempoColumnMap *tempo_column_map(TupleDesc desc);

/*
 * tempo_row_to_batch: appends one row (values in the table's order) to
 * "batch"; everything is copied.  NULL is the column's default (only the ids,
 * start and duration must not be NULL: 23502).  Raises 22023 for values that
 * no span has, and 22023 for derived columns with another value than derived.
 */
extern void tempo_row_to_batch(const TempoColumnMap *map, const Datum *values,
                               const bool *isnull, SpanBatch *batch);

/*
 * tempo_projection: what to decode for these columns.  "needed" has the
 * table's attribute numbers offset by FirstLowInvalidHeapAttributeNumber, as
 * pull_varattnos() gives them; NULL means all columns, an empty set must be
 * passed as (needed = NULL, all = false).  No keys.
 */
extern SegmentProjection tempo_projection(const TempoColumnMap *map, const Bitmapset *needed, bool all);

typedef struct TempoRowReader TempoRowReader;

/*
 * tempo_row_reader_create: a reader whose own memory is in a child of the
 * current context.  Columns that are not needed are returned NULL.
 */
extern TempoRowReader *tempo_row_reader_create(const TempoColumnMap *map,
                                               const Bitmapset *needed, bool all);

/*
 * tempo_row_reader_blank: returns an empty object for a jsonb column that is
 * passed to something but not looked at.
 */
extern void tempo_row_reader_blank(TempoRowReader *reader, TempoColumn column);

/*
 * tempo_row_reader_batch: the rows that follow are of this batch.  Must be
 * called again when spans, and so resources, were added to it, or after a
 * reset; shared values are kept as long as it has not been reset.
 */
extern void tempo_row_reader_batch(TempoRowReader *reader, const SpanBatch *batch);

/*
 * tempo_row_reader_fill: the row of one span.  By-reference values are in the
 * batch, in the reader (valid until the next batch) or palloc'd in the current
 * context.
 */
extern void tempo_row_reader_fill(TempoRowReader *reader, const Span *span,
                                  Datum *values, bool *isnull);

extern void tempo_row_reader_free(TempoRowReader *reader);

/* The text forms of kind and status ("server", "error"; a number if unknown). */
extern SpanText tempo_kind_text(int32 kind, char buffer[12]);
extern SpanText tempo_status_text(int32 status, char buffer[12]);
extern bool     tempo_kind_from_text(SpanText text, int32 *kind);
extern bool     tempo_status_from_text(SpanText text, int32 *status);

/* tempo_service_name: the resource's service.name as text; data is NULL if it has none */
extern SpanText tempo_service_name(const SpanResource *resource);

#endif /* TEMPO_ACCESS_ROW_H */
