/*-------------------------------------------------------------------------
 *
 * image.h
 *	  Constants of the on-disk form, shared by writer and reader.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_IMAGE_H
#define TEMPO_SEGMENT_IMAGE_H

#define IMAGE_MAGIC "TPGS"
#define IMAGE_VERSION 1
#define IMAGE_HEADER_LEN 8		/* magic, version u16, level u8, 0 */

/* trailer: footer frame's codec u8, 3 zero bytes, stored and raw length, crc, crc of the trailer so far, magic */
#define IMAGE_TRAILER_LEN 24

#define IMAGE_BLOCK_ROWS 4096

#endif							/* TEMPO_SEGMENT_IMAGE_H */
