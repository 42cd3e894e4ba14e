"""Parts of a trace: filters, the largest size, the format for language models."""
import base64, json
import cluster, tap

ID = "00000000000000000000000000000abc"
PATH = "/api/v2/traces/abc"
FILTERED = "Trace filtered, only a subset of spans matching the filter is returned"


def tree(node):
    """1 is the root of 2 to 6, a chain; 7 and 8 hang below 2; 9 has a parent that is not there"""
    parents = {1: None, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 2, 8: 2, 9: 99}
    for i, parent in parents.items():
        node.sql("""INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes, scope_name, events, links)
            VALUES ('%s', '%016x', %s, 'n%d', 'client', 'error', 1700000000000000000 + %d, 1500000, '{"i": %d, "text": "<a>", "list": [1, "x"], "map": {"k": true}, "half": 0.5}', '{"service.name": "s", "host": "h"}', 'lib',
                    '[{"name": "e", "time_unix_nano": 1700000000000000001, "attributes": {"ea": 1}}]', '[]')"""
                 % (ID, i, "NULL" if parent is None else "'%016x'" % parent, i, i, i))


def spans(answer):
    return sorted(int(base64.b64decode(s["spanId"]).hex(), 16) for g in json.loads(answer[2])["trace"].get("resourceSpans", []) for c in g["scopeSpans"] for s in c["spans"])


def filters(node):
    def part(q, more=""):
        answer = node.get(PATH + "?q=" + q.replace(" ", "%20").replace("&", "%26") + more)
        if answer[0] != 200: return answer[0], answer[2].decode()
        whole = json.loads(answer[2])
        return spans(answer), whole.get("status"), whole.get("message") == FILTERED
    partial = ("PARTIAL", True)
    tap.equal(part("{ span.i = 4 }"), ([4],) + partial, "the spans that match")
    tap.equal(part("{ name = \"n4\" || .i > 8 }"), ([4, 9],) + partial, "by a condition with more to it")
    tap.equal(part("{}"), (list(range(1, 10)),) + partial, "all of them by an empty filter")
    tap.equal(part("{ event.ea = 1 && span.i < 3 }"), ([1, 2],) + partial, "by their events")
    tap.equal(part("{ span.i = 77 }"), ([],) + partial, "or none")
    tap.equal(part("{ span.i = 4 }", "&keep_hierarchy=true"), ([1, 2, 3, 4],) + partial, "with all above")
    tap.equal(part("{ span.i = 4 }", "&keep_hierarchy=true&ancestor_depth=1"), ([3, 4],) + partial, "or one level")
    tap.equal(part("{ span.i = 4 }", "&ancestor_depth=1"), ([4],) + partial, "which needs keep_hierarchy")
    tap.equal(part("{ span.i = 2 }", "&match_depth=1"), ([2, 3, 7, 8],) + partial, "with a level below")
    tap.equal(part("{ span.i = 2 }", "&match_depth=-1"), ([2, 3, 4, 5, 6, 7, 8],) + partial, "with all below")
    tap.equal(part("{ span.i = 5 || span.i = 2 }", "&match_depth=2&keep_hierarchy=1&ancestor_depth=1"), ([1, 2, 3, 4, 5, 6, 7, 8],) + partial, "and both, around several")
    tap.equal(part("{ span.i = 9 }", "&keep_hierarchy=true&match_depth=-1"), ([9],) + partial, "around one that stands alone")
    tap.equal(part("{ span.i = 4 } with (most_recent = true)"), ([4],) + partial, "with a hint")
    for q in ("{ span.i = }", "{} | count() > 1", "{} >> {}", "{} | rate()", "{ trace:duration > 1s }", "{ rootName = \"x\" }"):
        status, text = part(q)[:2]
        tap.ok(status == 400 and text.startswith("invalid TraceQL filter: "), "no filter: " + q, status, text)
    tap.equal(part("{}", "&match_depth=-2"), (400, "invalid value for match_depth: must be >= -1"), "a depth that is none")
    tap.equal(part("{}", "&ancestor_depth=x"), (400, "invalid value for ancestor_depth: x"), "nor this")
    tap.equal(node.get("/api/v2/traces/def?q=%7B%7D")[2], b'{"trace":{},"metrics":{}}', "of a trace that is not there there is no part")


def llm(node):
    status, headers, body = node.http("GET", node.http_port, PATH, headers={"Accept": "application/vnd.grafana.llm"})
    got = json.loads(body)
    tap.equal((status, headers.get("content-type")), (200, "application/vnd.grafana.llm+json"), "the format for language models")
    service = got["trace"]["services"][0]
    tap.equal((got["trace"]["traceId"], service["serviceName"], service["resource"], service["scopes"][0]["name"], len(service["scopes"][0]["spans"])), (ID, "s", {"host": "h"}, "lib", 9), "has services and scopes")
    tap.equal(service["scopes"][0]["spans"][1],
              {"spanId": "0000000000000002", "parentSpanId": "0000000000000001", "name": "n2", "kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": "1700000000000000002", "endTimeUnixNano": "1700000000001500002", "durationMs": 1.5,
               "attributes": {"i": 2, "text": "<a>", "list": [1, "x"], "map": {"k": True}, "half": 0.5}, "events": [{"name": "e", "timeUnixNano": "1700000000000000001", "attributes": {"ea": 1}}],
               "status": {"code": "STATUS_CODE_ERROR", "message": ""}}, "and spans")
    tap.ok("parentSpanId" not in service["scopes"][0]["spans"][0], "a root has no parent")
    tap.ok(got["metrics"]["inspectedBytes"] > 9 * 100, "and a size", got["metrics"])
    tap.equal(json.loads(node.http("GET", node.http_port, "/api/v2/traces/def", headers={"Accept": "application/vnd.grafana.llm"})[2])["trace"], {}, "an empty trace")


def size(node):
    whole = node.http("GET", node.http_port, PATH, headers={"Accept": "application/protobuf"})[2]
    reported = json.loads(node.http("GET", node.http_port, PATH, headers={"Accept": "application/vnd.grafana.llm"})[2])["metrics"]["inspectedBytes"]
    tap.ok(0.95 * len(whole) < reported < 1.15 * len(whole), "the size is about that of the protobuf form", reported, len(whole))
    node.configure(**{"tempo_pg.max_bytes_per_trace": reported // 2})
    node.reload()
    cluster.poll("the limit", lambda: node.get("/api/traces/abc")[0] != 200)
    tap.equal(node.get("/api/traces/abc")[::2], (422, b"trace exceeds max size (max bytes: %d)" % (reported // 2)), "v1 refuses what is too large")
    answer = node.get(PATH)
    some = spans(answer)
    tap.ok(1 < len(some) < 9 and some == list(range(1, len(some) + 1)), "v2 has the first spans", some)
    message = "Trace exceeds maximum size of %d bytes, a partial trace is returned" % (reported // 2)
    tap.equal((json.loads(answer[2])["status"], json.loads(answer[2])["message"]), ("PARTIAL", message), "and says so")
    proto = node.http("GET", node.http_port, PATH, headers={"Accept": "application/protobuf"})[2]
    tap.ok(proto.endswith(b"\x12\x00\x18\x01\x22" + bytes([len(message)]) + message.encode()), "in protobuf, too", proto[-120:])
    tap.ok(len(proto) <= reported // 2 + 150, "what is answered keeps to the limit", len(proto))
    both = json.loads(node.get(PATH + "?q=%7B%7D")[2])
    tap.equal(both["message"], FILTERED + "; " + message, "several reasons are joined")
    proto = node.http("GET", node.http_port, PATH + "?q=%7B%7D", headers={"Accept": "application/protobuf"})[2]
    text = (FILTERED + "; " + message).encode()
    tap.ok(proto.endswith(b"\x22" + bytes([len(text) & 127 | 128, len(text) >> 7]) + text), "however long they are", proto[-200:])
    tap.equal((node.get(PATH + "?q=%7B%20span.i%20%3D%201%20%7D")[0], json.loads(node.get(PATH + "?q=%7B%20span.i%20%3D%201%20%7D")[2])["message"]), (200, FILTERED), "a part that fits is not cut")
    node.configure(**{"tempo_pg.max_bytes_per_trace": "1"})
    node.reload()
    cluster.poll("nothing fits", lambda: spans(node.get(PATH)) == [])
    node.configure(**{"tempo_pg.max_bytes_per_trace": "0"})
    node.reload()
    cluster.poll("no limit", lambda: spans(node.get(PATH)) == list(range(1, 10)))
    tap.ok(True, "0 is no limit")


def test():
    node = cluster.Cluster("parts")
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    cluster.poll("an API answer", lambda: node.get("/ready")[0] == 200)
    tree(node)
    filters(node)
    llm(node)
    size(node)
    tap.equal([l for l in node.log_text().splitlines() if "PANIC" in l or "TRAP" in l or "tempo_pg could not answer" in l], [], "nothing went wrong")


tap.main(test)
