/*-------------------------------------------------------------------------
 *
 * orphans.h
 *	  Directory rows of tables that are gone, and bitmaps of segments that are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_ORPHANS_H
#define TEMPO_ACCESS_ORPHANS_H

#include "postgres.h"

/*
 * tempo_remove_orphans: deletes the committed rows of storage ids that no
 * table of this database has, in the current transaction; returns how many of
 * the directory, and in *masks how many bitmaps of segments that are not in
 * the directory were deleted.  Does nothing if any table is locked: it may be about to
 * change its id.
 */
extern uint32 tempo_remove_orphans(uint32 *masks);

#endif /* TEMPO_ACCESS_ORPHANS_H */
