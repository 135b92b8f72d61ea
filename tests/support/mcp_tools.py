"""MCP servers as processes of their own, and toolsets over them that end with the test."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.http_tools import CONTEXT, Lent
from tests.support.ports import free_port

from goagents.net.guarded import Lookup, system_lookup
from goagents.spec.config import McpServerConfig
from goagents.spec.tools import McpToolSpec
from goagents.tools.base import Logins, Tool, ToolEnvironment, ToolResult
from goagents.tools.mcp import McpToolset
from goagents.tools.mcp_session import Terms

HOME = Path(__file__).parent / "mcp_servers"
SAMPLE = HOME / "sample.py"
_START_TIMEOUT = 30.0


@dataclass
class McpServer:
    """`sample.py` over HTTP. `words` as it has them."""

    words: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if 'sse' in self.words else 'mcp'}"

    def start(self) -> None:
        command = [sys.executable, str(SAMPLE), "http", str(self.port), *self.words]
        self.process = subprocess.Popen(command)
        until = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                self.headers()
            except (urllib.error.URLError, OSError):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError("the sample server did not start") from None
                time.sleep(0.05)
            else:
                return

    def headers(self) -> list[dict[str, str]]:
        """The headers of the requests that came."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/headers", timeout=5) as answer:
            found: list[dict[str, str]] = json.loads(answer.read())
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None


@contextmanager
def running(*words: str) -> Iterator[McpServer]:
    server = McpServer(words)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class McpOpener:
    """Builds toolsets and closes them at the end of the test. Loopback is allowed unless `allowed` says otherwise."""

    def __init__(self) -> None:
        self.lent = Lent()
        self.toolsets: list[McpToolset] = []

    def toolset(
        self,
        server: str,
        *,
        allowed: Sequence[str] = ("127.0.0.0/8",),
        trusted: bool = True,
        servers: Mapping[str, Mapping[str, Any]] | None = None,
        terms: Terms | None = None,
        lookup: Lookup = system_lookup,
        logins: Logins | None = None,
        **fields: Any,
    ) -> McpToolset:
        spec = McpToolSpec.model_validate({"type": "mcp", "name": "kb", "server": server, **fields})
        configured = {name: McpServerConfig.model_validate(each) for name, each in (servers or {}).items()}
        environment = ToolEnvironment(self.lent.resolve, tuple(allowed), None, trusted, configured, logins=logins)
        toolset = McpToolset(spec, environment, terms, lookup)
        self.toolsets.append(toolset)
        return toolset

    async def tools(self, server: str, **fields: Any) -> dict[str, Tool]:
        return named(await self.toolset(server, **fields).open())


def named(tools: Sequence[Tool]) -> dict[str, Tool]:
    return {tool.definition.name: tool for tool in tools}


@pytest.fixture
async def mcp() -> AsyncIterator[McpOpener]:
    opener = McpOpener()
    yield opener
    for toolset in opener.toolsets:
        await toolset.aclose()


def command(path: Path = SAMPLE, *arguments: str) -> str:
    return " ".join([sys.executable, str(path), *(arguments or ("stdio",))])


async def call(tool: Tool, **arguments: Any) -> ToolResult:
    return await tool.call(arguments, CONTEXT)


async def eventually(condition: Any, what: str, within: float = 10.0) -> Any:
    """Return what `await condition()` returns once that is true. Raises AssertionError."""
    until = time.monotonic() + within
    while not (found := await condition()):
        assert time.monotonic() < until, f"{what} within {within:g} s"
        await asyncio.sleep(0.02)
    return found
