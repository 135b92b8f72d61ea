"""`goagents run` with an MCP server: the program is started for a run, used by the next, ended with the process."""

import shutil
import sys
from collections.abc import Iterator

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
