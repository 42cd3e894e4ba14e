/*-------------------------------------------------------------------------
 *
 * test_select.c
 *	  Conditions on encoded segments select what they select of the spans.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "segment/cpu.h"
#include "segment/reader.h"
#include "spangen.h"
#include "tap.h"

#define MAX_CONDITIONS 40

static const SpanText keys[] = {
	{"session.id", 10}, {"k17", 3}, {"rare.3", 6}, {"http.response.status_code", 25}, {"rpc.method", 10}, {"server.port", 11}, {"url.full", 8}, {"no such key", 11}};
#define N_KEYS 8

/* What a condition asks for, and what it has been asked. */
typedef struct Question
{
	SpanText key;
	uint32_t part;
	uint32_t seed;
	bool    *may_be_asked; /* by hash; NULL: anything may */
	uint32_t wrongly_asked;
} Question;

typedef struct Tree
{
	SegmentCondition conditions[MAX_CONDITIONS];
	Question         questions[MAX_CONDITIONS];
	uint32_t         used;
	bool             by_span;
} Tree;

static uint8_t
value_truth(const Question *q, const AnyValue *value)
{
	static const uint8_t truths[] = {TRUTH_FALSE, TRUTH_TRUE, TRUTH_UNKNOWN, TRUTH_TRUE};

	if (value == NULL)
		return q->seed % 2 == 0 ? TRUTH_UNKNOWN : TRUTH_FALSE;
	return truths[(any_value_hash(value, 0) + q->seed) % 4];
}

static const AnyValue *
find(const Question *q, const Span *span, AnyValue *text)
{
	if (q->part != 0)
	{
		text->type = ANY_STRING;
		text->len = span->status_message.len;
		text->u.data = span->status_message.len > 0 ? span->status_message.data : "";
		return text;
	}
	for (uint32_t i = 0; i < span->attributes.count; i++)
		if (span_text_equal(span->attributes.items[i].key, q->key))
			return &span->attributes.items[i].value;
	return NULL;
}

static uint8_t
of_value(void *arg, const AnyValue *value)
{
	Question *q = arg;

	if (q->may_be_asked != NULL)
		q->wrongly_asked += !q->may_be_asked[any_value_hash(value, 0) % 65536];
	return value_truth(q, value);
}

static uint8_t
name_truth(void *arg, const AnyValue *value)
{
	const Question *q = arg;

	return (any_value_hash(value, 0) + q->seed) % 3 == 0 ? TRUTH_TRUE : TRUTH_FALSE;
}

static uint8_t
of_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	AnyValue text = {0};

	(void) batch;
	return value_truth(arg, find(arg, prototype, &text));
}

static uint8_t
kind_of_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	const Question *q = arg;

	(void) batch;
	return ((uint32_t) prototype->kind + q->seed) % 3 == 0 ? TRUTH_TRUE : TRUTH_FALSE;
}

static uint8_t
kind_of_fields(void *arg, const SegmentFields *fields)
{
	const Question *q = arg;

	if ((uint32_t) fields->kind % 2 == q->seed % 2)
		return SEGMENT_NOT_TOLD;
	return ((uint32_t) fields->kind + q->seed) % 3 == 0 ? TRUTH_TRUE : TRUTH_FALSE;
}

static uint8_t
tenant_truth(void *arg, SpanText tenant)
{
	AnyValue text = {.type = ANY_STRING, .len = tenant.len};

	text.u.data = tenant.len > 0 ? tenant.data : "";
	return name_truth(arg, &text);
}

static uint8_t
tenant_of_fields(void *arg, const SegmentFields *fields)
{
	return tenant_truth(arg, fields->tenant);
}

static uint8_t
present_in_shape(void *arg, SpanBatch *batch, const Span *prototype)
{
	AnyValue text = {0};

	(void) batch;
	return find(arg, prototype, &text) != NULL ? TRUTH_TRUE : TRUTH_FALSE;
}

static uint8_t not(uint8_t truth)
{
	return truth == TRUTH_TRUE ? TRUTH_FALSE : truth == TRUTH_FALSE ? TRUTH_TRUE :
	                                                                  truth;
}

/* Where the tenants of spans are. */
static const SpanBatch *all_spans;

/* The same of a span. */
static uint8_t
truth_of(const SegmentCondition *c, const Span *span)
{
	int64_t              start = span->start_time_unix_nano;
	int64_t              duration = (int64_t) ((uint64_t) span->end_time_unix_nano - (uint64_t) start);
	int64_t              time = c->type == SEGMENT_BY_START ? start : c->type == SEGMENT_BY_DURATION ? duration :
	                                                                                                   span->end_time_unix_nano;
	static const uint8_t zero[SPAN_ID_LEN];
	uint8_t              truth;
	AnyValue             text = {0};

	switch (c->type)
	{
		case SEGMENT_ALL_OF:
		case SEGMENT_ANY_OF:
			truth = c->type == SEGMENT_ALL_OF ? TRUTH_TRUE : TRUTH_FALSE;
			for (uint32_t i = 0; i < c->n_children; i++)
				truth = c->type == SEGMENT_ALL_OF ? truth & truth_of(&c->children[i], span) :
				                                    truth | truth_of(&c->children[i], span);
			return truth;
		case SEGMENT_NOT:
			return not(truth_of(&c->children[0], span));
		case SEGMENT_BY_SHAPE:
			return kind_of_shape(c->arg, NULL, span);
		case SEGMENT_BY_TENANT:
			return tenant_truth(c->arg, all_spans->strings[span_resource(all_spans, span)->tenant]);
		case SEGMENT_BY_PRESENCE:
			return present_in_shape(c->arg, NULL, span);
		case SEGMENT_BY_VALUE:
			return value_truth(c->arg, find(c->arg, span, &text));
		case SEGMENT_BY_PARENT:
			return (memcmp(&span->parent_span_id, zero, SPAN_ID_LEN) != 0) != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
		case SEGMENT_BY_EVENTS:
			return (span->n_events > 0) != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
		case SEGMENT_BY_LINKS:
			return (span->n_links > 0) != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
		case SEGMENT_BY_EVENT_NAME:
			for (uint32_t i = 0; i < span->n_events; i++)
			{
				text.type = ANY_STRING;
				text.len = span->events[i].name.len;
				text.u.data = text.len > 0 ? span->events[i].name.data : "";
				if (name_truth(c->arg, &text) == TRUTH_TRUE)
					return TRUTH_TRUE;
			}
			return TRUTH_FALSE;
		case SEGMENT_BY_SPAN:
			return span->flags % 2 == 0 ? TRUTH_TRUE : TRUTH_FALSE;
		default:
			return (time >= c->min && time <= c->max) != c->negate ? TRUTH_TRUE : TRUTH_FALSE;
	}
}

static void
make_times(SegmentCondition *c, Random *random, const Span *some)
{
	int64_t start = some->start_time_unix_nano;

	c->type = SEGMENT_BY_START + random_below(random, 3);
	c->negate = random_below(random, 3) == 0;
	c->min = INT64_MIN;
	c->max = INT64_MAX;
	if (random_below(random, 3) > 0)
		c->min = c->type == SEGMENT_BY_START ? start : c->type == SEGMENT_BY_END ? some->end_time_unix_nano :
		                                                                           1000000;
	if (random_below(random, 3) == 0)
		c->max = c->type == SEGMENT_BY_DURATION ? 50000000 : some->end_time_unix_nano;
}

static void
make_tree(Tree *tree, SegmentCondition *c, Random *random, const Span *some, int depth)
{
	Question *q = &tree->questions[c - tree->conditions];
	uint32_t  n = 1 + random_below(random, 3);

	memset(c, 0, sizeof(*c));
	memset(q, 0, sizeof(*q));
	q->seed = random_below(random, 100);
	q->key = keys[random_below(random, N_KEYS)];
	c->arg = q;
	c->key = q->key;
	c->of_value = of_value;
	c->of_shape = of_shape;
	switch (random_below(random, depth < 3 && tree->used + 3 < MAX_CONDITIONS ? 12 : 8))
	{
		case 0:
			if (random_below(random, 2) == 0)
			{
				c->type = SEGMENT_BY_TENANT;
				c->of_fields = tenant_of_fields;
				break;
			}
			c->type = SEGMENT_BY_SHAPE;
			c->of_shape = kind_of_shape;
			c->of_fields = random_below(random, 2) == 0 ? kind_of_fields : NULL;
			break;
		case 1:
			c->type = SEGMENT_BY_PRESENCE;
			c->of_shape = present_in_shape;
			break;
		case 2:
			c->type = SEGMENT_BY_PARENT + random_below(random, 4);
			if (c->type == SEGMENT_BY_EVENT_NAME)
			{
				c->of_value = name_truth;
				break;
			}
			c->negate = random_below(random, 2) == 0;
			break;
		case 3:
			make_times(c, random, some);
			break;
		case 4:
			c->type = SEGMENT_BY_VALUE;
			c->part = q->part = SEGMENT_STATUS_MESSAGE;
			break;
		case 5:
			if (random_below(random, 4) == 0)
			{
				c->type = SEGMENT_BY_SPAN;
				tree->by_span = true;
				break;
			}
			/* fall through */
		case 6:
		case 7:
			c->type = SEGMENT_BY_VALUE;
			break;
		default:
			c->type = SEGMENT_ALL_OF + random_below(random, 3);
			c->n_children = c->type == SEGMENT_NOT ? 1 : n;
			c->children = &tree->conditions[tree->used];
			tree->used += c->n_children;
			for (uint32_t i = 0; i < c->n_children; i++)
				make_tree(tree, (SegmentCondition *) &c->children[i], random, some, depth + 1);
			break;
	}
}

typedef struct Segment
{
	SpanBatch     *batch;
	const Span   **rows;
	SegmentImage   image;
	SegmentMemory  memory;
	SegmentSource  source;
	SegmentReader *reader;
} Segment;

static bool
make_segment(Segment *s, void (*generate)(SpanBatch *, uint32_t, uint64_t), uint32_t n, uint8_t level)
{
	SegmentWriteOptions options = {.level = level};
	SpanError           error = {0};

	s->batch = span_batch_create(&span_malloc_allocator, 0);
	generate(s->batch, n, 77);
	if (!ok(segment_write(s->batch, 0, n, &options, &span_malloc_allocator, &s->image, &error), "write: %s", error.message))
		return false;
	s->rows = calloc(n, sizeof(Span *));
	for (uint32_t i = 0; i < n; i++)
		s->rows[s->image.row_of[i]] = &s->batch->spans[i];
	s->memory.data = s->image.data;
	s->memory.size = s->image.size;
	s->source = segment_source_memory(&s->memory);
	s->reader = segment_open(&s->source, &span_malloc_allocator, &error);
	return ok(s->reader != NULL, "open: %s", error.message);
}

static void
drop_segment(Segment *s)
{
	segment_close(s->reader);
	segment_image_free(&s->image, &span_malloc_allocator);
	span_batch_destroy(s->batch);
	free(s->rows);
}

/* The last condition may fail: it may be asked only about values of spans that pass the others. */
static void
guard(Tree *tree, uint32_t n, const Segment *s, uint32_t n_rows)
{
	SegmentCondition *last = &tree->conditions[n - 1];
	Question         *q = last->arg;

	last->may_fail = true;
	q->may_be_asked = calloc(65536, 1);
	for (uint32_t row = 0; row < n_rows; row++)
	{
		AnyValue        text = {0};
		const AnyValue *value = find(q, s->rows[row], &text);
		bool            passes = value != NULL;

		for (uint32_t i = 0; passes && i + 1 < n; i++)
			passes = truth_of(&tree->conditions[i], s->rows[row]) == TRUTH_TRUE;
		if (passes)
			q->may_be_asked[any_value_hash(value, 0) % 65536] = true;
	}
}

static void
test_tree(Segment *s, uint32_t n_rows, Random *random, uint64_t serial, SpanBatch *batch, uint8_t *rows)
{
	SegmentProjection p = {SEGMENT_KIND | SEGMENT_STATUS_MESSAGE, keys, N_KEYS};
	Tree             *tree = calloc(1, sizeof(Tree));
	uint32_t          n = 1 + random_below(random, 3);
	SegmentTest       test = {serial, tree->conditions, n};
	uint32_t          first = random_below(random, n_rows);
	uint32_t          count = random_below(random, n_rows - first) + 1;
	uint32_t          wrong = 0;
	uint32_t          open = 0;
	uint32_t          selected = 0;
	SpanError         error = {0};
	Question         *q;

	all_spans = s->batch;
	tree->used = n;
	for (uint32_t i = 0; i < n; i++)
		make_tree(tree, &tree->conditions[i], random, s->rows[first], 0);
	q = &tree->questions[n - 1];
	if (tree->conditions[n - 1].type == SEGMENT_BY_VALUE)
		guard(tree, n, s, n_rows);
	/* twice: the second time finds answers and columns there */
	for (int pass = 0; pass < 2; pass++)
	{
		for (uint32_t i = 0; i < count; i++)
			rows[i] = i % 7 == 3 ? ROW_OUT : ROW_IN;
		if (!ok(segment_select(s->reader, &p, first, count, &test, batch, rows, &error), "select: %s", error.message))
			break;
		selected = open = wrong = 0;
		for (uint32_t i = 0; i < count; i++)
		{
			bool expected = i % 7 != 3;

			for (uint32_t k = 0; expected && k < n; k++)
				expected = truth_of(&tree->conditions[k], s->rows[first + i]) == TRUTH_TRUE;
			selected += expected;
			open += rows[i] == ROW_MAYBE;
			wrong += (rows[i] == ROW_IN && !expected) || (rows[i] == ROW_OUT && expected) || rows[i] > ROW_IN;
		}
		ok(wrong == 0 && q->wrongly_asked == 0 && (tree->by_span || open <= count / 2),
		   "test %u, rows %u..%u: %u pass, %u left open, %u wrong, %u wrongly asked", (unsigned) serial, first,
		   first + count, selected, open, wrong, q->wrongly_asked);
	}
	free(q->may_be_asked);
	free(tree);
}

static void
test_select(void (*generate)(SpanBatch *, uint32_t, uint64_t), uint32_t n, uint8_t level, size_t keep)
{
	Segment    s;
	Random     random = {n + keep + 1};
	SpanBatch *batch = span_batch_create(&span_malloc_allocator, 0);
	uint8_t   *rows = calloc(vector_size(n), 1);

	if (make_segment(&s, generate, n, level))
	{
		segment_keep(s.reader, keep);
		for (uint64_t i = 1; i <= 60; i++)
			test_tree(&s, n, &random, i, batch, rows);
	}
	drop_segment(&s);
	span_batch_destroy(batch);
	free(rows);
}

/* Both ways of every vector function, against the obvious one. */
static void
test_vectors(bool portable)
{
	enum
	{
		N = 1000
	};
	static int64_t       values[N];
	static uint32_t      codes[N];
	static uint8_t       out[N + VECTOR_GROUP];
	static uint8_t       rows[N + VECTOR_GROUP];
	uint8_t              table[256];
	Random               random = {99};
	static const int64_t odd[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
	static const uint8_t truths[] = {TRUTH_FALSE, TRUTH_UNKNOWN, TRUTH_TRUE, TRUTH_UNDECIDED};

	cpu_allow_avx2(!portable);
	for (int i = 0; i < 200; i++)
	{
		int64_t  min = i < 49 ? odd[i % 7] : (int64_t) random_next(&random);
		int64_t  max = i < 49 ? odd[i / 7] : (int64_t) random_next(&random);
		size_t   n = random_below(&random, N + 1);
		bool     negate = i % 2 == 0;
		uint32_t wrong = 0;
		uint8_t  seen = 0;

		for (size_t k = 0; k < n; k++)
		{
			values[k] = k % 3 == 0 ? odd[random_below(&random, 7)] : (int64_t) random_next(&random);
			codes[k] = random_below(&random, 256);
		}
		for (int k = 0; k < 256; k++)
			table[k] = i % 3 == 0 ? 0x0F : (uint8_t) random_next(&random);
		vector_range(values, n, min, max, negate, out);
		for (size_t k = 0; k < n; k++)
			wrong += out[k] != ((values[k] >= min && values[k] <= max) != negate ? TRUTH_TRUE : TRUTH_FALSE);
		ok(wrong == 0, "range: %u wrong of %u", wrong, (unsigned) n);
		for (size_t k = 0; k < n; k++)
			seen |= table[codes[k]];
		wrong = vector_lookup(codes, n, table, 0x80, out) != ((seen & 0x80) != 0);
		for (size_t k = 0; k < n; k++)
			wrong += out[k] != table[codes[k]];
		ok(wrong == 0, "lookup: %u wrong of %u", wrong, (unsigned) n);
	}
	/* every pair of truth values */
	for (int a = 0; a < 4; a++)
		for (int b = 0; b < 4; b++)
		{
			uint8_t x[VECTOR_GROUP];
			uint8_t y[VECTOR_GROUP];
			bool    bad = false;

			memset(x, truths[a], sizeof(x));
			memset(y, truths[b], sizeof(y));
			vector_and(x, y, VECTOR_GROUP);
			/* whatever the bounds allow */
			for (int i = 0; i < 3; i++)
				for (int k = 0; k < 3; k++)
				{
					uint8_t both = truths[i] & truths[k];
					bool    in = (a == 3 || a == i) && (b == 3 || b == k);

					bad |= in && ((x[5] & AT_MOST_TRUE) == 0) && both == TRUTH_TRUE;
					bad |= in && (x[5] & AT_LEAST_TRUE) != 0 && both != TRUTH_TRUE;
				}
			vector_not(x, VECTOR_GROUP);
			vector_not(x, VECTOR_GROUP);
			bad |= x[7] != (truths[a] & truths[b]);
			ok(!bad, "%d and %d", a, b);
		}
	memset(rows, ROW_IN, VECTOR_GROUP);
	for (int i = 0; i < VECTOR_GROUP; i++)
		out[i] = truths[i % 4];
	ok(vector_narrow(rows, out, VECTOR_UNLESS_TRUE, VECTOR_GROUP) &&
	       rows[0] == ROW_OUT && rows[1] == ROW_OUT && rows[2] == ROW_IN && rows[3] == ROW_MAYBE,
	   "narrow unless true");
	memset(rows, ROW_IN, VECTOR_GROUP);
	ok(vector_narrow(rows, out, VECTOR_IF_FALSE, VECTOR_GROUP) &&
	       rows[0] == ROW_OUT && rows[1] == ROW_IN && rows[2] == ROW_IN && rows[3] == ROW_MAYBE,
	   "narrow if false");
	memset(rows, ROW_IN, VECTOR_GROUP);
	rows[0] = ROW_MAYBE;
	ok(vector_narrow(rows, out, VECTOR_IF_TRUE, VECTOR_GROUP) &&
	       rows[0] == ROW_MAYBE && rows[1] == ROW_IN && rows[2] == ROW_OUT && rows[3] == ROW_MAYBE && rows[4] == ROW_IN,
	   "narrow if true");
	cpu_allow_avx2(true);
}

int
main(void)
{
	test_vectors(true);
	test_vectors(false);
	for (int portable = 0; portable < 2; portable++)
	{
		cpu_allow_avx2(!portable);
		test_select(spangen_realistic, 300, 0, 0);
		test_select(spangen_realistic, 40000, 1, portable ? 0 : SIZE_MAX / 2);
		test_select(spangen_adversarial, 700, 0, 100000);
		test_select(spangen_adversarial, 20000, 1, portable ? SIZE_MAX / 2 : 300000);
	}
	return tap_done();
}
