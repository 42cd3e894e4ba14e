"""Every field and every type of an OTLP span comes back as it was sent: order and duplicates of attribute keys, unknown kinds, NaN, empty values."""
import json
import cluster, otlp, tap


def differences(got, want, path=""):
    if isinstance(got, dict) and isinstance(want, dict): return [d for k in sorted(set(got) | set(want)) for d in differences(got.get(k), want.get(k), path + "." + k)]
    if isinstance(got, list) and isinstance(want, list) and len(got) == len(want): return [d for n, (g, w) in enumerate(zip(got, want)) for d in differences(g, w, "%s[%d]" % (path, n))]
    return [] if got == want else ["%s: got %.300s, want %.300s" % (path, json.dumps(got, ensure_ascii=False), json.dumps(want, ensure_ascii=False))]


def ordered(x):
    """tempo.trace_json() has attributes in the order of jsonb: short keys first, equal ones as sent"""
    if isinstance(x, dict): return {k: ordered(v) for k, v in x.items()}
    if not isinstance(x, list): return x
    x = [ordered(v) for v in x]
    if not all(isinstance(v, dict) and set(v) <= {"key", "value"} and "value" in v for v in x): return x
    return sorted(x, key=lambda v: (len(v.get("key", "").encode()), v.get("key", "").encode()))


def test():
    node = cluster.Cluster("roundtrip")
    node.start()
    node.create_extension()

    def check(trace, request, how):
        want = otlp.flatten(request["resourceSpans"])
        def same(got, what, want=want):
            got = otlp.flatten(got)
            if tap.ok(got == want, "%s: %s" % (how, what)): return
            tap.note("\n".join(differences(got, want)[:5]))
        def everywhere(when):
            same(json.loads(node.sql("SELECT tempo.trace_json('%s')" % trace))["resourceSpans"], "tempo.trace_json" + when, ordered(want))
            same(json.loads(node.get("/api/traces/" + trace)[2])["batches"], "/api/traces" + when)
            same(json.loads(node.get("/api/v2/traces/" + trace)[2])["trace"]["resourceSpans"], "/api/v2/traces" + when)
        everywhere("")
        node.sql("SELECT tempo.compact()")
        everywhere(" behind compaction")

    def order(trace):
        r = otlp.rich_request(trace)
        root = r["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        root["attributes"] += [otlp.attribute("a.int", "again, as text"), otlp.attribute("a.int", 43)]
        root["events"][0]["attributes"] = list(reversed(root["attributes"]))
        return r

    for n, (how, send) in enumerate((("JSON", lambda r: node.export_json(r)[0] == 200), ("protobuf", lambda r: node.export_protobuf(otlp.request_bytes(r))[0] == 200),
                                     ("gRPC", lambda r: node.export_grpc(otlp.request_bytes(r))[0] == 0))):
        trace = "%032x" % (n + 1)
        request = order(trace)
        tap.ok(send(request), "%s: accepted" % how)
        check(trace, request, how)

    # a second half of a trace that comes later
    late = otlp.request([otlp.span("1".zfill(32), "00000000000000b1", "late", parentSpanId="00000000000000a1")], "late")
    tap.equal(node.export_json(late)[0], 200, "the rest of a trace comes later")
    status, headers, body = node.get("/api/traces/" + "1".zfill(32))
    tap.equal(len(otlp.flatten(json.loads(body)["batches"])), 5, "the trace has both parts")

    # text that PostgreSQL cannot hold
    bad = otlp.request_bytes(otlp.request([otlp.span("f" * 32, "f" * 16, "nul: \0 end", attributes=[otlp.attribute("k\0", "v\0")])])).replace(b"nul: ", b"\xff\xfe\xfd: ")
    tap.equal(node.export_protobuf(bad)[0], 200, "NUL and invalid UTF-8 are accepted")
    tap.equal(node.sql("SELECT name || '|' || (attributes ->> E'k\\uFFFD') FROM tempo.spans WHERE trace_id = '%s'" % ("f" * 32)), "\ufffd\ufffd\ufffd: \ufffd end|v\ufffd", "and read as U+FFFD") or tap.note(
        node.sql("SELECT name, attributes FROM tempo.spans WHERE trace_id = '%s'" % ("f" * 32)))


tap.main(test)
