-- The custom aggregate: what it computes, and that it computes what the executor would.
\pset null NULL
\set SHOW_CONTEXT never
SET max_parallel_workers_per_gather = 0;

-- values of every type under few keys, in several segments
CREATE TABLE corpus (a jsonb);
INSERT INTO corpus SELECT ('{"k": ' || v || ', "n": ' || row_number() OVER () || ', "f": 1.5}')::jsonb FROM unnest(array[
    '1', '0', '-1', '2', '1.0', '0.0', '1.5', '-2.5', '9007199254740993', '9223372036854775807', '0.1', '1e300',
    '"a"', '"b"', '""', '"1"', '"nil"', '"ü"', 'true', 'false', 'null', '[]', '["a", "b"]', '[1, 2.5]', '{}', '{"a": 1}',
    '{"$otlp": {"doubleValue": "NaN"}}', '{"$otlp": {"doubleValue": "-0"}}', '{"$otlp": {"bytesValue": "YQ=="}}']) AS v;
INSERT INTO corpus VALUES ('{}'), ('{"n": 2}'), ('{"K": 1}');

-- rows of tempo.spans, and the same in a heap
CREATE TABLE twin (LIKE tempo.spans);
CREATE FUNCTION fill(segment integer, factor integer DEFAULT 1) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (tenant, trace_id, span_id, name, kind, status, status_message, trace_state, flags,
        start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, dropped_attributes_count)
    SELECT CASE WHEN n % 5 = 0 THEN 'other' ELSE 'single-tenant' END,
        lpad(to_hex(segment * 100000 + n / 3 + 1), 32, '0')::tempo.trace_id,
        lpad(to_hex(segment * 100000 + n + 1), 16, '0')::tempo.span_id,
        'op' || n % 4, (array['unspecified', 'internal', 'server', 'client', 'producer', 'consumer', '17'])[1 + n % 7],
        (array['unset', 'ok', 'error', '5'])[1 + n % 4], repeat('x', n::integer % 3), CASE n % 6 WHEN 0 THEN 'ot=th:8' ELSE '' END, n % 3,
        1700000000000000000 + segment * 1000000000::bigint + n * 7000001, (n % 20 - 2) * 1000001 * (1 + n % 1000),
        s.a || CASE n % 7 WHEN 0 THEN jsonb_build_object('unique', md5(n::text), 'uuid', md5(n::text)::uuid) WHEN 1 THEN jsonb_build_object('number', n * 12345) ELSE '{}' END
            || CASE WHEN n % 1500 = 3 THEN jsonb_build_object('rare', n % 2) ELSE '{}' END,
        CASE n % 4 WHEN 0 THEN r.a WHEN 1 THEN '{"service.name": "a"}' WHEN 2 THEN '{"service.name": "b", "k": "a"}'
            ELSE '{"service.name": ""}' END,
        'scope' || n % 2, n % 4
    FROM (SELECT row_number() OVER (ORDER BY x, s.ctid, r.ctid) AS n, s.a, r.a FROM corpus AS s, corpus AS r, generate_series(1, factor) AS x
          WHERE factor > 1 OR md5(s.a::text || r.a::text || segment) < '2') AS t(n, s, r), LATERAL (SELECT s AS a) AS s, LATERAL (SELECT r AS a) AS r
$$;
SELECT fill(1);
SELECT fill(2);
SELECT fill(3, 22);
INSERT INTO twin SELECT * FROM tempo.spans;
SELECT count(*) > 20000 AS enough FROM tempo.spans;
ANALYZE tempo.spans;
ANALYZE twin;

-- the answer of both ways and of the heap, and whether the custom aggregate gave it
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
        IF line LIKE '%TempoAggregate%' THEN RETURN true; END IF;
    END LOOP;
    RETURN false;
END
$$;
CREATE FUNCTION compare(query text, OUT clause text, OUT custom boolean, OUT rows bigint, OUT same boolean)
LANGUAGE plpgsql AS $$
DECLARE
    off text;
    heap text;
    given text;
    text text := replace(query, 'FROM s', 'FROM tempo.spans AS s');
BEGIN
    SET LOCAL extra_float_digits = -6;
    SET LOCAL tempo_pg.enable_custom_aggregate = off;
    off := digest(text);
    heap := digest(replace(query, 'FROM s', 'FROM twin AS s'));
    SET LOCAL tempo_pg.enable_custom_aggregate = on;
    given := digest(text);
    clause := query;
    custom := is_custom(text);
    rows := split_part(given, ' ', 1);
    same := given = off AND given = heap;
END
$$;

EXPLAIN (COSTS OFF) SELECT (start_time_unix_nano - 1700000000000000001) / 15000000000 AS bucket, coalesce(service_name, '') AS service, count(*)
    FROM tempo.spans WHERE status = 'error' GROUP BY 1, 2;
EXPLAIN (COSTS OFF, VERBOSE) SELECT attributes ->> 'k' AS k, avg(duration_nano), min(start_time) FILTER (WHERE kind = 'server')
    FROM tempo.spans AS s WHERE duration_nano > 0 AND parent_span_id IS NULL GROUP BY 1 HAVING count(*) > 1;

-- grouping expressions
SELECT c.* FROM unnest(array[
    $$SELECT count(*) FROM s$$, $$SELECT count(*) AS n FROM s HAVING count(*) > 1$$, $$SELECT 1 AS one FROM s HAVING count(*) < 0$$,
    $$SELECT service_name, count(*) FROM s GROUP BY 1$$, $$SELECT coalesce(service_name, '') AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT name, kind, status, count(*) FROM s GROUP BY 1, 2, 3$$, $$SELECT name, kind FROM s GROUP BY 1, 2$$, $$SELECT tenant, scope_name, scope_version, count(*) FROM s GROUP BY 1, 2, 3$$,
    $$SELECT upper(name) || kind AS k, count(*) FROM s GROUP BY 1$$, $$SELECT name = 'op1' AS k, count(*) FROM s GROUP BY 1$$, $$SELECT resource_attributes, count(*) FROM s GROUP BY 1$$,
    $$SELECT status_message, trace_state, flags, count(*) FROM s GROUP BY 1, 2, 3$$, $$SELECT dropped_attributes_count, count(*) FROM s GROUP BY 1$$,
    $$SELECT (tempo.attr(s.attributes, s.resource_attributes, 'span', 'k'))::text AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT (tempo.attr(s.attributes, s.resource_attributes, 'any', 'k'))::text AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT (tempo.attr(s.attributes, s.resource_attributes, 'resource', 'k'))::text AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT attributes ->> 'k' AS k, count(*) FROM s GROUP BY 1$$, $$SELECT attributes ->> 'k' AS k, attributes -> 'f' AS f, attributes ? 'n' AS n, count(*) FROM s GROUP BY 1, 2, 3$$,
    $$SELECT attributes ->> 'unique' AS k, count(*) FROM s GROUP BY 1$$, $$SELECT attributes ->> 'uuid' AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT attributes ->> 'number' AS k, attributes ->> 'rare' AS r, count(*) FROM s GROUP BY 1, 2$$, $$SELECT attributes ->> 'rare' AS r, count(*) FROM s GROUP BY 1$$,
    $$SELECT attributes ->> 'absent' AS k, count(*) FROM s GROUP BY 1$$, $$SELECT attributes -> 'k' AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT (attributes ->> 'n')::integer % 3 AS k, count(*) FROM s GROUP BY 1$$, $$SELECT attributes @> '{"k": "a"}' AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT (start_time_unix_nano - 1700000001000000001) / 1000000000 AS b, count(*) FROM s GROUP BY 1$$, $$SELECT (start_time_unix_nano - 1700000002000000000) / 7 AS b, count(*) FROM s GROUP BY 1$$,
    $$SELECT start_time_unix_nano / 1000000000 AS b, name, count(*) FROM s GROUP BY 1, 2$$, $$SELECT (start_time_unix_nano - 5) / 3000000 AS b, count(*) FROM s GROUP BY 1$$,
    $$SELECT (start_time_unix_nano - 1900000000000000000) / 60000000000 AS b, count(*) FROM s GROUP BY 1$$,
    $$SELECT date_bin('10 ms', start_time, '2001-01-01') AS b, count(*) FROM s GROUP BY 1$$, $$SELECT date_bin('1 day 3 s', start_time, '2100-01-01') AS b, count(*) FROM s GROUP BY 1$$,
    $$SELECT date_bin('250 ms', start_time, '2023-11-14 22:13:30+00') AS b, name, count(*) FROM s GROUP BY 1, 2$$,
    $$SELECT tempo.log2_bucket(greatest(duration_nano, 0)) AS l, count(*) FROM s GROUP BY 1$$, $$SELECT tempo.log2_bucket(duration_nano) AS l, name, count(*) FROM s GROUP BY 1, 2$$,
    $$SELECT start_time_unix_nano / 1000000000 AS b, service_name AS k, tempo.log2_bucket(greatest(duration_nano, 0)) AS l, count(*) FROM s GROUP BY 1, 2, 3$$,
    $$SELECT name || 'x' AS x, count(*) + 1 AS n FROM s GROUP BY name$$, $$SELECT name, kind FROM s GROUP BY 1, 2 HAVING count(*) > 100 AND max(duration_nano) > 0$$,
    $$SELECT k, sum(n) FROM (SELECT name, kind AS k, count(*) AS n FROM s GROUP BY 1, 2) AS t GROUP BY 1$$,
    $$SELECT name, count(*) FROM s GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 2$$,
    -- not by the custom aggregate
    $$SELECT duration_nano / 1000000 AS d, count(*) FROM s GROUP BY 1$$, $$SELECT trace_id, count(*) FROM s GROUP BY 1$$, $$SELECT date_trunc('hour', start_time) AS h, count(*) FROM s GROUP BY 1$$,
    $$SELECT start_time_unix_nano / 1000 AS a, start_time_unix_nano / 7000 AS b, count(*) FROM s GROUP BY 1, 2$$, $$SELECT attributes, count(*) FROM s GROUP BY 1$$,
    $$SELECT name, kind, count(*) FROM s GROUP BY ROLLUP (1, 2)$$, $$SELECT attributes ->> name AS k, count(*) FROM s GROUP BY 1$$, $$SELECT (SELECT s.name) AS k, count(*) FROM s GROUP BY 1$$,
    $$SELECT tableoid::regclass::text LIKE '%' AS k, count(*) FROM s GROUP BY 1$$, $$SELECT unnest(array[name, kind]) AS k, count(*) FROM s GROUP BY 1$$
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c ORDER BY n;

-- aggregates
SELECT c.* FROM unnest(array[
    $$SELECT name, sum(duration_nano), avg(duration_nano), min(duration_nano), max(duration_nano), count(duration_nano) FROM s GROUP BY 1$$,
    $$SELECT sum(greatest(duration_nano, 0)), avg(greatest(duration_nano, 0)), min(greatest(duration_nano, 0)), max(greatest(duration_nano, 0)) FROM s$$,
    $$SELECT sum(duration_nano::float8), avg(duration_nano::float8), min(duration_nano::float8), max(greatest(duration_nano, 0)::float8) FROM s$$,
    $$SELECT name, min(start_time), max(start_time), min(end_time), max(end_time), min(start_time_unix_nano), max(start_time_unix_nano), sum(start_time_unix_nano), avg(start_time_unix_nano) FROM s GROUP BY 1$$,
    $$SELECT kind, count(attributes ->> 'k'), count(service_name), count(1), count(NULL), count(parent_span_id IS NULL) FROM s GROUP BY 1$$, $$SELECT kind, count(attributes ->> 'k'), count(service_name), count(1), count(NULL::integer) FROM s GROUP BY 1$$,
    $$SELECT name, sum(tempo.number(tempo.attr(s.attributes, s.resource_attributes, 'span', 'n'))), count(tempo.number(tempo.attr(s.attributes, s.resource_attributes, 'span', 'n'))) FROM s GROUP BY 1$$,
    $$SELECT name, min(tempo.number(attributes -> 'k')), max(tempo.number(attributes -> 'k')) FROM s GROUP BY 1$$, $$SELECT name, sum(tempo.number(attributes -> 'k')) FROM s GROUP BY 1$$,
    $$SELECT name, avg(tempo.number(attributes -> 'n')), avg((attributes ->> 'f')::float8), avg((attributes ->> 'absent')::float8), sum((attributes ->> 'absent')::float8) FROM s GROUP BY 1$$,
    $$SELECT sum((attributes ->> 'n')::bigint), avg((attributes ->> 'number')::bigint), min((attributes ->> 'number')::bigint), max((attributes ->> 'absent')::bigint) FROM s$$,
    $$SELECT sum(9223372036854775807), sum(-9223372036854775807), avg(9223372036854775807), sum(0::bigint), avg(NULL::bigint) FROM s$$,
    $$SELECT name, count(*) FILTER (WHERE kind = 'server'), sum(duration_nano) FILTER (WHERE attributes ->> 'k' = 'a'), avg(duration_nano) FILTER (WHERE false), min((attributes ->> 'n')::float8) FILTER (WHERE status = 'ok') FROM s GROUP BY 1$$,
    $$SELECT kind, count(*) FILTER (WHERE NULL) FROM s GROUP BY 1$$, $$SELECT sum(tempo.sampling_weight(trace_state)), sum(flags) FROM s$$,
    $$SELECT name, count(*) * 2 + sum(duration_nano) AS x FROM s GROUP BY 1 HAVING avg(duration_nano) > 0$$,
    -- not by the custom aggregate
    $$SELECT name, count(DISTINCT kind) FROM s GROUP BY 1$$, $$SELECT name, string_agg(kind, ',' ORDER BY kind) FROM s GROUP BY 1$$, $$SELECT count(*) FILTER (WHERE duration_nano > 0) FROM s$$,
    $$SELECT name, percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_nano) FROM s GROUP BY 1$$, $$SELECT max(name) FROM s$$, $$SELECT sum(duration_nano / 2) FROM s$$, $$SELECT bool_or(name = 'op1') FROM s$$
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c ORDER BY n;

-- conditions
SELECT c.* FROM unnest(array[
    $$status = 'error'$$, $$name = 'none'$$, $$kind IN ('server', 'client') AND service_name = 'a'$$, $$attributes ->> 'k' = 'a'$$, $$NOT attributes ->> 'k' = 'a'$$, $$attributes @> '{"k": "a"}'$$,
    $$tempo.match(tempo.attr(attributes, resource_attributes, 'any', 'k'), '=', '1')$$, $$tempo.match_re(tempo.attr(attributes, resource_attributes, 'span', 'k'), 'a|b', false)$$,
    $$attributes ->> 'unique' LIKE '0%'$$, $$attributes ->> 'rare' = '1'$$, $$(attributes ->> 'number')::bigint > 1000000$$, $$attributes ? 'uuid' AND name = 'op1'$$,
    $$start_time_unix_nano >= 1700000003000000000 AND start_time_unix_nano < 1700000004000000000$$, $$duration_nano > 5000000$$, $$duration_nano = 1000001$$, $$duration_nano BETWEEN -5 AND 5000000$$,
    $$start_time_unix_nano > 1700000003050000000 AND duration_nano < 100000000 AND status = 'ok'$$, $$start_time >= '2023-11-14 22:13:22+00'$$, $$duration > interval '5 ms'$$, $$duration_nano <> 1000001$$,
    $$status = 'error' OR duration_nano > 50000000$$, $$parent_span_id IS NULL AND name = 'op2'$$, $$span_id = '00000000000186a1'$$, $$NOT (name = 'op1' AND start_time_unix_nano > 1700000003000000000)$$,
    $$start_time_unix_nano < 0$$, $$duration_nano < -9223372036854775808$$, $$start_time_unix_nano > 9223372036854775807$$, $$name = NULL$$, $$1 = 0$$, $$now() > '2000-01-01'$$,
    $$(SELECT true)$$, $$name = (SELECT 'op1')$$, $$duration_nano > (SELECT 5000000::bigint)$$,
    -- not by the custom aggregate
    $$random() >= 0 AND name = 'op1'$$, $$length(status_message) = duration_nano % 3$$, $$trace_id = '000000000000000000000000000186a1'$$
    ]) WITH ORDINALITY AS q(condition, n),
    compare($$SELECT (start_time_unix_nano - 1700000001000000000) / 100000000 AS b, service_name, attributes ->> 'k' AS k, count(*), sum(duration_nano) FROM s WHERE $$ || q.condition || ' GROUP BY 1, 2, 3') AS c ORDER BY n;
-- grouped by what a condition makes constant
SELECT count(*) FROM tempo.spans WHERE name = 'none' GROUP BY name;
SELECT name, count(*) > 1 AS some FROM tempo.spans WHERE name = 'op1' GROUP BY name;
-- errors are those of rows that pass
SELECT (attributes ->> 'k')::integer, count(*) FROM tempo.spans WHERE attributes ->> 'k' IN ('1', '2', '0') GROUP BY 1 ORDER BY 1;
SELECT (attributes ->> 'k')::integer, count(*) FROM tempo.spans WHERE attributes ->> 'k' = 'ü' GROUP BY 1;
SELECT (start_time_unix_nano - (-9223372036854775807)) / 10, count(*) FROM tempo.spans GROUP BY 1;
SELECT start_time_unix_nano / 0, count(*) FROM tempo.spans GROUP BY 1;

-- memory that is full before all is read
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
SELECT c.* FROM unnest(array[
    $$SELECT attributes ->> 'unique' AS k, name, count(*), avg(duration_nano) FROM s GROUP BY 1, 2$$, $$SELECT start_time_unix_nano / 1000000 AS b, service_name, sum(duration_nano) FROM s GROUP BY 1, 2$$
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c ORDER BY n;
RESET work_mem;
RESET hash_mem_multiplier;

-- parameters, rescans, joins
PREPARE by_name(text, bigint) AS SELECT kind, count(*) FROM tempo.spans WHERE name = $1 AND duration_nano > $2 AND attributes ->> 'k' LIKE '%' || $1 GROUP BY 1 ORDER BY 1;
PREPARE by_key(text) AS SELECT coalesce(service_name, $1) AS k, count(*) FROM tempo.spans GROUP BY 1 ORDER BY 1;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_key('none');
EXECUTE by_key('none');
EXECUTE by_name('op1', 0);
EXECUTE by_name(NULL, 0);
RESET plan_cache_mode;
SELECT v.n, s.c FROM (VALUES ('op1'), ('op2'), (NULL), ('none')) AS v(n), LATERAL (SELECT count(*) AS c FROM tempo.spans AS s WHERE s.name = v.n) AS s;
SELECT v.n, (SELECT sum(s.duration_nano) FROM tempo.spans AS s WHERE s.name = v.n OFFSET 0) = (SELECT sum(s.duration_nano) FROM twin AS s WHERE s.name = v.n) AS same FROM (VALUES ('op1'), ('op2')) AS v(n);
SELECT a.name, a.n = b.n AS same FROM (SELECT name, count(*) AS n FROM tempo.spans GROUP BY 1) AS a JOIN (SELECT name, count(*) AS n FROM twin GROUP BY 1) AS b USING (name) ORDER BY 1;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT name, count(*) > 0 AS some FROM tempo.spans GROUP BY 1 ORDER BY 1;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
COMMIT;

-- rows of the own transaction, in segments and in memory
BEGIN;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name, attributes) VALUES ('00000000000000000000000000000001', 'ffffffffffffffff', 1, 1, 'own', '{"k": "own"}');
SELECT name, attributes ->> 'k' AS k, count(*), sum(duration_nano) FROM tempo.spans WHERE name IN ('own', 'none') GROUP BY 1, 2;
SAVEPOINT s;
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name) VALUES ('00000000000000000000000000000002', 'fffffffffffffffe', 2000000000, 3, 'own');
SELECT name, count(*), sum(duration_nano) FROM tempo.spans WHERE name = 'own' GROUP BY 1;
SELECT start_time_unix_nano / 1000000000 AS b, count(*) FROM tempo.spans WHERE name = 'own' GROUP BY 1 ORDER BY 1;
SELECT tempo.log2_bucket(duration_nano) AS l, min(start_time_unix_nano), count(*) FROM tempo.spans WHERE name = 'own' GROUP BY 1 ORDER BY 1;
ROLLBACK TO s;
SELECT name, count(*), sum(duration_nano) FROM tempo.spans WHERE name = 'own' GROUP BY 1;
CREATE FUNCTION count_own() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT count(*) FROM tempo.spans WHERE name = 'own' $$;
WITH i AS (INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, name)
    SELECT '00000000000000000000000000000002', lpad(to_hex(g), 16, 'e')::tempo.span_id, g, 3, 'own' FROM generate_series(1, 3) AS g WHERE count_own() >= 0 RETURNING 1)
SELECT count(*) FROM i;
SELECT count_own();
ROLLBACK;

-- deleted rows
DELETE FROM tempo.spans WHERE name = 'op3' AND kind = 'server';
DELETE FROM twin WHERE name = 'op3' AND kind = 'server';
DELETE FROM tempo.spans WHERE start_time_unix_nano % 5 = 0;
DELETE FROM twin WHERE start_time_unix_nano % 5 = 0;
SELECT c.* FROM unnest(array[
    $$SELECT name, kind, count(*), sum(duration_nano) FROM s GROUP BY 1, 2$$, $$SELECT count(*) FROM s$$, $$SELECT start_time_unix_nano / 100000000 AS b, count(*) FROM s GROUP BY 1$$,
    $$SELECT service_name, count(*) FROM s WHERE name = 'op3' AND duration_nano > 0 GROUP BY 1$$, $$SELECT service_name, count(*) FROM s WHERE name = 'op3' OR duration_nano > 0 GROUP BY 1$$
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c ORDER BY n;

-- parallel
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
EXPLAIN (COSTS OFF) SELECT name, sum(duration_nano) FROM tempo.spans GROUP BY 1;
SELECT c.* FROM unnest(array[
    $$SELECT count(*) FROM s$$, $$SELECT name, kind, count(*), sum(duration_nano), avg(duration_nano), min(start_time), avg(duration_nano::float8) FROM s GROUP BY 1, 2$$,
    $$SELECT attributes ->> 'k' AS k, count(*) FROM s WHERE duration_nano > 0 GROUP BY 1$$, $$SELECT start_time_unix_nano / 100000000 AS b, tempo.log2_bucket(duration_nano) AS l, count(*) FROM s GROUP BY 1, 2$$,
    $$SELECT service_name, sum((attributes ->> 'n')::bigint) FROM s WHERE start_time_unix_nano > 1700000003050000000 GROUP BY 1$$, $$SELECT avg((attributes ->> 'absent')::float8), sum(-9223372036854775807) FROM s$$
    ]) WITH ORDINALITY AS q(query, n), compare(q.query) AS c ORDER BY n;
SET max_parallel_workers_per_gather = 0;
RESET min_parallel_table_scan_size;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;

-- a policy has its say first
CREATE ROLE tempo_agg_tester;
GRANT tempo_reader TO tempo_agg_tester;
CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$;
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tempo.spans FOR SELECT TO tempo_reader USING (service_name = 'b' AND name = 'op2');
SET ROLE tempo_agg_tester;
EXPLAIN (COSTS OFF) SELECT status, count(*) FROM tempo.spans GROUP BY 1;
SELECT service_name, count(*) > 10 AS some FROM tempo.spans GROUP BY 1;
EXPLAIN (COSTS OFF) SELECT status, count(*) FROM tempo.spans WHERE leak(kind) GROUP BY 1;
SELECT leak(name), count(*) > 10 AS some FROM tempo.spans GROUP BY 1;
RESET ROLE;
DROP POLICY own ON tempo.spans;
ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY;
DROP FUNCTION leak;
DROP ROLE tempo_agg_tester;

-- random combinations of what was tried one by one
CREATE TABLE differing AS
WITH parts AS (
    SELECT array['name', 'kind', 'service_name', 'coalesce(service_name, '''')', 'attributes ->> ''k''', 'attributes -> ''n''', 'attributes ->> ''unique''', 'status_message', 'upper(name)',
                 'start_time_unix_nano / 77000000', '(start_time_unix_nano - 1700000003000000000) / 1000000000', 'date_bin(''33 ms'', start_time, ''2020-02-02'')',
                 'tempo.log2_bucket(greatest(duration_nano, 0))', 'flags', 'tenant'] AS keys,
           array['count(*)', 'sum(duration_nano)', 'avg(greatest(duration_nano, 0))', 'min(start_time)', 'max(end_time)', 'count(attributes ->> ''k'')', 'sum((attributes ->> ''n'')::float8)',
                 'max((attributes ->> ''number'')::bigint)', 'count(*) FILTER (WHERE kind = ''server'')', 'min(duration_nano) FILTER (WHERE attributes ->> ''k'' LIKE ''a%'')'] AS results,
           array['true', 'status = ''error''', 'duration_nano > 3000000', 'attributes ->> ''k'' IN (''a'', ''1'')', 'start_time_unix_nano < 1700000003100000000', 'NOT name = ''op1''',
                 'service_name IS NULL OR duration_nano < 0', 'attributes ? ''unique''', 'tempo.match(attributes -> ''n'', ''>'', ''3'')'] AS conditions),
queries AS (
    SELECT format('SELECT %s AS a, %s AS b, %s AS c, %s AS d FROM s WHERE %s AND %s GROUP BY 1, 2', k[1], k[2], results[1 + (h[3] % 10)], results[1 + (h[4] % 10)], conditions[1 + (h[5] % 9)], conditions[1 + (h[6] % 9)]) AS query
    FROM parts, generate_series(1, 60) AS g,
        LATERAL (SELECT array_agg(abs(hashint4(g * 100 + i))) AS h FROM generate_series(1, 6) AS i) AS r,
        LATERAL (SELECT array[keys[1 + (h[1] % 15)], keys[1 + (h[2] % 15)]] AS k) AS k)
SELECT c.* FROM queries AS q, compare(q.query) AS c;
SELECT count(*), count(*) FILTER (WHERE custom) > 40 AS many, count(*) FILTER (WHERE rows > 0) > 40 AS some, count(*) FILTER (WHERE NOT same) AS different FROM differing;
SELECT clause FROM differing WHERE NOT same;

-- what a condition makes constant is no group by itself, nor one without rows
SELECT name, count(*) > 10 AS some FROM tempo.spans WHERE name = 'op1' GROUP BY 1;
SELECT name, count(*) FROM tempo.spans WHERE name = 'none' GROUP BY 1;

-- an empty table, a table with its columns in another order
TRUNCATE tempo.spans;
SELECT count(*), sum(duration_nano), avg(duration_nano), min(start_time) FROM tempo.spans;
SELECT name, count(*) FROM tempo.spans GROUP BY 1;
DO $$
BEGIN
    EXECUTE (SELECT 'CREATE TABLE reordered (' || string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attname) || ') USING tempo'
             FROM pg_attribute WHERE attrelid = 'tempo.spans'::regclass AND attnum > 0);
    EXECUTE (SELECT 'INSERT INTO reordered SELECT ' || string_agg(quote_ident(attname), ', ' ORDER BY attname) || ' FROM twin'
             FROM pg_attribute WHERE attrelid = 'tempo.spans'::regclass AND attnum > 0);
END
$$;
EXPLAIN (COSTS OFF) SELECT service_name, attributes ->> 'k', tempo.log2_bucket(duration_nano), sum(duration_nano) FROM reordered GROUP BY 1, 2, 3;
SELECT count(*) FROM (SELECT service_name, attributes ->> 'k', tempo.log2_bucket(duration_nano), sum(duration_nano) FROM reordered GROUP BY 1, 2, 3
    EXCEPT SELECT service_name, attributes ->> 'k', tempo.log2_bucket(duration_nano), sum(duration_nano) FROM twin GROUP BY 1, 2, 3) AS d;
DROP TABLE reordered, twin, corpus, differing;
DROP FUNCTION fill, digest, is_custom, compare;
