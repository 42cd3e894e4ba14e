/*-------------------------------------------------------------------------
 *
 * receiver.c
 *	  The processes that receive spans.
 *
 * A receiver has no database connection, so it answers whatever the state of
 * the database.  It checks what a request's headers tell, hands the body to
 * its writer (writer.c), and answers when the writer does.  A writer that has
 * gone is started again, and until then clients are asked to retry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"

#include "ingest/recent.h"
#include "ingest/statistics.h"
#include "ingest/tenant.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "net/server.h"
#include "net/udp.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/credentials.h"
#include "worker/health.h"
#include "worker/listening.h"
#include "worker/process.h"
#include "worker/protocol.h"
#include "worker/queue.h"
#include "worker/receiver.h"
#include "worker/writer.h"

#define QUEUE_SIZE (4 * 1024 * 1024)
#define MAX_HEADER (32 * 1024) /* each connection that was used has memory for it */

/* A request that the writer has not answered by then is answered without. */
#define REQUEST_TIMEOUT_MS 60000

/* Between two attempts to start the writer, or to listen. */
#define FIRST_RETRY_MS 250
#define LAST_RETRY_MS 10000

#define SHUTDOWN_MS 5000

/* Of that, or when tempo_pg is turned off, for what the writer has to be stored. */
#define LEAVING_MS 3000

/* Datagrams at the writer: their senders do not wait, so the rest is dropped. */
#define MAX_DATAGRAMS 1000

typedef struct Pending
{
	uint64            id;  /* hash key */
	NetRequest       *net; /* NULL = a datagram, which is not answered */
	Protocol          protocol;
	ReceiverTransport transport;
	Credentials       credentials;
	TimestampTz       arrived;
	dlist_node        node;
} Pending;

/*
 * How many receivers of this server listen on each port.  They share it with
 * SO_REUSEPORT, which would let another server of the same user share it too,
 * so the first one makes sure that it is free.
 */
#define MAX_LISTENERS 7
#define TRANCHE_NAME "tempo_pg_receivers"

typedef struct ReceiverShared
{
	LWLock *lock;
	int     listening[MAX_LISTENERS];
} ReceiverShared;

typedef struct Listener
{
	Protocol    protocol;
	const char *what;
	const char *name; /* in tempo_pg.tls */
	int         port;
	const char *addresses;
	bool        datagrams;
	NetServer  *server; /* or */
	NetUdp     *udp;
	bool        counted; /* in shared->listening */
	bool        told;    /* has the failure to listen been logged? */
} Listener;

extern PGDLLEXPORT void tempo_receiver_main(Datum arg);

static int                     receiver_number;
static NetLoop                *loop;
static ReceiverShared         *shared;
static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;
static Listener                listeners[MAX_LISTENERS];
static int                     n_listeners;
static HTAB                   *pending;
static dlist_head              pending_by_age = DLIST_STATIC_INIT(pending_by_age);
static int                     n_datagrams; /* of these, datagrams */
static uint64                  last_id;
static MemoryContext           request_context; /* reset after each round */

static WorkerQueue *writer;
static bool         writer_serving; /* did the last thing heard of it say that it can store? */
static int          retry_ms = FIRST_RETRY_MS;
static TimestampTz  retry_at;
static TimestampTz  leaving_since; /* 0 = it has not been asked to leave */
static TimestampTz  listen_at;
static char         unavailable[1024] = "the receiver is starting";

/* ----------------------------------------------------------- pending requests */

static Pending *
add_pending(NetRequest *net, Protocol protocol, WireFormat format)
{
	Pending *request;
	bool     found;
	uint64   id = ++last_id;

	request = hash_search(pending, &id, HASH_ENTER, &found);
	request->net = net;
	memset(&request->credentials, 0, sizeof(Credentials));
	request->protocol = protocol;
	request->transport = protocol_transport(net, format);
	request->arrived = GetCurrentTimestamp();
	dlist_push_tail(&pending_by_age, &request->node);
	if (net == NULL)
		n_datagrams++;
	return request;
}

static void
remove_pending(Pending *request)
{
	dlist_delete(&request->node);
	if (request->net == NULL)
		n_datagrams--;
	(void) hash_search(pending, &request->id, HASH_REMOVE, NULL);
}

/* The client has gone.  What the writer has is stored all the same. */
static void
client_gone(NetRequest *net, void *arg)
{
	remove_pending(arg);
}

/* What an answer tells of the credentials that came with the request. */
static CredentialsOutcome
outcome(int32 code)
{
	switch (code)
	{
		case RPC_OK:
		case RPC_INVALID_ARGUMENT:
		case RPC_PERMISSION_DENIED:
			return CREDENTIALS_ACCEPTED;
		case RPC_UNAUTHENTICATED:
			return CREDENTIALS_REJECTED;
		default:
			return CREDENTIALS_UNKNOWN;
	}
}

static void
finish(Pending *request, const WriterAnswer *answer, const char *message)
{
	TransportStatistics *statistics = statistics_transport(request->transport);
	NetRequest          *net = request->net;
	Protocol             protocol = request->protocol;

	if (statistics != NULL)
	{
		pg_atomic_fetch_add_u64(&statistics->requests, 1);
		if (answer->code == RPC_OK)
		{
			pg_atomic_fetch_add_u64(&statistics->accepted_spans, answer->spans);
			pg_atomic_fetch_add_u64(&statistics->refused_spans, answer->rejected);
		}
		else
		{
			pg_atomic_fetch_add_u64(&statistics->failed_requests, 1);
			pg_atomic_fetch_add_u64(&statistics->refused_spans, answer->spans);
		}
	}
	if (net == NULL && answer->code != RPC_OK && statistics != NULL)
		pg_atomic_fetch_add_u64(&statistics->dropped, 1);
	if (net != NULL)
		statistics_observe(HISTOGRAM_PUSH_DURATION, (uint64) Max(GetCurrentTimestamp() - request->arrived, 0));
	credentials_learned(&request->credentials, outcome(answer->code));
	remove_pending(request);
	if (net != NULL)
		protocol_answer(net, protocol, answer->code, message,
		                answer->code == RPC_OK ? answer->rejected : 0,
		                answer->retry ? tempo_retry_after : -1);
}

static void
fail(Pending *request, RpcCode code, const char *message)
{
	WriterAnswer answer;

	memset(&answer, 0, sizeof(answer));
	answer.code = code;
	answer.retry = true;
	finish(request, &answer, message);
}

static void
expire_pending(TimestampTz now)
{
	while (!dlist_is_empty(&pending_by_age))
	{
		Pending *oldest = dlist_head_element(Pending, node, &pending_by_age);

		if (!TimestampDifferenceExceeds(oldest->arrived, now, REQUEST_TIMEOUT_MS))
			return;
		fail(oldest, RPC_DEADLINE_EXCEEDED, "the spans could not be stored in time");
	}
}

static void
fail_all(const char *message)
{
	while (!dlist_is_empty(&pending_by_age))
		fail(dlist_head_element(Pending, node, &pending_by_age), RPC_UNAVAILABLE, message);
}

/* ------------------------------------------------------------ the writer */

static void
set_unavailable(const char *reason)
{
	strlcpy(unavailable, reason, sizeof(unavailable));
	writer_serving = false;
}

static void
retry_later(TimestampTz now)
{
	retry_at = TimestampTzPlusMilliseconds(now, retry_ms);
	retry_ms = Min(retry_ms * 2, LAST_RETRY_MS);
}

/* No more requests are taken, but what the writer has may still be stored. */
static bool
is_leaving(void)
{
	return !tempo_enabled || ShutdownRequestPending;
}

static void
stop_writer(const char *reason)
{
	/* nobody will hear what becomes of it, and it must not hold up the server */
	if (!dlist_is_empty(&pending_by_age))
		queue_cancel(writer);
	queue_destroy(writer);
	writer = NULL;
	set_unavailable(reason);
	fail_all(unavailable);
}

static void
start_writer(TimestampTz now)
{
	const char *reason = "unknown reason";

	writer = queue_launch("tempo_writer_main", psprintf("tempo_pg writer %d", receiver_number + 1),
	                      "tempo_pg writer", QUEUE_SIZE, &reason);
	if (writer == NULL)
	{
		set_unavailable(psprintf("the writer of tempo_pg could not be started: %s", reason));
		retry_later(now);
		return;
	}
	queue_send(writer, 0, WRITER_CHECK, NULL, 0);
}

static void
receive_answers(void)
{
	QueueMessage message;

	while (writer != NULL && queue_receive(writer, &message))
	{
		WriterAnswer answer;
		const char  *text;
		Pending     *request;

		if (message.type == WRITER_LAST_WORDS)
		{
			set_unavailable(message.payload);
			continue;
		}
		memcpy(&answer, message.payload, sizeof(answer));
		text = message.payload + sizeof(answer);
		retry_ms = FIRST_RETRY_MS;
		writer_serving = answer.code != RPC_UNAVAILABLE;
		if (!writer_serving)
			strlcpy(unavailable, text, sizeof(unavailable));
		request = hash_search(pending, &message.request_id, HASH_FIND, NULL);
		if (request != NULL)
			finish(request, &answer, text);
	}
}

/* The requests under way have a moment to be stored; clients would send the others again. */
static void
let_writer_go(TimestampTz now)
{
	const char *reason = ShutdownRequestPending ? "the server is shutting down" : "tempo_pg.enabled is off";

	if (leaving_since == 0)
		leaving_since = now;
	set_unavailable(reason);
	if (queue_alive(writer) && !dlist_is_empty(&pending_by_age) &&
	    !TimestampDifferenceExceeds(leaving_since, now, LEAVING_MS))
		return;
	receive_answers();
	stop_writer(reason);
}

static void
tend_writer(TimestampTz now)
{
	if (!is_leaving())
		leaving_since = 0;
	if (writer != NULL)
	{
		queue_flush(writer);
		receive_answers();
		if (is_leaving())
			let_writer_go(now);
		else if (!queue_alive(writer))
		{
			receive_answers();
			stop_writer(writer_serving ? "the writer of tempo_pg has ended" : pstrdup(unavailable));
			retry_later(now);
		}
	}
	else if (!tempo_enabled)
		set_unavailable("tempo_pg.enabled is off");
	else if (!ShutdownRequestPending && now >= retry_at)
		start_writer(now);
}

/* ------------------------------------------------------------- requests */

/*
 * Spares a client that waits for "100 Continue" its body.  A gRPC call is
 * answered when it is complete: some clients lose an answer that comes while
 * they are sending.
 */
static void
handle_headers(NetRequest *net, void *arg)
{
	const Listener *listener = arg;

	if (!net_request_is_grpc(net))
		(void) protocol_check(net, listener->protocol);
}

static const char *const services[] = {HEALTH_SERVICE, TRACE_SERVICE, JAEGER_SERVICE, NULL};

/* Are spans stored that come now? */
static bool
is_serving(void)
{
	return writer != NULL && writer_serving && !is_leaving();
}

/*
 * Hands a request or a datagram (net = NULL) to the writer; false if it has no
 * hash or there is no memory.  The body of a request is handed over, so that
 * it is in memory once.
 */
static bool
send_to_writer(NetRequest *net, Protocol protocol, SpanText tenant, NetText body, const Credentials *credentials)
{
	WriterRequest head;
	Pending      *request;
	const char   *authorization = credentials->given ? credentials_header(net) : "";
	Size          len = strlen(authorization);
	Size          size = sizeof(head) + tenant.len + len;
	char         *payload;
	char         *kept = NULL;

	memset(&head, 0, sizeof(head));
	head.tenant_len = tenant.len;
	head.authorization_len = len;
	head.format = protocol_format(net, protocol);
	head.authentication = tempo_authentication;
	if (!recent_hash(tenant.data, tenant.len, body.data, body.len, &head.hash))
		return false;
	if (net != NULL)
		kept = net_request_keep_body(net);
	else if ((kept = malloc(Max(body.len, 1))) == NULL)
		return false;
	else
		memcpy(kept, body.data, body.len);
	payload = MemoryContextAlloc(request_context, size);
	memcpy(payload, &head, sizeof(head));
	memcpy(payload + sizeof(head), tenant.data, tenant.len);
	memcpy(payload + sizeof(head) + tenant.len, authorization, len);
	request = add_pending(net, protocol, head.format);
	request->credentials = *credentials;
	if (net != NULL)
		net_request_on_cancel(net, client_gone, request);
	queue_send_body(writer, request->id, WRITER_STORE, payload, size, kept, body.len);
	pfree(payload);
	return true;
}

static void
handle_request(NetRequest *net, void *arg)
{
	Protocol    protocol = ((const Listener *) arg)->protocol;
	SpanText    tenant;
	Credentials credentials;
	HealthCall  health;

	if (protocol_check(net, protocol))
		return;
	if (protocol_is_health(net))
	{
		health = health_read(net, services);
		if (health != HEALTH_ANSWERED)
			health_answer(net, health, is_serving());
		return;
	}
	if (!protocol_tenant(net, protocol, &tenant))
		return;
	if (credentials_check(net, &credentials) == CREDENTIALS_TOO_MANY)
		protocol_answer(net, protocol, RPC_RATE_LIMITED, CREDENTIALS_TOO_MANY_TEXT, 0, 1);
	else if (writer == NULL || is_leaving())
		fail(add_pending(net, protocol, protocol_format(net, protocol)), RPC_UNAVAILABLE,
		     unavailable);
	/* what the writer is still to get also has the requests of clients that have gone */
	else if (queue_pending(writer) > (Size) tempo_receiver_memory * 1024)
		fail(add_pending(net, protocol, protocol_format(net, protocol)), RPC_UNAVAILABLE,
		     "too many requests are held in memory, retry later");
	else if (!send_to_writer(net, protocol, tenant, net_request_body(net), &credentials))
		protocol_answer(net, protocol, RPC_INTERNAL, "could not compute the hash of the request", 0,
		                -1);
}

/* A datagram has no header that could name a tenant or bring credentials. */
static void
handle_datagram(const void *data, size_t len, bool whole, void *arg)
{
	Protocol             protocol = ((const Listener *) arg)->protocol;
	TransportStatistics *statistics =
		statistics_transport(protocol_transport(NULL, protocol_format(NULL, protocol)));
	static const Credentials none;
	NetText                  body;

	body.data = data;
	body.len = len;
	if (whole && writer != NULL && !is_leaving() && n_datagrams < MAX_DATAGRAMS && !tempo_multitenancy && tempo_authentication == 0 &&
	    send_to_writer(NULL, protocol, span_text(DEFAULT_TENANT, strlen(DEFAULT_TENANT)), body, &none))
		return;
	if (statistics != NULL)
		pg_atomic_fetch_add_u64(&statistics->dropped, 1);
}

static void
refuse_request(NetRequest *net, int status, const char *message, void *arg)
{
	protocol_refuse(net, ((const Listener *) arg)->protocol, status, message);
}

/* ------------------------------------------------------------ the process */

static void
add_listener(Protocol protocol, const char *name, const char *what, int port, const char *addresses)
{
	Listener *listener = &listeners[n_listeners];
	bool      datagrams = protocol == PROTOCOL_JAEGER_COMPACT || protocol == PROTOCOL_JAEGER_BINARY;

	if (port == 0)
		return;
	for (int i = 0; i < n_listeners; i++)
		if (listeners[i].port == port && listeners[i].protocol == protocol)
			return;
	listener->protocol = protocol;
	listener->what = what;
	listener->name = name;
	listener->port = port;
	listener->addresses = addresses[0] != '\0' ? addresses : tempo_listen_addresses;
	listener->datagrams = datagrams;
	n_listeners++;
}

static bool
is_listening(const Listener *listener)
{
	return listener->server != NULL || listener->udp != NULL;
}

static void
stop_listening(Listener *listener)
{
	if (listener->server != NULL)
		net_server_stop(listener->server, true);
	if (listener->udp != NULL)
		net_udp_stop(listener->udp);
	listener->udp = NULL;
}

static void
receiver_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(ReceiverShared));
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

static void
receiver_shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tempo_pg receivers", sizeof(ReceiverShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(ReceiverShared));
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Listens on a port; with reuse_port others may share it. */
static bool
start_listening(Listener *listener, NetServerOptions *options, bool reuse_port, char *message,
                size_t len)
{
	options->listen_addresses = listener->addresses;
	options->port = listener->port;
	options->arg = listener;
	options->reuse_port = reuse_port;
	if (listener->datagrams)
		listener->udp = net_udp_start(loop, listener->addresses, listener->port, reuse_port,
		                              handle_datagram, listener, message, len);
	else
		listener->server = net_server_start(loop, options, message, len);
	return is_listening(listener);
}

/* The first receiver makes sure that a shared port is free. */
static bool
port_is_free(Listener *listener, NetServerOptions *options, char *message, size_t len)
{
	if (!start_listening(listener, options, false, message, len))
		return false;
	if (listener->udp != NULL)
		net_udp_stop(listener->udp);
	else
	{
		net_server_stop(listener->server, false);
		net_loop_run(loop);
		net_server_destroy(listener->server);
	}
	net_loop_run(loop);
	listener->udp = NULL;
	listener->server = NULL;
	return true;
}

static bool
listen_on_port(int number, NetServerOptions *options, char *message, size_t len)
{
	Listener *listener = &listeners[number];
	bool      share = tempo_receiver_workers > 1;
	bool      success;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	success = (!share || shared->listening[number] > 0 ||
	           port_is_free(listener, options, message, len)) &&
	          start_listening(listener, options, share, message, len);
	if (success)
		shared->listening[number]++;
	listener->counted = success;
	LWLockRelease(shared->lock);
	return success;
}

static void
receiver_exit(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n_listeners; i++)
		if (listeners[i].counted)
			shared->listening[i]--;
	LWLockRelease(shared->lock);
}

static void
listen_on_ports(TimestampTz now)
{
	NetServerOptions options;
	char             message[512];

	if (now < listen_at)
		return;
	listen_at = TimestampTzPlusMilliseconds(now, LAST_RETRY_MS);
	memset(&options, 0, sizeof(options));
	options.http1 = true;
	options.http2 = true;
	options.max_header = MAX_HEADER;
	options.max_body = (size_t) tempo_otlp_max_message_bytes;
	options.max_buffered = (size_t) tempo_receiver_memory * 1024;
	options.handler = handle_request;
	options.check = handle_headers;
	options.refuse = refuse_request;
	for (int i = 0; i < n_listeners; i++)
	{
		Listener *listener = &listeners[i];

		if (is_listening(listener))
			continue;
		if ((listener->datagrams || listening_options(&options, listener->name, message, sizeof(message))) &&
		    listen_on_port(i, &options, message, sizeof(message)))
			ereport(receiver_number == 0 ? LOG : DEBUG1,
			        (errmsg("receiving %s on port %d", listener->what, listener->port)));
		else if (!listener->told)
		{
			ereport(WARNING,
			        (errcode(ERRCODE_CONNECTION_FAILURE),
			         errmsg("could not listen for %s: %s", listener->what, message)));
			listener->told = true;
		}
	}
}

/* The settings have been read again. */
static void
apply_settings(void)
{
	listen_at = 0;
	for (int i = 0; i < n_listeners; i++)
	{
		listeners[i].told = false;
		if (listeners[i].server != NULL)
			listening_apply(listeners[i].server, listeners[i].name);
	}
}

static void
receiver_start(Datum arg)
{
	HASHCTL control;

	receiver_number = DatumGetInt32(arg);
	process_begin("receiving spans");
	request_context = AllocSetContextCreate(TopMemoryContext, "tempo_pg receiver", ALLOCSET_DEFAULT_SIZES);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(uint64);
	control.entrysize = sizeof(Pending);
	pending = hash_create("tempo_pg pending requests", 256, &control, HASH_ELEM | HASH_BLOBS);
	add_listener(PROTOCOL_OTLP, "otlp_grpc", "OTLP over gRPC", tempo_otlp_grpc_port,
	             tempo_otlp_grpc_listen_addresses);
	add_listener(PROTOCOL_OTLP, "otlp_http", "OTLP over HTTP", tempo_otlp_http_port,
	             tempo_otlp_http_listen_addresses);
	add_listener(PROTOCOL_ZIPKIN, "zipkin", "Zipkin over HTTP", tempo_zipkin_port,
	             tempo_zipkin_listen_addresses);
	add_listener(PROTOCOL_JAEGER, "jaeger_grpc", "Jaeger over gRPC", tempo_jaeger_grpc_port,
	             tempo_jaeger_grpc_listen_addresses);
	add_listener(PROTOCOL_JAEGER, "jaeger_http", "Jaeger over HTTP", tempo_jaeger_http_port,
	             tempo_jaeger_http_listen_addresses);
	add_listener(PROTOCOL_JAEGER_COMPACT, "jaeger_compact", "Jaeger over UDP (compact)", tempo_jaeger_compact_port,
	             tempo_jaeger_compact_listen_addresses);
	add_listener(PROTOCOL_JAEGER_BINARY, "jaeger_binary", "Jaeger over UDP (binary)", tempo_jaeger_binary_port,
	             tempo_jaeger_binary_listen_addresses);
	listening_reserve(n_listeners);
	before_shmem_exit(receiver_exit, (Datum) 0);
	loop = net_loop_create();
	if (loop == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not create an event loop")));
}

/* Lets requests in flight finish, but not for long. */
static bool
shut_down(TimestampTz now)
{
	static TimestampTz since;
	bool               idle = true;

	if (since == 0)
	{
		since = now;
		health_stop();
		for (int i = 0; i < n_listeners; i++)
			stop_listening(&listeners[i]);
	}
	for (int i = 0; i < n_listeners; i++)
		if (listeners[i].server != NULL && !net_server_idle(listeners[i].server))
			idle = false;
	return idle || TimestampDifferenceExceeds(since, now, SHUTDOWN_MS);
}

/* Milliseconds to wait at most. */
static long
round_timeout(TimestampTz now)
{
	long timeout = net_loop_timeout(loop);
	long limit = 1000;

	if (ShutdownRequestPending)
		limit = 50;
	else if (writer == NULL && tempo_enabled)
		limit = Min(limit, TimestampDifferenceMilliseconds(now, retry_at) + 1);
	return timeout < 0 ? limit : Min(timeout, limit);
}

void
tempo_receiver_main(Datum arg)
{
	WaitEventSet *set;

	receiver_start(arg);
	MemoryContextSwitchTo(request_context);
	set = tempo_create_wait_event_set(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, net_loop_fd(loop), NULL, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		WaitEvent   events[3];

		process_interrupts();
		if (listening_reread())
			apply_settings();
		if (!ShutdownRequestPending)
			listen_on_ports(now);
		net_loop_run(loop);
		tend_writer(now);
		expire_pending(now);
		health_learned(is_serving());

		/* answers are written by the loop */
		net_loop_run(loop);
		if (ShutdownRequestPending && shut_down(now))
			break;
		MemoryContextReset(request_context);
		(void) WaitEventSetWait(set, round_timeout(now), events, lengthof(events), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}

	/* anything but 0, so that one that was terminated by hand comes back */
	proc_exit(1);
}

void
receiver_init(void)
{
	if (tempo_receiver_workers == 0 ||
	    (tempo_otlp_grpc_port == 0 && tempo_otlp_http_port == 0 && tempo_zipkin_port == 0 &&
	     tempo_jaeger_grpc_port == 0 && tempo_jaeger_http_port == 0 &&
	     tempo_jaeger_compact_port == 0 && tempo_jaeger_binary_port == 0))
		return;
	process_add_worker("tempo_pg receiver", "tempo_receiver_main", tempo_receiver_workers, 1);
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = receiver_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = receiver_shmem_startup;
}
