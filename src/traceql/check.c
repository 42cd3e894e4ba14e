/*-------------------------------------------------------------------------
 *
 * check.c
 *	  Validation: what parses but has no meaning (reference, sections 3.2
 *	  and 7), and the rewriting of chains of comparisons to lists (3.8).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "traceql/ast.h"
#include "traceql/regex.h"

/* The messages are Tempo's, and say no place; it comes beside them. */
#define INVALID(place, ...) \
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(__VA_ARGS__), internalerrposition(place)))

#define MAX_GROUP_BY 5
#define MAX_COMPARE_VALUES 1000

static void check_pipeline(List *pipeline);

static void
check_attribute(const TqlAttribute *attribute)
{
	if (attribute->parent)
		INVALID(attribute->at, "parent not yet supported");
	if (attribute->intrinsic == TQL_I_PARENT)
		INVALID(attribute->at, "intrinsic (parent) not yet supported");
}

static void
check_regex(const TqlExpr *expr)
{
	const char *pattern;

	if (expr->right->kind != TQL_E_STATIC || expr->right->value.type != TQL_STRING)
		INVALID(expr->right->at, "invalid type for =~ or !~: %s", tql_print_expr(expr->right));
	pattern = expr->right->value.s;
	if (!tql_regex_valid(pattern, strlen(pattern)))
		INVALID(expr->right->at, "invalid regex: `%s`", pattern);
}

/*
 * Keywords and durations in quotes are the usual reason: the message is
 * Tempo's, the hint says what to write.
 */
static _Noreturn void
types_differ(const TqlExpr *expr, TqlType left, TqlType right)
{
	TqlType     other = left == TQL_STRING ? right : right == TQL_STRING ? left :
	                                                                       TQL_NIL;
	const char *hint = NULL;

	if (other == TQL_STATUS)
		hint = "A status is error, ok or unset, without quotes.";
	else if (other == TQL_KIND)
		hint = "A kind is server, client, producer, consumer, internal or unspecified, without quotes.";
	else if (other == TQL_DURATION)
		hint = "A duration is a number with a unit, such as 100ms or 1.5s, without quotes.";
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("binary operations must operate on the same type: %s", tql_print_expr(expr)),
	         internalerrposition(expr->at),
	         hint != NULL ? errhint("%s", hint) : 0));
}

static void
check_expr(const TqlExpr *expr)
{
	TqlType left;
	TqlType right;

	check_stack_depth();
	switch (expr->kind)
	{
		case TQL_E_STATIC:
			break;
		case TQL_E_ATTRIBUTE:
			check_attribute(&expr->attribute);
			break;
		case TQL_E_UNARY:
			check_expr(expr->left);
			if (expr->op == TQL_EXISTS)
				break;
			if (expr->op == TQL_NOT_EXISTS)
			{
				if (expr->left->kind != TQL_E_ATTRIBUTE)
					break;
				if (expr->left->attribute.intrinsic != TQL_ATTRIBUTE)
					INVALID(expr->left->at, "%s=nil is not valid because intrinsics cannot be nil",
					        tql_print_expr(expr->left));
				if (tql_is_service_name(&expr->left->attribute))
					INVALID(expr->left->at, "resource.service.name=nil is not valid because resource.service.name cannot be nil");
				break;
			}
			if (!tql_op_allowed(expr->op, tql_expr_type(expr->left)))
				INVALID(expr->at, "illegal operation for the given type: %s", tql_print_expr(expr));
			break;
		case TQL_E_BINARY:
			check_expr(expr->left);
			check_expr(expr->right);
			left = tql_expr_type(expr->left);
			right = tql_expr_type(expr->right);
			if (!tql_types_match(left, right))
				types_differ(expr, left, right);
			if (!tql_op_allowed(expr->op, left) || !tql_op_allowed(expr->op, right))
				INVALID(expr->at, "illegal operation for the given types: %s", tql_print_expr(expr));
			if (expr->op == TQL_RE || expr->op == TQL_NRE)
				check_regex(expr);
			break;
		case TQL_E_LIST:
			break; /* made after validation */
	}
}

static void
check_filter(const TqlExpr *filter)
{
	TqlType type;

	check_expr(filter);
	type = tql_expr_type(filter);
	if (type != TQL_BOOL && type != TQL_DYNAMIC)
		INVALID(filter->at, "span filter field expressions must resolve to a boolean: { %s }", tql_print_expr(filter));
}

static void
check_spanset(TqlSpanset *spanset)
{
	check_stack_depth();
	switch (spanset->kind)
	{
		case TQL_S_FILTER:
			check_filter(spanset->filter);
			spanset->filter = tql_rewrite(spanset->filter);
			break;
		case TQL_S_OPERATION:
			check_spanset(spanset->left);
			check_spanset(spanset->right);
			break;
		case TQL_S_PIPELINE:
			check_pipeline(spanset->pipeline);
			break;
	}
}

static void
check_scalar_filter(TqlStage *stage)
{
	TqlScalar *aggregate = stage->left;
	TqlType    type;

	if (stage->left->kind != TQL_SC_AGGREGATE)
		INVALID(stage->left->at, "scalar filter lhs of type (%%v) not yet supported");
	if (aggregate->argument)
	{
		check_expr(aggregate->argument);
		type = tql_expr_type(aggregate->argument);
		if (type != TQL_DYNAMIC && !tql_type_is_numeric(type))
			INVALID(aggregate->argument->at, "aggregate field expressions must resolve to a number type: %s", tql_print_scalar(aggregate));
		if (!tql_mentions_span(aggregate->argument))
			INVALID(aggregate->argument->at, "aggregate field expressions must reference the span: %s", tql_print_scalar(aggregate));
		aggregate->argument = tql_rewrite(aggregate->argument);
	}
	if (stage->right->kind != TQL_SC_LITERAL)
		INVALID(stage->right->at, "scalar filter rhs of type (%%v) not yet supported");
}

static void
check_pipeline(List *pipeline)
{
	ListCell *lc;
	ListCell *a;

	check_stack_depth();
	foreach (lc, pipeline)
	{
		TqlStage *stage = lfirst(lc);

		switch (stage->kind)
		{
			case TQL_ST_SPANSET:
				check_spanset(stage->spanset);
				break;
			case TQL_ST_SCALAR_FILTER:
				check_scalar_filter(stage);
				break;
			case TQL_ST_BY:
				check_expr(stage->by);
				if (!tql_mentions_span(stage->by))
					INVALID(stage->by->at, "grouping field expressions must reference the span: by(%s)", tql_print_expr(stage->by));
				stage->by = tql_rewrite(stage->by);
				break;
			case TQL_ST_SELECT:
				foreach (a, stage->attributes)
					check_attribute(lfirst(a));
				break;
			case TQL_ST_COALESCE:
				break;
		}
	}
}

static void
check_second(const List *second)
{
	ListCell *lc;

	foreach (lc, second)
	{
		const TqlSecond *s = lfirst(lc);

		if (s->kind != TQL_2_FILTER && s->limit <= 0)
			INVALID(s->at, "limit must be greater than 0");
	}
}

static void
check_compare(TqlMetrics *metrics)
{
	check_filter(metrics->compare);
	metrics->compare = tql_rewrite(metrics->compare);
	if (list_length(metrics->compare_args) >= 1)
	{
		int64 n = ((TqlStatic *) linitial(metrics->compare_args))->n;

		if (n < 1 || n > MAX_COMPARE_VALUES)
			INVALID(metrics->at, "compare() top number of values must be an integer between 1 and %d", MAX_COMPARE_VALUES);
	}
	if (list_length(metrics->compare_args) == 3)
	{
		int64 start = ((TqlStatic *) lsecond(metrics->compare_args))->n;
		int64 end = ((TqlStatic *) lthird(metrics->compare_args))->n;

		if (start <= 0 || end <= 0)
			INVALID(metrics->at, "compare() timestamps must be positive integer unix nanoseconds");
		if (end <= start)
			INVALID(metrics->at, "compare() end timestamp must be greater than start timestamp");
	}
}

static bool
has_compare(const TqlMetricsExpr *m)
{
	check_stack_depth();
	switch (m->kind)
	{
		case TQL_ME_QUERY:
			return m->metrics->function == TQL_M_COMPARE;
		case TQL_ME_LITERAL:
			return false;
		case TQL_ME_OPERATION:
			return has_compare(m->left) || has_compare(m->right);
	}
	return false;
}

static void
check_metrics_expr(TqlMetricsExpr *m)
{
	ListCell *lc;

	check_stack_depth();
	if (m->kind == TQL_ME_OPERATION)
	{
		if (has_compare(m))
			INVALID(m->at, "`compare()` cannot be used in metric arithmetic");
		check_metrics_expr(m->left);
		check_metrics_expr(m->right);
		return;
	}
	if (m->kind == TQL_ME_LITERAL)
		return;

	check_pipeline(m->pipeline);
	if (list_length(m->metrics->by) > MAX_GROUP_BY ||
	    (list_length(m->metrics->by) == MAX_GROUP_BY &&
	     (m->metrics->function == TQL_M_QUANTILE || m->metrics->function == TQL_M_HISTOGRAM ||
	      m->metrics->function == TQL_M_AVG)))
		INVALID(m->metrics->at, "metrics group by %d values not yet supported", list_length(m->metrics->by));
	foreach (lc, m->metrics->quantiles)
	{
		const TqlStatic *q = lfirst(lc);
		double           d = tql_number(q);

		if (!(d >= 0 && d <= 1))
			INVALID(m->metrics->at, "quantile must be between 0 and 1: %s", tql_print_static(q));
	}
	if (m->metrics->function == TQL_M_COMPARE)
	{
		check_compare(m->metrics);
		if (m->second != NIL)
			INVALID(((TqlSecond *) linitial(m->second))->at, "`compare()` cannot be used with second stage functions");
	}
	check_second(m->second);
}

void
tql_check(TqlQuery *query)
{
	if (query->metrics == NULL)
	{
		check_pipeline(query->pipeline);
		return;
	}
	check_metrics_expr(query->metrics);
	if (query->second != NIL && has_compare(query->metrics))
		INVALID(((TqlSecond *) linitial(query->second))->at, "`compare()` cannot be used with second stage functions");
	check_second(query->second);
}

/*
 * The rewriting of a=1 || a=2 to a IN [1, 2] and its three relatives.  A side
 * takes part if it compares an attribute with literals of one type.
 */
typedef struct ListSide
{
	const TqlAttribute *attribute;
	TqlType             type;
	List               *values;
} ListSide;

static bool
list_side(TqlExpr *expr, TqlOp single, TqlOp list, ListSide *side)
{
	TqlExpr *attribute = expr->left;
	TqlExpr *literal = expr->right;

	if (expr->kind == TQL_E_LIST && expr->op == list)
	{
		side->attribute = &expr->left->attribute;
		side->values = expr->list;
		side->type = ((TqlStatic *) linitial(expr->list))->type;
		return true;
	}
	if (expr->kind != TQL_E_BINARY || expr->op != single)
		return false;
	if (attribute->kind == TQL_E_STATIC && (single == TQL_EQ || single == TQL_NE))
	{
		literal = expr->left;
		attribute = expr->right;
	}
	if (attribute->kind != TQL_E_ATTRIBUTE || literal->kind != TQL_E_STATIC)
		return false;
	side->type = literal->value.type;
	if (side->type != TQL_STRING && side->type != TQL_INT && side->type != TQL_FLOAT && side->type != TQL_BOOL)
		return false;
	side->attribute = &attribute->attribute;
	side->values = list_make1(&literal->value);
	return true;
}

static TqlExpr *
merge_sides(TqlExpr *expr)
{
	static const struct
	{
		TqlOp junction;
		TqlOp single;
		TqlOp list;
	} rules[] = {
		{TQL_OR, TQL_EQ, TQL_IN},
		{TQL_AND, TQL_NE, TQL_NOT_IN},
		{TQL_OR, TQL_RE, TQL_RE_ANY},
		{TQL_AND, TQL_NRE, TQL_RE_NONE},
	};

	for (int i = 0; i < lengthof(rules); i++)
	{
		ListSide left;
		ListSide right;

		if (expr->op == rules[i].junction &&
		    list_side(expr->left, rules[i].single, rules[i].list, &left) &&
		    list_side(expr->right, rules[i].single, rules[i].list, &right) &&
		    left.type == right.type && tql_attribute_equal(left.attribute, right.attribute))
		{
			TqlExpr *list = palloc0(sizeof(TqlExpr));

			list->kind = TQL_E_LIST;
			list->op = rules[i].list;
			list->left = tql_make_attribute(*left.attribute);
			list->mentions = list->left->mentions;
			list->list = list_concat(left.values, right.values);
			return list;
		}
	}
	return expr;
}

TqlExpr *
tql_rewrite(TqlExpr *expr)
{
	check_stack_depth();
	if (expr->kind == TQL_E_UNARY)
	{
		if (expr->op != TQL_NOT) /* what is negated is left alone */
			expr->left = tql_rewrite(expr->left);
		return expr;
	}
	if (expr->kind != TQL_E_BINARY)
		return expr;
	expr->left = tql_rewrite(expr->left);
	expr->right = tql_rewrite(expr->right);
	return merge_sides(expr);
}
