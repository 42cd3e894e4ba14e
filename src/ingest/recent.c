/*-------------------------------------------------------------------------
 *
 * recent.c
 *	  The requests of the last minutes, so that one sent again is not stored
 *	  again.
 *
 * Exporters repeat a request whose answer they did not get, and cannot know
 * whether it was stored.  Two things make it stored once:
 *
 * - A request in flight is a heavyweight lock on its hash, which the
 *   transaction that stores it holds to its end.  So a repeat can wait for
 *   the outcome, whatever happens to the owner the lock goes with it, and two
 *   transactions that wait for each other are found by the deadlock detector.
 *
 * - A stored request is an entry in shared memory, made when the transaction
 *   has committed and before its locks go, so whoever gets the lock sees it.
 *   After a restart the entries are read from the level-0 segments, which
 *   keep the hashes of their requests.
 *
 * The entries are a ring in the order of their commits, threaded by the
 * chains of a hash table.  When it is full the oldest goes, and the time
 * within which a repeat is noticed becomes shorter.
 *
 * An entry also tells the file of the relation: after TRUNCATE, or when the
 * extension is created anew, nothing has been stored yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <openssl/evp.h>

#include "access/append.h"
#include "access/compat.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "ingest/recent.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/* How long a repeated request is recognised. */
#define RECENT_SECONDS 600

/* Relation files whose segments have been read; more than one only for tests. */
#define RECENT_FILES 16

/* Tells our locks on hashes from what pg_advisory_lock() takes. */
#define RECENT_LOCK_CLASS 0x7470

#define NO_ENTRY PG_UINT32_MAX

#define TRANCHE_NAME "tempo_pg_recent_requests"

typedef struct RecentEntry
{
	RequestHash hash;
	uint32      file;
	uint32      next; /* in its chain */
	TimestampTz at;
} RecentEntry;

typedef struct RecentShared
{
	LWLock *lock;
	uint32  capacity;  /* of entries */
	uint32  n_buckets; /* a power of two */
	uint32  oldest;
	uint32  count;
	uint32  files[RECENT_FILES];
	uint32  next_file;
	uint32  buckets[FLEXIBLE_ARRAY_MEMBER];
	/* entries follow */
} RecentShared;

/* A request that the current transaction is storing. */
typedef struct RecentClaim
{
	slist_node       node;
	RequestHash      hash;
	uint32           file;
	SubTransactionId subid;
} RecentClaim;

static int           recent_requests = 256 * 1024;
static RecentShared *shared;
static slist_head    claims = SLIST_STATIC_INIT(claims);

static shmem_request_hook_type next_shmem_request_hook;
static shmem_startup_hook_type next_shmem_startup_hook;

/* ----------------------------------------------------------- shared memory */

static uint32
bucket_count(void)
{
	uint32 n = 1024;

	while (n < (uint32) recent_requests)
		n *= 2;
	return n;
}

static Size
shared_size(void)
{
	return add_size(MAXALIGN(add_size(offsetof(RecentShared, buckets), mul_size(bucket_count(), sizeof(uint32)))),
	                mul_size(recent_requests, sizeof(RecentEntry)));
}

static inline RecentEntry *
entry_at(uint32 i)
{
	char *entries = (char *) shared + MAXALIGN(offsetof(RecentShared, buckets) +
	                                           (Size) shared->n_buckets * sizeof(uint32));

	return (RecentEntry *) entries + i;
}

static inline uint32 *
bucket_of(const RequestHash *hash)
{
	uint32 word;

	memcpy(&word, hash->bytes, sizeof(word));
	return &shared->buckets[word & (shared->n_buckets - 1)];
}

static void
recent_shmem_request(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	if (recent_requests > 0)
	{
		RequestAddinShmemSpace(shared_size());
		RequestNamedLWLockTranche(TRANCHE_NAME, 1);
	}
}

static void
recent_shmem_startup(void)
{
	bool found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	if (recent_requests == 0)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("tempo_pg recent requests", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, offsetof(RecentShared, buckets));
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		shared->capacity = (uint32) recent_requests;
		shared->n_buckets = bucket_count();
		memset(shared->buckets, 0xFF, (Size) shared->n_buckets * sizeof(uint32));
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Takes the oldest entry out of its chain and the ring. */
static void
forget_oldest(void)
{
	RecentEntry *entry = entry_at(shared->oldest);
	uint32      *link = bucket_of(&entry->hash);

	while (*link != shared->oldest)
		link = &entry_at(*link)->next;
	*link = entry->next;
	shared->oldest = (shared->oldest + 1) % shared->capacity;
	shared->count--;
}

/* Under the lock, shared or exclusive. */
static bool
is_stored(uint32 file, const RequestHash *hash)
{
	TimestampTz since = GetCurrentTimestamp() - RECENT_SECONDS * USECS_PER_SEC;

	for (uint32 i = *bucket_of(hash); i != NO_ENTRY; i = entry_at(i)->next)
	{
		const RecentEntry *entry = entry_at(i);

		if (entry->file == file && memcmp(&entry->hash, hash, sizeof(RequestHash)) == 0)
			return entry->at >= since;
	}
	return false;
}

/* Under the exclusive lock.  Raises nothing: it runs in the middle of a commit. */
static void
add_entry(uint32 file, const RequestHash *hash, TimestampTz now)
{
	RecentEntry *entry;
	uint32      *bucket = bucket_of(hash);
	uint32       at;

	while (shared->count > 0 &&
	       (shared->count == shared->capacity ||
	        entry_at(shared->oldest)->at < now - RECENT_SECONDS * USECS_PER_SEC))
		forget_oldest();
	at = (shared->oldest + shared->count++) % shared->capacity;
	entry = entry_at(at);
	entry->hash = *hash;
	entry->file = file;
	entry->at = now;
	entry->next = *bucket;
	*bucket = at;
}

/* ------------------------------------------------------------ transactions */

static void
recent_xact_callback(XactEvent event, void *arg)
{
	slist_iter  iter;
	TimestampTz now;

	if (slist_is_empty(&claims))
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("cannot prepare a transaction that has stored OTLP requests"),
			         errhint("Use COMMIT.")));
			break;
		case XACT_EVENT_COMMIT:
			now = GetCurrentTimestamp();
			LWLockAcquire(shared->lock, LW_EXCLUSIVE);
			slist_foreach (iter, &claims)
			{
				RecentClaim *claim = slist_container(RecentClaim, node, iter.cur);

				add_entry(claim->file, &claim->hash, now);
			}
			LWLockRelease(shared->lock);
			slist_init(&claims);
			break;
		case XACT_EVENT_ABORT:
			slist_init(&claims);
			break;
		default:
			break;
	}
}

static void
recent_subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	slist_mutable_iter iter;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	slist_foreach_modify (iter, &claims)
	{
		RecentClaim *claim = slist_container(RecentClaim, node, iter.cur);

		if (claim->subid != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			claim->subid = parent;
		else
			slist_delete_current(&iter);
	}
}

void
recent_init(void)
{
	DefineCustomIntVariable("tempo_pg.recent_requests",
	                        "Number of requests of the last ten minutes that are remembered.",
	                        "A remembered request that is sent again is not stored again; each takes about 44 bytes of shared memory.",
	                        &recent_requests, 256 * 1024, 0, 64 * 1024 * 1024,
	                        process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
	                        0, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = recent_shmem_request;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = recent_shmem_startup;
	RegisterXactCallback(recent_xact_callback, NULL);
	RegisterSubXactCallback(recent_subxact_callback, NULL);
}

/* -------------------------------------------------------------------- use */

/*
 * Someone who could make two requests with one hash could make us drop one
 * of them, so the hash is a cryptographic one.
 */
bool
recent_hash(const char *tenant, size_t tenant_len, const char *body, size_t len, RequestHash *hash)
{
	static EVP_MD_CTX *context;
	unsigned char      digest[EVP_MAX_MD_SIZE];
	uint64             length = tenant_len;

	if (context == NULL)
		context = EVP_MD_CTX_new();
	if (context == NULL ||
	    EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(context, &length, sizeof(length)) != 1 ||
	    EVP_DigestUpdate(context, tenant, tenant_len) != 1 ||
	    EVP_DigestUpdate(context, body, len) != 1 ||
	    EVP_DigestFinal_ex(context, digest, NULL) != 1)
		return false;
	memcpy(hash->bytes, digest, sizeof(hash->bytes));
	return true;
}

static uint32
file_of(Relation rel)
{
	return hash_combine(murmurhash32((uint32) rel->rd_locator.dbOid),
	                    murmurhash32((uint32) rel->rd_locator.relNumber));
}

static bool
file_is_known(uint32 file)
{
	for (int i = 0; i < RECENT_FILES; i++)
		if (shared->files[i] == file)
			return true;
	return false;
}

static void
remember_stored(const RequestHash *hash, void *arg)
{
	uint32 file = *(uint32 *) arg;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (!is_stored(file, hash))
		add_entry(file, hash, GetCurrentTimestamp());
	LWLockRelease(shared->lock);
}

/*
 * Reads the hashes of the requests in the segments.  A damaged segment must
 * not stop the receivers: then a repeat may be stored twice, which the log
 * tells.
 */
static void
read_stored(Relation rel, uint32 *file)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		tempo_recent_request_hashes(rel, GetCurrentTimestamp() - RECENT_SECONDS * USECS_PER_SEC,
		                            remember_stored, file);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			ReThrowError(error);
		ereport(WARNING,
		        (errcode(error->sqlerrcode),
		         errmsg("requests that were stored in the last minutes are not all known"),
		         errdetail("%s", error->message),
		         errhint("A request that is sent again may be stored again.")));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

void
recent_prepare(Relation rel)
{
	uint32 file = file_of(rel);
	bool   known;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	known = file_is_known(file);
	LWLockRelease(shared->lock);
	if (known)
		return;
	read_stored(rel, &file);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (!file_is_known(file))
		shared->files[shared->next_file++ % RECENT_FILES] = file;
	LWLockRelease(shared->lock);
}

static bool
is_mine(uint32 file, const RequestHash *hash)
{
	slist_iter iter;

	slist_foreach (iter, &claims)
	{
		RecentClaim *claim = slist_container(RecentClaim, node, iter.cur);

		if (claim->file == file && memcmp(&claim->hash, hash, sizeof(RequestHash)) == 0)
			return true;
	}
	return false;
}

/*
 * What is stored here need not be where synchronous_commit promises that it
 * is: the server, or the process that stored it, may have ended while its
 * commit waited for a standby.  So whoever acknowledges it waits, too.
 */
static void
wait_for_standbys(void)
{
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(GetFlushRecPtr(NULL), true);
	RESUME_INTERRUPTS();
	/* a wait that was ended is no promise */
	CHECK_FOR_INTERRUPTS();
}

RecentState
recent_claim(Relation rel, const RequestHash *hash, bool wait)
{
	uint32       file = file_of(rel);
	uint32       words[2];
	RecentClaim *claim;
	LOCKTAG      tag;
	bool         stored;

	if (shared == NULL)
		return RECENT_NEW;
	if (is_mine(file, hash))
		return RECENT_MINE;
	memcpy(words, hash->bytes, sizeof(words));
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, words[0], words[1], RECENT_LOCK_CLASS);
	if (LockAcquire(&tag, ExclusiveLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return RECENT_BUSY;
	LWLockAcquire(shared->lock, LW_SHARED);
	stored = is_stored(file, hash);
	LWLockRelease(shared->lock);
	if (stored)
	{
		/* nothing is in flight, so others need not wait for us */
		LockRelease(&tag, ExclusiveLock, false);
		wait_for_standbys();
		return RECENT_STORED;
	}
	claim = MemoryContextAlloc(TopTransactionContext, sizeof(RecentClaim));
	claim->hash = *hash;
	claim->file = file;
	claim->subid = GetCurrentSubTransactionId();
	slist_push_head(&claims, &claim->node);
	return RECENT_NEW;
}
