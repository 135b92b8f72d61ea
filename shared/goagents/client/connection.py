"""Where the server is, and what shows it who asks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpx2

from goagents import __version__
from goagents.errors import Invalid

from .identity import GcloudIdentity, is_installed

DEFAULT_SERVER = "http://127.0.0.1:8080"
CONNECT_TIMEOUT = 10.0
# A stream is never silent for long: comments keep it alive.
STREAM_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class Connection:
    """What both drivers need to open a connection. `auth` is None where the server asks for no credential."""

    server: str
    timeout: float
    headers: Mapping[str, str] = field(repr=False)
    auth: httpx2.Auth | None = field(default=None, repr=False)

    @classmethod
    def find(
        cls,
        server: str | None,
        api_key: str | None,
        timeout: float,
        headers: Mapping[str, str] | None,
    ) -> "Connection":
        """Raises Invalid for an address or a key that cannot be one."""
        url = server_url(server or os.environ.get("GOAGENTS_SERVER") or DEFAULT_SERVER)
        key = api_key or os.environ.get("GOAGENTS_API_KEY") or ""
        own = {"User-Agent": f"goagents/{__version__}", "Accept": "application/json", **(headers or {})}
        if key:
            own["Authorization"] = f"Bearer {_header_value(key.strip())}"
        return cls(str(url).rstrip("/"), timeout, own, None if key else _identity(url))

    def timeouts(self, longest: float | None = None) -> httpx2.Timeout:
        """Return the timeouts of a request whose answer may take `longest` seconds, else `self.timeout`."""
        return httpx2.Timeout(longest or self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout))

    def stream_timeouts(self) -> httpx2.Timeout:
        return httpx2.Timeout(max(STREAM_TIMEOUT, self.timeout), connect=min(CONNECT_TIMEOUT, self.timeout))

    @property
    def is_loopback(self) -> bool:
        return is_loopback(httpx2.URL(self.server).host)

    @property
    def pattern(self) -> str:
        """The pattern of this server's addresses in httpx2's mounts."""
        host = httpx2.URL(self.server).host
        return f"all://[{host}]" if ":" in host else f"all://{host}"


def server_url(text: str) -> httpx2.URL:
    """Return the address of a server. Raises Invalid where `text` is no http(s) URL."""
    try:
        url = httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL("")
    if url.scheme not in {"http", "https"} or not url.host:
        raise Invalid(f"the server's address {text!r} is no URL; write it like {DEFAULT_SERVER}")
    if url.userinfo:
        raise Invalid("the server's address holds a user or password; give the credential in GOAGENTS_API_KEY")
    if url.query or url.fragment:
        raise Invalid(f"the server's address {text!r} holds a query or a fragment; leave it out")
    return url


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _identity(url: httpx2.URL) -> httpx2.Auth | None:
    """gcloud's identity token goes to https servers only, never to this machine."""
    if url.scheme != "https" or is_loopback(url.host) or not is_installed():
        return None
    return GcloudIdentity()


def _header_value(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid("the API key holds characters that no key has; check GOAGENTS_API_KEY")
    return key
