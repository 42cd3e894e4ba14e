-- Limits of tenants, and what was received.

CREATE FUNCTION tempo.overrides_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tempo_overrides_changed' LANGUAGE C;
COMMENT ON FUNCTION tempo.overrides_changed() IS 'trigger of tempo.overrides: tells the processes that receive spans that the settings of tenants have changed';
REVOKE ALL ON FUNCTION tempo.overrides_changed() FROM PUBLIC;

CREATE TRIGGER overrides_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tempo.overrides
    FOR EACH STATEMENT EXECUTE FUNCTION tempo.overrides_changed();
COMMENT ON TRIGGER overrides_changed ON tempo.overrides IS 'new settings hold for requests that come after the commit';

CREATE FUNCTION tempo.stat_get_ingest(OUT tenant text, OUT requests bigint, OUT refused_requests bigint, OUT repeated_requests bigint,
        OUT bytes bigint, OUT stored_bytes bigint, OUT stored_spans bigint, OUT discarded_spans bigint,
        OUT invalid_trace_id bigint, OUT invalid_span_id bigint, OUT invalid_time bigint,
        OUT rate_limited bigint, OUT trace_too_large bigint, OUT live_traces_exceeded bigint,
        OUT truncated_attributes bigint, OUT sanitized_strings bigint, OUT live_traces bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_stat_get_ingest' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tempo.stat_get_ingest() IS 'rows of tempo.stat_ingest';

CREATE VIEW tempo.stat_ingest AS SELECT * FROM tempo.stat_get_ingest();
COMMENT ON VIEW tempo.stat_ingest IS 'what each tenant has sent since the server started: requests and bytes of requests, what of them was stored, and the discarded spans, in all and by reason; the 1025th tenant and later ones are in __overflow__';
COMMENT ON COLUMN tempo.stat_ingest.live_traces IS 'traces in the making, of tenants that have a limit on traces';

CREATE FUNCTION tempo.stat_get_receivers(OUT receiver text, OUT transport text, OUT requests bigint, OUT failed_requests bigint,
        OUT accepted_spans bigint, OUT refused_spans bigint, OUT dropped_datagrams bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_stat_get_receivers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tempo.stat_get_receivers() IS 'rows of tempo.stat_receivers';

CREATE VIEW tempo.stat_receivers AS SELECT * FROM tempo.stat_get_receivers();
COMMENT ON VIEW tempo.stat_receivers IS 'what came over each transport since the server started';

REVOKE ALL ON FUNCTION tempo.stat_get_ingest(), tempo.stat_get_receivers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.stat_get_ingest(), tempo.stat_get_receivers() TO tempo_admin, pg_monitor;
GRANT SELECT ON tempo.stat_ingest, tempo.stat_receivers TO tempo_admin, pg_monitor;
