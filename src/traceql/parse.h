/*-------------------------------------------------------------------------
 *
 * parse.h
 *	  What the lexer, the grammar and shape.c share; nobody else needs it.
 *
 * The grammar reads a pipeline as one uniform tree of raw nodes, because
 * parentheses, comparisons and arithmetic look alike for spansets, scalars
 * and metrics.  shape.c then decides which of these each node is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_PARSE_H
#define TEMPO_TRACEQL_PARSE_H

#include "traceql/ast.h"

/* Where a token is and what error messages call it: the location of a symbol. */
typedef struct TqlToken
{
	int         offset; /* bytes from the start */
	const char *name;
	bool        inner; /* read within another token: errors say line 0 */
} TqlToken;

typedef enum RawKind
{
	RAW_FILTER,    /* expr */
	RAW_PAREN,     /* pipe */
	RAW_OPERATION, /* left op right */
	RAW_NEGATION,  /* left */
	RAW_LITERAL,
	RAW_AGGREGATE, /* expr */
	RAW_METRICS,
	RAW_SECOND, /* topk, bottomk */
	RAW_BY,     /* expr */
	RAW_SELECT,
	RAW_COALESCE
} RawKind;

typedef struct Raw
{
	RawKind      kind;
	int          depth;
	TqlToken     at;    /* its first token; the operator of an operation */
	TqlToken     after; /* RAW_PAREN and stages: the token behind it */
	TqlOp        op;
	struct Raw  *left;
	struct Raw  *right;
	List        *pipe; /* of Raw */
	TqlExpr     *expr;
	List        *attributes; /* of TqlAttribute */
	TqlStatic    literal;
	TqlAggregate aggregate;
	TqlMetrics  *metrics;
	TqlSecond   *second;
} Raw;

typedef struct TqlParser
{
	const char *text;
	int         length;
	void       *scanner;
	int         offset;        /* where the current token starts */
	int         scope_offset;  /* where the current attribute's scope starts */
	bool        attribute_end; /* END_ATTRIBUTE is due */
	bool        in_list;       /* behind "IN [" and its like */
	TqlToken    last;          /* the token read last: the look-ahead */
	List       *pipe;          /* result: of Raw */
	List       *hints;         /* result: of TqlHint */
} TqlParser;

/* grammar.y */
extern int tempo_traceql_yyparse(TqlParser *parser);

/* lexer.l */
extern void tql_scanner_open(TqlParser *parser);

/* literal.c */
extern bool      tql_read_duration(const char *text, int length, int64 *ns);
extern char     *tql_unescape(TqlParser *parser, const char *text, int length);
extern char     *tql_attribute_name(TqlParser *parser, const char *text, int length);
extern TqlStatic tql_read_number(TqlParser *parser, const char *text, int length);
extern char     *tql_clean_text(const char *text, int length);

/* shape.c */
extern TqlQuery *tql_shape(TqlParser *parser);

/* Errors "at line L, col C" */
extern _Noreturn void tql_parse_error(const TqlParser *parser, const TqlToken *at, const char *format, ...) pg_attribute_printf(3, 4);
extern _Noreturn void tql_unknown_identifier(const TqlParser *parser, const TqlToken *at, const char *name);
extern _Noreturn void tql_syntax_error(const TqlParser *parser, const TqlToken *at, const char *expecting);

#endif /* TEMPO_TRACEQL_PARSE_H */
