"""Logical replication of everything: a FOR ALL TABLES publication under load, merging, retention and DELETE.

Changes of spans are not decoded, as the documents say; nothing of the storage's own tables may reach the subscriber either, and both ends stay intact.
"""
import threading
import cluster, otlp, tap


def test():
    settings = {"wal_level": "logical", "max_wal_senders": 6, "max_replication_slots": 6, "fsync": "off"}
    node = cluster.Cluster("publisher", autovacuum_naptime="1s", **settings)
    node.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", node.data + "/pg_hba.conf")
    other = cluster.Cluster("subscriber", **settings)
    for n in (node, other):
        n.start()
        n.create_extension()
        n.sql("CREATE TABLE notes (id int PRIMARY KEY, text text); CREATE TABLE part (LIKE tempo.spans INCLUDING DEFAULTS) PARTITION BY RANGE (start_time_unix_nano); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000000) USING tempo")
    # the subscriber has spans of its own, in segments with the same numbers
    other.sql("INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name) SELECT md5(n::text)::tempo.trace_id, lpad(to_hex(n), 16, '0')::tempo.span_id, (extract(epoch FROM now()) * 1e9)::bigint, n, 'own' FROM generate_series(1, 500) n; DELETE FROM tempo.spans WHERE duration_nano % 5 = 0")
    node.sql("CREATE PUBLICATION everything FOR ALL TABLES; INSERT INTO notes VALUES (0, 'before')")
    other.sql("CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=%d user=postgres dbname=postgres' PUBLICATION everything WITH (copy_data = true)" % node.port)
    cluster.poll("the first copy", lambda: other.sql("SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == "0")
    tap.equal(other.sql("SELECT count(*) FROM notes"), "1", "a heap's rows are copied")
    tap.equal(other.sql("SELECT count(*) FROM tempo.spans"), "400", "the subscriber's own spans are there")
    tap.equal(node.sql("SELECT count(*) FROM pg_publication_tables WHERE tablename IN ('segment_directory', 'segment_deletions')"), "2", "the storage's tables are in a publication of all tables")

    tap.ok("55000" in node.psql("DELETE FROM part WHERE duration_nano = 1").stderr, "PostgreSQL refuses to delete from a published table without an identity")
    node.sql("ALTER TABLE part REPLICA IDENTITY FULL; ALTER TABLE part_1 REPLICA IDENTITY FULL")
    sent, stop = [], threading.Event()

    def load():
        n = 0
        while not stop.is_set():
            n += 1
            status = node.export_json(otlp.request([otlp.span("%032x" % (n * 100 + i), "%016x" % (i + 1)) for i in range(40)], "svc"))[0]
            if status == 200: sent.append(40)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    problems = []
    for i in range(12):
        node.sql("INSERT INTO notes VALUES (%d, 'note')" % (i + 1))
        r = node.psql("BEGIN; DELETE FROM tempo.spans WHERE duration_nano % 2 = 0; INSERT INTO tempo.spans (tenant, trace_id, span_id, start_time_unix_nano, duration_nano) SELECT 'old', md5('o' || n)::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id, 1000, 1 FROM generate_series(1, 50) n; ROLLBACK")
        if r.returncode and "40001" not in r.stderr: problems.append(r.stderr)
        r = node.psql("INSERT INTO tempo.spans (tenant, trace_id, span_id, start_time_unix_nano, duration_nano) SELECT 'old', md5('o' || n)::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id, 1000, 1 FROM generate_series(1, 50) n; INSERT INTO part SELECT * FROM tempo.spans WHERE tenant = 'old'; SELECT tempo.compact(), tempo.compact('part_1'); DELETE FROM part WHERE duration_nano = 1; SELECT tempo.set_retention('old', '1 hour'); SELECT tempo.apply_retention(); VACUUM tempo.spans, part_1, tempo.segment_directory, tempo.segment_deletions")
        # a merge may come first, which 40001 says
        if r.returncode and "40001" not in r.stderr: problems.append(r.stderr)
    before = len(sent)
    cluster.poll("requests to the end", lambda: len(sent) > before + 3)
    stop.set()
    thread.join()
    tap.equal(problems, [], "load, merging, retention and deleting beside the publication")
    node.sql("INSERT INTO notes VALUES (1000, 'last')")
    cluster.poll("the last note", lambda: other.sql("SELECT count(*) FROM notes") == "14")
    tap.ok(True, "changes of heaps arrive behind all of it")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans WHERE tenant <> 'old'"), str(sum(sent)), "the publisher has what it acknowledged")
    tap.equal(other.sql("SELECT count(*), count(*) FILTER (WHERE name = 'own') FROM tempo.spans"), "400|400", "the subscriber has its own spans and no other")
    tap.equal(other.sql("SELECT count(*) FROM tempo.segment_directory d WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'tempo' AND tempo.storage_id(c.oid) = d.storage_id)"), "0", "no foreign row is in its directory")
    for n in (node, other): tap.equal(n.sql("SELECT count(*) FROM tempo.verify()"), "0", "%s: nothing is damaged" % n.name)
    # what decoding sees
    if node.try_sql("SELECT 1 FROM pg_create_logical_replication_slot('look', 'test_decoding')"):
        node.sql("INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES (md5('x')::tempo.trace_id, '0000000000000001', 5, 5)")
        node.delete("DELETE FROM tempo.spans WHERE start_time_unix_nano = 5")
        node.sql("SELECT tempo.compact(); INSERT INTO notes VALUES (2000, 'look')")
        seen = node.sql("SELECT data FROM pg_logical_slot_get_changes('look', NULL, NULL) WHERE data NOT LIKE 'BEGIN%' AND data NOT LIKE 'COMMIT%'")
        tap.ok("public.notes" in seen and not [l for l in seen.splitlines() if "segment_" in l and "(no-tuple-data)" not in l], "decoding sees notes and no content of the storage's tables", seen[:1500])
        node.sql("SELECT pg_drop_replication_slot('look')")
    errors = [l for l in other.log_text().splitlines() if "ERROR" in l and "canceling autovacuum task" not in l]
    tap.equal(errors, [], "the subscriber's log has no error")
    other.sql("ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s")


tap.main(test)
