/*-------------------------------------------------------------------------
 *
 * ast.h
 *	  The abstract syntax of TraceQL: what the parser makes, the checker
 *	  validates, the printer prints and the compiler turns into SQL.
 *
 * Everything is allocated in the current memory context; nothing is freed one
 * by one.  Lists are PostgreSQL Lists of pointers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_AST_H
#define TEMPO_TRACEQL_AST_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Longer queries are refused before they are read. */
#define TQL_MAX_QUERY_BYTES (128 * 1024)

/*
 * Deeper nesting (parentheses, unary operators, chains of different operators)
 * is refused; chains of one operator are bounded by the query length alone.
 */
#define TQL_MAX_DEPTH 500

typedef enum TqlType
{
	TQL_NIL,
	TQL_INT,
	TQL_FLOAT,
	TQL_STRING,
	TQL_BOOL,
	TQL_DURATION,
	TQL_STATUS,
	TQL_KIND,
	TQL_DYNAMIC /* an attribute: known at run time only */
} TqlType;

typedef enum TqlOp
{
	TQL_OP_NONE,
	/* arithmetic */
	TQL_ADD,
	TQL_SUB,
	TQL_MUL,
	TQL_DIV,
	TQL_MOD,
	TQL_POW,
	TQL_NEG,
	/* comparison */
	TQL_EQ,
	TQL_NE,
	TQL_LT,
	TQL_LE,
	TQL_GT,
	TQL_GE,
	TQL_RE,
	TQL_NRE,
	/* boolean */
	TQL_AND,
	TQL_OR,
	TQL_NOT,
	/* x != nil, x = nil */
	TQL_EXISTS,
	TQL_NOT_EXISTS,
	/* made by the rewriter: one attribute against a list of literals */
	TQL_IN,
	TQL_NOT_IN,
	TQL_RE_ANY,
	TQL_RE_NONE,
	/* structural: > and < are TQL_GT and TQL_LT between spansets */
	TQL_DESCENDANT,       /* >> */
	TQL_ANCESTOR,         /* << */
	TQL_SIBLING,          /* ~ */
	TQL_NOT_CHILD,        /* !> */
	TQL_NOT_DESCENDANT,   /* !>> */
	TQL_NOT_PARENT,       /* !< */
	TQL_NOT_ANCESTOR,     /* !<<; !~ is TQL_NRE */
	TQL_UNION_CHILD,      /* &> */
	TQL_UNION_DESCENDANT, /* &>> */
	TQL_UNION_PARENT,     /* &< */
	TQL_UNION_ANCESTOR,   /* &<< */
	TQL_UNION_SIBLING     /* &~ */
} TqlOp;

typedef enum TqlScope
{
	TQL_SCOPE_NONE,
	TQL_SCOPE_SPAN,
	TQL_SCOPE_RESOURCE,
	TQL_SCOPE_EVENT,
	TQL_SCOPE_LINK,
	TQL_SCOPE_INSTRUMENTATION,
	TQL_SCOPE_TRACE /* intrinsics only */
} TqlScope;

typedef enum TqlIntrinsic
{
	TQL_ATTRIBUTE, /* no intrinsic */
	TQL_I_DURATION,
	TQL_I_NAME,
	TQL_I_STATUS,
	TQL_I_STATUS_MESSAGE,
	TQL_I_KIND,
	TQL_I_PARENT,
	TQL_I_ROOT_NAME,
	TQL_I_ROOT_SERVICE_NAME,
	TQL_I_TRACE_DURATION,
	TQL_I_NESTED_SET_LEFT,
	TQL_I_NESTED_SET_RIGHT,
	TQL_I_NESTED_SET_PARENT,
	TQL_I_TRACE_ID,
	TQL_I_SPAN_ID,
	TQL_I_PARENT_ID,
	TQL_I_CHILD_COUNT,
	TQL_I_EVENT_NAME,
	TQL_I_EVENT_TIME_SINCE_START,
	TQL_I_LINK_TRACE_ID,
	TQL_I_LINK_SPAN_ID,
	TQL_I_INSTRUMENTATION_NAME,
	TQL_I_INSTRUMENTATION_VERSION
} TqlIntrinsic;

typedef enum TqlStatus
{
	TQL_STATUS_ERROR,
	TQL_STATUS_OK,
	TQL_STATUS_UNSET
} TqlStatus;

typedef enum TqlKind
{
	TQL_KIND_UNSPECIFIED,
	TQL_KIND_INTERNAL,
	TQL_KIND_SERVER,
	TQL_KIND_CLIENT,
	TQL_KIND_PRODUCER,
	TQL_KIND_CONSUMER
} TqlKind;

typedef struct TqlStatic
{
	TqlType     type;
	int64       n; /* INT, DURATION (ns), BOOL, STATUS, KIND */
	double      d; /* FLOAT */
	const char *s; /* STRING: clean UTF-8, NUL-terminated */
} TqlStatic;

typedef struct TqlAttribute
{
	TqlIntrinsic intrinsic;
	TqlScope     scope;  /* of an attribute */
	bool         parent; /* parent.x */
	const char  *name;   /* of an attribute */
	int          at;     /* see TqlExpr */
} TqlAttribute;

typedef enum TqlExprKind
{
	TQL_E_STATIC,
	TQL_E_ATTRIBUTE,
	TQL_E_UNARY,  /* NEG, NOT, EXISTS, NOT_EXISTS: left */
	TQL_E_BINARY, /* left, right */
	TQL_E_LIST    /* IN and its like: left op list */
} TqlExprKind;

#define TQL_MENTIONS_EVENT 1
#define TQL_MENTIONS_LINK 2
#define TQL_MENTIONS_DIVISION 4

typedef struct TqlExpr
{
	TqlExprKind     kind;
	TqlOp           op;
	int             depth;    /* of nesting, chains of AND or OR count once */
	int             mentions; /* what is in it: bits of TQL_MENTIONS_... */
	int             at;       /* byte of the query that errors point to, from 1: its operator or first token; 0 = unknown */
	TqlStatic       value;
	TqlAttribute    attribute;
	struct TqlExpr *left;
	struct TqlExpr *right;
	List           *list; /* of TqlStatic */
} TqlExpr;

typedef enum TqlSpansetKind
{
	TQL_S_FILTER,
	TQL_S_OPERATION,
	TQL_S_PIPELINE /* a pipeline in parentheses */
} TqlSpansetKind;

typedef struct TqlSpanset
{
	TqlSpansetKind     kind;
	TqlExpr           *filter;
	TqlOp              op;
	struct TqlSpanset *left;
	struct TqlSpanset *right;
	List              *pipeline; /* of TqlStage */
} TqlSpanset;

typedef enum TqlAggregate
{
	TQL_A_COUNT,
	TQL_A_AVG,
	TQL_A_MAX,
	TQL_A_MIN,
	TQL_A_SUM
} TqlAggregate;

typedef enum TqlScalarKind
{
	TQL_SC_AGGREGATE,
	TQL_SC_LITERAL,
	TQL_SC_OPERATION,
	TQL_SC_PIPELINE /* parses, is never valid */
} TqlScalarKind;

typedef struct TqlScalar
{
	TqlScalarKind     kind;
	TqlAggregate      aggregate;
	TqlExpr          *argument; /* NULL for count() */
	TqlStatic         literal;
	TqlOp             op;
	int               at;
	struct TqlScalar *left;
	struct TqlScalar *right;
	List             *pipeline;
} TqlScalar;

typedef enum TqlStageKind
{
	TQL_ST_SPANSET,
	TQL_ST_SCALAR_FILTER,
	TQL_ST_BY,
	TQL_ST_SELECT,
	TQL_ST_COALESCE
} TqlStageKind;

typedef struct TqlStage
{
	TqlStageKind kind;
	TqlSpanset  *spanset;
	TqlOp        op; /* SCALAR_FILTER: left op right */
	TqlScalar   *left;
	TqlScalar   *right;
	TqlExpr     *by;
	List        *attributes; /* SELECT: of TqlAttribute */
} TqlStage;

typedef enum TqlMetricsFunction
{
	TQL_M_RATE,
	TQL_M_COUNT,
	TQL_M_MIN,
	TQL_M_MAX,
	TQL_M_AVG,
	TQL_M_SUM,
	TQL_M_QUANTILE,
	TQL_M_HISTOGRAM,
	TQL_M_COMPARE
} TqlMetricsFunction;

typedef struct TqlMetrics
{
	TqlMetricsFunction function;
	int                at;
	TqlAttribute      *argument;
	List              *quantiles;    /* of TqlStatic, INT or FLOAT */
	List              *by;           /* of TqlAttribute */
	TqlExpr           *compare;      /* the filter of compare() */
	List              *compare_args; /* of TqlStatic, INT: none, topN, or topN, start, end */
} TqlMetrics;

typedef enum TqlSecondKind
{
	TQL_2_TOPK,
	TQL_2_BOTTOMK,
	TQL_2_FILTER
} TqlSecondKind;

typedef struct TqlSecond
{
	TqlSecondKind kind;
	int           at;
	int64         limit;
	TqlOp         op;
	TqlStatic     value;
} TqlSecond;

typedef enum TqlMetricsExprKind
{
	TQL_ME_QUERY,
	TQL_ME_LITERAL,
	TQL_ME_OPERATION
} TqlMetricsExprKind;

typedef struct TqlMetricsExpr
{
	TqlMetricsExprKind     kind;
	List                  *pipeline; /* QUERY: of TqlStage */
	TqlMetrics            *metrics;
	List                  *second; /* QUERY: of TqlSecond */
	int                    at;
	TqlStatic              literal;
	TqlOp                  op;
	struct TqlMetricsExpr *left;
	struct TqlMetricsExpr *right;
} TqlMetricsExpr;

typedef struct TqlHint
{
	const char *name;
	TqlStatic   value;
} TqlHint;

/*
 * A query is a pipeline (metrics is NULL) or a metrics expression, which is
 * TQL_ME_QUERY unless it is arithmetic; "second" then holds what follows
 * the whole arithmetic.
 */
typedef struct TqlQuery
{
	List           *pipeline;
	TqlMetricsExpr *metrics;
	List           *second;
	List           *hints;
} TqlQuery;

/*
 * tql_parse: the checked query; anything wrong is an ereport whose message
 * is what Tempo shows after "invalid TraceQL query: ": SQLSTATE 42601 for
 * what cannot be parsed, 22023 for what has no meaning.
 */
extern TqlQuery *tql_parse(const char *text, Size length);

/* ast.c */
extern TqlExpr  *tql_make_static(TqlStatic value);
extern TqlExpr  *tql_make_attribute(TqlAttribute attribute);
extern TqlExpr  *tql_make_unary(TqlOp op, TqlExpr *operand);
extern TqlExpr  *tql_make_binary(TqlOp op, TqlExpr *left, TqlExpr *right);
extern TqlStatic tql_int(int64 n);
extern TqlStatic tql_float(double d);
extern TqlStatic tql_bool(bool b);
extern TqlStatic tql_string(const char *s);
extern double    tql_number(const TqlStatic *value);
extern bool      tql_type_is_numeric(TqlType type);
extern TqlType   tql_intrinsic_type(TqlIntrinsic intrinsic);
extern TqlType   tql_expr_type(const TqlExpr *expr);
extern bool      tql_op_is_arithmetic(TqlOp op);
extern bool      tql_op_is_comparison(TqlOp op);
extern bool      tql_types_match(TqlType left, TqlType right);
extern bool      tql_op_allowed(TqlOp op, TqlType type);
extern bool      tql_attribute_equal(const TqlAttribute *a, const TqlAttribute *b);
extern bool      tql_is_service_name(const TqlAttribute *attribute);
extern bool      tql_mentions_span(const TqlExpr *expr);
extern int64     tql_int_pow(int64 base, int64 exponent);
extern int64     tql_double_to_int(double d);

/* check.c: validation, then the rewriting of chains to lists */
extern void     tql_check(TqlQuery *query);
extern TqlExpr *tql_rewrite(TqlExpr *expr);

/* print.c: the canonical form */
extern char       *tql_print_query(const TqlQuery *query);
extern char       *tql_print_pipeline(const List *pipeline);
extern char       *tql_print_expr(const TqlExpr *expr);
extern char       *tql_print_attribute(const TqlAttribute *attribute);
extern char       *tql_print_static(const TqlStatic *value);
extern char       *tql_print_scalar(const TqlScalar *scalar);
extern char       *tql_print_duration(int64 ns);
extern char       *tql_print_double(double d);
extern const char *tql_op_text(TqlOp op);
extern const char *tql_status_text(int64 status);
extern const char *tql_kind_text(int64 kind);

#endif /* TEMPO_TRACEQL_AST_H */
