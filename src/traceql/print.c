/*-------------------------------------------------------------------------
 *
 * print.c
 *	  The canonical form of queries, expressions and literals: it names the
 *	  attributes of by() and aggregates in answers, and appears in errors.
 *
 * What is printed can be parsed again and means the same.  One thing cannot:
 * the smallest integer, which only the word minInt can write, but whose
 * canonical form is its digits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/ast.h"

static void print_expr(StringInfo out, const TqlExpr *expr);
static void print_pipeline(StringInfo out, const List *pipeline);
static void print_scalar(StringInfo out, const TqlScalar *scalar);

const char *
tql_op_text(TqlOp op)
{
	static const char *const text[] = {
		[TQL_OP_NONE] = "",
		[TQL_ADD] = "+",
		[TQL_SUB] = "-",
		[TQL_MUL] = "*",
		[TQL_DIV] = "/",
		[TQL_MOD] = "%",
		[TQL_POW] = "^",
		[TQL_NEG] = "-",
		[TQL_EQ] = "=",
		[TQL_NE] = "!=",
		[TQL_LT] = "<",
		[TQL_LE] = "<=",
		[TQL_GT] = ">",
		[TQL_GE] = ">=",
		[TQL_RE] = "=~",
		[TQL_NRE] = "!~",
		[TQL_AND] = "&&",
		[TQL_OR] = "||",
		[TQL_NOT] = "!",
		[TQL_EXISTS] = "!= nil",
		[TQL_NOT_EXISTS] = "= nil",
		[TQL_IN] = "IN",
		[TQL_NOT_IN] = "NOT IN",
		[TQL_RE_ANY] = "MATCH ANY",
		[TQL_RE_NONE] = "MATCH NONE",
		[TQL_DESCENDANT] = ">>",
		[TQL_ANCESTOR] = "<<",
		[TQL_SIBLING] = "~",
		[TQL_NOT_CHILD] = "!>",
		[TQL_NOT_DESCENDANT] = "!>>",
		[TQL_NOT_PARENT] = "!<",
		[TQL_NOT_ANCESTOR] = "!<<",
		[TQL_UNION_CHILD] = "&>",
		[TQL_UNION_DESCENDANT] = "&>>",
		[TQL_UNION_PARENT] = "&<",
		[TQL_UNION_ANCESTOR] = "&<<",
		[TQL_UNION_SIBLING] = "&~",
	};

	return text[op];
}

const char *
tql_status_text(int64 status)
{
	static const char *const text[] = {"error", "ok", "unset"};

	return text[status];
}

const char *
tql_kind_text(int64 kind)
{
	static const char *const text[] = {"unspecified", "internal", "server", "client", "producer", "consumer"};

	return text[kind];
}

/*
 * The shortest decimal form that reads back as the same double; exponent form
 * from 1e+06 up and below 1e-04, a fraction always.
 */
char *
tql_print_double(double d)
{
	char  buf[64];
	char *e;
	int   exponent;
	int   precision;

	if (isnan(d))
		return pstrdup("NaN");
	if (isinf(d))
		return pstrdup(d > 0 ? "+Inf" : "-Inf");
	for (precision = 0; precision < 17; precision++)
	{
		snprintf(buf, sizeof(buf), "%.*e", precision, d);
		if (strtod(buf, NULL) == d)
			break;
	}
	e = strchr(buf, 'e');
	exponent = atoi(e + 1);
	if (exponent < -4 || exponent >= 6)
		return pstrdup(buf);
	snprintf(buf, sizeof(buf), "%.*f", Max(precision - exponent, 0), d);
	if (strchr(buf, '.') == NULL)
		strlcat(buf, ".0", sizeof(buf));
	return pstrdup(buf);
}

/* Appends "whole.fraction", the fraction given as parts of "unit", without trailing zeros. */
static void
append_fraction(StringInfo out, uint64 value, uint64 unit)
{
	char digits[32];
	int  len;
	int  width = 0;

	appendStringInfo(out, UINT64_FORMAT, value / unit);
	if (value % unit == 0)
		return;
	for (uint64 u = unit; u > 1; u /= 10)
		width++;
	len = snprintf(digits, sizeof(digits), "%0*llu", width, (unsigned long long) (value % unit));
	while (len > 0 && digits[len - 1] == '0')
		digits[--len] = '\0';
	appendStringInfo(out, ".%s", digits);
}

/* 1h30m0s, 1m30s, 1.5s, 500ms, 100µs, 7ns, 0s */
char *
tql_print_duration(int64 ns)
{
	StringInfoData out;
	uint64         u = ns < 0 ? 0 - (uint64) ns : (uint64) ns;

	initStringInfo(&out);
	if (u == 0)
	{
		appendStringInfoString(&out, "0s");
		return out.data;
	}
	if (ns < 0)
		appendStringInfoChar(&out, '-');
	if (u < 1000)
		appendStringInfo(&out, UINT64_FORMAT "ns", u);
	else if (u < 1000000)
	{
		append_fraction(&out, u, 1000);
		appendStringInfoString(&out, "\xC2\xB5s");
	}
	else if (u < UINT64CONST(1000000000))
	{
		append_fraction(&out, u, 1000000);
		appendStringInfoString(&out, "ms");
	}
	else
	{
		uint64 minute = UINT64CONST(60000000000);

		if (u >= 60 * minute)
			appendStringInfo(&out, UINT64_FORMAT "h", u / (60 * minute));
		if (u >= minute)
			appendStringInfo(&out, UINT64_FORMAT "m", (u / minute) % 60);
		append_fraction(&out, u % minute, UINT64CONST(1000000000));
		appendStringInfoChar(&out, 's');
	}
	return out.data;
}

/* In backticks, in which nothing is escaped; what holds a backtick itself in double quotes */
static char *
print_string(const char *s)
{
	StringInfoData out;

	if (strchr(s, '`') == NULL)
		return psprintf("`%s`", s);
	initStringInfo(&out);
	appendStringInfoChar(&out, '"');
	for (; *s; s++)
	{
		if (*s == '"' || *s == '\\' || *s == '\n')
			appendStringInfoChar(&out, '\\');
		appendStringInfoChar(&out, *s == '\n' ? 'n' : *s);
	}
	appendStringInfoChar(&out, '"');
	return out.data;
}

char *
tql_print_static(const TqlStatic *value)
{
	switch (value->type)
	{
		case TQL_INT:
			return psprintf(INT64_FORMAT, value->n);
		case TQL_FLOAT:
			return tql_print_double(value->d);
		case TQL_STRING:
			return print_string(value->s);
		case TQL_BOOL:
			return pstrdup(value->n ? "true" : "false");
		case TQL_DURATION:
			return tql_print_duration(value->n);
		case TQL_STATUS:
			return pstrdup(tql_status_text(value->n));
		case TQL_KIND:
			return pstrdup(tql_kind_text(value->n));
		case TQL_NIL:
		case TQL_DYNAMIC:
			break;
	}
	return pstrdup("nil");
}

static const char *
intrinsic_label(TqlIntrinsic intrinsic)
{
	switch (intrinsic)
	{
		case TQL_ATTRIBUTE:
			break;
		case TQL_I_DURATION:
			return "duration";
		case TQL_I_NAME:
			return "name";
		case TQL_I_STATUS:
			return "status";
		case TQL_I_STATUS_MESSAGE:
			return "statusMessage";
		case TQL_I_KIND:
			return "kind";
		case TQL_I_PARENT:
			return "parent";
		case TQL_I_ROOT_NAME:
			return "rootName";
		case TQL_I_ROOT_SERVICE_NAME:
			return "rootServiceName";
		case TQL_I_TRACE_DURATION:
			return "traceDuration";
		case TQL_I_NESTED_SET_LEFT:
			return "nestedSetLeft";
		case TQL_I_NESTED_SET_RIGHT:
			return "nestedSetRight";
		case TQL_I_NESTED_SET_PARENT:
			return "nestedSetParent";
		case TQL_I_TRACE_ID:
			return "trace:id";
		case TQL_I_SPAN_ID:
			return "span:id";
		case TQL_I_PARENT_ID:
			return "span:parentID";
		case TQL_I_CHILD_COUNT:
			return "span:childCount";
		case TQL_I_EVENT_NAME:
			return "event:name";
		case TQL_I_EVENT_TIME_SINCE_START:
			return "event:timeSinceStart";
		case TQL_I_LINK_TRACE_ID:
			return "link:traceID";
		case TQL_I_LINK_SPAN_ID:
			return "link:spanID";
		case TQL_I_INSTRUMENTATION_NAME:
			return "instrumentation:name";
		case TQL_I_INSTRUMENTATION_VERSION:
			return "instrumentation:version";
	}
	return "";
}

/* Would the name behind "parent." be read as one of a scope? */
static bool
starts_with_scope(const char *name)
{
	static const char *const scopes[] = {"span.", "resource.", "event.", "link.", "instrumentation."};

	for (int i = 0; i < lengthof(scopes); i++)
	{
		if (strncmp(name, scopes[i], strlen(scopes[i])) == 0)
			return true;
	}
	return false;
}

static void
print_attribute(StringInfo out, const TqlAttribute *attribute)
{
	static const char *const scopes[] = {".", "span.", "resource.", "event.", "link.", "instrumentation.", "trace."};
	const char              *p;
	bool                     quote;

	if (attribute->intrinsic != TQL_ATTRIBUTE)
	{
		appendStringInfoString(out, intrinsic_label(attribute->intrinsic));
		return;
	}
	if (attribute->parent)
		appendStringInfoString(out, "parent.");
	if (!attribute->parent || attribute->scope != TQL_SCOPE_NONE)
		appendStringInfoString(out, scopes[attribute->scope]);

	quote = strpbrk(attribute->name, " \t\r\n{}()=~!<>&|^,\"") != NULL || attribute->name[0] == '\0' ||
	        (attribute->scope == TQL_SCOPE_NONE && attribute->parent && starts_with_scope(attribute->name)) ||
	        (attribute->scope == TQL_SCOPE_NONE && !attribute->parent && attribute->name[0] >= '0' && attribute->name[0] <= '9');
	if (!quote)
	{
		appendStringInfoString(out, attribute->name);
		return;
	}
	appendStringInfoChar(out, '"');
	for (p = attribute->name; *p; p++)
	{
		if (*p == '"' || *p == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *p);
	}
	appendStringInfoChar(out, '"');
}

static bool
is_negative(const TqlStatic *value)
{
	if (value->type == TQL_FLOAT)
		return signbit(value->d);
	return (value->type == TQL_INT || value->type == TQL_DURATION) && value->n < 0;
}

/* An operand: in parentheses if it is an operation itself, or "tight" and a negative number. */
static void
print_operand(StringInfo out, const TqlExpr *expr, bool tight)
{
	if (expr->kind == TQL_E_ATTRIBUTE || (expr->kind == TQL_E_STATIC && !(tight && is_negative(&expr->value))))
		print_expr(out, expr);
	else
	{
		appendStringInfoChar(out, '(');
		print_expr(out, expr);
		appendStringInfoChar(out, ')');
	}
}

static void
print_expr(StringInfo out, const TqlExpr *expr)
{
	ListCell *lc;

	check_stack_depth();
	switch (expr->kind)
	{
		case TQL_E_STATIC:
			appendStringInfoString(out, tql_print_static(&expr->value));
			break;
		case TQL_E_ATTRIBUTE:
			print_attribute(out, &expr->attribute);
			break;
		case TQL_E_UNARY:
			if (expr->op == TQL_EXISTS || expr->op == TQL_NOT_EXISTS)
			{
				print_operand(out, expr->left, false);
				appendStringInfo(out, " %s", tql_op_text(expr->op));
			}
			else
			{
				appendStringInfoString(out, tql_op_text(expr->op));
				print_operand(out, expr->left, false);
			}
			break;
		case TQL_E_BINARY:
			/* -1 * .a is -(1 * .a) */
			print_operand(out, expr->left, expr->op >= TQL_MUL && expr->op <= TQL_POW);
			appendStringInfo(out, " %s ", tql_op_text(expr->op));
			print_operand(out, expr->right, false);
			break;
		case TQL_E_LIST:
			print_operand(out, expr->left, false);
			appendStringInfo(out, " %s [", tql_op_text(expr->op));
			foreach (lc, expr->list)
				appendStringInfo(out, "%s%s", foreach_current_index(lc) ? ", " : "",
				                 tql_print_static(lfirst(lc)));
			appendStringInfoChar(out, ']');
			break;
	}
}

static void
print_filter(StringInfo out, const TqlExpr *filter)
{
	appendStringInfoString(out, "{ ");
	print_expr(out, filter);
	appendStringInfoString(out, " }");
}

static void
print_spanset(StringInfo out, const TqlSpanset *spanset)
{
	check_stack_depth();
	switch (spanset->kind)
	{
		case TQL_S_FILTER:
			print_filter(out, spanset->filter);
			break;
		case TQL_S_PIPELINE:
			print_pipeline(out, spanset->pipeline);
			break;
		case TQL_S_OPERATION:
			appendStringInfoChar(out, '(');
			print_spanset(out, spanset->left);
			appendStringInfo(out, ") %s (", tql_op_text(spanset->op));
			print_spanset(out, spanset->right);
			appendStringInfoChar(out, ')');
			break;
	}
}

static void
print_scalar(StringInfo out, const TqlScalar *scalar)
{
	static const char *const names[] = {"count", "avg", "max", "min", "sum"};

	check_stack_depth();
	switch (scalar->kind)
	{
		case TQL_SC_AGGREGATE:
			appendStringInfo(out, "%s(", names[scalar->aggregate]);
			if (scalar->argument)
				print_expr(out, scalar->argument);
			appendStringInfoChar(out, ')');
			break;
		case TQL_SC_LITERAL:
			appendStringInfoString(out, tql_print_static(&scalar->literal));
			break;
		case TQL_SC_OPERATION:
			appendStringInfoChar(out, '(');
			print_scalar(out, scalar->left);
			appendStringInfo(out, ") %s (", tql_op_text(scalar->op));
			print_scalar(out, scalar->right);
			appendStringInfoChar(out, ')');
			break;
		case TQL_SC_PIPELINE:
			print_pipeline(out, scalar->pipeline);
			break;
	}
}

static void
print_attributes(StringInfo out, const List *attributes, const char *separator)
{
	ListCell *lc;

	foreach (lc, attributes)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(out, separator);
		print_attribute(out, lfirst(lc));
	}
}

/* An operand of a scalar filter: a literal stands bare, all else in parentheses. */
static void
print_scalar_side(StringInfo out, const TqlScalar *scalar)
{
	bool bare = scalar->kind == TQL_SC_LITERAL;

	if (!bare)
		appendStringInfoChar(out, '(');
	print_scalar(out, scalar);
	if (!bare)
		appendStringInfoChar(out, ')');
}

static void
print_stage(StringInfo out, const TqlStage *stage)
{
	switch (stage->kind)
	{
		case TQL_ST_SPANSET:
			print_spanset(out, stage->spanset);
			break;
		case TQL_ST_SCALAR_FILTER:
			print_scalar_side(out, stage->left);
			appendStringInfo(out, " %s ", tql_op_text(stage->op));
			print_scalar_side(out, stage->right);
			break;
		case TQL_ST_BY:
			appendStringInfoString(out, "by(");
			print_expr(out, stage->by);
			appendStringInfoChar(out, ')');
			break;
		case TQL_ST_SELECT:
			appendStringInfoString(out, "select(");
			print_attributes(out, stage->attributes, ", ");
			appendStringInfoChar(out, ')');
			break;
		case TQL_ST_COALESCE:
			appendStringInfoString(out, "coalesce()");
			break;
	}
}

static void
print_pipeline(StringInfo out, const List *pipeline)
{
	ListCell *lc;

	check_stack_depth();
	foreach (lc, pipeline)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoChar(out, '|');
		print_stage(out, lfirst(lc));
	}
}

static void
print_metrics(StringInfo out, const TqlMetrics *metrics)
{
	static const char *const names[] = {
		"rate", "count_over_time", "min_over_time", "max_over_time", "avg_over_time",
		"sum_over_time", "quantile_over_time", "histogram_over_time", "compare"};
	ListCell *lc;

	appendStringInfo(out, "%s(", names[metrics->function]);
	if (metrics->argument)
		print_attribute(out, metrics->argument);
	foreach (lc, metrics->quantiles)
	{
		double q = tql_number(lfirst(lc));
		char  *text = psprintf("%.5f", q);

		appendStringInfo(out, ",%s", strtod(text, NULL) == q ? text : tql_print_double(q));
	}
	if (metrics->compare)
	{
		print_filter(out, metrics->compare);
		foreach (lc, metrics->compare_args)
			appendStringInfo(out, ", %s", tql_print_static(lfirst(lc)));
	}
	appendStringInfoChar(out, ')');
	if (metrics->by != NIL)
	{
		appendStringInfoString(out, "by(");
		print_attributes(out, metrics->by, ",");
		appendStringInfoChar(out, ')');
	}
}

static void
print_second(StringInfo out, const List *second)
{
	ListCell *lc;

	foreach (lc, second)
	{
		const TqlSecond *s = lfirst(lc);

		if (s->kind == TQL_2_FILTER)
			appendStringInfo(out, " %s %s", tql_op_text(s->op), tql_print_static(&s->value));
		else
			appendStringInfo(out, " | %s(" INT64_FORMAT ")",
			                 s->kind == TQL_2_TOPK ? "topk" : "bottomk", s->limit);
	}
}

/*
 * "outer" is the operator whose operand this is: queries and operations then
 * take parentheses, and so does a negative number before * and /.
 */
static void
print_metrics_expr(StringInfo out, const TqlMetricsExpr *m, TqlOp outer)
{
	bool parens = outer != TQL_OP_NONE &&
	              (m->kind != TQL_ME_LITERAL || ((outer == TQL_MUL || outer == TQL_DIV) && is_negative(&m->literal)));

	check_stack_depth();
	if (parens)
		appendStringInfoChar(out, '(');
	switch (m->kind)
	{
		case TQL_ME_LITERAL:
			appendStringInfoString(out, tql_print_static(&m->literal));
			break;
		case TQL_ME_QUERY:
			print_pipeline(out, m->pipeline);
			appendStringInfoString(out, " | ");
			print_metrics(out, m->metrics);
			print_second(out, m->second);
			break;
		case TQL_ME_OPERATION:
			print_metrics_expr(out, m->left, m->op);
			appendStringInfo(out, " %s ", tql_op_text(m->op));
			/* what is behind the operator holds together */
			print_metrics_expr(out, m->right, TQL_ADD);
			break;
	}
	if (parens)
		appendStringInfoChar(out, ')');
}

char *
tql_print_query(const TqlQuery *query)
{
	StringInfoData out;
	ListCell      *lc;

	initStringInfo(&out);
	if (query->metrics)
		print_metrics_expr(&out, query->metrics, TQL_OP_NONE);
	else
		print_pipeline(&out, query->pipeline);
	print_second(&out, query->second);
	if (query->hints != NIL)
	{
		appendStringInfoString(&out, " with(");
		foreach (lc, query->hints)
		{
			const TqlHint *hint = lfirst(lc);

			appendStringInfo(&out, "%s%s=%s", foreach_current_index(lc) ? "," : "",
			                 hint->name, tql_print_static(&hint->value));
		}
		appendStringInfoChar(&out, ')');
	}
	return out.data;
}

char *
tql_print_pipeline(const List *pipeline)
{
	StringInfoData out;

	initStringInfo(&out);
	print_pipeline(&out, pipeline);
	return out.data;
}

char *
tql_print_expr(const TqlExpr *expr)
{
	StringInfoData out;

	initStringInfo(&out);
	print_expr(&out, expr);
	return out.data;
}

char *
tql_print_attribute(const TqlAttribute *attribute)
{
	StringInfoData out;

	initStringInfo(&out);
	print_attribute(&out, attribute);
	return out.data;
}

char *
tql_print_scalar(const TqlScalar *scalar)
{
	StringInfoData out;

	initStringInfo(&out);
	print_scalar(&out, scalar);
	return out.data;
}
