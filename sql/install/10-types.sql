-- The types of trace and span ids: 16 and 8 bytes, written as hexadecimal
-- digits, with comparison, hashing and casts.
--
-- The operators are in pg_catalog, so that "trace_id = '...'" works whatever
-- the search path is: in psql, in functions with a fixed path, and in a restore.

CREATE TYPE tempo.trace_id;

CREATE FUNCTION tempo.trace_id_in(cstring) RETURNS tempo.trace_id
    AS 'MODULE_PATHNAME', 'tempo_trace_id_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_in(cstring) IS 'I/O';
CREATE FUNCTION tempo.trace_id_out(tempo.trace_id) RETURNS cstring
    AS 'MODULE_PATHNAME', 'tempo_trace_id_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_out(tempo.trace_id) IS 'I/O';
CREATE FUNCTION tempo.trace_id_recv(internal) RETURNS tempo.trace_id
    AS 'MODULE_PATHNAME', 'tempo_trace_id_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_recv(internal) IS 'I/O';
CREATE FUNCTION tempo.trace_id_send(tempo.trace_id) RETURNS bytea
    AS 'MODULE_PATHNAME', 'tempo_trace_id_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_send(tempo.trace_id) IS 'I/O';

CREATE TYPE tempo.trace_id (
    INPUT = tempo.trace_id_in,
    OUTPUT = tempo.trace_id_out,
    RECEIVE = tempo.trace_id_recv,
    SEND = tempo.trace_id_send,
    INTERNALLENGTH = 16,
    ALIGNMENT = char,
    STORAGE = plain
);
COMMENT ON TYPE tempo.trace_id IS '16-byte trace id, 32 hexadecimal digits as text';

CREATE FUNCTION tempo.trace_id_from_bytea(bytea) RETURNS tempo.trace_id
    AS 'MODULE_PATHNAME', 'tempo_trace_id_from_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_from_bytea(bytea) IS 'cast';
CREATE FUNCTION tempo.trace_id_to_bytea(tempo.trace_id) RETURNS bytea
    AS 'MODULE_PATHNAME', 'tempo_trace_id_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_to_bytea(tempo.trace_id) IS 'cast';

CREATE CAST (bytea AS tempo.trace_id) WITH FUNCTION tempo.trace_id_from_bytea(bytea) AS ASSIGNMENT;
CREATE CAST (tempo.trace_id AS bytea) WITH FUNCTION tempo.trace_id_to_bytea(tempo.trace_id) AS ASSIGNMENT;
CREATE CAST (text AS tempo.trace_id) WITH INOUT AS ASSIGNMENT;
CREATE CAST (tempo.trace_id AS text) WITH INOUT;
COMMENT ON CAST (bytea AS tempo.trace_id) IS '16 bytes';
COMMENT ON CAST (tempo.trace_id AS bytea) IS '16 bytes';
COMMENT ON CAST (text AS tempo.trace_id) IS '32 hexadecimal digits';
COMMENT ON CAST (tempo.trace_id AS text) IS '32 hexadecimal digits';

-- Leakproof, that row security does not keep them from choosing segments.
CREATE FUNCTION tempo.trace_id_eq(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_eq' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_eq(tempo.trace_id, tempo.trace_id) IS 'implementation of = operator';
CREATE FUNCTION tempo.trace_id_ne(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_ne' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_ne(tempo.trace_id, tempo.trace_id) IS 'implementation of <> operator';
CREATE FUNCTION tempo.trace_id_lt(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_lt' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_lt(tempo.trace_id, tempo.trace_id) IS 'implementation of < operator';
CREATE FUNCTION tempo.trace_id_le(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_le' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_le(tempo.trace_id, tempo.trace_id) IS 'implementation of <= operator';
CREATE FUNCTION tempo.trace_id_gt(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_gt' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_gt(tempo.trace_id, tempo.trace_id) IS 'implementation of > operator';
CREATE FUNCTION tempo.trace_id_ge(tempo.trace_id, tempo.trace_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_trace_id_ge' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_ge(tempo.trace_id, tempo.trace_id) IS 'implementation of >= operator';
CREATE FUNCTION tempo.trace_id_cmp(tempo.trace_id, tempo.trace_id) RETURNS integer
    AS 'MODULE_PATHNAME', 'tempo_trace_id_cmp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_cmp(tempo.trace_id, tempo.trace_id) IS 'btree comparison';
CREATE FUNCTION tempo.trace_id_hash(tempo.trace_id) RETURNS integer
    AS 'MODULE_PATHNAME', 'tempo_trace_id_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_hash(tempo.trace_id) IS 'hash';
CREATE FUNCTION tempo.trace_id_hash_extended(tempo.trace_id, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_trace_id_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.trace_id_hash_extended(tempo.trace_id, bigint) IS 'hash';

CREATE OPERATOR pg_catalog.= (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=),
    NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel,
    HASHES,
    MERGES
);
COMMENT ON OPERATOR pg_catalog.= (tempo.trace_id, tempo.trace_id) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>),
    NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (tempo.trace_id, tempo.trace_id) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>),
    NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel,
    JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (tempo.trace_id, tempo.trace_id) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=),
    NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel,
    JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (tempo.trace_id, tempo.trace_id) IS 'less than or equal';
CREATE OPERATOR pg_catalog.> (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<),
    NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel,
    JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (tempo.trace_id, tempo.trace_id) IS 'greater than';
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = tempo.trace_id,
    RIGHTARG = tempo.trace_id,
    FUNCTION = tempo.trace_id_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=),
    NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel,
    JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (tempo.trace_id, tempo.trace_id) IS 'greater than or equal';

CREATE OPERATOR CLASS tempo.trace_id_ops DEFAULT FOR TYPE tempo.trace_id USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 tempo.trace_id_cmp(tempo.trace_id, tempo.trace_id),
    FUNCTION 4 btequalimage(oid);
COMMENT ON OPERATOR CLASS tempo.trace_id_ops USING btree IS 'trace ids in the order of their bytes';
COMMENT ON OPERATOR FAMILY tempo.trace_id_ops USING btree IS 'trace ids in the order of their bytes';
CREATE OPERATOR CLASS tempo.trace_id_ops DEFAULT FOR TYPE tempo.trace_id USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 tempo.trace_id_hash(tempo.trace_id),
    FUNCTION 2 tempo.trace_id_hash_extended(tempo.trace_id, bigint);
COMMENT ON OPERATOR CLASS tempo.trace_id_ops USING hash IS 'trace ids';
COMMENT ON OPERATOR FAMILY tempo.trace_id_ops USING hash IS 'trace ids';

CREATE TYPE tempo.span_id;

CREATE FUNCTION tempo.span_id_in(cstring) RETURNS tempo.span_id
    AS 'MODULE_PATHNAME', 'tempo_span_id_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_in(cstring) IS 'I/O';
CREATE FUNCTION tempo.span_id_out(tempo.span_id) RETURNS cstring
    AS 'MODULE_PATHNAME', 'tempo_span_id_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_out(tempo.span_id) IS 'I/O';
CREATE FUNCTION tempo.span_id_recv(internal) RETURNS tempo.span_id
    AS 'MODULE_PATHNAME', 'tempo_span_id_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_recv(internal) IS 'I/O';
CREATE FUNCTION tempo.span_id_send(tempo.span_id) RETURNS bytea
    AS 'MODULE_PATHNAME', 'tempo_span_id_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_send(tempo.span_id) IS 'I/O';

CREATE TYPE tempo.span_id (
    INPUT = tempo.span_id_in,
    OUTPUT = tempo.span_id_out,
    RECEIVE = tempo.span_id_recv,
    SEND = tempo.span_id_send,
    INTERNALLENGTH = 8,
    ALIGNMENT = char,
    STORAGE = plain
);
COMMENT ON TYPE tempo.span_id IS '8-byte span id, 16 hexadecimal digits as text';

CREATE FUNCTION tempo.span_id_from_bytea(bytea) RETURNS tempo.span_id
    AS 'MODULE_PATHNAME', 'tempo_span_id_from_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_from_bytea(bytea) IS 'cast';
CREATE FUNCTION tempo.span_id_to_bytea(tempo.span_id) RETURNS bytea
    AS 'MODULE_PATHNAME', 'tempo_span_id_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_to_bytea(tempo.span_id) IS 'cast';

CREATE CAST (bytea AS tempo.span_id) WITH FUNCTION tempo.span_id_from_bytea(bytea) AS ASSIGNMENT;
CREATE CAST (tempo.span_id AS bytea) WITH FUNCTION tempo.span_id_to_bytea(tempo.span_id) AS ASSIGNMENT;
CREATE CAST (text AS tempo.span_id) WITH INOUT AS ASSIGNMENT;
CREATE CAST (tempo.span_id AS text) WITH INOUT;
COMMENT ON CAST (bytea AS tempo.span_id) IS '8 bytes';
COMMENT ON CAST (tempo.span_id AS bytea) IS '8 bytes';
COMMENT ON CAST (text AS tempo.span_id) IS '16 hexadecimal digits';
COMMENT ON CAST (tempo.span_id AS text) IS '16 hexadecimal digits';

CREATE FUNCTION tempo.span_id_eq(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_eq' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_eq(tempo.span_id, tempo.span_id) IS 'implementation of = operator';
CREATE FUNCTION tempo.span_id_ne(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_ne' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_ne(tempo.span_id, tempo.span_id) IS 'implementation of <> operator';
CREATE FUNCTION tempo.span_id_lt(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_lt' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_lt(tempo.span_id, tempo.span_id) IS 'implementation of < operator';
CREATE FUNCTION tempo.span_id_le(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_le' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_le(tempo.span_id, tempo.span_id) IS 'implementation of <= operator';
CREATE FUNCTION tempo.span_id_gt(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_gt' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_gt(tempo.span_id, tempo.span_id) IS 'implementation of > operator';
CREATE FUNCTION tempo.span_id_ge(tempo.span_id, tempo.span_id) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_span_id_ge' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_ge(tempo.span_id, tempo.span_id) IS 'implementation of >= operator';
CREATE FUNCTION tempo.span_id_cmp(tempo.span_id, tempo.span_id) RETURNS integer
    AS 'MODULE_PATHNAME', 'tempo_span_id_cmp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_cmp(tempo.span_id, tempo.span_id) IS 'btree comparison';
CREATE FUNCTION tempo.span_id_hash(tempo.span_id) RETURNS integer
    AS 'MODULE_PATHNAME', 'tempo_span_id_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_hash(tempo.span_id) IS 'hash';
CREATE FUNCTION tempo.span_id_hash_extended(tempo.span_id, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tempo_span_id_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.span_id_hash_extended(tempo.span_id, bigint) IS 'hash';

CREATE OPERATOR pg_catalog.= (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_eq,
    COMMUTATOR = OPERATOR(pg_catalog.=),
    NEGATOR = OPERATOR(pg_catalog.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel,
    HASHES,
    MERGES
);
COMMENT ON OPERATOR pg_catalog.= (tempo.span_id, tempo.span_id) IS 'equal';
CREATE OPERATOR pg_catalog.<> (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_ne,
    COMMUTATOR = OPERATOR(pg_catalog.<>),
    NEGATOR = OPERATOR(pg_catalog.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR pg_catalog.<> (tempo.span_id, tempo.span_id) IS 'not equal';
CREATE OPERATOR pg_catalog.< (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_lt,
    COMMUTATOR = OPERATOR(pg_catalog.>),
    NEGATOR = OPERATOR(pg_catalog.>=),
    RESTRICT = scalarltsel,
    JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR pg_catalog.< (tempo.span_id, tempo.span_id) IS 'less than';
CREATE OPERATOR pg_catalog.<= (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_le,
    COMMUTATOR = OPERATOR(pg_catalog.>=),
    NEGATOR = OPERATOR(pg_catalog.>),
    RESTRICT = scalarlesel,
    JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR pg_catalog.<= (tempo.span_id, tempo.span_id) IS 'less than or equal';
CREATE OPERATOR pg_catalog.> (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_gt,
    COMMUTATOR = OPERATOR(pg_catalog.<),
    NEGATOR = OPERATOR(pg_catalog.<=),
    RESTRICT = scalargtsel,
    JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR pg_catalog.> (tempo.span_id, tempo.span_id) IS 'greater than';
CREATE OPERATOR pg_catalog.>= (
    LEFTARG = tempo.span_id,
    RIGHTARG = tempo.span_id,
    FUNCTION = tempo.span_id_ge,
    COMMUTATOR = OPERATOR(pg_catalog.<=),
    NEGATOR = OPERATOR(pg_catalog.<),
    RESTRICT = scalargesel,
    JOIN = scalargejoinsel
);
COMMENT ON OPERATOR pg_catalog.>= (tempo.span_id, tempo.span_id) IS 'greater than or equal';

CREATE OPERATOR CLASS tempo.span_id_ops DEFAULT FOR TYPE tempo.span_id USING btree AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>,
    FUNCTION 1 tempo.span_id_cmp(tempo.span_id, tempo.span_id),
    FUNCTION 4 btequalimage(oid);
COMMENT ON OPERATOR CLASS tempo.span_id_ops USING btree IS 'span ids in the order of their bytes';
COMMENT ON OPERATOR FAMILY tempo.span_id_ops USING btree IS 'span ids in the order of their bytes';
CREATE OPERATOR CLASS tempo.span_id_ops DEFAULT FOR TYPE tempo.span_id USING hash AS
    OPERATOR 1 pg_catalog.=,
    FUNCTION 1 tempo.span_id_hash(tempo.span_id),
    FUNCTION 2 tempo.span_id_hash_extended(tempo.span_id, bigint);
COMMENT ON OPERATOR CLASS tempo.span_id_ops USING hash IS 'span ids';
COMMENT ON OPERATOR FAMILY tempo.span_id_ops USING hash IS 'span ids';
