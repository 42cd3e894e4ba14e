/*-------------------------------------------------------------------------
 *
 * tagfilter.c
 *	  The half-typed query that narrows down tag names and values.
 *
 * Grafana asks for the values of a tag while the user is still typing, with
 * what is there so far.  So a text that is no query is cut at && and || into
 * comparisons; those that make sense count, the others are left out.  What
 * remains useless narrows down nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/read.h"
#include "api/tagfilter.h"
#include "lib/stringinfo.h"
#include "traceql/to_sql.h"

/* Does it mention an attribute without a scope? */
static bool
is_unscoped(const TqlExpr *expr)
{
	if (expr == NULL)
		return false;
	if (expr->kind == TQL_E_ATTRIBUTE)
		return expr->attribute.intrinsic == TQL_ATTRIBUTE && expr->attribute.scope == TQL_SCOPE_NONE;
	return is_unscoped(expr->left) || is_unscoped(expr->right);
}

/* The expression of a query that is just one filter with scoped attributes. */
static TqlExpr *
single_filter(const char *text)
{
	char     *message;
	int       code;
	TqlQuery *query = parse_query(text, &message, &code);
	TqlStage *stage;

	if (query == NULL || query->metrics || list_length(query->pipeline) != 1)
		return NULL;
	stage = linitial(query->pipeline);
	if (stage->kind != TQL_ST_SPANSET || stage->spanset->kind != TQL_S_FILTER ||
	    stage->spanset->filter == NULL || is_unscoped(stage->spanset->filter))
		return NULL;
	return stage->spanset->filter;
}

/* The end of a quoted string that starts at "p". */
static const char *
skip_quoted(const char *p)
{
	char quote = *p++;

	for (; *p && *p != quote; p++)
	{
		if (*p == '\\' && quote == '"' && p[1])
			p++;
	}
	return *p ? p + 1 : p;
}

/*
 * What "text" has of comparisons, as the text of a filter.  NULL for several
 * spansets or a pipeline.
 */
static char *
salvage(const char *text, int *groups)
{
	StringInfoData out;
	StringInfoData group;
	const char    *p = text;
	const char    *term;

	while (isspace((unsigned char) *p))
		p++;
	if (*p != '{')
		return NULL;
	initStringInfo(&out);
	initStringInfo(&group);
	*groups = 1;

	for (term = ++p;;)
	{
		bool end = *p == '\0' || *p == '}';
		bool both = p[0] == '&' && p[1] == '&';
		bool either = p[0] == '|' && p[1] == '|';

		if (*p == '"' || *p == '`')
		{
			p = skip_quoted(p);
			continue;
		}
		if (!end && !both && !either)
		{
			p++;
			continue;
		}

		/* A comparison that is complete joins its group. */
		{
			char    *comparison = psprintf("%.*s", (int) (p - term), term);
			TqlExpr *expr = single_filter(psprintf("{%s}", comparison));

			if (expr && (expr->kind == TQL_E_BINARY || expr->kind == TQL_E_LIST || expr->kind == TQL_E_UNARY))
				appendStringInfo(&group, "%s(%s)", group.len > 0 ? " && " : "", comparison);
		}
		if (either || end)
		{
			if (group.len > 0)
				appendStringInfo(&out, "%s%s", out.len > 0 ? " || " : "", group.data);
			resetStringInfo(&group);
		}
		if (end)
			break;
		*groups += either;
		p += 2;
		term = p;
	}

	/* nothing may follow the filter */
	if (*p == '}')
		p++;
	while (isspace((unsigned char) *p))
		p++;
	if (*p != '\0' || out.len == 0)
		return NULL;
	return psprintf("{ %s }", out.data);
}

/*
 * The filter as SQL; NULL if it cannot be evaluated yet.  The compiler does
 * nothing that an error would have to undo.
 */
static char *
compile(const TqlExpr *expr)
{
	MemoryContext context = CurrentMemoryContext;
	char *volatile sql = NULL;

	PG_TRY();
	{
		sql = tql_filter_sql(expr);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return sql;
}

TagFilter
read_tag_filter(const char *text)
{
	TagFilter filter = {0};
	char     *salvaged;

	if (text == NULL)
		return filter;
	salvaged = salvage(text, &filter.groups);
	filter.expr = single_filter(text);
	if (filter.expr == NULL && salvaged)
		filter.expr = single_filter(salvaged);
	if (filter.expr == NULL)
		return filter;

	filter.condition = compile(filter.expr);
	if (filter.condition == NULL)
		filter.expr = NULL;
	return filter;
}

static const TqlStatic *
pinned(const TqlExpr *expr, const TqlAttribute *attribute)
{
	const TqlStatic *value;

	if (expr->kind != TQL_E_BINARY)
		return NULL;
	if (expr->op == TQL_AND)
	{
		value = pinned(expr->left, attribute);
		return value ? value : pinned(expr->right, attribute);
	}
	if (expr->op == TQL_EQ && expr->left->kind == TQL_E_ATTRIBUTE && expr->right->kind == TQL_E_STATIC &&
	    tql_attribute_equal(&expr->left->attribute, attribute))
		return &expr->right->value;
	return NULL;
}

const TqlStatic *
tag_filter_pins(const TagFilter *filter, const TqlAttribute *attribute)
{
	return filter->expr ? pinned(filter->expr, attribute) : NULL;
}
