"""Imports as doc/migration.md tells: files of the Collector, answers of Tempo, Jaeger and Zipkin."""
import json, os, subprocess
import cluster, jaeger, otlp, tap

node = cluster.Cluster("import")
counter = 0


def trace():
    global counter
    counter += 1
    return "%032x" % (0xB << 124 | counter)


def count(where="true"): return int(node.sql("SELECT count(*) FROM tempo.spans WHERE " + where))


def server_file(name, data):
    path = os.path.join(node.folder, name)
    subprocess.run(cluster.as_server(["sh", "-c", 'cat > "$1"', "sh", path]), input=data, check=True, cwd="/")
    return path


def lines():
    text = "".join(json.dumps(otlp.request([otlp.span(trace(), "%016x" % (i + 1)) for i in range(3)])) + "\n" + ('{"resourceMetrics": []}\n\n' if n == 5 else "") for n in range(40))
    path = server_file("traces.json", text.encode())
    tap.equal(node.sql("SELECT tempo.import_otlp_json_file('%s')" % path), "120", "a file of the server")
    tap.equal(count(), 120, "is stored")
    tap.equal(node.sql("SELECT tempo.import_otlp_json_file('%s')" % path), "0", "once")
    tap.equal(node.sql("SELECT tempo.import_otlp_json_file('%s', 'other')" % path), "120", "and for another tenant")
    bad = server_file("bad.json", (text.replace("b0000", "b1111") + '{"resourceSpans": [\n').encode())
    got = node.psql("SELECT tempo.import_otlp_json_file('%s')" % bad).stderr
    tap.ok("line 43 of the OTLP JSON lines" in got, "a malformed line is told", got)
    tap.equal(count(), 240, "and nothing of its file is stored")
    tap.ok("42501" in node.psql("CREATE ROLE importer LOGIN; GRANT tempo_writer TO importer; SET ROLE importer; SELECT tempo.import_otlp_json_file('%s')" % path).stderr, "files of the server are not for everybody")
    copy = text.replace("b0000", "b2222")
    local = os.path.join(node.folder, "local.json")
    path = server_file("local.json", copy.encode())
    sql = """SET ROLE importer; CREATE TEMP TABLE lines (n bigint GENERATED ALWAYS AS IDENTITY, line text);
\\copy lines (line) FROM '%s' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
SELECT sum(tempo.import_otlp_json_lines(lines)) FROM (SELECT string_agg(line, E'\\n' ORDER BY n) AS lines FROM lines GROUP BY n / 10) chunks;""" % path
    tap.equal(node.sql(sql), "120", "from a client, in chunks")
    large = "\n".join(json.dumps(otlp.request([otlp.span(trace(), "%016x" % 1, attributes=[otlp.attribute("k", "x" * 500000)])])) for _ in range(40))
    path = server_file("large.json", large.encode())
    tap.equal(node.sql("SELECT tempo.import_otlp_json_file('%s')" % path), "40", "20 MB, in groups")
    tap.equal(node.sql("SELECT tempo.import_otlp_json_file('%s')" % path), "0", "once")


def answers():
    t = trace()
    node.sql("SELECT tempo.ingest_otlp_json('%s', 'from')" % json.dumps(otlp.rich_request(t)))
    node.configure(**{"tempo_pg.multitenancy": "on"})
    node.reload()
    answer = cluster.poll("the trace", lambda: (lambda r: r[2] if r[0] == 200 else None)(node.http("GET", node.http_port, "/api/traces/" + t, headers={"Accept": "application/protobuf", "X-Scope-OrgID": "from"})))
    spans = count("trace_id = '%s'" % t)
    tap.equal(node.sql("SELECT tempo.ingest_otlp('\\x%s', 'to')" % answer.hex()), str(spans), "a trace as Tempo's API answers it, in protobuf")
    differences = "SELECT to_jsonb(s) - 'tenant' FROM tempo.spans s WHERE trace_id = '%s' AND tenant = '%s'"
    tap.equal(node.sql("(%s EXCEPT %s) UNION ALL (%s EXCEPT %s)" % ((differences % (t, "from"), differences % (t, "to")) + (differences % (t, "to"), differences % (t, "from")))), "", "is stored as it was")
    t = trace()
    batch = {"service": "s", "spans": [{"trace": bytes.fromhex(t), "id": 1}, {"trace": bytes.fromhex(t), "id": 2, "parent": 1, "refs": [(1, b"\7" * 16, 3)]}]}
    tap.equal(node.sql("\\set traces `echo '%s'`\nSELECT tempo.ingest_jaeger_json(:'traces', 'jaeger')" % json.dumps(jaeger.query_json(batch))), "2", "traces as Jaeger's API answers them")
    tap.equal(node.sql("SELECT tempo.ingest_jaeger_json('%s'::jsonb->'data'->0, 'one')" % json.dumps(jaeger.query_json(batch))), "2", "a single one")
    zipkin = [[{"traceId": trace(), "id": "1"}], [{"traceId": trace(), "id": "1"}, {"traceId": trace(), "id": "2"}]]
    tap.equal(node.sql("SELECT sum(tempo.ingest(convert_to(trace::text, 'UTF8'), 'zipkin_json')) FROM jsonb_array_elements('%s') trace" % json.dumps(zipkin)), "3", "traces as Zipkin's API answers them")
    for name, body in (("jaeger_proto", jaeger.proto(batch)), ("jaeger_thrift", jaeger.thrift(batch)), ("jaeger_compact", jaeger.datagram(batch, True)), ("jaeger_binary", jaeger.datagram(batch, False))):
        tap.equal(node.sql("SELECT tempo.ingest('\\x%s', '%s', '%s')" % (body.hex(), name, name.replace("_", "-"))), "2", "tempo.ingest: " + name)
    tap.ok("22023" in node.psql("SELECT tempo.ingest('', 'x')").stderr, "an unknown format")
    tap.ok("22" in node.psql("SELECT tempo.ingest_jaeger_json('[]')").stderr, "no answer of Jaeger")


def test():
    node.start()
    node.create_extension()
    lines()
    answers()


tap.main(test)
