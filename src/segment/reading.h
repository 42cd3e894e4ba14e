/*-------------------------------------------------------------------------
 *
 * reading.h
 *	  What the files of the segment reader share.
 *
 * reader.c opens an image and hands out sections, schema.c loads what
 * describes the rows, block.c loads one block of columns, marks.c finds a row in
 * it, decoding.h and its files make spans of them, lists.c answers what keys and values there are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_READING_H
#define TEMPO_SEGMENT_READING_H

#include "segment/frame.h"
#include "segment/image.h"
#include "segment/reader.h"

typedef struct FrameRef
{
	Frame    frame;
	uint64_t offset; /* in the image */
	uint8_t *raw;    /* unpacked, or NULL */
	bool     keep;   /* not only for a block: until the reader is closed, or */
	bool     spare;  /* until segment_forget_frames() */
	bool     used;   /* since that looked at it */
	uint32_t block;  /* of a spare frame: whose columns it holds */
} FrameRef;

typedef struct SectionRef
{
	uint32_t id;
	uint32_t frame;
	uint32_t offset;
	uint32_t len;
} SectionRef;

/* bytes of a section; followed by PACK_SLACK readable bytes */
typedef struct Section
{
	const uint8_t *data;
	uint32_t       len;
} Section;

typedef enum ColumnForm
{
	FORM_CODES,
	FORM_NUMBERS,
	FORM_FIXED,
	FORM_LENGTHS,
	FORM_UUID,
	FORM_HEX
} ColumnForm;

typedef struct ReadColumn
{
	uint8_t   table;
	uint8_t   type; /* AnyValueType */
	bool      field;
	bool      coded;
	bool      complete; /* the dictionary has every value */
	uint32_t  key;      /* string number */
	uint32_t  n_dictionary;
	AnyValue *dictionary; /* loaded on demand */

	/* copies of dictionary entries in the batch that has this generation; data is NULL until copied */
	AnyValue *copies;
	uint64_t  copies_generation;

	/* the current block */
	uint32_t    n_values;
	bool        loaded;
	ColumnForm  form;
	uint32_t   *codes;
	int64_t    *numbers;
	bool        local;        /* codes are of the block's own dictionary */
	uint32_t    n_texts;      /* n_values, or entries of the block's dictionary */
	uint32_t   *offsets;      /* n_texts + 1 */
	AnyValue   *local_copies; /* in the batch, by code */
	uint32_t    fixed_len;
	Section     payload;
	const char *payload_copy; /* in the batch, or NULL */
	uint32_t    cursor;       /* next value */

	/* if not loaded: there are only the values base .. limit - 1 */
	uint32_t base;
	uint32_t limit;
	uint32_t until;      /* where the rows that are being decoded end */
	uint32_t part_loads; /* how often some were loaded */

	/* the current projection */
	bool     wanted;
	uint32_t key_id; /* in the batch */
} ReadColumn;

typedef struct ReadShape
{
	uint32_t        fields[SHAPE_FIELDS];
	uint32_t        n_items;
	const uint8_t  *bytes; /* of the items, in the section */
	uint32_t        len;
	const uint32_t *columns;   /* NULL until segment_load_shape() */
	const uint32_t *constants; /* dictionary index + 1, or 0 if it varies */
	const uint32_t *values;    /* columns of the items that vary */
	uint32_t        n_values;
	uint32_t        events_at; /* item FIELD_N_EVENTS, or UINT32_MAX */
	uint32_t        links_at;
	struct Template *template; /* for the current projection and batch */
	uint32_t *varying;         /* for the current projection: columns with a value for each row; NULL = not known */
	uint32_t  n_varying;
} ReadShape;

typedef struct ReadTable
{
	ReadShape *shapes;
	uint32_t   n_shapes;

	/* the current block */
	bool      loaded;
	uint32_t *row_shapes;  /* NULL: not yet */
	uint32_t *histogram;   /* rows of each shape; NULL: not counted */
	uint32_t *seek_counts; /* the same, while seeking */
	uint32_t  n_rows;
	uint32_t  next; /* row that the columns' cursors stand at */
} ReadTable;

/* rows of one trace in a block */
typedef struct ReadRun
{
	uint32_t rank;  /* of the trace in the trace index */
	uint32_t first; /* row in the block */
	uint32_t count;
	int64_t  base; /* start time of its first row */
} ReadRun;

typedef struct RareKey
{
	uint8_t  table;
	uint8_t  types;
	uint32_t key; /* string number */
} RareKey;

/* What is kept of a block after the next one was loaded; NULL if not. */
typedef struct HotBlock
{
	uint32_t *row_shapes; /* of spans */
	int64_t  *starts;
	int64_t  *durations;
	uint32_t *marks;
} HotBlock;

/* where the values of a key are */
typedef struct KeyColumns
{
	uint32_t       *columns;
	uint32_t        n_columns;
	bool            listed;
	const AnyValue *values;
} KeyColumns;

struct SegmentReader
{
	SegmentSource source;
	SpanAllocator allocator;
	Arena         arena; /* what lives as long as the reader */

	/* footer */
	SegmentSummary  summary;
	RequestHash    *hashes;
	uint32_t        n_hashes;
	uint32_t        n_blocks;
	int64_t        *zones;  /* min start, max start, max duration of each block */
	uint8_t        *fences; /* first 8 bytes of each chunk of the trace index */
	uint32_t        n_chunks;
	FrameRef       *frames;
	uint32_t        n_frames;
	SectionRef     *sections;
	uint32_t        n_sections;
	const uint8_t **chunk_ids; /* trace ids of the chunks loaded so far */

	/* schema, loaded on demand */
	bool          schema_loaded;
	SpanText     *strings; /* [0] is the empty string */
	uint32_t      n_strings;
	SpanResource *resources; /* string numbers of this segment, not ids of a batch */
	uint32_t      n_resources;
	SpanScope    *scopes;
	uint32_t      n_scopes;
	ReadColumn   *columns;
	uint32_t      n_columns;
	RareKey      *rare;
	uint32_t      n_rare;
	ReadTable     tables[N_TABLES];

	/* current block */
	Arena     block_arena;
	uint32_t  block;        /* UINT32_MAX = none */
	uint64_t  block_serial; /* counts loads: a block may be loaded again */
	uint32_t  block_rows;
	uint32_t  part_loads; /* how often some start times were loaded */
	bool      runs_loaded;
	ReadRun  *runs;
	uint32_t  n_runs;
	int64_t  *starts;
	int64_t  *durations;
	int64_t  *event_times;
	Section   span_ids;
	Section   link_ids;
	uint32_t *marks; /* NULL: not yet; see marks.c */

	/* what is kept of blocks */
	HotBlock       *hot; /* by block; NULL until there is any */
	HotBlock        not_hot;
	size_t          hot_used;
	size_t          hot_limit;
	bool            keep_frames; /* while a few rows are decoded */
	size_t          frames_used; /* bytes of spare frames */
	size_t          frames_limit;
	uint32_t        frames_hand; /* which one segment_forget_frames() looks at next */
	SegmentCounters counters;

	/* what the test asked last has decided */
	Arena             selection_arena;
	Arena             value_arena; /* of single values */
	struct Selection *selection;

	/* current projection and batch */
	Arena     projection_arena;
	uint64_t  generation; /* 0 = none */
	uint32_t  parts;
	SpanText *keys;
	uint32_t  n_keys;
	bool      overflow_wanted;
	uint32_t *batch_scopes; /* SPAN_BATCH_NONE = not yet */
	uint32_t *batch_strings;

	/* lists */
	SegmentKey *keys_listed;
	KeyColumns *key_columns;
	uint32_t    n_keys_listed;
	SpanText   *names;
	uint32_t    n_names;
	SpanText   *tenants;
	uint32_t    n_tenants;
};

/* Set the error and return false. */
extern bool segment_corrupt(SpanError *error, const char *what);
extern bool segment_no_memory(SpanError *error);

/* segment_section: unpacks the frame if need be; a missing section has len 0 */
extern bool segment_section(SegmentReader *r, uint32_t id, bool keep, Section *section, SpanError *error);

/* segment_drop_block_frames: frees what segment_section() unpacked without "keep" */
extern void segment_drop_block_frames(SegmentReader *r);

/* segment_trace_id: by rank in the trace index */
extern bool segment_trace_id(SegmentReader *r, uint32_t rank, TraceId *id, SpanError *error);

/* schema.c */
extern bool segment_load_schema(SegmentReader *r, SpanError *error);

/* segment_load_shape: the shape's items; a block has but a few of all shapes */
extern bool segment_load_shape(SegmentReader *r, TableId table, ReadShape *shape, SpanError *error);
extern bool segment_load_dictionary(SegmentReader *r, uint32_t column, SpanError *error);

/* block.c: each does nothing if it is done already */
extern void segment_load_block(SegmentReader *r, uint32_t block);
extern bool segment_load_runs(SegmentReader *r, SpanError *error);
/*
 * segment_hot_block: the current block's place for what is kept; the same empty
 * one for all if nothing is
 */
extern HotBlock *segment_hot_block(SegmentReader *r);

/*
 * segment_decoded_memory: for what is decoded of the current block; the reader's,
 * where the next one who looks at the block finds it in *place, or if that is used up
 * the block's.  segment_forget_decoded: what was decoded is not good.
 */
extern void *segment_decoded_memory(SegmentReader *r, size_t size, void **place);
extern void  segment_forget_decoded(SegmentReader *r, void **place);

/* segment_run_of: the run that has the row */
extern uint32_t segment_run_of(const SegmentReader *r, uint32_t row);
extern bool     segment_load_row_shapes(SegmentReader *r, TableId table, SpanError *error);

/* segment_count_shapes: the same, and how many rows each shape has */
extern bool segment_count_shapes(SegmentReader *r, TableId table, SpanError *error);

/* segment_load_rows: the same, with all shapes that occur, and counts the values of columns */
extern bool segment_load_rows(SegmentReader *r, TableId table, SpanError *error);
extern bool segment_load_column(SegmentReader *r, uint32_t column, SpanError *error);
extern bool segment_load_starts(SegmentReader *r, SpanError *error);
extern bool segment_load_durations(SegmentReader *r, SpanError *error);
extern bool segment_load_event_times(SegmentReader *r, SpanError *error);

/* segment_load_values: of a column at least those from its cursor to where the rows that are being decoded end */
extern bool segment_load_values(SegmentReader *r, uint32_t column, SpanError *error);

/* segment_expect_rows: the cursors stand at row "first"; notes for each column where they stand behind row end - 1 */
extern bool segment_expect_rows(SegmentReader *r, uint32_t first, uint32_t end, SpanError *error);

/* segment_some_times: start times and, if wanted, durations of rows first .. end - 1 */
extern bool segment_some_times(SegmentReader *r, uint32_t first, uint32_t end, bool want_durations,
                               const int64_t **starts, const int64_t **durations, SpanError *error);

/* segment_seek: sets the cursors of the columns of the projection, in the table, to "row" of the block */
extern bool segment_seek(SegmentReader *r, TableId table, uint32_t row, SpanError *error);

/* marks.c */

/* segment_load_marks: instead of segment_load_rows() of spans: their shapes, and how many values columns have */
extern bool segment_load_marks(SegmentReader *r, SpanError *error);

/*
 * segment_seek_by_marks: sets the cursors of spans to a row at or before "row",
 * which has that many events and links before it
 */
extern void segment_seek_by_marks(SegmentReader *r, uint32_t row, uint32_t *events, uint32_t *links);

#endif /* TEMPO_SEGMENT_READING_H */
