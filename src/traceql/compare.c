/*-------------------------------------------------------------------------
 *
 * compare.c
 *	  The aggregate tempo.compare_spans(): what compare() counts, for filters
 *	  that can be told of single spans, row by row.  Where it can, the planner
 *	  has it computed on encoded spans instead (access/compare_exec.c).
 *
 * Spans come in any order, and are counted as they come in one hash table of
 * sides, attributes and values.  A resource or scope is counted as a whole and
 * taken apart at the end, as many spans share it.  What depends on the whole
 * trace - its root, the number of children - is found at the end from the
 * few fields of each span that are kept, which also tell what came twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "traceql/engine.h"
#include "traceql/metrics.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(tempo_compare_span);
PG_FUNCTION_INFO_V1(tempo_compare_spans);
PG_FUNCTION_INFO_V1(tempo_attribute_label);

#define CHUNK_SIZE (1024 * 1024)

#define N_INTRINSICS (TQL_I_INSTRUMENTATION_VERSION + 1)

/* Arguments of the aggregate behind the state; the columns of the span follow */
enum
{
	ARG_COUNTED = 1,
	ARG_SELECTED,
	ARG_WEIGHT,
	ARG_START,
	ARG_STEP,
	ARG_STEPS,
	ARG_VALUES,
	ARG_COLUMNS
};

/* What every entry of a hash table begins with */
typedef struct Entry
{
	char  *key;
	uint32 len;
} Entry;

typedef struct Slot
{
	Entry *entry;
	uint32 hash; /* of the entry, which may be far away */
} Slot;

typedef struct Table
{
	Slot  *slots; /* a power of two, at most half of them in use */
	uint64 size;
	uint64 n;
} Table;

typedef struct Cell
{
	int    step;
	double n;
} Cell;

/* An attribute on one side; key is the side, where it is from and its name */
typedef struct Attribute
{
	Entry             entry;
	uint32            number;
	struct Value     *values;
	int64             n_values;
	struct Attribute *next;
} Attribute;

/* One of its values; key is the attribute's number, the type and the value */
typedef struct Value
{
	Entry         entry;
	struct Value *next; /* of the same attribute */
	double        total;
	Cell         *cells; /* by step */
	int           n_cells;
	int           capacity;
	int           last; /* the cell last counted in */
	Cell          first;
} Value;

/* Where attributes are from; intrinsics are told apart by their numbers as names */
enum
{
	FROM_INTRINSIC,
	FROM_SPAN,
	FROM_RESOURCE,
	FROM_SCOPE,
	WHOLE_RESOURCE,
	WHOLE_SCOPE
};

typedef struct RecordKey
{
	uint8  trace_id[16];
	uint64 id;
	int64  start;
	int64  kind_number;
} RecordKey;

/* What is kept of a span */
typedef struct Record
{
	Entry        entry;
	uint64       parent_id;
	const Entry *name; /* of possible roots */
	const Entry *service;
	double       weight;
	int          step; /* -1 if the span is not counted */
	uint8        kind;
	bool         has_parent;
	bool         linked_child;
	bool         selected;
} Record;

/* Things met last that are found again without a look into the table, by some place */
#define RECENT 64

typedef struct CompareState
{
	MemoryContext  context;
	int64          start;
	int64          step;
	int            n_steps;
	int            n_values; /* shown of an attribute */
	char          *chunk;
	Size           left;
	Table          attributes;
	Table          values;
	Table          records;
	Table          texts;
	Attribute     *first;
	Attribute     *intrinsics[2][N_INTRINSICS]; /* those met, by side */
	Attribute     *recent[2][RECENT];           /* of spans, by side and place in the object */
	Value         *seen[2][2][RECENT];          /* resources and scopes, by side and place in memory */
	StringInfoData key;
} CompareState;

/* ------------------------------------------------------------ hash tables */

static void
check_memory(CompareState *state, Size more)
{
	if (MemoryContextMemAllocated(state->context, true) + more > (Size) tql_compare_memory * 1024)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		         errmsg("compare() needs more memory than tempo_pg.compare_memory (%d MB) allows", tql_compare_memory / 1024),
		         errhint("Ask for less time or fewer spans, or raise tempo_pg.compare_memory.")));
}

/* Nothing is freed one by one */
static void *
allocate(CompareState *state, Size size)
{
	char *result;

	size = MAXALIGN(size);
	if (size > state->left)
	{
		Size chunk = Max(size, CHUNK_SIZE);

		check_memory(state, chunk);
		result = MemoryContextAllocHuge(state->context, chunk);
		if (size >= CHUNK_SIZE / 8)
			return result;
		state->chunk = result;
		state->left = chunk;
	}
	result = state->chunk;
	state->chunk += size;
	state->left -= size;
	return result;
}

static void
grow_table(CompareState *state, Table *table)
{
	uint64 size = table->size ? table->size * 2 : 1024;
	Slot  *slots;

	check_memory(state, sizeof(Slot) * size);
	slots = MemoryContextAllocExtended(state->context, sizeof(Slot) * size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint64 i = 0; i < table->size; i++)
	{
		uint64 at;

		if (table->slots[i].entry == NULL)
			continue;
		at = table->slots[i].hash & (size - 1);
		while (slots[at].entry)
			at = (at + 1) & (size - 1);
		slots[at] = table->slots[i];
	}
	if (table->slots)
		pfree(table->slots);
	table->slots = slots;
	table->size = size;
}

/* Of keys that are mostly short; for these tables alone, never stored */
static inline uint32
hash_key(const char *key, uint32 len)
{
	uint64 h = len * UINT64CONST(0x9E3779B97F4A7C15);
	uint64 word;

	for (; len >= 8; key += 8, len -= 8)
	{
		memcpy(&word, key, 8);
		h = (h ^ word) * UINT64CONST(0xFF51AFD7ED558CCD);
		h ^= h >> 32;
	}
	word = 0;
	memcpy(&word, key, len);
	h = (h ^ word) * UINT64CONST(0xC4CEB9FE1A85EC53);
	return (uint32) (h ^ h >> 29 ^ h >> 37);
}

/* The entry with this key; if there is none, a new one of "size" bytes, zero but for its head */
static void *
look_up(CompareState *state, Table *table, const void *key, uint32 len, Size size, bool *found)
{
	uint32 hash = hash_key(key, len);
	uint64 at;
	Entry *entry;

	if (table->n * 2 >= table->size)
		grow_table(state, table);
	for (at = hash & (table->size - 1); (entry = table->slots[at].entry) != NULL; at = (at + 1) & (table->size - 1))
	{
		if (table->slots[at].hash == hash && entry->len == len && memcmp(entry->key, key, len) == 0)
		{
			*found = true;
			return entry;
		}
	}
	*found = false;
	size = MAXALIGN(size);
	entry = allocate(state, size + len);
	memset(entry, 0, size);
	entry->len = len;
	entry->key = (char *) entry + size;
	memcpy(entry->key, key, len);
	table->slots[at] = (Slot){entry, hash};
	table->n++;
	return entry;
}

/* --------------------------------------------------------------- counting */

static Attribute *
find_attribute(CompareState *state, bool selected, int from, const char *name, int len)
{
	bool       found;
	Attribute *attribute;

	resetStringInfo(&state->key);
	appendStringInfoChar(&state->key, selected);
	appendStringInfoChar(&state->key, from);
	appendBinaryStringInfo(&state->key, name, len);
	attribute = look_up(state, &state->attributes, state->key.data, state->key.len, sizeof(Attribute), &found);
	if (!found)
	{
		attribute->number = (uint32) state->attributes.n;
		attribute->next = state->first;
		state->first = attribute;
	}
	return attribute;
}

static Cell *
find_cell(CompareState *state, Value *value, int step)
{
	int low = 0;
	int high = value->n_cells;

	if (value->n_cells > 0 && value->cells[value->last].step == step)
		return &value->cells[value->last];
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (value->cells[middle].step < step)
			low = middle + 1;
		else
			high = middle;
	}
	value->last = low;
	if (low < value->n_cells && value->cells[low].step == step)
		return &value->cells[low];
	if (value->n_cells == value->capacity)
	{
		int   capacity = Max(value->capacity * 2, 1);
		Cell *cells = value->capacity == 0 ? &value->first : allocate(state, sizeof(Cell) * capacity);

		if (value->n_cells > 0)
			memcpy(cells, value->cells, sizeof(Cell) * value->n_cells);
		value->cells = cells;
		value->capacity = capacity;
	}
	memmove(&value->cells[low + 1], &value->cells[low], sizeof(Cell) * (value->n_cells - low));
	value->n_cells++;
	value->cells[low] = (Cell){step, 0};
	return &value->cells[low];
}

static void
add_to_value(CompareState *state, Value *value, int step, double n)
{
	value->total += n;
	find_cell(state, value, step)->n += n;
}

static Value *
count_value(CompareState *state, Attribute *attribute, char type, const void *s, uint32 len, int step, double n)
{
	bool   found;
	Value *value;

	resetStringInfo(&state->key);
	appendBinaryStringInfo(&state->key, (char *) &attribute->number, sizeof(attribute->number));
	appendStringInfoChar(&state->key, type);
	if (len > 0)
		appendBinaryStringInfo(&state->key, s, len);
	value = look_up(state, &state->values, state->key.data, state->key.len, sizeof(Value), &found);
	if (!found)
	{
		value->next = attribute->values;
		attribute->values = value;
		attribute->n_values++;
	}
	add_to_value(state, value, step, n);
	return value;
}

/* Values are told apart as their labels are */
static void
count(CompareState *state, Attribute *attribute, const TqlValue *value, int step, double n)
{
	double d;

	switch (value->type)
	{
		case TQL_V_STRING:
			count_value(state, attribute, TQL_V_STRING, value->s, value->len, step, n);
			break;
		case TQL_V_INT:
		case TQL_V_BOOL:
		case TQL_V_DURATION:
		case TQL_V_STATUS:
		case TQL_V_KIND:
			count_value(state, attribute, value->type, &value->n, sizeof(value->n), step, n);
			break;
		case TQL_V_DOUBLE:
			d = isnan(value->d) ? NAN : value->d;
			count_value(state, attribute, TQL_V_DOUBLE, &d, sizeof(d), step, n);
			break;
		case TQL_V_NIL:
		case TQL_V_ARRAY:
		case TQL_V_OPAQUE:
			count_value(state, attribute, TQL_V_STRING, "nil", 3, step, n);
			break;
	}
}

static void
count_intrinsic(CompareState *state, TqlTrace *trace, TqlSpan *span, TqlIntrinsic intrinsic, bool selected, int step, double n)
{
	TqlAttribute attribute = {.intrinsic = intrinsic};
	TqlValue     value;

	tql_span_attribute(trace, span, &attribute, &value);
	if (state->intrinsics[selected][intrinsic] == NULL)
		state->intrinsics[selected][intrinsic] =
			find_attribute(state, selected, FROM_INTRINSIC, (char *) &intrinsic, sizeof(intrinsic));
	count(state, state->intrinsics[selected][intrinsic], &value, step, n);
}

/* The same for one of a span, which often has what the span before had in that place */
static Attribute *
find_span_attribute(CompareState *state, bool selected, int place, const char *name, int len)
{
	Attribute **recent = &state->recent[selected][place % RECENT];

	if (*recent == NULL || (*recent)->entry.len != (uint32) len + 2 || memcmp((*recent)->entry.key + 2, name, len) != 0)
		*recent = find_attribute(state, selected, FROM_SPAN, name, len);
	return *recent;
}

/* All attributes of a set; every value in the cells given */
static void
count_set(CompareState *state, bool selected, int from, Jsonb *set, const Cell *cells, int n_cells)
{
	JsonbIterator     *it;
	JsonbValue         key;
	JsonbValue         v;
	JsonbIteratorToken token;
	int                place = 0;

	if (set == NULL || !JB_ROOT_IS_OBJECT(set) || JB_ROOT_COUNT(set) == 0)
		return;
	it = JsonbIteratorInit(&set->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		TqlValue   value;
		Attribute *attribute;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		tql_value_from_item(&v, &value);
		attribute = from == FROM_SPAN ?
		                find_span_attribute(state, selected, place++, key.val.string.val, key.val.string.len) :
		                find_attribute(state, selected, from, key.val.string.val, key.val.string.len);
		for (int i = 0; i < n_cells; i++)
			count(state, attribute, &value, cells[i].step, cells[i].n);
	}
}

/*
 * A resource or scope as a whole.  Many spans have theirs at the same place in
 * memory, so what was found for that place is tried first.
 */
static void
count_whole(CompareState *state, bool selected, int from, Jsonb *set, int step, double n)
{
	const Size head = sizeof(uint32) + 1;
	Value    **seen;

	if (set == NULL || !JB_ROOT_IS_OBJECT(set) || JB_ROOT_COUNT(set) == 0)
		return;
	seen = &state->seen[selected][from == WHOLE_SCOPE][((uintptr_t) set >> 4) % RECENT];
	if (*seen != NULL && (*seen)->entry.len == head + VARSIZE(set) &&
	    memcmp((*seen)->entry.key + head, set, VARSIZE(set)) == 0)
		add_to_value(state, *seen, step, n);
	else
		*seen = count_value(state, find_attribute(state, selected, from, "", 0), TQL_V_OPAQUE, set, VARSIZE(set), step, n);
}

static CompareState *
start_state(FunctionCallInfo fcinfo, MemoryContext aggregate)
{
	MemoryContext context = AllocSetContextCreate(aggregate, "TraceQL compare", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CompareState *state = palloc0(sizeof(CompareState));

	state->context = context;
	state->start = PG_GETARG_INT64(ARG_START);
	state->step = PG_GETARG_INT64(ARG_STEP);
	state->n_steps = PG_GETARG_INT32(ARG_STEPS);
	state->n_values = PG_GETARG_INT32(ARG_VALUES);
	if (state->step <= 0 || state->n_steps <= 0 || state->n_values < 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("steps must be above 0, and the number of values not below")));
	initStringInfo(&state->key);
	MemoryContextSwitchTo(old);
	return state;
}

/* Keeps what is needed of a span; NULL if it was here before */
static Record *
keep_span(CompareState *state, TqlTrace *trace, TqlSpan *span)
{
	RecordKey key;
	Record   *record;
	bool      found;

	memset(&key, 0, sizeof(key));
	memcpy(key.trace_id, trace->trace_id, sizeof(key.trace_id));
	key.id = span->id;
	key.start = span->start;
	key.kind_number = span->kind_number;
	record = look_up(state, &state->records, &key, sizeof(key), sizeof(Record), &found);
	if (found)
		return NULL;
	record->step = -1;
	record->parent_id = span->parent_id;
	record->has_parent = span->has_parent;
	record->kind = span->kind;
	record->linked_child = !span->has_parent && tql_is_linked_child(trace, span);
	if (!span->has_parent && !record->linked_child)
	{
		record->name = look_up(state, &state->texts, span->name.s ? span->name.s : "", span->name.len, sizeof(Entry), &found);
		record->service = look_up(state, &state->texts, span->service.s ? span->service.s : "", span->service.len, sizeof(Entry), &found);
	}
	return record;
}

static bool
is_true(FunctionCallInfo fcinfo, int arg)
{
	return !PG_ARGISNULL(arg) && PG_GETARG_BOOL(arg);
}

/* The step of a span that counts, or -1 */
static int
find_step(const CompareState *state, int64 start)
{
	uint64 step = ((uint64) start - (uint64) state->start - 1) / (uint64) state->step;

	return start > state->start && step < (uint64) state->n_steps ? (int) step : -1;
}

/* tempo.compare_span(state, counted, selected, weight, start, step, steps, values, columns...) */
Datum
tempo_compare_span(PG_FUNCTION_ARGS)
{
	static const TqlIntrinsic intrinsics[] = {
		TQL_I_NAME, TQL_I_KIND, TQL_I_STATUS, TQL_I_STATUS_MESSAGE, TQL_I_INSTRUMENTATION_NAME, TQL_I_INSTRUMENTATION_VERSION};
	MemoryContext aggregate;
	CompareState *state;
	TqlSpan       span;
	TqlTrace      trace = {.spans = &span, .n_spans = 1, .root = -1};
	Record       *record;
	Cell          cell;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		elog(ERROR, "called outside of an aggregate");
	if (PG_ARGISNULL(0))
	{
		for (int arg = ARG_START; arg <= ARG_VALUES; arg++)
		{
			if (PG_ARGISNULL(arg))
				PG_RETURN_NULL();
		}
		state = start_state(fcinfo, aggregate);
	}
	else
		state = (CompareState *) PG_GETARG_POINTER(0);
	if (PG_ARGISNULL(ARG_COLUMNS) || !tql_read_span(fcinfo, ARG_COLUMNS, false, &span))
		PG_RETURN_POINTER(state);
	memcpy(trace.trace_id, DatumGetPointer(PG_GETARG_DATUM(ARG_COLUMNS)), sizeof(trace.trace_id));

	record = keep_span(state, &trace, &span);
	if (record == NULL || !is_true(fcinfo, ARG_COUNTED))
		PG_RETURN_POINTER(state);
	record->step = find_step(state, span.start);
	if (record->step < 0)
		PG_RETURN_POINTER(state);
	record->selected = is_true(fcinfo, ARG_SELECTED);
	record->weight = PG_ARGISNULL(ARG_WEIGHT) ? 1 : PG_GETARG_FLOAT8(ARG_WEIGHT);
	cell = (Cell){record->step, record->weight};
	for (int i = 0; i < lengthof(intrinsics); i++)
		count_intrinsic(state, &trace, &span, intrinsics[i], record->selected, cell.step, cell.n);
	count_set(state, record->selected, FROM_SPAN, span.attributes, &cell, 1);
	count_whole(state, record->selected, WHOLE_RESOURCE, span.resource, cell.step, cell.n);
	count_whole(state, record->selected, WHOLE_SCOPE, span.scope_attributes, cell.step, cell.n);
	PG_RETURN_POINTER(state);
}

/* ------------------------------------------------------ of whole traces */

static int
compare_records(const void *a, const void *b)
{
	const RecordKey *x = (const RecordKey *) (*(Record *const *) a)->entry.key;
	const RecordKey *y = (const RecordKey *) (*(Record *const *) b)->entry.key;
	int              order = memcmp(x->trace_id, y->trace_id, sizeof(x->trace_id));

	if (order != 0)
		return order;
	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->kind_number < y->kind_number ? -1 : x->kind_number > y->kind_number;
}

static TqlText
text_of(const Entry *entry)
{
	return (TqlText){entry->key, entry->len};
}

/* Counts what the spans of one trace, sorted, are in it */
static void
count_in_trace(CompareState *state, Record **records, int n)
{
	TqlTrace trace = {.n_spans = n, .root = -1};

	trace.spans = palloc_extended(sizeof(TqlSpan) * n, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < n; i++)
	{
		const RecordKey *key = (const RecordKey *) records[i]->entry.key;
		TqlSpan         *span = &trace.spans[i];

		span->id = key->id;
		span->start = key->start;
		span->kind_number = key->kind_number;
		span->kind = records[i]->kind;
		span->parent_id = records[i]->parent_id;
		span->has_parent = records[i]->has_parent;
		if (trace.root < 0 && !span->has_parent && !records[i]->linked_child)
		{
			trace.root = i;
			span->name = text_of(records[i]->name);
			span->service = text_of(records[i]->service);
		}
	}
	tql_number_tree(&trace);
	for (int i = 0; i < n; i++)
	{
		static const TqlIntrinsic intrinsics[] = {TQL_I_ROOT_NAME, TQL_I_ROOT_SERVICE_NAME, TQL_I_CHILD_COUNT};

		if (records[i]->step < 0)
			continue;
		for (int j = 0; j < lengthof(intrinsics); j++)
			count_intrinsic(state, &trace, &trace.spans[i], intrinsics[j], records[i]->selected,
			                records[i]->step, records[i]->weight);
	}
}

static void
count_in_traces(CompareState *state)
{
	MemoryContext per_trace = AllocSetContextCreate(state->context, "TraceQL trace", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	Record      **records;
	uint64        n = 0;

	check_memory(state, sizeof(Record *) * Max(state->records.n, 1));
	records = palloc_extended(sizeof(Record *) * Max(state->records.n, 1), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < state->records.size; i++)
	{
		if (state->records.slots[i].entry)
			records[n++] = (Record *) state->records.slots[i].entry;
	}
	qsort(records, n, sizeof(Record *), compare_records);
	old = MemoryContextSwitchTo(per_trace);
	for (uint64 i = 0; i < n;)
	{
		uint64 end = i + 1;

		CHECK_FOR_INTERRUPTS();
		while (end < n && memcmp(records[end]->entry.key, records[i]->entry.key, 16) == 0)
			end++;
		count_in_trace(state, &records[i], (int) (end - i));
		MemoryContextReset(per_trace);
		i = end;
	}
	MemoryContextSwitchTo(old);
}

/* Takes resources and scopes apart */
static void
count_sets(CompareState *state)
{
	MemoryContext per_set = AllocSetContextCreate(state->context, "TraceQL attribute set", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(per_set);
	const Size    head = sizeof(uint32) + 1;

	/* attributes that are added come before the first */
	for (Attribute *a = state->first; a; a = a->next)
	{
		int from = a->entry.key[1];

		if (from != WHOLE_RESOURCE && from != WHOLE_SCOPE)
			continue;
		for (Value *v = a->values; v; v = v->next)
		{
			Jsonb *set = palloc(v->entry.len - head);

			CHECK_FOR_INTERRUPTS();
			memcpy(set, v->entry.key + head, v->entry.len - head); /* aligned */
			count_set(state, a->entry.key[0], from == WHOLE_RESOURCE ? FROM_RESOURCE : FROM_SCOPE, set, v->cells, v->n_cells);
			MemoryContextReset(per_set);
		}
	}
	MemoryContextSwitchTo(old);
}

/* ----------------------------------------------------------------- output */

typedef struct Rows
{
	TupleDesc desc;
	Datum    *rows;
	int       n;
	int       capacity;
} Rows;

typedef struct Top
{
	Value *value;
	char  *label;
} Top;

static char *
attribute_text(const Attribute *attribute)
{
	static const TqlScope scopes[] = {
		[FROM_SPAN] = TQL_SCOPE_SPAN, [FROM_RESOURCE] = TQL_SCOPE_RESOURCE, [FROM_SCOPE] = TQL_SCOPE_INSTRUMENTATION};
	int          from = attribute->entry.key[1];
	TqlAttribute a = {.intrinsic = TQL_ATTRIBUTE};

	if (from == FROM_INTRINSIC)
		memcpy(&a.intrinsic, attribute->entry.key + 2, sizeof(a.intrinsic));
	else
	{
		a.scope = scopes[from];
		a.name = pnstrdup(attribute->entry.key + 2, attribute->entry.len - 2);
	}
	return tql_print_attribute(&a);
}

static char *
value_label(const Value *value)
{
	const char *key = value->entry.key + sizeof(uint32) + 1;
	TqlValue    v = {.type = value->entry.key[sizeof(uint32)]};

	if (v.type == TQL_V_STRING)
	{
		v.s = key;
		v.len = value->entry.len - sizeof(uint32) - 1;
	}
	else if (v.type == TQL_V_DOUBLE)
		memcpy(&v.d, key, sizeof(v.d));
	else
		memcpy(&v.n, key, sizeof(v.n));
	return tql_label_text(&v);
}

/* Of values seen equally often those with the smaller labels, as series.c has it */
static int
compare_top(const Top *a, const Top *b)
{
	if (a->value->total != b->value->total)
		return a->value->total > b->value->total ? -1 : 1;
	return strcmp(a->label, b->label);
}

/* Puts the most frequent values first into "top"; returns how many */
static int
find_top(const Attribute *attribute, Top *top, int limit)
{
	int n = 0;

	for (Value *v = attribute->values; v; v = v->next)
	{
		Top item = {v, NULL};
		int at = n;
		int low;
		int high;

		CHECK_FOR_INTERRUPTS();
		if (n == limit && v->total < top[n - 1].value->total)
			continue;
		item.label = value_label(v);
		if (n == limit)
		{
			if (compare_top(&item, &top[n - 1]) >= 0)
			{
				pfree(item.label);
				continue;
			}
			pfree(top[n - 1].label);
			at = n - 1;
		}
		else
			n++;
		low = 0;
		high = at;
		while (low < high)
		{
			int middle = (low + high) / 2;

			if (compare_top(&top[middle], &item) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		memmove(&top[low + 1], &top[low], sizeof(Top) * (at - low));
		top[low] = item;
	}
	return n;
}

static void
add_row(Rows *out, int step, Datum keys, double n)
{
	Datum values[3] = {Int64GetDatum(step), keys, Float8GetDatum(n)};
	bool  nulls[3] = {0};

	if (out->n == out->capacity)
	{
		out->capacity = Max(256, out->capacity * 2);
		out->rows = out->rows ? repalloc_huge(out->rows, sizeof(Datum) * out->capacity) :
		                        palloc(sizeof(Datum) * out->capacity);
	}
	out->rows[out->n++] = HeapTupleGetDatum(heap_form_tuple(out->desc, values, nulls));
}

static Datum
make_keys(const char *side, const char *attribute, const char *label)
{
	Datum items[3] = {CStringGetTextDatum(side), CStringGetTextDatum(attribute)};

	if (label)
		items[2] = CStringGetTextDatum(label);
	return PointerGetDatum(construct_array(items, label ? 3 : 2, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The most frequent values of an attribute, and all others together without a value */
static void
add_attribute(CompareState *state, const Attribute *attribute, Rows *out, double *others)
{
	int         limit = (int) Min(state->n_values, attribute->n_values);
	Top        *top = palloc(sizeof(Top) * limit);
	const char *side = attribute->entry.key[0] ? "selection" : "baseline";
	const char *name = attribute_text(attribute);
	int         n = find_top(attribute, top, limit);
	Datum       keys;

	for (int i = 0; i < n; i++)
	{
		Value *value = top[i].value;

		keys = make_keys(side, name, top[i].label);
		for (int j = 0; j < value->n_cells; j++)
			add_row(out, value->cells[j].step, keys, value->cells[j].n);
		value->n_cells = 0; /* told */
	}
	if (attribute->n_values <= n)
		return;
	memset(others, 0, sizeof(double) * state->n_steps);
	for (Value *v = attribute->values; v; v = v->next)
	{
		for (int j = 0; j < v->n_cells; j++)
			others[v->cells[j].step] += v->cells[j].n;
	}
	keys = make_keys(side, name, NULL);
	for (int i = 0; i < state->n_steps; i++)
	{
		if (others[i] != 0)
			add_row(out, i, keys, others[i]);
	}
}

/* tempo.attribute_label(scope, name): an attribute as TraceQL writes it */
Datum
tempo_attribute_label(PG_FUNCTION_ARGS)
{
	static const TqlScope    scopes[] = {TQL_SCOPE_SPAN, TQL_SCOPE_RESOURCE, TQL_SCOPE_INSTRUMENTATION};
	static const char *const names[] = {"span", "resource", "instrumentation"};
	const char              *scope = text_to_cstring(PG_GETARG_TEXT_PP(0));

	for (int i = 0; i < lengthof(scopes); i++)
	{
		TqlAttribute attribute = {.intrinsic = TQL_ATTRIBUTE, .scope = scopes[i]};

		if (strcmp(scope, names[i]) != 0)
			continue;
		attribute.name = text_to_cstring(PG_GETARG_TEXT_PP(1));
		PG_RETURN_TEXT_P(cstring_to_text(tql_print_attribute(&attribute)));
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown scope \"%s\"", scope)));
}

/* Final function of tempo.compare_spans(): tempo.compared[] */
Datum
tempo_compare_spans(PG_FUNCTION_ARGS)
{
	CompareState *state;
	MemoryContext old;
	Rows          out = {0};
	double       *others;
	Oid           element;
	int16         typlen;
	bool          typbyval;
	char          typalign;
	ArrayType    *array;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (CompareState *) PG_GETARG_POINTER(0);
	element = get_element_type(get_func_rettype(fcinfo->flinfo->fn_oid));
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	old = MemoryContextSwitchTo(state->context);
	count_in_traces(state);
	count_sets(state);
	out.desc = lookup_rowtype_tupdesc_copy(element, -1);
	others = palloc(sizeof(double) * state->n_steps);
	for (Attribute *a = state->first; a; a = a->next)
	{
		if (a->entry.key[1] != WHOLE_RESOURCE && a->entry.key[1] != WHOLE_SCOPE)
			add_attribute(state, a, &out, others);
		check_memory(state, 0);
	}
	MemoryContextSwitchTo(old);
	if (out.n == 0)
		array = construct_empty_array(element);
	else
		array = construct_array(out.rows, out.n, element, typlen, typbyval, typalign);
	MemoryContextDelete(state->context);
	PG_RETURN_ARRAYTYPE_P(array);
}
