/*-------------------------------------------------------------------------
 *
 * agg_compile.c
 *	  Recognises the grouping expressions and aggregates that the custom
 *	  aggregate computes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/agg.h"

#include "access/sysattr.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* Nodes that only the executor's own plan nodes can evaluate. */
static bool
is_foreign(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubLink:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_PlaceHolderVar:
		case T_CurrentOfExpr:
		case T_NextValueExpr:
			return true;
		case T_Param:
			return ((Param *) node)->paramkind != PARAM_EXTERN;
		case T_Var:
			return ((Var *) node)->varlevelsup != 0;
		default:
			return expression_tree_walker(node, is_foreign, context);
	}
}

bool
tempo_agg_is_class(Node *expression, const ScanTarget *target)
{
	ScanNeeds needs = {0};
	int       member = -1;

	if (is_foreign(expression, NULL) || contain_volatile_functions(expression) ||
	    expression_returns_set(expression))
		return false;
	tempo_scan_needs(expression, target, &needs);
	if (needs.all_columns || needs.all_keys)
		return false;
	while ((member = bms_next_member(needs.columns, member)) >= 0)
	{
		int attno = member + FirstLowInvalidHeapAttributeNumber;

		if (attno < 1 || attno > target->map->natts || target->map->column[attno - 1] < 0 ||
		    (tempo_column_parts(target->map->column[attno - 1]) & ~(uint32) SEGMENT_CLASS_PARTS) != 0)
			return false;
	}
	return true;
}

static bool
const_int(Node *node, int64 *value)
{
	Const *constant = (Const *) node;

	if (!IsA(node, Const) || constant->constisnull)
		return false;
	switch (constant->consttype)
	{
		case INT2OID:
			*value = DatumGetInt16(constant->constvalue);
			return true;
		case INT4OID:
			*value = DatumGetInt32(constant->constvalue);
			return true;
		case INT8OID:
			*value = DatumGetInt64(constant->constvalue);
			return true;
		default:
			return false;
	}
}

/* start_time_unix_nano / width, (start_time_unix_nano - origin) / width */
static bool
step_of(Expr *expression, const ScanTarget *target, AggKey *key)
{
	OpExpr *division = (OpExpr *) expression;
	OpExpr *difference;
	Oid     function;

	if (!IsA(expression, OpExpr))
		return false;
	function = get_opcode(division->opno);
	if ((function != F_INT8DIV && function != F_INT84DIV && function != F_INT82DIV) ||
	    !const_int(lsecond(division->args), &key->width) || key->width <= 0)
		return false;
	key->origin = 0;
	if (tempo_column_of(linitial(division->args), target) == TEMPO_START_TIME_UNIX_NANO)
		return true;
	difference = linitial(division->args);
	if (!IsA(difference, OpExpr))
		return false;
	function = get_opcode(difference->opno);
	return (function == F_INT8MI || function == F_INT84MI || function == F_INT82MI) &&
	       tempo_column_of(linitial(difference->args), target) == TEMPO_START_TIME_UNIX_NANO &&
	       const_int(lsecond(difference->args), &key->origin);
}

/* date_bin(width, start_time, origin) */
static bool
bin_of(Expr *expression, const ScanTarget *target, AggKey *key)
{
	FuncExpr *call = (FuncExpr *) expression;
	Const    *width;
	Const    *origin;
	Interval *interval;

	if (!IsA(expression, FuncExpr) || call->funcid != F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ ||
	    tempo_column_of(lsecond(call->args), target) != TEMPO_START_TIME)
		return false;
	width = linitial(call->args);
	origin = lthird(call->args);
	if (!IsA(width, Const) || width->constisnull || !IsA(origin, Const) || origin->constisnull)
		return false;
	interval = DatumGetIntervalP(width->constvalue);
	key->origin = DatumGetTimestampTz(origin->constvalue);
	/* what date_bin() refuses is left to it, and so is what comes near the ends of time */
	return interval->month == 0 && interval->day >= 0 && interval->day < 1000000 &&
	       interval->time >= 0 && interval->time < INT64CONST(1000000) * USECS_PER_DAY &&
	       (key->width = interval->day * USECS_PER_DAY + interval->time) > 0 &&
	       key->origin > -INT64CONST(1000000) * USECS_PER_DAY && key->origin < INT64CONST(1000000) * USECS_PER_DAY;
}

/* duration_nano, greatest(duration_nano, 0) */
static bool
duration_of(Expr *expression, const ScanTarget *target, AggSource *source)
{
	MinMaxExpr *greatest = (MinMaxExpr *) expression;
	int64       zero;

	*source = AGG_SOURCE_DURATION;
	if (tempo_column_of((Node *) expression, target) == TEMPO_DURATION_NANO)
		return true;
	*source = AGG_SOURCE_DURATION_CLAMPED;
	return IsA(expression, MinMaxExpr) && greatest->op == IS_GREATEST && list_length(greatest->args) == 2 &&
	       tempo_column_of(linitial(greatest->args), target) == TEMPO_DURATION_NANO &&
	       const_int(lsecond(greatest->args), &zero) && zero == 0;
}

/* The argument of a cast from bigint to double, or NULL */
static Expr *
float_cast(Expr *expression)
{
	FuncExpr *call = (FuncExpr *) expression;

	return IsA(expression, FuncExpr) && call->funcid == F_FLOAT8_INT8 ? linitial(call->args) : NULL;
}

bool
tempo_agg_key(Expr *expression, const ScanTarget *target, AggKey *key)
{
	FuncExpr *call = (FuncExpr *) expression;
	AggSource source;

	memset(key, 0, sizeof(*key));
	key->expr = expression;
	key->type = AGG_KEY_STEP;
	if (step_of(expression, target, key))
		return true;
	key->type = AGG_KEY_BIN;
	if (bin_of(expression, target, key))
		return true;
	key->type = AGG_KEY_LOG2;
	if (IsA(expression, FuncExpr) && list_length(call->args) == 1 && float_cast(linitial(call->args)) != NULL &&
	    duration_of(float_cast(linitial(call->args)), target, &source) &&
	    tempo_is_function(call->funcid, "log2_bucket"))
		return true;
	key->type = AGG_KEY_CLASS;
	return tempo_agg_is_class((Node *) expression, target);
}

static bool
source_of(Expr *expression, const ScanTarget *target, AggItem *item)
{
	Expr *inner = float_cast(expression);

	switch (tempo_column_of((Node *) expression, target))
	{
		case TEMPO_START_TIME_UNIX_NANO:
			item->source = AGG_SOURCE_START;
			return true;
		case TEMPO_START_TIME:
			item->source = AGG_SOURCE_START_TIME;
			return true;
		case TEMPO_END_TIME:
			item->source = AGG_SOURCE_END_TIME;
			return true;
		default:
			break;
	}
	item->as_float = inner != NULL && duration_of(inner, target, &item->source);
	if (item->as_float || duration_of(expression, target, &item->source))
		return true;
	item->source = AGG_SOURCE_CLASS;
	return tempo_agg_is_class((Node *) expression, target);
}

static bool
function_of(Oid aggregate, AggFunction *function)
{
	static const struct
	{
		Oid         aggregate;
		AggFunction function;
	} known[] = {
		{F_COUNT_, AGG_COUNT},
		{F_COUNT_ANY, AGG_COUNT},
#ifdef HAVE_INT128
		{F_SUM_INT8, AGG_SUM_INT},
		{F_AVG_INT8, AGG_SUM_INT},
#endif
		{F_SUM_FLOAT8, AGG_SUM_FLOAT},
		{F_AVG_FLOAT8, AGG_AVG_FLOAT},
		{F_MIN_INT8, AGG_MIN_INT},
		{F_MIN_TIMESTAMPTZ, AGG_MIN_INT},
		{F_MAX_INT8, AGG_MAX_INT},
		{F_MAX_TIMESTAMPTZ, AGG_MAX_INT},
		{F_MIN_FLOAT8, AGG_MIN_FLOAT},
		{F_MAX_FLOAT8, AGG_MAX_FLOAT},
	};

	for (int i = 0; i < lengthof(known); i++)
		if (known[i].aggregate == aggregate)
		{
			*function = known[i].function;
			return true;
		}
	return false;
}

bool
tempo_agg_item(const Aggref *aggref, const ScanTarget *target, AggItem *item)
{
	memset(item, 0, sizeof(*item));
	if (aggref->aggkind != AGGKIND_NORMAL || aggref->aggdistinct != NIL || aggref->aggorder != NIL ||
	    aggref->agglevelsup != 0 || !function_of(aggref->aggfnoid, &item->function))
		return false;
	item->filter = aggref->aggfilter;
	if (item->filter != NULL && !tempo_agg_is_class((Node *) item->filter, target))
		return false;
	item->source = AGG_SOURCE_NONE;
	if (aggref->aggstar)
		return true;
	if (list_length(aggref->args) != 1)
		return false;
	item->argument = ((TargetEntry *) linitial(aggref->args))->expr;
	if (!source_of(item->argument, target, item))
		return false;
	/* what is never NULL is counted as rows are */
	if (item->function == AGG_COUNT &&
	    (item->source != AGG_SOURCE_CLASS ||
	     (IsA(item->argument, Const) && !((Const *) item->argument)->constisnull)))
	{
		item->source = AGG_SOURCE_NONE;
		item->argument = NULL;
	}
	return true;
}
