-- DELETE: by TIDs of rows just inserted, through cursors, triggers, joins and
-- foreign keys, with savepoints, prepared, and beside merging in the same transaction.
SET client_min_messages = warning;
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE FUNCTION span(n int, service text DEFAULT 'shop') RETURNS tempo.spans LANGUAGE sql AS $$
    SELECT ROW('single-tenant', lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               NULL, '', 0, 'op', 'server', 'unset', '', 1700000000000000000 + n * 1000000, n,
               NULL, NULL, NULL, service, jsonb_build_object('n', n), jsonb_build_object('service.name', service),
               '', '', '{}', '[]', '[]', 0, 0, 0, 0, 0, '', '', '[]')::tempo.spans
$$;
CREATE FUNCTION held() RETURNS text LANGUAGE sql VOLATILE AS
    $$ SELECT coalesce(string_agg(attributes->>'n', ' ' ORDER BY start_time_unix_nano), '-') FROM t $$;

-- by the TID that RETURNING gave
BEGIN;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 3) n;
INSERT INTO t SELECT (span(4)).* RETURNING ctid AS tid \gset
SELECT attributes FROM t WHERE ctid = :'tid';
DELETE FROM t WHERE ctid = :'tid' RETURNING attributes;
DELETE FROM t WHERE ctid = :'tid' RETURNING attributes;
SELECT attributes FROM t WHERE ctid = :'tid';
SELECT held();
INSERT INTO t SELECT (span(5)).* RETURNING ctid AS tid \gset
SAVEPOINT a;
DELETE FROM t WHERE ctid = ANY (ARRAY[:'tid']::tid[]) AND name = 'op' RETURNING attributes;
SELECT attributes FROM t WHERE ctid = :'tid';
ROLLBACK TO a;
SELECT attributes FROM t WHERE ctid = :'tid';
DELETE FROM t WHERE :'tid' = ctid;
RELEASE a;
SELECT attributes FROM t WHERE ctid = :'tid';
COMMIT;
SELECT held();
SELECT * FROM tempo.verify('t');
-- such rows go with their savepoint; a merge has them move
BEGIN;
SAVEPOINT a;
INSERT INTO t SELECT (span(6)).* RETURNING ctid AS tid \gset
ROLLBACK TO a;
DELETE FROM t WHERE ctid = :'tid';
TRUNCATE t;
INSERT INTO t SELECT (span(7)).*;
DELETE FROM t WHERE ctid = :'tid' RETURNING attributes;
INSERT INTO t SELECT (span(8)).* RETURNING ctid AS tid \gset
SELECT merges > 0 AS merged FROM tempo.compact('t');
DELETE FROM t WHERE ctid = :'tid';
ROLLBACK;
-- of many rows the TIDs are forgotten
BEGIN;
CREATE TABLE tids AS SELECT '(0,0)'::tid AS tid WHERE false;
WITH rows AS (INSERT INTO t SELECT (span(n % 100)).* FROM generate_series(1, 17000) n RETURNING ctid) INSERT INTO tids SELECT ctid FROM rows;
DELETE FROM t WHERE ctid = (SELECT min(tid) FROM tids);
ROLLBACK;
-- in a function that the INSERT calls the rows are not in a segment yet
CREATE FUNCTION hasty(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF n = 3 THEN
        BEGIN
            DELETE FROM t;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END IF;
    RETURN n;
END
$$;
INSERT INTO t SELECT (span(hasty)).* FROM (SELECT hasty(n) FROM generate_series(1, 3) n OFFSET 0) x;
SELECT held();
DROP FUNCTION hasty;

-- WHERE CURRENT OF
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 6) n;
CREATE FUNCTION current_of() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c CURSOR FOR SELECT * FROM t;
    r record;
    plan text;
BEGIN
    FOR r IN c LOOP
        IF r.duration_nano % 3 = 0 THEN DELETE FROM t WHERE CURRENT OF c; END IF;
    END LOOP;
    RETURN held();
END
$$;
BEGIN;
SELECT current_of();
ROLLBACK;
SET tempo_pg.enable_custom_scan = off;
SELECT current_of();
RESET tempo_pg.enable_custom_scan;
DROP FUNCTION current_of;
BEGIN;
DECLARE c CURSOR FOR SELECT duration_nano FROM t;
FETCH c;
DELETE FROM t WHERE CURRENT OF c RETURNING duration_nano;
DELETE FROM t WHERE CURRENT OF c RETURNING duration_nano;
FETCH c;
SELECT merges > 0 AS merged FROM tempo.compact('t');
-- the row is somewhere else: that must not look like success
DELETE FROM t WHERE CURRENT OF c RETURNING duration_nano;
ROLLBACK;

-- joins, twice the same row, CTEs
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 12) n;
CREATE TABLE list (n int, why text);
INSERT INTO list VALUES (2, 'a'), (2, 'b'), (4, 'a'), (99, 'a');
DELETE FROM t USING list WHERE (t.attributes->>'n')::int = list.n RETURNING t.duration_nano;
DELETE FROM t a USING t b WHERE a.trace_id = b.trace_id AND a.duration_nano < b.duration_nano;
SELECT held();
WITH gone AS (DELETE FROM t WHERE duration_nano = 7 RETURNING *) INSERT INTO t SELECT (span(100 + duration_nano::int)).* FROM gone;
WITH one AS (DELETE FROM t WHERE duration_nano = 11 RETURNING duration_nano), two AS (DELETE FROM t WHERE duration_nano = 11 RETURNING duration_nano)
SELECT (SELECT count(*) FROM one) + (SELECT count(*) FROM two) AS times;
SELECT held();
MERGE INTO t USING list ON list.n = t.duration_nano + 96 WHEN MATCHED THEN DELETE;
SELECT held();
DELETE FROM t WHERE EXISTS (SELECT FROM t u WHERE u.duration_nano > t.duration_nano);
SELECT held();
DROP TABLE list;

-- triggers: deferred ones find their rows also after a merge; BEFORE ones may keep a row, or delete it themselves
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 9) n;
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, n int, left_over int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log (n, left_over) SELECT (OLD.attributes->>'n')::int, count(*) FROM t;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log();
BEGIN;
DELETE FROM t WHERE duration_nano IN (1, 3);
SELECT merges > 0 AS merged FROM tempo.compact('t');
SAVEPOINT a;
DELETE FROM t WHERE duration_nano = 4;
ROLLBACK TO a;
SAVEPOINT b;
DELETE FROM t WHERE duration_nano = 5;
RELEASE b;
INSERT INTO t SELECT (span(10)).* RETURNING ctid AS tid \gset
DELETE FROM t WHERE ctid = :'tid';
SELECT merges > 0 AS merged FROM tempo.compact('t');
SELECT held();
COMMIT;
SELECT n, left_over FROM log ORDER BY id;
TRUNCATE log;
BEGIN;
DELETE FROM t WHERE duration_nano = 6;
DELETE FROM t;
SELECT merges > 0 AS merged FROM tempo.compact('t');
INSERT INTO t SELECT (span(n)).* FROM generate_series(4, 9) n;
COMMIT;
SELECT string_agg(n::text, ' ' ORDER BY id) AS deleted FROM log;
SELECT held();
DROP TRIGGER late ON t;
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.duration_nano = 4 THEN RETURN NULL; END IF;
    IF OLD.duration_nano = 6 THEN DELETE FROM t WHERE duration_nano = 7; END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER before BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION before();
DELETE FROM t WHERE duration_nano < 6;
-- as with a heap: a row that is to be deleted must not be by its own statement's trigger
DELETE FROM t;
DELETE FROM t WHERE duration_nano = 6;
SELECT held();
DROP TRIGGER before ON t;
CREATE FUNCTION old_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log (n) SELECT duration_nano FROM old_rows;
    RETURN NULL;
END
$$;
CREATE TRIGGER transition AFTER DELETE ON t REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION old_rows();
TRUNCATE log;
DELETE FROM t WHERE duration_nano > 4;
SELECT string_agg(n::text, ' ' ORDER BY n) AS deleted FROM log;
DROP TRIGGER transition ON t;
DROP TABLE log;
DROP FUNCTION log(), before, old_rows;

-- savepoints, nested blocks, prepared transactions
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 9) n;
BEGIN;
DELETE FROM t WHERE duration_nano = 1;
SAVEPOINT a;
DELETE FROM t WHERE duration_nano = 2;
SAVEPOINT b;
DELETE FROM t WHERE duration_nano = 3;
ROLLBACK TO b;
DELETE FROM t WHERE duration_nano IN (2, 3, 4) RETURNING duration_nano;
RELEASE a;
SAVEPOINT c;
DELETE FROM t WHERE duration_nano = 5;
DO $$
BEGIN
    FOR n IN 5..8 LOOP
        BEGIN
            DELETE FROM t WHERE duration_nano = n;
            IF n % 2 = 0 THEN RAISE EXCEPTION 'even'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END
$$;
SELECT held();
ROLLBACK TO c;
SELECT held();
PREPARE TRANSACTION 'regress_deletes';
SELECT held();
SET lock_timeout = '10ms';
\set VERBOSITY terse
DELETE FROM t WHERE duration_nano = 9;
\set VERBOSITY default
RESET lock_timeout;
SELECT merges FROM tempo.compact('t');
COMMIT PREPARED 'regress_deletes';
SELECT held();
BEGIN;
DELETE FROM t;
PREPARE TRANSACTION 'regress_deletes';
ROLLBACK PREPARED 'regress_deletes';
SELECT held();
SELECT merges > 0 AS merged FROM tempo.compact('t');
SELECT held();
SELECT * FROM tempo.verify('t');

-- partitions, and a row that moves between them by hand
CREATE TABLE parted (LIKE tempo.spans INCLUDING DEFAULTS) PARTITION BY RANGE (start_time_unix_nano);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (1700000000005000000) USING tempo;
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1700000000005000000) TO (MAXVALUE) USING tempo;
INSERT INTO parted SELECT (span(n)).* FROM generate_series(1, 9) n;
DELETE FROM parted WHERE duration_nano % 3 = 0 RETURNING tableoid::regclass, duration_nano;
DELETE FROM parted USING t WHERE t.span_id = parted.span_id RETURNING parted.tableoid::regclass, parted.duration_nano;
SELECT tableoid::regclass, string_agg(duration_nano::text, ' ' ORDER BY duration_nano) FROM parted GROUP BY 1 ORDER BY 1;
BEGIN;
ALTER TABLE parted DETACH PARTITION parted_1;
DELETE FROM parted;
ROLLBACK;
DELETE FROM parted_2;
SELECT count(*) FROM parted;
SELECT * FROM tempo.verify('parted_1') UNION ALL SELECT * FROM tempo.verify('parted_2');
DROP TABLE parted;

-- foreign keys
TRUNCATE t;
CREATE TABLE services (name text PRIMARY KEY);
INSERT INTO services VALUES ('shop'), ('web'), ('db');
ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (service_name) REFERENCES services DEFERRABLE;
INSERT INTO t SELECT (span(n, 'web')).* FROM generate_series(1, 3) n;
INSERT INTO t SELECT (span(n)).* FROM generate_series(4, 5) n;
DELETE FROM services WHERE name = 'web';
DELETE FROM services WHERE name = 'db';
BEGIN;
SET CONSTRAINTS fk DEFERRED;
DELETE FROM services WHERE name = 'web';
DELETE FROM t WHERE service_name = 'web';
INSERT INTO t SELECT (span(6, 'db')).* RETURNING ctid AS tid \gset
DELETE FROM t WHERE ctid = :'tid';
SELECT merges > 0 AS merged FROM tempo.compact('t');
COMMIT;
SELECT name FROM services;
-- what stays is checked, also when rows beside it are deleted and merged away
BEGIN;
SET CONSTRAINTS fk DEFERRED;
INSERT INTO t SELECT (span(n, 'service ' || n)).* FROM generate_series(11, 13) n;
DELETE FROM t WHERE duration_nano = 11;
SELECT merges > 0 AS merged FROM tempo.compact('t');
INSERT INTO services VALUES ('service 12');
COMMIT;
BEGIN;
SET CONSTRAINTS fk DEFERRED;
DELETE FROM services WHERE name = 'web';
INSERT INTO t SELECT (span(n, 'service ' || n)).* FROM generate_series(11, 13) n;
SAVEPOINT a;
DELETE FROM t WHERE duration_nano = 13;
ROLLBACK TO a;
DELETE FROM t WHERE duration_nano IN (11, 13);
INSERT INTO services VALUES ('service 12');
COMMIT;
SELECT held();
BEGIN;
SET CONSTRAINTS fk DEFERRED;
DELETE FROM services WHERE name = 'shop';
DELETE FROM t WHERE duration_nano = 4;
COMMIT;
SELECT held();
DROP TABLE t, services;

-- DROP works, whatever the state of the directory
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 9) n;
RESET client_min_messages;
BEGIN;
ALTER TABLE tempo.segment_directory ADD COLUMN another int;
SELECT count(*) FROM t;
ROLLBACK;
BEGIN;
ALTER TABLE tempo.segment_directory ADD COLUMN another int;
DROP TABLE t;
SELECT to_regclass('t');
ROLLBACK;
BEGIN;
ALTER TABLE tempo.segment_deletions ADD COLUMN another int;
DROP TABLE t;
ROLLBACK;
SET client_min_messages = error;
BEGIN;
ALTER TABLE tempo.segment_directory ADD COLUMN another int;
DROP EXTENSION tempo_pg CASCADE;
SELECT count(*) FROM pg_extension WHERE extname = 'tempo_pg';
ROLLBACK;
SET client_min_messages = warning;
SELECT count(*) FROM t;
DROP TABLE t;
DROP FUNCTION held, span;
