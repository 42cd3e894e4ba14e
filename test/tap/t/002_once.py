"""A request that comes again is stored once: at the same time, later, after a restart, over the other transport."""
import threading
import cluster, otlp, tap


def test():
    node = cluster.Cluster("once")
    node.start()
    node.create_extension()
    count = lambda trace: int(node.sql("SELECT count(*) FROM tempo.spans WHERE trace_id = '%s'" % trace))
    body = lambda trace: otlp.request_bytes(otlp.request([otlp.span(trace, "%016x" % i, start=1700000000000000000) for i in (1, 2, 3)]))

    trace = "a" * 32
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(node.export_protobuf(body(trace))[0])) for i in range(20)]
    for t in threads: t.start()
    for t in threads: t.join()
    tap.equal(answers, [200] * 20, "20 equal requests at once are all acknowledged")
    tap.equal(count(trace), 3, "and stored once")
    tap.equal(node.export_grpc(body(trace))[0], 0, "the same over gRPC is acknowledged")
    tap.equal(count(trace), 3, "and not stored again")
    node.restart()
    node.wait_ready()
    tap.equal(node.export_protobuf(body(trace))[0], 200, "the same after a restart is acknowledged")
    tap.equal(count(trace), 3, "and not stored again")
    node.kill9()
    node.start()
    node.wait_ready()
    tap.equal(node.export_protobuf(body(trace))[0], 200, "the same after a crash is acknowledged")
    tap.equal(count(trace), 3, "and not stored again")
    node.sql("SELECT tempo.compact()")
    tap.equal(node.export_protobuf(body(trace))[0], 200, "the same after compaction is acknowledged")
    tap.equal(count(trace), 3, "and not stored again")
    tap.equal(node.export_protobuf(body("b" * 32))[0], 200, "another request is acknowledged")
    tap.equal(count("b" * 32), 3, "and stored")

    # the same body of another tenant is another request
    node.configure(**{"tempo_pg.multitenancy": "on"})
    node.reload()
    cluster.poll("multitenancy", lambda: node.export_protobuf(body("c" * 32))[0] == 401)
    for tenant in ("t1", "t2", "t1"):
        tap.equal(node.export_json(otlp.request([otlp.span("c" * 32, "1" * 16, start=1700000000000000000)]), tenant)[0], 200, "tenant %s sends the same" % tenant)
    tap.equal(node.sql("SELECT string_agg(tenant, ',' ORDER BY tenant) FROM tempo.spans WHERE trace_id = '%s'" % ("c" * 32)), "t1,t2", "each tenant has it once")
    for tenant, status in (("t1", 200), ("t2", 200), ("t3", 404)):
        tap.equal(node.get("/api/traces/" + "c" * 32, tenant)[0], status, "tenant %s asks for it" % tenant)
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


tap.main(test)
