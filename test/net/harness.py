"""Finds the tests of this folder, runs them against an echo server, counts."""
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/lib")
import ports

HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE = 120


class Skip(Exception):
    pass


def wait_for(condition, what, deadline=DEADLINE):
    until = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise TimeoutError("never came true: " + what)
        time.sleep(0.01)


def free_port():
    return ports.free_ports(1)[0]


class Server:
    """An echo server of its own, for a test that wants other limits or its end."""

    def __init__(self, **options):
        self.port = free_port()
        command = os.environ.get("ECHO_SERVER", HERE + "/build/echo_server").split()
        self.process = subprocess.Popen(command + [str(self.port)] + ["%s=%s" % o for o in options.items()],
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def url(self, path):
        return "http://localhost:%d%s" % (self.port, path)

    def stats(self):
        with urllib.request.urlopen(self.url("/stats"), timeout=DEADLINE) as answer:
            return json.load(answer)

    def stop(self, how=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(DEADLINE)
        self.process.stdout.close()
        assert code == 0, "the server ended with %s" % code

    def release(self):
        """what is held is answered"""
        self.process.send_signal(signal.SIGUSR1)

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def settled(self):
        """connections that earlier tests have closed are gone"""
        wait_for(lambda: self.stats()["connections"] == 1, "all connections gone")
        return self

    def resident(self):
        if "ECHO_SERVER" in os.environ:
            return 0      # checking tools hold on to freed memory
        with open("/proc/%d/statm" % self.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(modules, only):
    passed = failed = 0
    server = Server()
    for module in modules:
        for name, test in sorted(vars(module).items()):
            if not name.startswith("test_") or not any(word in module.__name__ + "." + name for word in only or [""]):
                continue
            try:
                test(server)
                passed += 1
                print("ok      %s.%s" % (module.__name__, name), flush=True)
            except Skip as reason:
                print("skipped %s.%s: %s" % (module.__name__, name, reason))
            except Exception:
                failed += 1
                print("FAILED  %s.%s\n%s" % (module.__name__, name, traceback.format_exc()[:4000]), flush=True)
                if server.process.poll() is not None:
                    print("the server is gone, a new one is started")
                    server = Server()
    try:
        stats = server.stats()
        assert stats["buffered"] == 0 and stats["held"] == 0, stats
        server.stop()
        passed += 1
    except Exception:
        failed += 1
        print("FAILED  the shared server at its end\n" + traceback.format_exc())
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(failed != 0)
