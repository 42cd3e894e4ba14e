/*-------------------------------------------------------------------------
 *
 * series_math.c
 *	  topk, bottomk, thresholds and arithmetic on sets of time series.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "traceql/series.h"
#include "traceql/value.h"
#include "utils/builtins.h"

TqlLabel *
tql_make_label(const char *key, const char *json)
{
	TqlLabel *label = palloc(sizeof(TqlLabel));

	label->key = key;
	label->json = json;
	return label;
}

TqlSeries *
tql_make_series(List *labels, int n_steps)
{
	TqlSeries *series = palloc0(sizeof(TqlSeries));

	series->labels = labels;
	series->values = palloc0(sizeof(double) * n_steps);
	series->present = palloc0(n_steps);
	return series;
}

void
tql_drop_empty(TqlSeriesSet *set)
{
	List     *kept = NIL;
	ListCell *lc;

	foreach (lc, set->series)
	{
		TqlSeries *series = lfirst(lc);

		if (memchr(series->present, true, set->n_steps))
			kept = lappend(kept, series);
	}
	set->series = kept;
}

/* Texts by their bytes, numbers by their size, others by their JSON */
static int
compare_label_values(const TqlLabel *a, const TqlLabel *b)
{
	if (a->json[0] != '"' && b->json[0] != '"')
	{
		char  *end_a;
		char  *end_b;
		double x = strtod(a->json, &end_a);
		double y = strtod(b->json, &end_b);

		if (*end_a == '\0' && *end_b == '\0' && x != y)
			return x < y ? -1 : 1;
	}
	return strcmp(a->json, b->json);
}

static int
compare_values(const TqlSeries *x, const TqlSeries *y)
{
	for (int i = 0; i < Min(list_length(x->labels), list_length(y->labels)); i++)
	{
		int order = compare_label_values(list_nth(x->labels, i), list_nth(y->labels, i));

		if (order)
			return order;
	}
	return list_length(x->labels) - list_length(y->labels);
}

static int
compare_series(const ListCell *a, const ListCell *b)
{
	const TqlSeries *x = lfirst(a);
	const TqlSeries *y = lfirst(b);

	if (list_length(x->labels) != list_length(y->labels))
		return list_length(x->labels) - list_length(y->labels);
	for (int i = 0; i < list_length(x->labels); i++)
	{
		int order = strcmp(((TqlLabel *) list_nth(x->labels, i))->key, ((TqlLabel *) list_nth(y->labels, i))->key);

		if (order)
			return order;
	}
	return compare_values(x, y);
}

void
tql_sort_series(TqlSeriesSet *set)
{
	list_sort(set->series, compare_series);
}

/* ---------------------------------------------------------- second stages */

typedef struct Candidate
{
	double     value;
	int        rank; /* place among the series by their labels */
	TqlSeries *series;
} Candidate;

/* Largest first, then by labels */
static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	if (x->value != y->value)
		return x->value > y->value ? -1 : 1;
	return x->rank - y->rank;
}

static int
compare_by_labels(const ListCell *a, const ListCell *b)
{
	return compare_values(lfirst(a), lfirst(b));
}

/* Per step the first or last "limit" of the samples in descending order stay. */
static void
keep_extremes(TqlSeriesSet *set, int64 limit, bool top)
{
	List      *ranked = list_copy(set->series);
	int        n = list_length(ranked);
	Candidate *candidates;

	if (limit >= n)
		return;
	list_sort(ranked, compare_by_labels);
	candidates = palloc(sizeof(Candidate) * n);
	for (int step = 0; step < set->n_steps; step++)
	{
		int       found = 0;
		ListCell *lc;

		CHECK_FOR_INTERRUPTS();
		foreach (lc, ranked)
		{
			TqlSeries *series = lfirst(lc);

			if (series->present[step])
				candidates[found++] = (Candidate){series->values[step], foreach_current_index(lc), series};
		}
		if (found <= limit)
			continue;
		qsort(candidates, found, sizeof(Candidate), compare_candidates);
		for (int i = 0; i < found; i++)
		{
			if (top ? i >= limit : i < found - limit)
				candidates[i].series->present[step] = false;
		}
	}
	pfree(candidates);
}

static bool
satisfies(double value, TqlOp op, double bound)
{
	switch (op)
	{
		case TQL_EQ:
			return value == bound;
		case TQL_NE:
			return value != bound;
		case TQL_LT:
			return value < bound;
		case TQL_LE:
			return value <= bound;
		case TQL_GT:
			return value > bound;
		case TQL_GE:
			return value >= bound;
		default:
			return false;
	}
}

TqlSeriesSet *
tql_second_stages(TqlSeriesSet *set, const List *second)
{
	ListCell *lc;
	ListCell *s;

	foreach (lc, second)
	{
		const TqlSecond *stage = lfirst(lc);
		double           bound = tql_number(&stage->value);

		if (stage->kind != TQL_2_FILTER)
			keep_extremes(set, stage->limit, stage->kind == TQL_2_TOPK);
		else
		{
			if (stage->value.type == TQL_DURATION)
				bound /= 1e9;
			foreach (s, set->series)
			{
				TqlSeries *series = lfirst(s);

				for (int i = 0; i < set->n_steps; i++)
					series->present[i] = series->present[i] && satisfies(series->values[i], stage->op, bound);
			}
		}
		tql_drop_empty(set);
	}
	return set;
}

/* ------------------------------------------------------------- arithmetic */

static double
calculate(TqlOp op, double a, double b)
{
	switch (op)
	{
		case TQL_ADD:
			return a + b;
		case TQL_SUB:
			return a - b;
		case TQL_MUL:
			return a * b;
		default:
			return b == 0 ? NAN : a / b;
	}
}

/* A side is a series or, if that is NULL, a number. */
static TqlSeries *
combine(TqlOp op, List *labels, int n_steps, const TqlSeries *a, double x, const TqlSeries *b, double y)
{
	TqlSeries *result = tql_make_series(labels, n_steps);

	for (int i = 0; i < n_steps; i++)
	{
		if ((a && !a->present[i]) || (b && !b->present[i]))
			continue;
		result->values[i] = calculate(op, a ? a->values[i] : x, b ? b->values[i] : y);
		result->present[i] = !isnan(result->values[i]);
	}
	return result;
}

static bool
is_single_unlabelled(const TqlSeriesSet *set)
{
	return list_length(set->series) == 1 && ((TqlSeries *) linitial(set->series))->labels == NIL;
}

static TqlSeriesSet *
make_set(int n_steps, const char *name)
{
	TqlSeriesSet *set = palloc0(sizeof(TqlSeriesSet));

	set->n_steps = n_steps;
	set->name = name;
	return set;
}

/* Exactly the same labels in the same order: both are sorted by them. */
static int
compare_labels(const TqlSeries *x, const TqlSeries *y)
{
	ListCell a = {.ptr_value = unconstify(TqlSeries *, x)};
	ListCell b = {.ptr_value = unconstify(TqlSeries *, y)};

	return compare_series(&a, &b);
}

static void
match_series(TqlOp op, TqlSeriesSet *left, TqlSeriesSet *right, TqlSeriesSet *result)
{
	int i = 0;
	int j = 0;

	tql_sort_series(left);
	tql_sort_series(right);
	while (i < list_length(left->series) && j < list_length(right->series))
	{
		TqlSeries *a = list_nth(left->series, i);
		TqlSeries *b = list_nth(right->series, j);
		int        order = compare_labels(a, b);

		if (order == 0)
			result->series = lappend(result->series, combine(op, a->labels, result->n_steps, a, 0, b, 0));
		i += order <= 0;
		j += order >= 0;
	}
}

TqlSeriesSet *
tql_series_math(const TqlMetricsExpr *m, TqlSeriesSet *left, TqlSeriesSet *right)
{
	TqlSeriesSet *result;
	ListCell     *lc;

	if (left == NULL && right == NULL)
		elog(ERROR, "arithmetic without a metrics query");
	if (left == NULL || right == NULL)
	{
		TqlSeriesSet *set = left ? left : right;

		result = make_set(set->n_steps, set->name);
		foreach (lc, set->series)
		{
			TqlSeries *s = lfirst(lc);

			result->series = lappend(result->series,
			                         combine(m->op, s->labels, set->n_steps,
			                                 left ? s : NULL, left ? 0 : tql_number(&m->left->literal),
			                                 right ? s : NULL, right ? 0 : tql_number(&m->right->literal)));
		}
	}
	else
	{
		bool single_left = is_single_unlabelled(left);
		bool single_right = is_single_unlabelled(right);

		result = make_set(left->n_steps, psprintf("(%s %s %s)", left->name, tql_op_text(m->op), right->name));
		if (single_left == single_right)
			match_series(m->op, left, right, result);
		else
		{
			foreach (lc, single_left ? right->series : left->series)
			{
				TqlSeries *s = lfirst(lc);
				TqlSeries *a = single_left ? linitial(left->series) : s;
				TqlSeries *b = single_left ? s : linitial(right->series);

				result->series = lappend(result->series, combine(m->op, s->labels, result->n_steps, a, 0, b, 0));
			}
		}
	}
	tql_drop_empty(result);
	return result;
}
