/*-------------------------------------------------------------------------
 *
 * jaeger_json.c
 *	  The JSON of Jaeger's query API, for those who move from it.
 *
 * Its answers to /api/traces and /api/traces/ID, and what its pages save: an
 * object with an array "data" of traces, or one trace.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/jaeger.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/json_fields.h"

enum
{
	F_DATA,
	F_DURATION,
	F_FIELDS,
	F_FLAGS,
	F_KEY,
	F_LOGS,
	F_OPERATION_NAME,
	F_PARENT_SPAN_ID,
	F_PROCESS,
	F_PROCESS_ID,
	F_PROCESSES,
	F_REF_TYPE,
	F_REFERENCES,
	F_SERVICE_NAME,
	F_SPAN_ID,
	F_SPANS,
	F_START_TIME,
	F_TAGS,
	F_TIMESTAMP,
	F_TRACE_ID,
	F_TYPE,
	F_VALUE,
	F_WARNINGS
};

/* sorted by name */
static const JsonName names[] = {
	{"data", F_DATA},
	{"duration", F_DURATION},
	{"fields", F_FIELDS},
	{"flags", F_FLAGS},
	{"key", F_KEY},
	{"logs", F_LOGS},
	{"operationName", F_OPERATION_NAME},
	{"parentSpanID", F_PARENT_SPAN_ID},
	{"process", F_PROCESS},
	{"processID", F_PROCESS_ID},
	{"processes", F_PROCESSES},
	{"refType", F_REF_TYPE},
	{"references", F_REFERENCES},
	{"serviceName", F_SERVICE_NAME},
	{"spanID", F_SPAN_ID},
	{"spans", F_SPANS},
	{"startTime", F_START_TIME},
	{"tags", F_TAGS},
	{"timestamp", F_TIMESTAMP},
	{"traceID", F_TRACE_ID},
	{"type", F_TYPE},
	{"value", F_VALUE},
	{"warnings", F_WARNINGS},
};

/* Each span looks for its process among those of its trace. */
#define MAX_PROCESSES 4096

/* A process of a trace by its id, decoded when a span first names it. */
typedef struct NamedProcess
{
	SpanText        id;
	const JsonNode *node;
	JaegerProcess   process;
} NamedProcess;

typedef struct Trace
{
	NamedProcess *processes;
	uint32_t      n_processes;
} Trace;

/* Bytes of base64 text; *valid = false if it is none. */
static bool
from_base64(DecodeContext *context, SpanText text, SpanText *bytes, bool *valid)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char             *out = arena_alloc(context->arena, (size_t) text.len / 4 * 3 + 3);
	uint32_t          n = 0;
	uint32_t          buffer = 0;
	int               bits = 0;

	if (out == NULL)
		return context_no_memory(context);
	*valid = false;
	while (text.len > 0 && text.data[text.len - 1] == '=')
		text.len--;
	for (uint32_t i = 0; i < text.len; i++)
	{
		const char *digit = text.data[i] == '\0' ? NULL : strchr(digits, text.data[i]);

		if (digit == NULL)
			return true;
		buffer = buffer << 6 | (uint32_t) (digit - digits);
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			out[n++] = (char) (buffer >> bits);
			buffer &= (1U << bits) - 1;
		}
	}
	*bytes = span_text(out, n);
	*valid = true;
	return true;
}

/* A whole number in 64 bits, exactly. */
static bool
exact_integer(SpanText text, int64_t *value)
{
	char *end;

	if (strpbrk(text.data, ".eE") != NULL || text.len > 20)
		return false;
	*value = strtoll(text.data, &end, 10);
	return *end == '\0';
}

static bool
add_tag(DecodeContext *context, const JsonNode *node, TagList *tags)
{
	const JsonNode *value = json_member(node, F_VALUE);
	SpanText        key;
	SpanText        type;
	SpanText        bytes;
	int64_t         integer;
	bool            valid;

	if (!json_get_text(context, node, F_KEY, "key", &key) || !json_get_text(context, node, F_TYPE, "type", &type))
		return false;
	if (value == NULL)
		return tags_add(context, tags, key, any_text(span_text(NULL, 0)));
	switch (value->type)
	{
		case JSON_NODE_TRUE:
		case JSON_NODE_FALSE:
			return tags_add(context, tags, key, any_bool(value->type == JSON_NODE_TRUE));
		case JSON_NODE_NUMBER:
			if (!text_is_nocase(type, "float64") && exact_integer(value->text, &integer))
				return tags_add(context, tags, key, any_int(integer));
			return tags_add(context, tags, key, any_double(strtod(value->text.data, NULL)));
		case JSON_NODE_STRING:
			if (text_is_nocase(type, "int64") && value->text.len > 0 && exact_integer(value->text, &integer))
				return tags_add(context, tags, key, any_int(integer));
			if (text_is_nocase(type, "bool") && (span_text_is(value->text, "true") || span_text_is(value->text, "false")))
				return tags_add(context, tags, key, any_bool(value->text.len == 4));
			if (text_is_nocase(type, "binary"))
			{
				if (!from_base64(context, value->text, &bytes, &valid))
					return false;
				if (valid)
					return tags_add(context, tags, key, any_bytes(bytes));
			}
			return tags_add(context, tags, key, any_text(value->text));
		default:
			return json_malformed(context, "value", "a string, a number or a boolean");
	}
}

static bool
get_tags(DecodeContext *context, const JsonNode *object, int field, const char *name, TagList *tags)
{
	const JsonNode *element;

	if (!json_get_array(context, object, field, name, &element))
		return false;
	for (; element != NULL; element = element->next)
		if (!add_tag(context, element, tags))
			return false;
	return true;
}

static bool
get_process(DecodeContext *context, const JsonNode *node, JaegerProcess *process)
{
	jaeger_process_begin(process);
	process->known = true;
	if (node->type != JSON_NODE_OBJECT)
		return json_malformed(context, "process", "an object");
	return json_get_text(context, node, F_SERVICE_NAME, "serviceName", &process->service) &&
	       get_tags(context, node, F_TAGS, "tags", &process->tags);
}

/* The process that a span names or has; one without anything if there is none. */
static JaegerProcess *
find_process(DecodeContext *context, const JsonNode *node, Trace *trace, JaegerProcess *own)
{
	const JsonNode *process = json_member(node, F_PROCESS);
	SpanText        id;

	jaeger_process_begin(own);
	if (process != NULL)
		return get_process(context, process, own) ? own : NULL;
	if (!json_get_text(context, node, F_PROCESS_ID, "processID", &id))
		return NULL;
	for (uint32_t i = 0; i < trace->n_processes; i++)
	{
		NamedProcess *named = &trace->processes[i];

		if (!span_text_equal(named->id, id))
			continue;
		if (!named->process.known && !get_process(context, named->node, &named->process))
			return NULL;
		return &named->process;
	}
	return own;
}

static bool
get_references(DecodeContext *context, const JsonNode *node, JaegerSpan *span)
{
	const JsonNode *element;

	if (!json_get_array(context, node, F_REFERENCES, "references", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		JaegerReference *reference = jaeger_add_reference(context, span);
		SpanText         type;

		if (reference == NULL ||
		    !json_get_text(context, element, F_REF_TYPE, "refType", &type) ||
		    !json_get_id(context, element, F_TRACE_ID, "traceID", false, reference->trace_id.bytes, TRACE_ID_LEN) ||
		    !json_get_id(context, element, F_SPAN_ID, "spanID", false, reference->span_id.bytes, SPAN_ID_LEN))
			return false;
		reference->type = text_is_nocase(type, "FOLLOWS_FROM") ? JAEGER_FOLLOWS_FROM : JAEGER_CHILD_OF;
	}
	return true;
}

static bool
get_logs(DecodeContext *context, const JsonNode *node, JaegerSpan *span)
{
	const JsonNode *element;

	if (!json_get_array(context, node, F_LOGS, "logs", &element))
		return false;
	for (; element != NULL; element = element->next)
	{
		JaegerLog *log = jaeger_add_log(context, span);
		uint64_t   time;

		if (log == NULL ||
		    !json_get_number(context, element, F_TIMESTAMP, "timestamp", UINT64_MAX, &time) ||
		    !get_tags(context, element, F_FIELDS, "fields", &log->fields))
			return false;
		log->time = nanoseconds(time);
	}
	return true;
}

static bool
get_warnings(DecodeContext *context, const JsonNode *node, JaegerSpan *span)
{
	const JsonNode *array = json_member(node, F_WARNINGS);

	if (array == NULL)
		return true;
	if (array->type != JSON_NODE_ARRAY)
		return json_malformed(context, "warnings", "an array");
	for (const JsonNode *element = array->first; element != NULL; element = element->next)
		if (element->type == JSON_NODE_STRING && !jaeger_add_warning(context, span, element->text))
			return false;
	return true;
}

static bool
decode_span(DecodeContext *context, const JsonNode *node, Trace *trace)
{
	JaegerProcess  own;
	JaegerProcess *process;
	JaegerSpan     span;
	uint64_t       start;
	uint64_t       duration;
	uint64_t       flags;

	memset(&span, 0, sizeof(span));
	if (!json_get_id(context, node, F_TRACE_ID, "traceID", true, span.trace_id.bytes, TRACE_ID_LEN) ||
	    !json_get_id(context, node, F_SPAN_ID, "spanID", true, span.id.bytes, SPAN_ID_LEN) ||
	    !json_get_id(context, node, F_PARENT_SPAN_ID, "parentSpanID", false, span.parent_id.bytes, SPAN_ID_LEN) ||
	    !json_get_text(context, node, F_OPERATION_NAME, "operationName", &span.name) ||
	    !json_get_number(context, node, F_START_TIME, "startTime", UINT64_MAX, &start) ||
	    !json_get_number(context, node, F_DURATION, "duration", UINT64_MAX, &duration) ||
	    !json_get_number(context, node, F_FLAGS, "flags", UINT32_MAX, &flags) ||
	    !get_references(context, node, &span) ||
	    !get_tags(context, node, F_TAGS, "tags", &span.tags) ||
	    !get_logs(context, node, &span) ||
	    !get_warnings(context, node, &span))
		return false;
	span.start = nanoseconds(start);
	span.duration = nanoseconds(duration);
	span.flags = (uint32_t) flags;
	process = find_process(context, node, trace, &own);
	return process != NULL && jaeger_add(context, &span, process);
}

static bool
decode_trace(DecodeContext *context, const JsonNode *node, uint64_t *n_spans)
{
	const JsonNode *processes = json_member(node, F_PROCESSES);
	const JsonNode *spans = json_member(node, F_SPANS);
	const JsonNode *span;
	Trace           trace = {NULL, 0};

	if (processes != NULL && processes->type != JSON_NODE_OBJECT)
		return json_malformed(context, "processes", "an object");
	if (processes != NULL && processes->count > MAX_PROCESSES)
		return span_error(context->error, SPAN_ERROR_LIMIT, "Jaeger: a trace has more than %d processes", MAX_PROCESSES);
	if (processes != NULL && processes->count > 0)
	{
		trace.processes = arena_alloc0(context->arena, (size_t) processes->count * sizeof(NamedProcess));
		if (trace.processes == NULL)
			return context_no_memory(context);
		for (const JsonNode *member = processes->first; member != NULL; member = member->next)
		{
			trace.processes[trace.n_processes].id = member->name;
			trace.processes[trace.n_processes++].node = member;
		}
	}
	if (!json_get_array(context, node, F_SPANS, "spans", &span))
		return false;
	if (spans != NULL)
		*n_spans += spans->count;
	for (; span != NULL; span = span->next)
		if (!decode_span(context, span, &trace))
			return false;
	return true;
}

bool
decode_jaeger_json(const char *body, size_t len, const DecodeOptions *options,
                   SpanBatch *batch, DecodeResult *result, SpanError *error)
{
	DecodeContext   context;
	const JsonNode *root;
	const JsonNode *trace;
	uint64_t        n_spans = 0;
	bool            success;

	if (!context_begin(&context, options, batch, result, error))
		return context_finish(&context, false);
	context.format = "Jaeger";
	root = json_tree_parse(body, len, names, sizeof(names) / sizeof(names[0]), F_PROCESSES, context.arena,
	                       &result->sanitized_strings, error);
	if (root == NULL)
		return context_finish(&context, false);
	if (root->type != JSON_NODE_OBJECT || (json_member(root, F_DATA) == NULL && json_member(root, F_SPANS) == NULL))
		return context_finish(&context, json_malformed(&context, "the body", "an object with \"data\" or \"spans\""));
	if (json_member(root, F_DATA) == NULL)
		success = decode_trace(&context, root, &n_spans);
	else
	{
		success = json_get_array(&context, root, F_DATA, "data", &trace);
		for (; success && trace != NULL; trace = trace->next)
			success = decode_trace(&context, trace, &n_spans);
	}
	if (context.refused_counter != NULL)
		context_refused_spans(&context, n_spans);
	return context_finish(&context, success);
}
