/*-------------------------------------------------------------------------
 *
 * tempo_pg.c
 *	  Library entry point: settings, hooks and background workers.
 *
 * Each module defines its own settings and hooks in its init function; this
 * file only calls them in order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/handler.h"
#include "api/api.h"
#include "fmgr.h"
#include "ingest/limits.h"
#include "ingest/live_traces.h"
#include "ingest/recent.h"
#include "ingest/statistics.h"
#include "ingest/store.h"
#include "traceql/traceql.h"
#include "utils/guc.h"
#include "worker/compaction.h"
#include "worker/gateway.h"
#include "worker/process.h"
#include "worker/receiver.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	process_init();

	/* modules add their workers and settings between these two */
	tempo_access_init();
	tempo_traceql_init();
	api_init();
	recent_init();
	store_init();
	statistics_init();
	limits_init();
	live_traces_init();
	receiver_init();
	gateway_init();
	compaction_init();

	process_register();
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("tempo_pg");
#endif
}
