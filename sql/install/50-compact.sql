-- Compaction and verification.

CREATE FUNCTION tempo.compact(relation regclass DEFAULT 'tempo.spans', max_spans integer DEFAULT 1000000,
                              OUT merges integer, OUT sources integer, OUT targets integer,
                              OUT spans bigint, OUT bytes bigint)
    AS 'MODULE_PATHNAME', 'tempo_compact' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION tempo.compact(regclass, integer) IS 'merges the segments of a table into as few as memory and max_spans allow, in this transaction';
