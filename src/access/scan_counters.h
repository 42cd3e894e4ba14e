/*-------------------------------------------------------------------------
 *
 * scan_counters.h
 *	  What custom scans count, for EXPLAIN (ANALYZE), and how the processes of
 *	  a parallel scan add it up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_SCAN_COUNTERS_H
#define TEMPO_ACCESS_SCAN_COUNTERS_H

#include "postgres.h"

#include "port/atomics.h"
#include "segment/reader.h"

struct ExplainState;

typedef struct ScanCounters
{
	uint64 segments_read;
	uint64 segments_zone;   /* left out by zone map or tenant filter */
	uint64 segments_traces; /* ... since the trace index has none of the traces */
	uint64 segments_values; /* ... by names, value sets and Bloom filters */
	uint64 blocks_zone;
	uint64 blocks_filtered; /* no row was left */
	uint64 spans_examined;
	uint64 spans_filtered;
	uint64 spans_undecided; /* decoded for the conditions */
	uint64 spans_decoded;   /* for rows */
	uint64 columns;         /* unpacked, of a block each */
	uint64 columns_kept;    /* that did not need to be */
	uint64 values_asked;
	uint64 classes; /* custom aggregate: that expressions were evaluated for */
	uint64 groups;  /* ... given to the node above */
} ScanCounters;

#define N_SCAN_COUNTERS (sizeof(ScanCounters) / sizeof(uint64))

/* In shared memory. */
typedef struct SharedScanCounters
{
	pg_atomic_uint64 counters[N_SCAN_COUNTERS];
} SharedScanCounters;

extern void tempo_scan_share_counters(SharedScanCounters *shared);
extern void tempo_scan_add_counters(SharedScanCounters *shared, const ScanCounters *counters);
extern void tempo_scan_get_counters(SharedScanCounters *shared, ScanCounters *counters);
extern void tempo_scan_sum_counters(ScanCounters *counters, const ScanCounters *more);

/* tempo_scan_count_segment: what a reader has done since it was looked at before, which is now */
extern void tempo_scan_count_segment(ScanCounters *counters, SegmentCounters *before, const SegmentCounters *now);
extern void tempo_scan_explain_counters(const ScanCounters *counters, struct ExplainState *es);

#endif /* TEMPO_ACCESS_SCAN_COUNTERS_H */
