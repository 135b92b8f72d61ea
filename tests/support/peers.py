"""Fake model providers that others wrote, as processes on free loopback ports.

`aimock` comes from npm and is optional: `make peers` installs it where node is there, the tests that need it are
marked `peers` and skipped otherwise. `llmock` comes with the development requirements.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_HOME = Path(__file__).parent / "peers"
_AIMOCK = _HOME / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0


class Peer:
    """A running fake: `url`, and JSON requests to its control API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the fake's own API; return the JSON it answers, None for an empty body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our loopback
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the same
            content = response.read()
        return json.loads(content) if content else None


@contextmanager
def aimock() -> Iterator[Peer]:
    """Run aimock with the fixtures in `peers/aimock.json`; skip the test where it is not installed."""
    node = shutil.which("node")
    if node is None or not _AIMOCK.exists():
        pytest.skip("aimock is not installed: install node 20.15 or newer, then run `make peers`")
    command = [node, str(_AIMOCK), "-p", "0", "-f", str(_HOME / "aimock.json"), "--strict"]
    with _running(command) as (process, output):
        yield Peer(_announced(process, output))


@contextmanager
def llmock() -> Iterator[Peer]:
    """Run llmock. It answers with text that depends on the request, and fails as its scenario says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("llmock")
    with _running([str(program), "serve", "--port", str(port), "--log-level", "warning"]) as (process, output):
        url = f"http://127.0.0.1:{port}"
        _wait(process, output, lambda: _answers(f"{url}/health"))
        yield Peer(url)


@contextmanager
def _running(command: list[str]) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=folder)
        try:
            yield process, output
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _announced(process: "subprocess.Popen[bytes]", output: Path) -> str:
    """Return the address the process prints."""
    found: list[str] = []

    def look() -> bool:
        found.extend(re.findall(r"listening on (http://127\.0\.0\.1:\d+)", output.read_text("utf-8", "replace")))
        return bool(found)

    _wait(process, output, look)
    return found[0]


def _wait(process: "subprocess.Popen[bytes]", output: Path, ready: Any) -> None:
    until = time.monotonic() + _START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} did not start: {output.read_text('utf-8', 'replace')[-2000:]}")
        time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our loopback
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
