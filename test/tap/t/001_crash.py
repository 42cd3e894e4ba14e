"""Crashes under load, of the whole server, of its postmaster, of a receiver, a writer and the compaction worker, and immediate restarts:
what was acknowledged is there exactly once, also when clients repeat requests whose answer they did not get."""
import os, signal, threading, time
import cluster, otlp, tap

CLIENTS = 6
SPANS = 7


class Client(threading.Thread):
    """sends new requests, one after another, each until it is acknowledged; the first client over gRPC, the others over HTTP"""

    def __init__(self, node, number, stop):
        super().__init__(daemon=True)
        self.node, self.number, self.stop = node, number, stop
        self.acknowledged = {}      # trace id -> number of spans
        self.repeated = 0
        self.unexpected = []

    def run(self):
        n = 0
        while not self.stop.is_set():
            n += 1
            trace = "%08x%024x" % (self.number, n)
            spans = 1 + n % SPANS
            request = otlp.request([otlp.span(trace, "%016x" % (i + 1), "op %d" % i, attributes=[otlp.attribute("client", self.number), otlp.attribute("n", n)]) for i in range(spans)], "load-%d" % self.number)
            body = otlp.request_bytes(request)
            tries = 0
            while True:
                if self.number == 1:
                    status, answer = self.node.export_grpc(body, timeout=60)
                    good, later = 0, (None, 1, 8, 14)
                else:
                    status, headers, answer = self.node.export_protobuf(body, timeout=60)
                    good, later = 200, (0, 503, 429)
                if status == good: break
                # no answer, or "not now": the client repeats
                if status not in later: self.unexpected.append((status, answer))
                tries += 1
                if tries > 3000: return
                time.sleep(0.05)
            self.repeated += tries > 0
            self.acknowledged[trace] = spans


def check(node, want, when):
    got = dict(line.split("|") for line in node.sql("SELECT trace_id, count(*) || ' ' || count(DISTINCT span_id) FROM tempo.spans GROUP BY 1").splitlines())
    lost = [t for t in want if t not in got]
    wrong = [(t, got[t], want[t]) for t in want if t in got and got[t] != "%d %d" % (want[t], want[t])]
    tap.equal(len(lost), 0, "%s: no acknowledged request is lost" % when)
    tap.equal(wrong[:5], [], "%s: its spans are there exactly once" % when)
    tap.equal(len(set(got) - set(want)), 0, "%s: nothing else is there" % when)


def kill_one(node, what):
    """postgres ends all the others, and begins anew"""
    def kill():
        pid = node.try_sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%s' ORDER BY random() LIMIT 1" % what)
        try:
            if pid: os.kill(int(pid), signal.SIGKILL)
            return int(pid or 0)
        except ProcessLookupError: return 0
    pid = cluster.poll("a process to kill: " + what, kill)
    cluster.poll("the end of %s" % what, lambda: not os.path.exists("/proc/%d" % pid))
    cluster.poll("the server's recovery", lambda: node.try_sql("SELECT 1") == "1")


def kill_postmaster(node):
    """the others see that it has gone, and end by themselves"""
    children = node.freeze()
    os.kill(node.postmaster, signal.SIGKILL)
    cluster.poll("the end of all processes", lambda: not any(os.path.exists("/proc/%d" % pid) for pid in children + [node.postmaster]))
    node.postmaster = None
    node.start()


def kill_all(node):
    node.kill9()
    node.start()


def restart_at_once(node):
    node.stop("immediate")
    node.start()


CRASHES = {
    "the whole server": kill_all,
    "a receiver": lambda node: kill_one(node, "tempo_pg receiver%"),
    "a writer": lambda node: kill_one(node, "tempo_pg writer%"),
    "the compaction worker": lambda node: kill_one(node, "tempo_pg compaction%"),
    "the postmaster": kill_postmaster,
    "an immediate restart": restart_at_once,
}


def test():
    node = cluster.Cluster("crash", **{"wal_level": "replica", "max_wal_size": "64MB", "checkpoint_timeout": "30s"})
    node.start()
    node.create_extension()
    stop = threading.Event()
    clients = [Client(node, i + 1, stop) for i in range(CLIENTS)]
    for c in clients: c.start()
    done = lambda: sum(len(c.acknowledged) for c in clients)
    for what, crash in list(CRASHES.items()) * (8 if cluster.LONG else 1):
        before = done()
        cluster.poll("load before the end of %s" % what, lambda: done() >= before + 100)
        crash(node)
        tap.ok(True, "%s: the server starts again" % what)
    before = done()
    cluster.poll("load after the last crash", lambda: done() >= before + 150)
    stop.set()
    for c in clients: c.join(cluster.PATIENCE)
    tap.ok(not any(c.is_alive() for c in clients), "every client got its last answer")
    tap.equal([c.unexpected for c in clients if c.unexpected], [], "clients saw success, 503 or no answer, nothing else")
    want = {}
    for c in clients: want.update(c.acknowledged)
    tap.note("%d requests acknowledged, %d of them repeated" % (len(want), sum(c.repeated for c in clients)))
    tap.ok(sum(c.repeated for c in clients) > 0, "some requests were repeated")
    tap.ok(len(clients[0].acknowledged) > 0, "some came over gRPC")
    check(node, want, "after the crashes")

    # an acknowledged request repeated later, by another connection, is no second copy
    n = next(iter(clients[0].acknowledged))
    node.sql("SELECT tempo.compact()")
    check(node, want, "after compaction")
    node.kill9()
    node.start()
    node.wait_ready()
    check(node, want, "after a crash behind compaction")
    status, headers, body = node.get("/api/traces/" + n)
    tap.equal(status, 200, "the API serves a trace of before the crashes")
    log = node.log_text()
    tap.equal(node.sql("SELECT count(*) FROM tempo.verify()"), "0", "nothing is damaged")
    bad = [l for l in log.splitlines() if " PANIC: " in l or "invalid page" in l or "corrupt" in l or "segmentation" in l.lower() or "signal 11" in l or "TRAP:" in l]
    tap.equal(bad[:5], [], "no panic and no corruption in the log")


tap.main(test)
