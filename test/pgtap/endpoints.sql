-- Overrides, differences of traces, the Model Context Protocol, pages about what is stored.
BEGIN;
SELECT plan(61);

CREATE FUNCTION ask(method text, path text, query text DEFAULT '', headers jsonb DEFAULT '{}', body text DEFAULT NULL,
                    OUT status int, OUT headers_out jsonb, OUT answer text)
    LANGUAGE sql AS $$ SELECT a.status, a.headers, convert_from(a.body, 'UTF8')
                       FROM tempo.api(method, path, query, headers, convert_to(body, 'UTF8')) AS a $$;
CREATE FUNCTION told(method text, path text, query text DEFAULT '', headers jsonb DEFAULT '{}', body text DEFAULT NULL) RETURNS text
    LANGUAGE sql AS $$ SELECT status || ' ' || answer FROM ask(method, path, query, headers, body) $$;

-- overrides
SELECT is(told('GET', '/api/overrides'), E'404 404 page not found\n', 'overrides are off');
SET LOCAL tempo_pg.user_configurable_overrides = on;
SELECT is((SELECT status || answer || (headers_out ->> 'Content-Type' IS NULL) FROM ask('GET', '/api/overrides')), '404true', 'there are none: an empty 404');
SELECT is(told('POST', '/api/overrides', body => '{}'), '428 must specify If-Match header', 'POST without If-Match');
SELECT is(told('DELETE', '/api/overrides'), '428 must specify If-Match header', 'DELETE without If-Match');
SELECT is(told('POST', '/api/overrides', '', '{"If-Match": "1"}', '{}'), '412 version does not match', 'a version that there is not');
SELECT is(told('POST', '/api/overrides', '', '{"If-Match": "x"}', '{}'), '412 version does not match', 'a version that is none');
SELECT is((SELECT status || ' ' || answer || (headers_out ->> 'ETag') FROM ask('POST', '/api/overrides', '', '{"If-Match": "0"}',
    '{"forwarders": ["a"], "cost_attribution": {"dimensions": {"x": "y"}}, "metrics_generator": {"processors": ["span-metrics", "service-graphs"], "collection_interval": "30s",
      "processor": {"span_metrics": {"histogram_buckets": [0.1, 1], "intrinsic_dimensions": {"service": true}, "dimension_mappings": [{"name": "n"}]},
                    "service_graphs": {"peer_attributes": ["p"], "enable_virtual_node_label": true}, "host_info": {"metric_name": "m"}}}}')), '200 1', 'a document is created');
SELECT is((SELECT user_configurable ->> 'forwarders' FROM tempo.overrides WHERE tenant = 'single-tenant'), '["a"]', 'and stored');
SELECT is((SELECT status || (headers_out ->> 'ETag') || (answer::jsonb -> 'metrics_generator' ->> 'collection_interval') FROM ask('GET', '/api/overrides')), '200130s', 'and read');
SELECT is((SELECT answer FROM ask('GET', '/api/overrides', 'scope=merged')), (SELECT answer FROM ask('GET', '/api/overrides', 'scope=api')), 'merged: nothing else is configured');
SELECT is(told('GET', '/api/overrides', 'scope=x'), '400 unknown scope "x", valid options are api and merged', 'unknown scope');
SELECT is(told('POST', '/api/overrides', '', '{"If-Match": "0"}', '{}'), '412 version does not match', 'it exists already');
SELECT is(told('POST', '/api/overrides', 'skip-conflicting-overrides-check=x', '{"If-Match": "1"}', '{}'), '400 invalid value for skip-conflicting-overrides-check: x', 'no boolean');
SELECT is(told('POST', '/api/overrides', '', '{"If-Match": "1"}', body), '400 ' || why, 'refused: ' || coalesce(body, 'nothing')) FROM (VALUES
    ('{"x": 1}', 'json: unknown field "x"'),
    ('{"metrics_generator": {"processor": {"host_info": {"y": 1}}}}', 'json: unknown field "y"'),
    ('{"forwarders": "a"}', 'json: cannot unmarshal field forwarders: it must be a list'),
    ('{"forwarders": [1]}', 'json: cannot unmarshal field forwarders: it must be a list of strings'),
    ('{"cost_attribution": {"dimensions": {"a": 1}}}', 'json: cannot unmarshal field dimensions: it must be an object of strings'),
    ('{"metrics_generator": {"collection_interval": 5}}', 'json: cannot unmarshal field collection_interval: it must be a duration such as "30s"'),
    ('{"metrics_generator": {"disable_collection": "no"}}', 'json: cannot unmarshal field disable_collection: it must be a boolean'),
    ('{"metrics_generator": {"processors": ["z"]}}', 'metrics_generator.processor "z" is not a known processor, valid values: [host-info service-graphs span-metrics]'),
    ('[]', 'json: the document must be an object'),
    ('{', 'invalid input syntax for type json'),
    (NULL, 'unexpected end of JSON input')) AS v(body, why);
SELECT is(told('POST', '/api/overrides', '', '{"If-Match": "1"}', repeat('[', 100000)) LIKE '400 %', true, 'refused: nested too deeply');
SELECT is((SELECT status || answer || (headers_out ->> 'ETag') FROM ask('PATCH', '/api/overrides', body => '{"forwarders": null, "cost_attribution": null, "metrics_generator": {"processor": null, "processors": null, "disable_collection": true}}')),
    '200{"metrics_generator": {"disable_collection": true, "collection_interval": "30s"}}2', 'PATCH merges, null takes away');
SELECT is((SELECT status || (headers_out ->> 'ETag') FROM ask('POST', '/api/overrides', '', '{"If-Match": "\"2\""}', '{}')), '2003', 'an ETag in quotes');
SELECT is(told('DELETE', '/api/overrides', '', '{"If-Match": "2"}'), '412 version does not match', 'DELETE of an old version');
SELECT is(told('DELETE', '/api/overrides', '', '{"If-Match": "3"}'), '200 ', 'DELETE');
SELECT is((SELECT status FROM ask('GET', '/api/overrides')), 404, 'it is gone');
SELECT is((SELECT status || (headers_out ->> 'ETag') FROM ask('POST', '/api/overrides', '', '{"If-Match": "0"}', '{}')), '2005', 'made again, its version is not one that was there before');
SELECT is((SELECT status || (headers_out ->> 'Allow') FROM ask('PUT', '/api/overrides')), '405GET, POST, PATCH, DELETE', 'no other method');
SET LOCAL ROLE tempo_reader;
SELECT status AS reader_status FROM tempo.api('PATCH', '/api/overrides', body => '{}') \gset
RESET ROLE;
SELECT is(:reader_status, 403, 'a reader does not write');
UPDATE tempo.overrides SET user_configurable = '{"forwarders": ["<b>&\""]}' WHERE tenant = 'single-tenant';
SELECT matches(told('GET', '/status/overrides'), '^200 .*<td>single-tenant</td>.*&lt;b&gt;&amp;', 'the page of settings, escaped');
SELECT is(told('GET', '/status/overrides/other%3Cx') ~ 'single-tenant|<x', false, 'of one tenant');

-- differences
INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
SELECT 'single-tenant', ('0000000000000000000000000000d1f' || t)::tempo.trace_id, ('000000000000000' || s)::tempo.span_id, p::tempo.span_id, n, 'server', CASE WHEN t = 2 AND s = 2 THEN 'error' ELSE 'ok' END,
       1790000000000000000 + s, 1000 * t, jsonb_build_object('a', s, 'same', 1) || CASE WHEN t = 2 AND s = 2 THEN '{"a": "x"}'::jsonb ELSE '{}' END, '{"service.name": "svc"}'
FROM (VALUES (1, 1, NULL, 'root'), (1, 2, '0000000000000001', 'child'), (1, 3, '0000000000000001', 'gone'),
             (2, 1, NULL, 'root'), (2, 2, '0000000000000001', 'child'), (2, 4, '0000000000000002', 'new')) AS v(t, s, p, n);
CREATE FUNCTION diff(format text DEFAULT 'trace-patch-v0', a text DEFAULT 'd1f1', b text DEFAULT 'd1f2') RETURNS jsonb
    LANGUAGE sql AS $$ SELECT answer::jsonb FROM ask('POST', '/api/v2/traces/diff', body => jsonb_build_object('base', jsonb_build_object('traceId', a, 'start', 5), 'compare', jsonb_build_object('traceId', b), 'format', format)::text) $$;
SELECT is(diff() -> 'summary', '{"baseSpans": 3, "compareSpans": 3, "baseErrors": 0, "compareErrors": 1, "added": 1, "removed": 1, "changed": 1, "unchanged": 1, "baseDurationNanos": 1002, "compareDurationNanos": 2003}'::jsonb, 'what differs, in numbers');
SELECT is((SELECT array_agg(p ->> 'op' || ' ' || (p ->> 'name') ORDER BY i) FROM jsonb_array_elements(diff() -> 'patch') WITH ORDINALITY AS x(p, i)), ARRAY['replace child', 'remove gone', 'add new'], 'span by span');
SELECT is((diff() #> '{patch,0}') - '{base,compare}'::text[], '{"op": "replace", "kind": "server", "name": "child", "service": "svc", "attributes": {"a": {"base": 2, "compare": "x"}}}'::jsonb, 'with what changed');
SELECT is(diff() #>> '{patch,0,compare,status}', 'error', 'and both states');
SELECT is(diff('trace-patch-v0', 'd1f1', 'd1f1') -> 'patch', '[]'::jsonb, 'a trace is as it is');
SELECT is(diff('trace-summary-v0-native') ? 'patch', false, 'a summary has no patch');
SELECT is(diff('trace-summary-v0-composed') ? 'patch', true, 'a composed one has, if it is short');
SELECT is(told('POST', '/api/v2/traces/diff', body => body), result, 'difference of ' || coalesce(body, 'nothing')) FROM (VALUES
    (NULL, '400 invalid trace diff request body: unexpected end of JSON input'),
    ('{}', '400 base.traceId is required'),
    ('{"base": {"traceId": "1"}}', '400 compare.traceId is required'),
    ('{"base": {"traceId": "1"}, "compare": {"traceId": "1"}, "format": "x"}', '400 invalid format "x": must be one of trace-patch-v0, trace-summary-v0-native, trace-summary-v0-composed'),
    ('{"base": {"traceId": "d1f1"}, "compare": {"traceId": "eeee"}}', '404 Not Found')) AS v(body, result);
SELECT is((SELECT status || answer || (headers_out ->> 'Allow') FROM ask('GET', '/api/v2/traces/diff')), E'405Method Not Allowed\nPOST', 'only POST');

-- the Model Context Protocol
SELECT is(told('POST', '/api/mcp', body => '{}'), E'404 404 page not found\n', 'it is off');
SET LOCAL tempo_pg.mcp_server = on;
CREATE FUNCTION rpc(method text, params jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE sql AS $$ SELECT answer::jsonb FROM ask('POST', '/api/mcp', body => jsonb_build_object('jsonrpc', '2.0', 'id', 7, 'method', method, 'params', params)::text) $$;
CREATE FUNCTION tool(name text, arguments jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$ SELECT rpc('tools/call', jsonb_build_object('name', name, 'arguments', arguments)) -> 'result' $$;
SELECT is(rpc('initialize', '{"protocolVersion": "2025-03-26"}'),
    '{"jsonrpc": "2.0", "id": 7, "result": {"protocolVersion": "2025-03-26", "capabilities": {"resources": {}, "tools": {}}, "serverInfo": {"name": "tempo", "version": "0.1.0"}}}'::jsonb, 'initialize');
SELECT is((SELECT array_agg(t ->> 'name' ORDER BY i) FROM jsonb_array_elements(rpc('tools/list') #> '{result,tools}') WITH ORDINALITY AS x(t, i)),
    ARRAY['traceql-search', 'traceql-metrics-instant', 'traceql-metrics-range', 'get-trace', 'get-attribute-names', 'get-attribute-values', 'docs-traceql', 'docs-config'], 'tools/list');
SELECT is((SELECT (r #>> '{content,0,text}')::jsonb #>> '{traces,0,traceID}' || (r #>> '{_meta,type}') FROM tool('traceql-search', '{"query": "{ name = \"new\" }", "start": "2026-09-21T00:00:00Z", "end": "2026-09-22T00:00:00Z"}') AS r), 'd1f2search-results', 'a search');
SELECT is((SELECT (r #>> '{content,0,text}')::jsonb #>> '{trace,traceId}' || (r #>> '{_meta,type}') FROM tool('get-trace', '{"trace_id": "d1f1"}') AS r), '0000000000000000000000000000d1f1trace', 'a trace');
SELECT is((SELECT (r #>> '{content,0,text}')::jsonb -> 'tagValues' FROM tool('get-attribute-values', '{"name": "resource.service.name", "filter-query": "{ name = \"new\" }"}') AS r), '{"string": ["svc"]}'::jsonb, 'values');
SELECT is(tool('traceql-search', '{"query": "{"}'), '{"content": [{"type": "text", "text": "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end"}], "isError": true}'::jsonb, 'an error of the query is a result');
SELECT is(tool('docs-traceql', '{"name": "metrics"}') #>> '{content,0,text}' LIKE '# TraceQL%', true, 'documents');
SELECT is(jsonb_array_length(rpc('resources/list') #> '{result,resources}'), 5, 'resources');
SELECT is(rpc('nothing') #>> '{error,code}', '-32601', 'an unknown method');
SELECT is((SELECT status FROM ask('POST', '/api/mcp', body => '{"jsonrpc": "2.0", "method": "notifications/initialized"}')), 202, 'a notification');

-- pages
SELECT matches(told('GET', '/usage_metrics'), 'tempo_pg_tenant_spans\{tenant="single-tenant"\} [1-9]', 'what a tenant uses');

-- names and operators of whoever may create some where the caller looks
CREATE SCHEMA theirs;
CREATE FUNCTION theirs.equal(numeric, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
CREATE OPERATOR theirs.= (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = theirs.equal);
SET LOCAL search_path = public, tap, theirs;
SELECT matches(told('GET', '/usage_metrics'), 'tempo_pg_tenant_spans', 'are not what the statements of the API mean');
SELECT * FROM finish();
ROLLBACK;
