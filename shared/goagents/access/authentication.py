"""From a request's credential to its principal. Closed by default: what is not known is refused.

| mode | who is served |
|---|---|
| none | requests of this machine only, for a host name of this machine |
| api_key | the bearer of a key whose SHA-256 stands in `auth.api_keys` |
| platform | whom Cloud Run's IAM let through: it has verified the identity token it hands on |
"""

import binascii
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from goagents.errors import ConfigurationError, FieldError, PermissionDenied, Unauthenticated

from .principal import LOCAL, Principal

if TYPE_CHECKING:  # the models of the configuration cost more to import than all of this
    from goagents.spec.config import AuthConfig

Mode = Literal["none", "api_key", "platform"]

_MAX_CREDENTIAL = 16_384


def mode_of(auth: "AuthConfig | None", *, on_cloud_run: bool) -> Mode:
    """Return how callers are authenticated: as configured, else `platform` on Cloud Run and `none` elsewhere.

    Raises ConfigurationError for `platform` where there is no Cloud Run in front, which would let everybody in,
    and for `none` on Cloud Run, where nobody is on this machine.
    """
    if auth is None:
        return "platform" if on_cloud_run else "none"
    if auth.mode == "platform" and not on_cloud_run:
        raise _wrong("`platform` trusts Cloud Run's IAM, and this is not Cloud Run: write `mode: api_key` or `none`")
    if auth.mode == "none" and on_cloud_run:
        raise _wrong("`none` serves this machine only, so on Cloud Run nobody: write `mode: platform` or `api_key`")
    return auth.mode


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(f"auth.mode: {message}", errors=[FieldError("auth.mode", message)])


def authenticate(
    auth: "AuthConfig | None", *, mode: Mode, headers: Mapping[str, str], client_host: str | None
) -> Principal:
    """Return who asks. `headers` has lower-case names; `client_host` is the peer's IP address.

    Raises Unauthenticated without a valid credential, PermissionDenied for another machine in the mode `none`.
    """
    if mode == "none":
        return _local(headers, client_host)
    if mode == "api_key":
        return _by_key(auth, headers)
    return _by_platform(headers)


def _local(headers: Mapping[str, str], client_host: str | None) -> Principal:
    if not _is_loopback(client_host):
        raise PermissionDenied(
            "Without authentication only requests of the same machine are served. Configure `auth:` "
            "(`mode: api_key`) to serve others."
        )
    # A browser on this machine runs other people's pages: their requests come from here, but not for here (a name
    # that resolves to 127.0.0.1) or not from here (the page's origin).
    for name, value in (("Host", headers.get("host")), ("Origin", _origin_host(headers.get("origin")))):
        if value is not None and not _is_loopback(_host_of(value)):
            raise PermissionDenied(
                f"Without authentication only requests for localhost are served, and the header {name} names another "
                "host. Configure `auth:` (`mode: api_key`) to serve under other names."
            )
    return LOCAL


def _origin_host(origin: str | None) -> str | None:
    if origin is None:
        return None
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_of(value: str) -> str:
    """Return the host of `host:port`, `[::1]:port`."""
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0]


def _is_loopback(host: str | None) -> bool:
    if not host:
        return False
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _by_key(auth: "AuthConfig | None", headers: Mapping[str, str]) -> Principal:
    digest = hashlib.sha256(bearer(headers.get("authorization")).encode("utf-8", "surrogateescape")).hexdigest()
    found: Principal | None = None
    # All keys are compared, whichever fits: the time tells nothing.
    for key in auth.api_keys if auth else ():
        if hmac.compare_digest(digest, key.hash):
            found = Principal(key.name, key.tenant)
    if found is None:
        raise Unauthenticated("This API key is not known here.")
    return found


def bearer(header: str | None) -> str:
    """Return the credential of a header Authorization. Raises Unauthenticated."""
    if not header:
        raise Unauthenticated
    scheme, _, credential = header.partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential or len(credential) > _MAX_CREDENTIAL:
        raise Unauthenticated
    return credential


def _by_platform(headers: Mapping[str, str]) -> Principal:
    claims = platform_claims(headers)
    identity = claims.get("email") or claims.get("sub")
    if not isinstance(identity, str) or not 0 < len(identity) <= 256:
        raise Unauthenticated("The identity token names nobody: it has neither `email` nor `sub`.")
    return Principal(identity)


def platform_claims(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the claims of the identity token that Cloud Run's IAM has verified. Raises Unauthenticated."""
    # Where both are sent, Cloud Run verifies this one and hands the other on as it came.
    return _claims(bearer(headers.get("x-serverless-authorization") or headers.get("authorization")))


def _claims(token: str) -> dict[str, Any]:
    """Return the payload of a JWT whose signature the platform has verified (and removed)."""
    parts = token.split(".")
    if len(parts) != 3:
        raise Unauthenticated("This needs a Google identity token: send `Authorization: Bearer TOKEN`.")
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise Unauthenticated("The identity token is malformed.")
    return claims
