"""What is around every tool, and what it costs: `python -m tests.benchmarks.tools`.

Each kind of tool against a real server in a process of its own: a call as the engine makes it, with its checks, circuit
breaker, redaction and bounds, beside the bare call of the same tool, in rounds that take turns. Fifty calls at once on
one MCP server; a call that is under way while that server is killed; a thousand definitions.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
from mcp import Client
from tests.benchmarks.report import Measure, main
from tests.support.mcp_tools import McpServer, running

from goagents.access.principal import Principal
from goagents.app import close_services, open_services
from goagents.engine import clusters
from goagents.engine.calling.pipeline import Passage
from goagents.engine.calling.results import Done
from goagents.engine.execution.toolbox import open_toolbox
from goagents.engine.loaded import Toolbox
from goagents.engine.services import Services
from goagents.engine.specs import load
from goagents.messages import ToolCallPart
from goagents.records import Paths
from goagents.settings import Settings
from goagents.spec.cluster import AgentCluster
from goagents.spec.config import Config
from goagents.tools.base import ToolContext

ROUNDS = 7
CALLS = 200
TOGETHER = 50
DEFINITIONS = 1000
PER_PAGE = 125
KILLS = 5
_ADD = {"a": 1, "b": 2}
_CONTEXT = ToolContext("run", "session", "default", "agent", "call", "run/1/call")
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

Call = Callable[[], Awaitable[object]]


class Bench:
    """The tools of one agent as the engine has them, and calls of them."""

    def __init__(self, services: Services, toolbox: Toolbox) -> None:
        self.services = services
        self.toolbox = toolbox

    def bare(self, name: str, arguments: dict[str, Any]) -> Call:
        tool = self.toolbox.tools[name].tool
        return lambda: tool.call(arguments, _CONTEXT)

    async def call(self, name: str, arguments: dict[str, Any]) -> Done:
        """Make a call with all that is around it."""
        around, opened = self.toolbox.around, self.toolbox.tools[name]
        if around is None:
            raise AssertionError("an opened toolbox has surroundings")
        part = ToolCallPart("call", name, arguments)
        if problem := opened.problem(arguments):
            raise AssertionError(problem)
        deadline = self.services.clock.monotonic() + 60
        done = await Passage(around, opened, part, _CONTEXT, deadline, set()).make()
        if done.outcome != "ok":
            raise AssertionError(f"{name}: {done.outcome}: {done.result.content}")
        return done

    def around(self, name: str, arguments: dict[str, Any]) -> Call:
        return lambda: self.call(name, arguments)


@asynccontextmanager
async def bench(tools: Sequence[Mapping[str, Any]]) -> AsyncGenerator[Bench, None]:
    agent = {"name": "a", "provider": "scripted", "model": "m", "tools": list(tools)}
    manifest = {
        "apiVersion": "goagents.dev/v1", "kind": "AgentCluster", "metadata": {"name": "bench"},
        "spec": {"agents": [agent]},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = Config.model_validate(
            {
                "server": {"log_level": "error"},
                "store": {"url": f"sqlite:///{folder}/bench.db"},
                "allow": {"addresses": ["127.0.0.1"]},
                "providers": {"anthropic": {"api_key": "sk-ant-0123456789"}, "openai": {"api_key": "sk-0123456789"}},
            }
        )
        services = open_services(Settings(), config)
        principal = Principal("bench")
        await clusters.apply(services, principal, AgentCluster.model_validate(manifest), trusted=True)
        paths = Paths(principal.tenant)
        cluster = await load(services, paths, "default", "bench")
        toolbox = await open_toolbox(services, paths, cluster, cluster.agent("a"))
        if toolbox.failed:
            raise AssertionError(toolbox.failed)
        try:
            yield Bench(services, toolbox)
        finally:
            await close_services(services)


@contextmanager
def servers() -> Iterator[int]:
    """An HTTP and a WebSocket server in a process of their own; gives the port."""
    with subprocess.Popen([sys.executable, "-c", _SERVERS], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline() if process.stdout else "0")
        finally:
            process.terminate()


async def timed(calls: Mapping[str, Call], count: int = CALLS) -> dict[str, tuple[float, float]]:
    """Return wall and CPU microseconds of one call of each, medians of rounds that take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                await call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found[name].append((wall / count * 1e6, cpu / count * 1e6))
    return {
        name: (statistics.median(w for w, _ in rounds), statistics.median(c for _, c in rounds))
        for name, rounds in found.items()
    }


def overhead() -> list[Measure]:
    """A call of each kind with all that is around it, beside the bare call of the same tool."""

    async def work() -> list[Measure]:
        with servers() as port, running() as sample:
            base = f"http://127.0.0.1:{port}/v1/customers"
            tools = [
                {"type": "http", "name": "http", "url": base, "headers": {"Authorization": "Bearer s3cret-of-http"}},
                {"type": "mcp", "name": "mcp", "server": sample.url, "include": ["add"]},
                {"type": "websocket", "name": "websocket", "url": f"ws://127.0.0.1:{port}/ws"},
                {"type": "python", "name": "python", "target": "tests.benchmarks.tool_of_python:add"},
                {"type": "http", "name": "cached", "url": base, "cache_ttl": "1h"},
            ]
            kinds = {"http": ("http", {"path": "42"}), "mcp": ("mcp_add", _ADD),
                     "websocket": ("websocket", {"message": "hello"}), "python": ("python", _ADD)}  # fmt: skip
            async with bench(tools) as made:
                measures = []
                for kind, (name, arguments) in kinds.items():
                    calls = {"bare": made.bare(name, arguments), "around": made.around(name, arguments)}
                    found = await timed(calls)
                    measures += compared(kind, *found["bare"], *found["around"])
                hit = (await timed({"hit": made.around("cached", {"path": "42"})}))["hit"]
                measures.append(Measure("http, from the cache (SQLite)", hit[0], "µs", None, f"{hit[1]:.0f} µs of CPU"))
                return measures

    return asyncio.run(work())


def compared(kind: str, bare: float, bare_cpu: float, around: float, around_cpu: float) -> list[Measure]:
    return [
        Measure(f"{kind}, bare call of the tool", bare, "µs", None, f"{bare_cpu:.0f} µs of CPU"),
        Measure(f"{kind}, with what is around it", around, "µs", None, f"{around_cpu:.0f} µs of CPU"),
        Measure(
            f"{kind}, times the bare call", around_cpu / bare_cpu, "times", None, "in CPU, which others disturb less"
        ),
    ]


def together() -> list[Measure]:
    """Fifty calls at once on one MCP server."""

    async def work() -> list[Measure]:
        with running() as sample:
            tool = {"type": "mcp", "name": "mcp", "server": sample.url, "include": ["add"]}
            async with bench([tool]) as made, Client(sample.url) as client:

                async def fifty(call: Call) -> None:
                    await asyncio.gather(*(call() for _ in range(TOGETHER)))

                calls = {
                    "SDK": lambda: fifty(lambda: client.call_tool("add", _ADD)),
                    "bare": lambda: fifty(made.bare("mcp_add", _ADD)),
                    "around": lambda: fifty(made.around("mcp_add", _ADD)),
                }
                found = {name: wall / 1e3 for name, (wall, _) in (await timed(calls, 5)).items()}
        return [
            Measure("fifty at once, SDK's own client", found["SDK"], "ms"),
            Measure("fifty at once, bare calls of the tool", found["bare"], "ms"),
            Measure("fifty at once, with what is around them", found["around"], "ms"),
            Measure("fifty at once, times the SDK's client", found["around"] / found["SDK"], "times"),
        ]

    return asyncio.run(work())


def recovery() -> list[Measure]:
    """From when a killed MCP server answers again until a call that was made meanwhile has its answer."""

    async def once(made: Bench, sample: McpServer) -> tuple[float, int]:
        await made.call("mcp_add", _ADD)
        sample.stop()
        waiting = asyncio.create_task(made.call("mcp_add", _ADD))
        await asyncio.to_thread(sample.start)
        ready = time.perf_counter()
        done = await waiting
        return time.perf_counter() - ready, done.attempts

    async def work() -> list[Measure]:
        with running() as sample:
            retries = {"max": 10, "backoff": "100ms", "max_backoff": "500ms"}
            tool = {"type": "mcp", "name": "mcp", "server": sample.url, "include": ["add"], "retries": retries,
                    "effect": "read"}  # fmt: skip
            async with bench([tool]) as made:
                found = [await once(made, sample) for _ in range(KILLS)]
        waits = [wait for wait, _ in found]
        note = f"{KILLS} kills; retries of 100 to 500 ms"
        return [
            Measure("the call's answer after the server's, median", statistics.median(waits), "s", None, note),
            Measure("the call's answer after the server's, longest", max(waits), "s", 1.0),
            Measure("attempts of the call, most", max(attempts for _, attempts in found), "attempts"),
        ]

    return asyncio.run(work())


def definitions() -> list[Measure]:
    """A thousand definitions, of eight OpenAPI pages: opened, held, and listed for one request of a model."""

    async def work() -> list[Measure]:
        process = psutil.Process()
        with tempfile.TemporaryDirectory() as folder:
            tools = []
            for number in range(DEFINITIONS // PER_PAGE):
                path = Path(folder) / f"page{number}.json"
                path.write_text(json.dumps(page()), encoding="utf-8")
                tools.append({"type": "http", "name": f"p{number}", "openapi": str(path)})
            async with bench(tools[:1]):
                pass  # what is loaded once is not what is measured
            before, began = process.memory_info().rss, time.perf_counter()
            async with bench(tools) as made:
                seconds, memory = time.perf_counter() - began, process.memory_info().rss - before
                count = len(made.toolbox.tools)
                listed = await timed({"schemas": lambda: asyncio.sleep(0, made.toolbox.schemas)}, 20)
                name = next(iter(made.toolbox.tools))
        if count != DEFINITIONS:
            raise AssertionError(f"{count} tools, the first one {name}")
        return [
            Measure(f"{count} definitions, opened", seconds, "s"),
            Measure(f"{count} definitions, memory", memory / 2**20, "MiB", None, "resident, of the process"),
            Measure(f"{count} definitions, one", memory / count / 1024, "KiB"),
            Measure(f"{count} definitions, listed for a request", listed["schemas"][0], "µs"),
        ]

    return asyncio.run(work())


def page() -> dict[str, Any]:
    """An OpenAPI page of `PER_PAGE` operations, each with five parameters and a body."""
    fields = {f"field_{n}": {"type": "string", "description": f"The field {n} of a record."} for n in range(10)}
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": fields}}}}
    parameters = [
        {"name": f"q{n}", "in": "query", "description": f"The filter {n}.", "schema": {"type": "string"}}
        for n in range(5)
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "bench", "version": "1"},
        "servers": [{"url": "http://127.0.0.1:1/v1"}],
        "paths": {
            f"/records{n}": {
                "post": {
                    "operationId": f"op{n}", "description": f"Makes a record of the kind {n}, or changes it.",
                    "parameters": parameters, "requestBody": body, "responses": {},
                }
            }
            for n in range(PER_PAGE)
        },
    }  # fmt: skip


BENCHMARKS = {
    f"Around tools: one call, {ROUNDS} rounds of {CALLS}": overhead,
    "Around tools: fifty at once on one MCP server": together,
    "Around tools: recovery of a killed MCP server": recovery,
    f"Around tools: {DEFINITIONS} definitions": definitions,
}

if __name__ == "__main__":
    main(BENCHMARKS)
