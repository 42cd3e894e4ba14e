/*-------------------------------------------------------------------------
 *
 * evaluate.c
 *	  The value of an expression on one span of a trace.
 *
 * Nothing raises an error for what data it meets.  A division of an integer
 * by the integer 0 is remembered: the span does not match then.
 *
 * References to events and links: conditions that && joins have to hold for
 * one and the same event (link); what || and ! join are conditions of their
 * own.  Outside of filters a reference reads the event that met the filter,
 * or the first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "traceql/engine.h"
#include "traceql/to_sql.h"

/* TqlEvaluation.event and link: any will do, as in a filter */
#define ANY_OF_THEM (-2)
#define NONE_OF_THEM (-1)

#define TQL_MENTIONS_LISTS (TQL_MENTIONS_EVENT | TQL_MENTIONS_LINK)

typedef struct TqlEvaluation
{
	TqlTrace *trace;
	TqlSpan  *span;
	int       event; /* which one references read */
	int       link;
	int       met_event; /* first ones that met a condition, or NONE_OF_THEM */
	int       met_link;
	bool      divided_by_zero;
} TqlEvaluation;

static void evaluate(TqlEvaluation *ev, const TqlExpr *e, TqlValue *out);

/* ------------------------------------------------------------- attributes */

static void
set_text(TqlValue *out, TqlText text)
{
	out->type = TQL_V_STRING;
	out->s = text.s ? text.s : "";
	out->len = text.len;
}

static void
set_number(TqlValue *out, TqlValueType type, int64 n)
{
	out->type = type;
	out->n = n;
}

static void
set_id(TqlValue *out, uint64 id)
{
	set_text(out, (TqlText){psprintf("%016llx", (unsigned long long) id), 16});
}

static void
set_trace_id(TqlValue *out, const TqlTrace *trace)
{
	char *hex = palloc(33);

	for (int i = 0; i < 16; i++)
		sprintf(hex + 2 * i, "%02x", trace->trace_id[i]);
	set_text(out, (TqlText){hex, 32});
}

static void
set_nested(TqlEvaluation *ev, TqlIntrinsic intrinsic, TqlValue *out)
{
	TqlTrace      *trace = ev->trace;
	const TqlNode *node;
	int64          n = 0;

	tql_number_tree(trace);
	node = &trace->nodes[ev->span - trace->spans];
	if (trace->ambiguous)
		n = 0;
	else if (intrinsic == TQL_I_CHILD_COUNT)
		n = node->children;
	else if (node->connected)
	{
		if (intrinsic == TQL_I_NESTED_SET_LEFT)
			n = node->left;
		else if (intrinsic == TQL_I_NESTED_SET_RIGHT)
			n = node->right;
		else
			n = node->parent < 0 ? -1 : trace->nodes[node->parent].left;
	}
	set_number(out, TQL_V_INT, n);
}

static JsonbContainer *
root_of(Jsonb *set)
{
	return set ? &set->root : NULL;
}

static const TqlEvent *
current_event(TqlEvaluation *ev)
{
	tql_read_lists(ev->span);
	return ev->event >= 0 && ev->event < ev->span->n_events ? &ev->span->events[ev->event] : NULL;
}

static const TqlLink *
current_link(TqlEvaluation *ev)
{
	tql_read_lists(ev->span);
	return ev->link >= 0 && ev->link < ev->span->n_links ? &ev->span->links[ev->link] : NULL;
}

static void
read_key(TqlEvaluation *ev, const TqlAttribute *a, TqlValue *out)
{
	const TqlSpan  *span = ev->span;
	int             len = strlen(a->name);
	bool            is_service = len == 12 && memcmp(a->name, "service.name", 12) == 0;
	const TqlEvent *event;
	const TqlLink  *link;

	switch (a->scope)
	{
		case TQL_SCOPE_NONE:
			tql_value_from_set(root_of(span->attributes), a->name, len, out);
			if (out->type == TQL_V_NIL)
				tql_value_from_set(root_of(span->resource), a->name, len, out);
			if (out->type == TQL_V_NIL && is_service)
				set_text(out, (TqlText){"", 0});
			break;
		case TQL_SCOPE_SPAN:
			tql_value_from_set(root_of(span->attributes), a->name, len, out);
			break;
		case TQL_SCOPE_RESOURCE:
			if (is_service)
				set_text(out, span->service);
			else
				tql_value_from_set(root_of(span->resource), a->name, len, out);
			break;
		case TQL_SCOPE_INSTRUMENTATION:
			tql_value_from_set(root_of(span->scope_attributes), a->name, len, out);
			break;
		case TQL_SCOPE_EVENT:
			event = current_event(ev);
			if (event)
				tql_value_from_set(event->attributes, a->name, len, out);
			break;
		case TQL_SCOPE_LINK:
			link = current_link(ev);
			if (link)
				tql_value_from_set(link->attributes, a->name, len, out);
			break;
		case TQL_SCOPE_TRACE:
			break;
	}
}

static void
read_attribute(TqlEvaluation *ev, const TqlAttribute *a, TqlValue *out)
{
	const TqlSpan  *span = ev->span;
	const TqlTrace *trace = ev->trace;
	const TqlSpan  *root = trace->root < 0 ? NULL : &trace->spans[trace->root];
	const TqlEvent *event;
	const TqlLink  *link;

	memset(out, 0, sizeof(*out)); /* TQL_V_NIL */
	switch (a->intrinsic)
	{
		case TQL_ATTRIBUTE:
			read_key(ev, a, out);
			break;
		case TQL_I_DURATION:
			set_number(out, TQL_V_DURATION, span->duration);
			break;
		case TQL_I_NAME:
			set_text(out, span->name);
			break;
		case TQL_I_STATUS:
			set_number(out, TQL_V_STATUS, span->status);
			break;
		case TQL_I_STATUS_MESSAGE:
			set_text(out, span->status_message);
			break;
		case TQL_I_KIND:
			set_number(out, TQL_V_KIND, span->kind);
			break;
		case TQL_I_PARENT:
			break;
		case TQL_I_ROOT_NAME:
			set_text(out, root ? root->name : (TqlText){"", 0});
			break;
		case TQL_I_ROOT_SERVICE_NAME:
			set_text(out, root ? root->service : (TqlText){"", 0});
			break;
		case TQL_I_TRACE_DURATION:
			set_number(out, TQL_V_DURATION, trace->stop - trace->start);
			break;
		case TQL_I_NESTED_SET_LEFT:
		case TQL_I_NESTED_SET_RIGHT:
		case TQL_I_NESTED_SET_PARENT:
		case TQL_I_CHILD_COUNT:
			set_nested(ev, a->intrinsic, out);
			break;
		case TQL_I_TRACE_ID:
			set_trace_id(out, trace);
			break;
		case TQL_I_SPAN_ID:
			set_id(out, span->id);
			break;
		case TQL_I_PARENT_ID:
			set_id(out, span->has_parent ? span->parent_id : 0);
			break;
		case TQL_I_EVENT_NAME:
			event = current_event(ev);
			if (event)
				set_text(out, event->name);
			break;
		case TQL_I_EVENT_TIME_SINCE_START:
			event = current_event(ev);
			if (event)
				set_number(out, TQL_V_DURATION, (int64) ((uint64) event->time - (uint64) span->start));
			break;
		case TQL_I_LINK_TRACE_ID:
			link = current_link(ev);
			if (link)
				set_text(out, link->trace_id);
			break;
		case TQL_I_LINK_SPAN_ID:
			link = current_link(ev);
			if (link)
				set_text(out, link->span_id);
			break;
		case TQL_I_INSTRUMENTATION_NAME:
			set_text(out, span->scope_name);
			break;
		case TQL_I_INSTRUMENTATION_VERSION:
			set_text(out, span->scope_version);
			break;
	}
}

/* ------------------------------------------------------------ comparisons */

/* How many hexadecimal digits an id has; 0 for what is no id */
static int
id_digits(const TqlExpr *e)
{
	if (e->kind != TQL_E_ATTRIBUTE)
		return 0;
	switch (e->attribute.intrinsic)
	{
		case TQL_I_TRACE_ID:
		case TQL_I_LINK_TRACE_ID:
			return 32;
		case TQL_I_SPAN_ID:
		case TQL_I_PARENT_ID:
		case TQL_I_LINK_SPAN_ID:
			return 16;
		default:
			return 0;
	}
}

/* value op literal, where "of" is the expression that the value is of */
static bool
compare_literal(const TqlExpr *of, const TqlValue *value, TqlOp op, const TqlStatic *literal)
{
	TqlValue v;
	int      digits;

	if (op == TQL_RE || op == TQL_NRE)
		return tql_value_match(value, literal->s, op == TQL_NRE);
	tql_value_from_static(literal, &v);
	digits = v.type == TQL_V_STRING ? id_digits(of) : 0;
	if (digits > 0)
	{
		if (op != TQL_EQ && op != TQL_NE)
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("operator not supported for IDs: %s", tql_op_text(op))));
		if (value->type == TQL_V_NIL)
			return false;
		v.s = tql_read_id(literal->s, digits);
		if (v.s == NULL)
			return op == TQL_NE;
		v.len = digits;
	}
	return tql_value_compare(value, op, &v);
}

static bool
compare_list(TqlEvaluation *ev, const TqlExpr *e)
{
	TqlValue  value;
	bool      all = e->op == TQL_NOT_IN || e->op == TQL_RE_NONE;
	TqlOp     op = e->op == TQL_IN ? TQL_EQ : e->op == TQL_NOT_IN ? TQL_NE :
	                                      e->op == TQL_RE_ANY     ? TQL_RE :
	                                                                TQL_NRE;
	ListCell *lc;

	evaluate(ev, e->left, &value);
	foreach (lc, e->list)
	{
		if (compare_literal(e->left, &value, op, lfirst(lc)) != all)
			return !all;
	}
	return all;
}

static bool
compare(TqlEvaluation *ev, const TqlExpr *e)
{
	TqlValue left;
	TqlValue right;

	if (e->op == TQL_RE || e->op == TQL_NRE || e->right->kind == TQL_E_STATIC)
	{
		evaluate(ev, e->left, &left);
		return compare_literal(e->left, &left, e->op, &e->right->value);
	}
	if (e->left->kind == TQL_E_STATIC)
	{
		evaluate(ev, e->right, &right);
		return compare_literal(e->right, &right, tql_mirror(e->op), &e->left->value);
	}
	evaluate(ev, e->left, &left);
	evaluate(ev, e->right, &right);
	return tql_value_compare(&left, e->op, &right);
}

static bool
exists(TqlEvaluation *ev, const TqlExpr *e)
{
	TqlValue value;

	if (e->left->kind != TQL_E_ATTRIBUTE)
		return e->op == TQL_EXISTS;
	/* the key of an event that is not there is neither absent nor present */
	if ((e->left->mentions & TQL_MENTIONS_EVENT) && current_event(ev) == NULL)
		return false;
	if ((e->left->mentions & TQL_MENTIONS_LINK) && current_link(ev) == NULL)
		return false;
	evaluate(ev, e->left, &value);
	return (value.type != TQL_V_NIL) == (e->op == TQL_EXISTS);
}

/* ---------------------------------------------------- conditions, events */

static bool
is_boolean_operation(const TqlExpr *e)
{
	return e->kind == TQL_E_LIST ||
	       (e->kind == TQL_E_UNARY && e->op != TQL_NEG) ||
	       (e->kind == TQL_E_BINARY && !tql_op_is_arithmetic(e->op));
}

/* a = 1 || a = 2 in one: alternatives, which need not hold for what other conditions hold for */
static bool
is_alternatives(const TqlExpr *e)
{
	return e->kind == TQL_E_LIST && (e->op == TQL_IN || e->op == TQL_RE_ANY);
}

/* A condition on an event or link: what is to hold for one of them */
static bool
is_list_condition(const TqlExpr *e)
{
	if ((e->mentions & TQL_MENTIONS_LISTS) == 0 || is_alternatives(e))
		return false;
	if (e->kind == TQL_E_UNARY)
		return e->op != TQL_NOT;
	if (e->kind == TQL_E_BINARY)
		return e->op != TQL_AND && e->op != TQL_OR &&
		       !(is_boolean_operation(e->left) && is_boolean_operation(e->right));
	return true;
}

static bool
truth(TqlEvaluation *ev, const TqlExpr *e)
{
	TqlValue value;

	evaluate(ev, e, &value);
	return value.type == TQL_V_BOOL && value.n != 0;
}

static bool
holds_once(TqlEvaluation *ev, const TqlExpr *e)
{
	bool before = ev->divided_by_zero;
	bool result;

	ev->divided_by_zero = false;
	result = truth(ev, e) && !ev->divided_by_zero;
	ev->divided_by_zero = before;
	return result;
}

/* Which kinds of list conditions are in a conjunction: bit n stands for mentions = n */
static int
kinds_of_conditions(const TqlExpr *e)
{
	int kinds = 0;

	check_stack_depth();
	for (; e->kind == TQL_E_BINARY && e->op == TQL_AND; e = e->left)
		kinds |= kinds_of_conditions(e->right);
	if (is_list_condition(e))
		kinds |= 1 << (e->mentions & TQL_MENTIONS_LISTS);
	return kinds;
}

/* Do the list conditions of these kinds hold for the current event and link? */
static bool
conditions_hold(TqlEvaluation *ev, const TqlExpr *e, int kinds)
{
	check_stack_depth();
	for (; e->kind == TQL_E_BINARY && e->op == TQL_AND; e = e->left)
	{
		if (!conditions_hold(ev, e->right, kinds))
			return false;
	}
	return !is_list_condition(e) || (kinds & (1 << (e->mentions & TQL_MENTIONS_LISTS))) == 0 || holds_once(ev, e);
}

static bool
some_event_meets(TqlEvaluation *ev, const TqlExpr *e, int kinds)
{
	bool any = false;

	tql_read_lists(ev->span);
	for (ev->event = 0; ev->event < ev->span->n_events && !any; ev->event++)
	{
		any = conditions_hold(ev, e, kinds);
		if (any && (ev->met_event < 0 || ev->event < ev->met_event))
			ev->met_event = ev->event;
	}
	ev->event = ANY_OF_THEM;
	return any;
}

static bool
some_link_meets(TqlEvaluation *ev, const TqlExpr *e, int kinds, bool and_event)
{
	bool any = false;

	tql_read_lists(ev->span);
	for (ev->link = 0; ev->link < ev->span->n_links && !any; ev->link++)
	{
		any = and_event ? some_event_meets(ev, e, kinds) : conditions_hold(ev, e, kinds);
		if (any && (ev->met_link < 0 || ev->link < ev->met_link))
			ev->met_link = ev->link;
	}
	ev->link = ANY_OF_THEM;
	return any;
}

/* The other members of a conjunction. */
static bool
rest_holds(TqlEvaluation *ev, const TqlExpr *e)
{
	bool all = true;

	check_stack_depth();
	for (; e->kind == TQL_E_BINARY && e->op == TQL_AND; e = e->left)
	{
		if ((all || (e->right->mentions & TQL_MENTIONS_DIVISION)) && !rest_holds(ev, e->right))
			all = false;
	}
	if ((all || (e->mentions & TQL_MENTIONS_DIVISION)) && !is_list_condition(e) && !truth(ev, e))
		all = false;
	return all;
}

/* A conjunction, or one condition, in a filter. */
static bool
conjunction_holds(TqlEvaluation *ev, const TqlExpr *e)
{
	const int event = 1 << TQL_MENTIONS_EVENT;
	const int link = 1 << TQL_MENTIONS_LINK;
	const int both = 1 << TQL_MENTIONS_LISTS;
	int       kinds = kinds_of_conditions(e);

	if (!rest_holds(ev, e))
		return false;
	if (kinds & both)
		return some_link_meets(ev, e, event | link | both, true);
	return ((kinds & event) == 0 || some_event_meets(ev, e, event)) &&
	       ((kinds & link) == 0 || some_link_meets(ev, e, link, false));
}

/* Alternatives on an event or link, in a filter */
static bool
alternatives_hold(TqlEvaluation *ev, const TqlExpr *e)
{
	bool of_events = (e->mentions & TQL_MENTIONS_EVENT) != 0;
	int *place = of_events ? &ev->event : &ev->link;
	int *met = of_events ? &ev->met_event : &ev->met_link;
	bool any = false;

	tql_read_lists(ev->span);
	for (*place = 0; *place < (of_events ? ev->span->n_events : ev->span->n_links) && !any; (*place)++)
	{
		any = holds_once(ev, e);
		if (any && (*met < 0 || *place < *met))
			*met = *place;
	}
	*place = ANY_OF_THEM;
	return any;
}

static bool
disjunction_holds(TqlEvaluation *ev, const TqlExpr *e)
{
	bool any = false;

	for (; e->kind == TQL_E_BINARY && e->op == TQL_OR; e = e->left)
	{
		if ((!any || (e->right->mentions & (TQL_MENTIONS_DIVISION | TQL_MENTIONS_LISTS))) && truth(ev, e->right))
			any = true;
	}
	if ((!any || (e->mentions & (TQL_MENTIONS_DIVISION | TQL_MENTIONS_LISTS))) && truth(ev, e))
		any = true;
	return any;
}

/* -------------------------------------------------------------- evaluation */

static void
negate(const TqlValue *value, TqlValue *out)
{
	*out = *value;
	if (value->type == TQL_V_DOUBLE)
		out->d = -value->d;
	else if (tql_value_is_number(value))
		out->n = (int64) (0 - (uint64) value->n);
	else
	{
		memset(out, 0, sizeof(*out));
		out->type = TQL_V_BOOL;
	}
}

static void
evaluate(TqlEvaluation *ev, const TqlExpr *e, TqlValue *out)
{
	TqlValue left;
	TqlValue right;
	bool     result = false;
	bool     in_filter = ev->event == ANY_OF_THEM || ev->link == ANY_OF_THEM;

	check_stack_depth();
	if (e->kind == TQL_E_STATIC)
	{
		tql_value_from_static(&e->value, out);
		return;
	}
	if (in_filter && (e->mentions & TQL_MENTIONS_LISTS) &&
	    ((e->kind == TQL_E_BINARY && e->op == TQL_AND) || is_list_condition(e)) &&
	    ((ev->event == ANY_OF_THEM && (e->mentions & TQL_MENTIONS_EVENT)) ||
	     (ev->link == ANY_OF_THEM && (e->mentions & TQL_MENTIONS_LINK))))
	{
		memset(out, 0, sizeof(*out));
		set_number(out, TQL_V_BOOL, conjunction_holds(ev, e));
		return;
	}

	if ((e->mentions & TQL_MENTIONS_LISTS) && is_alternatives(e) &&
	    (e->mentions & TQL_MENTIONS_EVENT ? ev->event : ev->link) == ANY_OF_THEM)
	{
		memset(out, 0, sizeof(*out));
		set_number(out, TQL_V_BOOL, alternatives_hold(ev, e));
		return;
	}

	switch (e->kind)
	{
		case TQL_E_STATIC:
			break;
		case TQL_E_ATTRIBUTE:
			read_attribute(ev, &e->attribute, out);
			return;
		case TQL_E_LIST:
			result = compare_list(ev, e);
			break;
		case TQL_E_UNARY:
			if (e->op == TQL_EXISTS || e->op == TQL_NOT_EXISTS)
			{
				result = exists(ev, e);
				break;
			}
			evaluate(ev, e->left, &left);
			if (e->op == TQL_NEG)
			{
				negate(&left, out);
				return;
			}
			result = left.type == TQL_V_BOOL && left.n == 0;
			break;
		case TQL_E_BINARY:
			if (e->op == TQL_AND)
				result = rest_holds(ev, e) && conditions_hold(ev, e, ~0);
			else if (e->op == TQL_OR)
				result = disjunction_holds(ev, e);
			else if (tql_op_is_comparison(e->op))
				result = compare(ev, e);
			else
			{
				evaluate(ev, e->left, &left);
				evaluate(ev, e->right, &right);
				if (!tql_value_calculate(&left, *tql_op_text(e->op), &right, out))
					ev->divided_by_zero = true;
				return;
			}
			break;
	}
	memset(out, 0, sizeof(*out));
	set_number(out, TQL_V_BOOL, result);
}

bool
tql_span_matches(TqlTrace *trace, TqlSpan *span, const TqlExpr *filter)
{
	TqlEvaluation ev = {trace, span, ANY_OF_THEM, ANY_OF_THEM, NONE_OF_THEM, NONE_OF_THEM, false};

	if (!truth(&ev, filter) || ev.divided_by_zero)
		return false;
	if (ev.met_event >= 0)
		span->event = ev.met_event;
	if (ev.met_link >= 0)
		span->link = ev.met_link;
	return true;
}

bool
tql_span_value(TqlTrace *trace, TqlSpan *span, const TqlExpr *expr, TqlValue *out)
{
	TqlEvaluation ev = {trace, span, span->event, span->link, NONE_OF_THEM, NONE_OF_THEM, false};

	evaluate(&ev, expr, out);
	return !ev.divided_by_zero;
}

void
tql_span_attribute(TqlTrace *trace, TqlSpan *span, const TqlAttribute *attribute, TqlValue *out)
{
	TqlEvaluation ev = {trace, span, span->event, span->link, NONE_OF_THEM, NONE_OF_THEM, false};

	read_attribute(&ev, attribute, out);
}
