-- tempo.spans: one row per span.  A column left NULL reads back as its default;
-- only parent_span_id and service_name are ever NULL.

CREATE TABLE tempo.spans (
    tenant text DEFAULT 'single-tenant',
    trace_id tempo.trace_id NOT NULL,
    span_id tempo.span_id NOT NULL,
    parent_span_id tempo.span_id,
    trace_state text DEFAULT '',
    flags bigint DEFAULT 0,
    name text DEFAULT '',
    kind text DEFAULT 'unspecified',
    status text DEFAULT 'unset',
    status_message text DEFAULT '',
    start_time_unix_nano bigint NOT NULL,
    duration_nano bigint NOT NULL,
    start_time timestamptz,
    end_time timestamptz,
    duration interval,
    service_name text,
    attributes jsonb DEFAULT '{}',
    resource_attributes jsonb DEFAULT '{}',
    scope_name text DEFAULT '',
    scope_version text DEFAULT '',
    scope_attributes jsonb DEFAULT '{}',
    events jsonb DEFAULT '[]',
    links jsonb DEFAULT '[]',
    dropped_attributes_count bigint DEFAULT 0,
    dropped_events_count bigint DEFAULT 0,
    dropped_links_count bigint DEFAULT 0,
    resource_dropped_attributes_count bigint DEFAULT 0,
    scope_dropped_attributes_count bigint DEFAULT 0,
    resource_schema_url text DEFAULT '',
    scope_schema_url text DEFAULT '',
    resource_entity_refs jsonb DEFAULT '[]'
) USING tempo;
-- nothing of it is decoded, but a publication of all tables would refuse DELETE
ALTER TABLE tempo.spans REPLICA IDENTITY FULL;
COMMENT ON TABLE tempo.spans IS 'every span: filled by the OTLP receiver, INSERT and COPY';
COMMENT ON COLUMN tempo.spans.tenant IS 'tenant that the span belongs to (X-Scope-OrgID)';
COMMENT ON COLUMN tempo.spans.trace_id IS 'trace that the span is part of';
COMMENT ON COLUMN tempo.spans.span_id IS 'id of the span inside its trace';
COMMENT ON COLUMN tempo.spans.parent_span_id IS 'id of the parent span, NULL for a root';
COMMENT ON COLUMN tempo.spans.trace_state IS 'W3C tracestate header, as sent';
COMMENT ON COLUMN tempo.spans.flags IS 'OTLP flags, as sent';
COMMENT ON COLUMN tempo.spans.name IS 'name of the operation';
COMMENT ON COLUMN tempo.spans.kind IS 'unspecified, internal, server, client, producer, consumer, or a number unknown to OTLP';
COMMENT ON COLUMN tempo.spans.status IS 'unset, ok, error, or a number unknown to OTLP';
COMMENT ON COLUMN tempo.spans.status_message IS 'description of an error';
COMMENT ON COLUMN tempo.spans.start_time_unix_nano IS 'start, nanoseconds since 1970';
COMMENT ON COLUMN tempo.spans.duration_nano IS 'end minus start in nanoseconds, as sent: negative if the end precedes the start';
COMMENT ON COLUMN tempo.spans.start_time IS 'start, truncated to microseconds (computed)';
COMMENT ON COLUMN tempo.spans.end_time IS 'end, truncated to microseconds (computed)';
COMMENT ON COLUMN tempo.spans.duration IS 'duration, never negative, truncated to microseconds (computed)';
COMMENT ON COLUMN tempo.spans.service_name IS 'attribute service.name of the resource, NULL if it has none (computed)';
COMMENT ON COLUMN tempo.spans.attributes IS 'attributes of the span';
COMMENT ON COLUMN tempo.spans.resource_attributes IS 'attributes of the resource: the service that made the span';
COMMENT ON COLUMN tempo.spans.scope_name IS 'name of the instrumentation scope';
COMMENT ON COLUMN tempo.spans.scope_version IS 'version of the instrumentation scope';
COMMENT ON COLUMN tempo.spans.scope_attributes IS 'attributes of the instrumentation scope';
COMMENT ON COLUMN tempo.spans.events IS 'events: [{time_unix_nano, name, attributes, dropped_attributes_count}]';
COMMENT ON COLUMN tempo.spans.links IS 'links to other spans: [{trace_id, span_id, trace_state, flags, attributes, dropped_attributes_count}]';
COMMENT ON COLUMN tempo.spans.dropped_attributes_count IS 'attributes that the sender left out';
COMMENT ON COLUMN tempo.spans.dropped_events_count IS 'events that the sender left out';
COMMENT ON COLUMN tempo.spans.dropped_links_count IS 'links that the sender left out';
COMMENT ON COLUMN tempo.spans.resource_dropped_attributes_count IS 'resource attributes that the sender left out';
COMMENT ON COLUMN tempo.spans.scope_dropped_attributes_count IS 'scope attributes that the sender left out';
COMMENT ON COLUMN tempo.spans.resource_schema_url IS 'schema that the resource follows';
COMMENT ON COLUMN tempo.spans.scope_schema_url IS 'schema that the spans follow';
COMMENT ON COLUMN tempo.spans.resource_entity_refs IS 'OTLP entity references of the resource';

GRANT SELECT ON tempo.spans TO tempo_reader;
GRANT INSERT ON tempo.spans TO tempo_writer;
GRANT ALL ON tempo.spans TO tempo_admin;

SELECT pg_catalog.pg_extension_config_dump('tempo.spans', '');
