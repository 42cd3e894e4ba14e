/*-------------------------------------------------------------------------
 *
 * protocol.c
 *	  What clients say on the ports for spans, and how they are answered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/tenant.h"
#include "worker/cors.h"
#include "worker/credentials.h"
#include "worker/process.h"
#include "worker/protocol.h"

void
protocol_answer(NetRequest *request, Protocol protocol, RpcCode code, const char *message, uint64 rejected, int retry_after)
{
	if (protocol == PROTOCOL_OTLP || net_request_is_grpc(request))
		otlp_answer(request, code, message, protocol == PROTOCOL_OTLP ? rejected : 0, retry_after);
	else
		plain_answer(request, code, message, retry_after);
}

void
protocol_refuse(NetRequest *request, Protocol protocol, int status, const char *message)
{
	RpcCode code = status == 413 ? RPC_RESOURCE_EXHAUSTED : status == 503 ? RPC_UNAVAILABLE :
	                                                                        RPC_INVALID_ARGUMENT;
	int     retry_after = status == 503 ? tempo_retry_after : -1;

	if (protocol == PROTOCOL_OTLP)
		otlp_http_error(request, status, code, message, retry_after);
	else
		plain_error(request, status, message, retry_after);
}

bool
protocol_tenant(NetRequest *request, Protocol protocol, SpanText *tenant)
{
	int         count;
	const char *header;
	SpanError   error;

	*tenant = span_text(DEFAULT_TENANT, strlen(DEFAULT_TENANT));
	if (!tempo_multitenancy)
		return true;
	header = net_request_header(request, "x-scope-orgid", &count);
	if (header == NULL || count != 1 || header[0] == '\0')
	{
		protocol_answer(request, protocol, RPC_UNAUTHENTICATED, "no org id", 0, -1);
		return false;
	}
	if (!tenant_for_write(header, tenant, &error))
	{
		protocol_answer(request, protocol, RPC_INVALID_ARGUMENT, error.message, 0, -1);
		return false;
	}
	return true;
}

/* Is this the path, once decoded and without a slash at the end? */
static bool
path_is(const char *path, const char *wanted)
{
	const char *w = wanted;

	while (*w != '\0')
	{
		unsigned int  code = (unsigned char) *path;
		unsigned char high;
		unsigned char low;

		if (code == '\0')
			return false;
		path++;
		if (code == '%')
		{
			high = path[0];
			low = high != '\0' ? path[1] : '\0';
			if (!isxdigit(high) || !isxdigit(low))
				return false;
			code = strtoul(pnstrdup(path, 2), NULL, 16);
			path += 2;
		}
		if (code != (unsigned char) *w)
			return false;
		w++;
	}
	return strcmp(path, "") == 0 || strcmp(path, "/") == 0;
}

static void
answer_unknown_path(NetRequest *request)
{
	otlp_answer_text(request, 404, "404 page not found\n", NULL, NULL);
}

/*
 * Other signals come here from every SDK that was given an endpoint only, and
 * queries from those who mixed up the ports: they are told.
 */
static void
answer_unknown_otlp_path(NetRequest *request)
{
	const char *path = net_request_path(request);

	if (path_is(path, "/v1/metrics") || path_is(path, "/v1/logs"))
		otlp_answer_text(request, 404,
		                 "404 page not found: only traces are stored here, "
		                 "set OTEL_METRICS_EXPORTER=none and OTEL_LOGS_EXPORTER=none or their endpoints\n",
		                 NULL, NULL);
	else if (strncmp(path, "/api/", 5) == 0 || path_is(path, "/ready"))
		otlp_answer_text(request, 404,
		                 psprintf("404 page not found: this port receives spans, "
		                          "the Tempo API is on port %d (tempo_pg.http_port)\n",
		                          tempo_http_port),
		                 NULL, NULL);
	else
		answer_unknown_path(request);
}

/* Answers what is not POST. */
static bool
is_post(NetRequest *request)
{
	if (strcmp(net_request_method(request), "POST") == 0)
		return true;
	otlp_answer_text(request, 405, "405 method not allowed, supported: [POST]", "allow", "POST");
	return false;
}

/* ------------------------------------------------------------------- HTTP */

/* Each of these is true if the request may go on, and has answered it if not. */
static bool
check_otlp(NetRequest *request)
{
	if (!path_is(net_request_path(request), "/v1/traces"))
	{
		answer_unknown_otlp_path(request);
		return false;
	}
	if (!is_post(request))
		return false;
	if (otlp_encoding(request) != OTLP_UNKNOWN)
		return true;
	otlp_answer_text(request, 415,
	                 "415 unsupported media type, supported: [application/json, application/x-protobuf]", NULL, NULL);
	return false;
}

static bool
is_zipkin_v2(const NetRequest *request)
{
	const char *path = net_request_path(request);

	return path_is(path, "/api/v2/spans") || path_is(path, "/zipkin/api/v2/spans");
}

static bool
check_zipkin(NetRequest *request)
{
	if (is_zipkin_v2(request) || path_is(net_request_path(request), "/api/v1/spans"))
		return is_post(request);
	answer_unknown_path(request);
	return false;
}

static bool
check_jaeger(NetRequest *request)
{
	const char *type = net_request_header(request, "content-type", NULL);

	if (!path_is(net_request_path(request), "/api/traces"))
	{
		answer_unknown_path(request);
		return false;
	}
	if (!is_post(request))
		return false;
	if (request_type_is(request, "application/x-thrift") ||
	    request_type_is(request, "application/vnd.apache.thrift.binary"))
		return true;
	plain_error(request, 400, psprintf("Unsupported content type: %s", type != NULL ? type : ""), -1);
	return false;
}

static bool
check_http(NetRequest *request, Protocol protocol)
{
	switch (protocol)
	{
		case PROTOCOL_ZIPKIN:
			return check_zipkin(request);
		case PROTOCOL_JAEGER:
			return check_jaeger(request);
		default:
			return check_otlp(request);
	}
}

/* ------------------------------------------------------------------- gRPC */

/* The one call that brings spans on each port, besides that for the health. */
typedef struct GrpcMethod
{
	const char *service;
	const char *method;
} GrpcMethod;

static const GrpcMethod grpc_methods[] = {
	[PROTOCOL_OTLP] = {TRACE_SERVICE, "Export"},
	[PROTOCOL_ZIPKIN] = {NULL, NULL},
	[PROTOCOL_JAEGER] = {JAEGER_SERVICE, "PostSpans"}};

static bool
check_grpc(NetRequest *request, Protocol protocol)
{
	const GrpcMethod *method = &grpc_methods[protocol];
	const char       *path = net_request_path(request);
	const char       *slash = path[0] == '/' ? strrchr(path + 1, '/') : NULL;
	const char       *message;
	char             *service;

	if (slash == NULL)
	{
		otlp_answer(request, RPC_UNIMPLEMENTED, psprintf("malformed method name: \"%s\"", path), 0, -1);
		return false;
	}
	service = pnstrdup(path + 1, slash - path - 1);
	if (protocol_is_health(request) ||
	    (method->service != NULL && strcmp(service, method->service) == 0 && strcmp(slash + 1, method->method) == 0))
		return true;
	if (strcmp(service, HEALTH_SERVICE) == 0 || (method->service != NULL && strcmp(service, method->service) == 0))
		message = psprintf("unknown method %s for service %s", slash + 1, service);
	else if (method->service == NULL)
		message = "this port is for Zipkin over HTTP";
	else
		message = psprintf("unknown service %s", service);
	otlp_answer(request, RPC_UNIMPLEMENTED, message, 0, -1);
	return false;
}

bool
protocol_is_health(const NetRequest *request)
{
	const char *path = net_request_path(request);

	return net_request_is_grpc(request) &&
	       (strcmp(path, "/" HEALTH_SERVICE "/Check") == 0 || strcmp(path, "/" HEALTH_SERVICE "/Watch") == 0);
}

bool
protocol_check(NetRequest *request, Protocol protocol)
{
	bool     is_grpc = net_request_is_grpc(request);
	SpanText tenant;

	if (cors_preflight(request, "POST"))
		return true;
	if (is_grpc ? !check_grpc(request, protocol) : !check_http(request, protocol))
		return true;
	if (protocol_is_health(request))
		return false;
	if (credentials_missing(request))
	{
		protocol_answer(request, protocol, RPC_UNAUTHENTICATED, CREDENTIALS_MISSING_TEXT, 0, -1);
		return true;
	}
	return !protocol_tenant(request, protocol, &tenant);
}

/* ----------------------------------------------------------------- format */

/* Zipkin takes what is not labelled otherwise for JSON. */
WireFormat
protocol_format(const NetRequest *request, Protocol protocol)
{
	switch (protocol)
	{
		case PROTOCOL_ZIPKIN:
			if (is_zipkin_v2(request))
				return request_type_is(request, "application/x-protobuf") ? WIRE_ZIPKIN_PROTO : WIRE_ZIPKIN_JSON;
			return request_type_is(request, "application/x-thrift") ? WIRE_ZIPKIN_THRIFT : WIRE_ZIPKIN_V1_JSON;
		case PROTOCOL_JAEGER:
			return net_request_is_grpc(request) ? WIRE_JAEGER_PROTO : WIRE_JAEGER_THRIFT;
		case PROTOCOL_JAEGER_COMPACT:
			return WIRE_JAEGER_COMPACT;
		case PROTOCOL_JAEGER_BINARY:
			return WIRE_JAEGER_BINARY;
		case PROTOCOL_OTLP:
			break;
	}
	return !net_request_is_grpc(request) && otlp_encoding(request) == OTLP_JSON ? WIRE_OTLP_JSON : WIRE_OTLP_PROTO;
}

ReceiverTransport
protocol_transport(const NetRequest *request, WireFormat format)
{
	switch (format)
	{
		case WIRE_ZIPKIN_JSON:
			return TRANSPORT_ZIPKIN_JSON;
		case WIRE_ZIPKIN_PROTO:
			return TRANSPORT_ZIPKIN_PROTO;
		case WIRE_ZIPKIN_V1_JSON:
			return TRANSPORT_ZIPKIN_V1_JSON;
		case WIRE_ZIPKIN_THRIFT:
			return TRANSPORT_ZIPKIN_THRIFT;
		case WIRE_JAEGER_PROTO:
			return TRANSPORT_JAEGER_GRPC;
		case WIRE_JAEGER_THRIFT:
			return TRANSPORT_JAEGER_HTTP;
		case WIRE_JAEGER_COMPACT:
			return TRANSPORT_JAEGER_COMPACT;
		case WIRE_JAEGER_BINARY:
			return TRANSPORT_JAEGER_BINARY;
		default:
			return request != NULL && net_request_is_grpc(request) ? TRANSPORT_GRPC : TRANSPORT_HTTP;
	}
}
