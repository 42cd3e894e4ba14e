/*-------------------------------------------------------------------------
 *
 * decode.c
 *	  Makes spans of the columns of a block.
 *
 * For each shape that occurs, a template is built once per projection and
 * batch: everything constant is in it already, so that a row costs a copy of
 * the template and the values that vary.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reading.h"

#include "segment/codec.h"
#include "segment/column.h"

typedef struct Vary
{
	uint32_t	column;
	uint32_t	target;			/* attribute of the template; unused for fields */
} Vary;

typedef struct Template
{
	Vary	   *fields;
	uint32_t	n_fields;
	Vary	   *values;
	uint32_t	n_values;
	KeyValue   *items;			/* attributes; in the batch if none varies */
	uint32_t	n_items;
	uint32_t   *ordinals;		/* of the items among all attributes with columns */
	uint32_t	overflow;		/* column, or 0 */
	uint64_t	block_serial;	/* of the block whose columns were last seen to be loaded */
	bool		has_distance;	/* parent inside the block */
	int64_t		distance;
	uint64_t	tested;			/* serial of the test that "excluded" is of */
	bool		excluded;
	union
	{
		Span		span;
		SpanEvent	event;
		SpanLink	link;
	}			proto;
} Template;

typedef struct Decoder
{
	SegmentReader *r;
	SpanBatch  *batch;
	Arena	   *arena;			/* the batch's */
	Arena		temp;
	SpanError  *error;
} Decoder;

static bool
key_is_wanted(const SegmentReader *r, SpanText key)
{
	for (uint32_t i = 0; i < r->n_keys; i++)
		if (span_text_equal(r->keys[i], key))
			return true;
	return false;
}

static bool
field_is_wanted(uint32_t column, uint32_t parts)
{
	static const uint32_t part_of[N_FIELD_COLUMNS] = {
		[FIELD_PARENT_DISTANCE] = SEGMENT_PARENT,
		[FIELD_PARENT_ID] = SEGMENT_PARENT,
		[FIELD_STATUS_MESSAGE] = SEGMENT_STATUS_MESSAGE,
		[FIELD_TRACE_STATE] = SEGMENT_TRACE_STATE,
		[FIELD_FLAGS] = SEGMENT_FLAGS,
		[FIELD_DROPPED_ATTRIBUTES] = SEGMENT_DROPPED,
		[FIELD_DROPPED_EVENTS] = SEGMENT_DROPPED,
		[FIELD_DROPPED_LINKS] = SEGMENT_DROPPED,
		[FIELD_N_EVENTS] = SEGMENT_EVENTS,
		[FIELD_N_LINKS] = SEGMENT_LINKS,
		[FIELD_SPAN_OVERFLOW] = SEGMENT_ATTRIBUTES,
		[FIELD_EVENT_NAME] = SEGMENT_EVENTS,
		[FIELD_EVENT_DROPPED] = SEGMENT_EVENTS,
		[FIELD_EVENT_OVERFLOW] = SEGMENT_EVENTS,
		[FIELD_LINK_TRACE_STATE] = SEGMENT_LINKS,
		[FIELD_LINK_FLAGS] = SEGMENT_LINKS,
		[FIELD_LINK_DROPPED] = SEGMENT_LINKS,
		[FIELD_LINK_OVERFLOW] = SEGMENT_LINKS,
	};

	return (parts & part_of[column]) != 0;
}

static bool
same_projection(const SegmentReader *r, const SegmentProjection *p)
{
	if (r->parts != p->parts || r->n_keys != p->n_keys)
		return false;
	for (uint32_t i = 0; i < p->n_keys; i++)
		if (!span_text_equal(r->keys[i], p->keys[i]))
			return false;
	return true;
}

/* Does the overflow column hold attributes of spans that are wanted? */
static bool
overflow_is_wanted(const SegmentReader *r)
{
	if (r->parts & SEGMENT_ATTRIBUTES)
		return true;
	for (uint32_t i = 0; i < r->n_rare; i++)
		if (r->rare[i].table == TABLE_SPAN && key_is_wanted(r, r->strings[r->rare[i].key]))
			return true;
	return false;
}

static void
mark_columns(SegmentReader *r)
{
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		ReadColumn *c = &r->columns[i];

		c->key_id = SPAN_BATCH_NONE;
		c->payload_copy = NULL;
		c->local_copies = NULL;
		c->copies = NULL;
		if (i == FIELD_SPAN_OVERFLOW)
			c->wanted = r->overflow_wanted;
		else if (c->field)
			c->wanted = field_is_wanted(i, r->parts);
		else if (c->table == TABLE_SPAN)
			c->wanted = (r->parts & SEGMENT_ATTRIBUTES) != 0 || key_is_wanted(r, r->strings[c->key]);
		else
			c->wanted = (r->parts & (c->table == TABLE_EVENT ? SEGMENT_EVENTS : SEGMENT_LINKS)) != 0;
	}
}

static bool
set_projection(SegmentReader *r, const SegmentProjection *p, SpanBatch *batch)
{
	uint64_t	generation = span_batch_generation(batch);
	bool		same = r->generation != 0 && same_projection(r, p);

	if (same && r->generation == generation)
		return true;
	r->generation = 0;
	arena_reset(&r->projection_arena);
	r->parts = p->parts;
	r->n_keys = 0;
	r->keys = arena_alloc(&r->projection_arena, (size_t) p->n_keys * sizeof(SpanText));
	r->batch_scopes = arena_alloc(&r->projection_arena, (size_t) r->n_scopes * sizeof(uint32_t));
	r->batch_strings = arena_alloc(&r->projection_arena, (size_t) r->n_strings * sizeof(uint32_t));
	if (r->keys == NULL || r->batch_scopes == NULL || r->batch_strings == NULL)
		return false;
	for (uint32_t i = 0; i < p->n_keys; i++)
	{
		r->keys[i].len = p->keys[i].len;
		r->keys[i].data = arena_copy(&r->projection_arena, p->keys[i].data, p->keys[i].len);
		if (r->keys[i].data == NULL)
			return false;
	}
	r->n_keys = p->n_keys;
	memset(r->batch_scopes, 0xff, (size_t) r->n_scopes * sizeof(uint32_t));
	memset(r->batch_strings, 0xff, (size_t) r->n_strings * sizeof(uint32_t));
	for (int t = 0; t < N_TABLES; t++)
	{
		for (uint32_t i = 0; i < r->tables[t].n_shapes; i++)
			r->tables[t].shapes[i].template = NULL;
		if (!same)
			r->tables[t].next = UINT32_MAX; /* the cursors were those of other columns */
	}
	r->overflow_wanted = overflow_is_wanted(r);
	mark_columns(r);
	r->generation = generation;
	return true;
}

static uint32_t
batch_string(Decoder *d, uint32_t number)
{
	SegmentReader *r = d->r;

	if (r->batch_strings[number] == SPAN_BATCH_NONE)
		r->batch_strings[number] = span_batch_string(d->batch, r->strings[number]);
	return r->batch_strings[number];
}

/* The batch's scope for one of ours, cut to the projection. */
static uint32_t
batch_scope(Decoder *d, uint32_t number)
{
	SegmentReader *r = d->r;
	const SpanScope *from = &r->scopes[number];
	const SpanResource *res = &r->resources[from->resource];
	SpanResource resource = {0};
	SpanScope	scope = {0};

	if (r->batch_scopes[number] != SPAN_BATCH_NONE)
		return r->batch_scopes[number];
	if (r->parts & SEGMENT_RESOURCE)
	{
		resource = *res;
		resource.schema_url = batch_string(d, res->schema_url);
	}
	resource.tenant = r->parts & SEGMENT_TENANT ? batch_string(d, res->tenant) : 0;
	if (r->parts & SEGMENT_SCOPE)
	{
		scope = *from;
		scope.name = batch_string(d, from->name);
		scope.version = batch_string(d, from->version);
		scope.schema_url = batch_string(d, from->schema_url);
	}
	if (resource.schema_url == SPAN_BATCH_NONE || resource.tenant == SPAN_BATCH_NONE ||
		scope.name == SPAN_BATCH_NONE || scope.version == SPAN_BATCH_NONE || scope.schema_url == SPAN_BATCH_NONE)
		return SPAN_BATCH_NONE;
	scope.resource = span_batch_resource(d->batch, &resource);
	if (scope.resource != SPAN_BATCH_NONE)
		r->batch_scopes[number] = span_batch_scope(d->batch, &scope);
	return r->batch_scopes[number];
}

/* A dictionary entry, its bytes in the batch. */
static bool
dictionary_value(Decoder *d, ReadColumn *c, uint32_t index, AnyValue *out)
{
	if (type_is_number(c->type))
	{
		*out = c->dictionary[index];
		return true;
	}
	if (c->copies == NULL)
	{
		c->copies = arena_alloc0(&d->r->projection_arena, (size_t) c->n_dictionary * sizeof(AnyValue));
		if (c->copies == NULL)
			return segment_no_memory(d->error);
	}
	if (c->copies[index].type == ANY_EMPTY &&
		!any_value_copy(d->arena, &c->dictionary[index], &c->copies[index]))
		return segment_no_memory(d->error);
	*out = c->copies[index];
	return true;
}

/* Expands packed hexadecimal. */
static char *
unpack_hex(Arena *arena, const uint8_t *packed, uint32_t len, bool uuid)
{
	static const char digits[] = "0123456789abcdef";
	char	   *result = arena_alloc(arena, len);
	char	   *to = result;

	if (result == NULL)
		return NULL;
	for (uint32_t i = 0; to < result + len; i++)
	{
		if (uuid && (i == 4 || i == 6 || i == 8 || i == 10))
			*to++ = '-';
		*to++ = digits[packed[i] >> 4];
		*to++ = digits[packed[i] & 15];
	}
	return result;
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
text_value(Decoder *d, const ReadColumn *c, uint32_t i, AnyValue *out)
{
	SpanText	text;

	out->type = c->type;
	if (c->form == FORM_UUID || c->form == FORM_HEX)
	{
		uint32_t	width = c->form == FORM_UUID ? 16 : c->fixed_len / 2;

		out->len = c->fixed_len;
		out->u.data = unpack_hex(d->arena, c->payload.data + (size_t) i * width, c->fixed_len, c->form == FORM_UUID);
		return out->u.data != NULL ? true : segment_no_memory(d->error);
	}
	text = text_in_place(c, i);
	if (c->payload_copy != NULL)
		text.data = c->payload_copy + (text.data - (const char *) c->payload.data);
	if (c->type == ANY_STRING || c->type == ANY_BYTES)
	{
		out->len = text.len;
		out->u.data = c->payload_copy != NULL ? text.data : arena_copy(d->arena, text.data, text.len);
		return out->u.data != NULL ? true : segment_no_memory(d->error);
	}
	{
		Cursor		nested = cursor_over((const uint8_t *) text.data, text.len);

		if (value_get(&nested, d->arena, c->payload_copy == NULL, out) && cursor_left(&nested) == 0 &&
			out->type == c->type)
			return true;
		return nested.failed || cursor_left(&nested) != 0 ? segment_corrupt(d->error, "bad nested value") :
			segment_no_memory(d->error);
	}
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

/* The column's next value, its bytes in the batch. */
static inline bool
next_value(Decoder *d, ReadColumn *c, AnyValue *out)
{
	uint32_t	i = c->cursor++;

	switch (c->form)
	{
		case FORM_NUMBERS:
			out->type = c->type;
			out->len = 0;
			if (c->type == ANY_BOOL)
				out->u.boolean = c->numbers[i] != 0;
			else
				memcpy(&out->u, &c->numbers[i], 8);
			return true;
		case FORM_CODES:
			if (c->copies != NULL && c->copies[c->codes[i]].type != ANY_EMPTY)
			{
				*out = c->copies[c->codes[i]];
				return true;
			}
			return dictionary_value(d, c, c->codes[i], out);
		default:
			return c->local ? local_value(d, c, c->codes[i], out) : text_value(d, c, i, out);
	}
}

static void
set_span_field(Template *t, Span *span, uint32_t column, const AnyValue *value)
{
	switch ((FieldColumn) column)
	{
		case FIELD_PARENT_DISTANCE:
			t->has_distance = true;
			t->distance = value->u.integer;
			break;
		case FIELD_PARENT_ID:
			memcpy(&span->parent_span_id, value->u.data, value->len < SPAN_ID_LEN ? value->len : SPAN_ID_LEN);
			break;
		case FIELD_STATUS_MESSAGE:
			span->status_message = span_text(value->u.data, value->len);
			break;
		case FIELD_TRACE_STATE:
			span->trace_state = span_text(value->u.data, value->len);
			break;
		case FIELD_FLAGS:
			span->flags = (uint32_t) value->u.integer;
			break;
		case FIELD_DROPPED_ATTRIBUTES:
			span->dropped_attributes_count = (uint32_t) value->u.integer;
			break;
		case FIELD_DROPPED_EVENTS:
			span->dropped_events_count = (uint32_t) value->u.integer;
			break;
		case FIELD_DROPPED_LINKS:
			span->dropped_links_count = (uint32_t) value->u.integer;
			break;
		case FIELD_N_EVENTS:
			span->n_events = (uint32_t) value->u.integer;
			break;
		case FIELD_N_LINKS:
			span->n_links = (uint32_t) value->u.integer;
			break;
		default:
			break;
	}
}

static void
set_child_field(SpanEvent *event, SpanLink *link, uint32_t column, const AnyValue *value)
{
	switch ((FieldColumn) column)
	{
		case FIELD_EVENT_NAME:
			event->name = span_text(value->u.data, value->len);
			break;
		case FIELD_EVENT_DROPPED:
			event->dropped_attributes_count = (uint32_t) value->u.integer;
			break;
		case FIELD_LINK_TRACE_STATE:
			link->trace_state = span_text(value->u.data, value->len);
			break;
		case FIELD_LINK_FLAGS:
			link->flags = (uint32_t) value->u.integer;
			break;
		case FIELD_LINK_DROPPED:
			link->dropped_attributes_count = (uint32_t) value->u.integer;
			break;
		default:
			break;
	}
}

static void
set_field(Template *t, TableId table, uint32_t column, const AnyValue *value)
{
	if (table == TABLE_SPAN)
		set_span_field(t, &t->proto.span, column, value);
	else
		set_child_field(&t->proto.event, &t->proto.link, column, value);
}

/* One item of the shape into the template. */
static bool
add_item(Decoder *d, TableId table, const ReadShape *shape, uint32_t k, uint32_t ordinal, Template *t)
{
	SegmentReader *r = d->r;
	uint32_t	number = shape->columns[k];
	ReadColumn *c = &r->columns[number];
	bool		varies = shape->constants[k] == 0;
	AnyValue	value;

	/* columns of values that vary are loaded once a row is taken */
	if (!varies && !segment_load_dictionary(r, number, d->error))
		return false;
	if (!varies && !dictionary_value(d, c, shape->constants[k] - 1, &value))
		return false;
	if (c->field)
	{
		bool		overflow = number == FIELD_SPAN_OVERFLOW || number == FIELD_EVENT_OVERFLOW ||
			number == FIELD_LINK_OVERFLOW;

		if (overflow && (!varies || t->overflow != 0))
			return segment_corrupt(d->error, "bad shape");
		if (overflow)
			t->overflow = number;
		else if (varies)
			t->fields[t->n_fields++].column = number;
		else
			set_field(t, table, number, &value);
		return true;
	}
	if (c->key_id == SPAN_BATCH_NONE)
		c->key_id = span_batch_string(d->batch, r->strings[c->key]);
	if (c->key_id == SPAN_BATCH_NONE)
		return segment_no_memory(d->error);
	t->items[t->n_items].key = d->batch->strings[c->key_id];
	t->items[t->n_items].key_id = c->key_id;
	if (varies)
	{
		t->items[t->n_items].value.type = SEGMENT_VARIES;
		t->values[t->n_values].column = number;
		t->values[t->n_values++].target = t->n_items;
	}
	else
		t->items[t->n_items].value = value;
	t->ordinals[t->n_items++] = ordinal;
	return true;
}

static Template *
make_template(Decoder *d, TableId table, ReadShape *shape)
{
	SegmentReader *r = d->r;
	Arena	   *arena = &r->projection_arena;
	Template   *t = arena_alloc0(arena, sizeof(Template));
	uint32_t	ordinal = 0;
	uint32_t	wanted = 0;

	for (uint32_t k = 0; k < shape->n_items; k++)
		wanted += r->columns[shape->columns[k]].wanted;
	if (t != NULL)
	{
		t->fields = arena_alloc(arena, (size_t) wanted * sizeof(Vary));
		t->values = arena_alloc(arena, (size_t) wanted * sizeof(Vary));
		t->items = arena_alloc0(d->arena, (size_t) wanted * sizeof(KeyValue));
		t->ordinals = arena_alloc(arena, (size_t) wanted * sizeof(uint32_t));
	}
	if (t == NULL || t->fields == NULL || t->values == NULL || t->items == NULL || t->ordinals == NULL)
	{
		segment_no_memory(d->error);
		return NULL;
	}
	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		const ReadColumn *c = &r->columns[shape->columns[k]];

		if (c->wanted && !add_item(d, table, shape, k, ordinal, t))
			return NULL;
		ordinal += !c->field;
	}
	if (table == TABLE_SPAN)
	{
		Span	   *span = &t->proto.span;

		span->scope = batch_scope(d, shape->fields[0]);
		span->name = r->parts & SEGMENT_NAME ? batch_string(d, shape->fields[1]) : 0;
		span->kind = r->parts & SEGMENT_KIND ? (int32_t) shape->fields[2] : 0;
		span->status_code = r->parts & SEGMENT_STATUS ? (int32_t) shape->fields[3] : 0;
		if (span->scope == SPAN_BATCH_NONE || span->name == SPAN_BATCH_NONE)
		{
			segment_no_memory(d->error);
			return NULL;
		}
	}
	shape->template = t;
	return t;
}

/* One attribute of the overflow column. */
typedef struct Extra
{
	uint32_t	position;
	KeyValue	item;
} Extra;

static bool
get_extras(Decoder *d, TableId table, uint32_t column, Extra **extras, uint32_t *count)
{
	SegmentReader *r = d->r;
	ReadColumn *c = &r->columns[column];
	uint32_t	at = c->cursor++;
	SpanText	bytes = text_in_place(c, c->local ? c->codes[at] : at);
	Cursor		in = cursor_over((const uint8_t *) bytes.data, bytes.len);
	Extra	   *list = arena_alloc(&d->temp, (size_t) bytes.len / 3 * sizeof(Extra));
	uint32_t	n = 0;

	if (list == NULL)
		return segment_no_memory(d->error);
	while (cursor_left(&in) >= 3 && !in.failed)
	{
		SpanText	key;
		KeyValue   *item = &list[n].item;

		list[n].position = cursor_number(&in, UINT32_MAX);
		key = cursor_text(&in);
		if (in.failed || !value_get(&in, d->arena, true, &item->value))
			break;
		item->key_id = SPAN_BATCH_NONE;
		/* unwanted ones still count for the positions of the others */
		if (table != TABLE_SPAN || (r->parts & SEGMENT_ATTRIBUTES) || key_is_wanted(r, key))
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
	Extra	   *extras = NULL;
	uint32_t	n_extras = 0;
	uint32_t	taken = 0;
	uint32_t	n = 0;
	KeyValue   *merged;

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
	KeyValue   *items = t->items;

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
template_of(Decoder *d, TableId table, uint32_t row)
{
	ReadTable  *t = &d->r->tables[table];
	ReadShape  *shape = &t->shapes[t->row_shapes[row]];

	return shape->template != NULL ? shape->template : make_template(d, table, shape);
}

static inline Template *
next_template(Decoder *d, TableId table)
{
	return template_of(d, table, d->r->tables[table].next++);
}

/* Columns are loaded by block, templates live longer. */
static bool
load_template_columns(Decoder *d, Template *t)
{
	SegmentReader *r = d->r;

	if (t->block_serial == r->block_serial)
		return true;
	for (uint32_t i = 0; i < t->n_fields; i++)
		if (!segment_load_column(r, t->fields[i].column, d->error))
			return false;
	for (uint32_t i = 0; i < t->n_values; i++)
		if (!segment_load_column(r, t->values[i].column, d->error))
			return false;
	if (t->overflow != 0 && !segment_load_column(r, t->overflow, d->error))
		return false;
	t->block_serial = r->block_serial;
	return true;
}

static bool
take_events(Decoder *d, Span *span, int64_t start)
{
	SegmentReader *r = d->r;
	ReadTable  *table = &r->tables[TABLE_EVENT];
	SpanEvent  *events;

	if (span->n_events > table->n_rows - table->next)
		return segment_corrupt(d->error, "more events than there are");
	events = arena_alloc(d->arena, (size_t) span->n_events * sizeof(SpanEvent));
	if (events == NULL)
		return segment_no_memory(d->error);
	for (uint32_t i = 0; i < span->n_events; i++)
	{
		uint32_t	row = table->next;
		Template   *t = next_template(d, TABLE_EVENT);

		if (t == NULL || !load_template_columns(d, t))
			return false;
		events[i] = t->proto.event;
		events[i].time_unix_nano = (int64_t) ((uint64_t) start + (uint64_t) r->event_times[row]);
		for (uint32_t k = 0; k < t->n_fields; k++)
		{
			AnyValue	value;

			if (!next_value(d, &r->columns[t->fields[k].column], &value))
				return false;
			set_child_field(&events[i], NULL, t->fields[k].column, &value);
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
	ReadTable  *table = &r->tables[TABLE_LINK];
	SpanLink   *links;

	if (span->n_links > table->n_rows - table->next)
		return segment_corrupt(d->error, "more links than there are");
	links = arena_alloc(d->arena, (size_t) span->n_links * sizeof(SpanLink));
	if (links == NULL)
		return segment_no_memory(d->error);
	for (uint32_t i = 0; i < span->n_links; i++)
	{
		const uint8_t *ids = r->link_ids.data + (size_t) table->next * (TRACE_ID_LEN + SPAN_ID_LEN);
		Template   *t = next_template(d, TABLE_LINK);

		if (t == NULL || !load_template_columns(d, t))
			return false;
		links[i] = t->proto.link;
		memcpy(&links[i].trace_id, ids, TRACE_ID_LEN);
		memcpy(&links[i].span_id, ids + TRACE_ID_LEN, SPAN_ID_LEN);
		for (uint32_t k = 0; k < t->n_fields; k++)
		{
			AnyValue	value;

			if (!next_value(d, &r->columns[t->fields[k].column], &value))
				return false;
			set_child_field(NULL, &links[i], t->fields[k].column, &value);
		}
		if (!take_attributes(d, TABLE_LINK, t, &links[i].attributes))
			return false;
	}
	span->links = links;
	return true;
}

/* How many events or links the first "rows" rows of the block have. */
static bool
count_children(SegmentReader *r, bool events, uint32_t rows, uint32_t *count, SpanError *error)
{
	uint32_t	number = events ? FIELD_N_EVENTS : FIELD_N_LINKS;
	ReadColumn *c = &r->columns[number];
	ReadTable  *table = &r->tables[TABLE_SPAN];
	uint64_t	sum = 0;
	uint32_t	at = 0;

	for (uint32_t i = 0; i < rows; i++)
	{
		const ReadShape *shape = &table->shapes[table->row_shapes[i]];
		uint32_t	item = events ? shape->events_at : shape->links_at;

		if (item == UINT32_MAX)
			continue;
		if (shape->constants[item] != 0)
		{
			if (!segment_load_dictionary(r, number, error))
				return false;
			sum += (uint64_t) c->dictionary[shape->constants[item] - 1].u.integer;
		}
		else
		{
			if (!segment_load_column(r, number, error))
				return false;
			if (at >= c->n_values)
				return segment_corrupt(error, "bad shape");
			sum += (uint64_t) (c->form == FORM_CODES ? c->dictionary[c->codes[at]].u.integer : c->numbers[at]);
			at++;
		}
	}
	if (sum > r->tables[events ? TABLE_EVENT : TABLE_LINK].n_rows)
		return segment_corrupt(error, "more events or links than there are");
	*count = (uint32_t) sum;
	return true;
}

/* Sets all cursors to a row of the current block. */
static bool
seek_row(Decoder *d, uint32_t row)
{
	SegmentReader *r = d->r;
	uint32_t	child;

	if (r->tables[TABLE_SPAN].next == row)
		return true;
	segment_seek(r, TABLE_SPAN, row);
	if (r->parts & SEGMENT_EVENTS)
	{
		if (!count_children(r, true, row, &child, d->error))
			return false;
		segment_seek(r, TABLE_EVENT, child);
	}
	if (r->parts & SEGMENT_LINKS)
	{
		if (!count_children(r, false, row, &child, d->error))
			return false;
		segment_seek(r, TABLE_LINK, child);
	}
	return true;
}

/* Loads what all rows of the block need. */
static bool
prepare_block(Decoder *d, uint32_t block)
{
	SegmentReader *r = d->r;

	if (!segment_load_block(r, block, d->error) || !segment_load_rows(r, TABLE_SPAN, d->error))
		return false;
	if ((r->parts & (SEGMENT_START | SEGMENT_END | SEGMENT_EVENTS)) && !segment_load_starts(r, d->error))
		return false;
	if ((r->parts & SEGMENT_END) && !segment_load_durations(r, d->error))
		return false;
	if ((r->parts & (SEGMENT_SPAN_ID | SEGMENT_PARENT)) && r->span_ids.data == NULL)
	{
		Section		ids;

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
		Section		ids;

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
	int64_t		parent = (int64_t) row - t->distance;

	if (t->distance < INT32_MIN || t->distance > INT32_MAX || parent < 0 || parent >= r->block_rows)
		return segment_corrupt(d->error, "a parent is outside its block");
	memcpy(&span->parent_span_id, r->span_ids.data + parent * SPAN_ID_LEN, SPAN_ID_LEN);
	return true;
}

static bool
take_span(Decoder *d, uint32_t row, const TraceId *trace_id)
{
	SegmentReader *r = d->r;
	Template   *t = next_template(d, TABLE_SPAN);
	int64_t		start = 0;
	Span	   *span;

	if (t == NULL || !load_template_columns(d, t))
		return false;
	span = span_batch_extend(d->batch);
	if (span == NULL)
		return segment_no_memory(d->error);
	*span = t->proto.span;
	span->trace_id = *trace_id;
	for (uint32_t i = 0; i < t->n_fields; i++)
	{
		AnyValue	value;

		if (!next_value(d, &r->columns[t->fields[i].column], &value))
			return false;
		set_span_field(t, span, t->fields[i].column, &value);
	}
	if (t->has_distance && !take_parent(d, t, row, span))
		return false;
	if (r->parts & SEGMENT_SPAN_ID)
		memcpy(&span->span_id, r->span_ids.data + (size_t) row * SPAN_ID_LEN, SPAN_ID_LEN);
	if (r->starts != NULL)
		start = r->starts[row];
	if (r->parts & (SEGMENT_START | SEGMENT_END))
		span->start_time_unix_nano = start;
	if (r->parts & SEGMENT_END)
		span->end_time_unix_nano = (int64_t) ((uint64_t) start + (uint64_t) r->durations[row]);
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
	uint32_t	run = 0;
	uint32_t	row = first;

	if ((end - first) * 2 >= r->block_rows)
	{
		if (!copy_payloads(d))
			return false;
	}
	if (!seek_row(d, first))
		return false;
	while (row < end)
	{
		TraceId		trace_id = {{0}};
		uint32_t	stop;

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

/* Moves the cursors behind a row that is not wanted. */
static bool
skip_row(Decoder *d, uint32_t row)
{
	SegmentReader *r = d->r;
	ReadTable  *table = &r->tables[TABLE_SPAN];
	const ReadShape *shape = &table->shapes[table->row_shapes[row]];
	const Template *t = shape->template;

	if (r->parts & (SEGMENT_EVENTS | SEGMENT_LINKS))
	{
		/* those have cursors of their own */
		static const TraceId none = {{0}};

		if (!take_span(d, row, &none))
			return false;
		span_batch_truncate(d->batch, d->batch->n_spans - 1);
		return true;
	}
	table->next++;
	if (t == NULL)
	{
		for (uint32_t k = 0; k < shape->n_items; k++)
			r->columns[shape->columns[k]].cursor += shape->constants[k] == 0;
		return true;
	}
	for (uint32_t i = 0; i < t->n_fields; i++)
		r->columns[t->fields[i].column].cursor++;
	for (uint32_t i = 0; i < t->n_values; i++)
		r->columns[t->values[i].column].cursor++;
	if (t->overflow != 0)
		r->columns[t->overflow].cursor++;
	return true;
}

/* Some rows of the current block, which begins at "begin", in ascending order. */
static bool
decode_some_rows(Decoder *d, uint32_t begin, const uint32_t *rows, uint32_t n)
{
	SegmentReader *r = d->r;
	ReadTable  *table = &r->tables[TABLE_SPAN];
	TraceId		trace_id = {{0}};
	uint32_t	run = 0;
	uint32_t	run_end = 0;

	if (n == 0)
		return true;
	if (table->next > rows[0] - begin && !seek_row(d, 0))
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	row = rows[i] - begin;

		while (table->next < row)
			if (!skip_row(d, table->next))
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

static bool
is_excluded(Decoder *d, const SegmentTest *test, Template *t)
{
	if (t->tested != test->serial)
	{
		Span		prototype = t->proto.span;

		prototype.attributes.items = t->items;
		prototype.attributes.count = t->n_items;
		t->excluded = test->excludes(test->arg, d->batch, &prototype, t->overflow != 0);
		t->tested = test->serial;
	}
	return t->excluded;
}

/* Drops the rows of the list whose times are outside the test's bounds. */
static bool
check_times(Decoder *d, const SegmentTest *test, uint32_t *rows, uint32_t *n)
{
	SegmentReader *r = d->r;
	bool		starts = test->min_start != INT64_MIN || test->max_start != INT64_MAX;
	bool		durations = test->min_duration != INT64_MIN || test->max_duration != INT64_MAX;
	uint32_t	kept;

	if (*n > 0 && starts)
	{
		if (!segment_load_starts(r, d->error))
			return false;
		kept = 0;
		for (uint32_t i = 0; i < *n; i++)
		{
			rows[kept] = rows[i];
			kept += r->starts[rows[i]] >= test->min_start && r->starts[rows[i]] <= test->max_start;
		}
		*n = kept;
	}
	if (*n > 0 && durations)
	{
		if (!segment_load_durations(r, d->error))
			return false;
		kept = 0;
		for (uint32_t i = 0; i < *n; i++)
		{
			rows[kept] = rows[i];
			kept += r->durations[rows[i]] >= test->min_duration && r->durations[rows[i]] <= test->max_duration;
		}
		*n = kept;
	}
	return true;
}

static bool
select_block_rows(Decoder *d, const SegmentTest *test, uint32_t block, uint32_t first, uint32_t end,
				  uint32_t *rows, uint32_t *n)
{
	SegmentReader *r = d->r;

	if (!segment_load_block(r, block, d->error) || !segment_load_rows(r, TABLE_SPAN, d->error))
		return false;
	*n = 0;
	for (uint32_t row = first; row < end; row++)
	{
		Template   *t = template_of(d, TABLE_SPAN, row);

		if (t == NULL)
			return false;
		rows[*n] = row;
		*n += !is_excluded(d, test, t);
	}
	return check_times(d, test, rows, n) &&
		(*n == 0 || (prepare_block(d, block) && decode_some_rows(d, 0, rows, *n)));
}

static bool
begin_decoding(Decoder *d, SegmentReader *r, const SegmentProjection *projection, SpanBatch *batch,
			   SpanError *error)
{
	*d = (Decoder) {.r = r, .batch = batch, .arena = span_batch_arena(batch), .error = error};
	if (!segment_load_schema(r, error))
		return false;
	if (!set_projection(r, projection, batch))
		return segment_no_memory(error);
	arena_init(&d->temp, &r->allocator, 0);
	return true;
}

/* Leaves the batch as it was "before" if decoding failed. */
static bool
end_decoding(Decoder *d, uint32_t before, bool ok)
{
	arena_reset(&d->temp);
	if (!ok)
	{
		span_batch_truncate(d->batch, before);
		d->r->generation = 0;	/* the cursors are anywhere */
	}
	return ok;
}

bool
segment_decode(SegmentReader *r, const SegmentProjection *projection, uint32_t first, uint32_t count,
			   SpanBatch *batch, SpanError *error)
{
	Decoder		d;
	uint32_t	before = batch->n_spans;
	uint32_t	end;
	bool		ok = true;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!begin_decoding(&d, r, projection, batch, error))
		return false;
	end = first + count;
	while (ok && first < end)
	{
		uint32_t	block = first / IMAGE_BLOCK_ROWS;
		uint32_t	begin = block * IMAGE_BLOCK_ROWS;
		uint32_t	stop = end - begin < IMAGE_BLOCK_ROWS ? end : begin + IMAGE_BLOCK_ROWS;

		ok = prepare_block(&d, block) && decode_block_rows(&d, first - begin, stop - begin);
		first = stop;
	}
	return end_decoding(&d, before, ok);
}

bool
segment_select(SegmentReader *r, const SegmentProjection *projection, uint32_t first, uint32_t count,
			   const SegmentTest *test, SpanBatch *batch, uint32_t *rows, SpanError *error)
{
	Decoder		d;
	uint32_t	before = batch->n_spans;
	uint32_t	end;
	bool		ok = true;

	if (first > r->summary.rows || count > r->summary.rows - first)
		return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!begin_decoding(&d, r, projection, batch, error))
		return false;
	end = first + count;
	while (ok && first < end)
	{
		uint32_t	block = first / IMAGE_BLOCK_ROWS;
		uint32_t	begin = block * IMAGE_BLOCK_ROWS;
		uint32_t	stop = end - begin < IMAGE_BLOCK_ROWS ? end : begin + IMAGE_BLOCK_ROWS;
		uint32_t	n;

		ok = select_block_rows(&d, test, block, first - begin, stop - begin, rows, &n);
		for (uint32_t i = 0; ok && i < n; i++)
			rows[i] += begin;
		rows += ok ? n : 0;
		first = stop;
	}
	return end_decoding(&d, before, ok);
}

bool
segment_decode_rows(SegmentReader *r, const SegmentProjection *projection, const uint32_t *rows, uint32_t n,
					SpanBatch *batch, SpanError *error)
{
	Decoder		d;
	uint32_t	before = batch->n_spans;
	bool		ok = true;

	for (uint32_t i = 0; i < n; i++)
		if (rows[i] >= r->summary.rows || (i > 0 && rows[i] <= rows[i - 1]))
			return span_error(error, SPAN_ERROR_INVALID, "no such rows in the segment");
	if (!begin_decoding(&d, r, projection, batch, error))
		return false;
	while (ok && n > 0)
	{
		uint32_t	block = rows[0] / IMAGE_BLOCK_ROWS;
		uint32_t	some = 0;

		while (some < n && rows[some] / IMAGE_BLOCK_ROWS == block)
			some++;
		ok = prepare_block(&d, block) && decode_some_rows(&d, block * IMAGE_BLOCK_ROWS, rows, some);
		rows += some;
		n -= some;
	}
	return end_decoding(&d, before, ok);
}
