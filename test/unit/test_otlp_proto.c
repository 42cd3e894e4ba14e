/*-------------------------------------------------------------------------
 *
 * test_otlp_proto.c
 *	  OTLP protobuf into span batches: every field, every rule of the wire.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/decode.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------- building messages */

typedef struct Bytes
{
	char   data[65536];
	size_t len;
} Bytes;

static void
put(Bytes *b, const void *data, size_t len)
{
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void
put_varint(Bytes *b, uint64_t value)
{
	do
	{
		char byte = (char) (value >= 0x80 ? (value & 0x7F) | 0x80 : value);

		put(b, &byte, 1);
		value >>= 7;
	} while (value != 0);
}

static void
put_tag(Bytes *b, uint32_t field, uint32_t wire)
{
	put_varint(b, (uint64_t) field << 3 | wire);
}

static void
put_number(Bytes *b, uint32_t field, uint64_t value)
{
	put_tag(b, field, 0);
	put_varint(b, value);
}

static void
put_fixed64(Bytes *b, uint32_t field, uint64_t value)
{
	put_tag(b, field, 1);
	put(b, &value, 8); /* tests run on little-endian machines */
}

static void
put_fixed32(Bytes *b, uint32_t field, uint32_t value)
{
	put_tag(b, field, 5);
	put(b, &value, 4);
}

static void
put_data(Bytes *b, uint32_t field, const void *data, size_t len)
{
	put_tag(b, field, 2);
	put_varint(b, len);
	put(b, data, len);
}

static void
put_text(Bytes *b, uint32_t field, const char *text)
{
	put_data(b, field, text, strlen(text));
}

static void
put_message(Bytes *b, uint32_t field, const Bytes *message)
{
	put_data(b, field, message->data, message->len);
}

/* An empty message; there are enough of them for one test, then they come again. */
static Bytes *
new_bytes(void)
{
	static Bytes pool[64];
	static int   next;
	Bytes       *b = &pool[next++ % 64];

	b->len = 0;
	return b;
}

static void
put_attribute(Bytes *b, uint32_t field, const char *key, const Bytes *value)
{
	Bytes kv;

	kv.len = 0;
	put_text(&kv, 1, key);
	if (value != NULL)
		put_message(&kv, 2, value);
	put_message(b, field, &kv);
}

static void
put_string_attribute(Bytes *b, uint32_t field, const char *key, const char *text)
{
	Bytes value;

	value.len = 0;
	put_text(&value, 1, text);
	put_attribute(b, field, key, &value);
}

static const char trace_id[16] = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
static const char span_id[8] = "\x11\x12\x13\x14\x15\x16\x17\x18";

/* A span with its ids and whatever is in "more". */
static Bytes *
span_message(const Bytes *more)
{
	Bytes *span = new_bytes();

	put_data(span, 1, trace_id, 16);
	put_data(span, 2, span_id, 8);
	if (more != NULL)
		put(span, more->data, more->len);
	return span;
}

/* A request with these bytes as one span. */
static Bytes *
request_of(const Bytes *span)
{
	Bytes *scope_spans = new_bytes();
	Bytes *resource_spans = new_bytes();
	Bytes *request = new_bytes();

	put_message(scope_spans, 2, span);
	put_message(resource_spans, 2, scope_spans);
	put_message(request, 1, resource_spans);
	return request;
}

/* ------------------------------------------------------------ decoding */

static SpanBatch    *batch;
static DecodeResult  result;
static SpanError     error;
static DecodeOptions options = {{"t", 1}, 2048, true};

/* Decodes an exact heap copy, so that ASan sees a read beyond its end. */
static char *body;

static bool
decode(const Bytes *request)
{
	free(body);
	body = malloc(request->len > 0 ? request->len : 1);
	memcpy(body, request->data, request->len);
	span_batch_reset(batch);
	memset(&error, 0, sizeof(error));
	return decode_otlp_proto(body, request->len, &options, batch, &result, &error);
}

static bool
decode_span_with(const Bytes *more)
{
	return decode(request_of(span_message(more)));
}

static bool
refused(const Bytes *request, SpanErrorCode code, const char *text)
{
	return !decode(request) && error.code == code && strstr(error.message, text) != NULL &&
	       batch->n_spans == 0;
}

static bool
string_is(uint32_t id, const char *text)
{
	return span_text_is(batch->strings[id], text);
}

/* -------------------------------------------------------------- tests */

static void
test_every_field(void)
{
	Bytes              *span = new_bytes();
	Bytes              *event = new_bytes();
	Bytes              *link = new_bytes();
	Bytes              *status = new_bytes();
	Bytes              *resource = new_bytes();
	Bytes              *scope = new_bytes();
	Bytes              *entity = new_bytes();
	Bytes              *scope_spans = new_bytes();
	Bytes              *resource_spans = new_bytes();
	Bytes              *request = new_bytes();
	const Span         *s;
	const SpanScope    *sc;
	const SpanResource *r;

	put_data(span, 1, trace_id, 16);
	put_data(span, 2, span_id, 8);
	put_text(span, 3, "a=b");
	put_data(span, 4, "\x21\x22\x23\x24\x25\x26\x27\x28", 8);
	put_text(span, 5, "GET /");
	put_number(span, 6, 17);
	put_fixed64(span, 7, 1544712660000000000);
	put_fixed64(span, 8, 1544712661000000000);
	put_string_attribute(span, 9, "k", "v");
	put_number(span, 10, 3);
	put_fixed64(event, 1, 77);
	put_text(event, 2, "exception");
	put_string_attribute(event, 3, "e", "x");
	put_number(event, 4, 4);
	put_message(span, 11, event);
	put_number(span, 12, 5);
	put_data(link, 1, trace_id, 16);
	put_data(link, 2, span_id, 8);
	put_text(link, 3, "c=d");
	put_string_attribute(link, 4, "l", "y");
	put_number(link, 5, 6);
	put_fixed32(link, 6, 769);
	put_message(span, 13, link);
	put_number(span, 14, 7);
	put_text(status, 2, "boom");
	put_number(status, 3, 9);
	put_message(span, 15, status);
	put_fixed32(span, 16, 257);

	put_string_attribute(resource, 1, "service.name", "shop");
	put_number(resource, 2, 8);
	put_text(entity, 1, "http://e");
	put_text(entity, 2, "ser\"vice");
	put_text(entity, 3, "service.name");
	put_text(entity, 3, "service.id");
	put_text(entity, 4, "d");
	put_message(resource, 3, entity);
	put_text(scope, 1, "lib");
	put_text(scope, 2, "1.2");
	put_string_attribute(scope, 3, "s", "z");
	put_number(scope, 4, 9);

	/* what surrounds the spans comes after them */
	put_message(scope_spans, 2, span);
	put_text(scope_spans, 3, "http://scope");
	put_message(scope_spans, 1, scope);
	put_message(resource_spans, 2, scope_spans);
	put_text(resource_spans, 3, "http://resource");
	put_message(resource_spans, 1, resource);
	put_message(request, 1, resource_spans);

	ok(decode(request) && result.spans == 1 && batch->n_spans == 1, "a span with every field is decoded: %s", error.message);
	if (batch->n_spans != 1)
		return;
	s = &batch->spans[0];
	sc = span_scope(batch, s);
	r = span_resource(batch, s);
	ok(memcmp(s->trace_id.bytes, trace_id, 16) == 0 && memcmp(s->span_id.bytes, span_id, 8) == 0, "ids");
	ok(s->parent_span_id.bytes[0] == 0x21, "parent");
	ok(span_text_is(s->trace_state, "a=b"), "trace state");
	ok(string_is(s->name, "GET /") && s->kind == 17 && s->flags == 257, "name, kind, flags");
	ok(s->start_time_unix_nano == 1544712660000000000 && s->end_time_unix_nano == 1544712661000000000, "times");
	ok(s->attributes.count == 1 && span_text_is(s->attributes.items[0].key, "k") &&
	       string_is(s->attributes.items[0].key_id, "k"),
	   "attribute");
	ok(s->dropped_attributes_count == 3 && s->dropped_events_count == 5 && s->dropped_links_count == 7, "dropped counts");
	ok(span_text_is(s->status_message, "boom") && s->status_code == 9, "status, unknown code kept");
	ok(s->n_events == 1 && s->events[0].time_unix_nano == 77 && span_text_is(s->events[0].name, "exception") &&
	       s->events[0].dropped_attributes_count == 4 && s->events[0].attributes.count == 1 &&
	       string_is(s->events[0].attributes.items[0].key_id, "e"),
	   "event");
	ok(s->n_links == 1 && s->links[0].flags == 769 && s->links[0].dropped_attributes_count == 6 &&
	       span_text_is(s->links[0].trace_state, "c=d") && s->links[0].attributes.count == 1,
	   "link");
	ok(string_is(sc->name, "lib") && string_is(sc->version, "1.2") && string_is(sc->schema_url, "http://scope") &&
	       sc->dropped_attributes_count == 9 && sc->attributes.count == 1,
	   "scope, sent after its spans");
	ok(string_is(r->schema_url, "http://resource") && r->dropped_attributes_count == 8 &&
	       r->attributes.count == 1 && string_is(r->tenant, "t"),
	   "resource, sent after its spans");
	ok(span_text_is(r->entity_refs, "[{\"schemaUrl\":\"http://e\",\"type\":\"ser\\\"vice\","
	                                "\"idKeys\":[\"service.name\",\"service.id\"],\"descriptionKeys\":[\"d\"]}]"),
	   "entity refs as JSON: %.*s", (int) r->entity_refs.len, r->entity_refs.data);
}

static void
test_values(void)
{
	Bytes          *span = new_bytes();
	Bytes          *v;
	Bytes          *list;
	double          d = -0.5;
	uint64_t        bits;
	const KeyValue *a;

	v = new_bytes();
	put_number(v, 2, 1);
	put_attribute(span, 9, "bool", v);
	v = new_bytes();
	put_number(v, 3, (uint64_t) INT64_MIN);
	put_attribute(span, 9, "int", v);
	v = new_bytes();
	memcpy(&bits, &d, 8);
	put_fixed64(v, 4, bits);
	put_attribute(span, 9, "double", v);
	v = new_bytes();
	list = new_bytes();
	put_data(list, 1, "", 0);
	put_data(list, 1, "\x18\x05", 2);
	put_message(v, 5, list);
	put_attribute(span, 9, "array", v);
	v = new_bytes();
	list = new_bytes();
	put_attribute(list, 1, "m", NULL);
	put_message(v, 6, list);
	put_attribute(span, 9, "kvlist", v);
	v = new_bytes();
	put_data(v, 7, "\0\xff", 2);
	put_attribute(span, 9, "bytes", v);
	put_attribute(span, 9, "empty", new_bytes());
	put_attribute(span, 9, "none", NULL);
	v = new_bytes();
	put_data(v, 5, "", 0);
	put_attribute(span, 9, "no elements", v);
	v = new_bytes();
	put_text(v, 1, "first");
	put_number(v, 3, 7);
	put_attribute(span, 9, "last wins", v);
	put_string_attribute(span, 9, "bool", "again");

	ok(decode_span_with(span) && batch->n_spans == 1 && batch->spans[0].attributes.count == 11, "values: %s", error.message);
	if (batch->n_spans != 1)
		return;
	a = batch->spans[0].attributes.items;
	ok(a[0].value.type == ANY_BOOL && a[0].value.u.boolean, "bool");
	ok(a[1].value.type == ANY_INT && a[1].value.u.integer == INT64_MIN, "int");
	ok(a[2].value.type == ANY_DOUBLE && a[2].value.u.number == -0.5, "double");
	ok(a[3].value.type == ANY_ARRAY && a[3].value.len == 2 && a[3].value.u.elements[0].type == ANY_EMPTY &&
	       a[3].value.u.elements[1].u.integer == 5,
	   "array");
	ok(a[4].value.type == ANY_KVLIST && a[4].value.len == 1 && span_text_is(a[4].value.u.members[0].key, "m") &&
	       a[4].value.u.members[0].value.type == ANY_EMPTY,
	   "kvlist");
	ok(a[5].value.type == ANY_BYTES && a[5].value.len == 2 && memcmp(a[5].value.u.data, "\0\xff", 2) == 0, "bytes untouched");
	ok(a[6].value.type == ANY_EMPTY && a[7].value.type == ANY_EMPTY, "no value is the empty value");
	ok(a[8].value.type == ANY_ARRAY && a[8].value.len == 0, "an empty array is not the empty value");
	ok(a[9].value.type == ANY_INT && a[9].value.u.integer == 7, "the last member of the oneof counts");
	ok(a[10].value.type == ANY_STRING && a[10].key_id == a[0].key_id, "duplicate keys are kept");
}

static void
test_merging(void)
{
	Bytes              *one = new_bytes();
	Bytes              *two = new_bytes();
	Bytes              *scope_one = new_bytes();
	Bytes              *scope_two = new_bytes();
	Bytes              *scope_spans = new_bytes();
	Bytes              *resource_spans = new_bytes();
	Bytes              *request = new_bytes();
	Bytes              *more = new_bytes();
	Bytes              *old = new_bytes();
	const SpanResource *r;

	put_string_attribute(one, 1, "a", "1");
	put_number(one, 2, 1);
	put_string_attribute(two, 1, "b", "2");
	put_text(scope_one, 1, "lib");
	put_text(scope_two, 2, "2");
	put_message(scope_spans, 1, scope_one);
	put_number(more, 6, 1);
	put_number(more, 6, 3);
	put_data(more, 15, "\x12\x01x", 3);
	put_data(more, 15, "\x18\x02", 2);
	put_message(scope_spans, 2, span_message(more));
	put_message(scope_spans, 1, scope_two);
	put_message(resource_spans, 1, one);
	put_message(resource_spans, 2, scope_spans);
	put_message(resource_spans, 1, two);
	put_message(old, 2, span_message(NULL));
	put_message(resource_spans, 1000, old);
	put_message(request, 1, resource_spans);
	ok(decode(request) && batch->n_spans == 1, "field 1000 is ignored beside field 2: %s", error.message);
	if (batch->n_spans != 1)
		return;
	r = span_resource(batch, &batch->spans[0]);
	ok(r->attributes.count == 2 && r->dropped_attributes_count == 1, "a resource in two pieces is merged");
	ok(string_is(span_scope(batch, batch->spans)->name, "lib") && string_is(span_scope(batch, batch->spans)->version, "2"),
	   "a scope in two pieces is merged");
	ok(batch->spans[0].kind == 3, "of a repeated scalar the last counts");
	ok(batch->spans[0].status_code == 2 && span_text_is(batch->spans[0].status_message, "x"), "a status in two pieces is merged");

	resource_spans = new_bytes();
	request = new_bytes();
	put_message(resource_spans, 1000, old);
	put_message(request, 1, resource_spans);
	ok(decode(request) && batch->n_spans == 1, "field 1000 alone is decoded");
}

static void
test_ids(void)
{
	Bytes *span = new_bytes();
	Bytes *scope_spans = new_bytes();
	Bytes *resource_spans = new_bytes();
	Bytes *request = new_bytes();
	Bytes *more = new_bytes();

	put_data(span, 1, trace_id, 15);
	put_data(span, 2, span_id, 8);
	ok(refused(request_of(span), SPAN_ERROR_INVALID, "trace ids must be 128 bit, received 120 bits"), "trace id of 15 bytes");
	ok(result.invalid_trace_id == 0, "an id of a wrong length is not counted as discarded spans");

	/* two good spans and one without id */
	put_message(scope_spans, 2, span_message(NULL));
	put_message(scope_spans, 2, span_message(NULL));
	span = new_bytes();
	put_data(span, 2, span_id, 8);
	put_message(scope_spans, 2, span);
	put_message(resource_spans, 2, scope_spans);
	put_message(request, 1, resource_spans);
	ok(refused(request, SPAN_ERROR_INVALID, "trace ids must be 128 bit, received 0 bits"), "absent trace id: %s", error.message);
	ok(result.invalid_trace_id == 3 && result.spans == 0, "all spans of the request count as discarded");
	options.reject_whole_batch = false;
	ok(decode(request) && batch->n_spans == 2 && result.rejected == 1 && result.invalid_trace_id == 1 &&
	       strstr(result.rejected_message, "128 bit") != NULL,
	   "or only the span is refused");
	options.reject_whole_batch = true;

	span = new_bytes();
	put_data(span, 1, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	put_data(span, 2, span_id, 8);
	ok(refused(request_of(span), SPAN_ERROR_INVALID, "received 0 bits"), "zero trace id");
	span = new_bytes();
	put_data(span, 1, trace_id, 16);
	put_data(span, 2, "\0\0\0\0\0\0\0\0", 8);
	ok(refused(request_of(span), SPAN_ERROR_INVALID, "span ids must be 64 bit and not all zero, received 0 bits"), "zero span id");
	ok(result.invalid_span_id == 1, "counted as invalid span id");
	put_data(more, 4, span_id, 4);
	ok(refused(request_of(span_message(more)), SPAN_ERROR_INVALID, "received 32 bits"), "parent of 4 bytes");
	more->len = 0;
	put_data(more, 4, "\0\0\0\0\0\0\0\0", 8);
	ok(decode_span_with(more) && id_is_zero(batch->spans[0].parent_span_id.bytes, 8), "a zero parent is a root");
	more->len = 0;
	put_data(more, 13, "", 0);
	ok(decode_span_with(more) && batch->spans[0].n_links == 1, "a link without ids is kept");
	more->len = 0;
	put_data(more, 13, "\x0a\x01x", 3);
	ok(refused(request_of(span_message(more)), SPAN_ERROR_INVALID, "received 8 bits"), "a link id of a wrong length");
}

static void
test_times(void)
{
	Bytes *more = new_bytes();

	put_fixed64(more, 7, UINT64_MAX);
	ok(decode_span_with(more) && batch->n_spans == 0 && result.rejected == 1 && result.invalid_time == 1 &&
	       result.rejected_message[0] != '\0',
	   "a time beyond int8 refuses its span only");
	more->len = 0;
	put_fixed64(more, 7, INT64_MAX);
	put_fixed64(more, 8, 5);
	ok(decode_span_with(more) && batch->n_spans == 1 && batch->spans[0].end_time_unix_nano == 5, "an end before the start is kept");
	more->len = 0;
	put_data(more, 11, "\x09\xff\xff\xff\xff\xff\xff\xff\xff", 9);
	ok(decode_span_with(more) && batch->n_spans == 0 && result.rejected == 1, "an event's time beyond int8 too");
}

static void
test_text(void)
{
	Bytes          *more = new_bytes();
	Bytes          *value = new_bytes();
	Bytes          *list = new_bytes();
	Bytes          *element = new_bytes();
	static char     long_text[10001];
	const KeyValue *a;

	put_data(more, 5, "a\0b\xff", 4);
	put_string_attribute(more, 9, "k", "\xc3");
	ok(decode_span_with(more) && string_is(batch->spans[0].name, "a\xEF\xBF\xBD"
	                                                             "b\xEF\xBF\xBD"),
	   "NUL and invalid UTF-8 become U+FFFD");
	ok(span_text_is(span_text(batch->spans[0].attributes.items[0].value.u.data, batch->spans[0].attributes.items[0].value.len),
	                "\xEF\xBF\xBD") &&
	       result.sanitized_strings == 2,
	   "in values too, and are counted");

	memset(long_text, 'x', 10000);
	memcpy(long_text + 2047, "\xc3\xa9", 2);
	more->len = 0;
	put_string_attribute(more, 9, "k", long_text);
	put_string_attribute(more, 9, long_text, "v");
	put_text(element, 1, long_text);
	put_message(list, 1, element);
	put_message(value, 5, list);
	put_attribute(more, 9, "array", value);
	put_text(more, 5, long_text);
	ok(decode_span_with(more) && batch->n_spans == 1, "long texts: %s", error.message);
	if (batch->n_spans != 1)
		return;
	a = batch->spans[0].attributes.items;
	ok(a[0].value.len == 2047, "a long value is cut before the character that does not fit: %u", a[0].value.len);
	ok(a[1].key.len == 2047, "a long key is cut: %u", a[1].key.len);
	ok(a[2].value.type == ANY_ARRAY && a[2].value.u.elements[0].len == 10000, "inside arrays nothing is cut");
	ok(batch->strings[batch->spans[0].name].len == 10000, "nor in names");
	ok(result.truncated_attributes == 2, "cut attributes are counted");
	options.max_attribute_bytes = 0;
	ok(decode_span_with(more) && batch->spans[0].attributes.items[0].value.len == 10000 && result.truncated_attributes == 0, "0 turns cutting off");
	options.max_attribute_bytes = 2048;
}

/* An attribute whose value nests "depth" arrays. */
static Bytes *
nested(int depth)
{
	Bytes *value = new_bytes();
	Bytes *more = new_bytes();

	for (int i = 0; i < depth; i++)
	{
		Bytes list;
		Bytes outer;

		list.len = outer.len = 0;
		if (i > 0)
			put_message(&list, 1, value);
		put_message(&outer, 5, &list);
		*value = outer;
	}
	put_attribute(more, 9, "deep", value);
	return span_message(more);
}

static void
test_limits(void)
{
	ok(decode(request_of(nested(64))) && batch->n_spans == 1, "64 levels: %s", error.message);
	ok(refused(request_of(nested(65)), SPAN_ERROR_LIMIT, "nested"), "65 levels are refused");
	ok(refused(request_of(nested(6000)), SPAN_ERROR_LIMIT, "nested"), "6000 levels are refused");
}

static void
test_many(void)
{
	Bytes *more = new_bytes();
	char   key[16];
	bool   right = true;

	for (int i = 0; i < 300; i++)
	{
		snprintf(key, sizeof(key), "k%d", i);
		put_string_attribute(more, 9, key, key);
		put_data(more, 11, "", 0);
		put_data(more, 13, "", 0);
	}
	ok(decode_span_with(more) && batch->spans[0].attributes.count == 300 && batch->spans[0].n_events == 300 &&
	       batch->spans[0].n_links == 300,
	   "many attributes, events and links: %s", error.message);
	for (uint32_t i = 0; i < batch->spans[0].attributes.count; i++)
	{
		snprintf(key, sizeof(key), "k%u", i);
		right = right && string_is(batch->spans[0].attributes.items[i].key_id, key) &&
		        span_text_is(batch->spans[0].attributes.items[i].key, key);
	}
	ok(right, "in the order they were sent");
}

static void
test_malformed(void)
{
	static const struct
	{
		const char *bytes;
		size_t      len;
		const char *what;
	} cases[] = {
		{"\xff\xff", 2, "garbage"},
		{"\x0a\x05\x01", 3, "length beyond the end"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "varint of eleven bytes"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "huge length"},
		{"\x02\x00", 2, "field 0"},
		{"\x82\x80\x80\x80\x10\x00", 6, "field number beyond 2^29 - 1"},
		{"\x08\x01", 2, "known field of another wire type"},
		{"\x0e\x01", 2, "wire type 6"},
		{"\x14", 1, "end of a group that was not begun"},
		{"\x13\x08", 2, "group cut short"},
		{"\x13\x1c", 2, "group with another end"},
		{"\x11\x01\x02", 3, "unknown 64-bit field cut short"},
		{"\x15\x01\x02", 3, "unknown 32-bit field cut short"},
		{"\x10", 1, "unknown varint missing"},
		{"\x0a\x02\x12\x01", 4, "inner length beyond the outer end"},
		{"\x0a\x02\x10\x01", 4, "scope_spans as a number"},
		{"\x0a\x04\x12\x02\x10\x01", 6, "spans as a number"},
	};
	Bytes *request = new_bytes();
	Bytes *full;
	Bytes *more = new_bytes();
	int    accepted = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		request->len = 0;
		put(request, cases[i].bytes, cases[i].len);
		ok(refused(request, SPAN_ERROR_INVALID, "malformed"), "%s: %s", cases[i].what, error.message);
	}
	request->len = 0;
	ok(decode(request) && result.spans == 0, "no bytes are a request without spans");
	put(request, "\x13\x08\x01\x1b\x1c\x14\xa2\x06\x01x\x19\x01\x02\x03\x04\x05\x06\x07\x08\x1d\x01\x02\x03\x04", 24);
	ok(decode(request), "unknown fields and groups are skipped: %s", error.message);

	/* cut anywhere, a request with a span is refused or has no span */
	put_string_attribute(more, 9, "k", "v");
	put_data(more, 11, "\x12\x01x", 3);
	put_data(more, 13, "\x1a\x01x", 3);
	full = request_of(span_message(more));
	for (size_t len = 1; len < full->len; len++)
	{
		request->len = 0;
		put(request, full->data, len);
		if (decode(request))
			accepted++;
	}
	ok(accepted == 0, "no proper prefix is accepted");

	/* a bad span behind good ones leaves nothing */
	request->len = 0;
	put(request, full->data, full->len);
	put(request, "\x0a\x02\x12\x01", 4);
	ok(!decode(request) && batch->n_spans == 0 && result.spans == 0, "all or nothing");
}

int
main(void)
{
	batch = span_batch_create(&span_malloc_allocator, 64 << 20);
	test_every_field();
	test_values();
	test_merging();
	test_ids();
	test_times();
	test_text();
	test_limits();
	test_many();
	test_malformed();
	span_batch_destroy(batch);
	free(body);
	return tap_done();
}
