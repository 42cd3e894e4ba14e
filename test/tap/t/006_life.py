"""Without a database, without the extension, with it, without it again, with new settings: every port answers and says why it cannot."""
import os, re, socket, subprocess, threading, time
import cluster, otlp, tap


def answers_unavailable(node, what, words):
    def http():
        status, headers, body = node.export_protobuf(otlp.request_bytes(otlp.request([otlp.span("d" * 32, "d" * 16)])))
        return status == 503 and any(w in body for w in words) and body
    # a reason of before may still be answered until the settings are read again
    body = cluster.poll("503 over OTLP/HTTP: " + what, http)
    tap.ok(any(w in body for w in words), "%s: OTLP over HTTP answers 503 with a reason" % what, body[:400])
    # each receiver finds it out for itself
    def grpc():
        status, fields = node.export_grpc(otlp.request_bytes(otlp.request([otlp.span("d" * 32, "d" * 16)])))
        return any(w.decode() in fields.get("grpc-message", "").replace("%20", " ") for w in words) and (status, fields)
    status, fields = cluster.poll("a reason over gRPC: " + what, grpc)
    tap.equal(status, 14, "%s: OTLP over gRPC answers UNAVAILABLE, with a reason" % what)
    def api():
        status, headers, body = node.get("/api/search?q=%7B%7D")
        return status == 503 and any(w in body for w in words) and body
    body = cluster.poll("503 of the API: " + what, api)
    tap.ok(any(w in body for w in words), "%s: the API answers 503 with a reason" % what, body[:400])
    tap.equal(node.get("/api/echo")[0], 200, "%s: /api/echo answers" % what)
    tap.equal(node.get("/metrics")[0], 200, "%s: /metrics answers" % what)
    tap.equal(cluster.poll("/ready", lambda: node.get("/ready")[0] == 503), True, "%s: /ready says no" % what)


def works(node, trace, what):
    body = otlp.request_bytes(otlp.request([otlp.span(trace, "1" * 16)]))
    cluster.poll("ingest: " + what, lambda: node.export_protobuf(body)[0] == 200)
    cluster.poll("query: " + what, lambda: node.get("/api/traces/" + trace)[0] == 200)
    tap.ok(True, "%s: ingest and query work" % what)
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%s'" % trace), "1", "%s: the span is there" % what)


def waiting(node):
    """does a writer wait for a lock?  (the compaction worker may wait for the same)"""
    return node.sql("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND backend_type = 'tempo_pg writer'") != "0"


def dropped_while_storing(node):
    """a request that waits for DROP EXTENSION is to be repeated: 500 would tell clients to throw it away"""
    answers = []
    body = otlp.request_bytes(otlp.request([otlp.span("d" * 32, "e" * 16)]))
    client = threading.Thread(target=lambda: answers.append(node.export_protobuf(body)))
    drop = subprocess.Popen([cluster.BIN + "/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres"], stdin=subprocess.PIPE, text=True)
    drop.stdin.write("SET client_min_messages = warning; BEGIN; LOCK tempo.spans;\n")
    drop.stdin.flush()
    cluster.poll("the lock", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1")
    client.start()
    cluster.poll("the writer waits", lambda: waiting(node))
    drop.communicate("DROP EXTENSION tempo_pg CASCADE; COMMIT;\n")
    tap.equal(drop.returncode, 0, "DROP EXTENSION while a request waits")
    client.join(cluster.PATIENCE)
    tap.equal(answers and answers[0][0], 503, "the request that waited is answered 503")


def dropped_while_inserting(node):
    """DROP EXTENSION waits for those who insert, and not the other way around, too"""
    dropped = []
    insert = subprocess.Popen([cluster.BIN + "/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres"], stdin=subprocess.PIPE, text=True)
    insert.stdin.write("BEGIN; LOCK tempo.spans IN ROW EXCLUSIVE MODE;\n")
    insert.stdin.flush()
    table = node.sql("SELECT 'tempo.spans'::regclass::oid")
    cluster.poll("the lock", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = %s AND mode = 'RowExclusiveLock' AND granted" % table) == "1")
    drop = threading.Thread(target=lambda: dropped.append(node.psql("SET client_min_messages = warning; DROP EXTENSION tempo_pg CASCADE")))
    drop.start()
    cluster.poll("DROP EXTENSION waits", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = %s AND NOT granted" % table) == "1")
    insert.communicate("INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES (repeat('c', 32)::tempo.trace_id, repeat('c', 16)::tempo.span_id, 1, 1); COMMIT;\n")
    tap.equal(insert.returncode, 0, "an INSERT that DROP EXTENSION waits for")
    drop.join(cluster.PATIENCE)
    tap.equal(dropped and (dropped[0].returncode, dropped[0].stderr), (0, ""), "and DROP EXTENSION after it")


class Locked:
    """a session that has tempo.spans for itself, until close() or its end"""
    def __init__(self, node):
        self.session = subprocess.Popen([cluster.BIN + "/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres"], stdin=subprocess.PIPE, text=True)
        self.session.stdin.write("BEGIN; LOCK tempo.spans;\n")
        self.session.stdin.flush()
        cluster.poll("the lock", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1")

    def close(self): self.session.communicate("COMMIT;\n")


def waiting_export(node, trace):
    """a request that the writer cannot store yet; its answers come into the list"""
    answers = []
    body = otlp.request_bytes(otlp.request([otlp.span(trace, "e" * 16)]))
    client = threading.Thread(target=lambda: answers.append(node.export_protobuf(body)))
    client.start()
    cluster.poll("the writer waits", lambda: waiting(node))
    return client, answers


def under_way(node, number, end, what):
    """A request waits for its writer, and so does the end of what there is, until end(lock) takes the lock away.  The writer has seconds for the rest: on a machine that
    does nothing for so long the client is asked to repeat, and the test is as well."""
    for n in range(20):
        trace = "%x%031x" % (number, n + 1)
        lock = Locked(node)
        client, answers = waiting_export(node, trace)
        began = time.monotonic()
        end(lock)
        client.join(cluster.PATIENCE)
        slow = time.monotonic() - began > 2.5
        got = answers[0][0], node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%s'" % trace)
        if got[0] != 503 or not slow: break
    tap.equal(got, (200, "1"), what)


def leaving(node):
    def turned_off(lock):
        node.configure(**{"tempo_pg.enabled": "off"})
        node.reload()
        cluster.poll("off", lambda: b"tempo_pg.enabled is off" in node.export_protobuf(otlp.request_bytes(otlp.request([otlp.span("2" * 32, "e" * 16)])))[2])
        lock.close()
        cluster.poll("the writer's end", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg writer'") == "0")
        node.configure(**{"tempo_pg.enabled": "on"})
        node.reload()
        node.wait_ready()
    under_way(node, 1, turned_off, "a request under way is stored and answered when tempo_pg is turned off")
    works(node, "3" * 32, "turned on again")

    # the shutdown ends the session that keeps the writer waiting
    def shut_down(lock):
        node.restart()
        node.wait_ready()
        lock.session.communicate()
    under_way(node, 4, shut_down, "a request under way is stored and answered at a shutdown")


def abandoned(node):
    """clients that leave do not take their requests with them"""
    body = otlp.request_bytes(otlp.request([otlp.span("5" * 32, "e" * 16, name="x" * 900000)]))
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10)
    # the writer waits for the lock for ten seconds: who needs more for this tries it again
    for n in range(5):
        lock = Locked(node)
        rounds = []
        for i in range(3):
            clients = [socket.create_connection(("127.0.0.1", node.otlp_port), timeout=120) for _ in range(8)]
            for j, s in enumerate(clients):
                s.sendall(head + body + b"\x7a\x08%04d%04d" % (3 * n + i, j))
                s.shutdown(socket.SHUT_WR)
            rounds.append({s.recv(12) for s in clients})
            for s in clients: s.close()
        lock.close()
        cluster.poll("the next request", lambda: node.export_protobuf(otlp.request_bytes(otlp.request([otlp.span("6" * 32, "e" * 16)])))[0] == 200)
        bounded = rounds[0], b"HTTP/1.1 503" in rounds[2]
        if bounded == ({b""}, True): break
    tap.equal(bounded, ({b""}, True), "what the writer has still to get is bounded, whoever waits for it")
    tap.ok(True, "and room again once it has it")


def health(node):
    watch = subprocess.Popen(["curl", "-sN", "--noproxy", "*", "--http2-prior-knowledge", "--data-binary", "@-", "-H", "Content-Type: application/grpc", "-H", "TE: trailers", "http://127.0.0.1:%d/grpc.health.v1.Health/Watch" % node.grpc_port],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    watch.stdin.write(b"\0\0\0\0\0")
    watch.stdin.close()
    tap.equal(watch.stdout.read(7), b"\0\0\0\0\2\x08\1", "the health of a receiver can be watched")
    node.configure(**{"tempo_pg.enabled": "off"})
    node.reload()
    tap.equal(watch.stdout.read(7), b"\0\0\0\0\2\x08\2", "it tells when spans are not stored any more")
    node.configure(**{"tempo_pg.enabled": "on"})
    node.reload()
    tap.equal(watch.stdout.read(7), b"\0\0\0\0\2\x08\1", "and when they are again")
    node.restart()
    node.wait_ready()
    tap.ok(watch.stdout.read() in (b"", b"\0\0\0\0\2\x08\2"), "the call ends with the server")
    watch.wait(cluster.PATIENCE)


def test():
    node = cluster.Cluster("life")
    node.start()
    extension = [b"CREATE EXTENSION"]
    answers_unavailable(node, "no extension", extension)
    node.sql("CREATE EXTENSION tempo_pg")
    works(node, "a" * 32, "extension created")
    dropped_while_inserting(node)
    node.sql("CREATE EXTENSION tempo_pg")
    works(node, "c" * 31 + "1", "extension created after that")
    dropped_while_storing(node)
    answers_unavailable(node, "extension dropped", extension)
    tap.equal(node.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'tempo'"), "0", "DROP EXTENSION leaves no schema behind")
    node.sql("CREATE EXTENSION tempo_pg")
    works(node, "b" * 32, "extension created again")
    for trace, command, back, words in (("1a" * 16, "ALTER SCHEMA tempo RENAME TO \"the Traces\"", "ALTER SCHEMA \"the Traces\" RENAME TO tempo", b"ALTER SCHEMA \"the Traces\" RENAME TO tempo"),
                                        ("1b" * 16, "ALTER TABLE tempo.spans RENAME TO spans_of_mine", "ALTER TABLE tempo.spans_of_mine RENAME TO spans", b"table tempo.spans of extension tempo_pg does not exist")):
        node.sql(command)
        answers_unavailable(node, command.split(" RENAME")[0] + " RENAME", [words])
        node.sql(back)
        works(node, trace, back.split(" RENAME")[0] + " RENAME back")
    node.restart()
    node.wait_ready()
    works(node, "c" * 32, "after a restart")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans"), "4", "spans are there after the restart")

    # only this machine reaches the ports unless told otherwise
    with open("/proc/net/tcp") as f: local = [l.split()[1] for l in f.readlines()[1:] if l.split()[3] == "0A"]
    for name, port in (("API", node.http_port), ("OTLP/gRPC", node.grpc_port), ("OTLP/HTTP", node.otlp_port)):
        at = {a.split(":")[0] for a in local if int(a.split(":")[1], 16) == port}
        tap.equal(at, {"0100007F"}, "%s listens on localhost only" % name)

    # a worker that dies is replaced
    workers = node.sql("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type LIKE 'tempo_pg%'").split()
    tap.ok(workers, "workers show in pg_stat_activity")
    for pid in workers: node.sql("SELECT pg_terminate_backend(%s)" % pid)
    works(node, "e" * 32, "after its workers were terminated")
    node.configure(**{"tempo_pg.receiver_workers": 1, "tempo_pg.receiver_memory": "8MB"})
    node.restart()
    node.wait_ready()
    leaving(node)
    abandoned(node)
    health(node)

    # switched off, the database can be dropped
    node.sql("CREATE DATABASE traces")
    node.configure(**{"tempo_pg.database": "traces"})
    node.restart()
    answers_unavailable(node, "extension missing in tempo_pg.database", extension)
    node.sql("CREATE EXTENSION tempo_pg", "traces")
    body = otlp.request_bytes(otlp.request([otlp.span("f" * 32, "1" * 16)]))
    cluster.poll("ingest into the other database", lambda: node.export_protobuf(body)[0] == 200)
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans", "traces"), "1", "tempo_pg.database chooses the database")
    node.configure(**{"tempo_pg.enabled": "off"})
    node.reload()
    cluster.poll("DROP DATABASE with tempo_pg.enabled = off", lambda: node.try_sql("DROP DATABASE traces") is not None)
    tap.ok(True, "DROP DATABASE works with tempo_pg.enabled = off")
    node.configure(**{"tempo_pg.enabled": "on"})
    node.reload()
    answers_unavailable(node, "database missing", [b"traces", b"database"])
    node.sql("CREATE DATABASE traces")
    node.sql("CREATE EXTENSION tempo_pg", "traces")
    body = otlp.request_bytes(otlp.request([otlp.span("f" * 32, "2" * 16)]))
    cluster.poll("ingest into the new database", lambda: node.export_protobuf(body)[0] == 200)
    tap.ok(True, "works again once the database and the extension are there")

    # too few worker slots: a warning that names the number
    node.configure(max_worker_processes="1")
    node.restart()
    tap.ok(re.search(r"WARNING:.*max_worker_processes|too many background workers", node.log_text()), "too few worker slots are a warning in the log")

    # without preloading SQL works all the same
    node.configure(max_worker_processes="8", shared_preload_libraries="")
    node.restart()
    node.sql("INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('%s', '%s', 1, 1)" % ("9" * 32, "9" * 16), "traces")
    tap.equal(node.sql("SELECT count(*) FROM traceql('{ }')", "traces"), "2", "without preloading SQL and traceql() work")


tap.main(test)
