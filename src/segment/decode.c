/*-------------------------------------------------------------------------
 *
 * decode.c
 *	  Makes spans of the columns of a block.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/decoding.h"

#include "segment/codec.h"
#include "segment/column.h"

/* Expands packed hexadecimal. */
void
segment_expand_hex(const ReadColumn *c, uint32_t number, char *to)
{
	static const char digits[] = "0123456789abcdef";
	bool              uuid = c->form == FORM_UUID;
	const uint8_t    *packed = c->payload.data + (size_t) number * (uuid ? 16 : c->fixed_len / 2);
	const char       *end = to + c->fixed_len;

	for (uint32_t i = 0; to < end; i++)
	{
		if (uuid && (i == 4 || i == 6 || i == 8 || i == 10))
			*to++ = '-';
		*to++ = digits[packed[i] >> 4];
		*to++ = digits[packed[i] & 15];
	}
}

/* Text number "i" of the block (of its dictionary, if it has one) where it lies. */
static inline SpanText
text_in_place(const ReadColumn *c, uint32_t i)
{
	if (c->form == FORM_CODES)
		return span_text(c->dictionary[c->codes[i]].u.data, c->dictionary[c->codes[i]].len);
	if (c->form == FORM_FIXED)
		return span_text((const char *) c->payload.data + (size_t) i * c->fixed_len, c->fixed_len);
	return span_text((const char *) c->payload.data + c->offsets[i], c->offsets[i + 1] - c->offsets[i]);
}

static bool
packed_text(Arena *arena, const ReadColumn *c, uint32_t i, AnyValue *out)
{
	char *text = arena_alloc(arena, c->fixed_len);

	if (text != NULL)
		segment_expand_hex(c, i, text);
	out->type = c->type;
	out->len = c->fixed_len;
	out->u.data = text;
	return text != NULL;
}

/* A value of a nested type from its bytes. */
static bool
nested_value(Arena *arena, const ReadColumn *c, SpanText text, bool copy, AnyValue *out, SpanError *error)
{
	Cursor nested = cursor_over((const uint8_t *) text.data, text.len);

	if (value_get(&nested, arena, copy, out) && cursor_left(&nested) == 0 && out->type == c->type)
		return true;
	return nested.failed || cursor_left(&nested) != 0 ? segment_corrupt(error, "bad nested value") :
	                                                    segment_no_memory(error);
}

static bool
text_value(Decoder *d, const ReadColumn *c, uint32_t i, AnyValue *out)
{
	SpanText text;

	if (c->form == FORM_UUID || c->form == FORM_HEX)
		return packed_text(d->arena, c, i, out) ? true : segment_no_memory(d->error);
	text = text_in_place(c, i);
	if (c->payload_copy != NULL)
		text.data = c->payload_copy + (text.data - (const char *) c->payload.data);
	if (c->type != ANY_STRING && c->type != ANY_BYTES)
		return nested_value(d->arena, c, text, c->payload_copy == NULL, out, d->error);
	out->type = c->type;
	out->len = text.len;
	out->u.data = c->payload_copy != NULL ? text.data : arena_copy(d->arena, text.data, text.len);
	return out->u.data != NULL ? true : segment_no_memory(d->error);
}

static inline void
number_value(const ReadColumn *c, uint32_t i, AnyValue *out)
{
	out->type = c->type;
	out->len = 0;
	if (c->type == ANY_BOOL)
		out->u.boolean = c->numbers[i] != 0;
	else
		memcpy(&out->u, &c->numbers[i], 8);
}

bool
segment_value_in_place(Arena *arena, const ReadColumn *c, uint32_t i, AnyValue *out, SpanError *error)
{
	SpanText text;

	if (c->form == FORM_NUMBERS)
	{
		number_value(c, i, out);
		return true;
	}
	if (c->form == FORM_CODES)
	{
		*out = c->dictionary[c->codes[i]];
		return true;
	}
	if (c->local)
		i = c->codes[i];
	if (c->form == FORM_UUID || c->form == FORM_HEX)
		return packed_text(arena, c, i, out) ? true : segment_no_memory(error);
	text = text_in_place(c, i);
	if (c->type != ANY_STRING && c->type != ANY_BYTES)
		return nested_value(arena, c, text, false, out, error);
	out->type = c->type;
	out->len = text.len;
	out->u.data = text.data;
	return true;
}

/* An entry of the block's dictionary; each is put into the batch once. */
static bool
local_value(Decoder *d, ReadColumn *c, uint32_t code, AnyValue *out)
{
	if (c->local_copies == NULL)
	{
		/* as long-lived as the block's codes, and forgotten with the batch */
		c->local_copies = arena_alloc0(&d->r->block_arena, (size_t) c->n_texts * sizeof(AnyValue));
		if (c->local_copies == NULL)
			return segment_no_memory(d->error);
	}
	if (c->local_copies[code].type == ANY_EMPTY && !text_value(d, c, code, &c->local_copies[code]))
		return false;
	*out = c->local_copies[code];
	return true;
}

/* The column's next value, its bytes in the batch; only some of the column may be loaded. */
static inline bool
next_value(Decoder *d, ReadColumn *c, AnyValue *out)
{
	uint32_t i = c->cursor++ - c->base;

	switch (c->form)
	{
		case FORM_NUMBERS:
			number_value(c, i, out);
			return true;
		case FORM_CODES:
			if (c->copies != NULL && c->copies[c->codes[i]].type != ANY_EMPTY)
			{
				*out = c->copies[c->codes[i]];
				return true;
			}
			return segment_dictionary_value(d, c, c->codes[i], out);
		default:
			return c->local ? local_value(d, c, c->codes[i], out) : text_value(d, c, i, out);
	}
}

/* One attribute of the overflow column. */
typedef struct Extra
{
	uint32_t position;
	KeyValue item;
} Extra;

static bool
get_extras(Decoder *d, TableId table, uint32_t column, Extra **extras, uint32_t *count)
{
	SegmentReader *r = d->r;
	ReadColumn    *c = &r->columns[column];
	uint32_t       at = c->cursor++ - c->base;
	SpanText       bytes = text_in_place(c, c->local ? c->codes[at] : at);
	Cursor         in = cursor_over((const uint8_t *) bytes.data, bytes.len);
	Extra         *list = arena_alloc(&d->temp, (size_t) bytes.len / 3 * sizeof(Extra));
	uint32_t       n = 0;

	if (list == NULL)
		return segment_no_memory(d->error);
	while (cursor_left(&in) >= 3 && !in.failed)
	{
		SpanText  key;
		KeyValue *item = &list[n].item;

		list[n].position = cursor_number(&in, UINT32_MAX);
		key = cursor_text(&in);
		if (in.failed || !value_get(&in, d->arena, true, &item->value))
			break;
		item->key_id = SPAN_BATCH_NONE;
		/* unwanted ones still count for the positions of the others */
		if (table != TABLE_SPAN || (r->parts & SEGMENT_ATTRIBUTES) || segment_key_wanted(r, key))
		{
			item->key_id = span_batch_string(d->batch, key);
			if (item->key_id == SPAN_BATCH_NONE)
				return segment_no_memory(d->error);
			item->key = d->batch->strings[item->key_id];
		}
		n++;
	}
	if (cursor_left(&in) != 0)
		return in.failed ? segment_corrupt(d->error, "bad rare attributes") : segment_no_memory(d->error);
	*extras = list;
	*count = n;
	return true;
}

/* Puts rare attributes between the others, where they stood. */
static bool
merge_extras(Decoder *d, TableId table, const Template *t, const KeyValue *items, AttributeList *result)
{
	Extra    *extras = NULL;
	uint32_t  n_extras = 0;
	uint32_t  taken = 0;
	uint32_t  n = 0;
	KeyValue *merged;

	arena_reset(&d->temp);
	if (!get_extras(d, table, t->overflow, &extras, &n_extras))
		return false;
	merged = arena_alloc(d->arena, ((size_t) t->n_items + n_extras) * sizeof(KeyValue));
	if (merged == NULL)
		return segment_no_memory(d->error);
	for (uint32_t i = 0; i <= t->n_items; i++)
	{
		while (taken < n_extras && (i == t->n_items || extras[taken].position <= t->ordinals[i] + taken))
		{
			if (extras[taken].item.key_id != SPAN_BATCH_NONE)
				merged[n++] = extras[taken].item;
			taken++;
		}
		if (i < t->n_items)
			merged[n++] = items[i];
	}
	result->items = merged;
	result->count = n;
	return true;
}

/* The attributes of the next row of this shape. */
static bool
take_attributes(Decoder *d, TableId table, const Template *t, AttributeList *result)
{
	KeyValue *items = t->items;

	if (t->n_values > 0)
	{
		items = arena_alloc(d->arena, (size_t) t->n_items * sizeof(KeyValue));
		if (items == NULL)
			return segment_no_memory(d->error);
		memcpy(items, t->items, (size_t) t->n_items * sizeof(KeyValue));
		for (uint32_t i = 0; i < t->n_values; i++)
			if (!next_value(d, &d->r->columns[t->values[i].column], &items[t->values[i].target].value))
				return false;
	}
	if (t->overflow != 0)
		return merge_extras(d, table, t, items, result);
	result->items = items;
	result->count = t->n_items;
	return true;
}

static inline Template *
next_template(Decoder *d, TableId table)
{
	return segment_template(d, table, d->r->tables[table].next++);
}

static bool
take_events(Decoder *d, Span *span, int64_t start)
{
	SegmentReader *r = d->r;
	ReadTable     *table = &r->tables[TABLE_EVENT];
	SpanEvent     *events;

	if (span->n_events > table->n_rows - table->next)
		return segment_corrupt(d->error, "more events than there are");
	events = arena_alloc(d->arena, (size_t) span->n_events * sizeof(SpanEvent));
	if (events == NULL)
		return segment_no_memory(d->error);
	for (uint32_t i = 0; i < span->n_events; i++)
	{
		uint32_t  row = table->next;
		Template *t = next_template(d, TABLE_EVENT);

		if (t == NULL || !segment_load_template_columns(d, t))
			return false;
		events[i] = t->proto.event;
		events[i].time_unix_nano = (int64_t) ((uint64_t) start + (uint64_t) r->event_times[row]);
		for (uint32_t k = 0; k < t->n_fields; k++)
		{
			AnyValue value;

			if (!next_value(d, &r->columns[t->fields[k].column], &value))
				return false;
			segment_set_child_field(&events[i], NULL, t->fields[k].column, &value);
		}
		if (!take_attributes(d, TABLE_EVENT, t, &events[i].attributes))
			return false;
	}
	span->events = events;
	return true;
}

static bool
take_links(Decoder *d, Span *span)
{
	SegmentReader *r = d->r;
	ReadTable     *table = &r->tables[TABLE_LINK];
	SpanLink      *links;

	if (span->n_links > table->n_rows - table->next)
		return segment_corrupt(d->error, "more links than there are");
	links = arena_alloc(d->arena, (size_t) span->n_links * sizeof(SpanLink));
	if (links == NULL)
		return segment_no_memory(d->error);
	for (uint32_t i = 0; i < span->n_links; i++)
	{
		const uint8_t *ids = r->link_ids.data + (size_t) table->next * (TRACE_ID_LEN + SPAN_ID_LEN);
		Template      *t = next_template(d, TABLE_LINK);

		if (t == NULL || !segment_load_template_columns(d, t))
			return false;
		links[i] = t->proto.link;
		memcpy(&links[i].trace_id, ids, TRACE_ID_LEN);
		memcpy(&links[i].span_id, ids + TRACE_ID_LEN, SPAN_ID_LEN);
		for (uint32_t k = 0; k < t->n_fields; k++)
		{
			AnyValue value;

			if (!next_value(d, &r->columns[t->fields[k].column], &value))
				return false;
			segment_set_child_field(NULL, &links[i], t->fields[k].column, &value);
		}
		if (!take_attributes(d, TABLE_LINK, t, &links[i].attributes))
			return false;
	}
	span->links = links;
	return true;
}

bool
segment_n_children(SegmentReader *r, bool events, const ReadShape *shape, uint32_t at, uint32_t *count,
                   SpanError *error)
{
	uint32_t          number = events ? FIELD_N_EVENTS : FIELD_N_LINKS;
	const ReadColumn *c = &r->columns[number];
	uint32_t          item = events ? shape->events_at : shape->links_at;
	uint64_t          n = 0;

	if (item != UINT32_MAX && shape->constants[item] != 0)
	{
		if (!segment_load_dictionary(r, number, error))
			return false;
		n = (uint64_t) c->dictionary[shape->constants[item] - 1].u.integer;
	}
	else if (item != UINT32_MAX)
	{
		if (!segment_load_column(r, number, error))
			return false;
		if (at >= c->n_values)
			return segment_corrupt(error, "bad shape");
		n = (uint64_t) (c->form == FORM_CODES ? c->dictionary[c->codes[at]].u.integer : c->numbers[at]);
	}
	if (n > r->tables[events ? TABLE_EVENT : TABLE_LINK].n_rows)
		return segment_corrupt(error, "more events or links than there are");
	*count = (uint32_t) n;
	return true;
}

/*
 * Events or links are behind those of the rows before: how many the rows from .. row - 1
 * have, of which the first varying number is value "at", is added to *count.
 */
static bool
count_children(SegmentReader *r, bool events, uint32_t from, uint32_t row, uint32_t at, uint32_t *count,
               SpanError *error)
{
	const ReadTable *table = &r->tables[TABLE_SPAN];
	uint64_t         sum = *count;

	for (uint32_t i = from; i < row; i++)
	{
		const ReadShape *shape = &table->shapes[table->row_shapes[i]];
		uint32_t         item = events ? shape->events_at : shape->links_at;
		uint32_t         n;

		if (item == UINT32_MAX)
			continue;
		if (!segment_n_children(r, events, shape, at, &n, error))
			return false;
		at += shape->constants[item] == 0;
		sum += n;
	}
	if (sum > r->tables[events ? TABLE_EVENT : TABLE_LINK].n_rows)
		return segment_corrupt(error, "more events or links than there are");
	*count = (uint32_t) sum;
	return true;
}

/* The events, or links, of a row of the current block, before the cursors of spans are set to it. */
static bool
seek_children(Decoder *d, bool events, uint32_t row)
{
	SegmentReader *r = d->r;
	TableId        table = events ? TABLE_EVENT : TABLE_LINK;
	uint32_t       from = r->tables[TABLE_SPAN].next;
	uint32_t       child = r->tables[table].next;
	uint32_t       at = r->columns[events ? FIELD_N_EVENTS : FIELD_N_LINKS].cursor;

	if (from > row || child > r->tables[table].n_rows)
		from = child = at = 0;
	if (r->tables[table].n_rows > 0 && !count_children(r, events, from, row, at, &child, d->error))
		return false;
	return segment_seek(r, table, child, d->error);
}

/* The same, without a look at all rows before it. */
static bool
seek_by_marks(Decoder *d, uint32_t row)
{
	SegmentReader *r = d->r;
	uint32_t       n[2];
	uint32_t       from;

	segment_seek_by_marks(r, row, &n[true], &n[false]);
	from = r->tables[TABLE_SPAN].next;
	for (int events = 0; events < 2; events++)
	{
		TableId  table = events ? TABLE_EVENT : TABLE_LINK;
		uint32_t at = r->columns[events ? FIELD_N_EVENTS : FIELD_N_LINKS].cursor;

		if ((r->parts & (events ? SEGMENT_EVENTS : SEGMENT_LINKS)) == 0)
			continue;
		if ((r->tables[table].n_rows > 0 && !count_children(r, events, from, row, at, &n[events], d->error)) ||
		    !segment_seek(r, table, n[events], d->error))
			return false;
	}
	return segment_seek(r, TABLE_SPAN, row, d->error);
}

/* Sets all cursors to a row of the current block. */
static bool
seek_row(Decoder *d, uint32_t row)
{
	SegmentReader *r = d->r;

	if (r->tables[TABLE_SPAN].next == row)
		return true;
	if (d->sparse)
		return seek_by_marks(d, row);
	if ((r->parts & SEGMENT_EVENTS) && !seek_children(d, true, row))
		return false;
	if ((r->parts & SEGMENT_LINKS) && !seek_children(d, false, row))
		return false;
	return segment_seek(r, TABLE_SPAN, row, d->error);
}

/* Start times and durations of all rows of the block. */
static bool
load_times(Decoder *d)
{
	SegmentReader *r = d->r;

	if ((r->parts & (SEGMENT_START | SEGMENT_END | SEGMENT_EVENTS)) && !segment_load_starts(r, d->error))
		return false;
	if ((r->parts & SEGMENT_END) && !segment_load_durations(r, d->error))
		return false;
	d->starts = r->starts;
	d->durations = r->durations;
	d->times_of = 0;
	return true;
}

/* Those of some rows, and how far the columns' values go that these have. */
static bool
load_some_rows(Decoder *d, uint32_t first, uint32_t end)
{
	SegmentReader *r = d->r;

	d->times_of = first;
	d->starts = d->durations = NULL;
	if ((r->parts & (SEGMENT_START | SEGMENT_END | SEGMENT_EVENTS)) &&
	    !segment_some_times(r, first, end, (r->parts & SEGMENT_END) != 0, &d->starts, &d->durations, d->error))
		return false;
	return segment_expect_rows(r, first, end, d->error);
}

/* Loads what all rows of the block need. */
bool
segment_prepare_block(Decoder *d, uint32_t block)
{
	SegmentReader *r = d->r;

	segment_load_block(r, block);
	if (!(d->sparse ? segment_load_marks(r, d->error) : segment_load_rows(r, TABLE_SPAN, d->error)) ||
	    !segment_load_runs(r, d->error))
		return false;
	if (!d->sparse && !load_times(d))
		return false;
	if ((r->parts & (SEGMENT_SPAN_ID | SEGMENT_PARENT)) && r->span_ids.data == NULL)
	{
		Section ids;

		if (!segment_section(r, SECTION(STREAM_SPAN_IDS, block), false, &ids, d->error))
			return false;
		if (ids.len != r->block_rows * SPAN_ID_LEN)
			return segment_corrupt(d->error, "bad span ids");
		r->span_ids = ids;
	}
	if ((r->parts & SEGMENT_EVENTS) && !segment_load_event_times(r, d->error))
		return false;
	if ((r->parts & SEGMENT_LINKS) && r->link_ids.data == NULL)
	{
		Section ids;

		if (!segment_load_rows(r, TABLE_LINK, d->error) ||
		    !segment_section(r, SECTION(STREAM_LINK_IDS, block), false, &ids, d->error))
			return false;
		if (ids.len != (uint64_t) r->tables[TABLE_LINK].n_rows * (TRACE_ID_LEN + SPAN_ID_LEN))
			return segment_corrupt(d->error, "bad link ids");
		r->link_ids = ids;
	}
	return true;
}

/* If most of the block is wanted, its text goes to the batch in one piece. */
static bool
copy_payloads(Decoder *d)
{
	SegmentReader *r = d->r;

	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		ReadColumn *c = &r->columns[i];

		if (!c->wanted || c->coded || type_is_number(c->type) || c->n_values == 0 || c->payload_copy != NULL ||
		    i == FIELD_SPAN_OVERFLOW || i == FIELD_EVENT_OVERFLOW || i == FIELD_LINK_OVERFLOW)
			continue;
		if (!segment_load_column(r, i, d->error))
			return false;
		if (c->form != FORM_FIXED && c->form != FORM_LENGTHS)
			continue;
		c->payload_copy = arena_copy(d->arena, c->payload.data, c->payload.len);
		if (c->payload_copy == NULL)
			return segment_no_memory(d->error);
	}
	return true;
}

static bool
take_parent(Decoder *d, const Template *t, uint32_t row, Span *span)
{
	SegmentReader *r = d->r;
	int64_t        parent = (int64_t) row - t->distance;

	if (t->distance < INT32_MIN || t->distance > INT32_MAX || parent < 0 || parent >= r->block_rows)
		return segment_corrupt(d->error, "a parent is outside its block");
	memcpy(&span->parent_span_id, r->span_ids.data + parent * SPAN_ID_LEN, SPAN_ID_LEN);
	return true;
}

static bool
take_span(Decoder *d, uint32_t row, const TraceId *trace_id)
{
	SegmentReader *r = d->r;
	Template      *t = next_template(d, TABLE_SPAN);
	int64_t        start = 0;
	Span          *span;

	if (t == NULL || !(d->sparse ? segment_load_template_values(d, t) : segment_load_template_columns(d, t)))
		return false;
	span = span_batch_extend(d->batch);
	if (span == NULL)
		return segment_no_memory(d->error);
	*span = t->proto.span;
	span->trace_id = *trace_id;
	for (uint32_t i = 0; i < t->n_fields; i++)
	{
		AnyValue value;

		if (!next_value(d, &r->columns[t->fields[i].column], &value))
			return false;
		segment_set_span_field(t, span, t->fields[i].column, &value);
	}
	if (t->has_distance && !take_parent(d, t, row, span))
		return false;
	if (r->parts & SEGMENT_SPAN_ID)
		memcpy(&span->span_id, r->span_ids.data + (size_t) row * SPAN_ID_LEN, SPAN_ID_LEN);
	if (d->starts != NULL)
		start = d->starts[row - d->times_of];
	if (r->parts & (SEGMENT_START | SEGMENT_END))
		span->start_time_unix_nano = start;
	if (r->parts & SEGMENT_END)
		span->end_time_unix_nano = (int64_t) ((uint64_t) start + (uint64_t) d->durations[row - d->times_of]);
	if (!take_attributes(d, TABLE_SPAN, t, &span->attributes))
		return false;
	if (span->n_events > 0 && !take_events(d, span, start))
		return false;
	if (span->n_links > 0 && !take_links(d, span))
		return false;
	return true;
}

/* Rows first .. end - 1 of the current block. */
static bool
decode_block_rows(Decoder *d, uint32_t first, uint32_t end)
{
	SegmentReader *r = d->r;
	uint32_t       run = segment_run_of(r, first);
	uint32_t       row = first;

	if ((end - first) * 2 >= r->block_rows)
	{
		if (!copy_payloads(d))
			return false;
	}
	if (!seek_row(d, first))
		return false;
	if (d->sparse && !load_some_rows(d, first, end))
		return false;
	while (row < end)
	{
		TraceId  trace_id = {{0}};
		uint32_t stop;

		while (row >= r->runs[run].first + r->runs[run].count)
			run++;
		stop = r->runs[run].first + r->runs[run].count;
		stop = stop < end ? stop : end;
		if ((r->parts & SEGMENT_TRACE_ID) && !segment_trace_id(r, r->runs[run].rank, &trace_id, d->error))
			return false;
		for (; row < stop; row++)
			if (!take_span(d, row, &trace_id))
				return false;
	}
	return true;
}

/* Moves the cursors of a table behind its next row, which is not wanted. */
static void
skip_values(SegmentReader *r, TableId table)
{
	ReadTable       *rows = &r->tables[table];
	const ReadShape *shape = &rows->shapes[rows->row_shapes[rows->next++]];
	const Template  *t = shape->template;

	if (t == NULL)
	{
		for (uint32_t k = 0; k < shape->n_items; k++)
			r->columns[shape->columns[k]].cursor += shape->constants[k] == 0;
		return;
	}
	for (uint32_t i = 0; i < t->n_fields; i++)
		r->columns[t->fields[i].column].cursor++;
	for (uint32_t i = 0; i < t->n_values; i++)
		r->columns[t->values[i].column].cursor++;
	if (t->overflow != 0)
		r->columns[t->overflow].cursor++;
}

/* The same for the events, or links, of the next span. */
static bool
skip_children(Decoder *d, bool events)
{
	SegmentReader   *r = d->r;
	const ReadTable *spans = &r->tables[TABLE_SPAN];
	TableId          table = events ? TABLE_EVENT : TABLE_LINK;
	uint32_t         n;

	if (!segment_n_children(r, events, &spans->shapes[spans->row_shapes[spans->next]],
	                        r->columns[events ? FIELD_N_EVENTS : FIELD_N_LINKS].cursor, &n, d->error))
		return false;
	if (n > r->tables[table].n_rows - r->tables[table].next)
		return segment_corrupt(d->error, "more events or links than there are");
	while (n-- > 0)
		skip_values(r, table);
	return true;
}

static bool
skip_row(Decoder *d)
{
	if ((d->r->parts & SEGMENT_EVENTS) && !skip_children(d, true))
		return false;
	if ((d->r->parts & SEGMENT_LINKS) && !skip_children(d, false))
		return false;
	skip_values(d->r, TABLE_SPAN);
	return true;
}

/* Must rows in between be looked at to know where the values of others are? */
static bool
rows_count(const SegmentReader *r)
{
	if (r->parts & (SEGMENT_EVENTS | SEGMENT_LINKS))
		return true;
	for (uint32_t i = 0; i < r->n_columns; i++)
		if (r->columns[i].table == TABLE_SPAN && r->columns[i].wanted && r->columns[i].n_values > 0)
			return true;
	return false;
}

/* Some rows of the current block, which begins at "begin", in ascending order. */
bool
segment_decode_some(Decoder *d, uint32_t begin, const uint32_t *rows, uint32_t n)
{
	SegmentReader *r = d->r;
	ReadTable     *table = &r->tables[TABLE_SPAN];
	TraceId        trace_id = {{0}};
	uint32_t       run = 0;
	uint32_t       run_end = 0;
	bool           walk = rows_count(r);

	if (n == 0)
		return true;
	if (table->next > rows[0] - begin && !seek_row(d, 0))
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t row = rows[i] - begin;

		if (!walk)
			table->next = row;
		while (table->next < row)
			if (!skip_row(d))
				return false;
		if (row >= run_end)
		{
			while (row >= r->runs[run].first + r->runs[run].count)
				run++;
			run_end = r->runs[run].first + r->runs[run].count;
			if ((r->parts & SEGMENT_TRACE_ID) && !segment_trace_id(r, r->runs[run].rank, &trace_id, d->error))
				return false;
		}
		if (!take_span(d, row, &trace_id))
			return false;
	}
	return true;
}

/* For no more rows of a block than that, only their values are loaded. */
#define SPARSE_ROWS (IMAGE_BLOCK_ROWS / 16)

bool
segment_decode(SegmentReader *r, const SegmentProjection *projection, uint32_t first, uint32_t count,
               SpanBatch *batch, SpanError *error)
{
	Decoder   d;
	uint32_t  before = batch->n_spans;
	BlockRows run;
	uint32_t  end;
	bool      ok = true;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!segment_begin_decoding(&d, r, projection, batch, error))
		return false;
	end = first + count;
	while (ok && next_block_rows(&first, end, &run))
	{
		d.sparse = run.end - run.first <= SPARSE_ROWS;
		r->keep_frames = d.sparse;
		ok = segment_prepare_block(&d, run.block) && decode_block_rows(&d, run.first, run.end);
	}
	return segment_end_decoding(&d, before, ok);
}

bool
segment_decode_rows(SegmentReader *r, const SegmentProjection *projection, const uint32_t *rows, uint32_t n,
                    SpanBatch *batch, SpanError *error)
{
	Decoder  d;
	uint32_t before = batch->n_spans;
	bool     ok = true;

	for (uint32_t i = 0; i < n; i++)
		if (rows[i] >= r->summary.rows || (i > 0 && rows[i] <= rows[i - 1]))
			return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!segment_begin_decoding(&d, r, projection, batch, error))
		return false;
	while (ok && n > 0)
	{
		uint32_t block = rows[0] / IMAGE_BLOCK_ROWS;
		uint32_t some = 0;

		while (some < n && rows[some] / IMAGE_BLOCK_ROWS == block)
			some++;
		ok = segment_prepare_block(&d, block) && segment_decode_some(&d, block * IMAGE_BLOCK_ROWS, rows, some);
		rows += some;
		n -= some;
	}
	return segment_end_decoding(&d, before, ok);
}
