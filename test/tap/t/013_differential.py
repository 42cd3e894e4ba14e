"""Random statements on a table of spans and on its twin, a heap: after each of them both hold the same.

TEMPO_PG_SEED repeats a run.  The compaction worker merges beside it all the while.
"""
import os, random
import cluster, tap

SETUP = """
CREATE TABLE t (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE TABLE h (LIKE tempo.spans INCLUDING DEFAULTS) USING heap;
CREATE FUNCTION mk(n int) RETURNS tempo.spans LANGUAGE sql AS $$
    SELECT ROW('tenant ' || n % 3, lpad(to_hex(1 + n / 4), 32, '0')::tempo.trace_id, lpad(to_hex(n + 1), 16, '0')::tempo.span_id,
               NULL, '', 0, 'op ' || n % 7, 'server', 'unset', '', 1700000000000000000 + n * 1000::bigint, n,
               NULL, NULL, NULL, NULL, jsonb_build_object('n', n, 'k' || n % 11, repeat('x', n % 300)), '{"service.name": "shop"}',
               '', '', '{}', '[]', '[]', 0, 0, 0, 0, 0, '', '', '[]')::tempo.spans
$$;
CREATE FUNCTION risky(n int, t text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
DECLARE seen bigint;
BEGIN
    BEGIN
        EXECUTE format('SELECT count(*) FROM %I', t) INTO seen;
        EXECUTE format('INSERT INTO %I SELECT (mk(%s)).*', t, 500000 + seen);
        IF n % 3 = 0 THEN RAISE EXCEPTION 'three'; END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN n;
    END;
    RETURN n + 1;
END
$$;
CREATE VIEW t_content AS SELECT count(*), md5(string_agg(x, '' ORDER BY x)) FROM (SELECT (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)::text AS x FROM t) s;
CREATE VIEW h_content AS SELECT count(*), md5(string_agg(x, '' ORDER BY x)) FROM (SELECT (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)::text AS x FROM h) s;
"""


class Script:
    """statements for both tables; what they print comes in pairs of lines"""

    def __init__(self, rng):
        self.rng, self.lines, self.next, self.savepoints, self.inside, self.cursors = rng, [], 1, 0, False, 0

    def both(self, statement):
        for table in "th": self.lines.append(statement.replace("$T", table) + ";")

    def one(self, statement):
        self.lines.append(statement + ";")

    def check(self):
        self.lines += ["\\echo %d" % len(self.lines), "SELECT * FROM t_content;", "SELECT * FROM h_content;"]

    def step(self):
        rng, choice = self.rng, self.rng.random()
        if choice < 0.34:
            n = rng.choice([1, 1, 2, 5, 50, 700])
            self.both("INSERT INTO $T SELECT (mk(n)).* FROM generate_series(%d, %d) n" % (self.next, self.next + n - 1))
            self.next += n
        elif choice < 0.38:
            self.both("INSERT INTO $T SELECT * FROM $T WHERE (attributes->>'n')::int %% 5 = %d AND (SELECT count(*) FROM $T) < 6000" % rng.randrange(5))
        elif choice < 0.42:
            n = rng.randrange(2, 9)
            self.both("INSERT INTO $T SELECT (mk(risky)).* FROM (SELECT risky(n, '$T') FROM generate_series(%d, %d) n OFFSET 0) x" % (self.next, self.next + n))
            self.next += n + 2
        elif choice < 0.455:
            # from both tables or from neither: a merge may come first
            if not self.inside: self.one("BEGIN")
            self.both("DELETE FROM $T WHERE (attributes->>'n')::int %% %d = %d" % (rng.choice([3, 17, 17, 101, 101]), rng.randrange(17)))
            if not self.inside: self.one("COMMIT")
        elif choice < 0.46 and self.inside:
            self.one("SAVEPOINT e")
            self.both("SAVEPOINT f;INSERT INTO $T SELECT (mk(n)).* FROM generate_series(%d, %d) n WHERE 1 / (%d - n) < 2;ROLLBACK TO f" % (self.next, self.next + 300, self.next + rng.randrange(300)))
            self.one("ROLLBACK TO e")
        elif choice < 0.58:
            if not self.inside:
                self.one("BEGIN ISOLATION LEVEL " + rng.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]))
                self.inside, self.savepoints, self.cursors = True, 0, 0
            elif self.savepoints < 4 and rng.random() < 0.7:
                self.savepoints += 1
                self.one("SAVEPOINT s%d" % self.savepoints)
            else: self.end()
        elif choice < 0.68 and self.inside and self.savepoints:
            n = rng.randrange(1, self.savepoints + 1)
            self.one(rng.choice(["ROLLBACK TO s%d", "RELEASE s%d"]) % n)
            self.savepoints = n if "ROLLBACK" in self.lines[-1] else n - 1
        elif choice < 0.72 and self.inside:
            if self.cursors == 0 and self.savepoints == 0:
                self.cursors = 1
                self.both("DECLARE c_$T CURSOR FOR SELECT duration_nano FROM $T ORDER BY 1")
            elif self.cursors and self.savepoints == 0:
                self.lines.append("\\echo cursor %d" % len(self.lines))
                for table in "th": self.lines += ["FETCH ALL FROM c_%s;" % table, "\\echo |"]
                self.both("CLOSE c_$T")
                self.cursors = 0
        elif choice < 0.80:
            self.one("SELECT tempo.compact('t', %d) \\g /dev/null" % rng.choice([1, 100, 1000, 1000000]))
        elif choice < 0.84 and not self.inside:
            self.one(rng.choice(["VACUUM t", "VACUUM t", "VACUUM FULL t", "ANALYZE t", "VACUUM tempo.segment_directory"]))
        elif choice < 0.86 and self.cursors == 0:
            self.both("TRUNCATE $T")
        elif choice < 0.90:
            self.one("SET tempo_pg.insert_buffer_size = '%s'" % rng.choice(["64kB", "256kB", "64MB"]))
        elif choice < 0.92:
            self.one("SET force_parallel_mode = %s" % rng.choice(["on", "off"]))
        elif choice < 0.94 and not self.inside:
            self.both("ALTER TABLE $T SET (autovacuum_enabled = %s)" % rng.choice(["on", "off"]))
        elif choice < 0.96:
            self.both("DO $$$$ BEGIN FOR i IN 1..6 LOOP BEGIN INSERT INTO $T SELECT (mk(%d + i)).*; IF i %% 2 = 0 THEN RAISE EXCEPTION 'even'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$$$".replace("$$$$", "$$") % self.next)
            self.next += 7
        self.check()

    def end(self):
        if self.rng.random() < 0.2 and self.cursors == 0:
            # a prepared TRUNCATE keeps everybody out, so nothing is read in between
            self.one("PREPARE TRANSACTION 'd'")
            self.one(self.rng.choice(["COMMIT PREPARED 'd'", "ROLLBACK PREPARED 'd'"]))
        else: self.one(self.rng.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
        self.inside, self.savepoints, self.cursors = False, 0, 0


def pairs(output):
    """(where, what t printed, what h printed) for every check"""
    at, found = None, []
    for line in output.splitlines():
        if line.isdigit(): at, found = line, []
        elif at and line.count("|") == 1:
            found.append(line)
            if len(found) == 2: yield at, found[0], found[1]; at = None


def cursors(output):
    for part in output.split("cursor ")[1:]:
        rows = part.split("|")
        if len(rows) >= 3: yield rows[0].split("\n", 1)[1].split(), rows[1].split()


def test():
    seed = cluster.seed()
    tap.note("TEMPO_PG_SEED=%d" % seed)
    node = cluster.Cluster("differential", fsync="off")
    node.start()
    node.create_extension()
    for round in range(int(os.environ.get("TEMPO_PG_ROUNDS", "4"))):
        rng = random.Random(seed + round)
        script = Script(rng)
        for i in range(150): script.step()
        if script.inside: script.end()
        script.check()
        node.sql("DROP TABLE IF EXISTS t, h CASCADE; DROP FUNCTION IF EXISTS mk, risky" if round else "SELECT")
        node.sql(SETUP)
        r = node.psql("\\set ON_ERROR_STOP off\n" + "\n".join(script.lines))
        checks = list(pairs(r.stdout))
        wrong = [c for c in checks if c[1] != c[2]]
        tap.ok(len(checks) > 50, "round %d: checks were made" % round, len(checks), r.stderr[:1000])
        tap.ok(not wrong, "round %d: heap and tempo hold the same after every one of %d statements" % (round, len(checks)),
               wrong[:1], "\n".join(script.lines[max(0, int(wrong[0][0]) - 60):int(wrong[0][0]) + 1]) if wrong else "")
        tap.ok(all(a == b for a, b in cursors(r.stdout)), "round %d: cursors too" % round)
        # where a merge came first, the transaction is over, with its savepoints and cursors
        expected = ["22012"] + (["40001", "25P02", "3B001", "34000", "42704"] if "a merge has moved the rows" in r.stderr else [])
        unexpected = [l for l in r.stderr.splitlines() if "ERROR" in l and not any(code in l for code in expected)]
        tap.ok(not unexpected, "round %d: no unexpected error" % round, "\n".join(unexpected[:10]))
        problems = node.sql("SELECT * FROM tempo.verify('t')")
        tap.equal(problems, "", "round %d: tempo.verify()" % round)
    tap.ok("PANIC" not in node.log_text() and "signal 11" not in node.log_text(), "the server did not crash")


tap.main(test)
