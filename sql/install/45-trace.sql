-- The spans of one trace.  A span that was delivered more than once is shown
-- once.

CREATE FUNCTION tempo.trace(trace_id tempo.trace_id) RETURNS SETOF tempo.spans
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
-- not BEGIN ATOMIC: pg_upgrade would create it before the operator classes it needs
AS $$
    -- one sort for both: what deliveries of a span have in common, and the order of the result
    SELECT DISTINCT ON (d.start_time_unix_nano, d.span_id, d.tenant, d.kind) d.*
    FROM tempo.spans AS d
    WHERE d.trace_id = trace.trace_id
    ORDER BY d.start_time_unix_nano, d.span_id, d.tenant, d.kind
$$;
COMMENT ON FUNCTION tempo.trace(tempo.trace_id) IS 'the spans of one trace, by start';
REVOKE ALL ON FUNCTION tempo.trace(tempo.trace_id) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.trace(tempo.trace_id) TO tempo_reader, tempo_admin;
