/*-------------------------------------------------------------------------
 *
 * engine.h
 *	  Evaluating a query over the spans of one trace.
 *
 * The SQL of a query finds the traces that may match and hands over their
 * spans; collect.c gathers them into a TqlTrace, pipeline.c runs the stages
 * over it, evaluate.c the expressions, tree.c what follows parent links.
 * Everything lives in the current memory context and is freed with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_ENGINE_H
#define TEMPO_TRACEQL_ENGINE_H

#include "fmgr.h"
#include "traceql/value.h"

typedef struct TqlText
{
	const char *s;
	uint32      len;
} TqlText;

typedef struct TqlEvent
{
	int64           time;
	TqlText         name;
	JsonbContainer *attributes;
} TqlEvent;

typedef struct TqlLink
{
	TqlText         trace_id; /* hexadecimal digits */
	TqlText         span_id;
	JsonbContainer *attributes;
} TqlLink;

typedef struct TqlSpan
{
	uint64    id;
	uint64    parent_id;
	bool      has_parent;
	TqlKind   kind;
	TqlStatus status;
	int       kind_number; /* tells unknown kinds apart */
	int64     start;
	int64     duration; /* not negative */
	TqlText   name;
	TqlText   kind_text;
	TqlText   status_message;
	TqlText   service; /* empty if there is none */
	TqlText   scope_name;
	TqlText   scope_version;
	TqlText   trace_state;
	Jsonb    *attributes;
	Jsonb    *resource;
	Jsonb    *scope_attributes;
	Jsonb    *events_json;
	Jsonb    *links_json;

	/* read from the jsonb when first asked for; events by time */
	bool      lists_read;
	TqlEvent *events;
	int       n_events;
	TqlLink  *links;
	int       n_links;
	/* what references read outside of filters: what met the filter, else the first */
	int event;
	int link;
} TqlSpan;

/* Where a span is in its trace; made by tql_number_tree() */
typedef struct TqlNode
{
	int  parent; /* -1 if none is there */
	int  children;
	int  left; /* intervals nest along parent links; a cycle is cut open somewhere */
	int  right;
	bool connected; /* to a span without parent */
	int  cycle;     /* number of the cycle it hangs on, or -1 */
	bool on_cycle;
	int  siblings; /* number of its set of spans with the same parent id, or -1 */
} TqlNode;

typedef struct TqlTrace
{
	uint8    trace_id[16];
	TqlSpan *spans; /* by start */
	int      n_spans;
	int64    start;
	int64    stop;
	int      root; /* index of the span that names the trace, or -1 */
	bool     numbered;
	bool     ambiguous; /* an id occurs more than twice: no nested sets */
	TqlNode *nodes;
	int      n_cycles;
	bool     siblings_numbered;
	int      n_siblings;
	int     *marks; /* per span, cycle or set of siblings; always left all zero */
} TqlTrace;

/* A spanset: indexes of spans, ascending */
typedef struct TqlGroup
{
	int  *members;
	int   n;
	List *attributes; /* of TqlNamed */
} TqlGroup;

typedef struct TqlNamed
{
	const char *key;
	TqlValue    value;
} TqlNamed;

/* collect.c */

/*
 * What an aggregate has collected with tempo.collect_span_of_part(); "part" is
 * NULL for a search.  All of it lives in "context", which the caller resets.
 */
extern TqlTrace *tql_collected(void *collected, const TqlMetricsExpr **part, MemoryContext *context);

extern void tql_read_lists(TqlSpan *span);

/*
 * Reads a span from the arguments of an aggregate, of which the one numbered
 * "columns" is the trace id; false if there is none.  Only with "copy" does
 * the span outlive the arguments.
 */
extern bool tql_read_span(FunctionCallInfo fcinfo, int columns, bool copy, TqlSpan *span);

/* Does a link into its own trace say that the span is a child? */
extern bool tql_is_linked_child(const TqlTrace *trace, TqlSpan *span);

/* evaluate.c */
extern bool tql_span_matches(TqlTrace *trace, TqlSpan *span, const TqlExpr *filter);
/* Not in a filter: by(), aggregates, what is shown.  False for a division by zero. */
extern bool tql_span_value(TqlTrace *trace, TqlSpan *span, const TqlExpr *expr, TqlValue *out);
extern void tql_span_attribute(TqlTrace *trace, TqlSpan *span, const TqlAttribute *attribute, TqlValue *out);

/* tree.c */
extern void      tql_number_tree(TqlTrace *trace);
extern TqlGroup *tql_structural(TqlTrace *trace, TqlOp op, const TqlGroup *left, const TqlGroup *right);

/* pipeline.c */
extern List     *tql_run_pipeline(TqlTrace *trace, const List *pipeline);
extern TqlGroup *tql_group_union(const TqlGroup *a, const TqlGroup *b);

#endif /* TEMPO_TRACEQL_ENGINE_H */
