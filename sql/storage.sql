-- Segments: how rows become segments, merging, verification, space.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo WITH (autovacuum_enabled = off);
CREATE FUNCTION add(first int, last int, tenants int DEFAULT 1) RETURNS void LANGUAGE sql AS $$
    INSERT INTO t (tenant, trace_id, span_id, start_time_unix_nano, duration_nano, name, attributes, resource_attributes)
    SELECT 'tenant ' || n % tenants, lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
           1700000000000000000 + n * 1000000::bigint, 1000 * n, 'op ' || n % 3, jsonb_build_object('n', n), '{"service.name": "shop"}'
    FROM generate_series(first, last) n
$$;
CREATE VIEW content AS SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM t;
CREATE VIEW shape AS SELECT level, count(*) AS segments, sum(spans) AS spans, max(tenants) AS tenants
    FROM tempo.segments WHERE relation = 't'::regclass GROUP BY level ORDER BY level;

-- an empty table has no file, no segment and no problem
SELECT pg_relation_size('t'), tempo.storage_id('t');
SELECT * FROM tempo.verify('t');
SELECT * FROM tempo.compact('t');
ANALYZE t;
VACUUM t;
VACUUM FULL t;
SELECT * FROM content;

-- a statement makes a segment
SELECT add(1, 100);
SELECT add(101, 200);
SELECT add(201, 260, 3);
SELECT segment_id, level, spans, traces, tenants, requests, min_start_time, max_duration_nano FROM tempo.segments WHERE relation = 't'::regclass ORDER BY 1;
SELECT * FROM shape;
SELECT * FROM tempo.verify('t');
SELECT * FROM content \gset before_

-- merging: one segment per tenant, the same rows
SELECT merges, sources, targets, spans FROM tempo.compact('t');
SELECT * FROM shape;
SELECT count = :before_count AND md5 = :'before_md5' AS same FROM content;
SELECT * FROM tempo.verify('t');
SELECT merges FROM tempo.compact('t');
-- with a limit on their size
SELECT add(n, n + 49) FROM generate_series(1000, 1450, 50) n \g /dev/null
SELECT merges > 1 AS several, targets > 1 AS more FROM tempo.compact('t', 200);
SELECT max(spans) <= 400 AS bounded FROM tempo.segments WHERE relation = 't'::regclass;
SELECT sum(spans), count(*) FILTER (WHERE level = 0) AS level0 FROM tempo.segments WHERE relation = 't'::regclass;
SELECT * FROM tempo.verify('t');
SELECT tempo.compact('t', 0);
SELECT tempo.compact('pg_class');
SELECT tempo.verify('pg_class');
SELECT tempo.verify('content');

-- inside a transaction: own rows, rollback, an older cursor
SELECT * FROM content \gset before_
BEGIN;
SELECT add(2000, 2010);
DECLARE c CURSOR FOR SELECT count(*), sum((attributes->>'n')::int) FROM t;
SELECT merges > 0 AS merged FROM tempo.compact('t');
SELECT count(*) - :before_count AS more FROM t;
FETCH ALL FROM c;
SELECT * FROM tempo.verify('t');
SAVEPOINT a;
SELECT add(2011, 2011);
SELECT merges > 0 AS merged FROM tempo.compact('t');
ROLLBACK TO a;
SELECT count(*) - :before_count AS more FROM t;
ROLLBACK;
SELECT count = :before_count AND md5 = :'before_md5' AS same FROM content;
SELECT * FROM tempo.verify('t');

-- under repeatable read
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) - :before_count AS more FROM t;
SELECT merges >= 0 AS ok FROM tempo.compact('t');
SELECT count(*) - :before_count AS more FROM t;
COMMIT;
SELECT count = :before_count AND md5 = :'before_md5' AS same FROM content;

-- space is used again after VACUUM
TRUNCATE t;
SELECT add(1, 2000);
SELECT add(2001, 4000);
SELECT merges FROM tempo.compact('t');
VACUUM t;
SELECT pg_relation_size('t') AS size \gset
SELECT add(1, 2000);
SELECT pg_relation_size('t') = :size AS reused;
SELECT * FROM tempo.verify('t');
SELECT count(*), count(DISTINCT ctid), sum((attributes->>'n')::int) FROM t;
-- segments move out of the end of a file that is mostly free space
CREATE TABLE big (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
DO $$
BEGIN
    FOR part IN 1..40 LOOP
        INSERT INTO big (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
        SELECT md5(part || '.' || i)::tempo.trace_id, left(md5('s' || part || '.' || i), 16)::tempo.span_id, i, 1,
               jsonb_build_object('a', md5('a' || part || '.' || i), 'b', md5('b' || i % 200))
        FROM generate_series(1, 500) i;
    END LOOP;
END
$$;
SELECT merges, targets FROM tempo.compact('big');
VACUUM big;
SELECT pg_relation_size('big') AS size \gset
SELECT merges, sources, targets FROM tempo.compact('big');
VACUUM big;
SELECT pg_relation_size('big') < :size * 0.6 AS smaller;
SELECT merges FROM tempo.compact('big');
SELECT count(*), count(DISTINCT attributes ->> 'a') FROM big;
SELECT * FROM tempo.verify('big');
DROP TABLE big;
-- and that of rolled back inserts
BEGIN;
SELECT add(10000, 14000);
ROLLBACK;
SELECT pg_relation_size('t') AS size \gset
VACUUM t;
SELECT add(10000, 14000);
SELECT pg_relation_size('t') <= :size AS reused;
SELECT * FROM tempo.verify('t');
SELECT * FROM content \gset before_
VACUUM FULL t;
SELECT pg_relation_size('t') < :size AS smaller;
SELECT count = :before_count AND md5 = :'before_md5' AS same FROM content;
SELECT * FROM tempo.verify('t');

-- the free end of the file is given back
BEGIN;
INSERT INTO t SELECT t.* FROM t, generate_series(1, 8);
ROLLBACK;
SELECT pg_relation_size('t') > 2 * :size AS grown;
VACUUM t;
SELECT pg_relation_size('t') <= :size AS given_back;
SELECT * FROM tempo.verify('t');

-- COPY FREEZE is a COPY
BEGIN;
TRUNCATE t;
COPY t (trace_id, span_id, start_time_unix_nano, duration_nano, attributes) FROM STDIN (FREEZE);
00000000000000000000000000000009	0000000000000009	1700000000000000000	5	{"n": 9}
\.
SELECT count(*) FROM t;
COMMIT;
SELECT count(*) FROM t;
SELECT * FROM tempo.verify('t');

-- many rows in few bytes: more blocks than the bytes need
TRUNCATE t;
INSERT INTO t (trace_id, span_id, start_time_unix_nano, duration_nano)
    SELECT repeat('1', 32)::tempo.trace_id, repeat('2', 16)::tempo.span_id, 1, 1 FROM generate_series(1, 10000);
SELECT count(*), count(DISTINCT ctid), max(spans / blocks) <= 2047 AS tids
    FROM t, (SELECT spans, blocks FROM tempo.segments WHERE relation = 't'::regclass) s;
SELECT count(*) FROM t a JOIN t b ON a.ctid = b.ctid;
SELECT * FROM tempo.verify('t');

-- a merged segment remembers the requests of its sources
SELECT tempo.ingest_otlp_json('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef", "name": "once", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]}');
SELECT level, spans, requests FROM tempo.segments WHERE relation = 'tempo.spans'::regclass;
SELECT merges FROM tempo.compact();
SELECT level, spans, requests FROM tempo.segments WHERE relation = 'tempo.spans'::regclass;
TRUNCATE tempo.spans;
-- requests reach triggers and constraints, and are remembered then too
CREATE TABLE seen (what text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.name || ' at ' || NEW.start_time); RETURN NEW; END $$;
CREATE TRIGGER see AFTER INSERT ON tempo.spans FOR EACH ROW EXECUTE FUNCTION see();
SELECT tempo.ingest_otlp_json('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef", "name": "a", "startTimeUnixNano": "1000", "endTimeUnixNano": "2000"}, {"traceId": "0123456789abcdef0123456789abcdef", "spanId": "1123456789abcdef", "name": "b", "startTimeUnixNano": "3000", "endTimeUnixNano": "4000"}]}]}]}');
SELECT * FROM seen ORDER BY what;
SELECT level, spans, requests FROM tempo.segments WHERE relation = 'tempo.spans'::regclass;
DROP TRIGGER see ON tempo.spans;
ALTER TABLE tempo.spans ADD CONSTRAINT named CHECK (name <> '');
SELECT tempo.ingest_otlp_json('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0123456789abcdef0123456789abcdef", "spanId": "2123456789abcdef", "name": "c", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]}');
\set VERBOSITY sqlstate
SELECT tempo.ingest_otlp_json('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0123456789abcdef0123456789abcdef", "spanId": "3123456789abcdef", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]}');
\set VERBOSITY default
SELECT count(*) FROM tempo.spans;
ALTER TABLE tempo.spans DROP CONSTRAINT named;
TRUNCATE tempo.spans;
DROP TABLE seen;
DROP FUNCTION see;

-- who may
CREATE ROLE regress_tempo_user;
GRANT USAGE ON SCHEMA tempo TO regress_tempo_user;
GRANT SELECT ON tempo.segments TO regress_tempo_user;
SET ROLE regress_tempo_user;
SELECT count(*) FROM tempo.segments WHERE relation = 't'::regclass;
SELECT count(*) FROM tempo.segment_directory;
SELECT tempo.compact('t');
SELECT tempo.verify('t');
RESET ROLE;
GRANT SELECT ON t TO regress_tempo_user;
GRANT tempo_admin TO regress_tempo_user;
SET ROLE regress_tempo_user;
SELECT count(*) > 0 AS listed FROM tempo.segments WHERE relation = 't'::regclass;
SELECT tempo.compact('t') IS NOT NULL AS compacted;
SELECT tempo.verify('t');
RESET ROLE;
DROP OWNED BY regress_tempo_user;
DROP ROLE regress_tempo_user;

-- a second index on the directory, as REINDEX CONCURRENTLY makes one, does no harm
CREATE INDEX regress_tempo_extra ON tempo.segment_directory (segment_id);
TRUNCATE t;
SELECT add(1, 50);
SELECT count(*) FROM t;
SELECT add(51, 60);
SET enable_seqscan = off;
SELECT count(*) AS found FROM tempo.segment_directory WHERE storage_id = tempo.storage_id('t') AND segment_id > 0;
RESET enable_seqscan;
REINDEX TABLE CONCURRENTLY tempo.segment_directory;
SELECT count(*) FROM t;
DROP INDEX tempo.regress_tempo_extra;

DROP VIEW content, shape;
DROP FUNCTION add;
DROP TABLE t;

-- what bounds a merge is the size of the spans, long texts, events and values inside of values included
CREATE TABLE large (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
SET tempo_pg.compaction_memory = '16MB';
INSERT INTO large (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
	VALUES ('00000000000000000000000000000001', '0000000000000001', 1, 1, jsonb_build_object('prompt', repeat('text ', 1200000)));
INSERT INTO large (trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
	VALUES ('00000000000000000000000000000002', '0000000000000001', 2, 1, jsonb_build_object('prompt', jsonb_build_array(repeat('more ', 1200000))));
INSERT INTO large (trace_id, span_id, start_time_unix_nano, duration_nano, name)
	VALUES ('00000000000000000000000000000003', '0000000000000001', 3, 1, repeat('name ', 1200000));
INSERT INTO large (trace_id, span_id, start_time_unix_nano, duration_nano, resource_attributes)
	VALUES ('00000000000000000000000000000004', '0000000000000001', 4, 1, jsonb_build_object('process.command_line', repeat('line ', 1200000)));
INSERT INTO large (trace_id, span_id, start_time_unix_nano, duration_nano, events)
	SELECT '00000000000000000000000000000005', '0000000000000001', 5, 1, jsonb_agg(jsonb_build_object('time_unix_nano', i, 'name', 'e', 'attributes', jsonb_build_object('k', i)))
	FROM generate_series(1, 160000) i;
SELECT sources, targets, spans FROM tempo.compact('large');
SELECT raw_bytes > 5000000 AS counted FROM tempo.segments WHERE relation = 'large'::regclass ORDER BY max_start_nano;
RESET tempo_pg.compaction_memory;
SELECT targets FROM tempo.compact('large');

-- so are names of their own; sources that take more memory than they were thought to are merged all the same, and once, with deleted rows, too
TRUNCATE large;
SET tempo_pg.compaction_memory = '16MB';
INSERT INTO large (trace_id, span_id, name, start_time_unix_nano, duration_nano)
	SELECT lpad(to_hex(i / 10), 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'name ' || i, i, 1 FROM generate_series(10, 25009) i;
INSERT INTO large (trace_id, span_id, name, start_time_unix_nano, duration_nano)
	SELECT lpad(to_hex(i / 10), 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'name ' || i, i, 1 FROM generate_series(30010, 55009) i;
SELECT merges, sources, targets FROM tempo.compact('large');
UPDATE tempo.segment_directory SET raw_bytes = 1000000 WHERE storage_id = tempo.storage_id('large');
DELETE FROM large WHERE span_id = '000000000000ac44';
SELECT merges, sources, targets, spans FROM tempo.compact('large');
RESET tempo_pg.compaction_memory;
DROP TABLE large;
