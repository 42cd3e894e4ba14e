-- Tag names and tag values.
BEGIN;
SELECT plan(31);

CREATE FUNCTION get(path text, query text DEFAULT '', headers jsonb DEFAULT '{}',
                    OUT status int, OUT type text, OUT body text)
    LANGUAGE sql AS $$ SELECT a.status, a.headers ->> 'Content-Type', convert_from(a.body, 'UTF8')
                       FROM tempo.api('GET', path, query, headers) AS a $$;
CREATE FUNCTION names(scope text, query text DEFAULT '') RETURNS jsonb
    LANGUAGE sql AS $$ SELECT body::jsonb #> '{scopes,0,tags}' FROM get('/api/v2/search/tags', 'scope=' || scope || '&' || query) $$;
CREATE FUNCTION tag_values(tag text, query text DEFAULT '') RETURNS text[]
    LANGUAGE sql AS $$ SELECT coalesce(array_agg((v ->> 'type') || ':' || coalesce(v ->> 'value', 'NONE')), '{}')
                       FROM get('/api/v2/search/tag/' || tag || '/values', query), jsonb_array_elements(body::jsonb -> 'tagValues') AS v $$;
CREATE FUNCTION plain(tag text, query text DEFAULT '') RETURNS jsonb
    LANGUAGE sql AS $$ SELECT body::jsonb -> 'tagValues' FROM get('/api/search/tag/' || tag || '/values', query) $$;

SELECT is((SELECT jsonb_array_length(body::jsonb -> 'scopes') FROM get('/api/v2/search/tags')), 1, 'nothing there but intrinsics');

INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, scope_attributes, events, links)
VALUES ('00000000000000000000000000000abc', '0000000000000001', NULL, 'GET /', 'server', 'error', 1700000000000000000, 1000,
        '{"n": 1, "f": 2.0, "g": 1000000.0, "b": true, "s": "", "l": ["b", "a"], "m": {"k": 1}, "a b": "ann", "sl/ash": "p/1", "q\"x": "y", "магазин": "да"}',
        '{"service.name": "shop"}', 'lib', '{"lang": "c"}', '[{"time_unix_nano": 1, "name": "ev", "attributes": {"sku": "S-1"}}]',
        '[{"trace_id": "00000000000000000000000000000abd", "span_id": "0000000000000009", "attributes": {"cause": "retry"}}]'),
       ('00000000000000000000000000000abc', '0000000000000002', '0000000000000001', 'child', 'client', 'unset', 1700000100000000000, 1000,
        '{"n": "many"}', '{"service.name": "pay"}', '', '{}', '[]', '[]');

SELECT is(names('span'), '["a b", "b", "f", "g", "l", "m", "n", "q\"x", "s", "sl/ash", "магазин"]', 'keys of spans');
SELECT is(names('resource'), '["service.name"]', 'keys of resources');
SELECT is(names('event') || names('link') || names('instrumentation'), '["sku", "cause", "lang"]', 'keys of events, links, scopes');
SELECT is((SELECT body::jsonb -> 'scopes' FROM get('/api/v2/search/tags', 'scope=trace')), '[]', 'the scope trace has none');
SELECT is(jsonb_array_length(names('intrinsic')), 25, 'intrinsics');
SELECT is((SELECT jsonb_array_length(body::jsonb -> 'scopes') FROM get('/api/v2/search/tags', 'scope=none')), 6, 'all scopes');
SELECT is((SELECT status || ' ' || body FROM get('/api/v2/search/tags', 'scope=x')), '400 invalid scope: x', 'no scope');
SELECT is(names('span', 'limit=2'), '["a b", "b"]', 'limit');
SELECT is(names('span', 'q={kind=client}'), '["n"]', 'narrowed down');
SELECT is(names('span', 'start=1700000050&end=1700000150'), '["n"]', 'in a range');
SELECT is((SELECT body::jsonb -> 'tagNames' FROM get('/api/search/tags', 'scope=resource')), '["service.name"]', 'v1: one scope');
SELECT is((SELECT body::jsonb -> 'tagNames' FROM get('/api/search/tags')),
          '["a b", "b", "cause", "f", "g", "l", "lang", "m", "n", "q\"x", "s", "service.name", "sku", "sl/ash", "магазин"]', 'v1: all in one list');

SELECT is(tag_values('span.n'), ARRAY['int:1', 'string:many'], 'values of both types');
SELECT is(tag_values('span.f') || tag_values('span.g') || tag_values('span.b') || tag_values('span.s'), ARRAY['float:2.0', 'float:1e+06', 'bool:true', 'string:NONE'], 'how values are written');
SELECT is(tag_values('span.l'), ARRAY['string:a', 'string:b'], 'an array gives its elements');
SELECT is(tag_values('span.m') || tag_values('span.nosuch') || tag_values('duration') || tag_values('trace:id'), '{}', 'what has no values');
SELECT is(tag_values('.service.name'), ARRAY['string:pay', 'string:shop'], 'unscoped');
SELECT is(tag_values('span.%22a%20b%22') || tag_values('span.sl/ash') || tag_values('span.sl%2Fash') || tag_values('span.%22q%5C%22x%22') || tag_values('span.%D0%BC%D0%B0%D0%B3%D0%B0%D0%B7%D0%B8%D0%BD'),
          ARRAY['string:ann', 'string:p/1', 'string:p/1', 'string:y', 'string:да'], 'names as clients send them');
SELECT is(tag_values('event.sku') || tag_values('link.cause') || tag_values('instrumentation.lang') || tag_values('event:name') || tag_values('instrumentation:name'),
          ARRAY['string:S-1', 'string:retry', 'string:c', 'string:ev', 'string:lib'], 'of events, links, scopes');
SELECT is(tag_values('status'), ARRAY['keyword:error', 'keyword:ok', 'keyword:unset'], 'status');
SELECT is(tag_values('name') || tag_values('rootName') || tag_values('rootServiceName'), ARRAY['string:GET /', 'string:child', 'string:GET /', 'string:shop'], 'names');
SELECT is(tag_values('span.n', 'limit=1'), ARRAY['int:1'], 'limit');
SELECT is(tag_values('span.n', 'tag=span.m&q={resource.service.name="pay" %26%26 span.x=}'), ARRAY['string:many'], 'a half-typed query counts as far as it goes');
SELECT is(tag_values('span.n', 'q={kind=client || kind=server'), ARRAY['int:1', 'string:many'], 'alternatives');
SELECT is(tag_values('span.n', 'q={ nonsense'), ARRAY['int:1', 'string:many'], 'nonsense does not');
SELECT is(tag_values('span.n', 'q={span.n="zz"}'), ARRAY['string:zz'], 'a value that is asked for is answered');
SELECT results_eq($$SELECT status || ' ' || body FROM unnest(ARRAY['app.user.id', 'foo', 'span.a%20b']) AS tag, get('/api/v2/search/tag/' || tag || '/values')$$,
    ARRAY['400 please provide a valid tagName: failed to parse identifier app.user.id: parse error at line 1, col 2: unknown identifier: app',
          '400 please provide a valid tagName: failed to parse identifier foo: parse error at line 1, col 2: unknown identifier: foo',
          '400 please provide a valid tagName: failed to parse identifier span.a b: parse error at line 1, col 9: syntax error: unexpected IDENTIFIER'], 'what is no attribute');
SELECT is(plain('n') || plain('service.name') || plain('status.code') || plain('error') || plain('root.name') || plain('name') || plain('nosuch'),
          '["1", "many", "pay", "shop", "error", "ok", "unset", "true", "GET /", "GET /", "child"]', 'v1: texts');
SELECT is((SELECT body FROM get('/api/v2/search/tag/span.n/values', '', '{"Accept": "application/vnd.grafana.llm"}')),
          '{"tagValues":{"int":["1"],"string":["many"]},"metrics":{"inspectedBytes":0}}', 'for language models');
SET LOCAL tempo_pg.max_tag_response_bytes = 4;
SELECT is(names('span'), '["a b", "b"]', 'no more than an answer may have');

SELECT * FROM finish();
ROLLBACK;
