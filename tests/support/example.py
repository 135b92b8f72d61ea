"""An example's folder, served whole on free ports: its data service and `goagents run`."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cli_process import Running, environment, running
from tests.support.ports import await_port, free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
START_TIMEOUT = 20.0


@contextmanager
def data_service(source: Path, target: str, port: int) -> Iterator[None]:
    """A function under functions-framework until the block ends."""
    words = ["-m", "functions_framework", "--source", str(source), "--target", target, "--host", "127.0.0.1"]
    with program(*words, "--port", str(port), port=port):
        yield


@contextmanager
def program(*arguments: str | Path, port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    """What Python starts with these arguments, which listens on `port`, until the block ends."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment(**(env or {})), stdin=subprocess.DEVNULL)
    try:
        await_port(process, port, START_TIMEOUT)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def customer_support(folder: Path, env: dict[str, str] | None = None) -> Iterator[Running]:
    """examples/customer-support, copied to `folder` with the ports of its services changed to free ones."""
    copy = folder / "customer-support"
    for example in ("customer-support", "tools"):
        shutil.copytree(EXAMPLES / example, folder / example, ignore=shutil.ignore_patterns("__pycache__"))
    port = free_port()
    ports = {"ORDERS_PORT": str(free_port())}
    cluster = copy / "cluster.yaml"
    text = cluster.read_text(encoding="utf-8")
    assert "127.0.0.1:8090" in text
    cluster.write_text(text.replace("127.0.0.1:8090", f"127.0.0.1:{port}"), encoding="utf-8")
    with (
        data_service(copy / "customer_api.py", "customers", port),
        running("--config", copy / "config.yaml", "--cluster", cluster, cwd=folder, env=ports | (env or {})) as server,
    ):
        assert server.url
        yield server
