/*-------------------------------------------------------------------------
 *
 * reflection.c
 *	  grpc.reflection of the gateway: which services and messages there are.
 *
 * Tools ask for it one message at a time on a call that stays open.  The
 * answers are cut out of a descriptor set of proto/client that the build
 * embeds.  Both versions of the protocol are the same on the wire.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/grpc.h"
#include "grpc_reflection.pb-c.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "worker/reflection.h"

#define STATUS_INVALID_ARGUMENT 3
#define STATUS_NOT_FOUND 5

typedef TempoPg__Reflection__File     File;
typedef TempoPg__Reflection__Request  Request;
typedef TempoPg__Reflection__Response Response;

static const uint8 descriptor_set[] = {
#include "client_descriptors.inc"
};

static bool (*is_full)(void);

/* The set, and each file of it; read once, kept. */
static TempoPg__Reflection__FileSet *set;
static File                        **files;

static void
read_set(void)
{
	if (set)
		return;
	set = tempo_pg__reflection__file_set__unpack(NULL, sizeof(descriptor_set), descriptor_set);
	if (set == NULL)
		elog(ERROR, "malformed descriptors");
	files = MemoryContextAllocZero(TopMemoryContext, set->n_file * sizeof(File *));
	for (Size i = 0; i < set->n_file; i++)
	{
		files[i] = tempo_pg__reflection__file__unpack(NULL, set->file[i].len, set->file[i].data);
		if (files[i] == NULL)
			elog(ERROR, "malformed descriptors");
	}
}

/* ------------------------------------------------------------------ names */

static bool
texts_equal(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/*
 * Takes "name" off the front of a dotted path.  True when it was there; "rest"
 * is what remains, empty if that was all.
 */
static bool
take_name(ProtobufCBinaryData path, ProtobufCBinaryData name, ProtobufCBinaryData *rest)
{
	if (path.len < name.len || memcmp(path.data, name.data, name.len) != 0)
		return false;
	rest->data = path.data + name.len;
	rest->len = path.len - name.len;
	if (rest->len == 0)
		return true;
	if (*rest->data != '.' || rest->len == 1)
		return false;
	rest->data++;
	rest->len--;
	return true;
}

static bool
has_name(TempoPg__Reflection__Named *const *list, Size n, ProtobufCBinaryData name)
{
	for (Size i = 0; i < n; i++)
	{
		if (texts_equal(list[i]->name, name))
			return true;
	}
	return false;
}

static bool
has_message(TempoPg__Reflection__MessageType *const *list, Size n, ProtobufCBinaryData path)
{
	for (Size i = 0; i < n; i++)
	{
		ProtobufCBinaryData rest;

		if (take_name(path, list[i]->name, &rest) &&
		    (rest.len == 0 || has_message(list[i]->nested_type, list[i]->n_nested_type, rest) ||
		     has_name(list[i]->enum_type, list[i]->n_enum_type, rest)))
			return true;
	}
	return false;
}

static bool
defines(const File *file, ProtobufCBinaryData symbol)
{
	ProtobufCBinaryData path;
	ProtobufCBinaryData rest;

	if (!take_name(symbol, file->package, &path) || path.len == 0)
		return false;
	for (Size i = 0; i < file->n_service; i++)
	{
		const TempoPg__Reflection__ServiceType *service = file->service[i];

		if (take_name(path, service->name, &rest) &&
		    (rest.len == 0 || has_name(service->method, service->n_method, rest)))
			return true;
	}
	return has_message(file->message_type, file->n_message_type, path) ||
	       has_name(file->enum_type, file->n_enum_type, path);
}

/* ---------------------------------------------------------------- answers */

/* A file and those it needs, each once, what is needed behind what needs it. */
static List *
with_dependencies(List *chosen, Size file)
{
	if (list_member_int(chosen, (int) file))
		return chosen;
	chosen = lappend_int(chosen, (int) file);
	for (Size i = 0; i < files[file]->n_dependency; i++)
	{
		for (Size j = 0; j < set->n_file; j++)
		{
			if (texts_equal(files[j]->name, files[file]->dependency[i]))
				chosen = with_dependencies(chosen, j);
		}
	}
	return chosen;
}

static void
answer_file(Response *response, ProtobufCBinaryData wanted, bool by_name)
{
	TempoPg__Reflection__Files *answer;
	List                       *chosen = NIL;
	ListCell                   *lc;

	for (Size i = 0; i < set->n_file && chosen == NIL; i++)
	{
		if (by_name ? texts_equal(files[i]->name, wanted) : defines(files[i], wanted))
			chosen = with_dependencies(NIL, i);
	}
	if (chosen == NIL)
		return;
	answer = palloc(sizeof(*answer));
	tempo_pg__reflection__files__init(answer);
	answer->file_descriptor_proto = palloc(list_length(chosen) * sizeof(ProtobufCBinaryData));
	foreach (lc, chosen)
		answer->file_descriptor_proto[answer->n_file_descriptor_proto++] = set->file[lfirst_int(lc)];
	response->message_response_case = TEMPO_PG__REFLECTION__RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
	response->file_descriptor_response = answer;
}

static void
answer_services(Response *response)
{
	TempoPg__Reflection__Services *answer = palloc(sizeof(*answer));

	tempo_pg__reflection__services__init(answer);
	answer->service = palloc(set->n_file * 4 * sizeof(void *));
	for (Size i = 0; i < set->n_file; i++)
	{
		for (Size j = 0; j < files[i]->n_service && answer->n_service < set->n_file * 4; j++)
		{
			TempoPg__Reflection__Service *service = palloc(sizeof(*service));
			char                         *name = psprintf("%.*s.%.*s", (int) files[i]->package.len, (char *) files[i]->package.data,
			                                              (int) files[i]->service[j]->name.len, (char *) files[i]->service[j]->name.data);

			tempo_pg__reflection__service__init(service);
			service->name.data = (uint8 *) name;
			service->name.len = strlen(name);
			answer->service[answer->n_service++] = service;
		}
	}
	response->message_response_case = TEMPO_PG__REFLECTION__RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
	response->list_services_response = answer;
}

static void
answer_error(Response *response, int code, const char *message)
{
	TempoPg__Reflection__Error *answer = palloc(sizeof(*answer));

	tempo_pg__reflection__error__init(answer);
	answer->error_code = code;
	answer->error_message.data = (uint8 *) message;
	answer->error_message.len = strlen(message);
	response->message_response_case = TEMPO_PG__REFLECTION__RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
	response->error_response = answer;
}

/* There are no extensions in our files. */
static void
answer_request(const Request *request, Response *response)
{
	switch (request->message_request_case)
	{
		case TEMPO_PG__REFLECTION__REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
			answer_services(response);
			break;
		case TEMPO_PG__REFLECTION__REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
			answer_file(response, request->file_by_filename, true);
			break;
		case TEMPO_PG__REFLECTION__REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
			answer_file(response, request->file_containing_symbol, false);
			break;
		case TEMPO_PG__REFLECTION__REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
		case TEMPO_PG__REFLECTION__REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
			break;
		default:
			answer_error(response, STATUS_INVALID_ARGUMENT, "no message_request");
			return;
	}
	if (response->message_response_case == 0)
		answer_error(response, STATUS_NOT_FOUND, "not found");
}

static void
send_response(NetRequest *net, const Response *response)
{
	Size   len = tempo_pg__reflection__response__get_packed_size(response);
	uint8 *data = palloc(Max(len, 1));

	tempo_pg__reflection__response__pack(response, data);
	net_grpc_send(net, data, len);
}

static void
on_message(NetRequest *net, void *arg)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "tempo_pg reflection", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	NetText       body = net_request_body(net);
	Request      *request = tempo_pg__reflection__request__unpack(NULL, body.len, (const uint8 *) body.data);

	if (request == NULL)
		net_grpc_finish(net, GRPC_STATUS_INTERNAL, "grpc: failed to unmarshal the received message");
	/* those that ask and do not read are cut off before they fill the memory */
	else if (net_grpc_pending(net) > 1024 * 1024 || (net_grpc_pending(net) > 0 && is_full()))
		net_grpc_finish(net, 8, "answers have not been read");
	else
	{
		Response response = TEMPO_PG__REFLECTION__RESPONSE__INIT;

		read_set();
		response.valid_host = request->host;
		response.original_request.data = (uint8 *) body.data;
		response.original_request.len = body.len;
		answer_request(request, &response);
		send_response(net, &response);
	}
	if (request)
		tempo_pg__reflection__request__free_unpacked(request, NULL);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static bool
is_reflection(const NetRequest *net)
{
	const char *path = net_request_path(net);

	return strcmp(path, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo") == 0 ||
	       strcmp(path, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") == 0;
}

bool
reflection_check(NetRequest *net, bool (*full)(void))
{
	if (!is_reflection(net))
		return false;
	is_full = full;
	net_grpc_each_message(net, on_message, NULL);
	return true;
}

bool
reflection_ends(NetRequest *net)
{
	if (!is_reflection(net))
		return false;
	net_grpc_finish(net, GRPC_STATUS_OK, NULL);
	return true;
}
