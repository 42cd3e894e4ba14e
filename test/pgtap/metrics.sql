-- /api/metrics/query_range and /api/metrics/query: exemplars, and the largest number of series.
BEGIN;
SELECT plan(24);

CREATE FUNCTION answer(query text, path text DEFAULT '/api/metrics/query_range') RETURNS jsonb
    LANGUAGE sql AS $$ SELECT convert_from(a.body, 'UTF8')::jsonb FROM tempo.api('GET', path, query || '&start=1700000000&end=1700000100&step=10', '{}') AS a $$;
-- one row per exemplar
CREATE FUNCTION exemplars(query text, OUT series jsonb, OUT labels jsonb, OUT trace text, OUT value double precision, OUT ms bigint, OUT sample double precision) RETURNS SETOF record
    LANGUAGE sql AS $$
    SELECT (SELECT jsonb_object_agg(l ->> 'key', l -> 'value') FROM jsonb_array_elements(s -> 'labels') AS l),
        l.labels, l.labels #>> '{trace:id,stringValue}', (e ->> 'value')::float8, (e ->> 'timestampMs')::bigint,
        (SELECT (p ->> 'value')::float8 FROM jsonb_array_elements(s -> 'samples') AS p WHERE (p ->> 'timestampMs')::bigint - (e ->> 'timestampMs')::bigint BETWEEN 0 AND 9999)
    FROM jsonb_array_elements(answer(query) -> 'series') AS s, jsonb_array_elements(s -> 'exemplars') AS e,
        LATERAL (SELECT jsonb_object_agg(l ->> 'key', l -> 'value') AS labels FROM jsonb_array_elements(e -> 'labels') AS l) AS l $$;

SELECT is(answer('q={}|rate()') #> '{series,0,exemplars}', NULL, 'nothing there, no exemplar');

-- a trace of three spans each second: op0 a second after the other one, and an error below every fourth
INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
SELECT lpad(to_hex(16 + i / 3), 32, '0')::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, CASE WHEN i % 3 > 0 THEN lpad(to_hex(i - 1), 16, '0')::tempo.span_id END,
    'op' || i % 3, CASE WHEN i % 12 = 2 THEN 'error' ELSE 'ok' END, 1700000000000000000 + i / 3 * 1000000000::bigint + i % 3 * 1000000, (1 + i) * 1000000::bigint,
    jsonb_build_object('n', i, 'f', i::numeric + 0.5, 'tags', jsonb_build_array('a', 'b')) || CASE WHEN i % 2 = 0 THEN '{"even": true}'::jsonb ELSE '{}' END, '{"service.name": "shop"}'
FROM generate_series(3, 299) AS i;

SELECT is((SELECT count(*) > 10 AND count(*) = count(DISTINCT trace) AND max(ms) - min(ms) > 50000 FROM exemplars('q={}|rate()')), true, 'different traces, from all of the range, unless less is asked for');
SELECT is((SELECT count(*) FROM exemplars('q={}|rate()&exemplars=7')), 7::bigint, 'as many as asked for');
SELECT is((SELECT count(*) FROM exemplars('q={}|rate() with (exemplars=3)&exemplars=7')), 3::bigint, 'as many as the query says');
SELECT is((SELECT count(*) > 10 FROM exemplars('q={}|rate() with (exemplars=true)')), true, 'true does not change the number');
SELECT is((SELECT count(*) FROM exemplars('q={}|rate() with (exemplars=false)')), 0::bigint, 'none');
SELECT is((SELECT count(*) FROM exemplars('q={}|rate() with (exemplars=0)&exemplars=7')), 0::bigint, 'none either');
SELECT is((SELECT count(*) > 10 FROM exemplars('q={}|rate()&exemplars=x')), true, 'what is no number counts as none');
SET LOCAL tempo_pg.metrics_max_exemplars = 2;
SELECT is((SELECT count(*) FROM exemplars('q={}|rate()&exemplars=7')), 2::bigint, 'tempo_pg.metrics_max_exemplars');
RESET tempo_pg.metrics_max_exemplars;

SELECT is((SELECT bool_and(value = sample AND trace !~ '^0' AND ms % 1000 = 2) AND count(*) > 0 FROM exemplars('q={ status = error }|count_over_time()')), true, 'the value of what is counted is that of its sample');
SELECT is((SELECT array_agg(DISTINCT k ORDER BY k) FROM exemplars('q={ span.n > 5 %26%26 .f > 1 %26%26 duration > 1ms %26%26 span.absent = nil }|rate() by (name, span.even)'), jsonb_object_keys(labels) AS k),
          ARRAY['.f', 'duration', 'name', 'span.even', 'span.n', 'trace:id'], 'labels are what the query mentions');
SELECT is((SELECT bool_and(labels -> 'name' = series -> 'name' AND coalesce(labels -> 'span.even', '{"stringValue": "nil"}') = series -> 'span.even') AND count(DISTINCT series) > 3
           FROM exemplars('q={}|rate() by (name, span.even)')), true, 'each is in the series that counted it');
SELECT is((SELECT bool_and(abs(value * 1000 - (labels #>> '{span.n,intValue}')::int - 1) < 1e-6 AND labels #>> '{duration,stringValue}' = ((labels #>> '{span.n,intValue}')::int + 1) || 'ms' AND value <= sample) AND count(*) > 0
           FROM exemplars('q={ span.n > 5 }|max_over_time(duration)')), true, 'the value of what is measured is the span''s');
SELECT is((SELECT bool_and(value = (labels #>> '{span.f,doubleValue}')::float8) AND count(*) > 0 FROM exemplars('q={}|quantile_over_time(span.f, .5, .9) by (name)')), true, 'quantiles');
SELECT is((SELECT bool_and(series #>> '{__bucket,doubleValue}' = (2 ^ ceil(log(2, (labels #>> '{span.n,intValue}')::numeric)))::int::text AND value = sample) AND count(*) > 0
           FROM exemplars('q={}|histogram_over_time(span.n)')), true, 'histograms');
SELECT is((SELECT count(*) FROM exemplars('q={}|sum_over_time(name)')), 0::bigint, 'what is no number is none');
SELECT is((SELECT bool_and(labels #>> '{status,stringValue}' = 'error') AND count(*) > 0 FROM exemplars('q={ name = "op0" } >> { status = error }|rate()')), true, 'of what a structural query finds');
SELECT is((SELECT count(*) FROM exemplars('q={ name = "op1" } | count() > 1 | rate()')), 0::bigint, 'of what is left behind a pipeline');
SELECT is((SELECT bool_and(series #>> '{name,stringValue}' = labels #>> '{name,stringValue}' AND value = sample) AND count(*) > 0 FROM exemplars('q=({}|rate() by (name)) / ({ status = ok }|rate() by (name))')), true, 'arithmetic');
SELECT is((SELECT count(*) FROM exemplars('q={}|rate() > 100')), 0::bigint, 'not of what a threshold drops');
SELECT is(answer('q={}|rate() by (name)', '/api/metrics/query') #> '{series,0,exemplars}', NULL, 'not in instant queries');

SELECT is((SELECT ARRAY[jsonb_array_length(a -> 'series')::text, a ->> 'status', a ->> 'message'] FROM answer('q={}|rate() by (name)&maxSeries=2') AS a),
          ARRAY['2', 'PARTIAL', 'Response exceeds maximum series limit of 2, a partial response is returned. Warning: the accuracy of each individual value is not guaranteed.'], 'maxSeries');
SET LOCAL tempo_pg.metrics_max_series = 1;
SELECT is((SELECT array_agg(ARRAY[jsonb_array_length(a -> 'series')::text, a ->> 'status']) FROM unnest(ARRAY['/api/metrics/query_range', '/api/metrics/query']) AS p, answer('q={}|rate() by (name)&maxSeries=2', p) AS a),
          ARRAY[['1', 'PARTIAL'], ['1', 'PARTIAL']], 'tempo_pg.metrics_max_series is not to be raised');
SELECT matches((SELECT convert_from(a.body, 'UTF8') FROM tempo.api('GET', '/api/metrics/query_range', 'q={}|rate() with (exemplars=false)&start=1700000000&end=1700000010&step=10', '{}') AS a),
    '"samples":\[\{"timestampMs":"1700000000000"\},\{"timestampMs":"1700000010000","value":2.8\}\]', 'the time stands before the value');
SELECT * FROM finish();
ROLLBACK;
