"""What each kind of tool tells of a failure: whether another attempt may help, when, and whether it was ever sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call
from tests.support.mcp_scripted import scripted
from tests.support.mcp_tools import McpOpener, running
from tests.support.ports import free_port
from tests.support.websocket_tools import server, websocket_tool
from websockets.asyncio.server import ServerConnection

from goagents.errors import ToolError, ToolUnavailable


def answering(status: int, **headers: str) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handler


async def failure(tool: Any, **arguments: Any) -> tuple[str | None, bool]:
    with pytest.raises(ToolError) as raised:
        await call(tool, **arguments)
    return raised.value.fault, raised.value.sent


@pytest.mark.parametrize(
    ("status", "fault"),
    [(200, None), (400, None), (404, None), (408, "server"), (425, "busy"), (429, "busy"), (500, "server"),
     (501, None), (502, "server"), (503, "server"), (504, "server")],
)  # fmt: skip
async def test_a_status_of_http(opener: Opener, serve: Serve, status: int, fault: str | None):
    tool = await opener.tool(url=await serve({"/": answering(status)}))
    result = await call(tool)
    assert (result.fault, result.retry_after) == (fault, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("1.5", 1.5), ("in a while", None), ("nan", None), ("1e999", None), ("-3", None), ("", None)],
)
async def test_when_to_come_back(opener: Opener, serve: Serve, text: str, seconds: float | None):
    tool = await opener.tool(url=await serve({"/": answering(503, Retry_After=text)}))
    assert (await call(tool)).retry_after == seconds


async def test_when_to_come_back_as_a_date(opener: Opener, serve: Serve):
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    tool = await opener.tool(url=await serve({"/": answering(429, Retry_After=then)}))
    assert (await call(tool)).retry_after == pytest.approx(60, abs=20)


@pytest.mark.parametrize(("method", "sent"), [("POST", False), ("GET", True)])
async def test_nobody_listens_over_http(opener: Opener, method: str, sent: bool):
    """A GET may have been sent on by a redirect; it may be repeated anyway."""
    tool = await opener.tool(url=f"http://127.0.0.1:{free_port()}", methods=[method])
    assert await failure(tool) == ("server", sent)


async def test_no_answer_over_http(opener: Opener, serve: Serve):
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    async def hangs_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    base = await serve({"/slow": slow, "/hangs-up": hangs_up})
    tool = await opener.tool(url=base, methods=["POST"], timeout="100ms")
    assert await failure(tool, path="slow") == ("server", True)
    assert await failure(tool, path="hangs-up") == ("server", True)


@pytest.mark.parametrize("secret", ["127.0.0.1", "another"])
async def test_taking_a_secret_out_of_an_error_keeps_what_it_tells(opener: Opener, secret: str):
    opener.lent.variables["KEY"] = secret
    tool = await opener.tool(url=f"http://127.0.0.1:{free_port()}", methods=["POST"], headers={"X-Key": "${KEY}"})
    assert await failure(tool) == ("server", False)


async def test_an_mcp_server_that_is_gone(mcp: McpOpener):
    with running() as sample:
        tool = (await mcp.tools(sample.url, include=["add"]))["kb_add"]
    assert await failure(tool, a=1, b=2) == ("server", False)


@pytest.mark.parametrize(("status", "fault"), [(429, "busy"), (500, "server"), (403, None)])
async def test_a_status_of_an_mcp_server(mcp: McpOpener, serve: Serve, status: int, fault: str | None):
    async def refuse(_request: web.Request, _message: Any) -> web.Response:
        return web.Response(status=status)

    url = await serve(scripted(tools_call=refuse))
    tool = (await mcp.tools(f"{url}/mcp"))["kb_say"]
    assert (await failure(tool))[0] == fault


async def test_a_websocket_that_cannot_be_set_up_and_one_that_breaks():
    async with websocket_tool(url=f"ws://127.0.0.1:{free_port()}/x") as tool:
        assert await failure(tool, message="hi") == ("server", False)

    async def breaks(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with server(breaks) as url, websocket_tool(url=url) as tool:
        assert await failure(tool, message="hi") == ("server", True)


def test_the_same_error_in_other_words():
    error = ToolUnavailable("the key is abc", retry_after=3.0)
    said = error.saying("the key is [redacted]")
    assert type(said) is ToolUnavailable
    assert (str(said), said.detail, said.fault, said.sent, said.retry_after) == (
        "the key is [redacted]", "the key is [redacted]", "server", False, 3.0,
    )  # fmt: skip
    assert error.detail == "the key is abc"
