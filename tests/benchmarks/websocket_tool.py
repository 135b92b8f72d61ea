"""What a call of the websocket tool costs over bare clients: `python -m tests.benchmarks.websocket_tool`.

One server in a process of its own, one connection for each client, the same small JSON answer for all.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
from websockets.asyncio.client import connect

from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import ToolContext, ToolEnvironment
from goagents.tools.websocket import build

_ROUNDS = 7
_CALLS = 400
_TOGETHER = 50
_CONTEXT = ToolContext("run", "session", "default", "agent", "call", "run/1/call")
_SERVER = """
import json, socket
from aiohttp import web
async def answer(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(json.dumps({"id": json.loads(message.data).get("id"), "name": "x" * 200}))
    return ws
app = web.Application()
app.router.add_get("/", answer)
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None, access_log=None)
"""

Call = Callable[[], Awaitable[object]]


async def measure(calls: dict[str, tuple[Call, int]]) -> dict[str, tuple[float, float]]:
    """Return wall and CPU microseconds of one call for each, the median of rounds that take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, (call, together) in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(_CALLS // together):
                await call()
            found[name].append(
                ((time.perf_counter() - wall) / _CALLS * 1e6, (time.process_time() - cpu) / _CALLS * 1e6)
            )
    return {
        name: (statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times))
        for name, times in found.items()
    }


async def main(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    environment = ToolEnvironment(lambda text: text.replace("${TOKEN}", "t0ken-value"), ("127.0.0.1",))
    common = {"type": "websocket", "url": url, "headers": {"Authorization": "Bearer ${TOKEN}"}}
    correlated = {"message": {"say": "{message}"}, "correlation": {"field": "id"}}
    toolsets = [
        build(WebsocketToolSpec.model_validate({"name": "next", **common}), environment),
        build(WebsocketToolSpec.model_validate({"name": "correlated", **common, **correlated}), environment),
        build(WebsocketToolSpec.model_validate({"name": "single", "connection": "per_call", **common}), environment),
    ]
    following, by_id, single = [(await toolset.open())[0] for toolset in toolsets]
    arguments = {"message": "hello"}
    sent = json.dumps({"say": "hello", "id": 1})
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as bare, connect(url) as peer:

        async def with_aiohttp() -> None:
            await bare.send_str(sent)
            await bare.receive_json()

        async def with_websockets() -> None:
            await peer.send(sent)
            json.loads(await peer.recv())

        async def together() -> None:
            await asyncio.gather(*(by_id.call(arguments, _CONTEXT) for _ in range(_TOGETHER)))

        calls: dict[str, tuple[Call, int]] = {
            "aiohttp, bare": (with_aiohttp, 1),
            "websockets, bare": (with_websockets, 1),
            "tool, next message": (lambda: following.call(arguments, _CONTEXT), 1),
            "tool, correlation": (lambda: by_id.call(arguments, _CONTEXT), 1),
            f"tool, {_TOGETHER} at once": (together, _TOGETHER),
            "tool, per call": (lambda: single.call(arguments, _CONTEXT), 1),
        }
        for name, (wall, cpu) in (await measure(calls)).items():
            print(f"{name:20} {wall:6.0f} µs a call, {cpu:6.0f} µs of CPU")
    for toolset in toolsets:
        await toolset.aclose()


if __name__ == "__main__":
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            asyncio.run(main(int(server.stdout.readline() if server.stdout else "0")))
        finally:
            server.terminate()
