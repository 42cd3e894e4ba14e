/*-------------------------------------------------------------------------
 *
 * cors.h
 *	  What browsers ask before they let a page of another origin talk to us.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_CORS_H
#define TEMPO_WORKER_CORS_H

#include "postgres.h"

#include "net/server.h"

extern void cors_init(void);

/*
 * cors_preflight: true if the request was one (OPTIONS with its headers, while
 * origins are allowed) and has been answered.  "methods" are those that may be
 * allowed, separated by ", ".
 */
/*
 * Do the answers of this process tell what not everybody is to know?  Then "*"
 * does not let pages have them by what a browser knows of its user, which a
 * proxy in front of us may take for a proof.
 */
extern bool cors_answers_are_private;

/* cors_is_foreign: does a web page ask whose origin is not allowed? */
extern bool cors_is_foreign(const NetRequest *request);

extern bool cors_preflight(NetRequest *request, const char *methods);

/* cors_headers: what goes with any other answer; how many, at most CORS_HEADERS */
#define CORS_HEADERS 3
extern int cors_headers(const NetRequest *request, NetHeader *out);

#endif /* TEMPO_WORKER_CORS_H */
