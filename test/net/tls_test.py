"""TLS: what ALPN chooses, certificates of both sides, reloading, peers that stop or speak something else."""
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/lib")
import tls
from harness import Server, Skip, wait_for
from http1_test import Peer, request
from wire import WINDOW, Connection, frame, message

DEADLINE = 120


_files = []


def files():
    if shutil.which("openssl") is None:
        raise Skip("openssl is not installed")
    if not _files:
        _files.append(tls.Files())
    return _files[0]


class TlsServer(Server):
    def __init__(self, **options):
        f = files()
        super().__init__(**{"cert": f.path("server.crt"), "key": f.path("server.key"), **options})

    def url(self, path):
        return "https://localhost:%d%s" % (self.port, path)

    def stats(self):
        with peer(self) as p:
            return json.loads(p.send(request("/stats", method="GET", headers=["Connection: close"])).answer()[2])


def context(*protocols, ca="ca.crt", client=None, maximum=None):
    c = ssl.create_default_context(cafile=files().path(ca))
    if protocols:
        c.set_alpn_protocols(list(protocols))
    if client:
        c.load_cert_chain(files().path(client + ".crt"), files().path(client + ".key"))
    if maximum:
        c.maximum_version = maximum
    return c


def dial(server, *protocols, **more):
    raw = socket.create_connection(("localhost", server.port), timeout=DEADLINE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return context(*protocols, **more).wrap_socket(raw, server_hostname="localhost")
    except Exception:
        raw.close()
        raise


def peer(server, *protocols, **more):
    return Peer(server, sock=dial(server, *protocols, **more))


def h2(server, *protocols, settings=(), **more):
    return Connection(server.port, settings, sock=dial(server, *(protocols or ("h2",)), **more))


def refused(function):
    """the handshake fails, or in TLS 1.3 the first read"""
    try:
        function()
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def curl(server, *options, data=None):
    done = subprocess.run(("curl", "-sS", "--cacert", files().path("ca.crt")) + options, input=data, capture_output=True, timeout=300)
    assert done.returncode == 0, done
    return done.stdout


def test_curl(_):
    data = os.urandom(3000000)
    with TlsServer() as own:
        for option in ("--http1.1", "--http2", "--no-alpn"):
            got = curl(own, option, "-H", "Expect: 100-continue", "--data-binary", "@-", own.url("/echo"), data=data)
            assert got == data, option
            assert curl(own, option, "--compressed", own.url("/big/2000000")) == b"x" * 2000000
            version = curl(own, option, "-o", "/dev/null", "-w", "%{http_version}", own.url("/describe"))
            assert version == (b"2" if option == "--http2" else b"1.1"), (option, version)
        assert curl(own, "--http1.1", *[own.url("/describe")] * 20).count(b"GET /describe") == 20


def test_h2load(_):
    with TlsServer() as own:
        for extra in ([], ["--npn-list=http/1.1"]):
            if shutil.which("h2load") is None:
                raise Skip("h2load is not installed")
            out = subprocess.run(["h2load", *extra, "-n", "1000", "-c", "10", "-m", "1" if extra else "10", own.url("/big/100000")],
                                 capture_output=True, timeout=300).stdout
            assert b"1000 succeeded, 0 failed" in out, out


def test_protocols(_):
    with TlsServer() as own:
        with dial(own, "http/1.1", "h2") as s:
            assert s.selected_alpn_protocol() == "h2"
        with dial(own, "x", "http/1.1") as s:
            assert s.selected_alpn_protocol() == "http/1.1"
        assert refused(lambda: dial(own, "spdy/3").recv(1))
        # HTTP/2 without ALPN, as the first bytes tell
        raw = socket.create_connection(("localhost", own.port), timeout=DEADLINE)
        with Connection(own.port, sock=context().wrap_socket(raw, server_hostname="localhost")) as c:
            assert bytes(c.call(message(b"hello")).data) == message(b"hello")
        with peer(own) as p:
            assert p.send(request(body=b"x")).answer()[2] == b"x"
        # chosen is chosen
        with h2(own, "http/1.1") as c:
            assert c.pump(lambda: False).closed
    with TlsServer(http2=0) as own, dial(own, "h2", "http/1.1") as s:
        assert s.selected_alpn_protocol() == "http/1.1"
    with TlsServer(http1=0) as own:
        assert refused(lambda: dial(own, "http/1.1").recv(1))


def test_versions(_):
    with TlsServer() as own:
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            with peer(own, maximum=version) as p:
                assert p.sock.version() == name and p.send(request(body=b"x" * 100000)).answer()[2] == b"x" * 100000
            with h2(own, maximum=version) as c:
                assert len(c.call(message(b"x" * 300000)).data) == 300005
    with TlsServer(tls13=1) as own:
        assert refused(lambda: dial(own, maximum=ssl.TLSVersion.TLSv1_2))
        with peer(own) as p:
            assert p.sock.version() == "TLSv1.3"


def test_grpc_stream(_):
    with TlsServer() as own, h2(own) as c:
        number = c.open([(":method", "POST"), (":scheme", "https"), (":path", "/test.Echo/Stream"), (":authority", "t"),
                         ("te", "trailers"), ("content-type", "application/grpc")])
        c.data(number, message(b"50 100000"), end=True)
        stream = c.wait(number)
        assert stream.status == 0 and len(stream.data) == 50 * 100005


def test_client_certificates(_):
    with TlsServer(ca=files().path("ca.crt")) as own:
        with peer(own, client="client") as p:
            assert p.send(request(body=b"x")).answer()[2] == b"x"
        with h2(own, client="client") as c:
            assert c.call(message(b"x")).status == 0
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert refused(lambda: dial(own, maximum=version).recv(1)), "no certificate"
            assert refused(lambda: dial(own, maximum=version, client="stranger").recv(1)), "another authority's"
        # a client's certificate is no server's business where none is asked for
    with TlsServer() as own, peer(own, client="stranger") as p:
        assert p.send(request(body=b"x")).answer()[2] == b"x"


def test_reload(_):
    f = files()
    live = {k: f.path("live." + k) for k in ("crt", "key")}

    def use(name):
        for k, path in live.items():
            shutil.copy(f.path(name + "." + k), path)
            os.chmod(path, 0o600)

    def reload(own):
        own.process.send_signal(signal.SIGHUP)
        return own.process.stdout.readline().decode().strip()

    use("server")
    with TlsServer(cert=live["crt"], key=live["key"]) as own:
        with peer(own) as old:
            assert old.send(request(body=b"x")).answer()[2] == b"x"
            use("second")
            assert reload(own) == "reloaded"
            # connections go on with the certificate they have
            assert old.send(request(body=b"y")).answer()[2] == b"y"
            assert refused(lambda: dial(own))
            with peer(own, ca="other.crt") as new:
                assert new.send(request(body=b"z")).answer()[2] == b"z"
        for spoil, words in ((lambda: os.chmod(live["key"], 0o644), "has group or world access"),
                             (lambda: shutil.copy(f.path("server.key"), live["key"]), "key values mismatch"),
                             (lambda: open(live["key"], "w").close(), "could not load private key file"),
                             (lambda: os.remove(live["key"]), "could not access private key file"),
                             (lambda: open(live["crt"], "w").write("x"), "could not load certificate file"),
                             (lambda: os.remove(live["crt"]), "No such file or directory")):
            use("second")
            spoil()
            said = reload(own)
            assert words in said, said
            with peer(own, ca="other.crt") as new:
                assert new.send(request(body=b"z")).answer()[2] == b"z"
        use("server")
        assert reload(own) == "reloaded"
        wait_for(lambda: own.stats()["tls_failures"] >= 1, "the handshake that failed is counted")


def test_wrong_port(server):
    # TLS to a port without: words in clear text, which clients show or call a wrong version
    with Peer(server) as p:
        hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"x" * 190
        assert p.send(hello).answer()[::2] == (400, b"this port does not speak TLS\n") and p.at_end()
    try:
        dial(server)
        assert False
    except ssl.SSLError as error:
        assert "WRONG_VERSION" in str(error), error
    with TlsServer() as own:
        with Peer(own) as p:
            assert p.send(request(body=b"x")).answer()[::2] == (400, b"this port speaks TLS only\n") and p.at_end()
        with Connection(own.port) as c:
            assert c.wait_goaway() == 0 and c.farewell == b"this port speaks TLS only"


def test_peers_that_leave(_):
    with TlsServer() as own:
        for half in (True, False):
            p = peer(own)
            p.send(request("/hold", b"x"))
            wait_for(lambda: own.stats()["held"] == 1, "the request has arrived")
            if half:
                p.sock.close()
            else:
                os.close(p.sock.detach())
            wait_for(lambda: own.stats()["held"] == 0, "the request is given up")
        with h2(own) as c:
            c.open([(":method", "GET"), (":scheme", "https"), (":path", "/hold"), (":authority", "t")], end=True)
            wait_for(lambda: own.stats()["held"] == 1, "the call has arrived")
        wait_for(lambda: own.stats()["held"] == 0, "the call is given up")
        # the answer to who has closed its sending side
        with peer(own) as p:
            p.send(request("/big/3000000", method="GET", headers=["Connection: close"]))
            assert len(p.answer()[2]) == 3000000


def test_answers_nobody_reads(_):
    with TlsServer(stall=1000) as own:
        own.stats()
        before = own.descriptors()
        slow = [peer(own), h2(own, settings=[(4, 2 ** 31 - 1)])]
        slow[1].send(frame(WINDOW, 0, 0, b"\x7f\x00\x00\x00"))
        slow[0].send(request("/big/60000000", method="GET"))
        slow[1].open([(":method", "GET"), (":scheme", "https"), (":path", "/big/60000000"), (":authority", "t")], end=True)
        assert slow[0].sock.recv(1) == b"H", "both are served"
        slow[1].pump(lambda: any(s.blocks for s in slow[1].streams.values()))
        wait_for(lambda: own.stats()["connections"] == 1, "and cut off")
        for s in slow:
            s.sock.close()
        wait_for(lambda: own.descriptors() <= before + 1, "nothing is left open")


def test_half_handshakes(_):
    with TlsServer() as own:
        # one whole, to have a hello to cut
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context("h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        idle = [socket.create_connection(("localhost", own.port), timeout=DEADLINE) for _ in range(200)]
        for i, s in enumerate(idle):
            s.sendall(hello[:1 + i * len(hello) // 200])
        # nobody else is kept waiting by them
        with peer(own) as p:
            assert p.send(request(body=b"x")).answer()[2] == b"x"
        wait_for(lambda: own.stats()["connections"] == 1, "handshakes have their time")
        for s in idle:
            s.close()
        # byte by byte is a handshake as well
        raw = socket.create_connection(("localhost", own.port), timeout=DEADLINE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in hello:
            raw.sendall(bytes([byte]))
        incoming.write(raw.recv(65536))
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(raw.recv(65536))
        raw.close()


def test_mutated_handshakes(_):
    rng = random.Random(7)
    with TlsServer() as own:
        for i in range(300):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context("h2" if i % 2 else "http/1.1").wrap_bio(incoming, outgoing, server_hostname="localhost")
            raw = socket.create_connection(("localhost", own.port), timeout=DEADLINE)
            turn = rng.randrange(3)
            try:
                for step in range(4):
                    done = False
                    try:
                        client.do_handshake()
                        done = True
                    except ssl.SSLWantReadError:
                        pass
                    out = bytearray(outgoing.read())
                    if step == turn and out:
                        for _ in range(rng.randrange(1, 4)):
                            out[rng.randrange(len(out))] = rng.randrange(256)
                        if rng.randrange(3) == 0:
                            del out[rng.randrange(1, len(out) + 1):]
                    raw.sendall(out)
                    if done:
                        break
                    raw.settimeout(0.05 if step >= turn else DEADLINE)
                    got = raw.recv(65536)
                    if not got:
                        break
                    incoming.write(got)
            except (ssl.SSLError, OSError):
                pass
            raw.close()
        # and after it, in the records
        for i in range(100):
            with dial(own, "h2" if i % 2 else "http/1.1") as s:
                try:
                    raw = socket.socket(fileno=os.dup(s.fileno()))
                    s.sendall(request(body=b"x" * 100))
                    raw.sendall(bytes([rng.choice((20, 21, 22, 23, 24, 99)), 3, 3]) + os.urandom(rng.randrange(50)))
                    raw.close()
                except OSError:
                    pass
        with peer(own) as p:
            assert p.send(request(body=b"x")).answer()[2] == b"x"
        wait_for(lambda: own.stats()["connections"] == 1, "all are gone")


def test_many(_):
    """Many connections leave nothing behind, whole or torn."""
    with TlsServer() as own:
        def rounds(n):
            for _ in range(n):
                with peer(own) as p:
                    p.send(request(body=b"x" * 1000)).answer()
                with h2(own) as c:
                    c.call(message(b"x" * 1000))
                raw = socket.create_connection(("localhost", own.port))
                raw.sendall(b"\x16\x03\x01")
                raw.close()
        rounds(30)
        wait_for(lambda: own.stats()["connections"] == 1, "all are gone")
        descriptors, memory = own.descriptors(), own.resident()
        rounds(200)
        wait_for(lambda: own.stats()["connections"] == 1, "all are gone")
        wait_for(lambda: own.descriptors() <= descriptors + 4, "descriptors too")
        assert own.resident() - memory < 8 * 1024 * 1024


def test_graceful_stop(_):
    with TlsServer() as own:
        busy, idle, call = peer(own), peer(own), h2(own)
        assert idle.send(request(body=b"x")).answer()[2] == b"x"
        busy.send(request("/hold", b"late"))
        number = call.open([(":method", "POST"), (":scheme", "https"), (":path", "/hold"), (":authority", "t")])
        call.data(number, b"late", end=True)
        wait_for(lambda: own.stats()["held"] == 2, "both requests have arrived")
        own.process.send_signal(signal.SIGTERM)
        assert call.wait_goaway() == 0
        own.release()
        assert busy.answer()[2] == b"late" and busy.at_end()
        assert bytes(call.wait(number).data) == b"late"
        assert call.wait_goaway() == 0
        assert idle.at_end()
        call.sock.close()
        assert own.process.wait(DEADLINE) == 0
