"""Random conditions: what passes one, its negation and its being null is every row, and the same rows as in a heap, whichever nodes the plan has.

The values are of mixed types under few keys, with keys so rare that they share a column, arrays, nulls, and rows that were deleted.  Trees of AND, OR and NOT are made of the conditions that scans decide themselves
and of such that they do not.  TEMPO_PG_SEED repeats a run, TEMPO_PG_SECONDS=900 makes it a long one.
"""
import os, random, re, time
import cluster, tap

SETUP = """
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE FUNCTION attributes(n int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('n', n, 'user', 'user ' || n % 23, 'same', 'x', 'rare ' || n % 997, n % 5, 'code', CASE WHEN n % 3 = 0 THEN 200 + n % 7 END)) ||
           coalesce((ARRAY['{"k": 1}', '{"k": 1.0}', '{"k": 1.5}', '{"k": -3}', '{"k": "a"}', '{"k": "b"}', '{"k": ""}', '{"k": "1"}', '{"k": true}', '{"k": false}', '{"k": ["a", "b"]}', '{"k": [1, 2]}', '{"k": []}', '{"k": {"a": 1}}', '{"k": {}}',
                     '{"k": null}', '{"k": 9007199254740993}', '{"k": 1e300}', '{"k": "\\u00fc"}', '{"k": [["a"]]}', '{}'])[1 + n % 24]::jsonb, '{}')
$$;
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO t (tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message, flags, start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, scope_version, scope_attributes, events, links, dropped_events_count)
    SELECT CASE WHEN n % 50 = 0 THEN 'other' ELSE 'single-tenant' END, lpad(to_hex(1 + n / 5), 32, '0')::tempo.trace_id, lpad(to_hex(1 + n), 16, '0')::tempo.span_id,
           CASE WHEN n % 5 > 0 THEN lpad(to_hex(1 + n / 5 * 5), 16, '0')::tempo.span_id END, 'op ' || n % 9, (ARRAY['server', 'client', 'internal', 'unspecified', '17'])[1 + n % 5], (ARRAY['unset', 'error', 'ok', '7'])[1 + n % 4],
           repeat('m', n % 3), n % 4, 1700000000000000000 + n * 100000::bigint, (n * 7919 % 1000 - 5) * 1000, attributes(n),
           CASE n % 4 WHEN 0 THEN '{"service.name": "shop"}' WHEN 1 THEN '{"service.name": "web", "k": "a"}' WHEN 2 THEN '{"service.name": "", "k": 1}' ELSE '{}' END::jsonb, 'scope ' || n % 2, (n % 3)::text,
           CASE WHEN n % 6 = 0 THEN '{"s": 1}' ELSE '{}' END::jsonb,
           CASE WHEN n % 8 = 0 THEN '[{"name": "exception", "time_unix_nano": 5, "attributes": {"e": 1}}]' WHEN n % 8 = 1 THEN '[{"name": "log"}, {"name": "exception"}]' ELSE '[]' END::jsonb,
           CASE WHEN n % 10 = 0 THEN '[{"trace_id": "00000000000000000000000000000001", "span_id": "0000000000000002"}]' ELSE '[]' END::jsonb, n % 2
    FROM generate_series(first, last) n
$$;
-- of a table: the rows for which a condition is true, false and null, and the groups of the true ones
CREATE FUNCTION parts(relation text, condition text, groups text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    part text;
    result text := '';
    found text;
BEGIN
    FOREACH part IN ARRAY ARRAY['(%s)', 'NOT (%s)', '(%s) IS NULL'] LOOP
        EXECUTE format('SELECT count(*) || '' '' || coalesce(sum(duration_nano), 0) FROM %I AS s WHERE ' || replace(part, '%s', '%2$s'), relation, condition) INTO found;
        result := result || found || ', ';
        EXECUTE format('SELECT coalesce(sum((''x'' || right(span_id::text, 8))::bit(32)::bigint), 0) FROM (SELECT span_id, attributes FROM %I AS s WHERE ' || replace(part, '%s', '%2$s') || ' OFFSET 0) x', relation, condition) INTO found;
        result := result || found || '; ';
    END LOOP;
    EXECUTE format('SELECT coalesce(md5(string_agg(g::text, chr(10) ORDER BY g::text COLLATE "C")), ''-'') FROM (SELECT %3$s AS key, count(*), sum(duration_nano), min(duration_nano), max(start_time_unix_nano) FROM %1$I AS s WHERE %2$s GROUP BY 1) g', relation, condition, groups) INTO found;
    RETURN result || found;
EXCEPTION WHEN data_exception OR undefined_function OR datatype_mismatch OR syntax_error THEN
    -- which rows a condition that fails is asked about is the plan's affair
    RETURN 'error ' || sqlstate || ' ' || sqlerrm;
END
$$;
CREATE FUNCTION whole(parts text) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum((regexp_match(p, '^ ?(\\d+) '))[1]::bigint)::bigint FROM regexp_split_to_table(parts, ';') WITH ORDINALITY AS s(p, n) WHERE n <= 3
$$;
"""
KEYS = ["k", "n", "user", "same", "code", "rare 5", "rare 500", "absent", "service.name"]
VALUES = ["1", "1.0", "1.5", "-3", "0", "\"a\"", "\"b\"", "\"\"", "\"1\"", "\"user 7\"", "\"x\"", "\"shop\"", "true", "false", "null", "[\"a\", \"b\"]", "[1]", "[]", "{}", "{\"a\": 1}", "203", "9007199254740993", "1e300"]
PATTERNS = ["a", "user 1.*", ".*", "", "(?i)SHOP", "[0-9]+", "x|a", "ü", "op [1-3]"]
TEXTS = {"tenant": ["other", "single-tenant", "none"], "name": ["op 1", "op 2", "op", ""], "kind": ["server", "client", "17", "nonsense"], "status": ["error", "ok", "7", "unset"], "status_message": ["", "m", "mm"],
         "service_name": ["shop", "web", ""], "scope_name": ["scope 0", "scope"], "scope_version": ["0", "1"]}


class Conditions:
    def __init__(self, rng, rows):
        self.rng, self.rows = rng, rows

    def quote(self, text): return "'" + text.replace("'", "''") + "'"

    def number(self): return self.rng.choice([0, 1, -1000, 5000, 500000, 994000, self.rng.randrange(-5000, 995000)])

    def text(self):
        rng = self.rng
        column = rng.choice(list(TEXTS))
        value = self.quote(rng.choice(TEXTS[column]))
        column = rng.choice([column] * 6 + ["coalesce(%s, '')" % column, "upper(%s)" % column])
        return rng.choice(["%s = %s", "%s <> %s", "%s IN (%s, 'web')", "%s = ANY (ARRAY[%s, NULL])", "%s <> ALL (ARRAY[%s, 'op 3'])", "%s LIKE %s || '%%'", "%s NOT LIKE '%%' || %s", "%s ILIKE %s", "%s ~ %s", "%s !~ ('^' || %s)", "%s > %s", "%s <= %s COLLATE \"C\"",
                           "tempo.match_re(%s, %s)", "tempo.match_re(%s, %s, true)", "length(%s) > length(%s)", "(%s || %s) IS NOT NULL", "%s IS NOT DISTINCT FROM %s", "%s IS DISTINCT FROM nullif(%s, 'web')", "starts_with(%s, %s)"]) % (column, value)

    def numeric(self):
        rng, n = self.rng, self.number()
        column = rng.choice(["duration_nano", "duration_nano", "start_time_unix_nano", "flags", "dropped_events_count"])
        if column == "start_time_unix_nano": n = 1700000000000000000 + rng.randrange(-10, self.rows + 10) * 100000 + rng.randrange(-1, 2)
        elif column != "duration_nano": n = rng.randrange(5)
        return rng.choice(["%s %s %d" % (column, rng.choice(["=", "<>", "<", "<=", ">", ">="]), n), "%d %s %s" % (n, rng.choice(["<", ">="]), column), "%s BETWEEN %d AND %d" % (column, n, n + rng.choice([0, 100000, 5000000])),
                           "%s IN (%d, %d)" % (column, n, n + 1000), "%s > %d.5" % (column, n), "%s %% 3 = %d" % (column, rng.randrange(3)), "%s = %d::numeric" % (column, n), "%s < %d::float8" % (column, n), "%s = NULL" % column])

    def time(self):
        rng = self.rng
        at = "timestamptz '2023-11-14 22:13:20+00' + %d * interval '100 us'" % rng.randrange(-10, self.rows + 10)
        return rng.choice(["%s %s %s" % (rng.choice(["start_time", "end_time"]), rng.choice(["<", "<=", ">", ">=", "=", "<>"]), at), "duration %s interval '%d us'" % (rng.choice(["<", "<=", ">", ">=", "=", "<>"]), self.number() // 1000),
                           "start_time < '2023-11-14'::date", "start_time BETWEEN %s AND 'infinity'" % at, "end_time IS NULL", "duration > '-1 month'"])

    def identity(self):
        rng, n = self.rng, self.rng.randrange(self.rows)
        trace, span = "'%032x'" % (1 + n // 5), "'%016x'" % (1 + n)
        return rng.choice(["trace_id = %s" % trace, "trace_id <> %s" % trace, "trace_id IN (%s, '%032x', '%032x')" % (trace, 3, 1 << 100), "span_id = %s" % span, "span_id <> %s" % span, "span_id = ANY (ARRAY[%s, '%016x']::tempo.span_id[])" % (span, 7), "span_id < %s" % span,
                           "parent_span_id = '%016x'" % (1 + n // 5 * 5), "parent_span_id <> '%016x'" % 1, "parent_span_id IS NULL", "parent_span_id IS NOT NULL", "trace_id > %s" % trace, "trace_id::text LIKE '%%%x'" % rng.randrange(16)])

    def attribute(self):
        rng = self.rng
        column, key, value = rng.choice(["attributes", "attributes", "attributes", "resource_attributes", "scope_attributes"]), self.quote(rng.choice(KEYS)), self.quote(rng.choice(VALUES))
        text = self.quote(rng.choice(VALUES).strip('"'))
        one = rng.choice(["%s ->> %s" % (column, key), "coalesce(%s ->> %s, '')" % (column, key), "attributes #>> ARRAY[%s]" % key])
        return rng.choice(["%s = %s" % (one, text), "%s <> %s" % (one, text), "%s IN (%s, 'b', '1')" % (one, text), "%s LIKE '%%' || %s || '%%'" % (one, text), "%s ~ '^[0-9]+$'" % one, "(%s) IS NULL" % one, "(%s) IS NOT NULL" % one, "%s < %s" % (one, text),
                           "%s -> %s = %s::jsonb" % (column, key, value), "%s -> %s <> %s::jsonb" % (column, key, value), "%s -> %s > %s::jsonb" % (column, key, value), "%s -> %s IS NULL" % (column, key), "%s ? %s" % (column, key), "%s ?| ARRAY[%s, 's']" % (column, key), "%s ?& ARRAY[%s, 'k']" % (column, key),
                           "%s @> jsonb_build_object(%s, %s::jsonb)" % (column, key, value), "%s @> '{%s: %s}'" % (column, key.replace("'", '"'), value[1:-1]), "jsonb_build_object(%s, %s::jsonb) <@ %s" % (key, value, column), "jsonb_typeof(%s -> %s) = '%s'" % (column, key, rng.choice(["number", "string", "array", "boolean", "null", "object"])),
                           "CASE WHEN %s ->> %s ~ '^-?[0-9.]+$' THEN (%s ->> %s)::numeric > %d END" % (column, key, column, key, rng.randrange(300)), "(attributes ->> 'n')::int %s %d" % (rng.choice(["<", ">=", "="]), rng.randrange(self.rows)), "(attributes -> 'code')::int > 203", "%s = '{}'" % column])

    def traceql(self):
        rng = self.rng
        scope, key = rng.choice(["span", "resource", "any"]), self.quote(rng.choice(KEYS))
        one = "tempo.attr(attributes, resource_attributes, '%s', %s)" % (scope, key)
        if rng.random() < 0.1: one = "to_jsonb(%s)" % rng.choice(list(TEXTS))
        elif rng.random() < 0.1: one = "coalesce(%s, '\"\"')" % one
        return rng.choice(["tempo.match(%s, '%s', %s)" % (one, rng.choice(["=", "!=", "<", "<=", ">", ">="]), self.quote(rng.choice(VALUES)))] * 3 + ["tempo.match_re(%s, %s, %s)" % (one, self.quote(rng.choice(PATTERNS)), rng.choice(["true", "false"])), "%s IS NULL" % one, "%s IS NOT NULL" % one])

    def nested(self):
        rng = self.rng
        return rng.choice(["events = '[]'", "events <> '[]'", "links = '[]'", "links <> '[]'", "events @> '[{\"name\": \"%s\"}]'" % rng.choice(["exception", "log", "none"]), "links @> '[{\"span_id\": \"0000000000000002\"}]'", "jsonb_array_length(events) > %d" % rng.randrange(3), "events -> 0 ->> 'name' = 'exception'",
                           "EXISTS (SELECT FROM jsonb_array_elements(s.events) e WHERE e ->> 'name' = 'log')", "events @> '[{\"name\": \"exception\", \"attributes\": {\"e\": 1}}]'", "events IS NULL", "jsonb_path_exists(events, '$[*] ? (@.name == \"log\")')"])

    def other(self):
        return self.rng.choice(["true", "NULL::boolean", "status = kind", "name LIKE kind || '%'", "duration_nano > length(name) * 1000", "s.tableoid > 0", "ctid > '(2,50)'", "attributes ->> 'k' = resource_attributes ->> 'k'", "(kind = 'server') = (status = 'error')", "name IN (SELECT 'op ' || i FROM generate_series(1, 3) i)"])

    def leaf(self): return self.rng.choice([self.text, self.text, self.numeric, self.time, self.identity, self.attribute, self.attribute, self.attribute, self.traceql, self.traceql, self.nested, self.other])()

    def tree(self, depth=3):
        rng = self.rng
        if depth == 0 or rng.random() < 0.3: return self.leaf()
        choice = rng.random()
        if choice < 0.2: return "NOT (%s)" % self.tree(depth - 1)
        return "(%s)" % (" AND " if choice < 0.6 else " OR ").join("(%s)" % self.tree(depth - 1) for i in range(rng.choice([2, 2, 3])))

    def grouping(self):
        rng = self.rng
        return rng.choice(["name", "kind", "status", "service_name", "attributes ->> 'user'", "attributes ->> 'k'", "attributes -> 'code'", "resource_attributes ->> 'k'", "(start_time_unix_nano - 1700000000000000000) / 60000000", "date_bin('50 ms', start_time, '2023-11-14')", "tenant", "scope_name", "1"])

    def switches(self):
        rng = self.rng
        return " ".join("SET %s = %s;" % (s, rng.choice(["on", "on", "off"])) for s in ("tempo_pg.enable_custom_scan", "tempo_pg.enable_custom_aggregate")) + " SET force_parallel_mode = %s; SET max_parallel_workers_per_gather = %d;" % (rng.choice(["off", "off", "off", "on"]), rng.choice([0, 2]))


def test():
    seed = cluster.seed()
    seconds = int(os.environ.get("TEMPO_PG_SECONDS", "0"))
    tap.note("TEMPO_PG_SEED=%d" % seed)
    node = cluster.Cluster("conditions", fsync="off", jit="off", min_parallel_table_scan_size="0", parallel_setup_cost=10, **{"tempo_pg.compaction": "off"})
    node.start()
    node.create_extension()
    node.sql(SETUP)
    # one large segment, small ones of level 0, and rows deleted from both
    node.sql("SELECT fill(0, 3999); SELECT tempo.compact('t'); SELECT fill(4000, 4299); SELECT fill(4300, 4310); DELETE FROM t WHERE duration_nano % 11000 = 0; DELETE FROM t WHERE attributes ->> 'user' = 'user 3'; SELECT fill(4311, 4499)")
    node.sql("CREATE TABLE h AS SELECT * FROM t; ANALYZE t; ANALYZE h")
    rows = int(node.sql("SELECT count(*) FROM h"))
    tap.equal(node.sql("SELECT count(*) > 3, count(DISTINCT level) FROM tempo.segments WHERE relation = 't'::regclass"), "t|2", "segments of two levels, with %d rows" % rows)
    end, n = time.monotonic() + seconds, 0
    while n < 1 or time.monotonic() < end:
        conditions, script = Conditions(random.Random(seed + n), 4500), []
        for i in range(120):
            condition = conditions.tree() if i % 2 else conditions.leaf()
            # TIDs differ between the tables; the function's text is the condition
            plain, grouping = "ctid" not in condition, conditions.grouping()
            text = "$q$" + condition + "$q$"
            script.append("%s WITH p AS MATERIALIZED (SELECT parts('t', %s, $g$%s$g$) AS t) SELECT '%s', %s, whole(t), t%s FROM p;" % (
                conditions.switches(), text, grouping, i, text.replace("\n", " "), (", parts('h', %s, $g$%s$g$)" % (text, grouping)) if plain else ""))
        r = node.psql("\n".join(script), options=("-F", "\x1f"))
        wrong, failed, decided = [], 0, 0
        for line in r.stdout.splitlines():
            fields = line.split("\x1f")
            t = fields[3]
            if t.startswith("error"):
                failed += 1
                continue
            decided += 1
            if fields[2] != str(rows) or (len(fields) > 4 and t != fields[4]): wrong.append("\n".join(fields + [script[int(fields[0])]]))
        tap.ok(not wrong and r.returncode == 0, "seed %d: %d conditions divide the rows as they do a heap's (%d fail)" % (seed + n, decided, failed), "\n\n".join(wrong[:4]), r.stderr[-800:])
        tap.ok(decided > 80, "seed %d: most conditions were decided" % (seed + n), "\n".join(l.split("\x1f")[3] for l in r.stdout.splitlines() if "\x1ferror" in l)[:2000])
        n += 1
        if tap.failed > 6: break
    tap.ok("PANIC" not in node.log_text() and "signal 11" not in node.log_text(), "the server did not crash")


tap.main(test)
