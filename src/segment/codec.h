/*-------------------------------------------------------------------------
 *
 * codec.h
 *	  The byte form of attribute values and lists inside segments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_CODEC_H
#define TEMPO_SEGMENT_CODEC_H

#include "segment/bytes.h"
#include "span/value.h"

extern void value_put(Buffer *out, const AnyValue *value);
extern void attributes_put(Buffer *out, AttributeList list);

/*
 * value_get, attributes_get: the reverse.  Elements come from "arena"; text
 * points into the cursor's bytes unless "copy".  False on damage (then
 * cursor->failed is set) or no memory.
 */
extern bool value_get(Cursor *in, Arena *arena, bool copy, AnyValue *value);
extern bool attributes_get(Cursor *in, Arena *arena, bool copy, AttributeList *list);

#endif /* TEMPO_SEGMENT_CODEC_H */
