"""DELETE where servers fail: killed in the middle of it, on standbys, with bitmaps too large for a page, and requests sent again after their spans were deleted."""
import os, random, threading
import cluster, otlp, tap

SETUP = """
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE TABLE h (n int, gone text);
CREATE FUNCTION add(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO t (trace_id, span_id, start_time_unix_nano, duration_nano, name)
    SELECT lpad(to_hex(1 + n / 5), 32, '0')::tempo.trace_id, lpad(to_hex(1 + n), 16, '0')::tempo.span_id, 1700000000000000000 + n::bigint, n, 'op ' || n % 7
    FROM generate_series(first, last) n;
    INSERT INTO h SELECT n FROM generate_series(first, last) n
$$;
CREATE VIEW same AS SELECT (SELECT count(*) || ' ' || coalesce(sum(duration_nano), 0) || ' ' || coalesce(sum(duration_nano * duration_nano % 1009), 0) FROM t) AS t,
                           (SELECT count(*) || ' ' || coalesce(sum(n), 0) || ' ' || coalesce(sum(n::bigint * n % 1009), 0) FROM h) AS h;
"""


def same(node, name):
    t, h = node.sql("SELECT * FROM same").split("|")
    if tap.equal(t, h, name): return t


def killed(node, seed):
    """after each death of the server a transaction has deleted from both tables, or from neither"""
    rng = random.Random(seed)
    node.sql(SETUP)
    for round in range(4):
        for i in range(4): node.sql("SELECT add(%d, %d)" % ((round * 4 + i) * 1000, (round * 4 + i) * 1000 + 999))
        ends = []

        def deleter(n):
            session = cluster.Session(node)
            try:
                for i in range(1000):
                    k = n * 50 + i % 50
                    # one after the other, in any order, with savepoints and merges between
                    session.sql("BEGIN; DELETE FROM h WHERE n %% 200 = %d; SAVEPOINT s; DELETE FROM t WHERE duration_nano %% 3 = 1; ROLLBACK TO s; DELETE FROM t WHERE duration_nano %% 200 = %d; COMMIT" % (k, k))
                    ends.append(n)
                    if i % 5 == 4: session.sql("SELECT tempo.compact('t')")
            except (cluster.SqlError, BrokenPipeError): pass

        threads = [threading.Thread(target=deleter, args=(n,)) for n in range(2)]
        for t in threads: t.start()
        wanted = rng.randrange(3, 12)
        cluster.poll("some transactions", lambda: len(ends) >= wanted)
        node.kill9()
        for t in threads: t.join()
        node.start()
        same(node, "round %d: killed after %d transactions, both tables agree" % (round, len(ends)))
        tap.equal(node.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "round %d: nothing is damaged" % round)
    # prepared: across the server's death it holds up others, and is as it was
    node.sql("BEGIN; SELECT add(100000, 100099); DELETE FROM t WHERE duration_nano % 3 = 0; DELETE FROM h WHERE n % 3 = 0; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; PREPARE TRANSACTION 'kept'")
    node.sql("SELECT add(200000, 200099)")
    before = same(node, "what is prepared is not deleted")
    node.kill9()
    node.start()
    tap.equal(same(node, "nor after the server's death"), before, "and nothing else is")
    tap.ok("55P03" in node.psql("SET lock_timeout = '50ms'; DELETE FROM t WHERE duration_nano < 1000000").stderr, "others wait for it")
    node.sql("SELECT tempo.compact('t')")
    node.sql("COMMIT PREPARED 'kept'")
    tap.ok(same(node, "committed it is") != before, "and tells")
    node.sql("SELECT tempo.compact('t')")
    same(node, "merged, too")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "nothing is damaged")
    node.sql("DELETE FROM t; DELETE FROM h; SELECT tempo.compact('t'); VACUUM t")
    same(node, "all is deleted")
    tap.equal(node.sql("SELECT (SELECT count(*) FROM tempo.segments WHERE relation = 't'::regclass) + (SELECT count(*) FROM tempo.segment_deletions)"), "0", "no segment and no bitmap is left")


def large(node):
    """bitmaps that do not compress and do not fit a page"""
    node.sql("SELECT add(0, 299999); SELECT tempo.compact('t')")
    rows = int(node.sql("SELECT max(spans) FROM tempo.segments WHERE relation = 't'::regclass"))
    tap.ok(rows >= 290000, "a large segment", rows)
    for seed in range(2):
        node.sql("BEGIN; UPDATE h SET gone = 'x' WHERE hashint4(n + %d) %% 2 = 0; DELETE FROM t WHERE hashint4(duration_nano::int + %d) %% 2 = 0; DELETE FROM h WHERE gone = 'x'; COMMIT" % (seed, seed))
        same(node, "half of the rows are deleted, scattered")
    tap.ok(int(node.sql("SELECT max(pg_column_size(bitmap)) FROM tempo.segment_deletions")) > 8192, "the bitmaps are stored outside of their rows")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "nothing is damaged")
    node.kill9()
    node.start()
    same(node, "nor after the server's death")
    reader = cluster.Session(node)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql("SELECT t FROM same")
    node.sql("SELECT tempo.compact('t'); VACUUM t, tempo.segment_directory, tempo.segment_deletions")
    same(node, "they are merged away")
    tap.equal(node.sql("SELECT count(*) FROM tempo.segment_deletions"), "0", "with the bitmaps")
    tap.equal(reader.sql("SELECT t FROM same"), before, "an old snapshot goes on reading them")
    reader.sql("COMMIT")
    reader.close()
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "nothing is damaged")


def standby(node):
    node.sql("TRUNCATE t, h; SELECT add(0, 1999); SELECT add(2000, 3999)")
    other = cluster.Cluster("standby", init=False)
    node.run(cluster.BIN + "/pg_basebackup", "-D", other.data, "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-X", "stream", "-c", "fast")
    other.run("touch", other.data + "/standby.signal")
    other.configure(primary_conninfo="host=127.0.0.1 port=%d user=postgres" % node.port, hot_standby="on", max_standby_streaming_delay="100ms", wal_receiver_status_interval="1s", **{"tempo_pg.enabled": "off", "autovacuum": "off"})
    other.start()
    replay = lambda: cluster.poll("replay", lambda end=node.sql("SELECT pg_current_wal_lsn()"): other.try_sql("SELECT pg_last_wal_replay_lsn() >= '%s'" % end) == "t")
    reader = cluster.Session(other)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql("SELECT t FROM same")
    node.sql("BEGIN; DELETE FROM t WHERE duration_nano % 3 = 0; DELETE FROM h WHERE n % 3 = 0; COMMIT")
    held = cluster.Session(node)
    held.sql("BEGIN; DELETE FROM t WHERE duration_nano % 3 = 1")
    node.sql("SELECT pg_switch_wal()")
    replay()
    # before anybody on the primary removes a dead row of the heap, which would be a conflict
    tap.equal(reader.sql("SELECT t FROM same"), before, "an older snapshot on a standby sees what was deleted")
    now = same(node, "some are deleted")
    tap.equal(other.sql("SELECT t FROM same"), now, "a standby leaves them out, but not those of an open transaction")
    for name in ("tempo_pg.enable_custom_scan", "tempo_pg.enable_custom_aggregate"):
        tap.equal(other.sql("SET %s = off; SELECT t FROM same" % name), now, "with %s off, too" % name)
    held.sql("ROLLBACK")
    held.close()
    node.sql("SELECT tempo.compact('t')")
    replay()
    tap.equal(other.sql("SELECT t FROM same"), now, "after a merge, too")
    # their space is used again: who still needs it is cancelled and not told nonsense
    node.sql("VACUUM tempo.segment_directory, tempo.segment_deletions, t; SELECT add(5000, 8999); VACUUM t")
    replay()
    try: got = reader.sql("SELECT t FROM same")
    except cluster.SqlError as x: got = str(x)
    tap.ok(got == before or "conflict with recovery" in got, "space used again is a conflict, not a wrong answer", got)
    now = same(node, "the primary goes on")
    tap.equal(other.sql("SELECT t FROM same"), now, "and so does the standby")
    tap.equal(other.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "nothing is damaged there")
    # promoted in the middle of a transaction's deletions
    held = cluster.Session(node)
    held.sql("BEGIN; DELETE FROM t WHERE duration_nano % 2 = 0")
    node.sql("SELECT pg_switch_wal()")
    replay()
    other.run(cluster.BIN + "/pg_ctl", "-D", other.data, "-w", "promote")
    tap.equal(other.sql("SELECT t FROM same"), now, "promoted: what was not committed is not deleted")
    other.sql("BEGIN; DELETE FROM t WHERE duration_nano % 2 = 1; DELETE FROM h WHERE n % 2 = 1; COMMIT")
    same(other, "and it deletes by itself")
    other.sql("SELECT tempo.compact('t'); VACUUM t")
    same(other, "and merges")
    tap.equal(other.sql("SELECT count(*) FROM tempo.verify('t')"), "0", "nothing is damaged")
    other.stop("immediate")
    held.sql("ROLLBACK")
    held.close()


def once(node):
    """a request whose spans were deleted is known to a server that has restarted"""
    bodies = [otlp.request_bytes(otlp.request([otlp.span("%032x" % (0xabc00 + n), "%016x" % (i + 1)) for i in range(5)], "svc %d" % n)) for n in range(4)]
    cluster.poll("an OTLP answer", lambda: node.export_protobuf(b"")[0] == 200)
    tap.equal(node.export_protobuf(bodies[1])[0], 200, "a request")
    count = lambda: node.sql("SELECT count(*) FROM tempo.spans")
    tap.equal(count(), "5", "is stored")
    node.sql("DELETE FROM tempo.spans; SELECT tempo.compact(); VACUUM tempo.spans")
    node.kill9()
    node.start()
    node.wait_ready()
    tap.equal((node.export_protobuf(bodies[1])[0], count()), (200, "0"), "sent again it is acknowledged and not stored")
    tap.equal((node.export_protobuf(bodies[2])[0], count()), (200, "5"), "another is")
    node.sql("SELECT tempo.compact(); VACUUM tempo.spans")
    tap.equal(node.sql("SELECT count(*), sum(requests), sum(spans) FROM tempo.segments WHERE relation = 'tempo.spans'::regclass"), "1|2|5", "a segment with spans remembers both")
    tap.equal(node.export_protobuf(bodies[3])[0], 200, "a third request")
    node.sql("SELECT tempo.compact(); DELETE FROM tempo.spans WHERE trace_id = '%032x'; SELECT tempo.compact()" % (0xabc00 + 3))
    node.kill9()
    node.start()
    node.wait_ready()
    tap.equal(([node.export_protobuf(bodies[n])[0] for n in (1, 2, 3)], count()), ([200] * 3, "5"), "so do segments that were merged with those whose spans had gone")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


def test():
    seed = cluster.seed()
    tap.note("TEMPO_PG_SEED=%d" % seed)
    node = cluster.Cluster("deletions", wal_level="replica", max_wal_senders=4, autovacuum="off", max_wal_size="4GB", **{"tempo_pg.compaction": "off"})
    node.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", node.data + "/pg_hba.conf")
    node.start()
    node.create_extension()
    killed(node, seed)
    large(node)
    standby(node)
    once(node)


tap.main(test)
