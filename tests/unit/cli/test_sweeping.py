"""The scheduler of `goagents run`."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import AsgiServer
from tests.support.ports import free_port

from goagents.cli.sweeping import Sweeping


class Sweeper:
    """Answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, bytes]] = []

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.asked.append((scope["method"], scope["path"], headers.get(b"authorization", b"")))
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def was_asked(self, more: int) -> None:
        wanted = len(self.asked) + more
        await until(lambda: len(self.asked) >= wanted)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - changed in another thread
            await asyncio.sleep(0.005)


async def stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_it_sweeps_at_once_and_as_often_as_is_configured_by_then(capsys: pytest.CaptureFixture[str]):
    app, intervals = Sweeper(), [0.01]
    with AsgiServer(app) as server:
        task = asyncio.create_task(Sweeping(server.url, "the-internal-key", None, lambda: intervals[-1]).go_on())
        await app.was_asked(3)
        intervals.append(3600.0)
        await asyncio.sleep(0.1)
        count = len(app.asked)
        await asyncio.sleep(0.1)
        assert len(app.asked) == count
        await stopped(task)
    assert set(app.asked) == {("POST", "/sweep", b"Bearer the-internal-key")}
    assert capsys.readouterr() == ("", "")


async def test_a_failure_and_its_end_are_told_once(capsys: pytest.CaptureFixture[str]):
    app = Sweeper()
    with AsgiServer(app) as server:
        task = asyncio.create_task(Sweeping(server.url, "the-internal-key", None, lambda: 0.01).go_on())
        await app.was_asked(2)
        app.status = 503
        await app.was_asked(3)
        app.status = 200
        await app.was_asked(3)
        app.status = 404
        await app.was_asked(3)
        await stopped(task)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "Warning: runs that were left behind are not looked for",
        "runs that were left behind are looked for again",
        "Warning: runs that were left behind are not looked for",
    ]
    assert "/sweep fails: it answers 503: {}" in lines[0]
    assert "404" in lines[2]
    assert "the-internal-key" not in "".join(lines)


async def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what is printed, as soon as something is."""
    found: list[str] = []
    await until(lambda: bool(found.append(capsys.readouterr().err) or found[-1]))
    return found[-1]


async def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]):
    task = asyncio.create_task(Sweeping(f"http://127.0.0.1:{free_port()}", "k", None, lambda: 0.01).go_on())
    assert "connect" in (await told(capsys)).lower()
    await asyncio.sleep(0.1)
    await stopped(task)
    assert capsys.readouterr().err == ""


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    for name in ("ours", "other"):
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run([*new, *files], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_the_certificate_that_is_served_is_trusted_and_no_other(
    certificates: Path, capsys: pytest.CaptureFixture[str]
):
    app, port = Sweeper(), free_port()
    config = uvicorn.Config(
        app,
        port=port,
        interface="asgi3",
        log_level="critical",
        lifespan="off",
        ws="none",
        ssl_certfile=certificates / "ours.pem",
        ssl_keyfile=certificates / "ours.key",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started)

    def sweeping(certificate: str) -> "asyncio.Task[None]":
        made = Sweeping(f"https://127.0.0.1:{port}", "k", str(certificates / certificate), lambda: 0.02)
        return asyncio.create_task(made.go_on())

    task = sweeping("other.pem")
    assert "certificate" in (await told(capsys)).lower()
    await stopped(task)
    assert app.asked == []
    task = sweeping("ours.pem")
    await app.was_asked(2)
    await stopped(task)
    assert capsys.readouterr().err == ""
    server.should_exit = True
    await serving
