/*-------------------------------------------------------------------------
 *
 * body.h
 *	  The body of an answer: bytes in pieces, and the primitives of JSON.
 *
 * A trace may be larger than the 1 GB that palloc gives in one piece, and is
 * sent piece by piece anyway, so a body is a list of buffers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_BODY_H
#define TEMPO_API_BODY_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "span/value.h"

typedef struct ApiBody
{
	MemoryContext context;
	List         *pieces;  /* StringInfos that are full */
	StringInfo    current; /* the last piece, NULL at first */
	Size          len;     /* bytes in "pieces" */
} ApiBody;

extern ApiBody *body_create(void); /* in CurrentMemoryContext */
extern Size     body_length(const ApiBody *body);
extern void     body_append(ApiBody *body, const void *data, Size len);
extern void     body_printf(ApiBody *body, const char *format, ...) pg_attribute_printf(2, 3);

/* body_wrap: makes what is there the value of a protobuf field */
extern void body_wrap(ApiBody *body, uint32 tag);

/* body_take: the first piece not yet taken; false when there is none left */
extern bool body_take(ApiBody *body, const char **data, Size *len);

static inline void
body_text(ApiBody *body, const char *text)
{
	body_append(body, text, strlen(text));
}

static inline void
body_char(ApiBody *body, char c)
{
	body_append(body, &c, 1);
}

/* As Go's encoding/json writes them, which is what clients of Tempo have seen. */
extern void body_json_string(ApiBody *body, const char *data, Size len);
extern void body_json_double(ApiBody *body, double value);
extern void body_base64(ApiBody *body, const void *data, Size len);

/*
 * format_double: the shortest text that reads back as "value"; an exponent
 * from 10^"high" up and below 10^"low", two digits of exponent at least if
 * "padded".  Finite values only.  The result is palloc'd.
 */
extern char *format_double(double value, int low, int high, bool padded);

#endif /* TEMPO_API_BODY_H */
