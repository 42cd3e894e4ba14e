/*-------------------------------------------------------------------------
 *
 * frame.h
 *	  Frames: the unit of compression and of checksums in an image.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_FRAME_H
#define TEMPO_SEGMENT_FRAME_H

#include "segment/bytes.h"
#include "span/error.h"

/* stored in images: never renumber */
typedef enum FrameCodec
{
	FRAME_STORED = 0,
	FRAME_ZSTD = 1
} FrameCodec;

typedef struct Frame
{
	uint8_t  codec;
	uint32_t raw_len;
	uint32_t stored_len;
	uint32_t crc; /* CRC-32C of the stored bytes */
} Frame;

extern uint32_t crc32c(const void *data, size_t len);

/*
 * frame_write: appends "len" bytes to "out", compressed if that saves enough
 * to be worth the time of decompressing (level 0: never).  False = no memory.
 */
extern bool frame_write(Buffer *out, const void *data, size_t len, int zstd_level, Frame *frame);

/* frame_read: checks the checksum and unpacks into "raw", frame->raw_len bytes */
extern bool frame_read(const Frame *frame, const uint8_t *stored, uint8_t *raw, SpanError *error);

#endif /* TEMPO_SEGMENT_FRAME_H */
