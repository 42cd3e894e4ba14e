-- tempo_pg: the schema and the roles.  The parts of this script are one file
-- per topic under sql/install/, joined in the order of their numbers.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION tempo_pg" to load this file. \quit

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

GRANT USAGE ON SCHEMA tempo TO tempo_reader, tempo_writer, tempo_admin;
