"""A standby of a standby: it reads what some commit has left, fails as recovery conflicts do, and goes on when the standby that it follows is promoted."""
import cluster, tap

ADD = """
CREATE FUNCTION add(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
    SELECT md5(i::text)::tempo.trace_id, left(md5('x' || i), 16)::tempo.span_id, 1700000000000000000 + i::bigint, i, jsonb_build_object('a', md5(i || 'a'), 'n', i % 7)
    FROM generate_series(first, last) i
$$;"""
DIGEST = "SELECT count(*), sum(duration_nano), sum(hashtext(attributes->>'a')::bigint) FROM tempo.spans"


def same(node, other, name):
    other.wait_replayed(node)
    tap.equal(other.sql(DIGEST + "; SELECT count(*) FROM tempo.verify()").split("\n"), [node.sql(DIGEST), "0"], name)


def test():
    node = cluster.Cluster("primary", wal_level="replica", max_wal_senders=4, autovacuum="off", fsync="off", max_standby_streaming_delay="0", **{"tempo_pg.enabled": "off"})
    node.allow_replication()
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(ADD)
    for n in range(4): node.sql("SELECT add(%d, %d)" % (n * 500, n * 500 + 499))
    middle = node.standby("middle")
    leaf = middle.standby("leaf")
    tap.equal(leaf.sql("SELECT pg_is_in_recovery()") + middle.sql("SELECT count(*) FROM pg_stat_replication"), "t1", "a standby follows a standby")
    same(node, leaf, "it reads what is there")
    node.sql("SELECT add(2000, 2499); DELETE FROM tempo.spans WHERE duration_nano % 3 = 0")
    same(node, leaf, "what comes and what is deleted")
    # a snapshot that needs blocks which the primary gives away
    reader = cluster.Session(leaf)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql(DIGEST)
    node.sql("SELECT tempo.compact()")
    same(node, leaf, "what is merged")
    tap.equal(reader.sql(DIGEST), before, "an older snapshot sees the same")
    node.sql("DELETE FROM tempo.spans WHERE duration_nano % 5 = 1")
    node.sql("SELECT tempo.compact(); VACUUM tempo.spans")
    node.sql("SELECT add(2500, 5000); VACUUM tempo.spans")
    leaf.wait_replayed(node)
    try: got = reader.sql(DIGEST)
    except (cluster.SqlError, BrokenPipeError) as x: got = str(x)
    tap.ok(got == before or "conflict with recovery" in got, "or is in conflict with recovery, when its blocks are given away", got, before)
    try: reader.close()
    except Exception: pass
    same(node, leaf, "a new one sees what is there")
    before = node.sql(DIGEST)
    middle.wait_replayed(node)
    node.stop()
    middle.run(cluster.BIN + "/pg_ctl", "-D", middle.data, "-w", "promote")
    tap.equal(middle.sql(DIGEST), before, "the standby in the middle is promoted")
    middle.sql("SELECT add(6000, 6499); DELETE FROM tempo.spans WHERE duration_nano % 7 = 2; SELECT tempo.compact()")
    middle.sql("VACUUM tempo.spans; SELECT add(6500, 7000)")
    same(middle, leaf, "and its standby follows")
    tap.equal(leaf.sql("SELECT pg_is_in_recovery()"), "t", "being one still")
    middle.stop()
    leaf.run(cluster.BIN + "/pg_ctl", "-D", leaf.data, "-w", "promote")
    leaf.sql("SELECT add(7001, 7100)")
    tap.equal(leaf.sql("SELECT count(*) FROM tempo.spans WHERE duration_nano > 7000; SELECT count(*) FROM tempo.verify()").split(), ["100", "0"], "until it is promoted itself")


tap.main(test)
