/*-------------------------------------------------------------------------
 *
 * compaction.h
 *	  The background worker that looks after stored spans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_COMPACTION_H
#define TEMPO_WORKER_COMPACTION_H

#include "postgres.h"

/*
 * The number of segments that wait to be merged is bounded by slowing down
 * the writers of receivers.  compaction_stored: a writer has committed a
 * segment.  compaction_commit_interval: milliseconds that it is to leave
 * between commits, at least "normal".  compaction_overloaded: it is to store
 * nothing at the moment.
 */
extern void compaction_stored(Oid relid);
extern int  compaction_commit_interval(int normal);
extern bool compaction_overloaded(void);

extern void compaction_init(void);

#endif /* TEMPO_WORKER_COMPACTION_H */
