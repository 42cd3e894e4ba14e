/*-------------------------------------------------------------------------
 *
 * agg_groups.c
 *	  Keeps the groups of a custom aggregate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/agg_groups.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "segment/arrays.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* The array takes at most so many bytes, and this part of the memory that groups may take. */
#define DENSE_BYTES (16 * 1024 * 1024)
#define DENSE_PART 4

/* The rows of a block are counted apart if there are at most so many cells. */
#define COUNTED_CELLS 4096

typedef struct KeyEntry
{
	SpanText image; /* the hash key */
	uint32   number;
} KeyEntry;

typedef struct CellEntry
{
	AggGroup group; /* the hash key */
	uint32   cell;
} CellEntry;

/* Cells that the array may have. */
static uint64
dense_limit(const AggGroups *groups)
{
	return Min(DENSE_BYTES, get_hash_memory_limit() / DENSE_PART) / (sizeof(uint64) + sizeof(AggAccumulator) * groups->n_items);
}

void
tempo_groups_init(AggGroups *groups, int n_items, bool logs, int n_values, const Oid *types)
{
	memset(groups, 0, sizeof(*groups));
	groups->context = AllocSetContextCreate(CurrentMemoryContext, "tempo groups", ALLOCSET_DEFAULT_SIZES);
	groups->n_items = n_items;
	groups->n_logs = logs ? AGG_LOGS : 1;
	groups->n_values = n_values;
	groups->types = types;
	groups->counts = palloc(sizeof(uint32) * COUNTED_CELLS * ARRAY_TABLES);
}

void
tempo_groups_reset(AggGroups *groups, int64 first_step, uint64 n_steps)
{
	MemoryContextReset(groups->context);
	groups->first_step = first_step;
	groups->n_steps = n_steps;
	groups->n_keys = groups->keys_size = 0;
	groups->values = NULL;
	groups->nulls = NULL;
	groups->keys = groups->cells = NULL;
	groups->dense = n_steps > 0 && n_steps <= dense_limit(groups) / groups->n_logs;
	groups->n_cells = groups->cells_size = 0;
	groups->rows = NULL;
	groups->items = NULL;
	groups->groups = NULL;
}

/*
 * Keys: equal if their bytes are.
 */

static uint32
image_hash(const void *key, Size size)
{
	const SpanText *image = key;

	return hash_bytes((const unsigned char *) image->data, (int) image->len);
}

static int
image_match(const void *a, const void *b, Size size)
{
	return span_text_equal(*(const SpanText *) a, *(const SpanText *) b) ? 0 : 1;
}

static void
append_value(StringInfo image, Datum value, bool isnull, Oid type)
{
	int16 typlen;
	bool  typbyval;
	int32 len;

	appendStringInfoChar(image, isnull ? 'n' : 'v');
	if (isnull)
		return;
	get_typlenbyval(type, &typlen, &typbyval);
	if (typbyval)
		appendBinaryStringInfo(image, (char *) &value, sizeof(Datum));
	else if (typlen == -1)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		len = VARSIZE_ANY_EXHDR(bytes);
		appendBinaryStringInfo(image, (char *) &len, sizeof(len));
		appendBinaryStringInfo(image, VARDATA_ANY(bytes), len);
	}
	else
	{
		len = (int32) datumGetSize(value, typbyval, typlen);
		appendBinaryStringInfo(image, (char *) &len, sizeof(len));
		appendBinaryStringInfo(image, DatumGetPointer(value), len);
	}
}

static void
make_keys(AggGroups *groups)
{
	HASHCTL control;

	control.keysize = sizeof(SpanText);
	control.entrysize = sizeof(KeyEntry);
	control.hash = image_hash;
	control.match = image_match;
	control.hcxt = groups->context;
	groups->keys = hash_create("tempo group keys", 256, &control,
	                           HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static void *
enlarge(AggGroups *groups, void *old, uint64 used, uint64 size, Size width)
{
	void *new = MemoryContextAllocExtended(groups->context, Max(size * width, 1),
	                                       MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	if (old != NULL)
	{
		memcpy(new, old, used * width);
		pfree(old);
	}
	return new;
}

static void
store_key(AggGroups *groups, uint32 number, const Datum *values, const bool *nulls)
{
	MemoryContext old;
	uint64        at = (uint64) number * groups->n_values;

	if (number >= groups->keys_size)
	{
		uint32 size = Max(64, groups->keys_size * 2);

		groups->values = enlarge(groups, groups->values, at, (uint64) size * groups->n_values, sizeof(Datum));
		groups->nulls = enlarge(groups, groups->nulls, at, (uint64) size * groups->n_values, sizeof(bool));
		groups->keys_size = size;
	}
	old = MemoryContextSwitchTo(groups->context);
	for (int i = 0; i < groups->n_values; i++)
	{
		int16 typlen;
		bool  typbyval;

		get_typlenbyval(groups->types[i], &typlen, &typbyval);
		groups->nulls[at + i] = nulls[i];
		groups->values[at + i] = nulls[i] ? (Datum) 0 : datumCopy(values[i], typbyval, typlen);
	}
	MemoryContextSwitchTo(old);
}

uint32
tempo_groups_key(AggGroups *groups, const Datum *values, const bool *nulls)
{
	StringInfoData buffer;
	SpanText       image;
	KeyEntry      *entry;
	bool           found;

	if (groups->keys == NULL)
		make_keys(groups);
	initStringInfo(&buffer);
	for (int i = 0; i < groups->n_values; i++)
		append_value(&buffer, values[i], nulls[i], groups->types[i]);
	image = span_text(buffer.data, (uint32) buffer.len);
	entry = hash_search(groups->keys, &image, HASH_ENTER, &found);
	if (!found)
	{
		char *copy = MemoryContextAlloc(groups->context, Max(buffer.len, 1));

		memcpy(copy, buffer.data, buffer.len);
		entry->image = span_text(copy, (uint32) buffer.len);
		if (groups->n_keys > PG_INT32_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many groups")));
		entry->number = groups->n_keys++;
		store_key(groups, entry->number, values, nulls);
	}
	pfree(buffer.data);
	return entry->number;
}

/*
 * Cells.
 */

static void
reserve_cells(AggGroups *groups, uint64 count)
{
	uint64 size;

	if (count <= groups->cells_size)
		return;
	if (count >= PG_UINT32_MAX / 2)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many groups")));
	size = Max(count, groups->cells_size * 2);
	groups->rows = enlarge(groups, groups->rows, groups->n_cells, size, sizeof(uint64));
	if (groups->n_items > 0)
		groups->items = enlarge(groups, groups->items, groups->n_cells * groups->n_items,
		                        size * groups->n_items, sizeof(AggAccumulator));
	if (!groups->dense)
		groups->groups = enlarge(groups, groups->groups, groups->n_cells, size, sizeof(AggGroup));
	groups->cells_size = size;
}

/* Makes room for all keys in the array. */
static void
reserve_dense(AggGroups *groups)
{
	uint64 count = groups->n_keys * groups->n_steps * groups->n_logs;

	reserve_cells(groups, count);
	groups->n_cells = count;
}

static uint32
sparse_cell(AggGroups *groups, uint32 key, uint32 log, int64 step)
{
	AggGroup   group = {key, log, step};
	CellEntry *entry;
	bool       found;

	if (groups->cells == NULL)
	{
		HASHCTL control;

		control.keysize = sizeof(AggGroup);
		control.entrysize = sizeof(CellEntry);
		control.hcxt = groups->context;
		groups->cells = hash_create("tempo groups", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(groups->cells, &group, HASH_ENTER, &found);
	if (!found)
	{
		reserve_cells(groups, groups->n_cells + 1);
		entry->cell = (uint32) groups->n_cells++;
		groups->groups[entry->cell] = group;
	}
	return entry->cell;
}

static void
make_sparse(AggGroups *groups)
{
	AggGroups old = *groups;
	AggGroup  group;

	groups->dense = false;
	groups->n_cells = groups->cells_size = 0;
	groups->rows = NULL;
	groups->items = NULL;
	for (uint64 cell = 0; tempo_groups_next(&old, &cell, &group); cell++)
	{
		uint32 to = sparse_cell(groups, group.key, group.log, group.step);

		groups->rows[to] = old.rows[cell];
		if (groups->n_items > 0)
			memcpy(&groups->items[(uint64) to * groups->n_items], &old.items[cell * groups->n_items],
			       sizeof(AggAccumulator) * groups->n_items);
	}
	if (old.rows != NULL)
		pfree(old.rows);
	if (old.items != NULL)
		pfree(old.items);
}

/* Not more in the array than it may have. */
static void
limit_dense(AggGroups *groups)
{
	if (groups->dense && groups->n_keys > dense_limit(groups) / (groups->n_steps * groups->n_logs))
		make_sparse(groups);
}

static void
sparse_cells(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs, const int64 *steps, int64 step,
             uint32 *cells)
{
	for (uint32 i = 0; i < n; i++)
	{
		uint8 log = logs != NULL ? logs[i] : 0;
		int64 at = steps != NULL ? steps[i] : step;

		if (i > 0 && keys[i] == keys[i - 1] && (logs == NULL || log == logs[i - 1]) &&
		    (steps == NULL || at == steps[i - 1]))
			cells[i] = cells[i - 1];
		else
			cells[i] = sparse_cell(groups, keys[i], log, at);
	}
}

/* False if a step is outside the array. */
static bool
dense_cells(const AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs, const int64 *steps,
            int64 step, uint32 *cells)
{
	uint32 n_logs = groups->n_logs;
	uint32 n_steps = (uint32) groups->n_steps;
	uint64 largest = steps != NULL ? 0 : (uint64) step - (uint64) groups->first_step;
	uint32 base = (uint32) largest;

	array_places(keys, logs, n, n_logs, n_steps, base, cells);
	if (steps != NULL)
		for (uint32 i = 0; i < n; i++)
		{
			uint64 at = (uint64) steps[i] - (uint64) groups->first_step;

			largest = Max(largest, at);
			cells[i] += (uint32) at;
		}
	return largest < groups->n_steps;
}

void
tempo_groups_cells(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs, const int64 *steps,
                   int64 step, uint32 *cells)
{
	limit_dense(groups);
	if (groups->dense)
	{
		reserve_dense(groups);
		if (dense_cells(groups, n, keys, logs, steps, step, cells))
			return;
		/* a zone map was wrong about the times */
		make_sparse(groups);
	}
	sparse_cells(groups, n, keys, logs, steps, step, cells);
}

/*
 * Of rows in one step the array has but every n_steps-th cell.  False if that
 * does not help, or the cells have to be known.
 */
static bool
count_in_step(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs, int64 step, uint32 *cells)
{
	uint64 at = (uint64) step - (uint64) groups->first_step;
	uint64 columns = (uint64) groups->n_keys * groups->n_logs;

	limit_dense(groups);
	if (!groups->dense || groups->n_items > 0 || at >= groups->n_steps || columns > COUNTED_CELLS)
		return false;
	reserve_dense(groups);
	array_places(keys, logs, n, groups->n_logs, 1, 0, cells);
	array_count(cells, n, groups->counts, (uint32) columns);
	for (uint64 i = 0; i < columns; i++)
		groups->rows[i * groups->n_steps + at] += groups->counts[i];
	return true;
}

void
tempo_groups_count(AggGroups *groups, uint32 n, const uint32 *keys, const uint8 *logs, const int64 *steps, int64 step,
                   uint32 *cells)
{
	uint64 *rows;

	if (steps == NULL && count_in_step(groups, n, keys, logs, step, cells))
		return;
	tempo_groups_cells(groups, n, keys, logs, steps, step, cells);
	rows = groups->rows;
	if (groups->n_cells <= COUNTED_CELLS)
	{
		array_count(cells, n, groups->counts, (uint32) groups->n_cells);
		for (uint64 i = 0; i < groups->n_cells; i++)
			rows[i] += groups->counts[i];
	}
	else
		for (uint32 i = 0; i < n; i++)
			rows[cells[i]]++;
}

bool
tempo_groups_next(const AggGroups *groups, uint64 *cell, AggGroup *group)
{
	uint64 at = *cell;

	while (at < groups->n_cells && groups->rows[at] == 0)
		at++;
	*cell = at;
	if (at >= groups->n_cells)
		return false;
	if (!groups->dense)
	{
		*group = groups->groups[at];
		return true;
	}
	group->step = groups->first_step + (int64) (at % groups->n_steps);
	group->log = (uint32) (at / groups->n_steps % groups->n_logs);
	group->key = (uint32) (at / groups->n_steps / groups->n_logs);
	return true;
}

/*
 * Accumulators: what float8pl(), float8_accum(), float8_smaller() and
 * float8_larger() would have made of the values.
 */

static void
add_square(AggAccumulator *accumulator, double value)
{
	double n = (double) accumulator->n;
	double before = accumulator->value.floats.sum;
	double sum = before + value;
	double squares = accumulator->value.floats.squares;

	if (accumulator->n > 1)
	{
		double difference = value * n - sum;

		squares += difference * difference / (n * (n - 1));
		if (isinf(sum) || isinf(squares))
		{
			if (!isinf(before) && !isinf(value))
				float_overflow_error();
			squares = get_float8_nan();
		}
	}
	else if (isnan(value) || isinf(value))
		squares = get_float8_nan();
	accumulator->value.floats.sum = sum;
	accumulator->value.floats.squares = squares;
}

void
tempo_accumulate_float(AggAccumulator *accumulator, AggFunction function, double value)
{
	int64 n = accumulator->n++;

	switch (function)
	{
		case AGG_SUM_FLOAT:
			accumulator->value.number = n == 0 ? value : float8_pl(accumulator->value.number, value);
			break;
		case AGG_AVG_FLOAT:
			add_square(accumulator, value);
			break;
		case AGG_MIN_FLOAT:
			if (n == 0 || float8_lt(value, accumulator->value.number))
				accumulator->value.number = value;
			break;
		case AGG_MAX_FLOAT:
			if (n == 0 || float8_gt(value, accumulator->value.number))
				accumulator->value.number = value;
			break;
		default:
			break;
	}
}

#ifdef HAVE_INT128
/* What int8_avg_serialize() sends: the count, and the sum as digits to the base of 10,000. */
static Datum
serialize_sum(const AggAccumulator *accumulator)
{
	bool           negative = accumulator->value.integers < 0;
	uint128        rest = (uint128) accumulator->value.integers;
	int16          digits[10];
	int            n = 0;
	StringInfoData out;

	if (negative)
		rest = -rest;
	for (; rest > 0; rest /= 10000)
		digits[n++] = (int16) (rest % 10000);
	pq_begintypsend(&out);
	pq_sendint64(&out, accumulator->n);
	pq_sendint32(&out, n);
	pq_sendint32(&out, n > 0 ? n - 1 : 0);
	pq_sendint32(&out, negative ? 0x4000 : 0);
	pq_sendint32(&out, 0);
	while (n > 0)
		pq_sendint16(&out, digits[--n]);
	return PointerGetDatum(pq_endtypsend(&out));
}
#endif

Datum
tempo_accumulated(const AggAccumulator *accumulator, AggFunction function, bool *isnull)
{
	Datum floats[3];

	*isnull = accumulator->n == 0 && function != AGG_COUNT && function != AGG_AVG_FLOAT;
	if (*isnull)
		return (Datum) 0;
	switch (function)
	{
		case AGG_COUNT:
			return Int64GetDatum(accumulator->n);
#ifdef HAVE_INT128
		case AGG_SUM_INT:
			return serialize_sum(accumulator);
#endif
		case AGG_MIN_INT:
		case AGG_MAX_INT:
			return Int64GetDatum(accumulator->value.integer);
		case AGG_AVG_FLOAT:
			floats[0] = Float8GetDatum((double) accumulator->n);
			floats[1] = Float8GetDatum(accumulator->value.floats.sum);
			floats[2] = Float8GetDatum(accumulator->value.floats.squares);
			return PointerGetDatum(construct_array(floats, 3, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		default:
			return Float8GetDatum(accumulator->value.number);
	}
}
