"""A program as an MCP server: started in a process group of its own, spoken to line by line, ended by its id.

The SDK's own stdio transport reads lines of any length and writes the program's errors to ours. Here a line has a
bound, standard error goes to the log with one, and each message notes whether it was written.
"""

import asyncio
import contextlib
import logging
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from goagents import children
from goagents.tools.mcp_delivery import MAX_MESSAGE, TRANSPORT_FAILED, current
from goagents.tools.mcp_target import Program

_log = logging.getLogger(__name__)
_GRACE = 2.0  # seconds to end by itself once its input is closed, and again after SIGTERM
_POLL = 0.01
_MAX_LINE = 1000  # characters of a line of standard error
_LINES_A_MINUTE = 60
_KEPT_LINES = 4
_MAX_GARBAGE = 1000  # lines in a row that are no messages
_ID = re.compile(rb'"id"\s*:\s*(\d+|"[^"\\]{1,64}")')

Messages = MemoryObjectReceiveStream[SessionMessage | Exception]
Incoming = MemoryObjectSendStream[SessionMessage | Exception]


class Output:
    """What a program says besides the protocol: its last lines, for errors, and a bounded part of them for the log."""

    def __init__(self, name: str, redact: Callable[[str], str]) -> None:
        self._name = name
        self._redact = redact
        self._minute = 0.0
        self._shown = 0
        self.last: deque[str] = deque(maxlen=_KEPT_LINES)
        self.ended: str | None = None

    def line(self, raw: bytes) -> None:
        text = self._redact(raw.decode(errors="replace").rstrip())[:_MAX_LINE]
        if not text:
            return
        self.last.append(text)
        self.log(text)

    def log(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._minute >= 60:
            self._minute, self._shown = now, 0
        self._shown += 1
        if self._shown <= _LINES_A_MINUTE:
            _log.info("tool %s: its server: %s", self._name, text)
        elif self._shown == _LINES_A_MINUTE + 1:
            _log.info("tool %s: its server writes more than %d lines a minute", self._name, _LINES_A_MINUTE)

    def summary(self) -> str:
        """Return how it ended and what it last wrote, as far as known, to follow a sentence."""
        ended = f" {self.ended}" if self.ended else ""
        wrote = f" It last wrote: {' / '.join(self.last)}" if self.last else ""
        return f"{ended}{wrote}"


@asynccontextmanager
async def program(target: Program, output: Output) -> AsyncGenerator[tuple[Messages, "_Input"], None]:
    """Run the program and yield what the SDK reads and writes. Raises OSError where it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        target.command,
        *target.args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=get_default_environment() | dict(target.env),  # not ours as a whole: it holds keys
        cwd=target.cwd,
        start_new_session=True,
        limit=MAX_MESSAGE,
    )
    children.began(process.pid)
    into, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    stdin = _Input(process)
    readers = [asyncio.create_task(_read(process, into, output)), asyncio.create_task(_listen(process, output))]
    try:
        yield messages, stdin
    finally:
        messages.close()
        # In a task of its own: whatever cancels this one, the program does not outlive it.
        ending = asyncio.create_task(_end(process, stdin))
        try:
            await asyncio.shield(ending)
        finally:
            for reader in readers:
                reader.cancel()
            into.close()


class _Input:
    """The program's standard input, as the SDK writes to it. `send` runs in the task that waits for the answer."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()
        self._closed = False

    async def send(self, item: SessionMessage, /) -> None:
        """Raises anyio.BrokenResourceError where the program does not read any more."""
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        stdin = self._process.stdin
        async with self._lock:
            if self._closed or stdin is None or stdin.is_closing() or self._process.returncode is not None:
                raise anyio.BrokenResourceError
            stdin.write(line)  # whole: a cancelled call leaves no torn line behind
            if stdin.is_closing():  # the pipe has no reader any more: nothing was written
                raise anyio.BrokenResourceError
            current().sent = True
            try:
                await stdin.drain()
            except ConnectionError as error:
                raise anyio.BrokenResourceError from error

    async def aclose(self) -> None:
        self._closed = True
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _read(process: Process, into: Incoming, output: Output) -> None:
    """Pass messages on until standard output ends."""
    stdout, garbage = process.stdout, 0
    assert stdout is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session has ended
        async with into:
            while garbage < _MAX_GARBAGE:
                try:
                    line = await stdout.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    break
                except asyncio.LimitOverrunError as overrun:
                    await _refuse_large(stdout, overrun.consumed, into)
                    continue
                message = _message(line)
                if message is not None:
                    garbage = 0
                    await into.send(message)
                elif line.strip():
                    garbage += 1
                    output.line(b"(not a message of the protocol) " + line[:_MAX_LINE])
            await _note_end(process, output)
    with contextlib.suppress(OSError):
        while await stdout.read(1 << 16):  # lest it block on a full pipe instead of ending
            pass


async def _note_end(process: Process, output: Output) -> None:
    """The pipe's end comes a moment before the process's."""
    if await _ended(process, 0.1):
        code = process.returncode or 0
        output.ended = f"It ended with status {code}." if code >= 0 else f"It was ended by signal {-code}."


def _message(line: bytes) -> SessionMessage | None:
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


async def _refuse_large(stdout: asyncio.StreamReader, consumed: int, into: Incoming) -> None:
    """Skip a line that is longer than a message may be, and fail the call it answers."""
    head = tail = b""
    while True:
        chunk = await stdout.readexactly(consumed)
        head, tail = head or chunk[:256], (tail + chunk)[-256:]
        try:
            tail = (tail + await stdout.readuntil(b"\n"))[-256:]
            break
        except asyncio.LimitOverrunError as overrun:
            consumed = overrun.consumed
        except asyncio.IncompleteReadError as ended:
            tail = (tail + ended.partial)[-256:]
            break
    found = _ID.search(head) or next(reversed(list(_ID.finditer(tail))), None)
    if found is None:
        return
    raw = found[1].decode()
    request: int | str = raw.strip('"') if raw.startswith('"') else int(raw)
    error = types.ErrorData(code=TRANSPORT_FAILED, message=f"answered with more than {MAX_MESSAGE >> 20} MiB")
    await into.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request, error=error)))


async def _listen(process: Process, output: Output) -> None:
    """Log standard error, line by line; what is longer than a line may be comes in pieces."""
    stderr: Any = process.stderr
    rest = b""
    while chunk := await stderr.read(1 << 14):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            output.line(line)
        if len(rest) > _MAX_LINE * 4:
            output.line(rest)
            rest = b""
    output.line(rest)


async def _end(process: Process, stdin: _Input) -> None:
    """Close its input, wait, then end its process group: the order that the protocol asks for."""
    await stdin.aclose()
    if not await _ended(process, _GRACE):
        children.signal_group(process.pid, signal.SIGTERM)
        if not await _ended(process, _GRACE):
            children.signal_group(process.pid, signal.SIGKILL)
            await _ended(process, _GRACE)
    children.ended(process.pid)
    transport = getattr(process, "_transport", None)  # a grandchild may hold the pipes: without this they stay open
    if transport is not None:
        transport.close()


async def _ended(process: Process, seconds: float) -> bool:
    """Not `process.wait`, which also waits for pipes that a grandchild may hold."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while process.returncode is None:
        if loop.time() >= until:
            return False
        await asyncio.sleep(_POLL)
    return True
