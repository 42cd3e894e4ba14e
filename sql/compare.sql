-- compare() on encoded spans: that it counts what the aggregate counts row by row, there and in a heap.
\pset null NULL
\set SHOW_CONTEXT never
SET max_parallel_workers_per_gather = 0;

-- values of every type under few keys, in several segments
CREATE TABLE corpus (a jsonb);
INSERT INTO corpus SELECT ('{"k": ' || v || ', "n": ' || row_number() OVER () || ', "f": 1.5}')::jsonb FROM unnest(array[
    '1', '0', '-1', '2', '1.0', '0.0', '1.5', '-2.5', '9007199254740993', '9223372036854775807', '0.1', '1e300',
    '"a"', '"b"', '""', '"1"', '"nil"', '"ü"', '"a\"b"', '"a b"', '"a\\b"', '"a\n"', '"a\u0001"', '"a\u0002"', '[7]', '["b"]', '[true]', '[2.5]', '["nil"]', '[[1]]', 'true', 'false', 'null', '[]', '["a", "b"]', '[1, 2.5]', '{}', '{"a": 1}',
    '{"$otlp": {"doubleValue": "NaN"}}', '{"$otlp": {"doubleValue": "-0"}}', '{"$otlp": {"bytesValue": "YQ=="}}']) AS v;
INSERT INTO corpus VALUES ('{}'), ('{"n": 2}'), ('{"K": 1}');

-- rows of tempo.spans, and the same in a heap
CREATE TABLE twin (LIKE tempo.spans);
CREATE FUNCTION fill(segment integer, factor integer DEFAULT 1) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, links, name, kind, status, status_message, trace_state, flags,
        start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, dropped_attributes_count)
    SELECT CASE WHEN n % 5 = 0 THEN 'other' ELSE 'single-tenant' END,
        lpad(to_hex(segment * 100000 + n / 3 + 1), 32, '0')::tempo.trace_id,
        lpad(to_hex(segment * 100000 + CASE WHEN n % 30 < 3 THEN n / 3 * 3 ELSE n END + 1), 16, '0')::tempo.span_id,
        CASE WHEN n % 3 > 0 THEN lpad(to_hex(segment * 100000 + CASE WHEN n % 11 = 0 THEN n ELSE n / 3 * 3 + n % 3 - 1 END + 1), 16, '0')::tempo.span_id END,
        CASE WHEN n % 21 = 0 THEN jsonb_build_array(jsonb_build_object('trace_id', lpad(to_hex(segment * 100000 + n / 3 + 1), 32, '0'), 'span_id', '00000000000000ff', 'attributes',
            jsonb_build_object('opentracing.ref_type', (array['"child_of"', '["child_of"]', '"follows_from"'])[1 + n / 21 % 3]::jsonb))) ELSE '[]' END,
        'op' || n % 4, (array['unspecified', 'internal', 'server', 'client', 'producer', 'consumer', '17'])[1 + n % 7],
        (array['unset', 'ok', 'error', '5'])[1 + n % 4], repeat('x', n::integer % 3), CASE n % 6 WHEN 0 THEN 'ot=th:8' ELSE '' END, n % 3,
        1700000000000000000 + segment * 1000000000::bigint + n * 7000001, (n % 20 - 2) * 1000001 * (1 + n % 1000),
        s.a || CASE n % 7 WHEN 0 THEN jsonb_build_object('unique', md5(n::text), 'uuid', md5(n::text)::uuid) WHEN 1 THEN jsonb_build_object('number', n * 12345) ELSE '{}' END
            || CASE WHEN n % 1500 = 3 THEN jsonb_build_object('rare', n % 2) ELSE '{}' END,
        CASE n % 4 WHEN 0 THEN r.a WHEN 1 THEN '{"service.name": "a"}' WHEN 2 THEN '{"service.name": "b", "k": "a"}'
            ELSE '{"service.name": ""}' END,
        'scope' || n % 2, n % 4
    FROM (SELECT row_number() OVER (ORDER BY x, s.ctid, r.ctid) AS n, s.a, r.a FROM corpus AS s, corpus AS r, generate_series(1, factor) AS x
          WHERE factor > 1 OR md5(s.a::text || r.a::text || segment) < '1') AS t(n, s, r), LATERAL (SELECT s AS a) AS s, LATERAL (SELECT r AS a) AS r
$$;
SELECT fill(1);
SELECT fill(2);
SELECT fill(3, 9);
-- spans that come twice, in one segment and in two; late halves of traces
INSERT INTO tempo.spans SELECT * FROM tempo.spans WHERE start_time_unix_nano % 13 = 0;
INSERT INTO tempo.spans SELECT s.* FROM tempo.spans AS s, generate_series(1, 2) WHERE s.start_time_unix_nano % 17 = 0;
INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, kind, start_time_unix_nano, duration_nano, name, attributes)
    SELECT trace_id, 'ffffffffffffffff', span_id, 'client', start_time_unix_nano - 1, 5, 'late', '{"late": [1, 2]}' FROM tempo.spans WHERE start_time_unix_nano % 101 = 0;
INSERT INTO twin SELECT * FROM tempo.spans;
SELECT count(*) > 18000 AS enough, count(*) - count(DISTINCT (trace_id, span_id, start_time_unix_nano, kind)) > 1000 AS twice FROM tempo.spans;
SELECT sum(spans) > 18000 AS stored, count(*) > 3 AS several FROM tempo.segments;
ANALYZE tempo.spans;
ANALYZE twin;

-- the answer of both ways and of the heap, and whether it was found on encoded spans
CREATE FUNCTION digest(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || md5(coalesce(string_agg(x, chr(10) ORDER BY x COLLATE "C"), ''''))
        FROM (SELECT q::text AS x FROM (%s) AS q) AS t', query) INTO result;
    RETURN result;
END
$$;
CREATE FUNCTION is_custom(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line LIKE '%TempoCompare%' THEN RETURN true; END IF;
    END LOOP;
    RETURN false;
END
$$;
CREATE FUNCTION compare(query text, stop timestamptz DEFAULT '2023-11-14 22:15:00Z', OUT clause text, OUT custom boolean, OUT rows bigint, OUT same boolean)
LANGUAGE plpgsql AS $$
DECLARE
    text text := traceql_metrics_to_sql(query, '2023-11-14 22:13:20Z', stop, CASE WHEN query LIKE '%fine%' THEN '1 s' ELSE '10 s' END::interval, ARRAY['single-tenant', 'other']);
    off text;
    heap text;
    given text;
BEGIN
    SET LOCAL tempo_pg.enable_custom_aggregate = off;
    off := digest(text);
    heap := digest(replace(text, 'FROM tempo.spans', 'FROM twin'));
    SET LOCAL tempo_pg.enable_custom_aggregate = on;
    given := digest(text);
    clause := query;
    custom := is_custom(text);
    rows := split_part(given, ' ', 1);
    same := given = off AND given = heap;
END
$$;

SELECT traceql_metrics_to_sql('{ name = "op1" } | compare({ status = error }, 3)', '2023-11-14 22:13:20Z', '2023-11-14 22:14:20Z', '10 s') AS query \gset
EXPLAIN (COSTS OFF) :query;

CREATE FUNCTION compare_first(last integer) RETURNS TABLE (clause text, custom boolean, rows bigint, same boolean) LANGUAGE sql AS $$
SELECT c.* FROM unnest(array[
    '{} | compare({ status = error })', '{} | compare({ status = error }, 1)', '{} | compare({ status = error }, 1000)', '{} | compare({ name = "op1" }, 7)', '{} | compare({ name = "fine" || name = "op2" })',
    '{} | compare({})', '{} | compare({ false })', '{ false } | compare({})', '{ status = error } | compare({ kind = server }, 50)', '{ duration > 5s } | compare({ .k = 1 })',
    '{ span.k != "a" } | compare({ resource.k = 1 || span.unique =~ "a.*" }, 20)', '{ name = "late" } | compare({ span.late = 1 })', '{ resource.service.name = "b" } | compare({ duration > 1s }, 5)',
    '{} | compare({ status = error }, 10, 1700000002000000000, 1700000003000000000)', '{ span.rare = 1 } | compare({ statusMessage = "x" })', '{ name = "none" } | compare({})',
    -- not on encoded spans
    '{} | compare({ status = error }) with (extrapolate = true)'
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c WHERE n <= last ORDER BY n
$$;
SELECT * FROM compare_first(5);
-- part of the time; steps that hold nothing
SELECT * FROM compare('{} | compare({ kind = client }, 4)', '2023-11-14 22:13:23Z');
SELECT * FROM compare('{} | compare({ kind = client }, 4)', '2023-11-14 22:23:23Z');
SELECT * FROM compare('{} | compare({ name = "fine" || kind = client }, 4)', '2023-11-14 22:14:23Z');

-- merged
SELECT tempo.compact() IS NOT NULL AS merged;
SELECT * FROM compare_first(3);

-- deleted rows
DELETE FROM tempo.spans WHERE start_time_unix_nano % 5 = 0;
DELETE FROM twin WHERE start_time_unix_nano % 5 = 0;
SELECT * FROM compare_first(100);

-- rows of the own transaction, in segments and in memory
BEGIN;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name, attributes, resource_attributes)
    SELECT lpad(to_hex(g), 32, 'a')::tempo.trace_id, lpad(to_hex(g), 16, 'e')::tempo.span_id, 1700000001000000000 + g, 3, 'own', '{"k": 1.0, "own": []}', '{"service.name": "own"}' FROM generate_series(1, 30) AS g;
INSERT INTO twin SELECT * FROM tempo.spans WHERE name = 'own';
SELECT * FROM compare('{} | compare({ name = "own" })');
ROLLBACK;
CREATE FUNCTION compare_own(custom boolean) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('tempo_pg.enable_custom_aggregate', custom::text, true);
    RETURN digest(traceql_metrics_to_sql('{ name = "own" } | compare({ span.k = 1 })', '2023-11-14 22:13:20Z', '2023-11-14 22:15:00Z', '10 s'));
END
$$;
BEGIN;
WITH i AS (INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name, status_message, attributes, resource_attributes, scope_attributes)
    SELECT lpad(to_hex(g), 32, 'a')::tempo.trace_id, lpad(to_hex(g), 16, 'e')::tempo.span_id, 1700000001000000000 + g, 3, 'own', 'm' || g, jsonb_build_object('k', g % 2, 'x', to_jsonb(array['a'])), '{"service.name": "own"}', '{"s": 1}'
    FROM generate_series(1, 6) AS g WHERE compare_own(g > 0) = compare_own(g < 0) RETURNING 1)
SELECT count(*) AS same FROM i;
SELECT compare_own(true) = compare_own(false) AS same;
ROLLBACK;

-- row security
CREATE ROLE tempo_compare_tester;
GRANT tempo_reader TO tempo_compare_tester;
GRANT SELECT ON twin TO tempo_compare_tester;
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tempo.spans FOR SELECT TO tempo_reader USING (service_name = 'b' AND name = 'op2');
DELETE FROM twin WHERE (service_name = 'b' AND name = 'op2') IS NOT TRUE;
SET ROLE tempo_compare_tester;
SELECT * FROM compare_first(4);
RESET ROLE;
DROP POLICY own ON tempo.spans;
ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY;
DROP OWNED BY tempo_compare_tester;
DROP ROLE tempo_compare_tester;

-- names of attributes with characters that separate keys
BEGIN;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name, attributes)
VALUES (lpad('c', 32, 'c')::tempo.trace_id, lpad('c', 16, 'c')::tempo.span_id, 1700000001000000000, 3, 'controls', '{"a\u0001b": 1, "a\u0002s": "x", "a": true, "a\u0001": 0.5}');
SELECT custom, labels FROM (VALUES ('on'), ('off')) AS v (custom), set_config('tempo_pg.enable_custom_aggregate', custom, true),
    LATERAL (SELECT DISTINCT labels FROM traceql_metrics('{ name = "controls" } | compare({ true })', '2023-11-14 22:13:20Z', '2023-11-14 22:13:30Z', '10 s')) AS s
WHERE labels::text LIKE '%span.a%' ORDER BY 1, 2;
ROLLBACK;

-- memory; arguments that the aggregate refuses
SET tempo_pg.compare_memory = '1MB';
SELECT count(*) FROM traceql_metrics('{} | compare({ status = error })', '2023-11-14 22:13:20Z', '2023-11-14 22:14:20Z', '10 s');
RESET tempo_pg.compare_memory;
SELECT tempo.attribute_label('span', 'a b'), tempo.attribute_label('resource', 'a'), tempo.attribute_label('instrumentation', 'span.x');
SELECT tempo.attribute_label('event', 'a');
SELECT tempo.compare_spans(true, true, 1, 0, 0, 1, 1, trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano, service_name,
    attributes, resource_attributes, scope_name, scope_version, scope_attributes, events, links, trace_state) FROM tempo.spans;

DROP FUNCTION compare_first, compare, compare_own, is_custom, digest, fill;
DROP TABLE twin, corpus;
TRUNCATE tempo.spans;
