/*-------------------------------------------------------------------------
 *
 * filter.h
 *	  TraceQL's comparison of attribute values with literals.
 *
 * These are the rules of tempo.match() for the plain cases: a missing value
 * and a value of another type never match, whatever the operator; integers
 * and doubles compare numerically, strings by their bytes.  Anything where
 * the jsonb form could make a difference (arrays, maps, bytes, NaN, the
 * infinities, negative zero, integers that a double cannot hold) is left to
 * the caller, who asks the SQL function.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_FILTER_H
#define TEMPO_SEGMENT_FILTER_H

#include "span/value.h"

typedef enum MatchOp
{
	MATCH_EQ,
	MATCH_NE,
	MATCH_LT,
	MATCH_LE,
	MATCH_GT,
	MATCH_GE
} MatchOp;

typedef enum MatchResult
{
	MATCH_FALSE,
	MATCH_TRUE,
	MATCH_UNDECIDED
} MatchResult;

/* match_op_from_text: "=", "!=", "<", "<=", ">", ">="; false for any other text */
extern bool match_op_from_text(SpanText text, MatchOp *op);

/* match_order: does an order (negative, zero, positive) satisfy "op"? */
extern bool match_order(MatchOp op, int order);

/* match_int: value op literal, of plain integers */
static inline bool
match_int(MatchOp op, int64_t value, int64_t literal)
{
	switch (op)
	{
		case MATCH_EQ:
			return value == literal;
		case MATCH_NE:
			return value != literal;
		case MATCH_LT:
			return value < literal;
		case MATCH_LE:
			return value <= literal;
		case MATCH_GT:
			return value > literal;
		case MATCH_GE:
			return value >= literal;
	}
	return false;
}

/*
 * match_range: can any value in min .. max satisfy "value op literal"?
 */
extern bool match_range(MatchOp op, int64_t min, int64_t max, int64_t literal);

/* match_value: value op literal; "value" may be NULL, "literal" is a string, int, double or bool */
extern MatchResult match_value(const AnyValue *value, MatchOp op, const AnyValue *literal);

/* text_compare: by bytes, a prefix first */
extern int text_compare(SpanText a, SpanText b);

#endif /* TEMPO_SEGMENT_FILTER_H */
