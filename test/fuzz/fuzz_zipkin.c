/*-------------------------------------------------------------------------
 *
 * fuzz_zipkin.c
 *	  libFuzzer target: decodes bytes as each format of Zipkin, chosen by the
 *	  first byte, and looks at every byte of what came out of it.
 *
 * fuzz-sources: ../../src/ingest/zipkin.c ../../src/ingest/zipkin_v1.c ../../src/ingest/zipkin_json.c ../../src/ingest/zipkin_proto.c ../../src/ingest/zipkin_thrift.c ../../src/ingest/foreign.c ../../src/ingest/json_tree.c ../../src/ingest/json_fields.c ../../src/ingest/context.c
 * fuzz-needs: postgres
 *
 *-------------------------------------------------------------------------
 */
#include "decoders.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const Decode decoders[] = {decode_zipkin_json, decode_zipkin_v1_json,
	                                  decode_zipkin_proto, decode_zipkin_thrift};

	if (size > 0)
		check_decoder(decoders[data[0] % 4], data + 1, size - 1);
	return 0;
}

/* One request with nearly every field; the fuzzer does the rest. */
static const char seed[] =
	"0[{\"traceId\":\"5b8efff798038103\",\"id\":\"eee19b7ec3c1b174\",\"parentId\":\"1\",\"name\":\"get\",\"kind\":\"CLIENT\",\"timestamp\":1000,\"duration\":5,"
	"\"localEndpoint\":{\"serviceName\":\"a\",\"ipv4\":\"10.0.0.1\",\"port\":80},\"remoteEndpoint\":{\"serviceName\":\"b\",\"ipv6\":\"2001:db8::1\"},"
	"\"annotations\":[{\"timestamp\":1,\"value\":\"x|{\\\"a\\\":1}|0\"}],\"tags\":{\"error\":\"boom\",\"otel.status_code\":\"OK\",\"w3c.tracestate\":\"k=v\","
	"\"otlp.link.0\":\"5b8efff798038103d269b633813fc60c|eee19b7ec3c1b174|s=t|{\\\"a\\\":\\\"b\\\"}|1\",\"host.name\":\"h\"},"
	"\"binaryAnnotations\":[{\"key\":\"lc\",\"value\":\"v\",\"endpoint\":{}}]}]";

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = seeds_folder(*argc, *argv);

	if (folder == NULL)
		return 0;
	write_seed(folder, "one-span", seed, sizeof(seed) - 1);
	exit(0);
}
