/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  What a streaming query tells before it has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_STREAM_H
#define TEMPO_API_STREAM_H

#include "postgres.h"

#include "api/internal.h"

/* A query is run on the newest parts of its range first, and at last on all of it. */
#define STREAM_MAX_SLICES 2

/*
 * stream_slices: the starts of the newest parts of a range in seconds, latest
 * first; 0 if the call is no stream or the range is too short to be worth it
 */
extern int stream_slices(const ApiCall *call, const ApiRange *range, int64 starts[STREAM_MAX_SLICES]);

/* stream_send: sends a message with what is known so far */
extern void stream_send(ApiCall *call, const ProtobufCMessage *message);

/*
 * stream_answer: answers with what "build" makes of call->range, of its newest
 * part first
 */
typedef const ProtobufCMessage *(*StreamBuild)(ApiCall *call, void *arg);

extern void stream_answer(ApiCall *call, StreamBuild build, void *arg);

#endif /* TEMPO_API_STREAM_H */
