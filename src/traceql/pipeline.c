/*-------------------------------------------------------------------------
 *
 * pipeline.c
 *	  The stages of a query over the spans of one trace.
 *
 * Each stage makes spansets of spansets; empty ones are gone at once, so
 * that nothing later meets a spanset without spans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/engine.h"
#include "utils/memutils.h"

static List *run_stages(TqlTrace *trace, const List *pipeline, List *groups);

static TqlGroup *
make_group(int capacity, List *attributes)
{
	TqlGroup *group = palloc0(sizeof(TqlGroup));

	group->members = palloc_extended(sizeof(int) * Max(capacity, 1), MCXT_ALLOC_HUGE);
	group->attributes = attributes;
	return group;
}

/* The spans of either; the attributes of neither. */
TqlGroup *
tql_group_union(const TqlGroup *a, const TqlGroup *b)
{
	TqlGroup *group = make_group(a->n + b->n, NIL);
	int       i = 0;
	int       j = 0;

	while (i < a->n || j < b->n)
	{
		int next;

		if (j >= b->n || (i < a->n && a->members[i] <= b->members[j]))
			next = a->members[i];
		else
			next = b->members[j];
		i += i < a->n && a->members[i] == next;
		j += j < b->n && b->members[j] == next;
		group->members[group->n++] = next;
	}
	return group;
}

/* -------------------------------------------------- spanset expressions */

static TqlGroup *
run_filter(TqlTrace *trace, const TqlExpr *filter, const TqlGroup *in)
{
	TqlGroup *group = make_group(in->n, in->attributes);

	for (int i = 0; i < in->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (tql_span_matches(trace, &trace->spans[in->members[i]], filter))
			group->members[group->n++] = in->members[i];
	}
	return group;
}

static List *run_spanset(TqlTrace *trace, const TqlSpanset *spanset, TqlGroup *in);

/* One side of an operator: what it finds is one spanset, perhaps empty. */
static TqlGroup *
run_side(TqlTrace *trace, const TqlSpanset *spanset, TqlGroup *in)
{
	List *groups = run_spanset(trace, spanset, in);

	if (list_length(groups) > 1)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("spanset operators are not supported for multiple spansets per trace. consider using coalesce()")));
	return groups == NIL ? make_group(0, NIL) : linitial(groups);
}

static void
free_side(const TqlSpanset *spanset, TqlGroup *group)
{
	if (spanset->kind != TQL_S_PIPELINE)
		pfree(group->members);
}

static TqlGroup *
run_operation(TqlTrace *trace, const TqlSpanset *spanset, TqlGroup *in)
{
	TqlGroup *left = run_side(trace, spanset->left, in);
	TqlGroup *right = run_side(trace, spanset->right, in);
	TqlGroup *result;

	if (spanset->op == TQL_AND && (left->n == 0 || right->n == 0))
		return make_group(0, NIL);
	if (spanset->op == TQL_AND || spanset->op == TQL_OR)
		result = tql_group_union(left, right);
	else
		result = tql_structural(trace, spanset->op, left, right);
	result->attributes = in->attributes;
	/* chains of operators may be long: what a side made goes, if it is not from a pipeline that may hand its input on */
	free_side(spanset->left, left);
	free_side(spanset->right, right);
	return result;
}

static List *
run_spanset(TqlTrace *trace, const TqlSpanset *spanset, TqlGroup *in)
{
	TqlGroup *group = NULL;

	check_stack_depth();
	switch (spanset->kind)
	{
		case TQL_S_FILTER:
			group = run_filter(trace, spanset->filter, in);
			break;
		case TQL_S_OPERATION:
			group = run_operation(trace, spanset, in);
			break;
		case TQL_S_PIPELINE:
			return run_stages(trace, spanset->pipeline, list_make1(in));
	}
	return group->n > 0 ? list_make1(group) : NIL;
}

/* --------------------------------------------------------------- by() */

typedef struct KeyedMember
{
	const char *key; /* type and bytes of the value */
	int         key_len;
	int         member;
	int         rank; /* first member with that key */
	TqlValue    value;
} KeyedMember;

static void
append_key(StringInfo out, const TqlValue *value)
{
	appendStringInfoChar(out, (char) value->type);
	switch (value->type)
	{
		case TQL_V_STRING:
			appendBinaryStringInfo(out, (const char *) &value->len, sizeof(value->len));
			appendBinaryStringInfo(out, value->s, value->len);
			break;
		case TQL_V_DOUBLE:
		{
			double d = value->d == 0 ? 0.0 : value->d;

			appendBinaryStringInfo(out, (const char *) &d, sizeof(d));
		}
		break;
		case TQL_V_ARRAY:
			for (uint32 i = 0; i < value->n_elements; i++)
				append_key(out, &value->elements[i]);
			break;
		default:
			appendBinaryStringInfo(out, (const char *) &value->n, sizeof(value->n));
			break;
	}
}

static int
compare_keys(const void *a, const void *b)
{
	const KeyedMember *x = a;
	const KeyedMember *y = b;
	int                order = memcmp(x->key, y->key, Min(x->key_len, y->key_len));

	if (order == 0)
		order = x->key_len - y->key_len;
	return order ? order : x->member - y->member;
}

static int
compare_ranks(const void *a, const void *b)
{
	const KeyedMember *x = a;
	const KeyedMember *y = b;

	return x->rank != y->rank ? x->rank - y->rank : x->member - y->member;
}

/* What a span is grouped under: absent values under the string nil */
static void
group_value(TqlTrace *trace, TqlSpan *span, const TqlExpr *by, TqlValue *value)
{
	if (!tql_span_value(trace, span, by, value))
	{
		memset(value, 0, sizeof(*value));
		value->type = TQL_V_BOOL;
	}
	if (value->type == TQL_V_NIL || value->type == TQL_V_OPAQUE)
	{
		memset(value, 0, sizeof(*value));
		value->type = TQL_V_STRING;
		value->s = "nil";
		value->len = 3;
	}
}

static List *
split_group(TqlTrace *trace, const TqlExpr *by, const char *name, const TqlGroup *in, List *result)
{
	KeyedMember   *keyed = palloc_extended(sizeof(KeyedMember) * in->n, MCXT_ALLOC_HUGE);
	TqlGroup      *group = NULL;
	StringInfoData key;
	char          *copy;

	initStringInfo(&key);
	for (int i = 0; i < in->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		group_value(trace, &trace->spans[in->members[i]], by, &keyed[i].value);
		resetStringInfo(&key);
		append_key(&key, &keyed[i].value);
		copy = palloc(key.len);
		memcpy(copy, key.data, key.len);
		keyed[i].key = copy;
		keyed[i].key_len = key.len;
		keyed[i].member = in->members[i];
	}
	qsort(keyed, in->n, sizeof(KeyedMember), compare_keys);
	for (int i = 0; i < in->n; i++)
	{
		bool same = i > 0 && keyed[i].key_len == keyed[i - 1].key_len &&
		            memcmp(keyed[i].key, keyed[i - 1].key, keyed[i].key_len) == 0;

		keyed[i].rank = same ? keyed[i - 1].rank : keyed[i].member;
	}
	qsort(keyed, in->n, sizeof(KeyedMember), compare_ranks);

	for (int i = 0; i < in->n; i++)
	{
		if (i == 0 || keyed[i].rank != keyed[i - 1].rank)
		{
			TqlNamed *named = palloc(sizeof(TqlNamed));
			int       end = i + 1;

			while (end < in->n && keyed[end].rank == keyed[i].rank)
				end++;
			named->key = name;
			named->value = keyed[i].value;
			group = make_group(end - i, lappend(list_copy(in->attributes), named));
			result = lappend(result, group);
		}
		group->members[group->n++] = keyed[i].member;
	}
	return result;
}

/* ---------------------------------------------------------- aggregates */

/* The aggregate of a spanset; false if no span has a number. */
static bool
aggregate(TqlTrace *trace, const TqlScalar *scalar, const TqlGroup *group, TqlValue *out)
{
	__int128 exact = 0;
	double   sum = 0;
	int      n = 0;
	bool     any_double = false;
	bool     all_durations = true;
	bool     all_integers = true;

	memset(out, 0, sizeof(*out));
	out->type = TQL_V_INT;
	out->n = group->n;
	if (scalar->aggregate == TQL_A_COUNT)
		return true;

	for (int i = 0; i < group->n; i++)
	{
		TqlValue value;

		if (!tql_span_value(trace, &trace->spans[group->members[i]], scalar->argument, &value) ||
		    !tql_value_is_number(&value) || isnan(tql_value_number(&value)))
			continue;
		if (value.type == TQL_V_DOUBLE)
			any_double = true;
		else
			exact += value.n;
		all_durations &= value.type == TQL_V_DURATION;
		all_integers &= value.type == TQL_V_INT;
		sum += tql_value_number(&value);
		if (n == 0 ||
		    (scalar->aggregate == TQL_A_MIN && tql_value_compare(&value, TQL_LT, out)) ||
		    (scalar->aggregate == TQL_A_MAX && tql_value_compare(&value, TQL_GT, out)))
			*out = value;
		n++;
	}
	if (n == 0)
		return false;
	if (scalar->aggregate == TQL_A_MIN || scalar->aggregate == TQL_A_MAX)
		return true;

	memset(out, 0, sizeof(*out));
	out->type = all_durations ? TQL_V_DURATION : TQL_V_INT;
	if (scalar->aggregate == TQL_A_AVG)
	{
		if (all_durations)
			out->n = (int64) (exact / n);
		else
		{
			out->type = TQL_V_DOUBLE;
			out->d = any_double ? sum / n : (double) exact / n;
		}
	}
	else if (all_durations || all_integers)
		out->n = (int64) exact; /* wraps */
	else
	{
		out->type = TQL_V_DOUBLE;
		out->d = sum;
	}
	return true;
}

/* The spanset with the aggregate among its attributes, NULL if the condition fails. */
static TqlGroup *
filter_group(TqlTrace *trace, const TqlStage *stage, const TqlGroup *in)
{
	TqlValue  literal;
	TqlNamed *named = palloc(sizeof(TqlNamed));
	TqlGroup *group;

	if (!aggregate(trace, stage->left, in, &named->value))
		return NULL;
	tql_value_from_static(&stage->right->literal, &literal);
	if (!tql_value_compare(&named->value, stage->op, &literal))
		return NULL;
	named->key = tql_print_scalar(stage->left);
	group = palloc(sizeof(TqlGroup));
	*group = *in;
	group->attributes = lappend(list_copy(in->attributes), named);
	return group;
}

/* -------------------------------------------------------------- stages */

static List *
run_stage(TqlTrace *trace, const TqlStage *stage, List *groups)
{
	List       *result = NIL;
	TqlGroup   *all = NULL;
	ListCell   *lc;
	const char *name = NULL;

	if (stage->kind == TQL_ST_BY)
		name = psprintf("by(%s)", tql_print_expr(stage->by));
	foreach (lc, groups)
	{
		TqlGroup *group = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		switch (stage->kind)
		{
			case TQL_ST_SPANSET:
				result = list_concat(result, run_spanset(trace, stage->spanset, group));
				break;
			case TQL_ST_SCALAR_FILTER:
				group = filter_group(trace, stage, group);
				if (group)
					result = lappend(result, group);
				break;
			case TQL_ST_BY:
				result = split_group(trace, stage->by, name, group, result);
				break;
			case TQL_ST_SELECT:
				result = lappend(result, group);
				break;
			case TQL_ST_COALESCE:
				break;
		}
	}
	if (stage->kind == TQL_ST_COALESCE && groups != NIL)
	{
		/* pairs first: as many steps as the logarithm of the number of spansets */
		result = list_copy(groups);
		while (list_length(result) > 1)
		{
			List *halved = NIL;

			for (int i = 0; i + 1 < list_length(result); i += 2)
				halved = lappend(halved, tql_group_union(list_nth(result, i), list_nth(result, i + 1)));
			if (list_length(result) % 2)
				halved = lappend(halved, llast(result));
			result = halved;
		}
		all = make_group(0, NIL);
		*all = *(TqlGroup *) linitial(result);
		all->attributes = NIL;
		result = list_make1(all);
	}
	return result;
}

static List *
run_stages(TqlTrace *trace, const List *pipeline, List *groups)
{
	ListCell *lc;

	foreach (lc, pipeline)
	{
		if (groups == NIL)
			break;
		groups = run_stage(trace, lfirst(lc), groups);
	}
	return groups;
}

List *
tql_run_pipeline(TqlTrace *trace, const List *pipeline)
{
	TqlGroup *all = make_group(trace->n_spans, NIL);

	for (int i = 0; i < trace->n_spans; i++)
		all->members[all->n++] = i;
	return trace->n_spans > 0 ? run_stages(trace, pipeline, list_make1(all)) : NIL;
}
