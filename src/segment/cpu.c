/*-------------------------------------------------------------------------
 *
 * cpu.c
 *	  Which instructions the processor has beyond those that everything is
 *	  compiled for.
 *
 *-------------------------------------------------------------------------
 */
#include "segment/cpu.h"

static bool allowed = true;

bool
cpu_avx2(void)
{
#if HAVE_AVX2
	static int found = -1;

	if (found < 0)
		found = __builtin_cpu_supports("avx2") != 0;
	return found != 0 && allowed;
#else
	return false;
#endif
}

void
cpu_allow_avx2(bool allow)
{
	allowed = allow;
}
