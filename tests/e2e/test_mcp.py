"""`goagents run` with an MCP server: the program is started for a run, used by the next, ended with the process."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.support.cli_process import Running, running
from tests.support.example import EXAMPLES

from goagents.client import Client


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("mcp")
    shutil.copytree(EXAMPLES / "mcp", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHON": sys.executable, "LIBRARY": str(folder / "library.py")}
    with running("--config", folder / "config.yaml", "--cluster", folder / "cluster.yaml", cwd=folder, env=env) as one:
        assert one.url
        yield one


def programs(served: Running) -> list[psutil.Process]:
    return [each for each in served.descendants() if any("library.py" in word for word in each.cmdline())]


def test_runs_use_one_program_which_ends_with_the_server(served: Running):
    assert programs(served) == []
    with Client(served.url) as client:
        first = client.chat("handbook.librarian", 'Please request "gift cards"')
        second = client.chat("handbook.librarian", 'Please request "opening hours"')
        (tool,) = client.get_agent("handbook.librarian").tools
    assert first.message.text == "Request 1 is with the editors: gift cards."
    assert second.message.text == "Request 2 is with the editors: opening hours."
    assert (tool.name, tool.status) == ("handbook", "available")
    (program,) = programs(served)
    assert served.end() == 0
    program.wait(60)
    assert "Traceback" not in served.printed


def test_a_program_that_hangs_while_it_is_opened_does_not_outlive_the_server(tmp_path: Path):
    shutil.copytree(EXAMPLES / "mcp", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    hanging = tmp_path / "hanging_library.py"
    hanging.write_text("import time\nwhile True:\n    time.sleep(1)\n")
    env = {"PYTHON": sys.executable, "LIBRARY": str(hanging)}
    places = ("--config", tmp_path / "config.yaml", "--cluster", tmp_path / "cluster.yaml")
    found: list[psutil.Process] = []
    try:
        with running(*places, cwd=tmp_path, env=env) as served, Client(served.url or "") as client:
            client.start_run("handbook.librarian", "Please request nothing")
            until = time.monotonic() + 60
            while not (found := programs(served)):
                assert time.monotonic() < until
                time.sleep(0.05)
            assert served.end() == 0
            assert psutil.wait_procs(found, timeout=10)[1] == []
    finally:
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.kill()
