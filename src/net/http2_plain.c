/*-------------------------------------------------------------------------
 *
 * http2_plain.c
 *	  HTTP requests on HTTP/2 streams, those that are no calls of gRPC.
 *
 *-------------------------------------------------------------------------
 */
#include "net/http2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *
http_date(void)
{
	static char   text[40];
	static time_t last = 0;
	time_t        now = time(NULL);
	struct tm     tm;

	if (now != last && gmtime_r(&now, &tm) != NULL)
	{
		static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
		static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
		                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

		/* not strftime: the names must not follow the server's lc_time */
		snprintf(text, sizeof(text), "%s, %02u %s %04u %02u:%02u:%02u GMT",
		         days[tm.tm_wday % 7], (unsigned) tm.tm_mday % 100, months[tm.tm_mon % 12],
		         (unsigned) (tm.tm_year + 1900) % 10000, (unsigned) tm.tm_hour % 100,
		         (unsigned) tm.tm_min % 100, (unsigned) tm.tm_sec % 100);
		last = now;
	}
	return text;
}

void
http2_respond(NetRequest *request, int status, const char *content_type,
              const NetHeader *headers, int n_headers, const void *body, size_t len)
{
	Http2Stream *stream = net_container(Http2Stream, base, request);
	nghttp2_nv   fields[HTTP2_MAX_FIELDS];
	size_t       n = 0;
	NetAnswer    answer;
	char         status_text[16];
	char         length_text[32];
	bool         is_head = strcmp(net_request_method(request), "HEAD") == 0;

	/* a call that already streams cannot become an HTTP answer */
	if (stream->submitted)
		return;
	if (!net_answer_prepare(&answer, request, status, headers, n_headers, body, len))
	{
		http2_reset(stream, NGHTTP2_INTERNAL_ERROR);
		request->answered = true;
		net_request_answered(request);
		return;
	}
	snprintf(status_text, sizeof(status_text), "%d", status);
	snprintf(length_text, sizeof(length_text), "%zu", answer.len);
	fields[n++] = http2_nv(":status", status_text);
	fields[n++] = http2_nv("date", http_date());
	if (content_type != NULL)
		fields[n++] = http2_nv("content-type", content_type);
	if (status != 204 && status != 304)
		fields[n++] = http2_nv("content-length", length_text);
	if (answer.gzip)
		fields[n++] = http2_nv("content-encoding", "gzip");
	if (answer.vary)
		fields[n++] = http2_nv("vary", "Accept-Encoding");
	for (int i = 0; i < n_headers && n < HTTP2_MAX_FIELDS; i++)
		if (net_header_passes(&headers[i]))
			fields[n++] = http2_nv(headers[i].name, headers[i].value);
	request->answered = true;
	stream->output_ended = true;
	if (is_head || answer.len == 0)
		free(answer.body);
	else
	{
		net_buffer_free(&stream->out);
		stream->out.data = answer.body;
		stream->out.len = stream->out.capacity = answer.len;
		net_request_holds(request, answer.len);
	}
	http2_submit(stream, fields, n, stream->out.len > 0);
	net_timer_cancel(stream->deadline);
	stream->deadline = NULL;
	net_request_answered(request);
}

void
http2_plain_headers(Http2Stream *stream)
{
	NetRequest *request = &stream->base;
	const char *length = net_request_header(request, "content-length", NULL);
	const char *message = NULL;
	bool        has_room;
	int         status;

	if (request->headers_too_large)
	{
		net_request_refuse(request, 431, "request header fields too large");
		return;
	}
	has_room = net_request_account_headers(request);
	if (net_request_check(request))
		return;
	status = net_request_body_begin(request, &message);
	/* the library has made sure that it is a number */
	if (status == 0 && length != NULL && strtoull(length, NULL, 10) > request->server->options.max_body)
	{
		status = 413;
		message = "request body too large";
	}
	else if (status == 0 && (!has_room || (!stream->input_ended && net_server_is_full(request->server))))
	{
		status = 503;
		message = "too many requests are held in memory, retry later";
	}
	if (status != 0)
		net_request_refuse(request, status, message);
}

void
http2_plain_data(Http2Stream *stream, const uint8_t *data, size_t len)
{
	const char *message = NULL;
	int         status = net_request_body_append(&stream->base, data, len, &message);

	if (status != 0)
		net_request_refuse(&stream->base, status, message);
}

void
http2_plain_end(Http2Stream *stream)
{
	const char *message = NULL;
	int         status = net_request_body_end(&stream->base, &message);

	if (status != 0)
		net_request_refuse(&stream->base, status, message);
	else
		net_request_deliver(&stream->base);
}
