"""What a call of the http tool costs over a bare call of its client: `python -m tests.benchmarks.http_tool`.

One server in a process of its own, one kept-alive connection, the same small JSON answer for all.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpx2

from goagents.spec.tools import HttpToolSpec
from goagents.tools.base import ToolContext, ToolEnvironment
from goagents.tools.http import build

_ROUNDS = 7
_CALLS = 400
_CONTEXT = ToolContext("run", "session", "default", "agent", "call", "run/1/call")
_SERVER = """
import socket
from aiohttp import web
async def answer(_request):
    return web.json_response({"id": 42, "name": "x" * 200})
app = web.Application()
app.router.add_get("/v1/customers/{id}", answer)
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None, access_log=None)
"""

Call = Callable[[], Awaitable[object]]


async def measure(calls: dict[str, Call]) -> dict[str, tuple[float, float]]:
    """Return wall and CPU microseconds for each, the median of rounds that take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(_CALLS):
                await call()
            found[name].append(
                ((time.perf_counter() - wall) / _CALLS * 1e6, (time.process_time() - cpu) / _CALLS * 1e6)
            )
    return {
        name: (statistics.median(w for w, _ in rounds), statistics.median(c for _, c in rounds))
        for name, rounds in found.items()
    }


async def main(port: int) -> None:
    base = f"http://127.0.0.1:{port}/v1/customers"
    environment = ToolEnvironment(lambda text: text.replace("${TOKEN}", "t0ken-value"), ("127.0.0.1",))
    headers = {"Authorization": "Bearer ${TOKEN}"}
    toolset = build(HttpToolSpec(type="http", name="customers", url=base, headers=headers), environment)
    (tool,) = await toolset.open()
    async with aiohttp.ClientSession() as session, httpx2.AsyncClient() as client:

        async def bare() -> None:
            async with session.get(f"{base}/42") as response:
                await response.read()

        calls: dict[str, Call] = {
            "aiohttp, bare": bare,
            "httpx2, bare": lambda: client.get(f"{base}/42"),
            "http tool": lambda: tool.call({"path": "42"}, _CONTEXT),
        }
        for name, (wall, cpu) in (await measure(calls)).items():
            print(f"{name:15} {wall:6.0f} µs a call, {cpu:6.0f} µs of CPU")
    await toolset.aclose()


if __name__ == "__main__":
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            asyncio.run(main(int(server.stdout.readline() if server.stdout else "0")))
        finally:
            server.terminate()
