/*-------------------------------------------------------------------------
 *
 * scan_counters.c
 *	  What custom scans count, for EXPLAIN (ANALYZE).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/scan_counters.h"

#include TEMPO_EXPLAIN_HEADER
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif

void
tempo_scan_share_counters(SharedScanCounters *shared)
{
	for (size_t i = 0; i < N_SCAN_COUNTERS; i++)
		pg_atomic_init_u64(&shared->counters[i], 0);
}

void
tempo_scan_add_counters(SharedScanCounters *shared, const ScanCounters *counters)
{
	for (size_t i = 0; i < N_SCAN_COUNTERS; i++)
		pg_atomic_fetch_add_u64(&shared->counters[i], (int64) ((const uint64 *) counters)[i]);
}

void
tempo_scan_get_counters(SharedScanCounters *shared, ScanCounters *counters)
{
	for (size_t i = 0; i < N_SCAN_COUNTERS; i++)
		((uint64 *) counters)[i] = pg_atomic_read_u64(&shared->counters[i]);
}

void
tempo_scan_sum_counters(ScanCounters *counters, const ScanCounters *more)
{
	for (size_t i = 0; i < N_SCAN_COUNTERS; i++)
		((uint64 *) counters)[i] += ((const uint64 *) more)[i];
}

void
tempo_scan_count_segment(ScanCounters *counters, SegmentCounters *before, const SegmentCounters *now)
{
	counters->columns += now->columns - before->columns;
	counters->columns_kept += now->columns_kept - before->columns_kept;
	counters->values_asked += now->values_asked - before->values_asked;
	*before = *now;
}

void
tempo_scan_explain_counters(const ScanCounters *counters, ExplainState *es)
{
	const struct
	{
		const char *name;
		uint64      value;
		bool        always;
	} lines[] = {
		{"Segments Read", counters->segments_read, true},
		{"Segments Pruned by Zone Map", counters->segments_zone, false},
		{"Segments Pruned by Trace Id", counters->segments_traces, false},
		{"Segments Pruned by Values", counters->segments_values, false},
		{"Blocks Pruned by Zone Map", counters->blocks_zone, false},
		{"Blocks Pruned by Pushed Filter", counters->blocks_filtered, false},
		{"Spans Examined", counters->spans_examined, true},
		{"Spans Removed by Pushed Filter", counters->spans_filtered, false},
		{"Spans Decoded for Pushed Filter", counters->spans_undecided, false},
		{"Spans Decoded", counters->spans_decoded, true},
		{"Columns Unpacked", counters->columns, true},
		{"Columns Found Unpacked", counters->columns_kept, false},
		{"Values Compared", counters->values_asked, false},
		{"Classes Evaluated", counters->classes, false},
		{"Partial Groups", counters->groups, false},
	};

	for (size_t i = 0; i < lengthof(lines); i++)
		if (lines[i].always || lines[i].value > 0)
			ExplainPropertyInteger(lines[i].name, NULL, (int64) lines[i].value, es);
}
