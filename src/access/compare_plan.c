/*-------------------------------------------------------------------------
 *
 * compare_plan.c
 *	  Recognises tempo.compare_spans() over a tempo table, and offers the node
 *	  that computes it on encoded spans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compare_state.h"

#include "access/planner.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"

static Plan *plan_compare(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
                          List *clauses, List *custom_plans);

static const CustomPathMethods path_methods = {.CustomName = "TempoCompare",
                                               .PlanCustomPath = plan_compare};

/* The arguments of the aggregate. */
enum
{
	ARG_COUNTED,
	ARG_SELECTED,
	ARG_WEIGHT,
	ARG_START,
	ARG_STEP,
	ARG_STEPS,
	ARG_VALUES,
	ARG_COLUMNS
};

/* The columns behind them that matter; those it does not use may be anything. */
static const int columns[] = {TEMPO_TRACE_ID,
                              TEMPO_SPAN_ID,
                              TEMPO_PARENT_SPAN_ID,
                              TEMPO_NAME,
                              TEMPO_KIND,
                              TEMPO_STATUS,
                              TEMPO_STATUS_MESSAGE,
                              TEMPO_START_TIME_UNIX_NANO,
                              TEMPO_DURATION_NANO,
                              TEMPO_SERVICE_NAME,
                              TEMPO_ATTRIBUTES,
                              TEMPO_RESOURCE_ATTRIBUTES,
                              TEMPO_SCOPE_NAME,
                              TEMPO_SCOPE_VERSION,
                              TEMPO_SCOPE_ATTRIBUTES};
#define ARG_LINKS (ARG_COLUMNS + (int) lengthof(columns) + 1)
#define N_ARGS (ARG_LINKS + 2)

static Expr *
argument(const Aggref *aggref, int number)
{
	return list_nth_node(TargetEntry, aggref->args, number)->expr;
}

static const Const *
constant(const Aggref *aggref, int number, Oid type)
{
	const Const *value = (const Const *) argument(aggref, number);

	return IsA(value, Const) && value->consttype == type && !value->constisnull ? value : NULL;
}

/* links, as they are or where the span has no parent */
static bool
is_links(const Expr *expression, const ScanTarget *target)
{
	const CaseExpr *choice = (const CaseExpr *) expression;
	const CaseWhen *when;
	const NullTest *test;

	if (!IsA(expression, CaseExpr))
		return tempo_column_of((const Node *) expression, target) == TEMPO_LINKS;
	if (choice->arg != NULL || list_length(choice->args) != 1 ||
	    (choice->defresult != NULL &&
	     (!IsA(choice->defresult, Const) || !((Const *) choice->defresult)->constisnull)))
		return false;
	when = linitial_node(CaseWhen, choice->args);
	test = (const NullTest *) when->expr;
	return IsA(test, NullTest) && test->nulltesttype == IS_NULL &&
	       tempo_column_of((const Node *) test->arg, target) == TEMPO_PARENT_SPAN_ID &&
	       tempo_column_of((const Node *) when->result, target) == TEMPO_LINKS;
}

static bool
has_param(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, Param) || IsA(node, SubPlan) || IsA(node, AlternativeSubPlan) ||
	       expression_tree_walker(node, has_param, context);
}

/* The conditions of an argument, if the node can decide them. */
static bool
conditions_of(Expr *expression, const ScanTarget *target, List **conditions)
{
	ListCell *cell;

	*conditions = make_ands_implicit(expression);
	foreach (cell, *conditions)
		if (has_param(lfirst(cell), NULL) || contain_volatile_functions(lfirst(cell)) ||
		    !tempo_filter_recognise(lfirst(cell), target))
			return false;
	return true;
}

bool
tempo_compare_call(const Aggref *aggref, const ScanTarget *target, CompareCall *call)
{
	const Const *start;
	const Const *step;
	const Const *steps;
	const Const *values;
	const Const *weight;

	if (aggref->aggdirectargs != NIL || aggref->aggorder != NIL || aggref->aggdistinct != NIL ||
	    aggref->aggfilter != NULL || list_length(aggref->args) != N_ARGS ||
	    !tempo_is_function(aggref->aggfnoid, "compare_spans"))
		return false;
	weight = constant(aggref, ARG_WEIGHT, FLOAT8OID);
	start = constant(aggref, ARG_START, INT8OID);
	step = constant(aggref, ARG_STEP, INT8OID);
	steps = constant(aggref, ARG_STEPS, INT4OID);
	values = constant(aggref, ARG_VALUES, INT4OID);
	if (weight == NULL || DatumGetFloat8(weight->constvalue) != 1 || start == NULL ||
	    step == NULL || steps == NULL || values == NULL)
		return false;
	call->start = DatumGetInt64(start->constvalue);
	call->step = DatumGetInt64(step->constvalue);
	call->n_steps = DatumGetInt32(steps->constvalue);
	call->n_values = DatumGetInt32(values->constvalue);
	if (call->step <= 0 || call->n_steps <= 0 || call->n_steps > PG_INT32_MAX / 4 ||
	    call->n_values < 0)
		return false;
	for (int i = 0; i < lengthof(columns); i++)
		if (tempo_column_of((Node *) argument(aggref, ARG_COLUMNS + i), target) != columns[i])
			return false;
	return is_links(argument(aggref, ARG_LINKS), target) &&
	       conditions_of(argument(aggref, ARG_COUNTED), target, &call->counted) &&
	       conditions_of(argument(aggref, ARG_SELECTED), target, &call->selected);
}

/* Is the aggregate all that is wanted of the groups? */
static bool
is_wanted(const PathTarget *wanted, const ScanTarget *target)
{
	CompareCall call;

	return list_length(wanted->exprs) == 1 && IsA(linitial(wanted->exprs), Aggref) &&
	       tempo_compare_call(linitial_node(Aggref, wanted->exprs), target, &call);
}

void
tempo_compare_add_path(PlannerInfo *root, RelOptInfo *input, RelOptInfo *grouped)
{
	RangeTblEntry *rte;
	ScanTarget     target;
	CustomPath    *path;
	ListCell      *cell;

	if (root->parse->groupClause != NIL || root->parse->havingQual != NULL ||
	    input->reloptkind != RELOPT_BASEREL || input->rtekind != RTE_RELATION ||
	    IS_DUMMY_REL(input) || !bms_is_empty(input->lateral_relids))
		return;
	rte = planner_rt_fetch(input->relid, root);
	if (rte->inh || rte->tablesample != NULL || !tempo_is_span_table(rte->relid) ||
	    tempo_uses_system_columns(input))
		return;
	target.relid = input->relid;
	target.map = tempo_column_map_of(rte->relid);
	if (!is_wanted(grouped->reltarget, &target))
		return;
	foreach (cell, input->baserestrictinfo)
		if (!tempo_may_push(lfirst(cell), input, &target))
			return;
	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = input;
	path->path.pathtarget = grouped->reltarget;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	path->path.rows = 1;
	/* as a scan: that calls of the aggregate cost more than counting is sure */
	path->path.startup_cost = input->cheapest_total_path->total_cost;
	path->path.total_cost = path->path.startup_cost + cpu_tuple_cost;
	add_path(grouped, &path->path);
}

/*
 * The node's own columns are the aggregate, and what conditions name, so that
 * references in custom_exprs can be resolved; those are always NULL.
 */
static Plan *
plan_compare(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
             List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List       *own;
	ListCell   *cell;

	foreach (cell, clauses)
	{
		RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);

		if (!restriction->pseudoconstant)
			scan->custom_exprs = lappend(scan->custom_exprs, restriction->clause);
	}
	own = list_make1(linitial(path->path.pathtarget->exprs));
	own = list_concat(own, pull_var_clause((Node *) scan->custom_exprs, PVC_INCLUDE_PLACEHOLDERS));
	foreach (cell, own)
		if (tlist_member(lfirst(cell), scan->custom_scan_tlist) == NULL)
			scan->custom_scan_tlist =
				lappend(scan->custom_scan_tlist,
			            makeTargetEntry(copyObject(lfirst(cell)),
			                            list_length(scan->custom_scan_tlist) + 1, NULL, false));
	scan->scan.plan.targetlist = tlist;
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->methods = &tempo_compare_methods;
	return &scan->scan.plan;
}
