/*-------------------------------------------------------------------------
 *
 * memory.c
 *	  SpanAllocators on memory contexts, and SpanErrors as ereports.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/memory.h"

#include "utils/memutils.h"

static void *
context_alloc(void *arg, size_t size)
{
	if (!AllocHugeSizeIsValid(size))
		return NULL;
	return MemoryContextAllocExtended((MemoryContext) arg, size,
	                                  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

static void
context_release(void *arg, void *chunk)
{
	pfree(chunk);
}

SpanAllocator
tempo_context_allocator(MemoryContext context)
{
	SpanAllocator allocator = {context_alloc, context_release, context};

	return allocator;
}

static int
sqlstate_of(SpanErrorCode code)
{
	switch (code)
	{
		case SPAN_ERROR_INVALID:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case SPAN_ERROR_LIMIT:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case SPAN_ERROR_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case SPAN_ERROR_CORRUPT:
			return ERRCODE_DATA_CORRUPTED;
		case SPAN_ERROR_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case SPAN_ERROR_IO:
			return ERRCODE_IO_ERROR;
		case SPAN_ERROR_NONE:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

void
tempo_raise(const SpanError *error)
{
	ereport(ERROR,
	        (errcode(sqlstate_of(error->code)),
	         errmsg_internal("%s", error->message)));
	pg_unreachable();
}
