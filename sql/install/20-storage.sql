-- Storage: the segment directory, and the table access method.
--
-- The directory comes first, so that it exists when a table of spans is filled.

CREATE TABLE tempo.segment_directory (
    storage_id bigint NOT NULL,
    segment_id bigint NOT NULL,
    min_start_nano bigint NOT NULL,
    max_start_nano bigint NOT NULL,
    max_end_nano bigint NOT NULL,
    min_duration_nano bigint NOT NULL,
    max_duration_nano bigint NOT NULL,
    max_trace_nano bigint NOT NULL,
    tenant_filter bigint NOT NULL,
    bytes bigint NOT NULL,
    raw_bytes bigint NOT NULL,
    first_block bigint NOT NULL,
    newest_at timestamptz NOT NULL,
    blocks integer NOT NULL,
    spans integer NOT NULL,
    traces integer NOT NULL,
    tenants integer NOT NULL,
    requests integer NOT NULL,
    level smallint NOT NULL
) USING heap WITH (
    -- rows live for seconds under load, so they are collected eagerly
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_threshold = 500,
    autovacuum_analyze_scale_factor = 0.2
);
COMMENT ON TABLE tempo.segment_directory IS 'a row per segment of every table USING tempo; a segment is visible when its row is. Changed by the access method only: read tempo.segments instead';
CREATE INDEX segment_directory_max_start ON tempo.segment_directory USING btree (storage_id, max_start_nano) WHERE level > 0;
COMMENT ON INDEX tempo.segment_directory_max_start IS 'merged segments of a table by time';
CREATE INDEX segment_directory_level0 ON tempo.segment_directory USING btree (storage_id, segment_id) WHERE level = 0;
COMMENT ON INDEX tempo.segment_directory_level0 IS 'segments of a table that were not merged yet, in the order they were made';
ALTER TABLE tempo.segment_directory REPLICA IDENTITY NOTHING;
REVOKE ALL ON tempo.segment_directory FROM PUBLIC;

CREATE TABLE tempo.segment_deletions (
    storage_id bigint NOT NULL,
    segment_id bigint NOT NULL,
    bitmap bytea NOT NULL
) USING heap WITH (
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_threshold = 500,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE tempo.segment_deletions IS 'rows deleted from segments, a bitmap per segment and command; gone when the segment is merged. Changed by the access method only';
CREATE INDEX segment_deletions_segment ON tempo.segment_deletions USING btree (storage_id, segment_id);
COMMENT ON INDEX tempo.segment_deletions_segment IS 'what was deleted from a segment';
ALTER TABLE tempo.segment_deletions REPLICA IDENTITY NOTHING;
REVOKE ALL ON tempo.segment_deletions FROM PUBLIC;

CREATE FUNCTION tempo.handler(internal) RETURNS table_am_handler
    AS 'MODULE_PATHNAME', 'tempo_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION tempo.handler(internal) IS 'handler of access method tempo';
CREATE ACCESS METHOD tempo TYPE TABLE HANDLER tempo.handler;
COMMENT ON ACCESS METHOD tempo IS 'compressed columnar segments of spans';

CREATE FUNCTION tempo.storage_id(relation regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_storage_id' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.storage_id(regclass) IS 'the key of a table in the segment directory; NULL if it has no segment or is locked';

CREATE VIEW tempo.segments AS
    SELECT c.oid::regclass AS relation, d.segment_id, d.level, d.spans, d.traces, d.tenants, d.requests,
           d.bytes, d.raw_bytes, d.first_block, d.blocks,
           pg_catalog.to_timestamp(d.min_start_nano / 1e9) AS min_start_time,
           pg_catalog.to_timestamp(d.max_start_nano / 1e9) AS max_start_time,
           d.min_start_nano, d.max_start_nano, d.max_end_nano, d.min_duration_nano, d.max_duration_nano,
           d.newest_at
    FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'tempo'
         CROSS JOIN LATERAL tempo.storage_id(c.oid) s
         JOIN tempo.segment_directory d ON d.storage_id = s
    WHERE c.relkind IN ('r', 'm') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
          -- counts and times tell of rows that a policy hides
          AND NOT pg_catalog.row_security_active(c.oid);
COMMENT ON VIEW tempo.segments IS 'the segments of every table USING tempo that the current user may read; without those of tables with row policies for the user';
COMMENT ON COLUMN tempo.segments.relation IS 'table that the segment belongs to';
COMMENT ON COLUMN tempo.segments.segment_id IS 'number of the segment in its table';
COMMENT ON COLUMN tempo.segments.level IS 'how often it was merged: 0 as it came in, 1 once, 2 more often';
COMMENT ON COLUMN tempo.segments.spans IS 'number of spans, deleted ones included';
COMMENT ON COLUMN tempo.segments.traces IS 'number of traces that have spans in it';
COMMENT ON COLUMN tempo.segments.tenants IS 'number of tenants that have spans in it';
COMMENT ON COLUMN tempo.segments.requests IS 'number of recent requests that are remembered in it, so that they are not stored again';
COMMENT ON COLUMN tempo.segments.bytes IS 'size of the segment';
COMMENT ON COLUMN tempo.segments.raw_bytes IS 'what its spans take in memory while they are merged, about: without compression, texts that repeat once';
COMMENT ON COLUMN tempo.segments.first_block IS 'block of the file at which it begins';
COMMENT ON COLUMN tempo.segments.blocks IS 'number of blocks';
COMMENT ON COLUMN tempo.segments.min_start_time IS 'start of its first span';
COMMENT ON COLUMN tempo.segments.max_start_time IS 'start of its last span';
COMMENT ON COLUMN tempo.segments.min_start_nano IS 'the same, nanoseconds since 1970';
COMMENT ON COLUMN tempo.segments.max_start_nano IS 'the same, nanoseconds since 1970';
COMMENT ON COLUMN tempo.segments.max_end_nano IS 'end of the span that ends last, nanoseconds since 1970';
COMMENT ON COLUMN tempo.segments.min_duration_nano IS 'shortest duration';
COMMENT ON COLUMN tempo.segments.max_duration_nano IS 'longest duration';
COMMENT ON COLUMN tempo.segments.newest_at IS 'when its newest span was stored';
GRANT SELECT ON tempo.segments TO tempo_reader, tempo_writer, tempo_admin;

CREATE FUNCTION tempo.table_statistics(relation regclass,
                                       OUT segments bigint, OUT level0_segments bigint, OUT level1_segments bigint, OUT level2_segments bigint,
                                       OUT spans bigint, OUT deleted_spans bigint, OUT bytes bigint, OUT raw_bytes bigint,
                                       OUT file_bytes bigint, OUT free_bytes bigint, OUT oldest timestamptz, OUT newest timestamptz)
    AS 'MODULE_PATHNAME', 'tempo_table_statistics' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.table_statistics(regclass) IS 'what tempo.stat_tables shows of one table; NULL if it is locked or the user may not see all of it';

CREATE VIEW tempo.stat_tables AS
    SELECT c.oid::regclass AS relation, s.*
    FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'tempo'
         CROSS JOIN LATERAL tempo.table_statistics(c.oid) s
    WHERE c.relkind IN ('r', 'm') AND s.segments IS NOT NULL;
COMMENT ON VIEW tempo.stat_tables IS 'segments, spans and space of every table USING tempo that the current user may read, without row policies';
COMMENT ON COLUMN tempo.stat_tables.relation IS 'table USING tempo';
COMMENT ON COLUMN tempo.stat_tables.segments IS 'number of segments';
COMMENT ON COLUMN tempo.stat_tables.level0_segments IS 'segments that were not merged yet';
COMMENT ON COLUMN tempo.stat_tables.level1_segments IS 'segments that were merged once';
COMMENT ON COLUMN tempo.stat_tables.level2_segments IS 'segments that were merged more than once';
COMMENT ON COLUMN tempo.stat_tables.spans IS 'number of spans, deleted ones left out';
COMMENT ON COLUMN tempo.stat_tables.deleted_spans IS 'deleted spans that merging has still to remove';
COMMENT ON COLUMN tempo.stat_tables.bytes IS 'size of the segments';
COMMENT ON COLUMN tempo.stat_tables.raw_bytes IS 'what the spans take in memory while they are merged, about: without compression, texts that repeat once';
COMMENT ON COLUMN tempo.stat_tables.file_bytes IS 'size of the file';
COMMENT ON COLUMN tempo.stat_tables.free_bytes IS 'of this, free for new segments; the rest beyond "bytes" is of segments that are no more, until VACUUM finds that nobody sees them';
COMMENT ON COLUMN tempo.stat_tables.oldest IS 'start of the oldest span';
COMMENT ON COLUMN tempo.stat_tables.newest IS 'start of the newest span';
GRANT SELECT ON tempo.stat_tables TO tempo_reader, tempo_writer, tempo_admin, pg_monitor;
