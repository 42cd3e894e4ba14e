/*-------------------------------------------------------------------------
 *
 * test_blind.c
 *	  Damage that no checksum finds does no harm either.
 *
 *-------------------------------------------------------------------------
 */
#define FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include "../../src/segment/frame.c"

#define BLIND
#include "test_damage.c"
