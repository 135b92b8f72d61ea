"""Outbound HTTP for tools: guarded addresses, checked redirects, answers read with a bound.

aiohttp itself rather than httpx over it: less than half the overhead for each call (`docs/tools.md` says how much).
The name that the guard checked is looked up once, by the resolver below, and the connection goes to the addresses it
returned: no second look-up can give another answer. TLS still verifies the certificate against the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from goagents import __version__
from goagents.errors import AddressRefused, ToolFailed, ToolTimedOut
from goagents.tools.address_guard import AddressGuard, family_of
from goagents.tools.http_body import Body, read_body

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
RedirectCheck = Callable[[URL], None]

MAX_REDIRECTS = 5
_MAX_CONNECTIONS = 512
_MAX_CONNECT_SECONDS = 10.0
_DNS_CACHE_SECONDS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOLLOWED_METHODS = frozenset({"GET", "HEAD"})
_FAILURES: tuple[tuple[type[aiohttp.ClientError], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "cannot be resolved: no such host name, or no answer"),
    (aiohttp.ClientPayloadError, "answered, but the answer ended before it was complete"),
    (aiohttp.ServerDisconnectedError, "closed the connection before it answered; whether it acted is unknown"),
    (aiohttp.ClientOSError, "lost the connection before it answered; whether it acted is unknown"),
)
_BASE_HEADERS = {
    "User-Agent": f"goagents/{__version__}",
    "Accept": "application/json, text/*;q=0.9, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`declared` are the headers of the configuration: they belong to the first URL's origin and never leave it."""

    method: str
    url: URL
    declared: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    reason: str
    url: URL
    headers: Mapping[str, str]
    body: Body


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


class HttpClient:
    """One client with its kept-alive connections, made in the running loop on first use.

    `ca_bundle` is the path of a PEM file with further authorities. Proxies of the environment are not used: behind one
    the guard could not see where a connection goes.
    """

    def __init__(
        self, allowed_addresses: Sequence[str] = (), ca_bundle: str | None = None, lookup: Lookup = system_lookup
    ) -> None:
        self._guard = AddressGuard(tuple(allowed_addresses))
        self._ca_bundle = ca_bundle
        self._lookup = lookup
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self, url: URL) -> None:
        """Raise AddressRefused where the URL can be refused without a look-up."""
        self._guard.check_url(url.scheme, url.raw_host, url.port)

    async def send(
        self, request: HttpRequest, *, seconds: float, limit: int, image_limit: int, may_follow: RedirectCheck
    ) -> HttpAnswer:
        """Send the request, follow redirects of GET and HEAD, and read the answer: `limit` bytes, of an image more.

        `seconds` are for all of it. `may_follow` raises for a redirect that the caller does not want. Raises
        AddressRefused, ToolTimedOut, ToolFailed; no message holds a header, a query or a body.
        """
        place = request.url.raw_host or ""
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(request, limit, image_limit, may_follow)
        except aiohttp.ConnectionTimeoutError as error:
            raise ToolTimedOut(f"{place} did not accept a connection within {_MAX_CONNECT_SECONDS:g} s") from error
        except TimeoutError as error:
            raise ToolTimedOut(f"{place} did not answer within {seconds:g} s") from error
        except aiohttp.ClientError as error:
            raise ToolFailed(_explain(error, place)) from error
        except ValueError as error:  # a header or URL that the client library refuses to send
            raise ToolFailed(f"the request to {place} cannot be sent: {type(error).__name__}") from error

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _follow(
        self, request: HttpRequest, limit: int, image_limit: int, may_follow: RedirectCheck
    ) -> HttpAnswer:
        url, headers = request.url, CIMultiDict(_BASE_HEADERS)
        for more in (request.headers, request.declared):
            headers.update(more)  # whatever the spelling: a header sent twice means what the server likes
        for _ in range(MAX_REDIRECTS + 1):
            self.check(url)
            async with self._open(request, url, headers) as response:
                target = _redirect_target(request.method, url, response)
                if target is None:
                    body = await read_body(response, limit, image_limit, head=request.method == "HEAD")
                    return HttpAnswer(response.status, response.reason or "", url, response.headers, body)
                response.close()  # its body is of no interest and may be without end
            if url.scheme == "https" and target.scheme == "http":
                raise AddressRefused(f"{url.raw_host} redirects from https to http")
            may_follow(target)
            if target.origin() != url.origin():
                # For good: on a way back the credentials would be used on another's behalf.
                headers = CIMultiDict(_BASE_HEADERS)
            url = target
        raise ToolFailed(f"{request.url.raw_host} redirects more than {MAX_REDIRECTS} times")

    def _open(
        self, request: HttpRequest, url: URL, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._live_session().request(
            request.method,
            url,
            headers=headers,
            data=request.content,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        )

    def _live_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard, self._lookup),
            ssl=True if self._ca_bundle is None else _tls(self._ca_bundle),
            limit=_MAX_CONNECTIONS,
            use_dns_cache=True,  # holds what the guard admitted, nothing else
            ttl_dns_cache=_DNS_CACHE_SECONDS,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # calls of different runs share the client, never a cookie
            auto_decompress=False,  # read_body does it, with a bound
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
        raise ToolFailed(f"ca_bundle: {ca_bundle} holds no certificates that can be read") from error
    return context


def _redirect_target(method: str, url: URL, response: aiohttp.ClientResponse) -> URL | None:
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or method not in _FOLLOWED_METHODS or not location:
        return None
    try:
        target = url.join(URL(location)).with_fragment(None)
    except ValueError:
        raise ToolFailed(f"{url.raw_host} redirects to something that is no URL") from None
    if target.scheme not in ("http", "https") or not target.raw_host:
        raise AddressRefused(
            f"{url.raw_host} redirects to {target.scheme or 'no'} scheme: only http and https are called"
        )
    if target.raw_user is not None or target.raw_password is not None:
        raise AddressRefused(f"{url.raw_host} redirects to a URL that carries credentials")
    return target


def _explain(error: aiohttp.ClientError, place: str) -> str:
    """Say what failed without repeating what was sent: a library's message may quote the URL or a header."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return f"the certificate of {place} is refused ({reason}); a private authority goes into `ca_bundle`"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot connect to {place}: {error.os_error.strerror or type(error.os_error).__name__}"
    for kind, what in _FAILURES:
        if isinstance(error, kind):
            return f"{place} {what}"
    return f"{place} does not speak proper HTTP ({type(error).__name__})"
