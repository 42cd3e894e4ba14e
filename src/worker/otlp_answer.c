/*-------------------------------------------------------------------------
 *
 * otlp_answer.c
 *	  What clients that send spans are answered, over gRPC and HTTP.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "google_rpc.pb-c.h"
#include "lib/stringinfo.h"
#include "otlp_service.pb-c.h"
#include "span/value.h"
#include "utils/json.h"
#include "worker/otlp_answer.h"

#define RETRY_INFO_TYPE "type.googleapis.com/google.rpc.RetryInfo"
#define PROTOBUF_TYPE "application/x-protobuf"
#define JSON_TYPE "application/json"

/* Longer messages are cut: clients bound the headers they take. */
#define MESSAGE_MAX_BYTES 800

typedef struct Packed
{
	uint8 *data;
	size_t len;
} Packed;

/* A protobuf message in palloc'd memory. */
static Packed
pack(const void *message)
{
	Packed packed;

	packed.len = protobuf_c_message_get_packed_size(message);
	packed.data = palloc(packed.len + 1);
	protobuf_c_message_pack(message, packed.data);
	return packed;
}

static ProtobufCBinaryData
binary(const void *data, size_t len)
{
	ProtobufCBinaryData result;

	result.data = (uint8 *) data;
	result.len = len;
	return result;
}

static Packed
pack_retry_info(int seconds)
{
	TempoPg__Rpc__Duration  delay = TEMPO_PG__RPC__DURATION__INIT;
	TempoPg__Rpc__RetryInfo info = TEMPO_PG__RPC__RETRY_INFO__INIT;

	delay.seconds = seconds;
	info.retry_delay = &delay;
	return pack(&info);
}

static Packed
pack_status(RpcCode code, const char *message, int retry_after)
{
	TempoPg__Rpc__Status status = TEMPO_PG__RPC__STATUS__INIT;
	TempoPg__Rpc__Any    any = TEMPO_PG__RPC__ANY__INIT;
	TempoPg__Rpc__Any   *details = &any;
	Packed               info;

	status.code = code;
	status.message = binary(message, strlen(message));
	if (retry_after >= 0)
	{
		info = pack_retry_info(retry_after);
		any.type_url = binary(RETRY_INFO_TYPE, strlen(RETRY_INFO_TYPE));
		any.value = binary(info.data, info.len);
		status.n_details = 1;
		status.details = &details;
	}
	return pack(&status);
}

static Packed
pack_response(uint64 rejected, const char *message)
{
	TempoPg__Otlp__ExportTraceServiceResponse response = TEMPO_PG__OTLP__EXPORT_TRACE_SERVICE_RESPONSE__INIT;
	TempoPg__Otlp__ExportTracePartialSuccess  partial = TEMPO_PG__OTLP__EXPORT_TRACE_PARTIAL_SUCCESS__INIT;

	if (rejected > 0 || message[0] != '\0')
	{
		partial.rejected_spans = (int64) rejected;
		partial.error_message = binary(message, strlen(message));
		response.partial_success = &partial;
	}
	return pack(&response);
}

/* Cut on a character boundary, and without what is no UTF-8. */
static const char *
presentable(const char *message)
{
	size_t   len = strlen(message);
	Arena    arena;
	SpanText clean;
	char    *result;

	if (len > MESSAGE_MAX_BYTES)
	{
		len = MESSAGE_MAX_BYTES;
		while (len > 0 && ((unsigned char) message[len] & 0xC0) == 0x80)
			len--;
	}
	arena_init(&arena, &span_malloc_allocator, 0);
	clean = span_text_clean(span_text(message, (uint32_t) len), &arena, NULL);
	result = clean.data == NULL ? pstrdup("") : pnstrdup(clean.data, clean.len);
	arena_reset(&arena);
	return result;
}

bool
request_type_is(const NetRequest *request, const char *wanted)
{
	const char *type = net_request_header(request, "content-type", NULL);
	size_t      len;

	if (type == NULL)
		return false;
	type += strspn(type, " \t");
	len = strcspn(type, ";");
	while (len > 0 && (type[len - 1] == ' ' || type[len - 1] == '\t'))
		len--;
	return len == strlen(wanted) && pg_strncasecmp(type, wanted, len) == 0;
}

OtlpEncoding
otlp_encoding(const NetRequest *request)
{
	if (request_type_is(request, PROTOBUF_TYPE))
		return OTLP_PROTOBUF;
	if (request_type_is(request, JSON_TYPE))
		return OTLP_JSON;
	return OTLP_UNKNOWN;
}

/* ------------------------------------------------------------------- HTTP */

static void
json_status(StringInfo out, RpcCode code, const char *message, int retry_after)
{
	appendStringInfo(out, "{\"code\":%d,\"message\":", (int) code);
	escape_json(out, message);
	if (retry_after >= 0)
		appendStringInfo(out, ",\"details\":[{\"@type\":\"" RETRY_INFO_TYPE "\",\"retryDelay\":\"%ds\"}]", retry_after);
	appendStringInfoChar(out, '}');
}

void
otlp_http_error(NetRequest *request, int status, RpcCode code, const char *message, int retry_after)
{
	NetHeader header = {"retry-after", NULL};
	int       n_headers = 0;

	message = presentable(message);
	if (retry_after >= 0 && (status == 429 || status == 503))
	{
		header.value = psprintf("%d", retry_after);
		n_headers = 1;
	}
	if (otlp_encoding(request) == OTLP_PROTOBUF)
	{
		Packed body = pack_status(code, message, retry_after);

		net_respond(request, status, PROTOBUF_TYPE, &header, n_headers, body.data, body.len);
	}
	else
	{
		StringInfoData body;

		initStringInfo(&body);
		json_status(&body, code, message, retry_after);
		net_respond(request, status, JSON_TYPE, &header, n_headers, body.data, body.len);
	}
}

/* As clients know it. */
static RpcCode
public_code(RpcCode code)
{
	return code == RPC_RATE_LIMITED ? RPC_RESOURCE_EXHAUSTED : code;
}

static int
http_status(RpcCode code, int retry_after)
{
	switch (code)
	{
		case RPC_OK:
			return 200;
		case RPC_INVALID_ARGUMENT:
			return 400;
		case RPC_UNAUTHENTICATED:
			return 401;
		case RPC_PERMISSION_DENIED:
			return 403;
		case RPC_UNIMPLEMENTED:
		case RPC_NOT_FOUND:
			return 404;
		case RPC_RATE_LIMITED:
			return 429;
		case RPC_RESOURCE_EXHAUSTED:
			/* no room in the server is to be tried again; too large is not */
			return retry_after >= 0 ? 503 : 413;
		case RPC_DEADLINE_EXCEEDED:
		case RPC_ABORTED:
		case RPC_UNAVAILABLE:
			return 503;
		case RPC_INTERNAL:
			break;
	}
	return 500;
}

static void
answer_http(NetRequest *request, RpcCode code, const char *message, uint64 rejected, int retry_after)
{
	if (code != RPC_OK)
		otlp_http_error(request, http_status(code, retry_after), public_code(code), message, retry_after);
	else if (otlp_encoding(request) == OTLP_JSON)
	{
		StringInfoData body;

		initStringInfo(&body);
		appendStringInfoString(&body, "{\"partialSuccess\":{");
		if (rejected > 0)
			appendStringInfo(&body, "\"rejectedSpans\":\"" UINT64_FORMAT "\",", rejected);
		if (rejected > 0 || message[0] != '\0')
		{
			appendStringInfoString(&body, "\"errorMessage\":");
			escape_json(&body, presentable(message));
		}
		appendStringInfoString(&body, "}}");
		net_respond(request, 200, JSON_TYPE, NULL, 0, body.data, body.len);
	}
	else
	{
		Packed body = pack_response(rejected, message);

		net_respond(request, 200, PROTOBUF_TYPE, NULL, 0, body.data, body.len);
	}
}

void
otlp_answer_text(NetRequest *request, int status, const char *text, const char *header, const char *value)
{
	NetHeader extra;

	extra.name = header;
	extra.value = value;
	net_respond(request, status, "text/plain; charset=utf-8", &extra, header != NULL ? 1 : 0, text, strlen(text));
}

void
plain_error(NetRequest *request, int status, const char *message, int retry_after)
{
	NetHeader header = {"retry-after", NULL};
	bool      retry = retry_after >= 0 && (status == 429 || status == 503);

	message = psprintf("%s\n", presentable(message));
	if (retry)
		header.value = psprintf("%d", retry_after);
	net_respond(request, status, "text/plain; charset=utf-8", &header, retry ? 1 : 0, message, strlen(message));
}

void
plain_answer(NetRequest *request, RpcCode code, const char *message, int retry_after)
{
	if (code == RPC_OK)
		net_respond(request, 202, NULL, NULL, 0, "", 0);
	else
		plain_error(request, http_status(code, retry_after), message, retry_after);
}

/* ------------------------------------------------------------------- gRPC */

static char *
base64(Packed in)
{
	int   size = pg_b64_enc_len((int) in.len);
	char *out = palloc(size + 1);
	int   len = pg_b64_encode((const void *) in.data, (int) in.len, out, size);

	out[Max(len, 0)] = '\0';
	return out;
}

static void
answer_grpc(NetRequest *request, RpcCode code, const char *message, uint64 rejected, int retry_after)
{
	NetHeader trailer = {"google.rpc.retryinfo-bin", NULL};
	Packed    body;

	if (code == RPC_OK)
	{
		body = pack_response(rejected, message);
		net_respond_grpc(request, 0, "", NULL, 0, NULL, 0, body.data, body.len);
		return;
	}
	code = public_code(code);
	message = presentable(message);
	if (retry_after < 0)
	{
		net_respond_grpc(request, code, message, NULL, 0, NULL, 0, NULL, 0);
		return;
	}

	/* most clients read RetryInfo from the status, Python's from a trailer of its own */
	trailer.value = base64(pack_retry_info(retry_after));
	body = pack_status(code, message, retry_after);
	net_respond_grpc(request, code, message, body.data, body.len, &trailer, 1, NULL, 0);
}

void
otlp_answer(NetRequest *request, RpcCode code, const char *message, uint64 rejected, int retry_after)
{
	if (net_request_is_grpc(request))
		answer_grpc(request, code, message, rejected, retry_after);
	else
		answer_http(request, code, message, rejected, retry_after);
}
