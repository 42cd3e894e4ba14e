/*-------------------------------------------------------------------------
 *
 * merge_read.c
 *	  Reads the sources of a merge.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/merging.h"

#include "segment/codec.h"
#include "segment/decoding.h"

typedef enum ParentForm
{
	PARENT_IS_NONE,
	PARENT_IS_NEAR, /* so many rows before */
	PARENT_IS_ID
} ParentForm;

/* A shape of the source, and how its rows are read. */
typedef struct SourceShape
{
	const ReadShape *read;
	MergeShape      *shape;
	uint32_t         number;
	uint32_t         scope; /* of the source */
	ParentForm       parent;
	bool             parent_varies;
	int64_t          distance; /* the constant ones */
	SpanId           parent_id;
} SourceShape;

/* ------------------------------------------------------------- the merge */

static Pool *
add_pool(SegmentMerge *m, TableId table, uint8_t type, bool field, uint32_t key)
{
	Pool *pool = arena_alloc0(&m->arena, sizeof(Pool));

	if (pool == NULL)
		return NULL;
	column_init(&pool->column, &m->allocator);
	pool->column.table = table;
	pool->column.type = type;
	pool->column.field = field;
	pool->column.key = key;
	buffer_put(&m->pools, &pool, sizeof(pool));
	return m->pools.failed ? NULL : pool;
}

SegmentMerge *
segment_merge_create(const SpanAllocator *allocator)
{
	SegmentMerge *m = allocator->alloc(allocator->arg, sizeof(SegmentMerge));

	if (m == NULL)
		return NULL;
	memset(m, 0, sizeof(*m));
	m->allocator = *allocator;
	arena_init(&m->arena, &m->allocator, 0);
	arena_init(&m->block_arena, &m->allocator, 0);
	arena_init(&m->value_arena, &m->allocator, 0);
	arena_init(&m->source.arena, &m->allocator, 0);
	buffer_init(&m->rows, &m->allocator);
	buffer_init(&m->pools, &m->allocator);
	buffer_init(&m->keys, &m->allocator);
	buffer_init(&m->kinds, &m->allocator);
	buffer_init(&m->shapes, &m->allocator);
	buffer_init(&m->traces, &m->allocator);
	buffer_init(&m->units, &m->allocator);
	buffer_init(&m->scratch, &m->allocator);
	buffer_init(&m->targets, &m->allocator);
	m->batch = span_batch_create(&m->allocator, 0);
	for (int i = 0; m->batch != NULL && i < N_FIELD_COLUMNS; i++)
		if (add_pool(m, field_columns[i].table, field_columns[i].type, true, 0) == NULL)
			break;
	if (m->batch != NULL && m->pools.len == N_FIELD_COLUMNS * sizeof(Pool *))
		return m;
	segment_merge_destroy(m);
	return NULL;
}

void
segment_merge_destroy(SegmentMerge *m)
{
	SpanAllocator a = m->allocator;

	for (uint32_t i = 0; i < m->pools.len / sizeof(Pool *); i++)
	{
		Pool *pool = merge_pool(m, i);

		column_free(&pool->column);
		if (pool->entry != NULL)
			a.release(a.arg, pool->entry);
	}
	if (m->batch != NULL)
		span_batch_destroy(m->batch);
	if (m->kind_slots != NULL)
		a.release(a.arg, m->kind_slots);
	if (m->trace_slots != NULL)
		a.release(a.arg, m->trace_slots);
	buffer_free(&m->rows);
	buffer_free(&m->pools);
	buffer_free(&m->keys);
	buffer_free(&m->kinds);
	buffer_free(&m->shapes);
	buffer_free(&m->traces);
	buffer_free(&m->units);
	buffer_free(&m->scratch);
	buffer_free(&m->targets);
	arena_reset(&m->source.arena);
	arena_reset(&m->block_arena);
	arena_reset(&m->value_arena);
	arena_reset(&m->arena);
	a.release(a.arg, m);
}

uint32_t
segment_merge_rows(const SegmentMerge *m)
{
	return (uint32_t) (m->rows.len / sizeof(MergeRow *));
}

size_t
segment_merge_memory(const SegmentMerge *m)
{
	size_t size = m->arena.used + m->source.arena.used + m->block_arena.used + m->value_arena.used + span_batch_memory(m->batch) +
	              m->rows.size + m->keys.size + m->kinds.size + m->shapes.size + m->traces.size +
	              ((size_t) m->n_kind_slots + m->n_trace_slots) * sizeof(uint32_t);

	for (uint32_t i = 0; i < m->pools.len / sizeof(Pool *); i++)
	{
		const Pool *pool = merge_pool(m, i);

		size += pool->column.entries.size + (size_t) pool->column.n_slots * sizeof(uint32_t);
	}
	return size;
}

uint32_t
merge_attribute_pool(SegmentMerge *m, TableId table, uint32_t key, uint8_t type)
{
	size_t    width = N_TABLES * 8 * sizeof(uint32_t);
	size_t    need = (key + (size_t) 1) * width;
	uint32_t *slot;

	if (m->keys.len < need)
	{
		uint8_t *more = buffer_reserve(&m->keys, need - m->keys.len);

		if (more == NULL)
			return UINT32_MAX;
		memset(more, 0, need - m->keys.len);
		m->keys.len = need;
	}
	slot = (uint32_t *) m->keys.data + (size_t) key * N_TABLES * 8 + table * 8 + (type & 7);
	if (*slot == 0)
	{
		if (add_pool(m, table, type & 7, false, key) == NULL)
			return UINT32_MAX;
		*slot = (uint32_t) (m->pools.len / sizeof(Pool *));
	}
	return *slot - 1;
}

/* ---------------------------------------------------------------- shapes */

static bool
grow_kind_slots(SegmentMerge *m)
{
	uint32_t  n = (uint32_t) (m->kinds.len / sizeof(MergeKind *));
	uint32_t  n_slots = m->n_kind_slots == 0 ? 256 : m->n_kind_slots * 2;
	uint32_t *slots = m->allocator.alloc(m->allocator.arg, (size_t) n_slots * sizeof(uint32_t));

	if (slots == NULL)
		return false;
	memset(slots, 0, (size_t) n_slots * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t at = (uint32_t) ((MergeKind **) m->kinds.data)[i]->hash & (n_slots - 1);

		while (slots[at] != 0)
			at = (at + 1) & (n_slots - 1);
		slots[at] = i + 1;
	}
	if (m->kind_slots != NULL)
		m->allocator.release(m->allocator.arg, m->kind_slots);
	m->kind_slots = slots;
	m->n_kind_slots = n_slots;
	return true;
}

MergeKind *
merge_kind(SegmentMerge *m, TableId table, const uint32_t *fields, const uint32_t *pools, uint32_t n)
{
	size_t     size = n * sizeof(uint32_t);
	uint64_t   hash = span_bytes_hash(pools, size, span_bytes_hash(fields, SHAPE_FIELDS * sizeof(uint32_t), table));
	uint32_t   n_kinds = (uint32_t) (m->kinds.len / sizeof(MergeKind *));
	uint32_t   at;
	MergeKind *kind;

	if (n_kinds + 1 > m->n_kind_slots / 2 && !grow_kind_slots(m))
		return NULL;
	for (at = (uint32_t) hash & (m->n_kind_slots - 1); m->kind_slots[at] != 0; at = (at + 1) & (m->n_kind_slots - 1))
	{
		kind = ((MergeKind **) m->kinds.data)[m->kind_slots[at] - 1];
		if (kind->hash == hash && kind->table == table && kind->n_items == n &&
		    memcmp(kind->fields, fields, sizeof(kind->fields)) == 0 && (n == 0 || memcmp(kind->pools, pools, size) == 0))
			return kind;
	}
	kind = arena_alloc0(&m->arena, sizeof(MergeKind));
	if (kind == NULL)
		return NULL;
	kind->hash = hash;
	kind->table = table;
	memcpy(kind->fields, fields, sizeof(kind->fields));
	kind->n_items = n;
	kind->plain = UINT32_MAX;
	kind->pools = arena_copy(&m->arena, pools, size);
	buffer_put(&m->kinds, &kind, sizeof(kind));
	if (kind->pools == NULL || m->kinds.failed)
		return NULL;
	m->kind_slots[at] = n_kinds + 1;
	return kind;
}

MergeShape *
merge_add_shape(SegmentMerge *m, MergeKind *kind, uint32_t *number)
{
	MergeShape *shape = arena_alloc0(&m->arena, sizeof(MergeShape));

	*number = (uint32_t) (m->shapes.len / sizeof(MergeShape *));
	if (shape == NULL)
		return NULL;
	shape->kind = kind;
	shape->n_items = kind->n_items;
	shape->items = arena_alloc0(&m->arena, (size_t) kind->n_items * sizeof(MergeItem));
	shape->varying = arena_alloc(&m->arena, (size_t) kind->n_items * sizeof(uint32_t));
	shape->events = shape->links = shape->overflow = UINT32_MAX;
	buffer_put(&m->shapes, &shape, sizeof(shape));
	if (shape->items == NULL || shape->varying == NULL || m->shapes.failed)
		return NULL;
	for (uint32_t k = 0; k < kind->n_items; k++)
	{
		uint32_t pool = kind->pools[k];

		shape->items[k].pool = pool;
		shape->items[k].number = type_is_number(merge_pool(m, pool)->column.type);
		if (pool == FIELD_N_EVENTS)
			shape->events = k;
		else if (pool == FIELD_N_LINKS)
			shape->links = k;
		else if (pool == FIELD_SPAN_OVERFLOW || pool == FIELD_EVENT_OVERFLOW || pool == FIELD_LINK_OVERFLOW)
			shape->overflow = k;
	}
	return shape;
}

void
merge_lay_out(MergeShape *shape)
{
	shape->units = shape->n_varying = 0;
	for (uint32_t k = 0; k < shape->n_items; k++)
	{
		MergeItem *item = &shape->items[k];

		if (item->at == MERGE_CONSTANT)
			continue;
		shape->varying[shape->n_varying++] = k;
		item->at = shape->units;
		shape->units += item->number ? 2 : 1;
	}
}

/* ---------------------------------------------------------------- values */

/* A text, or the bytes of a nested value, into a pool. */
static bool
intern_text(SegmentMerge *m, Pool *pool, SpanText text, bool checked, int64_t *value, SpanError *error)
{
	uint8_t  type = pool->column.type;
	uint32_t code;

	if (!checked && type != ANY_STRING && type != ANY_BYTES)
	{
		Cursor   in = cursor_over((const uint8_t *) text.data, text.len);
		AnyValue nested;

		if (!value_get(&in, &m->value_arena, false, &nested) && !in.failed)
			return segment_no_memory(error);
		if (in.failed || cursor_left(&in) != 0 || nested.type != type)
			return segment_corrupt(error, "bad nested value");
		/* an element takes many times its byte */
		arena_rewind(&m->value_arena, 64 * 1024);
	}
	if (!column_intern(&pool->column, text, &m->arena, &code))
		return segment_no_memory(error);
	*value = code;
	return true;
}

bool
merge_intern_value(SegmentMerge *m, Pool *pool, const AnyValue *in, int64_t *value, SpanError *error)
{
	switch ((AnyValueType) in->type)
	{
		case ANY_BOOL:
			*value = in->u.boolean;
			return true;
		case ANY_INT:
		case ANY_DOUBLE:
			memcpy(value, &in->u, 8);
			return true;
		case ANY_STRING:
		case ANY_BYTES:
			return intern_text(m, pool, span_text(in->u.data, in->len), true, value, error);
		default:
			m->scratch.len = 0;
			value_put(&m->scratch, in);
			if (m->scratch.failed || m->scratch.len > UINT32_MAX)
				return segment_no_memory(error);
			return intern_text(m, pool, span_text((const char *) m->scratch.data, (uint32_t) m->scratch.len), true, value, error);
	}
}

/* The pool of a column of the source. */
static Pool *
source_pool(SegmentMerge *m, uint32_t column, uint32_t *number, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	uint32_t      *known = &m->source.pools[column];

	if (*known == UINT32_MAX)
	{
		const ReadColumn *c = &r->columns[column];
		uint32_t          key;

		if (c->field)
			*known = column;
		else
		{
			key = span_batch_string(m->batch, r->strings[c->key]);
			if (key != SPAN_BATCH_NONE)
				*known = merge_attribute_pool(m, c->table, key, c->type);
		}
		if (*known == UINT32_MAX)
		{
			segment_no_memory(error);
			return NULL;
		}
	}
	*number = *known;
	return merge_pool(m, *known);
}

/* Codes by entry, nothing known yet. */
static uint32_t *
unknown_codes(Arena *arena, uint32_t n)
{
	uint32_t *codes = arena_alloc(arena, (size_t) n * sizeof(uint32_t) + 1);

	if (codes != NULL)
		memset(codes, 0xff, (size_t) n * sizeof(uint32_t));
	return codes;
}

static bool
dictionary_value(SegmentMerge *m, uint32_t column, Pool *pool, uint32_t entry, int64_t *value, SpanError *error)
{
	const ReadColumn *c = &m->source.reader->columns[column];
	uint32_t        **codes = &m->source.codes[column];

	if (type_is_number(c->type))
		return merge_intern_value(m, pool, &c->dictionary[entry], value, error);
	if (*codes == NULL)
		*codes = unknown_codes(&m->source.arena, c->n_dictionary);
	if (*codes == NULL)
		return segment_no_memory(error);
	if ((*codes)[entry] == UINT32_MAX)
	{
		if (!merge_intern_value(m, pool, &c->dictionary[entry], value, error))
			return false;
		(*codes)[entry] = (uint32_t) *value;
	}
	else
		pool->column.n_interned++;
	*value = (*codes)[entry];
	return true;
}

/* A text of the block that is in no dictionary of the segment. */
static bool
block_text(SegmentMerge *m, const ReadColumn *c, Pool *pool, uint32_t i, int64_t *value, SpanError *error)
{
	AnyValue text;

	if (c->form == FORM_FIXED)
		return intern_text(m, pool, span_text((const char *) c->payload.data + (size_t) i * c->fixed_len, c->fixed_len),
		                   false, value, error);
	if (c->form == FORM_LENGTHS)
		return intern_text(m, pool,
		                   span_text((const char *) c->payload.data + c->offsets[i], c->offsets[i + 1] - c->offsets[i]),
		                   false, value, error);
	m->scratch.len = 0;
	text.u.data = (const char *) buffer_reserve(&m->scratch, (size_t) c->fixed_len + 1);
	if (text.u.data == NULL)
		return segment_no_memory(error);
	segment_expand_hex(c, i, (char *) m->scratch.data);
	return intern_text(m, pool, span_text(text.u.data, c->fixed_len), true, value, error);
}

/* Value "i" of a loaded column. */
static inline bool
read_value(SegmentMerge *m, uint32_t column, Pool *pool, uint32_t i, int64_t *value, SpanError *error)
{
	const ReadColumn *c = &m->source.reader->columns[column];
	uint32_t        **codes;

	if (c->form == FORM_NUMBERS)
	{
		*value = c->type == ANY_BOOL ? c->numbers[i] != 0 : c->numbers[i];
		return true;
	}
	if (c->form == FORM_CODES)
		return dictionary_value(m, column, pool, c->codes[i], value, error);
	if (!c->local)
		return block_text(m, c, pool, i, value, error);
	codes = &m->source.local_codes[column];
	if (*codes == NULL)
		*codes = unknown_codes(&m->block_arena, c->n_texts);
	if (*codes == NULL)
		return segment_no_memory(error);
	i = c->codes[i];
	if ((*codes)[i] == UINT32_MAX)
	{
		if (!block_text(m, c, pool, i, value, error))
			return false;
		(*codes)[i] = (uint32_t) *value;
	}
	else
		pool->column.n_interned++;
	*value = (*codes)[i];
	return true;
}

/* ------------------------------------------------------ shapes of a source */

static bool
set_parent(SpanId *id, SpanText bytes)
{
	memset(id, 0, sizeof(*id));
	memcpy(id, bytes.data, bytes.len < SPAN_ID_LEN ? bytes.len : SPAN_ID_LEN);
	return true;
}

static uint32_t
source_scope(SegmentMerge *m, uint32_t number)
{
	SegmentReader      *r = m->source.reader;
	const SpanScope    *from = &r->scopes[number];
	const SpanResource *owner = &r->resources[from->resource];
	SpanResource        resource = *owner;
	SpanScope           scope = *from;

	if (m->source.scopes[number] != SPAN_BATCH_NONE)
		return m->source.scopes[number];
	resource.tenant = span_batch_string(m->batch, r->strings[owner->tenant]);
	resource.schema_url = span_batch_string(m->batch, r->strings[owner->schema_url]);
	scope.name = span_batch_string(m->batch, r->strings[from->name]);
	scope.version = span_batch_string(m->batch, r->strings[from->version]);
	scope.schema_url = span_batch_string(m->batch, r->strings[from->schema_url]);
	if (resource.tenant == SPAN_BATCH_NONE || resource.schema_url == SPAN_BATCH_NONE || scope.name == SPAN_BATCH_NONE ||
	    scope.version == SPAN_BATCH_NONE || scope.schema_url == SPAN_BATCH_NONE)
		return SPAN_BATCH_NONE;
	scope.resource = span_batch_resource(m->batch, &resource);
	if (scope.resource != SPAN_BATCH_NONE)
		m->source.scopes[number] = span_batch_scope(m->batch, &scope);
	return m->source.scopes[number];
}

static bool
note_parent(SegmentMerge *m, SourceShape *s, uint32_t k, SpanError *error)
{
	SegmentReader  *r = m->source.reader;
	uint32_t        column = s->read->columns[k];
	const AnyValue *constant;

	s->parent = column == FIELD_PARENT_DISTANCE ? PARENT_IS_NEAR : PARENT_IS_ID;
	s->parent_varies = s->read->constants[k] == 0;
	if (s->parent_varies)
		return true;
	if (!segment_load_dictionary(r, column, error))
		return false;
	constant = &r->columns[column].dictionary[s->read->constants[k] - 1];
	if (s->parent == PARENT_IS_NEAR)
		s->distance = constant->u.integer;
	else
		set_parent(&s->parent_id, span_text(constant->u.data, constant->len));
	return true;
}

/* The values that all rows of the shape have. */
static bool
read_constants(SegmentMerge *m, SourceShape *s, SpanError *error)
{
	uint32_t item = 0;

	for (uint32_t k = 0; k < s->read->n_items; k++)
	{
		uint32_t column = s->read->columns[k];
		uint32_t number;
		Pool    *pool;

		if (column == FIELD_PARENT_DISTANCE || column == FIELD_PARENT_ID)
			continue;
		if (s->read->constants[k] != 0)
		{
			pool = source_pool(m, column, &number, error);
			if (pool == NULL || !segment_load_dictionary(m->source.reader, column, error) ||
			    !dictionary_value(m, column, pool, s->read->constants[k] - 1, &s->shape->items[item].value, error))
				return false;
			s->shape->items[item].at = MERGE_CONSTANT;
		}
		item++;
	}
	merge_lay_out(s->shape);
	return true;
}

static SourceShape *
make_shape(SegmentMerge *m, TableId table, uint32_t number, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	ReadShape     *read = &r->tables[table].shapes[number];
	SourceShape   *s = arena_alloc0(&m->source.arena, sizeof(SourceShape));
	uint32_t      *pools = arena_alloc(&m->block_arena, (size_t) read->n_items * sizeof(uint32_t) + 1);
	uint32_t       fields[SHAPE_FIELDS] = {0};
	uint32_t       seen = 0;
	uint32_t       n = 0;
	MergeKind     *kind;

	if (s == NULL || pools == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	s->read = read;
	for (uint32_t k = 0; k < read->n_items; k++)
	{
		uint32_t column = read->columns[k];

		if (r->columns[column].field && (seen & 1U << column) != 0)
		{
			segment_corrupt(error, "bad shape");
			return NULL;
		}
		if (r->columns[column].field)
			seen |= 1U << column;
		if (column == FIELD_PARENT_DISTANCE || column == FIELD_PARENT_ID)
		{
			if (!note_parent(m, s, k, error))
				return NULL;
		}
		else if (source_pool(m, column, &pools[n++], error) == NULL)
			return NULL;
	}
	if (table == TABLE_SPAN)
	{
		s->scope = read->fields[0];
		fields[0] = source_scope(m, read->fields[0]);
		fields[1] = span_batch_string(m->batch, r->strings[read->fields[1]]);
		fields[2] = read->fields[2];
		fields[3] = read->fields[3];
	}
	kind = fields[0] == SPAN_BATCH_NONE || fields[1] == SPAN_BATCH_NONE ? NULL : merge_kind(m, table, fields, pools, n);
	s->shape = kind == NULL ? NULL : merge_add_shape(m, kind, &s->number);
	if (s->shape == NULL)
	{
		segment_no_memory(error);
		return NULL;
	}
	if (!read_constants(m, s, error))
		return NULL;
	m->source.shapes[table][number] = s;
	return s;
}

static inline SourceShape *
shape_of(SegmentMerge *m, TableId table, uint32_t row, SpanError *error)
{
	uint32_t     number = m->source.reader->tables[table].row_shapes[row];
	SourceShape *s = m->source.shapes[table][number];

	return s != NULL ? s : make_shape(m, table, number, error);
}

/* --------------------------------------------------------------- sources */

static bool
begin_source(SegmentMerge *m, SegmentReader *r, const SegmentMergeFilter *filter, SpanError *error)
{
	MergeSource *s = &m->source;
	bool         ok = true;

	if (!segment_load_schema(r, error))
		return false;
	arena_reset(&s->arena);
	s->reader = r;
	for (int t = 0; t < N_TABLES; t++)
	{
		s->shapes[t] = arena_alloc0(&s->arena, (size_t) r->tables[t].n_shapes * sizeof(SourceShape *) + 1);
		ok &= s->shapes[t] != NULL;
	}
	s->scopes = unknown_codes(&s->arena, r->n_scopes);
	s->pools = unknown_codes(&s->arena, r->n_columns);
	s->traces = unknown_codes(&s->arena, r->summary.traces + 1);
	s->codes = arena_alloc0(&s->arena, (size_t) r->n_columns * sizeof(uint32_t *));
	s->local_codes = arena_alloc0(&s->arena, (size_t) r->n_columns * sizeof(uint32_t *));
	s->cutoffs = NULL;
	if (!ok || s->scopes == NULL || s->pools == NULL || s->traces == NULL || s->codes == NULL || s->local_codes == NULL)
		return segment_no_memory(error);
	if (filter->cutoff != NULL)
	{
		s->cutoffs = arena_alloc(&s->arena, (size_t) r->n_scopes * sizeof(int64_t) + 1);
		if (s->cutoffs == NULL)
			return segment_no_memory(error);
		for (uint32_t i = 0; i < r->n_scopes; i++)
			s->cutoffs[i] = filter->cutoff(filter->arg, r->strings[r->resources[r->scopes[i].resource].tenant]);
	}
	return true;
}

static bool
grow_trace_slots(SegmentMerge *m)
{
	const MergeTrace *traces = (const MergeTrace *) m->traces.data;
	uint32_t          n = (uint32_t) (m->traces.len / sizeof(MergeTrace));
	uint32_t          n_slots = m->n_trace_slots == 0 ? 1024 : m->n_trace_slots * 2;
	uint32_t         *slots = m->allocator.alloc(m->allocator.arg, (size_t) n_slots * sizeof(uint32_t));

	if (slots == NULL)
		return false;
	memset(slots, 0, (size_t) n_slots * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t at = (uint32_t) span_bytes_hash(&traces[i].id, TRACE_ID_LEN, 0) & (n_slots - 1);

		while (slots[at] != 0)
			at = (at + 1) & (n_slots - 1);
		slots[at] = i + 1;
	}
	if (m->trace_slots != NULL)
		m->allocator.release(m->allocator.arg, m->trace_slots);
	m->trace_slots = slots;
	m->n_trace_slots = n_slots;
	return true;
}

/* The number of a trace of the source. */
static bool
find_trace(SegmentMerge *m, uint32_t rank, uint32_t *number, SpanError *error)
{
	uint32_t   n = (uint32_t) (m->traces.len / sizeof(MergeTrace));
	uint32_t   at;
	MergeTrace trace = {{{0}}};

	if (m->source.traces[rank] != UINT32_MAX)
	{
		*number = m->source.traces[rank];
		return true;
	}
	if (!segment_trace_id(m->source.reader, rank, &trace.id, error))
		return false;
	if (n + 1 > m->n_trace_slots / 2 && !grow_trace_slots(m))
		return segment_no_memory(error);
	at = (uint32_t) span_bytes_hash(&trace.id, TRACE_ID_LEN, 0) & (m->n_trace_slots - 1);
	while (m->trace_slots[at] != 0 &&
	       memcmp(&((const MergeTrace *) m->traces.data)[m->trace_slots[at] - 1].id, &trace.id, TRACE_ID_LEN) != 0)
		at = (at + 1) & (m->n_trace_slots - 1);
	if (m->trace_slots[at] == 0)
	{
		buffer_put(&m->traces, &trace, sizeof(trace));
		if (m->traces.failed)
			return segment_no_memory(error);
		m->trace_slots[at] = n + 1;
	}
	*number = m->source.traces[rank] = m->trace_slots[at] - 1;
	return true;
}

/* ---------------------------------------------------------------- blocks */

/* Everything of a block, its cursors at the first row. */
static bool
load_block(SegmentMerge *m, uint32_t block, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	Section        span_ids;
	Section        link_ids;

	arena_rewind(&m->block_arena, 64 * 1024);
	segment_load_block(r, block);
	for (int t = 0; t < N_TABLES; t++)
		if (!segment_load_rows(r, t, error))
			return false;
	if (!segment_load_runs(r, error) || !segment_load_starts(r, error) || !segment_load_durations(r, error) ||
	    !segment_load_event_times(r, error) ||
	    !segment_section(r, SECTION(STREAM_SPAN_IDS, block), false, &span_ids, error) ||
	    !segment_section(r, SECTION(STREAM_LINK_IDS, block), false, &link_ids, error))
		return false;
	if (span_ids.len != r->block_rows * SPAN_ID_LEN)
		return segment_corrupt(error, "bad span ids");
	if (link_ids.len != (uint64_t) r->tables[TABLE_LINK].n_rows * (TRACE_ID_LEN + SPAN_ID_LEN))
		return segment_corrupt(error, "bad link ids");
	/* not before they are known to be good: others read the block after a failure */
	r->span_ids = span_ids;
	r->link_ids = link_ids;
	/* who decodes from here on begins with the cursors */
	r->generation = 0;
	for (int t = 0; t < N_TABLES; t++)
		r->tables[t].next = 0;
	for (uint32_t i = 0; i < r->n_columns; i++)
	{
		r->columns[i].cursor = 0;
		m->source.local_codes[i] = NULL;
	}
	return true;
}

static void
skip_values(SegmentReader *r, const SourceShape *s)
{
	for (uint32_t k = 0; k < s->read->n_items; k++)
		if (s->read->constants[k] == 0)
			r->columns[s->read->columns[k]].cursor++;
}

/* The parent of a row, as a varying value has it. */
static bool
read_parent(SegmentMerge *m, uint32_t column, uint32_t i, int64_t *distance, SpanId *id, SpanError *error)
{
	SegmentReader    *r = m->source.reader;
	const ReadColumn *c = &r->columns[column];
	AnyValue          value;

	if (!segment_value_in_place(&m->block_arena, c, i, &value, error))
		return false;
	if (column == FIELD_PARENT_DISTANCE)
		*distance = value.u.integer;
	else
		set_parent(id, span_text(value.u.data, value.len));
	return true;
}

/* Appends the varying values of the next row of the shape to the row that is made. */
static bool
read_values(SegmentMerge *m, const SourceShape *s, int64_t *distance, SpanId *parent, SpanError *error)
{
	SegmentReader *r = m->source.reader;

	for (uint32_t k = 0; k < s->read->n_items; k++)
	{
		uint32_t    column = s->read->columns[k];
		ReadColumn *c = &r->columns[column];
		uint32_t    number;
		int64_t     value;
		uint32_t    i;
		Pool       *pool;

		if (s->read->constants[k] != 0)
			continue;
		if (!c->loaded && !segment_load_column(r, column, error))
			return false;
		i = c->cursor++;
		if (column == FIELD_PARENT_DISTANCE || column == FIELD_PARENT_ID)
		{
			if (!read_parent(m, column, i, distance, parent, error))
				return false;
			continue;
		}
		pool = source_pool(m, column, &number, error);
		if (pool == NULL || !read_value(m, column, pool, i, &value, error))
			return false;
		if (type_is_number(c->type))
			units_put_number(&m->units, value);
		else
			units_put(&m->units, (uint32_t) value);
	}
	return true;
}

/* The next "n" events, or links: into the row that is made, or not. */
static bool
read_children(SegmentMerge *m, TableId table, uint32_t n, bool wanted, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	ReadTable     *t = &r->tables[table];

	if (n > t->n_rows - t->next)
		return segment_corrupt(error, "more events or links than there are");
	while (n-- > 0)
	{
		uint32_t     row = t->next++;
		SourceShape *s = shape_of(m, table, row, error);

		if (s == NULL)
			return false;
		if (!wanted)
		{
			skip_values(r, s);
			continue;
		}
		units_put(&m->units, s->number);
		if (table == TABLE_EVENT)
			units_put_number(&m->units, r->event_times[row]);
		else
			buffer_put(&m->units, r->link_ids.data + (size_t) row * (TRACE_ID_LEN + SPAN_ID_LEN), TRACE_ID_LEN + SPAN_ID_LEN);
		if (!read_values(m, s, NULL, NULL, error))
			return false;
	}
	return true;
}

static bool
find_parent(SegmentMerge *m, const SourceShape *s, uint32_t row, int64_t distance, MergeRow *made, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	int64_t        parent;

	if (s->parent != PARENT_IS_NEAR)
		return true;
	if (distance < INT32_MIN || distance > INT32_MAX)
		return segment_corrupt(error, "a parent is outside its block");
	parent = (int64_t) row - distance;
	if (parent < 0 || parent >= r->block_rows)
		return segment_corrupt(error, "a parent is outside its block");
	memcpy(&made->parent, r->span_ids.data + parent * SPAN_ID_LEN, SPAN_ID_LEN);
	return true;
}

static bool
is_wanted(const SegmentMerge *m, const SegmentMergeFilter *filter, const SourceShape *s, uint32_t block, uint32_t row,
          int64_t end)
{
	uint32_t number = block * IMAGE_BLOCK_ROWS + row;

	if (filter->deleted != NULL && (filter->deleted[number / 8] & (1 << number % 8)) != 0)
		return false;
	return m->source.cutoffs == NULL ||
	       (end < filter->stored ? end : filter->stored) >= m->source.cutoffs[s->scope];
}

static bool
read_row(SegmentMerge *m, uint32_t block, uint32_t row, uint32_t trace, const SegmentMergeFilter *filter, SpanError *error)
{
	SegmentReader *r = m->source.reader;
	SourceShape   *s = shape_of(m, TABLE_SPAN, row, error);
	MergeRow       made = {0};
	MergeRow      *kept;
	uint32_t       n_events;
	uint32_t       n_links;
	int64_t        distance;
	bool           wanted;

	if (s == NULL ||
	    !segment_n_children(r, true, s->read, r->columns[FIELD_N_EVENTS].cursor, &n_events, error) ||
	    !segment_n_children(r, false, s->read, r->columns[FIELD_N_LINKS].cursor, &n_links, error))
		return false;
	made.start = r->starts[row];
	made.end = (int64_t) ((uint64_t) made.start + (uint64_t) r->durations[row]);
	made.trace = trace;
	made.shape = s->number;
	made.parent = s->parent_id;
	memcpy(&made.span_id, r->span_ids.data + (size_t) row * SPAN_ID_LEN, SPAN_ID_LEN);
	distance = s->distance;
	m->units.len = 0;
	wanted = is_wanted(m, filter, s, block, row, made.end > made.start ? made.end : made.start);
	if (!wanted)
		skip_values(r, s);
	else if (!read_values(m, s, &distance, &made.parent, error))
		return false;
	if (!read_children(m, TABLE_EVENT, n_events, wanted, error) || !read_children(m, TABLE_LINK, n_links, wanted, error))
		return false;
	if (!wanted)
		return true;
	if (!find_parent(m, s, row, distance, &made, error))
		return false;
	kept = m->units.failed ? NULL : arena_alloc(&m->arena, sizeof(MergeRow) + m->units.len);
	if (kept == NULL)
		return segment_no_memory(error);
	memcpy(kept, &made, sizeof(made));
	if (m->units.len > 0)
		memcpy(kept->values, m->units.data, m->units.len);
	buffer_put(&m->rows, &kept, sizeof(kept));
	return m->rows.failed ? segment_no_memory(error) : true;
}

uint32_t
segment_merge_blocks(const SegmentReader *reader)
{
	return reader->n_blocks;
}

bool
segment_merge_add(SegmentMerge *m, SegmentReader *reader, uint32_t block, const SegmentMergeFilter *filter, SpanError *error)
{
	if (block >= reader->n_blocks)
		return span_error(error, SPAN_ERROR_INVALID, "no such block in the segment");
	if (block == 0 && !begin_source(m, reader, filter, error))
		return false;
	if (!load_block(m, block, error))
		return false;
	for (uint32_t run = 0; run < reader->n_runs; run++)
	{
		const ReadRun *rows = &reader->runs[run];
		uint32_t       trace = 0;

		if (rows->count == 0)
			continue;
		if (!find_trace(m, rows->rank, &trace, error))
			return false;
		for (uint32_t row = rows->first; row < rows->first + rows->count; row++)
			if (!read_row(m, block, row, trace, filter, error))
				return false;
	}
	return true;
}
