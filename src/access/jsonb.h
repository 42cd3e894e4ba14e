/*-------------------------------------------------------------------------
 *
 * jsonb.h
 *	  The jsonb form of attributes, events and links (architecture, section 6).
 *
 * int is an integer without point or exponent; double always has a point or
 * an exponent; bytes, NaN, the infinities, an empty value, and a kvlist that
 * could be mistaken for such a wrapper are {"$otlp": <OTLP JSON AnyValue>}.
 * Converting to jsonb and back gives an equal value but for the order of
 * object keys and all but the first of duplicate keys.
 *
 * Events are an array of {"time_unix_nano": int, "name": text, "attributes":
 * object, "dropped_attributes_count": int if not 0}; links an array of
 * {"trace_id": hex, "span_id": hex, "trace_state": text if not empty,
 * "flags": int if not 0, "attributes": object, "dropped_attributes_count":
 * int if not 0}.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_JSONB_H
#define TEMPO_ACCESS_JSONB_H

#include "postgres.h"

#include "span/batch.h"
#include "utils/jsonb.h"

/* To jsonb: palloc'd in the current memory context. */
extern Jsonb *tempo_value_to_jsonb(const AnyValue *value);
extern Jsonb *tempo_attributes_to_jsonb(AttributeList list);
extern Jsonb *tempo_events_to_jsonb(const SpanEvent *events, uint32 n_events);
extern Jsonb *tempo_links_to_jsonb(const SpanLink *links, uint32 n_links);

/*
 * From jsonb: values are allocated in the batch's arena and copied, keys are
 * interned.  Invalid input (an attribute set that is no object, a broken
 * wrapper, nesting beyond ANY_VALUE_MAX_DEPTH, an unknown member) raises 22023
 * naming "column".  tempo_attributes_from_jsonb() without a batch palloc's the
 * list in the current memory context; its values point into the jsonb and its
 * keys are not interned, as resources and scopes to be interned need it.
 */
extern void          tempo_value_from_jsonb(const JsonbValue *in, SpanBatch *batch, const char *column, AnyValue *out);
extern AttributeList tempo_attributes_from_jsonb(Jsonb *in, SpanBatch *batch, const char *column);
extern void          tempo_events_from_jsonb(Jsonb *in, SpanBatch *batch, const SpanEvent **events, uint32 *n_events);
extern void          tempo_links_from_jsonb(Jsonb *in, SpanBatch *batch, const SpanLink **links, uint32 *n_links);

#endif /* TEMPO_ACCESS_JSONB_H */
