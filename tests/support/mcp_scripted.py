"""MCP servers written by hand, for what the SDK's own would never answer; `serve` of `http_tools` serves them."""

from typing import Any

from aiohttp import web

SAY = {"name": "say", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}


def scripted(**answers: Any) -> dict[str, Any]:
    """A stateless server by hand: `answers` by method, as handlers or results; `seen` are its requests."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405)
        message = await request.json()
        name = message["method"].replace("/", "_")
        if "id" not in message:
            return web.Response(status=202)
        given = answers.get(name)
        if callable(given):
            answered: web.StreamResponse = await given(request, message)
            return answered
        results: dict[str, Any] = {
            "server_discover": {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "resultType": "complete",
                "ttlMs": 0,
                "cacheScope": "public",
            },
            "tools_list": {"tools": [SAY], "resultType": "complete", "ttlMs": 0, "cacheScope": "public"},
        }
        return rpc(message, given or results[name])

    return {"/mcp": handle}


def rpc(message: Any, result: Any) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


def said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "resultType": "complete"}
