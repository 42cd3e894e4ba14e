-- The custom scan: what it decides, and that it decides as the executor would.
\pset null NULL
\set SHOW_CONTEXT never
SET max_parallel_workers_per_gather = 0;
SET tempo_pg.enable_custom_aggregate = off;

-- values of every type under few keys, in several segments
CREATE TABLE corpus (a jsonb);
INSERT INTO corpus SELECT ('{"k": ' || v || ', "other": 1}')::jsonb FROM unnest(array[
    '1', '0', '-1', '2', '1.0', '0.0', '1.5', '-2.5', '9007199254740993', '9007199254740992.0', '9223372036854775807',
    '0.1', '0.30000000000000004', '1e300', '"a"', '"b"', '""', '"ab"', '"B"', '"1"', '"nil"', '"ü"', 'true', 'false',
    'null', '[]', '["a"]', '["a", "b"]', '["b", "c"]', '[1]', '[1, 2]', '[1, 2.5]', '[1, "a"]', '[[1]]', '[true, false]',
    '{}', '{"a": 1}', '{"$otlp": {"doubleValue": "NaN"}}', '{"$otlp": {"doubleValue": "-0"}}',
    '{"$otlp": {"doubleValue": "Infinity"}}', '{"$otlp": {"bytesValue": "YQ=="}}']) AS v;
INSERT INTO corpus VALUES ('{}'), ('{"other": 2}'), ('{"K": 1}');

CREATE FUNCTION fill(segment integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message,
        start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name)
    SELECT CASE WHEN n % 5 = 0 THEN 'other' ELSE 'single-tenant' END,
        lpad(to_hex(segment * 1000 + n / 3 + 1), 32, '0')::tempo.trace_id,
        lpad(to_hex(segment * 1000 + n + 1), 16, '0')::tempo.span_id,
        CASE WHEN n % 3 <> 0 THEN lpad(to_hex(segment * 1000 + n / 3 * 3 + 1), 16, '0')::tempo.span_id END,
        'op' || n % 4, (array['unspecified', 'internal', 'server', 'client', 'producer', 'consumer', '17'])[1 + n % 7],
        (array['unset', 'ok', 'error', '5'])[1 + n % 4], repeat('x', n::integer % 3),
        1700000000000000000 + segment * 1000000000::bigint + n * 1000, (n % 20 - 2) * 1000001,
        s.a, CASE n % 4 WHEN 0 THEN r.a WHEN 1 THEN '{"service.name": "a"}' WHEN 2 THEN '{"service.name": "b", "k": "a"}'
            ELSE '{"service.name": ""}' END,
        'scope' || n % 2
    FROM (SELECT row_number() OVER (ORDER BY s.ctid, r.ctid) AS n, s.a, r.a FROM corpus AS s, corpus AS r
          WHERE md5(s.a::text || r.a::text || segment) < '2') AS t(n, s, r), LATERAL (SELECT s AS a) AS s, LATERAL (SELECT r AS a) AS r
$$;
SELECT fill(1);
SELECT fill(2);
SELECT fill(3);
SELECT count(*) > 500 AS enough FROM tempo.spans;
ANALYZE tempo.spans;

-- the answer of both scans, and whether the custom scan decided the condition
CREATE FUNCTION answers(condition text, columns text DEFAULT 's', OUT plan text, OUT rows bigint, OUT digest text)
LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    plan := 'plain scan';
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) SELECT * FROM tempo.spans AS s WHERE ' || condition LOOP
        IF line LIKE '%TempoScan%' THEN plan := 'custom scan'; END IF;
        IF line LIKE '%Pushed Filter:%' THEN plan := 'pushed'; END IF;
        IF line LIKE '% Filter:%' AND line NOT LIKE '%Pushed%' THEN plan := plan || ', filtered'; END IF;
    END LOOP;
    EXECUTE format('SELECT count(*), md5(coalesce(string_agg(x, chr(10) ORDER BY x COLLATE "C"), ''''))
        FROM (SELECT (%s)::text AS x FROM tempo.spans AS s WHERE %s) AS t', columns, condition) INTO rows, digest;
END
$$;
-- a condition, its negation and its being null divide the rows
CREATE FUNCTION divides(condition text, OUT divided boolean) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT (SELECT count(*) FROM tempo.spans AS s WHERE %1$s) +
        (SELECT count(*) FROM tempo.spans AS s WHERE NOT (%1$s)) +
        (SELECT count(*) FROM tempo.spans AS s WHERE (%1$s) IS NULL) = (SELECT count(*) FROM tempo.spans)', condition) INTO divided;
END
$$;
CREATE FUNCTION compare(condition text, columns text DEFAULT 's', OUT clause text, OUT plan text, OUT rows bigint, OUT same boolean)
LANGUAGE plpgsql AS $$
DECLARE
    a record;
    b record;
BEGIN
    SET LOCAL tempo_pg.enable_custom_scan = off;
    b := answers(condition, columns);
    SET LOCAL tempo_pg.enable_custom_scan = on;
    a := answers(condition, columns);
    clause := condition;
    plan := a.plan;
    rows := a.rows;
    same := a.rows = b.rows AND a.digest = b.digest AND b.plan LIKE 'plain%' AND divides(condition);
END
$$;

-- columns
SELECT c.* FROM unnest(array[
    'true',
    $$name = 'op1'$$, $$'op1' = name$$, $$name <> 'op1'$$, $$name IN ('op1', 'op2', 'none')$$, $$NOT name = 'op1'$$,
    $$name = ANY (array['op1', NULL])$$, $$name = NULL$$, $$name = ANY (array[]::text[])$$, $$name = ANY (NULL::text[])$$,
    $$name LIKE 'op%'$$, $$name > 'op1'$$, $$name || '' = 'op1'$$,
    $$service_name = 'a'$$, $$service_name <> 'a'$$, $$NOT service_name = 'a'$$, $$service_name IS NULL$$, $$service_name IS NOT NULL$$,
    $$coalesce(service_name, '') = ''$$, $$coalesce(service_name, '') <> 'a'$$, $$coalesce(service_name, 'x') = 'x'$$,
    $$kind = 'server'$$, $$kind <> 'server'$$, $$kind = '17'$$, $$kind = 'nonsense'$$, $$kind IN ('server', 'client')$$, $$kind <> 'nonsense'$$,
    $$status = 'error'$$, $$status <> 'error'$$, $$status = '5'$$, $$status IN ('ok', '5')$$, $$status_message = ''$$, $$status_message <> 'x'$$,
    $$tenant = 'other'$$, $$tenant <> 'other'$$, $$tenant IN ('other', 'none')$$, $$tenant = 'none'$$, $$scope_name = 'scope1'$$,
    $$duration_nano > 5000000$$, $$duration_nano > 5::smallint$$, $$duration_nano >= 5000005$$, $$duration_nano < 0$$, $$duration_nano <= -1000001$$,
    $$duration_nano = 1000001$$, $$duration_nano <> 1000001$$, $$5000000 < duration_nano$$, $$duration_nano BETWEEN 0 AND 3000000$$, $$duration_nano > 1e6$$,
    $$duration > interval '5 ms'$$, $$duration = interval '0'$$, $$duration <> interval '0'$$, $$duration < interval '1 month'$$, $$duration < interval '-1 day'$$,
    $$duration < interval '100000 years'$$,
    $$start_time_unix_nano < 1700000002000000000$$, $$start_time_unix_nano >= 1700000003000000000$$, $$start_time_unix_nano = 1700000001000005000$$,
    $$start_time >= '2023-11-14 22:13:22+00'$$, $$start_time = '2023-11-14 22:13:21.000007+00'$$, $$start_time < '2023-11-14 22:13:21+00'$$,
    $$start_time > '2023-11-14'::date$$, $$start_time < now()$$, $$end_time < '2023-11-14 22:13:21.0001+00'$$, $$end_time >= '2023-11-14 22:13:23.00001+00'$$,
    $$trace_id = '000000000000000000000000000003ea'$$, $$trace_id <> '000000000000000000000000000003ea'$$, $$trace_id = '00000000000000000000000000000001'$$,
    $$trace_id IN ('000000000000000000000000000003ea', '000000000000000000000000000007d5', '000000000000000000000000000007d5', '00000000000000000000000000000001')$$,
    $$trace_id = ANY (array(SELECT DISTINCT x.trace_id FROM tempo.spans AS x WHERE x.name = 'op1' AND x.kind = 'server'))$$,
    $$trace_id = (SELECT max(x.trace_id::text) FROM tempo.spans AS x)::tempo.trace_id$$,
    $$span_id = '00000000000003f2'$$, $$span_id <> '00000000000003f2'$$, $$span_id = ANY (array['00000000000003f2', '00000000000007db']::tempo.span_id[])$$,
    $$parent_span_id = '00000000000003ec'$$, $$parent_span_id <> '00000000000003ec'$$, $$parent_span_id IS NULL$$, $$parent_span_id IS NOT NULL$$,
    $$NOT parent_span_id = '00000000000003ec'$$,
    $$name = 'op1' AND (kind = 'server' OR status = 'error') AND NOT (service_name = 'a' AND duration_nano > 3000000)$$,
    $$name = 'op1' OR parent_span_id = '00000000000003ec' OR service_name = 'b'$$, $$NOT (service_name = 'a' OR parent_span_id IS NULL)$$,
    $$name = 'op1' AND length(status_message) = 1$$, $$name = 'op1' OR length(status_message) = 1$$,
    $$ctid < '(1,100)'$$, $$tableoid = 'tempo.spans'::regclass AND name = 'op1'$$, $$xmin <> '0'::xid AND name = 'op1'$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition) AS c ORDER BY n;

-- attributes through jsonb's operators
SELECT c.* FROM unnest(array[
    $$attributes ->> 'k' = 'a'$$, $$attributes ->> 'k' = '1'$$, $$attributes ->> 'k' = '1.0'$$, $$attributes ->> 'k' = 'true'$$, $$attributes ->> 'k' <> 'a'$$,
    $$attributes ->> 'k' = '["a", "b"]'$$, $$attributes ->> 'k' IN ('a', 'b', '2')$$, $$attributes ->> 'absent' = 'a'$$, $$NOT attributes ->> 'k' = 'a'$$,
    $$resource_attributes ->> 'k' = 'a'$$, $$resource_attributes ->> 'service.name' = 'a'$$, $$'a' = attributes ->> 'k'$$,
    $$attributes -> 'k' IS NULL$$, $$attributes -> 'k' IS NOT NULL$$, $$resource_attributes -> 'k' IS NULL$$,
    $$attributes -> 'k' = '1'$$, $$attributes ? 'k'$$, $$attributes @> '{"k": "a"}'$$, $$attributes ->> name = 'a'$$, $$(attributes ->> 'k') IS NULL$$,
    $$(attributes ->> 'k') ~ '^[ab]'$$, $$(resource_attributes ->> 'k') IS NOT NULL$$,
    $$resource_attributes ? 'k'$$, $$NOT attributes ? 'k'$$, $$attributes ? 'absent'$$, $$attributes ?| array['k']$$,
    $$attributes @> '{}'$$, $$attributes @> '{"k": 1}'$$, $$attributes @> '{"k": 1.0, "other": 1}'$$, $$attributes @> '{"k": "a", "other": 1}'$$,
    $$attributes @> '{"k": ["a"]}'$$, $$attributes @> '{"k": []}'$$, $$attributes @> '{"k": {}}'$$, $$attributes @> '{"k": true}'$$, $$attributes @> '{"k": null}'$$,
    $$attributes @> '{"k": {"$otlp": {}}}'$$, $$attributes @> '{"k": "b"}' OR attributes @> '{"k": ""}'$$, $$NOT attributes @> '{"k": "a"}'$$,
    $$attributes @> '{"absent": "a"}'$$, $$attributes @> '[]'$$, $$attributes @> '{"k": "ü"}'$$, $$resource_attributes @> '{"k": "a"}'$$,
    $$resource_attributes @> '{"service.name": "b", "k": "a"}'$$, $$resource_attributes @> attributes$$, $$'{"k": "a"}' <@ attributes$$,
    $$attributes <@ '{"k": "a", "other": 1}'$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition) AS c ORDER BY n;

-- other expressions of one column or attribute are evaluated once for each value
SELECT c.* FROM unnest(array[
    $$name LIKE '%1'$$, $$upper(name) = 'OP1'$$, $$name ~ '[12]' AND name !~ '2'$$, $$name LIKE '%1' OR kind LIKE 's%'$$, $$NOT name LIKE '%1'$$,
    $$service_name LIKE 'a%'$$, $$(service_name LIKE 'a%') IS NULL$$, $$length(service_name) = 0$$, $$length(kind) = 6$$, $$status <> kind$$, $$status_message LIKE 'x_'$$,
    $$CASE WHEN kind IN ('server', 'client') THEN kind ELSE 'none' END = 'none'$$, $$name LIKE kind || '%'$$,
    $$attributes ->> 'k' LIKE '%a%'$$, $$NOT attributes ->> 'k' LIKE '%a%'$$, $$attributes ->> 'k' > 'a' COLLATE "C"$$, $$length(attributes ->> 'k') = 3$$,
    $$(attributes ->> 'other')::integer = 2$$, $$(attributes ->> 'other')::integer > 1 OR name = 'op1'$$, $$(attributes -> 'other')::integer + 1 = 2$$,
    $$CASE WHEN attributes ->> 'k' ~ '^-?[0-9.]+$' THEN (attributes ->> 'k')::numeric > 1 ELSE false END$$,
    $$jsonb_typeof(attributes -> 'k') = 'number'$$, $$jsonb_typeof(attributes -> 'k') IS NULL$$, $$attributes -> 'k' = '1'$$, $$attributes -> 'k' <> '1'$$, $$attributes -> 'k' @> '["a"]'$$,
    $$attributes -> 'k' ->> 'a' = '1'$$, $$coalesce(attributes ->> 'k', 'none') = 'none'$$, $$attributes ? 'k' AND attributes ->> 'k' LIKE 'a%'$$,
    $$attributes ->> 'k' = attributes ->> 'other'$$, $$resource_attributes ->> 'k' LIKE 'a%'$$, $$attributes ->> 'k' LIKE resource_attributes ->> 'k'$$,
    $$tempo.attr(attributes, resource_attributes, 'any', 'k') = '"a"'$$, $$tempo.attr(attributes, resource_attributes, 'resource', 'k') IS DISTINCT FROM '1'$$,
    $$jsonb_typeof(tempo.attr(attributes, resource_attributes, 'any', 'k')) = 'array'$$,
    $$(attributes ->> 'k')::timestamptz > now()$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition) AS c WHERE q.condition NOT LIKE '%timestamptz%' ORDER BY n;
SELECT count(*) FROM tempo.spans WHERE (attributes ->> 'k')::integer > 1;
-- parameters in them
PREPARE by_pattern(text) AS SELECT count(*) FROM tempo.spans WHERE name LIKE $1;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_pattern('op1');
EXECUTE by_pattern('%1');
EXECUTE by_pattern('%2');
EXECUTE by_pattern(NULL);
RESET plan_cache_mode;
SELECT v.p, (SELECT count(*) FROM tempo.spans AS s WHERE s.attributes ->> 'k' LIKE v.p OFFSET 0) FROM (VALUES ('a'), ('%a%'), (NULL), ('%')) AS v(p);

-- TraceQL's functions: every operator, value and literal
WITH c AS (
    SELECT c.* FROM unnest(array['span', 'resource', 'any']) AS scope, unnest(array['=', '!=', '<', '<=', '>', '>=']) AS op,
        unnest(array['1', '0', '-1', '1.0', '1.5', '0.1', '9007199254740993', '9007199254740992.0', '9223372036854775807', '0.1000000000000000055',
                     '123456789012345678901234567890', '"a"', '""', '"b"', '"1"', 'true', 'false', 'null', '[1]', '["a", "b"]', '{}',
                     '{"$otlp": {"doubleValue": "NaN"}}']) AS literal,
        compare(format('tempo.match(tempo.attr(attributes, resource_attributes, %L, ''k''), %L, %L::jsonb)', scope, op, literal), 'span_id') AS c)
SELECT count(*), count(*) FILTER (WHERE same), count(*) FILTER (WHERE plan = 'pushed'), count(*) FILTER (WHERE rows > 0) AS some, sum(rows) FROM c;
WITH c AS (
    SELECT c.* FROM unnest(array['span', 'resource', 'any']) AS scope, unnest(array['true', 'false']) AS negate,
        unnest(array['a', 'a|b', '.*', '', '(?i)b', '[0-9]', 'ü']) AS pattern,
        compare(format('tempo.match_re(tempo.attr(attributes, resource_attributes, %L, ''k''), %L, %s)', scope, pattern, negate), 'span_id') AS c)
SELECT count(*), count(*) FILTER (WHERE same), count(*) FILTER (WHERE plan = 'pushed'), count(*) FILTER (WHERE rows > 0) AS some, sum(rows) FROM c;
SELECT c.* FROM unnest(array[
    $$tempo.match_re(name, 'op[12]', false)$$, $$tempo.match_re(name, 'op[12]', true)$$, $$tempo.match_re(service_name, '', false)$$,
    $$tempo.match_re(coalesce(service_name, ''), '', false)$$, $$tempo.match_re(coalesce(service_name, ''), 'a', true)$$,
    $$tempo.match_re(name, 'op' || 1, false)$$, $$tempo.match(to_jsonb(name), '=', '"op1"')$$,
    $$tempo.match(tempo.attr(attributes, resource_attributes, 'span', 'k'), '=', NULL)$$,
    $$tempo.match(tempo.attr(attributes, resource_attributes, 'span', NULL), '=', '1')$$,
    $$tempo.attr(attributes, resource_attributes, 'span', 'k') IS NULL$$, $$tempo.attr(attributes, resource_attributes, 'any', 'k') IS NOT NULL$$,
    $$tempo.match(coalesce(tempo.attr(attributes, resource_attributes, 'any', 'service.name'), '""'), '=', '""')$$,
    $$tempo.match(coalesce(tempo.attr(attributes, resource_attributes, 'any', 'service.name'), '""'), '=', '"a"')$$,
    $$tempo.match_re(coalesce(tempo.attr(attributes, resource_attributes, 'any', 'service.name'), '""'), '', false)$$,
    $$NOT tempo.match(tempo.attr(attributes, resource_attributes, 'span', 'k'), '=', '"a"')$$,
    $$tempo.match(tempo.attr(attributes, resource_attributes, 'span', 'k'), '=', tempo.attr(attributes, resource_attributes, 'resource', 'k'))$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition) AS c ORDER BY n;
SELECT tempo.match(NULL, '=', '1');
SELECT count(*) FROM tempo.spans WHERE tempo.match(attributes -> 'k', '~', '1');

-- only the keys that are used are decoded
SELECT q.columns, c.rows, c.same FROM unnest(array[
    $$attributes ->> 'k'$$, $$attributes -> 'k'$$, $$attributes$$, $$ROW(attributes ->> 'other', attributes)$$,
    $$tempo.attr(attributes, resource_attributes, 'any', 'k')$$, $$tempo.attr(attributes, resource_attributes, 'span', 'k')$$,
    $$tempo.attr(attributes, resource_attributes, 'resource', 'k')$$, $$ROW(attributes ->> 'other', resource_attributes ->> 'k', name)$$,
    $$jsonb_build_object('a', attributes) ->> 'a'$$, $$ROW(attributes @> '{"k": "a"}', attributes ? 'K', resource_attributes ? 'k')$$, $$attributes @> '{}'$$, $$s.*$$, $$ctid$$, $$ROW(tableoid::regclass, span_id)$$
    ]) WITH ORDINALITY AS q(columns, n), compare($$name <> 'op3'$$, q.columns) AS c ORDER BY n;
EXPLAIN (COSTS OFF) SELECT attributes ->> 'k', count(*) FROM tempo.spans WHERE name = 'op1' GROUP BY 1;
EXPLAIN (COSTS OFF) SELECT tempo.attr(attributes, resource_attributes, 'any', 'x') FROM tempo.spans WHERE attributes ->> 'k' = 'a' AND attributes ->> 'y' LIKE 'a';
SELECT attributes ->> 'k' AS k, count(*) FROM tempo.spans WHERE attributes -> 'k' IS NOT NULL AND name = 'op1' GROUP BY 1 ORDER BY (attributes ->> 'k') COLLATE "C" LIMIT 5;

-- parameters, rescans, subqueries, joins
PREPARE by_name(text, bigint) AS SELECT count(*) FROM tempo.spans WHERE name = $1 AND duration_nano > $2;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_name('op1', 0);
EXECUTE by_name('op1', 0);
EXECUTE by_name('op2', 0);
EXECUTE by_name(NULL, 0);
RESET plan_cache_mode;
SELECT v.n, (SELECT count(*) FROM tempo.spans AS s WHERE s.name = v.n OFFSET 0) FROM (VALUES ('op1'), (NULL), ('op2'), ('none')) AS v(n);
SELECT v.n, s.c FROM (VALUES ('op1'), ('op2')) AS v(n), LATERAL (SELECT count(*) AS c FROM tempo.spans AS s WHERE s.name = v.n) AS s;
SELECT count(*) FROM tempo.spans AS a JOIN tempo.spans AS b ON b.trace_id = a.trace_id AND b.span_id = a.parent_span_id WHERE a.kind = 'server' AND b.parent_span_id IS NULL;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT span_id FROM tempo.spans WHERE name = 'op1' AND kind = 'server' ORDER BY span_id;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
DECLARE d CURSOR FOR SELECT count(*) OVER (), span_id FROM tempo.spans WHERE trace_id = '000000000000000000000000000003ea' ORDER BY span_id;
FETCH 1 FROM d;
-- rows of the own transaction
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name) VALUES ('000000000000000000000000000003ea', 'ffffffffffffffff', 1, 1, 'own');
SELECT span_id FROM tempo.spans WHERE name = 'own';
SAVEPOINT s;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name) VALUES ('000000000000000000000000000003ea', 'fffffffffffffffe', 1, 1, 'own');
SELECT span_id FROM tempo.spans WHERE name = 'own' ORDER BY 1;
SELECT count(*) FROM tempo.trace('000000000000000000000000000003ea');
ROLLBACK TO s;
SELECT span_id FROM tempo.spans WHERE name = 'own' ORDER BY 1;
-- a duplicate delivery is stored twice and shown once
INSERT INTO tempo.spans SELECT * FROM tempo.spans WHERE name = 'own';
SELECT count(*) FROM tempo.spans WHERE name = 'own';
SELECT count(*) FROM tempo.trace('000000000000000000000000000003ea') WHERE name = 'own';
ROLLBACK;
SELECT span_id, parent_span_id, name FROM tempo.trace('000000000000000000000000000003ea');

-- joins look traces up
SET enable_hashjoin = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT s.span_id FROM (VALUES ('000000000000000000000000000003ea'::tempo.trace_id)) AS v(id), tempo.spans AS s WHERE v.id = s.trace_id OFFSET 0;
EXPLAIN (COSTS OFF) SELECT s.span_id FROM unnest(array['000000000000000000000000000003ea', '000000000000000000000000000007d5']::tempo.trace_id[]) AS v(id), LATERAL (SELECT * FROM tempo.spans WHERE trace_id = v.id AND name <> 'op3' OFFSET 0) AS s;
SELECT v.id, s.span_id FROM unnest(array['000000000000000000000000000003ea', '000000000000000000000000000007d5', NULL]::tempo.trace_id[]) AS v(id)
    LEFT JOIN tempo.spans AS s ON v.id = s.trace_id AND s.name <> 'op3' ORDER BY 1, 2;

SELECT count(*) FROM tempo.spans AS a JOIN tempo.spans AS b USING (trace_id) JOIN tempo.spans AS c USING (trace_id)
    JOIN unnest(array['000000000000000000000000000003ea']::tempo.trace_id[]) AS v(trace_id) USING (trace_id);
RESET enable_hashjoin;
RESET enable_mergejoin;

-- parallel scans
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
EXPLAIN (COSTS OFF) SELECT count(*), sum(duration_nano) FROM tempo.spans WHERE name = 'op1';
SELECT c.* FROM unnest(array['true', $$name = 'op1'$$, $$attributes ->> 'k' = 'a'$$, $$duration_nano > 5000000$$,
    $$trace_id = ANY (array(SELECT x.trace_id FROM tempo.spans AS x WHERE x.name = 'op1' AND x.kind = 'server'))$$,
    $$tempo.match_re(tempo.attr(attributes, resource_attributes, 'any', 'k'), 'a|b', false)$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition) AS c ORDER BY n;
BEGIN;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name) VALUES ('000000000000000000000000000003ea', 'ffffffffffffffff', 1, 1, 'own');
SELECT count(*), count(*) FILTER (WHERE name = 'own') FROM tempo.spans WHERE name IN ('own', 'op1');
ROLLBACK;
SET max_parallel_workers_per_gather = 0;
RESET min_parallel_table_scan_size;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;

-- a policy has its say first
CREATE ROLE tempo_scan_tester;
GRANT tempo_reader TO tempo_scan_tester;
CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$;
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tempo.spans FOR SELECT TO tempo_reader USING (service_name = 'b' AND name = 'op2' AND trace_id < '000000000000000000000000000003f0');
SET ROLE tempo_scan_tester;
EXPLAIN (COSTS OFF) SELECT name FROM tempo.spans WHERE leak(name) AND tempo.match(tempo.attr(attributes, resource_attributes, 'span', 'k'), '=', '"a"') AND duration_nano > 0;
SELECT name, service_name, count(*) FROM tempo.spans WHERE leak(name) GROUP BY 1, 2;
RESET ROLE;
DROP POLICY own ON tempo.spans;
ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY;
DROP FUNCTION leak;
DROP ROLE tempo_scan_tester;

-- a table with its columns in another order, and a partition
CREATE TABLE reordered AS SELECT * FROM tempo.spans WITH NO DATA;
DROP TABLE reordered;
DO $$
BEGIN
    EXECUTE (SELECT 'CREATE TABLE reordered (' || string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attname) || ') USING tempo'
             FROM pg_attribute WHERE attrelid = 'tempo.spans'::regclass AND attnum > 0);
    EXECUTE (SELECT 'INSERT INTO reordered SELECT ' || string_agg(quote_ident(attname), ', ' ORDER BY attname) || ' FROM tempo.spans'
             FROM pg_attribute WHERE attrelid = 'tempo.spans'::regclass AND attnum > 0);
END
$$;
EXPLAIN (COSTS OFF) SELECT attributes ->> 'k' FROM reordered WHERE service_name = 'a' AND start_time > '2023-11-14 22:13:22+00';
SELECT count(*), count(attributes ->> 'k') FROM reordered WHERE service_name = 'a' AND start_time > '2023-11-14 22:13:22+00';
SELECT count(*), count(attributes ->> 'k') FROM tempo.spans WHERE service_name = 'a' AND start_time > '2023-11-14 22:13:22+00';
CREATE TABLE parted (LIKE tempo.spans) PARTITION BY LIST (tenant);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN ('other') USING tempo;
CREATE TABLE parted_2 PARTITION OF parted DEFAULT USING tempo;
INSERT INTO parted SELECT * FROM tempo.spans;
EXPLAIN (COSTS OFF) SELECT count(*) FROM parted WHERE name = 'op1' AND tenant = 'other';
SELECT (SELECT count(*) FROM parted WHERE name = 'op1' AND tenant = 'other') = (SELECT count(*) FROM tempo.spans WHERE name = 'op1' AND tenant = 'other') AS same,
       (SELECT count(*) FROM parted WHERE name = 'op1') = (SELECT count(*) FROM tempo.spans WHERE name = 'op1') AS same;
-- the last time there is
CREATE TABLE last_time (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
INSERT INTO last_time (trace_id, span_id, start_time_unix_nano, duration_nano)
    VALUES (lpad('1', 32, '0')::tempo.trace_id, lpad('1', 16, '0')::tempo.span_id, 9223372036854775807, -1);
SELECT count(*) FROM last_time;
SELECT count(*) FROM last_time WHERE start_time_unix_nano = 9223372036854775807;
SELECT count(*) FROM last_time WHERE start_time_unix_nano <= 9223372036854775807;
SELECT count(*) FROM last_time WHERE start_time_unix_nano < 9223372036854775807;
DROP TABLE last_time;
DROP TABLE reordered, parted, corpus;

-- many rows: columns of codes and of other encodings, rare keys, several blocks
TRUNCATE tempo.spans;
INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano,
    attributes, resource_attributes, scope_name, events, links)
SELECT lpad(to_hex(n / 9 + 1), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
    CASE WHEN n % 9 <> 0 THEN lpad(to_hex(n / 9 * 9 + 1), 16, '0')::tempo.span_id END,
    'op' || n % 3, 'server', 'ok', CASE WHEN n % 11 = 0 THEN 'failed ' || n % 5 ELSE '' END,
    1700000000000000000 + n * 1000, n % 977 * 12345,
    jsonb_strip_nulls(jsonb_build_object('code', CASE WHEN n % 3 > 0 THEN n * 7919 % 50 END, 'id', md5(n::text), 'url', '/p/' || n || '/' || n % 13,
        'mixed', CASE n % 7 WHEN 0 THEN to_jsonb(n % 100) WHEN 1 THEN to_jsonb((n % 100)::text) WHEN 2 THEN to_jsonb(n % 100 + 0.5)
            WHEN 3 THEN to_jsonb(n % 2 = 0) WHEN 4 THEN jsonb_build_array(n % 4, 'x') END,
        'rare', CASE WHEN n % 1500 = 7 THEN n % 2 END, 'big', CASE WHEN n % 5 = 0 THEN n * 1000003::bigint END)),
    jsonb_build_object('service.name', 's' || n % 4, 'code', 'r' || n % 2), 'scope',
    CASE WHEN n % 6 = 0 THEN (SELECT jsonb_agg(jsonb_build_object('name', 'e' || n % 7 + i, 'time_unix_nano', n,
        'attributes', jsonb_build_object('code', n % 5 + i, 'text', 't' || n % 4, 'odd', CASE n / 6 % 3 WHEN 0 THEN jsonb_build_array('a', 'b' || i) WHEN 1 THEN to_jsonb('a'::text) ELSE to_jsonb(i) END))) FROM generate_series(0, n % 3) AS i) ELSE '[]' END,
    CASE WHEN n % 70 = 0 THEN jsonb_build_array(jsonb_build_object('trace_id', lpad('1', 32, '0'), 'span_id', lpad('1', 16, '0'))) ELSE '[]' END
FROM generate_series(0, 19999) AS n;
SELECT c.* FROM unnest(array[
    $$attributes ->> 'code' = '17'$$, $$attributes ->> 'code' <> '17'$$, $$attributes ->> 'code' IN ('17', '18')$$, $$attributes ->> 'id' = md5('777')$$,
    $$attributes ->> 'url' ~ '/1?2$'$$, $$attributes ->> 'url' LIKE '%77%/5'$$, $$attributes ->> 'mixed' = '42'$$, $$attributes -> 'mixed' = '42'$$, $$attributes @> '{"mixed": [2]}'$$,
    $$attributes @> '{"mixed": true, "rare": 1}'$$, $$attributes ->> 'rare' = '1'$$, $$attributes ->> 'rare' IS NULL$$, $$attributes ? 'rare'$$, $$NOT attributes ? 'code'$$,
    $$tempo.match(attributes -> 'mixed', '>', '50')$$, $$tempo.match(tempo.attr(attributes, resource_attributes, 'any', 'code'), '=', '17')$$,
    $$tempo.match(tempo.attr(attributes, resource_attributes, 'any', 'code'), '=', '"r1"')$$, $$tempo.match_re(attributes -> 'url', '/p/1.*/3', false)$$,
    $$tempo.match(attributes -> 'big', '<=', '100000300000')$$, $$tempo.match_re(tempo.attr(attributes, resource_attributes, 'any', 'code'), 'r.', true)$$,
    $$status_message = 'failed 3'$$, $$status_message LIKE '%3'$$, $$status_message <> ''$$, $$parent_span_id IS NULL$$, $$duration > interval '7 ms'$$,
    $$end_time < '2023-11-14 22:13:20.02+00'$$, $$start_time_unix_nano BETWEEN 1700000000005000000 AND 1700000000006000000$$,
    $$events <> '[]'$$, $$events = '[]'$$, $$links <> '[]'$$, $$events @> '[{"name": "e3"}]'$$, $$NOT events @> '[{"name": "e3"}]' AND events <> '[]'$$, $$events @> '[{"name": "e3"}]' OR links <> '[]'$$,
    $$events @> '[{"name": "none"}]'$$, $$events @> '[{"name": "e3"}, {"name": "e4"}]'$$, $$events @> '[{"time_unix_nano": 6}]'$$, $$events @> '[]'$$, $$links @> '[{"name": "e3"}]'$$,
    $$tempo.event_match(events, 'code', '=', '3')$$, $$tempo.event_match(events, 'code', '!=', '3')$$, $$NOT tempo.event_match(events, 'code', '>=', '1')$$, $$tempo.event_match(events, 'text', '=', '"t7"')$$,
    $$tempo.event_match(events, 'odd', '=', '"a"')$$, $$tempo.event_match(events, 'none', '=', '1')$$, $$tempo.event_match_re(events, 'text', 't[12]')$$, $$tempo.event_match_re(events, 'odd', 'a', true)$$,
    $$tempo.event_match(events, 'code', '=', NULL)$$, $$tempo.event_match(events, 'code', '=', '2') OR attributes ->> 'code' = '17'$$,
    $$attributes ->> 'code' = '17' AND duration_nano > 6000000 AND service_name = 's1'$$, $$attributes ->> 'code' = '17' OR status_message = 'failed 1'$$,
    $$NOT (attributes ->> 'code' = '17' OR attributes ->> 'mixed' = '42')$$, $$(attributes ->> 'code' = '17') IS NULL AND name = 'op0'$$,
    $$attributes ->> 'mixed' = '42' AND (attributes ->> 'rare' = '1' OR attributes ->> 'url' LIKE '%1') AND span_id > '0000000000000000'$$,
    $$(attributes ->> 'code')::integer % 10 = 3$$, $$attributes ->> 'code' ~ '^[0-9]+$' AND (attributes ->> 'big')::bigint % 7 = 1$$
    ]) WITH ORDINALITY AS q(condition, n), compare(q.condition, 's.span_id') AS c ORDER BY n;
-- ANALYZE is shown some rows and told of all
SET default_statistics_target = 1;
ANALYZE tempo.spans;
SELECT reltuples FROM pg_class WHERE oid = 'tempo.spans'::regclass;
SELECT attname, n_distinct FROM pg_stats
WHERE schemaname = 'tempo' AND tablename = 'spans' AND attname IN ('service_name', 'name', 'kind', 'span_id') ORDER BY 1;
RESET default_statistics_target;
-- EXPLAIN adds up what all processes did
CREATE FUNCTION explained(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
        IF line ~ 'Gather|Vectorised|Segments Read|Spans ' THEN RETURN NEXT ltrim(regexp_replace(line, ' \(actual.*', ''), ' ->'); END IF;
    END LOOP;
END
$$;
SELECT explained($$SELECT span_id FROM tempo.spans WHERE attributes ->> 'code' = '17' AND span_id <> '0000000000000003'$$);
SELECT explained($$SELECT span_id FROM tempo.spans WHERE attributes ->> 'rare' = '1'$$);
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT explained($$SELECT span_id FROM tempo.spans WHERE attributes ->> 'code' = '17'$$);
SET max_parallel_workers_per_gather = 0;
RESET parallel_leader_participation;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
-- rows that were deleted are not asked about: their values would fail
INSERT INTO tempo.spans (trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
SELECT 'f0000000000000000000000000000001', lpad(to_hex(n), 16, '0')::tempo.span_id, 'fragile', n, 1, jsonb_build_object('n', CASE WHEN n % 100 = 0 THEN 'x' || n ELSE n::text END)
FROM generate_series(1, 5000) AS n;
SELECT count(*) FROM tempo.spans WHERE name = 'fragile' AND (attributes ->> 'n')::integer > 4000;
DELETE FROM tempo.spans WHERE attributes ->> 'n' LIKE 'x%';
SELECT count(*) FROM tempo.spans WHERE name = 'fragile' AND (attributes ->> 'n')::integer > 4000;
-- a condition that looks at what is just being looked at; and one that goes on with a cursor there
CREATE FUNCTION looks_again(v text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$
    SELECT count(*) > 4 FROM tempo.spans AS s WHERE s.attributes ->> 'code' = v AND s.attributes ->> 'id' >= 'a' AND s.name LIKE 'op%'
$$;
SELECT count(*) FROM tempo.spans WHERE looks_again(attributes ->> 'code') AND attributes ->> 'code' LIKE '1%';
SELECT count(*) FROM tempo.spans WHERE attributes ->> 'code' LIKE '1%';
CREATE FUNCTION goes_on(v text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    c refcursor := 'before';
BEGIN
    MOVE FORWARD 100 FROM c;
    RETURN true;
END
$$;
BEGIN;
DECLARE before CURSOR FOR SELECT name FROM tempo.spans WHERE attributes ->> 'id' <> '';
FETCH 1 FROM before;
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT count(*) FROM tempo.spans WHERE goes_on(attributes ->> 'code');
\set VERBOSITY default
ROLLBACK TO s;
COMMIT;
DROP FUNCTION fill, answers, compare, divides, explained, looks_again, goes_on;
TRUNCATE tempo.spans;
