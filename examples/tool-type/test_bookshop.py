# ruff: noqa: S101, S603 - a test asserts, and starts what it installed
"""The type by itself, and the package as pip installs it, under `goagents run`: no network, no key."""

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from goagents.client import Client
from goagents.errors import ToolFailed, ToolUnavailable
from goagents.messages import TextPart
from goagents.tools.base import Tool, ToolContext, ToolEnvironment, Toolset

HERE = Path(__file__).parent
CONTEXT = ToolContext("run_1", "ses_1", "default", "seller", "call_1", "run_1/1/call_1")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, imported from this folder for one test."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("goagents_sqlite.toolset")
    for name in [name for name in sys.modules if name.partition(".")[0] == "goagents_sqlite"]:
        del sys.modules[name]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "books.db"
    subprocess.run([sys.executable, str(HERE / "books.py"), str(path)], check=True, timeout=30)
    return path


def toolset(package: ModuleType, database: Path, *, trusted: bool = True, **fields: Any) -> Toolset:
    """The entry of cluster.yaml, with other fields where they are given."""
    entry = yaml.safe_load((HERE / "cluster.yaml").read_text(encoding="utf-8"))["spec"]["agents"][0]["tools"][0]
    spec = package.SqliteToolSpec.model_validate({**entry, "database": str(database), **fields})
    made: Toolset = package.build(spec, ToolEnvironment(lambda text: text, trusted=trusted))
    return made


async def opened(package: ModuleType, database: Path, **fields: Any) -> dict[str, Tool]:
    return {tool.definition.name: tool for tool in await toolset(package, database, **fields).open()}


async def told(tool: Tool, **arguments: Any) -> str:
    (part,) = (await tool.call(arguments, CONTEXT)).content
    assert isinstance(part, TextPart)
    return part.text


async def test_each_query_is_a_tool(package: ModuleType, database: Path) -> None:
    tools = await opened(package, database)
    assert {name: tool.definition.effect for name, tool in tools.items()} == {
        "books_by_author": "read",
        "books_in_stock": "read",
    }
    assert '"title": "On Computable Numbers", "year": 1936' in await told(tools["books_by_author"], author="Turing")
    assert await told(tools["books_by_author"], author="'; DROP TABLE books; --") == "[]"
    assert "Understanding Computers" not in await told(tools["books_in_stock"])


async def test_an_answer_is_bounded_and_says_so(package: ModuleType, database: Path) -> None:
    tools = await opened(package, database, max_rows=1)
    text = await told(tools["books_by_author"], author="Turing")
    assert text.endswith("[only the first 1 rows are shown]")
    assert "Intelligence" not in text


@pytest.mark.parametrize(("sql", "reason"), [("DELETE FROM books", "readonly"), ("SELECT * FROM shelves", "no such")])
async def test_what_fails_is_told(package: ModuleType, database: Path, sql: str, reason: str) -> None:
    (tool,) = (await opened(package, database, queries={"q": {"description": "Q.", "sql": sql}})).values()
    with pytest.raises(ToolFailed, match=reason):
        await tool.call({}, CONTEXT)


async def test_a_call_that_is_given_up_ends_its_query(package: ModuleType, database: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    (tool,) = (await opened(package, database, queries={"q": {"description": "Q.", "sql": endless}})).values()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tool.call({}, CONTEXT), 0.05)
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 10)  # its thread ends


async def test_where_it_may_not_or_cannot_open_the_file_it_is_unavailable(package: ModuleType, database: Path) -> None:
    with pytest.raises(ToolUnavailable, match="received over HTTP opens no file"):
        await toolset(package, database, trusted=False).open()
    with pytest.raises(ToolUnavailable, match="set `database` to where it is"):
        await toolset(package, database.with_name("absent.db")).open()


@contextmanager
def served(site: Path, database: Path, folder: Path) -> Iterator[str]:
    """`goagents run` with the package, until the block ends; gives its URL."""
    files = ["--config", str(HERE / "config.yaml"), "--cluster", str(HERE / "cluster.yaml")]
    variables = {**os.environ, "PYTHONPATH": str(site), "BOOKS": str(database)}
    with subprocess.Popen(
        [sys.executable, "-m", "goagents.cli", "run", "--port", "0", *files],
        cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        try:
            until = time.monotonic() + 60
            while not (urls := [line.split("serves ")[1].split()[0] for line in lines if "serves http" in line]):
                assert process.poll() is None, "".join(lines)
                assert time.monotonic() < until, "".join(lines)
                time.sleep(0.02)
            yield urls[0]
        finally:
            process.terminate()
            process.wait(30)
            reader.join()


def test_installed_it_is_used_by_an_agent(database: Path, tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-build-isolation", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, *options, str(source)], check=True, timeout=120, capture_output=True)
    with served(site, database, tmp_path) as url, Client(url) as client:
        stock = client.chat("bookshop.seller", "What do you have in stock?")
        turing = client.chat("bookshop.seller", "Is there a book by Turing?")
        (tool,) = client.get_agent("bookshop.seller").tools
    assert stock.message.text == "For example Computing Machinery and Intelligence by Alan Turing."
    assert turing.message.text == "The first is On Computable Numbers (1936)."
    assert (tool.name, tool.type, tool.status) == ("books", "sqlite", "available")
