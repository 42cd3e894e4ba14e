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
	TQL_V_NIL,    /* there is none */
	TQL_V_OPAQUE, /* there is one that no operator can see */
	TQL_V_INT,
	TQL_V_DOUBLE,
	TQL_V_STRING,
	TQL_V_BOOL,
	TQL_V_ARRAY, /* of two or more elements of one of the four types above */
	/* what only intrinsics are; "n" is the value */
	TQL_V_DURATION,
	TQL_V_STATUS,
	TQL_V_KIND
} TqlValueType;

typedef struct TqlValue
{
	TqlValueType     type;
	int64            n; /* INT, BOOL, DURATION, STATUS, KIND */
	double           d; /* DOUBLE */
	const char      *s; /* STRING */
	uint32           len;
	struct TqlValue *elements; /* ARRAY */
	uint32           n_elements;
} TqlValue;

/* Reads a value; strings point into the jsonb. */
extern void tql_value_load(Jsonb *jb, TqlValue *out);

/* The jsonb form of a scalar. */
extern Jsonb *tql_value_to_jsonb(const TqlValue *value);

/* a op b, for the six comparison operators; false for what cannot be compared */
extern bool tql_value_compare(const TqlValue *a, TqlOp op, const TqlValue *b);

extern bool   tql_value_is_number(const TqlValue *v);
extern double tql_value_number(const TqlValue *v);

/* One element of an attribute set, nil if it has no such key. */
extern void tql_value_from_set(JsonbContainer *set, const char *key, int key_len, TqlValue *out);

/* What an iterator over a set gave */
extern void tql_value_from_item(const JsonbValue *item, TqlValue *out);

extern void tql_value_from_static(const TqlStatic *literal, TqlValue *out);

/*
 * a op b for + - * / % ^; the boolean false if an operand is no number.
 * Returns false for an integer divided by the integer 0.
 */
extern bool tql_value_calculate(const TqlValue *a, char op, const TqlValue *b, TqlValue *out);

/* Strings only; of an array any element, or none if negated. */
extern bool tql_value_match(const TqlValue *v, const char *pattern, bool negate);

/* Pushes {"key": ..., "value": {"stringValue": ...}}, as search answers have it. */
extern void tql_push_attribute(JsonbParseState **state, const char *key, int key_len, const TqlValue *value);
extern void tql_push_any_value(JsonbParseState **state, const TqlValue *value);
extern void tql_push_text(JsonbParseState **state, JsonbIteratorToken token, const char *s, int len);

#endif /* TEMPO_TRACEQL_VALUE_H */
