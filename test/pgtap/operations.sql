-- Views of the storage, who sees what in them, retention in SQL, and damage that verify() finds in the directory's own tables.
BEGIN;
SELECT plan(36);

CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE FUNCTION add(tenant text, first int, last int, age interval DEFAULT '0') RETURNS void LANGUAGE sql AS $$
    INSERT INTO t (tenant, trace_id, span_id, start_time_unix_nano, duration_nano)
    SELECT tenant, lpad(to_hex(n), 32, '0')::tempo.trace_id, lpad(to_hex(n), 16, '0')::tempo.span_id,
           (extract(epoch FROM now() - age) * 1e9)::bigint, n FROM generate_series(first, last) n
$$;
CREATE VIEW mine AS SELECT segments, level0_segments AS l0, level1_segments AS l1, spans, deleted_spans AS deleted FROM tempo.stat_tables WHERE relation = 't'::regclass;
GRANT SELECT ON t, mine TO PUBLIC;

SELECT is(s, NULL, 'an empty table has no segment') FROM (SELECT nullif(segments, 0) AS s FROM mine) x;
SELECT add('a', 1, 10), add('b', 11, 15);
SELECT results_eq('SELECT * FROM mine', $$VALUES (2::bigint, 2::bigint, 0::bigint, 15::bigint, 0::bigint)$$, 'segments and spans');
DELETE FROM t WHERE duration_nano <= 4;
SELECT results_eq('SELECT * FROM mine', $$VALUES (2::bigint, 2::bigint, 0::bigint, 11::bigint, 4::bigint)$$, 'deleted ones are counted apart');
SELECT ok(bytes > 0 AND raw_bytes > 0 AND file_bytes >= bytes AND free_bytes = 0 AND oldest <= newest, 'sizes and times') FROM tempo.stat_tables WHERE relation = 't'::regclass;
SELECT is((SELECT count(*) FROM tempo.verify('t')), 0::bigint, 'nothing is wrong');

-- damage
SAVEPOINT before;
UPDATE tempo.segment_deletions SET segment_id = 4711 WHERE storage_id = tempo.storage_id('t');
SELECT results_eq($$SELECT segment_id, problem FROM tempo.verify('t')$$, $$VALUES (4711::bigint, 'rows are deleted from a segment that does not exist')$$, 'a bitmap without a segment');
ROLLBACK TO before;
UPDATE tempo.segment_deletions SET bitmap = '\x0000000000000001' WHERE storage_id = tempo.storage_id('t');
SELECT is(problem, 'the rows deleted from the segment are not rows of it', 'a bitmap that is too long') FROM tempo.verify('t');
SELECT throws_ok('SELECT count(*) FROM t', 'XX001', NULL, 'is damage to readers');
ROLLBACK TO before;
UPDATE tempo.segment_deletions SET bitmap = '\x01' WHERE storage_id = tempo.storage_id('t');
SELECT is(problem, 'the rows deleted from the segment are not rows of it', 'a bitmap that is too short') FROM tempo.verify('t');
ROLLBACK TO before;
UPDATE tempo.segment_deletions SET bitmap = '\x000000000f04' WHERE storage_id = tempo.storage_id('t');
SELECT is(problem, 'the rows deleted from the segment are not rows of it', 'a bit behind the last row') FROM tempo.verify('t');
ROLLBACK TO before;

-- row policies
CREATE ROLE operations_reader;
GRANT tempo_reader TO operations_reader;
GRANT USAGE ON SCHEMA tap TO operations_reader;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_b ON t USING (tenant = 'b');
SET ROLE operations_reader;
SELECT is((SELECT count(*) FROM t), 5::bigint, 'a policy hides rows');
SELECT is((SELECT count(*) FROM tempo.segments WHERE relation = 't'::regclass), 0::bigint, 'and the segments they are in');
SELECT is((SELECT count(*) FROM mine), 0::bigint, 'and their number');
SELECT is((SELECT s.segments FROM tempo.table_statistics('t') s), NULL, 'from the function, too');
SELECT throws_ok('SELECT * FROM tempo.stat_compaction', '42501', NULL, 'as the counters of compaction are');
SELECT throws_ok($$SELECT tempo.compact('t')$$, '42501', NULL, 'readers do not compact');
SELECT throws_ok($$SELECT tempo.apply_retention('t')$$, '42501', NULL, 'nor remove anything');
SELECT throws_ok($$SELECT tempo.set_retention('a', '1 s')$$, '42501', NULL, 'nor set limits');
RESET ROLE;
ALTER TABLE t DISABLE ROW LEVEL SECURITY;
SET ROLE operations_reader;
SELECT is((SELECT count(*) FROM tempo.segments WHERE relation = 't'::regclass), 2::bigint, 'without policies readers see segments');
SELECT is((SELECT segments FROM mine), 2::bigint, 'and their number');
RESET ROLE;
REVOKE SELECT ON t FROM PUBLIC;
SET ROLE operations_reader;
SELECT is((SELECT count(*) FROM tempo.segments WHERE relation = 't'::regclass), 0::bigint, 'of tables that they may read');
SELECT is((SELECT s.segments FROM tempo.table_statistics('t') s), NULL, 'whatever they ask');
RESET ROLE;
GRANT tempo_admin TO operations_reader;
GRANT SELECT ON t TO tempo_admin;
SET ROLE operations_reader;
SELECT lives_ok('SELECT * FROM tempo.stat_compaction', 'administrators see the counters');
SELECT is((SELECT spans FROM tempo.compact('t')), 11::bigint, 'and compact');
RESET ROLE;
SELECT results_eq('SELECT * FROM mine', $$VALUES (2::bigint, 0::bigint, 2::bigint, 11::bigint, 0::bigint)$$, 'merging removes deleted spans, and makes a segment for each tenant');
SELECT throws_ok($$SELECT tempo.compact('pg_class')$$, '42809', NULL, 'only tables of the access method are compacted');
SELECT throws_ok($$SELECT tempo.apply_retention('pg_class')$$, '42809', NULL, 'and lose spans');
SELECT throws_ok($$SELECT tempo.compact(1)$$, '42P01', NULL, 'and only such that exist');

-- retention
SELECT add('a', 101, 110, '3 hours'), add('b', 111, 112, '3 hours'), add('c', 121, 123, '1 hour');
SELECT results_eq($$SELECT segments, spans FROM tempo.apply_retention('t')$$, 'VALUES (0, 0::bigint)', 'no limit, no loss');
SELECT tempo.set_retention('a', '2 hours'), tempo.set_retention('b', '4 hours'), tempo.set_retention('c', '10000000 years');
SELECT results_eq($$SELECT segments, spans FROM tempo.apply_retention('t')$$, 'VALUES (1, 10::bigint)', 'one tenant''s limit');
SELECT tempo.set_retention('b', '0.5 hours');
SELECT results_eq($$SELECT segments, spans FROM tempo.apply_retention('t')$$, 'VALUES (1, 2::bigint)', 'another one''s, shortened');
SELECT tempo.set_retention('c', '1 minute');
SELECT results_eq($$SELECT segments, spans, bytes > 0 FROM tempo.apply_retention('t')$$, 'VALUES (1, 3::bigint, true)', 'a limit beyond all time was none');
SELECT results_eq('SELECT tenant, count(*) FROM t GROUP BY 1 ORDER BY 1', $$VALUES ('a', 6::bigint), ('b', 5::bigint)$$, 'the others are there');
SELECT throws_ok($$SELECT tempo.set_retention('*', '1 day')$$, '23514', NULL, 'the default is not a tenant');
SELECT throws_ok($$SELECT tempo.set_retention('a', '-1 day')$$, '23514', NULL, 'a limit is not negative');
SELECT is((SELECT count(*) FROM tempo.verify('t')), 0::bigint, 'nothing is wrong in the end');

SELECT * FROM finish();
ROLLBACK;
