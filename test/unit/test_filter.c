/*-------------------------------------------------------------------------
 *
 * test_filter.c
 *	  TraceQL's comparison of attribute values, and of ranges of integers.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/filter.h"

#include <math.h>
#include <string.h>

#include "tap.h"

static const MatchOp     ops[] = {MATCH_EQ, MATCH_NE, MATCH_LT, MATCH_LE, MATCH_GT, MATCH_GE};
static const char *const names[] = {"=", "!=", "<", "<=", ">", ">="};

static AnyValue
integer(int64_t i)
{
	AnyValue v = {.type = ANY_INT};

	v.u.integer = i;
	return v;
}

static AnyValue
number(double d)
{
	AnyValue v = {.type = ANY_DOUBLE};

	v.u.number = d;
	return v;
}

static AnyValue
string(const char *s)
{
	AnyValue v = {.type = ANY_STRING};

	v.len = (uint32_t) strlen(s);
	v.u.data = s;
	return v;
}

static AnyValue
boolean(bool b)
{
	AnyValue v = {.type = ANY_BOOL};

	v.u.boolean = b;
	return v;
}

/* "expected" has a letter for each operator: t, f, or u for undecided. */
static void
check(const char *what, AnyValue value, AnyValue literal, const char *expected)
{
	static const char letters[] = {'f', 't', 'u'};

	for (int i = 0; i < 6; i++)
		ok(letters[match_value(&value, ops[i], &literal)] == expected[i], "%s: %s", what, names[i]);
}

static void
test_values(void)
{
	AnyValue array = {.type = ANY_ARRAY};
	AnyValue empty = {.type = ANY_EMPTY};
	AnyValue one = integer(1);

	/* in the order = != < <= > >= */
	check("1, 1", integer(1), integer(1), "tfftft");
	check("1, 2", integer(1), integer(2), "fttt"
	                                      "ff");
	check("2, 1", integer(2), integer(1), "ftfftt");
	check("neighbours beyond doubles", integer(INT64_C(9007199254740993)), integer(INT64_C(9007199254740992)), "ftfftt");
	check("1, 1.0", integer(1), number(1), "tfftft");
	check("1.5, 1", number(1.5), integer(1), "ftfftt");
	check("-0.5, 0", number(-0.5), integer(0), "fttt"
	                                           "ff");
	check("large int, double", integer(INT64_C(9007199254740993)), number(1), "uuuuuu");
	check("NaN", number(NAN), number(1), "uuuuuu");
	check("-0.0", number(-0.0), number(0), "uuuuuu");
	check("infinity", number(INFINITY), string("x"), "uuuuuu");
	check("a, a", string("a"), string("a"), "tfftft");
	check("a, ab", string("a"), string("ab"), "fttt"
	                                          "ff");
	check("bytes, not letters", string("B"), string("a"), "fttt"
	                                                      "ff");
	check("high bytes", string("\xC3\xBC"), string("z"), "ftfftt");
	check("empty strings", string(""), string(""), "tfftft");
	check("true, true", boolean(true), boolean(true), "tfuuuu");
	check("true, false", boolean(true), boolean(false), "ftuuuu");
	check("types: int, string", integer(1), string("1"), "ffffff");
	check("types: string, int", string("1"), integer(1), "ffffff");
	check("types: bool, int", boolean(true), integer(1), "ffffff");
	check("types: int, bool", integer(1), boolean(true), "ffffff");
	check("types: double, string", number(1), string("1"), "ffffff");
	check("array", array, integer(1), "uuuuuu");
	check("empty", empty, integer(1), "uuuuuu");
	for (int i = 0; i < 6; i++)
		ok(match_value(NULL, ops[i], &one) == MATCH_FALSE, "missing %s", names[i]);
}

/* match_range() against trying every value of the range */
static void
test_ranges(void)
{
	for (int min = -3; min <= 3; min++)
		for (int max = min; max <= 3; max++)
			for (int literal = -4; literal <= 4; literal++)
				for (int i = 0; i < 6; i++)
				{
					bool any = false;

					for (int v = min; v <= max; v++)
						any |= match_int(ops[i], v, literal);
					ok(match_range(ops[i], min, max, literal) == any, "%d..%d %s %d", min, max, names[i], literal);
				}
}

static void
test_names(void)
{
	MatchOp op;

	for (int i = 0; i < 6; i++)
		ok(match_op_from_text(span_text(names[i], (uint32_t) strlen(names[i])), &op) && op == ops[i], "operator %s", names[i]);
	ok(!match_op_from_text(span_text("=~", 2), &op), "no operator =~");
	ok(!match_op_from_text(span_text(NULL, 0), &op), "no empty operator");
}

int
main(void)
{
	test_values();
	test_ranges();
	test_names();
	return tap_done();
}
