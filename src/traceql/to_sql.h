/*-------------------------------------------------------------------------
 *
 * to_sql.h
 *	  Compiling a query to SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_TO_SQL_H
#define TEMPO_TRACEQL_TO_SQL_H

#include "traceql/ast.h"

typedef struct TqlSearch
{
	const TqlQuery *query;
	bool		has_start;		/* bounds of the trace's time, ns, both inclusive */
	bool		has_end;
	int64		start;
	int64		end;
	int64		slack;			/* how far a trace's spans may lie outside, ns */
	bool		has_limit;
	int64		limit;			/* newest traces */
	int64		spans_per_spanset;	/* 0 = all */
	List	   *tenants;		/* of char *; NIL = all */
	bool		all_tenants;
} TqlSearch;

/* What traceql() runs, and what traceql_spans() runs. */
extern char *tql_search_sql(const TqlSearch *search);
extern char *tql_spans_sql(const TqlSearch *search);

/* filter.c: the conditions and values of one spanset filter */

/* A boolean expression over the columns of tempo.spans as "s". */
extern char *tql_filter_sql(const TqlExpr *filter);

/* The attributes that the filter mentions: of TqlReference, each once. */
typedef struct TqlReference
{
	TqlAttribute attribute;
	bool		nil_tested;		/* compared with nil: absence is shown */
} TqlReference;

extern List *tql_references(const TqlExpr *filter);

/* The jsonb that a span shows for a reference, NULL for what is not listed among the attributes */
extern char *tql_reference_sql(const TqlReference *reference);

extern void tql_unsupported(const char *construct) pg_attribute_noreturn();

#endif							/* TEMPO_TRACEQL_TO_SQL_H */
