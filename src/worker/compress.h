/*-------------------------------------------------------------------------
 *
 * compress.h
 *	  Compression of answers by the query workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_COMPRESS_H
#define TEMPO_WORKER_COMPRESS_H

#include "postgres.h"

#include "api/api.h"

/*
 * compress_answer: makes the body of an answer a gzip member, if that makes it
 * smaller.  Once the request is cancelled it leaves off, without an error: the
 * transaction is over.
 */
extern void compress_answer(ApiResponse *response);

#endif /* TEMPO_WORKER_COMPRESS_H */
