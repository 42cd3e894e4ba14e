/*-------------------------------------------------------------------------
 *
 * reader.h
 *	  Reads segments: footer, trace-id index, projected columns, key lists.
 *
 * The reader asks for byte ranges through a callback, so it touches only the
 * pages of the columns that are needed.  Every length in an image is hostile:
 * a damaged image gives SPAN_ERROR_CORRUPT, never a crash or an allocation
 * beyond what the rows can justify.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_READER_H
#define TEMPO_SEGMENT_READER_H

#include "segment/vector.h"
#include "segment/writer.h"

typedef struct SegmentSource
{
	/* copies bytes offset .. offset + len - 1 of the image; false = cannot */
	bool (*read)(void *arg, uint64_t offset, void *dst, size_t len);
	void    *arg;
	uint64_t size; /* bytes of the image */
} SegmentSource;

/* segment_source_memory: a source over an image in memory ("range" must outlive it) */
typedef struct SegmentMemory
{
	const uint8_t *data;
	size_t         size;
} SegmentMemory;
extern SegmentSource segment_source_memory(const SegmentMemory *range);

typedef struct SegmentReader SegmentReader;

/*
 * Which parts of a span to decode.  Parts not asked for are zero in the
 * decoded spans; scope always is a valid index, but scopes and resources have
 * attributes only if SEGMENT_RESOURCE or SEGMENT_SCOPE asked for them.
 */
#define SEGMENT_TRACE_ID (1U << 0)
#define SEGMENT_SPAN_ID (1U << 1)
#define SEGMENT_PARENT (1U << 2)
#define SEGMENT_START (1U << 3)
#define SEGMENT_END (1U << 4) /* implies START */
#define SEGMENT_NAME (1U << 5)
#define SEGMENT_KIND (1U << 6)
#define SEGMENT_STATUS (1U << 7)
#define SEGMENT_STATUS_MESSAGE (1U << 8)
#define SEGMENT_TRACE_STATE (1U << 9)
#define SEGMENT_FLAGS (1U << 10)
#define SEGMENT_DROPPED (1U << 11)    /* the span's three dropped_*_count */
#define SEGMENT_RESOURCE (1U << 12)   /* whole resources, service.name and schema_url too */
#define SEGMENT_SCOPE (1U << 13)      /* whole scopes */
#define SEGMENT_ATTRIBUTES (1U << 14) /* all span attributes */
#define SEGMENT_EVENTS (1U << 15)
#define SEGMENT_LINKS (1U << 16)
#define SEGMENT_TENANT (1U << 17) /* the resource's tenant */
#define SEGMENT_ALL ((1U << 18) - 1)

typedef struct SegmentProjection
{
	uint32_t parts;
	/*
	 * Without SEGMENT_ATTRIBUTES: only the span attributes with these keys
	 * are decoded (all occurrences, in order).
	 */
	const SpanText *keys;
	uint32_t        n_keys;
} SegmentProjection;

/* Where an attribute stands; the numbers are stored in footers. */
typedef enum AttributeScope
{
	ATTRIBUTE_SPAN = 0,
	ATTRIBUTE_RESOURCE = 1,
	ATTRIBUTE_SCOPE = 2, /* instrumentation scope */
	ATTRIBUTE_EVENT = 3,
	ATTRIBUTE_LINK = 4
} AttributeScope;

typedef struct SegmentKey
{
	AttributeScope scope;
	SpanText       key;
	uint32_t       types;           /* bit (1 << AnyValueType) for every type seen */
	uint32_t       n_values;        /* distinct values if values_complete, else 0 */
	bool           values_complete; /* the footer lists every distinct value */
} SegmentKey;

/*
 * segment_open: reads header and footer.  NULL with *error set if they are
 * damaged or of an unknown version.  The source's callback and the allocator
 * are used until segment_close().
 */
extern SegmentReader *segment_open(const SegmentSource *source, const SpanAllocator *allocator, SpanError *error);
extern void           segment_close(SegmentReader *reader);

extern const SegmentSummary *segment_summary(const SegmentReader *reader);

/* The hashes of the requests inside; only level-0 segments have any. */
extern const RequestHash *segment_request_hashes(const SegmentReader *reader, uint32_t *count);

/*
 * segment_find_trace: the rows of one trace, which are contiguous.  Returns
 * true with *count = 0 if the segment has none; false only on damage.
 */
extern bool segment_find_trace(SegmentReader *reader, const TraceId *trace_id,
                               uint32_t *first_row, uint32_t *count, SpanError *error);

/*
 * segment_decode: appends rows first .. first + count - 1 to "batch", in row
 * order, copying all they need into the batch's arena.  On failure the batch
 * has the spans it had before.
 */
extern bool segment_decode(SegmentReader *reader, const SegmentProjection *projection,
                           uint32_t first, uint32_t count, SpanBatch *batch, SpanError *error);

/* segment_decode_rows: the same for some rows, in ascending order */
extern bool segment_decode_rows(SegmentReader *reader, const SegmentProjection *projection,
                                const uint32_t *rows, uint32_t n, SpanBatch *batch, SpanError *error);

/* The type of an attribute of a prototype that has another value in each span. */
#define SEGMENT_VARIES UINT8_MAX

typedef enum SegmentConditionType
{
	SEGMENT_ALL_OF, /* AND */
	SEGMENT_ANY_OF, /* OR */
	SEGMENT_NOT,
	SEGMENT_BY_SHAPE,    /* on what all spans of a shape have */
	SEGMENT_BY_TENANT,   /* of_fields tells by the tenant alone; it may not fail */
	SEGMENT_BY_PRESENCE, /* on which attributes a span has, or such of a shape */
	SEGMENT_BY_VALUE,    /* on the first attribute under a key, or on a field */
	SEGMENT_BY_START,    /* min <= time <= max, or not */
	SEGMENT_BY_DURATION,
	SEGMENT_BY_END,
	SEGMENT_BY_PARENT, /* the span has a parent, or not */
	SEGMENT_BY_EVENTS, /* the span has events, or not */
	SEGMENT_BY_LINKS,
	SEGMENT_BY_EVENT_NAME, /* of_value is true of the name of an event; it may not fail */
	SEGMENT_BY_SPAN        /* cannot be decided here */
} SegmentConditionType;

typedef struct SegmentCondition SegmentCondition;

/* What all spans of a shape have, as it lies in the segment. */
typedef struct SegmentFields
{
	SpanText      name;
	int32_t       kind;
	int32_t       status;
	SpanText      scope_name;
	SpanText      scope_version;
	SpanText      tenant;
	AttributeList resource;
} SegmentFields;

/* An answer of of_fields: ask of_shape. */
#define SEGMENT_NOT_TOLD 0x80

/*
 * A condition on spans, decided for whole vectors of rows without decoding
 * them.  Results are truth values (see vector.h), callbacks may say "undecided".
 *
 * Spans have one of few shapes: same scope, name, kind, status and attribute
 * keys, and the same value under some of those.  "of_shape" is asked at most
 * once per shape and test: the prototype has what all spans of the shape have
 * (of what the projection asks for), and zero elsewhere; attributes that vary
 * are there with type SEGMENT_VARIES.  Of its fields only those four and
 * constant texts are meaningful.  "of_value" is asked about the values of
 * attributes that vary, at most once per dictionary entry.  A prototype has to be
 * made, where "of_fields" is asked about what is there.
 */
struct SegmentCondition
{
	SegmentConditionType    type;
	const SegmentCondition *children;
	uint32_t                n_children;

	/* an error may leave the callbacks: not to be asked unless the span gets as far */
	bool may_fail;
	uint8_t (*of_fields)(void *arg, const SegmentFields *fields); /* BY_SHAPE, BY_TENANT: asked first; may be NULL */
	uint8_t (*of_shape)(void *arg, SpanBatch *batch, const Span *prototype);
	uint8_t (*of_value)(void *arg, const AnyValue *value);
	void *arg;

	SpanText key;  /* BY_VALUE, BY_PRESENCE: of the attribute */
	uint32_t part; /* BY_VALUE: instead of it SEGMENT_STATUS_MESSAGE; 0 = attribute */

	bool    negate; /* times, parent, events, links */
	int64_t min;
	int64_t max;
};

/* Conditions that must all be true; tests with the same serial are the same. */
typedef struct SegmentTest
{
	uint64_t                serial; /* never 0 */
	const SegmentCondition *conditions;
	uint32_t                n_conditions;
} SegmentTest;

/*
 * segment_select: which of the rows first .. first + count - 1 pass.  "rows" has
 * a byte (ROW_OUT, ROW_MAYBE, ROW_IN) for each: those that are out already are
 * not looked at; afterwards ROW_IN passes, ROW_MAYBE must be decoded to be
 * decided.  The projection is what of_shape wants to see.  Room for
 * vector_size(count) bytes.
 *
 * Conditions are asked in an order of the reader's choice, but one that may
 * fail only about spans for which all conditions before it are true.
 */
extern bool segment_select(SegmentReader *reader, const SegmentProjection *projection,
                           uint32_t first, uint32_t count, const SegmentTest *test,
                           SpanBatch *batch, uint8_t *rows, SpanError *error);

/*
 * segment_keep: lets the reader keep up to that many bytes more of columns that
 * it has unpacked, for who asks again.
 */
extern void segment_keep(SegmentReader *reader, size_t bytes);

/*
 * segment_keep_frames: lets the reader keep up to that many bytes, in all, of
 * what it unpacks to decode a few rows.  segment_forget_frames: frees at least
 * that many of them, if there are so many, those used longest ago first;
 * returns how many.  segment_kept_frames: how many there are.
 */
extern void   segment_keep_frames(SegmentReader *reader, size_t bytes);
extern size_t segment_forget_frames(SegmentReader *reader, size_t bytes);
extern size_t segment_kept_frames(const SegmentReader *reader);

/* segment_interrupted: the source's callback was left by an error, whose reader goes on with others */
extern void segment_interrupted(SegmentReader *reader);

/* What a reader has done since it was opened. */
typedef struct SegmentCounters
{
	uint64_t columns;      /* columns of a block unpacked, and times */
	uint64_t columns_kept; /* found unpacked */
	uint64_t values_asked; /* calls of of_shape and of_value */
} SegmentCounters;
extern const SegmentCounters *segment_counters(const SegmentReader *reader);

/*
 * segment_block_rows: the number of rows that are encoded together; decoding
 * aligned runs of that length never decodes a frame twice.
 */
extern uint32_t segment_block_rows(const SegmentReader *reader);

/*
 * segment_block_times: zone map of the aligned run that starts at row "first":
 * smallest and largest start time and largest duration.
 */
extern bool segment_block_times(SegmentReader *reader, uint32_t first, int64_t *min_start,
                                int64_t *max_start, int64_t *max_duration, SpanError *error);

/* segment_row_start: the start time of one row */
extern bool segment_row_start(SegmentReader *reader, uint32_t row, int64_t *start, SpanError *error);

/*
 * segment_trace_end: the row behind those of the trace that "row" belongs to, or
 * behind the block if it ends before.
 */
extern bool segment_trace_end(SegmentReader *reader, uint32_t row, uint32_t *end, SpanError *error);

/* The attribute keys of the segment, all scopes, sorted by (scope, key). */
extern bool segment_keys(SegmentReader *reader, const SegmentKey **keys, uint32_t *count, SpanError *error);

/*
 * segment_key_values: the distinct values under keys[i], complete only if its
 * values_complete is set.  Valid until segment_close().
 */
extern bool segment_key_values(SegmentReader *reader, uint32_t i, const AnyValue **values,
                               uint32_t *count, SpanError *error);

/*
 * segment_may_contain: false only if no value under (scope, key) in the
 * segment equals "value" (value sets and Bloom filters).  value = NULL asks
 * for the key alone.  Numbers of different types are compared numerically.
 */
extern bool segment_may_contain(SegmentReader *reader, AttributeScope scope, SpanText key,
                                const AnyValue *value);

/* segment_may_have_event: false only if no event has the name */
extern bool segment_may_have_event(SegmentReader *reader, SpanText name);

/* segment_names: the distinct span names, complete, valid until segment_close() */
extern bool segment_names(SegmentReader *reader, const SpanText **names, uint32_t *count, SpanError *error);

/* segment_tenants: the distinct tenants, complete, valid until segment_close() */
extern bool segment_tenants(SegmentReader *reader, const SpanText **tenants, uint32_t *count, SpanError *error);

#endif /* TEMPO_SEGMENT_READER_H */
