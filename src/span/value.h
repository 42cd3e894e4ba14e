/*-------------------------------------------------------------------------
 *
 * value.h
 *	  Attribute values with their OpenTelemetry type (AnyValue, KeyValue).
 *
 * Values are plain structs that point into memory owned by somebody else:
 * the request body they were decoded from, an arena or a segment buffer.
 * Text is UTF-8 without NUL once it is in a SpanBatch; the decoders clean it
 * with span_text_clean().
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_VALUE_H
#define TEMPO_SPAN_VALUE_H

#include "span/allocator.h"

/* Arrays and maps nested deeper than this are refused (ingest reference 3.2). */
#define ANY_VALUE_MAX_DEPTH 64

/* The numbers are stored in segments: never renumber. */
typedef enum AnyValueType
{
	ANY_EMPTY = 0, /* an AnyValue without a member */
	ANY_STRING = 1,
	ANY_BOOL = 2,
	ANY_INT = 3,
	ANY_DOUBLE = 4,
	ANY_ARRAY = 5,
	ANY_KVLIST = 6,
	ANY_BYTES = 7
} AnyValueType;

typedef struct SpanText
{
	const char *data; /* not NUL-terminated; NULL only if len is 0 */
	uint32_t    len;
} SpanText;

typedef struct KeyValue KeyValue;

typedef struct AnyValue
{
	uint8_t  type; /* AnyValueType */
	uint32_t len;  /* bytes of STRING and BYTES, elements of ARRAY and KVLIST */
	union
	{
		const char            *data; /* STRING, BYTES */
		bool                   boolean;
		int64_t                integer;
		double                 number;
		const struct AnyValue *elements; /* ARRAY */
		const KeyValue        *members;  /* KVLIST */
	} u;
} AnyValue;

struct KeyValue
{
	SpanText key;
	uint32_t key_id; /* interned in the batch; only at the top level of an attribute list */
	AnyValue value;
};

/* An ordered attribute list; duplicate keys are kept, lookups take the first. */
typedef struct AttributeList
{
	const KeyValue *items;
	uint32_t        count;
} AttributeList;

static inline SpanText
span_text(const char *data, uint32_t len)
{
	SpanText t = {data, len};

	return t;
}

extern bool span_text_equal(SpanText a, SpanText b);

/* NUL-terminated literal against text */
extern bool span_text_is(SpanText a, const char *literal);

/*
 * span_text_clean: what PostgreSQL's text can hold (ingest reference 3.4).
 * Each maximal invalid UTF-8 subsequence, and each NUL, becomes U+FFFD.
 * Returns the input itself when it is clean already, else a copy in "arena";
 * *changed (may be NULL) is incremented by one then.  Result data is NULL
 * with len > 0 only when the arena has no memory.
 */
extern SpanText span_text_clean(SpanText in, Arena *arena, uint64_t *changed);

/*
 * any_value_equal: same type and same value, deep; doubles by their bits, so
 * NaN equals NaN and 0.0 differs from -0.0.
 */
extern bool any_value_equal(const AnyValue *a, const AnyValue *b);

/* attribute_lists_equal: same keys and values in the same order */
extern bool attribute_lists_equal(AttributeList a, AttributeList b);

/* attribute_find: the first value under "key", or NULL */
extern const AnyValue *attribute_find(AttributeList list, SpanText key);

/* any_value_hash, attribute_list_hash, span_bytes_hash: not stable across versions; never stored */
extern uint64_t span_bytes_hash(const void *data, size_t len, uint64_t seed);
extern uint64_t any_value_hash(const AnyValue *value, uint64_t seed);
extern uint64_t attribute_list_hash(AttributeList list, uint64_t seed);

/*
 * any_value_copy, attribute_list_copy: deep copies into "arena", for values
 * that must outlive the buffer they were decoded from.  False = no memory.
 */
extern bool any_value_copy(Arena *arena, const AnyValue *in, AnyValue *out);
extern bool attribute_list_copy(Arena *arena, AttributeList in, AttributeList *out);

#endif /* TEMPO_SPAN_VALUE_H */
