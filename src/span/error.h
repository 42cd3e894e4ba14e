/*-------------------------------------------------------------------------
 *
 * error.h
 *	  How code that runs without a server reports what went wrong.
 *
 * Functions return false (or NULL) and fill a SpanError.  The layer that
 * knows the protocol, or SQL, turns the code into a status or an SQLSTATE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_ERROR_H
#define TEMPO_SPAN_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

typedef enum SpanErrorCode
{
	SPAN_ERROR_NONE = 0,
	SPAN_ERROR_INVALID,     /* the input is malformed */
	SPAN_ERROR_LIMIT,       /* the input exceeds a bound of ours */
	SPAN_ERROR_MEMORY,      /* no memory, or the arena's limit */
	SPAN_ERROR_CORRUPT,     /* stored bytes are not what was written */
	SPAN_ERROR_UNSUPPORTED, /* a version or feature we do not know */
	SPAN_ERROR_IO           /* a read callback failed */
} SpanErrorCode;

typedef struct SpanError
{
	SpanErrorCode code;
	char          message[512];
} SpanError;

/* span_error: fills *error (may be NULL) and returns false, for "return span_error(...)" */
extern bool span_error(SpanError *error, SpanErrorCode code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* TEMPO_SPAN_ERROR_H */
