"""Connections of one entry: opened with a bounded backoff, shared or for one call, closed when idle and at the end."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from goagents.errors import ToolUnavailable
from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.websocket_connection import Connection
from goagents.tools.websocket_session import FAREWELL_SECONDS, Address, HandshakeFailed, WebsocketSession

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """How connections are kept, in seconds: `setup` for one attempt to open one, `idle` until one is closed unused,
    `farewell` for closing one."""

    setup: float = 30.0
    idle: float = 300.0
    farewell: float = FAREWELL_SECONDS


class Keeper:
    """`headers` resolves the headers of one handshake, and raises ConfigurationError."""

    def __init__(
        self,
        session: WebsocketSession,
        address: Address,
        headers: Callable[[], Mapping[str, str]],
        spec: WebsocketToolSpec,
        terms: Terms,
    ) -> None:
        self._session = session
        self.address = address
        self._headers = headers
        self._correlation = spec.correlation
        self._reconnect = spec.reconnect
        self._shares = (spec.connection or ("shared" if spec.mode == "request" else "per_call")) == "shared"
        self._terms = terms
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.trouble: str | None = None  # why the latest attempt to connect failed

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Give an open connection for one call. Raises ToolError where none can be had.

        Calls that nothing tells apart take turns. One of them that fails or is cancelled takes its connection along:
        its answer, still to come, would be taken for the next call's.
        """
        if self._shares and self._correlation is not None:
            yield await self._shared()
        elif self._shares:
            async with self._turn:
                connection = await self._shared()
                try:
                    yield connection
                except BaseException:
                    self._abandon(connection)
                    raise
        else:
            connection = await self._open()
            try:
                yield connection
            finally:
                self._abandon(connection)

    async def aclose(self) -> None:
        """Close everything: within a bound, whatever the server does."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._connection is not None:
            self._abandon(self._connection)
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def _shared(self) -> Connection:
        """Return the shared connection, opened if need be: once, however many calls wait for it."""
        if self._connection is not None and not self._connection.over:
            return self._connection
        if self._opening is None:
            self._opening = asyncio.create_task(self._renew())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled() and self._closed:
                raise ToolUnavailable("the toolset is closed") from None
            raise

    async def _renew(self) -> Connection:
        former, self._connection = self._connection, None
        if former is not None:
            self._abandon(former)
        self._connection = await self._open()
        self._watch(self._terms.idle)
        return self._connection

    def _opened(self, opening: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who wait have it; whether anybody still does is their affair

    async def _open(self) -> Connection:
        pause = self._reconnect.backoff
        left = self._reconnect.attempts
        while True:
            if self._closed:
                raise ToolUnavailable("the toolset is closed")
            try:
                socket = await self._session.handshake(self.address, self._headers(), self._terms.setup)
            except HandshakeFailed as failed:
                self.trouble = failed.cause.detail
                if not failed.passing or left == 0:
                    raise failed.cause from None
            else:
                self.trouble = None
                address = self.address
                return Connection(socket, address.place, self._correlation, address.heartbeat, self._terms.farewell)
            left -= 1
            _log.info("%s cannot be connected to, %d attempts left", self.address.place, left + 1)
            await asyncio.sleep(min(pause, self._reconnect.max_backoff) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause *= 2

    def _watch(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Close the shared connection if nobody has used it for long."""
        connection = self._connection
        if connection is None or connection.over or self._closed:
            return
        now = asyncio.get_running_loop().time()
        left = (now if connection.busy else connection.used) + self._terms.idle - now
        if left > 0:
            self._watch(left)
            return
        self._abandon(connection)

    def _abandon(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
        connection.abandon()
        task = asyncio.create_task(connection.closed())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
