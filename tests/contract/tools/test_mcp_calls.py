"""Tools of one server over each of the ways it can be reached."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.http_tools import text_of
from tests.support.mcp_tools import McpOpener, McpServer, call, command, eventually, named, running

from goagents.errors import ToolFailed, ToolInvalidArguments, ToolUnavailable
from goagents.messages import ImagePart, TextPart
from goagents.tools.base import ChangingToolset, Tool
from goagents.tools.mcp import McpToolset

WAYS = {"program": None, "stateless": (), "stateless-json": ("json",), "session": ("legacy",), "sse": ("sse",)}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, McpServer]]:
    with ExitStack() as stack:
        yield {way: stack.enter_context(running(*words)) for way, words in WAYS.items() if words is not None}


@pytest.fixture(params=WAYS)
def address(request: pytest.FixtureRequest, servers: dict[str, McpServer]) -> str:
    way = request.param
    return command() if WAYS[way] is None else servers[way].url


@pytest.fixture
async def toolset(address: str, mcp: McpOpener) -> McpToolset:
    return mcp.toolset(address)


@pytest.fixture
async def tools(toolset: McpToolset) -> dict[str, Tool]:
    return named(await toolset.open())


async def test_tools_come_with_names_schemas_and_effects(tools: dict[str, Tool]):
    definition = tools["kb_add"].definition
    assert definition.description == "Adds two numbers."
    assert definition.parameters["required"] == ["a", "b"]
    assert {name: tools[f"kb_{name}"].definition.effect for name in ("add", "put", "note", "read_resource")} == {
        "add": "read",
        "put": "idempotent",
        "note": "unsafe",
        "read_resource": "read",
    }
    assert "kb_odd_name_v1" in tools


async def test_a_call_answers(tools: dict[str, Tool]):
    assert (await call(tools["kb_add"], a=2, b=3)).content == (TextPart("5"),)
    assert text_of(await call(tools["kb_odd_name_v1"])) == "odd"


async def test_an_error_of_the_tool_is_a_result(tools: dict[str, Tool]):
    result = await call(tools["kb_fail"])
    assert result.is_error
    assert "fail" in text_of(result)


async def test_images_links_resources_and_structured_content(tools: dict[str, Tool]):
    (image,) = (await call(tools["kb_picture"])).content
    assert isinstance(image, ImagePart)
    assert image.media_type == "image/png"
    assert [part.text for part in (await call(tools["kb_mixed"])).content if isinstance(part, TextPart)] == [
        "two things",
        "[resource note://2 (second): another note]",
        "[resource note://1]\na note inside",
        '{"count":2,"items":["a","b"]}',
    ]


async def test_resources_are_read_by_one_tool(tools: dict[str, Tool]):
    reader = tools["kb_read_resource"]
    assert "- note://first (first): The first note." in reader.definition.description
    assert "- note://by-name/{name} (named)" in reader.definition.description
    assert text_of(await call(reader, uri="note://first")) == "the first note"
    assert text_of(await call(reader, uri="note://by-name/ada")) == "the note of ada"
    with pytest.raises((ToolFailed, ToolInvalidArguments)):
        await call(reader, uri="note://nowhere/at/all")


async def test_fifty_calls_at_once_on_one_connection(tools: dict[str, Tool]):
    answers = await asyncio.gather(*(call(tools["kb_add"], a=number, b=1) for number in range(50)))
    assert [text_of(answer) for answer in answers] == [str(number + 1) for number in range(50)]


async def test_a_cancelled_call_is_cancelled_there_and_no_other(tools: dict[str, Tool], address: str, servers: Any):
    before = text_of(await call(tools["kb_notes"])).count("slow is cancelled")
    slow = asyncio.create_task(call(tools["kb_slow"], seconds=30))
    other = asyncio.create_task(call(tools["kb_slow"], seconds=1))

    async def begun() -> bool:
        return text_of(await call(tools["kb_notes"])).count("slow begins") >= 2

    await eventually(begun, "both calls begin")
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    async def cancelled() -> bool:
        return text_of(await call(tools["kb_notes"])).count("slow is cancelled") == before + 1

    if address != servers["stateless-json"].url:  # there the SDK's server does not watch for clients that leave
        await eventually(cancelled, "the server hears of it")
    assert text_of(await other) == "at last"


async def test_a_timeout_leaves_the_connection_usable(tools: dict[str, Tool]):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call(tools["kb_slow"], seconds=30)
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"


async def test_a_large_answer(tools: dict[str, Tool], address: str):
    if address.endswith("/sse"):
        with pytest.raises(ToolFailed, match="closed the connection"):  # the SDK's bound for this old transport: 1 MiB
            await call(tools["kb_large"], size=3 << 20)
        return
    told = text_of(
        await call(tools["kb_large"], size=3 << 20)
    )  # far beyond `max_output`: only a beginning is looked at
    assert told.startswith(f"[cut: of {3 << 20} characters ")
    assert 1 << 20 <= told.count("x") < 2 << 20


async def test_an_answer_beyond_the_bound_fails_that_call_alone(tools: dict[str, Tool]):
    other = asyncio.create_task(call(tools["kb_slow"], seconds=1))
    with pytest.raises(ToolFailed, match=r"16 MiB|SSE stream|closed the connection"):
        await call(tools["kb_large"], size=17 << 20)
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"
    await asyncio.wait({other})


async def test_a_change_of_the_tools_is_noticed_and_listed(toolset: McpToolset):
    tools = named(await toolset.open())
    assert isinstance(toolset, ChangingToolset)
    assert not toolset.stale

    async def stale() -> bool:
        return toolset.stale

    await call(tools["kb_grow"])
    await eventually(stale, "the change is heard of")
    later = named(await toolset.open())
    assert not toolset.stale
    assert text_of(await call(later["kb_grown"])) == "new"
    assert text_of(await call(tools["kb_add"], a=1, b=1)) == "2"  # those listed before go on


async def test_what_is_closed_cannot_be_called(toolset: McpToolset):
    tools = named(await toolset.open())
    await toolset.aclose()
    with pytest.raises(ToolUnavailable, match="closed"):
        await call(tools["kb_add"], a=1, b=1)


async def test_progress_goes_to_the_log(mcp: McpOpener, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "goagents")
    tools = await mcp.tools(command())
    await call(tools["kb_slow"], seconds=0.1)
    logged = [record.getMessage() for record in caplog.records if "on the way" in record.getMessage()]
    assert logged[3] == "tool kb: slow is at 3 of 10 on the way"
    assert len(logged) == 10
