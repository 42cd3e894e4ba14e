/*-------------------------------------------------------------------------
 *
 * query.h
 *	  What the gateway and its query workers say to each other.
 *
 * A worker handles one request at a time.  The answer to QUERY_RUN is a
 * QUERY_HEAD, any number of QUERY_BODY and a QUERY_DONE; to QUERY_PING just
 * QUERY_DONE; QUERY_STATISTICS is answered like QUERY_RUN; or QUERY_UNAVAILABLE
 * to any of them.  To QUERY_STREAM each QUERY_BODY is one message, if the head
 * has status 200, and the text of an error otherwise.  Before the head
 * there may be QUERY_PARTIALs, messages that the gateway may also leave out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_QUERY_H
#define TEMPO_WORKER_QUERY_H

#include "postgres.h"

typedef enum QueryMessage
{
	/* to the worker */
	/*
	 * tempo_pg.authentication as a number, method, path, query, accept,
	 * accept-encoding, tenant, if-match, authorization: "+text" or "-", NUL
	 * behind each; then the body
	 */
	QUERY_RUN = 1,
	QUERY_STREAM,     /* the same of a streaming query */
	QUERY_PING,       /* could a request be run? */
	QUERY_STATISTICS, /* what is stored, as Prometheus text */
	QUERY_CANCEL,     /* the client has gone */

	/* from the worker */
	QUERY_READY, /* connected to the database; of no request */
	/* QueryHead, then content type, location, endpoint, ETag, Allow and Mcp-Session-Id in the same form */
	QUERY_HEAD,
	QUERY_BODY,    /* bytes */
	QUERY_PARTIAL, /* a message of a stream: what a query that still runs has found */
	QUERY_DONE,
	QUERY_UNAVAILABLE, /* reason and hint, NUL behind each */
	QUERY_LAST_WORDS   /* the error that ends the worker; of no request */
} QueryMessage;

typedef struct QueryHead
{
	int32 status;
	bool  nosniff;
	bool  vary;
	bool  gzip;
	bool  rejected; /* authentication failed */
} QueryHead;

#endif /* TEMPO_WORKER_QUERY_H */
