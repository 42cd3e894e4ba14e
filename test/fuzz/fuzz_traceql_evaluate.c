/*-------------------------------------------------------------------------
 *
 * fuzz_traceql_evaluate.c
 *	  libFuzzer target: a query, generated from bytes along the grammar,
 *	  over a trace generated from bytes: the stages, the expressions, the
 *	  tree with its cycles and holes, the values.
 *
 * The canonical form of the query must find the same spansets, and no
 * spanset may be empty, unsorted or reach outside of the trace.  Those
 * functions of runtime.c and filter.c that need a server are linked without
 * what they call; nothing here calls them.
 *
 * fuzz-needs: traceql
 * fuzz-sources: ../../src/traceql/evaluate.c ../../src/traceql/pipeline.c ../../src/traceql/tree.c ../../src/traceql/runtime.c ../../src/traceql/filter.c server_absent.c -Wl,--allow-multiple-definition
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "server_shim.h"
#include "traceql/engine.h"

#define MAX_SPANS 24
#define MAX_KEYS 4

/* ------------------------------------------------------------------ input */

static const uint8_t *bytes;
static size_t         n_bytes;

static unsigned
take(unsigned below)
{
	if (n_bytes == 0)
		return 0;
	n_bytes--;
	return *bytes++ % below;
}

static const char *
pick(const char *const *words, unsigned n)
{
	return words[take(n)];
}

#define PICK(...) pick((const char *const[]){__VA_ARGS__}, lengthof(((const char *const[]){__VA_ARGS__})))

/* ------------------------------------------- attributes without a server */

/* An attribute set is an array of these, behind the pointer that is otherwise of jsonb. */
typedef struct Member
{
	const char *key;
	TqlValue    value;
} Member;

/* Linked before the one of runtime.c. */
void
tql_value_from_set(JsonbContainer *set, const char *key, int key_len, TqlValue *out)
{
	const Member *members = (const Member *) set;

	memset(out, 0, sizeof(*out));
	for (int i = 0; members && i < MAX_KEYS; i++)
	{
		if (members[i].key && strlen(members[i].key) == key_len && memcmp(members[i].key, key, key_len) == 0)
			*out = members[i].value;
	}
}

/* Events and links are there from the start. */
void
tql_read_lists(TqlSpan *span)
{
}

static TqlText
make_text(void)
{
	const char *s = PICK("", "x", "op", "5", "K\nz", "\xc3\xa9", "svc", "true");

	return (TqlText){s, strlen(s)};
}

static void
make_value(TqlValue *out, bool scalar)
{
	static const int64  integers[] = {0, 1, 5, -7, 2, PG_INT64_MAX, PG_INT64_MIN};
	static const double doubles[] = {0.0, 2.5, -1.5, 5.0, 1e300, -0.0, 1e-310};
	TqlText             text;

	memset(out, 0, sizeof(*out));
	switch (take(scalar ? 4 : 7))
	{
		case 0:
			out->type = TQL_V_INT;
			out->n = integers[take(lengthof(integers))];
			break;
		case 1:
			out->type = TQL_V_DOUBLE;
			out->d = doubles[take(lengthof(doubles))];
			break;
		case 2:
			text = make_text();
			out->type = TQL_V_STRING;
			out->s = text.s;
			out->len = text.len;
			break;
		case 3:
			out->type = TQL_V_BOOL;
			out->n = take(2);
			break;
		case 4:
			out->type = TQL_V_OPAQUE;
			break;
		case 5:
			out->type = TQL_V_DOUBLE;
			out->d = take(2) ? NAN : INFINITY;
			break;
		default:
			out->type = TQL_V_ARRAY;
			out->n_elements = 2 + take(2);
			out->elements = palloc(sizeof(TqlValue) * out->n_elements);
			make_value(&out->elements[0], true);
			for (uint32 i = 1; i < out->n_elements; i++)
			{
				do
					make_value(&out->elements[i], true);
				while (n_bytes > 0 && out->elements[i].type != out->elements[0].type);
				if (out->elements[i].type != out->elements[0].type)
					out->elements[i] = out->elements[0];
			}
			break;
	}
}

static void *
make_set(void)
{
	Member *members;

	if (take(4) == 0)
		return NULL;
	members = palloc0(sizeof(Member) * MAX_KEYS);
	for (int i = 0; i < MAX_KEYS; i++)
	{
		if (take(2) == 0)
			continue;
		members[i].key = ((const char *const[]){"a", "b", "c", "service.name"})[i];
		make_value(&members[i].value, false);
	}
	return members;
}

/* The root of a jsonb is behind its length: make it where the members are. */
static Jsonb *
make_jsonb(void)
{
	char *set = make_set();

	return set ? (Jsonb *) (set - offsetof(Jsonb, root)) : NULL;
}

static int
compare_starts(const void *a, const void *b)
{
	const TqlSpan *x = a;
	const TqlSpan *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static TqlTrace *
make_trace(void)
{
	TqlTrace *trace = palloc0(sizeof(TqlTrace));

	for (int i = 0; i < 16; i++)
		trace->trace_id[i] = take(4);
	trace->n_spans = 1 + take(MAX_SPANS);
	trace->spans = palloc0(sizeof(TqlSpan) * trace->n_spans);
	for (int i = 0; i < trace->n_spans; i++)
	{
		TqlSpan *span = &trace->spans[i];

		span->id = 1 + (take(8) ? i : take(MAX_SPANS));
		span->has_parent = take(6) > 0;
		span->parent_id = span->has_parent ? 1 + take(MAX_SPANS) : 0;
		span->kind = take(6);
		span->kind_number = span->kind;
		span->kind_text = (TqlText){tql_kind_text(span->kind), strlen(tql_kind_text(span->kind))};
		span->status = take(3);
		span->start = take(200);
		span->duration = take(100) * INT64CONST(1000000);
		span->name = make_text();
		span->service = make_text();
		span->status_message = make_text();
		span->attributes = make_jsonb();
		span->resource = make_jsonb();
		span->scope_attributes = make_jsonb();
		span->lists_read = true;
		span->n_events = take(3);
		span->events = palloc0(sizeof(TqlEvent) * 3);
		for (int e = 0; e < span->n_events; e++)
			span->events[e] = (TqlEvent){span->start + e, make_text(), make_set()};
		span->n_links = take(3);
		span->links = palloc0(sizeof(TqlLink) * 3);
		for (int l = 0; l < span->n_links; l++)
			span->links[l] = (TqlLink){{"00000000000000000000000000000001", 32}, {"0000000000000002", 16}, make_set()};
	}
	qsort(trace->spans, trace->n_spans, sizeof(TqlSpan), compare_starts);
	trace->start = trace->spans[0].start;
	trace->root = -1;
	for (int i = 0; i < trace->n_spans; i++)
	{
		trace->stop = Max(trace->stop, trace->spans[i].start + trace->spans[i].duration);
		if (trace->root < 0 && !trace->spans[i].has_parent)
			trace->root = i;
	}
	return trace;
}

/* ---------------------------------------------------------------- queries */

static void
make_operand(StringInfo out)
{
	if (take(3) == 0)
		appendStringInfoString(out, PICK("1", "0", "2.5", "-7", "maxInt", "`x`", "`5`", "true", "false", "10ms", "error", "server", "`01`", "\"\"", "minInt"));
	else
		appendStringInfoString(out, PICK(".a", ".b", "span.a", "span.b", "resource.a", "resource.service.name", "event.a", "event:name", "event:timeSinceStart",
		                                 "link.a", "link:spanID", "link:traceID", "instrumentation.a", "instrumentation:name", "name", "status", "kind", "duration", "statusMessage",
		                                 "traceDuration", "rootName", "rootServiceName", "nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:childCount", "span:id", "span:parentID", "trace:id"));
}

static void
make_expression(StringInfo out, int depth)
{
	unsigned kind = depth <= 0 ? 0 : take(12);

	appendStringInfoChar(out, '(');
	switch (kind)
	{
		case 0:
			make_operand(out);
			break;
		case 1:
			appendStringInfoString(out, PICK("!", "-"));
			make_expression(out, depth - 1);
			break;
		case 2:
			make_operand(out);
			appendStringInfoString(out, PICK(" = nil", " != nil"));
			break;
		case 3:
			make_operand(out);
			appendStringInfo(out, " %s `%s`", PICK("=~", "!~"), PICK("x.*", ".*", "[x5]+", "(?i)OP", ""));
			break;
		case 4:
			appendStringInfo(out, "%s %s [`x`, `%s`]", PICK(".a", "event:name", "name", "span:id"), PICK("IN", "NOT IN", "MATCH ANY", "MATCH NONE"), PICK("op", "", "5"));
			break;
		case 5:
		case 6:
		case 7:
			make_operand(out);
			appendStringInfo(out, " %s ", PICK("=", "!=", "<", "<=", ">", ">="));
			make_operand(out);
			break;
		default:
			make_expression(out, depth - 1);
			appendStringInfo(out, " %s ", PICK("&&", "||", "&&", "||", "=", "!=", "<", ">=", "+", "-", "*", "/", "%", "^"));
			make_expression(out, depth - 1);
			break;
	}
	appendStringInfoChar(out, ')');
}

static void make_pipeline(StringInfo out, int depth);

static void
make_spanset(StringInfo out, int depth, bool wrapped)
{
	if (depth > 0 && take(3) > 0)
	{
		appendStringInfoChar(out, '(');
		make_spanset(out, depth - 1, wrapped);
		appendStringInfo(out, " %s ", PICK("&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"));
		make_spanset(out, depth - 1, wrapped);
		appendStringInfoChar(out, ')');
	}
	else if (wrapped)
	{
		appendStringInfoChar(out, '(');
		make_pipeline(out, depth - 1);
		appendStringInfoChar(out, ')');
	}
	else
	{
		appendStringInfoString(out, "{ ");
		if (take(4) > 0)
			make_expression(out, take(4));
		appendStringInfoString(out, " }");
	}
}

static void
make_pipeline(StringInfo out, int depth)
{
	make_spanset(out, depth, false);
	for (unsigned n = take(4); n > 0; n--)
	{
		appendStringInfoString(out, " | ");
		switch (take(5))
		{
			case 0:
				make_spanset(out, 1, false);
				break;
			case 1:
				appendStringInfoString(out, "by(");
				make_expression(out, take(3));
				appendStringInfoChar(out, ')');
				break;
			case 2:
				appendStringInfoString(out, PICK("coalesce()", "select(.a, name)"));
				break;
			case 3:
				appendStringInfo(out, "count() %s %s", PICK("=", ">", "<="), PICK("1", "2", "2.5"));
				break;
			default:
				appendStringInfo(out, "%s(", PICK("sum", "avg", "min", "max"));
				make_expression(out, take(3));
				appendStringInfo(out, ") %s %s", PICK("=", "!=", ">", "<="), PICK("1", "-2", "2.5", "10ms"));
				break;
		}
	}
}

/* ------------------------------------------------------------------ check */

/* The spansets, as text; what is wrong with them is a failure. */
static char *
run(const char *query, TqlTrace *trace)
{
	StringInfoData out;
	ListCell      *lc;

	for (int i = 0; i < trace->n_spans; i++)
		trace->spans[i].event = trace->spans[i].link = 0;
	initStringInfo(&out);
	foreach (lc, tql_run_pipeline(trace, tql_parse(query, strlen(query))->pipeline))
	{
		const TqlGroup *group = lfirst(lc);

		if (group->n <= 0)
			abort();
		for (int i = 0; i < group->n; i++)
		{
			if (group->members[i] < 0 || group->members[i] >= trace->n_spans || (i > 0 && group->members[i] <= group->members[i - 1]))
				abort();
			appendStringInfo(&out, " %d", group->members[i]);
		}
		appendStringInfo(&out, "/%d;", list_length(group->attributes));
	}
	return out.data;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	StringInfoData query;
	TqlTrace      *trace;
	char *volatile once = NULL;
	char *volatile twice = NULL;
	char *volatile canonical = NULL;
	bool ok;

	bytes = data;
	n_bytes = size;
	initStringInfo(&query);
	if (take(8) == 0)
		make_spanset(&query, 2, true);
	else
		make_pipeline(&query, take(4));
	trace = make_trace();
	SHIM_TRY(ok, once = run(query.data, trace));
	if (ok)
	{
		SHIM_TRY(ok, canonical = tql_print_query(tql_parse(query.data, strlen(query.data))));
		if (ok && strstr(canonical, "-9223372036854775808") == NULL)
		{
			SHIM_TRY(ok, twice = run(canonical, trace));
			if (!ok || strcmp(once, twice) != 0)
			{
				fprintf(stderr, "%s\n%s\nonce: %s\ntwice: %s\n%s\n", query.data, canonical, once, ok ? twice : "", ok ? "" : shim_message);
				abort();
			}
		}
	}
	shim_reset();
	return 0;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	shim_write_seeds(*argc, *argv, "traceql.queries");
	return 0;
}
