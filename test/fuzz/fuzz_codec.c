/*-------------------------------------------------------------------------
 *
 * fuzz_codec.c
 *	  libFuzzer target: decompresses bytes in pieces, with the codec and the
 *	  size of the pieces chosen by the first two bytes; nothing may come out
 *	  beyond the limit.
 *
 * fuzz-sources: ../../src/net/codec.c ../../src/net/snappy.c -lz -lsnappy
 *
 *-------------------------------------------------------------------------
 */
#include "decoders.h"
#include "net/internal.h"

#define LIMIT 200000

/* These two are in request.c, which needs a server. */
bool
net_buffer_reserve(NetBuffer *buffer, size_t more, size_t limit)
{
	char *data;

	if (more <= buffer->capacity - buffer->len)
		return true;
	data = realloc(buffer->data, buffer->len + more);
	if (data == NULL)
		return false;
	buffer->data = data;
	buffer->capacity = buffer->len + more;
	return true;
}

bool
net_buffer_append(NetBuffer *buffer, const void *data, size_t len)
{
	if (!net_buffer_reserve(buffer, len, 0))
		return false;
	if (len > 0)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return true;
}

void
net_buffer_free(NetBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const NetCodec codecs[] = {NET_CODEC_GZIP, NET_CODEC_DEFLATE, NET_CODEC_ZSTD, NET_CODEC_SNAPPY};
	NetBuffer             out = {NULL, 0, 0, 0};
	NetDecodeResult       result = NET_DECODE_OK;
	NetDecoder           *decoder;
	size_t                piece;

	if (size < 2)
		return 0;
	decoder = net_decoder_create(codecs[data[0] % 4]);
	piece = (size_t) data[1] + 1;
	for (size_t at = 2; at < size && result == NET_DECODE_OK; at += piece)
	{
		result = net_decoder_feed(decoder, data + at, size - at < piece ? size - at : piece, &out, LIMIT);
		if (out.len > LIMIT && result != NET_DECODE_TOO_LARGE)
			abort();
		if (net_decoder_memory(decoder) > 32 * 1024 * 1024)
			abort();
	}
	if (result == NET_DECODE_OK && net_decoder_finish(decoder, &out, LIMIT) == NET_DECODE_OK && out.len > LIMIT)
		abort();
	net_decoder_destroy(decoder);
	net_buffer_free(&out);
	return 0;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const uint8_t framed[] = {3, 9, 0xff, 6, 0, 0, 's', 'N', 'a', 'P', 'p', 'Y', 1, 5, 0, 0, 0, 0, 0, 0, 'a'};
	static const uint8_t block[] = {3, 9, 5, 0x10, 'h', 'e', 'l', 'l', 'o'};
	static const uint8_t gzip[] = {
		0, 9, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0};
	static const uint8_t zstd[] = {2, 9, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 9, 0, 0, 'a'};
	const char          *folder = seeds_folder(*argc, *argv);

	if (folder == NULL)
		return 0;
	write_seed(folder, "framed", framed, sizeof(framed));
	write_seed(folder, "block", block, sizeof(block));
	write_seed(folder, "gzip", gzip, sizeof(gzip));
	write_seed(folder, "zstd", zstd, sizeof(zstd));
	exit(0);
}
