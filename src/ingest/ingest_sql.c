/*-------------------------------------------------------------------------
 *
 * ingest_sql.c
 *	  Storing and importing requests from SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/append.h"
#include "access/memory.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "common/string.h"
#include "fmgr.h"
#include "ingest/recent.h"
#include "ingest/store.h"
#include "ingest/tenant.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Memory for the spans of one request. */
#define BATCH_MEMORY_LIMIT ((Size) 2048 * 1024 * 1024)

/* Lines of a file are stored in groups of so many bytes, each with one hash. */
#define GROUP_BYTES (8 * 1024 * 1024)

PG_FUNCTION_INFO_V1(tempo_ingest);
PG_FUNCTION_INFO_V1(tempo_ingest_otlp);
PG_FUNCTION_INFO_V1(tempo_ingest_otlp_json);
PG_FUNCTION_INFO_V1(tempo_ingest_jaeger_json);
PG_FUNCTION_INFO_V1(tempo_import_otlp_json_lines);
PG_FUNCTION_INFO_V1(tempo_import_otlp_json_file);

static const char *const format_names[] = {
	[WIRE_OTLP_PROTO] = "otlp_proto",
	[WIRE_OTLP_JSON] = "otlp_json",
	[WIRE_ZIPKIN_JSON] = "zipkin_json",
	[WIRE_ZIPKIN_PROTO] = "zipkin_proto",
	[WIRE_ZIPKIN_V1_JSON] = "zipkin_v1_json",
	[WIRE_ZIPKIN_THRIFT] = "zipkin_thrift",
	[WIRE_JAEGER_PROTO] = "jaeger_proto",
	[WIRE_JAEGER_THRIFT] = "jaeger_thrift",
	[WIRE_JAEGER_COMPACT] = "jaeger_compact",
	[WIRE_JAEGER_BINARY] = "jaeger_binary",
	[WIRE_JAEGER_JSON] = "jaeger_json"};

/* The relation to store into, once it is clear that the user may. */
static Relation
open_spans(void)
{
	Oid       relid;
	AclResult allowed;

	PreventCommandIfReadOnly("INSERT");
	relid = tempo_spans_relation();
	if (!OidIsValid(relid))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("tempo.spans does not exist")));
	allowed = pg_class_aclcheck(relid, GetUserId(), ACL_INSERT);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, "spans");
	return table_open(relid, RowExclusiveLock);
}

static SpanText
get_tenant(text *name)
{
	SpanText  tenant;
	SpanError error;

	if (!tenant_for_write(text_to_cstring(name), &tenant, &error))
		tempo_raise(&error);
	return tenant;
}

static SpanBatch *
new_batch(MemoryContext context)
{
	SpanAllocator allocator = tempo_context_allocator(context);
	SpanBatch    *batch = span_batch_create(&allocator, BATCH_MEMORY_LIMIT);

	if (batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return batch;
}

static RequestHash
hash_of(SpanText tenant, const char *body, size_t len)
{
	RequestHash hash;

	if (!recent_hash(tenant.data, tenant.len, body, len, &hash))
		elog(ERROR, "could not compute the hash of a request");
	return hash;
}

/* Counts what was stored; false if the request had been stored before. */
static bool
count_request(const StoreRequest *request, int64 *stored)
{
	if (request->result.rejected > 0)
		ereport(WARNING,
		        (errcode(ERRCODE_WARNING),
		         errmsg("%llu spans were not stored: %s", (unsigned long long) request->result.rejected,
		                request->result.rejected_message)));
	store_count(request);
	if (request->outcome == STORE_APPENDED)
		*stored += (int64) request->result.spans;
	return request->outcome == STORE_APPENDED;
}

static int64
ingest(const char *body, size_t len, WireFormat format, text *tenant)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "tempo_pg ingest", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SpanBatch    *batch = new_batch(context);
	StoreRequest  request;
	Relation      rel;
	int64         stored = 0;

	memset(&request, 0, sizeof(request));
	request.tenant = get_tenant(tenant);
	request.body = body;
	request.len = len;
	request.format = format;
	request.hash = hash_of(request.tenant, body, len);

	rel = open_spans();
	store_requests(rel, &request, 1, true, batch);
	table_close(rel, NoLock);
	if (request.outcome == STORE_REFUSED)
		tempo_raise(&request.error);
	(void) count_request(&request, &stored);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return stored;
}

/* tempo.ingest(request bytea, format text, tenant text) returns bigint */
Datum
tempo_ingest(PG_FUNCTION_ARGS)
{
	bytea *body = PG_GETARG_BYTEA_PP(0);
	char  *format = text_to_cstring(PG_GETARG_TEXT_PP(1));

	for (int i = 0; i < lengthof(format_names); i++)
		if (strcmp(format, format_names[i]) == 0)
			PG_RETURN_INT64(ingest(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), (WireFormat) i, PG_GETARG_TEXT_PP(2)));
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("unknown format \"%s\"", format),
	         errhint("Formats are otlp_proto, otlp_json, zipkin_json, zipkin_proto, zipkin_v1_json, zipkin_thrift, jaeger_proto, jaeger_thrift, jaeger_compact, jaeger_binary and jaeger_json.")));
}

/* tempo.ingest_otlp(request bytea, tenant text) returns bigint */
Datum
tempo_ingest_otlp(PG_FUNCTION_ARGS)
{
	bytea *body = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_INT64(ingest(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), WIRE_OTLP_PROTO, PG_GETARG_TEXT_PP(1)));
}

/* tempo.ingest_otlp_json(request jsonb, tenant text) returns bigint */
Datum
tempo_ingest_otlp_json(PG_FUNCTION_ARGS)
{
	Jsonb *body = PG_GETARG_JSONB_P(0);
	char  *json = JsonbToCString(NULL, &body->root, VARSIZE(body));

	PG_RETURN_INT64(ingest(json, strlen(json), WIRE_OTLP_JSON, PG_GETARG_TEXT_PP(1)));
}

/* tempo.ingest_jaeger_json(traces jsonb, tenant text) returns bigint */
Datum
tempo_ingest_jaeger_json(PG_FUNCTION_ARGS)
{
	Jsonb *body = PG_GETARG_JSONB_P(0);
	char  *json = JsonbToCString(NULL, &body->root, VARSIZE(body));

	PG_RETURN_INT64(ingest(json, strlen(json), WIRE_JAEGER_JSON, PG_GETARG_TEXT_PP(1)));
}

/* ----------------------------------------------------------------- import */

/* Lines on their way into tempo.spans. */
typedef struct Import
{
	Relation      rel;
	SpanText      tenant;
	MemoryContext group_context; /* reset after each group */
	int64         line;          /* lines of the groups before */
	int64         stored;
} Import;

static void
import_context(void *arg)
{
	errcontext("line " INT64_FORMAT " of the OTLP JSON lines", *(int64 *) arg);
}

static bool
is_blank(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p == end;
}

/* Stores whole lines; that they are a group of their own tells the next import of the same file. */
static void
import_group(Import *import, const char *data, size_t len)
{
	MemoryContext        old = MemoryContextSwitchTo(import->group_context);
	SpanBatch           *batch = new_batch(import->group_context);
	RequestHash          hash = hash_of(import->tenant, data, len);
	const char          *end = data + len;
	StoreRequest        *parts;
	ErrorContextCallback callback;
	int64                line;
	int                  n_lines = 1;
	int                  n_parts = 0;

	for (const char *p = data; (p = memchr(p, '\n', end - p)) != NULL; p++)
		n_lines++;
	parts = MemoryContextAllocExtended(import->group_context, sizeof(StoreRequest) * n_lines, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (const char *p = data; p < end; n_parts++)
	{
		const char *newline = memchr(p, '\n', end - p);
		const char *line_end = newline != NULL ? newline : end;

		/* a blank line is an empty request */
		parts[n_parts].tenant = import->tenant;
		parts[n_parts].format = WIRE_OTLP_JSON;
		parts[n_parts].body = p;
		parts[n_parts].len = line_end - p;
		if (is_blank(p, line_end))
		{
			parts[n_parts].body = "{}";
			parts[n_parts].len = 2;
		}
		p = newline != NULL ? newline + 1 : end;
	}
	callback.callback = import_context;
	callback.arg = &line;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (!store_parts(import->rel, parts, n_parts, &hash, batch))
		for (int i = 0; i < n_parts; i++)
			if (parts[i].outcome == STORE_REFUSED)
			{
				line = import->line + i + 1;
				tempo_raise(&parts[i].error);
			}
	for (int i = 0; i < n_parts; i++)
	{
		line = import->line + i + 1;
		(void) count_request(&parts[i], &import->stored);
	}
	error_context_stack = callback.previous;
	import->line += n_parts;
	MemoryContextSwitchTo(old);
	MemoryContextReset(import->group_context);
	CHECK_FOR_INTERRUPTS();
}

static void
import_begin(Import *import, text *tenant)
{
	memset(import, 0, sizeof(*import));
	import->tenant = get_tenant(tenant);
	import->group_context = AllocSetContextCreate(CurrentMemoryContext, "tempo_pg import", ALLOCSET_DEFAULT_SIZES);
	import->rel = open_spans();
}

/* tempo.import_otlp_json_lines(lines text, tenant text) returns bigint */
Datum
tempo_import_otlp_json_lines(PG_FUNCTION_ARGS)
{
	text       *lines = PG_GETARG_TEXT_PP(0);
	const char *p = VARDATA_ANY(lines);
	const char *end = p + VARSIZE_ANY_EXHDR(lines);
	Import      import;

	import_begin(&import, PG_GETARG_TEXT_PP(1));
	while (p < end)
	{
		const char *stop = end;

		if (end - p > GROUP_BYTES && (stop = memchr(p + GROUP_BYTES, '\n', end - p - GROUP_BYTES)) != NULL)
			stop++;
		if (stop == NULL)
			stop = end;
		import_group(&import, p, stop - p);
		p = stop;
	}
	table_close(import.rel, NoLock);
	PG_RETURN_INT64(import.stored);
}

/* tempo.import_otlp_json_file(path text, tenant text) returns bigint */
Datum
tempo_import_otlp_json_file(PG_FUNCTION_ARGS)
{
	char          *path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	StringInfoData group;
	StringInfoData line;
	Import         import;
	struct stat    info;
	FILE          *file;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg("permission denied to read a file of the server"),
		         errhint("Only members of pg_read_server_files may. Others can send the lines to tempo.import_otlp_json_lines().")));
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL || fstat(fileno(file), &info) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\" for reading: %m", path)));
	if (S_ISDIR(info.st_mode))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a directory", path)));
	import_begin(&import, PG_GETARG_TEXT_PP(1));
	initStringInfo(&group);
	initStringInfo(&line);
	while (pg_get_line_append(file, &line, NULL))
	{
		appendBinaryStringInfo(&group, line.data, line.len);
		resetStringInfo(&line);
		if (group.len < GROUP_BYTES)
			continue;
		import_group(&import, group.data, group.len);
		resetStringInfo(&group);
	}
	if (ferror(file))
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	if (group.len > 0)
		import_group(&import, group.data, group.len);
	FreeFile(file);
	table_close(import.rel, NoLock);
	PG_RETURN_INT64(import.stored);
}
