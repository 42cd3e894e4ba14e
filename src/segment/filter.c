/*-------------------------------------------------------------------------
 *
 * filter.c
 *	  TraceQL's comparison of attribute values with literals.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/filter.h"

#include <math.h>
#include <string.h>

/* Integers up to here are doubles too. */
#define EXACT_INTEGER (INT64_C(1) << 53)

bool
match_op_from_text(SpanText text, MatchOp *op)
{
	static const char *const names[] = {"=", "!=", "<", "<=", ">", ">="};

	for (int i = 0; i < 6; i++)
		if (span_text_is(text, names[i]))
		{
			*op = (MatchOp) i;
			return true;
		}
	return false;
}

bool
match_order(MatchOp op, int order)
{
	return match_int(op, order, 0);
}

bool
match_range(MatchOp op, int64_t min, int64_t max, int64_t literal)
{
	switch (op)
	{
		case MATCH_EQ:
			return min <= literal && literal <= max;
		case MATCH_NE:
			return min != literal || max != literal;
		case MATCH_LT:
		case MATCH_LE:
			return match_int(op, min, literal);
		case MATCH_GT:
		case MATCH_GE:
			return match_int(op, max, literal);
	}
	return true;
}

int
text_compare(SpanText a, SpanText b)
{
	uint32_t len = a.len < b.len ? a.len : b.len;
	int      order = len == 0 ? 0 : memcmp(a.data, b.data, len);

	if (order != 0)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

/* A number as a double, if that is exactly what its jsonb form means. */
static bool
plain_double(const AnyValue *value, double *out)
{
	if (value->type == ANY_INT)
	{
		*out = (double) value->u.integer;
		return value->u.integer <= EXACT_INTEGER && value->u.integer >= -EXACT_INTEGER;
	}
	*out = value->u.number;
	return isfinite(*out) && !(*out == 0 && signbit(*out));
}

static MatchResult
match_numbers(const AnyValue *value, MatchOp op, const AnyValue *literal)
{
	double a;
	double b;

	if (value->type == ANY_INT && literal->type == ANY_INT)
		return match_int(op, value->u.integer, literal->u.integer) ? MATCH_TRUE : MATCH_FALSE;
	if (!plain_double(value, &a) || !plain_double(literal, &b))
		return MATCH_UNDECIDED;
	return match_order(op, a < b ? -1 : a > b) ? MATCH_TRUE : MATCH_FALSE;
}

MatchResult
match_value(const AnyValue *value, MatchOp op, const AnyValue *literal)
{
	bool numeric_literal = literal->type == ANY_INT || literal->type == ANY_DOUBLE;

	if (value == NULL)
		return MATCH_FALSE;
	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			if (literal->type != ANY_STRING)
				return MATCH_FALSE;
			return match_order(op, text_compare(span_text(value->u.data, value->len),
			                                    span_text(literal->u.data, literal->len))) ?
			           MATCH_TRUE :
			           MATCH_FALSE;
		case ANY_BOOL:
			if (literal->type != ANY_BOOL)
				return MATCH_FALSE;
			if (op == MATCH_EQ)
				return value->u.boolean == literal->u.boolean ? MATCH_TRUE : MATCH_FALSE;
			if (op == MATCH_NE)
				return value->u.boolean != literal->u.boolean ? MATCH_TRUE : MATCH_FALSE;
			return MATCH_UNDECIDED;
		case ANY_INT:
			return numeric_literal ? match_numbers(value, op, literal) : MATCH_FALSE;
		case ANY_DOUBLE:
			if (!numeric_literal)
				return isfinite(value->u.number) ? MATCH_FALSE : MATCH_UNDECIDED;
			return match_numbers(value, op, literal);
		case ANY_EMPTY:
		case ANY_ARRAY:
		case ANY_KVLIST:
		case ANY_BYTES:
			return MATCH_UNDECIDED;
	}
	return MATCH_UNDECIDED;
}
