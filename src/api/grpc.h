/*-------------------------------------------------------------------------
 *
 * grpc.h
 *	  tempopb.StreamingQuerier in terms of the HTTP endpoints.
 *
 * Each method does what an endpoint does, so a call becomes a request to that
 * endpoint, and its answer becomes a stream of messages.  Needs no database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_GRPC_H
#define TEMPO_API_GRPC_H

#include "postgres.h"

#include "api/api.h"

/* Status codes of gRPC */
#define GRPC_STATUS_OK 0
#define GRPC_STATUS_INVALID_ARGUMENT 3
#define GRPC_STATUS_UNIMPLEMENTED 12
#define GRPC_STATUS_INTERNAL 13
#define GRPC_STATUS_UNAVAILABLE 14
#define GRPC_STATUS_UNAUTHENTICATED 16

/*
 * api_from_grpc: makes a request of a call; the caller adds the tenant.  All
 * palloc'd.  Otherwise false with a status and its message.
 */
extern bool api_from_grpc(const char *path, const void *message, Size len, ApiRequest *request,
                          int *status, char **error);

/* api_grpc_status: what an HTTP status is in gRPC */
extern int api_grpc_status(int http_status);

/*
 * api_split_message: cuts an answer whose field 1 is what was found into
 * messages of about tempo_stream_packet_bytes.  Each has the metrics, field 2;
 * what else there is comes with the last.  Calls "send" for each, at least once.
 */
extern void api_split_message(ApiResponse *response, void (*send)(void *arg, const char *data, Size len), void *arg);

#endif /* TEMPO_API_GRPC_H */
