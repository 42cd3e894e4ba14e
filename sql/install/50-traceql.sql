-- TraceQL: parsing, and the functions that its SQL is made of.

CREATE FUNCTION tempo.traceql_parse(query text) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_traceql_parse' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.traceql_parse(text) IS 'checks a TraceQL query and returns its canonical form';
