"""Who may ask and send: passwords and tokens of roles, their privileges and row policies, guessing, pages of other origins."""
import base64, concurrent.futures, http.client, json, os, signal, socket, subprocess, time
import cluster, otlp, tap

node = cluster.Cluster("auth", **{"tempo_pg.zipkin_port": cluster.free_ports(1)[0], "tempo_pg.multitenancy": "on", "tempo_pg.query_workers": 2})
SEARCH = "/api/search?q=%7B%7D&limit=100"
ROLES = """
CREATE ROLE reader LOGIN PASSWORD 'r:ä€ 1' IN ROLE tempo_reader;
CREATE ROLE writer LOGIN PASSWORD 'w' IN ROLE tempo_writer;
CREATE ROLE nobody LOGIN PASSWORD 'n';
CREATE ROLE nologin NOLOGIN PASSWORD 'x' IN ROLE tempo_reader;
CREATE ROLE passwordless LOGIN IN ROLE tempo_reader;
CREATE ROLE late LOGIN PASSWORD 'l' VALID UNTIL '2020-01-01' IN ROLE tempo_reader;
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'm' IN ROLE tempo_reader;
"""


def basic(role, password): return "Basic " + base64.b64encode(("%s:%s" % (role, password)).encode()).decode()


def get(path, who=None, tenant="one", **headers):
    if who: headers["Authorization"] = who
    if tenant: headers["X-Scope-OrgID"] = tenant
    return node.http("GET", node.http_port, path, headers=headers)


def post(who, trace, tenant="one", spans=1, name="op"):
    body = otlp.request_bytes(otlp.request([otlp.span("%032x" % trace, "%016x" % (i + 1), name=name) for i in range(spans)]))
    return node.http("POST", node.otlp_port, "/v1/traces", body, {"Content-Type": "application/x-protobuf", "X-Scope-OrgID": tenant, **({"Authorization": who} if who else {})})


def grpc(port, path, message, who=None, tenant="one"):
    """-> grpc-status, grpc-message"""
    r = subprocess.run(["curl", "-s", "--noproxy", "*", "-m", "120", "--http2-prior-knowledge", "-o", "/dev/null", "-D", "-", "--data-binary", "@-", "-H", "Content-Type: application/grpc", "-H", "TE: trailers",
                        "-H", "X-Scope-OrgID: " + tenant, *(["-H", "Authorization: " + who] if who else []), "http://127.0.0.1:%d/%s" % (port, path)], input=b"\0" + len(message).to_bytes(4, "big") + message, capture_output=True)
    fields = dict(line.partition(":")[::2] for line in r.stdout.decode().splitlines() if ":" in line)
    return int(fields.get("grpc-status", -1)), fields.get("grpc-message", "").strip()


def traces(answer): return sorted(int(t["traceID"], 16) for t in json.loads(answer[2])["traces"])


def until(value, function):
    """polls: settings take a moment, and so does forgetting failures"""
    return cluster.poll(str(value), lambda: (lambda got: got if got[0] == value else None)(function()))


def set_and_reload(**settings):
    node.configure(**{"tempo_pg." + k: v for k, v in settings.items()})
    node.reload()


def passwords(reader):
    set_and_reload(authentication="basic")
    got = until(401, lambda: get(SEARCH))
    tap.equal((got[2], got[1].get("www-authenticate")), (b"credentials are needed", 'Basic realm="tempo_pg", charset="UTF-8"'), "without credentials: 401 and what is wanted")
    tap.equal([get(p)[0] for p in ("/api/echo", "/api/status/buildinfo", "/nonsense", "/api/traces/1")], [401] * 4, "for everything")
    tap.equal([get(p, tenant=None)[0] for p in ("/ready", "/metrics")], [200] * 2, "but /ready and /metrics")
    tap.equal((get(SEARCH, reader)[0], traces(get(SEARCH, reader))), (200, [1]), "a password (with a colon and more than ASCII)")
    tap.equal([get(p, reader)[0] for p in ("/api/echo", "/api/status/buildinfo", "/nonsense")], [200, 200, 404], "opens the rest")
    tap.equal(get(SEARCH, basic("old", "m"))[0], 200, "also one that is kept as MD5")
    bad = {"another password": basic("reader", "x"), "an empty one": basic("reader", ""), "none there is": basic("passwordless", ""), "no such role": basic("nosuch", "x"), "a role that may not log in": basic("nologin", "x"),
           "one that has expired": basic("late", "l"), "no base64": "Basic !!!", "no colon": "Basic " + base64.b64encode(b"reader").decode(), "a NUL": "Basic " + base64.b64encode(b"reader\0:r:").decode(),
           "too long": basic("reader", "x" * 3000), "another scheme": "Digest x", "a token, where none are taken": "Bearer x", "nothing": "Basic "}
    for what, who in bad.items():
        got = cluster.poll("no throttling", lambda: (lambda r: r if r[0] != 429 else None)(get(SEARCH, who)))
        tap.equal((got[0], got[2] in (b"authentication failed", b"credentials are needed")), (401, True), what)
    node.sql("ALTER ROLE reader PASSWORD 'new'")
    tap.equal(until(401, lambda: get(SEARCH, reader))[0], 401, "a password that was changed no longer opens")
    tap.equal(until(200, lambda: get(SEARCH, basic("reader", "new")))[0], 200, "the new one does at once")
    node.sql("ALTER ROLE reader NOLOGIN")
    tap.equal(get(SEARCH, basic("reader", "new"))[0], 401, "not of a role that may log in no more")
    node.sql("ALTER ROLE reader LOGIN")
    tap.ok('Role "nosuch" does not exist.' in node.log_text() and "r:ä€" not in node.log_text(), "the log says why, but no password")


def privileges(writer, nobody):
    tap.equal(until(403, lambda: get(SEARCH, nobody))[0], 403, "who may not SELECT is told so")
    tap.equal(until(403, lambda: get("/api/traces/1", nobody))[0], 403, "for traces, too")
    tap.ok(get("/api/v2/search/tags", nobody)[0] == 403 and b"single" not in get("/api/v2/search/tags", nobody)[2], "and for tags")
    tap.equal(until(403, lambda: get(SEARCH, writer))[0], 403, "a writer is no reader")
    node.sql("GRANT USAGE ON SCHEMA tempo TO nobody; GRANT SELECT (trace_id, span_id) ON tempo.spans TO nobody")
    tap.equal(get(SEARCH, nobody)[0], 403, "some columns are not enough")
    node.sql("REVOKE ALL ON SCHEMA tempo FROM nobody; REVOKE ALL ON tempo.spans FROM nobody")


def sending(reader, writer, nobody):
    tap.equal((post(None, 2)[0], post(None, 2)[1].get("www-authenticate", "")[:5]), (401, "Basic"), "spans without credentials")
    tap.equal(until(200, lambda: post(writer, 2))[0], 200, "spans of a writer")
    tap.equal([until(403, lambda: post(who, 3))[0] for who in (reader, nobody)], [403, 403], "not of who may not INSERT")
    tap.equal(until(401, lambda: post(basic("writer", "x"), 3))[0], 401, "nor with a wrong password")
    export = "opentelemetry.proto.collector.trace.v1.TraceService/Export"
    body = otlp.request_bytes(otlp.request([otlp.span("%032x" % 4, "%016x" % 1)]))
    tap.equal(grpc(node.grpc_port, export, body)[0], 16, "gRPC without credentials: UNAUTHENTICATED")
    tap.equal(grpc(node.grpc_port, export, body, basic("writer", "x"))[0], 16, "with wrong ones")
    tap.equal(grpc(node.grpc_port, export, body, nobody)[0], 7, "without the privilege: PERMISSION_DENIED")
    tap.equal(grpc(node.grpc_port, export, body, writer)[0], 0, "with it")
    tap.equal(grpc(node.grpc_port, "grpc.health.v1.Health/Check", b"")[0], 0, "health is open")
    zipkin = json.dumps([{"traceId": "5", "id": "5"}]).encode()
    tap.equal([node.http("POST", node.settings["tempo_pg.zipkin_port"], "/api/v2/spans", zipkin, {"Content-Type": "application/json", "X-Scope-OrgID": "one", **h})[0] for h in ({}, {"Authorization": writer})], [401, 202], "Zipkin")
    tap.equal(node.sql("SELECT string_agg(ltrim(trace_id::text, '0'), ',' ORDER BY trace_id::text) FROM tempo.spans WHERE tenant = 'one'"), "1,2,4,5", "what was refused is not there")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda i: post(writer if i % 2 else nobody, 100 + i)[0], range(64)))
    tap.equal(got, [200 if i % 2 else 403 for i in range(64)], "requests of several roles in one commit")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'one'"), str(4 + 32), "are told apart")
    node.delete("DELETE FROM tempo.spans WHERE trace_id::text >= lpad('40', 32, '0')")


def tokens():
    set_and_reload(authentication="both")
    for role, why in (("writer", "permission denied for function create_token"), ("boss", 'must be able to SET ROLE "postgres"')):
        got = node.psql("SELECT tempo.create_token('postgres')", user=role)
        tap.ok(got.returncode and why in got.stderr, "%s makes no token for a superuser" % role, got.stderr)
    token = node.psql("SELECT tempo.create_token('reader', comment => 'test')", user="boss").stdout.strip()
    tap.ok(len(token) == 70 and token.startswith("tempo_"), "one who may SET ROLE makes a token", token)
    tap.equal(node.sql("SELECT count(*), bool_and(comment = 'test' AND role = 'reader'::regrole AND position(%s in t::text) = 0) FROM tempo.api_tokens t" % ("'" + token + "'")), "1|t", "of which only the hash is stored")
    tap.equal(until(200, lambda: get(SEARCH, "Bearer " + token))[0], 200, "it opens")
    tap.equal(post("Bearer " + token, 6)[0], 403, "what the role may do, and no more")
    short = node.sql("SELECT tempo.create_token('reader', now() + interval '1 hour')")
    tap.equal(get(SEARCH, "bearer " + short)[0], 200, "one with an end")
    node.sql("UPDATE tempo.api_tokens SET expires = now() - interval '1 second' WHERE expires IS NOT NULL")
    tap.equal(get(SEARCH, "Bearer " + short)[0], 401, "is invalid after it")
    tap.equal(until(401, lambda: get(SEARCH, "Bearer tempo_" + "0" * 64))[0], 401, "an unknown one")
    stream = grpc(node.http_port, "tempopb.StreamingQuerier/Search", b"\x0a\x02{}")
    tap.equal(stream, (16, "credentials are needed"), "streaming without credentials: UNAUTHENTICATED")
    tap.equal(until(16, lambda: grpc(node.http_port, "tempopb.StreamingQuerier/Search", b"", "Bearer no"))[0], 16, "with wrong ones")
    tap.equal(grpc(node.http_port, "tempopb.StreamingQuerier/SearchTags", b"", "Bearer " + token)[0], 0, "with a token")
    tap.equal(grpc(node.http_port, "grpc.health.v1.Health/Check", b"")[0], 0, "health is open")
    writing = node.sql("SELECT tempo.create_token('writer')")
    tap.equal(until(200, lambda: post("Bearer " + writing, 7))[0], 200, "spans with a token")
    node.sql("CREATE ROLE gone IN ROLE tempo_reader")
    gone = node.sql("SELECT tempo.create_token('gone')")
    tap.equal(until(200, lambda: get(SEARCH, "Bearer " + gone))[0], 200, "a token does for a role that cannot log in")
    node.sql("DROP ROLE gone")
    tap.equal(get(SEARCH, "Bearer " + gone)[0], 401, "not when the role is gone")
    got = node.psql("SELECT tempo.drop_token('%s'::text)" % writing, user="boss2")
    tap.ok("must be able to SET ROLE" in got.stderr, "a token is not dropped by who could not make it", got.stderr)
    tap.equal(node.psql("SELECT tempo.drop_token('%s'::text), tempo.drop_token('%s'::text)" % (token, "x"), user="boss").stdout.strip(), "t|f", "but by who could")
    tap.equal(get(SEARCH, "Bearer " + token)[0], 401, "and is invalid")
    tap.equal(node.sql("SELECT tempo.drop_token(token_hash) FROM tempo.api_tokens WHERE role = 'writer'::regrole"), "t", "also by its hash")
    set_and_reload(authentication="bearer")
    got = until(401, lambda: get(SEARCH, basic("reader", "new")))
    tap.equal(got[1].get("www-authenticate"), 'Bearer realm="tempo_pg"', "passwords can be turned off")
    set_and_reload(authentication="both")
    until(200, lambda: get(SEARCH, basic("reader", "new")))


def policies(reader, writer):
    node.sql("""CREATE TABLE allowed (role name, tenant text); GRANT SELECT ON allowed TO PUBLIC;
                INSERT INTO allowed VALUES ('reader', 'one'), ('reader', 'three'), ('writer', 'one');
                ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY;
                CREATE POLICY own ON tempo.spans USING (tenant IN (SELECT tenant FROM public.allowed WHERE role = current_user))""")
    tap.equal(traces(get(SEARCH, reader, "one")), [1, 2, 4, 5, 7], "a tenant that the policy lets see")
    tap.equal([traces(get(SEARCH, reader, "two")), get("/api/traces/9", reader, "two")[0]], [[], 404], "another has nothing")
    tap.equal(traces(get(SEARCH, reader, "one|two")), [1, 2, 4, 5, 7], "nor together with it")
    tags = json.loads(get("/api/v2/search/tag/resource.service.name/values", reader, "two")[2])
    tap.equal(tags["tagValues"], [], "not even in values of tags")
    tap.equal(until(200, lambda: post(writer, 10, "one"))[0], 200, "a writer stores for its tenant")
    tap.equal(post(writer, 11, "two")[0], 403, "not for another")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: post(writer, 200 + i, "one" if i % 2 else "two")[0], range(16)))
    tap.equal(got, [200 if i % 2 else 403 for i in range(16)], "in one commit, either")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans WHERE tenant = 'two'"), "1", "nothing of that is stored")
    node.sql("DROP POLICY own ON tempo.spans; ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY")


def guessing(reader):
    until(200, lambda: get(SEARCH, reader))
    # all of them at once: so many more in each second are let through
    sockets = [socket.create_connection(("127.0.0.1", node.http_port), timeout=120) for _ in range(120)]
    for i, s in enumerate(sockets): s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: one\r\nConnection: close\r\nAuthorization: %s\r\n\r\n" % (SEARCH, basic("reader", "guess %d" % i))).encode())
    answers = []
    for s in sockets:
        answers.append(http.client.HTTPResponse(s))
        answers[-1].begin()
    got = [a.status for a in answers]
    tap.ok(set(got) == {401, 429} and got.count(401) < 100, "guessing is slowed down", got)
    tap.equal({a.getheader("Retry-After") for a in answers if a.status == 429}, {"1"}, "with a time to wait")
    for s in sockets: s.close()
    tap.equal(get(SEARCH, reader)[0], 200, "who has been let in is not kept waiting")
    tap.equal(until(200, lambda: get(SEARCH, basic("old", "m")))[0], 200, "nor anybody for long")


def two_tenants():
    """a proxy that adds the right tenant to whatever the client said"""
    answers = []
    for port, method, path in ((node.http_port, "GET", SEARCH), (node.otlp_port, "POST", "/v1/traces")):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        c.putrequest(method, path)
        for name, value in (("X-Scope-OrgID", "two"), ("X-Scope-OrgID", "one"), ("Content-Type", "application/x-protobuf"), ("Content-Length", "0")): c.putheader(name, value)
        c.endheaders()
        answers.append(c.getresponse().status)
        c.close()
    tap.equal(answers, [401, 401], "two tenants in a request are none")


def halfway(reader, nobody):
    """processes read the settings one after the other; here those that listen have, and those behind them have not yet"""
    set_and_reload(authentication="off")
    until(200, lambda: get(SEARCH))
    for i in range(20): until(200, lambda: post(None, 300 + i))
    node.configure(**{"tempo_pg.authentication": "basic"})
    for pid in node.sql("SELECT pid FROM pg_stat_activity WHERE backend_type IN ('tempo_pg gateway', 'tempo_pg receiver')").split():
        os.kill(int(pid), signal.SIGHUP)
    until(401, lambda: get(SEARCH))
    cluster.poll("both receivers", lambda: all(post(None, 330)[0] == 401 for _ in range(20)))
    tap.equal([get(SEARCH, who)[0] for who in (reader, nobody, basic("reader", "wrong"))], [200, 403, 401], "a query worker that has not read the settings verifies what the gateway demands")
    tap.equal([post(who, 331)[0] for who in (nobody, basic("writer", "wrong"))], [403, 401], "a writer does, too")
    node.reload()
    tap.equal(until(200, lambda: get(SEARCH, reader))[0], 200, "and when it has")


def origins():
    set_and_reload(authentication="off", multitenancy="off")
    until(200, lambda: get(SEARCH, tenant=None))
    page = {"Origin": "https://shop.example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-scope-orgid"}

    def ask(method, port, path, headers, body=None):
        r = node.http(method, port, path, body, headers)
        return (r[0],) + tuple(r[1].get("access-control-" + h) for h in ("allow-origin", "allow-methods", "allow-headers", "allow-credentials", "max-age"))

    tap.equal([ask("OPTIONS", port, path, page)[:2] for port, path in ((node.otlp_port, "/v1/traces"), (node.http_port, "/api/search"))], [(405, None), (200, None)], "no origin is allowed at first")
    set_and_reload(cors_allowed_origins="https://shop.example.com, https://*.example.org", cors_max_age="10min")
    cluster.poll("CORS", lambda: ask("OPTIONS", node.otlp_port, "/v1/traces", page)[0] == 204 and ask("OPTIONS", node.http_port, SEARCH, page)[0] == 204)
    cluster.poll("CORS in every receiver", lambda: all(ask("OPTIONS", node.otlp_port, "/v1/traces", page)[0] == 204 for _ in range(20)))
    tap.equal(ask("OPTIONS", node.otlp_port, "/v1/traces", page), (204, "https://shop.example.com", "POST", "content-type,x-scope-orgid", "true", "600"), "a preflight for spans")
    tap.equal(ask("OPTIONS", node.http_port, SEARCH, {**page, "Access-Control-Request-Method": "GET"})[:3], (204, "https://shop.example.com", "GET, HEAD, POST, PATCH, DELETE"), "one for the API")
    denied = [{**page, "Origin": o} for o in ("https://shop.example.com.evil", "http://shop.example.com", "https://example.org", "null")] + [{**page, "Access-Control-Request-Method": "PUT"}, {**page, "Access-Control-Request-Headers": "x-secret"}]
    tap.equal([ask("OPTIONS", node.otlp_port, "/v1/traces", h) for h in denied], [(204,) + (None,) * 5] * len(denied), "those of others are answered without leave")
    tap.equal(ask("OPTIONS", node.otlp_port, "/v1/traces", {**page, "Origin": "https://a.b.example.org"})[1], "https://a.b.example.org", "a star stands for any name")
    tap.equal(ask("OPTIONS", node.otlp_port, "/v1/traces", {"Origin": page["Origin"]})[0], 405, "OPTIONS that is no preflight")
    proto = {"Origin": page["Origin"], "Content-Type": "application/x-protobuf"}
    got = [node.http("POST", node.otlp_port, path, body, {**proto, **more}) for path, body, more in (("/v1/traces", b"", {}), ("/v1/traces", b"x", {}), ("/nowhere", b"", {}), ("/v1/traces", b"", {"Content-Encoding": "unknown"}), ("/v1/traces", b"", {"Content-Type": "text/plain"}))]
    tap.equal([(r[0], r[1].get("access-control-allow-origin"), r[1].get("vary")) for r in got], [(s, page["Origin"], "Origin") for s in (200, 400, 404, 400, 415)], "every answer lets the page read it")
    tap.equal(ask("GET", node.http_port, "/api/search?q=%7B", {"Origin": page["Origin"]})[:2], (400, page["Origin"]), "those of the API as well")
    tap.equal(ask("GET", node.http_port, "/api/echo", {"Origin": "https://evil"})[:2], (200, None), "but not others")
    ping = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    set_and_reload(mcp_server="on")
    until(200, lambda: node.http("POST", node.http_port, "/api/mcp", ping))
    tap.equal([node.http("POST", node.http_port, "/api/mcp", ping, {"Origin": o})[0] for o in (page["Origin"], "http://rebound.example:3200", "null")], [200, 403, 403], "other pages cannot use the tools for language models, not even under the name of this machine")
    tap.equal(cut_short("https://" + "a" * 3000 + ".example.org"), ("https://" + "a" * 3000 + ".example.org", "Origin"), "also one that is given amid the body, with a long name")
    set_and_reload(cors_allowed_origins="*")
    other = {**page, "Origin": "https://other"}
    got = [cluster.poll("the star", lambda: (lambda r: r if r[1] else None)(ask(method, port, path, other))) for method, port, path in (("GET", node.http_port, "/api/echo"), ("OPTIONS", node.otlp_port, "/v1/traces"))]
    tap.equal([(g[1], g[4]) for g in got], [("*", None), ("https://other", "true")], "any origin: spans with the user's credentials, answers of the API without")
    set_and_reload(cors_allowed_origins="*", authentication="basic")
    got = cluster.poll("the star", lambda: (lambda r: r if r[0] == 401 and r[1] else None)(ask("GET", node.http_port, "/api/echo", page)))
    tap.equal((got[1], got[4]), ("*", None), "any origin, but then without the user's credentials")
    tap.equal(ask("OPTIONS", node.http_port, SEARCH, page)[0], 204, "a preflight needs no credentials")


def cut_short(origin):
    """-> two headers of the answer to a body that grows too large"""
    with socket.create_connection(("127.0.0.1", node.http_port), timeout=120) as s:
        s.sendall(b"POST /api/echo HTTP/1.1\r\nHost: x\r\nOrigin: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % origin.encode())
        for _ in range(20):
            try: s.sendall(b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
            except ConnectionError: break
        answer = http.client.HTTPResponse(s)
        answer.begin()
        return answer.getheader("Access-Control-Allow-Origin"), answer.getheader("Vary")


def dump():
    node.sql("SELECT tempo.create_token('reader', comment => 'kept')")
    text = subprocess.run([cluster.BIN + "/pg_dump", "-h", "127.0.0.1", "-p", str(node.port), "-U", "postgres", "postgres"], capture_output=True, text=True, check=True).stdout
    tap.ok("COPY tempo.api_tokens" in text and "\treader\t" in text, "tokens are dumped, with the names of their roles")


def test():
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(ROLES + "CREATE ROLE boss LOGIN IN ROLE tempo_admin, reader; CREATE ROLE boss2 LOGIN IN ROLE tempo_admin;")
    for tenant, trace in (("one", 1), ("two", 9)):
        until(200, lambda: post(None, trace, tenant))
    reader, writer, nobody = basic("reader", "r:ä€ 1"), basic("writer", "w"), basic("nobody", "n")
    tap.equal(traces(until(200, lambda: get(SEARCH))), [1], "open to all at first")
    two_tenants()
    passwords(reader)
    reader = basic("reader", "new")
    privileges(writer, nobody)
    sending(reader, writer, nobody)
    tokens()
    policies(reader, writer)
    guessing(reader)
    halfway(reader, nobody)
    origins()
    dump()


tap.main(test)
