/*-------------------------------------------------------------------------
 *
 * scan_value.c
 *	  Decides conditions of a custom scan on one value.
 *
 * What compares plainly is decided here; the rest is put to the SQL function or
 * the expression that the condition was, whose results are remembered by value
 * where they are expensive.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include <math.h>

#include "access/jsonb.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Results that a condition remembers at most. */
#define MEMO_ENTRIES 65536

FilterResult
tempo_filter_in_texts(const FilterNode *node, SpanText value)
{
	bool found = false;

	for (int i = 0; i < node->n_texts && !found; i++)
		found = span_text_equal(node->texts[i], value);
	return filter_result(found == (node->op == MATCH_EQ));
}

/* value ->> text, through jsonb unless it is a string */
FilterResult
tempo_filter_json_text(ScanFilter *filter, const FilterNode *node, const AnyValue *value)
{
	FilterResult  result;
	MemoryContext old;
	KeyValue      item = {.key = node->key};
	AttributeList list = {&item, 1};
	Datum         text;

	if (value == NULL)
		return FILTER_UNKNOWN;
	if (value->type == ANY_STRING)
		return tempo_filter_in_texts(node, span_text(value->u.data, value->len));
	old = MemoryContextSwitchTo(filter->scratch);
	item.value = *value;
	text = DirectFunctionCall2(jsonb_object_field_text, JsonbPGetDatum(tempo_attributes_to_jsonb(list)),
	                           PointerGetDatum(cstring_to_text_with_len(node->key.data, node->key.len)));
	result = tempo_filter_in_texts(node, filter_text(text));
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->scratch);
	return result;
}

/*
 * One pair of attributes @> object and the value there: true or false for sure,
 * or unknown if it takes jsonb to say.
 */
FilterResult
tempo_filter_compare_pair(const FilterPair *pair, const AnyValue *value)
{
	if (!pair->plain)
		return FILTER_UNKNOWN;
	if (((1U << value->type) & SCALAR_TYPES) != 0 && !any_value_equal(value, &pair->value) &&
	    (value->type != ANY_DOUBLE || isfinite(value->u.number)))
		return FILTER_FALSE;
	return value->type == ANY_STRING ? FILTER_TRUE : FILTER_UNKNOWN;
}

/* Asks jsonb whether these attributes contain the object. */
bool
tempo_filter_json_contains(ScanFilter *filter, AttributeList list, Datum object)
{
	MemoryContext old = MemoryContextSwitchTo(filter->scratch);
	bool          result;

	result = DatumGetBool(DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(tempo_attributes_to_jsonb(list)), object));
	MemoryContextSwitchTo(old);
	MemoryContextReset(filter->scratch);
	return result;
}

FilterResult
tempo_filter_pair(ScanFilter *filter, const FilterNode *node, int number, const AnyValue *value)
{
	const FilterPair *pair = &node->pairs[number];
	FilterResult      result = tempo_filter_compare_pair(pair, value);
	KeyValue          item = {.key = pair->key, .value = *value};
	AttributeList     list = {&item, 1};

	if (result != FILTER_UNKNOWN)
		return result;
	return filter_result(tempo_filter_json_contains(filter, list, pair->object));
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
	answer = fcinfo->isnull ? FILTER_UNKNOWN : filter_result(DatumGetBool(result));
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
	return filter_result(result == MATCH_TRUE);
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
	return fcinfo->isnull ? FILTER_UNKNOWN : filter_result(DatumGetBool(result));
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
	return isnull ? FILTER_UNKNOWN : filter_result(DatumGetBool(result));
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

/* A condition on one value, which may be NULL. */
FilterResult
tempo_filter_eval(ScanFilter *filter, FilterNode *node, const AnyValue *value)
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

FilterResult
tempo_filter_value(ScanFilter *filter, FilterNode *node, const AnyValue *value)
{
	if (node->operand_null && node->type != FILTER_MATCH && node->type != FILTER_REGEX)
		return FILTER_UNKNOWN;
	switch (node->type)
	{
		case FILTER_TEXT:
			return tempo_filter_in_texts(node, span_text(value->u.data, value->len));
		case FILTER_EVENT_NAME:
			return filter_result(span_text_equal(span_text(value->u.data, value->len), node->text));
		case FILTER_NULL:
			return filter_result(node->negate);
		case FILTER_JSON_TEXT:
			return tempo_filter_json_text(filter, node, value);
		default:
			return tempo_filter_eval(filter, node, value);
	}
}
