/*-------------------------------------------------------------------------
 *
 * scan_filter.h
 *	  Conditions that a custom scan decides on decoded spans, before rows are
 *	  made of them.
 *
 * scan_compile.c recognises conditions in expressions, scan_prune.c decides
 * them for a segment or block from its zone map, value sets and Bloom filters,
 * scan_conditions.c puts them so that segments decide them for rows not yet
 * decoded, scan_operands.c evaluates what they compare with, scan_value.c decides
 * them for a value and scan_filter.c for a span.  A condition is compiled only if
 * deciding it here gives what the executor would have got from the row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_SCAN_FILTER_H
#define TEMPO_ACCESS_SCAN_FILTER_H

#include "postgres.h"

#include "access/row.h"
#include "access/segment_source.h"
#include "nodes/execnodes.h"
#include "nodes/primnodes.h"
#include "segment/filter.h"
#include "segment/reader.h"
#include "segment/vector.h"

/* The relation whose columns the expressions name. */
typedef struct ScanTarget
{
	Index                 relid;
	const TempoColumnMap *map;
} ScanTarget;

typedef enum FilterType
{
	FILTER_AND,
	FILTER_OR,
	FILTER_NOT,
	FILTER_INT,        /* a time or duration against an integer */
	FILTER_TEXT,       /* a text column = or <> a text, or in a list */
	FILTER_ID,         /* an id = or <> an id, or in a list */
	FILTER_NULL,       /* a column or attribute is null */
	FILTER_JSON_TEXT,  /* attributes ->> key = or <> a text, or in a list */
	FILTER_CONTAINS,   /* attributes @> constant object */
	FILTER_CHILDREN,   /* events or links <> '[]', or = '[]' if negated */
	FILTER_EVENT_NAME, /* events @> '[{"name": constant}]' */
	FILTER_MATCH,      /* tempo.match() */
	FILTER_REGEX,      /* tempo.match_re() */
	FILTER_EXPRESSION  /* any expression of one text column or attribute */
} FilterType;

typedef enum FilterScope
{
	FILTER_SCOPE_COLUMN, /* not an attribute */
	FILTER_SCOPE_SPAN,
	FILTER_SCOPE_RESOURCE,
	FILTER_SCOPE_ANY,  /* the span's, else the resource's */
	FILTER_SCOPE_EVENT /* of any of the events, for MATCH and REGEX */
} FilterScope;

/* The three values of SQL. */
typedef enum FilterResult
{
	FILTER_FALSE,
	FILTER_TRUE,
	FILTER_UNKNOWN
} FilterResult;

/* Types that compare without a look into them. */
#define SCALAR_TYPES ((1U << ANY_STRING) | (1U << ANY_BOOL) | (1U << ANY_INT) | (1U << ANY_DOUBLE))

/* A pair of the object in attributes @> object. */
typedef struct FilterPair
{
	SpanText key;
	uint32   key_id; /* in the current batch */
	bool     plain;  /* the value is a string */
	AnyValue value;
	Datum    object; /* of this pair alone */
} FilterPair;

typedef struct FilterNode FilterNode;
struct FilterNode
{
	FilterType   type;
	FilterNode **children; /* AND, OR, NOT */
	int          n_children;

	/* leaves: what is compared */
	TempoColumn column;
	FilterScope scope;
	SpanText    key;
	FilterPair *pairs; /* CONTAINS */
	int         n_pairs;
	bool        null_is_empty; /* coalesce(column, '') */
	bool        negate;        /* IS NOT NULL; match_re's argument */
	bool        text_argument; /* match_re(text, ...) rather than jsonb */

	/* with what */
	MatchOp  op;
	bool     list; /* = ANY (array) */
	Expr    *operand;
	Oid      operand_type;
	Oid      function; /* of MATCH and REGEX */
	SpanText text;     /* EVENT_NAME */

	/* the operand's value, since the scan was started */
	ExprState   *operand_state;
	bool         operand_null;
	Datum        operand_datum;
	int64        number;
	int32        code; /* kind or status */
	bool         code_known;
	SpanText    *texts;
	int          n_texts;
	uint8       *ids; /* sorted */
	int          n_ids;
	bool         plain; /* "literal" is set */
	AnyValue     literal;
	FmgrInfo     fmgr;
	FmgrInfo     text_fmgr;  /* REGEX: tempo.match_re() of text; fn_oid is 0 if there is none */
	struct HTAB *memo;       /* EXPRESSION: results by value */
	ExprState   *expression; /* EXPRESSION */
	uint8        missing;    /* REGEX, EXPRESSION: result + 1 without a value; 0 = not known */

	/* by string, resource or scope of the current batch: result + 1 */
	uint8 *cache;
	uint32 cache_size;
	uint32 key_id;
};

/* What is known of a segment or a block. */
typedef struct FilterZone
{
	int64  min_start;
	int64  max_start;
	int64  max_duration; /* of durations clamped to 0 */
	int64  min_duration;
	int64  max_end;
	uint64 tenants; /* filter, 0 = not known */
} FilterZone;

typedef struct ScanFilter
{
	FilterNode           *root;   /* an AND */
	MemoryContext         values; /* operands */
	MemoryContext         caches; /* of the current batch */
	MemoryContext         scratch;
	const TempoColumnMap *map;
	ExprContext          *econtext; /* of EXPRESSION */
	TupleTableSlot       *slot;
	SpanBatch            *batch;
	uint64                generation;   /* of the batch that the caches are for; 0 = none */
	bool                  never;        /* no row can pass: an operand is NULL */
	SegmentTest           test;         /* the same conditions for segments */
	SegmentTest           rest_of_test; /* without the condition that tempo_filter_traces() is about */
} ScanFilter;

/*
 * What the rest of a plan node needs: columns (attribute numbers as in
 * pull_varattnos), and of "attributes" only some keys unless whole.
 */
typedef struct ScanNeeds
{
	Bitmapset *columns;
	bool       all_columns;
	bool       attributes; /* some or all of the span's attributes */
	bool       all_keys;
	List      *keys; /* of String nodes */
} ScanNeeds;

/* scan_compile.c */

/* tempo_is_function: is this function tempo."name"? */
extern bool tempo_is_function(Oid function, const char *name);

/* tempo_column_of: the span column that an expression is, or -1 */
extern int tempo_column_of(const Node *node, const ScanTarget *target);

extern bool        tempo_filter_recognise(Expr *clause, const ScanTarget *target);
extern ScanFilter *tempo_filter_create(List *clauses, const ScanTarget *target, PlanState *parent);
extern void        tempo_scan_needs(Node *expression, const ScanTarget *target, ScanNeeds *needs);
extern void        tempo_filter_needs(const ScanFilter *filter, uint32 *parts, List **keys);

/* scan_prune.c */
extern bool tempo_filter_zone(const ScanFilter *filter, const FilterZone *zone);
extern bool tempo_filter_segment(ScanFilter *filter, TempoOpenSegment *open);
extern void tempo_filter_bounds(const ScanFilter *filter, int64 *min_start, int64 *end_start, uint64 *tenants);

/* the trace ids that rows must have, from one of the ANDed conditions; NULL if any may */
extern const TraceId *tempo_filter_traces(const ScanFilter *filter, int *count);
extern int            tempo_filter_traces_node(const ScanFilter *filter);

/* scan_conditions.c: makes the test, in the current memory context */
extern void tempo_filter_test(ScanFilter *filter);

/* tempo_filter_vectorised: how many of the ANDed conditions do without decoded spans, overflow columns aside */
extern int tempo_filter_vectorised(const ScanFilter *filter);

/* scan_operands.c */

/* tempo_filter_start: evaluates the operands, for another scan */
extern void tempo_filter_start(ScanFilter *filter, ExprContext *econtext);

/* tempo_filter_has_id: is it one of those that the ids of a column are compared with? */
extern size_t tempo_filter_id_length(const FilterNode *node);
extern bool   tempo_filter_has_id(const FilterNode *node, const uint8 *id);

static inline SpanText
filter_text(Datum value)
{
	text *t = DatumGetTextPP(value);

	return span_text(VARDATA_ANY(t), (uint32) VARSIZE_ANY_EXHDR(t));
}

/* scan_value.c */
static inline FilterResult
filter_result(bool value)
{
	return value ? FILTER_TRUE : FILTER_FALSE;
}

/* tempo_filter_value: what the leaf says of a span that has this value there */
extern FilterResult tempo_filter_value(ScanFilter *filter, FilterNode *node, const AnyValue *value);

/* tempo_filter_eval: the same of MATCH, REGEX and EXPRESSION, and of a span that has none (NULL), too */
extern FilterResult tempo_filter_eval(ScanFilter *filter, FilterNode *node, const AnyValue *value);
extern FilterResult tempo_filter_json_text(ScanFilter *filter, const FilterNode *node, const AnyValue *value);
extern FilterResult tempo_filter_in_texts(const FilterNode *node, SpanText value);

/* tempo_filter_pair: does a span that has this value under the pair's key contain the pair? */
extern FilterResult tempo_filter_pair(ScanFilter *filter, const FilterNode *node, int pair, const AnyValue *value);

/* tempo_filter_compare_pair: the same, or unknown if it takes jsonb to say */
extern FilterResult tempo_filter_compare_pair(const FilterPair *pair, const AnyValue *value);
extern bool         tempo_filter_json_contains(ScanFilter *filter, AttributeList list, Datum object);

/* scan_filter.c */
extern FilterResult tempo_filter_leaf(ScanFilter *filter, FilterNode *node, const Span *span);

/* tempo_filter_attribute: the first attribute under a key, by its number in the batch; NULL if there is none */
extern const AnyValue *tempo_filter_attribute(uint32 key_id, AttributeList list);
extern void            tempo_filter_batch(ScanFilter *filter, SpanBatch *batch);
extern bool            tempo_filter_span(ScanFilter *filter, const Span *span);

/* next_undecided: moves *at on to the next ROW_MAYBE, which most blocks have none of; false if there is none */
static inline bool
next_undecided(const uint8 *verdicts, uint32 count, uint32 *at)
{
	const uint8 *next = *at < count ? memchr(verdicts + *at, ROW_MAYBE, count - *at) : NULL;

	*at = next != NULL ? (uint32) (next - verdicts) : count;
	return next != NULL;
}

#endif /* TEMPO_ACCESS_SCAN_FILTER_H */
