"""The compaction worker: damage stays where it is, limits are kept, and those who wait for it get what they wait for."""
import os, re, time
import cluster, otlp, tap

ADD = """
CREATE FUNCTION add(relation text, n int, spans int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$
        INSERT INTO %s (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
        SELECT md5($1::text || i)::tempo.trace_id, lpad(to_hex(i + 1), 16, '0')::tempo.span_id, (extract(epoch FROM now()) * 1e9)::bigint + i, 1000,
               jsonb_build_object('noise', md5(i || 'x' || $1) || md5(i || 'y' || $1), 'n', $1)
        FROM generate_series(0, $2 - 1) i $q$, relation) USING n, spans;
END $$;
"""


def set(node, **settings):
    node.configure(**{"tempo_pg." + k: v for k, v in settings.items()})
    node.reload()
    for k, v in settings.items(): cluster.poll(k, lambda: node.sql("SHOW tempo_pg." + k) == str(v))


def level0(node, table):
    return int(node.sql("SELECT count(*) FROM tempo.segments WHERE relation = '%s'::regclass AND level = 0" % table))


def sizes(node, table):
    """of the file, and of the segments in it; 0 if it is locked this moment, since its file is cut"""
    return [int(n) for n in node.sql("SELECT pg_relation_size('%s'), coalesce(sum(blocks), 0) * 8192 FROM tempo.segments WHERE relation = '%s'::regclass" % (table, table)).split("|")]


def fits(node, table):
    size, used = sizes(node, table)
    return size <= 1.25 * used + 65 * 8192


def leave_space(node):
    """files with the merged segment at their ends, behind what it was merged from"""
    for t in ("moved", "rewritten"):
        node.sql("CREATE TABLE %s (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo" % t)
        node.sql("".join("SELECT add('%s', %d, 1500);\n" % (t, n) for n in range(10)))
        node.sql("SELECT tempo.compact('%s')" % t)
    node.sql("DELETE FROM rewritten WHERE (attributes->>'n')::int = 3 AND span_id < '0000000000000010'")
    tap.ok(not fits(node, "moved") and not fits(node, "rewritten"), "files that are longer than their segments", sizes(node, "moved"), sizes(node, "rewritten"))


def space_is_back(node):
    for t, spans in (("moved", 15000), ("rewritten", 15000 - 15)):
        cluster.poll("the space of %s" % t, lambda: fits(node, t))
        tap.equal(node.sql("SELECT count(*), count(DISTINCT attributes->>'noise'), (SELECT count(*) FROM tempo.verify('%s')) FROM %s" % (t, t)), "%d|%d|0" % (spans, spans), "the worker gives the space of %s back, and nothing else" % t)
    tap.equal(node.sql("SELECT count(*) FROM tempo.segments WHERE relation = 'moved'::regclass AND level = 1"), "1", "a segment that only moves is not written anew")
    node.sql("DROP TABLE moved, rewritten")


def settling(node):
    """when nothing comes in any more, the file shrinks to what is in it; a minute or two after the last merge"""
    if not cluster.LONG: return
    node.sql("CREATE TABLE settled (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo")
    reader = cluster.Session(node)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM settled")
    for n in range(40): node.sql("SELECT add('settled', %d, 5000)" % n)
    cluster.poll("merging", lambda: level0(node, "settled") == 0)
    dead = lambda: int(node.sql("SELECT pg_stat_get_dead_tuples('tempo.segment_directory'::regclass)"))
    tap.ok(not fits(node, "settled"), "an old snapshot keeps the space")
    reader.sql("COMMIT")
    reader.close()
    cluster.poll("the space", lambda: fits(node, "settled"), 300)
    tap.ok(True, "it is back within five minutes of the snapshot's end")
    cluster.poll("the end of dead rows", lambda: dead() < 100, 300)
    tap.ok(True, "and so are the directory's dead rows")
    node.sql("DROP TABLE settled")


def damage(node):
    """one segment that cannot be read, in the first of three tables"""
    for t in ("one", "two"): node.sql("CREATE TABLE %s (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo" % t)
    for t in ("one", "two", "tempo.spans"):
        for n in range(3): node.sql("SELECT add('%s', %d, 200)" % (t, n))
    segment, block = node.sql("SELECT segment_id, first_block FROM tempo.segments WHERE relation = 'one'::regclass ORDER BY 1 OFFSET 1 LIMIT 1").split("|")
    path = node.sql("SELECT pg_relation_filepath('one')")
    node.stop()
    with open(os.path.join(node.data, path), "r+b") as f:
        f.seek(int(block) * 8192 + 8192 - 600)
        f.write(b"\x55" * 300)
    node.configure(**{"tempo_pg.compaction": "on"})
    node.start()
    for t in ("tempo.spans", "two"):
        cluster.poll("merging of %s" % t, lambda: level0(node, t) == 0)
    tap.ok(True, "tables after a damaged one are merged")
    cluster.poll("merging beside the damage", lambda: level0(node, "one") == 1)
    tap.equal(node.sql("SELECT string_agg(segment_id::text, ' ') FROM tempo.segments WHERE relation = 'one'::regclass AND level = 0"), segment, "and so are the segments beside the damaged one")
    cluster.poll("the view", lambda: node.sql("SELECT quarantined_segments FROM tempo.stat_compaction WHERE relation = 'one'::regclass") == "1")
    tap.ok("segment %s" % segment in node.sql("SELECT last_error FROM tempo.stat_compaction WHERE relation = 'one'::regclass"), "the view names the segment")
    told = [l for l in node.log_text().splitlines() if "cannot merge segment %s of table public.one" % segment in l]
    tap.equal(len(told), 1, "the log tells of it once")
    tap.ok("HINT:  SELECT * FROM tempo.verify('public.one')" in node.log_text(), "with a hint")
    tap.equal(node.sql("SELECT count(DISTINCT segment_id), min(segment_id) FROM tempo.verify('one')"), "1|" + segment, "verify() finds it")
    # new segments are merged all the same, and later attempts are not logged again
    failed = node.sql("SELECT last_error_at FROM tempo.stat_compaction WHERE relation = 'one'::regclass")
    node.sql("SELECT add('one', 7, 100)")
    cluster.poll("merging of what is new", lambda: level0(node, "one") == 1)
    cluster.poll("another attempt", lambda: node.sql("SELECT last_error_at FROM tempo.stat_compaction WHERE relation = 'one'::regclass") != failed)
    tap.equal(node.log_text().count("cannot merge segment"), 1, "another attempt is not logged again")
    node.sql("DROP TABLE one, two")


def waiting(node):
    """compact() leaves nothing behind that the worker had in its hands"""
    left = []
    times = 6 if cluster.LONG else 3
    for n in range(times):
        node.sql("".join("SELECT add('tempo.spans', %d, 2000);\n" % (100 * n + i) for i in range(20 if cluster.LONG else 10)))
        node.sql("SELECT tempo.compact()")
        left.append(level0(node, "tempo.spans"))
    tap.equal(left, [0] * times, "tempo.compact() waits for the worker and does the rest")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    other = cluster.Session(node)
    other.sql("BEGIN; SELECT tempo.compact()")
    node.sql("SELECT add('tempo.spans', 1, 10), add('tempo.spans', 2, 10)")
    cluster.poll("merging beside an open transaction that has compacted", lambda: level0(node, "tempo.spans") == 0)
    tap.ok(True, "who has compacted in an open transaction does not hold up the worker")
    other.sql("COMMIT")
    other.close()
    node.sql("CREATE ROLE nobody LOGIN")
    holder = cluster.Session(node)
    holder.sql("BEGIN; LOCK TABLE tempo.spans IN ACCESS EXCLUSIVE MODE")
    r = node.psql("SET lock_timeout = '1min'; SELECT tempo.compact(relation => (SELECT oid FROM pg_catalog.pg_class WHERE relname = 'spans'))", user="nobody")
    tap.ok("42501" in r.stderr, "who may not compact does not wait for the table", r.stderr)
    holder.sql("COMMIT")
    holder.close()


def request(n):
    return otlp.request([otlp.span("%016x%016x" % (n + 1, 1), "%016x" % (i + 1), attributes=[otlp.attribute("noise", os.urandom(400).hex())]) for i in range(50)], "svc")


def pressure(node):
    """too slow by its limit, the worker holds up receivers, not queries"""
    set(node, compaction_rate_limit="1kB", max_level0_segments=2)
    wait = lambda: node.sql("SELECT phase FROM tempo.stat_compaction WHERE relation = 'tempo.spans'::regclass") == "waiting"
    for n in range(4): node.export_json(request(n))
    cluster.poll("the rate limit", wait)
    tap.equal(node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg compaction' AND xact_start IS NULL AND backend_xmin IS NULL"), "1", "the worker waits outside of transactions")
    n = 10
    while True:
        status, headers, body = node.export_json(request(n))
        if status != 200 or n > 100: break
        n += 1
    tap.equal(status, 503, "with too many segments clients are asked to retry")
    tap.ok(int(headers.get("retry-after", 0)) > 0 and b"max_level0_segments" in body, "with a time and the reason", headers, body)
    status, fields = node.export_grpc(otlp.request_bytes(request(1000)))
    tap.equal(status, 8, "over gRPC it is RESOURCE_EXHAUSTED")
    tap.ok(level0(node, "tempo.spans") <= 2 * 4 + 2, "so the number of segments is bounded")
    tap.equal(node.get("/api/search?q=%7B%7D&limit=1")[0], 200, "queries are served")
    set(node, compaction_rate_limit="0")
    cluster.poll("acceptance", lambda: node.export_json(request(2000))[0] == 200)
    cluster.poll("merging", lambda: level0(node, "tempo.spans") == 0)
    tap.ok(True, "without the limit it catches up")
    set(node, max_level0_segments=1000)


def orphans(node):
    node.sql("CREATE TABLE kept (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo; SELECT add('kept', 1, 30)")
    columns = "segment_id, min_start_nano, max_start_nano, max_end_nano, min_duration_nano, max_duration_nano, max_trace_nano, tenant_filter, bytes, raw_bytes, first_block, newest_at, blocks, spans, traces, tenants, requests, level"
    node.sql("INSERT INTO tempo.segment_directory SELECT 4711, %s FROM tempo.segment_directory WHERE storage_id = tempo.storage_id('kept') LIMIT 1" % columns)
    node.sql("INSERT INTO tempo.segment_deletions SELECT storage_id, segment_id, '\\x0000000001' FROM tempo.segment_directory WHERE storage_id = 4711")
    # of segments that do not exist, and of one that does, which may be merged meanwhile
    node.sql("INSERT INTO tempo.segment_deletions SELECT tempo.storage_id('kept'), n, '\\x0000000001' FROM generate_series(1000, 1002) n; DELETE FROM kept WHERE span_id = '0000000000000001'")
    node.restart()
    cluster.poll("the orphan's end", lambda: node.sql("SELECT count(*) FROM tempo.segment_directory WHERE storage_id = 4711") == "0")
    tap.equal(node.sql("SELECT count(*) FROM tempo.segment_deletions WHERE storage_id = 4711"), "0", "rows of a table that does not exist are removed")
    tap.equal(node.sql("SELECT count(*) FROM tempo.segment_deletions WHERE storage_id = tempo.storage_id('kept') AND segment_id >= 1000"), "0", "and bitmaps of segments that do not exist")
    tap.equal(node.sql("SELECT count(*) FROM kept"), "29", "those of others are not")
    cluster.poll("the log", lambda: "removed 1 rows of tables that do not exist" in node.log_text() and "removed 3 rows of segments that do not exist" in node.log_text())
    tap.ok(True, "the log tells of it")


def pages(session):
    """that listing the segments reads"""
    return int(re.search(r"shared hit=(\d+)", session.sql("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) SELECT * FROM tempo.table_statistics('tempo.spans')")).group(1))


def snapshots(node):
    """new snapshots pass by dead rows that an old one keeps, and both see what they should"""
    count = "SELECT count(*), count(DISTINCT trace_id), sum(duration_nano) FROM tempo.spans"
    set(node, compaction="off")
    cluster.poll("the worker's end", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg compaction' AND datname IS NOT NULL") == "0")
    for n in range(10): node.export_json(request(4000 + n))
    reader = cluster.Session(node)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql(count)
    exported = reader.sql("SELECT pg_export_snapshot()")
    tap.ok(level0(node, "tempo.spans") >= 10, "an old snapshot with segments of level 0")
    set(node, compaction="on")
    spans = int(before.split("|")[0])
    wrong = []
    for n in range(60):
        node.export_json(request(5000 + n))
        spans += 50
        got = int(node.sql(count).split("|")[0])
        if got != spans: wrong.append((n, got, spans))
    tap.equal(wrong, [], "each commit is seen at once, whatever is merged meanwhile")
    cluster.poll("merging", lambda: level0(node, "tempo.spans") == 0)
    tap.equal(reader.sql(count), before, "the old snapshot sees what it saw")
    node.sql("SELECT add('tempo.spans', 1, 1);\n" * 400)
    cluster.poll("merging", lambda: level0(node, "tempo.spans") == 0)
    newer = cluster.Session(node)
    old = pages(reader)
    told = [time.monotonic()]

    def passed_by():
        # the worker finds out from where on they see anything when it merges, and again when it merges the next time
        if time.monotonic() > told[0] + 1:
            told[0] = time.monotonic()
            node.sql("SELECT add('tempo.spans', 1, 1)")
        return pages(newer) < old / 2
    cluster.poll("a list of segments without dead rows", passed_by)
    tap.ok(True, "new snapshots pass by the rows that only the old one sees")
    newer.close()
    other = cluster.Session(node)
    other.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '%s'" % exported)
    tap.equal(other.sql(count), before, "and so does who imports it later")
    other.sql("SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')")
    tap.equal(other.sql(count), before, "and its parallel workers")
    tap.equal(other.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    other.sql("COMMIT")
    other.close()
    # nothing is known of a table that is locked this moment, since its file is cut
    kept = lambda: int(node.sql("SELECT coalesce(max(file_bytes - free_bytes - bytes), -1) FROM tempo.stat_tables WHERE relation = 'tempo.spans'::regclass"))
    known = []
    cluster.poll("the table's statistics", lambda: known.append(kept()) or known[-1] >= 0)
    before = known[-1]
    reader.sql("COMMIT")
    reader.close()
    cluster.poll("the space that the old snapshot kept", lambda: 0 <= kept() < before / 10)
    tap.ok(True, "when the old snapshot has gone, the space comes back though nothing else happens")


def tenants(node):
    """segments of many tenants are merged in few merges, each into one of its own"""
    node.sql("TRUNCATE tempo.spans")
    set(node, compaction="off")
    # what the worker has begun
    node.sql("SELECT tempo.compact()")
    add = """INSERT INTO tempo.spans (tenant, trace_id, span_id, start_time_unix_nano, duration_nano)
             SELECT 't' || i %% 40, lpad(to_hex(i + 1), 32, '0')::tempo.trace_id, lpad(to_hex(%d), 16, '0')::tempo.span_id, (extract(epoch FROM now()) * 1e9)::bigint, 1 FROM generate_series(0, 3999) i"""
    done = []
    for n in range(1, 5):
        node.sql(add % n)
        done.append(node.sql("SELECT merges FROM tempo.compact()"))
        node.sql("VACUUM tempo.spans")
    tap.ok(int(done[0]) == 1 and all(2 <= int(m) <= 4 for m in done[1:]), "a fold, and a merge for all tenants", done)
    tap.equal(node.sql("SELECT count(*), min(spans), max(spans), max(tenants) FROM tempo.segments WHERE relation = 'tempo.spans'::regclass"), "40|400|400|1", "a segment for each tenant")
    tap.equal(node.sql("SELECT count(*), count(DISTINCT tenant), min(n), max(n) FROM (SELECT tenant, count(DISTINCT (trace_id, span_id)) AS n FROM tempo.spans GROUP BY 1) s"), "40|40|400|400", "with all that it has sent")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    # the worker waits with a fold until there is something to put into each segment, but not for long
    set(node, compaction="on")
    node.sql((add % 5).replace("3999", "99"))
    cluster.poll("a fold of a few spans of each of many tenants", lambda: level0(node, "tempo.spans") == 0)
    tap.equal(node.sql("SELECT count(*) BETWEEN 40 AND 80, max(tenants) FROM tempo.segments WHERE relation = 'tempo.spans'::regclass"), "t|1", "comes in the end")


def statistics(node):
    """the statistics of tables and databases that are dropped make room for others"""
    fill = """DO $$ BEGIN FOR i IN 1..130 LOOP
                  EXECUTE format('CREATE TABLE full_%s (LIKE tempo.spans) USING tempo', i);
                  PERFORM tempo.compact(format('full_%s', i)::regclass);
              END LOOP; END $$"""
    known = lambda name, db: node.sql("CREATE TABLE %s (LIKE tempo.spans) USING tempo; SELECT merges FROM tempo.compact('%s'); SELECT count(*) FROM tempo.stat_compaction WHERE relation = '%s'::regclass" % (name, name, name), db).split()[-1]
    node.sql("CREATE DATABASE another")
    node.sql("CREATE EXTENSION tempo_pg; " + fill, "another")
    tap.equal(known("one_more", "another"), "0", "there is room for so many tables")
    node.sql("DROP TABLE " + ", ".join("full_%d" % n for n in range(1, 11)), "another")
    tap.equal(known("later", "another"), "1", "a table that is dropped leaves its place")
    node.sql("DROP TABLE later; " + fill.replace("1..130", "1..10"), "another")
    node.sql("DROP DATABASE another")
    tap.equal(known("late", "postgres"), "1", "and so does a database")
    node.sql("DROP TABLE late")


def dropping(node):
    """the worker is in nobody's way who drops the extension, and finds the new one"""
    for n in range(20 if cluster.LONG else 6):
        node.sql("DROP EXTENSION tempo_pg CASCADE; CREATE EXTENSION tempo_pg")
        node.sql("SELECT add('tempo.spans', 1, 50);\n" * 5)
        if n % 5 == 0: cluster.poll("merging", lambda: level0(node, "tempo.spans") == 0)
    tap.equal([l for l in node.log_text().splitlines() if "deadlock" in l], [], "no deadlock with DROP EXTENSION")


def test():
    node = cluster.Cluster("compaction", **{"tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    node.sql(ADD)
    leave_space(node)
    damage(node)
    space_is_back(node)
    settling(node)
    waiting(node)
    pressure(node)
    snapshots(node)
    orphans(node)
    tenants(node)
    statistics(node)
    dropping(node)


tap.main(test)
