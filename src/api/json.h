/*-------------------------------------------------------------------------
 *
 * json.h
 *	  Protobuf messages as JSON, and jsonb as protobuf messages.
 *
 * One encoder walks the descriptors that protoc-c made, so that an answer is
 * built once, as a message, and then written in whichever form the client
 * accepts.  The rules are those of proto3's JSON form without defaults (see
 * the API reference): 64-bit integers are strings, zero scalars are left out
 * but members of a oneof are not.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_JSON_H
#define TEMPO_API_JSON_H

#include "postgres.h"

#include <protobuf-c/protobuf-c.h>

#include "api/body.h"
#include "utils/jsonb.h"

typedef enum JsonStyle
{
	JSON_TEMPO, /* ids in base64, enums by name */
	JSON_OTLP   /* ids in hexadecimal, enums by number, as OTLP/JSON has it */
} JsonStyle;

/*
 * message_to_json: empty repeated fields of the message itself are written as
 * [] if "lists", those inside it are left out.
 */
extern void message_to_json(ApiBody *body, const ProtobufCMessage *message, JsonStyle style, bool lists);

extern void message_to_protobuf(ApiBody *body, const ProtobufCMessage *message);

/*
 * message_from_jsonb: the message that a JSON object in that form describes;
 * palloc'd, texts point into the jsonb.  Members that the message does not
 * have are ignored, a member of a wrong type raises 22023.
 */
extern ProtobufCMessage *message_from_jsonb(const ProtobufCMessageDescriptor *descriptor,
                                            JsonbContainer                   *object);

#endif /* TEMPO_API_JSON_H */
