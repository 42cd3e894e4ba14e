"""gRPC over raw HTTP/2: every rule of the transport that a client can see."""
import base64
import gzip
import os
import shutil
import struct
import subprocess
import zlib

from harness import Server, wait_for
from wire import (ACK, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, RST, WINDOW, encode, frame,
                  grpc_headers, message)

LIMIT = 4 * 1024 * 1024


def call(server, body=message(b"hi"), **kwargs):
    with Connection(server.port) as connection:
        return connection.call(body, **kwargs)


def expect(stream, status, http="200", text=None):
    assert stream.trailers_only, (stream.blocks, stream.reset)
    assert (stream.header(":status"), stream.status) == (http, status), stream.blocks
    assert stream.header("content-type") == "application/grpc"
    if text is not None:
        assert text in stream.header("grpc-message"), stream.blocks


def test_unary(server):
    stream = call(server)
    assert stream.data == message(b"hi") and stream.status == 0
    assert stream.header(":status") == "200" and stream.header("content-type") == "application/grpc"
    assert len(stream.blocks) == 2 and stream.ends == [False, True]


def test_answer_later(server):
    assert call(server, path="/test.Echo/Delay").data == message(b"hi")


def test_zero_length_message(server):
    stream = call(server, message(b""))
    assert stream.status == 0 and stream.data == message(b"")


def test_kept_body(server):
    assert call(server, path="/test.Echo/Keep").data == message(b"hi")


def test_compressed(server):
    for codec, data in (("gzip", gzip.compress(b"hi" * 1000)), ("deflate", zlib.compress(b"hi" * 1000)),
                        ("gzip", gzip.compress(b"hi" * 500) + gzip.compress(b"hi" * 500))):
        stream = call(server, message(data, 1), extra=[("grpc-encoding", codec)])
        assert stream.data == message(b"hi" * 1000), (codec, stream.blocks)


def test_zstd(server):
    if shutil.which("zstd") is None:
        return
    data = subprocess.run(["zstd", "-c"], input=b"hi" * 100000, stdout=subprocess.PIPE, check=True).stdout
    stream = call(server, message(data, 1), extra=[("grpc-encoding", "zstd")])
    assert stream.data == message(b"hi" * 100000), stream.blocks


def test_codec_named_but_not_used(server):
    assert call(server, extra=[("grpc-encoding", "gzip")]).data == message(b"hi")


def test_unknown_codec(server):
    stream = call(server, extra=[("grpc-encoding", "br")])
    expect(stream, 12, text='grpc-encoding "br"')
    assert "gzip" in stream.header("grpc-accept-encoding")


def test_bad_flags(server):
    expect(call(server, message(b"hi", 1)), 13)
    expect(call(server, message(b"hi", 1), extra=[("grpc-encoding", "identity")]), 13)
    expect(call(server, message(b"hi", 2)), 13)


def test_corrupt_compression(server):
    whole = gzip.compress(os.urandom(1000))
    for codec in ("gzip", "deflate", "zstd"):
        expect(call(server, message(b"no such thing", 1), extra=[("grpc-encoding", codec)]), 13)
        expect(call(server, message(b"", 1), extra=[("grpc-encoding", codec)]), 13)
    expect(call(server, message(whole[:-1], 1), extra=[("grpc-encoding", "gzip")]), 13)
    expect(call(server, message(whole[:-8] + b"12345678", 1), extra=[("grpc-encoding", "gzip")]), 13)
    expect(call(server, message(whole + b"x", 1), extra=[("grpc-encoding", "gzip")]), 13)


def test_cut_short(server):
    expect(call(server, message(b"x" * 100)[:55]), 13, text="unexpected EOF")
    expect(call(server, b"\0\0"), 13)


def test_no_message(server):
    expect(call(server, None), 12)
    expect(call(server, b""), 12)


def test_two_messages(server):
    expect(call(server, message(b"hi") * 2), 12)


def test_tiny_padded_and_empty_frames(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers())
        for byte in message(b"hello"):
            connection.send(frame(DATA, PADDED, number, bytes([3, byte]) + b"\0\0\0"))
            connection.send(frame(DATA, 0, number))
        connection.send(frame(DATA, END_STREAM, number))
        assert connection.wait(number).data == message(b"hello")


def test_client_trailers(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers())
        connection.data(number, message(b"hi"))
        connection.send(frame(HEADERS, END_HEADERS | END_STREAM, number, encode([("x", "y")])))
        assert connection.wait(number).data == message(b"hi")


def test_too_large_by_prefix(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers())
        connection.data(number, struct.pack(">BI", 0, 5000000))
        stream = connection.wait(number)
        expect(stream, 8, text="received message larger than max (5000000 vs. %d)" % LIMIT)
        connection.pump(lambda: stream.reset is not None)
        assert stream.reset == 0
        # what was under way is not held against the connection
        connection.send(frame(DATA, 0, number, b"x" * 16384))
        assert connection.call().status == 0


def test_bomb(server):
    bomb = gzip.compress(b"\0" * (64 * LIMIT), 9)
    before = server.resident()
    stream = call(server, message(bomb, 1), extra=[("grpc-encoding", "gzip")])
    expect(stream, 8, text="after decompression larger than max")
    assert server.resident() - before < 8 * LIMIT


def test_limit_is_inclusive(server):
    assert call(server, message(b"x" * LIMIT), path="/test.Echo/Discard").data == message(str(LIMIT).encode())
    packed = gzip.compress(b"x" * LIMIT)
    assert call(server, message(packed, 1), path="/test.Echo/Discard",
                extra=[("grpc-encoding", "gzip")]).data == message(str(LIMIT).encode())


def test_unknown_service(server):
    with Connection(server.port) as connection:
        expect(connection.call(path="/no.Such/Thing"), 12, text="unknown service")
        assert connection.call().status == 0


def test_content_types(server):
    for good in ("application/grpc;charset=utf-8", "application/grpc+proto"):
        assert call(server, content_type=good).status == 0
    for bad in ("text/plain", "application/grpc-web", "application/grpcx", None):
        expect(call(server, content_type=bad), 3, http="415", text="content-type")


def test_method(server):
    expect(call(server, method="GET"), 13, http="405", text="POST")


def test_no_te(server):
    with Connection(server.port) as connection:
        number = connection.open([f for f in grpc_headers() if f[0] != "te"])
        connection.data(number, message(b"hi"), end=True)
        assert connection.wait(number).status == 0


def test_timeouts(server):
    for good in ("5S", "9999871u", "9983m", "1H", "99999999H"):
        assert call(server, extra=[("grpc-timeout", good)]).status == 0
    for bad in ("123456789S", "5", "5x", "", "S", "-1S", "5 S", "5SS"):
        expect(call(server, extra=[("grpc-timeout", bad)]), 13, http="400", text="grpc-timeout")
    for late in ("0n", "1n", "0S"):
        expect(call(server, extra=[("grpc-timeout", late)]), 4)


def test_deadline_passes(server):
    # longer, if it has passed before the whole request was there
    for timeout in ("30m", "300m", "3S", "30S"):
        before = server.stats()["cancelled"]
        expect(call(server, path="/test.Echo/Hold", extra=[("grpc-timeout", timeout)]), 4)
        if server.stats()["cancelled"] == before + 1:
            return
    raise AssertionError("the handler was not told")


def test_deadline_passes_while_body_is_missing(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers(extra=[("grpc-timeout", "30m")]))
        expect(connection.wait(number), 4)


def test_binary_metadata(server):
    assert call(server, extra=[("a-bin", "AQID"), ("b-bin", "AQ"), ("c-bin", "AQ==,AQI")]).status == 0
    for bad in ("!", "A", "AQ=", "A===", "AQID=x"):
        expect(call(server, extra=[("x-bin", bad)]), 13, http="400")


def test_error_in_full(server):
    stream = call(server, path="/test.Echo/Fail")
    expect(stream, 8)
    assert stream.header("grpc-message") == "100%25 %C3%A4%0A"
    assert base64.b64decode(stream.header("grpc-status-details-bin") + "==") == b"\x08\x08\x12\x01x"
    assert stream.header("x-extra") == "yes"


def test_client_resets(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers())
        connection.data(number, message(b"x" * 1000)[:500])
        connection.send(frame(RST, 0, number, struct.pack(">I", 8)))
        assert connection.call().status == 0
        before = server.stats()["cancelled"]
        number = connection.open(grpc_headers("/test.Echo/Hold"))
        connection.data(number, message(b""), end=True)
        connection.send(frame(RST, 0, number, struct.pack(">I", 8)))
        wait_for(lambda: server.stats()["cancelled"] == before + 1, "cancel after RST_STREAM")


def test_client_goes_away(server):
    before = server.stats()["cancelled"]
    with Connection(server.port) as connection:
        for _ in range(3):
            number = connection.open(grpc_headers("/test.Echo/Hold"))
            connection.data(number, message(b""), end=True)
        wait_for(lambda: server.stats()["held"] == 3, "three calls held")
    wait_for(lambda: server.stats()["cancelled"] == before + 3, "cancel after the connection's end")


def test_server_stream(server):
    stream = call(server, message(b"5 10"), path="/test.Echo/Stream")
    assert stream.data == message(b"\0" * 10) * 5 and stream.status == 0 and len(stream.blocks) == 2


def test_server_stream_is_large(server):
    stream = call(server, message(b"40 1000000"), path="/test.Echo/Stream")
    assert len(stream.data) == 40 * 1000005 and stream.status == 0


def test_server_stream_of_nothing(server):
    assert call(server, message(b"0 0"), path="/test.Echo/Stream").status == 0


def test_server_stream_is_cancelled(server):
    before = server.stats()["cancelled"]
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers("/test.Echo/Stream"))
        connection.data(number, message(b"1000000 100000"), end=True)
        connection.pump(lambda: len(connection.stream(number).data) > 3000000)
    wait_for(lambda: server.stats()["cancelled"] == before + 1, "cancel of the stream")


def test_hundred_streams_at_once(server):
    with Connection(server.port) as connection:
        numbers = [connection.open(grpc_headers("/test.Echo/Delay")) for _ in range(100)]
        for number in numbers:
            connection.data(number, message(b"%d" % number), end=True)
        for number in numbers:
            assert connection.wait(number).data == message(b"%d" % number)


def test_too_many_streams(server):
    with Connection(server.port) as connection:
        connection.pump(lambda: connection.settings is not None)
        assert connection.settings[3] == 100
        numbers = [connection.open(grpc_headers("/test.Echo/Delay")) for _ in range(110)]
        for number in numbers[:100]:
            connection.data(number, message(b"hi"), end=True)
        for number in numbers[100:]:
            stream = connection.wait(number)
            assert stream.reset == 7, (stream.reset, stream.blocks, stream.ended)
        for number in numbers[:100]:
            assert connection.wait(number).status == 0


def test_over_buffered(server):
    with Server(buffered=1000000, body=4000000) as small, Connection(small.port) as connection:
        # incomplete bodies fill the memory: the next one is turned away, not left waiting
        first = connection.open(grpc_headers("/test.Echo/Discard"))
        connection.data(first, message(b"x" * 900000)[:-1])
        second = connection.open(grpc_headers("/test.Echo/Discard"))
        connection.data(second, message(b"x" * 600000))
        expect(connection.wait(second), 14)
        connection.data(first, b"x", end=True)
        assert connection.wait(first).data == message(b"900000")
        wait_for(lambda: small.stats()["buffered"] == 0, "memory accounted for")
        assert connection.call(message(b"x" * 900000), path="/test.Echo/Discard").status == 0


def test_memory_of_decoders_counts(server):
    """A zstd frame of twelve bytes asks for 8 MB of history."""
    frame_head = b"\x28\xb5\x2f\xfd\x00\x68" + b"\x08\x00\x00x"
    with Server(buffered=50000000) as small, Connection(small.port) as connection:
        numbers = [connection.open(grpc_headers(extra=[("grpc-encoding", "zstd")])) for _ in range(20)]
        for number in numbers:
            connection.data(number, struct.pack(">BI", 1, 1000000) + frame_head)
        connection.call(path="/test.Echo/Discard")
        refused = [n for n in numbers if connection.stream(n).ended]
        assert 10 < len(refused) < 20, len(refused)
        expect(connection.stream(refused[0]), 14)
    with Server(buffered=50000000) as small:
        assert call(small).status == 0


def test_back_pressure(server):
    """While requests are handled, a peer gets no more window instead of a refusal."""
    with Server(buffered=6000000, body=4000000) as small, Connection(small.port) as connection:
        held = []
        for _ in range(4):
            held.append(connection.open(grpc_headers("/test.Echo/Hold")))
            connection.data(held[-1], message(b"x" * 1000000), end=True)
        wait_for(lambda: small.stats()["held"] == 4, "four calls held")
        # a third one, whose window runs dry
        third = connection.open(grpc_headers("/test.Echo/Discard"))
        body = message(b"x" * 2500000)
        sent = 0
        while connection.room(third) >= 16384:
            connection.data(third, body[sent:sent + 16384])
            sent += 16384
        for number in held:
            connection.send(frame(RST, 0, number, struct.pack(">I", 8)))
        wait_for(lambda: small.stats()["held"] == 0, "memory freed")
        connection.data(third, body[sent:], end=True)
        assert connection.wait(third).data == message(b"2500000"), connection.stream(third).blocks


def test_window_zero_then_larger(server):
    with Connection(server.port, settings=[(4, 0)]) as connection:
        number = connection.open(grpc_headers())
        connection.data(number, message(b"hi"), end=True)
        connection.pump(lambda: bool(connection.stream(number).blocks))
        assert connection.stream(number).data == b"" and not connection.stream(number).ended
        connection.send(frame(4, 0, 0, struct.pack(">HI", 4, 65535)))
        assert connection.wait(number).data == message(b"hi")


def test_large_body_needs_window_updates(server):
    with Connection(server.port) as connection:
        number = connection.open(grpc_headers("/test.Echo/Discard"))
        connection.data(number, message(b"x" * 3000000), end=True)
        assert connection.wait(number).data == message(b"3000000")
        assert connection.window_updates > 0


def test_graceful_stop_finishes_calls(server):
    import signal
    own = Server()
    with Connection(own.port) as connection:
        number = connection.open(grpc_headers("/test.Echo/Hold"))
        connection.data(number, message(b"hi"), end=True)
        wait_for(lambda: own.stats()["held"] == 1, "call held")
        own.process.send_signal(signal.SIGTERM)
        connection.pump(lambda: bool(connection.goaways))
        own.release()
        assert connection.wait(number).data == message(b"hi")
        connection.pump(lambda: connection.closed)
        assert connection.goaways[0] == (0x7FFFFFFF, 0), connection.goaways
        assert connection.goaways[-1] == (number, 0), connection.goaways
    own.stop()


def test_immediate_stop_says_unavailable(server):
    import signal
    own = Server()
    with Connection(own.port) as connection:
        number = connection.open(grpc_headers("/test.Echo/Hold"))
        connection.data(number, message(b"hi"), end=True)
        wait_for(lambda: own.stats()["held"] == 1, "call held")
        own.process.send_signal(signal.SIGINT)
        expect(connection.wait(number), 14)
        connection.pump(lambda: connection.closed)
        assert connection.goaways
    own.stop()
