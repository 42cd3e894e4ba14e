/*-------------------------------------------------------------------------
 *
 * gateway.c
 *	  The process that serves the Tempo API.
 *
 * It has no database connection and never runs a query, so that health,
 * statistics and slow clients are served whatever the database does.  What
 * takes the database waits in a list for one of the query workers, which are
 * started on demand and let go when they have been idle.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/api.h"
#include "api/grpc.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "net/server.h"
#include "portability/instr_time.h"
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
#include "worker/cors.h"
#include "worker/credentials.h"
#include "worker/health.h"
#include "worker/ingest_metrics.h"
#include "worker/listening.h"
#include "worker/process.h"
#include "worker/query.h"
#include "worker/queue.h"
#include "worker/reflection.h"

extern PGDLLEXPORT void tempo_gateway_main(Datum arg);

#define QUEUE_SIZE (256 * 1024)
#define MAX_WAITING 2000
#define MAX_BODY (1024 * 1024)
#define MAX_BUFFERED (64 * 1024 * 1024)
#define WORKER_IDLE_MS 60000	/* an idle worker is let go */
#define RETRY_MS 500			/* until a worker is started again that could not start */
#define SHUTDOWN_MS 5000
#define MAX_UNSENT (4 * 1024 * 1024)	/* of a stream; its worker waits then */
#define SMALL_ANSWER (64 * 1024)	/* is never kept waiting */
#define PATIENCE_MS 30000		/* how long a worker waits for clients to read */

/* A request that takes the database. */
typedef struct Waiting
{
	dlist_node	node;			/* in "waiting", while no worker has it */
	NetRequest *net;			/* NULL once the client has gone */
	uint64		id;
	QueryMessage type;			/* QUERY_RUN, QUERY_PING for /ready, QUERY_STATISTICS for /metrics */
	TimestampTz arrived;

	/* QUERY_STREAM: the endpoint that it comes down to */
	char	   *path;
	char	   *query;

	Credentials credentials;
	bool		rejected;		/* by the worker: they prove no role */
	HealthCall	health;			/* QUERY_PING for gRPC's health service */

	/* the answer so far; the texts of its head are in head_texts */
	ApiResponse head;
	char	   *head_texts;
	char	   *body;			/* or messages of QUERY_PARTIAL, each behind its length */
	Size		len;
	Size		room;
	TimestampTz partial_sent;	/* the last of those */
	TimestampTz partial_due;	/* when those are sent, unless the answer is complete by then; 0 = there are none */
} Waiting;

typedef struct Worker
{
	WorkerQueue *queue;			/* NULL = not running */
	Waiting    *request;		/* NULL = idle */
	bool		connected;		/* to the database */
	TimestampTz idle_since;
	TimestampTz held_since;		/* its answer waits for memory since then, 0 = it does not */
} Worker;

static NetLoop *loop;
static NetServer *server;
static Worker workers[64];
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static int	n_waiting;
static uint64 last_id;
static Size gathered;			/* bytes of answers that are not whole yet */
static int	tempo_gateway_memory = 256 * 1024;	/* kB */
static int	tempo_stream_interval = 500;	/* ms */

/* Why the last worker could not start, and when. */
static char failure[1024];
static TimestampTz failed_at;

/* ------------------------------------------------------------ statistics */

typedef struct EndpointCount
{
	char		endpoint[16];
	int			status;
	uint64		requests;
	double		seconds;
} EndpointCount;

static EndpointCount counts[128];
static int	n_counts;
static uint64 workers_started;
static uint64 workers_lost;
static uint64 cancelled;
static uint64 given_up;

static void
count_request(const char *endpoint, int status, TimestampTz arrived)
{
	EndpointCount *count = NULL;

	for (int i = 0; i < n_counts && count == NULL; i++)
	{
		if (counts[i].status == status && strcmp(counts[i].endpoint, endpoint) == 0)
			count = &counts[i];
	}
	if (count == NULL)
	{
		if (n_counts == lengthof(counts))
			return;
		count = &counts[n_counts++];
		strlcpy(count->endpoint, endpoint, sizeof(count->endpoint));
		count->status = status;
	}
	count->requests++;
	count->seconds += (GetCurrentTimestamp() - arrived) / 1e6;
}

static void
write_counter(ApiBody *body, const char *name, const char *type, const char *help, double value)
{
	body_printf(body, "# HELP tempo_pg_%s %s\n# TYPE tempo_pg_%s %s\ntempo_pg_%s %.17g\n",
				name, help, name, type, name, value);
}

static void
write_metrics(ApiBody *body)
{
	NetStatistics net = net_server_statistics(server);
	int			running = 0;
	int			busy = 0;

	for (int i = 0; i < lengthof(workers); i++)
	{
		running += workers[i].queue != NULL;
		busy += workers[i].request != NULL;
	}

	body_text(body, "# HELP tempo_pg_requests_total Requests to the Tempo API by endpoint and status.\n"
			  "# TYPE tempo_pg_requests_total counter\n");
	for (int i = 0; i < n_counts; i++)
		body_printf(body, "tempo_pg_requests_total{endpoint=\"%s\",status=\"%d\"} " UINT64_FORMAT "\n",
					counts[i].endpoint, counts[i].status, counts[i].requests);
	body_text(body, "# HELP tempo_pg_request_seconds_total Time from the arrival of a request to its answer.\n"
			  "# TYPE tempo_pg_request_seconds_total counter\n");
	for (int i = 0; i < n_counts; i++)
		body_printf(body, "tempo_pg_request_seconds_total{endpoint=\"%s\",status=\"%d\"} %.6f\n",
					counts[i].endpoint, counts[i].status, counts[i].seconds);

	write_counter(body, "requests_cancelled_total", "counter", "Requests whose client went away before the answer.", cancelled);
	write_counter(body, "requests_waiting", "gauge", "Requests that wait for a query worker.", n_waiting);
	write_counter(body, "query_workers_running", "gauge", "Query workers that exist.", running);
	write_counter(body, "query_workers_busy", "gauge", "Query workers that run a request.", busy);
	write_counter(body, "query_workers_started_total", "counter", "Query workers started.", workers_started);
	write_counter(body, "query_workers_lost_total", "counter", "Query workers that ended by themselves.", workers_lost);
	write_counter(body, "gateway_connections", "gauge", "Open connections of the Tempo API.", net.connections);
	write_counter(body, "gateway_connections_total", "counter", "Connections accepted by the Tempo API.", net.accepted);
	write_counter(body, "gateway_answer_bytes", "gauge", "Bytes of answers held until they have been read.", gathered + net.unsent);
	write_counter(body, "gateway_unread_total", "counter", "Answers given up because too many others had not been read.", given_up);
	write_counter(body, "gateway_tls_failures_total", "counter", "TLS handshakes of the Tempo API that failed.", net.tls_failures);
	write_counter(body, "gateway_refused_total", "counter", "Requests refused as malformed, too large or too many.", net.refused);
	write_ingest_metrics(body);
}

/* --------------------------------------------------------------- answers */

/* Do answers that have not been read take all the memory there is for them? */
static bool
memory_is_full(void)
{
	return net_server_statistics(server).unsent + gathered >= (Size) tempo_gateway_memory * 1024;
}

static void
free_request(Waiting *request)
{
	if (request->path)
		pfree(request->path);
	if (request->query)
		pfree(request->query);
	if (request->head_texts)
		pfree(request->head_texts);
	if (request->body)
		pfree(request->body);
	gathered -= request->room;
	pfree(request);
}

static void
respond(NetRequest *net, const ApiResponse *head, const void *body, Size len)
{
	NetHeader	headers[6];
	int			n = 0;

	if (head->nosniff)
		headers[n++] = (NetHeader) {"x-content-type-options", "nosniff"};
	if (head->vary)
		headers[n++] = (NetHeader) {"vary", "Accept-Encoding"};
	if (head->location)
		headers[n++] = (NetHeader) {"location", head->location};
	if (head->etag)
		headers[n++] = (NetHeader) {"etag", head->etag};
	if (head->allow)
		headers[n++] = (NetHeader) {"allow", head->allow};
	if (head->session)
		headers[n++] = (NetHeader) {"mcp-session-id", head->session};
	net_respond(net, head->status, head->content_type, headers, n, body, len);
}

static void
respond_text(NetRequest *net, int status, const char *text)
{
	ApiResponse head = {0};

	head.status = status;
	head.content_type = "text/plain; charset=utf-8";
	respond(net, &head, text, strlen(text));
}

/* Ends a stream; an error has its message in "text". */
static void
respond_grpc(NetRequest *net, int http_status, const char *text, Size len)
{
	char	   *message;

	while (len > 0 && text[len - 1] == '\n')
		len--;
	message = pnstrdup(text, Min(len, 4096));
	net_grpc_finish(net, api_grpc_status(http_status), http_status == 200 ? NULL : message);
	pfree(message);
}

static const char *
endpoint_of(const Waiting *request)
{
	if (request->head.endpoint)
		return request->head.endpoint;
	return request->type == QUERY_PING ? "ready" : "other";
}

/* Sends what has been gathered, if there is still somebody to read it. */
static void
finish(Waiting *request)
{
	if (request->net)
	{
		count_request(endpoint_of(request), request->head.status, request->arrived);
		if (request->type == QUERY_STREAM && request->rejected)
			net_grpc_finish(request->net, GRPC_STATUS_UNAUTHENTICATED, CREDENTIALS_REJECTED_TEXT);
		else if (request->type == QUERY_STREAM)
			respond_grpc(request->net, request->head.status, request->body ? request->body : "", request->len);
		else
			respond(request->net, &request->head, request->body ? request->body : "", request->len);
	}
	free_request(request);
}

static void
answer_here(NetRequest *net, ApiResponse *response, TimestampTz arrived)
{
	StringInfoData body;
	const char *data;
	Size		len;

	initStringInfo(&body);
	while (api_next(response, &data, &len))
		appendBinaryStringInfo(&body, data, (int) len);
	/* nobody has to wait for these, so nothing else bounds how many there are */
	if (body.len > SMALL_ANSWER && memory_is_full())
	{
		given_up++;
		count_request(response->endpoint, 503, arrived);
		respond_text(net, 503, "too many answers have not been read yet");
		return;
	}
	count_request(response->endpoint, response->status, arrived);
	if (net_request_is_grpc(net))
		respond_grpc(net, response->status, body.data, body.len);
	else
		respond(net, response, body.data, body.len);
}

/* Our own statistics, and what the worker told of what is stored. */
static void
finish_metrics(Waiting *request, bool up)
{
	if (request->net)
	{
		MemoryContext context = AllocSetContextCreate(TopMemoryContext, "tempo_pg metrics", ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);
		ApiRequest	local = {.method = "GET", .path = "/metrics", .query = ""};
		ApiResponse *response = api_begin_local(&local);

		write_counter(response->body, "up", "gauge", "Whether the API can answer queries.", up);
		if (up)
			body_append(response->body, request->body ? request->body : "", request->len);
		answer_here(request->net, response, request->arrived);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	free_request(request);
}

static void
finish_text(Waiting *request, int status, const char *text)
{
	if (request->type == QUERY_STATISTICS)
	{
		finish_metrics(request, false);
		return;
	}
	if (request->net)
	{
		count_request(endpoint_of(request), status, request->arrived);
		if (request->health)
			health_answer(request->net, request->health, status == 200);
		else if (request->type == QUERY_STREAM)
			respond_grpc(request->net, status, text, strlen(text));
		else
			respond_text(request->net, status, text);
	}
	free_request(request);
}

static void
finish_unavailable(Waiting *request, const char *reason, const char *hint)
{
	char	   *text = psprintf("%s\n%s%s", reason, hint, *hint ? "\n" : "");

	finish_text(request, 503, text);
	pfree(text);
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
	Waiting    *request = worker->request;
	bool		connected = worker->connected;

	workers_lost++;
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
	if (connected && !ShutdownRequestPending && tempo_enabled && (request->type == QUERY_RUN || request->type == QUERY_STREAM))
		finish_text(request, 500, "the query worker was terminated\nSee the server log.\n");
	else
		finish_unavailable(request, *failure ? failure : "the query worker was terminated",
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
	workers_started++;
	return true;
}

/* A worker without a request; started if need be, NULL if there is none. */
static Worker *
idle_worker(void)
{
	Worker	   *unused = NULL;

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

static bool
any_worker(bool busy)
{
	for (int i = 0; i < lengthof(workers); i++)
	{
		if (workers[i].queue && (!busy || workers[i].request))
			return true;
	}
	return false;
}

/* Would a further request have to wait? */
static bool
all_busy(void)
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
		append_text(&text, net_request_header(request->net, "x-scope-orgid", NULL));
		append_text(&text, net_request_header(request->net, "if-match", NULL));
		append_text(&text, request->credentials.given ? credentials_header(request->net) : NULL);
		if (request->type == QUERY_RUN)
		{
			NetText		body = net_request_body(request->net);

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
		Waiting    *request = dlist_head_element(Waiting, node, &waiting);
		Worker	   *worker = tempo_enabled ? idle_worker() : NULL;

		if (worker == NULL && tempo_enabled && any_worker(false))
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
			finish_unavailable(request, "tempo_pg is turned off", "Set tempo_pg.enabled to on.");
		else
			finish_unavailable(request, failure, "See the server log.");
	}
}

/* --------------------------------------------------- messages of a worker */

static const char *
read_text(const char **p, const char *end)
{
	const char *text = *p;
	Size		len = strnlen(text, end - text);

	*p = Min(text + len + 1, end);
	return len > 0 && *text == '+' ? text + 1 : NULL;
}

static void
read_head(Waiting *request, const QueueMessage *message)
{
	QueryHead	head;
	const char *p;
	const char *end;

	if (request->head_texts)
		pfree(request->head_texts);
	request->head_texts = MemoryContextAlloc(TopMemoryContext, message->len);
	memcpy(request->head_texts, message->payload, message->len);
	p = request->head_texts + sizeof(QueryHead);
	end = request->head_texts + message->len;

	memcpy(&head, message->payload, sizeof(QueryHead));
	request->rejected = head.rejected;
	request->head.status = head.status;
	request->head.nosniff = head.nosniff;
	request->head.vary = head.vary;
	request->head.content_type = read_text(&p, end);
	request->head.location = read_text(&p, end);
	request->head.endpoint = read_text(&p, end);
	request->head.etag = read_text(&p, end);
	request->head.allow = read_text(&p, end);
	request->head.session = read_text(&p, end);
}

/* What the worker has yet to say of it is not wanted. */
static void
drop_answer(Waiting *request)
{
	request->net = NULL;
	gathered -= request->room;
	if (request->body)
		pfree(request->body);
	request->body = NULL;
	request->len = request->room = 0;
	request->partial_due = 0;
}

static void
gather(Waiting *request, const void *data, Size len)
{
	if (request->room - request->len < len)
	{
		gathered -= request->room;
		request->room = Max(request->room * 2, request->len + len);
		gathered += request->room;
		request->body = request->body ? repalloc_huge(request->body, request->room) :
			MemoryContextAllocHuge(TopMemoryContext, request->room);
	}
	memcpy(request->body + request->len, data, len);
	request->len += len;
}

static void
add_body(Waiting *request, const QueueMessage *message)
{
	if (request->net == NULL)
		return;
	if (request->type == QUERY_STREAM && request->head.status == 200)
		net_grpc_send(request->net, message->payload, message->len);
	else
		gather(request, message->payload, message->len);
}

/* The complete answer has all of it, and so it may be left out for a client that does not read. */
static void
drop_partial(Waiting *request)
{
	if (request->partial_due != 0)
		request->len = 0;
	request->partial_due = 0;
}

static void
send_partial(Waiting *request)
{
	const char *p = request->body;
	const char *end = request->body + request->len;

	while (request->net && p < end && net_grpc_pending(request->net) < MAX_UNSENT)
	{
		Size		len;

		memcpy(&len, p, sizeof(len));
		net_grpc_send(request->net, p + sizeof(len), len);
		p += sizeof(len) + len;
	}
	drop_partial(request);
	request->partial_sent = GetCurrentTimestamp();
}

/*
 * What a query has found so far waits a while: most are complete by then, and
 * their streams have the complete answer only.
 */
static void
add_partial(Waiting *request, const QueueMessage *message)
{
	Size		len = message->len;

	if (request->net == NULL)
		return;
	if (request->partial_due == 0)
		request->partial_due = Max(request->arrived, request->partial_sent) + tempo_stream_interval * INT64CONST(1000);
	gather(request, &len, sizeof(len));
	gather(request, message->payload, len);
	if (request->partial_due <= GetCurrentTimestamp())
		send_partial(request);
}

/* Sends what is due; returns the milliseconds until something else is, -1 = nothing. */
static int
send_partials(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		next = -1;

	for (int i = 0; i < lengthof(workers); i++)
	{
		Waiting    *request = workers[i].request;

		if (request == NULL || request->partial_due == 0)
			continue;
		if (request->partial_due <= now)
			send_partial(request);
		else if (next < 0 || request->partial_due - now < next)
			next = request->partial_due - now;
	}
	return next < 0 ? -1 : (int) (next / 1000) + 1;
}

static void
worker_message(Worker *worker, const QueueMessage *message)
{
	Waiting    *request = worker->request;

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
			add_partial(request, message);
			return;
		case QUERY_HEAD:
			drop_partial(request);
			read_head(request, message);
			return;
		case QUERY_BODY:
			add_body(request, message);
			return;
		case QUERY_DONE:
			credentials_learned(&request->credentials, request->rejected ? CREDENTIALS_REJECTED :
								request->head.status > 0 && request->head.status < 500 ? CREDENTIALS_ACCEPTED :
								CREDENTIALS_UNKNOWN);
			if (request->type == QUERY_PING || request->head.status == 200)
				health_learned(true);
			if (request->type == QUERY_PING)
				finish_text(request, 200, "ready\n");
			else if (request->type == QUERY_STATISTICS)
				finish_metrics(request, request->head.status == 200);
			else
				finish(request);
			break;
		case QUERY_UNAVAILABLE:
			credentials_learned(&request->credentials, CREDENTIALS_UNKNOWN);
			health_learned(false);
			finish_unavailable(request, message->payload, message->payload + strlen(message->payload) + 1);
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

/*
 * Is there memory for more of an answer?  When it runs out, one answer after
 * the other is completed, as long as clients read what they got; of what they
 * do not read there is never more than half.
 */
static bool
has_room(const Waiting *request)
{
	Size		limit = (Size) tempo_gateway_memory * 1024;
	Size		unsent = net_server_statistics(server).unsent;

	if (request == NULL || request->net == NULL)
		return true;
	if (request->type == QUERY_STREAM && request->head.status == 200)
		return net_grpc_pending(request->net) == 0 ||
			(net_grpc_pending(request->net) < MAX_UNSENT && unsent + gathered < limit);
	return request->len < SMALL_ANSWER || unsent + gathered < limit || (unsent < limit / 2 && is_oldest(request));
}

/* May the worker go on with its answer?  One that waits for others too long is given up. */
static bool
may_receive(Worker *worker)
{
	Waiting    *request = worker->request;

	if (has_room(request))
	{
		worker->held_since = 0;
		return true;
	}
	if (worker->held_since == 0)
		worker->held_since = GetCurrentTimestamp();
	if (GetCurrentTimestamp() - worker->held_since < (tempo_query_timeout > 0 ? tempo_query_timeout : PATIENCE_MS) * INT64CONST(1000))
		return false;

	given_up++;
	count_request(endpoint_of(request), 503, request->arrived);
	if (request->type == QUERY_STREAM)
		net_grpc_finish(request->net, GRPC_STATUS_UNAVAILABLE, "too many answers have not been read yet");
	else
		respond_text(request->net, 503, "too many answers have not been read yet");
	drop_answer(request);
	return true;
}

static void
poll_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < lengthof(workers); i++)
	{
		Worker	   *worker = &workers[i];
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

/* --------------------------------------------------------------- requests */

static void
client_gone(NetRequest *net, void *arg)
{
	Waiting    *request = arg;

	cancelled++;
	drop_answer(request);
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
	free_request(request);
}

static Waiting *
create_request(NetRequest *net, QueryMessage type)
{
	Waiting    *request = MemoryContextAllocZero(TopMemoryContext, sizeof(Waiting));

	request->net = net;
	request->id = ++last_id;
	request->type = type;
	request->arrived = GetCurrentTimestamp();
	return request;
}

static void
enqueue(Waiting *request)
{
	if (n_waiting >= MAX_WAITING)
	{
		finish_text(request, 429, "job queue full");
		return;
	}
	dlist_push_tail(&waiting, &request->node);
	n_waiting++;
	net_request_on_cancel(request->net, client_gone, request);
	dispatch();
}

/*
 * Is there something to verify, or nothing to be verified?  Otherwise the
 * request has been answered.
 */
static bool
has_credentials(NetRequest *net, Credentials *credentials)
{
	int			status = 401;
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
		NetHeader	wait = {"retry-after", "1"};

		net_respond(net, status, "text/plain; charset=utf-8", &wait, status == 429, text, strlen(text));
	}
	return false;
}

static const char *const services[] = {
	"tempopb.StreamingQuerier", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection", NULL
};

/* A call: what it comes down to is answered here or by a worker. */
static void
handle_grpc(NetRequest *net)
{
	TimestampTz arrived = GetCurrentTimestamp();
	HealthCall	health = health_read(net, services);
	NetText		body;
	ApiRequest	request;
	ApiResponse *response;
	Waiting    *waiting;
	int			status;
	int			tenants;
	char	   *error;
	Credentials credentials;

	if (health == HEALTH_ANSWERED || reflection_ends(net))
		return;
	if (health != HEALTH_NO_CALL)
	{
		if (tempo_enabled && any_worker(true))
			health_answer(net, health, true);
		else
		{
			waiting = create_request(net, QUERY_PING);
			waiting->health = health;
			enqueue(waiting);
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
	request.tenant = net_request_header(net, "x-scope-orgid", &tenants);
	if (tenants != 1)
		request.tenant = NULL;
	response = credentials.given ? NULL : api_begin_local(&request);
	if (response)
	{
		answer_here(net, response, arrived);
		return;
	}
	waiting = create_request(net, QUERY_STREAM);
	waiting->credentials = credentials;
	waiting->path = MemoryContextStrdup(TopMemoryContext, request.path);
	waiting->query = MemoryContextStrdup(TopMemoryContext, request.query);
	enqueue(waiting);
}

/*
 * Ready is who can answer queries.  While a worker runs one there is no doubt,
 * otherwise one is asked.  Statistics have what only a worker knows as long as
 * it does not keep them waiting.
 */
static void
handle_http(NetRequest *net)
{
	ApiRequest	request = {0};
	ApiResponse *response;
	Waiting    *waiting;
	Credentials credentials;
	bool		is_open;

	if (cors_preflight(net, "GET, HEAD, POST, PATCH, DELETE"))
		return;
	request.method = net_request_method(net);
	request.path = net_request_path(net);
	request.query = net_request_query(net);
	request.accept = net_request_header(net, "accept", NULL);
	request.tenant = net_request_header(net, "x-scope-orgid", NULL);
	request.if_match = net_request_header(net, "if-match", NULL);
	response = api_begin_local(&request);
	is_open = response && (strcmp(response->endpoint, "ready") == 0 || strcmp(response->endpoint, "metrics") == 0);
	memset(&credentials, 0, sizeof(credentials));
	if (!is_open && !has_credentials(net, &credentials))
		return;
	/* who it is must be known before anything else is said */
	if (response == NULL || credentials.given)
	{
		waiting = create_request(net, QUERY_RUN);
		waiting->credentials = credentials;
		enqueue(waiting);
	}
	else if (strcmp(response->endpoint, "ready") == 0 && !(tempo_enabled && any_worker(true)))
		enqueue(create_request(net, QUERY_PING));
	else if (strcmp(response->endpoint, "metrics") == 0 && !all_busy())
		enqueue(create_request(net, QUERY_STATISTICS));
	else
		answer_here(net, response, GetCurrentTimestamp());
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
		(void) reflection_check(net, memory_is_full);
}

static bool
start_server(void)
{
	NetServerOptions options = {0};
	char		message[512];

	listening_reserve(1);
	options.listen_addresses = tempo_listen_addresses;
	options.port = tempo_http_port;
	options.http1 = true;
	options.http2 = true;
	options.max_body = MAX_BODY;
	options.max_buffered = MAX_BUFFERED;
	options.check = check_request;
	options.handler = handle_request;
	if (!listening_options(&options, "api", message, sizeof(message)))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not serve the Tempo API over TLS: %s", message)));
	server = net_server_start(loop, &options, message, sizeof(message));
	if (server == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not serve the Tempo API: %s", message),
				 errhint("Is another process using the port?  Change tempo_pg.http_port, or tempo_pg.listen_addresses.")));
	return true;
}

static void
run_once(void)
{
	int			timeout;
	int			partial;

	process_interrupts();
	if (listening_reread())
		listening_apply(server, "api");
	poll_workers();
	dispatch();
	net_loop_run(loop);
	/* answers and new requests may have come of it */
	poll_workers();
	dispatch();

	partial = send_partials();
	timeout = net_loop_timeout(loop);
	if (partial >= 0 && (timeout < 0 || timeout > partial))
		timeout = partial;
	/* idle workers are looked at once a second */
	if (any_worker(false) && (timeout < 0 || timeout > 1000))
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
	start_server();
	api_hooks.metrics = write_metrics;
	ereport(LOG, (errmsg("serving the Tempo API on port %d", tempo_http_port)));

	while (!ShutdownRequestPending)
		run_once();

	/* What is being answered may finish, but not hold up the server. */
	health_stop();
	net_server_stop(server, true);
	stopping = GetCurrentTimestamp();
	while (!net_server_idle(server) &&
		   (any_worker(true) || net_server_statistics(server).unsent > 0) &&
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
