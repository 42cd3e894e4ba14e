/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The event loop: a libuv loop that somebody else's loop waits on.
 *
 * libuv is used for descriptors and timers only.  Reading and writing is done
 * with recv and send, because libuv's streams write without MSG_NOSIGNAL; the
 * thread pool is never started.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct NetTimer
{
	uv_timer_t handle;
	void (*callback)(void *arg);
	void *arg;
};

struct NetWatch
{
	uv_poll_t        handle;
	NetWatchCallback callback;
	void            *arg;
};

static void
free_handle_data(uv_handle_t *handle)
{
	free(handle->data);
}

/* ---------------------------------------------------------------- pending */

void
net_pending_init(NetPending *pending, void (*run)(NetPending *pending))
{
	net_list_init(&pending->node);
	pending->run = run;
}

void
net_pending_add(NetLoop *loop, NetPending *pending)
{
	if (!net_list_empty(&pending->node))
		return;
	if (net_list_empty(&loop->pending) && !loop->running)
		uv_async_send(&loop->wake);
	net_list_push(&loop->pending, &pending->node);
}

void
net_pending_remove(NetPending *pending)
{
	net_list_remove(&pending->node);
}

/* run_pending: what is added meanwhile is for the next call, or a peer could keep us here */
static void
run_pending(NetLoop *loop)
{
	NetNode now;

	if (net_list_empty(&loop->pending))
		return;
	now = loop->pending;
	now.next->prev = now.prev->next = &now;
	net_list_init(&loop->pending);
	while (!net_list_empty(&now))
	{
		NetPending *pending = net_container(NetPending, node, now.next);

		net_list_remove(&pending->node);
		pending->run(pending);
	}
}

/* ----------------------------------------------------------------- linger */

#define LINGER_MS 5000
#define LINGER_BYTES (64 * 1024 * 1024)

typedef struct Linger
{
	NetNode   node;
	NetLoop  *loop;
	NetWatch *watch;
	NetTimer *timer;
	int       fd;
	size_t    read;
} Linger;

static void
linger_end(Linger *linger)
{
	net_list_remove(&linger->node);
	net_timer_cancel(linger->timer);
	net_watch_close(linger->watch);
	close(linger->fd);
	free(linger);
}

static void
linger_timeout(void *arg)
{
	Linger *linger = arg;

	linger->timer = NULL;
	linger_end(linger);
}

static void
linger_readable(void *arg, int status, int events)
{
	Linger *linger = arg;
	ssize_t n;

	(void) events;
	n = status < 0 ? 0 : recv(linger->fd, linger->loop->scratch, NET_SCRATCH_BYTES, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		linger->read += n;
	if (n <= 0 || linger->read > LINGER_BYTES)
		linger_end(linger);
}

void
net_linger(NetLoop *loop, int fd)
{
	Linger *linger = calloc(1, sizeof(Linger));

	shutdown(fd, SHUT_WR);
	if (linger != NULL)
	{
		linger->loop = loop;
		linger->fd = fd;
		net_list_push(&loop->lingering, &linger->node);
		linger->watch = net_watch_create(loop, fd, linger_readable, linger);
		if (linger->watch != NULL && net_watch_set(linger->watch, UV_READABLE))
			linger->timer = net_loop_timer(loop, LINGER_MS, linger_timeout, linger);
		if (linger->timer != NULL)
			return;
		linger_end(linger);
	}
	else
		close(fd);
}

/* ------------------------------------------------------------------- loop */

static void
on_wake(uv_async_t *handle)
{
	/* net_loop_run looks at the list itself */
	(void) handle;
}

NetLoop *
net_loop_create(void)
{
	NetLoop *loop = calloc(1, sizeof(NetLoop));

	if (loop == NULL)
		return NULL;
	net_list_init(&loop->pending);
	net_list_init(&loop->lingering);
	loop->scratch = malloc(NET_SCRATCH_BYTES);
	if (loop->scratch == NULL || uv_loop_init(&loop->uv) != 0)
	{
		free(loop->scratch);
		free(loop);
		return NULL;
	}
	if (uv_async_init(&loop->uv, &loop->wake, on_wake) != 0)
	{
		uv_loop_close(&loop->uv);
		free(loop->scratch);
		free(loop);
		return NULL;
	}
	loop->wake.data = NULL;
	/* alone it is no reason to wait */
	uv_unref((uv_handle_t *) &loop->wake);
	/* libuv registers descriptors with the kernel when it runs */
	uv_run(&loop->uv, UV_RUN_NOWAIT);
	return loop;
}

static void
close_any(uv_handle_t *handle, void *arg)
{
	(void) arg;
	if (!uv_is_closing(handle))
		uv_close(handle, handle->data != NULL ? free_handle_data : NULL);
}

void
net_loop_destroy(NetLoop *loop)
{
	if (loop == NULL)
		return;
	while (!net_list_empty(&loop->lingering))
		linger_end(net_container(Linger, node, loop->lingering.next));
	uv_walk(&loop->uv, close_any, NULL);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
	free(loop->scratch);
	free(loop);
}

int
net_loop_fd(NetLoop *loop)
{
	return uv_backend_fd(&loop->uv);
}

int
net_loop_timeout(NetLoop *loop)
{
	if (!net_list_empty(&loop->pending))
		return 0;
	/* libuv says 0 for a loop without anything in it */
	if (!uv_loop_alive(&loop->uv))
		return -1;
	uv_update_time(&loop->uv);
	return uv_backend_timeout(&loop->uv);
}

void
net_loop_run(NetLoop *loop)
{
	loop->running = true;
	run_pending(loop);
	uv_run(&loop->uv, UV_RUN_NOWAIT);
	run_pending(loop);
	loop->running = false;
	if (!net_list_empty(&loop->pending))
		uv_async_send(&loop->wake);
}

/* ----------------------------------------------------------------- timers */

static void
on_timer(uv_timer_t *handle)
{
	NetTimer *timer = handle->data;
	void (*callback)(void *arg) = timer->callback;
	void *arg = timer->arg;

	uv_close((uv_handle_t *) handle, free_handle_data);
	callback(arg);
}

NetTimer *
net_loop_timer(NetLoop *loop, uint64_t ms, void (*callback)(void *arg), void *arg)
{
	NetTimer *timer = calloc(1, sizeof(NetTimer));

	if (timer == NULL)
		return NULL;
	timer->callback = callback;
	timer->arg = arg;
	uv_timer_init(&loop->uv, &timer->handle);
	timer->handle.data = timer;
	if (!loop->running)
		uv_update_time(&loop->uv);
	uv_timer_start(&timer->handle, on_timer, ms, 0);
	return timer;
}

void
net_timer_cancel(NetTimer *timer)
{
	if (timer != NULL)
		uv_close((uv_handle_t *) &timer->handle, free_handle_data);
}

/* ---------------------------------------------------------------- watches */

static void
on_poll(uv_poll_t *handle, int status, int events)
{
	NetWatch *watch = handle->data;

	watch->callback(watch->arg, status, events);
}

NetWatch *
net_watch_create(NetLoop *loop, int fd, NetWatchCallback callback, void *arg)
{
	NetWatch *watch = calloc(1, sizeof(NetWatch));

	if (watch == NULL)
		return NULL;
	watch->callback = callback;
	watch->arg = arg;
	if (uv_poll_init(&loop->uv, &watch->handle, fd) != 0)
	{
		free(watch);
		return NULL;
	}
	watch->handle.data = watch;
	return watch;
}

bool
net_watch_set(NetWatch *watch, int events)
{
	if (events == 0)
		return uv_poll_stop(&watch->handle) == 0;
	return uv_poll_start(&watch->handle, events, on_poll) == 0;
}

void
net_watch_close(NetWatch *watch)
{
	if (watch != NULL)
		uv_close((uv_handle_t *) &watch->handle, free_handle_data);
}
