/*-------------------------------------------------------------------------
 *
 * compare_traces.h
 *	  What is kept of the spans of whole traces for compare(): to know those
 *	  that come twice, and to count roots and children in the end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_COMPARE_TRACES_H
#define TEMPO_ACCESS_COMPARE_TRACES_H

#include "postgres.h"

#include "access/compare_counts.h"
#include "span/batch.h"
#include "utils/hsearch.h"

/* What is kept of a span. */
typedef struct TreeSpan
{
	uint64 id;
	uint64 parent_id;
	int64  start;
	uint32 slot; /* TALLY_NONE: not counted */
	uint32 root; /* number of its name and service, of spans that may be roots */
	int32  kind; /* as OTLP has it */
	bool   has_parent;
} TreeSpan;

#define NOT_A_ROOT PG_UINT32_MAX

#define FEW_CHILDREN 64

/* Spans of a trace that were met together. */
typedef struct TraceRun
{
	uint64 first;
	uint64 n;
	uint64 next; /* of the trace; PG_UINT64_MAX: none */
} TraceRun;

typedef struct CompareTraces
{
	ValueCounts      *counts;
	CountedAttribute *root_name;
	CountedAttribute *root_service;
	CountedAttribute *child_count;
	TreeSpan         *spans;
	uint64            n_spans;
	uint64            spans_size;
	TraceRun         *runs;
	uint64            n_runs;
	uint64            runs_size;
	CountedValue    **roots; /* name and service of each */
	uint32            n_roots;
	uint32            roots_size;
	HTAB             *traces;
	HTAB             *repeated; /* spans of traces that were met more than once */
	uint32           *ids;      /* places of spans by id */
	uint64            ids_size;
	CountedValue     *few[FEW_CHILDREN]; /* values of child_count; NULL: not met */
} CompareTraces;

extern CompareTraces *tempo_traces_create(ValueCounts *counts);

/*
 * tempo_traces_add: spans of a batch, those of a trace side by side.  slots[i] is
 * set to TALLY_NONE for a span that was here before.
 */
extern void tempo_traces_add(CompareTraces *traces, const SpanBatch *batch, const uint32 *spans,
                             uint32 n, uint32 *slots);

/* tempo_traces_count: counts roots and children, when all spans are there */
extern void tempo_traces_count(CompareTraces *traces);

#endif /* TEMPO_ACCESS_COMPARE_TRACES_H */
