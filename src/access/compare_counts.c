/*-------------------------------------------------------------------------
 *
 * compare_counts.c
 *	  How often each value of each attribute occurs, by slot.
 *
 * One hash table has all values.  Most are met by their codes, and looked up
 * only once; where each row has a value of its own, look-ups are made in runs
 * that first ask for the memory which they are going to need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/compare_counts.h"

#include "access/jsonb.h"
#include "access/row.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"

#define CHUNK_SIZE (1024 * 1024)

/* Values looked up in one run. */
#define RUN 32

/* What stands for a value in the table. */
typedef struct ValueKey
{
	const char *data;
	uint32      len;
	uint32      hash;
	uint8       type;
	char        number[8];
} ValueKey;

ValueCounts *
tempo_counts_create(MemoryContext context)
{
	ValueCounts *counts = MemoryContextAllocZero(context, sizeof(ValueCounts));
	Oid          arguments[] = {JSONBOID};

	counts->context = context;
	counts->scratch =
		AllocSetContextCreate(context, "tempo compare value", ALLOCSET_DEFAULT_SIZES);
	counts->limit = strtoul(GetConfigOption("tempo_pg.compare_memory", false, false), NULL, 10);
	counts->limit *= 1024;
	counts->label =
		LookupFuncName(list_make2(makeString("tempo"), makeString("label")), 1, arguments, false);
	return counts;
}

void
tempo_counts_check(ValueCounts *counts, Size more)
{
	if (MemoryContextMemAllocated(counts->context, true) + more > counts->limit)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		         errmsg("compare() needs more memory than tempo_pg.compare_memory (%d MB) allows",
		                (int) (counts->limit / (1024 * 1024))),
		         errhint("Ask for less time or fewer spans, or raise tempo_pg.compare_memory.")));
}

void *
tempo_counts_alloc(ValueCounts *counts, Size size)
{
	char *result;

	size = MAXALIGN(size);
	if (size > counts->left)
	{
		/* what is large does not take from a chunk, of which the rest would be lost */
		bool large = size >= CHUNK_SIZE / 8;
		Size chunk = large ? size : CHUNK_SIZE;

		tempo_counts_check(counts, chunk);
		result = MemoryContextAllocHuge(counts->context, chunk);
		if (large)
			return result;
		counts->chunk = result;
		counts->left = chunk;
	}
	result = counts->chunk;
	counts->chunk += size;
	counts->left -= size;
	return result;
}

static void
grow_attributes(ValueCounts *counts)
{
	uint32             size = counts->by_name_size ? counts->by_name_size * 2 : 256;
	CountedAttribute **by_name = tempo_counts_alloc(counts, sizeof(CountedAttribute *) * size);

	memset(by_name, 0, sizeof(CountedAttribute *) * size);
	for (CountedAttribute *attribute = counts->attributes; attribute; attribute = attribute->next)
	{
		uint32 at = attribute->hash & (size - 1);

		while (by_name[at] != NULL)
			at = (at + 1) & (size - 1);
		by_name[at] = attribute;
	}
	counts->by_name = by_name;
	counts->by_name_size = size;
}

static CountedAttribute *
new_attribute(ValueCounts *counts, int place, SpanText key, uint32 hash)
{
	CountedAttribute *attribute = tempo_counts_alloc(counts, sizeof(CountedAttribute) + key.len);
	char             *copy = (char *) (attribute + 1);

	memset(attribute, 0, sizeof(CountedAttribute));
	if (key.len > 0)
		memcpy(copy, key.data, key.len);
	attribute->place = place;
	attribute->key = span_text(copy, key.len);
	attribute->hash = hash;
	attribute->number = counts->n_attributes++;
	attribute->next = counts->attributes;
	counts->attributes = attribute;
	return attribute;
}

CountedAttribute *
tempo_counts_attribute(ValueCounts *counts, int place, SpanText key)
{
	uint32            hash = (uint32) span_bytes_hash(key.data, key.len, place);
	CountedAttribute *attribute;
	uint32            at;

	if (counts->n_attributes * 2 >= counts->by_name_size)
		grow_attributes(counts);
	at = hash & (counts->by_name_size - 1);
	while ((attribute = counts->by_name[at]) != NULL)
	{
		if (attribute->hash == hash && attribute->place == place &&
		    span_text_equal(attribute->key, key))
			return attribute;
		at = (at + 1) & (counts->by_name_size - 1);
	}
	counts->by_name[at] = new_attribute(counts, place, key, hash);
	return counts->by_name[at];
}

/*
 * Keys.
 */

static inline void
set_key(ValueKey *key, const CountedAttribute *attribute, uint8 type, const char *data, uint32 len)
{
	uint64 seed = (uint64) attribute->number << 8 | type;

	key->type = type;
	key->data = data;
	key->len = len;
	key->hash = (uint32) span_bytes_hash(data, len, seed * UINT64CONST(0x9E3779B97F4A7C15));
}

static inline void
set_number(ValueKey *key, const CountedAttribute *attribute, uint8 type, const void *number)
{
	memcpy(key->number, number, sizeof(key->number));
	set_key(key, attribute, type, key->number, sizeof(key->number));
}

static char *
label_of(ValueCounts *counts, const AnyValue *value)
{
	Jsonb *json = tempo_value_to_jsonb(value);

	return TextDatumGetCString(OidFunctionCall1(counts->label, JsonbPGetDatum(json)));
}

/* Of what is no plain scalar, by its label, which may be that of one */
static void
set_odd_key(ValueCounts *counts, ValueKey *key, const CountedAttribute *attribute,
            const AnyValue *value)
{
	MemoryContext old = MemoryContextSwitchTo(counts->scratch);
	char         *label;
	JsonbValue    v;
	Jsonb        *json;
	int64         integer;
	double        number;

	MemoryContextReset(counts->scratch);
	label = label_of(counts, value);
	json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(label)));
	if (!JsonbExtractScalar(&json->root, &v))
		v.type = jbvBinary;
	switch (v.type)
	{
		case jbvString:
			set_key(key, attribute, ANY_STRING, v.val.string.val, v.val.string.len);
			break;
		case jbvBool:
			integer = v.val.boolean;
			set_number(key, attribute, ANY_BOOL, &integer);
			break;
		case jbvNumeric:
			if (strchr(label, '.') == NULL)
			{
				integer = strtoll(label, NULL, 10);
				set_number(key, attribute, ANY_INT, &integer);
				break;
			}
			number = strtod(label, NULL);
			set_number(key, attribute, ANY_DOUBLE, &number);
			break;
		default:
			set_key(key, attribute, ANY_EMPTY, label, strlen(label));
			break;
	}
	MemoryContextSwitchTo(old);
}

static SpanText
status_text(int64 status)
{
	return status == 2 ? span_text("error", 5) : status == 1 ? span_text("ok", 2) :
	                                                           span_text("unset", 5);
}

/* The key is valid until the next one is made of an odd value. */
static inline void
make_key(ValueCounts *counts, ValueKey *key, const CountedAttribute *attribute,
         const AnyValue *value)
{
	int64    integer;
	SpanText text;
	char     buffer[12];

	if (attribute->place == TALLY_KIND)
	{
		int64 kind = value->u.integer;

		text = tempo_kind_text(kind >= 0 && kind <= 5 ? kind : 0, buffer);
		set_key(key, attribute, ANY_STRING, text.data, text.len);
	}
	else if (attribute->place == TALLY_STATUS)
	{
		text = status_text(value->u.integer);
		set_key(key, attribute, ANY_STRING, text.data, text.len);
	}
	else if (value->type == ANY_STRING)
		set_key(key, attribute, ANY_STRING, value->u.data, value->len);
	else if (value->type == ANY_INT)
		set_number(key, attribute, ANY_INT, &value->u.integer);
	else if (value->type == ANY_BOOL)
	{
		integer = value->u.boolean;
		set_number(key, attribute, ANY_BOOL, &integer);
	}
	else if (value->type == ANY_DOUBLE && isfinite(value->u.number) &&
	         (value->u.number != 0 || !signbit(value->u.number)))
		set_number(key, attribute, ANY_DOUBLE, &value->u.number);
	else
		set_odd_key(counts, key, attribute, value);
}

/*
 * The table.
 */

static void
grow_table(ValueCounts *counts)
{
	uint64     size = counts->size ? counts->size * 2 : 4096;
	CountSlot *slots;

	tempo_counts_check(counts, sizeof(CountSlot) * size);
	slots = MemoryContextAllocExtended(counts->context, sizeof(CountSlot) * size,
	                                   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint64 i = 0; i < counts->size; i++)
	{
		uint64 at;

		if (counts->slots[i].value == NULL)
			continue;
		at = counts->slots[i].hash & (size - 1);
		while (slots[at].value)
			at = (at + 1) & (size - 1);
		slots[at] = counts->slots[i];
	}
	if (counts->slots)
		pfree(counts->slots);
	counts->slots = slots;
	counts->size = size;
}

static CountedValue *
new_value(ValueCounts *counts, CountedAttribute *attribute, const ValueKey *key)
{
	CountedValue *value =
		tempo_counts_alloc(counts, offsetof(CountedValue, data) + Max(key->len, 1));

	value->attribute = attribute;
	value->next = attribute->values;
	attribute->values = value;
	value->cells = &value->first;
	value->n_cells = value->last = 0;
	value->capacity = 1;
	value->len = key->len;
	value->type = key->type;
	value->first.slot = TALLY_NONE;
	value->first.n = 0;
	if (key->len > 0)
		memcpy(value->data, key->data, key->len);
	return value;
}

/* The value with this key, made if there is none; there must be room in the table */
static inline CountedValue *
find_value(ValueCounts *counts, CountedAttribute *attribute, const ValueKey *key)
{
	uint64        at = key->hash & (counts->size - 1);
	CountedValue *value;

	for (; (value = counts->slots[at].value) != NULL; at = (at + 1) & (counts->size - 1))
		if (counts->slots[at].hash == key->hash && value->attribute == attribute &&
		    value->type == key->type && value->len == key->len &&
		    (key->len == 0 || memcmp(value->data, key->data, key->len) == 0))
			return value;
	value = new_value(counts, attribute, key);
	counts->slots[at].value = value;
	counts->slots[at].hash = key->hash;
	counts->n_values++;
	return value;
}

static inline void
reserve_values(ValueCounts *counts, uint64 more)
{
	while ((counts->n_values + more) * 2 > counts->size)
		grow_table(counts);
}

CountedValue *
tempo_counts_value(ValueCounts *counts, CountedAttribute *attribute, const AnyValue *value)
{
	ValueKey key;

	make_key(counts, &key, attribute, value);
	reserve_values(counts, 1);
	return find_value(counts, attribute, &key);
}

/*
 * Counting.
 */

static void
insert_cell(ValueCounts *counts, CountedValue *value, uint32 at, uint32 slot)
{
	if (value->n_cells == value->capacity)
	{
		uint32     capacity = value->capacity * 2;
		CountCell *cells = tempo_counts_alloc(counts, sizeof(CountCell) * capacity);

		memcpy(cells, value->cells, sizeof(CountCell) * value->n_cells);
		value->cells = cells;
		value->capacity = capacity;
	}
	memmove(&value->cells[at + 1], &value->cells[at], sizeof(CountCell) * (value->n_cells - at));
	value->n_cells++;
	value->cells[at].slot = slot;
	value->cells[at].n = 0;
}

/* The value's cell of a slot that is not the last one's */
static CountCell *
find_cell(ValueCounts *counts, CountedValue *value, uint32 slot)
{
	uint32 low = 0;
	uint32 high = value->n_cells;

	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (value->cells[middle].slot < slot)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == value->n_cells || value->cells[low].slot != slot)
		insert_cell(counts, value, low, slot);
	value->last = low;
	return &value->cells[low];
}

static inline void
add(ValueCounts *counts, CountedValue *value, uint32 slot, uint64 n)
{
	CountCell *cell = &value->cells[value->last];

	if (unlikely(cell->slot != slot))
		cell = find_cell(counts, value, slot);
	cell->n += n;
}

void
tempo_counts_add(ValueCounts *counts, CountedValue *value, uint32 slot, uint64 n)
{
	add(counts, value, slot, n);
}

void
tempo_counts_list(ValueCounts *counts, TallyPlace place, AttributeList list, uint32 slot)
{
	for (uint32 i = 0; i < list.count; i++)
	{
		const KeyValue   *item = &list.items[i];
		CountedAttribute *attribute;
		uint32            k = 0;

		while (k < i && !span_text_equal(list.items[k].key, item->key))
			k++;
		if (k < i)
			continue;
		attribute = tempo_counts_attribute(counts, place, item->key);
		add(counts, tempo_counts_value(counts, attribute, &item->value), slot, 1);
	}
}

static void
count_field(ValueCounts *counts, TallyPlace place, AnyValue value, uint32 slot)
{
	CountedAttribute *attribute = tempo_counts_attribute(counts, place, span_text(NULL, 0));

	add(counts, tempo_counts_value(counts, attribute, &value), slot, 1);
}

static AnyValue
text_value(SpanText text)
{
	AnyValue value = {.type = ANY_STRING, .len = text.len};

	value.u.data = text.data;
	return value;
}

static AnyValue
int_value(int64 number)
{
	AnyValue value = {.type = ANY_INT};

	value.u.integer = number;
	return value;
}

void
tempo_counts_span(ValueCounts *counts, const SpanBatch *batch, const Span *span, uint32 slot)
{
	const SpanScope *scope = span_scope(batch, span);

	count_field(counts, TALLY_NAME, text_value(batch->strings[span->name]), slot);
	count_field(counts, TALLY_KIND, int_value(span->kind), slot);
	count_field(counts, TALLY_STATUS, int_value(span->status_code), slot);
	count_field(counts, TALLY_STATUS_MESSAGE, text_value(span->status_message), slot);
	count_field(counts, TALLY_SCOPE_NAME, text_value(batch->strings[scope->name]), slot);
	count_field(counts, TALLY_SCOPE_VERSION, text_value(batch->strings[scope->version]), slot);
	tempo_counts_list(counts, TALLY_SPAN, span->attributes, slot);
	tempo_counts_list(counts, TALLY_SCOPE, scope->attributes, slot);
	tempo_counts_list(counts, TALLY_RESOURCE, span_resource(batch, span)->attributes, slot);
}

static void *
sink_attribute(void *arg, TallyPlace place, SpanText key)
{
	return tempo_counts_attribute(arg, place, key);
}

static void *
sink_value(void *arg, void *attribute, const AnyValue *value)
{
	return tempo_counts_value(arg, attribute, value);
}

static void
sink_add(void *arg, void *value, uint32_t slot, uint32_t n)
{
	add(arg, value, slot, n);
}

static void
sink_add_codes(void *arg, void *const *values, const uint32_t *codes, const uint32_t *slots,
               uint32_t n)
{
	ValueCounts *counts = arg;

	for (uint32_t i = 0; i < n; i++)
		if (slots[i] != TALLY_NONE)
			add(counts, values[codes[i]], slots[i], 1);
}

static bool
is_odd(const AnyValue *value)
{
	return value->type != ANY_STRING && value->type != ANY_INT && value->type != ANY_BOOL;
}

static void
sink_add_values(void *arg, void *attribute, const AnyValue *values, const uint32_t *slots,
                uint32_t n)
{
	ValueCounts *counts = arg;
	ValueKey     keys[RUN];
	uint32       rows[RUN];
	uint32       i = 0;

	while (i < n)
	{
		uint32 found = 0;

		CHECK_FOR_INTERRUPTS();
		reserve_values(counts, RUN);
		for (; i < n && found < RUN; i++)
		{
			if (slots[i] == TALLY_NONE)
				continue;
			if (is_odd(&values[i]))
			{
				/* keys of these are not kept */
				if (found > 0)
					break;
				add(counts, tempo_counts_value(counts, attribute, &values[i]), slots[i], 1);
				reserve_values(counts, RUN);
				continue;
			}
			make_key(counts, &keys[found], attribute, &values[i]);
			__builtin_prefetch(&counts->slots[keys[found].hash & (counts->size - 1)]);
			rows[found++] = i;
		}
		for (uint32 k = 0; k < found; k++)
			add(counts, find_value(counts, attribute, &keys[k]), slots[rows[k]], 1);
	}
}

TallySink
tempo_counts_sink(ValueCounts *counts)
{
	TallySink sink = {counts, sink_attribute, sink_value,
	                  sink_add, sink_add_codes, sink_add_values};

	return sink;
}

/*
 * Labels.
 */

static int64
number_of(const CountedValue *value)
{
	int64 number;

	memcpy(&number, value->data, sizeof(number));
	return number;
}

char *
tempo_counts_label(ValueCounts *counts, const CountedValue *value)
{
	StringInfoData out;
	AnyValue       number = {.type = ANY_DOUBLE};

	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			initStringInfo(&out);
			escape_json(&out, pnstrdup(value->data, value->len));
			return out.data;
		case ANY_INT:
			return psprintf(INT64_FORMAT, number_of(value));
		case ANY_BOOL:
			return pstrdup(number_of(value) != 0 ? "true" : "false");
		case ANY_DOUBLE:
			memcpy(&number.u.number, value->data, sizeof(double));
			return label_of(counts, &number);
		default:
			return pnstrdup(value->data, value->len);
	}
}

/* The first byte of what a byte of a string is in JSON, and the second if the first is a backslash */
static int
escaped(const CountedValue *value, uint32 at)
{
	char           byte[2] = {value->data[at], '\0'};
	StringInfoData out;
	int            result;

	if (at >= value->len)
		return '"' << 8;
	if ((unsigned char) byte[0] >= ' ' && byte[0] != '"' && byte[0] != '\\')
		return (unsigned char) byte[0] << 8;
	initStringInfo(&out);
	escape_json(&out, byte);
	/* those that have more than a letter differ at the end: \u00XX */
	result = (unsigned char) out.data[1] << 8 | (unsigned char) out.data[2];
	pfree(out.data);
	return result;
}

int
tempo_counts_compare(ValueCounts *counts, const CountedValue *a, const CountedValue *b)
{
	MemoryContext old;
	int           result;

	if (a->type == ANY_STRING && b->type == ANY_STRING)
	{
		uint32 at = 0;

		while (at < a->len && at < b->len && a->data[at] == b->data[at])
			at++;
		result = escaped(a, at) - escaped(b, at);
		if (result != 0)
			return result;
		/* \u00XX both */
		return at < a->len && at < b->len ? (int) (unsigned char) a->data[at] - (int) (unsigned char) b->data[at] : 0;
	}
	old = MemoryContextSwitchTo(counts->scratch);
	MemoryContextReset(counts->scratch);
	result = strcmp(tempo_counts_label(counts, a), tempo_counts_label(counts, b));
	MemoryContextSwitchTo(old);
	return result;
}
