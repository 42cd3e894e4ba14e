/*-------------------------------------------------------------------------
 *
 * schema.c
 *	  Loads what describes the rows of a segment: strings, resources, scopes,
 *	  columns, shapes, dictionaries.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/reading.h"

#include "segment/codec.h"
#include "segment/column.h"

static bool
get_strings(Cursor *c, SegmentReader *r)
{
	uint32_t n = cursor_count(c, 1);

	r->strings = arena_alloc(&r->arena, ((size_t) n + 1) * sizeof(SpanText));
	if (r->strings == NULL)
		return false;
	r->strings[0] = span_text("", 0);
	r->n_strings = n + 1;
	for (uint32_t i = 1; i <= n; i++)
		r->strings[i].len = cursor_number(c, UINT32_MAX);
	for (uint32_t i = 1; i <= n; i++)
		r->strings[i].data = (const char *) cursor_bytes(c, r->strings[i].len);
	return !c->failed;
}

static uint32_t
get_string(Cursor *c, const SegmentReader *r)
{
	return cursor_number(c, r->n_strings - 1);
}

static bool
get_resources(Cursor *c, SegmentReader *r)
{
	r->n_resources = cursor_count(c, 5);
	r->resources = arena_alloc0(&r->arena, (size_t) r->n_resources * sizeof(SpanResource));
	if (r->resources == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_resources; i++)
	{
		SpanResource *resource = &r->resources[i];

		resource->tenant = get_string(c, r);
		resource->schema_url = get_string(c, r);
		resource->dropped_attributes_count = cursor_number(c, UINT32_MAX);
		resource->entity_refs = cursor_text(c);
		if (c->failed || !attributes_get(c, &r->arena, false, &resource->attributes))
			return false;
	}
	return !c->failed;
}

static bool
get_scopes(Cursor *c, SegmentReader *r)
{
	r->n_scopes = cursor_count(c, 6);
	r->scopes = arena_alloc0(&r->arena, (size_t) r->n_scopes * sizeof(SpanScope));
	if (r->scopes == NULL)
		return false;
	if (r->n_scopes > 0 && r->n_resources == 0)
		return cursor_fail(c);
	for (uint32_t i = 0; i < r->n_scopes; i++)
	{
		SpanScope *scope = &r->scopes[i];

		scope->resource = cursor_number(c, r->n_resources - 1);
		scope->name = get_string(c, r);
		scope->version = get_string(c, r);
		scope->schema_url = get_string(c, r);
		scope->dropped_attributes_count = cursor_number(c, UINT32_MAX);
		if (c->failed || !attributes_get(c, &r->arena, false, &scope->attributes))
			return false;
	}
	return !c->failed;
}

static bool
get_columns(Cursor *c, SegmentReader *r)
{
	r->n_columns = cursor_count(c, 1);
	if (r->n_columns < N_FIELD_COLUMNS || r->n_columns > MAX_COLUMNS)
		return cursor_fail(c);
	r->columns = arena_alloc0(&r->arena, (size_t) r->n_columns * sizeof(ReadColumn));
	if (r->columns == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		ReadColumn *column = &r->columns[i];
		uint64_t    packed;

		if (i < N_FIELD_COLUMNS)
		{
			column->field = true;
			column->table = field_columns[i].table;
			column->type = field_columns[i].type;
		}
		else
		{
			uint8_t kind = cursor_u8(c);

			column->table = kind >> 4;
			column->type = kind & 15;
			column->key = get_string(c, r);
			if (column->table >= N_TABLES || column->type > ANY_BYTES)
				return cursor_fail(c);
		}
		packed = cursor_varint(c);
		if (packed >> 2 >= UINT32_MAX)
			return cursor_fail(c);
		column->coded = packed & 1;
		column->complete = (packed & 3) != 2;
		column->n_dictionary = (uint32_t) (packed >> 2);
	}
	r->n_rare = cursor_count(c, 3);
	r->rare = arena_alloc(&r->arena, (size_t) r->n_rare * sizeof(RareKey));
	if (r->rare == NULL)
		return false;
	for (uint32_t i = 0; i < r->n_rare; i++)
	{
		r->rare[i].table = cursor_u8(c);
		r->rare[i].key = get_string(c, r);
		r->rare[i].types = cursor_u8(c);
		if (r->rare[i].table >= N_TABLES)
			return cursor_fail(c);
	}
	return !c->failed;
}

/* The fields of all shapes; their items are left to segment_load_shape(). */
static bool
get_shapes(Cursor *c, SegmentReader *r, TableId table)
{
	ReadTable *t = &r->tables[table];

	if (cursor_left(c) == 0)
		return true;
	t->n_shapes = cursor_count(c, 2);
	t->shapes = arena_alloc0(&r->arena, (size_t) t->n_shapes * sizeof(ReadShape));
	if (t->shapes == NULL)
		return false;
	for (uint32_t i = 0; table == TABLE_SPAN && i < t->n_shapes; i++)
	{
		ReadShape *shape = &t->shapes[i];
		uint64_t   scope = cursor_varint(c);

		if (scope >= r->n_scopes)
			return cursor_fail(c);
		shape->fields[0] = (uint32_t) scope;
		shape->fields[1] = get_string(c, r);
		shape->fields[2] = (uint32_t) unzigzag(cursor_varint(c));
		shape->fields[3] = (uint32_t) unzigzag(cursor_varint(c));
	}
	for (uint32_t i = 0; i < t->n_shapes; i++)
	{
		t->shapes[i].n_items = cursor_number(c, UINT32_MAX);
		t->shapes[i].len = cursor_number(c, UINT32_MAX);
	}
	for (uint32_t i = 0; i < t->n_shapes; i++)
		t->shapes[i].bytes = cursor_bytes(c, t->shapes[i].len);
	return !c->failed;
}

bool
segment_load_shape(SegmentReader *r, TableId table, ReadShape *shape, SpanError *error)
{
	Cursor    c = cursor_over(shape->bytes, shape->len);
	uint32_t  n = shape->n_items;
	uint32_t  n_values = 0;
	uint32_t *numbers;

	if (shape->columns != NULL)
		return true;
	if (n > shape->len / 2)
		return segment_corrupt(error, "bad shape");
	numbers = arena_alloc(&r->arena, (size_t) n * 3 * sizeof(uint32_t));
	if (numbers == NULL)
		return segment_no_memory(error);
	shape->events_at = shape->links_at = UINT32_MAX;
	for (uint32_t k = 0; k < n; k++)
	{
		uint32_t column = cursor_number(&c, r->n_columns - 1);

		if (r->columns[column].table != table)
			return segment_corrupt(error, "bad shape");
		numbers[k] = column;
		numbers[n + k] = cursor_number(&c, r->columns[column].n_dictionary);
		if (numbers[n + k] == 0)
			numbers[2 * (size_t) n + n_values++] = column;
		if (column == FIELD_N_EVENTS)
			shape->events_at = k;
		else if (column == FIELD_N_LINKS)
			shape->links_at = k;
	}
	if (c.failed || cursor_left(&c) != 0)
		return segment_corrupt(error, "bad shape");
	shape->constants = numbers + n;
	shape->values = numbers + 2 * (size_t) n;
	shape->n_values = n_values;
	shape->columns = numbers;
	return true;
}

typedef bool (*SchemaPart)(Cursor *c, SegmentReader *r);

bool
segment_load_schema(SegmentReader *r, SpanError *error)
{
	static const struct
	{
		Stream     stream;
		SchemaPart parse;
	} parts[] = {
		{STREAM_STRINGS, get_strings},
		{STREAM_RESOURCES, get_resources},
		{STREAM_SCOPES, get_scopes},
		{STREAM_COLUMNS, get_columns},
	};
	Section section;
	Cursor  c;

	if (r->schema_loaded)
		return true;
	for (int i = 0; i < 4; i++)
	{
		if (!segment_section(r, SECTION(parts[i].stream, 0), true, &section, error))
			return false;
		c = cursor_over(section.data, section.len);
		if (!parts[i].parse(&c, r) && !c.failed)
			return segment_no_memory(error);
		if (c.failed || cursor_left(&c) != 0)
			return segment_corrupt(error, "bad schema");
	}
	for (int t = 0; t < N_TABLES; t++)
	{
		if (!segment_section(r, SECTION(STREAM_SHAPES + t, 0), true, &section, error))
			return false;
		c = cursor_over(section.data, section.len);
		if (!get_shapes(&c, r, t) && !c.failed)
			return segment_no_memory(error);
		if (c.failed || cursor_left(&c) != 0)
			return segment_corrupt(error, "bad shapes");
	}
	r->schema_loaded = true;
	return true;
}

static bool
get_texts(Cursor *c, Arena *arena, uint8_t type, AnyValue *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		values[i].len = cursor_number(c, UINT32_MAX);
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t       len = values[i].len;
		const uint8_t *bytes = cursor_bytes(c, len);

		if (bytes == NULL)
			return false;
		if (type == ANY_STRING || type == ANY_BYTES)
		{
			values[i].type = type;
			values[i].u.data = (const char *) bytes;
		}
		else
		{
			Cursor nested = cursor_over(bytes, len);

			if (!value_get(&nested, arena, false, &values[i]) && !nested.failed)
				return false;
			if (nested.failed || cursor_left(&nested) != 0 || values[i].type != type)
				return cursor_fail(c);
		}
	}
	return true;
}

bool
segment_load_dictionary(SegmentReader *r, uint32_t number, SpanError *error)
{
	ReadColumn *column = &r->columns[number];
	uint32_t    n = column->n_dictionary;
	Section     section;
	Cursor      c;
	AnyValue   *values;

	if (column->dictionary != NULL)
		return true;
	if (!segment_section(r, SECTION(COLUMN_STREAM(number, COLUMN_DICTIONARY), 0), true, &section, error))
		return false;
	if (n > section.len)
		return segment_corrupt(error, "bad dictionary");
	values = arena_alloc0(&r->arena, (size_t) n * sizeof(AnyValue));
	if (values == NULL)
		return segment_no_memory(error);
	c = cursor_over(section.data, section.len);
	if (!type_is_number(column->type))
	{
		if (!get_texts(&c, &r->arena, column->type, values, n) && !c.failed)
			return segment_no_memory(error);
	}
	else
		for (uint32_t i = 0; i < n; i++)
		{
			uint64_t bits = column->type == ANY_DOUBLE ? cursor_u64(&c) : (uint64_t) unzigzag(cursor_varint(&c));

			values[i].type = column->type;
			if (column->type == ANY_BOOL)
				values[i].u.boolean = bits != 0;
			else
				memcpy(&values[i].u, &bits, 8);
		}
	if (c.failed || cursor_left(&c) != 0)
		return segment_corrupt(error, "bad dictionary");
	column->dictionary = values;
	return true;
}
