/*-------------------------------------------------------------------------
 *
 * regex.h
 *	  Regular expressions in RE2 syntax, anchored at both ends; "." matches
 *	  a newline.  No PostgreSQL header here: regex.cc is C++.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TRACEQL_REGEX_H
#define TEMPO_TRACEQL_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
#define TQL_NOEXCEPT noexcept
extern "C"
{
#else
#define TQL_NOEXCEPT
#endif

	typedef struct TqlRegex TqlRegex;

	/*
 * tql_regex_get: the compiled pattern from this process's cache, or NULL if
 * it is invalid, too big or memory is short.  The result stays valid until the
 * next call.
 */
	extern TqlRegex *tql_regex_get(const char *pattern, size_t length) TQL_NOEXCEPT;

	extern bool tql_regex_valid(const char *pattern, size_t length) TQL_NOEXCEPT;

	/* Does the whole text match? */
	extern bool tql_regex_match(TqlRegex *regex, const char *text, size_t length) TQL_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* TEMPO_TRACEQL_REGEX_H */
