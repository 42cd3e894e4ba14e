"""Jaeger over gRPC, HTTP and UDP as clients see it: what is accepted, what is refused with which status, and what is stored."""
import gzip, json, socket, struct, subprocess
import cluster, jaeger, tap

GRPC, HTTP, COMPACT, BINARY = cluster.free_ports(4)
node = cluster.Cluster("jaeger", **{"tempo_pg.jaeger_grpc_port": GRPC, "tempo_pg.jaeger_http_port": HTTP, "tempo_pg.jaeger_compact_port": COMPACT, "tempo_pg.jaeger_binary_port": BINARY})
counter = 0


def trace():
    global counter
    counter += 1
    return bytes([0xA0]) + counter.to_bytes(15, "big")


def http(body, path="/api/traces?format=jaeger.thrift", kind="application/x-thrift", method="POST", **headers):
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if kind: h["Content-Type"] = kind
    return node.http(method, HTTP, path, body, h)


def grpc(body, path="/jaeger.api_v2.CollectorService/PostSpans", port=GRPC):
    """-> grpc-status"""
    r = subprocess.run(["curl", "-s", "--noproxy", "*", "-m", "120", "--http2-prior-knowledge", "-o", "/dev/null", "-D", "-", "--data-binary", "@-", "-H", "Content-Type: application/grpc", "-H", "TE: trailers",
                        "http://127.0.0.1:%d%s" % (port, path)], input=struct.pack(">BI", 0, len(body)) + body, capture_output=True)
    for line in r.stdout.decode("latin1").splitlines():
        if line.lower().startswith("grpc-status:"): return int(line.split(":")[1])


def udp(body, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(body, ("127.0.0.1", port))


def metric(name, transport):
    for line in node.get("/metrics")[2].decode().splitlines():
        if line.startswith(name + "{") and 'transport="%s"' % transport in line and "jaeger" in line: return int(line.split()[-1])
    return 0


def rows(t, columns="*"):
    return node.sql("SELECT %s FROM tempo.spans WHERE trace_id = '%s' ORDER BY span_id, kind" % (columns, t.hex())).splitlines()


def whole(t):
    """a trace without its id"""
    got = json.loads(node.sql("SELECT tempo.trace_json('%s')" % t.hex()))
    return json.loads(json.dumps(got).replace(t.hex(), "T"))


def batch(t, thrift=True):
    return {"service": "shop", "tags": [("hostname", "h1"), ("ip", "10.0.0.1"), ("jaeger.version", "Node-3.19"), ("n", 7)],
            "spans": [{"trace": t, "id": 1, "name": "get", "start": 1700000000000001, "duration": 250, "tags": [("span.kind", "client"), ("s", "x"), ("b", True), ("i", -5), ("d", 0.5), ("y", b"\x01\x02")],
                       "logs": [(1700000000000011, [("event", "cache miss"), ("key", "k"), ("size", 3)]), (1700000000000012, [("message", "m")])]},
                      {"trace": t, "id": 0xF000000000000002, "parent": 1, "name": "q", "refs": [(1, t, 1), (0, b"\x0b" * 16, 9)], "flags": 0, "tags": [("error", True), ("otel.status_description", "boom")]}]}


def accepted():
    ways = (("HTTP", lambda b: tap.equal(http(jaeger.thrift(b))[::2], (202, b""), "Thrift over HTTP: 202 without a body")),
            ("UDP compact", lambda b: udp(jaeger.datagram(b, True), COMPACT)),
            ("UDP binary", lambda b: udp(jaeger.datagram(b, False), BINARY)),
            ("gRPC", lambda b: tap.equal(grpc(jaeger.proto(b)), 0, "PostSpans: OK")),
            ("all members set", lambda b: tap.equal(http(jaeger.thrift(b, crowded=True))[0], 202, "tags of all types with all members")),
            ("process last", lambda b: udp(jaeger.datagram(b, True, process_last=True), COMPACT)),
            ("query API", lambda b: tap.equal(node.sql("SELECT tempo.ingest_jaeger_json($json$%s$json$)" % json.dumps(jaeger.query_json(b))), "2", "tempo.ingest_jaeger_json: 2 spans")))
    first = None
    for name, send in ways:
        t = trace()
        send(batch(t))
        cluster.poll("the spans over " + name, lambda: len(rows(t)) == 2)
        got = whole(t)
        if first is None: first = got
        else: tap.equal(got, first, "%s is stored as over HTTP" % name)
    span = rows(t, "name, kind, service_name, resource_attributes->>'host.name', resource_attributes->>'ip', resource_attributes->>'opencensus.exporterversion', resource_attributes->>'n', start_time_unix_nano, duration_nano, attributes->>'s', attributes->>'b', attributes->>'i', attributes->>'d', flags, events->0->>'name', events->0->'attributes'->>'size', events->1->>'name'")[0]
    tap.equal(span, "get|client|shop|h1|10.0.0.1|Jaeger-Node-3.19|7|1700000000000001000|250000|x|true|-5|0.5|1|cache miss|3|", "process, times, kind, tags and logs")
    span = rows(t, "parent_span_id, status, status_message, attributes ? 'error', jsonb_array_length(links), links->0->'attributes'->>'opentracing.ref_type', links->1->'attributes'->>'opentracing.ref_type', flags")[1]
    tap.equal(span, "0000000000000001|error|boom|f|2|follows_from|child_of|0", "parent, status and references")


def one(**span):
    """how a span is stored that came over HTTP"""
    t = trace()
    span = dict({"trace": t, "id": 1}, **span)
    tap.equal(http(jaeger.thrift({"service": span.pop("service", "a"), "spans": [span]}))[0], 202, "202")
    return rows(t, "status, status_message, kind, attributes, parent_span_id, links")[0].split("|")


def mapping():
    for tags, want, what in (([("error", True)], "error", "error = true"), ([("error", False)], "unset", "error = false"), ([("error", "true")], "error", 'error = "true"'), ([("otel.status_code", "ok")], "ok", "otel.status_code"),
                             ([("error", True), ("otel.status_code", "OK")], "error", "error wins"), ([("http.status_code", 404), ("span.kind", "client")], "error", "404 of a client"),
                             ([("http.status_code", "404"), ("span.kind", "server")], "unset", "404 of a server"), ([("http.status_code", 500), ("span.kind", "server")], "error", "500"), ([("http.status_code", 200)], "unset", "200")):
        tap.equal(one(tags=tags)[0], want, what)
    tap.equal(one(tags=[("span.kind", "Consumer"), ("a", 1), ("a", 2)])[2:4], ["consumer", '{"a": 2}'], "the last of equal tags")
    tap.equal(one(refs=[(1, b"\x0c" * 16, 5)])[4], "", "a reference to another trace is no parent")
    t = trace()
    tap.equal(grpc(jaeger.proto({"spans": [{"trace": t[8:], "id": 1, "process": "own", "warnings": ["w"], "tags": [("w3c.tracestate", "k=v"), ("otel.scope.name", "lib")]}]})), 0, "PostSpans with a trace id of 8 bytes")
    tap.equal(rows(bytes(8) + t[8:], "service_name, trace_state, scope_name, attributes"), ['own|k=v|lib|{"jaeger.warnings": ["w"]}'], "a process of its own, trace state, scope and warnings")


def refused():
    t = trace()
    good = jaeger.thrift({"spans": [{"trace": t, "id": 1}]})
    tap.equal(http(good, kind="application/json")[0], 400, "another Content-Type: 400")
    tap.equal(http(good, kind=None)[0], 400, "none: 400")
    tap.equal(http(good[:-5])[0], 400, "cut short: 400")
    tap.equal(http(b"\x0f\x00\x02\x0c\x7f\xff\xff\xff\x00")[0], 400, "a list that announces 2^31 - 1 spans: 400")
    tap.equal(http(good, "/other")[0], 404, "another path: 404")
    tap.equal(http(None, method="GET")[0], 405, "GET: 405")
    tap.equal(http(jaeger.thrift({"spans": [{"trace": bytes(16), "id": 1}, {"trace": t, "id": 2}]}))[0], 400, "no trace id: 400")
    tap.ok(grpc(jaeger.proto({"spans": [{"trace": t, "id": b"12345"}]})) in (3, 13), "a span id of 5 bytes")
    tap.equal(grpc(b"", "/jaeger.api_v2.SamplingManager/GetSamplingStrategy"), 12, "sampling strategies: UNIMPLEMENTED")
    tap.equal(grpc(b"", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"), 12, "OTLP on this port: UNIMPLEMENTED")
    tap.equal(rows(t), [], "nothing of this is stored")
    tap.equal(http(good + b"more", kind="application/vnd.apache.thrift.binary; charset=x")[0], 202, "bytes behind the batch: 202")
    tap.equal(http(gzip.compress(jaeger.thrift({"spans": [{"trace": t, "id": 2}]})), Content_Encoding="gzip")[0], 202, "gzip")
    tap.equal(len(rows(t)), 2, "are stored")


def datagrams():
    t = trace()
    dropped = metric("tempo_pg_receiver_dropped_datagrams_total", "udp_thrift_compact")
    bad = [b"garbage", b"\x82\x81\x01\x09emitBatch", jaeger.datagram({"spans": [{"trace": t, "id": 1}]}, True, name=b"emitZipkinBatch"), b"\x82" * 65000, b"\x82" * 65500]
    for body in bad: udp(body, COMPACT)
    cluster.poll("all bad datagrams to be counted", lambda: metric("tempo_pg_receiver_dropped_datagrams_total", "udp_thrift_compact") - dropped == len(bad))
    tap.ok(True, "bad datagrams are counted as dropped")
    udp(jaeger.datagram({"spans": [{"trace": t, "id": 2, "tags": [("big", "x" * 60000)]}]}, True), COMPACT)
    cluster.poll("the next one", lambda: len(rows(t)) == 1)
    tap.equal(len(rows(t, "attributes->>'big'")[0]), 60000, "and the next good one is stored")
    p = jaeger.Binary()
    twice = p.message(b"emitBatch") + p.struct([(1, jaeger.STRUCT, jaeger.batch_fields({"spans": [{"trace": t, "id": 3}]})), (1, jaeger.STRUCT, [])])
    tap.equal(node.sql("SELECT tempo.ingest('\\x%s', 'jaeger_binary')" % twice.hex()), "1", "a batch without spans has none, also behind one with some")
    accepted = metric("tempo_receiver_accepted_spans", "udp_thrift_compact")
    tap.ok(accepted >= 1, "/metrics counts the accepted spans", accepted)


def tenants():
    node.configure(**{"tempo_pg.multitenancy": "on"})
    node.reload()
    t = trace()
    body = jaeger.thrift({"spans": [{"trace": t, "id": 1}]})
    cluster.poll("tenants to be required", lambda: http(body)[0] == 401)
    tap.equal(http(body, X_Scope_OrgID="a")[0], 202, "with a tenant")
    tap.equal(rows(t, "tenant"), ["a"], "it owns the span")
    dropped = metric("tempo_pg_receiver_dropped_datagrams_total", "udp_thrift_binary")
    udp(jaeger.datagram({"spans": [{"trace": t, "id": 2}]}, False), BINARY)
    cluster.poll("it to be dropped", lambda: metric("tempo_pg_receiver_dropped_datagrams_total", "udp_thrift_binary") > dropped)
    tap.ok(True, "a datagram has no tenant and is dropped")


def test():
    node.start()
    node.create_extension()
    accepted()
    mapping()
    refused()
    datagrams()
    tenants()


tap.main(test)
