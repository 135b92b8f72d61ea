"""A model provider as fast as Python makes one: OpenAI's streams over raw sockets, in a process of its own.

The model's name says what to answer: `bench-20-100` is 20 chunks, one each 100 ms; `bench-1-50` one chunk after 50 ms.
Nothing is validated here: that is the work of the strict fakes in tests/support.
"""

import asyncio
import json
import re
import signal
import sys
import time
from functools import cache

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nx-request-id: req_bench\r\n\r\n"
)
MODEL = re.compile(rb'"model"\s*:\s*"(bench-(\d+)-(\d+))"')
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def frame(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(data: dict[str, object]) -> bytes:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def word(number: int) -> str:
    """The text of a chunk: the benchmark knows the whole answer, so a lost one shows."""
    return f"word{number:03d} "


@cache
def completion(model: str, chunks: int) -> tuple[list[bytes], bytes]:
    """The frames of a chat completion: one a chunk, and what ends it."""
    base = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": model}

    def choice(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    middle = [frame(event(choice({"content": word(number)}))) for number in range(chunks)]
    middle[0] = frame(event(choice({"role": "assistant", "content": ""}))) + middle[0]
    usage = {"prompt_tokens": 10, "completion_tokens": chunks, "total_tokens": 10 + chunks}
    end = event(choice({}, "stop")) + event(base | {"choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    return middle, frame(end) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = b""
        self._frames: list[bytes] = []
        self._end = b""
        self._interval = 0.0
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not found or len(body) < (int(length[1]) if length else 0):
            return
        self._data = b""
        model = MODEL.search(body)
        if not model:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            return
        self._frames, self._end = completion(model[1].decode(), int(model[2]))
        self._interval = int(model[3]) / 1000
        self._begun = time.monotonic()
        self._transport.write(HEAD)
        self._schedule(0)

    def _schedule(self, number: int) -> None:
        # Against the beginning, not the last chunk: a late timer must not add up.
        due = self._begun + self._interval * (number + 1) - time.monotonic()
        asyncio.get_running_loop().call_later(max(due, 0), self._send, number)

    def _send(self, number: int) -> None:
        if self._transport.is_closing():
            return
        last = number + 1 == len(self._frames)
        self._transport.write(self._frames[number] + (self._end if last else b""))
        if not last:
            self._schedule(number + 1)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    async with await loop.create_server(Upstream, "127.0.0.1", port, backlog=2048):
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
