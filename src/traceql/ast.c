/*-------------------------------------------------------------------------
 *
 * ast.c
 *	  Making expressions: static types, and the folding of constants.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "traceql/ast.h"

TqlStatic
tql_int(int64 n)
{
	TqlStatic v = {.type = TQL_INT, .n = n};

	return v;
}

TqlStatic
tql_float(double d)
{
	TqlStatic v = {.type = TQL_FLOAT, .d = d};

	return v;
}

TqlStatic
tql_bool(bool b)
{
	TqlStatic v = {.type = TQL_BOOL, .n = b};

	return v;
}

TqlStatic
tql_string(const char *s)
{
	TqlStatic v = {.type = TQL_STRING, .s = s};

	return v;
}

double
tql_number(const TqlStatic *value)
{
	return value->type == TQL_FLOAT ? value->d : (double) value->n;
}

bool
tql_type_is_numeric(TqlType type)
{
	return type == TQL_INT || type == TQL_FLOAT || type == TQL_DURATION;
}

bool
tql_op_is_arithmetic(TqlOp op)
{
	return op >= TQL_ADD && op <= TQL_NEG;
}

bool
tql_op_is_comparison(TqlOp op)
{
	return op >= TQL_EQ && op <= TQL_NRE;
}

TqlType
tql_intrinsic_type(TqlIntrinsic intrinsic)
{
	switch (intrinsic)
	{
		case TQL_ATTRIBUTE:
			return TQL_DYNAMIC;
		case TQL_I_DURATION:
		case TQL_I_TRACE_DURATION:
		case TQL_I_EVENT_TIME_SINCE_START:
			return TQL_DURATION;
		case TQL_I_STATUS:
			return TQL_STATUS;
		case TQL_I_KIND:
			return TQL_KIND;
		case TQL_I_PARENT:
			return TQL_NIL;
		case TQL_I_NESTED_SET_LEFT:
		case TQL_I_NESTED_SET_RIGHT:
		case TQL_I_NESTED_SET_PARENT:
		case TQL_I_CHILD_COUNT:
			return TQL_INT;
		case TQL_I_NAME:
		case TQL_I_STATUS_MESSAGE:
		case TQL_I_ROOT_NAME:
		case TQL_I_ROOT_SERVICE_NAME:
		case TQL_I_TRACE_ID:
		case TQL_I_SPAN_ID:
		case TQL_I_PARENT_ID:
		case TQL_I_EVENT_NAME:
		case TQL_I_LINK_TRACE_ID:
		case TQL_I_LINK_SPAN_ID:
		case TQL_I_INSTRUMENTATION_NAME:
		case TQL_I_INSTRUMENTATION_VERSION:
			return TQL_STRING;
	}
	return TQL_DYNAMIC;
}

/* The static type; of arithmetic that of the first operand known to have one. */
TqlType
tql_expr_type(const TqlExpr *expr)
{
	TqlType type;

	check_stack_depth();
	switch (expr->kind)
	{
		case TQL_E_STATIC:
			return expr->value.type;
		case TQL_E_ATTRIBUTE:
			return tql_intrinsic_type(expr->attribute.intrinsic);
		case TQL_E_UNARY:
			return expr->op == TQL_NEG ? tql_expr_type(expr->left) : TQL_BOOL;
		case TQL_E_BINARY:
			if (!tql_op_is_arithmetic(expr->op))
				return TQL_BOOL;
			type = tql_expr_type(expr->left);
			return type != TQL_DYNAMIC ? type : tql_expr_type(expr->right);
		case TQL_E_LIST:
			return TQL_BOOL;
	}
	return TQL_DYNAMIC;
}

/* May values of these types meet in one operation? */
bool
tql_types_match(TqlType left, TqlType right)
{
	if (left == TQL_DYNAMIC || right == TQL_DYNAMIC || left == right)
		return true;
	return tql_type_is_numeric(left) && tql_type_is_numeric(right);
}

/* Is the operator defined for the type? */
bool
tql_op_allowed(TqlOp op, TqlType type)
{
	switch (type)
	{
		case TQL_DYNAMIC:
			return true;
		case TQL_BOOL:
			return op == TQL_AND || op == TQL_OR || op == TQL_NOT || op == TQL_EQ || op == TQL_NE;
		case TQL_INT:
		case TQL_FLOAT:
		case TQL_DURATION:
			return tql_op_is_arithmetic(op) || (op >= TQL_EQ && op <= TQL_GE);
		case TQL_STRING:
			return tql_op_is_comparison(op);
		case TQL_STATUS:
		case TQL_KIND:
		case TQL_NIL:
			return op == TQL_EQ || op == TQL_NE;
	}
	return false;
}

bool
tql_attribute_equal(const TqlAttribute *a, const TqlAttribute *b)
{
	if (a->intrinsic != b->intrinsic)
		return false;
	if (a->intrinsic != TQL_ATTRIBUTE)
		return true;
	return a->scope == b->scope && a->parent == b->parent && strcmp(a->name, b->name) == 0;
}

/* resource.service.name, which every span has */
bool
tql_is_service_name(const TqlAttribute *attribute)
{
	return attribute->intrinsic == TQL_ATTRIBUTE && attribute->scope == TQL_SCOPE_RESOURCE &&
	       !attribute->parent && strcmp(attribute->name, "service.name") == 0;
}

bool
tql_mentions_span(const TqlExpr *expr)
{
	check_stack_depth();
	switch (expr->kind)
	{
		case TQL_E_STATIC:
			return false;
		case TQL_E_ATTRIBUTE:
			return true;
		case TQL_E_UNARY:
		case TQL_E_LIST:
			return tql_mentions_span(expr->left);
		case TQL_E_BINARY:
			return tql_mentions_span(expr->left) || tql_mentions_span(expr->right);
	}
	return false;
}

/* Truncation as a conversion that cannot trap: out of range saturates, NaN is 0. */
int64
tql_double_to_int(double d)
{
	if (isnan(d))
		return 0;
	if (d >= 9223372036854775807.0)
		return PG_INT64_MAX;
	if (d <= -9223372036854775808.0)
		return PG_INT64_MIN;
	return (int64) d;
}

/* a ^ b on integers: modulo 2^64; a negative exponent truncates the fraction */
int64
tql_int_pow(int64 base, int64 exponent)
{
	uint64 result = 1;
	uint64 factor = (uint64) base;

	if (exponent < 0)
	{
		if (base == 1)
			return 1;
		if (base == -1)
			return (exponent % 2 == 0) ? 1 : -1;
		return base == 0 ? PG_INT64_MAX : 0;
	}
	for (; exponent > 0; exponent >>= 1)
	{
		if (exponent & 1)
			result *= factor;
		factor *= factor;
	}
	return (int64) result;
}

static TqlExpr *
make_expr(TqlExprKind kind, TqlOp op, TqlExpr *left, TqlExpr *right)
{
	TqlExpr *e = palloc0(sizeof(TqlExpr));
	int      depth = 0;

	e->kind = kind;
	e->op = op;
	e->left = left;
	e->right = right;

	/* a chain of one associative operator is as deep as its deepest member */
	if (left)
		depth = left->depth + ((left->kind == TQL_E_BINARY && left->op == op) ? 0 : 1);
	if (right)
		depth = Max(depth, right->depth + 1);
	e->depth = depth;
	e->mentions = (left ? left->mentions : 0) | (right ? right->mentions : 0) |
	              (op == TQL_DIV || op == TQL_MOD ? TQL_MENTIONS_DIVISION : 0);
	if (depth > TQL_MAX_DEPTH)
		ereport(ERROR,
		        (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
		         errmsg("expression is nested too deeply"),
		         errdetail("At most %d levels are allowed.", TQL_MAX_DEPTH)));
	return e;
}

TqlExpr *
tql_make_static(TqlStatic value)
{
	TqlExpr *e = make_expr(TQL_E_STATIC, TQL_OP_NONE, NULL, NULL);

	e->value = value;
	return e;
}

TqlExpr *
tql_make_attribute(TqlAttribute attribute)
{
	TqlExpr *e = make_expr(TQL_E_ATTRIBUTE, TQL_OP_NONE, NULL, NULL);

	e->attribute = attribute;
	e->at = attribute.at;
	if (attribute.scope == TQL_SCOPE_EVENT ||
	    attribute.intrinsic == TQL_I_EVENT_NAME || attribute.intrinsic == TQL_I_EVENT_TIME_SINCE_START)
		e->mentions = TQL_MENTIONS_EVENT;
	if (attribute.scope == TQL_SCOPE_LINK ||
	    attribute.intrinsic == TQL_I_LINK_TRACE_ID || attribute.intrinsic == TQL_I_LINK_SPAN_ID)
		e->mentions = TQL_MENTIONS_LINK;
	return e;
}

TqlExpr *
tql_make_unary(TqlOp op, TqlExpr *operand)
{
	if (operand->kind == TQL_E_STATIC && tql_op_allowed(op, operand->value.type))
	{
		TqlStatic v = operand->value;

		if (op == TQL_NOT)
			return tql_make_static(tql_bool(!v.n));
		if (op == TQL_NEG)
		{
			if (v.type == TQL_FLOAT)
				v.d = -v.d;
			else
				v.n = (int64) (0 - (uint64) v.n);
			return tql_make_static(v);
		}
	}
	return make_expr(TQL_E_UNARY, op, operand, NULL);
}

static bool
fold_integers(TqlOp op, int64 a, int64 b, TqlStatic *out)
{
	switch (op)
	{
		case TQL_ADD:
			*out = tql_int((int64) ((uint64) a + (uint64) b));
			return true;
		case TQL_SUB:
			*out = tql_int((int64) ((uint64) a - (uint64) b));
			return true;
		case TQL_MUL:
			*out = tql_int((int64) ((uint64) a * (uint64) b));
			return true;
		case TQL_DIV:
		case TQL_MOD:
			/* left to run time, where the span does not match */
			if (b == 0)
				return false;
			if (b == -1) /* the one quotient that overflows wraps */
				*out = tql_int(op == TQL_MOD ? 0 : (int64) (0 - (uint64) a));
			else
				*out = tql_int(op == TQL_DIV ? a / b : a % b);
			return true;
		case TQL_POW:
			*out = tql_int(tql_int_pow(a, b));
			return true;
		default:
			return false;
	}
}

static bool
fold_doubles(TqlOp op, double a, double b, TqlStatic *out)
{
	double d;

	switch (op)
	{
		case TQL_ADD:
			d = a + b;
			break;
		case TQL_SUB:
			d = a - b;
			break;
		case TQL_MUL:
			d = a * b;
			break;
		case TQL_DIV:
			d = a / b;
			break;
		case TQL_MOD:
			d = fmod(a, b);
			break;
		case TQL_POW:
			d = pow(a, b);
			break;
		default:
			return false;
	}
	/* infinities and NaN have no literal: leave them to run time */
	if (isnan(d) || isinf(d))
		return false;
	*out = tql_float(d);
	return true;
}

static bool
fold_comparison(TqlOp op, int order, TqlStatic *out)
{
	switch (op)
	{
		case TQL_EQ:
			*out = tql_bool(order == 0);
			return true;
		case TQL_NE:
			*out = tql_bool(order != 0);
			return true;
		case TQL_LT:
			*out = tql_bool(order < 0);
			return true;
		case TQL_LE:
			*out = tql_bool(order <= 0);
			return true;
		case TQL_GT:
			*out = tql_bool(order > 0);
			return true;
		case TQL_GE:
			*out = tql_bool(order >= 0);
			return true;
		default:
			return false;
	}
}

/* Two literals and an operator that is defined for them: the literal they make. */
static bool
fold_binary(TqlOp op, const TqlStatic *a, const TqlStatic *b, TqlStatic *out)
{
	if (!tql_types_match(a->type, b->type) || !tql_op_allowed(op, a->type) || !tql_op_allowed(op, b->type))
		return false;
	if (tql_type_is_numeric(a->type))
	{
		if (tql_op_is_arithmetic(op))
		{
			if (a->type == TQL_INT && b->type == TQL_INT)
				return fold_integers(op, a->n, b->n, out);
			return fold_doubles(op, tql_number(a), tql_number(b), out);
		}
		if (a->type == TQL_FLOAT || b->type == TQL_FLOAT)
		{
			double x = tql_number(a);
			double y = tql_number(b);

			return fold_comparison(op, x < y ? -1 : (x > y ? 1 : 0), out);
		}
		return fold_comparison(op, a->n < b->n ? -1 : (a->n > b->n ? 1 : 0), out);
	}
	if (a->type == TQL_STRING)
		return fold_comparison(op, strcmp(a->s, b->s), out);
	if (op == TQL_AND || op == TQL_OR)
	{
		*out = tql_bool(op == TQL_AND ? (a->n && b->n) : (a->n || b->n));
		return true;
	}
	return fold_comparison(op, a->n != b->n, out);
}

TqlExpr *
tql_make_binary(TqlOp op, TqlExpr *left, TqlExpr *right)
{
	TqlStatic folded;

	if (left->kind == TQL_E_STATIC && right->kind == TQL_E_STATIC &&
	    fold_binary(op, &left->value, &right->value, &folded))
		return tql_make_static(folded);
	return make_expr(TQL_E_BINARY, op, left, right);
}
