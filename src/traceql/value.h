/*-------------------------------------------------------------------------
 *
 * value.h
 *	  A TraceQL value at run time, read from an attribute's jsonb.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_VALUE_H
#define TEMPO_TRACEQL_VALUE_H

#include "traceql/ast.h"
#include "utils/jsonb.h"

typedef enum TqlValueType
{
	TQL_V_NIL,					/* there is none */
	TQL_V_OPAQUE,				/* there is one that no operator can see */
	TQL_V_INT,
	TQL_V_DOUBLE,
	TQL_V_STRING,
	TQL_V_BOOL,
	TQL_V_ARRAY					/* of two or more elements of one of the four types above */
} TqlValueType;

typedef struct TqlValue
{
	TqlValueType type;
	int64		n;				/* INT, BOOL */
	double		d;				/* DOUBLE */
	const char *s;				/* STRING */
	uint32		len;
	struct TqlValue *elements;	/* ARRAY */
	uint32		n_elements;
} TqlValue;

/* Reads a value; strings point into the jsonb. */
extern void tql_value_load(Jsonb *jb, TqlValue *out);

/* The jsonb form of a scalar. */
extern Jsonb *tql_value_to_jsonb(const TqlValue *value);

/* a op b, for the six comparison operators; false for what cannot be compared */
extern bool tql_value_compare(const TqlValue *a, TqlOp op, const TqlValue *b);

#endif							/* TEMPO_TRACEQL_VALUE_H */
