"""A conversation on a real (pseudo) terminal: prompt, Ctrl-C in an answer and at the prompt, Ctrl-D."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tests.support.asgi_server import AsgiServer
from tests.support.contract_server import ContractServer, completed, event_stream

STREAM = "POST /api/v1/agents/support.helper/stream"


def event(seq: int, kind: str, data: object) -> bytes:
    return f"id: 1-{seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def answer(_: Request) -> Response:
    return event_stream(
        event(1, "tool.started", {"call_id": "c", "name": "customers", "arguments": {"id": 7}}),
        event(
            2,
            "tool.finished",
            {"call_id": "c", "name": "customers", "is_error": False, "duration": 0.1, "output": "Ann"},
        ),
        event(3, "message.delta", {"text": "Hello \x1b[31mAnn"}),
        event(4, "run.completed", completed()),
    )


def endless(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield event(1, "message.delta", {"text": "Thinking"})
        await asyncio.sleep(60)

    return StreamingResponse(body(), media_type="text/event-stream")


# Makes the pseudo-terminal the controlling one, as a shell does: only then Ctrl-C becomes a signal.
LAUNCH = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from goagents.cli.main import main
main()
"""


class Terminal:
    """The command on a pseudo-terminal of its own; `screen` is what it has written there."""

    def __init__(self, url: str) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-c", LAUNCH, "chat", "--cluster", "support", "--agent", "helper"]
        environment = {**os.environ, "GOAGENTS_SERVER": url, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def await_text(self, pattern: str) -> None:
        until = time.monotonic() + 15
        while not re.search(pattern, self.screen):
            assert time.monotonic() < until, f"{pattern!r} did not appear:\n{self.screen}"
            self._read()
            time.sleep(0.02)

    def _read(self) -> None:
        try:
            self.screen += os.read(self._master, 65536).decode(errors="replace")
        except (BlockingIOError, OSError):
            return

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._master)


@pytest.fixture
def server() -> ContractServer:
    return ContractServer()


@pytest.fixture
def terminal(server: ContractServer) -> Iterator[Terminal]:
    with AsgiServer(server) as running:
        made = Terminal(running.url)
        try:
            yield made
        finally:
            made.close()


def test_a_conversation(server: ContractServer, terminal: Terminal):
    server.on(STREAM, answer, endless, answer)
    terminal.await_text("Ctrl-D ends")
    terminal.await_text("> ")
    terminal.type("Hello\n")
    terminal.await_text(r"→ customers \{'id': 7\}")
    terminal.await_text(r"← customers \(0\.10 s\) Ann")
    terminal.await_text(r"Hello \[31mAnn")
    terminal.screen = ""
    terminal.type("Think!\n")
    terminal.await_text("Thinking")
    terminal.type("\x03")
    terminal.await_text("interrupted; the agent finishes")
    terminal.await_text("> ")
    terminal.screen = ""
    terminal.type("half a line\x03")
    terminal.await_text("> ")
    terminal.type("again\n")
    terminal.await_text(r"Hello \[31mAnn")
    terminal.type("\x04")
    terminal.await_text(r"session session_1 \(14 tokens in, 6 out\)")
    assert terminal.process.wait(10) == 0
    bodies = [request["body"] for request in server.requests]
    assert [body["message"] for body in bodies] == ["Hello", "Think!", "again"]
    assert [body.get("session_id") for body in bodies] == [None, "session_1", "session_1"]
