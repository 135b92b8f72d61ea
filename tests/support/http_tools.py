"""Real servers for the http tool: httpbinx in a process of its own, small ones of aiohttp in the test's loop."""

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from tests.support.ports import await_port, free_port

from goagents.errors import ConfigurationError
from goagents.messages import TextPart
from goagents.net.guarded import Lookup, system_lookup
from goagents.spec.references import Reference, parse
from goagents.spec.tools import HttpToolSpec
from goagents.tools.base import Tool, ToolContext, ToolEnvironment, ToolResult
from goagents.tools.http import HttpToolset

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONTEXT = ToolContext("run_1", "ses_1", "default", "agent", "call_1", "run_1/3/call_1")


@pytest.fixture(scope="session")
def httpbin() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "httpbinx.main:app", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "critical"])
    try:
        await_port(process, port, 20.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve({"/path": handler})` starts a server and returns its base URL; `host`, `ssl` as aiohttp has them."""
    async with AsyncExitStack() as stack:

        async def start(routes: Mapping[str, Handler], host: str = "127.0.0.1", ssl: Any = None) -> str:
            app = web.Application()
            for path, handler in routes.items():
                app.router.add_route("*", path, handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, host, 0, ssl_context=ssl)
            await site.start()
            port = runner.addresses[0][1]
            return f"{'https' if ssl else 'http'}://{host}:{port}"

        yield start


@dataclass
class Lent:
    """What `${…}` resolves to, and a log of what was asked."""

    variables: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def resolve(self, text: str) -> str:
        return "".join(part if isinstance(part, str) else self._value(part) for part in parse(text))

    def _value(self, reference: Reference) -> str:
        self.asked.append(reference.key)
        if reference.key in self.variables:
            return self.variables[reference.key]
        if reference.default is not None:
            return "".join(part if isinstance(part, str) else self._value(part) for part in reference.default)
        raise ConfigurationError(f"{reference} is not set")


class Opener:
    """Builds toolsets and closes them at the end of the test. Loopback is allowed unless `allowed` says otherwise."""

    def __init__(self) -> None:
        self.lent = Lent()
        self.toolsets: list[HttpToolset] = []

    def toolset(
        self,
        *,
        allowed: Sequence[str] = ("127.0.0.0/8",),
        lookup: Lookup = system_lookup,
        ca_bundle: str | None = None,
        **fields: Any,
    ) -> HttpToolset:
        spec = HttpToolSpec.model_validate({"type": "http", "name": "api", **fields})
        toolset = HttpToolset(spec, ToolEnvironment(self.lent.resolve, tuple(allowed), ca_bundle), lookup)
        self.toolsets.append(toolset)
        return toolset

    async def tools(self, **fields: Any) -> dict[str, Tool]:
        return {tool.definition.name: tool for tool in await self.toolset(**fields).open()}

    async def tool(self, **fields: Any) -> Tool:
        (tool,) = await self.toolset(**fields).open()
        return tool


@pytest.fixture
async def opener() -> AsyncIterator[Opener]:
    found = Opener()
    yield found
    for toolset in found.toolsets:
        await toolset.aclose()


async def call(tool: Tool, **arguments: Any) -> ToolResult:
    return await tool.call(arguments, CONTEXT)


def text_of(result: ToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextPart))
