-- Compaction and verification.

CREATE FUNCTION tempo.compact(relation regclass DEFAULT 'tempo.spans', max_spans integer DEFAULT 1000000,
                              OUT merges integer, OUT sources integer, OUT targets integer,
                              OUT spans bigint, OUT bytes bigint)
    AS 'MODULE_PATHNAME', 'tempo_compact' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.compact(regclass, integer) IS 'merges the segments of a table into as few as memory and max_spans allow, in this transaction';

CREATE FUNCTION tempo.verify(relation regclass DEFAULT 'tempo.spans',
                             OUT segment_id bigint, OUT block bigint, OUT problem text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_verify' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.verify(regclass) IS 'checks everything on disk of a table: a row per problem, none if all is well';
-- it reads whole tables and tells of rows whatever the policies are
REVOKE ALL ON FUNCTION tempo.verify(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.verify(regclass) TO tempo_admin;
