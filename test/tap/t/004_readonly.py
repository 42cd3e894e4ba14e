"""Read-only servers refuse writes with "later" and serve reads: default_transaction_read_only, and a hot standby up to its promotion."""
import base64, os
import cluster, otlp, tap


def refuses(node, body, what):
    def refused():
        status, headers, answer = node.export_protobuf(body)
        return status == 503 and (headers, answer)
    got = cluster.poll("503 of %s" % what, refused)
    tap.ok(got, "%s: OTLP over HTTP answers 503" % what)
    tap.ok(b"read" in got[1] or b"recovery" in got[1] or b"standby" in got[1], "%s: with the reason" % what, got[1][:300])
    status, fields = node.export_grpc(body)
    details = fields.get("grpc-status-details-bin", "")
    retry_info = b"google.rpc.RetryInfo" in base64.b64decode(details + "=" * (-len(details) % 4))
    tap.ok(status == 8 and retry_info, "%s: OTLP over gRPC answers what clients repeat" % what, status, fields)


def test():
    node = cluster.Cluster("primary", **{"wal_level": "replica", "max_wal_senders": 4, "hot_standby": "on"})
    node.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", node.data + "/pg_hba.conf")
    node.start()
    node.create_extension()
    first, second, third = "1" * 32, "2" * 32, "3" * 32
    body = lambda trace: otlp.request_bytes(otlp.request([otlp.span(trace, "%016x" % (i + 1), attributes=[otlp.attribute("http.route", "/a")]) for i in range(5)]))
    tap.equal(node.export_protobuf(body(first))[0], 200, "a trace on the primary")

    node.configure(default_transaction_read_only="on")
    node.reload()
    refused = body(second)
    refuses(node, refused, "default_transaction_read_only")
    tap.equal(node.get("/api/traces/" + first)[0], 200, "reads go on")
    tap.ok(b'"spanSets"' in node.get("/api/search?q=%7B%20span.http.route%20%3D%20%22%2Fa%22%20%7D")[2], "searches go on")
    node.configure(default_transaction_read_only="off")
    node.reload()
    cluster.poll("success after the read-only time", lambda: node.export_protobuf(refused)[0] == 200)
    tap.equal(node.sql("SELECT count(*), count(DISTINCT span_id) FROM tempo.spans WHERE trace_id = '%s'" % second), "5|5", "the repeated request is stored once")

    standby = cluster.Cluster("standby", init=False)
    node.run(cluster.BIN + "/pg_basebackup", "-D", standby.data, "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-X", "stream", "-c", "fast")
    standby.run("touch", standby.data + "/standby.signal")
    standby.configure(primary_conninfo="host=127.0.0.1 port=%d user=postgres" % node.port, hot_standby="on")
    standby.start()
    tap.equal(node.export_protobuf(body(third))[0], 200, "another trace on the primary")
    cluster.poll("the third trace on the standby", lambda: standby.get("/api/traces/" + third)[0] == 200)
    tap.ok(True, "the standby's API shows it")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.spans"), "15", "and its SQL")
    tap.ok(third.encode() in standby.get("/api/search?q=%7B%20span.http.route%20%3D%20%22%2Fa%22%20%7D")[2], "and its search")
    tap.equal(standby.get("/ready")[0], 200, "it is ready")
    late = body("4" * 32)
    refuses(standby, late, "standby")
    # compaction on the primary does not take anything away from the standby's readers
    node.sql("SELECT tempo.compact()")
    tap.equal(node.export_protobuf(body("5" * 32))[0], 200, "a trace behind compaction")
    cluster.poll("replay of compaction", lambda: standby.get("/api/traces/" + "5" * 32)[0] == 200)
    tap.equal(standby.sql("SELECT count(*), count(DISTINCT (trace_id, span_id)) FROM tempo.spans"), "20|20", "the standby has every span once behind compaction")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "tempo.verify() works there, and finds nothing")
    node.stop()
    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    cluster.poll("writes on the promoted standby", lambda: standby.export_protobuf(late)[0] == 200)
    tap.equal(standby.sql("SELECT count(*), count(DISTINCT (trace_id, span_id)) FROM tempo.spans"), "25|25", "the promoted standby stores it once")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "and is intact")


tap.main(test)
