"""HTTP/1.1 on raw sockets: framing, limits, timeouts, peers that leave."""
import gzip
import os
import signal
import socket
import struct
import time
import zlib

from harness import Server, wait_for
from wire import Connection

DEADLINE = 120


class Peer:
    def __init__(self, server, sock=None):
        self.sock = sock or socket.create_connection(("localhost", server.port), timeout=DEADLINE)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def _more(self):
        try:
            got = self.sock.recv(65536)
        except ConnectionError:
            got = b""
        self.pending += got
        return bool(got)

    def head(self):
        """status, headers of the next answer; None if the connection ended"""
        while b"\r\n\r\n" not in self.pending:
            if not self._more():
                return None
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        return int(lines[0].split()[1]), {n.lower(): v for n, v in (line.split(": ", 1) for line in lines[1:])}

    def answer(self, body=True):
        head = self.head()
        if head is None:
            return None
        status, headers = head
        length = int(headers.get("content-length", 0)) if body and status >= 200 else 0
        while len(self.pending) < length:
            assert self._more(), "cut short"
        data, self.pending = self.pending[:length], self.pending[length:]
        return status, headers, data

    def at_end(self):
        while self._more():
            pass
        return self.pending == b""


def request(path="/echo", body=b"", method="POST", headers=(), length=True):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: test"] + list(headers)
    if length and (body or method == "POST"):
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces, end=b"0\r\n\r\n"):
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces) + end


def ask(server, *args, **kwargs):
    with Peer(server) as peer:
        return peer.send(request(*args, **kwargs)).answer()


def refused(server, data, *statuses):
    """The answer is one of the statuses, then (or instead) the connection ends."""
    with Peer(server) as peer:
        answer = peer.send(data).answer()
        assert answer is None or answer[0] in statuses, (data, answer)
        # libmicrohttpd 0.9.75 sends the head of some of its refusals twice; the end is what counts
        peer.at_end()
        assert peer.pending.count(b"HTTP/1.1 ") <= 1 and b"200 OK" not in peer.pending, (data, answer, peer.pending)
    assert ask(server, body=b"alive")[2] == b"alive"


def test_echo(server):
    status, headers, body = ask(server, body=b"hello")
    assert (status, body, headers["content-length"]) == (200, b"hello", "5")
    assert "date" in headers and "server" not in headers


def test_target(server):
    for target, seen in (("/describe?a=b%20c&d", "/describe ? a=b%20c&d"), ("/describe", "/describe ? \n"),
                         ("http://test/describe?q", "/describe ? q"), ("/describe?a?b", "/describe ? a?b")):
        assert ask(server, target)[2].decode().startswith("POST " + seen), target
    assert ask(server, "/a%2Fb//c%20")[0] == 200


def test_header_names_are_lower_case_and_counted(server):
    text = ask(server, "/describe", headers=["X-Scope-OrgID: a", "x-scope-orgid: b"])[2].decode()
    assert "x-scope-orgid: a\nx-scope-orgid: b\n" in text


def test_chunked(server):
    with Peer(server) as peer:
        peer.send(request(headers=["Transfer-Encoding: chunked"], length=False) + chunked(b"hel", b"lo"))
        assert peer.answer()[2] == b"hello"
        # trailer fields, pieces as small as can be, and the connection lives on
        for byte in request(headers=["Transfer-Encoding: chunked"], length=False) + \
                chunked(b"hel", b"lo", end=b"0\r\nX-Trailer: 1\r\n\r\n"):
            peer.send(bytes([byte]))
        assert peer.answer()[2] == b"hello"


def test_compressed(server):
    data = b"hi" * 100000
    raw = zlib.compressobj(wbits=-15)
    for coding, body in (("gzip", gzip.compress(data)), ("GZIP", gzip.compress(data)), ("x-gzip", gzip.compress(data)),
                         ("deflate", zlib.compress(data)), ("deflate", raw.compress(data) + raw.flush()),
                         ("identity", data)):
        answer = ask(server, "/discard", body, headers=["Content-Encoding: " + coding])
        assert answer[0] == 200 and answer[2] == b"200000", (coding, answer)
    with Peer(server) as peer:
        packed = gzip.compress(data)
        peer.send(request("/discard", headers=["Transfer-Encoding: chunked", "Content-Encoding: gzip"], length=False) +
                  chunked(packed[:10], packed[10:11], packed[11:]))
        assert peer.answer()[2] == b"200000"


def test_bad_compression(server):
    good = gzip.compress(b"hello" * 1000)
    for coding, body in (("br", b"x"), ("gzip, gzip", good), ("gzip", b"plain"), ("gzip", good[:-1]), ("gzip", b""),
                         ("gzip", good[:-6] + b"123456"), ("deflate", b"plain"), ("zstd", b"plain")):
        answer = ask(server, "/discard", body, headers=["Content-Encoding: " + coding])
        assert answer[0] == 400 and answer[1]["content-type"].startswith("text/plain"), (coding, answer)
    assert b"unsupported Content-Encoding: br" in ask(server, body=b"x", headers=["Content-Encoding: br"])[2]
    assert ask(server, method="GET", headers=["Content-Encoding: gzip"])[0] == 200


def test_path_before_coding(server):
    assert ask(server, "/missing", b"x", headers=["Content-Encoding: br"])[0] == 404


def test_too_large(server):
    limit = 4 * 1024 * 1024
    assert ask(server, "/discard", b"x" * limit)[2] == b"%d" % limit
    # by its length: answered before the body comes
    with Peer(server) as peer:
        peer.send(b"POST /discard HTTP/1.1\r\nHost: t\r\nContent-Length: 5000000\r\n\r\n")
        status, headers, _ = peer.answer()
        assert status == 413 and headers["connection"] == "close" and peer.at_end()
    # the whole body sent at once still gets to see the answer
    with Peer(server) as peer:
        assert peer.send(request("/discard", b"x" * 5000000)).answer()[0] == 413
    with Peer(server) as peer:
        peer.send(request("/discard", headers=["Transfer-Encoding: chunked"], length=False))
        peer.send(chunked(*[b"x" * 100000] * 50))
        assert peer.answer()[0] == 413
    assert ask(server, "/discard", gzip.compress(b"x" * (limit + 1)), headers=["Content-Encoding: gzip"])[0] == 413
    # after inflating, with little left to read: the connection is kept
    with Peer(server) as peer:
        peer.send(request("/discard", gzip.compress(b"x" * 5000000), headers=["Content-Encoding: gzip"]))
        assert peer.answer()[0] == 413
        assert peer.send(request(body=b"next")).answer()[2] == b"next"


def test_bomb(server):
    bomb = gzip.compress(b"\0" * (256 * 1024 * 1024), 9)
    before = server.resident()
    assert ask(server, "/discard", bomb, headers=["Content-Encoding: gzip"])[0] == 413
    assert server.resident() - before < 32 * 1024 * 1024


def test_announced_length_costs_nothing(server):
    before = server.resident()
    peers = [Peer(server).send(b"POST /discard HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\nxy")
             for _ in range(50)]
    wait_for(lambda: server.stats()["connections"] >= 50, "all connected")
    assert server.resident() - before < 20 * 1024 * 1024
    for peer in peers:
        peer.sock.close()
    wait_for(lambda: server.stats()["connections"] <= 1 and server.stats()["buffered"] == 0, "memory given back")


def test_expect_continue(server):
    body = b"x" * 2000000
    head = request("/discard", body, headers=["Expect: 100-continue"])[:-len(body)]
    with Peer(server) as peer:
        assert peer.send(head).answer()[0] == 100
        assert peer.send(body).answer()[2] == b"2000000"
    with Peer(server) as peer:
        assert peer.send(head.replace(b"/discard", b"/missing")).answer()[0] == 404
    with Peer(server) as peer:
        assert peer.send(head.replace(b"2000000", b"5000000")).answer()[0] == 413


def test_keep_alive_and_pipelining(server):
    with Peer(server) as peer:
        for i in range(3):
            assert peer.send(request(body=b"%d" % i)).answer()[2] == b"%d" % i
        peer.send(b"".join(request(path, body=b"%d" % i) for i, path in enumerate(("/delay/30", "/echo", "/delay/1"))))
        assert [peer.answer()[2] for _ in range(3)] == [b"0", b"1", b"2"]
        # an error before the body keeps the connection when the body is short
        peer.send(request("/missing", b"x" * 1000) + request(body=b"on"))
        assert peer.answer()[0] == 404 and peer.answer()[2] == b"on"


def test_connection_close(server):
    with Peer(server) as peer:
        assert peer.send(request(body=b"x", headers=["Connection: close"])).answer()[2] == b"x"
        assert peer.at_end()
    with Peer(server) as peer:
        assert peer.send(b"GET /describe HTTP/1.0\r\n\r\n").answer()[0] == 200
        assert peer.at_end()


def test_head(server):
    with Peer(server) as peer:
        status, headers, _ = peer.send(request("/big/5000", method="HEAD")).answer(body=False)
        assert status == 200 and headers["content-length"] == "5000"
        assert peer.send(request(body=b"next")).answer()[2] == b"next"


def test_answer_compressed(server):
    status, headers, body = ask(server, "/big/5000", headers=["Accept-Encoding: br, gzip;q=0.5"])
    assert headers["content-encoding"] == "gzip" and gzip.decompress(body) == b"x" * 5000
    assert headers["vary"].lower() == "accept-encoding" and headers["x-extra"] == "yes"
    for accept in ("identity", "gzip;q=0", "br"):
        status, headers, body = ask(server, "/big/5000", headers=["Accept-Encoding: " + accept])
        assert "content-encoding" not in headers and body == b"x" * 5000 and "vary" in headers
    assert "content-encoding" not in ask(server, "/big/500", headers=["Accept-Encoding: gzip"])[1]
    # what would hold up the loop is left as it is
    for size, coding in ((1 << 20, "gzip"), ((1 << 20) + 1, None)):
        status, headers, body = ask(server, "/big/%d" % size, headers=["Accept-Encoding: gzip"])
        assert status == 200 and headers.get("content-encoding") == coding and "vary" in headers, (size, headers)


def test_broken_framing(server):
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\n"
    te = b"Transfer-Encoding: chunked\r\n"
    for data in (
            head + b"Content-Length: 5\r\n" + te + b"\r\n0\r\n\r\n",
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            head + b"Content-Length: -5\r\n\r\nhello",
            head + b"Content-Length: 5x\r\n\r\nhello",
            head + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
            head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: identity\r\n\r\nhello",
            head + te + b"\r\nzz\r\nhello\r\n0\r\n\r\n",
            head + te + b"\r\n-5\r\nhello\r\n0\r\n\r\n",
            head + te + b"\r\nfffffffffffffffffff\r\nhello",
            head + te + b"\r\n5\r\nhelloworld\r\n0\r\n\r\n",
            head + b"Bad Header: x\r\n\r\n",
            head + b"Bad : x\r\n\r\n",
            head + b"no colon\r\n\r\n",
            b"POST /echo HTTP/1.1\r\n\r\n",
            b"POST /echo HTTP/7.1\r\nHost: t\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"\0\1\2\3\4\5\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100 + b"\r\n\r\n"):
        refused(server, data, 400, 413, 431, 501, 505)
    # most of it in words of our own; the rest libmicrohttpd does not tell us of
    for data in (
            b"POST /echo HTTP/1.1\r\n\r\n", b"POST /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /a b HTTP/1.1\r\nHost: t\r\n\r\n", b"GET /a?b c HTTP/1.1\r\nHost: t\r\n\r\n",
            head + b"Content-Length: 5\r\n" + te + b"\r\n0\r\n\r\n", head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", head + b"Bad : x\r\n\r\n"):
        with Peer(server) as peer:
            status, headers, body = peer.send(data).answer()
            assert (status, headers["content-type"], body) == (400, "text/plain; charset=utf-8", b"malformed request framing"), (data, status, headers, body)
            peer.at_end()
    with Peer(server) as peer:
        assert peer.send(b"GET /describe HTTP/1.0\r\n\r\n").answer()[0] == 200


def test_mutated_requests(server):
    good = request("/echo?a=b", headers=["Transfer-Encoding: chunked", "Content-Encoding: gzip", "Expect: 100-continue"],
                   length=False) + chunked(gzip.compress(b"hello" * 10)) + request(body=b"second")
    peers = []
    for _ in range(300):
        data = bytearray(good)
        for byte in os.urandom(3):
            data[int.from_bytes(os.urandom(2), "big") % len(data)] = byte
        peers.append(Peer(server))
        try:
            peers[-1].send(bytes(data))
            peers[-1].sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    for peer in peers:
        peer.at_end()
        peer.sock.close()
    assert ask(server, body=b"alive")[2] == b"alive"


def test_headers_too_large(server):
    for data in (b"X: " + b"y" * 700000 + b"\r\n", b"X-%d: y\r\n" * 150, b"Y" * 700000):
        with Peer(server) as peer:
            try:
                peer.send(b"GET /describe HTTP/1.1\r\nHost: t\r\n" + data + b"\r\n")
                answer = peer.answer()
            except ConnectionError:
                answer = None
            assert answer is None or answer[0] in (400, 413, 431), answer[0]
    with Peer(server) as peer:
        peer.send(b"GET /describe HTTP/1.1\r\nHost: t\r\n" + b"X: y\r\n" * 101 + b"\r\n")
        assert peer.answer()[0] == 431


def test_long_query(server):
    assert ask(server, "/describe?q=" + "x" * 60000, method="GET")[0] in (200, 414)


def test_later_answer_and_peer_that_leaves(server):
    before = server.stats()["cancelled"]
    with Peer(server) as peer:
        peer.send(request("/hold", b"x"))
        wait_for(lambda: server.stats()["held"] == 1, "request held")
    wait_for(lambda: server.stats()["cancelled"] == before + 1, "cancel")
    # a reset
    peer = Peer(server).send(request("/hold", b"x"))
    wait_for(lambda: server.stats()["held"] == 1, "request held")
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()
    wait_for(lambda: server.stats()["cancelled"] == before + 2, "cancel after reset")
    # amid a body
    there = server.settled().stats()["connections"]
    peer = Peer(server).send(request("/discard", b"x" * 100000)[:50000])
    wait_for(lambda: server.stats()["connections"] == there + 1, "connected")
    peer.sock.close()
    wait_for(lambda: server.stats()["connections"] <= there, "connection gone")


def test_half_closed_peer_gets_its_answer(server):
    with Peer(server) as peer:
        peer.send(request("/delay/100", b"x"))
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.answer()[2] == b"x"


def test_few_bytes_then_nothing(server):
    for start in (b"P", b"PR", b"PRI", b"G"):
        with Peer(server) as peer:
            peer.send(start)
            peer.sock.shutdown(socket.SHUT_WR)
            assert peer.at_end()
    # and a preface or method in pieces
    with Peer(server) as peer:
        for byte in request(body=b"slow"):
            peer.send(bytes([byte]))
        assert peer.answer()[2] == b"slow"


def test_idle_connection_is_closed(server):
    with Server(idle=1000) as own:
        # again, if it has been idle between connecting and asking
        def served():
            with Peer(own) as peer:
                answer = ask_again(peer)
                assert answer is None or answer[2] == b"x"
                assert peer.at_end()
                return answer
        wait_for(served, "an answer before the end")


def test_slow_headers(server):
    """Ten seconds for headers, whatever trickles in."""
    with Peer(server) as peer:
        peer.send(b"GET / HTTP/1.1\r\n")
        until = time.monotonic() + 300
        peer.sock.settimeout(0.5)
        while True:
            assert time.monotonic() < until, "still connected"
            try:
                peer.send(b"X: y\r\n")
                if peer.sock.recv(1000) == b"":
                    break
            except socket.timeout:
                continue
            except OSError:
                break


def test_too_many_connections(server):
    with Server(connections=5) as own:
        peers = [Peer(own) for _ in range(5)]
        for peer in peers:
            assert peer.send(request(body=b"x")).answer()[2] == b"x"
        # who says nothing for a second is told nothing
        def told():
            with Peer(own) as extra:
                got = ask_again(extra)
                assert extra.at_end()
                return got
        got = wait_for(told, "an answer to one too many")
        assert got[0] == 503 and got[2] == b"too many connections, retry later\n", got

        def told_in_http2():
            try:
                with Connection(own.port) as extra:
                    return extra.wait_goaway() == 0 and extra.farewell
            except ConnectionError:
                return None
        assert wait_for(told_in_http2, "GOAWAY to one too many") == b"too many connections, retry later"
        silent = [Peer(own) for _ in range(200)]
        assert own.descriptors() < 100
        for peer in silent:
            assert peer.at_end()
            peer.sock.close()
        peers[0].sock.close()
        wait_for(lambda: _served(own), "a place is free again")
        for peer in peers:
            peer.sock.close()


def ask_again(peer):
    """None if the server has closed the connection before"""
    try:
        return peer.send(request(body=b"x")).answer()
    except ConnectionError:
        return None


def _served(own):
    with Peer(own) as peer:
        return ask_again(peer) is not None


def test_over_buffered(server):
    with Server(buffered=1000000, body=4000000) as own:
        with Peer(own) as holder:
            holder.send(request("/hold", b"x" * 1500000)[:990000])
            wait_for(lambda: ask(own, "/discard", b"x" * 20000)[0] == 503, "overload is noticed")
            assert ask(own, "/describe", method="GET")[0] == 200
        wait_for(lambda: ask(own, "/discard", b"x" * 100)[0] == 200, "memory is free again")


def test_only_one_protocol(server):
    with Server(http1=0) as own, Peer(own) as peer:
        assert peer.send(request(body=b"x")).answer()[::2] == (400, b"this port speaks HTTP/2 only\n") and peer.at_end()
    with Server(http2=0) as own:
        with Peer(own) as peer:
            got = peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").answer()
            assert got[::2] == (400, b"this port does not speak HTTP/2\n") and peer.at_end()
        assert ask(own, body=b"x")[2] == b"x"


def test_graceful_stop(server):
    own = Server()
    with Peer(own) as busy, Peer(own) as idle:
        assert idle.send(request(body=b"x")).answer()[2] == b"x"
        busy.send(request("/hold", b"late"))
        wait_for(lambda: own.stats()["held"] == 1, "request held")
        own.process.send_signal(signal.SIGTERM)
        assert idle.at_end()
        own.release()
        status, headers, body = busy.answer()
        assert body == b"late" and headers["connection"] == "close"
        assert busy.at_end()
    own.stop()


def test_immediate_stop(server):
    own = Server()
    with Peer(own) as busy:
        busy.send(request("/hold", b"x"))
        wait_for(lambda: own.stats()["held"] == 1, "request held")
        own.process.send_signal(signal.SIGINT)
        assert busy.at_end()
    own.stop()
