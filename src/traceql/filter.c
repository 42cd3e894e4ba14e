/*-------------------------------------------------------------------------
 *
 * filter.c
 *	  The expression of a spanset filter as SQL over the columns of
 *	  tempo.spans (alias "s").
 *
 * Conditions are boolean SQL that is never NULL, except where "nullable"
 * says that the surroundings take NULL for false anyway: then comparisons of
 * service_name stay plain.  A conjunction of comparisons becomes a plain AND
 * of simple terms, which is what the scan of the table can use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/to_sql.h"
#include "traceql/value.h"
#include "utils/builtins.h"

/* How a value is represented in SQL. */
typedef enum SqlForm
{
	SQL_JSONB,
	SQL_TEXT,
	SQL_DURATION, /* bigint */
	SQL_BOOL,
	SQL_STATUS, /* text, one of the words */
	SQL_KIND,
	SQL_ID /* an id type, hexadecimal digits as text */
} SqlForm;

/* hex digits of an id */
#define TRACE_ID_DIGITS 32
#define SPAN_ID_DIGITS 16

static char *condition(const TqlExpr *e, bool nullable);
static char *value_jsonb(const TqlExpr *e);

void
tql_unsupported(const char *construct)
{
	ereport(ERROR,
	        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	         errmsg("not supported yet: %s", construct)));
}

char *
tql_literal_jsonb(const TqlStatic *value)
{
	TqlValue v;
	Jsonb   *jb;

	tql_value_from_static(value, &v);
	if (v.type == TQL_V_DURATION)
		v.type = TQL_V_INT;
	/* no attribute is a status or a kind: these become null, which equals nothing */
	jb = tql_value_to_jsonb(&v);
	return psprintf("%s::jsonb", quote_literal_cstr(JsonbToCString(NULL, &jb->root, VARSIZE(jb))));
}

static bool
is_unscoped_service_name(const TqlAttribute *a)
{
	return a->intrinsic == TQL_ATTRIBUTE && a->scope == TQL_SCOPE_NONE && strcmp(a->name, "service.name") == 0;
}

/* How an attribute or intrinsic is stored. */
static SqlForm
attribute_form(const TqlAttribute *a)
{
	switch (a->intrinsic)
	{
		case TQL_ATTRIBUTE:
			return tql_is_service_name(a) ? SQL_TEXT : SQL_JSONB;
		case TQL_I_DURATION:
			return SQL_DURATION;
		case TQL_I_NAME:
		case TQL_I_STATUS_MESSAGE:
		case TQL_I_INSTRUMENTATION_NAME:
		case TQL_I_INSTRUMENTATION_VERSION:
			return SQL_TEXT;
		case TQL_I_STATUS:
			return SQL_STATUS;
		case TQL_I_KIND:
			return SQL_KIND;
		case TQL_I_TRACE_ID:
		case TQL_I_SPAN_ID:
		case TQL_I_PARENT_ID:
			return SQL_ID;
		default:
			tql_unsupported(tql_print_attribute(a));
	}
	return SQL_JSONB;
}

/* The column or look-up itself; a service name may be NULL. */
static char *
attribute_sql(const TqlAttribute *a)
{
	const char *key;

	switch (a->intrinsic)
	{
		case TQL_I_DURATION:
			return pstrdup("s.duration_nano");
		case TQL_I_NAME:
			return pstrdup("s.name");
		case TQL_I_STATUS_MESSAGE:
			return pstrdup("s.status_message");
		case TQL_I_INSTRUMENTATION_NAME:
			return pstrdup("s.scope_name");
		case TQL_I_INSTRUMENTATION_VERSION:
			return pstrdup("s.scope_version");
		case TQL_I_STATUS:
			return pstrdup("s.status");
		case TQL_I_KIND:
			return pstrdup("s.kind");
		case TQL_I_TRACE_ID:
			return pstrdup("s.trace_id");
		case TQL_I_SPAN_ID:
			return pstrdup("s.span_id");
		case TQL_I_PARENT_ID:
			return pstrdup("s.parent_span_id");
		case TQL_ATTRIBUTE:
			break;
		default:
			tql_unsupported(tql_print_attribute(a));
	}

	if (tql_is_service_name(a))
		return pstrdup("s.service_name");
	key = quote_literal_cstr(a->name);
	switch (a->scope)
	{
		case TQL_SCOPE_SPAN:
			return psprintf("tempo.attr(s.attributes, s.resource_attributes, 'span', %s)", key);
		case TQL_SCOPE_RESOURCE:
			return psprintf("tempo.attr(s.attributes, s.resource_attributes, 'resource', %s)", key);
		case TQL_SCOPE_NONE:
			if (is_unscoped_service_name(a))
				return psprintf("coalesce(tempo.attr(s.attributes, s.resource_attributes, 'any', %s), '\"\"'::jsonb)", key);
			return psprintf("tempo.attr(s.attributes, s.resource_attributes, 'any', %s)", key);
		case TQL_SCOPE_INSTRUMENTATION:
			return psprintf("tempo.attr(s.scope_attributes, NULL, 'span', %s)", key);
		default:
			tql_unsupported(tql_print_attribute(a));
	}
	return NULL;
}

/* Text that is never NULL, and only a word that TraceQL knows. */
static char *
attribute_text(const TqlAttribute *a)
{
	switch (attribute_form(a))
	{
		case SQL_STATUS:
			return pstrdup("CASE WHEN s.status IN ('error', 'ok') THEN s.status ELSE 'unset' END");
		case SQL_KIND:
			return pstrdup("CASE WHEN s.kind IN ('internal', 'server', 'client', 'producer', 'consumer') THEN s.kind ELSE 'unspecified' END");
		case SQL_ID:
			if (a->intrinsic == TQL_I_PARENT_ID)
				return pstrdup("coalesce(s.parent_span_id::text, '0000000000000000')");
			return psprintf("%s::text", attribute_sql(a));
		case SQL_TEXT:
			if (tql_is_service_name(a))
				return pstrdup("coalesce(s.service_name, '')");
			return attribute_sql(a);
		default:
			elog(ERROR, "unexpected form of a TraceQL value");
	}
	return NULL;
}

/* What an expression is before it is converted: only attributes and booleans have a form of their own. */
static SqlForm
expr_form(const TqlExpr *e)
{
	switch (e->kind)
	{
		case TQL_E_STATIC:
			return SQL_JSONB;
		case TQL_E_ATTRIBUTE:
			return attribute_form(&e->attribute);
		case TQL_E_UNARY:
			return e->op == TQL_NEG ? SQL_JSONB : SQL_BOOL;
		case TQL_E_BINARY:
			return tql_op_is_arithmetic(e->op) ? SQL_JSONB : SQL_BOOL;
		case TQL_E_LIST:
			return SQL_BOOL;
	}
	return SQL_JSONB;
}

/* An operand of arithmetic: durations count as doubles, whatever they meet. */
static char *
operand_jsonb(const TqlExpr *e)
{
	if (tql_expr_type(e) != TQL_DURATION)
		return value_jsonb(e);
	if (e->kind == TQL_E_STATIC)
	{
		TqlStatic d = tql_float((double) e->value.n);

		return tql_literal_jsonb(&d);
	}
	return psprintf("tempo.calc(%s, '+', '0.0'::jsonb)", value_jsonb(e));
}

/* Any expression as jsonb, SQL NULL for nil. */
static char *
value_jsonb(const TqlExpr *e)
{
	check_stack_depth();
	if (e->kind == TQL_E_STATIC)
		return tql_literal_jsonb(&e->value);
	switch (expr_form(e))
	{
		case SQL_BOOL:
			return psprintf("to_jsonb(%s)", condition(e, false));
		case SQL_DURATION:
			return pstrdup("to_jsonb(greatest(s.duration_nano, 0))");
		case SQL_TEXT:
		case SQL_STATUS:
		case SQL_KIND:
		case SQL_ID:
			return psprintf("to_jsonb(%s)", attribute_text(&e->attribute));
		case SQL_JSONB:
			break;
	}
	if (e->kind == TQL_E_ATTRIBUTE)
		return attribute_sql(&e->attribute);
	if (e->kind == TQL_E_UNARY)
		return psprintf("tempo.calc('-1'::jsonb, '*', %s)", value_jsonb(e->left));
	return psprintf("tempo.calc(%s, '%s', %s)", operand_jsonb(e->left), tql_op_text(e->op), operand_jsonb(e->right));
}

/* duration op n, where durations below 0 count as 0 */
static char *
duration_condition(TqlOp op, int64 n)
{
	switch (op)
	{
		case TQL_GT:
			return n < 0 ? pstrdup("true") : psprintf("s.duration_nano > " INT64_FORMAT, n);
		case TQL_GE:
			return n <= 0 ? pstrdup("true") : psprintf("s.duration_nano >= " INT64_FORMAT, n);
		case TQL_LT:
			return n <= 0 ? pstrdup("false") : psprintf("s.duration_nano < " INT64_FORMAT, n);
		case TQL_LE:
			return n < 0 ? pstrdup("false") : psprintf("s.duration_nano <= " INT64_FORMAT, n);
		case TQL_EQ:
			if (n <= 0)
				return pstrdup(n < 0 ? "false" : "s.duration_nano <= 0");
			return psprintf("s.duration_nano = " INT64_FORMAT, n);
		case TQL_NE:
			if (n <= 0)
				return pstrdup(n < 0 ? "true" : "s.duration_nano > 0");
			return psprintf("s.duration_nano <> " INT64_FORMAT, n);
		default:
			return pstrdup("false");
	}
}

/* duration op literal: a fraction of a nanosecond moves the bound to the next integer */
static char *
duration_literal(TqlOp op, const TqlStatic *literal)
{
	double d;

	if (literal->type != TQL_FLOAT)
		return duration_condition(op, literal->n);
	d = literal->d;
	if (d >= 9223372036854775807.0)
		return pstrdup(op == TQL_LT || op == TQL_LE || op == TQL_NE ? "true" : "false");
	if (d < 0)
		return duration_condition(op, -1);
	if (d == floor(d))
		return duration_condition(op, (int64) d);
	if (op == TQL_EQ || op == TQL_NE)
		return pstrdup(op == TQL_NE ? "true" : "false");
	/* d is above floor(d) and below ceil(d) */
	if (op == TQL_GT || op == TQL_GE)
		return duration_condition(TQL_GE, (int64) ceil(d));
	return duration_condition(TQL_LT, (int64) ceil(d));
}

static const char *
sql_operator(TqlOp op)
{
	return op == TQL_NE ? "<>" : tql_op_text(op);
}

/* Two SQL texts; order is that of the bytes. */
static char *
text_condition(const char *left, TqlOp op, const char *right)
{
	if (op == TQL_EQ || op == TQL_NE)
		return psprintf("%s %s %s", left, sql_operator(op), right);
	return psprintf("%s COLLATE \"C\" %s %s", left, sql_operator(op), right);
}

static char *
text_literal(const TqlAttribute *a, TqlOp op, const char *literal, bool nullable)
{
	const char *text = attribute_text(a);

	if (op == TQL_RE || op == TQL_NRE)
		return psprintf("tempo.match_re(%s, %s, %s)", text, quote_literal_cstr(literal), op == TQL_NRE ? "true" : "false");
	/* a missing service name reads as '', which a plain comparison with another text rejects, too */
	if (tql_is_service_name(a) && nullable && op == TQL_EQ && literal[0] != '\0')
		text = attribute_sql(a);
	return text_condition(text, op, quote_literal_cstr(literal));
}

/*
 * The literal as an id of "digits" hexadecimal digits; NULL if it is none.
 * Case and leading zeros do not count.
 */
char *
tql_read_id(const char *literal, int digits)
{
	char *id = palloc(digits + 1);
	int   len = strlen(literal);

	if (len == 0 || strspn(literal, "0123456789abcdefABCDEF") != len)
		return NULL;
	while (len > digits && *literal == '0')
	{
		literal++;
		len--;
	}
	if (len > digits)
		return NULL;
	memset(id, '0', digits);
	for (int i = 0; i < len; i++)
		id[digits - len + i] = pg_ascii_tolower((unsigned char) literal[i]);
	id[digits] = '\0';
	return id;
}

static char *
id_literal(const TqlAttribute *a, TqlOp op, const char *literal)
{
	bool        trace = a->intrinsic == TQL_I_TRACE_ID;
	const char *type = trace ? "tempo.trace_id" : "tempo.span_id";
	char       *id;

	if (op == TQL_RE || op == TQL_NRE)
		return psprintf("tempo.match_re(%s, %s, %s)", attribute_text(a), quote_literal_cstr(literal),
		                op == TQL_NRE ? "true" : "false");
	if (op != TQL_EQ && op != TQL_NE)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("operator not supported for IDs: %s", tql_op_text(op))));
	id = tql_read_id(literal, trace ? TRACE_ID_DIGITS : SPAN_ID_DIGITS);
	if (id == NULL)
		return pstrdup(op == TQL_NE ? "true" : "false");
	if (a->intrinsic == TQL_I_PARENT_ID)
	{
		/* roots read as all zeros */
		if (strspn(id, "0") == SPAN_ID_DIGITS)
			return psprintf("s.parent_span_id IS %sNULL", op == TQL_EQ ? "" : "NOT ");
		return psprintf("s.parent_span_id IS %sDISTINCT FROM '%s'::%s", op == TQL_EQ ? "NOT " : "", id, type);
	}
	return psprintf("%s %s '%s'::%s", attribute_sql(a), sql_operator(op), id, type);
}

/* status or kind against one of its words; numbers that OTLP does not know read as the first word */
static char *
word_literal(const TqlAttribute *a, TqlOp op, const TqlStatic *literal)
{
	const char *column = attribute_sql(a);

	if (literal->type == TQL_STATUS && literal->n == TQL_STATUS_UNSET)
		return psprintf("%s %s ('error', 'ok')", column, op == TQL_EQ ? "NOT IN" : "IN");
	if (literal->type == TQL_KIND && literal->n == TQL_KIND_UNSPECIFIED)
		return psprintf("%s %s ('internal', 'server', 'client', 'producer', 'consumer')",
		                column, op == TQL_EQ ? "NOT IN" : "IN");
	return psprintf("%s %s '%s'", column, sql_operator(op),
	                literal->type == TQL_STATUS ? tql_status_text(literal->n) : tql_kind_text(literal->n));
}

/* attribute op literal */
static char *
attribute_literal(const TqlExpr *attribute, TqlOp op, const TqlStatic *literal, bool nullable)
{
	const TqlAttribute *a = &attribute->attribute;

	switch (attribute_form(a))
	{
		case SQL_TEXT:
			if (literal->type != TQL_STRING)
				return pstrdup("false");
			return text_literal(a, op, literal->s, nullable);
		case SQL_ID:
			if (literal->type != TQL_STRING)
				return pstrdup("false");
			return id_literal(a, op, literal->s);
		case SQL_DURATION:
			if (!tql_type_is_numeric(literal->type))
				return pstrdup("false");
			return duration_literal(op, literal);
		case SQL_STATUS:
		case SQL_KIND:
			if (literal->type != tql_intrinsic_type(a->intrinsic))
				return pstrdup("false");
			return word_literal(a, op, literal);
		case SQL_JSONB:
		case SQL_BOOL:
			break;
	}
	if (literal->type == TQL_STATUS || literal->type == TQL_KIND)
		return pstrdup("false"); /* no attribute has these types */
	if (op == TQL_RE || op == TQL_NRE)
		return psprintf("tempo.match_re(%s, %s, %s)", attribute_sql(a), quote_literal_cstr(literal->s),
		                op == TQL_NRE ? "true" : "false");
	return psprintf("tempo.match(%s, '%s', %s)", attribute_sql(a), tql_op_text(op), tql_literal_jsonb(literal));
}

/* a op b is b mirror(op) a */
TqlOp
tql_mirror(TqlOp op)
{
	switch (op)
	{
		case TQL_LT:
			return TQL_GT;
		case TQL_LE:
			return TQL_GE;
		case TQL_GT:
			return TQL_LT;
		case TQL_GE:
			return TQL_LE;
		default:
			return op;
	}
}

static char *
comparison(const TqlExpr *e, bool nullable)
{
	const TqlExpr *left = e->left;
	const TqlExpr *right = e->right;
	TqlOp          op = e->op;
	TqlType        left_type;
	TqlType        right_type;

	if (left->kind == TQL_E_STATIC && right->kind != TQL_E_STATIC && op != TQL_RE && op != TQL_NRE)
	{
		left = e->right;
		right = e->left;
		op = tql_mirror(op);
	}
	if (left->kind == TQL_E_ATTRIBUTE && right->kind == TQL_E_STATIC)
		return attribute_literal(left, op, &right->value, nullable);
	if (op == TQL_RE || op == TQL_NRE)
		return psprintf("tempo.match_re(%s, %s, %s)", value_jsonb(left), quote_literal_cstr(right->value.s),
		                op == TQL_NRE ? "true" : "false");

	left_type = tql_expr_type(left);
	right_type = tql_expr_type(right);
	if (left_type == TQL_STATUS || left_type == TQL_KIND || right_type == TQL_STATUS || right_type == TQL_KIND)
	{
		/* a status equals a status only */
		if (left_type != right_type || left->kind != TQL_E_ATTRIBUTE || right->kind != TQL_E_ATTRIBUTE)
			return pstrdup("false");
		return psprintf("(%s) %s (%s)", attribute_text(&left->attribute), sql_operator(op), attribute_text(&right->attribute));
	}
	if (expr_form(left) == SQL_BOOL && expr_form(right) == SQL_BOOL)
		return psprintf("(%s) %s (%s)", condition(left, false), sql_operator(op), condition(right, false));
	if (expr_form(left) == SQL_BOOL && right->kind == TQL_E_STATIC && right_type == TQL_BOOL)
		return psprintf("(%s) %s %s", condition(left, false), sql_operator(op), right->value.n ? "true" : "false");
	if (expr_form(left) == SQL_TEXT && expr_form(right) == SQL_TEXT)
		return text_condition(attribute_text(&left->attribute), op, attribute_text(&right->attribute));
	return psprintf("tempo.match(%s, '%s', %s)", value_jsonb(left), tql_op_text(op), value_jsonb(right));
}

/* attribute IN [...] and its relatives, element by element */
static char *
list_condition(const TqlExpr *e, bool nullable)
{
	StringInfoData out;
	ListCell      *lc;
	TqlOp          op;
	bool           all = e->op == TQL_NOT_IN || e->op == TQL_RE_NONE;

	switch (e->op)
	{
		case TQL_IN:
			op = TQL_EQ;
			break;
		case TQL_NOT_IN:
			op = TQL_NE;
			break;
		case TQL_RE_ANY:
			op = TQL_RE;
			break;
		default:
			op = TQL_NRE;
			break;
	}
	initStringInfo(&out);
	appendStringInfoChar(&out, '(');
	foreach (lc, e->list)
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) == 0 ? "" : all ? " AND " :
		                                                                           " OR ",
		                 attribute_literal(e->left, op, lfirst(lc), nullable));
	appendStringInfoChar(&out, ')');
	return out.data;
}

/* The operands of a chain of one operator, left to right; not recursive, as chains may be long. */
static List *
chain_operands(const TqlExpr *e, TqlOp op)
{
	List *operands = NIL;

	for (; e->kind == TQL_E_BINARY && e->op == op; e = e->left)
		operands = lcons(e->right, operands);
	return lcons(unconstify(TqlExpr *, e), operands);
}

static char *
junction(const TqlExpr *e, bool nullable)
{
	StringInfoData out;
	ListCell      *lc;

	initStringInfo(&out);
	appendStringInfoChar(&out, '(');
	foreach (lc, chain_operands(e, e->op))
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) == 0 ? "" : e->op == TQL_AND ? " AND " :
		                                                                                        " OR ",
		                 condition(lfirst(lc), nullable));
	appendStringInfoChar(&out, ')');
	return out.data;
}

/* x = nil, x != nil: does the span have the key? */
static char *
nil_test(const TqlExpr *e)
{
	bool wanted = e->op == TQL_EXISTS;

	if (e->left->kind != TQL_E_ATTRIBUTE || attribute_form(&e->left->attribute) != SQL_JSONB ||
	    is_unscoped_service_name(&e->left->attribute))
	{
		/* intrinsics and computed values are never nil; compile them for their errors */
		(void) value_jsonb(e->left);
		return pstrdup(wanted ? "true" : "false");
	}
	return psprintf("%s IS %sNULL", attribute_sql(&e->left->attribute), wanted ? "NOT " : "");
}

/* An expression as a condition: is it the boolean true? */
static char *
condition(const TqlExpr *e, bool nullable)
{
	check_stack_depth();
	switch (e->kind)
	{
		case TQL_E_STATIC:
			return pstrdup(e->value.type == TQL_BOOL && e->value.n ? "true" : "false");
		case TQL_E_ATTRIBUTE:
			if (attribute_form(&e->attribute) != SQL_JSONB)
				return pstrdup("false");
			return psprintf("tempo.truth(%s) IS TRUE", attribute_sql(&e->attribute));
		case TQL_E_LIST:
			return list_condition(e, nullable);
		case TQL_E_UNARY:
			if (e->op == TQL_EXISTS || e->op == TQL_NOT_EXISTS)
				return nil_test(e);
			if (e->op == TQL_NOT && expr_form(e->left) == SQL_BOOL)
				return psprintf("NOT (%s)", condition(e->left, false));
			if (e->op == TQL_NOT)
				return psprintf("tempo.truth(%s) IS FALSE", value_jsonb(e->left));
			break;
		case TQL_E_BINARY:
			if (e->op == TQL_AND || e->op == TQL_OR)
				return junction(e, nullable);
			if (tql_op_is_comparison(e->op))
				return comparison(e, nullable);
			break;
	}
	return psprintf("tempo.truth(%s) IS TRUE", value_jsonb(e));
}

/* Can the expression be an integer (as opposed to a double)? */
static bool
may_be_integer(const TqlExpr *e)
{
	TqlType type = tql_expr_type(e);

	return type == TQL_INT || type == TQL_DYNAMIC;
}

/* Collects a test for each division whose integer divisor may be 0. */
static List *
zero_divisions(const TqlExpr *e, List *tests)
{
	check_stack_depth();
	if (e->kind == TQL_E_UNARY || e->kind == TQL_E_LIST)
		return zero_divisions(e->left, tests);
	if (e->kind != TQL_E_BINARY)
		return tests;
	tests = zero_divisions(e->left, tests);
	tests = zero_divisions(e->right, tests);
	if ((e->op == TQL_DIV || e->op == TQL_MOD) && may_be_integer(e->left) && may_be_integer(e->right) &&
	    !(e->right->kind == TQL_E_STATIC && e->right->value.n != 0))
		tests = lappend(tests, psprintf("NOT tempo.divides_by_zero(%s, %s)",
		                                operand_jsonb(e->left), operand_jsonb(e->right)));
	return tests;
}

char *
tql_filter_sql(const TqlExpr *filter)
{
	StringInfoData out;
	ListCell      *lc;

	initStringInfo(&out);
	foreach (lc, chain_operands(filter, TQL_AND))
		appendStringInfo(&out, "%s%s", foreach_current_index(lc) ? " AND " : "", condition(lfirst(lc), true));
	foreach (lc, zero_divisions(filter, NIL))
		appendStringInfo(&out, " AND %s", (char *) lfirst(lc));
	return out.data;
}

char *
tql_attribute_jsonb(const TqlAttribute *attribute)
{
	return value_jsonb(tql_make_attribute(*attribute));
}

char *
tql_attribute_text(const TqlAttribute *attribute)
{
	return attribute_text(attribute);
}
