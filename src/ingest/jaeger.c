/*-------------------------------------------------------------------------
 *
 * jaeger.c
 *	  What a Jaeger span means in OpenTelemetry's model.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/jaeger.h"

#include <string.h>

/* An OpenTelemetry exporter's word for "no service name was set". */
#define NO_SERVICE_NAME "OTLPResourceNoServiceName"

/* Tags of a span among which repeated keys are looked for: more cost too much. */
#define MAX_UNIQUE_TAGS 128

#define FLAG_SAMPLED 1

/*
 * grow: room for one more of "count" items of "item" bytes.  Arrays double
 * at powers of two, so their size follows from the count.
 */
static void *
grow(DecodeContext *context, void *items, uint32_t count, size_t item)
{
	void *grown;

	if (count >= 4 ? (count & (count - 1)) != 0 : count > 0)
		return items;
	grown = arena_alloc(context->arena, (count == 0 ? 4 : (size_t) count * 2) * item);
	if (grown == NULL)
		(void) context_no_memory(context);
	else if (count > 0)
		memcpy(grown, items, count * item);
	return grown;
}

void
jaeger_process_begin(JaegerProcess *process)
{
	memset(process, 0, sizeof(*process));
	process->scope = SPAN_BATCH_NONE;
}

JaegerReference *
jaeger_add_reference(DecodeContext *context, JaegerSpan *span)
{
	JaegerReference *references = grow(context, span->references, span->n_references, sizeof(JaegerReference));

	if (references == NULL)
		return NULL;
	span->references = references;
	memset(&references[span->n_references], 0, sizeof(JaegerReference));
	return &references[span->n_references++];
}

JaegerLog *
jaeger_add_log(DecodeContext *context, JaegerSpan *span)
{
	JaegerLog *logs = grow(context, span->logs, span->n_logs, sizeof(JaegerLog));

	if (logs == NULL)
		return NULL;
	span->logs = logs;
	memset(&logs[span->n_logs], 0, sizeof(JaegerLog));
	return &logs[span->n_logs++];
}

bool
jaeger_add_warning(DecodeContext *context, JaegerSpan *span, SpanText text)
{
	SpanText *warnings = grow(context, span->warnings, span->n_warnings, sizeof(SpanText));

	if (warnings == NULL)
		return false;
	span->warnings = warnings;
	warnings[span->n_warnings++] = text;
	return true;
}

/* Clients append a tag that is set again: the last one counts. */
static void
keep_last(TagList *tags)
{
	if (tags->count > MAX_UNIQUE_TAGS)
		return;
	for (uint32_t i = 0; i < tags->count; i++)
		for (uint32_t later = i + 1; later < tags->count && !tags->items[i].taken; later++)
			if (span_text_equal(tags->items[i].key, tags->items[later].key))
				tags->items[i].taken = true;
}

/* ------------------------------------------------------ resource and scope */

static bool
map_process(DecodeContext *context, JaegerProcess *process)
{
	TagList *tags = &process->tags;
	TagList *resource = &process->resource;

	process->mapped = true;
	if (span_text_is(process->service, NO_SERVICE_NAME))
		return true;
	keep_last(tags);
	if (process->service.len > 0 &&
	    !tags_add(context, resource, text_literal("service.name"), any_text(process->service)))
		return false;
	for (uint32_t i = 0; i < tags->count; i++)
	{
		Tag     *tag = &tags->items[i];
		SpanText key = tag->key;
		AnyValue value = tag->value;

		if (tag->taken || (process->service.len > 0 && span_text_is(key, "service.name")))
			continue;
		if (span_text_is(key, "hostname") && tags_find(tags, "host.name") == NULL)
			key = text_literal("host.name");
		else if (span_text_is(key, "jaeger.version") && value.type == ANY_STRING)
		{
			char *text = arena_alloc(context->arena, (size_t) value.len + 7);

			if (text == NULL)
				return context_no_memory(context);
			memcpy(text, "Jaeger-", 7);
			if (value.len > 0)
				memcpy(text + 7, value.u.data, value.len);
			key = text_literal("opencensus.exporterversion");
			value = any_text(span_text(text, value.len + 7));
		}
		if (!tags_add(context, resource, key, value))
			return false;
	}
	return true;
}

static bool
make_scope(DecodeContext *context, JaegerSpan *jaeger, JaegerProcess *process, Span *span)
{
	TagList *tags = &jaeger->tags;
	SpanText name = {NULL, 0};
	SpanText version = {NULL, 0};

	if (!process->mapped && !map_process(context, process))
		return false;
	if (!jaeger->thrift)
	{
		(void) (tags_take_text(tags, "otel.scope.name", &name) || tags_take_text(tags, "otel.library.name", &name));
		(void) (tags_take_text(tags, "otel.scope.version", &version) ||
		        tags_take_text(tags, "otel.library.version", &version));
	}
	if (process->scope == SPAN_BATCH_NONE || !span_text_equal(name, process->scope_name) ||
	    !span_text_equal(version, process->scope_version))
	{
		process->scope = foreign_scope(context, &process->resource, name, version);
		process->scope_name = name;
		process->scope_version = version;
	}
	span->scope = process->scope;
	return span->scope != SPAN_BATCH_NONE;
}

/* ------------------------------------------------------------------ status */

static bool
is_true(const Tag *tag)
{
	return (tag->value.type == ANY_BOOL && tag->value.u.boolean) ||
	       (tag->value.type == ANY_STRING && span_text_is(span_text(tag->value.u.data, tag->value.len), "true"));
}

/* What Tempo makes of a status: 4xx is not the server's fault, and 399 an error. */
static int32_t
http_status(int64_t code, int32_t kind)
{
	if (code >= 400 && code < 500)
		return kind == KIND_SERVER ? STATUS_UNSET : STATUS_ERROR;
	return code >= 100 && code < 399 ? STATUS_UNSET : STATUS_ERROR;
}

static bool
make_status(DecodeContext *context, TagList *tags, Span *span)
{
	SpanText message = {NULL, 0};
	Tag     *error = tags_find(tags, "error");
	Tag     *code = tags_find(tags, "otel.status_code");
	Tag     *tag;
	int64_t  http;
	bool     known = error != NULL && is_true(error);

	if (known)
	{
		span->status_code = STATUS_ERROR;
		error->taken = true;
	}
	if (code != NULL)
	{
		int32_t number = -1;

		if (code->value.type == ANY_STRING)
			number = foreign_status(span_text(code->value.u.data, code->value.len));
		if (!known && number > STATUS_UNSET)
			span->status_code = number;
		code->taken = true;
		known = true;
	}
	else if (!known && (tag = tags_find(tags, "http.status_code")) != NULL && tag_integer(tag, &http))
	{
		span->status_code = http_status(http, span->kind);
		known = true;
	}
	if (known && !tags_take_text(tags, "otel.status_description", &message) &&
	    (tag = tags_find(tags, "http.status_message")) != NULL && tag->value.type == ANY_STRING)
		message = span_text(tag->value.u.data, tag->value.len);
	return context_text(context, message, &span->status_message);
}

/* ----------------------------------------------------- references and logs */

/* The first reference of a type into the span's own trace. */
static const JaegerReference *
find_parent(const JaegerSpan *jaeger, JaegerReferenceType type)
{
	for (uint32_t i = 0; i < jaeger->n_references; i++)
		if (jaeger->references[i].type == type &&
		    memcmp(&jaeger->references[i].trace_id, &jaeger->trace_id, sizeof(TraceId)) == 0)
			return &jaeger->references[i];
	return NULL;
}

static bool
make_links(DecodeContext *context, const JaegerSpan *jaeger, Span *span)
{
	const JaegerReference *parent;
	SpanLink              *links;
	uint32_t               n = 0;

	span->parent_span_id = jaeger->parent_id;
	if (jaeger->n_references == 0)
		return true;
	if (id_is_zero(span->parent_span_id.bytes, SPAN_ID_LEN) &&
	    ((parent = find_parent(jaeger, JAEGER_CHILD_OF)) != NULL ||
	     (parent = find_parent(jaeger, JAEGER_FOLLOWS_FROM)) != NULL))
		span->parent_span_id = parent->span_id;
	links = arena_alloc0(context->arena, (size_t) jaeger->n_references * sizeof(SpanLink));
	if (links == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < jaeger->n_references; i++)
	{
		const JaegerReference *reference = &jaeger->references[i];
		TagList                tags = {NULL, 0, 0};

		/* what the parent id says already */
		if (reference->type == JAEGER_CHILD_OF &&
		    memcmp(&reference->span_id, &span->parent_span_id, sizeof(SpanId)) == 0 &&
		    memcmp(&reference->trace_id, &jaeger->trace_id, sizeof(TraceId)) == 0)
			continue;
		links[n].trace_id = reference->trace_id;
		links[n].span_id = reference->span_id;
		if (!tags_add(context, &tags, text_literal("opentracing.ref_type"),
		              any_text(text_literal(reference->type == JAEGER_CHILD_OF ? "child_of" : "follows_from"))) ||
		    !tags_attributes(context, &tags, &links[n].attributes))
			return false;
		n++;
	}
	span->links = links;
	span->n_links = n;
	return true;
}

static bool
make_events(DecodeContext *context, JaegerSpan *jaeger, IncomingSpan *incoming)
{
	SpanEvent *events;

	if (jaeger->n_logs == 0)
		return true;
	events = arena_alloc0(context->arena, (size_t) jaeger->n_logs * sizeof(SpanEvent));
	if (events == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < jaeger->n_logs; i++)
	{
		JaegerLog *log = &jaeger->logs[i];
		SpanText   name = {NULL, 0};

		keep_last(&log->fields);
		if (log->time > INT64_MAX)
			incoming->bad_event_time = true;
		else
			events[i].time_unix_nano = (int64_t) log->time;
		(void) tags_take_text(&log->fields, "event", &name);
		if (!context_text(context, name, &events[i].name) ||
		    !tags_attributes(context, &log->fields, &events[i].attributes))
			return false;
	}
	incoming->span.events = events;
	incoming->span.n_events = jaeger->n_logs;
	return true;
}

static bool
add_warnings(DecodeContext *context, JaegerSpan *jaeger)
{
	AnyValue *elements;
	AnyValue  value;

	if (jaeger->n_warnings == 0)
		return true;
	elements = arena_alloc(context->arena, (size_t) jaeger->n_warnings * sizeof(AnyValue));
	if (elements == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < jaeger->n_warnings; i++)
	{
		SpanText clean;

		if (!context_text(context, jaeger->warnings[i], &clean))
			return false;
		elements[i] = any_text(clean);
	}
	memset(&value, 0, sizeof(value));
	value.type = ANY_ARRAY;
	value.len = jaeger->n_warnings;
	value.u.elements = elements;
	return tags_add(context, &jaeger->tags, text_literal("jaeger.warnings"), value);
}

bool
jaeger_add(DecodeContext *context, JaegerSpan *jaeger, JaegerProcess *process)
{
	IncomingSpan incoming;
	Span        *span = &incoming.span;
	TagList     *tags = &jaeger->tags;
	SpanText     text = {NULL, 0};
	Tag         *kind;
	bool         cut;

	memset(&incoming, 0, sizeof(incoming));
	keep_last(tags);
	span->trace_id = jaeger->trace_id;
	span->span_id = jaeger->id;
	span->flags = jaeger->flags & FLAG_SAMPLED;
	incoming.start = jaeger->start;
	incoming.end = later(jaeger->start, jaeger->duration);
	kind = tags_find(tags, "span.kind");
	if (kind != NULL)
	{
		kind->taken = true;
		if (kind->value.type == ANY_STRING)
			span->kind = foreign_kind(span_text(kind->value.u.data, kind->value.len));
	}
	if (!jaeger->thrift)
		(void) tags_take_text(tags, "w3c.tracestate", &text);
	return context_text(context, text, &span->trace_state) &&
	       context_string(context, jaeger->name, SPAN_NAME_MAX_BYTES, &cut, &span->name) &&
	       make_status(context, tags, span) &&
	       make_links(context, jaeger, span) &&
	       make_events(context, jaeger, &incoming) &&
	       make_scope(context, jaeger, process, span) &&
	       add_warnings(context, jaeger) &&
	       tags_attributes(context, tags, &span->attributes) &&
	       context_add(context, &incoming);
}
