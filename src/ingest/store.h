/*-------------------------------------------------------------------------
 *
 * store.h
 *	  Requests into tempo.spans, each exactly once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_STORE_H
#define TEMPO_INGEST_STORE_H

#include "postgres.h"

#include "ingest/decode.h"
#include "ingest/statistics.h"
#include "segment/writer.h"
#include "utils/rel.h"

typedef enum StoreOutcome
{
	STORE_APPENDED, /* stored if the transaction commits */
	STORE_NOTHING,  /* right, but there is nothing to store */
	STORE_REPEATED, /* committed before, or in this transaction */
	STORE_BUSY,     /* in flight elsewhere: ask again later */
	STORE_LIMITED,  /* more than the tenant may send now; see "error" */
	STORE_REFUSED   /* see "error" */
} StoreOutcome;

typedef struct StoreRequest
{
	SpanText    tenant;
	const char *body; /* must outlive the batch */
	size_t      len;
	WireFormat  format;
	RequestHash hash; /* recent_hash() */

	/*
	 * Of a request from outside: has it been found to be within what the tenant
	 * may send?  It is asked once, however often it is tried.  NULL = do not ask.
	 */
	bool *admitted;

	StoreOutcome outcome;
	DecodeResult result;
	SpanError    error;
} StoreRequest;

/*
 * store_requests: decodes the requests into "batch", one after the other, and
 * appends what is new of them to "rel", all in the current transaction and as
 * the current user, whose privileges are the caller's concern.  "wait" tells
 * whether to wait for a request that is in flight elsewhere.  A request that
 * is refused leaves nothing behind and does not touch the others.
 */
extern void store_requests(Relation rel, StoreRequest *requests, int n_requests, bool wait, SpanBatch *batch);

/*
 * store_parts: the same for one request in many parts, which are all stored or
 * none, and repeated when "hash" says so.  False: one part was refused, and
 * the parts before it are in the batch.
 */
extern bool store_parts(Relation rel, StoreRequest *parts, int n_parts, const RequestHash *hash,
                        SpanBatch *batch);

/* store_count: adds the outcome to the statistics; after the commit */
extern void store_count(const StoreRequest *request);

/* store_init: defines tempo_pg.reject_whole_batch */
extern void store_init(void);

#endif /* TEMPO_INGEST_STORE_H */
