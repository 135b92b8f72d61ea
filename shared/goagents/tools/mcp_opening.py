"""Opens a client to a server: over a program's pipes, streamable HTTP, or SSE where a server knows no other."""

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import httpx2
import mcp_types as types
from mcp.client import Client
from mcp.client.session import MessageHandlerFnT
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from goagents import __version__
from goagents.net.guarded import GuardedSession
from goagents.tools.mcp_delivery import MAX_MESSAGE, Delivery
from goagents.tools.mcp_http import GuardedTransport
from goagents.tools.mcp_oauth import Authorization
from goagents.tools.mcp_stdio import Output, program
from goagents.tools.mcp_target import Program, Site, Target

# What the SDK logs quotes what servers send, URLs and session ids; what matters of it is raised or logged by us.
for _name in ("mcp", "client", "httpx2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_CLIENT = types.Implementation(name="goagents", version=__version__)
_NO_POST = frozenset({400, 404, 405, 406, 415})  # what servers that know only SSE answer to a POST


class Opening:
    """One attempt to open a client. `last` is how far the latest HTTP request got."""

    def __init__(
        self,
        target: Target,
        session: GuardedSession | None,
        authorization: Authorization | None,
        output: Output,
        on_message: MessageHandlerFnT,
    ) -> None:
        self._target = target
        self._session = session
        self._authorization = authorization
        self._output = output
        self._on_message = on_message
        self._transport: GuardedTransport | None = None

    @property
    def last(self) -> Delivery:
        return Delivery() if self._transport is None else self._transport.last

    def client(self) -> AbstractAsyncContextManager[Client]:
        """Return the client, to be entered and left in one task."""
        if isinstance(self._target, Program):
            return self._over(program(self._target, self._output), "auto")
        return self._over_http(self._target)

    @asynccontextmanager
    async def _over(self, transport: Any, mode: Literal["auto", "legacy"]) -> AsyncGenerator[Client, None]:
        async with Client(
            transport, mode=mode, client_info=_CLIENT, cache=None, message_handler=self._on_message
        ) as client:
            yield client

    @asynccontextmanager
    async def _over_http(self, site: Site) -> AsyncGenerator[Client, None]:
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(self._streamable(site))
            except Exception:  # of the SDK, alone or in a group
                if self.last.status not in _NO_POST:
                    raise
                client = await stack.enter_async_context(self._events(site, self.last))
            yield client

    @asynccontextmanager
    async def _streamable(self, site: Site) -> AsyncGenerator[Client, None]:
        async with self._http(site) as http:
            transport = streamable_http_client(str(site.url), http_client=http, max_sse_event_size=MAX_MESSAGE)
            async with self._over(transport, "auto") as client:
                yield client

    @asynccontextmanager
    async def _events(self, site: Site, refusal: Delivery) -> AsyncGenerator[Client, None]:
        def factory(
            headers: dict[str, str] | None = None,  # noqa: ARG001 - the transport has them
            timeout: httpx2.Timeout | None = None,  # noqa: ARG001 - each call has its own
            auth: httpx2.Auth | None = None,  # noqa: ARG001 - there is none
        ) -> httpx2.AsyncClient:
            return self._http(site, aborts=True)

        try:
            async with self._over(sse_client(str(site.url), httpx_client_factory=factory), "legacy") as client:
                yield client
        except httpx2.HTTPStatusError:
            if self._transport is not None:
                self._transport.last = refusal  # it knows no SSE either: the first answer tells more
            raise

    def _http(self, site: Site, *, aborts: bool = False) -> httpx2.AsyncClient:
        if self._session is None:
            raise AssertionError("a site is called over a session")
        self._transport = GuardedTransport(self._session, site.headers, self._authorization, aborts=aborts)
        return httpx2.AsyncClient(transport=self._transport, timeout=None, trust_env=False)
