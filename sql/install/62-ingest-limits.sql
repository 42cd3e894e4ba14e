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
COMMENT ON VIEW tempo.stat_ingest IS 'what each tenant has sent since the server started: requests and bytes of requests, what of them was stored, and the discarded spans, in all and by reason; tenants beyond tempo_pg.max_tenants are in __overflow__';
COMMENT ON COLUMN tempo.stat_ingest.tenant IS 'tenant, or __overflow__ for those without counters of their own';
COMMENT ON COLUMN tempo.stat_ingest.requests IS 'requests received';
COMMENT ON COLUMN tempo.stat_ingest.refused_requests IS 'requests that were refused: malformed, or beyond a limit';
COMMENT ON COLUMN tempo.stat_ingest.repeated_requests IS 'requests that had been stored before, and were not stored again';
COMMENT ON COLUMN tempo.stat_ingest.bytes IS 'bytes of requests, decompressed';
COMMENT ON COLUMN tempo.stat_ingest.stored_bytes IS 'bytes of the requests that were stored';
COMMENT ON COLUMN tempo.stat_ingest.stored_spans IS 'spans that were stored';
COMMENT ON COLUMN tempo.stat_ingest.discarded_spans IS 'spans that were not stored, for any of the reasons that follow';
COMMENT ON COLUMN tempo.stat_ingest.invalid_trace_id IS 'spans with an invalid trace id';
COMMENT ON COLUMN tempo.stat_ingest.invalid_span_id IS 'spans with an invalid span id';
COMMENT ON COLUMN tempo.stat_ingest.invalid_time IS 'spans with a time that cannot be stored';
COMMENT ON COLUMN tempo.stat_ingest.rate_limited IS 'spans beyond the bytes a second';
COMMENT ON COLUMN tempo.stat_ingest.trace_too_large IS 'spans beyond the bytes of a trace';
COMMENT ON COLUMN tempo.stat_ingest.live_traces_exceeded IS 'spans of traces beyond the number of traces in the making';
COMMENT ON COLUMN tempo.stat_ingest.truncated_attributes IS 'attribute keys and values that were cut';
COMMENT ON COLUMN tempo.stat_ingest.sanitized_strings IS 'strings that were no UTF-8 or had a zero byte, and were mended';
COMMENT ON COLUMN tempo.stat_ingest.live_traces IS 'traces in the making, of tenants that have a limit on traces';

CREATE FUNCTION tempo.stat_get_receivers(OUT receiver text, OUT transport text, OUT requests bigint, OUT failed_requests bigint,
        OUT accepted_spans bigint, OUT refused_spans bigint, OUT dropped_datagrams bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_stat_get_receivers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION tempo.stat_get_receivers() IS 'rows of tempo.stat_receivers';

CREATE VIEW tempo.stat_receivers AS SELECT * FROM tempo.stat_get_receivers();
COMMENT ON VIEW tempo.stat_receivers IS 'what came over each transport since the server started';
COMMENT ON COLUMN tempo.stat_receivers.receiver IS 'receiver, as Tempo names it';
COMMENT ON COLUMN tempo.stat_receivers.transport IS 'how the spans came';
COMMENT ON COLUMN tempo.stat_receivers.requests IS 'requests, refused ones included';
COMMENT ON COLUMN tempo.stat_receivers.failed_requests IS 'requests that were answered with an error';
COMMENT ON COLUMN tempo.stat_receivers.accepted_spans IS 'spans that were stored';
COMMENT ON COLUMN tempo.stat_receivers.refused_spans IS 'spans that were not stored';
COMMENT ON COLUMN tempo.stat_receivers.dropped_datagrams IS 'datagrams that came and could not be stored';

REVOKE ALL ON FUNCTION tempo.stat_get_ingest(), tempo.stat_get_receivers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.stat_get_ingest(), tempo.stat_get_receivers() TO tempo_admin, pg_monitor;
GRANT SELECT ON tempo.stat_ingest, tempo.stat_receivers TO tempo_admin, pg_monitor;
