/*-------------------------------------------------------------------------
 *
 * cpu.h
 *	  Which instructions the processor has beyond those that everything is
 *	  compiled for.
 *
 * A function that has a second version for AVX2 marks it TARGET_AVX2, inside
 * #if HAVE_AVX2, and asks cpu_avx2() once per array.  Both give the same
 * results, bit by bit.  The versions exist where they were measured to pay:
 * looking up one value per row in a table, for one, is not faster with the
 * gather instruction than with eight loads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SEGMENT_CPU_H
#define TEMPO_SEGMENT_CPU_H

#include <stdbool.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_AVX2 1
#define TARGET_AVX2 __attribute__((target("avx2")))
#else
#define HAVE_AVX2 0
#endif

/* cpu_avx2: does the processor have AVX2, and may it be used? */
extern bool cpu_avx2(void);

/* cpu_allow_avx2: for comparison; allowed until it is forbidden */
extern void cpu_allow_avx2(bool allow);

#endif /* TEMPO_SEGMENT_CPU_H */
