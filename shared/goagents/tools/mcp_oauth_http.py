"""The requests that signing in makes (metadata, registration, tokens): guarded as the server's own are, each within a
time and a size. What it answers are facts for the SDK, which knows the protocol; what cannot be had raises ToolFailed.
"""

import asyncio

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from goagents.errors import AddressRefused, ToolFailed
from goagents.net.guarded import USER_AGENT, GuardedSession, explain, never_sent

MAX_ANSWER = 1 << 20  # bytes; metadata is a few KiB
_BUSY = 429


class OAuthTransport(httpx2.AsyncBaseTransport):
    """`seconds` is the time that one request may take, until its answer has been read. `secure`: the server itself is
    reached over TLS, so nothing of its login goes without."""

    def __init__(self, session: GuardedSession, seconds: float, *, secure: bool) -> None:
        self._session = session
        self._seconds = seconds
        self._secure = secure

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = URL(str(request.url), encoded=True)
        place = url.raw_host or ""
        if self._secure and url.scheme != "https":
            raise ToolFailed(f"signing in: {place} would be asked without TLS, and the server itself has it")
        try:
            self._session.check(url)
            async with asyncio.timeout(self._seconds):
                return await self._sent(request, url)
        except AddressRefused as error:
            raise ToolFailed(f"signing in: {error.detail}") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = explain(error, place, self._seconds)
            raise ToolFailed(f"signing in: {reason}").because("server", sent=not never_sent(error)) from error

    async def _sent(self, request: httpx2.Request, url: URL) -> httpx2.Response:
        headers = CIMultiDict({name: value for name, value in request.headers.items() if name.lower() not in _OURS})
        headers.update({"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"})
        content = await request.aread()
        async with self._session.live().request(
            request.method, url, headers=headers, data=content or None, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ToolFailed(f"signing in: {url.raw_host} answered with more than {MAX_ANSWER >> 20} MiB")
            if response.status == _BUSY or (response.status >= 500 and request.method == "POST"):
                # Of a refresh, the SDK would conclude that the session is over.
                failed = ToolFailed(f"signing in: {url.raw_host} answered HTTP {response.status}")
                raise failed.because("busy" if response.status == _BUSY else "server")
            return httpx2.Response(response.status, headers=_kept(response), content=bytes(body))


_OURS = frozenset({"user-agent", "accept", "accept-encoding", "connection", "content-length", "host"})


def _kept(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.items() if name.lower() in ("content-type", "location")]
