/*-------------------------------------------------------------------------
 *
 * writer.c
 *	  The process behind a receiver that stores requests.
 *
 * It takes the requests that are at hand, decodes them into one batch,
 * appends that, commits once, and only then answers each request.  It waits a
 * moment for more requests unless it has been idle, and commits at most 100
 * times a second: a commit costs a transaction id and a segment.
 *
 * A request with bad content is refused alone.  When the transaction fails
 * the fault may lie in one request (a trigger on tempo.spans, say), so they
 * are tried one by one, unless the error says that it is the server's state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <malloc.h>
#include <signal.h>

#include "access/append.h"
#include "access/memory.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "ingest/store.h"
#include "lib/ilist.h"
#include "libpq/pqsignal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/authenticate.h"
#include "worker/compaction.h"
#include "worker/credentials.h"
#include "worker/installed.h"
#include "worker/process.h"
#include "worker/queue.h"
#include "worker/writer.h"

/* Least time between two commits, in milliseconds. */
#define COMMIT_INTERVAL 10

/* A group is stored without further waiting when it has so many requests or bytes. */
#define GROUP_REQUESTS 512
#define GROUP_BYTES (8 * 1024 * 1024)

/* How long a request waits for the same request in flight elsewhere. */
#define BUSY_WAIT 30000
#define BUSY_POLL 50

/* The statistics of the last groups are reported after this many idle milliseconds: autovacuum needs them. */
#define STAT_INTERVAL 1000

/* One kind of error is logged once in so many milliseconds. */
#define LOG_INTERVAL 10000

#define BATCH_MEMORY_LIMIT ((Size) 2048 * 1024 * 1024)

typedef struct Waiting
{
	dlist_node   node;
	uint64       id;
	TimestampTz  arrived;
	bool         check;    /* WRITER_CHECK: nothing to store */
	bool         admitted; /* see StoreRequest */
	StoreRequest store;
	const char  *authorization;               /* NULL = none */
	int          authentication;              /* what the receiver demanded */
	Oid          role;                        /* it is stored as; invalid: see refusal */
	RpcCode      refusal;                     /* RPC_OK = none */
	char        *message;                     /* has the body if it was large */
	char         data[FLEXIBLE_ARRAY_MEMBER]; /* tenant, authorization with a NUL, body if it is small */
} Waiting;

extern PGDLLEXPORT void tempo_writer_main(Datum arg);

static WorkerQueue          *queue;
static emit_log_hook_type    next_log_hook;
static dlist_head            waiting = DLIST_STATIC_INIT(waiting); /* not tried yet */
static int                   n_waiting;
static Size                  waiting_bytes;
static dlist_head            busy = DLIST_STATIC_INIT(busy); /* in flight elsewhere */
static int                   n_busy;
static TimestampTz           busy_tried;
static TimestampTz           last_commit;  /* when the last group was begun */
static bool                  stat_pending; /* pgstat has counts that were not reported yet */
static MemoryContext         group_context;
static volatile sig_atomic_t in_group = false; /* storing, or answering */

/* ----------------------------------------------------------------- start */

/*
 * What ends this process is told to the receiver, which has nothing else to
 * answer its clients with: "database does not exist", for one.
 */
static void
tell_last_words(ErrorData *error)
{
	static bool told = false;

	if (error->elevel >= FATAL && !told)
	{
		told = true;
		queue_send(queue, 0, WRITER_LAST_WORDS, error->message, strlen(error->message) + 1);
	}
	if (next_log_hook)
		next_log_hook(error);
}

/*
 * A commit that waits for a synchronous standby.  Whoever ends that wait must
 * end the writer with it, or clients would be told that their spans are where
 * they are not; repeated, the requests wait again (ingest/recent.c).
 */
static bool
waits_for_standby(void)
{
	return MyProc != NULL && MyProc->syncRepState != SYNC_REP_NOT_WAITING;
}

static void
writer_cancel(SIGNAL_ARGS)
{
	if (waits_for_standby())
	{
		ShutdownRequestPending = true;
		die(postgres_signal_arg);
	}
	else
		StatementCancelHandler(postgres_signal_arg);
}

/*
 * An idle writer just leaves.  A busy one finishes its group, whose clients
 * would not know otherwise whether it is stored; the receiver cancels it if
 * that takes long, and another signal a second later ends it at once.  Not one
 * that comes sooner: the postmaster signals a process and then its group, so
 * that one order may be heard twice.
 */
static void
writer_terminate(SIGNAL_ARGS)
{
	static TimestampTz first;
	TimestampTz        now = GetCurrentTimestamp();

	if (!ShutdownRequestPending)
		first = now;
	ShutdownRequestPending = true;
	if (!in_group || waits_for_standby() || now - first > USECS_PER_SEC)
		die(postgres_signal_arg);
}

static void
writer_start(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, writer_terminate);
	pqsignal(SIGINT, writer_cancel);
	BackgroundWorkerUnblockSignals();

	/* a group takes and gives back megabytes; do not fault them in each time */
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
#endif
	queue = queue_attach(arg);
	next_log_hook = emit_log_hook;
	emit_log_hook = tell_last_words;
	BackgroundWorkerInitializeConnection(tempo_database, NULL, 0);

	/* What a database or a role sets for its sessions is not meant for us. */
	SetConfigOption("search_path", "pg_catalog, tempo", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "10s", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("jit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	group_context = AllocSetContextCreate(TopMemoryContext, "tempo_pg writer group", ALLOCSET_DEFAULT_SIZES);
}

/* --------------------------------------------------------------- answers */

static void
answer(Waiting *request, RpcCode code, bool retry, const char *message)
{
	Size          len = strlen(message);
	Size          size = sizeof(WriterAnswer) + len + 1;
	WriterAnswer *reply = palloc0(size);

	reply->code = code;
	reply->retry = retry;
	if (code == RPC_OK && !request->check)
	{
		reply->spans = request->store.result.spans;
		reply->rejected = request->store.result.rejected;
	}
	else if (!request->check)
		reply->spans = request->store.result.invalid_trace_id + request->store.result.invalid_span_id +
		               request->store.result.rate_limited;
	memcpy(reply + 1, message, len + 1);
	(void) queue_reply(queue, request->id, WRITER_ANSWER, reply, size);
	pfree(reply);
	if (request->message)
		pfree(request->message);
	pfree(request);
}

static void
answer_all(Waiting **group, int n, RpcCode code, bool retry, const char *message)
{
	for (int i = 0; i < n; i++)
		answer(group[i], code, retry, message);
}

/* The answer for a request whose transaction has been committed. */
static void
answer_committed(Waiting *request)
{
	const StoreRequest *store = &request->store;

	if (request->check)
	{
		answer(request, RPC_OK, false, "");
		return;
	}
	if (request->refusal != RPC_OK)
	{
		answer(request, request->refusal, false, request->refusal == RPC_UNAUTHENTICATED ? CREDENTIALS_REJECTED_TEXT : "permission denied for table spans");
		return;
	}
	store_count(store);
	switch (store->outcome)
	{
		case STORE_APPENDED:
		case STORE_NOTHING:
		case STORE_REPEATED:
			answer(request, RPC_OK, false, store->result.rejected > 0 ? store->result.rejected_message : "");
			break;
		case STORE_BUSY:
			dlist_push_tail(&busy, &request->node);
			n_busy++;
			break;
		case STORE_LIMITED:
			answer(request, RPC_RATE_LIMITED, true, store->error.message);
			break;
		case STORE_REFUSED:
			answer(request, store->error.code == SPAN_ERROR_MEMORY ? RPC_RESOURCE_EXHAUSTED : RPC_INVALID_ARGUMENT,
			       false, store->error.message);
			break;
	}
}

/* ---------------------------------------------------------------- storing */

static bool
has_category(int sqlstate, int class)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == class;
}

/* Does the error come from the content of a request, so that to repeat it is no use? */
static bool
is_content_error(int sqlstate)
{
	return has_category(sqlstate, ERRCODE_DATA_EXCEPTION) ||
	       has_category(sqlstate, ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
	       sqlstate == ERRCODE_RAISE_EXCEPTION || /* a trigger's own */
	       has_category(sqlstate, ERRCODE_WITH_CHECK_OPTION_VIOLATION);
}

/* Does the error come from the state of the server, so that all requests have it? */
static bool
is_server_error(int sqlstate)
{
	/* requests of several roles are in the group */
	if (tempo_authentication != 0 && sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return false;
	return has_category(sqlstate, ERRCODE_INSUFFICIENT_RESOURCES) ||
	       has_category(sqlstate, ERRCODE_SYSTEM_ERROR) ||
	       has_category(sqlstate, ERRCODE_OPERATOR_INTERVENTION) ||
	       has_category(sqlstate, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE) ||
	       has_category(sqlstate, ERRCODE_CONNECTION_EXCEPTION) ||
	       has_category(sqlstate, ERRCODE_INVALID_TRANSACTION_STATE) ||
	       has_category(sqlstate, ERRCODE_FEATURE_NOT_SUPPORTED) ||
	       has_category(sqlstate, ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
}

static void
answer_error(Waiting **group, int n, const ErrorData *error)
{
	const char *message = error->message != NULL ? error->message : "unknown error";

	if (tempo_authentication != 0 && error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		answer_all(group, n, RPC_PERMISSION_DENIED, false, message);

	/* no room, or none to write at all: with RetryInfo clients keep trying */
	else if (error->sqlerrcode == ERRCODE_DISK_FULL || error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		answer_all(group, n, RPC_RESOURCE_EXHAUSTED, true, message);
	else if (has_category(error->sqlerrcode, ERRCODE_PROGRAM_LIMIT_EXCEEDED))
		answer_all(group, n, RPC_RESOURCE_EXHAUSTED, false, message);
	else if (is_content_error(error->sqlerrcode))
		answer_all(group, n, RPC_INVALID_ARGUMENT, false, message);
	else if (has_category(error->sqlerrcode, ERRCODE_INTERNAL_ERROR))
		answer_all(group, n, RPC_INTERNAL, false, message);
	else
		answer_all(group, n, RPC_UNAVAILABLE, true, message);
}

/* The log shall tell what is wrong, but not once for every request. */
static void
log_error(int sqlstate)
{
	static int         last_state;
	static TimestampTz last_time;
	TimestampTz        now = GetCurrentTimestamp();

	if (sqlstate == last_state && !TimestampDifferenceExceeds(last_time, now, LOG_INTERVAL))
		return;
	last_state = sqlstate;
	last_time = now;
	EmitErrorReport();
}

/*
 * The open relation; or NULL and why there is none; or, for what else does not
 * let us store anything, an error.  In a transaction.
 */
static Relation
open_spans(const char **fault)
{
	const char *hint;
	Relation    rel;
	Oid         relid;

	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("the encoding of database \"%s\" is %s, but spans need UTF8", tempo_database,
		                GetDatabaseEncodingName())));
	*fault = installed_fault(&hint);
	if (*fault != NULL)
	{
		*fault = psprintf("%s: %s", *fault, hint);
		return NULL;
	}
	relid = tempo_spans_relation();
	PreventCommandIfReadOnly("INSERT");
	/* NULL, too, if DROP EXTENSION commits while the lock is waited for */
	rel = try_table_open(relid, RowExclusiveLock);
	if (rel == NULL)
		*fault = "extension tempo_pg was dropped while spans waited: run CREATE EXTENSION tempo_pg";
	return rel;
}

/* As whom each request is to be stored, or why not at all. */
static void
find_roles(Waiting **group, int n, Oid spans)
{
	Oid writer = get_role_oid("tempo_writer", false);

	for (int i = 0; i < n; i++)
	{
		Waiting *request = group[i];

		request->refusal = RPC_OK;
		request->role = writer;
		if (request->check || !authentication_needed(request->authentication))
			continue;
		request->role = authenticate(request->authorization, request->authentication);
		if (!OidIsValid(request->role))
			request->refusal = RPC_UNAUTHENTICATED;
		else if (pg_class_aclcheck(spans, request->role, ACL_INSERT) != ACLCHECK_OK)
			request->refusal = RPC_PERMISSION_DENIED;
	}
}

/*
 * Stores the requests of one role, from the first one on; true if they have
 * spans.  What came of each is in "stored": until the commit it may be undone.
 */
static bool
store_as_role(Relation rel, Waiting **group, int n, int first, StoreRequest *stored)
{
	StoreRequest *requests = MemoryContextAllocZero(group_context, sizeof(StoreRequest) * n);
	SpanAllocator allocator = tempo_context_allocator(group_context);
	SpanBatch    *batch = span_batch_create(&allocator, BATCH_MEMORY_LIMIT);
	Oid           role = group[first]->role;
	Oid           user;
	int           security;
	int           n_requests = 0;

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (int i = first; i < n; i++)
		if (!group[i]->check && group[i]->refusal == RPC_OK && group[i]->role == role)
			requests[n_requests++] = group[i]->store;
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(role, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	store_requests(rel, requests, n_requests, false, batch);
	SetUserIdAndSecContext(user, security);

	n_requests = 0;
	for (int i = first; i < n; i++)
		if (!group[i]->check && group[i]->refusal == RPC_OK && group[i]->role == role)
			stored[i] = requests[n_requests++];
	return batch->n_spans > 0;
}

/* Has an earlier request of the group the same role? */
static bool
is_first_of_role(Waiting **group, int i)
{
	for (int j = 0; j < i; j++)
		if (!group[j]->check && group[j]->refusal == RPC_OK && group[j]->role == group[i]->role)
			return false;
	return !group[i]->check && group[i]->refusal == RPC_OK;
}

/* One transaction; NULL, or what is missing of the extension. */
static const char *
store_in_transaction(Waiting **group, int n)
{
	Relation      rel;
	Oid           relid;
	const char   *fault;
	bool          has_spans = false;
	StoreRequest *stored = MemoryContextAllocZero(group_context, sizeof(StoreRequest) * n);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(group_context);
	rel = open_spans(&fault);
	if (rel == NULL)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		return fault;
	}
	find_roles(group, n, RelationGetRelid(rel));
	for (int i = 0; i < n; i++)
		if (is_first_of_role(group, i))
			has_spans = store_as_role(rel, group, n, i, stored) || has_spans;
	relid = RelationGetRelid(rel);
	table_close(rel, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* if we were told to leave while a standby had not confirmed, nobody is told that the spans are stored */
	CHECK_FOR_INTERRUPTS();
	if (has_spans)
		compaction_stored(relid);
	for (int i = 0; i < n; i++)
		if (!group[i]->check && group[i]->refusal == RPC_OK)
			group[i]->store = stored[i];
	return NULL;
}

/* Stores the group and answers; NULL, or the error for which nothing was stored. */
static ErrorData *
try_group(Waiting **group, int n)
{
	ErrorData *volatile error = NULL;
	const char *volatile fault = NULL;

	PG_TRY();
	{
		fault = store_in_transaction(group, n);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(group_context);
		error = CopyErrorData();
		log_error(error->sqlerrcode);
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(group_context);
	if (error != NULL)
		return error;
	if (fault == NULL)
		for (int i = 0; i < n; i++)
			answer_committed(group[i]);
	else
		answer_all(group, n, RPC_UNAVAILABLE, true, fault);
	return NULL;
}

static void
store_group(Waiting **group, int n)
{
	ErrorData *error;

	if (RecoveryInProgress())
	{
		answer_all(group, n, RPC_RESOURCE_EXHAUSTED, true, "the server is a standby, which cannot store spans");
		return;
	}
	if (compaction_overloaded())
	{
		answer_all(group, n, RPC_RESOURCE_EXHAUSTED, true,
		           "too many segments wait to be merged (tempo_pg.max_level0_segments)");
		return;
	}
	error = try_group(group, n);
	if (error == NULL)
		return;
	if (n == 1 || is_server_error(error->sqlerrcode))
	{
		answer_error(group, n, error);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		error = try_group(&group[i], 1);
		if (error != NULL)
			answer_error(&group[i], 1, error);
	}
}

/* Takes the next requests off a list, up to the bounds of a group. */
static void
run_group(dlist_head *list, int *count)
{
	Waiting *group[GROUP_REQUESTS];
	char     activity[64];
	Size     bytes = 0;
	int      n = 0;

	while (n < GROUP_REQUESTS && bytes < GROUP_BYTES && !dlist_is_empty(list))
	{
		Waiting *request = dlist_container(Waiting, node, dlist_pop_head_node(list));

		(*count)--;
		if (list == &waiting)
			waiting_bytes -= request->store.len;
		bytes += request->store.len;
		group[n++] = request;
	}
	if (n == 0)
		return;
	last_commit = GetCurrentTimestamp();
	/* not palloc'd: the context of this process is never reset */
	snprintf(activity, sizeof(activity), "storing %d requests", n);
	pgstat_report_activity(STATE_RUNNING, activity);
	in_group = true;
	store_group(group, n);
	in_group = false;
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(group_context);
	stat_pending = pgstat_report_stat(false) > 0;
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Requests that were in flight elsewhere, again; whoever waited too long is told so. */
static void
run_busy(TimestampTz now)
{
	dlist_mutable_iter iter;
	int                n = n_busy;

	busy_tried = now;
	dlist_foreach_modify (iter, &busy)
	{
		Waiting *request = dlist_container(Waiting, node, iter.cur);

		if (!TimestampDifferenceExceeds(request->arrived, now, BUSY_WAIT))
			continue;
		dlist_delete(iter.cur);
		n_busy--;
		n--;
		answer(request, RPC_UNAVAILABLE, true, "the same request is still being stored");
	}

	/* what is still in flight comes back to the end of the list */
	if (n > 0)
		run_group(&busy, &n_busy);
}

/* -------------------------------------------------------------- main loop */

/*
 * A request of its own.  A large one stays in the memory it was put together
 * in: nobody counts a second copy of it.
 */
static Waiting *
take_store(const WriterRequest *head, const char *payload, Size len)
{
	Size     before = (Size) head->tenant_len + head->authorization_len;
	char    *message = queue_keep(queue);
	Waiting *request;
	char    *authorization;
	char    *body;

	if (before > len)
		elog(ERROR, "malformed message from the receiver");
	/* and the NUL behind the authorization */
	request = MemoryContextAllocHuge(TopMemoryContext, offsetof(Waiting, data) + (message ? before : len) + 1);
	memset(request, 0, offsetof(Waiting, data));
	request->message = message;
	memcpy(request->data, payload, before);
	authorization = request->data + head->tenant_len;
	authorization[head->authorization_len] = '\0';
	body = message ? unconstify(char *, payload) + before : authorization + head->authorization_len + 1;
	if (!message)
		memcpy(body, payload + before, len - before);
	request->authorization = head->authorization_len > 0 ? authorization : NULL;
	request->authentication = head->authentication;
	request->store.hash = head->hash;
	request->store.admitted = &request->admitted;
	request->store.format = head->format;
	request->store.tenant = span_text(request->data, head->tenant_len);
	request->store.body = body;
	request->store.len = len - before;
	return request;
}

static void
receive_requests(void)
{
	QueueMessage message;

	while (waiting_bytes < GROUP_BYTES && n_waiting < GROUP_REQUESTS && queue_receive(queue, &message))
	{
		WriterRequest head;
		Waiting      *request;

		if (message.type == WRITER_STORE && message.len >= sizeof(head))
		{
			memcpy(&head, message.payload, sizeof(head));
			request = take_store(&head, message.payload + sizeof(head), message.len - sizeof(head));
		}
		else
		{
			request = MemoryContextAllocZero(TopMemoryContext, sizeof(Waiting));
			request->check = true;
		}
		request->id = message.request_id;
		request->arrived = GetCurrentTimestamp();
		dlist_push_tail(&waiting, &request->node);
		n_waiting++;
		waiting_bytes += request->store.len;
	}
}

/*
 * Milliseconds until the requests at hand are to be stored: 0 = now, -1 =
 * there are none.
 */
static long
time_to_wait(TimestampTz now)
{
	Waiting    *first;
	TimestampTz due;
	int         interval;

	if (n_waiting == 0)
		return -1;
	interval = compaction_commit_interval(COMMIT_INTERVAL);
	due = last_commit + interval * INT64CONST(1000);
	if (n_waiting >= GROUP_REQUESTS || waiting_bytes >= GROUP_BYTES)
		return interval == COMMIT_INTERVAL ? 0 : TimestampDifferenceMilliseconds(now, due);
	first = dlist_head_element(Waiting, node, &waiting);

	/* has it been idle? */
	if (first->arrived > due)
		return 0;
	due = Max(due, first->arrived + tempo_commit_delay * INT64CONST(1000));
	return TimestampDifferenceMilliseconds(now, due);
}

static void
writer_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	(void) process_reread_settings();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
}

void
tempo_writer_main(Datum arg)
{
	writer_start(arg);
	pgstat_report_activity(STATE_IDLE, NULL);
	while (!ShutdownRequestPending)
	{
		TimestampTz now;
		long        timeout;
		int         events;

		writer_interrupts();
		receive_requests();

		/* only reading the queue tells that the receiver has gone */
		if (queue_closed(queue))
			break;
		now = GetCurrentTimestamp();
		timeout = time_to_wait(now);
		if (n_busy > 0 && TimestampDifferenceExceeds(busy_tried, now, BUSY_POLL))
		{
			run_busy(now);
			continue;
		}
		if (timeout == 0)
		{
			run_group(&waiting, &n_waiting);
			continue;
		}
		if (n_busy > 0)
			timeout = timeout < 0 ? BUSY_POLL : Min(timeout, BUSY_POLL);
		if (stat_pending && n_waiting == 0)
			timeout = timeout < 0 ? STAT_INTERVAL : Min(timeout, STAT_INTERVAL);
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout > 0 ? WL_TIMEOUT : 0),
		                   timeout, PG_WAIT_EXTENSION);
		if (stat_pending && (events & WL_TIMEOUT) && n_waiting == 0)
		{
			/* not forced, it would go by the time of the last commit */
			(void) pgstat_report_stat(true);
			stat_pending = false;
		}
		ResetLatch(MyLatch);
	}
	proc_exit(0);
}
