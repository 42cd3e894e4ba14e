/*-------------------------------------------------------------------------
 *
 * to_sql.h
 *	  Compiling a query to SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_TO_SQL_H
#define TEMPO_TRACEQL_TO_SQL_H

#include "lib/stringinfo.h"
#include "traceql/ast.h"

typedef struct TqlSearch
{
	const char     *text; /* of the query */
	const TqlQuery *query;
	bool            has_start; /* bounds of the trace's time, ns, both inclusive */
	bool            has_end;
	int64           start;
	int64           end;
	int64           slack; /* how far a trace's spans may lie outside, ns */
	bool            has_limit;
	int64           limit;             /* newest traces */
	int64           spans_per_spanset; /* 0 = all */
	List           *tenants;           /* of char *; NIL = all */
	bool            all_tenants;
} TqlSearch;

/* What traceql() runs, and what traceql_spans() runs. */
extern char *tql_search_sql(const TqlSearch *search);
extern char *tql_spans_sql(const TqlSearch *search);

/* candidates.c: which traces may match */
typedef struct TqlCandidates
{
	char *where;      /* on single spans "s" */
	char *having;     /* on the traces of those, NULL if any of them will do */
	bool  impossible; /* none matches */
} TqlCandidates;

extern TqlCandidates tql_candidates(const List *pipeline);

/*
 * The same as a condition for HAVING, on the spans "s" of a trace: of which those
 * count that meet "window", too (empty: all).  NULL if there is none.
 */
extern char *tql_trace_condition(const List *pipeline, const char *window);
extern bool  tql_matches_nothing(const List *pipeline);
extern bool  tql_is_plain(const TqlExpr *e);
extern bool  tql_is_plain_attribute(const TqlAttribute *attribute);

/* to_sql.c: parts of the text */
extern const TqlExpr *tql_plain_filter(const List *pipeline);
extern char          *tql_tenant_condition(const TqlSearch *search);
extern void           tql_append_time_condition(StringInfo out, const TqlSearch *search);
extern void           tql_append_columns(StringInfo out, List *references, bool whole);

/* filter.c: the conditions and values of one spanset filter */

/* An attribute that is said in SQL about a row (tql_is_plain_attribute) as jsonb, NULL for nil */
extern char *tql_attribute_jsonb(const TqlAttribute *attribute);

/* An intrinsic or the service name as text, never NULL */
extern char *tql_attribute_text(const TqlAttribute *attribute);

/* The value of a literal as jsonb, null for statuses and kinds */
extern char *tql_literal_jsonb(const TqlStatic *value);

/* A boolean expression over the columns of tempo.spans as "s". */
extern char *tql_filter_sql(const TqlExpr *filter);

/* The attributes that a filter or a pipeline mentions: of TqlReference, each once. */
typedef struct TqlReference
{
	TqlAttribute attribute;
	bool         nil_tested; /* compared with nil: absence is shown */
	bool         everywhere; /* mentioned outside of filters, too */
	List        *filters;    /* that mention it: of TqlExpr */
} TqlReference;

extern List *tql_pipeline_references(const List *pipeline);
extern List *tql_metrics_references(const TqlMetricsExpr *part);
extern List *tql_add_reference(List *references, const TqlAttribute *attribute);

/* The literal as an id of so many hexadecimal digits, NULL if it is none */
extern char *tql_read_id(const char *literal, int digits);

extern TqlOp tql_mirror(TqlOp op);

extern _Noreturn void tql_unsupported(const char *construct);

#endif /* TEMPO_TRACEQL_TO_SQL_H */
