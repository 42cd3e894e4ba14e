/*-------------------------------------------------------------------------
 *
 * json_tree.h
 *	  A JSON text as a tree, for decoders whose fields may come in any order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_JSON_TREE_H
#define TEMPO_INGEST_JSON_TREE_H

#include "span/allocator.h"
#include "span/error.h"
#include "span/value.h"

/*
 * Objects and arrays nested deeper than this are refused.  An attribute value
 * of ANY_VALUE_MAX_DEPTH levels takes four levels of JSON for each, and what
 * surrounds it takes about ten.
 */
#define JSON_MAX_DEPTH (ANY_VALUE_MAX_DEPTH * 4 + 64)

typedef enum JsonNodeType
{
	JSON_NODE_NULL, /* only as an element of an array */
	JSON_NODE_TRUE,
	JSON_NODE_FALSE,
	JSON_NODE_NUMBER,
	JSON_NODE_STRING,
	JSON_NODE_OBJECT,
	JSON_NODE_ARRAY
} JsonNodeType;

typedef struct JsonNode
{
	JsonNodeType     type;
	int              field; /* of a member of an object: which known name */
	uint32_t         count; /* members or elements */
	SpanText         name;  /* of a member whose name is not known; see json_tree_parse() */
	SpanText         text;  /* NUMBER as written, STRING unescaped; NUL-terminated */
	struct JsonNode *first;
	struct JsonNode *last;
	struct JsonNode *next;
} JsonNode;

/* Fields of what has no known name. */
#define JSON_ROOT (-1)
#define JSON_OTHER_NAME (-2)
#define JSON_NO_FIELD (-3)

/* A name that the decoder knows; tables are sorted by name. */
typedef struct JsonName
{
	const char *name;
	int         field;
} JsonName;

/*
 * json_tree_parse: one JSON value with nothing but white space around it (a
 * UTF-8 byte order mark is skipped).  Members with an unknown name, or null,
 * are left out, but the objects in field "open" (JSON_ROOT = the outermost,
 * JSON_NO_FIELD = none) keep all members that are not null, with their names.  \u0000 and lone surrogates become U+FFFD, each string changed
 * so is counted in *sanitized; text may still be invalid UTF-8.  Nodes come
 * from "arena".  NULL with *error filled when it is malformed.
 *
 * In a server this uses palloc(), so it may raise an error there when memory
 * is short.
 */
extern JsonNode *json_tree_parse(const char *body, size_t len, const JsonName *names, int n_names, int open,
                                 Arena *arena, uint64_t *sanitized, SpanError *error);

/* json_member: the last member of an object with this field; NULL = none, or node is NULL */
extern const JsonNode *json_member(const JsonNode *node, int field);

#endif /* TEMPO_INGEST_JSON_TREE_H */
