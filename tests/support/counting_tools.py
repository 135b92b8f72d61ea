"""A service of orders on loopback that remembers each call: what a test can ask how often something was really done."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.support.asgi_server import AsgiServer


@dataclass(frozen=True)
class ToolCall:
    tool: str
    order: int
    key: str | None  # the header Idempotency-Key


class CountingTools:
    """`look` (GET), `reserve` (POST, idempotent by its key) and `refund` (POST).

    `delays` is by tool how many seconds an answer takes, after the call was noted. `on_call` is called then, from the
    server's thread.
    """

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self.delays: dict[str, float] = {}
        self.on_call: Callable[[ToolCall], None] | None = None
        routes = [
            Route("/look", self._look, methods=["GET"]),
            Route("/reserve", self._reserve, methods=["POST"]),
            Route("/refund", self._refund, methods=["POST"]),
        ]
        self._server = AsgiServer(Starlette(routes=routes))
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(None, None, None)

    def of(self, tool: str, order: int) -> list[ToolCall]:
        """Return the calls of one tool for one order."""
        return [call for call in self.calls if (call.tool, call.order) == (tool, order)]

    async def _look(self, request: Request) -> JSONResponse:
        order = int(request.query_params["order"])
        await self._note(request, "look", order)
        return JSONResponse({"order": order, "state": "shipped"})

    async def _reserve(self, request: Request) -> JSONResponse:
        order = (await request.json())["order"]
        await self._note(request, "reserve", order)
        return JSONResponse({"order": order, "reserved": True})

    async def _refund(self, request: Request) -> JSONResponse:
        order = (await request.json())["order"]
        await self._note(request, "refund", order)
        return JSONResponse({"order": order, "refunded": True})

    async def _note(self, request: Request, tool: str, order: int) -> None:
        call = ToolCall(tool, order, request.headers.get("idempotency-key"))
        self.calls.append(call)
        if self.on_call is not None:
            self.on_call(call)
        await asyncio.sleep(self.delays.get(tool, 0.0))
