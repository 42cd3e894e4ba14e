"""Many connections at once: idle ones, one too many, more requests than the queue takes; an answer that is under way when the server stops."""
import json, resource, select, socket, threading
import cluster, otlp, tap

node = cluster.Cluster("crowd", **{"tempo_pg.query_workers": 1, "tempo_pg.receiver_workers": 1, "tempo_pg.max_connections": 2500, "tempo_pg.api_max_connections": 2500, "tempo_pg.query_timeout": "10min"})
IDLE = 1000
SEARCH = b"GET /api/search?q=%7B%7D HTTP/1.1\r\nHost: x\r\n\r\n"


def dial(port): return socket.create_connection(("127.0.0.1", port), timeout=300)


def read(s):
    data = b""
    while b"\r\n\r\n" not in data:
        got = s.recv(65536)
        if not got: return data
        data += got
    return data


def gateway(): return int(node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tempo_pg gateway'"))


def idle():
    body = otlp.request_bytes(otlp.request([otlp.span("%032x" % 1, "%016x" % 1)]))
    request = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for port, what, ask in ((node.http_port, "the Tempo API", b"GET /api/echo HTTP/1.1\r\nHost: x\r\n\r\n"), (node.otlp_port, "OTLP", request)):
        sockets = [dial(port) for _ in range(2 * IDLE)]
        for s in sockets[:IDLE]: s.sendall(ask)
        tap.equal({read(s).split(b"\r\n")[0] for s in sockets[:IDLE]}, {b"HTTP/1.1 200 OK"}, "%s: %d connections are served" % (what, IDLE))
        late = sockets[IDLE]
        late.sendall(ask)
        tap.equal(read(late).split(b"\r\n")[0], b"HTTP/1.1 200 OK", "%s: beside %d that never asked" % (what, IDLE))
        more = [dial(port) for _ in range(500)]
        # it is told when it asks within a second
        def one_more():
            more.append(dial(port))
            try:
                more[-1].sendall(ask)
                return read(more[-1])
            except ConnectionError: return b""
        tap.ok(cluster.poll("an answer", one_more).startswith(b"HTTP/1.1 503"), "%s: one too many is told so" % what)
        for s in sockets + more: s.close()
        cluster.poll("a place", lambda: node.get("/ready")[0] == 200 and node.export_protobuf(b"")[0] == 200)
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans"), "1", "a request sent a thousand times is stored once")


class Held:
    """keeps everybody from reading tempo.spans"""
    def __enter__(self):
        self.thread = threading.Thread(target=node.psql, args=("BEGIN; LOCK tempo.spans; SELECT pg_sleep(600);",))
        self.thread.start()
        cluster.poll("the lock", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1")

    def __exit__(self, *ignored):
        node.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock'")
        self.thread.join()


def queued():
    with Held():
        sockets = [dial(node.http_port) for _ in range(2005)]
        sockets[0].sendall(SEARCH)
        cluster.poll("the query worker", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'") == "1")
        for s in sockets[1:]: s.sendall(SEARCH)
        # in what order they come nobody knows
        refused = cluster.poll("refusals", lambda: (lambda r: r if len(r) >= 4 else None)(readable(sockets)))
        tap.equal((len(refused), {read(s).split(b"\r\n")[0] for s in refused}), (4, {b"HTTP/1.1 429 Too Many Requests"}), "more requests than may wait: 429")
        tap.equal(node.get("/api/echo")[0], 200, "what takes no database is answered all the same")
        stay = [s for s in sockets if s not in refused][:100]
        for s in sockets:
            if s not in stay: s.close()
        cluster.poll("the others to be given up", lambda: b"\ntempo_pg_requests_waiting 99\n" in node.get("/metrics")[2])
    tap.equal({read(s).split(b"\r\n")[0] for s in stay}, {b"HTTP/1.1 200 OK"}, "those that waited are answered")
    for s in stay: s.close()


def readable(sockets):
    poll = select.poll()
    for s in sockets: poll.register(s, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(100)}
    return [s for s in sockets if s.fileno() in ready]


def stopped():
    """a slow reader has its whole answer although the server stops meanwhile: more than fits into the sockets, and not much more, for it has five seconds"""
    node.sql("""INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
                SELECT 'single-tenant', lpad('c', 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, repeat('x', 1000), 1700000000000000000 + i, 1, '{}' FROM generate_series(1, 7000) AS i""")
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.settimeout(300)
    s.connect(("127.0.0.1", node.http_port))
    s.sendall(b"GET /api/traces/c HTTP/1.1\r\nHost: x\r\n\r\n")
    data = read(s)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int([l for l in head.split(b"\r\n") if l.lower().startswith(b"content-length")][0].split(b":")[1])
    pid = gateway()
    node.sql("SELECT pg_terminate_backend(%d)" % pid)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    while len(body) < length:
        got = s.recv(1 << 20)
        if not got: break
        body += got
    tap.equal(len(body), length, "an answer under way is completed")
    tap.equal(sum(len(g["spans"]) for b in json.loads(body)["batches"] for g in b["scopeSpans"]), 7000, "and whole")
    cluster.poll("another gateway", lambda: node.get("/ready")[0] == 200 and gateway() != pid)
    tap.ok(True, "a gateway that was terminated comes back")


def test():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    # the server starts with few open files, and raises that itself
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    node.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    node.create_extension()
    idle()
    queued()
    stopped()


tap.main(test)
