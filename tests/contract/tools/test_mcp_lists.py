"""Lists of tools: long, odd, chosen from, named."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from tests.support.http_tools import Serve, text_of
from tests.support.mcp_scripted import rpc, said, scripted
from tests.support.mcp_tools import McpOpener, call

from goagents.errors import ToolUnavailable

OBJECT = {"type": "object"}


def listing(*tools: dict[str, Any], page: int = 100) -> Any:
    """A server's `tools/list`, page by page."""

    async def handle(_request: web.Request, message: Any) -> web.Response:
        start = int(message["params"].get("cursor") or 0)
        more = {"nextCursor": str(start + page)} if start + page < len(tools) else {}
        whole = {"resultType": "complete", "ttlMs": 0, "cacheScope": "public", **more}
        return rpc(message, {"tools": list(tools[start : start + page]), **whole})

    return handle


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"name": f"t{number}", "inputSchema": OBJECT} for number in range(count)]


async def named(_request: web.Request, message: Any) -> web.Response:
    return rpc(message, said(f"this is {message['params']['name']}"))


async def test_a_thousand_tools_are_listed_page_by_page_and_chosen_from(mcp: McpOpener, serve: Serve):
    url = await serve(scripted(tools_list=listing(*numbered(1000)), tools_call=named))
    with pytest.raises(ToolUnavailable, match="it has 1000 tools; choose at most 128 with `include`"):
        await mcp.toolset(f"{url}/mcp").open()
    tools = await mcp.tools(f"{url}/mcp", include=["t3", "t999"])
    assert list(tools) == ["kb_t3", "kb_t999"]
    assert text_of(await call(tools["kb_t999"])) == "this is t999"
    assert len(await mcp.tools(f"{url}/mcp", exclude=[f"t{number}" for number in range(900, 1000)][:100], include=[
        f"t{number}" for number in range(800, 1000)
    ])) == 100  # fmt: skip


async def test_what_the_model_cannot_be_offered_is_left_out_with_its_reason(
    mcp: McpOpener, serve: Serve, caplog: pytest.LogCaptureFixture
):
    outside = {"type": "object", "properties": {"a": {"$ref": "http://elsewhere.example/schema.json"}}}
    tools = [
        {"name": "fine", "inputSchema": OBJECT},
        {"name": "outside", "inputSchema": outside},
        {"name": "list", "inputSchema": {"type": "object", "properties": {"a": {"type": "lists"}}}},
        {"name": "huge", "inputSchema": {"type": "object", "description": "x" * 100_000}},
        {"name": "older", "inputSchema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {"pair": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]}},
        }},
        {"name": "modern", "inputSchema": {"$schema": "https://json-schema.org/draft/2020-12/schema", **OBJECT}},
        {"name": "strange", "inputSchema": {"$schema": "https://schemas.example/own", **OBJECT}},
    ]  # fmt: skip
    url = await serve(scripted(tools_list=listing(*tools)))
    found = await mcp.tools(f"{url}/mcp")
    assert list(found) == ["kb_fine", "kb_older", "kb_modern", "kb_strange"]
    assert found["kb_older"].definition.parameters["$schema"].endswith("draft-07/schema#")
    assert found["kb_modern"].definition.parameters["$schema"].endswith("2020-12/schema")
    assert "$schema" not in found["kb_strange"].definition.parameters
    assert "the server's tool outside is left out: its schema is not a valid JSON Schema" in caplog.text
    assert "the server's tool huge is left out: its schema is longer than 64 KiB" in caplog.text
    with pytest.raises(ToolUnavailable, match=r"no tool remains \(huge: its schema is longer"):
        await mcp.toolset(f"{url}/mcp", include=["huge"]).open()


async def test_an_unknown_name_in_include_is_warned_of(mcp: McpOpener, serve: Serve, caplog: pytest.LogCaptureFixture):
    url = await serve(scripted(tools_list=listing({"name": "search_docs", "inputSchema": OBJECT})))
    await mcp.tools(f"{url}/mcp", exclude=["serch_docs"])
    assert "the server has no tool 'serch_docs'; did you mean 'search_docs'?" in caplog.text


async def test_names_are_made_to_fit_and_kept_apart(mcp: McpOpener, serve: Serve):
    names = ["a.b", "a/b", "a_b", "…", "x" * 100, "x" * 100 + "y"]
    url = await serve(
        scripted(tools_list=listing(*({"name": n, "inputSchema": OBJECT} for n in names)), tools_call=named)
    )
    tools = await mcp.tools(f"{url}/mcp")
    assert len(tools) == len(names)
    assert all(len(name) <= 64 for name in tools)
    assert [text_of(await call(tool)) for tool in tools.values()] == [f"this is {name}" for name in names]


@pytest.mark.parametrize(("prefix", "name"), [(None, "kb_t0"), ("", "t0"), ("docs-", "docs-t0")])
async def test_the_prefix_is_the_entrys_name_or_what_it_says(
    mcp: McpOpener, serve: Serve, prefix: str | None, name: str
):
    url = await serve(scripted(tools_list=listing(*numbered(1))))
    assert list(await mcp.tools(f"{url}/mcp", prefix=prefix)) == [name]


async def test_effects_timeouts_and_bounds_come_from_annotations_and_the_entry(mcp: McpOpener, serve: Serve):
    hints = [{"readOnlyHint": True}, {"idempotentHint": True}, {"destructiveHint": False}, None]
    tools = [{"name": f"t{i}", "inputSchema": OBJECT, **({"annotations": h} if h else {})} for i, h in enumerate(hints)]
    url = await serve(scripted(tools_list=listing(*tools)))
    found = await mcp.tools(f"{url}/mcp", timeout="7s", max_output="1KiB", description="Ours.")
    assert [tool.definition.effect for tool in found.values()] == ["read", "idempotent", "unsafe", "unsafe"]
    definition = found["kb_t0"].definition
    assert (definition.timeout, definition.max_output, definition.description) == (7.0, 1024, "Ours.\nt0")
    for effect in ("read", "unsafe"):
        stated = await mcp.tools(f"{url}/mcp", effect=effect)
        assert {tool.definition.effect for tool in stated.values()} == {effect}


async def test_resources_can_be_left_out_or_be_all(mcp: McpOpener, serve: Serve):
    discovered = {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}, "resources": {}},
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "public",
    }
    page = {"resultType": "complete", "ttlMs": 0, "cacheScope": "public"}
    url = await serve(
        scripted(
            server_discover=discovered,
            tools_list=listing(*numbered(2)),
            resources_list={"resources": [{"uri": "a://b", "name": "b"}], **page},
            resources_templates_list={"resourceTemplates": [], **page},
        )
    )
    assert list(await mcp.tools(f"{url}/mcp")) == ["kb_t0", "kb_t1", "kb_read_resource"]
    assert list(await mcp.tools(f"{url}/mcp", prefix="")) == ["t0", "t1", "kb_read_resource"]
    assert list(await mcp.tools(f"{url}/mcp", exclude=["read_resource"])) == ["kb_t0", "kb_t1"]
    assert list(await mcp.tools(f"{url}/mcp", include=["read_resource"])) == ["kb_read_resource"]


async def test_a_list_that_cannot_be_had_again_cuts_no_call(mcp: McpOpener, serve: Serve):
    lists, asked, answer = 0, asyncio.Event(), asyncio.Event()

    async def once(request: web.Request, message: Any) -> web.Response:
        nonlocal lists
        lists += 1
        if lists == 2:
            error = {"code": -32603, "message": "busy right now"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        listed: web.Response = await listing(*numbered(1))(request, message)
        return listed

    async def slow(_request: web.Request, message: Any) -> web.Response:
        asked.set()
        await answer.wait()
        return rpc(message, said("paid"))

    toolset = mcp.toolset(f"{await serve(scripted(tools_list=once, tools_call=slow))}/mcp")
    (tool,) = await toolset.open()
    paying = asyncio.create_task(call(tool))
    await asyncio.wait_for(asked.wait(), 10)
    with pytest.raises(ToolUnavailable, match="busy right now"):
        await toolset.open()
    assert toolset.stale, "its tools are still to be listed"
    answer.set()
    assert text_of(await paying) == "paid"
    assert [each.definition.name for each in await toolset.open()] == ["kb_t0"]
    assert not toolset.stale
