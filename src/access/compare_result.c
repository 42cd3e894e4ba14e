/*-------------------------------------------------------------------------
 *
 * compare_result.c
 *	  What tempo.compare_spans() gives: the most frequent values of each
 *	  attribute on each side, and all others together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compare_state.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

typedef struct Rows
{
	TupleDesc desc;
	Datum    *rows;
	int       n;
	int       capacity;
} Rows;

typedef struct Top
{
	CountedValue *value;
	uint64        total;
} Top;

static void
add_row(Rows *out, int step, Datum keys, uint64 n)
{
	Datum values[3] = {Int64GetDatum(step), keys, Float8GetDatum((double) n)};
	bool  nulls[3] = {0};

	if (out->n == out->capacity)
	{
		out->capacity = Max(256, out->capacity * 2);
		out->rows = out->rows ? repalloc_huge(out->rows, sizeof(Datum) * out->capacity) : palloc(sizeof(Datum) * out->capacity);
	}
	out->rows[out->n++] = HeapTupleGetDatum(heap_form_tuple(out->desc, values, nulls));
}

static Datum
make_keys(const char *side, const char *attribute, const char *label)
{
	Datum items[3] = {CStringGetTextDatum(side), CStringGetTextDatum(attribute)};

	if (label)
		items[2] = CStringGetTextDatum(label);
	return PointerGetDatum(
		construct_array(items, label ? 3 : 2, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The attribute as TraceQL writes it */
static char *
attribute_label(const CountedAttribute *attribute)
{
	static const char *const places[] = {
		"span", "resource", "instrumentation", "name", "kind", "status",
		"statusMessage", "instrumentation:name", "instrumentation:version", "rootName", "rootServiceName", "span:childCount"};
	Oid   arguments[] = {TEXTOID, TEXTOID};
	Datum key;

	if (attribute->place >= TALLY_NAME)
		return pstrdup(places[attribute->place]);
	key = PointerGetDatum(cstring_to_text_with_len(attribute->key.data, (int) attribute->key.len));
	return TextDatumGetCString(OidFunctionCall2(
		LookupFuncName(list_make2(makeString("tempo"), makeString("attribute_label")), 2,
	                   arguments, false),
		CStringGetTextDatum(places[attribute->place]), key));
}

static uint64
total_of(const CountedValue *value, bool selected)
{
	uint64 total = 0;

	for (uint32 i = 0; i < value->n_cells; i++)
		if ((value->cells[i].slot & 1) == selected && value->cells[i].slot != TALLY_NONE)
			total += value->cells[i].n;
	return total;
}

/* Of values seen equally often those with the smaller labels */
static bool
is_before(ValueCounts *counts, const Top *a, const Top *b)
{
	if (a->total != b->total)
		return a->total > b->total;
	return tempo_counts_compare(counts, a->value, b->value) < 0;
}

/* Puts the most frequent values first into "top"; returns how many. */
static int
find_top(ValueCounts *counts, const CountedAttribute *attribute, bool selected, Top *top,
         int limit, uint64 *n_values)
{
	int n = 0;

	*n_values = 0;
	for (CountedValue *v = attribute->values; v; v = v->next)
	{
		Top item = {v, total_of(v, selected)};
		int low = 0;
		int high;

		if (item.total == 0)
			continue;
		if (++*n_values % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		if (n == limit && !is_before(counts, &item, &top[n - 1]))
			continue;
		high = n == limit ? n - 1 : n++;
		while (low < high)
		{
			int middle = (low + high) / 2;

			if (is_before(counts, &top[middle], &item))
				low = middle + 1;
			else
				high = middle;
		}
		memmove(&top[low + 1], &top[low], sizeof(Top) * (n - 1 - low));
		top[low] = item;
	}
	return n;
}

/* What an attribute is counted on a side, of values that are not shown */
static void
add_others(const CountedAttribute *attribute, bool selected, const CompareCall *call,
           uint64 *others)
{
	for (const CountedValue *v = attribute->values; v; v = v->next)
		for (uint32 i = 0; i < v->n_cells; i++)
			if (v->cells[i].slot != TALLY_NONE && (v->cells[i].slot & 1) == selected)
				others[v->cells[i].slot / 2] += v->cells[i].n;
}

static void
add_side(ValueCounts *counts, const CountedAttribute *attribute, const char *name, bool selected,
         const CompareCall *call, Rows *out, Top *top, uint64 *others)
{
	const char *side = selected ? "selection" : "baseline";
	uint64      n_values;
	int         n = find_top(counts, attribute, selected, top, call->n_values, &n_values);
	Datum       keys;

	memset(others, 0, sizeof(uint64) * call->n_steps);
	if (n_values > n)
		add_others(attribute, selected, call, others);
	for (int i = 0; i < n; i++)
	{
		const CountedValue *value = top[i].value;

		keys = make_keys(side, name, tempo_counts_label(counts, value));
		for (uint32 j = 0; j < value->n_cells; j++)
		{
			const CountCell *cell = &value->cells[j];

			if (cell->slot == TALLY_NONE || (cell->slot & 1) != selected)
				continue;
			add_row(out, cell->slot / 2, keys, cell->n);
			others[cell->slot / 2] -= cell->n;
		}
	}
	if (n_values <= n)
		return;
	keys = make_keys(side, name, NULL);
	for (int i = 0; i < call->n_steps; i++)
		if (others[i] != 0)
			add_row(out, i, keys, others[i]);
}

Datum
tempo_compare_result(ValueCounts *counts, const CompareCall *call, Oid array_type)
{
	Oid        element = get_element_type(array_type);
	Rows       out = {0};
	Top       *top;
	uint64    *others;
	int16      length;
	bool       by_value;
	char       alignment;
	ArrayType *result;

	tempo_counts_check(counts, sizeof(Top) * call->n_values + sizeof(uint64) * call->n_steps);
	top = palloc_extended(sizeof(Top) * Max(call->n_values, 1), MCXT_ALLOC_HUGE);
	others = palloc_extended(sizeof(uint64) * call->n_steps, MCXT_ALLOC_HUGE);
	out.desc = lookup_rowtype_tupdesc_copy(element, -1);
	for (const CountedAttribute *a = counts->attributes; a; a = a->next)
	{
		const char *name = attribute_label(a);

		add_side(counts, a, name, false, call, &out, top, others);
		add_side(counts, a, name, true, call, &out, top, others);
		tempo_counts_check(counts, 0);
	}
	get_typlenbyvalalign(element, &length, &by_value, &alignment);
	result = out.n == 0 ? construct_empty_array(element) : construct_array(out.rows, out.n, element, length, by_value, alignment);
	return PointerGetDatum(result);
}
