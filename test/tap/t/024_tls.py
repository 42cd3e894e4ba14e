"""TLS on the ports of a server: by ALPN, with certificates of clients, switched on, changed and spoilt while it runs."""
import json, os, shutil, socket, ssl, subprocess
import cluster, otlp, tap, tls

node = cluster.Cluster("tls", **{"tempo_pg.zipkin_port": cluster.free_ports(1)[0], "tempo_pg.receiver_workers": 2})
PROTO = "application/x-protobuf"


def use(files, name, mode="0600"):
    """makes a certificate the server's; the key belongs to the user of the server"""
    for kind in ("crt", "key"):
        with open(files.path(name + "." + kind)) as f:
            subprocess.run(cluster.as_server(["sh", "-c", 'rm -f "$1" && umask 077 && cat > "$1" && chmod "$2" "$1"', "sh", "%s/tls.%s" % (node.data, kind), mode]), input=f.read(), text=True, check=True, cwd="/")


def put(files, name):
    with open(files.path(name)) as f:
        subprocess.run(cluster.as_server(["sh", "-c", 'cat > "$1"', "sh", node.data + "/tls.ca"]), input=f.read(), text=True, check=True, cwd="/")


def curl(files, port, path, *options, data=None, ca="ca.crt"):
    """-> exit status, HTTP version, status, body"""
    done = subprocess.run(["curl", "-s", "--noproxy", "*", "-m", "120", "--cacert", files.path(ca), "-w", "\n%{http_version} %{http_code}", *options,
                           *(["--data-binary", "@-"] if data is not None else []), "https://localhost:%d%s" % (port, path)], input=data, capture_output=True)
    body, _, words = done.stdout.rpartition(b"\n")
    version, status = words.decode().split()
    return done.returncode, version, int(status), body


def set_and_reload(**settings):
    node.configure(**{"tempo_pg." + k: v for k, v in settings.items()})
    node.reload()


def switched_on(files):
    tap.equal(node.get("/ready")[0], 200, "without TLS at first")
    use(files, "server")
    set_and_reload(tls="on", tls_cert_file="tls.crt", tls_key_file="tls.key")
    cluster.poll("TLS", lambda: curl(files, node.http_port, "/ready")[2] == 200)
    tap.ok(True, "a reload switches it on")
    for option, version in (("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")):
        tap.equal(curl(files, node.http_port, "/api/echo", option), (0, version, 200, b"echo\n"), "the API with curl %s" % option)
    cluster.poll("TLS of the receivers", lambda: curl(files, node.otlp_port, "/v1/traces", "-H", "Content-Type: " + PROTO, data=b"")[2] == 200)
    for n, option in ((1, "--http2"), (2, "--http1.1")):
        body = otlp.request_bytes(otlp.request([otlp.span("%032x" % n, "%016x" % n, name="tls")]))
        got = cluster.poll("an answer", lambda: (lambda r: r if r[2] else None)(curl(files, node.otlp_port, "/v1/traces", option, "-H", "Content-Type: " + PROTO, data=body)))
        tap.equal(got[2], 200, "OTLP over HTTP with curl %s" % option)
    big = otlp.request_bytes(otlp.request([otlp.span("%032x" % 3, "%016x" % (i + 1), attributes=[otlp.attribute("k", "x" * 1000)]) for i in range(8000)]))
    tap.equal([curl(files, node.otlp_port, "/v1/traces", option, "-H", "Content-Type: " + PROTO, data=big)[2] for option in ("--http2", "--http1.1")], [200, 200], "a large request")
    tap.equal(node.sql("SELECT count(*) FROM tempo.spans"), "8002", "is stored, once")
    answer = curl(files, node.http_port, "/api/v2/traces/%032x" % 3, "--http1.1")
    tap.equal((answer[2], answer[3]), (200, curl(files, node.http_port, "/api/v2/traces/%032x" % 3, "--http2")[3]), "and read")
    span = json.dumps([{"traceId": "4", "id": "4"}]).encode()
    tap.equal(curl(files, node.settings["tempo_pg.zipkin_port"], "/api/v2/spans", "-H", "Content-Type: application/json", data=span)[2], 202, "Zipkin")
    tap.equal(node.get("/ready")[::2], (400, b"this port speaks TLS only\n"), "plain HTTP is told so")
    tap.equal(node.export_grpc(b"")[0], None, "plain gRPC is not served")


def spoilt(files):
    before = len(node.log_text())

    def logged(words):
        return cluster.poll(words, lambda: words in node.log_text()[before:])

    use(files, "second", "0644")
    node.reload()
    tap.ok(logged("has group or world access"), "a key that others can read is refused")
    tap.equal(curl(files, node.http_port, "/ready")[2], 200, "and the old one goes on")
    subprocess.run(cluster.as_server(["rm", node.data + "/tls.crt"]), check=True, cwd="/")
    before = len(node.log_text())
    node.reload()
    tap.ok(logged('could not load certificate file "tls.crt": No such file or directory'), "a certificate that is missing is told of")
    tap.equal(curl(files, node.http_port, "/ready")[2], 200, "and the old one goes on")
    use(files, "second")
    node.reload()
    cluster.poll("the new certificate", lambda: curl(files, node.http_port, "/ready", ca="other.crt")[2] == 200)
    tap.equal(curl(files, node.http_port, "/ready")[0], 60, "a new certificate is used at once")
    use(files, "server")
    node.reload()
    cluster.poll("the old certificate", lambda: curl(files, node.http_port, "/ready")[2] == 200)


def client_certificates(files):
    put(files, "ca.crt")
    set_and_reload(tls_client_ca_file="tls.ca", tls_min_protocol_version="TLSv1.3")
    cluster.poll("certificates to be asked for", lambda: curl(files, node.http_port, "/ready")[0] != 0)
    for name, port, path, want in (("the API", node.http_port, "/ready", 200), ("OTLP", node.otlp_port, "/v1/traces", 405)):
        cluster.poll("certificates", lambda: curl(files, port, path)[0] != 0)
        got = [curl(files, port, path, *(["--cert", files.path(c + ".crt"), "--key", files.path(c + ".key")] if c else []))[2] for c in ("client", "stranger", None)]
        tap.equal(got, [want, 0, 0], "%s only for who has a certificate of the authority" % name)
    tap.ok(curl(files, node.http_port, "/ready", "--tls-max", "1.2", "--cert", files.path("client.crt"), "--key", files.path("client.key"))[0] != 0, "not with an older version of TLS")
    metrics = curl(files, node.http_port, "/metrics", "--cert", files.path("client.crt"), "--key", files.path("client.key"))[3].decode()
    failures = [l for l in metrics.splitlines() if l.startswith("tempo_pg_gateway_tls_failures_total ")]
    tap.ok(failures and float(failures[0].split()[1]) > 0, "failures are counted", failures)


def single_ports(files):
    set_and_reload(tls="otlp_http, zipkin", tls_client_ca_file="")
    cluster.poll("plain HTTP", lambda: node.get("/ready")[0] == 200)
    tap.equal(cluster.poll("TLS", lambda: curl(files, node.otlp_port, "/v1/traces")[2]), 405, "the ports that are named speak TLS")
    tap.equal(cluster.poll("gRPC", lambda: node.export_grpc(b"")[0] is not None and node.export_grpc(b"")[0] == 0), True, "the others do not")
    with socket.create_connection(("127.0.0.1", node.http_port)) as s:
        try:
            ssl.create_default_context(cafile=files.path("ca.crt")).wrap_socket(s, server_hostname="localhost")
            tap.ok(False, "TLS to a plain port")
        except ssl.SSLError as error: tap.ok("WRONG_VERSION" in str(error), "TLS to a plain port is no TLS", error)
    set_and_reload(tls="on, api")
    cluster.poll("the complaint", lambda: '"on" is not a port' in node.log_text())
    tap.ok(True, "what is no port is refused")


def from_the_start(files):
    set_and_reload(tls="on", tls_cert_file="missing.crt")
    node.stop()
    before = len(node.log_text())
    node.start()
    for words in ('could not serve the Tempo API over TLS: could not load certificate file "missing.crt"', 'could not listen for OTLP over HTTP: could not load certificate file "missing.crt"'):
        cluster.poll(words, lambda: words in node.log_text()[before:])
    tap.equal((node.get("/ready")[0], node.export_protobuf(b"")[0]), (0, 0), "without its certificate no port is opened")
    tap.equal("FATAL" in node.log_text()[before:], False, "and no process ends for that")
    set_and_reload(tls_cert_file="tls.crt")
    cluster.poll("TLS", lambda: curl(files, node.http_port, "/ready")[2] == 200 and curl(files, node.otlp_port, "/v1/traces")[2] == 405)
    tap.ok(True, "they are once it is there")


def test():
    if not shutil.which("openssl"): return tap.skip("TLS", "openssl is not installed")
    files = tls.Files()
    node.start()
    node.create_extension()
    switched_on(files)
    spoilt(files)
    client_certificates(files)
    single_ports(files)
    from_the_start(files)


tap.main(test)
