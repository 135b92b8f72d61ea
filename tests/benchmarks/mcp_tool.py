"""What a call of the mcp tool costs over the SDK's own client: `python -m tests.benchmarks.mcp_tool`.

One server in a process of its own (the one of the tests), the same small answer for all, over each way to reach it; one
call after another, then fifty at once.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.support.mcp_tools import SAMPLE, command, running

from goagents.spec.tools import McpToolSpec
from goagents.tools.base import ToolContext, ToolEnvironment
from goagents.tools.mcp import McpToolset

_ROUNDS = 5
_CALLS = 100
_TOGETHER = 50
_CONTEXT = ToolContext("run", "session", "default", "agent", "call", "run/1/call")
_ARGUMENTS = {"a": 1, "b": 2}

Call = Callable[[], Awaitable[object]]


async def measure(calls: dict[str, Call]) -> dict[str, tuple[float, float, float]]:
    """Return wall and CPU microseconds of one call and wall of one among fifty, medians of rounds that take turns."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(_CALLS):
                await call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            together = time.perf_counter()
            await asyncio.gather(*(call() for _ in range(_TOGETHER)))
            together = time.perf_counter() - together
            found[name].append((wall / _CALLS * 1e6, cpu / _CALLS * 1e6, together / _TOGETHER * 1e6))
    return {
        name: (
            statistics.median(wall for wall, _, _ in rounds),
            statistics.median(cpu for _, cpu, _ in rounds),
            statistics.median(together for _, _, together in rounds),
        )
        for name, rounds in found.items()
    }


async def compare(what: str, server: str, bare: Client) -> None:
    """Print what a call costs through the SDK's client and through the tool."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare)
        spec = McpToolSpec(type="mcp", name="sample", server=server, include=("add",))
        toolset = McpToolset(spec, ToolEnvironment(lambda text: text, ("127.0.0.1",), trusted=True))
        stack.push_async_callback(toolset.aclose)
        began = time.perf_counter()
        (tool,) = await toolset.open()
        opened = time.perf_counter() - began
        calls: dict[str, Call] = {
            "SDK's client": lambda: client.call_tool("add", _ARGUMENTS),
            "mcp tool": lambda: tool.call(_ARGUMENTS, _CONTEXT),
        }
        print(f"{what}, opened in {opened * 1e3:.0f} ms")
        for name, (wall, cpu, together) in (await measure(calls)).items():
            print(f"  {name:13} {wall:6.0f} µs a call, {cpu:6.0f} µs of CPU; {together:6.0f} µs of fifty at once")


async def main() -> None:
    parameters = StdioServerParameters(command=sys.executable, args=[str(SAMPLE), "stdio"])
    await compare("a program", command(), Client(stdio_client(parameters)))
    for what, words in {"stateless": (), "stateless, JSON": ("json",), "a session": ("legacy",)}.items():
        with running(*words) as server:
            await compare(what, server.url, Client(server.url))


if __name__ == "__main__":
    asyncio.run(main())
