/*-------------------------------------------------------------------------
 *
 * grammar.y
 *	  The grammar of TraceQL (reference, section 2).
 *
 * Field expressions (inside braces) come out as syntax trees at once.  At
 * pipeline level the grammar is looser than the language: it makes raw nodes,
 * and shape.c says which combinations of spansets, scalars and metrics exist.
 *
 *-------------------------------------------------------------------------
 */
%code top {
#include "postgres.h"

#include "lib/stringinfo.h"
#include "traceql/parse.h"

/* The stacks of the parser go with the memory context. */
#define YYMALLOC palloc
#define YYFREE pfree
#define YYLLOC_DEFAULT(Current, Rhs, N) \
	((Current) = (N) ? YYRHSLOC(Rhs, 1) : YYRHSLOC(Rhs, 0))
}

%code requires {
#include "traceql/parse.h"
}

%define api.pure full
%define api.prefix {tempo_traceql_yy}
%define api.location.type {TqlToken}
%define parse.error custom
%locations
%param {TqlParser *parser}
%expect 0

%union {
	int			number;
	const char *text;
	TqlOp		op;
	TqlScope	scope;
	TqlStatic	literal;
	TqlAttribute attribute;
	struct
	{
		TqlIntrinsic id;
		const char *word;
	}			intrinsic;
	TqlExpr    *expr;
	Raw		   *raw;
	TqlMetrics *metrics;
	TqlSecond  *second;
	TqlHint    *hint;
	List	   *list;
}

%code {
extern int	tempo_traceql_yylex(YYSTYPE *value, TqlToken *location, TqlParser *parser);
static void tempo_traceql_yyerror(TqlToken *at, TqlParser *parser, const char *message);
static Raw *raw_node(RawKind kind, TqlToken at);
static Raw *raw_operation(TqlParser *parser, TqlOp op, TqlToken at, Raw *left, Raw *right);
static TqlExpr *make_nil_test(TqlOp op, TqlExpr *operand);
static TqlExpr *make_list(TqlAttribute attribute, TqlOp op, List *literals, const TqlToken *at);
static TqlAttribute *copy_attribute(TqlAttribute attribute);
static TqlAttribute scoped_intrinsic(TqlParser *parser, TqlScope scope, const char *word, const TqlToken *at);
static TqlMetrics *make_metrics(TqlMetricsFunction function, TqlAttribute *argument, List *by);
static TqlSecond *make_second(TqlSecondKind kind, int64 limit, const TqlToken *at);
static TqlExpr *placed(TqlExpr *expr, const TqlToken *at);
static List *literal_list(List *list, TqlStatic literal);
}

%token QUERY_END 0 "$end"
%token <literal> INTEGER "INTEGER" FLOAT "FLOAT" DURATION "DURATION"
%token <text> STRING "STRING" IDENTIFIER "IDENTIFIER" SCOPED_WORD "id"
%token END_ATTRIBUTE "END_ATTRIBUTE"
%token <attribute> SCOPE "."
%token <scope> COLON_SCOPE "span:"
%token <intrinsic> INTRINSIC "intrinsic"
%token <number> STATUS "status" KIND "kind" AGGREGATE "aggregate" METRICS "rate" METRICS_OF "sum_over_time"
%token TRUE_P "true" FALSE_P "false" NIL_P "nil" MININT "minInt" MAXINT "maxInt"
%token COUNT "count" COALESCE "coalesce" SELECT "select" QUANTILE "quantile_over_time" COMPARE "compare"
%token TOPK "topk" BOTTOMK "bottomk" BY "by" WITH "with"

%token <op> '=' NE "!=" AND "&&" OR "||" LE "<=" GE ">=" RE "=~" NRE "!~" STRUCTURAL "structural operator"
%token <op> '<' '>' LIST_OF "IN"
%token '(' ')' ',' ']'

/* Loosest first. */
%left AND OR
%left '=' NE '<' '>' LE GE RE NRE STRUCTURAL LIST_OF
%left '+' '-'
%precedence '!'
%left '*' '/' '%'
%right '^'

%type <expr> field filter
%type <literal> literal element number
%type <attribute> reference
%type <op> pipe_op
%type <list> pipe hints hint_list references quantiles integers by_opt elements
%type <raw> stage expr
%type <metrics> metrics
%type <hint> hint

%%

query:
	pipe hints
		{
			parser->pipe = $1;
			parser->hints = $2;
		}
	;

pipe:
	stage
		{ $$ = list_make1($1); }
	| pipe '|' stage
		{ $$ = lappend($1, $3); }
	;

stage:
	expr
		{
			$$ = $1;
			$$->after = parser->last;
		}
	| BY '(' field ')'
		{
			$$ = raw_node(RAW_BY, @1);
			$$->expr = $3;
		}
	| SELECT '(' references ')'
		{
			$$ = raw_node(RAW_SELECT, @1);
			$$->attributes = $3;
		}
	| COALESCE '(' ')'
		{ $$ = raw_node(RAW_COALESCE, @1); }
	;

expr:
	filter
		{
			$$ = raw_node(RAW_FILTER, @1);
			$$->expr = $1;
		}
	| '(' pipe ')'
		{
			$$ = raw_node(RAW_PAREN, @1);
			$$->pipe = $2;
			$$->after = @3;
			for (int i = 0; i < list_length($2); i++)
				$$->depth = Max($$->depth, ((Raw *) list_nth($2, i))->depth + 1);
			if ($$->depth > TQL_MAX_DEPTH)
				tempo_traceql_yyerror(&@1, parser, "memory exhausted");
		}
	| number
		{
			$$ = raw_node(RAW_LITERAL, @1);
			$$->literal = $1;
		}
	| COUNT '(' ')'
		{
			$$ = raw_node(RAW_AGGREGATE, @1);
			$$->aggregate = TQL_A_COUNT;
		}
	| AGGREGATE '(' field ')'
		{
			$$ = raw_node(RAW_AGGREGATE, @1);
			$$->aggregate = $1;
			$$->expr = $3;
		}
	| metrics
		{
			$$ = raw_node(RAW_METRICS, @1);
			$$->metrics = $1;
			$$->metrics->at = @1.offset + 1;
		}
	| TOPK '(' INTEGER ')'
		{
			$$ = raw_node(RAW_SECOND, @1);
			$$->second = make_second(TQL_2_TOPK, $3.n, &@3);
		}
	| BOTTOMK '(' INTEGER ')'
		{
			$$ = raw_node(RAW_SECOND, @1);
			$$->second = make_second(TQL_2_BOTTOMK, $3.n, &@3);
		}
	| '-' expr %prec '-'
		{
			$$ = raw_operation(parser, TQL_NEG, @1, $2, NULL);
			$$->kind = RAW_NEGATION;
		}
	| expr AND expr				{ $$ = raw_operation(parser, TQL_AND, @2, $1, $3); }
	| expr OR expr				{ $$ = raw_operation(parser, TQL_OR, @2, $1, $3); }
	| expr pipe_op expr	%prec '='	{ $$ = raw_operation(parser, $2, @2, $1, $3); }
	| expr '+' expr				{ $$ = raw_operation(parser, TQL_ADD, @2, $1, $3); }
	| expr '-' expr				{ $$ = raw_operation(parser, TQL_SUB, @2, $1, $3); }
	| expr '*' expr				{ $$ = raw_operation(parser, TQL_MUL, @2, $1, $3); }
	| expr '/' expr				{ $$ = raw_operation(parser, TQL_DIV, @2, $1, $3); }
	| expr '%' expr				{ $$ = raw_operation(parser, TQL_MOD, @2, $1, $3); }
	| expr '^' expr				{ $$ = raw_operation(parser, TQL_POW, @2, $1, $3); }
	;

pipe_op:
	'=' | NE | '<' | '>' | LE | GE | NRE | STRUCTURAL
	;

filter:
	'{' '}'						{ $$ = placed(tql_make_static(tql_bool(true)), &@1); }
	| '{' field '}'				{ $$ = $2; }
	;

metrics:
	METRICS '(' ')' by_opt
		{ $$ = make_metrics($1, NULL, $4); }
	| METRICS_OF '(' reference ')' by_opt
		{ $$ = make_metrics($1, copy_attribute($3), $5); }
	| QUANTILE '(' reference ',' quantiles ')' by_opt
		{
			$$ = make_metrics(TQL_M_QUANTILE, copy_attribute($3), $7);
			$$->quantiles = $5;
		}
	| COMPARE '(' filter integers ')'
		{
			$$ = make_metrics(TQL_M_COMPARE, NULL, NIL);
			$$->compare = $3;
			$$->compare_args = $4;
		}
	;

by_opt:
	%empty						{ $$ = NIL; }
	| BY '(' references ')'		{ $$ = $3; }
	;

integers:
	%empty						{ $$ = NIL; }
	| ',' INTEGER				{ $$ = literal_list(NIL, $2); }
	| ',' INTEGER ',' INTEGER ',' INTEGER
		{ $$ = literal_list(literal_list(literal_list(NIL, $2), $4), $6); }
	;

quantiles:
	INTEGER						{ $$ = literal_list(NIL, $1); }
	| FLOAT						{ $$ = literal_list(NIL, $1); }
	| quantiles ',' INTEGER		{ $$ = literal_list($1, $3); }
	| quantiles ',' FLOAT		{ $$ = literal_list($1, $3); }
	;

references:
	reference					{ $$ = list_make1(copy_attribute($1)); }
	| references ',' reference	{ $$ = lappend($1, copy_attribute($3)); }
	;

field:
	'(' field ')'				{ $$ = $2; }
	| literal					{ $$ = placed(tql_make_static($1), &@1); }
	| reference					{ $$ = tql_make_attribute($1); }
	| IDENTIFIER
		{
			tql_unknown_identifier(parser, &@1, $1);
			$$ = NULL;
		}
	| field AND field			{ $$ = placed(tql_make_binary(TQL_AND, $1, $3), &@2); }
	| field OR field			{ $$ = placed(tql_make_binary(TQL_OR, $1, $3), &@2); }
	| field '=' field			{ $$ = placed(tql_make_binary(TQL_EQ, $1, $3), &@2); }
	| field NE field			{ $$ = placed(tql_make_binary(TQL_NE, $1, $3), &@2); }
	| field '<' field			{ $$ = placed(tql_make_binary(TQL_LT, $1, $3), &@2); }
	| field LE field			{ $$ = placed(tql_make_binary(TQL_LE, $1, $3), &@2); }
	| field '>' field			{ $$ = placed(tql_make_binary(TQL_GT, $1, $3), &@2); }
	| field GE field			{ $$ = placed(tql_make_binary(TQL_GE, $1, $3), &@2); }
	| field RE field			{ $$ = placed(tql_make_binary(TQL_RE, $1, $3), &@2); }
	| field NRE field			{ $$ = placed(tql_make_binary(TQL_NRE, $1, $3), &@2); }
	| field '+' field			{ $$ = placed(tql_make_binary(TQL_ADD, $1, $3), &@2); }
	| field '-' field			{ $$ = placed(tql_make_binary(TQL_SUB, $1, $3), &@2); }
	| field '*' field			{ $$ = placed(tql_make_binary(TQL_MUL, $1, $3), &@2); }
	| field '/' field			{ $$ = placed(tql_make_binary(TQL_DIV, $1, $3), &@2); }
	| field '%' field			{ $$ = placed(tql_make_binary(TQL_MOD, $1, $3), &@2); }
	| field '^' field			{ $$ = placed(tql_make_binary(TQL_POW, $1, $3), &@2); }
	| reference LIST_OF elements ']'	{ $$ = make_list($1, $2, $3, &@2); }
	| '-' field	%prec '-'		{ $$ = placed(tql_make_unary(TQL_NEG, $2), &@1); }
	| '!' field					{ $$ = placed(tql_make_unary(TQL_NOT, $2), &@1); }
	| field '=' NIL_P %prec '='	{ $$ = placed(make_nil_test(TQL_NOT_EXISTS, $1), &@2); }
	| field NE NIL_P %prec '='	{ $$ = placed(make_nil_test(TQL_EXISTS, $1), &@2); }
	| NIL_P '=' field			{ $$ = placed(make_nil_test(TQL_NOT_EXISTS, $3), &@2); }
	| NIL_P NE field			{ $$ = placed(make_nil_test(TQL_EXISTS, $3), &@2); }
	| NIL_P '=' NIL_P %prec '='	{ $$ = tql_make_static(tql_bool(false)); }
	| NIL_P NE NIL_P %prec '='	{ $$ = tql_make_static(tql_bool(false)); }
	;

elements:
	element						{ $$ = literal_list(NIL, $1); }
	| elements ',' element		{ $$ = literal_list($1, $3); }
	;

element:
	literal
	| '-' number				{ $$ = tql_make_unary(TQL_NEG, tql_make_static($2))->value; }
	;

reference:
	SCOPE IDENTIFIER END_ATTRIBUTE
		{
			$$ = $1;
			$$.intrinsic = TQL_ATTRIBUTE;
			$$.name = $2;
			$$.at = @1.offset + 1;
		}
	| INTRINSIC
		{
			memset(&$$, 0, sizeof($$));
			$$.intrinsic = $1.id;
			$$.at = @1.offset + 1;
		}
	| COLON_SCOPE INTRINSIC
		{ $$ = scoped_intrinsic(parser, $1, $2.word, &@2); }
	| COLON_SCOPE SCOPED_WORD
		{ $$ = scoped_intrinsic(parser, $1, $2, &@2); }
	;

number:
	INTEGER | FLOAT | DURATION
	;

literal:
	number
	| STRING					{ $$ = tql_string($1); }
	| TRUE_P					{ $$ = tql_bool(true); }
	| FALSE_P					{ $$ = tql_bool(false); }
	| MININT					{ $$ = tql_int(PG_INT64_MIN); }
	| MAXINT					{ $$ = tql_int(PG_INT64_MAX); }
	| STATUS
		{
			memset(&$$, 0, sizeof($$));
			$$.type = TQL_STATUS;
			$$.n = $1;
		}
	| KIND
		{
			memset(&$$, 0, sizeof($$));
			$$.type = TQL_KIND;
			$$.n = $1;
		}
	;

/* Of several clauses the last counts. */
hints:
	%empty						{ $$ = NIL; }
	| hints WITH '(' hint_list ')'	{ $$ = $4; }
	;

hint_list:
	hint						{ $$ = list_make1($1); }
	| hint_list ',' hint		{ $$ = lappend($1, $3); }
	;

hint:
	IDENTIFIER '=' literal
		{
			$$ = palloc(sizeof(TqlHint));
			$$->name = $1;
			$$->value = $3;
		}
	| IDENTIFIER '=' IDENTIFIER
		{
			tql_unknown_identifier(parser, &@3, $3);
			$$ = NULL;
		}
	;

%%

/* Only for what is no syntax error: the parser's stack is full. */
static void
tempo_traceql_yyerror(TqlToken *at, TqlParser *parser, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
			 errmsg("query is nested too deeply")));
}

/* "unexpected A, expecting B or C", with at most four alternatives */
static int
yyreport_syntax_error(const yypcontext_t *context, TqlParser *parser)
{
	yysymbol_kind_t expected[4];
	int			n = yypcontext_expected_tokens(context, expected, lengthof(expected));
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < n; i++)
	{
		const char *name = yysymbol_name(expected[i]);

		/* any attribute would do: too many words to list */
		if (expected[i] == YYSYMBOL_SCOPE)
		{
			n = 0;
			break;
		}
		if (i > 0)
			appendStringInfoString(&list, " or ");
		if (name[0] == '\'' && name[1] != '\0')
			appendStringInfoChar(&list, name[1]);
		else
			appendStringInfoString(&list, name);
	}
	tql_syntax_error(parser, yypcontext_location(context), n > 0 ? list.data : NULL);
	return 0;
}

static Raw *
raw_node(RawKind kind, TqlToken at)
{
	Raw		   *raw = palloc0(sizeof(Raw));

	raw->kind = kind;
	raw->at = at;
	return raw;
}

static Raw *
raw_operation(TqlParser *parser, TqlOp op, TqlToken at, Raw *left, Raw *right)
{
	Raw		   *raw = raw_node(RAW_OPERATION, at);

	raw->op = op;
	raw->left = left;
	raw->right = right;
	raw->depth = left->depth + 1;
	if (right)
		raw->depth = Max(raw->depth, right->depth + 1);
	if (raw->depth > TQL_MAX_DEPTH)
		tempo_traceql_yyerror(&at, parser, "memory exhausted");
	return raw;
}

/* Where errors about an expression point to. */
static TqlExpr *
placed(TqlExpr *expr, const TqlToken *at)
{
	expr->at = at->offset + 1;
	return expr;
}

/* A literal is never nil; anything else is asked for at run time. */
static TqlExpr *
make_nil_test(TqlOp op, TqlExpr *operand)
{
	if (operand->kind == TQL_E_STATIC)
		return tql_make_static(tql_bool(op == TQL_EXISTS));
	return tql_make_unary(op, operand);
}

/* The chain of comparisons that a list stands for; tql_rewrite() makes a list of it. */
static TqlExpr *
make_list(TqlAttribute attribute, TqlOp op, List *literals, const TqlToken *at)
{
	bool		all = op == TQL_NOT_IN || op == TQL_RE_NONE;
	TqlOp		single = op == TQL_IN ? TQL_EQ : op == TQL_NOT_IN ? TQL_NE : op == TQL_RE_ANY ? TQL_RE : TQL_NRE;
	TqlExpr    *chain = NULL;
	ListCell   *lc;

	foreach(lc, literals)
	{
		TqlExpr    *one = tql_make_binary(single, tql_make_attribute(attribute), tql_make_static(*(TqlStatic *) lfirst(lc)));

		placed(one, at);
		chain = chain ? placed(tql_make_binary(all ? TQL_AND : TQL_OR, chain, one), at) : one;
	}
	return chain;
}

static TqlAttribute *
copy_attribute(TqlAttribute attribute)
{
	TqlAttribute *copy = palloc(sizeof(TqlAttribute));

	*copy = attribute;
	return copy;
}

static TqlAttribute
scoped_intrinsic(TqlParser *parser, TqlScope scope, const char *word, const TqlToken *at)
{
	static const struct
	{
		TqlScope	scope;
		const char *word;
		TqlIntrinsic intrinsic;
	}			known[] = {
		{TQL_SCOPE_TRACE, "duration", TQL_I_TRACE_DURATION},
		{TQL_SCOPE_TRACE, "rootName", TQL_I_ROOT_NAME},
		{TQL_SCOPE_TRACE, "rootService", TQL_I_ROOT_SERVICE_NAME},
		{TQL_SCOPE_TRACE, "id", TQL_I_TRACE_ID},
		{TQL_SCOPE_SPAN, "duration", TQL_I_DURATION},
		{TQL_SCOPE_SPAN, "name", TQL_I_NAME},
		{TQL_SCOPE_SPAN, "kind", TQL_I_KIND},
		{TQL_SCOPE_SPAN, "status", TQL_I_STATUS},
		{TQL_SCOPE_SPAN, "statusMessage", TQL_I_STATUS_MESSAGE},
		{TQL_SCOPE_SPAN, "id", TQL_I_SPAN_ID},
		{TQL_SCOPE_SPAN, "parentID", TQL_I_PARENT_ID},
		{TQL_SCOPE_SPAN, "childCount", TQL_I_CHILD_COUNT},
		{TQL_SCOPE_EVENT, "name", TQL_I_EVENT_NAME},
		{TQL_SCOPE_EVENT, "timeSinceStart", TQL_I_EVENT_TIME_SINCE_START},
		{TQL_SCOPE_LINK, "traceID", TQL_I_LINK_TRACE_ID},
		{TQL_SCOPE_LINK, "spanID", TQL_I_LINK_SPAN_ID},
		{TQL_SCOPE_INSTRUMENTATION, "name", TQL_I_INSTRUMENTATION_NAME},
		{TQL_SCOPE_INSTRUMENTATION, "version", TQL_I_INSTRUMENTATION_VERSION},
	};
	TqlAttribute attribute = {0};

	for (int i = 0; i < lengthof(known); i++)
	{
		if (known[i].scope == scope && strcmp(known[i].word, word) == 0)
		{
			attribute.intrinsic = known[i].intrinsic;
			attribute.at = at->offset + 1;
			return attribute;
		}
	}
	tql_syntax_error(parser, at, NULL);
	return attribute;
}

static TqlMetrics *
make_metrics(TqlMetricsFunction function, TqlAttribute *argument, List *by)
{
	TqlMetrics *metrics = palloc0(sizeof(TqlMetrics));

	metrics->function = function;
	metrics->argument = argument;
	metrics->by = by;
	return metrics;
}

static TqlSecond *
make_second(TqlSecondKind kind, int64 limit, const TqlToken *at)
{
	TqlSecond  *second = palloc0(sizeof(TqlSecond));

	second->kind = kind;
	second->at = at->offset + 1;
	second->limit = limit;
	return second;
}

static List *
literal_list(List *list, TqlStatic literal)
{
	TqlStatic  *copy = palloc(sizeof(TqlStatic));

	*copy = literal;
	return lappend(list, copy);
}
