"""OTLP over gRPC and HTTP as clients see it: what is accepted, what is refused, with which words, and that a refused request leaves nothing."""
import base64, gzip, json, os, re, socket, struct, subprocess, tempfile, threading, zlib
import cluster, otlp, tap

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
JSON = "application/json"
PROTO = "application/x-protobuf"

node = cluster.Cluster("ingest", **{"tempo_pg.otlp_max_message_bytes": "1MB", "tempo_pg.receiver_workers": 1, "tempo_pg.receiver_memory": "4MB"})
trace_number = 0


def new_trace():
    global trace_number
    trace_number += 1
    return "%032x" % (0xabc000 + trace_number)


def new_request(spans=2):
    trace = new_trace()
    return trace, otlp.request([otlp.span(trace, "%016x" % (i + 1)) for i in range(spans)])


def count(trace=None):
    return int(node.sql("SELECT count(*) FROM tempo.spans" + (" WHERE trace_id = '%s'" % trace if trace else "")))


def post(body, kind=JSON, path="/v1/traces", method="POST", port=None, **headers):
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if kind: h["Content-Type"] = kind
    return node.http(method, port or node.otlp_port, path, body, h)


def grpc(*arguments, **more):
    """-> grpc-status, grpc-message, all headers and trailers, body"""
    for _ in range(50):
        got = grpc_once(*arguments, **more)
        # curl loses an answer that comes before it has sent all of its body
        if got[0] >= 0: break
    return got


def grpc_once(message, path=TRACES, flag=0, port=None, framed=None, **headers):
    with tempfile.NamedTemporaryFile() as out:
        command = ["curl", "-s", "--noproxy", "*", "-m", "120", "--http2-prior-knowledge", "-o", out.name, "-D", "-", "--data-binary", "@-", "-H", "TE: trailers"]
        for k, v in dict({"Content-Type": "application/grpc"}, **{k.replace("_", "-"): v for k, v in headers.items()}).items(): command += ["-H", "%s: %s" % (k, v)]
        r = subprocess.run(command + ["http://127.0.0.1:%d%s" % (port or node.grpc_port, path)], input=struct.pack(">BI", flag, len(message)) + message if framed is None else framed, capture_output=True)
        fields = {}
        for line in r.stdout.decode("latin1").splitlines():
            k, colon, v = line.partition(":")
            if colon: fields[k.strip().lower()] = v.strip()
        return int(fields.get("grpc-status", -1)), fields.get("grpc-message", ""), fields, out.read()


def fields_of(data):
    """(number, value) of a protobuf message"""
    i, found = 0, []
    def varint():
        nonlocal i
        n = shift = 0
        while True:
            b = data[i]
            i += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128: return n
    while i < len(data):
        tag = varint()
        if tag & 7 == 0: found.append((tag >> 3, varint()))
        else:
            n = varint()
            found.append((tag >> 3, data[i:i + n]))
            i += n
    return found


def test_accepted():
    for name, send in (("HTTP JSON", lambda r: post(json.dumps(r).encode())),
                       ("HTTP protobuf", lambda r: post(otlp.request_bytes(r), PROTO)),
                       ("gzip", lambda r: post(gzip.compress(json.dumps(r).encode()), Content_Encoding="gzip")),
                       ("deflate", lambda r: post(zlib.compress(otlp.request_bytes(r)), PROTO, Content_Encoding="deflate")),
                       ("a content type with parameters in capitals", lambda r: post(json.dumps(r).encode(), "application/JSON; charset=UTF-8")),
                       ("a slash and a query behind the path", lambda r: post(json.dumps(r).encode(), path="/v1/traces/?x=1")),
                       ("an encoded path", lambda r: post(json.dumps(r).encode(), path="/v1/%74races")),
                       ("HTTP on the gRPC port", lambda r: post(json.dumps(r).encode(), port=node.grpc_port))):
        trace, request = new_request()
        status, headers, body = send(request)
        tap.equal((status, count(trace)), (200, 2), "%s is stored" % name)
        if name == "HTTP JSON": tap.equal((headers["content-type"], json.loads(body)), (JSON, {"partialSuccess": {}}), "the answer in JSON")
        if name == "HTTP protobuf": tap.equal((headers["content-type"], headers["content-length"], body), (PROTO, "0", b""), "the answer in protobuf")
    for name, send in (("gRPC", lambda b: grpc(b)), ("gRPC with gzip", lambda b: grpc(gzip.compress(b), flag=1, grpc_encoding="gzip")),
                       ("gRPC announcing gzip, sent plain", lambda b: grpc(b, grpc_encoding="gzip")),
                       ("gRPC with a content type in full", lambda b: grpc(b, Content_Type="application/grpc+proto")),
                       ("gRPC with a deadline", lambda b: grpc(b, grpc_timeout="9999871u")),
                       ("gRPC on the HTTP port", lambda b: grpc(b, port=node.otlp_port))):
        trace, request = new_request()
        status, message, fields, body = send(otlp.request_bytes(request))
        tap.equal((status, body, count(trace)), (0, b"\0\0\0\0\0", 2), "%s is stored" % name)
    for name, status in (("no spans in protobuf", post(b"", PROTO)[0]), ("no spans in JSON", post(b"{}")[0])): tap.equal(status, 200, name)
    tap.equal(grpc(b"")[0], 0, "no spans over gRPC")


def test_refused_http():
    _, request = new_request()
    good = json.dumps(request).encode()
    before = count()
    for name, got, want in (
            ("another path", post(good, path="/"), 404), ("metrics", post(good, path="/v1/metrics"), 404), ("a similar path", post(good, path="/v1/trace"), 404),
            ("GET", post(None, method="GET"), 405), ("PUT", post(good, method="PUT"), 405), ("OPTIONS", post(None, method="OPTIONS"), 405),
            ("no content type", post(good, "text/plain"), 415), ("an unknown encoding", post(good, Content_Encoding="br"), 400),
            ("gzip that is none", post(good, Content_Encoding="gzip"), 400), ("gzip cut short", post(gzip.compress(good)[:-9], Content_Encoding="gzip"), 400),
            ("an empty body", post(b""), 400), ("a number", post(b"1234"), 400), ("an array", post(b"[]"), 400), ("JSON cut short", post(good[:-3]), 400), ("JSON with more behind", post(good + b"x"), 400),
            ("deep JSON", post(b"[" * 10000), 400), ("protobuf garbage", post(b"\xff\xff", PROTO), 400), ("too large", post(b" " * (1 << 20) + good), 413), ("too large when decompressed", post(gzip.compress(b" " * (1 << 24) + good), Content_Encoding="gzip"), 413)):
        tap.equal(got[0], want, "%s: %d" % (name, want))
        if want == 405: tap.equal(got[1].get("allow"), "POST", "%s: Allow" % name)
        if want in (400, 413):
            if got[1].get("content-type") == PROTO: code = dict(fields_of(got[2]))[1]
            else: code = json.loads(got[2])["code"]
            tap.equal(code, 3 if want == 400 else 8, "%s: a google.rpc.Status" % name)
    tap.equal(post(good, path="/")[2], b"404 page not found\n", "the text of 404")
    tap.ok(b"OTEL_METRICS_EXPORTER=none" in post(good, path="/v1/metrics")[2], "who sends metrics is told")
    tap.ok(b"tempo_pg.http_port" in post(good, path="/api/search")[2], "and who asks the port for spans")
    tap.equal(post(b"\xff\xff", PROTO)[1]["content-type"], PROTO, "an error in protobuf for protobuf")
    tap.equal(count(), before, "nothing of it is stored")


def test_refused_grpc():
    _, request = new_request()
    good = otlp.request_bytes(request)
    before = count()
    for name, got, status, text in (
            ("another service", grpc(good, "/a.b.C/Export"), 12, "unknown service a.b.C"),
            ("another method", grpc(good, "/opentelemetry.proto.collector.trace.v1.TraceService/Import"), 12, "unknown method Import for service opentelemetry.proto.collector.trace.v1.TraceService"),
            ("metrics", grpc(good, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"), 12, "unknown service"),
            ("no method", grpc(good, "/Export"), 12, "malformed method name"),
            ("an unknown codec", grpc(good, flag=1, grpc_encoding="br"), 12, ""), ("compressed without saying how", grpc(good, flag=1), 13, ""), ("another flag", grpc(good, flag=2), 13, ""),
            ("gzip that is none", grpc(good, flag=1, grpc_encoding="gzip"), 13, ""), ("cut short", grpc(b"", framed=struct.pack(">BI", 0, 100) + b"x" * 50), 13, ""),
            ("two messages", grpc(b"", framed=(struct.pack(">BI", 0, len(good)) + good) * 2), 12, ""),
            ("malformed", grpc(b"\xff\xff"), 3, "malformed protobuf"), ("a known field of another type", grpc(b"\x08\x01"), 3, "malformed protobuf"),
            ("too large", grpc(b"", framed=struct.pack(">BI", 0, (1 << 20) + 1) + b"x"), 8, ""), ("a deadline that has passed", grpc(good, grpc_timeout="0n"), 4, "")):
        tap.ok(got[0] == status and text in got[1], "%s: %d %s" % (name, status, text), got[:3])
        if status == 8: tap.ok("grpc-status-details-bin" not in got[2], "too large: not to be sent again")
    tap.equal(count(), before, "nothing of it is stored")
    tap.equal(grpc(b"", "/grpc.health.v1.Health/Check")[3], b"\0\0\0\0\2\x08\1", "health: serving")
    tap.equal(grpc(otlp.text_field(1, "opentelemetry.proto.collector.trace.v1.TraceService"), "/grpc.health.v1.Health/Check")[3], b"\0\0\0\0\2\x08\1", "health of the service: serving")
    tap.equal(grpc(otlp.text_field(1, "x"), "/grpc.health.v1.Health/Check")[0], 5, "health of an unknown service: NOT_FOUND")


def histogram(name):
    return {line[len(name):].split(" ")[0]: float(line.split(" ")[1]) for line in node.get("/metrics")[2].decode().splitlines() if line.startswith(name)}


def test_content():
    before = count()
    trace = new_trace()
    spans = [otlp.span(trace, "%016x" % (i + 1)) for i in range(10)]
    spans[7]["traceId"] = ""
    body = otlp.request_bytes(otlp.request(spans))
    tap.equal(grpc(body)[:2], (3, "trace ids must be 128 bit, received 0 bits"), "one span without trace id: the whole request is refused")
    tap.equal(post(body, PROTO)[0], 400, "over HTTP too")
    tap.equal(json.loads(post(json.dumps(otlp.request(spans)).encode())[2])["message"], "trace ids must be 128 bit, received 0 bits", "in JSON too")
    tap.equal(count(), before, "nothing of it is stored")
    before = histogram("tempo_distributor_traces_per_batch"), histogram("tempo_distributor_push_duration_seconds")
    post(otlp.request_bytes(otlp.request([otlp.span(t, "%016x" % (i + 1)) for i in range(4) for t in (trace[::-1], trace[5:] + trace[:5], trace[7:] + trace[:7])])), PROTO)
    after = histogram("tempo_distributor_traces_per_batch"), histogram("tempo_distributor_push_duration_seconds")
    tap.equal([after[0][k] - before[0][k] for k in ('_bucket{le="2"}', '_bucket{le="4"}', '_bucket{le="+Inf"}', "_sum", "_count")], [0, 1, 1, 3, 1], "a request of three traces is in the histogram")
    tap.ok(after[1]["_count"] == before[1]["_count"] + 1 and after[1]["_sum"] > before[1]["_sum"], "and so is its time", before[1], after[1])
    before = count()
    tap.ok('tempo_discarded_spans_total{tenant="single-tenant",reason="invalid_trace_id"} 30' in node.get("/metrics")[2].decode(), "all its spans count as discarded")
    node.sql("ALTER SYSTEM SET tempo_pg.reject_whole_batch = off")
    node.reload()
    def partial():
        status, _, _, answer = grpc(body)
        return status == 0 and dict(fields_of(dict(fields_of(answer[5:])).get(1, b"")))
    got = cluster.poll("a partial success", partial)
    tap.equal((got, count(trace)), ({1: 1, 2: b"trace ids must be 128 bit, received 0 bits"}, 9), "with reject_whole_batch = off the others are stored")
    got = json.loads(post(json.dumps(otlp.request(spans)).encode())[2])
    tap.equal(got, {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "trace ids must be 128 bit, received 0 bits"}}, "and JSON tells it")
    node.sql("ALTER SYSTEM RESET tempo_pg.reject_whole_batch")
    node.reload()

    trace = new_trace()
    late = otlp.request([otlp.span(trace, "1" * 16), dict(otlp.span(trace, "2" * 16), startTimeUnixNano=str(2**64 - 1))])
    got = json.loads(post(json.dumps(late).encode())[2])["partialSuccess"]
    tap.equal((got.get("rejectedSpans"), count(trace)), ("1", 1), "a time beyond int8: its span is refused")

    def stored():
        trace = new_trace()
        long = otlp.request([otlp.span(trace, "1" * 16, attributes=[otlp.attribute("k", "x" * 2047 + "é" * 100), otlp.attribute("a", ["y" * 5000])])])
        if post(json.dumps(long).encode())[0] != 200: return None
        return node.sql("SELECT length(attributes ->> 'k'), length(attributes -> 'a' ->> 0) FROM tempo.spans WHERE trace_id = '%s'" % trace)

    tap.equal(stored(), "2147|5000", "a long attribute is kept whole")
    node.sql("ALTER SYSTEM SET tempo_pg.max_attribute_bytes = 2048")
    node.reload()
    cluster.poll("attributes are cut", lambda: stored() != "2147|5000")
    tap.equal(stored(), "2047|5000", "max_attribute_bytes cuts it on a character boundary; inside arrays nothing is")
    node.sql("ALTER SYSTEM RESET tempo_pg.max_attribute_bytes")
    node.reload()


def test_group():
    """requests at one time are stored together; a bad one among them does not touch the others"""
    good = [new_request(3) for _ in range(40)]
    results = {}
    def send(n):
        results[n] = grpc(otlp.request_bytes(good[n][1]))[0] if n < 40 else grpc(b"\xff\xff" + bytes([n]))[0]
    threads = [threading.Thread(target=send, args=(n,)) for n in range(60)]
    for t in threads: t.start()
    for t in threads: t.join()
    tap.equal([results[n] for n in range(60)], [0] * 40 + [3] * 20, "20 bad requests among 40 good ones")
    tap.equal([count(t) for t, _ in good], [3] * 40, "the good ones are stored")

    # a constraint refuses one request, not those beside it
    node.sql("ALTER TABLE tempo.spans ADD CONSTRAINT tame CHECK (name <> 'wild')")
    good = [new_request(3) for _ in range(20)]
    wild = otlp.request_bytes(otlp.request([otlp.span(new_trace(), "1" * 16, "wild")]))
    results.clear()
    def send(n): results[n] = grpc(otlp.request_bytes(good[n][1]))[:2] if n < 20 else grpc(wild)[:2]
    threads = [threading.Thread(target=send, args=(n,)) for n in range(21)]
    for t in threads: t.start()
    for t in threads: t.join()
    tap.equal([results[n][0] for n in range(21)], [0] * 20 + [3], "a constraint refuses one request of 21")
    tap.ok("tame" in results[20][1], "and is named", results[20])
    tap.equal([count(t) for t, _ in good], [3] * 20, "the others are stored")
    node.sql("ALTER TABLE tempo.spans DROP CONSTRAINT tame")


def test_trigger():
    """triggers of the table see what receivers store"""
    node.sql("""CREATE FUNCTION scrub() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.name = 'noise' THEN RETURN NULL; END IF;
            IF NEW.name = 'wild' THEN RAISE EXCEPTION 'too wild'; END IF;
            NEW.attributes := NEW.attributes - 'secret' || jsonb_build_object('service', NEW.service_name);
            RETURN NEW;
        END $$""")
    node.sql("CREATE TRIGGER scrub BEFORE INSERT ON tempo.spans FOR EACH ROW EXECUTE FUNCTION scrub()")
    trace = new_trace()
    spans = [otlp.span(trace, "%016x" % (i + 1), name, attributes=[otlp.attribute("secret", "x"), otlp.attribute("k", "v")]) for i, name in enumerate(["op", "noise"])]
    tap.equal(grpc(otlp.request_bytes(otlp.request(spans)))[0], 0, "a trigger changes a span and leaves another out")
    tap.equal(node.sql("SELECT name, attributes FROM tempo.spans WHERE trace_id = '%s'" % trace), 'op|{"k": "v", "service": "tap"}', "and the rest is stored")
    tap.equal(grpc(otlp.request_bytes(otlp.request([otlp.span(new_trace(), "1" * 16, "wild")])))[:2], (3, "too wild"), "what a trigger refuses is not to be repeated")
    node.sql("DROP TRIGGER scrub ON tempo.spans")


def test_waiting():
    """a request in flight elsewhere is waited for"""
    trace, request = new_request()
    body = otlp.request_bytes(request)
    result = []
    session = subprocess.Popen([cluster.BIN + "/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    session.stdin.write("BEGIN; SELECT tempo.ingest_otlp('\\x%s');\n" % body.hex())
    session.stdin.flush()
    tap.equal(session.stdout.readline().strip(), "2", "a transaction stores a request and stays open")
    thread = threading.Thread(target=lambda: result.append(grpc(body)[0]))
    thread.start()
    other, another = new_request()
    tap.equal(grpc(otlp.request_bytes(another))[0], 0, "meanwhile others are stored")
    tap.ok(thread.is_alive() and not result, "the same request waits")
    session.stdin.write("ROLLBACK;\n")
    session.stdin.flush()
    thread.join()
    tap.equal((result, count(trace)), ([0], 2), "when the transaction is rolled back, it is stored")
    tap.equal(node.sql("SELECT tempo.ingest_otlp('\\x%s')" % body.hex()), "0", "and SQL knows that")
    session.stdin.close()
    session.wait()
    node.sql("TRUNCATE tempo.spans")
    tap.equal((grpc(body)[0], count(trace)), (0, 2), "after TRUNCATE it is stored again")


def test_lock():
    """a lock on tempo.spans holds writers up, but the receiver goes on answering"""
    trace, request = new_request()
    session = subprocess.Popen([cluster.BIN + "/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    session.stdin.write("BEGIN; LOCK TABLE tempo.spans; SELECT 1;\n")
    session.stdin.flush()
    session.stdout.readline()
    result = []
    def repeat():
        # the writer waits ten seconds for a lock: whoever has waited longer is asked to repeat
        status = 14
        while status in (8, 14): status = grpc(otlp.request_bytes(request))[0]
        result.append(status)
    thread = threading.Thread(target=repeat)
    thread.start()
    tap.equal(post(b"", path="/")[0], 404, "the receiver answers while its writer waits")
    session.stdin.write("COMMIT;\n")
    session.stdin.close()
    session.wait()
    thread.join()
    tap.equal((result, count(trace)), ([0], 2), "and the request is stored when the lock is gone")

    # what waits is bounded
    session = subprocess.Popen([cluster.BIN + "/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    session.stdin.write("BEGIN; LOCK TABLE tempo.spans; SELECT 1;\n")
    session.stdin.flush()
    session.stdout.readline()
    traces = [new_trace() for _ in range(12)]
    answers = {}
    def send(t): answers[t] = post(otlp.request_bytes(otlp.request([otlp.span(t, "1" * 16, attributes=[otlp.attribute("k", "x" * 800000)])])), PROTO)
    threads = [threading.Thread(target=send, args=(t,)) for t in traces]
    for t in threads: t.start()
    cluster.poll("refusals", lambda: len(answers) > 0)
    session.stdin.write("COMMIT;\n")
    session.stdin.close()
    session.wait()
    for t in threads: t.join()
    refused = [a for a in answers.values() if a[0] != 200]
    tap.ok(0 < len(refused) < 12 and all(a[0] == 503 and "retry-after" in a[1] for a in refused), "of 10 MB that wait, a part is refused with 503 and Retry-After", [(a[0], a[2][:200]) for a in refused])
    tap.equal([count(t) for t in traces], [int(answers[t][0] == 200) for t in traces], "and the rest is stored")


def test_tenants():
    node.sql("ALTER SYSTEM SET tempo_pg.multitenancy = on")
    node.reload()
    trace, request = new_request()
    body = json.dumps(request).encode()
    cluster.poll("multitenancy", lambda: post(b"{}")[0] == 401)
    tap.equal(grpc(b"")[0], 16, "no tenant: UNAUTHENTICATED")
    for name, value, want in (("a", "a", 200), ("with metadata", "a:x=y", 200), ("twice the same", "a|a", 200), ("two", "a|b", 400), ("a path", "../x", 400), ("dots", "..", 400), ("long", "t" * 151, 400), ("150", "t" * 150, 200), ("a slash", "a/b", 400)):
        tap.equal(post(b"{}", X_Scope_OrgID=value)[0], want, "tenant %s: %d" % (name, want))
    tap.ok(b"tenant ID 'x#y' contains unsupported character '#'" in post(b"{}", X_Scope_OrgID="x#y")[2], "what is none is told so", post(b"{}", X_Scope_OrgID="x#y"))
    tap.equal(post(body, X_Scope_OrgID="a:x=y")[0], 200, "a request of tenant a")
    tap.equal(grpc(otlp.request_bytes(request), x_scope_orgid="b")[0], 0, "one of tenant b")
    tap.equal(node.sql("SELECT tenant, count(*) FROM tempo.spans WHERE trace_id = '%s' GROUP BY 1 ORDER BY 1" % trace), "a|2\nb|2", "each has its own")
    node.sql("ALTER SYSTEM RESET tempo_pg.multitenancy")
    node.reload()


def test_sql():
    trace, request = new_request()
    text = json.dumps(request).replace("'", "''")
    tap.equal(node.sql("SELECT tempo.ingest_otlp_json('%s')" % text), "2", "a request in jsonb")
    tap.equal(node.sql("SELECT tempo.ingest_otlp_json('%s', 'other')" % text), "2", "of another tenant")
    trace, request = new_request()
    text = "SELECT tempo.ingest_otlp('\\x%s');" % otlp.request_bytes(request).hex()
    tap.equal(node.sql("BEGIN; SAVEPOINT a; %s ROLLBACK TO a; %s %s COMMIT; %s" % (text, text, text, text)), "2\n2\n0\n0", "rolled back to a savepoint it counts as not stored")
    tap.equal(count(trace), 2, "and is stored once")
    trace, request = new_request()
    text = "SELECT tempo.ingest_otlp('\\x%s');" % otlp.request_bytes(request).hex()
    tap.equal(node.sql("BEGIN; %s ROLLBACK; %s" % (text, text)), "2\n2", "rolled back it counts as not stored")
    _, request = new_request()
    text = "SELECT tempo.ingest_otlp('\\x%s');" % otlp.request_bytes(request).hex()
    tap.ok("0A000" in node.psql("BEGIN; %s PREPARE TRANSACTION 'x'" % text).stderr, "it cannot be prepared")
    tap.equal(node.sql(text), "2", "which leaves nothing behind")
    tap.ok("42501" in node.psql("CREATE ROLE nobody_in_particular; SET ROLE nobody_in_particular; %s" % text).stderr, "others may not")
    tap.ok("25006" in node.psql("SET default_transaction_read_only = on; %s" % text).stderr, "a read-only transaction may not")


def test_memory():
    """a writer keeps nothing of the groups it has stored"""
    def used():
        told = len(node.log_text())
        pids = node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tempo_pg writer'").split()
        for pid in pids: node.sql("SELECT pg_log_backend_memory_contexts(%s)" % pid)
        sums = cluster.poll("the memory of writers", lambda: (lambda found: found if len(found) == len(pids) else None)(re.findall(r"level: 0; TopMemoryContext: .* (\d+) used", node.log_text()[told:])))
        return sum(map(int, sums))

    def send(n):
        for _ in range(n): node.export_protobuf(otlp.request_bytes(new_request(1)[1]))

    send(100)
    before = used()
    send(400)
    grown = used() - before
    tap.ok(grown < 20000, "400 groups later a writer has no more memory than before", grown)


def test_damage():
    """a damaged segment does not stop ingestion"""
    node.sql("ALTER SYSTEM SET tempo_pg.compaction = off")
    node.reload()
    cluster.poll("the worker's end", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg compaction' AND datname IS NOT NULL") == "0")
    node.sql("TRUNCATE tempo.spans")
    _, request = new_request(50)
    tap.equal(grpc(otlp.request_bytes(request))[0], 0, "a segment")
    path = os.path.join(node.data, node.sql("SELECT pg_relation_filepath('tempo.spans')"))
    first, blocks = map(int, node.sql("SELECT first_block, blocks FROM tempo.segments").split("|"))
    node.stop()
    with open(path, "r+b") as f:
        for block in range(first, first + blocks):
            f.seek(block * 8192 + 2000)
            f.write(b"damage" * 1030)
    node.start()
    node.wait_ready()
    trace, request = new_request()
    tap.equal(grpc(otlp.request_bytes(request))[0], 0, "is damaged, and requests are stored all the same")
    tap.ok("requests that were stored in the last minutes are not all known" in node.log_text(), "the log tells what that means")
    tap.ok(node.try_sql("SELECT count(*), sum(length(name)) FROM tempo.spans") is None, "and reading the segment is an error", node.try_sql("SELECT count(*), sum(length(name)) FROM tempo.spans"))


def test_statistics():
    """what is stored is counted for autovacuum, also what came last"""
    for _ in range(5): tap.ok(grpc(otlp.request_bytes(new_request()[1]))[0] == 0, "a request")
    cluster.poll("n_tup_ins", lambda: node.sql("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relid = 'tempo.spans'::regclass") == "10")
    tap.ok(True, "all their spans are counted")


def test():
    node.start()
    node.create_extension()
    test_statistics()
    test_accepted()
    test_refused_http()
    test_refused_grpc()
    test_content()
    test_group()
    test_trigger()
    test_waiting()
    test_lock()
    test_tenants()
    test_sql()
    test_memory()
    test_damage()
    tap.ok("PANIC" not in node.log_text() and "terminated by signal" not in node.log_text(), "no crash", node.log_text()[-2000:])


tap.main(test)
