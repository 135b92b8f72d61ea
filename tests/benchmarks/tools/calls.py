"""One call of each kind of tool: by a bare client, by the tool alone, and as the engine makes it."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.benchmarks.report import Measure
from tests.benchmarks.servers import Server, function
from tests.benchmarks.tool_of_python import add, add_in_thread
from tests.benchmarks.tools.bench import ADD, Bench, Call, Found, Size, Timing, bench, shown, table, timed, times
from tests.support.acme import unpacked
from tests.support.mcp_tools import SAMPLE, McpServer, command, running
from websockets.asyncio.client import connect

from goagents.spec import plugins

_KEY = {"Authorization": "Bearer s3cret-of-http"}
_SERVERS = """
import socket
from aiohttp import WSMsgType, web
async def answer(_request):
    return web.json_response({"id": 42, "name": "x" * 200})
async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws
app = web.Application()
app.router.add_get("/v1/customers/{id}", answer)
app.router.add_get("/ws", echo)
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None, access_log=None)
"""


@dataclass(frozen=True)
class Kind:
    """A kind of tool: what its bare client is, its entry, and the call of the tool `called`."""

    name: str
    client: str
    entry: dict[str, Any]
    called: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where the servers are, each in a process of its own, and the folder for what is written."""

    port: int
    sample: McpServer
    adder: Server
    folder: Path

    @property
    def customers(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/customers"

    @property
    def websocket(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


@contextmanager
def places() -> Iterator[Places]:
    with (
        subprocess.Popen([sys.executable, "-c", _SERVERS], stdout=subprocess.PIPE, text=True) as process,
        tempfile.TemporaryDirectory(prefix="goagents-bench-") as folder,
    ):
        try:
            port = int(process.stdout.readline() if process.stdout else "0")
            with running() as sample, function("adder", {}) as adder, package(Path(folder)):
                yield Places(port, sample, adder, Path(folder))
        finally:
            process.terminate()


@contextmanager
def package(folder: Path) -> Iterator[None]:
    """The package of the tests that brings the type `acme`, as if it were installed."""
    site = str(unpacked(folder / "site"))
    sys.path.append(site)
    plugins._found.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(site)
        plugins._found.cache_clear()


def kinds(at: Places) -> list[Kind]:
    customer = {"path": "42"}
    page = at.folder / "customers.json"
    page.write_text(json.dumps(_page(at.customers.removesuffix("/customers"))), encoding="utf-8")
    http = {"type": "http", "url": at.customers, "headers": _KEY}
    return [
        Kind("`http`", "aiohttp", {**http, "name": "http"}, "http", customer),
        Kind("`http`, answered by the cache (SQLite)", "aiohttp", {**http, "name": "kept", "cache_ttl": "1h"}, "kept",
             customer),
        Kind("`http`, an OpenAPI page", "aiohttp", {"type": "http", "name": "page", "openapi": str(page),
             "security": {"key": "s3cret-of-http"}}, "page_get", {"id": "42", "fields": "name"}),
        Kind("tool function", "aiohttp", {"type": "http", "name": "adder", "openapi": f"{at.adder.url}/openapi.json"},
             "adder_add", ADD),
        Kind("`websocket`", "websockets", {"type": "websocket", "name": "websocket", "url": at.websocket}, "websocket",
             {"message": "hello"}),
        Kind("`mcp`, streamable HTTP", "the SDK's", {"type": "mcp", "name": "mcp", "server": at.sample.url,
             "include": ["add"]}, "mcp_add", ADD),
        Kind("`mcp`, a program", "the SDK's", {"type": "mcp", "name": "program", "server": command(),
             "include": ["add"]}, "program_add", ADD),
        Kind("`python`, async", "`await`", {"type": "python", "name": "python",
             "target": "tests.benchmarks.tool_of_python:add"}, "python", ADD),
        Kind("`python`, in a thread", "`to_thread`", {"type": "python", "name": "thread",
             "target": "tests.benchmarks.tool_of_python:add_in_thread"}, "thread", ADD),
        Kind("a package's type", "its own call", {"type": "acme", "name": "counter", "greeting": "Welcome"},
             "counter_greet", {"who": "Ada"}),
    ]  # fmt: skip


def _page(base: str) -> dict[str, Any]:
    parameters = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "fields", "in": "query", "schema": {"type": "string"}},
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "bench", "version": "1"},
        "servers": [{"url": base}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
        "paths": {"/customers/{id}": {"get": {"operationId": "get", "parameters": parameters, "responses": {}}}},
    }


@asynccontextmanager
async def bare_clients(at: Places, made: Bench) -> AsyncGenerator[Mapping[str, Call], None]:
    """The same calls by what one would write by hand: a client for each, kept open as the tools keep theirs."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=_KEY))
        peer = await stack.enter_async_context(connect(at.websocket))
        remote = await stack.enter_async_context(Client(at.sample.url))
        parameters = StdioServerParameters(command=sys.executable, args=[str(SAMPLE), "stdio"])
        local = await stack.enter_async_context(Client(stdio_client(parameters)))

        async def get(url: str) -> None:
            async with session.get(url) as response:
                assert response.status == 200
                await response.read()

        async def exchange() -> None:
            await peer.send("hello")
            await peer.recv()

        yield {
            "http": lambda: get(f"{at.customers}/42"),
            "kept": lambda: get(f"{at.customers}/42"),
            "page_get": lambda: get(f"{at.customers}/42?fields=name"),
            "adder_add": lambda: get(f"{at.adder.url}/add?a=1&b=2"),
            "websocket": exchange,
            "mcp_add": lambda: remote.call_tool("add", ADD),
            "program_add": lambda: local.call_tool("add", ADD),
            "python": lambda: add(**ADD),
            "thread": lambda: asyncio.to_thread(add_in_thread, **ADD),
            "counter_greet": made.alone("counter_greet", {"who": "Ada"}),
        }


def measure(size: Size) -> Found:
    """A call of each kind with all that is around it, beside the bare call, in the same run."""

    async def work() -> Found:
        with places() as at:
            all_kinds = kinds(at)
            async with bench([kind.entry for kind in all_kinds]) as made, bare_clients(at, made) as bare:
                found = []
                for kind in all_kinds:
                    call = {"bare": bare[kind.called], "alone": made.alone(kind.called, kind.arguments),
                            "around": made.around(kind.called, kind.arguments)}  # fmt: skip
                    found.append((kind, await timed(call, size.rounds, size.calls)))
        measures = [measure for kind, timings in found for measure in _measures(kind, timings)]
        return Found(measures, table(_HEAD, [_row(kind, timings) for kind, timings in found]))

    return asyncio.run(work())


_HEAD = ("one call", "bare client", "CPU: bare", "the tool", "with what is around it", "times bare",
         "by the clock: bare", "with what is around it", "times bare")  # fmt: skip


def _row(kind: Kind, found: Mapping[str, Timing]) -> list[str]:
    bare, alone, around = found["bare"], found["alone"], found["around"]
    cpu = [shown(bare.cpu), shown(alone.cpu), shown(around.cpu), times(around.cpu / bare.cpu)]
    return [kind.name, kind.client, *cpu, shown(bare.wall), shown(around.wall), times(around.wall / bare.wall)]


def _measures(kind: Kind, found: Mapping[str, Timing]) -> list[Measure]:
    name = kind.name.replace("`", "")
    texts = {"bare": f"bare client ({kind.client})", "alone": "the tool alone", "around": "with what is around it"}
    return [
        *(
            Measure(f"{name}: {texts[key]}", one.wall, "µs", None, f"{one.cpu:.3g} µs of CPU")
            for key, one in found.items()
        ),
        Measure(f"{name}: times the bare client", found["around"].cpu / found["bare"].cpu, "times", None, "in CPU"),
    ]
