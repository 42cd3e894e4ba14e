"""wal_level = minimal: tables that were made or emptied in a transaction are not logged but written at its end; the others are.  Killed and started again, all is there."""
import cluster, tap

SETUP = """
CREATE FUNCTION add(relation text, first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$
        INSERT INTO %s (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
        SELECT 'a', md5((i / 4)::text)::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'op', 1790000000000000000 + i, 1000, jsonb_build_object('i', i, 'noise', md5(random()::text) || md5(random()::text))
        FROM generate_series($1, $2) i $q$, relation) USING first, last;
END $$;
"""
ROWS = "SELECT count(*), sum(hashtextextended(to_jsonb(s)::text, 0)) FROM %s s"
# name, how it is made, how many spans it then has
CASES = [
    ("made", "CREATE TABLE made (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo; SELECT add('made', 1, 3000); DELETE FROM made WHERE attributes->>'i' = '5'", 2999),
    ("merged", "CREATE TABLE merged (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo; SELECT add('merged', 1, 3000); SELECT add('merged', 4001, 4100); SELECT tempo.compact('merged')", 3100),
    ("emptied", "TRUNCATE emptied; SELECT add('emptied', 1, 500); SAVEPOINT a; SELECT add('emptied', 1001, 1500); ROLLBACK TO a; SELECT add('emptied', 2001, 2010)", 510),
    ("moved", "ALTER TABLE moved SET TABLESPACE aside; SELECT add('moved', 5001, 5010)", 110),
    ("logged", "SELECT add('logged', 5001, 5010)", 110),
]


def test():
    for threshold in ("2MB", "1kB"):     # written at the commit, or logged then if small
        node = cluster.Cluster("minimal", **{"wal_level": "minimal", "max_wal_senders": 0, "archive_mode": "off", "wal_skip_threshold": threshold, "fsync": "off", "tempo_pg.enabled": "off", "autovacuum": "off"})
        node.start()
        node.sql("CREATE EXTENSION tempo_pg")
        node.sql("SET allow_in_place_tablespaces = on; CREATE TABLESPACE aside LOCATION ''")
        node.sql(SETUP)
        for t in ("emptied", "moved", "logged"): node.sql("CREATE TABLE %s (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo; SELECT add('%s', 1, 100)" % (t, t))
        node.sql("CHECKPOINT")
        want = {}
        for name, text, spans in CASES:
            node.sql("BEGIN; %s; COMMIT" % text)
            want[name] = node.sql(ROWS % name)
            tap.equal(want[name].split("|")[0], str(spans), "%s, wal_skip_threshold %s: committed" % (name, threshold))
        # what is not committed: nothing of it stays
        open_one = cluster.Session(node)
        open_one.sql("BEGIN; TRUNCATE logged; SELECT add('logged', 1, 10)")
        node.kill9()
        node.start()
        for name, text, spans in CASES:
            tap.equal(node.sql("%s; SELECT count(*) FROM tempo.verify('%s')" % (ROWS % name, name)).split("\n"), [want[name], "0"], "%s, wal_skip_threshold %s: there after a crash, and intact" % (name, threshold))
            node.sql("SELECT add('%s', 9001, 9100); SELECT tempo.compact('%s')" % (name, name))
            node.sql("VACUUM FULL %s" % name)
            tap.equal(node.sql("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM tempo.verify('%s'))" % (name, name)), "%d|0" % (spans + 100), "%s, wal_skip_threshold %s: and goes on" % (name, threshold))
        node.kill9()
        node.start()
        tap.equal([node.sql("SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM tempo.verify('%s'))" % (name, name)) for name, text, spans in CASES], ["%d|0" % (spans + 100) for name, text, spans in CASES],
                  "wal_skip_threshold %s: rewritten tables are there after a crash" % threshold)
        node.stop()


tap.main(test)
