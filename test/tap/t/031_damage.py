"""Damage at rest, with page checksums off: whatever bytes change in a file, each query gives the right answer or SQLSTATE XX001, through every way of reading, and the server lives.
With them on: pages that a crash has torn come back from the WAL."""
import json, os, random
import cluster, tap

TABLES = 12
ROUNDS = 150 if cluster.LONG else 5
SEED = cluster.seed("TEMPO_PG_TEST_SEED")
BLOCK = 8192
SETUP = """
CREATE TABLE model AS
    SELECT i AS n, md5((i / 5)::text)::tempo.trace_id AS trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id AS span_id,
           CASE WHEN i % 5 > 0 THEN lpad(to_hex(i - i % 5), 16, '0')::tempo.span_id END AS parent_span_id, 'op ' || i % 17 AS name, (ARRAY['server', 'client', 'internal'])[1 + i % 3] AS kind,
           (ARRAY['ok', 'error', 'unset'])[1 + i % 3] AS status, 1790000000000000000 + i * 1000000::bigint AS start_time_unix_nano, (1 + i % 1000)::bigint * 1000 AS duration_nano,
           jsonb_build_object('i', i, 'code', i % 7, 'noise', md5(i::text), 'ratio', i / 7.0, 'flag', i % 2 = 0, 'list', jsonb_build_array(i, 'x')) || CASE WHEN i % 400 = 0 THEN '{"rare": 1}'::jsonb ELSE '{}' END AS attributes,
           jsonb_build_object('service.name', 'svc ' || i % 5, 'host', md5((i % 30)::text)) AS resource_attributes
    FROM generate_series(1, 2400) i;
CREATE FUNCTION fill(relation text, part int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$
        INSERT INTO %s (tenant, trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
        SELECT 'single-tenant', trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes FROM model WHERE n %% 3 = $1 $q$, relation) USING part;
END $$;
-- the answer as JSON, or {"error": SQLSTATE, "text": message and detail}; what it changes is undone
CREATE FUNCTION probe(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; message text; detail text;
BEGIN
    EXECUTE 'SELECT json_agg(row_to_json(x))::text FROM (' || query || ') x' INTO answer;
    RAISE SQLSTATE 'UNDO0';
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN answer;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        RETURN json_build_object('error', SQLSTATE, 'text', message || ': ' || detail);
END $$;
-- the rows behind a merge
CREATE FUNCTION merged(relation regclass) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tempo.compact(relation);
    RETURN QUERY EXECUTE format('SELECT count(*), sum(hashtextextended(to_jsonb(s)::text, 0)) FROM %s s', relation);
END $$;
"""
QUERIES = {
    "rows": "SELECT count(*), sum(hashtextextended(to_jsonb(s)::text, 0)) FROM %s s",
    "custom scan": "SELECT span_id, attributes->>'noise' AS noise FROM %s WHERE attributes->>'code' = '3' AND duration_nano > 500000 ORDER BY 1",
    "rare attribute": "SELECT count(*), min(span_id::text), max(attributes->>'i') FROM %s WHERE attributes->>'rare' = '1'",
    "aggregate": "SELECT name, resource_attributes->>'service.name' AS service, count(*), sum(duration_nano), max(duration_nano) FROM %s GROUP BY 1, 2 ORDER BY 1, 2",
    "groups of an attribute": "SELECT attributes->>'code' AS code, count(*) FROM %s GROUP BY 1 ORDER BY 1",
    "count": "SELECT count(*) FROM %s",
    "newest traces": "SELECT trace_id FROM %s GROUP BY trace_id HAVING bool_or(attributes->>'code' = '3' AND name = 'op 3') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 20",
    "one trace": "SELECT span_id, name, parent_span_id FROM %s WHERE trace_id = md5('77')::tempo.trace_id ORDER BY 1",
    "without the nodes": "SELECT name, count(*), sum(duration_nano) FROM %s WHERE kind = 'client' GROUP BY 1 ORDER BY 1",
    "merging": "SELECT * FROM merged('%s') AS m(c bigint, h numeric)",
}
# of tempo.spans
MORE = {
    "TraceQL": 'SELECT trace_id, root_service_name FROM traceql($${ span.code = 3 && name = `op 3` }$$, "limit" => 1000) ORDER BY 1',
    "TraceQL metrics": "SELECT * FROM traceql_metrics('{ } | rate() by (span.code)', to_timestamp(1790000000), to_timestamp(1790000010), '1 second') ORDER BY 1, 2",
    "tag names": "SELECT status, convert_from(body, 'UTF8') AS body FROM tempo.api('GET', '/api/v2/search/tags')",
    "tag values": "SELECT status, convert_from(body, 'UTF8') AS body FROM tempo.api('GET', '/api/v2/search/tag/span.code/values')",
    "a trace": "SELECT tempo.trace_json(md5('77')::tempo.trace_id)::text AS trace",
}


def ask(node, table):
    """{query: answer}; None if the connection breaks"""
    queries = dict(QUERIES, **(MORE if table == "tempo.spans" else {}))
    script = "".join("SET tempo_pg.enable_custom_scan = %s; SET tempo_pg.enable_custom_aggregate = %s;\nSELECT json_build_array($n$%s$n$, probe($q$%s$q$));\n" % (*["off" if "without" in name else "on"] * 2, name, text.replace("%s", table)) for name, text in queries.items())
    script += "SELECT json_build_array('verify', probe($q$SELECT count(*) FROM tempo.verify('%s')$q$));\n" % table
    r = node.psql(script)
    if r.returncode: return None, r.stderr
    return dict(json.loads(line) for line in r.stdout.splitlines()), ""


def damage(rng, content, blocks):
    """changes something in the content of a file; says what"""
    block = rng.choice(blocks)
    at = block * BLOCK
    kind = rng.randrange(9)
    if kind <= 2:
        where = at + rng.randrange(BLOCK)
        content[where] ^= 1 << rng.randrange(8)
        return "a bit of byte %d of block %d" % (where - at, block)
    if kind == 3:
        where = at + (rng.randrange(24) if rng.randrange(2) else BLOCK - 1 - rng.randrange(8))
        content[where] = (content[where] + 1 + rng.randrange(255)) % 256
        return "byte %d of block %d" % (where - at, block)
    if kind == 4:
        length = rng.randrange(2, 600)
        where = at + rng.randrange(BLOCK - length)
        content[where:where + length] = rng.randbytes(length)
        return "%d bytes from %d on of block %d" % (length, where - at, block)
    if kind == 5:
        content[at + BLOCK // 2:at + BLOCK] = bytes(BLOCK // 2)
        return "the second half of block %d, lost" % block
    if kind == 6:
        content[at:at + BLOCK] = bytes(BLOCK)
        return "block %d, lost" % block
    if kind == 7:
        other = rng.choice(blocks)
        content[at:at + BLOCK], content[other * BLOCK:other * BLOCK + BLOCK] = content[other * BLOCK:other * BLOCK + BLOCK], content[at:at + BLOCK]
        return "blocks %d and %d, swapped" % (block, other)
    del content[max(at, BLOCK):]
    return "the file from block %d on" % max(block, 1)


def is_right(answer, want):
    if answer == want: return True
    if answer is None: return False
    got = json.loads(answer)
    if isinstance(got, list): return len(got) == 1 and got[0].get("status") == 500      # the API's answer
    return got["error"] == "XX001" and ("relation" in got["text"] or "block" in got["text"])


def at_rest():
    rng = random.Random(SEED)
    tap.note("TEMPO_PG_TEST_SEED=%d" % SEED)
    node = cluster.Cluster("damage", **{"tempo_pg.enabled": "off", "autovacuum": "off", "fsync": "off", "shared_buffers": "32MB", "jit": "off"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP)
    tables = ["tempo.spans"] + ["t%d" % n for n in range(1, TABLES)]
    for n, table in enumerate(tables):
        if n: node.sql("CREATE TABLE %s (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo" % table)
        node.sql("SELECT fill('%s', 0)" % table)
        node.sql("SELECT fill('%s', 1)" % table)
        # merged in part
        if n % 2 == 0: node.sql("SELECT tempo.compact('%s')" % table)
        node.sql("SELECT fill('%s', 2)" % table)
    node.sql("VACUUM")
    want = {}
    for table in tables:
        want[table], failure = ask(node, table)
        tap.ok(want[table] and not any(a and "error" in a[:12] for a in want[table].values()), "%s: answers before" % table, failure, [a for a in (want[table] or {}).items() if '"error"' in str(a)])
    files = {t: os.path.join(node.data, node.sql("SELECT pg_relation_filepath('%s')" % t)) for t in tables}
    # blocks that say something: the metapage, and those of segments
    blocks = {t: [0] + [int(b) for b in node.sql("SELECT b FROM tempo.segments, generate_series(first_block, first_block + blocks - 1) b WHERE relation = '%s'::regclass" % t).split()] for t in tables}
    node.stop()
    contents = {}
    for t in tables:
        with open(files[t], "rb") as f: contents[t] = f.read()
    wrong, unnoticed, failures, errors, asked = [], [], [], 0, 0
    for n in range(ROUNDS):
        done = {}
        for t in tables:
            content = bytearray(contents[t])
            done[t] = damage(rng, content, blocks[t])
            with open(files[t], "r+b") as f:
                f.truncate(0)
                f.write(content)
        node.start()
        for t in tables:
            got, failure = ask(node, t)
            if got is None:
                failures.append((t, done[t], failure))
                cluster.poll("the server's recovery", lambda: node.try_sql("SELECT 1"))
                continue
            bad = [(t, done[t], q, got[q], want[t][q]) for q in got if q != "verify" and not is_right(got[q], want[t][q])]
            wrong += bad
            noticed = [q for q in got if q != "verify" and got[q] != want[t][q]]
            asked += len(got)
            errors += len(noticed)
            if noticed and got["verify"] == want[t]["verify"]: unnoticed.append((t, done[t], noticed))
        node.stop()
    tap.equal(failures[:3], [], "the server lives, whatever was damaged")
    tap.equal(len(wrong), 0, "%d answers: the right one, or XX001 that names the place" % asked) or tap.note("\n".join(str(w)[:600] for w in wrong[:8]))
    tap.equal(unnoticed[:3], [], "tempo.verify() finds what queries find")
    tap.note("%d of %d answers were errors" % (errors, asked))
    tap.ok(errors > 0, "some damage was met")


def torn():
    """what a crash leaves half written is in the WAL since the checkpoint before"""
    node = cluster.Cluster("torn", initdb=["--data-checksums"], **{"tempo_pg.enabled": "off", "autovacuum": "off", "fsync": "off", "checkpoint_timeout": "1h", "full_page_writes": "on"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP)
    node.sql("SELECT fill('tempo.spans', 0)")
    node.sql("SELECT tempo.compact()")
    node.sql("SELECT fill('tempo.spans', 1); SELECT fill('tempo.spans', 1)")
    for n in range(3):
        node.sql("CHECKPOINT")
        before = int(node.sql("SELECT max(segment_id) FROM tempo.segments"))
        node.sql("SELECT fill('tempo.spans', 2); DELETE FROM tempo.spans WHERE name = 'op %d'; SELECT fill('tempo.spans', 0)" % n)
        if n: node.sql("SELECT tempo.compact()")
        if n > 1: node.sql("VACUUM tempo.spans; SELECT fill('tempo.spans', 1)")
        rows = node.sql(QUERIES["rows"] % "tempo.spans")
        blocks = [0] + [int(b) for b in node.sql("SELECT b FROM tempo.segments, generate_series(first_block, first_block + blocks - 1) b WHERE segment_id > %d" % before).split()]
        path = os.path.join(node.data, node.sql("SELECT pg_relation_filepath('tempo.spans')"))
        node.kill9()
        with open(path, "r+b") as f:
            for b in blocks:
                f.seek(b * BLOCK + BLOCK // 2 * (b % 2))
                f.write(os.urandom(BLOCK // 2))
        node.start()
        tap.equal(node.sql("%s; SELECT count(*) FROM tempo.verify()" % QUERIES["rows"] % "tempo.spans").split("\n"), [rows, "0"], "%d torn pages come back from the WAL" % len(blocks))
    # without a crash they are damage, and the page's checksum tells
    node.stop()
    with open(path, "r+b") as f:
        f.seek(blocks[-1] * BLOCK + BLOCK // 2)
        f.write(os.urandom(BLOCK // 2))
    node.start()
    r = node.psql(QUERIES["rows"] % "tempo.spans")
    tap.ok("XX001" in r.stderr, "without a crash a torn page is an error", r.stdout, r.stderr)


def test():
    at_rest()
    torn()


tap.main(test)
