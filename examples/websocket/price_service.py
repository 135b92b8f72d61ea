"""The example's data service: prices over a WebSocket. `python examples/websocket/price_service.py` serves port 8092.

{"id": "7", "method": "price", "item": "tea"}   is answered by {"id": "7", "item": "tea", "price": 4.2}
{"watch": "tea"}                                is followed by {"item": "tea", "price": 4.2, "closing": false}, …
{"unwatch": "tea"}                              ends that; so does the closing price, which says {"closing": true}
"""

import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

PRICES = {"tea": (4.2, 4.25, 4.15, 4.3), "coffee": (6.0, 6.1, 5.9, 6.2)}
PAUSE = 0.05  # seconds between two prices


async def prices(request: web.Request) -> web.WebSocketResponse:
    """Serve one connection."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    watching: dict[str, asyncio.Task[None]] = {}
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _serve(socket, json.loads(message.data), watching)
    finally:
        for task in watching.values():
            task.cancel()
    return socket


async def _serve(socket: web.WebSocketResponse, asked: dict[str, Any], watching: dict[str, asyncio.Task[None]]) -> None:
    match asked:
        case {"id": number, "method": "price", "item": item}:
            known = PRICES.get(item)
            answer = {"error": f"{item} is not traded here"} if known is None else {"item": item, "price": known[0]}
            await socket.send_json({"id": number, **answer})
        case {"watch": item} if item in PRICES and item not in watching:
            watching[item] = asyncio.create_task(_publish(socket, item))
        case {"unwatch": item} if item in watching:
            watching.pop(item).cancel()


async def _publish(socket: web.WebSocketResponse, item: str) -> None:
    last = len(PRICES[item]) - 1
    for number, price in enumerate(PRICES[item]):
        await socket.send_json({"item": item, "price": price, "closing": number == last})
        await asyncio.sleep(PAUSE)


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", prices)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8092)
