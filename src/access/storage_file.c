/*-------------------------------------------------------------------------
 *
 * storage_file.c
 *	  Files of tempo relations: creating, emptying and copying them.
 *
 * A new relation is an empty file; nothing of the extension's own tables is
 * read for it, so that it can be created before they are, and by pg_upgrade.
 * Whoever replaces a file deletes the old storage id's directory rows in the
 * same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/ddl.h"

#include "access/deletions.h"
#include "access/memory.h"

#include "access/directory.h"
#include "access/multixact.h"
#include "access/pages.h"
#include "access/row.h"
#include "access/segment_source.h"
#include "access/stop_at.h"
#include "access/store.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/storage.h"
#include "catalog/storage_xlog.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static bool
same_file(const RelFileLocator *a, const RelFileLocator *b)
{
	return a->relNumber == b->relNumber && a->dbOid == b->dbOid && a->spcOid == b->spcOid;
}

void
tempo_relation_set_new_file(Relation rel, const RelFileLocator *newfile, char persistence,
                            TransactionId *freeze_xid, MultiXactId *min_multi)
{
	SMgrRelation    file;
	TempoMetaHeader meta;

	if (persistence != RELPERSISTENCE_PERMANENT)
		TEMPO_UNSUPPORTED(errmsg("access method \"tempo\" does not support %s tables",
		                         persistence == RELPERSISTENCE_TEMP ? "temporary" : "unlogged"),
		                  errhint("Create a permanent table, or use access method \"heap\"."));
	if (!IsBinaryUpgrade)
		tempo_check_columns(RelationGetDescr(rel));

	/* there are no transaction ids in our pages: those are in the directory */
	*freeze_xid = RecentXmin;
	*min_multi = GetOldestMultiXactId();

	/* TRUNCATE: the rows of the file that goes away go away too */
	if (!IsBinaryUpgrade && !same_file(newfile, &rel->rd_locator) && tempo_meta_read(rel, &meta))
		tempo_directory_forget(meta.storage_id);

	file = RelationCreateStorage(*newfile, persistence, true);
	smgrclose(file);
	tempo_stop(TRUNCATE_CREATED);
}

void
tempo_relation_nontransactional_truncate(Relation rel)
{
	TempoMetaHeader meta;

	if (tempo_meta_read(rel, &meta))
		tempo_directory_forget(meta.storage_id);
	RelationTruncate(rel, 0);
}

void
tempo_relation_copy_data(Relation rel, const RelFileLocator *newfile)
{
	SMgrRelation target;

	/*
	 * The copy keeps its storage id, and so its rows.  Nothing else can write
	 * to the file, but what is in shared buffers must be in it.
	 */
	FlushRelationBuffers(rel);
	target = RelationCreateStorage(*newfile, rel->rd_rel->relpersistence, true);
	RelationCopyStorage(RelationGetSmgr(rel), target, MAIN_FORKNUM, rel->rd_rel->relpersistence);
	tempo_stop(TABLESPACE_COPIED);
	RelationDropStorage(rel);
	smgrclose(target);
}

/* ----------------------------------------------------------- VACUUM FULL */

/* Stores what is not deleted of a segment; returns how much that is. */
static uint32
copy_live_rows(Relation old_table, Relation new_table, const TempoSegment *segment)
{
	MemoryContext      context = AllocSetContextCreate(CurrentMemoryContext, "tempo copy", ALLOCSET_DEFAULT_SIZES);
	MemoryContext      caller = MemoryContextSwitchTo(context);
	SpanAllocator      allocator = tempo_context_allocator(context);
	SegmentMerge      *merge = segment_merge_create(&allocator);
	TempoOpenSegment  *open = tempo_segment_open(old_table, segment, NULL);
	TempoStoreOptions  options = {segment->summary.level};
	SegmentMergeFilter filter = {NULL};
	SpanError          error = {SPAN_ERROR_NONE};
	TempoSegment       copy;
	uint32             rows;
	uint32             n_targets;

	if (merge == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	tempo_deletions_merge(open, segment, filter, merge);
	rows = segment_merge_rows(merge);
	options.cid = GetCurrentCommandId(true);
	options.newest_at = segment->newest_at;
	options.hashes = segment_request_hashes(tempo_segment_reader(open), &options.n_hashes);
	if (!segment_merge_split(merge, NULL, NULL, &n_targets, &error))
		tempo_raise(&error);
	/* level 0 may have several tenants; one of the copies remembers the requests */
	for (uint32 i = 0; i < n_targets; i++)
	{
		tempo_store_target(new_table, merge, i, &options, &copy);
		options.hashes = NULL;
		options.n_hashes = 0;
	}
	tempo_segment_close(open);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return rows;
}

void
tempo_relation_copy_for_cluster(Relation old_table, Relation new_table, Relation old_index,
                                bool use_sort, TransactionId oldest_xmin, TransactionId *xid_cutoff,
                                MultiXactId *multi_cutoff, double *num_tuples,
                                double *tups_vacuumed, double *tups_recently_dead)
{
	uint32               count;
	Snapshot             snapshot = RegisterSnapshot(GetLatestSnapshot());
	TempoSegment        *segments = tempo_directory_list(old_table, snapshot, NULL, &count);
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);

	/*
	 * The images are copied; their directory rows are new, so a snapshot taken
	 * before this transaction commits would see neither old nor new ones.  The
	 * metapage tells it so.
	 */
	for (uint32 i = 0; i < count; i++)
	{
		TempoSegment segment = segments[i];

		if (segment.deleted != NULL)
		{
			*num_tuples += copy_live_rows(old_table, new_table, &segment);
			continue;
		}
		tempo_store_copy(new_table, old_table, GetCurrentCommandId(true), &segment, strategy);
		tempo_stop(REWRITE_COPIED);
		*num_tuples += segment.summary.rows;
	}
	if (count > 0)
	{
		uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());

		tempo_lock_extents(new_table);
		tempo_meta_set_rewrite(new_table, xid);
		tempo_unlock_extents(new_table);
		tempo_stop(REWRITE_MARKED);
		pfree(segments);
	}
	FreeAccessStrategy(strategy);
	UnregisterSnapshot(snapshot);
}
