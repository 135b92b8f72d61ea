"""WebSocket handshakes over the guarded aiohttp session: admitted addresses only, and never a redirect."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from goagents.errors import AddressRefused, ConfigurationError, ToolError, ToolFailed, ToolTimedOut
from goagents.net.guarded import USER_AGENT, GuardedSession, explain

MAX_MESSAGE = 4 << 20  # bytes of one message of a server; a longer one ends its connection
FAREWELL_SECONDS = 2.0  # for the server's answer to our close frame
_PLAIN_SCHEMES = {"ws": "http", "wss": "https"}  # what the handshake is, and the guard knows
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be another a moment later

Socket = aiohttp.ClientWebSocketResponse


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and how. `heartbeat` in seconds; None for no pings."""

    url: URL = field(repr=False)
    subprotocols: Sequence[str] = ()
    heartbeat: float | None = None

    @property
    def place(self) -> str:
        return self.url.raw_host or ""


class HandshakeFailed(Exception):
    """No connection came about. `passing`: for a reason that may be gone with the next attempt."""

    def __init__(self, cause: ToolError, *, passing: bool) -> None:
        super().__init__(cause.detail)
        self.cause = cause.because("server" if passing else None, sent=False)
        self.passing = passing


class WebsocketSession(GuardedSession):
    """A guarded session for handshakes. `ws_connect` would follow redirects, to literal addresses past the resolver."""

    def _new(self) -> aiohttp.ClientSession:
        guarded = super()._new()
        session = aiohttp.ClientSession(
            connector=guarded.connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=guarded.timeout,
            trust_env=False,
            middlewares=(self._without_redirect,),
        )
        guarded.detach()  # its connections are the new session's now
        return session

    def check_handshake(self, url: URL) -> None:
        """Raise AddressRefused where a `ws` or `wss` URL can be refused without a look-up."""
        self.check(_plain(url))

    async def handshake(self, address: Address, headers: Mapping[str, str], seconds: float) -> Socket:
        """Return an open WebSocket. Raises HandshakeFailed; no message holds a header or a query."""
        place = address.place
        try:
            async with asyncio.timeout(seconds):
                socket = await self._connect(address, headers)
        except aiohttp.WSServerHandshakeError as error:
            raise HandshakeFailed(ToolFailed(_refusal(error, place)), passing=error.status in _PASSING) from None
        except AddressRefused as error:
            raise HandshakeFailed(error, passing=False) from None
        except ConfigurationError as error:
            raise HandshakeFailed(ToolFailed(error.detail), passing=False) from None
        except TimeoutError as error:
            raise HandshakeFailed(ToolTimedOut(explain(error, place, seconds)), passing=True) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise _failure(error, place, seconds) from None
        if address.subprotocols and socket.protocol is None:
            await hang_up(socket)
            spoken = ", ".join(address.subprotocols)
            raise HandshakeFailed(ToolFailed(f"{place} takes none of the `subprotocols` ({spoken})"), passing=False)
        return socket

    async def _connect(self, address: Address, headers: Mapping[str, str]) -> Socket:
        url = _plain(address.url)
        self.check(url)
        every = CIMultiDict({"User-Agent": USER_AGENT})
        every.update(headers)  # whatever the spelling: a header sent twice means what the server likes
        return await self.live().ws_connect(
            url,
            headers=every,
            protocols=address.subprotocols,
            heartbeat=address.heartbeat,
            max_msg_size=MAX_MESSAGE,
            autoclose=False,  # whoever waits is told first
            timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
        )

    async def _without_redirect(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self.check(request.url)
        response = await handler(request)
        if 300 <= response.status < 400:
            response.close()
            raise AddressRefused(
                f"{request.url.raw_host} redirects (HTTP {response.status}), and a WebSocket follows no redirect; "
                "write the address it leads to as the `url`"
            )
        return response


def _plain(url: URL) -> URL:
    return url.with_scheme(_PLAIN_SCHEMES[url.scheme])


async def hang_up(socket: Socket, seconds: float = FAREWELL_SECONDS) -> None:
    """Close it with a handshake, within a bound even where the server reads nothing more."""
    try:
        async with asyncio.timeout(seconds):
            await socket.close()
    except TimeoutError:
        pass


def _failure(error: aiohttp.ClientError | ValueError, place: str, seconds: float) -> HandshakeFailed:
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return HandshakeFailed(ToolFailed(explain(error, place, seconds)), passing=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return HandshakeFailed(ToolFailed(explain(error, place, seconds)), passing=True)
    if isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
        return HandshakeFailed(ToolFailed(f"{place} closed the connection during the handshake"), passing=True)
    return HandshakeFailed(ToolFailed(explain(error, place, seconds)), passing=False)


def _refusal(error: aiohttp.WSServerHandshakeError, place: str) -> str:
    if error.status == 101:
        return f"{place} answered the WebSocket handshake wrongly"
    status = f"HTTP {error.status} {_PHRASES.get(error.status, '')}".rstrip()
    hint = "; are the `headers` right?" if error.status in (401, 403) else ""
    hint = "; is this the address of a WebSocket?" if error.status in (200, 400, 404, 405, 426) else hint
    return f"{place} refused the WebSocket handshake with {status}{hint}"
