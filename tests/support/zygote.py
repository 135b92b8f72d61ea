"""Starts functions-framework from a process that has imported everything already: each start is a second cheaper.

It reads orders as JSON lines, `{"arguments", "environment", "log"}`, and answers each with a process id. What it forks
leads a session and a group of its own, and is nobody's to wait for: it is gone once it is dead. It dies with the
zygote, as that ends with the tests, however they end.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import functions_framework._cli
import gunicorn.app.base  # noqa: F401 - what a process would import itself
import uvicorn_worker  # noqa: F401

import goagents.providers.scripted
import goagents.store.sqlite
import goagents.telemetry.logging
import goagents.tools.http  # noqa: F401
from goagents.app import application

ROOT = Path(__file__).parents[2]
_SET_PARENT_DEATH_SIGNAL = 1


class Zygote:
    """The process that forks, as the tests hold it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Start `functions-framework` with these arguments; return the id of the process."""
        orders, answers = self._process.stdin, self._process.stdout
        if orders is None or answers is None:
            raise AssertionError("it was started with pipes")
        order = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return int(answers.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()


def main() -> None:
    application("gateway")  # imports the API, and opens nothing
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            become(order)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def become(order: Mapping[str, Any]) -> None:
    """Turn into functions-framework; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)  # gunicorn's worker with its master
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["functions-framework", *order["arguments"]]
    try:
        functions_framework._cli._cli()
    finally:
        os._exit(1)


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    main()
