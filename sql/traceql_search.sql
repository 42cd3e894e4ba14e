-- TraceQL searches over a few traces: values and types, time ranges, the
-- newest traces, roots, what a span shows, tenants, privileges.
\set VERBOSITY terse
\pset null NULL

TRUNCATE tempo.spans;

-- seconds after 2024-01-01 00:00:00 UTC
CREATE FUNCTION pg_temp.t(s numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT ((1704067200 + $1) * 1000000000)::bigint';
CREATE FUNCTION pg_temp.trace(n int) RETURNS tempo.trace_id LANGUAGE sql IMMUTABLE AS $$SELECT lpad(to_hex($1), 32, '0')::tempo.trace_id$$;
CREATE FUNCTION pg_temp.span(n int) RETURNS tempo.span_id LANGUAGE sql IMMUTABLE AS $$SELECT lpad(to_hex($1), 16, '0')::tempo.span_id$$;

INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes, resource_attributes)
VALUES
    ('a', pg_temp.trace(1), pg_temp.span(1), NULL, 'GET /', 'server', 'ok', '', pg_temp.t(0), 500000000,
        '{"n": 5, "f": 2.5, "s": "it''s \"x\"", "b": true, "url": "https://example.org/a?b=c"}', '{"service.name": "web", "env": "prod", "zone": "r"}'),
    ('a', pg_temp.trace(1), pg_temp.span(2), pg_temp.span(1), 'query', 'client', 'error', 'timeout', pg_temp.t(0.1), 40000000,
        '{"n": -7, "f": 5.0, "s": "", "b": false, "zone": "s", "big": 9223372036854775807}', '{"service.name": "web", "env": "prod", "zone": "r"}'),
    ('a', pg_temp.trace(1), pg_temp.span(3), pg_temp.span(2), 'SELECT', 'server', 'unset', '', pg_temp.t(0.11), 0,
        '{"n": "5", "tags": ["a", "b"], "one": [3], "nums": [1, 2, 3], "mixed": [1, "a"], "empty": [], "map": {"k": 1}, "nan": {"$otlp": {"doubleValue": "NaN"}}, "bytes": {"$otlp": {"bytesValue": "AAE="}}}',
        '{"service.name": "db"}'),
    -- a negative duration, no service name, an unknown kind
    ('a', pg_temp.trace(2), pg_temp.span(1), NULL, 'odd', '17', 'unset', '', pg_temp.t(100), -5, '{"n": 0, "service.name": "spanwise"}', '{}'),
    -- a root that is a child by link, a later one that is none, and a parent that never came
    ('a', pg_temp.trace(3), pg_temp.span(1), NULL, 'linked', 'internal', 'unset', '', pg_temp.t(200), 1000000, '{}', '{"service.name": "batch"}'),
    ('a', pg_temp.trace(3), pg_temp.span(2), NULL, 'real root', 'internal', 'unset', '', pg_temp.t(201), 1000000, '{}', '{"service.name": "batch"}'),
    ('a', pg_temp.trace(4), pg_temp.span(2), pg_temp.span(9), 'orphan', 'consumer', 'unset', '', pg_temp.t(300), 3600000000000, '{"n": 1}', '{"service.name": "batch"}'),
    ('b', pg_temp.trace(5), pg_temp.span(1), NULL, 'GET /', 'server', 'unset', '', pg_temp.t(0), 1, '{"n": 5}', '{"service.name": "web"}');
INSERT INTO tempo.spans (tenant, trace_id, span_id, name, kind, start_time_unix_nano, duration_nano, links)
VALUES ('a', pg_temp.trace(3), pg_temp.span(3), 'follows', 'internal', pg_temp.t(199), 1000000,
    jsonb_build_array(jsonb_build_object('trace_id', pg_temp.trace(3)::text, 'span_id', pg_temp.span(1)::text, 'attributes', '{"opentracing.ref_type": "child_of"}'::jsonb)));
INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, start_time_unix_nano, duration_nano, attributes, events)
VALUES ('e', pg_temp.trace(6), pg_temp.span(1), NULL, 'call', 'client', pg_temp.t(400), 1000000, '{}',
    jsonb_build_array(jsonb_build_object('time_unix_nano', pg_temp.t(400.002), 'name', 'timeout', 'attributes', '{"n": 9, "x": 1}'::jsonb),
                      jsonb_build_object('time_unix_nano', pg_temp.t(400.001), 'name', 'retry', 'attributes', '{"n": 1}'::jsonb)));
-- a span delivered twice
INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes, resource_attributes)
SELECT tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes, resource_attributes
FROM tempo.spans WHERE name = 'query';

-- The spans of tenants a and e that match, as "trace.span"
CREATE FUNCTION pg_temp.spans(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT string_agg(ltrim(trace_id::text, '0') || '.' || ltrim(span_id::text, '0'), ' ' ORDER BY trace_id, span_id)
            FROM traceql_spans(query, tenants => ARRAY['a', 'e']));
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE TEMP TABLE q (n serial, query text);

-- comparisons
INSERT INTO q (query) VALUES
    ('{ }'), ('{ false }'), ('{ span.n = 5 }'), ('{ span.n = 5.0 }'), ('{ span.n = "5" }'), ('{ span.n != 5 }'), ('{ 0 < span.n }'), ('{ span.n >= -7 && span.n < 1 }'),
    ('{ span.f = 5 }'), ('{ span.f > 2.4 }'), ('{ span.big > 9223372036854775806 }'), ('{ span.s = "it''s \"x\"" }'), ('{ span.s != "" }'), ('{ span.s < "j" }'), ('{ span.b }'), ('{ !span.b }'), ('{ span.b != true }'),
    ('{ span.missing = 1 }'), ('{ span.missing != 1 }'), ('{ span.missing = nil }'), ('{ span.b = nil }'), ('{ span.b != nil }'), ('{ !(span.b = nil) }'),
    ('{ span.nan = 1 }'), ('{ span.nan != 1 }'), ('{ span.nan != nil }');
-- regular expressions
INSERT INTO q (query) VALUES
    ('{ span.url =~ "https?://.*" }'), ('{ span.url =~ "example" }'), ('{ name =~ "(?i)get.*|odd" }'), ('{ name !~ "[a-z]+" }'), ('{ span.n =~ ".*" }'), ('{ span.s !~ "x" }'), ('{ resource.service.name =~ "w.b" }'), ('{ name =~ "q" || name =~ ".*y" }');
-- arrays and values without a type
INSERT INTO q (query) VALUES
    ('{ span.tags = "a" }'), ('{ span.tags != "c" }'), ('{ span.tags != "a" }'), ('{ span.tags =~ "[bc]" }'), ('{ span.tags !~ "a" }'), ('{ span.tags > "a" }'), ('{ span.tags = 1 }'), ('{ span.tags != 1 }'), ('{ span.nums > 2 }'), ('{ span.nums = 2.0 }'),
    ('{ span.one = 3 }'), ('{ span.one + 1 = 4 }'), ('{ span.nums + 1 = 2 }'), ('{ span.mixed = 1 }'), ('{ span.mixed != nil }'), ('{ span.empty != nil && span.map != nil && span.bytes != nil }'), ('{ span.map.k = 1 }'), ('{ span.bytes != "x" }');
-- scopes and intrinsics
INSERT INTO q (query) VALUES
    ('{ .zone = "r" }'), ('{ .zone = "s" }'), ('{ resource.zone = "r" }'), ('{ .env = "prod" }'), ('{ .zone = nil }'), ('{ .service.name = "spanwise" }'), ('{ .service.name = "batch" }'), ('{ resource.service.name = "" }'), ('{ resource.service.name != "web" }'), ('{ resource.service.name = 1 }'),
    ('{ kind = server }'), ('{ kind = unspecified }'), ('{ kind != unspecified && kind != internal }'), ('{ status = unset && status != error }'), ('{ .status = error }'), ('{ statusMessage = "timeout" }'), ('{ status = kind }'),
    ('{ duration > 40ms }'), ('{ duration = 40000000 }'), ('{ duration >= 0.5 }'), ('{ duration > 39999999.5 && duration < 40000000.5 }'), ('{ duration = 0s }'), ('{ duration < 0s }'), ('{ duration >= 0s && duration < 1ns }'), ('{ duration > -1 }'), ('{ -duration < -40ms }'), ('{ duration * 2 = 80ms }'),
    ('{ span:id = "2" }'), ('{ span:id != "02" && trace:id = "1" }'), ('{ trace:id =~ "0+2" }'), ('{ span:parentID = "0000000000000000" && name != "" }'), ('{ span:id = "xyz" }'), ('{ span:id > "1" }'), ('{ name > kind }');
-- boolean and arithmetic operators
INSERT INTO q (query) VALUES
    ('{ span.b || status = unset }'), ('{ span.s && span.n = 5 }'), ('{ (span.n = 5) = (span.b = true) }'), ('{ span.n > 0 = true }'), ('{ (span.n > 0) != span.b }'), ('{ !(span.n = 5 && span.b) }'), ('{ !(resource.service.name = "web") }'),
    ('{ span.n + 1 = 6 }'), ('{ span.n - 0.5 = 4.5 }'), ('{ span.n * span.f < 0 }'), ('{ span.n / 2 = -3 }'), ('{ span.n % 4 = -3 }'), ('{ span.n / 2.0 = 2.5 }'), ('{ span.n ^ 2 = 49 }'), ('{ 2 ^ span.n = 32 }'), ('{ 2 ^ -span.n = 128 }'),
    ('{ span.big + 1 = minInt }'), ('{ -span.big - 2 = maxInt }'), ('{ span.big * span.big = 1 }'), ('{ minInt / span.n = 1317624576693539401 }'),
    ('{ 10 / span.n = 2 }'), ('{ 10 / span.n = 2 || true }'), ('{ 10 % span.n = 0 || true }'), ('{ 1 / 0 = 1 || true }'), ('{ 10.0 / span.n > 1 }'), ('{ span.s + 1 = 2 }'), ('{ (span.s + 1) = false && span.s != nil }'), ('{ -span.s = 1 }'),
    ('{ span.n = 5 || span.n = -7 || span.n = 0 }'), ('{ span.n != 5 && span.n != -7 }');
-- the trace and its tree
INSERT INTO q (query) VALUES
    ('{ rootName = "GET /" }'), ('{ rootServiceName =~ "b.*" }'), ('{ rootName = "" }'), ('{ traceDuration > 1s }'), ('{ traceDuration = duration }'), ('{ nestedSetLeft = 0 }'), ('{ nestedSetParent = -1 }'), ('{ nestedSetRight - nestedSetLeft > 1 }'),
    ('{ span:childCount = 0 }'), ('{ span:childCount > 0 }');
-- events and links: one and the same
INSERT INTO q (query) VALUES
    ('{ event:name = "retry" }'), ('{ event:name = "retry" && event.n = 1 }'), ('{ event:name = "retry" && event.n = 9 }'), ('{ event:name = "retry" } && { event.n = 9 }'), ('{ event:name = "retry" || event.n = 9 }'), ('{ !(event:name = "retry") && event:name != nil }'),
    ('{ event:timeSinceStart >= 2ms }'), ('{ event.n = nil }'), ('{ event.x + 1 = 2 }'), ('{ event:name =~ "re.*" && event.n > 0 && name = "call" }'), ('{ link:spanID = "1" }'), ('{ link:traceID = "3" && link.opentracing.ref_type = "child_of" }'), ('{ link.zz = nil }'), ('{ link:spanID > "1" }');
-- operators between spansets
INSERT INTO q (query) VALUES
    ('{} >> {}'), ('{} > {}'), ('{} << {}'), ('{} < {}'), ('{} ~ {}'), ('{} !>> {}'), ('{} !> {}'), ('{} !<< {}'), ('{} !< {}'), ('{} !~ {}'), ('{ name = "GET /" } &>> { name = "SELECT" }'), ('{ name = "GET /" } &> {}'), ('{ name = "query" } &< {}'), ('{ name = "SELECT" } &<< {}'), ('{} &~ {}'),
    ('{ name = "GET /" } >> { name = "SELECT" }'), ('{ name = "GET /" } > { name = "SELECT" }'), ('{ name = "zz" } !> { kind = client }'), ('{ kind = server } && { kind = client }'), ('{ kind = consumer } || { kind = client }'), ('{ false } && {}'), ('{} > {} > {}');
-- pipelines
INSERT INTO q (query) VALUES
    ('{} | { kind = client }'), ('{} | count() > 1'), ('count() = 1'), ('{} | by(name) | count() > 1'), ('{ kind = server } | count() = 2'), ('{} | avg(duration) = 180ms'), ('{} | sum(span.n) = -2'), ('{} | max(span.zz) > 0'), ('{} | by(kind) | coalesce() | count() > 2'),
    ('{} | select(name)'), ('({} | count() > 1) && ({})'), ('({} | by(name)) > ({})'), ('{} | by(1 / span.n)');
SELECT query, pg_temp.spans(query) FROM q ORDER BY n;

-- spansets, their attributes and the values of their spans
SELECT query, trace_id::text AS trace, jsonb_path_query(spansets, '$[*].attributes') AS attributes, jsonb_path_query_array(spansets, '$[*].spans[*].attributes') AS shown
FROM unnest(ARRAY['{} | by(name) | count() > 0', '{} | by(span.n)', '{} | by(span.zz + 1)', '{} | avg(duration) > 0ns', '{} | max(span.f) > 0', '{ event:name = "timeout" } | by(event.n)', '{} | by(event:name) | select(event:name)']) WITH ORDINALITY AS u (query, n), traceql(query, tenants => ARRAY['a', 'e'], spss => 1)
ORDER BY u.n, trace;

-- traces, newest first; the whole row
SELECT trace_id, root_service_name, root_trace_name, start_time AT TIME ZONE 'UTC' AS start_time, duration, start_time_unix_nano - pg_temp.t(0) AS start, duration_nano, service_stats
FROM traceql('{}', tenants => ARRAY['a']);
SELECT trace_id, jsonb_pretty(spansets) FROM traceql('{ span.n = 5 || status = error }', tenants => ARRAY['a', 'b']);
-- what a span shows: names without scope, nil, arrays, doubles, words
SELECT span -> 'attributes' AS attributes, span -> 'name' AS name
FROM traceql('{ name = "SELECT" && .n != nil && span.one = 3 && span.tags = "a" && resource.service.name != "" && span.none = nil && kind = server && status = unset && statusMessage = "" && span.map != nil && duration < 1h }'),
    jsonb_array_elements(spansets -> 0 -> 'spans') AS span;
SELECT span -> 'attributes' AS attributes FROM traceql('{ span.f = 5.0 || span.nan != nil || .zone = "s" }'), jsonb_array_elements(spansets -> 0 -> 'spans') AS span;

-- limits
SELECT trace_id FROM traceql('{}', "limit" => 2, tenants => ARRAY['a']);
SELECT count(*) FROM traceql('{}', "limit" => 0);
SELECT count(*) FROM traceql('{}', "limit" => NULL);
SELECT spansets -> 0 -> 'matched' AS matched, jsonb_array_length(spansets -> 0 -> 'spans') AS spans FROM traceql('{}', spss => 2) WHERE trace_id = pg_temp.trace(1);
SELECT spansets -> 0 -> 'matched' AS matched, jsonb_array_length(spansets -> 0 -> 'spans') AS spans FROM traceql('{}', spss => NULL) WHERE trace_id = pg_temp.trace(1);
SELECT * FROM traceql('{}', "limit" => -1);
SELECT * FROM traceql('{}', spss => -1);
SELECT count(*) FROM traceql(NULL);

-- time ranges: of the whole trace, both ends inclusive
SELECT s, e, (SELECT string_agg(ltrim(trace_id::text, '0'), ' ') FROM traceql('{ name != "query" }', to_timestamp(1704067200 + s), to_timestamp(1704067200 + e), tenants => ARRAY['a'])) AS traces
FROM (VALUES (-10, -1), (-10, 0), (0.5, 1), (0.6, 99), (100, 100), (200, 250), (250, 299), (250, 300), (1000, 2000), (3900, 3901), (3901, 5000), (0, NULL), (NULL, 0), (NULL, NULL)) AS r (s, e);
-- a span outside the range still counts, if the trace is within
SELECT trace_id, spansets -> 0 -> 'matched' AS matched FROM traceql('{ name = "real root" }', to_timestamp(1704067200 + 198), to_timestamp(1704067200 + 199.5));
SET tempo_pg.max_trace_duration = '1ms';
SELECT trace_id FROM traceql('{ name = "real root" }', to_timestamp(1704067200 + 198), to_timestamp(1704067200 + 199.5));
RESET tempo_pg.max_trace_duration;

-- tenants
SELECT tenants, (SELECT count(*) FROM traceql('{}', tenants => t.tenants)) FROM (VALUES (NULL::text[]), ('{}'), ('{a}'), ('{b}'), ('{a,b}'), ('{c''}')) AS t (tenants);

-- the SQL runs by itself, under any search_path, and gives the same
SELECT traceql_to_sql('{ name = "GET /" && span.n > 1 }', "limit" => 5, tenants => ARRAY['a']) AS sql \gset
SET search_path = pg_temp;
CREATE FUNCTION pg_temp.lower_eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.lower_eq);
SELECT trace_id, root_trace_name FROM public.traceql('{ name = "GET /" }', tenants => ARRAY['a']);
DROP OPERATOR pg_temp.= (text, text);
:sql;
RESET search_path;

-- literals cannot leave their quotes
SELECT pg_temp.spans('{ name = "x'' OR true --" }'), pg_temp.spans('{ span."k'' = 1 --" = "\\'' }'), pg_temp.spans('{ name = "$$" || .x =~ "'';\\\\" }');

-- with the caller's privileges and policies
CREATE ROLE regress_traceql;
SET ROLE regress_traceql;
SELECT count(*) FROM traceql('{}');
RESET ROLE;
GRANT tempo_reader TO regress_traceql;
SET ROLE regress_traceql;
SELECT count(*) FROM traceql('{}');
RESET ROLE;
BEGIN;
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_b ON tempo.spans USING (tenant = 'b');
SET LOCAL ROLE regress_traceql;
SELECT trace_id FROM traceql('{}');
ROLLBACK;
REVOKE tempo_reader FROM regress_traceql;
DROP ROLE regress_traceql;

-- a search with metrics gives the spans it would count
SELECT count(*) FROM traceql('{ status = error } | rate()', tenants => ARRAY['a']);
SELECT count(*) FROM traceql('({} | rate()) / ({ } | count_over_time() by (name)) * 2');
SELECT count(*) FROM traceql('({} | rate()) / ({ status = error } | rate())');

-- helper functions by themselves
SELECT tempo.match(NULL, '=', '1'), tempo.match('1', '=', '1.0'), tempo.match('"a"', '!=', '1'), tempo.match('[1, 2]', '!=', '2'), tempo.match_re(NULL::jsonb, 'x', true), tempo.calc('1', '+', '0.5'), tempo.calc('1.0', '/', '0'), tempo.calc('"a"', '+', '1'), tempo.truth('[true]'), tempo.truth('1');
SELECT tempo.match('1', 'like', '1');
SELECT tempo.calc('1', 'x', '1');
SELECT tempo.match_re('"a"'::jsonb, '(');
SELECT tempo.attr('{"a": 1}', '{"a": 2, "b": null}', 'span', 'b'), tempo.attr('{"a": 1}', '{"a": 2}', 'any', 'a'), tempo.attr('{"a": 1}', '{"a": 2}', 'resource', 'a'), tempo.attr(NULL, '{"b": 2}', 'any', 'b');
SELECT tempo.attr('{}', '{}', 'event', 'a');
SELECT tempo.pick('{"a": 1, "b": {"a": 2}, "c": null}', ARRAY['b', NULL, 'd', 'c', 'b']), tempo.pick('{"a": 1}', '{a,b}'), tempo.pick('{"a": 1}', '{}'), tempo.pick('{}', '{a}'), tempo.pick('[1]', '{a}'), tempo.pick(NULL, '{a}');
SELECT tempo.event_match(e, 'a', '=', '1'), tempo.event_match(e, 'a', '>', '1'), tempo.event_match(e, 'b', '!=', '1'), tempo.event_match_re(e, 'a', 'x.'), tempo.event_match_re(e, 'a', 'x.', true), tempo.event_match_re(e, 'b', 'x', true)
FROM (VALUES ('[{"name": "n", "attributes": {"a": 1}}, {"name": "m", "attributes": {"a": ["xy", "z"], "c": 1}}, {"name": "o"}]'::jsonb), ('[]'), ('{}'), ('[1]')) AS v(e);
SELECT tempo.event_match('[]', 'a', '~', '1');
TRUNCATE tempo.spans;

-- errors show the query, not the SQL that was made of it
\set VERBOSITY default
INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano)
    SELECT 'a', lpad('1', 32, '0')::tempo.trace_id, lpad(i::text, 16, '0')::tempo.span_id, 'op' || i, 1700000000000000000, 1 FROM generate_series(1, 2) AS i;
SELECT count(*) FROM traceql('({} | by(name)) && ({} | by(name))');
DO $$ BEGIN PERFORM traceql('({} | by(name)) && ({} | by(name))'); END $$;
CREATE ROLE regress_traceql;
SET ROLE regress_traceql;
SELECT count(*) FROM traceql('{}');
RESET ROLE;
DROP ROLE regress_traceql;
TRUNCATE tempo.spans;

-- texts that contain another one, and patterns that only look as if they asked for that
SELECT p.pattern, string_agg(quote_literal(v.value), ' ' ORDER BY n) FILTER (WHERE tempo.match_re(v.value, p.pattern)) AS matches,
    count(*) FILTER (WHERE tempo.match_re(v.value, p.pattern) = tempo.match_re(to_jsonb(v.value), p.pattern, true)) AS different
FROM unnest(array['.*abc.*', '.*.*', '.*b.*', '.*a|b.*', '.*?c.*', '.*a.c.*', '.*[b].*', '.*é.*', '.*', '.*.+']) AS p(pattern),
    unnest(array['abc', '', E'a\nbc', 'xabcx', 'ab', 'aéb']) WITH ORDINALITY AS v(value, n)
GROUP BY 1 ORDER BY p.pattern COLLATE "C";
