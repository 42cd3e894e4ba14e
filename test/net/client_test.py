"""Real clients: curl, nghttp, h2load, grpcio."""
import os
import shutil
import subprocess
import threading

from harness import Server, Skip, wait_for

DEADLINE = 300

try:
    import grpc
except ImportError:
    grpc = None


def run(*command, data=None):
    if shutil.which(command[0]) is None:
        raise Skip(command[0] + " is not installed")
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE)
    assert done.returncode == 0, done
    return done.stdout


def test_curl(server):
    data = os.urandom(3000000)
    for option in ("--http1.1", "--http2-prior-knowledge"):
        for extra in ([], ["-H", "Transfer-Encoding: chunked"] if option == "--http1.1" else [],
                      ["-H", "Expect: 100-continue"]):
            got = run("curl", "-sS", option, *extra, "--data-binary", "@-", server.url("/echo"), data=data)
            assert got == data, (option, extra)
        assert run("curl", "-sS", option, "--compressed", server.url("/big/2000000")) == b"x" * 2000000
    # not over HTTP/2: curl 7.88 cannot use such a connection twice, whatever the server
    many = run("curl", "-sS", *[server.url("/describe")] * 20)
    assert many.count(b"GET /describe") == 20


def test_nghttp(server):
    run("nghttp", "-n", "-m", "50", server.url("/big/100000"))


def test_h2load(server):
    for extra in ([], ["--h1"]):
        out = run("h2load", *extra, "-n", "2000", "-c", "10", "-m", "10" if not extra else "1", server.url("/describe"))
        assert b"2000 succeeded, 0 failed" in out, out
    out = run("h2load", "-n", "500", "-c", "5", "-m", "20", server.url("/delay/5"))
    assert b"500 succeeded, 0 failed" in out, out


def test_node(server):
    """Node's own HTTP/2 and HTTP/1.1 clients, a chunked gzip body as the JS exporters send it."""
    script = r"""
const http = require('http'), http2 = require('http2'), zlib = require('zlib');
const [port] = process.argv.slice(1), body = zlib.gzipSync(Buffer.alloc(100000, 'x'));
const session = http2.connect('http://localhost:' + port);
const r = session.request({':method': 'POST', ':path': '/discard', 'content-encoding': 'gzip'});
let got = '';
r.on('data', d => got += d).on('end', () => {
    session.close();
    const q = http.request({port, method: 'POST', path: '/discard', headers: {'content-encoding': 'gzip'}}, a => {
        a.on('data', d => got += ' ' + d).on('end', () => console.log(got));
    });
    q.write(body.subarray(0, 50)); q.end(body.subarray(50));
});
r.end(body);
"""
    assert run("node", "-e", script, str(server.port)) == b"100000 100000\n"


def channel(server, **options):
    if grpc is None:
        raise Skip("grpcio is not installed")
    return grpc.insecure_channel("localhost:%d" % server.port,
                                 options=[("grpc." + k, v) for k, v in options.items()],
                                 compression=None)


def test_grpcio_unary(server):
    with channel(server, max_receive_message_length=-1) as c:
        echo = c.unary_unary("/test.Echo/Echo")
        assert echo(b"hello", timeout=DEADLINE) == b"hello"
        data = os.urandom(3000000)
        assert echo(data, timeout=DEADLINE) == data
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            assert echo(b"x" * 1000000, timeout=DEADLINE, compression=compression) == b"x" * 1000000
        later = c.unary_unary("/test.Echo/Delay")
        calls = [later.future(b"%d" % i, timeout=DEADLINE) for i in range(300)]
        assert [call.result() for call in calls] == [b"%d" % i for i in range(300)]


def failure(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it succeeded")


def test_grpcio_errors(server):
    with channel(server) as c:
        error = failure(c.unary_unary("/test.Echo/Fail"), b"x", timeout=DEADLINE)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and error.details() == "100% \u00e4\n"
        assert dict(error.trailing_metadata())["grpc-status-details-bin"] == b"\x08\x08\x12\x01x"
        error = failure(c.unary_unary("/no.Such/Thing"), b"x", timeout=DEADLINE)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        error = failure(c.unary_unary("/test.Echo/Echo"), b"x" * 5000000, timeout=DEADLINE)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in error.details()
        error = failure(c.unary_unary("/test.Echo/Hold"), b"x", timeout=0.2)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert c.unary_unary("/test.Echo/Echo")(b"on", timeout=DEADLINE) == b"on"
    wait_for(lambda: server.stats()["held"] == 0, "the held call is cancelled")


def test_grpcio_stream(server):
    with channel(server, max_receive_message_length=-1) as c:
        stream = c.unary_stream("/test.Echo/Stream")
        got = [len(m) for m in stream(b"100 1000000", timeout=DEADLINE)]
        assert got == [1000000] * 100
        call = stream(b"1000000 100000", timeout=DEADLINE)
        for _ in range(10):
            next(call)
        call.cancel()
        wait_for(lambda: server.stats()["held"] == 0, "the stream is cancelled")


def test_grpcio_survives_a_graceful_stop(server):
    if grpc is None:
        raise Skip("grpcio is not installed")
    import signal
    own = Server()
    with channel(own) as c:
        call = c.unary_unary("/test.Echo/Hold").future(b"hi", timeout=DEADLINE)
        wait_for(lambda: own.stats()["held"] == 1, "call held")
        own.process.send_signal(signal.SIGTERM)
        own.release()
        assert call.result() == b"hi"
        own.stop(signal.SIGTERM)


def test_grpcio_threads(server):
    errors = []

    def work():
        try:
            with channel(server, use_local_subchannel_pool=1) as c:
                for _ in range(20):
                    assert c.unary_unary("/test.Echo/Echo")(b"x" * 50000, timeout=DEADLINE) == b"x" * 50000
        except Exception as error:
            errors.append(error)

    if grpc is None:
        raise Skip("grpcio is not installed")
    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
