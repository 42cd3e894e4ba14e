"""Private PostgreSQL clusters for tests: made, started, killed and asked.  Python 3, standard library only.

The server never runs as root: as root everything of it runs as the user postgres.
"""
import atexit, json, os, pwd, random, shutil, signal, struct, subprocess, sys, tempfile, time, urllib.error, urllib.request
from ports import free_ports

LONG = os.environ.get("TEMPO_PG_TEST_LONG", "") != ""     # everything, not what a few minutes allow
PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
BIN = subprocess.run([PG_CONFIG, "--bindir"], check=True, capture_output=True, text=True).stdout.strip()
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
AS_ROOT = os.geteuid() == 0
# Limits are for machines that do nothing for seconds: who waits goes on as soon as he has what he waits for.
PATIENCE = 300
os.environ["PGCTLTIMEOUT"] = str(PATIENCE)


def as_server(command):
    return ["runuser", "-u", "postgres", "--"] + command if AS_ROOT else command


def seed(variable="TEMPO_PG_SEED"):
    """what random tests begin with: always the same, another one each time in long runs, or what the variable says"""
    return int(os.environ.get(variable) or (random.randrange(1 << 30) if LONG else 1))


def poll(what, condition, seconds=PATIENCE):
    """waits until condition() is true and returns what it returns"""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got: return got
        if time.monotonic() > end: raise TimeoutError("waited %d s for: %s" % (seconds, what))
        time.sleep(0.05)


class SqlError(Exception):
    pass


class Cluster:
    def __init__(self, name="node", folder=None, init=True, initdb=(), **settings):
        self.name = name
        self.folder = folder or tempfile.mkdtemp(prefix="tempo_pg-%s." % name)
        os.chmod(self.folder, 0o755)
        self.data = os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "log")
        self.port, self.http_port, self.grpc_port, self.otlp_port = free_ports(4)
        if AS_ROOT: os.chown(self.folder, pwd.getpwnam("postgres").pw_uid, -1)
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": self.port, "max_worker_processes": 32, "max_prepared_transactions": 20, "shared_preload_libraries": "tempo_pg",
                         "log_line_prefix": "%m [%p] %b ", "tempo_pg.http_port": self.http_port, "tempo_pg.otlp_grpc_port": self.grpc_port, "tempo_pg.otlp_http_port": self.otlp_port}
        # a standby that is slow still finds what it has to replay
        if "max_wal_senders" in settings and settings.get("wal_level") == "replica": self.settings["wal_keep_size"] = "1GB"
        self.settings.update(settings)
        self.postmaster = None
        atexit.register(self.cleanup)
        if init: self.init(initdb)

    # ------------------------------------------------------------ life
    def run(self, *command, check=True, **more):
        r = subprocess.run(as_server(list(command)), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        if check and r.returncode: raise RuntimeError("%s failed:\n%s" % (command[0], r.stdout))
        return r

    def init(self, options=()):
        self.run(BIN + "/initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", *options)
        self.configure()

    def configure(self, **settings):
        """writes the settings; takes effect with the next start or reload"""
        self.settings.update(settings)
        text = "".join("%s = '%s'\n" % (k, str(v).replace("'", "''")) for k, v in self.settings.items() if v is not None)
        subprocess.run(as_server(["sh", "-c", 'cat > "$1"', "sh", self.data + "/postgresql.conf"]), input=text, text=True, check=True, cwd="/")

    def start(self, wait=True, check=True):
        r = self.run(BIN + "/pg_ctl", "-D", self.data, "-l", self.log, "-w" if wait else "-W", "start", check=False)
        if r.returncode:
            if check: raise RuntimeError("the server does not start:\n%s\n%s" % (r.stdout, self.log_text()[-3000:]))
            return False
        self.postmaster = int(self.read_pid())
        return True

    def read_pid(self):
        return self.run("head", "-1", self.data + "/postmaster.pid").stdout.strip()

    def stop(self, mode="fast"):
        self.run(BIN + "/pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")
        self.postmaster = None

    def restart(self):
        self.stop()
        self.start()

    def reload(self):
        """until all of them have read the settings, not only those that the postmaster has signalled first"""
        self.run(BIN + "/pg_ctl", "-D", self.data, "reload")
        # who is accepted behind the signal comes when the postmaster has passed it on to everybody
        self.try_sql("SELECT 1")
        end = time.monotonic() + 10
        for pid in self.children():
            # who is busy, or waits amid a request, reads them before the next one
            while not idle(pid) and time.monotonic() < end: time.sleep(0.005)

    def children(self):
        """the server's processes but the postmaster"""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f: ppid = int(f.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError): continue
            if ppid == self.postmaster: found.append(int(pid))
        return found

    def freeze(self):
        """stops the postmaster, so that it starts no process any more -> its children"""
        os.kill(self.postmaster, signal.SIGSTOP)
        poll("the postmaster's stop", lambda: state(self.postmaster) in "TZ")
        return self.children()

    def kill9(self):
        """the power fails: every process of this server is gone at once"""
        pids = self.freeze() + [self.postmaster]
        for pid in reversed(pids):
            try: os.kill(pid, signal.SIGKILL)
            except ProcessLookupError: pass
        # until init has buried them: to PostgreSQL a zombie is a running server
        poll("the killed server's end", lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids))
        self.postmaster = None

    def cleanup(self):
        try:
            if self.postmaster and alive(self.postmaster): self.run(BIN + "/pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
            keep = os.environ.get("TEMPO_PG_TEST_LOGS")
            if getattr(sys.modules.get("tap"), "failed", 0): self.tell()
            if keep and os.path.exists(self.log): shutil.copy(self.log, os.path.join(keep, "%s-%d.server.log" % (self.name, os.getpid())))
            shutil.rmtree(self.folder, ignore_errors=True)
        except Exception as x: print("# cleanup: %s" % x, file=sys.stderr)

    def tell(self):
        """the end of the log, but for statements"""
        lines = [l for l in self.log_text().splitlines() if "STATEMENT:" not in l]
        print("\n".join(["# log of %s:" % self.name] + ["#   %.300s" % l for l in lines[-25:]]), flush=True)

    def log_text(self):
        try:
            with open(self.log, errors="replace") as f: return f.read()
        except OSError: return ""

    # ----------------------------------------------------- replication
    def allow_replication(self):
        """before the start"""
        self.run("sh", "-c", 'printf "local all all trust\\nhost all all 127.0.0.1/32 trust\\nhost replication all 127.0.0.1/32 trust\\n" > "$1"', "sh", self.data + "/pg_hba.conf")

    def backup(self, folder, *options):
        self.run(BIN + "/pg_basebackup", "-D", folder, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-X", "stream", "-c", "fast", *options)

    def standby(self, name="standby", **settings):
        """a started hot standby of this server"""
        other = Cluster(name, init=False)
        self.backup(other.data)
        other.follow(self, **settings)
        other.start()
        return other

    def follow(self, node, **settings):
        """what is in the data directory is to be a standby of node"""
        self.run("touch", self.data + "/standby.signal")
        settings = dict({"hot_standby": "on", "wal_retrieve_retry_interval": "100ms", "primary_conninfo": "host=127.0.0.1 port=%d user=postgres application_name=%s" % (node.port, self.name)}, **settings)
        self.configure(**settings)

    def wait_replayed(self, node, seconds=PATIENCE):
        """until this standby has replayed what node has written"""
        end = node.sql("SELECT pg_current_wal_insert_lsn()")
        poll("replay", lambda: self.try_sql("SELECT pg_last_wal_replay_lsn() >= '%s'" % end) == "t", seconds)

    # ------------------------------------------------------------- SQL
    def psql(self, text, db="postgres", user="postgres", options=()):
        return subprocess.run([BIN + "/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", db, *options, "-f", "-"],
                              input=text, capture_output=True, text=True)

    def sql(self, text, db="postgres", **more):
        r = self.psql(text, db, **more)
        if r.returncode: raise SqlError("%s\n%s" % (text[:300], r.stderr))
        return r.stdout.rstrip("\n")

    def delete(self, text):
        """beside a compaction worker: a merge may come first, which 40001 says"""
        def done():
            r = self.psql(text)
            if r.returncode and "40001" not in r.stderr: raise SqlError("%s\n%s" % (text[:300], r.stderr))
            return r.returncode == 0
        poll("a DELETE that meets no merge", done)

    def try_sql(self, text, db="postgres"):
        """None if it fails (say, while the server starts)"""
        r = self.psql(text, db)
        return None if r.returncode else r.stdout.rstrip("\n")

    # ------------------------------------------------------------ HTTP
    def http(self, method, port, path, body=None, headers=None, timeout=120):
        """-> status, headers (lower-case names), body; status 0 if there is no answer"""
        rq = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), data=body, method=method, headers=headers or {})
        try:
            with OPENER.open(rq, timeout=timeout) as r: return r.status, {k.lower(): v for k, v in r.headers.items()}, r.read()
        except urllib.error.HTTPError as e: return e.code, {k.lower(): v for k, v in e.headers.items()}, e.read()
        except (OSError, urllib.error.URLError, ValueError) as e: return 0, {}, repr(e).encode()
        except Exception as e: return 0, {}, repr(e).encode()

    def get(self, path, tenant=None, **more):
        return self.http("GET", self.http_port, path, headers={"X-Scope-OrgID": tenant} if tenant else {}, **more)

    def export_json(self, request, tenant=None, timeout=120):
        headers = {"Content-Type": "application/json"}
        if tenant: headers["X-Scope-OrgID"] = tenant
        return self.http("POST", self.otlp_port, "/v1/traces", json.dumps(request).encode(), headers, timeout)

    def export_protobuf(self, body, timeout=120):
        return self.http("POST", self.otlp_port, "/v1/traces", body, {"Content-Type": "application/x-protobuf"}, timeout)

    def export_grpc(self, body, timeout=120):
        """-> grpc-status (None if there is no answer), headers and trailers"""
        r = subprocess.run(["curl", "-s", "--noproxy", "*", "-m", str(timeout), "--http2-prior-knowledge", "-o", "/dev/null", "-D", "-", "--data-binary", "@-", "-H", "Content-Type: application/grpc", "-H", "TE: trailers",
                            "http://127.0.0.1:%d/opentelemetry.proto.collector.trace.v1.TraceService/Export" % self.grpc_port], input=struct.pack(">BI", 0, len(body)) + body, capture_output=True)
        fields = {}
        for line in r.stdout.decode("latin1").splitlines():
            k, colon, v = line.partition(":")
            if colon: fields[k.strip().lower()] = v.strip()
        return (int(fields["grpc-status"]) if "grpc-status" in fields else None), fields

    def create_extension(self):
        self.sql("CREATE EXTENSION IF NOT EXISTS tempo_pg")
        self.wait_ready()

    def wait_ready(self):
        # of every receiver: which of them gets a connection is the kernel's choice
        for n in range(20): poll("an OTLP answer", lambda: self.export_protobuf(b"")[0] == 200)
        poll("an API answer", lambda: self.get("/ready")[0] == 200)


class Session:
    """a psql that stays: transactions over several statements"""

    def __init__(self, node, db="postgres", user="postgres"):
        self.process = subprocess.Popen([BIN + "/psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(node.port), "-U", user, "-d", db],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)

    def sql(self, text):
        """what the statements print, errors too"""
        self.process.stdin.write(text + ";\n\\echo =END=\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == "=END=": return "\n".join(lines)
            lines.append(line.rstrip("\n"))
        raise SqlError("the session has ended: " + "\n".join(lines))

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)


class SmallDisk:
    """a file system of a few megabytes; .room is False where this user may not mount one"""

    def __init__(self, megabytes):
        self.folder = tempfile.mkdtemp(prefix="tempo_pg-disk.")
        self.room = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=777" % megabytes, "tmpfs", self.folder], capture_output=True).returncode == 0
        atexit.register(self.cleanup)

    def fill(self, megabytes):
        """takes space away, until empty()"""
        with open(self.folder + "/filler", "wb") as f: f.write(bytes(megabytes << 20))

    def empty(self):
        os.unlink(self.folder + "/filler")

    def cleanup(self):
        if self.room: subprocess.run(["umount", "-l", self.folder], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def state(pid):
    """the letter for what a process does; Z if it is gone"""
    try:
        with open("/proc/%d/stat" % pid) as f: return f.read().rpartition(")")[2].split()[0]
    except OSError: return "Z"


def alive(pid): return state(pid) != "Z"


def idle(pid):
    """does a process of tempo_pg sleep, without a SIGHUP that it has still to notice?  True for others, and for the compaction worker, which may be busy for long"""
    try:
        with open("/proc/%d/cmdline" % pid) as f: name = f.read()
        if "tempo_pg" not in name or "tempo_pg compaction" in name: return True
        with open("/proc/%d/status" % pid) as f: fields = dict(line.split(":", 1) for line in f if ":" in line)
        return not (int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) & 1 and fields["State"].split()[0] not in "RD"
    except (OSError, KeyError, IndexError): return True
