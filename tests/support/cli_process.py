"""The real command line as processes: commands that end, and `goagents run` that stays."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

GOAGENTS = [sys.executable, "-m", "goagents.cli"]
TIMEOUT = 30.0
_OURS = ("GOAGENTS_SERVER", "GOAGENTS_API_KEY", "GOAGENTS_CONFIG", "GOAGENTS_STORE", "GOAGENTS_DEBUG", "NO_COLOR")


def environment(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OURS} | changes


def goagents(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdin: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [*GOAGENTS, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@dataclass
class Running:
    """`goagents run`. `printed` is what it has written so far, stdout and stderr together."""

    process: "subprocess.Popen[str]"
    printed: str = ""

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.printed += line

    def await_text(self, pattern: str, timeout: float = TIMEOUT) -> "re.Match[str]":
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if found := re.search(pattern, self.printed):
                return found
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} was not printed, but:\n{self.printed}")

    @property
    def url(self) -> str:
        return self.await_text(r"serves (https?://\S+)")[1]

    def child(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.status()

    def status(self, timeout: float = TIMEOUT) -> int:
        status = self.process.wait(timeout)
        self._reader.join(60)
        return status

    def close(self) -> None:
        self._reader.join(60)
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def running(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`goagents run` on a free port; whatever of it is left is ended."""
    process = subprocess.Popen(
        [*GOAGENTS, "run", "--port", "0", *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Running(process)
    try:
        yield server
    finally:
        left = server.descendants() if process.poll() is None else []
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for each in left:
            if each.is_running():
                each.kill()
        server.close()


def gone(processes: list[psutil.Process], timeout: float = 5.0) -> bool:
    return not psutil.wait_procs(processes, timeout)[1]
