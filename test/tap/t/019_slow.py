"""Clients that do not read: what they are owed takes a bounded amount of memory, and others are served."""
import socket, threading
import cluster, tap

SPANS = 25000
READERS = 5
LIMIT = 10 << 20


def metric(node, name):
    for line in node.get("/metrics")[2].decode().splitlines():
        if line.split(" ")[0] == name: return float(line.split(" ")[1])


def blocked(node): return int(node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND wait_event = 'MessageQueueSend'"))


def resident(node):
    pid = node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'tempo_pg gateway'")
    with open("/proc/%s/status" % pid) as f: return next(int(l.split()[1]) << 10 for l in f if l.startswith("RssAnon"))


def ask(node):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", node.http_port))
    s.sendall(b"GET /api/traces/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return s


def read_all(s):
    whole = b""
    s.settimeout(300)
    while True:
        part = s.recv(1 << 20)
        if not part: return whole
        whole += part


def test():
    node = cluster.Cluster("slow", **{"tempo_pg.query_workers": "2", "tempo_pg.gateway_memory": "10MB", "tempo_pg.query_timeout": "10min"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    cluster.poll("an API answer", lambda: node.get("/ready")[0] == 200)
    node.sql("""INSERT INTO tempo.spans (trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes, resource_attributes)
                SELECT '%032x', lpad(to_hex(i), 16, '0')::tempo.span_id, 'span ' || i, 1700000000000000000 + i, 1, jsonb_build_object('i', i), '{"service.name": "s"}'
                FROM generate_series(1, %d) AS i""" % (10, SPANS))
    whole = node.get("/api/traces/a")[2]
    tap.ok(len(whole) > LIMIT // 2 and len(whole) < LIMIT, "an answer of more than half of the memory", len(whole))
    cluster.poll("the memory given back", lambda: metric(node, "tempo_pg_gateway_answer_bytes") < 100000)
    before = resident(node)

    # one worker after the other waits; nobody else's answer is gathered meanwhile
    clients = [ask(node) for _ in range(READERS)]
    cluster.poll("workers that wait", lambda: blocked(node) == 2)
    held = metric(node, "tempo_pg_gateway_answer_bytes")
    tap.ok(held < LIMIT + len(whole), "what is held is bounded", held, len(whole))
    tap.ok(resident(node) - before < LIMIT + 3 * len(whole), "and so is the memory of the process", before, resident(node))
    tap.equal([node.get(p)[0] for p in ("/api/echo", "/ready", "/metrics")], [200] * 3, "the gateway itself answers")

    # when they read, all of them get everything
    got = [None] * READERS
    threads = [threading.Thread(target=lambda i=i: got.__setitem__(i, read_all(clients[i]))) for i in range(READERS)]
    for t in threads: t.start()
    for t in threads: t.join()
    tap.equal([g.startswith(b"HTTP/1.1 200 ") and g.endswith(whole) for g in got], [True] * READERS, "all get everything once they read")
    cluster.poll("the memory given back", lambda: metric(node, "tempo_pg_gateway_answer_bytes") < 100000)
    tap.equal(metric(node, "tempo_pg_gateway_unread_total"), 0, "none was given up")

    # who is never read is given up, so that the workers serve others
    clients = [ask(node) for _ in range(READERS)]
    cluster.poll("workers that wait", lambda: blocked(node) == 2)
    node.configure(**{"tempo_pg.query_timeout": "1s"})
    node.reload()
    cluster.poll("a small search", lambda: node.get("/api/search?q=%7B%7D&limit=1")[0] == 200)
    tap.ok(metric(node, "tempo_pg_gateway_unread_total") > 0, "answers that wait for other readers are given up")

    # clients that leave owe nothing
    for c in clients: c.close()
    node.configure(**{"tempo_pg.query_timeout": "10min"})
    node.reload()
    cluster.poll("the memory given back", lambda: metric(node, "tempo_pg_gateway_answer_bytes") < 100000)
    tap.equal(node.get("/api/traces/a")[2] == whole, True, "and everything is as before")
    tap.equal([l for l in node.log_text().splitlines() if "PANIC" in l or "TRAP" in l], [], "nothing went wrong")


tap.main(test)
