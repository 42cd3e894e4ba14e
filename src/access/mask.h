/*-------------------------------------------------------------------------
 *
 * mask.h
 *	  The bitmap of rows deleted from a segment as it is stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_MASK_H
#define TEMPO_ACCESS_MASK_H

#include "access/directory.h"

static inline uint32
tempo_mask_bytes(const TempoSegment *segment)
{
	return (segment->summary.rows + 7) / 8;
}

/* tempo_mask_form: a bitmap of tempo_mask_bytes() as a datum to be stored */
extern bytea *tempo_mask_form(const TempoSegment *segment, const uint8 *bitmap);

/*
 * tempo_mask_add: adds the rows of a stored bitmap to *bitmap, which is made
 * if need be (NULL = they are only checked).  False, with a message in
 * *problem, if it is damaged; *bitmap is as it was then.
 */
extern bool tempo_mask_add(const TempoSegment *segment, Datum stored, bool isnull, uint8 **bitmap,
                           const char **problem);

#endif /* TEMPO_ACCESS_MASK_H */
