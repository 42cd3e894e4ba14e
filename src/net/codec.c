/*-------------------------------------------------------------------------
 *
 * codec.c
 *	  Decompression of what clients send and compression of what they get.
 *
 * Decoders take the input in pieces as it arrives and stop at a limit of
 * output, so that neither the compressed body nor an inflated bomb is ever
 * held in memory.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"
#include "net/snappy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

/* A frame may ask for this much history at most; zstd -19 wants 8 MB. */
#define ZSTD_WINDOW_LOG_MAX 23

struct NetDecoder
{
	NetCodec      codec;
	z_stream      z;
	bool          z_ready;
	ZSTD_DStream *zstd;
	NetSnappy    *snappy;
	uint8_t       head[2]; /* deflate: the bytes that tell zlib from raw */
	int           n_head;
	bool          any_input;
	bool          at_end; /* a member or frame ended with the last byte */
	const char   *message;
};

NetCodec
net_codec_by_name(const char *name)
{
	if (strcasecmp(name, "identity") == 0 || name[0] == '\0')
		return NET_CODEC_IDENTITY;
	if (strcasecmp(name, "gzip") == 0 || strcasecmp(name, "x-gzip") == 0)
		return NET_CODEC_GZIP;
	if (strcasecmp(name, "deflate") == 0 || strcasecmp(name, "zlib") == 0)
		return NET_CODEC_DEFLATE;
	if (strcasecmp(name, "zstd") == 0)
		return NET_CODEC_ZSTD;
	if (strcasecmp(name, "snappy") == 0 || strcasecmp(name, "x-snappy-framed") == 0)
		return NET_CODEC_SNAPPY;
	return NET_CODEC_UNKNOWN;
}

NetDecoder *
net_decoder_create(NetCodec codec)
{
	NetDecoder *decoder = calloc(1, sizeof(NetDecoder));

	if (decoder == NULL)
		return NULL;
	decoder->codec = codec;
	decoder->message = "unexpected EOF";
	if (codec == NET_CODEC_GZIP)
		decoder->z_ready = inflateInit2(&decoder->z, 15 + 16) == Z_OK;
	else if (codec == NET_CODEC_ZSTD)
	{
		decoder->zstd = ZSTD_createDStream();
		if (decoder->zstd != NULL)
			ZSTD_DCtx_setParameter(decoder->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	}
	else if (codec == NET_CODEC_SNAPPY)
		decoder->snappy = net_snappy_create();
	if ((codec == NET_CODEC_GZIP && !decoder->z_ready) || (codec == NET_CODEC_SNAPPY && decoder->snappy == NULL) ||
	    (codec == NET_CODEC_ZSTD && decoder->zstd == NULL))
	{
		net_decoder_destroy(decoder);
		return NULL;
	}
	return decoder;
}

void
net_decoder_destroy(NetDecoder *decoder)
{
	if (decoder == NULL)
		return;
	if (decoder->z_ready)
		inflateEnd(&decoder->z);
	if (decoder->zstd != NULL)
		ZSTD_freeDStream(decoder->zstd);
	net_snappy_destroy(decoder->snappy);
	free(decoder);
}

const char *
net_decoder_message(const NetDecoder *decoder)
{
	return decoder->message;
}

size_t
net_decoder_memory(const NetDecoder *decoder)
{
	if (decoder->snappy != NULL)
		return net_snappy_memory(decoder->snappy);
	/* zlib has 32 kB of history and its tables */
	return decoder->zstd != NULL ? ZSTD_sizeof_DStream(decoder->zstd) : 44 * 1024;
}

/*
 * make_room: space for output.  One byte beyond the limit is allowed: only by
 * producing it do we learn that there is more.
 */
static bool
make_room(NetBuffer *out, size_t len, size_t limit, size_t *room)
{
	size_t want = len < 4096 ? 4096 : len * 4;

	if (want > 1024 * 1024)
		want = 1024 * 1024;
	if (want > limit + 1 - out->len)
		want = limit + 1 - out->len;
	if (out->capacity - out->len < want && !net_buffer_reserve(out, want, limit + 1))
		return false;
	*room = out->capacity - out->len;
	if (*room > limit + 1 - out->len)
		*room = limit + 1 - out->len;
	return true;
}

static NetDecodeResult
feed_zlib(NetDecoder *decoder, const uint8_t *data, size_t len, NetBuffer *out, size_t limit)
{
	z_stream *z = &decoder->z;
	bool      more = true;

	z->next_in = (Bytef *) data;
	z->avail_in = len;
	while (z->avail_in > 0 || more)
	{
		size_t room;
		size_t had;
		int    rc;

		if (decoder->at_end)
		{
			if (z->avail_in == 0)
				break;
			/* another gzip member; anything else after the end is garbage */
			if (decoder->codec != NET_CODEC_GZIP || inflateReset(z) != Z_OK)
			{
				decoder->message = "data after the end of the compressed stream";
				return NET_DECODE_CORRUPT;
			}
			decoder->at_end = false;
		}
		if (!make_room(out, z->avail_in, limit, &room))
			return NET_DECODE_NO_MEMORY;
		had = room;
		z->next_out = (Bytef *) out->data + out->len;
		z->avail_out = room;
		rc = inflate(z, Z_NO_FLUSH);
		out->len += had - z->avail_out;
		if (out->len > limit)
			return NET_DECODE_TOO_LARGE;
		more = z->avail_out == 0;
		if (rc == Z_STREAM_END)
		{
			decoder->at_end = true;
			more = false;
		}
		else if (rc == Z_BUF_ERROR)
			break;
		else if (rc == Z_MEM_ERROR)
			return NET_DECODE_NO_MEMORY;
		else if (rc != Z_OK)
		{
			/* zlib's texts are constants */
			decoder->message = z->msg != NULL ? z->msg : "invalid compressed data";
			return NET_DECODE_CORRUPT;
		}
	}
	return NET_DECODE_OK;
}

/*
 * feed_deflate: HTTP says zlib, some clients send it raw.  A zlib stream
 * starts with a method of 8 and a check value over its two first bytes.
 */
static NetDecodeResult
feed_deflate(NetDecoder *decoder, const uint8_t *data, size_t len, NetBuffer *out, size_t limit)
{
	if (!decoder->z_ready)
	{
		NetDecodeResult result;
		bool            is_zlib;

		while (decoder->n_head < 2 && len > 0)
		{
			decoder->head[decoder->n_head++] = *data++;
			len--;
		}
		if (decoder->n_head < 2)
			return NET_DECODE_OK;
		is_zlib = (decoder->head[0] & 15) == 8 && (decoder->head[0] * 256 + decoder->head[1]) % 31 == 0;
		if (inflateInit2(&decoder->z, is_zlib ? 15 : -15) != Z_OK)
			return NET_DECODE_NO_MEMORY;
		decoder->z_ready = true;
		result = feed_zlib(decoder, decoder->head, 2, out, limit);
		if (result != NET_DECODE_OK)
			return result;
	}
	return len > 0 ? feed_zlib(decoder, data, len, out, limit) : NET_DECODE_OK;
}

static NetDecodeResult
feed_zstd(NetDecoder *decoder, const uint8_t *data, size_t len, NetBuffer *out, size_t limit)
{
	ZSTD_inBuffer in = {data, len, 0};
	bool          more = true;

	while (in.pos < in.size || more)
	{
		ZSTD_outBuffer to;
		size_t         room;
		size_t         rc;

		if (!make_room(out, in.size - in.pos, limit, &room))
			return NET_DECODE_NO_MEMORY;
		to.dst = out->data + out->len;
		to.size = room;
		to.pos = 0;
		if (in.pos == in.size && decoder->at_end)
			break;
		rc = ZSTD_decompressStream(decoder->zstd, &to, &in);
		if (ZSTD_isError(rc))
		{
			decoder->message = ZSTD_getErrorName(rc);
			return NET_DECODE_CORRUPT;
		}
		out->len += to.pos;
		if (out->len > limit)
			return NET_DECODE_TOO_LARGE;
		decoder->at_end = rc == 0;
		more = to.pos == to.size && !decoder->at_end;
	}
	return NET_DECODE_OK;
}

NetDecodeResult
net_decoder_feed(NetDecoder *decoder, const void *data, size_t len, NetBuffer *out, size_t limit)
{
	if (len == 0)
		return NET_DECODE_OK;
	decoder->any_input = true;
	switch (decoder->codec)
	{
		case NET_CODEC_GZIP:
			return feed_zlib(decoder, data, len, out, limit);
		case NET_CODEC_DEFLATE:
			return feed_deflate(decoder, data, len, out, limit);
		case NET_CODEC_ZSTD:
			return feed_zstd(decoder, data, len, out, limit);
		case NET_CODEC_SNAPPY:
			return net_snappy_feed(decoder->snappy, data, len, out, limit, &decoder->message);
		default:
			return NET_DECODE_CORRUPT;
	}
}

NetDecodeResult
net_decoder_finish(NetDecoder *decoder, NetBuffer *out, size_t limit)
{
	if (decoder->codec == NET_CODEC_SNAPPY && decoder->any_input)
		return net_snappy_finish(decoder->snappy, out, limit, &decoder->message);
	if (decoder->any_input && decoder->at_end)
		return NET_DECODE_OK;
	decoder->message = "unexpected EOF";
	return NET_DECODE_CORRUPT;
}

/* --------------------------------------------------------------- answers */

char *
net_gzip(const void *data, size_t len, size_t *outlen)
{
	z_stream z;
	char    *out;
	size_t   bound;
	int      rc;

	memset(&z, 0, sizeof(z));
	if (len > UINT32_MAX / 2 || deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	/* if it would not get smaller, we do not want it */
	bound = len;
	out = malloc(bound);
	if (out == NULL)
	{
		deflateEnd(&z);
		return NULL;
	}
	z.next_in = (Bytef *) data;
	z.avail_in = len;
	z.next_out = (Bytef *) out;
	z.avail_out = bound;
	rc = deflate(&z, Z_FINISH);
	*outlen = bound - z.avail_out;
	deflateEnd(&z);
	if (rc != Z_STREAM_END)
	{
		free(out);
		return NULL;
	}
	return out;
}

/* q_is_zero: do the parameters after a coding say "never"? */
static bool
q_is_zero(const char *params, size_t len)
{
	const char *end = params + len;
	const char *p = params;

	while (p < end && (*p == ' ' || *p == '\t' || *p == ';'))
		p++;
	if (end - p < 3 || (p[0] != 'q' && p[0] != 'Q') || p[1] != '=' || p[2] != '0')
		return false;
	for (p += 3; p < end; p++)
		if (*p >= '1' && *p <= '9')
			return false;
	return true;
}

bool
net_accepts_gzip(const char *accept)
{
	bool star = false;

	if (accept == NULL)
		return false;
	while (*accept != '\0')
	{
		size_t item = strcspn(accept, ",");
		size_t skip = strspn(accept, " \t");
		size_t name = skip < item ? strcspn(accept + skip, ";, \t") : 0;
		bool   zero = skip < item && q_is_zero(accept + skip + name, item - skip - name);

		if ((name == 4 && strncasecmp(accept + skip, "gzip", 4) == 0) ||
		    (name == 6 && strncasecmp(accept + skip, "x-gzip", 6) == 0))
			return !zero;
		if (name == 1 && accept[skip] == '*')
			star = !zero;
		accept += item;
		if (*accept == ',')
			accept++;
	}
	return star;
}
