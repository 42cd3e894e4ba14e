/*-------------------------------------------------------------------------
 *
 * scan_shape.c
 *	  Which shapes of spans cannot pass the conditions of a custom scan.
 *
 * What a shape fixes is decided once for all its spans; what varies may give
 * any result.  A condition that can fail with an error is asked here only if
 * the spans of the shape get as far as it, or if it has proved itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

/* Sets of results. */
#define MAY_BE(result)	(1U << (result))
#define MAY_BE_ANY		(MAY_BE(FILTER_FALSE) | MAY_BE(FILTER_TRUE) | MAY_BE(FILTER_UNKNOWN))

/* Is the column the same in all spans of a shape? */
static bool
column_is_fixed(TempoColumn column)
{
	switch (column)
	{
		case TEMPO_NAME:
		case TEMPO_KIND:
		case TEMPO_STATUS:
		case TEMPO_TENANT:
		case TEMPO_SCOPE_NAME:
		case TEMPO_SCOPE_VERSION:
		case TEMPO_SERVICE_NAME:
			return true;
		default:
			return false;
	}
}

static const AnyValue *
prototype_value(const Span *prototype, uint32 key_id)
{
	for (uint32 i = 0; i < prototype->attributes.count; i++)
		if (prototype->attributes.items[i].key_id == key_id)
			return &prototype->attributes.items[i].value;
	return NULL;
}

/* Do the prototype's attributes decide the leaf? */
static bool
attributes_are_fixed(const FilterNode *node, const Span *prototype, bool more)
{
	const AnyValue *value;

	if (node->scope == FILTER_SCOPE_RESOURCE)
		return true;
	if (more)
		return false;
	if (node->type == FILTER_CONTAINS)
	{
		bool		varies = false;

		for (int i = 0; i < node->n_pairs; i++)
		{
			value = prototype_value(prototype, node->pairs[i].key_id);
			if (value == NULL)
				return true;	/* one is missing, so it does not contain them */
			varies |= value->type == SEGMENT_VARIES;
		}
		return !varies;
	}
	value = prototype_value(prototype, node->key_id);
	return value == NULL || value->type != SEGMENT_VARIES || node->type == FILTER_NULL;
}

static bool
is_fixed(const FilterNode *node, const Span *prototype, bool more)
{
	switch (node->type)
	{
		case FILTER_TEXT:
			return column_is_fixed(node->column);
		case FILTER_NULL:
		case FILTER_JSON_TEXT:
		case FILTER_CONTAINS:
		case FILTER_MATCH:
		case FILTER_REGEX:
		case FILTER_EXPRESSION:
			if (node->scope == FILTER_SCOPE_COLUMN)
				return column_is_fixed(node->column);
			return attributes_are_fixed(node, prototype, more);
		default:
			return false;
	}
}

static bool
may_fail(const FilterNode *node)
{
	return node->type == FILTER_EXPRESSION ||
		((node->type == FILTER_REGEX || (node->type == FILTER_MATCH && !node->plain)) && !node->asked);
}

/*
 * The results that the node may have in spans of the shape.  "reached": it
 * certainly is evaluated for them.
 */
static uint32
possible(ScanFilter *filter, FilterNode *node, const Span *prototype, bool more, bool reached)
{
	uint32		all = MAY_BE_ANY;
	uint32		some = 0;
	uint32		stop = MAY_BE(node->type == FILTER_AND ? FILTER_FALSE : FILTER_TRUE);
	uint32		child;

	switch (node->type)
	{
		case FILTER_AND:
		case FILTER_OR:
			for (int i = 0; i < node->n_children; i++)
			{
				child = possible(filter, node->children[i], prototype, more, reached);
				if (child == stop)
					return stop;
				reached = reached && (child & stop) == 0;
				all &= child;
				some |= child;
			}
			/* one child can stop it, UNKNOWN needs one, all must agree on the rest */
			return (some & (stop | MAY_BE(FILTER_UNKNOWN))) |
				(all & MAY_BE(node->type == FILTER_AND ? FILTER_TRUE : FILTER_FALSE));
		case FILTER_NOT:
			child = possible(filter, node->children[0], prototype, more, reached);
			return (child & MAY_BE(FILTER_UNKNOWN)) |
				((child & MAY_BE(FILTER_TRUE)) != 0 ? MAY_BE(FILTER_FALSE) : 0) |
				((child & MAY_BE(FILTER_FALSE)) != 0 ? MAY_BE(FILTER_TRUE) : 0);
		default:
			if (!is_fixed(node, prototype, more) || (may_fail(node) && !reached))
				return MAY_BE_ANY;
			return MAY_BE(tempo_filter_leaf(filter, node, prototype));
	}
}

static bool
excludes_shape(void *arg, SpanBatch *batch, const Span *prototype, bool more)
{
	ScanFilter *filter = arg;
	bool		reached = true;

	/* the shape may be the first with its name, resource or scope */
	tempo_filter_batch(filter, batch);
	for (int i = 0; i < filter->root->n_children; i++)
	{
		uint32		results = possible(filter, filter->root->children[i], prototype, more, reached);

		if ((results & MAY_BE(FILTER_TRUE)) == 0)
			return true;
		reached = reached && results == MAY_BE(FILTER_TRUE);
	}
	return false;
}

static void
narrow(MatchOp op, int64 number, int64 *min, int64 *max)
{
	switch (op)
	{
		case MATCH_EQ:
			*min = Max(*min, number);
			*max = Min(*max, number);
			break;
		case MATCH_LT:
			if (number > PG_INT64_MIN)
				*max = Min(*max, number - 1);
			break;
		case MATCH_LE:
			*max = Min(*max, number);
			break;
		case MATCH_GT:
			if (number < PG_INT64_MAX)
				*min = Max(*min, number + 1);
			break;
		case MATCH_GE:
			*min = Max(*min, number);
			break;
		case MATCH_NE:
			break;
	}
}

/* Makes the test anew: it excludes something else than before. */
void
tempo_filter_test(ScanFilter *filter)
{
	static uint64 last_serial = 0;
	SegmentTest *test = &filter->test;

	test->serial = ++last_serial;
	test->excludes = excludes_shape;
	test->arg = filter;
	test->min_start = test->min_duration = PG_INT64_MIN;
	test->max_start = test->max_duration = PG_INT64_MAX;
	for (int i = 0; i < filter->root->n_children; i++)
	{
		const FilterNode *node = filter->root->children[i];

		if (node->type != FILTER_INT || node->operand_null)
			continue;
		if (node->column == TEMPO_START_TIME_UNIX_NANO)
			narrow(node->op, node->number, &test->min_start, &test->max_start);
		if (node->column == TEMPO_DURATION_NANO)
			narrow(node->op, node->number, &test->min_duration, &test->max_duration);
	}
}
