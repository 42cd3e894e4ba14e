/*-------------------------------------------------------------------------
 *
 * read.h
 *	  What the endpoints read from the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_READ_H
#define TEMPO_API_READ_H

#include "postgres.h"

#include "api/internal.h"
#include "executor/spi.h"
#include "span/batch.h"
#include "traceql/ast.h"
#include "utils/rel.h"

/* read_trace: appends the spans of one trace; tenants NIL = all of them */
extern void read_trace(const TraceId *id, const List *tenants, SpanBatch *batch);

/*
 * parse_query: the query, or NULL with what is wrong with it in *message and
 * the SQLSTATE in *code.
 */
extern TqlQuery *parse_query(const char *text, char **message, int *code);

/* extension_function: the qualified name of a function in the extension's schema */
extern char *extension_function(const char *name);

/* A range as nanoseconds: from, inclusive, and to, exclusive */
extern int64 range_start_nanos(const ApiRange *range);
extern int64 range_end_nanos(const ApiRange *range);

/* tempo.spans, locked for reading; 42P01 if there is none */
extern Relation open_spans(void);

/* The names in a List of char * as an array */
extern SpanText *tenant_texts(const List *tenants);

/* has_spans: do these tenants have a span in the range at all? */
extern bool has_spans(const ApiCall *call, const ApiRange *range);

/*
 * run_query: SPI_execute for reading, with parameters of these types; the
 * caller is connected.  Keeps the current memory context.
 */
extern void run_query(const char *sql, int n, Oid *types, Datum *values, const char *nulls);

/* A column of the current result as a palloc'd text; NULL for NULL */
extern char *result_text(uint64 row, int column);
extern int64 result_int64(uint64 row, int column, bool *isnull);

#endif /* TEMPO_API_READ_H */
