/*-------------------------------------------------------------------------
 *
 * process.c
 *	  The background workers of tempo_pg and the settings they share.
 *
 * Modules add their workers to a table in their init functions; the workers
 * are registered from it at the end, so that the number of slots needed is
 * known and can be compared with max_worker_processes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "common/string.h"
#include "lib/stringinfo.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/sinval.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/pidfile.h"
#include "worker/listening.h"
#include "worker/process.h"

#define MAX_KINDS 8

typedef struct WorkerKind
{
	const char *name;
	const char *function;
	int         count;
	int         dynamic;
} WorkerKind;

static WorkerKind kinds[MAX_KINDS];
static int        n_kinds;

uint64 process_settings_read;
char  *tempo_database;
bool   tempo_enabled = true;
char  *tempo_listen_addresses;
char  *tempo_otlp_grpc_listen_addresses;
char  *tempo_otlp_http_listen_addresses;
char  *tempo_zipkin_listen_addresses;
char  *tempo_jaeger_grpc_listen_addresses;
char  *tempo_jaeger_http_listen_addresses;
char  *tempo_jaeger_compact_listen_addresses;
char  *tempo_jaeger_binary_listen_addresses;
int    tempo_otlp_grpc_port = 4317;
int    tempo_otlp_http_port = 4318;
int    tempo_zipkin_port = 0;
int    tempo_jaeger_grpc_port = 0;
int    tempo_jaeger_http_port = 0;
int    tempo_jaeger_compact_port = 0;
int    tempo_jaeger_binary_port = 0;
int    tempo_http_port = 3200;
int    tempo_receiver_workers = 2;
int    tempo_query_workers = 4;
bool   tempo_multitenancy = false;
int    tempo_commit_delay = 5;
int    tempo_otlp_max_message_bytes = 64 * 1024 * 1024;
int    tempo_receiver_memory = 256 * 1024;
int    tempo_retry_after = 5;

/* Settings of the listening ports and the number of processes. */
static void
define_listening_settings(GucContext start)
{
	DefineCustomStringVariable("tempo_pg.listen_addresses",
	                           "Addresses on which spans are received and the Tempo API is served.",
	                           "A comma-separated list as in listen_addresses; \"*\" means all, empty means none.",
	                           &tempo_listen_addresses, "localhost", start, GUC_LIST_INPUT,
	                           NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.otlp_grpc_port",
	                        "Port for OTLP over gRPC; 0 turns it off.",
	                        NULL, &tempo_otlp_grpc_port, 4317, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.otlp_http_port",
	                        "Port for OTLP over HTTP; 0 turns it off.",
	                        NULL, &tempo_otlp_http_port, 4318, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.zipkin_port",
	                        "Port for Zipkin over HTTP, usually 9411; 0 turns it off.", NULL,
	                        &tempo_zipkin_port, 0, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.jaeger_grpc_port",
	                        "Port for Jaeger over gRPC, usually 14250; 0 turns it off.", NULL,
	                        &tempo_jaeger_grpc_port, 0, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.jaeger_http_port",
	                        "Port for Jaeger's Thrift over HTTP, usually 14268; 0 turns it off.",
	                        NULL, &tempo_jaeger_http_port, 0, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.jaeger_compact_port",
	                        "UDP port for Jaeger's compact Thrift, usually 6831; 0 turns it off.",
	                        NULL, &tempo_jaeger_compact_port, 0, 0, 65535, start, 0, NULL, NULL,
	                        NULL);
	DefineCustomIntVariable("tempo_pg.jaeger_binary_port",
	                        "UDP port for Jaeger's binary Thrift, usually 6832; 0 turns it off.",
	                        NULL, &tempo_jaeger_binary_port, 0, 0, 65535, start, 0, NULL, NULL,
	                        NULL);
	DefineCustomIntVariable("tempo_pg.http_port", "Port for the Tempo API; 0 turns it off.", NULL,
	                        &tempo_http_port, 3200, 0, 65535, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.receiver_workers",
	                        "Number of processes that receive spans; 0 turns the receivers off.",
	                        "Each has one more process behind it that writes.",
	                        &tempo_receiver_workers, 2, 0, 64, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.query_workers",
	                        "Largest number of processes that run queries for the Tempo API.",
	                        NULL, &tempo_query_workers, 4, 1, 64, start, 0, NULL, NULL, NULL);
}

/* Addresses of single receivers. */
static void
define_addresses(GucContext start)
{
	const struct
	{
		const char *name;
		const char *what;
		char      **variable;
		const char *initial;
	} addresses[] = {
		{"tempo_pg.otlp_grpc_listen_addresses", "Addresses on which OTLP over gRPC is received.",
	     &tempo_otlp_grpc_listen_addresses, ""},
		{"tempo_pg.otlp_http_listen_addresses", "Addresses on which OTLP over HTTP is received.",
	     &tempo_otlp_http_listen_addresses, ""},
		{"tempo_pg.zipkin_listen_addresses", "Addresses on which Zipkin is received.",
	     &tempo_zipkin_listen_addresses, ""},
		{"tempo_pg.jaeger_grpc_listen_addresses",
	     "Addresses on which Jaeger over gRPC is received.", &tempo_jaeger_grpc_listen_addresses,
	     ""},
		{"tempo_pg.jaeger_http_listen_addresses",
	     "Addresses on which Jaeger over HTTP is received.", &tempo_jaeger_http_listen_addresses,
	     ""},
		/* datagrams can be forged by anybody who reaches the port */
		{"tempo_pg.jaeger_compact_listen_addresses",
	     "Addresses on which Jaeger's compact Thrift over UDP is received.",
	     &tempo_jaeger_compact_listen_addresses, "localhost"},
		{"tempo_pg.jaeger_binary_listen_addresses",
	     "Addresses on which Jaeger's binary Thrift over UDP is received.",
	     &tempo_jaeger_binary_listen_addresses, "localhost"}};

	for (int i = 0; i < lengthof(addresses); i++)
		DefineCustomStringVariable(
			addresses[i].name, addresses[i].what, "Empty means those of tempo_pg.listen_addresses.",
			addresses[i].variable, addresses[i].initial, start, GUC_LIST_INPUT, NULL, NULL, NULL);
}

/* Settings of what is received. */
static void
define_ingest_settings(GucContext start)
{
	DefineCustomBoolVariable("tempo_pg.multitenancy",
	                         "Requires a tenant (header X-Scope-OrgID) in every request.",
	                         "When off, all spans belong to the tenant \"single-tenant\".",
	                         &tempo_multitenancy, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.commit_delay",
	                        "How long a writer waits for further requests to commit together.",
	                        "It does not wait when it has been idle.",
	                        &tempo_commit_delay, 5, 0, 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.otlp_max_message_bytes",
	                        "Largest request with spans, compressed and decompressed each.",
	                        NULL, &tempo_otlp_max_message_bytes, 64 * 1024 * 1024, 1024, 512 * 1024 * 1024,
	                        start, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.receiver_memory",
	                        "Memory for requests in one receiver process; above it clients are asked to retry.",
	                        NULL, &tempo_receiver_memory, 256 * 1024, 1024, INT_MAX / 2,
	                        start, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.retry_after",
	                        "How long clients are asked to wait before they send a request again.",
	                        NULL, &tempo_retry_after, 5, 0, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

void
process_init(void)
{
	/*
	 * Settings fixed at server start cannot be defined later, but must be known
	 * in a server that does not preload the library too.
	 */
	GucContext start = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomStringVariable("tempo_pg.database",
	                           "Database that spans are stored in and queried from.",
	                           NULL, &tempo_database, "postgres", start, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tempo_pg.enabled",
	                         "Runs the background processes.",
	                         "When off, they leave the database, so that it can be dropped, and clients are asked to retry.",
	                         &tempo_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_listening_settings(start);
	define_addresses(start);
	define_ingest_settings(start);
	listening_init();
}

void
process_add_worker(const char *name, const char *function, int count, int dynamic)
{
	WorkerKind *kind = &kinds[n_kinds];

	if (n_kinds == MAX_KINDS)
		elog(ERROR, "too many kinds of background workers");
	kind->name = name;
	kind->function = function;
	kind->count = count;
	kind->dynamic = dynamic;
	n_kinds++;
}

static void
register_worker(const WorkerKind *kind, int number)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "tempo_pg");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "%s", kind->function);
	snprintf(worker.bgw_type, BGW_MAXLEN, "%s", kind->name);
	if (kind->count > 1)
		snprintf(worker.bgw_name, BGW_MAXLEN, "%s %d", kind->name, number + 1);
	else
		snprintf(worker.bgw_name, BGW_MAXLEN, "%s", kind->name);
	worker.bgw_main_arg = Int32GetDatum(number);
	worker.bgw_notify_pid = 0;
	RegisterBackgroundWorker(&worker);
}

void
process_register(void)
{
	int slots = 0;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	for (int i = 0; i < n_kinds; i++)
	{
		slots += kinds[i].count * (1 + kinds[i].dynamic);
		for (int number = 0; number < kinds[i].count; number++)
			register_worker(&kinds[i], number);
	}
	if (slots > max_worker_processes)
		ereport(WARNING,
		        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		         errmsg("tempo_pg needs %d background worker processes, but max_worker_processes is %d",
		                slots, max_worker_processes),
		         errhint("Set max_worker_processes to at least %d, and more for parallel queries and other extensions.",
		                 slots)));
}

bool
process_server_stopping(void)
{
	StringInfoData line;
	int            number = 0;
	FILE          *file;

	if (ShutdownRequestPending)
		return true;
	file = AllocateFile("postmaster.pid", "r");
	if (file == NULL)
		return false;
	initStringInfo(&line);
	while (number < LOCK_FILE_LINE_PM_STATUS && pg_get_line_buf(file, &line))
		number++;
	FreeFile(file);
	return number == LOCK_FILE_LINE_PM_STATUS &&
	       strncmp(line.data, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}

void
process_begin(const char *activity)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
process_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	(void) process_reread_settings();
}

bool
process_reread_settings(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	process_settings_read++;
	return true;
}
