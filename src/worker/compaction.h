/*-------------------------------------------------------------------------
 *
 * compaction.h
 *	  The background worker that merges segments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_COMPACTION_H
#define TEMPO_WORKER_COMPACTION_H

extern void compaction_init(void);

#endif							/* TEMPO_WORKER_COMPACTION_H */
