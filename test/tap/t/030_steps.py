"""SIGKILL, and cancellation, at every step of storing, merging, retention, DELETE, VACUUM, VACUUM FULL, TRUNCATE and SET TABLESPACE:
what was committed is there, nothing is damaged, the same works the next time, and no block is lost.  A standby follows, with wal_consistency_checking."""
import os, re, subprocess, time
import cluster, tap

SETUP = """
CREATE TABLE other (LIKE tempo.spans INCLUDING DEFAULTS) USING tempo;
CREATE TABLE marks (n int);
CREATE FUNCTION add(relation text, spans int, age interval DEFAULT '1 minute', tenant text DEFAULT 'a') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$
        INSERT INTO %s (tenant, trace_id, span_id, name, start_time_unix_nano, duration_nano, attributes)
        SELECT $3, md5(random()::text)::tempo.trace_id, lpad(to_hex(i), 16, '0')::tempo.span_id, 'op ' || i %% 10, (extract(epoch FROM now() - $2) * 1e9)::bigint + i, 1000,
               jsonb_build_object('noise', (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 16) j), 'i', i)
        FROM generate_series(1, $1) i $q$, relation) USING spans, age, tenant;
END $$;
CREATE FUNCTION prepare() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add('tempo.spans', 900), add('tempo.spans', 20);
    PERFORM tempo.compact();
    PERFORM add('tempo.spans', 30, '3 hours', 'old'), add('tempo.spans', 30, '2 hours', 'old');
    FOR n IN 1..3 LOOP PERFORM add('tempo.spans', 100); END LOOP;
    PERFORM add('other', 100);
    PERFORM tempo.compact('other');
    PERFORM add('other', 20);
END $$;
"""
ROWS = "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(r, 0)), 0) FROM (SELECT to_jsonb(s)::text || 'spans' AS r FROM tempo.spans s UNION ALL SELECT to_jsonb(s)::text FROM other s) x"
DAMAGE = "SELECT (SELECT count(*) FROM tempo.verify()) + (SELECT count(*) FROM tempo.verify('other'))"
LOST = """SELECT string_agg(file_bytes / 8192 - 1 - free_bytes / 8192 - blocks || ' of ' || relation, ', ')
          FROM tempo.stat_tables t JOIN (SELECT relation, sum(blocks) AS blocks FROM tempo.segments GROUP BY 1) b USING (relation) WHERE file_bytes / 8192 - 1 - free_bytes / 8192 <> blocks"""
# by the first word of a step: what makes it happen, after what
ACTIONS = {
    "store": ("", "SELECT add('tempo.spans', 1500)"),
    "merge": ("DELETE FROM tempo.spans WHERE name = 'op 5'", "SELECT tempo.compact()"),
    "retention": ("SELECT tempo.set_retention('old', '1 hour'); DELETE FROM tempo.spans WHERE tenant = 'old' AND name = 'op 5'", "SELECT tempo.apply_retention()"),
    "delete": ("", "DELETE FROM tempo.spans WHERE name = 'op 3'"),
    "vacuum": ("BEGIN; SELECT add('tempo.spans', 700); ROLLBACK", "VACUUM tempo.spans"),
    "rewrite": ("DELETE FROM tempo.spans WHERE name = 'op 7' AND tenant = 'old'", "VACUUM FULL tempo.spans"),
    "truncate": ("", "TRUNCATE other"),
    "tablespace": ("", "ALTER TABLE other SET TABLESPACE aside"),
}
HARMLESS = ("vacuum", "rewrite", "tablespace", "merge")     # the rows are the same before and after
RESTORED = ("store_half", "merge_written", "merge_deleted")


class Stopped:
    """a session that does what makes a step happen, and has stopped at it"""

    def __init__(self, node, step):
        before, action = ACTIONS[step.split("_")[0]]
        with open(node.log, errors="replace") as f: start = f.seek(0, os.SEEK_END)
        self.process = subprocess.Popen([cluster.BIN + "/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.process.stdin.write("SET tempo_pg.debug_stop_at = '%s';\n%s;\n" % (step, action))
        self.process.stdin.close()
        self.pid = None

        def stopped():
            if self.process.poll() is not None: raise AssertionError("%s was not reached: %s" % (step, self.process.stdout.read()))
            with open(node.log, errors="replace") as f:
                f.seek(start)
                found = re.search(r'\[(\d+)\].*stopped at "%s"' % step, f.read())
            return found and int(found.group(1))
        self.pid = cluster.poll("the stop at " + step, stopped)

    def end(self):
        status = self.process.wait(cluster.PATIENCE)
        self.process.stdout.close()
        return status


def steps(node):
    """all their names, from the server"""
    r = node.psql("SET tempo_pg.debug_stop_at = '?'")
    return [name for name in re.search(r"Available values: (.*)\.", r.stderr).group(1).split(", ") if name != "nowhere"]


def prepare(node, step):
    node.sql("SELECT tempo.set_retention('old', '0'); TRUNCATE tempo.spans, other; ALTER TABLE other SET TABLESPACE pg_default; SELECT prepare()")
    node.sql(ACTIONS[step.split("_")[0]][0])
    return node.sql(ROWS)


def check(node, step, how, rows):
    tap.equal(node.sql("%s; %s" % (ROWS, DAMAGE)).split("\n"), [rows, "0"], "%s, %s: the rows are those that were committed, nothing is damaged" % (step, how))


def cancelled(node, step):
    rows = prepare(node, step)
    stop = Stopped(node, step)
    node.sql("SELECT pg_cancel_backend(%d)" % stop.pid)
    tap.ok(stop.end() != 0, "%s: cancelled" % step)
    check(node, step, "cancelled", rows)


def killed(node, step, flushed):
    rows = prepare(node, step)
    stop = Stopped(node, step)
    # so that what the step has done is on disk: in the WAL, or in the files, too
    node.sql("CHECKPOINT" if flushed == "checkpoint" else "INSERT INTO marks VALUES (1)")
    node.kill9()
    stop.end()
    node.start()
    check(node, step, "killed behind " + ("a checkpoint" if flushed == "checkpoint" else "a commit"), rows)


def again(node, step):
    """it works now, and what is not used is free"""
    before, action = ACTIONS[step.split("_")[0]]
    rows = node.sql(ROWS)
    node.sql(action)
    if step.split("_")[0] in HARMLESS: tap.equal(node.sql(ROWS), rows, "%s: the same again keeps the rows" % step)
    node.sql("SELECT tempo.compact(); SELECT tempo.compact('other')")
    node.sql("VACUUM tempo.spans; VACUUM other")
    tap.equal(node.sql("%s; %s" % (DAMAGE, LOST)), "0", "%s: the same again works, and no block is lost" % step)


def restore(base, archive, point, rows):
    """recovery ends between the records of one transaction"""
    node = cluster.Cluster("restored", init=False)
    node.run("cp", "-a", base, node.data)
    node.run("touch", node.data + "/recovery.signal")
    node.configure(restore_command="cp %s/%%f %%p" % archive, recovery_target_name=point, recovery_target_action="promote", **{"tempo_pg.enabled": "off", "wal_level": "replica", "max_wal_senders": 4})
    node.start()
    cluster.poll("promotion", lambda: node.sql("SELECT pg_is_in_recovery()") == "f")
    check(node, point, "restored to it", rows)
    node.sql("SELECT add('tempo.spans', 50); SELECT tempo.compact()")
    node.sql("VACUUM tempo.spans; VACUUM other")
    tap.equal(node.sql("%s; %s" % (DAMAGE, LOST)), "0", "%s, restored to it: merging works, and no block is lost" % point)
    node.stop()


def test():
    node = cluster.Cluster("steps", **{"wal_level": "replica", "max_wal_senders": 4, "wal_consistency_checking": "all", "tempo_pg.enabled": "off", "autovacuum": "off", "archive_mode": "on", "max_wal_size": "2GB", "fsync": "off", "shared_buffers": "16MB"})
    archive = node.folder + "/archive"
    for folder in (archive, node.folder + "/aside"): node.run("mkdir", folder)
    node.configure(archive_command="cp %%p %s/%%f" % archive)
    node.allow_replication()
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(SETUP)
    names = steps(node)
    tap.ok(len(names) > 20, "the server tells its steps", names)
    base = node.folder + "/base"
    node.backup(base)
    standby = node.standby(**{"tempo_pg.enabled": "off"})
    node.sql("SET allow_in_place_tablespaces = on; CREATE TABLESPACE aside LOCATION ''")

    wanted = {}
    for step in names if cluster.LONG else RESTORED:
        wanted[step] = prepare(node, step)
        stop = Stopped(node, step)
        node.sql("SELECT pg_create_restore_point('%s')" % step)
        node.reload()
        tap.equal(stop.end(), 0, "%s: goes on, and is done" % step)
    node.sql("SELECT pg_switch_wal()")
    cluster.poll("the archive", lambda: node.sql("SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver") == "t")
    for step, rows in wanted.items(): restore(base, archive, step, rows)
    node.configure(archive_command="true")
    node.reload()

    for n, step in enumerate(names):
        if cluster.LONG or n % 3 == 0: cancelled(node, step)
        for flushed in ("commit", "checkpoint") if cluster.LONG else (("commit", "checkpoint")[n % 2],): killed(node, step, flushed)
        again(node, step)

    standby.wait_replayed(node)
    tap.equal(standby.sql(ROWS), node.sql(ROWS), "the standby has the same rows")
    standby.run(cluster.BIN + "/pg_ctl", "-D", standby.data, "-w", "promote")
    tap.equal(standby.sql(DAMAGE), "0", "and is intact when it is promoted")
    for name, log in (("server", node.log_text()), ("standby", standby.log_text())):
        bad = [l for l in log.splitlines() if re.search(r"PANIC:|inconsistent page|invalid page|signal 11|TRAP:|could not (map|open|read)", l)]
        tap.equal(bad[:5], [], "no panic, no damage and no difference in the log of the %s" % name)


tap.main(test)
