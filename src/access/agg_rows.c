/*-------------------------------------------------------------------------
 *
 * agg_rows.c
 *	  Adds rows to the groups of a custom aggregate: loops over arrays, which
 *	  is where the time of a large aggregation goes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/agg_state.h"

#include "common/int.h"
#include "segment/arrays.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

static inline TimestampTz
timestamp_of(int64 unix_nano)
{
	return unix_nano / 1000 - TEMPO_EPOCH_DIFF;
}

/* For date_bin(), the number of the bin; that of the origin is 0. */
static int64
bin_of(const AggKey *key, int64 start)
{
	TimestampTz time = timestamp_of(start);
	Interval    width = {.time = key->width};
	Datum       bin;

	if (time >= key->origin)
		return (time - key->origin) / key->width;
	bin = DirectFunctionCall3(timestamptz_bin, IntervalPGetDatum(&width), TimestampTzGetDatum(time),
	                          TimestampTzGetDatum(key->origin));
	return (DatumGetTimestampTz(bin) - key->origin) / key->width;
}

int64
tempo_agg_step(const AggKey *key, int64 start)
{
	int64 distance;

	if (key->type == AGG_KEY_BIN)
		return bin_of(key, start);
	if (pg_sub_s64_overflow(start, key->origin, &distance))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return distance / key->width;
}

/*
 * The step of each row.  Rows near each other mostly are in the same step, so
 * its bounds are kept.
 */
static void
find_steps(const AggKey *key, AggRows *rows)
{
	int64 unit = key->type == AGG_KEY_BIN ? 1000 : 1;
	int64 origin = key->type == AGG_KEY_BIN ? (key->origin + TEMPO_EPOCH_DIFF) * 1000 : key->origin;
	int64 step = 0;
	int64 low = 1; /* low .. high are in the step; none */
	int64 high = 0;

	for (uint32 i = 0; i < rows->n; i++)
	{
		int64 start = rows->starts[i];

		if (start < low || start > high)
		{
			int64 offset;
			int64 width;

			step = tempo_agg_step(key, start);
			low = high = start;
			/* before the origin, and at the ends of time, step by step */
			if (start >= origin && step >= 0 && start >= 0 &&
			    !pg_mul_s64_overflow(key->width, unit, &width) &&
			    !pg_mul_s64_overflow(width, step, &offset) &&
			    !pg_add_s64_overflow(origin, offset, &low) &&
			    pg_add_s64_overflow(low, width - 1, &high))
				high = start;
			if (low > start || high < start)
				low = high = start;
		}
		rows->steps[i] = step;
	}
}

static int64
value_of(const AggRows *rows, AggSource source, uint32 i)
{
	switch (source)
	{
		case AGG_SOURCE_START:
			return rows->starts[i];
		case AGG_SOURCE_START_TIME:
			return timestamp_of(rows->starts[i]);
		case AGG_SOURCE_END_TIME:
			return timestamp_of((int64) ((uint64) rows->starts[i] + (uint64) rows->durations[i]));
		case AGG_SOURCE_DURATION:
			return rows->durations[i];
		case AGG_SOURCE_DURATION_CLAMPED:
			return Max(rows->durations[i], 0);
		default:
			return 0;
	}
}

static bool
is_float(AggFunction function)
{
	return function == AGG_SUM_FLOAT || function == AGG_AVG_FLOAT || function == AGG_MIN_FLOAT ||
	       function == AGG_MAX_FLOAT;
}

/* Integers that stand in an array: in place for each function. */
static pg_attribute_always_inline void
add_integers(AggAccumulator *items, int n_items, const AggRows *rows, const int64 *values, AggFunction function)
{
	const uint32 *cells = rows->cells;
	uint32        n = rows->n;

	for (uint32 i = 0; i < n; i++)
		tempo_accumulate_int(items + (uint64) cells[i] * n_items, function, values[i]);
}

/* What every row has, and as it is; false if the term is about something else. */
static bool
accumulate_integers(TempoAggState *state, const AggTerm *term)
{
	const AggRows  *rows = &state->chosen;
	AggAccumulator *items = state->groups.items + term->number;
	int             n_items = state->groups.n_items;
	const int64    *values = term->item.source == AGG_SOURCE_START    ? rows->starts :
	                         term->item.source == AGG_SOURCE_DURATION ? rows->durations :
	                                                                    NULL;

	if (values == NULL || term->of_class)
		return false;
	switch (term->item.function)
	{
		case AGG_SUM_INT:
			add_integers(items, n_items, rows, values, AGG_SUM_INT);
			return true;
		case AGG_MIN_INT:
			add_integers(items, n_items, rows, values, AGG_MIN_INT);
			return true;
		case AGG_MAX_INT:
			add_integers(items, n_items, rows, values, AGG_MAX_INT);
			return true;
		default:
			return false;
	}
}

static void
accumulate(TempoAggState *state, int number)
{
	const AggTerm  *term = &state->terms[number];
	const AggRows  *rows = &state->chosen;
	const AggValue *given = state->evaluation.given + number;
	AggAccumulator *items = state->groups.items + term->number;
	int             n_items = state->groups.n_items;
	AggFunction     function = term->item.function;
	AggSource       source = term->item.source;
	int             n_terms = state->n_terms;
	bool            floats = is_float(function);

	if (accumulate_integers(state, term))
		return;
	for (uint32 i = 0; i < rows->n; i++)
	{
		AggAccumulator *item = items + (uint64) rows->cells[i] * n_items;
		const AggValue *value = term->of_class ? given + (uint64) rows->classes[i] * n_terms : NULL;

		if (value != NULL && value->skip)
			continue;
		if (!floats)
			tempo_accumulate_int(item, function, source == AGG_SOURCE_CLASS ? value->value.integer : value_of(rows, source, i));
		else
			tempo_accumulate_float(item, function, source == AGG_SOURCE_CLASS ? value->value.number : (double) value_of(rows, source, i));
	}
}

/* Without anything that tells the rows apart they are counted at once. */
static bool
add_alike(TempoAggState *state)
{
	AggRows *rows = &state->chosen;

	if (state->evaluation.needed || !rows->one_step || state->log != NULL)
		return false;
	for (int i = 0; i < state->n_terms; i++)
		if (!state->terms[i].of_rows)
			return false;
	tempo_groups_cells(&state->groups, 1, rows->keys, NULL, NULL, rows->step, rows->cells);
	state->groups.rows[rows->cells[0]] += rows->n;
	return true;
}

void
tempo_agg_rows(TempoAggState *state)
{
	AggRows *rows = &state->chosen;

	if (rows->n == 0 || add_alike(state))
		return;
	if (!rows->one_step)
		find_steps(state->step, rows);
	if (state->log != NULL)
		array_logs(rows->durations, rows->n, rows->logs);
	tempo_groups_count(&state->groups, rows->n, rows->keys, state->log != NULL ? rows->logs : NULL,
	                   rows->one_step ? NULL : rows->steps, rows->step, rows->cells);
	for (int i = 0; i < state->n_terms; i++)
		if (!state->terms[i].of_rows)
			accumulate(state, i);
}
