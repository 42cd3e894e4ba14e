/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  What a streaming query tells before it has ended.
 *
 * Who waits for a long query sees its newest results early: the query is run
 * on the newest sixteenth of its range, on the newest quarter, and then on the
 * whole range, in one snapshot.  The last run alone is the answer, so a stream
 * ends with what the same request over HTTP gets; the first two cost less than
 * a third of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/grpc.h"
#include "api/json.h"
#include "api/stream.h"

/* Shorter ranges are not divided: their parts would be a few seconds. */
#define MIN_DIVIDED 64

static const int parts[STREAM_MAX_SLICES] = {16, 4};

/* Of all time, the last hour and the last day. */
static const int recent[STREAM_MAX_SLICES] = {3600, 86400};

int
stream_slices(const ApiCall *call, const ApiRange *range, int64 starts[STREAM_MAX_SLICES])
{
	if (!call->request->stream || call->request->partial == NULL)
		return 0;
	if (range->set && range->end - range->start < MIN_DIVIDED)
		return 0;
	for (int i = 0; i < STREAM_MAX_SLICES; i++)
		starts[i] = range->set ? range->end - (range->end - range->start) / parts[i] : now_seconds() - recent[i];
	return STREAM_MAX_SLICES;
}

static void
send_part(void *arg, const char *data, Size len)
{
	const ApiRequest *request = arg;

	request->partial(request->partial_arg, data, len);
}

void
stream_send(ApiCall *call, const ProtobufCMessage *message)
{
	ApiResponse part = {0};

	part.body = body_create();
	message_to_protobuf(part.body, message);
	api_split_message(&part, send_part, (void *) call->request);
}

void
stream_answer(ApiCall *call, StreamBuild build, void *arg)
{
	int64 starts[STREAM_MAX_SLICES];

	if (stream_slices(call, &call->range, starts) > 0)
	{
		ApiRange whole = call->range;

		call->range.start = starts[0];
		if (!whole.set)
			call->range.end = PG_UINT32_MAX;
		call->range.set = true;
		call->partial = true;
		stream_send(call, build(call, arg));
		call->partial = false;
		call->range = whole;
	}
	api_answer(call, build(call, arg));
}
