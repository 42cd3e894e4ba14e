"""Certificates for tests, made by the openssl command."""
import atexit, os, shutil, subprocess, tempfile

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Files:
    """two authorities, "ca" with certificates for a server and a client, and "other" with "second" and "stranger" """

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tempo_pg-tls.")
        os.chmod(self.folder, 0o755)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        for ca, names in (("ca", ("server", "client")), ("other", ("second", "stranger"))):
            openssl("req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=" + ca, "-keyout", self.path(ca + ".key"), "-out", self.path(ca + ".crt"))
            for name in names:
                openssl("req", "-new", *CURVE, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", self.path(name + ".key"), "-out", self.path("csr"))
                openssl("x509", "-req", "-in", self.path("csr"), "-CA", self.path(ca + ".crt"), "-CAkey", self.path(ca + ".key"), "-CAcreateserial", "-days", "2",
                        "-copy_extensions", "copy", "-out", self.path(name + ".crt"))
                os.chmod(self.path(name + ".key"), 0o600)

    def path(self, name):
        return os.path.join(self.folder, name)


def openssl(*arguments):
    subprocess.run(("openssl",) + arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
