/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  The reading callbacks of the table access method.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_SCAN_H
#define TEMPO_ACCESS_SCAN_H

#include "access/directory.h"
#include "access/tableam.h"

extern TableScanDesc tempo_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
                                      ParallelTableScanDesc parallel, uint32 flags);
extern void          tempo_scan_end(TableScanDesc scan);
extern void          tempo_scan_rescan(TableScanDesc scan, struct ScanKeyData *key, bool set_params,
                                       bool allow_strat, bool allow_sync, bool allow_pagemode);
extern bool          tempo_scan_getnextslot(TableScanDesc scan, ScanDirection direction, TupleTableSlot *slot);
extern void          tempo_scan_set_tidrange(TableScanDesc scan, ItemPointer mintid, ItemPointer maxtid);
extern bool          tempo_scan_getnextslot_tidrange(TableScanDesc scan, ScanDirection direction, TupleTableSlot *slot);

extern Size tempo_parallelscan_estimate(Relation rel);
extern Size tempo_parallelscan_initialize(Relation rel, ParallelTableScanDesc parallel);
extern void tempo_parallelscan_reinitialize(Relation rel, ParallelTableScanDesc parallel);

#if PG_VERSION_NUM >= 170000
extern bool tempo_scan_analyze_next_block(TableScanDesc scan, ReadStream *stream);
#else
extern bool tempo_scan_analyze_next_block(TableScanDesc scan, BlockNumber block, BufferAccessStrategy strategy);
#endif
extern bool tempo_scan_analyze_next_tuple(TableScanDesc scan, TransactionId oldest_xmin, double *live,
                                          double *dead, TupleTableSlot *slot);
extern bool tempo_scan_sample_next_block(TableScanDesc scan, struct SampleScanState *state);
extern bool tempo_scan_sample_next_tuple(TableScanDesc scan, struct SampleScanState *state, TupleTableSlot *slot);

/* ------------------------------------------------------ single rows (fetch.c) */

extern void tempo_fetch_init(void);

/* tempo_fetch_forget: buffers or segments have changed under what is kept for fetches */
extern void tempo_fetch_forget(void);
extern bool tempo_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);

/* tempo_fetch_locate: the segment that has the row, and which row of it; false if the snapshot sees none */
extern bool tempo_fetch_locate(Relation rel, ItemPointer tid, Snapshot snapshot, TempoSegment *segment, uint32 *row);
extern bool tempo_tid_valid(TableScanDesc scan, ItemPointer tid);
extern void tempo_get_latest_tid(TableScanDesc scan, ItemPointer tid);
extern bool tempo_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot);

#endif /* TEMPO_ACCESS_SCAN_H */
