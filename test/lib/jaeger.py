"""Jaeger's formats, built from the same description of a batch: Thrift (binary and compact), protobuf, and the JSON of its query API.

A batch is {"service", "tags", "spans"}; a span {"trace" (16 bytes), "id" (int), "parent", "name", "refs", "flags", "start" (microseconds), "duration", "tags", "logs"};
a tag (key, value) with a str, bool, int, float or bytes; a reference (type, trace, id); a log (microseconds, tags).
"""
import base64, struct

STOP, BOOL, DOUBLE, I32, I64, STRING, STRUCT, LIST = 0, 2, 4, 8, 10, 11, 12, 15
COMPACT = {BOOL: 1, DOUBLE: 7, I32: 5, I64: 6, STRING: 8, STRUCT: 12, LIST: 9}


def varint(n):
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def zigzag(n): return varint(((n << 1) ^ (n >> 63)) & (1 << 64) - 1)


def signed(n): return n - (1 << 64) if n >= 1 << 63 else n


class Binary:
    def value(self, kind, v):
        if kind == BOOL: return bytes([v])
        if kind == DOUBLE: return struct.pack(">d", v)
        if kind == I32: return struct.pack(">i", v)
        if kind == I64: return struct.pack(">q", signed(v))
        if kind == STRING: return struct.pack(">i", len(v)) + v
        if kind == STRUCT: return self.struct(v)
        return bytes([STRUCT]) + struct.pack(">i", len(v)) + b"".join(self.struct(x) for x in v)

    def struct(self, fields): return b"".join(bytes([k]) + struct.pack(">h", n) + self.value(k, v) for n, k, v in fields) + b"\0"

    def message(self, name, kind=4): return struct.pack(">I", 0x80010000 | kind) + self.value(STRING, name) + struct.pack(">i", 1)


class Compact:
    def value(self, kind, v):
        if kind == DOUBLE: return struct.pack("<d", v)
        if kind in (I32, I64): return zigzag(signed(v))
        if kind == STRING: return varint(len(v)) + v
        if kind == STRUCT: return self.struct(v)
        return (bytes([len(v) << 4 | 12]) if len(v) < 15 else b"\xfc" + varint(len(v))) + b"".join(self.struct(x) for x in v)

    def struct(self, fields):
        out, last = b"", 0
        for n, k, v in fields:
            t = (1 if v else 2) if k == BOOL else COMPACT[k]
            out += bytes([(n - last) << 4 | t]) if 0 < n - last < 16 else bytes([t]) + zigzag(n)
            if k != BOOL: out += self.value(k, v)
            last = n
        return out + b"\0"

    def message(self, name, kind=4): return bytes([0x82, kind << 5 | 1]) + varint(1) + self.value(STRING, name)


def text(v): return v.encode() if isinstance(v, str) else v


def tag(key, v, crowded=False):
    """crowded: all members set, as the clients for Node and Ruby do"""
    kind = {str: 0, float: 1, bool: 2, int: 3, bytes: 4}[type(v)]
    fields = [(1, STRING, text(key)), (2, I32, kind)]
    for n, (member, k, zero) in enumerate(((str, STRING, b""), (float, DOUBLE, 0.0), (bool, BOOL, False), (int, I64, 0), (bytes, STRING, b""))):
        if type(v) is member: fields.append((3 + n, k, text(v)))
        elif crowded: fields.append((3 + n, k, zero))
    return fields


def high(t): return int.from_bytes(t[:8], "big")
def low(t): return int.from_bytes(t[8:], "big")


def batch_fields(b, crowded=False, process_last=False):
    def tags(l): return [tag(k, v, crowded) for k, v in l]

    def span(s):
        return [(1, I64, low(s["trace"])), (2, I64, high(s["trace"])), (3, I64, s["id"]), (4, I64, s.get("parent", 0)), (5, STRING, text(s.get("name", "op"))),
                (6, LIST, [[(1, I32, k), (2, I64, low(t)), (3, I64, high(t)), (4, I64, i)] for k, t, i in s.get("refs", [])]), (7, I32, s.get("flags", 1)), (8, I64, s.get("start", 1)), (9, I64, s.get("duration", 1)),
                (10, LIST, tags(s.get("tags", []))), (11, LIST, [[(1, I64, t), (2, LIST, tags(f))] for t, f in s.get("logs", [])])]
    fields = [(1, STRUCT, [(1, STRING, text(b.get("service", "a"))), (2, LIST, tags(b.get("tags", [])))]), (2, LIST, [span(s) for s in b["spans"]])]
    return fields[::-1] if process_last else fields


def thrift(b, **more): return Binary().struct(batch_fields(b, **more))


def datagram(b, compact, name=b"emitBatch", **more):
    p = Compact() if compact else Binary()
    return p.message(name) + p.struct([(1, STRUCT, batch_fields(b, **more))])


# ------------------------------------------------------------------ protobuf
def field(n, v):
    if isinstance(v, (bytes, str)): return varint(n << 3 | 2) + varint(len(text(v))) + text(v)
    if isinstance(v, float): return varint(n << 3 | 1) + struct.pack("<d", v)
    return varint(n << 3) + varint(int(v) & (1 << 64) - 1)


def proto(b):
    def kv(k, v): return field(1, k) + field(2, {str: 0, bool: 1, int: 2, float: 3, bytes: 4}[type(v)]) + field({str: 3, bool: 4, int: 5, float: 6, bytes: 7}[type(v)], v)
    def time(us): return field(1, us // 1000000) + field(2, us % 1000000 * 1000)
    def eight(n): return n if isinstance(n, bytes) else n.to_bytes(8, "big")

    def span(s):
        refs = list(s.get("refs", []))
        if s.get("parent"): refs.insert(0, (0, s["trace"], s["parent"]))
        out = field(1, s["trace"]) + field(2, eight(s["id"])) + field(3, s.get("name", "op"))
        for k, t, i in refs: out += field(4, field(1, t) + field(2, eight(i)) + field(3, k))
        out += field(5, s.get("flags", 1)) + field(6, time(s.get("start", 1))) + field(7, time(s.get("duration", 1)))
        for k, v in s.get("tags", []): out += field(8, kv(k, v))
        for t, f in s.get("logs", []): out += field(9, field(1, time(t)) + b"".join(field(2, kv(k, v)) for k, v in f))
        if "process" in s: out += field(10, field(1, s["process"]))
        for w in s.get("warnings", []): out += field(12, w)
        return out
    return field(1, b"".join(field(1, span(s)) for s in b["spans"]) + field(2, field(1, b.get("service", "a")) + b"".join(field(2, kv(k, v)) for k, v in b.get("tags", []))))


# ---------------------------------------------------------------------- JSON
def query_json(b):
    names = {str: "string", bool: "bool", int: "int64", float: "float64", bytes: "binary"}
    def tags(l): return [{"key": k, "type": names[type(v)], "value": base64.b64encode(v).decode() if isinstance(v, bytes) else v} for k, v in l]

    def span(s):
        refs = [("CHILD_OF", s["trace"], s["parent"])] if s.get("parent") else []
        refs += [(("CHILD_OF", "FOLLOWS_FROM")[k], t, i) for k, t, i in s.get("refs", [])]
        return {"traceID": s["trace"].hex().lstrip("0"), "spanID": "%016x" % s["id"], "flags": s.get("flags", 1), "operationName": s.get("name", "op"), "references": [{"refType": k, "traceID": t.hex(), "spanID": "%016x" % i} for k, t, i in refs],
                "startTime": s.get("start", 1), "duration": s.get("duration", 1), "tags": tags(s.get("tags", [])), "logs": [{"timestamp": t, "fields": tags(f)} for t, f in s.get("logs", [])], "processID": "p1", "warnings": s.get("warnings")}
    return {"data": [{"traceID": b["spans"][0]["trace"].hex(), "spans": [span(s) for s in b["spans"]], "processes": {"p1": {"serviceName": b.get("service", "a"), "tags": tags(b.get("tags", []))}}, "warnings": None}], "total": 0, "limit": 0, "offset": 0, "errors": None}
