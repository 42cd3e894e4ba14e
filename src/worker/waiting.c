/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  A request of the Tempo API that waits for its answer.
 *
 * Answers come in pieces.  They are gathered, and sent when they are whole,
 * except for those of streams; what is held of all of them until clients have
 * read it is bounded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/grpc.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/counts.h"
#include "worker/waiting.h"

#define MAX_UNSENT (4 * 1024 * 1024) /* of a stream; its worker waits then */
#define SMALL_ANSWER (64 * 1024)     /* is never kept waiting */
#define UNREAD_TEXT "too many answers have not been read yet"

int tempo_gateway_memory = 256 * 1024;
int tempo_stream_interval = 500;

static const NetServer *server;
static uint64           last_id;
static Size             gathered; /* bytes of answers that are not whole yet */

void
waiting_init(const NetServer *net_server)
{
	server = net_server;
}

const char *
tenant_header(const NetRequest *request)
{
	int         count;
	const char *tenant = net_request_header(request, "x-scope-orgid", &count);

	return count == 1 ? tenant : NULL;
}

Waiting *
waiting_create(NetRequest *net, QueryMessage type)
{
	Waiting *request = MemoryContextAllocZero(TopMemoryContext, sizeof(Waiting));

	request->net = net;
	request->id = ++last_id;
	request->type = type;
	request->arrived = GetCurrentTimestamp();
	return request;
}

void
waiting_free(Waiting *request)
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

/* ----------------------------------------------------------------- memory */

Size
waiting_gathered(void)
{
	return gathered;
}

bool
waiting_memory_is_full(void)
{
	return net_server_statistics(server).unsent + gathered >= (Size) tempo_gateway_memory * 1024;
}

/*
 * When memory runs out, one answer after the other is completed, as long as
 * clients read what they got; of what they do not read there is never more
 * than half.
 */
bool
waiting_has_room(const Waiting *request, bool oldest)
{
	Size limit = (Size) tempo_gateway_memory * 1024;
	Size unsent = net_server_statistics(server).unsent;

	if (request->net == NULL)
		return true;
	if (request->type == QUERY_STREAM && request->head.status == 200)
		return net_grpc_pending(request->net) == 0 ||
		       (net_grpc_pending(request->net) < MAX_UNSENT && unsent + gathered < limit);
	return request->len < SMALL_ANSWER || unsent + gathered < limit || (unsent < limit / 2 && oldest);
}

void
waiting_drop_answer(Waiting *request)
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

/* --------------------------------------------------------------- answers */

static void
respond(NetRequest *net, const ApiResponse *head, const void *body, Size len)
{
	NetHeader headers[7];
	int       n = 0;

	if (head->nosniff)
		headers[n++] = (NetHeader){"x-content-type-options", "nosniff"};
	if (head->vary)
		headers[n++] = (NetHeader){"vary", "Accept-Encoding"};
	if (head->gzip)
		headers[n++] = (NetHeader){"content-encoding", "gzip"};
	if (head->location)
		headers[n++] = (NetHeader){"location", head->location};
	if (head->etag)
		headers[n++] = (NetHeader){"etag", head->etag};
	if (head->allow)
		headers[n++] = (NetHeader){"allow", head->allow};
	if (head->session)
		headers[n++] = (NetHeader){"mcp-session-id", head->session};
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
	char *message;

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
void
waiting_finish(Waiting *request)
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
	waiting_free(request);
}

void
answer_at_once(NetRequest *net, ApiResponse *response, TimestampTz arrived)
{
	StringInfoData body;
	const char    *data;
	Size           len;

	initStringInfo(&body);
	while (api_next(response, &data, &len))
		appendBinaryStringInfo(&body, data, (int) len);
	/* nobody has to wait for these, so nothing else bounds how many there are */
	if (body.len > SMALL_ANSWER && waiting_memory_is_full())
	{
		gateway_counts.given_up++;
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

void
waiting_finish_metrics(Waiting *request, bool up)
{
	if (request->net)
	{
		MemoryContext context = AllocSetContextCreate(TopMemoryContext, "tempo_pg metrics", ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);
		ApiRequest    local = {.method = "GET", .path = "/metrics", .query = ""};
		ApiResponse  *response = api_begin_local(&local);

		counts_write(response->body, "up", "gauge", "Whether the API can answer queries.", up);
		if (up)
			body_append(response->body, request->body ? request->body : "", request->len);
		answer_at_once(request->net, response, request->arrived);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	waiting_free(request);
}

void
waiting_finish_text(Waiting *request, int status, const char *text)
{
	if (request->type == QUERY_STATISTICS)
	{
		waiting_finish_metrics(request, false);
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
	waiting_free(request);
}

void
waiting_finish_unavailable(Waiting *request, const char *reason, const char *hint)
{
	char *text = psprintf("%s\n%s%s", reason, hint, *hint ? "\n" : "");

	waiting_finish_text(request, 503, text);
	pfree(text);
}

void
waiting_give_up(Waiting *request)
{
	gateway_counts.given_up++;
	count_request(endpoint_of(request), 503, request->arrived);
	if (request->type == QUERY_STREAM)
		net_grpc_finish(request->net, GRPC_STATUS_UNAVAILABLE, UNREAD_TEXT);
	else
		respond_text(request->net, 503, UNREAD_TEXT);
	waiting_drop_answer(request);
}

/* --------------------------------------------------- what a worker says */

/* The complete answer has all of it, and so it may be left out for a client that does not read. */
static void
drop_partial(Waiting *request)
{
	if (request->partial_due != 0)
		request->len = 0;
	request->partial_due = 0;
}

static const char *
read_text(const char **p, const char *end)
{
	const char *text = *p;
	Size        len = strnlen(text, end - text);

	*p = Min(text + len + 1, end);
	return len > 0 && *text == '+' ? text + 1 : NULL;
}

void
waiting_read_head(Waiting *request, const QueueMessage *message)
{
	QueryHead   head;
	const char *p;
	const char *end;

	drop_partial(request);
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
	request->head.gzip = head.gzip;
	request->head.content_type = read_text(&p, end);
	request->head.location = read_text(&p, end);
	request->head.endpoint = read_text(&p, end);
	request->head.etag = read_text(&p, end);
	request->head.allow = read_text(&p, end);
	request->head.session = read_text(&p, end);
}

void
waiting_add_body(Waiting *request, const QueueMessage *message)
{
	if (request->net == NULL)
		return;
	if (request->type == QUERY_STREAM && request->head.status == 200)
		net_grpc_send(request->net, message->payload, message->len);
	else
		gather(request, message->payload, message->len);
}

void
waiting_send_partial(Waiting *request)
{
	const char *p = request->body;
	const char *end = request->body + request->len;

	while (request->net && p < end && net_grpc_pending(request->net) < MAX_UNSENT)
	{
		Size len;

		memcpy(&len, p, sizeof(len));
		net_grpc_send(request->net, p + sizeof(len), len);
		p += sizeof(len) + len;
	}
	drop_partial(request);
	request->partial_sent = GetCurrentTimestamp();
}

void
waiting_add_partial(Waiting *request, const QueueMessage *message)
{
	Size len = message->len;

	if (request->net == NULL)
		return;
	if (request->partial_due == 0)
		request->partial_due = Max(request->arrived, request->partial_sent) + tempo_stream_interval * INT64CONST(1000);
	gather(request, &len, sizeof(len));
	gather(request, message->payload, len);
	if (request->partial_due <= GetCurrentTimestamp())
		waiting_send_partial(request);
}
