/*-------------------------------------------------------------------------
 *
 * tree.c
 *	  The tree that the spans of a trace make, and the operators that follow
 *	  it.
 *
 * Spans are numbered once, in one walk along their parent links, such that
 * the interval of a span contains those of all below it.  Spans that hang on
 * a span without parent come first, then those below a parent that is not
 * there.  Spans that are their own ancestors form cycles: a cycle is cut open
 * at one of its spans for the walk, and what that loses is looked up by the
 * number of the cycle.
 *
 * An operator takes time proportional to n log n of the spans it is given,
 * not of those in the trace, because there may be one spanset per span.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "miscadmin.h"
#include "traceql/engine.h"

typedef struct IdEntry
{
	uint64 id;
	int    span;
} IdEntry;

static int
compare_ids(const void *a, const void *b)
{
	const IdEntry *x = a;
	const IdEntry *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->span - y->span;
}

/* ------------------------------------------------------------ numbering */

static int
first_of_id(const IdEntry *ids, int n, uint64 id)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (ids[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * The span that a span's parent id means.  Client and server of one call may
 * share an id: servers then belong to the client, all others to the server.
 */
static int
resolve_parent(const TqlTrace *trace, const IdEntry *ids, const TqlSpan *span)
{
	int     n = trace->n_spans;
	int     i = first_of_id(ids, n, span->parent_id);
	TqlKind wanted = span->kind == TQL_KIND_SERVER ? TQL_KIND_CLIENT : TQL_KIND_SERVER;

	if (i >= n || ids[i].id != span->parent_id)
		return -1;
	if (i + 1 >= n || ids[i + 1].id != span->parent_id)
		return ids[i].span;
	for (; i < n && ids[i].id == span->parent_id; i++)
	{
		if (trace->spans[ids[i].span].kind == wanted)
			return ids[i].span;
	}
	return -1;
}

static void
link_spans(TqlTrace *trace)
{
	int      n = trace->n_spans;
	IdEntry *ids = palloc_extended(sizeof(IdEntry) * n, MCXT_ALLOC_HUGE);

	for (int i = 0; i < n; i++)
		ids[i] = (IdEntry){trace->spans[i].id, i};
	qsort(ids, n, sizeof(IdEntry), compare_ids);
	for (int i = 0; i + 2 < n; i++)
		trace->ambiguous |= ids[i].id == ids[i + 2].id;

	for (int i = 0; i < n; i++)
	{
		TqlNode *node = &trace->nodes[i];

		node->parent = trace->spans[i].has_parent ? resolve_parent(trace, ids, &trace->spans[i]) : -1;
		if (node->parent >= 0 && node->parent != i)
			trace->nodes[node->parent].children++;
	}
	pfree(ids);
}

/* Sets of siblings; only those who ask about them need these. */
static void
number_siblings(TqlTrace *trace)
{
	int      n = trace->n_spans;
	IdEntry *ids;

	if (trace->siblings_numbered)
		return;
	trace->siblings_numbered = true;
	ids = palloc_extended(sizeof(IdEntry) * n, MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
		ids[i] = (IdEntry){trace->spans[i].has_parent ? trace->spans[i].parent_id : 0, i};
	qsort(ids, n, sizeof(IdEntry), compare_ids);
	for (int i = 0; i < n; i++)
	{
		TqlNode *node = &trace->nodes[ids[i].span];

		if (!trace->spans[ids[i].span].has_parent)
			node->siblings = -1;
		else if (i > 0 && ids[i].id == ids[i - 1].id && trace->nodes[ids[i - 1].span].siblings >= 0)
			node->siblings = trace->nodes[ids[i - 1].span].siblings;
		else
			node->siblings = trace->n_siblings++;
	}
	pfree(ids);
}

typedef struct Walk
{
	TqlTrace *trace;
	int      *first_child; /* children of span i: child[first_child[i]] up to child[first_child[i + 1] - 1] */
	int      *child;
	int      *stack;
	int      *next; /* per span on the stack: place of the next child to visit */
	int       counter;
} Walk;

static void
list_children(Walk *walk)
{
	TqlTrace *trace = walk->trace;
	int       n = trace->n_spans;
	int       total = 0;

	for (int i = 0; i < n; i++)
	{
		walk->first_child[i] = walk->next[i] = total;
		total += trace->nodes[i].children;
	}
	walk->first_child[n] = total;
	for (int i = 0; i < n; i++)
	{
		int parent = trace->nodes[i].parent;

		if (parent >= 0 && parent != i)
			walk->child[walk->next[parent]++] = i;
	}
	memcpy(walk->next, walk->first_child, sizeof(int) * n);
}

/* Numbers a span that is not numbered yet and all below it. */
static void
number_below(Walk *walk, int top, bool connected, int cycle)
{
	TqlNode *nodes = walk->trace->nodes;
	int      depth = 0;

	walk->stack[depth++] = top;
	nodes[top].left = ++walk->counter;
	while (depth > 0)
	{
		int i = walk->stack[depth - 1];
		int child;

		nodes[i].connected = connected;
		nodes[i].cycle = cycle;
		if (walk->next[i] >= walk->first_child[i + 1])
		{
			nodes[i].right = ++walk->counter;
			depth--;
			continue;
		}
		child = walk->child[walk->next[i]++];
		if (nodes[child].left == 0)
		{
			nodes[child].left = ++walk->counter;
			walk->stack[depth++] = child;
		}
	}
}

/* Follows the parent links of a span that no walk from above reaches, to a cycle. */
static void
number_cycle(Walk *walk, int from)
{
	TqlTrace *trace = walk->trace;
	TqlNode  *nodes = trace->nodes;
	int       i = from;
	int       top;

	for (; trace->marks[i] == 0; i = nodes[i].parent)
		trace->marks[i] = 1;
	top = i;
	for (i = from; trace->marks[i] != 0; i = nodes[i].parent)
		trace->marks[i] = 0;
	i = top;
	do
	{
		nodes[i].on_cycle = true;
		i = nodes[i].parent;
	} while (i != top);
	number_below(walk, top, false, trace->n_cycles++);
}

void
tql_number_tree(TqlTrace *trace)
{
	Walk walk = {trace};
	int  n = trace->n_spans;

	if (trace->numbered)
		return;
	trace->numbered = true;
	trace->nodes = palloc0(sizeof(TqlNode) * n);
	trace->marks = palloc0(sizeof(int) * (n + 1));
	link_spans(trace);

	walk.first_child = palloc(sizeof(int) * (n + 1));
	walk.child = palloc(sizeof(int) * (n + 1));
	walk.stack = palloc(sizeof(int) * (n + 1));
	walk.next = palloc(sizeof(int) * (n + 1));
	list_children(&walk);
	for (int i = 0; i < n; i++)
	{
		if (!trace->spans[i].has_parent)
			number_below(&walk, i, true, -1);
	}
	for (int i = 0; i < n; i++)
	{
		if (trace->spans[i].has_parent && trace->nodes[i].parent < 0)
			number_below(&walk, i, false, -1);
	}
	for (int i = 0; i < n; i++)
	{
		if (trace->nodes[i].left == 0)
			number_cycle(&walk, i);
	}
	pfree(walk.first_child);
	pfree(walk.child);
	pfree(walk.stack);
	pfree(walk.next);
}

/* ------------------------------------------------------------ relations */

typedef enum Relation
{
	HAS_PARENT,
	HAS_ANCESTOR,
	HAS_CHILD,
	HAS_DESCENDANT,
	HAS_SIBLING
} Relation;

/* A span seen by the sweep over intervals */
typedef struct Place
{
	int left;
	int span;
	int wanted; /* place among those asked about, or -1 for one of the others */
} Place;

static int
compare_places(const void *a, const void *b)
{
	const Place *x = a;
	const Place *y = b;

	if (x->left != y->left)
		return x->left - y->left;
	return x->wanted - y->wanted;
}

static bool
is_own_parent(const TqlTrace *trace, int span)
{
	return trace->nodes[span].parent == span;
}

static void
related_by_parent(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, bool *found)
{
	for (int i = 0; i < others->n; i++)
		trace->marks[others->members[i]] = 1;
	for (int i = 0; i < of->n; i++)
	{
		int parent = trace->nodes[of->members[i]].parent;

		found[i] = parent >= 0 && parent != of->members[i] && trace->marks[parent] != 0;
	}
	for (int i = 0; i < others->n; i++)
		trace->marks[others->members[i]] = 0;
}

static void
related_by_child(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, bool *found)
{
	for (int pass = 1; pass >= 0; pass--)
	{
		for (int i = 0; i < others->n; i++)
		{
			int parent = trace->nodes[others->members[i]].parent;

			if (parent >= 0 && !is_own_parent(trace, others->members[i]))
				trace->marks[parent] = pass;
		}
		if (pass == 1)
		{
			for (int i = 0; i < of->n; i++)
				found[i] = trace->marks[of->members[i]] != 0;
		}
	}
}

static void
related_by_siblings(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, bool *found)
{
	int other = 0;

	for (int i = 0; i < others->n; i++)
	{
		int siblings = trace->nodes[others->members[i]].siblings;

		if (siblings >= 0)
			trace->marks[siblings]++;
	}
	for (int i = 0; i < of->n; i++)
	{
		int span = of->members[i];
		int siblings = trace->nodes[span].siblings;

		/* both are ascending; a span is not its own sibling */
		while (other < others->n && others->members[other] < span)
			other++;
		found[i] = siblings >= 0 &&
		           trace->marks[siblings] > (other < others->n && others->members[other] == span);
	}
	for (int i = 0; i < others->n; i++)
	{
		int siblings = trace->nodes[others->members[i]].siblings;

		if (siblings >= 0)
			trace->marks[siblings] = 0;
	}
}

/* Spans on a cycle are ancestors of all that hangs on it, and of each other. */
static void
related_by_cycle(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, bool descendants, bool *found)
{
	int other = 0;

	for (int pass = 1; pass >= 0; pass--)
	{
		for (int i = 0; i < others->n; i++)
		{
			const TqlNode *node = &trace->nodes[others->members[i]];

			if (node->cycle >= 0 && (descendants || node->on_cycle))
				trace->marks[node->cycle] = pass ? trace->marks[node->cycle] + 1 : 0;
		}
		if (pass == 0)
			break;
		for (int i = 0; i < of->n; i++)
		{
			int            span = of->members[i];
			const TqlNode *node = &trace->nodes[span];

			while (other < others->n && others->members[other] < span)
				other++;
			if (node->cycle < 0 || (descendants && !node->on_cycle))
				continue;
			found[i] |= trace->marks[node->cycle] >
			            (node->on_cycle && other < others->n && others->members[other] == span);
		}
	}
}

/* Ancestors and descendants: one sweep over the intervals in the order of their starts */
static void
related_by_intervals(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, bool descendants, bool *found)
{
	int    n = of->n + others->n;
	Place *places = palloc_extended(sizeof(Place) * n, MCXT_ALLOC_HUGE);
	int    bound = 0;

	for (int i = 0; i < others->n; i++)
		places[i] = (Place){trace->nodes[others->members[i]].left, others->members[i], -1};
	for (int i = 0; i < of->n; i++)
		places[others->n + i] = (Place){trace->nodes[of->members[i]].left, of->members[i], i};
	qsort(places, n, sizeof(Place), compare_places);

	if (descendants)
	{
		/* backwards: the next one to the right is inside, or none is */
		bound = PG_INT32_MAX;
		for (int i = n - 1; i >= 0; i--)
		{
			if (places[i].wanted >= 0)
				found[places[i].wanted] = bound < trace->nodes[places[i].span].right;
			else
				bound = places[i].left;
		}
	}
	else
	{
		/* forwards: the one to the left that ends last is around it, or none is */
		int pending = 0; /* end of the span at the same place */

		for (int i = 0; i < n; i++)
		{
			if (i > 0 && places[i].left != places[i - 1].left)
			{
				bound = Max(bound, pending);
				pending = 0;
			}
			if (places[i].wanted >= 0)
				found[places[i].wanted] = bound > trace->nodes[places[i].span].right;
			else
				pending = trace->nodes[places[i].span].right;
		}
	}
	pfree(places);
	if (trace->n_cycles > 0)
		related_by_cycle(trace, of, others, descendants, found);
}

/* For each span of "of": is one of "others" its parent, ancestor, ...? */
static bool *
related(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, Relation relation)
{
	bool *found = palloc0(Max(of->n, 1));

	switch (relation)
	{
		case HAS_PARENT:
			related_by_parent(trace, of, others, found);
			break;
		case HAS_CHILD:
			related_by_child(trace, of, others, found);
			break;
		case HAS_SIBLING:
			number_siblings(trace);
			related_by_siblings(trace, of, others, found);
			break;
		case HAS_ANCESTOR:
		case HAS_DESCENDANT:
			related_by_intervals(trace, of, others, relation == HAS_DESCENDANT, found);
			break;
	}
	return found;
}

static TqlGroup *
those_related(TqlTrace *trace, const TqlGroup *of, const TqlGroup *others, Relation relation, bool wanted)
{
	bool     *found = related(trace, of, others, relation);
	TqlGroup *result = palloc0(sizeof(TqlGroup));

	result->members = palloc(sizeof(int) * Max(of->n, 1));
	for (int i = 0; i < of->n; i++)
	{
		if (found[i] == wanted)
			result->members[result->n++] = of->members[i];
	}
	pfree(found);
	return result;
}

TqlGroup *
tql_structural(TqlTrace *trace, TqlOp op, const TqlGroup *left, const TqlGroup *right)
{
	static const struct
	{
		TqlOp    op;
		Relation relation;
		Relation reverse;
		enum
		{
			POSITIVE,
			NEGATED,
			UNION
		} form;
	} operators[] = {
		{TQL_GT, HAS_PARENT, HAS_CHILD, POSITIVE},
		{TQL_DESCENDANT, HAS_ANCESTOR, HAS_DESCENDANT, POSITIVE},
		{TQL_LT, HAS_CHILD, HAS_PARENT, POSITIVE},
		{TQL_ANCESTOR, HAS_DESCENDANT, HAS_ANCESTOR, POSITIVE},
		{TQL_SIBLING, HAS_SIBLING, HAS_SIBLING, POSITIVE},
		{TQL_NOT_CHILD, HAS_PARENT, HAS_CHILD, NEGATED},
		{TQL_NOT_DESCENDANT, HAS_ANCESTOR, HAS_DESCENDANT, NEGATED},
		{TQL_NOT_PARENT, HAS_CHILD, HAS_PARENT, NEGATED},
		{TQL_NOT_ANCESTOR, HAS_DESCENDANT, HAS_ANCESTOR, NEGATED},
		{TQL_NRE, HAS_SIBLING, HAS_SIBLING, NEGATED},
		{TQL_UNION_CHILD, HAS_PARENT, HAS_CHILD, UNION},
		{TQL_UNION_DESCENDANT, HAS_ANCESTOR, HAS_DESCENDANT, UNION},
		{TQL_UNION_PARENT, HAS_CHILD, HAS_PARENT, UNION},
		{TQL_UNION_ANCESTOR, HAS_DESCENDANT, HAS_ANCESTOR, UNION},
		{TQL_UNION_SIBLING, HAS_SIBLING, HAS_SIBLING, UNION},
	};

	TqlGroup *of_left;
	TqlGroup *of_right;
	TqlGroup *result;

	tql_number_tree(trace);
	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < lengthof(operators); i++)
	{
		if (operators[i].op != op)
			continue;
		if (operators[i].form != UNION)
			return those_related(trace, right, left, operators[i].relation, operators[i].form == POSITIVE);
		of_right = those_related(trace, right, left, operators[i].relation, true);
		of_left = those_related(trace, left, right, operators[i].reverse, true);
		result = tql_group_union(of_right, of_left);
		pfree(of_right->members);
		pfree(of_left->members);
		return result;
	}
	elog(ERROR, "unexpected operator between spansets: %s", tql_op_text(op));
	return NULL;
}
