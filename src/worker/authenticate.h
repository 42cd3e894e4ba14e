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
 * authenticate: in a transaction, as a user that may read everything.
 * InvalidOid if the header (NULL = none) proves no role; the log says why.
 */
extern Oid	authenticate(const char *header);

#endif							/* TEMPO_WORKER_AUTHENTICATE_H */
