"""The Tempo API over HTTP: tenants, formats, many clients, clients that leave, time limits, workers that die."""
import concurrent.futures, gzip, http.client, json, socket, threading
import cluster, tap

BIG = 25000
SEARCH = "/api/search?q=%7B%7D&limit=100"


def metric(node, name):
    for line in node.get("/metrics")[2].decode().splitlines():
        if line.split(" ")[0] == name: return float(line.split(" ")[1])


def traces(answer): return sorted(t["traceID"] for t in json.loads(answer[2])["traces"])


def insert(node, tenant, trace, n=1):
    node.sql("""INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes, resource_attributes)
                SELECT '%s', '%s', lpad(to_hex(i), 16, '0')::tempo.span_id, 'span ' || i, 1700000000000000000 + i, 1, jsonb_build_object('i', i), '{"service.name": "s"}'
                FROM generate_series(1, %d) AS i""" % (tenant, trace.rjust(32, "0"), n))


def tenants(node):
    tap.equal(node.get(SEARCH)[::2], (401, b"no org id\n"), "a tenant is needed")
    tap.equal(node.get("/api/traces/a")[0], 401, "for traces as well")
    tap.equal(traces(node.get(SEARCH, "one")), ["a"], "a tenant sees its own")
    tap.equal(traces(node.get(SEARCH, "two")), ["b"], "and so does another")
    tap.equal(traces(node.get(SEARCH, "two|one|two")), ["a", "b"], "several tenants at once")
    tap.equal(traces(node.get(SEARCH, "nobody")), [], "an unknown tenant has nothing")
    tap.equal(node.get("/api/traces/a", "two")[0], 404, "a trace of another tenant is not there")
    tap.equal(node.get("/api/traces/a", "two|one")[0], 200, "but for who reads both")
    tap.equal([node.get(SEARCH, t)[::2] for t in ("a||b", "x#y", "..", "x" * 151)],
              [(400, b"no org id"), (400, b"tenant ID 'x#y' contains unsupported character '#'"), (400, b"tenant ID is '.' or '..'"), (400, b"tenant ID is too long: max 150 characters")], "what is no tenant")
    tap.equal([node.get(p)[0] for p in ("/ready", "/metrics", "/api/echo", "/api/status/buildinfo", "/status")], [200] * 5, "some need no tenant")
    node.configure(**{"tempo_pg.multi_tenant_queries": "off"})
    node.reload()
    tap.equal(cluster.poll("multi_tenant_queries off", lambda: node.get(SEARCH, "one|two")[2] == b"multiple org IDs present"), True, "several tenants can be forbidden")


def formats(node):
    path = "/api/v2/traces/c"
    plain = node.get(path, "big")
    groups = json.loads(plain[2])["trace"]["resourceSpans"]
    spans = [s for g in groups for s in g["scopeSpans"][0]["spans"]]
    tap.equal((plain[0], len(spans), len({s["spanId"] for s in spans})), (200, BIG, BIG), "a trace with many spans")
    tap.equal([s["name"] for s in spans], ["span %d" % (i + 1) for i in range(BIG)], "all of them, in the order of their start")
    zipped = node.http("GET", node.http_port, path, headers={"X-Scope-OrgID": "big", "Accept-Encoding": "gzip"})
    tap.equal(zipped[1].get("content-encoding"), "gzip", "is compressed if the client likes")
    tap.ok(len(zipped[2]) < len(plain[2]) and gzip.decompress(zipped[2]) == plain[2], "and is the same")
    # the gateway itself compresses nothing that large: see NET_COMPRESS_MAX
    tap.ok(len(plain[2]) > 1 << 20, "by the query worker: it is larger than what the gateway compresses", len(plain[2]))
    tap.equal(zipped[1].get("vary"), "Accept-Encoding", "which the answer says once")
    small = [node.http("GET", node.http_port, "/api/traces/a", headers={"X-Scope-OrgID": "one", "Accept-Encoding": "gzip", "Accept": "application/protobuf"}) for _ in range(2)]
    tap.equal([(s[0], s[1].get("content-encoding")) for s in small], [(200, None)] * 2, "a small answer is not worth it")
    tap.equal(plain[1].get("vary"), "Accept-Encoding", "answers vary by encoding")
    proto = node.http("GET", node.http_port, path, headers={"X-Scope-OrgID": "big", "Accept": "application/protobuf"})
    tap.equal((proto[1].get("content-type"), proto[2].count(b"span 1")), ("application/protobuf", plain[2].count(b"span 1")), "protobuf")
    tap.equal(node.http("POST", node.http_port, SEARCH, b"limit=0", {"X-Scope-OrgID": "one"})[0], 200, "POST is as GET, its body means nothing")
    head = node.http("HEAD", node.http_port, path, headers={"X-Scope-OrgID": "big"})
    tap.equal((head[0], head[2]), (200, b""), "HEAD has no body")
    tap.equal(node.get("//api/echo")[0], 200, "two slashes are redirected to one")
    tap.equal(node.get("/api/search?q=" + "x" * 131073, "one")[0], 400, "a query that is too long")
    connection = http.client.HTTPConnection("127.0.0.1", node.http_port)
    got = []
    for _ in range(3):
        connection.request("GET", SEARCH, headers={"X-Scope-OrgID": "one"})
        got.append(connection.getresponse().read())
    tap.equal(len(set(got)), 1, "a connection serves several requests")


def crowd(node):
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        got = list(pool.map(lambda i: node.get(SEARCH, "one" if i % 2 else "two"), range(96)))
    tap.equal({g[0] for g in got}, {200}, "many requests at once are all answered")
    tap.ok(all(traces(g) == (["a"] if i % 2 else ["b"]) for i, g in enumerate(got)), "each with its own answer")
    running = node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query'")
    tap.ok(int(running) <= 2, "by no more than tempo_pg.query_workers", running)


class Lock:
    """keeps everybody from reading tempo.spans"""
    def __init__(self, node): self.node = node

    def __enter__(self):
        self.thread = threading.Thread(target=self.node.psql, args=("BEGIN; LOCK tempo.spans IN ACCESS EXCLUSIVE MODE; SELECT pg_advisory_lock(1);",))
        # a session that waits for an advisory lock that another holds
        self.holder = threading.Thread(target=self.node.psql, args=("SELECT pg_advisory_lock(1); SELECT pg_sleep(600);",))
        self.holder.start()
        cluster.poll("the advisory lock", lambda: self.node.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") == "1")
        self.thread.start()
        cluster.poll("the table lock", lambda: self.node.sql("SELECT count(*) FROM pg_locks WHERE relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1")

    def __exit__(self, *ignored):
        self.node.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        self.thread.join()
        self.holder.join()


def active(node): return int(node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'"))


def patience(node):
    with Lock(node):
        # the client leaves: the query is cancelled although it cannot go on by itself
        client = socket.create_connection(("127.0.0.1", node.http_port))
        client.sendall(b"GET " + SEARCH.encode() + b" HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: one\r\n\r\n")
        cluster.poll("the query", lambda: active(node) == 1)
        tap.equal(node.get("/ready")[0], 200, "who is busy is ready")
        client.close()
        cluster.poll("the cancellation", lambda: active(node) == 0)
        cluster.poll("the count", lambda: metric(node, "tempo_pg_requests_cancelled_total") == 1)
        tap.ok(True, "the query of a client that left is cancelled")

        node.configure(**{"tempo_pg.query_timeout": "500ms"})
        node.reload()
        cluster.poll("504", lambda: node.get(SEARCH, "one")[::2] == (504, b"context deadline exceeded"))
        tap.ok(True, "a request has its time limit")
        node.configure(**{"tempo_pg.query_timeout": "10min"})
        node.reload()

        # a worker that dies takes its request with it
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(node.get, SEARCH, "one")
            cluster.poll("the query", lambda: active(node) == 1)
            node.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'")
            tap.equal(answer.result()[::2], (500, b"the query worker was terminated\nSee the server log.\n"), "a request whose worker dies is told so")

        # what a client sends is no text in the encoding of the server; pg_stat_activity must be
        with socket.create_connection(("127.0.0.1", node.http_port), timeout=120) as s:
            s.sendall(b"GET /api/traces/\xff\x1b[1m HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: one\r\nConnection: close\r\n\r\n")
            while s.recv(65536): pass
        tap.equal(node.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'GET /api/traces/??[1m'"), "1", "what a worker does is shown without the bytes that are no text")

        # all workers are taken: what needs none is served
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(node.get, SEARCH, "one", timeout=300) for _ in range(4)]
            cluster.poll("two queries", lambda: active(node) == 2)
            cluster.poll("two that wait", lambda: metric(node, "tempo_pg_requests_waiting") == 2)
            tap.equal([node.get(p)[0] for p in ("/ready", "/api/echo", "/metrics", "/status")], [200] * 4, "the gateway answers while all workers are busy")
            node.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            tap.equal([w.result()[0] for w in waiting], [200] * 4, "and the queries go on when they can")


def test():
    node = cluster.Cluster("api", **{"tempo_pg.multitenancy": "on", "tempo_pg.query_workers": "2"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    cluster.poll("an API answer", lambda: node.get("/ready")[0] == 200)
    insert(node, "one", "a")
    insert(node, "two", "b")
    insert(node, "big", "c", BIG)
    insert(node, "single-tenant", "d")
    tenants(node)
    formats(node)
    crowd(node)
    patience(node)

    node.configure(**{"tempo_pg.multitenancy": "off"})
    node.reload()
    cluster.poll("multitenancy off", lambda: node.get(SEARCH)[0] == 200)
    tap.equal(traces(node.get(SEARCH, "one")), ["d"], "without multitenancy there is one tenant, whatever the client says")
    tap.equal(metric(node, "tempo_pg_up"), 1, "/metrics says that all is well")
    # without the numbers of the database if these take two seconds
    stored = cluster.poll("numbers", lambda: [l for l in node.get("/metrics")[2].decode().splitlines() if l.startswith("tempo_pg_stored_spans{")])
    tap.equal(sum(int(l.split(" ")[1]) for l in stored), BIG + 3, "and what is stored")

    # whose worker dies while the server is being shut down may come again: it is not the request that killed it
    with Lock(node):
        killer = cluster.Session(node)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(node.get, SEARCH)
            cluster.poll("the query", lambda: active(node) == 1)
            # a smart shutdown waits for sessions, and so do the gateway and its workers
            node.run(cluster.BIN + "/pg_ctl", "-D", node.data, "-m", "smart", "--no-wait", "stop")
            cluster.poll("the shutdown", lambda: "stopping" in node.run("cat", node.data + "/postmaster.pid").stdout)
            killer.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'")
            tap.equal(answer.result()[::2], (503, b"the server is shutting down\n"), "a worker that dies in a shutdown")
        killer.close()
        node.stop()
        node.start()
    cluster.poll("an API answer", lambda: node.get("/ready")[0] == 200)

    # a query in progress does not hold up a shutdown; to whom it was to answer is told to come again
    with Lock(node):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(node.get, SEARCH)
            cluster.poll("the query", lambda: active(node) == 1)
            node.stop()
            tap.ok(answer.result()[0] in (0, 200, 503), "a shutdown ends queries", answer.result())
        node.start()
    log = node.log_text()
    tap.equal([l for l in log.splitlines() if "PANIC" in l or "unexpected state" in l or "TRAP" in l], [], "nothing went wrong")


tap.main(test)
