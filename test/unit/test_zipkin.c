/*-------------------------------------------------------------------------
 *
 * test_zipkin.c
 *	  Zipkin's formats into span batches: what becomes of each field, and
 *	  what is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/decode.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

typedef bool (*Decode)(const char *body, size_t len, const DecodeOptions *options,
                       SpanBatch *batch, DecodeResult *result, SpanError *error);

static SpanBatch    *batch;
static DecodeResult  result;
static SpanError     error;
static DecodeOptions options = {{"t", 1}, 2048, true};
static char         *body;

/* From a buffer of just this size, so that a byte too far is found. */
static bool
decode_bytes(Decode decode, const void *bytes, size_t len)
{
	free(body);
	body = malloc(len > 0 ? len : 1);
	memcpy(body, bytes, len);
	span_batch_reset(batch);
	memset(&error, 0, sizeof(error));
	return decode(body, len, &options, batch, &result, &error);
}

static bool
v2(const char *text)
{
	return decode_bytes(decode_zipkin_json, text, strlen(text));
}

static bool
v1(const char *text)
{
	return decode_bytes(decode_zipkin_v1_json, text, strlen(text));
}

static bool
refused(const char *text)
{
	return !v2(text) && error.code != SPAN_ERROR_NONE && batch->n_spans == 0;
}

#define IDS "\"traceId\":\"5b8efff798038103\",\"id\":\"eee19b7ec3c1b174\""

/* The only span of a request whose span has these members. */
static const Span *
with(const char *members)
{
	static char text[8192];

	snprintf(text, sizeof(text), "[{" IDS ",%s}]", members);
	if (!v2(text) || batch->n_spans != 1)
	{
		printf("# %s\n", error.message);
		exit(1);
	}
	return &batch->spans[0];
}

static bool
is_text(const AnyValue *value, const char *text)
{
	return value != NULL && value->type == ANY_STRING && span_text_is(span_text(value->u.data, value->len), text);
}

static bool
is_int(const AnyValue *value, int64_t number)
{
	return value != NULL && value->type == ANY_INT && value->u.integer == number;
}

static const AnyValue *
attribute(const Span *span, const char *key)
{
	return attribute_find(span->attributes, span_text(key, (uint32_t) strlen(key)));
}

static const AnyValue *
resource(const Span *span, const char *key)
{
	return attribute_find(span_resource(batch, span)->attributes, span_text(key, (uint32_t) strlen(key)));
}

static void
test_v2(void)
{
	const Span *span;

	span = with("\"parentId\":\"0000000000000001\",\"name\":\"get\",\"kind\":\"CLIENT\",\"timestamp\":1000,\"duration\":5,"
	            "\"localEndpoint\":{\"serviceName\":\"a\",\"ipv4\":\"10.0.0.1\",\"port\":80},"
	            "\"remoteEndpoint\":{\"serviceName\":\"b\",\"ipv6\":\"2001:db8::1\",\"port\":443},"
	            "\"annotations\":[{\"timestamp\":1001,\"value\":\"plain\"},{\"timestamp\":1002,\"value\":\"x|{\\\"a\\\":1,\\\"b\\\":1.5,\\\"c\\\":true}|3\"},"
	            "{\"timestamp\":1003,\"value\":\"a|b|c\"}],"
	            "\"tags\":{\"name\":\"n\",\"id\":\"i\",\"empty\":\"\",\"number\":5,\"host.name\":\"h\",\"otel.library.name\":\"lib\"}");
	ok(id_is_zero(span->trace_id.bytes, 8) && span->trace_id.bytes[8] == 0x5b, "a short trace id is padded on the left");
	ok(span->parent_span_id.bytes[7] == 1 && span->kind == 3 && span->start_time_unix_nano == 1000000 &&
	       span->end_time_unix_nano == 1005000,
	   "parent, kind, times");
	ok(is_text(attribute(span, "name"), "n") && is_text(attribute(span, "id"), "i") && is_text(attribute(span, "number"), "5") &&
	       is_text(attribute(span, "empty"), ""),
	   "tags, also with the names of fields");
	ok(is_text(attribute(span, "network.local.address"), "10.0.0.1") && is_int(attribute(span, "net.host.port"), 80) &&
	       is_text(attribute(span, "network.peer.address"), "2001:db8::1") && is_int(attribute(span, "net.peer.port"), 443) &&
	       is_text(attribute(span, "peer.service"), "b") && is_text(attribute(span, "service.peer.name"), "b"),
	   "endpoints");
	ok(is_text(resource(span, "service.name"), "a") && is_text(resource(span, "host.name"), "h") &&
	       attribute(span, "host.name") == NULL,
	   "resource");
	ok(span_text_is(batch->strings[span_scope(batch, span)->name], "lib"), "scope");
	ok(span->n_events == 3 && span_text_is(span->events[0].name, "plain") && span->events[0].time_unix_nano == 1001000 &&
	       span_text_is(span->events[1].name, "x") && span->events[1].attributes.count == 3 &&
	       is_int(&span->events[1].attributes.items[0].value, 1) && span->events[1].dropped_attributes_count == 3 &&
	       span_text_is(span->events[2].name, "a|b|c"),
	   "annotations");

	span = with("\"tags\":{\"error\":\"boom\"}");
	ok(span->status_code == 2 && is_text(attribute(span, "error"), "boom"), "a text in the tag error stays");
	ok(attribute(span, "otel.zipkin.absentField.startTime") != NULL && span->start_time_unix_nano == 0, "no timestamp");
	span = with("\"tags\":{\"error\":\"true\"}");
	ok(span->status_code == 2 && attribute(span, "error") == NULL, "error true");
	span = with("\"tags\":{\"error\":\"\"}");
	ok(span->status_code == 2 && is_text(attribute(span, "error"), ""), "error empty");
	span = with("\"tags\":{\"otel.status_code\":\"OK\",\"otel.status_description\":\"d\",\"w3c.tracestate\":\"k=v\",\"span.kind\":\"internal\"}");
	ok(span->status_code == 1 && span_text_is(span->status_message, "d") && span_text_is(span->trace_state, "k=v") && span->kind == 1, "status, state and kind in tags");
	span = with("\"parentId\":\"eee19b7ec3c1b174\",\"tags\":{\"otlp.link.0\":\"5b8efff798038103d269b633813fc60c|eee19b7ec3c1b174|s=t|{\\\"a\\\":\\\"b|c\\\"}|1\"}");
	ok(id_is_zero(span->parent_span_id.bytes, 8), "its own parent is no parent");
	ok(span->n_links == 1 && span->links[0].span_id.bytes[0] == 0xee && span_text_is(span->links[0].trace_state, "s=t") &&
	       is_text(&span->links[0].attributes.items[0].value, "b|c"),
	   "links");

	ok(v2("[]") && batch->n_spans == 0, "no span");
	ok(v2("[{" IDS ",\"tags\":{}},{" IDS ",\"shared\":true}]") && batch->n_spans == 2, "a shared pair, and empty tags before it");
	ok(refused("{}") && refused("") && refused("[{" IDS) && refused("[1]"), "no array of spans");
	ok(refused("[{\"traceId\":\"1\"}]") && refused("[{\"traceId\":\"1\",\"id\":\"xyz\"}]") && refused("[{\"traceId\":\"1\",\"id\":\"0\"}]") &&
	       refused("[{\"traceId\":\"\",\"id\":\"1\"}]") && refused("[{\"traceId\":\"000000000000000000000000000000001\",\"id\":\"1\"}]"),
	   "bad ids");
	ok(refused("[{\"id\":\"1\"},{\"id\":\"2\"}]") && result.invalid_trace_id == 2, "no trace id, counted");
	ok(refused("[{" IDS ",\"timestamp\":-1}]") && refused("[{" IDS ",\"timestamp\":1.5}]") && refused("[{" IDS ",\"duration\":\"1\"}]") &&
	       refused("[{" IDS ",\"localEndpoint\":{\"port\":65536}}]") && refused("[{" IDS ",\"tags\":{\"a\":{}}}]") &&
	       refused("[{" IDS ",\"annotations\":[{\"timestamp\":0,\"value\":\"\"}]}]"),
	   "bad numbers and types");
	ok(v2("[{" IDS ",\"timestamp\":18446744073709551615}]") && batch->n_spans == 0 && result.rejected == 1, "a time beyond int8");
}

static void
test_v1(void)
{
	const Span *span;

	ok(v1("[{" IDS ",\"name\":\"n\",\"annotations\":[{\"timestamp\":10,\"value\":\"cs\",\"endpoint\":{\"serviceName\":\"a\",\"ipv4\":\"1.2.3.4\",\"port\":5}},"
	      "{\"timestamp\":15,\"value\":\"note\"},{\"timestamp\":20,\"value\":\"cr\"}],"
	      "\"binaryAnnotations\":[{\"key\":\"k\",\"value\":\"v\"},{\"key\":\"http.status_code\",\"value\":\"500\"},"
	      "{\"key\":\"sa\",\"value\":true,\"endpoint\":{\"serviceName\":\"b\"}}]}]") &&
	       batch->n_spans == 1,
	   "version 1");
	span = &batch->spans[0];
	ok(span->kind == 3 && span->start_time_unix_nano == 10000 && span->end_time_unix_nano == 20000 && span->status_code == 2, "kind, times, status");
	ok(span->n_events == 1 && span_text_is(span->events[0].name, "note"), "core annotations are no events");
	ok(is_text(resource(span, "service.name"), "a") && is_text(resource(span, "ipv4"), "1.2.3.4") && is_text(resource(span, "port"), "5") &&
	       is_text(attribute(span, "k"), "v") && is_text(attribute(span, "peer.service"), "b"),
	   "service and tags");
	ok(v1("[{" IDS ",\"annotations\":[{\"timestamp\":1,\"value\":\"sr\"}],\"timestamp\":7,\"duration\":2}]") && batch->spans[0].kind == 2 &&
	       batch->spans[0].start_time_unix_nano == 7000 && batch->spans[0].end_time_unix_nano == 9000 &&
	       is_text(resource(&batch->spans[0], "service.name"), "unknown-service"),
	   "timestamp and duration count first");
	ok(!v1("[{\"traceId\":\"1\"}]") && !v1("{}"), "refused");
}

static void
test_proto(void)
{
	static const unsigned char span[] = {
		0x0a, 0x3e,
		0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 8, 1, 1, 1, 1, 1, 1, 1, 1, 0x20, 2, 0x2a, 1, 'n',
		0x31, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0x38, 5, 0x42, 9, 0x0a, 1, 'a', 0x12, 4, 10, 0, 0, 1,
		0x5a, 6, 0x0a, 1, 'k', 0x12, 1, 'v', 0x60, 1, 0x68, 1};

	{
		unsigned char right[sizeof(span)];

		memcpy(right, span, sizeof(span));
		right[1] = (unsigned char) (sizeof(span) - 2);
		ok(decode_bytes(decode_zipkin_proto, right, sizeof(right)) && batch->n_spans == 1, "protobuf");
		ok(batch->n_spans == 1 && batch->spans[0].kind == 2 && batch->spans[0].trace_id.bytes[8] == 1 &&
		       batch->spans[0].end_time_unix_nano == 1005000 && is_text(attribute(&batch->spans[0], "k"), "v") &&
		       is_text(attribute(&batch->spans[0], "network.local.address"), "10.0.0.1"),
		   "its fields");
		for (size_t len = 1; len < sizeof(right); len++)
			if (decode_bytes(decode_zipkin_proto, right, len) || error.code == SPAN_ERROR_NONE)
				ok(false, "cut short at %zu", len);
		right[3] = 7;
		ok(!decode_bytes(decode_zipkin_proto, right, sizeof(right)), "a trace id of seven bytes");
	}
}

static void
test_thrift(void)
{
	static const unsigned char list[] = {
		12, 0, 0, 0, 1,
		10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 11, 0, 3, 0, 0, 0, 1, 'n', 10, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7,
		15, 0, 6, 12, 0, 0, 0, 1, 10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 11, 0, 2, 0, 0, 0, 2, 's', 'r',
		12, 0, 3, 8, 0, 1, 10, 0, 0, 1, 6, 0, 2, 0xff, 0xff, 11, 0, 3, 0, 0, 0, 1, 'a', 0, 0,
		15, 0, 8, 12, 0, 0, 0, 1, 11, 0, 1, 0, 0, 0, 1, 'k', 11, 0, 2, 0, 0, 0, 2, 0, 5, 8, 0, 3, 0, 0, 0, 2, 0,
		13, 0, 99, 8, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 9, 0,
		0};
	unsigned char huge[] = {12, 0x7f, 0xff, 0xff, 0xff, 10, 0, 1};

	ok(decode_bytes(decode_zipkin_thrift, list, sizeof(list)) && batch->n_spans == 1, "Thrift: %s", error.message);
	ok(batch->n_spans == 1 && batch->spans[0].trace_id.bytes[15] == 9 && batch->spans[0].kind == 2 && batch->spans[0].start_time_unix_nano == 5000 &&
	       is_int(attribute(&batch->spans[0], "k"), 5) && is_text(resource(&batch->spans[0], "port"), "65535"),
	   "its fields");
	for (size_t len = 0; len < sizeof(list); len++)
		if (decode_bytes(decode_zipkin_thrift, list, len) || error.code == SPAN_ERROR_NONE)
			ok(false, "cut short at %zu", len);
	ok(!decode_bytes(decode_zipkin_thrift, huge, sizeof(huge)) && span_batch_memory(batch) < 1 << 20, "a count of 2^31 - 1");
}

int
main(void)
{
	batch = span_batch_create(&span_malloc_allocator, (size_t) 64 << 20);
	test_v2();
	test_v1();
	test_proto();
	test_thrift();
	span_batch_destroy(batch);
	free(body);
	return tap_done();
}
