"""Zipkin over HTTP as clients see it: what is accepted, what is refused with which status, and what is stored."""
import gzip, json, struct
import cluster, tap

ZIPKIN = cluster.free_ports(1)[0]
node = cluster.Cluster("zipkin", **{"tempo_pg.zipkin_port": ZIPKIN, "tempo_pg.receiver_workers": 1})

# sent by zipkin-js 0.22, version 2 and 1
JS_V2 = b'[{"traceId":"84119f66ff3ed16a","id":"84119f66ff3ed16a","name":"get","kind":"CLIENT","timestamp":1795571503034770,"duration":130,"localEndpoint":{"serviceName":"shop"},"remoteEndpoint":{"serviceName":"store","ipv4":"10.0.0.2","port":8080},"annotations":[{"timestamp":1795571503034868,"value":"halfway"}],"tags":{"http.path":"/cart"}}]'
JS_V1 = b'[{"traceId":"bafe78c9f2b94afe","id":"bafe78c9f2b94afe","name":"get","timestamp":1795571503035142,"duration":25,"annotations":[{"value":"halfway","timestamp":1795571503035161,"endpoint":{"serviceName":"shop"}},{"value":"cs","timestamp":1795571503035142,"endpoint":{"serviceName":"shop"}},{"value":"cr","timestamp":1795571503035167,"endpoint":{"serviceName":"shop"}}],"binaryAnnotations":[{"key":"http.path","value":"/cart","endpoint":{"serviceName":"shop"}},{"key":"sa","value":true,"endpoint":{"serviceName":"store","ipv4":"10.0.0.2","port":8080}}]}]'


def post(body, path="/api/v2/spans", kind="application/json", method="POST", **headers):
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if kind: h["Content-Type"] = kind
    return node.http(method, ZIPKIN, path, body if isinstance(body, bytes) else json.dumps(body).encode(), h)


def rows(trace, columns="*"):
    return node.sql("SELECT %s FROM tempo.spans WHERE trace_id = '%s' ORDER BY kind" % (columns, trace.rjust(32, "0"))).splitlines()


def accepted():
    tap.equal(post(JS_V2)[::2], (202, b""), "zipkin-js, version 2: 202 without a body")
    tap.equal(rows("84119f66ff3ed16a", "name, kind, service_name, start_time_unix_nano, duration_nano, attributes->>'http.path', attributes->>'peer.service', attributes->>'net.peer.port', events->0->>'name'"),
              ["get|client|shop|1795571503034770000|130000|/cart|store|8080|halfway"], "is stored as it should")
    tap.equal(post(JS_V2)[0], 202, "the same again")
    tap.equal(len(rows("84119f66ff3ed16a")), 1, "is stored once")
    tap.equal(post(JS_V1, "/api/v1/spans")[0], 202, "zipkin-js, version 1")
    tap.equal(rows("bafe78c9f2b94afe", "name, kind, service_name, start_time_unix_nano, duration_nano, attributes->>'http.path', attributes->>'peer.service', jsonb_array_length(events)"),
              ["get|client|shop|1795571503035142000|25000|/cart|store|1"], "is stored the same way")
    tap.equal(post([{"traceId": "c" * 32, "id": "1", "kind": "CLIENT", "tags": {"error": "boom"}}, {"traceId": "c" * 32, "id": "1", "kind": "SERVER", "shared": True}])[0], 202, "a shared pair")
    tap.equal(rows("c" * 32, "kind, status, attributes->>'error'"), ["client|error|boom", "server|unset|"], "is two spans")
    tap.equal(post(gzip.compress(json.dumps([{"traceId": "d1", "id": "1"}]).encode()), Content_Encoding="gzip")[0], 202, "gzip")
    tap.equal(len(rows("d1")), 1, "is stored")
    tap.equal(post([{"traceId": "d2", "id": "1"}], kind=None)[0], 202, "no Content-Type is JSON")
    tap.equal(post([{"traceId": "d3", "id": "1"}], "/zipkin/api/v2/spans")[0], 202, "the other path")
    span = b"\x0a\x08" + bytes.fromhex("00000000000000d4") + b"\x1a\x08" + bytes(7) + b"\x01\x2a\x01p"
    tap.equal(post(b"\x0a" + bytes([len(span)]) + span, kind="application/x-protobuf")[0], 202, "protobuf")
    tap.equal(rows("d4", "name"), ["p"], "is stored")
    thrift = b"\x0c" + struct.pack(">i", 1) + b"\x0a\x00\x01" + struct.pack(">q", 0xd5) + b"\x0b\x00\x03" + struct.pack(">i", 1) + b"t" + b"\x0a\x00\x04" + struct.pack(">q", 1) + b"\x00"
    tap.equal(post(thrift, "/api/v1/spans", "application/x-thrift")[0], 202, "Thrift")
    tap.equal(rows("d5", "name, service_name"), ["t|unknown-service"], "is stored")
    tap.equal(post([])[0], 202, "no spans at all")


def refused():
    before = node.sql("SELECT count(*) FROM tempo.spans")
    for body, what in (({}, "an object"), (b"[{", "a truncated body"), ([{"traceId": "1"}], "no id"), ([{"traceId": "1", "id": "xyz"}], "an id that is none"), ([{"id": "1"}], "no trace id"),
                       ([{"traceId": "e1", "id": "1"}, {"traceId": "e1", "id": "1", "timestamp": -1}], "one bad span of two")):
        status, headers, answer = post(body)
        tap.ok(status == 400 and headers["content-type"].startswith("text/plain") and answer, "%s: 400 with a text" % what, status, answer)
    tap.equal(post(b"\x0c\x7f\xff\xff\xff", "/api/v1/spans", "application/x-thrift")[0], 400, "Thrift that announces 2^31 - 1 spans")
    tap.equal(post(b"no gzip", Content_Encoding="gzip")[0], 400, "no gzip where it should be")
    tap.equal(post([], "/api/v2/services")[0], 404, "another path")
    tap.equal(post(None, method="GET")[0], 405, "GET")
    tap.equal(node.http("POST", ZIPKIN, "/v1/traces", b"", {"Content-Type": "application/x-protobuf"})[0], 404, "OTLP on this port")
    tap.equal(node.http("POST", node.otlp_port, "/api/v2/spans", b"[]", {"Content-Type": "application/json"})[0], 404, "Zipkin on OTLP's port")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans"), before, "nothing of this is stored")


def tenants():
    node.configure(**{"tempo_pg.multitenancy": "on"})
    node.reload()
    cluster.poll("tenants to be required", lambda: post([])[0] == 401)
    tap.ok(True, "without a tenant: 401")
    tap.equal(post([], X_Scope_OrgID="a|b")[0], 400, "two tenants: 400")
    tap.equal(post([{"traceId": "f1", "id": "1"}], X_Scope_OrgID="a")[0], 202, "one tenant")
    tap.equal(rows("f1", "tenant"), ["a"], "owns the span")
    metrics = node.get("/metrics")[2].decode()
    tap.ok('tempo_receiver_accepted_spans{receiver="zipkin/zipkin_receiver",transport="http_v2_json"} ' in metrics, "/metrics counts it")


def unavailable():
    node.configure(**{"tempo_pg.enabled": "off"})
    node.reload()
    got = cluster.poll("503", lambda: (lambda r: r if r[0] == 503 else None)(post([{"traceId": "f2", "id": "1"}], X_Scope_OrgID="a")))
    tap.ok("retry-after" in got[1] and b"tempo_pg.enabled" in got[2], "switched off: 503 with Retry-After and the reason", got)
    node.configure(**{"tempo_pg.enabled": "on", "tempo_pg.multitenancy": "off", "tempo_pg.zipkin_port": 0})
    node.restart()
    node.wait_ready()
    tap.equal(post([])[0], 0, "port 0: nobody listens")


def test():
    node.start()
    node.create_extension()
    accepted()
    refused()
    tenants()
    unavailable()


tap.main(test)
