"""pg_dump and restore into a new database: equal spans, equal trace JSON."""
import os, re
import cluster, otlp, tap

SECURITY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "doc", "security.md")

ROWS = "SELECT to_jsonb(s)::text FROM tempo.spans s ORDER BY trace_id, span_id, start_time_unix_nano, to_jsonb(s)::text"


def test():
    node = cluster.Cluster("dump", **{"tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    trace = "c0ffee" * 5 + "01"
    status, headers, answer = node.export_json(otlp.rich_request(trace))
    tap.equal(status, 200, "a trace with every kind of field is accepted")
    for n in range(20):
        node.export_protobuf(otlp.request_bytes(otlp.request([otlp.span("%032x" % (n + 1), "%016x" % (i + 1)) for i in range(10)], "svc-%d" % (n % 3))))
    node.sql("SELECT tempo.set_retention('single-tenant', '40000 days')")
    # what is deleted, from merged segments and others, is not dumped
    node.sql("SELECT tempo.compact()")
    for n in range(20, 22):
        node.export_protobuf(otlp.request_bytes(otlp.request([otlp.span("%032x" % (n + 1), "%016x" % (i + 1)) for i in range(10)])))
    node.sql("DELETE FROM tempo.spans WHERE span_id = '%016x' OR trace_id = '%032x'" % (10, 22))
    before = node.sql(ROWS)
    tap.equal(len(before.splitlines()), 204 - 20 + 9, "spans before the dump")
    json_before = node.sql("SELECT tempo.trace_json('%s')" % trace)
    tap.ok("a.wrapper" in json_before and "a.nan" in json_before, "the JSON of the trace has its attributes")

    for form, options in (("plain", []), ("custom", ["-Fc"]), ("inserts", ["--inserts"])):
        file = node.folder + "/dump." + form
        node.run(cluster.BIN + "/pg_dump", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-f", file, *options, "postgres")
        node.sql("CREATE DATABASE copy_%s TEMPLATE template0" % form)
        if form == "custom":
            r = node.run(cluster.BIN + "/pg_restore", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-e", "-d", "copy_custom", file, check=False)
        else:
            r = node.run(cluster.BIN + "/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "-d", "copy_" + form, "-f", file, check=False)
        tap.equal(r.returncode, 0, "%s: restored without an error" % form) or tap.note(r.stdout[-2000:])
        after = node.sql(ROWS, "copy_" + form)
        tap.ok(after == before, "%s: equal spans" % form, *[(a, b) for a, b in zip(before.splitlines(), after.splitlines()) if a != b][:2])
        tap.equal(node.sql("SELECT tenant, retention FROM tempo.overrides", "copy_" + form), "single-tenant|40000 days", "%s: settings of tenants" % form)
        json_after = node.sql("SELECT tempo.trace_json('%s')" % trace, "copy_" + form)
        tap.equal(node.sql("SELECT count(*) FROM tempo.verify()", "copy_" + form), "0", "%s: intact" % form)
        tap.equal(json_after, json_before, "%s: equal trace JSON, to the letter" % form)
    # row policies are not in a dump: what the documents have for that
    node.sql("CREATE ROLE \"a reader\"; ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY")
    node.sql("CREATE POLICY mine ON tempo.spans USING (tenant = current_user); CREATE POLICY \"no 'x'\" ON tempo.spans AS RESTRICTIVE FOR INSERT TO \"a reader\", tempo_writer WITH CHECK (name <> 'x')")
    writes = re.search(r"```sql\n(SELECT format\('ALTER TABLE.*?)```", open(SECURITY).read(), re.S)[1]
    node.sql(node.sql(writes), "copy_plain")
    policies = "SELECT p, relrowsecurity FROM pg_policies p JOIN pg_class ON oid = 'tempo.spans'::regclass ORDER BY policyname"
    tap.equal(node.sql(policies, "copy_plain"), node.sql(policies), "doc/security.md: policies can be made again")
    tap.equal(node.sql("SELECT count(*) FROM pg_policies"), "2", "and there were some")
    tap.ok("segment_directory" not in open(node.folder + "/dump.plain").read(), "the segment directory is not in the dump")


tap.main(test)
