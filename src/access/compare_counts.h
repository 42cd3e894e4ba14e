/*-------------------------------------------------------------------------
 *
 * compare_counts.h
 *	  How often each value of each attribute occurs, by slot.
 *
 * Values are told apart as their labels in series are (tempo.label()): what
 * has no label of its own is a string there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPARE_COUNTS_H
#define TEMPO_ACCESS_COMPARE_COUNTS_H

#include "postgres.h"

#include "segment/tally.h"
#include "span/batch.h"

/* Places beside those of TallyPlace: what a span is in its trace. */
#define PLACE_ROOT_NAME (TALLY_SCOPE_VERSION + 1)
#define PLACE_ROOT_SERVICE (TALLY_SCOPE_VERSION + 2)
#define PLACE_CHILD_COUNT (TALLY_SCOPE_VERSION + 3)

typedef struct CountCell
{
	uint32 slot;
	uint64 n;
} CountCell;

typedef struct CountedAttribute CountedAttribute;

typedef struct CountedValue
{
	CountedAttribute    *attribute;
	struct CountedValue *next;  /* of the same attribute */
	CountCell           *cells; /* by slot */
	uint32               n_cells;
	uint32               capacity;
	uint32               last; /* the cell last counted in */
	uint32               len;
	uint8                type; /* STRING, INT, BOOL, DOUBLE; EMPTY: the text of a label */
	CountCell            first;
	char                 data[FLEXIBLE_ARRAY_MEMBER]; /* 8 bytes of numbers */
} CountedValue;

struct CountedAttribute
{
	int               place;
	SpanText          key;
	CountedValue     *values;
	CountedAttribute *next;
	uint32            number;
	uint32            hash;
};

typedef struct CountSlot
{
	CountedValue *value;
	uint32        hash; /* of the value, which may be far away */
} CountSlot;

typedef struct ValueCounts
{
	MemoryContext      context;
	MemoryContext      scratch;
	Size               limit; /* bytes of the context */
	char              *chunk;
	Size               left;
	CountSlot         *slots; /* a power of two, at most half of them in use */
	uint64             size;
	uint64             n_values;
	CountedAttribute  *attributes;
	uint32             n_attributes;
	CountedAttribute **by_name; /* a hash table: a power of two, at most half of it in use */
	uint32             by_name_size;
	Oid                label; /* tempo.label(jsonb) */
} ValueCounts;

/* tempo_counts_create: all memory comes from the context, up to tempo_pg.compare_memory */
extern ValueCounts *tempo_counts_create(MemoryContext context);

/* tempo_counts_alloc: memory that lives as long, never freed; raises at the limit */
extern void *tempo_counts_alloc(ValueCounts *counts, Size size);

/* tempo_counts_check: raises if "more" bytes would be too many */
extern void tempo_counts_check(ValueCounts *counts, Size more);

extern CountedAttribute *tempo_counts_attribute(ValueCounts *counts, int place, SpanText key);
extern CountedValue     *tempo_counts_value(ValueCounts *counts, CountedAttribute *attribute,
                                            const AnyValue *value);
extern void              tempo_counts_add(ValueCounts *counts, CountedValue *value, uint32 slot, uint64 n);

/* tempo_counts_sink: for segment/tally.h */
extern TallySink tempo_counts_sink(ValueCounts *counts);

/* tempo_counts_list: the first attribute under each key, with one row in the slot */
extern void tempo_counts_list(ValueCounts *counts, TallyPlace place, AttributeList list,
                              uint32 slot);

/* tempo_counts_span: all that segment_tally_block() counts of a row, of a span in memory */
extern void tempo_counts_span(ValueCounts *counts, const SpanBatch *batch, const Span *span,
                              uint32 slot);

/* tempo_counts_label: the value as JSON text, palloc'd */
extern char *tempo_counts_label(ValueCounts *counts, const CountedValue *value);

/* tempo_counts_compare: in the order of their labels' bytes */
extern int tempo_counts_compare(ValueCounts *counts, const CountedValue *a, const CountedValue *b);

#endif /* TEMPO_ACCESS_COMPARE_COUNTS_H */
