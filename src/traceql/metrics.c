/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  What metrics queries measure of one span.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "traceql/metrics.h"
#include "utils/builtins.h"
#include "utils/json.h"

PG_FUNCTION_INFO_V1(tempo_number);
PG_FUNCTION_INFO_V1(tempo_log2_bucket);
PG_FUNCTION_INFO_V1(tempo_label);
PG_FUNCTION_INFO_V1(tempo_sampling_weight);

static const TqlMetricsExpr *
find_part(const TqlMetricsExpr *m, int number, int *seen)
{
	const TqlMetricsExpr *found;

	check_stack_depth();
	switch (m->kind)
	{
		case TQL_ME_QUERY:
			return (*seen)++ == number ? m : NULL;
		case TQL_ME_LITERAL:
			return NULL;
		case TQL_ME_OPERATION:
			found = find_part(m->left, number, seen);
			return found ? found : find_part(m->right, number, seen);
	}
	return NULL;
}

const TqlMetricsExpr *
tql_metrics_part(const TqlMetricsExpr *m, int number)
{
	int                   seen = 0;
	const TqlMetricsExpr *part = find_part(m, number, &seen);

	if (part == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("the expression has no query number %d", number)));
	return part;
}

int
tql_metrics_parts(const TqlMetricsExpr *m)
{
	int seen = 0;

	(void) find_part(m, -1, &seen);
	return seen;
}

int64
tql_automatic_step(int64 length)
{
	static const int64 grains[] = {3600, 300, 60, 15, 5, 1};
	const int64        second = 1000000000;
	int64              step = length / 240;

	if (length < 60 * second)
		return Max(step / 50000000 * 50000000, 50000000);
	for (int i = 0; i < lengthof(grains); i++)
	{
		if (step > grains[i] * second)
			return step / (grains[i] * second) * (grains[i] * second);
	}
	return second;
}

bool
tql_align_range(int64 start, int64 end, int64 step, TqlRange *range)
{
	int64 over;

	range->step = step;
	over = start % step;
	if (over < 0)
		over += step;
	if (pg_sub_s64_overflow(start, over, &range->start) || pg_sub_s64_overflow(range->start, step, &range->start))
		return false;
	over = end % step;
	if (over < 0)
		over += step;
	range->after = range->start;
	range->stop = end;
	if (over > 0 && pg_add_s64_overflow(end, step - over, &range->stop))
		return false;
	return true;
}

bool
tql_hint_is_true(const TqlQuery *query, const char *name)
{
	bool      result = false;
	ListCell *lc;

	foreach (lc, query->hints)
	{
		const TqlHint *hint = lfirst(lc);

		if (strcmp(hint->name, name) == 0)
			result = hint->value.type == TQL_BOOL && hint->value.n;
	}
	return result;
}

int
tql_hint_exemplars(const TqlQuery *query, int limit)
{
	int       result = limit;
	ListCell *lc;

	foreach (lc, query->hints)
	{
		const TqlHint *hint = lfirst(lc);

		if (strcmp(hint->name, "exemplars") != 0)
			continue;
		if (hint->value.type == TQL_BOOL)
			result = hint->value.n ? limit : 0;
		else if (hint->value.type == TQL_INT)
			result = (int) Min(Max(hint->value.n, 0), limit);
	}
	return result;
}

/* The smallest power of two that is not below the value; values below 2 are not counted. */
bool
tql_log2_bucket(double value, double *edge)
{
	int exponent;

	if (isnan(value) || isinf(value) || value < 2)
		return false;
	if (frexp(value, &exponent) == 0.5)
		exponent--;
	*edge = ldexp(1, exponent);
	return true;
}

bool
tql_measure(const TqlMetrics *metrics, double number, double *out)
{
	if (metrics == NULL || isnan(number))
		return false;
	if (metrics->function == TQL_M_QUANTILE || metrics->function == TQL_M_HISTOGRAM)
		return tql_log2_bucket(number, out);
	*out = number;
	return true;
}

char *
tql_label_text(const TqlValue *value)
{
	StringInfoData out;
	Jsonb         *jb;

	initStringInfo(&out);
	switch (value->type)
	{
		case TQL_V_STRING:
			escape_json(&out, pnstrdup(value->s, value->len));
			return out.data;
		case TQL_V_INT:
		case TQL_V_DOUBLE:
		case TQL_V_BOOL:
			jb = tql_value_to_jsonb(value);
			return JsonbToCString(NULL, &jb->root, VARSIZE(jb));
		case TQL_V_DURATION:
			return psprintf("\"%s\"", tql_print_duration(value->n));
		case TQL_V_STATUS:
			return psprintf("\"%s\"", tql_status_text(value->n));
		case TQL_V_KIND:
			return psprintf("\"%s\"", tql_kind_text(value->n));
		case TQL_V_ARRAY:
		case TQL_V_NIL:
		case TQL_V_OPAQUE:
			break;
	}
	return pstrdup("\"nil\"");
}

/* ---------------------------------------------------------------- compare */

static List *
add_set(List *keys, const char *side, TqlScope scope, Jsonb *set)
{
	JsonbIterator     *it;
	JsonbValue         key;
	JsonbValue         v;
	JsonbIteratorToken token;

	if (set == NULL || !JB_ROOT_IS_OBJECT(set))
		return keys;
	it = JsonbIteratorInit(&set->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		TqlAttribute attribute = {.intrinsic = TQL_ATTRIBUTE, .scope = scope};
		TqlValue     value;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		attribute.name = pnstrdup(key.val.string.val, key.val.string.len);
		tql_value_from_set(&set->root, attribute.name, key.val.string.len, &value);
		keys = lappend(keys, list_make3(unconstify(char *, side), tql_print_attribute(&attribute), tql_label_text(&value)));
	}
	return keys;
}

List *
tql_compare_keys(TqlTrace *trace, TqlSpan *span, const TqlMetrics *metrics)
{
	static const TqlIntrinsic intrinsics[] = {
		TQL_I_NAME, TQL_I_KIND, TQL_I_STATUS, TQL_I_STATUS_MESSAGE, TQL_I_ROOT_NAME, TQL_I_ROOT_SERVICE_NAME,
		TQL_I_CHILD_COUNT, TQL_I_INSTRUMENTATION_NAME, TQL_I_INSTRUMENTATION_VERSION};
	bool        selected = tql_span_matches(trace, span, metrics->compare);
	const char *side;
	List       *keys = NIL;

	if (list_length(metrics->compare_args) == 3)
		selected = selected && span->start > ((TqlStatic *) lsecond(metrics->compare_args))->n &&
		           span->start <= ((TqlStatic *) lthird(metrics->compare_args))->n;
	side = selected ? "selection" : "baseline";
	for (int i = 0; i < lengthof(intrinsics); i++)
	{
		TqlAttribute attribute = {.intrinsic = intrinsics[i]};
		TqlValue     value;

		tql_span_attribute(trace, span, &attribute, &value);
		keys = lappend(keys, list_make3(unconstify(char *, side), tql_print_attribute(&attribute), tql_label_text(&value)));
	}
	keys = add_set(keys, side, TQL_SCOPE_SPAN, span->attributes);
	keys = add_set(keys, side, TQL_SCOPE_RESOURCE, span->resource);
	return add_set(keys, side, TQL_SCOPE_INSTRUMENTATION, span->scope_attributes);
}

/* --------------------------------------------------------------- sampling */

/* The hexadecimal digits behind "name" as a fraction of 16^14; false if they are none. */
static bool
read_fraction(const char *field, const char *end, const char *name, double *out)
{
	int    digits = 0;
	uint64 n = 0;

	if (end - field <= 3 || memcmp(field, name, 3) != 0)
		return false;
	for (field += 3; field < end; field++, digits++)
	{
		const char *hex = "0123456789abcdef";
		const char *at = strchr(hex, *field);

		if (at == NULL || *field == '\0' || digits == 14)
			return false;
		n = n * 16 + (at - hex);
	}
	for (; digits < 14; digits++)
		n *= 16;
	*out = (double) n / 72057594037927936.0;
	return true;
}

/*
 * Member "ot" of the tracestate has fields separated by semicolons: "th" is
 * the threshold below which spans were dropped, "rv" the span's random value.
 */
double
tql_sampling_weight(const char *trace_state, int len)
{
	const char *end = trace_state + len;
	const char *p = trace_state;
	double      threshold = -1;
	double      random = -1;
	double      weight;

	while (p && p < end)
	{
		const char *comma = memchr(p, ',', end - p);
		const char *stop = comma ? comma : end;

		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if (stop - p > 3 && memcmp(p, "ot=", 3) == 0)
		{
			p += 3;
			while (p < stop)
			{
				const char *semicolon = memchr(p, ';', stop - p);
				const char *field_end = semicolon ? semicolon : stop;

				if (!read_fraction(p, field_end, "th:", &threshold))
					(void) read_fraction(p, field_end, "rv:", &random);
				p = field_end + 1;
			}
		}
		p = stop + 1;
	}
	if (threshold < 0)
		return 1;
	weight = 1 / (1 - threshold);
	if (random >= 0)
		weight = floor(weight) + (random < weight - floor(weight));
	return weight;
}

/* ------------------------------------------------------- in plain queries */

/* tempo.number(value): the number that a value is, NULL if it is none */
Datum
tempo_number(PG_FUNCTION_ARGS)
{
	TqlValue v;

	tql_value_load(PG_GETARG_JSONB_P(0), &v);
	if (!tql_value_is_number(&v) || isnan(tql_value_number(&v)))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(tql_value_number(&v));
}

/* tempo.log2_bucket(value) */
Datum
tempo_log2_bucket(PG_FUNCTION_ARGS)
{
	double edge;

	if (!tql_log2_bucket(PG_GETARG_FLOAT8(0), &edge))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(edge);
}

/* tempo.label(value): JSON text of a label; NULL is nil */
Datum
tempo_label(PG_FUNCTION_ARGS)
{
	TqlValue v = {0};

	if (!PG_ARGISNULL(0))
		tql_value_load(PG_GETARG_JSONB_P(0), &v);
	PG_RETURN_TEXT_P(cstring_to_text(tql_label_text(&v)));
}

/* tempo.sampling_weight(trace_state) */
Datum
tempo_sampling_weight(PG_FUNCTION_ARGS)
{
	text *t = PG_GETARG_TEXT_PP(0);

	PG_RETURN_FLOAT8(tql_sampling_weight(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)));
}
