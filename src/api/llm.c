/*-------------------------------------------------------------------------
 *
 * llm.c
 *	  A trace as short JSON for language models: attributes are plain objects,
 *	  durations are milliseconds, a resource is named by its service.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "api/encode.h"
#include "miscadmin.h"
#include "tempo_trace.pb-c.h"

static void
write_text(ApiBody *body, ProtobufCBinaryData text)
{
	body_json_string(body, (const char *) text.data, text.len);
}

static void
write_key(ApiBody *body, bool *first, const char *name)
{
	body_printf(body, "%s\"%s\":", *first ? "" : ",", name);
	*first = false;
}

/* An id in hexadecimal; nothing if there is none. */
static void
write_id(ApiBody *body, bool *first, const char *name, ProtobufCBinaryData id)
{
	if (id.len == 0)
		return;
	write_key(body, first, name);
	body_char(body, '"');
	for (size_t i = 0; i < id.len; i++)
		body_printf(body, "%02x", id.data[i]);
	body_char(body, '"');
}

static bool
is_service_name(const Tempo__Otlp__KeyValue *pair)
{
	return pair->key.len == strlen("service.name") && memcmp(pair->key.data, "service.name", pair->key.len) == 0;
}

static void write_pairs(ApiBody *body, size_t n, Tempo__Otlp__KeyValue *const *pairs, bool without_service);

static void
write_value(ApiBody *body, const Tempo__Otlp__AnyValue *value)
{
	check_stack_depth();
	switch (value ? value->value_case : TEMPO__OTLP__ANY_VALUE__VALUE__NOT_SET)
	{
		case TEMPO__OTLP__ANY_VALUE__VALUE_STRING_VALUE:
			write_text(body, value->string_value);
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_BOOL_VALUE:
			body_text(body, value->bool_value ? "true" : "false");
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_INT_VALUE:
			body_printf(body, INT64_FORMAT, value->int_value);
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
			body_json_double(body, value->double_value);
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
			body_char(body, '"');
			body_base64(body, value->bytes_value.data, value->bytes_value.len);
			body_char(body, '"');
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_ARRAY_VALUE:
			body_char(body, '[');
			for (size_t i = 0; i < value->array_value->n_values; i++)
			{
				if (i > 0)
					body_char(body, ',');
				write_value(body, value->array_value->values[i]);
			}
			body_char(body, ']');
			break;
		case TEMPO__OTLP__ANY_VALUE__VALUE_KVLIST_VALUE:
			write_pairs(body, value->kvlist_value->n_values, value->kvlist_value->values, false);
			break;
		default:
			body_text(body, "null");
			break;
	}
}

static void
write_pairs(ApiBody *body, size_t n, Tempo__Otlp__KeyValue *const *pairs, bool without_service)
{
	bool first = true;

	body_char(body, '{');
	for (size_t i = 0; i < n; i++)
	{
		if (without_service && is_service_name(pairs[i]))
			continue;
		if (!first)
			body_char(body, ',');
		first = false;
		write_text(body, pairs[i]->key);
		body_char(body, ':');
		write_value(body, pairs[i]->value);
	}
	body_char(body, '}');
}

static void
write_attributes(ApiBody *body, bool *first, size_t n, Tempo__Otlp__KeyValue *const *pairs)
{
	if (n == 0)
		return;
	write_key(body, first, "attributes");
	write_pairs(body, n, pairs, false);
}

static void
write_enum(ApiBody *body, const ProtobufCEnumDescriptor *descriptor, int number)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);

	if (value)
		body_printf(body, "\"%s\"", value->name);
	else
		body_printf(body, "%d", number);
}

static void
write_event(ApiBody *body, const Tempo__Otlp__Event *event)
{
	bool first = true;

	body_char(body, '{');
	write_key(body, &first, "name");
	write_text(body, event->name);
	write_key(body, &first, "timeUnixNano");
	body_printf(body, "\"" UINT64_FORMAT "\"", event->time_unix_nano);
	write_attributes(body, &first, event->n_attributes, event->attributes);
	body_char(body, '}');
}

static void
write_link(ApiBody *body, const Tempo__Otlp__Link *link)
{
	bool first = true;

	body_char(body, '{');
	write_id(body, &first, "traceId", link->trace_id);
	write_id(body, &first, "spanId", link->span_id);
	write_attributes(body, &first, link->n_attributes, link->attributes);
	body_char(body, '}');
}

static void
write_span(ApiBody *body, const Tempo__Otlp__OtlpSpan *span)
{
	bool first = true;

	body_char(body, '{');
	write_id(body, &first, "spanId", span->span_id);
	write_key(body, &first, "name");
	write_text(body, span->name);
	write_id(body, &first, "parentSpanId", span->parent_span_id);
	write_key(body, &first, "kind");
	write_enum(body, &tempo__otlp__span_kind__descriptor, (int) span->kind);
	write_key(body, &first, "startTimeUnixNano");
	body_printf(body, "\"" UINT64_FORMAT "\"", span->start_time_unix_nano);
	write_key(body, &first, "endTimeUnixNano");
	body_printf(body, "\"" UINT64_FORMAT "\"", span->end_time_unix_nano);
	write_key(body, &first, "durationMs");
	body_json_double(body, (double) (int64) (span->end_time_unix_nano - span->start_time_unix_nano) / 1e6);
	write_attributes(body, &first, span->n_attributes, span->attributes);
	if (span->n_events > 0)
	{
		write_key(body, &first, "events");
		for (size_t i = 0; i < span->n_events; i++)
		{
			body_char(body, i == 0 ? '[' : ',');
			write_event(body, span->events[i]);
		}
		body_char(body, ']');
	}
	if (span->n_links > 0)
	{
		write_key(body, &first, "links");
		for (size_t i = 0; i < span->n_links; i++)
		{
			body_char(body, i == 0 ? '[' : ',');
			write_link(body, span->links[i]);
		}
		body_char(body, ']');
	}
	write_key(body, &first, "status");
	body_text(body, "{\"code\":");
	write_enum(body, &tempo__otlp__status_code__descriptor, (int) span->status->code);
	body_text(body, ",\"message\":");
	write_text(body, span->status->message);
	body_text(body, "}}");
}

static void
write_scope(ApiBody *body, const Tempo__Otlp__ScopeSpans *scope)
{
	bool first = true;

	body_char(body, '{');
	if (scope->scope->name.len > 0)
	{
		write_key(body, &first, "name");
		write_text(body, scope->scope->name);
	}
	if (scope->scope->version.len > 0)
	{
		write_key(body, &first, "version");
		write_text(body, scope->scope->version);
	}
	write_attributes(body, &first, scope->scope->n_attributes, scope->scope->attributes);
	write_key(body, &first, "spans");
	for (size_t i = 0; i < scope->n_spans; i++)
	{
		body_char(body, i == 0 ? '[' : ',');
		write_span(body, scope->spans[i]);
	}
	body_text(body, "]}");
}

static void
write_service(ApiBody *body, const ProtobufCMessage *message, bool first_group, JsonStyle style)
{
	const Tempo__Otlp__ResourceSpans *group = (const Tempo__Otlp__ResourceSpans *) message;
	const Tempo__Otlp__Resource      *resource = group->resource;
	bool                              first = true;
	bool                              more = false;

	if (!first_group)
		body_char(body, ',');
	body_char(body, '{');
	for (size_t i = 0; i < resource->n_attributes; i++)
	{
		const Tempo__Otlp__AnyValue *value = resource->attributes[i]->value;

		if (!is_service_name(resource->attributes[i]))
			more = true;
		else if (first && value && value->value_case == TEMPO__OTLP__ANY_VALUE__VALUE_STRING_VALUE)
		{
			write_key(body, &first, "serviceName");
			write_text(body, value->string_value);
		}
	}
	if (more)
	{
		write_key(body, &first, "resource");
		write_pairs(body, resource->n_attributes, resource->attributes, true);
	}
	write_key(body, &first, "scopes");
	for (size_t i = 0; i < group->n_scope_spans; i++)
	{
		body_char(body, i == 0 ? '[' : ',');
		write_scope(body, group->scope_spans[i]);
	}
	body_text(body, "]}");
}

void
trace_to_llm(ApiBody *body, const SpanBatch *batch)
{
	bool                first = true;
	ProtobufCBinaryData id;

	body_char(body, '{');
	if (batch->n_spans > 0)
	{
		id.data = (uint8_t *) batch->spans[0].trace_id.bytes;
		id.len = TRACE_ID_LEN;
		write_id(body, &first, "traceId", id);
		body_text(body, ",\"services\":[");
		trace_each_group(batch, write_service, body, JSON_TEMPO);
		body_char(body, ']');
	}
	body_char(body, '}');
}
