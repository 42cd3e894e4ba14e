/*-------------------------------------------------------------------------
 *
 * recent.h
 *	  The requests of the last minutes, so that one sent again is not stored
 *	  again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_RECENT_H
#define TEMPO_INGEST_RECENT_H

#include "postgres.h"

#include "segment/writer.h"
#include "utils/rel.h"

typedef enum RecentState
{
	RECENT_NEW,    /* not seen: claimed by this transaction */
	RECENT_STORED, /* committed before */
	RECENT_MINE,   /* claimed by this transaction before */
	RECENT_BUSY    /* in flight in another transaction (only without "wait") */
} RecentState;

/* recent_init: setting, shared memory and transaction callbacks */
extern void recent_init(void);

/* recent_hash: what identifies a request; false = the library failed */
extern bool recent_hash(const char *tenant, size_t tenant_len, const char *body, size_t len, RequestHash *hash);

/*
 * recent_prepare: makes sure that the requests that were stored in "rel" before
 * the server started are known; before recent_claim, once a transaction.
 */
extern void recent_prepare(Relation rel);

/*
 * recent_claim: may the request be stored in "rel"?  A claimed request counts
 * as stored when the transaction commits, and the claim is gone with the
 * transaction or subtransaction that made it.  Of a request that another
 * transaction has claimed the outcome is awaited, or RECENT_BUSY returned.
 */
extern RecentState recent_claim(Relation rel, const RequestHash *hash, bool wait);

#endif /* TEMPO_INGEST_RECENT_H */
