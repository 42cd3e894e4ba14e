/*-------------------------------------------------------------------------
 *
 * stop_at.h
 *	  Places where a test can hold up a process, to kill it there.
 *
 * A crash that comes by itself comes anywhere but in the few microseconds
 * that matter.  So each change of what is on disk has named steps here, and
 * the setting tempo_pg.debug_stop_at, which is for superusers and in no list
 * of settings, names the one at which a session waits.  Where nobody tests, a
 * step costs a comparison with a variable.
 *
 * This is the only list of the steps; tests learn the names from it.  They
 * must lie where no buffer is locked and nothing is critical.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_STOP_AT_H
#define TEMPO_ACCESS_STOP_AT_H

#define TEMPO_STOPS(STOP) \
	/* storing a segment: store.c, pages.c */ \
	STOP(STORE_BEGIN, "store_begin")       /* locks and transaction id are there */ \
	STOP(STORE_EXTENDED, "store_extended") /* the file is longer, nothing refers to that */ \
	STOP(STORE_TAKEN, "store_taken")       /* the metapage has given the extent away */ \
	STOP(STORE_OWNED, "store_owned")       /* its directory row is there */ \
	STOP(STORE_INDEXED, "store_indexed") \
	STOP(STORE_HALF, "store_half") /* some of the pages are written */ \
	STOP(STORE_WRITTEN, "store_written") \
	/* merging: compact.c */ \
	STOP(MERGE_CLAIMED, "merge_claimed") /* the sources are locked */ \
	STOP(MERGE_READ, "merge_read") \
	STOP(MERGE_WRITTEN, "merge_written") /* the targets are stored */ \
	STOP(MERGE_DELETED, "merge_deleted") /* one source is deleted */ \
	STOP(MERGE_DONE, "merge_done")       /* all of them are */ \
	/* retention: retention.c */ \
	STOP(RETENTION_CLAIMED, "retention_claimed") \
	STOP(RETENTION_DELETED, "retention_deleted") \
	STOP(RETENTION_DONE, "retention_done") /* its bitmaps are gone, too */ \
	/* DELETE: deletions.c */ \
	STOP(DELETE_LOCKED, "delete_locked") /* the directory row is locked */ \
	STOP(DELETE_ADDED, "delete_added")   /* the bitmap is in its table */ \
	STOP(DELETE_INDEXED, "delete_indexed") \
	/* VACUUM: vacuum.c */ \
	STOP(VACUUM_PRUNED, "vacuum_pruned") /* the directory is vacuumed */ \
	STOP(VACUUM_LISTED, "vacuum_listed") /* the free list is written */ \
	STOP(VACUUM_CUT, "vacuum_cut")       /* the list no longer names the file's end */ \
	STOP(VACUUM_TRUNCATED, "vacuum_truncated") \
	/* VACUUM FULL, TRUNCATE, SET TABLESPACE: storage_file.c, directory.c */ \
	STOP(REWRITE_COPIED, "rewrite_copied")         /* a segment is in the new file */ \
	STOP(REWRITE_MARKED, "rewrite_marked")         /* older snapshots are refused */ \
	STOP(TRUNCATE_FORGOTTEN, "truncate_forgotten") /* merged segments are, level 0 not yet */ \
	STOP(TRUNCATE_CREATED, "truncate_created")     /* the new file is there */ \
	STOP(TABLESPACE_COPIED, "tablespace_copied")

typedef enum TempoStop
{
	TEMPO_STOP_NOWHERE,
#define STOP(symbol, name) TEMPO_STOP_##symbol,
	TEMPO_STOPS(STOP)
#undef STOP
} TempoStop;

extern int tempo_stop_at;

/* tempo_stop: waits if a test wants it here */
#define tempo_stop(symbol) \
	do \
	{ \
		if (unlikely(tempo_stop_at == TEMPO_STOP_##symbol)) \
			tempo_stop_here(); \
	} while (0)

extern void tempo_stop_here(void);

/* tempo_stop_init: the setting */
extern void tempo_stop_init(void);

#endif /* TEMPO_ACCESS_STOP_AT_H */
