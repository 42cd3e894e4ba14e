/*-------------------------------------------------------------------------
 *
 * api.h
 *	  The Tempo query API as functions: a request in, an answer out.
 *
 * tempo.api() in SQL and the query workers call api_begin(), read the head of
 * the answer and take its body piece by piece.  The gateway, which has no
 * database, calls api_begin_local() first and answers what needs none: health,
 * version, wrong paths, missing tenants.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_API_H
#define TEMPO_API_API_H

#include "postgres.h"

#include "api/body.h"

typedef struct ApiRequest
{
	const char *method;
	const char *path;   /* percent-encoded */
	const char *query;  /* after '?', percent-encoded; "" if none */
	const char *accept; /* headers, NULL if absent */
	const char *tenant; /* X-Scope-OrgID */
	const char *if_match;
	const char *body; /* NULL if there is none */
	Size        body_len;
	bool        stream; /* a gRPC call: the answer is a message whatever the endpoint */

	/*
	 * For a gRPC call, optional: takes messages of the stream that are known
	 * while the query runs.
	 */
	void (*partial)(void *arg, const char *data, Size len);
	void *partial_arg;
} ApiRequest;

typedef struct ApiResponse
{
	int         status;
	const char *content_type; /* NULL = no such header */
	bool        nosniff;      /* X-Content-Type-Options: nosniff */
	bool        vary;         /* Vary: Accept-Encoding */
	bool        gzip;         /* Content-Encoding: gzip */
	const char *location;     /* of a redirection */
	const char *etag;
	const char *allow;    /* methods, of 405 */
	const char *session;  /* Mcp-Session-Id */
	const char *endpoint; /* a name for statistics */
	ApiBody    *body;
} ApiResponse;

/*
 * api_begin: answers a request in the current transaction.  Whatever goes
 * wrong becomes a status, but cancellation and termination are raised.
 * Everything is allocated in CurrentMemoryContext.
 */
extern ApiResponse *api_begin(const ApiRequest *request);

/*
 * The same in steps, for who gives each attempt a transaction of its own:
 * api_serve raises what goes wrong; after the transaction has been given up,
 * api_failed tells whether to serve again, in a new one, or has made an answer
 * of the error.
 */
typedef struct ApiCall ApiCall;

extern ApiCall     *api_open(const ApiRequest *request);
extern void         api_serve(ApiCall *call);
extern bool         api_failed(ApiCall *call, const ErrorData *error, bool new_transaction);
extern ApiResponse *api_response(ApiCall *call);

/* api_writes: does the call change the database?  Needs tempo_admin's rights then. */
extern bool api_writes(const ApiCall *call);

/* api_begin_local: the same without a database; NULL if it takes one */
extern ApiResponse *api_begin_local(const ApiRequest *request);

/* api_next: the next piece of the body; false at its end */
extern bool api_next(ApiResponse *response, const char **data, Size *len);

/* The time limit of a request in milliseconds, for who sets it. */
extern int tempo_query_timeout;

/*
 * What the process that listens knows and a database session does not.  The
 * gateway sets these; without them /ready is always ready and /metrics says
 * nothing of processes.
 */
typedef struct ApiHooks
{
	void (*metrics)(ApiBody *body);
} ApiHooks;

extern ApiHooks api_hooks;

extern void api_init(void); /* from _PG_init */

/*
 * api_printable: makes what a client sent fit for the log and for
 * pg_stat_activity, where a byte that is no text in the encoding of the server
 * is an error of whoever reads it.  In place; returns the text.
 */
extern char *api_printable(char *text);

#endif /* TEMPO_API_API_H */
