"""`allowed_hosts` at the tools themselves: what they connect to, and what they are redirected to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import CONTEXT, Lent, Serve
from tests.support.mcp_tools import running

from goagents.errors import AddressRefused, ToolUnavailable
from goagents.spec.tools import HttpToolSpec, McpToolSpec, WebsocketToolSpec
from goagents.tools.base import NetworkTool, Tool, ToolEnvironment, Toolset
from goagents.tools.http import HttpToolset
from goagents.tools.mcp import McpToolset
from goagents.tools.websocket import WebsocketToolset

Open = Callable[..., Awaitable[Tool]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    made: list[Toolset] = []

    async def one(kind: type[Any], spec: Any, *hosts: str, **variables: str) -> Tool:
        environment = ToolEnvironment(
            Lent(variables).resolve, ("127.0.0.0/8", "localhost"), None, trusted=True, allowed_hosts=hosts
        )
        made.append(kind(spec, environment))
        return (await made[-1].open())[0]

    yield one
    for toolset in made:
        await toolset.aclose()


def to(location: str) -> Any:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    return handler


async def reached(_request: web.Request) -> web.Response:
    return web.Response(text="reached")


def http(**fields: Any) -> HttpToolSpec:
    return HttpToolSpec.model_validate({"type": "http", "name": "t", **fields})


async def test_a_redirect_to_another_host_is_refused_and_one_to_an_allowed_host_followed(opened: Open, serve: Serve):
    other = await serve({"/x": reached})
    port = other.rpartition(":")[2]
    base = await serve({"/a": to(f"http://localhost:{port}/x"), "/b": to(f"{other}/x")})
    typed = {"method": "GET", "parameters": {"type": "object"}}
    tool = await opened(HttpToolset, http(url=f"{base}/a", **typed), "127.0.0.1")
    with pytest.raises(AddressRefused, match=r"localhost is not among the agent's `allowed_hosts` \(127\.0\.0\.1\)"):
        await tool.call({}, CONTEXT)
    tool = await opened(HttpToolset, http(url=f"{base}/b", **typed), "127.0.0.1")
    assert "reached" in str((await tool.call({}, CONTEXT)).content)


async def test_a_host_that_a_variable_names_is_refused_when_the_tool_is_opened(opened: Open, serve: Serve):
    base = await serve({"/": reached})
    with pytest.raises(ToolUnavailable, match=r"127\.0\.0\.1 is not among the agent's `allowed_hosts`"):
        await opened(HttpToolset, http(url="${BASE}"), "api.example.com", BASE=base)


async def test_an_openapi_page_and_its_server_have_to_be_allowed(opened: Open, serve: Serve):
    async def page(_request: web.Request) -> web.Response:
        return web.json_response(
            {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "servers": [{"url": "http://localhost:1/v1"}],
                "paths": {"/x": {"get": {"operationId": "x", "responses": {}}}},
            }
        )

    base = await serve({"/openapi.json": page})
    with pytest.raises(ToolUnavailable, match=r"127\.0\.0\.1 is not among"):
        await opened(HttpToolset, http(openapi=f"{base}/openapi.json"), "localhost")
    with pytest.raises(ToolUnavailable, match=r"no operation remains .*localhost is not among"):
        await opened(HttpToolset, http(openapi=f"{base}/openapi.json"), "127.0.0.1")
    tool = await opened(HttpToolset, http(openapi=f"{base}/openapi.json"), "127.0.0.1", "localhost:1")
    assert isinstance(tool, NetworkTool)
    assert tool.destination({}) == "localhost:1"


async def test_an_mcp_server_has_to_be_allowed(opened: Open):
    with running() as server:
        spec = McpToolSpec.model_validate({"type": "mcp", "name": "kb", "server": server.url})
        with pytest.raises(ToolUnavailable, match=r"127\.0\.0\.1 is not among the agent's `allowed_hosts`"):
            await opened(McpToolset, spec, "localhost")
        tool = await opened(McpToolset, spec, f"127.0.0.1:{server.port}")
        assert isinstance(tool, NetworkTool)
        assert tool.destination({}) == f"127.0.0.1:{server.port}"


async def test_a_websocket_has_to_be_allowed(opened: Open):
    spec = WebsocketToolSpec.model_validate({"type": "websocket", "name": "ws", "url": "ws://127.0.0.1:9/x"})
    with pytest.raises(ToolUnavailable, match=r"127\.0\.0\.1 is not among the agent's `allowed_hosts`"):
        await opened(WebsocketToolset, spec, "127.0.0.1:10")
    tool = await opened(WebsocketToolset, spec, "127.0.0.1:9")
    assert isinstance(tool, NetworkTool)
    assert tool.destination({}) == "127.0.0.1:9"
