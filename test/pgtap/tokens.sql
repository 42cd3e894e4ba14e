-- Tokens: who may make, drop and see them.
BEGIN;
SELECT plan(8);

SELECT table_privs_are('tempo', 'api_tokens', 'tempo_admin', ARRAY['SELECT'], 'administrators see tokens');
SELECT table_privs_are('tempo', 'api_tokens', 'tempo_reader', ARRAY[]::text[], 'readers do not');
SELECT table_privs_are('tempo', 'api_tokens', 'public', ARRAY[]::text[], 'nor others');
SELECT function_privs_are('tempo', 'create_token', ARRAY['regrole', 'timestamptz', 'text'], 'tempo_admin', ARRAY['EXECUTE'], 'administrators make tokens');
SELECT function_privs_are('tempo', 'create_token', ARRAY['regrole', 'timestamptz', 'text'], 'tempo_writer', ARRAY[]::text[], 'writers do not');

SELECT is((SELECT tempo.drop_token(t) FROM tempo.create_token('tempo_reader') t), true, 'a token can be dropped');
SELECT tempo.create_token('tempo_reader') IS NOT NULL AS made \gset
SELECT is((SELECT bool_or(tempo.drop_token(token_hash)) FROM tempo.api_tokens), true, 'by its hash as well');
SELECT throws_ok('SELECT tempo.create_token(NULL)', '22004', NULL, 'a token is of a role');

SELECT * FROM finish();
ROLLBACK;
