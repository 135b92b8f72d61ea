"""Servers that others wrote: the protocol's own example server of npm, and the clock of PyPI."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.http_tools import text_of
from tests.support.mcp_tools import McpOpener, call, named
from tests.support.ports import free_port

from goagents.errors import ToolError
from goagents.messages import ImagePart
from goagents.tools.base import Tool

_EVERYTHING = (
    Path(__file__).parents[2]
    / "support/peers/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
)  # fmt: skip


async def test_the_clock_of_pypi(mcp: McpOpener):
    server = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
    tools = await mcp.tools("clock", servers={"clock": server})
    arguments = {"source_timezone": "UTC", "target_timezone": "Asia/Tokyo", "time": "12:00"}
    assert '"time_difference": "+9.0h"' in text_of(await call(tools["kb_convert_time"], **arguments))
    wrong = await asyncio.gather(call(tools["kb_get_current_time"], timezone="Nowhere/Here"), return_exceptions=True)
    assert "Nowhere/Here" in (str(wrong[0]) if isinstance(wrong[0], BaseException) else text_of(wrong[0]))


def node() -> str:
    found = shutil.which("node")
    if found is None or not _EVERYTHING.exists():
        pytest.skip("server-everything is not installed: install node 20 or newer, then run `make peers`")
    return found


@contextmanager
def everything(kind: str, port: int | None = None) -> Iterator[str]:
    port = port or free_port()
    command = [node(), str(_EVERYTHING), kind]
    process = subprocess.Popen(
        command, env={"PORT": str(port), "PATH": "/usr/bin:/bin"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while not listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("server-everything did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/{'sse' if kind == 'sse' else 'mcp'}"
    finally:
        process.kill()
        process.wait(60)


def listens(port: int) -> bool:
    return any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in psutil.net_connections("tcp"))


async def try_everything(tools: dict[str, Tool]) -> None:
    assert text_of(await call(tools["kb_echo"], message="hello")) == "Echo: hello"
    assert "42" in text_of(await call(tools["kb_get-sum"], a=40, b=2))
    parts = (await call(tools["kb_get-tiny-image"])).content
    assert [part.media_type for part in parts if isinstance(part, ImagePart)] == ["image/png"]
    structured = text_of(await call(tools["kb_get-structured-content"], location="New York"))
    assert structured.count("temperature") == 1  # the text and the structured content are the same
    long = await call(tools["kb_trigger-long-running-operation"], duration=0.5, steps=5)
    assert "completed" in text_of(long)
    with pytest.raises(ToolError):
        await call(tools["kb_read_resource"], uri="demo://nowhere")
    answers = await asyncio.gather(*(call(tools["kb_echo"], message=str(number)) for number in range(50)))
    assert [text_of(answer) for answer in answers] == [f"Echo: {number}" for number in range(50)]


@pytest.mark.peers
async def test_the_example_server_of_npm_as_a_program(mcp: McpOpener):
    await try_everything(await mcp.tools(f"{node()} {_EVERYTHING} stdio"))


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["streamableHttp", "sse"])
async def test_the_example_server_of_npm_over_http(mcp: McpOpener, kind: str):
    with everything(kind) as url:
        await try_everything(named(await mcp.toolset(url).open()))


@pytest.mark.peers
async def test_a_session_that_is_unknown_after_a_restart_costs_nobody_a_call(mcp: McpOpener):
    port = free_port()
    with everything("streamableHttp", port) as url:
        tools = named(await mcp.toolset(url, effect="unsafe").open())
        assert text_of(await call(tools["kb_echo"], message="one")) == "Echo: one"
    with everything("streamableHttp", port):  # which answers 400 to the old session, not 404 as the protocol says
        assert text_of(await call(tools["kb_echo"], message="two")) == "Echo: two"
