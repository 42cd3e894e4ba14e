/*-------------------------------------------------------------------------
 *
 * frame.c
 *	  Compression and checksums.
 *
 * The zstd contexts are kept for the life of the thread: making one costs
 * more than compressing a small segment.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/frame.h"

#include <zstd.h>

/* Frames below this are not worth a call of the compressor. */
#define FRAME_SMALLEST 48

static __thread ZSTD_CCtx *compressor;
static __thread ZSTD_DCtx *decompressor;

static uint32_t crc_tables[8][256];
static bool     crc_ready;

static void
crc_prepare(void)
{
	for (uint32_t i = 0; i < 256; i++)
	{
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? (c >> 1) ^ UINT32_C(0x82f63b78) : c >> 1;
		crc_tables[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			crc_tables[t][i] = (crc_tables[t - 1][i] >> 8) ^ crc_tables[0][crc_tables[t - 1][i] & 0xff];
	crc_ready = true;
}

static uint32_t
crc32c_portable(uint32_t crc, const uint8_t *p, size_t len)
{
	if (!crc_ready)
		crc_prepare();
	while (len >= 8)
	{
		uint32_t a = crc ^ load_u32(p);
		uint32_t b = load_u32(p + 4);

		crc = crc_tables[7][a & 0xff] ^ crc_tables[6][(a >> 8) & 0xff] ^
		      crc_tables[5][(a >> 16) & 0xff] ^ crc_tables[4][a >> 24] ^
		      crc_tables[3][b & 0xff] ^ crc_tables[2][(b >> 8) & 0xff] ^
		      crc_tables[1][(b >> 16) & 0xff] ^ crc_tables[0][b >> 24];
		p += 8;
		len -= 8;
	}
	while (len-- > 0)
		crc = (crc >> 8) ^ crc_tables[0][(crc ^ *p++) & 0xff];
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc;

	while (len >= 8)
	{
		uint64_t word;

		memcpy(&word, p, 8);
		c = __builtin_ia32_crc32di(c, word);
		p += 8;
		len -= 8;
	}
	while (len-- > 0)
		c = __builtin_ia32_crc32qi((uint32_t) c, *p++);
	return (uint32_t) c;
}
#endif

uint32_t
crc32c(const void *data, size_t len)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
	/* fuzzers should get past the checksums */
	(void) data;
	(void) len;
	return 0;
#endif
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc32c_sse42(~UINT32_C(0), data, len);
#endif
	return ~crc32c_portable(~UINT32_C(0), data, len);
}

bool
frame_write(Buffer *out, const void *data, size_t len, int zstd_level, Frame *frame)
{
	uint8_t *to;
	size_t   bound = ZSTD_compressBound(len);
	size_t   stored;

	frame->raw_len = (uint32_t) len;
	frame->codec = FRAME_STORED;
	to = buffer_reserve(out, bound);
	if (to == NULL)
		return false;
	if (zstd_level > 0 && len >= FRAME_SMALLEST)
	{
		if (compressor == NULL)
			compressor = ZSTD_createCCtx();
		if (compressor == NULL)
			return false;
		ZSTD_CCtx_reset(compressor, ZSTD_reset_session_and_parameters);
		ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, zstd_level);
		ZSTD_CCtx_setParameter(compressor, ZSTD_c_contentSizeFlag, 0);
		ZSTD_CCtx_setParameter(compressor, ZSTD_c_dictIDFlag, 0);
		stored = ZSTD_compress2(compressor, to, bound, data, len);
		if (!ZSTD_isError(stored) && stored < len - len / 32)
		{
			frame->codec = FRAME_ZSTD;
			frame->stored_len = (uint32_t) stored;
			frame->crc = crc32c(to, stored);
			out->len += stored;
			return true;
		}
	}
	if (len > 0)
		memcpy(to, data, len);
	frame->stored_len = (uint32_t) len;
	frame->crc = crc32c(to, len);
	out->len += len;
	return true;
}

bool
frame_read(const Frame *frame, const uint8_t *stored, uint8_t *raw, SpanError *error)
{
	size_t got;

	if (crc32c(stored, frame->stored_len) != frame->crc)
		return span_error(error, SPAN_ERROR_CORRUPT, "checksum of a segment frame does not match");
	if (frame->codec == FRAME_STORED)
	{
		if (frame->stored_len != frame->raw_len)
			return span_error(error, SPAN_ERROR_CORRUPT, "segment frame has an invalid length");
		if (frame->raw_len > 0)
			memcpy(raw, stored, frame->raw_len);
		return true;
	}
	if (frame->codec != FRAME_ZSTD)
		return span_error(error, SPAN_ERROR_UNSUPPORTED, "segment frame has unknown codec %d", frame->codec);
	if (decompressor == NULL)
		decompressor = ZSTD_createDCtx();
	if (decompressor == NULL)
		return span_error(error, SPAN_ERROR_MEMORY, "out of memory");
	got = ZSTD_decompressDCtx(decompressor, raw, frame->raw_len, stored, frame->stored_len);
	if (ZSTD_isError(got) || got != frame->raw_len)
		return span_error(error, SPAN_ERROR_CORRUPT, "segment frame cannot be decompressed");
	return true;
}
