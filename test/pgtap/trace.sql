-- One trace by its id: as JSON, as protobuf, as OTLP/JSON.
BEGIN;
SELECT plan(33);

CREATE FUNCTION get(path text, query text DEFAULT '', headers jsonb DEFAULT '{}',
                    OUT status int, OUT type text, OUT body text)
    LANGUAGE sql AS $$ SELECT a.status, a.headers ->> 'Content-Type', convert_from(a.body, 'UTF8')
                       FROM tempo.api('GET', path, query, headers) AS a $$;
CREATE FUNCTION answer(path text, query text DEFAULT '') RETURNS text
    LANGUAGE sql AS $$ SELECT g.status || ' ' || g.body FROM get(path, query) AS g $$;

INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, trace_state, flags, name, kind, status, status_message,
                         start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, scope_version,
                         events, links, dropped_attributes_count)
VALUES ('00000000000000000000000000000abc', '0000000000000001', NULL, 'k=v', 257, 'GET <a>&', 'server', 'error', 'bad',
        1700000000000000000, 1500,
        '{"int": 9007199254740993, "zero": 0, "d": 0.5, "tiny": 1.0e-7, "huge": 1e30, "t": false, "s": "", "a": [1, "x", 2.0], "m": {"k": {"n": true}},
          "b": {"$otlp": {"bytesValue": "AAE="}}, "nan": {"$otlp": {"doubleValue": "NaN"}}, "e": {"$otlp": {}}, "u": "\u2028\u0001ä"}',
        '{"service.name": "shop"}', 'lib', '1.2',
        '[{"time_unix_nano": 1700000000000000001, "name": "ev", "attributes": {"x": "y"}, "dropped_attributes_count": 2}]',
        '[{"trace_id": "00000000000000000000000000000abd", "span_id": "0000000000000009", "attributes": {}}]', 3),
       ('00000000000000000000000000000abc', '0000000000000002', '0000000000000001', '', 0, 'child', 'unspecified', 'unset', '',
        1700000000000000100, 1500, '{}', '{}', '', '', '[]', '[]', 0);

SELECT is(get('/api/traces/abc'), get('/api/traces/00000000000000000000000000000ABC'), 'a short id has zeros in front, in either case');
SELECT is(get('/api/traces/abc'), get('/api/traces/0abc'), 'an even number of digits is as good');
SELECT is((SELECT status FROM get('/api/traces/abc')), 200, 'found');
SELECT is((SELECT array_agg(k) FROM get('/api/traces/abc'), jsonb_object_keys(body::jsonb) AS k), ARRAY['batches'], 'v1 has batches');
SELECT is((SELECT body::jsonb -> 'batches' FROM get('/api/traces/abc')), (SELECT body::jsonb #> '{trace,resourceSpans}' FROM get('/api/v2/traces/abc')), 'v2 has the same in a trace');
SELECT is((SELECT body::jsonb -> 'metrics' FROM get('/api/v2/traces/abc')), '{}', 'v2 has metrics');

CREATE TEMP TABLE found AS
    SELECT body, body::jsonb #> '{batches,0}' AS first, body::jsonb #> '{batches,0,scopeSpans,0,spans,0}' AS span,
           body::jsonb #> '{batches,1}' AS second, body::jsonb #> '{batches,1,scopeSpans,0,spans,0}' AS child
    FROM get('/api/traces/abc');
CREATE FUNCTION value(key text) RETURNS jsonb
    LANGUAGE sql AS $$ SELECT a -> 'value' FROM found, jsonb_array_elements(span -> 'attributes') AS a WHERE a ->> 'key' = key $$;

SELECT is((SELECT span ->> 'traceId' FROM found), 'AAAAAAAAAAAAAAAAAAAKvA==', 'ids are base64');
SELECT ok((SELECT NOT span ? 'parentSpanId' FROM found), 'a root has no parent');
SELECT is((SELECT child ->> 'parentSpanId' FROM found), 'AAAAAAAAAAE=', 'a child has one');
SELECT is((SELECT span ->> 'kind' FROM found), 'SPAN_KIND_SERVER', 'kinds have names');
SELECT is((SELECT span -> 'status' FROM found), '{"code": "STATUS_CODE_ERROR", "message": "bad"}', 'status');
SELECT is((SELECT child - 'traceId' - 'spanId' - 'parentSpanId' FROM found),
          '{"name": "child", "startTimeUnixNano": "1700000000000000100", "endTimeUnixNano": "1700000000000001600", "status": {}}', 'what is zero is left out');
SELECT is((SELECT second -> 'resource' FROM found), '{}', 'an empty resource is there');
SELECT is((SELECT second #> '{scopeSpans,0,scope}' FROM found), '{}', 'an empty scope is there');
SELECT is(value('int'), '{"intValue": "9007199254740993"}', 'integers are texts');
SELECT is(value('zero'), '{"intValue": "0"}', 'a zero value is there');
SELECT is(value('s'), '{"stringValue": ""}', 'an empty value is there');
SELECT is(value('a'), '{"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "x"}, {"doubleValue": 2}]}}', 'arrays');
SELECT is(value('m'), '{"kvlistValue": {"values": [{"key": "k", "value": {"kvlistValue": {"values": [{"key": "n", "value": {"boolValue": true}}]}}}]}}', 'maps');
SELECT is(value('b'), '{"bytesValue": "AAE="}', 'bytes');
SELECT is(value('nan'), '{"doubleValue": "NaN"}', 'NaN is a text');
SELECT is(value('e'), '{}', 'no value');
SELECT matches((SELECT body FROM found), '"GET \\u003ca\\u003e\\u0026"', 'HTML is escaped');
SELECT matches((SELECT body FROM found), '"\\u2028\\u0001ä"', 'line separators and control characters are escaped');
SELECT matches((SELECT body FROM found), '"doubleValue":1e-7\}.*|.*"doubleValue":1e-7\}', 'a small double has an exponent');
SELECT matches((SELECT body FROM found), '"doubleValue":1e\+30\}', 'a large double has an exponent');

SELECT is((SELECT tempo.trace_json('00000000000000000000000000000abc')::jsonb #> '{resourceSpans,0,scopeSpans,0,spans,0}' ->> 'traceId'),
          '00000000000000000000000000000abc', 'OTLP/JSON has hexadecimal ids');
SELECT is((SELECT tempo.trace_json('00000000000000000000000000000abc')::jsonb #>> '{resourceSpans,0,scopeSpans,0,spans,0,kind}'), '2', 'and numbers for enums');
SELECT is(tempo.trace_json('00000000000000000000000000000fff')::text, NULL, 'no trace, no JSON');

SELECT is(answer('/api/traces/fff'), '404 ', 'v1: not found');
SELECT is(answer('/api/v2/traces/fff'), '200 {"trace":{},"metrics":{}}', 'v2: not found is an empty trace');
SELECT is((SELECT body FROM tempo.api('GET', '/api/v2/traces/fff', '', '{"Accept": "application/protobuf"}')), '\x0a001200', 'the same in protobuf');
SELECT results_eq($$SELECT answer('/api/v2/traces/' || id, query) FROM (VALUES
    ('xyz', ''), ('12g4', ''), (repeat('1', 33), ''), ('2f3e0cee-77ae', ''), ('abc', 'start=20&end=10'), ('abc', 'mode=weird'), ('abc', 'start=x')) AS v(id, query)$$,
    ARRAY['400 trace IDs can only contain hex characters: invalid character ''x'' at position 1',
          '400 trace IDs can only contain hex characters: invalid character ''g'' at position 3',
          '400 trace IDs can''t be larger than 128 bits',
          '400 trace IDs can only contain hex characters: invalid character ''-'' at position 9',
          '400 http parameter start must be before end. received start=20 end=10',
          '400 invalid value for mode weird',
          '400 invalid start: strconv.ParseInt: parsing "x": invalid syntax'], 'what is no id, range or mode');

SELECT * FROM finish();
ROLLBACK;
