/*-------------------------------------------------------------------------
 *
 * foreign.h
 *	  What the decoders of Zipkin's and Jaeger's formats do alike: they
 *	  collect tags, take out those that mean something to OpenTelemetry, and
 *	  make attributes of the rest.
 *
 * Tags are kept as sent, without cleaning, until they become attributes.
 * Text must live as long as the batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_FOREIGN_H
#define TEMPO_INGEST_FOREIGN_H

#include "ingest/context.h"

enum
{
	KIND_UNSPECIFIED,
	KIND_INTERNAL,
	KIND_SERVER,
	KIND_CLIENT,
	KIND_PRODUCER,
	KIND_CONSUMER
};

enum
{
	STATUS_UNSET,
	STATUS_OK,
	STATUS_ERROR
};

typedef struct Tag
{
	SpanText key;
	AnyValue value; /* no KVLIST; an ARRAY has clean elements */
	bool     taken; /* does not become an attribute */
} Tag;

typedef struct TagList
{
	Tag     *items;
	uint32_t count;
	uint32_t size;
} TagList;

extern AnyValue any_text(SpanText text);
extern AnyValue any_bool(bool value);
extern AnyValue any_int(int64_t value);
extern AnyValue any_double(double value);
extern AnyValue any_bytes(SpanText bytes);

/* text_literal: a NUL-terminated string */
extern SpanText text_literal(const char *literal);

/* text_is_nocase: equal but for the case of ASCII letters */
extern bool text_is_nocase(SpanText text, const char *literal);

extern bool tags_add(DecodeContext *context, TagList *tags, SpanText key, AnyValue value);

/* tags_find: the first tag with this key that has not been taken; NULL = none */
extern Tag *tags_find(const TagList *tags, const char *key);

/* tags_take_text: takes a tag that is a string; false = there is none */
extern bool tags_take_text(TagList *tags, const char *key, SpanText *text);

/* tag_integer: an integer, or a string of one */
extern bool tag_integer(const Tag *tag, int64_t *value);

/* tags_attributes: those that have not been taken, cleaned and cut */
extern bool tags_attributes(DecodeContext *context, const TagList *tags, AttributeList *out);

/* foreign_scope: the index of the scope of a resource with these attributes; SPAN_BATCH_NONE = no memory */
extern uint32_t foreign_scope(DecodeContext *context, const TagList *resource, SpanText name, SpanText version);

/* foreign_kind: the number of "server" and so on, in any case */
extern int32_t foreign_kind(SpanText name);

/* foreign_status: the number of "OK", "STATUS_CODE_ERROR" and so on, in any case; -1 = none of them */
extern int32_t foreign_status(SpanText name);

/* nanoseconds of microseconds; beyond 64 bits is the largest number */
extern uint64_t nanoseconds(uint64_t microseconds);
extern uint64_t later(uint64_t time, uint64_t duration);

#endif /* TEMPO_INGEST_FOREIGN_H */
