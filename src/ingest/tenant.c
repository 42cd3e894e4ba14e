/*-------------------------------------------------------------------------
 *
 * tenant.c
 *	  Whose spans a request brings.
 *
 *-------------------------------------------------------------------------
 */
#include "ingest/tenant.h"

#include <string.h>

/* Metadata behind a tenant may be this long. */
#define METADATA_MAX_BYTES 64

static bool
valid_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!-_.*'()", c) != NULL);
}

/* Can it be shown as it is? */
static bool
printable(const char *start, const char *end)
{
	for (const char *p = start; p < end; p++)
		if (*p < ' ' || *p > '~')
			return false;
	return true;
}

/* One tenant of the header, up to "end".  What is wrong is said as queries say it. */
static bool
check_tenant(const char *start, const char *end, SpanText *tenant, SpanError *error)
{
	const char *colon = memchr(start, ':', end - start);
	size_t      len;

	if (colon != NULL && end - colon - 1 > METADATA_MAX_BYTES)
		return span_error(error, SPAN_ERROR_INVALID, "tenant ID metadata is longer than %d bytes", METADATA_MAX_BYTES);
	if (colon != NULL)
		end = colon;
	len = end - start;
	if (len == 0)
		return span_error(error, SPAN_ERROR_INVALID, "tenant ID is empty");
	if (len > TENANT_MAX_BYTES)
		return span_error(error, SPAN_ERROR_INVALID, "tenant ID is too long: max %d characters", TENANT_MAX_BYTES);
	for (const char *p = start; p < end; p++)
	{
		if (valid_character(*p))
			continue;
		if (!printable(start, end))
			return span_error(error, SPAN_ERROR_INVALID, "tenant ID contains unsupported characters");
		return span_error(error, SPAN_ERROR_INVALID, "tenant ID '%.*s' contains unsupported character '%c'",
		                  (int) len, start, *p);
	}
	*tenant = span_text(start, (uint32_t) len);
	if (span_text_is(*tenant, ".") || span_text_is(*tenant, ".."))
		return span_error(error, SPAN_ERROR_INVALID, "tenant ID is '.' or '..'");
	return true;
}

bool
tenant_for_write(const char *header, SpanText *tenant, SpanError *error)
{
	const char *start = header;
	bool        first = true;

	for (;;)
	{
		const char *end = start + strcspn(start, "|");
		SpanText    part;

		if (!check_tenant(start, end, &part, error))
			return false;
		if (first)
			*tenant = part;
		else if (!span_text_equal(*tenant, part))
			return span_error(error, SPAN_ERROR_INVALID, "spans can be written for one tenant only");
		if (*end == '\0')
			return true;
		first = false;
		start = end + 1;
	}
}
