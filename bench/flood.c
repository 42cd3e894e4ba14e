/*-------------------------------------------------------------------------
 *
 * flood.c
 *	  A load without end: OTLP over gRPC for so many seconds, from a file of the
 *	  bench kit, each time with trace ids and times of its own.
 *
 *	  flood FILE HOST PORT SECONDS CONNECTIONS STREAMS RATE TENANTS
 *
 * FILE has requests, each after its length in four bytes.  RATE is in spans
 * per second, 0 = as fast as they are acknowledged; TENANTS 0 = no header.
 * A request that is refused with UNAVAILABLE or RESOURCE_EXHAUSTED is counted
 * and not sent again.  Prints one line of JSON; ends early on a lost
 * connection.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Request
{
	uint8_t    *body;
	uint32_t	length;
	uint32_t	spans;
	uint32_t	first_place; /* in places */
	uint32_t	n_places;
	uint64_t	latest;		 /* end of a span */
	bool		in_flight;
} Request;

/* where in a request a trace id or a time is */
typedef struct Place
{
	uint32_t	offset;
	bool		is_time;
} Place;

typedef struct Stream
{
	Request    *request;
	uint32_t	sent; /* of prefix and body */
	int			status;
	int			http;
	uint64_t	key; /* of its trace ids */
} Stream;

typedef struct Connection
{
	int			fd;
	nghttp2_session *session;
	int			open;
	uint8_t		out[256 * 1024];
	size_t		filled;
	size_t		written;
} Connection;

static Request *requests;
static uint32_t n_requests;
static Place *places;
static uint32_t n_places;
static uint32_t next_request;
static uint64_t pass;
static uint64_t sent_requests;
static uint64_t sent_spans;
static uint64_t acked_spans;
static uint64_t refused;
static uint64_t failed;
static int	tenants;
static char first_error[200];

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t
now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* ---------------------------------------------------------------- the file */

static void
add_place(Request *request, const uint8_t *at, bool is_time)
{
	static uint32_t room;

	if (n_places == room)
	{
		room = room * 2 + 4096;
		places = realloc(places, room * sizeof(Place));
		if (places == NULL)
			die("realloc");
	}
	places[n_places++] = (Place){(uint32_t) (at - request->body), is_time};
}

static uint64_t
varint(const uint8_t **at, const uint8_t *end)
{
	uint64_t	value = 0;

	for (int shift = 0; *at < end && shift < 64; shift += 7)
	{
		uint8_t		byte = *(*at)++;

		value |= (uint64_t) (byte & 127) << shift;
		if (byte < 128)
			return value;
	}
	fprintf(stderr, "a request of the file is malformed\n");
	exit(1);
}

/* depth 0: request, 1: resource spans, 2: scope spans, 3: span, 4: event, 5: link */
static void
look_for_places(Request *request, const uint8_t *at, const uint8_t *end, int depth)
{
	while (at < end)
	{
		uint64_t	key = varint(&at, end);
		uint64_t	field = key >> 3;
		uint64_t	length = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;

		if ((key & 7) == 0)
			(void) varint(&at, end);
		else if ((key & 7) == 2)
			length = varint(&at, end);
		if (length > (uint64_t) (end - at))
			die("a request of the file is malformed");
		if ((depth == 3 || depth == 5) && field == 1 && length == 16)
			add_place(request, at, false);
		else if ((depth == 3 && (field == 7 || field == 8) && length == 8) || (depth == 4 && field == 1 && length == 8))
		{
			uint64_t	time;

			memcpy(&time, at, 8);
			if (depth == 3 && time > request->latest)
				request->latest = time;
			add_place(request, at, true);
		}
		else if ((key & 7) == 2 && ((depth == 0 && field == 1) || (depth == 1 && field == 2) || (depth == 2 && field == 2)))
		{
			request->spans += depth == 2;
			look_for_places(request, at, at + length, depth + 1);
		}
		else if ((key & 7) == 2 && depth == 3 && (field == 11 || field == 13))
			look_for_places(request, at, at + length, field == 11 ? 4 : 5);
		at += length;
	}
}

static void
read_file(const char *path)
{
	int			fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t    *data;

	if (fd < 0 || fstat(fd, &st) != 0)
		die(path);
	data = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (data == MAP_FAILED)
		die(path);
	close(fd);
	for (off_t at = 0; at + 4 <= st.st_size;)
	{
		Request    *request;
		uint32_t	length;

		memcpy(&length, data + at, 4);
		if (length > (uint64_t) (st.st_size - at - 4))
			break;
		if (n_requests % 1024 == 0)
			requests = realloc(requests, (n_requests + 1024) * sizeof(Request));
		if (requests == NULL)
			die("realloc");
		request = &requests[n_requests++];
		*request = (Request){.body = data + at + 4, .length = length, .first_place = n_places};
		look_for_places(request, request->body, request->body + length, 0);
		request->n_places = n_places - request->first_place;
		at += 4 + (off_t) length;
	}
	if (n_requests == 0)
		die("no request in the file");
}

/*
 * Trace ids of this pass, and the latest span ends now.  A second XOR with the
 * same key would give the old ids, so keys are of the difference of passes.
 */
static void
renew(Request *request)
{
	uint64_t	key = pass == 0 ? 0 : (pass * 0x9e3779b97f4a7c15) ^ ((pass - 1) * 0x9e3779b97f4a7c15);
	uint64_t	latest = now(CLOCK_REALTIME);
	uint64_t	shift = latest - request->latest;

	for (uint32_t i = request->first_place; i < request->first_place + request->n_places; i++)
	{
		uint8_t    *at = request->body + places[i].offset;
		uint64_t	value;

		memcpy(&value, at, 8);
		value = places[i].is_time ? value + shift : value ^ key;
		memcpy(at, &value, 8);
	}
	request->latest = latest;
}

/* -------------------------------------------------------------------- gRPC */

static ssize_t
read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags, nghttp2_data_source *source, void *user)
{
	Stream	   *stream = source->ptr;
	Request    *request = stream->request;
	uint8_t		prefix[5] = {0, (uint8_t) (request->length >> 24), (uint8_t) (request->length >> 16), (uint8_t) (request->length >> 8), (uint8_t) request->length};
	size_t		n = 0;
	size_t		rest;

	while (stream->sent < 5 && n < room)
		to[n++] = prefix[stream->sent++];
	rest = request->length + 5 - stream->sent;
	if (rest > room - n)
		rest = room - n;
	memcpy(to + n, request->body + stream->sent - 5, rest);
	stream->sent += (uint32_t) rest;
	if (stream->sent == request->length + 5)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t) (n + rest);
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length, const uint8_t *value, size_t length, uint8_t flags, void *user)
{
	Stream	   *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (stream == NULL)
		return 0;
	if (name_length == 7 && memcmp(name, ":status", 7) == 0)
		stream->http = atoi((const char *) value);
	else if (name_length == 11 && memcmp(name, "grpc-status", 11) == 0)
		stream->status = atoi((const char *) value);
	else if (name_length == 12 && memcmp(name, "grpc-message", 12) == 0 && first_error[0] == '\0')
		snprintf(first_error, sizeof(first_error), "%.*s", (int) length, value);
	return 0;
}

static int
on_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
	Connection *connection = user;
	Stream	   *stream = nghttp2_session_get_stream_user_data(session, id);

	if (stream == NULL)
		return 0;
	if (error == 0 && stream->http == 200 && stream->status == 0)
		acked_spans += stream->request->spans;
	else if (stream->status == 14 || stream->status == 8)
		refused++;
	else
		failed++;
	stream->request->in_flight = false;
	connection->open--;
	free(stream);
	return 0;
}

static Connection *
connect_to(const char *host, int port)
{
	Connection *connection = calloc(1, sizeof(Connection));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	nghttp2_session_callbacks *callbacks;
	int			one = 1;

	inet_pton(AF_INET, host, &address.sin_addr);
	connection->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(connection->fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("connect");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(connection->fd, F_SETFL, O_NONBLOCK);
	nghttp2_session_callbacks_new(&callbacks);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_session_client_new(&connection->session, callbacks, connection);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, NULL, 0);
	return connection;
}

#define FIELD(name, value) \
	{ (uint8_t *) (name), (uint8_t *) (value), strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE }

/* false: the next request of the file is still in flight */
static bool
submit(Connection *connection)
{
	Request    *request = &requests[next_request];
	Stream	   *stream;
	char		tenant[32];
	nghttp2_nv	fields[] = {FIELD(":method", "POST"), FIELD(":scheme", "http"), FIELD(":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"), FIELD(":authority", "bench"), FIELD("content-type", "application/grpc"), FIELD("te", "trailers"), FIELD("x-scope-orgid", "")};
	nghttp2_data_provider provider = {.read_callback = read_body};

	if (request->in_flight)
		return false;
	renew(request);
	stream = calloc(1, sizeof(Stream));
	stream->request = request;
	stream->status = -1;
	provider.source.ptr = stream;
	snprintf(tenant, sizeof(tenant), "tenant-%d", tenants > 0 ? (int) (sent_requests % (uint64_t) tenants) : 0);
	fields[6].value = (uint8_t *) tenant;
	fields[6].valuelen = strlen(tenant);
	if (nghttp2_submit_request(connection->session, NULL, fields, tenants > 0 ? 7 : 6, &provider, stream) < 0)
		die("nghttp2_submit_request");
	request->in_flight = true;
	connection->open++;
	sent_requests++;
	sent_spans += request->spans;
	if (++next_request == n_requests)
	{
		next_request = 0;
		pass++;
	}
	return true;
}

/* false: the connection has ended */
static bool
work(Connection *connection, short events)
{
	uint8_t		in[65536];
	ssize_t		n;

	while ((events & (POLLIN | POLLHUP | POLLERR)) != 0)
	{
		n = read(connection->fd, in, sizeof(in));
		if (n < 0)
			break;
		if (n == 0 || nghttp2_session_mem_recv(connection->session, in, (size_t) n) < 0)
			return false;
	}
	for (;;)
	{
		while (connection->written < connection->filled)
		{
			n = write(connection->fd, connection->out + connection->written, connection->filled - connection->written);
			if (n < 0)
				return true;
			connection->written += (size_t) n;
		}
		connection->filled = connection->written = 0;
		while (connection->filled < sizeof(connection->out) - 32768)
		{
			const uint8_t *piece;

			n = nghttp2_session_mem_send(connection->session, &piece);
			if (n < 0)
				return false;
			if (n == 0)
				break;
			memcpy(connection->out + connection->filled, piece, (size_t) n);
			connection->filled += (size_t) n;
		}
		if (connection->filled == 0)
			return true;
	}
}

int
main(int argc, char **argv)
{
	Connection *connections[64];
	struct pollfd polled[64];
	int			n;
	int			streams;
	double		rate;
	double		seconds;
	uint64_t	begin;
	uint64_t	last = 0;
	struct rusage before;
	struct rusage usage;
	bool		sending = true;

	if (argc != 9)
	{
		fprintf(stderr, "usage: flood FILE HOST PORT SECONDS CONNECTIONS STREAMS RATE TENANTS\n");
		return 2;
	}
	read_file(argv[1]);
	seconds = atof(argv[4]);
	n = atoi(argv[5]);
	streams = atoi(argv[6]);
	rate = atof(argv[7]);
	tenants = atoi(argv[8]);
	if (n < 1 || n > 64)
		n = 4;
	for (int i = 0; i < n; i++)
		connections[i] = connect_to(argv[2], atoi(argv[3]));
	getrusage(RUSAGE_SELF, &before);
	begin = now(CLOCK_MONOTONIC);
	for (;;)
	{
		int			open = 0;

		last = now(CLOCK_MONOTONIC) - begin;
		sending = (double) last < seconds * 1e9;
		for (int i = 0; i < n; i++)
		{
			while (sending && connections[i]->open < streams && (rate == 0 || (double) sent_spans < rate * (double) last / 1e9))
				if (!submit(connections[i]))
					break;
			if (!work(connections[i], 0))
				die("connection lost");
			open += connections[i]->open;
			polled[i] = (struct pollfd){connections[i]->fd, (short) (POLLIN | (connections[i]->filled > 0 ? POLLOUT : 0)), 0};
		}
		if (!sending && open == 0)
			break;
		if ((double) last > seconds * 1e9 + 60e9)
			die("no answer within a minute");
		poll(polled, (nfds_t) n, rate > 0 ? 2 : 100);
		for (int i = 0; i < n; i++)
			if (polled[i].revents != 0 && !work(connections[i], polled[i].revents))
				die("connection lost");
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"seconds\": %.3f, \"requests\": %llu, \"spans\": %llu, \"acked\": %llu, \"refused\": %llu, \"failed\": %llu, \"cpu\": %.2f, \"error\": \"%s\"}\n", (double) last / 1e9,
		   (unsigned long long) sent_requests, (unsigned long long) sent_spans, (unsigned long long) acked_spans, (unsigned long long) refused, (unsigned long long) failed,
		   (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec) / 1e6, first_error);
	return acked_spans == 0 || failed > 0;
}
