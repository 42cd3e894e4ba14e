/*-------------------------------------------------------------------------
 *
 * environment.h
 *	  PostgreSQL's headers for code that is built with and without a server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_ENVIRONMENT_H
#define TEMPO_INGEST_ENVIRONMENT_H

#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#endif /* TEMPO_INGEST_ENVIRONMENT_H */
