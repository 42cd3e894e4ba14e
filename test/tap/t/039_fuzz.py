"""Random mutations of good conversations with every TCP and UDP port of a server, over HTTP/1.1 and HTTP/2: it lives on, and what is good is served.

Takes a few seconds, ten minutes with TEMPO_PG_TEST_LONG; FUZZ_SECONDS and FUZZ_SEED say it exactly.
"""
import gzip, json, os, random, socket, struct, sys, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../net"))
import cluster, jaeger, otlp, tap, wire

SECONDS = float(os.environ.get("FUZZ_SECONDS", 600 if os.environ.get("TEMPO_PG_TEST_LONG") else 8))
SEED = cluster.seed("FUZZ_SEED")
ZIPKIN, JAEGER_GRPC, JAEGER_HTTP, JAEGER_COMPACT, JAEGER_BINARY = cluster.free_ports(5)
node = cluster.Cluster("fuzz", **{"tempo_pg.receiver_workers": 1, "tempo_pg.query_workers": 2, "tempo_pg.zipkin_port": ZIPKIN, "tempo_pg.jaeger_grpc_port": JAEGER_GRPC, "tempo_pg.jaeger_http_port": JAEGER_HTTP, "tempo_pg.client_timeout": "1s",
                                  "tempo_pg.jaeger_compact_port": JAEGER_COMPACT, "tempo_pg.jaeger_binary_port": JAEGER_BINARY, "tempo_pg.cors_allowed_origins": "https://a.example"})
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SEARCH = b'/api/search?limit=5&q=%7B%20status%20%3D%20error%20%7D'
TRACE = "f" * 32


def http(path, kind, body, chunked=False, *fields):
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nOrigin: https://a.example\r\n" % (path, kind) + b"".join(f + b"\r\n" for f in fields)
    if chunked: return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:40], body[40:])) + b"0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def grpc(path, body, *fields):
    """a connection's first bytes; two calls, a ping, a window"""
    call = lambda n: wire.frame(wire.HEADERS, wire.END_HEADERS, n, wire.encode(wire.grpc_headers(path=path, extra=fields))) + wire.frame(wire.DATA, wire.END_STREAM, n, body)
    return wire.PREFACE + wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 70000)) + call(1) + wire.frame(wire.PING, 0, 0, b"x" * 8) + wire.frame(wire.WINDOW, 0, 0, b"\0\0\1\0") + call(3)


def conversations():
    request = otlp.request([otlp.span("%032x" % (i + 1), "%016x" % (i + 1), attributes=[otlp.attribute("k", "v" * 20), otlp.attribute("n", i)]) for i in range(3)])
    proto, text = otlp.request_bytes(request), json.dumps(request).encode()
    batch = {"spans": [{"trace": b"\1" * 16, "id": 1, "name": "n", "tags": [("s", "x"), ("d", .5)]}]}
    thrift, zipkin = jaeger.thrift(batch), json.dumps([{"traceId": "1", "id": "1", "tags": {"a": "b"}, "localEndpoint": {"serviceName": "s"}}]).encode()
    both = {node.grpc_port: [], node.otlp_port: []}
    for port in both:
        both[port] = [http(b"/v1/traces", b"application/x-protobuf", proto), http(b"/v1/traces", b"application/json", text, True), http(b"/v1/traces", b"application/x-protobuf", gzip.compress(proto), True, b"Content-Encoding: gzip", b"Expect: 100-continue"),
                      grpc(EXPORT, wire.message(proto)), grpc(EXPORT, wire.message(gzip.compress(proto), 1), ("grpc-encoding", "gzip")), b"OPTIONS /v1/traces HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"]
    both[ZIPKIN] = [http(b"/api/v2/spans", b"application/json", zipkin)]
    both[JAEGER_HTTP] = [http(b"/api/traces", b"application/x-thrift", thrift)]
    both[JAEGER_GRPC] = [grpc("/jaeger.api_v2.CollectorService/PostSpans", wire.message(jaeger.proto(batch)))]
    both[node.http_port] = [b"GET %s HTTP/1.1\r\nHost: x\r\nAccept: application/protobuf\r\n\r\n" % p for p in (SEARCH, b"/api/v2/traces/" + TRACE.encode(), b"/api/v2/search/tags?scope=span", b"/api/metrics/query_range?q=%7B%7D%7Crate()&step=60")]
    both[node.http_port].append(grpc("/tempopb.StreamingQuerier/Search", wire.message(otlp.text_field(1, "{ status = error }"))))
    return both, {JAEGER_COMPACT: jaeger.datagram(batch, True), JAEGER_BINARY: jaeger.datagram(batch, False)}


def mutate(data, others):
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at, length = random.randrange(len(data) + 1), random.choice((1, 1, 2, 4, 16, 100))
        kind = random.randrange(7)
        if kind == 0 and data: data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 1: data[at:at + length] = bytes(random.randrange(256) for _ in range(length))
        elif kind == 2: del data[at:at + length]
        elif kind == 3: data[at:at] = data[at:at + length] * random.choice((1, 2, 50))
        elif kind == 4: del data[at:]
        elif kind == 5:
            other = random.choice(others)
            data[at:] = other[random.randrange(len(other)):]
        else: data[at:at + length] = random.choice((b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\r\n", b"\x80\x80\x80\x80\x80\x01", b"99999999999")) * random.choice((1, 4))
    return bytes(data)


waiting = []


def send(port, data):
    """in pieces; what is not answered at once stays open for a while beside the others"""
    s = socket.create_connection(("localhost", port), timeout=120)
    try:
        n = random.choice((1, 9, 100, len(data)))
        s.sendall(data[:n])
        s.sendall(data[n:])
        if random.randrange(4): s.shutdown(socket.SHUT_WR)
        s.settimeout(0.005)
        while s.recv(65536): pass
    except TimeoutError: waiting.append(s)
    except OSError: s.close()
    else: s.close()
    while len(waiting) > 40: waiting.pop(random.randrange(len(waiting))).close()


def good():
    """every port answers what is good"""
    ports, _ = conversations()
    answers = {}
    for port, talks in ports.items():
        for talk in (talks[0], talks[-1]) * 10:
            # a server that has done nothing for a second (tempo_pg.client_timeout) may take it for the client's
            if answers.get((port, talk[:40]), b"").startswith((b"HTTP/1.1 2", b"\4\0\0\0\0\0")): continue
            with socket.create_connection(("localhost", port), timeout=120) as s:
                s.sendall(talk)
                s.settimeout(120)
                got = b""
                while len(got) < 12 or (talk.startswith(b"PRI") and len(got) < 60):
                    try: piece = s.recv(65536)
                    except ConnectionError: piece = b""
                    if not piece: break
                    got += piece
                answers[port, talk[:40]] = got[3:9] if talk.startswith(b"PRI") else got[:10]
    bad = {k: v for k, v in answers.items() if not (v.startswith(b"HTTP/1.1 2") or v.startswith(b"\4\0\0\0\0\0"))}
    return bad


def memory():
    """megabytes of private memory of the listening processes and their workers"""
    total = 0
    for pid in node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'tempo_pg %'").split():
        with open("/proc/%s/status" % pid) as f: total += int(dict(l.split(":", 1) for l in f if ":" in l)["RssAnon"].split()[0]) >> 10
    return total


def test():
    tap.note("FUZZ_SEED=%d" % SEED)
    random.seed(SEED)
    node.start()
    node.create_extension()
    node.export_json(otlp.request([otlp.span(TRACE, "%016x" % (i + 1)) for i in range(5)]))
    tap.equal(good(), {}, "every port is served")
    ports, datagrams = conversations()
    pids = node.sql("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type IN ('tempo_pg receiver', 'tempo_pg gateway', 'tempo_pg writer')")
    before, n, end = memory(), 0, time.monotonic() + SECONDS
    everything = [t for talks in ports.values() for t in talks]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while time.monotonic() < end:
        port = random.choice(list(ports))
        send(port, mutate(random.choice(ports[port]), everything))
        for port, data in datagrams.items(): udp.sendto(mutate(data, everything)[:60000], ("127.0.0.1", port))
        n += 1
        if n % 500 == 0 and good(): break
    while waiting: waiting.pop().close()
    tap.note("%d conversations" % n)
    tap.equal(good(), {}, "after random conversations every port is served")
    tap.equal(node.sql("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type IN ('tempo_pg receiver', 'tempo_pg gateway', 'tempo_pg writer')"), pids, "by the same processes")
    tap.ok(memory() < before + 200, "which have not grown much", before, memory())
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%s'" % TRACE), "5", "what was stored is there")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    tap.ok("PANIC" not in node.log_text() and "terminated by signal" not in node.log_text(), "no crash", node.log_text()[-2000:])


tap.main(test)
