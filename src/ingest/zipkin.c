/*-------------------------------------------------------------------------
 *
 * zipkin.c
 *	  What a Zipkin span means in OpenTelemetry's model.
 *
 * OpenTelemetry's exporters hide in tags and annotations what Zipkin has no
 * place for (status, links, attributes of events, the scope); it is found
 * again here.  Nothing that was sent is dropped: tags that describe the
 * resource make a resource of their own for each span that has them.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/zipkin.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/json_tree.h"

#define MAX_LINKS 128

bool
zipkin_note(DecodeContext *context, ZipkinSpan *span, uint64_t time, SpanText text)
{
	if (span->n_notes == span->notes_size)
	{
		uint32_t    size = span->notes_size == 0 ? 8 : span->notes_size * 2;
		ZipkinNote *grown = arena_alloc(context->arena, (size_t) size * sizeof(ZipkinNote));

		if (grown == NULL)
			return context_no_memory(context);
		if (span->n_notes > 0)
			memcpy(grown, span->notes, (size_t) span->n_notes * sizeof(ZipkinNote));
		span->notes = grown;
		span->notes_size = size;
	}
	span->notes[span->n_notes].time = time;
	span->notes[span->n_notes].text = text;
	span->n_notes++;
	return true;
}

bool
zipkin_address(DecodeContext *context, SpanText bytes, SpanText *text)
{
	char  buffer[INET6_ADDRSTRLEN];
	char *copy;

	if ((bytes.len != 4 && bytes.len != 16) ||
	    inet_ntop(bytes.len == 4 ? AF_INET : AF_INET6, bytes.data, buffer, sizeof(buffer)) == NULL)
		return true;
	copy = arena_copy(context->arena, buffer, strlen(buffer));
	if (copy == NULL)
		return context_no_memory(context);
	*text = span_text(copy, (uint32_t) strlen(buffer));
	return true;
}

/* ------------------------------------ what exporters hide in tags and notes */

static AnyValue
json_number(SpanText text)
{
	double number = strtod(text.data, NULL);

	if (strpbrk(text.data, ".eE") == NULL && text.len < 19)
		return any_int(strtoll(text.data, NULL, 10));
	if (number == floor(number) && fabs(number) < 9e18)
		return any_int((int64_t) number);
	return any_double(number);
}

/* Attributes from a JSON object in a text; *valid tells whether it was one. */
static bool
json_attributes(DecodeContext *context, SpanText text, AttributeList *out, bool *valid)
{
	TagList         tags = {NULL, 0, 0};
	SpanError       error;
	const JsonNode *root;

	*valid = false;
	out->items = NULL;
	out->count = 0;
	if (text.len == 0 || text.data[0] != '{')
		return true;
	memset(&error, 0, sizeof(error));
	root = json_tree_parse(text.data, text.len, NULL, 0, JSON_ROOT, context->arena,
	                       &context->result->sanitized_strings, &error);
	if (root == NULL && error.code == SPAN_ERROR_MEMORY)
		return context_no_memory(context);
	if (root == NULL || root->type != JSON_NODE_OBJECT)
		return true;
	*valid = true;
	for (const JsonNode *member = root->first; member != NULL; member = member->next)
	{
		AnyValue value;

		if (member->type == JSON_NODE_STRING)
			value = any_text(member->text);
		else if (member->type == JSON_NODE_NUMBER)
			value = json_number(member->text);
		else if (member->type == JSON_NODE_TRUE || member->type == JSON_NODE_FALSE)
			value = any_bool(member->type == JSON_NODE_TRUE);
		else
			continue;
		if (!tags_add(context, &tags, member->name, value))
			return false;
	}
	return tags_attributes(context, &tags, out);
}

static bool
parse_count(const char *p, const char *end, uint32_t *count)
{
	uint64_t value = 0;

	if (p == end || end - p > 10)
		return false;
	for (; p < end; p++)
	{
		if (*p < '0' || *p > '9')
			return false;
		value = value * 10 + (uint64_t) (*p - '0');
	}
	*count = (uint32_t) value;
	return value <= UINT32_MAX;
}

static const char *
last_bar(SpanText text)
{
	while (text.len > 0)
		if (text.data[--text.len] == '|')
			return text.data + text.len;
	return NULL;
}

/* "name|{attributes}|dropped", else a plain name */
static bool
make_event(DecodeContext *context, SpanText text, SpanEvent *event)
{
	const char   *first = text.len > 0 ? memchr(text.data, '|', text.len) : NULL;
	const char   *last = last_bar(text);
	AttributeList attributes;
	uint32_t      dropped;
	bool          valid;

	if (first != NULL && last != first && parse_count(last + 1, text.data + text.len, &dropped))
	{
		if (!json_attributes(context, span_text(first + 1, (uint32_t) (last - first - 1)), &attributes, &valid))
			return false;
		if (valid)
		{
			event->attributes = attributes;
			event->dropped_attributes_count = dropped;
			text.len = (uint32_t) (first - text.data);
		}
	}
	return context_text(context, text, &event->name);
}

static bool
make_events(DecodeContext *context, const ZipkinSpan *zipkin, IncomingSpan *incoming)
{
	SpanEvent *events;

	if (zipkin->n_notes == 0)
		return true;
	events = arena_alloc0(context->arena, (size_t) zipkin->n_notes * sizeof(SpanEvent));
	if (events == NULL)
		return context_no_memory(context);
	for (uint32_t i = 0; i < zipkin->n_notes; i++)
	{
		uint64_t time = nanoseconds(zipkin->notes[i].time);

		if (time > INT64_MAX)
			incoming->bad_event_time = true;
		else
			events[i].time_unix_nano = (int64_t) time;
		if (!make_event(context, zipkin->notes[i].text, &events[i]))
			return false;
	}
	incoming->span.events = events;
	incoming->span.n_events = zipkin->n_notes;
	return true;
}

/* "traceId|spanId|traceState|{attributes}|dropped"; fewer parts are no link */
static bool
make_link(DecodeContext *context, SpanText text, SpanLink *link, bool *is_link)
{
	const char *end = text.data + text.len;
	const char *parts[4]; /* the separators: three first ones, the last */
	const char *p = text.data;
	bool        valid;

	*is_link = false;
	for (int i = 0; i < 3; i++)
	{
		parts[i] = p < end ? memchr(p, '|', (size_t) (end - p)) : NULL;
		if (parts[i] == NULL)
			return true;
		p = parts[i] + 1;
	}
	parts[3] = last_bar(text);
	if (parts[3] <= parts[2])
		return true;
	*is_link = true;
	if ((parts[0] > text.data &&
	     !id_from_hex(text.data, (size_t) (parts[0] - text.data), link->trace_id.bytes, TRACE_ID_LEN)) ||
	    (parts[1] > parts[0] + 1 &&
	     !id_from_hex(parts[0] + 1, (size_t) (parts[1] - parts[0] - 1), link->span_id.bytes, SPAN_ID_LEN)) ||
	    !parse_count(parts[3] + 1, end, &link->dropped_attributes_count))
		return span_error(context->error, SPAN_ERROR_INVALID, "Zipkin: a tag \"otlp.link.N\" is malformed");
	if (!context_text(context, span_text(parts[1] + 1, (uint32_t) (parts[2] - parts[1] - 1)), &link->trace_state) ||
	    !json_attributes(context, span_text(parts[2] + 1, (uint32_t) (parts[3] - parts[2] - 1)),
	                     &link->attributes, &valid))
		return false;
	if (!valid && parts[3] > parts[2] + 1)
		return span_error(context->error, SPAN_ERROR_INVALID, "Zipkin: a tag \"otlp.link.N\" is malformed");
	return true;
}

static bool
make_links(DecodeContext *context, TagList *tags, Span *span)
{
	SpanLink *links = NULL;
	uint32_t  n = 0;

	for (int i = 0; i < MAX_LINKS; i++)
	{
		char     key[32];
		SpanText text;
		bool     is_link;

		snprintf(key, sizeof(key), "otlp.link.%d", i);
		if (!tags_take_text(tags, key, &text))
			break;
		if (text.len == 0)
			continue;
		if (links == NULL)
		{
			links = arena_alloc0(context->arena, MAX_LINKS * sizeof(SpanLink));
			if (links == NULL)
				return context_no_memory(context);
		}
		if (!make_link(context, text, &links[n], &is_link))
			return false;
		if (is_link)
			n++;
	}
	span->links = links;
	span->n_links = n;
	return true;
}

/* ------------------------------------------------------------------ status */

/* The codes of version 1, which precede the tag "error". */
static bool
v1_status(TagList *tags, int32_t *code)
{
	Tag    *census = tags_find(tags, "census.status_code");
	int64_t number;

	if (census == NULL || !tag_integer(census, &number))
		return false;
	census->taken = true;
	*code = number == 0 ? STATUS_UNSET : STATUS_ERROR;
	return true;
}

static bool
make_status(DecodeContext *context, ZipkinSpan *zipkin, Span *span)
{
	TagList *tags = &zipkin->tags;
	SpanText description = {NULL, 0};
	bool     known = zipkin->v1 && v1_status(tags, &span->status_code);
	Tag     *tag = tags_find(tags, "otel.status_code");
	int64_t  number;

	if (tag != NULL)
	{
		int32_t code = -1;

		if (tag->value.type == ANY_STRING)
			code = foreign_status(span_text(tag->value.u.data, tag->value.len));
		if (code < 0 && zipkin->v1 && tag_integer(tag, &number) && number >= STATUS_UNSET && number <= STATUS_ERROR)
			code = (int32_t) number;
		if (!known && code >= 0)
		{
			span->status_code = code;
			known = zipkin->v1;
		}
		tag->taken = true;
		(void) tags_take_text(tags, "otel.status_description", &description);
	}
	tag = tags_find(tags, "error");
	if (tag != NULL && !(zipkin->v1 && known))
	{
		bool is_true = (tag->value.type == ANY_BOOL && tag->value.u.boolean) ||
		               (tag->value.type == ANY_STRING && span_text_is(span_text(tag->value.u.data, tag->value.len), "true"));

		span->status_code = STATUS_ERROR;
		known = true;
		if (is_true || zipkin->v1)
			tag->taken = true;
		if (zipkin->v1 && !is_true && description.len == 0 && tag->value.type == ANY_STRING)
			description = span_text(tag->value.u.data, tag->value.len);
	}
	if (zipkin->v1 && !known && (tag = tags_find(tags, "http.status_code")) != NULL && tag_integer(tag, &number))
		span->status_code = number >= 100 && number <= 399 ? STATUS_UNSET : STATUS_ERROR;
	return context_text(context, description, &span->status_message);
}

/* ------------------------------------------------------ resource and scope */

static bool
is_resource_key(SpanText key)
{
	static const char *const prefixes[] = {
		"cloud.", "k8s.", "host.", "service.", "process.", "telemetry.sdk.", "os.", "container.", "device.",
		"faas.", "webengine.", "aws."};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
	{
		size_t len = strlen(prefixes[i]);

		if (key.len > len && memcmp(key.data, prefixes[i], len) == 0)
			return !span_text_is(key, "service.peer.name");
	}
	return span_text_is(key, "deployment.environment") || span_text_is(key, "opencensus.exporterversion") ||
	       span_text_is(key, "opencensus.resourcetype") || span_text_is(key, "opencensus.starttime");
}

static bool
add_port(DecodeContext *context, TagList *tags, const char *key, uint32_t port, bool text)
{
	char  buffer[16];
	char *copy;

	if (port == 0 || tags_find(tags, key) != NULL)
		return true;
	if (!text)
		return tags_add(context, tags, text_literal(key), any_int(port));
	snprintf(buffer, sizeof(buffer), "%u", port);
	copy = arena_copy(context->arena, buffer, strlen(buffer));
	if (copy == NULL)
		return context_no_memory(context);
	return tags_add(context, tags, text_literal(key), any_text(span_text(copy, (uint32_t) strlen(buffer))));
}

static bool
add_text(DecodeContext *context, TagList *tags, const char *key, SpanText text)
{
	if (text.len == 0 || tags_find(tags, key) != NULL)
		return true;
	return tags_add(context, tags, text_literal(key), any_text(text));
}

static bool
make_scope(DecodeContext *context, ZipkinSpan *zipkin, Span *span)
{
	TagList  resource = {NULL, 0, 0};
	TagList *tags = &zipkin->tags;
	SpanText service_key = text_literal("service.name");
	SpanText name = {NULL, 0};
	SpanText version = {NULL, 0};

	(void) tags_take_text(tags, "otlp.service.name.source", &service_key);
	if (zipkin->local.service.len > 0 &&
	    !(span_text_is(service_key, "service.name") && tags_find(tags, "service.name") != NULL) &&
	    !tags_add(context, &resource, service_key, any_text(zipkin->local.service)))
		return false;
	for (uint32_t i = 0; i < tags->count; i++)
	{
		if (tags->items[i].taken || !is_resource_key(tags->items[i].key))
			continue;
		if (!tags_add(context, &resource, tags->items[i].key, tags->items[i].value))
			return false;
		tags->items[i].taken = true;
	}
	if (zipkin->v1 && zipkin->local.address.len > 0 &&
	    !add_text(context, &resource, memchr(zipkin->local.address.data, ':', zipkin->local.address.len) != NULL ? "ipv6" : "ipv4",
	              zipkin->local.address))
		return false;
	if (zipkin->v1 && !add_port(context, &resource, "port", zipkin->local.port, true))
		return false;
	(void) (tags_take_text(tags, "otel.library.name", &name) || tags_take_text(tags, "otel.scope.name", &name));
	(void) (tags_take_text(tags, "otel.library.version", &version) || tags_take_text(tags, "otel.scope.version", &version));
	span->scope = foreign_scope(context, &resource, name, version);
	return span->scope != SPAN_BATCH_NONE;
}

static bool
add_endpoints(DecodeContext *context, ZipkinSpan *zipkin)
{
	TagList *tags = &zipkin->tags;

	if (!zipkin->v1 &&
	    (!add_text(context, tags, "network.local.address", zipkin->local.address) ||
	     !add_port(context, tags, "net.host.port", zipkin->local.port, false)))
		return false;

	/* the old name too: service graphs look for it */
	return add_text(context, tags, "service.peer.name", zipkin->remote.service) &&
	       add_text(context, tags, "peer.service", zipkin->remote.service) &&
	       add_text(context, tags, "network.peer.address", zipkin->remote.address) &&
	       add_port(context, tags, "net.peer.port", zipkin->remote.port, false);
}

bool
zipkin_add(DecodeContext *context, ZipkinSpan *zipkin)
{
	IncomingSpan incoming;
	Span        *span = &incoming.span;
	SpanText     text = {NULL, 0};
	bool         cut;

	memset(&incoming, 0, sizeof(incoming));
	span->trace_id = zipkin->trace_id;
	span->span_id = zipkin->id;
	if (memcmp(zipkin->parent_id.bytes, zipkin->id.bytes, SPAN_ID_LEN) != 0)
		span->parent_span_id = zipkin->parent_id;
	span->kind = zipkin->kind;
	if (!zipkin->has_kind && tags_take_text(&zipkin->tags, "span.kind", &text) && text_is_nocase(text, "internal"))
		span->kind = KIND_INTERNAL;
	incoming.start = nanoseconds(zipkin->start);
	incoming.end = later(incoming.start, nanoseconds(zipkin->duration));
	text = span_text(NULL, 0);
	(void) tags_take_text(&zipkin->tags, "w3c.tracestate", &text);
	return (!zipkin->no_time ||
	        tags_add(context, &zipkin->tags, text_literal("otel.zipkin.absentField.startTime"), any_bool(true))) &&
	       context_text(context, text, &span->trace_state) &&
	       context_string(context, zipkin->name, SPAN_NAME_MAX_BYTES, &cut, &span->name) &&
	       make_status(context, zipkin, span) &&
	       make_links(context, &zipkin->tags, span) &&
	       make_events(context, zipkin, &incoming) &&
	       make_scope(context, zipkin, span) &&
	       add_endpoints(context, zipkin) &&
	       tags_attributes(context, &zipkin->tags, &span->attributes) &&
	       context_add(context, &incoming);
}
