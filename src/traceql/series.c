/*-------------------------------------------------------------------------
 *
 * series.c
 *	  The aggregate tempo.metrics_series(): series of what the queries of a
 *	  metrics expression counted per step and labels, and what the expression
 *	  does with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/metrics.h"
#include "traceql/series.h"
#include "traceql/to_sql.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(tempo_collect_series);
PG_FUNCTION_INFO_V1(tempo_metrics_series);

/* More steps than this are refused */
#define MAX_STEPS 1000000

#define DEFAULT_COMPARE_VALUES 10

/*
 * Labels of one row joined in one text.  JSON has no such characters, but the
 * name of an attribute that compare() counts may: they are escaped in it.
 */
#define KEY_SEPARATOR '\1'
#define KEY_ESCAPE '\2'

/* One group of one query */
typedef struct Row
{
	int         part;
	int         step;
	const char *key;
	bool        has_value;
	double      value;
	double      n;
} Row;

typedef struct SeriesState
{
	MemoryContext context;
	TqlQuery     *query;
	int64         start;
	int64         step;
	int           n_steps;
	Row          *rows;
	int           n_rows;
	int           capacity;
} SeriesState;

/* -------------------------------------------------------------- gathering */

int
tql_count_steps(int64 start, int64 stop, int64 step)
{
	if (step <= 0 || stop <= start || (stop - start - 1) / step >= MAX_STEPS)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("a series must have between 1 and %d steps", MAX_STEPS)));
	return (int) ((stop - start - 1) / step) + 1;
}

static SeriesState *
start_state(FunctionCallInfo fcinfo, MemoryContext aggregate)
{
	MemoryContext context = AllocSetContextCreate(aggregate, "TraceQL series", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SeriesState  *state = palloc0(sizeof(SeriesState));
	text         *query = PG_GETARG_TEXT_PP(1);
	int64         stop = PG_GETARG_INT64(3);

	state->context = context;
	state->query = tql_parse(VARDATA_ANY(query), VARSIZE_ANY_EXHDR(query));
	if (state->query->metrics == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("not a metrics query")));
	state->start = PG_GETARG_INT64(2);
	state->step = PG_GETARG_INT64(4);
	state->n_steps = tql_count_steps(state->start, stop, state->step);
	MemoryContextSwitchTo(old);
	return state;
}

static char *
join_keys(ArrayType *keys)
{
	StringInfoData out;
	Datum         *items;
	bool          *nulls;
	int            n;

	initStringInfo(&out);
	deconstruct_array(keys, TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(&out, KEY_SEPARATOR);
		for (const char *c = nulls[i] ? "\"nil\"" : TextDatumGetCString(items[i]); *c; c++)
		{
			if (unlikely(*c == KEY_SEPARATOR || *c == KEY_ESCAPE))
			{
				appendStringInfoChar(&out, KEY_ESCAPE);
				appendStringInfoChar(&out, *c == KEY_SEPARATOR ? 's' : 'e');
			}
			else
				appendStringInfoChar(&out, *c);
		}
	}
	return out.data;
}

/* A part of a key as it was before it was joined */
static char *
key_part(const char *part, int len)
{
	char *result = palloc(len + 1);
	int   n = 0;

	for (int i = 0; i < len; i++)
	{
		if (unlikely(part[i] == KEY_ESCAPE && i + 1 < len))
			result[n++] = part[++i] == 's' ? KEY_SEPARATOR : KEY_ESCAPE;
		else
			result[n++] = part[i];
	}
	result[n] = '\0';
	return result;
}

/* tempo.collect_series(state, query, start, stop, step, part, bucket, keys, value, n) */
Datum
tempo_collect_series(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate;
	MemoryContext old;
	SeriesState  *state;
	Row          *row;
	int64         step;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		elog(ERROR, "called outside of an aggregate");
	for (int arg = 1; arg <= 4; arg++)
	{
		if (PG_ARGISNULL(arg) && PG_ARGISNULL(0))
			PG_RETURN_NULL();
	}
	state = PG_ARGISNULL(0) ? start_state(fcinfo, aggregate) : (SeriesState *) PG_GETARG_POINTER(0);
	if (PG_ARGISNULL(5) || PG_ARGISNULL(6) || PG_ARGISNULL(9))
		PG_RETURN_POINTER(state);
	step = PG_GETARG_INT64(6);
	if (step < 0 || step >= state->n_steps)
		PG_RETURN_POINTER(state);

	old = MemoryContextSwitchTo(state->context);
	if (state->n_rows == state->capacity)
	{
		state->capacity = Max(64, state->capacity * 2);
		state->rows = state->rows ? repalloc_huge(state->rows, sizeof(Row) * state->capacity) :
		                            palloc(sizeof(Row) * state->capacity);
	}
	row = &state->rows[state->n_rows++];
	row->part = PG_GETARG_INT32(5);
	row->step = (int) step;
	row->key = PG_ARGISNULL(7) ? "" : join_keys(PG_GETARG_ARRAYTYPE_P(7));
	row->has_value = !PG_ARGISNULL(8);
	row->value = row->has_value ? PG_GETARG_FLOAT8(8) : 0;
	row->n = PG_GETARG_FLOAT8(9);
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/* ------------------------------------------------------- series of one query */

static int
compare_rows(const void *a, const void *b)
{
	const Row *x = a;
	const Row *y = b;
	int        order;

	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	order = strcmp(x->key, y->key);
	if (order)
		return order;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	return x->value < y->value ? -1 : x->value > y->value;
}

static List *
split_key(const char *key, const List *by)
{
	List     *labels = NIL;
	ListCell *lc;

	foreach (lc, by)
	{
		const char *end = strchrnul(key, KEY_SEPARATOR);

		labels = lappend(labels, tql_make_label(tql_print_attribute(lfirst(lc)), pnstrdup(key, end - key)));
		key = *end ? end + 1 : end;
	}
	return labels;
}

static char *
double_label(double d)
{
	TqlValue v = {.type = TQL_V_DOUBLE, .d = d};

	return tql_label_text(&v);
}

/* Values in nanoseconds are shown as seconds. */
double
tql_metrics_unit(const TqlMetrics *metrics)
{
	return metrics->argument && tql_intrinsic_type(metrics->argument->intrinsic) == TQL_DURATION ? 1e9 : 1;
}

/* Per step one number */
static TqlSeries *
simple_series(const SeriesState *state, const TqlMetrics *metrics, const Row *rows, int n)
{
	TqlSeries *series = tql_make_series(n > 0 ? split_key(rows[0].key, metrics->by) : NIL, state->n_steps);
	double    *counts = palloc0(sizeof(double) * state->n_steps);
	bool       counted = metrics->function == TQL_M_RATE || metrics->function == TQL_M_COUNT;

	for (int i = 0; i < n; i++)
	{
		double *value = &series->values[rows[i].step];

		if (counted)
			*value += rows[i].n;
		else if (rows[i].has_value && rows[i].n > 0)
		{
			bool first = counts[rows[i].step] == 0;

			counts[rows[i].step] += rows[i].n;
			if (metrics->function == TQL_M_MIN)
				*value = first ? rows[i].value : Min(*value, rows[i].value);
			else if (metrics->function == TQL_M_MAX)
				*value = first ? rows[i].value : Max(*value, rows[i].value);
			else
				*value += rows[i].value;
		}
	}
	for (int i = 0; i < state->n_steps; i++)
	{
		series->present[i] = counted || counts[i] > 0;
		if (metrics->function == TQL_M_RATE)
			series->values[i] /= state->step / 1e9;
		else if (metrics->function == TQL_M_AVG && counts[i] > 0)
			series->values[i] /= counts[i];
		if (!counted)
			series->values[i] /= tql_metrics_unit(metrics);
	}
	return series;
}

/* The quantile of the values in power-of-two buckets, ascending, which rows of one step are */
static double
quantile(const Row *rows, int n, double q)
{
	double total = 0;
	double running = 0;
	double rank;
	double before = 0; /* edge of the bucket before */

	for (int i = 0; i < n; i++)
		total += rows[i].n;
	if (total <= 0)
		return 0;
	rank = Max(ceil(q * total), 1);
	for (int i = 0; i < n;)
	{
		double count = 0;
		double edge = rows[i].value;

		for (; i < n && rows[i].value == edge; i++)
			count += rows[i].n;
		if (running + count > rank)
		{
			double high = log2(edge);
			double low = before > 0 ? log2(before) : high - 1;

			return exp2(low + (high - low) * (rank - running) / count);
		}
		running += count;
		if (running == rank || i >= n)
			return edge;
		before = edge;
	}
	return 0;
}

static List *
quantile_series(const SeriesState *state, const TqlMetrics *metrics, const Row *rows, int n, List *result)
{
	ListCell *lc;

	foreach (lc, metrics->quantiles)
	{
		double     q = tql_number(lfirst(lc));
		TqlSeries *series = tql_make_series(lappend(split_key(rows[0].key, metrics->by),
		                                            tql_make_label("p", double_label(q))),
		                                    state->n_steps);

		memset(series->present, true, state->n_steps);
		for (int i = 0; i < n;)
		{
			int end = i;

			while (end < n && rows[end].step == rows[i].step)
				end++;
			series->values[rows[i].step] = quantile(&rows[i], end - i, q) / tql_metrics_unit(metrics);
			i = end;
		}
		result = lappend(result, series);
	}
	return result;
}

/* One series per bucket */
static List *
histogram_series(const SeriesState *state, const TqlMetrics *metrics, const Row *rows, int n, List *result)
{
	List   *of_key = NIL;
	double *edges = palloc(sizeof(double) * n);

	for (int i = 0; i < n; i++)
	{
		TqlSeries *series;
		int        at = 0;

		/* powers of two: there are few */
		while (at < list_length(of_key) && edges[at] != rows[i].value)
			at++;
		if (at == list_length(of_key))
		{
			edges[at] = rows[i].value;
			series = tql_make_series(lappend(split_key(rows[i].key, metrics->by),
			                                 tql_make_label("__bucket", double_label(edges[at] / tql_metrics_unit(metrics)))),
			                         state->n_steps);
			memset(series->present, true, state->n_steps);
			of_key = lappend(of_key, series);
		}
		series = list_nth(of_key, at);
		series->values[rows[i].step] += rows[i].n;
	}
	return list_concat(result, of_key);
}

static int
compare_totals(const ListCell *a, const ListCell *b)
{
	const TqlSeries *x = lfirst(a);
	const TqlSeries *y = lfirst(b);

	if (x->total != y->total)
		return x->total > y->total ? -1 : 1;
	return strcmp(((TqlLabel *) lsecond(x->labels))->json, ((TqlLabel *) lsecond(y->labels))->json);
}

int64
tql_compare_values(const TqlMetrics *metrics)
{
	return metrics->compare_args != NIL ? ((TqlStatic *) linitial(metrics->compare_args))->n : DEFAULT_COMPARE_VALUES;
}

/*
 * compare(): keys are side, attribute and value; rows come in their order.
 * Without a value, a key is of values that are too many to show.
 */
static List *
compare_series(const SeriesState *state, const TqlMetrics *metrics, const Row *rows, int n)
{
	int64 top = tql_compare_values(metrics);
	List *result = NIL;

	for (int i = 0; i < n;)
	{
		/* side and attribute: up to the second separator */
		const char *first = strchrnul(rows[i].key, KEY_SEPARATOR);
		const char *second = *first ? strchrnul(first + 1, KEY_SEPARATOR) : first;
		int         prefix = second - rows[i].key;
		char       *side = pnstrdup(rows[i].key, first - rows[i].key);
		char       *attribute = *first ? key_part(first + 1, second - first - 1) : pstrdup("");
		List       *values = NIL;
		TqlSeries  *total;
		TqlSeries  *series = NULL;
		const char *key = NULL;

		total = tql_make_series(list_make2(tql_make_label("__meta_type", psprintf("\"%s_total\"", side)),
		                                   tql_make_label(attribute, "\"nil\"")),
		                        state->n_steps);
		memset(total->present, true, state->n_steps);
		for (; i < n && strncmp(rows[i].key, second - prefix, prefix) == 0 &&
		       (rows[i].key[prefix] == KEY_SEPARATOR || rows[i].key[prefix] == '\0');
		     i++)
		{
			total->values[rows[i].step] += rows[i].n;
			if (rows[i].key[prefix] == '\0')
				continue;
			if (key == NULL || strcmp(key, rows[i].key) != 0)
			{
				key = rows[i].key;
				series = tql_make_series(list_make2(tql_make_label("__meta_type", psprintf("\"%s\"", side)),
				                                    tql_make_label(attribute, key + prefix + 1)),
				                         state->n_steps);
				memset(series->present, true, state->n_steps);
				values = lappend(values, series);
			}
			series->values[rows[i].step] += rows[i].n;
			series->total += rows[i].n;
		}
		list_sort(values, compare_totals);
		result = list_concat(result, list_length(values) > top ? list_truncate(values, (int) top) : values);
		result = lappend(result, total);
	}
	return result;
}

static const char *
function_name(TqlMetricsFunction function)
{
	static const char *const names[] = {
		"rate", "count_over_time", "min_over_time", "max_over_time", "avg_over_time",
		"sum_over_time", "quantile_over_time", "histogram_over_time", "compare"};

	return names[function];
}

static TqlSeriesSet *
series_of_part(const SeriesState *state, const TqlMetricsExpr *part, int number)
{
	const TqlMetrics *metrics = part->metrics;
	TqlSeriesSet     *set = palloc0(sizeof(TqlSeriesSet));
	bool              bucketed = metrics->function == TQL_M_QUANTILE || metrics->function == TQL_M_HISTOGRAM;
	bool              counted = metrics->function == TQL_M_RATE || metrics->function == TQL_M_COUNT;
	int               from = 0;
	int               to;

	set->n_steps = state->n_steps;
	set->name = function_name(metrics->function);
	while (from < state->n_rows && state->rows[from].part != number)
		from++;
	for (to = from; to < state->n_rows && state->rows[to].part == number; to++)
		;

	if (metrics->function == TQL_M_COMPARE)
		set->series = compare_series(state, metrics, &state->rows[from], to - from);
	else if (from == to && counted && metrics->by == NIL && !tql_matches_nothing(part->pipeline))
		set->series = list_make1(simple_series(state, metrics, NULL, 0));
	else
	{
		while (from < to)
		{
			Row *rows = &state->rows[from];
			int  n = 1;
			int  kept = 0;

			while (from + n < to && strcmp(rows[0].key, rows[n].key) == 0)
				n++;
			from += n;
			if (!bucketed)
			{
				set->series = lappend(set->series, simple_series(state, metrics, rows, n));
				continue;
			}
			for (int i = 0; i < n; i++)
			{
				if (rows[i].has_value)
					rows[kept++] = rows[i];
			}
			if (kept > 0 && metrics->function == TQL_M_QUANTILE)
				set->series = quantile_series(state, metrics, rows, kept, set->series);
			else if (kept > 0)
				set->series = histogram_series(state, metrics, rows, kept, set->series);
		}
	}
	tql_drop_empty(set);
	return tql_second_stages(set, part->second);
}

static TqlSeriesSet *
series_of_expr(const SeriesState *state, const TqlMetricsExpr *m, int *number)
{
	check_stack_depth();
	if (m->kind == TQL_ME_QUERY)
	{
		TqlSeriesSet *set = series_of_part(state, m, *number);

		(*number)++;
		return set;
	}
	else
	{
		TqlSeriesSet *left = m->left->kind == TQL_ME_LITERAL ? NULL : series_of_expr(state, m->left, number);
		TqlSeriesSet *right = m->right->kind == TQL_ME_LITERAL ? NULL : series_of_expr(state, m->right, number);

		return tql_series_math(m, left, right);
	}
}

/* ----------------------------------------------------------------- output */

static Jsonb *
parse_json(const char *json)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

Jsonb *
tql_label_list(const List *labels)
{
	JsonbParseState *state = NULL;
	ListCell        *lc;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach (lc, labels)
	{
		const TqlLabel *label = lfirst(lc);
		TqlValue        value;

		tql_value_load(parse_json(label->json), &value);
		tql_push_attribute(&state, label->key, strlen(label->key), &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static void
show_labels(const TqlSeriesSet *set, const TqlSeries *series, Jsonb **object, Jsonb **list)
{
	StringInfoData json;
	List          *labels = series->labels;
	ListCell      *lc;

	initStringInfo(&json);
	if (labels == NIL)
	{
		StringInfoData name;

		initStringInfo(&name);
		escape_json(&name, set->name);
		labels = list_make1(tql_make_label("__name__", name.data));
	}
	appendStringInfoChar(&json, '{');
	foreach (lc, labels)
	{
		const TqlLabel *label = lfirst(lc);

		if (foreach_current_index(lc) > 0)
			appendStringInfoString(&json, ", ");
		escape_json(&json, label->key);
		appendStringInfo(&json, ": %s", label->json);
	}
	appendStringInfoChar(&json, '}');
	*list = tql_label_list(labels);
	*object = parse_json(json.data);
}

static Datum
series_row(const SeriesState *state, const TqlSeriesSet *set, const TqlSeries *series, TupleDesc desc)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	Datum      *times = palloc(sizeof(Datum) * set->n_steps);
	Datum      *values = palloc(sizeof(Datum) * set->n_steps);
	Datum       columns[4];
	bool        nulls[4] = {0};
	Jsonb      *object;
	Jsonb      *list;
	int         n = 0;

	for (int i = 0; i < set->n_steps; i++)
	{
		if (!series->present[i])
			continue;
		times[n] = TimestampTzGetDatum((state->start + (i + 1) * state->step) / 1000 - epoch);
		values[n++] = Float8GetDatum(series->values[i]);
	}
	show_labels(set, series, &object, &list);
	columns[0] = JsonbPGetDatum(object);
	columns[1] = JsonbPGetDatum(list);
	columns[2] = PointerGetDatum(construct_array(times, n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	columns[3] = PointerGetDatum(construct_array(values, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	return HeapTupleGetDatum(heap_form_tuple(desc, columns, nulls));
}

/* Final function of tempo.metrics_series(): tempo.series[] */
Datum
tempo_metrics_series(PG_FUNCTION_ARGS)
{
	SeriesState  *state;
	MemoryContext old;
	TqlSeriesSet *set;
	TupleDesc     desc;
	Oid           element;
	int16         typlen;
	bool          typbyval;
	char          typalign;
	int           number = 0;
	Datum        *rows;
	ArrayType    *array;
	ListCell     *lc;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (SeriesState *) PG_GETARG_POINTER(0);
	element = get_element_type(get_func_rettype(fcinfo->flinfo->fn_oid));
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);

	old = MemoryContextSwitchTo(state->context);
	desc = lookup_rowtype_tupdesc_copy(element, -1);
	qsort(state->rows, state->n_rows, sizeof(Row), compare_rows);
	set = tql_second_stages(series_of_expr(state, state->query->metrics, &number), state->query->second);
	tql_sort_series(set);
	rows = palloc(sizeof(Datum) * Max(list_length(set->series), 1));
	foreach (lc, set->series)
	{
		CHECK_FOR_INTERRUPTS();
		rows[foreach_current_index(lc)] = series_row(state, set, lfirst(lc), desc);
	}
	MemoryContextSwitchTo(old);
	if (set->series == NIL)
		array = construct_empty_array(element);
	else
		array = construct_array(rows, list_length(set->series), element, typlen, typbyval, typalign);
	PG_RETURN_ARRAYTYPE_P(array);
}
