"""`make run`: the customer-support example, whole: its data service, and the agents that use it.

Both are processes of their own, ended by process id when this one is asked to end, or when one of them ends.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "customer-support"
BIN = Path(sys.executable).parent
CUSTOMERS_PORT = 8090
START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 15.0

# The first provider whose key is set (and not empty) is used, in this order; CHOICE goes before it.
CHOICE = "GOAGENTS_EXAMPLE_PROVIDER"
KEYS = {"ANTHROPIC_API_KEY": "anthropic", "OPENAI_API_KEY": "openai", "GOOGLE_API_KEY": "gemini"}
OFFLINE = """\
No ANTHROPIC_API_KEY, OPENAI_API_KEY or GOOGLE_API_KEY is set: the agents use the offline SCRIPTED model.
Its answers are written beforehand, but it really calls the example's tools. Set a key to talk to a real model.
"""
ONLINE = "{key} is set: the agents use {provider}.\n"
SERVING = """
The example's service knows the orders 1001 to 1004. Ask for one, and the agent calls its tool:

  curl -s http://127.0.0.1:{port}/api/v1/agents/customer-support.{agent}/chat \\
    -H 'content-type: application/json' -d '{{"message": "{message}"}}'

or talk to it: {bin}/goagents chat --server http://127.0.0.1:{port} --cluster customer-support --agent {agent}

Ctrl-C ends it.
"""
AGENT = "support"
MESSAGE = "Where is order 1001?"


class Stopped(Exception):
    """A signal asked this process to end."""


def chosen(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The provider to use, and the variable that chose it."""
    if environment.get(CHOICE):
        return environment[CHOICE], CHOICE
    for key, provider in KEYS.items():
        if environment.get(key):
            return provider, key
    return "scripted", None


@contextmanager
def running(command: list[str], environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    # A session of its own: a terminal's Ctrl-C then reaches this process only, which ends the others in order.
    process = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)  # noqa: S603 - our commands
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def refuse_taken(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SystemExit(f"127.0.0.1:{port} is taken ({error.strerror}): end what listens there{option}") from None


def await_url(url: str, processes: list["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll() is not None:
                raise SystemExit(f"{process.args!r} ended with status {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own http://127.0.0.1 address
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} did not answer within {START_TIMEOUT:.0f} s")


def serve(port: int, environment: Mapping[str, str]) -> int:
    """Run both until one ends (its status is returned) or Stopped is raised."""
    customers = [str(BIN / "functions-framework"), "--source", str(EXAMPLE / "customer_api.py")]
    customers += ["--target", "customers", "--host", "127.0.0.1", "--port", str(CUSTOMERS_PORT)]
    agents = [str(BIN / "goagents"), "run", "--host", "127.0.0.1", "--port", str(port)]
    agents += ["--config", str(EXAMPLE / "config.yaml"), "--cluster", str(EXAMPLE / "cluster.yaml")]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command, environment)) for command in (customers, agents)]
        await_url(f"http://127.0.0.1:{CUSTOMERS_PORT}/customers", processes)
        await_url(f"http://127.0.0.1:{port}/health", processes)
        print(SERVING.format(port=port, agent=AGENT, message=MESSAGE, bin=os.path.relpath(BIN)), flush=True)
        while True:
            for process in processes:
                if process.poll() is not None:
                    print(f"{process.args!r} ended with status {process.returncode}", file=sys.stderr)
                    return process.returncode or 1
            time.sleep(0.2)


def stop(number: int, _frame: FrameType | None) -> Any:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # ending goes its way, however often one asks
    raise Stopped(signal.Signals(number).name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    port: int = parser.parse_args().port
    provider, key = chosen(os.environ)
    print(ONLINE.format(key=key, provider=provider) if key else OFFLINE, flush=True)
    refuse_taken(CUSTOMERS_PORT, "")
    refuse_taken(port, ", or choose another: make run PORT=8081")
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    try:
        return serve(port, os.environ | {CHOICE: provider})
    except Stopped:
        return 0


if __name__ == "__main__":
    sys.exit(main())
