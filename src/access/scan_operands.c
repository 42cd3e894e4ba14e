/*-------------------------------------------------------------------------
 *
 * scan_operands.c
 *	  What the conditions of a custom scan are compared with.
 *
 * Operands are evaluated when a scan starts, since they may be parameters, and
 * put so that comparing takes no more than need be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/scan_filter.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/executor.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A jsonb number with more digits may differ from the nearest double. */
#define PLAIN_DIGITS 15

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

size_t
tempo_filter_id_length(const FilterNode *node)
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

/* Is the id one of the node's? */
bool
tempo_filter_has_id(const FilterNode *node, const uint8 *id)
{
	size_t len = tempo_filter_id_length(node);

	if (node->n_ids == 1)
		return memcmp(node->ids, id, len) == 0;
	return bsearch(id, node->ids, node->n_ids, len, len == TRACE_ID_LEN ? compare_trace_ids : compare_span_ids) != NULL;
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
		node->texts[i] = filter_text(values[i]);
}

static void
set_ids(FilterNode *node)
{
	size_t len = tempo_filter_id_length(node);
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
