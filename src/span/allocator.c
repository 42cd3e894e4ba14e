/*-------------------------------------------------------------------------
 *
 * allocator.c
 *	  The malloc allocator and the arena.
 *
 *-------------------------------------------------------------------------
 */
#include "span/allocator.h"

#include <stdlib.h>
#include <string.h>

/* Chunks double from the first size up to the second. */
#define ARENA_FIRST_CHUNK 8192
#define ARENA_LARGEST_CHUNK (1024 * 1024)

struct ArenaChunk
{
	ArenaChunk *next;
	size_t      size; /* whole chunk, header included */
};

static void *
plain_alloc(void *arg, size_t size)
{
	(void) arg;
	return malloc(size);
}

static void
plain_release(void *arg, void *chunk)
{
	(void) arg;
	free(chunk);
}

const SpanAllocator span_malloc_allocator = {plain_alloc, plain_release, NULL};

void
arena_init(Arena *arena, const SpanAllocator *allocator, size_t limit)
{
	memset(arena, 0, sizeof(*arena));
	arena->allocator = *allocator;
	arena->limit = limit;
}

static bool
arena_grow(Arena *arena, size_t need)
{
	size_t      size = arena->chunks ? arena->chunks->size * 2 : ARENA_FIRST_CHUNK;
	ArenaChunk *chunk;

	if (need > SIZE_MAX / 2)
		return false;
	need += sizeof(ArenaChunk);
	if (size > ARENA_LARGEST_CHUNK)
		size = ARENA_LARGEST_CHUNK;
	if (size < need)
		size = need;
	if (arena->limit != 0)
	{
		if (arena->used >= arena->limit || need > arena->limit - arena->used)
			return false;
		if (size > arena->limit - arena->used)
			size = need;
	}
	chunk = arena->allocator.alloc(arena->allocator.arg, size);
	if (chunk == NULL)
		return false;
	chunk->size = size;
	arena->used += size;

	/*
	 * A chunk made for one large request goes behind the current one if that
	 * has more room left.
	 */
	if (arena->chunks != NULL && size - need < (size_t) (arena->end - arena->next))
	{
		chunk->next = arena->chunks->next;
		arena->chunks->next = chunk;
		return false;
	}
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	arena->next = (char *) (chunk + 1);
	arena->end = (char *) chunk + size;
	return true;
}

void *
arena_alloc(Arena *arena, size_t size)
{
	char *result;

	if (size > SIZE_MAX / 4)
		return NULL;
	size = (size + 7) & ~(size_t) 7;
	if (arena->chunks == NULL || (size_t) (arena->end - arena->next) < size)
	{
		ArenaChunk *second = arena->chunks ? arena->chunks->next : NULL;

		if (!arena_grow(arena, size))
		{
			/* either there is no memory, or the new chunk is the second one */
			if (arena->chunks == NULL || arena->chunks->next == second)
				return NULL;
			return arena->chunks->next + 1;
		}
	}
	result = arena->next;
	arena->next += size;
	return result;
}

void *
arena_alloc0(Arena *arena, size_t size)
{
	void *result = arena_alloc(arena, size);

	if (result != NULL)
		memset(result, 0, size);
	return result;
}

void *
arena_copy(Arena *arena, const void *data, size_t size)
{
	void *result = arena_alloc(arena, size);

	if (result != NULL && size > 0)
		memcpy(result, data, size);
	return result;
}

void
arena_reset(Arena *arena)
{
	ArenaChunk *chunk = arena->chunks;

	while (chunk != NULL)
	{
		ArenaChunk *next = chunk->next;

		arena->allocator.release(arena->allocator.arg, chunk);
		chunk = next;
	}
	arena->chunks = NULL;
	arena->next = arena->end = NULL;
	arena->used = 0;
}

void
arena_rewind(Arena *arena, size_t keep)
{
	ArenaChunk *kept = arena->chunks;

	if (kept == NULL || kept->size > keep)
	{
		arena_reset(arena);
		return;
	}
	arena->chunks = kept->next;
	arena_reset(arena);
	kept->next = NULL;
	arena->chunks = kept;
	arena->next = (char *) (kept + 1);
	arena->end = (char *) kept + kept->size;
	arena->used = kept->size;
}
