/*-------------------------------------------------------------------------
 *
 * health.c
 *	  grpc.health.v1.Health of a listening process.
 *
 * A process has one state for all its services.  The gateway knows it by
 * asking a query worker, which it does for every call, and from what becomes
 * of other requests; a receiver by what its writer said last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/grpc.h"
#include "lib/ilist.h"
#include "otlp_service.pb-c.h"
#include "utils/memutils.h"
#include "worker/health.h"

#define SERVICE "/grpc.health.v1.Health/"
#define SERVING 1
#define NOT_SERVING 2
#define SERVICE_UNKNOWN 3

/* A call that hears of changes. */
typedef struct Watcher
{
	dlist_node  node;
	NetRequest *net;
	int         told; /* the last status */
} Watcher;

static dlist_head watchers = DLIST_STATIC_INIT(watchers);
static bool       stopped;

static Size
encode(int status, uint8 *out)
{
	TempoPg__Otlp__HealthCheckResponse response = TEMPO_PG__OTLP__HEALTH_CHECK_RESPONSE__INIT;

	response.status = status;
	return tempo_pg__otlp__health_check_response__pack(&response, out);
}

static bool
is_name(const ProtobufCBinaryData *text, const char *name)
{
	return text->len == strlen(name) && memcmp(text->data, name, text->len) == 0;
}

static void
watcher_gone(NetRequest *net, void *arg)
{
	Watcher *watcher = arg;

	dlist_delete(&watcher->node);
	pfree(watcher);
}

/* A call that is told "status" at once. */
static void
watch(NetRequest *net, int status)
{
	Watcher *watcher;
	uint8    message[16];

	if (stopped)
	{
		net_grpc_finish(net, GRPC_STATUS_UNAVAILABLE, "the server is shutting down");
		return;
	}
	watcher = MemoryContextAllocZero(TopMemoryContext, sizeof(Watcher));
	watcher->net = net;
	watcher->told = status;
	dlist_push_tail(&watchers, &watcher->node);
	net_request_on_cancel(net, watcher_gone, watcher);
	net_grpc_send(net, message, encode(status, message));
}

HealthCall
health_read(NetRequest *net, const char *const *services)
{
	const char                        *path = net_request_path(net);
	NetText                            body = net_request_body(net);
	TempoPg__Otlp__HealthCheckRequest *request;
	HealthCall                         call;
	bool                               known;

	if (strcmp(path, SERVICE "Check") == 0)
		call = HEALTH_CHECK;
	else if (strcmp(path, SERVICE "Watch") == 0)
		call = HEALTH_WATCH;
	else
		return HEALTH_NO_CALL;

	request = tempo_pg__otlp__health_check_request__unpack(NULL, body.len, (const uint8 *) body.data);
	if (request == NULL)
	{
		net_grpc_finish(net, GRPC_STATUS_INTERNAL, "grpc: failed to unmarshal the received message");
		return HEALTH_ANSWERED;
	}
	known = request->service.len == 0;
	for (int i = 0; services[i] != NULL; i++)
		known |= is_name(&request->service, services[i]);
	tempo_pg__otlp__health_check_request__free_unpacked(request, NULL);
	if (known)
		return call;

	/* one that watches waits for the service to appear */
	if (call == HEALTH_WATCH)
		watch(net, SERVICE_UNKNOWN);
	else
		net_grpc_finish(net, 5, "unknown service");
	return HEALTH_ANSWERED;
}

void
health_answer(NetRequest *net, HealthCall call, bool serving)
{
	int   status = serving ? SERVING : NOT_SERVING;
	uint8 message[16];

	if (call == HEALTH_WATCH)
		watch(net, status);
	else
		net_respond_grpc(net, GRPC_STATUS_OK, NULL, NULL, 0, NULL, 0, message, encode(status, message));
}

void
health_learned(bool serving)
{
	int        status = serving ? SERVING : NOT_SERVING;
	uint8      message[16];
	Size       len = encode(status, message);
	dlist_iter iter;

	dlist_foreach (iter, &watchers)
	{
		Watcher *watcher = dlist_container(Watcher, node, iter.cur);

		/* who does not read is told when it does */
		if (watcher->told == status || watcher->told == SERVICE_UNKNOWN || net_grpc_pending(watcher->net) > 0)
			continue;
		watcher->told = status;
		net_grpc_send(watcher->net, message, len);
	}
}

void
health_stop(void)
{
	stopped = true;
	health_learned(false);
	while (!dlist_is_empty(&watchers))
	{
		Watcher *watcher = dlist_container(Watcher, node, dlist_pop_head_node(&watchers));

		net_grpc_finish(watcher->net, GRPC_STATUS_UNAVAILABLE, "the server is shutting down");
		pfree(watcher);
	}
}
