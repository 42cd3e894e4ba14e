"""A full tablespace and a full pg_wal: refused with "later", and nothing acknowledged is lost."""
import base64, os, subprocess
import cluster, otlp, tap


def big_body(n, spans=400):
    """a request that does not compress: 400 spans are about 400 kB"""
    trace = "%032x" % (n + 1)
    return trace, otlp.request_bytes(otlp.request([otlp.span(trace, "%016x" % (i + 1), attributes=[otlp.attribute("noise", os.urandom(600))]) for i in range(spans)]))


def counts(node):
    return dict(l.split("|") for l in node.sql("SELECT trace_id, count(*) FROM tempo.spans GROUP BY 1").splitlines())


def full_tablespace():
    disk = cluster.SmallDisk(40)
    if not disk.room: return tap.skip("full tablespace", "no permission to mount a small file system")
    disk.fill(25)
    os.mkdir(disk.folder + "/space")
    if cluster.AS_ROOT: subprocess.run(["chown", "postgres:", disk.folder + "/space"], check=True)
    # a merge would make room
    node = cluster.Cluster("full", **{"tempo_pg.compaction": "off"})
    node.start()
    node.sql("CREATE TABLESPACE small LOCATION '%s/space'" % disk.folder)
    node.sql("SET default_tablespace = small; CREATE EXTENSION tempo_pg")
    node.wait_ready()
    acknowledged, refused = {}, None
    for n in range(200):
        trace, body = big_body(n)
        status, headers, answer = node.export_protobuf(body)
        if status != 200:
            refused = trace, body
            break
        acknowledged[trace] = "400"
    if not tap.ok(refused, "a full tablespace refuses at some point"): return
    tap.equal(status, 503, "with HTTP 503")
    tap.ok("retry-after" in headers, "and Retry-After", headers)
    tap.ok(b"space" in answer.lower() or b"full" in answer.lower(), "and a text that names the reason", answer[:300])
    status, fields = node.export_grpc(refused[1])
    tap.equal(status, 8, "gRPC: RESOURCE_EXHAUSTED")
    details = fields.get("grpc-status-details-bin", "")
    tap.ok(b"google.rpc.RetryInfo" in base64.b64decode(details + "=" * (-len(details) % 4)), "with RetryInfo", fields)
    tap.equal(counts(node), acknowledged, "what was acknowledged is there, what was refused is not")
    tap.equal(node.get("/ready")[0], 200, "the server still serves")
    trace = next(iter(acknowledged))
    tap.equal(node.get("/api/traces/" + trace)[0], 200, "and reads")
    disk.empty()
    cluster.poll("the repeated request's success", lambda: node.export_protobuf(refused[1])[0] == 200)
    acknowledged[refused[0]] = "400"
    tap.equal(counts(node), acknowledged, "with room again, the repeated request is stored once")
    node.kill9()
    node.start()
    tap.equal(counts(node), acknowledged, "a crash later all of it is there")
    node.sql("SELECT tempo.compact()")
    tap.equal(counts(node), acknowledged, "and merging keeps it")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


def full_wal():
    disk = cluster.SmallDisk(48)
    if not disk.room: return tap.skip("full pg_wal", "no permission to mount a small file system")
    disk.fill(16)
    node = cluster.Cluster("wal", initdb=["--waldir", disk.folder + "/wal", "--wal-segsize", "1"], **{"max_wal_size": "1GB", "min_wal_size": "2MB", "checkpoint_timeout": "1h", "wal_recycle": "off", "restart_after_crash": "off"})
    node.start()
    node.create_extension()
    acknowledged, unanswered = {}, []
    for n in range(1500):
        trace, body = big_body(n, 100)
        status, headers, answer = node.export_protobuf(body)
        if status == 200: acknowledged[trace] = "100"
        else:
            unanswered.append((trace, body))
            if status == 0 or len(unanswered) > 3: break
    if not tap.ok(unanswered, "a full pg_wal ends the acknowledgements"): return
    tap.note("%d requests acknowledged; then the answer was %d %r" % (len(acknowledged), status, answer[:100]))
    disk.empty()
    if cluster.alive(node.postmaster):
        cluster.poll("the server's own end, or its answers", lambda: not cluster.alive(node.postmaster) or node.export_protobuf(unanswered[0][1])[0] == 200)
    if cluster.alive(node.postmaster): node.stop("immediate")
    # merges log as much again, and there is no checkpoint to make room
    node.configure(**{"tempo_pg.compaction": "off"})
    node.start()
    node.wait_ready()
    got = counts(node)
    tap.equal({t: got.get(t) for t in acknowledged}, acknowledged, "after the restart every acknowledged span is there")
    for trace, body in unanswered:
        tap.equal(node.export_protobuf(body)[0], 200, "an unanswered request is accepted when it comes again")
        acknowledged[trace] = "100"
    tap.equal(counts(node), acknowledged, "and is there once")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


def test():
    full_tablespace()
    full_wal()


tap.main(test)
