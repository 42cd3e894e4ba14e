-- Tag names and values, and traces: from segments, and through SQL where row
-- security decides.
\set SHOW_CONTEXT never
CREATE FUNCTION tags(path text, query text DEFAULT '') RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN a.status = 200 THEN (convert_from(a.body, 'UTF8')::jsonb - 'metrics')::text
                ELSE a.status || ' ' || convert_from(a.body, 'UTF8') END
    FROM tempo.api('GET', path, query) AS a
$$;
CREATE FUNCTION names(query text DEFAULT '') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT (s ->> 'name') || ': ' || (s ->> 'tags') FROM jsonb_array_elements(tags('/api/v2/search/tags', query)::jsonb -> 'scopes') AS s
    WHERE s ->> 'name' <> 'intrinsic' ORDER BY s ->> 'name'
$$;
CREATE FUNCTION values_of(tag text, query text DEFAULT '') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((v ->> 'type') || ' ' || (v ->> 'value'), ', ' ORDER BY v ->> 'type' COLLATE "C", v ->> 'value' COLLATE "C")
    FROM jsonb_array_elements(tags('/api/v2/search/tag/' || tag || '/values', query)::jsonb -> 'tagValues') AS v
$$;
CREATE VIEW all_tags AS
    SELECT 'tags' AS tag, string_agg(n, '; ') AS found FROM names() AS n
    UNION ALL SELECT t, values_of(t) FROM unnest(array['span.a', 'span.b', 'span.secret', 'resource.service.name', 'resource.r', 'event.e', 'link.l',
        'instrumentation.i', '.a', '.service.name', 'name', 'status', 'kind', 'span.none']) AS t;

CREATE FUNCTION fill(start bigint, service text, attributes jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_attributes, events, links)
    SELECT lpad(to_hex(start / 1000000000 - 1700000000 + 1), 32, '0')::tempo.trace_id, lpad(to_hex(start / 1000000000 - 1700000000 + 1), 16, '0')::tempo.span_id,
        'op ' || service, start, 1, attributes, jsonb_build_object('service.name', service, 'r', 1.5), '{"i": true}',
        '[{"name": "x", "attributes": {"e": "ev"}}]', '[{"attributes": {"l": 5}}]'
$$;
SELECT fill(1700000000000000000, 'one', '{"a": 1, "b": ["x", "y"]}');
SELECT fill(1700000100000000000, 'two', '{"a": "s", "b": {"k": 1}}');
SELECT fill(1700000200000000000, 'three', '{"a": 1.0, "b": []}') FROM generate_series(1, 3);
SELECT fill(1700000300000000000, 'hidden', '{"secret": "x", "a": "hidden"}');
INSERT INTO tempo.spans (tenant, trace_id, span_id, start_time_unix_nano, duration_nano, attributes)
VALUES ('other', '000000000000000000000000000000ff', '00000000000000ff', 1700000000000000000, 1, '{"other": 1, "a": "other"}');

SELECT * FROM all_tags;
-- a range that cuts segments: those spans are decoded
SELECT fill(1700000400000000000 + i * 10000000000, 'four', jsonb_build_object('n', i)) FROM generate_series(0, 2) AS i;
SELECT values_of('span.n', 'start=1700000400&end=1700000411');
SELECT names('start=1700000000&end=1700000101');
BEGIN;
SELECT fill(1700000500000000000, 'own', '{"own": "x"}');
SELECT values_of('span.own');
SAVEPOINT s;
SELECT fill(1700000500000000000, 'own', '{"own": "y"}');
SELECT values_of('span.own');
ROLLBACK TO s;
SELECT values_of('span.own');
ROLLBACK;
SELECT values_of('span.own') IS NULL AS gone;

-- through SQL the answers are the same
CREATE ROLE tempo_tags_tester;
GRANT tempo_reader TO tempo_tags_tester;
GRANT SELECT ON all_tags TO tempo_tags_tester;
CREATE TABLE answers AS SELECT * FROM all_tags;
GRANT SELECT ON answers TO tempo_tags_tester;
ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON tempo.spans FOR SELECT USING (true);
SET ROLE tempo_tags_tester;
CREATE FUNCTION pg_temp.my_tags() RETURNS TABLE (tag text, found text) LANGUAGE sql AS $$
    SELECT 'tags', string_agg(n, '; ') FROM names() AS n
    UNION ALL SELECT a.tag, values_of(a.tag) FROM answers AS a WHERE a.tag <> 'tags'
$$;
SELECT * FROM pg_temp.my_tags() EXCEPT SELECT * FROM answers;
SELECT count(*) FROM pg_temp.my_tags();
-- a policy that hides a service
RESET ROLE;
DROP POLICY everything ON tempo.spans;
CREATE POLICY visible ON tempo.spans FOR SELECT USING (service_name <> 'hidden');
SET ROLE tempo_tags_tester;
SELECT * FROM pg_temp.my_tags();
SELECT tempo.trace_json('0000000000000000000000000000012d') AS hidden;
SELECT count(*) FROM tempo.trace('0000000000000000000000000000012d');
SELECT length(tempo.trace_json('00000000000000000000000000000001')::text) > 100 AS visible;
RESET ROLE;
DROP POLICY visible ON tempo.spans;
ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY;
REVOKE tempo_reader FROM tempo_tags_tester;
GRANT USAGE ON SCHEMA tempo TO tempo_tags_tester;
SET ROLE tempo_tags_tester;
SELECT count(*) FROM tempo.spans;
SELECT values_of('span.a');
RESET ROLE;
DROP FUNCTION pg_temp.my_tags;
DROP VIEW all_tags;
DROP TABLE answers;
DROP FUNCTION tags, names, values_of, fill;
REVOKE ALL ON SCHEMA tempo FROM tempo_tags_tester;
DROP ROLE tempo_tags_tester;
TRUNCATE tempo.spans;
