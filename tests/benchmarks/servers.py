"""Starts what is measured, each in processes of its own, on free ports of 127.0.0.1, and ends it by process id."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Server:
    process: psutil.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """The process that serves: gunicorn's one worker."""
        children = self.process.children()
        return children[0] if children else self.process

    def cpu_seconds(self) -> float:
        """User and system time of the whole process tree since it started."""
        times = [process.cpu_times() for process in self.tree()]
        return sum(each.user + each.system for each in times)


def raise_file_limit() -> None:
    """A thousand streams are two thousand sockets in the gateway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16_384 if hard == resource.RLIM_INFINITY else min(16_384, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: bytecode may be kept, as in the image, and no credential of this machine enters."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {"PYTHONPATH": str(ROOT), "WORKERS": "1"} | dict(extra)


@contextmanager
def running(command: list[str], port: int, extra: Mapping[str, str], *, log: Path | None = None) -> Iterator[Server]:
    output = log.open("w", encoding="utf-8") if log else subprocess.DEVNULL
    process = psutil.Popen(
        command, env=environment(extra), stdout=output, stderr=output, cwd=ROOT, start_new_session=True
    )
    try:
        yield Server(process, port)
    finally:
        stop(process)
        if not isinstance(output, int):
            output.close()


def stop(process: psutil.Process) -> None:
    if not process.is_running():
        return
    children = process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs([process, *children], timeout=15)
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=5)


@contextmanager
def function(name: str, extra: Mapping[str, str], *, log: Path | None = None, ready: bool = True) -> Iterator[Server]:
    """A function under the real functions-framework: one of ours, or one of tests/benchmarks/functions."""
    source = ROOT / "functions" / name / "main.py"
    if not source.exists():
        source = HERE / "functions" / f"{name}.py"
    port = free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", name, "--source", str(source)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, extra, log=log) as server:
        if ready:
            await_port(server)
        yield server


@contextmanager
def upstream() -> Iterator[Server]:
    port = free_port()
    with running([sys.executable, "-m", "tests.benchmarks.upstream", str(port)], port, {}) as server:
        await_port(server)
        yield server


def await_port(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if not server.process.is_running() or server.process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("the server ended before it listened")
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise TimeoutError(f"nothing listens on port {server.port}")
