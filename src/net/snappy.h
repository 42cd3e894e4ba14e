/*-------------------------------------------------------------------------
 *
 * snappy.h
 *	  Snappy, framed or as one block, as it arrives.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_NET_SNAPPY_H
#define TEMPO_NET_SNAPPY_H

#include "net/internal.h"

typedef struct NetSnappy NetSnappy;

extern NetSnappy *net_snappy_create(void); /* NULL = no memory */
extern void       net_snappy_destroy(NetSnappy *snappy);

/* See net_decoder_feed and net_decoder_finish; *message is set when the input is corrupt. */
extern NetDecodeResult net_snappy_feed(NetSnappy *snappy, const uint8_t *data, size_t len,
                                       NetBuffer *out, size_t limit, const char **message);
extern NetDecodeResult net_snappy_finish(NetSnappy *snappy, NetBuffer *out, size_t limit, const char **message);
extern size_t          net_snappy_memory(const NetSnappy *snappy);

#endif /* TEMPO_NET_SNAPPY_H */
