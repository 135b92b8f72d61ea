"""The least a streaming gateway can be: the upstream's bytes handed on, nothing read, nothing kept."""

import os

import aiohttp
import functions_framework.aio
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

UPSTREAM = os.environ["BENCH_UPSTREAM"]
_sessions: list[aiohttp.ClientSession] = []


def _session() -> aiohttp.ClientSession:
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return _sessions[0]


@functions_framework.aio.http
async def passthrough(request: Request) -> ASGIApp:
    body = await request.body()

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": "application/json"}
        async with _session().post(f"{UPSTREAM}{request.url.path}", data=body, headers=headers) as answer:
            start = [(b"content-type", answer.content_type.encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": start})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return forward
