/*-------------------------------------------------------------------------
 *
 * row_kit.c
 *	  What makes rows of spans, kept by a backend from one query to the next.
 *
 * One is kept, the one that was given back last: who reads trace after trace
 * asks for the same columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/row_kit.h"

#include "access/memory.h"
#include "utils/memutils.h"

/* One that is larger, or makes no columns, is not kept. */
#define MAX_KEPT_BYTES (4 * 1024 * 1024)

typedef struct Kit
{
	TempoRowKit public; /* must be first */
	MemoryContext  context;
	SpanAllocator  allocator;
	TempoColumnMap map; /* what it is for */
	Bitmapset     *needed;
	Bitmapset     *blank;
	bool           all;
	struct Owner  *owner;
} Kit;

/* Who has taken it; in that one's memory. */
typedef struct Owner
{
	Kit                  *kit; /* NULL: given back */
	MemoryContextCallback callback;
} Owner;

static Kit *kept = NULL;

static bool
is_for(const Kit *kit, const TempoColumnMap *map, const Bitmapset *needed, bool all, const Bitmapset *blank)
{
	return kit->all == all && kit->map.natts == map->natts &&
	       memcmp(kit->map.attno, map->attno, sizeof(map->attno)) == 0 &&
	       bms_equal(kit->needed, needed) && bms_equal(kit->blank, blank);
}

static Kit *
make_kit(const TempoColumnMap *map, const Bitmapset *needed, bool all, const Bitmapset *blank)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo row kit", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Kit          *kit = palloc0(sizeof(Kit));
	int           column = -1;

	kit->context = context;
	kit->map = *map;
	kit->map.column = palloc(Max(map->natts, 1));
	memcpy(kit->map.column, map->column, map->natts);
	kit->needed = bms_copy(needed);
	kit->blank = bms_copy(blank);
	kit->all = all;
	kit->allocator = tempo_context_allocator(context);
	kit->public.batch = span_batch_create(&kit->allocator, 0);
	if (kit->public.batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	kit->public.reader = tempo_row_reader_create(&kit->map, needed, all);
	while ((column = bms_next_member(blank, column)) >= 0)
		tempo_row_reader_blank(kit->public.reader, (TempoColumn) column);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, CacheMemoryContext);
	return kit;
}

/* Who has taken it ends without giving it back, so it may be in any state. */
static void
abandon_kit(void *arg)
{
	Owner *owner = arg;

	if (owner->kit != NULL)
		MemoryContextDelete(owner->kit->context);
	owner->kit = NULL;
}

TempoRowKit *
tempo_row_kit_take(const TempoColumnMap *map, const Bitmapset *needed, bool all, const Bitmapset *blank)
{
	Owner *owner = palloc0(sizeof(Owner));
	Kit   *kit = kept;

	if (kit != NULL && is_for(kit, map, needed, all, blank))
		kept = NULL;
	else
		kit = make_kit(map, needed, all, blank);
	kit->owner = owner;
	owner->kit = kit;
	owner->callback.func = abandon_kit;
	owner->callback.arg = owner;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owner->callback);
	return &kit->public;
}

void
tempo_row_kit_give_back(TempoRowKit *public)
{
	Kit *kit = (Kit *) public;

	kit->owner->kit = NULL;
	kit->owner = NULL;
	if ((bms_is_empty(kit->needed) && !kit->all) ||
	    MemoryContextMemAllocated(kit->context, true) > MAX_KEPT_BYTES)
	{
		MemoryContextDelete(kit->context);
		return;
	}
	if (kept != NULL)
		MemoryContextDelete(kept->context);
	kept = kit;
}
