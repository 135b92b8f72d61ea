"""HTTP for the MCP SDK: an httpx2 transport over the guarded aiohttp session.

The SDK decides what to send; where a connection may go is decided in `goagents.net`, as for every tool. What fails
below the protocol is answered in the server's place, as an error of the one request it is about: an exception out of
here would end the SDK's task group, and every other call with it. Redirects are the SDK's, which follows them only
within the origin and with the same method; each passes through here, and the guard, again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
import httpx2
from mcp.client.auth.utils import extract_field_from_www_auth
from multidict import CIMultiDict
from yarl import URL

from goagents.errors import GoAgentsError
from goagents.net.guarded import USER_AGENT, GuardedSession, explain, never_sent
from goagents.tools.mcp_delivery import MAX_MESSAGE, TRANSPORT_FAILED, Delivery, current
from goagents.tools.mcp_oauth import Authorization, SignInFailed, challenge_of

_MAX_ERROR = 64 << 10  # bytes read of an answer that is an error
_DRAIN_SECONDS = 0.05
_HEAD_SECONDS = 3600.0  # for the head of an answer; the engine's timeout of the call ends it long before
_EVENTS = "text/event-stream"
_JSON = "application/json"
_ENCODING = "Content-Encoding"


class GuardedTransport(httpx2.AsyncBaseTransport):
    """`headers` are resolved for each request. `aborts`: the answer comes another way (SSE), so whoever waits for that
    of a message that cannot be delivered is cancelled. `authorization` knows the token to send, and gets another when
    it is refused. `last` is how far the latest request got."""

    def __init__(
        self,
        session: GuardedSession,
        headers: Callable[[], Mapping[str, str]],
        authorization: Authorization | None = None,
        *,
        aborts: bool = False,
    ) -> None:
        self._session = session
        self._headers = headers
        self._authorization = authorization
        self._aborts = aborts
        self.last = Delivery()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.last = delivery = current()
        delivery.failure = delivery.status = None
        delivery.session = "mcp-session-id" in request.headers
        url = URL(str(request.url), encoded=True)
        place = url.raw_host or ""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                return await self._send(request, url, delivery)
        except GoAgentsError as error:  # a refused address, an unset variable, no token: the call was not taken
            delivery.fail(str(error), sent=False)
            delivery.status = 401 if isinstance(error, SignInFailed) else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            delivery.fail(explain(error, place, _HEAD_SECONDS), sent=not never_sent(error))
        return self._failed(delivery, 502)

    async def _send(self, request: httpx2.Request, url: URL, delivery: Delivery) -> httpx2.Response:
        self._session.check(url)
        authorization = self._authorization
        token = None if authorization is None else await authorization.token()
        response = await self._sent(request, url, token, delivery)
        if authorization is not None and (challenge := await _challenge(response, request)) is not None:
            token = await authorization.challenged(challenge, token)
            response = await self._sent(request, url, token, delivery)
        try:
            return await self._answer(response, delivery)
        except BaseException:
            response.close()
            raise

    async def _sent(
        self, request: httpx2.Request, url: URL, token: str | None, delivery: Delivery
    ) -> aiohttp.ClientResponse:
        headers = CIMultiDict({"User-Agent": USER_AGENT})
        for more in (self._headers(), dict(request.headers)):
            headers.update({name: value for name, value in more.items() if name.lower() not in _OURS})
        headers["Accept-Encoding"] = "identity"  # a compressed answer has no bound that could be held while reading
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = await request.aread()
        delivery.sent = True
        return await self._session.live().request(
            request.method, url, headers=headers, data=content or None, allow_redirects=False
        )

    async def _answer(self, response: aiohttp.ClientResponse, delivery: Delivery) -> httpx2.Response:
        delivery.status = response.status
        if response.headers.get(_ENCODING, "identity").lower() != "identity":
            response.close()
            delivery.fail("answered in an encoding that it was not asked for", sent=True)
            return self._failed(delivery, 502)
        if response.status < 300 and response.content_type == _EVENTS:
            return httpx2.Response(response.status, headers=_kept(response), stream=_Stream(response))
        limit = _MAX_ERROR if response.status >= 300 else MAX_MESSAGE
        body = await _read(response, limit)
        if response.status >= 400 and not _is_rpc_error(body):
            setting = "headers" if self._authorization is None else "oauth"
            delivery.fail(_said(response, setting), sent=response.status >= 500)
            return self._failed(delivery, response.status)
        if len(body) > limit:
            delivery.fail(f"answered with more than {limit >> 20} MiB", sent=True)
            return self._failed(delivery, 502)
        return httpx2.Response(response.status, headers=_kept(response), content=body)

    def _failed(self, delivery: Delivery, status: int) -> httpx2.Response:
        if self._aborts and delivery.task is not None:
            delivery.task.cancel()
        error = {"code": TRANSPORT_FAILED, "message": delivery.failure}
        content = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        return httpx2.Response(status, headers={"Content-Type": _JSON}, content=content)


_OURS = frozenset({"user-agent", "accept-encoding", "connection", "content-length", "host"})


def _kept(response: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    """Return the headers but those that say how the body was sent."""
    dropped = {"content-encoding", "transfer-encoding", "content-length", "connection"}
    return [(name, value) for name, value in response.headers.items() if name.lower() not in dropped]


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body, or a little more than `limit` bytes of it."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            response.close()
            break
    return bytes(body)


def _is_rpc_error(body: bytes) -> bool:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("jsonrpc") == "2.0" and isinstance(value.get("error"), dict)


async def _challenge(response: aiohttp.ClientResponse, request: httpx2.Request) -> httpx2.Response | None:
    """Return what the server wants before it takes the request; None where it wants no (other) token."""
    if response.status not in (401, 403):
        return None
    said = [("WWW-Authenticate", value) for value in response.headers.getall("WWW-Authenticate", ())]
    version = request.headers.get("mcp-protocol-version")
    challenge = challenge_of(response.status, said, str(request.url), version)
    if response.status == 403 and extract_field_from_www_auth(challenge, "error") != "insufficient_scope":
        return None
    await _read(response, _MAX_ERROR)
    response.release()
    return challenge


def _said(response: aiohttp.ClientResponse, setting: str) -> str:
    remedy = f"; it wants another credential: see `{setting}`" if response.status in (401, 403) else ""
    return f"{response.url.raw_host} answered HTTP {response.status}{remedy}"


class _Stream(httpx2.AsyncByteStream):
    """An event stream as it comes. Closed before its end, the connection is closed: for the server that is a signal."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise httpx2.ReadError(f"the event stream broke: {type(error).__name__}") from error

    async def aclose(self) -> None:
        try:
            # After the answer only the end of the body is to come; read, it leaves a connection for the next call.
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._response.connection is not None and not self._response.content.at_eof():
                    await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError):
            pass  # it goes on: then the connection goes
        finally:
            self._response.close()
