/*-------------------------------------------------------------------------
 *
 * allocator.h
 *	  Memory for the code that runs with and without a PostgreSQL server.
 *
 * Everything in span/, segment/, net/ and the decoders of ingest/ is built
 * into the extension and also into stand-alone unit tests and fuzzers, so
 * none of it may call palloc() or ereport().  It takes memory from a
 * SpanAllocator, which never longjmps: a failed allocation returns NULL and
 * travels up as an error.  access/memory.c provides one that is backed by a
 * MemoryContext; span_malloc_allocator is the plain one.
 *
 * An Arena hands out memory that is freed all at once and counts it against
 * a limit, which is how a hostile request is kept from taking more than its
 * share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_ALLOCATOR_H
#define TEMPO_SPAN_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SpanAllocator
{
	/* returns NULL when there is no memory; never raises */
	void *(*alloc)(void *arg, size_t size);
	void (*release)(void *arg, void *chunk);
	void *arg;
} SpanAllocator;

/* malloc() and free() */
extern const SpanAllocator span_malloc_allocator;

typedef struct ArenaChunk ArenaChunk;

typedef struct Arena
{
	SpanAllocator allocator;
	ArenaChunk   *chunks; /* newest first */
	char         *next;   /* free space of the newest chunk */
	char         *end;
	size_t        used;  /* bytes taken from the allocator */
	size_t        limit; /* 0 = no limit */
} Arena;

/*
 * arena_init: an empty arena; takes no memory yet.  "limit" bounds the bytes
 * taken from the allocator, 0 means no bound.
 */
extern void arena_init(Arena *arena, const SpanAllocator *allocator, size_t limit);

/* arena_alloc: "size" bytes aligned to 8, not zeroed; NULL at the limit */
extern void *arena_alloc(Arena *arena, size_t size);

/* arena_alloc0: the same, zeroed */
extern void *arena_alloc0(Arena *arena, size_t size);

/* arena_copy: a copy of "size" bytes; NULL at the limit */
extern void *arena_copy(Arena *arena, const void *data, size_t size);

/* arena_reset: gives every chunk back; the arena can be used again */
extern void arena_reset(Arena *arena);

/*
 * arena_rewind: empties the arena as arena_reset() does, but keeps its newest
 * chunk for what comes next, if that is no larger than "keep".
 */
extern void arena_rewind(Arena *arena, size_t keep);

#endif /* TEMPO_SPAN_ALLOCATOR_H */
