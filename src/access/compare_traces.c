/*-------------------------------------------------------------------------
 *
 * compare_traces.c
 *	  What compare() counts of whole traces: the root of each span's trace and
 *	  the number of its children.
 *
 * The rules are those of TraceQL's own evaluation of traces: spans with equal
 * start, id and kind are one; the root is the first span without parent; a
 * client and a server may share an id, and children belong to one of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compare_traces.h"

#include "access/row.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#define KIND_SERVER 2
#define KIND_CLIENT 3

typedef struct TraceEntry
{
	TraceId id; /* the key */
	uint32  number;
	bool    repeated; /* its spans are in the table of those */
	uint64  first_run;
	uint64  last_run;
} TraceEntry;

typedef struct RepeatedKey
{
	uint64 id;
	int64  start;
	uint32 trace;
	int32  kind;
} RepeatedKey;

CompareTraces *
tempo_traces_create(ValueCounts *counts)
{
	CompareTraces *traces = MemoryContextAllocZero(counts->context, sizeof(CompareTraces));
	HASHCTL        control = {
			   .keysize = sizeof(TraceId), .entrysize = sizeof(TraceEntry), .hcxt = counts->context};

	traces->counts = counts;
	traces->root_name = tempo_counts_attribute(counts, PLACE_ROOT_NAME, span_text(NULL, 0));
	traces->root_service = tempo_counts_attribute(counts, PLACE_ROOT_SERVICE, span_text(NULL, 0));
	traces->child_count = tempo_counts_attribute(counts, PLACE_CHILD_COUNT, span_text(NULL, 0));
	traces->traces =
		hash_create("compared traces", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	control.keysize = control.entrysize = sizeof(RepeatedKey);
	traces->repeated =
		hash_create("compared spans", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return traces;
}

/* Makes room for more items of an array. */
static void *
grow(ValueCounts *counts, void *array, uint64 *size, uint64 needed, Size width)
{
	uint64 larger = Max(Max(needed, 256), *size * 2);

	if (needed <= *size)
		return array;
	tempo_counts_check(counts, larger * width);
	if (array == NULL)
		array = MemoryContextAllocHuge(counts->context, larger * width);
	else
		array = repalloc_huge(array, larger * width);
	*size = larger;
	return array;
}

/*
 * Spans as they come.
 */

static uint64
read_id(const SpanId *id)
{
	uint64 number;

	memcpy(&number, id->bytes, sizeof(number));
	return pg_ntoh64(number);
}

/* Does a link say that the span without parent is a child? */
static bool
is_linked_child(const Span *span)
{
	for (uint32 i = 0; i < span->n_links; i++)
	{
		const AnyValue *type;

		if (memcmp(&span->links[i].trace_id, &span->trace_id, sizeof(TraceId)) != 0)
			continue;
		type = attribute_find(span->links[i].attributes, span_text("opentracing.ref_type", 20));
		/* as TraceQL has it, the only element of an array is a value */
		if (type != NULL && type->type == ANY_ARRAY && type->len == 1)
			type = type->u.elements;
		if (type != NULL && type->type == ANY_STRING && type->len == 8 &&
		    memcmp(type->u.data, "child_of", 8) == 0)
			return true;
	}
	return false;
}

static CountedValue *
text_value(CompareTraces *traces, CountedAttribute *attribute, SpanText text)
{
	AnyValue value = {.type = ANY_STRING, .len = text.len};

	value.u.data = text.data;
	return tempo_counts_value(traces->counts, attribute, &value);
}

/* Numbers the name and service of a root; often they are those of the one before. */
static uint32
number_root(CompareTraces *traces, const SpanBatch *batch, const Span *span)
{
	SpanText       service = tempo_service_name(span_resource(batch, span));
	CountedValue  *name = text_value(traces, traces->root_name, batch->strings[span->name]);
	CountedValue  *of = text_value(traces, traces->root_service, service);
	CountedValue **last = traces->n_roots > 0 ? &traces->roots[2 * (traces->n_roots - 1)] : NULL;
	uint64         size = traces->roots_size;

	if (last != NULL && last[0] == name && last[1] == of)
		return traces->n_roots - 1;
	if (traces->n_roots >= NOT_A_ROOT / 4)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many traces to compare")));
	traces->roots = grow(traces->counts, traces->roots, &size, 2 * ((uint64) traces->n_roots + 1),
	                     sizeof(CountedValue *));
	traces->roots_size = (uint32) size;
	traces->roots[2 * traces->n_roots] = name;
	traces->roots[2 * traces->n_roots + 1] = of;
	return traces->n_roots++;
}

static void
keep_span(CompareTraces *traces, const SpanBatch *batch, const Span *span, uint32 slot,
          TreeSpan *kept)
{
	kept->id = read_id(&span->span_id);
	kept->parent_id = read_id(&span->parent_span_id);
	kept->has_parent = kept->parent_id != 0;
	kept->start = span->start_time_unix_nano;
	kept->kind = span->kind;
	kept->slot = slot;
	kept->root = kept->has_parent || is_linked_child(span) ? NOT_A_ROOT : number_root(traces, batch, span);
}

static bool
is_same(const TreeSpan *a, const TreeSpan *b)
{
	return a->id == b->id && a->start == b->start && a->kind == b->kind;
}

/* Makes room to find that many spans by id, and empties it. */
static uint64
clear_ids(CompareTraces *traces, uint64 n)
{
	uint64 size = 16;

	while (size < n * 2)
		size *= 2;
	traces->ids = grow(traces->counts, traces->ids, &traces->ids_size, size, sizeof(uint32));
	memset(traces->ids, 0xff, size * sizeof(uint32));
	return size - 1;
}

static inline uint64
place_of(uint64 id, uint64 mask)
{
	return (id * UINT64CONST(0x9E3779B97F4A7C15)) >> 32 & mask;
}

/* Was the span met with others of its trace before? */
static bool
is_repeated(CompareTraces *traces, const TraceEntry *trace, const TreeSpan *span)
{
	RepeatedKey key = {span->id, span->start, trace->number, span->kind};
	bool        found;

	(void) hash_search(traces->repeated, &key, HASH_ENTER, &found);
	return found;
}

/* Puts what was kept of a trace so far where is_repeated() finds it. */
static void
keep_repeated(CompareTraces *traces, TraceEntry *trace)
{
	trace->repeated = true;
	for (uint64 run = trace->first_run; run != PG_UINT64_MAX; run = traces->runs[run].next)
		for (uint64 i = 0; i < traces->runs[run].n; i++)
			(void) is_repeated(traces, trace, &traces->spans[traces->runs[run].first + i]);
}

/* Adds the last "n" spans kept as a run of their trace, each once. */
static void
add_run(CompareTraces *traces, const TraceId *id, uint32 n, uint32 *slots)
{
	TreeSpan   *spans = &traces->spans[traces->n_spans];
	uint32      kept = 0;
	uint64      mask = n > 1 ? clear_ids(traces, n) : 0;
	bool        found;
	TraceEntry *trace = hash_search(traces->traces, id, HASH_ENTER, &found);
	TraceRun   *run;

	if (!found)
	{
		trace->number = (uint32) hash_get_num_entries(traces->traces);
		trace->repeated = false;
		trace->first_run = trace->last_run = PG_UINT64_MAX;
	}
	else if (!trace->repeated)
		keep_repeated(traces, trace);
	for (uint32 i = 0; i < n; i++)
	{
		bool repeated = trace->repeated && is_repeated(traces, trace, &spans[i]);

		if (n > 1 && !repeated)
		{
			uint64 at = place_of(spans[i].id, mask);

			for (; traces->ids[at] != PG_UINT32_MAX && !repeated; at = (at + 1) & mask)
				repeated = is_same(&spans[traces->ids[at]], &spans[i]);
			if (!repeated)
				traces->ids[at] = kept;
		}
		if (repeated)
			slots[i] = TALLY_NONE;
		else
			spans[kept++] = spans[i];
	}
	if (kept == 0)
		return;
	traces->n_spans += kept;
	traces->runs = grow(traces->counts, traces->runs, &traces->runs_size, traces->n_runs + 1,
	                    sizeof(TraceRun));
	run = &traces->runs[traces->n_runs];
	run->first = traces->n_spans - kept;
	run->n = kept;
	run->next = PG_UINT64_MAX;
	if (trace->first_run == PG_UINT64_MAX)
		trace->first_run = traces->n_runs;
	else
		traces->runs[trace->last_run].next = traces->n_runs;
	trace->last_run = traces->n_runs++;
}

void
tempo_traces_add(CompareTraces *traces, const SpanBatch *batch, const uint32 *spans, uint32 n,
                 uint32 *slots)
{
	uint32 end;

	traces->spans = grow(traces->counts, traces->spans, &traces->spans_size, traces->n_spans + n,
	                     sizeof(TreeSpan));
	for (uint32 i = 0; i < n; i = end)
	{
		const TraceId *id = &batch->spans[spans[i]].trace_id;

		for (end = i;
		     end < n && memcmp(&batch->spans[spans[end]].trace_id, id, sizeof(TraceId)) == 0;
		     end++)
			keep_span(traces, batch, &batch->spans[spans[end]], slots[end],
			          &traces->spans[traces->n_spans + end - i]);
		add_run(traces, id, end - i, &slots[i]);
	}
	tempo_counts_check(traces->counts, 0);
}

/*
 * Whole traces.
 */

/* Unknown kinds come after those known. */
static int64
kind_order(int32 kind)
{
	return kind >= 0 && kind <= 5 ? kind : INT64CONST(1000) + kind;
}

static int
compare_spans(const void *a, const void *b)
{
	const TreeSpan *x = a;
	const TreeSpan *y = b;
	int64           x_kind = kind_order(x->kind);
	int64           y_kind = kind_order(y->kind);

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x_kind < y_kind ? -1 : x_kind > y_kind;
}

static const TreeSpan *
find_root(const TreeSpan *spans, uint32 n)
{
	const TreeSpan *root = NULL;

	for (uint32 i = 0; i < n; i++)
		if (spans[i].root != NOT_A_ROOT && (root == NULL || compare_spans(&spans[i], root) < 0))
			root = &spans[i];
	return root;
}

/* By id; false if two have the same. */
static bool
list_ids(CompareTraces *traces, const TreeSpan *spans, uint32 n, uint64 mask)
{
	for (uint32 i = 0; i < n; i++)
	{
		uint64 at = place_of(spans[i].id, mask);

		for (; traces->ids[at] != PG_UINT32_MAX; at = (at + 1) & mask)
			if (spans[traces->ids[at]].id == spans[i].id)
				return false;
		traces->ids[at] = i;
	}
	return true;
}

static void
count_children(CompareTraces *traces, const TreeSpan *spans, uint32 n, uint64 mask,
               uint32 *children)
{
	for (uint32 i = 0; i < n; i++)
	{
		uint64 at = place_of(spans[i].parent_id, mask);

		if (!spans[i].has_parent)
			continue;
		while (traces->ids[at] != PG_UINT32_MAX &&
		       spans[traces->ids[at]].id != spans[i].parent_id)
			at = (at + 1) & mask;
		if (traces->ids[at] != PG_UINT32_MAX && traces->ids[at] != i)
			children[traces->ids[at]]++;
	}
}

typedef struct IdEntry
{
	uint64 id;
	uint32 span;
} IdEntry;

static int
compare_ids(const void *a, const void *b)
{
	const IdEntry *x = a;
	const IdEntry *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->span < y->span ? -1 : x->span > y->span;
}

static uint32
first_of_id(const IdEntry *ids, uint32 n, uint64 id)
{
	uint32 low = 0;
	uint32 high = n;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (ids[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * The same where spans share ids: a server belongs to the client of that id, all
 * else to the server.  If an id is there three times, nobody has children.
 */
static void
count_shared(CompareTraces *traces, TreeSpan *spans, uint32 n, uint32 *children)
{
	IdEntry *ids;

	tempo_counts_check(traces->counts, sizeof(IdEntry) * n);
	ids = palloc_extended(sizeof(IdEntry) * n, MCXT_ALLOC_HUGE);
	qsort(spans, n, sizeof(TreeSpan), compare_spans);
	for (uint32 i = 0; i < n; i++)
		ids[i] = (IdEntry){spans[i].id, i};
	qsort(ids, n, sizeof(IdEntry), compare_ids);
	for (uint32 i = 0; i + 2 < n; i++)
		if (ids[i].id == ids[i + 2].id)
			return;
	for (uint32 i = 0; i < n; i++)
	{
		uint64 id = spans[i].parent_id;
		uint32 at = first_of_id(ids, n, id);
		int32  wanted = spans[i].kind == KIND_SERVER ? KIND_CLIENT : KIND_SERVER;

		if (!spans[i].has_parent || at >= n || ids[at].id != id)
			continue;
		if (at + 1 < n && ids[at + 1].id == id)
		{
			while (at < n && ids[at].id == id && spans[ids[at].span].kind != wanted)
				at++;
			if (at >= n || ids[at].id != id)
				continue;
		}
		if (ids[at].span != i)
			children[ids[at].span]++;
	}
}

static CountedValue *
children_value(CompareTraces *traces, uint32 n)
{
	AnyValue       value = {.type = ANY_INT};
	CountedValue **known = n < FEW_CHILDREN ? &traces->few[n] : NULL;
	CountedValue  *result;

	if (known != NULL && *known != NULL)
		return *known;
	value.u.integer = n;
	result = tempo_counts_value(traces->counts, traces->child_count, &value);
	if (known != NULL)
		*known = result;
	return result;
}

static void
count_trace(CompareTraces *traces, TreeSpan *spans, uint32 n)
{
	ValueCounts    *counts = traces->counts;
	uint64          mask = clear_ids(traces, n);
	uint32         *children = palloc_extended(sizeof(uint32) * n, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	CountedValue  **of_root;
	CountedValue   *nothing[2];
	const TreeSpan *root;

	if (list_ids(traces, spans, n, mask))
		count_children(traces, spans, n, mask, children);
	else
		count_shared(traces, spans, n, children);
	root = find_root(spans, n);
	of_root = root != NULL ? &traces->roots[2 * root->root] : nothing;
	if (root == NULL)
	{
		nothing[0] = text_value(traces, traces->root_name, span_text(NULL, 0));
		nothing[1] = text_value(traces, traces->root_service, span_text(NULL, 0));
	}
	for (uint32 i = 0; i < n; i++)
	{
		if (spans[i].slot == TALLY_NONE)
			continue;
		tempo_counts_add(counts, children_value(traces, children[i]), spans[i].slot, 1);
		tempo_counts_add(counts, of_root[0], spans[i].slot, 1);
		tempo_counts_add(counts, of_root[1], spans[i].slot, 1);
	}
}

/* Brings the runs of a trace together. */
static TreeSpan *
collect_trace(CompareTraces *traces, const TraceEntry *trace, uint64 *n)
{
	const TraceRun *runs = traces->runs;
	TreeSpan       *spans;

	*n = 0;
	for (uint64 run = trace->first_run; run != PG_UINT64_MAX; run = runs[run].next)
		*n += runs[run].n;
	if (trace->first_run == trace->last_run)
		return *n > 0 ? &traces->spans[runs[trace->first_run].first] : NULL;
	tempo_counts_check(traces->counts, sizeof(TreeSpan) * *n);
	spans = palloc_extended(sizeof(TreeSpan) * *n, MCXT_ALLOC_HUGE);
	*n = 0;
	for (uint64 run = trace->first_run; run != PG_UINT64_MAX; run = runs[run].next)
	{
		memcpy(&spans[*n], &traces->spans[runs[run].first], sizeof(TreeSpan) * runs[run].n);
		*n += runs[run].n;
	}
	return spans;
}

void
tempo_traces_count(CompareTraces *traces)
{
	MemoryContext   per_trace = AllocSetContextCreate(traces->counts->context, "tempo compare trace",
	                                                  ALLOCSET_DEFAULT_SIZES);
	MemoryContext   old = MemoryContextSwitchTo(per_trace);
	HASH_SEQ_STATUS scan;
	TraceEntry     *trace;

	hash_seq_init(&scan, traces->traces);
	while ((trace = hash_seq_search(&scan)) != NULL)
	{
		uint64    n;
		TreeSpan *spans = collect_trace(traces, trace, &n);

		CHECK_FOR_INTERRUPTS();
		if (n > PG_INT32_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			                errmsg("a trace has too many spans to compare")));
		if (n > 0)
			count_trace(traces, spans, (uint32) n);
		MemoryContextReset(per_trace);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(per_trace);
}
