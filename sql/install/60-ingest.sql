-- Storing OTLP requests from SQL, as the receivers do.

CREATE FUNCTION tempo.ingest_otlp(request bytea, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest_otlp' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest_otlp(bytea, text) IS 'stores an OTLP ExportTraceServiceRequest in protobuf; returns the number of spans stored, 0 if the same request was stored in the last ten minutes';

CREATE FUNCTION tempo.ingest_otlp_json(request jsonb, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest_otlp_json' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest_otlp_json(jsonb, text) IS 'stores an OTLP ExportTraceServiceRequest in JSON; returns the number of spans stored, 0 if the same request was stored in the last ten minutes';

REVOKE ALL ON FUNCTION tempo.ingest_otlp(bytea, text), tempo.ingest_otlp_json(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.ingest_otlp(bytea, text), tempo.ingest_otlp_json(jsonb, text) TO tempo_writer, tempo_admin;
