/*-------------------------------------------------------------------------
 *
 * json_tree.c
 *	  A JSON text as a tree, parsed by PostgreSQL's common/jsonapi.h.
 *
 * This file also builds without a server, with -DFRONTEND and libpgcommon.
 * It never lets the parser see what that would refuse and we accept (\u0000
 * and lone surrogates), nor nesting that its recursion could not bear: a scan
 * of the text comes first.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/environment.h"

#include <limits.h>

#include "common/jsonapi.h"
#include "ingest/json_tree.h"
#include "mb/pg_wchar.h"

/* From 16 on the actions return whether to go on. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType ActionResult;
#define ACTION_RETURN return JSON_SUCCESS
#else
typedef void ActionResult;
#define ACTION_RETURN return
#endif

typedef struct TreeBuilder
{
	const JsonName *names;
	int             n_names;
	int             open_field; /* objects in it keep all members */
	Arena          *arena;
	bool            no_memory;
	JsonNode       *root;
	JsonNode       *open[JSON_MAX_DEPTH]; /* objects and arrays, outermost first */
	int             depth;
	int             field;    /* of the member whose value comes next */
	SpanText        name;     /* its name, in an object that keeps all members */
	int             skipping; /* members inside a member that is left out, it included */
} TreeBuilder;

/* ------------------------------------------------------------- first scan */

static int
hex_value(const char *p)
{
	int value = 0;

	for (int i = 0; i < 4; i++)
	{
		char c = p[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			value = value * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return value;
}

/* The code unit of a \uXXXX at "p", or -1 if there is none. */
static int
unicode_escape(const char *p, const char *end)
{
	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	return hex_value(p + 2);
}

#define HIGH_SURROGATE(u) ((u) >= 0xD800 && (u) <= 0xDBFF)
#define LOW_SURROGATE(u) ((u) >= 0xDC00 && (u) <= 0xDFFF)

/*
 * Checks the nesting and replaces the escapes that stand for no character.
 * *body becomes a changed copy if there are any.  What is malformed here is
 * left for the parser to find.
 */
static bool
prepare(const char **body, size_t len, Arena *arena, uint64_t *sanitized, SpanError *error)
{
	const char *start = *body;
	const char *end = start + len;
	const char *p = start;
	char       *copy = NULL;
	bool        in_string = false;
	bool        changed = false;
	int         depth = 0;

	while (p < end)
	{
		int unit;

		if (!in_string)
		{
			if (*p == '"')
			{
				in_string = true;
				changed = false;
			}
			else if (*p == '{' || *p == '[')
			{
				if (++depth > JSON_MAX_DEPTH)
					return span_error(error, SPAN_ERROR_LIMIT, "JSON is nested more than %d levels deep", JSON_MAX_DEPTH);
			}
			else if (*p == '}' || *p == ']')
				depth--;
			p++;
			continue;
		}
		if (*p == '"')
			in_string = false;
		if (*p != '\\')
		{
			p++;
			continue;
		}
		unit = unicode_escape(p, end);
		if (unit < 0)
		{
			p += 2;
			continue;
		}
		if (HIGH_SURROGATE(unit) && LOW_SURROGATE(unicode_escape(p + 6, end)))
		{
			p += 12;
			continue;
		}
		if (unit == 0 || HIGH_SURROGATE(unit) || LOW_SURROGATE(unit))
		{
			if (copy == NULL)
			{
				copy = arena_copy(arena, start, len);
				if (copy == NULL)
					return span_error(error, SPAN_ERROR_MEMORY, "the request needs more memory than is available");
			}
			memcpy(copy + (p - start) + 2, "fffd", 4);
			if (!changed)
				(*sanitized)++;
			changed = true;
		}
		p += 6;
	}
	if (copy != NULL)
		*body = copy;
	return true;
}

/* --------------------------------------------------------------- building */

static int
find_name(const TreeBuilder *builder, const char *name)
{
	int low = 0;
	int high = builder->n_names;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = strcmp(name, builder->names[middle].name);

		if (order == 0)
			return builder->names[middle].field;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

/* Adds a node below the innermost open one. */
static JsonNode *
add_node(TreeBuilder *builder, JsonNodeType type)
{
	JsonNode *node;
	JsonNode *parent;

	if (builder->no_memory)
		return NULL;
	node = arena_alloc0(builder->arena, sizeof(JsonNode));
	if (node == NULL)
	{
		builder->no_memory = true;
		return NULL;
	}
	node->type = type;
	node->field = builder->field;
	node->name = builder->name;
	if (builder->depth == 0)
	{
		builder->root = node;
		return node;
	}
	parent = builder->open[builder->depth - 1];
	if (parent->type == JSON_NODE_ARRAY)
		node->field = JSON_OTHER_NAME;
	if (parent->last == NULL)
		parent->first = node;
	else
		parent->last->next = node;
	parent->last = node;
	parent->count++;
	return node;
}

static void
open_node(TreeBuilder *builder, JsonNodeType type)
{
	JsonNode *node;

	if (builder->skipping > 0)
		return;
	node = add_node(builder, type);
	if (node != NULL)
		builder->open[builder->depth++] = node;
}

static void
close_node(TreeBuilder *builder)
{
	if (builder->skipping == 0 && !builder->no_memory)
		builder->depth--;
}

static ActionResult
object_start(void *state)
{
	open_node(state, JSON_NODE_OBJECT);
	ACTION_RETURN;
}

static ActionResult
array_start(void *state)
{
	open_node(state, JSON_NODE_ARRAY);
	ACTION_RETURN;
}

static ActionResult
container_end(void *state)
{
	close_node(state);
	ACTION_RETURN;
}

/* The name of a member of an object that keeps all of them. */
static void
keep_name(TreeBuilder *builder, const char *name)
{
	size_t len = strlen(name);

	builder->field = JSON_OTHER_NAME;
	builder->name.data = arena_copy(builder->arena, name, len + 1);
	builder->name.len = (uint32_t) len;
	if (builder->name.data == NULL)
		builder->no_memory = true;
}

static ActionResult
field_start(void *state, char *name, bool isnull)
{
	TreeBuilder *builder = state;

	if (builder->skipping > 0)
		builder->skipping++;
	else
	{
		builder->field = isnull ? JSON_ROOT : find_name(builder, name);
		builder->name = span_text(NULL, 0);
		if (!isnull && builder->depth > 0 && builder->open[builder->depth - 1]->field == builder->open_field)
			keep_name(builder, name);
		else if (builder->field < 0)
			builder->skipping = 1;
	}
	ACTION_RETURN;
}

static ActionResult
field_end(void *state, char *name, bool isnull)
{
	TreeBuilder *builder = state;

	if (builder->skipping > 0)
		builder->skipping--;
	pfree(name);
	ACTION_RETURN;
}

static ActionResult
scalar(void *state, char *token, JsonTokenType type)
{
	TreeBuilder *builder = state;
	JsonNode    *node = NULL;

	if (builder->skipping == 0)
	{
		switch (type)
		{
			case JSON_TOKEN_STRING:
				node = add_node(builder, JSON_NODE_STRING);
				break;
			case JSON_TOKEN_NUMBER:
				node = add_node(builder, JSON_NODE_NUMBER);
				break;
			case JSON_TOKEN_TRUE:
				(void) add_node(builder, JSON_NODE_TRUE);
				break;
			case JSON_TOKEN_FALSE:
				(void) add_node(builder, JSON_NODE_FALSE);
				break;
			default:
				(void) add_node(builder, JSON_NODE_NULL);
		}
	}
	if (node != NULL)
	{
		size_t len = strlen(token);

		node->text.data = arena_copy(builder->arena, token, len + 1);
		node->text.len = (uint32_t) len;
		if (node->text.data == NULL)
			builder->no_memory = true;
	}
	pfree(token);
	ACTION_RETURN;
}

JsonNode *
json_tree_parse(const char *body, size_t len, const JsonName *names, int n_names, int open,
                Arena *arena, uint64_t *sanitized, SpanError *error)
{
	TreeBuilder   builder;
	JsonSemAction actions = {
		.semstate = &builder,
		.object_start = object_start,
		.object_end = container_end,
		.array_start = array_start,
		.array_end = container_end,
		.object_field_start = field_start,
		.object_field_end = field_end,
		.scalar = scalar,
	};
	JsonLexContext    *lex;
	JsonParseErrorType outcome;

	if (len >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
	{
		body += 3;
		len -= 3;
	}
	if (len > INT_MAX / 2)
	{
		span_error(error, SPAN_ERROR_LIMIT, "a JSON text of %zu bytes is too large", len);
		return NULL;
	}
	if (!prepare(&body, len, arena, sanitized, error))
		return NULL;

	memset(&builder, 0, sizeof(builder));
	builder.names = names;
	builder.n_names = n_names;
	builder.open_field = open;
	builder.arena = arena;
	builder.field = JSON_ROOT;
#if PG_VERSION_NUM >= 170000
	lex = makeJsonLexContextCstringLen(NULL, body, len, PG_UTF8, true);
#else
	lex = makeJsonLexContextCstringLen(unconstify(char *, body), (int) len, PG_UTF8, true);
#endif
	outcome = pg_parse_json(lex, &actions);
	if (outcome != JSON_SUCCESS)
	{
		if (len == 0)
			span_error(error, SPAN_ERROR_INVALID, "malformed JSON: the body is empty");
		else
			span_error(error, SPAN_ERROR_INVALID, "malformed JSON at byte %zu",
			           lex->token_start == NULL ? len : (size_t) (lex->token_start - body) + 1);
	}
	else if (builder.no_memory)
		span_error(error, SPAN_ERROR_MEMORY, "the request needs more memory than is available");
#if PG_VERSION_NUM >= 170000
	freeJsonLexContext(lex);
#else
	pfree(lex->strval->data);
	pfree(lex->strval);
	pfree(lex);
#endif
	return outcome == JSON_SUCCESS && !builder.no_memory ? builder.root : NULL;
}

const JsonNode *
json_member(const JsonNode *node, int field)
{
	const JsonNode *found = NULL;

	if (node != NULL && node->type == JSON_NODE_OBJECT)
		for (const JsonNode *member = node->first; member != NULL; member = member->next)
			if (member->field == field)
				found = member;
	return found;
}
