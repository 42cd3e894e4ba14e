/*-------------------------------------------------------------------------
 *
 * partial.c
 *	  Parts of a trace: what fits, what matches.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/partial.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* ------------------------------------------------------------------- size */

static Size
varint_size(uint64 n)
{
	Size size = 1;

	for (; n >= 0x80; n >>= 7)
		size++;
	return size;
}

/* A field with a tag of one byte; one without content is left out. */
static Size
field_size(Size len)
{
	return len == 0 ? 0 : 1 + varint_size(len) + len;
}

static Size
number_size(uint64 n)
{
	return n == 0 ? 0 : 1 + varint_size(n);
}

static Size list_size(const KeyValue *items, uint32 n);

static Size
value_size(const AnyValue *value)
{
	Size size = 0;

	check_stack_depth();
	switch ((AnyValueType) value->type)
	{
		case ANY_EMPTY:
			return 0;
		case ANY_STRING:
		case ANY_BYTES:
			return 1 + varint_size(value->len) + value->len;
		case ANY_BOOL:
			return 2;
		case ANY_INT:
			return 1 + varint_size((uint64) value->u.integer);
		case ANY_DOUBLE:
			return 9;
		case ANY_ARRAY:
			for (uint32 i = 0; i < value->len; i++)
			{
				Size element = value_size(&value->u.elements[i]);

				size += 1 + varint_size(element) + element;
			}
			break;
		case ANY_KVLIST:
			size = list_size(value->u.members, value->len);
			break;
	}
	return 1 + varint_size(size) + size;
}

/* A list of KeyValue as a repeated field. */
static Size
list_size(const KeyValue *items, uint32 n)
{
	Size size = 0;

	for (uint32 i = 0; i < n; i++)
	{
		Size value = value_size(&items[i].value);
		Size pair = field_size(items[i].key.len) + 1 + varint_size(value) + value;

		size += 1 + varint_size(pair) + pair;
	}
	return size;
}

static Size
attributes_size(const AttributeList *list, uint32 dropped)
{
	return list_size(list->items, list->count) + number_size(dropped);
}

static Size
span_size(const SpanBatch *batch, const Span *span)
{
	/* ids, times, flags, an empty status */
	Size size = 18 + 10 + 10 + 9 + 9 + 5 + 2;

	size += field_size(batch->strings[span->name].len) + field_size(span->trace_state.len) +
	        field_size(span->status_message.len) + number_size(span->kind) + number_size(span->status_code) +
	        attributes_size(&span->attributes, span->dropped_attributes_count) +
	        number_size(span->dropped_events_count) + number_size(span->dropped_links_count);
	for (uint32 i = 0; i < span->n_events; i++)
	{
		const SpanEvent *event = &span->events[i];

		size += field_size(9 + field_size(event->name.len) +
		                   attributes_size(&event->attributes, event->dropped_attributes_count));
	}
	for (uint32 i = 0; i < span->n_links; i++)
	{
		const SpanLink *link = &span->links[i];

		size += field_size(18 + 10 + 5 + field_size(link->trace_state.len) +
		                   attributes_size(&link->attributes, link->dropped_attributes_count));
	}
	return field_size(size);
}

static Size
resource_size(const SpanBatch *batch, const SpanResource *resource)
{
	return field_size(attributes_size(&resource->attributes, resource->dropped_attributes_count) +
	                  resource->entity_refs.len) +
	       field_size(batch->strings[resource->schema_url].len) + 4;
}

static Size
scope_size(const SpanBatch *batch, const SpanScope *scope)
{
	return field_size(field_size(batch->strings[scope->name].len) + field_size(batch->strings[scope->version].len) +
	                  attributes_size(&scope->attributes, scope->dropped_attributes_count)) +
	       field_size(batch->strings[scope->schema_url].len) + 4;
}

/* Adds up spans; resources and scopes with their first. */
typedef struct SizeCounter
{
	const SpanBatch *batch;
	bool            *resources;
	bool            *scopes;
	Size             size;
} SizeCounter;

static void
counter_start(SizeCounter *counter, const SpanBatch *batch)
{
	counter->batch = batch;
	counter->size = 0;
	counter->resources = MemoryContextAllocExtended(CurrentMemoryContext, batch->n_resources + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	counter->scopes = MemoryContextAllocExtended(CurrentMemoryContext, batch->n_scopes + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
counter_add(SizeCounter *counter, const Span *span)
{
	const SpanScope *scope = span_scope(counter->batch, span);

	counter->size += span_size(counter->batch, span);
	if (!counter->scopes[span->scope])
	{
		counter->scopes[span->scope] = true;
		counter->size += scope_size(counter->batch, scope);
	}
	if (!counter->resources[scope->resource])
	{
		counter->resources[scope->resource] = true;
		counter->size += resource_size(counter->batch, &counter->batch->resources[scope->resource]);
	}
}

Size
trace_size(const SpanBatch *batch)
{
	SizeCounter counter;

	counter_start(&counter, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
		counter_add(&counter, &batch->spans[i]);
	return counter.size;
}

/* ------------------------------------------------------------------ parts */

static void *
allocate(Size n, Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, Max(n, 1) * size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* Keeps the spans that are marked. */
static void
compact(SpanBatch *batch, const bool *keep)
{
	uint32 n = 0;

	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		if (keep[i])
		{
			if (i != n)
				batch->spans[n] = batch->spans[i];
			n++;
		}
	}
	span_batch_truncate(batch, n);
}

static int
compare_start(const void *a, const void *b, void *arg)
{
	const SpanBatch *batch = arg;
	uint32           x = *(const uint32 *) a;
	uint32           y = *(const uint32 *) b;
	int64            p = batch->spans[x].start_time_unix_nano;
	int64            q = batch->spans[y].start_time_unix_nano;

	if (p != q)
		return p < q ? -1 : 1;
	return x < y ? -1 : x > y;
}

void
trace_fit(SpanBatch *batch, Size limit)
{
	SizeCounter counter;
	uint32     *order = allocate(batch->n_spans, sizeof(uint32));
	bool       *keep = allocate(batch->n_spans, sizeof(bool));

	for (uint32 i = 0; i < batch->n_spans; i++)
		order[i] = i;
	qsort_arg(order, batch->n_spans, sizeof(uint32), compare_start, batch);
	counter_start(&counter, batch);
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		counter_add(&counter, &batch->spans[order[i]]);
		if (counter.size > limit)
			break;
		keep[order[i]] = true;
	}
	compact(batch, keep);
}

/* The spans that have an id; several may. */
typedef struct IdEntry
{
	SpanId id;
	uint32 first;    /* a span with the id, or NO_SPAN */
	uint32 children; /* a span whose parent has it, or NO_SPAN */
	bool   matches;
} IdEntry;

#define NO_SPAN PG_UINT32_MAX

typedef struct SpanTree
{
	HTAB   *ids;
	uint32 *next;    /* per span: another with the same id */
	uint32 *sibling; /* per span: another with the same parent */
	int64  *above;   /* per span: levels still to be kept above it, -1 = it is not kept for that */
	int64  *below;
	uint32 *queue;
	uint32  n;
} SpanTree;

static IdEntry *
enter(SpanTree *tree, const SpanId *id)
{
	bool     found;
	IdEntry *entry = hash_search(tree->ids, id, HASH_ENTER, &found);

	if (!found)
	{
		entry->first = entry->children = NO_SPAN;
		entry->matches = false;
	}
	return entry;
}

/*
 * All matches have the same number of levels around them, so that a span is
 * first reached from the nearest one, and once is enough.
 */
static void
reach(SpanTree *tree, int64 *levels, uint32 span, int64 left)
{
	if (levels[span] < 0)
	{
		levels[span] = left;
		tree->queue[tree->n++] = span;
	}
}

static void
spread(SpanTree *tree, const SpanBatch *batch, bool upwards)
{
	int64 *levels = upwards ? tree->above : tree->below;

	for (uint32 done = 0; done < tree->n; done++)
	{
		uint32   span = tree->queue[done];
		int64    left = levels[span];
		IdEntry *entry = hash_search(tree->ids, upwards ? &batch->spans[span].parent_span_id : &batch->spans[span].span_id,
		                             HASH_FIND, NULL);

		CHECK_FOR_INTERRUPTS();
		if (left == 0 || entry == NULL)
			continue;
		if (upwards)
		{
			for (uint32 i = entry->first; i != NO_SPAN; i = tree->next[i])
				reach(tree, levels, i, left - 1);
		}
		else
		{
			for (uint32 i = entry->children; i != NO_SPAN; i = tree->sibling[i])
				reach(tree, levels, i, left - 1);
		}
	}
}

void
trace_keep(SpanBatch *batch, const SpanId *ids, uint64 n, const TraceSurroundings *around)
{
	SpanTree tree = {0};
	HASHCTL  control = {0};
	bool    *keep = allocate(batch->n_spans, sizeof(bool));
	/* no path is longer than there are spans */
	int64 most = batch->n_spans;
	int64 above = around->ancestors < 0 ? most : Min(around->ancestors, most);
	int64 below = around->descendants < 0 ? most : Min(around->descendants, most);

	control.keysize = sizeof(SpanId);
	control.entrysize = sizeof(IdEntry);
	control.hcxt = CurrentMemoryContext;
	tree.ids = hash_create("span ids", Max(batch->n_spans, 16), &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	tree.next = allocate(batch->n_spans, sizeof(uint32));
	tree.sibling = allocate(batch->n_spans, sizeof(uint32));
	tree.above = allocate(batch->n_spans, sizeof(int64));
	tree.below = allocate(batch->n_spans, sizeof(int64));
	for (uint32 i = 0; i < batch->n_spans; i++)
	{
		const Span *span = &batch->spans[i];
		IdEntry    *entry = enter(&tree, &span->span_id);

		tree.next[i] = entry->first;
		entry->first = i;
		tree.sibling[i] = NO_SPAN;
		if (!id_is_zero(span->parent_span_id.bytes, SPAN_ID_LEN))
		{
			entry = enter(&tree, &span->parent_span_id);
			tree.sibling[i] = entry->children;
			entry->children = i;
		}
		tree.above[i] = tree.below[i] = -1;
	}
	for (uint64 i = 0; i < n; i++)
	{
		IdEntry *entry = hash_search(tree.ids, &ids[i], HASH_FIND, NULL);

		if (entry)
			entry->matches = true;
	}

	for (int upwards = 0; upwards < 2; upwards++)
	{
		int64 *levels = upwards ? tree.above : tree.below;

		tree.queue = allocate(batch->n_spans, sizeof(uint32));
		tree.n = 0;
		for (uint32 i = 0; i < batch->n_spans; i++)
		{
			if (((IdEntry *) hash_search(tree.ids, &batch->spans[i].span_id, HASH_FIND, NULL))->matches)
				reach(&tree, levels, i, upwards ? above : below);
		}
		spread(&tree, batch, upwards);
		for (uint32 i = 0; i < batch->n_spans; i++)
			keep[i] |= levels[i] >= 0;
	}
	hash_destroy(tree.ids);
	compact(batch, keep);
}
