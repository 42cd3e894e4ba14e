/*-------------------------------------------------------------------------
 *
 * agg.h
 *	  The custom aggregate: groups of spans counted and summed below the executor.
 *
 * agg_compile.c recognises grouping expressions and aggregates, agg_plan.c
 * offers the node to the planner, agg_exec.c finds the rows that count,
 * agg_classes.c what their groups are, and agg_groups.c keeps the groups.
 *
 * The node always is the partial half of an aggregation: an Agg node of the
 * executor above it combines its groups.  So it may give a group several
 * times, as parallel workers do and as it does when memory runs out; and it may tell
 * groups apart that are equal.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_AGG_H
#define TEMPO_ACCESS_AGG_H

#include "postgres.h"

#include "access/scan_filter.h"
#include "nodes/extensible.h"
#include "segment/classes.h"

/* Where a value comes from. */
typedef enum AggSource
{
	AGG_SOURCE_CLASS,      /* what a class of rows has in common, see segment/classes.h */
	AGG_SOURCE_NONE,       /* count(*) */
	AGG_SOURCE_START,      /* nanoseconds */
	AGG_SOURCE_START_TIME, /* timestamptz */
	AGG_SOURCE_END_TIME,
	AGG_SOURCE_DURATION,
	AGG_SOURCE_DURATION_CLAMPED /* greatest(duration_nano, 0) */
} AggSource;

typedef enum AggKeyType
{
	AGG_KEY_CLASS,
	AGG_KEY_STEP, /* (start_time_unix_nano - origin) / width */
	AGG_KEY_BIN,  /* date_bin(width, start_time, origin) */
	AGG_KEY_LOG2  /* tempo.log2_bucket() of a duration */
} AggKeyType;

/* A grouping expression. */
typedef struct AggKey
{
	AggKeyType type;
	Expr      *expr;
	int64      origin;
	int64      width; /* above 0 */
} AggKey;

typedef enum AggFunction
{
	AGG_COUNT,
	AGG_SUM_INT, /* sum(bigint) and avg(bigint): they share a state */
	AGG_SUM_FLOAT,
	AGG_AVG_FLOAT,
	AGG_MIN_INT, /* bigint, timestamptz */
	AGG_MAX_INT,
	AGG_MIN_FLOAT,
	AGG_MAX_FLOAT
} AggFunction;

typedef struct AggItem
{
	AggFunction function;
	AggSource   source;
	bool        as_float; /* the source is an integer, the argument a double */
	Expr       *argument; /* NULL if there is none */
	Expr       *filter;   /* of classes; NULL if there is none */
} AggItem;

/* agg_compile.c */

/* tempo_agg_is_class: does the expression depend on nothing but what a class has in common? */
extern bool tempo_agg_is_class(Node *expression, const ScanTarget *target);

/* tempo_agg_key, tempo_agg_item: false if the node cannot compute it */
extern bool tempo_agg_key(Expr *expression, const ScanTarget *target, AggKey *key);
extern bool tempo_agg_item(const Aggref *aggref, const ScanTarget *target, AggItem *item);

/* agg_plan.c */
extern void tempo_agg_plan_init(void);

/* agg_exec.c */
extern const CustomScanMethods tempo_agg_methods;

#endif /* TEMPO_ACCESS_AGG_H */
