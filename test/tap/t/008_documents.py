"""The documents know what the code has: every setting, every SQL object has its description, every link leads somewhere."""
import glob, os, re
import cluster, tap

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))


def test():
    node = cluster.Cluster("documents", **{"tempo_pg.enabled": "off"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    text = open(os.path.join(TOP, "doc", "settings.md")).read()
    settings = node.sql("SELECT name FROM pg_settings WHERE name LIKE 'tempo\\_pg.%' ORDER BY 1").splitlines()
    tap.ok(len(settings) > 5, "there are settings")
    tap.equal([s for s in settings if "`%s`" % s not in text], [], "doc/settings.md has every setting")
    documented = set(re.findall(r"^\| `(tempo_pg\.\w+)`", text, re.M))
    tap.equal(sorted(documented - set(settings)), [], "and no other")
    tap.equal(node.sql("SELECT name FROM pg_settings WHERE name LIKE 'tempo\\_pg.%' AND coalesce(short_desc, '') = ''"), "", "every setting has a description")

    # what a setting takes effect by, and its default in the unit that people would write
    told = {n: (d.strip().strip("`"), t.strip()) for names, d, t in re.findall(r"^\| (`tempo_pg\.[^|]*) \| ([^|]*) \| ([^|]*) \|", text, re.M) for n in re.findall(r"tempo_pg\.\w+", names)}
    takes = {"postmaster": "start", "sighup": "reload", "user": "session", "superuser": "session (superusers)"}
    wrong = []
    for name, default, unit, kind, context in (l.split("|") for l in node.sql("SELECT name, boot_val, coalesce(unit, ''), vartype, context FROM pg_settings WHERE name LIKE 'tempo\\_pg.%'").splitlines()):
        says, takes_effect = told.get(name, ("", ""))
        says = {"empty": ""}.get(says, re.sub(r" \(off\)$", "", says))
        if kind == "integer":    # let the server convert: both in the base unit
            scale = {"": 1, "B": 1, "kB": 1024, "ms": 1, "s": 1000}[unit]
            number, word = re.match(r"(\d+) ?(\w*)$", says).groups() if re.match(r"\d+ ?\w*$", says) else ("-1", "")
            said = int(number) * {"": scale, "B": 1, "kB": 1024, "MB": 1 << 20, "GB": 1 << 30, "ms": 1, "s": 1000, "min": 60000, "h": 3600000}[word]
            same = said == int(default) * scale
        else: same = says == default
        if not same or takes_effect != takes[context]: wrong.append((name, default, unit, context, told.get(name)))
    tap.equal(wrong, [], "doc/settings.md has the defaults, and when changes take effect")

    bare = node.sql("""
        WITH e AS (SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'tempo_pg') AND deptype = 'e')
        SELECT pg_describe_object(classid, objid, 0) FROM e
        WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL AND classid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass, 'pg_am'::regclass, 'pg_cast'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass)
          AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid AND (t.typrelid <> 0 OR t.typelem <> 0)))
          AND NOT (classid = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = objid AND (p.proname ~ '(_in|_out|_recv|_send|_cmp|_hash|_hash_extended|_eq|_ne|_lt|_le|_gt|_ge|handler)$')))
        ORDER BY 1""")
    tap.equal(bare.splitlines(), [], "every SQL object has a comment")
    bare = node.sql("""SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'tempo'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
        AND c.relname NOT IN ('segment_directory', 'segment_deletions') AND col_description(c.oid, a.attnum) IS NULL""")
    tap.equal(bare.splitlines(), [], "and every column that people read")
    tap.equal(node.sql("SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'tempo' AND prosecdef AND proconfig IS NULL"), "0", "no SECURITY DEFINER function without a search_path")

    files = [os.path.join(TOP, f) for f in os.listdir(TOP) if f.endswith(".md")] + glob.glob(TOP + "/doc/*.md") + glob.glob(TOP + "/bench/*.md")
    dead = [(os.path.relpath(f, TOP), l) for f in files for l in re.findall(r"\]\(([^)#]+)", open(f).read()) if "://" not in l and not os.path.exists(os.path.join(os.path.dirname(f), l))]
    tap.equal(dead, [], "every link in the documents leads somewhere")


tap.main(test)
