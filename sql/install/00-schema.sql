-- tempo_pg: the schema and the roles.  The parts of this script are one file
-- per topic under sql/install/, joined in the order of their numbers.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tempo_pg" to load this file. \quit

-- Spans are UTF-8, and so is the text made of them.
DO $$
BEGIN
    IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'tempo_pg needs a database with encoding UTF8'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = pg_catalog.format('This database has encoding %s.', pg_catalog.current_setting('server_encoding')),
                  HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

CREATE SCHEMA tempo;
COMMENT ON SCHEMA tempo IS 'tempo_pg: spans, their types, and the functions that serve them';

-- Roles are shared by the whole cluster, so they may exist already; they are
-- never dropped, since grants in other databases may depend on them.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['tempo_reader', 'tempo_writer', 'tempo_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA tempo TO tempo_reader, tempo_writer, tempo_admin, pg_monitor;
