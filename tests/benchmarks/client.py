"""A client that costs next to nothing, so that the numbers are the server's: HTTP/1.1 on asyncio protocols.

`Connection` sends one request after another and keeps the connection. `Collector` takes a whole stream, only notes
the times while it runs, and is read when it has ended.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(method: str, path: str, body: Any = None, *, close: bool = False) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n"
    head += "content-type: application/json\r\n" if content else ""
    head += "connection: close\r\n" if close else ""
    return head.encode() + b"\r\n" + content


def split_answer(data: bytes) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the body is whole; None while the head is still coming."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.lower().split(b"\r\n")
    status = int(lines[0].split(b" ", 2)[1])
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    if b"content-length" in fields:
        return status, rest, len(rest) >= int(fields[b"content-length"])
    if fields.get(b"transfer-encoding") != b"chunked":
        return status, rest, status == 204
    if not rest.endswith(b"0\r\n\r\n"):
        return status, rest, False
    return status, dechunk(rest), True


def dechunk(data: bytes) -> bytes:
    parts, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


class Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        answer = split_answer(self._data)
        if answer and answer[2] and self._waiting and not self._waiting.done():
            self._waiting.set_result(answer[:2])

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionError("the server closed the connection"))

    async def request(self, method: str, path: str, body: Any = None, *, limit: float = 60) -> Answer:
        assert self._transport is not None
        self._data = b""
        self._waiting = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        self._transport.write(request_bytes(method, path, body))
        status, content = await asyncio.wait_for(self._waiting, limit)
        return Answer(status, content, time.perf_counter() - begun)

    def close(self) -> None:
        if self._transport:
            self._transport.close()


class Collector(asyncio.Protocol):
    """One streamed answer, as raw bytes, with the times of its first and last byte (seconds since the request)."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parts: list[bytes] = []
        self._tail = b""
        self._begun = 0.0
        self.first = 0.0
        self.last = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begun = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter() - self._begun
        self.first = self.first or now
        self.last = now
        self._parts.append(data)
        self._tail = (self._tail + data)[-5:]
        if self._tail == b"0\r\n\r\n":
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def answer(self) -> tuple[int, bytes]:
        """Status and body; 0 where the answer did not come or is not whole."""
        answer = split_answer(b"".join(self._parts))
        return answer[:2] if answer and answer[2] else (0, b"")


async def collect(port: int, requests: list[bytes], *, limit: float) -> list[Collector]:
    """Send all requests at once, each on a connection of its own, and wait for all to end (at most `limit` s)."""
    loop = asyncio.get_running_loop()

    async def one(request: bytes) -> Collector:
        _, collector = await loop.create_connection(lambda: Collector(request), "127.0.0.1", port)
        return collector

    collectors = await asyncio.gather(*(one(request) for request in requests))
    await asyncio.wait([collector.ended for collector in collectors], timeout=limit)
    return list(collectors)
