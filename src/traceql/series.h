/*-------------------------------------------------------------------------
 *
 * series.h
 *	  Time series and what metrics expressions do with them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_SERIES_H
#define TEMPO_TRACEQL_SERIES_H

#include "traceql/ast.h"
#include "utils/jsonb.h"

typedef struct TqlLabel
{
	const char *key;
	const char *json; /* the value */
} TqlLabel;

typedef struct TqlSeries
{
	List   *labels; /* of TqlLabel, in the order of the query; NIL if there is only the name */
	double *values; /* per step */
	bool   *present;
	double  total; /* compare(): spans in all steps */
} TqlSeries;

typedef struct TqlSeriesSet
{
	int         n_steps;
	const char *name;   /* of the series without labels */
	List       *series; /* of TqlSeries */
} TqlSeriesSet;

/* Labels as the HTTP API prints them: [{"key": ..., "value": {"stringValue": ...}}] */
extern Jsonb *tql_label_list(const List *labels);

/* What values are divided by to be shown: those in nanoseconds are shown as seconds */
extern double tql_metrics_unit(const TqlMetrics *metrics);

extern TqlLabel  *tql_make_label(const char *key, const char *json);
extern TqlSeries *tql_make_series(List *labels, int n_steps);

/* Removes series without samples. */
extern void tql_drop_empty(TqlSeriesSet *set);

/* By the number of labels, their keys, their values */
extern void tql_sort_series(TqlSeriesSet *set);

/* topk, bottomk, thresholds; changes the set */
extern TqlSeriesSet *tql_second_stages(TqlSeriesSet *set, const List *second);

/* left op right of an operation; a side that is NULL is a literal of it */
extern TqlSeriesSet *tql_series_math(const TqlMetricsExpr *m, TqlSeriesSet *left, TqlSeriesSet *right);

#endif /* TEMPO_TRACEQL_SERIES_H */
