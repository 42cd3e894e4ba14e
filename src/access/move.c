/*-------------------------------------------------------------------------
 *
 * move.c
 *	  Which segment moves to the front of the file, so that its end is free.
 *
 * Merged segments are written behind the small ones they come from, so a file
 * that grew quickly is left with much free space in front.  When nothing is
 * left to merge, segments move there, the last ones first, and VACUUM gives
 * the end of the file back.  Each move is to a lower block, if not at once
 * then by a second one, so this comes to an end.
 *
 * While spans come in, free space is not waste: the next segments go there.
 * What is given back must be what has not been needed for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/move.h"

#include "access/pages.h"
#include "storage/bufmgr.h"
#include "utils/timestamp.h"

/* Less than this is not worth moving a segment. */
#define MOVE_BLOCKS 64

/* Nor is less than this part of the file. */
#define MOVE_FRACTION 8

/*
 * What was last used so long ago, or twice as long, is not needed.  A table of
 * a few million spans that takes in more of them merges as often as that.
 */
#define PERIOD_MS 60000

static BlockNumber
count_free(const TempoMeta *meta)
{
	BlockNumber blocks = 0;

	for (uint32 i = 0; i < meta->header.n_free; i++)
		blocks += meta->free[i].count;
	return blocks;
}

/*
 * The most blocks that were needed lately, now included: those in use, and if
 * the file grew, as free space was in too small pieces, all of it.
 */
static BlockNumber
lately_needed(TempoSpace *space, uint64 storage_id, BlockNumber used, BlockNumber n_blocks)
{
	TimestampTz now = GetCurrentTimestamp();

	if (space->storage_id != storage_id || now < space->since)
	{
		memset(space, 0, sizeof(*space));
		space->storage_id = storage_id;
		space->since = now;
		space->length = n_blocks;
	}
	else if (TimestampDifferenceExceeds(space->since, now, PERIOD_MS))
	{
		space->since = now;
		space->before = space->peak;
		space->peak = 0;
	}
	space->peak = Max(space->peak, n_blocks > space->length ? n_blocks : used);
	space->length = n_blocks;
	return Max(space->peak, space->before);
}

/* Is there room in front of a segment? */
static bool
fits_lower(const TempoMeta *meta, const TempoSegment *segment)
{
	/* rows that are deleted are left out, and what is written again may need a little more */
	BlockNumber wanted = segment->n_blocks + (segment->n_deleted > 0 ? segment->n_blocks / 32 + 1 : 0);

	for (uint32 i = 0; i < meta->header.n_free; i++)
		if (meta->free[i].first < segment->first_block && meta->free[i].count >= wanted)
			return true;
	return false;
}

/*
 * Where no segment fits into any free extent: the one that stands behind the
 * largest goes to the end of the file and comes back into its own place and
 * the extent, so that what is free is behind it then.
 */
static TempoSegment *
choose_detour(const TempoMeta *meta, TempoSegment *segments, uint32 count)
{
	TempoSegment *chosen = NULL;
	BlockNumber   largest = MOVE_BLOCKS;

	for (uint32 i = 0; i < meta->header.n_free; i++)
		for (uint32 s = 0; s < count; s++)
			if (meta->free[i].count > largest && segments[s].summary.level > 0 &&
			    segments[s].first_block == meta->free[i].first + meta->free[i].count &&
			    meta->free[i].count >= segments[s].n_blocks / MOVE_FRACTION)
			{
				largest = meta->free[i].count;
				chosen = &segments[s];
			}
	return chosen;
}

TempoSegment *
tempo_move_choose(Relation rel, TempoSegment *segments, uint32 count, TempoSpace *space)
{
	TempoMeta    *meta = palloc(sizeof(TempoMeta));
	TempoSegment *chosen = NULL;
	BlockNumber   n_blocks = RelationGetNumberOfBlocks(rel);
	BlockNumber   excess;

	if (!tempo_meta_read_all(rel, meta))
		return NULL;
	excess = Min(count_free(meta), n_blocks);
	if (space != NULL)
	{
		/* what moved has two places until the next VACUUM */
		BlockNumber used = n_blocks - excess - Min(space->moved, n_blocks - excess);
		BlockNumber needed = lately_needed(space, meta->header.storage_id, used, n_blocks);

		excess = needed < n_blocks ? n_blocks - needed : 0;
	}
	if (excess < MOVE_BLOCKS || excess < n_blocks / MOVE_FRACTION)
		return NULL;

	/* the last one of those that fit somewhere: behind one that does not, free space comes together */
	for (uint32 i = 0; i < count; i++)
		if (segments[i].summary.level > 0 && (chosen == NULL || segments[i].first_block > chosen->first_block) &&
		    fits_lower(meta, &segments[i]))
			chosen = &segments[i];
	/* one at a time, since until VACUUM the file is longer for it */
	if (chosen == NULL && space != NULL && space->moved == 0 &&
	    (chosen = choose_detour(meta, segments, count)) != NULL)
		space->length += chosen->n_blocks; /* this growth tells of no need */
	pfree(meta);
	return chosen;
}
