"""Many calls at once on one MCP server, and the next call after it was killed."""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial

import psutil
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.benchmarks.report import Measure
from tests.benchmarks.tools.bench import ADD, Bench, Call, Found, Size, bench, shown, table, timed, times
from tests.support.mcp_tools import SAMPLE, McpServer, command, eventually, running

_WAYS = {"remote": "`mcp`, streamable HTTP", "local": "`mcp`, a program"}


def entries(sample: McpServer) -> list[dict[str, object]]:
    """The same server twice: over HTTP, and as a program. Calls that fail because it is away are made again."""
    common = {"type": "mcp", "include": ["add"], "effect": "read",
              "retries": {"max": 10, "backoff": "100ms", "max_backoff": "500ms"}}  # fmt: skip
    return [{**common, "name": "remote", "server": sample.url}, {**common, "name": "local", "server": command()}]


def sdk_client(way: str, sample: McpServer) -> Client:
    if way == "remote":
        return Client(sample.url)
    return Client(stdio_client(StdioServerParameters(command=sys.executable, args=[str(SAMPLE), "stdio"])))


def together(size: Size) -> Found:
    """Calls at once on one MCP server."""

    async def several(call: Call) -> None:
        await asyncio.gather(*(call() for _ in range(size.together)))

    async def work() -> Found:
        measures, rows = [], []
        with running() as sample:
            async with bench(entries(sample)) as made:
                for way, name in _WAYS.items():
                    async with sdk_client(way, sample) as client:
                        single: dict[str, Call] = {
                            "SDK": partial(client.call_tool, "add", ADD),
                            "alone": made.alone(f"{way}_add", ADD),
                            "around": made.around(f"{way}_add", ADD),
                        }
                        calls: dict[str, Call] = {key: partial(several, call) for key, call in single.items()}
                        found = await timed(calls, size.rounds, max(1, size.calls // 40))
                    ratio = found["around"].wall / found["SDK"].wall
                    texts = [shown(found[key].wall) for key in single]
                    rows.append([f"{name}, {size.together} at once", *texts, times(ratio)])
                    title = f"{name.replace('`', '')}, {size.together} at once"
                    measures += [Measure(f"{title}: {key}", one.wall / 1e3, "ms") for key, one in found.items()]
                    measures.append(Measure(f"{title}: times the SDK's client", ratio, "times"))
        head = ("", "the SDK's client", "the tool", "with what is around it", "times the SDK's client")
        return Found(measures, table(head, rows))

    return asyncio.run(work())


async def restart(sample: McpServer) -> None:
    """Kill the server over HTTP, and return once it answers again."""
    await asyncio.to_thread(sample.stop)
    await asyncio.to_thread(sample.start)


async def kill_programs(_sample: McpServer) -> None:
    """Kill the programs that this process has started over standard input and output."""
    found = [
        child for child in psutil.Process().children(recursive=True) if child.cmdline()[1:] == [str(SAMPLE), "stdio"]
    ]
    assert found, "the toolset keeps its program while it is used"
    for child in found:
        os.kill(child.pid, signal.SIGKILL)

    async def ended() -> bool:
        return all(not child.is_running() or child.status() == psutil.STATUS_ZOMBIE for child in found)

    await eventually(ended, "the program is gone")


async def next_call(made: Bench, sample: McpServer, way: str) -> tuple[float, float]:
    """Return the seconds from the kill's end until the next call has its answer, and those of the SDK's client, opened
    anew for one call."""
    await made.call(f"{way}_add", ADD)
    await {"remote": restart, "local": kill_programs}[way](sample)
    began = time.perf_counter()
    await made.call(f"{way}_add", ADD)
    answered = time.perf_counter() - began
    began = time.perf_counter()
    async with sdk_client(way, sample) as client:
        await client.call_tool("add", ADD)
        opened = time.perf_counter() - began
    return answered, opened


async def call_under_way(made: Bench, sample: McpServer) -> tuple[float, int]:
    """Return the seconds from when a server that was killed answers again until a call made meanwhile has its answer,
    and how often it was made."""
    await made.call("remote_add", ADD)
    sample.stop()
    waiting = asyncio.create_task(made.call("remote_add", ADD))
    await asyncio.to_thread(sample.start)
    ready = time.perf_counter()
    done = await waiting
    return time.perf_counter() - ready, done.attempts


def recovery(size: Size) -> Found:
    """How soon calls are answered after an MCP server was killed."""

    async def work() -> Found:
        with running() as sample:
            async with bench(entries(sample)) as made:
                nexts = {way: [await next_call(made, sample, way) for _ in range(size.kills)] for way in _WAYS}
                waiting = [await call_under_way(made, sample) for _ in range(size.kills)]
        measures, rows = [], []
        for way, found in nexts.items():
            answered, opened = zip(*found, strict=True)
            measures += _measures(f"{_WAYS[way].replace('`', '')}, next call", answered, size.kills)
            ratio = statistics.median(answered) / statistics.median(opened)
            measures.append(Measure(f"{_WAYS[way].replace('`', '')}, times a new SDK's client", ratio, "times"))
            rows.append([f"{_WAYS[way]}: the next call", _both(answered), _both(opened), times(ratio)])
        waits = [wait for wait, _ in waiting]
        most = max(attempts for _, attempts in waiting)
        measures += _measures("a call under way, after the server's return", waits, size.kills)
        measures.append(Measure("a call under way, most attempts", most, "attempts"))
        rows.append([f"{_WAYS['remote']}: a call under way, in up to {most} attempts", _both(waits), "", ""])
        head = ("killed", "answered after: median, longest", "the SDK's client, opened anew", "times")
        return Found(measures, table(head, rows))

    return asyncio.run(work())


def _measures(name: str, seconds: Sequence[float], kills: int) -> list[Measure]:
    return [
        Measure(f"{name}: median", statistics.median(seconds), "s", None, f"{kills} kills"),
        Measure(f"{name}: longest", max(seconds), "s"),
    ]


def _both(seconds: Sequence[float]) -> str:
    return f"{shown(statistics.median(seconds) * 1e6)}, {shown(max(seconds) * 1e6)}"
