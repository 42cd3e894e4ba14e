"""A hot standby under load: inserts, deletes, merging, retention, VACUUM with truncation and VACUUM FULL on the primary.
Each read of the standby sees what some commit has left, or fails as recovery conflicts do; so does the new primary after a promotion in full run, and the old one when pg_rewind has made it a standby."""
import re, threading, time
import cluster, tap

SECONDS = 120 if cluster.LONG else 4
SPANS = 40              # of a generation
KEPT = 12               # generations
CONFLICTS = {"40001", "57P01", "57P02", "57P03", "57014", "08006", "55P03", "40P01"}
SETUP = """
CREATE FUNCTION generation(g int, spans int, kept int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
    SELECT 'a', md5(g || ' ' || i / 4)::tempo.trace_id, lpad(to_hex(i + 1), 16, '0')::tempo.span_id, 'op', (extract(epoch FROM now()) * 1e9)::bigint + i, 1000,
           jsonb_build_object('g', g, 'noise', md5(random()::text) || md5(random()::text))
    FROM generate_series(0, spans - 1) i;
    -- too old from the beginning: retention takes them away as a whole
    INSERT INTO tempo.spans (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
    SELECT 'old', md5('old ' || g)::tempo.trace_id, lpad(to_hex(i + 1), 16, '0')::tempo.span_id, 'op', (extract(epoch FROM now() - interval '3 hours') * 1e9)::bigint, 1000, jsonb_build_object('g', g)
    FROM generate_series(0, spans - 1) i;
    DELETE FROM tempo.spans WHERE tenant = 'a' AND attributes->>'g' = (g - kept)::text;
END $$;
"""
# one snapshot: three ways of counting
COUNTS = """SELECT tenant, (attributes->>'g')::int, count(*), count(DISTINCT span_id), count(*) FILTER (WHERE length(attributes->>'noise') = 64) FROM tempo.spans GROUP BY 1, 2 ORDER BY 1, 2;
"""


class Loop(threading.Thread):
    """does something again and again until it is told to stop; errors with other SQLSTATEs than conflicts are kept"""

    def __init__(self, stop, step, pause=0.0):
        super().__init__(daemon=True)
        self.stop, self.step, self.pause = stop, step, pause
        self.done, self.conflicts, self.failures = 0, {}, []

    def run(self):
        while not self.stop.is_set():
            try: error = self.step(self)
            except Exception as x: error = repr(x)
            if error is None: self.done += 1
            else:
                codes = re.findall(r"(?:ERROR|FATAL):  ([0-9A-Z]{5}):", error)
                if codes and set(codes) <= CONFLICTS: self.conflicts[codes[-1]] = self.conflicts.get(codes[-1], 0) + 1
                elif re.search(r"connection to server|server closed|terminating connection", error): self.conflicts["gone"] = self.conflicts.get("gone", 0) + 1
                else: self.failures.append(error[-1500:])
            if self.pause: self.stop.wait(self.pause)


def wrong_counts(text, kept=KEPT):
    """what is not the state behind some commit"""
    rows = [l.split("|") for l in text.splitlines()]
    new = [(int(g), c, d, f) for t, g, c, d, f in rows if t == "a"]
    bad = [r for r in new if r[1:] != (str(SPANS),) * 3]
    bad += [r for r in rows if r[0] == "old" and (r[2] != str(SPANS) or r[3] != str(SPANS))]
    generations = [g for g, c, d, f in new]
    if generations and (generations != list(range(generations[0], generations[-1] + 1)) or len(generations) > kept): bad.append(generations)
    return bad


class Reader:
    """reads in one transaction, twice: what it has seen it sees again"""

    def __init__(self, node):
        self.node = node
        self.wrong = []
        self.newest = 0

    def step(self, loop):
        r = self.node.psql("BEGIN ISOLATION LEVEL REPEATABLE READ;\n%s\\echo =\n%s\\echo =\nSELECT count(*) FROM tempo.spans;\nCOMMIT;\n" % (COUNTS, COUNTS))
        parts = r.stdout.split("=\n")
        # what came before an error counts, too
        for text in parts[:2] if len(parts) == 3 else parts[:len(parts) - 1]:
            bad = wrong_counts(text)
            if bad: self.wrong.append((bad[:3], text[:1500]))
        if r.returncode == 0 and (parts[0] != parts[1] or int(parts[2]) != sum(int(l.split("|")[2]) for l in parts[0].splitlines())): self.wrong.append(("not the same again", parts))
        if len(parts) > 1:
            seen = max([int(l.split("|")[1]) for l in parts[0].splitlines() if l.startswith("a|")] or [0])
            if seen < self.newest: self.wrong.append(("back in time", seen, self.newest))
            self.newest = max(self.newest, seen)
        return r.stderr if r.returncode else None


class Writer:
    def __init__(self, node):
        self.node = node
        self.next = 1

    def step(self, loop):
        r = self.node.psql("SELECT generation(%d, %d, %d)" % (self.next, SPANS, KEPT))
        if r.returncode: return r.stderr
        self.next += 1


def command(node, *texts):
    def step(loop):
        r = node.psql(texts[loop.done % len(texts)])
        return r.stderr if r.returncode else None
    return step


def load(node, standby, seconds):
    """-> nothing; ends when the time is over and enough has been done"""
    stop = threading.Event()
    writer = Writer(node)
    writer.next = 1 + max([0] + [int(g) for g in node.sql("SELECT max((attributes->>'g')::int) FROM tempo.spans").split()])
    readers = [Reader(standby) for i in range(2)]
    loops = [Loop(stop, writer.step)] + [Loop(stop, r.step) for r in readers]
    loops += [Loop(stop, command(node, "SELECT tempo.compact()", "SELECT tempo.apply_retention()", "VACUUM tempo.spans"), 0.02), Loop(stop, command(node, "VACUUM FULL tempo.spans"), 1.5)]
    return stop, loops, readers, writer


def judge(loops, readers, what):
    tap.equal([r.wrong[0] for r in readers if r.wrong], [], "%s: each read saw the state behind a commit" % what)
    tap.equal([l.failures[0] for l in loops if l.failures], [], "%s: no errors but conflicts" % what)
    tap.note("%s: %d generations, %d reads, %d maintenance steps, conflicts %s" % (what, loops[0].done, sum(l.done for l in loops[1:3]), sum(l.done for l in loops[3:]), [l.conflicts for l in loops if l.conflicts]))


def test():
    settings = {"wal_level": "replica", "max_wal_senders": 6, "wal_log_hints": "on", "wal_keep_size": "512MB", "tempo_pg.enabled": "off", "autovacuum": "off", "fsync": "off", "max_wal_size": "1GB"}
    node = cluster.Cluster("primary", **settings)
    node.allow_replication()
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP + "SELECT tempo.set_retention('old', '1 hour'); SELECT generation(1, %d, %d)" % (SPANS, KEPT))
    mine = {k: v for k, v in settings.items()}
    standby = node.standby(max_standby_streaming_delay="50ms", **mine)
    backup = cluster.Cluster("backup", init=False)
    for feedback in ("off", "on"):
        standby.configure(hot_standby_feedback=feedback)
        standby.reload()
        stop, loops, readers, writer = load(node, standby, SECONDS)
        for l in loops: l.start()
        enough = time.monotonic() + SECONDS
        if feedback == "on":
            # a base backup in the middle of it
            node.backup(backup.data, "--checkpoint=fast")
        patient = []

        def loaded():
            # on a machine on which no read is done before a conflict comes, conflicts have to wait
            if not patient and time.monotonic() > enough + 30:
                patient.append(feedback)
                standby.configure(max_standby_streaming_delay="2s")
                standby.reload()
            return time.monotonic() > enough and loops[0].done > 2 * KEPT and all(l.done > 3 for l in loops[1:4])
        cluster.poll("load with hot_standby_feedback = " + feedback, loaded)
        stop.set()
        for l in loops: l.join(cluster.PATIENCE)
        judge(loops, readers, "hot_standby_feedback = " + feedback)
        standby.wait_replayed(node)
        rows = "SELECT count(*), sum(hashtextextended(to_jsonb(s)::text, 0)) FROM tempo.spans s"
        tap.equal(standby.sql(rows), node.sql(rows), "and both have the same rows")
        tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "and the primary is intact")

    r = backup.run(cluster.BIN + "/pg_verifybackup", backup.data, check=False)
    tap.equal(r.returncode, 0, "a base backup of meanwhile: pg_verifybackup finds nothing") or tap.note(r.stdout[-1000:])
    backup.configure(**settings)
    backup.start()
    tap.equal(wrong_counts(backup.sql(COUNTS)), [], "it has the state behind a commit")
    tap.equal(backup.sql("SELECT count(*) FROM tempo.verify()"), "0", "and is intact")
    backup.stop()

    # promotion while the primary goes on
    stop, loops, readers, writer = load(node, standby, SECONDS)
    for l in loops: l.start()
    cluster.poll("load before the promotion", lambda: loops[0].done > KEPT)
    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    done = loops[0].done
    cluster.poll("load on both", lambda: loops[0].done > done + 3)
    stop.set()
    for l in loops: l.join(cluster.PATIENCE)
    judge(loops, readers, "promotion")
    tap.equal(standby.sql("SELECT count(*) FROM tempo.verify()"), "0", "the promoted standby is intact")
    g = int(standby.sql("SELECT max((attributes->>'g')::int) FROM tempo.spans"))
    for i in range(5): standby.sql("SELECT generation(%d, %d, %d); SELECT tempo.compact()" % (g + 1 + i, SPANS, KEPT))
    standby.sql("VACUUM tempo.spans")
    tap.equal(wrong_counts(standby.sql(COUNTS)), [], "it stores, deletes and merges")

    # the old primary, which has gone another way, follows
    node.stop()
    kept = dict(node.settings)
    # pg_rewind before PostgreSQL 16 learns of the new timeline from a checkpoint
    standby.sql("CHECKPOINT")
    r = node.run(cluster.BIN + "/pg_rewind", "-D", node.data, "--source-server=host=127.0.0.1 port=%d user=postgres dbname=postgres" % standby.port, check=False)
    tap.equal(r.returncode, 0, "pg_rewind") or tap.note(r.stdout[-1000:])
    node.settings = kept
    node.follow(standby)
    node.start()
    standby.sql("SELECT generation(%d, %d, %d)" % (g + 6, SPANS, KEPT))
    node.wait_replayed(standby)
    tap.equal(node.sql(rows), standby.sql(rows), "the old primary follows the new one")
    node.run(cluster.BIN + "/pg_ctl", "-D", node.data, "-w", "promote")
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "and is intact")
    for name, log in (("first", node.log_text()), ("second", standby.log_text())):
        bad = [l for l in log.splitlines() if re.search(r"PANIC:|inconsistent page|invalid page|signal 11|TRAP:|XX001|could not read", l)]
        tap.equal(bad[:5], [], "no panic and no damage in the log of the %s" % name)


tap.main(test)
