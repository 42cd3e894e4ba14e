/*-------------------------------------------------------------------------
 *
 * spangen.c
 *	  Spans for tests.
 *
 *-------------------------------------------------------------------------
 */
#include "spangen.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t
random_next(Random *random)
{
	uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t
random_below(Random *random, uint64_t bound)
{
	return random_next(random) % bound;
}

static void *
must(void *p)
{
	assert(p != NULL);
	return p;
}

static SpanText
text(SpanBatch *batch, const char *s, size_t len)
{
	return span_text(must(arena_copy(span_batch_arena(batch), s, len)), (uint32_t) len);
}

static AnyValue
string_value(SpanBatch *batch, const char *s)
{
	AnyValue v = {.type = ANY_STRING};
	SpanText t = text(batch, s, strlen(s));

	v.u.data = t.data;
	v.len = t.len;
	return v;
}

static AnyValue
int_value(int64_t i)
{
	AnyValue v = {.type = ANY_INT};

	v.u.integer = i;
	return v;
}

static void
set(SpanBatch *batch, KeyValue *items, uint32_t *n, const char *key, AnyValue value)
{
	KeyValue *item = &items[(*n)++];

	item->key_id = span_batch_string(batch, span_text(key, (uint32_t) strlen(key)));
	assert(item->key_id != SPAN_BATCH_NONE);
	item->key = batch->strings[item->key_id];
	item->value = value;
}

static AttributeList
list_of(SpanBatch *batch, const KeyValue *items, uint32_t n)
{
	AttributeList list = {must(arena_copy(span_batch_arena(batch), items, n * sizeof(KeyValue))), n};

	return list;
}

static uint32_t
realistic_scope(SpanBatch *batch, unsigned service, unsigned pod)
{
	KeyValue     items[8];
	uint32_t     n = 0;
	char         buf[64];
	SpanResource resource = {0};
	SpanScope    scope = {0};

	snprintf(buf, sizeof(buf), "service-%u", service);
	set(batch, items, &n, "service.name", string_value(batch, buf));
	snprintf(buf, sizeof(buf), "service-%u-pod-%u", service, pod);
	set(batch, items, &n, "k8s.pod.name", string_value(batch, buf));
	set(batch, items, &n, "telemetry.sdk.language", string_value(batch, service % 2 ? "go" : "nodejs"));
	set(batch, items, &n, "process.pid", int_value(1000 + service * 10 + pod));
	resource.tenant = span_batch_string(batch, span_text("single-tenant", 13));
	resource.attributes = list_of(batch, items, n);
	scope.resource = span_batch_resource(batch, &resource);
	scope.name = span_batch_string(batch, span_text("io.opentelemetry.rpc", 20));
	return span_batch_scope(batch, &scope);
}

void
spangen_realistic(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	static const char *const methods[] = {"GET", "POST", "PUT"};
	Random                   random = {seed};
	int64_t                  now = INT64_C(1700000000000000000);
	uint32_t                 left = 0;
	uint32_t                 begin = 0;
	TraceId                  trace = {{0}};

	for (uint32_t i = 0; i < n_spans; i++)
	{
		Span     span = {0};
		KeyValue items[12];
		uint32_t n = 0;
		char     buf[80];
		uint64_t id = random_next(&random);
		unsigned service = random_below(&random, 12);
		unsigned kind = random_below(&random, 3);

		if (left == 0)
		{
			left = 1 + random_below(&random, 40);
			begin = i;
			for (int w = 0; w < 2; w++)
			{
				uint64_t x = random_next(&random);

				memcpy(trace.bytes + 8 * w, &x, 8);
			}
			now += random_below(&random, 4000000);
		}
		left--;
		span.trace_id = trace;
		memcpy(span.span_id.bytes, &id, 8);
		if (i > begin)
			span.parent_span_id = batch->spans[begin + random_below(&random, i - begin)].span_id;
		span.start_time_unix_nano = now + (i - begin) * 1000000 + random_below(&random, 1000000);
		span.end_time_unix_nano = span.start_time_unix_nano + 1000 + random_below(&random, 1 << random_below(&random, 28));
		span.scope = realistic_scope(batch, service, random_below(&random, 3));
		snprintf(buf, sizeof(buf), "operation %u", service * 4 + kind);
		span.name = span_batch_string(batch, span_text(buf, (uint32_t) strlen(buf)));
		span.kind = 1 + kind;
		span.status_code = random_below(&random, 100) == 0 ? 2 : 0;
		if (span.status_code == 2)
			span.status_message = text(batch, "deadline exceeded", 17);
		span.flags = 257;
		if (kind == 0)
		{
			snprintf(buf, sizeof(buf), "/api/%u", service);
			set(batch, items, &n, "http.route", string_value(batch, buf));
			set(batch, items, &n, "http.request.method", string_value(batch, methods[random_below(&random, 3)]));
			set(batch, items, &n, "http.response.status_code", int_value(random_below(&random, 50) ? 200 : 500));
			snprintf(buf, sizeof(buf), "%08x-%04x-4000-8000-%012llx", (unsigned) random_next(&random),
			         (unsigned) random_below(&random, 65536), (unsigned long long) (random_next(&random) >> 16));
			set(batch, items, &n, "session.id", string_value(batch, buf));
		}
		else
		{
			set(batch, items, &n, "rpc.system", string_value(batch, "grpc"));
			snprintf(buf, sizeof(buf), "10.0.%u.%u", service, (unsigned) random_below(&random, 8));
			set(batch, items, &n, "network.peer.address", string_value(batch, buf));
			set(batch, items, &n, "network.peer.port", int_value(32768 + random_below(&random, 28000)));
		}
		if (random_below(&random, 20) == 0)
		{
			AnyValue v = {.type = ANY_DOUBLE};

			v.u.number = random_below(&random, 1000) / 8.0;
			snprintf(buf, sizeof(buf), "rare.%u", (unsigned) random_below(&random, 100));
			set(batch, items, &n, buf, v);
		}
		span.attributes = list_of(batch, items, n);
		if (random_below(&random, 10) == 0)
		{
			SpanEvent event = {0};
			KeyValue  e[1];
			uint32_t  en = 0;

			event.time_unix_nano = span.start_time_unix_nano + 500;
			event.name = text(batch, "exception", 9);
			set(batch, e, &en, "exception.message", string_value(batch, "timeout"));
			event.attributes = list_of(batch, e, en);
			span.events = must(arena_copy(span_batch_arena(batch), &event, sizeof(event)));
			span.n_events = 1;
		}
		assert(span_batch_add(batch, &span));
	}
}

static AnyValue
odd_value(SpanBatch *batch, Random *random, int depth)
{
	static const int64_t  ints[] = {0, 1, -1, INT64_MAX, INT64_MIN, 255, 256, -129, 65536, INT64_C(1) << 53};
	static const uint64_t doubles[] = {0, UINT64_C(0x8000000000000000), UINT64_C(0x7ff8000000000001),
	                                   UINT64_C(0xfff8dead00000000), UINT64_C(0x7ff0000000000000), UINT64_C(0x3ff0000000000000), 1};
	AnyValue              v = {0};
	char                  buf[300];
	uint32_t              n;

	v.type = random_below(random, depth > 3 ? ANY_ARRAY : ANY_BYTES + 1);
	switch ((AnyValueType) v.type)
	{
		case ANY_EMPTY:
			break;
		case ANY_STRING:
		case ANY_BYTES:
			n = random_below(random, 8) == 0 ? random_below(random, sizeof(buf)) : random_below(random, 4);
			for (uint32_t i = 0; i < n; i++)
				buf[i] = v.type == ANY_STRING ? 'a' + random_below(random, 3) : (char) random_next(random);
			v.u.data = text(batch, buf, n).data;
			v.len = n;
			break;
		case ANY_BOOL:
			v.u.boolean = random_below(random, 2);
			break;
		case ANY_INT:
			v.u.integer = random_below(random, 3) ? ints[random_below(random, 10)] : (int64_t) (random_next(random) >> random_below(random, 64));
			break;
		case ANY_DOUBLE:
		{
			uint64_t bits = random_below(random, 3) ? doubles[random_below(random, 7)] : random_next(random);

			memcpy(&v.u.number, &bits, 8);
		}
		break;
		case ANY_ARRAY:
		case ANY_KVLIST:
		{
			AnyValue                 elements[4];
			KeyValue                 members[4];
			static const char *const keys[] = {"", "a", "a", "$otlp"};

			memset(members, 0, sizeof(members));
			v.len = random_below(random, 5);
			for (uint32_t i = 0; i < v.len; i++)
			{
				elements[i] = odd_value(batch, random, depth + 1);
				members[i].key = text(batch, keys[i], strlen(keys[i]));
				members[i].value = elements[i];
			}
			if (v.type == ANY_ARRAY)
				v.u.elements = must(arena_copy(span_batch_arena(batch), elements, v.len * sizeof(AnyValue)));
			else
				v.u.members = must(arena_copy(span_batch_arena(batch), members, v.len * sizeof(KeyValue)));
		}
		break;
	}
	return v;
}

static AttributeList
odd_attributes(SpanBatch *batch, Random *random)
{
	KeyValue items[12];
	uint32_t n = 0;
	uint32_t want = random_below(random, 4) == 0 ? random_below(random, 12) : random_below(random, 4);

	while (n < want)
	{
		static const char *const keys[] = {"", "a", "b", "c", "service.name", "kl\xc3\xbc", "x y", "\"", "name"};
		char                     buf[32];

		if (random_below(random, 20) == 0)
		{
			snprintf(buf, sizeof(buf), "k%u", (unsigned) random_below(random, 3000));
			set(batch, items, &n, buf, odd_value(batch, random, 0));
		}
		else
			set(batch, items, &n, keys[random_below(random, 9)], odd_value(batch, random, 0));
	}
	return list_of(batch, items, n);
}

static int64_t
odd_time(Random *random)
{
	static const int64_t times[] = {0, 1, INT64_MAX, INT64_C(1700000000000000000), INT64_C(1700000000000000001)};

	if (random_below(random, 3) == 0)
		return (int64_t) (random_next(random) >> 1);
	return times[random_below(random, 5)] - (random_below(random, 2) ? 0 : 0);
}

static uint32_t
odd_scope(SpanBatch *batch, Random *random)
{
	SpanResource             resource = {0};
	SpanScope                scope = {0};
	static const char *const tenants[] = {"single-tenant", "", "other", "t3"};
	const char              *tenant = tenants[random_below(random, 4)];

	if (batch->n_scopes > 20 && random_below(random, 10) != 0)
		return random_below(random, batch->n_scopes);
	resource.tenant = span_batch_string(batch, span_text(tenant, (uint32_t) strlen(tenant)));
	resource.schema_url = span_batch_string(batch, span_text("https://x", random_below(random, 2) ? 9 : 0));
	resource.dropped_attributes_count = random_below(random, 2) ? 0 : UINT32_MAX;
	resource.attributes = odd_attributes(batch, random);
	resource.entity_refs = text(batch, "[{}]", random_below(random, 2) ? 4 : 0);
	scope.resource = span_batch_resource(batch, &resource);
	scope.name = span_batch_string(batch, span_text("scope", random_below(random, 6)));
	scope.version = span_batch_string(batch, span_text("1.2.3", random_below(random, 6)));
	scope.schema_url = span_batch_string(batch, span_text("https://y", random_below(random, 2) ? 9 : 0));
	scope.dropped_attributes_count = random_below(random, 3);
	scope.attributes = odd_attributes(batch, random);
	return span_batch_scope(batch, &scope);
}

static void
odd_children(SpanBatch *batch, Random *random, Span *span)
{
	SpanEvent events[5];
	SpanLink  links[5];

	memset(events, 0, sizeof(events));
	memset(links, 0, sizeof(links));
	span->n_events = random_below(random, 4) == 0 ? random_below(random, 5) : 0;
	for (uint32_t i = 0; i < span->n_events; i++)
	{
		events[i].time_unix_nano = odd_time(random);
		events[i].name = text(batch, "event name", random_below(random, 11));
		events[i].dropped_attributes_count = random_below(random, 4) == 0 ? UINT32_MAX : 0;
		events[i].attributes = odd_attributes(batch, random);
	}
	span->events = must(arena_copy(span_batch_arena(batch), events, span->n_events * sizeof(SpanEvent)));
	span->n_links = random_below(random, 4) == 0 ? random_below(random, 5) : 0;
	for (uint32_t i = 0; i < span->n_links; i++)
	{
		for (int b = 0; b < TRACE_ID_LEN; b++)
			links[i].trace_id.bytes[b] = random_below(random, 3) ? (uint8_t) random_next(random) : 0;
		if (random_below(random, 3) == 0)
			memset(&links[i].trace_id, 0, TRACE_ID_LEN);
		links[i].span_id = span->span_id;
		links[i].trace_state = text(batch, "k=v", random_below(random, 4));
		links[i].flags = random_below(random, 2) ? 0 : UINT32_MAX;
		links[i].dropped_attributes_count = random_below(random, 3);
		links[i].attributes = odd_attributes(batch, random);
	}
	span->links = must(arena_copy(span_batch_arena(batch), links, span->n_links * sizeof(SpanLink)));
}

void
spangen_adversarial(SpanBatch *batch, uint32_t n_spans, uint64_t seed)
{
	static const int32_t numbers[] = {0, 1, 2, 3, 4, 5, 17, -1, INT32_MAX, INT32_MIN};
	Random               random = {seed};
	uint32_t             n_traces = 1 + random_below(&random, n_spans / 4 + 1);

	for (uint32_t i = 0; i < n_spans; i++)
	{
		Span     span = {0};
		uint32_t trace = random_below(&random, n_traces);
		uint64_t id = random_below(&random, 3) ? random_next(&random) : random_below(&random, 10);

		memcpy(span.trace_id.bytes + 5, &trace, 4);
		memcpy(span.span_id.bytes, &id, 8);
		if (random_below(&random, 2) && i > 0)
		{
			const Span *other = &batch->spans[random_below(&random, i)];

			span.parent_span_id = other->span_id;
			if (random_below(&random, 2))
				span.trace_id = other->trace_id;
		}
		else if (random_below(&random, 3) == 0)
			span.parent_span_id = span.span_id;
		span.start_time_unix_nano = odd_time(&random);
		span.end_time_unix_nano = odd_time(&random);
		span.scope = odd_scope(batch, &random);
		span.name = span_batch_string(batch, span_text("name of it", random_below(&random, 11)));
		span.kind = numbers[random_below(&random, random_below(&random, 3) ? 6 : 10)];
		span.status_code = numbers[random_below(&random, random_below(&random, 3) ? 3 : 10)];
		span.flags = random_below(&random, 3) ? 1 : (uint32_t) random_next(&random);
		span.dropped_attributes_count = random_below(&random, 5) ? 0 : UINT32_MAX;
		span.dropped_events_count = random_below(&random, 5) ? 0 : 3;
		span.dropped_links_count = random_below(&random, 5) ? 0 : 300;
		span.status_message = text(batch, "status", random_below(&random, 4) ? 0 : random_below(&random, 7));
		span.trace_state = text(batch, "a=b,c=d", random_below(&random, 4) ? 0 : random_below(&random, 8));
		span.attributes = odd_attributes(batch, &random);
		odd_children(batch, &random, &span);
		assert(span_batch_add(batch, &span));
	}
}

#define SAME(condition, name) \
	do \
	{ \
		if (!(condition)) \
		{ \
			*what = name; \
			return false; \
		} \
	} while (0)

static bool
same_string(const SpanBatch *a, uint32_t x, const SpanBatch *b, uint32_t y)
{
	return span_text_equal(a->strings[x], b->strings[y]);
}

static bool
same_keys(const SpanBatch *b, AttributeList list)
{
	for (uint32_t i = 0; i < list.count; i++)
		if (list.items[i].key_id >= b->n_strings ||
		    !span_text_equal(b->strings[list.items[i].key_id], list.items[i].key))
			return false;
	return true;
}

static bool
children_equal(const SpanBatch *b, const Span *x, const Span *y, const char **what)
{
	SAME(x->n_events == y->n_events, "number of events");
	for (uint32_t i = 0; i < x->n_events; i++)
	{
		SAME(x->events[i].time_unix_nano == y->events[i].time_unix_nano, "event time");
		SAME(span_text_equal(x->events[i].name, y->events[i].name), "event name");
		SAME(x->events[i].dropped_attributes_count == y->events[i].dropped_attributes_count, "event dropped count");
		SAME(attribute_lists_equal(x->events[i].attributes, y->events[i].attributes), "event attributes");
		SAME(same_keys(b, y->events[i].attributes), "event key ids");
	}
	SAME(x->n_links == y->n_links, "number of links");
	for (uint32_t i = 0; i < x->n_links; i++)
	{
		SAME(memcmp(&x->links[i].trace_id, &y->links[i].trace_id, TRACE_ID_LEN) == 0, "link trace id");
		SAME(memcmp(&x->links[i].span_id, &y->links[i].span_id, SPAN_ID_LEN) == 0, "link span id");
		SAME(span_text_equal(x->links[i].trace_state, y->links[i].trace_state), "link trace state");
		SAME(x->links[i].flags == y->links[i].flags, "link flags");
		SAME(x->links[i].dropped_attributes_count == y->links[i].dropped_attributes_count, "link dropped count");
		SAME(attribute_lists_equal(x->links[i].attributes, y->links[i].attributes), "link attributes");
		SAME(same_keys(b, y->links[i].attributes), "link key ids");
	}
	return true;
}

bool
spans_equal(const SpanBatch *a, const Span *x, const SpanBatch *b, const Span *y, const char **what)
{
	const SpanScope    *s = span_scope(a, x);
	const SpanScope    *t = span_scope(b, y);
	const SpanResource *r = span_resource(a, x);
	const SpanResource *q = span_resource(b, y);

	SAME(memcmp(&x->trace_id, &y->trace_id, TRACE_ID_LEN) == 0, "trace id");
	SAME(memcmp(&x->span_id, &y->span_id, SPAN_ID_LEN) == 0, "span id");
	SAME(memcmp(&x->parent_span_id, &y->parent_span_id, SPAN_ID_LEN) == 0, "parent");
	SAME(x->start_time_unix_nano == y->start_time_unix_nano, "start");
	SAME(x->end_time_unix_nano == y->end_time_unix_nano, "end");
	SAME(same_string(a, x->name, b, y->name), "name");
	SAME(x->kind == y->kind, "kind");
	SAME(x->status_code == y->status_code, "status");
	SAME(x->flags == y->flags, "flags");
	SAME(x->dropped_attributes_count == y->dropped_attributes_count, "dropped attributes");
	SAME(x->dropped_events_count == y->dropped_events_count, "dropped events");
	SAME(x->dropped_links_count == y->dropped_links_count, "dropped links");
	SAME(span_text_equal(x->status_message, y->status_message), "status message");
	SAME(span_text_equal(x->trace_state, y->trace_state), "trace state");
	SAME(attribute_lists_equal(x->attributes, y->attributes), "attributes");
	SAME(same_keys(b, y->attributes), "attribute key ids");
	SAME(same_string(a, s->name, b, t->name), "scope name");
	SAME(same_string(a, s->version, b, t->version), "scope version");
	SAME(same_string(a, s->schema_url, b, t->schema_url), "scope schema url");
	SAME(s->dropped_attributes_count == t->dropped_attributes_count, "scope dropped attributes");
	SAME(attribute_lists_equal(s->attributes, t->attributes), "scope attributes");
	SAME(same_keys(b, t->attributes), "scope key ids");
	SAME(same_string(a, r->tenant, b, q->tenant), "tenant");
	SAME(same_string(a, r->schema_url, b, q->schema_url), "resource schema url");
	SAME(r->dropped_attributes_count == q->dropped_attributes_count, "resource dropped attributes");
	SAME(span_text_equal(r->entity_refs, q->entity_refs), "entity refs");
	SAME(attribute_lists_equal(r->attributes, q->attributes), "resource attributes");
	SAME(same_keys(b, q->attributes), "resource key ids");
	return children_equal(b, x, y, what);
}
