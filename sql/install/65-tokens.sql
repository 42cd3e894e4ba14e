-- Tokens with which clients of the ports authenticate as a role.

CREATE TABLE tempo.api_tokens (
    token_hash bytea PRIMARY KEY CONSTRAINT token_hash_length CHECK (pg_catalog.octet_length(token_hash) = 32),
    role regrole NOT NULL,
    created timestamptz NOT NULL DEFAULT pg_catalog.now(),
    expires timestamptz,
    comment text
) USING heap;
COMMENT ON TABLE tempo.api_tokens IS 'tokens that clients may send (Authorization: Bearer) when tempo_pg.authentication says so; tempo.create_token() and tempo.drop_token() write it';
COMMENT ON COLUMN tempo.api_tokens.token_hash IS 'SHA-256 of the token, which is not stored';
COMMENT ON COLUMN tempo.api_tokens.role IS 'the role whose privileges the client has';
COMMENT ON COLUMN tempo.api_tokens.created IS 'when the token was made';
COMMENT ON COLUMN tempo.api_tokens.expires IS 'when it ceases to be valid; NULL means never';
COMMENT ON COLUMN tempo.api_tokens.comment IS 'what it is for';

CREATE FUNCTION tempo.create_token(role regrole, expires timestamptz DEFAULT NULL, comment text DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_create_token' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.create_token(regrole, timestamptz, text) IS 'makes a token for a role that the caller can SET ROLE to, and returns it; it cannot be had again';
CREATE FUNCTION tempo.drop_token(token text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_drop_token' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.drop_token(text) IS 'makes a token invalid; false if there was none';
CREATE FUNCTION tempo.drop_token(token_hash bytea) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_drop_token_hash' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION tempo.drop_token(bytea) IS 'the same by the hash that tempo.api_tokens shows';

REVOKE ALL ON FUNCTION tempo.create_token(regrole, timestamptz, text), tempo.drop_token(text), tempo.drop_token(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tempo.create_token(regrole, timestamptz, text), tempo.drop_token(text), tempo.drop_token(bytea) TO tempo_admin;
GRANT SELECT ON tempo.api_tokens TO tempo_admin;

SELECT pg_catalog.pg_extension_config_dump('tempo.api_tokens', '');
