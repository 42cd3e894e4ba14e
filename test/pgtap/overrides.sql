-- Settings of single tenants: what may be written, and by whom.
BEGIN;
SELECT plan(12);

SELECT lives_ok($$INSERT INTO tempo.overrides (tenant) VALUES ('a.B-1_!*''()'), ('...'), (repeat('x', 150))$$, 'tenants as X-Scope-OrgID may name them');
SELECT throws_ok(format('INSERT INTO tempo.overrides (tenant) VALUES (%L)', bad), '23514', NULL, 'not the tenant ' || left(bad, 5))
    FROM unnest(ARRAY['', '.', '..', '*', 'a|b', E'a\n', repeat('x', 151)]) AS bad;
SELECT throws_ok($$INSERT INTO tempo.overrides (tenant, retention) VALUES ('t', '-1 s')$$, '23514', NULL, 'spans are not kept for less than no time');

SELECT table_privs_are('tempo', 'overrides', 'tempo_reader', ARRAY['SELECT'], 'readers see the settings');
SELECT table_privs_are('tempo', 'overrides', 'tempo_writer', ARRAY['SELECT'], 'so do writers');
SELECT table_privs_are('tempo', 'overrides', 'tempo_admin', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'administrators change them');

SELECT * FROM finish();
ROLLBACK;
