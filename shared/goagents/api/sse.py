"""Server-sent events (the WHATWG format): cheap for each event, and a reader that leaves stops nothing but itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar, cast

from starlette.types import Receive, Scope, Send

from goagents.errors import GoAgentsError

from .calls import call_in
from .errors import as_error, problem_of
from .responses import render
from .shutdown import Shutdown

KEEP_ALIVE = 15.0  # seconds of silence until a comment is sent
STALLED = 60.0  # seconds a client may leave what was sent unread
_BURST = 64  # events sent in a row, where they wait, until others get their turn and a client that left is noticed
_COMMENT = b": keep-alive\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

T = TypeVar("T")


def encode(event: str, data: Any, event_id: str | None = None) -> bytes:
    """Return one event; `data` becomes one line of JSON."""
    head = f"id: {event_id}\nevent: {event}\ndata: " if event_id else f"event: {event}\ndata: "
    return head.encode() + render(data) + b"\n\n"


class EventStream(Generic[T]):
    """An ASGI application that sends `items`, each as `encoded` gives it, as they come.

    What is raised before the first one is raised here too, so that it is answered with its status; later, an event
    `error` with the problem ends the stream. When the client leaves, the rest is not sent, but this returns only after
    `finished()`: what makes the items goes on, and the platform leaves it the CPU.
    `longest` is the time in seconds after which a stream without an end of its own is ended; the end of the process
    ends it too. `keep_alive` and `stalled` are in seconds.
    """

    def __init__(
        self,
        items: AsyncIterator[T],
        encoded: Callable[[T], bytes],
        *,
        finished: Callable[[], Awaitable[None]] | None = None,
        longest: float | None = None,
        keep_alive: float = KEEP_ALIVE,
        stalled: float = STALLED,
    ) -> None:
        self._items = cast("AsyncGenerator[T]", items)  # what yields is closed when nobody reads on
        self._encoded = encoded
        self._finished = finished
        self._longest = longest
        self._keep_alive = keep_alive
        self._stalled = stalled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = _Connection(send)
        pump = asyncio.create_task(self._pump(connection, scope))
        leaving = asyncio.create_task(_left(receive))
        listening = False
        try:
            listening = await self._attend(connection, pump, leaving)
        finally:
            for task in (leaving, pump):
                task.cancel()
            await asyncio.wait({leaving, pump})
            if self._finished is not None:
                await self._finished()
        error = None if pump.cancelled() else pump.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        if listening and error is None:
            await connection.end()

    async def _pump(self, connection: "_Connection", scope: Scope) -> None:
        async with aclosing(self._items) as items:
            try:
                count = 0
                async for item in items:
                    await connection.write(self._encoded(item))
                    count += 1
                    if count % _BURST == 0:
                        await asyncio.sleep(0)
            except OSError:
                raise
            except Exception as error:
                if not connection.begun:
                    raise
                call = call_in(scope)
                known: GoAgentsError = as_error(error, call)
                call.error_code = known.code
                await connection.write(encode("error", problem_of(known, call)))

    async def _attend(
        self, connection: "_Connection", pump: "asyncio.Task[None]", leaving: "asyncio.Task[None]"
    ) -> bool:
        """Keep the connection alive until the items end; return whether the client is still listening then."""
        shutdown = Shutdown.of_process() if self._longest is not None else None
        wait = self._keep_alive if shutdown is None else min(1.0, self._keep_alive)
        started = connection.now()
        while True:
            await asyncio.wait({pump, leaving}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if pump.done() or leaving.done():
                return not leaving.done()
            silence = connection.silence()
            if connection.writing:
                if silence >= self._stalled:
                    return False  # it is there, but it does not read
                continue
            if self._longest is not None and connection.now() - started >= self._longest:
                return True
            if shutdown is not None and shutdown.begun:
                return True
            if silence >= self._keep_alive and not await self._keep(connection):
                return False

    async def _keep(self, connection: "_Connection") -> bool:
        try:
            async with asyncio.timeout(self._stalled):
                await connection.write(_COMMENT)
        except (OSError, TimeoutError):
            return False
        return True


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Connection:
    """The answer's connection: its head goes out with the first bytes."""

    __slots__ = ("_last", "_send", "begun", "now", "writing")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.now = asyncio.get_running_loop().time
        self._last = self.now()
        self.begun = False
        self.writing = False

    def silence(self) -> float:
        """Return the seconds since something was last given to the client."""
        return self.now() - self._last

    async def write(self, body: bytes) -> None:
        """Raises OSError where the server says that the client is gone."""
        self.writing = True
        self._last = self.now()
        if not self.begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.writing = False

    async def end(self) -> None:
        if not self.begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
