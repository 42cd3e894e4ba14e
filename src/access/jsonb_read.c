/*-------------------------------------------------------------------------
 *
 * jsonb_read.c
 *	  Attributes, events and links from jsonb: what SQL wrote.
 *
 * jsonb.c says how values are represented.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/jsonb.h"

#include <math.h>

#include "common/base64.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define WRAPPER_KEY "$otlp"

/*
 * With a batch, everything is copied into its arena; without one,
 * values point into the jsonb, and lists are palloc'd: that is for resources
 * and scopes, which are copied only when they are new to the batch.
 */
typedef struct JsonbReader
{
	SpanBatch  *batch;  /* NULL: transient */
	const char *column; /* for errors */
} JsonbReader;

static void
out_of_memory(void)
{
	ereport(ERROR,
	        (errcode(ERRCODE_OUT_OF_MEMORY),
	         errmsg("out of memory"),
	         errdetail("A batch of spans reached its memory limit.")));
}

static void
bad(const JsonbReader *reader, const char *problem)
{
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("invalid value for column \"%s\": %s", reader->column, problem)));
}

static void *
reader_alloc(const JsonbReader *reader, size_t size)
{
	void *result;

	if (reader->batch == NULL)
		return palloc(Max(size, 1));
	result = arena_alloc(span_batch_arena(reader->batch), size);
	if (result == NULL)
		out_of_memory();
	return result;
}

static SpanText
reader_text(const JsonbReader *reader, const JsonbValue *string)
{
	const char *data = string->val.string.val;
	uint32      len = (uint32) string->val.string.len;

	if (reader->batch != NULL)
	{
		data = arena_copy(span_batch_arena(reader->batch), data, len);
		if (data == NULL)
			out_of_memory();
	}
	return span_text(data, len);
}

/* Interned key at the top level of an attribute list. */
static void
read_key(const JsonbReader *reader, const JsonbValue *key, KeyValue *out)
{
	SpanText text = span_text(key->val.string.val, (uint32) key->val.string.len);

	out->key = text;
	out->key_id = 0;
	if (reader->batch != NULL)
	{
		out->key_id = span_batch_string(reader->batch, text);
		if (out->key_id == SPAN_BATCH_NONE)
			out_of_memory();
		out->key = reader->batch->strings[out->key_id];
	}
}

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) &&
	       memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

static char *
number_text(const JsonbValue *number)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number->val.numeric)));
}

static double
read_double_text(const JsonbReader *reader, const char *text)
{
	double result;
	char  *end;

	result = strtod(text, &end);
	if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text) || *end != '\0' || isinf(result))
		bad(reader, "a number is not a double");
	return result;
}

/* strict decimal int64, as text without surrounding space */
static bool
parse_int64(const char *text, int64 *out)
{
	char *end;

	if (*text != '-' && !(*text >= '0' && *text <= '9'))
		return false;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

/* An integer beyond int64: does it have no more digits than doubles need? */
static bool
is_long_double(const char *text)
{
	size_t digits = strlen(text) - (*text == '-');

	while (digits > 0 && text[digits - (*text != '-')] == '0')
		digits--;
	return digits <= 17;
}

static void
read_number(const JsonbReader *reader, const JsonbValue *in, AnyValue *out)
{
	char *text = number_text(in);

	if (strchr(text, '.') != NULL)
	{
		out->type = ANY_DOUBLE;
		out->u.number = read_double_text(reader, text);
	}
	else if (parse_int64(text, &out->u.integer))
		out->type = ANY_INT;
	else if (is_long_double(text))
	{
		out->type = ANY_DOUBLE;
		out->u.number = read_double_text(reader, text);
	}
	else
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("invalid value for column \"%s\": integer out of range", reader->column),
		         errhint("Attribute integers have 64 bits; write a double with a point, such as 1.0, or a string.")));
	pfree(text);
}

static void read_value(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out);
static void read_otlp(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out);

static char *
string_of(const JsonbReader *reader, const JsonbValue *in)
{
	if (in->type != jbvString)
		bad(reader, "a member of a \"" WRAPPER_KEY "\" value has the wrong type");
	return pnstrdup(in->val.string.val, in->val.string.len);
}

static void
read_base64(const JsonbReader *reader, const JsonbValue *in, AnyValue *out)
{
	int    size;
	int    n;
	uint8 *data;

	if (in->type != jbvString)
		bad(reader, "\"bytesValue\" must be a base64 string");
	size = pg_b64_dec_len(in->val.string.len);
	data = reader_alloc(reader, size);
#if PG_VERSION_NUM >= 180000
	n = pg_b64_decode(in->val.string.val, in->val.string.len, data, size);
#else
	n = pg_b64_decode(in->val.string.val, in->val.string.len, (char *) data, size);
#endif
	if (n < 0)
		bad(reader, "\"bytesValue\" must be a base64 string");
	out->type = ANY_BYTES;
	out->len = (uint32) n;
	out->u.data = (const char *) data;
}

/* The only pair of an object, whose iterator stands behind its start. */
static void
only_pair(JsonbIterator **it, JsonbValue *key, JsonbValue *value)
{
	(void) JsonbIteratorNext(it, key, true);
	(void) JsonbIteratorNext(it, value, true);
}

/* Opens an object or array (jbvBinary); false if it is neither or the other. */
static bool
open_container(const JsonbValue *in, bool object, JsonbIterator **it, int *count)
{
	JsonbValue         start;
	JsonbIteratorToken token;

	if (in->type != jbvBinary)
		return false;
	*it = JsonbIteratorInit(in->val.binary.data);
	token = JsonbIteratorNext(it, &start, true);
	if (token != (object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY))
		return false;
	*count = object ? start.val.object.nPairs : start.val.array.nElems;
	return object || !start.val.array.rawScalar;
}

/* {"values": [...]}, or {} for none: the array, opened, or NULL */
static JsonbIterator *
open_values(const JsonbReader *reader, const JsonbValue *in, int *count)
{
	JsonbIterator *it;
	JsonbValue     key;
	JsonbValue     value;

	if (!open_container(in, true, &it, count) || *count > 1)
		bad(reader, "a \"" WRAPPER_KEY "\" list must be {\"values\": [...]}");
	if (*count == 0)
		return NULL;
	only_pair(&it, &key, &value);
	if (!key_is(&key, "values") || !open_container(&value, false, &it, count))
		bad(reader, "a \"" WRAPPER_KEY "\" list must be {\"values\": [...]}");
	return it;
}

static void
read_otlp_array(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out)
{
	int            count;
	JsonbIterator *it = open_values(reader, in, &count);
	AnyValue      *elements = reader_alloc(reader, sizeof(AnyValue) * count);
	JsonbValue     value;

	for (int i = 0; i < count; i++)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		read_otlp(reader, &value, depth + 1, &elements[i]);
	}
	out->type = ANY_ARRAY;
	out->len = (uint32) count;
	out->u.elements = elements;
}

static void
read_otlp_kvlist(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out)
{
	int            count;
	JsonbIterator *it = open_values(reader, in, &count);
	KeyValue      *members = reader_alloc(reader, sizeof(KeyValue) * count);
	JsonbValue     element;

	for (int i = 0; i < count; i++)
	{
		JsonbIterator *inner;
		int            n;
		bool           have_key = false;
		JsonbValue     key;
		JsonbValue     value;

		(void) JsonbIteratorNext(&it, &element, true);
		if (!open_container(&element, true, &inner, &n))
			bad(reader, "a \"kvlistValue\" has elements {\"key\": ..., \"value\": ...}");
		memset(&members[i], 0, sizeof(KeyValue));
		for (int j = 0; j < n; j++)
		{
			only_pair(&inner, &key, &value);
			if (key_is(&key, "key") && value.type == jbvString)
			{
				members[i].key = reader_text(reader, &value);
				have_key = true;
			}
			else if (key_is(&key, "value"))
				read_otlp(reader, &value, depth + 1, &members[i].value);
			else
				bad(reader, "a \"kvlistValue\" has elements {\"key\": ..., \"value\": ...}");
		}
		if (!have_key)
			bad(reader, "a \"kvlistValue\" has elements {\"key\": ..., \"value\": ...}");
	}
	out->type = ANY_KVLIST;
	out->len = (uint32) count;
	out->u.members = members;
}

/* What stands in a wrapper: an OTLP JSON AnyValue. */
static void
read_otlp(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out)
{
	JsonbIterator *it;
	JsonbValue     key;
	JsonbValue     value;
	int            count;

	if (depth > ANY_VALUE_MAX_DEPTH)
		bad(reader, "attributes are nested too deeply");
	memset(out, 0, sizeof(*out));
	if (!open_container(in, true, &it, &count) || count > 1)
		bad(reader, "\"" WRAPPER_KEY "\" must be an OTLP value with one member at most");
	if (count == 0)
		return; /* ANY_EMPTY */
	only_pair(&it, &key, &value);
	if (key_is(&key, "stringValue") && value.type == jbvString)
	{
		SpanText text = reader_text(reader, &value);

		out->type = ANY_STRING;
		out->len = text.len;
		out->u.data = text.data;
	}
	else if (key_is(&key, "boolValue") && value.type == jbvBool)
	{
		out->type = ANY_BOOL;
		out->u.boolean = value.val.boolean;
	}
	else if (key_is(&key, "intValue"))
	{
		char *text = value.type == jbvNumeric ? number_text(&value) : string_of(reader, &value);

		out->type = ANY_INT;
		if (!parse_int64(text, &out->u.integer))
			bad(reader, "\"intValue\" must be a 64-bit integer");
	}
	else if (key_is(&key, "doubleValue"))
	{
		char *text = value.type == jbvNumeric ? number_text(&value) : string_of(reader, &value);

		out->type = ANY_DOUBLE;
		if (strcmp(text, "NaN") == 0)
			out->u.number = NAN;
		else if (strcmp(text, "Infinity") == 0)
			out->u.number = INFINITY;
		else if (strcmp(text, "-Infinity") == 0)
			out->u.number = -INFINITY;
		else
			out->u.number = read_double_text(reader, text);
	}
	else if (key_is(&key, "bytesValue"))
		read_base64(reader, &value, out);
	else if (key_is(&key, "arrayValue"))
		read_otlp_array(reader, &value, depth, out);
	else if (key_is(&key, "kvlistValue"))
		read_otlp_kvlist(reader, &value, depth, out);
	else
		bad(reader, "\"" WRAPPER_KEY "\" has an unknown member or one of the wrong type");
}

/*
 * A container where a value stands, opened.  It is a wrapper if its only key
 * is the wrapper's.
 */
static void
read_object(const JsonbReader *reader, JsonbIterator *it, int count, int depth, AnyValue *out)
{
	KeyValue  *members;
	JsonbValue key;
	JsonbValue value;

	if (count == 1)
	{
		only_pair(&it, &key, &value);
		if (key_is(&key, WRAPPER_KEY))
		{
			read_otlp(reader, &value, depth, out);
			return;
		}
	}
	members = reader_alloc(reader, sizeof(KeyValue) * count);
	for (int i = 0; i < count; i++)
	{
		if (count != 1)
			only_pair(&it, &key, &value);
		members[i].key = reader_text(reader, &key);
		members[i].key_id = 0;
		read_value(reader, &value, depth + 1, &members[i].value);
	}
	out->type = ANY_KVLIST;
	out->len = (uint32) count;
	out->u.members = members;
}

static void
read_value(const JsonbReader *reader, const JsonbValue *in, int depth, AnyValue *out)
{
	JsonbIterator *it;
	int            count;
	SpanText       text;

	if (depth > ANY_VALUE_MAX_DEPTH)
		bad(reader, "attributes are nested too deeply");
	memset(out, 0, sizeof(*out));
	switch (in->type)
	{
		case jbvNull:
			return; /* ANY_EMPTY */
		case jbvString:
			text = reader_text(reader, in);
			out->type = ANY_STRING;
			out->len = text.len;
			out->u.data = text.data;
			return;
		case jbvBool:
			out->type = ANY_BOOL;
			out->u.boolean = in->val.boolean;
			return;
		case jbvNumeric:
			read_number(reader, in, out);
			return;
		default:
			break;
	}
	if (open_container(in, true, &it, &count))
		read_object(reader, it, count, depth, out);
	else if (open_container(in, false, &it, &count))
	{
		AnyValue  *elements = reader_alloc(reader, sizeof(AnyValue) * count);
		JsonbValue element;

		for (int i = 0; i < count; i++)
		{
			(void) JsonbIteratorNext(&it, &element, true);
			read_value(reader, &element, depth + 1, &elements[i]);
		}
		out->type = ANY_ARRAY;
		out->len = (uint32) count;
		out->u.elements = elements;
	}
	else
		bad(reader, "unexpected JSON value");
}

void
tempo_value_from_jsonb(const JsonbValue *in, SpanBatch *batch, const char *column, AnyValue *out)
{
	JsonbReader reader = {batch, column};

	read_value(&reader, in, 0, out);
}

static void
binary_of(Jsonb *in, JsonbValue *out)
{
	out->type = jbvBinary;
	out->val.binary.data = &in->root;
	out->val.binary.len = VARSIZE(in) - VARHDRSZ;
}

static AttributeList
read_attributes(const JsonbReader *reader, const JsonbValue *in)
{
	JsonbIterator *it;
	int            count;
	KeyValue      *items;
	JsonbValue     key;
	JsonbValue     value;
	AttributeList  list;

	if (!open_container(in, true, &it, &count))
		bad(reader, "attributes must be a JSON object");
	items = reader_alloc(reader, sizeof(KeyValue) * count);
	for (int i = 0; i < count; i++)
	{
		only_pair(&it, &key, &value);
		read_key(reader, &key, &items[i]);
		read_value(reader, &value, 0, &items[i].value);
	}
	list.items = items;
	list.count = (uint32) count;
	return list;
}

AttributeList
tempo_attributes_from_jsonb(Jsonb *in, SpanBatch *batch, const char *column)
{
	JsonbReader reader = {batch, column};
	JsonbValue  root;

	binary_of(in, &root);
	return read_attributes(&reader, &root);
}

static uint32
read_uint32(const JsonbReader *reader, const JsonbValue *in)
{
	int64 n = 0;

	if (in->type != jbvNumeric || !parse_int64(number_text(in), &n) || n < 0 || n > UINT32_MAX)
		bad(reader, "a count or flags must be an integer of 32 bits");
	return (uint32) n;
}

static void
read_event(const JsonbReader *reader, const JsonbValue *in, SpanEvent *event)
{
	JsonbIterator *it;
	int            count;
	JsonbValue     key;
	JsonbValue     value;

	if (!open_container(in, true, &it, &count))
		bad(reader, "an event must be a JSON object");
	memset(event, 0, sizeof(*event));
	for (int i = 0; i < count; i++)
	{
		only_pair(&it, &key, &value);
		if (key_is(&key, "time_unix_nano"))
		{
			if (value.type != jbvNumeric ||
			    !parse_int64(number_text(&value), &event->time_unix_nano) || event->time_unix_nano < 0)
				bad(reader, "\"time_unix_nano\" must be an integer between 0 and 9223372036854775807");
		}
		else if (key_is(&key, "name") && value.type == jbvString)
			event->name = reader_text(reader, &value);
		else if (key_is(&key, "attributes"))
			event->attributes = read_attributes(reader, &value);
		else if (key_is(&key, "dropped_attributes_count"))
			event->dropped_attributes_count = read_uint32(reader, &value);
		else
			bad(reader, "an event has an unknown member or one of the wrong type");
	}
}

static void
read_id(const JsonbReader *reader, const JsonbValue *in, uint8 *id, size_t len)
{
	if (in->type != jbvString ||
	    !id_from_hex(in->val.string.val, in->val.string.len, id, len))
		bad(reader, "a link's \"trace_id\" has 32 and its \"span_id\" 16 hexadecimal digits");
}

static void
read_link(const JsonbReader *reader, const JsonbValue *in, SpanLink *link)
{
	JsonbIterator *it;
	int            count;
	JsonbValue     key;
	JsonbValue     value;

	if (!open_container(in, true, &it, &count))
		bad(reader, "a link must be a JSON object");
	memset(link, 0, sizeof(*link));
	for (int i = 0; i < count; i++)
	{
		only_pair(&it, &key, &value);
		if (key_is(&key, "trace_id"))
			read_id(reader, &value, link->trace_id.bytes, TRACE_ID_LEN);
		else if (key_is(&key, "span_id"))
			read_id(reader, &value, link->span_id.bytes, SPAN_ID_LEN);
		else if (key_is(&key, "trace_state") && value.type == jbvString)
			link->trace_state = reader_text(reader, &value);
		else if (key_is(&key, "flags"))
			link->flags = read_uint32(reader, &value);
		else if (key_is(&key, "attributes"))
			link->attributes = read_attributes(reader, &value);
		else if (key_is(&key, "dropped_attributes_count"))
			link->dropped_attributes_count = read_uint32(reader, &value);
		else
			bad(reader, "a link has an unknown member or one of the wrong type");
	}
}

/* Events and links: an array of objects. */
static JsonbIterator *
open_list(const JsonbReader *reader, Jsonb *in, int *count)
{
	JsonbValue     root;
	JsonbIterator *it;

	binary_of(in, &root);
	if (!open_container(&root, false, &it, count))
		bad(reader, "it must be a JSON array");
	return it;
}

void
tempo_events_from_jsonb(Jsonb *in, SpanBatch *batch, const SpanEvent **events, uint32 *n_events)
{
	JsonbReader    reader = {batch, "events"};
	int            count;
	JsonbIterator *it = open_list(&reader, in, &count);
	SpanEvent     *out = reader_alloc(&reader, sizeof(SpanEvent) * count);
	JsonbValue     element;

	for (int i = 0; i < count; i++)
	{
		(void) JsonbIteratorNext(&it, &element, true);
		read_event(&reader, &element, &out[i]);
	}
	*events = out;
	*n_events = (uint32) count;
}

void
tempo_links_from_jsonb(Jsonb *in, SpanBatch *batch, const SpanLink **links, uint32 *n_links)
{
	JsonbReader    reader = {batch, "links"};
	int            count;
	JsonbIterator *it = open_list(&reader, in, &count);
	SpanLink      *out = reader_alloc(&reader, sizeof(SpanLink) * count);
	JsonbValue     element;

	for (int i = 0; i < count; i++)
	{
		(void) JsonbIteratorNext(&it, &element, true);
		read_link(&reader, &element, &out[i]);
	}
	*links = out;
	*n_links = (uint32) count;
}
