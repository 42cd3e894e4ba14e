/*-------------------------------------------------------------------------
 *
 * segment_source.c
 *	  Opens segments over shared buffers, with a cache of opened ones.
 *
 * Opening a segment means reading and checking its header and footer, so a
 * backend keeps the readers of the segments it used last, within
 * tempo_pg.segment_cache_size.  Segments never change and their ids are never
 * used twice, so an entry is never wrong, only useless once its segment is
 * gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/segment_source.h"

#include <limits.h>

#include "access/deletions.h"
#include "access/memory.h"
#include "access/pages.h"
#include "lib/ilist.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct CacheKey
{
	uint64 storage_id;
	uint64 segment_id;
} CacheKey;

typedef struct CacheEntry
{
	CacheKey       key; /* must be first */
	dlist_node     lru; /* most recently used first */
	MemoryContext  context;
	SpanAllocator  allocator;
	SegmentReader *reader;
	Size           bytes;
	Size           frame_bytes;
	int            pins;

	/* what the read callback needs */
	TempoExtent          extent;
	Relation             rel; /* of the last opener */
	BufferAccessStrategy strategy;
	BlockNumber          bad_block;
	bool                 reading; /* still set after an error left the callback */

	bool selecting; /* conditions are being asked about its rows */
	bool own;       /* not in the cache: somebody else's conditions look at the segment */
} CacheEntry;

struct TempoOpenSegment
{
	CacheEntry           *entry; /* NULL once closed */
	char                  relation[NAMEDATALEN];
	uint64                segment_id;
	bool                  selecting; /* the entry is, for this one */
	MemoryContextCallback callback;
};

static int segment_cache_size = 64 * 1024; /* kB */

static HTAB      *cache = NULL;
static dlist_head cache_lru = DLIST_STATIC_INIT(cache_lru);
static Size       cache_bytes = 0;
static Size       frame_bytes = 0; /* of that, what can be given up singly */

void
tempo_segment_cache_init(void)
{
	DefineCustomIntVariable("tempo_pg.segment_cache_size",
	                        "Memory that a server process uses to keep opened segments.",
	                        "Opened segments are kept with their footers and dictionaries, and as long as there is room with the columns that most scans read and with what traces were read from, unpacked.",
	                        &segment_cache_size, 64 * 1024, 0, MAX_KILOBYTES,
	                        PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

static bool
read_image(void *arg, uint64_t offset, void *dst, size_t len)
{
	CacheEntry   *entry = arg;
	volatile bool good = false;

	entry->reading = true;
	PG_TRY();
	{
		good = tempo_pages_read(entry->rel, entry->extent, entry->key.segment_id, offset, dst, len,
		                        entry->strategy, &entry->bad_block);
	}
	PG_CATCH();
	{
		/* a cursor that has the segment open may go on after a savepoint */
		if (entry->reader != NULL)
			segment_interrupted(entry->reader);
		PG_RE_THROW();
	}
	PG_END_TRY();
	entry->reading = false;
	return good;
}

static void
drop_entry(CacheEntry *entry)
{
	dlist_delete(&entry->lru);
	cache_bytes -= entry->bytes;
	frame_bytes -= entry->frame_bytes;
	if (entry->context != NULL)
		MemoryContextDelete(entry->context);
	hash_search(cache, &entry->key, HASH_REMOVE, NULL);
}

/* How large an entry is changes while it is in use. */
static void
measure_entry(CacheEntry *entry)
{
	Size bytes = MemoryContextMemAllocated(entry->context, true);
	Size frames = entry->reader != NULL ? segment_kept_frames(entry->reader) : 0;

	cache_bytes += bytes - entry->bytes;
	entry->bytes = bytes;
	frame_bytes += frames - entry->frame_bytes;
	entry->frame_bytes = frames;
}

/* Gives up what nobody uses until the rest fits, oldest first: frames, then whole entries. */
static void
shrink_cache(void)
{
	Size        limit = (Size) segment_cache_size * 1024;
	dlist_iter  iter;
	dlist_node *node = dlist_is_empty(&cache_lru) ? NULL : dlist_tail_node(&cache_lru);

	dlist_reverse_foreach(iter, &cache_lru)
	{
		CacheEntry *entry = dlist_container(CacheEntry, lru, iter.cur);

		if (cache_bytes <= limit)
			return;
		if (entry->pins > 0 || entry->frame_bytes == 0 || entry->reading)
			continue;
		(void) segment_forget_frames(entry->reader, cache_bytes - limit + limit / 32);
		measure_entry(entry);
	}
	while (node != NULL && cache_bytes > limit)
	{
		CacheEntry *entry = dlist_container(CacheEntry, lru, node);

		node = dlist_has_prev(&cache_lru, node) ? dlist_prev_node(&cache_lru, node) : NULL;
		if (entry->pins == 0)
			drop_entry(entry);
	}
}

static void
unpin(void *arg)
{
	TempoOpenSegment *open = arg;
	CacheEntry       *entry = open->entry;

	if (entry == NULL)
		return;
	open->entry = NULL;
	entry->strategy = NULL;
	if (--entry->pins > 0)
		return;
	if (entry->own)
	{
		MemoryContextDelete(entry->context);
		return;
	}
	/* readers keep dictionaries they have decoded */
	measure_entry(entry);
	shrink_cache();
}

/*
 * Columns may be kept unpacked as long as there is room; what does not fit would
 * displace what is of use.  Frames are given up for them.
 */
static void
allow_keeping(CacheEntry *entry)
{
	Size limit = (Size) segment_cache_size * 1024;
	Size rest = cache_bytes - frame_bytes;
	Size room = rest < limit ? (limit - rest) / 4 * 3 : 0;

	segment_keep(entry->reader, room);
	segment_keep_frames(entry->reader, room);
}

static CacheEntry *
find_entry(const CacheKey *key)
{
	CacheEntry *entry;
	bool        found;

	if (cache == NULL)
	{
		HASHCTL ctl = {0};

		ctl.keysize = sizeof(CacheKey);
		ctl.entrysize = sizeof(CacheEntry);
		ctl.hcxt = CacheMemoryContext;
		cache = hash_create("tempo segment cache", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(cache, key, HASH_FIND, NULL);
	if (entry != NULL && entry->pins == 0 && (entry->reading || entry->reader == NULL))
	{
		/* an error interrupted it, so its state may be half changed */
		drop_entry(entry);
		entry = NULL;
	}
	if (entry == NULL)
	{
		entry = hash_search(cache, key, HASH_ENTER, &found);
		memset((char *) entry + sizeof(CacheKey), 0, sizeof(CacheEntry) - sizeof(CacheKey));
		dlist_push_head(&cache_lru, &entry->lru);
	}
	else
		dlist_move_head(&cache_lru, &entry->lru);
	return entry;
}

/*
 * What a condition asks may be a function that scans the same segment.  The
 * reader is in the middle of something then, so the function gets another one.
 */
static CacheEntry *
make_own_entry(const CacheKey *key)
{
	MemoryContext context = AllocSetContextCreate(CacheMemoryContext, "tempo segment", ALLOCSET_SMALL_SIZES);
	CacheEntry   *entry = MemoryContextAllocZero(context, sizeof(CacheEntry));

	entry->key = *key;
	entry->context = context;
	entry->own = true;
	return entry;
}

/* A scan that was opened before, a cursor, cannot go on within somebody else's condition. */
static void
check_not_selecting(const TempoOpenSegment *open)
{
	if (open->entry->selecting && !open->selecting)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_IN_USE),
		         errmsg("cannot read segment " UINT64_FORMAT " of relation \"%s\" while a condition looks at it",
		                open->segment_id, open->relation),
		         errdetail("A function in the condition fetches from a cursor that was opened before.")));
}

void
tempo_segment_forget(const TempoSegment *segment)
{
	CacheKey    key = {segment->storage_id, segment->segment_id};
	CacheEntry *entry = cache != NULL ? hash_search(cache, &key, HASH_FIND, NULL) : NULL;

	if (entry != NULL && entry->pins == 0)
		drop_entry(entry);
}

TempoOpenSegment *
tempo_segment_open(Relation rel, const TempoSegment *segment, BufferAccessStrategy strategy)
{
	CacheKey          key = {segment->storage_id, segment->segment_id};
	TempoOpenSegment *open = palloc0(sizeof(TempoOpenSegment));
	CacheEntry       *entry;

	tempo_deletions_check_mask(rel, segment);
	strlcpy(open->relation, RelationGetRelationName(rel), NAMEDATALEN);
	open->segment_id = segment->segment_id;

	entry = find_entry(&key);
	if (entry->selecting)
		entry = make_own_entry(&key);
	entry->rel = rel;
	entry->strategy = strategy;
	entry->extent.first = segment->first_block;
	entry->extent.count = segment->n_blocks;
	if (entry->context == NULL)
		entry->context = AllocSetContextCreate(CacheMemoryContext, "tempo segment",
		                                       ALLOCSET_SMALL_SIZES);
	open->entry = entry;
	entry->pins++;
	open->callback.func = unpin;
	open->callback.arg = open;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &open->callback);

	if (entry->reader == NULL)
	{
		SegmentSource source = {read_image, entry, segment->summary.size};
		SpanError     error = {SPAN_ERROR_NONE};

		entry->allocator = tempo_context_allocator(entry->context);
		entry->reader = segment_open(&source, &entry->allocator, &error);
		if (entry->reader == NULL)
			tempo_segment_failed(open, &error);
		if (segment_summary(entry->reader)->rows != segment->summary.rows)
		{
			span_error(&error, SPAN_ERROR_CORRUPT, "the segment has %u rows, the directory says %u",
			           segment_summary(entry->reader)->rows, segment->summary.rows);
			segment_close(entry->reader);
			entry->reader = NULL;
			tempo_segment_failed(open, &error);
		}
	}
	if (!entry->own)
		allow_keeping(entry);
	return open;
}

void
tempo_segment_close(TempoOpenSegment *open)
{
	/* the structure stays: its callback is still registered */
	unpin(open);
}

void
tempo_segment_set_relation(TempoOpenSegment *open, Relation rel)
{
	open->entry->rel = rel;
}

SegmentReader *
tempo_segment_reader(TempoOpenSegment *open)
{
	check_not_selecting(open);
	return open->entry->reader;
}

const SegmentCounters *
tempo_segment_counters(const TempoOpenSegment *open)
{
	return segment_counters(open->entry->reader);
}

void
tempo_segment_failed(TempoOpenSegment *open, const SpanError *error)
{
	CacheEntry *entry = open->entry;

	if (error->code == SPAN_ERROR_MEMORY)
		tempo_raise(error);
	ereport(ERROR,
	        (errcode(error->code == SPAN_ERROR_UNSUPPORTED ? ERRCODE_FEATURE_NOT_SUPPORTED : ERRCODE_DATA_CORRUPTED),
	         errmsg("could not read segment " UINT64_FORMAT " of relation \"%s\"",
	                open->segment_id, open->relation),
	         error->code == SPAN_ERROR_IO ?
	             errdetail("Block %u is not a page of this segment.", entry->bad_block) :
	             errdetail("Blocks %u to %u: %s", entry->extent.first,
	                       entry->extent.first + entry->extent.count - 1, error->message),
	         error->code == SPAN_ERROR_UNSUPPORTED ?
	             errhint("Install the version of tempo_pg that wrote it, or a later one.") :
	             errhint("tempo.verify() checks the whole relation.")));
	pg_unreachable();
}

void
tempo_segment_decode(TempoOpenSegment *open, const SegmentProjection *projection,
                     uint32 first, uint32 count, SpanBatch *batch)
{
	SpanError error = {SPAN_ERROR_NONE};

	check_not_selecting(open);
	if (!segment_decode(open->entry->reader, projection, first, count, batch, &error))
		tempo_segment_failed(open, &error);
}

void
tempo_segment_decode_rows(TempoOpenSegment *open, const SegmentProjection *projection,
                          const uint32 *rows, uint32 n, SpanBatch *batch)
{
	SpanError error = {SPAN_ERROR_NONE};

	check_not_selecting(open);
	if (!segment_decode_rows(open->entry->reader, projection, rows, n, batch, &error))
		tempo_segment_failed(open, &error);
}

void
tempo_segment_select(TempoOpenSegment *open, const SegmentProjection *projection,
                     uint32 first, uint32 count, const SegmentTest *test,
                     SpanBatch *batch, uint8 *rows)
{
	SpanError     error = {SPAN_ERROR_NONE};
	volatile bool good = false;

	check_not_selecting(open);
	open->selecting = open->entry->selecting = true;
	PG_TRY();
	{
		good = segment_select(open->entry->reader, projection, first, count, test, batch, rows, &error);
	}
	PG_FINALLY();
	{
		open->selecting = open->entry->selecting = false;
	}
	PG_END_TRY();
	if (!good)
		tempo_segment_failed(open, &error);
}
