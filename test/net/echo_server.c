/*-------------------------------------------------------------------------
 *
 * echo_server.c
 *	  A server on src/net alone, for the transport tests: no PostgreSQL.
 *
 * Usage: echo_server PORT [name=value ...]; names: body, buffered,
 * connections, idle, stall, http1, http2, and of TLS cert, key, ca, tls13.
 * SIGHUP reads the certificate again.  Prints "ready" when it listens.
 * SIGTERM stops it gracefully, SIGINT at once; SIGUSR1 answers what is held.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/server.h"

static NetLoop              *loop;
static NetServer            *server;
static volatile sig_atomic_t stop_signal;
static volatile sig_atomic_t release_signal;
static uint64_t              cancelled;
static uint64_t              held;

/* A request that is answered later. */
typedef struct Later
{
	NetRequest   *request;
	NetTimer     *timer;
	int           left; /* messages of a stream */
	size_t        size;
	struct Later *next;
} Later;

static Later *waiting; /* those without a timer */

static bool
begins(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static void
answer(NetRequest *request, const void *body, size_t len)
{
	const char *type = net_request_header(request, "content-type", NULL);

	if (net_request_is_grpc(request))
		net_respond_grpc(request, 0, NULL, NULL, 0, NULL, 0, body, len);
	else
		net_respond(request, 200, type != NULL ? type : "text/plain", NULL, 0, body, len);
}

static void
wait_no_more(Later *later)
{
	for (Later **link = &waiting; *link != NULL; link = &(*link)->next)
		if (*link == later)
		{
			*link = later->next;
			return;
		}
}

static void
on_cancel(NetRequest *request, void *arg)
{
	Later *later = arg;

	(void) request;
	wait_no_more(later);
	cancelled++;
	held--;
	net_timer_cancel(later->timer);
	free(later);
}

static void
stream_some(void *arg)
{
	Later *later = arg;
	char  *message = calloc(1, later->size + 1);

	later->timer = NULL;
	while (later->left > 0 && net_grpc_pending(later->request) < 1024 * 1024)
	{
		net_grpc_send(later->request, message, later->size);
		later->left--;
	}
	free(message);
	if (later->left > 0)
	{
		later->timer = net_loop_timer(loop, 1, stream_some, later);
		return;
	}
	held--;
	net_grpc_finish(later->request, 0, NULL);
	free(later);
}

static void
answer_later(void *arg)
{
	Later  *later = arg;
	NetText body = net_request_body(later->request);

	held--;
	answer(later->request, body.data, body.len);
	free(later);
}

static Later *
hold(NetRequest *request)
{
	Later *later = calloc(1, sizeof(Later));

	held++;
	later->request = request;
	net_request_on_cancel(request, on_cancel, later);
	return later;
}

static void
statistics(NetRequest *request)
{
	NetStatistics s = net_server_statistics(server);
	char          text[512];

	snprintf(text, sizeof(text),
	         "{\"connections\":%llu,\"accepted\":%llu,\"requests\":%llu,\"buffered\":%llu,"
	         "\"tls_failures\":%llu,\"refused\":%llu,\"cancelled\":%llu,\"held\":%llu}",
	         (unsigned long long) s.connections, (unsigned long long) s.accepted,
	         (unsigned long long) s.requests, (unsigned long long) s.buffered,
	         (unsigned long long) s.tls_failures, (unsigned long long) s.refused, (unsigned long long) cancelled, (unsigned long long) held);
	net_respond(request, 200, "application/json", NULL, 0, text, strlen(text));
}

static void
add_line(const char *name, const char *value, void *arg)
{
	char  *text = arg;
	size_t n = strlen(text);

	snprintf(text + n, 8192 - n, "%s: %s\n", name, value);
}

static void
describe(NetRequest *request)
{
	char text[8192];

	snprintf(text, sizeof(text), "%s %s ? %s\n", net_request_method(request),
	         net_request_path(request), net_request_query(request));
	net_request_each_header(request, add_line, text);
	net_respond(request, 200, "text/plain", NULL, 0, text, strlen(text));
}

static void
handle(NetRequest *request, void *arg)
{
	const char *path = net_request_path(request);
	NetText     body = net_request_body(request);
	NetHeader   extra = {"x-extra", "yes"};
	char        text[32];

	(void) arg;
	if (strcmp(path, "/stats") == 0)
		statistics(request);
	else if (strcmp(path, "/describe") == 0)
		describe(request);
	else if (begins(path, "/big/"))
	{
		size_t len = strtoul(path + 5, NULL, 10);
		char  *data = malloc(len + 1);

		memset(data, 'x', len);
		net_respond(request, 200, "text/plain", &extra, 1, data, len);
		free(data);
	}
	else if (begins(path, "/delay/"))
	{
		Later *later = hold(request);

		later->timer = net_loop_timer(loop, strtoul(path + 7, NULL, 10), answer_later, later);
	}
	else if (strcmp(path, "/hold") == 0 || strcmp(path, "/test.Echo/Hold") == 0)
	{
		Later *later = hold(request);

		later->next = waiting;
		waiting = later;
	}
	else if (strcmp(path, "/test.Echo/Delay") == 0)
	{
		Later *later = hold(request);

		later->timer = net_loop_timer(loop, 50, answer_later, later);
	}
	else if (strcmp(path, "/test.Echo/Stream") == 0)
	{
		/* "count size" in the message */
		Later *later = hold(request);

		snprintf(text, sizeof(text), "%.*s", (int) body.len, body.data);
		if (sscanf(text, "%d %zu", &later->left, &later->size) != 2)
			later->left = 0;
		stream_some(later);
	}
	else if (strcmp(path, "/test.Echo/Fail") == 0)
		net_respond_grpc(request, 8, "100% \xC3\xA4\n", "\x08\x08\x12\x01x", 5, &extra, 1, NULL, 0);
	else if (strcmp(path, "/test.Echo/Keep") == 0)
	{
		size_t len = body.len;
		char  *kept = net_request_keep_body(request);

		answer(request, kept, len);
		free(kept);
	}
	else if (strcmp(path, "/discard") == 0 || strcmp(path, "/test.Echo/Discard") == 0)
	{
		snprintf(text, sizeof(text), "%zu", body.len);
		answer(request, text, strlen(text));
	}
	else
		answer(request, body.data, body.len);
}

static void
check(NetRequest *request, void *arg)
{
	const char *path = net_request_path(request);

	(void) arg;
	if (net_request_is_grpc(request))
	{
		if (!begins(path, "/test.Echo/"))
			net_respond_grpc(request, 12, "unknown service", NULL, 0, NULL, 0, NULL, 0);
	}
	else if (begins(path, "/missing"))
		net_respond(request, 404, "text/plain", NULL, 0, "not here\n", 9);
}

static void
release(void)
{
	while (waiting != NULL)
	{
		Later *later = waiting;

		waiting = later->next;
		answer_later(later);
	}
}

static void
on_signal(int signal_number)
{
	stop_signal = signal_number;
}

static void
on_release(int signal_number)
{
	release_signal = signal_number;
}

static const char *
text_option(int argc, char **argv, const char *name)
{
	size_t len = strlen(name);

	for (int i = 2; i < argc; i++)
		if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=')
			return argv[i] + len + 1;
	return NULL;
}

static size_t
option(int argc, char **argv, const char *name, size_t otherwise)
{
	size_t len = strlen(name);

	for (int i = 2; i < argc; i++)
		if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=')
			return strtoul(argv[i] + len + 1, NULL, 10);
	return otherwise;
}

int
main(int argc, char **argv)
{
	NetServerOptions options = {
		.listen_addresses = "localhost", .reuse_port = true, .handler = handle, .check = check};
	NetTlsOptions tls = {0};
	char          message[512];
	bool          stopped = false;

	if (argc < 2)
		return 2;
	options.port = atoi(argv[1]);
	options.http1 = option(argc, argv, "http1", 1);
	options.http2 = option(argc, argv, "http2", 1);
	options.max_body = option(argc, argv, "body", 4 * 1024 * 1024);
	options.max_buffered = option(argc, argv, "buffered", 256 * 1024 * 1024);
	options.max_connections = option(argc, argv, "connections", 1000);
	options.idle_timeout_ms = option(argc, argv, "idle", 60000);
	options.stall_timeout_ms = option(argc, argv, "stall", 0);
	tls.cert_file = text_option(argc, argv, "cert");
	tls.key_file = text_option(argc, argv, "key");
	tls.client_ca_file = text_option(argc, argv, "ca");
	tls.tls13_only = option(argc, argv, "tls13", 0);
	if (tls.cert_file != NULL && (options.tls = net_tls_create(&tls, message, sizeof(message))) == NULL)
	{
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	signal(SIGHUP, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGUSR1, on_release);
	loop = net_loop_create();
	server = net_server_start(loop, &options, message, sizeof(message));
	net_tls_free(options.tls);
	if (server == NULL)
	{
		fprintf(stderr, "%s\n", message);
		net_loop_destroy(loop);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
	{
		struct pollfd wait = {net_loop_fd(loop), POLLIN, 0};
		int           timeout = net_loop_timeout(loop);

		if (stop_signal == SIGHUP)
		{
			NetTls *now = net_tls_create(&tls, message, sizeof(message));

			stop_signal = 0;
			if (now != NULL)
				net_server_set_tls(server, now);
			net_tls_free(now);
			puts(now != NULL ? "reloaded" : message);
			fflush(stdout);
		}
		if (release_signal != 0)
		{
			release_signal = 0;
			release();
		}
		if (stop_signal != 0 && !stopped)
		{
			stopped = true;
			net_server_stop(server, stop_signal == SIGTERM);
			continue;
		}
		if (stopped && net_server_idle(server))
			break;
		/* a signal may come between the look and the wait */
		poll(&wait, 1, timeout < 0 || timeout > 200 ? 200 : timeout);
		net_loop_run(loop);
	}
	net_server_destroy(server);
	net_loop_destroy(loop);
	return 0;
}
