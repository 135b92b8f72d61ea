"""aiohttp sessions that connect to admitted addresses only, for tools and webhooks.

The name that the guard checked is looked up once, by the resolver below, and the connection goes to the addresses it
returned: no second look-up can give another answer. TLS still verifies the certificate against the name.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from goagents import __version__
from goagents.errors import AddressRefused, ConfigurationError
from goagents.net.address_guard import AddressGuard, family_of
from goagents.spec.hosts import HostList

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

USER_AGENT = f"goagents/{__version__}"
_MAX_CONNECTIONS = 512
_MAX_CONNECT_SECONDS = 10.0
_DNS_CACHE_SECONDS = 10
_FAILURES: tuple[tuple[type[aiohttp.ClientError], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "cannot be resolved: no such host name, or no answer"),
    (aiohttp.ClientPayloadError, "answered, but the answer ended before it was complete"),
    (aiohttp.ServerDisconnectedError, "closed the connection before it answered; whether it acted is unknown"),
    (aiohttp.ClientOSError, "lost the connection before it answered; whether it acted is unknown"),
)


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses of `host` by the system's resolver. Raises OSError where it has none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class GuardedResolver(AbstractResolver):
    """Looks a name up once and hands on only what the guard admits."""

    def __init__(self, guard: AddressGuard, lookup: Lookup = system_lookup) -> None:
        self._guard = guard
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        admitted = self._guard.admit(host, port, await self._lookup(host, port))
        usable = [a for a in admitted if family in (socket.AF_UNSPEC, family_of(a))]
        if not usable:
            raise OSError(None, "the name has no address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=family_of(address),
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in usable
        ]

    async def close(self) -> None:
        """Nothing is held."""


class GuardedSession:
    """One aiohttp session with its kept-alive connections, made in the running loop on first use.

    A literal address never comes to the resolver: call `check` for each URL before it is requested, and request with
    `allow_redirects=False`. `ca_bundle` is the path of a PEM file with further authorities. Proxies of the environment
    are not used: behind one the guard could not see where a connection goes. `allowed_hosts` are the only hosts to
    connect to; None for all. Raises ConfigurationError for an unreadable entry of `allowed_addresses`.
    """

    def __init__(
        self,
        allowed_addresses: Sequence[str] = (),
        ca_bundle: str | None = None,
        lookup: Lookup = system_lookup,
        allowed_hosts: Sequence[str] | None = None,
    ) -> None:
        self._hosts = None if allowed_hosts is None else HostList(allowed_hosts)
        self._guard = AddressGuard(tuple(allowed_addresses))
        self._ca_bundle = ca_bundle
        self._lookup = lookup
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self, url: URL) -> None:
        """Raise AddressRefused where the URL can be refused without a look-up."""
        self._guard.check_url(url.scheme, url.raw_host, url.port)
        if self._hosts is not None and not self._hosts.allows(url.raw_host or "", url.port):
            raise AddressRefused(self._hosts.refusal(url.raw_host or "no host"))

    def live(self) -> aiohttp.ClientSession:
        """Return the session of the running loop. Raises ConfigurationError for an unreadable `ca_bundle`."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._session, self._loop = self._new(), loop
        return self._session

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard, self._lookup),
            ssl=True if self._ca_bundle is None else _tls(self._ca_bundle),
            limit=_MAX_CONNECTIONS,
            use_dns_cache=True,  # holds what the guard admitted, nothing else
            ttl_dns_cache=_DNS_CACHE_SECONDS,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # requests of different runs share the session, never a cookie
            auto_decompress=False,  # whoever reads a body does it, with a bound
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_MAX_CONNECT_SECONDS),
            trust_env=False,
        )


@lru_cache(maxsize=8)
def _tls(ca_bundle: str) -> ssl.SSLContext:
    """Return a verifying context that also trusts the bundle. Reading the authorities takes tens of milliseconds."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_bundle)
    except OSError as error:
        raise ConfigurationError(f"ca_bundle: {ca_bundle} holds no certificates that can be read") from error
    return context


def place_of(url: URL) -> str | None:
    """Return host and port of a URL (`api.example.com:443`, `[::1]:80`); None where it has no host."""
    host = url.raw_host
    if host is None:
        return None
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def never_sent(error: Exception) -> bool:
    """Whether a request that failed so cannot have reached the server."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)


def explain(error: aiohttp.ClientError | TimeoutError | ValueError, place: str, seconds: float) -> str:
    """Say what failed without repeating what was sent: a library's message may quote the URL or a header.

    `seconds` is the time that the whole request was given.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"{place} did not accept a connection within {_MAX_CONNECT_SECONDS:g} s"
    if isinstance(error, TimeoutError):
        return f"{place} did not answer within {seconds:g} s"
    if isinstance(error, aiohttp.ClientError):
        return _explain_client_error(error, place)
    return f"the request to {place} cannot be sent: {type(error).__name__}"  # a header or URL the library refuses


def _explain_client_error(error: aiohttp.ClientError, place: str) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return f"the certificate of {place} is refused ({reason}); a private authority goes into `ca_bundle`"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot connect to {place}: {_fault(error.os_error)}"
    for kind, what in _FAILURES:
        if isinstance(error, kind):
            return f"{place} {what}"
    return f"{place} does not speak proper HTTP ({type(error).__name__})"


def _fault(error: OSError) -> str:
    """Name the fault; asyncio's own text has the address, which is the network's business."""
    if isinstance(error, ssl.SSLError):
        return error.strerror or "TLS fails"
    return os.strerror(error.errno) if error.errno else type(error).__name__
