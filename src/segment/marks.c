/*-------------------------------------------------------------------------
 *
 * marks.c
 *	  Where in their columns the values of a row are, for who wants few rows.
 *
 * A row is a shape, and the place of its values follows from the shapes of all
 * rows before it.  Every 2,048 rows of a block a mark notes what that makes for
 * each column, so that 1,024 rows have to be looked at on the way to one, not half
 * of the block.  Marks are kept with what else is kept of a block.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/decoding.h"

#define MARK_ROWS 2048

/* A mark: the next value of each column, then how many events and links there are before it. */
#define EVENTS_OF(r) ((r)->n_columns)
#define LINKS_OF(r) ((r)->n_columns + 1)

static inline uint32_t
mark_size(const SegmentReader *r)
{
	return r->n_columns + 2;
}

/* The last one stands behind the block's last row. */
static inline uint32_t
n_marks(const SegmentReader *r)
{
	return (r->block_rows + MARK_ROWS - 1) / MARK_ROWS + 1;
}

/* Adds what "times" rows of a shape have to a mark. */
static bool
add_rows(SegmentReader *r, const ReadShape *shape, uint32_t times, uint32_t *mark, SpanError *error)
{
	for (uint32_t k = 0; k < shape->n_items; k++)
		if (shape->constants[k] == 0)
		{
			uint32_t *place = &mark[shape->columns[k]];

			if (times > INT32_MAX - *place)
				return segment_corrupt(error, "too many values");
			*place += times;
		}
	for (int events = 0; events < 2; events++)
	{
		uint32_t  item = events ? shape->events_at : shape->links_at;
		uint32_t *place = &mark[events ? EVENTS_OF(r) : LINKS_OF(r)];
		uint32_t  n;

		if (item == UINT32_MAX || shape->constants[item] == 0)
			continue;
		if (!segment_n_children(r, events, shape, 0, &n, error))
			return false;
		if (*place + (uint64_t) n * times > INT32_MAX)
			return segment_corrupt(error, "more events or links than there are");
		*place += n * times;
	}
	return true;
}

/* The values of columns, and of events and links those whose number the shape tells. */
static bool
mark_shapes(SegmentReader *r, uint32_t *marks, SpanError *error)
{
	ReadTable *t = &r->tables[TABLE_SPAN];
	uint32_t   size = mark_size(r);
	uint32_t  *counts = arena_alloc0(&r->block_arena, (size_t) t->n_shapes * sizeof(uint32_t));
	uint32_t  *found = arena_alloc(&r->block_arena, MARK_ROWS * sizeof(uint32_t));

	if (counts == NULL || found == NULL)
		return segment_no_memory(error);
	memset(marks, 0, size * sizeof(uint32_t));
	for (uint32_t row = 0; row < r->block_rows; row += MARK_ROWS)
	{
		uint32_t end = r->block_rows - row < MARK_ROWS ? r->block_rows : row + MARK_ROWS;
		uint32_t n = 0;

		memcpy(marks + size, marks, size * sizeof(uint32_t));
		marks += size;
		for (uint32_t i = row; i < end; i++)
			if (counts[t->row_shapes[i]]++ == 0)
				found[n++] = t->row_shapes[i];
		for (uint32_t i = 0; i < n; i++)
		{
			ReadShape *shape = &t->shapes[found[i]];

			if (!segment_load_shape(r, TABLE_SPAN, shape, error) ||
			    !add_rows(r, shape, counts[found[i]], marks, error))
				return false;
			counts[found[i]] = 0;
		}
	}
	return true;
}

static void
set_totals(SegmentReader *r, const uint32_t *marks)
{
	const uint32_t *last = marks + (size_t) (n_marks(r) - 1) * mark_size(r);

	for (uint32_t i = 0; i < r->n_columns; i++)
		if (r->columns[i].table == TABLE_SPAN)
			r->columns[i].n_values = last[i];
}

/* Adds the events, or links, of rows whose shapes leave their number to a column. */
static bool
mark_children(SegmentReader *r, bool events, uint32_t *marks, SpanError *error)
{
	uint32_t          number = events ? FIELD_N_EVENTS : FIELD_N_LINKS;
	const ReadColumn *c = &r->columns[number];
	uint32_t          limit = r->tables[events ? TABLE_EVENT : TABLE_LINK].n_rows;
	uint32_t          size = mark_size(r);
	uint64_t          sum = 0;

	if (!segment_load_column(r, number, error))
		return false;
	for (uint32_t m = 1; m < n_marks(r); m++)
	{
		uint32_t *mark = marks + (size_t) m * size;
		uint32_t *place = &mark[events ? EVENTS_OF(r) : LINKS_OF(r)];

		for (uint32_t i = (mark - size)[number]; i < mark[number]; i++)
		{
			uint64_t n = (uint64_t) (c->form == FORM_CODES ? c->dictionary[c->codes[i]].u.integer : c->numbers[i]);

			if (n > limit)
				return segment_corrupt(error, "more events or links than there are");
			sum += n;
		}
		if (sum + *place > limit)
			return segment_corrupt(error, "more events or links than there are");
		*place += (uint32_t) sum;
	}
	return true;
}

static bool
make_marks(SegmentReader *r, uint32_t *marks, SpanError *error)
{
	if (!segment_load_row_shapes(r, TABLE_EVENT, error) || !segment_load_row_shapes(r, TABLE_LINK, error) ||
	    !mark_shapes(r, marks, error))
		return false;
	set_totals(r, marks);
	return mark_children(r, true, marks, error) && mark_children(r, false, marks, error);
}

bool
segment_load_marks(SegmentReader *r, SpanError *error)
{
	HotBlock *hot = segment_hot_block(r);
	size_t    size = (size_t) n_marks(r) * mark_size(r) * sizeof(uint32_t);

	void     *kept = NULL;
	uint32_t *marks;

	if (r->marks != NULL)
		return true;
	if (!segment_load_row_shapes(r, TABLE_SPAN, error))
		return false;
	if (hot->marks != NULL)
	{
		r->marks = hot->marks;
		set_totals(r, r->marks);
		return true;
	}
	marks = segment_decoded_memory(r, size, &kept);
	if (marks == NULL)
		return segment_no_memory(error);
	if (!make_marks(r, marks, error))
	{
		segment_forget_decoded(r, &kept);
		return false;
	}
	/* not before they are complete: an error of the source's does not come back here */
	hot->marks = kept;
	r->marks = marks;
	return true;
}

void
segment_seek_by_marks(SegmentReader *r, uint32_t row, uint32_t *events, uint32_t *links)
{
	const uint32_t *mark = r->marks + (size_t) (row / MARK_ROWS) * mark_size(r);

	for (uint32_t i = 0; i < r->n_columns; i++)
		if (r->columns[i].table == TABLE_SPAN)
			r->columns[i].cursor = mark[i];
	r->tables[TABLE_SPAN].next = row / MARK_ROWS * MARK_ROWS;
	*events = mark[EVENTS_OF(r)];
	*links = mark[LINKS_OF(r)];
}
