"""Several sessions at random on a table of spans and on its twin, a heap: whoever looks sees the same in both.

Transactions of every isolation level insert, COPY, delete, go back to savepoints, keep snapshots and cursors open, are prepared, and meet merges, retention and VACUUM; custom nodes are on
and off at random.  One statement runs at a time, so that what a lock holds up fails soon and is rolled back in both tables; the compaction worker runs beside all of them.

TEMPO_PG_SEED repeats a run (but for the worker), TEMPO_PG_SECONDS=900 makes it a long one.
"""
import os, random, time
import cluster, tap

SETUP = """
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE TABLE h (LIKE tempo.spans INCLUDING DEFAULTS) USING heap;
CREATE FUNCTION mk(n int) RETURNS tempo.spans LANGUAGE sql AS $$
    SELECT ROW(CASE WHEN n % 13 < 2 THEN 'old' ELSE 'tenant ' || n % 3 END, lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               NULL, '', 0, 'op ' || n % 7, (ARRAY['server', 'client', 'internal'])[1 + n % 3], (ARRAY['unset', 'error'])[1 + (n % 11 / 10)], '', 1700000000000000000 + n * 1000::bigint, n,
               NULL, NULL, NULL, 'shop ' || n % 2, jsonb_build_object('n', n, 'user', 'user ' || n % 17, 'k' || n % 11, repeat('x', n % 300)), jsonb_build_object('service.name', 'shop ' || n % 2),
               '', '', '{}', '[]', '[]', 0, 0, 0, 0, 0, '', '', '[]')::tempo.spans
$$;
CREATE FUNCTION content(relation text) RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT count(*) || $q$ $q$ || coalesce(md5(string_agg(x, $q$$q$ ORDER BY x)), $q$-$q$) FROM (SELECT (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)::text AS x FROM %I) s', relation) INTO result;
    RETURN result;
END
$f$;
CREATE FUNCTION expire() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE removed bigint;
BEGIN
    SELECT spans INTO removed FROM tempo.apply_retention('t');
    -- of the heap the same spans, which must be of the one tenant
    DELETE FROM h WHERE tenant = 'old' AND span_id NOT IN (SELECT span_id FROM t);
    RETURN removed;
END
$$;
SELECT tempo.set_retention('old', '1 hour');
"""
SWITCHES = ["tempo_pg.enable_custom_scan", "tempo_pg.enable_custom_aggregate", "enable_hashagg", "enable_tidscan"]
CONDITIONS = ["name = 'op 3'", "duration_nano > {n}", "attributes->>'user' = 'user 5'", "attributes->>'user' LIKE 'user 1%'", "(attributes->>'n')::numeric < {n}", "kind = 'client' AND status <> 'error'", "service_name = 'shop 1' OR name ~ '[12]'",
              "tenant = 'old'", "attributes ? 'k4'", "start_time_unix_nano BETWEEN 1700000000000000000 + {n} AND 1700000000000000000 + 1000 * {n}::bigint", "trace_id = lpad(to_hex(1 + {n} / 4), 32, '0')::tempo.trace_id", "NOT attributes ? 'k7' AND duration_nano % 2 = 0"]
GROUPS = ["name", "service_name", "kind, status", "attributes->>'user'", "tenant", "(start_time_unix_nano - 1700000000000000000) / 100000"]
# what a transaction may be told in a crowd
EXPECTED = ["could not serialize", "because a merge has moved", "lock timeout", "deadlock detected", "could not obtain lock", "concurrent update", "concurrent delete", "was replaced by a concurrent", "inserted have moved when segments were merged", "division by zero",
            "pivot", "rewritten", "current transaction is aborted", "cannot use serializable", "being used by active queries in this session"]


class Actor:
    """one session and what it is in the middle of"""

    def __init__(self, world):
        self.world, self.session = world, cluster.Session(world.node)
        self.inside, self.savepoints, self.cursor, self.level, self.failed = False, 0, False, "", False
        self.sql("SET lock_timeout = '30ms'; SET default_transaction_isolation = 'read committed'")

    def sql(self, text):
        self.world.history.append("%d: %s" % (self.world.actors.index(self) if self in self.world.actors else -1, text))
        out = self.session.sql(text)
        if "ERROR:" in out:
            self.failed = True
            line = [l for l in out.splitlines() if "ERROR:" in l][0]
            self.world.history.append("   " + line)
            if not any(e in out for e in EXPECTED): self.world.unexpected.append("%s\n%s" % (text, out))
        return out

    def both(self, statement):
        """in both tables or in neither"""
        rng = self.world.rng
        if not self.inside: self.sql("BEGIN")
        for table in rng.sample("th", 2):
            if not self.failed: self.sql(statement.replace("$T", table))
        if not self.inside: self.sql("COMMIT"); self.failed = False

    def switches(self):
        rng = self.world.rng
        if rng.random() < 0.3 and not self.failed: self.sql("; ".join("SET %s = %s" % (s, rng.choice(["on", "on", "off"])) for s in SWITCHES) + "; SET force_parallel_mode = %s" % rng.choice(["on", "off", "off"]))

    def check(self):
        if self.failed: return
        rng, n = self.world.rng, self.world.next
        kind = rng.random()
        if kind < 0.5: form = "(SELECT content('%s'))" % "$T"
        elif kind < 0.75: form = "(SELECT string_agg(s::text, ' ' ORDER BY s::text) FROM (SELECT %s AS g, count(*), sum(duration_nano), min(duration_nano), max(duration_nano) FROM $T WHERE %s GROUP BY 1) s)" % (
            rng.choice(GROUPS).replace(", ", " || "), rng.choice(CONDITIONS))
        else: form = "(SELECT count(*) || ' ' || coalesce(sum(duration_nano), -1) FROM $T WHERE %s)" % rng.choice(CONDITIONS)
        form = form.replace("{n}", str(rng.randrange(1, n + 1)))
        # one statement is one snapshot
        out = self.sql("SELECT a IS NOT DISTINCT FROM b, a, b FROM (SELECT %s AS a, %s AS b) s" % (form.replace("$T", "t"), form.replace("$T", "h")))
        if "ERROR" in out: return
        self.world.checks += 1
        if not out.startswith("t|"): self.world.wrong.append("%s\n%s\n%s" % (form, out[:600], "\n".join(self.world.history[-80:])))

    def end(self):
        rng = self.world.rng
        if self.failed: self.sql("ROLLBACK")
        elif rng.random() < 0.15 and not self.cursor and not self.world.prepared and self.level != "SERIALIZABLE":
            self.sql("PREPARE TRANSACTION 'p'")
            if not self.failed: self.world.prepared = True
        else: self.sql(rng.choice(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
        # what failed at its end is rolled back
        self.inside, self.savepoints, self.cursor, self.failed = False, 0, False, False

    def step(self):
        world, rng, choice = self.world, self.world.rng, self.world.rng.random()
        if self.failed:
            if self.savepoints and rng.random() < 0.5:
                n = rng.randrange(1, self.savepoints + 1)
                self.failed = False
                self.sql("ROLLBACK TO s%d" % n)
                self.savepoints, self.cursor = n, False
            else: self.end()
            return
        self.switches()
        if choice < 0.22:
            n = rng.choice([1, 1, 2, 5, 50, 400])
            self.both("INSERT INTO $T SELECT (mk(n)).* FROM generate_series(%d, %d) n" % (world.next, world.next + n - 1))
            world.next += n
        elif choice < 0.26:
            n = rng.choice([3, 200])
            path = "%s/copy" % world.node.folder
            self.sql("COPY (SELECT (mk(n)).* FROM generate_series(%d, %d) n) TO '%s'" % (world.next, world.next + n - 1, path))
            if not self.failed: self.both("COPY $T FROM '%s'" % path)
            world.next += n
        elif choice < 0.40:
            where = rng.choice(["(attributes->>'n')::int %% %d = %d" % (rng.choice([5, 17, 101]), rng.randrange(5)), "attributes->>'user' = 'user %d'" % rng.randrange(17), "trace_id = lpad(to_hex(%d), 32, '0')::tempo.trace_id" % rng.randrange(1, 2 + world.next // 4),
                                "duration_nano BETWEEN %d AND %d" % (world.next // 2, world.next // 2 + rng.randrange(200)), "name = 'op %d' AND duration_nano < %d" % (rng.randrange(7), rng.randrange(world.next + 1)), "span_id IN (SELECT span_id FROM $T ORDER BY start_time_unix_nano LIMIT 20)"])
            self.both("DELETE FROM $T WHERE " + where)
        elif choice < 0.42:
            self.both("WITH gone AS (DELETE FROM $T WHERE duration_nano %% 53 = %d RETURNING *) INSERT INTO $T SELECT * FROM gone" % rng.randrange(53))
        elif choice < 0.44:
            self.both("DO $d$ DECLARE x tid; BEGIN FOR i IN 1..6 LOOP BEGIN INSERT INTO $T SELECT (mk(%d + i)).* RETURNING ctid INTO x; DELETE FROM $T WHERE duration_nano %% 41 = i; IF i %% 3 = 0 THEN DELETE FROM $T WHERE ctid = x; END IF; IF i %% 2 = 0 THEN RAISE EXCEPTION 'even'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $d$" % world.next)
            world.next += 7
        elif choice < 0.46:
            # a row through a cursor; both tables have it, whichever comes first
            self.both("DO $d$ DECLARE each CURSOR FOR SELECT duration_nano FROM $T WHERE duration_nano %% 29 = %d; r record; BEGIN FOR r IN each LOOP DELETE FROM $T WHERE CURRENT OF each; END LOOP; END $d$" % rng.randrange(29))
        elif choice < 0.60:
            if not self.inside:
                self.level = rng.choice(["READ COMMITTED", "REPEATABLE READ", "REPEATABLE READ", "SERIALIZABLE"])
                self.sql("BEGIN ISOLATION LEVEL " + self.level)
                self.inside = True
                if rng.random() < 0.5: self.check()
            elif self.savepoints < 3 and rng.random() < 0.6:
                self.savepoints += 1
                self.sql("SAVEPOINT s%d" % self.savepoints)
            else: self.end()
        elif choice < 0.68 and self.savepoints:
            n = rng.randrange(1, self.savepoints + 1)
            back = rng.random() < 0.6
            self.sql(("ROLLBACK TO s%d" if back else "RELEASE s%d") % n)
            self.savepoints = n if back else n - 1
            if back: self.cursor = False
        elif choice < 0.72 and self.inside:
            if not self.cursor:
                world.cursors += 1
                self.sql("DECLARE c%d CURSOR FOR SELECT * FROM (SELECT 't' AS x, span_id, attributes FROM t UNION ALL SELECT 'h', span_id, attributes FROM h) u" % world.cursors)
                self.cursor = 0 if self.failed else world.cursors
            else:
                out = self.sql("FETCH ALL FROM c%d; CLOSE c%d" % (self.cursor, self.cursor))
                rows = [l.split("|", 1) for l in out.splitlines()]
                self.cursor = False
                if not self.failed:
                    world.checks += 1
                    if sorted(r[1] for r in rows if r[0] == "t") != sorted(r[1] for r in rows if r[0] == "h"): world.wrong.append("cursor\n" + "\n".join(world.history[-80:]))
        elif choice < 0.80:
            self.sql("SELECT tempo.compact('t', %d) \\g /dev/null" % rng.choice([100, 1000, 1000000]))
            if not self.inside: self.failed = False
        elif choice < 0.83:
            if self.inside: self.sql("SELECT expire()")
            else: self.sql("BEGIN"); self.sql("SELECT expire()"); self.sql("COMMIT"); self.failed = False
        elif choice < 0.88 and not self.inside:
            self.sql(rng.choice(["VACUUM t", "VACUUM t", "VACUUM FULL t", "ANALYZE t", "VACUUM tempo.segment_directory, tempo.segment_deletions", "REINDEX TABLE tempo.segment_deletions", "VACUUM FULL tempo.segment_directory"]))
            self.failed = False
        elif choice < 0.885: self.both("TRUNCATE $T")
        elif choice < 0.93 and world.prepared:
            if not self.inside:
                self.sql(rng.choice(["COMMIT PREPARED 'p'", "ROLLBACK PREPARED 'p'"]))
                world.prepared, self.failed = self.failed, False
        elif choice < 0.95: self.sql("SET tempo_pg.insert_buffer_size = '%s'" % rng.choice(["64kB", "64MB"]))
        self.check()


class World:
    def __init__(self, node, seed):
        self.node, self.rng, self.next = node, random.Random(seed), 1
        self.history, self.unexpected, self.wrong, self.checks, self.prepared, self.cursors, self.actors = [], [], [], 0, False, 0, []
        self.actors = [Actor(self) for i in range(4)]

    def finish(self):
        for a in self.actors:
            if a.inside: a.sql("ROLLBACK")
            a.session.close()
        if self.prepared: self.node.sql("ROLLBACK PREPARED 'p'")


def round_of(node, seed, steps):
    node.sql("DROP TABLE IF EXISTS t, h; DROP FUNCTION IF EXISTS mk, content, expire")
    node.sql(SETUP)
    world = World(node, seed)
    for i in range(steps):
        world.rng.choice(world.actors).step()
        if world.wrong or len(world.unexpected) > 5: break
    world.finish()
    problems = node.sql("SELECT * FROM tempo.verify('t')")
    t, h = node.sql("SELECT content('t'), content('h')").split("|")
    good = tap.ok(not world.wrong and t == h, "seed %d: %d looks at both tables saw the same, %s at the end" % (seed, world.checks, t.split()[0]), "\n".join(world.wrong[:1]), t, h)
    good &= tap.ok(not world.unexpected, "seed %d: no unexpected error" % seed, "\n".join(world.unexpected[:3]))
    good &= tap.equal(problems, "", "seed %d: tempo.verify()" % seed)
    node.sql("SELECT tempo.compact('t'); VACUUM tempo.segment_directory, tempo.segment_deletions, t")
    good &= tap.equal(node.sql("SELECT (SELECT content('t') = content('h')), (SELECT count(*) FROM tempo.verify('t')), (SELECT count(*) FROM tempo.segment_deletions)"), "t|0|0", "seed %d: and after all is merged, without a bitmap left" % seed)
    return good


def test():
    seed = cluster.seed()
    seconds = int(os.environ.get("TEMPO_PG_SECONDS", "0"))
    tap.note("TEMPO_PG_SEED=%d" % seed)
    node = cluster.Cluster("sessions", fsync="off", max_connections=40, **{"tempo_pg.compaction_rate_limit": "0"})
    node.start()
    node.create_extension()
    end, n = time.monotonic() + seconds, 0
    while n < 2 or time.monotonic() < end:
        round_of(node, seed + n, 150)
        n += 1
        if tap.failed > 8: break
    tap.ok("PANIC" not in node.log_text() and "signal 11" not in node.log_text() and "TRAP" not in node.log_text(), "the server did not crash")


tap.main(test)
