"""Retention: by setting, by tenant, beside other transactions, and the space it gives back."""
import cluster, tap

ADD = """
CREATE FUNCTION add(tenant text, first_age interval, last_age interval, spans int, relation text DEFAULT 'tempo.spans') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$
        INSERT INTO %s (tenant, trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
        SELECT $1, md5($1 || n || clock_timestamp())::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               (extract(epoch FROM now() - $2 + ($2 - $3) * n / greatest($4 - 1, 1)) * 1e9)::bigint, 1000,
               jsonb_build_object('noise', md5(n::text || clock_timestamp()) || md5(clock_timestamp() || n::text))
        FROM generate_series(0, $4 - 1) n $q$, relation) USING tenant, first_age, last_age, spans;
END $$;
CREATE VIEW held AS SELECT tenant, count(*) FROM tempo.spans GROUP BY tenant;
"""
HELD = "SELECT string_agg(tenant || ' ' || count, ', ' ORDER BY tenant) FROM held"


def apply(node, relation="tempo.spans"):
    return node.sql("SELECT segments || ' ' || spans FROM tempo.apply_retention('%s')" % relation)


def limits(node):
    node.sql(ADD)
    node.sql("SELECT add('a', '3 hours', '2 hours', 100)")
    tap.equal(apply(node), "0 0", "without a limit everything is kept")
    node.sql("SELECT add('a', '2 hours', '10 minutes', 50); SELECT add('a', '10 minutes', '1 minute', 20)")
    node.sql("SELECT add('long', '3 hours', '2 hours', 7); SELECT add('short', '10 minutes', '5 minutes', 5); SELECT add('short', '30 seconds', '10 seconds', 3)")
    # one segment with two tenants
    node.sql("INSERT INTO tempo.spans (tenant, trace_id, span_id, start_time_unix_nano, duration_nano) SELECT t, lpad('abc', 32, '0')::tempo.trace_id, lpad('1', 16, '0')::tempo.span_id, (extract(epoch FROM now() - interval '3 hours') * 1e9)::bigint, 1 FROM unnest(ARRAY['a', 'long']) t")
    # in the future: as old as it was stored
    node.sql("SELECT add('a', '-1 year', '-2 years', 4)")
    node.sql("CREATE TABLE archive (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo; SELECT add('a', '3 hours', '2 hours', 11, 'archive'); SELECT add('long', '3 hours', '2 hours', 11, 'archive')")
    node.sql("SELECT tempo.set_retention('long', '0'), tempo.set_retention('short', '4 minutes')")
    tap.equal(apply(node), "1 5", "a tenant's own limit")
    node.configure(**{"tempo_pg.retention": "1h"})
    node.reload()
    cluster.poll("the setting", lambda: node.sql("SHOW tempo_pg.retention") == "1h")

    reader = cluster.Session(node)
    reader.sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
    before = reader.sql(HELD)
    deleter = cluster.Session(node)
    deleter.sql("BEGIN; DELETE FROM tempo.spans WHERE tenant = 'a' AND start_time < now() - interval '2 hours 59 minutes' AND span_id = '0000000000000001'")
    tap.equal(apply(node), "0 0", "a segment that somebody deletes from is passed by")
    deleter.sql("ROLLBACK")
    deleter.close()
    tap.equal(apply(node), "1 100", "the setting, when nobody does")
    tap.equal(node.sql(HELD), "a 75, long 8, short 3", "what straddles the limit, and other tenants' spans, stay")
    tap.equal(reader.sql(HELD), before, "an older snapshot still has everything")
    tap.equal(reader.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'a' AND length(attributes::text) > 60"), "174", "and can read it")
    reader.sql("COMMIT")
    reader.close()
    tap.equal(node.sql("SELECT count(*) FROM archive"), "22", "another table keeps its spans")
    tap.equal(apply(node, "archive"), "1 11", "until it is named")
    node.sql("SELECT tempo.set_retention('long', NULL)")
    tap.equal(node.sql("SELECT retention IS NULL FROM tempo.overrides WHERE tenant = 'long'"), "t", "back to the setting")
    node.sql("SELECT tempo.set_retention('long', '0')")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")


def merging(node):
    before = node.sql("SELECT now() - interval '61 minutes'")
    node.sql("SELECT tempo.compact()")
    oldest = node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'a' AND start_time < '%s'" % before)
    tap.equal(oldest, "0", "merging leaves out what is too old")
    tap.ok(int(node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'a'")) > 20, "and keeps the rest")
    spread = node.sql("SELECT max(s) < interval '7 minutes' FROM (SELECT max(max_start_time) - min(min_start_time) AS s FROM tempo.segments s WHERE relation = 'tempo.spans'::regclass AND max_start_time < now() AND min_start_time > now() - interval '1 hour 10 minutes' GROUP BY segment_id) x")
    tap.equal(spread, "t", "a merged segment is of a tenth of the limit")
    tap.equal(node.sql("SELECT string_agg(count::text, ' ') FROM held WHERE tenant IN ('long')"), "8", "what is kept forever is kept")


def worker(node):
    """a file that grew by what is too old shrinks again, without anybody doing anything"""
    node.sql("SELECT add('a', '5 hours', '4 hours', 40000), add('a', '5 hours', '4 hours', 40000)")
    large = int(node.sql("SELECT pg_relation_size('tempo.spans')"))
    node.configure(**{"tempo_pg.compaction": "on"})
    node.reload()
    cluster.poll("the old spans' end", lambda: node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'a' AND start_time < now() - interval '90 minutes'") == "0")
    tap.ok(True, "the worker applies the limits")
    cluster.poll("a smaller file", lambda: int(node.sql("SELECT pg_relation_size('tempo.spans')")) < large / 2)
    tap.ok(True, "the file gives the space back")
    # the same again and again: a ring
    for n in range(3):
        node.sql("SELECT add('a', '5 hours', '4 hours', 20000)")
        cluster.poll("the old spans' end", lambda: node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'a' AND start_time < now() - interval '90 minutes'") == "0")
    tap.ok(int(node.sql("SELECT pg_relation_size('tempo.spans')")) < large, "and does not grow by what comes and goes")
    tap.equal(node.sql("SELECT count(*) FROM archive WHERE tenant = 'long'"), "11", "the worker leaves other tables alone")
    cluster.poll("numbers", lambda: node.sql("SELECT sum(expired_spans) + sum(spans_in) - sum(spans_out) >= 80000 FROM tempo.stat_compaction WHERE relation = 'tempo.spans'::regclass") == "t")
    tap.ok(True, "the view has counted")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    node.kill9()
    node.start()
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nor after a crash")


def test():
    node = cluster.Cluster("retention", **{"tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    limits(node)
    merging(node)
    worker(node)


tap.main(test)
