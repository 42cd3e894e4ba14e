/*-------------------------------------------------------------------------
 *
 * agg_state.h
 *	  The state of a custom aggregate, for the files that execute it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_AGG_STATE_H
#define TEMPO_ACCESS_AGG_STATE_H

#include "postgres.h"

#include "access/agg.h"
#include "access/agg_groups.h"
#include "access/scan_walk.h"

/* What a class gives to an aggregate. */
typedef struct AggValue
{
	bool skip; /* its argument is NULL, or the aggregate's filter not true */
	union
	{
		int64  integer;
		double number;
	} value;
} AggValue;

/* A column of the node's result. */
typedef struct AggOutput
{
	bool is_key;
	int  number; /* of the key or item */
	int  value;  /* of a key that classes give: its number among the key's values */
} AggOutput;

/* An aggregate, ready to be computed. */
typedef struct AggTerm
{
	AggItem    item;
	bool       of_rows;  /* count(*): the number of rows of the group */
	bool       of_class; /* classes have a say in it */
	int        number;   /* among the accumulators of a group, unless of_rows */
	ExprState *argument;
	ExprState *filter;
} AggTerm;

/* The key of a class that is not known: unlike keys, it has the highest bit. */
#define AGG_NO_KEY PG_UINT32_MAX

/* What classes are evaluated with. */
typedef struct AggEvaluation
{
	bool              needed; /* does anything depend on classes? */
	SegmentProjection projection;
	List             *keys; /* attribute keys, for EXPLAIN */
	TempoRowReader   *reader;
	ExprContext      *econtext;
	TupleTableSlot   *slot; /* a row of the table */
	MemoryContext     scratch;
	SpanAllocator     allocator;
	SpanBatch        *batch;
	int               n_values; /* of a key */
	ExprState       **values;
	Oid              *types;

	/* of the open segment */
	MemoryContext   segment_context;
	SpanAllocator   segment_allocator;
	SegmentClasses *classes;
	uint32         *key_of; /* by class: the key of the groups, or AGG_NO_KEY */
	AggValue       *given;  /* by class, n_terms each */
	uint32          known_size;
} AggEvaluation;

/* Some rows on their way to the groups: arrays of one entry each, as far as needed. */
typedef struct AggRows
{
	uint32        n;
	const uint32 *rows; /* in the block */
	const uint32 *classes;
	const int64  *starts;
	const int64  *durations;
	uint32       *keys;
	uint8        *logs;
	bool          one_step; /* all are in "step"; "steps" are not known */
	int64         step;
	int64        *steps;
	uint32       *cells;

	/* room for what is not used as it lies in a block */
	uint32 *own_rows;
	uint32 *all_rows; /* 0, 1, 2, ... */
	uint32 *own_classes;
	int64  *own_starts;
	int64  *own_durations;
} AggRows;

typedef struct TempoAggState
{
	CustomScanState   css; /* must be first */
	TempoColumnMap   *map;
	ScanTarget        target;
	List             *conditions;
	ScanFilter       *filter;
	SegmentProjection filter_projection;
	int               n_outputs;
	AggOutput        *outputs;
	int               n_terms;
	AggTerm          *terms;
	AggKey           *step; /* NULL: not grouped by it */
	AggKey           *log;
	ExprState        *log_value;
	bool              log_known[AGG_LOGS];
	bool              log_null[AGG_LOGS];
	Datum             log_values[AGG_LOGS];
	bool              needs_starts; /* for other things than the step */
	bool              needs_durations;
	AggEvaluation     evaluation;
	ScanWalk          walk;
	AggGroups         groups;

	/* where the node is */
	bool       started;
	bool       done;   /* all rows are in the groups */
	bool       giving; /* groups are given to the node above */
	uint64     next_cell;
	uint32     row; /* next block of the open segment */
	SpanBatch *filter_batch;
	uint8     *verdicts; /* of all rows of a block */
	uint32    *block_classes;
	AggRows    chosen;
	uint32     chosen_size;
} TempoAggState;

/* agg_classes.c */

/* tempo_agg_set_keys: the attribute keys of a projection, from a list of String nodes */
extern void tempo_agg_set_keys(SegmentProjection *projection, List *keys);

/* tempo_agg_prepare: compiles what is evaluated per class: "keys", and what the terms need */
extern void tempo_agg_prepare(TempoAggState *state, List *keys);

/* tempo_agg_close: the walk leaves a segment, or the groups are reset */
extern void tempo_agg_close(TempoAggState *state);

/* tempo_agg_classify: finds class and key of each chosen row of the block of "count" rows that begins at row "first" */
extern void tempo_agg_classify(TempoAggState *state, uint32 first, uint32 count);

/* tempo_agg_classify_spans: the same for spans in memory, each a class of its own */
extern void tempo_agg_classify_spans(TempoAggState *state, SpanBatch *batch);

/* tempo_agg_log: the value that a logarithm stands for */
extern Datum tempo_agg_log(TempoAggState *state, uint32 log, bool *isnull);

/* agg_rows.c */

/* tempo_agg_rows: adds the chosen rows to the groups */
extern void tempo_agg_rows(TempoAggState *state);

/* tempo_agg_step: the step of a start time */
extern int64 tempo_agg_step(const AggKey *key, int64 start);

#endif /* TEMPO_ACCESS_AGG_STATE_H */
