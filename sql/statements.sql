-- Every kind of statement on tables of spans: those that work, then those that
-- are refused with 0A000 and a hint and leave nothing behind.
\set VERBOSITY default
SET client_min_messages = warning;
SET TimeZone = 'UTC';

-- a row in short, and what a table holds in short
CREATE FUNCTION span(n int, service text DEFAULT 'shop') RETURNS tempo.spans LANGUAGE sql AS $$
    SELECT ROW('single-tenant', lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               NULL, '', 0, 'op ' || n % 3, 'server', 'unset', '', 1700000000000000000 + n * 1000000, 1000 * n,
               NULL, NULL, NULL, NULL, jsonb_build_object('n', n), jsonb_build_object('service.name', service),
               '', '', '{}', '[]', '[]', 0, 0, 0, 0, 0, '', '', '[]')::tempo.spans
$$;
CREATE FUNCTION held(t regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT count(*) || '' rows, n '' || coalesce(sum((attributes->>''n'')::int), 0) FROM %s', t) INTO result;
    RETURN result;
END
$$;

---------------------------------------------------------------- what works
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
SELECT count(*) FROM t;

-- INSERT, also from itself, with RETURNING, ON CONFLICT DO NOTHING, DEFAULT
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 10) n;
SELECT held('t');
INSERT INTO t SELECT * FROM t;
SELECT held('t');
INSERT INTO t SELECT (span(11)).* ON CONFLICT DO NOTHING;
SELECT held('t');
INSERT INTO t (trace_id, span_id, start_time_unix_nano, duration_nano)
    VALUES (lpad('1', 32, '0')::tempo.trace_id, lpad('1', 16, '0')::tempo.span_id, 1700000000123456789, 2000)
    RETURNING tenant, start_time, end_time, duration, service_name, kind, attributes, events, parent_span_id;
INSERT INTO t (trace_id, span_id, start_time_unix_nano, duration_nano, resource_attributes)
    VALUES (lpad('1', 32, '0')::tempo.trace_id, lpad('2', 16, '0')::tempo.span_id, 1700000000123456789, 2000, '{"service.name": "web"}')
    RETURNING service_name, tableoid::regclass;
WITH added AS (INSERT INTO t SELECT (span(n)).* FROM generate_series(12, 13) n RETURNING name) SELECT * FROM added ORDER BY 1;
SELECT held('t');
TRUNCATE t;
SELECT held('t'), pg_relation_size('t');

-- COPY
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 3) n;
COPY (SELECT trace_id, span_id, name, service_name, duration_nano FROM t ORDER BY span_id) TO STDOUT;
COPY t (trace_id, span_id, start_time_unix_nano, duration_nano, attributes) FROM STDIN;
00000000000000000000000000000009	0000000000000009	1700000000000000000	5	{"n": 9}
0000000000000000000000000000000a	000000000000000a	1700000000000000000	5	{"n": 10}
\.
SELECT held('t');
COPY t (trace_id, span_id, start_time_unix_nano, duration_nano) FROM STDIN;
00000000000000000000000000000009	0000000000000009	1700000000000000000	5
00000000000000000000000000000009	0000000000000009	wrong	5
\.
SELECT held('t');

-- SELECT: joins, aggregates, subqueries, system columns
SELECT name, count(*), min(start_time) FROM t GROUP BY name ORDER BY name;
SELECT count(*) FROM t a JOIN t b USING (trace_id);
SELECT count(*), count(DISTINCT ctid), bool_and(tableoid = 't'::regclass), bool_and(xmin::text::bigint > 2) FROM t;
SELECT held('t') FROM t LIMIT 1;

-- TABLESAMPLE, ctid scans, cursors
SELECT count(*) FROM t TABLESAMPLE bernoulli (100);
SELECT count(*) FROM t TABLESAMPLE system (100);
SELECT count(*) FROM t TABLESAMPLE system (0);
SELECT count(*) FROM t a WHERE EXISTS (SELECT FROM t b WHERE b.ctid = a.ctid AND b.span_id = a.span_id);
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*) FROM t a JOIN t b ON b.ctid = a.ctid WHERE b.span_id = a.span_id;
RESET enable_hashjoin;
RESET enable_mergejoin;
SELECT count(*) FROM t WHERE ctid >= '(0,0)' AND ctid < '(2,1)';
SELECT count(*) FROM t WHERE ctid = '(1000,1)' OR ctid = '(1,2000)' OR ctid = '(0,1)' OR ctid = '(4294967295,1)';
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT attributes->>'n' AS n FROM t;
FETCH 2 FROM c;
INSERT INTO t SELECT (span(100)).*;
FETCH ALL FROM c;
FETCH BACKWARD 2 FROM c;
FETCH FIRST FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
FETCH LAST FROM c;
MOVE ABSOLUTE 3 IN c;
FETCH RELATIVE -1 FROM c;
CLOSE c;
SELECT held('t');
ROLLBACK;
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT attributes->>'n' AS n FROM t WHERE name <> '';
COMMIT;
FETCH ALL FROM h;
CLOSE h;

-- EXPLAIN, ANALYZE, VACUUM
EXPLAIN (COSTS OFF) SELECT * FROM t TABLESAMPLE system (1);
EXPLAIN (COSTS OFF) SELECT count(*) FROM t TABLESAMPLE system (100);
SELECT count(*) FROM t TABLESAMPLE system (100);
ANALYZE t;
SELECT reltuples, relpages > 0 AS pages FROM pg_class WHERE oid = 't'::regclass;
SELECT null_frac, n_distinct FROM pg_stats WHERE tablename = 't' AND attname = 'parent_span_id';
CREATE TEMP TABLE before_vacuum AS SELECT relfrozenxid AS xid FROM pg_class WHERE oid = 't'::regclass;
SELECT txid_current() IS NOT NULL AS ok;
VACUUM t;
SELECT c.relfrozenxid::text::bigint > b.xid::text::bigint AS advanced, reltuples FROM pg_class c, before_vacuum b WHERE c.oid = 't'::regclass;
VACUUM (FREEZE, ANALYZE, VERBOSE OFF) t;
SELECT tempo.storage_id('t') AS before \gset
VACUUM FULL t;
SELECT held('t'), tempo.storage_id('t') <> :before AS moved,
       (SELECT count(*) FROM tempo.segment_directory WHERE storage_id = :before) AS old_rows;
SELECT age(relfrozenxid) < 10 AS frozen FROM pg_class WHERE oid = 't'::regclass;

-- CREATE TABLE AS, SELECT INTO, LIKE, materialized views
CREATE TABLE ctas USING tempo AS SELECT * FROM t;
SELECT held('ctas');
SET default_table_access_method = tempo;
SELECT * INTO into_table FROM t WHERE name = 'op 1';
RESET default_table_access_method;
SELECT held('into_table'), (SELECT amname FROM pg_am JOIN pg_class c ON c.relam = pg_am.oid WHERE c.oid = 'into_table'::regclass);
CREATE MATERIALIZED VIEW mv USING tempo AS SELECT * FROM t WHERE name <> 'op 1';
SELECT held('mv');
INSERT INTO t SELECT (span(20)).*;
REFRESH MATERIALIZED VIEW mv;
SELECT held('mv');
REFRESH MATERIALIZED VIEW mv WITH NO DATA;
REFRESH MATERIALIZED VIEW mv;
SELECT held('mv');
DROP MATERIALIZED VIEW mv;

-- other access methods and back
ALTER TABLE into_table SET ACCESS METHOD heap;
SELECT held('into_table');
ALTER TABLE into_table SET ACCESS METHOD tempo;
SELECT held('into_table');

-- partitions
CREATE TABLE parted (LIKE tempo.spans) PARTITION BY LIST (service_name);
ALTER TABLE into_table ALTER trace_id SET NOT NULL, ALTER span_id SET NOT NULL, ALTER start_time_unix_nano SET NOT NULL, ALTER duration_nano SET NOT NULL;
ALTER TABLE parted ATTACH PARTITION into_table FOR VALUES IN ('shop');
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
CREATE TABLE parted_web PARTITION OF parted FOR VALUES IN ('web') USING tempo;
INSERT INTO parted SELECT (s).* FROM (SELECT span(n, CASE n % 3 WHEN 0 THEN 'shop' WHEN 1 THEN 'web' END) AS s FROM generate_series(30, 35) n) x;
INSERT INTO parted SELECT tenant, trace_id, span_id, parent_span_id, trace_state, flags, name, kind, status, status_message,
        start_time_unix_nano, duration_nano, start_time, end_time, duration, resource_attributes->>'service.name', attributes, resource_attributes,
        scope_name, scope_version, scope_attributes, events, links, dropped_attributes_count, dropped_events_count, dropped_links_count,
        resource_dropped_attributes_count, scope_dropped_attributes_count, resource_schema_url, scope_schema_url, resource_entity_refs
    FROM (SELECT (span(n, CASE n % 2 WHEN 0 THEN 'shop' WHEN 1 THEN 'web' END)).* FROM generate_series(36, 41) n) x;
SELECT tableoid::regclass, count(*) FROM parted GROUP BY 1 ORDER BY 1;
ALTER TABLE parted DETACH PARTITION into_table;
SELECT held('into_table');
DROP TABLE parted;

-- names, owners, privileges, settings
CREATE ROLE regress_tempo_user;
ALTER TABLE ctas RENAME TO renamed;
ALTER TABLE renamed OWNER TO regress_tempo_user;
GRANT USAGE ON SCHEMA tempo TO regress_tempo_user;
GRANT SELECT ON t TO regress_tempo_user;
SET ROLE regress_tempo_user;
SELECT count(*) FROM renamed;
SELECT count(*) FROM t;
INSERT INTO t SELECT * FROM t;
UPDATE t SET name = 'x';
RESET ROLE;
ALTER TABLE renamed SET SCHEMA tempo;
SELECT held('tempo.renamed');
DROP TABLE tempo.renamed;
REVOKE ALL ON t FROM regress_tempo_user;
ALTER TABLE t SET (autovacuum_enabled = off);
ALTER TABLE t ALTER COLUMN name SET DEFAULT 'nameless';
COMMENT ON TABLE t IS 'spans';

-- constraints, foreign keys, row security
ALTER TABLE t ADD CONSTRAINT short CHECK (duration_nano < 1000000);
INSERT INTO t (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES (lpad('1', 32, '0')::tempo.trace_id, lpad('1', 16, '0')::tempo.span_id, 1, 1000000);
ALTER TABLE t ADD CONSTRAINT shorter CHECK (duration_nano < 10);
INSERT INTO t (span_id, start_time_unix_nano, duration_nano) VALUES (lpad('1', 16, '0')::tempo.span_id, 1, 1);
ALTER TABLE t ALTER COLUMN name SET NOT NULL;
CREATE TABLE services (name text PRIMARY KEY);
INSERT INTO services VALUES ('shop'), ('web');
CREATE TABLE fk (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
ALTER TABLE fk ADD CONSTRAINT service FOREIGN KEY (service_name) REFERENCES services;
INSERT INTO fk SELECT (span(n)).* FROM generate_series(1, 5) n;
INSERT INTO fk SELECT (span(6, 'unknown')).*;
DELETE FROM services WHERE name = 'web';
DELETE FROM services WHERE name = 'shop';
ALTER TABLE fk DROP CONSTRAINT service;
ALTER TABLE fk ADD CONSTRAINT service FOREIGN KEY (service_name) REFERENCES services DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO fk SELECT (span(7, 'late')).*;
INSERT INTO fk SELECT (span(8, 'later')).*;
INSERT INTO services VALUES ('late'), ('later');
COMMIT;
BEGIN;
INSERT INTO fk SELECT (span(9, 'never')).*;
COMMIT;
SELECT held('fk');
ALTER TABLE fk ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_shop ON fk USING (service_name = 'shop');
GRANT SELECT ON fk TO regress_tempo_user;
SET ROLE regress_tempo_user;
SELECT count(*) FROM fk;
RESET ROLE;
DROP TABLE fk;

-- triggers
CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        INSERT INTO seen (what) SELECT TG_WHEN || ' statement ' || count(*) || ' ' || coalesce(min(service_name), '-') || ' ' || min(start_time) FROM new_rows;
        RETURN NULL;
    END IF;
    INSERT INTO seen (what) VALUES (TG_WHEN || ' ' || NEW.name || ' ' || coalesce(NEW.service_name, '-') || ' ' || (NEW.attributes->>'n'));
    IF TG_WHEN = 'BEFORE' THEN
        NEW.name := NEW.name || '!';
    END IF;
    RETURN NEW;
END
$$;
CREATE TABLE triggered (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE TRIGGER before BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER after AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER statement AFTER INSERT ON triggered REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION see();
INSERT INTO triggered SELECT (span(n)).* FROM generate_series(1, 3) n;
SELECT what FROM seen ORDER BY id;
SELECT name FROM triggered ORDER BY span_id;
TRUNCATE seen;
COPY triggered (trace_id, span_id, start_time_unix_nano, duration_nano, attributes) FROM STDIN;
00000000000000000000000000000009	0000000000000009	1700000000000000000	5	{"n": 9}
\.
SELECT what FROM seen ORDER BY id;
DROP TABLE triggered, seen;

-- prepared transactions
BEGIN;
INSERT INTO t SELECT (span(50)).*;
PREPARE TRANSACTION 'regress_tempo';
SELECT count(*) FROM t WHERE attributes->'n' = '50';
COMMIT PREPARED 'regress_tempo';
SELECT count(*) FROM t WHERE attributes->'n' = '50';
BEGIN;
INSERT INTO t SELECT (span(51)).*;
PREPARE TRANSACTION 'regress_tempo';
ROLLBACK PREPARED 'regress_tempo';
SELECT count(*) FROM t WHERE attributes->'n' = '51';

-- TRUNCATE and DROP take the directory rows with them
BEGIN;
TRUNCATE t;
SELECT held('t');
INSERT INTO t SELECT (span(1)).*;
SELECT held('t');
ROLLBACK;
SELECT held('t');
BEGIN;
CREATE TABLE fresh (LIKE tempo.spans) USING tempo;
INSERT INTO fresh SELECT (span(1)).*;
TRUNCATE fresh;
INSERT INTO fresh SELECT (span(2)).*;
SELECT held('fresh');
COMMIT;
SELECT held('fresh');
DROP TABLE fresh;
DROP TABLE into_table;
SELECT count(*) FROM tempo.segment_directory d
    WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'tempo' AND tempo.storage_id(c.oid) = d.storage_id);
SELECT count(*) > 0 AS listed FROM tempo.segments WHERE relation = 't'::regclass;

------------------------------------------------------------------ deleting
CREATE TABLE d (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
INSERT INTO d SELECT (span(n)).* FROM generate_series(1, 100) n;
CREATE TABLE all_spans AS SELECT * FROM d;
DELETE FROM d WHERE duration_nano IN (SELECT duration_nano FROM d ORDER BY 1 LIMIT 10);
DELETE FROM all_spans WHERE duration_nano IN (SELECT duration_nano FROM all_spans ORDER BY 1 LIMIT 10);
SELECT count(*) FROM d;
SELECT count(*) FROM (SELECT * FROM d EXCEPT SELECT * FROM all_spans) x;
SET tempo_pg.enable_custom_scan = off;
SELECT count(*) FROM (SELECT * FROM all_spans EXCEPT SELECT * FROM d) x;
RESET tempo_pg.enable_custom_scan;
BEGIN;
SAVEPOINT a;
DELETE FROM d;
SELECT count(*) FROM d;
ROLLBACK TO a;
SELECT count(*) FROM d;
DECLARE c CURSOR FOR SELECT 1 FROM d;
DELETE FROM d WHERE name = (SELECT min(name) FROM d);
MOVE ALL c;
INSERT INTO d SELECT (span(1000)).*;
WITH gone AS (DELETE FROM d WHERE span_id = (span(1000)).span_id RETURNING name) SELECT count(*) FROM gone;
ROLLBACK;
SELECT count(*) FROM d;
-- triggers see the row, and their own statements that it is gone
CREATE TABLE seen (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen SELECT format('%s %s', tg_when, count(*) FILTER (WHERE span_id = old.span_id)) FROM d;
    RETURN old;
END
$$;
CREATE TRIGGER before BEFORE DELETE ON d FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER after AFTER DELETE ON d FOR EACH ROW EXECUTE FUNCTION note();
DELETE FROM d WHERE span_id = (span(50)).span_id RETURNING span_id = (span(50)).span_id AS returned;
SELECT * FROM seen;
DROP TRIGGER before ON d;
DROP TRIGGER after ON d;
-- what is deleted goes for good when segments are merged
SELECT count(*) > 0 AS bitmaps FROM tempo.segment_deletions WHERE storage_id = tempo.storage_id('d');
SELECT sum(spans) AS stored FROM tempo.segments WHERE relation = 'd'::regclass;
SELECT count(*) FROM tempo.compact('d');
SELECT sum(spans) AS stored FROM tempo.segments WHERE relation = 'd'::regclass;
SELECT count(*) AS bitmaps FROM tempo.segment_deletions WHERE storage_id = tempo.storage_id('d');
DELETE FROM d WHERE span_id = (span(60)).span_id;
VACUUM FULL d;
SELECT sum(spans) AS stored FROM tempo.segments WHERE relation = 'd'::regclass;
SELECT count(*) FROM d;
SELECT * FROM tempo.verify('d');
DELETE FROM d;
SELECT count(*) FROM d;
SELECT count(*) FROM tempo.compact('d');
SELECT count(*) AS segments FROM tempo.segments WHERE relation = 'd'::regclass;
DROP TABLE d, all_spans, seen;
DROP FUNCTION note;
CREATE TABLE parents (name text PRIMARY KEY);
INSERT INTO parents VALUES ('shop'), ('web');
CREATE TABLE fk (LIKE tempo.spans INCLUDING DEFAULTS, FOREIGN KEY (service_name) REFERENCES parents ON DELETE CASCADE) USING tempo;
INSERT INTO fk SELECT (span(n, 'web')).* FROM generate_series(1, 5) n;
INSERT INTO fk SELECT (span(n)).* FROM generate_series(6, 8) n;
DELETE FROM parents WHERE name = 'web';
SELECT service_name, count(*) FROM fk GROUP BY 1;
DROP TABLE fk, parents;
SELECT count(*) FROM tempo.segment_deletions d WHERE NOT EXISTS (SELECT FROM tempo.segment_directory s WHERE s.storage_id = d.storage_id);

------------------------------------------------------------ what is refused
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 10) n;
UPDATE t SET name = 'x';
UPDATE t SET name = 'x' WHERE false;
MERGE INTO t USING services s ON s.name = t.service_name WHEN MATCHED THEN UPDATE SET name = 'x';
SELECT name FROM t FOR UPDATE;
SELECT name FROM t FOR NO KEY UPDATE;
SELECT name FROM t FOR SHARE;
SELECT name FROM t FOR KEY SHARE;
SELECT t.name FROM t, services s FOR UPDATE OF t;
SELECT count(*) FROM (SELECT t.name FROM t JOIN services s ON s.name = t.service_name FOR UPDATE OF s) x;
CREATE INDEX ON t (name);
CREATE INDEX CONCURRENTLY ON t (name);
CREATE UNIQUE INDEX ON t (span_id);
CREATE INDEX ON t USING brin (start_time);
CREATE INDEX ON t USING hash (name);
CREATE INDEX ON t USING gin (attributes);
ALTER TABLE t ADD PRIMARY KEY (trace_id, span_id);
ALTER TABLE t ADD UNIQUE (span_id);
ALTER TABLE t ADD EXCLUDE (name WITH =);
CREATE TABLE refused (LIKE tempo.spans, PRIMARY KEY (span_id)) USING tempo;
INSERT INTO t SELECT (span(1)).* ON CONFLICT (span_id) DO NOTHING;
CLUSTER t;
CLUSTER t USING nothing;
ALTER TABLE t CLUSTER ON nothing;
ALTER TABLE t ADD COLUMN more int;
ALTER TABLE t DROP COLUMN name;
ALTER TABLE t ALTER COLUMN name TYPE varchar;
ALTER TABLE t RENAME COLUMN name TO title;
CREATE TABLE refused () INHERITS (t);
CREATE TABLE refused (LIKE tempo.spans) INHERITS (services) USING tempo;
CREATE TABLE heir (LIKE tempo.spans);
ALTER TABLE heir INHERIT t;
ALTER TABLE t INHERIT heir;
DROP TABLE heir;
CREATE UNLOGGED TABLE refused (LIKE tempo.spans) USING tempo;
CREATE TEMPORARY TABLE refused (LIKE tempo.spans) USING tempo;
ALTER TABLE t SET UNLOGGED;
CREATE TABLE refused (a int) USING tempo;
CREATE TABLE refused (LIKE tempo.spans, more int) USING tempo;
CREATE TABLE refused USING tempo AS SELECT trace_id, span_id FROM t;
CREATE MATERIALIZED VIEW refused USING tempo AS SELECT 1 AS a;
CREATE TABLE plain (a int);
ALTER TABLE plain SET ACCESS METHOD tempo;
DROP TABLE plain;
-- the columns of a partitioned table are those of its partitions
CREATE TABLE parted (LIKE tempo.spans) PARTITION BY RANGE (start_time_unix_nano);
CREATE TABLE parted_all PARTITION OF parted DEFAULT USING tempo;
INSERT INTO parted SELECT (span(n)).* FROM generate_series(1, 4) n;
ALTER TABLE parted ADD COLUMN more int;
ALTER TABLE parted DROP COLUMN name;
ALTER TABLE parted RENAME COLUMN name TO title;
CREATE INDEX ON parted (name);
DELETE FROM parted;
UPDATE parted SET name = 'x';
SELECT held('parted');
DROP TABLE parted;
-- nothing is left behind
SELECT held('t');
SELECT relname FROM pg_class WHERE relname = 'refused' OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 't'::regclass);
SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0;
SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype NOT IN ('c', 'n');
SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass OR inhrelid = 't'::regclass;

-- the code is 0A000 and there is a hint
CREATE FUNCTION refused(statements text[]) RETURNS TABLE (statement text, state text, hint text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        BEGIN
            EXECUTE statement;
            state := 'none';
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, hint = PG_EXCEPTION_HINT;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
SELECT count(*), bool_and(state = '0A000' AND hint <> '') FROM refused(ARRAY[
    'UPDATE t SET name = $$x$$', 'SELECT FROM t FOR UPDATE', 'SELECT FROM t FOR SHARE',
    'CREATE INDEX ON t (name)', 'CREATE UNIQUE INDEX ON t (span_id)', 'ALTER TABLE t ADD PRIMARY KEY (span_id)',
    'ALTER TABLE t ADD UNIQUE (span_id)', 'ALTER TABLE t ADD EXCLUDE (name WITH =)',
    'CREATE TABLE refused (LIKE tempo.spans, PRIMARY KEY (span_id)) USING tempo', 'CLUSTER t', 'CLUSTER t USING nothing',
    'ALTER TABLE t ADD COLUMN more int', 'ALTER TABLE t DROP COLUMN name', 'ALTER TABLE t ALTER COLUMN name TYPE varchar',
    'CREATE TABLE refused () INHERITS (t)', 'ALTER TABLE t INHERIT services',
    'CREATE UNLOGGED TABLE refused (LIKE tempo.spans) USING tempo', 'CREATE TEMPORARY TABLE refused (LIKE tempo.spans) USING tempo',
    'ALTER TABLE t SET UNLOGGED', 'CREATE TABLE refused (a int) USING tempo', 'CREATE TABLE refused (LIKE tempo.spans, more int) USING tempo',
    'CREATE TABLE refused USING tempo AS SELECT trace_id FROM t', 'CREATE MATERIALIZED VIEW refused USING tempo AS SELECT 1 AS a']);

DROP TABLE t, services;
DROP FUNCTION see, held, refused;
DROP FUNCTION span;
DROP OWNED BY regress_tempo_user;
DROP ROLE regress_tempo_user;
