"""What a user may not see, and what was deleted, is nowhere: rows, aggregates, tags, answers of the API, EXPLAIN, and after merging and VACUUM the files."""
import os, random, subprocess
import cluster, tap

SWITCHES = ("tempo_pg.enable_custom_scan", "tempo_pg.enable_custom_aggregate")
START = 1700000000


def fill(node, secret):
    """spans of two services; one user's id is a value, a part of a key, of a name, of an event and of the resource"""
    node.sql("""
INSERT INTO tempo.spans (trace_id, span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes, events)
SELECT lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(1 + n), 16, '0')::tempo.span_id, CASE WHEN gone THEN 'login {0}' ELSE 'op ' || n % 5 END, 'server', CASE WHEN n % 6 = 0 THEN 'error' ELSE 'unset' END,
       {1} * 1000000000::bigint + n * 1000000::bigint, n * 1000,
       jsonb_build_object('n', n, 'user', CASE WHEN gone THEN '{0}' ELSE 'user ' || n % 9 END) || CASE WHEN gone THEN '{{"key {0}": 1, "code": "{0}"}}' ELSE '{{"code": "7"}}' END::jsonb,
       jsonb_build_object('service.name', CASE WHEN gone THEN 'service {0}' ELSE 'shown' END), CASE WHEN gone THEN '[{{"name": "event {0}"}}]' ELSE '[]' END::jsonb
FROM (SELECT n, n / 4 % 10 = 3 AS gone FROM generate_series(0, 1999) n) s""".format(secret, START))


def places(node, role=None):
    """(what, text) of everything that a user can ask"""
    session = cluster.Session(node)
    if role: session.sql("SET ROLE %s" % role)
    for on in ("on on", "off on", "on off", "off off"):
        session.sql("; ".join("SET %s = %s" % s for s in zip(SWITCHES, on.split())))
        queries = {
            "rows": "SELECT * FROM tempo.spans", "rows by user": "SELECT attributes ->> 'user', count(*) FROM tempo.spans GROUP BY 1", "services": "SELECT service_name, count(*), sum(duration_nano) FROM tempo.spans GROUP BY 1",
            "names": "SELECT DISTINCT name FROM tempo.spans", "extremes": "SELECT min(name), max(name), min(service_name), max(service_name), max(attributes ->> 'code') FROM tempo.spans",
            "a cast that fails on others": "SELECT count(*) FROM tempo.spans WHERE (attributes ->> 'code')::int > 0", "an aggregate's cast": "SELECT sum((attributes ->> 'code')::int), count(*) FROM tempo.spans GROUP BY name", "a function that tells": "SELECT count(*) FROM tempo.spans WHERE tells(name) AND tells(attributes ->> 'user') AND tells(service_name)",
            "EXPLAIN": "EXPLAIN (ANALYZE, VERBOSE) SELECT name, count(*) FROM tempo.spans WHERE attributes ->> 'user' LIKE 'user%' AND kind = 'server' GROUP BY 1", "EXPLAIN of rows": "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM tempo.spans WHERE name LIKE 'l%'",
            "traceql": "SELECT t::text FROM traceql('{}') t", "newest": "SELECT trace_id, min(start_time_unix_nano) FROM tempo.spans GROUP BY trace_id HAVING bool_or(kind = 'server') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 500",
            "a trace": "SELECT t::text FROM generate_series(1, 40) n, tempo.trace(lpad(to_hex(n), 32, '0')::tempo.trace_id) t", "a trace in JSON": "SELECT tempo.trace_json(lpad(to_hex(n), 32, '0')::tempo.trace_id) FROM generate_series(1, 40) n",
        }
        window = "start=%d&end=%d" % (START - 10, START + 100)
        for what, path, query in [("search", "/api/search", "q={}&limit=1000&spss=100&" + window), ("search by name", "/api/search", "q={name=~%22.*%22}|select(span.user,resource.service.name)&limit=1000&spss=100&" + window),
                                  ("tags", "/api/v2/search/tags", "limit=10000&" + window), ("tags of all times", "/api/search/tags", ""), ("users", "/api/v2/search/tag/span.user/values", window), ("users of all times", "/api/search/tag/user/values", ""), ("services", "/api/v2/search/tag/resource.service.name/values", ""),
                                  ("names", "/api/v2/search/tag/name/values", window), ("events", "/api/v2/search/tag/event:name/values", window), ("codes", "/api/v2/search/tag/span.code/values", "q={name=~%22.*%22}&" + window),
                                  ("rate by user", "/api/metrics/query_range", "q={}|rate()by(span.user)&step=10&exemplars=100&" + window), ("count by service", "/api/metrics/query", "q={}|count_over_time()by(resource.service.name,name)&" + window), ("quantiles", "/api/metrics/query_range", "q={}|quantile_over_time(duration,.5)by(span.code)&step=10&" + window),
                                  ("compare", "/api/metrics/query_range", "q={}|compare({status=error},100)&step=10&" + window), ("compare on traces", "/api/metrics/query_range", "q={}|compare({status=error%20%26%26%20traceDuration%3E=0s},100)&step=10&" + window), ("trace", "/api/v2/traces/%032x" % 4, "")]:
            queries[what + " over HTTP"] = "SELECT status, convert_from(body, 'UTF8') FROM tempo.api('GET', '%s', '%s')" % (path, query)
        for what, query in queries.items():
            text = session.sql(query)
            yield "%s (custom nodes %s)" % (what, on), text, "ERROR:" in text
    session.close()


def count(node, role=None):
    become = "SET ROLE %s; " % role if role else ""
    return {node.sql(become + "".join("SET %s = %s; " % s for s in zip(SWITCHES, on.split())) + q) for on in ("on on", "off on", "on off", "off off") for q in ("SELECT count(*) FROM tempo.spans", "SELECT sum(c) FROM (SELECT count(*) AS c FROM tempo.spans GROUP BY name, kind) x",
                                                                      "SELECT count(*) FROM (SELECT attributes FROM tempo.spans OFFSET 0) x")}


def absent(node, secret, what, role=None):
    found, failed, looked = [], [], 0
    for place, text, error in places(node, role):
        looked += 1
        if secret in text: found.append("%s: %s" % (place, text[max(0, text.index(secret) - 150):text.index(secret) + 100]))
        if error or not text or "HTTP" in place and not text.startswith("200|"): failed.append("%s: %s" % (place, text[:300]))
    tap.ok(not found, "%s: nowhere in %d answers" % (what, looked), *found[:10])
    tap.ok(not failed, "%s: all are answers" % what, *failed[:5])


def files_with(node, text):
    """files of the database that have the text, but for WAL"""
    r = subprocess.run(["grep", "-rlaF", text, node.data, "--exclude-dir=pg_wal", "--exclude-dir=log"], capture_output=True, text=True)
    return sorted(os.path.relpath(f, node.data) for f in r.stdout.split())


def test():
    node = cluster.Cluster("hidden", autovacuum="off", **{"tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    node.sql("CREATE FUNCTION tells(x text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'sees %', x; RETURN true; END $$; CREATE ROLE watcher; GRANT tempo_reader TO watcher; GRANT USAGE ON SCHEMA public, tempo TO watcher")
    secret = "".join(random.choice("ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ") for i in range(12))
    fill(node, secret)
    seen = [w for w, text, error in places(node) if secret in text]
    tap.ok(len(seen) > 80, "what can be seen is seen in many places", len(seen), seen)

    # a policy that hides it, with a leakproof condition and with one that is not
    node.sql("ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY")
    for name, condition in ("a policy", "service_name = 'shown'"), ("a policy that is not leakproof", "length(service_name) < 10"), ("a policy by attribute", "attributes ->> 'code' = '7'"):
        node.sql("DROP POLICY IF EXISTS watched ON tempo.spans; CREATE POLICY watched ON tempo.spans TO watcher USING (%s)" % condition)
        absent(node, secret, name, "watcher")
        tap.equal(count(node, "watcher"), {"1800"}, name + ": rows and aggregates count what is left")
    node.sql("ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY")

    # deleted: at once from every answer
    # a text so short and alone that it is not compressed
    node.sql("INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, trace_state) VALUES (lpad('abc', 32, '0')::tempo.trace_id, '00000000000000ff', 5, 1, '%s')" % secret)
    node.sql("ANALYZE tempo.spans; CHECKPOINT")
    files = files_with(node, secret)
    tap.ok(node.sql("SELECT pg_relation_filepath('tempo.spans')") in files, "what is stored can be found in the file", files)
    tap.ok(node.sql("SELECT pg_relation_filepath('pg_statistic')") in files, "and in statistics", files)
    node.sql("DELETE FROM tempo.spans WHERE attributes ->> 'user' = '%s' OR trace_state = '%s'" % (secret, secret))
    absent(node, secret, "deleted")
    tap.equal(count(node), {"1800"}, "deleted: rows and aggregates count what is left")
    # another snapshot keeps it
    reader = cluster.Session(node)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    node.sql("SELECT tempo.compact(); VACUUM tempo.spans")
    absent(node, secret, "merged away")
    tap.equal(count(node), {"1800"}, "merged away: rows and aggregates count what is left")
    node.sql("CHECKPOINT")
    path = node.sql("SELECT pg_relation_filepath('tempo.spans')")
    tap.ok(path in files_with(node, secret), "the older snapshot's blocks still have it")
    reader.sql("COMMIT")
    reader.close()
    node.sql("VACUUM tempo.segment_directory, tempo.segment_deletions; VACUUM tempo.spans")
    node.sql("CHECKPOINT")
    tap.ok(path not in files_with(node, secret), "after compaction and VACUUM it is not in the table's file", node.sql("SELECT free_bytes FROM tempo.stat_tables WHERE relation = 'tempo.spans'::regclass"))
    tap.ok(int(node.sql("SELECT free_bytes FROM tempo.stat_tables WHERE relation = 'tempo.spans'::regclass")) > 0, "whose blocks are free now")
    fill(node, "0")
    node.sql("SELECT tempo.compact(); VACUUM FULL tempo.spans; ANALYZE tempo.spans; VACUUM FULL pg_statistic; CHECKPOINT")
    tap.equal(files_with(node, secret), [], "after VACUUM FULL and ANALYZE it is in no file")
    absent(node, secret, "rewritten")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


tap.main(test)
