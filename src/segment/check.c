/*-------------------------------------------------------------------------
 *
 * check.c
 *	  Does a segment say that it has what its rows have?
 *
 *-------------------------------------------------------------------------
 */
#include "segment/check.h"
#include "segment/bloom.h"

typedef struct Check
{
	SegmentReader *reader;
	SegmentAsked  *asked;
	SpanError     *error;
} Check;

static const char *const scope_names[] = {"span", "resource", "instrumentation scope", "event", "link"};

/* Has it been asked before?  Remembers that it is now, in the place of something else. */
static bool
was_asked(Check *check, AttributeScope scope, SpanText key, const AnyValue *value)
{
	uint64_t  hash = 0;
	uint64_t *place;

	if (value != NULL && !bloom_value_hash(value, &hash))
		hash = 1;
	hash = bloom_key_hash(key, hash + (uint64_t) scope + (value == NULL ? 0 : 8 * (1 + (uint64_t) value->type)));
	hash |= hash == 0;
	place = &check->asked->hashes[hash % SEGMENT_ASKED];
	if (*place == hash)
		return true;
	*place = hash;
	return false;
}

static bool
check_attributes(Check *check, AttributeScope scope, AttributeList list)
{
	for (uint32_t i = 0; i < list.count; i++)
	{
		const KeyValue *item = &list.items[i];
		bool            scalar = item->value.type != ANY_EMPTY && item->value.type != ANY_ARRAY && item->value.type != ANY_KVLIST;
		/* searches for what is in an array or a map ask for the key */
		const AnyValue *value = scalar ? &item->value : NULL;

		if (!was_asked(check, scope, item->key, value) &&
		    !segment_may_contain(check->reader, scope, item->key, value))
			return span_error(check->error, SPAN_ERROR_INVALID,
			                  "a search would not find a value of the %s attribute \"%.*s\"",
			                  scope_names[scope], (int) (item->key.len < 100 ? item->key.len : 100), item->key.data);
	}
	return true;
}

static bool
check_span(Check *check, const Span *span)
{
	if (!check_attributes(check, ATTRIBUTE_SPAN, span->attributes))
		return false;
	for (uint32_t i = 0; i < span->n_events; i++)
	{
		SpanText name = span->events[i].name;

		if (!segment_may_have_event(check->reader, name))
			return span_error(check->error, SPAN_ERROR_INVALID, "a search would not find an event \"%.*s\"",
			                  (int) (name.len < 100 ? name.len : 100), name.data);
		if (!check_attributes(check, ATTRIBUTE_EVENT, span->events[i].attributes))
			return false;
	}
	for (uint32_t i = 0; i < span->n_links; i++)
		if (!check_attributes(check, ATTRIBUTE_LINK, span->links[i].attributes))
			return false;
	return true;
}

bool
segment_check_values(SegmentReader *reader, const SpanBatch *batch, SegmentAsked *asked, SpanError *error)
{
	Check check = {reader, asked, error};

	for (uint32_t i = 0; i < batch->n_resources; i++)
		if (!check_attributes(&check, ATTRIBUTE_RESOURCE, batch->resources[i].attributes))
			return false;
	for (uint32_t i = 0; i < batch->n_scopes; i++)
		if (!check_attributes(&check, ATTRIBUTE_SCOPE, batch->scopes[i].attributes))
			return false;
	for (uint32_t i = 0; i < batch->n_spans; i++)
		if (!check_span(&check, &batch->spans[i]))
			return false;
	return true;
}
