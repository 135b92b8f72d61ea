"""An MCP server of the official SDK: `python sample.py stdio`, `… http PORT [legacy] [sse] [json] [token=T]`.

`legacy` knows no `server/discover`, so that clients open a session as they did before 2026-07-28.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
NOTES: list[str] = []
READ = ToolAnnotations(read_only_hint=True)
server = MCPServer("sample", log_level="CRITICAL")


@server.tool(annotations=READ)
async def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
async def put(key: str) -> str:
    """Puts something in its place."""
    NOTES.append(f"put {key}")
    return "done"


@server.tool()
async def note(text: str) -> str:
    """Writes a note."""
    NOTES.append(text)
    return f"noted by {os.getpid()}"


@server.tool(annotations=READ)
async def notes() -> list[str]:
    """Reads the notes."""
    return NOTES


@server.tool()
async def slow(seconds: float, ctx: Context) -> str:
    """Takes its time, and notes it when it is cancelled."""
    NOTES.append("slow begins")
    try:
        for step in range(10):
            await ctx.report_progress(step, 10, "on the way")
            await asyncio.sleep(seconds / 10)
    except asyncio.CancelledError:
        NOTES.append("slow is cancelled")
        raise
    NOTES.append("slow ends")
    return "at last"


@server.tool()
async def die() -> str:
    """Ends the process in the middle of the call."""
    os._exit(3)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die_once(flag: str) -> str:
    """Ends the process the first time."""
    path = Path(flag)
    if not path.exists():
        path.write_text("died", encoding="utf-8")
        os._exit(3)
    return "alive"


@server.tool()
async def fail() -> str:
    """Reports an error."""
    raise ValueError("the shelf is empty")


@server.tool()
async def large(size: int) -> CallToolResult:
    """Answers with a lot."""
    return CallToolResult(content=[TextContent(type="text", text="x" * size)])


@server.tool()
async def picture() -> Image:
    """Returns an image."""
    return Image(data=PNG, format="png")


@server.tool()
async def mixed() -> CallToolResult:
    """Returns a bit of everything."""
    text = TextResourceContents(uri="note://1", mime_type="text/plain", text="a note inside")
    return CallToolResult(
        content=[
            TextContent(type="text", text="two things"),
            ResourceLink(type="resource_link", uri="note://2", name="second", description="another note"),
            EmbeddedResource(type="resource", resource=text),
        ],
        structured_content={"count": 2, "items": ["a", "b"]},
    )


@server.tool()
async def variable(name: str) -> str:
    """Reads a variable of this process."""
    return os.environ.get(name, "(not set)")


@server.tool(name="odd name.v1/ü")
async def odd() -> str:
    """Has a name that providers do not take."""
    return "odd"


@server.tool()
async def grow(ctx: Context) -> str:
    """Adds a tool."""

    async def grown() -> str:
        """Was not there before."""
        return "new"

    server.add_tool(grown)
    await ctx.notify_tools_changed()
    session = getattr(ctx, "session", None)
    if session is not None:
        await session.send_tool_list_changed()
    return "grown"


@server.resource("note://first", name="first", description="The first note.")
def first() -> str:
    return "the first note"


@server.resource("note://by-name/{name}", name="named")
def named(name: str) -> str:
    return f"the note of {name}"


class Gate:
    """What a proxy in front would do: refuses without the token, knows no discovery, keeps what headers came."""

    def __init__(self, app: ASGIApp, words: dict[str, str]) -> None:
        self.app = app
        self.words = words
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.url.path == "/headers":
            await JSONResponse(self.headers)(scope, receive, send)
            return
        self.headers = [*self.headers[-100:], dict(request.headers)]
        token = self.words.get("token")
        if token and request.headers.get("authorization") != f"Bearer {token}":
            given = request.headers.get("authorization")
            await PlainTextResponse(f"not with {given}", 401)(scope, receive, send)
            return
        if "legacy" in self.words and request.method == "POST":
            receive = await self._without_discovery(request, scope, receive, send)
            if receive is None:
                return
        await self.app(scope, receive, send)

    async def _without_discovery(self, request: Request, scope: Scope, receive: Receive, send: Send) -> Any:
        body = await request.body()
        message = json.loads(body)
        if message.get("method") == "server/discover":
            error = {"code": -32601, "message": "Method not found"}
            await JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})(scope, receive, send)
            return None
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again


def main(kind: str, *arguments: str) -> None:
    if kind == "stdio":
        sys.stderr.write("sample: ready, and the key is " + os.environ.get("SAMPLE_KEY", "none") + "\n")
        sys.stderr.flush()
        server.run("stdio")
        return
    port, *rest = arguments
    words = dict(word.partition("=")[::2] for word in rest)
    if "sse" in words:
        app: ASGIApp = server.sse_app()
    else:
        app = server.streamable_http_app(json_response="json" in words)
    uvicorn.run(Gate(app, words), host="127.0.0.1", port=int(port), log_level="critical", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
