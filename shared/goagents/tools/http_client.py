"""Outbound HTTP for tools: guarded addresses, checked redirects, answers read with a bound.

aiohttp itself rather than httpx over it: less than half the overhead for each call (`docs/tools.md` says how much).
Where a connection may go, and how it is made, is decided in `goagents.net`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from goagents.errors import AddressRefused, ConfigurationError, ToolFailed, ToolTimedOut
from goagents.net.guarded import USER_AGENT, GuardedSession, Lookup, explain, never_sent, system_lookup
from goagents.tools.http_body import Body, read_body

RedirectCheck = Callable[[URL], None]

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOLLOWED_METHODS = frozenset({"GET", "HEAD"})
_BASE_HEADERS = {
    "User-Agent": USER_AGENT,
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


class HttpClient:
    """One client with its kept-alive connections. `ca_bundle` is the path of a PEM file with further authorities,
    `allowed_hosts` the only hosts it connects to (None for all)."""

    def __init__(
        self,
        allowed_addresses: Sequence[str] = (),
        ca_bundle: str | None = None,
        lookup: Lookup = system_lookup,
        allowed_hosts: Sequence[str] | None = None,
    ) -> None:
        self._session = GuardedSession(allowed_addresses, ca_bundle, lookup, allowed_hosts)

    def check(self, url: URL) -> None:
        """Raise AddressRefused where the URL can be refused without a look-up."""
        self._session.check(url)

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
        except ConfigurationError as error:
            raise ToolFailed(error.detail) from error
        except TimeoutError as error:
            late = ToolTimedOut(explain(error, place, seconds))
            raise late.because("server", sent=_sent(request, error)) from error
        except aiohttp.ClientError as error:
            failed = ToolFailed(explain(error, place, seconds))
            raise failed.because("server", sent=_sent(request, error)) from error
        except ValueError as error:
            raise ToolFailed(explain(error, place, seconds)) from error

    async def aclose(self) -> None:
        await self._session.aclose()

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
        return self._session.live().request(
            request.method,
            url,
            headers=headers,
            data=request.content,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        )


def _sent(request: HttpRequest, error: Exception) -> bool:
    """Whether a server may have acted on it. What can be redirected may have failed at a further one."""
    return request.method in _FOLLOWED_METHODS or not never_sent(error)


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
