/*-------------------------------------------------------------------------
 *
 * lists.c
 *	  Which keys, values, names and tenants a segment has, without decoding
 *	  its rows.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reading.h"

#include <stdlib.h>

#include "segment/bloom.h"

/* One source of a key: a column, a rare key, or an attribute of a resource or scope. */
typedef struct KeySource
{
	AttributeScope  scope;
	SpanText        key;
	uint32_t        types;
	uint32_t        column; /* or UINT32_MAX */
	const AnyValue *value;  /* of a resource or scope */
	bool            rare;
} KeySource;

static int
compare_text(SpanText a, SpanText b)
{
	uint32_t len = a.len < b.len ? a.len : b.len;
	int      d = len == 0 ? 0 : memcmp(a.data, b.data, len);

	return d != 0 ? d : a.len < b.len ? -1 :
	                                    a.len > b.len;
}

/* Any total order in which only equal values are equal. */
static int
compare_values(const AnyValue *a, const AnyValue *b)
{
	uint64_t x;
	uint64_t y;

	if (a->type != b->type)
		return (int) a->type - (int) b->type;
	if (a->type == ANY_STRING || a->type == ANY_BYTES)
		return compare_text(span_text(a->u.data, a->len), span_text(b->u.data, b->len));
	if (any_value_equal(a, b))
		return 0;
	if (a->type == ANY_INT)
		return a->u.integer < b->u.integer ? -1 : 1;
	x = any_value_hash(a, 0);
	y = any_value_hash(b, 0);
	return x < y ? -1 : 1;
}

static int
compare_sources(const void *a, const void *b)
{
	const KeySource *x = a;
	const KeySource *y = b;
	int              d;

	if (x->scope != y->scope)
		return (int) x->scope - (int) y->scope;
	d = compare_text(x->key, y->key);
	if (d != 0)
		return d;
	if (x->value != NULL && y->value != NULL)
		return compare_values(x->value, y->value);
	return x->column < y->column ? -1 : x->column > y->column;
}

static AttributeScope
scope_of_table(uint8_t table)
{
	return table == TABLE_SPAN ? ATTRIBUTE_SPAN : table == TABLE_EVENT ? ATTRIBUTE_EVENT :
	                                                                     ATTRIBUTE_LINK;
}

static size_t
add_list(KeySource *list, size_t n, AttributeScope scope, AttributeList attributes)
{
	for (uint32_t i = 0; i < attributes.count; i++, n++)
		if (list != NULL)
		{
			KeySource source = {scope, attributes.items[i].key, 1U << attributes.items[i].value.type,
			                    UINT32_MAX, &attributes.items[i].value, false};

			list[n] = source;
		}
	return n;
}

/* Counts the sources, or with "list" collects them. */
static size_t
collect(const SegmentReader *r, KeySource *list)
{
	size_t n = 0;

	for (uint32_t i = N_FIELD_COLUMNS; i < r->n_columns; i++, n++)
		if (list != NULL)
		{
			const ReadColumn *c = &r->columns[i];
			KeySource         source = {scope_of_table(c->table), r->strings[c->key], 1U << c->type, i, NULL, false};

			list[n] = source;
		}
	for (uint32_t i = 0; i < r->n_rare; i++, n++)
		if (list != NULL)
		{
			KeySource source = {scope_of_table(r->rare[i].table), r->strings[r->rare[i].key], r->rare[i].types,
			                    UINT32_MAX, NULL, true};

			list[n] = source;
		}
	for (uint32_t i = 0; i < r->n_resources; i++)
		n = add_list(list, n, ATTRIBUTE_RESOURCE, r->resources[i].attributes);
	for (uint32_t i = 0; i < r->n_scopes; i++)
		n = add_list(list, n, ATTRIBUTE_SCOPE, r->scopes[i].attributes);
	return n;
}

/* Merges the sources of one key. */
static bool
make_key(SegmentReader *r, const KeySource *sources, size_t n, SegmentKey *key, KeyColumns *columns)
{
	const AnyValue *last = NULL;

	key->scope = sources[0].scope;
	key->key = sources[0].key;
	key->values_complete = true;
	columns->columns = arena_alloc(&r->arena, n * sizeof(uint32_t));
	if (columns->columns == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		key->types |= sources[i].types;
		if (sources[i].rare)
			key->values_complete = false;
		else if (sources[i].column != UINT32_MAX)
		{
			columns->columns[columns->n_columns++] = sources[i].column;
			key->n_values += r->columns[sources[i].column].n_dictionary;
			if (!r->columns[sources[i].column].complete)
				key->values_complete = false;
		}
		else if (last == NULL || compare_values(last, sources[i].value) != 0)
		{
			last = sources[i].value;
			key->n_values++;
		}
	}
	if (key->n_values > 0 && columns->n_columns == 0 && last != NULL)
	{
		AnyValue *values = arena_alloc(&r->arena, (size_t) key->n_values * sizeof(AnyValue));

		if (values == NULL)
			return false;
		last = NULL;
		key->n_values = 0;
		for (size_t i = 0; i < n; i++)
			if (last == NULL || compare_values(last, sources[i].value) != 0)
			{
				last = sources[i].value;
				values[key->n_values++] = *last;
			}
		columns->values = values;
		columns->listed = true;
	}
	if (!key->values_complete)
		key->n_values = 0;
	return true;
}

static bool
make_keys(SegmentReader *r, const KeySource *sources, size_t n)
{
	SegmentKey *keys = arena_alloc0(&r->arena, (n + 1) * sizeof(SegmentKey));
	KeyColumns *columns = arena_alloc0(&r->arena, (n + 1) * sizeof(KeyColumns));
	uint32_t    n_keys = 0;

	if (keys == NULL || columns == NULL)
		return false;
	for (size_t i = 0; i < n;)
	{
		size_t end = i + 1;

		while (end < n && sources[end].scope == sources[i].scope &&
		       span_text_equal(sources[end].key, sources[i].key))
			end++;
		if (!make_key(r, &sources[i], end - i, &keys[n_keys], &columns[n_keys]))
			return false;
		n_keys++;
		i = end;
	}
	r->keys_listed = keys;
	r->key_columns = columns;
	r->n_keys_listed = n_keys;
	return true;
}

bool
segment_keys(SegmentReader *r, const SegmentKey **keys, uint32_t *count, SpanError *error)
{
	if (r->keys_listed == NULL)
	{
		KeySource *list;
		size_t     n;
		bool       ok;

		if (!segment_load_schema(r, error))
			return false;
		n = collect(r, NULL);
		list = r->allocator.alloc(r->allocator.arg, (n + 1) * sizeof(KeySource));
		if (list == NULL)
			return segment_no_memory(error);
		collect(r, list);
		qsort(list, n, sizeof(KeySource), compare_sources);
		ok = make_keys(r, list, n);
		r->allocator.release(r->allocator.arg, list);
		if (!ok)
			return segment_no_memory(error);
	}
	*keys = r->keys_listed;
	*count = r->n_keys_listed;
	return true;
}

bool
segment_key_values(SegmentReader *r, uint32_t i, const AnyValue **values, uint32_t *count, SpanError *error)
{
	const SegmentKey *keys;
	KeyColumns       *columns;
	uint32_t          n;

	*values = NULL;
	*count = 0;
	if (!segment_keys(r, &keys, &n, error))
		return false;
	if (i >= n)
		return span_error(error, SPAN_ERROR_INVALID, "no such key in the segment");
	columns = &r->key_columns[i];
	if (!keys[i].values_complete)
		return true;
	if (!columns->listed)
	{
		AnyValue *list = NULL;
		uint32_t  at = 0;

		for (uint32_t k = 0; k < columns->n_columns; k++)
			if (!segment_load_dictionary(r, columns->columns[k], error))
				return false;
		if (columns->n_columns == 1)
			list = r->columns[columns->columns[0]].dictionary;
		else
		{
			list = arena_alloc(&r->arena, (size_t) keys[i].n_values * sizeof(AnyValue));
			if (list == NULL)
				return segment_no_memory(error);
			for (uint32_t k = 0; k < columns->n_columns; k++)
			{
				const ReadColumn *c = &r->columns[columns->columns[k]];

				memcpy(list + at, c->dictionary, (size_t) c->n_dictionary * sizeof(AnyValue));
				at += c->n_dictionary;
			}
		}
		columns->values = list;
		columns->listed = true;
	}
	*values = columns->values;
	*count = keys[i].n_values;
	return true;
}

static bool
is_number(uint8_t type)
{
	return type == ANY_INT || type == ANY_DOUBLE;
}

/* Might "stored" satisfy a search for "wanted"?  Arrays match by their elements. */
static bool
might_match(const AnyValue *stored, const AnyValue *wanted)
{
	double a;
	double b;

	if (stored->type == ANY_ARRAY)
		return true;
	if (!is_number(stored->type) || !is_number(wanted->type))
		return any_value_equal(stored, wanted);
	if (stored->type == ANY_INT && wanted->type == ANY_INT)
		return stored->u.integer == wanted->u.integer;
	a = stored->type == ANY_INT ? (double) stored->u.integer : stored->u.number;
	b = wanted->type == ANY_INT ? (double) wanted->u.integer : wanted->u.number;
	return a == b || b != b;
}

static bool
list_may_contain(AttributeList list, SpanText key, const AnyValue *value)
{
	for (uint32_t i = 0; i < list.count; i++)
		if (span_text_equal(list.items[i].key, key) &&
		    (value == NULL || might_match(&list.items[i].value, value)))
			return true;
	return false;
}

/* Can values of this type satisfy a search for "value"? */
static bool
type_may_match(uint8_t type, const AnyValue *value)
{
	return type == ANY_ARRAY || type == value->type || (is_number(type) && is_number(value->type));
}

static bool
column_may_contain(SegmentReader *r, uint32_t number, const AnyValue *value)
{
	const ReadColumn *c = &r->columns[number];
	Section           bloom;
	uint64_t          hash;

	if (value == NULL || c->type == ANY_ARRAY)
		return true;
	if (!type_may_match(c->type, value))
		return false;
	if (!bloom_value_hash(value, &hash) ||
	    !segment_section(r, SECTION(COLUMN_STREAM(number, COLUMN_BLOOM), 0), true, &bloom, NULL))
		return true;
	if (bloom.len > 0)
		return bloom_has(bloom.data, bloom.len, hash);
	if (!c->complete || !segment_load_dictionary(r, number, NULL))
		return true;
	for (uint32_t i = 0; i < c->n_dictionary; i++)
		if (might_match(&c->dictionary[i], value))
			return true;
	return false;
}

static bool
rare_may_contain(SegmentReader *r, const RareKey *rare, const AnyValue *value)
{
	Section  bloom;
	uint64_t hash;
	bool     possible = false;

	if (value == NULL || (rare->types & (1U << ANY_ARRAY)))
		return true;
	for (uint8_t type = 0; type <= ANY_BYTES; type++)
		if ((rare->types & (1U << type)) && type_may_match(type, value))
			possible = true;
	if (!possible)
		return false;
	if (!bloom_value_hash(value, &hash) ||
	    !segment_section(r, SECTION(STREAM_OVERFLOW_BLOOM + rare->table, 0), true, &bloom, NULL) ||
	    bloom.len == 0)
		return true;
	return bloom_has(bloom.data, bloom.len, bloom_key_hash(r->strings[rare->key], hash));
}

bool
segment_may_contain(SegmentReader *r, AttributeScope scope, SpanText key, const AnyValue *value)
{
	if (!segment_load_schema(r, NULL))
		return true;
	if (scope == ATTRIBUTE_RESOURCE)
	{
		for (uint32_t i = 0; i < r->n_resources; i++)
			if (list_may_contain(r->resources[i].attributes, key, value))
				return true;
		return false;
	}
	if (scope == ATTRIBUTE_SCOPE)
	{
		for (uint32_t i = 0; i < r->n_scopes; i++)
			if (list_may_contain(r->scopes[i].attributes, key, value))
				return true;
		return false;
	}
	for (uint32_t i = N_FIELD_COLUMNS; i < r->n_columns; i++)
		if (scope_of_table(r->columns[i].table) == scope && span_text_equal(r->strings[r->columns[i].key], key) &&
		    column_may_contain(r, i, value))
			return true;
	for (uint32_t i = 0; i < r->n_rare; i++)
		if (scope_of_table(r->rare[i].table) == scope && span_text_equal(r->strings[r->rare[i].key], key) &&
		    rare_may_contain(r, &r->rare[i], value))
			return true;
	return false;
}

/* An empty name is not stored. */
bool
segment_may_have_event(SegmentReader *r, SpanText name)
{
	AnyValue value = {.type = ANY_STRING, .len = name.len, .u.data = name.data};

	return name.len == 0 || !segment_load_schema(r, NULL) || column_may_contain(r, FIELD_EVENT_NAME, &value);
}

/* The strings that are marked in "used". */
static bool
list_strings(SegmentReader *r, const bool *used, SpanText **list, uint32_t *count)
{
	SpanText *result = arena_alloc(&r->arena, (size_t) r->n_strings * sizeof(SpanText));

	if (result == NULL)
		return false;
	*count = 0;
	for (uint32_t i = 0; i < r->n_strings; i++)
		if (used[i])
			result[(*count)++] = r->strings[i];
	*list = result;
	return true;
}

static bool
list_names_and_tenants(SegmentReader *r, SpanError *error)
{
	bool *used;
	bool  ok;

	if (r->tenants != NULL)
		return true;
	if (!segment_load_schema(r, error))
		return false;
	used = r->allocator.alloc(r->allocator.arg, r->n_strings);
	if (used == NULL)
		return segment_no_memory(error);
	memset(used, 0, r->n_strings);
	for (uint32_t i = 0; i < r->tables[TABLE_SPAN].n_shapes; i++)
		used[r->tables[TABLE_SPAN].shapes[i].fields[1]] = true;
	ok = list_strings(r, used, &r->names, &r->n_names);
	memset(used, 0, r->n_strings);
	for (uint32_t i = 0; i < r->n_resources; i++)
		used[r->resources[i].tenant] = true;
	ok = ok && list_strings(r, used, &r->tenants, &r->n_tenants);
	r->allocator.release(r->allocator.arg, used);
	return ok ? true : segment_no_memory(error);
}

bool
segment_names(SegmentReader *r, const SpanText **names, uint32_t *count, SpanError *error)
{
	if (!list_names_and_tenants(r, error))
		return false;
	*names = r->names;
	*count = r->n_names;
	return true;
}

bool
segment_tenants(SegmentReader *r, const SpanText **tenants, uint32_t *count, SpanError *error)
{
	if (!list_names_and_tenants(r, error))
		return false;
	*tenants = r->tenants;
	*count = r->n_tenants;
	return true;
}
