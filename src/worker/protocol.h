/*-------------------------------------------------------------------------
 *
 * protocol.h
 *	  What clients say on the ports for spans, and how they are answered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_PROTOCOL_H
#define TEMPO_WORKER_PROTOCOL_H

#include "postgres.h"

#include "ingest/statistics.h"
#include "worker/otlp_answer.h"

#define TRACE_SERVICE "opentelemetry.proto.collector.trace.v1.TraceService"
#define HEALTH_SERVICE "grpc.health.v1.Health"
#define JAEGER_SERVICE "jaeger.api_v2.CollectorService"

/* What a port speaks; over TCP all speak gRPC and HTTP, since clients mix them up. */
typedef enum Protocol
{
	PROTOCOL_OTLP,
	PROTOCOL_ZIPKIN,
	PROTOCOL_JAEGER,
	PROTOCOL_JAEGER_COMPACT, /* datagrams */
	PROTOCOL_JAEGER_BINARY
} Protocol;

/*
 * protocol_check: what the headers of a request tell; true if it has been
 * answered: unknown path, wrong method or type, no tenant.
 */
extern bool protocol_check(NetRequest *request, Protocol protocol);

/* protocol_is_health: does it ask for the health of the server? */
extern bool protocol_is_health(const NetRequest *request);

/* protocol_tenant: whose spans a request brings; false when it has been answered */
extern bool protocol_tenant(NetRequest *request, Protocol protocol, SpanText *tenant);

/* protocol_format: of a request that was checked */
extern WireFormat protocol_format(const NetRequest *request, Protocol protocol);

/* protocol_transport: what counts requests of a format */
extern ReceiverTransport protocol_transport(const NetRequest *request, WireFormat format);

/* protocol_answer: see otlp_answer; in the words of the protocol */
extern void protocol_answer(NetRequest *request, Protocol protocol, RpcCode code, const char *message,
                            uint64 rejected, int retry_after);

/* protocol_refuse: what the transport refuses itself */
extern void protocol_refuse(NetRequest *request, Protocol protocol, int status, const char *message);

#endif /* TEMPO_WORKER_PROTOCOL_H */
