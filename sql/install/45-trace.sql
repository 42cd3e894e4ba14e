-- The spans of one trace.  A span that was delivered more than once is shown
-- once.

CREATE FUNCTION tempo.trace(trace_id tempo.trace_id) RETURNS SETOF tempo.spans
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
-- not BEGIN ATOMIC: pg_upgrade would create it before the operator classes it needs
AS $$
    SELECT s.*
    FROM (SELECT DISTINCT ON (d.tenant, d.span_id, d.kind, d.start_time_unix_nano) d.*
          FROM tempo.spans AS d
          WHERE d.trace_id = trace.trace_id
          ORDER BY d.tenant, d.span_id, d.kind, d.start_time_unix_nano) AS s
    ORDER BY s.start_time_unix_nano, s.span_id
$$;
COMMENT ON FUNCTION tempo.trace(tempo.trace_id) IS 'the spans of one trace, by start';
REVOKE ALL ON FUNCTION tempo.trace(tempo.trace_id) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.trace(tempo.trace_id) TO tempo_reader, tempo_admin;
