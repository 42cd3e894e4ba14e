/*-------------------------------------------------------------------------
 *
 * authenticate.h
 *	  Which role an Authorization header stands for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_AUTHENTICATE_H
#define TEMPO_WORKER_AUTHENTICATE_H

#include "postgres.h"

/*
 * authentication_needed: "demanded" is tempo_pg.authentication as the process
 * saw it that took the request.
 */
extern bool authentication_needed(int demanded);

/*
 * authenticate: in a transaction, as a user that may read everything.
 * InvalidOid if the header (NULL = none) proves no role; the log says why.
 */
extern Oid authenticate(const char *header, int demanded);

#endif /* TEMPO_WORKER_AUTHENTICATE_H */
