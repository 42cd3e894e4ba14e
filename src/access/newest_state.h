/*-------------------------------------------------------------------------
 *
 * newest_state.h
 *	  What the two halves of the scan of the newest traces share: newest_search.c
 *	  finds candidates, newest_scan.c locates and returns them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_NEWEST_STATE_H
#define TEMPO_ACCESS_NEWEST_STATE_H

#include "postgres.h"

#include "access/newest_plan.h"
#include "access/newest_slices.h"
#include "access/row.h"
#include "lib/pairingheap.h"
#include "nodes/execnodes.h"
#include "segment/vector.h"
#include "utils/hsearch.h"

/* Rows decoded at once at most, looking for spans and returning rows. */
#define MAX_RUN 4096
#define MAX_ROWS 16384

#define VERDICTS vector_size(MAX_RUN)

/* A batch that has taken more is reset before it is filled again. */
#define BATCH_BYTES (8 * 1024 * 1024)

/* Candidates located, and traces returned, at once: at first, and when it goes on and on. */
#define FIRST_AT_ONCE 24
#define MOST_AT_ONCE 1024

/* A part of a trace: rows of a segment, or of the pending batch of that number. */
typedef struct TracePiece
{
	bool   pending;
	uint32 source;
	uint32 first;
	uint32 count;
} TracePiece;

typedef enum CandidateState
{
	CANDIDATE_PARTIAL, /* does not meet all conditions yet */
	CANDIDATE_BOUNDED, /* "start" is an upper bound */
	CANDIDATE_LOCATED, /* "start" is the trace's */
	CANDIDATE_DONE     /* not wanted any more */
} CandidateState;

typedef struct Candidate
{
	TraceId          id; /* must be first */
	int64            start;
	uint32           met;       /* conditions */
	uint8            state;     /* CandidateState */
	bool             unrelated; /* its first piece alone has no spans related as is asked */
	int              n_pieces;
	TracePiece      *pieces;
	pairingheap_node node;
} Candidate;

typedef struct NewestCounters
{
	SliceCounters slices;
	uint64        segments_read;
	uint64        spans_searched;
	uint64        traces_located;
	uint64        traces_unrelated;
	uint64        traces_returned;
	uint64        spans_decoded;
} NewestCounters;

typedef struct NewestScanState
{
	CustomScanState   css; /* must be first */
	TempoColumnMap   *map;
	ScanTarget        target;
	List             *conditions;
	Node             *need;   /* tree, see newest_plan.h */
	ScanFilter       *match;  /* what spans in slices must meet */
	ScanFilter       *pushed; /* what every row must meet */
	ScanFilter      **each;   /* the conditions one by one; NULL if "match" tells */
	int               n_conditions;
	ExprState        *newest_state; /* of the operand of min(start) <= operand */
	SegmentProjection match_projection;
	SegmentProjection start_projection;
	SegmentProjection row_projection;
	SegmentProjection kinship_projection;
	List             *relations;    /* see newest_plan.h */
	List             *odd;          /* conditions, or parts of them, that are asked of rows */
	ExprState       **each_odd;     /* of each condition; NULL if there is none */
	TempoRowReader   *match_reader; /* for rows that are asked while searching */
	TempoRowReader   *start_reader; /* the same for conditions on every row alone */
	TempoRowReader   *reader;

	/* where the scan is */
	bool          started;
	bool          exhausted;
	int64         bound; /* no trace that is not known starts later */
	int64         newest_wanted;
	MemoryContext context;      /* of the following, until the next rescan */
	MemoryContext open_context; /* of open segments, briefly */
	TempoSegment *segments;
	uint32        n_segments;
	List         *pendings;
	NewestSlices *slices;
	HTAB         *candidates;
	pairingheap  *heap;
	Candidate    *last; /* whose span was found last */

	/* the traces being returned */
	List  *wave;   /* of Candidate */
	List  *pieces; /* of TracePiece, in order */
	int    next_piece;
	uint32 next_row; /* in the next piece */
	int    at_once;  /* traces */

	/* decoded rows */
	SpanAllocator    allocator;
	SpanBatch       *match_batch;
	SpanBatch       *start_batch;
	SpanBatch       *row_batch;
	uint32          *row_of;
	int              n_verdicts; /* conditions decided before rows are decoded; 0 = after that */
	uint8           *verdicts;   /* VERDICTS for each of them: of the rows of a run */
	const SpanBatch *rows;       /* where selected rows are */
	uint32          *selected;   /* spans in "rows", in the order in which they are returned */
	uint32           n_selected;
	uint32           selected_size;
	uint32           next_selected;
	MemoryContext    row_context;
	NewestCounters   counters;
} NewestScanState;

/* newest_search.c */

extern int  tempo_newest_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg);
extern void tempo_newest_empty(SpanBatch *batch);

/* Does the row of a span pass?  Without a condition it does. */
extern bool tempo_newest_row_passes(NewestScanState *state, TempoRowReader *reader,
                                    const Span *span, ExprState *qual);

/* Finds candidates in a batch in memory, or in the next slice. */
extern void tempo_newest_search_pending(NewestScanState *state, SpanBatch *batch);
extern void tempo_newest_search_slice(NewestScanState *state);

/* newest_kinship.c: are no spans of the trace in these rows related as is asked? */
extern bool tempo_newest_unrelated(NewestScanState *state, TempoOpenSegment *open,
                                   const TempoSegment *segment, uint32 first, uint32 count);

#endif /* TEMPO_ACCESS_NEWEST_STATE_H */
