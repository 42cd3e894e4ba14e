/*-------------------------------------------------------------------------
 *
 * check.h
 *	  Does a segment say that it has what its rows have?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_CHECK_H
#define TEMPO_SEGMENT_CHECK_H

#include "segment/reader.h"

/* What has been asked already, so that repeated values cost little; zeroed before the first use with a segment. */
#define SEGMENT_ASKED 65536
typedef struct SegmentAsked
{
	uint64_t hashes[SEGMENT_ASKED];
} SegmentAsked;

/*
 * segment_check_values: looks up every attribute of the decoded spans, of their
 * events, links, scopes and resources, and the names of events, as a search
 * for them would (value sets, Bloom filters): what is not found would be
 * missing from filtered scans without a word.  False if something is, with
 * what it is in *error.
 */
extern bool segment_check_values(SegmentReader *reader, const SpanBatch *batch, SegmentAsked *asked, SpanError *error);

#endif /* TEMPO_SEGMENT_CHECK_H */
