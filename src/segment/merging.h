/*-------------------------------------------------------------------------
 *
 * merging.h
 *	  What the files of a merge share: rows as numbers.
 *
 * merge_read.c makes rows of the blocks of the sources, merge_rare.c gives
 * them the columns that they have in a target, merge_write.c writes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_MERGING_H
#define TEMPO_SEGMENT_MERGING_H

#include "segment/column.h"
#include "segment/merge.h"
#include "segment/reading.h"
#include "segment/rows.h"
#include "span/batch.h"

/* The values of one column in all sources: texts once, by code; numbers have none. */
typedef struct Pool
{
	Column    column; /* the texts */
	uint32_t *entry;  /* for the current target: entry + 1 in its column by code, or 0 */
	uint32_t  n_entry;
	uint32_t  number; /* of the column in the target */
	uint64_t  serial; /* of the target that number is of */
} Pool;

/* What is left of the place of a value in a row that has it from its shape. */
#define MERGE_CONSTANT UINT32_MAX

typedef struct MergeItem
{
	uint32_t pool;
	bool     number; /* it is one of numbers */
	uint32_t at;     /* of the value in the row, or MERGE_CONSTANT */
	int64_t  value;  /* the constant: a number or a code */
} MergeItem;

/* A shape whatever its values: fields and an ordered list of columns, but for the parent. */
typedef struct MergeKind
{
	uint64_t        hash;
	uint8_t         table;
	uint32_t        fields[SHAPE_FIELDS];
	uint32_t        n_items;
	const uint32_t *pools;
	uint32_t        plain; /* the shape without constants; UINT32_MAX = not made yet */

	/* the current target */
	uint64_t serial;
	uint32_t rows;
	bool     rare;     /* has a column that the target does not have */
	uint32_t shape[3]; /* of the target, + 1; by how the parent is stored */
} MergeKind;

/* A shape of one source: a kind and the values that its rows share. */
typedef struct MergeShape
{
	MergeKind *kind;
	uint32_t   units; /* of the values in a row */
	uint32_t   n_items;
	uint32_t   n_varying;
	MergeItem *items;     /* as the kind's */
	uint32_t  *varying;   /* of the items */
	uint32_t   events;    /* item FIELD_N_EVENTS, or UINT32_MAX */
	uint32_t   links;     /* item FIELD_N_LINKS */
	uint32_t   overflow;  /* item of the overflow column */
	uint64_t   serial[3]; /* of the target in which the constants were compared, by parent */
} MergeShape;

/*
 * A row, followed by its values, its events, its links.  A value takes one
 * unit if it is a code and two if it is a number.
 */
typedef struct MergeRow
{
	int64_t  start;
	int64_t  end; /* as sent */
	SpanId   span_id;
	SpanId   parent;
	uint32_t trace;
	uint32_t shape;
	uint32_t values[];
} MergeRow;

/* Units before the values of an event: its shape and its time. */
#define EVENT_UNITS 3

/* Units before the values of a link: its shape and its ids. */
#define LINK_UNITS 7

typedef struct MergeTrace
{
	TraceId  id;
	uint32_t run; /* of the current target */
	uint64_t serial;
} MergeTrace;

/* What a source is read with. */
typedef struct MergeSource
{
	SegmentReader       *reader;
	Arena                arena;
	struct SourceShape **shapes[N_TABLES];
	uint32_t            *scopes;      /* of the batch; SPAN_BATCH_NONE = not yet */
	int64_t             *cutoffs;     /* by scope; NULL = none */
	uint32_t            *pools;       /* by column; UINT32_MAX = not yet */
	uint32_t           **codes;       /* by column, then by dictionary entry */
	uint32_t           **local_codes; /* by column, then by entry of the block's dictionary */
	uint32_t            *traces;      /* by rank; UINT32_MAX = not yet */
} MergeSource;

struct SegmentMerge
{
	SpanAllocator allocator;
	SpanBatch    *batch; /* strings, resources, scopes; no spans */
	Arena         arena; /* rows, texts, shapes */
	Buffer        rows;  /* of MergeRow * */
	Buffer        pools; /* of Pool * */
	Buffer        keys;  /* uint32_t[N_TABLES][8] by string id: pool + 1 of an attribute */
	Buffer        kinds; /* of MergeKind * */
	uint32_t     *kind_slots;
	uint32_t      n_kind_slots;
	Buffer        shapes; /* of MergeShape * */
	Buffer        traces; /* of MergeTrace */
	uint32_t     *trace_slots;
	uint32_t      n_trace_slots;
	MergeSource   source;
	Arena         block_arena; /* for one block */
	Arena         value_arena; /* for one nested value while it is checked */
	Buffer        units;       /* the row that is made */
	Buffer        scratch;
	Buffer        targets; /* uint32_t: end of each in rows */
	uint64_t      serial;  /* of the current target */
};

static inline MergeRow **
merge_rows(const SegmentMerge *m)
{
	return (MergeRow **) m->rows.data;
}

static inline Pool *
merge_pool(const SegmentMerge *m, uint32_t number)
{
	return ((Pool **) m->pools.data)[number];
}

static inline MergeShape *
merge_shape(const SegmentMerge *m, uint32_t number)
{
	return ((MergeShape **) m->shapes.data)[number];
}

static inline int64_t
units_number(const uint32_t *units)
{
	return (int64_t) ((uint64_t) units[0] | (uint64_t) units[1] << 32);
}

/* A value of a row: a number, or the code of a text. */
static inline int64_t
merge_value(const MergeItem *item, const uint32_t *values)
{
	if (item->at == MERGE_CONSTANT)
		return item->value;
	return item->number ? units_number(values + item->at) : values[item->at];
}

/* Events, or links, of a row. */
static inline uint32_t
merge_children(const MergeShape *shape, bool events, const uint32_t *values)
{
	uint32_t item = events ? shape->events : shape->links;

	return item == UINT32_MAX ? 0 : (uint32_t) merge_value(&shape->items[item], values);
}

static inline void
units_put(Buffer *units, uint32_t unit)
{
	buffer_put(units, &unit, sizeof(unit));
}

static inline void
units_put_number(Buffer *units, int64_t number)
{
	units_put(units, (uint32_t) (uint64_t) number);
	units_put(units, (uint32_t) ((uint64_t) number >> 32));
}

/* merge_read.c */

/* merge_attribute_pool: of an attribute's key (string id) and type; UINT32_MAX = no memory */
extern uint32_t merge_attribute_pool(SegmentMerge *m, TableId table, uint32_t key, uint8_t type);

/* merge_kind: interned; NULL = no memory */
extern MergeKind *merge_kind(SegmentMerge *m, TableId table, const uint32_t *fields, const uint32_t *pools, uint32_t n);

/* merge_add_shape: the caller sets what is constant, then calls merge_lay_out(); NULL = no memory */
extern MergeShape *merge_add_shape(SegmentMerge *m, MergeKind *kind, uint32_t *number);
extern void        merge_lay_out(MergeShape *shape);

/* merge_intern_value: as the number or the code that a row has */
extern bool merge_intern_value(SegmentMerge *m, Pool *pool, const AnyValue *in, int64_t *value, SpanError *error);

/* merge_rare.c: which columns a target has; rows whose shapes do not fit get others */
extern bool merge_settle_keys(SegmentMerge *m, uint32_t first, uint32_t end, ColumnSet *columns, SpanError *error);

#endif /* TEMPO_SEGMENT_MERGING_H */
