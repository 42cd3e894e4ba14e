/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  The query workers of the gateway, and the requests that wait for one.
 *
 * Workers are started on demand, have one request at a time, and are let go
 * when they have been idle.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/timestamp.h"
#include "worker/counts.h"
#include "worker/pool.h"
#include "worker/process.h"

#define QUEUE_SIZE (256 * 1024)
#define MAX_WAITING 2000
#define WORKER_IDLE_MS 60000 /* an idle worker is let go */
#define RETRY_MS 500         /* until a worker is started again that could not start */
#define PATIENCE_MS 30000    /* how long a worker waits for clients to read */

typedef struct Worker
{
	WorkerQueue *queue;     /* NULL = not running */
	Waiting     *request;   /* NULL = idle */
	bool         connected; /* to the database */
	TimestampTz  idle_since;
	TimestampTz  held_since; /* its answer waits for memory since then, 0 = it does not */
} Worker;

static Worker     workers[64];
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static int        n_waiting;

#define STOPPING_TEXT "the server is shutting down"

/* Why the last worker could not start, and when. */
static char        failure[1024];
static TimestampTz failed_at;

PoolNumbers
pool_numbers(void)
{
	PoolNumbers numbers = {n_waiting, 0, 0};

	for (int i = 0; i < lengthof(workers); i++)
	{
		numbers.running += workers[i].queue != NULL;
		numbers.busy += workers[i].request != NULL;
	}
	return numbers;
}

/* ---------------------------------------------------------------- workers */

static void
stop_worker(Worker *worker)
{
	queue_destroy(worker->queue);
	memset(worker, 0, sizeof(*worker));
}

/* The worker has ended by itself; what it had not answered is lost. */
static void
lose_worker(Worker *worker)
{
	Waiting *request = worker->request;
	bool     connected = worker->connected;

	gateway_counts.workers_lost++;
	stop_worker(worker);
	if (!connected)
	{
		failed_at = GetCurrentTimestamp();
		if (*failure == '\0')
			strlcpy(failure, "the query worker could not start", sizeof(failure));
		health_learned(false);
	}
	if (request == NULL)
		return;
	credentials_learned(&request->credentials, CREDENTIALS_UNKNOWN);

	/* what it died of may be the request, which is not to be repeated then */
	if (process_server_stopping())
		waiting_finish_unavailable(request, STOPPING_TEXT, "");
	else if (connected && tempo_enabled && (request->type == QUERY_RUN || request->type == QUERY_STREAM))
		waiting_finish_text(request, 500, "the query worker was terminated\nSee the server log.\n");
	else
		waiting_finish_unavailable(request, *failure ? failure : "the query worker was terminated",
		                           "See the server log.");
}

static bool
start_worker(Worker *worker)
{
	const char *reason = NULL;

	*failure = '\0';
	worker->queue = queue_launch("tempo_query_main", "tempo_pg query", "tempo_pg query", QUEUE_SIZE, &reason);
	if (worker->queue == NULL)
	{
		strlcpy(failure, reason, sizeof(failure));
		failed_at = GetCurrentTimestamp();
		return false;
	}
	worker->connected = false;
	worker->request = NULL;
	gateway_counts.workers_started++;
	return true;
}

/* A worker without a request; started if need be, NULL if there is none. */
static Worker *
idle_worker(void)
{
	Worker *unused = NULL;

	for (int i = 0; i < tempo_query_workers; i++)
	{
		if (workers[i].queue == NULL)
			unused = unused ? unused : &workers[i];
		else if (workers[i].request == NULL && queue_alive(workers[i].queue))
			return &workers[i];
	}
	if (unused == NULL ||
	    (*failure && GetCurrentTimestamp() - failed_at < RETRY_MS * INT64CONST(1000)))
		return NULL;
	return start_worker(unused) ? unused : NULL;
}

bool
pool_any_worker(bool busy)
{
	for (int i = 0; i < lengthof(workers); i++)
	{
		if (workers[i].queue && (!busy || workers[i].request))
			return true;
	}
	return false;
}

bool
pool_all_busy(void)
{
	for (int i = 0; i < tempo_query_workers; i++)
	{
		if (workers[i].queue == NULL || workers[i].request == NULL)
			return false;
	}
	return true;
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
send_request(Worker *worker, Waiting *request)
{
	StringInfoData text;

	initStringInfo(&text);
	if (request->type == QUERY_RUN || request->type == QUERY_STREAM)
	{
		appendStringInfo(&text, "+%d", tempo_authentication);
		appendStringInfoChar(&text, '\0');
		append_text(&text, net_request_method(request->net));
		append_text(&text, request->path ? request->path : net_request_path(request->net));
		append_text(&text, request->query ? request->query : net_request_query(request->net));
		append_text(&text, net_request_header(request->net, "accept", NULL));
		append_text(&text, net_request_header(request->net, "accept-encoding", NULL));
		append_text(&text, tenant_header(request->net));
		append_text(&text, net_request_header(request->net, "if-match", NULL));
		append_text(&text, request->credentials.given ? credentials_header(request->net) : NULL);
		if (request->type == QUERY_RUN)
		{
			NetText body = net_request_body(request->net);

			appendBinaryStringInfo(&text, body.data, (int) body.len);
		}
	}
	worker->request = request;
	queue_send(worker->queue, request->id, request->type, text.data, text.len);
	pfree(text.data);
}

/* Gives waiting requests to workers; turns them away if none can be had. */
static void
dispatch(void)
{
	while (!dlist_is_empty(&waiting))
	{
		Waiting *request = dlist_head_element(Waiting, node, &waiting);
		Worker  *worker = tempo_enabled ? idle_worker() : NULL;

		if (worker == NULL && tempo_enabled && pool_any_worker(false))
			break;
		dlist_delete(&request->node);
		n_waiting--;
		if (worker)
		{
			send_request(worker, request);
			continue;
		}
		health_learned(false);
		if (!tempo_enabled)
			waiting_finish_unavailable(request, "tempo_pg is turned off", "Set tempo_pg.enabled to on.");
		else
			waiting_finish_unavailable(request, failure, "See the server log.");
	}
}

/* --------------------------------------------------- messages of a worker */

int
pool_send_partials(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64       next = -1;

	for (int i = 0; i < lengthof(workers); i++)
	{
		Waiting *request = workers[i].request;

		if (request == NULL || request->partial_due == 0)
			continue;
		if (request->partial_due <= now)
			waiting_send_partial(request);
		else if (next < 0 || request->partial_due - now < next)
			next = request->partial_due - now;
	}
	return next < 0 ? -1 : (int) (next / 1000) + 1;
}

static void
worker_message(Worker *worker, const QueueMessage *message)
{
	Waiting *request = worker->request;

	if (message->type == QUERY_READY)
	{
		worker->connected = true;
		worker->idle_since = GetCurrentTimestamp();
		return;
	}
	if (message->type == QUERY_LAST_WORDS)
	{
		strlcpy(failure, message->payload, Min(sizeof(failure), message->len));
		return;
	}
	if (request == NULL || request->id != message->request_id)
		return;

	switch ((QueryMessage) message->type)
	{
		case QUERY_PARTIAL:
			waiting_add_partial(request, message);
			return;
		case QUERY_HEAD:
			waiting_read_head(request, message);
			return;
		case QUERY_BODY:
			waiting_add_body(request, message);
			return;
		case QUERY_DONE:
			credentials_learned(&request->credentials, request->rejected                                      ? CREDENTIALS_REJECTED :
			                                           request->head.status > 0 && request->head.status < 500 ? CREDENTIALS_ACCEPTED :
			                                                                                                    CREDENTIALS_UNKNOWN);
			if (request->type == QUERY_PING || request->head.status == 200)
				health_learned(true);
			if (request->type == QUERY_PING)
				waiting_finish_text(request, 200, "ready\n");
			else if (request->type == QUERY_STATISTICS)
				waiting_finish_metrics(request, request->head.status == 200);
			/* a query fails when the processes that help it are shut down before its own */
			else if (request->head.status == 500 && process_server_stopping())
				waiting_finish_unavailable(request, STOPPING_TEXT, "");
			else
				waiting_finish(request);
			break;
		case QUERY_UNAVAILABLE:
			credentials_learned(&request->credentials, CREDENTIALS_UNKNOWN);
			health_learned(false);
			waiting_finish_unavailable(request, message->payload, message->payload + strlen(message->payload) + 1);
			break;
		default:
			return;
	}
	worker->request = NULL;
	worker->idle_since = GetCurrentTimestamp();
}

/* Of the requests whose answers are being gathered, is this the first? */
static bool
is_oldest(const Waiting *request)
{
	for (int i = 0; i < lengthof(workers); i++)
	{
		const Waiting *other = workers[i].request;

		if (other && other->len > 0 && other->id < request->id)
			return false;
	}
	return true;
}

/* May the worker go on with its answer?  One that waits for others too long is given up. */
static bool
may_receive(Worker *worker)
{
	Waiting *request = worker->request;

	if (request == NULL || waiting_has_room(request, is_oldest(request)))
	{
		worker->held_since = 0;
		return true;
	}
	if (worker->held_since == 0)
		worker->held_since = GetCurrentTimestamp();
	if (GetCurrentTimestamp() - worker->held_since < (tempo_query_timeout > 0 ? tempo_query_timeout : PATIENCE_MS) * INT64CONST(1000))
		return false;

	waiting_give_up(request);
	return true;
}

static void
poll_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < lengthof(workers); i++)
	{
		Worker      *worker = &workers[i];
		QueueMessage message;

		if (worker->queue == NULL)
			continue;
		queue_flush(worker->queue);
		while (may_receive(worker) && queue_receive(worker->queue, &message))
			worker_message(worker, &message);
		if (!queue_alive(worker->queue) && may_receive(worker))
			lose_worker(worker);
		else if (worker->request == NULL &&
		         (!tempo_enabled || i >= tempo_query_workers ||
		          (worker->connected && now - worker->idle_since > WORKER_IDLE_MS * INT64CONST(1000))))
			stop_worker(worker);
	}
}

void
pool_run(void)
{
	poll_workers();
	dispatch();
}

/* --------------------------------------------------------------- requests */

static void
client_gone(NetRequest *net, void *arg)
{
	Waiting *request = arg;

	gateway_counts.cancelled++;
	waiting_drop_answer(request);
	for (int i = 0; i < lengthof(workers); i++)
	{
		if (workers[i].queue && workers[i].request == request)
		{
			/*
			 * First the message, then the signal: see read_request() in query.c.
			 * While it starts, the signal would end the worker.
			 */
			queue_send(workers[i].queue, request->id, QUERY_CANCEL, NULL, 0);
			if (workers[i].connected)
				queue_cancel(workers[i].queue);
			return;
		}
	}
	dlist_delete(&request->node);
	n_waiting--;
	waiting_free(request);
}

void
pool_add(Waiting *request)
{
	if (n_waiting >= MAX_WAITING)
	{
		waiting_finish_text(request, 429, "job queue full");
		return;
	}
	dlist_push_tail(&waiting, &request->node);
	n_waiting++;
	net_request_on_cancel(request->net, client_gone, request);
	dispatch();
}
