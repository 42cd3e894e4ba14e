/*-------------------------------------------------------------------------
 *
 * request.c
 *	  The request a handler sees, whatever protocol it came by.
 *
 * Header text lives in one growing buffer and is named by offsets.  The body
 * is decompressed as it arrives; its memory counts in the server's statistics
 * from the first byte until the request is answered, whoever holds it then.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SMALL_HEADERS 4096

/* ----------------------------------------------------------------- buffer */

bool
net_buffer_reserve(NetBuffer *buffer, size_t more, size_t limit)
{
	size_t need;
	size_t capacity;
	char  *data;

	if (buffer->start > 0 && buffer->start == buffer->len)
		buffer->start = buffer->len = 0;
	if (more <= buffer->capacity - buffer->len)
		return true;
	if (more > SIZE_MAX / 4 || buffer->len > SIZE_MAX / 4)
		return false;
	need = buffer->len + more;
	capacity = buffer->capacity < 256 ? 256 : buffer->capacity;
	while (capacity < need)
		capacity *= 2;
	if (limit > 0 && capacity > limit)
		capacity = need > limit ? need : limit;
	data = realloc(buffer->data, capacity);
	if (data == NULL)
		return false;
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

bool
net_buffer_append(NetBuffer *buffer, const void *data, size_t len)
{
	if (len == 0)
		return true;
	if (!net_buffer_reserve(buffer, len, 0))
		return false;
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return true;
}

void
net_buffer_free(NetBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

/* ---------------------------------------------------------------- request */

bool
net_request_init(NetRequest *request, NetServer *server, NetKind kind)
{
	memset(request, 0, sizeof(*request));
	request->server = server;
	request->kind = kind;
	/* offset 0 is the empty string */
	return net_buffer_append(&request->text, "", 1);
}

static void
set_accounted(NetRequest *request, size_t bytes)
{
	request->server->statistics.buffered += bytes - request->accounted;
	request->server->loop->buffered += bytes - request->accounted;
	request->accounted = bytes;
}

void
net_request_release(NetRequest *request)
{
	net_request_holds(request, 0);
	set_accounted(request, 0);
	request->server->loop->buffered -= request->headers_accounted;
	request->headers_accounted = 0;
	net_buffer_free(&request->text);
	net_buffer_free(&request->body);
	free(request->fields);
	request->fields = NULL;
	request->n_fields = 0;
	net_decoder_destroy(request->decoder);
	request->decoder = NULL;
}

/* add_text: a NUL-terminated copy; an inner NUL ends it, as it would for every reader */
static bool
add_text(NetRequest *request, const char *data, size_t len, uint32_t *offset)
{
	*offset = request->text.len;
	if (request->text.len + len + 1 > UINT32_MAX / 2)
		return false;
	return net_buffer_append(&request->text, data, len) &&
	       net_buffer_append(&request->text, "", 1);
}

bool
net_request_set_method(NetRequest *request, const char *method, size_t len)
{
	return add_text(request, method, len, &request->method);
}

bool
net_request_set_target(NetRequest *request, const char *target, size_t len)
{
	const char *end = target + len;
	const char *mark;
	const char *scheme;

	/* absolute form: http://host/path */
	scheme = len > 0 && target[0] != '/' ? memmem(target, len, "://", 3) : NULL;
	if (scheme != NULL && memchr(target, '?', scheme - target) == NULL &&
	    memchr(target, '/', scheme - target) == NULL)
	{
		const char *p = scheme + 3;

		while (p < end && *p != '/' && *p != '?')
			p++;
		target = p;
	}
	mark = memchr(target, '?', end - target);
	if (target == end || target == mark)
	{
		if (!add_text(request, "/", 1, &request->path))
			return false;
	}
	else if (!add_text(request, target, (mark != NULL ? mark : end) - target, &request->path))
		return false;
	return mark == NULL || add_text(request, mark + 1, end - mark - 1, &request->query);
}

bool
net_request_add_header(NetRequest *request, const char *name, size_t namelen,
                       const char *value, size_t valuelen)
{
	NetField *field;

	if (request->n_fields == request->fields_capacity)
	{
		int       capacity = request->fields_capacity == 0 ? 16 : 2 * request->fields_capacity;
		NetField *fields = realloc(request->fields, capacity * sizeof(NetField));

		if (fields == NULL)
			return false;
		request->fields = fields;
		request->fields_capacity = capacity;
	}
	field = &request->fields[request->n_fields];
	if (!add_text(request, name, namelen, &field->name) ||
	    !add_text(request, value, valuelen, &field->value))
		return false;
	for (char *p = request->text.data + field->name; *p != '\0'; p++)
		*p = tolower((unsigned char) *p);
	request->n_fields++;
	return true;
}

/* ------------------------------------------------- what the handler reads */

const char *
net_request_method(const NetRequest *request)
{
	return request->text.data + request->method;
}

const char *
net_request_path(const NetRequest *request)
{
	return request->text.data + request->path;
}

const char *
net_request_query(const NetRequest *request)
{
	return request->text.data + request->query;
}

const char *
net_request_header(const NetRequest *request, const char *name, int *count)
{
	const char *value = NULL;
	int         n = 0;

	for (int i = 0; i < request->n_fields; i++)
	{
		if (strcmp(request->text.data + request->fields[i].name, name) != 0)
			continue;
		if (n++ == 0)
			value = request->text.data + request->fields[i].value;
	}
	if (count != NULL)
		*count = n;
	return value;
}

void
net_request_each_header(const NetRequest *request,
                        void (*callback)(const char *name, const char *value, void *arg), void *arg)
{
	for (int i = 0; i < request->n_fields; i++)
		callback(request->text.data + request->fields[i].name,
		         request->text.data + request->fields[i].value, arg);
}

NetText
net_request_body(const NetRequest *request)
{
	NetText body = {request->body.len > 0 ? request->body.data : "", request->body.len};

	return body;
}

char *
net_request_keep_body(NetRequest *request)
{
	char *data = request->body.data;

	request->body.data = NULL;
	request->body.len = request->body.start = request->body.capacity = 0;
	return data;
}

bool
net_request_is_grpc(const NetRequest *request)
{
	return request->kind == NET_GRPC;
}

void
net_request_on_cancel(NetRequest *request, void (*callback)(NetRequest *request, void *arg), void *arg)
{
	request->on_cancel = callback;
	request->on_cancel_arg = arg;
}

/* ------------------------------------------------------------- life cycle */

/* Small ones, such as those for the health, find room when bodies take all of it. */
bool
net_request_account_headers(NetRequest *request)
{
	size_t limit = request->server->options.max_buffered;

	request->headers_accounted = request->text.len + request->n_fields * sizeof(NetField);
	request->server->loop->buffered += request->headers_accounted;
	if (request->headers_accounted <= SMALL_HEADERS)
		limit += limit / 2;
	return request->server->loop->buffered <= limit;
}

bool
net_request_account(NetRequest *request)
{
	NetServer *server = request->server;

	/* memory allocated beyond the length is not touched, and at most as much again */
	size_t held = request->body.len +
	              (request->decoder != NULL ? net_decoder_memory(request->decoder) : 0);

	if (held <= request->accounted)
		return true;
	set_accounted(request, held);
	return server->loop->buffered <= server->options.max_buffered;
}

void
net_request_holds(NetRequest *request, size_t bytes)
{
	request->server->statistics.unsent += bytes;
	request->server->statistics.unsent -= request->unsent;
	request->unsent = bytes;
}

bool
net_request_check(NetRequest *request)
{
	NetServer *server = request->server;

	if (server->options.check == NULL)
		return false;
	request->checking = true;
	server->options.check(request, server->options.arg);
	request->checking = false;
	return request->answered;
}

void
net_request_deliver(NetRequest *request)
{
	NetServer *server = request->server;

	server->statistics.requests++;
	server->handling++;
	request->delivered = true;
	/* the body is whole: what decoded it can be megabytes */
	net_decoder_destroy(request->decoder);
	request->decoder = NULL;
	if (request->accounted > request->body.len)
		set_accounted(request, request->body.len);
	server->options.handler(request, server->options.arg);
}

void
net_request_refuse(NetRequest *request, int status, const char *message)
{
	NetServer *server = request->server;

	server->statistics.refused++;
	if (server->options.refuse != NULL)
	{
		request->refusing = true;
		server->options.refuse(request, status, message, server->options.arg);
		request->refusing = false;
		if (request->answered)
			return;
	}
	net_respond(request, status, "text/plain; charset=utf-8", NULL, 0, message, strlen(message));
}

void
net_request_cancel(NetRequest *request)
{
	void (*callback)(NetRequest * request, void *arg) = request->on_cancel;

	if (!request->delivered)
		return;
	request->delivered = false;
	request->server->handling--;
	request->on_cancel = NULL;
	if (callback != NULL)
	{
		bool answered = request->answered;

		/* it is too late for an answer by the handler */
		request->answered = true;
		callback(request, request->on_cancel_arg);
		request->answered = answered;
	}
	net_server_relieved(request->server);
}

void
net_request_answered(NetRequest *request)
{
	if (request->delivered)
	{
		request->delivered = false;
		request->server->handling--;
	}
	request->on_cancel = NULL;
	set_accounted(request, 0);
	net_buffer_free(&request->body);
	net_decoder_destroy(request->decoder);
	request->decoder = NULL;
	net_server_relieved(request->server);
}

/* ------------------------------------------------------ body of HTTP kind */

int
net_request_body_begin(NetRequest *request, const char **message)
{
	int         count;
	const char *encoding = net_request_header(request, "content-encoding", &count);
	NetCodec    codec = NET_CODEC_IDENTITY;

	if (encoding == NULL)
		return 0;
	codec = count > 1 ? NET_CODEC_UNKNOWN : net_codec_by_name(encoding);
	if (codec == NET_CODEC_UNKNOWN)
	{
		/* the text lives as long as the request does */
		size_t   len = strlen(encoding);
		char     text[128];
		uint32_t offset;

		snprintf(text, sizeof(text), "unsupported Content-Encoding: %.*s", (int) (len > 60 ? 60 : len), encoding);
		*message = add_text(request, text, strlen(text), &offset) ?
		               request->text.data + offset :
		               "unsupported Content-Encoding";
		return 400;
	}
	if (codec != NET_CODEC_IDENTITY)
	{
		request->decoder = net_decoder_create(codec);
		if (request->decoder == NULL)
		{
			*message = "out of memory";
			return 503;
		}
	}
	return 0;
}

static int
decode_status(NetRequest *request, NetDecodeResult result, const char **message)
{
	switch (result)
	{
		case NET_DECODE_OK:
			return 0;
		case NET_DECODE_TOO_LARGE:
			*message = "request body too large after decompression";
			return 413;
		case NET_DECODE_NO_MEMORY:
			*message = "out of memory";
			return 503;
		default:
			*message = net_decoder_message(request->decoder);
			return 400;
	}
}

int
net_request_body_append(NetRequest *request, const void *data, size_t len, const char **message)
{
	size_t max = request->server->options.max_body;
	int    status = 0;

	if (len > max - request->received)
	{
		*message = "request body too large";
		return 413;
	}
	request->received += len;
	if (request->decoder != NULL)
		status = decode_status(request,
		                       net_decoder_feed(request->decoder, data, len, &request->body, max),
		                       message);
	else if (!net_buffer_append(&request->body, data, len))
		status = decode_status(request, NET_DECODE_NO_MEMORY, message);
	if (!net_request_account(request) && status == 0)
	{
		*message = "too many requests are held in memory, retry later";
		status = 503;
	}
	return status;
}

int
net_request_body_end(NetRequest *request, const char **message)
{
	int status;

	if (request->decoder == NULL)
		return 0;
	/* a GET that names a coding for the body it does not have */
	if (request->received == 0 && request->body.len == 0 &&
	    (strcmp(net_request_method(request), "GET") == 0 || strcmp(net_request_method(request), "HEAD") == 0))
		return 0;
	status = decode_status(request, net_decoder_finish(request->decoder, &request->body, request->server->options.max_body),
	                       message);
	if (!net_request_account(request) && status == 0)
	{
		*message = "too many requests are held in memory, retry later";
		status = 503;
	}
	return status;
}

/* ---------------------------------------------------------------- answers */

void
net_respond(NetRequest *request, int status, const char *content_type,
            const NetHeader *headers, int n_headers, const void *body, size_t len)
{
	const NetServerOptions *options = &request->server->options;
	NetHeader               all[NET_MAX_ANSWER_HEADERS + NET_EXTRA_HEADERS];
	int                     n = n_headers < NET_MAX_ANSWER_HEADERS ? n_headers : NET_MAX_ANSWER_HEADERS;

	if (request->answered)
		return;
	if (n > 0)
		memcpy(all, headers, n * sizeof(NetHeader));
	if (options->headers != NULL && request->kind != NET_GRPC)
		n += options->headers(request, status, all + n, options->arg);
	if (request->kind == NET_HTTP1)
		http1_respond(request, status, content_type, all, n, body, len);
	else
		http2_respond(request, status, content_type, all, n, body, len);
}

bool
net_header_passes(const NetHeader *header)
{
	static const char *const reserved[] = {
		"content-length", "content-type", "transfer-encoding", "connection", "keep-alive",
		"upgrade", "date", "trailer", "proxy-connection"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcasecmp(header->name, reserved[i]) == 0)
			return false;
	return header->name[0] != '\0' && header->name[0] != ':' &&
	       strpbrk(header->name, "\r\n :") == NULL && strpbrk(header->value, "\r\n") == NULL;
}

bool
net_answer_prepare(NetAnswer *answer, NetRequest *request, int status,
                   const NetHeader *headers, int n_headers, const void *body, size_t len)
{
	bool encoded = false;
	bool vary = false;

	memset(answer, 0, sizeof(*answer));
	answer->status = status;
	for (int i = 0; i < n_headers; i++)
	{
		if (strcasecmp(headers[i].name, "content-encoding") == 0)
			encoded = true;
		if (strcasecmp(headers[i].name, "vary") == 0 && strcasestr(headers[i].value, "accept-encoding") != NULL)
			vary = true;
	}
	if (status < 200 || status == 204 || status == 304)
		len = 0;
	if (len >= NET_COMPRESS_MIN)
	{
		answer->vary = !vary;
		if (!encoded && len <= NET_COMPRESS_MAX &&
		    net_accepts_gzip(net_request_header(request, "accept-encoding", NULL)))
		{
			answer->body = net_gzip(body, len, &answer->len);
			answer->gzip = answer->body != NULL;
		}
	}
	if (!answer->gzip && len > 0)
	{
		answer->body = malloc(len);
		if (answer->body == NULL)
			return false;
		memcpy(answer->body, body, len);
		answer->len = len;
	}
	return true;
}

const char *
net_reason_phrase(int status)
{
	switch (status)
	{
		case 400:
			return "Bad Request";
		case 401:
			return "Unauthorized";
		case 403:
			return "Forbidden";
		case 404:
			return "Not Found";
		case 405:
			return "Method Not Allowed";
		case 413:
			return "Content Too Large";
		case 415:
			return "Unsupported Media Type";
		case 431:
			return "Request Header Fields Too Large";
		case 503:
			return "Service Unavailable";
		default:
			return status < 400 ? "OK" : "Error";
	}
}
