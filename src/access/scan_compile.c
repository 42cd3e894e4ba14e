/*-------------------------------------------------------------------------
 *
 * scan_compile.c
 *	  Recognises the conditions that a custom scan decides itself, and the
 *	  columns and attribute keys that it has to decode.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* Is this function tempo."name"? */
bool
tempo_is_function(Oid function, const char *name)
{
	char *found;
	char *schema;

	if (function < FirstNormalObjectId)
		return false;
	found = get_func_name(function);
	if (found == NULL || strcmp(found, name) != 0)
		return false;
	schema = get_namespace_name(get_func_namespace(function));
	return schema != NULL && strcmp(schema, "tempo") == 0;
}

/* The span column that an expression is, or -1. */
int
tempo_column_of(const Node *node, const ScanTarget *target)
{
	const Var *var = (const Var *) node;

	if (node == NULL || !IsA(node, Var) || var->varno != target->relid || var->varlevelsup != 0 ||
	    var->varattno < 1 || var->varattno > target->map->natts)
		return -1;
	return target->map->column[var->varattno - 1];
}

static bool
const_text(const Node *node, SpanText *out)
{
	const Const *constant = (const Const *) node;
	text        *value;

	if (node == NULL || !IsA(node, Const) || constant->constisnull || constant->consttype != TEXTOID)
		return false;
	value = DatumGetTextPP(constant->constvalue);
	*out = span_text(VARDATA_ANY(value), (uint32) VARSIZE_ANY_EXHDR(value));
	return true;
}

/*
 * Can it be computed once, when the scan starts?  Columns of other relations
 * are parameters then.
 */
static bool
is_operand(Node *node, const ScanTarget *target)
{
	Bitmapset *own = NULL;

	pull_varattnos(node, target->relid, &own);
	return own == NULL && !contain_volatile_functions(node) && !contain_subplans(node);
}

static FilterNode *
make_node_of(FilterType type)
{
	FilterNode *node = palloc0(sizeof(FilterNode));

	node->type = type;
	return node;
}

/*
 * An attribute: tempo.attr(attributes, resource_attributes, scope, key),
 * or column -> key, or (for_text) column ->> key.
 */
static bool
attribute_of(Node *node, const ScanTarget *target, bool for_text, FilterScope *scope, SpanText *key)
{
	if (IsA(node, FuncExpr) && !for_text)
	{
		FuncExpr *call = (FuncExpr *) node;
		SpanText  name;

		if (list_length(call->args) != 4 || !tempo_is_function(call->funcid, "attr") ||
		    tempo_column_of(linitial(call->args), target) != TEMPO_ATTRIBUTES ||
		    tempo_column_of(lsecond(call->args), target) != TEMPO_RESOURCE_ATTRIBUTES ||
		    !const_text(lthird(call->args), &name) || !const_text(lfourth(call->args), key))
			return false;
		if (span_text_is(name, "span"))
			*scope = FILTER_SCOPE_SPAN;
		else if (span_text_is(name, "resource"))
			*scope = FILTER_SCOPE_RESOURCE;
		else if (span_text_is(name, "any"))
			*scope = FILTER_SCOPE_ANY;
		else
			return false;
		return true;
	}
	if (IsA(node, OpExpr))
	{
		OpExpr *op = (OpExpr *) node;
		Oid     function = get_opcode(op->opno);
		int     column;

		if (function != (for_text ? F_JSONB_OBJECT_FIELD_TEXT : F_JSONB_OBJECT_FIELD))
			return false;
		column = tempo_column_of(linitial(op->args), target);
		if (!const_text(lsecond(op->args), key))
			return false;
		*scope = column == TEMPO_ATTRIBUTES ? FILTER_SCOPE_SPAN : FILTER_SCOPE_RESOURCE;
		return column == TEMPO_ATTRIBUTES || column == TEMPO_RESOURCE_ATTRIBUTES;
	}
	return false;
}

/* The column of attributes that an expression is: the span's or the resource's. */
static bool
attributes_column(Node *node, const ScanTarget *target, FilterScope *scope)
{
	int column = tempo_column_of(node, target);

	*scope = column == TEMPO_ATTRIBUTES ? FILTER_SCOPE_SPAN : FILTER_SCOPE_RESOURCE;
	return column == TEMPO_ATTRIBUTES || column == TEMPO_RESOURCE_ATTRIBUTES;
}

/* attributes ? key */
static bool
exists_of(Node *node, const ScanTarget *target, FilterScope *scope, SpanText *key)
{
	OpExpr *op = (OpExpr *) node;

	return IsA(node, OpExpr) && get_opcode(op->opno) == F_JSONB_EXISTS &&
	       attributes_column(linitial(op->args), target, scope) && const_text(lsecond(op->args), key);
}

/* tempo.pick(attributes, constant keys): the keys, NULL if it is anything else */
static ArrayType *
picked_keys(Node *node, const ScanTarget *target)
{
	FuncExpr *call = (FuncExpr *) node;
	Const    *keys;

	if (!IsA(node, FuncExpr) || list_length(call->args) != 2 || !tempo_is_function(call->funcid, "pick") ||
	    tempo_column_of(linitial(call->args), target) != TEMPO_ATTRIBUTES)
		return NULL;
	keys = lsecond(call->args);
	return IsA(keys, Const) && !keys->constisnull ? DatumGetArrayTypeP(keys->constvalue) : NULL;
}

static Datum
one_pair(JsonbValue *key, JsonbValue *value)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, key);
	(void) pushJsonbValue(&state, WJB_VALUE, value);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* attributes @> constant object: the object's pairs; false if it is anything else */
static bool
contains_of(Node *node, const ScanTarget *target, FilterScope *scope, FilterPair **pairs, int *n_pairs)
{
	OpExpr        *op = (OpExpr *) node;
	Const         *constant;
	Jsonb         *object;
	JsonbIterator *it;
	JsonbValue     key;
	JsonbValue     value;

	if (!IsA(node, OpExpr) || get_opcode(op->opno) != F_JSONB_CONTAINS ||
	    !attributes_column(linitial(op->args), target, scope))
		return false;
	constant = lsecond(op->args);
	if (!IsA(constant, Const) || constant->constisnull)
		return false;
	object = DatumGetJsonbP(constant->constvalue);
	if (!JB_ROOT_IS_OBJECT(object))
		return false;
	*n_pairs = 0;
	*pairs = palloc0(sizeof(FilterPair) * Max(JB_ROOT_COUNT(object), 1));
	it = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		FilterPair *pair = &(*pairs)[(*n_pairs)++];

		(void) JsonbIteratorNext(&it, &value, true);
		pair->object = one_pair(&key, &value);
		pair->key = span_text(key.val.string.val, (uint32) key.val.string.len);
		pair->plain = value.type == jbvString;
		if (!pair->plain)
			continue;
		pair->value.type = ANY_STRING;
		pair->value.len = (uint32) value.val.string.len;
		pair->value.u.data = value.val.string.val;
	}
	return true;
}

/* Text columns that filters read from a span. */
static bool
is_text_column(int column)
{
	switch (column)
	{
		case TEMPO_TENANT:
		case TEMPO_NAME:
		case TEMPO_KIND:
		case TEMPO_STATUS:
		case TEMPO_STATUS_MESSAGE:
		case TEMPO_SERVICE_NAME:
		case TEMPO_SCOPE_NAME:
		case TEMPO_SCOPE_VERSION:
			return true;
		default:
			return false;
	}
}

/* A text column, or coalesce(text column, ''). */
static bool
text_column_of(Node *node, const ScanTarget *target, TempoColumn *column, bool *null_is_empty)
{
	int found;

	*null_is_empty = false;
	if (IsA(node, CoalesceExpr))
	{
		CoalesceExpr *coalesce = (CoalesceExpr *) node;
		SpanText      text;

		if (list_length(coalesce->args) != 2 || !const_text(lsecond(coalesce->args), &text) || text.len != 0)
			return false;
		node = linitial(coalesce->args);
		*null_is_empty = true;
	}
	found = tempo_column_of(node, target);
	if (!is_text_column(found))
		return false;
	*column = (TempoColumn) found;
	return true;
}

static bool
set_operand(FilterNode *node, Node *operand, Oid type, const ScanTarget *target)
{
	node->operand = (Expr *) operand;
	node->operand_type = type;
	return is_operand(operand, target);
}

/*
 * The comparison that an operator makes in a btree operator family, for the
 * operand type "right".
 */
static bool
comparison_of(Oid operator, Oid family, Oid left, MatchOp *op, Oid *right)
{
	static const MatchOp by_strategy[] = {MATCH_LT, MATCH_LE, MATCH_EQ, MATCH_GE, MATCH_GT};
	int                  strategy;
	Oid                  lefttype;
	Oid                  negator;

	if (op_in_opfamily(operator, family))
	{
		get_op_opfamily_properties(operator, family, false, &strategy, &lefttype, right);
		if (lefttype != left || strategy < 1 || strategy > 5)
			return false;
		*op = by_strategy[strategy - 1];
		return true;
	}
	negator = get_negator(operator);
	if (!OidIsValid(negator) || !op_in_opfamily(negator, family))
		return false;
	get_op_opfamily_properties(negator, family, false, &strategy, &lefttype, right);
	*op = MATCH_NE;
	return lefttype == left && strategy == BTEqualStrategyNumber;
}

static Oid
default_family(Oid type)
{
	return lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

/* A column of times, or a duration, against what is comparable with it. */
static FilterNode *
compile_int(Oid operator, int column, Node *right, const ScanTarget *target)
{
	FilterNode *node = make_node_of(FILTER_INT);
	Oid         family;
	Oid         left;
	Oid         type;

	switch (column)
	{
		case TEMPO_START_TIME_UNIX_NANO:
		case TEMPO_DURATION_NANO:
			family = INTEGER_BTREE_FAM_OID;
			left = INT8OID;
			break;
		case TEMPO_START_TIME:
		case TEMPO_END_TIME:
			left = TIMESTAMPTZOID;
			family = default_family(left);
			break;
		case TEMPO_DURATION:
			left = INTERVALOID;
			family = default_family(left);
			break;
		default:
			return NULL;
	}
	if (!comparison_of(operator, family, left, &node->op, &type))
		return NULL;
	if (type != left && family != INTEGER_BTREE_FAM_OID)
		return NULL;
	node->column = (TempoColumn) column;
	return set_operand(node, right, type, target) ? node : NULL;
}

static bool
usable_collation(Oid collation)
{
	return !OidIsValid(collation) || get_collation_isdeterministic(collation);
}

/* text = text, text <> text */
static bool
text_equality(Oid operator, Oid collation, MatchOp *op)
{
	Oid type;

	return comparison_of(operator, TEXT_BTREE_FAM_OID, TEXTOID, op, &type) && type == TEXTOID &&
	       (*op == MATCH_EQ || *op == MATCH_NE) && usable_collation(collation);
}

/* left operator right, or left operator ANY (right) */
static FilterNode *
compile_comparison(Oid operator, Oid collation, Node *left, Node *right, bool list, const ScanTarget *target)
{
	int         column = tempo_column_of(left, target);
	FilterNode *node;
	TempoColumn text_column;
	bool        null_is_empty;
	FilterScope scope;
	SpanText    key;
	Oid         type;

	if (column == TEMPO_TRACE_ID || column == TEMPO_SPAN_ID || column == TEMPO_PARENT_SPAN_ID)
	{
		Oid id = exprType(left);

		node = make_node_of(FILTER_ID);
		node->column = (TempoColumn) column;
		if (!comparison_of(operator, default_family(id), id, &node->op, &type) || type != id ||
		    (node->op != MATCH_EQ && node->op != MATCH_NE))
			return NULL;
	}
	else if (text_column_of(left, target, &text_column, &null_is_empty))
	{
		node = make_node_of(FILTER_TEXT);
		node->column = text_column;
		node->null_is_empty = null_is_empty;
		type = TEXTOID;
		if (!text_equality(operator, collation, &node->op))
			return NULL;
	}
	else if (attribute_of(left, target, true, &scope, &key))
	{
		node = make_node_of(FILTER_JSON_TEXT);
		node->scope = scope;
		node->key = key;
		type = TEXTOID;
		if (!text_equality(operator, collation, &node->op))
			return NULL;
	}
	else
		return list || column < 0 ? NULL : compile_int(operator, column, right, target);
	node->list = list;
	if (list && (node->op != MATCH_EQ || get_element_type(exprType(right)) != type))
		return NULL;
	return set_operand(node, right, type, target) ? node : NULL;
}

/* The jsonb literal '""'. */
static bool
is_empty_string(Node *node)
{
	Const     *constant = (Const *) node;
	JsonbValue value;

	return IsA(node, Const) && !constant->constisnull && constant->consttype == JSONBOID &&
	       JsonbExtractScalar(&DatumGetJsonbP(constant->constvalue)->root, &value) &&
	       value.type == jbvString && value.val.string.len == 0;
}

/* What tempo.match() and tempo.match_re() look at. */
static bool
match_source(Node *source, const ScanTarget *target, FilterNode *node)
{
	if (attribute_of(source, target, false, &node->scope, &node->key))
		return true;
	if (IsA(source, CoalesceExpr) && list_length(((CoalesceExpr *) source)->args) == 2 &&
	    is_empty_string(lsecond(((CoalesceExpr *) source)->args)) &&
	    attribute_of(linitial(((CoalesceExpr *) source)->args), target, false, &node->scope, &node->key))
	{
		node->null_is_empty = true;
		return true;
	}
	node->scope = FILTER_SCOPE_COLUMN;
	if (IsA(source, FuncExpr) && ((FuncExpr *) source)->funcid == F_TO_JSONB)
		return text_column_of(linitial(((FuncExpr *) source)->args), target, &node->column, &node->null_is_empty);
	node->text_argument = node->type == FILTER_REGEX;
	return node->text_argument && exprType(source) == TEXTOID &&
	       text_column_of(source, target, &node->column, &node->null_is_empty);
}

/* event_match(events, key, op, literal), event_match_re(events, key, pattern, negate) */
static FilterNode *
compile_event_function(FuncExpr *call, const ScanTarget *target)
{
	FilterNode *node = make_node_of(FILTER_MATCH);
	Const      *negate = lfourth(call->args);
	Oid         types[] = {JSONBOID, TEXTOID, JSONBOID};
	SpanText    op;

	node->scope = FILTER_SCOPE_EVENT;
	node->column = TEMPO_EVENTS;
	if (tempo_column_of(linitial(call->args), target) != TEMPO_EVENTS || !const_text(lsecond(call->args), &node->key))
		return NULL;
	if (tempo_is_function(call->funcid, "event_match"))
	{
		if (!const_text(lthird(call->args), &op) || !match_op_from_text(op, &node->op) ||
		    !set_operand(node, lfourth(call->args), JSONBOID, target))
			return NULL;
	}
	else if (tempo_is_function(call->funcid, "event_match_re") && IsA(negate, Const) && !negate->constisnull)
	{
		types[2] = BOOLOID;
		node->type = FILTER_REGEX;
		node->negate = DatumGetBool(negate->constvalue);
		if (!set_operand(node, lthird(call->args), TEXTOID, target))
			return NULL;
	}
	else
		return NULL;
	if (!IsA(node->operand, Const) || ((Const *) node->operand)->constisnull)
		return NULL;
	/* what is asked about the value of each event */
	node->function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
	                                 CStringGetDatum(node->type == FILTER_REGEX ? "match_re" : "match"),
	                                 PointerGetDatum(buildoidvector(types, lengthof(types))),
	                                 ObjectIdGetDatum(get_func_namespace(call->funcid)));
	return OidIsValid(node->function) ? node : NULL;
}

static FilterNode *
compile_function(FuncExpr *call, const ScanTarget *target)
{
	FilterNode *node;
	SpanText    op;

	if (list_length(call->args) == 4)
		return compile_event_function(call, target);
	if (list_length(call->args) != 3)
		return NULL;
	if (tempo_is_function(call->funcid, "match"))
	{
		node = make_node_of(FILTER_MATCH);
		if (!match_source(linitial(call->args), target, node) ||
		    !const_text(lsecond(call->args), &op) || !match_op_from_text(op, &node->op) ||
		    !set_operand(node, lthird(call->args), JSONBOID, target))
			return NULL;
	}
	else if (tempo_is_function(call->funcid, "match_re"))
	{
		Const *negate = lthird(call->args);

		node = make_node_of(FILTER_REGEX);
		if (!match_source(linitial(call->args), target, node) ||
		    !IsA(negate, Const) || negate->constisnull ||
		    !set_operand(node, lsecond(call->args), TEXTOID, target))
			return NULL;
		node->negate = DatumGetBool(negate->constvalue);
	}
	else
		return NULL;
	node->function = call->funcid;
	return node;
}

static FilterNode *
compile_null_test(NullTest *test, const ScanTarget *target)
{
	FilterNode *node = make_node_of(FILTER_NULL);
	int         column = tempo_column_of((Node *) test->arg, target);

	node->negate = test->nulltesttype == IS_NOT_NULL;
	if (test->argisrow)
		return NULL;
	if (column == TEMPO_PARENT_SPAN_ID || column == TEMPO_SERVICE_NAME)
	{
		node->scope = FILTER_SCOPE_COLUMN;
		node->column = (TempoColumn) column;
		return node;
	}
	/* no value is JSON's null, so ->> gives NULL when -> does */
	if (attribute_of((Node *) test->arg, target, false, &node->scope, &node->key) ||
	    attribute_of((Node *) test->arg, target, true, &node->scope, &node->key))
		return node;
	return NULL;
}

/* events <> '[]', links <> '[]', events @> '[{"name": constant}]' */
static FilterNode *
compile_children(OpExpr *op, const ScanTarget *target)
{
	int            column = tempo_column_of(linitial(op->args), target);
	Oid            function = get_opcode(op->opno);
	Const         *constant = lsecond(op->args);
	FilterNode    *node = make_node_of(FILTER_CHILDREN);
	Jsonb         *array;
	JsonbIterator *it;
	JsonbValue     value;

	if ((column != TEMPO_EVENTS && column != TEMPO_LINKS) || !IsA(constant, Const) || constant->constisnull ||
	    constant->consttype != JSONBOID)
		return NULL;
	array = DatumGetJsonbP(constant->constvalue);
	node->column = (TempoColumn) column;
	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		return NULL;
	if (JB_ROOT_COUNT(array) == 0 && (function == F_JSONB_NE || function == F_JSONB_EQ))
	{
		node->negate = function == F_JSONB_EQ;
		return node;
	}
	if (column != TEMPO_EVENTS || function != F_JSONB_CONTAINS || JB_ROOT_COUNT(array) != 1)
		return NULL;
	node->type = FILTER_EVENT_NAME;
	it = JsonbIteratorInit(&array->root);
	if (JsonbIteratorNext(&it, &value, false) != WJB_BEGIN_ARRAY ||
	    JsonbIteratorNext(&it, &value, false) != WJB_BEGIN_OBJECT || value.val.object.nPairs != 1 ||
	    JsonbIteratorNext(&it, &value, false) != WJB_KEY ||
	    !span_text_is(span_text(value.val.string.val, (uint32) value.val.string.len), "name") ||
	    JsonbIteratorNext(&it, &value, false) != WJB_VALUE || value.type != jbvString)
		return NULL;
	node->text = span_text(value.val.string.val, (uint32) value.val.string.len);
	return node;
}

/* attributes ? key, attributes @> object */
static FilterNode *
compile_attributes(OpExpr *op, const ScanTarget *target)
{
	FilterNode *node = make_node_of(FILTER_NULL);

	node->negate = true;
	if (exists_of((Node *) op, target, &node->scope, &node->key))
		return node;
	node->type = FILTER_CONTAINS;
	if (contains_of((Node *) op, target, &node->scope, &node->pairs, &node->n_pairs) &&
	    set_operand(node, lsecond(op->args), JSONBOID, target))
		return node;
	return NULL;
}

/*
 * Any other expression: if it depends on nothing but one text column or one
 * attribute, it is evaluated once for each of their values.
 */

typedef struct SourceContext
{
	const ScanTarget *target;
	FilterNode       *node;
	bool              found;
	bool              other; /* it depends on something else too */
} SourceContext;

static void
set_source(SourceContext *context, TempoColumn column, FilterScope scope, SpanText key)
{
	FilterNode *node = context->node;

	if (context->found &&
	    (node->scope != scope || node->column != column || !span_text_equal(node->key, key)))
		context->other = true;
	node->column = column;
	node->scope = scope;
	node->key = key;
	context->found = true;
}

static bool
source_walker(Node *node, SourceContext *context)
{
	FilterScope scope;
	SpanText    key;
	int         column;

	if (node == NULL || context->other)
		return false;
	if (IsA(node, Var))
	{
		column = tempo_column_of(node, context->target);
		if (((Var *) node)->varno != context->target->relid)
			return false;
		if (is_text_column(column))
			set_source(context, (TempoColumn) column, FILTER_SCOPE_COLUMN, span_text(NULL, 0));
		else
			context->other = true;
		return false;
	}
	if (attribute_of(node, context->target, false, &scope, &key) ||
	    attribute_of(node, context->target, true, &scope, &key) ||
	    exists_of(node, context->target, &scope, &key))
	{
		set_source(context, TEMPO_ATTRIBUTES, scope, key);
		return false;
	}
	return expression_tree_walker(node, source_walker, context);
}

static FilterNode *
compile_expression(Expr *clause, const ScanTarget *target)
{
	SourceContext context = {target, make_node_of(FILTER_EXPRESSION)};

	(void) source_walker((Node *) clause, &context);
	if (!context.found || context.other ||
	    contain_mutable_functions((Node *) clause) || contain_subplans((Node *) clause))
		return NULL;
	context.node->operand = clause;
	return context.node;
}

static FilterNode *compile(Expr *clause, const ScanTarget *target);

static FilterNode *
compile_boolean(BoolExpr *boolean, const ScanTarget *target)
{
	FilterNode *node = make_node_of(boolean->boolop == AND_EXPR ? FILTER_AND :
	                                boolean->boolop == OR_EXPR  ? FILTER_OR :
	                                                              FILTER_NOT);
	ListCell   *cell;

	node->children = palloc(sizeof(FilterNode *) * list_length(boolean->args));
	foreach (cell, boolean->args)
	{
		FilterNode *child = compile(lfirst(cell), target);

		if (child == NULL)
			return NULL;
		node->children[node->n_children++] = child;
	}
	return node;
}

static FilterNode *
compile_known(Expr *clause, const ScanTarget *target)
{
	check_stack_depth();
	switch (nodeTag(clause))
	{
		case T_BoolExpr:
			return compile_boolean((BoolExpr *) clause, target);
		case T_NullTest:
			return compile_null_test((NullTest *) clause, target);
		case T_FuncExpr:
			return compile_function((FuncExpr *) clause, target);
		case T_ScalarArrayOpExpr:
		{
			ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;

			if (!op->useOr)
				return NULL;
			return compile_comparison(op->opno, op->inputcollid, linitial(op->args),
			                          lsecond(op->args), true, target);
		}
		case T_OpExpr:
		{
			OpExpr     *op = (OpExpr *) clause;
			FilterNode *node;
			Oid         commutator;

			if (list_length(op->args) != 2)
				return NULL;
			node = compile_comparison(op->opno, op->inputcollid, linitial(op->args),
			                          lsecond(op->args), false, target);
			if (node == NULL)
				node = compile_attributes(op, target);
			if (node == NULL)
				node = compile_children(op, target);
			if (node != NULL)
				return node;
			commutator = get_commutator(op->opno);
			if (!OidIsValid(commutator))
				return NULL;
			return compile_comparison(commutator, op->inputcollid, lsecond(op->args),
			                          linitial(op->args), false, target);
		}
		default:
			return NULL;
	}
}

static FilterNode *
compile(Expr *clause, const ScanTarget *target)
{
	FilterNode *node = compile_known(clause, target);

	return node != NULL ? node : compile_expression(clause, target);
}

bool
tempo_filter_recognise(Expr *clause, const ScanTarget *target)
{
	return compile(clause, target) != NULL;
}

/* A string need not become jsonb to be matched. */
static void
init_text_function(FilterNode *node)
{
	Oid arguments[] = {TEXTOID, TEXTOID, BOOLOID};
	Oid function = LookupFuncName(list_make2(makeString("tempo"), makeString("match_re")), 3, arguments, true);

	if (OidIsValid(function))
		fmgr_info(function, &node->text_fmgr);
}

static void
init_operands(FilterNode *node, PlanState *parent)
{
	for (int i = 0; i < node->n_children; i++)
		init_operands(node->children[i], parent);
	if (node->type == FILTER_EXPRESSION)
		node->expression = ExecInitExpr(node->operand, parent);
	else if (node->operand != NULL)
		node->operand_state = ExecInitExpr(node->operand, parent);
	if (OidIsValid(node->function))
		fmgr_info(node->function, &node->fmgr);
	if (node->type == FILTER_REGEX)
		init_text_function(node);
}

ScanFilter *
tempo_filter_create(List *clauses, const ScanTarget *target, PlanState *parent)
{
	ScanFilter *filter = palloc0(sizeof(ScanFilter));
	ListCell   *cell;

	filter->root = make_node_of(FILTER_AND);
	filter->root->children = palloc(sizeof(FilterNode *) * Max(list_length(clauses), 1));
	foreach (cell, clauses)
	{
		FilterNode *node = compile(lfirst(cell), target);

		if (node == NULL)
			elog(ERROR, "a condition of a tempo scan is not recognised any more");
		filter->root->children[filter->root->n_children++] = node;
	}
	init_operands(filter->root, parent);
	filter->map = target->map;
	filter->econtext = CreateExprContext(parent->state);
	filter->slot = ExecInitExtraTupleSlot(parent->state,
	                                      RelationGetDescr(((ScanState *) parent)->ss_currentRelation),
	                                      &TTSOpsVirtual);
	filter->values = AllocSetContextCreate(CurrentMemoryContext, "tempo filter operands", ALLOCSET_SMALL_SIZES);
	filter->caches = AllocSetContextCreate(CurrentMemoryContext, "tempo filter caches", ALLOCSET_DEFAULT_SIZES);
	filter->scratch = AllocSetContextCreate(CurrentMemoryContext, "tempo filter scratch", ALLOCSET_DEFAULT_SIZES);
	return filter;
}

/*
 * What has to be decoded.
 */

static void
add_key(List **keys, SpanText key)
{
	char     *name = pnstrdup(key.data ? key.data : "", key.len);
	ListCell *cell;

	foreach (cell, *keys)
		if (strcmp(strVal(lfirst(cell)), name) == 0)
			return;
	*keys = lappend(*keys, makeString(name));
}

static void
add_column(ScanNeeds *needs, const ScanTarget *target, TempoColumn column)
{
	needs->columns = bms_add_member(needs->columns,
	                                target->map->attno[column] + 1 - FirstLowInvalidHeapAttributeNumber);
}

static void
node_needs(const FilterNode *node, uint32 *parts, List **keys)
{
	for (int i = 0; i < node->n_children; i++)
		node_needs(node->children[i], parts, keys);
	switch (node->type)
	{
		case FILTER_AND:
		case FILTER_OR:
		case FILTER_NOT:
			return;
		case FILTER_INT:
		case FILTER_TEXT:
		case FILTER_ID:
		case FILTER_CHILDREN:
		case FILTER_EVENT_NAME:
			*parts |= tempo_column_parts(node->column);
			return;
		case FILTER_CONTAINS:
			if (node->scope == FILTER_SCOPE_RESOURCE)
				*parts |= SEGMENT_RESOURCE;
			for (int i = 0; i < node->n_pairs && node->scope == FILTER_SCOPE_SPAN; i++)
				add_key(keys, node->pairs[i].key);
			return;
		case FILTER_NULL:
		case FILTER_JSON_TEXT:
		case FILTER_MATCH:
		case FILTER_REGEX:
		case FILTER_EXPRESSION:
			if (node->scope == FILTER_SCOPE_COLUMN)
				*parts |= tempo_column_parts(node->column);
			if (node->scope == FILTER_SCOPE_RESOURCE || node->scope == FILTER_SCOPE_ANY)
				*parts |= SEGMENT_RESOURCE;
			if (node->scope == FILTER_SCOPE_SPAN || node->scope == FILTER_SCOPE_ANY)
				add_key(keys, node->key);
			if (node->scope == FILTER_SCOPE_EVENT)
				*parts |= SEGMENT_EVENTS;
			return;
	}
}

void
tempo_filter_needs(const ScanFilter *filter, uint32 *parts, List **keys)
{
	node_needs(filter->root, parts, keys);
}

typedef struct NeedsContext
{
	const ScanTarget *target;
	ScanNeeds        *needs;
} NeedsContext;

static void
add_picked(ScanNeeds *needs, ArrayType *picked)
{
	Datum *keys;
	bool  *nulls;
	int    n;

	needs->attributes = true;
	deconstruct_array(picked, TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			add_key(&needs->keys, span_text(VARDATA_ANY(DatumGetTextPP(keys[i])),
			                                (uint32) VARSIZE_ANY_EXHDR(DatumGetTextPP(keys[i]))));
}

/* Does the expression use only some attributes of the columns it names? */
static bool
needs_some_attributes(Node *node, NeedsContext *context)
{
	FilterScope scope;
	SpanText    key;
	FilterPair *pairs;
	int         n_pairs;
	ArrayType  *picked = picked_keys(node, context->target);

	if (picked != NULL)
	{
		add_picked(context->needs, picked);
		return true;
	}
	if (contains_of(node, context->target, &scope, &pairs, &n_pairs))
	{
		if (scope == FILTER_SCOPE_RESOURCE)
			add_column(context->needs, context->target, TEMPO_RESOURCE_ATTRIBUTES);
		else
			context->needs->attributes = true;
		for (int i = 0; i < n_pairs && scope == FILTER_SCOPE_SPAN; i++)
			add_key(&context->needs->keys, pairs[i].key);
		return true;
	}
	if (!attribute_of(node, context->target, false, &scope, &key) &&
	    !attribute_of(node, context->target, true, &scope, &key) &&
	    !exists_of(node, context->target, &scope, &key))
		return false;
	if (scope != FILTER_SCOPE_RESOURCE)
	{
		context->needs->attributes = true;
		add_key(&context->needs->keys, key);
	}
	if (scope != FILTER_SCOPE_SPAN)
		add_column(context->needs, context->target, TEMPO_RESOURCE_ATTRIBUTES);
	return true;
}

static bool
needs_walker(Node *node, NeedsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno != context->target->relid || var->varlevelsup != 0)
			return false;
		if (var->varattno == 0)
			context->needs->all_columns = true;
		else if (tempo_column_of(node, context->target) == TEMPO_ATTRIBUTES)
			context->needs->attributes = context->needs->all_keys = true;
		else
			context->needs->columns = bms_add_member(context->needs->columns,
			                                         var->varattno - FirstLowInvalidHeapAttributeNumber);
		return false;
	}
	if (needs_some_attributes(node, context))
		return false;
	return expression_tree_walker(node, needs_walker, context);
}

void
tempo_scan_needs(Node *expression, const ScanTarget *target, ScanNeeds *needs)
{
	NeedsContext context = {target, needs};

	(void) needs_walker(expression, &context);
	if (needs->all_columns)
		needs->attributes = needs->all_keys = true;
}
