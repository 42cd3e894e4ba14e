"""Nothing is left behind by many connections, whole or torn."""
import http1_test
from harness import Server
from wire import Connection, END_HEADERS, HEADERS, encode, frame, grpc_headers, message


def settled(server):
    """Descriptors when only the asking connection is open."""
    return server.settled().descriptors()


def rounds(own, n):
    for i in range(n):
        with Connection(own.port) as connection:
            connection.call(message(b"x" * 1000))
            connection.open(grpc_headers("/test.Echo/Hold"))
        with Connection(own.port) as connection:
            connection.send(frame(HEADERS, END_HEADERS, 1, encode(grpc_headers()))[:30])
        with http1_test.Peer(own) as peer:
            peer.send(http1_test.request(body=b"x")).answer()
        with http1_test.Peer(own) as peer:
            peer.send(http1_test.request("/discard", b"x" * 50000)[:10000])
        with http1_test.Peer(own) as peer:
            peer.send(b"P")
        if i % 10 == 0:
            with http1_test.Peer(own) as peer:
                peer.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n").answer()


def test_many_connections(server):
    with Server() as own:
        rounds(own, 50)
        descriptors = settled(own)
        memory = own.resident()
        rounds(own, 300)
        assert settled(own) <= descriptors + 1
        assert own.resident() - memory < 8 * 1024 * 1024
        assert own.stats()["buffered"] == 0 and own.stats()["held"] == 0


def test_out_of_descriptors(server):
    """Accepting stops for a while; it neither spins nor dies."""
    with Server(connections=100000) as own:
        import resource
        resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE, (60, 60))
        peers = [http1_test.Peer(own) for _ in range(100)]
        served = peers[0].send(http1_test.request(body=b"x")).answer()
        assert served[2] == b"x"
        for peer in peers:
            peer.sock.close()
        with http1_test.Peer(own) as peer:
            assert peer.send(http1_test.request(body=b"y")).answer()[2] == b"y"
