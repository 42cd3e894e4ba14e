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
#include "traceql/to_sql.h"

/* The query with this number in a metrics expression, counted from the left, from 0 */
extern const TqlMetricsExpr *tql_metrics_part(const TqlMetricsExpr *m, int number);
extern int                   tql_metrics_parts(const TqlMetricsExpr *m);

/* metrics_sql.c: can labels and values be taken from single spans? */
extern bool tql_is_plain_part(const TqlMetricsExpr *part);

/* metrics_sql.c: can compare() and what is before it be told of single spans? */
extern bool tql_is_plain_compare(const TqlMetricsExpr *part);

/* metrics_sql.c: the series from "start" (exclusive) to "stop" in steps; one row per sample, or per series */
typedef struct TqlRange
{
	int64 start;
	int64 stop;
	int64 step;
	int64 after; /* spans up to then are passed over, as if there were none yet; "start" for all of them */
} TqlRange;

/* About 240 steps, of a round number of seconds where that is possible */
extern int64 tql_automatic_step(int64 length);

/*
 * The range that a query from "start" to "end" is answered for: both moved
 * outwards to multiples of the step, and one more step at the start.  False if
 * that is out of range.
 */
extern bool tql_align_range(int64 start, int64 end, int64 step, TqlRange *range);

extern char *tql_metrics_sql(const TqlSearch *search, const TqlRange *range, bool samples);

/*
 * exemplars.c: up to "limit" spans that the query counted, some of each window;
 * NULL if there cannot be any
 */
extern char *tql_exemplars_sql(const TqlSearch *search, const TqlRange *windows, int n_windows, int limit);

/* How many exemplars a hint allows of so many */
extern int tql_hint_exemplars(const TqlQuery *query, int limit);

extern bool tql_hint_is_true(const TqlQuery *query, const char *name);

/* What a value counts as: itself or its power of two; false if it does not count. */
extern bool tql_measure(const TqlMetrics *metrics, double number, double *out);

extern bool tql_log2_bucket(double value, double *edge);

/* JSON of a label's value */
extern char *tql_label_text(const TqlValue *value);

/* What compare() counts a span under: a List of Lists of side, attribute, value */
extern List *tql_compare_keys(TqlTrace *trace, TqlSpan *span, const TqlMetrics *metrics);

/* How many values of an attribute compare() shows */
extern int64 tql_compare_values(const TqlMetrics *metrics);

/* tempo_pg.compare_memory, in kB */
extern int tql_compare_memory;

/* The number of steps in a range; an error if there are none or too many */
extern int tql_count_steps(int64 start, int64 stop, int64 step);

/* How many spans a sampled one stands for, by the tracestate */
extern double tql_sampling_weight(const char *trace_state, int len);

#endif /* TEMPO_TRACEQL_METRICS_H */
