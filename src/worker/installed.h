/*-------------------------------------------------------------------------
 *
 * installed.h
 *	  Whether the database has what requests need, for all workers the same.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_INSTALLED_H
#define TEMPO_WORKER_INSTALLED_H

#include "postgres.h"

/*
 * installed_fault: what is missing of the extension, or under another name, and
 * in *hint what helps; NULL if nothing is.  In a transaction.
 */
extern const char *installed_fault(const char **hint);

#endif /* TEMPO_WORKER_INSTALLED_H */
