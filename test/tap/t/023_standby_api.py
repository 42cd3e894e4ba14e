"""A hot standby serves the same API as its primary, read-only, and all of it once it is promoted."""
import json
import cluster, tap

PATHS = [
    "/api/search?q=%7B%7D&limit=50",
    "/api/search?q=%7B%20span.i%20%3E%2010%20%7D",
    "/api/search?tags=name%3Dstep",
    "/api/search/tags",
    "/api/v2/search/tags",
    "/api/search/tag/service.name/values",
    "/api/v2/search/tag/span.i/values",
    "/api/metrics/query_range?q=%7B%7D%20%7C%20rate()%20by%20(name)&start=1790000000&end=1790000600&step=60",
    "/api/metrics/query?q=%7B%7D%20%7C%20count_over_time()&start=1790000000&end=1790000600",
    "/api/traces/00000000000000000000000000000001",
    "/api/v2/traces/00000000000000000000000000000002",
    "/api/v2/traces/ffff",
    "/api/overrides",
    "/api/status/buildinfo",
]
INSERT = """INSERT INTO tempo.spans (tenant, trace_id, span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
    SELECT 'single-tenant', lpad(to_hex(i), 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'step ' || i %% 3, 'server', 'ok',
           (1790000000 + i)::bigint * 1000000000, 1000, jsonb_build_object('i', i), '{"service.name": "svc"}' FROM generate_series(%d, %d) i"""


def bodies(node):
    """-> path, status, body of each"""
    return [(path, answer[0], answer[-1]) for path, answer in ((path, node.get(path)) for path in PATHS)]


def test():
    settings = {"wal_level": "replica", "max_wal_senders": 4, "hot_standby": "on", "tempo_pg.user_configurable_overrides": "on", "max_worker_processes": 24, "tempo_pg.compaction": "off"}
    node = cluster.Cluster("primary", **settings)
    node.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", node.data + "/pg_hba.conf")
    node.start()
    node.create_extension()
    node.sql(INSERT % (1, 40))
    standby = cluster.Cluster("standby", init=False)
    node.run(cluster.BIN + "/pg_basebackup", "-D", standby.data, "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-X", "stream", "-c", "fast")
    standby.run("touch", standby.data + "/standby.signal")
    standby.configure(primary_conninfo="host=127.0.0.1 port=%d user=postgres" % node.port, hot_standby="on", **{"tempo_pg.user_configurable_overrides": "on", "tempo_pg.compaction": "off"})
    standby.start()
    cluster.poll("an API answer of the standby", lambda: standby.get("/ready")[0] == 200)

    def replayed():
        end = node.sql("SELECT pg_current_wal_insert_lsn()")
        cluster.poll("replay", lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= '%s'" % end) == "t")

    node.sql(INSERT % (41, 60))
    replayed()
    primary, copy = bodies(node), bodies(standby)
    for a, b in zip(primary, copy):
        tap.equal(b[1:], a[1:], "the standby answers as the primary does: " + a[0])
    tap.ok(all(status == 200 for path, status, body in primary if path not in ("/api/overrides",)), "and what was asked is there")
    tap.equal(len(json.loads(dict((p, b) for p, s, b in copy)[PATHS[0]])["traces"]), 50, "with the spans of a moment ago")

    write = lambda n: n.http("PATCH", n.http_port, "/api/overrides", body=b'{"forwarders": ["a"]}')
    answer = write(standby)
    tap.equal(answer[0], 503, "it does not write")
    tap.equal(write(node)[0], 200, "the primary does")
    replayed()
    tap.equal(standby.http("GET", standby.http_port, "/api/overrides")[0], 200, "what it wrote is on the standby")
    before = bodies(node)
    node.stop()
    tap.equal([b[1:] for b in bodies(standby)], [b[1:] for b in before], "the standby answers without a primary")

    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    tap.equal([b[1:] for b in bodies(standby)], [b[1:] for b in before], "the same when it is promoted")
    standby.sql(INSERT % (61, 70))
    found = standby.http("GET", standby.http_port, "/api/search?q=%7B%7D&limit=100")
    tap.equal(len(json.loads(found[-1])["traces"]), 70, "it stores spans now")
    cluster.poll("a query worker that may write", lambda: write(standby)[0] == 200)
    tap.ok(True, "and writes overrides")


tap.main(test)
