/*-------------------------------------------------------------------------
 *
 * query.c
 *	  Query workers: run the API functions for the gateway.
 *
 * A worker is started when there is a request and none is idle, connects to
 * tempo_pg.database, and serves one request after the other until the gateway
 * closes its queue.  Every request is a read-only transaction of the role
 * tempo_reader with one snapshot and a time limit.  The answer is sent after
 * the transaction, so a slow client holds back no vacuum.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <malloc.h>

#include "access/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "api/api.h"
#include "api/grpc.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "net/server.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"
#include "worker/authenticate.h"
#include "worker/compress.h"
#include "worker/credentials.h"
#include "worker/installed.h"
#include "worker/process.h"
#include "worker/query.h"
#include "worker/queue.h"

extern PGDLLEXPORT void tempo_query_main(Datum arg);

#define STATISTICS_TIMEOUT 2000 /* ms */

/* Free memory at the heap's end up to this is kept from the system, until the worker was idle for so long. */
#define KEPT_MEMORY (32 * 1024 * 1024)
#define KEPT_TIMEOUT 1000 /* ms */

static WorkerQueue       *queue;
static emit_log_hook_type next_log_hook;

/* Of the request being served. */
static const char *accept_encoding;
static const char *authorization;
static int         authentication; /* what the gateway demanded */
static bool        rejected;       /* it proves no role */

/* ----------------------------------------------------------------- start */

/*
 * What ends this process is told to the gateway, which has nothing else to
 * answer its clients with: "database does not exist", for one.
 */
static void
tell_last_words(ErrorData *error)
{
	static bool told = false;

	if (error->elevel >= FATAL && !told)
	{
		told = true;
		queue_send(queue, 0, QUERY_LAST_WORDS, error->message, strlen(error->message) + 1);
	}
	if (next_log_hook)
		next_log_hook(error);
}

/* An idle worker just leaves; a busy one gives up what it is doing. */
static void
query_terminate(SIGNAL_ARGS)
{
	ShutdownRequestPending = true;
	die(postgres_signal_arg);
}

static void
query_start(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, query_terminate);
	BackgroundWorkerUnblockSignals();

	/* the next request wants the memory that the last one gave back: it goes back to the system when the worker is idle */
	mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);

	queue = queue_attach(arg);
	next_log_hook = emit_log_hook;
	emit_log_hook = tell_last_words;
	BackgroundWorkerInitializeConnection(tempo_database, NULL, 0);

	/* What a database or a role sets for its sessions is not meant for us. */
	SetConfigOption("search_path", "pg_catalog, tempo, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("jit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	queue_reply(queue, 0, QUERY_READY, NULL, 0);
}

/* -------------------------------------------------------------- messages */

static bool
takes_request(QueryMessage type)
{
	return type == QUERY_RUN || type == QUERY_STREAM;
}

static const char *
read_text(const char **p, const char *end)
{
	const char *text = *p;
	Size        len = strnlen(text, end - text);

	if (text + len >= end)
		elog(ERROR, "malformed message from the gateway");
	*p = text + len + 1;
	return *text == '+' ? text + 1 : NULL;
}

static void
append_text(StringInfo out, const char *text)
{
	if (text)
		appendStringInfo(out, "+%s", text);
	else
		appendStringInfoChar(out, '-');
	appendStringInfoChar(out, '\0');
}

static void
reply_unavailable(uint64 id, const char *reason, const char *hint)
{
	StringInfoData text;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, reason, strlen(reason) + 1);
	appendBinaryStringInfo(&text, hint, strlen(hint) + 1);
	queue_reply(queue, id, QUERY_UNAVAILABLE, text.data, text.len);
}

static void
reply_message(void *arg, const char *data, Size len)
{
	queue_reply(queue, *(uint64 *) arg, QUERY_BODY, data, len);
}

static void
append_head(StringInfo text, const ApiResponse *response)
{
	QueryHead head;

	memset(&head, 0, sizeof(head));
	head.status = response->status;
	head.rejected = rejected;
	head.nosniff = response->nosniff;
	head.vary = response->vary;
	head.gzip = response->gzip;
	appendBinaryStringInfo(text, (char *) &head, sizeof(head));
	append_text(text, response->content_type);
	append_text(text, response->location);
	append_text(text, response->endpoint);
	append_text(text, response->etag);
	append_text(text, response->allow);
	append_text(text, response->session);
}

/*
 * What a running query has found so far.  Does not wait for the gateway: what
 * the queue does not take goes with what is sent next.
 */
static void
send_partial(void *arg, const char *data, Size len)
{
	queue_send(queue, *(uint64 *) arg, QUERY_PARTIAL, data, len);
}

static void
reply_response(uint64 id, QueryMessage type, ApiResponse *response)
{
	StringInfoData text;
	const char    *data;
	Size           len;

	if (type == QUERY_STREAM && response->status == 200 && strcmp(response->content_type, "application/protobuf") != 0)
	{
		response->status = 501;
		response->body = body_create();
		body_text(response->body, "not supported yet over gRPC");
	}
	if (type == QUERY_RUN && net_accepts_gzip(accept_encoding))
		compress_answer(response);
	initStringInfo(&text);
	append_head(&text, response);
	queue_reply(queue, id, QUERY_HEAD, text.data, text.len);
	if (type == QUERY_STREAM && response->status == 200)
		api_split_message(response, reply_message, &id);
	else
	{
		while (api_next(response, &data, &len))
			queue_reply(queue, id, QUERY_BODY, data, len);
	}
	queue_reply(queue, id, QUERY_DONE, NULL, 0);
}

/* -------------------------------------------------------------- requests */

static ApiResponse *
plain_response(int status, const char *text)
{
	ApiResponse *response = palloc0(sizeof(ApiResponse));

	response->status = status;
	response->content_type = "text/plain; charset=utf-8";
	response->endpoint = "other";
	response->body = body_create();
	body_text(response->body, text);
	return response;
}

/* In a transaction: can requests be run at all?  Replies if not. */
static bool
check_available(uint64 id, const char *name, Oid *role)
{
	const char *hint;
	const char *fault = installed_fault(&hint);

	if (fault != NULL)
	{
		reply_unavailable(id, fault, hint);
		return false;
	}
	*role = get_role_oid(name, true);
	if (!OidIsValid(*role))
	{
		reply_unavailable(id, psprintf("role %s does not exist", name),
		                  psprintf("Run CREATE ROLE %s NOLOGIN and grant it what it had.", name));
		return false;
	}
	return true;
}

/* What is stored, for /metrics. */
static ApiResponse *
statistics(void)
{
	ApiResponse *response = palloc0(sizeof(ApiResponse));

	response->status = 200;
	response->endpoint = "metrics";
	response->body = body_create();

	SPI_connect();
	if (SPI_execute("SELECT level, pg_catalog.count(*), pg_catalog.sum(spans)::bigint, pg_catalog.sum(bytes)::bigint "
	                "FROM tempo.segments GROUP BY level ORDER BY level",
	                true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read tempo.segments");
	for (int column = 2; column <= 4; column++)
	{
		static const char *const names[] = {"segments", "stored_spans", "stored_bytes"};
		static const char *const help[] = {
			"Segments by level.", "Spans in the segments.", "Bytes of the segments."};

		body_printf(response->body, "# HELP tempo_pg_%s %s\n# TYPE tempo_pg_%s gauge\n",
		            names[column - 2], help[column - 2], names[column - 2]);
		for (uint64 row = 0; row < SPI_processed; row++)
			body_printf(response->body, "tempo_pg_%s{level=\"%s\"} %s\n", names[column - 2],
			            SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1),
			            SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column));
	}
	SPI_finish();
	return response;
}

/*
 * One attempt at a request, in a transaction of its own; NULL when a reply has
 * been sent.  An error is raised.
 */
static ApiResponse *
run_in_transaction(uint64 id, QueryMessage type, ApiCall *call, MemoryContext context)
{
	ApiResponse *response = NULL;
	Oid          user;
	Oid          role = InvalidOid;
	int          security;
	int          limit = tempo_query_timeout;
	bool         writes = call != NULL && api_writes(call);

	/* a scrape is not worth waiting for */
	if (type == QUERY_STATISTICS)
		limit = STATISTICS_TIMEOUT;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactReadOnly = !writes || RecoveryInProgress();
	XactIsoLevel = XACT_REPEATABLE_READ;
	if (limit > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, limit);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);

	rejected = false;
	if (check_available(id, writes ? "tempo_admin" : "tempo_reader", &role))
	{
		if (call && authentication_needed(authentication))
			role = authenticate(authorization, authentication);
		rejected = !OidIsValid(role);
	}
	if (rejected)
		response = plain_response(401, CREDENTIALS_REJECTED_TEXT);
	else if (OidIsValid(role))
	{
		GetUserIdAndSecContext(&user, &security);
		SetUserIdAndSecContext(role, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
		if (call)
		{
			api_serve(call);
			response = api_response(call);
		}
		else if (type == QUERY_STATISTICS)
			response = statistics();
		else
			queue_reply(queue, id, QUERY_DONE, NULL, 0);
		SetUserIdAndSecContext(user, security);
	}

	disable_timeout(STATEMENT_TIMEOUT, false);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return response;
}

/* An error that ended the transaction: cancelled, out of time, or unforeseen. */
static void
reply_error(uint64 id, QueryMessage type, const ErrorData *error)
{
	bool cancelled = error->sqlerrcode == ERRCODE_QUERY_CANCELED;

	reply_response(id, type, cancelled ? plain_response(504, "context deadline exceeded") : plain_response(500, error->message));
}

/* The same with the error returned and the transaction given up. */
static ErrorData *
try_in_transaction(uint64 id, QueryMessage type, ApiCall *call, MemoryContext context, ApiResponse **response)
{
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		*response = run_in_transaction(id, type, call, context);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

static void
run_request(uint64 id, QueryMessage type, const ApiRequest *request, MemoryContext context)
{
	ApiCall     *call = takes_request(type) ? api_open(request) : NULL;
	ApiResponse *response = NULL;
	ErrorData   *error;

	for (;;)
	{
		error = try_in_transaction(id, type, call, context, &response);
		if (error == NULL || error->sqlerrcode == ERRCODE_QUERY_CANCELED || call == NULL)
			break;
		if (!api_failed(call, error, true))
		{
			error = NULL;
			response = api_response(call);
			break;
		}
	}
	QueryCancelPending = false;

	if (error)
		reply_error(id, type, error);
	else if (response)
		reply_response(id, type, response);
	pgstat_report_stat(false);
}

/*
 * Takes the request out of a message.  True unless the client has already
 * gone: the gateway says so by a message and then by a signal, and a signal
 * that comes from here on interrupts the request.
 */
static bool
read_request(const QueueMessage *message, ApiRequest *request)
{
	char        *copy = palloc(message->len + 1);
	const char  *p = copy;
	const char  *end = copy + message->len;
	uint64       id = message->request_id;
	QueueMessage next;

	memcpy(copy, message->payload, message->len);
	if (takes_request((QueryMessage) message->type))
	{
		const char *number = read_text(&p, end);

		authentication = number != NULL ? atoi(number) : 0;
		request->stream = message->type == QUERY_STREAM;
		request->method = read_text(&p, end);
		request->path = read_text(&p, end);
		request->query = read_text(&p, end);
		request->accept = read_text(&p, end);
		accept_encoding = read_text(&p, end);
		request->tenant = read_text(&p, end);
		request->if_match = read_text(&p, end);
		authorization = read_text(&p, end);
		request->body = p;
		request->body_len = end - p;
		if (request->stream)
		{
			uint64 *arg = palloc(sizeof(uint64));

			*arg = id;
			request->partial = send_partial;
			request->partial_arg = arg;
		}
	}
	QueryCancelPending = false;
	return !(queue_receive(queue, &next) && next.type == QUERY_CANCEL && next.request_id == id);
}

static void
serve_message(const QueueMessage *message, MemoryContext context)
{
	ApiRequest   request = {0};
	uint64       id = message->request_id;
	QueryMessage type = (QueryMessage) message->type;

	if (!takes_request(type) && type != QUERY_PING && type != QUERY_STATISTICS)
		return;
	MemoryContextSwitchTo(context);
	if (!read_request(message, &request))
		queue_reply(queue, id, QUERY_DONE, NULL, 0);
	else
	{
		char *activity = takes_request(type) ?
		                     api_printable(psprintf("%s %s%s%s", request.method, request.path, *request.query ? "?" : "", request.query)) :
		                 type == QUERY_PING ? "health check" :
		                                      "statistics";

		debug_query_string = activity;
		pgstat_report_activity(STATE_RUNNING, activity);
		run_request(id, type, &request, context);
		debug_query_string = NULL;
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(context);
}

void
tempo_query_main(Datum arg)
{
	MemoryContext context;
	bool          served = false; /* since memory was given back */

	query_start(arg);
	context = AllocSetContextCreate(TopMemoryContext, "tempo_pg request", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		QueueMessage message;
		int          events;

		ResetLatch(MyLatch);
		if (ShutdownRequestPending)
			proc_exit(0);
		/* a cancel that came too late is of no interest any more */
		HOLD_CANCEL_INTERRUPTS();
		CHECK_FOR_INTERRUPTS();
		RESUME_CANCEL_INTERRUPTS();
		(void) process_reread_settings();
		while (queue_receive(queue, &message))
		{
			serve_message(&message, context);
			served = true;
		}
		if (queue_closed(queue))
			proc_exit(0);
		events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (served ? WL_TIMEOUT : 0);
		if ((WaitLatch(MyLatch, events, served ? KEPT_TIMEOUT : -1L, WAIT_EVENT_MESSAGE_QUEUE_RECEIVE) & WL_TIMEOUT) != 0)
		{
			(void) malloc_trim(0);
			served = false;
		}
	}
}
