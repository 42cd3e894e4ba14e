/*-------------------------------------------------------------------------
 *
 * template.c
 *	  What all spans of a shape have in common, for a projection and a batch.
 *
 * For each shape that occurs, a template is built once per projection and
 * batch: everything constant is in it already, so that a row costs a copy of
 * the template and the values that vary.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/decoding.h"

#include "segment/column.h"

bool
segment_key_wanted(const SegmentReader *r, SpanText key)
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
		if (r->rare[i].table == TABLE_SPAN && segment_key_wanted(r, r->strings[r->rare[i].key]))
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
			c->wanted = (r->parts & SEGMENT_ATTRIBUTES) != 0 || segment_key_wanted(r, r->strings[c->key]);
		else
			c->wanted = (r->parts & (c->table == TABLE_EVENT ? SEGMENT_EVENTS : SEGMENT_LINKS)) != 0;
	}
}

static bool
set_projection(SegmentReader *r, const SegmentProjection *p, SpanBatch *batch)
{
	uint64_t generation = span_batch_generation(batch);
	bool     same = r->generation != 0 && same_projection(r, p);

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
		{
			r->tables[t].shapes[i].template = NULL;
			r->tables[t].shapes[i].varying = NULL;
		}
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
	SegmentReader      *r = d->r;
	const SpanScope    *from = &r->scopes[number];
	const SpanResource *res = &r->resources[from->resource];
	SpanResource        resource = {0};
	SpanScope           scope = {0};

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
bool
segment_dictionary_value(Decoder *d, ReadColumn *c, uint32_t index, AnyValue *out)
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
void
segment_set_span_field(Template *t, Span *span, uint32_t column, const AnyValue *value)
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

void
segment_set_child_field(SpanEvent *event, SpanLink *link, uint32_t column, const AnyValue *value)
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
		segment_set_span_field(t, &t->proto.span, column, value);
	else
		segment_set_child_field(&t->proto.event, &t->proto.link, column, value);
}

/* One item of the shape into the template. */
static bool
add_item(Decoder *d, TableId table, const ReadShape *shape, uint32_t k, uint32_t ordinal, Template *t)
{
	SegmentReader *r = d->r;
	uint32_t       number = shape->columns[k];
	ReadColumn    *c = &r->columns[number];
	bool           varies = shape->constants[k] == 0;
	AnyValue       value;

	/* columns of values that vary are loaded once a row is taken */
	if (!varies && !segment_load_dictionary(r, number, d->error))
		return false;
	if (!varies && !segment_dictionary_value(d, c, shape->constants[k] - 1, &value))
		return false;
	if (c->field)
	{
		bool overflow = number == FIELD_SPAN_OVERFLOW || number == FIELD_EVENT_OVERFLOW ||
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

Template *
segment_make_template(Decoder *d, TableId table, ReadShape *shape)
{
	SegmentReader *r = d->r;
	Arena         *arena = &r->projection_arena;
	Template      *t = arena_alloc0(arena, sizeof(Template));
	uint32_t       ordinal = 0;
	uint32_t       wanted = 0;

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
		Span *span = &t->proto.span;

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

/* Columns are loaded by block, templates live longer. */
bool
segment_load_template_columns(Decoder *d, Template *t)
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

bool
segment_load_template_values(Decoder *d, Template *t)
{
	SegmentReader *r = d->r;

	if (t->block_serial == r->block_serial)
		return true;
	for (uint32_t i = 0; i < t->n_fields; i++)
		if (!segment_load_values(r, t->fields[i].column, d->error))
			return false;
	for (uint32_t i = 0; i < t->n_values; i++)
		if (!segment_load_values(r, t->values[i].column, d->error))
			return false;
	return t->overflow == 0 || segment_load_values(r, t->overflow, d->error);
}

bool
segment_begin_decoding(Decoder *d, SegmentReader *r, const SegmentProjection *projection, SpanBatch *batch,
                       SpanError *error)
{
	*d = (Decoder){.r = r, .batch = batch, .arena = span_batch_arena(batch), .error = error};
	if (!segment_load_schema(r, error))
		return false;
	if (!set_projection(r, projection, batch))
		return segment_no_memory(error);
	arena_init(&d->temp, &r->allocator, 0);
	return true;
}

/* Leaves the batch as it was "before" if decoding failed. */
bool
segment_end_decoding(Decoder *d, uint32_t before, bool ok)
{
	arena_reset(&d->temp);
	d->r->keep_frames = false;
	if (!ok)
	{
		span_batch_truncate(d->batch, before);
		d->r->generation = 0; /* the cursors are anywhere */
	}
	return ok;
}
