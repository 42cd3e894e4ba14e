/*-------------------------------------------------------------------------
 *
 * candidates.c
 *	  Conditions on single spans that a trace must meet to match a query.
 *
 * A pipeline matches no trace that lacks a span for one of the filters it
 * needs.  Of each filter that part is taken that filter.c can put into SQL;
 * what depends on the trace, on events or on links is weakened to a condition
 * that holds wherever the original does, or left out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/regex.h"
#include "traceql/to_sql.h"
#include "traceql/value.h"
#include "utils/builtins.h"
#include "utils/json.h"

typedef enum NeedKind
{
	NEED_NOTHING,    /* any trace may match */
	NEED_IMPOSSIBLE, /* none can */
	NEED_SPAN,       /* a span that meets "sql" */
	NEED_ALL,        /* of "parts" */
	NEED_ANY
} NeedKind;

typedef struct Need
{
	NeedKind kind;
	char    *sql;
	List    *parts;
} Need;

static Need *need_of_pipeline(const List *pipeline);

static Need *
make_need(NeedKind kind, char *sql)
{
	Need *need = palloc0(sizeof(Need));

	need->kind = kind;
	need->sql = sql;
	return need;
}

/* Both, or either */
static Need *
combine(NeedKind kind, Need *a, Need *b)
{
	NeedKind neutral = kind == NEED_ALL ? NEED_NOTHING : NEED_IMPOSSIBLE;
	NeedKind decisive = kind == NEED_ALL ? NEED_IMPOSSIBLE : NEED_NOTHING;
	Need    *need;

	if (a->kind == neutral || b->kind == decisive)
		return b;
	if (b->kind == neutral || a->kind == decisive)
		return a;
	if (a->kind == NEED_SPAN && b->kind == NEED_SPAN && strcmp(a->sql, b->sql) == 0)
		return a;
	need = make_need(kind, NULL);
	need->parts = list_make2(a, b);
	return need;
}

/* --------------------------------------------------------------- filters */

static bool
is_plain_attribute(const TqlAttribute *a)
{
	switch (a->intrinsic)
	{
		case TQL_ATTRIBUTE:
			return !a->parent && (a->scope == TQL_SCOPE_NONE || a->scope == TQL_SCOPE_SPAN ||
			                      a->scope == TQL_SCOPE_RESOURCE || a->scope == TQL_SCOPE_INSTRUMENTATION);
		case TQL_I_DURATION:
		case TQL_I_NAME:
		case TQL_I_STATUS:
		case TQL_I_STATUS_MESSAGE:
		case TQL_I_KIND:
		case TQL_I_TRACE_ID:
		case TQL_I_SPAN_ID:
		case TQL_I_PARENT_ID:
		case TQL_I_INSTRUMENTATION_NAME:
		case TQL_I_INSTRUMENTATION_VERSION:
			return true;
		default:
			return false;
	}
}

/* Can all of it be said in SQL about one row of tempo.spans? */
bool
tql_is_plain(const TqlExpr *e)
{
	check_stack_depth();
	for (; e->kind == TQL_E_BINARY; e = e->left)
	{
		if (!tql_is_plain(e->right))
			return false;
	}
	if (e->kind == TQL_E_ATTRIBUTE)
		return is_plain_attribute(&e->attribute);
	return e->kind == TQL_E_STATIC || tql_is_plain(e->left);
}

bool
tql_is_plain_attribute(const TqlAttribute *attribute)
{
	return is_plain_attribute(attribute);
}

/* attribute op literal, either way round */
static bool
is_comparison(const TqlExpr *e, const TqlAttribute **attribute, TqlOp *op, const TqlStatic **literal)
{
	if (e->kind != TQL_E_BINARY || !tql_op_is_comparison(e->op))
		return false;
	*op = e->op;
	if (e->left->kind == TQL_E_ATTRIBUTE && e->right->kind == TQL_E_STATIC)
	{
		*attribute = &e->left->attribute;
		*literal = &e->right->value;
		return true;
	}
	if (e->right->kind == TQL_E_ATTRIBUTE && e->left->kind == TQL_E_STATIC)
	{
		*attribute = &e->right->attribute;
		*literal = &e->left->value;
		*op = tql_mirror(*op);
		return true;
	}
	return false;
}

static char *
event_named(const char *name)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "[{\"name\": ");
	escape_json(&json, name);
	appendStringInfoString(&json, "}]");
	return psprintf("s.events @> %s::jsonb", quote_literal_cstr(json.data));
}

/* A condition on an attribute of events, met by any of them */
static char *
event_attribute(const TqlAttribute *a, TqlOp op, const TqlStatic *literal)
{
	if (literal->type == TQL_STATUS || literal->type == TQL_KIND)
		return pstrdup("false"); /* no attribute has these types */
	if (op == TQL_RE || op == TQL_NRE)
		return psprintf("tempo.event_match_re(s.events, %s, %s, %s)", quote_literal_cstr(a->name),
		                quote_literal_cstr(literal->s), op == TQL_NRE ? "true" : "false");
	return psprintf("tempo.event_match(s.events, %s, '%s', %s)", quote_literal_cstr(a->name), tql_op_text(op),
	                tql_literal_jsonb(literal));
}

/* A condition that mentions events or links needs one; names and attributes of events can be looked for. */
static char *
weaken_lists(const TqlExpr *e)
{
	const TqlAttribute *attribute;
	const TqlStatic    *literal;
	TqlOp               op;

	if (is_comparison(e, &attribute, &op, &literal) && op == TQL_EQ &&
	    attribute->intrinsic == TQL_I_EVENT_NAME && literal->type == TQL_STRING)
		return event_named(literal->s);
	if (is_comparison(e, &attribute, &op, &literal) && attribute->scope == TQL_SCOPE_EVENT &&
	    attribute->intrinsic == TQL_ATTRIBUTE)
		return event_attribute(attribute, op, literal);
	if (e->kind == TQL_E_LIST && e->op == TQL_IN && e->left->attribute.intrinsic == TQL_I_EVENT_NAME &&
	    ((TqlStatic *) linitial(e->list))->type == TQL_STRING)
	{
		StringInfoData out;
		ListCell      *lc;

		initStringInfo(&out);
		foreach (lc, e->list)
			appendStringInfo(&out, "%s%s", foreach_current_index(lc) ? " OR " : "(",
			                 event_named(((TqlStatic *) lfirst(lc))->s));
		appendStringInfoChar(&out, ')');
		return out.data;
	}
	return pstrdup(e->mentions & TQL_MENTIONS_EVENT ? "s.events <> '[]'" : "s.links <> '[]'");
}

/* SQL that holds for every span for which the expression does; NULL if there is none. */
static char *
weaken(const TqlExpr *e)
{
	const TqlAttribute *attribute;
	const TqlStatic    *literal;
	TqlOp               op;

	check_stack_depth();
	if (tql_is_plain(e))
		return tql_filter_sql(e);
	if (e->kind == TQL_E_BINARY && (e->op == TQL_AND || e->op == TQL_OR))
	{
		char *left = weaken(e->left);
		char *right = weaken(e->right);

		if (left && right)
			return psprintf("(%s%s%s)", left, e->op == TQL_AND ? " AND " : " OR ", right);
		return e->op == TQL_OR ? NULL : left ? left :
		                                       right;
	}
	if (is_comparison(e, &attribute, &op, &literal) && attribute->intrinsic == TQL_I_NESTED_SET_PARENT &&
	    ((op == TQL_EQ && tql_number(literal) == -1) || (op == TQL_LT && tql_number(literal) <= 0)))
		return pstrdup("s.parent_span_id IS NULL");
	if ((e->mentions & (TQL_MENTIONS_EVENT | TQL_MENTIONS_LINK)) &&
	    (e->kind == TQL_E_ATTRIBUTE || e->kind == TQL_E_LIST ||
	     (e->kind == TQL_E_UNARY && (e->op == TQL_EXISTS || e->op == TQL_NOT_EXISTS) && e->left->kind == TQL_E_ATTRIBUTE) ||
	     is_comparison(e, &attribute, &op, &literal)))
		return weaken_lists(e);
	return NULL;
}

/* A root that has the name or service that the condition asks for. */
static Need *
need_of_root(const TqlExpr *e)
{
	const TqlAttribute *attribute;
	const TqlStatic    *literal;
	const char         *column;
	TqlOp               op;

	if (!is_comparison(e, &attribute, &op, &literal) || literal->type != TQL_STRING)
		return NULL;
	if (attribute->intrinsic == TQL_I_ROOT_NAME)
		column = "s.name";
	else if (attribute->intrinsic == TQL_I_ROOT_SERVICE_NAME)
		column = "s.service_name";
	else
		return NULL;
	/* a trace without root reads as '' */
	if (op == TQL_EQ && literal->s[0] != '\0')
		return make_need(NEED_SPAN, psprintf("s.parent_span_id IS NULL AND %s = %s", column, quote_literal_cstr(literal->s)));
	return NULL;
}

static Need *
need_of_filter(const TqlExpr *filter)
{
	StringInfoData sql;
	Need          *need = make_need(NEED_NOTHING, NULL);
	const TqlExpr *e = filter;

	if (tql_is_plain(filter))
	{
		if (filter->kind == TQL_E_STATIC)
			return make_need(filter->value.type == TQL_BOOL && filter->value.n ? NEED_NOTHING : NEED_IMPOSSIBLE, NULL);
		return make_need(NEED_SPAN, tql_filter_sql(filter));
	}
	initStringInfo(&sql);
	for (;;)
	{
		bool           more = e->kind == TQL_E_BINARY && e->op == TQL_AND;
		const TqlExpr *part = more ? e->right : e;
		Need          *root = need_of_root(part);
		char          *weak = root ? NULL : weaken(part);

		if (root)
			need = combine(NEED_ALL, need, root);
		if (weak)
		{
			char *before = pstrdup(sql.data);

			/* in the order of the query */
			resetStringInfo(&sql);
			appendStringInfo(&sql, "%s%s%s", weak, before[0] ? " AND " : "", before);
		}
		if (!more)
			break;
		e = e->left;
	}
	if (sql.len > 0)
		need = combine(NEED_ALL, make_need(NEED_SPAN, sql.data), need);
	return need;
}

/* ------------------------------------------------------------- pipelines */

static bool
is_negated(TqlOp op)
{
	return op == TQL_NOT_CHILD || op == TQL_NOT_DESCENDANT || op == TQL_NOT_PARENT ||
	       op == TQL_NOT_ANCESTOR || op == TQL_NRE;
}

static Need *
need_of_spanset(const TqlSpanset *spanset)
{
	Need *left;
	Need *right;

	check_stack_depth();
	switch (spanset->kind)
	{
		case TQL_S_FILTER:
			return need_of_filter(spanset->filter);
		case TQL_S_PIPELINE:
			return need_of_pipeline(spanset->pipeline);
		case TQL_S_OPERATION:
			break;
	}
	left = need_of_spanset(spanset->left);
	right = need_of_spanset(spanset->right);
	if (is_negated(spanset->op))
		return right;
	return combine(spanset->op == TQL_OR ? NEED_ANY : NEED_ALL, left, right);
}

static Need *
need_of_pipeline(const List *pipeline)
{
	Need     *need = make_need(NEED_NOTHING, NULL);
	ListCell *lc;

	foreach (lc, pipeline)
	{
		const TqlStage *stage = lfirst(lc);

		if (stage->kind == TQL_ST_SPANSET)
			need = combine(NEED_ALL, need, need_of_spanset(stage->spanset));
	}
	return need;
}

bool
tql_matches_nothing(const List *pipeline)
{
	return need_of_pipeline(pipeline)->kind == NEED_IMPOSSIBLE;
}

/* The conditions on spans, each once. */
static List *
collect_conditions(const Need *need, List *conditions)
{
	ListCell *lc;

	if (need->kind == NEED_SPAN)
	{
		foreach (lc, conditions)
		{
			if (strcmp(lfirst(lc), need->sql) == 0)
				return conditions;
		}
		return lappend(conditions, need->sql);
	}
	foreach (lc, need->parts)
		conditions = collect_conditions(lfirst(lc), conditions);
	return conditions;
}

static void
append_having(StringInfo out, const Need *need)
{
	ListCell *lc;

	if (need->kind == NEED_SPAN)
	{
		appendStringInfo(out, "bool_or(%s)", need->sql);
		return;
	}
	appendStringInfoChar(out, '(');
	foreach (lc, need->parts)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(out, need->kind == NEED_ALL ? " AND " : " OR ");
		append_having(out, lfirst(lc));
	}
	appendStringInfoChar(out, ')');
}

static bool
is_any_of_spans(const Need *need)
{
	ListCell *lc;

	if (need->kind != NEED_ANY)
		return need->kind == NEED_SPAN;
	foreach (lc, need->parts)
	{
		if (!is_any_of_spans(lfirst(lc)))
			return false;
	}
	return true;
}

/* bool_or() of each condition, inside the window; what any of them decides in one */
static void
append_trace_condition(StringInfo out, const Need *need, const char *window)
{
	const char *and = window[0] ? " AND " : "";
	ListCell *lc;

	if (need->kind == NEED_NOTHING)
		appendStringInfo(out, "bool_or(%s)", window);
	else if (need->kind == NEED_SPAN)
		appendStringInfo(out, "bool_or(%s%s%s)", need->sql, and, window);
	else if (is_any_of_spans(need))
	{
		appendStringInfoString(out, "bool_or((");
		foreach (lc, collect_conditions(need, NIL))
			appendStringInfo(out, "%s(%s)", foreach_current_index(lc) ? " OR " : "", (char *) lfirst(lc));
		appendStringInfo(out, ")%s%s)", and, window);
	}
	else
	{
		const char *between = need->kind == NEED_ALL ? "\n        AND " : "\n        OR ";

		appendStringInfoChar(out, '(');
		foreach (lc, need->parts)
		{
			if (foreach_current_index(lc) > 0)
				appendStringInfoString(out, between);
			append_trace_condition(out, lfirst(lc), window);
		}
		appendStringInfoChar(out, ')');
	}
}

/* ------------------------------------------------------------- relations */

/* A condition that all spans of the result meet; NULL if there is none. */
static const char *
condition_of_result(const TqlSpanset *spanset)
{
	Need *need;

	check_stack_depth();
	if (spanset->kind == TQL_S_FILTER)
	{
		need = need_of_filter(spanset->filter);
		return need->kind == NEED_SPAN ? need->sql : NULL;
	}
	if (spanset->kind != TQL_S_OPERATION)
		return NULL;
	switch (spanset->op)
	{
		case TQL_GT:
		case TQL_DESCENDANT:
		case TQL_LT:
		case TQL_ANCESTOR:
			return condition_of_result(spanset->right);
		default:
			return NULL;
	}
}

/* "may_be_related(...) AND " for an operator that wants a child or descendant */
static void
append_relation(StringInfo out, const TqlSpanset *spanset, const char *window)
{
	const char *and = window[0] ? " AND " : "";
	const char *above = condition_of_result(spanset->left);
	const char *below = condition_of_result(spanset->right);
	const char *relation = ">";

	switch (spanset->op)
	{
		case TQL_DESCENDANT:
		case TQL_UNION_DESCENDANT:
			relation = ">>";
			break;
		case TQL_GT:
		case TQL_UNION_CHILD:
			break;
		case TQL_ANCESTOR:
		case TQL_UNION_ANCESTOR:
			relation = ">>";
			/* fall through */
		case TQL_LT:
		case TQL_UNION_PARENT:
			above = condition_of_result(spanset->right);
			below = condition_of_result(spanset->left);
			break;
		default:
			return;
	}
	if (above && below)
		appendStringInfo(out, "tempo.may_be_related('%s', %s%s%s, %s%s%s, s.span_id, s.parent_span_id)\n        AND ",
		                 relation, above, and, window, below, and, window);
}

/* What all traces that match have, as far as it is between two spans. */
static void
append_relations(StringInfo out, const TqlSpanset *spanset, const char *window)
{
	check_stack_depth();
	if (spanset->kind != TQL_S_OPERATION || spanset->op == TQL_OR)
		return;
	if (!is_negated(spanset->op))
		append_relations(out, spanset->left, window);
	append_relations(out, spanset->right, window);
	append_relation(out, spanset, window);
}

char *
tql_trace_condition(const List *pipeline, const char *window)
{
	Need          *need = need_of_pipeline(pipeline);
	StringInfoData out;
	ListCell      *lc;

	if (need->kind == NEED_IMPOSSIBLE || (need->kind == NEED_NOTHING && window[0] == '\0'))
		return NULL;
	initStringInfo(&out);
	/* these first: the scan takes on what bool_or() asks, and what is left must be numbered without gaps */
	foreach (lc, pipeline)
	{
		const TqlStage *stage = lfirst(lc);

		if (stage->kind == TQL_ST_SPANSET)
			append_relations(&out, stage->spanset, window);
	}
	append_trace_condition(&out, need, window);
	return out.data;
}

TqlCandidates
tql_candidates(const List *pipeline)
{
	Need          *need = need_of_pipeline(pipeline);
	TqlCandidates  result = {"true", NULL, false};
	StringInfoData out;
	List          *conditions;
	ListCell      *lc;

	if (need->kind == NEED_NOTHING || need->kind == NEED_IMPOSSIBLE)
	{
		result.impossible = need->kind == NEED_IMPOSSIBLE;
		return result;
	}
	conditions = collect_conditions(need, NIL);
	if (list_length(conditions) == 1)
	{
		result.where = linitial(conditions);
		return result;
	}
	initStringInfo(&out);
	foreach (lc, conditions)
		appendStringInfo(&out, "%s(%s)", foreach_current_index(lc) ? " OR " : "(", (char *) lfirst(lc));
	appendStringInfoChar(&out, ')');
	result.where = out.data;
	if (!is_any_of_spans(need))
	{
		initStringInfo(&out);
		append_having(&out, need);
		result.having = out.data;
	}
	return result;
}
