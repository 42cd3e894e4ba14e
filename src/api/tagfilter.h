/*-------------------------------------------------------------------------
 *
 * tagfilter.h
 *	  The half-typed query that narrows down tag names and values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_TAGFILTER_H
#define TEMPO_API_TAGFILTER_H

#include "postgres.h"

#include "traceql/ast.h"

typedef struct TagFilter
{
	TqlExpr *expr;      /* NULL = no filter */
	char    *condition; /* the same as SQL over tempo.spans as "s" */
	int      groups;    /* how many alternatives the text has */
} TagFilter;

/* "text" may be NULL; nothing in it is an error */
extern TagFilter read_tag_filter(const char *text);

/*
 * tag_filter_pins: the value that the filter demands of an attribute, NULL if
 * it leaves it open
 */
extern const TqlStatic *tag_filter_pins(const TagFilter *filter, const TqlAttribute *attribute);

#endif /* TEMPO_API_TAGFILTER_H */
