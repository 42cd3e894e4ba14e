/*-------------------------------------------------------------------------
 *
 * grpc.c
 *	  gRPC calls on HTTP/2 streams: framing, compression, deadlines, statuses.
 *
 * A call has one request message (unless net_grpc_each_message was asked for) and, unless it is answered by
 * net_grpc_send, one response message.  An error is always Trailers-Only, a
 * single HEADERS frame: some clients decide on a retry by that frame alone.
 *
 *-------------------------------------------------------------------------
 */
#include "net/http2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRPC_OK 0
#define GRPC_INVALID_ARGUMENT 3
#define GRPC_DEADLINE_EXCEEDED 4
#define GRPC_RESOURCE_EXHAUSTED 8
#define GRPC_UNIMPLEMENTED 12
#define GRPC_INTERNAL 13
#define GRPC_UNAVAILABLE 14

#define FULL "too many requests are held in memory, retry later"

/* Clients bound the headers they take, some at 8 kB in all. */
#define MAX_MESSAGE_HEADER 2048
#define MAX_DETAILS 3072
#define MAX_EXTRA_TRAILERS 16

/* --------------------------------------------------------------- encoding */

/*
 * encode_message: percent-encodes what is not printable ASCII.  Cut, when too
 * long, before a byte that starts a character.
 */
static void
encode_message(const char *message, char *out, size_t outlen)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t            n = 0;
	size_t            whole = 0;

	for (const unsigned char *p = (const unsigned char *) message; *p != '\0'; p++)
	{
		bool plain = *p >= 0x20 && *p <= 0x7E && *p != '%';

		if ((*p & 0xC0) != 0x80)
			whole = n;
		if (n + (plain ? 1 : 3) >= outlen)
		{
			n = whole;
			break;
		}
		if (plain)
			out[n++] = *p;
		else
		{
			out[n++] = '%';
			out[n++] = digits[*p >> 4];
			out[n++] = digits[*p & 15];
		}
	}
	out[n] = '\0';
}

static void
encode_base64(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	while (len > 0)
	{
		uint32_t bits = data[0] << 16 | (len > 1 ? data[1] << 8 : 0) | (len > 2 ? data[2] : 0);

		*out++ = digits[bits >> 18];
		*out++ = digits[bits >> 12 & 63];
		if (len > 1)
			*out++ = digits[bits >> 6 & 63];
		if (len > 2)
			*out++ = digits[bits & 63];
		data += len < 3 ? len : 3;
		len -= len < 3 ? len : 3;
	}
	*out = '\0';
}

/* is_base64: of a "-bin" header: padded or not, joined by commas */
static bool
is_base64(const char *text)
{
	while (*text != '\0')
	{
		size_t digits;
		size_t padding;

		text += strspn(text, " ");
		digits = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_");
		padding = strspn(text + digits, "=");
		if (digits % 4 == 1 || padding > 2 || (padding > 0 && (digits + padding) % 4 != 0))
			return false;
		text += digits + padding;
		text += strspn(text, " ");
		if (*text != '\0' && *text++ != ',')
			return false;
	}
	return true;
}

/* ---------------------------------------------------------------- answers */

/* end_call: what every end of a call has in common */
static void
end_call(Http2Stream *stream)
{
	net_timer_cancel(stream->deadline);
	stream->deadline = NULL;
	stream->base.answered = true;
	net_request_answered(&stream->base);
}

static void
append_frame(Http2Stream *stream, const void *message, size_t len)
{
	uint8_t prefix[5] = {0, len >> 24, len >> 16, len >> 8, len};

	/* its time to stand still begins now */
	if (stream->out.start == stream->out.len)
		stream->progress = net_now(stream->base.server);
	/* without memory a message would be lost silently: the stream is reset */
	if (len > UINT32_MAX || !net_buffer_append(&stream->out, prefix, 5) ||
	    !net_buffer_append(&stream->out, message, len))
		http2_reset(stream, NGHTTP2_INTERNAL_ERROR);
	net_request_holds(&stream->base, stream->out.len);
}

static void
submit_headers(Http2Stream *stream)
{
	nghttp2_nv fields[] = {
		http2_nv(":status", "200"),
		http2_nv("content-type", "application/grpc"),
		http2_nv("grpc-accept-encoding", NET_ACCEPT_ENCODINGS)};

	http2_submit(stream, fields, 3, true);
}

/* trailers_only: HEADERS with END_STREAM and nothing else */
static void
trailers_only(Http2Stream *stream, int http_status, int status, const char *message,
              const char *details, const NetHeader *trailers, int n_trailers, bool say_encodings)
{
	nghttp2_nv fields[8 + MAX_EXTRA_TRAILERS];
	size_t     n = 0;
	char       http_text[16];
	char       status_text[16];
	char       text[MAX_MESSAGE_HEADER];

	snprintf(http_text, sizeof(http_text), "%d", http_status);
	snprintf(status_text, sizeof(status_text), "%d", status);
	encode_message(message != NULL ? message : "", text, sizeof(text));
	fields[n++] = http2_nv(":status", http_text);
	fields[n++] = http2_nv("content-type", "application/grpc");
	if (say_encodings)
		fields[n++] = http2_nv("grpc-accept-encoding", NET_ACCEPT_ENCODINGS);
	fields[n++] = http2_nv("grpc-status", status_text);
	fields[n++] = http2_nv("grpc-message", text);
	if (details != NULL)
		fields[n++] = http2_nv("grpc-status-details-bin", details);
	for (int i = 0; i < n_trailers && i < MAX_EXTRA_TRAILERS; i++)
		if (net_header_passes(&trailers[i]))
			fields[n++] = http2_nv(trailers[i].name, trailers[i].value);
	stream->output_ended = true;
	http2_submit(stream, fields, n, false);
}

/* add_trailers: the end of a call whose headers are out */
static void
add_trailers(Http2Stream *stream, int status, const char *message, const char *details,
             const NetHeader *trailers, int n_trailers)
{
	char status_text[16];
	char text[MAX_MESSAGE_HEADER];
	bool ok;

	snprintf(status_text, sizeof(status_text), "%d", status);
	ok = http2_add_trailer(stream, "grpc-status", status_text);
	if (message != NULL && message[0] != '\0')
	{
		encode_message(message, text, sizeof(text));
		ok = ok && http2_add_trailer(stream, "grpc-message", text);
	}
	if (details != NULL)
		ok = ok && http2_add_trailer(stream, "grpc-status-details-bin", details);
	for (int i = 0; i < n_trailers && i < MAX_EXTRA_TRAILERS; i++)
		if (net_header_passes(&trailers[i]))
			ok = ok && http2_add_trailer(stream, trailers[i].name, trailers[i].value);
	stream->output_ended = true;
	if (!ok)
		http2_reset(stream, NGHTTP2_INTERNAL_ERROR);
}

/* fail: the transport's own verdict on a call */
static void
fail(Http2Stream *stream, int http_status, int status, const char *message)
{
	if (stream->base.answered)
		return;
	stream->base.server->statistics.refused++;
	if (stream->submitted)
	{
		add_trailers(stream, status, message, NULL, NULL, 0);
		http2_output_added(stream);
	}
	else
		trailers_only(stream, http_status, status, message, NULL, NULL, 0,
		              status == GRPC_UNIMPLEMENTED);
	end_call(stream);
}

void
grpc_unavailable(Http2Stream *stream, const char *message)
{
	fail(stream, 200, GRPC_UNAVAILABLE, message);
}

void
net_respond_grpc(NetRequest *request, int status, const char *message,
                 const void *details, size_t details_len,
                 const NetHeader *trailers, int n_trailers,
                 const void *body, size_t len)
{
	Http2Stream *stream = net_container(Http2Stream, base, request);
	char         base64[MAX_DETAILS * 4 / 3 + 8];
	char        *encoded = NULL;

	if (request->answered || request->kind != NET_GRPC)
		return;
	if (details_len > 0 && details_len <= MAX_DETAILS)
	{
		encode_base64(details, details_len, base64);
		encoded = base64;
	}
	if (status == GRPC_OK || stream->submitted)
	{
		if (status == GRPC_OK)
			append_frame(stream, body, len);
		add_trailers(stream, status, message, encoded, trailers, n_trailers);
		if (stream->submitted)
			http2_output_added(stream);
		else
			submit_headers(stream);
	}
	else
		trailers_only(stream, 200, status, message, encoded, trailers, n_trailers,
		              status == GRPC_UNIMPLEMENTED);
	end_call(stream);
}

void
net_grpc_send(NetRequest *request, const void *message, size_t len)
{
	Http2Stream *stream = net_container(Http2Stream, base, request);

	if (request->answered || request->kind != NET_GRPC)
		return;
	append_frame(stream, message, len);
	if (stream->submitted)
		http2_output_added(stream);
	else
		submit_headers(stream);
}

size_t
net_grpc_pending(const NetRequest *request)
{
	const Http2Stream *stream = net_container(Http2Stream, base, request);

	return request->kind == NET_GRPC ? stream->out.len - stream->out.start : 0;
}

void
net_grpc_finish(NetRequest *request, int status, const char *message)
{
	Http2Stream *stream = net_container(Http2Stream, base, request);

	if (request->answered || request->kind != NET_GRPC)
		return;
	if (stream->submitted)
	{
		add_trailers(stream, status, message, NULL, NULL, 0);
		http2_output_added(stream);
	}
	else
		trailers_only(stream, 200, status, message, NULL, NULL, 0, false);
	end_call(stream);
}

void
net_grpc_each_message(NetRequest *request, void (*callback)(NetRequest *request, void *arg), void *arg)
{
	Http2Stream *stream = net_container(Http2Stream, base, request);

	if (request->kind != NET_GRPC)
		return;
	stream->message.each = callback;
	stream->message.each_arg = arg;
}

/* ---------------------------------------------------------------- headers */

/*
 * grpc_claims: content-type application/grpc, or what is plainly meant as a
 * call: a POST to /package.Service/Method (no HTTP path of ours has a dot in
 * its first segment).
 */
bool
grpc_claims(Http2Stream *stream)
{
	const char *type = net_request_header(&stream->base, "content-type", NULL);
	const char *path = net_request_path(&stream->base);
	const char *slash;

	if (type != NULL && strncasecmp(type, "application/grpc", 16) == 0)
		return true;
	if (strcmp(net_request_method(&stream->base), "POST") != 0 || path[0] != '/')
		return false;
	slash = strchr(path + 1, '/');
	return slash != NULL && memchr(path, '.', slash - path) != NULL && strchr(slash + 1, '/') == NULL;
}

static bool
content_type_is_valid(const char *type)
{
	if (type == NULL || strncasecmp(type, "application/grpc", 16) != 0)
		return false;
	/* application/grpc-web and the like are other protocols */
	return type[16] == '\0' || type[16] == '+' || type[16] == ';';
}

/* parse_timeout: 1 to 8 digits and a unit, to milliseconds, rounded down */
static bool
parse_timeout(const char *text, uint64_t *ms)
{
	size_t   digits = strspn(text, "0123456789");
	uint64_t n;

	if (digits < 1 || digits > 8 || text[digits] == '\0' || text[digits + 1] != '\0')
		return false;
	n = strtoull(text, NULL, 10);
	switch (text[digits])
	{
		case 'H':
			*ms = n * 3600000;
			return true;
		case 'M':
			*ms = n * 60000;
			return true;
		case 'S':
			*ms = n * 1000;
			return true;
		case 'm':
			*ms = n;
			return true;
		case 'u':
			*ms = n / 1000;
			return true;
		case 'n':
			*ms = n / 1000000;
			return true;
		default:
			return false;
	}
}

static void
on_deadline(void *arg)
{
	Http2Stream *stream = arg;

	stream->deadline = NULL;
	net_request_cancel(&stream->base);
	fail(stream, 200, GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
}

static bool
binary_headers_are_valid(const NetRequest *request)
{
	for (int i = 0; i < request->n_fields; i++)
	{
		const char *name = request->text.data + request->fields[i].name;
		size_t      len = strlen(name);

		if (len > 4 && strcmp(name + len - 4, "-bin") == 0 &&
		    !is_base64(request->text.data + request->fields[i].value))
			return false;
	}
	return true;
}

void
grpc_headers(Http2Stream *stream)
{
	NetRequest *request = &stream->base;
	const char *type = net_request_header(request, "content-type", NULL);
	const char *timeout = net_request_header(request, "grpc-timeout", NULL);
	const char *encoding = net_request_header(request, "grpc-encoding", NULL);
	uint64_t    ms = 0;
	char        text[256];
	bool        has_room;

	request->kind = NET_GRPC;
	if (request->headers_too_large)
	{
		fail(stream, 431, GRPC_RESOURCE_EXHAUSTED, "request header fields too large");
		return;
	}
	if (!content_type_is_valid(type))
	{
		snprintf(text, sizeof(text), "invalid gRPC request content-type \"%.100s\"", type != NULL ? type : "");
		fail(stream, 415, GRPC_INVALID_ARGUMENT, text);
		return;
	}
	if (timeout != NULL && !parse_timeout(timeout, &ms))
	{
		snprintf(text, sizeof(text), "malformed grpc-timeout \"%.20s\"", timeout);
		fail(stream, 400, GRPC_INTERNAL, text);
		return;
	}
	if (!binary_headers_are_valid(request))
	{
		fail(stream, 400, GRPC_INTERNAL, "malformed binary metadata: not base64");
		return;
	}
	if (strcmp(net_request_method(request), "POST") != 0)
	{
		snprintf(text, sizeof(text), "gRPC calls use the method POST, not \"%.20s\"",
		         net_request_method(request));
		fail(stream, 405, GRPC_INTERNAL, text);
		return;
	}
	if (timeout != NULL && ms == 0)
	{
		fail(stream, 200, GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
		return;
	}
	has_room = net_request_account_headers(request);
	if (net_request_check(request))
		return;
	if (!has_room)
	{
		fail(stream, 200, GRPC_UNAVAILABLE, FULL);
		return;
	}
	stream->message.codec = encoding != NULL ? net_codec_by_name(encoding) : NET_CODEC_IDENTITY;
	if (stream->message.codec == NET_CODEC_UNKNOWN)
	{
		snprintf(text, sizeof(text), "grpc: Decompressor is not installed for grpc-encoding \"%.60s\"", encoding);
		fail(stream, 200, GRPC_UNIMPLEMENTED, text);
		return;
	}
	if (timeout != NULL)
		stream->deadline = net_loop_timer(request->server->loop, ms, on_deadline, stream);
}

/* ---------------------------------------------------------------- message */

/* message_begins: the prefix is complete */
static void
message_begins(Http2Stream *stream)
{
	GrpcMessage *message = &stream->message;
	size_t       max = stream->base.server->options.max_body;
	char         text[128];

	message->length = (size_t) message->prefix[1] << 24 | message->prefix[2] << 16 |
	                  message->prefix[3] << 8 | message->prefix[4];
	if (message->prefix[0] > 1)
	{
		snprintf(text, sizeof(text), "grpc: received message with unknown compressed flag %d", message->prefix[0]);
		fail(stream, 200, GRPC_INTERNAL, text);
	}
	else if (message->prefix[0] == 1 && message->codec == NET_CODEC_IDENTITY)
		fail(stream, 200, GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
	else if (message->length > max)
	{
		snprintf(text, sizeof(text), "grpc: received message larger than max (%zu vs. %zu)", message->length, max);
		fail(stream, 200, GRPC_RESOURCE_EXHAUSTED, text);
	}
	else if (message->length > 0 && net_server_is_full(stream->base.server))
		fail(stream, 200, GRPC_UNAVAILABLE, FULL);
	else if (message->prefix[0] == 1)
	{
		stream->base.decoder = net_decoder_create(message->codec);
		if (stream->base.decoder == NULL)
			fail(stream, 200, GRPC_UNAVAILABLE, "out of memory");
	}
}

static void
fail_decoding(Http2Stream *stream, NetDecodeResult result)
{
	char text[256];

	switch (result)
	{
		case NET_DECODE_TOO_LARGE:
			snprintf(text, sizeof(text), "grpc: received message after decompression larger than max %zu",
			         stream->base.server->options.max_body);
			fail(stream, 200, GRPC_RESOURCE_EXHAUSTED, text);
			break;
		case NET_DECODE_NO_MEMORY:
			fail(stream, 200, GRPC_UNAVAILABLE, "out of memory");
			break;
		default:
			snprintf(text, sizeof(text), "grpc: failed to decompress the received message: %.100s",
			         net_decoder_message(stream->base.decoder));
			fail(stream, 200, GRPC_INTERNAL, text);
			break;
	}
}

static void
message_continues(Http2Stream *stream, const uint8_t *data, size_t len)
{
	NetRequest *request = &stream->base;
	NetBuffer  *body = &request->body;

	stream->message.received += len;
	if (request->decoder != NULL)
	{
		NetDecodeResult result = net_decoder_feed(request->decoder, data, len, body,
		                                          request->server->options.max_body);

		if (result != NET_DECODE_OK)
		{
			fail_decoding(stream, result);
			return;
		}
	}
	else if (net_buffer_reserve(body, len, stream->message.length))
	{
		memcpy(body->data + body->len, data, len);
		body->len += len;
	}
	else
	{
		fail(stream, 200, GRPC_UNAVAILABLE, "out of memory");
		return;
	}
	if (!net_request_account(request))
		fail(stream, 200, GRPC_UNAVAILABLE, FULL);
}

/* finish_decoding: false when that failed the call */
static bool
finish_decoding(Http2Stream *stream)
{
	NetDecodeResult result;

	if (stream->base.decoder == NULL)
		return true;
	result = net_decoder_finish(stream->base.decoder, &stream->base.body, stream->base.server->options.max_body);
	if (result != NET_DECODE_OK)
		fail_decoding(stream, result);
	else if (!net_request_account(&stream->base))
		fail(stream, 200, GRPC_UNAVAILABLE, FULL);
	else
		return true;
	return false;
}

/* message_ends: hands one of several messages over and makes room for the next */
static void
message_ends(Http2Stream *stream)
{
	GrpcMessage *message = &stream->message;

	if (!finish_decoding(stream))
		return;
	message->each(&stream->base, message->each_arg);
	if (stream->base.answered)
		return;
	if (stream->base.decoder != NULL)
		net_decoder_destroy(stream->base.decoder);
	stream->base.decoder = NULL;
	stream->base.body.len = 0;
	(void) net_request_account(&stream->base);
	message->n_prefix = 0;
	message->received = 0;
	message->length = 0;
}

void
grpc_data(Http2Stream *stream, const uint8_t *data, size_t len)
{
	GrpcMessage *message = &stream->message;

	while (len > 0 && !stream->base.answered)
	{
		if (message->n_prefix < 5)
		{
			message->prefix[message->n_prefix++] = *data++;
			len--;
			if (message->n_prefix == 5)
				message_begins(stream);
		}
		else if (message->received < message->length)
		{
			size_t part = message->length - message->received;

			if (part > len)
				part = len;
			message_continues(stream, data, part);
			data += part;
			len -= part;
		}
		else
		{
			fail(stream, 200, GRPC_UNIMPLEMENTED, "grpc: more than one request message on a call that takes one");
			return;
		}
		if (message->each != NULL && !stream->base.answered && message->n_prefix == 5 &&
		    message->received == message->length)
			message_ends(stream);
	}
}

void
grpc_end(Http2Stream *stream)
{
	GrpcMessage *message = &stream->message;

	if (stream->base.answered)
		return;
	if (message->n_prefix == 0 && message->each != NULL)
		net_request_deliver(&stream->base);
	else if (message->n_prefix == 0)
		fail(stream, 200, GRPC_UNIMPLEMENTED, "grpc: no request message on a call that takes one");
	else if (message->n_prefix < 5 || message->received < message->length)
		fail(stream, 200, GRPC_INTERNAL, "grpc: the request message ends too early: unexpected EOF");
	else if (finish_decoding(stream))
		net_request_deliver(&stream->base);
}
