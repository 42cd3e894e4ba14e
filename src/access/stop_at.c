/*-------------------------------------------------------------------------
 *
 * stop_at.c
 *	  Holds up a process at a named step, for tests of crashes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stop_at.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"

int tempo_stop_at = TEMPO_STOP_NOWHERE;

static const struct config_enum_entry stops[] = {{"nowhere", TEMPO_STOP_NOWHERE, false},
#define STOP(symbol, name) {name, TEMPO_STOP_##symbol, false},
                                                 TEMPO_STOPS(STOP)
#undef STOP
                                                     {NULL, 0, false}};

/*
 * Waits at the step once: until it is told to read the settings again, or is
 * cancelled, or killed.  Who waits shows in pg_stat_activity.
 */
void
tempo_stop_here(void)
{
	const char *name = stops[tempo_stop_at].name;

	Assert(CritSectionCount == 0);
	tempo_stop_at = TEMPO_STOP_NOWHERE;
	ereport(LOG, (errmsg("stopped at \"%s\"", name), errhidestmt(true), errhidecontext(true)));
	while (!ConfigReloadPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
tempo_stop_init(void)
{
	DefineCustomEnumVariable("tempo_pg.debug_stop_at",
	                         "Step at which the session waits once, for tests.", NULL,
	                         &tempo_stop_at, TEMPO_STOP_NOWHERE, stops, PGC_SUSET,
	                         GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, NULL, NULL);
}
