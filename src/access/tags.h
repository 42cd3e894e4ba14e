/*-------------------------------------------------------------------------
 *
 * tags.h
 *	  Attribute keys and their distinct values, from footers where they can
 *	  tell and from the spans where not.
 *
 * A segment's footer answers for the segment when it lies wholly inside the
 * time range and holds no other tenants' spans; else its spans are decoded.
 * With row security everything goes through SQL.  Raises 42501 without the
 * SELECT privilege.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_TAGS_H
#define TEMPO_ACCESS_TAGS_H

#include "postgres.h"

#include "segment/reader.h"
#include "utils/rel.h"

/* Spans that start in start_nano <= start < end_nano. */
typedef struct TempoTagRange
{
	int64           start_nano; /* PG_INT64_MIN = no bound */
	int64           end_nano;   /* exclusive; PG_INT64_MAX = no bound */
	const SpanText *tenants;
	uint32          n_tenants; /* 0 = any */
} TempoTagRange;

/*
 * The callbacks are called once for every distinct key or value, in no order,
 * with memory that is valid during the call; they return false to stop.
 */
typedef bool (*TempoTagKeyCallback)(void *arg, AttributeScope scope, SpanText key);
typedef bool (*TempoTagValueCallback)(void *arg, const AnyValue *value);

/*
 * tempo_tag_keys: the attribute keys of every scope in "scopes", a set of
 * bits (1 << AttributeScope).
 */
extern void tempo_tag_keys(Relation rel, const TempoTagRange *range, uint32 scopes,
                           TempoTagKeyCallback callback, void *arg);

/*
 * tempo_tag_values: the distinct values under a key.  Arrays are reported
 * element by element; maps, bytes and empty values are left out.
 */
extern void tempo_tag_values(Relation rel, const TempoTagRange *range, AttributeScope scope,
                             SpanText key, TempoTagValueCallback callback, void *arg);

/* tempo_tag_names: the distinct span names, as string values */
extern void tempo_tag_names(Relation rel, const TempoTagRange *range,
                            TempoTagValueCallback callback, void *arg);

#endif /* TEMPO_ACCESS_TAGS_H */
