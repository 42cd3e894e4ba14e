-- The newest traces with certain spans: what the planner makes of the query, and that the rows are the same without.
\pset null NULL
\set SHOW_CONTEXT never
SET max_parallel_workers_per_gather = 0;
-- of few spans other plans are as cheap
SET enable_sort = off;

-- ten spans a trace, every second trace with a late half in another segment
CREATE FUNCTION fill(late boolean) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (tenant, trace_id, span_id, name, kind, start_time_unix_nano, duration_nano, attributes, resource_attributes)
    SELECT CASE WHEN i / 10 % 4 = 0 THEN 'other' ELSE 'single-tenant' END, lpad(to_hex(i / 10 + 1), 32, '0')::tempo.trace_id,
        lpad(to_hex(i + 1), 16, '0')::tempo.span_id, 'op' || i % 7, 'server',
        1700000000000000000 + i * 1000000 + CASE WHEN late THEN 50000000 ELSE 0 END, i,
        jsonb_build_object('k', i % 50), jsonb_build_object('service.name', 'svc' || i % 3)
    FROM generate_series(0, 1999) AS i WHERE late = (i / 10 % 2 = 1 AND i % 10 >= 5)
$$;
SELECT fill(false);
SELECT fill(true);
ANALYZE tempo.spans;

-- is the plan the one that stops early, and are the rows the same?
CREATE FUNCTION compare(query text, OUT plan text, OUT rows bigint, OUT same boolean) LANGUAGE plpgsql AS $$
DECLARE
    line text;
    a text;
    b text;
BEGIN
    SET LOCAL tempo_pg.enable_custom_scan = on;
    plan := 'other';
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line LIKE '%TempoNewestTraces%' THEN plan := 'newest first'; END IF;
    END LOOP;
    query := format('SELECT count(*), string_agg(t::text, '','') FROM (%s) AS t', query);
    EXECUTE query INTO rows, a;
    SET LOCAL tempo_pg.enable_custom_scan = off;
    EXECUTE query INTO rows, b;
    SET LOCAL tempo_pg.enable_custom_scan = on;
    same := a IS NOT DISTINCT FROM b;
END
$$;

EXPLAIN (COSTS OFF) SELECT trace_id, min(start_time_unix_nano) FROM tempo.spans WHERE tenant = 'other' GROUP BY trace_id
    HAVING bool_or(name = 'op1') AND (bool_or(kind = 'client') OR bool_or(attributes ->> 'k' = '7')) AND min(start_time_unix_nano) <= 1700000001000000000 AND count(*) > 3
    ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3;

SELECT q, c.* FROM unnest(array[
    'SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC LIMIT 5',
    'SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id',
    'SELECT trace_id, min(start_time_unix_nano) AS start FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''op3'' AND attributes ->> ''k'' = ''17'') ORDER BY start DESC, trace_id LIMIT 2',
    'SELECT trace_id, sum(duration_nano) FROM tempo.spans WHERE tenant = ''other'' GROUP BY trace_id HAVING bool_or(name = ''op3'') AND bool_or(service_name = ''svc1'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 4',
    'SELECT trace_id, max(name) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''op3'') AND min(start_time_unix_nano) <= 1700000000500000000 AND max(name) = ''op6'' ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 4',
    'SELECT trace_id FROM tempo.spans WHERE length(name) = 3 AND span_id < ''0000000000000500'' GROUP BY trace_id HAVING bool_or(name = ''none'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 4',
    'SELECT trace_id, max(tempo.pick(attributes, ARRAY[''k'', ''none''])::text) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''op2'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3',
    'SELECT trace_id, sum((tempo.pick(attributes, ''{none}'') = ''{}'')::int), max(attributes ->> ''k''), count(tempo.pick(attributes, NULL)) FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3',
    'SELECT trace_id, max(tempo.pick(attributes, ''{none}'')::text), max(attributes::text) FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3',
    'SELECT trace_id, max(tempo.pick(attributes, ''{none}'')::text) FROM tempo.spans WHERE attributes::text LIKE ''%1%'' GROUP BY trace_id HAVING count(*) FILTER (WHERE attributes @> ''{"k": 1}'') < 2 ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3',
    -- not the same thing
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''op3'') ORDER BY min(start_time_unix_nano), trace_id LIMIT 4',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id DESC LIMIT 4',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id ORDER BY max(start_time_unix_nano) DESC, trace_id LIMIT 4',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) FILTER (WHERE name = ''op1'') DESC, trace_id LIMIT 4',
    'SELECT name FROM tempo.spans GROUP BY name ORDER BY min(start_time_unix_nano) DESC LIMIT 4']) AS q, compare(q) AS c;

-- all traces, or many of them, are read faster otherwise; statistics tell how many
RESET enable_sort;
SELECT h, c.* FROM unnest(array['true', 'bool_or(name = ''op3'')', 'bool_or(name = ''op3'') AND bool_or(name = ''op5'' AND kind = ''server'')', 'bool_or(name = ''none'')', 'bool_or(name IN (''op2'', ''op3'')) AND bool_or(name = ''none'')',
    'bool_or(name = ''op3'') OR bool_or(name = ''none'')', 'bool_or(name = ''op3'' AND start_time_unix_nano < 1700000000010000000)']) AS h,
    compare('SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING ' || h || ' ORDER BY min(start_time_unix_nano) DESC, trace_id') AS c;
SET enable_sort = off;

-- aggregates that want their input in an order of their own
SELECT c.rows, c.same FROM compare('SELECT trace_id, string_agg(span_id::text, '','' ORDER BY kind DESC, span_id DESC) FROM tempo.spans GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 5') AS c;

-- again and again, with other values
SELECT v.op, t.* FROM (VALUES ('op1'), ('op2'), ('none'), (NULL)) AS v(op) LEFT JOIN LATERAL (
    SELECT trace_id, count(*) FROM tempo.spans WHERE name = v.op GROUP BY trace_id ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2) AS t ON true;

-- rows that the own transaction has and cannot write yet, and deleted ones
BEGIN;
DELETE FROM tempo.spans WHERE name = 'op5';
SELECT c.* FROM compare('SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name <> ''op1'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 30') AS c;
INSERT INTO tempo.spans (trace_id, span_id, name, kind, start_time_unix_nano, duration_nano, attributes, resource_attributes)
    VALUES ('000000000000000000000000000000aa', '00000000000000aa', 'op3', 'server', 1700000000000000001, 1, '{}', '{}'),
    ('00000000000000000000000000000abc', '00000000000000aa', 'op3', 'server', 1700000001500000001, 1, '{}', '{}');
SAVEPOINT s;
SELECT c.* FROM compare('SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name <> ''op1'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60') AS c;
ROLLBACK;

-- row security comes before what HAVING looks at
CREATE ROLE regress_newest;
GRANT tempo_reader TO regress_newest;
CREATE FUNCTION leak(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
BEGIN
    IF $1 = 'op5' THEN RAISE 'a hidden name was seen'; END IF;
    RETURN true;
END
$$;
CREATE POLICY no_op5 ON tempo.spans TO regress_newest USING (tenant = 'single-tenant' AND name <> 'op5');
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
SET ROLE regress_newest;
SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING bool_or(leak(name)) AND bool_or(service_name = 'svc1') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2;
RESET ROLE;
DROP POLICY no_op5 ON tempo.spans;
CREATE POLICY odd ON tempo.spans TO regress_newest USING (length(name) + duration_nano % 2 = 4);
SET ROLE regress_newest;
SELECT trace_id, count(*), min(start_time_unix_nano) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = 'op2') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2;
SET tempo_pg.enable_custom_scan = off;
SELECT trace_id, count(*), min(start_time_unix_nano) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = 'op2') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2;
RESET tempo_pg.enable_custom_scan;
RESET ROLE;

-- what is leakproof of a condition says where to look before the policy has been asked, and nothing else does
CREATE FUNCTION searched(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
        IF line ~ 'TempoNewestTraces|Spans Searched' THEN RETURN NEXT regexp_replace(regexp_replace(ltrim(line), ' .actual.*', ''), '[1-9][0-9]*', 'some'); END IF;
    END LOOP;
END
$$;
SET enable_hashagg = off;
SET ROLE regress_newest;
SELECT q, c.* FROM unnest(array[
    'bool_or(length(name) = 3 AND start_time_unix_nano < 1600000000000000000)',
    'bool_or(length(name) = 3 AND start_time_unix_nano < 1800000000000000000)',
    'bool_or(start_time_unix_nano < 1600000000000000000) AND bool_or(service_name = ''none'' AND attributes ->> ''k'' <> ''x'')',
    'bool_or(start_time_unix_nano < 1600000000000000000) AND bool_or(attributes ->> ''k'' = ''none'')',
    'bool_or(attributes ->> ''k'' = ''none'')']) AS q,
    searched(format('SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING %s ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2', q)) AS c;
SELECT q, c.* FROM unnest(array[
    'bool_or(leak(name) AND name = ''op1'')',
    'bool_or(leak(name) AND name = ''op5'' AND start_time_unix_nano < 1700000000500000000)',
    'bool_or(name = ''op3'' AND attributes ->> ''k'' = ''17'') AND bool_or(service_name = ''svc1'')']) AS q,
    compare(format('SELECT trace_id, count(*) FROM tempo.spans WHERE name <> ''op5'' GROUP BY trace_id HAVING %s ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 2', q)) AS c;
RESET ROLE;
RESET enable_hashagg;
DROP FUNCTION searched;
ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY;
DROP POLICY odd ON tempo.spans;
DROP FUNCTION leak;
REVOKE tempo_reader FROM regress_newest;
DROP ROLE regress_newest;

-- related spans: chains of three, the last of which in every second trace hangs on a span that is not there; some traces in two parts
TRUNCATE tempo.spans;
CREATE FUNCTION chains(late boolean) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, start_time_unix_nano, duration_nano)
    SELECT lpad(to_hex(t + 1), 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id,
        CASE WHEN i > 1 THEN lpad(to_hex(CASE WHEN i = 3 AND t % 2 = 1 THEN 9 ELSE i - 1 END), 16, '0')::tempo.span_id END,
        chr(96 + i) || CASE WHEN t % 50 = 3 THEN '!' ELSE '' END, 'server', 1700000000000000000 + t * 1000000 + i, 1
    FROM generate_series(0, 399) AS t, generate_series(1, 3) AS i WHERE late = (t % 10 = 7 AND i = 3)
$$;
SELECT chains(false);
SELECT chains(true);
ANALYZE tempo.spans;
CREATE FUNCTION unrelated(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
        IF line ~ 'Traces (Located|Returned|Without)' THEN RETURN NEXT ltrim(line); END IF;
    END LOOP;
END
$$;
SELECT q, c.* FROM unnest(array[
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''a'') AND bool_or(name = ''c'') AND tempo.may_be_related(''>>'', name = ''a'', name = ''c'', span_id, parent_span_id) ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related(''>'', name = ''a'', name = ''c'', span_id, parent_span_id) AND bool_or(name = ''a'') AND bool_or(name = ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related(''>'', name = ''b'', name = ''c'', span_id, parent_span_id) AND bool_or(name = ''b'') AND bool_or(name = ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 70',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related(''>>'', name < ''c'', name < ''c'', span_id, parent_span_id) AND bool_or(name < ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60',
    'SELECT trace_id FROM tempo.spans WHERE name <> ''b'' GROUP BY trace_id HAVING tempo.may_be_related(''>>'', name = ''a'', name = ''c'', span_id, parent_span_id) AND bool_or(name = ''a'') AND bool_or(name = ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related(''>>'', name = ''a'', name = ''c'', span_id, parent_span_id) ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60',
    'SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING NOT tempo.may_be_related(''>>'', name = ''a'', name = ''c'', span_id, parent_span_id) AND bool_or(name = ''a'') AND bool_or(name = ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60']) AS q, compare(q) AS c;
SELECT count(*), sum(jsonb_array_length(spansets -> 0 -> 'spans')) FROM traceql('{ name = "a" } >> { name = "c" }', "limit" => NULL);
SELECT tempo.compact() IS NOT NULL;
SELECT unrelated($$SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related('>>', name = 'a', name = 'c', span_id, parent_span_id) AND bool_or(name = 'a') AND bool_or(name = 'c') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60$$);
SELECT count(*), sum(jsonb_array_length(spansets -> 0 -> 'spans')) FROM traceql('{ name = "a" } >> { name = "c" }', "limit" => NULL);
-- without the span between nothing is left
BEGIN;
DELETE FROM tempo.spans WHERE name = 'b';
SELECT c.* FROM compare('SELECT trace_id FROM tempo.spans GROUP BY trace_id HAVING tempo.may_be_related(''>>'', name = ''a'', name = ''c'', span_id, parent_span_id) AND bool_or(name = ''a'') AND bool_or(name = ''c'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 60') AS c;
ROLLBACK;
SELECT tempo.may_be_related('~', true, true, span_id, parent_span_id) FROM tempo.spans;
-- a trace that begins in the first block, of which only a late row is to be seen
TRUNCATE tempo.spans;
INSERT INTO tempo.spans (trace_id, span_id, name, kind, start_time_unix_nano, duration_nano)
SELECT lpad(to_hex(i + 1), 32, '0')::tempo.trace_id, lpad(to_hex(i + 1), 16, '0')::tempo.span_id, 'op', 'server', 1700000000000000000 + i, 1 FROM generate_series(1, 20000) AS i
UNION ALL VALUES ('00000000000000000000000000000001'::tempo.trace_id, '0000000000000001'::tempo.span_id, 'first', 'client', 1700000000000000000, 1),
    ('00000000000000000000000000000001', '0000000000000002', 'op', 'server', 1700000000000019999, 1);
SELECT c.* FROM compare('SELECT trace_id, count(*) FROM tempo.spans WHERE kind <> ''client'' GROUP BY trace_id HAVING bool_or(name = ''op'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3') AS c;
DELETE FROM tempo.spans WHERE name = 'first';
SELECT c.* FROM compare('SELECT trace_id, count(*) FROM tempo.spans GROUP BY trace_id HAVING bool_or(name = ''op'') ORDER BY min(start_time_unix_nano) DESC, trace_id LIMIT 3') AS c;
SELECT trace_id FROM traceql('{ name = "op" }', "limit" => 2);
DROP FUNCTION compare;
DROP FUNCTION fill;
DROP FUNCTION chains;
DROP FUNCTION unrelated;
RESET enable_sort;
TRUNCATE tempo.spans;
