/*-------------------------------------------------------------------------
 *
 * compact_step.h
 *	  What the files of compaction share: one look at a table, and what is
 *	  merged in it.
 *
 * compact_choose.c chooses the sources, compact_merge.c merges them, compact.c
 * is what workers and SQL call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPACT_STEP_H
#define TEMPO_ACCESS_COMPACT_STEP_H

#include "access/compact.h"
#include "access/compact_stat.h"
#include "access/retention.h"

/* What one merge reads. */
typedef struct Sources
{
	TempoSegment    **segments;
	uint32            count;
	uint64            rows;
	uint64            raw;
	TimestampTz       newest_at;
	TempoCompactPhase phase;
} Sources;

/* One look at a table. */
typedef struct Step
{
	Relation                   rel;
	const TempoCompactOptions *options;
	TempoCompactResult        *result;
	TempoCompactStat          *stat;
	TempoRetention            *retention; /* NULL = everything is kept */
	uint32                     max_spans;
	TempoSegment              *segments; /* that may be merged */
	uint32                     count;
} Step;

/* tempo_compaction_memory: bytes that one merge may take */
extern Size tempo_compaction_memory(void);

/* tempo_compact_reading: the segment that is being read, for who catches an error; NULL = none */
extern void tempo_compact_reading(TempoCompactResult *result, const TempoSegment *segment);

/* compact_choose.c: false = nothing is worth it */
extern bool tempo_compact_choose(Step *step, Sources *sources);

/*
 * tempo_compact_tenant: the hash of the only tenant of a segment; 0 if it has
 * several
 */
extern uint64 tempo_compact_tenant(Step *step, const TempoSegment *segment);

/* compact_merge.c: false = the sources could not be claimed */
extern bool tempo_compact_merge(Step *step, TempoDirectory *directory, const Sources *sources);

#endif /* TEMPO_ACCESS_COMPACT_STEP_H */
