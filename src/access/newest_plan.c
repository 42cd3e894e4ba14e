/*-------------------------------------------------------------------------
 *
 * newest_plan.c
 *	  Plans queries for the newest traces that have certain spans:
 *
 *	 SELECT trace_id, min(start_time_unix_nano), ... FROM spans WHERE ...
 *	 GROUP BY trace_id
 *	 HAVING bool_or(condition) AND ... AND min(start_time_unix_nano) <= ...
 *	 ORDER BY min(start_time_unix_nano) DESC, trace_id
 *
 * become a sorted aggregate over a scan that returns the rows of such traces,
 * trace by trace, in that order.  The scan knows the traces before it has read
 * all of the table, so LIMIT stops it early.
 *
 * What HAVING asks of bool_or() the scan has made sure of, and leaves out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/newest_plan.h"

#include <math.h>

#include "access/compat.h"
#include "access/row.h"
#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

/*
 * Costs of a span against cpu_tuple_cost, and of a trace, which is looked up in each segment;
 * part of the traces that meet a condition of which statistics tell nothing.
 */
#define SPAN_COST 0.05
#define CONDITION_COST 0.02
#define TRACE_COST 100
#define WANTED_PART 0.05

static create_upper_paths_hook_type previous_hook = NULL;

/* What is found in a query while it is being recognised. */
typedef struct Newest
{
	PlannerInfo *root;
	RelOptInfo  *rel;
	ScanTarget   target;
	List        *conditions;
	Node        *need;   /* a tree, see newest_plan.h */
	Node        *newest; /* operand of min(start) <= operand */
	List        *relations;
	List        *having; /* conditions that stay with the aggregate */
	double       part;   /* of the traces that are returned */
	double       traces; /* so many */
} Newest;

static int
column_of(Node *node, const ScanTarget *target)
{
	Var *var = (Var *) node;

	if (node == NULL || !IsA(node, Var) || var->varno != target->relid || var->varlevelsup != 0 ||
	    var->varattno < 1)
		return -1;
	return target->map->column[var->varattno - 1];
}

/* The argument of an aggregate of one argument without frills, or NULL. */
static Expr *
plain_aggregate(Node *node, Oid function)
{
	Aggref *aggref = (Aggref *) node;

	if (node == NULL || !IsA(node, Aggref) || aggref->aggfnoid != function ||
	    aggref->aggfilter != NULL || aggref->aggdistinct != NIL || aggref->agglevelsup != 0 ||
	    list_length(aggref->args) != 1)
		return NULL;
	return ((TargetEntry *) linitial(aggref->args))->expr;
}

static bool
is_first_start(Node *node, const ScanTarget *target)
{
	return column_of((Node *) plain_aggregate(node, F_MIN_INT8), target) ==
	       TEMPO_START_TIME_UNIX_NANO;
}

/* The number of a condition, or -1 if there is no place for it. */
static int
number_condition(Newest *newest, Expr *condition)
{
	ListCell *cell;

	foreach (cell, newest->conditions)
		if (equal(lfirst(cell), condition))
			return foreach_current_index(cell);
	if (list_length(newest->conditions) == NEWEST_MAX_CONDITIONS ||
	    contain_volatile_functions((Node *) condition) || contain_subplans((Node *) condition))
		return -1;
	newest->conditions = lappend(newest->conditions, condition);
	return list_length(newest->conditions) - 1;
}

/* A tree of bool_or(condition) under AND and OR; NULL if it is anything else. */
static Node *
read_need(Newest *newest, Node *node)
{
	Expr *condition = plain_aggregate(node, F_BOOL_OR);

	if (condition != NULL)
	{
		int number = number_condition(newest, condition);

		return number < 0 ? NULL : (Node *) makeInteger(number);
	}
	if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop != NOT_EXPR)
	{
		BoolExpr *boolean = (BoolExpr *) node;
		List     *tree = list_make1(makeInteger(boolean->boolop == AND_EXPR ? NEWEST_AND : NEWEST_OR));
		ListCell *cell;

		foreach (cell, boolean->args)
		{
			Node *part = read_need(newest, lfirst(cell));

			if (part == NULL)
				return NULL;
			tree = lappend(tree, part);
		}
		return (Node *) tree;
	}
	return NULL;
}

/* min(start) <= what is known when the scan starts */
static Node *
read_newest(Node *node, const ScanTarget *target)
{
	OpExpr *op = (OpExpr *) node;
	Node   *operand;

	if (!IsA(node, OpExpr) || get_opcode(op->opno) != F_INT8LE ||
	    !is_first_start(linitial(op->args), target))
		return NULL;
	operand = lsecond(op->args);
	if (contain_var_clause(operand) || contain_agg_clause(operand) ||
	    contain_volatile_functions(operand) || contain_subplans(operand))
		return NULL;
	return operand;
}

static Expr *
argument(const Aggref *aggref, int number)
{
	return ((TargetEntry *) list_nth(aggref->args, number))->expr;
}

/*
 * may_be_related(relation, above, below, span_id, parent_span_id), of conditions that
 * bool_or() is asked for as well.  The aggregate stays in HAVING.
 */
static void
read_relation(Newest *newest, Node *node)
{
	Aggref *aggref = (Aggref *) node;
	Const  *relation;
	int     n_conditions = list_length(newest->conditions);
	int     above;
	int     below;

	if (!IsA(node, Aggref) || list_length(aggref->args) != 5 || aggref->aggfilter != NULL ||
	    aggref->aggdistinct != NIL || !tempo_is_function(aggref->aggfnoid, "may_be_related") ||
	    column_of((Node *) argument(aggref, 3), &newest->target) != TEMPO_SPAN_ID ||
	    column_of((Node *) argument(aggref, 4), &newest->target) != TEMPO_PARENT_SPAN_ID)
		return;
	relation = (Const *) argument(aggref, 0);
	if (!IsA(relation, Const) || relation->constisnull)
		return;
	above = number_condition(newest, argument(aggref, 1));
	below = number_condition(newest, argument(aggref, 2));
	if (list_length(newest->conditions) == n_conditions && above >= 0 && below >= 0)
		newest->relations =
			lappend(newest->relations,
		            list_make3_int(VARSIZE_ANY_EXHDR(DatumGetPointer(relation->constvalue)) == 2,
		                           above, below));
	else
		newest->conditions = list_truncate(newest->conditions, n_conditions);
}

static void
read_having(Newest *newest, List *having)
{
	List     *needs = NIL;
	ListCell *cell;

	foreach (cell, having)
	{
		int   n_conditions = list_length(newest->conditions);
		Node *need = read_need(newest, lfirst(cell));

		if (need != NULL)
		{
			needs = lappend(needs, need);
			continue;
		}
		newest->conditions = list_truncate(newest->conditions, n_conditions);
		if (newest->newest == NULL)
			newest->newest = read_newest(lfirst(cell), &newest->target);
		newest->having = lappend(newest->having, lfirst(cell));
	}
	foreach (cell, newest->having)
		read_relation(newest, lfirst(cell));
	if (list_length(needs) == 1)
		newest->need = linitial(needs);
	else if (needs != NIL)
		newest->need = (Node *) lcons(makeInteger(NEWEST_AND), needs);
}

/*
 * The executor numbers aggregates and their transitions without gaps; so what is left of
 * HAVING must not refer to one behind those that are left out.
 */
static bool
aggregates_have_gaps(PathTarget *target, List *having)
{
	List *nodes =
		pull_var_clause((Node *) list_concat_copy(target->exprs, having), PVC_INCLUDE_AGGREGATES);
	Bitmapset *aggregates = NULL;
	Bitmapset *transitions = NULL;
	ListCell  *cell;

	foreach (cell, nodes)
	{
		Aggref *aggref = lfirst(cell);

		if (!IsA(aggref, Aggref))
			continue;
		aggregates = bms_add_member(aggregates, aggref->aggno);
		transitions = bms_add_member(transitions, aggref->aggtransno);
	}
	for (int i = 0; i < bms_num_members(aggregates); i++)
		if (!bms_is_member(i, aggregates))
			return true;
	for (int i = 0; i < bms_num_members(transitions); i++)
		if (!bms_is_member(i, transitions))
			return true;
	return false;
}

static bool
has_strategy(SortGroupClause *clause, int wanted)
{
	Oid          family;
	Oid          type;
	TempoCompare strategy;

	return get_ordering_op_properties(clause->sortop, &family, &type, &strategy) &&
	       strategy == wanted;
}

/* GROUP BY trace_id ORDER BY min(start) DESC, trace_id */
static bool
is_wanted_order(Query *parse, List *tlist, const ScanTarget *target)
{
	SortGroupClause *group;
	SortGroupClause *first;

	if (list_length(parse->groupClause) != 1 || parse->groupingSets != NIL ||
	    parse->hasWindowFuncs || parse->distinctClause != NIL || parse->hasTargetSRFs ||
	    list_length(parse->sortClause) < 1 || list_length(parse->sortClause) > 2)
		return false;
	group = linitial(parse->groupClause);
	first = linitial(parse->sortClause);
	if (column_of(get_sortgroupclause_expr(group, tlist), target) != TEMPO_TRACE_ID ||
	    !is_first_start(get_sortgroupclause_expr(first, tlist), target) ||
	    !has_strategy(first, BTGreaterStrategyNumber))
		return false;
	if (list_length(parse->sortClause) == 2)
	{
		SortGroupClause *second = lsecond(parse->sortClause);

		return column_of(get_sortgroupclause_expr(second, tlist), target) == TEMPO_TRACE_ID &&
		       has_strategy(second, BTLessStrategyNumber);
	}
	return true;
}

static Plan *plan_newest(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
                         List *clauses, List *custom_plans);

static const CustomPathMethods path_methods = {.CustomName = "TempoNewestTraces",
                                               .PlanCustomPath = plan_newest};

/* What the scan returns: the trace id, and whatever the aggregate looks at. */
static PathTarget *
input_target(Newest *newest, PathTarget *output)
{
	PathTarget      *target = create_empty_pathtarget();
	SortGroupClause *group = linitial(newest->root->parse->groupClause);
	List            *vars;

	add_column_to_pathtarget(
		target, (Expr *) get_sortgroupclause_expr(group, newest->root->processed_tlist),
		group->tleSortGroupRef);
	vars = pull_var_clause((Node *) list_concat_copy(output->exprs, newest->having),
	                       PVC_RECURSE_AGGREGATES | PVC_INCLUDE_PLACEHOLDERS);
	add_new_columns_to_pathtarget(target, vars);
	return set_pathtarget_cost_width(newest->root, target);
}

/* May conditions be looked at although the row may turn out to be hidden from the user? */
static bool
may_look_early(Newest *newest)
{
	ListCell *cell;

	foreach (cell, newest->rel->baserestrictinfo)
		if (!tempo_may_push(lfirst(cell), newest->rel, &newest->target))
			return false;
	if (newest->root->qual_security_level == 0)
		return true;
	foreach (cell, newest->conditions)
		if (contain_leaked_vars(lfirst(cell)))
			return false;
	return true;
}

/* Does the condition compare a column that there are statistics about? */
static bool
is_estimated(Node *clause, Newest *newest)
{
	Node     *left;
	ListCell *cell;

	if (IsA(clause, BoolExpr))
	{
		foreach (cell, ((BoolExpr *) clause)->args)
			if (!is_estimated(lfirst(cell), newest))
				return false;
		return true;
	}
	if (IsA(clause, NullTest))
		left = (Node *) ((NullTest *) clause)->arg;
	else if (IsA(clause, OpExpr))
		left = linitial(((OpExpr *) clause)->args);
	else if (IsA(clause, ScalarArrayOpExpr))
		left = linitial(((ScalarArrayOpExpr *) clause)->args);
	else
		return false;
	return column_of(left, &newest->target) >= 0;
}

static bool
is_about_time(Node *clause, Newest *newest)
{
	List     *vars = pull_var_clause(clause, 0);
	ListCell *cell;

	foreach (cell, vars)
	{
		int column = column_of(lfirst(cell), &newest->target);

		if (column != TEMPO_START_TIME_UNIX_NANO && column != TEMPO_START_TIME && column != TEMPO_END_TIME)
			return false;
	}
	return vars != NIL;
}

/*
 * The part of the traces that have a span which meets the condition: spans of a
 * trace are near each other in time, and otherwise taken for independent.
 */
static double
part_of_condition(Newest *newest, Expr *condition, double spans)
{
	List     *times = NIL;
	List     *others = NIL;
	double    part = 1;
	ListCell *cell;

	foreach (cell, make_ands_implicit(condition))
	{
		Node *clause = lfirst(cell);

		if (is_about_time(clause, newest))
			times = lappend(times, clause);
		else if (is_estimated(clause, newest))
			others = lappend(others, clause);
		else
			part = WANTED_PART;
	}
	if (others != NIL)
		part = Min(part, 1 - pow(1 - clauselist_selectivity(newest->root, others, newest->rel->relid, JOIN_INNER, NULL), spans));
	return part * clauselist_selectivity(newest->root, times, newest->rel->relid, JOIN_INNER, NULL);
}

/* The part of the traces that meet the tree. */
static double
part_of_need(Newest *newest, Node *need, double spans)
{
	List     *tree = (List *) need;
	bool      any;
	double    part = 1;
	ListCell *cell;

	if (IsA(need, Integer))
		return part_of_condition(newest, list_nth(newest->conditions, intVal(need)), spans);
	any = intVal(linitial(tree)) == NEWEST_OR;
	for_each_from (cell, tree, 1)
	{
		double of_one = part_of_need(newest, lfirst(cell), spans);

		part *= any ? 1 - of_one : of_one;
	}
	return any ? 1 - part : part;
}

static void
estimate_traces(Newest *newest)
{
	PlannerInfo *root = newest->root;
	List        *group = get_sortgrouplist_exprs(root->parse->groupClause, root->processed_tlist);
	double       traces = clamp_row_est(estimate_num_groups(root, group, newest->rel->rows, NULL, NULL));

	/* without a condition, all are returned */
	newest->part = newest->need == NULL ? 1 : part_of_need(newest, newest->need, newest->rel->rows / traces);
	newest->traces = clamp_row_est(traces * newest->part);
}

/*
 * The scan returns whole columns, but if the aggregate uses only some attributes,
 * in tempo.pick() for example, it need not fill in the others.
 */
static List *
used_keys(Newest *newest, PathTarget *output)
{
	ScanNeeds needs = {0};

	tempo_scan_needs((Node *) output->exprs, &newest->target, &needs);
	tempo_scan_needs((Node *) newest->having, &newest->target, &needs);
	return needs.all_keys ? NIL : needs.keys;
}

static CustomPath *
make_scan_path(Newest *newest, PathTarget *output)
{
	CustomPath *path = makeNode(CustomPath);
	RelOptInfo *rel = newest->rel;
	List *private;

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = input_target(newest, output);
	path->path.param_info = NULL;
	/* rows that the own transaction has in memory are not in workers */
	path->path.parallel_safe = false;
	path->path.rows = clamp_row_est(rel->rows * newest->part);
	path->path.startup_cost = cpu_tuple_cost;
	path->path.total_cost =
		tempo_pages_cost(rel) +
		cpu_tuple_cost * rel->tuples *
			(SPAN_COST + CONDITION_COST * list_length(newest->conditions)) +
		cpu_tuple_cost * TRACE_COST * newest->traces +
		(cpu_tuple_cost + path->path.pathtarget->cost.per_tuple) * path->path.rows;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	private = list_make4(newest->conditions, newest->newest, newest->need,
	                     makeInteger(may_look_early(newest)));
	private = lappend(private, used_keys(newest, output));
	path->custom_private = lappend(private, newest->relations);
	return path;
}

/* The rows of the scan have no place. */
static bool
uses_ctid(RelOptInfo *rel, PathTarget *target, List *having)
{
	Bitmapset *used = NULL;
	ListCell  *cell;

	pull_varattnos((Node *) target->exprs, rel->relid, &used);
	pull_varattnos((Node *) having, rel->relid, &used);
	foreach (cell, rel->baserestrictinfo)
		pull_varattnos((Node *) ((RestrictInfo *) lfirst(cell))->clause, rel->relid, &used);
	return bms_is_member(SelfItemPointerAttributeNumber - FirstLowInvalidHeapAttributeNumber, used);
}

/* Have aggregates left it to their input to be sorted? */
static bool
has_presorted_aggregates(PlannerInfo *root)
{
#if PG_VERSION_NUM >= 160000
	return list_length(root->group_pathkeys) > root->num_groupby_pathkeys;
#else
	return false;
#endif
}

static void
add_newest_path(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output,
                void *extra)
{
	Newest              newest = {root, input};
	GroupPathExtraData *group = extra;
	AggClauseCosts      costs = {0};
	CustomPath         *scan;
	AggPath            *path;
	List               *having;

	if (previous_hook != NULL)
		previous_hook(root, stage, input, output, extra);
	if (stage != UPPERREL_GROUP_AGG || input->reloptkind != RELOPT_BASEREL ||
	    !root->parse->hasAggs || !bms_is_empty(input->lateral_relids) ||
	    !tempo_may_scan(root, input, input->relid, planner_rt_fetch(input->relid, root)))
		return;
	/* aggregates were told that their input comes in the order they ask for */
	if (has_presorted_aggregates(root))
		return;
	newest.target.relid = input->relid;
	newest.target.map = tempo_column_map_of(planner_rt_fetch(input->relid, root)->relid);
	if (!is_wanted_order(root->parse, root->processed_tlist, &newest.target))
		return;
	having = (List *) group->havingQual;
	if (uses_ctid(input, output->reltarget, having))
		return;
	read_having(&newest, having);
	if (aggregates_have_gaps(output->reltarget, newest.having))
		newest.having = having;
	estimate_traces(&newest);
	scan = make_scan_path(&newest, output->reltarget);
	get_agg_clause_costs(root, AGGSPLIT_SIMPLE, &costs);
	path =
		create_agg_path(root, output, &scan->path, output->reltarget, AGG_SORTED, AGGSPLIT_SIMPLE,
	                    root->parse->groupClause, newest.having, &costs, newest.traces);
	/* the aggregate keeps the order of the traces */
	path->path.pathkeys = root->sort_pathkeys;
	add_path(output, &path->path);
}

static Plan *
plan_newest(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
            List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List       *conditions = linitial(path->custom_private);
	Node       *newest = lsecond(path->custom_private);
	List       *rest = NIL;
	ScanTarget  target;
	int         n_pushed;
	ListCell   *cell;

	target.relid = rel->relid;
	target.map = tempo_column_map_of(planner_rt_fetch(rel->relid, root)->relid);
	foreach (cell, clauses)
	{
		RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);

		if (restriction->pseudoconstant)
			continue;
		if (tempo_may_push(restriction, rel, &target))
			scan->custom_exprs = lappend(scan->custom_exprs, restriction->clause);
		else
			rest = lappend(rest, restriction->clause);
	}
	n_pushed = list_length(scan->custom_exprs);
	scan->custom_exprs = list_concat(scan->custom_exprs, conditions);
	if (newest != NULL)
		scan->custom_exprs = lappend(scan->custom_exprs, newest);
	scan->custom_private = list_make5(makeInteger(n_pushed), makeInteger(list_length(conditions)),
	                                  lfourth(path->custom_private), lthird(path->custom_private),
	                                  list_nth(path->custom_private, 4));
	scan->custom_private = lappend(scan->custom_private, list_nth(path->custom_private, 5));
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = rest;
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->methods = &tempo_newest_methods;
	return &scan->scan.plan;
}

void
tempo_newest_init(void)
{
	previous_hook = create_upper_paths_hook;
	create_upper_paths_hook = add_newest_path;
	RegisterCustomScanMethods(&tempo_newest_methods);
}
