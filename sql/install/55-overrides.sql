-- Settings of single tenants.

CREATE TABLE tempo.overrides (
    tenant text COLLATE "C" PRIMARY KEY
        CONSTRAINT tenant_valid CHECK (tenant ~ '^[A-Za-z0-9!_.*''()-]{1,150}$' AND tenant NOT IN ('.', '..', '*')),
    retention interval CONSTRAINT retention_not_negative CHECK (retention >= interval '0'),
    ingestion_rate_bytes bigint CONSTRAINT ingestion_rate_not_negative CHECK (ingestion_rate_bytes >= 0),
    ingestion_burst_bytes bigint CONSTRAINT ingestion_burst_not_negative CHECK (ingestion_burst_bytes >= 0),
    max_bytes_per_trace bigint CONSTRAINT max_bytes_per_trace_not_negative CHECK (max_bytes_per_trace >= 0),
    max_attribute_bytes integer CONSTRAINT max_attribute_bytes_not_negative CHECK (max_attribute_bytes >= 0),
    max_live_traces bigint CONSTRAINT max_live_traces_not_negative CHECK (max_live_traces >= 0),
    user_configurable jsonb CONSTRAINT user_configurable_object CHECK (pg_catalog.jsonb_typeof(user_configurable) = 'object'),
    version bigint NOT NULL DEFAULT 0
) USING heap;
COMMENT ON TABLE tempo.overrides IS 'settings of single tenants; a tenant without a row, and a column that is NULL, has the default, which the settings tempo_pg.* give';
COMMENT ON COLUMN tempo.overrides.tenant IS 'whose settings they are, as in X-Scope-OrgID';
COMMENT ON COLUMN tempo.overrides.retention IS 'how long spans are kept (default: tempo_pg.retention); 0 keeps them forever. tempo.set_retention() writes it';
COMMENT ON COLUMN tempo.overrides.ingestion_rate_bytes IS 'bytes per second that the tenant may send; 0 means no limit';
COMMENT ON COLUMN tempo.overrides.ingestion_burst_bytes IS 'bytes that the tenant may send at once, beyond the rate; 0 means no limit';
COMMENT ON COLUMN tempo.overrides.max_bytes_per_trace IS 'size of the largest trace; 0 means no limit';
COMMENT ON COLUMN tempo.overrides.max_attribute_bytes IS 'longer attribute keys and string values are cut; 0 turns that off';
COMMENT ON COLUMN tempo.overrides.max_live_traces IS 'number of traces that may be in the making at once; 0 means no limit';
COMMENT ON COLUMN tempo.overrides.user_configurable IS 'what the tenant has set itself, by the API for user-configurable overrides';
COMMENT ON COLUMN tempo.overrides.version IS 'changes of user_configurable, counted: for clients that change it only if nobody else has';

GRANT SELECT ON tempo.overrides TO tempo_reader, tempo_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON tempo.overrides TO tempo_admin;

SELECT pg_catalog.pg_extension_config_dump('tempo.overrides', '');
