/*-------------------------------------------------------------------------
 *
 * gateway.c
 *	  The process that serves the Tempo API.
 *
 * It has no database connection and never runs a query, so that health,
 * statistics and slow clients are served whatever the database does.  What
 * takes the database is given to the pool of query workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/api.h"
#include "api/grpc.h"
#include "miscadmin.h"
#include "net/server.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/gateway.h"
#include "worker/counts.h"
#include "worker/cors.h"
#include "worker/credentials.h"
#include "worker/health.h"
#include "worker/ingest_metrics.h"
#include "worker/listening.h"
#include "worker/pool.h"
#include "worker/process.h"
#include "worker/reflection.h"
#include "worker/waiting.h"

extern PGDLLEXPORT void tempo_gateway_main(Datum arg);

#define MAX_BODY (1024 * 1024)
#define MAX_BUFFERED (64 * 1024 * 1024)
#define SHUTDOWN_MS 5000
#define LISTEN_RETRY_MS 5000
#define FOREIGN_TEXT "the origin is not in tempo_pg.cors_allowed_origins"

static NetLoop   *loop;
static NetServer *server;

static void
write_metrics(ApiBody *body)
{
	NetStatistics net = net_server_statistics(server);
	PoolNumbers   pool = pool_numbers();

	counts_write_requests(body);
	counts_write(body, "requests_cancelled_total", "counter", "Requests whose client went away before the answer.", gateway_counts.cancelled);
	counts_write(body, "requests_waiting", "gauge", "Requests that wait for a query worker.", pool.waiting);
	counts_write(body, "query_workers_running", "gauge", "Query workers that exist.", pool.running);
	counts_write(body, "query_workers_busy", "gauge", "Query workers that run a request.", pool.busy);
	counts_write(body, "query_workers_started_total", "counter", "Query workers started.", gateway_counts.workers_started);
	counts_write(body, "query_workers_lost_total", "counter", "Query workers that ended by themselves.", gateway_counts.workers_lost);
	counts_write(body, "gateway_connections", "gauge", "Open connections of the Tempo API.", net.connections);
	counts_write(body, "gateway_connections_total", "counter", "Connections accepted by the Tempo API.", net.accepted);
	counts_write(body, "gateway_answer_bytes", "gauge", "Bytes of answers held until they have been read.", waiting_gathered() + net.unsent);
	counts_write(body, "gateway_unread_total", "counter", "Answers given up because too many others had not been read.", gateway_counts.given_up);
	counts_write(body, "gateway_tls_failures_total", "counter", "TLS handshakes of the Tempo API that failed.", net.tls_failures);
	counts_write(body, "gateway_refused_total", "counter", "Requests refused as malformed, too large or too many.", net.refused);
	write_ingest_metrics(body);
}

/* --------------------------------------------------------------- requests */

/*
 * Is there something to verify, or nothing to be verified?  Otherwise the
 * request has been answered.
 */
static bool
has_credentials(NetRequest *net, Credentials *credentials)
{
	int         status = 401;
	const char *text = CREDENTIALS_MISSING_TEXT;

	switch (credentials_check(net, credentials))
	{
		case CREDENTIALS_NOT_NEEDED:
		case CREDENTIALS_TO_VERIFY:
			return true;
		case CREDENTIALS_MISSING:
			break;
		case CREDENTIALS_TOO_MANY:
			status = 429;
			text = CREDENTIALS_TOO_MANY_TEXT;
			break;
	}
	count_request("other", status, GetCurrentTimestamp());
	if (net_request_is_grpc(net))
		net_grpc_finish(net, status == 401 ? GRPC_STATUS_UNAUTHENTICATED : api_grpc_status(status), text);
	else
	{
		NetHeader wait = {"retry-after", "1"};

		net_respond(net, status, "text/plain; charset=utf-8", &wait, status == 429, text, strlen(text));
	}
	return false;
}

static const char *const services[] = {
	"tempopb.StreamingQuerier", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection", NULL};

/* A call: what it comes down to is answered here or by a worker. */
static void
handle_grpc(NetRequest *net)
{
	TimestampTz  arrived = GetCurrentTimestamp();
	HealthCall   health = health_read(net, services);
	NetText      body;
	ApiRequest   request;
	ApiResponse *response;
	Waiting     *waiting;
	int          status;
	char        *error;
	Credentials  credentials;

	if (health == HEALTH_ANSWERED || reflection_ends(net))
		return;
	if (health != HEALTH_NO_CALL)
	{
		if (tempo_enabled && pool_any_worker(true))
			health_answer(net, health, true);
		else
		{
			waiting = waiting_create(net, QUERY_PING);
			waiting->health = health;
			pool_add(waiting);
		}
		return;
	}

	if (!has_credentials(net, &credentials))
		return;
	body = net_request_body(net);
	if (!api_from_grpc(net_request_path(net), body.data, body.len, &request, &status, &error))
	{
		net_grpc_finish(net, status, error);
		return;
	}
	request.tenant = tenant_header(net);
	response = credentials.given ? NULL : api_begin_local(&request);
	if (response)
	{
		answer_at_once(net, response, arrived);
		return;
	}
	waiting = waiting_create(net, QUERY_STREAM);
	waiting->credentials = credentials;
	waiting->path = MemoryContextStrdup(TopMemoryContext, request.path);
	waiting->query = MemoryContextStrdup(TopMemoryContext, request.query);
	pool_add(waiting);
}

/*
 * The Model Context Protocol demands that a server looks at the origin: a page
 * that makes its own name mean this machine passes for one of ours otherwise,
 * since its browser sees no other origin.
 */
static bool
is_foreign_page(const NetRequest *net)
{
	static const char endpoint[] = "/api/mcp";
	const char       *path = net_request_path(net);
	Size              len = strlen(path);

	return len >= strlen(endpoint) && strcmp(path + len - strlen(endpoint), endpoint) == 0 && cors_is_foreign(net);
}

/*
 * Ready is who can answer queries.  While a worker runs one there is no doubt,
 * otherwise one is asked.  Statistics have what only a worker knows as long as
 * it does not keep them waiting.
 */
static void
handle_http(NetRequest *net)
{
	ApiRequest   request = {0};
	ApiResponse *response;
	Waiting     *waiting;
	Credentials  credentials;
	bool         is_open;

	if (cors_preflight(net, "GET, HEAD, POST, PATCH, DELETE"))
		return;
	if (is_foreign_page(net))
	{
		count_request("mcp", 403, GetCurrentTimestamp());
		net_respond(net, 403, "text/plain; charset=utf-8", NULL, 0, FOREIGN_TEXT, strlen(FOREIGN_TEXT));
		return;
	}
	request.method = net_request_method(net);
	request.path = net_request_path(net);
	request.query = net_request_query(net);
	request.accept = net_request_header(net, "accept", NULL);
	request.tenant = tenant_header(net);
	request.if_match = net_request_header(net, "if-match", NULL);
	response = api_begin_local(&request);
	is_open = response && (strcmp(response->endpoint, "ready") == 0 || strcmp(response->endpoint, "metrics") == 0);
	memset(&credentials, 0, sizeof(credentials));
	if (!is_open && !has_credentials(net, &credentials))
		return;
	/* who it is must be known before anything else is said */
	if (response == NULL || credentials.given)
	{
		waiting = waiting_create(net, QUERY_RUN);
		waiting->credentials = credentials;
		pool_add(waiting);
	}
	else if (strcmp(response->endpoint, "ready") == 0 && !(tempo_enabled && pool_any_worker(true)))
		pool_add(waiting_create(net, QUERY_PING));
	else if (strcmp(response->endpoint, "metrics") == 0 && !pool_all_busy())
		pool_add(waiting_create(net, QUERY_STATISTICS));
	else
		answer_at_once(net, response, GetCurrentTimestamp());
}

static void
handle_request(NetRequest *net, void *arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "tempo_pg gateway request",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	if (net_request_is_grpc(net))
		handle_grpc(net);
	else
		handle_http(net);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ------------------------------------------------------------------- loop */

/* Sees what arrives when its headers are complete. */
static void
check_request(NetRequest *net, void *arg)
{
	if (net_request_is_grpc(net))
		(void) reflection_check(net, waiting_memory_is_full);
}

static bool
start_server(char *message, Size len)
{
	NetServerOptions options = {0};
	char             reason[512];

	options.listen_addresses = tempo_listen_addresses;
	options.port = tempo_http_port;
	options.http1 = true;
	options.http2 = true;
	options.max_body = MAX_BODY;
	options.max_buffered = MAX_BUFFERED;
	options.check = check_request;
	options.handler = handle_request;
	if (!listening_options(&options, "api", reason, sizeof(reason)))
	{
		snprintf(message, len, "could not serve the Tempo API over TLS: %s", reason);
		return false;
	}
	server = net_server_start(loop, &options, reason, sizeof(reason));
	if (server == NULL)
	{
		snprintf(message, len, "could not serve the Tempo API: %s", reason);
		net_loop_run(loop);
		return false;
	}
	waiting_init(server);
	return true;
}

/* Serves as soon as the port and the certificate allow it.  Why they do not is told once. */
static void
wait_for_server(void)
{
	char message[1024];
	bool told = false;

	listening_reserve(1);
	while (!ShutdownRequestPending && !start_server(message, sizeof(message)))
	{
		if (!told)
			ereport(WARNING,
			        (errcode(ERRCODE_CONFIG_FILE_ERROR),
			         errmsg("%s", message),
			         errhint("It is tried again every %d seconds, and when the settings are reloaded.", LISTEN_RETRY_MS / 1000)));
		told = true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LISTEN_RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		process_interrupts();
		if (listening_reread())
			told = false;
	}
}

static void
run_once(void)
{
	int timeout;
	int partial;

	process_interrupts();
	if (listening_reread())
		listening_apply(server, "api");
	pool_run();
	net_loop_run(loop);
	/* answers and new requests may have come of it */
	pool_run();

	partial = pool_send_partials();
	timeout = net_loop_timeout(loop);
	if (partial >= 0 && (timeout < 0 || timeout > partial))
		timeout = partial;
	/* idle workers are looked at once a second */
	if (pool_any_worker(false) && (timeout < 0 || timeout > 1000))
		timeout = 1000;
	(void) WaitLatchOrSocket(MyLatch,
	                         WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH |
	                             (timeout >= 0 ? WL_TIMEOUT : 0),
	                         net_loop_fd(loop), timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

void
tempo_gateway_main(Datum arg)
{
	TimestampTz stopping;

	process_begin(psprintf("serving the Tempo API on port %d", tempo_http_port));
	loop = net_loop_create();
	if (loop == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not create an event loop")));
	wait_for_server();
	if (server == NULL)
		proc_exit(1);
	api_hooks.metrics = write_metrics;
	cors_answers_are_private = true;
	ereport(LOG, (errmsg("serving the Tempo API on port %d", tempo_http_port)));

	while (!ShutdownRequestPending)
		run_once();

	/* What is being answered may finish, but not hold up the server. */
	health_stop();
	net_server_stop(server, true);
	stopping = GetCurrentTimestamp();
	while (!net_server_idle(server) &&
	       (pool_any_worker(true) || net_server_statistics(server).unsent > 0) &&
	       GetCurrentTimestamp() - stopping < SHUTDOWN_MS * INT64CONST(1000))
		run_once();

	/* anything but 0, so that one that was terminated by hand comes back */
	proc_exit(1);
}

void
gateway_init(void)
{
	DefineCustomIntVariable("tempo_pg.gateway_memory",
	                        "Memory for answers of the Tempo API that have not been read yet.",
	                        "Beyond it query workers wait with theirs until clients read, at most for tempo_pg.query_timeout.",
	                        &tempo_gateway_memory, 256 * 1024, 1024, MAX_KILOBYTES,
	                        PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.stream_interval",
	                        "Time between messages of a streaming query that still runs.",
	                        "The stream of a query that ends sooner has the complete answer only.",
	                        &tempo_stream_interval, 500, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	if (tempo_http_port > 0)
		process_add_worker("tempo_pg gateway", "tempo_gateway_main", 1, tempo_query_workers);
}
