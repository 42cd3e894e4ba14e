/*-------------------------------------------------------------------------
 *
 * compare_state.h
 *	  The node that computes tempo.compare_spans() on encoded spans.
 *
 * compare_plan.c recognises the aggregate, compare_exec.c finds the spans that
 * count, compare_counts.c counts their attributes, compare_traces.c what
 * depends on whole traces, and compare_result.c makes the aggregate's result.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPARE_STATE_H
#define TEMPO_ACCESS_COMPARE_STATE_H

#include "postgres.h"

#include "access/compare_traces.h"
#include "access/scan_walk.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"

/* The call of the aggregate. */
typedef struct CompareCall
{
	List *counted; /* conditions, ANDed */
	List *selected;
	int64 start; /* steps begin behind it */
	int64 step;
	int32 n_steps;
	int32 n_values; /* shown of an attribute */
} CompareCall;

/* Slots are of a step and a side. */
static inline uint32
compare_slot(uint32 step, bool selected)
{
	return step * 2 + selected;
}

/* compare_plan.c */

/* tempo_compare_call: is it the aggregate, over columns of the table as they are? */
extern bool tempo_compare_call(const Aggref *aggref, const ScanTarget *target, CompareCall *call);

/* tempo_compare_add_path: offers the node for a query that is nothing but the aggregate */
extern void tempo_compare_add_path(PlannerInfo *root, RelOptInfo *input, RelOptInfo *grouped);

/* compare_exec.c */
extern const CustomScanMethods tempo_compare_methods;

/* compare_result.c: tempo.compared[] */
extern Datum tempo_compare_result(ValueCounts *counts, const CompareCall *call, Oid array_type);

#endif /* TEMPO_ACCESS_COMPARE_STATE_H */
