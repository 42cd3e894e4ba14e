/*-------------------------------------------------------------------------
 *
 * trace.c
 *	  /api/traces/{id} and /api/v2/traces/{id}: one whole trace.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/append.h"
#include "access/memory.h"
#include "access/table.h"
#include "api/encode.h"
#include "api/internal.h"
#include "api/read.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * A short id has zeros in front.  What is wrong with another is named by
 * place and character.
 */
static bool
read_trace_id(ApiCall *call, TraceId *id)
{
	const char *text = call->argument;
	Size		len = strlen(text);

	for (Size i = 0; i < len; i++)
	{
		if (!isxdigit((unsigned char) text[i]))
			return api_fail(call, 400, "trace IDs can only contain hex characters: invalid character '%.*s' at position %zu",
							pg_utf_mblen((const unsigned char *) text + i), text + i, i + 1);
	}
	if (!id_from_short_hex(text, len, id->bytes, TRACE_ID_LEN))
		return api_fail(call, 400, "trace IDs can't be larger than 128 bits");
	return true;
}

/*
 * The range only tells where a trace might be; it is found wherever it is and
 * never clipped.
 */
static bool
check_parameters(ApiCall *call)
{
	static const char *const modes[] = {"all", "blocks", "external", "ingesters", "recent"};
	const char *mode = parameter(call, "mode");
	int64		start = 0;
	int64		end = 0;
	bool		known = mode == NULL;

	for (int i = 0; i < lengthof(modes); i++)
		known |= mode && strcmp(mode, modes[i]) == 0;
	if (!known)
		return api_fail(call, 400, "invalid value for mode %s", mode);
	if (!read_seconds(call, "start", &start) || !read_seconds(call, "end", &end))
		return false;
	if (parameter(call, "start") && parameter(call, "end") && end <= start)
		return api_fail(call, 400, "http parameter start must be before end. received start=" INT64_FORMAT " end=" INT64_FORMAT,
						start, end);
	return true;
}

static SpanBatch *
create_batch(void)
{
	SpanAllocator allocator = tempo_context_allocator(CurrentMemoryContext);
	SpanBatch  *batch = span_batch_create(&allocator, 0);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return batch;
}

/* The spans of a trace that the tenants of the request have; NULL = answered. */
static SpanBatch *
find_trace(ApiCall *call)
{
	SpanBatch  *batch;
	TraceId		id;

	if (!read_trace_id(call, &id) || !check_parameters(call))
		return NULL;
	batch = create_batch();
	read_trace(&id, call->tenants, batch);
	return batch;
}

void
serve_trace_v1(ApiCall *call)
{
	SpanBatch  *batch = find_trace(call);

	if (batch == NULL)
		return;
	if (batch->n_spans == 0)
	{
		api_ok(call, NULL);
		call->response->status = 404;
	}
	else if (call->format == FORMAT_PROTOBUF)
		trace_to_protobuf(api_ok(call, "application/protobuf"), batch);
	else
		trace_to_json(api_ok(call, call->format == FORMAT_LLM ? "application/vnd.grafana.llm" : "application/json"),
					  batch, "batches", JSON_TEMPO);
}

/* A trace that is not there is an empty one: Grafana takes 404 for an old Tempo. */
void
serve_trace_v2(ApiCall *call)
{
	SpanBatch  *batch = find_trace(call);
	ApiBody    *body;

	if (batch == NULL)
		return;
	if (call->format == FORMAT_PROTOBUF)
	{
		body = api_ok(call, "application/protobuf");
		trace_to_protobuf(body, batch);
		body_wrap(body, 1);
		body_append(body, "\x12\x00", 2);	/* no metrics */
		return;
	}
	body = api_ok(call, "application/json");
	body_text(body, "{\"trace\":");
	trace_to_json(body, batch, "resourceSpans", JSON_TEMPO);
	body_text(body, ",\"metrics\":{}}");
}

PG_FUNCTION_INFO_V1(tempo_trace_json);

/* tempo.trace_json(trace_id): the trace as OTLP/JSON, NULL if there is none */
Datum
tempo_trace_json(PG_FUNCTION_ARGS)
{
	TraceId		id;
	SpanBatch  *batch = create_batch();
	ApiBody    *body = body_create();
	StringInfoData text;
	const char *data;
	Size		len;

	memcpy(id.bytes, DatumGetPointer(PG_GETARG_DATUM(0)), TRACE_ID_LEN);
	read_trace(&id, NIL, batch);
	if (batch->n_spans == 0)
		PG_RETURN_NULL();
	trace_to_json(body, batch, "resourceSpans", JSON_OTLP);

	initStringInfo(&text);
	while (body_take(body, &data, &len))
		appendBinaryStringInfo(&text, data, (int) len);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}
