"""HTTP/2 on a raw socket, as little as a test needs; sends what it is told, legal or not."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
DEADLINE = 120

STATIC = [None] + [tuple(pair.split("=", 1)) for pair in (
    ":authority=|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|"
    ":status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset=|"
    "accept-encoding=gzip, deflate|accept-language=|accept-ranges=|accept=|access-control-allow-origin=|age=|"
    "allow=|authorization=|cache-control=|content-disposition=|content-encoding=|content-language=|"
    "content-length=|content-location=|content-range=|content-type=|cookie=|date=|etag=|expect=|expires=|from=|"
    "host=|if-match=|if-modified-since=|if-none-match=|if-range=|if-unmodified-since=|last-modified=|link=|"
    "location=|max-forwards=|proxy-authenticate=|proxy-authorization=|range=|referer=|refresh=|retry-after=|"
    "server=|set-cookie=|strict-transport-security=|transfer-encoding=|user-agent=|vary=|via=|"
    "www-authenticate=").split("|")]


def _span(text):
    out = []
    for item in text.split():
        first, _, last = item.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


# The code is canonical: lengths alone give it.
_LENGTHS = {
    5: "48-50 97 99 101 105 111 115 116", 6: "32 37 45-47 51-57 61 65 95 98 100 102-104 108-110 112 114 117",
    7: "58 66-87 89 106 107 113 118-122", 8: "38 42 44 59 88 90", 10: "33 34 40 41 63", 11: "39 43 124",
    12: "35 62", 13: "0 36 64 91 93 126", 14: "94 125", 15: "60 96 123", 19: "92 195 208",
    20: "128 130 131 162 184 194 224 226", 21: "153 161 167 172 176 177 179 209 216 217 227 229 230",
    22: "129 132-134 136 146 154 156 160 163 164 169 170 173 178 181 185-187 189 190 196 198 228 232 233"}


def _huffman():
    table, code, last = {}, 0, 5
    for length in sorted(_LENGTHS):
        code <<= length - last
        last = length
        for symbol in _span(_LENGTHS[length]):
            table[length, code] = symbol
            code += 1
    return table


_HUFFMAN = _huffman()


def huffman_decode(data):
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            symbol = _HUFFMAN.get((length, code))
            if symbol is not None:
                out.append(symbol)
                code = length = 0
    return bytes(out)


class Decoder:
    """HPACK, the receiving side."""

    def __init__(self):
        self.dynamic = []

    def _int(self, data, at, bits):
        value, mask = data[at] & (1 << bits) - 1, (1 << bits) - 1
        at += 1
        if value == mask:
            shift = 0
            while True:
                value += (data[at] & 127) << shift
                shift += 7
                at += 1
                if not data[at - 1] & 128:
                    break
        return value, at

    def _string(self, data, at):
        huffman = data[at] & 128
        length, at = self._int(data, at, 7)
        raw = data[at:at + length]
        return (huffman_decode(raw) if huffman else raw).decode("latin-1"), at + length

    def _entry(self, index):
        return STATIC[index] if index < len(STATIC) else self.dynamic[index - len(STATIC)]

    def decode(self, data):
        out, at = [], 0
        while at < len(data):
            byte = data[at]
            if byte & 128:
                index, at = self._int(data, at, 7)
                out.append(self._entry(index))
                continue
            if byte & 0xE0 == 0x20:
                _, at = self._int(data, at, 5)
                continue
            store = byte & 64
            index, at = self._int(data, at, 6 if store else 4)
            if index:
                name = self._entry(index)[0]
            else:
                name, at = self._string(data, at)
            value, at = self._string(data, at)
            out.append((name, value))
            if store:
                self.dynamic.insert(0, (name, value))
        return out


def _length(n):
    if n < 127:
        return bytes([n])
    out, n = bytearray([127]), n - 127
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode(fields):
    """Literals without indexing and without Huffman: always legal."""
    out = b""
    for name, value in fields:
        name = name if isinstance(name, bytes) else name.encode()
        value = value if isinstance(value, bytes) else value.encode()
        out += b"\0" + _length(len(name)) + name + _length(len(value)) + value
    return out


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def grpc_headers(path="/test.Echo/Echo", method="POST", content_type="application/grpc", extra=()):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test"), ("te", "trailers")]
    if content_type is not None:
        fields.append(("content-type", content_type))
    return fields + list(extra)


def message(data, flag=0):
    return struct.pack(">BI", flag, len(data)) + data


class Stream:
    def __init__(self):
        self.blocks = []          # header lists, in order
        self.ends = []            # END_STREAM on each of them
        self.data = bytearray()
        self.ended = False
        self.reset = None

    def header(self, name, block=0):
        return dict(self.blocks[block]).get(name) if len(self.blocks) > block else None

    @property
    def status(self):
        """grpc-status, wherever it came"""
        for block in self.blocks:
            if "grpc-status" in dict(block):
                return int(dict(block)["grpc-status"])
        return None

    @property
    def trailers_only(self):
        return len(self.blocks) == 1 and self.ends == [True] and self.status is not None


class Connection:
    def __init__(self, port, settings=(), start=True, sock=None):
        self.sock = sock or socket.create_connection(("localhost", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = Decoder()
        self.streams = {}
        self.goaways = []
        self.farewell = b""           # debug data of the last GOAWAY
        self.pings = []
        self.closed = False
        self.settings = None
        self.pending = b""
        self.next_id = 1
        self.window_updates = 0
        self.window = 65535           # of the connection
        self.stream_windows = {}
        self.initial_window = 65535
        if start:
            self.send(PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *s) for s in settings)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def stream(self, number):
        return self.streams.setdefault(number, Stream())

    def open(self, fields, end=False):
        number, self.next_id = self.next_id, self.next_id + 2
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), number, encode(fields)))
        return number

    def room(self, number):
        return min(self.window, self.initial_window + self.stream_windows.get(number, 0))

    def data(self, number, data, end=False, size=16384):
        pieces = [data[i:i + size] for i in range(0, len(data), size)] or [b""]
        for i, piece in enumerate(pieces):
            while self.room(number) < len(piece):
                seen = self.window_updates, self.settings
                self.pump(lambda: seen != (self.window_updates, self.settings) or self.stream(number).reset is not None
                          or self.stream(number).ended)
                if self.stream(number).reset is not None or self.stream(number).ended or self.closed:
                    return
            self.window -= len(piece)
            self.stream_windows[number] = self.stream_windows.get(number, 0) - len(piece)
            self.send(frame(DATA, END_STREAM if end and i == len(pieces) - 1 else 0, number, piece))

    def call(self, body=message(b"hi"), **kwargs):
        number = self.open(grpc_headers(**kwargs), end=body is None)
        if body is not None:
            self.data(number, body, end=True)
        return self.wait(number)

    def _handle(self, kind, flags, number, payload):
        if kind == HEADERS:
            stream = self.stream(number)
            stream.blocks.append(self.decoder.decode(payload))
            stream.ends.append(bool(flags & END_STREAM))
            stream.ended |= bool(flags & END_STREAM)
        elif kind == DATA:
            stream = self.stream(number)
            stream.data += payload
            stream.ended |= bool(flags & END_STREAM)
            if payload:
                self.send(frame(WINDOW, 0, 0, struct.pack(">I", len(payload))))
                if not stream.ended:
                    self.send(frame(WINDOW, 0, number, struct.pack(">I", len(payload))))
        elif kind == RST:
            self.stream(number).reset = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">II", payload[:8]))
            self.farewell = payload[8:] or self.farewell
        elif kind == PING:
            if flags & ACK:
                self.pings.append(payload)
            else:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self.settings = {k: v for k, v in struct.iter_unpack(">HI", payload)}
            self.initial_window = self.settings.get(4, 65535)
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == WINDOW:
            self.window_updates += 1
            if number == 0:
                self.window += int.from_bytes(payload, "big")
            else:
                self.stream_windows[number] = self.stream_windows.get(number, 0) + int.from_bytes(payload, "big")

    def pump(self, done, deadline=DEADLINE):
        """Reads frames until done() or the end of the connection."""
        until = time.monotonic() + deadline
        while not done() and not self.closed:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing happened in time")
            self.sock.settimeout(left)
            try:
                got = self.sock.recv(65536)
            except ConnectionError:
                got = b""
            if not got:
                self.closed = True
                break
            self.pending += got
            while len(self.pending) >= 9:
                length = int.from_bytes(self.pending[:3], "big")
                if len(self.pending) < 9 + length:
                    break
                kind, flags, number = self.pending[3], self.pending[4], int.from_bytes(self.pending[5:9], "big")
                payload, self.pending = self.pending[9:9 + length], self.pending[9 + length:]
                try:
                    self._handle(kind, flags, number, payload)
                except ConnectionError:
                    pass
        return self

    def wait(self, number):
        stream = self.stream(number)
        self.pump(lambda: stream.ended or stream.reset is not None)
        return stream

    def wait_goaway(self):
        self.pump(lambda: bool(self.goaways))
        return self.goaways[0][1] if self.goaways else None
