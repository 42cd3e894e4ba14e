/*-------------------------------------------------------------------------
 *
 * metrics.h
 *	  What metrics queries measure of a span and how series are labelled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_METRICS_H
#define TEMPO_TRACEQL_METRICS_H

#include "traceql/engine.h"

/* The query with this number in a metrics expression, counted from the left, from 0 */
extern const TqlMetricsExpr *tql_metrics_part(const TqlMetricsExpr *m, int number);
extern int	tql_metrics_parts(const TqlMetricsExpr *m);

extern bool tql_hint_is_true(const TqlQuery *query, const char *name);

/* What a value counts as: seconds, or its power of two; false if it does not count. */
extern bool tql_measure(const TqlMetrics *metrics, double number, double *out);

extern bool tql_log2_bucket(double value, double *edge);

/* JSON of a label's value */
extern char *tql_label_text(const TqlValue *value);

/* What compare() counts a span under: a List of Lists of side, attribute, value */
extern List *tql_compare_keys(TqlTrace *trace, TqlSpan *span, const TqlMetrics *metrics);

/* How many spans a sampled one stands for, by the tracestate */
extern double tql_sampling_weight(const char *trace_state, int len);

#endif							/* TEMPO_TRACEQL_METRICS_H */
