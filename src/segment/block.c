/*-------------------------------------------------------------------------
 *
 * block.c
 *	  Loads the columns of one block.
 *
 * Every count is checked against the shapes of the block's rows here, once,
 * so that decode.c may take values without looking.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reading.h"

#include "segment/arrays.h"
#include "segment/column.h"
#include "segment/pack.h"

bool
segment_load_runs(SegmentReader *r, SpanError *error)
{
	Section  section;
	Cursor   c;
	uint32_t row = 0;
	uint64_t base = 0;

	if (r->runs_loaded)
		return true;
	if (!segment_section(r, SECTION(STREAM_RUNS, r->block), false, &section, error))
		return false;
	c = cursor_over(section.data, section.len);
	r->n_runs = cursor_count(&c, 3);
	r->runs = arena_alloc(&r->block_arena, (size_t) r->n_runs * sizeof(ReadRun));
	if (r->runs == NULL)
		return segment_no_memory(error);
	for (uint32_t i = 0; i < r->n_runs; i++)
		r->runs[i].rank = cursor_number(&c, r->summary.traces);
	for (uint32_t i = 0; i < r->n_runs; i++)
	{
		r->runs[i].first = row;
		r->runs[i].count = cursor_number(&c, r->block_rows - row);
		row += r->runs[i].count;
	}
	for (uint32_t i = 0; i < r->n_runs; i++)
	{
		base += (uint64_t) unzigzag(cursor_varint(&c));
		r->runs[i].base = (int64_t) base;
	}
	if (c.failed || row != r->block_rows || cursor_left(&c) != 0)
		return segment_corrupt(error, "bad trace runs");
	r->runs_loaded = true;
	return true;
}

uint32_t
segment_run_of(const SegmentReader *r, uint32_t row)
{
	uint32_t low = 0;
	uint32_t high = r->n_runs;

	while (high - low > 1)
	{
		uint32_t mid = low + (high - low) / 2;

		if (r->runs[mid].first <= row)
			low = mid;
		else
			high = mid;
	}
	/* those without rows begin where the next one does */
	while (r->runs[low].first + r->runs[low].count <= row)
		low++;
	return low;
}

void
segment_load_block(SegmentReader *r, uint32_t block)
{
	if (r->block == block)
		return;
	segment_drop_block_frames(r);
	arena_reset(&r->block_arena);
	r->runs_loaded = false;
	r->marks = NULL;
	r->part_loads = 0;
	r->starts = r->durations = r->event_times = NULL;
	r->span_ids.data = r->link_ids.data = NULL;
	for (int t = 0; t < N_TABLES; t++)
	{
		r->tables[t].row_shapes = NULL;
		r->tables[t].histogram = NULL;
		r->tables[t].loaded = false;
		r->tables[t].next = 0;
	}
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		r->columns[i].loaded = false;
		r->columns[i].payload_copy = NULL;
		r->columns[i].local_copies = NULL;
		r->columns[i].cursor = 0;
		r->columns[i].base = r->columns[i].limit = 0;
		r->columns[i].part_loads = 0;
		r->columns[i].n_values = 0;
	}
	r->block_rows = block + 1 == r->n_blocks ? r->summary.rows - block * IMAGE_BLOCK_ROWS : IMAGE_BLOCK_ROWS;
	r->block = block;
	r->block_serial++;
}

/* Adds the values that "times" rows of a shape have to what "counter" counts. */
static bool
count_values(SegmentReader *r, const ReadShape *shape, uint32_t times)
{
	for (uint32_t i = 0; i < shape->n_values; i++)
	{
		ReadColumn *column = &r->columns[shape->values[i]];

		if (times > INT32_MAX - column->n_values)
			return false;
		column->n_values += times;
	}
	return true;
}

void *
segment_decoded_memory(SegmentReader *r, size_t size, void **place)
{
	if (r->hot_used + size <= r->hot_limit)
	{
		*place = r->allocator.alloc(r->allocator.arg, size);
		if (*place != NULL)
		{
			r->hot_used += size;
			return *place;
		}
	}
	return arena_alloc(&r->block_arena, size);
}

void
segment_forget_decoded(SegmentReader *r, void **place)
{
	if (*place != NULL)
		r->allocator.release(r->allocator.arg, *place);
	*place = NULL;
}

HotBlock *
segment_hot_block(SegmentReader *r)
{
	static const HotBlock none = {NULL, NULL, NULL, NULL};

	if (r->hot == NULL && r->hot_limit > 0)
	{
		r->hot = arena_alloc0(&r->arena, (size_t) r->n_blocks * sizeof(HotBlock));
		if (r->hot == NULL)
			r->hot_limit = 0;
	}
	if (r->hot != NULL)
		return &r->hot[r->block];
	r->not_hot = none;
	return &r->not_hot;
}

bool
segment_load_row_shapes(SegmentReader *r, TableId table, SpanError *error)
{
	ReadTable *t = &r->tables[table];
	HotBlock  *hot = segment_hot_block(r);
	void      *unused = NULL;
	void     **place = table == TABLE_SPAN ? (void **) &hot->row_shapes : &unused;
	int        width = code_width(t->n_shapes);
	Section    section;
	size_t     size;
	bool       kept;

	if (t->row_shapes != NULL)
		return true;
	if (*place != NULL)
	{
		r->counters.columns_kept++;
		t->row_shapes = *place;
		t->n_rows = r->block_rows;
		return true;
	}
	if (!segment_section(r, SECTION(STREAM_ROW_SHAPES + table, r->block), false, &section, error))
		return false;
	r->counters.columns++;
	t->n_rows = section.len / width;
	if (table == TABLE_SPAN && t->n_rows != r->block_rows)
		return segment_corrupt(error, "bad row shapes");
	size = ((size_t) t->n_rows + 1) * sizeof(uint32_t);
	/* who reads few rows of many blocks has more from unpacked frames than from what scans keep */
	kept = table == TABLE_SPAN && (!r->keep_frames || (r->hot_used + size) * 8 <= r->hot_limit);
	t->row_shapes = kept ? segment_decoded_memory(r, size, place) : arena_alloc(&r->block_arena, size);
	if (t->row_shapes == NULL)
		return segment_no_memory(error);
	if (!unpack_numbered(section.data, section.len, t->row_shapes, t->n_rows, t->n_shapes))
	{
		segment_forget_decoded(r, place);
		t->row_shapes = NULL;
		return segment_corrupt(error, "bad row shapes");
	}
	return true;
}

bool
segment_count_shapes(SegmentReader *r, TableId table, SpanError *error)
{
	ReadTable *t = &r->tables[table];

	if (t->histogram != NULL)
		return true;
	if (!segment_load_row_shapes(r, table, error))
		return false;
	t->histogram = arena_alloc(&r->block_arena, array_count_room(t->n_rows, t->n_shapes) * sizeof(uint32_t));
	if (t->histogram == NULL)
		return segment_no_memory(error);
	array_count(t->row_shapes, t->n_rows, t->histogram, t->n_shapes);
	return true;
}

bool
segment_load_rows(SegmentReader *r, TableId table, SpanError *error)
{
	ReadTable *t = &r->tables[table];

	if (t->loaded)
		return true;
	if (!segment_count_shapes(r, table, error))
		return false;
	t->seek_counts = arena_alloc(&r->block_arena, (size_t) t->n_shapes * sizeof(uint32_t));
	if (t->seek_counts == NULL)
		return segment_no_memory(error);
	for (uint32_t i = 0; i < r->n_columns; i++)
		if (r->columns[i].table == table)
			r->columns[i].n_values = r->columns[i].cursor = 0;
	for (uint32_t i = 0; i < t->n_shapes; i++)
	{
		if (t->histogram[i] == 0)
			continue;
		if (!segment_load_shape(r, table, &t->shapes[i], error))
			return false;
		if (!count_values(r, &t->shapes[i], t->histogram[i]))
			return segment_corrupt(error, "too many values");
	}
	/* the cursors of events and links may be those of a row that was found by its mark */
	t->next = table == TABLE_SPAN ? UINT32_MAX : 0;
	t->loaded = true;
	return true;
}

/* The columns of the current projection that have a value for each row of the shape. */
static bool
list_varying(SegmentReader *r, ReadShape *shape)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < shape->n_values; k++)
		n += r->columns[shape->values[k]].wanted;
	shape->varying = arena_alloc(&r->projection_arena, ((size_t) n + 1) * sizeof(uint32_t));
	if (shape->varying == NULL)
		return false;
	shape->n_varying = 0;
	for (uint32_t k = 0; k < shape->n_values; k++)
		if (r->columns[shape->values[k]].wanted)
			shape->varying[shape->n_varying++] = shape->values[k];
	return true;
}

/* Moves the cursors over so many rows of one shape. */
static inline bool
move_cursors(SegmentReader *r, ReadShape *shape, uint32_t times)
{
	if (shape->varying == NULL && !list_varying(r, shape))
		return false;
	for (uint32_t k = 0; k < shape->n_varying; k++)
		r->columns[shape->varying[k]].cursor += times;
	return true;
}

/* Moves over fewer rows are made row by row, others by shape; from a mark, too. */
#define SEEK_BY_ROW 64

bool
segment_seek(SegmentReader *r, TableId table, uint32_t row, SpanError *error)
{
	ReadTable *t = &r->tables[table];
	uint32_t   from = t->next;
	bool       ok = true;

	if (from > row)
	{
		from = 0;
		for (uint32_t i = 0; i < r->n_columns; i++)
			if (r->columns[i].table == table)
				r->columns[i].cursor = 0;
	}
	t->next = UINT32_MAX;
	if (row - from < SEEK_BY_ROW || !t->loaded)
	{
		for (uint32_t i = from; i < row && ok; i++)
			ok = move_cursors(r, &t->shapes[t->row_shapes[i]], 1);
	}
	else
	{
		memset(t->seek_counts, 0, (size_t) t->n_shapes * sizeof(uint32_t));
		for (uint32_t i = from; i < row; i++)
			t->seek_counts[t->row_shapes[i]]++;
		for (uint32_t i = 0; i < t->n_shapes && ok; i++)
			if (t->seek_counts[i] > 0)
				ok = move_cursors(r, &t->shapes[i], t->seek_counts[i]);
	}
	if (!ok)
		return segment_no_memory(error);
	t->next = row;
	return true;
}

/*
 * Values first .. end - 1 of a column, which are all unless only few rows are
 * wanted.  What is loaded of a column is checked; of the rest only as much as it
 * takes to find these.
 */

static inline bool
is_whole(const ReadColumn *column)
{
	return column->base == 0 && column->limit == column->n_values;
}

static bool
load_numbers(SegmentReader *r, ReadColumn *column, const Section *data, SpanError *error)
{
	uint32_t n = column->n_values;
	bool     good;

	/* every encoding takes a byte per number at least */
	if (data->len < n)
		return segment_corrupt(error, "bad column");
	column->numbers = arena_alloc(&r->block_arena, (size_t) (column->limit - column->base) * sizeof(int64_t));
	if (column->numbers == NULL)
		return segment_no_memory(error);
	column->form = FORM_NUMBERS;
	if (is_whole(column))
		good = unpack_numbers(data->data, data->len, column->payload.data, column->payload.len, column->numbers, n);
	else
		good = unpack_some_numbers(data->data, data->len, column->payload.data, column->payload.len,
		                           column->numbers, n, column->base, column->limit);
	return good ? true : segment_corrupt(error, "bad column");
}

/* The places of texts first .. end - 1 in the payload. */
static bool
load_lengths(SegmentReader *r, ReadColumn *column, Cursor *c, uint32_t first, uint32_t end, SpanError *error)
{
	uint32_t n = column->n_texts;
	uint32_t at = 0;

	if (cursor_left(c) < n)
		return segment_corrupt(error, "bad column");
	column->offsets = arena_alloc(&r->block_arena, ((size_t) (end - first) + 1) * sizeof(uint32_t));
	if (column->offsets == NULL)
		return segment_no_memory(error);
	for (uint32_t i = 0; i < end; i++)
	{
		if (i >= first)
			column->offsets[i - first] = at;
		if (c->at < c->end && *c->at < 0x80)
		{
			uint32_t len = *c->at++;

			if (len > column->payload.len - at)
				return segment_corrupt(error, "bad column");
			at += len;
		}
		else
			at += cursor_number(c, column->payload.len - at);
	}
	column->offsets[end - first] = at;
	if (c->failed || (end == n && (at != column->payload.len || cursor_left(c) != 0)))
		return segment_corrupt(error, "bad column");
	return true;
}

static bool
load_local_codes(SegmentReader *r, ReadColumn *column, Cursor *c, SpanError *error)
{
	uint32_t       n = column->n_values;
	uint32_t       loaded = column->limit - column->base;
	uint64_t       len;
	const uint8_t *planes;
	bool           good;

	column->n_texts = cursor_number(c, n);
	len = (uint64_t) n * code_width(column->n_texts);
	planes = cursor_bytes(c, len);
	if (planes == NULL)
		return segment_corrupt(error, "bad column");
	column->codes = arena_alloc(&r->block_arena, ((size_t) loaded + 1) * sizeof(uint32_t));
	if (column->codes == NULL)
		return segment_no_memory(error);
	column->codes[loaded] = 0;
	if (is_whole(column))
		good = unpack_codes(planes, (size_t) len, column->codes, n, column->n_texts);
	else
		good = unpack_some_codes(planes, (size_t) len, column->codes, n, column->n_texts, column->base, column->limit);
	return good ? true : segment_corrupt(error, "bad column");
}

static bool
load_texts(SegmentReader *r, ReadColumn *column, const Section *data, SpanError *error)
{
	Cursor   c = cursor_over(data->data, data->len);
	uint8_t  encoding = cursor_u8(&c);
	uint64_t width = 0;

	column->n_texts = column->n_values;
	column->local = encoding == ENCODING_LOCAL;
	if (column->local)
	{
		if (!load_local_codes(r, column, &c, error))
			return false;
		encoding = cursor_u8(&c);
	}
	switch (encoding)
	{
		case ENCODING_LENGTHS:
			column->form = FORM_LENGTHS;
			/* any text of the block's dictionary may be asked for */
			return load_lengths(r, column, &c, column->local ? 0 : column->base,
			                    column->local ? column->n_texts : column->limit, error);
		case ENCODING_FIXED:
			column->form = FORM_FIXED;
			column->fixed_len = cursor_number(&c, UINT32_MAX);
			width = column->fixed_len;
			break;
		case ENCODING_UUID:
			if (column->type != ANY_STRING)
				return segment_corrupt(error, "unknown encoding");
			column->form = FORM_UUID;
			column->fixed_len = 36;
			width = 16;
			break;
		case ENCODING_HEX:
			if (column->type != ANY_STRING)
				return segment_corrupt(error, "unknown encoding");
			column->form = FORM_HEX;
			column->fixed_len = cursor_number(&c, UINT32_MAX) & ~1U;
			width = column->fixed_len / 2;
			break;
		default:
			return segment_corrupt(error, "unknown encoding");
	}
	if (c.failed || cursor_left(&c) != 0 || width * column->n_texts != column->payload.len)
		return segment_corrupt(error, "bad column");
	if (!column->local)
		column->payload.data += width * column->base;
	return true;
}

static bool
load_codes(SegmentReader *r, ReadColumn *column, const Section *data, SpanError *error)
{
	uint32_t n = column->n_values;
	uint32_t loaded = column->limit - column->base;
	bool     good;

	if (data->data[0] != ENCODING_CODES || data->len - 1 < n)
		return segment_corrupt(error, "bad column");
	column->codes = arena_alloc(&r->block_arena, ((size_t) loaded + 1) * sizeof(uint32_t));
	if (column->codes == NULL)
		return segment_no_memory(error);
	column->codes[loaded] = 0; /* what rows without a value may look at */
	column->form = FORM_CODES;
	if (is_whole(column))
		good = unpack_codes(data->data + 1, data->len - 1, column->codes, n, column->n_dictionary);
	else
		good = unpack_some_codes(data->data + 1, data->len - 1, column->codes, n, column->n_dictionary,
		                         column->base, column->limit);
	return good ? true : segment_corrupt(error, "bad column");
}

static bool
load_range(SegmentReader *r, uint32_t number, uint32_t first, uint32_t end, SpanError *error)
{
	ReadColumn *column = &r->columns[number];
	Section     data;

	/* until all is done there is none */
	column->base = column->limit = 0;
	if (!segment_section(r, SECTION(COLUMN_STREAM(number, COLUMN_DATA), r->block), false, &data, error) ||
	    !segment_section(r, SECTION(COLUMN_STREAM(number, COLUMN_PAYLOAD), r->block), false, &column->payload, error))
		return false;
	if (data.len == 0)
		return segment_corrupt(error, "a column is missing");
	if (column->coded && !segment_load_dictionary(r, number, error))
		return false;
	column->base = first;
	column->limit = end;
	if (column->coded                ? load_codes(r, column, &data, error) :
	    type_is_number(column->type) ? load_numbers(r, column, &data, error) :
	                                   load_texts(r, column, &data, error))
		return true;
	column->base = column->limit = 0;
	return false;
}

bool
segment_load_column(SegmentReader *r, uint32_t number, SpanError *error)
{
	ReadColumn *column = &r->columns[number];

	if (column->loaded)
		return true;
	if (column->n_values == 0)
	{
		column->loaded = true;
		return true;
	}
	r->counters.columns++;
	column->loaded = load_range(r, number, 0, column->n_values, error);
	return column->loaded;
}

/* Who asks more often for some of a column's values in one block gets all, which then need not be loaded again. */
#define MAX_PART_LOADS 16

bool
segment_load_values(SegmentReader *r, uint32_t number, SpanError *error)
{
	ReadColumn *column = &r->columns[number];

	if (column->loaded || (column->cursor >= column->base && column->until <= column->limit && column->limit > 0))
		return true;
	if (column->part_loads >= MAX_PART_LOADS || column->until <= column->cursor)
		return segment_load_column(r, number, error);
	r->counters.columns++;
	column->part_loads++;
	return load_range(r, number, column->cursor, column->until, error);
}

bool
segment_expect_rows(SegmentReader *r, uint32_t first, uint32_t end, SpanError *error)
{
	ReadTable *t = &r->tables[TABLE_SPAN];

	for (uint32_t i = 0; i < r->n_columns; i++)
		r->columns[i].until = r->columns[i].cursor;
	for (uint32_t row = first; row < end; row++)
	{
		ReadShape *shape = &t->shapes[t->row_shapes[row]];

		if (shape->varying == NULL && !list_varying(r, shape))
			return segment_no_memory(error);
		for (uint32_t k = 0; k < shape->n_varying; k++)
			r->columns[shape->varying[k]].until++;
	}
	return true;
}

/* "place": where the reader keeps them, or NULL */
static bool
load_stream(SegmentReader *r, Stream stream, uint32_t n, void **place, int64_t **numbers, SpanError *error)
{
	void    *unused = NULL;
	Section  data;
	Section  payload;
	int64_t *result;

	r->counters.columns++;
	if (place == NULL)
		place = &unused;
	if (!segment_section(r, SECTION(stream, r->block), false, &data, error) ||
	    !segment_section(r, SECTION(stream + 1, r->block), false, &payload, error))
		return false;
	if (n > data.len)
		return segment_corrupt(error, "bad numbers");
	result = place != &unused ? segment_decoded_memory(r, (size_t) n * sizeof(int64_t), place) :
	                            arena_alloc(&r->block_arena, (size_t) n * sizeof(int64_t));
	if (result == NULL)
		return segment_no_memory(error);
	if (n > 0 && !unpack_numbers(data.data, data.len, payload.data, payload.len, result, n))
	{
		segment_forget_decoded(r, place);
		return segment_corrupt(error, "bad numbers");
	}
	*numbers = result;
	return true;
}

bool
segment_load_starts(SegmentReader *r, SpanError *error)
{
	HotBlock *hot = segment_hot_block(r);
	int64_t  *starts = hot->starts;

	if (r->starts != NULL)
		return true;
	if (starts == NULL)
	{
		/* runs first: what is kept must be complete */
		if (!segment_load_runs(r, error) ||
		    !load_stream(r, STREAM_STARTS, r->block_rows, (void **) &hot->starts, &starts, error))
			return false;
		for (uint32_t i = 0; i < r->n_runs; i++)
		{
			uint64_t at = (uint64_t) r->runs[i].base;

			for (uint32_t row = r->runs[i].first; row < r->runs[i].first + r->runs[i].count; row++)
			{
				at += (uint64_t) starts[row];
				starts[row] = (int64_t) at;
			}
		}
	}
	else
		r->counters.columns_kept++;
	r->starts = starts;
	return true;
}

bool
segment_row_start(SegmentReader *r, uint32_t row, int64_t *start, SpanError *error)
{
	if (row >= r->summary.rows)
		return span_error(error, SPAN_ERROR_INVALID, "no such row in the segment");
	segment_load_block(r, row / IMAGE_BLOCK_ROWS);
	if (!segment_load_starts(r, error))
		return false;
	*start = r->starts[row % IMAGE_BLOCK_ROWS];
	return true;
}

bool
segment_trace_end(SegmentReader *r, uint32_t row, uint32_t *end, SpanError *error)
{
	uint32_t begin = row / IMAGE_BLOCK_ROWS * IMAGE_BLOCK_ROWS;
	uint32_t low = 0;
	uint32_t high;

	if (row >= r->summary.rows)
		return span_error(error, SPAN_ERROR_INVALID, "no such row in the segment");
	segment_load_block(r, row / IMAGE_BLOCK_ROWS);
	if (!segment_load_runs(r, error))
		return false;
	/* the last run that begins at the row or before */
	for (high = r->n_runs; high - low > 1;)
	{
		uint32_t middle = low + (high - low) / 2;

		if (r->runs[middle].first <= row - begin)
			low = middle;
		else
			high = middle;
	}
	*end = begin + r->runs[low].first + r->runs[low].count;
	return true;
}

bool
segment_load_durations(SegmentReader *r, SpanError *error)
{
	HotBlock *hot = segment_hot_block(r);

	if (r->durations != NULL)
		return true;
	if (hot->durations != NULL)
	{
		r->counters.columns_kept++;
		r->durations = hot->durations;
		return true;
	}
	return load_stream(r, STREAM_DURATIONS, r->block_rows, (void **) &hot->durations, &r->durations, error);
}

bool
segment_load_event_times(SegmentReader *r, SpanError *error)
{
	return r->event_times != NULL ||
	       (segment_load_rows(r, TABLE_EVENT, error) &&
	        load_stream(r, STREAM_EVENT_TIMES, r->tables[TABLE_EVENT].n_rows, NULL, &r->event_times, error));
}

/* Numbers first .. end - 1 of a stream that has one for each row. */
static int64_t *
load_some(SegmentReader *r, Stream stream, uint32_t first, uint32_t end, SpanError *error)
{
	Section  data;
	Section  payload;
	int64_t *result = arena_alloc(&r->block_arena, (size_t) (end - first) * sizeof(int64_t));

	r->counters.columns++;
	if (result == NULL)
		segment_no_memory(error);
	else if (segment_section(r, SECTION(stream, r->block), false, &data, error) &&
	         segment_section(r, SECTION(stream + 1, r->block), false, &payload, error))
	{
		if (unpack_some_numbers(data.data, data.len, payload.data, payload.len, result, r->block_rows, first, end))
			return result;
		segment_corrupt(error, "bad numbers");
	}
	return NULL;
}

bool
segment_some_times(SegmentReader *r, uint32_t first, uint32_t end, bool want_durations,
                   const int64_t **starts, const int64_t **durations, SpanError *error)
{
	HotBlock *hot = segment_hot_block(r);
	int64_t  *some;

	if (r->starts != NULL || hot->starts != NULL || r->part_loads >= MAX_PART_LOADS)
	{
		if (!segment_load_starts(r, error))
			return false;
		*starts = r->starts + first;
	}
	else
	{
		uint32_t run = segment_run_of(r, first);
		uint32_t from = r->runs[run].first;

		r->part_loads++;
		/* each start is a difference to the one before */
		some = load_some(r, STREAM_STARTS, from, end, error);
		if (some == NULL)
			return false;
		for (uint32_t row = from; row < end; run++)
		{
			uint32_t stop = r->runs[run].first + r->runs[run].count;
			uint64_t at = (uint64_t) r->runs[run].base;

			for (; row < end && row < stop; row++)
			{
				at += (uint64_t) some[row - from];
				some[row - from] = (int64_t) at;
			}
		}
		*starts = some + (first - from);
	}
	if (!want_durations)
		return true;
	if (r->durations != NULL || hot->durations != NULL || r->part_loads >= MAX_PART_LOADS)
	{
		if (!segment_load_durations(r, error))
			return false;
		*durations = r->durations + first;
		return true;
	}
	some = load_some(r, STREAM_DURATIONS, first, end, error);
	*durations = some;
	return some != NULL;
}
