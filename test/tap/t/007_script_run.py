"""script/run: what a newcomer types.  Two instances side by side, settings, running again, stopping."""
import json, os, re, shutil, signal, subprocess, tempfile, urllib.error, urllib.request
import cluster, otlp, tap

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
RUN = os.path.join(TOP, "script", "run")
ENV = dict(os.environ, TEMPO_PG_SKIP_PACKAGES="1")


class Instance:
    def __init__(self, folder):
        self.folder = folder
        self.port, self.http, self.grpc, self.otlp = cluster.free_ports(4)

    def run(self, *more):
        r = subprocess.run([RUN, "--data", self.folder, "--port", str(self.port), "--http-port", str(self.http), "--otlp-grpc-port=%d" % self.grpc, "--otlp-http-port", str(self.otlp), *more],
                           env=ENV, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        return r.returncode, r.stdout

    def stop(self):
        r = subprocess.run([RUN, "stop", "--data", self.folder], env=ENV, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        return r.returncode, r.stdout

    def sql(self, text):
        r = subprocess.run([cluster.BIN + "/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "postgres", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return r.stdout.strip() if r.returncode == 0 else None

    def get(self, path, headers={}):
        try:
            with cluster.OPENER.open(urllib.request.Request("http://127.0.0.1:%d%s" % (self.http, path), headers=headers), timeout=120) as r: return r.status, r.read()
        except urllib.error.HTTPError as e: return e.code, e.read()
        except OSError: return 0, b""


def test():
    base = tempfile.mkdtemp(prefix="tempo_pg-run-test.")
    os.chmod(base, 0o755)
    one, two = Instance(base + "/one"), Instance(base + "/two")
    try: scenes(base, one, two)
    finally:
        for i in (one, two): i.stop()
        shutil.rmtree(base, ignore_errors=True)


def readme(one):
    """the statements and commands that README shows"""
    text = open(os.path.join(TOP, "README.md")).read()
    section = text[text.index("## A quick look"):text.index("## What works")]
    code = "\n".join(l.strip() for l in section.splitlines() if l.startswith("    "))
    statements = [s.strip() for s in re.sub(r"^(psql|curl|cp|mkdir) .*$|^--.*$", "", code, flags=re.M).split(";") if s.strip()]
    tap.ok(len(statements) >= 3, "README has statements to try")
    for s in statements: tap.ok(one.sql(s), "README: %s" % s.split("\n")[0], s)
    trace = one.sql("SELECT trace_id FROM tempo.spans LIMIT 1")
    for c in re.findall(r"^curl .*$", code, re.M):
        r = subprocess.run(["bash", "-c", c.replace(":3200", ":%d" % one.http).replace("TRACE_ID", trace) + " -f --noproxy '*'"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        tap.ok(r.returncode == 0 and r.stdout.startswith("{"), "README: %s" % c, r.stdout[:300], r.stderr)


def grafana(base):
    """the commands with which README puts our files into Grafana's folder: twice, since people do"""
    etc = base + "/grafana"
    os.makedirs(etc + "/provisioning/dashboards")
    os.makedirs(etc + "/provisioning/datasources")
    commands = re.findall(r"^    ((?:cp|mkdir) .*/etc/grafana.*)$", open(os.path.join(TOP, "README.md")).read(), re.M)
    tap.ok(commands, "README has commands for Grafana")
    for c in commands * 2:
        r = subprocess.run(["bash", "-c", c.replace("/etc/grafana", etc)], cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        tap.equal((r.returncode, r.stderr), (0, ""), "README: %s" % c)
    found = sorted(os.path.relpath(os.path.join(d, f), etc) for d, _, files in os.walk(etc) for f in files)
    with open(etc + "/provisioning/dashboards/tempo_pg.yaml") as f: path = re.search(r"path: (.*)", f.read())[1].replace("/etc/grafana/", "")
    tap.equal(found, [path + "/services.json", path + "/traces.json", "provisioning/dashboards/tempo_pg.yaml", "provisioning/datasources/tempo_pg.yaml"], "which put them where the provisioning looks")


def scenes(base, one, two):
    status, output = one.run()
    if not tap.equal(status, 0, "script/run succeeds"): return tap.note(output)
    for word in ("psql", "curl", "Grafana", str(one.port), "http://localhost:%d" % one.http): tap.ok(word in output, "its output has \"%s\"" % word, output)
    spans = one.sql("SELECT count(*) FROM tempo.spans")
    tap.ok(spans and int(spans) > 500, "the sample is there: %s spans" % spans)
    tap.ok(int(one.sql("SELECT count(DISTINCT service_name) FROM tempo.spans")) >= 5, "of several services")
    tap.equal(one.sql("SELECT count(*) > 0 FROM traceql('{ status = error }')"), "t", "traceql() finds failed traces in it")
    tap.ok(json.loads(one.get("/api/search?q=%7B%20status%20%3D%20error%20%7D")[1])["traces"], "the API too")
    tap.equal(one.sql("SELECT bool_and(start_time > now() - interval '1 hour' AND end_time <= now() + interval '1 minute') FROM tempo.spans"), "t", "its times are fresh")
    pid = one.sql("SELECT pg_postmaster_start_time()")

    # what it prints to try works as it stands
    for line in output.splitlines():
        tool, space, command = line.strip().partition(" ")
        if tool not in ("psql", "curl"): continue
        r = subprocess.run(["bash", "-c", command.strip()], env=dict(os.environ, PATH=cluster.BIN + ":" + os.environ["PATH"], no_proxy="*", PAGER="cat"), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        tap.ok(r.returncode == 0 and ("rows)" in r.stdout or '"traces":[{' in r.stdout), "its %s line works" % tool, command, r.stdout[:500], r.stderr[:500])
    readme(one)
    grafana(base)

    status, output = one.run()
    tap.equal(status, 0, "running it again succeeds")
    tap.equal(one.sql("SELECT count(*) FROM tempo.spans"), spans, "and does not pile up samples")
    tap.equal(one.sql("SELECT pg_postmaster_start_time()"), pid, "and does not restart")

    with open(one.folder + "/postmaster.pid") as f: os.kill(int(f.readline()), signal.SIGKILL)
    status, output = one.run("--no-demo")
    tap.equal(status, 0, "it starts again after its server was killed") or tap.note(output)
    tap.equal(one.sql("SELECT count(*) FROM tempo.spans"), spans, "with what was there")

    status, output = two.run("--no-demo", "--set", "tempo_pg.multitenancy=on", "--set", "work_mem=7MB", "--set", "application_name=it's")
    if not tap.equal(status, 0, "a second instance starts beside the first"): tap.note(output)
    tap.equal(two.sql("SHOW work_mem"), "7MB", "--set passes a setting")
    tap.equal(two.sql("SELECT count(*) FROM tempo.spans"), "0", "--no-demo sends nothing")
    tap.equal(two.get("/api/search?q=%7B%7D")[0], 401, "with multitenancy a query needs a tenant")
    tap.equal(two.get("/api/search?q=%7B%7D", {"X-Scope-OrgID": "demo"})[0], 200, "and works with one")
    tap.equal(one.get("/ready")[0], 200, "the first still answers")

    status, output = two.run("--set", "tempo_pg.multitenancy=on")
    tap.equal(status, 0, "the sample goes to a server with tenants")
    tap.equal(two.sql("SELECT count(DISTINCT tenant) || ' ' || min(tenant) FROM tempo.spans"), "1 demo", "as tenant demo")
    tap.equal(two.sql("SHOW work_mem"), "4MB", "a setting that is not given again is gone")

    clash = Instance(base + "/three")
    clash.http = one.http
    status, output = clash.run("--no-demo")
    tap.ok(status != 0 and "--http-port" in output, "a taken port is an error that names the option", status, output)
    clash.http = clash.otlp
    status, output = clash.run("--no-demo")
    tap.ok(status == 2 and str(clash.otlp) in output, "the same port twice is an error", status, output)
    status, output = two.run("--no-demo", "--set", "no_such_setting=1")
    tap.ok(status != 0 and "no_such_setting" in output, "a wrong setting is an error that names it", status, output)
    status, output = two.run("--no-demo", "--bogus")
    tap.ok(status == 2 and "--bogus" in output, "a wrong option is an error that names it", status, output)

    status, output = one.stop()
    tap.equal(status, 0, "script/run stop succeeds")
    tap.equal(one.get("/ready")[0], 0, "nothing answers any more")
    tap.equal(one.stop()[0], 0, "stopping again succeeds")
    status, output = one.run("--no-demo")
    tap.equal(status, 0, "it starts again")
    tap.equal(one.sql("SELECT count(*) FROM tempo.spans"), spans, "with its data")


tap.main(test)
