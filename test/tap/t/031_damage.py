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


def masks():
    """what is deleted from a segment cannot be read: nothing that was deleted is seen again, and other segments are used as ever"""
    node = cluster.Cluster("masks", **{"autovacuum": "off", "fsync": "off", "tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    node.sql("""
        CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
        CREATE FUNCTION add(first int, spans int) RETURNS void LANGUAGE sql AS $$
            INSERT INTO t (trace_id, span_id, name, start_time_unix_nano, duration_nano) SELECT md5(n::text)::tempo.trace_id, lpad(to_hex(n), 16, '0')::tempo.span_id, 'op ' || n % 3, 1700000000000000000 + n::bigint, n
            FROM generate_series(first, first + spans - 1) n $$""")
    node.sql("SELECT add(1000000, 40000); SELECT add(2000000, 200); SELECT add(3000000, 200)")
    delete = "DELETE FROM t WHERE md5(span_id::text) < '8' AND start_time_unix_nano %s"
    node.sql(delete % "> 0")
    first = "duration_nano < 2000000 AND start_time_unix_nano < 1700000000002000000"
    second = "start_time_unix_nano >= 1700000000002000000 AND start_time_unix_nano < 1700000000003000000"
    rest = "start_time_unix_nano >= 1700000000003000000"
    count = "SELECT count(*), sum(duration_nano) FROM t WHERE %s"
    want = {w: node.sql(count % w) for w in ("true", first, second, rest)}
    segment, block, storage = node.sql("SELECT segment_id, first_block, tempo.storage_id('t') FROM tempo.segments WHERE relation = 't'::regclass AND spans = 200 ORDER BY 1 LIMIT 1").split("|")
    node.sql("UPDATE tempo.segment_deletions SET bitmap = set_byte(bitmap, 12, get_byte(bitmap, 12) # 64) WHERE segment_id = " + segment)
    r = node.psql(count % second)
    told = "could not read which rows of segment %s of relation" % segment
    tap.ok("XX001" in r.stderr and told in r.stderr and "blocks %s to" % block in r.stderr and "segment_id = %s" % segment in r.stderr and r.stdout == "", "a segment with a damaged mask is an error that names it, and what to do", r.stdout, r.stderr)
    attempts = {
        "all rows": "SELECT sum(duration_nano + length(name)) FROM t", "count": "SELECT count(*) FROM t", "without the nodes": "SET tempo_pg.enable_custom_scan = off; SET tempo_pg.enable_custom_aggregate = off; SELECT count(*) FROM t",
        "groups": "SELECT name, count(*) FROM t GROUP BY 1", "newest traces": "SELECT trace_id FROM t GROUP BY trace_id HAVING bool_or(name = 'op 1') ORDER BY min(start_time_unix_nano) DESC, trace_id", "sample": "SELECT count(*) FROM t TABLESAMPLE BERNOULLI (100)",
        "a row": "SELECT * FROM t WHERE ctid = '(%s,1)'" % block, "all TIDs": "SELECT count(*) FROM t WHERE ctid >= '(0,1)'", "DELETE": "DELETE FROM t WHERE name = 'op 1'", "compact": "SELECT tempo.compact('t')", "VACUUM FULL": "VACUUM FULL t", "parallel": "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SELECT name, sum(duration_nano) FROM t GROUP BY 1",
    }
    answers = {name: node.psql(text) for name, text in attempts.items()}
    tap.equal({name: (r.stdout, r.stderr) for name, r in answers.items() if "XX001" not in r.stderr or told not in r.stderr or r.stdout != ""}, {}, "whoever comes for its rows, in whichever way")
    tap.equal([node.sql(count % w) for w in (first, rest)], [want[first], want[rest]], "other segments are read")
    tap.equal(node.sql("SELECT segment_id, problem FROM tempo.verify('t')"), segment + "|the rows deleted from the segment are not rows of it", "tempo.verify() finds it")
    tap.equal(node.psql("VACUUM t; ANALYZE tempo.spans; SELECT count(*) FROM tempo.stat_tables").stderr, "", "VACUUM and views work")
    # the worker merges the others
    node.sql("SELECT add(4000000, 100); SELECT add(5000000, 100)")
    node.configure(**{"tempo_pg.compaction": "on"})
    node.reload()
    level0 = lambda: node.sql("SELECT string_agg(segment_id::text, ' ') FROM tempo.segments WHERE relation = 't'::regclass AND level = 0")
    cluster.poll("merging beside it", lambda: level0() == segment)
    cluster.poll("the view", lambda: told in node.sql("SELECT last_error FROM tempo.stat_compaction WHERE relation = 't'::regclass"))
    tap.equal([node.sql(count % w) for w in (first, rest + " AND start_time_unix_nano < 1700000000004000000")], [want[first], want[rest]], "the worker merges the others, and says so")
    # as the hint says
    node.sql("DELETE FROM tempo.segment_deletions WHERE storage_id = %s AND segment_id = %s" % (storage, segment))
    tap.equal(node.sql("SELECT count(*) FROM t WHERE " + second), "200", "without the mask its rows are back")
    for n in range(20):
        # a merge may have come first
        r = node.psql(delete % "BETWEEN 1700000000002000000 AND 1700000000002999999")
        if "40001" not in r.stderr: break
    tap.equal(node.sql(count % second), want[second], "and can be deleted again")
    node.configure(**{"tempo_pg.compaction": "off"})
    node.reload()
    cluster.poll("the worker's end", lambda: node.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg compaction' AND datname IS NOT NULL") == "0")
    # a mask that has its bytes in the TOAST table, which are lost
    node.sql("TRUNCATE t; SELECT add(1000000, 40000); SELECT add(3000000, 200)")
    node.sql(delete % "> 0")
    toast = node.sql("SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'tempo.segment_deletions'::regclass")
    node.stop()
    size = os.path.getsize(os.path.join(node.data, toast))
    with open(os.path.join(node.data, toast), "r+b") as f: f.write(bytes(size))
    node.start()
    tap.ok(size > 0 and "XX001" in node.psql(count % first).stderr, "bytes of a mask that are lost are an error")
    tap.equal((node.sql(count % rest), node.psql("VACUUM t; SELECT count(*) FROM tempo.stat_tables").stderr), (want[rest], ""), "of its segment only")
    tap.ok("missing chunk" in node.sql("SELECT problem FROM tempo.verify('t')"), "tempo.verify() finds that, too")
    tid = node.sql("SELECT min(ctid) FROM t WHERE " + rest)
    r = node.psql("SELECT count(*) FROM t WHERE ctid = '%s'; DELETE FROM t WHERE ctid = '%s'; SELECT count(*) FROM t WHERE ctid = '%s'" % (tid, tid, tid))
    tap.equal((r.stdout, r.stderr), ("1\n0\n", ""), "rows of other segments are found by their TIDs, and deleted")
    node.stop()


def behind_a_session():
    """tempo.verify() looks at the disk, not at what its session has read before"""
    node = cluster.Cluster("behind", **{"tempo_pg.enabled": "off", "autovacuum": "off", "fsync": "off", "shared_buffers": "1MB"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP)
    node.sql("SELECT fill('tempo.spans', 0); CREATE TABLE other AS SELECT i, (SELECT string_agg(md5(i + k || ''), '') FROM generate_series(1, 55) k) AS t FROM generate_series(1, 4000) i")
    node.sql("CHECKPOINT")
    session = cluster.Session(node)
    tap.equal(session.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is wrong")
    first, blocks = map(int, node.sql("SELECT first_block, blocks FROM tempo.segments").split("|"))
    with open(os.path.join(node.data, node.sql("SELECT pg_relation_filepath('tempo.spans')")), "r+b") as f:
        f.seek((first + blocks // 2) * BLOCK + BLOCK // 2)
        byte = f.read(1)[0]
        f.seek(-1, 1)
        f.write(bytes([byte ^ 1]))
    # others see it once its page has left shared buffers
    evict = "SELECT sum(i) FROM other WHERE ctid = ANY (ARRAY(SELECT format('(%s,1)', b)::tid FROM generate_series(0, 999) b)); SELECT count(*) FROM tempo.verify()"
    cluster.poll("a page that is read again", lambda: node.sql(evict).split("\n")[-1] != "0")
    tap.ok(session.sql("SELECT count(*) FROM tempo.verify()") != "0", "the session that has read the segment before finds what is wrong now")
    session.close()
    node.stop()


def test():
    at_rest()
    behind_a_session()
    torn()
    masks()


tap.main(test)
