/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  From the grammar's raw nodes to a query: what is a spanset, what a
 *	  scalar, what metrics, and which of them may stand where.
 *
 * Every refusal here is a syntax error to the user.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "traceql/parse.h"
#include "traceql/grammar.h"

typedef enum ShapeKind
{
	SHAPE_SPANSET, /* filters and operators between them */
	SHAPE_WRAPPED, /* pipelines in parentheses and operators between them */
	SHAPE_LITERAL,
	SHAPE_SCALAR,          /* aggregates and arithmetic with them */
	SHAPE_SCALAR_PIPELINE, /* ({...} | count()) */
	SHAPE_SCALAR_FILTER,
	SHAPE_METRICS,       /* metrics queries in parentheses and arithmetic on them */
	SHAPE_METRICS_STAGE, /* rate() [> 5] */
	SHAPE_SECOND         /* topk(2) [< 9] */
} ShapeKind;

typedef struct Shape
{
	ShapeKind       kind;
	bool            wrapped; /* SPANSET: every part is in parentheses, so it can pass as WRAPPED */
	TqlSpanset     *spanset;
	TqlScalar      *scalar;  /* LITERAL, SCALAR, SCALAR_PIPELINE */
	TqlStage       *stage;   /* SCALAR_FILTER */
	TqlMetricsExpr *expr;    /* METRICS */
	TqlMetrics     *metrics; /* METRICS_STAGE */
	List           *second;  /* METRICS, METRICS_STAGE, SECOND: what follows */
} Shape;

static Shape shape_expr(TqlParser *parser, Raw *raw);
static List *shape_pipeline(TqlParser *parser, List *pipe, int from, int to);

/*
 * Errors with a position.  Lines and columns count from 1, columns in
 * characters; tokens that are read inside another one have line 0.
 */
static void
append_position(StringInfo out, const TqlParser *parser, const TqlToken *at)
{
	int line = 1;
	int column = 1;

	for (int i = 0; i < at->offset; i++)
	{
		if (parser->text[i] == '\n')
		{
			line++;
			column = 1;
		}
		else if ((parser->text[i] & 0xC0) != 0x80)
			column++;
	}
	appendStringInfo(out, "line %d, col %d", at->inner ? 0 : line, column);
}

static _Noreturn void
report(const TqlParser *parser, const TqlToken *at, const char *text, const char *hint)
{
	StringInfoData place;

	initStringInfo(&place);
	append_position(&place, parser, at);
	ereport(ERROR,
	        (errcode(ERRCODE_SYNTAX_ERROR),
	         errmsg("parse error at %s: %s", place.data, text),
	         hint != NULL ? errhint("%s", hint) : 0,
	         internalerrposition(at->offset + 1)));
}

void
tql_parse_error(const TqlParser *parser, const TqlToken *at, const char *format, ...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list args;
		int     needed;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	report(parser, at, text.data, NULL);
}

/*
 * The message is Tempo's, to the letter; what people mean when they get it is
 * told apart from it.
 */
void
tql_unknown_identifier(const TqlParser *parser, const TqlToken *at, const char *name)
{
	report(parser, at, psprintf("unknown identifier: %s", name),
	       "Attributes are written with their scope (span.x, resource.x, or .x for either), texts in double quotes.");
}

void
tql_syntax_error(const TqlParser *parser, const TqlToken *at, const char *expecting)
{
	if (parser->length == 0)
		ereport(ERROR,
		        (errcode(ERRCODE_SYNTAX_ERROR),
		         errmsg("parse error : syntax error: unexpected $end")));
	tql_parse_error(parser, at, "syntax error: unexpected %s%s%s",
	                at->name, expecting ? ", expecting " : "", expecting ? expecting : "");
}

static TqlStage *
make_stage(TqlStageKind kind)
{
	TqlStage *stage = palloc0(sizeof(TqlStage));

	stage->kind = kind;
	return stage;
}

static TqlScalar *
make_scalar(TqlScalarKind kind, const TqlToken *at)
{
	TqlScalar *scalar = palloc0(sizeof(TqlScalar));

	scalar->kind = kind;
	scalar->at = at->offset + 1;
	return scalar;
}

static TqlMetricsExpr *
make_metrics_literal(TqlParser *parser, const TqlToken *at, TqlStatic literal)
{
	TqlMetricsExpr *m = palloc0(sizeof(TqlMetricsExpr));

	if (literal.type == TQL_DURATION)
		tql_parse_error(parser, at, "duration cannot be used as a scalar operand in metric arithmetic");
	m->kind = TQL_ME_LITERAL;
	m->literal = literal;
	return m;
}

static bool
is_pipeline_shape(const Shape *s)
{
	return s->kind == SHAPE_WRAPPED || (s->kind == SHAPE_SPANSET && s->wrapped);
}

static bool
is_scalar_shape(const Shape *s)
{
	return s->kind == SHAPE_LITERAL || s->kind == SHAPE_SCALAR;
}

/* Arithmetic between literals: integers stay integers, division truncates. */
static TqlStatic
fold_scalars(TqlParser *parser, const TqlToken *at, TqlOp op, const TqlStatic *a, const TqlStatic *b)
{
	TqlExpr *folded;

	if (a->type == TQL_DURATION || b->type == TQL_DURATION)
		tql_parse_error(parser, at, "duration cannot be used in scalar arithmetic");
	folded = tql_make_binary(op, tql_make_static(*a), tql_make_static(*b));
	if (folded->kind != TQL_E_STATIC)
		tql_parse_error(parser, at, "scalar arithmetic has no finite result: %s", tql_print_expr(folded));
	return folded->value;
}

/* (pipe) */
static Shape
shape_paren(TqlParser *parser, Raw *raw)
{
	Shape result = {0};
	int   n = list_length(raw->pipe);
	Raw  *last = llast(raw->pipe);
	List *stages = NIL;
	int   metrics_at = -1;

	if (n == 1 && last->kind != RAW_BY && last->kind != RAW_SELECT && last->kind != RAW_COALESCE)
	{
		result = shape_expr(parser, last);
		switch (result.kind)
		{
			case SHAPE_SPANSET:
				result.wrapped = true;
				return result;
			case SHAPE_WRAPPED:
			case SHAPE_LITERAL:
			case SHAPE_SCALAR:
				return result;
			case SHAPE_METRICS:
				if (result.second != NIL)
					tql_syntax_error(parser, &raw->after, NULL);
				return result;
			case SHAPE_SCALAR_FILTER: /* a pipeline of one stage */
				stages = list_make1(result.stage);
				break;
			case SHAPE_SCALAR_PIPELINE:
			case SHAPE_METRICS_STAGE:
			case SHAPE_SECOND:
				tql_syntax_error(parser, &last->at, NULL);
		}
	}

	for (int i = 0; i < n; i++)
	{
		Raw *stage = list_nth(raw->pipe, i);

		while (stage->kind == RAW_OPERATION)
			stage = stage->left;
		if (stage->kind == RAW_METRICS)
		{
			metrics_at = i;
			break;
		}
	}

	if (metrics_at >= 0)
	{
		TqlParser inner = *parser;
		TqlQuery *query;

		inner.pipe = raw->pipe;
		inner.hints = NIL;
		query = tql_shape(&inner);
		result.kind = SHAPE_METRICS;
		result.expr = query->metrics;
		return result;
	}

	/* a pipeline that ends in a bare aggregate is a scalar */
	if (n > 1 && last->kind == RAW_AGGREGATE)
	{
		result.kind = SHAPE_SCALAR_PIPELINE;
		result.scalar = make_scalar(TQL_SC_PIPELINE, &raw->at);
		result.scalar->pipeline = shape_pipeline(parser, raw->pipe, 0, n - 1);
		return result;
	}

	result.kind = SHAPE_WRAPPED;
	result.wrapped = true;
	result.spanset = palloc0(sizeof(TqlSpanset));
	result.spanset->kind = TQL_S_PIPELINE;
	result.spanset->pipeline = stages ? stages : shape_pipeline(parser, raw->pipe, 0, n);
	return result;
}

/* left op right, both spansets: && || and the structural operators */
static Shape
shape_spanset_operation(TqlParser *parser, Raw *raw, Shape *left, Shape *right)
{
	Shape result = {0};

	switch (raw->op)
	{
		case TQL_EQ:
		case TQL_NE:
		case TQL_LE:
		case TQL_GE:
			tql_syntax_error(parser, &raw->at, NULL);
		default:
			break;
	}
	result.wrapped = left->wrapped && right->wrapped;
	if (left->kind == SHAPE_SPANSET && right->kind == SHAPE_SPANSET)
		result.kind = SHAPE_SPANSET;
	else if (is_pipeline_shape(left) && is_pipeline_shape(right))
		result.kind = SHAPE_WRAPPED;
	else
	{
		/* a pipeline in parentheses meets a bare filter */
		const Raw *bare = is_pipeline_shape(left) ? raw->right : raw->left;

		if (bare->kind == RAW_FILTER)
			tql_syntax_error(parser, &bare->at, "(");
		tql_syntax_error(parser, &raw->at, NULL);
	}
	result.spanset = palloc0(sizeof(TqlSpanset));
	result.spanset->kind = TQL_S_OPERATION;
	result.spanset->op = raw->op;
	result.spanset->left = left->spanset;
	result.spanset->right = right->spanset;
	return result;
}

/* left cmp right outside of spansets: scalar filters and metrics thresholds */
static Shape
shape_comparison(TqlParser *parser, Raw *raw, Shape *left, Shape *right)
{
	Shape result = {0};

	if (raw->op > TQL_GE || raw->op < TQL_EQ)
		tql_syntax_error(parser, &raw->at, NULL);

	if ((left->kind == SHAPE_METRICS || left->kind == SHAPE_METRICS_STAGE || left->kind == SHAPE_SECOND) &&
	    right->kind == SHAPE_LITERAL)
	{
		TqlSecond *second = palloc0(sizeof(TqlSecond));

		second->kind = TQL_2_FILTER;
		second->at = raw->at.offset + 1;
		second->op = raw->op;
		second->value = right->scalar->literal;
		result = *left;
		result.second = lappend(result.second, second);
		return result;
	}
	if ((is_scalar_shape(left) || left->kind == SHAPE_SCALAR_PIPELINE) &&
	    (is_scalar_shape(right) || right->kind == SHAPE_SCALAR_PIPELINE))
	{
		result.kind = SHAPE_SCALAR_FILTER;
		result.stage = make_stage(TQL_ST_SCALAR_FILTER);
		result.stage->op = raw->op;
		result.stage->left = left->scalar;
		result.stage->right = right->scalar;
		return result;
	}
	tql_syntax_error(parser, &raw->at, NULL);
	return result;
}

static Shape
shape_arithmetic(TqlParser *parser, Raw *raw, Shape *left, Shape *right)
{
	Shape result = {0};

	if ((is_scalar_shape(left) || left->kind == SHAPE_SCALAR_PIPELINE) &&
	    (is_scalar_shape(right) || right->kind == SHAPE_SCALAR_PIPELINE))
	{
		if (left->kind == SHAPE_LITERAL && right->kind == SHAPE_LITERAL &&
		    raw->op != TQL_MOD && raw->op != TQL_POW)
		{
			result.kind = SHAPE_LITERAL;
			result.scalar = make_scalar(TQL_SC_LITERAL, &raw->at);
			result.scalar->literal = fold_scalars(parser, &raw->right->at, raw->op,
			                                      &left->scalar->literal, &right->scalar->literal);
			return result;
		}
		result.kind = SHAPE_SCALAR;
		result.scalar = make_scalar(TQL_SC_OPERATION, &raw->at);
		result.scalar->op = raw->op;
		result.scalar->left = left->scalar;
		result.scalar->right = right->scalar;
		return result;
	}

	if ((left->kind == SHAPE_METRICS || left->kind == SHAPE_LITERAL) &&
	    (right->kind == SHAPE_METRICS || right->kind == SHAPE_LITERAL))
	{
		if (raw->op == TQL_MOD || raw->op == TQL_POW)
			tql_syntax_error(parser, &raw->at, "with");
		result.kind = SHAPE_METRICS;
		result.expr = palloc0(sizeof(TqlMetricsExpr));
		result.expr->kind = TQL_ME_OPERATION;
		result.expr->op = raw->op;
		result.expr->at = raw->at.offset + 1;
		result.expr->left = left->kind == SHAPE_METRICS ? left->expr :
		                                                  make_metrics_literal(parser, &raw->left->at, left->scalar->literal);
		result.expr->right = right->kind == SHAPE_METRICS ? right->expr :
		                                                    make_metrics_literal(parser, &raw->right->at, right->scalar->literal);
		return result;
	}

	/* ({} | rate()) + ({}): the right side lacks its metrics stage */
	if (left->kind == SHAPE_METRICS && right->kind == SHAPE_SPANSET && raw->right->kind == RAW_PAREN)
		tql_syntax_error(parser, &raw->right->after, "|");
	tql_syntax_error(parser, &raw->at, NULL);
	return result;
}

static Shape
shape_expr(TqlParser *parser, Raw *raw)
{
	Shape result = {0};
	Shape left;
	Shape right;

	check_stack_depth();
	switch (raw->kind)
	{
		case RAW_FILTER:
			result.kind = SHAPE_SPANSET;
			result.spanset = palloc0(sizeof(TqlSpanset));
			result.spanset->kind = TQL_S_FILTER;
			result.spanset->filter = raw->expr;
			return result;
		case RAW_PAREN:
			return shape_paren(parser, raw);
		case RAW_LITERAL:
			result.kind = SHAPE_LITERAL;
			result.scalar = make_scalar(TQL_SC_LITERAL, &raw->at);
			result.scalar->literal = raw->literal;
			return result;
		case RAW_AGGREGATE:
			result.kind = SHAPE_SCALAR;
			result.scalar = make_scalar(TQL_SC_AGGREGATE, &raw->at);
			result.scalar->aggregate = raw->aggregate;
			result.scalar->argument = raw->expr;
			return result;
		case RAW_METRICS:
			result.kind = SHAPE_METRICS_STAGE;
			result.metrics = raw->metrics;
			return result;
		case RAW_SECOND:
			result.kind = SHAPE_SECOND;
			result.second = list_make1(raw->second);
			return result;
		case RAW_NEGATION:
			result = shape_expr(parser, raw->left);
			if (result.kind != SHAPE_LITERAL)
				tql_syntax_error(parser, &raw->at, NULL);
			result.scalar->literal = tql_make_unary(TQL_NEG, tql_make_static(result.scalar->literal))->value;
			return result;
		case RAW_OPERATION:
			left = shape_expr(parser, raw->left);
			right = shape_expr(parser, raw->right);
			if ((left.kind == SHAPE_SPANSET || left.kind == SHAPE_WRAPPED) &&
			    (right.kind == SHAPE_SPANSET || right.kind == SHAPE_WRAPPED) &&
			    !tql_op_is_arithmetic(raw->op))
				return shape_spanset_operation(parser, raw, &left, &right);
			if (tql_op_is_arithmetic(raw->op))
				return shape_arithmetic(parser, raw, &left, &right);
			return shape_comparison(parser, raw, &left, &right);
		case RAW_BY:
		case RAW_SELECT:
		case RAW_COALESCE:
			break; /* stages, never expressions */
	}
	tql_syntax_error(parser, &raw->at, NULL);
	return result;
}

static TqlStage *
shape_stage(TqlParser *parser, Raw *raw, bool first)
{
	TqlStage *stage;
	Shape     shape;

	switch (raw->kind)
	{
		case RAW_BY:
			stage = make_stage(TQL_ST_BY);
			stage->by = raw->expr;
			return stage;
		case RAW_SELECT:
			stage = make_stage(TQL_ST_SELECT);
			stage->attributes = raw->attributes;
			return stage;
		case RAW_COALESCE:
			if (first)
				tql_syntax_error(parser, &raw->at, NULL);
			return make_stage(TQL_ST_COALESCE);
		default:
			break;
	}

	shape = shape_expr(parser, raw);
	switch (shape.kind)
	{
		case SHAPE_SPANSET:
			stage = make_stage(TQL_ST_SPANSET);
			stage->spanset = shape.spanset;
			return stage;
		case SHAPE_SCALAR_FILTER:
			return shape.stage;
		case SHAPE_LITERAL:
		case SHAPE_SCALAR:
		case SHAPE_SCALAR_PIPELINE:
		case SHAPE_WRAPPED:
			/* incomplete: an aggregate lacks its comparison, a wrapped pipeline stands alone */
			tql_syntax_error(parser, &raw->after, NULL);
		case SHAPE_METRICS:
		case SHAPE_METRICS_STAGE:
		case SHAPE_SECOND:
			break;
	}
	tql_syntax_error(parser, &raw->at, NULL);
	return NULL;
}

/* Stages from..to-1 of the pipe, which may hold no metrics. */
static List *
shape_pipeline(TqlParser *parser, List *pipe, int from, int to)
{
	List *stages = NIL;

	for (int i = from; i < to; i++)
		stages = lappend(stages, shape_stage(parser, list_nth(pipe, i), i == 0));
	return stages;
}

/* Appends the stages that follow metrics: topk, bottomk and thresholds. */
static List *
shape_seconds(TqlParser *parser, List *second, List *pipe, int from)
{
	for (int i = from; i < list_length(pipe); i++)
	{
		Raw  *raw = list_nth(pipe, i);
		Shape shape;

		if (raw->kind == RAW_METRICS || raw->kind == RAW_FILTER || raw->kind == RAW_BY ||
		    raw->kind == RAW_SELECT || raw->kind == RAW_COALESCE)
			tql_syntax_error(parser, &raw->at, "topk or bottomk");
		shape = shape_expr(parser, raw);
		if (shape.kind != SHAPE_SECOND)
			tql_syntax_error(parser, &raw->at, "topk or bottomk");
		second = list_concat(second, shape.second);
	}
	return second;
}

TqlQuery *
tql_shape(TqlParser *parser)
{
	TqlQuery *query = palloc0(sizeof(TqlQuery));
	int       n = list_length(parser->pipe);
	Raw      *first = linitial(parser->pipe);

	check_stack_depth();
	query->hints = parser->hints;

	/* what is arithmetic on metrics, or a wrapped pipeline, must come first */
	if (first->kind != RAW_BY && first->kind != RAW_SELECT && first->kind != RAW_COALESCE)
	{
		Shape shape = shape_expr(parser, first);

		if (shape.kind == SHAPE_METRICS)
		{
			query->metrics = shape.expr;
			query->second = shape_seconds(parser, shape.second, parser->pipe, 1);
			return query;
		}
		if (shape.kind == SHAPE_WRAPPED)
		{
			TqlStage *stage = make_stage(TQL_ST_SPANSET);

			if (n > 1)
				tql_syntax_error(parser, &((Raw *) lsecond(parser->pipe))->at, NULL);
			stage->spanset = shape.spanset;
			query->pipeline = list_make1(stage);
			return query;
		}
	}

	for (int i = 1; i < n; i++)
	{
		Raw            *raw = list_nth(parser->pipe, i);
		Raw            *leaf = raw;
		Shape           shape;
		TqlMetricsExpr *m;

		while (leaf->kind == RAW_OPERATION)
			leaf = leaf->left;
		if (leaf->kind != RAW_METRICS)
			continue;

		shape = shape_expr(parser, raw);
		if (shape.kind != SHAPE_METRICS_STAGE)
			tql_syntax_error(parser, &raw->at, NULL);
		m = palloc0(sizeof(TqlMetricsExpr));
		m->kind = TQL_ME_QUERY;
		m->pipeline = shape_pipeline(parser, parser->pipe, 0, i);
		m->metrics = shape.metrics;
		m->second = shape_seconds(parser, shape.second, parser->pipe, i + 1);
		query->metrics = m;
		return query;
	}
	query->pipeline = shape_pipeline(parser, parser->pipe, 0, n);
	return query;
}

/*
 * psql and its like show the place in the query.  What raises an error gives
 * it in bytes, which become characters here.
 */
static void
show_place(void *arg)
{
	const TqlParser *parser = arg;
	int              at = getinternalerrposition();

	if (at <= 0 || at > parser->length + 1)
		return;
	internalerrquery(pnstrdup(parser->text, parser->length));
	internalerrposition(pg_mbstrlen_with_len(parser->text, at - 1) + 1);
}

TqlQuery *
tql_parse(const char *text, Size length)
{
	TqlParser            parser = {0};
	TqlQuery            *query;
	ErrorContextCallback context = {.callback = show_place, .arg = &parser, .previous = error_context_stack};

	if (length > TQL_MAX_QUERY_BYTES)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("TraceQL expression exceeds the configured maximum size of %d bytes, reduce the query expression size or contact your system administrator",
		                TQL_MAX_QUERY_BYTES)));
	parser.text = text;
	parser.length = (int) length;
	error_context_stack = &context;
	tql_scanner_open(&parser);
	if (tempo_traceql_yyparse(&parser) != 0)
		elog(ERROR, "TraceQL parser failed without a message");
	query = tql_shape(&parser);
	tql_check(query);
	error_context_stack = context.previous;
	return query;
}
