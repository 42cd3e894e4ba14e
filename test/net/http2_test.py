"""HTTP/2 below gRPC: plain requests, and peers that break or abuse the protocol."""
import gzip
import os
import struct

from harness import Server, wait_for
from wire import (ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
                  RST, SETTINGS, WINDOW, encode, frame, grpc_headers, message)

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR, CALM = 1, 3, 6, 9, 11


def plain(path="/echo", method="POST", extra=()):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")] + list(extra)


def ask(server, path="/echo", body=b"", method="POST", extra=()):
    with Connection(server.port) as connection:
        number = connection.open(plain(path, method, extra), end=not body)
        if body:
            connection.data(number, body, end=True)
        return connection.wait(number)


def alive(server):
    assert bytes(ask(server, body=b"alive").data) == b"alive"


def test_plain_request(server):
    stream = ask(server, body=b"hello", extra=[("content-type", "application/json")])
    assert bytes(stream.data) == b"hello"
    headers = dict(stream.blocks[0])
    assert (headers[":status"], headers["content-length"], headers["content-type"]) == ("200", "5", "application/json")
    assert headers["date"].endswith(" GMT")


def test_plain_details(server):
    assert b"host: test\n" in ask(server, "/describe?a=b", method="GET").data
    stream = ask(server, "/big/3000", method="HEAD")
    assert stream.header("content-length") == "3000" and stream.data == b"" and stream.ended
    stream = ask(server, "/big/3000", method="GET", extra=[("accept-encoding", "gzip")])
    assert gzip.decompress(bytes(stream.data)) == b"x" * 3000 and stream.header("content-encoding") == "gzip"
    assert bytes(ask(server, "/delay/20", b"late").data) == b"late"
    assert len(ask(server, "/big/3000000", method="GET").data) == 3000000


def test_plain_refusals(server):
    assert ask(server, "/missing", b"x").header(":status") == "404"
    assert ask(server, body=b"x", extra=[("content-encoding", "br")]).header(":status") == "400"
    assert ask(server, body=b"x", extra=[("content-encoding", "gzip")]).header(":status") == "400"
    assert ask(server, body=gzip.compress(b"x" * 5000000),
               extra=[("content-encoding", "gzip")]).header(":status") == "413"
    with Connection(server.port) as connection:
        number = connection.open(plain(extra=[("content-length", "5000000")]))
        stream = connection.wait(number)
        assert stream.header(":status") == "413"
        number = connection.open(plain())
        connection.data(number, b"x" * 5000000)
        assert connection.wait(number).header(":status") == "413"
        number = connection.open(plain())
        connection.data(number, b"next", end=True)
        assert bytes(connection.wait(number).data) == b"next"


def test_headers_too_large(server):
    with Connection(server.port) as connection:
        connection.pump(lambda: connection.settings is not None)
        number = connection.open(plain(extra=[("x", "y" * 5000)] * 4))
        assert connection.wait(number).header(":status") == "431"
    with Connection(server.port) as connection:
        connection.pump(lambda: connection.settings is not None)
        stream = connection.call(extra=[("x", "y" * 3000)] * 6)
        assert stream.header(":status") == "431" and stream.status == 8
        assert connection.call().status == 0


def stream_error(server, fields, error=PROTOCOL_ERROR):
    with Connection(server.port) as connection:
        number = connection.open(fields)
        assert connection.wait(number).reset == error, (connection.stream(number).blocks, connection.goaways)
        assert connection.call().status == 0


def test_malformed_requests(server):
    good = grpc_headers()
    stream_error(server, good + [("connection", "keep-alive")])
    stream_error(server, good + [("X-Upper", "y")])
    stream_error(server, good + [(":protocol", "x")])
    stream_error(server, good + [(":unknown", "x")])
    stream_error(server, [("x", "y")] + good)
    stream_error(server, [f for f in good if f[0] != ":path"])
    stream_error(server, good + [(":path", "/other")])
    stream_error(server, good + [("x", b"a\0b")])
    stream_error(server, good + [("transfer-encoding", "chunked")])


def test_wrong_content_length(server):
    with Connection(server.port) as connection:
        number = connection.open(plain(extra=[("content-length", "3")]))
        connection.data(number, b"hello", end=True)
        assert connection.wait(number).reset == PROTOCOL_ERROR


def broken(server, data, *errors):
    """The connection ends with one of the errors (or just ends)."""
    with Connection(server.port) as connection:
        try:
            data = data if isinstance(data, list) else [data]
            for piece in data:
                connection.send(piece)
        except ConnectionError:
            pass
        try:
            error = connection.wait_goaway()
        except TimeoutError:
            raise AssertionError("no reaction to %r, resets %r" % (
                b"".join(data)[:60], {n: s.reset for n, s in connection.streams.items()}))
        assert error is None or error in errors, error
        connection.pump(lambda: connection.closed)
    alive(server)


def test_broken_frames(server):
    headers = encode(grpc_headers())
    for data, *errors in (
            (frame(HEADERS, END_HEADERS, 2, headers), PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, 0, headers), PROTOCOL_ERROR),
            (frame(HEADERS, 0, 1, headers) + frame(PING, 0, 0, b"x" * 8), PROTOCOL_ERROR),
            (frame(CONTINUATION, END_HEADERS, 1, headers), PROTOCOL_ERROR),
            (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR, 5),
            (frame(5, END_HEADERS, 1, b"\0\0\0\2" + headers), PROTOCOL_ERROR),
            (frame(PING, 0, 0, b"short"), FRAME_SIZE_ERROR),
            (frame(PING, 0, 1, b"x" * 8), PROTOCOL_ERROR),
            (frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
            (frame(SETTINGS, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
            (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), FLOW_CONTROL_ERROR),
            (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)), PROTOCOL_ERROR),
            (frame(RST, 0, 9, struct.pack(">I", 8)), PROTOCOL_ERROR),
            (frame(WINDOW, 0, 0, struct.pack(">I", 0)), PROTOCOL_ERROR),
            (frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF)), FLOW_CONTROL_ERROR),
            (frame(HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION_ERROR),
            (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
            (frame(HEADERS, END_HEADERS, 1, b"\xfe"), COMPRESSION_ERROR),
            (frame(HEADERS, END_HEADERS, 1, b"\0\x85abc"), COMPRESSION_ERROR),
            (b"\xff\xff\xff" + frame(HEADERS, END_HEADERS, 1, b"")[3:], FRAME_SIZE_ERROR)):
        broken(server, data, *errors)


def test_unknown_frames_are_ignored(server):
    with Connection(server.port) as connection:
        connection.send(frame(99, 255, 0, b"whatever") + frame(PRIORITY, 0, 1, b"\0\0\0\0\1"))
        assert connection.call().status == 0


def test_bad_preface(server):
    for data in (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + b"x" * 100, b"PRI * nonsense" + b"\r\n" * 20,
                 PREFACE + frame(PING, 0, 0, b"x" * 8)):
        connection = Connection(server.port, start=False)
        try:
            connection.send(data)
        except ConnectionError:
            pass
        connection.pump(lambda: connection.closed or bool(connection.goaways))
        connection.sock.close()
    alive(server)


def test_rapid_reset(server):
    pair = b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, encode(grpc_headers("/test.Echo/Hold"))) +
                    frame(RST, 0, 2 * i + 1, struct.pack(">I", 8)) for i in range(10000))
    broken(server, pair, CALM)
    wait_for(lambda: server.stats()["held"] == 0, "nothing is held")


def test_continuation_flood(server):
    def flood():
        yield frame(HEADERS, 0, 1, encode(grpc_headers()))
        for _ in range(10000):
            yield frame(CONTINUATION, 0, 1, encode([("x", "y")]))
    before = server.resident()
    broken(server, list(flood()), CALM)
    broken(server, [frame(HEADERS, 0, 1, encode(grpc_headers()))] + [frame(CONTINUATION, 0, 1)] * 10000, CALM)
    assert server.resident() - before < 16 * 1024 * 1024


def test_settings_flood(server):
    broken(server, frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 1000, CALM)


def test_empty_data_flood(server):
    broken(server, [frame(HEADERS, END_HEADERS, 1, encode(grpc_headers()))] + [frame(DATA, 0, 1)] * 1000, CALM)


def test_pings_are_answered(server):
    with Connection(server.port) as connection:
        connection.send(b"".join(frame(PING, 0, 0, struct.pack(">Q", i)) for i in range(3000)))
        connection.pump(lambda: len(connection.pings) == 3000)
        assert connection.pings[-1] == struct.pack(">Q", 2999)
        assert connection.call().status == 0


def test_pings_whose_answers_nobody_reads(server):
    """The server stops reading; it does not queue without end."""
    before = server.resident()
    with Connection(server.port) as connection:
        connection.sock.settimeout(1)
        pings = frame(PING, 0, 0, b"x" * 8) * 10000
        try:
            for _ in range(2000):
                connection.sock.sendall(pings)
            raise AssertionError("the server took it all")
        except (TimeoutError, OSError):
            pass
        assert server.resident() - before < 32 * 1024 * 1024
        alive(server)


def test_answers_nobody_reads(server):
    before = server.resident()
    with Connection(server.port, settings=[(4, 0x7FFFFFFF)]) as connection:
        connection.send(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFF0000)))
        for i in range(50):
            connection.open(plain("/big/100000", "GET"), end=True)
        alive(server)
    wait_for(lambda: server.resident() - before < 64 * 1024 * 1024, "memory given back")


def test_overrun_of_the_window(server):
    """Held-back windows are enforced: a peer that sends on regardless is cut off."""
    with Server(buffered=6000000, body=4000000) as own, Connection(own.port) as connection:
        for _ in range(4):
            number = connection.open(grpc_headers("/test.Echo/Hold"))
            connection.data(number, message(b"x" * 1000000), end=True)
        wait_for(lambda: own.stats()["held"] == 4, "four calls held")
        number = connection.open(grpc_headers("/test.Echo/Discard"))
        connection.send(frame(DATA, 0, number, message(b"x" * 3000000)[:10000]))
        try:
            for _ in range(150):
                connection.send(frame(DATA, 0, number, b"x" * 16384))
        except ConnectionError:
            pass
        stream = connection.stream(number)
        connection.pump(lambda: bool(connection.goaways) or stream.reset is not None)
        assert stream.reset == FLOW_CONTROL_ERROR or connection.goaways[0][1] == FLOW_CONTROL_ERROR


def test_headers_count_as_memory(_):
    """Who sends headers and no bodies cannot take more than the bodies may."""
    with Server(buffered=1000000) as own, Connection(own.port) as connection:
        numbers = [connection.open(plain(extra=[("x-long", "x" * 12000)])) for _ in range(90)]
        numbers += [connection.open(grpc_headers("/test.Echo/Discard") + [("x-long", "x" * 12000)])]
        streams = [connection.stream(n) for n in numbers]
        connection.pump(lambda: streams[-1].ended)
        assert streams[0].blocks == [] and streams[-2].header(":status") == "503" and streams[-1].status == 14
        assert 50 < sum(s.blocks == [] for s in streams) < 90
        assert own.stats()["held"] == 0, "a small request is still served"
        for number, stream in zip(numbers, streams):
            if not stream.ended:
                connection.data(number, b"late", end=True)
        assert bytes(connection.wait(numbers[0]).data) == b"late"
        wait_for(lambda: connection.wait(connection.open(plain(extra=[("x-long", "x" * 12000)]), end=True)).header(":status") == "200", "memory given back")


def test_goaway_from_the_client(server):
    with Connection(server.port) as connection:
        number = connection.open(plain("/delay/50"))
        connection.data(number, b"late", end=True)
        connection.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)) * 2)
        assert bytes(connection.wait(number).data) == b"late"
        connection.pump(lambda: connection.closed)


def test_idle_connection_is_told_to_go(server):
    with Server(idle=500) as own:
        # again, if it has been idle between connecting and asking
        def served():
            with Connection(own.port) as connection:
                try:
                    status = connection.call().status
                except ConnectionError:
                    return False
                assert status in (0, None) and connection.wait_goaway() == 0
                connection.pump(lambda: connection.closed)
                return status == 0
        wait_for(served, "an answer before the end")


def test_no_settings(server):
    """A peer that connects and says only the preface has ten seconds."""
    connection = Connection(server.port, start=False)
    connection.send(PREFACE[:20])
    connection.pump(lambda: connection.closed)
    connection.sock.close()


def test_random_bytes(server):
    for _ in range(50):
        connection = Connection(server.port)
        try:
            connection.send(os.urandom(2000))
            connection.sock.shutdown(1)
        except OSError:
            pass
        connection.pump(lambda: connection.closed)
        connection.sock.close()
    alive(server)


def test_mutated_frames(server):
    good = frame(HEADERS, END_HEADERS, 1, encode(grpc_headers())) + frame(DATA, END_STREAM, 1, message(b"hello")) + \
        frame(PING, 0, 0, b"x" * 8) + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 70000))
    for i in range(300):
        data = bytearray(good)
        for byte in os.urandom(3):
            data[int.from_bytes(os.urandom(2), "big") % len(data)] = byte
        connection = Connection(server.port)
        try:
            connection.send(bytes(data))
            connection.sock.shutdown(1)
        except OSError:
            pass
        connection.pump(lambda: connection.closed)
        connection.sock.close()
    alive(server)
