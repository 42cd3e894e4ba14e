"""The checklist of the ingest protocols, input by input, over real sockets: the answer, and how many spans are stored.

The numbers are those of the checklist that this receiver was built by.  ELSEWHERE says for those that are not here which test has them; the last test here is that no number is missing.  More of limits
is in 021_limits, of Jaeger's mapping in 018_jaeger, of CORS in 025_authentication.
"""
import base64, gzip, json, os, re, socket, struct, sys, threading, zlib
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../net"))
import cluster, jaeger, otlp, tap, wire
from wire import message

ZIPKIN, JAEGER_GRPC, JAEGER_HTTP, JAEGER_COMPACT, JAEGER_BINARY = cluster.free_ports(5)
LIMIT = 1024 * 1024
node = cluster.Cluster("checklist", **{"tempo_pg.receiver_workers": 1, "tempo_pg.zipkin_port": ZIPKIN, "tempo_pg.jaeger_grpc_port": JAEGER_GRPC, "tempo_pg.jaeger_http_port": JAEGER_HTTP,
                                       "tempo_pg.jaeger_compact_port": JAEGER_COMPACT, "tempo_pg.jaeger_binary_port": JAEGER_BINARY, "tempo_pg.otlp_max_message_bytes": LIMIT, "tempo_pg.ingestion_max_bytes_per_trace": 0})
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
counter = 0
NUMBERS = range(1, 147)
# number: file, and words that the test of it has
ELSEWHERE = {
    36: ("test/net/http2_test.py", "def test_pings_whose_answers_nobody_reads"),
    43: ("test/net/tls_test.py", "def test_protocols"),
    46: ("test/tap/t/004_readonly.py", "export_grpc"),
    86: ("test/net/http1_test.py", "def test_slow_headers"),
}
checked = set()


def new_trace():
    global counter
    counter += 1
    return "%032x" % (0xC << 124 | counter)


def r1(trace, spans=2, **more):
    """a small valid request: one resource, one scope, spans of one trace"""
    return otlp.request([otlp.span(trace, "%016x" % (i + 1), **more) for i in range(spans)])


def r1_bytes(trace, **more): return otlp.request_bytes(r1(trace, **more))


def stored(trace): return int(node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%s'" % trace))
def total(): return int(node.sql("SELECT count(*) FROM tempo.spans"))


def row(trace, columns): return node.sql("SELECT %s FROM (SELECT * FROM tempo.spans WHERE trace_id = '%s' ORDER BY span_id) s" % (columns, trace)).split("\n")[0]


def check(number, what, got, want):
    if "-" not in str(number): checked.update(map(int, re.findall(r"\d+", str(number))))
    tap.equal(got, want, "%s: %s" % (number, what))


# ------------------------------------------------------------------- snappy
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8): crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    crc ^= 0xffffffff
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


def block(data):
    """literals only, which is legal"""
    return otlp.varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(p) - 1) + p for p in (data[i:i + 60000] for i in range(0, len(data), 60000)))


def framed(data):
    out = b"\xff\x06\0\0sNaPpY"
    for i in range(0, len(data), 65536):
        piece = data[i:i + 65536]
        chunk = struct.pack("<I", crc32c(piece)) + block(piece)
        out += b"\0" + struct.pack("<I", len(chunk))[:3] + chunk
    return out


def zstd(data):
    """a frame with one raw block"""
    return b"\x28\xb5\x2f\xfd\x00\x58" + struct.pack("<I", len(data) << 3 | 1)[:3] + data


# --------------------------------------------------------------------- gRPC
def grpc(body, port=None, trace=None, path=EXPORT, **more):
    """-> stream; body None: HEADERS end the stream"""
    with wire.Connection(port or node.grpc_port) as c:
        number = c.open(wire.grpc_headers(path=path, **more), end=body is None)
        if body is not None: c.data(number, body, end=True)
        return c.wait(number)


def section_grpc():
    for number, what, encode, flag, fields in ((1, "plain", None, 0, ()), (2, "gzip", gzip.compress, 1, (("grpc-encoding", "gzip"),)), (3, "gzip, not used", None, 0, (("grpc-encoding", "gzip"),)),
                                               (4, "deflate", zlib.compress, 1, (("grpc-encoding", "deflate"),)), (4, "zstd", zstd, 1, (("grpc-encoding", "zstd"),)), (4, "snappy", framed, 1, (("grpc-encoding", "snappy"),)),
                                               (23, "no te", None, 0, ()), (24, "timeout 5S", None, 0, (("grpc-timeout", "5S"),)), (24, "timeout 9999871u", None, 0, (("grpc-timeout", "9999871u"),)),
                                               (24, "timeout 9983m", None, 0, (("grpc-timeout", "9983m"),))):
        t = new_trace()
        body = r1_bytes(t)
        s = grpc(message(encode(body) if encode else body, flag), extra=fields)
        check(number, what, (s.status, bytes(s.data), stored(t)), (0, b"\0\0\0\0\0", 2))
    for number, kind in ((21, "application/grpc;charset=utf-8"), (21, "application/grpc+proto")):
        t = new_trace()
        check(number, kind, (grpc(message(r1_bytes(t)), content_type=kind).status, stored(t)), (0, 2))
    before = total()
    good = r1_bytes("c" * 31 + "1")
    for number, what, body, more, want, http in (
            (5, "codec br", message(good), {"extra": [("grpc-encoding", "br")]}, (12,), "200"), (6, "flag 1 without codec", message(good, 1), {}, (13,), "200"), (7, "flag 2", message(good, 2), {}, (13,), "200"),
            (8, "gzip garbage", message(b"garbage", 1), {"extra": [("grpc-encoding", "gzip")]}, (13,), "200"), (8, "snappy garbage", message(b"\xff\x06\0\0sNaPpY\0\x05\0\0garbage", 1), {"extra": [("grpc-encoding", "snappy")]}, (13,), "200"),
            (9, "cut short", struct.pack(">BI", 0, 100) + good[:50], {}, (13,), "200"), (10, "no message", None, {}, (12,), "200"), (11, "two messages", message(good) * 2, {}, (12,), "200"),
            (14, "length over the limit", struct.pack(">BI", 0, LIMIT + 1) + b"x", {}, (8,), "200"),
            (15, "gzip bomb", message(gzip.compress(bytes(64 << 20)), 1), {"extra": [("grpc-encoding", "gzip")]}, (8,), "200"),
            (15, "snappy bomb", message(framed(bytes(2 << 20))[:LIMIT - 10], 1), {"extra": [("grpc-encoding", "snappy")]}, (8, 13), "200"),
            (15, "a block of snappy that announces 4 GiB", message(b"\xff\xff\xff\xff\x0f\x00a", 1), {"extra": [("grpc-encoding", "snappy")]}, (8, 13), "200"),
            (16, "unknown service", message(good), {"path": "/a.B/C"}, (12,), "200"), (17, "unknown method", message(good), {"path": EXPORT + "s"}, (12,), "200"), (18, "metrics", message(good), {"path": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"}, (12,), "200"),
            (19, "path without a second slash", message(good), {"path": "/x"}, (12,), "200"), (20, "text/plain", message(good), {"content_type": "text/plain"}, (3, None), "415"), (22, "GET", message(good), {"method": "GET"}, (13,), "405"),
            (25, "timeout of nine digits", message(good), {"extra": [("grpc-timeout", "123456789S")]}, (13,), "400"), (25, "timeout without unit", message(good), {"extra": [("grpc-timeout", "5")]}, (13,), "400"),
            (25, "timeout 5x", message(good), {"extra": [("grpc-timeout", "5x")]}, (13,), "400"), (26, "timeout 0n", message(good), {"extra": [("grpc-timeout", "0n")]}, (4,), "200"),
            (29, "binary header that is none", message(good), {"extra": [("x-bin", "***")]}, (13,), "400")):
        s = grpc(body, **more)
        checked.add(number)
        tap.ok(s.status in want and s.header(":status") == http, "%d: %s: %s" % (number, what, want), s.blocks, s.reset)
        if want != (3, None): tap.ok(s.trailers_only, "47: %s: trailers only" % what, s.blocks)
        if number == 5: tap.ok("snappy" in s.header("grpc-accept-encoding"), "5: grpc-accept-encoding")
        if number == 14: tap.ok(s.header("grpc-status-details-bin") is None, "14: without RetryInfo")
    for number, what, fields in ((30, "connection", [("connection", "keep-alive")]), (31, "upper case", [("X-Y", "z")]), (31, "a pseudo header after others", [(":scheme", "http")]), (31, "an unknown pseudo header", [(":x", "y")])):
        check(number, what, grpc(message(good), extra=fields).reset, 1)
    check("5-31", "nothing of it is stored", total(), before)
    check(12, "zero-length message", grpc(message(b"")).status, 0)
    for number, what in ((13, "pieces of one byte, padded, and an empty last frame"), (44, "more than a window")):
        t = new_trace()
        with wire.Connection(node.grpc_port) as c:
            n = c.open(wire.grpc_headers(path=EXPORT))
            if number == 13:
                for byte in message(r1_bytes(t)): c.send(wire.frame(wire.DATA, wire.PADDED, n, bytes([2, byte, 0, 0])))
                c.send(wire.frame(wire.DATA, wire.END_STREAM, n))
            else: c.data(n, message(r1_bytes(t, attributes=[otlp.attribute("k", "x" * 200000)])), end=True)
            check(number, what, (c.wait(n).status, stored(t)), (0, 2))
            t = new_trace()
            check("18, 16", "the connection goes on", (c.call(message(b""), path="/a.B/C").status, c.call(message(r1_bytes(t)), path=EXPORT).status, stored(t)), (12, 0, 2))
    t = new_trace()
    with wire.Connection(node.grpc_port) as c:
        n = c.open(wire.grpc_headers(path=EXPORT))
        c.data(n, message(r1_bytes(t))[:20])
        c.send(wire.frame(wire.RST, 0, n, struct.pack(">I", 8)))
        check(27, "reset before the end", (c.call(message(b""), path=EXPORT).status, stored(t)), (0, 0))
        traces = [new_trace() for _ in range(100)]
        streams = [c.open(wire.grpc_headers(path=EXPORT)) for _ in traces]
        for n, t in zip(streams, traces): c.data(n, message(r1_bytes(t)), end=True)
        check(32, "100 streams at once", ([c.wait(n).status for n in streams], sum(map(stored, traces))), ([0] * 100, 200))
    t = new_trace()
    with wire.Connection(node.grpc_port, settings=[(4, 0)]) as c:
        n = c.open(wire.grpc_headers(path=EXPORT))
        c.data(n, message(r1_bytes(t)), end=True)
        cluster.poll("it to be stored", lambda: stored(t) == 2)
        c.send(wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)))
        check(38, "a window of 0, then a larger one", c.wait(n).status, 0)
    for number, what, settings, error in ((39, "window 2^31", [(4, 1 << 31)], 3), (39, "frames of 100", [(5, 100)], 1)):
        with wire.Connection(node.grpc_port, settings=settings) as c: check(number, what, c.wait_goaway(), error)
    with wire.Connection(node.grpc_port) as c:
        c.send(wire.frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x80"))
        check(41, "HPACK index 0", c.wait_goaway(), 9)
    with socket.create_connection(("localhost", node.grpc_port)) as c:
        t = new_trace()
        body = r1_bytes(t)
        c.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        check(42, "HTTP/1.1 on the port for gRPC", (c.recv(100)[:12], stored(t)), (b"HTTP/1.1 200", 2))
    s = grpc(message(b""), path="/a%\u00e4.B/C")
    tap.ok("%25" in s.header("grpc-message"), "48: grpc-message is percent-encoded", s.blocks)
    check(49, "health", (bytes(grpc(message(b""), path="/grpc.health.v1.Health/Check").data), grpc(message(b"\x0a\x01x"), path="/grpc.health.v1.Health/Check").status), (b"\0\0\0\0\2\x08\1", 5))


# --------------------------------------------------------------------- HTTP
PROTO, JSON = "application/x-protobuf", "application/json"


def post(body, kind=JSON, path="/v1/traces", method="POST", port=None, **headers):
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if kind: h["Content-Type"] = kind
    return node.http(method, port or node.otlp_port, path, body, h)


def raw(data, answers=1):
    """what comes back for these bytes: the statuses, and whether the connection was closed"""
    with socket.create_connection(("localhost", node.otlp_port), timeout=120) as c:
        c.sendall(data)
        got, closed = b"", False
        while got.count(b"HTTP/1.1 ") < answers or not got.rstrip().endswith((b"}", b"\n")) and b"Content-Length: 0" not in got and b"100 Continue" not in got:
            piece = c.recv(65536)
            if not piece:
                closed = True
                break
            got += piece
        return [int(p[:3]) for p in got.split(b"HTTP/1.1 ")[1:]], closed


def as_json(request, **span):
    """changes the first span"""
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(span)
    return json.dumps(request).encode()


def section_http():
    for number, what, make, kind, headers in ((50, "protobuf", r1_bytes, PROTO, {}), (51, "JSON", lambda t: json.dumps(r1(t)).encode(), JSON, {}), (53, "gzip", lambda t: gzip.compress(r1_bytes(t)), PROTO, {"Content_Encoding": "gzip"}),
                                              (53, "deflate", lambda t: zlib.compress(r1_bytes(t)), PROTO, {"Content_Encoding": "deflate"}), (53, "zstd", lambda t: zstd(r1_bytes(t)), PROTO, {"Content_Encoding": "zstd"}),
                                              (53, "snappy, framed", lambda t: framed(r1_bytes(t)), PROTO, {"Content_Encoding": "snappy"}), (53, "snappy, a block", lambda t: block(r1_bytes(t)), PROTO, {"Content_Encoding": "snappy"}),
                                              (53, "x-snappy-framed", lambda t: framed(json.dumps(r1(t)).encode()), JSON, {"Content_Encoding": "x-snappy-framed"}), (56, "parameters and capitals", lambda t: json.dumps(r1(t)).encode(), "application/JSON; charset=UTF-8", {})):
        t = new_trace()
        status, answer, body = post(make(t), kind, **headers)
        check(number, what, (status, answer.get("content-type"), body if kind == PROTO else json.loads(body), stored(t)), (200, PROTO if kind == PROTO else JSON, b"" if kind == PROTO else {"partialSuccess": {}}, 2))
    t = new_trace()
    body = json.dumps(r1(t)).encode()
    check(52, "chunked", (raw(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:100], body[100:])) + b"0\r\n\r\n")[0], stored(t)), ([200], 2))
    before = total()
    good = r1_bytes("c" * 31 + "2")
    text = json.dumps(r1("c" * 31 + "3")).encode()
    for number, what, status, answer in (
            (54, "br", 400, post(good, PROTO, Content_Encoding="br")), (55, "no gzip", 400, post(good, PROTO, Content_Encoding="gzip")), (55, "no snappy", 400, post(b"\xff\x06\0\0sNaPpY\x01\x05\0\0abcde", PROTO, Content_Encoding="snappy")),
            (57, "no type", 415, post(good, None)), (57, "text/plain", 415, post(good, "text/plain")), (58, "GET", 405, post(None, method="GET")), (58, "PUT", 405, post(good, PROTO, method="PUT")), (58, "DELETE", 405, post(None, method="DELETE")),
            (59, "metrics", 404, post(good, PROTO, "/v1/metrics")), (59, "logs", 404, post(good, PROTO, "/v1/logs")), (59, "/", 404, post(good, PROTO, "/")), (59, "/v1/trace", 404, post(good, PROTO, "/v1/trace")),
            (60, "empty protobuf", 200, post(b"", PROTO)), (61, "empty JSON", 400, post(b"")), (62, "{}", 200, post(b"{}")), (63, "1234", 400, post(b"1234")), (63, "[]", 400, post(b"[]")), (63, "truncated", 400, post(text[:-3])), (63, "trailing garbage", 400, post(text + b"x")),
            (64, "ff ff", 400, post(b"\xff\xff", PROTO)), (66, "id in base64", 400, post(as_json(r1("c" * 32), traceId=base64.b64encode(bytes(range(16))).decode()))), (67, "id as an array", 400, post(as_json(r1("c" * 32), traceId=[1] * 16))),
            (68, "trace id of 31 digits", 400, post(as_json(r1("c" * 32), traceId="c" * 31))), (68, "of 33", 400, post(as_json(r1("c" * 32), traceId="c" * 33))), (68, "span id of 15", 400, post(as_json(r1("c" * 32), spanId="c" * 15))),
            (70, "kind foo", 400, post(as_json(r1("c" * 32), kind="foo"))), (72, "2^63", 400, post(as_json(r1("c" * 32), attributes=[{"key": "i", "value": {"intValue": "9223372036854775808"}}]))),
            (77, "nested 10,000 deep", 400, post(b'{"resourceSpans":' + b"[" * 10000 + b"]" * 10000 + b"}")), (79, "over the limit", 413, post(bytes(LIMIT + 1), PROTO)), (80, "over the limit after gzip", 413, post(gzip.compress(bytes(64 << 20)), PROTO, Content_Encoding="gzip")),
            (80, "over the limit after snappy", 413, post(otlp.varint(LIMIT + 1) + b"\x00a" + b"\xfe\x01\0" * (LIMIT // 64), PROTO, Content_Encoding="snappy"))):
        check(number, what, answer[0], status)
        if number == 58: check(58, "Allow", answer[1].get("allow"), "POST")
        if number in (54, 55, 64): tap.ok(answer[2].startswith(b"\x08\x03"), "%d: a google.rpc.Status with code 3" % number, answer[2])
        if number in (63, 66, 67, 68): check(number, what + ": code", json.loads(answer[2])["code"], 3)
    chunk = b"%x\r\n%s\r\n" % (65536, bytes(65536))
    check(80, "over the limit in chunks", raw(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 17)[0], [413])
    check(82, "Expect to a wrong path", raw(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")[0], [404])
    check(84, "two lengths", raw(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")[0][:1], [400])
    check(85, "bad chunk size", raw(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")[0], [400])
    check("54-85", "nothing of it is stored", total(), before)
    with socket.create_connection(("localhost", node.otlp_port), timeout=120) as c:
        t = new_trace()
        body = r1_bytes(t, attributes=[otlp.attribute("k", "x" * 300000)])
        c.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        first = c.recv(1000)[:12]
        c.sendall(body)
        check(81, "Expect: 100-continue", (first, c.recv(1000)[:12], stored(t)), (b"HTTP/1.1 100", b"HTTP/1.1 200", 2))
    traces = [new_trace() for _ in range(3)]
    data = b"".join(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n" % len(b) + b for b in map(r1_bytes, traces))
    check(83, "three at once", (raw(data, 3)[0], sum(map(stored, traces))), ([200] * 3, 6))
    for number, what, change, columns, want in (
            (65, "upper-case ids", {}, "count(*)", "2"), (69, "snake case", {"start_time_unix_nano": "7", "startTimeUnixNano": None}, "min(start_time_unix_nano)", "7"), (70, "kind 2", {"kind": 2}, "max(kind)", "server"), (70, "SPAN_KIND_SERVER", {"kind": "SPAN_KIND_SERVER"}, "max(kind)", "server"),
            (71, "2^53 + 1 as text", {"attributes": [{"key": "i", "value": {"intValue": "9007199254740993"}}]}, "max(attributes->>'i')", "9007199254740993"), (71, "and as a number", {"attributes": [{"key": "i", "value": {"intValue": 9007199254740993}}]}, "max(attributes->>'i')", "9007199254740993"),
            (73, "NaN", {"attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}, {"key": "e", "value": {"doubleValue": "-Infinity"}}]}, "max(attributes->'d'->'$otlp'->>'doubleValue'), max(attributes->'e'->'$otlp'->>'doubleValue')", "NaN|-Infinity"),
            (75, "unknown fields", {"x": {"y": [1, {"z": 2}]}}, "count(*)", "2"), (76, "empty values", {"attributes": [{"key": "a", "value": {}}, {"key": "b", "value": None}]}, "bool_or(attributes ? 'a' and attributes ? 'b')", "t"),
            (78, "\\u0000 and a lone surrogate", {"name": "a\0b\ud800"}, "min(name)", "a\ufffdb\ufffd")):
        t = new_trace()
        request = r1(t)
        if number == 65: change = {"traceId": t.upper()}
        check(number, what, (post(as_json(request, **change))[0], row(t, columns)), (200, want))
    t = new_trace()
    post(as_json(r1(t), attributes=[{"key": "y", "value": {"bytesValue": "AQID"}}]))
    tap.ok("AQID" in node.sql("SELECT tempo.trace_json('%s')" % t), "74: bytes")


# ------------------------------------------------------------------ content
def both(number, what, body, http, code):
    """the same over HTTP and gRPC; nothing is stored"""
    before = total()
    check(number, what, (post(body, PROTO)[0], grpc(message(body)).status in code, total()), (http, True, before))


def field(n, data): return otlp.bytes_field(n, data)


def request_of(*spans): return field(1, field(2, b"".join(field(2, s) for s in spans)))


def span_of(trace, more=b"", id=b"\0" * 7 + b"\1"): return field(1, trace if isinstance(trace, bytes) else bytes.fromhex(trace)) + (field(2, id) if id is not None else b"") + more


def section_content():
    t = new_trace()
    bad = (3, 13)
    for n in (15, 8): both(93, "trace id of %d bytes" % n, request_of(span_of(b"\1" * n)), 400, bad)
    discarded = lambda reason: int(node.sql("SELECT sum(%s) FROM tempo.stat_ingest" % reason))
    before = discarded("invalid_trace_id"), discarded("invalid_span_id")
    both(94, "no trace id in one of ten spans", request_of(*[span_of(t, id=bytes([i + 1] * 8)) for i in range(9)], span_of(bytes(16))), 400, (3,))
    both(95, "span id of zeros", request_of(span_of(t), span_of(t, id=bytes(8))), 400, (3,))
    check("94, 95", "all their spans count", (discarded("invalid_trace_id") - before[0], discarded("invalid_span_id") - before[1]), (20, 4))
    both(97, "parent of 4 bytes", request_of(span_of(t, field(4, b"1234"))), 400, bad)
    deep = b""
    for _ in range(10000): deep = field(5, field(1, deep)) if len(deep) < 500000 else deep
    both(108, "nested 10,000 deep", request_of(span_of(t, field(9, field(1, b"k") + field(2, deep)))), 400, bad)
    both(110, "a wire type that is wrong", request_of(span_of(t, b"\x28\x01")), 400, bad)
    for what, bytes_ in (("varint of 11 bytes", b"\x30" + b"\xff" * 10 + b"\1"), ("field 0", b"\0\0"), ("length past the end", b"\x2a\x7fabc")): both(111, what, request_of(span_of(t, bytes_)), 400, bad)
    time = lambda s, e: otlp.fixed64_field(7, s) + otlp.fixed64_field(8, e)
    for number, what, span, columns, want in (
            (96, "parent of zeros", field(4, bytes(8)), "parent_span_id IS NULL", "t"), (98, "a link without ids", field(13, b""), "jsonb_array_length(links)", "1"), (99, "the end before the start", time(5, 3), "start_time_unix_nano, duration_nano <= 0", "5|t"),
            (100, "no times", b"", "start_time_unix_nano", "0"), (102, "invalid UTF-8", field(5, b"a\xffb") + field(9, field(1, b"k") + field(2, field(1, b"\xc3"))), "name, attributes->>'k'", "a\ufffdb|\ufffd"), (103, "NUL", field(9, field(1, b"k") + field(2, field(1, b"a\0b"))), "attributes->>'k'", "a\ufffdb"),
            (104, "equal keys", field(9, field(1, b"k") + field(2, field(1, b"1"))) + field(9, field(1, b"k") + field(2, field(1, b"2"))), "attributes ? 'k'", "t"),
            (107, "an array, a list, bytes, nothing", b"".join(field(9, field(1, k) + field(2, v)) for k, v in ((b"a", field(5, field(1, field(1, b"x")))), (b"l", field(6, field(1, field(1, b"y") + field(2, field(1, b"z"))))), (b"n", b""), (b"b", field(7, b"\1")))), "attributes->'a', attributes->'l', attributes->'n'", '["x"]|{"y": "z"}|{"$otlp": {}}'),
            (109, "unknown fields and groups", otlp.varint(999 << 3 | 2) + b"\1x" + otlp.varint(998 << 3 | 3) + b"\x08\1" + otlp.varint(998 << 3 | 4), "count(*)", "1"), (113, "kind 17, status 9", b"\x30\x11" + field(15, b"\x18\x09"), "kind, status", "17|9"),
            (114, "flags, trace state, counts", field(3, b"a=b") + b"\x50\x01\x60\x02\x70\x03" + b"\x85\x01" + struct.pack("<I", 257), "flags, trace_state, dropped_attributes_count, dropped_events_count, dropped_links_count", "257|a=b|1|2|3")):
        t = new_trace()
        check(number, what, (post(request_of(span_of(t, span)), PROTO)[0], row(t, columns)), (200, want))
    t = new_trace()
    status, _, body = post(request_of(span_of(t, time(2 ** 64 - 1, 2 ** 64 - 1))), PROTO)
    check(101, "a start of 2^64 - 1: its span is rejected, with a partial success (nothing else could be stored of it)", (status, body[:2] != b"", stored(t)), (200, True, 0))
    t = new_trace()
    check(112, "field 1000", (post(field(1, otlp.varint(1000 << 3 | 2) + otlp.varint(len(field(2, span_of(t)))) + field(2, span_of(t))), PROTO)[0], stored(t)), (200, 1))
    t = new_trace()
    body = r1_bytes(t)
    check(115, "twice", (post(body, PROTO)[0], post(body, PROTO)[0], stored(t)), (200, 200, 2))
    node.configure(**{"tempo_pg.max_attribute_bytes": 2048, "tempo_pg.ingestion_max_bytes_per_trace": 500000, "tempo_pg.max_live_traces": 1000, "tempo_pg.live_trace_idle": "1h"})
    node.reload()
    long = b"\xc3\xa4" * 5000
    def cut():
        t = new_trace()
        post(request_of(span_of(t, field(9, field(1, b"k") + field(2, field(1, long))) + field(9, field(1, b"a") + field(2, field(5, field(1, field(1, long))))))), PROTO)
        return row(t, "octet_length(attributes->>'k'), octet_length(attributes->'a'->>0)")
    cluster.poll("attributes to be cut", lambda: cut() == "2048|10000")
    check("105, 106", "a long text is cut, but not inside an array", cut(), "2048|10000")
    t = new_trace()
    answers = [post(r1_bytes(t, attributes=[otlp.attribute("k%d" % i, "x" * 2000) for i in range(50)] + [otlp.attribute("n", n)]), PROTO) for n in range(3)]
    check(116, "a trace of 600 kB where 500 may be", ([a[0] for a in answers], answers[2][2] != b"", stored(t)), ([200] * 3, True, 4))
    live = int(node.sql("SELECT live_traces FROM tempo.stat_ingest"))
    traces = [new_trace() for _ in range(1001 - live)]
    status, _, body = post(request_of(*[span_of(t) for t in traces]), PROTO)
    check(117, "one trace more than may be", (status, body != b"", int(node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id IN (%s)" % ", ".join("'%s'" % t for t in traces)))), (200, True, 1000 - live))
    node.configure(**{"tempo_pg.max_attribute_bytes": 0, "tempo_pg.ingestion_max_bytes_per_trace": 0, "tempo_pg.max_live_traces": 0, "tempo_pg.multitenancy": "on"})
    node.reload()
    cluster.poll("tenants", lambda: post(b"{}")[0] == 401)
    check(118, "no tenant", (post(b"{}")[0], grpc(message(b"")).status), (401, 16))
    for tenant in ("a|b", "../x", "x" * 151): check(119, "tenant %.10s" % tenant, (post(b"{}", X_Scope_OrgID=tenant)[0], grpc(message(b""), extra=[("x-scope-orgid", tenant)]).status), (400, 3))
    node.configure(**{"tempo_pg.multitenancy": "off", "tempo_pg.ingestion_rate_limit": 1, "tempo_pg.ingestion_burst": 600})
    node.reload()
    cluster.poll("no tenants", lambda: post(b"{}")[0] == 200)
    t = new_trace()
    for number in (91, 92):
        status, headers, body = post(json.dumps(r1(t, spans=20)).encode())
        check(number, "more than the burst", (status, headers.get("retry-after"), json.loads(body)["code"], "RetryInfo" in body.decode(), stored(t)), (429, "5", 8, True, 0))
    check(135, "Zipkin, rate limited", post(json.dumps([{"traceId": t, "id": "1", "name": "x" * 1000}]).encode(), port=ZIPKIN, path="/api/v2/spans")[0], 429)
    check(135, "Jaeger, rate limited", (post(jaeger.thrift({"spans": [{"trace": bytes.fromhex(t), "id": 1, "name": "x" * 1000}]}), "application/x-thrift", "/api/traces", port=JAEGER_HTTP)[0], grpc(message(jaeger.proto({"spans": [{"trace": bytes.fromhex(t), "id": 1, "name": "x" * 1000}]})), port=JAEGER_GRPC, path="/jaeger.api_v2.CollectorService/PostSpans").status), (429, 8))
    node.configure(**{"tempo_pg.ingestion_rate_limit": 0, "tempo_pg.ingestion_burst": 0})
    node.reload()
    cluster.poll("no limit", lambda: post(r1_bytes(new_trace(), attributes=[otlp.attribute("k", "x" * 2000)]), PROTO)[0] == 200)
    t = new_trace()
    check(120, "no-generate-metrics", (post(r1_bytes(t), PROTO, no_generate_metrics="1")[0], stored(t)), (200, 2))


# ------------------------------------------------------------------- Zipkin
def section_zipkin():
    def zipkin(*spans, path="/api/v2/spans", kind=JSON, **headers): return post(spans[0] if isinstance(spans[0], bytes) else json.dumps(list(spans)).encode(), kind, path, port=ZIPKIN, **headers)
    t = new_trace()
    check(121, "ids of 16 digits", (zipkin({"traceId": t[16:], "id": "1"})[::2], stored("0" * 16 + t[16:])), ((202, b""), 1))
    for number, what, span, columns, want in ((122, "CLIENT with an error", {"kind": "CLIENT", "tags": {"error": "boom"}}, "kind, status, attributes->>'error'", "client|error|boom"), (123, "error true", {"tags": {"error": "true"}}, "status, attributes ? 'error'", "error|f"),
                                              (123, "error empty", {"tags": {"error": ""}}, "status, attributes ? 'error'", "error|t"), (125, "no timestamp", {}, "start_time_unix_nano, attributes->>'otel.zipkin.absentField.startTime'", "0|true"),
                                              (126, "annotations", {"timestamp": 5, "annotations": [{"timestamp": 6, "value": "plain"}, {"timestamp": 7, "value": 'x|{"a":1}|0'}]}, "events->0->>'name', events->1->>'name', events->1->'attributes'->>'a'", "plain|x|1"),
                                              (127, "endpoints", {"localEndpoint": {"serviceName": "s", "ipv4": "10.0.0.1", "port": 80}, "remoteEndpoint": {"serviceName": "r", "ipv4": "10.0.0.2", "port": 81}}, "service_name, attributes->>'network.local.address', attributes->>'net.host.port', attributes->>'peer.service', attributes->>'network.peer.address', attributes->>'net.peer.port'", "s|10.0.0.1|80|r|10.0.0.2|81")):
        t = new_trace()
        check(number, what, (zipkin(dict(span, traceId=t, id="1"))[0], row(t, columns)), (202, want))
    t = new_trace()
    check(124, "a shared pair", (zipkin({"traceId": t, "id": "1", "kind": "CLIENT"}, {"traceId": t, "id": "1", "kind": "SERVER", "shared": True})[0], stored(t)), (202, 2))
    check(128, "[]", zipkin(b"[]")[0], 202)
    before = total()
    for what, body in (("{}", b"{}"), ("truncated", b"[{"), ("no id", b'[{"traceId":"1"}]'), ("an id that is none", b'[{"traceId":"1","id":"xyz"}]')): check(129, what, zipkin(body)[0], 400)
    for what, body in (("count 2^31 - 1", b"\x0c\x7f\xff\xff\xff"), ("truncated", b"\x0c\0\0\0\1\x0a\0")): check(134, what, zipkin(body, path="/api/v1/spans", kind="application/x-thrift")[0], 400)
    check("129, 134", "nothing of it is stored", total(), before)
    for n in (16, 8):
        t = new_trace() if n == 16 else "0" * 16 + new_trace()[16:]
        check(130, "protobuf, trace id of %d bytes" % n, (zipkin(field(1, field(1, bytes.fromhex(t)[16 - n:]) + field(3, b"\0" * 7 + b"\1")), kind=PROTO)[0], stored(t)), (202, 1))
    t = new_trace()
    check(131, "gzip", (zipkin(gzip.compress(json.dumps([{"traceId": t, "id": "1"}]).encode()), Content_Encoding="gzip")[0], stored(t)), (202, 1))
    for value, kind in (("cs", "client"), ("sr", "server")):
        t = new_trace()
        check(132, "version 1 with %s" % value, (zipkin({"traceId": t, "id": "0000000000000001", "annotations": [{"timestamp": 5, "value": value, "endpoint": {"serviceName": "s"}}]}, path="/api/v1/spans")[0], row(t, "kind, service_name")), (202, kind + "|s"))
    t = new_trace()
    span = b"\x0a\0\1" + bytes.fromhex(t[16:]) + b"\x0a\0\x0c" + bytes.fromhex(t[:16]) + b"\x0b\0\3\0\0\0\1n" + b"\x0a\0\4" + b"\0" * 7 + b"\1\0"
    check(133, "Thrift", (zipkin(b"\x0c\0\0\0\1" + span, path="/api/v1/spans", kind="application/x-thrift")[0], stored(t)), (202, 1))


# ------------------------------------------------------------------- Jaeger
def section_jaeger():
    def thrift(body, kind="application/x-thrift"): return post(body, kind, "/api/traces", port=JAEGER_HTTP)[0]
    def posted(batch): return grpc(message(jaeger.proto(batch)), port=JAEGER_GRPC, path="/jaeger.api_v2.CollectorService/PostSpans").status
    def batch(t, **span): return {"spans": [dict({"trace": bytes.fromhex(t), "id": 1}, **span)]}
    t = new_trace()
    check(136, "Thrift", (thrift(jaeger.thrift(batch(t))), stored(t)), (202, 1))
    t = new_trace()
    check(137, "application/json", (thrift(jaeger.thrift(batch(t)), JSON), stored(t)), (400, 0))
    check(138, "truncated, with trailing bytes", (thrift(jaeger.thrift(batch(t))[:-4]), stored(t), thrift(jaeger.thrift(batch(t)) + b"x"), stored(t)), (400, 0, 202, 1))
    for port, compact in ((JAEGER_COMPACT, True), (JAEGER_BINARY, False)):
        t = new_trace()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for body in (b"garbage", b"\x80" * 65000, jaeger.datagram(batch(t), compact, name=b"emitZipkinBatch"), jaeger.datagram(batch(t), compact)): s.sendto(body, ("127.0.0.1", port))
        cluster.poll("the datagram", lambda: stored(t) == 1)
        tap.ok(True, "139: UDP, %s" % ("compact" if compact else "binary"))
        check(140, "three bad datagrams", node.sql("SELECT dropped_datagrams FROM tempo.stat_receivers WHERE transport = 'udp_thrift_%s'" % ("compact" if compact else "binary")), "3")
    for n in (16, 8):
        t = new_trace() if n == 16 else "0" * 16 + new_trace()[16:]
        check(141, "PostSpans, trace id of %d bytes" % n, (posted({"spans": [{"trace": bytes.fromhex(t)[16 - n:], "id": 1}]}), stored(t)), (0, 1))
    t = new_trace()
    check(142, "span id of 5 bytes", (posted({"spans": [{"trace": bytes.fromhex(t), "id": b"12345"}]}) in (3, 13), stored(t)), (True, 0))
    check(143, "all members of tags", (thrift(jaeger.thrift(batch(t, tags=[("s", "x"), ("d", .5), ("b", True), ("i", 7)]), crowded=True)), row(t, "attributes")), (202, '{"b": true, "d": 0.5, "i": 7, "s": "x"}'))
    for tags, want in (([("error", True)], "error"), ([("error", False)], "unset"), ([("error", "true")], "error"), ([("http.status_code", 404), ("span.kind", "client")], "error"), ([("http.status_code", 404), ("span.kind", "server")], "unset")):
        t = new_trace()
        check(144, tags, (thrift(jaeger.thrift(batch(t, tags=tags))), row(t, "status")), (202, want))
    t = new_trace()
    check(145, "references", (thrift(jaeger.thrift(batch(t, refs=[(0, bytes.fromhex(t), 5), (1, bytes.fromhex(t), 6), (0, b"\7" * 16, 7)]))), row(t, "parent_span_id, links->0->'attributes'->>'opentracing.ref_type', links->1->'attributes'->>'opentracing.ref_type'")), (202, "0000000000000005|follows_from|child_of"))
    t = new_trace()
    check(146, "a log with an event", (thrift(jaeger.thrift(batch(t, logs=[(5, [("event", "e"), ("k", 1)])]))), row(t, "events->0->>'name', events->0->'attributes'")), (202, 'e|{"k": 1}'))


def receiver_memory():
    """megabytes of private memory of the receiver"""
    pid = node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tempo_pg receiver'")
    with open("/proc/%s/status" % pid) as f: return int(dict(l.split(":", 1) for l in f)["RssAnon"].split()[0]) >> 10

# ------------------------------------------------------------------- HTTP/2
def refused_by_goaway(number, what, pieces):
    """the connection is told to calm down, and the server goes on"""
    with wire.Connection(node.grpc_port) as c:
        try:
            for piece in pieces: c.send(piece)
        except ConnectionError: pass
        tap.ok(c.wait_goaway() in (11, None), "%d: %s: GOAWAY ENHANCE_YOUR_CALM, or just the end" % (number, what), c.goaways)
        c.pump(lambda: c.closed)
    t = new_trace()
    check(number, what + ": the server goes on", (grpc(message(r1_bytes(t))).status, stored(t)), (0, 2))


def section_http2():
    t = new_trace()
    with wire.Connection(node.grpc_port) as c:
        n = c.open(wire.grpc_headers(path=EXPORT))
        c.data(n, message(r1_bytes(t)), end=True)
        c.send(wire.frame(wire.RST, 0, n, struct.pack(">I", 8)))
        tap.ok(c.call(message(b""), path=EXPORT).status == 0 and stored(t) in (0, 2), "28: reset after the end: all or nothing", stored(t))
    with wire.Connection(node.grpc_port) as c:
        c.pump(lambda: c.settings is not None)
        most = c.settings[3]
        traces = [new_trace() for _ in range(most)]
        streams = [c.open(wire.grpc_headers(path=EXPORT)) for _ in range(most + 10)]
        check(33, "streams beyond what SETTINGS allow", [c.wait(n).reset for n in streams[most:]], [7] * 10)
        for n, t in zip(streams, traces): c.data(n, message(r1_bytes(t)), end=True)
        check(33, "the others", ([c.wait(n).status for n in streams[:most]], sum(map(stored, traces))), ([0] * most, 2 * most))
    opened = wire.encode(wire.grpc_headers(path=EXPORT))
    refused_by_goaway(34, "10,000 streams that are reset", [wire.frame(wire.HEADERS, wire.END_HEADERS, n, opened) + wire.frame(wire.RST, 0, n, struct.pack(">I", 8)) for n in range(1, 20000, 2)])
    before = receiver_memory()
    refused_by_goaway(35, "headers without end", [wire.frame(wire.HEADERS, 0, 1, opened)] + [wire.frame(wire.CONTINUATION, 0, 1, wire.encode([("x", "y" * 16000)]))] * 5000)
    tap.ok(receiver_memory() - before < 32, "35: and memory is bounded", before, receiver_memory())
    with wire.Connection(node.grpc_port) as c:
        for i in range(3):
            c.send(b"".join(wire.frame(wire.PING, 0, 0, bytes([i] * 7 + [k])) for k in range(20)))
            c.pump(lambda: len(c.pings) == 20 * (i + 1))
            check(37, "pings, answered in order, and a call", (c.pings[-1], c.call(message(b""), path=EXPORT).status), (bytes([i] * 7 + [19]), 0))
    # Huffman, and what the first block puts into the dynamic table; its indexes; a table of size 0
    literal = lambda name, value: bytes([len(name)]) + name + bytes([len(value)]) + value
    path = EXPORT.encode()
    first = b"\x83\x86\x44" + bytes([len(path)]) + path + b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff" + b"\x5f\x10application/grpc" + b"\x40" + literal(b"te", b"trailers")
    second = b"\x83\x86\xc1\xc0\xbf\xbe"
    third = b"\x20\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x01x" + b"\x0f\x10\x10application/grpc"
    with wire.Connection(node.grpc_port) as c:
        for what, block in (("Huffman", first), ("the dynamic table", second), ("its size set to 0", third)):
            n, c.next_id, t = c.next_id, c.next_id + 2, new_trace()
            c.send(wire.frame(wire.HEADERS, wire.END_HEADERS, n, block))
            c.data(n, message(r1_bytes(t)), end=True)
            check(40, "HPACK: %s" % what, (c.wait(n).status, stored(t)), (0, 2))
        c.send(wire.frame(wire.HEADERS, wire.END_HEADERS, c.next_id, second))
        check(41, "an entry that the table has no more", c.wait_goaway(), 9)


# ----------------------------------------------------- slow clients and pages
def section_clients():
    node.configure(**{"tempo_pg.cors_allowed_origins": "https://shop.example.com"})
    node.reload()
    page = {"Origin": "https://shop.example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    ask = lambda headers, method="OPTIONS", body=None: node.http(method, node.otlp_port, "/v1/traces", body, headers)
    cluster.poll("CORS", lambda: ask(page)[0] == 204)
    status, headers, _ = ask(page)
    check(87, "a preflight", (status, [headers.get("access-control-allow-" + h) for h in ("origin", "methods", "headers", "credentials")], "Origin" in headers.get("vary", "")), (204, ["https://shop.example.com", "POST", "content-type", "true"], True))
    status, headers, _ = ask(dict(page, Origin="https://evil.example.com"))
    check(88, "one of another origin", (status, headers.get("access-control-allow-origin")), (204, None))
    t = new_trace()
    for body, want in ((r1_bytes(t), 200), (b"\xff\xff", 400)):
        status, headers, _ = ask({"Origin": page["Origin"], "Content-Type": PROTO}, "POST", body)
        check(89, "POST, %d" % want, (status, headers.get("access-control-allow-origin"), stored(t)), (want, page["Origin"], 2))
    before = total()
    node.configure(**{"tempo_pg.client_timeout": "1s"})
    node.reload()
    with socket.create_connection(("localhost", node.otlp_port), timeout=300) as c:
        c.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n" + r1_bytes(new_trace())[:50])
        answer = c.recv(100)
        check(86, "a body that stops: 408, or just the end", (answer[:12] in (b"", b"HTTP/1.1 408"), total()), (True, before))
    node.configure(**{"tempo_pg.client_timeout": "30s", "tempo_pg.cors_allowed_origins": ""})
    node.reload()
    cluster.poll("no CORS", lambda: ask(page)[0] == 405)
    check(90, "OPTIONS without CORS", ask(page)[0], 405)


def section_stop():
    """what is in flight when the server stops is stored and acknowledged, or neither"""
    traces = [new_trace() for _ in range(20)]
    with wire.Connection(node.grpc_port) as c:
        streams = [c.open(wire.grpc_headers(path=EXPORT)) for _ in traces]
        for n, t in zip(streams[:10], traces): c.data(n, message(r1_bytes(t)), end=True)
        c.wait(streams[0])
        stopping = threading.Thread(target=node.stop)
        stopping.start()
        c.pump(lambda: bool(c.goaways))
        try:
            for n, t in zip(streams[10:], traces[10:]): c.data(n, message(r1_bytes(t)), end=True)
        except ConnectionError: pass
        c.pump(lambda: all(c.stream(n).ended or c.stream(n).reset is not None for n in streams))
        answers = [c.stream(n).status for n in streams]
        stopping.join()
    node.start()
    cluster.poll("the server", lambda: node.try_sql("SELECT 1"))
    found = [stored(t) for t in traces]
    tap.ok(all(n == 2 for a, n in zip(answers, found) if a == 0) and set(found) <= {0, 2}, "45: the server stops amid exports: what was acknowledged is stored, nothing in parts", answers, found)
    tap.ok(set(answers) <= {0, 14, None} and 0 in answers, "45: the others are told to come back", answers)
    checked.add(45)


def section_numbers():
    with open(__file__) as f: text = f.read()
    checked.update(int(n) for words in re.findall(r'tap\.ok\(.*?"((?:\d+, )*\d+): ', text) for n in words.split(", "))
    for number, (name, words) in ELSEWHERE.items():
        with open(os.path.join(os.path.dirname(__file__), "../../..", name)) as f: tap.ok(words in f.read(), "%d is in %s" % (number, name))
    tap.equal([n for n in NUMBERS if n not in checked and n not in ELSEWHERE], [], "every number of the checklist has a test")


def test():
    node.start()
    node.create_extension()
    section_grpc()
    section_http2()
    section_http()
    tap.ok(receiver_memory() < 50, "15, 80: bombs of 64 MB have left the receiver small", receiver_memory())
    section_content()
    section_zipkin()
    section_jaeger()
    section_clients()
    section_stop()
    section_numbers()
    tap.ok("PANIC" not in node.log_text() and "terminated by signal" not in node.log_text(), "no crash", node.log_text()[-2000:])


tap.main(test)
