/*-------------------------------------------------------------------------
 *
 * move.h
 *	  Which segment moves to the front of the file, so that its end is free.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_MOVE_H
#define TEMPO_ACCESS_MOVE_H

#include "access/directory.h"
#include "datatype/timestamp.h"
#include "storage/block.h"

/*
 * How many blocks a table has lately needed, so that what will be needed
 * again soon is not given back: from call to call, zeroed at first.
 */
typedef struct TempoSpace
{
	uint64      storage_id;
	TimestampTz since;  /* when the present period began */
	BlockNumber peak;   /* in this period */
	BlockNumber before; /* in the one before */
	BlockNumber length; /* of the file, at the last call */
	BlockNumber moved;  /* since the last VACUUM, which sets it to 0 */
} TempoSpace;

/*
 * tempo_move_choose: the segment to be moved, or NULL.  With "space" only if
 * the file is longer than the table has lately needed.
 */
extern TempoSegment *tempo_move_choose(Relation rel, TempoSegment *segments, uint32 count, TempoSpace *space);

#endif /* TEMPO_ACCESS_MOVE_H */
