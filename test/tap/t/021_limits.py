"""Limits of tenants: what is refused or left out, with which answer, and how it is counted."""
import base64, json
import cluster, otlp, tap

node = cluster.Cluster("limits", **{"tempo_pg.receiver_workers": 2, "tempo_pg.multitenancy": "on", "tempo_pg.live_trace_idle": "1h", "tempo_pg.zipkin_port": 0})
counter = 0


def spans(n, trace=None, name="op", pad=0):
    """a request with n spans, of one trace or of n"""
    global counter
    out = []
    for i in range(n):
        counter += 1
        out.append({"traceId": trace or "%032x" % (0xE << 124 | counter), "spanId": "%016x" % counter, "name": name, "startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": [{"key": "pad", "value": {"stringValue": "x" * pad}}]})
    return {"resourceSpans": [{"scopeSpans": [{"spans": out}]}]}


def stat(tenant, column):
    return int(node.sql("SELECT coalesce(sum(%s), 0) FROM tempo.stat_ingest WHERE tenant = '%s'" % (column, tenant)))


def stored(tenant): return int(node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = '%s'" % tenant))


def override(tenant, **columns):
    node.sql("INSERT INTO tempo.overrides (tenant, %s) VALUES ('%s', %s) ON CONFLICT (tenant) DO UPDATE SET %s" % (", ".join(columns), tenant, ", ".join(map(str, columns.values())), ", ".join("%s = %s" % c for c in columns.items())))


def rate():
    tap.equal(node.export_json(spans(3), "free")[0], 200, "without limits all is taken")
    override("slow", ingestion_rate_bytes=1, ingestion_burst_bytes=2000)
    tap.equal(node.export_json(spans(1), "slow")[0], 200, "within the burst")
    status, headers, body = node.export_json(spans(30, pad=10), "slow")
    answer = json.loads(body)
    tap.ok(status == 429 and headers.get("retry-after") == "5" and answer["code"] == 8 and answer["message"].startswith("RATE_LIMITED") and answer["details"][0]["retryDelay"] == "5s", "more than the burst: 429 with Retry-After, code 8 and RetryInfo", status, headers, body)
    tap.equal((stat("slow", "rate_limited"), stat("slow", "discarded_spans"), stat("slow", "refused_requests"), stored("slow")), (30, 30, 1, 1), "all its spans count as discarded, none is stored")
    tap.ok('tempo_discarded_spans_total{tenant="slow",reason="rate_limited"} 30' in node.get("/metrics")[2].decode(), "in /metrics too")
    status, fields = grpc("slow")
    tap.ok(status == 8 and fields.get("grpc-message", "").startswith("RATE_LIMITED") and b"RetryInfo" in base64.b64decode(fields["grpc-status-details-bin"] + "=="), "over gRPC: RESOURCE_EXHAUSTED with RetryInfo", status, fields)
    tap.equal(node.export_json(spans(30, pad=10), "free")[0], 200, "other tenants are not concerned")
    request = spans(1, name="again")
    override("slow", ingestion_rate_bytes="NULL", ingestion_burst_bytes="NULL")
    tap.equal(node.export_json(request, "slow")[0], 200, "without the override it passes at once")
    override("slow", ingestion_rate_bytes=1, ingestion_burst_bytes=0)
    tap.equal(node.export_json(spans(30, pad=10), "slow")[0], 200, "a rate without a burst lets a large request pass when nothing was sent before")
    tap.equal(node.export_json(spans(1), "slow")[0], 429, "the next has to wait")
    node.sql("DELETE FROM tempo.overrides")
    node.configure(**{"tempo_pg.ingestion_rate_limit": "1kB", "tempo_pg.ingestion_burst": "1kB"})
    node.reload()
    cluster.poll("the setting to hold for a tenant without overrides", lambda: node.export_json(spans(20, pad=30), "free")[0] == 429)
    tap.ok(True, "the setting is the default")
    before = stored("free")
    tap.equal(node.sql("SELECT tempo.ingest_otlp_json('%s', 'free')" % json.dumps(spans(20, pad=30))), "20", "SQL is not limited")
    tap.equal(stored("free"), before + 20, "and stores")
    node.configure(**{"tempo_pg.ingestion_rate_limit": 0, "tempo_pg.ingestion_burst": 0})
    node.reload()
    cluster.poll("the limit to be gone", lambda: node.export_json(spans(20, pad=30), "free")[0] == 200)


def grpc(tenant):
    """a request too large for its tenant"""
    import struct, subprocess
    span = b"\x0a\x10" + b"\x0f" * 16 + b"\x12\x08" + b"\x01" * 8 + b"\x2a\xff\x0f" + b"n" * 2047
    def field(n, v):
        size, out = len(v), b""
        while size > 127: out, size = out + bytes([size & 127 | 128]), size >> 7
        return bytes([n << 3 | 2]) + out + bytes([size]) + v
    body = field(1, field(2, field(2, span)))
    r = subprocess.run(["curl", "-s", "--noproxy", "*", "-m", "120", "--http2-prior-knowledge", "-o", "/dev/null", "-D", "-", "--data-binary", "@-", "-H", "Content-Type: application/grpc", "-H", "TE: trailers", "-H", "X-Scope-OrgID: " + tenant,
                        "http://127.0.0.1:%d/opentelemetry.proto.collector.trace.v1.TraceService/Export" % node.grpc_port], input=struct.pack(">BI", 0, len(body)) + body, capture_output=True)
    fields = dict(l.split(": ", 1) for l in r.stdout.decode("latin1").replace("\r", "").splitlines() if ": " in l)
    return int(fields.get("grpc-status", -1)), fields


def trace_size():
    override("big", max_bytes_per_trace=5000)
    trace = "d" * 32
    answers = [node.export_json(spans(2, trace, pad=1000), "big") for _ in range(3)]
    tap.equal([a[0] for a in answers], [200] * 3, "a trace that grows: 200")
    partial = json.loads(answers[2][2])["partialSuccess"]
    tap.ok(partial.get("rejectedSpans") == "2" and partial["errorMessage"].startswith("TRACE_TOO_LARGE"), "the spans that make it too large are rejected", partial)
    tap.equal((stored("big"), stat("big", "trace_too_large"), stat("big", "live_traces")), (4, 2, 1), "the first are stored, the others counted")
    tap.equal(node.export_json(spans(1), "big")[0], 200, "another trace")
    tap.equal(stored("big"), 5, "is stored")
    mixed = spans(3)
    mixed["resourceSpans"] += spans(1, trace)["resourceSpans"]
    tap.equal(json.loads(node.export_json(mixed, "big")[2])["partialSuccess"].get("rejectedSpans"), "1", "of a request with several traces only that one is left out")
    tap.equal(stored("big"), 8, "the others are stored")


def trace_count():
    override("many", max_live_traces=100)
    status, _, body = node.export_json(spans(101), "many")
    tap.equal((status, json.loads(body)["partialSuccess"].get("rejectedSpans")), (200, "1"), "101 traces where 100 may be: one span is rejected")
    tap.equal((stored("many"), stat("many", "live_traces_exceeded"), stat("many", "live_traces")), (100, 1, 100), "100 are stored")
    known = node.sql("SELECT trace_id FROM tempo.spans WHERE tenant = 'many' LIMIT 1")
    tap.equal(json.loads(node.export_json(spans(2, known), "many")[2])["partialSuccess"], {}, "further spans of a known trace are taken")
    node.configure(**{"tempo_pg.live_trace_idle": "1ms"})
    node.reload()
    cluster.poll("room for other traces", lambda: json.loads(node.export_json(spans(1), "many")[2])["partialSuccess"] == {})
    tap.ok(True, "traces that are idle make room")


def attributes():
    override("cut", max_attribute_bytes=4)
    node.export_json(spans(1, pad=100), "cut")
    node.export_json(spans(1, pad=100), "whole")
    tap.equal(node.sql("SELECT length(attributes->>'pad') FROM tempo.spans WHERE tenant IN ('cut', 'whole') ORDER BY tenant"), "4\n100", "attributes are cut for the tenant that wants it")
    tap.equal(stat("cut", "truncated_attributes"), 1, "and counted")


def many_tenants():
    node.sql("SELECT tempo.ingest_otlp_json('{\"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [{\"traceId\": \"%s\", \"spanId\": \"%s\"}]}]}]}', 'tenant-' || i) FROM generate_series(1, 1100) i" % ("c" * 32, "1" * 16))
    tap.equal(node.sql("SELECT count(*), sum(requests) > 0 FROM tempo.stat_ingest"), "1025|t", "tenants beyond 1024 share their counters")
    tap.ok(stat("__overflow__", "requests") > 0, "in __overflow__")
    tap.equal(node.psql("SELECT * FROM tempo.stat_ingest", user="nobody").returncode != 0, True, "not everybody may see them")
    tap.ok(int(node.sql("SELECT sum(accepted_spans) FROM tempo.stat_receivers WHERE transport = 'http'")) > 0, "tempo.stat_receivers counts by transport")
    # a bucket of a byte a second: who finds it full has its request taken, and a debt for the rest of the test
    node.configure(**{"tempo_pg.ingestion_rate_limit": 1})
    node.reload()
    cluster.poll("the limit", lambda: node.export_json(spans(1, pad=5000), "late-0")[0] == 429)
    tap.equal(stat("late-0", "requests"), 0, "a tenant of now has no counters of its own")
    tap.ok(200 in {node.export_json(spans(1, pad=5000), "late-%d" % i)[0] for i in range(1, 20)}, "one that uses up its rate does not use up that of all the others")
    node.configure(**{"tempo_pg.ingestion_rate_limit": 0})
    node.configure(**{"tempo_pg.max_tenants": 2000})
    node.restart()
    cluster.poll("an answer", lambda: node.export_json({}, "x")[0] == 200)
    node.sql("SELECT tempo.ingest_otlp_json('{}', 'tenant-' || i) FROM generate_series(1, 1100) i")
    tap.equal(node.sql("SELECT count(*) > 1100, bool_or(tenant = '__overflow__') FROM tempo.stat_ingest"), "t|f", "tempo_pg.max_tenants of them have counters of their own")


def test():
    node.start()
    node.sql("CREATE EXTENSION tempo_pg; CREATE ROLE nobody LOGIN")
    cluster.poll("an answer", lambda: node.export_json({}, "x")[0] == 200)
    rate()
    trace_size()
    trace_count()
    attributes()
    many_tenants()


tap.main(test)
