/*-------------------------------------------------------------------------
 *
 * compress.c
 *	  Compression of answers by the query workers.
 *
 * An answer can be 50 MB, which take zlib half a second.  The gateway has one
 * loop for all its clients, a worker has nobody else to serve.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <zlib.h>

#include "miscadmin.h"
#include "net/server.h"
#include "utils/memutils.h"
#include "worker/compress.h"

#define STEP (64 * 1024)

/* zlib's memory; what it does not get makes it give up. */
static voidpf
allocate(voidpf context, uInt items, uInt size)
{
	return MemoryContextAllocExtended(context, (Size) items * size, MCXT_ALLOC_NO_OOM);
}

static void
release(voidpf context, voidpf memory)
{
	pfree(memory);
}

/* Compresses one piece; false when this is not worth going on with. */
static bool
add_piece(z_stream *z, ApiBody *out, Size limit, const StringInfo piece, int flush)
{
	static unsigned char buffer[STEP];

	z->next_in = piece ? (unsigned char *) piece->data : NULL;
	z->avail_in = piece ? (uInt) piece->len : 0;
	do
	{
		z->next_out = buffer;
		z->avail_out = sizeof(buffer);
		if (deflate(z, flush) == Z_STREAM_ERROR)
			return false;
		body_append(out, buffer, sizeof(buffer) - z->avail_out);
		if (QueryCancelPending || ProcDiePending || body_length(out) >= limit)
			return false;
	} while (z->avail_out == 0);
	return true;
}

static bool
compress_body(z_stream *z, const ApiBody *body, ApiBody *out)
{
	Size      limit = body_length(body);
	ListCell *lc;

	foreach (lc, body->pieces)
	{
		if (!add_piece(z, out, limit, lfirst(lc), Z_NO_FLUSH))
			return false;
	}
	return add_piece(z, out, limit, body->current, Z_FINISH);
}

void
compress_answer(ApiResponse *response)
{
	z_stream z = {.zalloc = allocate, .zfree = release, .opaque = CurrentMemoryContext};
	ApiBody *out;

	if (response->body == NULL || body_length(response->body) < NET_COMPRESS_MIN ||
	    deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return;
	out = body_create();
	if (compress_body(&z, response->body, out))
	{
		response->body = out;
		response->gzip = true;
	}
	deflateEnd(&z);
}
