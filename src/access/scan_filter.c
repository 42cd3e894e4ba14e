/*-------------------------------------------------------------------------
 *
 * scan_filter.c
 *	  Decides the conditions of a custom scan on spans.
 *
 * Results that depend on the span's name, resource or scope alone are kept
 * per string, resource or scope of the batch, so that most spans cost a load
 * and a test.  The rare cases that match_value() leaves undecided are put to
 * the SQL function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include <math.h>

#include "access/jsonb.h"
#include "access/memory.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A jsonb number with more digits may differ from the nearest double. */
#define PLAIN_DIGITS 15

/* Results that a condition remembers at most. */
#define MEMO_ENTRIES 65536

/*
 * Operands.
 */

static int64
interval_micros(const Interval *interval)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64 micros;

	/* what no duration reaches stays beyond all durations */
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &micros) ||
	    pg_add_s64_overflow(micros, interval->time, &micros))
		return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return micros;
}

static int64
integer_operand(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		case INTERVALOID:
			return interval_micros(DatumGetIntervalP(value));
		default:
			return DatumGetInt64(value); /* int8 and timestamptz */
	}
}

static SpanText
text_of(Datum value)
{
	text *t = DatumGetTextPP(value);

	return span_text(VARDATA_ANY(t), (uint32) VARSIZE_ANY_EXHDR(t));
}

static size_t
id_length(const FilterNode *node)
{
	return node->column == TEMPO_TRACE_ID ? TRACE_ID_LEN : SPAN_ID_LEN;
}

static int
compare_trace_ids(const void *a, const void *b)
{
	return memcmp(a, b, TRACE_ID_LEN);
}

static int
compare_span_ids(const void *a, const void *b)
{
	return memcmp(a, b, SPAN_ID_LEN);
}

/* The elements of a list operand, or the one value; NULLs never equal. */
static int
operand_elements(const FilterNode *node, Datum **values)
{
	ArrayType *array;
	int16      typlen;
	bool       typbyval;
	char       typalign;
	bool      *nulls;
	int        n;
	int        kept = 0;

	if (!node->list)
	{
		*values = palloc(sizeof(Datum));
		(*values)[0] = node->operand_datum;
		return 1;
	}
	array = DatumGetArrayTypeP(node->operand_datum);
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, values, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			(*values)[kept++] = (*values)[i];
	return kept;
}

static void
set_texts(FilterNode *node)
{
	Datum *values;
	int    n = operand_elements(node, &values);

	node->texts = palloc(sizeof(SpanText) * Max(n, 1));
	node->n_texts = n;
	for (int i = 0; i < n; i++)
		node->texts[i] = text_of(values[i]);
}

static void
set_ids(FilterNode *node)
{
	size_t len = id_length(node);
	Datum *values;
	int    n = operand_elements(node, &values);
	int    kept = 0;

	node->ids = palloc(len * Max(n, 1));
	for (int i = 0; i < n; i++)
		memcpy(node->ids + len * i, DatumGetPointer(values[i]), len);
	qsort(node->ids, n, len, len == TRACE_ID_LEN ? compare_trace_ids : compare_span_ids);
	for (int i = 0; i < n; i++)
		if (kept == 0 || memcmp(node->ids + len * (kept - 1), node->ids + len * i, len) != 0)
			memmove(node->ids + len * kept++, node->ids + len * i, len);
	node->n_ids = kept;
}

static int
significant_digits(const char *text)
{
	int digits = 0;

	for (; *text != '\0'; text++)
		if (isdigit((unsigned char) *text) && (digits > 0 || *text != '0'))
			digits++;
	return digits;
}

/* The literal of tempo.match(), if it is a scalar that compares plainly. */
static void
set_literal(FilterNode *node)
{
	Jsonb     *jsonb = DatumGetJsonbP(node->operand_datum);
	JsonbValue value;
	char      *text;

	node->plain = false;
	if (!JsonbExtractScalar(&jsonb->root, &value))
		return;
	switch (value.type)
	{
		case jbvString:
			node->literal.type = ANY_STRING;
			node->literal.len = (uint32) value.val.string.len;
			node->literal.u.data = value.val.string.val;
			break;
		case jbvBool:
			node->literal.type = ANY_BOOL;
			node->literal.u.boolean = value.val.boolean;
			break;
		case jbvNumeric:
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
			if (strchr(text, '.') == NULL && strlen(text) <= 18)
			{
				node->literal.type = ANY_INT;
				node->literal.u.integer = strtoll(text, NULL, 10);
			}
			else if (significant_digits(text) <= PLAIN_DIGITS)
			{
				node->literal.type = ANY_DOUBLE;
				node->literal.u.number = strtod(text, NULL);
			}
			else
				return;
			break;
		default:
			return;
	}
	node->plain = true;
}

static void
start_node(FilterNode *node, ExprContext *econtext)
{
	SpanText text;

	for (int i = 0; i < node->n_children; i++)
		start_node(node->children[i], econtext);
	node->memo = NULL;
	node->missing = 0;
	node->plain = false;
	if (node->operand_state == NULL)
		return;
	node->operand_datum = ExecEvalExpr(node->operand_state, econtext, &node->operand_null);
	if (node->operand_null)
		return;
	switch (node->type)
	{
		case FILTER_INT:
			node->number = integer_operand(node->operand_datum, node->operand_type);
			break;
		case FILTER_TEXT:
			set_texts(node);
			text = node->n_texts == 1 ? node->texts[0] : span_text(NULL, 0);
			node->code_known = node->n_texts == 1 &&
			                   ((node->column == TEMPO_KIND && tempo_kind_from_text(text, &node->code)) ||
			                    (node->column == TEMPO_STATUS && tempo_status_from_text(text, &node->code)));
			break;
		case FILTER_JSON_TEXT:
			set_texts(node);
			break;
		case FILTER_ID:
			set_ids(node);
			break;
		case FILTER_MATCH:
			set_literal(node);
			break;
		default:
			break;
	}
}

/* A comparison with NULL among the ANDed conditions lets nothing pass. */
static bool
is_never(const FilterNode *node)
{
	if (node->type == FILTER_MATCH || node->type == FILTER_REGEX)
		return false;
	return node->operand_state != NULL && (node->operand_null || (node->list && node->n_texts + node->n_ids == 0));
}

void
tempo_filter_start(ScanFilter *filter, ExprContext *econtext)
{
	MemoryContext old;

	MemoryContextReset(filter->values);
	MemoryContextReset(filter->caches);
	filter->generation = 0;
	old = MemoryContextSwitchTo(filter->values);
	start_node(filter->root, econtext);
	tempo_filter_test(filter);
	MemoryContextSwitchTo(old);
	filter->never = false;
	for (int i = 0; i < filter->root->n_children; i++)
		if (is_never(filter->root->children[i]))
			filter->never = true;
}

/*
 * Spans.
 */

static FilterResult
result_of(bool value)
{
	return value ? FILTER_TRUE : FILTER_FALSE;
}

static FilterResult
in_texts(const FilterNode *node, SpanText value)
{
	bool found = false;

	for (int i = 0; i < node->n_texts && !found; i++)
		found = span_text_equal(node->texts[i], value);
	return result_of(found == (node->op == MATCH_EQ));
}

/* The value of a text column; data is NULL if it is. */
static SpanText
column_text(const FilterNode *node, const SpanBatch *batch, const Span *span, char buffer[12])
{
	SpanText text;

	switch (node->column)
	{
		case TEMPO_NAME:
			text = batch->strings[span->name];
			break;
		case TEMPO_KIND:
			text = tempo_kind_text(span->kind, buffer);
			break;
		case TEMPO_STATUS:
			text = tempo_status_text(span->status_code, buffer);
			break;
		case TEMPO_STATUS_MESSAGE:
			text = span->status_message;
			break;
		case TEMPO_TENANT:
			text = batch->strings[span_resource(batch, span)->tenant];
			break;
		case TEMPO_SCOPE_NAME:
			text = batch->strings[span_scope(batch, span)->name];
			break;
		case TEMPO_SCOPE_VERSION:
			text = batch->strings[span_scope(batch, span)->version];
			break;
		case TEMPO_SERVICE_NAME:
			text = tempo_service_name(span_resource(batch, span));
			if (text.data == NULL && !node->null_is_empty)
				return text;
			break;
		default:
			elog(ERROR, "column %d is not filtered as text", node->column);
	}
	if (text.data == NULL)
		text.data = "";
	return text;
}

static FilterResult
eval_int(const FilterNode *node, const Span *span)
{
	int64 start = span->start_time_unix_nano;
	int64 duration = span->end_time_unix_nano - start;
	int64 value;

	switch (node->column)
	{
		case TEMPO_START_TIME_UNIX_NANO:
			value = start;
			break;
		case TEMPO_DURATION_NANO:
			value = duration;
			break;
		case TEMPO_DURATION:
			value = duration > 0 ? duration / 1000 : 0;
			break;
		case TEMPO_START_TIME:
			value = start / 1000 - TEMPO_EPOCH_DIFF;
			break;
		default:
			value = span->end_time_unix_nano / 1000 - TEMPO_EPOCH_DIFF;
			break;
	}
	return result_of(match_int(node->op, value, node->number));
}

static FilterResult
eval_id(const FilterNode *node, const Span *span)
{
	size_t       len = id_length(node);
	const uint8 *id = node->column == TEMPO_TRACE_ID ? span->trace_id.bytes :
	                  node->column == TEMPO_SPAN_ID  ? span->span_id.bytes :
	                                                   span->parent_span_id.bytes;
	bool         found;

	if (node->column == TEMPO_PARENT_SPAN_ID && id_is_zero(id, len))
		return FILTER_UNKNOWN;
	if (node->n_ids == 1)
		found = memcmp(node->ids, id, len) == 0;
	else
		found = bsearch(id, node->ids, node->n_ids, len,
		                len == TRACE_ID_LEN ? compare_trace_ids : compare_span_ids) != NULL;
	return result_of(found == (node->op == MATCH_EQ));
}

const AnyValue *
tempo_filter_attribute(uint32 key_id, AttributeList list)
{
	for (uint32 i = 0; i < list.count; i++)
		if (list.items[i].key_id == key_id)
			return &list.items[i].value;
	return NULL;
}

static const AnyValue *
attribute_value(const FilterNode *node, const SpanBatch *batch, const Span *span)
{
	const AnyValue *value = NULL;

	if (node->scope != FILTER_SCOPE_RESOURCE)
		value = tempo_filter_attribute(node->key_id, span->attributes);
	if (value == NULL && node->scope != FILTER_SCOPE_SPAN)
		value = tempo_filter_attribute(node->key_id, span_resource(batch, span)->attributes);
	return value;
}

/* value ->> text, through jsonb unless it is a string */
static FilterResult
eval_json_text(ScanFilter *filter, const FilterNode *node, const AnyValue *value)
{
	FilterResult  result;
	MemoryContext old;
	KeyValue      item = {.key = node->key};
	AttributeList list = {&item, 1};
	Datum         text;

	if (value == NULL)
		return FILTER_UNKNOWN;
	if (value->type == ANY_STRING)
		return in_texts(node, span_text(value->u.data, value->len));
	old = MemoryContextSwitchTo(filter->scratch);
	item.value = *value;
	text = DirectFunctionCall2(jsonb_object_field_text, JsonbPGetDatum(tempo_attributes_to_jsonb(list)),
	                           PointerGetDatum(cstring_to_text_with_len(node->key.data, node->key.len)));
	result = in_texts(node, text_of(text));
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->scratch);
	return result;
}

/*
 * One pair of attributes @> object and the value there: true or false for sure,
 * or unknown if it takes jsonb to say.
 */
static FilterResult
compare_pair(const FilterPair *pair, const AnyValue *value)
{
	if (!pair->plain)
		return FILTER_UNKNOWN;
	if (((1U << value->type) & SCALAR_TYPES) != 0 && !any_value_equal(value, &pair->value) &&
	    (value->type != ANY_DOUBLE || isfinite(value->u.number)))
		return FILTER_FALSE;
	return value->type == ANY_STRING ? FILTER_TRUE : FILTER_UNKNOWN;
}

/* Asks jsonb whether these attributes contain the object. */
static bool
json_contains(ScanFilter *filter, AttributeList list, Datum object)
{
	MemoryContext old = MemoryContextSwitchTo(filter->scratch);
	bool          result;

	result = DatumGetBool(DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(tempo_attributes_to_jsonb(list)), object));
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->scratch);
	return result;
}

/* attributes @> object: pair by pair if they are strings, else through jsonb */
static FilterResult
eval_contains(ScanFilter *filter, const FilterNode *node, AttributeList attributes)
{
	KeyValue     *items;
	AttributeList list;
	bool          plain = true;
	FilterResult  result;

	for (int i = 0; i < node->n_pairs; i++)
	{
		const FilterPair *pair = &node->pairs[i];
		const AnyValue   *value = tempo_filter_attribute(pair->key_id, attributes);

		result = value == NULL ? FILTER_FALSE : compare_pair(pair, value);
		if (result == FILTER_FALSE)
			return FILTER_FALSE;
		plain &= result == FILTER_TRUE;
	}
	if (plain)
		return FILTER_TRUE;
	items = palloc0(sizeof(KeyValue) * Max(node->n_pairs, 1));
	for (int i = 0; i < node->n_pairs; i++)
	{
		items[i].key = node->pairs[i].key;
		items[i].value = *tempo_filter_attribute(node->pairs[i].key_id, attributes);
	}
	list.items = items;
	list.count = (uint32) node->n_pairs;
	result = result_of(json_contains(filter, list, node->operand_datum));
	pfree(items);
	return result;
}

FilterResult
tempo_filter_pair(ScanFilter *filter, const FilterNode *node, int number, const AnyValue *value)
{
	const FilterPair *pair = &node->pairs[number];
	FilterResult      result = compare_pair(pair, value);
	KeyValue          item = {.key = pair->key, .value = *value};
	AttributeList     list = {&item, 1};

	if (result != FILTER_UNKNOWN)
		return result;
	return result_of(json_contains(filter, list, pair->object));
}

/* Asks the SQL function: match(value, op, literal) or match_re(value, pattern, negate). */
static FilterResult
ask_function(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	LOCAL_FCINFO(fcinfo, 3);
	static const char *const names[] = {"=", "!=", "<", "<=", ">", ">="};
	MemoryContext            old = MemoryContextSwitchTo(filter->scratch);
	Datum                    result;
	FilterResult             answer;

	InitFunctionCallInfoData(*fcinfo, &node->fmgr, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].isnull = value == NULL;
	fcinfo->args[0].value = value == NULL       ? (Datum) 0 :
	                        node->text_argument ? PointerGetDatum(cstring_to_text_with_len(value->u.data, (int) value->len)) :
	                                              JsonbPGetDatum(tempo_value_to_jsonb(value));
	if (node->type == FILTER_MATCH)
	{
		fcinfo->args[1].value = CStringGetTextDatum(names[node->op]);
		fcinfo->args[2].value = node->operand_datum;
		fcinfo->args[2].isnull = node->operand_null;
	}
	else
	{
		fcinfo->args[1].value = node->operand_datum;
		fcinfo->args[2].value = BoolGetDatum(node->negate);
		fcinfo->args[2].isnull = false;
	}
	fcinfo->args[1].isnull = node->type == FILTER_REGEX && node->operand_null;
	result = FunctionCallInvoke(fcinfo);
	answer = fcinfo->isnull ? FILTER_UNKNOWN : result_of(DatumGetBool(result));
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->scratch);
	return answer;
}

static FilterResult
eval_match(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	MatchResult result;

	if (!node->plain)
		return ask_function(filter, node, value);
	result = match_value(value, node->op, &node->literal);
	if (result == MATCH_UNDECIDED)
		return ask_function(filter, node, value);
	return result_of(result == MATCH_TRUE);
}

/*
 * Results remembered by value.
 */

typedef struct MemoEntry
{
	SpanText     value; /* the key: type and bytes */
	FilterResult result;
} MemoEntry;

/* Larger values are not remembered. */
#define MEMO_VALUE 1024

typedef struct MemoValue
{
	uint32 len; /* 0: not to be remembered */
	char   bytes[MEMO_VALUE];
} MemoValue;

static uint32
memo_hash(const void *key, Size size)
{
	const SpanText *text = key;

	return hash_bytes((const unsigned char *) text->data, (int) text->len);
}

static int
memo_match(const void *a, const void *b, Size size)
{
	return span_text_equal(*(const SpanText *) a, *(const SpanText *) b) ? 0 : 1;
}

static void
set_memo_value(MemoValue *memo, const AnyValue *value)
{
	const void *data = &value->u;
	uint32      len = 8;

	memo->len = 0;
	switch ((AnyValueType) value->type)
	{
		case ANY_STRING:
			data = value->u.data;
			len = value->len;
			break;
		case ANY_BOOL:
			len = sizeof(bool);
			break;
		case ANY_INT:
		case ANY_DOUBLE:
			break;
		default:
			return;
	}
	if (len >= MEMO_VALUE)
		return;
	memo->bytes[0] = (char) value->type;
	if (len > 0)
		memcpy(memo->bytes + 1, data, len);
	memo->len = len + 1;
}

static bool
recall(FilterNode *node, const MemoValue *memo, FilterResult *result)
{
	SpanText   key = span_text(memo->bytes, memo->len);
	MemoEntry *entry;

	if (node->memo == NULL || memo->len == 0)
		return false;
	entry = hash_search(node->memo, &key, HASH_FIND, NULL);
	if (entry == NULL)
		return false;
	*result = entry->result;
	return true;
}

static void
remember(ScanFilter *filter, FilterNode *node, const MemoValue *memo, FilterResult result)
{
	HASHCTL    control;
	SpanText   key;
	MemoEntry *entry;
	char      *copy;

	if (memo->len == 0)
		return;
	if (node->memo == NULL)
	{
		control.keysize = sizeof(SpanText);
		control.entrysize = sizeof(MemoEntry);
		control.hash = memo_hash;
		control.match = memo_match;
		control.hcxt = filter->values;
		node->memo = hash_create("tempo results by value", 256, &control,
		                         HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	}
	if (hash_get_num_entries(node->memo) >= MEMO_ENTRIES)
		return;
	copy = MemoryContextAlloc(filter->values, memo->len);
	memcpy(copy, memo->bytes, memo->len);
	key = span_text(copy, memo->len);
	entry = hash_search(node->memo, &key, HASH_ENTER, NULL);
	entry->result = result;
}

/*
 * A string against the pattern.  What has a dictionary is asked about once per
 * entry; of other values a match costs less than to find one among those
 * remembered.
 */
static FilterResult
match_text(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	LOCAL_FCINFO(fcinfo, 3);
	union
	{
		text header;
		char bytes[VARHDRSZ + MEMO_VALUE];
	} buffer;
	text *argument = &buffer.header;
	Datum result;

	if (node->operand_null)
		return FILTER_FALSE;
	if (value->len > MEMO_VALUE)
		argument = MemoryContextAllocHuge(filter->scratch, VARHDRSZ + (Size) value->len);
	SET_VARSIZE(argument, VARHDRSZ + value->len);
	if (value->len > 0)
		memcpy(VARDATA(argument), value->u.data, value->len);
	InitFunctionCallInfoData(*fcinfo, &node->text_fmgr, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(argument);
	fcinfo->args[1].value = node->operand_datum;
	fcinfo->args[2].value = BoolGetDatum(node->negate);
	for (int i = 0; i < 3; i++)
		fcinfo->args[i].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (argument != &buffer.header)
		pfree(argument);
	return fcinfo->isnull ? FILTER_UNKNOWN : result_of(DatumGetBool(result));
}

static FilterResult
eval_regex(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	if (value == NULL)
	{
		if (node->missing == 0)
			node->missing = (uint8) (ask_function(filter, node, NULL) + 1);
		return (FilterResult) (node->missing - 1);
	}
	if (value->type != ANY_STRING || !OidIsValid(node->text_fmgr.fn_oid))
		return ask_function(filter, node, value);
	return match_text(filter, node, value);
}

/* A jsonb object of the one attribute, or an empty one. */
static Datum
one_attribute(const FilterNode *node, const AnyValue *value)
{
	KeyValue      item = {.key = node->key};
	AttributeList list = {&item, value != NULL ? 1 : 0};

	if (value != NULL)
		item.value = *value;
	return JsonbPGetDatum(tempo_attributes_to_jsonb(list));
}

/* Evaluates the expression on a row that has nothing but the value. */
static FilterResult
run_expression(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	TupleTableSlot *slot = filter->slot;
	const int16    *attno = filter->map->attno;
	MemoryContext   old = MemoryContextSwitchTo(filter->scratch);
	bool            in_resource = node->scope == FILTER_SCOPE_RESOURCE;
	Datum           result;
	bool            isnull;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	if (node->scope != FILTER_SCOPE_COLUMN)
	{
		/* tempo.attr() is given both columns */
		slot->tts_values[attno[TEMPO_ATTRIBUTES]] = one_attribute(node, in_resource ? NULL : value);
		slot->tts_values[attno[TEMPO_RESOURCE_ATTRIBUTES]] = one_attribute(node, in_resource ? value : NULL);
		slot->tts_isnull[attno[TEMPO_ATTRIBUTES]] = false;
		slot->tts_isnull[attno[TEMPO_RESOURCE_ATTRIBUTES]] = false;
	}
	else if (value != NULL)
	{
		slot->tts_values[attno[node->column]] = PointerGetDatum(cstring_to_text_with_len(value->u.data, (int) value->len));
		slot->tts_isnull[attno[node->column]] = false;
	}
	ExecStoreVirtualTuple(slot);
	filter->econtext->ecxt_scantuple = slot;
	MemoryContextSwitchTo(old);
	result = ExecEvalExprSwitchContext(node->expression, filter->econtext, &isnull);
	ResetExprContext(filter->econtext);
	MemoryContextReset(filter->scratch);
	return isnull ? FILTER_UNKNOWN : result_of(DatumGetBool(result));
}

static FilterResult
eval_expression(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	MemoValue    memo;
	FilterResult result;

	if (value == NULL)
	{
		if (node->missing == 0)
			node->missing = (uint8) (run_expression(filter, node, NULL) + 1);
		return (FilterResult) (node->missing - 1);
	}
	set_memo_value(&memo, value);
	if (recall(node, &memo, &result))
		return result;
	result = run_expression(filter, node, value);
	remember(filter, node, &memo, result);
	return result;
}

static FilterResult
eval_event_name(const FilterNode *node, const Span *span)
{
	for (uint32 i = 0; i < span->n_events; i++)
		if (span_text_equal(span->events[i].name, node->text))
			return FILTER_TRUE;
	return FILTER_FALSE;
}

static FilterResult eval_value(ScanFilter *filter, FilterNode *node, const AnyValue *value);

static FilterResult
eval_events(ScanFilter *filter, FilterNode *node, const Span *span)
{
	for (uint32 i = 0; i < span->n_events; i++)
	{
		const AnyValue *value = tempo_filter_attribute(node->key_id, span->events[i].attributes);

		if (value != NULL && eval_value(filter, node, value) == FILTER_TRUE)
			return FILTER_TRUE;
	}
	return FILTER_FALSE;
}

/* A condition on one value, which may be NULL. */
static FilterResult
eval_value(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	switch (node->type)
	{
		case FILTER_EXPRESSION:
			return eval_expression(filter, node, value);
		case FILTER_MATCH:
			return eval_match(filter, node, value);
		case FILTER_REGEX:
			return eval_regex(filter, node, value);
		default:
			elog(ERROR, "condition %d is not about a value", node->type);
	}
}

static FilterResult
eval_leaf(ScanFilter *filter, FilterNode *node, const Span *span)
{
	const SpanBatch *batch = filter->batch;
	char             buffer[12];
	const AnyValue  *value;
	AnyValue         column = {.type = ANY_STRING};
	SpanText         text;

	if (node->operand_null && node->type != FILTER_MATCH && node->type != FILTER_REGEX)
		return FILTER_UNKNOWN;
	switch (node->type)
	{
		case FILTER_INT:
			return eval_int(node, span);
		case FILTER_ID:
			return eval_id(node, span);
		case FILTER_TEXT:
			if (node->code_known)
				return result_of(((node->column == TEMPO_KIND ? span->kind : span->status_code) == node->code) ==
				                 (node->op == MATCH_EQ));
			text = column_text(node, batch, span, buffer);
			return text.data == NULL ? FILTER_UNKNOWN : in_texts(node, text);
		case FILTER_NULL:
			if (node->scope == FILTER_SCOPE_COLUMN && node->column == TEMPO_PARENT_SPAN_ID)
				return result_of(id_is_zero(span->parent_span_id.bytes, SPAN_ID_LEN) != node->negate);
			if (node->scope == FILTER_SCOPE_COLUMN)
				return result_of((tempo_service_name(span_resource(batch, span)).data == NULL) != node->negate);
			return result_of((attribute_value(node, batch, span) == NULL) != node->negate);
		case FILTER_CHILDREN:
			return result_of(((node->column == TEMPO_EVENTS ? span->n_events : span->n_links) > 0) != node->negate);
		case FILTER_EVENT_NAME:
			return eval_event_name(node, span);
		case FILTER_JSON_TEXT:
			return eval_json_text(filter, node, attribute_value(node, batch, span));
		case FILTER_CONTAINS:
			return eval_contains(filter, node, node->scope == FILTER_SCOPE_SPAN ? span->attributes : span_resource(batch, span)->attributes);
		default:
			break;
	}
	if (node->scope == FILTER_SCOPE_EVENT)
		return eval_events(filter, node, span);
	value = NULL;
	if (node->scope != FILTER_SCOPE_COLUMN)
	{
		value = attribute_value(node, batch, span);
		if (value == NULL && node->null_is_empty)
		{
			column.u.data = "";
			value = &column;
		}
	}
	else
	{
		text = column_text(node, batch, span, buffer);
		if (text.data != NULL)
		{
			column.len = text.len;
			column.u.data = text.data;
			value = &column;
		}
	}
	return eval_value(filter, node, value);
}

FilterResult
tempo_filter_value(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	if (node->operand_null && node->type != FILTER_MATCH && node->type != FILTER_REGEX)
		return FILTER_UNKNOWN;
	switch (node->type)
	{
		case FILTER_TEXT:
			return in_texts(node, span_text(value->u.data, value->len));
		case FILTER_EVENT_NAME:
			return result_of(span_text_equal(span_text(value->u.data, value->len), node->text));
		case FILTER_NULL:
			return result_of(node->negate);
		case FILTER_JSON_TEXT:
			return eval_json_text(filter, node, value);
		default:
			return eval_value(filter, node, value);
	}
}

/* The entry of the node's cache for this span, or NULL if it has none. */
static uint8 *
cache_entry(const FilterNode *node, const SpanBatch *batch, const Span *span)
{
	bool column = node->scope == FILTER_SCOPE_COLUMN;

	if (node->cache == NULL)
		return NULL;
	if (column && node->column == TEMPO_NAME)
		return &node->cache[span->name];
	if (column && (node->column == TEMPO_SCOPE_NAME || node->column == TEMPO_SCOPE_VERSION))
		return &node->cache[span->scope];
	return &node->cache[batch->scopes[span->scope].resource];
}

FilterResult
tempo_filter_leaf(ScanFilter *filter, FilterNode *node, const Span *span)
{
	uint8 *cached = cache_entry(node, filter->batch, span);

	if (cached == NULL)
		return eval_leaf(filter, node, span);
	if (*cached == 0)
		*cached = (uint8) (eval_leaf(filter, node, span) + 1);
	return (FilterResult) (*cached - 1);
}

static FilterResult
eval_node(ScanFilter *filter, FilterNode *node, const Span *span)
{
	FilterResult result;

	switch (node->type)
	{
		case FILTER_AND:
			result = FILTER_TRUE;
			for (int i = 0; i < node->n_children; i++)
			{
				FilterResult child = eval_node(filter, node->children[i], span);

				if (child == FILTER_FALSE)
					return FILTER_FALSE;
				if (child == FILTER_UNKNOWN)
					result = FILTER_UNKNOWN;
			}
			return result;
		case FILTER_OR:
			result = FILTER_FALSE;
			for (int i = 0; i < node->n_children; i++)
			{
				FilterResult child = eval_node(filter, node->children[i], span);

				if (child == FILTER_TRUE)
					return FILTER_TRUE;
				if (child == FILTER_UNKNOWN)
					result = FILTER_UNKNOWN;
			}
			return result;
		case FILTER_NOT:
			result = eval_node(filter, node->children[0], span);
			return result == FILTER_UNKNOWN ? FILTER_UNKNOWN :
			       result == FILTER_TRUE    ? FILTER_FALSE :
			                                  FILTER_TRUE;
		default:
			return tempo_filter_leaf(filter, node, span);
	}
}

static uint32
intern(SpanBatch *batch, SpanText key)
{
	uint32 id = span_batch_string(batch, key);

	if (id == SPAN_BATCH_NONE)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return id;
}

/* Interns the keys that leaves look for. */
static void
intern_keys(FilterNode *node, SpanBatch *batch)
{
	for (int i = 0; i < node->n_children; i++)
		intern_keys(node->children[i], batch);
	if (node->key.data != NULL)
		node->key_id = intern(batch, node->key);
	for (int i = 0; i < node->n_pairs; i++)
		node->pairs[i].key_id = intern(batch, node->pairs[i].key);
}

/* The number of things that the node's result can be kept by; 0 = it cannot. */
static uint32
cache_entries(const FilterNode *node, const SpanBatch *batch)
{
	bool column = node->scope == FILTER_SCOPE_COLUMN;

	if (node->type == FILTER_AND || node->type == FILTER_OR || node->type == FILTER_NOT ||
	    node->type == FILTER_INT || node->type == FILTER_ID ||
	    node->type == FILTER_CHILDREN || node->type == FILTER_EVENT_NAME)
		return 0;
	if (node->scope == FILTER_SCOPE_RESOURCE)
		return batch->n_resources;
	if (!column)
		return 0;
	switch (node->column)
	{
		case TEMPO_NAME:
			return batch->n_strings;
		case TEMPO_SERVICE_NAME:
		case TEMPO_TENANT:
			return batch->n_resources;
		case TEMPO_SCOPE_NAME:
		case TEMPO_SCOPE_VERSION:
			return batch->n_scopes;
		default:
			return 0;
	}
}

/* Makes room for what the batch has; "again" keeps the results so far. */
static void
make_caches(FilterNode *node, const SpanBatch *batch, bool again)
{
	uint32 size = cache_entries(node, batch);
	uint8 *cache;

	for (int i = 0; i < node->n_children; i++)
		make_caches(node->children[i], batch, again);
	if (!again)
	{
		node->cache = NULL;
		node->cache_size = 0;
	}
	if (size <= node->cache_size)
		return;
	size += size / 2;
	cache = palloc0(size);
	if (node->cache != NULL)
		memcpy(cache, node->cache, node->cache_size);
	node->cache = cache;
	node->cache_size = size;
}

void
tempo_filter_batch(ScanFilter *filter, SpanBatch *batch)
{
	uint64        generation = span_batch_generation(batch);
	bool          again = filter->generation == generation;
	MemoryContext old;

	filter->batch = batch;
	if (!again)
	{
		MemoryContextReset(filter->caches);
		intern_keys(filter->root, batch);
	}
	old = MemoryContextSwitchTo(filter->caches);
	make_caches(filter->root, batch, again);
	MemoryContextSwitchTo(old);
	filter->generation = generation;
}

bool
tempo_filter_span(ScanFilter *filter, const Span *span)
{
	/* like the executor, look no further than the first that is not true */
	for (int i = 0; i < filter->root->n_children; i++)
		if (eval_node(filter, filter->root->children[i], span) != FILTER_TRUE)
			return false;
	return true;
}
