"""WebSocket servers in the test's loop, and tools opened against them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.support.http_tools import CONTEXT, Lent
from websockets.asyncio.server import ServerConnection, serve

from goagents.net.guarded import Lookup, system_lookup
from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import Tool, ToolEnvironment, ToolResult
from goagents.tools.websocket import WebsocketToolset
from goagents.tools.websocket_keeper import Terms

Handler = Callable[[ServerConnection], Awaitable[None]]
CORRELATED = {"message": {"text": "{message}"}, "correlation": {"field": "id"}}


@asynccontextmanager
async def server(handler: Handler, port: int = 0, **options: Any) -> AsyncIterator[str]:
    """Serve on loopback while inside; gives the URL."""
    async with serve(handler, "127.0.0.1", port, close_timeout=0.5, **options) as running:
        scheme = "wss" if options.get("ssl") else "ws"
        yield f"{scheme}://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"


def toolset_of(
    *,
    allowed: Sequence[str] = ("127.0.0.0/8",),
    lookup: Lookup = system_lookup,
    ca_bundle: str | None = None,
    terms: Terms | None = None,
    lent: Lent | None = None,
    **fields: Any,
) -> WebsocketToolset:
    """Return the toolset of one entry. Loopback is allowed unless `allowed` says otherwise."""
    fields = {"type": "websocket", "name": "ws", "reconnect": {"attempts": 0}, **fields}
    environment = ToolEnvironment((lent or Lent()).resolve, tuple(allowed), ca_bundle)
    return WebsocketToolset(WebsocketToolSpec.model_validate(fields), environment, terms, lookup)


@asynccontextmanager
async def websocket_tool(**fields: Any) -> AsyncIterator[Tool]:
    """Give the tool of one entry, and close its toolset. `fields` as `toolset_of` takes them."""
    toolset = toolset_of(**fields)
    try:
        (tool,) = await toolset.open()
        yield tool
    finally:
        await toolset.aclose()


async def call(tool: Tool, **arguments: Any) -> ToolResult:
    return await tool.call(arguments, CONTEXT)
