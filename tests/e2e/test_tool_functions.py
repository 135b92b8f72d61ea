"""Tool functions beside `goagents run`: started, kept alive, started anew when they change, ended with it."""

import signal
import socket
import time
from pathlib import Path

import httpx2
import psutil
import pytest
import yaml
from tests.support.cli_process import Running, goagents, gone, running
from tests.support.ports import free_port

from goagents.client import Client

SOURCE = '''
import os
from goagents.toolkit import Toolkit

kit = Toolkit("clock")


@kit.tool(effect="read")
def tell() -> str:
    """Tells the time."""
    return f"{os.environ['ZONE']} {os.getpid()} one"


tools = kit.function
'''
CLUSTER = {
    "apiVersion": "goagents.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "hall"},
    "spec": {
        "agents": [
            {
                "name": "porter",
                "provider": "scripted",
                "model": "m",
                "tools": [{"type": "http", "name": "clock", "openapi": "${CLOCK_URL}/openapi.json"}],
            }
        ]
    },
}


@pytest.fixture
def port(tmp_path: Path) -> int:
    """A configuration with one tool function, on this port."""
    port = free_port()
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "main.py").write_text(SOURCE)
    steps = [{"after": "clock_tell", "text": "{result}"}, {"tool_calls": [{"name": "clock_tell", "arguments": {}}]}]
    function = {"source": "clock/main.py", "port": port, "variable": "CLOCK_URL", "env": {"ZONE": "UTC"}}
    config = {
        "providers": {"scripted": {"models": {"m": steps}}},
        "allow": {"addresses": [f"127.0.0.1:{port}"]},
        "tool_functions": {"clock": function},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    return port


def asked(server: Running) -> str:
    with Client(server.url) as client:
        return client.chat("hall.porter", "What time is it?").message.text


def tell(port: int) -> str:
    said: str = httpx2.get(f"http://127.0.0.1:{port}/tell", trust_env=False, timeout=60).json()
    return said


def await_told(port: int, wanted: str) -> str:
    """Return what the function says once that holds `wanted`."""
    until = time.monotonic() + 60
    while True:
        try:
            said = tell(port)
        except httpx2.TransportError:
            said = ""  # it is being started
        if wanted in said or time.monotonic() > until:
            return said
        time.sleep(0.05)


def test_an_agent_uses_it_and_it_ends_with_the_server(tmp_path: Path, port: int):
    with running(cwd=tmp_path) as server:
        assert "UTC" in asked(server)
        assert f"tool function clock is at http://127.0.0.1:{port} (CLOCK_URL)" in server.printed
        started = server.descendants()
        assert len(psutil.Process(server.process.pid).children()) == 2
        assert server.end() == 0
        assert gone(started)
        assert "Traceback" not in server.printed


def test_it_ends_with_a_parent_that_dies(tmp_path: Path, port: int):
    with running(cwd=tmp_path) as server:
        assert server.url
        started = server.descendants()
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        assert gone(started, 15)


def test_one_that_dies_is_started_again(tmp_path: Path, port: int):
    with running(cwd=tmp_path) as server:
        assert server.url
        worker = psutil.Process(int(tell(port).split()[1]))
        master = worker.parent()
        assert master is not None
        master.kill()
        server.await_text(r"tool function clock ended with status 137; started again in 1 s")
        assert gone([worker])
        assert "UTC" in await_told(port, "UTC")
        assert "UTC" in asked(server)


def test_one_that_changes_is_started_anew(tmp_path: Path, port: int):
    with running(cwd=tmp_path) as server:
        assert server.url
        source = tmp_path / "clock" / "main.py"
        source.write_text(SOURCE.replace("one", "another"))
        server.await_text("tool function clock has changed, and is started anew")
        assert await_told(port, "another").endswith("another")


def test_where_its_variable_is_set_nothing_is_started(tmp_path: Path, port: int):
    with running(cwd=tmp_path, env={"CLOCK_URL": "https://clock.example.com"}) as server:
        assert server.url
        assert len(psutil.Process(server.process.pid).children()) == 1
        assert "tool function" not in server.printed


def test_what_cannot_be_started_says_why(tmp_path: Path, port: int):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = goagents("run", "--port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert "another port by tool_functions.clock.port" in done.stderr
    (tmp_path / "clock" / "main.py").write_text("raise RuntimeError('no clock')")
    failed = goagents("run", "--port", "0", cwd=tmp_path)
    assert failed.returncode == 1
    assert "the tool function clock" in failed.stderr
    assert "it ended with status 1 before it served" in failed.stderr
    (tmp_path / "clock" / "main.py").unlink()
    absent = goagents("run", "--port", "0", cwd=tmp_path)
    assert absent.returncode == 1
    assert "tool_functions.clock.source: there is no file" in absent.stderr


def test_validate_takes_its_variable_as_set(tmp_path: Path, port: int):
    assert goagents("validate", "config.yaml", "cluster.yaml", cwd=tmp_path).returncode == 0
    alone = goagents("validate", "cluster.yaml", cwd=tmp_path)
    assert alone.returncode == 1
    assert "CLOCK_URL" in alone.stdout
