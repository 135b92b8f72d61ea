"""Google's interfaces as gcloud sees them, on loopback: an HTTP proxy that answers for every host itself, and records.

    with GoogleApi(folder) as google:
        subprocess.run(["gcloud", "functions", "list"], env=os.environ | google.environment)
        google.requests[-1].path

gcloud speaks to the real addresses; the proxy ends TLS with a certificate of an authority of its own, which gcloud is
told to trust. What it answers is `google_api_state.Cloud`. Addresses below run.app are handed on to `serving`, where
the caller's identity token lets him in.
"""

import json
import os
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.support.google_api_routes import ROUTES
from tests.support.google_api_state import Cloud, Request

NAMES = ("*.googleapis.com", "*.run.app", "*.europe-west1.run.app")
OWNER = "owner@my-project.iam.gserviceaccount.com"
_TIMEOUT = 30.0


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Write an authority's certificate, and a server's with its key. Return both paths."""
    authority, server = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    now = datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])

    def builder(subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    root = builder(issuer, authority).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = root.add_extension(usage, critical=True)
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False)
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES])
    leaf = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "googleapis.com")]), server)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = leaf.add_extension(names, critical=False).add_extension(identifier, critical=False)
    ca, chain = folder / "ca.pem", folder / "server.pem"
    pem = serialization.Encoding.PEM
    ca.write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(pem))
    chain.write_bytes(_pem(server) + leaf.sign(authority, hashes.SHA256()).public_bytes(pem))
    return ca, chain


@dataclass
class GoogleApi:
    """`cloud` is what there is, `serving` the addresses behind run.app by the service's name, or
    `TAG---NAME` for those of a tag alone. `programs` is a folder that comes first in the PATH.
    """

    folder: Path
    programs: Path | None = None
    cloud: Cloud = field(default_factory=lambda: Cloud(ROUTES))
    serving: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.ca, chain = make_certificates(self.folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(chain)
        api = self

        class Bound(_Handler):
            google = api

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        key = self.folder / "key.json"
        key.write_text(json.dumps(self._key()), encoding="utf-8")
        self.key = key
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    @property
    def requests(self) -> list[Request]:
        return self.cloud.requests

    @property
    def environment(self) -> dict[str, str]:
        """What gcloud, and our own client, need to come here and nowhere else."""
        host, port = self._server.server_address[:2]
        programs = {"PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}"} if self.programs else {}
        return {
            **programs,
            "CLOUDSDK_CONFIG": str(self.folder / "gcloud"),
            "CLOUDSDK_PROXY_TYPE": "http",
            "CLOUDSDK_PROXY_ADDRESS": str(host),
            "CLOUDSDK_PROXY_PORT": str(port),
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(self.ca),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "0",
            "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://{host}:{port}"),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "SSL_CERT_FILE": str(self.ca),
            "REQUESTS_CA_BUNDLE": str(self.ca),  # where gcloud forgets its own setting
        }

    def _key(self) -> Mapping[str, str]:
        private = _pem(rsa.generate_private_key(65537, 2048)).decode()
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "1",
            "private_key": private,
            "client_email": OWNER,
            "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
        }

    @property
    def tls(self) -> ssl.SSLContext:
        return self._tls


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT
    google: GoogleApi
    host = ""

    def log_message(self, *args: Any) -> None:
        """Nothing: what was asked is in `requests`."""

    def do_CONNECT(self) -> None:
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        try:
            self.connection = self.google.tls.wrap_socket(self.connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb")
        self.wfile = _Writer(self.connection)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.close()  # the server closes the socket below it, which was detached

    def _any(self) -> None:
        body = self._body()
        url = urlsplit(self.path)
        host = self.host or (url.hostname or "")
        if host.endswith(".run.app"):
            self._hand_on(host, body)
            return
        request = Request(
            host,
            self.command,
            url.path,
            {name: values[-1] for name, values in parse_qs(url.query).items()},
            body,
            dict(self.headers.items()),
        )
        status, answer = self.google.cloud.answer(request)
        self._send(status, json.dumps(answer).encode(), "application/json")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - their names

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _hand_on(self, host: str, body: bytes) -> None:
        """What Cloud Run does: who may not call is told so by Google's front end, before the function."""
        service = self.google.cloud.service_of(host)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        audience = f"https://{host.rpartition('---')[2]}"
        self.google.cloud.calls.append((host, self.command, self.path, token))
        tagged = f"{host.partition('---')[0]}---{service}" if "---" in host else service
        behind = self.google.serving.get(tagged) or self.google.serving.get(service)
        if behind is None:
            self._send(404, b"<html>Error: Page not found</html>", "text/html")
            return
        if not self.google.cloud.may_call(service, token, audience):
            self._send(403, b"<html>Error: Forbidden</html>", "text/html")
            return
        inner = urlsplit(behind)
        connection = HTTPConnection(inner.hostname or "", inner.port, timeout=_TIMEOUT)
        try:
            connection.connect()
        except OSError:
            self._send(503, b"The request failed because the instance could not start", "text/plain")
            return
        try:
            kept = {n: v for n, v in self.headers.items() if n.lower() not in {"transfer-encoding", "connection"}}
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            self._send(answer.status, answer.read(), answer.headers.get("content-type", ""))
        finally:
            connection.close()

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class _Writer:
    """A file for a TLS socket's answers: the handler's own wrote to the socket below it."""

    closed = False

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)

    def flush(self) -> None:
        """Everything is sent as it is written."""

    def close(self) -> None:
        self.closed = True
