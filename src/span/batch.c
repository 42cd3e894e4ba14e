/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Appenders and interning of a SpanBatch.
 *
 *-------------------------------------------------------------------------
 */
#include "span/batch.h"

#include <string.h>

/* A batch with larger arrays gives them back when it is reset. */
#define KEPT_BYTES (4 * 1024 * 1024)

/* Open-addressing table from a hash to an index; slots hold index + 1. */
typedef struct InternTable
{
	uint32_t *slots;
	uint64_t *hashes;  /* by index, so that growing needs no re-hashing */
	uint32_t  n_slots; /* a power of two, or 0 */
} InternTable;

typedef struct SpanBatchPrivate
{
	SpanAllocator allocator;
	Arena         arena;
	size_t        limit;
	size_t        array_bytes; /* of the growable arrays below */
	uint64_t      generation;
	InternTable   strings;
	InternTable   resources;
	InternTable   scopes;
	uint32_t      spans_size;
	uint32_t      strings_size;
	uint32_t      resources_size;
	uint32_t      scopes_size;
} SpanBatchPrivate;

/* Growable arrays come from the allocator directly: an arena would keep every old copy. */
static void *
resize(SpanBatchPrivate *priv, void *old, size_t old_bytes, size_t new_bytes)
{
	void *new;

	if (priv->limit != 0 && priv->array_bytes + priv->arena.used + new_bytes > priv->limit)
		return NULL;
	new = priv->allocator.alloc(priv->allocator.arg, new_bytes);
	if (new == NULL)
		return NULL;
	if (old != NULL)
	{
		memcpy(new, old, old_bytes);
		priv->allocator.release(priv->allocator.arg, old);
	}
	priv->array_bytes += new_bytes - old_bytes;
	return new;
}

/* Makes room for one more element of "width" bytes in *array. */
static bool
reserve(SpanBatchPrivate *priv, void **array, uint32_t count, uint32_t *size, size_t width)
{
	uint32_t want;
	void *new;

	if (count < *size)
		return true;
	if (*size >= UINT32_MAX / 4)
		return false;
	want = *size == 0 ? 64 : *size * 2;
	new = resize(priv, *array, (size_t) *size * width, (size_t) want * width);
	if (new == NULL)
		return false;
	*array = new;
	*size = want;
	return true;
}

static bool
table_reserve(SpanBatchPrivate *priv, InternTable *table, uint32_t count)
{
	uint32_t  n_slots;
	uint32_t *slots;
	uint64_t *hashes;

	if (count + 1 <= table->n_slots / 2)
		return true;
	n_slots = table->n_slots == 0 ? 128 : table->n_slots * 2;
	hashes = resize(priv, table->hashes, (size_t) table->n_slots / 2 * sizeof(uint64_t),
	                (size_t) n_slots / 2 * sizeof(uint64_t));
	if (hashes == NULL)
		return false;
	table->hashes = hashes;
	slots = resize(priv, table->slots, (size_t) table->n_slots * sizeof(uint32_t),
	               (size_t) n_slots * sizeof(uint32_t));
	if (slots == NULL)
	{
		/* hashes is now longer than n_slots says, which costs accounting only */
		return false;
	}
	memset(slots, 0, (size_t) n_slots * sizeof(uint32_t));
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t at = (uint32_t) hashes[i] & (n_slots - 1);

		while (slots[at] != 0)
			at = (at + 1) & (n_slots - 1);
		slots[at] = i + 1;
	}
	table->slots = slots;
	table->n_slots = n_slots;
	return true;
}

/*
 * Walks the entries whose hash is "hash": *at is the slot to go on from, to
 * be set to (uint32_t) hash at first.  SPAN_BATCH_NONE at the end.
 */
static uint32_t
table_next(const InternTable *table, uint64_t hash, uint32_t *at)
{
	if (table->n_slots == 0)
		return SPAN_BATCH_NONE;
	for (;;)
	{
		uint32_t entry = table->slots[*at & (table->n_slots - 1)];

		if (entry == 0)
			return SPAN_BATCH_NONE;
		(*at)++;
		if (table->hashes[entry - 1] == hash)
			return entry - 1;
	}
}

/* The table has room: table_reserve() said so. */
static void
table_insert(InternTable *table, uint64_t hash, uint32_t index)
{
	uint32_t at = (uint32_t) hash & (table->n_slots - 1);

	while (table->slots[at] != 0)
		at = (at + 1) & (table->n_slots - 1);
	table->slots[at] = index + 1;
	table->hashes[index] = hash;
}

static void
table_free(SpanBatchPrivate *priv, InternTable *table)
{
	if (table->slots != NULL)
		priv->allocator.release(priv->allocator.arg, table->slots);
	if (table->hashes != NULL)
		priv->allocator.release(priv->allocator.arg, table->hashes);
	memset(table, 0, sizeof(*table));
}

/* What span_batch_reset() keeps at most. */
#define KEPT_SPAN_BYTES ((size_t) 4 * 1024 * 1024)
#define KEPT_ARENA_BYTES ((size_t) 1024 * 1024)

/* Only told apart within one process and thread, as batches are. */
static __thread uint64_t last_generation;

static void
release_all(SpanBatch *batch)
{
	SpanBatchPrivate *priv = batch->priv;
	void             *arrays[] = {batch->spans, batch->resources, batch->scopes, batch->strings};

	for (int i = 0; i < 4; i++)
		if (arrays[i] != NULL)
			priv->allocator.release(priv->allocator.arg, arrays[i]);
	table_free(priv, &priv->strings);
	table_free(priv, &priv->resources);
	table_free(priv, &priv->scopes);
	arena_reset(&priv->arena);
	memset(batch, 0, sizeof(*batch));
	batch->priv = priv;
	priv->array_bytes = 0;
	priv->spans_size = priv->strings_size = priv->resources_size = priv->scopes_size = 0;
}

SpanBatch *
span_batch_create(const SpanAllocator *allocator, size_t memory_limit)
{
	SpanBatch        *batch = allocator->alloc(allocator->arg, sizeof(SpanBatch));
	SpanBatchPrivate *priv = allocator->alloc(allocator->arg, sizeof(SpanBatchPrivate));

	if (batch == NULL || priv == NULL)
	{
		if (batch != NULL)
			allocator->release(allocator->arg, batch);
		if (priv != NULL)
			allocator->release(allocator->arg, priv);
		return NULL;
	}
	memset(batch, 0, sizeof(*batch));
	memset(priv, 0, sizeof(*priv));
	batch->priv = priv;
	priv->allocator = *allocator;
	priv->limit = memory_limit;
	priv->generation = ++last_generation;
	arena_init(&priv->arena, allocator, memory_limit);
	if (span_batch_string(batch, span_text(NULL, 0)) != 0)
	{
		span_batch_destroy(batch);
		return NULL;
	}
	return batch;
}

void
span_batch_reset(SpanBatch *batch)
{
	SpanBatchPrivate *priv = batch->priv;
	Span             *spans = batch->spans;
	uint32_t          spans_size = priv->spans_size;
	Arena             arena;

	/* scans reset a batch for every block: what the next one will need stays */
	if ((size_t) spans_size * sizeof(Span) <= KEPT_SPAN_BYTES)
		batch->spans = NULL;
	else
		spans = NULL;
	arena_rewind(&priv->arena, KEPT_ARENA_BYTES);
	arena = priv->arena;
	memset(&priv->arena, 0, sizeof(priv->arena));
	release_all(batch);
	priv->arena = arena;
	if (spans != NULL)
	{
		batch->spans = spans;
		priv->spans_size = spans_size;
		priv->array_bytes = (size_t) spans_size * sizeof(Span);
	}
	priv->generation = ++last_generation;
	(void) span_batch_string(batch, span_text(NULL, 0));
}

void
span_batch_destroy(SpanBatch *batch)
{
	SpanBatchPrivate *priv;
	SpanAllocator     allocator;

	if (batch == NULL)
		return;
	release_all(batch);
	priv = batch->priv;
	allocator = priv->allocator;
	allocator.release(allocator.arg, priv);
	allocator.release(allocator.arg, batch);
}

Arena *
span_batch_arena(SpanBatch *batch)
{
	return &batch->priv->arena;
}

uint64_t
span_batch_generation(const SpanBatch *batch)
{
	return batch->priv->generation;
}

size_t
span_batch_memory(const SpanBatch *batch)
{
	return batch->priv->arena.used + batch->priv->array_bytes;
}

uint32_t
span_batch_string(SpanBatch *batch, SpanText text)
{
	SpanBatchPrivate *priv = batch->priv;
	uint64_t          hash = span_bytes_hash(text.data, text.len, 0);
	uint32_t          at = (uint32_t) hash;
	uint32_t          found;
	char             *copy;

	while ((found = table_next(&priv->strings, hash, &at)) != SPAN_BATCH_NONE)
		if (span_text_equal(batch->strings[found], text))
			return found;
	if (!table_reserve(priv, &priv->strings, batch->n_strings) ||
	    !reserve(priv, (void **) &batch->strings, batch->n_strings, &priv->strings_size, sizeof(SpanText)))
		return SPAN_BATCH_NONE;
	copy = arena_copy(&priv->arena, text.data, text.len);
	if (copy == NULL)
		return SPAN_BATCH_NONE;
	batch->strings[batch->n_strings] = span_text(copy, text.len);
	table_insert(&priv->strings, hash, batch->n_strings);
	return batch->n_strings++;
}

/* Deep copy of an attribute list whose top-level keys are interned. */
static bool
copy_attributes(SpanBatch *batch, AttributeList *list)
{
	KeyValue *items;

	if (!attribute_list_copy(&batch->priv->arena, *list, list))
		return false;
	items = (KeyValue *) list->items;
	for (uint32_t i = 0; i < list->count; i++)
	{
		items[i].key_id = span_batch_string(batch, items[i].key);
		if (items[i].key_id == SPAN_BATCH_NONE)
			return false;
	}
	return true;
}

static bool
resources_equal(const SpanResource *a, const SpanResource *b)
{
	return a->tenant == b->tenant && a->schema_url == b->schema_url &&
	       a->dropped_attributes_count == b->dropped_attributes_count &&
	       span_text_equal(a->entity_refs, b->entity_refs) &&
	       attribute_lists_equal(a->attributes, b->attributes);
}

uint32_t
span_batch_resource(SpanBatch *batch, const SpanResource *resource)
{
	SpanBatchPrivate *priv = batch->priv;
	uint64_t          hash = attribute_list_hash(resource->attributes, resource->tenant);
	uint32_t          at = (uint32_t) hash;
	uint32_t          found;
	SpanResource      copy = *resource;

	while ((found = table_next(&priv->resources, hash, &at)) != SPAN_BATCH_NONE)
		if (resources_equal(&batch->resources[found], resource))
			return found;
	if (!table_reserve(priv, &priv->resources, batch->n_resources) ||
	    !reserve(priv, (void **) &batch->resources, batch->n_resources, &priv->resources_size, sizeof(SpanResource)) ||
	    !copy_attributes(batch, &copy.attributes))
		return SPAN_BATCH_NONE;
	copy.entity_refs.data = arena_copy(&priv->arena, copy.entity_refs.data, copy.entity_refs.len);
	if (copy.entity_refs.data == NULL)
		return SPAN_BATCH_NONE;
	batch->resources[batch->n_resources] = copy;
	table_insert(&priv->resources, hash, batch->n_resources);
	return batch->n_resources++;
}

static bool
scopes_equal(const SpanScope *a, const SpanScope *b)
{
	return a->resource == b->resource && a->name == b->name && a->version == b->version &&
	       a->schema_url == b->schema_url &&
	       a->dropped_attributes_count == b->dropped_attributes_count &&
	       attribute_lists_equal(a->attributes, b->attributes);
}

uint32_t
span_batch_scope(SpanBatch *batch, const SpanScope *scope)
{
	SpanBatchPrivate *priv = batch->priv;
	uint64_t          hash = attribute_list_hash(scope->attributes,
	                                             ((uint64_t) scope->resource << 32) + scope->name);
	uint32_t          at = (uint32_t) hash;
	uint32_t          found;
	SpanScope         copy = *scope;

	while ((found = table_next(&priv->scopes, hash, &at)) != SPAN_BATCH_NONE)
		if (scopes_equal(&batch->scopes[found], scope))
			return found;
	if (!table_reserve(priv, &priv->scopes, batch->n_scopes) ||
	    !reserve(priv, (void **) &batch->scopes, batch->n_scopes, &priv->scopes_size, sizeof(SpanScope)) ||
	    !copy_attributes(batch, &copy.attributes))
		return SPAN_BATCH_NONE;
	batch->scopes[batch->n_scopes] = copy;
	table_insert(&priv->scopes, hash, batch->n_scopes);
	return batch->n_scopes++;
}

bool
span_batch_add(SpanBatch *batch, const Span *span)
{
	if (!reserve(batch->priv, (void **) &batch->spans, batch->n_spans, &batch->priv->spans_size, sizeof(Span)))
		return false;
	batch->spans[batch->n_spans++] = *span;
	return true;
}

Span *
span_batch_extend(SpanBatch *batch)
{
	if (!reserve(batch->priv, (void **) &batch->spans, batch->n_spans, &batch->priv->spans_size, sizeof(Span)))
		return NULL;
	return &batch->spans[batch->n_spans++];
}

void
span_batch_truncate(SpanBatch *batch, uint32_t n_spans)
{
	if (n_spans < batch->n_spans)
		batch->n_spans = n_spans;
}
