"""OTLP requests for tests, as JSON objects and as protobuf bytes.  Standard library only."""
import base64, struct, time


# ------------------------------------------------------------- protobuf
def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def bytes_field(number, data): return varint(number << 3 | 2) + varint(len(data)) + data
def int_field(number, n): return varint(number << 3) + varint(n) if n else b""
def fixed64_field(number, n): return varint(number << 3 | 1) + struct.pack("<Q", n)
def fixed32_field(number, n): return varint(number << 3 | 5) + struct.pack("<I", n) if n else b""
def text_field(number, s): return bytes_field(number, s.encode()) if s else b""


def any_value(v):
    """AnyValue of its JSON form"""
    if "stringValue" in v: return bytes_field(1, v["stringValue"].encode())
    if "boolValue" in v: return varint(2 << 3) + varint(v["boolValue"])
    if "intValue" in v: return varint(3 << 3) + varint(int(v["intValue"]))
    if "doubleValue" in v: return varint(4 << 3 | 1) + struct.pack("<d", float(v["doubleValue"]))
    if "arrayValue" in v: return bytes_field(5, b"".join(bytes_field(1, any_value(x)) for x in v["arrayValue"].get("values", [])))
    if "kvlistValue" in v: return bytes_field(6, b"".join(key_value(1, x) for x in v["kvlistValue"].get("values", [])))
    if "bytesValue" in v: return bytes_field(7, base64.b64decode(v["bytesValue"]))
    return b""


def key_value(number, kv): return bytes_field(number, text_field(1, kv["key"]) + bytes_field(2, any_value(kv["value"])))
def key_values(number, l): return b"".join(key_value(number, kv) for kv in l)


def span_bytes(s):
    out = bytes_field(1, bytes.fromhex(s["traceId"])) + bytes_field(2, bytes.fromhex(s["spanId"])) + text_field(3, s.get("traceState", ""))
    if s.get("parentSpanId"): out += bytes_field(4, bytes.fromhex(s["parentSpanId"]))
    out += text_field(5, s.get("name", "")) + int_field(6, s.get("kind", 0)) + fixed64_field(7, int(s["startTimeUnixNano"])) + fixed64_field(8, int(s["endTimeUnixNano"]))
    out += key_values(9, s.get("attributes", [])) + int_field(10, s.get("droppedAttributesCount", 0))
    for e in s.get("events", []):
        out += bytes_field(11, fixed64_field(1, int(e["timeUnixNano"])) + text_field(2, e.get("name", "")) + key_values(3, e.get("attributes", [])) + int_field(4, e.get("droppedAttributesCount", 0)))
    out += int_field(12, s.get("droppedEventsCount", 0))
    for l in s.get("links", []):
        out += bytes_field(13, bytes_field(1, bytes.fromhex(l["traceId"])) + bytes_field(2, bytes.fromhex(l["spanId"])) + text_field(3, l.get("traceState", "")) + key_values(4, l.get("attributes", []))
                           + int_field(5, l.get("droppedAttributesCount", 0)) + fixed32_field(6, l.get("flags", 0)))
    out += int_field(14, s.get("droppedLinksCount", 0))
    status = s.get("status", {})
    if status: out += bytes_field(15, text_field(2, status.get("message", "")) + int_field(3, status.get("code", 0)))
    return out + fixed32_field(16, s.get("flags", 0))


def request_bytes(request):
    """ExportTraceServiceRequest of its JSON form"""
    out = b""
    for rs in request["resourceSpans"]:
        resource = rs.get("resource", {})
        body = bytes_field(1, key_values(1, resource.get("attributes", [])) + int_field(2, resource.get("droppedAttributesCount", 0)))
        for ss in rs["scopeSpans"]:
            scope = ss.get("scope", {})
            inner = bytes_field(1, text_field(1, scope.get("name", "")) + text_field(2, scope.get("version", "")) + key_values(3, scope.get("attributes", [])) + int_field(4, scope.get("droppedAttributesCount", 0)))
            inner += b"".join(bytes_field(2, span_bytes(s)) for s in ss["spans"]) + text_field(3, ss.get("schemaUrl", ""))
            body += bytes_field(2, inner)
        out += bytes_field(1, body + text_field(3, rs.get("schemaUrl", "")))
    return out


# ------------------------------------------------------------- requests
def attribute(key, value):
    if isinstance(value, bool): v = {"boolValue": value}
    elif isinstance(value, int): v = {"intValue": str(value)}
    elif isinstance(value, float): v = {"doubleValue": value}
    elif isinstance(value, bytes): v = {"bytesValue": base64.b64encode(value).decode()}
    elif isinstance(value, list): v = {"arrayValue": {"values": [attribute("", x)["value"] for x in value]}}
    elif isinstance(value, dict): v = {"kvlistValue": {"values": [attribute(k, x) for k, x in value.items()]}}
    else: v = {"stringValue": value}
    return {"key": key, "value": v}


def span(trace, span_id, name="op", start=None, **more):
    start = start or time.time_ns() - 10**9
    return dict({"traceId": trace, "spanId": span_id, "name": name, "kind": 2, "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 5000000)}, **more)


def request(spans, service="tap", scope="test/tap"):
    return {"resourceSpans": [{"resource": {"attributes": [attribute("service.name", service)]}, "scopeSpans": [{"scope": {"name": scope, "version": "1"}, "spans": spans}]}]}


def rich_request(trace):
    """a trace with every kind of field and every type of value"""
    t = time.time_ns() - 60 * 10**9
    every = [attribute("a.string", "grüße 😀"), attribute("a.empty", ""), attribute("a.bool", True), attribute("a.false", False), attribute("a.int", 42), attribute("a.min", -2**63), attribute("a.max", 2**63 - 1),
             attribute("a.double", 0.1), attribute("a.whole", 5.0), attribute("a.tiny", 5e-324), {"key": "a.nan", "value": {"doubleValue": "NaN"}}, {"key": "a.inf", "value": {"doubleValue": "Infinity"}},
             {"key": "a.ninf", "value": {"doubleValue": "-Infinity"}}, attribute("a.bytes", b"\x00\xff\x10"), attribute("a.nobytes", b""), attribute("a.array", ["x", 1, 2.5, True, b"\x01", ["y"], {"k": "v"}]),
             attribute("a.strings", ["a", "b"]), attribute("a.noarray", []), attribute("a.map", {"k": "v", "n": {"deep": [1, 2]}}), attribute("a.nomap", {}), {"key": "a.nothing", "value": {}},
             attribute("a.wrapper", {"$otlp": {"bytesValue": "AA=="}}), attribute("", "empty key")]
    root = span(trace, "00000000000000a1", "root \"quoted\" \\ back", t, kind=2, traceState="v=1,w=2", flags=0x101, attributes=every, droppedAttributesCount=3, droppedEventsCount=4, droppedLinksCount=5,
                status={"code": 2, "message": "it broke"}, events=[{"timeUnixNano": str(t + 1000), "name": "e1", "attributes": every, "droppedAttributesCount": 1}, {"timeUnixNano": str(t), "name": ""}],
                links=[{"traceId": "f" * 32, "spanId": "e" * 16, "traceState": "l=1", "attributes": every, "droppedAttributesCount": 2, "flags": 0x300}])
    child = span(trace, "00000000000000a2", "child", t + 1000000, kind=3, parentSpanId="00000000000000a1", status={"code": 1})
    other = span(trace, "00000000000000a3", "", t + 2000000, kind=17, parentSpanId="00000000000000a2", status={"code": 7, "message": "seven"})
    none = span(trace, "00000000000000a4", "no resource", t + 3000000, kind=0, parentSpanId="00000000000000a9")
    return {"resourceSpans": [
        {"resource": {"attributes": [attribute("service.name", "rich")] + every, "droppedAttributesCount": 6}, "schemaUrl": "https://example.org/resource",
         "scopeSpans": [{"scope": {"name": "s1", "version": "1.0", "attributes": every, "droppedAttributesCount": 7}, "schemaUrl": "https://example.org/scope", "spans": [root, child]}, {"spans": [other]}]},
        {"scopeSpans": [{"spans": [none]}]}]}


# ----------------------------------------------------------------- answers
KINDS = ["SPAN_KIND_" + k for k in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")]
CODES = ["STATUS_CODE_" + k for k in ("UNSET", "OK", "ERROR")]
IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def canonical(x, key=""):
    """one form for every way of writing OTLP/JSON: no defaults, ids in hex, enums as numbers; the order of attributes stays"""
    if isinstance(x, list): return [canonical(v) for v in x]
    if not isinstance(x, dict): return x
    out = {}
    for k, v in x.items():
        if k in IDS and isinstance(v, str) and len(v) != IDS[k]: v = base64.b64decode(v).hex()
        if k == "kind" and isinstance(v, str): v = KINDS.index(v)
        if k == "code" and isinstance(v, str): v = CODES.index(v)
        if k == "intValue": v = str(v)
        if k == "doubleValue": v = repr(float(v))
        if k == "key" and v == "": continue
        if k == "key" or k.endswith("Value"):
            out[k] = canonical(v, k)
            continue
        v = canonical(v, k)
        if v not in ("", 0, None, []) and (v != {} or k == "value"): out[k] = v
    return out


def flatten(resource_spans):
    """sorted (resource, scope, span) of an OTLP trace: their grouping is free"""
    flat = []
    for rs in resource_spans:
        for ss in rs.get("scopeSpans", []):
            for s in ss["spans"]:
                flat.append(canonical({"resource": rs.get("resource", {}), "resourceSchemaUrl": rs.get("schemaUrl"), "scope": ss.get("scope", {}), "scopeSchemaUrl": ss.get("schemaUrl"), "span": s}))
    return sorted(flat, key=lambda r: r["span"]["spanId"])
