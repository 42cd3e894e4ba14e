/*-------------------------------------------------------------------------
 *
 * orphans.c
 *	  Directory rows of tables that are gone, and bitmaps of segments that are.
 *
 * Whoever drops, truncates or rewrites a table deletes its directory rows in
 * the same transaction, so there should be none without a table.  Should
 * there be all the same, nobody would ever read them or give them up: this is
 * the backstop.
 *
 * A row is an orphan if one snapshot sees it, and none of the tables that the
 * snapshot sees has its storage id.  The tables stay locked until the rows are
 * deleted; a table that was rewritten in between has deleted the rows itself,
 * which the row locks tell.
 *
 * A bitmap of deleted rows goes in the transaction in which its segment goes,
 * so it is an orphan if a snapshot sees it and not the segment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/orphans.h"

#include "access/ddl.h"
#include "access/deletions.h"
#include "access/directory.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/pages.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The storage ids of all tables; false if one of them cannot be locked. */
static bool
read_storage_ids(Snapshot snapshot, uint64 **ids, uint32 *n_ids)
{
	Relation    pg_class = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(pg_class, InvalidOid, false, snapshot, 0, NULL);
	uint32      allocated = 16;
	bool        all = true;
	HeapTuple   tuple;

	*ids = palloc(sizeof(uint64) * allocated);
	*n_ids = 0;
	while (all && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class   form = (Form_pg_class) GETSTRUCT(tuple);
		TempoMetaHeader meta;
		Relation        rel;

		if ((form->relkind != RELKIND_RELATION && form->relkind != RELKIND_MATVIEW) ||
		    !tempo_access_method(form->relam))
			continue;
		if (!ConditionalLockRelationOid(form->oid, AccessShareLock))
		{
			all = false;
			continue;
		}
		rel = try_relation_open(form->oid, NoLock);
		if (rel == NULL)
			continue;
		if (*n_ids == allocated)
		{
			allocated *= 2;
			*ids = repalloc_huge(*ids, sizeof(uint64) * (Size) allocated);
		}
		if (tempo_meta_read(rel, &meta))
			(*ids)[(*n_ids)++] = meta.storage_id;
		relation_close(rel, NoLock);
	}
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return all;
}

static bool
has_id(const uint64 *ids, uint32 n_ids, uint64 id)
{
	for (uint32 i = 0; i < n_ids; i++)
		if (ids[i] == id)
			return true;
	return false;
}

uint32
tempo_remove_orphans(uint32 *masks)
{
	TempoDirectory directory;
	Snapshot       snapshot = RegisterSnapshot(GetLatestSnapshot());
	uint64        *ids;
	uint32         n_ids;
	uint32         removed = 0;

	*masks = 0;
	if (tempo_try_lock_own_tables(RowExclusiveLock) && read_storage_ids(snapshot, &ids, &n_ids) &&
	    tempo_directory_open(&directory, RowExclusiveLock, true))
	{
		uint32        count;
		TempoSegment *segments = tempo_directory_scan(&directory, snapshot, 0, &count);

		for (uint32 i = 0; i < count; i++)
		{
			if (has_id(ids, n_ids, segments[i].storage_id) || !tempo_directory_claim(&directory, &segments[i]))
				continue;
			tempo_directory_delete(&directory, &segments[i]);
			tempo_deletions_forget(segments[i].storage_id, &segments[i]);
			removed++;
		}
		*masks = tempo_deletions_remove_orphans(snapshot, segments, count);
		pfree(segments);
		tempo_directory_close(&directory);
	}
	UnregisterSnapshot(snapshot);
	return removed;
}
