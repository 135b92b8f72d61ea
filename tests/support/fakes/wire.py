"""What the strict fakes of Anthropic and Gemini share: a scripted, recording server on loopback.

A reply is a list of steps, so a test makes a fault with list operations: `stream([*events[:3], CUT])`,
`stream([0.2, *events])`, `stream([*events[:2], HANG])`.
"""

import argparse
import asyncio
import json
import math
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import uvicorn
from tests.support.asgi_server import AsgiServer

Json = dict[str, Any]


class _Cut:
    """The connection breaks."""


CUT = _Cut()
HANG = math.inf
Step = bytes | float | _Cut  # bytes are sent, a number is a pause in seconds

_BENCH = re.compile(r"bench-(\d+)-(\d+)")


@dataclass(frozen=True)
class Reply:
    steps: tuple[Step, ...]
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Json


class Refused(Exception):
    """The request is one the vendor would refuse; `kind` is the vendor's name for it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def stream(steps: Sequence[Step], content_type: str = "text/event-stream") -> Reply:
    return Reply(tuple(steps), content_type=content_type)


def json_reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply((json.dumps(body).encode(),), status, headers=headers or {})


class FakeServer:
    """`with Fake…() as fake: fake.replies.append(…); Provider(base_url=fake.url, …)`.

    Every request is validated; a valid one gets the next of `replies`, or an answer that repeats the last user text.
    `requests` holds what arrived, also what was refused. `asked` is set when one
    arrives, `left_early` when a client hangs up on an answer.
    """

    def __init__(self, *, api_key: str) -> None:
        self.api_key = api_key
        self.replies: deque[Reply] = deque()
        self.requests: list[Request] = []
        self.connections: set[tuple[str, int]] = set()
        self.asked = threading.Event()
        self.left_early = threading.Event()
        self._server = AsgiServer(self)

    def reset(self) -> None:
        """Forget what was scripted and what was seen; a test may share the server with others."""
        self.replies.clear()
        self.requests.clear()
        self.connections.clear()
        self.asked.clear()
        self.left_early.clear()

    def validate(self, request: Request) -> None:
        """Raise Refused for what the vendor refuses."""
        raise NotImplementedError

    def refusal(self, refused: Refused) -> Reply:
        raise NotImplementedError

    def echo(self, request: Request) -> Reply:
        raise NotImplementedError

    def bench(self) -> tuple[bytes, bytes, bytes]:
        """Return the first bytes, one chunk, and the last bytes of an endless answer."""
        raise NotImplementedError

    def model(self, request: Request) -> str:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def last(self) -> Json:
        """The body of the latest request."""
        return self.requests[-1].body

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    async def __call__(self, scope: Json, receive: Any, send: Any) -> None:
        self.connections.add(tuple(scope["client"]))
        reply = await self._answer(scope, receive)
        sending = asyncio.create_task(_send(send, reply))
        gone = asyncio.create_task(_disconnected(receive))
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if sending.done():
            sending.result()
            return
        self.left_early.set()
        sending.cancel()

    async def _answer(self, scope: Json, receive: Any) -> Reply:
        raw = await _body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            body = json.loads(raw)
        except ValueError:
            return self.refusal(Refused(400, "invalid_request_error", "The request body is not valid JSON"))
        request = Request(scope["path"], parse_qs(scope["query_string"].decode()), headers, body)
        bench = _BENCH.search(self.model(request))
        if bench:
            first, chunk, last = self.bench()
            beat = [step for _ in range(int(bench[1])) for step in (int(bench[2]) / 1000, chunk)]
            return stream([first, *beat, last])
        self.requests.append(request)
        self.asked.set()
        try:
            self.validate(request)
        except Refused as refused:
            return self.refusal(refused)
        return self.replies.popleft() if self.replies else self.echo(request)


async def _send(send: Any, reply: Reply) -> None:
    fields = {"content-type": reply.content_type, **reply.headers}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    steps = list(reply.steps)
    while steps and isinstance(steps[0], float | int):
        await _pause(steps.pop(0))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for step in steps:
        if isinstance(step, _Cut):
            raise ConnectionResetError("the fake cuts the connection")
        if isinstance(step, bytes):
            await send({"type": "http.response.body", "body": step, "more_body": True})
        else:
            await _pause(step)
    await send({"type": "http.response.body", "body": b""})


async def _pause(seconds: Any) -> None:
    await asyncio.sleep(min(seconds, 3600))


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def serve(fake: FakeServer) -> None:
    """Serve a fake in this process, as a benchmark's upstream: model `bench-20-100` is 20 chunks, 100 ms apart."""
    parser = argparse.ArgumentParser(description="Serve the fake on loopback.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(fake, host="127.0.0.1", port=port, interface="asgi3", log_level="warning", access_log=False, ws="none")
