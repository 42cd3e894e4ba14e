/*-------------------------------------------------------------------------
 *
 * scan_prune.c
 *	  Which segments and blocks a custom scan can leave out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

static const SpanText service_name_key = {"service.name", 12};

/*
 * Zones: can any span in there pass?
 */

static bool
int_zone(const FilterNode *node, const FilterZone *zone)
{
	int64 min_micros = zone->min_start / 1000 - TEMPO_EPOCH_DIFF;

	switch (node->column)
	{
		case TEMPO_START_TIME_UNIX_NANO:
			return match_range(node->op, zone->min_start, zone->max_start, node->number);
		case TEMPO_START_TIME:
			return match_range(node->op, min_micros, zone->max_start / 1000 - TEMPO_EPOCH_DIFF, node->number);
		case TEMPO_DURATION_NANO:
			/* durations below zero count as zero in the zone */
			return match_range(node->op, zone->min_duration > 0 ? zone->min_duration : PG_INT64_MIN,
			                   zone->max_duration, node->number);
		case TEMPO_DURATION:
			return match_range(node->op, zone->min_duration / 1000, zone->max_duration / 1000, node->number);
		case TEMPO_END_TIME:
			return match_range(node->op, zone->min_duration > 0 ? min_micros : PG_INT64_MIN,
			                   zone->max_end == PG_INT64_MAX ? PG_INT64_MAX : zone->max_end / 1000 - TEMPO_EPOCH_DIFF,
			                   node->number);
		default:
			return true;
	}
}

static bool
node_zone(const FilterNode *node, const FilterZone *zone)
{
	switch (node->type)
	{
		case FILTER_AND:
			for (int i = 0; i < node->n_children; i++)
				if (!node_zone(node->children[i], zone))
					return false;
			return true;
		case FILTER_OR:
			for (int i = 0; i < node->n_children; i++)
				if (node_zone(node->children[i], zone))
					return true;
			return false;
		case FILTER_INT:
			return !node->operand_null && int_zone(node, zone);
		case FILTER_TEXT:
			if (node->operand_null)
				return false;
			if (node->column != TEMPO_TENANT || node->op != MATCH_EQ || zone->tenants == 0)
				return true;
			for (int i = 0; i < node->n_texts; i++)
				if ((segment_tenant_bit(node->texts[i]) & zone->tenants) != 0)
					return true;
			return false;
		default:
			return true;
	}
}

bool
tempo_filter_zone(const ScanFilter *filter, const FilterZone *zone)
{
	return !filter->never && node_zone(filter->root, zone);
}

void
tempo_filter_bounds(const ScanFilter *filter, int64 *min_start, int64 *end_start, uint64 *tenants)
{
	*min_start = PG_INT64_MIN;
	*end_start = PG_INT64_MAX;
	*tenants = 0;
	for (int i = 0; i < filter->root->n_children; i++)
	{
		const FilterNode *node = filter->root->children[i];

		if (node->operand_null)
			continue;
		if (node->type == FILTER_INT && node->column == TEMPO_START_TIME_UNIX_NANO)
		{
			int64 next = node->number == PG_INT64_MAX ? PG_INT64_MAX : node->number + 1;

			if (node->op == MATCH_GE || node->op == MATCH_EQ || node->op == MATCH_GT)
				*min_start = Max(*min_start, node->number);
			if (node->op == MATCH_LT)
				*end_start = Min(*end_start, node->number);
			if (node->op == MATCH_LE || node->op == MATCH_EQ)
				*end_start = Min(*end_start, next);
		}
		if (node->type == FILTER_TEXT && node->column == TEMPO_TENANT && node->op == MATCH_EQ && *tenants == 0)
			for (int t = 0; t < node->n_texts; t++)
				*tenants |= segment_tenant_bit(node->texts[t]);
	}
}

/* The number of the condition that says which traces, or -1. */
int
tempo_filter_traces_node(const ScanFilter *filter)
{
	for (int i = 0; i < filter->root->n_children; i++)
	{
		const FilterNode *node = filter->root->children[i];

		if (node->type == FILTER_ID && node->column == TEMPO_TRACE_ID && node->op == MATCH_EQ &&
		    !node->operand_null)
			return i;
	}
	return -1;
}

const TraceId *
tempo_filter_traces(const ScanFilter *filter, int *count)
{
	int i = tempo_filter_traces_node(filter);

	*count = i < 0 ? 0 : filter->root->children[i]->n_ids;
	return i < 0 ? NULL : (const TraceId *) filter->root->children[i]->ids;
}

/*
 * Segments: can any span in there pass, as far as the lists in its footer
 * tell?
 */

static const SegmentKey *
find_key(TempoOpenSegment *open, AttributeScope scope, SpanText key)
{
	const SegmentKey *keys;
	uint32            count;
	SpanError         error = {SPAN_ERROR_NONE};

	if (!segment_keys(tempo_segment_reader(open), &keys, &count, &error))
		tempo_segment_failed(open, &error);
	for (uint32 i = 0; i < count; i++)
		if (keys[i].scope == scope && span_text_equal(keys[i].key, key))
			return &keys[i];
	return NULL;
}

/* May a value under the key, in this scope, satisfy the node? */
static bool
key_may_match(const FilterNode *node, TempoOpenSegment *open, AttributeScope scope)
{
	const SegmentKey *key;
	AnyValue          text = {.type = ANY_STRING};

	if (node->null_is_empty &&
	    (node->type != FILTER_MATCH || node->op != MATCH_EQ || !node->plain ||
	     (node->literal.type == ANY_STRING && node->literal.len == 0)))
		return true;
	key = find_key(open, scope, node->key);
	if (key == NULL)
		return false;
	if (node->type == FILTER_MATCH && node->op == MATCH_EQ && node->plain)
	{
		if ((key->types & ~SCALAR_TYPES) != 0)
			return true;
		return segment_may_contain(tempo_segment_reader(open), scope, node->key, &node->literal);
	}
	if (node->type == FILTER_JSON_TEXT && node->op == MATCH_EQ && key->types == (1U << ANY_STRING))
	{
		for (int i = 0; i < node->n_texts; i++)
		{
			text.len = node->texts[i].len;
			text.u.data = node->texts[i].data;
			if (segment_may_contain(tempo_segment_reader(open), scope, node->key, &text))
				return true;
		}
		return false;
	}
	return true;
}

static bool
pairs_may_match(const FilterNode *node, TempoOpenSegment *open)
{
	AttributeScope scope = node->scope == FILTER_SCOPE_SPAN ? ATTRIBUTE_SPAN : ATTRIBUTE_RESOURCE;

	for (int i = 0; i < node->n_pairs; i++)
	{
		const FilterPair *pair = &node->pairs[i];
		const SegmentKey *key = find_key(open, scope, pair->key);

		if (key == NULL)
			return false;
		if (pair->plain && (key->types & ~SCALAR_TYPES) == 0 &&
		    !segment_may_contain(tempo_segment_reader(open), scope, pair->key, &pair->value))
			return false;
	}
	return true;
}

static bool
name_may_match(const FilterNode *node, TempoOpenSegment *open)
{
	const SpanText *names;
	uint32          count;
	SpanError       error = {SPAN_ERROR_NONE};

	if (!segment_names(tempo_segment_reader(open), &names, &count, &error))
		tempo_segment_failed(open, &error);
	for (uint32 i = 0; i < count; i++)
		for (int t = 0; t < node->n_texts; t++)
			if (span_text_equal(names[i], node->texts[t]))
				return true;
	return false;
}

static bool
service_may_match(const FilterNode *node, TempoOpenSegment *open)
{
	AnyValue value = {.type = ANY_STRING};

	for (int t = 0; t < node->n_texts; t++)
	{
		value.len = node->texts[t].len;
		value.u.data = node->texts[t].data;
		if ((node->null_is_empty && value.len == 0) ||
		    segment_may_contain(tempo_segment_reader(open), ATTRIBUTE_RESOURCE, service_name_key, &value))
			return true;
	}
	return false;
}

static bool
node_segment(const FilterNode *node, TempoOpenSegment *open)
{
	switch (node->type)
	{
		case FILTER_AND:
			for (int i = 0; i < node->n_children; i++)
				if (!node_segment(node->children[i], open))
					return false;
			return true;
		case FILTER_OR:
			for (int i = 0; i < node->n_children; i++)
				if (node_segment(node->children[i], open))
					return true;
			return false;
		case FILTER_TEXT:
			if (node->operand_null)
				return false;
			if (node->op != MATCH_EQ)
				return true;
			if (node->column == TEMPO_NAME)
				return name_may_match(node, open);
			if (node->column == TEMPO_SERVICE_NAME)
				return service_may_match(node, open);
			return true;
		case FILTER_CONTAINS:
			return pairs_may_match(node, open);
		case FILTER_EVENT_NAME:
			return segment_may_have_event(tempo_segment_reader(open), node->text);
		case FILTER_NULL:
			if (!node->negate || node->scope == FILTER_SCOPE_COLUMN)
				return true;
			/* fall through */
		case FILTER_JSON_TEXT:
		case FILTER_MATCH:
		case FILTER_REGEX:
			switch (node->scope)
			{
				case FILTER_SCOPE_COLUMN:
					return true;
				case FILTER_SCOPE_SPAN:
					return key_may_match(node, open, ATTRIBUTE_SPAN);
				case FILTER_SCOPE_RESOURCE:
					return key_may_match(node, open, ATTRIBUTE_RESOURCE);
				case FILTER_SCOPE_ANY:
					return key_may_match(node, open, ATTRIBUTE_SPAN) ||
					       key_may_match(node, open, ATTRIBUTE_RESOURCE);
				case FILTER_SCOPE_EVENT:
					return key_may_match(node, open, ATTRIBUTE_EVENT);
			}
			return true;
		default:
			return true;
	}
}

bool
tempo_filter_segment(ScanFilter *filter, TempoOpenSegment *open)
{
	return node_segment(filter->root, open);
}
