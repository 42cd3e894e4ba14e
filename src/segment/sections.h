/*-------------------------------------------------------------------------
 *
 * sections.h
 *	  Gathers the sections of an image into frames.
 *
 * Large sections get a frame of their own, so that a reader unpacks only
 * what it needs.  Small ones share frames, because a frame costs a checksum
 * and a start of the compressor; in a compact image all sections do.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_SECTIONS_H
#define TEMPO_SEGMENT_SECTIONS_H

#include "segment/frame.h"

typedef struct Sections
{
	int     zstd_level;
	bool    compact;
	bool    too_large; /* a frame would be; then the image has failed */
	Buffer *out;       /* the image */
	Buffer  frames;    /* of Frame */
	Buffer  entries;   /* of SectionEntry */
	Buffer  shared[2]; /* small sections of the next shared frames: compressible, not */
	size_t  flushed;   /* entries before the last flush */
} Sections;

extern void sections_init(Sections *s, Buffer *out, bool compact, int zstd_level);
extern void sections_free(Sections *s);

/* sections_put: one section; an empty one takes no room and reads back as empty */
extern void sections_put(Sections *s, uint32_t id, const void *data, size_t len, bool compressible);

/* sections_flush: ends the shared frames, for instance after a block */
extern void sections_flush(Sections *s);

/* sections_table: writes frames and sections to the footer */
extern void sections_table(Sections *s, Buffer *footer);

extern bool sections_failed(const Sections *s);

#endif /* TEMPO_SEGMENT_SECTIONS_H */
