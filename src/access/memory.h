/*-------------------------------------------------------------------------
 *
 * memory.h
 *	  SpanAllocators on memory contexts, and SpanErrors as ereports.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_MEMORY_H
#define TEMPO_ACCESS_MEMORY_H

#include "postgres.h"

#include "span/allocator.h"
#include "span/error.h"
#include "utils/palloc.h"

/*
 * tempo_context_allocator: allocations live in "context" and are gone with
 * it; huge ones are allowed; failure returns NULL as SpanAllocator demands.
 */
extern SpanAllocator tempo_context_allocator(MemoryContext context);

/* tempo_raise: ereport(ERROR) for a failed call of the server-free libraries */
extern _Noreturn void tempo_raise(const SpanError *error);

#endif /* TEMPO_ACCESS_MEMORY_H */
