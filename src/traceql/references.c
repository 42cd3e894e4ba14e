/*-------------------------------------------------------------------------
 *
 * references.c
 *	  Which attributes and intrinsics a query mentions: what search answers
 *	  show of a span, and what has to be read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "traceql/to_sql.h"

/* "filter" is the filter that mentions the attribute, NULL if that is something else. */
static List *
add_reference(List *references, const TqlAttribute *attribute, bool nil_tested, const TqlExpr *filter)
{
	TqlReference *reference;
	ListCell     *lc;

	foreach (lc, references)
	{
		reference = lfirst(lc);
		if (tql_attribute_equal(&reference->attribute, attribute))
		{
			reference->nil_tested |= nil_tested;
			reference->everywhere |= filter == NULL;
			if (filter)
				reference->filters = list_append_unique_ptr(reference->filters, unconstify(TqlExpr *, filter));
			return references;
		}
	}
	reference = palloc0(sizeof(TqlReference));
	reference->attribute = *attribute;
	reference->nil_tested = nil_tested;
	reference->everywhere = filter == NULL;
	if (filter)
		reference->filters = list_make1(unconstify(TqlExpr *, filter));
	return lappend(references, reference);
}

List *
tql_add_reference(List *references, const TqlAttribute *attribute)
{
	return add_reference(references, attribute, false, NULL);
}

static List *
of_expr(const TqlExpr *e, bool nil_tested, const TqlExpr *filter, List *references)
{
	check_stack_depth();
	/* what differs from a literal is as telling on the other spans */
	if (e->op == TQL_NE || e->op == TQL_NRE || e->op == TQL_NOT_IN || e->op == TQL_RE_NONE)
		filter = NULL;
	switch (e->kind)
	{
		case TQL_E_STATIC:
			break;
		case TQL_E_UNARY:
		case TQL_E_LIST:
			return of_expr(e->left, e->op == TQL_NOT_EXISTS, filter, references);
		case TQL_E_BINARY:
			references = of_expr(e->left, false, filter, references);
			return of_expr(e->right, false, filter, references);
		case TQL_E_ATTRIBUTE:
			return add_reference(references, &e->attribute, nil_tested, filter);
	}
	return references;
}

static List *of_pipeline(const List *pipeline, List *references);

static List *
of_spanset(const TqlSpanset *spanset, List *references)
{
	check_stack_depth();
	switch (spanset->kind)
	{
		case TQL_S_FILTER:
			return of_expr(spanset->filter, false, spanset->filter, references);
		case TQL_S_OPERATION:
			references = of_spanset(spanset->left, references);
			return of_spanset(spanset->right, references);
		case TQL_S_PIPELINE:
			return of_pipeline(spanset->pipeline, references);
	}
	return references;
}

static List *
of_pipeline(const List *pipeline, List *references)
{
	ListCell *lc;
	ListCell *a;

	foreach (lc, pipeline)
	{
		const TqlStage *stage = lfirst(lc);

		switch (stage->kind)
		{
			case TQL_ST_SPANSET:
				references = of_spanset(stage->spanset, references);
				break;
			case TQL_ST_SCALAR_FILTER:
				if (stage->left->argument)
					references = of_expr(stage->left->argument, false, NULL, references);
				break;
			case TQL_ST_BY:
				references = of_expr(stage->by, false, NULL, references);
				break;
			case TQL_ST_SELECT:
				foreach (a, stage->attributes)
					references = tql_add_reference(references, lfirst(a));
				break;
			case TQL_ST_COALESCE:
				break;
		}
	}
	return references;
}

List *
tql_pipeline_references(const List *pipeline)
{
	return of_pipeline(pipeline, NIL);
}

/* What one metrics query reads of the spans */
List *
tql_metrics_references(const TqlMetricsExpr *part)
{
	static const TqlAttribute compared[] = {
		{.scope = TQL_SCOPE_SPAN, .name = ""},
		{.scope = TQL_SCOPE_RESOURCE, .name = ""},
		{.scope = TQL_SCOPE_INSTRUMENTATION, .name = ""},
		{.intrinsic = TQL_I_STATUS_MESSAGE},
		{.intrinsic = TQL_I_INSTRUMENTATION_NAME},
		{.intrinsic = TQL_I_INSTRUMENTATION_VERSION},
	};
	const TqlMetrics *metrics = part->metrics;
	List             *references = of_pipeline(part->pipeline, NIL);
	ListCell         *lc;

	if (metrics->argument)
		references = tql_add_reference(references, metrics->argument);
	foreach (lc, metrics->by)
		references = tql_add_reference(references, lfirst(lc));
	if (metrics->function == TQL_M_COMPARE)
	{
		references = of_expr(metrics->compare, false, NULL, references);
		for (int i = 0; i < lengthof(compared); i++)
			references = tql_add_reference(references, &compared[i]);
	}
	return references;
}
