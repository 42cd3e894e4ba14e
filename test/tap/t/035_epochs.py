"""Transaction ids that come to their end: tables are frozen, read and written over two wraparounds; prepared transactions outlive restarts meanwhile."""
import os, re
import cluster, tap

ROWS = "SELECT count(*), sum(hashtextextended(to_jsonb(s)::text, 0)) FROM tempo.spans s"
SETUP = """
CREATE FUNCTION add(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
    SELECT 'a', md5((i / 4)::text)::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'op ' || i % 10, 1790000000000000000 + i, 1000, jsonb_build_object('i', i, 'noise', md5(i::text))
    FROM generate_series(first, last) i
$$;
"""


def advance(node, xid, epoch):
    """the stopped server's next transaction id"""
    node.run(cluster.BIN + "/pg_resetwal", "-D", node.data, "-x", str(xid), "-e", str(epoch))
    # the file of the commit log that the id is in: 32,768 pages of 32,768 ids in 32 pages a file
    name = "%04X" % (xid // (32 * 32768))
    node.run("sh", "-c", '[ -e "$1" ] || head -c 262144 /dev/zero > "$1"', "sh", os.path.join(node.data, "pg_xact", name))


def test():
    node = cluster.Cluster("epochs", **{"tempo_pg.enabled": "off", "fsync": "off", "vacuum_freeze_min_age": "0", "vacuum_freeze_table_age": "0", "autovacuum_freeze_max_age": "100000"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP + "SELECT add(1, 500); SELECT tempo.compact(); SELECT add(501, 600); DELETE FROM tempo.spans WHERE name = 'op 3'")
    spans = 540
    first = 1000
    for n, (xid, epoch) in enumerate(((1 << 30, 0), ((1 << 31) - 100, 0), (3 << 30, 0), ((1 << 32) - 50, 0), (1 << 30, 1), ((1 << 31) - 100, 1))):
        # what a transaction of before the jump has done is decided behind it
        node.sql("BEGIN; SELECT add(%d, %d); PREPARE TRANSACTION 'kept %d'" % (first, first + 9, n))
        node.sql("BEGIN; SELECT add(%d, %d); PREPARE TRANSACTION 'dropped %d'" % (first + 10, first + 19, n))
        node.sql("BEGIN; DELETE FROM tempo.spans WHERE name = 'op 4'; PREPARE TRANSACTION 'undone %d'" % n)
        before = node.sql(ROWS)
        node.kill9()
        node.start()
        tap.equal(node.sql(ROWS), before, "%d: prepared transactions are not seen behind a crash" % n)
        node.sql("COMMIT PREPARED 'kept %d'; ROLLBACK PREPARED 'dropped %d'; ROLLBACK PREPARED 'undone %d'" % (n, n, n))
        spans += 10
        first += 1000
        node.sql("SELECT add(%d, %d); DELETE FROM tempo.spans WHERE attributes->>'i' = '%d'" % (first, first + 4, first))
        spans += 4
        first += 1000
        if n % 2: node.sql("SELECT tempo.compact()")
        node.run(cluster.BIN + "/vacuumdb", "-a", "-F", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres")
        before = node.sql(ROWS)
        tap.equal(before.split("|")[0], str(spans), "%d: what was committed is there" % n)
        age = node.sql("SELECT max(age(relfrozenxid)) < 100 FROM pg_class WHERE relname IN ('segment_directory', 'segment_deletions', 'spans')")
        tap.equal(age, "t", "%d: VACUUM FREEZE has frozen the tables" % n)
        node.stop()
        advance(node, xid, epoch)
        node.start()
        tap.ok(int(node.sql("SELECT pg_current_xact_id()")) >= (epoch << 32) + xid, "%d: the next transaction is %d of epoch %d" % (n, xid, epoch))
        tap.equal(node.sql("%s; SELECT count(*) FROM tempo.verify()" % ROWS).split("\n"), [before, "0"], "%d: the rows are the same, and intact" % n)
    # over the end of an epoch in one go, and a rewrite there
    node.sql("VACUUM FULL tempo.spans")
    tap.equal(node.sql(ROWS), before, "a rewritten table is read")
    # autovacuum does by itself what keeps a server from coming to its end
    node.sql("SELECT add(%d, %d)" % (first, first + 4))
    node.run(cluster.BIN + "/vacuumdb", "-a", "-F", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres")
    node.configure(autovacuum_naptime="1s")
    node.stop()
    current = (1 << 31) + 2 * 10**6
    advance(node, current, 1)
    node.start()
    cluster.poll("autovacuum against wraparound", lambda: node.sql("SELECT max(age(relfrozenxid)) < 1000000 FROM pg_class WHERE relkind = 'r' AND relname IN ('segment_directory', 'segment_deletions', 'spans')") == "t")
    tap.ok(True, "autovacuum freezes span tables and their directory")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans"), str(spans + 5), "and all spans are there")
    node.sql("SELECT tempo.compact()")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "and intact")
    # the directory's indexes, by somebody else's check
    node.sql("CREATE EXTENSION amcheck")
    r = node.run(cluster.BIN + "/pg_amcheck", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "--heapallindexed", "-s", "tempo", "postgres", check=False)
    tap.equal((r.returncode, r.stdout.strip()), (0, ""), "pg_amcheck --heapallindexed finds nothing in the directory")
    bad = [l for l in node.log_text().splitlines() if re.search(r"PANIC:|XX00|could not access status|signal 11", l)]
    tap.equal(bad[:5], [], "nor does the log tell of damage")


tap.main(test)
