-- /api/search: by TraceQL and by tags.
BEGIN;
SELECT plan(34);

CREATE FUNCTION get(path text, query text DEFAULT '', headers jsonb DEFAULT '{}',
                    OUT status int, OUT type text, OUT body text)
    LANGUAGE sql AS $$ SELECT a.status, a.headers ->> 'Content-Type', convert_from(a.body, 'UTF8')
                       FROM tempo.api('GET', path, query, headers) AS a $$;
CREATE FUNCTION answer(query text) RETURNS text
    LANGUAGE sql AS $$ SELECT g.status || ' ' || g.body FROM get('/api/search', query) AS g $$;
CREATE FUNCTION found(query text) RETURNS text[]
    LANGUAGE sql AS $$ SELECT coalesce(array_agg(t ->> 'traceID'), '{}') FROM get('/api/search', query), jsonb_array_elements(body::jsonb -> 'traces') AS t $$;

SELECT is(answer('q={}'), '200 {"traces":[],"metrics":{"completedJobs":1,"totalJobs":1}}', 'nothing there');
SELECT is(answer('q={}>>{}'), '200 {"traces":[],"metrics":{"completedJobs":1,"totalJobs":1}}', 'a structural query finds nothing there either');

INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
VALUES ('00000000000000000000000000000abc', '0000000000000001', NULL, 'GET /', 'server', 'error', 1700000000000000000, 90000000000, '{"n": 1, "s": "x"}', '{"service.name": "shop"}'),
       ('00000000000000000000000000000abc', '0000000000000002', '0000000000000001', 'child', 'client', 'unset', 1700000000000000100, 1500, '{"n": 2}', '{"service.name": "pay"}'),
       ('0000000000000000000000000000dead', '0000000000000003', '0000000000000009', 'orphan', 'server', 'unset', 1700000200000000000, 1500, '{"n": 2}', '{"zone": "z"}');

SELECT is(found('q={}'), ARRAY['dead', 'abc'], 'newest first, ids without leading zeros');
SELECT is(found('q={}&limit=1'), ARRAY['dead'], 'limit');
SELECT is(found('q={span.n=2}'), ARRAY['dead', 'abc'], 'by attribute');
SELECT is(found('q={status=error}'), ARRAY['abc'], 'by intrinsic');
SELECT is(found('q={status=error}|rate()'), ARRAY['abc'], 'a metrics query finds its spans');
SELECT is(found('q={false}'), '{}', 'constant false');
SELECT is(found('q={}&start=1700000050&end=1700000060'), ARRAY['abc'], 'a trace that overlaps the range, without a span starting in it');
SELECT is(found('q={}&start=1700000150&end=1700000160'), '{}', 'no trace in the range');
SELECT is((SELECT t - 'spanSet' - 'spanSets' FROM get('/api/search', 'q={span.n=1}'), jsonb_array_elements(body::jsonb -> 'traces') AS t),
          '{"traceID": "abc", "rootServiceName": "shop", "rootTraceName": "GET /", "startTimeUnixNano": "1700000000000000000", "durationMs": 90000,
            "serviceStats": {"shop": {"spanCount": 1, "errorCount": 1}, "pay": {"spanCount": 1}}}', 'a trace');
SELECT is((SELECT t -> 'spanSets' FROM get('/api/search', 'q={span.n=1}'), jsonb_array_elements(body::jsonb -> 'traces') AS t),
          '[{"spans": [{"spanID": "0000000000000001", "startTimeUnixNano": "1700000000000000000", "durationNanos": "90000000000",
                        "attributes": [{"key": "n", "value": {"intValue": "1"}}]}], "matched": 1}]', 'its spans');
SELECT ok((SELECT bool_and(t -> 'spanSet' = t #> '{spanSets,0}') FROM get('/api/search', 'q={}'), jsonb_array_elements(body::jsonb -> 'traces') AS t), 'spanSet is the first of spanSets');
SELECT is((SELECT t - 'spanSet' - 'spanSets' FROM get('/api/search', 'q={}&limit=1'), jsonb_array_elements(body::jsonb -> 'traces') AS t),
          '{"traceID": "dead", "rootServiceName": "<root span not yet received>", "startTimeUnixNano": "1700000200000000000", "serviceStats": {"": {"spanCount": 1}}}', 'a trace without root');
SELECT is((SELECT t #> '{spanSet,matched}' FROM get('/api/search', 'q={}&spss=1'), jsonb_array_elements(body::jsonb -> 'traces') AS t WHERE t ->> 'traceID' = 'abc'), '2', 'matched counts more than is shown');
SELECT is((SELECT status FROM get('/api/metrics/query_range', 'q={}|rate()&start=1700000000&end=1700000060')), 200, 'metrics have their own endpoint');
SELECT is((SELECT encode(body, 'hex') FROM tempo.api('GET', '/api/search', 'q={span.n=1}&spss=1&start=1&end=2', '{"Accept": "application/protobuf"}')), '120420012801', 'protobuf without traces');
SELECT matches((SELECT encode(body, 'hex') FROM tempo.api('GET', '/api/search', 'q={span.n=1}', '{"Accept": "application/protobuf"}')),
               '^0a..010a03616263120473686f701a05474554202f208080a8b1e39fe7cb172890bf05', 'protobuf with a trace');

-- by tags
SELECT is(found('tags=service.name%3Dsh'), ARRAY['abc'], 'part of a service name');
SELECT is(found('tags=s%3Dx+name%3Dchi'), ARRAY['abc'], 'tags may be of different spans');
SELECT is(found('tags=s%3D%22x%22'), ARRAY['abc'], 'quoted');
SELECT is(found('tags=s%3D'), '{}', 'an empty value is a value');
SELECT is(found('minDuration=1s'), ARRAY['abc'], 'long ones');
SELECT is(found('maxDuration=1s'), ARRAY['dead'], 'short ones');
SELECT is(found(''), ARRAY['dead', 'abc'], 'all');
SELECT ok((SELECT bool_and(NOT t ? 'spanSet' AND NOT t ? 'serviceStats') FROM get('/api/search', ''), jsonb_array_elements(body::jsonb -> 'traces') AS t), 'without spansets');
SELECT is(found('tags=it''s%3D''x'), '{}', 'quotes of SQL are only text');

SELECT results_eq($$SELECT answer(query) FROM unnest(ARRAY['q={ .a = }', 'q={ foo = 1 }', 'q={ name = 1 }', 'q={}&tags=a%3Db', 'tags=a%3Db a%3Dc', 'tags=a%3D%22b', 'q={}&limit=0', 'q={}&limit=-1', 'q={}&limit=262145', 'q={}&spss=101']) AS query$$,
    ARRAY['400 invalid TraceQL query: parse error at line 1, col 8: syntax error: unexpected }',
          '400 invalid TraceQL query: parse error at line 1, col 3: unknown identifier: foo',
          '400 invalid TraceQL query: binary operations must operate on the same type: name = 1',
          '400 invalid request: can''t specify tags and q in the same query',
          '400 invalid tags: tag a has been set twice',
          '400 invalid tags: unterminated quoted value at pos 5',
          '400 invalid limit: must be a positive number',
          '400 invalid limit: must be a positive number',
          '400 limit 262145 exceeds max limit 262144',
          '400 spans per span set exceeds 100. received 101'], 'what is wrong with a search');
SELECT results_eq($$SELECT answer('q={}&' || query) FROM unnest(ARRAY['start=20&end=10', 'start=10', 'end=10', 'start=100&end=700000', 'since=zz', 'start=-1&end=5', 'minDuration=5']) AS query$$,
    ARRAY['400 http parameter start must be before end. received start=20 end=10',
          '400 http parameter start must be before end. received start=10 end=0',
          '400 error parsing date range: only one of start and end provided: must provide both or neither',
          '400 range specified by start and end exceeds 168h0m0s. received start=100 end=700000',
          '400 error parsing date range: could not parse ''since'' parameter: not a valid duration string: "zz"',
          '400 invalid start: strconv.ParseInt: parsing "-1": value out of range',
          '400 invalid minDuration: time: invalid duration "5"'], 'what is wrong with its range');
SELECT is((SELECT status FROM get('/api/search', 'tags=a%3Db&minDuration=2s&maxDuration=1s')), 400, 'no duration is both');

-- settings
SET LOCAL tempo_pg.search_default_limit = 1;
SELECT is(found('q={}'), ARRAY['dead'], 'default limit');
SET LOCAL tempo_pg.left_pad_trace_ids = on;
SELECT is(found('q={}'), ARRAY['0000000000000000000000000000dead'], 'padded ids');
SET LOCAL tempo_pg.search_default_range = '1h';
SELECT is(found('q={}'), '{}', 'default range');
RESET tempo_pg.search_default_range;
SELECT lives_ok($$SELECT tempo.api('GET', '/api/search', 'q={ .a = }')$$, 'an error of the query is no error of the function');

SELECT * FROM finish();
ROLLBACK;
