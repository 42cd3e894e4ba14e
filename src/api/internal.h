/*-------------------------------------------------------------------------
 *
 * internal.h
 *	  What the endpoints share: the request being answered, its parameters,
 *	  and the ways to answer it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_INTERNAL_H
#define TEMPO_API_INTERNAL_H

#include "postgres.h"

#include <protobuf-c/protobuf-c.h>

#include "api/api.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "span/ids.h"

typedef enum ApiFormat
{
	FORMAT_JSON,
	FORMAT_PROTOBUF,
	FORMAT_LLM
} ApiFormat;

/* A range of time in Unix seconds, both ends included. */
typedef struct ApiRange
{
	bool  set; /* false = all time */
	int64 start;
	int64 end;
} ApiRange;

struct ApiCall
{
	const ApiRequest *request;
	ApiResponse      *response;
	void (*serve)(ApiCall *call); /* NULL when it is answered */
	int       attempts;
	ApiFormat format;     /* what the client accepts */
	bool      writes;     /* changes the database */
	bool      partial;    /* what is being made is not the whole answer */
	List     *parameters; /* of ApiParameter, in the order given */
	List     *tenants;    /* of char *, sorted, without repetitions */
	char     *argument;   /* the part of the path that is a parameter, decoded */

	/*
	 * What cannot be evaluated yet can still be answered when there are no
	 * spans to evaluate it on.
	 */
	ApiRange range;
	void (*without_spans)(ApiCall *call);
	char *unsupported; /* what it was */

	/* Answers an error raised while it was served in another way than as text. */
	void (*wrap_error)(ApiCall *call, const char *message);
	const char *rpc_id; /* of the JSON-RPC request, for that */
};

/* ---------------------------------------------------------------- router */

/* parameter: its first value, decoded; NULL if absent or empty */
extern const char *parameter(const ApiCall *call, const char *name);

/*
 * api_fail: answers with an error in plain text.  Returns false, so that a
 * function that reads parameters can "return api_fail(...)".
 */
extern bool api_fail(ApiCall *call, int status, const char *format, ...) pg_attribute_printf(3, 4);

/* api_answer: answers with a message, as JSON or protobuf */
extern void api_answer(ApiCall *call, const ProtobufCMessage *message);

/* api_ok: starts an answer whose body the caller writes */
extern ApiBody *api_ok(ApiCall *call, const char *content_type);

/* api_serve_inner: serves a request on behalf of another, in its transaction; raises errors */
extern ApiResponse *api_serve_inner(const ApiRequest *request);

/* The tenants as text[] */
extern Datum tenants_array(const ApiCall *call);

/* ---------------------------------------------------------------- params */

/* Each answers 400 and returns false when the value is no such thing. */
extern bool read_integer(ApiCall *call, const char *name, const char *function, int64 *value);
extern bool read_seconds(ApiCall *call, const char *name, int64 *value);
extern bool read_search_range(ApiCall *call, bool start_before_end, ApiRange *range);

/* append_percent: percent-encodes what is no ASCII letter or digit */
extern void append_percent(StringInfo out, const char *data, Size len);

/* Values without an answer: false = not one. */
extern bool  parse_go_duration(const char *text, int64 *nanoseconds);
extern bool  parse_rfc3339(const char *text, int64 *nanoseconds);
extern bool  parse_prometheus_duration(const char *text, int64 *milliseconds);
extern char *format_go_duration(int64 nanoseconds);
extern int64 now_seconds(void);

/* ------------------------------------------------------------- endpoints */

extern bool read_trace_id(ApiCall *call, const char *text, TraceId *id);
extern void serve_trace_v1(ApiCall *call);
extern void serve_trace_v2(ApiCall *call);
extern void serve_search(ApiCall *call);
extern void serve_tags_v1(ApiCall *call);
extern void serve_tags_v2(ApiCall *call);
extern void serve_tag_values_v1(ApiCall *call);
extern void serve_tag_values_v2(ApiCall *call);
extern void serve_query_range(ApiCall *call);
extern void serve_query_instant(ApiCall *call);
extern void serve_ready(ApiCall *call);
extern void serve_echo(ApiCall *call);
extern void serve_buildinfo(ApiCall *call);
extern void serve_metrics(ApiCall *call);
extern void serve_status(ApiCall *call);
extern void serve_status_usage(ApiCall *call);
extern void serve_status_overrides(ApiCall *call);
extern void serve_status_compaction(ApiCall *call);
extern void serve_usage_metrics(ApiCall *call);
extern void serve_overrides(ApiCall *call);
extern void serve_mcp(ApiCall *call);
extern void serve_trace_diff(ApiCall *call);
extern bool overrides_write(const char *method);

/* -------------------------------------------------------------- settings */

extern int   tempo_search_default_limit;
extern int   tempo_search_max_limit;
extern int   tempo_search_max_range;     /* seconds, 0 = none */
extern int   tempo_search_default_range; /* seconds, 0 = all time */
extern int   tempo_search_default_spss;
extern int   tempo_search_max_spss;
extern int   tempo_query_end_cutoff; /* seconds */
extern int   tempo_max_query_bytes;
extern int   tempo_metrics_max_range; /* seconds, 0 = none */
extern int   tempo_metrics_max_intervals;
extern int   tempo_metrics_max_series; /* 0 = any number */
extern int   tempo_metrics_max_exemplars;
extern int   tempo_max_tag_response_bytes;
extern int   tempo_stream_packet_bytes;
extern int   tempo_max_bytes_per_trace;
extern bool  tempo_multi_tenant_queries;
extern bool  tempo_user_configurable_overrides;
extern bool  tempo_mcp_server;
extern bool  tempo_left_pad_trace_ids;
extern char *tempo_http_api_prefix;
extern char *tempo_api_version;

#endif /* TEMPO_API_INTERNAL_H */
