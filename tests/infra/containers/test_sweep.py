"""`sweep.py` calls the sweeper: once, or for ever until it is asked to end; its key goes to nobody else."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.benchmarks.servers import ROOT
from tests.infra.containers.image import Image
from tests.support.asgi_server import AsgiServer
from tests.support.ports import free_port

SCRIPT = ROOT / "infra" / "docker" / "sweep.py"
KEY = "the-key-of-internal-calls"


class Sweeper:
    """Remembers who called; `/elsewhere` is where `/moved` leads."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []
        paths = ("/sweep", "/moved", "/elsewhere")
        self.server = AsgiServer(Starlette(routes=[Route(path, self._note, methods=["GET", "POST"]) for path in paths]))

    async def _note(self, request: Request) -> Response:
        self.calls.append((request.url.path, request.headers.get("authorization")))
        return RedirectResponse("/elsewhere", 303) if request.url.path == "/moved" else JSONResponse({})


@pytest.fixture
def sweeper() -> Iterator[Sweeper]:
    made = Sweeper()
    with made.server:
        yield made


def sweep(url: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    environment = {"GOAGENTS_SWEEP_URL": url, "GOAGENTS_INTERNAL_KEY": key}
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_gateway_takes_its_key_and_no_other(tmp_path: Path):
    image = Image.read()
    image.lay_out(tmp_path / "app")
    store = {"GOAGENTS_STORE": f"sqlite:///{tmp_path}/state.db", "GOAGENTS_INTERNAL_KEY": KEY}
    with image.running(tmp_path / "app", store, tmp_path / "log") as server:
        swept, refused = sweep(f"{server.url}/sweep"), sweep(f"{server.url}/sweep", "another")
    assert (swept.returncode, swept.stderr) == (0, "")
    assert refused.returncode == 1
    assert "answers 401" in refused.stderr


def test_the_key_follows_no_redirection(sweeper: Sweeper):
    moved = sweep(f"{sweeper.server.url}/moved")
    assert moved.returncode == 1
    assert "answers 303" in moved.stderr
    assert sweeper.calls == [("/moved", f"Bearer {KEY}")]


def test_a_sweeper_that_is_not_there_is_told():
    failed = sweep(f"http://127.0.0.1:{free_port()}/sweep")
    assert failed.returncode == 1
    assert "cannot be reached" in failed.stderr
    assert KEY not in failed.stderr


@pytest.mark.parametrize(("url", "key", "named"), [("", KEY, "GOAGENTS_SWEEP_URL"), ("http://a/sweep", "", "_KEY")])
def test_what_is_not_set_is_named(url: str, key: str, named: str):
    failed = sweep(url, key)
    assert failed.returncode == 2
    assert named in failed.stderr


def test_it_goes_on_until_it_is_asked_to_end(sweeper: Sweeper):
    environment = {"GOAGENTS_SWEEP_URL": f"{sweeper.server.url}/sweep", "GOAGENTS_INTERNAL_KEY": KEY}
    command = [sys.executable, str(SCRIPT), "--every", "0.05"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 60
        while len(sweeper.calls) < 3:
            assert time.monotonic() < give_up, f"{len(sweeper.calls)} calls"
            time.sleep(0.02)
    finally:
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, "")
