/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The smallest test harness that can fail.
 *
 * A test program calls ok() for each check and ends with return tap_done().
 * Only failures are printed, and a summary line "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_TEST_TAP_H
#define TEMPO_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_passed;
static int tap_failed;

static inline bool
tap_check(bool passed, const char *file, int line, const char *format, ...)
{
	va_list args;

	if (passed)
	{
		tap_passed++;
		return true;
	}
	tap_failed++;
	printf("not ok - ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" (%s:%d)\n", file, line);
	return false;
}

#define ok(condition, ...) tap_check((condition), __FILE__, __LINE__, __VA_ARGS__)

static inline int
tap_done(void)
{
	printf("%d passed, %d failed\n", tap_passed, tap_failed);
	return tap_failed != 0 || tap_passed == 0;
}

#endif /* TEMPO_TEST_TAP_H */
