"""What synchronous_commit promises holds for an acknowledged export: with remote_apply it is seen on the standby at once, and without the standby nothing is acknowledged."""
import threading
import cluster, otlp, tap


def body(n, spans=3):
    return otlp.request_bytes(otlp.request([otlp.span("%032x" % (n + 1), "%016x" % (i + 1), attributes=[otlp.attribute("n", n)]) for i in range(spans)], "sync"))


def seen(node, n):
    return node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%032x'" % (n + 1))


def test():
    node = cluster.Cluster("primary", **{"wal_level": "replica", "max_wal_senders": 4, "fsync": "off"})
    node.allow_replication()
    node.start()
    node.create_extension()
    standby = node.standby(**{"tempo_pg.enabled": "off"})
    node.configure(synchronous_standby_names="standby", synchronous_commit="remote_apply")
    node.reload()
    cluster.poll("a synchronous standby", lambda: node.sql("SELECT sync_state FROM pg_stat_replication") == "sync")
    # the workers have read it, too, once the server was started with it
    node.restart()
    cluster.poll("a synchronous standby", lambda: node.try_sql("SELECT sync_state FROM pg_stat_replication") == "sync")
    node.wait_ready()
    missing = []
    for n in range(40):
        status = node.export_grpc(body(n))[0] if n % 2 else node.export_protobuf(body(n))[0]
        if (status, seen(standby, n)) != (0 if n % 2 else 200, "3"): missing.append((n, status))
    tap.equal(missing, [], "an acknowledged export is on the standby")

    standby.stop()
    answers, late = [], body(1000)
    client = threading.Thread(target=lambda: answers.append(node.export_protobuf(late, timeout=300)[0]))
    client.start()
    cluster.poll("the commit that waits", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'tempo_pg writer'") != "0")
    tap.equal(answers, [], "without the standby a commit waits, and so does the answer")
    def repeat():
        """sends the request again, as often as the receiver asks for that, until its commit waits for the standby"""
        clients = []

        def waiting():
            if not clients or not clients[-1].is_alive():
                clients.append(threading.Thread(target=lambda: answers.append(node.export_protobuf(late, timeout=300)[0])))
                clients[-1].start()
            return node.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'tempo_pg writer'") != "0"
        cluster.poll("the commit of the repeated request", waiting)
        return clients[-1]

    # whoever ends the wait ends the writer, and the client is asked to repeat
    for end in ("pg_terminate_backend", "pg_cancel_backend"):
        pid = node.sql("SELECT min(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'tempo_pg writer'")
        node.sql("SELECT %s(%s)" % (end, pid))
        cluster.poll("the writer's end", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE pid = %s" % pid) == "0")
        client.join(cluster.PATIENCE)
        tap.equal(set(answers), {503}, "%s of a writer that waits for the standby: no acknowledgement" % end)
        client = repeat()
    node.stop()
    client.join(cluster.PATIENCE)
    tap.ok(200 not in answers, "a fast shutdown does not wait for the standby, and acknowledges nothing", answers)
    node.start()
    cluster.poll("the receiver", lambda: node.http("GET", node.otlp_port, "/")[0] != 0)
    client = repeat()
    answers.clear()
    # the power fails on both; the client has no answer and repeats
    node.kill9()
    client.join(cluster.PATIENCE)
    tap.ok(answers != [200], "no acknowledgement of what is on one server only", answers)
    node.start()
    cluster.poll("the receiver", lambda: node.http("GET", node.otlp_port, "/")[0] != 0)
    # it is on the first server since it came first, and known there: that is not enough
    client = repeat()
    tap.equal((200 in answers, seen(node, 1000)), (False, "3"), "repeated, it is not acknowledged either as long as it is on one server only")
    standby.start()
    client.join(cluster.PATIENCE)
    cluster.poll("an acknowledgement", lambda: node.export_protobuf(late)[0] == 200)
    tap.equal((seen(node, 1000), seen(standby, 1000)), ("3", "3"), "with the standby again the repeated request is acknowledged, and is on both once")

    # the standby takes over: nothing that was acknowledged is missing
    acknowledged = []
    stop = threading.Event()

    def send(first):
        n = first
        while not stop.is_set():
            if node.export_protobuf(body(n), timeout=60)[0] == 200: acknowledged.append(n)
            n += 1
    clients = [threading.Thread(target=send, args=(2000 + 100000 * i,)) for i in range(3)]
    for c in clients: c.start()
    cluster.poll("load", lambda: len(acknowledged) > 60)
    node.kill9()
    stop.set()
    for c in clients: c.join(cluster.PATIENCE)
    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    got = dict(l.split("|") for l in standby.sql("SELECT trace_id, count(*) FROM tempo.spans GROUP BY 1").splitlines())
    tap.equal([n for n in acknowledged + [1000] + list(range(40)) if got.get("%032x" % (n + 1)) != "3"], [], "promoted, it has every acknowledged span once")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "and is intact")


tap.main(test)
