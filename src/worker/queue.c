/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  A pair of shm_mqs between a listening process and one worker.
 *
 * shm_mq moves byte strings through a ring and copies what wraps around into
 * a buffer that it never gives back.  So that a 64 MB request does not pin
 * 64 MB in every process for good, a message travels as a header with a first
 * fragment and as many further fragments as it takes; only the receiver puts
 * them together, in memory that lives until its next receive.  There is one
 * sender a queue and it finishes a message before it starts another, so
 * fragments never interleave.
 *
 * What a non-blocking shm_mq_sendv could not finish must be offered again,
 * byte for byte.  Hence every message is copied into a list first and leaves
 * it only when it has been sent whole, also on the worker's side: there an
 * interrupt may raise in the middle of a reply, and the next reply goes on
 * with what is left of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"

#include <signal.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "worker/queue.h"

#define QUEUE_MAGIC 0x74707175
#define QUEUE_FRAGMENT (32 * 1024)

/* Each queue in the segment starts at a multiple of this. */
#define QUEUE_ALIGN(size) TYPEALIGN(64, (size))

/* What the segment starts with; the two queues follow. */
typedef struct QueueShared
{
	uint32 magic;
	uint32 fragment;
	Size   queue_size;
} QueueShared;

/* What a message starts with on the wire. */
typedef struct QueueHeader
{
	uint64 request_id;
	uint64 len;
	uint32 type;
	uint32 unused;
} QueueHeader;

typedef struct QueueItem
{
	dlist_node  node;
	QueueHeader header;
	Size        sent;    /* payload bytes in fragments sent whole */
	bool        started; /* is the first fragment, with the header, sent? */
	char       *body;    /* what follows the payload; malloc'd, or NULL */
	Size        len;     /* of the payload */
	char        payload[FLEXIBLE_ARRAY_MEMBER];
} QueueItem;

struct WorkerQueue
{
	dsm_segment            *segment;
	shm_mq_handle          *in;
	shm_mq_handle          *out;
	BackgroundWorkerHandle *worker; /* the listening side only */
	Size                    fragment;
	bool                    detached; /* the other side has gone */

	dlist_head pending; /* QueueItems in the order they were sent */
	Size       pending_bytes;

	/* A message that came in fragments. */
	QueueHeader header;
	char       *assembly;
	Size        assembled;
	bool        assembling;
};

static shm_mq *
shared_queue(QueueShared *shared, int which)
{
	return (shm_mq *) ((char *) shared + QUEUE_ALIGN(sizeof(QueueShared)) +
	                   which * QUEUE_ALIGN(shared->queue_size));
}

static WorkerQueue *
queue_allocate(dsm_segment *segment)
{
	WorkerQueue *queue = MemoryContextAllocZero(TopMemoryContext, sizeof(WorkerQueue));

	queue->segment = segment;
	dlist_init(&queue->pending);
	return queue;
}

static void
free_item(QueueItem *item)
{
	free(item->body);
	pfree(item);
}

/* ------------------------------------------------ the listening side */

/*
 * The part of queue_launch that may raise: "no shared memory" is an error in
 * dsm_create, and an error ends a process without a transaction.
 */
static WorkerQueue *
launch(const char *function, const char *name, const char *type, Size queue_size,
       const char **reason)
{
	BackgroundWorker        worker;
	BackgroundWorkerHandle *handle;
	WorkerQueue            *queue;
	QueueShared            *shared;
	dsm_segment            *segment;
	shm_mq                 *to_worker;
	shm_mq                 *from_worker;

	queue_size = Max(MAXALIGN(queue_size), (Size) 4096);
	segment = dsm_create(QUEUE_ALIGN(sizeof(QueueShared)) + 2 * QUEUE_ALIGN(queue_size),
	                     DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment == NULL)
	{
		*reason = "no dynamic shared memory segment is free";
		return NULL;
	}

	shared = dsm_segment_address(segment);
	shared->magic = QUEUE_MAGIC;
	shared->queue_size = queue_size;
	shared->fragment = Min(QUEUE_FRAGMENT, queue_size / 4);
	to_worker = shm_mq_create(shared_queue(shared, 0), queue_size);
	from_worker = shm_mq_create(shared_queue(shared, 1), queue_size);
	shm_mq_set_sender(to_worker, MyProc);
	shm_mq_set_receiver(from_worker, MyProc);

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "tempo_pg", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		dsm_detach(segment);
		*reason = "no background worker slot is free (max_worker_processes is too small)";
		return NULL;
	}

	queue = queue_allocate(segment);
	queue->worker = handle;
	queue->fragment = shared->fragment;
	queue->out = shm_mq_attach(to_worker, segment, handle);
	queue->in = shm_mq_attach(from_worker, segment, handle);
	return queue;
}

WorkerQueue *
queue_launch(const char *function, const char *name, const char *type, Size queue_size,
             const char **reason)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	WorkerQueue *volatile queue = NULL;

	PG_TRY();
	{
		queue = launch(function, name, type, queue_size, reason);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		LWLockReleaseAll();
		EmitErrorReport();
		FlushErrorState();
		*reason = "no shared memory for the queue of a background worker";
	}
	PG_END_TRY();

	MemoryContextSwitchTo(old);
	return queue;
}

bool
queue_alive(WorkerQueue *queue)
{
	pid_t pid;

	return !queue->detached &&
	       GetBackgroundWorkerPid(queue->worker, &pid) != BGWH_STOPPED;
}

void
queue_cancel(WorkerQueue *queue)
{
	pid_t pid;

	if (GetBackgroundWorkerPid(queue->worker, &pid) == BGWH_STARTED)
		kill(pid, SIGINT);
}

void
queue_destroy(WorkerQueue *queue)
{
	dlist_mutable_iter iter;

	shm_mq_detach(queue->in);
	shm_mq_detach(queue->out);
	dsm_detach(queue->segment);
	dlist_foreach_modify (iter, &queue->pending)
		free_item(dlist_container(QueueItem, node, iter.cur));
	if (queue->assembly)
		pfree(queue->assembly);
	pfree(queue->worker);
	pfree(queue);
}

/* --------------------------------------------------------- both sides */

void
queue_send(WorkerQueue *queue, uint64 request_id, uint32 type, const void *payload, Size len)
{
	queue_send_body(queue, request_id, type, payload, len, NULL, 0);
}

void
queue_send_body(WorkerQueue *queue, uint64 request_id, uint32 type, const void *payload, Size len,
                char *body, Size body_len)
{
	QueueItem *item;

	if (queue->detached)
	{
		free(body);
		return;
	}

	item = MemoryContextAllocHuge(TopMemoryContext, offsetof(QueueItem, payload) + len);
	memset(&item->header, 0, sizeof(QueueHeader));
	item->header.request_id = request_id;
	item->header.type = type;
	item->header.len = len + body_len;
	item->len = len;
	item->body = body;
	item->sent = 0;
	item->started = false;
	if (len > 0)
		memcpy(item->payload, payload, len);
	dlist_push_tail(&queue->pending, &item->node);
	queue->pending_bytes += item->header.len + sizeof(QueueHeader);
	queue_flush(queue);
}

/*
 * Offers the next fragment of a message.  True when the queue took it, whole.
 */
static bool
send_fragment(WorkerQueue *queue, QueueItem *item)
{
	shm_mq_iovec iov[3];
	int          n = 0;
	Size         len = Min(item->header.len - item->sent, queue->fragment);
	Size         of_payload = item->sent < item->len ? Min(item->len - item->sent, len) : 0;

	if (!item->started)
	{
		iov[n].data = (char *) &item->header;
		iov[n++].len = sizeof(QueueHeader);
	}
	if (of_payload > 0)
	{
		iov[n].data = item->payload + item->sent;
		iov[n++].len = of_payload;
	}
	if (len > of_payload)
	{
		iov[n].data = item->body + (item->sent + of_payload - item->len);
		iov[n++].len = len - of_payload;
	}

	switch (shm_mq_sendv(queue->out, iov, n, true, true))
	{
		case SHM_MQ_SUCCESS:
			item->started = true;
			item->sent += len;
			return true;
		case SHM_MQ_WOULD_BLOCK:
			return false;
		case SHM_MQ_DETACHED:
			queue->detached = true;
			return false;
	}
	return false;
}

void
queue_flush(WorkerQueue *queue)
{
	while (!queue->detached && !dlist_is_empty(&queue->pending))
	{
		QueueItem *item = dlist_head_element(QueueItem, node, &queue->pending);

		if (!send_fragment(queue, item))
			break;
		if (item->sent == item->header.len)
		{
			dlist_delete(&item->node);
			queue->pending_bytes -= item->header.len + sizeof(QueueHeader);
			free_item(item);
		}
	}
}

Size
queue_pending(const WorkerQueue *queue)
{
	return queue->pending_bytes;
}

/* Hands out the message that has been put together. */
static void
deliver(WorkerQueue *queue, QueueMessage *message, const char *payload)
{
	message->request_id = queue->header.request_id;
	message->type = queue->header.type;
	message->payload = payload;
	message->len = queue->header.len;
	queue->assembling = false;
}

bool
queue_receive(WorkerQueue *queue, QueueMessage *message)
{
	void *data;
	Size  len;

	/* The last message is no longer needed. */
	if (queue->assembly && !queue->assembling)
	{
		pfree(queue->assembly);
		queue->assembly = NULL;
	}

	for (;;)
	{
		shm_mq_result result = shm_mq_receive(queue->in, &len, &data, true);

		if (result == SHM_MQ_DETACHED)
			queue->detached = true;
		if (result != SHM_MQ_SUCCESS)
			return false;

		if (!queue->assembling)
		{
			if (len < sizeof(QueueHeader))
				elog(ERROR, "message of %zu bytes in a worker queue has no header", len);
			memcpy(&queue->header, data, sizeof(QueueHeader));
			data = (char *) data + sizeof(QueueHeader);
			len -= sizeof(QueueHeader);
			if (len >= queue->header.len)
			{
				deliver(queue, message, data);
				return true;
			}
			queue->assembly = MemoryContextAllocHuge(TopMemoryContext, queue->header.len);
			queue->assembled = 0;
			queue->assembling = true;
		}

		if (len > queue->header.len - queue->assembled)
			elog(ERROR, "message in a worker queue is longer than announced");
		memcpy(queue->assembly + queue->assembled, data, len);
		queue->assembled += len;
		if (queue->assembled == queue->header.len)
		{
			deliver(queue, message, queue->assembly);
			return true;
		}
	}
}

char *
queue_keep(WorkerQueue *queue)
{
	char *payload = queue->assembly;

	if (queue->assembling)
		return NULL;
	queue->assembly = NULL;
	return payload;
}

/* ---------------------------------------------------- the worker side */

WorkerQueue *
queue_attach(Datum main_arg)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	dsm_segment  *segment;
	QueueShared  *shared;
	WorkerQueue  *queue;

	/* The listening side may have given up before this process got to run. */
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		proc_exit(0);
	if (CurrentResourceOwner != NULL)
		dsm_pin_mapping(segment);

	shared = dsm_segment_address(segment);
	if (shared->magic != QUEUE_MAGIC)
		elog(ERROR, "shared memory segment is not a worker queue");

	shm_mq_set_receiver(shared_queue(shared, 0), MyProc);
	shm_mq_set_sender(shared_queue(shared, 1), MyProc);
	queue = queue_allocate(segment);
	queue->fragment = shared->fragment;
	queue->in = shm_mq_attach(shared_queue(shared, 0), segment, NULL);
	queue->out = shm_mq_attach(shared_queue(shared, 1), segment, NULL);

	MemoryContextSwitchTo(old);
	return queue;
}

bool
queue_closed(WorkerQueue *queue)
{
	return queue->detached;
}

/*
 * A cancel request must not leave half a reply in the queue while the next
 * one starts, so it is held back until this one is through; termination and
 * whatever else raises is let in, the list of pending messages survives it.
 */
bool
queue_reply(WorkerQueue *queue, uint64 request_id, uint32 type, const void *payload, Size len)
{
	queue_send(queue, request_id, type, payload, len);

	if (queue_pending(queue) > 0 && !queue->detached)
	{
		HOLD_CANCEL_INTERRUPTS();
		for (;;)
		{
			queue_flush(queue);
			if (queue->detached || queue_pending(queue) == 0)
				break;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L,
			                 WAIT_EVENT_MESSAGE_QUEUE_SEND);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		RESUME_CANCEL_INTERRUPTS();
	}
	return !queue->detached;
}
