/*-------------------------------------------------------------------------
 *
 * error.c
 *	  Filling a SpanError.
 *
 *-------------------------------------------------------------------------
 */
#include "span/error.h"

#include <stdio.h>

bool
span_error(SpanError *error, SpanErrorCode code, const char *format, ...)
{
	va_list args;

	if (error == NULL)
		return false;
	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return false;
}
