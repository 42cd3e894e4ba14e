/*-------------------------------------------------------------------------
 *
 * agg_plan.c
 *	  Offers the custom aggregate for groups of spans of one tempo table.
 *
 * It is offered only if the node can decide every condition and compute every
 * grouping expression and aggregate.  What is left, HAVING, final functions and
 * whatever the query makes of the groups, is the work of the Agg node that
 * combines its groups.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/agg.h"
#include "access/compare_state.h"
#include "access/planner.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planner.h"
#include "optimizer/prep.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

/* Costs of a span, against cpu_tuple_cost. */
#define SPAN_COST 0.01
#define TERM_COST 0.005 /* for each condition, grouping expression, aggregate */

/* Groups of these kinds for the planner, which knows no better. */
#define LOG2_GROUPS 40
#define STEP_GROUPS 500
#define EXPRESSION_GROUPS 200
#define MORE_GROUPS 10 /* for each further expression: they depend on each other */

static bool                         enable_custom_aggregate = true;
static create_upper_paths_hook_type previous_hook = NULL;

static Plan *plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *path,
                            List *tlist, List *clauses, List *custom_plans);

static const CustomPathMethods path_methods = {
	.CustomName = "TempoAggregate",
	.PlanCustomPath = plan_aggregate};

/* What is planned. */
typedef struct AggPlanning
{
	PlannerInfo *root;
	RelOptInfo  *input;
	RelOptInfo  *grouped;
	ScanTarget   target;
	List        *group_clause; /* without what the conditions make constant */
	PathTarget  *partial;      /* what the node gives */
	double       groups;
	int          terms;
} AggPlanning;

static List *
group_clause_of(PlannerInfo *root)
{
#if PG_VERSION_NUM >= 160000
	return root->processed_groupClause;
#else
	return root->parse->groupClause;
#endif
}

/* Can the node read what is aggregated? */
static bool
can_read(AggPlanning *planning)
{
	RelOptInfo    *input = planning->input;
	RangeTblEntry *rte;
	ListCell      *cell;

	if (input->reloptkind != RELOPT_BASEREL || input->rtekind != RTE_RELATION || IS_DUMMY_REL(input) ||
	    !bms_is_empty(input->lateral_relids))
		return false;
	rte = planner_rt_fetch(input->relid, planning->root);
	if (rte->inh || rte->tablesample != NULL || !tempo_is_span_table(rte->relid) ||
	    tempo_uses_system_columns(input))
		return false;
	planning->target.relid = input->relid;
	planning->target.map = tempo_column_map_of(rte->relid);
	foreach (cell, input->baserestrictinfo)
	{
		RestrictInfo *restriction = lfirst(cell);

		if (!tempo_may_push(restriction, input, &planning->target) ||
		    tempo_is_trace_lookup(restriction->clause, &planning->target))
			return false;
		planning->terms++;
	}
	return true;
}

/*
 * Can the node group by this?  Steps of time, and logarithms, are a
 * dimension of its table, so there may be one each.
 */
static bool
add_key(AggPlanning *planning, Expr *expression, Index sortgroupref, AggKeyType *seen)
{
	AggKey     key;
	AggKeyType kind;

	if (!tempo_agg_key(expression, &planning->target, &key))
		return false;
	kind = key.type == AGG_KEY_BIN ? AGG_KEY_STEP : key.type;
	if (kind != AGG_KEY_CLASS)
	{
		if ((*seen & (1 << kind)) != 0)
			return false;
		*seen |= 1 << kind;
	}
	planning->terms++;
	add_column_to_pathtarget(planning->partial, expression, sortgroupref);
	return true;
}

/* Can the node compute what the query makes of the groups?  Then "partial" is what it gives. */
static bool
add_results(AggPlanning *planning, List *expressions)
{
	List     *parts = pull_var_clause((Node *) expressions,
	                                  PVC_INCLUDE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS |
	                                      PVC_INCLUDE_PLACEHOLDERS);
	ListCell *cell;

	foreach (cell, parts)
	{
		Expr   *part = lfirst(cell);
		AggItem item;

		if (!IsA(part, Aggref))
		{
			/* a column that is grouped by */
			if (!list_member(planning->partial->exprs, part))
				return false;
			continue;
		}
		if (!tempo_agg_item((Aggref *) part, &planning->target, &item))
			return false;
		planning->terms++;
	}
	add_new_columns_to_pathtarget(planning->partial, parts);
	foreach (cell, planning->partial->exprs)
	{
		if (IsA(lfirst(cell), Aggref))
		{
			Aggref *aggref = copyObject(lfirst_node(Aggref, cell));

			mark_partial_aggref(aggref, AGGSPLIT_INITIAL_SERIAL);
			lfirst(cell) = aggref;
		}
	}
	return true;
}

static bool
make_target(AggPlanning *planning, Node *having)
{
	PathTarget *all = planning->grouped->reltarget;
	List       *rest = NIL;
	AggKeyType  seen = 0;
	ListCell   *cell;
	int         i = 0;

	planning->partial = create_empty_pathtarget();
	foreach (cell, all->exprs)
	{
		Expr *expression = lfirst(cell);
		Index sortgroupref = get_pathtarget_sortgroupref(all, i++);

		if (sortgroupref != 0 && get_sortgroupref_clause_noerr(sortgroupref, planning->root->parse->groupClause) != NULL)
		{
			if (!add_key(planning, expression, sortgroupref, &seen))
				return false;
		}
		else
			rest = lappend(rest, expression);
	}
	/* every grouping expression must be there for the Agg node above */
	foreach (cell, planning->group_clause)
	{
		SortGroupClause *clause = lfirst(cell);
		bool             found = false;

		for (i = 0; i < list_length(planning->partial->exprs) && !found; i++)
			found = get_pathtarget_sortgroupref(planning->partial, i) == clause->tleSortGroupRef;
		if (!found)
			return false;
	}
	if (having != NULL)
		rest = lappend(rest, having);
	if (!add_results(planning, rest))
		return false;
	set_pathtarget_cost_width(planning->root, planning->partial);
	return true;
}

/* Constant bounds of start_time_unix_nano among the conditions; false unless there are both. */
static bool
time_range(AggPlanning *planning, double *range)
{
	bool      has_min = false;
	bool      has_max = false;
	double    min = 0;
	double    max = 0;
	ListCell *cell;

	foreach (cell, planning->input->baserestrictinfo)
	{
		OpExpr *op = (OpExpr *) ((RestrictInfo *) lfirst(cell))->clause;
		Oid     function;
		Const  *bound;

		if (!IsA(op, OpExpr) || list_length(op->args) != 2 ||
		    tempo_column_of(linitial(op->args), &planning->target) != TEMPO_START_TIME_UNIX_NANO)
			continue;
		bound = lsecond(op->args);
		if (!IsA(bound, Const) || bound->constisnull || bound->consttype != INT8OID)
			continue;
		function = get_opcode(op->opno);
		if (function == F_INT8GE || function == F_INT8GT)
		{
			has_min = true;
			min = (double) DatumGetInt64(bound->constvalue);
		}
		else if (function == F_INT8LE || function == F_INT8LT)
		{
			has_max = true;
			max = (double) DatumGetInt64(bound->constvalue);
		}
	}
	*range = max - min;
	return has_min && has_max && *range >= 0;
}

static double
estimate_steps(AggPlanning *planning, const AggKey *key)
{
	double width = key->type == AGG_KEY_BIN ? key->width * 1000.0 : (double) key->width;
	double range;

	return time_range(planning, &range) ? range / width + 1 : STEP_GROUPS;
}

/* Is it made of columns that there are statistics about? */
static bool
is_plain(AggPlanning *planning, Expr *expression)
{
	ScanNeeds needs = {0};
	int       resource = planning->target.map->attno[TEMPO_RESOURCE_ATTRIBUTES] + 1 - FirstLowInvalidHeapAttributeNumber;

	tempo_scan_needs((Node *) expression, &planning->target, &needs);
	return !needs.attributes && (IsA(expression, Var) || !bms_is_member(resource, needs.columns));
}

/* The planner takes what is made of times and attributes for nearly unique. */
static double
estimate_groups(AggPlanning *planning)
{
	PlannerInfo *root = planning->root;
	double       rows = planning->input->rows;
	List        *columns = NIL;
	double       groups = 1;
	int          expressions = 0;
	ListCell    *cell;

	if (planning->group_clause == NIL)
		return 1;
	foreach (cell, planning->partial->exprs)
	{
		AggKey key;

		if (IsA(lfirst(cell), Aggref) || !tempo_agg_key(lfirst(cell), &planning->target, &key))
			continue;
		if (key.type == AGG_KEY_LOG2)
			groups *= LOG2_GROUPS;
		else if (key.type != AGG_KEY_CLASS)
			groups *= estimate_steps(planning, &key);
		else if (is_plain(planning, lfirst(cell)))
			columns = lappend(columns, lfirst(cell));
		else
			groups *= expressions++ == 0 ? EXPRESSION_GROUPS : MORE_GROUPS;
	}
	if (columns != NIL)
		groups *= estimate_num_groups(root, columns, rows, NULL, NULL);
	/* never more than it expects of the plans that this one is compared with */
	columns = get_sortgrouplist_exprs(planning->group_clause, root->parse->targetList);
	return clamp_row_est(Min(groups, estimate_num_groups(root, columns, rows, NULL, NULL)));
}

static CustomPath *
make_path(AggPlanning *planning, int workers)
{
	CustomPath *path = makeNode(CustomPath);
	RelOptInfo *input = planning->input;
	double      divisor = workers > 0 ? tempo_parallel_divisor(workers) : 1;

	path->path.pathtype = T_CustomScan;
	path->path.parent = input;
	path->path.pathtarget = planning->partial;
	path->path.parallel_safe = input->consider_parallel && planning->grouped->consider_parallel;
	path->path.parallel_aware = workers > 0;
	path->path.parallel_workers = workers;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	path->path.rows = planning->groups;
	path->path.startup_cost = (tempo_pages_cost(input) +
	                           cpu_tuple_cost * input->tuples * (SPAN_COST + TERM_COST * planning->terms)) /
	                          divisor;
	path->path.total_cost = path->path.startup_cost + cpu_tuple_cost * planning->groups;
	return path;
}

/*
 * The node that combines the groups, over one that gives them.  Grouped by
 * constants alone, any order is sorted, and unlike in a plain aggregate there
 * is no row without input.
 */
static void
add_final(AggPlanning *planning, Path *path, Node *having)
{
	AggClauseCosts costs = {0};
	AggStrategy    strategy = planning->group_clause != NIL             ? AGG_HASHED :
	                          planning->root->parse->groupClause != NIL ? AGG_SORTED :
	                                                                      AGG_PLAIN;

	get_agg_clause_costs(planning->root, AGGSPLIT_FINAL_DESERIAL, &costs);
	add_path(planning->grouped, (Path *)
	                                create_agg_path(planning->root, planning->grouped, path, planning->grouped->reltarget,
	                                                strategy, AGGSPLIT_FINAL_DESERIAL,
	                                                planning->group_clause, (List *) having, &costs, planning->groups));
}

static void
add_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *grouped, void *extra)
{
	AggPlanning planning = {root, input, grouped};
	Node       *having;
	int         workers;

	if (previous_hook != NULL)
		previous_hook(root, stage, input, grouped, extra);
	if (stage != UPPERREL_GROUP_AGG || !enable_custom_aggregate || extra == NULL ||
	    root->parse->groupingSets != NIL)
		return;
	tempo_compare_add_path(root, input, grouped);
	if (root->hasNonPartialAggs || root->hasNonSerialAggs)
		return;
	planning.group_clause = group_clause_of(root);
	having = ((GroupPathExtraData *) extra)->havingQual;
	if (!grouping_is_hashable(planning.group_clause) || !can_read(&planning) || !make_target(&planning, having))
		return;
	planning.groups = estimate_groups(&planning);
	add_final(&planning, (Path *) make_path(&planning, 0), having);

	workers = grouped->consider_parallel ? tempo_parallel_workers(input, input->tuples) : 0;
	if (workers > 0)
	{
		double rows = planning.groups * (workers + 1);
		Path  *partial = (Path *) make_path(&planning, workers);

		add_final(&planning, (Path *) create_gather_path(root, input, partial, planning.partial, NULL, &rows),
		          having);
	}
}

/*
 * The node's own columns are its results.  What conditions name is added to
 * them, so that references in custom_exprs can be resolved; those columns are
 * always NULL.
 */
static List *
scan_columns(List *tlist, List *conditions)
{
	List     *columns = NIL;
	List     *vars = pull_var_clause((Node *) conditions, PVC_INCLUDE_PLACEHOLDERS);
	ListCell *cell;

	foreach (cell, tlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst(cell));

		entry->resno = list_length(columns) + 1;
		entry->resjunk = false;
		columns = lappend(columns, entry);
	}
	foreach (cell, vars)
		if (tlist_member(lfirst(cell), columns) == NULL)
			columns = lappend(columns, makeTargetEntry(lfirst(cell), list_length(columns) + 1, NULL, false));
	return columns;
}

static Plan *
plan_aggregate(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
               List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	ListCell   *cell;

	foreach (cell, clauses)
	{
		RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);

		if (!restriction->pseudoconstant)
			scan->custom_exprs = lappend(scan->custom_exprs, restriction->clause);
	}
	scan->scan.plan.targetlist = tlist;
	scan->scan.scanrelid = rel->relid;
	scan->custom_scan_tlist = scan_columns(tlist, scan->custom_exprs);
	scan->custom_private = list_make1(makeInteger(list_length(tlist)));
	scan->flags = path->flags;
	scan->methods = &tempo_agg_methods;
	return &scan->scan.plan;
}

void
tempo_agg_plan_init(void)
{
	DefineCustomBoolVariable("tempo_pg.enable_custom_aggregate",
	                         "Lets the planner count and sum groups of spans below the executor, without making rows of them.",
	                         NULL,
	                         &enable_custom_aggregate,
	                         true,
	                         PGC_USERSET,
	                         GUC_EXPLAIN,
	                         NULL, NULL, NULL);
	previous_hook = create_upper_paths_hook;
	create_upper_paths_hook = add_paths;
	RegisterCustomScanMethods(&tempo_agg_methods);
	RegisterCustomScanMethods(&tempo_compare_methods);
}
