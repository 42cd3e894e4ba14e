/*-------------------------------------------------------------------------
 *
 * fuzz_otlp_json.c
 *	  libFuzzer target: decodes bytes as an OTLP request in JSON, and looks
 *	  at every byte of what came out of it.
 *
 * fuzz-sources: ../../src/ingest/otlp_json.c ../../src/ingest/json_tree.c ../../src/ingest/context.c
 * fuzz-needs: postgres
 *
 *-------------------------------------------------------------------------
 */
#include "decoders.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_decoder(decode_otlp_json, data, size);
	return 0;
}

/* One request with nearly every field; the fuzzer does the rest. */
static const char seed[] =
	"{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"a\\u00e9\\ud83d\\ude00\"}}],"
	"\"droppedAttributesCount\":1,\"entityRefs\":[{\"schemaUrl\":\"u\",\"type\":\"t\",\"idKeys\":[\"i\"],\"descriptionKeys\":[\"d\"]}]},\"schemaUrl\":\"u\","
	"\"scopeSpans\":[{\"scope\":{\"name\":\"n\",\"version\":\"1\",\"attributes\":[]},\"spans\":[{\"traceId\":\"5b8efff798038103d269b633813fc60c\","
	"\"spanId\":\"eee19b7ec3c1b174\",\"parentSpanId\":\"\",\"traceState\":\"a=b\",\"flags\":257,\"name\":\"op\",\"kind\":\"SPAN_KIND_SERVER\","
	"\"startTimeUnixNano\":\"1544712660000000000\",\"endTimeUnixNano\":1.5e18,\"attributes\":["
	"{\"key\":\"i\",\"value\":{\"intValue\":\"-5\"}},{\"key\":\"d\",\"value\":{\"doubleValue\":\"NaN\"}},{\"key\":\"b\",\"value\":{\"boolValue\":true}},"
	"{\"key\":\"y\",\"value\":{\"bytesValue\":\"AQID\"}},{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"\\ud800\"},{}]}}},"
	"{\"key\":\"k\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"x\",\"value\":null}]}}}],"
	"\"events\":[{\"timeUnixNano\":\"1\",\"name\":\"e\",\"attributes\":[]}],\"links\":[{\"traceId\":\"\",\"spanId\":\"\",\"flags\":1}],"
	"\"status\":{\"code\":2,\"message\":\"\\u0000\"}}]}]}]}";

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = seeds_folder(*argc, *argv);

	if (folder == NULL)
		return 0;
	write_seed(folder, "one-span", seed, sizeof(seed) - 1);
	exit(0);
}
