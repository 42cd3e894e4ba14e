/*-------------------------------------------------------------------------
 *
 * select.c
 *	  Finds the rows that pass conditions, without making spans of them.
 *
 * A condition is decided once for each shape, or each value of a dictionary,
 * that a row in question has; what was found out is kept for the next block.
 * Rows then only look up the answer for their shape or their code.  Conditions
 * narrow the rows that the next one has to look at, and columns that nobody
 * has to look at any more are not loaded.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/decoding.h"

/* Marks in tables of truth values. */
#define NOT_ASKED 0x80
#define VARIES 0x40

/* Shapes are asked about at once if there are so many rows for each. */
#define ROWS_OF_SHAPE 64

/* A column that has values of a condition's key. */
typedef struct ValueColumn
{
	uint32_t  number;
	uint8_t  *answers;       /* by dictionary entry */
	uint8_t  *local_answers; /* by entry of the dictionary of block "serial" */
	uint64_t  serial;
	uint32_t *steps; /* values of a row, by shape */
} ValueColumn;

/* A condition and what is known about it. */
typedef struct Node
{
	const SegmentCondition *condition;
	struct Node            *children;
	uint8_t                *by_shape;  /* truth, or a mark */
	uint32_t               *column_of; /* by shape: index of "columns" if it varies */
	ValueColumn            *columns;
	uint32_t                n_columns;
	bool                    rare;           /* the key may be in the overflow column */
	bool                    asked;          /* of_fields, about all shapes */
	uint8_t                 everywhere;     /* BY_TENANT: truth if the segment has one tenant, VARIES if not */
	uint8_t                *by_event_shape; /* BY_EVENT_NAME: as by_shape */
	uint8_t                *of_events;      /* of the events of block columns[0].serial; in that block's memory */
	int64_t                *times;          /* BY_END: of a block */

	/* by row of the block */
	uint8_t *truth;
	uint8_t *rows; /* ALL_OF, ANY_OF: that get to the next child */
} Node;

typedef struct Selection
{
	uint64_t  serial;
	Node     *nodes; /* of the test's conditions */
	uint32_t *order; /* in which they are asked */
	uint8_t  *rows;
} Selection;

typedef struct Selector
{
	SegmentReader           *r;
	const SegmentProjection *projection;
	SpanBatch               *batch;
	SpanError               *error;
	Decoder                  decoder;
	bool                     decoding; /* "decoder" is ready */
	uint32_t                 first;    /* rows of the block that are looked at */
	uint32_t                 n;
} Selector;

/*
 * Setting up.
 */

static bool
init_columns(SegmentReader *r, Node *node)
{
	const SegmentCondition *c = node->condition;
	uint32_t                n = 0;

	for (uint32_t i = 0; i < r->n_rare && c->part == 0; i++)
		node->rare |= r->rare[i].table == TABLE_SPAN && span_text_equal(r->strings[r->rare[i].key], c->key);
	if (c->type != SEGMENT_BY_VALUE)
		return true;
	for (uint32_t i = 0; i < r->n_columns; i++)
		n += c->part == 0 && !r->columns[i].field && r->columns[i].table == TABLE_SPAN &&
		     span_text_equal(r->strings[r->columns[i].key], c->key);
	node->columns = arena_alloc0(&r->selection_arena, ((size_t) n + 1) * sizeof(ValueColumn));
	node->column_of = arena_alloc0(&r->selection_arena, (size_t) r->tables[TABLE_SPAN].n_shapes * sizeof(uint32_t));
	if (node->columns == NULL || node->column_of == NULL)
		return false;
	if (c->part != 0)
		node->columns[node->n_columns++].number = FIELD_STATUS_MESSAGE;
	for (uint32_t i = 0; i < r->n_columns && node->n_columns < n; i++)
		if (!r->columns[i].field && r->columns[i].table == TABLE_SPAN &&
		    span_text_equal(r->strings[r->columns[i].key], c->key))
			node->columns[node->n_columns++].number = i;
	return true;
}

static bool
init_event_names(SegmentReader *r, Node *node)
{
	uint32_t n_shapes = r->tables[TABLE_EVENT].n_shapes;

	node->columns = arena_alloc0(&r->selection_arena, sizeof(ValueColumn));
	node->by_event_shape = arena_alloc(&r->selection_arena, (size_t) n_shapes + 1);
	if (node->columns == NULL || node->by_event_shape == NULL)
		return false;
	node->columns[0].number = FIELD_EVENT_NAME;
	memset(node->by_event_shape, NOT_ASKED, (size_t) n_shapes + 1);
	return true;
}

static bool
looks_at_attribute(const SegmentCondition *c)
{
	return c->type == SEGMENT_BY_VALUE || c->type == SEGMENT_BY_PRESENCE;
}

static bool
init_node(SegmentReader *r, Node *node, const SegmentCondition *condition)
{
	Arena   *arena = &r->selection_arena;
	uint32_t n_shapes = r->tables[TABLE_SPAN].n_shapes;

	node->condition = condition;
	node->truth = arena_alloc0(arena, IMAGE_BLOCK_ROWS);
	if (node->truth == NULL)
		return false;
	switch (condition->type)
	{
		case SEGMENT_ALL_OF:
		case SEGMENT_ANY_OF:
		case SEGMENT_NOT:
			node->rows = arena_alloc0(arena, IMAGE_BLOCK_ROWS);
			node->children = arena_alloc0(arena, (size_t) condition->n_children * sizeof(Node));
			if (node->rows == NULL || node->children == NULL)
				return false;
			for (uint32_t i = 0; i < condition->n_children; i++)
				if (!init_node(r, &node->children[i], &condition->children[i]))
					return false;
			return true;
		case SEGMENT_BY_SHAPE:
		case SEGMENT_BY_TENANT:
		case SEGMENT_BY_PRESENCE:
		case SEGMENT_BY_VALUE:
		case SEGMENT_BY_PARENT:
		case SEGMENT_BY_EVENTS:
		case SEGMENT_BY_LINKS:
		case SEGMENT_BY_EVENT_NAME:
			node->everywhere = NOT_ASKED;
			node->by_shape = arena_alloc(arena, (size_t) n_shapes + 1);
			if (node->by_shape == NULL)
				return false;
			memset(node->by_shape, NOT_ASKED, (size_t) n_shapes + 1);
			if (condition->type == SEGMENT_BY_EVENT_NAME)
				return init_event_names(r, node);
			return !looks_at_attribute(condition) || init_columns(r, node);
		case SEGMENT_BY_END:
			node->times = arena_alloc(arena, IMAGE_BLOCK_ROWS * sizeof(int64_t));
			return node->times != NULL;
		default:
			return true;
	}
}

/* The least that has to be loaded comes first; what may fail comes last, and in order. */
static int
cost(const SegmentCondition *c)
{
	int most = 0;

	if (c->may_fail)
		return 100;
	switch (c->type)
	{
		case SEGMENT_BY_TENANT:
			return 0;
		case SEGMENT_BY_SHAPE:
		case SEGMENT_BY_PRESENCE:
		case SEGMENT_BY_PARENT:
		case SEGMENT_BY_EVENTS:
		case SEGMENT_BY_LINKS:
			return 1;
		case SEGMENT_BY_DURATION:
			return 2;
		case SEGMENT_BY_START:
			return 3;
		case SEGMENT_BY_END:
			return 4;
		case SEGMENT_BY_VALUE:
		case SEGMENT_BY_EVENT_NAME:
			return 5;
		case SEGMENT_BY_SPAN:
			return 6;
		default:
			for (uint32_t i = 0; i < c->n_children; i++)
			{
				int child = cost(&c->children[i]);

				most = child > most ? child : most;
			}
			return most;
	}
}

static Selection *
get_selection(SegmentReader *r, const SegmentTest *test, SpanError *error)
{
	Arena     *arena = &r->selection_arena;
	Selection *s = r->selection;
	uint32_t   n = 0;

	if (s != NULL && s->serial == test->serial)
		return s;
	r->selection = NULL;
	arena_reset(arena);
	s = arena_alloc0(arena, sizeof(Selection));
	if (s != NULL)
	{
		s->nodes = arena_alloc0(arena, (size_t) test->n_conditions * sizeof(Node));
		s->order = arena_alloc(arena, (size_t) test->n_conditions * sizeof(uint32_t));
		s->rows = arena_alloc0(arena, IMAGE_BLOCK_ROWS);
	}
	if (s == NULL || s->nodes == NULL || s->order == NULL || s->rows == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	for (uint32_t i = 0; i < test->n_conditions; i++)
		if (!init_node(r, &s->nodes[i], &test->conditions[i]))
		{
			segment_no_memory(error);
			return NULL;
		}
	for (int level = 0; level <= 100; level++)
		for (uint32_t i = 0; i < test->n_conditions; i++)
			if (cost(&test->conditions[i]) == level)
				s->order[n++] = i;
	s->serial = test->serial;
	r->selection = s;
	return s;
}

/*
 * Shapes.
 */

/* Asks about the shape's prototype; false = failed. */
static bool
ask_prototype(Selector *s, const Node *node, ReadShape *shape, uint8_t *truth)
{
	const SegmentCondition *c = node->condition;
	Template               *t;
	Span                    prototype;

	if (!s->decoding &&
	    !segment_begin_decoding(&s->decoder, s->r, s->projection, s->batch, s->error))
		return false;
	s->decoding = true;
	t = shape->template != NULL ? shape->template : segment_make_template(&s->decoder, TABLE_SPAN, shape);
	if (t == NULL)
		return false;
	prototype = t->proto.span;
	prototype.attributes.items = t->items;
	prototype.attributes.count = t->n_items;
	s->r->counters.values_asked++;
	*truth = c->of_shape(c->arg, s->batch, &prototype);
	return true;
}

/* Of conditions that the fields of a shape decide. */
static uint8_t
fields_truth(const SegmentCondition *c, const ReadShape *shape)
{
	bool has = false;

	switch (c->type)
	{
		case SEGMENT_BY_PARENT:
			for (uint32_t k = 0; k < shape->n_items; k++)
				has |= shape->columns[k] == FIELD_PARENT_DISTANCE || shape->columns[k] == FIELD_PARENT_ID;
			break;
		case SEGMENT_BY_LINKS:
			has = shape->links_at != UINT32_MAX;
			break;
		default:
			has = shape->events_at != UINT32_MAX;
			break;
	}
	if (c->type == SEGMENT_BY_EVENT_NAME)
		return has ? VARIES : TRUTH_FALSE;
	return has != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
}

/* Is item k of the shape what the condition looks at? */
static inline bool
is_source(const SegmentReader *r, const SegmentCondition *c, const ReadShape *shape, uint32_t k)
{
	const ReadColumn *column = &r->columns[shape->columns[k]];

	if (c->part != 0)
		return shape->columns[k] == FIELD_STATUS_MESSAGE;
	return !column->field && span_text_equal(r->strings[column->key], c->key);
}

/* VARIES if the shape leaves it open, UNDECIDED if a row must be decoded, else FALSE. */
static uint8_t
find_source(SegmentReader *r, Node *node, const ReadShape *shape, uint32_t number)
{
	const SegmentCondition *c = node->condition;
	bool                    overflow = false;
	bool                    found = false;
	uint32_t                first = 0;

	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		overflow |= shape->columns[k] == FIELD_SPAN_OVERFLOW;
		if (!found && is_source(r, c, shape, k))
		{
			found = true;
			first = k;
		}
	}
	/* a rare attribute may stand before the other one */
	if (overflow && node->rare && (!found || c->type == SEGMENT_BY_VALUE))
		return TRUTH_UNDECIDED;
	if (!found || c->type != SEGMENT_BY_VALUE || shape->constants[first] != 0)
		return TRUTH_FALSE;
	for (uint32_t i = 0; i < node->n_columns; i++)
		if (node->columns[i].number == shape->columns[first])
			node->column_of[number] = i;
	return VARIES;
}

/* Asks about the fields of a shape, without making its prototype. */
static uint8_t
ask_fields(Selector *s, const Node *node, const ReadShape *shape)
{
	const SegmentReader *r = s->r;
	const SpanScope     *scope = &r->scopes[shape->fields[0]];
	const SpanResource  *resource = &r->resources[scope->resource];
	SegmentFields        fields = {
			   .name = r->strings[shape->fields[1]],
			   .kind = (int32_t) shape->fields[2],
			   .status = (int32_t) shape->fields[3],
			   .scope_name = r->strings[scope->name],
			   .scope_version = r->strings[scope->version],
			   .tenant = r->strings[resource->tenant],
			   .resource = resource->attributes};

	s->r->counters.values_asked++;
	return node->condition->of_fields(node->condition->arg, &fields);
}

/* Most segments have one tenant, and then nothing needs to be known of their rows. */
static uint8_t
tenant_truth(Selector *s, Node *node)
{
	const SegmentReader *r = s->r;
	bool                 one = r->n_resources > 0;
	SegmentFields        fields = {0};

	if (node->everywhere != NOT_ASKED)
		return node->everywhere;
	for (uint32_t i = 1; i < r->n_resources && one; i++)
		one = r->resources[i].tenant == r->resources[0].tenant;
	node->everywhere = VARIES;
	if (one)
	{
		fields.tenant = r->strings[r->resources[0].tenant];
		node->everywhere = node->condition->of_fields(node->condition->arg, &fields);
	}
	return node->everywhere;
}

/* The truth for spans of a shape, or VARIES; false = failed. */
static bool
ask_shape(Selector *s, Node *node, uint32_t number, uint8_t row, uint8_t *truth)
{
	const SegmentCondition *c = node->condition;
	ReadShape              *shape = &s->r->tables[TABLE_SPAN].shapes[number];

	if (c->of_fields != NULL && (c->type == SEGMENT_BY_SHAPE || c->type == SEGMENT_BY_TENANT))
	{
		if (c->may_fail && row != ROW_IN)
		{
			*truth = TRUTH_UNDECIDED; /* this time */
			return true;
		}
		*truth = ask_fields(s, node, shape);
		if (*truth != SEGMENT_NOT_TOLD)
		{
			node->by_shape[number] = *truth;
			return true;
		}
	}
	if (!segment_load_shape(s->r, TABLE_SPAN, shape, s->error))
		return false;
	if (c->type != SEGMENT_BY_SHAPE && !looks_at_attribute(c))
	{
		*truth = node->by_shape[number] = fields_truth(c, shape);
		return true;
	}
	*truth = c->type == SEGMENT_BY_SHAPE ? TRUTH_FALSE : find_source(s->r, node, shape, number);
	if (*truth == TRUTH_FALSE)
	{
		if (c->may_fail && row != ROW_IN)
		{
			*truth = TRUTH_UNDECIDED; /* this time */
			return true;
		}
		if (!ask_prototype(s, node, shape, truth))
			return false;
	}
	node->by_shape[number] = *truth;
	return true;
}

/*
 * Asks about the fields of all shapes at once, where these are few beside the
 * rows: then no row has to be looked at for whether its shape is known.
 */
static void
ask_all_shapes(Selector *s, Node *node)
{
	const SegmentCondition *c = node->condition;
	const ReadTable        *t = &s->r->tables[TABLE_SPAN];

	if (node->asked)
		return;
	node->asked = true;
	if (c->of_fields == NULL || c->may_fail || (c->type != SEGMENT_BY_SHAPE && c->type != SEGMENT_BY_TENANT) ||
	    t->n_shapes > s->r->summary.rows / ROWS_OF_SHAPE)
		return;
	for (uint32_t i = 0; i < t->n_shapes; i++)
	{
		uint8_t truth = ask_fields(s, node, &t->shapes[i]);

		if (truth != SEGMENT_NOT_TOLD)
			node->by_shape[i] = truth;
	}
}

/* Looks the shapes of rows "from" to "to" up, and asks about those that are new. */
static bool
decide_some_shapes(Selector *s, Node *node, const uint8_t *rows, uint32_t from, uint32_t to, bool *varies)
{
	const uint32_t *shapes = s->r->tables[TABLE_SPAN].row_shapes + s->first;
	uint8_t        *truth = node->truth;

	if (!vector_lookup(shapes + from, to - from, node->by_shape, NOT_ASKED | VARIES, truth + from))
		return true;
	for (uint32_t i = from; i < to; i++)
	{
		if (i % 8 == 0 && !vector_marked(rows + i, truth + i, NOT_ASKED))
		{
			i += 7;
			continue;
		}
		if (truth[i] != NOT_ASKED || rows[i] == ROW_OUT)
			continue;
		truth[i] = node->by_shape[shapes[i]];
		if (truth[i] == NOT_ASKED && !ask_shape(s, node, shapes[i], rows[i], &truth[i]))
			return false;
	}
	for (uint32_t i = from; i < to && !*varies; i += 8)
		*varies = vector_marked(rows + i, truth + i, VARIES);
	return true;
}

/* So many rows are looked up at once: in the next ones most shapes are known then. */
#define SHAPES_AT_ONCE 1024

/* Decides the rows whose shapes do; *varies is set if that leaves any open. */
static bool
decide_shapes(Selector *s, Node *node, const uint8_t *rows, bool *varies)
{
	*varies = false;
	ask_all_shapes(s, node);
	for (uint32_t from = 0; from < s->n; from += SHAPES_AT_ONCE)
	{
		uint32_t to = s->n - from < SHAPES_AT_ONCE ? s->n : from + SHAPES_AT_ONCE;

		if (!decide_some_shapes(s, node, rows, from, to, varies))
			return false;
	}
	return true;
}

/*
 * Values.
 */

/* How many values of the column the rows of each shape have, for shapes of the block. */
static bool
count_steps(SegmentReader *r, ValueColumn *column)
{
	const ReadTable *t = &r->tables[TABLE_SPAN];

	if (column->steps == NULL)
		column->steps = arena_alloc0(&r->selection_arena, ((size_t) t->n_shapes + 1) * sizeof(uint32_t));
	if (column->steps == NULL)
		return false;
	if (column->serial == r->block_serial)
		return true;
	for (uint32_t i = 0; i < t->n_shapes; i++)
	{
		const ReadShape *shape = &t->shapes[i];

		if (t->histogram[i] == 0)
			continue;
		column->steps[i] = 0;
		for (uint32_t k = 0; k < shape->n_values; k++)
			column->steps[i] += shape->values[k] == column->number;
	}
	column->serial = r->block_serial;
	column->local_answers = NULL;
	return true;
}

/* Where the answers for the column's codes are, in this block; NULL = no memory. */
static uint8_t *
find_answers(SegmentReader *r, ValueColumn *column)
{
	const ReadColumn *c = &r->columns[column->number];
	uint8_t         **answers = c->local ? &column->local_answers : &column->answers;
	size_t            n = (size_t) (c->local ? c->n_texts : c->n_dictionary) + 1;

	if (*answers == NULL)
	{
		*answers = arena_alloc(c->local ? &r->block_arena : &r->selection_arena, n);
		if (*answers != NULL)
			memset(*answers, NOT_ASKED, n);
	}
	return *answers;
}

/* Asks about value "i" of a column; false = failed. */
static bool
ask_value(Selector *s, const Node *node, const ReadColumn *column, uint32_t i, uint8_t row, uint8_t *truth,
          uint8_t *answer)
{
	const SegmentCondition *c = node->condition;
	SegmentReader          *r = s->r;
	AnyValue                value;

	*truth = TRUTH_UNDECIDED;
	if (c->may_fail && row != ROW_IN)
		return true;
	if (!segment_value_in_place(&r->value_arena, column, i, &value, s->error))
		return false;
	r->counters.values_asked++;
	*truth = c->of_value(c->arg, &value);
	if (answer != NULL)
		*answer = *truth;
	if (r->value_arena.used > 0)
		arena_rewind(&r->value_arena, 65536);
	return true;
}

/* The truth for events of a shape, or VARIES. */
static bool
ask_event_shape(Selector *s, const Node *node, const ReadShape *shape, uint8_t *truth)
{
	const SegmentCondition *c = node->condition;
	AnyValue                name = {.type = ANY_STRING, .u.data = ""};

	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		if (shape->columns[k] != FIELD_EVENT_NAME)
			continue;
		if (shape->constants[k] == 0)
		{
			*truth = VARIES;
			return true;
		}
		if (!segment_load_dictionary(s->r, FIELD_EVENT_NAME, s->error))
			return false;
		name = s->r->columns[FIELD_EVENT_NAME].dictionary[shape->constants[k] - 1];
		break;
	}
	s->r->counters.values_asked++;
	*truth = c->of_value(c->arg, &name);
	return true;
}

/* Rows whose values are codes look their answers up; "only": the condition has no other column. */
static inline bool
look_codes_up(Selector *s, Node *node, uint32_t k, const uint8_t *rows, uint32_t at, uint8_t *answers, bool only)
{
	const uint32_t   *shapes = s->r->tables[TABLE_SPAN].row_shapes + s->first;
	const ReadColumn *c = &s->r->columns[node->columns[k].number];
	const uint32_t   *codes = c->codes;
	const uint32_t   *steps = node->columns[k].steps;
	const uint32_t   *column_of = node->column_of;
	uint8_t          *truth = node->truth;
	uint32_t          n = s->n;

	for (uint32_t i = 0; i < n; i++)
	{
		/* behind the last value is a code, too: rows without one look at it, but do not use it */
		uint32_t shape = shapes[i];
		uint8_t  answer = answers[codes[at]];
		uint8_t  here = (uint8_t) - (truth[i] == VARIES && (only || column_of[shape] == k));

		if (__builtin_expect(answer == NOT_ASKED, 0) && here && rows[i] != ROW_OUT &&
		    !ask_value(s, node, c, at, rows[i], &answer, &answers[codes[at]]))
			return false;
		truth[i] = (uint8_t) ((truth[i] & ~here) | (answer & here));
		at += steps[shape];
	}
	return true;
}

static bool
decide_codes(Selector *s, Node *node, uint32_t k, const uint8_t *rows, uint32_t at)
{
	uint8_t *answers = find_answers(s->r, &node->columns[k]);

	if (answers == NULL)
		return segment_no_memory(s->error);
	return node->n_columns == 1 ? look_codes_up(s, node, k, rows, at, answers, true) :
	                              look_codes_up(s, node, k, rows, at, answers, false);
}

static bool
decide_raw(Selector *s, Node *node, uint32_t k, const uint8_t *rows, uint32_t at)
{
	const uint32_t   *shapes = s->r->tables[TABLE_SPAN].row_shapes + s->first;
	const ReadColumn *c = &s->r->columns[node->columns[k].number];
	const uint32_t   *steps = node->columns[k].steps;
	uint8_t          *truth = node->truth;

	for (uint32_t i = 0; i < s->n; i++)
	{
		if (truth[i] == VARIES && node->column_of[shapes[i]] == k && rows[i] != ROW_OUT &&
		    !ask_value(s, node, c, at, rows[i], &truth[i], NULL))
			return false;
		at += steps[shapes[i]];
	}
	return true;
}

/* Decides the rows that their shapes left open and that have their value in one column. */
static bool
decide_column(Selector *s, Node *node, uint32_t k, const uint8_t *rows)
{
	SegmentReader    *r = s->r;
	const ReadTable  *t = &r->tables[TABLE_SPAN];
	ValueColumn      *column = &node->columns[k];
	const ReadColumn *c = &r->columns[column->number];
	bool              wanted = false;
	uint32_t          at = 0;

	for (uint32_t i = 0; i < s->n && !wanted; i++)
		wanted = node->truth[i] == VARIES && rows[i] != ROW_OUT && node->column_of[t->row_shapes[s->first + i]] == k;
	if (!wanted)
		return true;
	if (!segment_load_rows(r, TABLE_SPAN, s->error) || !segment_load_column(r, column->number, s->error))
		return false;
	if (!count_steps(r, column))
		return segment_no_memory(s->error);
	for (uint32_t i = 0; i < s->first; i++)
		at += column->steps[t->row_shapes[i]];
	return c->form == FORM_CODES || c->local ? decide_codes(s, node, k, rows, at) : decide_raw(s, node, k, rows, at);
}

/*
 * Events.
 */

/* What the condition says of the names of the block's events; NULL = failed. */
static uint8_t *
decide_event_names(Selector *s, Node *node)
{
	SegmentReader    *r = s->r;
	const ReadTable  *t = &r->tables[TABLE_EVENT];
	const ReadColumn *c = &r->columns[FIELD_EVENT_NAME];
	ValueColumn      *column = &node->columns[0];
	uint8_t          *truth;
	uint32_t          at = 0;

	if (column->serial == r->block_serial && node->of_events != NULL)
		return node->of_events;
	if (!segment_load_rows(r, TABLE_EVENT, s->error))
		return NULL;
	column->local_answers = NULL;
	column->serial = r->block_serial;
	node->of_events = NULL;
	truth = arena_alloc(&r->block_arena, (size_t) t->n_rows + 1);
	if (truth == NULL)
	{
		segment_no_memory(s->error);
		return NULL;
	}
	for (uint32_t i = 0; i < t->n_rows; i++)
	{
		uint8_t *known = &node->by_event_shape[t->row_shapes[i]];
		uint8_t *answer = NULL;

		if (*known == NOT_ASKED && !ask_event_shape(s, node, &t->shapes[t->row_shapes[i]], known))
			return NULL;
		truth[i] = *known;
		if (*known != VARIES)
			continue;
		if (!segment_load_column(r, FIELD_EVENT_NAME, s->error))
			return NULL;
		if (c->form == FORM_CODES || c->local)
		{
			answer = find_answers(r, column);
			if (answer == NULL)
			{
				segment_no_memory(s->error);
				return NULL;
			}
			answer += c->codes[at];
			truth[i] = *answer;
		}
		if ((answer == NULL || *answer == NOT_ASKED) &&
		    !ask_value(s, node, c, at, ROW_IN, &truth[i], answer))
			return NULL;
		at++;
	}
	node->of_events = truth;
	return truth;
}

/* Decides the rows that have events. */
static bool
decide_events(Selector *s, Node *node)
{
	SegmentReader   *r = s->r;
	const ReadTable *spans = &r->tables[TABLE_SPAN];
	const uint8_t   *names;
	uint32_t         event = 0;
	uint32_t         at = 0;

	if (!segment_load_rows(r, TABLE_SPAN, s->error))
		return false;
	names = decide_event_names(s, node);
	if (names == NULL)
		return false;
	for (uint32_t i = 0; i < s->first + s->n; i++)
	{
		const ReadShape *shape = &spans->shapes[spans->row_shapes[i]];
		uint8_t          any = TRUTH_FALSE;
		uint32_t         n;

		if (shape->events_at == UINT32_MAX)
			continue;
		if (!segment_n_children(r, true, shape, at, &n, s->error))
			return false;
		if (n > r->tables[TABLE_EVENT].n_rows - event)
			return segment_corrupt(s->error, "more events than there are");
		at += shape->constants[shape->events_at] == 0;
		while (n-- > 0)
			any |= names[event++];
		if (i >= s->first)
			node->truth[i - s->first] = any;
	}
	return true;
}

/*
 * Conditions.
 */

/* Are all starts of the block inside the bounds, or all outside? */
static bool
zone_decides(const SegmentReader *r, const SegmentCondition *c, bool *inside)
{
	int64_t min = r->zones[(size_t) r->block * 3];
	int64_t max = r->zones[(size_t) r->block * 3 + 1];

	*inside = c->min <= min && max <= c->max;
	return *inside || max < c->min || c->max < min;
}

/* The truth for all rows of the block, if that can be told without looking at them. */
static bool
block_truth(Selector *s, Node *node, uint8_t *truth)
{
	const SegmentCondition *c = node->condition;
	bool                    inside;

	if (c->type == SEGMENT_BY_TENANT)
	{
		*truth = tenant_truth(s, node);
		return *truth != VARIES;
	}
	if (c->type != SEGMENT_BY_START || !zone_decides(s->r, c, &inside))
		return false;
	*truth = inside != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
	return true;
}

static bool
decide_times(Selector *s, Node *node)
{
	const SegmentCondition *c = node->condition;
	SegmentReader          *r = s->r;
	const int64_t          *times;

	if (c->type != SEGMENT_BY_DURATION && !segment_load_starts(r, s->error))
		return false;
	if (c->type != SEGMENT_BY_START && !segment_load_durations(r, s->error))
		return false;
	times = (c->type == SEGMENT_BY_DURATION ? r->durations : r->starts) + s->first;
	if (c->type == SEGMENT_BY_END)
	{
		for (uint32_t i = 0; i < s->n; i++)
			node->times[i] = (int64_t) ((uint64_t) times[i] + (uint64_t) r->durations[s->first + i]);
		times = node->times;
	}
	vector_range(times, s->n, c->min, c->max, c->negate, node->truth);
	return true;
}

static bool
decide(Selector *s, Node *node, const uint8_t *rows)
{
	const SegmentCondition *c = node->condition;
	bool                    any = c->type == SEGMENT_ANY_OF;
	size_t                  size = vector_size(s->n);
	bool                    varies;
	uint8_t                 truth;

	if (block_truth(s, node, &truth))
	{
		memset(node->truth, truth, size);
		return true;
	}
	switch (c->type)
	{
		case SEGMENT_ALL_OF:
		case SEGMENT_ANY_OF:
			memcpy(node->rows, rows, size);
			memset(node->truth, any ? TRUTH_FALSE : TRUTH_TRUE, size);
			for (uint32_t i = 0; i < c->n_children; i++)
			{
				Node *child = &node->children[i];

				if (!decide(s, child, node->rows))
					return false;
				if (any)
					vector_or(node->truth, child->truth, size);
				else
					vector_and(node->truth, child->truth, size);
				if (!vector_narrow(node->rows, child->truth, any ? VECTOR_IF_TRUE : VECTOR_IF_FALSE, size))
					break;
			}
			return true;
		case SEGMENT_NOT:
			if (!decide(s, &node->children[0], rows))
				return false;
			memcpy(node->truth, node->children[0].truth, size);
			vector_not(node->truth, size);
			return true;
		case SEGMENT_BY_SHAPE:
		case SEGMENT_BY_TENANT:
		case SEGMENT_BY_PRESENCE:
		case SEGMENT_BY_PARENT:
		case SEGMENT_BY_EVENTS:
		case SEGMENT_BY_LINKS:
			return decide_shapes(s, node, rows, &varies);
		case SEGMENT_BY_EVENT_NAME:
			return decide_shapes(s, node, rows, &varies) && (!varies || decide_events(s, node));
		case SEGMENT_BY_VALUE:
			if (!decide_shapes(s, node, rows, &varies))
				return false;
			for (uint32_t k = 0; varies && k < node->n_columns; k++)
				if (!decide_column(s, node, k, rows))
					return false;
			return true;
		case SEGMENT_BY_START:
		case SEGMENT_BY_DURATION:
		case SEGMENT_BY_END:
			return decide_times(s, node);
		case SEGMENT_BY_SPAN:
			memset(node->truth, TRUTH_UNDECIDED, size);
			return true;
	}
	return true;
}

static bool
select_block(Selector *s, Selection *selection, const SegmentTest *test, const BlockRows *run, uint8_t *rows)
{
	bool    any = false;
	size_t  size;
	uint8_t truth;

	s->first = run->first;
	s->n = run->end - run->first;
	size = vector_size(s->n);
	segment_load_block(s->r, run->block);
	memcpy(selection->rows, rows, s->n);
	memset(selection->rows + s->n, ROW_OUT, size - s->n);
	for (uint32_t i = 0; i < s->n && !any; i++)
		any = rows[i] != ROW_OUT;
	for (uint32_t i = 0; any && i < test->n_conditions; i++)
	{
		Node *node = &selection->nodes[selection->order[i]];

		if (block_truth(s, node, &truth) && truth == TRUTH_TRUE)
			continue;
		if (!segment_load_row_shapes(s->r, TABLE_SPAN, s->error))
			return false;
		if (!decide(s, node, selection->rows))
			return false;
		any = vector_narrow(selection->rows, node->truth, VECTOR_UNLESS_TRUE, size);
	}
	memcpy(rows, selection->rows, s->n);
	return true;
}

bool
segment_select(SegmentReader *r, const SegmentProjection *projection, uint32_t first, uint32_t count,
               const SegmentTest *test, SpanBatch *batch, uint8_t *rows, SpanError *error)
{
	Selector   s = {.r = r, .projection = projection, .batch = batch, .error = error};
	Selection *selection;
	BlockRows  run;
	uint32_t   begin = first;
	bool       ok = true;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!segment_load_schema(r, error))
		return false;
	selection = get_selection(r, test, error);
	if (selection == NULL)
		return false;
	while (ok && next_block_rows(&first, begin + count, &run))
		ok = select_block(&s, selection, test, &run, rows + (run.begin + run.first - begin));
	return ok;
}
