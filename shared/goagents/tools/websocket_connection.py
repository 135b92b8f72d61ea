"""One open WebSocket, and the task that reads it from opening to end and hands each message to whom it is for."""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp import WSMessage, WSMsgType

from goagents.errors import ToolFailed
from goagents.spec.websocket import CorrelationSpec
from goagents.tools.websocket_message import Received
from goagents.tools.websocket_session import FAREWELL_SECONDS, MAX_MESSAGE, Socket, hang_up

_log = logging.getLogger(__name__)
_MAX_PENDING = 1024  # calls that wait on one connection
_MAX_REASON = 123  # what a close frame can carry
_CLOSE_CODES = {
    1000: "normal",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1010: "extension needed",
    1011: "internal error",
    1012: "restarting",
    1013: "try again later",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection is over. `orderly`: the server had nothing more to say (1000, 1001)."""

    reason: str
    orderly: bool = False


class Lost(Exception):
    """The connection failed a call. `sent`: the server may have read the call's message."""

    def __init__(self, ending: Ending, *, sent: bool) -> None:
        super().__init__(ending.reason)
        self.ending = ending
        self.sent = sent


class Listener(Protocol):
    """Who gets the messages of a connection without correlation. `done` is failed when the connection ends."""

    done: asyncio.Future[Any]

    def offer(self, message: Received) -> None: ...


class Connection:
    """Belongs to its owner task; others send through it and wait.

    `place` is the host, for messages; `farewell` are the seconds that the server has to answer our close frame.
    """

    def __init__(
        self,
        socket: Socket,
        place: str,
        correlation: CorrelationSpec | None,
        heartbeat: float | None,
        farewell: float = FAREWELL_SECONDS,
    ) -> None:
        self._socket = socket
        self._place = place
        self._answer = (correlation.answer or correlation.field) if correlation is not None else None
        self._numeric = correlation is not None and correlation.numeric
        self._heartbeat = heartbeat
        self._farewell = farewell
        self._pending: dict[str | int, asyncio.Future[Received]] = {}
        self._listener: Listener | None = None
        self._numbers = 0
        self._ending: Ending | None = None
        self.passed_over = 0  # messages that no call waited for
        self._abandoned = False
        self._tasks = [asyncio.create_task(self._own())]
        self.used = asyncio.get_running_loop().time()

    @property
    def over(self) -> bool:
        """Whether it can carry no further call."""
        return self._abandoned or self._ending is not None or self._socket.closed

    @property
    def busy(self) -> bool:
        return bool(self._pending) or self._listener is not None

    @contextmanager
    def expecting(self) -> "Iterator[tuple[str | int, asyncio.Future[Received]]]":
        """Give a fresh id, and the future of the message that repeats it. Raises Lost, ToolFailed."""
        self._check()
        if len(self._pending) >= _MAX_PENDING:
            raise ToolFailed(f"more than {_MAX_PENDING} calls wait for {self._place}")
        self._numbers += 1
        number = self._numbers if self._numeric else uuid.uuid4().hex
        answer: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            yield number, answer
        finally:
            self._pending.pop(number, None)
            self._unused(answer)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Have every message offered to `listener`, the only one at a time. Raises Lost."""
        self._check()
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None
            self._unused(listener.done)

    async def send(self, text: str) -> None:
        """Raises Lost."""
        self._check()
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, ConnectionError) as error:
            # This is what aiohttp says of a frame that it did not begin to write; of any other, nobody knows.
            sent = "closing transport" not in str(error)
            raise Lost(self._ending or Ending(f"{self._place} lost the connection"), sent=sent) from None

    def abandon(self) -> None:
        """Close it in the background."""
        if not self._abandoned:
            self._abandoned = True
            self._tasks.append(asyncio.create_task(hang_up(self._socket, self._farewell)))

    async def closed(self) -> None:
        """Wait until nothing of it is left, after `abandon`: within a bound, whatever the server does."""
        _, late = await asyncio.wait(self._tasks, timeout=2 * self._farewell)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _check(self) -> None:
        if self.over:
            raise Lost(self._ending or Ending(f"the connection to {self._place} was closed"), sent=False)

    def _unused(self, done: asyncio.Future[Any]) -> None:
        self.used = asyncio.get_running_loop().time()
        if done.done() and not done.cancelled():
            done.exception()  # whoever waited has it; if nobody did, it is of no interest

    async def _own(self) -> None:
        ending = Ending(f"the connection to {self._place} was closed")
        try:
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.TEXT:
                    self._dispatch(Received(message.data, len(message.data)))
                elif message.type is WSMsgType.BINARY:
                    self._dispatch(Received(None, len(message.data)))
                else:
                    ending = self._ended_by(message)
                    break
        finally:
            self._finish(ending)
            await hang_up(self._socket, self._farewell)

    def _dispatch(self, message: Received) -> None:
        if self._listener is not None:
            self._listener.offer(message)
            return
        found: Any = message.at(self._answer) if self._answer is not None and self._pending else None
        answer = self._pending.pop(found, None) if type(found) in (str, int) else None
        if answer is None:
            self.passed_over += 1
            _log.debug("a message of %s is dropped: no call waits for it", self._place)
        elif not answer.done():
            answer.set_result(message)

    def _finish(self, ending: Ending) -> None:
        self._ending = ending
        waiting = [*self._pending.values(), *([self._listener.done] if self._listener is not None else [])]
        for done in waiting:
            if not done.done():
                done.set_exception(Lost(ending, sent=True))

    def _ended_by(self, message: WSMessage) -> Ending:
        place = self._place
        if message.type is WSMsgType.CLOSE:
            code, reason = message.data or 1005, str(message.extra or "")[:_MAX_REASON]
            what = (
                " ".join(filter(None, [str(code) if code != 1005 else "", _CLOSE_CODES.get(code, "")])) or "no reason"
            )
            return Ending(
                f"{place} closed the connection ({what}{f': {reason}' if reason else ''})", code in (1000, 1001)
            )
        if message.type is not WSMsgType.ERROR:
            gone = f"{place} lost the connection"
            return Ending(f"the connection to {place} was closed" if self._abandoned else gone)
        error = message.data
        if isinstance(error, aiohttp.WebSocketError) and error.code == 1009:
            return Ending(f"{place} sent a message of more than {MAX_MESSAGE >> 20} MiB")
        if isinstance(error, aiohttp.WebSocketError):
            return Ending(
                f"{place} broke the protocol ({error.code} {_CLOSE_CODES.get(error.code, '')})".replace(" )", ")")
            )
        if isinstance(error, aiohttp.ServerTimeoutError):
            return Ending(f"{place} did not answer a ping within {(self._heartbeat or 0) / 2:g} s")
        return Ending(f"{place} lost the connection")
