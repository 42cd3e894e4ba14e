/*-------------------------------------------------------------------------
 *
 * test_otlp_json.c
 *	  OTLP JSON into span batches: every field, every liberty and every
 *	  refusal.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/decode.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static SpanBatch    *batch;
static DecodeResult  result;
static SpanError     error;
static DecodeOptions options = {{"t", 1}, 2048, true};
static char         *body;

static bool
decode_bytes(const char *text, size_t len)
{
	free(body);
	body = malloc(len > 0 ? len : 1);
	memcpy(body, text, len);
	span_batch_reset(batch);
	memset(&error, 0, sizeof(error));
	return decode_otlp_json(body, len, &options, batch, &result, &error);
}

static bool
decode(const char *text)
{
	return decode_bytes(text, strlen(text));
}

static bool
refused(const char *text)
{
	return !decode(text) && error.code != SPAN_ERROR_NONE && error.message[0] != '\0' && batch->n_spans == 0;
}

#define IDS "\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\""

/* A request with one span that has ids and these members. */
static const char *
with(const char *members)
{
	static char text[70000];

	snprintf(text, sizeof(text), "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" IDS "%s%s}]}]}]}",
	         *members ? "," : "", members);
	return text;
}

/* The value of an attribute written so; NULL if the request is refused. */
static const AnyValue *
value_of(const char *value)
{
	static char text[66000];

	snprintf(text, sizeof(text), "\"attributes\":[{\"key\":\"k\",\"value\":%s}]", value);
	if (!decode(with(text)) || batch->n_spans != 1 || batch->spans[0].attributes.count != 1)
		return NULL;
	return &batch->spans[0].attributes.items[0].value;
}

static bool
text_value(const AnyValue *value, const char *text)
{
	return value != NULL && value->type == ANY_STRING && span_text_is(span_text(value->u.data, value->len), text);
}

static bool
string_is(uint32_t id, const char *text)
{
	return span_text_is(batch->strings[id], text);
}

static void
test_every_field(void)
{
	const Span *s;

	ok(decode("{\"resourceSpans\":[{\"scopeSpans\":[{\"schemaUrl\":\"http://scope\",\"spans\":[{" IDS ","
	          "\"parentSpanId\":\"EEE19B7EC3C1B173\",\"traceState\":\"a=b\",\"flags\":257,\"name\":\"op\",\"kind\":2,"
	          "\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":1544712661000000001,"
	          "\"attributes\":[{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"}}],\"droppedAttributesCount\":3,"
	          "\"events\":[{\"timeUnixNano\":\"77\",\"name\":\"e\",\"attributes\":[{\"key\":\"x\",\"value\":{\"intValue\":\"1\"}}],\"droppedAttributesCount\":4}],"
	          "\"droppedEventsCount\":\"5\","
	          "\"links\":[{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\",\"traceState\":\"c=d\",\"flags\":769,\"droppedAttributesCount\":6,\"attributes\":[]}],"
	          "\"droppedLinksCount\":7,\"status\":{\"code\":2,\"message\":\"boom\"}}],"
	          "\"scope\":{\"name\":\"lib\",\"version\":\"1\",\"attributes\":[{\"key\":\"s\"}],\"droppedAttributesCount\":8}}],"
	          "\"schemaUrl\":\"http://resource\",\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"a\"}}],"
	          "\"droppedAttributesCount\":9,\"entityRefs\":[{\"type\":\"service\",\"idKeys\":[\"service.name\"]}]}}]}"),
	   "every field: %s", error.message);
	if (batch->n_spans != 1)
		return;
	s = &batch->spans[0];
	ok(s->trace_id.bytes[0] == 0x5b && s->span_id.bytes[7] == 0x74 && s->parent_span_id.bytes[7] == 0x73, "ids, of either case");
	ok(span_text_is(s->trace_state, "a=b") && s->flags == 257 && string_is(s->name, "op") && s->kind == 2, "simple fields");
	ok(s->start_time_unix_nano == 1544712660000000000 && s->end_time_unix_nano == 1544712661000000001, "times as string and number, exact");
	ok(s->dropped_attributes_count == 3 && s->dropped_events_count == 5 && s->dropped_links_count == 7, "dropped counts");
	ok(s->status_code == 2 && span_text_is(s->status_message, "boom"), "status");
	ok(s->attributes.count == 1 && string_is(s->attributes.items[0].key_id, "k") && text_value(&s->attributes.items[0].value, "v"), "attribute");
	ok(s->n_events == 1 && s->events[0].time_unix_nano == 77 && span_text_is(s->events[0].name, "e") &&
	       s->events[0].dropped_attributes_count == 4 && s->events[0].attributes.items[0].value.u.integer == 1,
	   "event");
	ok(s->n_links == 1 && s->links[0].flags == 769 && s->links[0].dropped_attributes_count == 6 && span_text_is(s->links[0].trace_state, "c=d"), "link");
	ok(string_is(span_scope(batch, s)->name, "lib") && string_is(span_scope(batch, s)->version, "1") &&
	       string_is(span_scope(batch, s)->schema_url, "http://scope") && span_scope(batch, s)->dropped_attributes_count == 8 &&
	       span_scope(batch, s)->attributes.items[0].value.type == ANY_EMPTY,
	   "scope");
	ok(string_is(span_resource(batch, s)->schema_url, "http://resource") && span_resource(batch, s)->dropped_attributes_count == 9 &&
	       span_text_is(span_resource(batch, s)->entity_refs, "[{\"type\":\"service\",\"idKeys\":[\"service.name\"]}]"),
	   "resource");
}

static void
test_liberties(void)
{
	ok(decode("{\"resource_spans\":[{\"schema_url\":\"u\",\"scope_spans\":[{\"spans\":[{\"trace_id\":\"5b8efff798038103d269b633813fc60c\","
	          "\"span_id\":\"eee19b7ec3c1b174\",\"parent_span_id\":\"\",\"trace_state\":\"x\",\"start_time_unix_nano\":1,\"end_time_unix_nano\":\"2\","
	          "\"dropped_attributes_count\":1,\"dropped_events_count\":2,\"dropped_links_count\":3,"
	          "\"attributes\":[{\"key\":\"a\",\"value\":{\"array_value\":{\"values\":[{\"bool_value\":true},{\"int_value\":1},{\"double_value\":2},{\"bytes_value\":\"\"},"
	          "{\"string_value\":\"\"},{\"kvlist_value\":{}}]}}}],\"events\":[{\"time_unix_nano\":5}]}]}]}]}") &&
	       batch->n_spans == 1 && batch->spans[0].end_time_unix_nano == 2 && batch->spans[0].dropped_links_count == 3 &&
	       batch->spans[0].attributes.items[0].value.len == 6 && batch->spans[0].events[0].time_unix_nano == 5,
	   "snake_case names: %s", error.message);
	ok(decode("{\"resourceSpans\":[{\"deprecatedScopeSpans\":[{\"spans\":[{" IDS "}]}]}]}") && batch->n_spans == 1, "deprecatedScopeSpans");
	ok(decode("{\"resourceSpans\":[{\"instrumentationLibrarySpans\":[{\"spans\":[{" IDS "}]}]}]}") && batch->n_spans == 0, "instrumentationLibrarySpans are ignored");
	ok(decode(with("\"kind\":\"SPAN_KIND_SERVER\",\"status\":{\"code\":\"STATUS_CODE_ERROR\"}")) &&
	       batch->spans[0].kind == 2 && batch->spans[0].status_code == 2,
	   "enums by name");
	ok(decode(with("\"kind\":17,\"status\":{\"code\":9}")) && batch->spans[0].kind == 17 && batch->spans[0].status_code == 9, "unknown numbers are kept");
	ok(refused(with("\"kind\":\"foo\"")), "an unknown name is refused");
	ok(decode(with("\"whatever\":{\"a\":[1,{\"spans\":[{}]},null],\"name\":\"no\"},\"name\":\"yes\"")) && string_is(batch->spans[0].name, "yes"), "unknown fields are ignored");
	ok(decode(with("\"name\":\"a\",\"name\":\"b\"")) && string_is(batch->spans[0].name, "b"), "of a repeated field the last counts");
	ok(decode(with("\"name\":null,\"kind\":null,\"status\":null,\"attributes\":null,\"events\":null,\"links\":null,\"flags\":null,\"parentSpanId\":null")) &&
	       batch->n_spans == 1 && batch->spans[0].attributes.count == 0,
	   "null is absent");
	ok(decode("{}") && result.spans == 0, "no spans");
	ok(decode(" \t\r\n{ \"resourceSpans\" : [ ] } \n") && result.spans == 0, "white space");
	ok(decode("\xEF\xBB\xBF{}"), "byte order mark");
	ok(decode("{\"resourceSpans\":[null]}"), "null in an array is an empty object");
}

static void
test_values(void)
{
	const AnyValue *v;

	ok((v = value_of("{}")) != NULL && v->type == ANY_EMPTY, "{} is the empty value");
	ok((v = value_of("null")) != NULL && v->type == ANY_EMPTY, "null too");
	ok((v = value_of("{\"intValue\":\"9007199254740993\"}")) != NULL && v->u.integer == 9007199254740993, "integers in strings");
	ok((v = value_of("{\"intValue\":9007199254740993}")) != NULL && v->u.integer == 9007199254740993, "integers in numbers, exact");
	ok((v = value_of("{\"intValue\":\"-9223372036854775808\"}")) != NULL && v->u.integer == INT64_MIN, "the least integer");
	ok((v = value_of("{\"intValue\":9223372036854775807}")) != NULL && v->u.integer == INT64_MAX, "the greatest");
	ok(value_of("{\"intValue\":\"9223372036854775808\"}") == NULL && strstr(error.message, "out of range") != NULL, "one more is out of range");
	ok(value_of("{\"intValue\":\"-9223372036854775809\"}") == NULL, "one less too");
	ok((v = value_of("{\"intValue\":1.0}")) != NULL && v->type == ANY_INT && v->u.integer == 1, "1.0 is integral");
	ok((v = value_of("{\"intValue\":1.25e3}")) != NULL && v->u.integer == 1250, "1.25e3 too");
	ok((v = value_of("{\"intValue\":12300e-2}")) != NULL && v->u.integer == 123, "12300e-2 too");
	ok((v = value_of("{\"intValue\":0e999999999999}")) != NULL && v->u.integer == 0, "zero with any exponent");
	ok(value_of("{\"intValue\":1.5}") == NULL && value_of("{\"intValue\":1e-1}") == NULL && value_of("{\"intValue\":1e30}") == NULL &&
	       value_of("{\"intValue\":\"\"}") == NULL && value_of("{\"intValue\":\"1 \"}") == NULL && value_of("{\"intValue\":\"0x1\"}") == NULL &&
	       value_of("{\"intValue\":\"1.\"}") == NULL && value_of("{\"intValue\":\"1e\"}") == NULL && value_of("{\"intValue\":\"-\"}") == NULL &&
	       value_of("{\"intValue\":true}") == NULL,
	   "what is no integer is refused");
	ok((v = value_of("{\"doubleValue\":\"NaN\"}")) != NULL && isnan(v->u.number), "NaN");
	ok((v = value_of("{\"doubleValue\":\"-Infinity\"}")) != NULL && isinf(v->u.number) && v->u.number < 0, "-Infinity");
	ok((v = value_of("{\"doubleValue\":\"Infinity\"}")) != NULL && isinf(v->u.number) && v->u.number > 0, "Infinity");
	ok((v = value_of("{\"doubleValue\":-0.25}")) != NULL && v->type == ANY_DOUBLE && v->u.number == -0.25, "double");
	ok((v = value_of("{\"doubleValue\":\"1e3\"}")) != NULL && v->u.number == 1000, "double in a string");
	ok((v = value_of("{\"doubleValue\":1}")) != NULL && v->type == ANY_DOUBLE, "a double without point");
	ok(value_of("{\"doubleValue\":\"nan\"}") == NULL && value_of("{\"doubleValue\":\"0x1p3\"}") == NULL &&
	       value_of("{\"doubleValue\":\"\"}") == NULL && value_of("{\"doubleValue\":1e999}") == NULL &&
	       value_of("{\"doubleValue\":\"1.5x\"}") == NULL && value_of("{\"doubleValue\":\"inf\"}") == NULL,
	   "what is no double is refused");
	ok((v = value_of("{\"boolValue\":false}")) != NULL && v->type == ANY_BOOL && !v->u.boolean, "bool");
	ok(value_of("{\"boolValue\":\"true\"}") == NULL && value_of("{\"boolValue\":1}") == NULL, "only true and false");
	ok((v = value_of("{\"bytesValue\":\"AQID\"}")) != NULL && v->type == ANY_BYTES && v->len == 3 && memcmp(v->u.data, "\1\2\3", 3) == 0, "bytes");
	ok((v = value_of("{\"bytesValue\":\"-_8=\"}")) != NULL && v->len == 2 && memcmp(v->u.data, "\xfb\xff", 2) == 0, "base64 of URLs");
	ok((v = value_of("{\"bytesValue\":\"+/8\"}")) != NULL && v->len == 2, "base64 without padding");
	ok((v = value_of("{\"bytesValue\":\"\"}")) != NULL && v->type == ANY_BYTES && v->len == 0, "no bytes");
	ok(value_of("{\"bytesValue\":\"A\"}") == NULL && value_of("{\"bytesValue\":\"AQ ID\"}") == NULL && value_of("{\"bytesValue\":\"A===\"}") == NULL &&
	       value_of("{\"bytesValue\":[1]}") == NULL,
	   "what is no base64 is refused");
	ok((v = value_of("{\"arrayValue\":{}}")) != NULL && v->type == ANY_ARRAY && v->len == 0, "an empty array");
	ok((v = value_of("{\"arrayValue\":{\"values\":[null,{},{\"intValue\":1}]}}")) != NULL && v->len == 3 && v->u.elements[0].type == ANY_EMPTY, "an array keeps null elements");
	ok((v = value_of("{\"kvlistValue\":{\"values\":[{\"key\":\"a\",\"value\":{\"boolValue\":true}},{\"key\":\"b\"}]}}")) != NULL && v->type == ANY_KVLIST && v->len == 2 &&
	       span_text_is(v->u.members[0].key, "a") && v->u.members[1].value.type == ANY_EMPTY,
	   "a map");
	ok((v = value_of("{\"stringValue\":\"x\",\"intValue\":2}")) != NULL && v->type == ANY_INT, "the last member of the oneof counts");
	ok((v = value_of("{\"stringValue\":\"x\",\"intValue\":null}")) != NULL && v->type == ANY_STRING, "null is not a member");
	ok(value_of("\"x\"") == NULL && value_of("{\"stringValue\":1}") == NULL && value_of("{\"arrayValue\":[]}") == NULL &&
	       value_of("{\"arrayValue\":{\"values\":{}}}") == NULL && value_of("{\"arrayValue\":{\"values\":[1]}}") == NULL,
	   "values of a wrong type are refused");
}

static void
test_text(void)
{
	static char text[64000];
	static char expected[3000];

	ok(text_value(value_of("{\"stringValue\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"}"), "\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80"), "escapes");
	ok(text_value(value_of("{\"stringValue\":\"a\\u0000b\"}"), "a\xEF\xBF\xBD"
	                                                           "b") &&
	       result.sanitized_strings == 1,
	   "\\u0000 becomes U+FFFD and is counted");
	ok(text_value(value_of("{\"stringValue\":\"\\ud800\"}"), "\xEF\xBF\xBD"), "a lone high surrogate");
	ok(text_value(value_of("{\"stringValue\":\"\\udc00x\\ud800\\u0041\\ud800\\ud800\\udc00\"}"), "\xEF\xBF\xBDx\xEF\xBF\xBD"
	                                                                                             "A\xEF\xBF\xBD\xf0\x90\x80\x80"),
	   "surrogates of all kinds");
	ok(text_value(value_of("{\"stringValue\":\"\\\\u0000\"}"), "\\u0000") && result.sanitized_strings == 0, "an escaped backslash before u0000");
	ok(text_value(value_of("{\"stringValue\":\"\xff\xc3\"}"), "\xEF\xBF\xBD\xEF\xBF\xBD"), "invalid UTF-8");
	ok(value_of("{\"stringValue\":\"\n\"}") == NULL, "a raw control character is malformed");
	ok(value_of("{\"stringValue\":\"\\x\"}") == NULL && value_of("{\"stringValue\":\"\\u12\"}") == NULL, "unknown escapes are malformed");
	memset(expected, 'y', 2048);
	strcpy(text, "{\"stringValue\":\"");
	memset(text + strlen(text), 'y', 5000);
	strcat(text, "\"}");
	ok(text_value(value_of(text), expected) && result.truncated_attributes == 1, "a long value is cut");
}

static void
test_ids(void)
{
#define SPAN(ids) "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" ids "}]}]}]}"
	ok(refused(SPAN("\"traceId\":\"5b8efff798038103d269b633813fc60\",\"spanId\":\"eee19b7ec3c1b174\"")), "31 digits");
	ok(refused(SPAN("\"traceId\":\"5b8efff798038103d269b633813fc60cc\",\"spanId\":\"eee19b7ec3c1b174\"")), "33 digits");
	ok(refused(SPAN("\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b17\"")), "15 digits");
	ok(refused(SPAN("\"traceId\":\"W47/95gDgQPSabYzgT/GDA==\",\"spanId\":\"eee19b7ec3c1b174\"")), "base64");
	ok(refused(SPAN("\"traceId\":[1,2],\"spanId\":\"eee19b7ec3c1b174\"")), "an array");
	ok(refused(SPAN("\"traceId\":\"5b8efff798038103d269b633813fc60g\",\"spanId\":\"eee19b7ec3c1b174\"")), "not hexadecimal");
	ok(refused(SPAN("\"spanId\":\"eee19b7ec3c1b174\"")) && strstr(error.message, "trace ids must be 128 bit, received 0 bits") != NULL &&
	       result.invalid_trace_id == 1,
	   "absent");
	ok(refused("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" IDS "},{" IDS "},{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"0000000000000000\"}]}]}]}") &&
	       result.invalid_span_id == 3,
	   "zero span id: all spans count as discarded");
	options.reject_whole_batch = false;
	ok(decode("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" IDS "},{}]}]}]}") && batch->n_spans == 1 && result.rejected == 1, "or only the span is refused");
	options.reject_whole_batch = true;
	ok(decode(with("\"parentSpanId\":\"0000000000000000\",\"links\":[{}]")) && batch->spans[0].n_links == 1, "a zero parent, a link without ids");
	ok(decode(with("\"startTimeUnixNano\":\"18446744073709551615\"")) && batch->n_spans == 0 && result.invalid_time == 1, "a time beyond int8 refuses its span only");
	ok(refused(with("\"startTimeUnixNano\":\"18446744073709551616\"")) && refused(with("\"startTimeUnixNano\":-1")) &&
	       refused(with("\"flags\":4294967296")),
	   "numbers out of range");
}

static void
test_malformed(void)
{
	static const char *const cases[] = {
		"", " ", "1234", "[]", "\"x\"", "null", "true", "{", "{\"resourceSpans\":[", "{}x", "{}{}", "{},", "{'a':1}", "{\"a\":01}", "{\"a\":}",
		"{\"a\":1,}", "[1", "{\"resourceSpans\":{}}", "{\"resourceSpans\":[1]}", "{\"resourceSpans\":[{\"resource\":[]}]}",
		"{\"resourceSpans\":[{\"scopeSpans\":{}}]}", "{\"resourceSpans\":[{\"scopeSpans\":[{\"scope\":1}]}]}",
		"{\"resourceSpans\":[{\"resource\":{\"attributes\":{\"a\":1}},\"scopeSpans\":[{\"spans\":[]}]}]}", "\xff\xfe{\0}\0", "\\", "{\"a\":\"\\",
		"{\"a\":\"\\u00", "\xEF\xBB\xBF"};
	static char deep[50001];
	static char text[70000];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(refused(cases[i]), "malformed: %s", cases[i]);
	ok(!decode_bytes("{}\0", 3), "a NUL behind the object");
	memset(deep, '[', 10000);
	ok(refused(deep), "10000 levels");
	snprintf(text, sizeof(text), "{\"x\":%s", deep);
	ok(refused(text) && error.code == SPAN_ERROR_LIMIT, "10000 levels in an unknown field");

	for (int levels = 64; levels <= 65; levels++)
	{
		deep[0] = '\0';
		for (int i = 0; i < levels; i++)
			strcat(deep, "{\"kvlistValue\":{\"values\":[{\"value\":");
		strcat(deep, "{}");
		for (int i = 0; i < levels; i++)
			strcat(deep, "}]}}");
		if (levels == 64)
			ok(value_of(deep) != NULL, "64 levels of a value: %s", error.message);
		else
			ok(value_of(deep) == NULL && error.code == SPAN_ERROR_LIMIT, "65 levels are refused");
	}
	ok(!decode("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{" IDS "},{" IDS ",\"kind\":\"x\"}]}]}]}") && batch->n_spans == 0, "all or nothing");
}

/* No proper prefix of a request is a request, and none is read past its end. */
static void
test_prefixes(void)
{
	char  *full = strdup(with("\"attributes\":[{\"key\":\"\\u00e9\",\"value\":{\"doubleValue\":1.5e3}}],\"name\":\"\\ud83d\\ude00\""));
	size_t len = strlen(full);
	int    accepted = 0;

	ok(decode(full), "the whole is accepted");
	for (size_t i = 0; i < len; i++)
		if (decode_bytes(full, i))
			accepted++;
	ok(accepted == 0, "no prefix is");
	free(full);
}

/* The parser of PostgreSQL 15 leaks the names of members it was in when it fails. */
extern const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:pg_parse_json\nleak:parse_object\n";
}

int
main(void)
{
	batch = span_batch_create(&span_malloc_allocator, 64 << 20);
	test_every_field();
	test_liberties();
	test_values();
	test_text();
	test_ids();
	test_malformed();
	test_prefixes();
	span_batch_destroy(batch);
	free(body);
	return tap_done();
}
