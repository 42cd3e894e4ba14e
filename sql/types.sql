-- tempo.trace_id and tempo.span_id
SELECT '0123456789ABCDEF0123456789abcdef'::tempo.trace_id, '00ff00FF00ff00ff'::tempo.span_id;

-- exactly 32 and 16 hexadecimal digits
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
SELECT '0123'::tempo.trace_id;
\set VERBOSITY default
SELECT '0123456789abcdef0123456789abcdef0'::tempo.trace_id;
SELECT '0123456789abcdef0123456789abcdeg'::tempo.trace_id;
SELECT ''::tempo.span_id;
SELECT ' 00ff00ff00ff00ff'::tempo.span_id;
SELECT '\x00ff00ff00ff00f'::tempo.span_id;

-- casts
SELECT '0123456789abcdef'::tempo.span_id::bytea,
       '\x0123456789abcdef'::bytea::tempo.span_id,
       '0123456789abcdef'::tempo.span_id::text,
       '0123456789ABCDEF'::text::tempo.span_id,
       '0123456789abcdef0123456789abcdef'::tempo.trace_id::bytea,
       decode(repeat('ab', 16), 'hex')::tempo.trace_id;
SELECT '\x0123'::bytea::tempo.span_id;
SELECT '\x'::bytea::tempo.trace_id;

-- operators need no search path
SET search_path = '';
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt
FROM (VALUES ('00000000000000000000000000000001'::tempo.trace_id, 'ff000000000000000000000000000000'::tempo.trace_id),
             ('00000000000000000000000000000001', '00000000000000000000000000000001'),
             ('80000000000000000000000000000000', '7f000000000000000000000000000000')) AS t(a, b);
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt
FROM (VALUES ('0000000000000001'::tempo.span_id, 'ff00000000000000'::tempo.span_id),
             ('0000000000000001', '0000000000000001'),
             ('8000000000000000', '7f00000000000000')) AS t(a, b);
RESET search_path;

-- sorting, hashing, indexes
CREATE TABLE ids (t tempo.trace_id PRIMARY KEY, s tempo.span_id);
INSERT INTO ids SELECT md5(i::text)::tempo.trace_id, substr(md5(i::text), 1, 16)::tempo.span_id
FROM generate_series(1, 1000) AS i;
CREATE INDEX ON ids USING hash (s);
SELECT bool_and(ok) FROM (SELECT t::text >= lag(t::text, 1, '') OVER (ORDER BY t) AS ok FROM ids) AS x;
SELECT count(*) FROM ids AS a JOIN ids AS b USING (t);
SET enable_hashjoin = off;
SELECT count(*) FROM ids AS a JOIN ids AS b USING (s);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM ids WHERE t = 'c4ca4238a0b923820dcc509a6f75849b';
SELECT * FROM ids WHERE t = 'c4ca4238a0b923820dcc509a6f75849b';
SELECT * FROM ids WHERE s = 'C4CA4238A0B92382';
SELECT count(DISTINCT t), count(DISTINCT s) FROM ids;
SELECT * FROM ids WHERE t IN ('c4ca4238a0b923820dcc509a6f75849b', '00000000000000000000000000000000');
DROP TABLE ids;
