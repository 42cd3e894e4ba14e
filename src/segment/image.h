/*-------------------------------------------------------------------------
 *
 * image.h
 *	  Constants of the on-disk form, shared by writer and reader.  README.md
 *	  in this folder describes it.  All numbers here are stored: a change of
 *	  meaning needs a new IMAGE_VERSION.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_IMAGE_H
#define TEMPO_SEGMENT_IMAGE_H

#define IMAGE_MAGIC "TPGS"
#define IMAGE_VERSION 1
#define IMAGE_HEADER_LEN 8
#define IMAGE_TRAILER_LEN 24

/* rows whose columns are encoded together */
#define IMAGE_BLOCK_ROWS 16384

/* entries of the trace index that are read together */
#define TRACE_CHUNK 256

/* attribute keys beyond this many share the overflow column, as rare keys do */
#define MAX_KEY_COLUMNS 1024

/* The tables: rows with a shape and typed columns. */
typedef enum TableId
{
	TABLE_SPAN = 0,
	TABLE_EVENT = 1,
	TABLE_LINK = 2
} TableId;
#define N_TABLES 3

/* Fields of a shape beside its columns: scope, name, kind and status of spans; unused otherwise. */
#define SHAPE_FIELDS 4

/*
 * Columns that hold fields rather than attributes.  They have these numbers
 * in every segment; attribute columns follow.
 */
typedef enum FieldColumn
{
	FIELD_PARENT_DISTANCE = 0, /* row minus parent's row, same trace and block */
	FIELD_PARENT_ID,           /* any other parent */
	FIELD_STATUS_MESSAGE,
	FIELD_TRACE_STATE,
	FIELD_FLAGS,
	FIELD_DROPPED_ATTRIBUTES,
	FIELD_DROPPED_EVENTS,
	FIELD_DROPPED_LINKS,
	FIELD_N_EVENTS,
	FIELD_N_LINKS,
	FIELD_SPAN_OVERFLOW,
	FIELD_EVENT_NAME,
	FIELD_EVENT_DROPPED,
	FIELD_EVENT_OVERFLOW,
	FIELD_LINK_TRACE_STATE,
	FIELD_LINK_FLAGS,
	FIELD_LINK_DROPPED,
	FIELD_LINK_OVERFLOW,
	N_FIELD_COLUMNS
} FieldColumn;

typedef struct FieldColumnType
{
	unsigned char table; /* TableId */
	unsigned char type;  /* AnyValueType */
} FieldColumnType;

extern const FieldColumnType field_columns[N_FIELD_COLUMNS];

/* What a section holds.  A section's number is stream << 16 | block (or chunk). */
typedef enum Stream
{
	STREAM_STRINGS = 1,
	STREAM_RESOURCES = 2,
	STREAM_SCOPES = 3,
	STREAM_COLUMNS = 4,
	STREAM_SHAPES = 5,         /* + table */
	STREAM_OVERFLOW_BLOOM = 8, /* + table */
	STREAM_TRACE_INDEX = 11,   /* by chunk */
	STREAM_ROW_SHAPES = 12,    /* + table, by block, as are all that follow */
	STREAM_RUNS = 15,          /* traces of the block */
	STREAM_SPAN_IDS = 16,
	STREAM_STARTS = 17,      /* and 18, the bits */
	STREAM_DURATIONS = 19,   /* and 20 */
	STREAM_EVENT_TIMES = 21, /* and 22 */
	STREAM_LINK_IDS = 23,
	STREAM_FIRST_COLUMN = 32 /* + 4 * column + COLUMN_... */
} Stream;

#define COLUMN_DATA 0
#define COLUMN_PAYLOAD 1
#define COLUMN_DICTIONARY 2 /* block 0 */
#define COLUMN_BLOOM 3      /* block 0 */

#define SECTION(stream, block) ((uint32_t) (stream) << 16 | (block))
#define COLUMN_STREAM(column, part) (STREAM_FIRST_COLUMN + 4 * (column) + (part))
#define MAX_COLUMNS 16000

/* First byte of COLUMN_DATA and of the streams of numbers. */
typedef enum Encoding
{
	ENCODING_CODES = 1,   /* dictionary codes in byte planes */
	ENCODING_BYTES = 2,   /* numbers: minimum, then one byte each */
	ENCODING_BITS = 3,    /* numbers: bit lengths in data, the bits in payload */
	ENCODING_PLANES = 4,  /* numbers: eight byte planes */
	ENCODING_FIXED = 5,   /* text of one length */
	ENCODING_LENGTHS = 6, /* text: lengths in data, bytes in payload */
	ENCODING_UUID = 7,    /* canonical lower-case UUIDs, 16 bytes each in payload */
	ENCODING_HEX = 8,     /* lower-case hexadecimal text of one even length, packed */
	ENCODING_LOCAL = 9    /* text: codes of a dictionary of the block, then its entries as another encoding */
} Encoding;

#endif /* TEMPO_SEGMENT_IMAGE_H */
