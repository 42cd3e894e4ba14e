-- TraceQL metrics: functions, labels, steps, second stages, arithmetic,
-- compare(), queries over whole traces, tenants.
\set VERBOSITY terse
\pset null NULL
SET timezone = 'UTC';

TRUNCATE tempo.spans;

-- seconds after 2024-01-01 00:00:00 UTC
CREATE FUNCTION pg_temp.t(s numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT ((1704067200 + $1) * 1000000000)::bigint';
CREATE FUNCTION pg_temp.trace(n int) RETURNS tempo.trace_id LANGUAGE sql IMMUTABLE AS $$SELECT lpad(to_hex($1), 32, '0')::tempo.trace_id$$;
CREATE FUNCTION pg_temp.span(n int) RETURNS tempo.span_id LANGUAGE sql IMMUTABLE AS $$SELECT lpad(to_hex($1), 16, '0')::tempo.span_id$$;

INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes, trace_state)
VALUES
    ('a', pg_temp.trace(1), pg_temp.span(1), NULL, 'GET /', 'server', 'unset', pg_temp.t(0), 100000000, '{"n": 4, "f": 1.5}', '{"service.name": "web"}', ''),
    ('a', pg_temp.trace(1), pg_temp.span(2), pg_temp.span(1), 'query', 'client', 'error', pg_temp.t(5), 50000000, '{"n": 4.0}', '{"service.name": "web"}', 'ot=th:8'),
    ('a', pg_temp.trace(2), pg_temp.span(1), NULL, 'GET /', 'server', 'unset', pg_temp.t(10), 200000000, '{"n": "4", "tags": ["a", "b"]}', '{"service.name": "web"}', 'ot=th:c,x=y'),
    -- the first nanosecond of a step, and what ends before it starts
    ('a', pg_temp.trace(3), pg_temp.span(1), NULL, 'job', '17', 'ok', pg_temp.t(10) + 1, -7, '{"n": 1}', '{}', ''),
    ('a', pg_temp.trace(3), pg_temp.span(2), pg_temp.span(9), 'job', 'internal', 'ok', pg_temp.t(19), 0, '{"n": {"$otlp": {"doubleValue": "NaN"}}}', '{}', 'ot=th:zz'),
    ('b', pg_temp.trace(4), pg_temp.span(1), NULL, 'GET /', 'server', 'unset', pg_temp.t(0), 1, '{}', '{"service.name": "other"}', '');

CREATE FUNCTION pg_temp.series(query text) RETURNS TABLE (labels jsonb, samples text) LANGUAGE sql AS $$
    SELECT labels, string_agg(extract(epoch FROM "time")::bigint - 1704067200 || '=' || round(value::numeric, 9)::float8, ' ' ORDER BY "time")
    FROM traceql_metrics(query, '2024-01-01 00:00Z', '2024-01-01 00:00:20Z', '10 s', ARRAY['a'])
    GROUP BY labels ORDER BY labels::text
$$;
CREATE TEMP TABLE q (n serial, query text);
INSERT INTO q (query) VALUES
    ('{} | count_over_time()'), ('{} | rate()'), ('{ name = "zz" } | rate()'), ('{ name = "zz" } | rate() by (name)'), ('{ false } | rate()'),
    ('{} | count_over_time() by (span.n)'), ('{} | count_over_time() by (name, kind)'), ('{} | count_over_time() by (resource.service.name)'), ('{} | count_over_time() by (status, span.zz)'), ('{} | count_over_time() by (span.tags)'), ('{} | count_over_time() by (duration)'),
    ('{} | sum_over_time(span.n)'), ('{} | avg_over_time(span.n)'), ('{} | min_over_time(span.n)'), ('{} | max_over_time(duration)'), ('{} | max_over_time(name)'), ('{} | max_over_time(span:childCount)'), ('{} | sum_over_time(traceDuration) by (rootName)'),
    ('{} | quantile_over_time(duration, 0.5, 1)'), ('{} | histogram_over_time(duration) by (kind)'), ('{} | histogram_over_time(span.n)'),
    ('{} >> {} | count_over_time() by (name)'), ('{ kind = server } | count() > 0 | rate() by (rootServiceName)'), ('{} | by(name) | count() > 1 | count_over_time()'), ('{} !> {} | count_over_time()');
INSERT INTO q (query) VALUES
    ('{} | count_over_time() by (name) | topk(1)'), ('{} | count_over_time() by (name) | bottomk(1)'), ('{} | count_over_time() by (name) > 1'), ('{} | max_over_time(duration) by (name) >= 100ms'), ('{} | count_over_time() by (name) | topk(2) != 0'),
    ('({ status = error } | count_over_time()) / ({} | count_over_time())'), ('({} | count_over_time() by (name)) / ({} | count_over_time()) * 100'), ('1 - ({} | rate())'), ('({} | rate() by (name)) - ({} | rate() by (kind))'), ('(({} | rate() by (name)) + ({} >> {} | rate() by (name))) > 0'),
    ('({ false } | rate()) + ({} | rate())'), ('{} | count_over_time() with(extrapolate=true)'), ('{ kind = server } >> {} | count_over_time() with(extrapolate=true)'), ('{} | avg_over_time(span.n) with(extrapolate=true)'),
    ('{} | compare({ status = error }, 2)');
SELECT n, query, s.* FROM q LEFT JOIN LATERAL pg_temp.series(query) AS s ON true ORDER BY n, s.labels::text;

-- the range is widened to whole steps, one more at the start; the step ends at the sample
SELECT extract(epoch FROM "time") - 1704067200 AS t, value FROM traceql_metrics('{} | count_over_time()', '2024-01-01 00:00:03Z', '2024-01-01 00:00:13Z', '5 s');
-- series, exactly as told
SELECT * FROM tempo.query_metrics('{} | count_over_time() by (name, span.n)', pg_temp.t(0), pg_temp.t(20), 20000000000, ARRAY['a']) AS s (labels, label_list, times, "values");
-- as if there were no spans up to some time: in rows, in traces, and with what follows
SELECT q, "after", labels, "values" FROM (VALUES
    ('{} | count_over_time()'), ('{} | rate()'), ('{} | max_over_time(duration) by (name)'), ('({} | count_over_time()) * 2'),
    ('{ } >> { } | count_over_time()'), ('{} | count() > 1 | count_over_time()')) AS m (q),
    (VALUES (0, NULL), (1, pg_temp.t(10)), (2, pg_temp.t(-5)), (3, pg_temp.t(20)), (4, pg_temp.t(99))) AS a ("after", t),
    tempo.query_metrics(q, pg_temp.t(0), pg_temp.t(20), 20000000000, ARRAY['a'], t) AS s (labels, label_list, times, "values")
    ORDER BY q COLLATE "C", "after", labels::text COLLATE "C";
SELECT count(*) > 0 AS some, bool_and(labels ->> 'span.n' IS NULL OR labels ->> 'span.n' <> '') AS good FROM
    tempo.query_metrics('{} | compare({ name = "a" })', pg_temp.t(0), pg_temp.t(20), 20000000000, ARRAY['a'], pg_temp.t(10)) AS s (labels, label_list, times, "values");
-- errors
SELECT * FROM traceql_metrics('{}');
SELECT * FROM traceql_metrics('{} | rate()', '2024-01-02', '2024-01-01');
SELECT * FROM traceql_metrics('{} | rate()', '-infinity', '2024-01-01');
SELECT * FROM traceql_metrics('{} | rate()', '2024-01-01', '2024-01-02', '-1 s');
SELECT * FROM traceql_metrics('{} | rate()', '2024-01-01', '2024-01-02', '1 month');
SELECT * FROM traceql_metrics('{} | rate()', '2024-01-01', '2024-02-01', '1 ms');
SELECT * FROM traceql_metrics('({ span:id > "1" } | rate()) / 2', '2024-01-01', '2024-01-02');
SELECT count(*) FROM traceql_metrics(NULL);

-- the SQL runs by itself
SELECT traceql_metrics_to_sql('{ kind = server } | rate() by (name, span.n)', '2024-01-01 00:00Z', '2024-01-01 00:00:20Z', '10 s', ARRAY['a']) AS sql \gset
\echo :sql
:sql;
SELECT traceql_metrics_to_sql('{ kind = server } >> { status = error } | quantile_over_time(duration, .5)', '2024-01-01 00:00Z', '2024-01-01 00:00:20Z', '10 s', ARRAY['a']) AS sql \gset
\echo :sql
:sql;

-- compare() counts spans as they are scanned where its filters are of single spans, else trace by trace: the same answers,
-- with duplicates, orphans, cycles, links to the own trace, values of all types and values that are too many to show
INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, scope_version, scope_attributes, links, trace_state)
SELECT 'a', pg_temp.trace(100 + i / 20), pg_temp.span(1 + i % 20 / (1 + i % 3 / 2)), CASE WHEN i % 20 > 1 THEN pg_temp.span(1 + i % 20 * 7 % 23) END,
    'op' || i % 7, (ARRAY['server', 'client', 'internal', '17', '18'])[1 + i % 5], (ARRAY['unset', 'ok', 'error'])[1 + i % 3], CASE WHEN i % 4 = 0 THEN 'm' || i % 3 ELSE '' END,
    pg_temp.t(i % 25), i % 9 * 10000000,
    jsonb_build_object('id', i, 'b', i % 2 = 0, 'many', i % 13) ||
    ('{"v": ' || (ARRAY['1', '1.0', '"1"', '[1]', '["nil"]', '"nil"', '[1, 2]', '[]', '{"x": 1}', 'null', '{"$otlp": {"doubleValue": "NaN"}}', '{"$otlp": {"doubleValue": "-0"}}', '0.0', 'true', '""', '9223372036854775807'])[1 + i % 16] || '}')::jsonb,
    CASE WHEN i % 11 > 0 THEN jsonb_build_object('service.name', 's' || i % 3, 'pod', i % 5) ELSE '{}' END,
    'lib' || i % 2, i % 3 || '.0', CASE WHEN i % 2 = 0 THEN jsonb_build_object('k', i % 3) ELSE '{}' END,
    CASE WHEN i % 20 = 0 THEN jsonb_build_array(jsonb_build_object('trace_id', pg_temp.trace(100 + i / 20), 'span_id', pg_temp.span(1), 'attributes', '{"opentracing.ref_type": "child_of"}'::jsonb)) ELSE '[]' END,
    (ARRAY['', 'ot=th:8', 'ot=th:c'])[1 + i % 3]
FROM (SELECT generate_series(0, 799) UNION ALL SELECT generate_series(0, 799, 3)) AS twice (i);
SELECT c.filter, c.compared, count(*) FILTER (WHERE direct.labels IS NOT NULL) > 50 AS told, count(*) FILTER (WHERE direct.labels IS NULL OR whole.labels IS NULL) AS different
FROM (VALUES ('true', 'status = error', ''), ('true', 'status = error', ', 1'), ('true', 'span.id >= 10', ', 1000'), ('kind = client', 'name =~ "op[12]"', ', 3'),
         ('resource.pod > 2', '.v = 1', ', 10, 1704067203000000000, 1704067209000000000')) AS c (filter, compared, arguments),
    (VALUES (''), (' with(extrapolate=true)')) AS h (hint),
    pg_temp.series(format('{ %s } | compare({ %s }%s)%s', c.filter, c.compared, c.arguments, h.hint)) AS direct
    FULL JOIN pg_temp.series(format('{ %s } | compare({ (%s) && traceDuration >= 0s }%s)%s', c.filter, c.compared, c.arguments, h.hint)) AS whole USING (labels, samples)
GROUP BY 1, 2 ORDER BY 1, 2;
SET tempo_pg.compare_memory = '1MB';
SELECT * FROM traceql_metrics('{} | compare({ status = error })', '2024-01-01 00:00Z', '2024-01-01 00:00:20Z', '10 s');
RESET tempo_pg.compare_memory;

TRUNCATE tempo.spans;
