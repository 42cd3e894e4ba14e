/*-------------------------------------------------------------------------
 *
 * scan_conditions.c
 *	  The conditions of a custom scan as segments can decide them: by shape,
 *	  by dictionary entry and by time, for many rows at once.
 *
 * Each leaf of the filter becomes a condition that asks scan_filter.c about
 * what spans of a shape have, or about one value, so that both ways give the
 * same.  What segments cannot tell is left to decoded spans.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include "common/int128.h"
#include "miscadmin.h"

/* What a condition's callbacks need. */
typedef struct ConditionArg
{
	ScanFilter *filter;
	FilterNode *node;
	int         pair; /* of CONTAINS, or -1 */
} ConditionArg;

static uint8
truth_of(FilterResult result)
{
	switch (result)
	{
		case FILTER_FALSE:
			return TRUTH_FALSE;
		case FILTER_TRUE:
			return TRUTH_TRUE;
		case FILTER_UNKNOWN:
			break;
	}
	return TRUTH_UNKNOWN;
}

static uint8
leaf_of_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	ConditionArg *condition = arg;

	/* the shape may be the first with its name, resource or scope */
	tempo_filter_batch(condition->filter, batch);
	return truth_of(tempo_filter_leaf(condition->filter, condition->node, prototype));
}

/* A column that is the same in all spans of a shape; data is NULL if it is not one of text. */
static SpanText
text_of_fields(const FilterNode *node, const SegmentFields *fields, char buffer[12])
{
	SpanResource resource = {.attributes = fields->resource};

	switch (node->column)
	{
		case TEMPO_NAME:
			return fields->name;
		case TEMPO_KIND:
			return tempo_kind_text(fields->kind, buffer);
		case TEMPO_STATUS:
			return tempo_status_text(fields->status, buffer);
		case TEMPO_SCOPE_NAME:
			return fields->scope_name;
		case TEMPO_SCOPE_VERSION:
			return fields->scope_version;
		case TEMPO_TENANT:
			return fields->tenant;
		default:
			return tempo_service_name(&resource);
	}
}

/* What is missing is asked of the prototype, which knows what stands for it. */
static uint8
leaf_of_fields(void *arg, const SegmentFields *fields)
{
	ConditionArg   *condition = arg;
	FilterNode     *node = condition->node;
	char            buffer[12];
	AnyValue        column = {.type = ANY_STRING};
	const AnyValue *value = &column;
	SpanText        text;

	if (node->scope == FILTER_SCOPE_RESOURCE)
		value = attribute_find(fields->resource, node->key);
	else
	{
		text = text_of_fields(node, fields, buffer);
		column.len = text.len;
		column.u.data = text.len > 0 ? text.data : "";
		if (node->column == TEMPO_SERVICE_NAME && text.data == NULL)
			value = NULL;
	}
	return value == NULL ? SEGMENT_NOT_TOLD : truth_of(tempo_filter_value(condition->filter, node, value));
}

static uint8
leaf_of_value(void *arg, const AnyValue *value)
{
	ConditionArg *condition = arg;

	return truth_of(tempo_filter_value(condition->filter, condition->node, value));
}

/* One pair of attributes @> object; NULL: the key is missing. */
static uint8
pair_truth(const ConditionArg *condition, const AnyValue *value)
{
	return value == NULL ? TRUTH_FALSE :
	                       truth_of(tempo_filter_pair(condition->filter, condition->node, condition->pair, value));
}

static uint8
pair_of_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	ConditionArg *condition = arg;

	tempo_filter_batch(condition->filter, batch);
	return pair_truth(condition, tempo_filter_attribute(condition->node->pairs[condition->pair].key_id,
	                                                    prototype->attributes));
}

static uint8
pair_of_value(void *arg, const AnyValue *value)
{
	return pair_truth(arg, value);
}

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

static bool
may_fail(const FilterNode *node)
{
	return node->type == FILTER_EXPRESSION || node->type == FILTER_REGEX ||
	       (node->type == FILTER_MATCH && !node->plain);
}

static ConditionArg *
make_arg(ScanFilter *filter, FilterNode *node, int pair)
{
	ConditionArg *arg = palloc(sizeof(ConditionArg));

	arg->filter = filter;
	arg->node = node;
	arg->pair = pair;
	return arg;
}

/*
 * Times: columns are the nanoseconds themselves, or microseconds made of them
 * (eval_int() in scan_filter.c).
 */

#define INT64_MAX_128 ((int128) PG_INT64_MAX)
#define INT64_MIN_128 ((int128) PG_INT64_MIN)

/* The smallest, or largest, number of nanoseconds that becomes at least, or at most, "n". */
static int128
first_nano(TempoColumn column, int128 n)
{
	switch (column)
	{
		case TEMPO_START_TIME:
		case TEMPO_END_TIME:
			n += TEMPO_EPOCH_DIFF;
			return n > 0 ? n * 1000 : n * 1000 - 999;
		case TEMPO_DURATION:
			return n > 0 ? n * 1000 : INT64_MIN_128;
		default:
			return n;
	}
}

static int128
last_nano(TempoColumn column, int128 n)
{
	switch (column)
	{
		case TEMPO_START_TIME:
		case TEMPO_END_TIME:
			n += TEMPO_EPOCH_DIFF;
			return n >= 0 ? n * 1000 + 999 : n * 1000;
		case TEMPO_DURATION:
			return n >= 0 ? n * 1000 + 999 : INT64_MIN_128 - 1;
		default:
			return n;
	}
}

static void
set_times(SegmentCondition *c, const FilterNode *node)
{
	int128 min = INT64_MIN_128;
	int128 max = INT64_MAX_128;

	switch (node->op)
	{
		case MATCH_EQ:
		case MATCH_NE:
			min = first_nano(node->column, node->number);
			max = last_nano(node->column, node->number);
			break;
		case MATCH_LT:
			max = last_nano(node->column, (int128) node->number - 1);
			break;
		case MATCH_LE:
			max = last_nano(node->column, node->number);
			break;
		case MATCH_GT:
			min = first_nano(node->column, (int128) node->number + 1);
			break;
		case MATCH_GE:
			min = first_nano(node->column, node->number);
			break;
	}
	c->negate = node->op == MATCH_NE;
	if (min > INT64_MAX_128 || max < INT64_MIN_128)
	{
		/* none */
		c->min = PG_INT64_MAX;
		c->max = PG_INT64_MIN;
		return;
	}
	c->min = (int64) Max(min, INT64_MIN_128);
	c->max = (int64) Min(max, INT64_MAX_128);
}

static SegmentConditionType
time_type(TempoColumn column)
{
	switch (column)
	{
		case TEMPO_START_TIME_UNIX_NANO:
		case TEMPO_START_TIME:
			return SEGMENT_BY_START;
		case TEMPO_DURATION_NANO:
		case TEMPO_DURATION:
			return SEGMENT_BY_DURATION;
		default:
			return SEGMENT_BY_END;
	}
}

static void make_condition(ScanFilter *filter, FilterNode *node, SegmentCondition *c);

/* attributes @> object: a condition for each pair */
static void
make_pairs(ScanFilter *filter, FilterNode *node, SegmentCondition *c)
{
	SegmentCondition *children = palloc0(sizeof(SegmentCondition) * Max(node->n_pairs, 1));

	for (int i = 0; i < node->n_pairs; i++)
	{
		children[i].type = SEGMENT_BY_VALUE;
		children[i].key = node->pairs[i].key;
		children[i].of_shape = pair_of_shape;
		children[i].of_value = pair_of_value;
		children[i].arg = make_arg(filter, node, i);
	}
	c->type = SEGMENT_ALL_OF;
	c->children = children;
	c->n_children = (uint32) node->n_pairs;
}

/* The span must have events, and be decoded to look at them. */
static void
make_events(SegmentCondition *c)
{
	SegmentCondition *children = palloc0(sizeof(SegmentCondition) * 2);

	children[0].type = SEGMENT_BY_EVENTS;
	children[1].type = SEGMENT_BY_SPAN;
	c->type = SEGMENT_ALL_OF;
	c->children = children;
	c->n_children = 2;
}

/* A leaf that looks at a text column or an attribute. */
static void
make_source(const FilterNode *node, SegmentCondition *c)
{
	if (node->scope == FILTER_SCOPE_EVENT)
	{
		make_events(c);
		return;
	}
	if (node->scope == FILTER_SCOPE_COLUMN)
	{
		if (column_is_fixed(node->column))
		{
			c->type = node->column == TEMPO_TENANT && node->type == FILTER_TEXT ? SEGMENT_BY_TENANT : SEGMENT_BY_SHAPE;
			c->of_fields = leaf_of_fields;
		}
		else if (node->column == TEMPO_STATUS_MESSAGE)
		{
			c->type = SEGMENT_BY_VALUE;
			c->part = SEGMENT_STATUS_MESSAGE;
		}
		else
			c->type = SEGMENT_BY_SPAN;
		return;
	}
	c->type = node->scope == FILTER_SCOPE_RESOURCE ? SEGMENT_BY_SHAPE :
	          node->type == FILTER_NULL            ? SEGMENT_BY_PRESENCE :
	                                                 SEGMENT_BY_VALUE;
	c->key = node->key;
	if (c->type == SEGMENT_BY_SHAPE && node->type != FILTER_CONTAINS)
		c->of_fields = leaf_of_fields;
}

static void
make_leaf(ScanFilter *filter, FilterNode *node, SegmentCondition *c)
{
	c->may_fail = may_fail(node);
	c->of_shape = leaf_of_shape;
	c->of_value = leaf_of_value;
	c->arg = make_arg(filter, node, -1);
	if (node->operand_null && node->type != FILTER_MATCH && node->type != FILTER_REGEX)
	{
		c->type = SEGMENT_BY_SHAPE; /* unknown, whatever it is */
		return;
	}
	switch (node->type)
	{
		case FILTER_INT:
			c->type = time_type(node->column);
			set_times(c, node);
			return;
		case FILTER_ID:
			c->type = SEGMENT_BY_SPAN;
			return;
		case FILTER_CHILDREN:
			c->type = node->column == TEMPO_EVENTS ? SEGMENT_BY_EVENTS : SEGMENT_BY_LINKS;
			c->negate = node->negate;
			return;
		case FILTER_EVENT_NAME:
			c->type = SEGMENT_BY_EVENT_NAME;
			return;
		case FILTER_NULL:
			if (node->scope == FILTER_SCOPE_COLUMN && node->column == TEMPO_PARENT_SPAN_ID)
			{
				c->type = SEGMENT_BY_PARENT;
				c->negate = !node->negate;
				return;
			}
			break;
		case FILTER_CONTAINS:
			if (node->scope == FILTER_SCOPE_SPAN)
			{
				make_pairs(filter, node, c);
				return;
			}
			break;
		default:
			break;
	}
	make_source(node, c);
}

static void
make_condition(ScanFilter *filter, FilterNode *node, SegmentCondition *c)
{
	SegmentCondition *children;

	check_stack_depth();
	switch (node->type)
	{
		case FILTER_AND:
			c->type = SEGMENT_ALL_OF;
			break;
		case FILTER_OR:
			c->type = SEGMENT_ANY_OF;
			break;
		case FILTER_NOT:
			c->type = SEGMENT_NOT;
			break;
		default:
			make_leaf(filter, node, c);
			return;
	}
	children = palloc0(sizeof(SegmentCondition) * Max(node->n_children, 1));
	for (int i = 0; i < node->n_children; i++)
	{
		make_condition(filter, node->children[i], &children[i]);
		c->may_fail |= children[i].may_fail;
	}
	c->children = children;
	c->n_children = (uint32) node->n_children;
}

/* Do segments decide the node? */
static bool
is_vectorised(const FilterNode *node)
{
	for (int i = 0; i < node->n_children; i++)
		if (!is_vectorised(node->children[i]))
			return false;
	return node->type != FILTER_ID && node->scope != FILTER_SCOPE_EVENT;
}

int
tempo_filter_vectorised(const ScanFilter *filter)
{
	int result = 0;

	for (int i = 0; i < filter->root->n_children; i++)
		result += is_vectorised(filter->root->children[i]);
	return result;
}

void
tempo_filter_test(ScanFilter *filter)
{
	static uint64    last_serial = 0;
	SegmentCondition top = {0};
	int              traces = tempo_filter_traces_node(filter);

	make_condition(filter, filter->root, &top);
	filter->test.serial = ++last_serial;
	filter->test.conditions = top.children;
	filter->test.n_conditions = top.n_children;
	filter->rest_of_test = filter->test;
	if (traces >= 0)
	{
		SegmentCondition *rest = palloc(sizeof(SegmentCondition) * top.n_children);

		memcpy(rest, top.children, sizeof(SegmentCondition) * traces);
		memcpy(rest + traces, top.children + traces + 1, sizeof(SegmentCondition) * (top.n_children - traces - 1));
		filter->rest_of_test.serial = ++last_serial;
		filter->rest_of_test.conditions = rest;
		filter->rest_of_test.n_conditions--;
	}
}
