/*-------------------------------------------------------------------------
 *
 * append.h
 *	  Storing and fetching whole batches, below SQL: what the receivers, the
 *	  ingest functions and the API use beside the table access method.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_APPEND_H
#define TEMPO_ACCESS_APPEND_H

#include "postgres.h"

#include "segment/reader.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/*
 * tempo_append_batch: stores a batch as one level-0 segment (several if it
 * exceeds the segment bounds) of "rel" in the current transaction; visible to
 * others when that commits.  "hashes" are the requests inside.  Checks no
 * privileges, fires no triggers and checks no constraints: callers that act
 * for a user do that (tempo_append_allowed).
 */
extern void tempo_append_batch(Relation rel, const SpanBatch *batch,
                               const RequestHash *hashes, uint32 n_hashes);

/*
 * tempo_append_is_plain: has the relation neither triggers nor CHECK
 * constraints, foreign keys, defaults or policies that an append below SQL
 * would miss?  If not, use tempo_insert_batch, which runs an INSERT.
 */
extern bool tempo_append_is_plain(Relation rel);
extern void tempo_insert_batch(Relation rel, const SpanBatch *batch,
                               const RequestHash *hashes, uint32 n_hashes);

/*
 * tempo_read_trace: appends the spans of one trace that the current user may
 * see to "batch", with attribute order and duplicates as sent.  "tenants"
 * restricts to these tenants (n_tenants = 0: any).  Duplicate deliveries (same
 * span id, kind and start) are returned once.  Checks SELECT privilege and
 * honours row security (then it goes through SQL).
 */
extern void tempo_read_trace(Relation rel, const TraceId *trace_id,
                             const SpanText *tenants, uint32 n_tenants, SpanBatch *batch);

/*
 * tempo_recent_request_hashes: calls "callback" for every request hash in the
 * level-0 segments committed since "since" (receivers rebuild their
 * exactly-once table with it at start).
 */
extern void tempo_recent_request_hashes(Relation rel, TimestampTz                                   since,
                                        void (*callback)(const RequestHash *hash, void *arg), void *arg);

/*
 * tempo_spans_relation: OID of tempo.spans, or InvalidOid when the extension
 * is not installed in this database.
 */
extern Oid tempo_spans_relation(void);

#endif /* TEMPO_ACCESS_APPEND_H */
