/*-------------------------------------------------------------------------
 *
 * grpc.c
 *	  tempopb.StreamingQuerier in terms of the HTTP endpoints.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <inttypes.h>

#include "api/grpc.h"
#include "api/internal.h"
#include "tempo_query.pb-c.h"
#include "utils/memutils.h"

#define SERVICE "/tempopb.StreamingQuerier/"

/* --------------------------------------------------------- request bodies */

static void *
message_alloc(void *context, size_t size)
{
	return palloc(Max(size, 1));
}

static void
message_free(void *context, void *pointer)
{
	if (pointer)
		pfree(pointer);
}

static ProtobufCAllocator allocator = {message_alloc, message_free, NULL};

/* What is empty in a message is absent, as in a query string. */
static void
add_bytes(StringInfo query, const char *name, const ProtobufCBinaryData *value)
{
	if (value->len == 0)
		return;
	appendStringInfo(query, "%s%s=", query->len > 0 ? "&" : "", name);
	append_percent(query, (const char *) value->data, value->len);
}

static void
add_number(StringInfo query, const char *name, const char *format, uint64 value)
{
	char text[64];

	if (value == 0)
		return;
	snprintf(text, sizeof(text), format, value);
	appendStringInfo(query, "%s%s=%s", query->len > 0 ? "&" : "", name, text);
}

#define NUMBER UINT64_FORMAT
#define MILLISECONDS UINT64_FORMAT "ms"
#define NANOSECONDS UINT64_FORMAT "ns"
/* more than ten digits are nanoseconds, however small they are */
#define TIME_NANOS "%020" PRIu64

/* The map of tags as logfmt.  A key that logfmt cannot have is an error there. */
static void
add_tags(StringInfo query, size_t n, Tempopb__TagEntry *const *tags)
{
	StringInfoData      text;
	ProtobufCBinaryData value;

	initStringInfo(&text);
	for (size_t i = 0; i < n; i++)
	{
		appendBinaryStringInfo(&text, (const char *) tags[i]->key.data, (int) tags[i]->key.len);
		appendStringInfoString(&text, "=\"");
		for (size_t j = 0; j < tags[i]->value.len; j++)
		{
			char c = (char) tags[i]->value.data[j];

			if (c == '"' || c == '\\')
				appendStringInfoChar(&text, '\\');
			if (c == '\n')
				appendStringInfoString(&text, "\\n");
			else
				appendStringInfoChar(&text, c);
		}
		appendStringInfoString(&text, "\" ");
	}
	value.data = (uint8_t *) text.data;
	value.len = text.len;
	add_bytes(query, "tags", &value);
}

static char *
read_search(const ProtobufCMessage *message, const char *path, StringInfo query)
{
	const Tempopb__SearchRequest *search = (const Tempopb__SearchRequest *) message;

	add_bytes(query, "q", &search->query);
	add_tags(query, search->n_tags, search->tags);
	add_number(query, "minDuration", MILLISECONDS, search->min_duration_ms);
	add_number(query, "maxDuration", MILLISECONDS, search->max_duration_ms);
	add_number(query, "limit", NUMBER, search->limit);
	add_number(query, "spss", NUMBER, search->spans_per_span_set);
	add_number(query, "start", NUMBER, search->start);
	add_number(query, "end", NUMBER, search->end);
	return pstrdup(path);
}

static char *
read_tags(const ProtobufCMessage *message, const char *path, StringInfo query)
{
	const Tempopb__SearchTagsRequest *tags = (const Tempopb__SearchTagsRequest *) message;

	add_bytes(query, "scope", &tags->scope);
	add_bytes(query, "q", &tags->query);
	add_number(query, "start", NUMBER, tags->start);
	add_number(query, "end", NUMBER, tags->end);
	add_number(query, "limit", NUMBER, tags->max_tags_per_scope);
	return pstrdup(path);
}

/* NULL without a name */
static char *
read_tag_values(const ProtobufCMessage *message, const char *path, StringInfo query)
{
	const Tempopb__SearchTagValuesRequest *values = (const Tempopb__SearchTagValuesRequest *) message;
	StringInfoData                         full;

	if (values->tag_name.len == 0)
		return NULL;
	initStringInfo(&full);
	appendStringInfoString(&full, path);
	append_percent(&full, (const char *) values->tag_name.data, values->tag_name.len);
	appendStringInfoString(&full, "/values");
	add_bytes(query, "q", &values->query);
	add_number(query, "start", NUMBER, values->start);
	add_number(query, "end", NUMBER, values->end);
	add_number(query, "limit", NUMBER, values->max_tag_values);
	return full.data;
}

static char *
read_query_range(const ProtobufCMessage *message, const char *path, StringInfo query)
{
	const Tempopb__QueryRangeRequest *range = (const Tempopb__QueryRangeRequest *) message;

	add_bytes(query, "q", &range->query);
	add_number(query, "start", TIME_NANOS, range->start);
	add_number(query, "end", TIME_NANOS, range->end);
	add_number(query, "step", NANOSECONDS, range->step);
	add_number(query, "exemplars", NUMBER, range->exemplars);
	add_number(query, "maxSeries", NUMBER, range->max_series);
	return pstrdup(path);
}

static char *
read_query_instant(const ProtobufCMessage *message, const char *path, StringInfo query)
{
	const Tempopb__QueryInstantRequest *instant = (const Tempopb__QueryInstantRequest *) message;

	add_bytes(query, "q", &instant->query);
	add_number(query, "start", TIME_NANOS, instant->start);
	add_number(query, "end", TIME_NANOS, instant->end);
	return pstrdup(path);
}

typedef struct GrpcMethod
{
	const char                       *name;
	const ProtobufCMessageDescriptor *descriptor; /* of its request */
	const char                       *path;       /* of the endpoint */
	char *(*read)(const ProtobufCMessage *message, const char *path, StringInfo query);
} GrpcMethod;

static const GrpcMethod methods[] = {
	{"Search", &tempopb__search_request__descriptor, "/api/search", read_search},
	{"SearchTags", &tempopb__search_tags_request__descriptor, "/api/search/tags", read_tags},
	{"SearchTagsV2", &tempopb__search_tags_request__descriptor, "/api/v2/search/tags", read_tags},
	{"SearchTagValues", &tempopb__search_tag_values_request__descriptor, "/api/search/tag/", read_tag_values},
	{"SearchTagValuesV2", &tempopb__search_tag_values_request__descriptor, "/api/v2/search/tag/", read_tag_values},
	{"MetricsQueryRange", &tempopb__query_range_request__descriptor, "/api/metrics/query_range", read_query_range},
	{"MetricsQueryInstant", &tempopb__query_instant_request__descriptor, "/api/metrics/query", read_query_instant}};

/* As servers of gRPC word it. */
static char *
unknown_method(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL || slash == path)
		return psprintf("malformed method name: \"%s\"", path);
	if (strncmp(path, SERVICE, strlen(SERVICE)) == 0)
		return psprintf("unknown method %s for service tempopb.StreamingQuerier", path + strlen(SERVICE));
	return psprintf("unknown service %.*s", (int) (slash - path - 1), path + 1);
}

bool
api_from_grpc(const char *path, const void *data, Size len, ApiRequest *request, int *status, char **error)
{
	const GrpcMethod *method = NULL;
	ProtobufCMessage *message;
	StringInfoData    query;
	char             *endpoint;

	if (strncmp(path, SERVICE, strlen(SERVICE)) == 0)
	{
		for (int i = 0; i < lengthof(methods) && method == NULL; i++)
		{
			if (strcmp(path + strlen(SERVICE), methods[i].name) == 0)
				method = &methods[i];
		}
	}
	if (method == NULL)
	{
		*status = GRPC_STATUS_UNIMPLEMENTED;
		*error = unknown_method(path);
		return false;
	}

	message = protobuf_c_message_unpack(method->descriptor, &allocator, len, data);
	if (message == NULL)
	{
		*status = GRPC_STATUS_INTERNAL;
		*error = pstrdup("grpc: failed to unmarshal the received message");
		return false;
	}
	initStringInfo(&query);
	endpoint = method->read(message, method->path, &query);
	if (endpoint == NULL)
	{
		*status = GRPC_STATUS_INVALID_ARGUMENT;
		*error = pstrdup("please provide a tagName");
		return false;
	}

	memset(request, 0, sizeof(*request));
	request->method = "POST";
	request->path = psprintf("%s%s", tempo_http_api_prefix, endpoint);
	request->query = query.data;
	request->stream = true;
	return true;
}

/* ---------------------------------------------------------------- answers */

int
api_grpc_status(int http_status)
{
	switch (http_status)
	{
		case 200:
			return GRPC_STATUS_OK;
		case 403:
			return 7; /* PERMISSION_DENIED */
		case 404:
			return 5; /* NOT_FOUND */
		case 413:
		case 429:
			return 8; /* RESOURCE_EXHAUSTED */
		case 499:
			return 1; /* CANCELLED */
		case 501:
			return GRPC_STATUS_UNIMPLEMENTED;
		case 503:
			return GRPC_STATUS_UNAVAILABLE;
		case 504:
			return 4; /* DEADLINE_EXCEEDED */
	}
	if (http_status >= 400 && http_status < 500)
		return GRPC_STATUS_INVALID_ARGUMENT;
	return http_status >= 500 ? GRPC_STATUS_INTERNAL : 2; /* UNKNOWN */
}

static bool
read_varint(const char **p, const char *end, uint64 *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && *p < end; shift += 7)
	{
		uint8 byte = *(*p)++;

		*value |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

/* The next field of a message of ours with its number; NULL at the end. */
static const char *
next_field(const char **p, const char *end, uint32 *number)
{
	const char *start = *p;
	uint64      tag;
	uint64      n;

	if (*p >= end)
		return NULL;
	if (!read_varint(p, end, &tag) || !read_varint(p, end, &n))
		elog(ERROR, "malformed answer");
	*number = (uint32) (tag >> 3);
	if ((tag & 7) == 2)
	{
		if (n > (uint64) (end - *p))
			elog(ERROR, "malformed answer");
		*p += n;
	}
	else if ((tag & 7) != 0)
		elog(ERROR, "unexpected field in an answer");
	return start;
}

/* The whole body in one piece, which may be more than palloc gives. */
static char *
gather(ApiResponse *response, Size *len)
{
	char       *whole = MemoryContextAllocHuge(CurrentMemoryContext, Max(body_length(response->body), 1));
	const char *data;
	Size        n;

	*len = 0;
	while (api_next(response, &data, &n))
	{
		memcpy(whole + *len, data, n);
		*len += n;
	}
	return whole;
}

typedef struct Packet
{
	char *data;
	Size  len;
} Packet;

static void
packet_append(Packet *packet, const char *data, Size len)
{
	memcpy(packet->data + packet->len, data, len);
	packet->len += len;
}

void
api_split_message(ApiResponse *response, void (*send)(void *arg, const char *data, Size len), void *arg)
{
	Size        len;
	const char *whole = gather(response, &len);
	const char *end = whole + len;
	const char *p = whole;
	const char *field;
	uint32      number;
	Packet      metrics;
	Packet      rest;
	Packet      packet;

	metrics.data = MemoryContextAllocHuge(CurrentMemoryContext, len + 1);
	metrics.len = 0;
	rest.data = MemoryContextAllocHuge(CurrentMemoryContext, len + 1);
	rest.len = 0;
	/* at most everything in one packet */
	packet.data = MemoryContextAllocHuge(CurrentMemoryContext, len + 1);
	packet.len = 0;

	while ((field = next_field(&p, end, &number)) != NULL)
	{
		if (number != 1)
			packet_append(number == 2 ? &metrics : &rest, field, p - field);
	}
	p = whole;
	while ((field = next_field(&p, end, &number)) != NULL)
	{
		if (number != 1)
			continue;
		if (packet.len > 0 && packet.len + (p - field) + metrics.len > (Size) tempo_stream_packet_bytes)
		{
			packet_append(&packet, metrics.data, metrics.len);
			send(arg, packet.data, packet.len);
			packet.len = 0;
		}
		packet_append(&packet, field, p - field);
	}
	packet_append(&packet, metrics.data, metrics.len);
	packet_append(&packet, rest.data, rest.len);
	send(arg, packet.data, packet.len);
}
