-- Attributes, events and links as jsonb, and what the columns accept.
\pset null NULL
\set SHOW_CONTEXT never
CREATE FUNCTION add_span(attributes jsonb DEFAULT '{}', events jsonb DEFAULT '[]', links jsonb DEFAULT '[]')
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, attributes, events, links)
    VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 1700000000123456789, 1234567,
            add_span.attributes, add_span.events, add_span.links);
    RETURN (SELECT CASE WHEN s.attributes <> '{}' THEN s.attributes WHEN s.events <> '[]' THEN s.events ELSE s.links END
            FROM tempo.spans AS s);
END
$$;
-- adds one span, reads it and removes it again
CREATE PROCEDURE try(a jsonb DEFAULT '{}', e jsonb DEFAULT '[]', l jsonb DEFAULT '[]') LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'TE001', MESSAGE = add_span(a, e, l);
    EXCEPTION WHEN SQLSTATE 'TE001' THEN
        RAISE NOTICE '%', sqlerrm;
    WHEN OTHERS THEN
        RAISE NOTICE '% %', sqlstate, sqlerrm;
    END;
END
$$;

-- what JSON has: an integer is an int, a number with a point a double
CALL try('{"i": 5, "d": 5.0, "e": -5.00, "z": 0.0, "f": 0.1, "g": 1.5e-7, "h": 123456789012345680000.0, "s": "x", "b": true, "c": false}');
CALL try('{"a": [1, 2.0, "x", [], {}, [true]], "o": {"k": {"l": [1]}, "e": {}}, "": "empty key", "é": "ü"}');
CALL try('{"max": 9223372036854775807, "min": -9223372036854775808}');
CALL try('{"x": 1e20, "y": 1.5e20, "z": 123456789012345.0, "w": 1e-320}');
-- doubles keep their bits
INSERT INTO tempo.spans (trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
SELECT '0123456789abcdef0123456789abcdef', '0123456789abcdef', x, 1, 1, ('{"x": ' || x || '}')::jsonb
FROM unnest(array['1.7976931348623157e308', '2.2250738585072014e-308', '5e-324', '0.30000000000000004', '1e22', '1e23',
                  '9007199254740993.5', '-1000000000000000.0', '99999999999999.9', '4503599627370497.5']) AS x;
SELECT name, attributes ->> 'x' LIKE '%.%' AS point, (attributes ->> 'x')::float8 = name::float8 AS same
FROM tempo.spans ORDER BY name COLLATE "C";
-- also when they are copied
INSERT INTO tempo.spans SELECT * FROM tempo.spans;
SELECT count(*), count(DISTINCT s::text) FROM tempo.spans AS s;
TRUNCATE tempo.spans;
-- what JSON has not
CALL try('{"n": null, "v": {"$otlp": {}}}');
CALL try('{"a": {"$otlp": {"doubleValue": "NaN"}}, "b": {"$otlp": {"doubleValue": "Infinity"}}, "c": {"$otlp": {"doubleValue": "-Infinity"}}, "d": {"$otlp": {"doubleValue": "-0"}}}');
CALL try('{"y": {"$otlp": {"bytesValue": "AQID/w=="}}, "e": {"$otlp": {"bytesValue": ""}}, "l": [{"$otlp": {"bytesValue": "AA=="}}]}');
-- a wrapper that was not needed is unwrapped
CALL try('{"i": {"$otlp": {"intValue": "5"}}, "j": {"$otlp": {"intValue": 6}}, "s": {"$otlp": {"stringValue": "x"}}, "b": {"$otlp": {"boolValue": true}}, "d": {"$otlp": {"doubleValue": 1}}, "a": {"$otlp": {"arrayValue": {"values": [{"intValue": "1"}, {}]}}}, "k": {"$otlp": {"kvlistValue": {"values": [{"key": "x", "value": {"intValue": "1"}}]}}}}');
-- a map that looks like a wrapper is wrapped; an attribute may have the name
CALL try('{"$otlp": 5, "m": {"$otlp": {"kvlistValue": {"values": [{"key": "$otlp", "value": {"doubleValue": 7.0}}]}}}, "n": {"$otlp": 1, "x": 2}}');

-- refused
CALL try('[]');
CALL try('5');
CALL try('"x"');
CALL try('{"x": 9223372036854775808}');
CALL try('{"x": -9223372036854775809}');
CALL try('{"x": 1e400}');
CALL try('{"x": {"$otlp": 5}}');
CALL try('{"x": {"$otlp": {"value": "x"}}}');
CALL try('{"x": {"$otlp": {"stringValue": 5}}}');
CALL try('{"x": {"$otlp": {"intValue": "1", "boolValue": true}}}');
CALL try('{"x": {"$otlp": {"intValue": "9223372036854775808"}}}');
CALL try('{"x": {"$otlp": {"intValue": "1x"}}}');
CALL try('{"x": {"$otlp": {"doubleValue": "0x10"}}}');
CALL try('{"x": {"$otlp": {"bytesValue": "!"}}}');
CALL try('{"x": {"$otlp": {"arrayValue": {"values": 1}}}}');
CALL try('{"x": {"$otlp": {"kvlistValue": {"values": [{"value": {}}]}}}}');
CALL try('{"x": {"$otlp": {"kvlistValue": {"values": [{"key": "x", "val": {}}]}}}}');
-- depth
CALL try(('{"x":' || repeat('[', 60) || repeat(']', 60) || '}')::jsonb);
CALL try(('{"x":' || repeat('[', 70) || repeat(']', 70) || '}')::jsonb);
CALL try(('{"x":' || repeat('{"y":', 70) || '1' || repeat('}', 70) || '}')::jsonb);

-- events and links
CALL try(e => '[{"name": "a", "time_unix_nano": 1700000000123456790, "attributes": {"x": 1.0}, "dropped_attributes_count": 3}, {}, {"dropped_attributes_count": 0}]');
CALL try(e => '{}');
CALL try(e => '[1]');
CALL try(e => '[{"nam": "a"}]');
CALL try(e => '[{"name": 5}]');
CALL try(e => '[{"time_unix_nano": -1}]');
CALL try(e => '[{"time_unix_nano": 1.5}]');
CALL try(e => '[{"attributes": []}]');
CALL try(e => '[{"dropped_attributes_count": 4294967296}]');
CALL try(l => '[{"trace_id": "0123456789ABCDEF0123456789abcdef", "span_id": "0123456789abcdef", "trace_state": "a=b", "flags": 4294967295, "attributes": {"x": []}, "dropped_attributes_count": 1}, {}]');
CALL try(l => '[{"trace_id": "01"}]');
CALL try(l => '[{"span_id": 1}]');
CALL try(l => '[{"flags": -1}]');

-- the other columns: NULL is the default
INSERT INTO tempo.spans VALUES (NULL, '0123456789abcdef0123456789abcdef', '0123456789abcdef', '0000000000000000', NULL, NULL, NULL, NULL, NULL, NULL, 1700000000123456789, -5);
\x
SELECT * FROM tempo.spans;
TRUNCATE tempo.spans;
INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, trace_state, flags, name, kind, status, status_message,
    start_time_unix_nano, duration_nano, start_time, end_time, duration, service_name, attributes, resource_attributes,
    scope_name, scope_version, scope_attributes, events, links, dropped_attributes_count, dropped_events_count,
    dropped_links_count, resource_dropped_attributes_count, scope_dropped_attributes_count, resource_schema_url,
    scope_schema_url, resource_entity_refs)
VALUES ('t', '0123456789abcdef0123456789abcdef', '0123456789abcdef', '1123456789abcdef', 'a=b', 4294967295, 'n', '17', '-3', 'm',
    1700000000123456789, 86400000001999, '2023-11-14 22:13:20.123456+00', '2023-11-15 22:13:20.123458+00', '24:00:00.000001', 's',
    '{"x": 1}', '{"y": [1.0], "service.name": "s"}', 'sn', 'sv', '{"z": {}}', '[{"name": "e"}]', '[{"flags": 1}]',
    1, 2, 3, 4, 5, 'ru', 'su', '[{"type": "service", "idKeys": ["service.name"]}]');
SELECT * FROM tempo.spans;
\x
-- a copy of a row is equal, derived columns included
INSERT INTO tempo.spans SELECT * FROM tempo.spans;
SELECT count(*), count(DISTINCT s::text) FROM tempo.spans AS s;
TRUNCATE tempo.spans;

-- a service name that is no string is none
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, resource_attributes)
VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 1, 1, '{"service.name": 5}'),
       ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 1, 1, '{"service.name": ""}');
SELECT service_name, resource_attributes FROM tempo.spans ORDER BY service_name NULLS FIRST;
TRUNCATE tempo.spans;

-- refused
CREATE FUNCTION with_column(name text, value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano, %I)
        VALUES (''0123456789abcdef0123456789abcdef'', ''0123456789abcdef'', 1000, 0, %L)', name, value);
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;
SELECT name, value, with_column(name, value)
FROM (VALUES ('kind', 'SERVER'), ('kind', '3'), ('kind', ''), ('kind', '007'), ('kind', '2147483648'), ('kind', '6'),
             ('status', 'OK'), ('status', '2'), ('status', '3'),
             ('flags', '-1'), ('flags', '4294967296'), ('dropped_links_count', '-1'), ('scope_dropped_attributes_count', '4294967296'),
             ('start_time', '1970-01-01 00:00:00.000002+00'), ('start_time', '1970-01-01 00:00:00.000001+00'),
             ('end_time', '1970-01-01 00:00:00+00'), ('duration', '1 second'), ('duration', '0'),
             ('service_name', 'x'), ('resource_entity_refs', '{}'), ('resource_entity_refs', '5'), ('scope_attributes', '[]'),
             ('resource_attributes', '"x"')) AS t(name, value);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('00000000000000000000000000000000', '0123456789abcdef', 1, 1);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('0123456789abcdef0123456789abcdef', '0000000000000000', 1, 1);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', -1, 1);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 1, -2);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano, duration_nano) VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 9223372036854775807, 1);
INSERT INTO tempo.spans (trace_id, span_id, start_time_unix_nano) VALUES ('0123456789abcdef0123456789abcdef', '0123456789abcdef', 1);
TRUNCATE tempo.spans;
DROP FUNCTION add_span, with_column;
DROP PROCEDURE try;
