-- tempo.api(): paths, formats, errors, and the endpoints about the server.
BEGIN;
SELECT plan(45);

CREATE FUNCTION get(path text, query text DEFAULT '', headers jsonb DEFAULT '{}',
                    OUT status int, OUT type text, OUT body text)
    LANGUAGE sql AS $$ SELECT a.status, a.headers ->> 'Content-Type', convert_from(a.body, 'UTF8')
                       FROM tempo.api('GET', path, query, headers) AS a $$;
CREATE FUNCTION answer(path text, query text DEFAULT '', headers jsonb DEFAULT '{}') RETURNS text
    LANGUAGE sql AS $$ SELECT g.status || ' ' || g.body FROM get(path, query, headers) AS g $$;

SELECT has_function('tempo', 'api', ARRAY['text', 'text', 'text', 'jsonb', 'bytea'], 'tempo.api exists');
SELECT has_function('tempo', 'trace_json', ARRAY['tempo.trace_id'], 'tempo.trace_json exists');

SELECT is(answer('/ready'), E'200 ready\n', '/ready');
SELECT is(answer('/api/echo'), E'200 echo\n', '/api/echo');
SELECT is((SELECT headers ->> 'X-Content-Type-Options' FROM tempo.api('GET', '/api/echo')), 'nosniff', 'echo is not to be sniffed');
SELECT is((SELECT body::jsonb ->> 'version' FROM get('/api/status/buildinfo')), '3.0.3', 'buildinfo has a version that Grafana understands');
SELECT set_eq($$SELECT jsonb_object_keys(body::jsonb) FROM get('/api/status/buildinfo')$$,
              ARRAY['version', 'revision', 'branch', 'buildUser', 'buildDate', 'goVersion'], 'buildinfo has exactly its six keys');
SELECT is((SELECT type FROM get('/api/status/buildinfo')), 'application/json', 'buildinfo is JSON');
SELECT matches((SELECT body FROM get('/metrics')), '(?n)^tempo_pg_build_info\{.*\} 1$', '/metrics is Prometheus text');
SELECT matches((SELECT body FROM get('/status/version')), '^GET /status/version\n.*PostgreSQL', '/status/version');
SELECT matches((SELECT body FROM get('/status')), 'GET /status/endpoints\n.*/api/search\n', '/status has the endpoints');
SELECT matches((SELECT body FROM get('/status/config')), 'search_default_limit: "20"', '/status/config has the settings');
SELECT is(answer('/status/nope'), E'404 404 page not found\n', 'unknown part of the status');
SELECT is(answer('/status', 'mode=x'), '500 unknown value for mode query parameter: x', 'unknown mode');
SELECT is(answer('/status/usage-stats'), '200 usage-stats is not enabled', 'no usage statistics');

SELECT is(answer('/nope'), E'404 404 page not found\n', 'unknown path');
SELECT matches(answer('/v1/traces'), '^404 404 page not found: spans are received on port \d+ \(tempo_pg.otlp_http_port\)\n$', 'who sends spans here is told');
SELECT is(answer('/api/search/'), E'404 404 page not found\n', 'a slash too many');
SELECT is(answer('/api/traces/'), E'404 404 page not found\n', 'a trace without id');
SELECT is((SELECT status || ' ' || (headers ->> 'Location') FROM tempo.api('GET', '/api//search', 'q={}')),
          '301 /api/search?q={}', 'two slashes are cleaned');
SELECT is((SELECT type FROM get('/nope')), 'text/plain; charset=utf-8', 'errors are plain text');
SELECT is((SELECT status FROM tempo.api('POST', '/api/search', 'q={}')), 200, 'POST is served like GET');

-- parameters
SELECT is(answer('/api/search', 'q={}&limit=1&limit=0'), (SELECT answer('/api/search', 'q={}&limit=1')), 'the first of repeated parameters counts');
SELECT is((SELECT status FROM get('/api/search', 'q={}&limit=&foo=bar')), 200, 'an empty parameter is none, an unknown one is ignored');
SELECT is((SELECT status FROM get('/api/search', 'q=%7B+name+%3D+%22a%22+%7D')), 200, 'percent and plus are decoded');
SELECT is((SELECT status FROM get('/api/search', 'q=%7B%7D&bad=%zz&%')), 200, 'broken escapes are ignored');
SELECT is((SELECT status FROM get('/api/search', 'q=%ff%00')), 400, 'what is no UTF-8 is no query');
SELECT is(answer('/api/search', 'q=' || repeat('x', 131073)),
          '400 TraceQL expression exceeds the configured maximum size of 131072 bytes, reduce the query expression size or contact your system administrator',
          'a query too long');

-- formats
SELECT is((SELECT type FROM get('/api/search', 'q={}', '{"Accept": "application/json, application/protobuf"}')),
          'application/protobuf', 'protobuf wins');
SELECT is((SELECT type FROM get('/api/search', 'q={}', '{"accept": "text/html"}')), 'application/json', 'JSON is the default');
SELECT is((SELECT headers FROM tempo.api('GET', '/api/traces/1')), '{}', 'no trace, no Content-Type');

-- metrics queries are checked
SELECT is(answer('/api/metrics/query_range', ''), '400 parse error : syntax error: unexpected $end', 'range: no query');
SELECT is(answer('/api/metrics/query', ''), '400 compiling query: parse error : syntax error: unexpected $end', 'instant: no query');
SELECT is(answer('/api/metrics/query_range', 'q={}'), '400 not a metrics query', 'range: a search');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()by(.a,.b,.c,.d,.e,.f)'), '400 compiling query: metrics group by 6 values not yet supported', 'too many groups');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()&start=20&end=10'), '400 end must be greater than start', 'end before start');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()&start=0&end=100000&step=60'),
          '400 metrics query time range exceeds the maximum allowed duration of 24h0m0s', 'range too long');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()&start=1000&end=1120&step=0'), '400 step of 0s is too small, minimum step for given range is 12ms', 'step 0');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()&start=1000&end=1350&step=35ms'), '200 ' || (SELECT body FROM get('/api/metrics/query_range', 'q={}|rate()&start=1000&end=1350&step=35ms')), 'smallest step');
SELECT is(answer('/api/metrics/query_range', 'q={}|rate()&start=1000&end=1360&step=35ms'), '400 step of 35ms is too small, minimum step for given range is 36ms', 'step too small');
SELECT matches(answer('/api/metrics/query_range', 'q={}|rate()&start=abc'), '^400 rpc error: code = Code\(400\) desc = could not parse ''start'' parameter', 'no time');
SELECT matches(answer('/api/metrics/query_range', 'q={}|rate()&step=abc'), 'cannot parse "abc" to a valid duration', 'no step');
SELECT is((SELECT jsonb_array_length(body::jsonb #> '{series,0,samples}') FROM get('/api/metrics/query_range', 'q={}|rate()&start=1200&end=1320&step=1m')), 3, 'samples of an aligned range');
SELECT is((SELECT jsonb_array_length(body::jsonb #> '{series,0,samples}') FROM get('/api/metrics/query_range', 'q={}|rate()&start=1210&end=1330&step=1m')), 4, 'samples of another');
SELECT is((SELECT body::jsonb - 'metrics' FROM get('/api/metrics/query', 'q={}|max_over_time(duration)&start=0&end=9')), '{}', 'instant: no series, no key');

SELECT * FROM finish();
ROLLBACK;
