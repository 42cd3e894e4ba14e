/*-------------------------------------------------------------------------
 *
 * runtime.c
 *	  The SQL functions that compiled TraceQL is made of: attribute look-up,
 *	  comparison, regular expressions and arithmetic on jsonb values.
 *
 * A value is what the attribute columns hold; SQL NULL is nil.  Comparisons
 * are never NULL: whatever does not fit is false.  Nothing here raises an
 * error for what data it meets: integers wrap, doubles follow IEEE 754.
 *
 * An array whose elements have one primitive type is compared element by
 * element; a single element stands for itself.  Bytes, key-value lists, empty
 * and mixed arrays exist, but have no value that any operator can see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "traceql/ast.h"
#include "traceql/regex.h"
#include "traceql/value.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(tempo_attr);
PG_FUNCTION_INFO_V1(tempo_pick);
PG_FUNCTION_INFO_V1(tempo_event_match);
PG_FUNCTION_INFO_V1(tempo_event_match_re);
PG_FUNCTION_INFO_V1(tempo_match);
PG_FUNCTION_INFO_V1(tempo_match_re);
PG_FUNCTION_INFO_V1(tempo_match_re_text);
PG_FUNCTION_INFO_V1(tempo_truth);
PG_FUNCTION_INFO_V1(tempo_calc);
PG_FUNCTION_INFO_V1(tempo_divides_by_zero);

/* The name in {"$otlp": {"doubleValue": name}} of what no numeric can hold. */
static bool
unusual_double(const JsonbValue *name, double *out)
{
	static const struct
	{
		const char *name;
		double      value;
	} known[] = {{"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}, {"-0", -0.0}};

	if (name->type != jbvString)
		return false;
	for (int i = 0; i < lengthof(known); i++)
	{
		if (name->val.string.len == strlen(known[i].name) &&
		    memcmp(name->val.string.val, known[i].name, name->val.string.len) == 0)
		{
			*out = known[i].value;
			return true;
		}
	}
	return false;
}

static void
load_number(Numeric numeric, TqlValue *out)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(numeric)));

	/* a number with a point is a double (access/jsonb.c) */
	if (strchr(text, '.') == NULL)
	{
		errno = 0;
		out->type = TQL_V_INT;
		out->n = strtoll(text, NULL, 10);
		if (errno == 0)
			return;
	}
	out->type = TQL_V_DOUBLE;
	out->d = strtod(text, NULL);
}

/* The {"$otlp": ...} wrapper, if it is one of a double. */
static void
load_wrapper(JsonbContainer *object, TqlValue *out)
{
	JsonbValue inner;
	JsonbValue number;

	out->type = TQL_V_OPAQUE;
	if (JsonContainerSize(object) != 1 ||
	    getKeyJsonValueFromContainer(object, "$otlp", 5, &inner) == NULL ||
	    inner.type != jbvBinary || !JsonContainerIsObject(inner.val.binary.data) ||
	    getKeyJsonValueFromContainer(inner.val.binary.data, "doubleValue", 11, &number) == NULL)
		return;
	if (unusual_double(&number, &out->d))
		out->type = TQL_V_DOUBLE;
	else if (number.type == jbvNumeric)
	{
		load_number(number.val.numeric, out);
		if (out->type == TQL_V_INT)
			out->d = (double) out->n;
		out->type = TQL_V_DOUBLE;
	}
}

static void
load_scalar(const JsonbValue *in, TqlValue *out)
{
	memset(out, 0, sizeof(*out));
	out->type = TQL_V_OPAQUE;
	switch (in->type)
	{
		case jbvString:
			out->type = TQL_V_STRING;
			out->s = in->val.string.val;
			out->len = in->val.string.len;
			break;
		case jbvBool:
			out->type = TQL_V_BOOL;
			out->n = in->val.boolean;
			break;
		case jbvNumeric:
			load_number(in->val.numeric, out);
			break;
		case jbvBinary:
			if (JsonContainerIsObject(in->val.binary.data))
				load_wrapper(in->val.binary.data, out);
			break;
		default:
			break;
	}
}

static void
load_array(JsonbContainer *array, TqlValue *out)
{
	uint32             n = JsonContainerSize(array);
	JsonbIterator     *it = JsonbIteratorInit(array);
	JsonbValue         v;
	JsonbIteratorToken token;

	out->type = TQL_V_OPAQUE;
	if (n == 0)
		return;
	out->elements = palloc(sizeof(TqlValue) * n);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		load_scalar(&v, &out->elements[out->n_elements]);
		/* one primitive type throughout, or nothing can be seen */
		if (out->elements[out->n_elements].type == TQL_V_OPAQUE ||
		    out->elements[out->n_elements].type != out->elements[0].type)
			return;
		out->n_elements++;
	}
	out->type = TQL_V_ARRAY;
	if (n == 1)
	{
		TqlValue only = out->elements[0];

		*out = only;
	}
}

void
tql_value_load(Jsonb *jb, TqlValue *out)
{
	memset(out, 0, sizeof(*out));
	if (JB_ROOT_IS_SCALAR(jb))
	{
		JsonbValue v;

		JsonbExtractScalar(&jb->root, &v);
		load_scalar(&v, out);
	}
	else if (JB_ROOT_IS_ARRAY(jb))
		load_array(&jb->root, out);
	else
		load_wrapper(&jb->root, out);
}

void
tql_value_from_item(const JsonbValue *item, TqlValue *out)
{
	memset(out, 0, sizeof(*out));
	if (item->type == jbvBinary && JsonContainerIsArray(item->val.binary.data))
		load_array(item->val.binary.data, out);
	else
		load_scalar(item, out);
}

void
tql_value_from_set(JsonbContainer *set, const char *key, int key_len, TqlValue *out)
{
	JsonbValue v;

	memset(out, 0, sizeof(*out)); /* TQL_V_NIL */
	if (set == NULL || !JsonContainerIsObject(set) ||
	    getKeyJsonValueFromContainer(set, key, key_len, &v) == NULL)
		return;
	tql_value_from_item(&v, out);
}

void
tql_value_from_static(const TqlStatic *literal, TqlValue *out)
{
	memset(out, 0, sizeof(*out));
	out->n = literal->n;
	switch (literal->type)
	{
		case TQL_INT:
			out->type = TQL_V_INT;
			break;
		case TQL_DURATION:
			out->type = TQL_V_DURATION;
			break;
		case TQL_FLOAT:
			out->type = TQL_V_DOUBLE;
			out->d = literal->d;
			break;
		case TQL_BOOL:
			out->type = TQL_V_BOOL;
			break;
		case TQL_STRING:
			out->type = TQL_V_STRING;
			out->s = literal->s;
			out->len = strlen(literal->s);
			break;
		case TQL_STATUS:
			out->type = TQL_V_STATUS;
			break;
		case TQL_KIND:
			out->type = TQL_V_KIND;
			break;
		case TQL_NIL:
		case TQL_DYNAMIC:
			out->type = TQL_V_NIL;
			break;
	}
}

static void
get_value(FunctionCallInfo fcinfo, int arg, TqlValue *out)
{
	if (PG_ARGISNULL(arg))
		memset(out, 0, sizeof(*out)); /* TQL_V_NIL */
	else
		tql_value_load(PG_GETARG_JSONB_P(arg), out);
}

static Numeric
numeric_from_text(const char *text)
{
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
	                                           ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* A double keeps at least one digit behind the point. */
static Jsonb *
double_to_jsonb(double d)
{
	JsonbParseState *state = NULL;
	JsonbValue       v;
	JsonbValue      *result;
	char            *text;

	if (isnan(d) || isinf(d) || (d == 0 && signbit(d)))
	{
		JsonbValue  key = {.type = jbvString, .val.string = {.val = "$otlp", .len = 5}};
		JsonbValue  member = {.type = jbvString, .val.string = {.val = "doubleValue", .len = 11}};
		const char *name = isnan(d) ? "NaN" : d == 0 ? "-0" :
		                                  d > 0      ? "Infinity" :
		                                               "-Infinity";

		v.type = jbvString;
		v.val.string.val = unconstify(char *, name);
		v.val.string.len = strlen(name);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		pushJsonbValue(&state, WJB_KEY, &member);
		pushJsonbValue(&state, WJB_VALUE, &v);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
		result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
		return JsonbValueToJsonb(result);
	}

	text = palloc(DOUBLE_SHORTEST_DECIMAL_LEN);
	double_to_shortest_decimal_buf(d, text);
	v.type = jbvNumeric;
	v.val.numeric = numeric_from_text(text);
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
	if (strchr(text, '.') == NULL)
		v.val.numeric = numeric_from_text(psprintf("%s.0", text));
	return JsonbValueToJsonb(&v);
}

Jsonb *
tql_value_to_jsonb(const TqlValue *value)
{
	JsonbValue v;

	switch (value->type)
	{
		case TQL_V_INT:
			v.type = jbvNumeric;
			v.val.numeric = int64_to_numeric(value->n);
			break;
		case TQL_V_DOUBLE:
			return double_to_jsonb(value->d);
		case TQL_V_BOOL:
			v.type = jbvBool;
			v.val.boolean = value->n != 0;
			break;
		case TQL_V_STRING:
			v.type = jbvString;
			v.val.string.val = unconstify(char *, value->s);
			v.val.string.len = value->len;
			break;
		default:
			v.type = jbvNull;
			break;
	}
	return JsonbValueToJsonb(&v);
}

/* The comparison operator written in "text". */
static TqlOp
comparison_named(const text *name)
{
	const char *s = VARDATA_ANY(name);
	int         len = VARSIZE_ANY_EXHDR(name);

	if (len == 1)
	{
		switch (*s)
		{
			case '=':
				return TQL_EQ;
			case '<':
				return TQL_LT;
			case '>':
				return TQL_GT;
		}
	}
	else if (len == 2 && s[1] == '=')
	{
		switch (*s)
		{
			case '!':
				return TQL_NE;
			case '<':
				return TQL_LE;
			case '>':
				return TQL_GE;
		}
	}
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("\"%s\" is not a comparison operator", text_to_cstring(name)),
	         errhint("Use =, !=, <, <=, > or >=.")));
}

bool
tql_value_is_number(const TqlValue *v)
{
	return v->type == TQL_V_INT || v->type == TQL_V_DOUBLE || v->type == TQL_V_DURATION;
}

double
tql_value_number(const TqlValue *v)
{
	return v->type == TQL_V_DOUBLE ? v->d : (double) v->n;
}

static bool
order_satisfies(TqlOp op, int order)
{
	switch (op)
	{
		case TQL_EQ:
			return order == 0;
		case TQL_NE:
			return order != 0;
		case TQL_LT:
			return order < 0;
		case TQL_LE:
			return order <= 0;
		case TQL_GT:
			return order > 0;
		case TQL_GE:
			return order >= 0;
		default:
			return false;
	}
}

static bool
compare_scalars(const TqlValue *a, TqlOp op, const TqlValue *b)
{
	if (tql_value_is_number(a) && tql_value_is_number(b))
	{
		double x;
		double y;

		if (a->type != TQL_V_DOUBLE && b->type != TQL_V_DOUBLE)
			return order_satisfies(op, a->n < b->n ? -1 : a->n > b->n);
		x = tql_value_number(a);
		y = tql_value_number(b);
		if (isnan(x) || isnan(y))
			return op == TQL_NE;
		return order_satisfies(op, x < y ? -1 : x > y);
	}
	if (a->type != b->type)
		return false;
	if (a->type == TQL_V_STRING)
	{
		int order = memcmp(a->s, b->s, Min(a->len, b->len));

		if (order == 0)
			order = a->len < b->len ? -1 : a->len > b->len;
		return order_satisfies(op, order);
	}
	if (a->type == TQL_V_BOOL || a->type == TQL_V_STATUS || a->type == TQL_V_KIND)
		return (op == TQL_EQ || op == TQL_NE) && order_satisfies(op, a->n != b->n);
	return false;
}

/*
 * Arrays: = and the ordering operators ask for any pair of elements, != for
 * no equal pair among elements of one type.
 */
bool
tql_value_compare(const TqlValue *a, TqlOp op, const TqlValue *b)
{
	const TqlValue *as = a->type == TQL_V_ARRAY ? a->elements : a;
	const TqlValue *bs = b->type == TQL_V_ARRAY ? b->elements : b;
	uint32          na = a->type == TQL_V_ARRAY ? a->n_elements : 1;
	uint32          nb = b->type == TQL_V_ARRAY ? b->n_elements : 1;

	if (na == 1 && nb == 1)
		return compare_scalars(as, op, bs);
	for (uint32 i = 0; i < na; i++)
	{
		for (uint32 j = 0; j < nb; j++)
		{
			bool holds = compare_scalars(&as[i], op, &bs[j]);

			if (holds != (op == TQL_NE))
				return holds;
		}
	}
	return op == TQL_NE;
}

/* tempo.attr(attributes, resource, scope, key): the value of an attribute, NULL if there is none */
Datum
tempo_attr(PG_FUNCTION_ARGS)
{
	text      *scope;
	text      *key;
	char       which;
	JsonbValue v;

	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	scope = PG_GETARG_TEXT_PP(2);
	key = PG_GETARG_TEXT_PP(3);
	which = VARSIZE_ANY_EXHDR(scope) > 0 ? *VARDATA_ANY(scope) : '\0';
	if (which != 's' && which != 'r' && which != 'a')
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("\"%s\" is not an attribute scope", text_to_cstring(scope)),
		         errhint("Use span, resource or any.")));

	for (int arg = (which == 'r'); arg <= (which != 's'); arg++)
	{
		Jsonb *attributes;

		if (PG_ARGISNULL(arg))
			continue;
		attributes = PG_GETARG_JSONB_P(arg);
		if (JB_ROOT_IS_OBJECT(attributes) &&
		    getKeyJsonValueFromContainer(&attributes->root, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), &v))
			PG_RETURN_JSONB_P(JsonbValueToJsonb(&v));
	}
	PG_RETURN_NULL();
}

/* Are all members of an object under these keys? */
static bool
has_only(Jsonb *object, const Datum *keys, const bool *nulls, int n)
{
	JsonbIterator     *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue         v;

	(void) JsonbIteratorNext(&it, &v, true);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_END_OBJECT)
	{
		bool found = token != WJB_KEY;

		for (int i = 0; i < n && !found; i++)
		{
			text *key = nulls[i] ? NULL : DatumGetTextPP(keys[i]);

			found = key && VARSIZE_ANY_EXHDR(key) == v.val.string.len &&
			        memcmp(VARDATA_ANY(key), v.val.string.val, v.val.string.len) == 0;
		}
		if (!found)
			return false;
	}
	return true;
}

/* tempo.pick(attributes, keys): what is under these keys */
Datum
tempo_pick(PG_FUNCTION_ARGS)
{
	Jsonb           *attributes = PG_GETARG_JSONB_P(0);
	JsonbParseState *state = NULL;
	JsonbValue       v;
	Datum           *keys;
	bool            *nulls;
	int              n;

	if (!JB_ROOT_IS_OBJECT(attributes) || JB_ROOT_COUNT(attributes) == 0)
		PG_RETURN_JSONB_P(attributes);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls, &n);
	if (has_only(attributes, keys, nulls, n))
		PG_RETURN_JSONB_P(attributes);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		text *key = nulls[i] ? NULL : DatumGetTextPP(keys[i]);

		if (key == NULL ||
		    !getKeyJsonValueFromContainer(&attributes->root, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), &v))
			continue;
		tql_push_text(&state, WJB_KEY, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* tempo.match(value, op, literal) */
Datum
tempo_match(PG_FUNCTION_ARGS)
{
	TqlValue a;
	TqlValue b;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	get_value(fcinfo, 0, &a);
	get_value(fcinfo, 2, &b);
	PG_RETURN_BOOL(tql_value_compare(&a, comparison_named(PG_GETARG_TEXT_PP(1)), &b));
}

static TqlRegex *
get_regex(const char *pattern, int length)
{
	TqlRegex *regex = tql_regex_get(pattern, length);

	if (regex == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION),
		         errmsg("invalid regex: `%s`", pnstrdup(pattern, length))));
	return regex;
}

static bool
match_value(const TqlValue *v, const char *pattern, int length, bool negate)
{
	const TqlValue *elements = v->type == TQL_V_ARRAY ? v->elements : v;
	uint32          n = v->type == TQL_V_ARRAY ? v->n_elements : 1;
	TqlRegex       *regex = get_regex(pattern, length);
	bool            any = false;

	if (elements[0].type != TQL_V_STRING)
		return false;
	for (uint32 i = 0; i < n && !any; i++)
		any = tql_regex_match(regex, elements[i].s, elements[i].len);
	return any != negate;
}

bool
tql_value_match(const TqlValue *v, const char *pattern, bool negate)
{
	return match_value(v, pattern, strlen(pattern), negate);
}

/* tempo.match_re(value, pattern, negate): strings only; of an array any element, or none if negated */
Datum
tempo_match_re(PG_FUNCTION_ARGS)
{
	TqlValue v;
	text    *pattern;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	get_value(fcinfo, 0, &v);
	pattern = PG_GETARG_TEXT_PP(1);
	PG_RETURN_BOOL(match_value(&v, VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern),
	                           !PG_ARGISNULL(2) && PG_GETARG_BOOL(2)));
}

/* The value under a key of attribute "i" of a list of events; false if it has none. */
static bool
event_value(Jsonb *events, uint32 i, text *key, TqlValue *value)
{
	JsonbValue *event = getIthJsonbValueFromContainer(&events->root, i);
	JsonbValue  attributes;

	if (event == NULL || event->type != jbvBinary || !JsonContainerIsObject(event->val.binary.data) ||
	    !getKeyJsonValueFromContainer(event->val.binary.data, "attributes", 10, &attributes) ||
	    attributes.type != jbvBinary)
		return false;
	tql_value_from_set(attributes.val.binary.data, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), value);
	return value->type != TQL_V_NIL;
}

/* tempo.event_match(events, key, op, literal): tempo.match() of the attribute of any event */
Datum
tempo_event_match(PG_FUNCTION_ARGS)
{
	Jsonb   *events = PG_GETARG_JSONB_P(0);
	text    *key = PG_GETARG_TEXT_PP(1);
	TqlOp    op = comparison_named(PG_GETARG_TEXT_PP(2));
	TqlValue value;
	TqlValue literal;

	if (!JB_ROOT_IS_ARRAY(events))
		PG_RETURN_BOOL(false);
	get_value(fcinfo, 3, &literal);
	for (uint32 i = 0; i < JB_ROOT_COUNT(events); i++)
	{
		if (event_value(events, i, key, &value) && tql_value_compare(&value, op, &literal))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/* tempo.event_match_re(events, key, pattern, negate): tempo.match_re() of the attribute of any event */
Datum
tempo_event_match_re(PG_FUNCTION_ARGS)
{
	Jsonb   *events = PG_GETARG_JSONB_P(0);
	text    *key = PG_GETARG_TEXT_PP(1);
	text    *pattern = PG_GETARG_TEXT_PP(2);
	TqlValue value;

	if (!JB_ROOT_IS_ARRAY(events))
		PG_RETURN_BOOL(false);
	for (uint32 i = 0; i < JB_ROOT_COUNT(events); i++)
	{
		if (event_value(events, i, key, &value) &&
		    match_value(&value, VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern), PG_GETARG_BOOL(3)))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/* tempo.match_re(value text, pattern, negate): the same for text columns */
Datum
tempo_match_re_text(PG_FUNCTION_ARGS)
{
	text *value;
	text *pattern;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	value = PG_GETARG_TEXT_PP(0);
	pattern = PG_GETARG_TEXT_PP(1);
	PG_RETURN_BOOL(tql_regex_match(get_regex(VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern)),
	                               VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)) !=
	               (!PG_ARGISNULL(2) && PG_GETARG_BOOL(2)));
}

/* tempo.truth(value): the boolean in it, NULL if it is none */
Datum
tempo_truth(PG_FUNCTION_ARGS)
{
	TqlValue v;

	get_value(fcinfo, 0, &v);
	if (v.type != TQL_V_BOOL)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(v.n != 0);
}

static bool
calculate_integers(int64 a, char op, int64 b, TqlValue *out)
{
	out->type = TQL_V_INT;
	switch (op)
	{
		case '+':
			out->n = (int64) ((uint64) a + (uint64) b);
			return true;
		case '-':
			out->n = (int64) ((uint64) a - (uint64) b);
			return true;
		case '*':
			out->n = (int64) ((uint64) a * (uint64) b);
			return true;
		case '/':
		case '%':
			if (b == 0)
				return false;
			if (b == -1) /* INT64_MIN / -1 traps otherwise */
				out->n = op == '/' ? (int64) (0 - (uint64) a) : 0;
			else
				out->n = op == '/' ? a / b : a % b;
			return true;
		case '^':
			out->n = tql_int_pow(a, b);
			return true;
	}
	return false;
}

static bool
calculate_doubles(double a, char op, double b, TqlValue *out)
{
	out->type = TQL_V_DOUBLE;
	switch (op)
	{
		case '+':
			out->d = a + b;
			return true;
		case '-':
			out->d = a - b;
			return true;
		case '*':
			out->d = a * b;
			return true;
		case '/':
			out->d = a / b;
			return true;
		case '%':
			out->d = fmod(a, b);
			return true;
		case '^':
			out->d = pow(a, b);
			return true;
	}
	return false;
}

bool
tql_value_calculate(const TqlValue *a, char op, const TqlValue *b, TqlValue *out)
{
	memset(out, 0, sizeof(*out));
	if (tql_value_is_number(a) && tql_value_is_number(b))
	{
		if (a->type != TQL_V_INT || b->type != TQL_V_INT)
			(void) calculate_doubles(tql_value_number(a), op, tql_value_number(b), out);
		else if (!calculate_integers(a->n, op, b->n, out))
		{
			out->type = TQL_V_BOOL;
			return false;
		}
	}
	else
		out->type = TQL_V_BOOL; /* false */
	return true;
}

/* tempo.calc(left, op, right): arithmetic; the boolean false if an operand is no number */
Datum
tempo_calc(PG_FUNCTION_ARGS)
{
	TqlValue a;
	TqlValue b;
	TqlValue result;
	text    *op;
	char     c;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	op = PG_GETARG_TEXT_PP(1);
	c = VARSIZE_ANY_EXHDR(op) == 1 ? *VARDATA_ANY(op) : ' ';
	if (strchr("+-*/%^", c) == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("\"%s\" is not an arithmetic operator", text_to_cstring(op)),
		         errhint("Use +, -, *, /, %% or ^.")));
	get_value(fcinfo, 0, &a);
	get_value(fcinfo, 2, &b);
	(void) tql_value_calculate(&a, c, &b, &result);
	PG_RETURN_JSONB_P(tql_value_to_jsonb(&result));
}

/* tempo.divides_by_zero(left, right): an integer by the integer 0, for which a span does not match */
Datum
tempo_divides_by_zero(PG_FUNCTION_ARGS)
{
	TqlValue a;
	TqlValue b;

	get_value(fcinfo, 0, &a);
	get_value(fcinfo, 1, &b);
	PG_RETURN_BOOL(a.type == TQL_V_INT && b.type == TQL_V_INT && b.n == 0);
}

void
tql_push_text(JsonbParseState **state, JsonbIteratorToken token, const char *s, int len)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

/* Pushes {"intValue": "5"} and its like. */
void
tql_push_any_value(JsonbParseState **state, const TqlValue *value)
{
	JsonbValue  v;
	char       *digits;
	const char *name;

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	switch (value->type)
	{
		case TQL_V_STRING:
			tql_push_text(state, WJB_KEY, "stringValue", 11);
			tql_push_text(state, WJB_VALUE, value->s, value->len);
			break;
		case TQL_V_INT:
			digits = psprintf(INT64_FORMAT, value->n);
			tql_push_text(state, WJB_KEY, "intValue", 8);
			tql_push_text(state, WJB_VALUE, digits, strlen(digits));
			break;
		case TQL_V_BOOL:
			v.type = jbvBool;
			v.val.boolean = value->n != 0;
			tql_push_text(state, WJB_KEY, "boolValue", 9);
			pushJsonbValue(state, WJB_VALUE, &v);
			break;
		case TQL_V_DOUBLE:
			tql_push_text(state, WJB_KEY, "doubleValue", 11);
			if (isnan(value->d) || isinf(value->d))
			{
				name = isnan(value->d) ? "NaN" : value->d > 0 ? "Infinity" :
				                                                "-Infinity";
				tql_push_text(state, WJB_VALUE, name, strlen(name));
			}
			else
			{
				JsonbExtractScalar(&double_to_jsonb(value->d == 0 ? 0.0 : value->d)->root, &v);
				pushJsonbValue(state, WJB_VALUE, &v);
			}
			break;
		case TQL_V_ARRAY:
			tql_push_text(state, WJB_KEY, "arrayValue", 10);
			pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
			tql_push_text(state, WJB_KEY, "values", 6);
			pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
			/* elements are scalars, so this goes no deeper */
			for (uint32 i = 0; i < value->n_elements; i++)
				tql_push_any_value(state, &value->elements[i]);
			pushJsonbValue(state, WJB_END_ARRAY, NULL);
			pushJsonbValue(state, WJB_END_OBJECT, NULL);
			break;
		case TQL_V_DURATION:
		case TQL_V_STATUS:
		case TQL_V_KIND:
			name = value->type == TQL_V_DURATION ? tql_print_duration(value->n) :
			       value->type == TQL_V_STATUS   ? tql_status_text(value->n) :
			                                       tql_kind_text(value->n);
			tql_push_text(state, WJB_KEY, "stringValue", 11);
			tql_push_text(state, WJB_VALUE, name, strlen(name));
			break;
		case TQL_V_NIL:
		case TQL_V_OPAQUE:
			break;
	}
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
push_member(JsonbParseState **state, const char *key, const char *value, int len)
{
	tql_push_text(state, WJB_KEY, key, strlen(key));
	tql_push_text(state, WJB_VALUE, value, len);
}

void
tql_push_attribute(JsonbParseState **state, const char *key, int key_len, const TqlValue *value)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_member(state, "key", key, key_len);
	tql_push_text(state, WJB_KEY, "value", 5);
	tql_push_any_value(state, value);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}
