-- The Tempo query API as a function, and a trace as OTLP/JSON.

CREATE FUNCTION tempo.api(method text, path text, query text DEFAULT '', headers jsonb DEFAULT '{}', body bytea DEFAULT NULL,
                          OUT status int, OUT headers jsonb, OUT body bytea)
    AS 'MODULE_PATHNAME', 'tempo_api' LANGUAGE C VOLATILE PARALLEL UNSAFE
    -- what its statements mean must not depend on the caller, and query workers have this one
    SET search_path = pg_catalog, tempo, pg_temp;
COMMENT ON FUNCTION tempo.api(text, text, text, jsonb, bytea) IS 'the Tempo HTTP API: method, path, query string, headers and body of a request to status, headers and body of its answer';

CREATE FUNCTION tempo.trace_json(trace_id tempo.trace_id) RETURNS json
    AS 'MODULE_PATHNAME', 'tempo_trace_json' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tempo.trace_json(tempo.trace_id) IS 'one trace as OTLP/JSON (TracesData), NULL if there is none';

REVOKE ALL ON FUNCTION tempo.api(text, text, text, jsonb, bytea), tempo.trace_json(tempo.trace_id) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.api(text, text, text, jsonb, bytea), tempo.trace_json(tempo.trace_id) TO tempo_reader, tempo_admin;
