"""Google's identity tokens on loopback: real certificates at a URL, and tokens really signed."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.types import Receive, Scope, Send

ISSUER = "https://accounts.google.com"


class SigningKey:
    """An RSA key with a certificate of its own, and the id it goes by."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "federated-signon")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=7))
            .sign(self._private, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, content: bytes) -> bytes:
        return self._private.sign(content, padding.PKCS1v15(), hashes.SHA256())

    def token(self, claims: Any, **header: Any) -> str:
        """Return a token of `claims`, as they are. `header` is put over the usual one."""
        signed = _signed_part({"alg": "RS256", "kid": self.key_id, "typ": "JWT", **header}, claims)
        return f"{signed}.{encoded(self.sign(signed.encode()))}"

    def confused(self, claims: Any) -> str:
        """Return a token signed by HMAC with the public certificate as its secret: the classical confusion."""
        signed = _signed_part({"alg": "HS256", "kid": self.key_id, "typ": "JWT"}, claims)
        return f"{signed}.{encoded(hmac.digest(self.pem.encode(), signed.encode(), hashlib.sha256))}"

    def unsigned(self, claims: Any) -> str:
        return f"{_signed_part({'alg': 'none', 'kid': self.key_id, 'typ': 'JWT'}, claims)}."


def claims_of(account: str, audience: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a token as Google makes them; what is changed to None is left out."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": audience,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": account,
        "email_verified": True,
        "iat": now - 5,
        "exp": now + 3595,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _signed_part(header: Any, claims: Any) -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"


class CertificateServer:
    """An ASGI application that answers as Google's certificates do. `fetches` counts its requests."""

    def __init__(self, *keys: SigningKey) -> None:
        self.serve(*keys)

    def serve(self, *keys: SigningKey) -> None:
        """Answer with the certificates of `keys`, as if nothing had been asked before."""
        self.keys = list(keys)
        self.status = 200
        self.max_age = "max-age=19800"
        self.content: bytes | None = None
        self.fetches = 0

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        self.fetches += 1
        content = self.content
        if content is None:
            content = json.dumps({key.key_id: key.pem for key in self.keys}).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", f"public, {self.max_age}".encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
