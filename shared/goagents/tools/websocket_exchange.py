"""What one call does on a connection: ask and wait for the answer, or collect what comes until a condition holds."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from goagents.spec.websocket import UntilSpec
from goagents.tools.websocket_connection import Connection, Lost
from goagents.tools.websocket_message import Message, Received, same

_log = logging.getLogger(__name__)
MAX_MESSAGES = 100  # of one collecting call, unless its entry says otherwise


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one collecting call: `seconds` in all, number of messages, and their bytes together."""

    seconds: float
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class Collected:
    """`ended` says what ended it. `failed`: the connection broke before the condition held."""

    messages: Sequence[Received]
    ended: str
    failed: bool = False


class _First:
    """Takes the first message."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Received] = asyncio.get_running_loop().create_future()

    def offer(self, message: Received) -> None:
        if not self.done.done():
            self.done.set_result(message)


class _Collector:
    """Takes messages until one of them meets a condition or a bound is reached; `done` is then why."""

    def __init__(self, until: UntilSpec, bounds: Bounds) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[str] = loop.create_future()
        self.messages: list[Received] = []
        self._loop = loop
        self._until = until
        self._bounds = bounds
        self._size = 0
        self._heard = loop.time()

    def offer(self, message: Received) -> None:
        if self.done.done():
            return
        self._heard = self._loop.time()
        self.messages.append(message)
        self._size += message.size
        if (reason := self._reason(message)) is not None:
            self.done.set_result(reason)

    async def wait(self) -> str:
        """Return why it is over. Raises Lost."""
        begun = self._loop.time()
        silence = self._until.silence
        while True:
            quiet = self._heard + silence if silence is not None else None
            end = begun + self._bounds.seconds
            await asyncio.wait({self.done}, timeout=max(0.0, min(end, quiet or end) - self._loop.time()))
            if self.done.done():
                return self.done.result()
            now = self._loop.time()
            if quiet is not None and silence is not None and now >= self._heard + silence:
                return f"silence of {silence:g} s"
            if now >= end:
                return f"the time for the call, {self._bounds.seconds:g} s, was over"

    def _reason(self, message: Received) -> str | None:
        until = self._until
        if until.field is not None and same(message.at(until.field), until.equals):
            return f"{until.field} is {json.dumps(until.equals, ensure_ascii=False)}"
        if until.count is not None and len(self.messages) >= until.count:
            return "the number of messages asked for"
        if len(self.messages) >= self._bounds.messages:
            return f"the bound of {self._bounds.messages} messages"
        if self._size >= self._bounds.size:
            return "the bound on the size of a result"
        return None


async def ask(connection: Connection, message: Message) -> Received:
    """Send and wait for the answer. Raises Lost, ToolError."""
    if message.correlation is not None:
        before = connection.passed_over
        with connection.expecting() as (number, answer):
            await connection.send(message.encode(number))
            try:
                return await answer
            except asyncio.CancelledError:
                if passed := connection.passed_over - before:
                    _log.info("no answer, but %d messages that repeat no awaited id: is `correlation` right?", passed)
                raise
    first = _First()
    with connection.listening(first):
        await connection.send(message.encode())
        return await first.done


async def collect(
    connection: Connection, until: UntilSpec, bounds: Bounds, message: Message | None, farewell: Message | None
) -> Collected:
    """Send `message`, if any, and collect; send `farewell` at the end. Raises Lost where nothing came, ToolError."""
    collector = _Collector(until, bounds)
    with connection.listening(collector):
        if message is not None:
            await connection.send(message.encode())
        try:
            reason = await collector.wait()
        except Lost as lost:
            if not collector.messages and not lost.ending.orderly:
                raise
            return Collected(collector.messages, lost.ending.reason, not lost.ending.orderly)
        if farewell is not None:
            try:
                await connection.send(farewell.encode())
            except Lost as lost:
                _log.debug("the message at the end of a collecting call was not sent: %s", lost)
    return Collected(collector.messages, reason)
