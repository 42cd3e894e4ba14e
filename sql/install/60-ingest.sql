-- Storing requests from SQL, as the receivers do, and importing files.

CREATE FUNCTION tempo.ingest_otlp(request bytea, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest_otlp' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest_otlp(bytea, text) IS 'stores an OTLP ExportTraceServiceRequest in protobuf; returns the number of spans stored, 0 if the same request was stored in the last ten minutes';

CREATE FUNCTION tempo.ingest_otlp_json(request jsonb, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest_otlp_json' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest_otlp_json(jsonb, text) IS 'stores an OTLP ExportTraceServiceRequest in JSON; returns the number of spans stored, 0 if the same request was stored in the last ten minutes';

CREATE FUNCTION tempo.ingest(request bytea, format text, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest(bytea, text, text) IS 'stores a request of any format that is received: otlp_proto, otlp_json, zipkin_json, zipkin_proto, zipkin_v1_json, zipkin_thrift, jaeger_proto (PostSpansRequest), jaeger_thrift (a bare batch), jaeger_compact and jaeger_binary (messages to an agent), or jaeger_json (an answer of Jaeger''s query API); returns the number of spans stored, 0 if the same request was stored in the last ten minutes';

CREATE FUNCTION tempo.ingest_jaeger_json(traces jsonb, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_ingest_jaeger_json' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.ingest_jaeger_json(jsonb, text) IS 'stores traces as Jaeger''s query API answers them to /api/traces and its pages save them; returns the number of spans stored, 0 if the same was stored in the last ten minutes';

CREATE FUNCTION tempo.import_otlp_json_lines(lines text, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_import_otlp_json_lines' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.import_otlp_json_lines(text, text) IS 'stores OTLP requests in JSON, one a line, as the file exporter of the OpenTelemetry Collector writes them: all or none; returns the number of spans stored';

CREATE FUNCTION tempo.import_otlp_json_file(path text, tenant text DEFAULT 'single-tenant') RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_import_otlp_json_file' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.import_otlp_json_file(text, text) IS 'stores a file of the server with OTLP requests in JSON, one a line, as the file exporter of the OpenTelemetry Collector writes it: all or nothing; returns the number of spans stored. Needs pg_read_server_files';

REVOKE ALL ON FUNCTION tempo.ingest_otlp(bytea, text), tempo.ingest_otlp_json(jsonb, text), tempo.ingest(bytea, text, text),
    tempo.ingest_jaeger_json(jsonb, text), tempo.import_otlp_json_lines(text, text), tempo.import_otlp_json_file(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.ingest_otlp(bytea, text), tempo.ingest_otlp_json(jsonb, text), tempo.ingest(bytea, text, text),
    tempo.ingest_jaeger_json(jsonb, text), tempo.import_otlp_json_lines(text, text), tempo.import_otlp_json_file(text, text) TO tempo_writer, tempo_admin;
