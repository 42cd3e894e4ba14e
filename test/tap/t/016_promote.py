"""A standby that is promoted with a shorter file than the primary's gives no block away twice."""
import threading
import cluster, tap

ADD = """
CREATE FUNCTION add(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
    SELECT md5(i::text)::tempo.trace_id, left(md5('x' || i), 16)::tempo.span_id, 1000000000::bigint * i, 5,
           jsonb_build_object('a', md5(random()::text), 'b', md5(random()::text), 'c', md5(random()::text))
    FROM generate_series(first, last) i
$$;"""


def test():
    settings = {"wal_level": "replica", "max_wal_senders": 4, "hot_standby": "on", "tempo_pg.enabled": "off", "autovacuum": "off"}
    node = cluster.Cluster("primary", **settings)
    node.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", node.data + "/pg_hba.conf")
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(ADD)
    node.sql("SELECT add(1, 1000)")
    # a second index, so that an INSERT can be held up between taking its blocks and writing them
    node.sql("CREATE INDEX extra ON tempo.segment_directory (segment_id)")
    standby = cluster.Cluster("standby", init=False)
    node.run(cluster.BIN + "/pg_basebackup", "-D", standby.data, "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-X", "stream", "-c", "fast")
    standby.run("touch", standby.data + "/standby.signal")
    standby.configure(primary_conninfo="host=127.0.0.1 port=%d user=postgres" % node.port, hot_standby="on", **{"tempo_pg.enabled": "off", "autovacuum": "off"})
    standby.start()

    holder = threading.Thread(target=lambda: node.try_sql("BEGIN; ALTER INDEX tempo.extra SET TABLESPACE pg_default; SELECT pg_sleep(300)"))
    holder.start()
    cluster.poll("the lock on the index", lambda: node.sql("SELECT count(*) FROM pg_locks WHERE relation = 'tempo.extra'::regclass AND mode = 'AccessExclusiveLock' AND granted") == "1")
    writer = threading.Thread(target=lambda: node.try_sql("SELECT add(1001, 21000)"))
    writer.start()
    cluster.poll("the held up INSERT", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%1001%' AND pid <> pg_backend_pid()") == "1")
    node.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%1001%' AND pid <> pg_backend_pid()")
    writer.join()
    node.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()")
    holder.join()
    node.sql("VACUUM (TRUNCATE false) tempo.spans")
    end = node.sql("SELECT pg_current_wal_lsn()")
    cluster.poll("replay", lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= '%s'" % end) == "t")
    size = "SELECT pg_relation_size('tempo.spans')"
    tap.ok(int(standby.sql(size)) < int(node.sql(size)), "the standby's file is shorter")

    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "which is no damage")
    node.stop()
    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "nor when it is promoted")
    for first, last in (100001, 107000), (200001, 220000), (300001, 303000):
        standby.sql("SELECT add(%d, %d)" % (first, last))
    tap.equal(standby.try_sql("SELECT count(*) FROM tempo.spans WHERE attributes->>'a' <> ''"), standby.try_sql("SELECT 31000"), "every span is there")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "and intact")


tap.main(test)
