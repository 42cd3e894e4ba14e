-- Retention, and what the compaction worker tells of itself.

CREATE FUNCTION tempo.set_retention(tenant text, retention interval) RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
        INSERT INTO tempo.overrides AS o (tenant, retention) VALUES ($1, $2)
            ON CONFLICT ON CONSTRAINT overrides_pkey DO UPDATE SET retention = EXCLUDED.retention
    $$;
COMMENT ON FUNCTION tempo.set_retention(text, interval) IS 'how long the spans of a tenant are kept: 0 keeps them forever, NULL as tempo_pg.retention says';
REVOKE ALL ON FUNCTION tempo.set_retention(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.set_retention(text, interval) TO tempo_admin;

CREATE FUNCTION tempo.apply_retention(relation regclass DEFAULT 'tempo.spans',
                                      OUT segments integer, OUT spans bigint, OUT bytes bigint)
    AS 'MODULE_PATHNAME', 'tempo_apply_retention' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.apply_retention(regclass) IS 'removes the segments of a table in which all spans are older than their tenants'' retention; the compaction worker does so for tempo.spans only';

CREATE FUNCTION tempo.compaction_statistics(OUT relid oid, OUT pid integer, OUT phase text, OUT phase_since timestamptz,
                                            OUT phase_segments bigint, OUT segments_read bigint, OUT spans_read bigint, OUT spans_written bigint,
                                            OUT merges bigint, OUT segments_in bigint, OUT segments_out bigint, OUT spans_in bigint, OUT spans_out bigint,
                                            OUT bytes_read bigint, OUT bytes_written bigint,
                                            OUT expired_segments bigint, OUT expired_spans bigint, OUT orphans_removed bigint,
                                            OUT level0_segments bigint, OUT backlog_seconds double precision,
                                            OUT last_merge_at timestamptz, OUT quarantined_segments bigint,
                                            OUT last_error_at timestamptz, OUT last_error text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_compaction_statistics' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.compaction_statistics() IS 'what tempo.stat_compaction shows';

CREATE VIEW tempo.stat_compaction AS
    SELECT c.oid::regclass AS relation, s.pid, s.phase, s.phase_since, s.phase_segments, s.segments_read, s.spans_read, s.spans_written,
           s.merges, s.segments_in, s.segments_out, s.spans_in, s.spans_out, s.bytes_read, s.bytes_written,
           s.expired_segments, s.expired_spans, s.orphans_removed, s.level0_segments, s.backlog_seconds,
           s.last_merge_at, s.quarantined_segments, s.last_error_at, s.last_error
    FROM tempo.compaction_statistics() s
         JOIN pg_catalog.pg_class c ON c.oid = s.relid;
COMMENT ON VIEW tempo.stat_compaction IS 'merging of each table since the server started; empty unless tempo_pg is in shared_preload_libraries';
COMMENT ON COLUMN tempo.stat_compaction.relation IS 'table USING tempo';
COMMENT ON COLUMN tempo.stat_compaction.pid IS 'process that works on the table now, NULL if none';
COMMENT ON COLUMN tempo.stat_compaction.phase IS 'idle, folding (level-0 segments), merging, rewriting (a segment with deleted spans), moving (a segment to the front of the file), expiring, vacuuming, or waiting (tempo_pg.compaction_rate_limit)';
COMMENT ON COLUMN tempo.stat_compaction.phase_since IS 'since when it does so';
COMMENT ON COLUMN tempo.stat_compaction.phase_segments IS 'segments that the current merge has taken on';
COMMENT ON COLUMN tempo.stat_compaction.segments_read IS 'of these, read so far';
COMMENT ON COLUMN tempo.stat_compaction.spans_read IS 'spans that the current merge has read so far';
COMMENT ON COLUMN tempo.stat_compaction.spans_written IS 'spans that the current merge has written so far';
COMMENT ON COLUMN tempo.stat_compaction.merges IS 'merges done';
COMMENT ON COLUMN tempo.stat_compaction.segments_in IS 'segments that were merged';
COMMENT ON COLUMN tempo.stat_compaction.segments_out IS 'segments that were made of them';
COMMENT ON COLUMN tempo.stat_compaction.spans_in IS 'spans that were merged';
COMMENT ON COLUMN tempo.stat_compaction.spans_out IS 'spans in the segments that were made: fewer where spans were too old';
COMMENT ON COLUMN tempo.stat_compaction.bytes_read IS 'size of the segments that were merged';
COMMENT ON COLUMN tempo.stat_compaction.bytes_written IS 'size of the segments that were made';
COMMENT ON COLUMN tempo.stat_compaction.expired_segments IS 'segments removed whole because of retention';
COMMENT ON COLUMN tempo.stat_compaction.expired_spans IS 'spans in these';
COMMENT ON COLUMN tempo.stat_compaction.orphans_removed IS 'directory rows of tables that do not exist, removed; counted at one of the tables';
COMMENT ON COLUMN tempo.stat_compaction.level0_segments IS 'segments that wait for their first merge, damaged ones left out';
COMMENT ON COLUMN tempo.stat_compaction.backlog_seconds IS 'how long the oldest of these had waited';
COMMENT ON COLUMN tempo.stat_compaction.last_merge_at IS 'end of the last merge';
COMMENT ON COLUMN tempo.stat_compaction.quarantined_segments IS 'segments that are left out of merging for now because they could not be read';
COMMENT ON COLUMN tempo.stat_compaction.last_error_at IS 'when a merge failed last';
COMMENT ON COLUMN tempo.stat_compaction.last_error IS 'why it did';
-- it counts spans whatever the policies are
REVOKE ALL ON FUNCTION tempo.compaction_statistics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.compaction_statistics() TO tempo_admin, pg_monitor;
GRANT SELECT ON tempo.stat_compaction TO tempo_admin, pg_monitor;
