/*-------------------------------------------------------------------------
 *
 * jsonb.c
 *	  Attributes, events and links as jsonb.
 *
 * jsonb numbers are numerics, and a numeric keeps the number of digits after
 * its point: 5.0 is not printed as 5, survives being stored, dumped and
 * restored, and still compares equal to 5.  So a number with a point is a
 * double here, and one without is an integer.  numeric prints no exponents:
 * 1e300 is a long number, and read from JSON it has no point; so an integer
 * that int64 cannot hold is a double if it has no more significant digits than
 * doubles are written with, and else is refused rather than rounded.  numeric
 * has no negative zero either, which therefore is wrapped, as are NaN and the
 * infinities.
 *
 * An object with the single key "$otlp" is a wrapper wherever a value stands;
 * the attribute set itself is no value, so an attribute may have that name.
 * JSON null is read as an empty value, which prints as {"$otlp": {}}.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/jsonb.h"
#include "access/memory.h"

#include <math.h>

#include "common/base64.h"
#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define WRAPPER_KEY "$otlp"

/*
 * A tree of JsonbValues is built and flattened at the end.  Objects
 * are sorted and made unique here, keeping the first of equal keys;
 * pushJsonbValue() would keep the last.
 */

static void
set_string(JsonbValue *out, const char *data, uint32 len)
{
	out->type = jbvString;
	out->val.string.val = unconstify(char *, data);
	out->val.string.len = (int) len;
}

static void
set_cstring(JsonbValue *out, const char *text)
{
	set_string(out, text, (uint32) strlen(text));
}

static void
set_int(JsonbValue *out, int64 value)
{
	out->type = jbvNumeric;
	out->val.numeric = int64_to_numeric(value);
}

static void
set_object(JsonbValue *out, int n_pairs)
{
	out->type = jbvObject;
	out->val.object.nPairs = n_pairs;
	out->val.object.pairs = palloc(sizeof(JsonbPair) * Max(n_pairs, 1));
}

static void
set_array(JsonbValue *out, int n_elems)
{
	out->type = jbvArray;
	out->val.array.nElems = n_elems;
	out->val.array.rawScalar = false;
	out->val.array.elems = palloc(sizeof(JsonbValue) * Max(n_elems, 1));
}

/* jsonb's order of keys: by length, then by bytes; equal ones as they came */
static int
compare_pairs(const void *a, const void *b)
{
	const JsonbPair *pa = a;
	const JsonbPair *pb = b;
	int              order;

	if (pa->key.val.string.len != pb->key.val.string.len)
		return pa->key.val.string.len < pb->key.val.string.len ? -1 : 1;
	order = memcmp(pa->key.val.string.val, pb->key.val.string.val, pa->key.val.string.len);
	if (order != 0)
		return order;
	return pa->order < pb->order ? -1 : 1;
}

static void
finish_object(JsonbValue *object)
{
	JsonbPair *pairs = object->val.object.pairs;
	int        n = object->val.object.nPairs;
	bool       sorted = true;
	int        kept = 0;

	for (int i = 0; i < n; i++)
		pairs[i].order = (uint32) i;
	for (int i = 1; i < n && sorted; i++)
		sorted = compare_pairs(&pairs[i - 1], &pairs[i]) < 0;
	if (!sorted)
		qsort(pairs, n, sizeof(JsonbPair), compare_pairs);
	for (int i = 0; i < n; i++)
	{
		if (kept > 0 && pairs[kept - 1].key.val.string.len == pairs[i].key.val.string.len &&
		    memcmp(pairs[kept - 1].key.val.string.val, pairs[i].key.val.string.val,
		           pairs[i].key.val.string.len) == 0)
			continue;
		if (kept != i)
			pairs[kept] = pairs[i];
		kept++;
	}
	object->val.object.nPairs = kept;
}

/* An object of one pair, whose value is returned to be filled in. */
static JsonbValue *
set_single(JsonbValue *out, const char *key)
{
	set_object(out, 1);
	set_cstring(&out->val.object.pairs[0].key, key);
	out->val.object.pairs[0].order = 0;
	return &out->val.object.pairs[0].value;
}

static void
set_base64(JsonbValue *out, const char *data, uint32 len)
{
	int   size = pg_b64_enc_len((int) len);
	char *text = palloc(size + 1);
	int   n = pg_b64_encode((const void *) data, (int) len, text, size);

	if (n < 0)
		elog(ERROR, "could not encode base64");
	set_string(out, text, (uint32) n);
}

/* The name of a double that no numeric holds, or NULL. */
static const char *
unusual_double(double number)
{
	if (isnan(number))
		return "NaN";
	if (isinf(number))
		return number > 0 ? "Infinity" : "-Infinity";
	if (number == 0 && signbit(number))
		return "-0";
	return NULL;
}

static void
set_double(JsonbValue *out, double number)
{
	char  text[DOUBLE_SHORTEST_DECIMAL_LEN + 330];
	char *exponent;

	/*
	 * Whole numbers that int64 holds, by arithmetic: numeric_in() is slow.
	 * Everything else through its shortest text.  A number without a point
	 * must get one, also behind the digits that an exponent stands for.
	 */
	if (fabs(number) < 1e14 && number == floor(number))
	{
		out->type = jbvNumeric;
		out->val.numeric = int64_div_fast_to_numeric((int64) number * 10, 1);
		return;
	}
	double_to_shortest_decimal_buf(number, text);
	exponent = strchr(text, 'e');
	if (exponent == NULL)
	{
		if (strchr(text, '.') == NULL)
			strcat(text, ".0");
	}
	else if (exponent[1] == '+')
	{
		int   shift = atoi(exponent + 2);
		char *point = strchr(text, '.');
		int   decimals = point ? (int) (exponent - point) - 1 : 0;

		if (decimals <= shift)
		{
			/* 1.5e+20: move the point behind all digits, then zeros and ".0" */
			char *to = exponent;

			if (point != NULL)
			{
				memmove(point, point + 1, (size_t) (exponent - point - 1));
				to--;
			}
			for (int i = decimals; i < shift; i++)
				*to++ = '0';
			strcpy(to, ".0");
		}
	}
	out->type = jbvNumeric;
	out->val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
	                                                       ObjectIdGetDatum(InvalidOid),
	                                                       Int32GetDatum(-1)));
}

/* An AnyValue in OTLP's own JSON form, inside a wrapper. */
static void
set_otlp(JsonbValue *out, const AnyValue *value)
{
	JsonbValue *inner;

	check_stack_depth();
	switch ((AnyValueType) value->type)
	{
		case ANY_EMPTY:
			set_object(out, 0);
			return;
		case ANY_STRING:
			set_string(set_single(out, "stringValue"), value->u.data, value->len);
			return;
		case ANY_BOOL:
			inner = set_single(out, "boolValue");
			inner->type = jbvBool;
			inner->val.boolean = value->u.boolean;
			return;
		case ANY_INT:
		{
			char *text = psprintf(INT64_FORMAT, value->u.integer);

			set_cstring(set_single(out, "intValue"), text);
			return;
		}
		case ANY_DOUBLE:
		{
			const char *name = unusual_double(value->u.number);

			inner = set_single(out, "doubleValue");
			if (name != NULL)
				set_cstring(inner, name);
			else
				set_double(inner, value->u.number);
			return;
		}
		case ANY_BYTES:
			set_base64(set_single(out, "bytesValue"), value->u.data, value->len);
			return;
		case ANY_ARRAY:
			inner = set_single(set_single(out, "arrayValue"), "values");
			set_array(inner, (int) value->len);
			for (uint32 i = 0; i < value->len; i++)
				set_otlp(&inner->val.array.elems[i], &value->u.elements[i]);
			return;
		case ANY_KVLIST:
			inner = set_single(set_single(out, "kvlistValue"), "values");
			set_array(inner, (int) value->len);
			for (uint32 i = 0; i < value->len; i++)
			{
				const KeyValue *member = &value->u.members[i];
				JsonbValue     *element = &inner->val.array.elems[i];

				set_object(element, 2);
				set_cstring(&element->val.object.pairs[0].key, "key");
				set_string(&element->val.object.pairs[0].value, member->key.data, member->key.len);
				set_cstring(&element->val.object.pairs[1].key, "value");
				set_otlp(&element->val.object.pairs[1].value, &member->value);
				finish_object(element);
			}
			return;
	}
	elog(ERROR, "unknown attribute type %d", value->type);
}

/* Would this kvlist read back as a wrapper? */
static bool
looks_wrapped(const AnyValue *value)
{
	if (value->len == 0)
		return false;
	for (uint32 i = 0; i < value->len; i++)
		if (!span_text_is(value->u.members[i].key, WRAPPER_KEY))
			return false;
	return true;
}

static void set_attributes(JsonbValue *out, AttributeList list);

static void
set_value(JsonbValue *out, const AnyValue *value)
{
	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			set_string(out, value->u.data, value->len);
			return;
		case ANY_BOOL:
			out->type = jbvBool;
			out->val.boolean = value->u.boolean;
			return;
		case ANY_INT:
			set_int(out, value->u.integer);
			return;
		case ANY_DOUBLE:
			if (unusual_double(value->u.number) != NULL)
				break;
			set_double(out, value->u.number);
			return;
		case ANY_ARRAY:
			check_stack_depth();
			set_array(out, (int) value->len);
			for (uint32 i = 0; i < value->len; i++)
				set_value(&out->val.array.elems[i], &value->u.elements[i]);
			return;
		case ANY_KVLIST:
			if (looks_wrapped(value))
				break;
			check_stack_depth();
			set_attributes(out, (AttributeList){value->u.members, value->len});
			return;
		case ANY_EMPTY:
		case ANY_BYTES:
			break;
	}
	set_otlp(set_single(out, WRAPPER_KEY), value);
}

static void
set_attributes(JsonbValue *out, AttributeList list)
{
	set_object(out, (int) list.count);
	for (uint32 i = 0; i < list.count; i++)
	{
		JsonbPair *pair = &out->val.object.pairs[i];

		set_string(&pair->key, list.items[i].key.data, list.items[i].key.len);
		set_value(&pair->value, &list.items[i].value);
	}
	finish_object(out);
}

Jsonb *
tempo_value_to_jsonb(const AnyValue *value)
{
	JsonbValue out;

	set_value(&out, value);
	return JsonbValueToJsonb(&out);
}

Jsonb *
tempo_attributes_to_jsonb(AttributeList list)
{
	JsonbValue out;

	set_attributes(&out, list);
	return JsonbValueToJsonb(&out);
}

/* Adds a pair to an object that was made with room for it. */
static JsonbValue *
add_pair(JsonbValue *object, const char *key)
{
	JsonbPair *pair = &object->val.object.pairs[object->val.object.nPairs++];

	set_cstring(&pair->key, key);
	return &pair->value;
}

static void
start_object(JsonbValue *out, int room)
{
	set_object(out, room);
	out->val.object.nPairs = 0;
}

Jsonb *
tempo_events_to_jsonb(const SpanEvent *events, uint32 n_events)
{
	JsonbValue out;

	set_array(&out, (int) n_events);
	for (uint32 i = 0; i < n_events; i++)
	{
		const SpanEvent *event = &events[i];
		JsonbValue      *object = &out.val.array.elems[i];

		start_object(object, 4);
		set_int(add_pair(object, "time_unix_nano"), event->time_unix_nano);
		set_string(add_pair(object, "name"), event->name.data, event->name.len);
		set_attributes(add_pair(object, "attributes"), event->attributes);
		if (event->dropped_attributes_count != 0)
			set_int(add_pair(object, "dropped_attributes_count"), event->dropped_attributes_count);
		finish_object(object);
	}
	return JsonbValueToJsonb(&out);
}

static void
set_hex(JsonbValue *out, const uint8 *id, size_t len)
{
	char *hex = palloc(2 * len + 1);

	id_to_hex(id, len, hex);
	set_string(out, hex, (uint32) (2 * len));
}

Jsonb *
tempo_links_to_jsonb(const SpanLink *links, uint32 n_links)
{
	JsonbValue out;

	set_array(&out, (int) n_links);
	for (uint32 i = 0; i < n_links; i++)
	{
		const SpanLink *link = &links[i];
		JsonbValue     *object = &out.val.array.elems[i];

		start_object(object, 6);
		set_hex(add_pair(object, "trace_id"), link->trace_id.bytes, TRACE_ID_LEN);
		set_hex(add_pair(object, "span_id"), link->span_id.bytes, SPAN_ID_LEN);
		if (link->trace_state.len > 0)
			set_string(add_pair(object, "trace_state"), link->trace_state.data, link->trace_state.len);
		if (link->flags != 0)
			set_int(add_pair(object, "flags"), link->flags);
		set_attributes(add_pair(object, "attributes"), link->attributes);
		if (link->dropped_attributes_count != 0)
			set_int(add_pair(object, "dropped_attributes_count"), link->dropped_attributes_count);
		finish_object(object);
	}
	return JsonbValueToJsonb(&out);
}
