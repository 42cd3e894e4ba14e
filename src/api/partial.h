/*-------------------------------------------------------------------------
 *
 * partial.h
 *	  Parts of a trace: what fits, what matches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_PARTIAL_H
#define TEMPO_API_PARTIAL_H

#include "postgres.h"

#include "span/batch.h"

/*
 * trace_size: the bytes of its spans, resources and scopes in protobuf, give
 * or take a few for each
 */
extern Size trace_size(const SpanBatch *batch);

/* trace_fit: drops the last spans by start time until the rest has at most "limit" bytes */
extern void trace_fit(SpanBatch *batch, Size limit);

/* What is kept around the spans that match; -1 = without end */
typedef struct TraceSurroundings
{
	int64 descendants; /* levels below */
	int64 ancestors;   /* levels above */
} TraceSurroundings;

/* trace_keep: drops the spans that are neither among "ids" nor around them */
extern void trace_keep(SpanBatch *batch, const SpanId *ids, uint64 n, const TraceSurroundings *around);

#endif /* TEMPO_API_PARTIAL_H */
