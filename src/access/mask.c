/*-------------------------------------------------------------------------
 *
 * mask.c
 *	  The bitmap of rows deleted from a segment as it is stored.
 *
 *	  4 bytes   how many bytes of zeros are left out in front, 24 bits, and
 *	            MASK_MARK in the high byte
 *	  4 bytes   CRC-32C of the segment's ids and of all else that is stored
 *	  the rest  bytes of the bitmap; zeros behind are left out, too
 *
 * Without MASK_MARK (0 in its place) there is no CRC: such were written
 * before there was one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "access/mask.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "fmgr.h"
#include "port/pg_crc32c.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define MASK_MARK 0xC5
#define MASK_HEADER (2 * sizeof(uint32))

static uint32
mask_crc(const TempoSegment *segment, uint32 head, const void *bytes, uint32 len)
{
	uint64    ids[2] = {segment->storage_id, segment->segment_id};
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, ids, sizeof(ids));
	COMP_CRC32C(crc, &head, sizeof(head));
	COMP_CRC32C(crc, bytes, len);
	FIN_CRC32C(crc);
	return crc;
}

bytea *
tempo_mask_form(const TempoSegment *segment, const uint8 *bitmap)
{
	uint32 end = tempo_mask_bytes(segment);
	uint32 skipped = 0;
	uint32 head[2];
	bytea *stored;

	while (skipped < end && bitmap[skipped] == 0)
		skipped++;
	while (end > skipped && bitmap[end - 1] == 0)
		end--;
	stored = palloc(VARHDRSZ + MASK_HEADER + end - skipped);
	SET_VARSIZE(stored, VARHDRSZ + MASK_HEADER + end - skipped);
	head[0] = skipped | (uint32) MASK_MARK << 24;
	head[1] = mask_crc(segment, head[0], bitmap + skipped, end - skipped);
	memcpy(VARDATA(stored), head, MASK_HEADER);
	memcpy(VARDATA(stored) + MASK_HEADER, bitmap + skipped, end - skipped);
	return stored;
}

/*
 * A stored bitmap that is compressed or has its bytes in the TOAST table is
 * read in a subtransaction, so that damage there is known to be this
 * segment's; NULL if there is.  Parallel processes cannot have one: there it
 * is an error of the whole query.
 */
static bytea *
detoast(Datum stored, const char **problem)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bytea *volatile result = NULL;

	if ((!VARATT_IS_EXTERNAL(DatumGetPointer(stored)) && !VARATT_IS_COMPRESSED(DatumGetPointer(stored))) || IsInParallelMode())
		return DatumGetByteaPP(stored);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		result = DatumGetByteaPP(stored);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_CORRUPTED))
			ReThrowError(error);
		*problem = error->message;
		result = NULL;
	}
	PG_END_TRY();
	return result;
}

/* Checks a stored bitmap; returns its bytes, and what is left out before them. */
static const uint8 *
open_mask(const TempoSegment *segment, const bytea *stored, uint32 *skipped, uint32 *len)
{
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(stored);
	uint32       n_bytes = tempo_mask_bytes(segment);
	uint32       head[2] = {0, 0};

	*len = (uint32) VARSIZE_ANY_EXHDR(stored);
	if (*len < sizeof(uint32))
		return NULL;
	memcpy(head, bytes, Min(*len, sizeof(head)));
	bytes += sizeof(uint32);
	*len -= sizeof(uint32);
	*skipped = head[0];
	if (head[0] >> 24 != 0)
	{
		if (head[0] >> 24 != MASK_MARK || *len < sizeof(uint32))
			return NULL;
		*skipped = head[0] & 0xFFFFFF;
		bytes += sizeof(uint32);
		*len -= sizeof(uint32);
		if (mask_crc(segment, head[0], bytes, *len) != head[1])
			return NULL;
	}
	if (*skipped > n_bytes || *len > n_bytes - *skipped)
		return NULL;
	/* the last byte may have bits to spare */
	if (*len > 0 && *skipped + *len == n_bytes && segment->summary.rows % 8 != 0 &&
	    bytes[*len - 1] >> segment->summary.rows % 8 != 0)
		return NULL;
	return bytes;
}

bool
tempo_mask_add(const TempoSegment *segment, Datum stored, bool isnull, uint8 **bitmap, const char **problem)
{
	bytea       *whole;
	const uint8 *bytes = NULL;
	uint32       skipped;
	uint32       len;

	*problem = "the rows deleted from the segment are not rows of it";
	whole = isnull ? NULL : detoast(stored, problem);
	if (whole != NULL)
		bytes = open_mask(segment, whole, &skipped, &len);
	if (bytes == NULL)
		return false;
	if (bitmap != NULL)
	{
		if (*bitmap == NULL)
			*bitmap = palloc0(Max(tempo_mask_bytes(segment), 1));
		for (uint32 i = 0; i < len; i++)
			(*bitmap)[skipped + i] |= bytes[i];
	}
	if ((Pointer) whole != DatumGetPointer(stored))
		pfree(whole);
	return true;
}
