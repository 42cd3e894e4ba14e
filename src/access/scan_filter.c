/*-------------------------------------------------------------------------
 *
 * scan_filter.c
 *	  Decides the conditions of a custom scan on spans.
 *
 * Results that depend on the span's name, resource or scope alone are kept
 * per string, resource or scope of the batch, so that most spans cost a load
 * and a test.  scan_value.c decides those on single values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include "access/memory.h"
#include "utils/memutils.h"

/* The value of a text column; data is NULL if it is. */
static SpanText
column_text(const FilterNode *node, const SpanBatch *batch, const Span *span, char buffer[12])
{
	SpanText text;

	switch (node->column)
	{
		case TEMPO_NAME:
			text = batch->strings[span->name];
			break;
		case TEMPO_KIND:
			text = tempo_kind_text(span->kind, buffer);
			break;
		case TEMPO_STATUS:
			text = tempo_status_text(span->status_code, buffer);
			break;
		case TEMPO_STATUS_MESSAGE:
			text = span->status_message;
			break;
		case TEMPO_TENANT:
			text = batch->strings[span_resource(batch, span)->tenant];
			break;
		case TEMPO_SCOPE_NAME:
			text = batch->strings[span_scope(batch, span)->name];
			break;
		case TEMPO_SCOPE_VERSION:
			text = batch->strings[span_scope(batch, span)->version];
			break;
		case TEMPO_SERVICE_NAME:
			text = tempo_service_name(span_resource(batch, span));
			if (text.data == NULL && !node->null_is_empty)
				return text;
			break;
		default:
			elog(ERROR, "column %d is not filtered as text", node->column);
	}
	if (text.data == NULL)
		text.data = "";
	return text;
}

static FilterResult
eval_int(const FilterNode *node, const Span *span)
{
	int64 start = span->start_time_unix_nano;
	int64 duration = span->end_time_unix_nano - start;
	int64 value;

	switch (node->column)
	{
		case TEMPO_START_TIME_UNIX_NANO:
			value = start;
			break;
		case TEMPO_DURATION_NANO:
			value = duration;
			break;
		case TEMPO_DURATION:
			value = duration > 0 ? duration / 1000 : 0;
			break;
		case TEMPO_START_TIME:
			value = start / 1000 - TEMPO_EPOCH_DIFF;
			break;
		default:
			value = span->end_time_unix_nano / 1000 - TEMPO_EPOCH_DIFF;
			break;
	}
	return filter_result(match_int(node->op, value, node->number));
}

static FilterResult
eval_id(const FilterNode *node, const Span *span)
{
	size_t       len = tempo_filter_id_length(node);
	const uint8 *id = node->column == TEMPO_TRACE_ID ? span->trace_id.bytes :
	                  node->column == TEMPO_SPAN_ID  ? span->span_id.bytes :
	                                                   span->parent_span_id.bytes;

	if (node->column == TEMPO_PARENT_SPAN_ID && id_is_zero(id, len))
		return FILTER_UNKNOWN;
	return filter_result(tempo_filter_has_id(node, id) == (node->op == MATCH_EQ));
}

const AnyValue *
tempo_filter_attribute(uint32 key_id, AttributeList list)
{
	for (uint32 i = 0; i < list.count; i++)
		if (list.items[i].key_id == key_id)
			return &list.items[i].value;
	return NULL;
}

static const AnyValue *
attribute_value(const FilterNode *node, const SpanBatch *batch, const Span *span)
{
	const AnyValue *value = NULL;

	if (node->scope != FILTER_SCOPE_RESOURCE)
		value = tempo_filter_attribute(node->key_id, span->attributes);
	if (value == NULL && node->scope != FILTER_SCOPE_SPAN)
		value = tempo_filter_attribute(node->key_id, span_resource(batch, span)->attributes);
	return value;
}

/* attributes @> object: pair by pair if they are strings, else through jsonb */
static FilterResult
eval_contains(ScanFilter *filter, const FilterNode *node, AttributeList attributes)
{
	KeyValue     *items;
	AttributeList list;
	bool          plain = true;
	FilterResult  result;

	for (int i = 0; i < node->n_pairs; i++)
	{
		const FilterPair *pair = &node->pairs[i];
		const AnyValue   *value = tempo_filter_attribute(pair->key_id, attributes);

		result = value == NULL ? FILTER_FALSE : tempo_filter_compare_pair(pair, value);
		if (result == FILTER_FALSE)
			return FILTER_FALSE;
		plain &= result == FILTER_TRUE;
	}
	if (plain)
		return FILTER_TRUE;
	items = palloc0(sizeof(KeyValue) * Max(node->n_pairs, 1));
	for (int i = 0; i < node->n_pairs; i++)
	{
		items[i].key = node->pairs[i].key;
		items[i].value = *tempo_filter_attribute(node->pairs[i].key_id, attributes);
	}
	list.items = items;
	list.count = (uint32) node->n_pairs;
	result = filter_result(tempo_filter_json_contains(filter, list, node->operand_datum));
	pfree(items);
	return result;
}

static FilterResult
eval_event_name(const FilterNode *node, const Span *span)
{
	for (uint32 i = 0; i < span->n_events; i++)
		if (span_text_equal(span->events[i].name, node->text))
			return FILTER_TRUE;
	return FILTER_FALSE;
}

static FilterResult
eval_events(ScanFilter *filter, FilterNode *node, const Span *span)
{
	for (uint32 i = 0; i < span->n_events; i++)
	{
		const AnyValue *value = tempo_filter_attribute(node->key_id, span->events[i].attributes);

		if (value != NULL && tempo_filter_eval(filter, node, value) == FILTER_TRUE)
			return FILTER_TRUE;
	}
	return FILTER_FALSE;
}

static FilterResult
eval_leaf(ScanFilter *filter, FilterNode *node, const Span *span)
{
	const SpanBatch *batch = filter->batch;
	char             buffer[12];
	const AnyValue  *value;
	AnyValue         column = {.type = ANY_STRING};
	SpanText         text;

	if (node->operand_null && node->type != FILTER_MATCH && node->type != FILTER_REGEX)
		return FILTER_UNKNOWN;
	switch (node->type)
	{
		case FILTER_INT:
			return eval_int(node, span);
		case FILTER_ID:
			return eval_id(node, span);
		case FILTER_TEXT:
			if (node->code_known)
				return filter_result(((node->column == TEMPO_KIND ? span->kind : span->status_code) == node->code) ==
				                     (node->op == MATCH_EQ));
			text = column_text(node, batch, span, buffer);
			return text.data == NULL ? FILTER_UNKNOWN : tempo_filter_in_texts(node, text);
		case FILTER_NULL:
			if (node->scope == FILTER_SCOPE_COLUMN && node->column == TEMPO_PARENT_SPAN_ID)
				return filter_result(id_is_zero(span->parent_span_id.bytes, SPAN_ID_LEN) != node->negate);
			if (node->scope == FILTER_SCOPE_COLUMN)
				return filter_result((tempo_service_name(span_resource(batch, span)).data == NULL) != node->negate);
			return filter_result((attribute_value(node, batch, span) == NULL) != node->negate);
		case FILTER_CHILDREN:
			return filter_result(((node->column == TEMPO_EVENTS ? span->n_events : span->n_links) > 0) != node->negate);
		case FILTER_EVENT_NAME:
			return eval_event_name(node, span);
		case FILTER_JSON_TEXT:
			return tempo_filter_json_text(filter, node, attribute_value(node, batch, span));
		case FILTER_CONTAINS:
			return eval_contains(filter, node, node->scope == FILTER_SCOPE_SPAN ? span->attributes : span_resource(batch, span)->attributes);
		default:
			break;
	}
	if (node->scope == FILTER_SCOPE_EVENT)
		return eval_events(filter, node, span);
	value = NULL;
	if (node->scope != FILTER_SCOPE_COLUMN)
	{
		value = attribute_value(node, batch, span);
		if (value == NULL && node->null_is_empty)
		{
			column.u.data = "";
			value = &column;
		}
	}
	else
	{
		text = column_text(node, batch, span, buffer);
		if (text.data != NULL)
		{
			column.len = text.len;
			column.u.data = text.data;
			value = &column;
		}
	}
	return tempo_filter_eval(filter, node, value);
}

/* The entry of the node's cache for this span, or NULL if it has none. */
static uint8 *
cache_entry(const FilterNode *node, const SpanBatch *batch, const Span *span)
{
	bool column = node->scope == FILTER_SCOPE_COLUMN;

	if (node->cache == NULL)
		return NULL;
	if (column && node->column == TEMPO_NAME)
		return &node->cache[span->name];
	if (column && (node->column == TEMPO_SCOPE_NAME || node->column == TEMPO_SCOPE_VERSION))
		return &node->cache[span->scope];
	return &node->cache[batch->scopes[span->scope].resource];
}

FilterResult
tempo_filter_leaf(ScanFilter *filter, FilterNode *node, const Span *span)
{
	uint8 *cached = cache_entry(node, filter->batch, span);

	if (cached == NULL)
		return eval_leaf(filter, node, span);
	if (*cached == 0)
		*cached = (uint8) (eval_leaf(filter, node, span) + 1);
	return (FilterResult) (*cached - 1);
}

static FilterResult
eval_node(ScanFilter *filter, FilterNode *node, const Span *span)
{
	FilterResult result;

	switch (node->type)
	{
		case FILTER_AND:
			result = FILTER_TRUE;
			for (int i = 0; i < node->n_children; i++)
			{
				FilterResult child = eval_node(filter, node->children[i], span);

				if (child == FILTER_FALSE)
					return FILTER_FALSE;
				if (child == FILTER_UNKNOWN)
					result = FILTER_UNKNOWN;
			}
			return result;
		case FILTER_OR:
			result = FILTER_FALSE;
			for (int i = 0; i < node->n_children; i++)
			{
				FilterResult child = eval_node(filter, node->children[i], span);

				if (child == FILTER_TRUE)
					return FILTER_TRUE;
				if (child == FILTER_UNKNOWN)
					result = FILTER_UNKNOWN;
			}
			return result;
		case FILTER_NOT:
			result = eval_node(filter, node->children[0], span);
			return result == FILTER_UNKNOWN ? FILTER_UNKNOWN :
			       result == FILTER_TRUE    ? FILTER_FALSE :
			                                  FILTER_TRUE;
		default:
			return tempo_filter_leaf(filter, node, span);
	}
}

static uint32
intern(SpanBatch *batch, SpanText key)
{
	uint32 id = span_batch_string(batch, key);

	if (id == SPAN_BATCH_NONE)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return id;
}

/* Interns the keys that leaves look for. */
static void
intern_keys(FilterNode *node, SpanBatch *batch)
{
	for (int i = 0; i < node->n_children; i++)
		intern_keys(node->children[i], batch);
	if (node->key.data != NULL)
		node->key_id = intern(batch, node->key);
	for (int i = 0; i < node->n_pairs; i++)
		node->pairs[i].key_id = intern(batch, node->pairs[i].key);
}

/* The number of things that the node's result can be kept by; 0 = it cannot. */
static uint32
cache_entries(const FilterNode *node, const SpanBatch *batch)
{
	bool column = node->scope == FILTER_SCOPE_COLUMN;

	if (node->type == FILTER_AND || node->type == FILTER_OR || node->type == FILTER_NOT ||
	    node->type == FILTER_INT || node->type == FILTER_ID ||
	    node->type == FILTER_CHILDREN || node->type == FILTER_EVENT_NAME)
		return 0;
	if (node->scope == FILTER_SCOPE_RESOURCE)
		return batch->n_resources;
	if (!column)
		return 0;
	switch (node->column)
	{
		case TEMPO_NAME:
			return batch->n_strings;
		case TEMPO_SERVICE_NAME:
		case TEMPO_TENANT:
			return batch->n_resources;
		case TEMPO_SCOPE_NAME:
		case TEMPO_SCOPE_VERSION:
			return batch->n_scopes;
		default:
			return 0;
	}
}

/* Makes room for what the batch has; "again" keeps the results so far. */
static void
make_caches(FilterNode *node, const SpanBatch *batch, bool again)
{
	uint32 size = cache_entries(node, batch);
	uint8 *cache;

	for (int i = 0; i < node->n_children; i++)
		make_caches(node->children[i], batch, again);
	if (!again)
	{
		node->cache = NULL;
		node->cache_size = 0;
	}
	if (size <= node->cache_size)
		return;
	size += size / 2;
	cache = palloc0(size);
	if (node->cache != NULL)
		memcpy(cache, node->cache, node->cache_size);
	node->cache = cache;
	node->cache_size = size;
}

void
tempo_filter_batch(ScanFilter *filter, SpanBatch *batch)
{
	uint64        generation = span_batch_generation(batch);
	bool          again = filter->generation == generation;
	MemoryContext old;

	filter->batch = batch;
	if (!again)
	{
		MemoryContextReset(filter->caches);
		intern_keys(filter->root, batch);
	}
	old = MemoryContextSwitchTo(filter->caches);
	make_caches(filter->root, batch, again);
	MemoryContextSwitchTo(old);
	filter->generation = generation;
}

bool
tempo_filter_span(ScanFilter *filter, const Span *span)
{
	/* like the executor, look no further than the first that is not true */
	for (int i = 0; i < filter->root->n_children; i++)
		if (eval_node(filter, filter->root->children[i], span) != FILTER_TRUE)
			return false;
	return true;
}
