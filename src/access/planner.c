/*-------------------------------------------------------------------------
 *
 * planner.c
 *	  Offers a custom scan for tempo tables, and divides the conditions
 *	  between it and the executor.
 *
 * A condition goes to the custom scan only if it may run before all others: a
 * view or policy must have had its say before anything that could leak
 * the rows it hides.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/planner.h"

#include "access/newest_plan.h"
#include "access/scan_filter.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator_d.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "segment/cpu.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Costs of a span in the custom scan, against cpu_tuple_cost. */
#define SPAN_COST 0.05
#define FILTER_COST 0.02

/* Fewer spans are not worth a second process; in a heap a page has so many. */
#define PARALLEL_SPANS 100000
#define SPANS_PER_PAGE 25

/* So many spans are in a page of ours; what the file has beyond is free space. */
#define SPANS_IN_PAGE 250

/*
 * Looking a trace up: the spans looked at, and what unpacking the block that
 * holds them costs against cpu_tuple_cost, measured at 0.2 ms.
 */
#define LOOKUP_SPANS 200
#define LOOKUP_COST 2500

static bool                       enable_avx2 = true;
static bool                       enable_custom_scan = true;
static set_rel_pathlist_hook_type previous_hook = NULL;

bool
tempo_is_span_table(Oid relid)
{
	Relation rel = table_open(relid, NoLock);
	Oid      tempo = get_table_am_oid("tempo", true);
	bool     result;

	result = OidIsValid(tempo) && rel->rd_rel->relam == tempo &&
	         (rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW);
	table_close(rel, NoLock);
	return result;
}

/* Is a system column used that only the table access method can give? */
bool
tempo_uses_system_columns(RelOptInfo *rel)
{
	Bitmapset *used = NULL;
	ListCell  *cell;
	int        attno = -1;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &used);
	foreach (cell, rel->baserestrictinfo)
		pull_varattnos((Node *) ((RestrictInfo *) lfirst(cell))->clause, rel->relid, &used);
	while ((attno = bms_next_member(used, attno)) >= 0)
	{
		int number = attno + FirstLowInvalidHeapAttributeNumber;

		if (number < 0 && number != SelfItemPointerAttributeNumber && number != TableOidAttributeNumber)
			return true;
	}
	return false;
}

/* May the scan decide this condition, and can it? */
bool
tempo_may_push(RestrictInfo *restriction, RelOptInfo *rel, const ScanTarget *target)
{
	return !restriction->pseudoconstant &&
	       restriction_is_securely_promotable(restriction, rel) &&
	       tempo_filter_recognise(restriction->clause, target);
}

TempoColumnMap *
tempo_column_map_of(Oid relid)
{
	Relation        rel = table_open(relid, NoLock);
	TempoColumnMap *map = tempo_column_map(RelationGetDescr(rel));

	table_close(rel, NoLock);
	return map;
}

bool
tempo_is_trace_lookup(Expr *clause, const ScanTarget *target)
{
	Bitmapset *columns = NULL;
	int        attno;

	if (!IsA(clause, ScalarArrayOpExpr) &&
	    (!IsA(clause, OpExpr) || get_oprrest(((OpExpr *) clause)->opno) != F_EQSEL))
		return false;
	pull_varattnos((Node *) clause, target->relid, &columns);
	attno = target->map->attno[TEMPO_TRACE_ID] + 1 - FirstLowInvalidHeapAttributeNumber;
	return bms_membership(columns) == BMS_SINGLETON && bms_is_member(attno, columns);
}

static Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path,
                       List *tlist, List *clauses, List *custom_plans);

static const CustomPathMethods path_methods = {
	.CustomName = "TempoScan",
	.PlanCustomPath = plan_scan};

/* What it costs to read the pages that hold spans. */
Cost
tempo_pages_cost(const RelOptInfo *rel)
{
	return seq_page_cost * Min((double) rel->pages, rel->tuples / SPANS_IN_PAGE) * 0.1;
}

/*
 * Sets the costs for a scan that "divisor" processes share; returns how many
 * spans it looks at.
 */
static double
cost_scan(CustomPath *path, RelOptInfo *rel, const ScanTarget *target, double divisor)
{
	List     *clauses = rel->baserestrictinfo;
	Cost      cost = 0;
	double    spans = rel->tuples;
	int       pushed = 0;
	QualCost  rest;
	double    rows = rel->rows;
	ListCell *cell;

	if (path->path.param_info != NULL)
	{
		clauses = list_concat_copy(clauses, path->path.param_info->ppi_clauses);
		rows = path->path.param_info->ppi_rows;
	}
	rest.startup = rest.per_tuple = 0;
	foreach (cell, clauses)
	{
		RestrictInfo *restriction = lfirst(cell);
		QualCost      qual;

		if (!tempo_may_push(restriction, rel, target))
		{
			cost_qual_eval_node(&qual, (Node *) restriction->clause, NULL);
			rest.startup += qual.startup;
			rest.per_tuple += qual.per_tuple;
			continue;
		}
		pushed++;
		if (tempo_is_trace_lookup(restriction->clause, target))
		{
			spans = Min(spans, Max(rows, LOOKUP_SPANS));
			cost += cpu_tuple_cost * Min(LOOKUP_COST, rel->tuples * 0.5);
		}
	}
	cost += tempo_pages_cost(rel) * (rel->tuples > 0 ? spans / rel->tuples : 1);
	cost += cpu_tuple_cost * spans * (SPAN_COST + FILTER_COST * pushed);
	cost += (cpu_tuple_cost + rest.per_tuple + rel->reltarget->cost.per_tuple) * rows;
	path->path.startup_cost = rest.startup + rel->reltarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + cost / divisor;
	path->path.rows = clamp_row_est(rows / divisor);
	return spans;
}

static CustomPath *
make_path(PlannerInfo *root, RelOptInfo *rel, Relids required_outer)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, required_outer);
	path->path.parallel_safe = rel->consider_parallel;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	return path;
}

/* Processes worth starting; compressed pages say too little about the work. */
int
tempo_parallel_workers(RelOptInfo *rel, double spans)
{
	if (!rel->consider_parallel || !bms_is_empty(rel->lateral_relids) ||
	    (spans < PARALLEL_SPANS && min_parallel_table_scan_size > 0))
		return 0;
	return compute_parallel_worker(rel, Max(rel->pages, spans / SPANS_PER_PAGE), -1,
	                               max_parallel_workers_per_gather);
}

/* As the planner does for other scans: the leader helps less, the more workers it has. */
double
tempo_parallel_divisor(int workers)
{
	double leader = parallel_leader_participation ? 1.0 - 0.3 * workers : 0;

	return workers + Max(leader, 0);
}

/* Is this member of an equivalence class our trace_id? */
static bool
is_trace_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *class,
                EquivalenceMember *member, void *arg)
{
	const ScanTarget *target = arg;
	Var              *var = (Var *) member->em_expr;

	return IsA(var, Var) && var->varno == target->relid && var->varattno > 0 &&
	       target->map->column[var->varattno - 1] == TEMPO_TRACE_ID;
}

static bool
is_done(List *done, Relids outer)
{
	ListCell *cell;

	foreach (cell, done)
		if (bms_equal(lfirst(cell), outer))
			return true;
	return false;
}

/*
 * Joins on the trace id: for each relation that can give ids, a scan that looks
 * one up.
 */
static void
add_lookup_paths(PlannerInfo *root, RelOptInfo *rel, ScanTarget *target)
{
	List     *clauses;
	List     *done = NIL;
	ListCell *cell;

	if (!rel->has_eclass_joins)
		return;
	clauses = generate_implied_equalities_for_column(root, rel, is_trace_member, target, rel->lateral_referencers);
	foreach (cell, clauses)
	{
		RestrictInfo *restriction = lfirst(cell);
		Relids        outer = bms_union(restriction->clause_relids, rel->lateral_relids);
		CustomPath   *path;

		outer = bms_del_member(outer, rel->relid);
		if (bms_is_empty(outer) || is_done(done, outer) || !tempo_may_push(restriction, rel, target))
			continue;
		done = lappend(done, outer);
		path = make_path(root, rel, outer);
		(void) cost_scan(path, rel, target, 1);
		add_path(rel, &path->path);
	}
}

/* Is it "ctid = value" or "ctid = ANY (values)"? */
static bool
is_tid_lookup(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *restriction)
{
	Expr *clause = restriction->clause;
	List *args = NIL;
	Oid   operator= InvalidOid;
	Node *value;
	Var  *var;

	if (IsA(clause, OpExpr))
	{
		args = ((OpExpr *) clause)->args;
		operator=((OpExpr *) clause)->opno;
	}
	else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
	{
		args = ((ScalarArrayOpExpr *) clause)->args;
		operator=((ScalarArrayOpExpr *) clause)->opno;
	}
	if (operator!= TIDEqualOperator || list_length(args) != 2)
		return false;
	var = linitial(args);
	value = lsecond(args);
	if (IsA(clause, OpExpr) && !IsA(var, Var))
	{
		var = lsecond(args);
		value = linitial(args);
	}
	return IsA(var, Var) && var->varno == rel->relid && var->varlevelsup == 0 &&
	       var->varattno == SelfItemPointerAttributeNumber &&
	       !bms_is_member(rel->relid, pull_varnos(root, value)) && !contain_volatile_functions(value) &&
	       restriction_is_securely_promotable(restriction, rel);
}

/*
 * Rows that the transaction has just inserted may have provisional TIDs, which
 * only a fetch by TID resolves: a scan that compares would find nothing.
 */
static bool
force_tid_path(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	ListCell *cell;
	TidPath  *path;

	if (rte->rtekind != RTE_RELATION || rte->inh || rte->tablesample != NULL || rel->baserestrictinfo == NIL ||
	    (rel->reloptkind != RELOPT_BASEREL && rel->reloptkind != RELOPT_OTHER_MEMBER_REL) ||
	    IS_DUMMY_REL(rel))
		return false;
	foreach (cell, rel->baserestrictinfo)
	{
		RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);

		if (!is_tid_lookup(root, rel, restriction) || !tempo_is_span_table(rte->relid))
			continue;
		path = create_tidscan_path(root, rel, list_make1(restriction), rel->lateral_relids);
		/* only this process knows them */
		path->path.parallel_safe = false;
		rel->pathlist = list_make1(path);
		rel->partial_pathlist = NIL;
		return true;
	}
	return false;
}

/* Is it a tempo table that a custom scan can read? */
bool
tempo_may_scan(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	return enable_custom_scan && rte->rtekind == RTE_RELATION && !rte->inh && rte->tablesample == NULL &&
	       (rel->reloptkind == RELOPT_BASEREL || rel->reloptkind == RELOPT_OTHER_MEMBER_REL) &&
	       !IS_DUMMY_REL(rel) && !bms_is_member(rti, root->all_result_relids) &&
	       tempo_is_span_table(rte->relid) && !tempo_uses_system_columns(rel);
}

static void
add_scan_path(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	CustomPath *path;
	ScanTarget  target;
	double      spans;
	int         workers;

	if (previous_hook != NULL)
		previous_hook(root, rel, rti, rte);
	if (force_tid_path(root, rel, rti, rte) || !tempo_may_scan(root, rel, rti, rte))
		return;

	target.relid = rti;
	target.map = tempo_column_map_of(rte->relid);
	path = make_path(root, rel, rel->lateral_relids);
	spans = cost_scan(path, rel, &target, 1);
	add_path(rel, &path->path);
	add_lookup_paths(root, rel, &target);

	workers = tempo_parallel_workers(rel, spans);
	if (workers > 0)
	{
		path = make_path(root, rel, rel->lateral_relids);
		path->path.parallel_aware = true;
		path->path.parallel_workers = workers;
		(void) cost_scan(path, rel, &target, tempo_parallel_divisor(workers));
		add_partial_path(rel, &path->path);
	}
}

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
          List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	ScanTarget  target;
	List       *rest = NIL;
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
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = rest;
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->methods = &tempo_scan_methods;
	return &scan->scan.plan;
}

static void
assign_avx2(bool value, void *extra)
{
	cpu_allow_avx2(value);
}

void
tempo_planner_init(void)
{
	DefineCustomBoolVariable("tempo_pg.enable_custom_scan",
	                         "Lets the planner read tempo tables with a custom scan, which decodes only what is needed and prunes segments.",
	                         NULL,
	                         &enable_custom_scan,
	                         true,
	                         PGC_USERSET,
	                         GUC_EXPLAIN,
	                         NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.enable_avx2",
	                         "Uses the AVX2 instructions where the processor has them.",
	                         "Results are the same; for comparison.",
	                         &enable_avx2,
	                         true,
	                         PGC_USERSET,
	                         0,
	                         NULL, assign_avx2, NULL);
	previous_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_scan_path;
	RegisterCustomScanMethods(&tempo_scan_methods);
	tempo_newest_init();
}
