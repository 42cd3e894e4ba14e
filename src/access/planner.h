/*-------------------------------------------------------------------------
 *
 * planner.h
 *	  The custom scan over tempo tables: its hook and its setting, and what
 *	  planning an aggregate shares with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_PLANNER_H
#define TEMPO_ACCESS_PLANNER_H

#include "postgres.h"

#include "access/scan_filter.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"

extern const struct CustomScanMethods tempo_scan_methods;

extern void tempo_planner_init(void);

/* tempo_is_span_table: is the relation a table whose access method is "tempo"? */
extern bool tempo_is_span_table(Oid relid);

/* tempo_uses_system_columns: is a system column used that only the table access method can give? */
extern bool tempo_uses_system_columns(RelOptInfo *rel);

/* tempo_may_scan: may the relation be read by a custom node? */
extern bool tempo_may_scan(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte);

/* tempo_may_push: may a custom node decide this condition, and can it? */
extern bool tempo_may_push(RestrictInfo *restriction, RelOptInfo *rel, const ScanTarget *target);

extern TempoColumnMap *tempo_column_map_of(Oid relid);

/* tempo_is_trace_lookup: does the condition name traces, which are found without reading others? */
extern bool tempo_is_trace_lookup(Expr *clause, const ScanTarget *target);

/* tempo_parallel_workers: processes worth starting, beside this one */
extern int    tempo_parallel_workers(RelOptInfo *rel, double spans);
extern double tempo_parallel_divisor(int workers);
/* tempo_pages_cost: of reading the pages that hold spans, without the free space of the file */
extern Cost tempo_pages_cost(const RelOptInfo *rel);

#endif /* TEMPO_ACCESS_PLANNER_H */
