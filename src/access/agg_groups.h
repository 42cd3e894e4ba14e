/*-------------------------------------------------------------------------
 *
 * agg_groups.h
 *	  The groups of a custom aggregate and what is known of each so far.
 *
 * A group is a key, which stands for the values of the expressions that
 * classes give, a logarithm and a step of time.  While there are few, groups
 * are cells of an array with these three dimensions; when there
 * are many, only those that occur get a cell, found by hashing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_AGG_GROUPS_H
#define TEMPO_ACCESS_AGG_GROUPS_H

#include "postgres.h"

#include "access/agg.h"

/* Logarithms of a duration: 0 for what is below 2, else that of the power of two not below it. */
#define AGG_LOGS 65

typedef struct AggAccumulator
{
	int64 n; /* values that are not NULL */
	union
	{
#ifdef HAVE_INT128
		int128 integers;
#endif
		int64  integer; /* minimum, maximum */
		double number;
		struct
		{
			double sum;
			double squares;
		} floats;
	} value;
} AggAccumulator;

typedef struct AggGroup
{
	uint32 key;
	uint32 log;
	int64  step;
} AggGroup;

typedef struct AggGroups
{
	MemoryContext context;
	int           n_items;
	uint32        n_logs;     /* 1 or AGG_LOGS */
	int64         first_step; /* of the array */
	uint64        n_steps;    /* 1 if there is no step; 0: too many, or not known */

	/* keys */
	int          n_values;
	const Oid   *types;
	uint32       n_keys;
	uint32       keys_size;
	Datum       *values; /* n_values of each key */
	bool        *nulls;
	struct HTAB *keys;

	/* cells */
	bool            dense;
	uint64          n_cells; /* allocated if dense, else used */
	uint64          cells_size;
	uint64         *rows;   /* 0: no such group */
	uint32         *counts; /* room to count the rows of a block, of few cells */
	AggAccumulator *items;  /* n_items of each cell */
	AggGroup       *groups; /* if not dense */
	struct HTAB    *cells;
} AggGroups;

/* tempo_groups_init: "types" are those of the values that a key has */
extern void tempo_groups_init(AggGroups *groups, int n_items, bool logs, int n_values, const Oid *types);

/* tempo_groups_reset: none; steps are expected to be first_step and the next ones (n_steps = 0: any) */
extern void tempo_groups_reset(AggGroups *groups, int64 first_step, uint64 n_steps);

/* tempo_groups_key: the number of a key; copies the values if it is new */
extern uint32 tempo_groups_key(AggGroups *groups, const Datum *values, const bool *nulls);

/* tempo_groups_cells: the cells of n groups, which are made if need be; logs may be NULL, and steps if all are "step" */
extern void tempo_groups_cells(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs,
                               const int64 *steps, int64 step, uint32 *cells);

/*
 * tempo_groups_count: counts the rows, too.  If there are items, "cells" has the rows' cells then.
 */
extern void tempo_groups_count(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs,
                               const int64 *steps, int64 step, uint32 *cells);

/* tempo_groups_next: the next cell from *cell on that is a group; false if there is none */
extern bool tempo_groups_next(const AggGroups *groups, uint64 *cell, AggGroup *group);

/* tempo_accumulate_int, tempo_accumulate_float: one more value */
extern void tempo_accumulate_float(AggAccumulator *accumulator, AggFunction function, double value);

static inline void
tempo_accumulate_int(AggAccumulator *accumulator, AggFunction function, int64 value)
{
	int64 n = accumulator->n++;

	switch (function)
	{
#ifdef HAVE_INT128
		case AGG_SUM_INT:
			accumulator->value.integers += value;
			break;
#endif
		case AGG_MIN_INT:
			if (n == 0 || value < accumulator->value.integer)
				accumulator->value.integer = value;
			break;
		case AGG_MAX_INT:
			if (n == 0 || value > accumulator->value.integer)
				accumulator->value.integer = value;
			break;
		default:
			break;
	}
}

/* tempo_accumulated: the transition state, as a partial aggregation passes it on */
extern Datum tempo_accumulated(const AggAccumulator *accumulator, AggFunction function, bool *isnull);

#endif /* TEMPO_ACCESS_AGG_GROUPS_H */
