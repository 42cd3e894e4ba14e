-- Transactions: what a command, a savepoint, a block with an exception handler
-- and a cursor see of buffered, flushed and rolled back rows.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE FUNCTION span(n int) RETURNS tempo.spans LANGUAGE sql AS $$
    SELECT ROW('single-tenant', lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               NULL, '', 0, 'op', 'server', 'unset', '', 1700000000000000000 + n * 1000000, 1000 * n,
               NULL, NULL, NULL, NULL, jsonb_build_object('n', n), '{"service.name": "shop"}',
               '', '', '{}', '[]', '[]', 0, 0, 0, 0, 0, '', '', '[]')::tempo.spans
$$;
CREATE FUNCTION held() RETURNS text LANGUAGE sql VOLATILE AS
    $$ SELECT coalesce(string_agg(attributes->>'n', ' ' ORDER BY start_time_unix_nano), '-') FROM t $$;

-- rollback
BEGIN;
INSERT INTO t SELECT (span(1)).*;
SELECT held();
ROLLBACK;
SELECT held();

-- savepoints: nested, released and rolled back
BEGIN;
INSERT INTO t SELECT (span(1)).*;
SAVEPOINT a;
INSERT INTO t SELECT (span(2)).*;
SAVEPOINT b;
INSERT INTO t SELECT (span(3)).*;
SELECT held();
ROLLBACK TO b;
SELECT held();
INSERT INTO t SELECT (span(4)).*;
RELEASE b;
SELECT held();
ROLLBACK TO a;
SELECT held();
INSERT INTO t SELECT (span(5)).*;
RELEASE a;
INSERT INTO t SELECT (span(6)).*;
COMMIT;
SELECT held();
TRUNCATE t;

-- blocks with exception handlers
DO $$
BEGIN
    INSERT INTO t SELECT (span(1)).*;
    BEGIN
        INSERT INTO t SELECT (span(2)).*;
        RAISE EXCEPTION 'no';
    EXCEPTION WHEN OTHERS THEN
        INSERT INTO t SELECT (span(3)).*;
    END;
    BEGIN
        INSERT INTO t SELECT (span(4)).*;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    FOR n IN 5..8 LOOP
        BEGIN
            INSERT INTO t SELECT (span(n)).*;
            IF n % 2 = 0 THEN
                RAISE EXCEPTION 'even';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END
$$;
SELECT held();
TRUNCATE t;

-- a handler in the middle of an INSERT must not take the outer rows with it,
-- and functions see what the INSERT has done so far, as with a heap
CREATE FUNCTION risky(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    BEGIN
        RAISE NOTICE '% sees %', n, held();
        IF n % 2 = 0 THEN
            INSERT INTO t SELECT (span(100 + n)).*;
            RAISE EXCEPTION 'even';
        END IF;
        INSERT INTO t SELECT (span(200 + n)).*;
    EXCEPTION WHEN OTHERS THEN
        RETURN n;
    END;
    RETURN n;
END
$$;
SET client_min_messages = notice;
INSERT INTO t SELECT (span(risky)).* FROM (SELECT risky(n) FROM generate_series(1, 5) n OFFSET 0) x;
RESET client_min_messages;
SELECT held();
TRUNCATE t;
SET tempo_pg.insert_buffer_size = '64kB';
SET client_min_messages = notice;
INSERT INTO t SELECT (span(risky)).* FROM (SELECT risky(n) FROM generate_series(1, 2) n OFFSET 0) x;
RESET client_min_messages;
SELECT held();
TRUNCATE t;

-- a cursor that reads rows still in memory outlives the INSERT that put them there
CREATE FUNCTION open_cursor(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
DECLARE c refcursor := 'left_open';
BEGIN
    IF n = 3 THEN
        BEGIN
            OPEN c FOR SELECT attributes->>'n' AS n FROM t ORDER BY start_time_unix_nano + 0 LIMIT 5;
            PERFORM 1;
        EXCEPTION WHEN OTHERS THEN
            RAISE;
        END;
    END IF;
    RETURN n;
END
$$;
SET tempo_pg.insert_buffer_size = '64kB';
BEGIN;
INSERT INTO t SELECT (span(o)).* FROM (SELECT open_cursor(n) AS o FROM generate_series(1, 300) n OFFSET 0) x;
SELECT count(*) FROM t;
FETCH ALL FROM left_open;
COMMIT;
DROP FUNCTION open_cursor;
TRUNCATE t;

-- a statement that fails half way, after some of it was flushed
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 2000) n WHERE n / (1500 - n) IS NOT NULL;
SELECT count(*) FROM t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 2000) n;
SELECT count(*), sum((attributes->'n')::int), count(DISTINCT ctid) FROM t;
SELECT count(*) > 1 AS several FROM tempo.segments WHERE relation = 't'::regclass;
-- reads itself while it writes
INSERT INTO t SELECT * FROM t;
SELECT count(*), sum((attributes->'n')::int), count(DISTINCT ctid) FROM t;
RESET tempo_pg.insert_buffer_size;
TRUNCATE t;

-- a cursor does not see later commands
BEGIN;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 3) n;
DECLARE c CURSOR FOR SELECT attributes->>'n' AS n FROM t ORDER BY start_time_unix_nano;
INSERT INTO t SELECT (span(4)).*;
FETCH ALL FROM c;
SELECT held();
COMMIT;
TRUNCATE t;

-- AFTER triggers find their rows, also when they fire late and rows were flushed in between
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, n int, was int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log (n, was) SELECT (NEW.attributes->>'n')::int, count(*) FROM t;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log();
BEGIN;
INSERT INTO t SELECT (span(1)).*;
SAVEPOINT a;
INSERT INTO t SELECT (span(2)).*;
ROLLBACK TO a;
INSERT INTO t SELECT (span(3)).*;
SELECT count(*) FROM log;
COMMIT;
SELECT n, was FROM log ORDER BY id;
TRUNCATE log, t;
SET tempo_pg.insert_buffer_size = '64kB';
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 1000) n;
SELECT count(DISTINCT n), sum(n), min(was), max(was) FROM log;
RESET tempo_pg.insert_buffer_size;
DROP TRIGGER late ON t;
TRUNCATE log, t;

-- a trigger that inserts into the same table
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.attributes->>'n')::int < 100 THEN
        INSERT INTO t SELECT (span((NEW.attributes->>'n')::int + 100)).*;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER again BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION again();
CREATE TRIGGER log AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 3) n;
SELECT held();
SELECT n FROM log ORDER BY n;
DROP TRIGGER again ON t;
DROP TRIGGER log ON t;
DROP TABLE log;
TRUNCATE t;

-- parallel scans see the rows of their own transaction
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 100) n;
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
BEGIN;
INSERT INTO t SELECT (span(n)).* FROM generate_series(101, 200) n;
SAVEPOINT a;
INSERT INTO t SELECT (span(n)).* FROM generate_series(201, 300) n;
SELECT count(*), sum((attributes->>'n')::int) FROM t;
ROLLBACK TO a;
SELECT count(*), sum((attributes->>'n')::int) FROM t;
COMMIT;
CREATE TABLE copied USING tempo AS SELECT * FROM t;
SELECT count(*), sum((attributes->>'n')::int) FROM copied;
DROP TABLE copied;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- serializable and repeatable read in one session
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO t SELECT (span(500)).*;
SELECT count(*) FROM t;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM t;
INSERT INTO t SELECT (span(501)).*;
SELECT count(*) FROM t;
ROLLBACK;
SELECT count(*) FROM t;

-- a cursor that saw rows which could not be flushed yet, read after they were
TRUNCATE t;
INSERT INTO t SELECT (span(n)).* FROM generate_series(1, 2) n;
CREATE FUNCTION peek(n int) RETURNS tempo.spans LANGUAGE plpgsql AS $$
DECLARE
    seen refcursor := 'seen';
    r record;
BEGIN
    IF n = 13 THEN
        BEGIN
            OPEN seen FOR SELECT attributes->>'n' AS n FROM t;
            FETCH seen INTO r;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END IF;
    RETURN span(n);
END
$$;
SET tempo_pg.enable_custom_scan = off;
BEGIN;
INSERT INTO t SELECT (s).* FROM (SELECT peek(n) AS s FROM generate_series(11, 13) n OFFSET 0) q;
FETCH ALL FROM seen;
ROLLBACK;
RESET tempo_pg.enable_custom_scan;
BEGIN;
INSERT INTO t SELECT (s).* FROM (SELECT peek(n) AS s FROM generate_series(11, 13) n OFFSET 0) q;
FETCH ALL FROM seen;
ROLLBACK;
DROP FUNCTION peek;

DROP TABLE t;
DROP FUNCTION held, risky, log(), again;
DROP FUNCTION span;
