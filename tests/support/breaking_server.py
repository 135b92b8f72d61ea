"""An HTTP server of raw bytes on 127.0.0.1, whose answers break where a test wants: connections really end there."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """The bytes of an answer, of which the first `cut` are sent (all of them where it is None); then the connection
    ends, by a reset where `reset` says so."""

    whole: bytes
    cut: int | None = None
    reset: bool = False


def reply(body: bytes, *, status: str = "200 OK", content: str = "text/event-stream", chunked: bool = True) -> bytes:
    """Return an answer as bytes: `chunked`, or ended by the end of the connection."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content}\r\nconnection: close\r\n"
    if not chunked:
        return f"{head}\r\n".encode() + body
    parts = [part + b"\n\n" for part in body.split(b"\n\n") if part]
    pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]
    return f"{head}transfer-encoding: chunked\r\n\r\n".encode() + b"".join(pieces) + b"0\r\n\r\n"


@dataclass
class BreakingServer:
    """`async with BreakingServer(answer) as server: server.url`; `stop` and `start` keep the port."""

    answer: Callable[[Asked], Reply]
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _request(reader)
            self.asked.append(asked)
            given = self.answer(asked)
            writer.write(given.whole[: given.cut])
            await writer.drain()
            if given.reset:
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client left
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, json.loads(body) if body else None)
